//! Estimates which part of a breast is dense in a mammogram. A demonstration, not for clinical use.
//!
//! ```text
//! image ─▶ bright is dense ─┬─▶ at 1/8: the breast, its percentiles, its part of the image
//!                           └─▶ 0..1 ─▶ windows of 512 × 512 at full resolution ─▶ network ─▶ dense pixels ─▶ percent
//! ```
//!
//! The image of 14 million pixels stays on the host; what enters this component is the small one, by which the breast is
//! found. The steps before the network are those of its training, see `train.py` and `MODEL_CARD.md`.

use gantry_guest::prelude::*;

/// Rows and columns of a window.
const TILE: u32 = 512;
/// The part that neighbouring windows share.
const OVERLAP: f64 = 0.25;
/// By which percentiles of the breast the image is scaled to 0..1.
const PERCENTILES: (f32, f32) = (2.0, 99.5);
/// How much smaller the image is by which the breast is found.
const SMALLER: f64 = 8.0;
/// From this probability on, a pixel is dense.
const DENSE: f32 = 0.5;
/// The part of an image that a breast takes at least.
const BREAST_MIN: f64 = 0.02;

/// Codes of this module's own.
const SCHEME: &str = "99GANTRY";

struct MammoDensity;

impl Analyzer for MammoDensity {
    fn analyze(study: &Study) -> Result<(), Error> {
        let series = study.first("MG")?;
        let inverse = series.attribute("PhotometricInterpretation")?.as_deref() == Some("MONOCHROME1");
        let mut parts = Vec::new();
        for index in 0..series.volumes() {
            let image = series.volume(index)?;
            let image = if inverse { image.affine(-1.0, 0.0)? } else { image };
            let Some(breast) = find_breast(&image)? else {
                let detail = format!("image {} shows no bright region of {:.0} % of it", index + 1, BREAST_MIN * 100.0);
                return findings::unfit(&Code::new("NO-BREAST", SCHEME, "No breast found"), &detail);
            };
            let percent = 100.0 * dense_pixels(&image, &breast)? / breast.pixels;
            info!("image {}: the breast takes {:.0} pixels, {percent:.1} % are dense", index + 1, breast.pixels);
            parts.push(percent.clamp(0.0, 100.0));
        }
        let mean = parts.iter().sum::<f64>() / parts.len().max(1) as f64;
        findings::measure(
            &Code::new("DENSE-AREA", SCHEME, "Part of the breast that is dense, by area"),
            mean,
            "%",
            None,
        )
    }
}

/// What of the image is breast.
struct Breast {
    /// What becomes 0 and 1.
    range: (f32, f32),
    /// Pixels of the whole image.
    pixels: f64,
}

/// The breast in a small copy of the image, and its grey values.
fn find_breast(image: &Volume) -> Result<Option<Breast>, Error> {
    let grid = image.geometry();
    let spacing = Vec3::new(grid.spacing.x * SMALLER, grid.spacing.y * SMALLER, grid.spacing.z);
    let small = image.resample(spacing, Interpolation::Linear)?;
    let mask = small.breast_mask()?;
    let size = small.geometry().size;
    let whole = Region { start: Extent::new(0, 0, 0), size: Extent::new(size.x, size.y, 1) };
    let found = measure_breast(&small.read(whole)?, &mask.read(whole)?);
    let all = f64::from(grid.size.x) * f64::from(grid.size.y);
    Ok(found.map(|(part, range)| Breast { range, pixels: part * all }))
}

/// Which part of the pixels is inside of the mask, and what of these becomes 0 and 1; nothing where they are too few.
fn measure_breast(values: &[f32], mask: &[f32]) -> Option<(f64, (f32, f32))> {
    let mut breast: Vec<f32> = values.iter().zip(mask).filter(|(_, m)| **m > 0.5).map(|(v, _)| *v).collect();
    let part = breast.len() as f64 / values.len().max(1) as f64;
    if part < BREAST_MIN {
        return None;
    }
    breast.sort_unstable_by(f32::total_cmp);
    let at = |percent: f32| breast[((breast.len() - 1) as f32 * percent / 100.0).round() as usize];
    Some((part, (at(PERCENTILES.0), at(PERCENTILES.1))))
}

/// Pixels that the network takes for dense.
fn dense_pixels(image: &Volume, breast: &Breast) -> Result<f64, Error> {
    let (low, high) = breast.range;
    if low >= high {
        return Ok(0.0);
    }
    let scaled = image.window((low + high) / 2.0, high - low)?;
    let windows = Windows { overlap: OVERLAP, ..Windows::new(Extent::new(TILE, TILE, 1)) };
    let probabilities = Model::load("density")?.sliding_window([&scaled], windows)?;
    let dense = volumes::from_tensor(&probabilities, 0, image)?.threshold(DENSE, f32::INFINITY)?;
    // The mean of a mask is the part of it that is 1.
    Ok(f64::from(dense.statistics(None)?.mean) * dense.geometry().size.voxels() as f64)
}

gantry_guest::export!(MammoDensity);

#[cfg(test)]
mod tests {
    use super::*;
    use gantry_guest::testing::{FakeSeries, FakeStudy, Stated, run};

    /// A network that takes the brighter half of the breast's range for dense.
    fn bright(inputs: &[(String, Tensor)]) -> Result<Vec<(String, Tensor)>, String> {
        let window = &inputs[0].1;
        assert_eq!(window.dimensions(), [1, 1, 1, TILE, TILE]);
        let scores: Vec<f32> =
            window.to_f32().map_err(|e| e.to_string())?.iter().map(|v| f32::from(*v > 0.5)).collect();
        Ok(vec![("dense".into(), Tensor::from_f32(&window.dimensions(), &scores))])
    }

    /// What the module states of images of 64 × 64 pixels of 0.5 mm.
    fn analyze(photometric: &str, images: &[fn([u32; 3]) -> f32]) -> Stated {
        let grid = Geometry::upright(Extent::new(64, 64, 1), Vec3::new(0.5, 0.5, 1.0));
        let series = FakeSeries::new("MG").attribute("PhotometricInterpretation", photometric);
        let series = images.iter().fold(series, |series, image| series.volume_from(grid, image));
        run::<MammoDensity>(FakeStudy::new().series(series).model("density", bright)).expect("analysed")
    }

    /// A breast in the left half, whose upper quarter is dense.
    fn quarter([x, y, _]: [u32; 3]) -> f32 {
        match (x < 32, y < 16) {
            (false, _) => 20.0,
            (true, true) => 800.0,
            (true, false) => 400.0,
        }
    }

    fn percent(stated: &Stated) -> f64 {
        let [(quantity, percent, unit, None)] = &stated.measurements[..] else { panic!("{stated:?}") };
        assert_eq!((quantity.value.as_str(), unit.as_str()), ("DENSE-AREA", "%"));
        *percent
    }

    #[test]
    fn what_is_dense_is_a_part_of_the_breast_and_not_of_the_image() {
        let found = percent(&analyze("MONOCHROME2", &[quarter]));
        assert!((found - 25.0).abs() < 1e-3, "{found}");
    }

    #[test]
    fn an_image_that_is_stored_inversely_is_turned_first() {
        let found = percent(&analyze("MONOCHROME1", &[|at| 1000.0 - quarter(at)]));
        assert!((found - 25.0).abs() < 1e-3, "{found}");
    }

    #[test]
    fn several_images_count_alike_and_a_breast_of_one_grey_has_nothing_dense() {
        let even: fn([u32; 3]) -> f32 = |[x, ..]| if x < 32 { 400.0 } else { 20.0 };
        let found = percent(&analyze("MONOCHROME2", &[quarter, even]));
        assert!((found - 12.5).abs() < 1e-3, "{found}");
    }

    #[test]
    fn an_image_without_a_breast_is_unfit_and_named() {
        // One of the 64 pixels of the small copy.
        let marker: fn([u32; 3]) -> f32 = |[x, y, _]| if x < 8 && y < 8 { 800.0 } else { 20.0 };
        let stated = analyze("MONOCHROME2", &[quarter, marker]);
        let (reason, detail) = stated.unfit.expect("unfit");
        assert!(reason.value == "NO-BREAST" && detail.contains("image 2 "), "{detail}");
        assert!(stated.measurements.is_empty(), "half an answer is none");
    }

    #[test]
    fn the_range_is_that_of_the_breast_alone() {
        let values: Vec<f32> = (0..400u16).map(f32::from).collect();
        let mask: Vec<f32> = (0..400).map(|i| f32::from(i >= 199)).collect();
        // Of 199 to 399: the one with four below it, and the one with one above it.
        assert_eq!(measure_breast(&values, &mask), Some((201.0 / 400.0, (203.0, 398.0))));
        let few: Vec<f32> = (0..400).map(|i| f32::from(i < 7)).collect();
        assert_eq!(measure_breast(&values, &few), None, "less than a fiftieth");
        assert_eq!(measure_breast(&[], &[]), None);
    }
}
