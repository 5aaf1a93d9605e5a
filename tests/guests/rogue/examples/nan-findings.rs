//! States a number that is none, where its misdeed says: the gate must refuse it.

use gantry_guest::prelude::*;

struct NanFindings;

impl Analyzer for NanFindings {
    fn analyze(study: &Study) -> Result<(), Error> {
        let (quantity, finding) = (Code::sct("118565006", "Volume"), Code::sct("64572001", "Disease"));
        match rogue::misdeed(study)? {
            0 => findings::measure(&quantity, f64::NAN, "mL", None),
            1 => findings::measure(&quantity, f64::INFINITY, "mL", None),
            2 => findings::measure(&quantity, f64::NEG_INFINITY, "mL", None),
            3 => findings::classify(&finding, f32::NAN),
            4 => findings::classify(&finding, f32::INFINITY),
            5 => findings::triage(Urgency::Urgent, &finding, f32::NAN, "for no reason"),
            6 => {
                let labels = rogue::source(study)?.threshold(300.0, 4000.0)?;
                findings::segmentation(&labels, &[Segment { confidence: Some(f32::NAN), ..rogue::segment() }])
            }
            misdeed => {
                let mut grid = rogue::source(study)?.geometry();
                let labels = rogue::source(study)?.threshold(300.0, 4000.0)?;
                findings::segmentation(&labels, &[rogue::segment()])?;
                let mut voxels = vec![0.5; grid.size.voxels() as usize];
                match misdeed {
                    7 => voxels[0] = f32::NAN,
                    8 => voxels[0] = 1.5,
                    _ => grid.origin.x += 100.0,
                }
                findings::probabilities(1, &volumes::from_list(&voxels, grid)?)
            }
        }
    }
}

gantry_guest::export!(NanFindings);
