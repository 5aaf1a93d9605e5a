//! DICOM Secondary Capture (PS3.3 A.8.1) in true colour: a key slice with what was found drawn into it, for archives and
//! viewers that show nothing else.

mod picture;

use std::collections::BTreeMap;

use dicom_core::{DataElement, PrimitiveValue, VR};
use dicom_dictionary_std::{tags, uids as dictionary};
use dicom_object::{FileDicomObject, FileMetaTableBuilder, InMemDicomObject};

use self::picture::Line;
use super::canvas::{AMBER, COLOURS, Canvas, Colour};
use super::codes::{self, put_code};
use super::dataset::{self, put, sequence, text};
use super::window::{self, Window};
use super::{Accepted, ModuleInfo, OutputUids, Source, Stamp};
use crate::findings::Mark;
use crate::geometry::{Geometry, Region};
use crate::study::Study;
use crate::volumes::{Volume, VolumeError};

/// The name that UIDs of the capture are derived from.
const OUTPUT: &str = "secondary-capture";
/// Findings that are listed; a report has all of them.
const LINES_MAX: usize = 16;

/// Why there is no capture.
#[derive(Debug, thiserror::Error)]
pub enum CaptureError {
    /// Not what the gate accepted: ours to repair.
    #[error("slice {0} has no instance in the source volume; pass the source of the key slice")]
    Source(usize),
    /// Voxels, labels or heat could not be computed again.
    #[error("the key slice cannot be computed: {0}")]
    Voxels(#[from] VolumeError),
    /// An object that cannot be encoded: ours to repair.
    #[error("the file meta information of the secondary capture cannot be built: {0}")]
    Meta(String),
}

/// The slice that shows most of what was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeySlice {
    /// Index of the series and of the volume in it.
    pub source: (usize, usize),
    /// Along the grid's z axis, from 0.
    pub slice: usize,
}

/// The [hottest](super::AcceptedHeatmap::hottest) slice of a heatmap, else the slice with most voxels of segments, else the middle one of the most probable
/// box, else that of the volume that findings refer to, where the study as a whole was classified; `None` where it was not.
#[must_use]
pub fn key_slice(accepted: &Accepted, study: &Study) -> Option<KeySlice> {
    if let Some(heatmap) = &accepted.heatmap {
        return Some(KeySlice { source: heatmap.source, slice: heatmap.hottest });
    }
    if accepted.has_seg() {
        return Some(KeySlice { source: accepted.source, slice: accepted.fullest });
    }
    // Of several the first: `max_by` would take the last.
    if let Some(best) = accepted.marks.iter().rev().max_by(|a, b| a.probability.total_cmp(&b.probability)) {
        let slice = best.region.start[2] + best.region.size[2] / 2;
        return Some(KeySlice { source: accepted.marks_source, slice });
    }
    let classified = !(accepted.triage.is_empty() && accepted.classifications.is_empty());
    let source = Source::new(study, accepted.source).filter(|_| classified)?;
    Some(KeySlice { source: accepted.source, slice: source.layout.slices.len() / 2 })
}

/// Whether anything that was found lies somewhere.
fn has_place(accepted: &Accepted) -> bool {
    accepted.heatmap.is_some() || accepted.has_seg() || !accepted.marks.is_empty()
}

/// What is known of the slice itself.
struct Key<'a> {
    grid: &'a Geometry,
    window: Window,
    inverse: bool,
}

/// What is drawn.
struct Shown {
    /// Of the image, row after row.
    values: Vec<f32>,
    heat: Option<Heat>,
    segments: Option<Segments>,
    boxes: Vec<(Region, Colour)>,
}

struct Heat {
    values: Vec<f32>,
    /// What the coldest and the hottest colour stand for.
    range: (f32, f32),
}

struct Segments {
    labels: Vec<u16>,
    colours: BTreeMap<u32, Colour>,
}

/// The capture of `key`, a slice of `source`, whose voxels are `image`.
///
/// # Errors
/// See [`CaptureError`].
pub fn secondary_capture(
    accepted: &Accepted,
    key: KeySlice,
    source: &Source<'_>,
    image: &Volume,
    module: &ModuleInfo,
    uids: &OutputUids,
    stamp: &Stamp,
) -> Result<FileDicomObject<InMemDicomObject>, CaptureError> {
    let instance = source.instance(key.slice).ok_or(CaptureError::Source(key.slice))?;
    let canvas = draw(accepted, key, source, image, module)?;
    let mut object = dataset::in_study_of(source);
    let mut module = module.clone();
    let texts = [&mut module.name, &mut module.version, &mut module.vendor, &mut module.title];
    dataset::fit_characters(&mut object, texts);
    let module = &module;
    dataset::put_instance(&mut object, dictionary::SECONDARY_CAPTURE_IMAGE_STORAGE, &uids.instance(OUTPUT), stamp);
    let description = dataset::described(&module.title, module);
    dataset::put_series(&mut object, source, "OT", &uids.series(OUTPUT), &description, 3);
    dataset::put_body_part(&mut object, source);
    dataset::put_side(&mut object, source);
    dataset::put_equipment(&mut object, module);
    put(&mut object, tags::CONVERSION_TYPE, VR::CS, "WSD");
    put(&mut object, tags::SECONDARY_CAPTURE_DEVICE_MANUFACTURER, VR::LO, dataset::MANUFACTURER);
    put(&mut object, tags::SECONDARY_CAPTURE_DEVICE_MANUFACTURER_MODEL_NAME, VR::LO, text(&module.name));
    put(&mut object, tags::SECONDARY_CAPTURE_DEVICE_SOFTWARE_VERSIONS, VR::LO, text(&module.version));
    put(&mut object, tags::DATE_OF_SECONDARY_CAPTURE, VR::DA, stamp.date.as_str());
    put(&mut object, tags::TIME_OF_SECONDARY_CAPTURE, VR::TM, stamp.time.as_str());

    let mut of = dataset::image_reference(instance);
    put_code(&mut of, tags::PURPOSE_OF_REFERENCE_CODE_SEQUENCE, &codes::SOURCE_IMAGE.into());
    sequence(&mut object, tags::SOURCE_IMAGE_SEQUENCE, vec![of]);
    let derivation = match has_place(accepted) {
        true => "A slice of the source with what the module found drawn into it, and what that means around it",
        false => "A slice of the source with what the module found in all of it in words around it",
    };
    put(&mut object, tags::DERIVATION_DESCRIPTION, VR::ST, derivation);
    put(&mut object, tags::BURNED_IN_ANNOTATION, VR::CS, "YES");
    put(&mut object, tags::IMAGE_COMMENTS, VR::LT, dataset::label(module));
    let values = |values: [String; 2]| PrimitiveValue::Strs(values.into_iter().collect());
    put(&mut object, tags::IMAGE_TYPE, VR::CS, values(["DERIVED".into(), "SECONDARY".into()]));
    let [along_rows, along_columns, _] = source.layout.geometry.axes();
    let sides = match source.unplaced() {
        // As it was stated, or empty: nothing else knows.
        true => {
            let stated = source.series.attribute("PatientOrientation").unwrap_or_default();
            let sides: Vec<String> = stated.split('\\').map(str::to_owned).collect();
            let letters = |side: &String| !side.is_empty() && side.bytes().all(|b| b.is_ascii_uppercase());
            match sides.len() == 2 && sides.iter().all(letters) {
                true => PrimitiveValue::Strs(sides.into_iter().collect()),
                false => PrimitiveValue::Empty,
            }
        }
        false => values([picture::direction(along_rows), picture::direction(along_columns)]),
    };
    put(&mut object, tags::PATIENT_ORIENTATION, VR::CS, sides);
    dataset::put_lossy(&mut object, source);
    put_pixels(&mut object, canvas);
    let meta = FileMetaTableBuilder::new().transfer_syntax(dictionary::EXPLICIT_VR_LITTLE_ENDIAN);
    object.with_meta(meta).map_err(|e| CaptureError::Meta(e.to_string()))
}

/// Image Pixel module (PS3.3 C.7.6.3).
fn put_pixels(object: &mut InMemDicomObject, canvas: Canvas) {
    let side = |n: usize| u16::try_from(n).expect("a picture has sides of at most some thousand pixels");
    put(object, tags::SAMPLES_PER_PIXEL, VR::US, 3u16);
    put(object, tags::PHOTOMETRIC_INTERPRETATION, VR::CS, "RGB");
    put(object, tags::PLANAR_CONFIGURATION, VR::US, 0u16);
    put(object, tags::ROWS, VR::US, side(canvas.height()));
    put(object, tags::COLUMNS, VR::US, side(canvas.width()));
    put(object, tags::BITS_ALLOCATED, VR::US, 8u16);
    put(object, tags::BITS_STORED, VR::US, 8u16);
    put(object, tags::HIGH_BIT, VR::US, 7u16);
    put(object, tags::PIXEL_REPRESENTATION, VR::US, 0u16);
    let mut rgb = canvas.into_rgb();
    rgb.resize(rgb.len().next_multiple_of(2), 0);
    object.put(DataElement::new(tags::PIXEL_DATA, VR::OB, PrimitiveValue::U8(rgb.into())));
}

fn draw(
    accepted: &Accepted,
    key: KeySlice,
    source: &Source<'_>,
    image: &Volume,
    module: &ModuleInfo,
) -> Result<Canvas, VolumeError> {
    let grid = &source.layout.geometry;
    let [columns, rows, _] = grid.size();
    let mut values = vec![0f32; columns * rows];
    image.slice(0, &mut values)?;
    let heat = match accepted.heatmap.as_ref().filter(|heatmap| heatmap.source == key.source) {
        None => None,
        Some(heatmap) => {
            let mut values = vec![0f32; columns * rows];
            heatmap.values.slice(key.slice, &mut values)?;
            Some(Heat { values, range: heatmap.shown() })
        }
    };
    let segments = match accepted.segmentation.as_ref().filter(|_| accepted.source == key.source) {
        None => None,
        Some(segmentation) => {
            let mut labels = vec![0u16; columns * rows];
            segmentation.labels.label_slice(key.slice, &mut labels)?;
            Some(Segments { labels, colours: colours(accepted) })
        }
    };
    let boxes = boxes(accepted, key).map(|mark| (mark.region, AMBER)).collect();
    let shown_in = match window::of(source, key.slice) {
        Some(stated) => stated,
        None => window::of_values(image)?,
    };
    let lines = lines(accepted, key, source, module);
    let key = Key { grid, window: shown_in, inverse: window::is_inverse(source) };
    let shown = Shown { values, heat, segments, boxes };
    Ok(picture::draw(&key, &shown, dataset::label(module), &lines))
}

fn colours(accepted: &Accepted) -> BTreeMap<u32, Colour> {
    accepted.numbered().map(|(_, s)| s.value).zip(COLOURS.into_iter().cycle()).collect()
}

/// Those that lie in the slice.
fn boxes(accepted: &Accepted, key: KeySlice) -> impl Iterator<Item = &Mark> {
    let marks = accepted.marks.iter().filter(move |_| accepted.marks_source == key.source);
    marks.filter(move |mark| {
        let [first, count] = [mark.region.start[2], mark.region.size[2]];
        (first..first + count).contains(&key.slice)
    })
}

/// What stands below the picture: what it is of, what drew it, and what was found.
fn lines(accepted: &Accepted, key: KeySlice, source: &Source<'_>, module: &ModuleInfo) -> Vec<Line> {
    let line = |text: String| Line { text, colour: None };
    let number = source.series.attribute("SeriesNumber").map_or(String::new(), |n| format!("Series {}, ", n.trim()));
    let slices = source.layout.slices.len();
    let mut lines = vec![
        line(module.title.clone()),
        line(format!("{} {} by {}", module.name, module.version, module.vendor)),
        line(format!("{number}slice {} of {slices}{}", key.slice + 1, height(source, key.slice))),
    ];
    let heat = accepted.heatmap.as_ref().filter(|heatmap| heatmap.source == key.source);
    lines.extend(heat.map(|heatmap| line(format!("Colours: {}", heatmap.title))));
    if !has_place(accepted) && slices > 1 {
        lines.push(line("The middle of the volume: what was found is of all of it, and not of this slice".into()));
    }
    let found = findings(accepted, key);
    let more = found.len().saturating_sub(LINES_MAX);
    lines.extend(found.into_iter().take(LINES_MAX));
    lines.extend((more > 0).then(|| line(format!("and {more} more"))));
    lines
}

fn findings(accepted: &Accepted, key: KeySlice) -> Vec<Line> {
    let plain = |text: String| Line { text, colour: None };
    let triage = accepted.triage.iter().map(|t| {
        let level = format!("{:?}", t.level).to_uppercase();
        plain(format!("{level}: {} {:.2}", t.finding.meaning, t.probability))
    });
    let classes = accepted.classifications.iter().map(|c| plain(format!("{} {:.2}", c.finding.meaning, c.probability)));
    let marks = boxes(accepted, key)
        .map(|mark| Line { text: format!("{} {:.2}", mark.label.meaning, mark.probability), colour: Some(AMBER) });
    let colours = colours(accepted);
    let here = |value: u32| {
        accepted.source == key.source && accepted.slices.get(key.slice).is_some_and(|slice| slice.contains(&value))
    };
    let millilitres = accepted.segmentation.as_ref().map_or(0.0, |s| s.labels.geometry().voxel_millilitres());
    let segments = accepted.numbered().map(|(_, segment)| {
        let voxels = accepted.voxels.get(&segment.value).copied().unwrap_or(0);
        let text = format!("{}, {:.1} mL in all", segment.name.trim(), voxels as f64 * millilitres);
        let colour = colours.get(&segment.value).copied().filter(|_| here(segment.value));
        Line { text, colour }
    });
    triage.chain(classes).chain(marks).chain(segments).collect()
}

/// Where the slice lies along the axis that it is closest to lying across, as the patient coordinate system has it; empty
/// where it lies nowhere.
fn height(source: &Source<'_>, slice: usize) -> String {
    if source.unplaced() {
        return String::new();
    }
    let grid = &source.layout.geometry;
    let [_, _, normal] = grid.axes();
    let axis = (0..3).max_by(|&a, &b| normal[a].abs().total_cmp(&normal[b].abs())).unwrap_or(2);
    let [columns, rows, _] = grid.size().map(|n| (n - 1) as f64 / 2.0);
    let middle = grid.to_patient([columns, rows, slice as f64]);
    format!(", {} = {:.1} mm", ['x', 'y', 'z'][axis], middle[axis])
}

#[cfg(test)]
mod tests;
