//! Earlier studies reach a module that asks for them and was granted them: the real node, with Orthanc as the archive.

use std::collections::BTreeSet;
use std::net::TcpListener;
use std::path::Path;

use dicom_core::VR;
use dicom_dictionary_std::{tags, uids};
use gantry::pipeline::RunError;
use gantry::priors::{NotPrior, PriorError};
use gantry::study::ReadError;
use gantry_tests::node::{Node, eventually};
use gantry_tests::orthanc::Orthanc;
use gantry_tests::{MANIFEST, Scenario, change_files, needed};
use serde_json::Value;

use crate::completion::{Ct, Slice, stated};
use crate::dicomweb::get;
use crate::node::{json, send, send_ct, site};

/// Of the small CT, of 2024-01-02.
const STUDY: &str = "2.25.2";
const INTERFACE: &str = "gantry:imaging/priors";
const GRANT: &str = "grants = [\"gantry:imaging/priors\"]\n";
const EXPLICIT: &str = uids::EXPLICIT_VR_LITTLE_ENDIAN;

/// A module that compares with earlier studies.
fn module() -> Option<Scenario> {
    asking("priors")
}

/// A module around a guest of `tests/guests/rogue` that asks for earlier studies.
fn asking(guest: &str) -> Option<Scenario> {
    let component = needed(&format!("target/guests/rogue/{guest}.wasm"), "cargo xtask guests")?;
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
fn earlier_studies_that_are_named_are_shown_by_the_rules_of_a_node() {
    let Some(mut scenario) = module() else { return };
    scenario.grants = vec![INTERFACE.into()];
    let (older, later) = (ct("2.25.301", "20230102", 0), ct("2.25.302", "20231203", 5));
    scenario.priors = [&older, &later].map(|ct| ct.folder.path().to_owned()).to_vec();
    let done = serde_json::to_value(scenario.run().expect("done")).expect("JSON");
    let expected = [("DAYS", 30), ("CHANGE", 216), ("DAYS", 365), ("CHANGE", 0)];
    assert_eq!(compared(&done), expected.map(|(code, value)| (code.to_owned(), value)), "the latest first: {done}");
    let told = &done["input"]["priors"];
    assert_eq!((&told[0]["study_instance_uid"], &told[1]["days_before"]), (&"2.25.302".into(), &365.into()));
    assert_eq!(told[0]["series"][0]["decoded"].as_array().map(Vec::len), Some(10), "{told}");
    assert!(scenario.out().join("report.dcm").is_file());

    scenario.config.limits.priors_max = 1;
    let done = serde_json::to_value(scenario.run().expect("done")).expect("JSON");
    assert_eq!(compared(&done), expected[..2].iter().map(|(code, n)| ((*code).to_owned(), *n)).collect::<Vec<_>>());
    assert!(warned(&done, "the latest 1 of 2 earlier studies"), "{done}");
}

/// Why these are not shown.
fn not_shown(scenario: &mut Scenario, priors: &[&Path]) -> PriorError {
    scenario.priors = priors.iter().map(|&path| path.to_owned()).collect();
    match scenario.refused() {
        RunError::Prior(error) => error,
        other => panic!("not the earlier studies: {other:?}"),
    }
}

#[test]
fn a_study_that_is_no_earlier_one_of_the_patient_is_refused() {
    let Some(mut scenario) = module() else { return };
    scenario.grants = vec![INTERFACE.into()];
    change_files(scenario.study(), |_, slice| drop(slice.put_str(tags::ISSUER_OF_PATIENT_ID, VR::LO, "A")))
        .expect("changed");
    let with = |change: fn(usize, &mut Slice)| {
        Ct::new("2.25.311", |index, slice| {
            slice.put_str(tags::STUDY_DATE, VR::DA, "20231203");
            change(index, slice);
        })
    };
    let others = [
        (with(|_, slice| drop(slice.put_str(tags::PATIENT_ID, VR::LO, "SECRET-ID-2"))), "PatientID (0010,0020)"),
        (with(|_, slice| drop(slice.put_str(tags::PATIENT_ID, VR::LO, ""))), "PatientID (0010,0020)"),
        // Of one of its files only.
        (
            with(|index, slice| {
                if index == 7 {
                    slice.put_str(tags::ISSUER_OF_PATIENT_ID, VR::LO, "B");
                }
            }),
            "IssuerOfPatientID (0010,0021)",
        ),
    ];
    for (other, by) in &others {
        match not_shown(&mut scenario, &[other.folder.path()]) {
            PriorError::Not { reason: NotPrior::Patient(found), .. } => assert_eq!(&found, by),
            error => panic!("{by}: {error:?}"),
        }
    }
    for (other, expected) in [
        (with(|_, slice| drop(slice.put_str(tags::STUDY_DATE, VR::DA, "20240103"))), NotPrior::Date),
        (with(|_, slice| drop(slice.put_str(tags::STUDY_DATE, VR::DA, ""))), NotPrior::Date),
        (with(|_, slice| drop(slice.put_str(tags::MODALITY, VR::CS, "MR"))), NotPrior::Modality),
    ] {
        let error = not_shown(&mut scenario, &[other.folder.path()]);
        assert!(matches!(&error, PriorError::Not { reason, .. } if *reason == expected), "{error:?}");
    }
    let own = scenario.study().to_owned();
    let error = not_shown(&mut scenario, &[&own]);
    assert!(matches!(error, PriorError::Not { reason: NotPrior::Itself, .. }), "{error:?}");
    let good = with(|_, _| ());
    let error = not_shown(&mut scenario, &[good.folder.path(), good.folder.path()]);
    assert!(matches!(error, PriorError::Twice(_)), "{error:?}");
    let error = not_shown(&mut scenario, &[Path::new("/nowhere")]);
    assert!(matches!(error, PriorError::Read { .. }), "{error:?}");
    let (first, second) = (with(|_, _| ()), ct("2.25.312", "20231203", 0));
    std::fs::copy(&second.files[0], first.folder.path().join("second.dcm")).expect("copied");
    let error = not_shown(&mut scenario, &[first.folder.path()]);
    assert!(
        matches!(&error, PriorError::Read { source, .. } if matches!(**source, ReadError::Studies(_))),
        "{error:?}"
    );
}

#[test]
fn earlier_studies_are_named_on_the_command_line() {
    let (Some(module), Some(other)) = (module(), Scenario::rogue("well-behaved")) else { return };
    let prior = ct("2.25.321", "20231203", 5);
    let path = prior.folder.path().to_str().expect("UTF-8");
    let says = module.command_says(&["--grant", INTERFACE, "--prior", path, "--json"]);
    let done = json(&says);
    assert_eq!(compared(&done), [("DAYS".into(), 30), ("CHANGE".into(), 216)], "{done}");
    assert!(!says.err.to_lowercase().contains("secret"), "no patient data: {says:?}");
    std::fs::remove_dir_all(module.out()).expect("removed");

    let patient = ct("2.25.322", "20231203", 5);
    change_files(patient.folder.path(), |_, slice| drop(slice.put_str(tags::PATIENT_ID, VR::LO, "SECRET-ID-2")))
        .expect("changed");
    let patient = patient.folder.path().to_str().expect("UTF-8");
    for (scenario, arguments, code, said) in [
        (&module, &["--grant", INTERFACE, "--prior", patient][..], 3, "this is no earlier study of the patient"),
        (&module, &["--prior", path], 2, "not granted (--grant gantry:imaging/priors)"),
        (&other, &["--prior", path], 2, "the module does not ask for gantry:imaging/priors"),
    ] {
        let says = scenario.command_says(arguments);
        assert!(says.code == Some(code) && says.err.contains(said), "{says:?}");
        assert!(!says.err.to_lowercase().contains("secret") && !scenario.out().exists(), "{says:?}");
    }
}

/// SOP and Series Instance UIDs of all that a run writes, when these earlier studies are named.
fn written(scenario: &mut Scenario, priors: &[&Ct]) -> Vec<String> {
    scenario.priors = priors.iter().map(|ct| ct.folder.path().to_owned()).collect();
    let done = scenario.run().expect("done");
    let uids = done.outputs.iter().flat_map(|output| [&output.sop_instance_uid, &output.series_instance_uid]);
    let uids: Vec<String> = uids.flatten().cloned().collect();
    assert!(!uids.is_empty(), "{:?}", done.outputs);
    uids
}

#[test]
fn what_looked_at_other_earlier_studies_is_another_result() {
    let (Some(mut compares), Some(mut does_not_look)) = (module(), asking("well-behaved")) else { return };
    let (prior, same) = (ct("2.25.331", "20231203", 5), ct("2.25.331", "20231203", 5));
    let (pixels, date, second) =
        (ct("2.25.331", "20231203", 4), ct("2.25.331", "20231204", 5), ct("2.25.332", "20231202", 5));
    compares.grants = vec![INTERFACE.into()];
    let first = written(&mut compares, &[&prior]);
    assert_eq!(first, written(&mut compares, &[&prior]), "a run that is repeated");
    assert_eq!(first, written(&mut compares, &[&same]), "the same files elsewhere");
    let mut all = vec![first];
    for others in [&[][..], &[&pixels], &[&date], &[&prior, &second]] {
        all.push(written(&mut compares, others));
    }
    let different: BTreeSet<&String> = all.iter().flatten().collect();
    assert_eq!(different.len(), all.iter().map(Vec::len).sum::<usize>(), "no UID stands for two: {all:?}");

    does_not_look.grants = vec![INTERFACE.into()];
    let without = written(&mut does_not_look, &[]);
    assert_eq!(without, written(&mut does_not_look, &[&prior]), "what the module did not ask for changes nothing");
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
    eventually("the log tells", || node.log().contains("earlier studies did not come within"));
}

#[test]
fn a_route_is_explained_with_the_wait_for_earlier_studies() {
    let (Some(module), Some(other)) = (module(), Scenario::rogue("well-behaved")) else { return };
    let (listener, url) = silent();
    let more = format!("{GRANT}[[modules]]\nname = \"other\"\npackage = {:?}\n", other.package_folder());
    let with = |pacs: &str| site(module.package_folder(), &format!("{more}{pacs}"));
    let waits = with(&pacs(&url)).replace("[schedule]\n", "[schedule]\npriors_wait_ms = 3600000\n");
    let mut node = Node::start(&waits);
    send_ct(&node);
    let _asked = listener.accept().expect("the archive is asked");
    let explained = |node: &Node| {
        let text = node.says(&["route", "explain", STUDY]);
        assert_eq!(text.code, Some(0), "{text:?}");
        let list = json(&node.says(&["route", "explain", STUDY, "--json"]));
        let of = |name: &str| list.as_array().and_then(|all| all.iter().find(|m| m["module"] == name).cloned());
        (text.out, of("rogue").expect("explained"), of("other").expect("explained"))
    };
    let (text, compares, other) = explained(&node);
    let limit = "for earlier studies from archive, at most 3600000 ms (schedule.priors_wait_ms)\n";
    assert!(text.contains(&format!("rogue would run\n  waits now {limit}")), "{text}");
    assert_eq!(compares["priors"], serde_json::json!({ "archives": ["archive"], "wait_max_ms": 3_600_000 }));
    assert_eq!((&compares["waits_for_priors"], &other["waits_for_priors"]), (&true.into(), &false.into()));
    assert!(other["priors"].is_null() && text.matches("earlier studies").count() == 1, "{text}");

    let id = job_that_is(&node, STUDY, "rogue", "gated")["id"].to_string();
    assert_eq!(node.says(&["job", "cancel", &id]).code, Some(0));
    let (text, compares, _) = explained(&node);
    assert!(text.contains(&format!("  would wait {limit}")), "{text}");
    assert_eq!(compares["waits_for_priors"], false);

    assert!(node.stop(), "{}", node.log());
    let node = node.again(&with(""));
    let (text, compares, _) = explained(&node);
    assert!(
        text.contains("  sees earlier studies that are here; no archive is asked for others (pacs.priors)\n"),
        "{text}"
    );
    assert_eq!(compares["priors"]["archives"], serde_json::json!([]));
}

#[test]
fn what_was_fetched_goes_when_the_job_that_is_to_see_it_is_over() {
    let (Some(module), Some(orthanc)) = (asking("loop"), Orthanc::start()) else { return };
    ct("2.25.231", "20231203", 0).files.iter().for_each(|file| orthanc.keep(file).expect("kept"));
    let config = site(module.package_folder(), &format!("{GRANT}{}", pacs(&orthanc.dicom_web())));
    let mut node = Node::start(&config);
    send_ct(&node);
    eventually("the guest starts", || node.log().contains("the guest starts"));
    node.kill();
    // There is never as much space, and a job that sees it is taken up.
    let node = node.again(&format!("{config}[retention]\ninterval_ms = 100\ndisk_target_free_mib = 1073741824\n"));
    eventually("the guest starts", || node.log().contains("the guest starts"));
    let nothing_runs_on_it = Ct::new("2.25.232", |_, slice| {
        stated(slice, 10);
        slice.put_str(tags::MODALITY, VR::CS, "MR");
    });
    send(&node, nothing_runs_on_it.folder.path(), EXPLICIT);
    eventually("retention came by", || audited(&node, "2.25.232", "study-deleted").len() == 1);
    assert!(audited(&node, "2.25.231", "study-deleted").is_empty() && node.instance("2.25.231.1.0").is_some());

    let id = job_that_is(&node, STUDY, "rogue", "running")["id"].to_string();
    assert_eq!(node.says(&["job", "cancel", &id]).code, Some(0));
    eventually("it goes", || !audited(&node, "2.25.231", "study-deleted").is_empty());
    let detail = &audited(&node, "2.25.231", "study-deleted")[0]["detail"];
    assert_eq!(detail, "10 instances, 0 results by retention.disk_target_free_mib");
    eventually("no file is left", || node.files("instances").is_empty());
    assert_eq!(get(&node, "/dicom-web/studies/2.25.231/metadata").status, 404);
    assert_eq!(json(&node.says(&["audit", "verify", "--json"]))["state"], "whole");
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
