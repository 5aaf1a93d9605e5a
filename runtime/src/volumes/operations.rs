//! Lazy operations: each adds a layer to a volume.

use std::sync::Arc;

use super::evaluate::Layer;
use super::points::PointOp;
use super::resample::{self, Mapping, Oblique, Resample};
use super::view::{self, View};
use super::{Interpolation, Statistics, Volume, VolumeError, check_line, invalid, orient};
use crate::geometry::{Geometry, GeometryError, Region, Vec3};
use crate::memory::OverBudget;

/// Layers above which a volume is computed before the next.
pub(super) const MAX_LAYERS: usize = 12;
/// Point operations in a row above which a volume is computed before the next.
const MAX_POINTS: usize = 32;

/// See the resource `volume` in the contract.
impl Volume {
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
        base.with_layer(Layer::Resample(Resample { source: size, scale, offset, how, reversed: [false; 3] }), geometry)
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
        let layer = Layer::Resample(Resample {
            source,
            scale,
            offset: first,
            how,
            reversed: order.map(|(_, reversed)| reversed),
        });
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
        self.scaled(low, width)
    }

    /// `(v - low) / width`, limited to 0..1.
    pub(super) fn scaled(&self, low: f32, width: f32) -> Result<Self, VolumeError> {
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

/// How layers are put on one another.
impl Volume {
    /// A volume that is never stored still takes time: it may be no larger than what the budget could hold as f32,
    /// or than the volume it is made from.
    pub(super) fn check_room(&self, grid: &Geometry) -> Result<(), VolumeError> {
        let (wanted, limit) = (grid.voxels() as u64 * 4, self.budget.limit());
        if wanted > limit && grid.voxels() > self.geometry.voxels() {
            return Err(OverBudget { wanted, used: self.budget.used(), limit }.into());
        }
        Ok(())
    }

    pub(super) fn reordered(&self, order: view::Order) -> Result<Self, VolumeError> {
        if order == view::AS_IS {
            return Ok(self.clone());
        }
        self.viewed(View::order(self.geometry.size(), order), view::reordered(&self.geometry, order)?)
    }

    /// Adds a view, joined with the one below where possible. A view without a border commutes with point operations
    /// and goes below them.
    pub(super) fn viewed(&self, view: View, geometry: Geometry) -> Result<Self, VolumeError> {
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
        let (storage, budget) = (Arc::clone(&self.storage), self.budget.clone());
        Ok(Self { geometry, storage, layers, budget, source: self.source })
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
