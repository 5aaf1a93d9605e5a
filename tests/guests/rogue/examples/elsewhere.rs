//! A segmentation of the right shape in the wrong place, 100 mm to the left: the gate must refuse it.

use gantry_guest::prelude::*;

struct Elsewhere;

impl Analyzer for Elsewhere {
    fn analyze(study: &Study) -> Result<(), Error> {
        let mut grid = rogue::source(study)?.geometry();
        grid.origin.x += 100.0;
        let voxels = vec![1.0; grid.size.voxels() as usize];
        findings::segmentation(&volumes::from_list(&voxels, grid)?, &[rogue::segment()])
    }
}

gantry_guest::export!(Elsewhere);
