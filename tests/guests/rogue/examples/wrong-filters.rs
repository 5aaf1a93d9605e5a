//! Asks filters and windows for what cannot be: each must be `invalid`.

use gantry_guest::prelude::*;

struct WrongFilters;

impl Analyzer for WrongFilters {
    fn analyze(study: &Study) -> Result<(), Error> {
        let source = rogue::source(study)?;
        let (nan, infinite) = (f64::NAN, f64::INFINITY);
        let most = Extent::new(u32::MAX, u32::MAX, u32::MAX);
        for bad in [nan, infinite, -1.0, 1e300] {
            rogue::invalid("gaussian", source.gaussian(Vec3::new(1.0, bad, 1.0)))?;
        }
        let mask = source.threshold(0.0, 100.0)?;
        for bad in [nan, infinite, -1.0, 0.0] {
            rogue::invalid("morphology", mask.morphology(Morphology::Close, bad))?;
            rogue::invalid("resample-cubic", source.resample_cubic(Vec3::new(1.0, 1.0, bad)))?;
        }
        rogue::invalid("closing all of it", mask.morphology(Morphology::Close, 1e300))?;
        rogue::invalid("no mask", source.morphology(Morphology::Dilate, 1.0))?;
        rogue::invalid("median", source.median(most))?;
        rogue::invalid("slab", source.slab(Projection::Mean, 0))?;
        for bad in [0, u32::MAX] {
            rogue::invalid("equalise", source.equalise(bad))?;
        }
        for bad in [vec![], vec![f32::NAN], vec![-1.0], vec![101.0], vec![50.0; 101]] {
            rogue::invalid("percentiles", source.percentiles(&bad))?;
        }
        rogue::invalid("normalise", source.normalise(50.0, 50.0))?;
        rogue::invalid("body-mask", source.body_mask(f32::NAN))?;
        let grid = source.geometry();
        for grid in [Geometry { size: most, ..grid }, Geometry { spacing: Vec3::new(nan, 1.0, 1.0), ..grid }] {
            rogue::invalid("onto", source.onto(grid, Sampling::Cubic, 0.0))?;
        }
        let holes = source.affine(f32::MAX, 0.0)?.affine(f32::MAX, 0.0)?;
        rogue::invalid("resample-cubic of infinities", holes.resample_cubic(Vec3::new(1.0, 1.0, 1.5)))?;
        windows(&source)?;
        rogue::all_refused()
    }
}

fn windows(source: &Volume) -> Result<(), Error> {
    let model = Model::load("net")?;
    let right = Windows::new(Extent::new(4, 4, 4));
    let refused = |what: &str, windows| rogue::invalid(what, model.sliding_window([source], windows));
    for overlap in [f64::NAN, f64::INFINITY, -0.5, 1.0] {
        refused("overlap", Windows { overlap, ..right })?;
    }
    for batch in [0, 1025, u32::MAX] {
        refused("batch", Windows { batch, ..right })?;
    }
    refused("no voxel", Windows { size: Extent::new(4, 0, 4), ..right })?;
    refused("too large", Windows { size: Extent::new(u32::MAX, u32::MAX, u32::MAX), ..right })?;
    refused("another size than the network's", Windows { size: Extent::new(4, 4, 5), ..right })?;
    refused("no quarter", Windows { size: Extent::new(4, 5, 4), quarter_turns: true, ..right })?;
    rogue::invalid("no volume", model.sliding_window([], right))?;
    rogue::invalid("two channels", model.sliding_window([source, source], right))?;
    let other = source.crop(Region { start: Extent::new(0, 0, 0), size: Extent::new(4, 4, 4) })?;
    rogue::invalid("two grids", model.sliding_window([source, &other], right))
}

gantry_guest::export!(WrongFilters);
