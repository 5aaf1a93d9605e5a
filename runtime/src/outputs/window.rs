//! Which grey values of a source are shown: as its images say, where they say.

use super::Source;
use crate::study::voi::{Function, Voi};
use crate::volumes::{Volume, VolumeError};

pub(super) use crate::study::voi::Window;

/// Soft tissue, HU: of a CT that states none.
const SOFT_TISSUE: Window = Window { centre: 40.0, width: 400.0, function: None };

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

/// What a picture of which [`of`] knows nothing is shown in: from the first to the 99th percentile of its values, or all of
/// them where most are the same.
pub(super) fn of_values(image: &Volume) -> Result<Window, VolumeError> {
    let between = |percentiles: [f32; 2]| match image.percentiles(&percentiles) {
        Ok(found) => Ok((f64::from(found[0]), f64::from(found[1]))),
        // None of them is finite.
        Err(VolumeError::Invalid(_)) => Ok((0.0, 0.0)),
        Err(error) => Err(error),
    };
    let (low, high) = match between([1.0, 99.0])? {
        (low, high) if low < high => (low, high),
        _ => between([0.0, 100.0])?,
    };
    Ok(Window { centre: f64::midpoint(low, high), width: (high - low).max(1e-6), function: None })
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::geometry::Geometry;
    use crate::memory::Budget;

    fn window(values: Vec<f32>) -> (f64, f64) {
        let axes = [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]];
        let grid = Geometry::new([values.len(), 1, 1], [1.0; 3], [0.0; 3], axes).expect("a grid");
        let image = Volume::from_f32(grid, values, &Budget::unlimited()).expect("as many as the grid has");
        let Window { centre, width, .. } = of_values(&image).expect("a window");
        (centre - width / 2.0, centre + width / 2.0)
    }

    #[test]
    fn a_few_values_far_outside_darken_nothing() {
        let mut values: Vec<f32> = (0..=1000u16).map(f32::from).collect();
        assert_eq!(window(values.clone()), (10.0, 990.0));
        values.extend([60_000.0, f32::NAN, f32::INFINITY]);
        let (low, high) = window(values);
        assert!((low - 10.0).abs() < 1.0 && (high - 991.0).abs() < 1.0, "{low} to {high}");
    }

    #[test]
    fn what_is_small_in_front_of_nothing_is_seen_all_the_same() {
        let mut values = vec![0.0; 1000];
        values[500..505].copy_from_slice(&[100.0, 300.0, 500.0, 700.0, 100.0]);
        assert_eq!(window(values), (0.0, 700.0));
    }

    #[test]
    fn there_is_a_window_whatever_the_values_are() {
        for values in [vec![7.0; 9], vec![f32::NAN; 9]] {
            let (low, high) = window(values);
            assert!(low < high && low.is_finite() && high.is_finite(), "{low} to {high}");
        }
    }
}
