//! Codes of DICOM as those of FHIR.

use serde_json::{Value, json};

use super::object;
use crate::findings::{Code, Urgency};

/// Code systems that a module may take codes from, by their designator in DICOM (PS3.16 table 8-1). Private ones, and SNOMED's old
/// codes, have no address.
const SYSTEMS: [(&str, &str); 7] = [
    ("SCT", "http://snomed.info/sct"),
    ("DCM", DCM),
    ("UCUM", UCUM),
    ("LN", "http://loinc.org"),
    ("FMA", "http://purl.org/sig/ont/fma"),
    ("NCIt", "http://ncicb.nci.nih.gov/xml/owl/EVS/Thesaurus.owl"),
    ("RADLEX", "http://www.radlex.org"),
];

/// DICOM's own.
pub(super) const DCM: &str = "http://dicom.nema.org/resources/ontology/DCM";
/// Units.
pub(super) const UCUM: &str = "http://unitsofmeasure.org";

/// A stated code.
pub(super) fn concept(code: &Code) -> Value {
    let system = SYSTEMS.iter().find(|(scheme, _)| *scheme == code.scheme).map(|(_, system)| *system);
    let value = code.value.split_whitespace().collect::<Vec<_>>().join(" ");
    let coding = object(json!({ "system": system, "code": value, "display": text(&code.meaning) }));
    json!({ "coding": [coding], "text": text(&code.meaning) })
}

/// One that we know.
pub(super) fn known(system: &str, code: &str, display: &str) -> Value {
    json!({ "coding": [{ "system": system, "code": code, "display": display }] })
}

/// A number in a unit of UCUM.
pub(super) fn quantity(value: f64, unit: &str) -> Value {
    json!({ "value": value, "unit": unit, "system": UCUM, "code": unit })
}

/// 0 to 1.
pub(super) fn probability(value: f32) -> Value {
    let rounded = (f64::from(value) * 1e6).round() / 1e6;
    json!({ "code": known(DCM, "122157", "Probability"), "valueQuantity": quantity(rounded, "1") })
}

/// How soon, in the words of FHIR's requests.
pub(super) fn priority(level: Urgency) -> &'static str {
    match level {
        Urgency::Routine => "routine",
        Urgency::Prompt => "urgent",
        Urgency::Urgent => "asap",
        Urgency::Critical => "stat",
    }
}

/// Somebody's text: no control characters but the ends of lines, and never empty.
pub(super) fn text(text: &str) -> String {
    let plain: String = text.chars().map(|c| if c.is_control() && c != '\n' { ' ' } else { c }).collect();
    if plain.trim().is_empty() { "-".into() } else { plain.trim().to_owned() }
}
