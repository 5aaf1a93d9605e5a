//! A segmentation with a NaN in it: the gate must refuse it.

use gantry_guest::prelude::*;

struct Nan;

impl Analyzer for Nan {
    fn analyze(study: &Study) -> Result<(), Error> {
        let grid = rogue::source(study)?.geometry();
        let mut voxels = vec![0.0; grid.size.voxels() as usize];
        voxels[0] = f32::NAN;
        findings::segmentation(&volumes::from_list(&voxels, grid)?, &[rogue::segment()])
    }
}

gantry_guest::export!(Nan);
