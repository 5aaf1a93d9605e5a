//! Slices become a grid: by position and orientation in the patient, never by name or number.

use std::ops::RangeInclusive;
use std::path::Path;

use dicom_dictionary_std::tags;

use super::attributes::Attributes;
use super::facts::{self, Facts};
use super::pixels::Pixels;
use super::voi::Voi;
use super::{ReadError, Tilt, unplaced};
use crate::geometry::{Geometry, Vec3, cross, dot};

/// The farthest position on an axis: a hundred metres.
const POSITION_MAX_MM: f64 = 1e5;
/// What stands for a spacing that nothing states, mm.
pub(super) const NOTHING_STATED_MM: f64 = 1.0;
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
pub(super) const SAME_POSITION_MM: f64 = *SPACING_MM.start();
/// A slice may lie this far beside the line through the first along the normal, and this fraction of the distance.
const SIDEWAYS_MM: f64 = 0.1;
const SIDEWAYS_TOLERANCE: f64 = 1e-3;
/// No gantry tilts by more.
const TILT_MAX_DEGREES: f64 = 45.0;
/// Shifts within an image that are less than this part of a pixel are none.
const SHIFT_MIN: f64 = 0.01;

/// Where one slice lies (PS3.3 C.7.6.2), its pixels, and what may tell it from another at its place.
#[derive(Debug, Clone)]
pub(super) struct Slice {
    /// Number of the frame in an object of several, from 1; `None`: the object is the image.
    pub(super) frame: Option<u32>,
    /// Centre of the first pixel, mm.
    pub(super) position: Vec3,
    /// Direction of a row: of increasing column index.
    row: Vec3,
    /// Direction of a column: of increasing row index.
    column: Vec3,
    /// Distance of pixel centres along a row and along a column, mm.
    spacing: [f64; 2],
    /// Something states it.
    pub(super) measured: bool,
    /// Spacing Between Slices, or else Slice Thickness, where it makes sense, mm.
    pub(super) thickness: Option<f64>,
    pub(super) pixels: Pixels,
    pub(super) voi: Voi,
    pub(super) facts: Facts,
    /// It lies nowhere in the patient; the above is of its own plane.
    pub(super) unplaced: bool,
}

/// A slice and the file that it is in.
pub(super) type Placed<'a> = (&'a Path, &'a Slice);

/// A grid, and which slices it is made of.
#[derive(Debug)]
pub(super) struct Stack {
    pub(super) geometry: Geometry,
    /// Which of the slices, along the grid's z axis.
    pub(super) order: Vec<usize>,
    pub(super) tilt: Option<Tilt>,
}

impl Slice {
    /// Reads the image plane module.
    pub(super) fn read(a: &Attributes<'_>, frame: Option<u32>, pixels: Pixels) -> Result<Self, ReadError> {
        let (voi, facts) = (Voi::read(a), facts::read(a));
        if unplaced::is(a) {
            let (position, [row, column]) = ([0.0; 3], [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]);
            let stated = unplaced::spacing(a)?;
            let spacing = sensible_spacing(a, stated.unwrap_or([NOTHING_STATED_MM; 2]))?;
            let (measured, thickness, unplaced) = (stated.is_some(), None, true);
            return Ok(Self {
                frame,
                position,
                row,
                column,
                spacing,
                measured,
                thickness,
                pixels,
                voi,
                facts,
                unplaced,
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
        let (measured, unplaced) = (true, false);
        Ok(Self { frame, position, row, column, spacing, measured, thickness, pixels, voi, facts, unplaced })
    }

    /// The normal, row × column, and how far along it the slice lies, mm.
    pub(super) fn along_normal(&self) -> (Vec3, f64) {
        let normal = cross(self.row, self.column);
        (normal, dot(self.position, normal))
    }

    /// Whether it may be in a volume with `first`; if not, in what it differs.
    pub(super) fn differs(&self, first: &Self) -> Option<Differs> {
        let apart = |a: Vec3, b: Vec3| a.iter().zip(b).any(|(a, b)| (a - b).abs() > COSINE_TOLERANCE);
        if apart(self.row, first.row) || apart(self.column, first.column) {
            return Some(Differs::Orientation);
        }
        if self.spacing.iter().zip(first.spacing).any(|(a, b)| (a - b).abs() > SPACING_TOLERANCE * b) {
            return Some(Differs::Spacing);
        }
        ((self.pixels.rows, self.pixels.columns) != (first.pixels.rows, first.pixels.columns)).then_some(Differs::Size)
    }

    /// What it is by one of these, for people.
    pub(super) fn is(&self, what: Differs) -> String {
        match what {
            Differs::Orientation => {
                let [x, y, z] = cross(self.row, self.column).map(f64::abs);
                let (most, name) = match () {
                    () if z >= x && z >= y => (z, "axial"),
                    () if y >= x => (y, "coronal"),
                    () => (x, "sagittal"),
                };
                if most > 0.999 { name.into() } else { format!("oblique, nearest to {name}") }
            }
            Differs::Spacing => format!("{} x {} mm", self.spacing[0], self.spacing[1]),
            Differs::Size => format!("{} x {} pixels", self.pixels.columns, self.pixels.rows),
        }
    }
}

/// In what slices differ that cannot be in one volume.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Differs {
    Orientation,
    Spacing,
    Size,
}

impl Differs {
    /// Its attribute, for people.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Orientation => "ImageOrientationPatient (0020,0037)",
            Self::Spacing => "PixelSpacing (0028,0030)",
            Self::Size => "Rows (0028,0010) and Columns (0028,0011)",
        }
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

/// The grid that the `members` of `slices` form, all of one orientation, spacing and size.
pub(super) fn stack(slices: &[Placed<'_>], members: &[usize]) -> Result<Stack, ReadError> {
    let Some((_, first)) = members.first().map(|i| slices[*i]) else {
        return Err(ReadError::NoVolume("no slices".into()));
    };
    let normal = cross(first.row, first.column);
    let along = |i: &usize| dot(slices[*i].1.position, normal);
    let mut order = members.to_vec();
    // The paths decide between equal positions, so that the message does not depend on chance.
    order.sort_by(|a, b| along(a).total_cmp(&along(b)).then_with(|| slices[*a].0.cmp(slices[*b].0)));
    let heights: Vec<f64> = order.iter().map(along).collect();
    let spacing = match heights.as_slice() {
        [_] => first.thickness.unwrap_or(NOTHING_STATED_MM),
        _ => even(&heights)?,
    };
    let sorted: Vec<&Slice> = order.iter().map(|i| slices[*i].1).collect();
    let size = [usize::from(first.pixels.columns), usize::from(first.pixels.rows), order.len()];
    let spacing = [first.spacing[0], first.spacing[1], spacing];
    let grid = |size, origin| {
        Geometry::new(size, spacing, origin, [first.row, first.column, normal])
            .map_err(|source| ReadError::Geometry { path: slices[order[0]].0.to_owned(), source })
    };
    let geometry = grid(size, sorted[0].position)?;
    let Some((degrees, beside)) = straight(&sorted, &heights, normal)? else {
        return Ok(Stack { geometry, order, tilt: None });
    };
    // The grid is as much larger as nothing of any slice needs to be left out.
    let (mut wide, mut corner) = (size, [0.0; 3]);
    let mut shifts = vec![[0.0; 2]; beside.len()];
    for axis in [0, 1] {
        let places = beside.iter().map(|mm| mm[axis] / spacing[axis]);
        let (least, most) = places.clone().fold((0.0f64, 0.0f64), |(low, high), at| (low.min(at), high.max(at)));
        if most - least >= SHIFT_MIN {
            wide[axis] += (most - least - SHIFT_MIN).ceil() as usize;
            corner[axis] = least;
            shifts.iter_mut().zip(places).for_each(|(shift, at)| shift[axis] = at - least);
        }
    }
    if wide.iter().take(2).any(|side| *side > usize::from(u16::MAX)) {
        return Err(ReadError::NoVolume(format!("straightened by {degrees:.1} degrees its slices would be too large")));
    }
    let geometry = grid(wide, geometry.to_patient(corner))?;
    Ok(Stack { geometry, order, tilt: Some(Tilt { degrees, shifts }) })
}

/// The distance of slices at `heights`, which must be the same between all.
fn even(heights: &[f64]) -> Result<f64, ReadError> {
    let gaps: Vec<f64> = heights.windows(2).map(|pair| pair[1] - pair[0]).collect();
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

/// By how many degrees slices are stacked off their normal, and how far each lies beside the line through the first along it,
/// along its rows and its columns, mm.
type Leaning = (f64, Vec<[f64; 2]>);

/// How slices lean; `None` where they lie above one another.
fn straight(sorted: &[&Slice], heights: &[f64], normal: Vec3) -> Result<Option<Leaning>, ReadError> {
    let (first, lowest, last) = (sorted[0], heights[0], sorted.len() - 1);
    let up = |i: usize| heights[i] - lowest;
    let beside = |i: usize| {
        let by: Vec3 = [0, 1, 2].map(|a| sorted[i].position[a] - first.position[a] - up(i) * normal[a]);
        [dot(by, first.row), dot(by, first.column)]
    };
    let allowed = |i: usize| SIDEWAYS_MM + SIDEWAYS_TOLERANCE * up(i);
    let length = |[x, y]: [f64; 2]| x.hypot(y);
    let Some(off) = (0..=last).find(|i| length(beside(*i)) > allowed(*i)) else { return Ok(None) };
    let slope = beside(last).map(|mm| mm / up(last));
    let on_line = |i: usize| {
        let [x, y] = beside(i);
        length([x - slope[0] * up(i), y - slope[1] * up(i)]) <= allowed(i)
    };
    // Any two slices are on a line.
    if last < 2 || !(0..=last).all(on_line) {
        let (z, mm) = (heights[off], length(beside(off)));
        return Err(ReadError::NoVolume(format!(
            "the slice at z={z:.2} mm along the stack lies {mm:.2} mm beside the others"
        )));
    }
    let degrees = length(slope).atan().to_degrees();
    if degrees > TILT_MAX_DEGREES {
        return Err(ReadError::NoVolume(format!(
            "the slices are stacked {degrees:.1} degrees off their normal, and no gantry tilts by more than \
             {TILT_MAX_DEGREES}; resample the series"
        )));
    }
    Ok(Some((degrees, (0..=last).map(beside).collect())))
}

fn unit(v: Vec3) -> Vec3 {
    let length = dot(v, v).sqrt();
    v.map(|c| c / length)
}
