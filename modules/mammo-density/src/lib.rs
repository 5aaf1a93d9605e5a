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
    let (values, inside) = (small.read(whole)?, mask.read(whole)?);
    let mut breast: Vec<f32> = values.iter().zip(&inside).filter(|(_, m)| **m > 0.5).map(|(v, _)| *v).collect();
    let part = breast.len() as f64 / values.len().max(1) as f64;
    if part < BREAST_MIN {
        return Ok(None);
    }
    breast.sort_unstable_by(f32::total_cmp);
    let at = |percent: f32| breast[((breast.len() - 1) as f32 * percent / 100.0).round() as usize];
    let pixels = part * f64::from(grid.size.x) * f64::from(grid.size.y);
    Ok(Some(Breast { range: (at(PERCENTILES.0), at(PERCENTILES.1)), pixels }))
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
