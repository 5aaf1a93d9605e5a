//! What an earlier version of the study stated, and this one does not: it becomes `entered-in-error`, without its value.
//!
//! A Task is left alone: somebody may have begun on it, and nothing that a module says makes a study wait longer.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::super::told::Told;
use super::object;
use super::resources::{Entry, References, URI};

const WITHDRAWN: &str = "entered-in-error";
const WHY: &str = "withdrawn: a later version of the study no longer says so";

/// An Observation or a report, by what is needed to withdraw it. No patient data.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Statement {
    /// `Observation` or `DiagnosticReport`.
    pub resource: String,
    /// Under which it is found: a URI.
    pub identifier: String,
    /// What it is about, as a CodeableConcept.
    pub code: Value,
}

/// What a bundle states, without what it withdraws.
#[must_use]
pub fn statements(bundle: &Value) -> Vec<Statement> {
    let entries = bundle["entry"].as_array().into_iter().flatten();
    entries.filter_map(|entry| stated(&entry["resource"])).collect()
}

/// What stands once the bundle of a result arrived: what it states, and where it withdraws nothing, what stood before. A later version
/// that is fit must know of it to withdraw it.
#[must_use]
pub fn standing(told: &Told, bundle: &Value, earlier: &[Statement]) -> Vec<Statement> {
    let mut standing = statements(bundle);
    if told.is_unfit() {
        let mut seen: BTreeSet<String> = standing.iter().map(|statement| statement.identifier.clone()).collect();
        standing.extend(earlier.iter().filter(|statement| seen.insert(statement.identifier.clone())).cloned());
    }
    standing
}

fn stated(resource: &Value) -> Option<Statement> {
    let kind = resource["resourceType"].as_str().filter(|kind| ["Observation", "DiagnosticReport"].contains(kind))?;
    let identifier = resource["identifier"][0]["value"].as_str()?.to_owned();
    let holds = resource["status"] != WITHDRAWN;
    holds.then(|| Statement { resource: kind.to_owned(), identifier, code: resource["code"].clone() })
}

/// One for each earlier statement that no entry makes again, in an order that follows from them.
pub(super) fn entries(earlier: &[Statement], entries: &[Entry], refer: &References) -> Vec<Entry> {
    let now = entries.iter().filter_map(|entry| stated(entry.resource()));
    let mut seen: BTreeSet<String> = now.map(|statement| statement.identifier).collect();
    let gone = earlier.iter().filter(|statement| seen.insert(statement.identifier.clone()));
    let mut gone: Vec<&Statement> = gone.collect();
    gone.sort_by(|one, other| one.identifier.cmp(&other.identifier));
    gone.into_iter().map(|statement| withdrawn(statement, refer)).collect()
}

fn withdrawn(statement: &Statement, refer: &References) -> Entry {
    let Statement { resource, identifier, code } = statement;
    let mut fields = json!({
        "resourceType": resource,
        "identifier": [{ "system": URI, "value": identifier }],
        "basedOn": refer.based_on,
        "status": WITHDRAWN,
        "code": code,
        "subject": refer.subject,
        "issued": refer.issued,
    });
    match resource.as_str() {
        "DiagnosticReport" => fields["conclusion"] = WHY.into(),
        _ => fields["note"] = json!([{ "text": WHY }]),
    }
    let url = crate::outputs::uid::derive_uuid("fhir-withdrawn", &[identifier.as_bytes()]);
    Entry::instead(format!("urn:uuid:{url}"), identifier, object(fields))
}
