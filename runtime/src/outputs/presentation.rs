//! DICOM Grayscale Softcopy Presentation State (PS3.3 A.33.1): boxes with their labels over the slices that they lie in,
//! and a note of who drew them.
//!
//! The images stay as they are; a viewer that knows presentation states draws this over them, and can leave it out.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use dicom_core::{PrimitiveValue, VR};
use dicom_dictionary_std::{tags, uids as dictionary};
use dicom_object::{FileDicomObject, FileMetaTableBuilder, InMemDicomObject};

use super::dataset::{self, decimal, put, sequence, text};
use super::window::{self, Window};
use super::{Accepted, ModuleInfo, OutputUids, Source, Stamp};
use crate::findings::Mark;
use crate::geometry::Region;
use crate::memory::{Budget, Charge, OverBudget};
use crate::study::voi::Function;

/// The name that UIDs of the presentation state are derived from.
const OUTPUT: &str = "presentation-state";
/// Layers: name, what is in it, and its colour, CIELab scaled to 16 bits (PS3.3 C.10.7.1.1): amber and light grey.
const BOXES: (&str, &str, [u16; 3]) = ("BOXES", "Where something lies", [53_083, 35_440, 54_176]);
const NOTE: (&str, &str, [u16; 3]) = ("NOTE", "Who drew it", [58_981, 32_896, 32_896]);
/// Height of a line of text over its image, as a part of the image's rows.
const LINE: f32 = 0.04;
/// What a reference to a slice takes in memory, roughly: every box has one to each of its slices, and a window where
/// slices differ in it.
const REFERENCE_BYTES: u64 = 1024;

/// Why there is no presentation state.
#[derive(Debug, thiserror::Error)]
pub enum PresentationError {
    /// Ask whether there are marks first.
    #[error("no box was stated, and a presentation state of none shows nothing")]
    Empty,
    /// Not what the gate accepted: ours to repair.
    #[error("a box lies in slice {0}, which has no instance in the source volume; pass the source that the gate named")]
    Source(usize),
    /// Too many boxes on too many slices to hold.
    #[error("the presentation state has no room: {0}; state fewer boxes, or raise it")]
    OverBudget(#[from] OverBudget),
    /// An object that cannot be encoded: ours to repair.
    #[error("the file meta information of the presentation state cannot be built: {0}")]
    Meta(String),
}

/// The presentation state of the boxes of `accepted`, whose [`marks_source`](Accepted::marks_source) is `source`, and what
/// `budget` is charged for it as long as it is held.
///
/// # Errors
/// See [`PresentationError`].
pub fn presentation_state(
    accepted: &Accepted,
    source: &Source<'_>,
    module: &ModuleInfo,
    uids: &OutputUids,
    stamp: &Stamp,
    budget: &Budget,
) -> Result<(FileDicomObject<InMemDicomObject>, Charge), PresentationError> {
    if accepted.marks.is_empty() {
        return Err(PresentationError::Empty);
    }
    let references: u64 = accepted.marks.iter().map(|mark| mark.region.size[2] as u64).sum();
    let windowed = shown(&accepted.marks).len() as u64;
    let charge = budget.charge(references.saturating_add(windowed).saturating_mul(REFERENCE_BYTES))?;
    let mut object = dataset::in_study_of(source);
    let (mut module, mut marks) = (module.clone(), accepted.marks.clone());
    let named = [&mut module.name, &mut module.version, &mut module.vendor, &mut module.title];
    let labels = marks.iter_mut().map(|mark| &mut mark.label.meaning);
    dataset::fit_characters(&mut object, named.into_iter().chain(labels));
    let (module, marks) = (&module, marks.as_slice());
    let class = dictionary::GRAYSCALE_SOFTCOPY_PRESENTATION_STATE_STORAGE;
    dataset::put_instance(&mut object, class, &uids.instance(OUTPUT), stamp);
    let description = dataset::described(&module.title, module);
    dataset::put_series(&mut object, source, "PR", &uids.series(OUTPUT), &description, 4);
    dataset::put_body_part(&mut object, source);
    dataset::put_side(&mut object, source);
    dataset::put_equipment(&mut object, module);
    put(&mut object, tags::PRESENTATION_CREATION_DATE, VR::DA, stamp.date.as_str());
    put(&mut object, tags::PRESENTATION_CREATION_TIME, VR::TM, stamp.time.as_str());
    put(&mut object, tags::CONTENT_LABEL, VR::CS, "BOXES");
    put(&mut object, tags::CONTENT_DESCRIPTION, VR::LO, description);
    put(&mut object, tags::CONTENT_CREATOR_NAME, VR::PN, format!("{}^", dataset::MANUFACTURER));
    put_references(&mut object, marks, source)?;
    put_displayed_area(&mut object, source);
    let boxes = marks.iter().flat_map(|mark| places(mark, source).map(|slices| annotation(mark, slices, source)));
    let annotations = boxes.chain([Ok(note(module))]).collect::<Result<_, _>>()?;
    sequence(&mut object, tags::GRAPHIC_ANNOTATION_SEQUENCE, annotations);
    sequence(&mut object, tags::GRAPHIC_LAYER_SEQUENCE, vec![layer(BOXES, 1), layer(NOTE, 2)]);
    put_grey(&mut object, marks, source)?;
    let meta = FileMetaTableBuilder::new().transfer_syntax(dictionary::EXPLICIT_VR_LITTLE_ENDIAN);
    let object = object.with_meta(meta).map_err(|e| PresentationError::Meta(e.to_string()))?;
    Ok((object, charge))
}

fn slices(region: &Region) -> Range<usize> {
    region.start[2]..region.start[2] + region.size[2]
}

/// Every slice that a box lies in.
fn shown(marks: &[Mark]) -> BTreeSet<usize> {
    marks.iter().flat_map(|mark| slices(&mark.region)).collect()
}

fn references(
    source: &Source<'_>,
    slices: impl IntoIterator<Item = usize>,
) -> Result<Vec<InMemDicomObject>, PresentationError> {
    let image = |slice| source.instance(slice).ok_or(PresentationError::Source(slice));
    let images = slices.into_iter().map(image).collect::<Result<Vec<_>, _>>()?;
    Ok(dataset::image_references(images))
}

/// Presentation State Relationship module (PS3.3 C.11.11): every slice that a box lies in.
fn put_references(object: &mut InMemDicomObject, marks: &[Mark], source: &Source<'_>) -> Result<(), PresentationError> {
    let images = references(source, shown(marks))?;
    let mut series = InMemDicomObject::new_empty();
    put(&mut series, tags::SERIES_INSTANCE_UID, VR::UI, source.series.uid.as_str());
    sequence(&mut series, tags::REFERENCED_IMAGE_SEQUENCE, images);
    sequence(object, tags::REFERENCED_SERIES_SEQUENCE, vec![series]);
    Ok(())
}

/// Displayed Area module (PS3.3 C.10.4): the whole image.
fn put_displayed_area(object: &mut InMemDicomObject, source: &Source<'_>) {
    let ([columns, rows], [dx, dy, _]) = (source.image_size(), source.layout.geometry.spacing());
    let last = |n: usize| i32::try_from(n).unwrap_or(i32::MAX);
    let corner = |x, y| PrimitiveValue::I32([x, y].into_iter().collect());
    let mut area = InMemDicomObject::new_empty();
    put(&mut area, tags::DISPLAYED_AREA_TOP_LEFT_HAND_CORNER, VR::SL, corner(1, 1));
    put(&mut area, tags::DISPLAYED_AREA_BOTTOM_RIGHT_HAND_CORNER, VR::SL, corner(last(columns), last(rows)));
    put(&mut area, tags::PRESENTATION_SIZE_MODE, VR::CS, "SCALE TO FIT");
    if source.layout.unstated.pixels {
        // A viewer would measure with a spacing.
        let stated = source.series.attribute("PixelAspectRatio").filter(|ratio| is_ratio(ratio));
        let ratio = stated.unwrap_or_else(|| "1\\1".into());
        let ratio = PrimitiveValue::Strs(ratio.split('\\').map(|n| n.trim().to_owned()).collect());
        put(&mut area, tags::PRESENTATION_PIXEL_ASPECT_RATIO, VR::IS, ratio);
    } else {
        let spacing = PrimitiveValue::Strs([decimal(dy), decimal(dx)].into_iter().collect());
        put(&mut area, tags::PRESENTATION_PIXEL_SPACING, VR::DS, spacing);
    }
    sequence(object, tags::DISPLAYED_AREA_SELECTION_SEQUENCE, vec![area]);
}

/// Two numbers above 0.
fn is_ratio(text: &str) -> bool {
    let sound = |n: &str| n.trim().parse::<u16>().is_ok_and(|n| n > 0);
    text.split_once('\\').is_some_and(|(vertical, horizontal)| sound(vertical) && sound(horizontal))
}

/// The slices of a box, as far as it lies at one place in their images.
fn places(mark: &Mark, source: &Source<'_>) -> impl Iterator<Item = Range<usize>> {
    let all = slices(&mark.region);
    let each = if source.layout.tilt.is_none() { all.len() } else { 1 };
    all.clone().step_by(each.max(1)).map(move |first| first..first + each)
}

/// Graphic Annotation module (PS3.3 C.10.5): a box and its label on each of `slices`.
///
/// The first pixel reaches from 0\0 to 1\1: the outline runs along the outer edges of the box's pixels.
fn annotation(mark: &Mark, slices: Range<usize>, source: &Source<'_>) -> Result<InMemDicomObject, PresentationError> {
    let ([x, y, _], [width, height, _]) = (mark.region.start, mark.region.size);
    let corner = |x: usize, y: usize| source.in_image(slices.start, [x as f32, y as f32]);
    let ([left, top], [right, bottom]) = (corner(x, y), corner(x + width, y + height));
    let images = references(source, slices)?;
    let outline = [left, top, right, top, right, bottom, left, bottom, left, top];
    let mut graphic = InMemDicomObject::new_empty();
    put(&mut graphic, tags::GRAPHIC_ANNOTATION_UNITS, VR::CS, "PIXEL");
    put(&mut graphic, tags::GRAPHIC_DIMENSIONS, VR::US, 2u16);
    put(&mut graphic, tags::NUMBER_OF_GRAPHIC_POINTS, VR::US, 5u16);
    put(&mut graphic, tags::GRAPHIC_DATA, VR::FL, PrimitiveValue::F32(outline.into_iter().collect()));
    put(&mut graphic, tags::GRAPHIC_TYPE, VR::CS, "POLYLINE");
    put(&mut graphic, tags::GRAPHIC_FILLED, VR::CS, "N");

    let [columns, rows] = source.image_size().map(|n| n as f32);
    let line = (rows * LINE).max(1.0);
    // Above the box where there is room, and else below it; a label is wider than most boxes.
    let from = if top >= line { top - line } else { bottom.min(rows - line).max(0.0) };
    let wide = (left + (columns * 0.5).max(right - left)).min(columns);
    let label = format!("{} {:.2}", text(&mark.label.meaning), mark.probability);
    let label = words(&label, "PIXEL", [left, from], [wide, from + line]);

    let mut item = InMemDicomObject::new_empty();
    sequence(&mut item, tags::REFERENCED_IMAGE_SEQUENCE, images);
    put(&mut item, tags::GRAPHIC_LAYER, VR::CS, BOXES.0);
    sequence(&mut item, tags::TEXT_OBJECT_SEQUENCE, vec![label]);
    sequence(&mut item, tags::GRAPHIC_OBJECT_SEQUENCE, vec![graphic]);
    Ok(item)
}

/// On every image: who drew the boxes, and what they are worth.
fn note(module: &ModuleInfo) -> InMemDicomObject {
    let who = format!("{} {}: {}", text(&module.name), text(&module.version), dataset::label(module));
    let mut item = InMemDicomObject::new_empty();
    put(&mut item, tags::GRAPHIC_LAYER, VR::CS, NOTE.0);
    sequence(&mut item, tags::TEXT_OBJECT_SEQUENCE, vec![words(&who, "DISPLAY", [0.01, 0.94], [0.99, 0.99])]);
    item
}

fn words(words: &str, units: &str, from: [f32; 2], to: [f32; 2]) -> InMemDicomObject {
    let point = |point: [f32; 2]| PrimitiveValue::F32(point.into_iter().collect());
    let mut item = InMemDicomObject::new_empty();
    put(&mut item, tags::BOUNDING_BOX_ANNOTATION_UNITS, VR::CS, units);
    put(&mut item, tags::UNFORMATTED_TEXT_VALUE, VR::ST, words);
    put(&mut item, tags::BOUNDING_BOX_TOP_LEFT_HAND_CORNER, VR::FL, point(from));
    put(&mut item, tags::BOUNDING_BOX_BOTTOM_RIGHT_HAND_CORNER, VR::FL, point(to));
    put(&mut item, tags::BOUNDING_BOX_TEXT_HORIZONTAL_JUSTIFICATION, VR::CS, "LEFT");
    item
}

/// Graphic Layer module (PS3.3 C.10.7).
fn layer((name, what, colour): (&str, &str, [u16; 3]), order: u32) -> InMemDicomObject {
    let mut item = InMemDicomObject::new_empty();
    put(&mut item, tags::GRAPHIC_LAYER, VR::CS, name);
    put(&mut item, tags::GRAPHIC_LAYER_ORDER, VR::IS, order.to_string());
    let colour = PrimitiveValue::U16(colour.into_iter().collect());
    put(&mut item, tags::GRAPHIC_LAYER_RECOMMENDED_DISPLAY_CIE_LAB_VALUE, VR::US, colour);
    put(&mut item, tags::GRAPHIC_LAYER_DESCRIPTION, VR::LO, what);
    item
}

/// Modality LUT, Softcopy VOI LUT and Softcopy Presentation LUT modules (PS3.3 C.11.1, C.11.8, C.11.6): a presentation
/// state replaces those of the images, so they are repeated.
fn put_grey(object: &mut InMemDicomObject, marks: &[Mark], source: &Source<'_>) -> Result<(), PresentationError> {
    let lines: BTreeSet<[u64; 2]> = marks
        .iter()
        .flat_map(|mark| slices(&mark.region))
        .filter_map(|slice| source.instance(slice)?.rescale())
        .map(|(slope, intercept)| [slope.to_bits(), intercept.to_bits()])
        .collect();
    let line = lines.first().map(|line| line.map(f64::from_bits));
    if lines.len() < 2 {
        if let Some([slope, intercept]) = line.filter(|_| source.series.attribute("RescaleSlope").is_some()) {
            put(object, tags::RESCALE_INTERCEPT, VR::DS, decimal(intercept));
            put(object, tags::RESCALE_SLOPE, VR::DS, decimal(slope));
            put(object, tags::RESCALE_TYPE, VR::LO, text(&window::unit(source)));
        }
        put_windows(object, &shown(marks), source)?;
    } else if let Some(window) = window::stored(source) {
        // PET: one line for each slice, and a presentation state has one for all. Then it shows what is stored.
        sequence(object, tags::SOFTCOPY_VOILUT_SEQUENCE, vec![softcopy(window)]);
    }
    let shape = if window::is_inverse(source) { "INVERSE" } else { "IDENTITY" };
    put(object, tags::PRESENTATION_LUT_SHAPE, VR::CS, shape);
    Ok(())
}

/// Softcopy VOI LUT module: an item for each window, which names its images unless it is that of all. Images that have a
/// table alone are in none: their tables can be as large as they are.
fn put_windows(
    object: &mut InMemDicomObject,
    shown: &BTreeSet<usize>,
    source: &Source<'_>,
) -> Result<(), PresentationError> {
    let mut windows: Vec<(Window, Vec<usize>)> = Vec::new();
    let mut places: BTreeMap<([u64; 2], Option<&str>), usize> = BTreeMap::new();
    for &slice in shown {
        let Some(window) = window::of(source, slice).map(sound) else { continue };
        let numbers = [window.centre, window.width].map(f64::to_bits);
        let place = *places.entry((numbers, window.function.map(Function::term))).or_insert(windows.len());
        match windows.get_mut(place) {
            Some((_, slices)) => slices.push(slice),
            None => windows.push((window, vec![slice])),
        }
    }
    let item = |(window, slices): &(Window, Vec<usize>)| {
        let mut item = softcopy(*window);
        if slices.len() < shown.len() {
            let images = references(source, slices.iter().copied())?;
            sequence(&mut item, tags::REFERENCED_IMAGE_SEQUENCE, images);
        }
        Ok(item)
    };
    let items = windows.iter().map(item).collect::<Result<Vec<_>, PresentationError>>()?;
    if !items.is_empty() {
        sequence(object, tags::SOFTCOPY_VOILUT_SEQUENCE, items);
    }
    Ok(())
}

/// LINEAR, which is meant without a function, needs a width of 1 (PS3.3 C.11.2.1.2.1).
fn sound(window: Window) -> Window {
    match window.function {
        None | Some(Function::Linear) if window.width < 1.0 => {
            Window { function: Some(Function::LinearExact), ..window }
        }
        _ => window,
    }
}

fn softcopy(Window { centre, width, function }: Window) -> InMemDicomObject {
    let mut item = InMemDicomObject::new_empty();
    put(&mut item, tags::WINDOW_CENTER, VR::DS, decimal(centre));
    put(&mut item, tags::WINDOW_WIDTH, VR::DS, decimal(width));
    if let Some(function) = function {
        put(&mut item, tags::VOILUT_FUNCTION, VR::CS, function.term());
    }
    item
}

#[cfg(test)]
mod tests {
    use dicom_core::Tag;

    use super::*;
    use crate::findings::{Code, Findings};
    use crate::geometry::Geometry;
    use crate::outputs::gate;
    use crate::outputs::tests::{module, stamp, study};
    use crate::study::Study;
    use crate::study::voi::Voi;

    fn a_study() -> Study {
        let axes = [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]];
        study(&Geometry::new([100, 80, 5], [0.7, 0.8, 2.5], [0.0; 3], axes).expect("a grid"))
    }

    fn state(study: &Study, marks: Vec<Mark>) -> Result<FileDicomObject<InMemDicomObject>, PresentationError> {
        let accepted = gate(Findings { marks, ..Findings::default() }, study, &[0], &[]).expect("accepted");
        let source = Source::new(study, (0, 0)).expect("a volume");
        let uids = OutputUids::new(&source, &[[1; 32]], &module().identity, &[]);
        let budget = Budget::bytes(12 << 10);
        let made = presentation_state(&accepted, &source, &module(), &uids, &stamp(), &budget);
        made.map(|(object, _)| object)
    }

    fn mark(start: [usize; 3], size: [usize; 3], label: &str) -> Mark {
        let label = Code::new("x", "99EXAMPLE", label);
        Mark { region: Region { start, size }, label, probability: 0.875 }
    }

    fn items(object: &InMemDicomObject, tag: Tag) -> Vec<InMemDicomObject> {
        object.element(tag).expect("a sequence").items().expect("items").to_vec()
    }

    fn text(object: &InMemDicomObject, tag: Tag) -> String {
        object.element(tag).expect("an element").to_str().expect("text").trim_end_matches('\0').to_owned()
    }

    #[test]
    fn a_box_is_drawn_around_its_pixels_on_its_slices_alone() {
        let study = a_study();
        let marks = vec![mark([10, 20, 1], [30, 4, 2], "Nodule"), mark([0, 0, 4], [1, 1, 1], "Wątroba")];
        let state = state(&study, marks).expect("a presentation state");
        let series = items(&state, tags::REFERENCED_SERIES_SEQUENCE).remove(0);
        let uid = |item: &InMemDicomObject| text(item, tags::REFERENCED_SOP_INSTANCE_UID);
        let referred: Vec<_> = items(&series, tags::REFERENCED_IMAGE_SEQUENCE).iter().map(uid).collect();
        assert_eq!(referred, ["2.25.1002", "2.25.1003", "2.25.1005"]);
        let [first, second, note] = items(&state, tags::GRAPHIC_ANNOTATION_SEQUENCE).try_into().expect("three");
        let referred: Vec<_> = items(&first, tags::REFERENCED_IMAGE_SEQUENCE).iter().map(uid).collect();
        assert_eq!(referred, ["2.25.1002", "2.25.1003"]);
        let graphic = items(&first, tags::GRAPHIC_OBJECT_SEQUENCE).remove(0);
        let points = graphic.element(tags::GRAPHIC_DATA).expect("points").to_multi_float32().expect("numbers");
        assert_eq!(points, [10.0, 20.0, 40.0, 20.0, 40.0, 24.0, 10.0, 24.0, 10.0, 20.0]);
        let label = items(&first, tags::TEXT_OBJECT_SEQUENCE).remove(0);
        assert_eq!(text(&label, tags::UNFORMATTED_TEXT_VALUE), "Nodule 0.88");
        let below = items(&second, tags::TEXT_OBJECT_SEQUENCE).remove(0);
        let corner = below.element(tags::BOUNDING_BOX_TOP_LEFT_HAND_CORNER).expect("a corner");
        assert_eq!(corner.to_multi_float32().expect("numbers"), [0.0, 1.0], "there is no room above");
        let note = items(&note, tags::TEXT_OBJECT_SEQUENCE).remove(0);
        let who = "ct-organs 1.2.3: DEMONSTRATION - not for clinical use";
        assert_eq!(text(&note, tags::UNFORMATTED_TEXT_VALUE), who);
        assert_eq!(text(&state, tags::SPECIFIC_CHARACTER_SET), "ISO_IR 192", "for the label's sake");
        assert_eq!(
            (text(&state, tags::PATIENT_NAME), text(&state, tags::SERIES_NUMBER)),
            ("Müller^Test".into(), "304".into())
        );
        let window = items(&state, tags::SOFTCOPY_VOILUT_SEQUENCE).remove(0);
        assert_eq!(text(&window, tags::WINDOW_CENTER), "40", "of a CT that states none");
    }

    #[test]
    fn each_window_is_that_of_its_images() {
        let window = |centre, width, function| Voi::Window(Window { centre, width, function });
        let stated = |voi: [Voi; 5]| {
            let mut study = a_study();
            for (instance, voi) in study.series[0].instances.iter_mut().zip(voi) {
                instance.voi = voi;
            }
            let state = state(&study, vec![mark([0; 3], [1, 1, 5], "Nodule")]).expect("a presentation state");
            let Ok(sequence) = state.element(tags::SOFTCOPY_VOILUT_SEQUENCE) else { return vec![] };
            let told = |item: &InMemDicomObject| {
                let has = |tag| item.get(tag).is_some();
                let function = has(tags::VOILUT_FUNCTION).then(|| text(item, tags::VOILUT_FUNCTION));
                let images = match has(tags::REFERENCED_IMAGE_SEQUENCE) {
                    true => items(item, tags::REFERENCED_IMAGE_SEQUENCE),
                    false => vec![],
                };
                let images: Vec<_> = images.iter().map(|i| text(i, tags::REFERENCED_SOP_INSTANCE_UID)).collect();
                let numbers = [tags::WINDOW_CENTER, tags::WINDOW_WIDTH].map(|tag| text(item, tag)).join("/");
                format!("{numbers} {} {}", function.unwrap_or_default(), images.join(" "))
            };
            sequence.items().expect("items").iter().map(told).collect::<Vec<_>>()
        };
        let same = window(80.0, 160.0, Some(Function::Sigmoid));
        assert_eq!(stated([same; 5]), ["80/160 SIGMOID "], "that of all names none");
        let [narrow, exact] = [window(0.5, 0.25, None), window(0.5, 0.25, Some(Function::LinearExact))];
        assert_eq!(
            stated([window(80.0, 160.0, None), narrow, Voi::Nothing, Voi::Table, window(80.0, 160.0, None)]),
            ["80/160  2.25.1001 2.25.1005", "0.5/0.25 LINEAR_EXACT 2.25.1002", "40/400  2.25.1003"]
        );
        let linear = window(0.5, 0.25, Some(Function::Linear));
        assert_eq!(stated([linear; 5]), ["0.5/0.25 LINEAR_EXACT "]);
        assert_eq!(
            stated([window(1.0, 1.0, Some(Function::Linear)), exact, narrow, linear, exact]),
            ["1/1 LINEAR 2.25.1001", "0.5/0.25 LINEAR_EXACT 2.25.1002 2.25.1003 2.25.1004 2.25.1005"]
        );
        assert!(stated([Voi::Table; 5]).is_empty(), "a table alone");
    }

    #[test]
    fn of_pixels_whose_size_nobody_states_only_the_ratio_is_said() {
        let area = |study: &Study| {
            let state = state(study, vec![mark([0; 3], [1, 1, 1], "Nodule")]).expect("a presentation state");
            let area = items(&state, tags::DISPLAYED_AREA_SELECTION_SEQUENCE).remove(0);
            [tags::PRESENTATION_PIXEL_SPACING, tags::PRESENTATION_PIXEL_ASPECT_RATIO]
                .map(|tag| area.get(tag).map(|_| text(&area, tag)))
        };
        let mut study = a_study();
        assert!(matches!(area(&study), [Some(_), None]));
        study.series[0].volumes[0].unstated.pixels = true;
        assert_eq!(area(&study), [None, Some("1\\1".into())]);
        for (stated, expected) in [("4\\3", "4\\3"), ("0\\1", "1\\1"), ("2", "1\\1")] {
            study.series[0].header.put_str(tags::PIXEL_ASPECT_RATIO, VR::IS, stated);
            assert_eq!(area(&study), [None, Some(expected.into())]);
        }
    }

    #[test]
    fn more_than_fits_the_budget_names_the_limit() {
        let marks = vec![mark([0; 3], [1, 1, 5], "Nodule"); 2];
        let error = state(&a_study(), marks).expect_err("fifteen references").to_string();
        assert!(error.contains("host_memory_mib"), "{error}");
    }

    #[test]
    fn without_boxes_there_is_none() {
        assert!(matches!(state(&a_study(), vec![]), Err(PresentationError::Empty)));
    }
}
