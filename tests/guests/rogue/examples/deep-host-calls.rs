//! Calls itself without end, and the host at each depth, at last with hardly any stack left: the stack's limit must end it.

use gantry_guest::prelude::*;

struct DeepHostCalls;

impl Analyzer for DeepHostCalls {
    fn analyze(study: &Study) -> Result<(), Error> {
        Err(Error::new(deeper(&rogue::source(study)?, 0)))
    }
}

/// Two operations after the call, so that no compiler turns it into a loop.
#[inline(never)]
fn deeper(volume: &Volume, depth: u32) -> u32 {
    let slices = volume.geometry().size.z;
    if slices == 0 { depth } else { deeper(volume, depth + 1).wrapping_mul(31) ^ slices }
}

gantry_guest::export!(DeepHostCalls);
