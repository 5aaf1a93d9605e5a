//! What follows from how often values occur: percentiles, equalisation, a threshold between two kinds of voxels.

use rayon::prelude::*;

use super::super::evaluate::{BLOCK, Scratch, blocks};
use super::super::storage::Voxels;
use super::super::{Volume, VolumeError, invalid};
use crate::geometry::Region;

/// Percentiles of one call.
const PERCENTILES_MAX: usize = 100;
/// Bins of the finest histogram.
const BINS_MAX: u32 = 1 << 16;
/// Groups of numbers, by the upper half of their keys, and that of -∞ before them.
const GROUPS: std::ops::Range<usize> = 0x7f..0xff80;
/// Voxels after which counters of 32 bits are read.
const COUNTED_MAX: usize = 1 << 30;
/// Counters that are not read: several, so that one need not wait for itself.
const OTHERS: usize = 16;
/// Bins in which Otsu's threshold is looked for.
const OTSU_BINS: usize = 256;

/// Values that occur, rising, and how often each does.
type Occurrences = (Vec<f32>, Vec<u64>);

impl Volume {
    /// Values below which `at` percent of the finite voxels lie, between two of them in proportion. See
    /// `filters.percentiles`.
    ///
    /// Exact: whole numbers as they are stored are counted each by itself, others by the upper half of their bits, and then,
    /// where a percentile lies, by the lower.
    pub fn percentiles(&self, at: &[f32]) -> Result<Vec<f32>, VolumeError> {
        if at.is_empty() || at.len() > PERCENTILES_MAX || !at.iter().all(|p| (0.0..=100.0).contains(p)) {
            return Err(invalid(format!("percentiles are 1 to {PERCENTILES_MAX} numbers from 0 to 100")));
        }
        if let Some((values, counts)) = self.occurrences()? {
            let value = |rank| f64::from(values[at_rank(&counts, rank).0]);
            return Ok(places(at, &counts)?.into_iter().map(|place| between(place, value)).collect());
        }
        let mut upper = self.counted(1 << 16, |v| (key(v) >> 16) as usize)?;
        // What is not finite lies at both ends, and shares its groups with no number.
        upper[..=GROUPS.start].fill(0);
        upper[GROUPS.end..].fill(0);
        let places = places(at, &upper)?;
        let mut groups: Vec<usize> =
            places.iter().flat_map(|(a, b, _)| [*a, *b]).map(|r| at_rank(&upper, r).0).collect();
        groups.sort_unstable();
        groups.dedup();
        // Counters of the groups that are asked for come one after the other; those of all others are a few that nobody reads.
        let mut of_group = vec![usize::MAX; 1 << 16];
        groups.iter().enumerate().for_each(|(place, group)| of_group[*group] = place << 16);
        let others = groups.len() << 16;
        let lower = self.counted(others + OTHERS, |v| {
            let key = key(v) as usize;
            match of_group[key >> 16] {
                usize::MAX => others + key % OTHERS,
                first => first + (key & 0xffff),
            }
        })?;
        let value = |rank: u64| {
            let (group, before) = at_rank(&upper, rank);
            let place = groups.binary_search(&group).expect("the group of every rank was counted");
            let (low, _) = at_rank(&lower[place << 16..][..1 << 16], rank - before);
            f64::from(number((group << 16 | low) as u32))
        };
        Ok(places.into_iter().map(|place| between(place, value)).collect())
    }

    /// The finite values that there are, rising, and how often each occurs, where voxels are stored as whole numbers: these are
    /// few enough to be counted each by itself.
    fn occurrences(&self) -> Result<Option<Occurrences>, VolumeError> {
        let at = |block: Region| self.as_stored(block).map_or(0..0, |(_, at)| at);
        let Some((voxels, _)) = self.as_stored(self.geometry.region()) else { return Ok(None) };
        // The smallest number, the line that makes values of them, and how many there are of each from it on.
        let (least, slope, intercept, counts) = match voxels {
            Voxels::U8(stored) => {
                let tally = |block, tally: &mut Tally, _: &mut Scratch| tally.add(&stored[at(block)], usize::from);
                (0.0, 1.0, 0.0, self.tallied(1 << 8, tally)?)
            }
            Voxels::U16 { stored, slope, intercept } => {
                let tally = |block, tally: &mut Tally, _: &mut Scratch| tally.add(&stored[at(block)], usize::from);
                (0.0, *slope, *intercept, self.tallied(1 << 16, tally)?)
            }
            Voxels::I16 { stored, slope, intercept } => {
                let place = |v: i16| usize::from(v as u16 ^ 1 << 15);
                let tally = |block, tally: &mut Tally, _: &mut Scratch| tally.add(&stored[at(block)], place);
                (f32::from(i16::MIN), *slope, *intercept, self.tallied(1 << 16, tally)?)
            }
            Voxels::F32(_) | Voxels::Runs(_) => return Ok(None),
        };
        let found = counts.into_iter().enumerate().filter(|(_, count)| *count > 0);
        let found = found.map(|(place, count)| ((place as f32 + least) * slope + intercept, count));
        let mut found: Vec<(f32, u64)> = found.filter(|(value, _)| value.is_finite()).collect();
        if slope < 0.0 {
            found.reverse();
        }
        Ok(Some(found.into_iter().unzip()))
    }

    /// `(v - a) / (b - a)`, limited to 0..1, where `low` and `high` percent of the finite voxels lie below a and b. A volume
    /// in which these are the same becomes 0. See `filters.normalise`.
    pub fn normalise(&self, low: f32, high: f32) -> Result<Self, VolumeError> {
        if low.is_nan() || high.is_nan() || low >= high {
            return Err(invalid(format!("the percentiles {low} and {high} are not one below the other")));
        }
        let [a, b] = *self.percentiles(&[low, high])? else { return Err(invalid("two percentiles")) };
        let width = b - a;
        if !width.is_finite() {
            return Err(invalid(format!("the percentiles {a:e} and {b:e} lie farther apart than the largest number")));
        }
        if width > 0.0 { self.scaled(a, width) } else { self.affine(0.0, 0.0) }
    }

    /// Each value becomes the part of the finite voxels that lie below it, from a histogram of `bins` bins. See
    /// `filters.equalise`.
    pub fn equalise(&self, bins: u32) -> Result<Self, VolumeError> {
        if !(1..=BINS_MAX).contains(&bins) {
            return Err(invalid(format!("{bins} bins are not 1 to {BINS_MAX}")));
        }
        let histogram = self.histogram(bins as usize)?;
        let mut sum = 0;
        let total = histogram.counts.iter().sum::<u64>() as f64;
        let parts: Vec<f64> = histogram
            .counts
            .iter()
            .map(|count| {
                sum += count;
                sum as f64 / total
            })
            .collect();
        self.computed(&self.geometry, [BLOCK.min(4096), 8, 8], |block, out, scratch| {
            self.block(block, out, scratch);
            for v in out.iter_mut().filter(|v| !v.is_nan()) {
                // Between the middles of two bins in proportion, beyond the outer ones as they are.
                let at = (histogram.place(*v) - 0.5).clamp(0.0, (parts.len() - 1) as f64);
                let low = at as usize;
                let high = (low + 1).min(parts.len() - 1);
                *v = (parts[low] + (parts[high] - parts[low]) * (at - low as f64)) as f32;
            }
            Ok(())
        })
    }

    /// The value that parts voxels into two kinds whose means lie apart most (Otsu 1979), over 256 bins.
    pub(super) fn otsu(&self) -> Result<f32, VolumeError> {
        let histogram = self.histogram(OTSU_BINS)?;
        let middle = |bin: usize| histogram.low + (bin as f64 + 0.5) * histogram.width / OTSU_BINS as f64;
        let all: u64 = histogram.counts.iter().sum();
        let weighted: f64 = histogram.counts.iter().enumerate().map(|(b, n)| *n as f64 * middle(b)).sum();
        let (mut below, mut sum) = (0u64, 0.0);
        let mut best = (f64::NEG_INFINITY, middle(0));
        for (bin, count) in histogram.counts.iter().enumerate().take(OTSU_BINS - 1) {
            below += count;
            sum += *count as f64 * middle(bin);
            let above = all - below;
            if below > 0 && above > 0 {
                let apart = sum / below as f64 - (weighted - sum) / above as f64;
                let between = below as f64 * above as f64 * apart * apart;
                if between > best.0 {
                    best = (between, middle(bin));
                }
            }
        }
        Ok(best.1 as f32)
    }

    /// How many finite voxels lie in each of `bins` bins from the smallest to the largest.
    fn histogram(&self, bins: usize) -> Result<Histogram, VolumeError> {
        let s = self.statistics(None)?;
        let (low, high) = (f64::from(s.minimum), f64::from(s.maximum));
        // As numpy: a constant lies in the middle of a bin of width 1.
        let (low, width) = if high > low { (low, high - low) } else { (low - 0.5, 1.0) };
        let mut histogram = Histogram { low, width, scale: 0.0, counts: Vec::new() };
        histogram.scale = bins as f64 / width;
        // One counter more, for what is not finite.
        histogram.counts =
            self.counted(bins + 1, |v| if v.is_finite() { (histogram.place(v) as usize).min(bins - 1) } else { bins })?;
        histogram.counts.truncate(bins);
        Ok(histogram)
    }

    /// How many voxels each counter is of, as `counter` says of their values.
    fn counted(&self, counters: usize, counter: impl Fn(f32) -> usize + Sync) -> Result<Vec<u64>, VolumeError> {
        self.tallied(counters, |block, tally, scratch| {
            let mut values = scratch.take(block.voxels());
            self.block(block, &mut values, scratch);
            tally.add(&values, &counter);
            scratch.give(values);
        })
    }

    /// The sums of so many counters, to which `tally` adds each block.
    fn tallied(
        &self,
        counters: usize,
        tally: impl Fn(Region, &mut Tally, &mut Scratch) + Sync,
    ) -> Result<Vec<u64>, VolumeError> {
        let blocks = blocks(self.geometry.region());
        let workers = rayon::current_num_threads();
        let _charge = self.budget.charge((counters * (2 * 8 * workers + 8)) as u64)?;
        let count = |blocks: &[Region]| {
            let (mut scratch, mut sums) = (Scratch::default(), vec![0u64; counters]);
            let mut counts = Tally { even: vec![0; counters], odd: vec![0; counters] };
            let mut fresh = 0;
            for (i, block) in blocks.iter().enumerate() {
                self.budget.check_time()?;
                tally(*block, &mut counts, &mut scratch);
                fresh += block.voxels();
                if fresh > COUNTED_MAX || i + 1 == blocks.len() {
                    for (sum, n) in sums.iter_mut().zip(counts.even.iter_mut().zip(&mut counts.odd)) {
                        *sum += u64::from(std::mem::take(n.0)) + u64::from(std::mem::take(n.1));
                    }
                    fresh = 0;
                }
            }
            Ok::<_, VolumeError>(sums)
        };
        let each = blocks.par_chunks(blocks.len().div_ceil(workers)).map(count).collect::<Result<Vec<_>, _>>()?;
        let add = |mut a: Vec<u64>, b: Vec<u64>| {
            a.iter_mut().zip(b).for_each(|(a, b)| *a += b);
            a
        };
        Ok(each.into_iter().reduce(add).unwrap_or_default())
    }
}

/// Counters. Neighbours are mostly alike: of two, each has its own, and none waits for the other.
struct Tally {
    even: Vec<u32>,
    odd: Vec<u32>,
}

impl Tally {
    fn add<T: Copy>(&mut self, values: &[T], counter: impl Fn(T) -> usize) {
        let (pairs, rest) = values.as_chunks::<2>();
        for [a, b] in pairs {
            self.even[counter(*a)] += 1;
            self.odd[counter(*b)] += 1;
        }
        rest.iter().for_each(|v| self.even[counter(*v)] += 1);
    }
}

/// For each percentile the ranks on both sides of it, and how far it lies behind the first.
fn places(at: &[f32], counts: &[u64]) -> Result<Vec<(u64, u64, f64)>, VolumeError> {
    let Some(last) = counts.iter().sum::<u64>().checked_sub(1) else {
        return Err(invalid("the volume has no finite voxel"));
    };
    let place = |p: &f32| {
        let place = f64::from(*p) / 100.0 * last as f64;
        let rank = (place.floor() as u64).min(last);
        (rank, (rank + 1).min(last), place - rank as f64)
    };
    Ok(at.iter().map(place).collect())
}

/// The value at such a place, of those of ranks.
fn between((a, b, part): (u64, u64, f64), value: impl Fn(u64) -> f64) -> f32 {
    let (a, b) = (value(a), value(b));
    (a + (b - a) * part) as f32
}

struct Histogram {
    low: f64,
    width: f64,
    /// Bins to the unit of the voxels.
    scale: f64,
    counts: Vec<u64>,
}

impl Histogram {
    /// Where a value lies, bins; 0 is the beginning of the first.
    fn place(&self, v: f32) -> f64 {
        (f64::from(v) - self.low) * self.scale
    }
}

/// Whole numbers in the order of the values.
fn key(v: f32) -> u32 {
    let bits = v.to_bits();
    if bits >> 31 == 1 { !bits } else { bits | 1 << 31 }
}

/// The value of a key.
fn number(key: u32) -> f32 {
    f32::from_bits(if key >> 31 == 1 { key & !(1 << 31) } else { !key })
}

/// The counter in which a rank lies, and how many lie in those before.
fn at_rank(counts: &[u64], rank: u64) -> (usize, u64) {
    let mut before = 0;
    for (at, count) in counts.iter().enumerate() {
        if rank < before + count {
            return (at, before);
        }
        before += count;
    }
    (counts.len().saturating_sub(1), before)
}
