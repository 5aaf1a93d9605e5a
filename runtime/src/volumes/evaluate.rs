//! Lazy evaluation: the voxels of a region, block by block, through all layers in one pass.
//!
//! A [`Volume`] is a storage and a list of layers on it. Evaluation asks the last layer for a block; the layer asks
//! the one below for what it needs of it, down to the storage. Blocks are at most [`BLOCK`] voxels, and layers cut
//! what they ask for to about as much, so a thread works in a few MiB whatever the size of the volume: these buffers
//! are not charged to the budget.

use std::ops::{Range, RangeInclusive};

use rayon::prelude::*;

use super::points::{self, PointOp};
use super::resample::{Oblique, Resample};
use super::storage::{Kind, Storage, Voxels};
use super::view::View;
use super::{Volume, VolumeError, not_labels};
use crate::geometry::Region;

/// What is done to the voxels below.
#[derive(Debug, Clone)]
pub(super) enum Layer {
    View(View),
    Points(Vec<PointOp>),
    Resample(Resample),
    Oblique(Oblique),
}

/// Voxels in the largest block. Few in tests, so that small volumes are cut as large ones are.
pub(super) const BLOCK: usize = if cfg!(test) { 64 } else { 1 << 17 };
/// Voxels in the smallest, of a region that has as many.
const SMALLEST_BLOCK: usize = BLOCK / 8;
/// 2²³: added to a whole number below it, it leaves that in the lowest bits.
const WHOLE: f32 = 8_388_608.0;

/// Cuts a region into blocks that are contiguous in it, in order: whole slices, whole rows or parts of rows.
/// It depends on the region alone, so that sums over blocks come out the same on every machine.
pub(super) fn blocks(region: Region) -> Vec<Region> {
    let target = (region.voxels() / 64).clamp(SMALLEST_BLOCK, BLOCK);
    let [nx, ny, _] = region.size;
    let step = if nx * ny <= target {
        [nx, ny, target / (nx * ny)]
    } else if nx <= target {
        [nx, target / nx, 1]
    } else {
        [target, 1, 1]
    };
    cut(region, step)
}

/// Cuts a region into boxes of `step` voxels, less at its ends, x fastest.
pub(super) fn cut(region: Region, step: [usize; 3]) -> Vec<Region> {
    let [nx, ny, nz] = region.size;
    let mut blocks = Vec::new();
    for z in (0..nz).step_by(step[2]) {
        for y in (0..ny).step_by(step[1]) {
            for x in (0..nx).step_by(step[0]) {
                blocks.push(Region {
                    start: [region.start[0] + x, region.start[1] + y, region.start[2] + z],
                    size: [step[0].min(nx - x), step[1].min(ny - y), step[2].min(nz - z)],
                });
            }
        }
    }
    blocks
}

/// The blocks of a region, each with its part of a buffer that has `unit` elements a voxel.
pub(super) fn blocks_of<T>(region: Region, unit: usize, mut out: &mut [T]) -> Vec<(Region, &mut [T])> {
    let cut = |block: Region| {
        let (head, tail) = std::mem::take(&mut out).split_at_mut(block.voxels() * unit);
        out = tail;
        (block, head)
    };
    blocks(region).into_iter().map(cut).collect()
}

/// Pieces of a region, in order, whose voxels stay in the first-level cache from one layer to the next. Where a layer would
/// look at voxels below it again for each of them, it is the region.
fn pieces(layers: &[Layer], region: Region) -> Vec<Region> {
    let apart = |layer: &Layer| match layer {
        Layer::Points(_) => true,
        Layer::View(view) => view.keeps_order(),
        Layer::Resample(_) | Layer::Oblique(_) => false,
    };
    if !layers.iter().all(apart) {
        return vec![region];
    }
    let [nx, ny, _] = region.size;
    let many = |n: usize| (points::PIECE / n).max(1);
    cut(region, if nx * ny <= points::PIECE { [nx, ny, many(nx * ny)] } else { [nx, many(nx), 1] })
}

/// Buffers that a thread uses again and again.
#[derive(Default)]
pub(super) struct Scratch(Vec<Vec<f32>>);

impl Scratch {
    pub(super) fn take(&mut self, length: usize) -> Vec<f32> {
        let mut buffer = self.0.pop().unwrap_or_default();
        buffer.resize(length, 0.0);
        buffer
    }

    pub(super) fn give(&mut self, buffer: Vec<f32>) {
        self.0.push(buffer);
    }
}

/// The voxels of `region`, which lies in the volume, into `out`, which has as many elements.
pub(super) fn evaluate(storage: &Storage, layers: &[Layer], region: Region, out: &mut [f32], scratch: &mut Scratch) {
    let Some((layer, below)) = layers.split_last() else {
        return storage.load(region, View::whole(storage.size()).placement(region, region), out);
    };
    let source = |region: Region, out: &mut [f32], scratch: &mut Scratch| {
        evaluate(storage, below, region, out, scratch);
    };
    match layer {
        Layer::Points(ops) => {
            let mut rest = out;
            for piece in pieces(below, region) {
                let (out, behind) = std::mem::take(&mut rest).split_at_mut(piece.voxels());
                evaluate(storage, below, piece, out, scratch);
                points::apply(ops, out);
                rest = behind;
            }
        }
        Layer::Resample(resample) => resample.evaluate(region, out, scratch, &source),
        Layer::Oblique(oblique) => oblique.evaluate(region, out, scratch, &source),
        Layer::View(view) => {
            let Some((inside, needed)) = view.content(region) else { return out.fill(view.fill()) };
            if inside == region && view.keeps_order() && !below.is_empty() {
                return evaluate(storage, below, needed, out, scratch);
            }
            if inside != region {
                out.fill(view.fill());
            }
            let placement = view.placement(region, needed);
            if below.is_empty() {
                return storage.load(needed, placement, out);
            }
            let mut content = scratch.take(needed.voxels());
            evaluate(storage, below, needed, &mut content, scratch);
            for (i, row) in content.chunks_exact(needed.size[0]).enumerate() {
                let (y, z) = (i % needed.size[1], i / needed.size[1]);
                let at = placement.offset + y as isize * placement.strides[1] + z as isize * placement.strides[2];
                super::storage::Sink { out: &mut *out, at, stride: placement.strides[0] }.put(row, |v| v);
            }
            scratch.give(content);
        }
    }
}

impl Volume {
    /// The voxels of a block into `out`.
    pub(super) fn block(&self, block: Region, out: &mut [f32], scratch: &mut Scratch) {
        evaluate(&self.storage, &self.layers, block, out, scratch);
    }

    /// The voxels of `region` into `out`, on all threads.
    pub(super) fn fill(&self, region: Region, out: &mut [f32]) {
        blocks_of(region, 1, out)
            .into_par_iter()
            .for_each_init(Scratch::default, |scratch, (block, out)| self.block(block, out, scratch));
    }

    /// As [`Volume::fill`], of all voxels and for as long as the job has time.
    pub(super) fn fill_in_time(&self, out: &mut [f32]) -> Result<(), VolumeError> {
        blocks_of(self.geometry.region(), 1, out).into_par_iter().try_for_each_init(
            Scratch::default,
            |scratch, (block, out)| {
                self.budget.check_time()?;
                self.block(block, out, scratch);
                Ok(())
            },
        )
    }

    /// The voxels of a block as labels. Fails when one is none.
    pub(super) fn label_block(&self, block: Region, out: &mut [u16], scratch: &mut Scratch) -> Result<(), VolumeError> {
        if self.load_labels(block, out) || self.load_mask(block, out) {
            return Ok(());
        }
        let (mut fits, mut rest) = (true, out);
        for piece in pieces(&self.layers, block) {
            let (out, behind) = std::mem::take(&mut rest).split_at_mut(piece.voxels());
            let mut values = scratch.take(piece.voxels());
            self.block(piece, &mut values, scratch);
            for (o, v) in out.iter_mut().zip(&values) {
                // What is a label is then in the lowest bits, at less cost than by a cast; what is none is not what they
                // say.
                *o = (*v + WHOLE).to_bits() as u16;
                fits &= f32::from(*o) == *v;
            }
            scratch.give(values);
            rest = behind;
        }
        if fits { Ok(()) } else { Err(not_labels()) }
    }

    /// Labels that are stored as such, seen directly or through one view: copies, without a detour over `f32`.
    fn load_labels(&self, block: Region, out: &mut [u16]) -> bool {
        if self.kind() == Kind::F32 {
            return false;
        }
        let view = match self.layers.as_slice() {
            [] => View::whole(self.storage.size()),
            [Layer::View(view)] => view.clone(),
            _ => return false,
        };
        let content = view.content(block);
        if content.is_none_or(|(inside, _)| inside != block) {
            out.fill(view.fill() as u16);
        }
        if let Some((_, needed)) = content {
            self.storage.load(needed, view.placement(block, needed), out);
        }
        true
    }

    /// A mask of numbers as they are stored, without a detour over their values: these rise with the numbers, so those that a
    /// threshold lets through lie between two of them.
    fn load_mask(&self, block: Region, out: &mut [u16]) -> bool {
        let [Layer::Points(ops)] = self.layers.as_slice() else { return false };
        let [PointOp::Threshold { low, high }] = ops.as_slice() else { return false };
        let Some((voxels, at)) = self.storage.together(block) else { return false };
        match voxels {
            Voxels::I16 { stored, slope, intercept } if *slope > 0.0 => {
                let all = i16::MIN.into()..=i16::MAX.into();
                let passing = between(all, |n| n as f32 * slope + intercept, [*low, *high]);
                mark(&stored[at], passing.map(|[least, most]| [least as i16, most as i16]), out);
            }
            Voxels::U16 { stored, slope, intercept } if *slope > 0.0 => {
                let passing = between(0..=u16::MAX.into(), |n| n as f32 * slope + intercept, [*low, *high]);
                mark(&stored[at], passing.map(|[least, most]| [least as u16, most as u16]), out);
            }
            _ => return false,
        }
        true
    }

    /// The numbers of a block as they are stored, where nothing is to be done to them.
    pub(super) fn as_stored(&self, block: Region) -> Option<(&Voxels, Range<usize>)> {
        if self.layers.is_empty() { self.storage.together(block) } else { None }
    }

    /// The smallest type that holds every value, as far as the layers tell.
    pub(super) fn kind(&self) -> Kind {
        self.layers.iter().fold(self.storage.kind(), |kind, layer| match layer {
            Layer::View(view) if view.pads() => kind.max(Kind::of(view.fill())),
            Layer::View(_) => kind,
            Layer::Points(ops) => ops.last().map_or(kind, |op| op.kind()),
            Layer::Resample(resample) => kind.max(resample.kind()),
            Layer::Oblique(oblique) => kind.max(oblique.kind()),
        })
    }

    /// The same volume without layers: every voxel computed and stored, charged to the budget.
    pub fn materialize(&self) -> Result<Self, VolumeError> {
        if self.layers.is_empty() {
            return Ok(self.clone());
        }
        let (region, voxels) = (self.geometry.region(), self.geometry.voxels());
        let kind = self.kind();
        let bytes = match kind {
            Kind::U8 => 1,
            Kind::U16 => 2,
            Kind::F32 => 4,
        };
        let charge = self.budget.charge(voxels as u64 * bytes)?;
        let stored = match kind {
            Kind::U8 => Voxels::U8(self.labels_as(region, |v| v as u8)?),
            Kind::U16 => Voxels::U16 { stored: self.labels_as(region, |v| v)?, slope: 1.0, intercept: 0.0 },
            Kind::F32 => {
                let mut stored = vec![0.0; voxels];
                self.fill_in_time(&mut stored)?;
                Voxels::F32(stored)
            }
        };
        Ok(self.made(self.geometry.clone(), stored, charge))
    }

    fn labels_as<T: Default + Clone + Send>(
        &self,
        region: Region,
        convert: impl Fn(u16) -> T + Sync,
    ) -> Result<Vec<T>, VolumeError> {
        let mut stored = vec![T::default(); region.voxels()];
        blocks_of(region, 1, &mut stored).into_par_iter().try_for_each_init(
            || (Scratch::default(), Vec::new()),
            |(scratch, labels), (block, out)| {
                self.budget.check_time()?;
                labels.resize(block.voxels(), 0);
                self.label_block(block, labels, scratch)?;
                for (o, v) in out.iter_mut().zip(labels.iter()) {
                    *o = convert(*v);
                }
                Ok::<(), VolumeError>(())
            },
        )?;
        Ok(stored)
    }
}

/// The first and the last of some whole numbers whose values, which rise with them, lie in `low..=high`.
fn between(numbers: RangeInclusive<i32>, value: impl Fn(i32) -> f32, [low, high]: [f32; 2]) -> Option<[i32; 2]> {
    let first_where = |reached: &dyn Fn(f32) -> bool| {
        let (mut from, mut to) = (*numbers.start(), *numbers.end() + 1);
        while from < to {
            let middle = from + (to - from) / 2;
            if reached(value(middle)) { to = middle } else { from = middle + 1 }
        }
        from
    };
    let (first, behind) = (first_where(&|v| v >= low), first_where(&|v| v > high));
    (first < behind).then_some([first, behind - 1])
}

/// 1 for each number that is one of those between two, else 0.
fn mark<T: Copy + PartialOrd>(numbers: &[T], passing: Option<[T; 2]>, out: &mut [u16]) {
    let Some([least, most]) = passing else { return out.fill(0) };
    for (o, n) in out.iter_mut().zip(numbers) {
        *o = u16::from((*n >= least) & (*n <= most));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_whose_values_pass_lie_between_two() {
        let value = |n: i32| n as f32 * 0.5 - 3.0;
        let passing = |low, high| between(-9..=9, value, [low, high]);
        assert_eq!(passing(-4.0, -1.25), Some([-2, 3]));
        assert_eq!(passing(f32::NEG_INFINITY, f32::INFINITY), Some([-9, 9]));
        assert_eq!([passing(-2.9, -2.6), passing(2.0, 9.0), passing(-99.0, -8.0)], [None; 3]);
        let mut out = [7; 5];
        mark(&[-3i16, -2, 0, 3, 4], Some([-2, 3]), &mut out);
        assert_eq!(out, [0, 1, 1, 1, 0]);
    }

    #[test]
    fn blocks_cover_a_region_once_and_in_order() {
        for size in [[5, 7, 3], [300, 200, 40], [1 << 18, 3, 2], [1, 1, 1 << 20], [1, 1 << 20, 3]] {
            let region = Region { start: [2, 3, 4], size };
            let mut next = 0;
            for block in blocks(region) {
                assert!(block.voxels() <= BLOCK, "{block:?}");
                let [x, y, z] = [0, 1, 2].map(|a| block.start[a] - region.start[a]);
                assert_eq!((z * size[1] + y) * size[0] + x, next, "{block:?} of {size:?}");
                next += block.voxels();
            }
            assert_eq!(next, region.voxels());
        }
    }
}
