//! What people say of results: which findings there are to say something of, and what can be said.
//!
//! A finding is named by its list in `result.json` and its place there, from 0: `measurements/2`. `result` is the whole, for
//! what the module should have found and did not.
//!
//! A result is believed by the digest in the audit log. Verdicts keep what the module had stated: they outlive its files.

use std::io::Read;
use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::findings::{Code, Urgency};
use crate::ingest::blocking;
use crate::outputs::RESULT_FILE;
use crate::outputs::result::SCHEMA;
use crate::store::{Given, NewVerdict, Released, Reviewed, Store, StoreError, VerdictRow};
use crate::upstream::RESULT_MAX_MIB;

/// The name of a result as a whole, where findings are named.
pub const WHOLE: &str = "result";
/// Characters of a comment, and of a correction's text.
pub const TEXT_MAX: usize = 1000;
/// Characters of a name.
pub const BY_MAX: usize = 64;

/// What somebody says of a finding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// It is so.
    Accepted,
    /// It is not so.
    Rejected,
    /// It is otherwise.
    Corrected,
}

impl Verdict {
    /// In the journal and for people.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::Rejected => "rejected",
            Self::Corrected => "corrected",
        }
    }
}

/// How a finding is otherwise than stated: at least one of these.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Correction {
    /// Of a measurement.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub value: Option<f64>,
    /// Of a measurement, in UCUM.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unit: Option<String>,
    /// What it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub code: Option<Code>,
    /// Of a triage statement.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub level: Option<Urgency>,
    /// Whether it is there at all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub present: Option<bool>,
    /// In words.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
}

/// What cannot be said: the reviewer's to mend.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReviewError {
    /// No such finding.
    #[error("the result has no finding of this name; there are: {0}")]
    NoSuchFinding(String),
    /// A correction with another verdict, or none with this one.
    #[error("`correction` goes with the verdict corrected, and that with `correction`")]
    Correction,
    /// Nothing in it.
    #[error("a correction says at least one of value, unit, code, level, present and text")]
    Empty,
    /// Not of this kind of finding.
    #[error("{0} of a correction is not for a finding of this kind")]
    Kind(&'static str),
    /// Too long, or not text.
    #[error("{0} has more than {TEXT_MAX} characters, or control characters")]
    Text(&'static str),
    /// No name.
    #[error("by is a name of 1 to {BY_MAX} characters")]
    By,
    /// No number.
    #[error("value of a correction is no finite number")]
    Number,
}

impl Correction {
    /// Whether it fits a finding of this name.
    ///
    /// # Errors
    /// [`ReviewError`].
    pub fn check(&self, finding: &str) -> Result<(), ReviewError> {
        if *self == Self::default() {
            return Err(ReviewError::Empty);
        }
        let list = finding.split('/').next().unwrap_or_default();
        let kinds = [
            ("value", self.value.is_some(), list == "measurements"),
            ("unit", self.unit.is_some(), list == "measurements"),
            ("level", self.level.is_some(), list == "triage"),
            ("code", self.code.is_some(), list != WHOLE),
        ];
        if let Some((name, ..)) = kinds.into_iter().find(|(_, is_said, fits)| *is_said && !fits) {
            return Err(ReviewError::Kind(name));
        }
        if self.value.is_some_and(|value| !value.is_finite()) {
            return Err(ReviewError::Number);
        }
        let code = self.code.iter().flat_map(|code| [&code.value, &code.scheme, &code.meaning]);
        let texts = [("unit", &self.unit), ("text", &self.text)];
        let texts = texts.into_iter().filter_map(|(name, text)| Some((name, text.as_ref()?)));
        texts.chain(code.map(|text| ("code", text))).try_for_each(|(name, text)| check_text(name, text))
    }
}

/// Whether words of a person are kept.
///
/// # Errors
/// [`ReviewError::Text`].
pub fn check_text(name: &'static str, text: &str) -> Result<(), ReviewError> {
    let plain = |c: char| !c.is_control() || c == '\n';
    match text.chars().count() <= TEXT_MAX && text.chars().all(plain) {
        true => Ok(()),
        false => Err(ReviewError::Text(name)),
    }
}

/// A finding, and what the module stated.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Finding {
    /// See the module.
    pub finding: String,
    /// As in `result.json`; of the whole: its findings.
    pub stated: Value,
}

/// A result that was read, and is what its job left.
#[derive(Debug, Clone)]
pub struct Opened {
    /// All of it.
    pub result: Value,
    /// Of `result.json`.
    pub sha256: [u8; 32],
}

/// A result cannot be read: the host's to mend.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The disk.
    #[error("{RESULT_FILE} cannot be read: {0}")]
    Io(#[from] std::io::Error),
    /// Larger than any.
    #[error("{RESULT_FILE} is larger than {RESULT_MAX_MIB} MiB, and is not read")]
    TooLarge,
    /// Not what its job left.
    #[error("{RESULT_FILE} is not the one that the journal names; put it back from a backup")]
    Changed,
    /// Nothing that this version knows.
    #[error("{RESULT_FILE} is not {SCHEMA}")]
    Format,
}

/// Reads the result in a folder, which must have this digest.
///
/// # Errors
/// [`OpenError`].
pub fn open(folder: &Path, sha256: [u8; 32]) -> Result<Opened, OpenError> {
    let mut bytes = Vec::new();
    let most = RESULT_MAX_MIB << 20;
    std::fs::File::open(folder.join(RESULT_FILE))?.take(most + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > most {
        return Err(OpenError::TooLarge);
    }
    if <[u8; 32]>::from(Sha256::digest(&bytes)) != sha256 {
        return Err(OpenError::Changed);
    }
    let result: Value = serde_json::from_slice(&bytes).map_err(|_| OpenError::Format)?;
    match result.get("schema").and_then(Value::as_str) == Some(SCHEMA) {
        true => Ok(Opened { result, sha256 }),
        false => Err(OpenError::Format),
    }
}

impl Opened {
    /// All that something can be said of, the whole first.
    #[must_use]
    pub fn findings(&self) -> Vec<Finding> {
        let stated = self.result.get("findings").cloned().unwrap_or_default();
        let mut findings = Vec::new();
        for (list, items) in stated.as_object().into_iter().flatten() {
            for (place, item) in items.as_array().into_iter().flatten().enumerate() {
                findings.push(Finding { finding: format!("{list}/{place}"), stated: item.clone() });
            }
        }
        findings.insert(0, Finding { finding: WHOLE.into(), stated });
        findings
    }

    /// The finding of a name.
    ///
    /// # Errors
    /// [`ReviewError::NoSuchFinding`], with the names that there are.
    pub fn finding(&self, name: &str) -> Result<Finding, ReviewError> {
        let mut findings = self.findings();
        match findings.iter().position(|finding| finding.finding == name) {
            Some(place) => Ok(findings.swap_remove(place)),
            None => {
                let names: Vec<String> = findings.into_iter().map(|finding| finding.finding).collect();
                Err(ReviewError::NoSuchFinding(names.join(", ")))
            }
        }
    }
}

/// What somebody says.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Saying {
    /// Of which finding.
    pub finding: String,
    /// What.
    pub verdict: Verdict,
    /// How it is otherwise.
    #[serde(default)]
    pub correction: Option<Correction>,
    /// In words.
    #[serde(default)]
    pub comment: String,
    /// For whom, where a program says it.
    #[serde(default)]
    pub by: Option<String>,
}

/// Nothing was said, or shown.
#[derive(Debug, thiserror::Error)]
pub enum SayError {
    /// It cannot be said.
    #[error(transparent)]
    Review(#[from] ReviewError),
    /// There is none.
    #[error("there is no such job, or it has no result")]
    NoResult,
    /// There was one.
    #[error("the files of this result are deleted: nothing more can be said of it")]
    Deleted,
    /// Its files.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The journal.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// A result, and what can be said of.
#[derive(Debug, Clone, Serialize)]
pub struct Shown {
    /// What becomes of it, and what was said.
    #[serde(flatten)]
    pub reviewed: Reviewed,
    /// All findings; nothing when its files are deleted.
    pub findings: Vec<Finding>,
}

/// Looks at a result.
///
/// # Errors
/// [`SayError`].
pub async fn show(store: &Store, data: &Path, job: i64) -> Result<Shown, SayError> {
    let reviewed = store.reviewed(job).await?.ok_or(SayError::NoResult)?;
    let opened = opened(store, data, &reviewed).await?;
    Ok(Shown { reviewed, findings: opened.map(|opened| opened.findings()).unwrap_or_default() })
}

/// Keeps what somebody says of a result.
///
/// # Errors
/// [`SayError`].
pub async fn say(store: &Store, data: &Path, job: i64, saying: &Saying, who: &str) -> Result<Given, SayError> {
    let given_by = self::who(who, saying.by.as_deref())?;
    let reviewed = store.reviewed(job).await?.ok_or(SayError::NoResult)?;
    let opened = opened(store, data, &reviewed).await?.ok_or(SayError::Deleted)?;
    let finding = opened.finding(&saying.finding)?;
    if (saying.verdict == Verdict::Corrected) != saying.correction.is_some() {
        return Err(ReviewError::Correction.into());
    }
    if let Some(correction) = &saying.correction {
        correction.check(&finding.finding)?;
    }
    check_text("comment", &saying.comment)?;
    let new = NewVerdict {
        result_sha256: opened.sha256,
        finding: finding.finding,
        stated: finding.stated,
        verdict: saying.verdict,
        correction: saying.correction.clone(),
        comment: saying.comment.clone(),
        given_by,
    };
    Ok(store.give_verdict(job, &new).await?)
}

/// The result's file, believed by the journal; nothing when it is deleted.
async fn opened(store: &Store, data: &Path, reviewed: &Reviewed) -> Result<Option<Opened>, SayError> {
    let Some(path) = &reviewed.job.result_path else { return Ok(None) };
    let (folder, sha256) = (data.join(path), store.result_sha256(&reviewed.job).await?);
    Ok(Some(blocking(move || open(&folder, sha256)).await?))
}

/// For the journal: who asks, and for whom.
///
/// # Errors
/// [`ReviewError::Text`].
pub fn who(caller: &str, by: Option<&str>) -> Result<String, ReviewError> {
    let Some(by) = by else { return Ok(caller.to_owned()) };
    match (1..=BY_MAX).contains(&by.chars().count()) && !by.chars().any(char::is_control) {
        true => Ok(format!("{caller} for {by}")),
        false => Err(ReviewError::By),
    }
}

/// Why another verdict is not kept.
#[must_use]
pub fn conflict(row: &VerdictRow) -> String {
    let given = chrono::DateTime::from_timestamp_millis(row.given_ms).unwrap_or_default().format("%Y-%m-%d %H:%M UTC");
    format!(
        "{} of job {} was {} on {given} by {}; a verdict is not changed",
        row.finding,
        row.job,
        row.verdict.name(),
        row.given_by
    )
}

/// Why a result is not released.
#[must_use]
pub fn not_released(released: &Released) -> String {
    match released {
        Released::Yes => "it is released".into(),
        Released::Already => "it was released before".into(),
        Released::Disputed(findings) => format!(
            "{findings} of its findings were rejected or corrected, and it would leave as the module stated them; say so with \
             despite_verdicts"
        ),
        Released::Shadow => "its module runs in the shadow: its results are never delivered".into(),
        Released::Superseded => "a later version of the study supersedes it".into(),
        Released::NoResult(state) => format!("the job is {state} and has no result, or its files are deleted"),
        Released::NoSuchJob => "there is no such job".into(),
    }
}

#[cfg(test)]
mod tests;
