//! Looks for what is denser than brain in head CT, and moves such a study up. A demonstration trained on phantoms, not for
//! clinical use.
//!
//! ```text
//! study ─▶ fit? ─▶ input: 128 × 128 voxels of 2 × 2 × 4 mm ─▶ slabs, a few a call ─▶ heat ─┬─▶ score ─▶ triage
//!            └──▶ unfit                                                                    └─▶ heatmap, and what is suspected as a segment
//! ```
//!
//! The steps before and after the network are those of its training, see `train.py` and `MODEL_CARD.md`.

use gantry_guest::prelude::*;

/// Spacing that the network was trained at, mm.
const SPACING_MM: Vec3 = Vec3 { x: 2.0, y: 2.0, z: 4.0 };
/// Rows and columns of its input.
const SIDE: u32 = 128;
/// Planes of its input: one slab.
const SLAB: u32 = 16;
/// From the first plane of a slab to that of the next, so that every voxel is near the middle of one.
const STRIDE: u32 = 8;
/// Slabs of one call of the network. The host may split a call between them.
const BATCH: usize = 4;
/// Hounsfield units of air, around the image.
const AIR_HU: f32 = -1024.0;
/// Hounsfield units of bone and metal.
const BONE_HU: (f32, f32) = (300.0, 32_767.0);
/// Centre and width of the window that becomes 0..1.
const WINDOW_HU: (f32, f32) = (40.0, 160.0);
/// What a scan of a head can extend to, from the first slice to the last, mm.
const EXTENT_MM: (f64, f64) = (60.0, 300.0);
/// Bone in one piece that a head has at least.
const SKULL_ML: f64 = 100.0;

/// The score of a study is the mean of so many of its highest voxels.
const HOTTEST: usize = 8;
/// From this score on, a study is urgent: `threshold` of `metrics.json`.
const URGENT: f32 = 0.98;

/// From this score on, a voxel is suspected.
const SUSPECTED: f32 = 0.5;
/// Nearer to the middle of the skull than this, no side is named, mm.
const MIDLINE_MM: f64 = 10.0;

struct HeadCtTriage;

impl Analyzer for HeadCtTriage {
    fn analyze(study: &Study) -> Result<(), Error> {
        let source = study.first("CT")?.volume(0)?;
        let (input, skull) = match prepare(&source)? {
            Prepared::Fit { input, skull } => (input, skull),
            Prepared::Unfit { code, meaning, detail } => {
                return findings::unfit(&Code::new(code, SCHEME, meaning), &detail);
            }
        };
        let heat = infer(&input)?;
        let score = score(&heat);
        let suspected = state_heat(&source, &input, &heat)?;
        let level = if score >= URGENT { Urgency::Urgent } else { Urgency::Routine };
        let finding = Code::new("HYPERDENSE", SCHEME, "Hyperdense intracranial lesion");
        findings::triage(level, &finding, score, &reason(score, &suspected, &skull))
    }
}

/// Codes of this module's own: it sees density, and no code of a disease says only that.
const SCHEME: &str = "99GANTRY";

/// What of a study goes on.
enum Prepared {
    /// The network's input, and the skull in it.
    Fit { input: Volume, skull: Component },
    /// No head, or not one that the network was trained for.
    Unfit { code: &'static str, meaning: &'static str, detail: String },
}

/// The head on the network's grid, windowed.
fn prepare(source: &Volume) -> Result<Prepared, Error> {
    let upright = source.orient("LPS")?;
    let grid = upright.geometry();
    let extent = f64::from(grid.size.z) * grid.spacing.z;
    if !(EXTENT_MM.0..=EXTENT_MM.1).contains(&extent) {
        let detail = format!("slices cover {extent:.0} mm; a head takes {} to {} mm", EXTENT_MM.0, EXTENT_MM.1);
        return Ok(Prepared::Unfit { code: "EXTENT", meaning: "Not the extent of a head", detail });
    }
    let small = upright.resample(SPACING_MM, Interpolation::Linear)?;
    let Some(skull) = small.threshold(BONE_HU.0, BONE_HU.1)?.components(1)?.into_iter().next() else {
        return Ok(no_skull(0.0));
    };
    if skull.millilitres < SKULL_ML {
        return Ok(no_skull(skull.millilitres));
    }
    let size = small.geometry().size;
    let (x, columns) = around(size.x, skull.bounds.start.x, skull.bounds.size.x);
    let (y, rows) = around(size.y, skull.bounds.start.y, skull.bounds.size.y);
    let middle = Region { start: Extent::new(x, y, 0), size: Extent::new(columns, rows, size.z) };
    let whole = Extent::new(SIDE, SIDE, size.z.max(SLAB));
    let input = small.crop(middle)?.pad(whole, AIR_HU)?.window(WINDOW_HU.0, WINDOW_HU.1)?;
    Ok(Prepared::Fit { input, skull })
}

fn no_skull(millilitres: f64) -> Prepared {
    let detail = format!("the largest piece of bone has {millilitres:.0} mL; a skull has more than {SKULL_ML}");
    Prepared::Unfit { code: "NO-SKULL", meaning: "No skull found", detail }
}

/// First voxel and number of voxels of what is kept of an axis: at most [`SIDE`], around a part of it.
fn around(size: u32, first: u32, count: u32) -> (u32, u32) {
    let start = (first + count / 2).saturating_sub(SIDE / 2).min(size.saturating_sub(SIDE));
    (start, size.min(SIDE))
}

/// The network's score of each voxel of its input.
fn infer(input: &Volume) -> Result<Vec<f32>, Error> {
    let grid = input.geometry();
    let plane = (grid.size.x * grid.size.y) as usize;
    let mut heat = vec![0.0; plane * grid.size.z as usize];
    let mut weights = vec![0.0; grid.size.z as usize];
    let model = Model::load("triage")?;
    for batch in slab_starts(grid.size.z).chunks(BATCH) {
        let mut voxels = Vec::with_capacity(batch.len() * SLAB as usize * plane);
        for &start in batch {
            voxels.extend(input.read(grid.slices(start, SLAB))?);
        }
        let dimensions = [batch.len() as u32, 1, SLAB, grid.size.y, grid.size.x];
        let outputs = model.run([("ct", Tensor::from_f32(&dimensions, &voxels))])?;
        let scores = outputs.get("heat")?.to_f32()?;
        if scores.len() != voxels.len() || !scores.iter().all(|score| (0.0..=1.0).contains(score)) {
            return Err(Error::new("the network gave something else than one score of 0 to 1 for each voxel"));
        }
        for (&start, slab) in batch.iter().zip(scores.chunks(SLAB as usize * plane)) {
            for (within, scores) in slab.chunks(plane).enumerate() {
                let (z, weight) = (start as usize + within, slab_weight(within as u32));
                weights[z] += weight;
                for (sum, score) in heat[z * plane..].iter_mut().zip(scores) {
                    *sum += weight * score;
                }
            }
        }
    }
    for (plane, weight) in heat.chunks_mut(plane).zip(weights) {
        plane.iter_mut().for_each(|sum| *sum = (*sum / weight).clamp(0.0, 1.0));
    }
    Ok(heat)
}

/// First planes of the slabs that cover at least [`SLAB`] planes; the last ends where they end.
fn slab_starts(planes: u32) -> Vec<u32> {
    let last = planes.saturating_sub(SLAB);
    (0..last).step_by(STRIDE as usize).chain([last]).collect()
}

/// How much a plane of a slab counts where slabs overlap: at its ends the network saw little of what is around.
fn slab_weight(plane: u32) -> f32 {
    (plane + 1).min(SLAB - plane) as f32
}

/// The score of the study. No probability that was calibrated: the mean of the hottest voxels.
fn score(heat: &[f32]) -> f32 {
    let mut sorted = heat.to_vec();
    sorted.sort_unstable_by(|a, b| b.total_cmp(a));
    let hottest = &sorted[..HOTTEST.min(sorted.len())];
    (hottest.iter().sum::<f32>() / hottest.len() as f32).clamp(0.0, 1.0)
}

/// States the heat on the grid of the source, and what of it is suspected as a segment, where there is any; the pieces of
/// that, largest first.
fn state_heat(source: &Volume, input: &Volume, heat: &[f32]) -> Result<Vec<Component>, Error> {
    // Around what the network saw, there is none. Interpolation keeps to what it is between, but for rounding.
    let on_source = volumes::from_list(heat, input.geometry())?.resample_like(source, Interpolation::Linear, 0.0)?;
    let on_source = on_source.clip(0.0, 1.0)?;
    marks::heatmap(&on_source, "Score for a hyperdense lesion")?;
    let suspected = on_source.threshold(SUSPECTED, 1.0)?;
    let parts = suspected.components(1)?;
    if !parts.is_empty() {
        let segment = Segment {
            value: 1,
            name: "Suspected".into(),
            category: Code::sct("49755003", "Morphologically Abnormal Structure"),
            kind: Code::sct("52988006", "Lesion"),
            confidence: mean_suspected(heat),
        };
        findings::segmentation(&suspected, &[segment])?;
        findings::measure(&Code::sct("118565006", "Volume"), millilitres(&parts), "mL", Some(1))?;
    }
    Ok(parts)
}

/// Mean of the scores that are suspected.
fn mean_suspected(heat: &[f32]) -> Option<f32> {
    let inside = heat.iter().filter(|v| **v >= SUSPECTED);
    let (sum, count) = inside.fold((0.0, 0u32), |(sum, count), v| (sum + f64::from(*v), count + 1));
    (count > 0).then(|| ((sum / f64::from(count)) as f32).clamp(0.0, 1.0))
}

fn millilitres(parts: &[Component]) -> f64 {
    parts.iter().map(|part| part.millilitres).sum()
}

/// Why the study stands where it does, for people.
fn reason(score: f32, suspected: &[Component], skull: &Component) -> String {
    let compared = if score >= URGENT { "at or above" } else { "below" };
    let score = format!("Score {score:.2}, {compared} the threshold of {URGENT:.2}");
    let Some(largest) = suspected.first() else {
        return format!("{score}; no voxel is suspected. Demonstration trained on phantoms.");
    };
    let at = largest.centroid;
    let side = match at.x - skull.centroid.x {
        // x grows to the patient's left.
        x if x > MIDLINE_MM => "on the patient's left",
        x if x < -MIDLINE_MM => "on the patient's right",
        _ => "near the midline",
    };
    let all = millilitres(suspected);
    format!(
        "{score}; {all:.1} mL suspected, the largest part {:.1} mL {side} around z = {:.0} mm. Demonstration trained on \
         phantoms.",
        largest.millilitres, at.z
    )
}

gantry_guest::export!(HeadCtTriage);

#[cfg(test)]
mod tests {
    use super::*;
    use gantry_guest::testing::{FakeSeries, FakeStudy, Stated, run};

    /// A network that finds what is denser than brain and less dense than bone.
    fn by_density(inputs: &[(String, Tensor)]) -> Result<Vec<(String, Tensor)>, String> {
        let (name, ct) = &inputs[0];
        let dimensions = ct.dimensions();
        let [n, 1, SLAB, SIDE, SIDE] = dimensions[..] else { return Err(format!("{dimensions:?}")) };
        assert!(name == "ct" && (1..=BATCH as u32).contains(&n), "{name}: {n} slabs");
        let of = |hu: f32| (hu - WINDOW_HU.0) / WINDOW_HU.1 + 0.5;
        let heat: Vec<f32> = ct.to_f32().map_err(|e| e.to_string())?;
        let heat: Vec<f32> = heat.iter().map(|v| if (of(55.0)..of(90.0)).contains(v) { 0.99 } else { 0.02 }).collect();
        Ok(vec![("heat".into(), Tensor::from_f32(&dimensions, &heat))])
    }

    /// Voxels of the scanner's grid in x and y; it has `SLICES` along z.
    const WIDTH: u32 = 48;
    const SLICES: u32 = 24;

    /// A skull with brain in it, in slices of 5 mm, `lesion` (box of voxels) at 70 HU.
    fn head([x, y, z]: [u32; 3], lesion: Option<([u32; 3], [u32; 3])>) -> f32 {
        let from_middle = |at: u32, size: u32| (f64::from(at) - f64::from(size - 1) / 2.0).abs();
        let radius = from_middle(x, WIDTH).hypot(from_middle(y, WIDTH));
        if lesion
            .is_some_and(|(from, to)| [x, y, z].iter().zip(from.iter().zip(to)).all(|(i, (a, b))| (*a..b).contains(i)))
        {
            return 70.0;
        }
        match radius {
            r if r < 18.0 => 32.0,
            r if r < 21.0 => 1000.0,
            _ => -1000.0,
        }
    }

    fn analyze(grid: Geometry, value: impl Fn([u32; 3]) -> f32) -> Stated {
        let series = FakeSeries::new("CT").volume_from(grid, value);
        run::<HeadCtTriage>(FakeStudy::new().series(series).model("triage", by_density)).expect("analysed")
    }

    fn grid() -> Geometry {
        Geometry::upright(Extent::new(WIDTH, WIDTH, SLICES), Vec3::new(4.0, 4.0, 5.0))
    }

    #[test]
    fn a_dense_lesion_is_urgent_and_lies_where_it_was() {
        // 5 × 6 × 4 voxels of 0.08 mL on the left: x grows towards it.
        let (from, to) = ([32, 20, 10], [37, 26, 14]);
        let stated = analyze(grid(), |at| head(at, Some((from, to))));
        let [(level, finding, score, reason)] = &stated.triage[..] else { panic!("{stated:?}") };
        assert_eq!((*level, finding.value.as_str()), (Urgency::Urgent, "HYPERDENSE"), "{reason}");
        assert!((score - 0.99).abs() < 1e-5 && reason.contains("on the patient's left"), "{reason}");
        let (labels, segments) = stated.segmentation.as_ref().expect("something is suspected");
        assert!(
            matches!(&segments[..], [one] if one.confidence.is_some_and(|p| (p - 0.99).abs() < 1e-5)),
            "{segments:?}"
        );
        let index = |x: u32, y: u32, z: u32| (x + WIDTH * (y + WIDTH * z)) as usize;
        let at = |x, y, z| labels[index(x, y, z)];
        assert_eq!((at(34, 23, 12), at(13, 23, 12), at(34, 23, 5)), (1, 0, 0), "x, y and z are not mixed up");
        let (_, heat) = stated.heatmap.as_ref().expect("a heatmap");
        assert!((heat[index(34, 23, 12)] - 0.99).abs() < 1e-5, "{}", heat[index(34, 23, 12)]);
        assert!(heat[index(13, 23, 12)] < 0.05 && heat.len() == labels.len());
        let [(_, ml, unit, Some(1))] = &stated.measurements[..] else { panic!("{stated:?}") };
        let true_ml = 5.0 * 6.0 * 4.0 * 0.08;
        assert!(unit == "mL" && (0.6 * true_ml..1.5 * true_ml).contains(ml), "{ml} mL of {true_ml}");
    }

    #[test]
    fn a_head_without_a_lesion_is_routine_and_cold() {
        let stated = analyze(grid(), |at| head(at, None));
        let [(level, _, score, reason)] = &stated.triage[..] else { panic!("{stated:?}") };
        assert!(*level == Urgency::Routine && *score < 0.05, "{reason}");
        assert!(stated.segmentation.is_none() && stated.measurements.is_empty(), "nothing is suspected");
        let (_, heat) = stated.heatmap.expect("a heatmap all the same");
        assert!(heat.iter().all(|v| *v < 0.05));
    }

    #[test]
    fn a_head_in_a_wide_field_is_found() {
        // The same head in a corner of a field of 400 mm: the network sees 256 mm of it.
        let wide = Geometry::upright(Extent::new(100, 100, SLICES), Vec3::new(4.0, 4.0, 5.0));
        let stated = analyze(wide, |[x, y, z]| match (x.checked_sub(50), y.checked_sub(50)) {
            (Some(x), Some(y)) if x < WIDTH && y < WIDTH => head([x, y, z], Some(([10, 20, 10], [15, 26, 14]))),
            _ => -1000.0,
        });
        let [(Urgency::Urgent, .., reason)] = &stated.triage[..] else { panic!("{stated:?}") };
        assert!(reason.contains("on the patient's right"), "{reason}");
        let (labels, _) = stated.segmentation.as_ref().expect("something is suspected");
        assert_eq!(labels[62 + 100 * (73 + 100 * 12)], 1);
    }

    #[test]
    fn what_is_no_head_is_unfit() {
        let unfit = |grid, value: fn([u32; 3]) -> f32| {
            let stated = analyze(grid, value);
            assert!(stated.triage.is_empty() && stated.segmentation.is_none() && stated.heatmap.is_none());
            stated.unfit.expect("unfit").0.value
        };
        assert_eq!(unfit(grid(), |_| 32.0), "NO-SKULL");
        assert_eq!(unfit(grid(), |at| if at == [20, 20, 12] { 900.0 } else { 32.0 }), "NO-SKULL");
        let thin = Geometry { size: Extent::new(WIDTH, WIDTH, 10), ..grid() };
        assert_eq!(unfit(thin, |at| head(at, None)), "EXTENT");
    }

    #[test]
    fn slabs_cover_every_plane_and_end_with_the_last() {
        for planes in SLAB..80 {
            let starts = slab_starts(planes);
            assert!(starts.is_sorted_by(|a, b| a < b && b - a <= STRIDE), "{starts:?}");
            assert_eq!((starts[0], starts[starts.len() - 1] + SLAB), (0, planes), "{starts:?}");
        }
    }

    #[test]
    fn the_mean_is_of_what_is_suspected() {
        assert_eq!(mean_suspected(&[0.0, 0.49, 0.5, 0.75]), Some(0.625));
        assert_eq!(mean_suspected(&[0.0, 0.49]), None);
    }

    /// What was measured is what runs.
    #[test]
    fn constants_are_those_of_the_training() {
        let metrics = include_str!("../metrics.json").split_whitespace().collect::<String>();
        for stated in [
            format!("\"threshold\":{URGENT},"),
            format!("\"spacing_mm_zyx\":[{:.1},{:.1},{:.1}]", SPACING_MM.z, SPACING_MM.y, SPACING_MM.x),
            format!("\"side\":{SIDE},\"slab\":{SLAB},\"stride\":{STRIDE},"),
            format!("\"window_centre_hu\":{:.1},\"window_width_hu\":{:.1}", WINDOW_HU.0, WINDOW_HU.1),
            format!("\"bone_hu\":{:.1},\"pad_hu\":{AIR_HU:.1},\"hottest_voxels\":{HOTTEST}}}", BONE_HU.0),
        ] {
            assert!(metrics.contains(&stated), "metrics.json does not say {stated}");
        }
    }
}
