//! A stack whose slices are parallel and not above one another (gantry tilt) becomes a grid: each slice is moved within
//! its plane, by linear interpolation. Nothing is interpolated between slices.

use rayon::prelude::*;

use super::decode::Voxels;
use super::pixels::Pixels;
use super::{ReadError, ReadOptions, Tilt};
use crate::geometry::Geometry;
use crate::memory::Budget;

/// Values that can be between others.
trait Between: Copy + Send + Sync + PartialOrd {
    fn real(self) -> f64;
    fn nearest(value: f64) -> Self;
}

impl Between for i16 {
    fn real(self) -> f64 {
        self.into()
    }

    /// To the nearest: between two values, so that it fits.
    fn nearest(value: f64) -> Self {
        value.round() as Self
    }
}

impl Between for f32 {
    fn real(self) -> f64 {
        self.into()
    }

    fn nearest(value: f64) -> Self {
        value as Self
    }
}

/// The voxels of slices like `first` on the grid, which is larger than they are where they are tilted.
pub(super) fn voxels(
    voxels: Voxels,
    first: &Pixels,
    grid: &Geometry,
    tilt: Option<&Tilt>,
    budget: &Budget,
    options: &ReadOptions,
) -> Result<Voxels, ReadError> {
    let Some(tilt) = tilt else { return Ok(voxels) };
    let (size, [columns, rows, _]) = ([first.columns, first.rows].map(usize::from), grid.size());
    let wide = [columns, rows];
    match voxels {
        Voxels::I16 { values, slope, intercept } => {
            let fill = darkest(&values, slope < 0.0).unwrap_or(0);
            let values = straighten(&values, size, wide, tilt, fill, budget, options)?;
            Ok(Voxels::I16 { values, slope, intercept })
        }
        Voxels::F32(values) => {
            let fill = darkest(&values, false).unwrap_or(0.0);
            straighten(&values, size, wide, tilt, fill, budget, options).map(Voxels::F32)
        }
    }
}

/// Slices of `size` columns and rows, on a grid of `wide`. What no slice reaches has the `darkest` value that there is.
fn straighten<T: Between>(
    values: &[T],
    size: [usize; 2],
    wide: [usize; 2],
    tilt: &Tilt,
    darkest: T,
    budget: &Budget,
    options: &ReadOptions,
) -> Result<Vec<T>, ReadError> {
    let plane = wide[0] * wide[1];
    let bytes = (plane * tilt.shifts.len()) as u64 * size_of::<T>() as u64;
    options.check_volume(bytes)?;
    let _charge = budget.charge(bytes)?;
    let mut straight = vec![darkest; plane * tilt.shifts.len()];
    straight.par_chunks_mut(plane).zip(values.par_chunks(size[0] * size[1])).zip(&tilt.shifts).for_each(
        |((out, slice), shift)| {
            // For each column and row of the grid two of the slice, and how far to the second.
            let [across, down] =
                [0, 1].map(|axis| (0..wide[axis]).map(|at| place(at, shift[axis], size[axis])).collect::<Vec<_>>());
            for (out, row) in out.chunks_exact_mut(wide[0]).zip(&down) {
                let Some((upper, lower, far)) = *row else { continue };
                let line = |row: usize| &slice[row * size[0]..(row + 1) * size[0]];
                let (upper, lower) = (line(upper), line(lower));
                for (out, column) in out.iter_mut().zip(&across) {
                    let Some((left, right, beside)) = *column else { continue };
                    let along = |line: &[T]| mix(line[left].real(), line[right].real(), beside);
                    *out = T::nearest(mix(along(upper), along(lower), far));
                }
            }
        },
    );
    Ok(straight)
}

fn mix(a: f64, b: f64, part: f64) -> f64 {
    // Exact where nothing is moved by a fraction.
    if part == 0.0 { a } else { a + (b - a) * part }
}

/// Which of `size` voxels are before and behind `at` of the grid, and how far between them it is; those at the edge reach
/// half a voxel beyond their centres.
fn place(at: usize, shift: f64, size: usize) -> Option<(usize, usize, f64)> {
    let (at, last) = (at as f64 - shift, (size - 1) as f64);
    if at < -0.5 || at > last + 0.5 {
        return None;
    }
    let at = at.clamp(0.0, last);
    let before = at.floor();
    Some((before as usize, (before as usize + 1).min(size - 1), at - before))
}

/// The value that is shown darkest: the least, or the greatest where slopes are negative.
fn darkest<T: Between>(values: &[T], falls: bool) -> Option<T> {
    let finite = values.par_iter().copied().filter(|value| value.real().is_finite());
    finite.reduce_with(|a, b| if (b < a) != falls { b } else { a })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slices_move_within_their_plane_by_parts_of_a_pixel() {
        let tilt = Tilt { degrees: 10.0, shifts: vec![[0.0, 0.0], [0.0, 1.5]] };
        let options = ReadOptions::default();
        let values: [i16; 12] = [1, 2, 3, 4, 5, 6, 10, 20, 30, 40, 50, 60];
        let straight = straighten(&values, [2, 3], [2, 5], &tilt, -7, &Budget::unlimited(), &options).expect("room");
        assert_eq!(straight[..10], [1, 2, 3, 4, 5, 6, -7, -7, -7, -7]);
        // Half a voxel beyond the outermost centres has the value of the edge.
        assert_eq!(straight[10..], [-7, -7, 10, 20, 20, 30, 40, 50, 50, 60]);
        assert_eq!((darkest(&values, false), darkest(&values, true)), (Some(1), Some(60)));
        let small = ReadOptions { volume_max_mib: 0, ..options };
        let refused =
            straighten(&values, [2, 3], [2, 5], &tilt, -7, &Budget::unlimited(), &small).expect_err("refused");
        assert!(refused.to_string().contains("volume_max_mib = 0"), "{refused}");
    }

    #[test]
    fn values_that_are_no_numbers_are_not_the_darkest() {
        assert_eq!(darkest(&[f32::NAN, 2.0, 1.0], false), Some(1.0));
        assert_eq!(darkest(&[f32::NAN], false), None);
    }
}
