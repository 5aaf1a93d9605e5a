//! Grids of voxels and what can be done with them. Knows nothing of DICOM, guests or engines.
//!
//! A [`Volume`] is a handle: voxels in the type in which they came (`storage`), and layers that say what is to be
//! done to them. Views (`view`), point operations (`points`) and resampling (`resample`) only add a
//! layer (`operations`). Voxels are
//! computed when something needs them, block by block, all layers in one pass, on all threads (`evaluate`):
//!
//! ```text
//!  i16 CT ─ view (orient) ─ resample ─ view (pad, crop) ─ points (window) ──▶ to_tensor of a slab
//!           └──────────── layers, free until evaluated ────────────────┘
//! ```
//!
//! What needs all voxels at once is in `statistics`, `components`, `tensors` and `argmax`; what makes new voxels of those
//! around them, in `filters`. `patches` lays windows over a volume that is larger than what a network takes.
//!
//! Nothing here trusts its arguments. Grids are limited by [`crate::geometry::MAX_VOXELS`] and, where an operation
//! makes a grid larger, by what the job's budget would hold as f32, computed or not: so the time of each call is
//! bounded too. Stored results are charged before they are allocated. The list of layers is short: past a dozen
//! layers or 32 point operations in a row, or at a second resampling, what is there is computed first.

mod argmax;
mod components;
mod evaluate;
mod filters;
mod half;
mod operations;
mod orient;
mod patches;
mod points;
#[cfg(test)]
mod properties;
#[cfg(test)]
mod reference;
mod resample;
mod statistics;
mod storage;
mod tensors;
#[cfg(test)]
mod tests;
mod view;

use std::sync::Arc;

pub use argmax::argmax;
pub use components::Component;
pub use filters::{Axis, Morphology, Projection, Sampling};
pub use patches::{Blend, Mirrored, Sliding, Windows};
pub use statistics::Statistics;
pub use tensors::{from_tensor, softmax};

use crate::geometry::{Geometry, GeometryError, Region};
use crate::memory::{Budget, Charge, JobOver, OverBudget};
use crate::tensor::TensorError;
use evaluate::{Layer, Scratch};
use storage::{Storage, Voxels};

/// How far slabs may lie from where the first says, mm.
const STACK_TOLERANCE_MM: f64 = 1e-3;

/// How values between voxel centres are found. Up to half a voxel beyond the outermost centres is the edge's value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Interpolation {
    /// The closest voxel; of two, the one of higher index, as in ITK.
    Nearest,
    /// Trilinear.
    Linear,
}

/// Why an operation could not be done. The caller is at fault, or the job's budget is too small.
#[derive(Debug, thiserror::Error)]
pub enum VolumeError {
    /// An argument makes no sense; the text names it.
    #[error("{0}")]
    Invalid(String),
    /// The resulting grid cannot be.
    #[error(transparent)]
    Geometry(#[from] GeometryError),
    /// No room.
    #[error(transparent)]
    OverBudget(#[from] OverBudget),
    /// A tensor cannot be.
    #[error(transparent)]
    Tensor(#[from] TensorError),
    /// Nobody waits for it any more.
    #[error(transparent)]
    JobOver(#[from] JobOver),
}

fn invalid(text: impl Into<String>) -> VolumeError {
    VolumeError::Invalid(text.into())
}

fn not_labels() -> VolumeError {
    invalid("the volume must hold whole numbers from 0 to 65535")
}

/// Which volume of a study voxels came from: place of its series, and of the volume in it. Every operation keeps it; one on
/// several volumes keeps that of the first.
pub type StudyVolume = (usize, usize);

/// A grid of voxels; cheap to clone.
#[derive(Clone)]
pub struct Volume {
    geometry: Geometry,
    storage: Arc<Storage>,
    /// From the storage upwards.
    layers: Vec<Layer>,
    budget: Budget,
    /// What it was made of first.
    source: Option<StudyVolume>,
}

/// Where voxels come from.
impl Volume {
    /// Stored 16-bit values that become `slope · v + intercept`, slice after slice, x fastest. They stay 16-bit.
    pub fn from_i16(
        geometry: Geometry,
        voxels: Vec<i16>,
        slope: f32,
        intercept: f32,
        budget: &Budget,
    ) -> Result<Self, VolumeError> {
        check_line(slope, intercept)?;
        let charge = charge_for(&geometry, &voxels, budget)?;
        Ok(Self::stored(geometry, Voxels::I16 { stored: voxels, slope, intercept }, charge, budget))
    }

    /// As [`Volume::from_i16`], of unsigned values. With slope 1 and intercept 0 they are labels.
    pub fn from_u16(
        geometry: Geometry,
        voxels: Vec<u16>,
        slope: f32,
        intercept: f32,
        budget: &Budget,
    ) -> Result<Self, VolumeError> {
        check_line(slope, intercept)?;
        let charge = charge_for(&geometry, &voxels, budget)?;
        Ok(Self::stored(geometry, Voxels::U16 { stored: voxels, slope, intercept }, charge, budget))
    }

    /// Labels, x fastest.
    pub fn from_u8(geometry: Geometry, voxels: Vec<u8>, budget: &Budget) -> Result<Self, VolumeError> {
        let charge = charge_for(&geometry, &voxels, budget)?;
        Ok(Self::stored(geometry, Voxels::U8(voxels), charge, budget))
    }

    /// Values, x fastest.
    pub fn from_f32(geometry: Geometry, voxels: Vec<f32>, budget: &Budget) -> Result<Self, VolumeError> {
        let charge = charge_for(&geometry, &voxels, budget)?;
        Ok(Self::stored(geometry, Voxels::F32(voxels), charge, budget))
    }

    fn stored(geometry: Geometry, voxels: Voxels, charge: Charge, budget: &Budget) -> Self {
        let storage = Arc::new(Storage::new(geometry.size(), voxels, charge));
        Self { geometry, storage, layers: Vec::new(), budget: budget.clone(), source: None }
    }

    /// What was computed from this volume, stored.
    fn made(&self, geometry: Geometry, voxels: Voxels, charge: Charge) -> Self {
        Self { source: self.source, ..Self::stored(geometry, voxels, charge, &self.budget) }
    }

    /// The same, known as a volume of a study.
    #[must_use]
    pub fn with_source(self, source: StudyVolume) -> Self {
        Self { source: Some(source), ..self }
    }
}

fn charge_for<T>(geometry: &Geometry, voxels: &[T], budget: &Budget) -> Result<Charge, VolumeError> {
    if voxels.len() != geometry.voxels() {
        let (size, got) = (geometry.size(), voxels.len());
        return Err(invalid(format!("a grid of {size:?} voxels has {}, but {got} were given", geometry.voxels())));
    }
    Ok(budget.charge(size_of_val(voxels) as u64)?)
}

fn check_line(scale: f32, shift: f32) -> Result<(), VolumeError> {
    if scale.is_finite() && shift.is_finite() {
        Ok(())
    } else {
        Err(invalid(format!("scale {scale} and shift {shift} must be finite")))
    }
}

/// What it is.
impl Volume {
    /// The grid.
    #[must_use]
    pub fn geometry(&self) -> &Geometry {
        &self.geometry
    }

    /// The volume of a study that it was made of, where that is known.
    #[must_use]
    pub fn source(&self) -> Option<StudyVolume> {
        self.source
    }

    /// The budget that results are charged to.
    #[must_use]
    pub fn budget(&self) -> &Budget {
        &self.budget
    }

    /// Bytes of the voxels that this handle keeps in memory, shared ones included.
    #[must_use]
    pub fn resident_bytes(&self) -> u64 {
        self.storage.bytes()
    }
}

/// Volumes of the same size in x and y behind one another along z, without copying slabs that are stored.
/// See `volumes.stack` in the contract.
pub fn stack(slabs: &[&Volume]) -> Result<Volume, VolumeError> {
    let Some(first) = slabs.first() else { return Err(invalid("slabs must not be empty")) };
    let grid = &first.geometry;
    let [nx, ny, _] = grid.size();
    let at = |z: usize, size| Geometry::new(size, grid.spacing(), grid.to_patient([0.0, 0.0, z as f64]), grid.axes());
    let mut depth = 0usize;
    for (i, slab) in slabs.iter().enumerate() {
        let size = slab.geometry.size();
        if size[..2] != [nx, ny] {
            return Err(invalid(format!("slab {i} has {size:?} voxels, but the first is {nx} by {ny} in x and y")));
        }
        if !at(depth, size)?.same_grid(&slab.geometry, STACK_TOLERANCE_MM) {
            return Err(invalid(format!("slab {i} does not lie at slice {depth} of the grid that the first begins")));
        }
        depth = depth.saturating_add(size[2]);
    }
    let geometry = at(0, [nx, ny, depth])?;
    first.check_room(&geometry)?;
    let stored = slabs.iter().map(|slab| slab.materialize()).collect::<Result<Vec<_>, _>>()?;
    let storage = Arc::new(Storage::stacked(stored.iter().map(|slab| &*slab.storage)));
    Ok(Volume { geometry, storage, layers: Vec::new(), budget: first.budget.clone(), source: first.source })
}

/// What needs voxels.
impl Volume {
    /// The voxels of `what`, x fastest, then y, then z. See `volume.read`; the caller limits the size.
    pub fn read(&self, what: Region) -> Result<Vec<f32>, VolumeError> {
        let size = self.geometry.size();
        if !what.fits(size) {
            return Err(invalid(format!("the region {what:?} is empty or leaves the volume of {size:?} voxels")));
        }
        let mut voxels = vec![0.0; what.voxels()];
        self.fill(what, &mut voxels);
        Ok(voxels)
    }

    /// The values of slice `z` into `out` (x·y values).
    pub fn slice(&self, z: usize, out: &mut [f32]) -> Result<(), VolumeError> {
        let region = self.slice_region(z, out.len())?;
        self.fill(region, out);
        Ok(())
    }

    /// Labels of slice `z` into `out` (x·y values). `Invalid` when a voxel is no whole number in 0..=65535
    /// (NaN and infinities included).
    pub fn label_slice(&self, z: usize, out: &mut [u16]) -> Result<(), VolumeError> {
        let region = self.slice_region(z, out.len())?;
        let mut scratch = Scratch::default();
        for (block, out) in evaluate::blocks_of(region, 1, out) {
            self.label_block(block, out, &mut scratch)?;
        }
        Ok(())
    }

    fn slice_region(&self, z: usize, length: usize) -> Result<Region, VolumeError> {
        let [x, y, slices] = self.geometry.size();
        if z >= slices || length != x * y {
            return Err(invalid(format!("slice {z} of {slices} has {} voxels, not {length}", x * y)));
        }
        Ok(Region { start: [0, 0, z], size: [x, y, 1] })
    }
}

impl std::fmt::Debug for Volume {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Volume")
            .field("geometry", &self.geometry)
            .field("layers", &self.layers)
            .field("resident_bytes", &self.resident_bytes())
            .finish()
    }
}

/// A grid for tests: 1 mm voxels from the origin, axes as they are.
#[cfg(test)]
fn test_grid(size: [usize; 3]) -> Geometry {
    Geometry::new(size, [1.0; 3], [0.0; 3], [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]).expect("a grid")
}
