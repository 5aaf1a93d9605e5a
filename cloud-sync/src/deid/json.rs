//! Results in JSON, with the same UIDs and dates as the instances that they are about.

use dicom_core::Tag;
use serde_json::{Map, Value};

use super::held::Held;
use super::profile::{Dates, Unclear};
use super::report::{Action, Report};
use super::sealed::{Deidentified, Json};
use super::subject::Subject;
use super::text::{Rigour, clean, names};
use super::{Deidentifier, dates};

/// Under these, people or models write as they like.
const WRITTEN: [&str; 11] =
    ["message", "warnings", "reason", "detail", "title", "comment", "note", "text", "description", "log", "fallback"];
/// Digests of what is no patient's, software and models, and of what is in the bucket already.
const PUBLIC_DIGESTS: [&str; 4] = ["identity_sha256", "component_sha256", "manifest_sha256", "object_sha256"];
/// Names that others gave to the same study, job or series, which lead back to it in their logs.
const PSEUDONYMS: [&str; 6] = ["correlation", "pseudonym", "patient_id", "accession_number", "job", "job_id"];
/// What software says of itself.
const SOFTWARE: [&str; 10] =
    ["version", "runtime_version", "engine", "schema", "file", "kind", "provider", "module", "models", "device"];
const DEPTH_MAX: usize = 64;
/// Stands in the report for what has no tag.
const NO_TAG: Tag = Tag(0, 0);

pub(super) fn deidentify(by: &Deidentifier, source: &[u8], subject: &Subject) -> Result<Deidentified<Json>, Held> {
    let maximum = by.profile.limits.file_max_mib;
    if source.len() as u64 > maximum << 20 {
        return Err(Held::Limit { limit: "file_max_mib", maximum });
    }
    let value: Value = serde_json::from_slice(source).map_err(|_| Held::Json)?;
    let days = by.secret.days(subject.patient.as_deref().unwrap_or_default(), by.profile.date_shift_days_max);
    let mut work = Work { by, subject, days, report: Report::default() };
    let value = work.value(value, "", false, 0)?;
    let mut bytes = serde_json::to_vec_pretty(&value).map_err(|_| Held::Json)?;
    bytes.push(b'\n');
    Ok(Deidentified::new(Json { bytes, report: work.report }))
}

struct Work<'w> {
    by: &'w Deidentifier,
    subject: &'w Subject,
    days: i32,
    report: Report,
}

impl Work<'_> {
    /// `key` is the nearest one above; `public` says that it is about software.
    fn value(&mut self, value: Value, key: &str, public: bool, depth: usize) -> Result<Value, Held> {
        if depth > DEPTH_MAX {
            return Err(Held::Json);
        }
        Ok(match value {
            Value::Object(fields) => Value::Object(self.fields(fields, public, depth)?),
            Value::Array(values) => Value::Array(
                values.into_iter().map(|v| self.value(v, key, public, depth + 1)).collect::<Result<_, _>>()?,
            ),
            Value::String(text) => self.text(text, key, public)?,
            Value::Number(number) => {
                let digits = number.to_string();
                match digits.len() >= 6 && names(&digits, self.subject) {
                    true => self.noted(Action::Removed, Value::Null),
                    false => Value::Number(number),
                }
            }
            other => other,
        })
    }

    fn fields(&mut self, fields: Map<String, Value>, public: bool, depth: usize) -> Result<Map<String, Value>, Held> {
        let mut kept = Map::new();
        // Codes of SNOMED CT look like telephone numbers.
        let is_code = ["value", "scheme", "meaning"].iter().all(|key| fields.contains_key(*key));
        for (key, value) in fields {
            let key = if looks_like_uid(&key) { self.by.uid(&key) } else { key };
            if names(&key, self.subject) {
                self.report.note(NO_TAG, Action::Removed);
                continue;
            }
            let public = public || SOFTWARE.contains(&key.as_str()) || is_code && key == "value";
            let value = self.value(value, &key, public, depth + 1)?;
            kept.insert(key, value);
        }
        Ok(kept)
    }

    fn noted(&mut self, action: Action, value: Value) -> Value {
        self.report.note(NO_TAG, action);
        value
    }

    fn text(&mut self, text: String, key: &str, public: bool) -> Result<Value, Held> {
        let whole = |value: String| Value::String(value);
        if text.is_empty() {
            return Ok(whole(text));
        }
        if key.ends_with("_uid") && is_uid(&text) || looks_like_uid(&text) {
            let uid = self.by.uid(&text);
            return Ok(self.noted(Action::Uid, whole(uid)));
        }
        if text.len() == 64 && text.bytes().all(|b| b.is_ascii_hexdigit()) {
            if PUBLIC_DIGESTS.contains(&key) || public && key == "sha256" {
                return Ok(whole(text));
            }
            let digest = self.by.secret.digest_of_digest(&text.to_ascii_lowercase());
            return Ok(self.noted(Action::Pseudonym, whole(digest)));
        }
        if PSEUDONYMS.contains(&key) {
            // As in the instances.
            let kind = match key {
                "patient_id" => {
                    return Ok(self
                        .noted(Action::Pseudonym, whole(self.by.secret.pseudonym("patient", &format!("id {text}")))));
                }
                "accession_number" => "accession",
                other => other,
            };
            let pseudonym = self.by.secret.pseudonym(kind, &text);
            return Ok(self.noted(Action::Pseudonym, whole(pseudonym)));
        }
        if let Some(moved) = self.moment(&text, key) {
            return Ok(moved);
        }
        let rigour = if WRITTEN.contains(&key) { Rigour::Written } else { Rigour::Coded };
        // Versions, names and titles of software are nobody's, but for the identifiers that are known.
        if public && !names(&text, self.subject) {
            return Ok(whole(text));
        }
        let cleaned = clean(&text, self.subject, rigour);
        if cleaned.doubtful && self.by.profile.unclear_text == Unclear::Hold {
            return Err(Held::Text(NO_TAG));
        }
        Ok(match cleaned.changed {
            true => self.noted(Action::Cleaned, whole(cleaned.text)),
            false => whole(text),
        })
    }

    /// A date, a time under such a key, or a moment as RFC 3339 writes it; nothing where it is none of these.
    fn moment(&mut self, text: &str, key: &str) -> Option<Value> {
        let time = (key == "time" || key.ends_with("_time")) && dates::is_tm(text);
        let dashed = text.get(..10).filter(|d| d.is_ascii() && d.as_bytes()[4] == b'-' && d.as_bytes()[7] == b'-');
        let plain = dashed.map(|d| d.replace('-', ""));
        let rest = text.get(10..).unwrap_or_default();
        let dashed =
            plain.as_deref().filter(|d| dates::days(d).is_some() && (rest.is_empty() || rest.starts_with(['T', ' '])));
        let date = text.len() == 8 && dates::days(text).is_some();
        if !time && !date && dashed.is_none() {
            return None;
        }
        Some(match (self.by.profile.dates, dashed) {
            (Dates::Remove, _) => self.noted(Action::Removed, Value::Null),
            (Dates::Keep, _) => Value::String(text.into()),
            (Dates::Shift, _) if time => Value::String(text.into()),
            (Dates::Shift, None) => {
                let moved = dates::shift_da(text, self.days).map_or(Value::Null, Value::String);
                self.noted(Action::Shifted, moved)
            }
            (Dates::Shift, Some(date)) => {
                let clock = rest.chars().all(|c| c.is_ascii_digit() || "T :.+-Z".contains(c));
                let moved = dates::shift_da(date, self.days).filter(|_| clock);
                let moved =
                    moved.map_or(Value::Null, |d| Value::String(format!("{}-{}-{}{rest}", &d[..4], &d[4..6], &d[6..])));
                self.noted(Action::Shifted, moved)
            }
        })
    }
}

fn is_uid(text: &str) -> bool {
    text.len() <= 64
        && text.contains('.')
        && text.split('.').all(|part| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit()))
}

/// What is no version and no number of anything else.
fn looks_like_uid(text: &str) -> bool {
    is_uid(text) && text.len() >= 10 && text.bytes().filter(|&b| b == b'.').count() >= 4
        || text.strip_prefix("2.25.").is_some_and(|rest| rest.len() > 20 && rest.bytes().all(|b| b.is_ascii_digit()))
}
