//! Slices become a grid: by position and orientation in the patient, never by name or number.

use std::ops::RangeInclusive;
use std::path::Path;

use dicom_dictionary_std::tags;

use super::attributes::Attributes;
use super::pixels::Pixels;
use super::voi::Voi;
use super::{ReadError, unplaced};
use crate::geometry::{Geometry, Vec3, cross, dot};

/// The farthest position on an axis: a hundred metres.
const POSITION_MAX_MM: f64 = 1e5;
/// Distances of pixels and slices that an image of a body can have.
const SPACING_MM: RangeInclusive<f64> = 1e-3..=1e3;
/// Direction cosines may differ by this much between slices, and be this far from unit length and right angles:
/// decimal strings are rounded.
const COSINE_TOLERANCE: f64 = 1e-3;
/// Pixel spacing may differ by this fraction between slices.
const SPACING_TOLERANCE: f64 = 1e-4;
/// A gap between slices may differ from the others by this fraction of it and these millimetres together. Positions
/// rounded to two decimals stay within.
const GAP_TOLERANCE: f64 = 0.01;
const GAP_TOLERANCE_MM: f64 = 0.01;
/// Slices closer than this lie at one position.
const SAME_POSITION_MM: f64 = *SPACING_MM.start();
/// A slice may lie this far beside the line through the first along the normal, and this fraction of the distance.
const SIDEWAYS_MM: f64 = 0.1;
const SIDEWAYS_TOLERANCE: f64 = 1e-3;

/// Where one slice lies (PS3.3 C.7.6.2), and its pixels.
#[derive(Debug, Clone)]
pub(super) struct Slice {
    /// Centre of the first pixel, mm.
    pub(super) position: Vec3,
    /// Direction of a row: of increasing column index.
    row: Vec3,
    /// Direction of a column: of increasing row index.
    column: Vec3,
    /// Distance of pixel centres along a row and along a column, mm.
    spacing: [f64; 2],
    /// Spacing Between Slices, or else Slice Thickness, where it makes sense, mm.
    thickness: Option<f64>,
    pub(super) pixels: Pixels,
    pub(super) voi: Voi,
    /// It lies nowhere in the patient; the above is of its own plane.
    pub(super) unplaced: bool,
}

impl Slice {
    /// Reads the image plane module.
    pub(super) fn read(a: &Attributes<'_>, pixels: Pixels) -> Result<Self, ReadError> {
        if unplaced::is(a) {
            let (position, [row, column]) = ([0.0; 3], [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]);
            let spacing = sensible_spacing(a, unplaced::spacing(a)?)?;
            return Ok(Self {
                position,
                row,
                column,
                spacing,
                thickness: None,
                pixels,
                voi: Voi::read(a),
                unplaced: true,
            });
        }
        let position: Vec3 = a.needed(tags::IMAGE_POSITION_PATIENT)?;
        if position.iter().any(|p| p.abs() > POSITION_MAX_MM) {
            let problem = format!("is more than {POSITION_MAX_MM} mm from the origin, where no patient is");
            return Err(a.fault(tags::IMAGE_POSITION_PATIENT, problem));
        }
        let [r0, r1, r2, c0, c1, c2] = a.needed(tags::IMAGE_ORIENTATION_PATIENT)?;
        let [rows, columns] = a.needed(tags::PIXEL_SPACING)?;
        let spacing = sensible_spacing(a, [columns, rows])?;
        let (row, column) = ([r0, r1, r2], [c0, c1, c2]);
        let lengths_off = [dot(row, row) - 1.0, dot(column, column) - 1.0, dot(row, column)];
        if lengths_off.iter().any(|off| off.abs() > COSINE_TOLERANCE) {
            return Err(a.fault(tags::IMAGE_ORIENTATION_PATIENT, "is not two unit vectors at a right angle"));
        }
        let row = unit(row);
        // Rounding leaves them not quite at a right angle, and a grid needs one.
        let along = dot(column, row);
        let column = unit([column[0] - along * row[0], column[1] - along * row[1], column[2] - along * row[2]]);
        let sensible = |tag| a.numbers::<1>(tag).ok().flatten().map(|[n]| n).filter(|n| SPACING_MM.contains(n));
        let thickness = sensible(tags::SPACING_BETWEEN_SLICES).or_else(|| sensible(tags::SLICE_THICKNESS));
        Ok(Self { position, row, column, spacing, thickness, pixels, voi: Voi::read(a), unplaced: false })
    }

    /// The normal, row × column, and how far along it the slice lies, mm.
    pub(super) fn along_normal(&self) -> (Vec3, f64) {
        let normal = cross(self.row, self.column);
        (normal, dot(self.position, normal))
    }

    /// Whether it may be in a volume with `first`; if not, in what it differs.
    fn differs(&self, first: &Self) -> Option<&'static str> {
        let apart = |a: Vec3, b: Vec3| a.iter().zip(b).any(|(a, b)| (a - b).abs() > COSINE_TOLERANCE);
        if apart(self.row, first.row) || apart(self.column, first.column) {
            return Some("ImageOrientationPatient (0020,0037)");
        }
        if self.spacing.iter().zip(first.spacing).any(|(a, b)| (a - b).abs() > SPACING_TOLERANCE * b) {
            return Some("PixelSpacing (0028,0030)");
        }
        if (self.pixels.rows, self.pixels.columns) != (first.pixels.rows, first.pixels.columns) {
            return Some("Rows (0028,0010) and Columns (0028,0011)");
        }
        None
    }
}

/// Along a row and a column, mm, if it makes sense.
fn sensible_spacing(a: &Attributes<'_>, spacing: [f64; 2]) -> Result<[f64; 2], ReadError> {
    if spacing.iter().all(|mm| SPACING_MM.contains(mm)) {
        return Ok(spacing);
    }
    let (low, high) = (SPACING_MM.start(), SPACING_MM.end());
    Err(a.fault(tags::PIXEL_SPACING, format!("is not between {low} and {high} mm")))
}

/// The grid that `slices` form, and their order along its z axis.
pub(super) fn stack(slices: &[(&Path, &Slice)]) -> Result<(Geometry, Vec<usize>), ReadError> {
    let Some((first_path, first)) = slices.first().copied() else {
        return Err(ReadError::NoVolume("no slices".into()));
    };
    for (path, slice) in slices {
        if let Some(what) = slice.differs(first) {
            return Err(ReadError::apart(format!("the slices differ in {what}"), [first_path, path], ""));
        }
    }
    let normal = cross(first.row, first.column);
    let along = |i: &usize| dot(slices[*i].1.position, normal);
    let mut order: Vec<usize> = (0..slices.len()).collect();
    // The paths decide between equal positions, so that the message does not depend on chance.
    order.sort_by(|a, b| along(a).total_cmp(&along(b)).then_with(|| slices[*a].0.cmp(slices[*b].0)));
    let heights: Vec<f64> = order.iter().map(along).collect();
    let spacing = match heights.as_slice() {
        [_] => first.thickness.unwrap_or(1.0),
        _ => {
            let sorted: Vec<_> = order.iter().map(|i| slices[*i]).collect();
            even(&sorted, &heights)?
        }
    };
    let lowest = slices[order[0]].1;
    let sorted: Vec<Vec3> = order.iter().map(|i| slices[*i].1.position).collect();
    straight(&sorted, &heights, normal)?;
    let size = [usize::from(first.pixels.columns), usize::from(first.pixels.rows), slices.len()];
    let spacing = [first.spacing[0], first.spacing[1], spacing];
    let geometry = Geometry::new(size, spacing, lowest.position, [first.row, first.column, normal])
        .map_err(|source| ReadError::Geometry { path: slices[order[0]].0.to_owned(), source })?;
    Ok((geometry, order))
}

/// The distance of slices at `heights`, which must be the same between all.
fn even(sorted: &[(&Path, &Slice)], heights: &[f64]) -> Result<f64, ReadError> {
    let gaps: Vec<f64> = heights.windows(2).map(|pair| pair[1] - pair[0]).collect();
    if let Some(i) = gaps.iter().position(|gap| *gap < SAME_POSITION_MM) {
        return Err(ReadError::apart(
            "two slices lie at one position",
            [sorted[i].0, sorted[i + 1].0],
            "; copies are to be removed, and echoes or time points are not told apart by this version",
        ));
    }
    let mut ordered = gaps.clone();
    ordered.sort_by(f64::total_cmp);
    let usual = ordered[(ordered.len() - 1) / 2];
    if !SPACING_MM.contains(&usual) {
        let high = SPACING_MM.end();
        return Err(ReadError::NoVolume(format!(
            "slices lie {usual:.0} mm apart by ImagePositionPatient (0020,0032), and no more than {high} mm make sense"
        )));
    }
    let tolerance = GAP_TOLERANCE_MM + GAP_TOLERANCE * usual;
    if let Some((i, gap)) = gaps.iter().enumerate().find(|(_, gap)| (**gap - usual).abs() > tolerance) {
        let (from, to) = (heights[i], heights[i + 1]);
        let steps = (gap / usual).round();
        if steps >= 2.0 && (gap - steps * usual).abs() <= tolerance * steps {
            let missing = steps - 1.0;
            return Err(ReadError::NoVolume(format!(
                "slices are missing between z={from:.2} and z={to:.2} mm along the stack ({missing} at a spacing of \
                 {usual:.3} mm); send the whole series again"
            )));
        }
        return Err(ReadError::NoVolume(format!(
            "slices are not evenly spaced: {gap:.3} mm between z={from:.2} and z={to:.2} mm along the stack, \
             elsewhere {usual:.3} mm"
        )));
    }
    Ok((heights[heights.len() - 1] - heights[0]) / gaps.len() as f64)
}

/// Checks that the slices lie above one another along the normal.
fn straight(sorted: &[Vec3], heights: &[f64], normal: Vec3) -> Result<(), ReadError> {
    let (first, lowest) = (sorted[0], heights[0]);
    let sideways = |i: usize| {
        let up = heights[i] - lowest;
        let beside: Vec3 = [0, 1, 2].map(|axis| sorted[i][axis] - first[axis] - up * normal[axis]);
        (dot(beside, beside).sqrt(), up)
    };
    let off = |&i: &usize| {
        let (beside, up) = sideways(i);
        beside > SIDEWAYS_MM + SIDEWAYS_TOLERANCE * up
    };
    let Some(i) = (0..sorted.len()).find(off) else { return Ok(()) };
    let last = sorted.len() - 1;
    let (beside, up) = sideways(last);
    if off(&last) {
        let degrees = beside.atan2(up).to_degrees();
        return Err(ReadError::NoVolume(format!(
            "the slices are stacked {degrees:.1} degrees off their normal (gantry tilt), which this version does not \
             straighten"
        )));
    }
    let (beside, _) = sideways(i);
    let z = heights[i];
    Err(ReadError::NoVolume(format!("the slice at z={z:.2} mm along the stack lies {beside:.2} mm beside the others")))
}

fn unit(v: Vec3) -> Vec3 {
    let length = dot(v, v).sqrt();
    v.map(|c| c / length)
}
