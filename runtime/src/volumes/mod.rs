//! Grids of voxels and what can be done with them. Knows nothing of DICOM, guests or engines.

use crate::geometry::{Geometry, GeometryError, Region, Vec3};
use crate::memory::{Budget, OverBudget};
use crate::tensor::{ElementType, Tensor, TensorError};

/// How values between voxel centres are found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Interpolation {
    /// The closest voxel.
    Nearest,
    /// Trilinear.
    Linear,
}

/// Of finite voxels.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Statistics {
    /// Smallest value.
    pub minimum: f32,
    /// Largest value.
    pub maximum: f32,
    /// Mean.
    pub mean: f32,
    /// Population standard deviation.
    pub deviation: f32,
    /// How many.
    pub count: u64,
}

/// One 6-connected region of equal, non-zero voxels.
#[derive(Debug, Clone, PartialEq)]
pub struct Component {
    /// The value of its voxels.
    pub label: u32,
    /// How many.
    pub voxels: u64,
    /// mL.
    pub millilitres: f64,
    /// The smallest box that holds it.
    pub bounds: Region,
    /// Mean of voxel centres in the patient coordinate system, mm.
    pub centroid: Vec3,
}

/// Why an operation could not be done.
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
}

/// A grid of voxels; cheap to clone.
#[derive(Debug, Clone)]
pub struct Volume {
    geometry: Geometry,
}

impl Volume {
    /// Stored 16-bit values that become `slope · v + intercept`, slice after slice, x fastest.
    pub fn from_i16(
        _geometry: Geometry,
        _voxels: Vec<i16>,
        _slope: f32,
        _intercept: f32,
        _budget: &Budget,
    ) -> Result<Self, VolumeError> {
        todo!()
    }
    /// Labels, x fastest.
    pub fn from_u8(_geometry: Geometry, _voxels: Vec<u8>, _budget: &Budget) -> Result<Self, VolumeError> {
        todo!()
    }
    /// Values, x fastest.
    pub fn from_f32(_geometry: Geometry, _voxels: Vec<f32>, _budget: &Budget) -> Result<Self, VolumeError> {
        todo!()
    }
    /// The grid.
    #[must_use]
    pub fn geometry(&self) -> &Geometry {
        &self.geometry
    }
    /// See `volume.crop` in the contract.
    pub fn crop(&self, _to: Region) -> Result<Self, VolumeError> {
        todo!()
    }
    /// See `volume.pad`.
    pub fn pad(&self, _size: [usize; 3], _fill: f32) -> Result<Self, VolumeError> {
        todo!()
    }
    /// See `volume.resample`.
    pub fn resample(&self, _spacing: Vec3, _how: Interpolation) -> Result<Self, VolumeError> {
        todo!()
    }
    /// See `volume.resample-like`.
    pub fn resample_like(&self, _like: &Geometry, _how: Interpolation, _fill: f32) -> Result<Self, VolumeError> {
        todo!()
    }
    /// See `volume.orient`.
    pub fn orient(&self, _code: &str) -> Result<Self, VolumeError> {
        todo!()
    }
    /// See `volume.clip`.
    pub fn clip(&self, _low: f32, _high: f32) -> Result<Self, VolumeError> {
        todo!()
    }
    /// See `volume.affine`.
    pub fn affine(&self, _scale: f32, _shift: f32) -> Result<Self, VolumeError> {
        todo!()
    }
    /// See `volume.window`.
    pub fn window(&self, _centre: f32, _width: f32) -> Result<Self, VolumeError> {
        todo!()
    }
    /// See `volume.z-score`.
    pub fn z_score(&self) -> Result<Self, VolumeError> {
        todo!()
    }
    /// See `volume.statistics`.
    pub fn statistics(&self, _within: Option<Region>) -> Result<Statistics, VolumeError> {
        todo!()
    }
    /// See `volume.threshold`.
    pub fn threshold(&self, _low: f32, _high: f32) -> Result<Self, VolumeError> {
        todo!()
    }
    /// See `volume.label`.
    pub fn label(&self, _value: u32) -> Result<Self, VolumeError> {
        todo!()
    }
    /// See `volume.components`.
    pub fn components(&self, _minimum_voxels: u64) -> Result<Vec<Component>, VolumeError> {
        todo!()
    }
    /// See `volume.keep-largest`.
    pub fn keep_largest(&self, _count: u32) -> Result<Self, VolumeError> {
        todo!()
    }
    /// See `volume.to-tensor`.
    pub fn to_tensor(&self, _element: ElementType, _slices_as_batch: bool) -> Result<Tensor, VolumeError> {
        todo!()
    }
    /// See `volume.read`.
    pub fn read(&self, _what: Region) -> Result<Vec<f32>, VolumeError> {
        todo!()
    }
    /// Labels of slice `z` into `out` (x·y values). `Invalid` when a voxel is no whole number in 0..=65535
    /// (NaN and infinities included).
    pub fn label_slice(&self, _z: usize, _out: &mut [u16]) -> Result<(), VolumeError> {
        todo!()
    }
}

/// See `volumes.from-tensor` in the contract.
pub fn from_tensor(_t: &Tensor, _channel: u32, _like: &Volume) -> Result<Volume, VolumeError> {
    todo!()
}
/// See `volumes.argmax`.
pub fn argmax(_t: &Tensor, _like: &Volume, _onto: &Volume) -> Result<Volume, VolumeError> {
    todo!()
}
/// See `volumes.softmax`.
pub fn softmax(_t: &Tensor, _axis: usize) -> Result<Tensor, VolumeError> {
    todo!()
}
/// See `volumes.stack`.
pub fn stack(_slabs: &[&Volume]) -> Result<Volume, VolumeError> {
    todo!()
}
