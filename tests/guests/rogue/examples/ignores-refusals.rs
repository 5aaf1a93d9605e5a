//! States what the gate refuses, ignores the refusal and returns `ok`: the job must fail all the same.

use gantry_guest::prelude::*;

struct IgnoresRefusals;

impl Analyzer for IgnoresRefusals {
    fn analyze(_: &Study) -> Result<(), Error> {
        let refused = findings::classify(&Code::sct("64572001", "Disease"), -0.5).is_err();
        info!("refused: {refused}");
        Ok(())
    }
}

gantry_guest::export!(IgnoresRefusals);
