//! Fits in everything: bone by its density, its volume, and the probability that there is any. Needs no model.

use gantry_guest::prelude::*;

struct WellBehaved;

impl Analyzer for WellBehaved {
    fn analyze(study: &Study) -> Result<(), Error> {
        let source = rogue::source(study)?;
        let labels = source.threshold(300.0, 4000.0)?;
        let found = labels.components(1)?;
        info!("{} pieces of bone", found.len());
        findings::segmentation(&labels, &[Segment { confidence: Some(0.5), ..rogue::segment() }])?;
        let millilitres = found.iter().map(|c| c.millilitres).sum();
        findings::measure(&Code::sct("118565006", "Volume"), millilitres, "mL", Some(1))?;
        findings::classify(&rogue::code("BONE", "Bone is in the image"), if found.is_empty() { 0.0 } else { 1.0 })
    }
}

gantry_guest::export!(WellBehaved);
