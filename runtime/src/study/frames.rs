//! Objects of several frames (PS3.3 C.7.6.16): each frame as if it were an image of its own.
//!
//! ```text
//! data set ─ what all frames have in common ─┐
//! Shared Functional Groups Sequence ─────────┼─▶ the attributes of one image ─▶ a slice
//! Per-Frame Functional Groups Sequence ──────┘
//! ```
//!
//! Where a frame lies is taken from its position and orientation alone. Indices of dimensions tell frames at one place
//! apart where nothing else does, and order nothing.

use dicom_core::header::HasLength;
use dicom_core::value::Value;
use dicom_core::{DataElement, PrimitiveValue, Tag, VR};
use dicom_dictionary_std::tags;
use dicom_object::InMemDicomObject;
use dicom_object::mem::InMemElement;

use super::ReadError;
use super::attributes::{self, Attributes};
use super::facts::FACTS;
use super::pixels::{Pixels, Syntax};
use super::scan::Next;
use super::stack::Slice;

/// What an image says in the data set and a frame in a functional group of its own (PS3.3 C.7.6.16.2).
const GROUPS: [(Tag, &[Tag]); 5] = [
    (tags::PIXEL_MEASURES_SEQUENCE, &[tags::PIXEL_SPACING, tags::SLICE_THICKNESS, tags::SPACING_BETWEEN_SLICES]),
    (tags::PLANE_POSITION_SEQUENCE, &[tags::IMAGE_POSITION_PATIENT]),
    (tags::PLANE_ORIENTATION_SEQUENCE, &[tags::IMAGE_ORIENTATION_PATIENT]),
    (tags::PIXEL_VALUE_TRANSFORMATION_SEQUENCE, &[tags::RESCALE_SLOPE, tags::RESCALE_INTERCEPT, tags::RESCALE_TYPE]),
    (tags::FRAME_VOILUT_SEQUENCE, &[tags::WINDOW_CENTER, tags::WINDOW_WIDTH, tags::VOILUT_FUNCTION]),
];

/// Dimensions that say where a frame lies.
const PLACES: [Tag; 4] = [
    tags::IMAGE_POSITION_PATIENT,
    tags::IN_STACK_POSITION_NUMBER,
    tags::SLICE_LOCATION,
    tags::IMAGE_ORIENTATION_PATIENT,
];

/// What frames have in common is looked at again for each: no more than this in all.
const COMMON_MAX_BYTES: u64 = 1 << 30;

/// As many dimensions may tell frames apart; images have a handful.
const DIMENSIONS_MAX: usize = 64;

/// The slices of an image: itself, or its frames in their order.
pub(super) fn slices(a: &Attributes<'_>, next: &Next, uid: &str, syntax: Syntax) -> Result<Vec<Slice>, ReadError> {
    let frames = count(a)?;
    let grouped = a.present(tags::SHARED_FUNCTIONAL_GROUPS_SEQUENCE);
    if !grouped && frames == 1 {
        return Ok(vec![Slice::read(a, None, Pixels::read(a, next, uid, syntax)?)?]);
    }
    let groups = items(a.object, tags::PER_FRAME_FUNCTIONAL_GROUPS_SEQUENCE);
    if !grouped && groups.is_empty() {
        let what = "a volume of an image of several frames without functional groups, which say where frames lie (such \
                    as ultrasound, angiography and nuclear medicine; `gantry stream` plays a cine),";
        return Err(ReadError::unavailable(a.path, what));
    }
    // Before anything is made for each frame: their number is only what the file says.
    if groups.len() as u64 != u64::from(frames) {
        let problem = format!("has {} items, and NumberOfFrames (0028,0008) says {frames}", groups.len());
        return Err(a.fault(tags::PER_FRAME_FUNCTIONAL_GROUPS_SEQUENCE, problem));
    }
    let one = one_of(a, next, frames)?;
    let common = common(a.object);
    if bytes(&common).saturating_mul(groups.len() as u64) > COMMON_MAX_BYTES {
        let what = "an image whose many frames have so much in common (lookup tables)";
        return Err(ReadError::unavailable(a.path, what));
    }
    let dimensions = dimensions(a.object);
    let mut slices = Vec::with_capacity(groups.len());
    // What frames say of their pixels is mostly the same.
    let mut before: Option<([String; 2], Pixels)> = None;
    for (number, groups) in (1..).zip(groups) {
        let mut object = common.clone();
        add(&mut object, groups);
        add_dimensions(&mut object, groups, &dimensions);
        let a = Attributes { path: a.path, object: &object };
        let rescale = [tags::RESCALE_SLOPE, tags::RESCALE_INTERCEPT].map(|tag| a.text(tag));
        let pixels = match before {
            Some((said, pixels)) if said == rescale => pixels,
            _ => Pixels::read(&a, &one, uid, syntax).map_err(|reason| in_frame(reason, number))?,
        };
        before = Some((rescale, pixels.clone()));
        slices.push(Slice::read(&a, Some(number), pixels).map_err(|reason| in_frame(reason, number))?);
    }
    Ok(slices)
}

/// Turns the data set of an object of several frames into that of one of its frames, for whoever asks for attributes:
/// what functional groups say stands beside the rest, and what they say of other frames is gone.
pub(super) fn alone(object: &mut InMemDicomObject, number: u32) {
    let said = said(object, number);
    object.remove_element(tags::PER_FRAME_FUNCTIONAL_GROUPS_SEQUENCE);
    object.remove_element(tags::SHARED_FUNCTIONAL_GROUPS_SEQUENCE);
    for element in said {
        if is_first(object, element.header().tag) {
            object.put(element);
        }
    }
}

/// Text of an attribute of a frame, of which `said` is [what functional groups say](said).
pub(super) fn text(object: &InMemDicomObject, said: &InMemDicomObject, tag: Tag) -> Option<String> {
    let own = if is_first(object, tag) { attributes::text(said, tag) } else { None };
    own.or_else(|| attributes::text(object, tag))
}

/// Whether a functional group is asked for `tag` before the data set itself.
fn is_first(object: &InMemDicomObject, tag: Tag) -> bool {
    grouped(tag) || object.get(tag).is_none_or(|stated| stated.value().is_empty())
}

/// What the functional groups of a frame, counted from 1, say of how it was made and where it lies.
pub(super) fn said(object: &InMemDicomObject, number: u32) -> InMemDicomObject {
    let of_frame = items(object, tags::PER_FRAME_FUNCTIONAL_GROUPS_SEQUENCE).get((number as usize).wrapping_sub(1));
    let shared = items(object, tags::SHARED_FUNCTIONAL_GROUPS_SEQUENCE).first();
    let mut said = InMemDicomObject::new_empty();
    for groups in shared.into_iter().chain(of_frame) {
        for element in within(groups).filter(|element| is_of_the_image(element)) {
            said.put(element.clone());
        }
        for (sequence, attributes) in GROUPS {
            copy(&mut said, items(groups, sequence).first(), attributes);
        }
    }
    // What everybody asks for by the name that it has in an image alone.
    if let Some(echo) = said.get(tags::EFFECTIVE_ECHO_TIME).and_then(|element| element.to_float64().ok()) {
        said.put(DataElement::new(tags::ECHO_TIME, VR::DS, PrimitiveValue::from(echo.to_string())));
    }
    said
}

fn grouped(tag: Tag) -> bool {
    GROUPS.iter().any(|(_, attributes)| attributes.contains(&tag))
}

/// Number of Frames (0028,0008).
fn count(a: &Attributes<'_>) -> Result<u32, ReadError> {
    match a.numbers::<1>(tags::NUMBER_OF_FRAMES)? {
        None => Ok(1),
        Some([n]) if n.fract() == 0.0 && (0.0..=f64::from(u32::MAX)).contains(&n) => Ok((n as u32).max(1)),
        Some(_) => Err(a.fault(tags::NUMBER_OF_FRAMES, "is no number of frames")),
    }
}

/// The pixel data of one frame, as if it were alone. Native ones must be as long as all are.
fn one_of(a: &Attributes<'_>, next: &Next, frames: u32) -> Result<Next, ReadError> {
    let alone = |length| Next { tag: next.tag, vr: next.vr, value: next.value, length };
    let Some(length) = next.length else { return Ok(alone(None)) };
    let side = |tag| a.needed_small(tag).map(u64::from);
    let samples = match a.text(tags::PHOTOMETRIC_INTERPRETATION).as_str() {
        // Two pixels share their chrominance.
        "YBR_FULL_422" => 2,
        _ => a.small(tags::SAMPLES_PER_PIXEL)?.map_or(1, u64::from),
    };
    let allocated = match next.tag {
        tags::FLOAT_PIXEL_DATA => 32,
        tags::DOUBLE_FLOAT_PIXEL_DATA => 64,
        _ => side(tags::BITS_ALLOCATED)?,
    };
    if !allocated.is_multiple_of(8) {
        return Err(ReadError::unavailable(a.path, "an image of several frames of single bits"));
    }
    // At most 2^54.
    let one = side(tags::ROWS)? * side(tags::COLUMNS)? * samples * (allocated / 8);
    let all = one.saturating_mul(frames.into());
    // Writers pad; a frame more than the header says is no padding.
    let length = u64::from(length);
    if length < all || length > all + 1 && length >= all.saturating_add(one) {
        let reason = format!("{length} bytes of pixel data where the header says {frames} frames of {one}");
        return Err(ReadError::damaged(a.path, reason));
    }
    match u32::try_from(one) {
        Ok(one) => Ok(alone(Some(one))),
        Err(_) => Err(ReadError::unavailable(a.path, "a frame of more than 4 GiB")),
    }
}

/// What all frames have in common.
fn common(object: &InMemDicomObject) -> InMemDicomObject {
    let of_all =
        |tag: Tag| tag.group() == 0x0028 && tag != tags::NUMBER_OF_FRAMES || tag == tags::MODALITY || is_fact(tag);
    let mut common = InMemDicomObject::new_empty();
    for element in object.iter().filter(|element| of_all(element.header().tag) && !grouped(element.header().tag)) {
        common.put(element.clone());
    }
    if let Some(shared) = items(object, tags::SHARED_FUNCTIONAL_GROUPS_SEQUENCE).first() {
        add(&mut common, shared);
    }
    common
}

/// About as many bytes as there are in values.
fn bytes(object: &InMemDicomObject) -> u64 {
    let of = |element: &InMemElement| match element.items() {
        Some(items) => items.iter().map(bytes).sum(),
        None => element.header().len.get().map_or(0, u64::from),
    };
    object.iter().map(of).sum()
}

/// Puts what functional groups say of a slice beside what is there, or in its place.
fn add(object: &mut InMemDicomObject, groups: &InMemDicomObject) {
    for element in within(groups).filter(|element| is_fact(element.header().tag)) {
        object.put(element.clone());
    }
    for (sequence, attributes) in GROUPS {
        copy(object, items(groups, sequence).first(), attributes);
    }
}

fn copy(object: &mut InMemDicomObject, from: Option<&InMemDicomObject>, attributes: &[Tag]) {
    for element in attributes.iter().filter_map(|tag| from?.get(*tag)) {
        object.put(element.clone());
    }
}

/// Values in the functional groups of one frame, and in the groups that some have in them.
fn within(groups: &InMemDicomObject) -> impl Iterator<Item = &InMemElement> {
    let group = groups.iter().filter_map(first_item).flatten();
    let nested = groups.iter().filter_map(first_item).flatten().filter_map(first_item).flatten();
    group.chain(nested).filter(|element| matches!(element.value(), Value::Primitive(_)))
}

fn first_item(element: &InMemElement) -> Option<impl Iterator<Item = &InMemElement>> {
    Some(element.items()?.first()?.iter())
}

fn is_fact(tag: Tag) -> bool {
    FACTS.iter().any(|(fact, _)| *fact == tag)
}

/// Whether this says how an image was made, and nothing of who is in it or what it belongs to: no UID, name or text.
fn is_of_the_image(element: &InMemElement) -> bool {
    let kind = matches!(
        element.vr(),
        VR::CS
            | VR::DA
            | VR::DS
            | VR::DT
            | VR::FD
            | VR::FL
            | VR::IS
            | VR::SH
            | VR::SL
            | VR::SS
            | VR::TM
            | VR::UL
            | VR::US
    );
    match element.header().tag.group() {
        0x0018 | 0x0020 | 0x0028 | 0x0054 => kind,
        0x0008 => kind && element.vr() != VR::SH,
        _ => false,
    }
}

/// Which of the Dimension Index Values (0020,9157) say nothing of where a frame lies.
fn dimensions(object: &InMemDicomObject) -> Vec<usize> {
    let pointer = |item: &InMemDicomObject| match item.get(tags::DIMENSION_INDEX_POINTER)?.value() {
        Value::Primitive(PrimitiveValue::Tags(tags)) => tags.first().copied(),
        _ => None,
    };
    let pointers = items(object, tags::DIMENSION_INDEX_SEQUENCE).iter().map(pointer);
    let apart = pointers.enumerate().filter(|(_, tag)| tag.is_some_and(|tag| !PLACES.contains(&tag)));
    apart.map(|(i, _)| i).take(DIMENSIONS_MAX).collect()
}

fn add_dimensions(object: &mut InMemDicomObject, groups: &InMemDicomObject, dimensions: &[usize]) {
    object.remove_element(tags::DIMENSION_INDEX_VALUES);
    let content = items(groups, tags::FRAME_CONTENT_SEQUENCE).first();
    let values = content.and_then(|content| content.get(tags::DIMENSION_INDEX_VALUES)?.to_multi_int::<u32>().ok());
    let values = values.unwrap_or_default();
    let values: Vec<u32> = dimensions.iter().filter_map(|place| values.get(*place).copied()).collect();
    if !values.is_empty() {
        object.put(DataElement::new(tags::DIMENSION_INDEX_VALUES, VR::UL, PrimitiveValue::U32(values.into())));
    }
}

fn items(object: &InMemDicomObject, sequence: Tag) -> &[InMemDicomObject] {
    object.get(sequence).and_then(|element| element.items()).unwrap_or_default()
}

fn in_frame(reason: ReadError, number: u32) -> ReadError {
    match reason {
        ReadError::Attribute { path, tag, keyword, problem } => {
            ReadError::Attribute { path, tag, keyword, problem: format!("{problem} (frame {number})") }
        }
        other => other,
    }
}
