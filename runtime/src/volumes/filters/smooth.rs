//! Convolution with a Gaussian, axis by axis, and the length of the gradient.

use super::super::evaluate::BLOCK;
use super::super::{Volume, VolumeError, invalid};
use crate::geometry::Vec3;

/// Standard deviations at which a Gaussian ends, as in scipy.
const TRUNCATE: f64 = 4.0;
/// The widest Gaussian, voxels.
const SIGMA_MAX: f64 = 100.0;
/// Voxels that are summed up together, in registers.
const LANES: usize = 16;

impl Volume {
    /// Convolved with a Gaussian of `sigma` mm along each axis; 0 leaves an axis as it is. See `filters.gaussian`.
    pub fn gaussian(&self, sigma: Vec3) -> Result<Self, VolumeError> {
        let (spacing, size) = (self.geometry.spacing(), self.geometry.size());
        let voxels = [0, 1, 2].map(|a| sigma[a] / spacing[a]);
        if !(0..3).all(|a| sigma[a] >= 0.0 && voxels[a] <= SIGMA_MAX) {
            return Err(invalid(format!(
                "a sigma of {sigma:?} mm is not from 0 to {SIGMA_MAX} voxels of {spacing:?} mm"
            )));
        }
        // Along an axis of one voxel, all voxels are that of the edge.
        let [x, y, z] = [0, 1, 2].map(|a| if size[a] == 1 { vec![1.0] } else { kernel(voxels[a]) });
        let planar = if x.len() + y.len() == 2 { self.clone() } else { self.in_planes(&x, &y)? };
        if z.len() == 1 { Ok(planar) } else { planar.along_z(&z) }
    }

    fn in_planes(&self, x: &[f32], y: &[f32]) -> Result<Self, VolumeError> {
        let radius = [x.len() - 1, y.len() - 1, 0];
        let rows = (BLOCK / self.geometry.size()[0].min(BLOCK)).max(radius[1]).max(1);
        // The rows around are made also where the volume has none: what is wide is cut, so that buffers stay as small.
        let columns = (8 * BLOCK / (rows + 2 * radius[1])).clamp(1, BLOCK);
        let edge = [columns, rows, 1];
        self.computed(&self.geometry, edge, |block, out, scratch| {
            let grown = self.around(block, radius, scratch);
            let [width, height] = [block.size[0], block.size[1]];
            let mut rows = scratch.take(width * (height + 2 * radius[1]));
            for (row, from) in rows.chunks_exact_mut(width).zip(grown.chunks_exact(width + 2 * radius[0])) {
                convolve(row, x, |k| &from[k..k + width]);
            }
            for (i, row) in out.chunks_exact_mut(width).enumerate() {
                convolve(row, y, |k| &rows[(i + k) * width..][..width]);
            }
            scratch.give(rows);
            scratch.give(grown);
            Ok(())
        })
    }

    fn along_z(&self, kernel: &[f32]) -> Result<Self, VolumeError> {
        let radius = kernel.len() - 1;
        // Columns of half a row's width stay in the second-level cache.
        let edge = [256, 1, (4 * radius).max(64)];
        self.computed(&self.geometry, edge, |block, out, scratch| {
            let grown = self.around(block, [0, 0, radius], scratch);
            let width = block.size[0];
            for (i, row) in out.chunks_exact_mut(width).enumerate() {
                convolve(row, kernel, |k| &grown[(i + k) * width..][..width]);
            }
            scratch.give(grown);
            Ok(())
        })
    }

    /// Length of the gradient by central differences: the unit of the voxels per mm. See `filters.gradient-magnitude`.
    pub fn gradient_magnitude(&self) -> Result<Self, VolumeError> {
        let size = self.geometry.size();
        let radius = size.map(|n| usize::from(n > 1));
        let per_mm = self.geometry.spacing().map(|s| (0.5 / s) as f32);
        let edge = [512, 16, 16];
        self.computed(&self.geometry, edge, |block, out, scratch| {
            let grown = self.around(block, radius, scratch);
            let whole = [0, 1, 2].map(|a| block.size[a] + 2 * radius[a]);
            let width = block.size[0];
            let row = |x: usize, y: usize, z: usize| &grown[(z * whole[1] + y) * whole[0] + x..][..width];
            let [rx, ry, rz] = radius;
            for (i, out) in out.chunks_exact_mut(width).enumerate() {
                let (y, z) = (i % block.size[1], i / block.size[1]);
                let pairs = [
                    (row(0, y + ry, z + rz), row(2 * rx, y + ry, z + rz)),
                    (row(rx, y, z + rz), row(rx, y + 2 * ry, z + rz)),
                    (row(rx, y + ry, z), row(rx, y + ry, z + 2 * rz)),
                ];
                out.fill(0.0);
                for ((low, high), per_mm) in pairs.into_iter().zip(per_mm) {
                    for ((o, l), h) in out.iter_mut().zip(low).zip(high) {
                        let slope = (h - l) * per_mm;
                        *o += slope * slope;
                    }
                }
                out.iter_mut().for_each(|o| *o = o.sqrt());
            }
            scratch.give(grown);
            Ok(())
        })
    }
}

/// Weights of a Gaussian of `sigma` voxels: the middle one, then those of each distance.
fn kernel(sigma: f64) -> Vec<f32> {
    let radius = (TRUNCATE * sigma + 0.5) as usize;
    let weight = |k: usize| if k == 0 { 1.0 } else { (-0.5 * (k as f64 / sigma).powi(2)).exp() };
    let weights: Vec<f64> = (0..=radius).map(weight).collect();
    let sum = weights[0] + 2.0 * weights[1..].iter().sum::<f64>();
    weights.into_iter().map(|w| (w / sum) as f32).collect()
}

/// The weighted sum of rows: `row(radius + k)` is the one `k` after that in the middle.
fn convolve<'r>(out: &mut [f32], kernel: &[f32], row: impl Fn(usize) -> &'r [f32]) {
    let radius = kernel.len() - 1;
    let (chunks, rest) = out.as_chunks_mut::<LANES>();
    for (i, chunk) in chunks.iter_mut().enumerate() {
        let at = |k: usize| row(k)[i * LANES..].first_chunk::<LANES>().expect("a row is as long as what is made of it");
        let middle = at(radius);
        let mut sums = [0.0; LANES];
        for (s, m) in sums.iter_mut().zip(middle) {
            *s = kernel[0] * m;
        }
        for (k, weight) in kernel.iter().enumerate().skip(1) {
            let (before, after) = (at(radius - k), at(radius + k));
            for ((s, b), a) in sums.iter_mut().zip(before).zip(after) {
                *s += weight * (b + a);
            }
        }
        *chunk = sums;
    }
    let done = chunks.len() * LANES;
    for (i, o) in rest.iter_mut().enumerate() {
        let at = |k: usize| row(k)[done + i];
        let pairs = kernel.iter().enumerate().skip(1);
        *o = pairs.fold(kernel[0] * at(radius), |sum, (k, weight)| sum + weight * (at(radius - k) + at(radius + k)));
    }
}
