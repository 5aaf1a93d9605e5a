//! Does nothing wrong: gives the model `tissue` (`x`, f32 [1, 1, z, y, x], 0 to 1) a whole head at once, in a cube of 256 mm, and states
//! what it takes for white and grey matter. The model gives labels already (i64 [1, z, y, x]), which is no shape of scores: each
//! slice of them is a channel of a volume of one slice. So they stay on the host.

use gantry_guest::prelude::*;

const SIDE: u32 = 256;

struct WholeHead;

impl Analyzer for WholeHead {
    fn analyze(study: &Study) -> Result<(), Error> {
        let source = study.first("MR")?.volume(0)?;
        let cube = Extent::new(SIDE, SIDE, SIDE);
        let head = source.orient("LPS")?.normalise(1.0, 99.5)?.pad(cube, 0.0)?;
        let outputs = Model::load("tissue")?.run([("x", head.to_tensor(TensorType::Fp32)?)])?;
        let labels = outputs.get("labels")?;
        let slice = |z: u32| {
            let what = Region { start: Extent::new(0, 0, z), size: Extent::new(SIDE, SIDE, 1) };
            volumes::from_tensor(labels, z, &head.crop(what)?)
        };
        let slices = (0..SIDE).map(slice).collect::<Result<Vec<_>, Error>>()?;
        let found = volumes::stack(&slices)?.resample_like(&source, Interpolation::Nearest, 0.0)?;
        let white = Segment::anatomy(1, "White matter", Code::sct("389081007", "White matter"));
        let grey = Segment::anatomy(2, "Grey matter", Code::sct("389080008", "Gray matter"));
        findings::segmentation(&found, &[white, grey])
    }
}

gantry_guest::export!(WholeHead);
