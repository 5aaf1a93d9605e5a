//! The median of the box around each voxel.
//!
//! Of few voxels by a selection network on many rows' worth at once; of more by a histogram that slides along x. The histogram
//! counts ranks among the voxels of a block, so that it is exact for any numbers.

use super::super::evaluate::Scratch;
use super::super::{Volume, VolumeError, invalid};
use crate::geometry::Region;

/// Voxels of the largest box: 15 × 15 × 15 fits, and 63 × 63 of an image.
const BOX_MAX: usize = 4096;
/// Voxels of the largest box whose median is selected by a network.
const NETWORK_MAX: usize = 27;
/// Voxels that are selected side by side.
const LANES: usize = 8;
/// Voxels of a block with what lies around it, where ranks are counted: they fit 16 bits.
const RANKED_MAX: usize = 1 << 16;

type Lanes = [f32; LANES];

impl Volume {
    /// The median of the box of `radius` voxels on each side; NaN is larger than any number. See `filters.median`.
    pub fn median(&self, radius: [usize; 3]) -> Result<Self, VolumeError> {
        let sides = radius.map(|r| r.saturating_mul(2).saturating_add(1));
        let voxels = sides.iter().fold(1usize, |n, &s| n.saturating_mul(s));
        if voxels > BOX_MAX {
            return Err(invalid(format!("a radius of {radius:?} voxels makes a box of more than {BOX_MAX}")));
        }
        if voxels == 1 {
            return self.materialize();
        }
        let edge = if voxels <= NETWORK_MAX { [512, 16, 8] } else { block_edge(sides) };
        self.computed(&self.geometry, edge, |block, out, scratch| {
            let grown = self.around(block, radius, scratch);
            let window = Window { block, radius, sides };
            if voxels <= NETWORK_MAX && !grown.iter().any(|v| v.is_nan()) {
                window.by_network(&grown, out);
            } else {
                window.by_histogram(&grown, out, scratch);
            }
            scratch.give(grown);
            Ok(())
        })
    }
}

/// A block as long along x as ranks allow: what slides need not begin anew so often.
fn block_edge(sides: [usize; 3]) -> [usize; 3] {
    let (mut y, mut z) = (16, 16);
    loop {
        let plane = (y + sides[1] - 1) * (z + sides[2] - 1);
        let x = (RANKED_MAX / plane).saturating_sub(sides[0] - 1);
        if x >= 2 * sides[0] || y == 1 {
            return [x.clamp(1, 512), y, z];
        }
        (y, z) = (y / 2, z / 2);
    }
}

struct Window {
    block: Region,
    radius: [usize; 3],
    sides: [usize; 3],
}

impl Window {
    /// Where the row of the grown block begins that lies at `dy`, `dz` of the window of row `y`, `z` of the block.
    fn row(&self, y: usize, z: usize) -> usize {
        let [nx, ny] = [0, 1].map(|a| self.block.size[a] + 2 * self.radius[a]);
        (z * ny + y) * nx
    }

    /// The rows of the grown block that the window of a row of the block holds.
    fn rows(&self, y: usize, z: usize, rows: &mut Vec<usize>) {
        rows.clear();
        let [_, sy, sz] = self.sides;
        rows.extend((0..sz).flat_map(|dz| (0..sy).map(move |dy| (dy, dz))).map(|(dy, dz)| self.row(y + dy, z + dz)));
    }

    fn by_network(&self, grown: &[f32], out: &mut [f32]) {
        let width = self.block.size[0];
        let (mut rows, mut places) = (Vec::new(), Vec::new());
        for (i, out) in out.chunks_exact_mut(width).enumerate() {
            self.rows(i % self.block.size[1], i / self.block.size[1], &mut rows);
            places.clear();
            places.extend(rows.iter().flat_map(|row| (0..self.sides[0]).map(move |dx| row + dx)));
            let mut x = 0;
            while x + LANES <= width {
                let median = select(&places, |place| {
                    *grown[place + x..].first_chunk().expect("a window lies in the grown block")
                });
                out[x..x + LANES].copy_from_slice(&median);
                x += LANES;
            }
            for (x, out) in out.iter_mut().enumerate().skip(x) {
                *out = select(&places, |place| [grown[place + x]; LANES])[0];
            }
        }
    }

    fn by_histogram(&self, grown: &[f32], out: &mut [f32], scratch: &mut Scratch) {
        let mut sorted = scratch.take(grown.len());
        sorted.copy_from_slice(grown);
        sorted.sort_unstable_by(order);
        sorted.dedup_by(|a, b| order(a, b).is_eq());
        let rank = |v: &f32| sorted.partition_point(|s| order(s, v).is_lt()) as u16;
        let ranks: Vec<u16> = grown.iter().map(rank).collect();
        let (width, half) = (self.block.size[0], self.sides.iter().product::<usize>() / 2);
        let (mut counts, mut rows) = (Counts::new(), Vec::new());
        for (i, out) in out.chunks_exact_mut(width).enumerate() {
            self.rows(i % self.block.size[1], i / self.block.size[1], &mut rows);
            let column = |counts: &mut Counts, x: usize, one: u16| {
                rows.iter().for_each(|row| counts.add(ranks[row + x], one));
            };
            (0..self.sides[0] - 1).for_each(|x| column(&mut counts, x, 1));
            for (x, out) in out.iter_mut().enumerate() {
                column(&mut counts, x + self.sides[0] - 1, 1);
                *out = sorted[counts.at(half)];
                column(&mut counts, x, MINUS_ONE);
            }
            (width..width + self.sides[0] - 1).for_each(|x| column(&mut counts, x, MINUS_ONE));
        }
        scratch.give(sorted);
    }
}

/// By value; NaN last, whatever its sign.
fn order(a: &f32, b: &f32) -> std::cmp::Ordering {
    a.partial_cmp(b).unwrap_or_else(|| a.is_nan().cmp(&b.is_nan()))
}

/// Takes one away, in arithmetic that wraps.
const MINUS_ONE: u16 = u16::MAX;

/// How often each rank is in the window: each by itself, and 256 together.
struct Counts {
    fine: Vec<u16>,
    coarse: [u16; 256],
    /// Of those that [`Counts::at`] looks at first, and how many are in those before them.
    first: usize,
    below: u16,
}

impl Counts {
    fn new() -> Self {
        Self { fine: vec![0; RANKED_MAX], coarse: [0; 256], first: 0, below: 0 }
    }

    fn add(&mut self, rank: u16, count: u16) {
        let (rank, group) = (usize::from(rank), usize::from(rank >> 8));
        self.fine[rank] = self.fine[rank].wrapping_add(count);
        self.coarse[group] = self.coarse[group].wrapping_add(count);
        self.below = self.below.wrapping_add(if group < self.first { count } else { 0 });
    }

    /// The rank before which so many lie; the window holds more than that.
    fn at(&mut self, before: usize) -> usize {
        let before = before as u16;
        while self.below > before {
            self.first -= 1;
            self.below -= self.coarse[self.first];
        }
        while self.below + self.coarse[self.first] <= before {
            self.below += self.coarse[self.first];
            self.first += 1;
        }
        let mut left = before - self.below;
        let group = &self.fine[self.first << 8..][..256];
        let mut at = 0;
        // Sixteen at a time first: their sum is quickly known.
        for sixteen in group.chunks_exact(16) {
            let sum: u16 = sixteen.iter().sum();
            if sum > left {
                break;
            }
            left -= sum;
            at += 16;
        }
        while group[at] <= left {
            left -= group[at];
            at += 1;
        }
        (self.first << 8) + at
    }
}

/// The median of as many values as there are places, an odd number: the smallest and the largest of a little more than half of
/// them cannot be it and make room for the next, until three are left.
fn select(places: &[usize], value: impl Fn(usize) -> Lanes) -> Lanes {
    let mut kept = [[0.0; LANES]; NETWORK_MAX / 2 + 2];
    let first = places.len() / 2 + 2;
    let (begin, rest) = places.split_at(first.min(places.len()));
    for (k, place) in kept.iter_mut().zip(begin) {
        *k = value(*place);
    }
    let mut count = begin.len();
    let mut rest = rest.iter();
    loop {
        extremes_outside(&mut kept[..count]);
        match rest.next() {
            Some(place) => kept[0] = value(*place),
            None => return kept[1],
        }
        count -= 1;
    }
}

/// Puts the smallest first and the largest last.
fn extremes_outside(values: &mut [Lanes]) {
    let count = values.len();
    for i in 0..count / 2 {
        exchange(values, i, count - 1 - i);
    }
    let middle = count / 2;
    for i in 1..count.div_ceil(2) {
        exchange(values, 0, i);
    }
    for i in middle..count - 1 {
        exchange(values, i, count - 1);
    }
}

/// The smaller of two places to the first.
fn exchange(values: &mut [Lanes], first: usize, second: usize) {
    let (a, b) = (values[first], values[second]);
    for lane in 0..LANES {
        let less = a[lane] < b[lane];
        values[first][lane] = if less { a[lane] } else { b[lane] };
        values[second][lane] = if less { b[lane] } else { a[lane] };
    }
}
