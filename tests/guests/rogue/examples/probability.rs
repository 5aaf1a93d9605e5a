//! A probability of 1.7: the gate must refuse it.

use gantry_guest::prelude::*;

struct Probability;

impl Analyzer for Probability {
    fn analyze(_: &Study) -> Result<(), Error> {
        findings::classify(&Code::sct("64572001", "Disease"), 1.7)
    }
}

gantry_guest::export!(Probability);
