//! Voxels between voxels: samples of a volume on another grid.
//!
//! Two grids whose axes are parallel are resampled axis by axis ([`Resample`]), after the axes have been put in the
//! same order; any other pair of grids point by point ([`Oblique`]).

use super::evaluate::{BLOCK, Scratch};
use super::orient::PERMUTATIONS;
use super::storage::Kind;
use super::view::Order;
use super::{Interpolation, VolumeError};
use crate::geometry::{Geometry, Region, Vec3, cross, dot};

/// Voxels within which a sample counts as lying on a voxel centre or on the border: what rounding in f64 and in the
/// decimal numbers of DICOM leaves.
pub(super) const SNAP: f64 = 1e-6;

/// Voxels of the source that are held at once, unless a single sample needs more.
const HELD: usize = BLOCK * 4;

/// Gives the voxels of a region of the layers below.
pub(super) type Source<'a> = &'a dyn Fn(Region, &mut [f32], &mut Scratch);

/// How indices of one grid become indices of another.
#[derive(Debug, Clone)]
pub(super) enum Mapping {
    /// Once the axes of the source are in this order, index `i` lies at `offset + scale · i` of the source, for each
    /// axis by itself.
    Parallel {
        order: Order,
        scale: Vec3,
        offset: Vec3,
    },
    Oblique {
        matrix: [Vec3; 3],
        offset: Vec3,
    },
}

/// Where the voxels of `target` lie in `source`, in voxels.
pub(super) fn mapping(source: &Geometry, target: &Geometry) -> Result<Mapping, VolumeError> {
    let (inverse, s, t) = (inverse_of(source), source.spacing(), target.spacing());
    let from_source = [0, 1, 2].map(|a| target.origin()[a] - source.origin()[a]);
    let axes = target.axes();
    let cosines = [0, 1, 2].map(|r| [0, 1, 2].map(|c| dot(inverse[r], axes[c])));
    let matrix = [0, 1, 2].map(|r| [0, 1, 2].map(|c| cosines[r][c] * t[c] / s[r]));
    let offset = [0, 1, 2].map(|r| dot(inverse[r], from_source) / s[r]);
    let last = target.size().map(|n| (n - 1) as f64);
    let reach = |r: usize| offset[r].abs() + (0..3).map(|c| (matrix[r][c] * last[c]).abs()).sum::<f64>();
    if !(0..3).all(|r| reach(r).is_finite() && matrix[r].iter().all(|m| m.is_finite())) {
        return Err(VolumeError::Invalid("the two grids are too different in position or spacing".into()));
    }

    // For each axis of the target, the axis of the source along it.
    let fit = |p: &[usize; 3]| (0..3).map(|c| cosines[p[c]][c].abs()).sum::<f64>();
    let along = PERMUTATIONS.into_iter().reduce(|a, b| if fit(&b) > fit(&a) { b } else { a }).unwrap_or([0, 1, 2]);
    let askew = |c: usize| (0..3).filter(|&o| o != c).map(|o| (matrix[along[c]][o] * last[o]).abs()).sum::<f64>();
    if (0..3).any(|c| askew(c) > SNAP || matrix[along[c]][c] == 0.0) {
        return Ok(Mapping::Oblique { matrix, offset });
    }
    let order = [0, 1, 2].map(|c| (along[c], matrix[along[c]][c] < 0.0));
    let scale = [0, 1, 2].map(|c| matrix[along[c]][c].abs());
    let offset =
        order.map(|(r, backwards)| if backwards { (source.size()[r] - 1) as f64 - offset[r] } else { offset[r] });
    Ok(Mapping::Parallel { order, scale, offset })
}

/// Rows of the inverse of the matrix whose columns are the axes: these are orthonormal to 1e-3 only.
fn inverse_of(grid: &Geometry) -> [Vec3; 3] {
    let [x, y, z] = grid.axes();
    let determinant = dot(x, cross(y, z));
    [cross(y, z), cross(z, x), cross(x, y)].map(|row| row.map(|c| c / determinant))
}

/// The whole shift between two axes of which one continues the other, if they are like that over `n` voxels.
pub(super) fn shift(scale: f64, offset: f64, n: usize) -> Option<i64> {
    let whole = offset.round();
    let fits = ((scale - 1.0) * n as f64).abs() <= SNAP && (offset - whole).abs() <= SNAP && whole.abs() < 1e15;
    fits.then_some(whole as i64)
}

/// Which of `n` samples at `offset + scale · i` lie in a source of `source` voxels or half a voxel around it.
pub(super) fn inside(scale: f64, offset: f64, n: usize, source: usize) -> std::ops::Range<usize> {
    // Positions never decrease, whatever rounding does to them.
    let first_where = |reached: &dyn Fn(f64) -> bool| {
        let (mut low, mut high) = (0, n);
        while low < high {
            let middle = low + (high - low) / 2;
            if reached(offset + scale * middle as f64) { high = middle } else { low = middle + 1 }
        }
        low
    };
    let first = first_where(&|at| at >= -0.5 - SNAP);
    first..first_where(&|at| at > source as f64 - 0.5 + SNAP).max(first)
}

/// Whether a position lies among `n` voxels or half a voxel around them.
pub(super) fn lies_in(at: f64, n: usize) -> bool {
    at >= -0.5 - SNAP && at <= n as f64 - 0.5 + SNAP
}

/// Between which two voxels a sample lies, and how far from the first. They are the same when it lies on one.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Tap {
    pub(super) low: usize,
    pub(super) high: usize,
    pub(super) weight: f64,
}

impl Tap {
    /// A sample at `at` of `n` voxels; outside, the edge.
    pub(super) fn new(at: f64, n: usize, how: Interpolation) -> Self {
        let at = at.clamp(0.0, (n - 1) as f64);
        // Halves round up, as in ITK.
        let nearest = (at + 0.5 + SNAP).floor().min((n - 1) as f64);
        if how == Interpolation::Nearest || (at - nearest).abs() <= SNAP {
            return Self { low: nearest as usize, high: nearest as usize, weight: 0.0 };
        }
        let low = at.floor();
        Self { low: low as usize, high: low as usize + 1, weight: at - low }
    }
}

/// A sample on a regular grid whose axes are those of the source: `offset + scale · i`.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Resample {
    pub(super) source: [usize; 3],
    pub(super) scale: Vec3,
    pub(super) offset: Vec3,
    pub(super) how: Interpolation,
    /// Axes along which the source was reversed first: there, halves round down, which is up before the reversal.
    pub(super) reversed: [bool; 3],
}

impl Resample {
    pub(super) fn kind(&self) -> Kind {
        kind(self.how)
    }

    pub(super) fn evaluate(&self, region: Region, out: &mut [f32], scratch: &mut Scratch, source: Source<'_>) {
        let taps = [0, 1, 2].map(|a| self.taps(a, region));
        let [x, y] = [0, 1].map(|a| {
            // Positions increase, so the first and the last sample tell.
            let (first, last) = (taps[a].first(), taps[a].last());
            first.zip(last).map_or((0, 1), |(first, last)| (first.low, last.high + 1 - first.low))
        });
        if x.1 * y.1 > HELD && region.voxels() > 1 {
            let (head, tail) = halves(region, leading(region));
            let (a, b) = out.split_at_mut(head.voxels());
            self.evaluate(head, a, scratch, source);
            return self.evaluate(tail, b, scratch, source);
        }
        let mut planes = Planes {
            region: Region { start: [x.0, y.0, 0], size: [x.1, y.1, 1] },
            held: [None; 2],
            voxels: [0; 2].map(|_| scratch.take(x.1 * y.1)),
        };
        let mut lines = [0; 2].map(|_| scratch.take(x.1));
        for (slice, z) in out.chunks_exact_mut(region.size[0] * region.size[1]).zip(&taps[2]) {
            let low = planes.hold(z.low, z.high, scratch, source);
            let high = planes.hold(z.high, z.low, scratch, source);
            let (low, high) = (&planes.voxels[low], &planes.voxels[high]);
            for (row, tap) in slice.chunks_exact_mut(region.size[0]).zip(&taps[1]) {
                let [line, other] = &mut lines;
                between(low, high, z.weight, tap.low - y.0, line);
                if tap.weight > 0.0 {
                    between(low, high, z.weight, tap.high - y.0, other);
                    approach(line, other, tap.weight);
                }
                along_x(line, &taps[0], x.0, row);
            }
        }
        planes.voxels.into_iter().chain(lines).for_each(|buffer| scratch.give(buffer));
    }

    fn taps(&self, axis: usize, region: Region) -> Vec<Tap> {
        let n = self.source[axis];
        let tap = |i: usize| {
            let at = self.offset[axis] + self.scale[axis] * i as f64;
            if self.how == Interpolation::Nearest && self.reversed[axis] {
                let nearest = n - 1 - Tap::new((n - 1) as f64 - at, n, self.how).low;
                return Tap { low: nearest, high: nearest, weight: 0.0 };
            }
            Tap::new(at, n, self.how)
        };
        (region.start[axis]..region.start[axis] + region.size[axis]).map(tap).collect()
    }
}

/// The two slices of the source that the samples of one slice lie between.
struct Planes {
    region: Region,
    held: [Option<usize>; 2],
    voxels: [Vec<f32>; 2],
}

impl Planes {
    /// Which of the two holds slice `z`; `other` stays if it is held.
    fn hold(&mut self, z: usize, other: usize, scratch: &mut Scratch, source: Source<'_>) -> usize {
        if let Some(at) = self.held.iter().position(|held| *held == Some(z)) {
            return at;
        }
        let at = usize::from(self.held[0] == Some(other));
        self.region.start[2] = z;
        source(self.region, &mut self.voxels[at], scratch);
        self.held[at] = Some(z);
        at
    }
}

/// Row `y` between two slices.
fn between(low: &[f32], high: &[f32], weight: f64, y: usize, line: &mut [f32]) {
    let row = y * line.len()..(y + 1) * line.len();
    line.copy_from_slice(&low[row.clone()]);
    if weight > 0.0 {
        approach(line, &high[row], weight);
    }
}

/// Moves `line` towards `other`. Written so that equal values stay what they are.
fn approach(line: &mut [f32], other: &[f32], weight: f64) {
    let weight = weight as f32;
    for (a, b) in line.iter_mut().zip(other) {
        *a += weight * (b - *a);
    }
}

fn along_x(line: &[f32], taps: &[Tap], first: usize, out: &mut [f32]) {
    for (o, tap) in out.iter_mut().zip(taps) {
        let a = line[tap.low - first];
        // On a voxel, an infinite neighbour must not matter.
        *o = if tap.weight > 0.0 { a + tap.weight as f32 * (line[tap.high - first] - a) } else { a };
    }
}

/// A sample on a regular grid that lies in any way to the source: `offset + matrix · i`.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Oblique {
    pub(super) source: [usize; 3],
    pub(super) matrix: [Vec3; 3],
    pub(super) offset: Vec3,
    pub(super) how: Interpolation,
    /// The value outside of the source.
    pub(super) fill: f32,
}

/// Samples whose places are found side by side.
const LANES: usize = 16;
/// Added to a number, it leaves no bits for fractions.
const WHOLE: f64 = 6_755_399_441_055_744.0;
/// Beyond it, whole numbers need more than 31 bits.
const HIGHEST: f64 = 2_147_483_648.0;

/// Along one axis.
struct Lanes {
    low: [u32; LANES],
    part: [f32; LANES],
    inside: [bool; LANES],
}

/// Edge of the cubes that are looked up together, so that what they need of the source lies together too.
const TILE: usize = if cfg!(test) { 4 } else { 16 };

impl Oblique {
    pub(super) fn kind(&self) -> Kind {
        kind(self.how).max(Kind::of(self.fill))
    }

    pub(super) fn evaluate(&self, region: Region, out: &mut [f32], scratch: &mut Scratch, source: Source<'_>) {
        // A flat region is cut into larger tiles, unless these lie across so many slices of the source that they need more of
        // it than smaller ones.
        let mut edge = if region.size[2] < TILE / 2 { TILE * 4 } else { TILE };
        while edge > TILE / 2 && self.share(region, edge / 2) < self.share(region, edge) {
            edge /= 2;
        }
        for z in (0..region.size[2]).step_by(edge) {
            for y in (0..region.size[1]).step_by(edge) {
                for x in (0..region.size[0]).step_by(edge) {
                    let at = [x, y, z];
                    let tile = Region {
                        start: [0, 1, 2].map(|a| region.start[a] + at[a]),
                        size: [0, 1, 2].map(|a| edge.min(region.size[a] - at[a])),
                    };
                    self.tile(tile, region, out, scratch, source);
                }
            }
        }
    }

    fn tile(&self, tile: Region, region: Region, out: &mut [f32], scratch: &mut Scratch, source: Source<'_>) {
        let needed = self.needed(tile);
        if needed.is_some_and(|needed| needed.voxels() > HELD) && tile.voxels() > 1 {
            let longest = (0..3).max_by_key(|&a| tile.size[a]).unwrap_or(0);
            let (head, tail) = halves(tile, longest);
            self.tile(head, region, out, scratch, source);
            return self.tile(tail, region, out, scratch, source);
        }
        let voxels = needed.map(|needed| {
            let mut voxels = scratch.take(needed.voxels());
            source(needed, &mut voxels, scratch);
            (needed, voxels)
        });
        for z in tile.start[2]..tile.start[2] + tile.size[2] {
            for y in tile.start[1]..tile.start[1] + tile.size[1] {
                let row = ((z - region.start[2]) * region.size[1] + y - region.start[1]) * region.size[0];
                let at = row + tile.start[0] - region.start[0];
                let out = &mut out[at..at + tile.size[0]];
                match &voxels {
                    Some((held, voxels)) => self.row([tile.start[0], y, z], *held, voxels, out),
                    None => out.fill(self.fill),
                }
            }
        }
        if let Some((_, voxels)) = voxels {
            scratch.give(voxels);
        }
    }

    /// Voxels of the source to a voxel of a tile of this edge, about.
    fn share(&self, region: Region, edge: usize) -> f64 {
        let size = region.size.map(|n| n.min(edge) as f64);
        let along = |a: usize| (0..3).map(|c| self.matrix[a][c].abs() * (size[c] - 1.0)).sum::<f64>() + 2.0;
        along(0) * along(1) * along(2) / (size[0] * size[1] * size[2])
    }

    fn position(&self, index: [usize; 3]) -> Vec3 {
        position(&self.matrix, self.offset, index)
    }

    /// The box of the source that samples of `tile` need; none when all of them lie outside.
    fn needed(&self, tile: Region) -> Option<Region> {
        let mut low = [f64::INFINITY; 3];
        let mut high = [f64::NEG_INFINITY; 3];
        for corner in 0..8usize {
            let index = [0, 1, 2].map(|a| tile.start[a] + if corner >> a & 1 == 1 { tile.size[a] - 1 } else { 0 });
            for (a, at) in self.position(index).into_iter().enumerate() {
                low[a] = low[a].min(at);
                high[a] = high[a].max(at);
            }
        }
        if (0..3).any(|a| high[a] < -0.5 - 2.0 * SNAP || low[a] > self.source[a] as f64 - 0.5 + 2.0 * SNAP) {
            return None;
        }
        let last = self.source.map(|n| n - 1);
        let more = [0, 1, 2].map(|a| self.margin(a, tile));
        let start = [0, 1, 2].map(|a| ((low[a] - more[a]).floor().max(0.0) as usize).min(last[a]));
        let end = [0, 1, 2].map(|a| ((high[a] + more[a]).ceil().max(0.0) as usize).min(last[a]) + 1);
        Some(Region { start, size: [0, 1, 2].map(|a| end[a] - start[a]) })
    }

    /// How much farther than its corners the samples of a tile may seem to lie, voxels. Less than nothing where rounding is so
    /// small that who lies on a voxel, or as near as counts for that, needs no other: a slice is then not read for its neighbours.
    fn margin(&self, axis: usize, tile: Region) -> f64 {
        let end = [0, 1, 2].map(|c| (tile.start[c] + tile.size[c]) as f64);
        let terms = (0..3).map(|c| self.matrix[axis][c].abs() * end[c]).sum::<f64>();
        let rounding = 16.0 * f64::EPSILON * (self.offset[axis].abs() + terms);
        if rounding < SNAP / 4.0 { -SNAP / 2.0 } else { 1e-3 }
    }

    /// Samples from `first` on, next to one another along x.
    fn row(&self, first: [usize; 3], held: Region, voxels: &[f32], out: &mut [f32]) {
        let [y, z] = [held.size[0], held.size[0] * held.size[1]];
        let base = row_begin(&self.matrix, self.offset, first);
        let mut lanes = [0, 1, 2].map(|a| self.lanes(a, base[a], first[0] as f64));
        for (i, out) in out.chunks_mut(LANES).enumerate() {
            let x = (first[0] + i * LANES) as f64;
            // Along an axis that the row does not turn towards, all of its samples lie alike.
            for a in (0..3).filter(|&a| i > 0 && self.matrix[a][0] != 0.0) {
                lanes[a] = self.lanes(a, base[a], x);
            }
            for (l, o) in out.iter_mut().enumerate() {
                if !lanes.iter().all(|axis| axis.inside[l]) || self.how == Interpolation::Nearest {
                    let at = [0, 1, 2].map(|a| base[a] + self.matrix[a][0] * (x + l as f64));
                    *o = self.sample(at, held, voxels);
                    continue;
                }
                let [i, j, k] = [0, 1, 2].map(|a| lanes[a].low[l] as usize - held.start[a]);
                let [u, v, w] = [0, 1, 2].map(|a| lanes[a].part[l]);
                // On a voxel, its neighbour may be infinite, or not there.
                let between =
                    |a: f32, b: &dyn Fn() -> f32, part: f32| if part > 0.0 { a + part * (b() - a) } else { a };
                let line = |at: usize| between(voxels[at], &|| voxels[at + 1], u);
                let plane = |at: usize| {
                    // Most lie among four voxels.
                    if u > 0.0 && v > 0.0 {
                        let four = &voxels[at..][..y + 2];
                        let (a, b) = (four[0] + u * (four[1] - four[0]), four[y] + u * (four[y + 1] - four[y]));
                        return a + v * (b - a);
                    }
                    between(line(at), &|| line(at + y), v)
                };
                let at = i + j * y + k * z;
                *o = between(plane(at), &|| plane(at + z), w);
            }
        }
    }

    /// Where samples from `x` on lie along an axis. Most lie among eight voxels, and need no more than that.
    fn lanes(&self, axis: usize, base: f64, x: f64) -> Lanes {
        let mut lanes = Lanes { low: [0; LANES], part: [0.0; LANES], inside: [true; LANES] };
        // A lower neighbour of the last voxel has none above it.
        let last = u32::try_from(self.source[axis] - 1).unwrap_or(0);
        let step = self.matrix[axis][0];
        for l in 0..LANES {
            let at = base + step * (x + l as f64);
            // Rounds to a whole number, which is then in the lowest bits: cheaper than a cast. Half below a whole number it
            // may go either way, and `part` is then 0 or 1.
            let rounded = at - 0.5 + WHOLE;
            let (low, part) = (rounded.to_bits() as u32, at - (rounded - WHOLE));
            let (on_low, on_high) = (part <= SNAP, part >= 1.0 - SNAP);
            let low = low.wrapping_add(u32::from(on_high));
            lanes.low[l] = low;
            lanes.part[l] = if on_low | on_high { 0.0 } else { part as f32 };
            let highest = last.wrapping_add(u32::from(on_low | on_high));
            lanes.inside[l] = (low < highest) & (at.abs() < HIGHEST);
        }
        lanes
    }

    fn sample(&self, at: Vec3, held: Region, voxels: &[f32]) -> f32 {
        if !(0..3).all(|a| lies_in(at[a], self.source[a])) {
            return self.fill;
        }
        let [x, y, z] = [0, 1, 2].map(|a| {
            let tap = Tap::new(at[a], self.source[a], self.how);
            Tap { low: tap.low - held.start[a], high: tap.high - held.start[a], ..tap }
        });
        let mix = |a: f32, b: &dyn Fn() -> f32, weight: f64| {
            if weight > 0.0 { a + weight as f32 * (b() - a) } else { a }
        };
        let value = |x: usize, y: usize, z: usize| voxels[(z * held.size[1] + y) * held.size[0] + x];
        let row = |y: usize, z: usize| mix(value(x.low, y, z), &|| value(x.high, y, z), x.weight);
        let plane = |z: usize| mix(row(y.low, z), &|| row(y.high, z), y.weight);
        mix(plane(z.low), &|| plane(z.high), z.weight)
    }
}

/// `offset + matrix · index`.
pub(super) fn position(matrix: &[Vec3; 3], offset: Vec3, index: [usize; 3]) -> Vec3 {
    let begin = row_begin(matrix, offset, index);
    [0, 1, 2].map(|r| begin[r] + matrix[r][0] * index[0] as f64)
}

/// The same at the first index of its row.
fn row_begin(matrix: &[Vec3; 3], offset: Vec3, [_, y, z]: [usize; 3]) -> Vec3 {
    [0, 1, 2].map(|r| offset[r] + (matrix[r][1] * y as f64 + matrix[r][2] * z as f64))
}

fn kind(how: Interpolation) -> Kind {
    match how {
        Interpolation::Nearest => Kind::U8,
        Interpolation::Linear => Kind::F32,
    }
}

/// The slowest axis along which a region can be cut into two that are contiguous in it.
fn leading(region: Region) -> usize {
    (0..3).rev().find(|&a| region.size[a] > 1).unwrap_or(0)
}

fn halves(region: Region, axis: usize) -> (Region, Region) {
    let (mut head, mut tail) = (region, region);
    head.size[axis] /= 2;
    tail.start[axis] += head.size[axis];
    tail.size[axis] -= head.size[axis];
    (head, tail)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tap_stays_inside_and_halves_round_up() {
        let nearest = |at| Tap::new(at, 4, Interpolation::Nearest).low;
        assert_eq!([-9.0, 0.49, 0.5, 1.5, 2.5, 3.4, 9.0].map(nearest), [0, 0, 1, 2, 3, 3, 3]);
        let linear = |at| Tap::new(at, 4, Interpolation::Linear);
        assert_eq!(linear(1.25), Tap { low: 1, high: 2, weight: 0.25 });
        for (at, on) in [(-0.5, 0), (3.5, 3), (2.0 - 1e-12, 2), (2.0 + 1e-12, 2), (f64::INFINITY, 3)] {
            assert_eq!(linear(at), Tap { low: on, high: on, weight: 0.0 });
        }
    }

    #[test]
    fn samples_inside_are_found_at_any_scale() {
        for (scale, offset, n, source) in [
            (0.5, -0.25, 8, 4),
            (3.0, 1.0, 9, 5),
            (1.0, -3.0, 12, 4),
            (1.0, 40.0, 5, 3),
            (1e300, 0.0, 3, 3),
            (1e-300, 0.0, 3, 3),
        ] {
            let expected: Vec<_> = (0..n).filter(|&i| lies_in(offset + scale * i as f64, source)).collect();
            assert_eq!(inside(scale, offset, n, source).collect::<Vec<_>>(), expected, "{scale} {offset}");
        }
    }

    #[test]
    fn a_grid_maps_to_itself_and_to_its_turned_self_without_rest() {
        let (s, c) = 0.3f64.sin_cos();
        let axes = [[c, s, 0.0], [-s, c, 0.0], [0.0, 0.0, 1.0]];
        let grid = Geometry::new([40, 50, 60], [0.7, 0.8, 2.5], [-10.0, 20.0, 30.0], axes).expect("a grid");
        let order = [(2, true), (0, false), (1, true)];
        let turned = super::super::view::reordered(&grid, order).expect("a grid");
        let Mapping::Parallel { order: found, scale, offset } = mapping(&grid, &turned).expect("finite") else {
            panic!("the axes are parallel")
        };
        assert_eq!(found, order);
        assert!((0..3).all(|a| shift(scale[a], offset[a], turned.size()[a]) == Some(0)), "{scale:?} {offset:?}");
    }
}
