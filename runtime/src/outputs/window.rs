//! Which grey values of a source are shown: as its images say, where they say.

use super::Source;
use crate::study::voi::{Function, Voi};

pub(super) use crate::study::voi::Window;

/// Soft tissue, HU: of a CT that states none.
pub(super) const SOFT_TISSUE: Window = Window { centre: 40.0, width: 400.0, function: None };

impl Window {
    /// Black to white as 0 to 1. LINEAR is taken for LINEAR_EXACT, from which it is half a value apart.
    pub(super) fn grey(self, value: f32) -> f32 {
        let from_centre = (f64::from(value) - self.centre) / self.width;
        match self.function {
            Some(Function::Sigmoid) => (1.0 / (1.0 + (-4.0 * from_centre).exp())) as f32,
            _ => (from_centre + 0.5).clamp(0.0, 1.0) as f32,
        }
    }
}

/// The first window of a slice's image; soft tissue for a CT that states nothing.
pub(super) fn of(source: &Source<'_>, slice: usize) -> Option<Window> {
    match source.instance(slice)?.voi {
        Voi::Window(window) => Some(window),
        Voi::Nothing => (source.series.modality == "CT").then_some(SOFT_TISSUE),
        // Its values are for what is stored in these very images.
        Voi::Table => None,
    }
}

/// All that can be stored in a pixel.
pub(super) fn stored(source: &Source<'_>) -> Option<Window> {
    let bits = source.series.attribute("BitsStored")?.trim().parse::<i32>().ok().filter(|b| (1..=32).contains(b))?;
    let signed = source.series.attribute("PixelRepresentation").is_some_and(|p| p.trim() == "1");
    let width = f64::from(2).powi(bits);
    Some(Window { centre: if signed { 0.0 } else { width / 2.0 }, width, function: None })
}

/// Whether the smallest value is white: MONOCHROME1, or a Presentation LUT Shape of INVERSE, which radiographs have beside it.
pub(super) fn is_inverse(source: &Source<'_>) -> bool {
    let says = |keyword, wanted| source.series.attribute(keyword).is_some_and(|said| said.trim() == wanted);
    says("PhotometricInterpretation", "MONOCHROME1") || says("PresentationLUTShape", "INVERSE")
}

/// Rescale Type (0028,1054) of the source, or what its modality means without one (PS3.3 C.11.1.1.2).
pub(super) fn unit(source: &Source<'_>) -> String {
    let stated = source.series.attribute("RescaleType").filter(|unit| !unit.trim().is_empty());
    stated.unwrap_or_else(|| if source.series.modality == "CT" { "HU" } else { "US" }.into())
}
