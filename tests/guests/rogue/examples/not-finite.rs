//! Passes NaN and infinities to every call that takes a number, and makes volumes of them: each must be `invalid`, and
//! whatever is made of such voxels must be finite.

use gantry_guest::prelude::*;

struct NotFinite;

impl Analyzer for NotFinite {
    fn analyze(study: &Study) -> Result<(), Error> {
        let (nan, infinite) = (f32::NAN, f32::INFINITY);
        let source = rogue::source(study)?;
        let grid = source.geometry();
        let spaced = |x: f64| Vec3::new(x, 1.0, 1.0);
        for (what, result) in [
            ("affine, NaN", source.affine(nan, 0.0)),
            ("affine, infinite", source.affine(1.0, -infinite)),
            ("window, NaN", source.window(nan, 400.0)),
            ("window, infinite centre", source.window(infinite, 400.0)),
            ("window, infinite width", source.window(40.0, infinite)),
            ("clip, NaN", source.clip(nan, 1.0)),
            ("threshold, NaN", source.threshold(0.0, nan)),
            ("resample, infinite", source.resample(spaced(f64::INFINITY), Interpolation::Linear)),
            ("resample, NaN", source.resample(spaced(f64::NAN), Interpolation::Nearest)),
            ("spacing", volumes::from_list(&[0.0], Geometry::upright(Extent::new(1, 1, 1), spaced(f64::NAN)))),
            ("origin", volumes::from_list(&[0.0], Geometry { origin: spaced(f64::INFINITY), ..one() })),
            (
                "axes",
                volumes::from_list(&[0.0], Geometry { axes: (spaced(f64::NAN), one().axes.1, one().axes.2), ..one() }),
            ),
        ] {
            rogue::invalid(what, result)?;
        }
        for value in [nan, infinite, -infinite] {
            let all = volumes::from_list(&vec![value; grid.size.voxels() as usize], grid)?;
            rogue::invalid("statistics", all.statistics(None))?;
            rogue::invalid("z-score", all.z_score())?;
            rogue::invalid("components", all.components(1))?;
            rogue::invalid("keep-largest", all.keep_largest(1))?;
            let made = all.resample(Vec3::new(3.0, 3.0, 3.0), Interpolation::Linear)?.threshold(0.0, 1.0)?;
            if made.statistics(None)?.maximum != 0.0 {
                return Err(Error::new(format_args!("{value} lies between 0 and 1")));
            }
            let channels = [1, 2, grid.size.z, grid.size.y, grid.size.x];
            let scores = Tensor::from_f32(&channels, &vec![value; 2 * grid.size.voxels() as usize]);
            let winners = volumes::argmax(&scores, &source, &source)?.statistics(None)?;
            if (winners.minimum, winners.maximum) != (0.0, 0.0) {
                return Err(Error::new(format_args!("of two that are {value}, the second won")));
            }
            volumes::softmax(&scores, 1)?;
        }
        rogue::all_refused()
    }
}

/// One voxel.
fn one() -> Geometry {
    Geometry::upright(Extent::new(1, 1, 1), Vec3::new(1.0, 1.0, 1.0))
}

gantry_guest::export!(NotFinite);
