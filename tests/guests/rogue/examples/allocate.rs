//! Takes memory without end: `guest_memory_mib` must end it.

use std::hint::black_box;

use gantry_guest::prelude::*;

struct Allocate;

impl Analyzer for Allocate {
    fn analyze(_: &Study) -> Result<(), Error> {
        loop {
            std::mem::forget(black_box(vec![1u8; 1 << 20]));
        }
    }
}

gantry_guest::export!(Allocate);
