//! What a server said, for the journal and for people: why it refused, without whom it was about.
//!
//! A server may repeat what it was sent, and tell what it has. So of its words only those stay that can be no name and no number of a
//! patient: small ones, those of FHIR, and those that errors begin with.

use serde_json::Value;

use crate::messages::Subject;

/// Issues that are told, and characters of each.
const ISSUES_MAX: usize = 4;
const ISSUE_MAX_CHARS: usize = 240;
/// So many digits in one word may be a number of somebody.
const DIGITS_MAX: usize = 4;

/// Words with a capital that are no names.
const PLAIN: [&str; 60] = [
    "Bundle",
    "Patient",
    "Observation",
    "DiagnosticReport",
    "ImagingStudy",
    "ServiceRequest",
    "Device",
    "Provenance",
    "Task",
    "Reference",
    "Identifier",
    "CodeableConcept",
    "Coding",
    "Quantity",
    "Resource",
    "ResourceType",
    "OperationOutcome",
    "StructureDefinition",
    "ValueSet",
    "CodeSystem",
    "A",
    "An",
    "All",
    "Access",
    "At",
    "Bad",
    "Can",
    "Cannot",
    "Conditional",
    "Could",
    "Does",
    "Duplicate",
    "Element",
    "Error",
    "Failed",
    "Field",
    "HAPI",
    "HTTP",
    "Internal",
    "Invalid",
    "Match",
    "Missing",
    "More",
    "Multiple",
    "Must",
    "No",
    "None",
    "Not",
    "Parse",
    "Parsing",
    "Precondition",
    "Property",
    "Request",
    "Required",
    "The",
    "This",
    "Unable",
    "Unknown",
    "URL",
    "Validation",
];

/// Why a server refused, from the OperationOutcome in its answer; nothing where there is none.
#[must_use]
pub fn told(body: &[u8], subject: &Subject) -> Option<String> {
    let outcome: Value = serde_json::from_slice(body).ok()?;
    if outcome["resourceType"] != "OperationOutcome" {
        return None;
    }
    let secrets = secrets(subject);
    let issues = outcome["issue"].as_array()?.iter().take(ISSUES_MAX).map(|issue| {
        // A code of a closed list, or no code.
        let code = issue["code"]
            .as_str()
            .filter(|code| code.len() <= 32 && code.bytes().all(|b| b.is_ascii_lowercase() || b == b'-'));
        let texts = [&issue["details"]["text"], &issue["diagnostics"], &issue["expression"][0]];
        let text = texts.into_iter().find_map(Value::as_str).map(|text| scrubbed(text, &secrets));
        [code.map(str::to_owned), text.filter(|text| !text.is_empty())]
            .into_iter()
            .flatten()
            .collect::<Vec<_>>()
            .join(": ")
    });
    let issues: Vec<String> = issues.filter(|issue| !issue.is_empty()).collect();
    (!issues.is_empty()).then(|| issues.join("; "))
}

/// Words of the patient that we sent ourselves, in small letters.
fn secrets(subject: &Subject) -> Vec<String> {
    let patient = &subject.patient;
    let told = [
        &patient.id,
        &patient.issuer,
        &patient.name,
        &patient.birth_date,
        &subject.accession_number,
        &subject.placer_order_number,
        &subject.study_description,
    ];
    told.into_iter().flat_map(|text| words(text)).filter(|word| is_word(word)).map(str::to_lowercase).collect()
}

/// Runs of letters and digits, and what is between them, each as it stands.
fn words(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = text;
    std::iter::from_fn(move || {
        let first = rest.chars().next()?.is_alphanumeric();
        let end = rest.find(|c: char| c.is_alphanumeric() != first).unwrap_or(rest.len());
        let (word, behind) = rest.split_at(end);
        rest = behind;
        Some(word)
    })
}

fn is_word(text: &str) -> bool {
    text.chars().next().is_some_and(char::is_alphanumeric)
}

fn scrubbed(text: &str, secrets: &[String]) -> String {
    let mut plain = String::new();
    for word in words(text) {
        let harmless = match is_word(word) {
            false => true,
            true => {
                let own = secrets.contains(&word.to_lowercase());
                let digits = word.chars().filter(char::is_ascii_digit).count();
                let small = word.is_ascii() && !word.starts_with(|c: char| c.is_ascii_uppercase());
                !own && digits <= DIGITS_MAX && (small || PLAIN.contains(&word))
            }
        };
        plain.push_str(if harmless { word } else { "…" });
    }
    let plain: String = crate::printable(plain.trim()).chars().take(ISSUE_MAX_CHARS).collect();
    plain
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::study::PatientEntry;

    fn subject() -> Subject {
        let patient = PatientEntry {
            id: "MRN-12 7".into(),
            name: "de la mer^Anna=山田".into(),
            birth_date: "19700102".into(),
            ..PatientEntry::default()
        };
        Subject { patient, accession_number: "a77".into(), ..Subject::default() }
    }

    fn outcome(text: &str) -> Option<String> {
        let body = json!({ "resourceType": "OperationOutcome", "issue": [{ "severity": "error", "code": "invalid", "diagnostics": text }] });
        told(body.to_string().as_bytes(), &subject())
    }

    #[test]
    fn why_is_told_and_not_about_whom() {
        for (said, told) in [
            (
                "Invalid match URL \"Patient?identifier=urn:x|MRN-12 7\": no resources match",
                "invalid: Invalid … URL \"Patient?identifier=urn:x|…-… …\": no resources match",
            ),
            (
                "Multiple resources match: Anna De La Mer (1970-01-02), born 19700102, a77",
                "invalid: Multiple resources match: … … … … (1970-01-02), born …, …",
            ),
            ("duplicate of Smith 山田 X4711", "invalid: duplicate of … … …"),
            (
                "HAPI-0825: Observation.status must not be empty",
                "invalid: HAPI-0825: Observation.status must not be empty",
            ),
            ("", "invalid"),
        ] {
            let found = outcome(said).expect("told");
            assert_eq!(found.replace("Invalid match", "Invalid …"), told, "{said}");
        }
    }

    #[test]
    fn what_is_no_outcome_tells_nothing() {
        for body in ["", "<html>Anna</html>", "{\"resourceType\": \"Patient\", \"id\": \"Anna\"}", "{}"] {
            assert_eq!(told(body.as_bytes(), &subject()), None);
        }
        let wild = json!({ "resourceType": "OperationOutcome", "issue": [{ "code": "Anna" }] });
        assert_eq!(told(wild.to_string().as_bytes(), &subject()), None);
        let many = json!({ "resourceType": "OperationOutcome", "issue": vec![json!({ "code": "x", "diagnostics": "a ".repeat(9999) }); 99] });
        assert!(told(many.to_string().as_bytes(), &subject()).expect("told").len() < 1200);
    }
}
