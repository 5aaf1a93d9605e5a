//! Panics: the job fails, and the log says where.

use gantry_guest::prelude::*;

struct Panic;

impl Analyzer for Panic {
    fn analyze(study: &Study) -> Result<(), Error> {
        let series = study.series();
        info!("{}", series[series.len()].id());
        Ok(())
    }
}

gantry_guest::export!(Panic);
