//! The channel with the largest score, on the grid of the scores or on another.
//!
//! On another grid, scores are interpolated before they are compared. Most voxels need no interpolation: where one
//! channel wins at every corner of a cell, it wins everywhere in the cell, for a weighted mean of larger numbers is
//! larger. Ties hold too: a lower channel that loses at every corner is strictly smaller at each, a higher one at most
//! equal. Only cells whose corners disagree, and those with an infinite winner, are computed.

use std::ops::Range;

use rayon::prelude::*;

use super::evaluate::blocks_of;
use super::resample::{self, Mapping, Tap};
use super::storage::Voxels;
use super::tensors::{Layout, with_elements};
use super::view::{self, View};
use super::{Interpolation, Volume, VolumeError, invalid};
use crate::geometry::{Region, Vec3};
use crate::tensor::Tensor;

/// Channels that a label of 8 bits tells apart.
const MAX_CHANNELS: usize = 256;

/// The label of a voxel or cell without one channel that wins, finite, at every corner.
const OPEN: u16 = u16::MAX;

/// The channel with the largest score, as labels on the grid of `onto`. See `volumes.argmax` in the contract.
///
/// Where all scores are NaN, and outside of `like`, the result is 0. Scores are compared in f64.
pub fn argmax(t: &Tensor, like: &Volume, onto: &Volume) -> Result<Volume, VolumeError> {
    let layout = Layout::of(t, like)?;
    if layout.channels > MAX_CHANNELS {
        return Err(invalid(format!("argmax of {} channels, more than {MAX_CHANNELS}", layout.channels)));
    }
    let mut grid = onto.geometry.clone();
    let mut lies = resample::mapping(&like.geometry, &grid)?;
    // A grid with its axes in another order is computed in that of the scores, and then seen in its own.
    let mut back = view::AS_IS;
    if let Mapping::Parallel { order, .. } = lies {
        back = order;
        grid = view::reordered(&grid, view::inverse(order))?;
        lies = resample::mapping(&like.geometry, &grid)?;
    }
    let charge = onto.budget.charge(grid.voxels() as u64)?;
    let mut labels = vec![0; grid.voxels()];
    with_elements!(t, |values, number| {
        let scores = Scores { values, number, layout };
        match lies {
            Mapping::Parallel { scale, offset, .. } if same(scale, offset, layout.size, grid.size()) => {
                scores.plain(&mut labels, |label, _| label as u8);
            }
            _ => {
                // Two bytes a voxel, while the labels are computed.
                let _charge = onto.budget.charge(like.geometry.voxels() as u64 * 2)?;
                let mut winners = vec![0u16; like.geometry.voxels()];
                scores.plain(&mut winners, |label, finite| if finite { label } else { OPEN });
                match lies {
                    Mapping::Parallel { scale, offset, .. } => {
                        scores.onto_parallel(&winners, scale, offset, grid.region(), &mut labels);
                    }
                    Mapping::Oblique { matrix, offset } => {
                        scores.onto_oblique(&winners, matrix, offset, grid.region(), &mut labels);
                    }
                }
            }
        }
    });
    // The scores were made of what `like` was made of.
    let source = like.source.or(onto.source);
    let result = Volume { source, ..onto.made(grid, Voxels::U8(labels), charge) };
    let size = result.geometry.size();
    result.viewed(View::order(size, back), onto.geometry.clone())
}

fn same(scale: Vec3, offset: Vec3, like: [usize; 3], onto: [usize; 3]) -> bool {
    like == onto && (0..3).all(|a| resample::shift(scale[a], offset[a], onto[a]) == Some(0))
}

/// The elements of a tensor, and what they are.
struct Scores<'a, const N: usize, F> {
    values: &'a [[u8; N]],
    number: F,
    layout: Layout,
}

/// Cells next to one another along x: samples `samples` lie between voxels `low` and `high`.
struct Cell {
    low: usize,
    high: usize,
    samples: Range<usize>,
}

impl<const N: usize, F: Fn([u8; N]) -> f64 + Sync> Scores<'_, N, F> {
    /// The winner of each voxel, as `label` makes it of the channel and of whether its score is finite.
    fn plain<T: Send>(&self, out: &mut [T], label: impl Fn(u16, bool) -> T + Sync) {
        let nx = self.layout.size[0];
        let region = Region { start: [0; 3], size: self.layout.size };
        blocks_of(region, 1, out).into_par_iter().for_each_init(
            || (Vec::new(), Vec::new()),
            |(best, winner), (block, out)| {
                best.resize(block.size[0], f64::NAN);
                winner.resize(block.size[0], 0u16);
                for (row, out) in out.chunks_exact_mut(block.size[0]).enumerate() {
                    let (y, z) = (block.start[1] + row % block.size[1], block.start[2] + row / block.size[1]);
                    best.fill(f64::NAN);
                    winner.fill(0);
                    for channel in 0..self.layout.channels {
                        let first = self.layout.plane(channel, z) + y * nx + block.start[0];
                        let scores = &self.values[first..first + block.size[0]];
                        for ((b, w), s) in best.iter_mut().zip(winner.iter_mut()).zip(scores) {
                            let score = (self.number)(*s);
                            let wins = beats(score, *b);
                            *b = if wins { score } else { *b };
                            *w = if wins { channel as u16 } else { *w };
                        }
                    }
                    for ((o, w), b) in out.iter_mut().zip(winner.iter()).zip(best.iter()) {
                        *o = label(*w, b.is_finite());
                    }
                }
            },
        );
    }

    /// Axis by axis: sample `i` lies at `offset + scale · i`.
    fn onto_parallel(&self, winners: &[u16], scale: Vec3, offset: Vec3, region: Region, labels: &mut [u8]) {
        let inside = [0, 1, 2].map(|a| resample::inside(scale[a], offset[a], region.size[a], self.layout.size[a]));
        blocks_of(region, 1, labels).into_par_iter().for_each(|(block, out)| {
            let covered = [0, 1, 2].map(|a| {
                let end = (block.start[a] + block.size[a]).min(inside[a].end);
                block.start[a].max(inside[a].start)..end
            });
            if covered.iter().any(|range| range.is_empty()) {
                return;
            }
            let taps = [0, 1, 2].map(|a| {
                let tap =
                    |i: usize| Tap::new(offset[a] + scale[a] * i as f64, self.layout.size[a], Interpolation::Linear);
                covered[a].clone().map(tap).collect::<Vec<_>>()
            });
            let first = [0, 1, 2].map(|a| covered[a].start - block.start[a]);
            self.block_parallel(winners, &taps, first, block, out);
        });
    }

    /// One block; `taps` are those of the samples inside, which begin at `first` of the block.
    fn block_parallel(&self, winners: &[u16], taps: &[Vec<Tap>; 3], first: [usize; 3], block: Region, out: &mut [u8]) {
        let [xs, ys, zs] = taps;
        let cells = cells_of(xs);
        let from = cells.first().map_or(0, |cell| cell.low);
        let width = cells.last().map_or(0, |cell| cell.high + 1 - from);
        let mut columns = vec![OPEN; width];
        let mut ends = Ends::new(self.layout.channels);
        for (k, z) in zs.iter().enumerate() {
            let mut rows_before = None;
            for (j, y) in ys.iter().enumerate() {
                if rows_before.replace((y.low, y.high)) != Some((y.low, y.high)) {
                    self.agree(winners, [from, from + width], y, z, &mut columns);
                }
                let row = ((first[2] + k) * block.size[1] + first[1] + j) * block.size[0] + first[0];
                let row = &mut out[row..row + xs.len()];
                let mut next = 0;
                while let Some(cell) = cells.get(next) {
                    next += 1;
                    let label = agreed(columns[cell.low - from], columns[cell.high - from]);
                    if label == OPEN {
                        self.cell(cell, xs, y, z, &mut ends, &mut row[cell.samples.clone()]);
                        continue;
                    }
                    let mut end = cell.samples.end;
                    // Cells of one label are written together.
                    while let Some(cell) = cells.get(next)
                        && columns[cell.low - from] == label
                        && columns[cell.high - from] == label
                    {
                        end = cell.samples.end;
                        next += 1;
                    }
                    row[cell.samples.start..end].fill(label as u8);
                }
            }
        }
    }

    /// For each voxel along x, the label that the up to four rows around a row of samples agree on.
    fn agree(&self, winners: &[u16], [from, to]: [usize; 2], y: &Tap, z: &Tap, columns: &mut [u16]) {
        let [nx, ny, _] = self.layout.size;
        let row = |y: usize, z: usize| &winners[(z * ny + y) * nx..][from..to];
        columns.copy_from_slice(row(y.low, z.low));
        for (y, z) in [(y.high, z.low), (y.low, z.high), (y.high, z.high)] {
            for (c, w) in columns.iter_mut().zip(row(y, z)) {
                *c = agreed(*c, *w);
            }
        }
    }

    /// The labels of the samples of a cell whose corners disagree.
    fn cell(&self, cell: &Cell, xs: &[Tap], y: &Tap, z: &Tap, ends: &mut Ends, out: &mut [u8]) {
        let nx = self.layout.size[0];
        let edges = [
            ((1.0 - y.weight) * (1.0 - z.weight), y.low, z.low),
            (y.weight * (1.0 - z.weight), y.high, z.low),
            ((1.0 - y.weight) * z.weight, y.low, z.high),
            (y.weight * z.weight, y.high, z.high),
        ];
        ends.low.fill(0.0);
        ends.high.fill(0.0);
        // A weight of 0 must not make NaN of an infinite score.
        for (weight, y, z) in edges.into_iter().filter(|(weight, ..)| *weight > 0.0) {
            for (channel, (low, high)) in ends.low.iter_mut().zip(&mut ends.high).enumerate() {
                let first = self.layout.plane(channel, z) + y * nx;
                *low += weight * (self.number)(self.values[first + cell.low]);
                *high += weight * (self.number)(self.values[first + cell.high]);
            }
        }
        for (tap, out) in xs[cell.samples.clone()].iter().zip(out) {
            let score = |(low, high): (&f64, &f64)| {
                if tap.weight > 0.0 { low * (1.0 - tap.weight) + high * tap.weight } else { *low }
            };
            *out = winner(ends.low.iter().zip(&ends.high).map(score));
        }
    }

    /// Point by point: sample `i` lies at `offset + matrix · i`.
    fn onto_oblique(&self, winners: &[u16], matrix: [Vec3; 3], offset: Vec3, region: Region, labels: &mut [u8]) {
        let [nx, ny, _] = self.layout.size;
        blocks_of(region, 1, labels).into_par_iter().for_each(|(block, out)| {
            for (i, out) in out.iter_mut().enumerate() {
                let row = i / block.size[0];
                let index = [
                    block.start[0] + i % block.size[0],
                    block.start[1] + row % block.size[1],
                    block.start[2] + row / block.size[1],
                ];
                let at = resample::position(&matrix, offset, index);
                if !(0..3).all(|a| resample::lies_in(at[a], self.layout.size[a])) {
                    continue;
                }
                let taps = [0, 1, 2].map(|a| Tap::new(at[a], self.layout.size[a], Interpolation::Linear));
                let corner = |c: usize| {
                    let [x, y, z] = [0, 1, 2].map(|a| if c >> a & 1 == 1 { taps[a].high } else { taps[a].low });
                    winners[(z * ny + y) * nx + x]
                };
                let label = (1..8).fold(corner(0), |label, c| agreed(label, corner(c)));
                *out = if label == OPEN { self.sample(taps) } else { label as u8 };
            }
        });
    }

    /// The label of one sample, computed.
    fn sample(&self, taps: [Tap; 3]) -> u8 {
        let nx = self.layout.size[0];
        let corners = (0..8usize).map(|c| {
            let weight = |a: usize| if c >> a & 1 == 1 { taps[a].weight } else { 1.0 - taps[a].weight };
            let [x, y, z] = [0, 1, 2].map(|a| if c >> a & 1 == 1 { taps[a].high } else { taps[a].low });
            (weight(0) * weight(1) * weight(2), y * nx + x, z)
        });
        let score = |channel: usize| {
            let weighted = corners.clone().filter(|(weight, ..)| *weight > 0.0);
            weighted.map(|(w, at, z)| w * (self.number)(self.values[self.layout.plane(channel, z) + at])).sum()
        };
        winner((0..self.layout.channels).map(score))
    }
}

/// Scores of each channel at both ends of a cell.
struct Ends {
    low: Vec<f64>,
    high: Vec<f64>,
}

impl Ends {
    fn new(channels: usize) -> Self {
        Self { low: vec![0.0; channels], high: vec![0.0; channels] }
    }
}

fn cells_of(taps: &[Tap]) -> Vec<Cell> {
    let mut cells: Vec<Cell> = Vec::new();
    for (i, tap) in taps.iter().enumerate() {
        match cells.last_mut() {
            Some(cell) if (cell.low, cell.high) == (tap.low, tap.high) => cell.samples.end = i + 1,
            _ => cells.push(Cell { low: tap.low, high: tap.high, samples: i..i + 1 }),
        }
    }
    cells
}

fn agreed(a: u16, b: u16) -> u16 {
    if a == b { a } else { OPEN }
}

/// Whether a score beats the best so far of the lower channels; NaN is none.
fn beats(score: f64, best: f64) -> bool {
    score > best || (best.is_nan() && !score.is_nan())
}

fn winner(scores: impl Iterator<Item = f64>) -> u8 {
    let mut best = (0, f64::NAN);
    for (channel, score) in scores.enumerate() {
        if beats(score, best.1) {
            best = (channel as u8, score);
        }
    }
    best.0
}
