//! Whether a chest radiograph looks as one should, computed here, without a model. A demonstration, not for clinical use.
//!
//! ```text
//! image ─▶ bands of rows ─┬─▶ cells: 32 × 32 means, bright where the body is dense ─▶ how like a chest, turned and inverted
//!                         └─▶ how much of its middle is at either end of its values
//! ```
//!
//! What each rule is worth, and on what it was tried, says `MODEL_CARD.md`.

mod chest;

use chest::Cells;
use gantry_guest::prelude::*;

/// Fewer rows or columns than this are too small to be a diagnostic radiograph of a chest.
const SIDE_MIN: u32 = 512;
/// From this part of the middle of the image on, values at one end of the range are clipped.
const CLIPPED_MIN: f64 = 0.02;
/// From this likeness on (a correlation), an image is taken for a chest.
const CHEST_MIN: f64 = 0.5;
/// Voxels that are read at a time.
const BAND_VOXELS: u32 = 1 << 20;

/// Codes of this module's own: no vocabulary says that an image looks wrong to a rule.
const SCHEME: &str = "99GANTRY";

struct CxrQuality;

impl Analyzer for CxrQuality {
    fn analyze(study: &Study) -> Result<(), Error> {
        let series = study.series().first().ok_or_else(|| Error::new("no radiograph"))?;
        // Absent, it is taken for what most radiographs are.
        let inverse = series.attribute("PhotometricInterpretation")?.as_deref() == Some("MONOCHROME1");
        let seen = look(&series.volume(0)?, inverse)?;
        state(&seen)
    }
}

/// What was found in the image.
struct Seen {
    columns: u32,
    rows: u32,
    /// Parts of the middle of the image at the lowest and at the highest value that it has.
    clipped: [f64; 2],
    cells: Cells,
}

/// Reads the first slice once, band by band. `inverse` where low values are bright (MONOCHROME1).
fn look(image: &Volume, inverse: bool) -> Result<Seen, Error> {
    let Extent { x: columns, y: rows, .. } = image.geometry().size;
    let whole = Region { start: Extent::new(0, 0, 0), size: Extent::new(columns, rows, 1) };
    let range = image.statistics(Some(whole))?;
    let mut cells = chest::Sums::new(columns, rows);
    let (mut ends, mut middle) = ([0u64; 2], 0u64);
    let in_middle = |at: u32, size: u32| at >= size / 5 && at < size - size / 5;
    let band = (BAND_VOXELS / columns.max(1)).clamp(1, rows);
    for first in (0..rows).step_by(band as usize) {
        let count = band.min(rows - first);
        let voxels = image.read(Region { start: Extent::new(0, first, 0), size: Extent::new(columns, count, 1) })?;
        for (y, row) in (first..).zip(voxels.chunks(columns as usize)) {
            for (x, value) in (0..).zip(row) {
                cells.add(x, y, if inverse { -*value } else { *value });
                if in_middle(x, columns) && in_middle(y, rows) {
                    middle += 1;
                    ends[0] += u64::from(*value <= range.minimum);
                    ends[1] += u64::from(*value >= range.maximum);
                }
            }
        }
    }
    // An image of one value has it at both ends.
    let clipped = ends.map(|count| count as f64 / middle.max(1) as f64);
    Ok(Seen { columns, rows, clipped, cells: cells.means() })
}

/// States every check, also those that found nothing: a reader sees what was looked at.
fn state(seen: &Seen) -> Result<(), Error> {
    let best = seen.cells.likeness();
    let like = best.likeness;
    let clipped = seen.clipped.into_iter().fold(0.0, f64::max);
    let chest = like >= CHEST_MIN;
    let measure = |code: &str, meaning: &str, value: f64, unit: &str| {
        findings::measure(&Code::new(code, SCHEME, meaning), value, unit, None)
    };
    measure("CHEST-LIKENESS", "Likeness to a chest, the best of all turns", like, "1")?;
    measure("CLIPPED-PART", "Part of the middle at an end of the values", clipped * 100.0, "%")?;
    let suspected = [
        ("TOO-SMALL", "Image suspected of being too small", seen.columns.min(seen.rows) < SIDE_MIN),
        ("CLIPPED", "Exposure suspected of being clipped", clipped >= CLIPPED_MIN),
        ("OTHER-PART", "Image suspected not to show a chest", !chest),
        // Of what is no chest, nobody can say which way up it is.
        ("INVERTED", "Image suspected of being inverted", chest && best.inverted),
        ("TURNED", "Image suspected of being turned", chest && best.quarter_turns != 0),
    ];
    for (code, meaning, is) in suspected {
        // Rules say yes or no; neither is a probability that was measured.
        findings::classify(&Code::new(code, SCHEME, meaning), if is { 1.0 } else { 0.0 })?;
    }
    info!("likeness {like:.2} after {} quarter turns, inverted: {}", best.quarter_turns, best.inverted);
    Ok(())
}

gantry_guest::export!(CxrQuality);

#[cfg(test)]
mod tests {
    use super::*;
    use gantry_guest::testing::{FakeSeries, FakeStudy, Stated, run};

    /// As large as it must be; cells of 16 pixels.
    const SIDE: u32 = 512;

    /// A chest as simple as can be, from 100 to 1000: two lungs beside a spine above a belly.
    fn chest([x, y, _]: [u32; 3]) -> f32 {
        let (u, v) = (f64::from(x) / f64::from(SIDE) * 2.0 - 1.0, f64::from(y) / f64::from(SIDE) * 2.0 - 1.0);
        let lung = ((u.abs() - 0.4) / 0.28).powi(2) + ((v + 0.1) / 0.6).powi(2) < 1.0;
        let texture = ((x * 7919 + y * 104_729) % 1009) as f32 / 30.0;
        texture
            + match () {
                () if lung => 200.0,
                () if u.abs() < 0.2 || v > 0.5 => 900.0,
                () => 700.0,
            }
    }

    fn stated(side: u32, photometric: &str, value: impl Fn([u32; 3]) -> f32) -> Stated {
        let grid = Geometry::upright(Extent::new(side, side, 1), Vec3::new(0.2, 0.2, 1.0));
        let series = FakeSeries::new("DX").volume_from(grid, value);
        let series = series.attribute("PhotometricInterpretation", photometric);
        run::<CxrQuality>(FakeStudy::new().series(series)).expect("analysed")
    }

    /// Codes of what is suspected.
    fn suspected(stated: &Stated) -> Vec<&str> {
        assert_eq!(stated.classifications.len(), 5, "every check is stated");
        stated.classifications.iter().filter(|(_, p)| *p == 1.0).map(|(code, _)| code.value.as_str()).collect()
    }

    #[test]
    fn a_chest_is_suspected_of_nothing_whatever_its_photometric_interpretation() {
        assert_eq!(suspected(&stated(SIDE, "MONOCHROME2", chest)), [""; 0]);
        assert_eq!(suspected(&stated(SIDE, "MONOCHROME1", |at| 1000.0 - chest(at))), [""; 0]);
        assert_eq!(suspected(&stated(SIDE, "", chest)), [""; 0]);
    }

    #[test]
    fn what_is_inverted_or_turned_is_told() {
        assert_eq!(suspected(&stated(SIDE, "MONOCHROME1", chest)), ["INVERTED"]);
        assert_eq!(suspected(&stated(SIDE, "MONOCHROME2", |[x, y, z]| chest([y, x, z]))), ["TURNED"]);
        assert_eq!(suspected(&stated(SIDE, "MONOCHROME2", |[x, y, z]| chest([x, SIDE - 1 - y, z]))), ["TURNED"]);
    }

    #[test]
    fn what_is_clipped_is_told() {
        assert_eq!(suspected(&stated(SIDE, "MONOCHROME2", |at| chest(at).min(700.0))), ["CLIPPED"]);
    }

    #[test]
    fn a_small_image_and_one_of_nothing_are_told() {
        let small = stated(64, "MONOCHROME2", |[x, y, z]| chest([x * 8, y * 8, z]));
        assert_eq!(suspected(&small), ["TOO-SMALL"]);
        let one_value = stated(SIDE, "MONOCHROME2", |_| 5.0);
        assert_eq!(suspected(&one_value), ["CLIPPED", "OTHER-PART"]);
        let bar = |[x, y, _]: [u32; 3]| {
            (x * 7919 + y * 104_729 + 1) as f32 % 997.0 + if x > 200 && x < 300 { 5000.0 } else { 0.0 }
        };
        let bar = stated(SIDE, "MONOCHROME2", bar);
        assert_eq!(suspected(&bar), ["OTHER-PART"]);
    }
}
