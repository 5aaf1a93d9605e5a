//! Hoards a million handles that cost no voxels: `handles_max` must end it.

use gantry_guest::prelude::*;

struct Handles;

impl Analyzer for Handles {
    fn analyze(study: &Study) -> Result<(), Error> {
        let source = rogue::source(study)?;
        let mut hoard = Vec::new();
        for n in 0..1_000_000 {
            hoard.push(source.affine(1.0, n as f32)?);
        }
        Err(Error::new(format_args!("the host gave {} handles", hoard.len())))
    }
}

gantry_guest::export!(Handles);
