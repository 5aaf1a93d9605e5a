//! Says that the input is not fit and states a finding beside it: the gate must refuse the job.

use gantry_guest::prelude::*;

struct UnfitAndMore;

impl Analyzer for UnfitAndMore {
    fn analyze(_: &Study) -> Result<(), Error> {
        findings::classify(&Code::sct("64572001", "Disease"), 0.5)?;
        findings::unfit(&rogue::code("SHORT", "Too few slices"), "too few slices")
    }
}

gantry_guest::export!(UnfitAndMore);
