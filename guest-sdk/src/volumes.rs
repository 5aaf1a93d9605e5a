//! Grids of voxels that live on the host.
//!
//! Every operation gives a new handle and leaves its argument as it was. Point operations and views cost nothing
//! until voxels are needed. Every operation fails with `limit` when the result would pass the job's host memory, and
//! with `invalid` for an argument that makes no sense; `wit/imaging.wit` says which.

use crate::error::Error;
use crate::sys;
use crate::tensor::Tensor;
use crate::types::{Component, Extent, Geometry, Interpolation, Region, Statistics, TensorType, Vec3};

/// A grid of voxels on the host. Dropping it gives the memory back.
#[derive(Debug)]
pub struct Volume(pub(crate) sys::volumes::Volume);

impl Volume {
    /// Where its voxels lie in the patient.
    #[must_use]
    pub fn geometry(&self) -> Geometry {
        self.0.geometry()
    }

    /// The part inside `to`, which must not be empty and must lie inside the volume.
    pub fn crop(&self, to: Region) -> Result<Self, Error> {
        wrap(self.0.crop(to))
    }

    /// Grown to `size` with voxels of value `fill`, the content centred (the odd voxel goes behind).
    pub fn pad(&self, size: Extent, fill: f32) -> Result<Self, Error> {
        wrap(self.0.pad(size, fill))
    }

    /// On a grid of `spacing` mm over the same field of view, without smoothing. For labels use
    /// [`Interpolation::Nearest`].
    pub fn resample(&self, spacing: Vec3, how: Interpolation) -> Result<Self, Error> {
        wrap(self.0.resample(spacing, how))
    }

    /// On the grid of another volume, `fill` outside: how a result returns to its source.
    pub fn resample_like(&self, like: &Self, how: Interpolation, fill: f32) -> Result<Self, Error> {
        wrap(self.0.resample_like(&like.0, how, fill))
    }

    /// Axes reordered and reversed so that x, y and z increase towards what `code` says: `LPS` is the patient
    /// coordinate system of DICOM, `RAS` that of NIfTI. The grid does not turn. `invalid` unless `code` is one
    /// upper-case letter of each of L/R, P/A and S/I.
    pub fn orient(&self, code: &str) -> Result<Self, Error> {
        wrap(self.0.orient(code))
    }

    /// Each value limited to `low..=high`.
    pub fn clip(&self, low: f32, high: f32) -> Result<Self, Error> {
        wrap(self.0.clip(low, high))
    }

    /// `scale · v + shift`.
    pub fn affine(&self, scale: f32, shift: f32) -> Result<Self, Error> {
        wrap(self.0.affine(scale, shift))
    }

    /// `(v - (centre - width / 2)) / width`, limited to 0..1 (PS3.3 C.11.2.1.3.2, LINEAR_EXACT).
    pub fn window(&self, centre: f32, width: f32) -> Result<Self, Error> {
        wrap(self.0.window(centre, width))
    }

    /// `(v - mean) / deviation` over the whole volume; a constant volume becomes 0.
    pub fn z_score(&self) -> Result<Self, Error> {
        wrap(self.0.z_score())
    }

    /// Of the finite voxels of the whole volume or of a part.
    pub fn statistics(&self, within: Option<Region>) -> Result<Statistics, Error> {
        Ok(self.0.statistics(within)?)
    }

    /// 1 where `low <= v <= high`, 0 elsewhere.
    pub fn threshold(&self, low: f32, high: f32) -> Result<Self, Error> {
        wrap(self.0.threshold(low, high))
    }

    /// 1 where the value is `value`, 0 elsewhere.
    pub fn label(&self, value: u32) -> Result<Self, Error> {
        wrap(self.0.label(value))
    }

    /// 6-connected regions of equal, non-zero labels with at least `minimum_voxels`, largest first.
    pub fn components(&self, minimum_voxels: u64) -> Result<Vec<Component>, Error> {
        Ok(self.0.components(minimum_voxels)?)
    }

    /// The label volume with only the `count` largest components of each label kept, the rest set to 0.
    pub fn keep_largest(&self, count: u32) -> Result<Self, Error> {
        wrap(self.0.keep_largest(count))
    }

    /// Shape [1, 1, z, y, x]: one volume, for a 3-D network. Integer types round to nearest and saturate; NaN
    /// becomes 0.
    pub fn to_tensor(&self, ty: TensorType) -> Result<Tensor, Error> {
        Ok(Tensor(self.0.to_tensor(ty, false)?))
    }

    /// Shape [z, 1, y, x]: a batch of slices, for a 2-D network. Otherwise as [`Volume::to_tensor`].
    pub fn to_slice_tensor(&self, ty: TensorType) -> Result<Tensor, Error> {
        Ok(Tensor(self.0.to_tensor(ty, true)?))
    }

    /// Copies voxels into the module's own memory, x fastest, then y, then z. `limit` past `guest_read_mib`
    /// (64: 16 Mi voxels) a call.
    pub fn read(&self, what: Region) -> Result<Vec<f32>, Error> {
        Ok(self.0.read(what)?)
    }
}

/// One channel of a network's output as a volume on the grid of `like`. `tensor` is [1, c, z, y, x] or
/// [z, c, y, x] with the size of `like`, of any type; else `invalid`.
pub fn from_tensor(tensor: &Tensor, channel: u32, like: &Volume) -> Result<Volume, Error> {
    wrap(sys::volumes::from_tensor(&tensor.0, channel, &like.0))
}

/// The channel with the largest score, as a label volume on the grid of `onto`.
///
/// `scores` lie on the grid of `like`, as in [`from_tensor`], and are interpolated linearly onto `onto` before they
/// are compared; 0 outside of `like`. Ties go to the lower channel, NaN never wins. At most 256 channels.
pub fn argmax(scores: &Tensor, like: &Volume, onto: &Volume) -> Result<Volume, Error> {
    wrap(sys::volumes::argmax(&scores.0, &like.0, &onto.0))
}

/// Softmax over `axis` (0 is the outermost) of a floating-point tensor, of the same shape and type.
pub fn softmax(tensor: &Tensor, axis: u32) -> Result<Tensor, Error> {
    Ok(Tensor(sys::volumes::softmax(&tensor.0, axis)?))
}

/// Volumes of the same size in x and y put behind one another along z: how a result computed slab by slab comes
/// together. They must lie where the grid of the first, continued, says.
pub fn stack<'a>(slabs: impl IntoIterator<Item = &'a Volume>) -> Result<Volume, Error> {
    let slabs: Vec<&sys::volumes::Volume> = slabs.into_iter().map(|slab| &slab.0).collect();
    wrap(sys::volumes::stack(&slabs))
}

/// Voxels that the module computed itself, x fastest, then y, then z; `invalid` unless there are as many as `on` has.
pub fn from_list(voxels: &[f32], on: Geometry) -> Result<Volume, Error> {
    wrap(sys::volumes::from_list(voxels, on))
}

pub(crate) fn wrap(result: Result<sys::volumes::Volume, crate::types::Failure>) -> Result<Volume, Error> {
    Ok(Volume(result?))
}
