//! Volumes become tensors and come back; slabs become one.

use super::grid::{Volume, centre, invalid};
use super::job::Tensor;
use crate::types::{Extent, Failure, Geometry, Interpolation, TensorType, Vec3};

impl Volume {
    pub(crate) fn to_tensor(&self, ty: TensorType, slices_as_batch: bool) -> Result<Tensor, Failure> {
        let Extent { x, y, z } = self.geometry.size;
        let dimensions = if slices_as_batch { vec![z, 1, y, x] } else { vec![1, 1, z, y, x] };
        let each: fn(f32) -> Vec<u8> = match ty {
            TensorType::Fp32 => |v| v.to_le_bytes().into(),
            TensorType::Fp64 => |v| f64::from(v).to_le_bytes().into(),
            // `as` saturates.
            TensorType::U8 => |v| vec![v.round_ties_even() as u8],
            TensorType::I32 => |v| (v.round_ties_even() as i32).to_le_bytes().into(),
            TensorType::I64 => |v| (v.round_ties_even() as i64).to_le_bytes().into(),
            TensorType::Fp16 | TensorType::Bf16 => {
                return Err(Failure::Unavailable(format!("{ty:?} tensors are not part of the fake host")));
            }
        };
        Ok(Tensor { dimensions, ty, data: self.voxels.iter().flat_map(|&v| each(v)).collect() })
    }
}

pub(crate) fn from_list(voxels: &[f32], on: Geometry) -> Result<Volume, Failure> {
    Volume::new(on, voxels.to_vec())
}

pub(crate) fn from_tensor(tensor: &Tensor, channel: u32, like: &Volume) -> Result<Volume, Failure> {
    let (channels, scores) = channels(tensor, like)?;
    match scores.into_iter().nth(channel as usize) {
        Some(volume) => Ok(volume),
        None => invalid(format!("channel {channel} of a tensor with {channels}")),
    }
}

pub(crate) fn argmax(tensor: &Tensor, like: &Volume, onto: &Volume) -> Result<Volume, Failure> {
    let (_, scores) = channels(tensor, like)?;
    let grid = onto.geometry;
    Volume::from_fn(grid, |index| {
        let point = grid.to_patient(centre(index));
        let mut best = (0, f32::NEG_INFINITY);
        for (channel, volume) in scores.iter().enumerate() {
            match volume.sample(point, Interpolation::Linear) {
                Some(score) if score > best.1 => best = (channel, score),
                _ => {}
            }
        }
        best.0 as f32
    })
}

/// Each channel of a [1, c, z, y, x] or [z, c, y, x] tensor as a volume.
fn channels(tensor: &Tensor, like: &Volume) -> Result<(usize, Vec<Volume>), Failure> {
    let Extent { x, y, z } = like.geometry.size;
    let elements = tensor.to_f32()?;
    let plane = (x * y) as usize;
    let (count, slice_of) = match *tensor.dimensions.as_slice() {
        [1, c, d, h, w] if (d, h, w) == (z, y, x) => (c as usize, [z as usize, 1]),
        [d, c, h, w] if (d, h, w) == (z, y, x) => (c as usize, [1, c as usize]),
        _ => return invalid(format!("a tensor of {:?} does not lie on a grid of {:?}", tensor.dimensions, [x, y, z])),
    };
    let [per_channel, per_slice] = slice_of;
    let volume = |channel: usize| {
        let slices = (0..z as usize).map(|slice| (channel * per_channel + slice * per_slice) * plane);
        Volume::new(like.geometry, slices.flat_map(|start| &elements[start..start + plane]).copied().collect())
    };
    Ok((count, (0..count).map(volume).collect::<Result<_, _>>()?))
}

pub(crate) fn softmax(tensor: &Tensor, axis: u32) -> Result<Tensor, Failure> {
    let elements = tensor.to_f32()?;
    let dimensions: Vec<usize> = tensor.dimensions.iter().map(|&d| d as usize).collect();
    let Some(&length) = dimensions.get(axis as usize) else {
        return invalid(format!("axis {axis} of a tensor of {dimensions:?}"));
    };
    let inner: usize = dimensions.iter().skip(axis as usize + 1).product();
    let mut out = elements.clone();
    for first in (0..elements.len()).filter(|i| (i / inner).is_multiple_of(length)) {
        let along = || (0..length).map(|n| first + n * inner);
        let largest = along().map(|i| elements[i]).fold(f32::NEG_INFINITY, f32::max);
        let sum: f32 = along().map(|i| (elements[i] - largest).exp()).sum();
        for i in along() {
            out[i] = (elements[i] - largest).exp() / sum;
        }
    }
    let data = out.iter().flat_map(|e| e.to_le_bytes()).collect();
    Ok(Tensor { data, ..tensor.clone() })
}

pub(crate) fn stack(slabs: &[&Volume]) -> Result<Volume, Failure> {
    let Some(first) = slabs.first() else { return invalid("no slabs to stack") };
    let mut voxels = Vec::new();
    let mut depth = 0;
    for (n, slab) in slabs.iter().enumerate() {
        let size = slab.geometry.size;
        let expected = first.geometry.to_patient(Vec3::new(0.0, 0.0, depth.into()));
        let at = slab.geometry.origin;
        if (size.x, size.y) != (first.geometry.size.x, first.geometry.size.y)
            || (0..3).any(|a| (at[a] - expected[a]).abs() > 1e-3)
        {
            return invalid(format!("slab {n} does not continue the grid of the first"));
        }
        depth += size.z;
        voxels.extend_from_slice(&slab.voxels);
    }
    let size = Extent { z: depth, ..first.geometry.size };
    Volume::new(Geometry { size, ..first.geometry }, voxels)
}
