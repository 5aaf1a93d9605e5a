//! States a heatmap or a box that cannot be shown, as its misdeed says: the host or the gate must refuse it.

use gantry_guest::prelude::*;

struct BadMarks;

impl Analyzer for BadMarks {
    fn analyze(study: &Study) -> Result<(), Error> {
        let mut grid = rogue::source(study)?.geometry();
        let heat = |voxel: f32, grid: Geometry| {
            let mut voxels = vec![0.5; grid.size.voxels() as usize];
            voxels[0] = voxel;
            volumes::from_list(&voxels, grid)
        };
        let label = rogue::code("PLACE", "Some place");
        let region = |start: u32, size: u32| Region { start: Extent::new(0, 0, start), size: Extent::new(1, 1, size) };
        match rogue::misdeed(study)? {
            0 => marks::heatmap(&heat(f32::NAN, grid)?, "No number"),
            1 => marks::heatmap(&heat(f32::INFINITY, grid)?, "No end"),
            2 => {
                grid.origin.x += 100.0;
                marks::heatmap(&heat(0.5, grid)?, "Elsewhere")
            }
            3 => marks::heatmap(&heat(0.5, grid)?, ""),
            4 => {
                marks::heatmap(&heat(0.5, grid)?, "First")?;
                marks::heatmap(&heat(0.5, grid)?, "Second")
            }
            5 => marks::mark(region(grid.size.z, 1), &label, 0.5),
            6 => marks::mark(region(u32::MAX, u32::MAX), &label, 0.5),
            7 => marks::mark(region(0, 0), &label, 0.5),
            _ => marks::mark(region(0, 1), &label, f32::NAN),
        }
    }
}

gantry_guest::export!(BadMarks);
