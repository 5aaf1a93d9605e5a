//! Labels grey and white matter in a T1-weighted head MR and measures them. A demonstration, not for clinical use.
//!
//! ```text
//! volume ─▶ LPS, 1 mm, 0..1 ─▶ 256 × 256 × 256 voxels ─▶ network, all at once ─▶ largest score on the source's grid ─▶ mL
//! ```
//!
//! No voxel enters this component: what is large stays on the host, the network's activations with its engine. The steps
//! before the network are those of its training, see `train.py` and `MODEL_CARD.md`.

use gantry_guest::prelude::*;

/// Spacing that the network was trained at, mm.
const SPACING_MM: Vec3 = Vec3 { x: 1.0, y: 1.0, z: 1.0 };
/// Voxels along each axis of its input.
const SIDE: u32 = 256;
/// Percentiles of the volume that become 0 and 1.
const PERCENTILES: (f32, f32) = (1.0, 99.5);
/// What a scan of a head extends to along each axis, mm.
const EXTENT_MM: (f64, f64) = (100.0, 400.0);
/// Grey and white matter that a brain has at least, of an infant too.
const BRAIN_ML: f64 = 200.0;

/// Codes of this module's own.
const SCHEME: &str = "99GANTRY";

struct MrBrainTissue;

impl Analyzer for MrBrainTissue {
    fn analyze(study: &Study) -> Result<(), Error> {
        let source = study.first("MR")?.volume(0)?;
        if let Some(detail) = not_a_head(source.geometry()) {
            return findings::unfit(&Code::new("EXTENT", SCHEME, "Not the extent of a head"), &detail);
        }
        let input = prepare(&source)?;
        let outputs = Model::load("tissue")?.run([("mr", input.to_tensor(TensorType::Fp32)?)])?;
        let labels = volumes::argmax(outputs.get("logits")?, &input, &source)?;
        let tissues = tissues();
        let millilitres: Vec<f64> = tissues.iter().map(|t| volume_of(&labels, t.value)).collect::<Result<_, _>>()?;
        let all: f64 = millilitres.iter().sum();
        if all < BRAIN_ML {
            let detail = format!("{all:.0} mL of brain were found; a brain has more than {BRAIN_ML}");
            return findings::unfit(&Code::new("NO-BRAIN", SCHEME, "No brain found"), &detail);
        }
        findings::segmentation(&labels, &tissues)?;
        for (tissue, ml) in tissues.iter().zip(millilitres) {
            findings::measure(&Code::sct("118565006", "Volume"), ml, "mL", Some(tissue.value))?;
        }
        Ok(())
    }
}

/// What the network tells apart, by the number of its channel; 0 is everything else.
fn tissues() -> [Segment; 2] {
    [
        Segment::anatomy(1, "Grey matter", Code::sct("389080008", "Gray matter")),
        Segment::anatomy(2, "White matter", Code::sct("389081007", "White matter")),
    ]
}

/// Why the grid cannot be that of a head.
fn not_a_head(grid: Geometry) -> Option<String> {
    let extents = [0, 1, 2].map(|axis| f64::from(grid.size[axis]) * grid.spacing[axis]);
    let wrong = extents.into_iter().find(|extent| !(EXTENT_MM.0..=EXTENT_MM.1).contains(extent))?;
    Some(format!("it extends to {wrong:.0} mm along an axis; a head takes {} to {} mm", EXTENT_MM.0, EXTENT_MM.1))
}

/// The head on the network's grid, as it was trained on.
fn prepare(source: &Volume) -> Result<Volume, Error> {
    let upright = source.orient("LPS")?.resample(SPACING_MM, Interpolation::Linear)?;
    let scaled = upright.normalise(PERCENTILES.0, PERCENTILES.1)?;
    let size = scaled.geometry().size;
    // Of an odd difference the larger part is behind, as `pad` has it.
    let start = |n: u32| n.saturating_sub(SIDE) / 2;
    let middle = Region {
        start: Extent::new(start(size.x), start(size.y), start(size.z)),
        size: Extent::new(size.x.min(SIDE), size.y.min(SIDE), size.z.min(SIDE)),
    };
    scaled.crop(middle)?.pad(Extent::new(SIDE, SIDE, SIDE), 0.0)
}

fn volume_of(labels: &Volume, value: u32) -> Result<f64, Error> {
    let grid = labels.geometry();
    // The mean of a mask is the part of it that is 1.
    let part = f64::from(labels.label(value)?.statistics(None)?.mean);
    Ok(part * grid.size.voxels() as f64 * grid.voxel_millilitres())
}

gantry_guest::export!(MrBrainTissue);

#[cfg(test)]
mod tests {
    use super::*;
    use gantry_guest::testing::{FakeSeries, FakeStudy, run};

    #[test]
    fn what_is_no_head_is_unfit_before_anything_is_computed() {
        let grid = Geometry::upright(Extent::new(40, 40, 20), Vec3::new(5.0, 5.0, 4.0));
        let study = FakeStudy::new().series(FakeSeries::new("MR").volume_from(grid, |[x, ..]| x as f32));
        let stated = run::<MrBrainTissue>(study).expect("analysed");
        let (code, detail) = stated.unfit.expect("unfit");
        assert!(code.value == "EXTENT" && detail.contains("80 mm"), "{detail}");
        assert!(not_a_head(Geometry { spacing: Vec3::new(5.0, 5.0, 8.0), ..grid }).is_none());
    }

    #[test]
    fn a_volume_is_that_of_the_voxels_of_its_label() {
        let grid = Geometry::upright(Extent::new(10, 10, 10), Vec3::new(2.0, 2.0, 2.0));
        let study = FakeStudy::new().series(FakeSeries::new("MR").volume_from(grid, |[x, ..]| f32::from(x < 5)));
        struct Half;
        impl Analyzer for Half {
            fn analyze(study: &Study) -> Result<(), Error> {
                let ml = volume_of(&study.first("MR")?.volume(0)?, 1)?;
                findings::measure(&Code::sct("118565006", "Volume"), ml, "mL", None)
            }
        }
        assert_eq!(run::<Half>(study).expect("analysed").measurements[0].1, 4.0);
    }
}
