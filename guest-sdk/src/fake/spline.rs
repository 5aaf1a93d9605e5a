//! Cubic B-splines through all voxels.

use super::grid::{Volume, centre, invalid};
use crate::types::{Failure, Geometry, Interpolation, Sampling, Vec3};

pub(crate) fn resample_cubic(of: &Volume, spacing: Vec3) -> Result<Volume, Failure> {
    let grid = of.resample(spacing, Interpolation::Nearest)?.geometry;
    onto(of, grid, Sampling::Cubic, 0.0)
}

pub(crate) fn onto(of: &Volume, grid: Geometry, how: Sampling, fill: f32) -> Result<Volume, Failure> {
    let plain = |how| Volume::from_fn(grid, |at| of.sample(grid.to_patient(centre(at)), how).unwrap_or(fill));
    match how {
        Sampling::Nearest => return plain(Interpolation::Nearest),
        Sampling::Linear => return plain(Interpolation::Linear),
        Sampling::Cubic => {}
    }
    if of.voxels.iter().any(|v| !v.is_finite()) {
        return invalid("a voxel is not finite");
    }
    let size = of.geometry.size;
    let mut coefficients = of.clone();
    for axis in 0..3 {
        coefficients = along(&coefficients, axis)?;
    }
    Volume::from_fn(grid, |at| {
        let index = of.geometry.to_index(grid.to_patient(centre(at)));
        if (0..3).any(|a| index[a] < -0.5 - 1e-6 || index[a] > f64::from(size[a]) - 0.5 + 1e-6) {
            return fill;
        }
        let first = [0, 1, 2].map(|a| index[a].floor() as i64 - 1);
        let mut value = 0.0;
        for corner in 0..64i64 {
            let voxel = [0, 1, 2].map(|a| first[a] + (corner >> (2 * a) & 3));
            let weight: f64 = (0..3).map(|a| basis(index[a] - voxel[a] as f64)).product();
            value += weight * f64::from(coefficients.at([0, 1, 2].map(|a| mirrored(voxel[a], size[a]))));
        }
        value as f32
    })
}

/// The cubic B-spline.
fn basis(t: f64) -> f64 {
    let t = t.abs();
    if t < 1.0 {
        (4.0 - 6.0 * t * t + 3.0 * t * t * t) / 6.0
    } else if t < 2.0 {
        (2.0 - t).powi(3) / 6.0
    } else {
        0.0
    }
}

/// The voxel at an index, or the one that it mirrors.
fn mirrored(at: i64, n: u32) -> u32 {
    let last = i64::from(n) - 1;
    if last == 0 {
        return 0;
    }
    let at = at.rem_euclid(2 * last);
    at.min(2 * last - at) as u32
}

/// Coefficients along one axis: each the sum of all voxels on both sides, which weigh less the farther away they are.
fn along(of: &Volume, axis: usize) -> Result<Volume, Failure> {
    let n = of.geometry.size[axis];
    if n == 1 {
        return Ok(of.clone());
    }
    let pole = 3f64.sqrt() - 2.0;
    Volume::from_fn(of.geometry, |index| {
        let value = |k: i64| {
            let mut at = index;
            at[axis] = mirrored(i64::from(index[axis]) + k, n);
            f64::from(of.at(at)) * pole.powi(k.abs() as i32)
        };
        // What weighs less than 1e-17 is nothing in f64.
        let sum: f64 = (-30..=30).map(value).sum();
        (-6.0 * pole / (1.0 - pole * pole) * sum) as f32
    })
}
