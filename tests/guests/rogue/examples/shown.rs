//! Fits in everything that is shown: what is denser than 50 HU as a segment, as a box for each piece, and as a heatmap
//! that is as warm as it is dense, which are its probabilities too.

use gantry_guest::prelude::*;

struct Shown;

impl Analyzer for Shown {
    fn analyze(study: &Study) -> Result<(), Error> {
        let source = rogue::source(study)?;
        let geometry = source.geometry();
        let all = Region { start: Extent { x: 0, y: 0, z: 0 }, size: geometry.size };
        let dense = source.threshold(50.0, 4000.0)?;
        findings::segmentation(&dense, &[Segment { confidence: Some(0.5), ..rogue::segment() }])?;
        let heat: Vec<f32> = source.read(all)?.into_iter().map(|hu| (hu / 1000.0).clamp(0.0, 1.0)).collect();
        let heat = volumes::from_list(&heat, geometry)?;
        marks::heatmap(&heat, "Density")?;
        findings::probabilities(rogue::segment().value, &heat)?;
        for (piece, percent) in dense.components(1)?.iter().zip([90u8, 80, 70, 60]) {
            marks::mark(piece.bounds, &rogue::code("DENSE", "Dense piece"), f32::from(percent) / 100.0)?;
        }
        Ok(())
    }
}

gantry_guest::export!(Shown);
