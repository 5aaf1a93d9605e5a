//! Earlier studies reach a module that asks for them and was granted them: the real node, with Orthanc as the archive.

use std::net::TcpListener;

use dicom_core::VR;
use dicom_dictionary_std::{tags, uids};
use gantry::pipeline::RunError;
use gantry_tests::node::{Node, eventually};
use gantry_tests::orthanc::Orthanc;
use gantry_tests::{MANIFEST, Scenario, needed};
use serde_json::Value;

use crate::completion::{Ct, stated};
use crate::node::{json, send, send_ct, site};

/// Of the small CT, of 2024-01-02.
const STUDY: &str = "2.25.2";
const GRANT: &str = "grants = [\"gantry:imaging/priors\"]\n";
const EXPLICIT: &str = uids::EXPLICIT_VR_LITTLE_ENDIAN;

/// A module that compares with earlier studies.
fn module() -> Option<Scenario> {
    let component = needed("target/guests/rogue/priors.wasm", "cargo xtask guests")?;
    let asks = "\"gantry:imaging/priors\"]\nattributes = [\"SliceThickness\"]\npriors_max = 3";
    let manifest = MANIFEST.replace("\"wasi:nn\"]", asks);
    Some(Scenario::new(&std::fs::read(component).expect("readable"), &manifest).expect("a scenario"))
}

/// A CT of the same patient that states its ten slices; with nothing in the slices before `air`.
fn ct(uid: &str, date: &'static str, air: usize) -> Ct {
    Ct::new(uid, |index, slice| {
        slice.put_str(tags::STUDY_DATE, VR::DA, date);
        stated(slice, 10);
        if index < air {
            let pixels = dicom_core::PrimitiveValue::U16(vec![24_u16; 256].into());
            slice.put(dicom_core::DataElement::new(tags::PIXEL_DATA, VR::OW, pixels));
        }
    })
}

/// `[[pacs]]` that gives earlier studies, and is asked nothing else.
fn pacs(url: &str) -> String {
    format!("[[pacs]]\nname = \"archive\"\nurl = {url:?}\npriors = true\nsources = [\"NOBODY\"]\n")
}

/// Jobs of a study.
fn jobs(node: &Node, study: &str) -> Vec<Value> {
    let list = json(&node.says(&["job", "list", "--json", "--study", study]));
    list["jobs"].as_array().expect("a list").clone()
}

/// The job of a module on a study, once it is in this state.
fn job_that_is(node: &Node, study: &str, module: &str, state: &str) -> Value {
    let mut found = None;
    eventually(&format!("{module} is {state}"), || {
        found = jobs(node, study).into_iter().find(|job| job["module"] == module && job["state"] == state);
        found.is_some()
    });
    found.expect("a job")
}

fn result(node: &Node, job: &Value) -> Value {
    let folder = node.data().join(job["result_path"].as_str().expect("a result"));
    serde_json::from_slice(&std::fs::read(folder.join("result.json")).expect("readable")).expect("JSON")
}

/// Days before and change in µL, as the module measured.
fn compared(result: &Value) -> Vec<(String, i64)> {
    let measurements = result["findings"]["measurements"].as_array().expect("a list");
    let brief = |m: &Value| {
        let (code, value) = (m["quantity"]["value"].as_str().expect("a code"), m["value"].as_f64().expect("a number"));
        (code.to_owned(), if code == "CHANGE" { (value * 1000.0).round() as i64 } else { value as i64 })
    };
    measurements.iter().map(brief).collect()
}

fn warned(result: &Value, expected: &str) -> bool {
    let warnings = result["warnings"].as_array().expect("a list");
    warnings.iter().any(|warning| warning.as_str().is_some_and(|text| text.contains(expected)))
}

fn audited(node: &Node, study: &str, action: &str) -> Vec<Value> {
    let said = node.says(&["audit", "show", "--study", study, "--json"]);
    assert_eq!(said.code, Some(0), "{said:?}");
    let rows = said.out.lines().map(|line| serde_json::from_str(line).expect("JSON"));
    rows.filter(|row: &Value| row["action"] == action).collect()
}

/// Takes connections, and never answers.
fn silent() -> (TcpListener, String) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    (listener, url)
}

#[test]
fn a_module_compares_with_what_the_archive_gives() {
    let (Some(module), Some(orthanc)) = (module(), Orthanc::start()) else { return };
    // Bone fills 6 of 10 slices: 6 × 6 × 6 voxels of 2 mm³. Half of it was not there a month before.
    let prior = ct("2.25.201", "20231203", 5);
    let other = Ct::new("2.25.202", |_, slice| {
        slice.put_str(tags::STUDY_DATE, VR::DA, "20231203");
        slice.put_str(tags::PATIENT_ID, VR::LO, "SECRET-ID-2");
    });
    [&prior, &other].iter().flat_map(|ct| &ct.files).for_each(|file| orthanc.keep(file).expect("kept"));
    let config = site(module.package_folder(), &format!("{GRANT}{}", pacs(&orthanc.dicom_web())));
    let node = Node::start(&config);
    send_ct(&node);
    let done = result(&node, &job_that_is(&node, STUDY, "rogue", "done"));
    assert_eq!(compared(&done), [("DAYS".into(), 30), ("CHANGE".into(), 216)], "{done}");
    let earlier = &done["input"]["priors"];
    assert_eq!(earlier.as_array().map(Vec::len), Some(1), "{done}");
    assert_eq!((&earlier[0]["study_instance_uid"], &earlier[0]["days_before"]), (&"2.25.201".into(), &30.into()));
    let decoded = earlier[0]["series"][0]["decoded"].as_array().expect("a list");
    assert!(decoded.len() == 10 && decoded[0]["sha256"].as_str().is_some_and(|digest| digest.len() == 64), "{done}");
    assert_eq!(earlier[0]["pseudonym"].as_str().map(str::len), Some(32));
    assert!(!warned(&done, "earlier stud"), "{done}");

    // It is no work.
    let fetched = audited(&node, "2.25.201", "prior-fetched");
    assert_eq!(fetched.len(), 1, "{fetched:?}");
    assert_eq!(
        (&fetched[0]["object"], &fetched[0]["detail"]),
        (&"for v1 of 2.25.2".into(), &"10 instances from archive".into())
    );
    assert!(audited(&node, "2.25.201", "study-closed").is_empty() && jobs(&node, "2.25.201").is_empty());
    assert!(audited(&node, "2.25.202", "instance-stored").is_empty(), "another patient's");

    // Until somebody sends it.
    send(&node, prior.folder.path(), EXPLICIT);
    let first = result(&node, &job_that_is(&node, "2.25.201", "rogue", "done"));
    assert_eq!(compared(&first), [], "{first}");
    assert_eq!(audited(&node, "2.25.201", "study-closed")[0]["detail"], "by stated: 10 instances");
    assert_eq!(jobs(&node, STUDY).len(), 1);
    assert_eq!(json(&node.says(&["audit", "verify", "--json"]))["state"], "whole");
    assert!(!node.log().contains("SECRET") && !node.log().contains("Secret"), "no patient data: {}", node.log());
}

#[test]
fn what_was_sent_before_is_an_earlier_study_without_an_archive() {
    let Some(module) = module() else { return };
    let node = Node::start(&site(module.package_folder(), &format!("{GRANT}[limits]\npriors_max = 1\n")));
    for (uid, date) in [("2.25.211", "20230102"), ("2.25.212", "20231203"), ("2.25.213", "20240301")] {
        send(&node, ct(uid, date, 0).folder.path(), EXPLICIT);
        job_that_is(&node, uid, "rogue", "done");
    }
    send_ct(&node);
    let done = result(&node, &job_that_is(&node, STUDY, "rogue", "done"));
    assert_eq!(compared(&done), [("DAYS".into(), 30), ("CHANGE".into(), 0)], "the latest of those before: {done}");
}

#[test]
fn earlier_studies_are_denied_unless_the_operator_grants_them() {
    let Some(mut scenario) = module() else { return };
    let error = scenario.refused();
    assert!(matches!(error, RunError::Prepare(_)), "{error:?}");
    assert!(error.to_string().contains("--grant gantry:imaging/priors"), "{error}");
    scenario.grants = vec!["gantry:imaging/priors".into()];
    let done = scenario.run().expect("granted");
    assert!(done.input.priors.is_empty() && done.findings.measurements.is_empty());
    assert!(done.module.grants.contains(&"gantry:imaging/priors".to_owned()));
}

#[test]
fn a_dead_archive_delays_what_asks_for_it_and_nothing_else() {
    let (Some(module), Some(other)) = (module(), Scenario::rogue("well-behaved")) else { return };
    let (_listener, url) = silent();
    let more = format!(
        "{GRANT}[[modules]]\nname = \"other\"\npackage = {:?}\n[limits]\njobs_max = 1\n{}",
        other.package_folder(),
        pacs(&url)
    );
    let config = site(module.package_folder(), &more).replace("[schedule]\n", "[schedule]\npriors_wait_ms = 2000\n");
    let node = Node::start(&config);
    send_ct(&node);
    let compares = job_that_is(&node, STUDY, "rogue", "done");
    let done = result(&node, &compares);
    assert!(warned(&done, "did not come within schedule.priors_wait_ms = 2000"), "{done}");
    assert_eq!(compared(&done), []);
    let other = job_that_is(&node, STUDY, "other", "done");
    assert!(other["ended_ms"].as_i64() < compares["started_ms"].as_i64(), "{other} {compares}");
    let waited = compares["started_ms"].as_i64().zip(compares["created_ms"].as_i64()).map(|(s, c)| s - c);
    assert!(waited.is_some_and(|ms| (2000..10_000).contains(&ms)), "{compares}");
    assert!(node.log().contains("earlier studies did not come within"), "{}", node.log());
}

#[test]
fn a_job_that_waits_for_an_archive_is_cancelled_and_survives_a_kill() {
    let (Some(module), Some(orthanc)) = (module(), Orthanc::start()) else { return };
    ct("2.25.221", "20231203", 0).files.iter().for_each(|file| orthanc.keep(file).expect("kept"));
    let (listener, url) = silent();
    let with = |url: &str| site(module.package_folder(), &format!("{GRANT}{}", pacs(url)));
    let mut node = Node::start(&with(&url));
    send_ct(&node);
    let asked = || listener.accept().expect("the archive is asked");
    let _first = asked();
    let waiting = job_that_is(&node, STUDY, "rogue", "gated");
    let id = waiting["id"].to_string();
    let says = node.says(&["job", "cancel", &id]);
    assert_eq!(says.code, Some(0), "{says:?}");
    job_that_is(&node, STUDY, "rogue", "cancelled");
    let says = node.says(&["job", "retry", &id]);
    assert_eq!(says.code, Some(0), "{says:?}");
    let _second = asked();
    node.kill();
    let node = node.again(&with(&orthanc.dicom_web()));
    let job = job_that_is(&node, STUDY, "rogue", "done");
    assert_eq!((job["id"].to_string(), &job["attempts"]), (id, &1.into()), "{job}");
    assert_eq!(compared(&result(&node, &job))[0], ("DAYS".into(), 30));
}
