//! The data set of a workitem, with the attributes of PS3.4 table CC.2.5-3, and what event reports tell of one (section CC.2.4).

use std::collections::BTreeMap;

use dicom_core::{PrimitiveValue, Tag, VR};
use dicom_dictionary_std::{tags, uids};
use dicom_object::InMemDicomObject;

use super::codes::{self, Known};
use super::{Written, dataset};
use crate::findings::{Code, Urgency};
use crate::store::{InstanceRow, JobState, WorkitemRow, WorkitemState};
use crate::worklist::uid::Prefix;

/// What is done on a study (PS3.16 CID 9231).
const IMAGE_PROCESSING: Known = Known("110001", "DCM", "Image Processing");
/// That of every workitem.
const CLASS: &str = uids::UNIFIED_PROCEDURE_STEP_PUSH;
/// Characters of a Reason For Cancellation (0074,1238) that is ours.
const REASON_MAX: usize = 1024;

/// What all workitems of a node have alike.
#[derive(Debug, Clone, Copy)]
pub struct Performer<'a> {
    /// AE title of the node.
    pub ae_title: &'a str,
    /// Worklist Label (0074,1202).
    pub label: &'a str,
    /// Of their UIDs.
    pub prefix: Prefix,
}

/// A data set in the making.
struct Item(InMemDicomObject);

impl Default for Item {
    fn default() -> Self {
        Self(InMemDicomObject::new_empty())
    }
}

impl Item {
    /// One value.
    fn one(&mut self, tag: Tag, vr: VR, value: impl Into<PrimitiveValue>) {
        dataset::put(&mut self.0, tag, vr, value);
    }

    /// Text as the journal has it, or nothing.
    fn text(&mut self, tag: Tag, vr: VR, text: &str) {
        match text {
            "" => dataset::put_empty(&mut self.0, tag, vr),
            text => self.one(tag, vr, PrimitiveValue::Strs(text.split('\\').map(str::to_owned).collect())),
        }
    }

    /// Items, or none.
    fn sequence(&mut self, tag: Tag, items: Vec<Self>) {
        dataset::sequence(&mut self.0, tag, items.into_iter().map(|item| item.0).collect());
    }

    fn code(code: impl Into<Code>) -> Self {
        Self(codes::item(&code.into()))
    }
}

/// What a retrieved workitem tells beside what a search does.
pub struct Parts {
    /// The instances that its job runs on.
    pub input: Vec<InstanceRow>,
    /// The files of its result, where they may leave.
    pub output: Vec<Written>,
    /// What the module is called.
    pub title: Option<String>,
}

/// Scheduled Procedure Step Priority (0074,1200).
fn priority(urgency: Urgency) -> &'static str {
    match urgency {
        Urgency::Routine => "LOW",
        Urgency::Prompt => "MEDIUM",
        Urgency::Urgent | Urgency::Critical => "HIGH",
    }
}

/// Input Readiness State (0040,4041).
fn readiness(ready: bool) -> &'static str {
    if ready { "READY" } else { "INCOMPLETE" }
}

/// A DT, in UTC.
fn moment(ms: i64) -> String {
    let time = chrono::DateTime::from_timestamp_millis(ms).unwrap_or_default();
    time.format("%Y%m%d%H%M%S%.3f+0000").to_string()
}

/// All that is told of a workitem; of instances only with `parts`, and their URLs begin with what is beside them.
#[must_use]
pub fn workitem(by: Performer<'_>, row: &WorkitemRow, parts: Option<(&Parts, &str)>) -> InMemDicomObject {
    let mut item = Item::default();
    item.one(tags::SPECIFIC_CHARACTER_SET, VR::CS, "ISO_IR 192");
    item.one(tags::SOP_CLASS_UID, VR::UI, CLASS);
    item.one(tags::SOP_INSTANCE_UID, VR::UI, by.prefix.uid(row.id));
    scheduled(&mut item, by, row, parts);
    relationship(&mut item, by, row);
    item.one(tags::PROCEDURE_STEP_STATE, VR::CS, row.state.name());
    item.sequence(tags::PROCEDURE_STEP_PROGRESS_INFORMATION_SEQUENCE, progress(row));
    let performed = match row.state {
        WorkitemState::Completed => vec![performed(by, row, parts)],
        _ => Vec::new(),
    };
    item.sequence(tags::UNIFIED_PROCEDURE_STEP_PERFORMED_PROCEDURE_SEQUENCE, performed);
    item.0
}

/// Unified Procedure Step Scheduled Procedure Information.
fn scheduled(item: &mut Item, by: Performer<'_>, row: &WorkitemRow, parts: Option<(&Parts, &str)>) {
    item.one(tags::SCHEDULED_PROCEDURE_STEP_PRIORITY, VR::CS, priority(row.priority));
    item.one(tags::SCHEDULED_PROCEDURE_STEP_MODIFICATION_DATE_TIME, VR::DT, moment(row.modified_ms));
    item.one(tags::PROCEDURE_STEP_LABEL, VR::LO, row.job.module.as_str());
    item.one(tags::WORKLIST_LABEL, VR::LO, by.label);
    for nobody in [
        tags::SCHEDULED_PROCESSING_PARAMETERS_SEQUENCE,
        tags::SCHEDULED_STATION_NAME_CODE_SEQUENCE,
        tags::SCHEDULED_STATION_CLASS_CODE_SEQUENCE,
        tags::SCHEDULED_STATION_GEOGRAPHIC_LOCATION_CODE_SEQUENCE,
        tags::SCHEDULED_HUMAN_PERFORMERS_SEQUENCE,
    ] {
        item.sequence(nobody, Vec::new());
    }
    item.one(tags::SCHEDULED_PROCEDURE_STEP_START_DATE_TIME, VR::DT, moment(row.made_ms));
    item.sequence(tags::SCHEDULED_WORKITEM_CODE_SEQUENCE, vec![Item::code(IMAGE_PROCESSING)]);
    item.text(tags::COMMENTS_ON_THE_SCHEDULED_PROCEDURE_STEP, VR::LT, "");
    item.one(tags::INPUT_READINESS_STATE, VR::CS, readiness(row.ready));
    item.one(tags::STUDY_INSTANCE_UID, VR::UI, row.job.study_instance_uid.as_str());
    if let Some((parts, base)) = parts {
        let mut series: BTreeMap<&str, Vec<(&str, &str)>> = BTreeMap::new();
        for instance in &parts.input {
            let of_series = series.entry(&instance.series_instance_uid).or_default();
            of_series.push((&instance.sop_class_uid, &instance.sop_instance_uid));
        }
        item.sequence(tags::INPUT_INFORMATION_SEQUENCE, references(&row.job.study_instance_uid, series, base));
    }
}

/// Unified Procedure Step Relationship, and the patient.
fn relationship(item: &mut Item, by: Performer<'_>, row: &WorkitemRow) {
    item.text(tags::PATIENT_NAME, VR::PN, &row.patient_name);
    item.text(tags::PATIENT_ID, VR::LO, &row.patient_id);
    item.text(tags::ISSUER_OF_PATIENT_ID, VR::LO, &row.issuer_of_patient_id);
    item.sequence(tags::ISSUER_OF_PATIENT_ID_QUALIFIERS_SEQUENCE, Vec::new());
    item.sequence(tags::OTHER_PATIENT_I_DS_SEQUENCE, Vec::new());
    item.text(tags::PATIENT_BIRTH_DATE, VR::DA, &row.patient_birth_date);
    item.text(tags::PATIENT_SEX, VR::CS, &row.patient_sex);
    item.text(tags::ADMISSION_ID, VR::LO, "");
    item.sequence(tags::ISSUER_OF_ADMISSION_ID_SEQUENCE, Vec::new());
    item.text(tags::ADMITTING_DIAGNOSES_DESCRIPTION, VR::LO, "");
    item.sequence(tags::ADMITTING_DIAGNOSES_CODE_SEQUENCE, Vec::new());
    for (tag, vr) in [(tags::MEDICAL_ALERTS, VR::LO), (tags::PREGNANCY_STATUS, VR::US), (tags::SPECIAL_NEEDS, VR::LO)] {
        item.text(tag, vr, "");
    }
    let mut request = Item::default();
    request.one(tags::STUDY_INSTANCE_UID, VR::UI, row.job.study_instance_uid.as_str());
    request.text(tags::ACCESSION_NUMBER, VR::SH, &row.accession_number);
    request.sequence(tags::ISSUER_OF_ACCESSION_NUMBER_SEQUENCE, Vec::new());
    request.sequence(tags::ORDER_PLACER_IDENTIFIER_SEQUENCE, Vec::new());
    request.sequence(tags::ORDER_FILLER_IDENTIFIER_SEQUENCE, Vec::new());
    request.text(tags::REQUESTED_PROCEDURE_ID, VR::SH, "");
    request.text(tags::REQUESTED_PROCEDURE_DESCRIPTION, VR::LO, "");
    request.sequence(tags::REQUESTED_PROCEDURE_CODE_SEQUENCE, Vec::new());
    item.sequence(tags::REFERENCED_REQUEST_SEQUENCE, vec![request]);
    if let Some(replaced) = row.replaces {
        let mut reference = Item::default();
        reference.one(tags::REFERENCED_SOP_CLASS_UID, VR::UI, CLASS);
        reference.one(tags::REFERENCED_SOP_INSTANCE_UID, VR::UI, by.prefix.uid(replaced));
        item.sequence(tags::REPLACED_PROCEDURE_STEP_SEQUENCE, vec![reference]);
    }
}

/// Unified Procedure Step Progress Information.
fn progress(row: &WorkitemRow) -> Vec<Item> {
    let mut item = Item::default();
    match row.state {
        WorkitemState::Scheduled => return Vec::new(),
        WorkitemState::InProgress if row.job.state == JobState::Running => {
            item.one(tags::PROCEDURE_STEP_PROGRESS_DESCRIPTION, VR::ST, format!("run {}", row.job.attempts));
        }
        WorkitemState::InProgress => {
            item.one(tags::PROCEDURE_STEP_PROGRESS_DESCRIPTION, VR::ST, "waits to be tried again");
        }
        WorkitemState::Completed => item.one(tags::PROCEDURE_STEP_PROGRESS, VR::DS, 100u16),
        WorkitemState::Canceled => {
            item.one(
                tags::PROCEDURE_STEP_CANCELLATION_DATE_TIME,
                VR::DT,
                moment(row.ended_ms.unwrap_or(row.modified_ms)),
            );
            // Of a job that was tried again since, it is no longer known why it was canceled then.
            let error = row.job.error.as_deref().filter(|_| row.job.state.is_over()).unwrap_or("its job ended");
            let reason: String = error.chars().take(REASON_MAX).collect();
            item.one(tags::REASON_FOR_CANCELLATION, VR::LT, reason);
            let (value, meaning) = match row.job.state {
                JobState::Failed | JobState::Dead => ("110501", "Equipment failure"),
                _ => ("110513", "Discontinued for unspecified reason"),
            };
            let code = Item::code(Code::new(value, "DCM", meaning));
            item.sequence(tags::PROCEDURE_STEP_DISCONTINUATION_REASON_CODE_SEQUENCE, vec![code]);
        }
    }
    vec![item]
}

/// Unified Procedure Step Performed Procedure Information: what the Final State COMPLETED needs.
fn performed(by: Performer<'_>, row: &WorkitemRow, parts: Option<(&Parts, &str)>) -> Item {
    let mut item = Item::default();
    let station = Item::code(Code::new(by.ae_title, "99GANTRY", "Gantry"));
    item.sequence(tags::PERFORMED_STATION_NAME_CODE_SEQUENCE, vec![station]);
    item.sequence(tags::PERFORMED_STATION_CLASS_CODE_SEQUENCE, Vec::new());
    item.sequence(tags::PERFORMED_STATION_GEOGRAPHIC_LOCATION_CODE_SEQUENCE, Vec::new());
    let started = row.job.started_ms.or(row.started_ms).unwrap_or(row.made_ms);
    item.one(tags::PERFORMED_PROCEDURE_STEP_START_DATE_TIME, VR::DT, moment(started));
    item.one(tags::PERFORMED_PROCEDURE_STEP_END_DATE_TIME, VR::DT, moment(row.ended_ms.unwrap_or(row.modified_ms)));
    item.sequence(tags::PERFORMED_WORKITEM_CODE_SEQUENCE, vec![Item::code(IMAGE_PROCESSING)]);
    if let Some((parts, base)) = parts {
        if let Some(title) = &parts.title {
            item.text(tags::PERFORMED_PROCEDURE_STEP_DESCRIPTION, VR::LO, &title.replace('\\', "/"));
        }
        let mut series: BTreeMap<&str, Vec<(&str, &str)>> = BTreeMap::new();
        for written in &parts.output {
            let uids = (&written.series_instance_uid, &written.sop_class_uid, &written.sop_instance_uid);
            if let (Some(of_series), Some(class), Some(instance)) = uids {
                series.entry(of_series).or_default().push((class, instance));
            }
        }
        item.sequence(tags::OUTPUT_INFORMATION_SEQUENCE, references(&row.job.study_instance_uid, series, base));
    } else {
        item.sequence(tags::OUTPUT_INFORMATION_SEQUENCE, Vec::new());
    }
    item
}

/// Referenced Instances and Access (PS3.4 table CC.2.5-2c), an item for each series.
fn references(study: &str, series: BTreeMap<&str, Vec<(&str, &str)>>, base: &str) -> Vec<Item> {
    let of_series = |(uid, instances): (&str, Vec<(&str, &str)>)| {
        let mut item = Item::default();
        item.one(tags::TYPE_OF_INSTANCES, VR::CS, "DICOM");
        item.one(tags::STUDY_INSTANCE_UID, VR::UI, study);
        item.one(tags::SERIES_INSTANCE_UID, VR::UI, uid);
        let referenced = instances.into_iter().map(|(class, instance)| {
            let mut reference = Item::default();
            reference.one(tags::REFERENCED_SOP_CLASS_UID, VR::UI, class);
            reference.one(tags::REFERENCED_SOP_INSTANCE_UID, VR::UI, instance);
            reference
        });
        item.sequence(tags::REFERENCED_SOP_SEQUENCE, referenced.collect());
        let mut retrieval = Item::default();
        retrieval.one(tags::RETRIEVE_URL, VR::UR, format!("{base}/studies/{study}/series/{uid}"));
        item.sequence(tags::WADORS_RETRIEVAL_SEQUENCE, vec![retrieval]);
        item
    };
    series.into_iter().map(of_series).collect()
}

/// UPS State Report: how a workitem stands, and what it was raised to, if it was.
#[must_use]
pub fn state(state: WorkitemState, ready: bool, raised: Option<Urgency>) -> InMemDicomObject {
    let mut item = Item::default();
    item.one(tags::INPUT_READINESS_STATE, VR::CS, readiness(ready));
    item.one(tags::PROCEDURE_STEP_STATE, VR::CS, state.name());
    if let Some(urgency) = raised {
        item.one(tags::SCHEDULED_PROCEDURE_STEP_PRIORITY, VR::CS, priority(urgency));
    }
    item.0
}

/// SCP Status Change. Subscriptions and workitems are in the journal, and outlive the process.
#[must_use]
pub fn status(status: &str) -> InMemDicomObject {
    let mut item = Item::default();
    item.one(tags::SCP_STATUS, VR::CS, status);
    for list in [tags::SUBSCRIPTION_LIST_STATUS, tags::UNIFIED_PROCEDURE_STEP_LIST_STATUS] {
        item.one(list, VR::CS, "WARM START");
    }
    item.0
}

/// What was given with a request to cancel.
#[derive(Debug, Default)]
pub struct Asked {
    /// Reason For Cancellation (0074,1238).
    pub reason: Option<String>,
    /// Contact Display Name (0074,100C).
    pub contact: Option<String>,
    /// Contact URI (0074,100A).
    pub contact_uri: Option<String>,
    /// Procedure Step Discontinuation Reason Code Sequence (0074,100E), where there is one.
    pub codes: Option<Vec<Code>>,
}

/// What subscribers are told of a request to cancel (PS3.4 table CC.2.2-1).
#[must_use]
pub fn cancellation(requester: &str, asked: &Asked) -> InMemDicomObject {
    let mut item = Item::default();
    item.one(tags::REQUESTING_AE, VR::AE, requester);
    for (tag, vr, text) in [
        (tags::REASON_FOR_CANCELLATION, VR::LT, &asked.reason),
        (tags::CONTACT_DISPLAY_NAME, VR::LO, &asked.contact),
        (tags::CONTACT_URI, VR::UR, &asked.contact_uri),
    ] {
        text.iter().for_each(|text| item.one(tag, vr, text.as_str()));
    }
    if let Some(codes) = &asked.codes {
        let codes = codes.iter().cloned().map(Item::code).collect();
        item.sequence(tags::PROCEDURE_STEP_DISCONTINUATION_REASON_CODE_SEQUENCE, codes);
    }
    item.0
}
