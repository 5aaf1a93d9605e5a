//! What is said to other systems and heard from them, judged by other people's software: FHIR by fhir.resources and npm's `fhir`,
//! HL7 v2 by hl7apy, which also is the other side of MLLP.

use std::path::{Path, PathBuf};

use dicom_core::VR;
use dicom_dictionary_std::{tags, uids};
use gantry::messages::fhir::{Naming, PatientReference, Statement, bundle, statements};
use gantry::messages::hl7::ack::Ourselves;
use gantry::messages::hl7::oru::{Envelope, message, order_update};
use gantry::messages::{Subject, Told};
use gantry::study::PatientEntry;
use gantry_tests::certificates::Root;
use gantry_tests::node::{Node, eventually};
use gantry_tests::peers::{NodePeers, Peers};
use gantry_tests::{Scenario, change_files, write_ct};
use serde_json::{Value, json};

use crate::node::{json as parsed, send, site};

const RESULT_SHA256: [u8; 32] = [9; 32];

/// What a module stated about the small CT, as it stands in `result.json`.
pub(crate) fn told(guest: &str) -> Option<Told> {
    let scenario = Scenario::rogue(guest)?;
    scenario.run().expect("the result is written");
    let bytes = std::fs::read(scenario.out().join("result.json")).expect("readable");
    Some(Told::read(&bytes).expect("a result"))
}

/// With a triage, as a module would state it: none of the test guests that segment does.
pub(crate) fn with_triage(mut told: Told) -> Told {
    let triage = json!([{
        "level": "critical", "finding": { "value": "1386000", "scheme": "SCT", "meaning": "Intracranial hemorrhage" },
        "probability": 0.93, "reason": "bleeding | ^ ~ \\ &\rOBX|99||evil",
    }]);
    told.findings.triage = serde_json::from_value(triage).expect("a triage");
    told
}

pub(crate) fn subject(character_set: &str, name: &str) -> Subject {
    Subject {
        patient: PatientEntry {
            id: "P|1^2".into(),
            issuer: "HOSP".into(),
            name: name.into(),
            birth_date: "19700102".into(),
            sex: "F".into(),
        },
        study_date: "20240301".into(),
        study_time: "095959.5".into(),
        accession_number: "ACC&1".into(),
        study_description: "CT \\ head".into(),
        placer_order_number: "4711^RIS".into(),
        character_set: character_set.into(),
        modalities: vec!["CT".into()],
    }
}

fn written(folder: &Path, name: &str, bytes: &[u8]) -> String {
    let path = folder.join(name);
    std::fs::write(&path, bytes).expect("written");
    path.to_str().expect("UTF-8").to_owned()
}

#[test]
fn the_bundle_of_a_result_is_fhir_for_two_validators() {
    let (Some(python), Some(node)) = (Peers::with("fhir.resources"), NodePeers::with("fhir")) else { return };
    let Some(told) = told("segments") else { return };
    let segments = told.findings.segments.len();
    let (measured, told) = (told.findings.measurements.len(), with_triage(told));
    let folder = tempfile::tempdir().expect("a folder");
    for patient in [PatientReference::MustExist, PatientReference::Create, PatientReference::Identifier] {
        let naming = Naming {
            issuer_systems: [("HOSP".to_owned(), "https://hospital.example/patients".to_owned())].into(),
            accession_system: Some("urn:oid:1.2.3".into()),
            patient,
            task: true,
            provenance: true,
            ..Naming::default()
        };
        let subject = subject("ISO_IR 100", "Müller^Anna^^Dr.^=山田^花子");
        // An Observation and a report that an earlier version of the study had, and that hold no more.
        let said = statements(&bundle(&told, &subject, &naming, &[], &RESULT_SHA256).expect("a bundle"));
        let earlier = [said.first(), said.last()].map(|statement| {
            let statement = statement.expect("one").clone();
            Statement { identifier: statement.identifier + "9", ..statement }
        });
        let bundle = bundle(&told, &subject, &naming, &earlier, &RESULT_SHA256).expect("a bundle");
        let file = written(folder.path(), "bundle.json", bundle.to_string().as_bytes());
        let mut expected = json!({
            "Device": 1, "ImagingStudy": 1, "Observation": 2 + segments + measured, "DiagnosticReport": 2, "Task": 1,
            "Provenance": 1,
        });
        if patient == PatientReference::Create {
            expected["Patient"] = json!(1);
        }
        let expected = written(folder.path(), "expected.json", expected.to_string().as_bytes());
        python.agree("judge_fhir.py", &[&file, &expected]);
        node.agree("judge_fhir.cjs", &[&file]);
    }
}

#[test]
fn the_oru_of_a_result_is_hl7_in_every_character_set() {
    let Some(python) = Peers::with("hl7apy") else { return };
    let Some(told) = told("segments") else { return };
    let told = with_triage(told);
    let folder = tempfile::tempdir().expect("a folder");
    let named = |application: &str| Ourselves { application: application.into(), facility: "HOSP|2".into() };
    for (character_set, name, charset, xpn) in [
        ("", "Mueller^Anna^^Dr.^", "", "Mueller^Anna^^^Dr.^^L"),
        ("ISO_IR 100", "Müller^Anna", "8859/1", "Müller^Anna^^^^^L"),
        ("ISO_IR 192", "Müller^Anna", "UNICODE UTF-8", "Müller^Anna^^^^^L"),
        ("\\ISO 2022 IR 87", "Yamada^Hanako=山田^花子", "ISO IR87", "Yamada^Hanako^^^^^L^A~山田^花子^^^^^L^I"),
        ("ISO_IR 100", "山田^花子", "UNICODE UTF-8", "山田^花子^^^^^L"),
    ] {
        let envelope = Envelope { from: named("GANTRY"), to: named("RIS"), charset: None, enhanced: false };
        let oru = message(&told, &subject(character_set, name), &envelope, &RESULT_SHA256);
        let file = written(folder.path(), "oru.hl7", &oru.bytes);
        let expected = json!({
            "TYPE": "ORU^R01^ORU_R01",
            "MSH-4": ["HOSP\\F\\2"],
            "MSH-18": [charset],
            "PID-3": ["P\\F\\1\\S\\2^^^HOSP^PI"],
            "PID-5": [xpn],
            "OBR-18": ["ACC\\T\\1"],
            "OBR-25": ["P"],
            "TQ1-9": ["S^Stat^HL70485"],
        });
        let expected = written(folder.path(), "expected.json", expected.to_string().as_bytes());
        python.agree("judge_hl7.py", &[&file, &expected]);

        let update = order_update(&told, &subject(character_set, name), &envelope, &RESULT_SHA256).expect("a message");
        let file = written(folder.path(), "orm.hl7", &update.bytes);
        let expected = json!({
            "TYPE": "ORM^O01^ORM_O01", "MSH-18": [charset], "PID-5": [xpn], "ORC-1": ["XX"], "ORC-7": ["^^^^^S"], "OBR-27": ["^^^^^S"],
        });
        let expected = written(folder.path(), "expected.json", expected.to_string().as_bytes());
        python.agree("judge_hl7.py", &[&file, &expected]);
    }
}

/// The configuration of a node that takes orders.
const ORDERS: &str = "[hl7]\nlisten = \"127.0.0.1:0\"\nallowed_addresses = [\"127.0.0.1\"]\nfacility = \"HOSP\"\n";

fn order(accession: &str, priority: &str, control_id: &str) -> String {
    format!(
        "MSH|^~\\&|RIS|HOSP|GANTRY||20240301101500||ORM^O01|{control_id}|P|2.3.1\rPID|1||7^^^NATION~SECRET-ID^^^HOSP||SECRET^NAME\r\
         ORC|NW|4711^RIS|||||^^^^^{priority}\rOBR|1|4711^RIS||CT^Head|||||||||||||| {accession}|||||||||||||^fall\r"
    )
    .replace("| ", "|")
}

/// hl7apy sends these messages on one connection; its reading of the answers.
fn tell(node: &Node, python: &Peers, messages: &[String]) -> Vec<Value> {
    let folder = tempfile::tempdir().expect("a folder");
    let files = messages.iter().enumerate();
    let files: Vec<String> =
        files.map(|(n, text)| written(folder.path(), &format!("{n}.hl7"), text.as_bytes())).collect();
    let address = node.ready["hl7"].as_str().expect("it listens").to_owned();
    let mut arguments = vec!["send", address.as_str()];
    arguments.extend(files.iter().map(String::as_str));
    let output = python.script("mllp.py", &arguments).output().expect("Python runs");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

/// The small CT with an accession number, whole.
fn send_ct(node: &Node, accession: &str) {
    let folder = tempfile::tempdir().expect("a folder");
    write_ct(folder.path()).expect("written");
    change_files(folder.path(), |_, object: &mut dicom_object::InMemDicomObject| {
        object.put_str(tags::NUMBER_OF_STUDY_RELATED_INSTANCES, VR::IS, "10");
        object.put_str(tags::ACCESSION_NUMBER, VR::SH, accession);
    })
    .expect("changed");
    send(node, folder.path(), uids::EXPLICIT_VR_LITTLE_ENDIAN);
}

fn jobs(node: &Node) -> Vec<Value> {
    parsed(&node.says(&["job", "list", "--json"]))["jobs"].as_array().expect("a list").clone()
}

fn codes(answers: &[Value]) -> Vec<&str> {
    answers.iter().map(|answer| answer["code"].as_str().expect("a code")).collect()
}

#[test]
fn an_order_that_hl7apy_sends_raises_its_study_whichever_comes_first() {
    let Some(python) = Peers::with("hl7apy") else { return };
    let Some(module) = Scenario::rogue("well-behaved") else { return };
    let node = Node::start(&site(module.package_folder(), ORDERS));
    let answers = tell(&node, &python, &[order("ACC1", "S", "1"), order("ACC2", "R", "2")]);
    assert_eq!(codes(&answers), ["AA", "AA"]);
    assert_eq!(answers[0]["control_id"], "1");
    let text = answers[0]["text"].as_str().expect("text");
    assert!(text.contains("|GANTRY|HOSP|RIS|HOSP|") && text.contains("|ACK^O01^ACK|"), "{text}");

    send_ct(&node, "ACC1");
    eventually("a job", || !jobs(&node).is_empty());
    assert_eq!(jobs(&node)[0]["priority"], "urgent", "the order came first");
    // And once more when it is over: what comes later is told of the study.
    eventually("its end", || jobs(&node)[0]["state"] == "done");
    assert_eq!(codes(&tell(&node, &python, &[order("ACC1", "R", "3")])), ["AA"]);
    assert_eq!(jobs(&node)[0]["priority"], "urgent", "nothing lowers");
    let explained = parsed(&node.says(&["route", "explain", "2.25.2", "--json"]));
    let rules = explained[0]["rules"].as_array().expect("rules").iter();
    assert!(rules.clone().any(|rule| rule["rule"] == "order"), "{explained}");

    assert_eq!(node.audited("order-received").len(), 3, "one for each message");
    let log = node.log() + &node.says(&["audit", "show", "--limit", "1000"]).out;
    assert!(!log.contains("SECRET"), "no patient data");
}

#[test]
fn an_order_that_comes_later_raises_the_jobs_that_are_there() {
    let Some(python) = Peers::with("hl7apy") else { return };
    let Some(module) = Scenario::rogue("well-behaved") else { return };
    let node = Node::start(&site(module.package_folder(), ORDERS));
    send_ct(&node, "ACC1");
    eventually("a job", || !jobs(&node).is_empty());
    assert_eq!(jobs(&node)[0]["priority"], "routine");
    assert_eq!(codes(&tell(&node, &python, &[order("ACC1", "A", "1")])), ["AA"]);
    assert_eq!(jobs(&node)[0]["priority"], "prompt");
    assert_eq!(node.audited("jobs-raised")[0]["study_instance_uid"], "2.25.2");
}

#[test]
fn an_order_of_another_patient_is_taken_and_raises_nothing_whichever_comes_first() {
    let Some(python) = Peers::with("hl7apy") else { return };
    let Some(module) = Scenario::rogue("well-behaved") else { return };
    let node = Node::start(&site(module.package_folder(), ORDERS));
    let of_another = |control_id: &str| order("ACC1", "S", control_id).replace("SECRET-ID", "SECRET-P1");
    assert_eq!(codes(&tell(&node, &python, &[of_another("1")])), ["AA"], "it may be the images that are wrong");
    send_ct(&node, "ACC1");
    eventually("a job", || !jobs(&node).is_empty());
    assert_eq!(codes(&tell(&node, &python, &[of_another("2")])), ["AA"]);
    assert_eq!(jobs(&node)[0]["priority"], "routine");
    let explained = parsed(&node.says(&["route", "explain", "2.25.2", "--json"]));
    assert!(explained[0]["rules"].as_array().expect("rules").iter().all(|rule| rule["rule"] != "order"), "{explained}");
    let rows = node.audited("order-of-another");
    assert_eq!(rows.len(), 2, "when the study was routed, and when the order came: {rows:?}");
    assert!(rows.iter().all(|row| row["study_instance_uid"] == "2.25.2"), "{rows:?}");
    let log = node.log() + &node.says(&["audit", "show", "--limit", "1000"]).out;
    assert!(log.contains("names another patient") && !log.contains("SECRET"), "{log}");

    // The same patient, under the identity that was merged with that of the images.
    let merge = "MSH|^~\\&|RIS|HOSP|||20240301||ADT^A40^ADT_A39|7|P|2.5.1\rEVN||20240301\rPID|1||SECRET-P1^^^HOSP\r\
                 MRG|SECRET-ID^^^HOSP\r";
    assert_eq!(codes(&tell(&node, &python, &[merge.into(), of_another("3")])), ["AA", "AA"]);
    assert_eq!(jobs(&node)[0]["priority"], "urgent");
}

#[test]
fn what_is_wrong_is_answered_by_segment_and_field_and_merges_are_noted() {
    let Some(python) = Peers::with("hl7apy") else { return };
    let node = Node::start(ORDERS);
    send_ct(&node, "ACC1");
    let head = |kind: &str| format!("MSH|^~\\&|RIS|HOSP|||20240301||{kind}|7|P|2.5.1\r");
    let answers = tell(
        &node,
        &python,
        &[
            head("ADT^A40^ADT_A39") + "EVN||20240301\rPID|1||SECRET-NEW^^^HOSP\rMRG|SECRET-ID^^^HOSP\r",
            head("ORM^O01") + "PID|1||SECRET-P1\rORC|NW\rOBR|1\r",
            head("ORU^R01") + "PID|1||SECRET-P1\r",
            head("ORM^O01") + "PID|1||SECRET-P1\rSECRET NAME\r",
            "SECRET".into(),
            order("ACC1", "S", "9"),
        ],
    );
    assert_eq!(codes(&answers), ["AA", "AE", "AR", "AE", "AE", "AA"], "one that is wrong keeps no other from coming");
    assert_eq!(answers[1]["errors"], json!(["101"]));
    assert!(answers[1]["text"].as_str().expect("text").contains("ORC^1^2"), "{}", answers[1]);
    assert_eq!(answers[2]["errors"], json!(["200"]));
    assert!(answers.iter().all(|answer| !answer["text"].as_str().expect("text").contains("SECRET")), "{answers:?}");
    assert_eq!(node.audited("message-refused").len(), 4, "each for another reason");
    let merges = node.audited("merge-noted");
    assert!(merges.iter().any(|row| row["study_instance_uid"] == "2.25.2"), "the CT's patient: {merges:?}");
    let log = node.log() + &node.says(&["audit", "show", "--limit", "1000"]).out;
    assert!(!log.contains("SECRET-") && !log.contains("SECRET NAME"), "no patient data: {log}");
}

#[test]
fn who_is_not_allowed_is_not_listened_to_and_tls_is_spoken() {
    use std::io::{Read, Write};
    let node = Node::start(&ORDERS.replace("127.0.0.1\"]", "192.0.2.1\"]"));
    let address = node.ready["hl7"].as_str().expect("it listens");
    let mut stream = std::net::TcpStream::connect(address).expect("connected");
    let _ = stream.write_all(b"\x0BMSH|^~\\&|RIS\r\x1C\r");
    let mut said = Vec::new();
    let _ = stream.read_to_end(&mut said);
    assert!(said.is_empty(), "{said:?}");
    eventually("a row in the audit log", || !node.audited("access-refused").is_empty());

    let folder = tempfile::tempdir().expect("a folder");
    let root = Root::new(folder.path(), "root");
    let [[server, key], client] = [root.sign("localhost"), root.sign("ris")];
    let tls = format!("tls = {{ certificate = {server:?}, key = {key:?}, client_roots = {:?} }}\n", root.path);
    let node = Node::start(&(ORDERS.replace("allowed_addresses = [\"127.0.0.1\"]\n", "") + &tls));
    let address = node.ready["hl7"].as_str().expect("it listens").to_owned();
    let exchange = |own: Option<&[PathBuf; 2]>| -> std::io::Result<String> {
        let [certificate, key] = own.cloned().map_or([None, None], |own| own.map(Some));
        let config = gantry::config::PeerTlsConfig {
            roots: root.path.clone(),
            certificate,
            key,
            server_name: Some("localhost".into()),
        };
        let client = gantry::tls::Client::new(&config).expect("usable");
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            use tokio::io::{AsyncReadExt, AsyncWriteExt};
            let stream = tokio::net::TcpStream::connect(&address).await?;
            let mut stream = client.connect("127.0.0.1", stream).await?;
            stream.write_all(format!("\x0B{}\x1C\r", order("ACC1", "S", "1")).as_bytes()).await?;
            let mut answer = vec![0; 4096];
            let read = stream.read(&mut answer).await?;
            Ok(String::from_utf8_lossy(&answer[..read]).into_owned())
        })
    };
    let answer = exchange(Some(&client)).expect("an answer");
    assert!(answer.contains("MSA|AA|1"), "{answer}");
    assert!(!exchange(None).is_ok_and(|answer| answer.contains("MSA")), "without a certificate");
}

/// hl7apy as a receiver, gone when it is dropped.
struct Receiver {
    child: std::process::Child,
    port: u16,
    out: tempfile::TempDir,
}

impl Receiver {
    /// Answers with these codes first, then with AA.
    fn start(python: &Peers, codes: &[&str]) -> Self {
        use std::io::BufRead;
        let out = tempfile::tempdir().expect("a folder");
        let mut arguments = vec!["receive", out.path().to_str().expect("UTF-8")];
        arguments.extend(codes);
        let mut command = python.script("mllp.py", &arguments);
        command.stdin(std::process::Stdio::piped()).stdout(std::process::Stdio::piped());
        let mut child = command.spawn().expect("Python runs");
        let mut line = String::new();
        let stdout = child.stdout.take().expect("it is a pipe");
        std::io::BufReader::new(stdout).read_line(&mut line).expect("a port");
        Self { child, port: line.trim().parse().expect("a port"), out }
    }

    /// What it took, in order, as text.
    fn messages(&self) -> Vec<String> {
        let mut files: Vec<PathBuf> =
            std::fs::read_dir(self.out.path()).expect("readable").map(|file| file.expect("a file").path()).collect();
        files.retain(|file| file.extension().is_some_and(|extension| extension == "hl7"));
        files.sort();
        files.iter().map(|file| std::fs::read_to_string(file).expect("text")).collect()
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub(crate) fn deliveries(node: &Node) -> Vec<Value> {
    parsed(&node.says(&["outbox", "list", "--json"]))["deliveries"].as_array().expect("a list").clone()
}

#[test]
fn a_result_reaches_hl7apy_once_it_takes_it_and_a_folder_as_fhir() {
    let (Some(python), Some(node_js)) = (Peers::with("hl7apy, fhir.resources"), NodePeers::with("fhir")) else {
        return;
    };
    let Some(module) = Scenario::rogue("well-behaved") else { return };
    let receiver = Receiver::start(&python, &["AR"]);
    let folder = tempfile::tempdir().expect("a folder");
    let eager = "retry_first_ms = 20\nretry_max_ms = 60\nbreaker_open_ms = 20\ntimeout_ms = 10000\n";
    let config = format!(
        "{ORDERS}[[destinations]]\nname = \"ris\"\n{eager}mllp = {{ address = \"127.0.0.1:{}\", receiving_application = \"RIS\" }}\n\
         [[destinations]]\nname = \"ehr\"\n{eager}fhir = {{ folder = {:?}, patient_system = \"urn:oid:1.2.3\" }}\n",
        receiver.port,
        folder.path(),
    );
    let node = Node::start(&site(module.package_folder(), &config));
    assert_eq!(codes(&tell(&node, &python, &[order("ACC1", "R", "1")])), ["AA"]);
    send_ct(&node, "ACC1");
    eventually("both are sent", || {
        let rows = deliveries(&node);
        rows.len() == 2 && rows.iter().all(|row| row["state"] == "sent")
    });
    let messages = receiver.messages();
    assert_eq!(messages.len(), 2, "the first was rejected");
    assert_eq!(messages[0], messages[1], "the same message, so that the receiver can tell");
    for part in
        ["|ORU^R01^ORU_R01|", "|4711^RIS|ACC1|", "||Secret^Person^^^^^L||", "|110180^Study Instance UID^DCM||2.25.2|"]
    {
        assert!(messages[0].contains(part), "{part}: {}", messages[0]);
    }
    let files: Vec<_> =
        std::fs::read_dir(folder.path()).expect("readable").map(|f| f.expect("a file").path()).collect();
    let [file] = files.as_slice() else { panic!("{files:?}") };
    let line = std::fs::read_to_string(file).expect("text");
    assert_eq!(line.lines().count(), 1);
    let bundle: Value = serde_json::from_str(&line).expect("JSON");
    let mut counts = std::collections::BTreeMap::<String, u32>::new();
    for entry in bundle["entry"].as_array().expect("entries") {
        *counts.entry(entry["resource"]["resourceType"].as_str().expect("a type").to_owned()).or_default() += 1;
    }
    assert_eq!(counts.get("DiagnosticReport"), Some(&1), "{counts:?}");
    let work = tempfile::tempdir().expect("a folder");
    let expected = written(work.path(), "expected.json", json!(counts).to_string().as_bytes());
    python.agree("judge_fhir.py", &[file.to_str().expect("UTF-8"), &expected]);
    node_js.agree("judge_fhir.cjs", &[file.to_str().expect("UTF-8")]);
    let log = node.log() + &node.says(&["audit", "show", "--limit", "1000"]).out;
    assert!(!log.to_lowercase().contains("secret"), "no patient data");
}

#[test]
fn a_receiver_that_refuses_for_good_ends_it_without_a_word_of_the_patient() {
    let Some(python) = Peers::with("hl7apy") else { return };
    let Some(module) = Scenario::rogue("well-behaved") else { return };
    let receiver = Receiver::start(&python, &["AE"]);
    let config = format!("[[destinations]]\nname = \"ris\"\nmllp = {{ address = \"127.0.0.1:{}\" }}\n", receiver.port);
    let node = Node::start(&site(module.package_folder(), &config));
    send_ct(&node, "ACC1");
    eventually("it is given up", || deliveries(&node).first().is_some_and(|row| row["state"] == "dead"));
    assert_eq!(deliveries(&node)[0]["error"], "it answers AE");
    assert_eq!(receiver.messages().len(), 1);
    let id = deliveries(&node)[0]["id"].to_string();
    assert_eq!(node.says(&["outbox", "retry", &id]).code, Some(0));
    eventually("it is sent", || deliveries(&node)[0]["state"] == "sent");
}
