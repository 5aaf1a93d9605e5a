//! The resources around the Observations, and how entries of a transaction are conditional.

use serde_json::{Value, json};

use super::codes::{DCM, concept, known, priority, text};
use super::{BundleError, Naming, PatientReference, object};
use crate::findings::Urgency;
use crate::messages::hl7::oru::remark;
use crate::messages::told::{Subject, Told, day};
use crate::study::PatientEntry;

/// System of identifiers that are URIs.
pub(super) const URI: &str = "urn:ietf:rfc:3986";
/// System of identifiers that are UIDs of DICOM studies (FHIR R4, ImagingStudy).
const DICOM_UID: &str = "urn:dicom:uid";
const LOINC: &str = "http://loinc.org";
const IDENTIFIER_TYPE: &str = "http://terminology.hl7.org/CodeSystem/v2-0203";

/// One entry of the transaction.
pub(super) struct Entry {
    url: String,
    resource: Value,
    request: Value,
}

impl Entry {
    /// Takes the place of the resource with the same identifier, or is made.
    pub(super) fn update(told: &Told, domain: &str, of: &[&str], resource: Value) -> Self {
        let url = format!("urn:uuid:{}", told.uuid(domain, of));
        Self::instead(url, &format!("urn:oid:{}", told.uid(domain, of)), resource)
    }

    /// The same, by an identifier that is a URI.
    pub(super) fn instead(url: String, identifier: &str, resource: Value) -> Self {
        let kind = resource["resourceType"].as_str().unwrap_or_default();
        let request = json!({ "method": "PUT", "url": format!("{kind}?identifier={}", search(URI, identifier)) });
        Self { url, resource, request }
    }

    /// Is made unless one with an identifier is there.
    fn create(url: String, condition: &str, resource: Value) -> Self {
        let kind = resource["resourceType"].as_str().unwrap_or_default();
        let request = json!({ "method": "POST", "url": kind, "ifNoneExist": format!("identifier={condition}") });
        Self { url, resource, request }
    }

    /// By what other entries refer to it.
    pub(super) fn url(&self) -> String {
        self.url.clone()
    }

    pub(super) fn resource(&self) -> &Value {
        &self.resource
    }

    pub(super) fn into_value(self) -> Value {
        json!({ "fullUrl": self.url, "resource": self.resource, "request": self.request })
    }
}

/// What every resource refers to.
pub(super) struct References {
    pub(super) subject: Option<Value>,
    pub(super) imaging_study: Option<Value>,
    pub(super) based_on: Vec<Value>,
    pub(super) device: String,
    pub(super) issued: String,
    pub(super) effective: Option<String>,
    /// `fullUrl` of what is made where it is missing.
    patient_url: String,
    study_url: String,
    patient_identifier: Option<Value>,
    patient_condition: Option<String>,
}

impl References {
    pub(super) fn new(told: &Told, subject: &Subject, naming: &Naming) -> Result<Self, BundleError> {
        let (date, time) = told.made().ok_or(BundleError::NoTime)?;
        let patient = &subject.patient;
        // Of an issuer that the site did not name, the ID is somebody else's here.
        let system = match patient.issuer.as_str() {
            "" => naming.patient_system.as_ref(),
            issuer => naming.issuer_systems.get(issuer),
        };
        let found = naming.patient != PatientReference::Identifier;
        let system = match system {
            Some(system) => Some(system.as_str()),
            None if found => return Err(BundleError::NoSystem),
            None => None,
        };
        if patient.id.is_empty() && found {
            return Err(BundleError::NoPatient);
        }
        let identified = !patient.id.is_empty();
        let identifier = object(json!({
            "type": known(IDENTIFIER_TYPE, "MR", "Medical record number"), "system": system, "value": patient.id,
        }));
        let condition = system.map(|system| search(system, &patient.id));
        let patient_url = format!("urn:uuid:{}", told.uuid("fhir-patient", &[]));
        let reference = match naming.patient {
            _ if !identified => None,
            PatientReference::Identifier => Some(json!({ "type": "Patient", "identifier": identifier })),
            PatientReference::Create => Some(json!({ "reference": patient_url })),
            PatientReference::MustExist => {
                let reference =
                    |condition| json!({ "reference": format!("Patient?identifier={condition}"), "type": "Patient" });
                condition.as_ref().map(reference)
            }
        };
        let study_url = format!("urn:uuid:{}", told.uuid("fhir-imaging-study", &[]));
        let imaging_study = match reference {
            Some(_) => json!({ "reference": study_url }),
            // One must say whose it is, so none can be made.
            None => json!({ "type": "ImagingStudy", "identifier": study_identifier(told) }),
        };
        let accession = object(json!({
            "type": known(IDENTIFIER_TYPE, "ACSN", "Accession ID"),
            "system": naming.accession_system,
            "value": subject.accession_number,
        }));
        let ordered = !subject.accession_number.is_empty();
        Ok(Self {
            subject: reference,
            imaging_study: Some(imaging_study),
            based_on: ordered
                .then(|| json!({ "type": "ServiceRequest", "identifier": accession }))
                .into_iter()
                .collect(),
            device: format!(
                "urn:uuid:{}",
                crate::outputs::uid::derive_uuid("fhir-device", &[told.module.identity_sha256.as_bytes()])
            ),
            issued: format!("{date}T{time}Z"),
            // Times of DICOM are local, and nobody says where: FHIR has no such time.
            effective: day(&subject.study_date),
            patient_url,
            study_url,
            patient_identifier: identified.then_some(identifier),
            patient_condition: condition,
        })
    }

    /// Under which a resource is found again.
    pub(super) fn identifier(&self, told: &Told, domain: &str, of: &[&str]) -> Value {
        json!({ "system": URI, "value": format!("urn:oid:{}", told.uid(domain, of)) })
    }
}

/// The module, one Device for each identity of its package.
pub(super) fn device(told: &Told, refer: &References) -> Entry {
    let module = &told.module;
    let uid = crate::outputs::uid::derive("fhir-device", &[module.identity_sha256.as_bytes()]);
    let value = format!("urn:oid:{uid}");
    // In the form of GS1's: (8012) is the version of software, (21) a serial number. No agency has issued it.
    let serial: String = module.identity_sha256.chars().take(20).collect();
    let carrier = format!("(8012){}(21){serial}", text(&module.version));
    let remarks = module.demonstration.then(|| json!([{ "text": "demonstration, not for clinical use" }]));
    let resource = object(json!({
        "resourceType": "Device",
        "identifier": [{ "system": URI, "value": value }],
        "udiCarrier": [{ "deviceIdentifier": text(&module.name), "carrierHRF": carrier, "entryType": "self-reported" }],
        "status": "active",
        "manufacturer": text(&module.vendor),
        "serialNumber": serial,
        "deviceName": [
            { "name": text(&module.title), "type": "user-friendly-name" },
            { "name": text(&module.name), "type": "model-name" },
        ],
        "type": known(DCM, "123110", "Artificial Intelligence"),
        "version": [
            { "type": { "text": "software" }, "value": text(&module.version) },
            { "type": { "text": "component, SHA-256" }, "value": module.component_sha256 },
            { "type": { "text": "Gantry" }, "value": told.runtime_version },
        ],
        "note": remarks,
    }));
    Entry::create(refer.device.clone(), &search(URI, &value), resource)
}

/// The patient, where one is to be made.
pub(super) fn patient(subject: &Subject, naming: &Naming, refer: &References) -> Option<Entry> {
    if naming.patient != PatientReference::Create {
        return None;
    }
    let PatientEntry { name, birth_date, sex, .. } = &subject.patient;
    let gender = match sex.as_str() {
        "M" => "male",
        "F" => "female",
        "O" => "other",
        _ => "unknown",
    };
    let resource = object(json!({
        "resourceType": "Patient",
        "identifier": [refer.patient_identifier.as_ref()?],
        "name": names(name),
        "gender": gender,
        "birthDate": day(birth_date),
    }));
    Some(Entry::create(refer.patient_url.clone(), refer.patient_condition.as_ref()?, resource))
}

/// Each way of writing a name (PS3.5 section 6.2, VR PN).
fn names(name: &str) -> Vec<Value> {
    let ways = name.split('=').take(3).filter(|way| !way.trim_matches([' ', '^']).is_empty());
    let told = ways.map(|way| {
        let parts: Vec<&str> = way.split('^').map(str::trim).collect();
        let part = |at: usize| parts.get(at).copied().filter(|part| !part.is_empty()).map(text);
        let given: Vec<String> = [part(1), part(2)].into_iter().flatten().collect();
        object(json!({
            "family": part(0),
            "given": given,
            "prefix": part(3).into_iter().collect::<Vec<_>>(),
            "suffix": part(4).into_iter().collect::<Vec<_>>(),
        }))
    });
    told.collect()
}

fn study_identifier(told: &Told) -> Value {
    json!({ "system": DICOM_UID, "value": format!("urn:oid:{}", told.study_instance_uid()) })
}

/// The study, which the archive's own ImagingStudy stands for where there is one.
pub(super) fn imaging_study(told: &Told, subject: &Subject, refer: &References) -> Option<Entry> {
    let modality = |modality: &str| json!({ "system": DCM, "code": modality });
    let coded = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric());
    let mut series: Vec<Value> = Vec::new();
    for one in told.series().iter().filter(|one| coded(&one.modality)) {
        series.push(json!({ "uid": one.series_instance_uid, "modality": modality(&one.modality) }));
    }
    for output in &told.outputs {
        let (Some(series_uid), Some(class), Some(instance)) =
            (&output.series_instance_uid, &output.sop_class_uid, &output.sop_instance_uid)
        else {
            continue;
        };
        let class_coding = json!({ "system": URI, "code": format!("urn:oid:{class}") });
        series.push(json!({
            "uid": series_uid,
            "modality": modality(modality_of(class)),
            "instance": [{ "uid": instance, "sopClass": class_coding }],
        }));
    }
    let started = day(&subject.study_date);
    let modalities: Vec<Value> = subject.modalities.iter().filter(|m| coded(m)).map(|m| modality(m)).collect();
    let description = Some(&subject.study_description).filter(|d| !d.trim().is_empty()).map(|d| text(d));
    let resource = object(json!({
        "resourceType": "ImagingStudy",
        "identifier": [study_identifier(told)],
        "status": "available",
        "modality": modalities,
        "subject": refer.subject.as_ref()?,
        "started": started,
        "basedOn": refer.based_on,
        "description": description,
        "series": series,
    }));
    let condition = search(DICOM_UID, &format!("urn:oid:{}", told.study_instance_uid()));
    Some(Entry::create(refer.study_url.clone(), &condition, resource))
}

/// Modality of what Gantry writes, by SOP class.
fn modality_of(class: &str) -> &'static str {
    match class {
        "1.2.840.10008.5.1.4.1.1.66.4" => "SEG",
        "1.2.840.10008.5.1.4.1.1.11.1" => "PR",
        class if class.starts_with("1.2.840.10008.5.1.4.1.1.88.") => "SR",
        _ => "OT",
    }
}

/// What the module says as a whole: preliminary, whoever reads it.
pub(super) fn report(told: &Told, refer: &References, observations: &[Entry]) -> Entry {
    let results: Vec<Value> = observations.iter().map(|entry| json!({ "reference": entry.url })).collect();
    let radiology = known("http://terminology.hl7.org/CodeSystem/v2-0074", "RAD", "Radiology");
    let found = told.findings.triage.iter().map(|triage| concept(&triage.finding));
    let conclusion = match &told.findings.unfit {
        Some(unfit) => format!("The images were not fit for this algorithm: {} {}", text(&unfit.detail), remark(told)),
        None => remark(told).to_owned(),
    };
    let resource = object(json!({
        "resourceType": "DiagnosticReport",
        "identifier": [refer.identifier(told, "fhir-report", &[])],
        "basedOn": refer.based_on,
        "status": "preliminary",
        "category": [radiology],
        "code": known(LOINC, "18748-4", "Diagnostic imaging study"),
        "subject": refer.subject,
        "effectiveDateTime": refer.effective,
        "issued": refer.issued,
        "result": results,
        "imagingStudy": refer.imaging_study.iter().collect::<Vec<_>>(),
        "conclusion": conclusion,
        "conclusionCode": found.collect::<Vec<_>>(),
    }));
    Entry::update(told, "fhir-report", &[], resource)
}

/// That somebody is to look sooner. One that is there is left as it is: somebody may have begun on it. A higher level is another.
pub(super) fn task(told: &Told, refer: &References) -> Option<Entry> {
    let triage = told.findings.triage.iter().max_by_key(|triage| triage.level)?;
    if triage.level == Urgency::Routine {
        return None;
    }
    let level = priority(triage.level);
    let resource = object(json!({
        "resourceType": "Task",
        "identifier": [refer.identifier(told, "fhir-task", &[level])],
        "basedOn": refer.based_on,
        "status": "requested",
        "intent": "proposal",
        "priority": level,
        "code": { "text": "Read this study sooner" },
        "description": text(&triage.reason),
        "focus": { "reference": format!("urn:uuid:{}", told.uuid("fhir-report", &[])) },
        "for": refer.subject,
        "authoredOn": refer.issued,
        "requester": { "reference": refer.device },
        "reasonCode": concept(&triage.finding),
    }));
    let condition = search(URI, &format!("urn:oid:{}", told.uid("fhir-task", &[level])));
    Some(Entry::create(format!("urn:uuid:{}", told.uuid("fhir-task", &[level])), &condition, resource))
}

/// What it was made of, and by what.
pub(super) fn provenance(told: &Told, refer: &References, targets: &[String], result_sha256: &[u8; 32]) -> Entry {
    let id = told.uuid("fhir-provenance", &[]);
    let name = |digest: &[u8; 32]| json!({ "system": URI, "value": format!("ni:///sha-256;{}", base64url(digest)) });
    let result = json!({ "role": "source", "what": { "identifier": name(result_sha256), "display": "result.json" } });
    let study = refer.imaging_study.iter().map(|study| json!({ "role": "source", "what": study }));
    let performer =
        known("http://terminology.hl7.org/CodeSystem/provenance-participant-type", "performer", "Performer");
    let resource = json!({
        "resourceType": "Provenance",
        "id": id,
        "target": targets.iter().map(|url| json!({ "reference": url })).collect::<Vec<_>>(),
        "recorded": refer.issued,
        "activity": known("http://terminology.hl7.org/CodeSystem/v3-DataOperation", "CREATE", "create"),
        "agent": [{ "type": performer, "who": { "reference": refer.device } }],
        "entity": study.chain([result]).collect::<Vec<_>>(),
    });
    let request = json!({ "method": "PUT", "url": format!("Provenance/{id}") });
    Entry { url: format!("urn:uuid:{id}"), resource, request }
}

/// A token of a search: `system|value`, as a part of an address.
fn search(system: &str, value: &str) -> String {
    use std::fmt::Write;
    let escaped = |text: &str| {
        text.chars().fold(String::new(), |mut escaped, c| {
            if matches!(c, '\\' | '|' | ',' | '$') {
                escaped.push('\\');
            }
            escaped.push(c);
            escaped
        })
    };
    let token = format!("{}|{}", escaped(system), escaped(value));
    token.bytes().fold(String::new(), |mut safe, byte| {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b':' | b'/' => {
                safe.push(char::from(byte))
            }
            _ => write!(safe, "%{byte:02X}").expect("writing to a string does not fail"),
        }
        safe
    })
}

/// Base 64 for addresses, without padding (RFC 4648 section 5).
fn base64url(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for three in bytes.chunks(3) {
        let bits = three.iter().fold(0_u32, |bits, byte| bits << 8 | u32::from(*byte)) << (8 * (3 - three.len()));
        for digit in 0..=three.len() {
            let index = bits >> (18 - 6 * digit) & 0x3F;
            text.push(char::from(DIGITS[index as usize]));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_that_of_the_rfc() {
        // RFC 4648 section 10, without padding.
        let pairs = [("", ""), ("f", "Zg"), ("fo", "Zm8"), ("foo", "Zm9v"), ("foob", "Zm9vYg"), ("fooba", "Zm9vYmE")];
        for (plain, coded) in pairs {
            assert_eq!(base64url(plain.as_bytes()), coded);
        }
        assert_eq!(base64url(&[0xFB, 0xFF]), "-_8");
    }

    #[test]
    fn a_search_cannot_be_broken_out_of() {
        assert_eq!(search("urn:x", "a|b,c&d=e f"), "urn:x%7Ca%5C%7Cb%5C%2Cc%26d%3De%20f");
        assert_eq!(search("urn:x", "Ü"), "urn:x%7C%C3%9C");
    }
}
