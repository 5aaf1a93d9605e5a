//! More that can be done to a volume. The manifest asks for `gantry:imaging/filters`.
//!
//! Every operation computes and stores its result on the host. Lengths are in mm, along the axes of the grid; beyond the border
//! voxels are those of the edge. `wit/imaging.wit` says what each refuses.

use crate::error::Error;
use crate::sys;
use crate::types::{Axis, Extent, Geometry, Morphology, Projection, Sampling, Vec3};
use crate::volumes::{Volume, wrap};

/// Of `gantry:imaging/filters`.
///
/// ```
/// use gantry_guest::prelude::*;
///
/// let grid = Geometry::upright(Extent::new(5, 1, 1), Vec3::new(1.0, 1.0, 1.0));
/// let row = volumes::from_list(&[0.0, 0.0, 9.0, 0.0, 0.0], grid)?;
/// let all = |v: Volume| v.read(Region { start: Extent::new(0, 0, 0), size: v.geometry().size });
/// assert_eq!(all(row.median(Extent::new(1, 0, 0))?)?, [0.0; 5]);
/// assert_eq!(all(row.threshold(9.0, 9.0)?.morphology(Morphology::Dilate, 1.0)?)?, [0.0, 1.0, 1.0, 1.0, 0.0]);
/// assert_eq!(row.percentiles(&[100.0])?, [9.0]);
/// # Ok::<(), Error>(())
/// ```
impl Volume {
    /// To `spacing` mm by cubic splines, on the grid of [`Volume::resample`]. `invalid` when a voxel is not finite.
    pub fn resample_cubic(&self, spacing: Vec3) -> Result<Self, Error> {
        wrap(sys::filters::resample_cubic(&self.0, spacing))
    }

    /// On any grid, also a turned one; `fill` outside.
    pub fn onto(&self, grid: Geometry, how: Sampling, fill: f32) -> Result<Self, Error> {
        wrap(sys::filters::onto(&self.0, grid, how, fill))
    }

    /// Convolved with a Gaussian of `sigma` mm along each axis, at most 100 voxels; 0 leaves an axis as it is.
    pub fn gaussian(&self, sigma: Vec3) -> Result<Self, Error> {
        wrap(sys::filters::gaussian(&self.0, sigma))
    }

    /// The median of the box of `radius` voxels around each; the box has at most 4096.
    pub fn median(&self, radius: Extent) -> Result<Self, Error> {
        wrap(sys::filters::median(&self.0, radius))
    }

    /// Length of the gradient: the unit of the voxels per mm.
    pub fn gradient_magnitude(&self) -> Result<Self, Error> {
        wrap(sys::filters::gradient_magnitude(&self.0))
    }

    /// A mask, 0 and 1, changed with a ball of `radius` mm.
    pub fn morphology(&self, operation: Morphology, radius: f64) -> Result<Self, Error> {
        wrap(sys::filters::morphology(&self.0, operation, radius))
    }

    /// All voxels along `along` reduced to one.
    pub fn project(&self, along: Axis, how: Projection) -> Result<Self, Error> {
        wrap(sys::filters::project(&self.0, along, how))
    }

    /// At every slice, `slices` slices around it reduced to one; the grid stays.
    pub fn slab(&self, how: Projection, slices: u32) -> Result<Self, Error> {
        wrap(sys::filters::slab(&self.0, how, slices))
    }

    /// Values below which `at` percent of the finite voxels lie, one for each of `at`.
    pub fn percentiles(&self, at: &[f32]) -> Result<Vec<f32>, Error> {
        Ok(sys::filters::percentiles(&self.0, at)?)
    }

    /// What lies between the percentiles `low` and `high` to 0..1, the rest limited to that.
    pub fn normalise(&self, low: f32, high: f32) -> Result<Self, Error> {
        wrap(sys::filters::normalise(&self.0, low, high))
    }

    /// The histogram equalised over `bins` bins to 0..1.
    pub fn equalise(&self, bins: u32) -> Result<Self, Error> {
        wrap(sys::filters::equalise(&self.0, bins))
    }

    /// The body, 1, and what is around it, 0: of at least `above`, -400 for a CT.
    pub fn body_mask(&self, above: f32) -> Result<Self, Error> {
        wrap(sys::filters::body_mask(&self.0, above))
    }

    /// The breast of a mammogram, 1, and what is around it, 0.
    pub fn breast_mask(&self) -> Result<Self, Error> {
        wrap(sys::filters::breast_mask(&self.0))
    }
}
