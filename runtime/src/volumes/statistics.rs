//! Minimum, maximum, mean and deviation.

use rayon::prelude::*;

use super::evaluate::{Scratch, blocks};
use super::{Volume, VolumeError, invalid};
use crate::geometry::Region;

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

impl Volume {
    /// Of the whole volume or of a part. `Invalid` when no voxel is finite. See `volume.statistics` in the contract.
    ///
    /// Sums are in f64 and over the same blocks in the same order whatever the number of threads.
    pub fn statistics(&self, within: Option<Region>) -> Result<Statistics, VolumeError> {
        let region = within.unwrap_or_else(|| self.geometry.region());
        let size = self.geometry.size();
        if !region.fits(size) {
            return Err(invalid(format!("the region {region:?} is empty or leaves the volume of {size:?} voxels")));
        }
        let of_blocks: Vec<Moments> = blocks(region)
            .into_par_iter()
            .map_init(Scratch::default, |scratch, block| {
                let mut values = scratch.take(block.voxels());
                self.block(block, &mut values, scratch);
                let moments = Moments::of(&values);
                scratch.give(values);
                moments
            })
            .collect();
        let all = of_blocks.into_iter().fold(Moments::NONE, Moments::and);
        if all.count == 0 {
            return Err(invalid("the volume has no finite voxel there"));
        }
        // Rounding must not make a constant look as if it varied.
        let variance = if all.minimum == all.maximum { 0.0 } else { all.squares / all.count as f64 };
        Ok(Statistics {
            minimum: all.minimum,
            maximum: all.maximum,
            mean: all.mean as f32,
            deviation: variance.sqrt() as f32,
            count: all.count,
        })
    }
}

/// Of some values; `squares` is the sum of squared distances from their mean.
#[derive(Debug, Clone, Copy)]
struct Moments {
    minimum: f32,
    maximum: f32,
    count: u64,
    mean: f64,
    squares: f64,
}

/// Sums that are kept side by side, so that the processor need not wait for one addition before the next.
const LANES: usize = 8;

impl Moments {
    const NONE: Self = Self { minimum: f32::INFINITY, maximum: f32::NEG_INFINITY, count: 0, mean: 0.0, squares: 0.0 };

    fn of(values: &[f32]) -> Self {
        let mut minimum = [f32::INFINITY; LANES];
        let mut maximum = [f32::NEG_INFINITY; LANES];
        let mut count = [0u32; LANES];
        let mut sum = [0.0f64; LANES];
        each_lane(values, |lane, v| {
            let finite = v.is_finite();
            // Neither is ever NaN, so these are as good as `f32::min` and quicker.
            let (low, high) = if finite { (v, v) } else { (f32::INFINITY, f32::NEG_INFINITY) };
            minimum[lane] = if low < minimum[lane] { low } else { minimum[lane] };
            maximum[lane] = if high > maximum[lane] { high } else { maximum[lane] };
            count[lane] += u32::from(finite);
            sum[lane] += f64::from(if finite { v } else { 0.0 });
        });
        let count: u64 = count.iter().map(|&n| u64::from(n)).sum();
        if count == 0 {
            return Self::NONE;
        }
        let mean = sum.iter().sum::<f64>() / count as f64;
        let mut squares = [0.0f64; LANES];
        each_lane(values, |lane, v| {
            let distance = if v.is_finite() { f64::from(v) - mean } else { 0.0 };
            squares[lane] += distance * distance;
        });
        Self {
            minimum: minimum.into_iter().fold(f32::INFINITY, f32::min),
            maximum: maximum.into_iter().fold(f32::NEG_INFINITY, f32::max),
            count,
            mean,
            squares: squares.iter().sum(),
        }
    }

    /// Of both sets of values (Chan, Golub and LeVeque 1979).
    fn and(self, other: Self) -> Self {
        if self.count == 0 || other.count == 0 {
            return if self.count == 0 { other } else { self };
        }
        let count = self.count + other.count;
        let apart = other.mean - self.mean;
        let share = other.count as f64 / count as f64;
        Self {
            minimum: self.minimum.min(other.minimum),
            maximum: self.maximum.max(other.maximum),
            count,
            mean: self.mean + apart * share,
            squares: self.squares + other.squares + apart * apart * self.count as f64 * share,
        }
    }
}

/// Deals values out to the lanes in turn.
#[inline(always)]
fn each_lane(values: &[f32], mut f: impl FnMut(usize, f32)) {
    let (chunks, rest) = values.as_chunks::<LANES>();
    for chunk in chunks {
        for (lane, v) in chunk.iter().enumerate() {
            f(lane, *v);
        }
    }
    for (lane, v) in rest.iter().enumerate() {
        f(lane, *v);
    }
}
