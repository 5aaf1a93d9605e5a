//! A segmentation with 100,000 segments, in one call: `findings_max` must end it.

use gantry_guest::prelude::*;

struct SegmentsFlood;

impl Analyzer for SegmentsFlood {
    fn analyze(study: &Study) -> Result<(), Error> {
        let labels = rogue::source(study)?.threshold(300.0, 4000.0)?;
        findings::segmentation(&labels, &vec![rogue::segment(); 100_000])
    }
}

gantry_guest::export!(SegmentsFlood);
