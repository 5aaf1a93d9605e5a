//! Results on a FHIR R4 server that is not ours: Medplum's router, search and validator, on a repository in memory.

use std::collections::BTreeSet;

use dicom_core::{DataElement, PrimitiveValue, VR};
use dicom_dictionary_std::{tags, uids};
use gantry::messages::Subject;
use gantry::messages::fhir::{Naming, PatientReference, bundle, statements};
use gantry_tests::fhir::FhirServer;
use gantry_tests::node::{Node, eventually};
use gantry_tests::{Scenario, change_files, write_ct};
use serde_json::{Value, json};

use crate::messages::{deliveries, subject, told, with_triage};
use crate::node::{send, site};

const SYSTEM: &str = "https://hospital.example/patients";

/// What resources refer to by address.
fn references(value: &Value) -> Vec<&str> {
    match value {
        Value::Object(fields) => {
            let own = fields.get("reference").and_then(Value::as_str);
            own.into_iter().chain(fields.values().flat_map(references)).collect()
        }
        Value::Array(list) => list.iter().flat_map(references).collect(),
        _ => Vec::new(),
    }
}

fn ids(resources: &[Value]) -> BTreeSet<String> {
    let name = |resource: &Value| format!("{}/{}", resource["resourceType"], resource["id"]).replace('"', "");
    resources.iter().map(name).collect()
}

/// Everything there is, each once and each reference to one of them.
fn sound(server: &FhirServer) -> Vec<Value> {
    let all = server.all();
    let known = ids(&all);
    assert_eq!(known.len(), all.len());
    for resource in &all {
        for reference in references(resource) {
            assert!(known.contains(reference), "{reference} leads nowhere: {resource:#}");
        }
    }
    all
}

fn of<'r>(all: &'r [Value], kind: &str) -> Vec<&'r Value> {
    all.iter().filter(|resource| resource["resourceType"] == kind).collect()
}

fn naming(patient: PatientReference, provenance: bool) -> Naming {
    Naming {
        issuer_systems: [("HOSP".to_owned(), SYSTEM.to_owned())].into(),
        patient,
        task: true,
        provenance,
        ..Naming::default()
    }
}

fn anna() -> Subject {
    let mut subject = subject("ISO_IR 192", "Müller^Anna");
    subject.patient.id = "P1".into();
    subject
}

/// The small CT, whole, with a liver in one slice (100 HU) or without one.
fn send_ct(node: &Node, liver: bool, only_that_slice: bool) {
    let folder = tempfile::tempdir().expect("a folder");
    write_ct(folder.path()).expect("written");
    change_files(folder.path(), |_, slice| {
        slice.put_str(tags::NUMBER_OF_STUDY_RELATED_INSTANCES, VR::IS, "10");
        if slice.element(tags::SOP_INSTANCE_UID).expect("there").to_str().expect("text").trim_end_matches('\0')
            == "2.25.15"
        {
            let voxels: Vec<u16> = (0..256).map(|i| if liver && i < 64 { 1124 } else { 24 }).collect();
            slice.put(DataElement::new(tags::PIXEL_DATA, VR::OW, PrimitiveValue::U16(voxels.into())));
        } else if only_that_slice {
            slice.remove_element(tags::SOP_INSTANCE_UID);
        }
    })
    .expect("changed");
    for file in std::fs::read_dir(folder.path()).expect("readable") {
        let path = file.expect("a file").path();
        let file = dicom_object::open_file(&path).expect("readable");
        if file.get(tags::SOP_INSTANCE_UID).is_none() {
            std::fs::remove_file(path).expect("removed");
        }
    }
    send(node, folder.path(), uids::EXPLICIT_VR_LITTLE_ENDIAN);
}

/// The number of a code's Observations, by status.
fn measured(all: &[Value], status: &str) -> usize {
    let volume = |resource: &&&Value| resource["code"]["coding"][0]["code"] == "118565006";
    of(all, "Observation").iter().filter(volume).filter(|resource| resource["status"] == status).count()
}

#[test]
fn a_result_is_found_on_a_fhir_server_once_and_a_later_version_takes_its_place() {
    let Some(server) = FhirServer::start(false) else { return };
    let Some(module) = Scenario::rogue("segments") else { return };
    let config = format!(
        "[node]\nduplicates = \"replace\"\n[[destinations]]\nname = \"ehr\"\nfhir = {{ url = \"{}\", patient = \"create\", \
         patient_system = \"{SYSTEM}\" }}\n",
        server.url()
    );
    let node = Node::start(&site(module.package_folder(), &config));
    let sent = |n: usize| {
        eventually("it is sent", || {
            let rows = deliveries(&node);
            rows.len() == n && rows.iter().all(|row| row["state"] == "sent")
        });
    };
    send_ct(&node, true, false);
    sent(1);
    let first = sound(&server);
    let observations = of(&first, "Observation");
    let [patient, report] = ["Patient", "DiagnosticReport"].map(|kind| {
        let [one] = of(&first, kind).try_into().unwrap_or_else(|all| panic!("one: {all:#?}"));
        one
    });
    assert_eq!(patient["identifier"][0]["value"], "SECRET-ID");
    assert_eq!(
        server.search(&format!("Observation?subject=Patient/{}", patient["id"].as_str().expect("an ID"))).len(),
        observations.len()
    );
    let identifier = report["identifier"][0]["value"].as_str().expect("a UID");
    let found = server.search(&format!("DiagnosticReport?identifier=urn:ietf:rfc:3986%7C{identifier}"));
    assert_eq!(found, std::slice::from_ref(report));
    let named: BTreeSet<&str> = references(&report["result"]).into_iter().collect();
    assert_eq!(named.len(), observations.len(), "all of them");
    assert_eq!(server.search("ImagingStudy?identifier=urn:dicom:uid%7Curn:oid:2.25.2").len(), 1);
    let livers = measured(&first, "preliminary");

    // The same again.
    let id = deliveries(&node)[0]["id"].to_string();
    assert_eq!(node.says(&["outbox", "retry", &id]).code, Some(0));
    sent(1);
    assert_eq!(node.audited("result-delivered").len(), 2);
    let again = sound(&server);
    assert_eq!((ids(&again), measured(&again, "preliminary")), (ids(&first), livers), "it is there once");

    // A later version of the study, in which there is no liver.
    send_ct(&node, false, true);
    sent(2);
    let later = sound(&server);
    assert_eq!(ids(&later), ids(&first), "each takes the place of the one before");
    assert_eq!((measured(&later, "preliminary"), measured(&later, "entered-in-error")), (livers - 1, 1));
    let [withdrawn] = server.search("Observation?status=entered-in-error").try_into().expect("one");
    assert!(withdrawn.get("valueQuantity").is_none() && withdrawn["note"][0]["text"].is_string(), "{withdrawn:#}");
    assert_eq!(withdrawn["subject"]["reference"], format!("Patient/{}", patient["id"].as_str().expect("an ID")));
    let [report] = of(&later, "DiagnosticReport").try_into().unwrap_or_else(|all| panic!("one: {all:#?}"));
    let named: BTreeSet<&str> = references(&report["result"]).into_iter().collect();
    assert_eq!(named.len(), observations.len() - 1);
    assert!(!named.contains(format!("Observation/{}", withdrawn["id"].as_str().expect("an ID")).as_str()));

    // Once more: it withdraws the same.
    let id = deliveries(&node).iter().map(|row| row["id"].as_i64().expect("an ID")).max().expect("some").to_string();
    assert_eq!(node.says(&["outbox", "retry", &id]).code, Some(0));
    sent(2);
    let last = sound(&server);
    assert_eq!((ids(&last), measured(&last, "entered-in-error")), (ids(&first), 1));
    assert!(!node.log().contains("SECRET"), "no patient data");
}

#[test]
fn a_triage_is_a_task_that_stays_when_a_later_version_is_calm() {
    let Some(server) = FhirServer::start(false) else { return };
    let Some(told) = told("segments").map(with_triage) else { return };
    let naming = naming(PatientReference::Create, true);
    let subject = anna();
    let post = |bundle: &Value| {
        let (status, answer) = server.rest("POST", "/", &bundle.to_string());
        assert_eq!((status, &answer["type"]), (200, &"transaction-response".into()), "{answer:#}");
        let well = |entry: &Value| entry["response"]["status"].as_str().is_some_and(|status| status.starts_with('2'));
        assert!(answer["entry"].as_array().expect("entries").iter().all(well), "{answer:#}");
    };
    let first = bundle(&told, &subject, &naming, &[], &[1; 32]).expect("a bundle");
    post(&first);
    let tasks = server.search("Task?status=requested");
    let [task] = tasks.as_slice() else { panic!("{tasks:#?}") };
    assert_eq!((&task["priority"], &task["intent"]), (&json!("stat"), &json!("proposal")));
    let report = &server.search("DiagnosticReport")[0];
    assert_eq!(task["focus"]["reference"], format!("DiagnosticReport/{}", report["id"].as_str().expect("an ID")));
    let all = sound(&server);

    // Somebody has begun on it.
    let mut begun = task.clone();
    begun["status"] = json!("in-progress");
    let path = format!("/Task/{}", task["id"].as_str().expect("an ID"));
    assert_eq!(server.rest("PUT", &path, &begun.to_string()).0, 200);
    post(&first);
    assert_eq!(server.search("Task?status=in-progress").len(), 1, "it is left alone");

    let mut calm = told;
    calm.findings.triage.clear();
    post(&bundle(&calm, &subject, &naming, &statements(&first), &[2; 32]).expect("a bundle"));
    assert_eq!(server.search("Task?status=in-progress").len(), 1, "nothing lowers");
    assert_eq!(server.search("Observation?status=entered-in-error").len(), 1, "the triage holds no more");
    assert_eq!(ids(&sound(&server)), ids(&all));
}

/// Medplum takes a transaction with conditional entries where they are few, and so not what most modules state.
#[test]
fn a_server_that_takes_all_or_nothing_takes_a_small_result_and_refuses_a_large_one_whole() {
    let Some(server) = FhirServer::start(true) else { return };
    let (Some(small), Some(large)) = (told("well-behaved"), told("segments")) else { return };
    let naming = naming(PatientReference::Create, false);
    let made = |told| bundle(told, &anna(), &naming, &[], &[1; 32]).expect("a bundle");
    for _ in 0..2 {
        let (status, answer) = server.rest("POST", "/", &made(&small).to_string());
        assert_eq!((status, &answer["type"]), (200, &"transaction-response".into()), "{answer:#}");
        assert_eq!(sound(&server).len(), made(&small)["entry"].as_array().expect("entries").len());
    }
    let before = sound(&server);
    let (status, answer) = server.rest("POST", "/", &made(&large).to_string());
    assert_eq!((status, &answer["resourceType"]), (400, &"OperationOutcome".into()), "{answer:#}");
    assert_eq!(sound(&server), before, "nothing of it");

    let Some(module) = Scenario::rogue("segments") else { return };
    let config = format!(
        "[[destinations]]\nname = \"ehr\"\nfhir = {{ url = \"{}\", patient = \"create\", patient_system = \"{SYSTEM}\" }}\n",
        server.url()
    );
    let node = Node::start(&site(module.package_folder(), &config));
    send_ct(&node, true, false);
    eventually("it is given up", || deliveries(&node).first().is_some_and(|row| row["state"] == "dead"));
    let error = deliveries(&node)[0]["error"].to_string();
    assert!(error.contains("status 400") && error.contains("has too many entries"), "{error}");
}
