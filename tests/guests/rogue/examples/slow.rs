//! States what `well-behaved` states, a second or so later: time enough for a test to end the node meanwhile.

use std::hint::black_box;

use gantry_guest::prelude::*;

/// About a nanosecond each.
const TURNS: u64 = 1_500_000_000;

struct Slow;

impl Analyzer for Slow {
    fn analyze(study: &Study) -> Result<(), Error> {
        for turn in 0..TURNS {
            black_box(turn);
        }
        rogue::find_bone(study)
    }
}

gantry_guest::export!(Slow);
