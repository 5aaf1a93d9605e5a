//! QIDO-RS (PS3.18 section 10.6): searches, in parameters of a URL.
//!
//! An attribute that cannot be matched is an error and not ignored: more than was asked for would come, and somebody
//! would take it for what they asked for.

use std::collections::BTreeSet;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, Response, StatusCode, header};
use dicom_core::dictionary::{DataDictionary, DataDictionaryEntry, VirtualVr};
use dicom_core::{Tag, VR};
use dicom_dictionary_std::{StandardDataDictionary, tags};
use serde_json::{Map, Value, json};

use super::accept::{accepted, choose};
use super::error::WebError;
use super::{Shared, answer, uid};
use crate::ingest::Uid;
use crate::store::{Field, Found, Level, Match, Search};

pub(super) const DICOM_JSON: &str = "application/dicom+json";
/// Bytes of one value.
const VALUE_MAX_BYTES: usize = 256;
/// `*` in one value: each costs a search of its own.
const STARS_MAX: usize = 8;
/// UIDs of one list.
const UIDS_MAX: usize = 1000;
/// Parameters of one search.
pub(super) const PARAMETERS_MAX: usize = 100;

pub(super) type Parameters = Vec<(String, String)>;
type Answer = Result<Response<Body>, WebError>;

macro_rules! searches {
    ($($name:ident, $level:ident;)*) => {$(
        pub(super) async fn $name(
            State(shared): State<Arc<Shared>>,
            path: Option<Path<Vec<(String, String)>>>,
            Query(parameters): Query<Parameters>,
            headers: HeaderMap,
        ) -> Answer {
            search(&shared, Level::$level, path.map(|Path(p)| p).unwrap_or_default(), parameters, &headers).await
        }
    )*};
}

searches! {
    studies, Study;
    series, Series;
    instances, Instance;
    series_of_study, Series;
    instances_of_study, Instance;
    instances_of_series, Instance;
}

async fn search(
    shared: &Shared,
    level: Level,
    path: Parameters,
    parameters: Parameters,
    headers: &HeaderMap,
) -> Answer {
    let accept = parameters.iter().find(|(name, _)| name == "accept").map(|(_, value)| value.as_str());
    let kind = choose(&accepted(headers, accept)?, &[DICOM_JSON, "application/json"])?;
    let mut query = parse(level, &parameters, shared.config.qido_results_max)?;
    for (name, value) in path {
        let field = if name == "study" { Field::StudyInstanceUid } else { Field::SeriesInstanceUid };
        query.search.filters.push((field, Match::Any(vec![uid(&value)?.as_str().to_owned()])));
    }
    // One more tells whether there are more.
    let limit = query.search.limit as usize;
    query.search.limit = query.search.limit.saturating_add(1);
    let mut found = shared.store.search(&query.search).await?;
    if found.len() > limit {
        found.truncate(limit);
        query.warnings.push("There are more results that can be requested with offset".into());
    }
    let base = shared.base_url(headers);
    let list: Vec<Value> = found.iter().map(|f| describe(f, level, &base)).collect();
    let mut response = match list.is_empty() {
        true => answer(StatusCode::NO_CONTENT, kind, Body::empty()),
        false => answer(StatusCode::OK, kind, Value::Array(list).to_string()),
    };
    response.extensions_mut().insert(Listed::new(&query.search, &found));
    for warning in query.warnings {
        response.headers_mut().append(header::WARNING, super::warning(&warning));
    }
    Ok(response)
}

/// For the audit log: what a search told, as PS3.15 section A.5.3.10 has it for a query, and without values that were
/// searched for, which may be a patient's.
#[derive(Debug, Clone)]
pub(super) struct Listed {
    /// Study Instance UID, when all that was found is of one.
    pub(super) study_instance_uid: Option<String>,
    /// How many matches, and by which attributes.
    pub(super) detail: String,
}

impl Listed {
    fn new(search: &Search, found: &[Found]) -> Self {
        let studies: BTreeSet<_> = found.iter().map(|f| f.get(Field::StudyInstanceUid)).collect();
        let by: Vec<_> = search.filters.iter().map(|(field, _)| keyword(tag(*field))).collect();
        let by = if by.is_empty() { "nothing".to_owned() } else { by.join(", ") };
        Self {
            study_instance_uid: (studies.len() == 1).then(|| studies.into_iter().collect()),
            detail: format!("{} found by {by}", found.len()),
        }
    }
}

/// A search and what is to be said of it.
#[derive(Debug)]
struct Parsed {
    search: Search,
    warnings: Vec<String>,
}

fn parse(level: Level, parameters: &[(String, String)], results_max: usize) -> Result<Parsed, WebError> {
    if parameters.len() > PARAMETERS_MAX {
        return Err(WebError::BadRequest(format!("more than {PARAMETERS_MAX} parameters")));
    }
    let results_max = u32::try_from(results_max).unwrap_or(u32::MAX);
    let mut search = Search { level, filters: Vec::new(), limit: results_max, offset: 0 };
    let mut warnings = Vec::new();
    let mut ranges = Vec::new();
    for (name, value) in parameters {
        match name.as_str() {
            "limit" => search.limit = number(name, value)?.min(results_max),
            "offset" => search.offset = number(name, value)?,
            "fuzzymatching" if value.eq_ignore_ascii_case("true") => {
                let text = "The fuzzymatching parameter is not supported. Only literal matching has been performed.";
                warnings.push(text.to_owned());
            }
            "fuzzymatching" if value.eq_ignore_ascii_case("false") => {}
            "fuzzymatching" => return Err(WebError::BadRequest("fuzzymatching is true or false".into())),
            "includefield" => include(level, value, &mut warnings)?,
            "accept" => {}
            _ => {
                let field = matched(level, name)?;
                if search.filters.iter().any(|(known, _)| *known == field) {
                    return Err(WebError::BadRequest(format!("{} is given twice", keyword(tag(field)))));
                }
                if let Some(condition) = condition(field, value)? {
                    search.filters.push((field, condition));
                    ranges.extend(Ends::of(value).map(|ends| (field, ends)));
                }
            }
        }
    }
    combine(&mut search.filters, &ranges);
    Ok(Parsed { search, warnings })
}

/// Which ends a range has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ends {
    From,
    To,
    Both,
}

impl Ends {
    fn of(value: &str) -> Option<Self> {
        match value.split_once('-')? {
            (_, "") => Some(Self::From),
            ("", _) => Some(Self::To),
            _ => Some(Self::Both),
        }
    }
}

/// Dates, each with its time.
const MOMENTS: [(Field, Field); 3] = [
    (Field::StudyDate, Field::StudyTime),
    (Field::SeriesDate, Field::SeriesTime),
    (Field::PerformedStepStartDate, Field::PerformedStepStartTime),
];

/// Ranges of a date and of its time, of the same form, are one range of moments (PS3.18 section 8.3.4.1.1, PS3.4 section
/// C.2.2.2.5.4): from ten o'clock of the first day to six of the last, not from ten to six of each.
fn combine(filters: &mut Vec<(Field, Match)>, ranges: &[(Field, Ends)]) {
    let ends = |field| ranges.iter().find(|(f, _)| *f == field).map(|(_, ends)| *ends);
    for (date, time) in MOMENTS {
        if ends(date).is_none() || ends(date) != ends(time) {
            continue;
        }
        let mut take = |field| {
            let place = filters.iter().position(|(f, _)| *f == field)?;
            match filters.remove(place).1 {
                Match::Range { from, to } => Some((from, to)),
                _ => None,
            }
        };
        if let (Some(day), Some(clock)) = (take(date), take(time)) {
            let moment = |day: Option<String>, clock: Option<String>| Some(day? + &clock?);
            let (from, to) = (moment(day.0, clock.0), moment(day.1, clock.1));
            filters.push((date, Match::Moments { time, from, to }));
        }
    }
}

pub(super) fn number(name: &str, value: &str) -> Result<u32, WebError> {
    value.parse().map_err(|_| WebError::BadRequest(format!("{name} is no number from 0 to {}", u32::MAX)))
}

/// Every column is returned anyway: what else is asked for is not there.
fn include(level: Level, value: &str, warnings: &mut Vec<String>) -> Result<(), WebError> {
    for name in value.split(',').filter(|name| !name.is_empty() && *name != "all") {
        let wanted = attribute(name)?;
        if !Field::ALL.iter().any(|f| tag(*f) == wanted && f.level() <= level) {
            warnings.push(format!("{} is not available in searches at this level", keyword(wanted)));
        }
    }
    Ok(())
}

/// The attribute of a keyword or of eight hexadecimal digits.
pub(super) fn attribute(name: &str) -> Result<Tag, WebError> {
    let unknown = || {
        let text = "a parameter names no attribute: a keyword of PS3.6 or eight hexadecimal digits; nested attributes are not matched";
        WebError::BadRequest(text.into())
    };
    if name.len() == 8 && name.bytes().all(|b| b.is_ascii_hexdigit()) {
        let number = u32::from_str_radix(name, 16).map_err(|_| unknown())?;
        return Ok(Tag((number >> 16) as u16, (number & 0xFFFF) as u16));
    }
    StandardDataDictionary.by_name(name).map(|entry| entry.tag()).ok_or_else(unknown)
}

fn matched(level: Level, name: &str) -> Result<Field, WebError> {
    let wanted = attribute(name)?;
    let counted = |f: Field| {
        use Field::{NumberOfSeriesRelatedInstances, NumberOfStudyRelatedInstances, NumberOfStudyRelatedSeries};
        matches!(f, NumberOfStudyRelatedSeries | NumberOfStudyRelatedInstances | NumberOfSeriesRelatedInstances)
    };
    let field = Field::ALL.iter().copied().find(|f| tag(*f) == wanted && f.level() <= level && !counted(*f));
    field.ok_or_else(|| WebError::BadRequest(format!("{} is not matched at this level", keyword(wanted))))
}

/// The condition of a value (PS3.4 section C.2.2.2); `None` for one that everything matches.
fn condition(field: Field, value: &str) -> Result<Option<Match>, WebError> {
    condition_of(keyword(tag(field)), vr(field), value)
}

/// The same, for an attribute by its name.
pub(super) fn condition_of(name: &str, vr: VR, value: &str) -> Result<Option<Match>, WebError> {
    let bad = |problem: &str| Err(WebError::BadRequest(format!("{name} {problem}")));
    if vr == VR::UI {
        return uids(name, value);
    }
    if value.len() > VALUE_MAX_BYTES {
        return bad(&format!("is longer than {VALUE_MAX_BYTES} bytes"));
    }
    if value.chars().any(char::is_control) {
        return bad("has control characters");
    }
    if value.chars().all(|c| c == '*') {
        return Ok(None);
    }
    match vr {
        VR::DA => range(name, value, 8..=8, false).map(Some),
        VR::TM => range(name, value, 2..=13, true).map(Some),
        _ => {
            let mut pattern = value.trim().to_owned();
            while pattern.contains("**") {
                pattern = pattern.replace("**", "*");
            }
            if pattern.matches('*').count() > STARS_MAX {
                return bad(&format!("has more than {STARS_MAX} `*`"));
            }
            let ignore_case = vr == VR::PN;
            match ignore_case || pattern.contains(['*', '?']) {
                true => Ok(Some(Match::Wildcard { pattern, ignore_case })),
                false => Ok(Some(Match::Any(vec![pattern]))),
            }
        }
    }
}

fn uids(name: &str, value: &str) -> Result<Option<Match>, WebError> {
    if value.is_empty() {
        return Ok(None);
    }
    let list: Option<Vec<String>> =
        value.split([',', '\\']).map(|text| Some(Uid::parse(text)?.as_str().to_owned())).collect();
    match list {
        Some(list) if list.len() <= UIDS_MAX => Ok(Some(Match::Any(list))),
        Some(_) => Err(WebError::BadRequest(format!("{name} has more than {UIDS_MAX} UIDs"))),
        None => Err(WebError::BadRequest(format!("{name} is no list of UIDs with commas between"))),
    }
}

/// Dates and times: one, or from, to, or both. A time that leaves out seconds is all of that minute.
fn range(name: &str, value: &str, digits: std::ops::RangeInclusive<usize>, time: bool) -> Result<Match, WebError> {
    let sound = |text: &str| {
        let plain = text.split_once('.').filter(|_| time).map_or(text, |(whole, _)| whole);
        let whole = !time || matches!(plain.len(), 2 | 4 | 6) && (plain.len() == text.len() || plain.len() == 6);
        digits.contains(&text.len()) && whole && text.bytes().all(|b| b.is_ascii_digit() || time && b == b'.')
    };
    let last = |text: &str| match time && !text.contains('.') {
        true => format!("{text:9<6}.999999"),
        false => text.to_owned(),
    };
    let (from, to) = value.split_once('-').unwrap_or((value, value));
    if (from.is_empty() && to.is_empty()) || [from, to].iter().any(|end| !end.is_empty() && !sound(end)) {
        let form = if time { "HHMMSS.FFFFFF" } else { "YYYYMMDD" };
        return Err(WebError::BadRequest(format!("{name} is no {form}, or two with `-` between")));
    }
    let some = |text: String| (!text.is_empty()).then_some(text);
    Ok(Match::Range { from: some(from.to_owned()), to: if to.is_empty() { None } else { some(last(to)) } })
}

/// A match in DICOM JSON (PS3.18 annex F).
fn describe(found: &Found, level: Level, base: &str) -> Value {
    let mut object = Map::new();
    let mut put = |tag: Tag, vr: &str, value: Value| {
        object.insert(format!("{:04X}{:04X}", tag.group(), tag.element()), json!({"vr": vr, "Value": [value]}));
    };
    put(tags::SPECIFIC_CHARACTER_SET, "CS", json!("ISO_IR 192"));
    put(tags::INSTANCE_AVAILABILITY, "CS", json!("ONLINE"));
    let mut url = format!("{base}/studies/{}", found.get(Field::StudyInstanceUid));
    if level >= Level::Series {
        url = format!("{url}/series/{}", found.get(Field::SeriesInstanceUid));
    }
    if level >= Level::Instance {
        url = format!("{url}/instances/{}", found.get(Field::SopInstanceUid));
    }
    put(tags::RETRIEVE_URL, "UR", json!(url));
    for (field, text) in &found.0 {
        let tag = tag(*field);
        let values = values(vr(*field), text);
        let mut element = json!({"vr": vr(*field).to_string()});
        if !values.is_empty() {
            element["Value"] = Value::Array(values);
        }
        object.insert(format!("{:04X}{:04X}", tag.group(), tag.element()), element);
    }
    // PS3.18 section F.2.2: in order of tags.
    object.sort_keys();
    Value::Object(object)
}

fn values(vr: VR, text: &str) -> Vec<Value> {
    if text.is_empty() {
        return Vec::new();
    }
    let one = |text: &str| match vr {
        _ if text.is_empty() => Value::Null,
        VR::IS | VR::US => text.trim().parse::<i64>().map_or_else(|_| json!(text), |n| json!(n)),
        VR::PN => {
            let names = ["Alphabetic", "Ideographic", "Phonetic"].into_iter().zip(text.split('='));
            Value::Object(names.filter(|(_, n)| !n.is_empty()).map(|(k, n)| (k.to_owned(), json!(n))).collect())
        }
        _ => json!(text),
    };
    text.split('\\').map(one).collect()
}

fn tag(field: Field) -> Tag {
    match field {
        Field::StudyInstanceUid => tags::STUDY_INSTANCE_UID,
        Field::PatientName => tags::PATIENT_NAME,
        Field::PatientId => tags::PATIENT_ID,
        Field::IssuerOfPatientId => tags::ISSUER_OF_PATIENT_ID,
        Field::PatientBirthDate => tags::PATIENT_BIRTH_DATE,
        Field::PatientSex => tags::PATIENT_SEX,
        Field::StudyDate => tags::STUDY_DATE,
        Field::StudyTime => tags::STUDY_TIME,
        Field::AccessionNumber => tags::ACCESSION_NUMBER,
        Field::ReferringPhysicianName => tags::REFERRING_PHYSICIAN_NAME,
        Field::StudyId => tags::STUDY_ID,
        Field::StudyDescription => tags::STUDY_DESCRIPTION,
        Field::ModalitiesInStudy => tags::MODALITIES_IN_STUDY,
        Field::NumberOfStudyRelatedSeries => tags::NUMBER_OF_STUDY_RELATED_SERIES,
        Field::NumberOfStudyRelatedInstances => tags::NUMBER_OF_STUDY_RELATED_INSTANCES,
        Field::SeriesInstanceUid => tags::SERIES_INSTANCE_UID,
        Field::Modality => tags::MODALITY,
        Field::SeriesNumber => tags::SERIES_NUMBER,
        Field::SeriesDescription => tags::SERIES_DESCRIPTION,
        Field::SeriesDate => tags::SERIES_DATE,
        Field::SeriesTime => tags::SERIES_TIME,
        Field::BodyPartExamined => tags::BODY_PART_EXAMINED,
        Field::PerformedStepStartDate => tags::PERFORMED_PROCEDURE_STEP_START_DATE,
        Field::PerformedStepStartTime => tags::PERFORMED_PROCEDURE_STEP_START_TIME,
        Field::NumberOfSeriesRelatedInstances => tags::NUMBER_OF_SERIES_RELATED_INSTANCES,
        Field::SopInstanceUid => tags::SOP_INSTANCE_UID,
        Field::SopClassUid => tags::SOP_CLASS_UID,
        Field::AvailableTransferSyntaxUid => tags::AVAILABLE_TRANSFER_SYNTAX_UID,
        Field::InstanceNumber => tags::INSTANCE_NUMBER,
        Field::Rows => tags::ROWS,
        Field::Columns => tags::COLUMNS,
        Field::BitsAllocated => tags::BITS_ALLOCATED,
        Field::NumberOfFrames => tags::NUMBER_OF_FRAMES,
    }
}

fn vr(field: Field) -> VR {
    let entry = StandardDataDictionary.by_tag(tag(field));
    entry.map_or(VR::LO, |entry| match entry.vr() {
        VirtualVr::Exact(vr) => vr,
        other => other.relaxed(),
    })
}

/// For messages.
fn keyword(tag: Tag) -> &'static str {
    StandardDataDictionary.by_tag(tag).map_or("an unknown attribute", |entry| entry.alias())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filters(level: Level, name: &str, value: &str) -> Result<Vec<(Field, Match)>, WebError> {
        parse(level, &[(name.to_owned(), value.to_owned())], 10).map(|parsed| parsed.search.filters)
    }

    #[test]
    fn values_become_conditions() {
        let one = |name: &str, value: &str| filters(Level::Study, name, value).expect("sound").pop().map(|(_, m)| m);
        let text = |s: &str| Some(s.to_owned());
        assert_eq!(one("00100020", "A1"), Some(Match::Any(vec!["A1".into()])));
        assert_eq!(one("PatientName", "A*"), Some(Match::Wildcard { pattern: "A*".into(), ignore_case: true }));
        assert_eq!(one("PatientID", "***"), None);
        assert_eq!(one("PatientID", "a***b"), Some(Match::Wildcard { pattern: "a*b".into(), ignore_case: false }));
        assert_eq!(one("StudyInstanceUID", "1.2,1.3"), Some(Match::Any(vec!["1.2".into(), "1.3".into()])));
        assert_eq!(one("StudyDate", "20240101-"), Some(Match::Range { from: text("20240101"), to: None }));
        let minute = Match::Range { from: text("1030"), to: text("103099.999999") };
        assert_eq!(one("StudyTime", "1030"), Some(minute));
    }

    #[test]
    fn ranges_of_a_date_and_its_time_are_one_where_they_have_the_same_form() {
        let both = |date: &str, time: &str| {
            let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
            parse(Level::Study, &[pair("StudyTime", time), pair("StudyDate", date)], 10).expect("sound").search.filters
        };
        let moments = |from: Option<&str>, to: Option<&str>| {
            let (from, to) = (from.map(str::to_owned), to.map(str::to_owned));
            vec![(Field::StudyDate, Match::Moments { time: Field::StudyTime, from, to })]
        };
        let whole = moments(Some("200607051000"), Some("20060707180099.999999"));
        assert_eq!(both("20060705-20060707", "1000-1800"), whole);
        assert_eq!(both("20060705-", "1000-"), moments(Some("200607051000"), None));
        assert_eq!(both("-20060707", "-1800"), moments(None, Some("20060707180099.999999")));
        for (date, time) in [("20060705", "1000-1800"), ("20060705-", "-1800"), ("20060705-20060707", "1000")] {
            let apart = both(date, time);
            assert!(apart.len() == 2 && apart.iter().all(|(_, m)| matches!(m, Match::Range { .. })), "{apart:?}");
        }
    }

    #[test]
    fn what_is_malformed_or_extreme_is_refused() {
        let long = "9".repeat(10_000);
        let many = vec!["1.2"; 1001].join(",");
        for (name, value) in [
            ("StudyDate", "2024"),
            ("StudyDate", "-"),
            ("StudyDate", "20240101-20240102-20240103"),
            ("StudyDate", "' OR 1=1"),
            ("StudyTime", "25x"),
            ("StudyTime", "123"),
            ("PatientID", &long),
            ("PatientID", "a\0b"),
            ("PatientID", "*a*b*c*d*e*f*g*h*i"),
            ("StudyInstanceUID", "../../etc/passwd"),
            ("StudyInstanceUID", &many),
            ("limit", "-1"),
            ("limit", &long),
            ("offset", "4294967296"),
            ("fuzzymatching", "maybe"),
            ("NoSuchKeyword", "1"),
            ("RequestAttributesSequence.ScheduledProcedureStepID", "1"),
            ("00100020; DROP TABLE study", "1"),
            ("SOPInstanceUID", "1.2"),
            ("NumberOfStudyRelatedSeries", "1"),
            ("includefield", "NoSuchKeyword"),
        ] {
            let refused = filters(Level::Study, name, value);
            assert!(matches!(refused, Err(WebError::BadRequest(_))), "{name}={value}: {refused:?}");
        }
        let pair = || ("PatientID".to_owned(), "1".to_owned());
        assert!(parse(Level::Study, &[pair(), pair()], 10).is_err());
        assert!(parse(Level::Study, &vec![pair(); 101], 10).is_err());
    }

    #[test]
    fn limits_are_capped_and_warnings_given() {
        let parameters = [("limit", "4000000000"), ("fuzzymatching", "true"), ("includefield", "PatientAge,all")];
        let parameters: Vec<_> = parameters.map(|(n, v)| (n.to_owned(), v.to_owned())).into();
        let parsed = parse(Level::Study, &parameters, 10).expect("sound");
        assert_eq!((parsed.search.limit, parsed.warnings.len()), (10, 2));
    }
}
