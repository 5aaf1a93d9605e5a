//! States what can be stated once for a second time, as its misdeed says: the host or the gate must refuse the second.

use gantry_guest::prelude::*;

struct Twice;

impl Analyzer for Twice {
    fn analyze(study: &Study) -> Result<(), Error> {
        let misdeed = rogue::misdeed(study)?;
        let labels = rogue::source(study)?.threshold(300.0, 4000.0)?;
        let finding = rogue::code("BONE", "Bone is in the image");
        findings::segmentation(&labels, &[rogue::segment()])?;
        match misdeed {
            0 => findings::segmentation(&labels, &[rogue::segment()]),
            1 => {
                findings::probabilities(1, &labels)?;
                findings::probabilities(1, &labels)
            }
            2 => {
                findings::triage(Urgency::Routine, &finding, 0.5, "it can wait")?;
                findings::triage(Urgency::Critical, &finding, 0.5, "it cannot wait")
            }
            _ => {
                findings::classify(&finding, 0.25)?;
                findings::classify(&finding, 0.75)
            }
        }
    }
}

gantry_guest::export!(Twice);
