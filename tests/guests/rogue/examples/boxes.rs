//! States a box for each piece that is denser than 50 HU, of one slice for the largest, and a number of the whole study: no
//! segments.

use gantry_guest::prelude::*;

struct Boxes;

impl Analyzer for Boxes {
    fn analyze(study: &Study) -> Result<(), Error> {
        let dense = rogue::source(study)?.threshold(50.0, 4000.0)?;
        let pieces = dense.components(1)?;
        for (i, (piece, percent)) in pieces.iter().zip([90u8, 80, 70, 60]).enumerate() {
            let mut region = piece.bounds;
            if i == 0 {
                (region.start.z, region.size.z) = (region.start.z + region.size.z / 2, 1);
            }
            marks::mark(region, &rogue::code("DENSE", "Dense piece"), f32::from(percent) / 100.0)?;
        }
        findings::measure(&rogue::code("PIECES", "Pieces"), pieces.len() as f64, "1", None)
    }
}

gantry_guest::export!(Boxes);
