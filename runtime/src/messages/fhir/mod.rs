//! A result as a FHIR R4 transaction: what it says goes in as a whole, or not at all.
//!
//! ```text
//! Device ◀─ performed ─ Observation… ◀─ result ─ DiagnosticReport (preliminary) ◀─ focus ─ Task, of a triage
//!    ▲                       │                        │
//!    └──── Provenance ───────┘    Patient, ImagingStudy, ServiceRequest: by identifier
//! ```
//!
//! Identifiers are derived from study and module, and every entry is conditional on one: the same result sent twice has the effect
//! of one, and a statement that a later version of the study makes again takes the place of the one before. What it no longer states
//! is withdrawn in the same transaction. `docs/fhir.md`.

mod codes;
mod observations;
pub mod outcome;
mod patient;
mod resources;
mod withdrawn;

use std::collections::BTreeMap;

use serde_json::{Value, json};

pub use self::patient::PatientReference;
use self::resources::Entry;
pub use self::withdrawn::{Statement, standing, statements};
use super::told::{Subject, Told};

/// How a server names things, and what it is to be asked to make.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Naming {
    /// System of patients' identifiers, of a study that names no issuer.
    pub patient_system: Option<String>,
    /// Issuer of Patient ID (0010,0021) → system.
    pub issuer_systems: BTreeMap<String, String>,
    /// System of accession numbers.
    pub accession_system: Option<String>,
    /// How the patient is found.
    pub patient: PatientReference,
    /// Whether a Task is made of a triage.
    pub task: bool,
    /// Whether Provenance goes along, under an ID that we choose: it has no identifier in R4.
    pub provenance: bool,
}

/// No bundle can be made: the operator's to mend. No patient data.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BundleError {
    /// Nothing says of which system a patient's ID is.
    #[error(
        "the issuer of the study's Patient ID (0010,0021) has no system in fhir.issuer_systems, or the study names none and \
         fhir.patient_system is not set: the identifier could be another patient's"
    )]
    NoSystem,
    /// The study has no Patient ID.
    #[error("the study has no Patient ID (0010,0020), and the server's patients are found by it; see fhir.patient")]
    NoPatient,
    /// Dates or times of the result are none.
    #[error("result.json has no sound date and time")]
    NoTime,
}

/// The bundle of a result. What earlier versions of the study stated and it does not is withdrawn; where it says that its input was
/// not fit, nothing is: that contradicts no finding.
///
/// # Errors
/// Nobody knows whose it is.
pub fn bundle(
    told: &Told,
    subject: &Subject,
    naming: &Naming,
    earlier: &[Statement],
    result_sha256: &[u8; 32],
) -> Result<Value, BundleError> {
    let all = resources::References::new(told, subject, naming)?;
    let device = resources::device(told, &all);
    let mut entries = vec![device];
    entries.extend(resources::patient(subject, naming, &all));
    entries.extend(resources::imaging_study(told, subject, &all));
    let observations = observations::all(told, &all);
    let report = resources::report(told, &all, &observations);
    let targets: Vec<String> = observations.iter().chain([&report]).map(Entry::url).collect();
    entries.extend(observations);
    entries.push(report);
    if !told.is_unfit() {
        entries.extend(withdrawn::entries(earlier, &entries, &all));
    }
    if naming.task {
        entries.extend(resources::task(told, &all));
    }
    if naming.provenance {
        entries.push(resources::provenance(told, &all, &targets, result_sha256));
    }
    let id = crate::outputs::uid::derive_uuid("fhir-bundle", &[result_sha256]);
    Ok(json!({
        "resourceType": "Bundle",
        "identifier": { "system": resources::URI, "value": format!("urn:uuid:{id}") },
        "type": "transaction",
        "timestamp": all.issued,
        "entry": entries.into_iter().map(Entry::into_value).collect::<Vec<_>>(),
    }))
}

/// Fields of an object without those that are `null`, and without lists that are empty: FHIR has neither.
fn object(fields: Value) -> Value {
    match fields {
        Value::Object(mut fields) => {
            fields.retain(|_, value| !value.is_null() && value.as_array().is_none_or(|list| !list.is_empty()));
            Value::Object(fields)
        }
        other => other,
    }
}
