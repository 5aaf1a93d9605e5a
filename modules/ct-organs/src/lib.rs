//! Segments liver, lungs and kidneys in body CT and measures their volumes. A demonstration, not for clinical use.
//!
//! The steps before the network are those of its training, see `train.py` and `MODEL_CARD.md`.

use gantry_guest::prelude::*;

/// In-plane spacing that the network was trained at, mm.
const SPACING_MM: f64 = 3.0;
/// Rows and columns of its input are multiples of this.
const MULTIPLE: u32 = 16;
/// Hounsfield units of air, around the image.
const AIR_HU: f32 = -1024.0;
/// Centre and width of the window that becomes 0..1.
const WINDOW_HU: (f32, f32) = (-300.0, 1400.0);
/// Slices of one call of the network: enough to keep the host's threads busy, few enough to stay small.
const SLAB: u32 = 8;
/// Kept of each organ: both lungs and both kidneys. Islands are noise.
const PARTS: u32 = 2;

/// Label, name and SNOMED CT code of each organ, in the order of the network's channels after background.
const ORGANS: [(u32, &str, &str, &str); 3] =
    [(1, "Liver", "10200004", "Liver"), (2, "Lungs", "39607008", "Lung"), (3, "Kidneys", "64033007", "Kidney")];

struct CtOrgans;

impl Analyzer for CtOrgans {
    fn analyze(study: &Study) -> Result<(), Error> {
        let source = study.first("CT")?.volume(0)?;
        let labels = segment(&source)?.keep_largest(PARTS)?;
        let segments =
            ORGANS.map(|(value, name, code, meaning)| Segment::anatomy(value, name, Code::sct(code, meaning)));
        findings::segmentation(&labels, &segments)?;

        let components = labels.components(1)?;
        for (value, ..) in ORGANS {
            let parts = components.iter().filter(|c| c.label == value);
            let millilitres: f64 = parts.map(|c| c.millilitres).sum();
            // An organ outside the scan has no volume to report, not one of 0 mL.
            if millilitres == 0.0 {
                continue;
            }
            findings::measure(&Code::sct("118565006", "Volume"), millilitres, "mL", Some(value))?;
        }
        Ok(())
    }
}

/// A label volume on the grid of `source`.
fn segment(source: &Volume) -> Result<Volume, Error> {
    let upright = source.orient("LPS")?;
    let spacing = upright.geometry().spacing;
    let input = upright.resample(Vec3::new(SPACING_MM, SPACING_MM, spacing.z), Interpolation::Linear)?;
    let size = input.geometry().size;
    let up = |n: u32| n.next_multiple_of(MULTIPLE);
    let input = input.pad(Extent::new(up(size.x), up(size.y), size.z), AIR_HU)?.window(WINDOW_HU.0, WINDOW_HU.1)?;

    let model = Model::load("organs")?;
    let mut slabs = Vec::new();
    for first in (0..size.z).step_by(SLAB as usize) {
        let count = SLAB.min(size.z - first);
        let slab = input.crop(input.geometry().slices(first, count))?;
        let outputs = model.run([("ct", slab.to_slice_tensor(TensorType::Fp32)?)])?;
        let onto = upright.crop(upright.geometry().slices(first, count))?;
        slabs.push(volumes::argmax(outputs.get("logits")?, &slab, &onto)?);
    }
    volumes::stack(&slabs)?.resample_like(source, Interpolation::Nearest, 0.0)
}

gantry_guest::export!(CtOrgans);

#[cfg(test)]
mod tests {
    use super::*;
    use gantry_guest::testing::{FakeSeries, FakeStudy, run};

    /// A network that calls everything above half of the window lung.
    fn threshold(inputs: &[(String, Tensor)]) -> Result<Vec<(String, Tensor)>, String> {
        let ct = &inputs[0].1;
        let [n, _, h, w] = ct.dimensions()[..] else { return Err("four dimensions".into()) };
        let slice = (h * w) as usize;
        let mut logits = Vec::new();
        for slice in ct.to_f32().map_err(|e| e.to_string())?.chunks(slice) {
            logits.extend(std::iter::repeat_n(0.5, slice.len()));
            logits.extend(std::iter::repeat_n(0.0, slice.len()));
            logits.extend(slice);
            logits.extend(std::iter::repeat_n(0.0, slice.len()));
        }
        Ok(vec![("logits".into(), Tensor::from_f32(&[n, 4, h, w], &logits))])
    }

    #[test]
    fn a_bright_box_is_found_where_it_lies_and_measured() {
        let grid = Geometry::upright(Extent::new(16, 16, 10), Vec3::new(3.0, 3.0, 2.0));
        let inside = |[x, y, z]: [u32; 3]| (4..8).contains(&x) && (4..8).contains(&y) && (2..7).contains(&z);
        let series = FakeSeries::new("CT").volume_from(grid, move |at| if inside(at) { 400.0 } else { -1000.0 });
        let stated = run::<CtOrgans>(FakeStudy::new().series(series).model("organs", threshold)).expect("analysed");
        let lungs = stated.measurements.iter().find(|m| m.3 == Some(2)).expect("measured");
        assert!((lungs.1 - 80.0 * 0.018).abs() < 1e-9, "{lungs:?}");
    }
}
