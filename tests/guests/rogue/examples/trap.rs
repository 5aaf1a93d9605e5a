//! Executes `unreachable` after it stated a whole segmentation: the job fails and nothing of it is written.

use gantry_guest::prelude::*;

struct Trap;

impl Analyzer for Trap {
    fn analyze(study: &Study) -> Result<(), Error> {
        let labels = rogue::source(study)?.threshold(300.0, 4000.0)?;
        findings::segmentation(&labels, &[rogue::segment()])?;
        rogue::trap()
    }
}

gantry_guest::export!(Trap);
