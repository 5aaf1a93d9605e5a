//! Cubic B-splines through all voxels, sampled on another grid.
//!
//! A spline of degree 3 has a coefficient for each voxel, which two recursions along each axis give (Unser 1999); a sample is
//! the weighted sum of the 64 around it. Beyond the border, voxels are mirrored at the centre of the outermost. The
//! coefficients are stored for as long as the call lasts.

use rayon::prelude::*;

use super::super::resample::{self, Mapping};
use super::super::storage::Voxels;
use super::super::view::{self, View};
use super::super::{Interpolation, Volume, VolumeError, invalid};
use crate::geometry::{Geometry, Region, Vec3};

/// How values between voxel centres are found, of all that there are. See `filters.sampling`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sampling {
    /// The closest voxel; of two, the one of higher index.
    Nearest,
    /// Trilinear.
    Linear,
    /// By a cubic B-spline through all voxels.
    Cubic,
}

/// The pole of the recursions, √3 - 2.
const POLE: f32 = -0.267_949_2;
/// Voxels after which the pole's powers are below what f32 can tell.
const HORIZON: usize = 16;
/// Of voxels; those of coefficients may be up to 27 times as large.
const LARGEST: f32 = 1e30;
/// What remains of a voxel in its own coefficient.
const GAIN: f32 = 6.0;
/// What the recursion back begins with.
const LAST: f32 = POLE / (POLE * POLE - 1.0);
/// Values that one thread changes before it looks for more.
const PIECE: usize = if cfg!(test) { 8 } else { 1 << 14 };

impl Volume {
    /// To `spacing` mm by cubic B-splines, on the grid of [`Volume::resample`]. See `filters.resample-cubic`.
    pub fn resample_cubic(&self, spacing: Vec3) -> Result<Self, VolumeError> {
        let grid = self.resample(spacing, Interpolation::Nearest)?.geometry;
        self.onto(&grid, Sampling::Cubic, 0.0)
    }

    /// On any grid, also a turned one; `fill` outside. See `filters.onto`.
    pub fn onto(&self, grid: &Geometry, how: Sampling, fill: f32) -> Result<Self, VolumeError> {
        match how {
            Sampling::Nearest => return self.resample_like(grid, Interpolation::Nearest, fill),
            Sampling::Linear => return self.resample_like(grid, Interpolation::Linear, fill),
            Sampling::Cubic => {}
        }
        self.check_room(grid)?;
        let Mapping::Parallel { order, .. } = resample::mapping(&self.geometry, grid)? else {
            let coefficients = self.coefficients()?;
            let Mapping::Oblique { matrix, offset } = resample::mapping(&self.geometry, grid)? else {
                return Err(invalid("the two grids lie in two ways to one another"));
            };
            return coefficients.sampled_askew(grid, matrix, offset, fill);
        };
        // As for argmax: computed with the axes in the order of the source, then seen in that of the result.
        let turned = view::reordered(grid, view::inverse(order))?;
        let Mapping::Parallel { scale, offset, order: kept } = resample::mapping(&self.geometry, &turned)? else {
            return Err(invalid("the two grids lie in two ways to one another"));
        };
        if kept != view::AS_IS {
            return Err(invalid("the two grids lie in two ways to one another"));
        }
        // On the voxels themselves the spline is what they are.
        if (0..3).all(|a| resample::shift(scale[a], offset[a], turned.size()[a]).is_some()) {
            return self.resample_like(grid, Interpolation::Linear, fill);
        }
        let sampled = self.coefficients()?.sampled_along(&turned, scale, offset, fill)?;
        let size = sampled.geometry.size();
        sampled.viewed(View::order(size, order), grid.clone())
    }

    /// Of the spline through all voxels. `Invalid` where one is not finite, or so large that its coefficients are not: that would
    /// be in all of them.
    fn coefficients(&self) -> Result<Self, VolumeError> {
        let charge = self.budget.charge(self.geometry.voxels() as u64 * 4)?;
        let mut voxels = vec![0.0; self.geometry.voxels()];
        self.fill_in_time(&mut voxels)?;
        if voxels.par_iter().any(|v| v.is_nan() || v.abs() > LARGEST) {
            return Err(invalid(format!(
                "a voxel is no number from -{LARGEST:e} to {LARGEST:e}: no spline goes through it"
            )));
        }
        let [nx, ny, nz] = self.geometry.size();
        let in_time = || Ok::<(), VolumeError>(self.budget.check_time()?);
        if nx > 1 {
            voxels.par_chunks_mut(nx * (PIECE / nx).max(1)).try_for_each(|rows| {
                rows.chunks_exact_mut(nx).for_each(along_row);
                in_time()
            })?;
        }
        if ny > 1 {
            voxels.par_chunks_mut(nx * ny).try_for_each(|slice| along_columns(slice, ny, in_time))?;
        }
        if nz > 1 {
            along_columns(&mut voxels, nz, in_time)?;
        }
        Ok(self.made(self.geometry.clone(), Voxels::F32(voxels), charge))
    }

    /// Sample `i` along each axis lies at `offset + scale · i`. `self` holds coefficients.
    fn sampled_along(&self, grid: &Geometry, scale: Vec3, offset: Vec3, fill: f32) -> Result<Self, VolumeError> {
        let (source, size) = (self.geometry.size(), grid.size());
        let taps = |a: usize, range: std::ops::Range<usize>| -> Vec<Option<Taps>> {
            range.map(|i| Taps::new(offset[a] + scale[a] * i as f64, source[a])).collect()
        };
        // What is read of the source grows with the scale; blocks are so large that the taps around them do not count.
        let edge =
            [0, 1, 2].map(|a| ((if a == 0 { 256.0 } else { 32.0 } / scale[a].max(1.0)) as usize).clamp(1, size[a]));
        self.computed(grid, edge, |block, out, scratch| {
            out.fill(fill);
            let [xs, ys, zs] = [0, 1, 2].map(|a| taps(a, block.start[a]..block.start[a] + block.size[a]));
            let [Some(x), Some(y), Some(z)] = [&xs, &ys, &zs].map(|taps| needed(taps)) else { return Ok(()) };
            let held = Region { start: [x.0, y.0, z.0], size: [x.1, y.1, z.1] };
            let _charge = self.budget.charge(held.voxels() as u64 * 4)?;
            let mut voxels = scratch.take(held.voxels());
            self.block(held, &mut voxels, scratch);
            let width = block.size[0];
            // Along x, then y, then z.
            let mut rows = scratch.take(width * y.1 * z.1);
            for (row, from) in rows.chunks_exact_mut(width).zip(voxels.chunks_exact(x.1)) {
                for (o, taps) in row.iter_mut().zip(&xs) {
                    *o = taps.as_ref().map_or(0.0, |t| t.sum(|at| from[at - x.0]));
                }
            }
            let mut planes = scratch.take(width * block.size[1] * z.1);
            for (plane, rows) in planes.chunks_exact_mut(width * block.size[1]).zip(rows.chunks_exact(width * y.1)) {
                for (row, taps) in plane.chunks_exact_mut(width).zip(&ys) {
                    weighted(row, taps.as_ref(), |at| &rows[(at - y.0) * width..][..width]);
                }
            }
            let plane = width * block.size[1];
            let mut line = scratch.take(plane);
            for (slice, taps) in out.chunks_exact_mut(plane).zip(&zs).filter(|(_, taps)| taps.is_some()) {
                weighted(&mut line, taps.as_ref(), |at| &planes[(at - z.0) * plane..][..plane]);
                for ((row, line), _) in
                    slice.chunks_exact_mut(width).zip(line.chunks_exact(width)).zip(&ys).filter(|(_, y)| y.is_some())
                {
                    for ((o, v), _) in row.iter_mut().zip(line).zip(&xs).filter(|(_, x)| x.is_some()) {
                        *o = *v;
                    }
                }
            }
            [voxels, rows, planes, line].into_iter().for_each(|buffer| scratch.give(buffer));
            Ok(())
        })
    }

    /// Sample `i` lies at `offset + matrix · i`. `self` holds coefficients.
    fn sampled_askew(&self, grid: &Geometry, matrix: [Vec3; 3], offset: Vec3, fill: f32) -> Result<Self, VolumeError> {
        let source = self.geometry.size();
        self.computed(grid, [16, 16, 16], |block, out, scratch| {
            let Some(held) = needed_askew(&matrix, offset, block, source) else {
                out.fill(fill);
                return Ok(());
            };
            let _charge = self.budget.charge(held.voxels() as u64 * 4)?;
            let mut voxels = scratch.take(held.voxels());
            self.block(held, &mut voxels, scratch);
            let [y, z] = [held.size[0], held.size[0] * held.size[1]];
            for (i, row) in out.chunks_exact_mut(block.size[0]).enumerate() {
                let [j, k] = [block.start[1] + i % block.size[1], block.start[2] + i / block.size[1]];
                for (x, o) in (block.start[0]..).zip(row) {
                    let at = resample::position(&matrix, offset, [x, j, k]);
                    // Most samples lie among 64 coefficients, of which none is mirrored.
                    let inner = (0..3).all(|a| at[a] >= 1.0 && at[a] < (source[a] - 1) as f64 - 1.0);
                    *o = if inner {
                        let low = at.map(|at| at as usize);
                        let [wx, wy, wz] = [0, 1, 2].map(|a| weights(at[a] - low[a] as f64));
                        let [a, b, c] = [0, 1, 2].map(|a| low[a] - 1 - held.start[a]);
                        sum_of_64(&voxels[a + b * y + c * z..], [y, z], [wx, wy, wz])
                    } else {
                        let taps = [0, 1, 2].map(|a| Taps::new(at[a], source[a]));
                        let [Some(tx), Some(ty), Some(tz)] = taps else {
                            *o = fill;
                            continue;
                        };
                        let row = |b: usize, c: usize| (c - held.start[2]) * z + (b - held.start[1]) * y;
                        tz.sum(|c| ty.sum(|b| tx.sum(|a| voxels[row(b, c) + a - held.start[0]])))
                    };
                }
            }
            scratch.give(voxels);
            Ok(())
        })
    }
}

/// The coefficients that samples of a block need; none where all of them lie outside.
fn needed_askew(matrix: &[Vec3; 3], offset: Vec3, block: Region, source: [usize; 3]) -> Option<Region> {
    let corners = (0..8usize).map(|corner| {
        let index = [0, 1, 2].map(|a| block.start[a] + if corner >> a & 1 == 1 { block.size[a] - 1 } else { 0 });
        resample::position(matrix, offset, index)
    });
    let (mut low, mut high) = ([f64::INFINITY; 3], [f64::NEG_INFINITY; 3]);
    for at in corners {
        low = [0, 1, 2].map(|a| low[a].min(at[a]));
        high = [0, 1, 2].map(|a| high[a].max(at[a]));
    }
    if (0..3).any(|a| high[a] < -1.0 || low[a] > source[a] as f64) {
        return None;
    }
    // Two more on each side than the floor of a sample, and one for rounding. What is mirrored lies within four of the border.
    let last = source.map(|n| n - 1);
    let start = [0, 1, 2].map(|a| ((low[a].floor() - 3.0).max(0.0) as usize).min(last[a].saturating_sub(4)));
    let end = [0, 1, 2].map(|a| ((high[a].floor() + 4.0).max(4.0) as usize).min(last[a]) + 1);
    Some(Region { start, size: [0, 1, 2].map(|a| end[a] - start[a]) })
}

/// The sum over 4 × 4 × 4 coefficients, rows and slices of which lie so far apart.
fn sum_of_64(voxels: &[f32], [y, z]: [usize; 2], [wx, wy, wz]: [[f32; 4]; 3]) -> f32 {
    let mut sums = [0.0f32; 4];
    for (c, wz) in wz.iter().enumerate() {
        for (b, wy) in wy.iter().enumerate() {
            let row: &[f32; 4] = voxels[c * z + b * y..].first_chunk().expect("all neighbours are held");
            let weight = wz * wy;
            for (s, v) in sums.iter_mut().zip(row) {
                *s += weight * v;
            }
        }
    }
    sums.iter().zip(wx).map(|(s, w)| s * w).sum()
}

/// The first coefficient that samples need, and how many from it on.
fn needed(taps: &[Option<Taps>]) -> Option<(usize, usize)> {
    needed_of(taps.iter().flatten())
}

fn needed_of<'t>(taps: impl Iterator<Item = &'t Taps>) -> Option<(usize, usize)> {
    let mut found: Option<(usize, usize)> = None;
    for at in taps.flat_map(|t| t.at) {
        let (low, high) = found.unwrap_or((at, at));
        found = Some((low.min(at), high.max(at)));
    }
    found.map(|(low, high)| (low, high - low + 1))
}

/// The four coefficients that a sample is made of, and the weight of each.
#[derive(Debug, Clone, Copy)]
struct Taps {
    at: [usize; 4],
    weight: [f32; 4],
}

/// Of the four coefficients around a sample that lies `t` behind the second.
fn weights(t: f64) -> [f32; 4] {
    let u = 1.0 - t;
    let weights = [u * u * u, 4.0 - 3.0 * t * t * (2.0 - t), 4.0 - 3.0 * u * u * (1.0 + t), t * t * t];
    weights.map(|w| (w * (1.0 / 6.0)) as f32)
}

impl Taps {
    /// Of a sample at `at` of `n` voxels; none where it lies outside of them and half a voxel around.
    fn new(at: f64, n: usize) -> Option<Self> {
        if !resample::lies_in(at, n) {
            return None;
        }
        let low = at.floor();
        let mirrored = |i: i64| {
            let (n, period) = (n as i64, 2 * (n as i64 - 1).max(1));
            let i = if n == 1 { 0 } else { i.rem_euclid(period) };
            i.min(period - i).min(n - 1) as usize
        };
        Some(Self { at: [-1, 0, 1, 2].map(|d| mirrored(low as i64 + d)), weight: weights(at - low) })
    }

    #[inline(always)]
    fn sum(&self, value: impl Fn(usize) -> f32) -> f32 {
        self.at.iter().zip(self.weight).map(|(at, weight)| weight * value(*at)).sum()
    }
}

/// The weighted sum of four rows.
fn weighted<'r>(out: &mut [f32], taps: Option<&Taps>, row: impl Fn(usize) -> &'r [f32]) {
    let Some(Taps { at, weight }) = taps else { return };
    let [a, b, c, d] = at.map(row);
    let rows = a.iter().zip(b).zip(c).zip(d);
    for (o, (((a, b), c), d)) in out.iter_mut().zip(rows) {
        *o = weight[0] * a + weight[1] * b + weight[2] * c + weight[3] * d;
    }
}

/// Makes coefficients of a row of values.
fn along_row(row: &mut [f32]) {
    let n = row.len();
    let first: f32 = terms(n).map(|(at, weight)| weight * row[at]).sum();
    let mut before = GAIN * first;
    row[0] = before;
    for v in &mut row[1..] {
        before = GAIN * *v + POLE * before;
        *v = before;
    }
    let mut behind = LAST * (POLE * row[n - 2] + row[n - 1]);
    row[n - 1] = behind;
    for v in row[..n - 1].iter_mut().rev() {
        behind = POLE * (behind - *v);
        *v = behind;
    }
}

/// Makes coefficients of `n` rows of values, along the columns that they form.
fn along_columns(
    values: &mut [f32],
    n: usize,
    in_time: impl Fn() -> Result<(), VolumeError>,
) -> Result<(), VolumeError> {
    let columns = values.len() / n;
    let row = |i: usize| i * columns..(i + 1) * columns;
    let mut first = vec![0.0; columns];
    terms(n).for_each(|(at, weight)| each(&mut first, &values[row(at)], |f, v| *f += weight * v));
    each(&mut values[row(0)], &first, |v, f| *v = GAIN * f);
    drop(first);
    in_time()?;
    for i in 1..n {
        let (before, rest) = values.split_at_mut(i * columns);
        each(&mut rest[..columns], &before[row(i - 1)], |v, b| *v = GAIN * *v + POLE * b);
    }
    in_time()?;
    let (before, last) = values.split_at_mut((n - 1) * columns);
    each(last, &before[row(n - 2)], |v, b| *v = LAST * (POLE * b + *v));
    for i in (0..n - 1).rev() {
        let (head, behind) = values.split_at_mut((i + 1) * columns);
        each(&mut head[row(i)], &behind[..columns], |v, b| *v = POLE * (b - *v));
    }
    Ok(())
}

/// Which of `n` values a column's first sum is made of, and the weight of each: of all mirrored ones before it. In a short column
/// exactly, where what is mirrored at both ends comes again and again.
fn terms(n: usize) -> impl Iterator<Item = (usize, f32)> {
    let period = 2 * (n - 1);
    let (count, again) = if n <= HORIZON { (period, 1.0 - POLE.powi(period as i32)) } else { (HORIZON, 1.0) };
    (0..count).map(move |k| (k.min(period - k), POLE.powi(k as i32) / again))
}

/// Changes each value by the other at its place; on all threads where there are many.
fn each(values: &mut [f32], others: &[f32], change: impl Fn(&mut f32, f32) + Sync) {
    let some = |values: &mut [f32], others: &[f32]| values.iter_mut().zip(others).for_each(|(v, o)| change(v, *o));
    if values.len() < 2 * PIECE {
        return some(values, others);
    }
    values.par_chunks_mut(PIECE).zip(others.par_chunks(PIECE)).for_each(|(values, others)| some(values, others));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_spline_goes_through_every_value() {
        for n in [2, 3, 9, 16, 17, 40] {
            let values: Vec<f32> = (0..n).map(|i| ((i * 37 + 11) % 23) as f32 - 9.0).collect();
            let (mut coefficients, mut column) = (values.clone(), values.clone());
            along_row(&mut coefficients);
            along_columns(&mut column, n, || Ok(())).expect("time");
            assert!(coefficients.iter().zip(&column).all(|(a, b)| (a - b).abs() < 1e-4));
            for (i, v) in values.iter().enumerate() {
                let sampled = Taps::new(i as f64, n).expect("inside").sum(|at| coefficients[at]);
                assert!((sampled - v).abs() < 1e-4, "{i} of {n}: {sampled}, {v}");
            }
        }
    }
}
