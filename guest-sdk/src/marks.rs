//! What the module shows beside its findings: where it looked, and where something lies.
//!
//! Judged together with the [findings](crate::findings), and counted and limited as they are. The manifest asks for
//! `gantry:imaging/marks` (and for `volumes`, whose type it has).
//!
//! ```
//! use gantry_guest::prelude::*;
//! use gantry_guest::testing::{FakeSeries, FakeStudy, run};
//!
//! struct Bright;
//!
//! impl Analyzer for Bright {
//!     fn analyze(study: &Study) -> Result<(), Error> {
//!         let source = study.first("CT")?.volume(0)?;
//!         // How bright, from 0 to 1: on the grid of the source, where it came from.
//!         marks::heatmap(&source.window(40.0, 400.0)?, "Brightness")?;
//!         let region = Region { start: Extent::new(1, 0, 0), size: Extent::new(1, 2, 1) };
//!         marks::mark(region, &Code::new("BRIGHT", "99ACME", "Bright"), 0.9)
//!     }
//! }
//!
//! let grid = Geometry::upright(Extent::new(2, 2, 1), Vec3::new(1.0, 1.0, 1.0));
//! let study = FakeStudy::new().series(FakeSeries::new("CT").volume(grid, vec![-160.0, 240.0, 40.0, 40.0]));
//! let stated = run::<Bright>(study)?;
//! assert_eq!(stated.heatmap, Some(("Brightness".into(), vec![0.0, 1.0, 0.5, 0.5])));
//! assert_eq!(stated.marks.len(), 1);
//! # Ok::<(), Error>(())
//! ```

use crate::error::Error;
use crate::sys;
use crate::types::{Code, Region};
use crate::volumes::Volume;

/// How strongly each voxel speaks for what the module looks for: shown as a colour map over the image.
///
/// The grid is that of a volume that the module was given: see [`Volume::resample_like`]. Every voxel is finite; where
/// all are from 0 to 1, colours stand for that range. `title` is 1 to 64 characters. At most one heatmap a job; a second
/// is `invalid`.
pub fn heatmap(values: &Volume, title: &str) -> Result<(), Error> {
    Ok(sys::marks::heatmap(&values.0, title)?)
}

/// A box of voxels of the first volume that the study gives, drawn over the images. `probability` is 0 to 1.
pub fn mark(region: Region, label: &Code, probability: f32) -> Result<(), Error> {
    Ok(sys::marks::mark(region, label, probability)?)
}
