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
/// The organ of which there is one.
const LIVER: u32 = 1;

/// Label, name and SNOMED CT code of each organ, in the order of the network's channels after background.
const ORGANS: [(u32, &str, &str, &str); 3] =
    [(LIVER, "Liver", "10200004", "Liver"), (2, "Lungs", "39607008", "Lung"), (3, "Kidneys", "64033007", "Kidney")];

struct CtOrgans;

impl Analyzer for CtOrgans {
    fn analyze(study: &Study) -> Result<(), Error> {
        let source = study.first("CT")?.volume(0)?;
        let labels = segment(&source)?.keep_largest(PARTS)?;
        // Largest first.
        let components = labels.components(1)?;
        let second_liver = components.iter().filter(|c| c.label == LIVER).nth(1);
        let labels = match second_liver {
            Some(piece) => without(&labels, piece)?,
            None => labels,
        };
        let segments =
            ORGANS.map(|(value, name, code, meaning)| Segment::anatomy(value, name, Code::sct(code, meaning)));
        findings::segmentation(&labels, &segments)?;

        for (value, ..) in ORGANS {
            let parts =
                components.iter().filter(|c| c.label == value).take(if value == LIVER { 1 } else { PARTS as usize });
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

/// The labels without a piece that is not the largest of its label. The host keeps equally many pieces of every label,
/// so this is done here, in the few slices that the piece lies in.
fn without(labels: &Volume, piece: &Component) -> Result<Volume, Error> {
    let (grid, label) = (labels.geometry(), piece.label);
    let largest = labels.label(label)?.keep_largest(1)?;
    let (first, end) = (piece.bounds.start.z, piece.bounds.start.z + piece.bounds.size.z);
    let mut slabs = Vec::new();
    if first > 0 {
        slabs.push(labels.crop(grid.slices(0, first))?);
    }
    for z in first..end {
        let slice = labels.crop(grid.slices(z, 1))?;
        let mut voxels = labels.read(grid.slices(z, 1))?;
        for (voxel, kept) in voxels.iter_mut().zip(largest.read(grid.slices(z, 1))?) {
            if *voxel == label as f32 && kept == 0.0 {
                *voxel = 0.0;
            }
        }
        slabs.push(volumes::from_list(&voxels, slice.geometry())?);
    }
    if end < grid.size.z {
        slabs.push(labels.crop(grid.slices(end, grid.size.z - end))?);
    }
    volumes::stack(&slabs)
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

    /// Hounsfield units of background, liver, lungs and kidneys for [`by_density`].
    const DENSITY_HU: [f32; 4] = [-1000.0, -600.0, -200.0, 200.0];

    /// A network that tells organs by their density.
    fn by_density(inputs: &[(String, Tensor)]) -> Result<Vec<(String, Tensor)>, String> {
        let ct = &inputs[0].1;
        let [n, _, h, w] = ct.dimensions()[..] else { return Err("four dimensions".into()) };
        let slice = (h * w) as usize;
        let mut logits = Vec::new();
        for slice in ct.to_f32().map_err(|e| e.to_string())?.chunks(slice) {
            for density in DENSITY_HU {
                let expected = (density - WINDOW_HU.0) / WINDOW_HU.1 + 0.5;
                logits.extend(slice.iter().map(|v| -(v - expected).abs()));
            }
        }
        Ok(vec![("logits".into(), Tensor::from_f32(&[n, 4, h, w], &logits))])
    }

    /// What the module makes of boxes (label, first voxel, voxels along z) of 4 × 4 voxels in x and y; each voxel has
    /// 0.018 mL.
    fn analyze(boxes: &'static [(u32, [u32; 3], u32)]) -> gantry_guest::testing::Stated {
        let grid = Geometry::upright(Extent::new(32, 16, 20), Vec3::new(3.0, 3.0, 2.0));
        let density = |[x, y, z]: [u32; 3]| {
            let inside = |&&(_, from, depth): &&(u32, [u32; 3], u32)| {
                let within = |at: u32, from: u32, size: u32| (from..from + size).contains(&at);
                within(x, from[0], 4) && within(y, from[1], 4) && within(z, from[2], depth)
            };
            DENSITY_HU[boxes.iter().find(inside).map_or(0, |found| found.0 as usize)]
        };
        let series = FakeSeries::new("CT").volume_from(grid, density);
        run::<CtOrgans>(FakeStudy::new().series(series).model("organs", by_density)).expect("analysed")
    }

    #[test]
    fn an_organ_is_found_where_it_lies_and_measured() {
        let stated = analyze(&[(2, [4, 4, 2], 5)]);
        let [(quantity, millilitres, unit, segment)] = &stated.measurements[..] else { panic!("{stated:?}") };
        assert_eq!((quantity.meaning.as_str(), unit.as_str(), *segment), ("Volume", "mL", Some(2)));
        assert!((millilitres - 80.0 * 0.018).abs() < 1e-9, "{stated:?}");
    }

    #[test]
    fn one_liver_two_lungs_and_two_kidneys_are_kept() {
        let boxes = &[
            (1, [0, 0, 0], 4),
            (1, [8, 0, 2], 7),
            (1, [16, 0, 0], 2),
            (2, [0, 8, 3], 6),
            (2, [8, 8, 1], 3),
            (2, [16, 8, 4], 5),
            (3, [24, 0, 12], 2),
            (3, [24, 8, 2], 3),
            (3, [0, 8, 12], 1),
        ];
        let stated = analyze(boxes);
        let (labels, _) = stated.segmentation.as_ref().expect("a segmentation");
        for (label, slices) in [(1, 7), (2, 6 + 5), (3, 2 + 3)] {
            let voxels = labels.iter().filter(|&&l| l == label).count();
            assert_eq!(voxels, slices * 16, "label {label}");
            let measured = stated.measurements.iter().find(|m| m.3 == Some(label.into())).expect("measured").1;
            assert!((measured - voxels as f64 * 0.018).abs() < 1e-9, "label {label}: {measured} mL");
        }
        assert!((0..4).all(|z| labels[z * 32 * 16] == 0), "the smaller liver is gone, from the first slice on");
    }
}
