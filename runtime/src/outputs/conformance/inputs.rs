//! What an object may refer to, and what it must repeat.

use std::collections::{BTreeSet, HashMap, HashSet};

use dicom_core::header::HasLength;
use dicom_core::value::Value;
use dicom_core::{PrimitiveValue, Tag, VR};
use dicom_dictionary_std::tags;
use dicom_object::InMemDicomObject;
use dicom_object::mem::InMemElement;

use super::Fault;
use super::read::{DataSet, Field};
use super::references::numbers;
use super::values::Characters;
use crate::geometry::Geometry;
use crate::outputs::uid;
use crate::study::{Series, Study};

/// Of the patient and the study, an object repeats what the source says and nothing else.
const IDENTITY: [Tag; 12] = [
    tags::PATIENT_NAME,
    tags::PATIENT_ID,
    tags::ISSUER_OF_PATIENT_ID,
    tags::PATIENT_BIRTH_DATE,
    tags::PATIENT_SEX,
    tags::PATIENT_AGE,
    tags::STUDY_DATE,
    tags::STUDY_TIME,
    tags::STUDY_ID,
    tags::ACCESSION_NUMBER,
    tags::REFERRING_PHYSICIAN_NAME,
    tags::STUDY_DESCRIPTION,
];

/// Those that an object need not have, and does not have where the source does not know what they are (UN, PS3.5 section 6.2.2).
const UNKNOWN_IS_LEFT_OUT: [Tag; 3] = [tags::ISSUER_OF_PATIENT_ID, tags::PATIENT_AGE, tags::STUDY_DESCRIPTION];

/// Sequences that are repeated with all that is in them.
const COPIED: [Tag; 5] = [
    tags::ISSUER_OF_PATIENT_ID_QUALIFIERS_SEQUENCE,
    tags::OTHER_PATIENT_I_DS_SEQUENCE,
    tags::DEIDENTIFICATION_METHOD_CODE_SEQUENCE,
    tags::ISSUER_OF_ACCESSION_NUMBER_SEQUENCE,
    tags::PROCEDURE_CODE_SEQUENCE,
];

/// What a result was made of: series of a study.
pub struct Inputs<'a> {
    study: &'a Study,
    series: Vec<&'a Series>,
    instances: HashMap<&'a str, Instance<'a>>,
    /// Of instances and of their frames.
    slices: HashMap<(&'a str, Option<u32>), Slice<'a>>,
}

/// An instance of the input.
#[derive(Clone, Copy)]
pub(super) struct Instance<'a> {
    pub(super) class: &'a str,
    pub(super) series: &'a Series,
    /// How many it has; 1 of one image.
    pub(super) frames: u32,
}

/// Which slice of which grid an image is.
#[derive(Clone, Copy)]
pub(super) struct Slice<'a> {
    pub(super) series: &'a Series,
    pub(super) grid: &'a Geometry,
    /// Columns and rows of its image.
    pub(super) size: [usize; 2],
    /// Along z, from 0.
    pub(super) at: usize,
}

impl<'a> Inputs<'a> {
    /// The series of `study` at the positions `accepted`.
    #[must_use]
    pub fn new(study: &'a Study, accepted: &[usize]) -> Self {
        let series: Vec<&Series> = accepted.iter().filter_map(|&index| study.series.get(index)).collect();
        let (mut instances, mut slices) = (HashMap::new(), HashMap::new());
        for series in &series {
            // What a header says of frames is said of the first instance: only where it is alone is it that one's.
            let frames = series.attribute("NumberOfFrames").filter(|_| series.instances.len() == 1);
            let frames = frames.and_then(|frames| frames.trim().parse().ok()).unwrap_or(1u32);
            for instance in &series.instances {
                let of = Instance { class: &instance.sop_class_uid, series, frames: instance.frames.max(frames) };
                instances.insert(instance.sop_instance_uid.as_str(), of);
            }
            for volume in &series.volumes {
                let [columns, rows, _] = volume.geometry.size();
                let images = volume.slices.iter().enumerate();
                for (at, instance) in images.filter_map(|(at, &index)| Some((at, series.instances.get(index)?))) {
                    let moved = volume.tilt.as_ref().and_then(|_| instance.size());
                    let size = moved.unwrap_or([columns, rows]);
                    let slice = Slice { series, grid: &volume.geometry, size, at };
                    slices.insert((instance.sop_instance_uid.as_str(), instance.frame), slice);
                }
            }
        }
        Self { study, series, instances, slices }
    }

    pub(super) fn instance(&self, uid: &str) -> Option<Instance<'a>> {
        self.instances.get(uid).copied()
    }

    /// The slices that an item refers to (PS3.3 10.3): an instance, or frames of one.
    pub(super) fn slices(&self, item: DataSet<'_>) -> Vec<Slice<'a>> {
        let uid = item.text(tags::REFERENCED_SOP_INSTANCE_UID);
        // Keys live as long as the inputs, and what is asked for does not.
        let Some((uid, _)) = self.instances.get_key_value(uid) else { return Vec::new() };
        let frames = numbers(item, tags::REFERENCED_FRAME_NUMBER);
        let one = |frame| self.slices.get(&(*uid, frame)).copied();
        if frames.is_empty() {
            one(None).into_iter().collect()
        } else {
            frames.into_iter().filter_map(|n| one(Some(n)).or_else(|| one(None).filter(|_| n == 1))).collect()
        }
    }

    pub(super) fn study_uid(&self) -> &'a str {
        &self.study.uid
    }

    pub(super) fn has_series(&self, uid: &str) -> bool {
        self.series.iter().any(|series| series.uid == uid)
    }

    /// Frame of Reference UID of a series, or the one that stands in for it.
    pub(super) fn frame_of_reference(series: &Series) -> String {
        let stated = series.attribute("FrameOfReferenceUID");
        stated.unwrap_or_else(|| uid::derive("frame-of-reference", &[series.uid.as_bytes()]))
    }

    pub(super) fn has_frame_of_reference(&self, uid: &str) -> bool {
        self.series.iter().any(|series| Self::frame_of_reference(series) == uid)
    }

    /// Whether the source states this value itself, at this place: as text, as the UID of something, or as a sequence.
    pub(super) fn states(&self, field: Field<'_>, characters: &Characters) -> bool {
        if field.vr() == VR::UI {
            let uid = field.text();
            let of_input = self.instances.contains_key(uid) || self.has_series(uid) || self.study.uid == uid;
            return of_input || self.has_frame_of_reference(uid);
        }
        let tag = match field.tag() {
            tags::DATE => tags::STUDY_DATE,
            tags::TIME => tags::STUDY_TIME,
            tag => tag,
        };
        self.series.iter().any(|series| {
            let Some(element) = series.header.get(tag) else { return false };
            let may = if field.vr() == VR::SQ { COPIED.contains(&tag) } else { field.pixels().is_none() };
            may && same(field, element, characters, &terms(series))
        })
    }

    /// Whether the object is of the patient and the study of the source.
    pub(super) fn identity(&self, data_set: DataSet<'_>, characters: &Characters) -> Result<(), Fault> {
        let fault = |tag| Err(Fault::at(tag, "is not what the source says"));
        if data_set.text(tags::STUDY_INSTANCE_UID) != self.study.uid {
            return fault(tags::STUDY_INSTANCE_UID);
        }
        for tag in IDENTITY {
            let field = data_set.field(tag);
            let same = match field.filter(|field| !field.is_empty()) {
                Some(field) => self.states(field, characters),
                None => self.series.iter().any(|series| silent(series, tag)),
            };
            if !same {
                return fault(tag);
            }
        }
        Ok(())
    }
}

fn plain(text: &str) -> &str {
    text.trim_matches([' ', '\0'])
}

fn terms(series: &Series) -> String {
    series.attribute("SpecificCharacterSet").unwrap_or_default()
}

/// Whether a series states nothing but padding, or in a way that is not repeated.
fn silent(series: &Series, tag: Tag) -> bool {
    let Some(element) = series.header.get(tag).filter(|element| !element.is_empty()) else { return true };
    if element.vr() == VR::UN && UNKNOWN_IS_LEFT_OUT.contains(&tag) {
        return true;
    }
    let stated = stated(element, element.vr(), &terms(series));
    stated.is_none_or(|stated| plain(&stated).is_empty())
}

/// The text that a source has here, as it was read; values between backslashes. `vr` is the attribute's.
fn stated(element: &InMemElement, vr: VR, terms: &str) -> Option<String> {
    match element.value() {
        Value::Primitive(PrimitiveValue::Str(text)) => Some(text.clone()),
        // Not trimmed one by one: in a character of two bytes the second may be a backslash's.
        Value::Primitive(PrimitiveValue::Strs(texts)) => Some(texts.join("\\")),
        // What an archive does not know is in the characters of the source all the same (PS3.5 section 6.2.2).
        Value::Primitive(PrimitiveValue::U8(bytes)) => Characters::named(terms).decoded(vr, bytes),
        Value::Primitive(value) => Some(value.to_str().into_owned()),
        _ => None,
    }
}

/// Whether an element of an object says what that of a source in the characters of `terms` says.
fn same(field: Field<'_>, element: &InMemElement, characters: &Characters, terms: &str) -> bool {
    if let Some(items) = element.items() {
        let said: Vec<DataSet<'_>> = field.items().collect();
        let mut pairs = said.iter().zip(items);
        return said.len() == items.len() && pairs.all(|(item, of)| same_items(*item, of, characters, terms));
    }
    let vr = field.vr();
    match vr {
        VR::SQ => field.is_empty() && element.is_empty(),
        VR::AT | VR::FL | VR::FD | VR::SL | VR::SS | VR::SV | VR::UL | VR::US | VR::UV => binary(field, element),
        VR::OB | VR::OD | VR::OF | VR::OL | VR::OV | VR::OW | VR::UN => binary(field, element),
        _ => {
            let (text, stated) = (characters.as_read(field, terms), stated(element, vr, terms));
            stated.is_some_and(|stated| text.is_some_and(|text| plain(&text) == plain(&stated)))
        }
    }
}

fn binary(field: Field<'_>, element: &InMemElement) -> bool {
    let Value::Primitive(value) = element.value() else { return false };
    let stated = value.to_bytes();
    // An odd one is made even.
    field.value() == &*stated || field.value().strip_suffix(&[0]) == Some(&*stated)
}

fn same_items(item: DataSet<'_>, of: &InMemDicomObject, characters: &Characters, terms: &str) -> bool {
    // A group's length says nothing of its own (PS3.5 section 7.2).
    let mut fields = item.fields().filter(|field| field.tag().element() != 0);
    let mut stated = of.iter().filter(|element| element.header().tag.element() != 0);
    // Which characters an item of its own character set is in, the reader of sources alone knows.
    let own = item.field(tags::SPECIFIC_CHARACTER_SET).is_some();
    loop {
        match (fields.next(), stated.next()) {
            (None, None) => return true,
            (Some(field), Some(element)) if field.tag() == element.header().tag => {
                if !own && !same(field, element, characters, terms) {
                    return false;
                }
            }
            _ => return false,
        }
    }
}

/// The objects of one result, by SOP Instance UID.
#[derive(Default)]
pub(super) struct Objects<'a> {
    objects: HashMap<&'a str, Known<'a>>,
    series: HashSet<&'a str>,
}

/// What can be referred to of an object of the result.
pub(super) struct Known<'a> {
    pub(super) uid: &'a str,
    pub(super) class: &'a str,
    pub(super) series: &'a str,
    pub(super) segments: BTreeSet<u32>,
    /// The segment of each frame; none where frames are of no segment.
    pub(super) frames: Vec<Option<u32>>,
}

impl<'a> Known<'a> {
    pub(super) fn of(object: DataSet<'a>) -> Self {
        let segments = object.items(tags::SEGMENT_SEQUENCE).filter_map(|item| item.unsigned(tags::SEGMENT_NUMBER));
        let segment = |item: DataSet<'a>| item.item(tags::SEGMENT_IDENTIFICATION_SEQUENCE);
        let shared = object.item(tags::SHARED_FUNCTIONAL_GROUPS_SEQUENCE).and_then(segment);
        let frames = object.items(tags::PER_FRAME_FUNCTIONAL_GROUPS_SEQUENCE).map(|frame| {
            let of = segment(frame).or(shared)?;
            of.unsigned(tags::REFERENCED_SEGMENT_NUMBER)
        });
        Self {
            uid: object.text(tags::SOP_INSTANCE_UID),
            class: object.text(tags::SOP_CLASS_UID),
            series: object.text(tags::SERIES_INSTANCE_UID),
            segments: segments.collect(),
            frames: frames.collect(),
        }
    }
}

impl<'a> Objects<'a> {
    /// One more object, which must be a new one.
    pub(super) fn add(&mut self, known: Known<'a>, inputs: &Inputs<'_>) -> Result<(), Fault> {
        if inputs.has_series(known.series) {
            return Err(Fault::at(tags::SERIES_INSTANCE_UID, "is a series of the source; an object has its own"));
        }
        if inputs.instance(known.uid).is_some() || self.objects.contains_key(known.uid) {
            return Err(Fault::at(tags::SOP_INSTANCE_UID, "is the UID of another object (PS3.5 section 9)"));
        }
        self.series.insert(known.series);
        self.objects.insert(known.uid, known);
        Ok(())
    }

    pub(super) fn object(&self, uid: &str) -> Option<&Known<'a>> {
        self.objects.get(uid)
    }

    pub(super) fn has_series(&self, uid: &str) -> bool {
        self.series.contains(uid)
    }
}
