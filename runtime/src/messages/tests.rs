//! A whole bundle and a whole ORU, as they leave; UIDs and digests by their order, so that a change shows for what it is.

use serde_json::json;

use super::fhir::{BundleError, Naming, PatientReference, Statement, bundle, standing, statements};
use super::hl7::Message;
use super::hl7::ack::Ourselves;
use super::hl7::oru::{Envelope, message, order_update};
use super::{Subject, Told};
use crate::study::PatientEntry;

const RESULT_SHA256: [u8; 32] = [9; 32];

fn code(value: &str, scheme: &str, meaning: &str) -> serde_json::Value {
    json!({ "value": value, "scheme": scheme, "meaning": meaning })
}

fn result() -> serde_json::Value {
    let output = |kind: &str, class: &str, n: u32| {
        json!({
            "file": format!("{kind}.dcm"), "kind": kind, "sop_class_uid": class, "sop_instance_uid": format!("2.25.10{n}"),
            "series_instance_uid": format!("2.25.20{n}"), "sha256": "00".repeat(32), "bytes": 1,
        })
    };
    let module = json!({
        "name": "head-ct-triage", "version": "1.2.0", "vendor": "Example & Sons", "title": "Head CT triage", "demonstration": true,
        "identity_sha256": "07".repeat(32), "component_sha256": "08".repeat(32), "grants": ["log"],
    });
    let segment = |value: u32, number: Option<u32>, name: &str| {
        json!({
            "value": value, "number": number, "name": name, "category": code("49755003", "SCT", "Morphologically abnormal"),
            "kind": code("50960005", "SCT", "Hemorrhage"), "confidence": 0.9, "voxels": 100, "millilitres": 12.5,
        })
    };
    json!({
        "schema": "gantry.result/1", "status": "done", "runtime_version": "0.1.0", "date": "20240301", "time": "101502",
        "correlation": "c", "module": module, "models": [],
        "input": {
            "study_instance_uid": "2.25.2",
            "series": [{ "series_instance_uid": "2.25.3", "pseudonym": "s1", "modality": "CT", "decoded": [] }],
            "upstream": [], "priors": [],
        },
        "findings": {
            "segments": [segment(1, Some(1), "Bleed|1"), segment(2, None, "Nothing")],
            "measurements": [
                { "quantity": code("118565006", "SCT", "Volume"), "value": 12.25, "unit": "mL", "segment": 1 },
                { "quantity": code("X1", "99VENDOR", "Midline^shift"), "value": 3.5, "unit": "mm", "segment": null },
            ],
            "classifications": [{ "finding": code("1386000", "SCT", "Intracranial hemorrhage"), "probability": 0.93 }],
            "triage": [{
                "level": "urgent", "finding": code("1386000", "SCT", "Intracranial hemorrhage"), "probability": 0.93,
                "reason": "bleeding\rOBX|99|ST|evil & more",
            }],
            "unfit": null,
            "heatmap": { "title": "Bleeding|likely", "minimum": 0.0, "maximum": 1.0 },
            "marks": [
                { "start": [9, 19, 4], "size": [10, 20, 3], "label": code("50960005", "SCT", "Hemorrhage"), "probability": 0.8 },
                { "start": [0, 0, 0], "size": [1, 1, 1], "label": code("50960005", "SCT", "Hemorrhage"), "probability": 0.25 },
            ],
        },
        "outputs": [
            output("segmentation", "1.2.840.10008.5.1.4.1.1.66.4", 1),
            output("report", "1.2.840.10008.5.1.4.1.1.88.34", 2),
        ],
        "phases": [], "host_memory_peak_bytes": null, "warnings": [], "log": [],
    })
}

fn told() -> Told {
    Told::read(result().to_string().as_bytes()).expect("a result")
}

fn subject() -> Subject {
    Subject {
        patient: PatientEntry {
            id: "P|1".into(),
            issuer: "HOSP".into(),
            name: "Müller^Anna^^Dr.^".into(),
            birth_date: "19700102".into(),
            sex: "F".into(),
        },
        study_date: "20240301".into(),
        study_time: "095959.5".into(),
        accession_number: "ACC1".into(),
        study_description: "CT head".into(),
        placer_order_number: "4711^RIS".into(),
        character_set: "ISO_IR 100".into(),
        modalities: vec!["CT".into()],
    }
}

fn naming() -> Naming {
    Naming {
        patient_system: Some("https://hospital.example/patients".into()),
        issuer_systems: [("HOSP".to_owned(), "https://hospital.example/patients".to_owned())].into(),
        accession_system: Some("https://hospital.example/accessions".into()),
        task: true,
        provenance: true,
        ..Naming::default()
    }
}

fn envelope() -> Envelope {
    let named = |application: &str| Ourselves { application: application.into(), facility: "HOSP".into() };
    Envelope { from: named("GANTRY"), to: named("RIS"), charset: None, enhanced: false }
}

/// UUIDs, derived UIDs, digests and control IDs by their order.
fn normalised(text: &str) -> String {
    let mut known: Vec<String> = Vec::new();
    let mut plain = String::new();
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let run = |more: &str| rest.find(|c: char| !(c.is_ascii_hexdigit() || more.contains(c))).unwrap_or(rest.len());
        let boundary = !plain.ends_with(|c: char| c.is_ascii_alphanumeric());
        let length = match (run("-"), run("")) {
            (36, _) if rest.as_bytes().get(8) == Some(&b'-') => 36,
            (_, length @ (20 | 64)) => length,
            _ if rest.starts_with("2.25.") => {
                5 + rest[5..].find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len() - 5)
            }
            _ => 0,
        };
        // UIDs of the input are short.
        if boundary && length > 12 {
            let (name, behind) = rest.split_at(length);
            let place = known.iter().position(|known| known == name).unwrap_or_else(|| {
                known.push(name.to_owned());
                known.len() - 1
            });
            plain.push_str(&format!("<{}>", place + 1));
            rest = behind;
        } else {
            plain.push(c);
            rest = &rest[c.len_utf8()..];
        }
    }
    plain
}

/// Compares with a file beside this one; `GANTRY_SNAPSHOTS=accept` writes it.
fn snapshot(name: &str, text: &str) {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src/messages/snapshots").join(name);
    if std::env::var_os("GANTRY_SNAPSHOTS").is_some_and(|how| how == "accept") {
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("made");
        std::fs::write(&path, text).expect("written");
    }
    let kept = std::fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(text, kept, "{name} is another; if that is right: GANTRY_SNAPSHOTS=accept");
}

#[test]
fn the_bundle_of_a_result() {
    let bundle = bundle(&told(), &subject(), &naming(), &[], &RESULT_SHA256).expect("a bundle");
    snapshot("bundle.json", &normalised(&format!("{bundle:#}\n")));
}

#[test]
fn the_oru_of_a_result() {
    let oru = message(&told(), &subject(), &envelope(), &RESULT_SHA256);
    assert!(oru.bytes.contains(&0xFC), "Latin-1, as the study");
    let text: String = oru.bytes.iter().map(|b| if *b == b'\r' { '\n' } else { char::from(*b) }).collect();
    snapshot("oru.hl7", &normalised(&text));
    let read = Message::parse(&oru.bytes, 100).expect("a message");
    assert_eq!((read.header(18, 1), read.header(10, 1)), ("8859/1".into(), oru.control_id));
    assert!(!text.contains("\nOBX|99|"), "what a module says makes no segment");
}

#[test]
fn a_triage_tells_the_placer_that_the_order_is_more_urgent() {
    let update = order_update(&told(), &subject(), &envelope(), &RESULT_SHA256).expect("a message");
    let text = String::from_utf8_lossy(&update.bytes).into_owned();
    assert!(text.contains("\rORC|XX|4711^RIS|ACC1||||^^^^^S||20240301101502+0000|"), "{text}");
    let rules = crate::config::Hl7Config::default().rules();
    let read = super::hl7::order::read(&Message::parse(&update.bytes, 10).expect("a message"), &rules);
    let Ok(super::hl7::order::Inbound::Orders(orders)) = read else { panic!("{text}") };
    assert_eq!((orders[0].accession_number.as_str(), orders[0].priority), ("ACC1", crate::findings::Urgency::Urgent));
    let nobody = Subject { accession_number: String::new(), placer_order_number: String::new(), ..subject() };
    assert!(order_update(&told(), &nobody, &envelope(), &RESULT_SHA256).is_none());
    let mut calm = told();
    calm.findings.triage[0].level = crate::findings::Urgency::Routine;
    assert!(order_update(&calm, &subject(), &envelope(), &RESULT_SHA256).is_none());
}

#[test]
fn the_same_result_is_the_same_message_and_a_later_version_has_the_same_identifiers() {
    let make = |result: serde_json::Value, sha256: [u8; 32]| {
        let told = Told::read(result.to_string().as_bytes()).expect("a result");
        (
            bundle(&told, &subject(), &naming(), &[], &sha256).expect("a bundle"),
            message(&told, &subject(), &envelope(), &sha256).bytes,
        )
    };
    assert_eq!(make(result(), RESULT_SHA256), make(result(), RESULT_SHA256));
    let mut later = result();
    later["time"] = json!("111502");
    later["findings"]["triage"][0]["probability"] = json!(0.99);
    let requests = |bundle: &serde_json::Value| -> Vec<serde_json::Value> {
        bundle["entry"].as_array().expect("entries").iter().map(|entry| entry["request"].clone()).collect()
    };
    let (first, second) = (make(result(), RESULT_SHA256).0, make(later.clone(), [8; 32]).0);
    assert_eq!(requests(&first), requests(&second), "each takes the place of the one before");
    assert_ne!(first["identifier"], second["identifier"]);
    // Another module says something else.
    later["module"]["identity_sha256"] = json!("06".repeat(32));
    let third = make(later, [7; 32]).0;
    let shared: Vec<_> = requests(&first).into_iter().filter(|request| requests(&third).contains(request)).collect();
    assert_eq!(shared.len(), 1, "only the study is the same: {shared:?}");
}

#[test]
fn what_a_later_version_does_not_say_again_is_withdrawn_with_it() {
    let make = |result: &serde_json::Value, earlier: &[Statement]| {
        let told = Told::read(result.to_string().as_bytes()).expect("a result");
        bundle(&told, &subject(), &naming(), earlier, &RESULT_SHA256).expect("a bundle")
    };
    let withdrawn = |bundle: &serde_json::Value| -> Vec<serde_json::Value> {
        let entries = bundle["entry"].as_array().expect("entries").iter();
        entries.filter(|entry| entry["resource"]["status"] == "entered-in-error").cloned().collect()
    };
    let first = make(&result(), &[]);
    assert!(withdrawn(&first).is_empty());
    let said = statements(&first);
    let mut calm = result();
    calm["findings"]["triage"] = json!([]);
    calm["findings"]["measurements"] = json!([result()["findings"]["measurements"][0]]);
    let second = make(&calm, &said);
    assert_eq!(
        second,
        make(&calm, &said.iter().rev().cloned().collect::<Vec<_>>()),
        "in whichever order they were told"
    );
    let gone = withdrawn(&second);
    let [one, other] = gone.as_slice() else { panic!("the triage and a measurement: {gone:#?}") };
    for entry in [one, other] {
        let resource = &entry["resource"];
        let value = resource["identifier"][0]["value"].as_str().expect("a URI");
        let before = said.iter().find(|statement| statement.identifier == value).expect("it was said before");
        assert_eq!((&resource["resourceType"], &resource["code"]), (&json!("Observation"), &before.code));
        assert_eq!(entry["request"]["method"], "PUT");
        let url = entry["request"]["url"].as_str().expect("an address");
        assert!(url.starts_with("Observation?identifier=") && url.ends_with(value), "{url} {value}");
        let values = resource.as_object().expect("an object").keys().filter(|key| key.starts_with("value"));
        assert_eq!(values.count(), 0, "{resource:#}");
    }
    let report = second["entry"].as_array().expect("entries").iter().map(|entry| &entry["resource"]);
    let report = report.clone().find(|resource| resource["resourceType"] == "DiagnosticReport").expect("one");
    assert_eq!(report["status"], "preliminary");
    let named =
        |entry: &serde_json::Value| report["result"].to_string().contains(entry["fullUrl"].as_str().expect("one"));
    assert!(!named(one) && !named(other), "{report:#}");

    // What was withdrawn is said no more, and can be said again.
    assert_eq!(statements(&second).len(), said.len() - 2);
    assert!(withdrawn(&make(&result(), &statements(&second))).is_empty());
    // Of another version of the module all is, its report too.
    calm["module"]["identity_sha256"] = json!("06".repeat(32));
    assert_eq!(withdrawn(&make(&calm, &said)).len(), said.len());
}

#[test]
fn nobody_is_made_or_guessed_unless_the_site_says_so() {
    let made = |naming: &Naming, subject: &Subject| bundle(&told(), subject, naming, &[], &RESULT_SHA256);
    let kinds = |bundle: &serde_json::Value| -> Vec<String> {
        let entries = bundle["entry"].as_array().expect("entries").iter();
        entries.map(|entry| entry["resource"]["resourceType"].as_str().expect("a type").to_owned()).collect()
    };
    let exists = made(&naming(), &subject()).expect("a bundle");
    assert!(!kinds(&exists).contains(&"Patient".to_owned()));
    let reference = "Patient?identifier=https://hospital.example/patients%7CP%5C%7C1";
    assert_eq!(exists["entry"][2]["resource"]["subject"]["reference"], reference, "{:#}", exists["entry"][2]);
    assert!(
        !exists.to_string().contains("Anna") && !exists.to_string().contains("1970"),
        "no more than the identifier"
    );

    let create = made(&Naming { patient: PatientReference::Create, ..naming() }, &subject()).expect("a bundle");
    let patient = &create["entry"][1];
    assert_eq!(patient["request"]["ifNoneExist"], "identifier=https://hospital.example/patients%7CP%5C%7C1");
    assert_eq!(patient["resource"]["name"][0]["family"], "Müller");

    let nobody = Naming { patient_system: None, issuer_systems: [].into(), ..naming() };
    assert_eq!(made(&nobody, &subject()), Err(BundleError::NoSystem));
    let unknown = Subject { patient: PatientEntry::default(), ..subject() };
    assert_eq!(made(&naming(), &unknown), Err(BundleError::NoPatient));
    let loose = Naming { patient: PatientReference::Identifier, ..nobody };
    let loose = made(&loose, &unknown).expect("a bundle");
    assert!(!kinds(&loose).contains(&"ImagingStudy".to_owned()), "one must say whose it is");
}

/// The same ID means one patient here and another elsewhere.
#[test]
fn an_id_of_another_issuer_is_not_taken_for_one_of_ours() {
    let ours = Naming { patient_system: Some("urn:oid:1.1".into()), ..naming() };
    let named = |issuer: &str| {
        let subject = Subject { patient: PatientEntry { issuer: issuer.into(), ..subject().patient }, ..subject() };
        let oru = message(&told(), &subject, &envelope(), &RESULT_SHA256).bytes;
        let oru = String::from_utf8_lossy(&oru).into_owned();
        assert!(oru.contains(&format!("\rPID|1||P\\F\\1^^^{issuer}^PI|")), "HL7 says the issuer as it is: {oru}");
        bundle(&told(), &subject, &ours, &[], &RESULT_SHA256).map(|bundle| bundle.to_string())
    };
    let system = |bundle: Result<String, BundleError>, system: &str| {
        let bundle = bundle.expect("a bundle");
        assert!(bundle.contains(&format!("Patient?identifier={system}%7CP")), "{bundle}");
    };
    system(named("HOSP"), "https://hospital.example/patients");
    system(named(""), "urn:oid:1.1");
    assert_eq!(named("ELSEWHERE"), Err(BundleError::NoSystem));
}

#[test]
fn boxes_and_the_title_of_a_heatmap_are_told() {
    let bundle = bundle(&told(), &subject(), &naming(), &[], &RESULT_SHA256).expect("a bundle");
    let entries = bundle["entry"].as_array().expect("entries").iter().map(|entry| &entry["resource"]);
    let boxes: Vec<_> = entries
        .filter(|resource| resource["note"][0]["text"].as_str().is_some_and(|text| text.starts_with("box: ")))
        .collect();
    let [first, second] = boxes.as_slice() else { panic!("{bundle:#}") };
    assert_eq!(first["note"][0]["text"], "box: columns 10 to 19, rows 20 to 39, slices 5 to 7 along the normal");
    assert_eq!(first["valueCodeableConcept"]["coding"][0]["code"], "50960005");
    assert_eq!(second["component"][0]["valueQuantity"]["value"], 0.25);
    assert_ne!(first["identifier"], second["identifier"]);
    assert!(bundle.to_string().contains("\"valueString\":\"Heatmap: Bleeding|likely\""), "{bundle:#}");
    let oru = String::from_utf8_lossy(&message(&told(), &subject(), &envelope(), &RESULT_SHA256).bytes).into_owned();
    let rows: Vec<_> = oru.split('\r').filter(|row| row.contains("|box: ") || row.contains("|Heatmap: ")).collect();
    let [first, second, heatmap] = rows.as_slice() else { panic!("{oru}") };
    let group = |row: &str| row.split('|').nth(4).unwrap_or_default().to_owned();
    assert_ne!(group(first), group(second), "each box has a group of its own");
    assert!(oru.contains(&format!("|121071^Finding^DCM|{}|50960005^Hemorrhage^SCT|||", group(first))), "{oru}");
    assert!(heatmap.contains("|Heatmap: Bleeding\\F\\likely|"), "{heatmap}");
}

fn unfit() -> serde_json::Value {
    let mut unfit = result();
    unfit["status"] = json!("unfit");
    unfit["findings"] = json!({
        "segments": [], "measurements": [], "classifications": [], "triage": [],
        "unfit": { "reason": code("X", "99VENDOR", "Too few slices"), "detail": "3 slices" },
    });
    unfit
}

#[test]
fn an_unfit_version_withdraws_nothing_and_one_that_is_fit_after_it_does() {
    let make = |result: &serde_json::Value, earlier: &[Statement]| {
        let told = Told::read(result.to_string().as_bytes()).expect("a result");
        let bundle = bundle(&told, &subject(), &naming(), earlier, &RESULT_SHA256).expect("a bundle");
        let withdrawn = bundle["entry"].as_array().expect("entries").iter();
        let withdrawn = withdrawn.filter(|entry| entry["resource"]["status"] == "entered-in-error").count();
        (withdrawn, standing(&told, &bundle, earlier))
    };
    let (_, first) = make(&result(), &[]);
    let (withdrawn, second) = make(&unfit(), &first);
    assert_eq!(withdrawn, 0, "nobody said that there is no bleeding");
    assert!(first.iter().all(|said| second.iter().any(|now| now.identifier == said.identifier)), "it still stands");
    assert_eq!(second.len(), first.len() + 1, "and that the input was unfit");
    assert_eq!(make(&unfit(), &second), (0, second.clone()), "however often it is unfit");

    let mut nothing = result();
    for kind in ["segments", "measurements", "classifications", "triage", "marks"] {
        nothing["findings"][kind] = json!([]);
    }
    nothing["findings"]["heatmap"] = json!(null);
    let (withdrawn, third) = make(&nothing, &second);
    // All but the report, which is the same one.
    assert_eq!((withdrawn, third.len()), (second.len() - 1, 1), "the first version's, and that it was unfit");
    assert_eq!(make(&result(), &second).0, 1, "what is found again stands; that it was unfit does not");
}

#[test]
fn an_unfit_input_is_told() {
    let told = Told::read(unfit().to_string().as_bytes()).expect("a result");
    assert!(told.is_unfit());
    let bundle = bundle(&told, &subject(), &naming(), &[], &RESULT_SHA256).expect("a bundle").to_string();
    assert!(bundle.contains("not fit for this algorithm: 3 slices") && !bundle.contains("\"Task\""), "{bundle}");
    let oru = message(&told, &subject(), &envelope(), &RESULT_SHA256).bytes;
    let oru = String::from_utf8_lossy(&oru).into_owned();
    assert!(oru.contains("The images were not fit for this algorithm: 3 slices") && !oru.contains("TQ1"), "{oru}");
}
