//! Never returns: the deadline must end it.

use std::hint::black_box;

use gantry_guest::prelude::*;

struct Loop;

impl Analyzer for Loop {
    fn analyze(_: &Study) -> Result<(), Error> {
        let mut turns = 0u64;
        loop {
            turns = black_box(turns.wrapping_add(1));
        }
    }
}

gantry_guest::export!(Loop);
