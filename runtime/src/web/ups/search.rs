//! Search for workitems (PS3.18 section 11.9): by the attributes of PS3.4 table CC.2.5-3 that must be matched.

use std::sync::Arc;

use axum::extract::{Query, State};
use axum::http::{HeaderMap, StatusCode, header};
use dicom_core::{Tag, VR};
use dicom_dictionary_std::tags;
use serde_json::Value;

use super::super::accept::{accepted, choose};
use super::super::error::WebError;
use super::super::json::{JSON, Page};
use super::super::qido::{DICOM_JSON, Listed, Parameters, attribute, condition_of};
use super::super::{Shared, answer, warning};
use super::{Answer, json};
use crate::outputs::workitem::workitem;
use crate::store::{Match, WorkitemField, WorkitemSearch};
use crate::worklist::uid::Prefix;

/// Attributes and what they are in the journal. Those within a sequence are matched in its items.
const KEYS: &[(&[Tag], VR, WorkitemField)] = &[
    (&[tags::SOP_INSTANCE_UID], VR::UI, WorkitemField::Id),
    (&[tags::REPLACED_PROCEDURE_STEP_SEQUENCE, tags::REFERENCED_SOP_INSTANCE_UID], VR::UI, WorkitemField::Replaces),
    (&[tags::PROCEDURE_STEP_STATE], VR::CS, WorkitemField::State),
    (&[tags::SCHEDULED_PROCEDURE_STEP_PRIORITY], VR::CS, WorkitemField::Priority),
    (&[tags::PROCEDURE_STEP_LABEL], VR::LO, WorkitemField::Label),
    (&[tags::WORKLIST_LABEL], VR::LO, WorkitemField::WorklistLabel),
    (&[tags::INPUT_READINESS_STATE], VR::CS, WorkitemField::Readiness),
    (&[tags::SCHEDULED_PROCEDURE_STEP_START_DATE_TIME], VR::DT, WorkitemField::Start),
    (&[tags::SCHEDULED_PROCEDURE_STEP_MODIFICATION_DATE_TIME], VR::DT, WorkitemField::Modified),
    (&[tags::EXPECTED_COMPLETION_DATE_TIME], VR::DT, WorkitemField::Absent),
    (&[tags::STUDY_INSTANCE_UID], VR::UI, WorkitemField::StudyInstanceUid),
    (&[tags::REFERENCED_REQUEST_SEQUENCE, tags::STUDY_INSTANCE_UID], VR::UI, WorkitemField::StudyInstanceUid),
    (&[tags::REFERENCED_REQUEST_SEQUENCE, tags::ACCESSION_NUMBER], VR::SH, WorkitemField::AccessionNumber),
    (&[tags::REFERENCED_REQUEST_SEQUENCE, tags::REQUESTED_PROCEDURE_ID], VR::SH, WorkitemField::Absent),
    (&[tags::REFERENCED_REQUEST_SEQUENCE, tags::REQUESTING_SERVICE], VR::LO, WorkitemField::Absent),
    (&[tags::PATIENT_NAME], VR::PN, WorkitemField::PatientName),
    (&[tags::PATIENT_ID], VR::LO, WorkitemField::PatientId),
    (&[tags::ISSUER_OF_PATIENT_ID], VR::LO, WorkitemField::IssuerOfPatientId),
    (&[tags::PATIENT_BIRTH_DATE], VR::DA, WorkitemField::PatientBirthDate),
    (&[tags::PATIENT_SEX], VR::CS, WorkitemField::PatientSex),
    (&[tags::ADMISSION_ID], VR::LO, WorkitemField::Absent),
    (&[tags::SCHEDULED_WORKITEM_CODE_SEQUENCE, tags::CODE_VALUE], VR::SH, WorkitemField::WorkitemCode),
    (
        &[tags::SCHEDULED_WORKITEM_CODE_SEQUENCE, tags::CODING_SCHEME_DESIGNATOR],
        VR::SH,
        WorkitemField::WorkitemCodeScheme,
    ),
    (&[tags::SCHEDULED_STATION_NAME_CODE_SEQUENCE, tags::CODE_VALUE], VR::SH, WorkitemField::Absent),
    (&[tags::SCHEDULED_STATION_NAME_CODE_SEQUENCE, tags::CODING_SCHEME_DESIGNATOR], VR::SH, WorkitemField::Absent),
    (&[tags::SCHEDULED_STATION_CLASS_CODE_SEQUENCE, tags::CODE_VALUE], VR::SH, WorkitemField::Absent),
    (&[tags::SCHEDULED_STATION_CLASS_CODE_SEQUENCE, tags::CODING_SCHEME_DESIGNATOR], VR::SH, WorkitemField::Absent),
    (&[tags::SCHEDULED_STATION_GEOGRAPHIC_LOCATION_CODE_SEQUENCE, tags::CODE_VALUE], VR::SH, WorkitemField::Absent),
    (
        &[tags::SCHEDULED_STATION_GEOGRAPHIC_LOCATION_CODE_SEQUENCE, tags::CODING_SCHEME_DESIGNATOR],
        VR::SH,
        WorkitemField::Absent,
    ),
    (
        &[tags::SCHEDULED_HUMAN_PERFORMERS_SEQUENCE, tags::HUMAN_PERFORMER_CODE_SEQUENCE, tags::CODE_VALUE],
        VR::SH,
        WorkitemField::Absent,
    ),
];

pub(super) async fn workitems(
    State(shared): State<Arc<Shared>>,
    Query(parameters): Query<Parameters>,
    headers: HeaderMap,
) -> Answer {
    let accept = parameters.iter().find(|(name, _)| name == "accept").map(|(_, value)| value.as_str());
    let kind = choose(&accepted(&headers, accept)?, &[DICOM_JSON, JSON])?;
    let (mut search, mut warnings) = parsed(&parameters, shared.config.qido_results_max, shared.channels.prefix)?;
    search.label.clone_from(&shared.worklist.label);
    // One more tells whether there are more.
    let limit = search.limit as usize;
    search.limit = search.limit.saturating_add(1);
    let mut found = shared.store.workitems(&search).await?;
    if found.len() > limit {
        found.truncate(limit);
        warnings.push("There are more results that can be requested with offset");
    }
    let told = |row| json(&workitem(shared.performer(), row, None)).map(Value::Object);
    let list = found.iter().map(told).collect::<Result<Vec<_>, _>>()?;
    let mut response = match list.is_empty() {
        true => answer(StatusCode::NO_CONTENT, kind, ""),
        false => answer(StatusCode::OK, kind, Value::Array(list).to_string()),
    };
    let detail = format!("{} workitems found", found.len());
    response.extensions_mut().insert(Listed { study_instance_uid: None, detail });
    for text in warnings {
        response.headers_mut().append(header::WARNING, warning(text));
    }
    Ok(response)
}

/// A search and what is to be said of it.
fn parsed(
    parameters: &Parameters,
    most: usize,
    prefix: Prefix,
) -> Result<(WorkitemSearch, Vec<&'static str>), WebError> {
    let (mut filters, mut warnings, mut known) = (Vec::new(), Vec::new(), Vec::new());
    let page = Page::of(parameters, most, |name, value| {
        match name {
            // All that is known is told, but instances.
            "accept" | "includefield" => {}
            "fuzzymatching" if value.eq_ignore_ascii_case("false") => {}
            "fuzzymatching" if value.eq_ignore_ascii_case("true") => {
                warnings.push("The fuzzymatching parameter is not supported. Only literal matching has been performed.")
            }
            "fuzzymatching" => return Err(WebError::BadRequest("fuzzymatching is true or false".into())),
            _ => {
                let (path, vr, field) = key(name)?;
                if known.contains(&path) {
                    return Err(WebError::BadRequest("an attribute is given twice".into()));
                }
                known.push(path);
                filters.extend(condition(name, *vr, *field, value, prefix)?.map(|condition| (*field, condition)));
            }
        }
        Ok(true)
    })?;
    let search = WorkitemSearch { filters, limit: page.limit, offset: page.offset, ..WorkitemSearch::default() };
    Ok((search, warnings))
}

/// The attribute of a name, with those of the sequences that it is in and dots between.
fn key(name: &str) -> Result<&'static (&'static [Tag], VR, WorkitemField), WebError> {
    let path = name.split('.').take(8).map(attribute).collect::<Result<Vec<_>, _>>()?;
    let unmatched = || WebError::BadRequest("an attribute is not matched in searches for workitems".into());
    KEYS.iter().find(|(tags, ..)| *tags == path).ok_or_else(unmatched)
}

fn condition(name: &str, vr: VR, field: WorkitemField, value: &str, prefix: Prefix) -> Result<Option<Match>, WebError> {
    if vr == VR::DT {
        return moments(value).map(Some);
    }
    let condition = condition_of(name, vr, value)?;
    let of_workitems = matches!(field, WorkitemField::Id | WorkitemField::Replaces);
    Ok(match condition {
        // Those of others match nothing.
        Some(Match::Any(uids)) if of_workitems => {
            Some(Match::Any(uids.iter().map(|uid| prefix.workitem(uid).unwrap_or(-1).to_string()).collect()))
        }
        condition => condition,
    })
}

/// A range of moments in UTC, or all that one means: `2026` is all of that year.
fn moments(value: &str) -> Result<Match, WebError> {
    let bad = || WebError::BadRequest("a date and time is no YYYYMMDDHHMMSS in UTC, or two with `-` between".into());
    let sound = |text: &str| {
        let digits = matches!(text.len(), 4 | 6 | 8 | 10 | 12 | 14) && text.bytes().all(|b| b.is_ascii_digit());
        if digits { Ok(text.to_owned()) } else { Err(bad()) }
    };
    // What is told ends with a fraction and that it is UTC.
    let plain =
        |text: &str| text.strip_suffix("+0000").unwrap_or(text).split('.').next().unwrap_or_default().to_owned();
    let (from, to) = value.split_once('-').unwrap_or((value, value));
    let (from, to) = (plain(from), plain(to));
    if from.is_empty() && to.is_empty() {
        return Err(bad());
    }
    let from = if from.is_empty() { None } else { Some(sound(&from)?) };
    let to = if to.is_empty() { None } else { Some(format!("{:9<14}", sound(&to)?)) };
    Ok(Match::Range { from, to })
}

#[cfg(test)]
mod tests {
    use super::*;

    const NODE: Prefix = Prefix([1; 8]);

    fn parse(parameters: &[(&str, &str)]) -> Result<WorkitemSearch, WebError> {
        let parameters = parameters.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect();
        parsed(&parameters, 10, NODE).map(|(search, _)| search)
    }

    #[test]
    fn attributes_are_matched_by_keyword_by_number_and_within_sequences() {
        let any = |text: &str| Match::Any(vec![text.to_owned()]);
        for (name, value, field, expected) in [
            ("ProcedureStepState", "IN PROGRESS", WorkitemField::State, any("IN PROGRESS")),
            ("00741200", "HIGH", WorkitemField::Priority, any("HIGH")),
            ("ReferencedRequestSequence.AccessionNumber", "A1", WorkitemField::AccessionNumber, any("A1")),
            ("0040A370.00080050", "A1", WorkitemField::AccessionNumber, any("A1")),
            ("SOPInstanceUID", &NODE.uid(7), WorkitemField::Id, any("7")),
            ("SOPInstanceUID", "1.2.3", WorkitemField::Id, any("-1")),
        ] {
            assert_eq!(parse(&[(name, value)]).expect(name).filters, [(field, expected)], "{name}");
        }
        let range = |from: Option<&str>, to: Option<&str>| Match::Range {
            from: from.map(str::to_owned),
            to: to.map(str::to_owned),
        };
        for (value, expected) in [
            ("2026", range(Some("2026"), Some("20269999999999"))),
            ("20260101-20260102", range(Some("20260101"), Some("20260102999999"))),
            ("20260101120000.500+0000-", range(Some("20260101120000"), None)),
            ("-20260101", range(None, Some("20260101999999"))),
        ] {
            let found = parse(&[("ScheduledProcedureStepStartDateTime", value)]).expect(value).filters;
            assert_eq!(found, [(WorkitemField::Start, expected)], "{value}");
        }
    }

    #[test]
    fn malformed_filters_are_refused() {
        let long = "9".repeat(10_000);
        let deep = vec!["ReferencedRequestSequence"; 1000].join(".");
        for (name, value) in [
            ("ScheduledProcedureStepStartDateTime", "yesterday"),
            ("ScheduledProcedureStepStartDateTime", "-"),
            ("ScheduledProcedureStepStartDateTime", "202"),
            ("ScheduledProcedureStepStartDateTime", "20260101-20260102-20260103"),
            ("ScheduledProcedureStepStartDateTime", "20260101+0100"),
            ("SOPInstanceUID", "../.."),
            ("StudyInstanceUID", &long),
            ("PatientID", &long),
            ("PatientID", "a\0"),
            ("PatientID", "*a*b*c*d*e*f*g*h*i"),
            ("limit", "-1"),
            ("offset", "x"),
            ("fuzzymatching", "maybe"),
            ("NoSuchKeyword", "1"),
            ("StudyDate", "20260101"),
            ("ReferencedRequestSequence", "1"),
            ("ReferencedRequestSequence.PatientID", "1"),
            (&deep, "1"),
            ("..", "1"),
            ("00741000; DROP TABLE job", "1"),
        ] {
            let refused = parse(&[(name, value)]);
            assert!(matches!(refused, Err(WebError::BadRequest(_))), "{name}={value}: {refused:?}");
        }
        assert!(parse(&[("00741000", "SCHEDULED"), ("ProcedureStepState", "CANCELED")]).is_err(), "twice");
        assert!(parse(&vec![("PatientID", "1"); 101]).is_err());
        assert_eq!(parse(&[("limit", "4000000000")]).expect("capped").limit, 10);
    }
}
