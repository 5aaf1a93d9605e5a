//! Which grey values of a source are shown: as its images say, where they say.

use super::Source;

/// Centre and width of what is shown, in the unit of the voxels.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Window {
    pub(super) centre: f64,
    pub(super) width: f64,
}

/// Soft tissue, HU: of a CT that states none.
pub(super) const SOFT_TISSUE: Window = Window { centre: 40.0, width: 400.0 };

impl Window {
    /// Black to white as 0 to 1.
    pub(super) fn grey(self, value: f32) -> f32 {
        ((f64::from(value) - (self.centre - self.width / 2.0)) / self.width).clamp(0.0, 1.0) as f32
    }
}

/// The first window of the source's images; soft tissue for a CT without one.
pub(super) fn of(source: &Source<'_>) -> Option<Window> {
    let number = |keyword| {
        let text = source.series.attribute(keyword)?;
        text.split('\\').next()?.trim().parse::<f64>().ok().filter(|n| n.is_finite())
    };
    let stated = number("WindowCenter").zip(number("WindowWidth")).filter(|(_, width)| *width > 0.0);
    let stated = stated.map(|(centre, width)| Window { centre, width });
    stated.or_else(|| (source.series.modality == "CT").then_some(SOFT_TISSUE))
}

/// All that can be stored in a pixel.
pub(super) fn stored(source: &Source<'_>) -> Option<Window> {
    let bits = source.series.attribute("BitsStored")?.trim().parse::<i32>().ok().filter(|b| (1..=32).contains(b))?;
    let signed = source.series.attribute("PixelRepresentation").is_some_and(|p| p.trim() == "1");
    let width = f64::from(2).powi(bits);
    Some(Window { centre: if signed { 0.0 } else { width / 2.0 }, width })
}

/// Whether the smallest value is white: MONOCHROME1.
pub(super) fn is_inverse(source: &Source<'_>) -> bool {
    source.series.attribute("PhotometricInterpretation").is_some_and(|p| p.trim() == "MONOCHROME1")
}

/// Rescale Type (0028,1054) of the source, or what its modality means without one (PS3.3 C.11.1.1.2).
pub(super) fn unit(source: &Source<'_>) -> String {
    let stated = source.series.attribute("RescaleType").filter(|unit| !unit.trim().is_empty());
    stated.unwrap_or_else(|| if source.series.modality == "CT" { "HU" } else { "US" }.into())
}
