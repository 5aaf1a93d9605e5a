//! States two segmentations: the gate must refuse the second.

use gantry_guest::prelude::*;

struct Twice;

impl Analyzer for Twice {
    fn analyze(study: &Study) -> Result<(), Error> {
        let labels = rogue::source(study)?.threshold(300.0, 4000.0)?;
        findings::segmentation(&labels, &[rogue::segment()])?;
        findings::segmentation(&labels, &[rogue::segment()])
    }
}

gantry_guest::export!(Twice);
