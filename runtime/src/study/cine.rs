//! Images of many frames that are made one after another, to be played: when each is due, and its pixels as they are shown.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use dicom_core::Tag;
use dicom_dictionary_std::tags;
use dicom_object::InMemDicomObject;

use super::attributes::{Attributes, is_code};
use super::voi::Window;
use super::{
    Frame, Instance, Kept, PatientEntry, ReadError, ReadOptions, Series, Shown, Study, Unstated, VolumeLayout, files,
    keep,
};
use crate::findings::frames::Rectangle;
use crate::geometry::Geometry;

/// The time from one frame to the next that a recording can mean, µs: a thousand a second to one in ten.
const INTERVAL_US: std::ops::RangeInclusive<f64> = 1e3..=1e7;
/// Machines write one to three regions. Each row of each picture is held against all.
const REGIONS_MAX: usize = 64;

/// One instance of several frames. Holds a patient's identity: no `Debug`.
pub struct Cine {
    kept: Kept,
    options: ReadOptions,
    /// The study with this instance alone, as a grid of one slice of 1 mm or of what the image states: what findings refer to.
    pub study: Arc<Study>,
    /// Number of Frames (0028,0008).
    pub frames: u32,
    /// Columns (0028,0011).
    pub columns: u32,
    /// Rows (0028,0010).
    pub rows: u32,
    /// Samples of a pixel as it is shown: 1, or 3.
    pub channels: u32,
    /// When frames are due, where the image says so.
    pub timing: Option<Timing>,
    /// Distance between pixel centres along a row and along a column, mm, where the image says so.
    pub spacing_mm: Option<[f64; 2]>,
    /// Where it shows tissue; empty where it does not say.
    pub areas: Vec<Rectangle>,
    grey: Grey,
}

/// When frames are due.
#[derive(Debug, Clone, PartialEq)]
pub struct Timing {
    /// The attribute that says so.
    pub by: &'static str,
    /// From each frame to the next, µs; one for all, or one for each frame after the first.
    intervals_us: Vec<u64>,
}

/// One frame as it is shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Picture {
    /// Columns.
    pub columns: u32,
    /// Rows.
    pub rows: u32,
    /// 0 to 255, row after row.
    pub brightness: Vec<u8>,
    /// Red, green and blue, pixel after pixel; `None` for grey images.
    pub colours: Option<Vec<u8>>,
}

/// How values become 0 to 255.
#[derive(Debug, Clone, Copy)]
struct Grey {
    low: f64,
    width: f64,
}

/// All images of several frames under `paths`, in order of their names; other files are left out.
///
/// # Errors
/// A file that was named and is not DICOM, damage, and limits.
pub fn cines(paths: &[PathBuf], options: &ReadOptions) -> Result<Vec<Cine>, ReadError> {
    let mut cines = Vec::new();
    for candidate in files::list(paths, options)?.candidates {
        let kept = match keep(&candidate.path, options) {
            Err(ReadError::NotDicom(_)) if !candidate.named => continue,
            kept => kept?,
        };
        if kept.frames()? > 1 {
            cines.push(Cine::new(kept, options)?);
        }
    }
    Ok(cines)
}

impl Cine {
    fn new(kept: Kept, options: &ReadOptions) -> Result<Self, ReadError> {
        kept.can_be_shown()?;
        let (rows, columns) = kept.size()?;
        let (rows, columns) = (u32::from(rows), u32::from(columns));
        let frames = kept.frames()?;
        let a = kept.attributes();
        let timing = timing(&a, frames)?;
        let regions = regions(&a, columns, rows)?;
        let spacing_mm = a.numbers::<2>(tags::PIXEL_SPACING).ok().flatten().map(|[row, column]| [column, row]);
        let spacing_mm = spacing_mm.or_else(|| one_spacing(&regions));
        let spacing_mm = spacing_mm.filter(|both| both.iter().all(|mm| (1e-3..=1e3).contains(mm)));
        let samples = a.small(tags::SAMPLES_PER_PIXEL)?.unwrap_or(1);
        let channels = if samples == 3 || a.text(tags::PHOTOMETRIC_INTERPRETATION) == "PALETTE COLOR" { 3 } else { 1 };
        let grey =
            Grey::new(kept.window(), a.small(tags::BITS_STORED)?.unwrap_or(8), a.small(tags::PIXEL_REPRESENTATION)?);
        let study = Arc::new(alone(&kept, [columns, rows], spacing_mm)?);
        let areas = regions.into_iter().map(|region| region.place).collect();
        let options = options.clone();
        Ok(Self { kept, options, study, frames, columns, rows, channels, timing, spacing_mm, areas, grey })
    }

    /// Where it lies.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.kept.path
    }

    /// Bytes of one [`Picture`].
    #[must_use]
    pub fn picture_bytes(&self) -> u64 {
        let pixels = u64::from(self.columns) * u64::from(self.rows);
        if self.channels == 3 { pixels * 4 } else { pixels }
    }

    /// Decodes one frame, counted from 1. What lies outside of [`areas`](Self::areas), where there are some, is black.
    ///
    /// # Errors
    /// Damage and limits; [`ReadError::NoVolume`] where there is no such frame.
    pub fn picture(&self, number: u32) -> Result<Picture, ReadError> {
        let frame = self.kept.frame(number, &self.options)?;
        let frame = frame.ok_or_else(|| ReadError::NoVolume(format!("there is no frame {number}")))?;
        let mut picture = self.shown(&frame)?;
        if picture.brightness.len() as u64 != u64::from(self.columns) * u64::from(self.rows) {
            return Err(ReadError::damaged(self.path(), "a frame is not of the size that the header says"));
        }
        self.blacken(&mut picture);
        Ok(picture)
    }

    fn shown(&self, frame: &Frame<'_>) -> Result<Picture, ReadError> {
        let (columns, rows) = (self.columns, self.rows);
        Ok(match frame.shown()? {
            Shown::Grey { values, inverted } => {
                let brightness = values.into_iter().map(|v| self.grey.shown(v, inverted)).collect();
                Picture { columns, rows, brightness, colours: None }
            }
            Shown::Colour(colours) => {
                let luma = |[r, g, b]: &[u8; 3]| {
                    let sum = 77 * u32::from(*r) + 150 * u32::from(*g) + 29 * u32::from(*b);
                    u8::try_from(sum >> 8).unwrap_or(u8::MAX)
                };
                let brightness = colours.as_chunks::<3>().0.iter().map(luma).collect();
                Picture { columns, rows, brightness, colours: Some(colours) }
            }
        })
    }

    fn blacken(&self, picture: &mut Picture) {
        if self.areas.is_empty() {
            return;
        }
        let columns = self.columns as usize;
        for row in 0..self.rows {
            let line = row as usize * columns;
            let here = || self.areas.iter().filter(|a| row >= a.row && row - a.row < a.rows);
            // Most rows lie in one area or in none.
            let mut spans: Vec<(u32, u32)> = here().map(|a| (a.column, a.column + a.columns)).collect();
            spans.sort_unstable();
            let mut dark_from = 0;
            for (start, end) in spans.into_iter().chain([(self.columns, self.columns)]) {
                if start > dark_from {
                    let dark = line + dark_from as usize..line + start as usize;
                    if let Some(colours) = &mut picture.colours {
                        colours[dark.start * 3..dark.end * 3].fill(0);
                    }
                    picture.brightness[dark].fill(0);
                }
                dark_from = dark_from.max(end);
            }
        }
    }
}

impl Timing {
    /// From frame `number`, counted from 1, to the next, µs. After the last, to the first again: as on the way there, in the mean.
    #[must_use]
    pub fn after(&self, number: u32) -> u64 {
        match &self.intervals_us[..] {
            [one] => *one,
            each => each.get((number as usize).saturating_sub(1)).copied().unwrap_or_else(|| self.mean_us()),
        }
    }

    /// From one frame to the next in the mean, µs; at least 1.
    #[must_use]
    pub fn mean_us(&self) -> u64 {
        let sum: u64 = self.intervals_us.iter().sum();
        (sum / (self.intervals_us.len() as u64).max(1)).max(1)
    }
}

impl Grey {
    /// The first window that is stated, and else all that can be stored.
    fn new(window: Option<Window>, bits: u16, representation: Option<u16>) -> Self {
        let all = 2f64.powi(i32::from(bits.clamp(1, 16)));
        match window {
            Some(window) => Self { low: window.centre - window.width / 2.0, width: window.width },
            None if representation == Some(1) => Self { low: -all / 2.0, width: all - 1.0 },
            None => Self { low: 0.0, width: all - 1.0 },
        }
    }

    fn shown(self, value: f32, inverted: bool) -> u8 {
        // Saturates, and what is no number is 0.
        let value = ((f64::from(value) - self.low) / self.width * 255.0).round() as u8;
        if inverted { 255 - value } else { value }
    }
}

/// When frames are due (PS3.3 C.7.6.5): by their times, else by the rates at which they are to be shown or were made.
fn timing(a: &Attributes<'_>, frames: u32) -> Result<Option<Timing>, ReadError> {
    let points_to = a.object.get(tags::FRAME_INCREMENT_POINTER).and_then(|e| e.value().to_tag().ok());
    let interval = |by, tag: Tag, us: f64| match INTERVAL_US.contains(&us) {
        true => Ok(Some(Timing { by, intervals_us: vec![us.round() as u64] })),
        false => Err(a.fault(tag, "is no rate at which images are made; play them with --fps")),
    };
    if points_to == Some(tags::FRAME_TIME_VECTOR) || (points_to.is_none() && a.present(tags::FRAME_TIME_VECTOR)) {
        return vector(a, frames).map(Some);
    }
    if let Some([ms]) = a.numbers::<1>(tags::FRAME_TIME)? {
        return interval("FrameTime", tags::FRAME_TIME, ms * 1e3);
    }
    for (by, tag) in
        [("RecommendedDisplayFrameRate", tags::RECOMMENDED_DISPLAY_FRAME_RATE), ("CineRate", tags::CINE_RATE)]
    {
        // Some machines write 0 where they mean nothing.
        if let Some([rate]) = a.numbers::<1>(tag)?.filter(|[rate]| *rate != 0.0) {
            return interval(by, tag, 1e6 / rate);
        }
    }
    Ok(None)
}

/// Frame Time Vector (0018,1065): for each frame the time since the one before, ms; 0 for the first.
fn vector(a: &Attributes<'_>, frames: u32) -> Result<Timing, ReadError> {
    let tag = tags::FRAME_TIME_VECTOR;
    let values = a.object.get(tag).and_then(|e| e.value().to_multi_float64().ok()).unwrap_or_default();
    if values.len() != frames as usize {
        return Err(a.fault(tag, format!("has {} values for {frames} frames; play them with --fps", values.len())));
    }
    let increments = values.iter().skip(1).map(|ms| ms * 1e3);
    // Two frames of one moment may be; one that is before the other, or a day after it, may not.
    if !increments.clone().all(|us| (0.0..=*INTERVAL_US.end()).contains(&us)) || values.iter().sum::<f64>() <= 0.0 {
        return Err(a.fault(tag, "is no order in which images are made; play them with --fps"));
    }
    Ok(Timing { by: "FrameTimeVector", intervals_us: increments.map(|us| us.round() as u64).collect() })
}

/// One of Sequence of Ultrasound Regions (PS3.3 C.8.5.5).
struct UltrasoundRegion {
    place: Rectangle,
    spacing_mm: Option<[f64; 2]>,
}

/// What all regions say that say something; none where they are of several scales, as of two probes side by side.
fn one_spacing(regions: &[UltrasoundRegion]) -> Option<[f64; 2]> {
    let mut stated = regions.iter().filter_map(|region| region.spacing_mm);
    let first = stated.next()?;
    stated.all(|other| (0..2).all(|a| (first[a] - other[a]).abs() <= 1e-3 * first[a])).then_some(first)
}

/// Those that lie in the image; one that does not says nothing of where names are, and none of them is believed then.
fn regions(a: &Attributes<'_>, columns: u32, rows: u32) -> Result<Vec<UltrasoundRegion>, ReadError> {
    let sequence = a.object.get(tags::SEQUENCE_OF_ULTRASOUND_REGIONS);
    let items = sequence.and_then(|sequence| sequence.items()).unwrap_or_default();
    if items.len() > REGIONS_MAX {
        return Err(a.fault(tags::SEQUENCE_OF_ULTRASOUND_REGIONS, format!("has more than {REGIONS_MAX} items")));
    }
    let read: Option<Vec<_>> = items.iter().map(|item| region(a.path, item, columns, rows)).collect();
    Ok(read.unwrap_or_default())
}

fn region(path: &Path, item: &InMemDicomObject, columns: u32, rows: u32) -> Option<UltrasoundRegion> {
    let a = Attributes { path, object: item };
    let number = |tag| a.numbers::<1>(tag).ok().flatten().map(|[n]| n);
    let whole = |tag| number(tag).filter(|n| n.fract() == 0.0 && (0.0..=65535.0).contains(n)).map(|n| n as u32);
    let (left, top) = (whole(tags::REGION_LOCATION_MIN_X0)?, whole(tags::REGION_LOCATION_MIN_Y0)?);
    let (right, bottom) = (whole(tags::REGION_LOCATION_MAX_X1)?, whole(tags::REGION_LOCATION_MAX_Y1)?);
    // Writers mean by the last corner the last pixel, or the one behind it. What goes beyond is of an image that was made smaller.
    if right > columns || bottom > rows {
        return None;
    }
    let (right, bottom) = (right.min(columns.saturating_sub(1)), bottom.min(rows.saturating_sub(1)));
    let place = Rectangle {
        column: left,
        row: top,
        columns: right.checked_sub(left)?.saturating_add(1),
        rows: bottom.checked_sub(top)?.saturating_add(1),
    };
    let centimetres = [tags::PHYSICAL_UNITS_X_DIRECTION, tags::PHYSICAL_UNITS_Y_DIRECTION]
        .into_iter()
        .all(|tag| whole(tag) == Some(3));
    let spacing = number(tags::PHYSICAL_DELTA_X).zip(number(tags::PHYSICAL_DELTA_Y)).filter(|_| centimetres);
    let spacing_mm = spacing.map(|(x, y)| [x.abs() * 10.0, y.abs() * 10.0]);
    place.fits(columns, rows).then_some(UltrasoundRegion { place, spacing_mm })
}

/// A study of this one instance.
fn alone(kept: &Kept, [columns, rows]: [u32; 2], spacing_mm: Option<[f64; 2]>) -> Result<Study, ReadError> {
    let a = kept.attributes();
    let [x, y] = spacing_mm.unwrap_or([1.0, 1.0]);
    let unstated = Unstated { pixels: spacing_mm.is_none(), slices: true };
    let axes = [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]];
    let geometry = Geometry::new([columns as usize, rows as usize, 1], [x, y, 1.0], [0.0; 3], axes);
    let geometry = geometry.map_err(crate::volumes::VolumeError::from)?;
    let instance = Instance {
        path: kept.path.clone(),
        sop_class_uid: a.uid(tags::SOP_CLASS_UID)?,
        sop_instance_uid: a.uid(tags::SOP_INSTANCE_UID)?,
        transfer_syntax_uid: kept.transfer_syntax_uid.clone(),
        source: kept.opened.source.clone(),
        frames: kept.frames()?,
        unplaced: true,
        ..Instance::default()
    };
    let modality = a.text(tags::MODALITY);
    let series = Series {
        uid: a.uid(tags::SERIES_INSTANCE_UID)?,
        modality: if is_code(&modality) { modality } else { String::new() },
        header: kept.dataset.clone(),
        instances: vec![instance],
        volumes: vec![VolumeLayout { unstated, ..VolumeLayout::new(geometry, vec![0]) }],
        refused: None,
    };
    let uid = a.uid(tags::STUDY_INSTANCE_UID)?;
    Ok(Study { uid, patient: PatientEntry::default(), series: vec![series], warnings: Vec::new() })
}

#[cfg(test)]
mod tests {
    use dicom_core::value::DataSetSequence;
    use dicom_core::{DataElement, PrimitiveValue, VR};
    use dicom_object::FileMetaTableBuilder;

    use super::*;

    /// Three frames of 4 × 2 pixels, each of its own grey, changed.
    fn cine(change: impl FnOnce(&mut InMemDicomObject)) -> Result<Cine, ReadError> {
        let folder = tempfile::tempdir().expect("a folder");
        let mut object = InMemDicomObject::new_empty();
        for (tag, vr, text) in [
            (tags::SOP_CLASS_UID, VR::UI, "1.2.840.10008.5.1.4.1.1.3.1"),
            (tags::SOP_INSTANCE_UID, VR::UI, "2.25.1"),
            (tags::STUDY_INSTANCE_UID, VR::UI, "2.25.2"),
            (tags::SERIES_INSTANCE_UID, VR::UI, "2.25.3"),
            (tags::MODALITY, VR::CS, "US"),
            (tags::PHOTOMETRIC_INTERPRETATION, VR::CS, "MONOCHROME2"),
            (tags::NUMBER_OF_FRAMES, VR::IS, "3"),
        ] {
            object.put_str(tag, vr, text);
        }
        for (tag, value) in [
            (tags::SAMPLES_PER_PIXEL, 1u16),
            (tags::ROWS, 2),
            (tags::COLUMNS, 4),
            (tags::BITS_ALLOCATED, 8),
            (tags::BITS_STORED, 8),
            (tags::HIGH_BIT, 7),
            (tags::PIXEL_REPRESENTATION, 0),
        ] {
            object.put(DataElement::new(tag, VR::US, PrimitiveValue::from(value)));
        }
        let pixels: Vec<u8> = [10u8, 20, 30].into_iter().flat_map(|grey| [grey; 8]).collect();
        object.put(DataElement::new(tags::PIXEL_DATA, VR::OB, PrimitiveValue::from(pixels)));
        change(&mut object);
        let meta = FileMetaTableBuilder::new().transfer_syntax("1.2.840.10008.1.2.1");
        let file = object.with_meta(meta).expect("whole");
        file.write_to_file(folder.path().join("cine.dcm")).expect("written");
        let mut found = cines(&[folder.path().to_owned()], &ReadOptions::default())?;
        let cine = found.remove(0);
        // Before the folder goes.
        assert_eq!(cine.picture(3)?.brightness.iter().max(), Some(&30));
        Ok(cine)
    }

    fn timed(change: impl FnOnce(&mut InMemDicomObject)) -> Result<Option<Timing>, String> {
        cine(change).map(|cine| cine.timing).map_err(|e| e.to_string())
    }

    #[test]
    fn frames_are_due_as_the_image_says() {
        assert_eq!(timed(|_| {}), Ok(None));
        let by = |tag, vr, text: &'static str| {
            timed(move |object| {
                object.put_str(tag, vr, text);
            })
        };
        let fixed = by(tags::FRAME_TIME, VR::DS, "33.333333").expect("sound").expect("timed");
        assert_eq!((fixed.by, fixed.after(1), fixed.after(3), fixed.mean_us()), ("FrameTime", 33333, 33333, 33333));
        let each = by(tags::FRAME_TIME_VECTOR, VR::DS, "0\\10\\30").expect("sound").expect("timed");
        assert_eq!((each.by, each.after(1), each.after(2), each.after(3)), ("FrameTimeVector", 10000, 30000, 20000));
        let rate = by(tags::CINE_RATE, VR::IS, "25").expect("sound").expect("timed");
        assert_eq!((rate.by, rate.mean_us()), ("CineRate", 40000));
        assert_eq!(by(tags::CINE_RATE, VR::IS, "0"), Ok(None), "some write 0 where they know none");
    }

    #[test]
    fn times_that_make_no_sense_are_named_with_the_remedy() {
        for (tag, text) in [
            (tags::FRAME_TIME, "0"),
            (tags::FRAME_TIME, "-5"),
            (tags::FRAME_TIME, "1e9"),
            (tags::FRAME_TIME_VECTOR, "0\\10"),
            (tags::FRAME_TIME_VECTOR, "0\\-10\\30"),
            (tags::FRAME_TIME_VECTOR, "0\\0\\0"),
        ] {
            let refused = timed(|object| {
                object.put_str(tag, VR::DS, text);
            });
            let refused = refused.expect_err(text);
            assert!(refused.contains("--fps") && refused.contains("FrameTime"), "{text}: {refused}");
        }
    }

    fn with_region(corners: [u32; 4]) -> impl FnOnce(&mut InMemDicomObject) {
        move |object| {
            let mut region = InMemDicomObject::new_empty();
            let places = [
                tags::REGION_LOCATION_MIN_X0,
                tags::REGION_LOCATION_MIN_Y0,
                tags::REGION_LOCATION_MAX_X1,
                tags::REGION_LOCATION_MAX_Y1,
            ];
            for (tag, corner) in places.into_iter().zip(corners) {
                region.put(DataElement::new(tag, VR::UL, PrimitiveValue::from(corner)));
            }
            for tag in [tags::PHYSICAL_UNITS_X_DIRECTION, tags::PHYSICAL_UNITS_Y_DIRECTION] {
                region.put(DataElement::new(tag, VR::US, PrimitiveValue::from(3u16)));
            }
            for tag in [tags::PHYSICAL_DELTA_X, tags::PHYSICAL_DELTA_Y] {
                region.put(DataElement::new(tag, VR::FD, PrimitiveValue::from(0.05)));
            }
            object.put(DataElement::new(
                tags::SEQUENCE_OF_ULTRASOUND_REGIONS,
                VR::SQ,
                DataSetSequence::from(vec![region]),
            ));
        }
    }

    #[test]
    fn what_is_outside_of_the_regions_is_black() {
        let cine = cine(with_region([1, 1, 2, 1])).expect("a cine");
        assert_eq!(cine.areas, [Rectangle { column: 1, row: 1, columns: 2, rows: 1 }]);
        assert_eq!(cine.spacing_mm, Some([0.5, 0.5]));
        let mut picture = Picture { columns: 4, rows: 2, brightness: vec![9; 8], colours: Some(vec![9; 24]) };
        cine.blacken(&mut picture);
        assert_eq!(picture.brightness, [0, 0, 0, 0, 0, 9, 9, 0]);
        assert_eq!(picture.colours.expect("colours").iter().filter(|c| **c == 9).count(), 6);
    }

    #[test]
    fn regions_of_several_scales_say_none_for_the_image() {
        let place = Rectangle { column: 0, row: 0, columns: 1, rows: 1 };
        let of = |spacings: &[Option<[f64; 2]>]| {
            let regions: Vec<_> = spacings.iter().map(|&spacing_mm| UltrasoundRegion { place, spacing_mm }).collect();
            one_spacing(&regions)
        };
        assert_eq!(of(&[]), None);
        // One without a scale in both directions is a trace, or a Doppler spectrum.
        assert_eq!(of(&[None, Some([0.5, 0.5]), Some([0.5, 0.5001])]), Some([0.5, 0.5]));
        assert_eq!(of(&[Some([0.5, 0.5]), Some([0.25, 0.25])]), None);
    }

    #[test]
    fn a_region_ends_with_the_image_and_one_beyond_it_or_an_empty_one_is_not_believed() {
        let last = cine(with_region([0, 0, 4, 2])).expect("a cine");
        assert_eq!(last.areas, [Rectangle { column: 0, row: 0, columns: 4, rows: 2 }]);
        for corners in [[3, 0, 1, 1], [0, 0, 5, 1], [0, 0, 1, 3]] {
            assert!(cine(with_region(corners)).expect("a cine").areas.is_empty(), "{corners:?}");
        }
    }

    #[test]
    fn grey_of_more_bits_is_what_the_window_shows() {
        let window = Window { centre: 100.0, width: 100.0, function: None };
        let shown = |grey: Grey, value| (grey.shown(value, false), grey.shown(value, true));
        assert_eq!(shown(Grey::new(Some(window), 16, None), 50.0), (0, 255));
        assert_eq!(shown(Grey::new(Some(window), 16, None), 1e9), (255, 0));
        assert_eq!(shown(Grey::new(None, 8, Some(0)), 77.0), (77, 178));
        assert_eq!(shown(Grey::new(None, 12, Some(1)), f32::NAN), (0, 255));
    }
}
