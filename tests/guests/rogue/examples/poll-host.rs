//! Asks the host for something small again and again: the deadline must end it.

use gantry_guest::prelude::*;

struct PollHost;

impl Analyzer for PollHost {
    fn analyze(study: &Study) -> Result<(), Error> {
        let series = study.first("CT")?;
        while series.volumes() > 0 {}
        Err("a series has no volumes".into())
    }
}

gantry_guest::export!(PollHost);
