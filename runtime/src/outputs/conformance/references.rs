//! Whether everything that an object refers to is there: an image of the input, or an object of the same result, of the class
//! that is named, in the series and study that are named, with the frames and segments that are named.

use std::collections::HashSet;

use dicom_core::Tag;
use dicom_dictionary_std::tags;

use super::Fault;
use super::inputs::{Inputs, Objects};
use super::iods;
use super::read::DataSet;

/// Where an object lists all that it refers to (PS3.3 C.12.2, C.11.11, C.17.2).
const LISTS: [Tag; 3] = [
    tags::REFERENCED_SERIES_SEQUENCE,
    tags::CURRENT_REQUESTED_PROCEDURE_EVIDENCE_SEQUENCE,
    tags::PERTINENT_OTHER_EVIDENCE_SEQUENCE,
];

/// What refers to objects that are not here: those of an earlier result that this one takes the place of.
const EARLIER: [Tag; 1] = [tags::PREDECESSOR_DOCUMENTS_SEQUENCE];

/// Concepts whose UID is of something that must be there: Frame of Reference UID, Source series for segmentation (PS3.16 annex D).
const FRAME_OF_REFERENCE: &str = "112227";
const SOURCE_SERIES: &str = "121232";

/// Whether an attribute of an item repeats what the source says elsewhere: the UID of something, or a date or time in a report.
pub(super) fn repeats(tag: Tag) -> bool {
    matches!(
        tag,
        tags::REFERENCED_SOP_INSTANCE_UID
            | tags::SERIES_INSTANCE_UID
            | tags::STUDY_INSTANCE_UID
            | tags::UID
            | tags::DATE
            | tags::TIME
    )
}

struct Walk<'a> {
    data_set: DataSet<'a>,
    inputs: &'a Inputs<'a>,
    result: &'a Objects<'a>,
    /// UIDs in [`LISTS`]; `None` for an object that has no such list.
    listed: Option<HashSet<&'a str>>,
}

/// What the items above a reference say of it.
#[derive(Clone, Copy, Default)]
struct Within<'a> {
    series: &'a str,
    /// An object of an earlier result.
    earlier: bool,
}

/// Segments are numbered from 1 without a gap, in the order of their items (PS3.3 C.8.20.2).
pub(super) fn numbered(data_set: DataSet<'_>) -> Result<(), Fault> {
    let numbers = data_set.items(tags::SEGMENT_SEQUENCE).map(|item| item.unsigned(tags::SEGMENT_NUMBER));
    match numbers.zip(1u32..).zip(1..).find(|((number, expected), _)| *number != Some(*expected)) {
        Some((_, at)) => {
            let fault = Fault::at(tags::SEGMENT_NUMBER, "segments are not numbered from 1 by 1 (PS3.3 C.8.20.2)");
            Err(fault.in_item(at).within(tags::SEGMENT_SEQUENCE))
        }
        None => Ok(()),
    }
}

/// Holds every reference of an object against what is there.
pub(super) fn check<'a>(data_set: DataSet<'a>, inputs: &'a Inputs<'a>, result: &'a Objects<'a>) -> Result<(), Fault> {
    let mut listed = HashSet::new();
    for list in LISTS {
        data_set.items(list).for_each(|item| collect(item, &mut listed));
    }
    let has_list = LISTS.iter().any(|list| data_set.has(*list));
    let walk = Walk { data_set, inputs, result, listed: has_list.then_some(listed) };
    for field in data_set.fields() {
        let within = Within { series: "", earlier: EARLIER.contains(&field.tag()) };
        for (item, at) in field.items().zip(1..) {
            walk.item(item, within).map_err(|fault| fault.in_item(at).within(field.tag()))?;
        }
    }
    Ok(())
}

fn collect<'a>(item: DataSet<'a>, into: &mut HashSet<&'a str>) {
    into.insert(item.text(tags::REFERENCED_SOP_INSTANCE_UID));
    item.fields().flat_map(|field| field.items()).for_each(|item| collect(item, into));
}

impl<'a> Walk<'a> {
    fn item(&self, item: DataSet<'a>, above: Within<'a>) -> Result<(), Fault> {
        let study = item.text(tags::STUDY_INSTANCE_UID);
        if !study.is_empty() && study != self.inputs.study_uid() {
            return Err(Fault::at(tags::STUDY_INSTANCE_UID, "refers to another study than that of the result"));
        }
        let series = item.text(tags::SERIES_INSTANCE_UID);
        let there = self.inputs.has_series(series) || self.result.has_series(series);
        if !series.is_empty() && !there && !above.earlier {
            let rule = "refers to a series that is neither an input nor of this result";
            return Err(Fault::at(tags::SERIES_INSTANCE_UID, rule));
        }
        let within = if series.is_empty() { above } else { Within { series, ..above } };
        if item.has(tags::REFERENCED_SOP_INSTANCE_UID) {
            self.reference(item, within)?;
        } else if let Some(segment) = item.unsigned(tags::REFERENCED_SEGMENT_NUMBER) {
            self.own_segment(segment)?;
        }
        if item.has(tags::VALUE_TYPE) {
            self.content(item)?;
        }
        for field in item.fields() {
            for (item, at) in field.items().zip(1..) {
                self.item(item, within).map_err(|fault| fault.in_item(at).within(field.tag()))?;
            }
        }
        Ok(())
    }

    fn reference(&self, item: DataSet<'a>, within: Within<'a>) -> Result<(), Fault> {
        let (uid, class) = (item.text(tags::REFERENCED_SOP_INSTANCE_UID), item.text(tags::REFERENCED_SOP_CLASS_UID));
        let fault = |tag, rule: &str| Err(Fault::at(tag, rule));
        let (of_class, of_series, frames, segments) = match (self.inputs.instance(uid), self.result.object(uid)) {
            _ if uid == self.data_set.text(tags::SOP_INSTANCE_UID) => {
                return fault(tags::REFERENCED_SOP_INSTANCE_UID, "refers to the object itself");
            }
            _ if within.earlier => {
                // It is in the archive, and what is known of it here is what it must be.
                return match iods::of(class) {
                    Some(_) => Ok(()),
                    None => fault(tags::REFERENCED_SOP_CLASS_UID, "is no class of objects that results have"),
                };
            }
            (Some(image), _) => (image.class, image.series.uid.as_str(), Err(image.frames), None),
            (None, Some(known)) => (known.class, known.series, Ok(known.frames.as_slice()), Some(&known.segments)),
            (None, None) => {
                let rule = "refers to an object that is neither an input nor of this result";
                return fault(tags::REFERENCED_SOP_INSTANCE_UID, rule);
            }
        };
        if class != of_class {
            return fault(tags::REFERENCED_SOP_CLASS_UID, "is not the class of the object that is referred to");
        }
        if !within.series.is_empty() && within.series != of_series {
            return fault(tags::REFERENCED_SOP_INSTANCE_UID, "is an object of another series than the one above it");
        }
        if self.listed.as_ref().is_some_and(|listed| !listed.contains(uid)) {
            let rule = "is not among what the object lists as referred to (PS3.3 C.12.2, C.17.2)";
            return fault(tags::REFERENCED_SOP_INSTANCE_UID, rule);
        }
        let wanted = numbers(item, tags::REFERENCED_SEGMENT_NUMBER);
        if !wanted.iter().all(|segment| segments.is_some_and(|segments| segments.contains(segment))) {
            return fault(tags::REFERENCED_SEGMENT_NUMBER, "is no segment of the object that is referred to");
        }
        for frame in numbers(item, tags::REFERENCED_FRAME_NUMBER) {
            // Those of an input are of no segment.
            let known = match frames {
                Ok(frames) => frames.get((frame as usize).wrapping_sub(1)).copied(),
                Err(count) => (1..=count).contains(&frame).then_some(None),
            };
            match known {
                None => return fault(tags::REFERENCED_FRAME_NUMBER, "is no frame of the object that is referred to"),
                Some(Some(segment)) if !wanted.is_empty() && !wanted.contains(&segment) => {
                    return fault(tags::REFERENCED_FRAME_NUMBER, "is a frame of another segment than the one named");
                }
                Some(_) => {}
            }
        }
        Ok(())
    }

    /// A frame of a segmentation is of one of its own segments.
    fn own_segment(&self, segment: u32) -> Result<(), Fault> {
        let own = self.result.object(self.data_set.text(tags::SOP_INSTANCE_UID));
        match own.is_some_and(|own| own.segments.contains(&segment)) {
            true => Ok(()),
            false => Err(Fault::at(tags::REFERENCED_SEGMENT_NUMBER, "is no segment of the object")),
        }
    }

    /// What a content item of a report names by UID or by place.
    fn content(&self, item: DataSet<'a>) -> Result<(), Fault> {
        let concept = item.item(tags::CONCEPT_NAME_CODE_SEQUENCE).map_or("", |code| code.text(tags::CODE_VALUE));
        let uid = item.text(tags::UID);
        let known = match item.text(tags::VALUE_TYPE) {
            "UIDREF" if concept == FRAME_OF_REFERENCE => self.inputs.has_frame_of_reference(uid),
            "UIDREF" if concept == SOURCE_SERIES => self.inputs.has_series(uid),
            _ => true,
        };
        if known { Ok(()) } else { Err(Fault::at(tags::UID, "names nothing that is an input")) }
    }
}

/// Numbers as text or binary.
pub(super) fn numbers(item: DataSet<'_>, tag: Tag) -> Vec<u32> {
    let Some(field) = item.field(tag).filter(|field| !field.is_empty()) else { return Vec::new() };
    match field.vr() {
        dicom_core::VR::US => {
            field.value().as_chunks().0.iter().map(|bytes| u32::from(u16::from_le_bytes(*bytes))).collect()
        }
        // What is no number is number 0 of things that are counted from 1.
        _ => field.text().split('\\').map(|number| number.trim().parse().unwrap_or(0)).collect(),
    }
}
