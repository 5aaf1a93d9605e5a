//! What messages are made of: `result.json` as the job wrote it, and whose study it is as the journal has it.

use serde::Deserialize;

use crate::outputs::Written;
use crate::outputs::result::{Module, SCHEMA, Stated};
use crate::outputs::uid;
use crate::study::PatientEntry;

/// What is needed of `result.json`.
#[derive(Debug, Clone, Deserialize)]
pub struct Told {
    schema: String,
    /// `done` or `unfit`.
    status: String,
    /// Of Gantry.
    pub runtime_version: String,
    /// When the result was made: `YYYYMMDD` and `HHMMSS`, UTC.
    pub date: String,
    /// See `date`.
    pub time: String,
    /// What ran.
    pub module: Module,
    /// What it concluded.
    pub findings: Stated,
    /// Files written beside it.
    pub outputs: Vec<Written>,
    input: Input,
}

#[derive(Debug, Clone, Deserialize)]
struct Input {
    study_instance_uid: String,
    series: Vec<Series>,
}

/// A series that the module could see.
#[derive(Debug, Clone, Deserialize)]
pub struct Series {
    /// Series Instance UID.
    pub series_instance_uid: String,
    /// Modality.
    pub modality: String,
}

/// No result that messages can be made of.
#[derive(Debug, thiserror::Error)]
pub enum ToldError {
    /// Not the format that this version knows. Where, and not what stands there.
    #[error("result.json is not {SCHEMA}: line {line}, column {column}")]
    Format {
        /// From 1.
        line: usize,
        /// From 1.
        column: usize,
    },
    /// A later format.
    #[error("result.json is not {SCHEMA}")]
    Schema,
}

/// Whose study it is. Holds a patient's identity: no `Debug`.
#[derive(Clone, Default)]
pub struct Subject {
    /// The patient.
    pub patient: PatientEntry,
    /// Study Date (0008,0020): `YYYYMMDD` or empty.
    pub study_date: String,
    /// Study Time (0008,0030): `HHMMSS` with or without fractions, or empty.
    pub study_time: String,
    /// Accession Number (0008,0050).
    pub accession_number: String,
    /// Study Description (0008,1030).
    pub study_description: String,
    /// Placer Order Number of the order that was received for it, with its namespace behind `^`; or empty.
    pub placer_order_number: String,
    /// Specific Character Set (0008,0005) of its images; or empty.
    pub character_set: String,
    /// Modalities of its series, each once.
    pub modalities: Vec<String>,
}

impl Told {
    /// From the bytes of the file.
    ///
    /// # Errors
    /// It is none that this version knows.
    pub fn read(bytes: &[u8]) -> Result<Self, ToldError> {
        let told: Self =
            serde_json::from_slice(bytes).map_err(|e| ToldError::Format { line: e.line(), column: e.column() })?;
        if told.schema == SCHEMA { Ok(told) } else { Err(ToldError::Schema) }
    }

    /// Study Instance UID.
    #[must_use]
    pub fn study_instance_uid(&self) -> &str {
        &self.input.study_instance_uid
    }

    /// The series that the module could see.
    #[must_use]
    pub fn series(&self) -> &[Series] {
        &self.input.series
    }

    /// Whether the module called its input unfit.
    #[must_use]
    pub fn is_unfit(&self) -> bool {
        self.status == "unfit" || self.findings.unfit.is_some()
    }

    /// When the result was made, as `(year-month-day, hour:minute:second)`; nothing where it does not say so soundly.
    #[must_use]
    pub fn made(&self) -> Option<(String, String)> {
        Some((day(&self.date)?, clock(&self.time)?))
    }

    /// What stands for this module's statements about this study, whichever run of it made them: parts of derived identifiers. A
    /// later version of the study that says the same thing takes the place of what was said before.
    #[must_use]
    pub fn identity(&self) -> [&[u8]; 3] {
        [self.input.study_instance_uid.as_bytes(), self.module.name.as_bytes(), self.module.identity_sha256.as_bytes()]
    }

    /// A UID that stands for one of these statements.
    #[must_use]
    pub fn uid(&self, domain: &str, of: &[&str]) -> String {
        let parts: Vec<&[u8]> = self.identity().into_iter().chain(of.iter().map(|text| text.as_bytes())).collect();
        uid::derive(domain, &parts)
    }

    /// The same as a UUID.
    #[must_use]
    pub fn uuid(&self, domain: &str, of: &[&str]) -> String {
        let parts: Vec<&[u8]> = self.identity().into_iter().chain(of.iter().map(|text| text.as_bytes())).collect();
        uid::derive_uuid(domain, &parts)
    }
}

/// `YYYY-MM-DD` of a DICOM date.
pub(super) fn day(date: &str) -> Option<String> {
    let date = chrono::NaiveDate::parse_from_str(date.trim(), "%Y%m%d").ok().filter(|_| date.trim().len() == 8)?;
    Some(date.format("%Y-%m-%d").to_string())
}

/// `HH:MM:SS` of a DICOM time, which may lack minutes and seconds and have fractions.
pub(super) fn clock(time: &str) -> Option<String> {
    let (whole, fraction) = time.trim().split_once('.').unwrap_or((time.trim(), ""));
    let digits = matches!(whole.len(), 2 | 4 | 6) && [whole, fraction].concat().bytes().all(|b| b.is_ascii_digit());
    let whole = digits.then(|| format!("{whole:0<6}"))?;
    // A leap second is told as the second before.
    let whole = whole.strip_suffix("60").map_or(whole.clone(), |start| format!("{start}59"));
    let time = chrono::NaiveTime::parse_from_str(&whole, "%H%M%S").ok()?;
    Some(time.format("%H:%M:%S").to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_and_times_are_told_only_where_they_are_some() {
        assert_eq!(day("20240229").as_deref(), Some("2024-02-29"));
        assert_eq!(clock("101502.123").as_deref(), Some("10:15:02"));
        assert_eq!(
            [clock("10"), clock("1015"), clock("235960")].map(Option::unwrap_or_default),
            ["10:00:00", "10:15:00", "23:59:59"]
        );
        for wrong in ["", "20240230", "2024.02.01", "10155", "246000", "1015+1"] {
            assert_eq!((day(wrong), clock(wrong)), (None, None), "{wrong}");
        }
    }

    #[test]
    fn another_format_is_refused_without_a_word_of_it() {
        let said = Told::read(b"{\"schema\": \"Mueller\"}").expect_err("refused").to_string();
        assert!(said.starts_with("result.json is not gantry.result/1") && !said.contains("Mueller"), "{said}");
    }
}
