//! `[destinations.fhir]`: a FHIR server, or a folder of bundles.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::messages::fhir::PatientReference;

/// Where bundles go, and how the server names things.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct FhirDestination {
    /// The server's base address: `https://fhir.example/r4`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// Or a folder that is there already, which gets a file of NDJSON for each result.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub folder: Option<PathBuf>,
    /// A file that holds a bearer token for the server.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token_file: Option<PathBuf>,
    /// System of patients' identifiers, of a study that names no issuer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub patient_system: Option<String>,
    /// Issuer of Patient ID (0010,0021) → system.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub issuer_systems: BTreeMap<String, String>,
    /// System of accession numbers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub accession_system: Option<String>,
    /// How the patient is found: `must-exist`, `create` or `identifier`.
    pub patient: PatientReference,
    /// Whether a Task is made of a triage.
    pub task: bool,
    /// Whether Provenance goes along, under an ID that we choose.
    pub provenance: bool,
    /// How long the server may ask to be waited for (Retry-After) within one attempt.
    pub retry_after_max_ms: u64,
    /// One answer.
    pub answer_max_kib: u64,
}

impl Default for FhirDestination {
    fn default() -> Self {
        Self {
            url: None,
            folder: None,
            token_file: None,
            patient_system: None,
            issuer_systems: BTreeMap::new(),
            accession_system: None,
            patient: PatientReference::MustExist,
            task: true,
            provenance: true,
            retry_after_max_ms: 60_000,
            answer_max_kib: 4096,
        }
    }
}

impl FhirDestination {
    /// Whether it can be used.
    ///
    /// # Errors
    /// Says why not, after the key.
    pub fn check(&self) -> Result<(), String> {
        match (&self.url, &self.folder) {
            (None, None) | (Some(_), Some(_)) => return Err("url: set either url or folder".into()),
            (Some(url), None) if !url.starts_with("http://") && !url.starts_with("https://") => {
                return Err("url begins with neither http:// nor https://".into());
            }
            // It would be in messages.
            (Some(url), None) if url.contains(['@', '?', '#']) => {
                return Err("url has a user, a query or a fragment in it; give the server's base address alone".into());
            }
            (None, Some(_)) if self.token_file.is_some() => return Err("token_file is for url".into()),
            _ => {}
        }
        let systems = self.issuer_systems.values().chain(&self.patient_system).chain(&self.accession_system);
        if let Some(system) = systems.into_iter().find(|system| !is_uri(system)) {
            return Err(format!("system {system:?} is no URI, as https://hospital.example/patients or urn:oid:1.2.3"));
        }
        if self.patient != PatientReference::Identifier
            && self.patient_system.is_none()
            && self.issuer_systems.is_empty()
        {
            return Err("patient_system or issuer_systems is needed: an identifier without a system could be another \
                        patient's; or set patient = \"identifier\""
                .into());
        }
        for (name, value, least, most) in [
            ("retry_after_max_ms", self.retry_after_max_ms, 0, 3_600_000),
            ("answer_max_kib", self.answer_max_kib, 1, 65_536),
        ] {
            if !(least..=most).contains(&value) {
                return Err(format!("{name} = {value} is not in {least}..={most}"));
            }
        }
        Ok(())
    }
}

/// A scheme and something behind it, without blanks.
fn is_uri(text: &str) -> bool {
    let scheme = text.split_once(':').filter(|(_, rest)| !rest.is_empty()).map(|(scheme, _)| scheme);
    let named = scheme.is_some_and(|s| {
        s.starts_with(|c: char| c.is_ascii_alphabetic())
            && s.bytes().all(|b| b.is_ascii_alphanumeric() || b"+-.".contains(&b))
    });
    named && text.bytes().all(|b| (0x21..0x7F).contains(&b) && b != b'|')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_work_is_named() {
        let base = FhirDestination {
            url: Some("https://a/r4".into()),
            patient_system: Some("urn:oid:1.2".into()),
            ..FhirDestination::default()
        };
        base.check().expect("fine");
        for (wrong, says) in [
            (FhirDestination { url: None, ..base.clone() }, "set either url or folder"),
            (FhirDestination { folder: Some("f".into()), ..base.clone() }, "set either url or folder"),
            (FhirDestination { url: Some("ftp://a".into()), ..base.clone() }, "neither http"),
            (FhirDestination { url: Some("https://u:p@a".into()), ..base.clone() }, "a user"),
            (FhirDestination { patient_system: None, ..base.clone() }, "patient_system or issuer_systems is needed"),
            (FhirDestination { patient_system: Some("MRN".into()), ..base.clone() }, "system \"MRN\" is no URI"),
            (FhirDestination { answer_max_kib: 0, ..base.clone() }, "answer_max_kib = 0 is not in 1..=65536"),
            (
                FhirDestination { url: None, folder: Some("f".into()), token_file: Some("t".into()), ..base.clone() },
                "token_file is for url",
            ),
        ] {
            let said = wrong.check().expect_err(says);
            assert!(said.contains(says), "{said}");
        }
        let identifier = FhirDestination { patient_system: None, patient: PatientReference::Identifier, ..base };
        identifier.check().expect("fine");
    }
}
