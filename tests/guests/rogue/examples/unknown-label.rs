//! A voxel value that no segment has: the gate must refuse it.

use gantry_guest::prelude::*;

struct UnknownLabel;

impl Analyzer for UnknownLabel {
    fn analyze(study: &Study) -> Result<(), Error> {
        let twos = rogue::source(study)?.affine(0.0, 2.0)?;
        findings::segmentation(&twos, &[rogue::segment()])
    }
}

gantry_guest::export!(UnknownLabel);
