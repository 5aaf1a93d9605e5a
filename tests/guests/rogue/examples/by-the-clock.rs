//! States what depends on the moment, which nobody can reproduce.

use gantry_guest::prelude::*;

mod bindings {
    wit_bindgen::generate!({
        inline: "
            package rogue:by-the-clock;
            world by-the-clock {
                import wasi:clocks/monotonic-clock@0.2.0;
            }
            package wasi:clocks@0.2.0 {
                interface monotonic-clock {
                    now: func() -> u64;
                }
            }
        ",
        world: "rogue:by-the-clock/by-the-clock",
        generate_all,
    });
}

struct ByTheClock;

impl Analyzer for ByTheClock {
    fn analyze(_study: &Study) -> Result<(), Error> {
        let nanoseconds = bindings::wasi::clocks::monotonic_clock::now() % 1_000_000;
        findings::classify(&rogue::code("MOMENT", "When it ran"), nanoseconds as f32 / 1e6)
    }
}

gantry_guest::export!(ByTheClock);
