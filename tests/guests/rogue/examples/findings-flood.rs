//! 100,000 findings: `findings_max` must end it.

use gantry_guest::prelude::*;

struct FindingsFlood;

impl Analyzer for FindingsFlood {
    fn analyze(_: &Study) -> Result<(), Error> {
        (0..100_000).try_for_each(|n| findings::classify(&rogue::code(&format!("N{n}"), "A finding"), 0.5))
    }
}

gantry_guest::export!(FindingsFlood);
