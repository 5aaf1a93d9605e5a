//! Writes 64 MiB of log: past `log_kib` lines are dropped, and the job is done all the same.

use gantry_guest::prelude::*;

struct LogFlood;

impl Analyzer for LogFlood {
    fn analyze(_: &Study) -> Result<(), Error> {
        let line = "word ".repeat(200);
        for n in 0..(64 << 10) {
            info!("{n} {line}");
        }
        findings::classify(&rogue::code("LOGGED", "64 MiB of log were written"), 1.0)
    }
}

gantry_guest::export!(LogFlood);
