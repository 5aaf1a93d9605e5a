//! Traps while it gives back what it holds, after it stated a whole segmentation: nothing of it is written.

use gantry_guest::prelude::*;

struct TrapDrop;

impl Analyzer for TrapDrop {
    fn analyze(study: &Study) -> Result<(), Error> {
        let held = Held(rogue::source(study)?.threshold(300.0, 4000.0)?);
        findings::segmentation(&held.0, &[rogue::segment()])
    }
}

struct Held(Volume);

impl Drop for Held {
    fn drop(&mut self) {
        rogue::trap();
    }
}

gantry_guest::export!(TrapDrop);
