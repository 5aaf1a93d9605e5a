//! A segmentation with half a label in it: the gate must refuse it.

use gantry_guest::prelude::*;

struct Fraction;

impl Analyzer for Fraction {
    fn analyze(study: &Study) -> Result<(), Error> {
        let half = rogue::source(study)?.affine(0.0, 0.5)?;
        findings::segmentation(&half, &[rogue::segment()])
    }
}

gantry_guest::export!(Fraction);
