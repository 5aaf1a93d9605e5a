//! Does nothing wrong: filters the series, runs the model `net` (`y` is the negative of `x`, f32 [1, 1, 4, 4, 4]) over windows of
//! what comes of it, and says whether that is the negative of all of it.

use gantry_guest::prelude::*;

struct OverWindows;

impl Analyzer for OverWindows {
    fn analyze(study: &Study) -> Result<(), Error> {
        let source = rogue::source(study)?;
        let body = source.body_mask(-400.0)?.statistics(None)?;
        info!("{} of the volume is body", body.mean);
        let turned = Geometry { origin: Vec3::new(1.0, 2.0, 3.0), ..Geometry::upright(Extent::new(9, 7, 5), three()) };
        let smooth = source.gaussian(three())?.normalise(0.5, 99.5)?;
        let input = smooth.onto(turned, Sampling::Cubic, 0.5)?.slab(Projection::Mean, 2)?;
        let model = Model::load("net")?;
        let windows = Windows {
            mirror: Axes { x: true, y: false, z: true },
            quarter_turns: true,
            ..Windows::new(Extent::new(4, 4, 4))
        };
        let output = model.sliding_window([&input], windows)?;
        let whole = Region { start: Extent::new(0, 0, 0), size: input.geometry().size };
        let seen = volumes::from_tensor(&output, 0, &input)?.read(whole)?;
        let apart = input.read(whole)?.iter().zip(&seen).map(|(a, b)| (a + b).abs()).fold(0.0, f32::max);
        if apart > 1e-5 {
            return Err(Error::new(format_args!("the negative is {apart} away from it")));
        }
        findings::classify(&rogue::code("NEGATIVE", "The windows came together"), 1.0)
    }
}

fn three() -> Vec3 {
    Vec3::new(3.0, 3.0, 3.0)
}

gantry_guest::export!(OverWindows);
