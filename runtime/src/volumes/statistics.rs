//! Minimum, maximum, mean and deviation.

use rayon::prelude::*;

use super::evaluate::{BLOCK, Scratch, blocks};
use super::storage::Voxels;
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
    /// Sums are in f64, of whole numbers as they are stored exact, and over the same blocks in the same order whatever the number
    /// of threads.
    pub fn statistics(&self, within: Option<Region>) -> Result<Statistics, VolumeError> {
        let region = within.unwrap_or_else(|| self.geometry.region());
        let size = self.geometry.size();
        if !region.fits(size) {
            return Err(invalid(format!("the region {region:?} is empty or leaves the volume of {size:?} voxels")));
        }
        let of_blocks: Vec<Moments> = blocks(region)
            .into_par_iter()
            .map_init(Scratch::default, |scratch, block| {
                if let Some(moments) = self.stored_moments(block) {
                    return moments;
                }
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

    /// Of a block of whole numbers as they are stored, if they, or they and a whole number, are the values.
    fn stored_moments(&self, block: Region) -> Option<Moments> {
        let (voxels, at) = self.as_stored(block)?;
        let whole = |shift: f32| shift.trunc() == shift && shift.abs() <= SHIFT_MAX;
        match voxels {
            Voxels::U8(stored) => Some(Moments::of_whole(&stored[at], 0.0)),
            Voxels::U16 { stored, slope: 1.0, intercept } if whole(*intercept) => {
                Some(Moments::of_whole(&stored[at], *intercept))
            }
            Voxels::I16 { stored, slope: 1.0, intercept } if whole(*intercept) => {
                Some(Moments::of_whole(&stored[at], *intercept))
            }
            _ => None,
        }
    }
}

/// Added to a number of 16 bits, whole numbers up to it give what an f32 holds exactly.
const SHIFT_MAX: f32 = 1_048_576.0;
/// Whole numbers of 16 bits that are looked at together: they stay in the first-level cache, and their sum fits 32 bits.
const PIECE: usize = 4096;

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

    /// Of whole numbers, `shift` added to each: their sums are exact.
    fn of_whole<T: Copy + Ord>(values: &[T], shift: f32) -> Self
    where
        i32: From<T>,
    {
        const { assert!(PIECE * u16::MAX as usize <= i32::MAX as usize && BLOCK <= 1 << 20) };
        let Some(&any) = values.first() else { return Self::NONE };
        let (mut minimum, mut maximum, mut sum, mut squares) = (any, any, 0i64, 0u64);
        // One after the other, so that each is done to as many at once as there are in a register of the processor.
        for piece in values.chunks(PIECE) {
            let (low, high) = piece.iter().fold((any, any), |(low, high), v| (low.min(*v), high.max(*v)));
            (minimum, maximum) = (minimum.min(low), maximum.max(high));
            sum += i64::from(piece.iter().map(|v| i32::from(*v)).sum::<i32>());
            // Of 16 bits at most, so that a square fits 32 without a sign.
            squares += piece.iter().map(|v| u64::from(square(i32::from(*v)))).sum::<u64>();
        }
        let (count, more) = (values.len() as i64, shift as i64);
        let apart = i128::from(count) * i128::from(squares) - i128::from(sum) * i128::from(sum);
        Self {
            minimum: i32::from(minimum) as f32 + shift,
            maximum: i32::from(maximum) as f32 + shift,
            count: count as u64,
            mean: (sum + count * more) as f64 / count as f64,
            squares: apart as f64 / count as f64,
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

fn square(v: i32) -> u32 {
    v.wrapping_mul(v) as u32
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
