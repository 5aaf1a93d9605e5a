//! Calls itself without end: the stack's limit must end it.

use gantry_guest::prelude::*;

struct Recurse;

impl Analyzer for Recurse {
    fn analyze(study: &Study) -> Result<(), Error> {
        let depth = u64::MAX - study.series().len() as u64;
        Err(Error::new(deeper(depth)))
    }
}

/// Two operations that no compiler turns into a loop.
#[inline(never)]
fn deeper(depth: u64) -> u64 {
    if depth == 0 { 1 } else { deeper(depth - 1).wrapping_mul(31) ^ depth }
}

gantry_guest::export!(Recurse);
