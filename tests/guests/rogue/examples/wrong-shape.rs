//! A segmentation that is one slice short: the gate must refuse it.

use gantry_guest::prelude::*;

struct WrongShape;

impl Analyzer for WrongShape {
    fn analyze(study: &Study) -> Result<(), Error> {
        let source = rogue::source(study)?;
        let grid = source.geometry();
        let short = source.crop(grid.slices(0, grid.size.z - 1))?;
        findings::segmentation(&short.threshold(300.0, 4000.0)?, &[rogue::segment()])
    }
}

gantry_guest::export!(WrongShape);
