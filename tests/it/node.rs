//! The whole node as a site runs it: the real `gantry serve`, from images on the wire to results, and every command that
//! looks at it. Nothing here reaches into it.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use dicom_core::VR;
use dicom_dictionary_std::{tags, uids};
use gantry_tests::command::{Said, gantry};
use gantry_tests::complete::complete;
use gantry_tests::dimse::{Peer, data_set};
use gantry_tests::node::{Node, eventually};
use gantry_tests::{MANIFEST, Scenario, asset, change_files, needed, repository, write_ct};
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::dicomweb::get;

/// Of the small CT.
const STUDY: &str = "2.25.2";

/// The configuration of a node that runs the module of this package; its guest is compiled once for all tests.
pub(crate) fn site(package: &Path, more: &str) -> String {
    let cache = repository().join("target/test-code-cache");
    let base = format!(
        "[web]\nlisten = \"127.0.0.1:0\"\n[cache]\nfolder = {cache:?}\n[schedule]\npoll_ms = 20\n\
         [[modules]]\npackage = {package:?}\n"
    );
    base + more
}

/// Sends files as one association; each says how many there are, or the study waits for the timer.
pub(crate) fn send(node: &Node, folder: &Path, syntax: &str) {
    let mut files: Vec<PathBuf> =
        std::fs::read_dir(folder).expect("readable").map(|entry| entry.expect("an entry").path()).collect();
    files.sort();
    let mut peer = Peer::associate(node.dimse, &[(uids::CT_IMAGE_STORAGE, syntax)]);
    for file in files {
        let object = dicom_object::open_file(&file).expect("readable");
        let instance = object.element(tags::SOP_INSTANCE_UID).expect("there").to_str().expect("text").into_owned();
        let sent = peer.store(1, uids::CT_IMAGE_STORAGE, instance.trim_end_matches('\0'), &data_set(&file));
        assert_eq!(sent.0, 0, "{}", sent.1);
    }
    assert!(peer.release());
}

/// The small CT, whole: the study closes on the number of its instances.
pub(crate) fn send_ct(node: &Node) {
    let folder = tempfile::tempdir().expect("a folder");
    write_ct(folder.path()).expect("written");
    let state = |_, object: &mut dicom_object::InMemDicomObject| {
        object.put_str(tags::NUMBER_OF_STUDY_RELATED_INSTANCES, VR::IS, "10");
    };
    change_files(folder.path(), state).expect("changed");
    send(node, folder.path(), uids::EXPLICIT_VR_LITTLE_ENDIAN);
}

pub(crate) fn json(said: &Said) -> Value {
    assert_eq!(said.code, Some(0), "{said:?}");
    serde_json::from_str(&said.out).unwrap_or_else(|e| panic!("{e}: {said:?}"))
}

/// The only job that there may be, as `gantry job list` tells it; nothing before the study is routed.
fn job(node: &Node) -> Option<Value> {
    let mut list = json(&node.says(&["job", "list", "--json"]));
    let jobs = list["jobs"].as_array_mut().expect("a list");
    assert!(jobs.len() <= 1 && list["without_jobs"] == serde_json::json!([]), "{list}");
    list["jobs"].as_array_mut().and_then(Vec::pop)
}

/// The job once it is in this state.
fn job_that_is(node: &Node, state: &str) -> Value {
    let mut last = None;
    eventually(state, || {
        last = job(node);
        last.as_ref().is_some_and(|job| job["state"] == state)
    });
    last.expect("a job")
}

/// Rows of the audit log about an action.
fn audited(node: &Node, action: &str) -> Vec<Value> {
    let said = node.says(&["audit", "show", "--study", STUDY, "--json"]);
    assert_eq!(said.code, Some(0), "{said:?}");
    let rows = said.out.lines().map(|line| serde_json::from_str(line).expect("JSON"));
    rows.filter(|row: &Value| row["action"] == action).collect()
}

/// SOP and Series Instance UIDs of what a job wrote, which lie where it says.
fn written(node: &Node, job: &Value) -> Vec<String> {
    let folder = node.data().join(job["result_path"].as_str().expect("a result"));
    assert!(folder.starts_with(node.data().join("results")) && folder.join("result.json").is_file(), "{job}");
    let mut all = Vec::new();
    for name in ["segmentation.dcm", "report.dcm"] {
        let object = dicom_object::open_file(folder.join(name)).expect(name);
        let uid = |tag| object.element(tag).expect("there").to_str().expect("text").trim_end_matches('\0').to_owned();
        assert_eq!(uid(tags::STUDY_INSTANCE_UID), job["study_instance_uid"], "{name}");
        all.extend([tags::SOP_INSTANCE_UID, tags::SERIES_INSTANCE_UID].map(uid));
    }
    all
}

/// Folders of results: one for each job and version of the study.
fn result_folders(node: &Node) -> usize {
    node.files("results").iter().filter(|file| file.ends_with("result.json")).count()
}

#[test]
fn images_become_results_on_the_number_that_they_state() {
    let Some(module) = Scenario::rogue("well-behaved") else { return };
    let mut node = Node::start(&site(module.package_folder(), ""));
    send_ct(&node);
    let job = job_that_is(&node, "done");
    assert_eq!((&job["study_instance_uid"], &job["attempts"]), (&STUDY.into(), &1.into()), "{job}");
    assert_eq!(written(&node, &job).len(), 4);
    assert_eq!(audited(&node, "study-closed")[0]["detail"], "by stated: 10 instances");
    assert_eq!(audited(&node, "instance-stored").len(), 10);
    assert_eq!(audited(&node, "job-done").len(), 1);
    assert!(node.stop(), "{}", node.log());
    assert!(!node.log().contains("SECRET") && !node.log().contains("Secret"), "no patient data: {}", node.log());
}

#[test]
fn one_correlation_leads_from_the_association_to_the_result() {
    let Some(module) = Scenario::rogue("well-behaved") else { return };
    let node = Node::start(&site(module.package_folder(), "[log]\nformat = \"json\"\n"));
    send_ct(&node);
    let job = job_that_is(&node, "done");
    eventually("the log tells", || node.log().contains("done: "));
    let log = node.log();
    let lines: Vec<Value> = log.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    for said in ["association accepted", "a study is open", "closed", "routed: ", "the guest starts", "done: "] {
        let said = |line: &&Value| line["message"].as_str().is_some_and(|message| message.starts_with(said));
        let line = lines.iter().find(said).unwrap_or_else(|| panic!("{log}"));
        assert!([line, &line["span"]].iter().any(|of| of["correlation"] == job["correlation"]), "{line}");
    }
    for action in ["instance-stored", "study-closed", "job-queued", "job-started", "job-done"] {
        assert_eq!(audited(&node, action)[0]["correlation"], job["correlation"], "{action}");
    }
    let path = node.data().join(job["result_path"].as_str().expect("a result")).join("result.json");
    let result: Value = serde_json::from_slice(&std::fs::read(path).expect("readable")).expect("JSON");
    assert_eq!(result["correlation"], job["correlation"], "{result}");
}

#[test]
fn a_real_ct_is_analysed_by_the_demonstration() {
    let Some(package) = needed("modules/ct-organs/package", "cargo xtask guests") else { return };
    let Some(study) = asset("totalsegmentator/example_ct_dicom") else { return };
    let folder = tempfile::tempdir().expect("a folder");
    let done = complete(&[study], folder.path()).expect("completed");
    let node = Node::start(&site(&package, "").replace("[schedule]\n", "[schedule]\noverlay = true\n"));
    send(&node, folder.path(), uids::JPEG2000_LOSSLESS);
    let job = job_that_is(&node, "done");
    assert_eq!(job["study_instance_uid"], done.study_instance_uid.as_str());
    written(&node, &job);
    assert!(node.files("results").iter().any(|file| file.ends_with("overlay.png")), "{:?}", node.files("results"));
}

#[test]
fn what_the_demonstration_segments_reaches_the_module_after_it() {
    let Some(package) = needed("modules/ct-organs/package", "cargo xtask guests") else { return };
    let Some(second) = Scenario::rogue("follow") else { return };
    let Some(study) = asset("totalsegmentator/example_ct_dicom") else { return };
    let folder = tempfile::tempdir().expect("a folder");
    complete(&[study], folder.path()).expect("completed");
    let after = format!(
        "[[modules]]\npackage = {:?}\nafter = [\"ct-organs\"]\ngrants = [\"gantry:imaging/upstream\"]\n",
        second.package_folder()
    );
    let node = Node::start(&site(&package, &after));
    send(&node, folder.path(), uids::JPEG2000_LOSSLESS);
    let mut jobs = Vec::new();
    eventually("two jobs are done", || {
        jobs = json(&node.says(&["job", "list", "--state", "done", "--json"]))["jobs"]
            .as_array()
            .cloned()
            .unwrap_or_default();
        jobs.len() == 2
    });
    let result = |module: &str| -> Value {
        let job = jobs.iter().find(|job| job["module"] == module).expect("a job");
        let path = node.data().join(job["result_path"].as_str().expect("a result")).join("result.json");
        serde_json::from_slice(&std::fs::read(path).expect("readable")).expect("JSON")
    };
    let (organs, follows) = (result("ct-organs"), result("rogue"));
    assert_eq!(follows["findings"]["segments"], organs["findings"]["segments"], "every voxel");
    let measured = |result: &Value| -> Vec<(u64, f64)> {
        let all = result["findings"]["measurements"].as_array().expect("a list").iter();
        all.map(|m| (m["segment"].as_u64().expect("a value"), m["value"].as_f64().expect("mL"))).collect()
    };
    let (stated, counted) = (measured(&organs), measured(&follows));
    assert!(!stated.is_empty() && stated.len() == counted.len(), "{stated:?} {counted:?}");
    for ((segment, ml), (of, again)) in stated.into_iter().zip(counted) {
        assert!(segment == of && (ml - again).abs() < 1e-9 && ml > 0.0, "{segment}: {ml} mL, {again} mL");
    }
    assert_eq!(follows["input"]["upstream"][0]["identity_sha256"], organs["module"]["identity_sha256"]);
}

#[test]
fn a_node_killed_within_a_job_comes_to_the_result_of_one_that_was_not() {
    let Some(module) = Scenario::rogue("slow") else { return };
    let config = site(module.package_folder(), "");
    let undisturbed = Node::start(&config);
    send_ct(&undisturbed);
    let expected = written(&undisturbed, &job_that_is(&undisturbed, "done"));
    drop(undisturbed);

    let mut node = Node::start(&config);
    send_ct(&node);
    eventually("the guest starts", || node.log().contains("the guest starts"));
    node.kill();
    let left = job(&node).expect("a job");
    assert_eq!((&left["state"], result_folders(&node)), (&"running".into(), 0), "{left}");
    let node = node.again(&config);
    let job = job_that_is(&node, "done");
    assert_eq!((&job["id"], &job["attempts"]), (&left["id"], &2.into()), "{job}");
    assert_eq!(written(&node, &job), expected, "the same UIDs");
    assert_eq!((result_folders(&node), audited(&node, "job-done").len()), (1, 1), "no result twice");
    assert_eq!(json(&node.says(&["audit", "verify", "--json"]))["state"], "whole");
}

#[test]
fn a_stop_waits_for_the_job_that_runs() {
    let Some(module) = Scenario::rogue("slow") else { return };
    let mut node = Node::start(&site(module.package_folder(), ""));
    send_ct(&node);
    eventually("the guest starts", || node.log().contains("the guest starts"));
    assert!(node.stop(), "{}", node.log());
    let job = job(&node).expect("a job");
    assert_eq!((&job["state"], &job["attempts"]), (&"done".into(), &1.into()), "{job}");
    written(&node, &job);
    let verified = json(&node.says(&["audit", "verify", "--json"]));
    assert_eq!((&verified["state"], &verified["anchored"]), (&"whole".into(), &verified["rows"]), "{verified}");
}

#[test]
fn a_job_is_listed_shown_cancelled_and_tried_again() {
    let Some(module) = Scenario::rogue("loop") else { return };
    let mut node = Node::start(&site(module.package_folder(), "[node]\ndrain_ms = 0\n"));
    send_ct(&node);
    let running = |node: &Node| {
        eventually("the guest runs", || {
            job(node).is_some_and(|job| job["started_ms"].is_u64() && job["state"] == "running")
        });
    };
    running(&node);
    let id = job(&node).expect("a job")["id"].to_string();
    let says = node.says(&["job", "list", "--state", "running", "--study", STUDY]);
    assert!(says.code == Some(0) && says.out.contains("running") && says.out.contains("v1 of 2.25.2"), "{says:?}");
    let says = node.says(&["job", "show", &id]);
    assert!(says.code == Some(0) && says.out.contains(&format!("job {id}: running")), "{says:?}");
    assert_eq!(json(&node.says(&["job", "show", &id, "--json"]))["module"], "rogue");
    let says = node.says(&["job", "retry", &id]);
    assert!(says.code == Some(3) && says.err.contains("is running"), "{says:?}");

    let says = node.says(&["job", "cancel", &id]);
    assert!(says.code == Some(0) && says.out.contains("is cancelled"), "{says:?}");
    job_that_is(&node, "cancelled");
    let says = node.says(&["job", "retry", &id]);
    assert!(says.code == Some(0) && says.out.contains("waits for its turn"), "{says:?}");
    running(&node);
    assert!(node.stop(), "{}", node.log());
    assert_eq!(job(&node).expect("a job")["state"], "queued", "broken off, and to be taken up again");
    for (action, times) in [("job-cancelled", 2), ("job-retried", 1), ("job-requeued", 1), ("job-done", 0)] {
        assert_eq!(audited(&node, action).len(), times, "{action}");
    }
    for (command, state) in [("cancel", "cancelled"), ("retry", "gated")] {
        let said = json(&node.says(&["job", command, &id, "--json"]));
        assert_eq!((said["id"].to_string(), &said["state"]), (id.clone(), &state.into()), "{said}");
    }
}

#[test]
fn a_study_that_waits_to_close_is_listed() {
    let node = Node::start("");
    let says = node.says(&["job", "list"]);
    assert!(says.code == Some(0) && says.out == "no jobs, and no study is open\n", "{says:?}");
    let folder = tempfile::tempdir().expect("a folder");
    write_ct(folder.path()).expect("written");
    send(&node, folder.path(), uids::EXPLICIT_VR_LITTLE_ENDIAN);
    let says = node.says(&["job", "list"]);
    assert!(says.code == Some(0) && says.out.contains("open  2.25.2  10 instances, the last at "), "{says:?}");
    assert!(says.out.contains("; closes by ") && says.out.contains("studies.close_timer_ms = 60000"), "{says:?}");
    let list = json(&node.says(&["job", "list", "--study", STUDY, "--json"]));
    let [open] = list["open_studies"].as_array().expect("a list").as_slice() else { panic!("{list}") };
    assert_eq!((&open["study_instance_uid"], &open["instances"]), (&STUDY.into(), &10.into()), "{list}");
    let ms = |key: &str| open[key].as_i64().expect("a time");
    assert_eq!(ms("closes_by_ms") - ms("last_received_ms"), 60_000, "{list}");
    for other in [&["--study", "2.25.404"][..], &["--state", "queued"]] {
        let list = json(&node.says(&[&["job", "list", "--json"], other].concat()));
        assert_eq!(list["open_studies"], serde_json::json!([]), "{other:?}");
    }
}

/// A folder with a configuration in it, of a node that was never started.
fn unstarted(config: &str) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("gantry.toml");
    let config = config.replace("FOLDER", folder.path().to_str().expect("UTF-8"));
    std::fs::write(&file, format!("[node]\ndata_folder = {:?}\n{config}", folder.path().join("data")))
        .expect("written");
    (folder, file)
}

fn says(file: &Path, arguments: &[&str]) -> Said {
    gantry().args(arguments).arg("--config").arg(file).output().expect("gantry runs").into()
}

fn mode(path: &Path) -> u32 {
    std::fs::metadata(path).expect("there").permissions().mode() & 0o777
}

#[test]
fn a_data_folder_is_for_its_user_alone_whoever_makes_it() {
    let node = Node::start("");
    assert_eq!(mode(&node.data()), 0o700);
    assert!(!node.log().contains("chmod"), "{}", node.log());
    let (folder, file) = unstarted("");
    assert_eq!(says(&file, &["token", "new", "viewer", "--scope", "read"]).code, Some(0));
    assert_eq!(mode(&folder.path().join("data")), 0o700);

    let mut node = node;
    assert!(node.stop(), "{}", node.log());
    std::fs::set_permissions(node.data(), PermissionsExt::from_mode(0o755)).expect("set");
    std::fs::set_permissions(node.data().join("journal.sqlite"), PermissionsExt::from_mode(0o644)).expect("set");
    let node = node.again("");
    eventually("the start tells", || node.log().contains("others can read journal.sqlite, with patients' names"));
}

#[test]
fn the_first_token_says_what_it_closes() {
    let (_folder, file) = unstarted("");
    let first = says(&file, &["token", "new", "viewer", "--scope", "read"]);
    assert!(first.code == Some(0) && first.err.contains("on loopback too"), "{first:?}");
    assert!(first.out.starts_with("gantry_") && first.out.lines().count() == 1, "a script reads the token alone");
    let second = says(&file, &["token", "new", "scanner", "--scope", "send", "--scope", "operate"]);
    assert!(second.code == Some(0) && second.err.is_empty(), "{second:?}");
    assert_eq!(says(&file, &["token", "revoke", "viewer"]).code, Some(0));
    let list = json(&says(&file, &["token", "list", "--json"]));
    let told = |n: usize| (list[n]["name"].clone(), list[n]["state"].clone(), list[n]["scopes"].clone());
    assert_eq!(told(0), ("viewer".into(), "revoked".into(), serde_json::json!(["read"])), "{list}");
    assert_eq!(told(1), ("scanner".into(), "valid".into(), serde_json::json!(["send", "operate"])), "{list}");
}

#[test]
fn what_a_node_does_not_start_with_is_found_by_those_who_check() {
    for (config, name, remedy) in [
        ("[[modules]]\npackage = \"FOLDER/none\"\n", "modules and rules", "holds no module.toml"),
        ("[folder]\npath = \"FOLDER/none\"\n", "folder.path", "read and write"),
        ("[[pacs]]\nurl = \"http://127.0.0.1:9\"\ntoken_file = \"FOLDER/none\"\n", "pacs", "token_file"),
    ] {
        let (_folder, file) = unstarted(config);
        let serve = says(&file, &["serve"]);
        assert!(serve.code == Some(2) && serve.err.contains(remedy), "{serve:?}");
        let check: Said = gantry().args(["config", "check"]).arg(&file).output().expect("gantry runs").into();
        assert!(check.code == Some(2) && check.out.contains(&format!("FAIL {name}: ")), "{check:?}");
        let doctor = says(&file, &["doctor"]);
        assert!(doctor.code == Some(1) && doctor.out.contains(&format!("FAIL {name}: ")), "{doctor:?}");
        assert!(check.out.contains(remedy) && doctor.out.contains(remedy), "{check:?}");
    }
    let (_folder, file) = unstarted("[web]\nlisten = \"0.0.0.0:0\"\n");
    assert_eq!(says(&file, &["serve"]).code, Some(2));
    let doctor = says(&file, &["doctor"]);
    assert!(doctor.code == Some(1) && doctor.out.contains("FAIL web access: "), "{doctor:?}");
    assert_eq!(says(&file, &["token", "new", "viewer", "--scope", "read"]).code, Some(0));
    let doctor = says(&file, &["doctor"]);
    assert!(doctor.out.contains("ok   web access: ") && doctor.out.contains("ok   web.listen: "), "{doctor:?}");
}

#[test]
fn a_node_is_looked_at_while_it_runs() {
    let Some(module) = Scenario::rogue("well-behaved") else { return };
    let node = Node::start(&site(module.package_folder(), ""));
    send_ct(&node);
    job_that_is(&node, "done");

    let says = node.says(&["route", "explain", STUDY]);
    assert!(says.code == Some(0) && says.out.contains("rogue would run\n"), "{says:?}");
    assert_eq!(json(&node.says(&["route", "explain", STUDY, "--json"]))[0]["would_run"], true);
    let says = node.says(&["route", "explain", "2.25.404"]);
    assert!(says.code == Some(3) && says.err.contains("nothing of a study with this UID"), "{says:?}");

    let says = node.says(&["audit", "verify"]);
    assert!(says.code == Some(0) && says.out.contains("rows, whole"), "{says:?}");
    assert_eq!(json(&node.says(&["audit", "verify", "--json"]))["state"], "whole");
    let says = node.says(&["audit", "show", "--limit", "1000"]);
    for action in ["node-started", "instance-stored", "study-closed", "job-queued", "job-done"] {
        assert!(says.out.contains(action), "{action} is missing: {says:?}");
    }
    assert!(!says.out.to_lowercase().contains("secret"), "no patient data: {says:?}");

    let doctor = json(&node.says(&["doctor", "--json"]));
    assert_eq!(doctor["state"], "ok", "{doctor}");
    let names: Vec<_> = doctor["checks"].as_array().expect("checks").iter().map(|check| &check["name"]).collect();
    for name in ["node.data_folder", "modules and rules", "disk space", "fsync", "clock", "dimse.listen", "web.listen"]
    {
        assert!(names.contains(&&Value::from(name)), "{name} is missing: {doctor}");
    }

    assert_eq!(get(&node, "/dicom-web/series?Modality=CT&PatientID=SECRET*").status, 200);
    let read = &audited(&node, "study-read")[0];
    assert_eq!(
        (&read["object"], &read["detail"]),
        (&"/dicom-web/series".into(), &"1 found by Modality, PatientID".into())
    );

    assert_eq!(get(&node, "/healthz").status, 200);
    let ready = get(&node, "/readyz");
    assert_eq!(ready.status, 200, "{}", ready.text());
    let metrics = get(&node, "/metrics");
    assert!(metrics.status == 200 && metrics.text().ends_with("# EOF\n"), "{}", metrics.text());
    for line in [
        "gantry_instances_stored_total{via=\"dimse\",outcome=\"new\"} 10\n",
        "gantry_studies_closed_total{evidence=\"stated\"} 1\n",
        "gantry_studies_routed_total{outcome=\"jobs\"} 1\n",
        "gantry_jobs{state=\"done\"} 1\n",
        "gantry_job_wait_seconds_count{module=\"rogue\",device=\"none\"} 1\n",
        "gantry_job_run_seconds_count{module=\"rogue\",device=\"none\"} 1\n",
    ] {
        assert!(metrics.text().contains(line), "`{line}` is missing: {}", metrics.text());
    }
    // The timer would have closed it after a minute.
    let metrics = metrics.text();
    let saved = metrics.lines().find_map(|line| line.strip_prefix("gantry_study_close_saved_seconds_total "));
    let saved: f64 = saved.and_then(|seconds| seconds.parse().ok()).expect("a number");
    assert!(saved > 0.0 && saved <= 60.0, "{metrics}");
    let id = job(&node).expect("a job")["id"].to_string();
    let closed = &json(&node.says(&["job", "show", &id, "--json"]))["closed"];
    assert_eq!((&closed["by"], &closed["instances"]), (&"stated".into(), &10.into()), "{closed}");
    assert!(closed["saved_ms"].as_f64().is_some_and(|ms| (ms / 1000.0 - saved).abs() < 0.01), "{closed} {saved}");
    let says = node.says(&["job", "show", &id]);
    assert!(
        says.out.contains("closed by stated: 10 instances, ") && says.out.contains(" s before the timer"),
        "{says:?}"
    );
}

#[test]
fn a_model_that_ran_is_seen_by_who_looks_at_the_node() {
    let Some(module) = Scenario::with_net("wrong-inputs", MANIFEST, "cpu") else { return };
    let package = module.package_folder();
    let mut node = Node::start(&site(package, "[engines]\nengine = \"tract\"\n"));
    let vetted = node.audited("model-vetted");
    let [vetted] = vetted.as_slice() else { panic!("{vetted:?}") };
    assert_eq!((&vetted["who"], &vetted["object"]), (&"gantry".into(), &"rogue/net".into()), "{vetted}");
    let text = |key: &str| vetted[key].as_str().expect("text");
    let digest = gantry::hex(&Sha256::digest(std::fs::read(package.join("net.onnx")).expect("readable")));
    assert_eq!(text("digests"), format!("model={digest}"));
    assert!(text("detail").contains(" nodes, loaded by tract 0.") && text("detail").ends_with(" ms"), "{vetted}");
    send_ct(&node);
    job_that_is(&node, "done");

    let list = || json(&node.says(&["worker", "list", "--json"]));
    eventually("the run is told", || list()["workers"][0]["runs"] == 1);
    let list = list();
    assert_eq!(list["running"], true);
    let worker = &list["workers"][0];
    let vendor = worker["vendor"].as_str().expect("text");
    assert!(
        worker["device"] == "cpu" && worker["engine"].as_str().is_some_and(|e| e.starts_with("tract 0.")),
        "{list}"
    );
    assert!(worker["process"].is_u64() && worker["memory_bytes"].as_u64().is_some_and(|b| b > 1 << 20), "{list}");
    assert!(worker["models"][0][0] == "net" && worker["restarts"] == 0, "{list}");
    assert_eq!((&worker["out_of_service"], list["workers"].as_array().map(Vec::len)), (&Value::Array(vec![]), Some(1)));
    let says = node.says(&["worker", "list"]);
    let line = format!("{vendor} on cpu: process {} of ", worker["process"]);
    assert!(says.code == Some(0) && says.out.starts_with(&line), "{says:?}");
    assert!(says.out.contains(", 1 runs, 0 restarts, models: net ") && says.out.lines().count() == 1, "{says:?}");

    let metrics = get(&node, "/metrics").text();
    let (of_model, of_worker) = (
        format!("{{vendor=\"{vendor}\",model=\"net\",device=\"cpu\"}}"),
        format!("{{vendor=\"{vendor}\",device=\"cpu\"}}"),
    );
    for line in [
        format!("gantry_model_wait_seconds_count{of_model} 1\n"),
        format!("gantry_model_run_seconds_count{of_model} 1\n"),
        format!("gantry_model_batch_items_sum{of_model} 1.0\n"),
        format!("gantry_worker_restarts_total{of_worker} 0\n"),
        format!("gantry_worker_models_bytes{of_worker} "),
        format!("gantry_worker_memory_bytes{of_worker} "),
        "gantry_device_queue_length{device=\"cpu\"} 0\n".into(),
        "gantry_device_queue_age_seconds{device=\"cpu\"} 0.0\n".into(),
    ] {
        assert!(metrics.contains(&line), "`{line}` is missing: {metrics}");
    }

    // Killed, it leaves a list that names a process.
    node.kill();
    let list = json(&node.says(&["worker", "list", "--json"]));
    let worker = &list["workers"][0];
    assert!(list["running"] == false && list["last_seen_ms"].as_i64() >= list["written_ms"].as_i64(), "{list}");
    assert_eq!([&worker["process"], &worker["memory_bytes"]], [&Value::Null; 2], "{list}");
    assert_eq!((&worker["models"], &worker["runs"]), (&Value::Array(vec![]), &1.into()), "{list}");
    let says = node.says(&["worker", "list"]);
    let line = format!("\n{vendor} on cpu: no process, ");
    assert!(
        says.code == Some(0) && says.out.starts_with("the node is not running; it was last seen at 20"),
        "{says:?}"
    );
    assert!(says.out.contains(&line) && says.out.contains("1 runs, 0 restarts, models: none\n"), "{says:?}");
}

#[test]
fn a_package_is_checked_before_a_node_takes_it() {
    let Some(module) = Scenario::with_net("plain-nn", MANIFEST, "cpu") else { return };
    let package = module.package_folder();
    let (_folder, file) = unstarted("[engines]\nengine = \"tract\"\n");
    let check = |more: &[&str]| -> Said {
        let mut command = gantry();
        command.args(["module", "check"]).arg(package).arg("--config").arg(&file).args(more);
        command.output().expect("gantry runs").into()
    };
    let said = check(&[]);
    for part in [
        "identity    sha256:",
        "model       net, 1 KiB, sha256:",
        "  takes     x: f32 [1, 1, ",
        "  gives     y: f32 [",
        "  made of   ",
        " nodes of operator set ",
        "  loaded    by tract 0.",
        "every model was loaded on the processor, in a worker and within its limits; `gantry doctor` tells of GPUs\n",
    ] {
        assert!(said.code == Some(0) && said.out.contains(part), "`{part}` is missing: {said:?}");
    }
    let told = json(&check(&["--json"]));
    let model = &told["models"][0];
    assert!(model["name"] == "net" && model["nodes"].is_u64() && model["opset"].is_u64(), "{told}");
    assert!(model["operators"].as_array().is_some_and(|all| !all.is_empty()) && model["load_ms"].is_u64(), "{told}");
    // What is in its place is not the vendor's.
    module.write_package("net.onnx", b"no model").expect("written");
    let said = check(&[]);
    assert!(said.code != Some(0) && said.err.contains("net.onnx has SHA-256"), "{said:?}");
}

#[test]
fn a_configuration_is_checked_printed_and_explained() {
    let Some(module) = Scenario::rogue("well-behaved") else { return };
    let node = Node::start(&site(module.package_folder(), ""));
    let file = node.config();
    let config = |arguments: &[&str], file: Option<&Path>| -> Said {
        gantry().arg("config").args(arguments).args(file).output().expect("gantry runs").into()
    };
    assert_eq!(json(&config(&["check", "--json"], Some(&file)))["state"], "ok");
    let says = config(&["check"], Some(&file));
    assert!(says.code == Some(0) && says.out.contains("node.data_folder"), "{says:?}");
    let printed = json(&config(&["print", "--json"], Some(&file)));
    assert_eq!(printed["schedule"]["poll_ms"], 20);
    let says = config(&["print"], Some(&file));
    let again: gantry::config::Config = toml::from_str(&says.out).expect("what is printed is a configuration");
    assert_eq!(serde_json::to_value(&again).expect("JSON"), printed);
    let says = config(&["example"], None);
    assert!(says.code == Some(0) && toml::from_str::<gantry::config::Config>(&says.out).is_ok(), "{says:?}");

    let text = std::fs::read_to_string(&file).expect("readable").replace("poll_ms = 20", "pol_ms = 20");
    std::fs::write(&file, text).expect("written");
    let says = config(&["check"], Some(&file));
    assert!(says.code == Some(2) && says.err.contains("pol_ms"), "{says:?}");
}
