//! Grids of voxels and what can be done with them. Knows nothing of DICOM, guests or engines.
//!
//! A [`Volume`] is a handle: voxels in the type in which they came (`storage`), and layers that say what is to be
//! done to them. Views (`view`), point operations (`points`) and resampling (`resample`) only add a layer. Voxels are
//! computed when something needs them, block by block, all layers in one pass, on all threads (`evaluate`):
//!
//! ```text
//!  i16 CT ─ view (orient) ─ resample ─ view (pad, crop) ─ points (window) ──▶ to_tensor of a slab
//!           └──────────── layers, free until evaluated ────────────────┘
//! ```
//!
//! What needs all voxels at once is in `statistics`, `components`, `tensors` and `argmax`.
//!
//! Nothing here trusts its arguments. Grids are limited by [`crate::geometry::MAX_VOXELS`] and, where an operation
//! makes a grid larger, by what the job's budget would hold as f32, computed or not: so the time of each call is
//! bounded too. Stored results are charged before they are allocated. The list of layers is short: past
//! [`MAX_LAYERS`] layers or [`MAX_POINTS`] point operations in a row, or at a second resampling, what is there is
//! computed first.

mod argmax;
mod components;
mod evaluate;
mod half;
mod orient;
mod points;
mod resample;
mod statistics;
mod storage;
mod tensors;
mod view;

use std::sync::Arc;

pub use argmax::argmax;
pub use components::Component;
pub use statistics::Statistics;
pub use tensors::{from_tensor, softmax};

use crate::geometry::{Geometry, GeometryError, Region, Vec3};
use crate::memory::{Budget, Charge, OverBudget};
use crate::tensor::TensorError;
use evaluate::{Layer, Scratch};
use points::PointOp;
use resample::{Mapping, Oblique, Resample};
use storage::{Storage, Voxels};
use view::View;

/// Layers above which a volume is computed before the next.
const MAX_LAYERS: usize = 12;
/// Point operations in a row above which a volume is computed before the next.
const MAX_POINTS: usize = 32;
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
}

fn invalid(text: impl Into<String>) -> VolumeError {
    VolumeError::Invalid(text.into())
}

fn not_labels() -> VolumeError {
    invalid("the volume must hold whole numbers from 0 to 65535")
}

/// A grid of voxels; cheap to clone.
#[derive(Clone)]
pub struct Volume {
    geometry: Geometry,
    storage: Arc<Storage>,
    /// From the storage upwards.
    layers: Vec<Layer>,
    budget: Budget,
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
        Self { geometry, storage, layers: Vec::new(), budget: budget.clone() }
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

/// Lazy operations: they add a layer.
impl Volume {
    /// The grid.
    #[must_use]
    pub fn geometry(&self) -> &Geometry {
        &self.geometry
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

    /// The part inside `to`. See `volume.crop` in the contract.
    pub fn crop(&self, to: Region) -> Result<Self, VolumeError> {
        let size = self.geometry.size();
        if !to.fits(size) {
            return Err(invalid(format!("the region {to:?} is empty or leaves the volume of {size:?} voxels")));
        }
        self.windowed(to.start.map(|s| s as i64), to.size, 0.0)
    }

    /// Grown to `size`, the content centred, the odd voxel behind. See `volume.pad`.
    pub fn pad(&self, size: [usize; 3], fill: f32) -> Result<Self, VolumeError> {
        let old = self.geometry.size();
        if (0..3).any(|a| size[a] < old[a]) {
            return Err(invalid(format!("the size {size:?} is smaller than the volume of {old:?} voxels")));
        }
        self.windowed([0, 1, 2].map(|a| -(((size[a] - old[a]) / 2) as i64)), size, fill)
    }

    /// `size` voxels from `start` of the volume.
    fn windowed(&self, start: [i64; 3], size: [usize; 3], fill: f32) -> Result<Self, VolumeError> {
        let grid = &self.geometry;
        let origin = grid.to_patient(start.map(|s| s as f64));
        let geometry = Geometry::new(size, grid.spacing(), origin, grid.axes())?;
        self.check_room(&geometry)?;
        self.viewed(View::window(grid.size(), start, size, fill), geometry)
    }

    /// On a grid of `spacing` mm over the same field of view. See `volume.resample`.
    ///
    /// Sizes round half up. A grid coarser than the whole volume has one voxel, which takes the value at the edge
    /// where its centre lies outside.
    pub fn resample(&self, spacing: Vec3, how: Interpolation) -> Result<Self, VolumeError> {
        let (size, old) = (self.geometry.size(), self.geometry.spacing());
        if !spacing.iter().all(|s| s.is_finite() && *s > 0.0) {
            return Err(GeometryError::Spacing(spacing).into());
        }
        let scale = [0, 1, 2].map(|a| spacing[a] / old[a]);
        // Casts saturate, and the grid is then refused as too large.
        let new_size = [0, 1, 2].map(|a| ((size[a] as f64 * old[a] / spacing[a]).round() as usize).max(1));
        let offset = scale.map(|s| s / 2.0 - 0.5);
        let geometry = Geometry::new(new_size, spacing, self.geometry.to_patient(offset), self.geometry.axes())?;
        self.check_room(&geometry)?;
        if scale == [1.0; 3] {
            return Ok(self.clone());
        }
        let base = self.without_resampling()?;
        base.with_layer(Layer::Resample(Resample { source: size, scale, offset, how }), geometry)
    }

    /// On another grid; `fill` outside. See `volume.resample-like`.
    ///
    /// Where the voxels of both grids coincide to 1e-6 voxels, axes reordered or reversed, this is a view.
    pub fn resample_like(&self, like: &Geometry, how: Interpolation, fill: f32) -> Result<Self, VolumeError> {
        self.check_room(like)?;
        let (order, scale, offset) = match resample::mapping(&self.geometry, like)? {
            Mapping::Parallel { order, scale, offset } => (order, scale, offset),
            Mapping::Oblique { matrix, offset } => {
                let base = self.without_resampling()?;
                let source = self.geometry.size();
                let layer = Layer::Oblique(Oblique { source, matrix, offset, how, fill });
                return base.with_layer(layer, like.clone());
            }
        };
        let turned = self.reordered(order)?;
        let (source, size) = (turned.geometry.size(), like.size());
        let shifts = [0, 1, 2].map(|a| resample::shift(scale[a], offset[a], size[a]));
        if let [Some(x), Some(y), Some(z)] = shifts {
            return turned.viewed(View::window(source, [x, y, z], size, fill), like.clone());
        }
        let inside = [0, 1, 2].map(|a| resample::inside(scale[a], offset[a], size[a], source[a]));
        if inside.iter().any(|range| range.is_empty()) {
            return self.viewed(View::empty(size, fill), like.clone());
        }
        let base = turned.without_resampling()?;
        let first = [0, 1, 2].map(|a| offset[a] + scale[a] * inside[a].start as f64);
        let sampled = [0, 1, 2].map(|a| inside[a].len());
        let origin = like.to_patient([0, 1, 2].map(|a| inside[a].start as f64));
        let geometry = Geometry::new(sampled, like.spacing(), origin, like.axes())?;
        let layer = Layer::Resample(Resample { source, scale, offset: first, how });
        let start = [0, 1, 2].map(|a| -(inside[a].start as i64));
        base.with_layer(layer, geometry)?.viewed(View::window(sampled, start, size, fill), like.clone())
    }

    /// Axes reordered and reversed to come closest to `code`. See `volume.orient`.
    pub fn orient(&self, code: &str) -> Result<Self, VolumeError> {
        self.reordered(orient::order(&self.geometry, code)?)
    }

    /// Each value limited to `low..=high`. See `volume.clip`.
    pub fn clip(&self, low: f32, high: f32) -> Result<Self, VolumeError> {
        check_range(low, high)?;
        self.pointwise(PointOp::Clip { low, high })
    }

    /// `scale · v + shift`. See `volume.affine`.
    pub fn affine(&self, scale: f32, shift: f32) -> Result<Self, VolumeError> {
        check_line(scale, shift)?;
        self.pointwise(PointOp::Affine { scale, shift })
    }

    /// `(v - (centre - width / 2)) / width`, limited to 0..1. See `volume.window`.
    pub fn window(&self, centre: f32, width: f32) -> Result<Self, VolumeError> {
        let low = centre - width / 2.0;
        if !(width > 0.0 && width.is_finite() && low.is_finite()) {
            return Err(invalid(format!("a window of centre {centre} and width {width} needs a finite width above 0")));
        }
        self.pointwise(PointOp::Window { low, width })
    }

    /// `(v - mean) / deviation` over the whole volume; a constant volume becomes 0. See `volume.z-score`.
    pub fn z_score(&self) -> Result<Self, VolumeError> {
        let Statistics { mean, deviation, .. } = self.statistics(None)?;
        if deviation > 0.0 {
            self.pointwise(PointOp::Standardize { mean, deviation })
        } else {
            self.pointwise(PointOp::Affine { scale: 0.0, shift: 0.0 })
        }
    }

    /// 1 where `low <= v <= high`, 0 elsewhere and for NaN. See `volume.threshold`.
    pub fn threshold(&self, low: f32, high: f32) -> Result<Self, VolumeError> {
        check_range(low, high)?;
        self.pointwise(PointOp::Threshold { low, high })
    }

    /// 1 where the value is `value`, 0 elsewhere. See `volume.label`.
    pub fn label(&self, value: u32) -> Result<Self, VolumeError> {
        self.pointwise(PointOp::Label { value })
    }
}

fn check_range(low: f32, high: f32) -> Result<(), VolumeError> {
    if low <= high { Ok(()) } else { Err(invalid(format!("low {low} must not be above high {high}, and neither NaN"))) }
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
    Ok(Volume { geometry, storage, layers: Vec::new(), budget: first.budget.clone() })
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

/// How layers are put on one another.
impl Volume {
    /// A volume that is never stored still takes time: it may be no larger than what the budget could hold as f32,
    /// or than the volume it is made from.
    fn check_room(&self, grid: &Geometry) -> Result<(), VolumeError> {
        let (wanted, limit) = (grid.voxels() as u64 * 4, self.budget.limit());
        if wanted > limit && grid.voxels() > self.geometry.voxels() {
            return Err(OverBudget { wanted, used: self.budget.used(), limit }.into());
        }
        Ok(())
    }

    fn reordered(&self, order: view::Order) -> Result<Self, VolumeError> {
        if order == view::AS_IS {
            return Ok(self.clone());
        }
        self.viewed(View::order(self.geometry.size(), order), view::reordered(&self.geometry, order)?)
    }

    /// Adds a view, joined with the one below where possible. A view without a border commutes with point operations
    /// and goes below them.
    fn viewed(&self, view: View, geometry: Geometry) -> Result<Self, VolumeError> {
        if view.changes_nothing() {
            return Ok(Self { geometry, ..self.clone() });
        }
        let mut layers = self.layers.clone();
        let above = if view.pads() { None } else { layers.pop_if(|top| matches!(top, Layer::Points(_))) };
        let joined = match layers.last() {
            Some(Layer::View(below)) => view.after(below),
            _ => None,
        };
        if joined.is_some() {
            layers.pop();
        } else if layers.len() + 2 > MAX_LAYERS {
            return self.materialize()?.viewed(view, geometry);
        }
        let view = joined.unwrap_or(view);
        if !view.changes_nothing() {
            layers.push(Layer::View(view));
        }
        layers.extend(above);
        Ok(Self { geometry, storage: Arc::clone(&self.storage), layers, budget: self.budget.clone() })
    }

    fn pointwise(&self, op: PointOp) -> Result<Self, VolumeError> {
        let mut volume = self.clone();
        match volume.layers.last_mut() {
            Some(Layer::Points(ops)) if ops.len() < MAX_POINTS => {
                ops.push(op);
                Ok(volume)
            }
            Some(Layer::Points(_)) => self.materialize()?.pointwise(op),
            _ => self.with_layer(Layer::Points(vec![op]), self.geometry.clone()),
        }
    }

    fn with_layer(&self, layer: Layer, geometry: Geometry) -> Result<Self, VolumeError> {
        let base = if self.layers.len() >= MAX_LAYERS { self.materialize()? } else { self.clone() };
        let mut layers = base.layers;
        layers.push(layer);
        Ok(Self { geometry, layers, ..base })
    }

    /// Each sample needs up to eight voxels below: one resampling on top of another would multiply that.
    fn without_resampling(&self) -> Result<Self, VolumeError> {
        let resamples = self.layers.iter().any(|layer| matches!(layer, Layer::Resample(_) | Layer::Oblique(_)));
        if resamples { self.materialize() } else { Ok(self.clone()) }
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
