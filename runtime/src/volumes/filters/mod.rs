//! New voxels out of those around them: what a module does to a volume before a network sees it, or to a mask after.
//!
//! Every filter computes and stores its result, on all threads, in parts: a part is asked for with the voxels around it
//! ([`Volume::around`]), through all layers of its source, so that nothing is stored on the way but where a filter says so.
//! Between two parts the job's time is looked at. Beyond the border, voxels are those of the edge unless a filter says
//! otherwise.
//!
//! | | compared with |
//! | --- | --- |
//! | `smooth`: Gaussian; gradient magnitude | scipy; SimpleITK |
//! | `median` | scipy, SimpleITK |
//! | `morphology`, on masks of bits (`bits`) | scipy |
//! | `project`: along an axis, or within a slab | numpy, SimpleITK |
//! | `histogram`: percentiles, equalisation, Otsu's threshold | numpy |
//! | `cubic`: B-spline sampling | SimpleITK |
//! | `masks`: body, breast | the same steps in scipy |

mod bits;
mod cubic;
mod histogram;
mod masks;
mod median;
mod morphology;
mod project;
mod smooth;

use rayon::prelude::*;

pub use cubic::Sampling;
pub use morphology::Morphology;
pub use project::{Axis, Projection};

use super::evaluate::{BLOCK, Scratch, cut};
use super::storage::Voxels;
use super::{Volume, VolumeError};
use crate::geometry::{Geometry, Region};

/// Voxels of a part, unless threads would have none: lists of parts stay short, whatever the shape of a grid.
const PART: usize = BLOCK / 8;

/// Cuts a grid into parts that are contiguous in it: slices, at least twice as many parts as there are threads, or else rows
/// of one slice, or parts of one row. What is computed does not depend on it.
fn parts(size: [usize; 3], slices_max: usize) -> [usize; 3] {
    let [nx, ny, nz] = size;
    let wanted = 2 * rayon::current_num_threads();
    if nz >= wanted {
        [nx, ny, nz.div_ceil(wanted).clamp(1, slices_max.max(PART / (nx * ny)))]
    } else if ny > 1 {
        [nx, ny.div_ceil(wanted).clamp(1, (BLOCK / nx).max(1)), 1]
    } else {
        [nx.div_ceil(wanted).clamp(1, BLOCK), 1, 1]
    }
}

impl Volume {
    /// The voxels of `block` and of `radius` more on each side, those of the edge beyond the border.
    fn around(&self, block: Region, radius: [usize; 3], scratch: &mut Scratch) -> Vec<f32> {
        let size = self.geometry.size();
        let start = [0, 1, 2].map(|a| block.start[a].saturating_sub(radius[a]));
        let end = [0, 1, 2].map(|a| (block.start[a] + block.size[a] + radius[a]).min(size[a]));
        let inside = Region { start, size: [0, 1, 2].map(|a| end[a] - start[a]) };
        let whole = [0, 1, 2].map(|a| block.size[a] + 2 * radius[a]);
        let mut found = scratch.take(inside.voxels());
        self.block(inside, &mut found, scratch);
        if inside.size == whole {
            return found;
        }
        let mut grown = scratch.take(whole.iter().product());
        let before = [0, 1, 2].map(|a| radius[a] - (block.start[a] - start[a]));
        let [wx, ix] = [whole[0], inside.size[0]];
        for (i, row) in grown.chunks_exact_mut(wx).enumerate() {
            let nearest = |at: usize, a: usize| at.saturating_sub(before[a]).min(inside.size[a] - 1);
            let (y, z) = (nearest(i % whole[1], 1), nearest(i / whole[1], 2));
            let from = &found[(z * inside.size[1] + y) * ix..][..ix];
            let (first, rest) = row.split_at_mut(before[0]);
            let (middle, last) = rest.split_at_mut(ix);
            first.fill(from[0]);
            middle.copy_from_slice(from);
            last.fill(from[ix - 1]);
        }
        scratch.give(found);
        grown
    }

    /// A stored volume on `grid`, in which `compute` writes boxes of at most `edge` voxels, x fastest.
    fn computed(
        &self,
        grid: &Geometry,
        edge: [usize; 3],
        compute: impl Fn(Region, &mut [f32], &mut Scratch) -> Result<(), VolumeError> + Sync,
    ) -> Result<Self, VolumeError> {
        let charge = self.budget.charge(grid.voxels() as u64 * 4)?;
        let mut voxels = vec![0.0; grid.voxels()];
        let part = parts(grid.size(), edge[2]);
        let work = |scratch: &mut Scratch, (part, out): (Region, &mut [f32])| {
            for block in cut(part, edge) {
                self.budget.check_time()?;
                let mut made = scratch.take(block.voxels());
                compute(block, &mut made, scratch)?;
                for (i, row) in made.chunks_exact(block.size[0]).enumerate() {
                    let y = block.start[1] + i % block.size[1] - part.start[1];
                    let z = block.start[2] + i / block.size[1] - part.start[2];
                    let at = (z * part.size[1] + y) * part.size[0] + block.start[0] - part.start[0];
                    out[at..at + row.len()].copy_from_slice(row);
                }
                scratch.give(made);
            }
            Ok::<(), VolumeError>(())
        };
        parts_of(grid.region(), part, 1, &mut voxels).into_par_iter().try_for_each_init(Scratch::default, work)?;
        Ok(self.made(grid.clone(), Voxels::F32(voxels), charge))
    }
}

/// The parts of a region, each with its part of a buffer that has `unit` elements a voxel.
fn parts_of<T>(region: Region, part: [usize; 3], unit: usize, mut out: &mut [T]) -> Vec<(Region, &mut [T])> {
    let take = |part: Region| {
        let (head, tail) = std::mem::take(&mut out).split_at_mut(part.voxels() * unit);
        out = tail;
        (part, head)
    };
    cut(region, part).into_iter().map(take).collect()
}

#[cfg(test)]
mod tests;
