//! Calls itself without end, and the host at each depth, at last with hardly any stack left: the stack's limit must end it.

use gantry_guest::prelude::*;

struct DeepHostCalls;

impl Analyzer for DeepHostCalls {
    fn analyze(study: &Study) -> Result<(), Error> {
        Err(Error::new(deeper(study.first("CT")?, 0)))
    }
}

/// Two operations after the call, so that no compiler turns it into a loop; and nothing in memory, which would end first.
#[inline(never)]
fn deeper(series: &Series, depth: u32) -> u32 {
    let volumes = series.volumes();
    if volumes == 0 { depth } else { deeper(series, depth + 1).wrapping_mul(31) ^ volumes }
}

gantry_guest::export!(DeepHostCalls);
