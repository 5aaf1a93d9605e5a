//! Says that the input is not fit, and nothing else.

use gantry_guest::prelude::*;

struct Unfit;

impl Analyzer for Unfit {
    fn analyze(_: &Study) -> Result<(), Error> {
        findings::unfit(&rogue::code("SHORT", "Too few slices"), "too few slices")
    }
}

gantry_guest::export!(Unfit);
