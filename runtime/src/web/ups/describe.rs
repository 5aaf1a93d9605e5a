//! A workitem in DICOM JSON (PS3.18 annex F), with the attributes of PS3.4 table CC.2.5-3.

use std::collections::BTreeMap;

use dicom_core::{Tag, VR};
use dicom_dictionary_std::tags;
use serde_json::{Map, Value, json};

use super::super::Shared;
use super::super::qido::values;
use super::UPS_PUSH;
use crate::findings::Urgency;
use crate::outputs::Written;
use crate::store::{InstanceRow, JobState, WorkitemRow, WorkitemState};

/// What is done on a study (PS3.16 CID 9231).
const IMAGE_PROCESSING: (&str, &str, &str) = ("110001", "DCM", "Image Processing");

/// A data set in the making.
#[derive(Debug, Default)]
pub(super) struct Item(Map<String, Value>);

impl Item {
    /// One value.
    pub(super) fn one(&mut self, tag: Tag, vr: &str, value: impl Into<Value>) {
        self.0.insert(key(tag), json!({"vr": vr, "Value": [value.into()]}));
    }

    /// Text, or nothing.
    fn text(&mut self, tag: Tag, vr: VR, text: &str) {
        let values = values(vr, text);
        let mut element = json!({"vr": vr.to_string()});
        if !values.is_empty() {
            element["Value"] = Value::Array(values);
        }
        self.0.insert(key(tag), element);
    }

    /// Items, or none.
    pub(super) fn sequence(&mut self, tag: Tag, items: Vec<Self>) {
        let mut element = json!({"vr": "SQ"});
        if !items.is_empty() {
            element["Value"] = items.into_iter().map(|item| Value::Object(item.into_map())).collect();
        }
        self.0.insert(key(tag), element);
    }

    /// A coded concept.
    pub(super) fn code(value: &str, scheme: &str, meaning: &str) -> Self {
        let mut item = Self::default();
        item.text(tags::CODE_VALUE, VR::SH, value);
        item.text(tags::CODING_SCHEME_DESIGNATOR, VR::SH, scheme);
        item.text(tags::CODE_MEANING, VR::LO, meaning);
        item
    }

    /// PS3.18 section F.2.2: in order of tags.
    pub(super) fn into_map(mut self) -> Map<String, Value> {
        self.0.sort_keys();
        self.0
    }
}

/// The name of an attribute in DICOM JSON.
pub(super) fn key(tag: Tag) -> String {
    format!("{:04X}{:04X}", tag.group(), tag.element())
}

/// What a retrieved workitem tells beside what a search does.
pub(super) struct Parts {
    /// The instances that its job runs on.
    pub(super) input: Vec<InstanceRow>,
    /// The files of its result, where they may leave.
    pub(super) output: Vec<Written>,
    /// What the module is called.
    pub(super) title: Option<String>,
}

/// Scheduled Procedure Step Priority (0074,1200).
pub(super) fn priority(urgency: Urgency) -> &'static str {
    match urgency {
        Urgency::Routine => "LOW",
        Urgency::Prompt => "MEDIUM",
        Urgency::Urgent | Urgency::Critical => "HIGH",
    }
}

/// Input Readiness State (0040,4041).
pub(super) fn readiness(ready: bool) -> &'static str {
    if ready { "READY" } else { "INCOMPLETE" }
}

/// A DT, in UTC.
fn moment(ms: i64) -> String {
    let time = chrono::DateTime::from_timestamp_millis(ms).unwrap_or_default();
    time.format("%Y%m%d%H%M%S%.3f+0000").to_string()
}

/// All that is told of a workitem; of instances only with `parts`, and their URLs begin with what is beside them.
pub(super) fn workitem(shared: &Shared, row: &WorkitemRow, parts: Option<(&Parts, &str)>) -> Value {
    let mut item = Item::default();
    item.one(tags::SPECIFIC_CHARACTER_SET, "CS", "ISO_IR 192");
    item.one(tags::SOP_CLASS_UID, "UI", UPS_PUSH);
    item.one(tags::SOP_INSTANCE_UID, "UI", shared.channels.prefix.uid(row.id));
    scheduled(&mut item, shared, row, parts);
    relationship(&mut item, shared, row);
    item.one(tags::PROCEDURE_STEP_STATE, "CS", row.state.name());
    item.sequence(tags::PROCEDURE_STEP_PROGRESS_INFORMATION_SEQUENCE, progress(row));
    let performed = match row.state {
        WorkitemState::Completed => vec![performed(shared, row, parts)],
        _ => Vec::new(),
    };
    item.sequence(tags::UNIFIED_PROCEDURE_STEP_PERFORMED_PROCEDURE_SEQUENCE, performed);
    Value::Object(item.into_map())
}

/// Unified Procedure Step Scheduled Procedure Information.
fn scheduled(item: &mut Item, shared: &Shared, row: &WorkitemRow, parts: Option<(&Parts, &str)>) {
    item.one(tags::SCHEDULED_PROCEDURE_STEP_PRIORITY, "CS", priority(row.priority));
    item.one(tags::SCHEDULED_PROCEDURE_STEP_MODIFICATION_DATE_TIME, "DT", moment(row.modified_ms));
    item.one(tags::PROCEDURE_STEP_LABEL, "LO", row.job.module.as_str());
    item.one(tags::WORKLIST_LABEL, "LO", shared.worklist.label.as_str());
    for nobody in [
        tags::SCHEDULED_PROCESSING_PARAMETERS_SEQUENCE,
        tags::SCHEDULED_STATION_NAME_CODE_SEQUENCE,
        tags::SCHEDULED_STATION_CLASS_CODE_SEQUENCE,
        tags::SCHEDULED_STATION_GEOGRAPHIC_LOCATION_CODE_SEQUENCE,
        tags::SCHEDULED_HUMAN_PERFORMERS_SEQUENCE,
    ] {
        item.sequence(nobody, Vec::new());
    }
    item.one(tags::SCHEDULED_PROCEDURE_STEP_START_DATE_TIME, "DT", moment(row.made_ms));
    let (value, scheme, meaning) = IMAGE_PROCESSING;
    item.sequence(tags::SCHEDULED_WORKITEM_CODE_SEQUENCE, vec![Item::code(value, scheme, meaning)]);
    item.text(tags::COMMENTS_ON_THE_SCHEDULED_PROCEDURE_STEP, VR::LT, "");
    item.one(tags::INPUT_READINESS_STATE, "CS", readiness(row.ready));
    item.one(tags::STUDY_INSTANCE_UID, "UI", row.job.study_instance_uid.as_str());
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
fn relationship(item: &mut Item, shared: &Shared, row: &WorkitemRow) {
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
    request.one(tags::STUDY_INSTANCE_UID, "UI", row.job.study_instance_uid.as_str());
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
        reference.one(tags::REFERENCED_SOP_CLASS_UID, "UI", UPS_PUSH);
        reference.one(tags::REFERENCED_SOP_INSTANCE_UID, "UI", shared.channels.prefix.uid(replaced));
        item.sequence(tags::REPLACED_PROCEDURE_STEP_SEQUENCE, vec![reference]);
    }
}

/// Unified Procedure Step Progress Information.
fn progress(row: &WorkitemRow) -> Vec<Item> {
    let mut item = Item::default();
    match row.state {
        WorkitemState::Scheduled => return Vec::new(),
        WorkitemState::InProgress if row.job.state == JobState::Running => {
            item.one(tags::PROCEDURE_STEP_PROGRESS_DESCRIPTION, "ST", format!("run {}", row.job.attempts));
        }
        WorkitemState::InProgress => {
            item.one(tags::PROCEDURE_STEP_PROGRESS_DESCRIPTION, "ST", "waits to be tried again");
        }
        WorkitemState::Completed => item.one(tags::PROCEDURE_STEP_PROGRESS, "DS", 100),
        WorkitemState::Canceled => {
            item.one(
                tags::PROCEDURE_STEP_CANCELLATION_DATE_TIME,
                "DT",
                moment(row.ended_ms.unwrap_or(row.modified_ms)),
            );
            // Of a job that was tried again since, it is no longer known why it was canceled then.
            let error = row.job.error.as_deref().filter(|_| row.job.state.is_over()).unwrap_or("its job ended");
            let reason: String = error.chars().take(1024).collect();
            item.one(tags::REASON_FOR_CANCELLATION, "LT", reason);
            let (value, meaning) = match row.job.state {
                JobState::Failed | JobState::Dead => ("110501", "Equipment failure"),
                _ => ("110513", "Discontinued for unspecified reason"),
            };
            let code = Item::code(value, "DCM", meaning);
            item.sequence(tags::PROCEDURE_STEP_DISCONTINUATION_REASON_CODE_SEQUENCE, vec![code]);
        }
    }
    vec![item]
}

/// Unified Procedure Step Performed Procedure Information: what the Final State COMPLETED needs.
fn performed(shared: &Shared, row: &WorkitemRow, parts: Option<(&Parts, &str)>) -> Item {
    let mut item = Item::default();
    let station = Item::code(&shared.ae_title, "99GANTRY", "Gantry");
    item.sequence(tags::PERFORMED_STATION_NAME_CODE_SEQUENCE, vec![station]);
    item.sequence(tags::PERFORMED_STATION_CLASS_CODE_SEQUENCE, Vec::new());
    item.sequence(tags::PERFORMED_STATION_GEOGRAPHIC_LOCATION_CODE_SEQUENCE, Vec::new());
    let started = row.job.started_ms.or(row.started_ms).unwrap_or(row.made_ms);
    item.one(tags::PERFORMED_PROCEDURE_STEP_START_DATE_TIME, "DT", moment(started));
    item.one(tags::PERFORMED_PROCEDURE_STEP_END_DATE_TIME, "DT", moment(row.ended_ms.unwrap_or(row.modified_ms)));
    let (value, scheme, meaning) = IMAGE_PROCESSING;
    item.sequence(tags::PERFORMED_WORKITEM_CODE_SEQUENCE, vec![Item::code(value, scheme, meaning)]);
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
        item.one(tags::TYPE_OF_INSTANCES, "CS", "DICOM");
        item.one(tags::STUDY_INSTANCE_UID, "UI", study);
        item.one(tags::SERIES_INSTANCE_UID, "UI", uid);
        let referenced = instances.into_iter().map(|(class, instance)| {
            let mut reference = Item::default();
            reference.one(tags::REFERENCED_SOP_CLASS_UID, "UI", class);
            reference.one(tags::REFERENCED_SOP_INSTANCE_UID, "UI", instance);
            reference
        });
        item.sequence(tags::REFERENCED_SOP_SEQUENCE, referenced.collect());
        let mut retrieval = Item::default();
        retrieval.one(tags::RETRIEVE_URL, "UR", format!("{base}/studies/{study}/series/{uid}"));
        item.sequence(tags::WADORS_RETRIEVAL_SEQUENCE, vec![retrieval]);
        item
    };
    series.into_iter().map(of_series).collect()
}
