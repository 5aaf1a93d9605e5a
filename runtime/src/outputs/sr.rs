//! DICOM Structured Report: TID 1500 "Imaging Measurement Report" (PS3.16) in a Comprehensive 3D SR (PS3.3 A.35.13).
//!
//! ```text
//! Imaging Measurement Report ── language, observer (the module), procedure reported
//!  ├─ Image Library ── the source images, and where they lie                             TID 1600
//!  ├─ Imaging Measurements ── algorithm                                                  TID 4019
//!  │   ├─ Measurement Group: a segment of the SEG, with its numbers and its confidence   TID 1411
//!  │   ├─ Measurement Group: what is in a box of one slice, with its probability         TID 1410
//!  │   ├─ Measurement Group: what is in a box of several, an outline in each             TID 1411
//!  │   └─ or one Measurement Group: the numbers of a study without either                TID 1501
//!  └─ Qualitative Evaluations
//!      ├─ Finding: a segment without voxels, if something was measured of it
//!      ├─ Finding: a classification, with its probability
//!      ├─ Finding: a reason to look sooner, with its probability and priority
//!      └─ numbers that belong to no segment, where groups have regions
//! ```
//!
//! What has no region stands among the evaluations, though groups of TID 1501 may hold it too: PixelMed's validator
//! takes every group of a report for one with a region as soon as one is. Each finding there names its algorithm. It also
//! takes every group for one of TID 1410 where a report has just one outline: beside segments it is wrong about that.

mod concepts;
mod content;
mod frames;
mod library;

use dicom_core::VR;
use dicom_dictionary_std::{tags, uids as dictionary};
use dicom_object::{FileDicomObject, FileMetaTableBuilder, InMemDicomObject};

pub use self::frames::frames_report;

use self::concepts as c;
use self::content::Item;
use super::codes;
use super::dataset::{self, put, sequence};
use super::{Accepted, ModuleInfo, OutputKind, OutputUids, Source, Stamp, Written, uid};
use crate::findings::{Classification, Mark, Measurement, Segment, Triage};
use crate::memory::{Budget, Charge, OverBudget};

/// The name that UIDs of the SR are derived from.
const OUTPUT: &str = "report";

/// What an outline in an image takes in memory, roughly.
const OUTLINE_BYTES: u64 = 4096;

/// Another object that a report refers to.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Reference {
    /// Series Instance UID (0020,000E).
    #[serde(rename = "series_instance_uid")]
    pub series: String,
    /// SOP Instance UID (0008,0018).
    #[serde(rename = "sop_instance_uid")]
    pub instance: String,
}

/// What a report rests on.
#[derive(Debug, Clone, Copy)]
pub struct Evidence<'a> {
    /// The volume at [`Accepted::source`].
    pub source: &'a Source<'a>,
    /// The volume at [`Accepted::marks_source`].
    pub marks: &'a Source<'a>,
    /// The SEG that holds the segments.
    pub seg: Option<&'a Reference>,
    /// The SR that this one takes the place of.
    pub predecessor: Option<&'a Reference>,
}

/// Why there is no SR.
#[derive(Debug, thiserror::Error)]
pub enum SrError {
    /// The module stated no finding.
    #[error("the module stated no finding, and a report without measurement groups is none")]
    Empty,
    /// Segments have voxels, and there is no SEG that holds them: ours to repair.
    #[error("segments have voxels, and no SEG was named that holds them; write the SEG first")]
    NoSeg,
    /// Not what the gate accepted: ours to repair.
    #[error("a box lies in slice {0}, which has no instance in the source volume; pass the source that the gate named")]
    Source(usize),
    /// Too many boxes on too many slices to hold.
    #[error("the report has no room: {0}; state fewer boxes, or raise it")]
    OverBudget(#[from] OverBudget),
    /// An object that cannot be encoded: ours to repair.
    #[error("the file meta information of the SR cannot be built: {0}")]
    Meta(String),
}

/// Whether `accepted` holds anything that a report states.
#[must_use]
pub fn has_report(accepted: &Accepted) -> bool {
    accepted.has_seg()
        || !(accepted.measurements.is_empty() && accepted.classifications.is_empty() && accepted.triage.is_empty())
        || !accepted.marks.is_empty()
}

/// The report that one with these UIDs takes the place of, of `earlier` ones on the same study, the earliest first: the last
/// before the report first said the same. So whoever finds the same again writes the same again.
#[must_use]
pub fn predecessor<'a>(earlier: &'a [Reference], uids: &OutputUids) -> Option<&'a Reference> {
    let own = uids.instance(OUTPUT);
    earlier.iter().take_while(|report| report.instance != own).last()
}

/// The report among what was written.
#[must_use]
pub fn report_of(written: &[Written]) -> Option<Reference> {
    let report = written.iter().find(|output| output.kind == OutputKind::Report)?;
    let (series, instance) = (report.series_instance_uid.clone()?, report.sop_instance_uid.clone()?);
    Some(Reference { series, instance })
}

/// The report of `accepted` on `evidence`, and what `budget` is charged for it as long as it is held.
///
/// # Errors
/// See [`SrError`].
pub fn report(
    accepted: &Accepted,
    evidence: &Evidence<'_>,
    module: &ModuleInfo,
    uids: &OutputUids,
    stamp: &Stamp,
    budget: &Budget,
) -> Result<(FileDicomObject<InMemDicomObject>, Charge), SrError> {
    if !has_report(accepted) {
        return Err(SrError::Empty);
    }
    let Evidence { source, marks, seg, predecessor } = *evidence;
    if accepted.has_seg() && seg.is_none() {
        return Err(SrError::NoSeg);
    }
    let outlines: u64 = accepted.marks.iter().map(|mark| mark.region.size[2] as u64).sum();
    let charge = budget.charge(outlines.saturating_mul(OUTLINE_BYTES))?;
    let seg = seg.filter(|_| accepted.has_seg());
    let subject = Subject { accepted, source, marks, module, uids, seg, predecessor };
    let mut root = subject.document()?;
    let mut object = dataset::in_study_of(source);
    let mut module = module.clone();
    let named = [&mut module.name, &mut module.version, &mut module.vendor, &mut module.title];
    dataset::fit_characters(&mut object, named.into_iter().chain(root.texts()));
    let (class, instance) = (dictionary::COMPREHENSIVE3_DSR_STORAGE, uids.instance(OUTPUT));
    dataset::put_instance(&mut object, class, &instance, stamp);
    let description = dataset::described(&module.title, &module);
    dataset::put_series(&mut object, source, "SR", &uids.series(OUTPUT), &description, 2);
    sequence(&mut object, tags::REFERENCED_PERFORMED_PROCEDURE_STEP_SEQUENCE, vec![]);
    dataset::put_equipment(&mut object, &module);
    put_document(
        &mut object,
        &Document { sources: subject.sources(), seg: subject.seg, predecessor: subject.predecessor },
    );
    root.put_into(&mut object);
    let meta = FileMetaTableBuilder::new().transfer_syntax(dictionary::EXPLICIT_VR_LITTLE_ENDIAN);
    let object = object.with_meta(meta).map_err(|e| SrError::Meta(e.to_string()))?;
    Ok((object, charge))
}

/// What a report is about.
struct Subject<'a> {
    accepted: &'a Accepted,
    source: &'a Source<'a>,
    marks: &'a Source<'a>,
    module: &'a ModuleInfo,
    uids: &'a OutputUids,
    /// Set exactly when a segment has voxels.
    seg: Option<&'a Reference>,
    predecessor: Option<&'a Reference>,
}

/// What a document refers to.
struct Document<'a> {
    /// Volumes of one study; never none.
    sources: Vec<&'a Source<'a>>,
    seg: Option<&'a Reference>,
    predecessor: Option<&'a Reference>,
}

/// SR Document General module (PS3.3 C.17.2), and the template of the root (PS3.3 C.18.8.1.2).
fn put_document(object: &mut InMemDicomObject, document: &Document<'_>) {
    put(object, tags::COMPLETION_FLAG, VR::CS, "COMPLETE");
    put(object, tags::VERIFICATION_FLAG, VR::CS, "UNVERIFIED");
    put(object, tags::PRELIMINARY_FLAG, VR::CS, "PRELIMINARY");
    sequence(object, tags::PERFORMED_PROCEDURE_CODE_SEQUENCE, vec![]);
    let of_study = |series| {
        let mut study = InMemDicomObject::new_empty();
        let uid = document.sources.first().map_or("", |source| source.study.uid.as_str());
        put(&mut study, tags::STUDY_INSTANCE_UID, VR::UI, uid);
        sequence(&mut study, tags::REFERENCED_SERIES_SEQUENCE, series);
        vec![study]
    };
    if let Some(Reference { series, instance }) = document.predecessor {
        let earlier = vec![dataset::reference(dictionary::COMPREHENSIVE3_DSR_STORAGE, instance)];
        sequence(object, tags::PREDECESSOR_DOCUMENTS_SEQUENCE, of_study(vec![evidence(series, earlier)]));
    }
    // Two volumes may be of one series, and a series is named once.
    let mut images: Vec<(&str, Vec<InMemDicomObject>)> = Vec::new();
    for &source in &document.sources {
        let uid = source.series.uid.as_str();
        match images.iter_mut().find(|(series, _)| *series == uid) {
            Some((_, of_series)) => of_series.extend(dataset::slice_references(source)),
            None => images.push((uid, dataset::slice_references(source))),
        }
    }
    let mut series: Vec<_> = images.into_iter().map(|(uid, images)| evidence(uid, images)).collect();
    series.extend(document.seg.map(|Reference { series, instance }| {
        evidence(series, vec![dataset::reference(dictionary::SEGMENTATION_STORAGE, instance)])
    }));
    sequence(object, tags::CURRENT_REQUESTED_PROCEDURE_EVIDENCE_SEQUENCE, of_study(series));
    let mut template = InMemDicomObject::new_empty();
    put(&mut template, tags::MAPPING_RESOURCE, VR::CS, "DCMR");
    put(&mut template, tags::TEMPLATE_IDENTIFIER, VR::CS, "1500");
    sequence(object, tags::CONTENT_TEMPLATE_SEQUENCE, vec![template]);
}

impl Subject<'_> {
    /// The volumes that findings are of: one, or two where boxes are of another.
    fn sources(&self) -> Vec<&Source<'_>> {
        let other = !self.accepted.marks.is_empty() && self.accepted.marks_source != self.accepted.source;
        std::iter::once(self.source).chain(other.then_some(self.marks)).collect()
    }

    /// TID 1500.
    fn document(&self) -> Result<Item, SrError> {
        let root = Item::container(c::REPORT).modified_by(Item::code(c::LANGUAGE, c::ENGLISH));
        let root = observer(self.module).into_iter().fold(root, Item::observed_in);
        let root = root
            .modified_by(Item::code(c::PROCEDURE_REPORTED, c::procedure(&self.source.series.modality)))
            .contains(library::image_library(&self.sources()));
        // The template wants one of the two, and neither empty.
        let part = |container, items: Vec<Item>| (!items.is_empty()).then(|| Item::contains_all(container, items));
        Ok(root
            .contains_all(part(self.by_algorithm(Item::container(c::MEASUREMENTS)), self.groups()?))
            .contains_all(part(Item::container(c::EVALUATIONS), self.evaluations())))
    }

    /// The measurement groups, in the order in which segments and boxes were stated.
    fn groups(&self) -> Result<Vec<Item>, SrError> {
        let segments = self.seg.into_iter().flat_map(|seg| self.accepted.numbered().map(move |(n, s)| (seg, n, s)));
        let segments = segments.map(|(seg, n, segment)| Ok(self.segment(seg, n, segment)));
        let marks = (1..).zip(&self.accepted.marks).map(|(n, mark)| self.mark(n, mark));
        segments.chain(marks).chain(self.whole_study().map(Ok)).collect()
    }

    /// Whether a group has a region.
    fn has_regions(&self) -> bool {
        self.seg.is_some() || !self.accepted.marks.is_empty()
    }

    /// TID 1411.
    fn segment(&self, seg: &Reference, number: u16, segment: &Segment) -> Item {
        let group = group(segment.name.trim(), &self.uids.tracking(segment.value))
            .contains(Item::code(c::FINDING_CATEGORY, segment.category.clone()))
            .contains(Item::code(c::FINDING, segment.kind.clone()))
            .contains(Item::segment(c::REFERENCED_SEGMENT, dictionary::SEGMENTATION_STORAGE, &seg.instance, number))
            .contains(Item::uid(c::SOURCE_SERIES, self.source.series.uid.as_str()))
            .contains_all(self.numbers(Some(segment.value)));
        let mean = |confidence| probability(confidence).modified_by(Item::code(c::DERIVATION, c::MEAN));
        group.contains_all(segment.confidence.map(mean))
    }

    /// TID 1410 where the box lies in one slice, and else TID 1411: its outline in each.
    fn mark(&self, number: usize, mark: &Mark) -> Result<Item, SrError> {
        let ([x, y, first], [width, height, slices]) = (mark.region.start, mark.region.size);
        let [left, top, right, bottom] = [x, y, x + width, y + height].map(|n| n as f32);
        let corners = [[left, top], [right, top], [right, bottom], [left, bottom]];
        let outline = |slice: usize| {
            let instance = self.marks.instance(slice).ok_or(SrError::Source(slice))?;
            let image = Item::image(&instance.sop_class_uid, &instance.sop_instance_uid, instance.frame);
            let corners = corners.map(|corner| self.marks.in_image(slice, corner));
            Ok(Item::outline(c::IMAGE_REGION, &corners, image))
        };
        let outlines = (first..first + slices).map(outline).collect::<Result<Vec<_>, SrError>>()?;
        let tracked = self.uids.other(OUTPUT, &format!("mark {number}"));
        Ok(group(&format!("{} {number}", mark.label.meaning.trim()), &tracked)
            .contains(Item::code(c::FINDING, mark.label.clone()))
            .contains_all(outlines)
            .contains(probability(mark.probability)))
    }

    /// TID 1501: the numbers of a study in which nothing has a region.
    fn whole_study(&self) -> Option<Item> {
        let mut numbers = self.numbers(None).peekable();
        (!self.has_regions() && numbers.peek().is_some())
            .then(|| group("Measurements", &self.uids.other(OUTPUT, "measurements")).contains_all(numbers))
    }

    /// Rows 13 and 14 of TID 1500, with properties.
    fn evaluations(&self) -> Vec<Item> {
        let accepted = self.accepted;
        let segments = accepted.segmentation.iter().flat_map(|s| &s.segments);
        let unseen = segments.filter(|s| !accepted.present.contains(&s.value)).filter_map(|s| self.unseen(s));
        let findings = unseen
            .chain(accepted.classifications.iter().map(classification))
            .chain(accepted.triage.iter().map(triage))
            .map(|finding| self.by_algorithm(finding));
        let numbers = self.numbers(None).filter(|_| self.has_regions());
        findings.chain(numbers).collect()
    }

    /// A segment that no SEG holds, with what was measured of it.
    fn unseen(&self, segment: &Segment) -> Option<Item> {
        let mut numbers = self.numbers(Some(segment.value)).peekable();
        numbers.peek()?;
        let finding = Item::code(c::FINDING, segment.kind.clone())
            .with_property(Item::text(c::COMMENT, format!("{}: no voxel was segmented", segment.name.trim())));
        Some(numbers.fold(finding, Item::with_property))
    }

    /// What was measured of a segment, or of none.
    fn numbers(&self, segment: Option<u32>) -> impl Iterator<Item = Item> {
        self.accepted.measurements.iter().filter(move |m| m.segment == segment).map(number)
    }

    fn by_algorithm(&self, item: Item) -> Item {
        by_algorithm(self.module, item)
    }
}

/// TID 1002 and 1004: the module observed.
fn observer(module: &ModuleInfo) -> [Item; 6] {
    [
        Item::code(c::OBSERVER_TYPE, c::DEVICE),
        Item::uid(c::DEVICE_UID, uid::derive("device", &[&module.identity])),
        Item::text(c::DEVICE_NAME, dataset::described(&module.name, module)),
        Item::text(c::DEVICE_MANUFACTURER, module.vendor.as_str()),
        Item::text(c::DEVICE_MODEL, module.name.as_str()),
        Item::text(c::DEVICE_SERIAL, crate::hex(&module.identity)),
    ]
}

/// `item` with TID 4019: which algorithm found it, or what is in it.
fn by_algorithm(module: &ModuleInfo, item: Item) -> Item {
    let package = format!("package_sha256={}", crate::hex(&module.identity));
    item.modified_by(Item::text(c::ALGORITHM_NAME, module.name.as_str()))
        .modified_by(Item::text(c::ALGORITHM_VERSION, module.version.as_str()))
        .modified_by(Item::text(c::ALGORITHM_PARAMETERS, package))
        .modified_by(Item::text(c::ALGORITHM_MANUFACTURER, module.vendor.as_str()))
        .modified_by(Item::code(c::ALGORITHM_FAMILY, codes::ARTIFICIAL_INTELLIGENCE))
}

/// A finding about the whole study. The probability says how far it is one.
fn classification(found: &Classification) -> Item {
    Item::code(c::FINDING, found.finding.clone()).with_property(probability(found.probability))
}

/// A reason to look sooner.
fn triage(triage: &Triage) -> Item {
    let item = Item::code(c::FINDING, triage.finding.clone())
        .with_property(probability(triage.probability))
        .with_property(Item::text(c::PRIORITY, triage.level.name()));
    match triage.reason.trim() {
        "" => item,
        reason => item.with_property(Item::text(c::COMMENT, reason)),
    }
}

/// A measurement group with what it is tracked by.
fn group(name: &str, uid: &str) -> Item {
    Item::container(c::GROUP)
        .observed_in(Item::text(c::TRACKING_IDENTIFIER, name))
        .observed_in(Item::uid(c::TRACKING_UID, uid))
}

fn number(measurement: &Measurement) -> Item {
    Item::number(measurement.quantity.clone(), measurement.value, c::unit(&measurement.unit))
}

fn probability(probability: f32) -> Item {
    // By way of its shortest decimal: 0.9 stays 0.9.
    let value = probability.to_string().parse().unwrap_or_else(|_| f64::from(probability));
    Item::number(c::PROBABILITY, value, c::NO_UNITS)
}

/// One item of a Referenced Series Sequence (PS3.3 10.4, hierarchical).
fn evidence(series: &str, instances: Vec<InMemDicomObject>) -> InMemDicomObject {
    let mut item = InMemDicomObject::new_empty();
    put(&mut item, tags::SERIES_INSTANCE_UID, VR::UI, series);
    sequence(&mut item, tags::REFERENCED_SOP_SEQUENCE, instances);
    item
}

#[cfg(test)]
mod tests;
