//! `gantry sync`: from images on the wire to a bucket of a real S3 server, without anybody's identity.

use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use dicom_core::{DataElement, PrimitiveValue, Tag, VR};
use dicom_dictionary_std::{tags, uids};
use gantry::store::Store;
use gantry_tests::command::{Said, gantry};
use gantry_tests::gate::Gate;
use gantry_tests::node::{Node, eventually};
use gantry_tests::s3::{S3Server, free_port};
use gantry_tests::{Scenario, change_files, repository, write_ct, write_head_ct};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::dicomweb::{get, post};
use crate::node::{json as printed, send, site};

const BUCKET: &str = "cohort";
/// Whatever must be in no object: parts of names, IDs and UIDs.
const IDENTITY: [&str; 6] = ["Testfall", "Erika", "PAT-4711", "ACC-0815", "1.2.826.0.1.3680043.8.498", "SECRET"];

/// A site's policy, its keys, and what a node needs to follow it.
struct Cloud {
    folder: TempDir,
}

impl Cloud {
    /// For this server.
    fn of(s3: &S3Server, more: &str) -> Self {
        Self::new(&s3.url, [&s3.key, &s3.secret], more)
    }

    /// For one that is not there, or comes later.
    fn away(port: u16, more: &str) -> Self {
        Self::new(&format!("http://127.0.0.1:{port}"), ["k", "s"], more)
    }

    fn new(url: &str, [key, secret]: [&str; 2], more: &str) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let at = |name: &str| folder.path().join(name);
        std::fs::write(at("identity.key"), [7; 32]).expect("written");
        let signing = rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).expect("a key");
        std::fs::write(at("signing.pem"), signing.serialize_pem()).expect("written");
        for key in ["identity.key", "signing.pem"] {
            std::fs::set_permissions(at(key), PermissionsExt::from_mode(0o600)).expect("set");
        }
        let credentials = format!("[default]\naws_access_key_id = {key}\naws_secret_access_key = {secret}\n");
        std::fs::write(at("credentials"), credentials).expect("written");
        let policy = format!(
            "version = 1\nsite = \"site-a\"\nidentity_key_file = \"identity.key\"\nsigning_key_file = \"signing.pem\"\n\
             [[rules]]\nname = \"all\"\nsend = true\n\
             [batch]\nbatch_age_max_s = 1\n\
             [s3]\nbucket = \"{BUCKET}\"\nprefix = \"gantry/\"\nregion = \"us-east-1\"\npath_style = true\n\
             endpoint_url = \"{url}\"\ncredentials_file = \"credentials\"\nattempts_max = 2\n\
             part_mib = 5\nmultipart_above_mib = 5\nobject_max_gib = 1\n\
             backoff_first_ms = 20\nbackoff_max_ms = 50\noutage_pause_s = 1\n\
             [profile]\nbase = \"qa-minimal\"\n{more}"
        );
        std::fs::write(at("sync.toml"), policy).expect("written");
        Self { folder }
    }

    /// Another line of the policy instead of one.
    fn with(self, line: &str, other: &str) -> Self {
        let path = self.folder.path().join("sync.toml");
        let policy = std::fs::read_to_string(&path).expect("readable");
        assert!(policy.contains(line), "{policy}");
        std::fs::write(path, policy.replace(line, other)).expect("written");
        self
    }

    /// Replaces the list of those who opted out.
    fn opt_out(&self, patient_ids: &str) {
        let at = |name: &str| self.folder.path().join(name);
        std::fs::write(at("ids"), patient_ids).expect("written");
        let said =
            gantry().args(["opt-out", "--key"]).args([at("identity.key"), at("ids")]).output().expect("gantry runs");
        std::fs::write(at("list"), said.stdout).expect("written");
        std::fs::rename(at("list"), at("opt-out.txt")).expect("replaced");
    }

    /// Lines of `gantry.toml`.
    fn section(&self) -> String {
        let policy = self.folder.path().join("sync.toml");
        format!("[sync]\npolicy = {policy:?}\npoll_ms = 20\nrestart_pause_max_ms = 500\n")
    }
}

/// A server with an empty bucket.
fn bucket() -> Option<S3Server> {
    let s3 = S3Server::moto()?;
    s3.make(BUCKET);
    Some(s3)
}

/// Sends a study of its own, whole, of somebody with a name.
fn send_study(node: &Node, number: u32, write: impl Fn(&Path)) {
    send_study_of(node, "PAT-4711", number, write);
}

fn send_study_of(node: &Node, patient: &str, number: u32, write: impl Fn(&Path)) {
    let folder = tempfile::tempdir().expect("a folder");
    write(folder.path());
    let instances = std::fs::read_dir(folder.path()).expect("readable").count();
    change_files(folder.path(), |index, object| {
        let uid = |last: &str| format!("1.2.826.0.1.3680043.8.498.{number}.{last}");
        object.put_str(tags::STUDY_INSTANCE_UID, VR::UI, uid("1"));
        object.put_str(tags::SERIES_INSTANCE_UID, VR::UI, uid("2"));
        object.put_str(tags::FRAME_OF_REFERENCE_UID, VR::UI, uid("3"));
        object.put_str(tags::SOP_INSTANCE_UID, VR::UI, uid(&format!("4.{index}")));
        object.put_str(tags::PATIENT_NAME, VR::PN, "Testfall^Erika");
        object.put_str(tags::PATIENT_ID, VR::LO, patient);
        object.put_str(tags::ACCESSION_NUMBER, VR::SH, "ACC-0815");
        object.put_str(tags::STUDY_DESCRIPTION, VR::LO, "Thorax of Erika Testfall");
        object.put_str(tags::BURNED_IN_ANNOTATION, VR::CS, "NO");
        object.put_str(tags::NUMBER_OF_STUDY_RELATED_INSTANCES, VR::IS, instances.to_string());
    })
    .expect("changed");
    send(node, folder.path(), uids::EXPLICIT_VR_LITTLE_ENDIAN);
}

fn small(folder: &Path) {
    write_ct(folder).expect("written");
}

fn status(node: &Node) -> Value {
    printed(&node.says(&["sync", "status", "--json"]))
}

/// Parts of studies in a state.
fn parts(node: &Node, state: &str) -> u64 {
    let status = status(node);
    let counts = status["parts"].as_array().expect("a list").iter();
    counts.filter(|count| count["state"] == state).filter_map(|count| count["parts"].as_u64()).sum()
}

/// What manifests of the bucket name, one for each part of a study.
fn studies(s3: &S3Server) -> Vec<Value> {
    let manifests = s3.keys(BUCKET).into_iter().filter(|key| key.contains("/batches/") && key.ends_with(".dsse.json"));
    let manifests = manifests.map(|key| {
        let envelope: Value = serde_json::from_slice(&s3.get(BUCKET, &key)).expect("JSON");
        serde_json::from_slice::<Value>(&base64(envelope["payload"].as_str().expect("a payload"))).expect("a manifest")
    });
    manifests.flat_map(|manifest| manifest["studies"].as_array().expect("a list").clone()).collect()
}

fn base64(text: &str) -> Vec<u8> {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let digits = text.bytes().filter_map(|c| ALPHABET.iter().position(|a| *a == c));
    let digits: Vec<usize> = digits.collect();
    let bytes = digits.chunks(4).flat_map(|four| {
        let bits = four.iter().enumerate().fold(0, |bits, (n, digit)| bits | digit << (18 - 6 * n));
        (0..four.len() - 1).map(move |n| u8::try_from(bits >> (16 - 8 * n) & 0xFF).expect("a byte"))
    });
    bytes.collect()
}

/// The bytes of a study's objects of a kind and format.
fn objects(s3: &S3Server, study: &Value, kind: &str, format: &str) -> Vec<Vec<u8>> {
    let objects = study["objects"].as_array().expect("a list").iter();
    let chosen = objects.filter(|object| object["kind"] == kind && object["format"] == format);
    chosen.map(|object| s3.get(BUCKET, &object_key(object))).collect()
}

/// Where an object lies that a manifest names.
fn object_key(object: &Value) -> String {
    let sha256 = object["sha256"].as_str().expect("a digest");
    format!("gantry/site-a/objects/sha256/{}/{sha256}", &sha256[..2])
}

fn dicom(bytes: &[u8]) -> dicom_object::DefaultDicomObject {
    dicom_object::from_reader(bytes).expect("DICOM")
}

fn text(object: &dicom_object::InMemDicomObject, tag: Tag) -> String {
    object.element(tag).expect("there").to_str().expect("text").trim_end_matches('\0').to_owned()
}

/// No object of the bucket, and no name of one, has anything of anybody's identity.
fn nobody_is_in(s3: &S3Server) {
    for key in s3.keys(BUCKET) {
        let bytes = s3.get(BUCKET, &key);
        for identity in IDENTITY {
            let there = bytes.windows(identity.len()).any(|window| window.eq_ignore_ascii_case(identity.as_bytes()));
            assert!(!there && !key.contains(identity), "{identity} in {key}");
        }
    }
}

fn kill(process: u32) {
    let id = i32::try_from(process).ok().and_then(rustix::process::Pid::from_raw).expect("a process");
    let _ = rustix::process::kill_process(id, rustix::process::Signal::KILL);
}

/// The process of a node that hands things on.
fn child(node: &Node) -> Option<u32> {
    let processes = std::fs::read_dir("/proc").expect("readable").flatten();
    let mut ids = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    ids.find(|id| {
        let read = |name: &str| std::fs::read_to_string(format!("/proc/{id}/{name}")).unwrap_or_default();
        let parent = read("stat").rsplit_once(')').and_then(|(_, rest)| rest.split_whitespace().nth(1)?.parse().ok());
        parent == Some(node.pid()) && read("cmdline").contains("--of-node")
    })
}

#[test]
fn a_study_its_result_and_its_verdict_come_to_the_bucket_and_nobody_with_them() {
    let (Some(s3), Some(module)) = (bucket(), Scenario::rogue("well-behaved")) else { return };
    let cloud = Cloud::of(&s3, "");
    let mut node = Node::start(&(site(module.package_folder(), "") + &cloud.section()));
    send_study(&node, 1, small);
    eventually("it is in the bucket", || parts(&node, "sent") == 1);
    let all = studies(&s3);
    assert_eq!(all.len(), 1, "{all:?}");
    let (instances, results) = (objects(&s3, &all[0], "instance", "dicom"), objects(&s3, &all[0], "result", "dicom"));
    assert_eq!((instances.len(), results.len()), (10, 2), "{all:?}");
    nobody_is_in(&s3);

    // What refers to what is as it was.
    let instances: Vec<_> = instances.iter().map(|bytes| dicom(bytes)).collect();
    let study = text(&instances[0], tags::STUDY_INSTANCE_UID);
    let sops: BTreeSet<String> = instances.iter().map(|object| text(object, tags::SOP_INSTANCE_UID)).collect();
    assert_eq!(sops.len(), 10);
    let mut made = BTreeSet::new();
    for bytes in &results {
        let object = dicom(bytes);
        assert_eq!(text(&object, tags::STUDY_INSTANCE_UID), study);
        made.insert(text(&object, tags::SOP_INSTANCE_UID));
        let Ok(series) = object.element(tags::REFERENCED_SERIES_SEQUENCE) else { continue };
        for item in series.items().expect("items") {
            let referenced = item.element(tags::REFERENCED_INSTANCE_SEQUENCE).expect("there");
            for item in referenced.items().expect("items") {
                assert!(sops.contains(&text(item, tags::REFERENCED_SOP_INSTANCE_UID)));
            }
        }
    }
    let result: Value = serde_json::from_slice(&objects(&s3, &all[0], "result", "json")[0]).expect("JSON");
    assert_eq!(result["input"]["study_instance_uid"], study, "{result}");
    let outputs = result["outputs"].as_array().expect("a list").iter();
    let outputs: BTreeSet<_> = outputs.filter_map(|output| output["sop_instance_uid"].as_str()).collect();
    assert_eq!(outputs, made.iter().map(String::as_str).collect());
    let timing: Value = serde_json::from_slice(&objects(&s3, &all[0], "timing", "json")[0]).expect("JSON");
    assert!(timing["jobs"][0]["run_milliseconds"].is_u64(), "{timing}");
    let named = all[0]["objects"].as_array().expect("a list").iter();
    let result_json = named.clone().find(|object| object["kind"] == "result" && object["format"] == "json");
    assert_eq!(timing["jobs"][0]["result"]["object_sha256"], result_json.expect("there")["sha256"], "{timing}");

    // The process has what others leave, and the node tells of it.
    let child = child(&node).expect("it runs");
    let tasks = std::fs::read_dir(format!("/proc/{child}/task")).expect("it runs").flatten();
    let policies = tasks.filter_map(|task| {
        let stat = std::fs::read_to_string(task.path().join("stat")).ok()?;
        let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
        assert_eq!(fields[16], "19", "nice: {stat}");
        Some((stat.contains("sqlx"), fields[38] == "5"))
    });
    let policies: BTreeSet<_> = policies.collect();
    assert!(policies.contains(&(false, true)), "SCHED_IDLE of threads that clean: {policies:?}");
    assert!(policies.contains(&(true, false)) && !policies.contains(&(true, true)), "the journal's: {policies:?}");
    eventually("it is counted", || {
        let metrics = get(&node, "/metrics").text();
        metrics.contains("gantry_sync_up 1") && !metrics.contains("gantry_sync_last_batch_timestamp_seconds 0.0")
    });
    assert_eq!(node.audited("sync-study-sent").len(), 1);

    // Somebody says something of it: another part, with what is there already.
    let job = printed(&node.says(&["job", "list", "--json"]))["jobs"][0]["id"].clone();
    let said = json!({"finding": "segments/0", "verdict": "rejected", "comment": "Erika Testfall has none", "by": "Dr. Examiner"});
    let reply = post(
        &node,
        &format!("/api/results/{job}/verdicts"),
        "Content-Type: application/json\r\n",
        said.to_string().as_bytes(),
    );
    assert_eq!(reply.status, 201, "{}", reply.text());
    eventually("the verdict is in the bucket", || parts(&node, "sent") == 2);
    let all = studies(&s3);
    let verdicts: Vec<_> = all.iter().flat_map(|study| objects(&s3, study, "verdict", "json")).collect();
    let verdict: Value = serde_json::from_slice(&verdicts[0]).expect("JSON");
    assert_eq!((verdicts.len(), &verdict["verdicts"][0]["verdict"]), (1, &json!("rejected")), "{verdict}");
    assert!(!verdict.to_string().contains("Examiner"), "{verdict}");
    nobody_is_in(&s3);

    // Beside the process that has the spool, which lets go of it and goes on.
    let verified = printed(&node.says(&["sync", "verify", "--read", "--repair", "--json"]));
    assert_eq!((&verified["right"], &verified["batches"]), (&json!(true), &json!(2)), "{verified}");
    crate::catalog::engines_agree(&s3, BUCKET, "gantry/");
    send_study(&node, 2, small);
    eventually("it goes on", || parts(&node, "sent") == 3);
    assert!(node.stop(), "{}", node.log());
    for identity in IDENTITY.iter().filter(|identity| !identity.starts_with("1.2.")) {
        assert!(!node.log().contains(identity), "no patient data: {}", node.log());
    }
}

#[test]
fn a_head_is_held_until_a_person_releases_it() {
    let Some(s3) = bucket() else { return };
    let cloud = Cloud::of(&s3, "");
    let node = Node::start(&format!("[web]\nlisten = \"127.0.0.1:0\"\n{}", cloud.section()));
    send_study(&node, 1, |folder| write_head_ct(folder, false).expect("written"));
    eventually("it is held", || parts(&node, "held") == 1);
    let status = status(&node);
    assert_eq!(status["held"], 32, "{status}");
    assert!(s3.keys(BUCKET).is_empty(), "nothing of it left");
    assert_eq!(node.audited("objects-held").len(), 1);

    let list = printed(&node.says(&["quarantine", "list", "--reason", "recognizable", "--json"]));
    let held = list.as_array().expect("a list").iter();
    let ids: Vec<String> = held.filter_map(|row| Some(row["id"].as_i64()?.to_string())).collect();
    let mut release = vec!["quarantine", "release", "--by", "Dr. A. Example", "--reason", "agreed"];
    release.extend(ids.iter().map(String::as_str));
    assert_eq!(node.says(&release).code, Some(0));
    eventually("it is in the bucket", || parts(&node, "sent") == 1);
    let all = studies(&s3);
    assert_eq!(objects(&s3, &all[0], "instance", "dicom").len(), 32, "{all:?}");
    nobody_is_in(&s3);
}

#[test]
fn what_is_paused_waits_and_goes_on() {
    let Some(s3) = bucket() else { return };
    let cloud = Cloud::of(&s3, "");
    let node = Node::start(&format!("[web]\nlisten = \"127.0.0.1:0\"\n{}", cloud.section()));
    assert_eq!(node.says(&["sync", "pause", "--reason", "inspection"]).code, Some(0));
    send_study(&node, 1, small);
    eventually("it waits", || {
        let status = status(&node);
        status["waiting"][0]["studies"] == 1 && status["halted"].as_str().is_some_and(|why| why.contains("inspection"))
    });
    assert_eq!(printed(&node.says(&["sync", "pause", "--json"]))["changed"], false);
    // The node says that it has seen it before anything could have moved.
    eventually("the process says so", || status(&node)["doing"].as_str().is_some_and(|doing| doing.contains("paused")));
    assert!(s3.keys(BUCKET).is_empty());
    assert_eq!(node.says(&["sync", "resume"]).code, Some(0));
    eventually("it goes on", || parts(&node, "sent") == 1);
    assert_eq!((node.audited("sync-paused").len(), node.audited("sync-resumed").len()), (1, 1));
}

/// It may be at its end before the pause is seen: then the next one is tried.
#[test]
fn a_study_that_is_being_taken_in_is_left_when_somebody_pauses() {
    let cloud = Cloud::away(free_port(), "");
    let config = format!("[web]\nlisten = \"127.0.0.1:0\"\n{}instances_at_once_max = 1\n", cloud.section());
    let node = Node::start(&config);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let store = runtime.block_on(Store::open(&node.data())).expect("a journal");
    let parts = || runtime.block_on(store.sync_parts(None, 100)).expect("parts");
    let left = (0..20).any(|number| {
        send_study(&node, number, |folder| {
            write_head_ct(folder, false).expect("written");
            change_files(folder, |_, slice| {
                slice.put_str(tags::BODY_PART_EXAMINED, VR::CS, "CHEST");
            })
            .expect("changed");
        });
        let before = number as usize;
        eventually("it is taken in", || parts().len() > before);
        assert!(runtime.block_on(store.pause_sync("inspection")).expect("paused"));
        let told = || runtime.block_on(store.sync_state()).expect("readable").doing.contains("inspection");
        eventually("the process sees it", told);
        let left = parts().len() == before;
        assert!(runtime.block_on(store.resume_sync()).expect("resumed"));
        eventually("it is taken in to its end", || {
            parts().len() > before && parts().iter().all(|part| part.state != "taking") && !told()
        });
        left
    });
    assert!(left, "each was taken in to its end");
    runtime.block_on(store.close());
}

/// The batch is there and its catalogue is not: whoever reads the one must not miss it in the other for ever.
#[test]
fn killed_between_manifest_and_catalogue_it_catches_up() {
    let Some(s3) = bucket() else { return };
    let server = s3.url.rsplit(':').next().and_then(|port| port.parse().ok()).expect("a port");
    let gate = Gate::before(server, &format!("PUT /{BUCKET}/gantry/catalog/"));
    let cloud = Cloud::new(&format!("http://127.0.0.1:{}", gate.port()), [&s3.key, &s3.secret], "");
    let node = Node::start(&format!("[web]\nlisten = \"127.0.0.1:0\"\n{}", cloud.section()));
    send_study(&node, 1, small);
    eventually("it begins with the catalogue", || gate.is_reached());
    let count = |part: &str| s3.keys(BUCKET).iter().filter(|key| key.contains(part)).count();
    assert_eq!((count("/batches/"), count("/catalog/"), parts(&node, "sent")), (1, 0, 0));
    kill(child(&node).expect("it runs"));
    assert_eq!((count("/batches/"), count("/catalog/"), parts(&node, "sent")), (1, 0, 0));

    gate.open();
    eventually("it is in the bucket", || parts(&node, "sent") == 1);
    let all = studies(&s3);
    assert_eq!((all.len(), count("/batches/")), (1, 1), "once");
    // Study, series and instances.
    assert_eq!(count("/catalog/"), 3, "{:?}", s3.keys(BUCKET));
    let verified = printed(&node.says(&["sync", "verify", "--read", "--json"]));
    assert_eq!(verified["right"], true, "{verified}");
}

#[test]
fn whatever_is_killed_each_study_is_there_once() {
    let Some(s3) = bucket() else { return };
    let cloud = Cloud::of(&s3, "");
    let config = format!("[web]\nlisten = \"127.0.0.1:0\"\n{}", cloud.section());
    let mut node = Node::start(&config);
    for number in 0..6 {
        send_study(&node, number, small);
        if let Some(id) = child(&node) {
            // Wherever it is just then.
            std::thread::park_timeout(std::time::Duration::from_millis(u64::from(number) * 40));
            kill(id);
        }
        if number == 3 {
            let left = child(&node);
            node.kill();
            eventually("the child ends with its node", || {
                left.is_none_or(|id| !Path::new(&format!("/proc/{id}/exe")).exists())
            });
            node = node.again(&config);
        }
    }
    eventually("all of it is in the bucket", || parts(&node, "sent") == 6);
    let all = studies(&s3);
    let of = |study: &Value| text(&dicom(&objects(&s3, study, "instance", "dicom")[0]), tags::STUDY_INSTANCE_UID);
    let uids: BTreeSet<String> = all.iter().map(of).collect();
    assert_eq!((all.len(), uids.len()), (6, 6), "each once");
    assert!(all.iter().all(|study| study["objects"].as_array().is_some_and(|objects| objects.len() == 10)));
    let verified = printed(&node.says(&["sync", "verify", "--read", "--repair", "--json"]));
    assert_eq!(verified["right"], true, "{verified}");
}

#[test]
fn while_the_server_is_away_nothing_is_lost() {
    let port = free_port();
    let cloud = Cloud::away(port, "");
    let node = Node::start(&format!("[web]\nlisten = \"127.0.0.1:0\"\n{}", cloud.section()));
    send_study(&node, 1, small);
    eventually("it says that nobody answers", || {
        let status = status(&node);
        status["halted"].as_str().is_some_and(|why| why.contains("s3.attempts_max = 2"))
    });
    let Some(s3) = S3Server::moto_on(port) else { return };
    s3.make(BUCKET);
    eventually("it goes on", || parts(&node, "sent") == 1);
    assert_eq!(studies(&s3).len(), 1);
}

#[test]
fn who_opts_out_while_a_batch_waits_is_taken_out_of_it_and_the_other_leaves() {
    let port = free_port();
    let cloud = Cloud::away(port, "[consent]\nopt_out_file = \"opt-out.txt\"\n");
    let cloud = cloud.with("batch_age_max_s = 1", "batch_age_max_s = 600\nbatch_studies_max = 3");
    cloud.opt_out("PAT-0000\n");
    let node = Node::start(&format!("[web]\nlisten = \"127.0.0.1:0\"\n{}", cloud.section()));
    for (number, patient) in [(1, "PAT-4711"), (2, "PAT-4712"), (3, "PAT-4711")] {
        send_study_of(&node, patient, number, small);
    }
    let halted = |why: &str| status(&node)["halted"].as_str().is_some_and(|halted| halted.contains(why));
    eventually("their batch is sealed, and nobody answers", || halted("s3.attempts_max = 2"));
    cloud.opt_out("PAT-0000\nPAT-4711\n");
    eventually("what is theirs stays", || parts(&node, "skipped") == 2);
    let withdrawn = node.audited("sync-study-withdrawn");
    assert_eq!(withdrawn.len(), 2, "{withdrawn:?}");
    let why = "its patient opted out after it was taken in; objects of it may be in the bucket";
    assert!(withdrawn.iter().all(|row| row["detail"] == why), "{withdrawn:?}");

    send_study_of(&node, "PAT-4711", 4, small);
    eventually("what comes later of them stays, too", || parts(&node, "skipped") == 3);
    let Some(s3) = S3Server::moto_on(port) else { return };
    s3.make(BUCKET);
    eventually("the other is in the bucket", || parts(&node, "sent") == 1);
    let all = studies(&s3);
    assert_eq!(all.len(), 1, "{all:?}");
    let lies = s3.keys(BUCKET).iter().filter(|key| key.contains("/objects/")).count();
    assert_eq!(Some(lies), all[0]["objects"].as_array().map(Vec::len));
}

/// An outage can have hours between the two. The batch is there whole by then, with both.
#[test]
fn who_opts_out_between_manifest_and_catalogue_is_taken_out_of_both_and_the_other_is_there_once() {
    let Some(s3) = bucket() else { return };
    let server = s3.url.rsplit(':').next().and_then(|port| port.parse().ok()).expect("a port");
    let gate = Gate::before(server, &format!("PUT /{BUCKET}/gantry/catalog/"));
    let url = format!("http://127.0.0.1:{}", gate.port());
    let cloud = Cloud::new(&url, [&s3.key, &s3.secret], "[consent]\nopt_out_file = \"opt-out.txt\"\n");
    let cloud = cloud.with("batch_age_max_s = 1", "batch_age_max_s = 600\nbatch_studies_max = 2");
    cloud.opt_out("PAT-0000\n");
    let node = Node::start(&format!("[web]\nlisten = \"127.0.0.1:0\"\n{}", cloud.section()));
    send_study_of(&node, "PAT-4711", 1, small);
    send_study_of(&node, "PAT-4712", 2, small);
    eventually("it begins with the catalogue", || gate.is_reached());
    let both = studies(&s3);
    assert_eq!(both.len(), 2, "{both:?}");

    cloud.opt_out("PAT-0000\nPAT-4711\n");
    eventually("what is theirs stays", || parts(&node, "skipped") == 1);
    let count = |part: &str| s3.keys(BUCKET).iter().filter(|key| key.contains(part)).count();
    assert_eq!((count("/catalog/"), parts(&node, "sent")), (0, 0));
    gate.open();
    eventually("the other is in the bucket", || parts(&node, "sent") == 1);
    let all = studies(&s3);
    assert!(all.len() == 1 && both.contains(&all[0]), "once, as it was: {all:?}");
    assert_eq!((count("/batches/"), count("/catalog/")), (1, 3), "{:?}", s3.keys(BUCKET));
    let verified = printed(&node.says(&["sync", "verify", "--read", "--json"]));
    assert_eq!((&verified["right"], &verified["objects"]), (&json!(true), &json!(10 + 3)), "{verified}");
}

#[test]
fn a_repair_sends_nothing_again_of_who_opted_out_since() {
    let Some(s3) = bucket() else { return };
    let cloud = Cloud::of(&s3, "[consent]\nopt_out_file = \"opt-out.txt\"\n");
    cloud.opt_out("PAT-0000\n");
    let node = Node::start(&format!("[web]\nlisten = \"127.0.0.1:0\"\n{}", cloud.section()));
    for (number, patient) in [(1, "PAT-4711"), (2, "PAT-4712")] {
        send_study_of(&node, patient, number, small);
        eventually("it is in the bucket", || parts(&node, "sent") == u64::from(number));
    }
    let all = studies(&s3);
    // In the order of their batches.
    let keys: Vec<String> = all.iter().map(|study| object_key(&study["objects"][0])).collect();
    let repaired = || {
        let verified = printed(&node.says(&["sync", "verify", "--repair", "--json"]));
        assert_eq!(verified["right"], true, "{verified}");
        ["manifests_wrong", "missing", "repaired", "opted_out"].map(|count| verified[count].as_u64().expect("a number"))
    };
    let there = |key: &String| s3.keys(BUCKET).contains(key);
    cloud.opt_out("PAT-0000\nPAT-4711\n");
    keys.iter().for_each(|key| s3.remove(BUCKET, key));
    assert_eq!(repaired(), [0, 2, 1, 1]);
    assert!(!there(&keys[0]) && there(&keys[1]), "{keys:?}");
    let manifest = s3.keys(BUCKET).into_iter().find(|key| key.contains("/batches/")).expect("the first");
    s3.remove(BUCKET, &manifest);
    assert_eq!(repaired(), [1, 0, 0, 1]);
    assert!(!there(&manifest));

    cloud.opt_out("PAT-0000\n");
    assert_eq!(repaired(), [1, 1, 2, 0], "who is on the list no more");
    assert!(there(&keys[0]) && there(&manifest));
}

/// Of 8 MiB in one batch no more leaves than may, also when the process is killed and comes again.
#[test]
fn a_limit_is_not_passed_by_a_batch_that_is_larger() {
    let Some(s3) = bucket() else { return };
    let cloud = Cloud::of(&s3, "[limits]\nhourly_max_mib = 5\n");
    let config = format!("[web]\nlisten = \"127.0.0.1:0\"\n{}", cloud.section());
    let mut node = Node::start(&config);
    let large = |folder: &Path| {
        small(folder);
        change_files(folder, |index, slice| {
            for tag in [tags::ROWS, tags::COLUMNS] {
                slice.put(DataElement::new(tag, VR::US, PrimitiveValue::from(640_u16)));
            }
            let voxels: Vec<u16> = (0..640 * 640).map(|n| (n % 97 + index) as u16).collect();
            slice.put(DataElement::new(tags::PIXEL_DATA, VR::OW, PrimitiveValue::U16(voxels.into())));
        })
        .expect("changed");
    };
    send_study(&node, 1, large);
    let halted =
        |node: &Node| status(node)["halted"].as_str().is_some_and(|why| why.contains("leave room for more at"));
    let lies = || s3.keys(BUCKET).iter().map(|key| s3.get(BUCKET, key).len()).sum::<usize>();
    for _ in 0..2 {
        eventually("it waits", || halted(&node));
        let lies = lies();
        assert!((4 << 20..=5 << 20).contains(&lies), "{lies} bytes");
        node.kill();
        node = node.again(&config);
    }
    assert_eq!(parts(&node, "sent"), 0);
}

#[test]
fn without_a_policy_or_with_a_wrong_one_it_says_what_to_do() {
    let node = Node::start("");
    let said = node.says(&["sync", "run"]);
    assert!(said.code == Some(2) && said.err.contains("sync.policy is not set"), "{said:?}");
    let cloud = Cloud::away(9, "");
    std::fs::remove_file(cloud.folder.path().join("signing.pem")).expect("removed");
    let node = Node::start(&cloud.section());
    let said = node.says(&["doctor"]);
    assert!(said.out.contains("openssl genpkey"), "{said:?}");

    // As docs/sync.md has it.
    let cloud = Cloud::away(9, "");
    let page = std::fs::read_to_string(repository().join("docs/sync.md")).expect("readable");
    let (_, policy) = page.split_once("<<'POLICY'\n").expect("a policy");
    std::fs::write(cloud.folder.path().join("sync.toml"), policy.split_once("POLICY\n").expect("its end").0)
        .expect("written");
    std::fs::write(cloud.folder.path().join("gantry.toml"), cloud.section()).expect("written");
    let file = cloud.folder.path().join("gantry.toml");
    let said = Said::from(gantry().args(["config", "check"]).arg(file).output().expect("gantry runs"));
    assert!(said.out.contains("policy of site site-a, profile qa-minimal"), "{said:?}");
}
