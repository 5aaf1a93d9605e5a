//! Results on their way to where they are looked at: real archives, peers that fail in every way, kills in between.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use dicom_dictionary_std::{tags, uids};
use dicom_ul::pdu::{
    AssociationRJ, AssociationRJResult, AssociationRJServiceUserReason, AssociationRJSource, PDataValueType, Pdu,
};
use gantry_tests::certificates::certificates;
use gantry_tests::dimse::{Peer, command, data_set, element, padded};
use gantry_tests::node::{Node, eventually};
use gantry_tests::orthanc::Orthanc;
use gantry_tests::{Scenario, skipped};
use hmac::{Hmac, KeyInit, Mac};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::dicomweb::get;
use crate::dimse::orthanc_tls;
use crate::node::{json, send_ct, site};

/// Tries again at once, so that a test waits for nothing but what it is about.
const EAGER: &str = "retry_first_ms = 20\nretry_max_ms = 60\nbreaker_open_ms = 20\ntimeout_ms = 2000\n";

fn destination(name: &str, lines: &str) -> String {
    format!("[[destinations]]\nname = {name:?}\n{EAGER}{lines}\n")
}

fn deliveries(node: &Node) -> Vec<Value> {
    let list = json(&node.says(&["outbox", "list", "--json"]));
    list["deliveries"].as_array().expect("a list").clone()
}

/// The only delivery to a destination, once it is in a state.
fn delivery(node: &Node, destination: &str, state: &str) -> Value {
    let mut last = None;
    eventually(&format!("{destination} {state}"), || {
        last = deliveries(node).into_iter().find(|row| row["destination"] == destination);
        last.as_ref().is_some_and(|row| row["state"] == state)
    });
    last.expect("a delivery")
}

/// The folder of the only result, with its `result.json`.
fn result(node: &Node) -> (PathBuf, Value) {
    let mut found = None;
    eventually("a result", || {
        found = node.files("results").into_iter().find(|file| file.ends_with("result.json"));
        found.is_some()
    });
    let file = found.expect("a result");
    let result = serde_json::from_slice(&std::fs::read(&file).expect("readable")).expect("JSON");
    (file.parent().expect("a folder").to_owned(), result)
}

/// SOP Instance UIDs of the result's objects.
fn instances(result: &Value) -> BTreeSet<String> {
    let outputs = result["outputs"].as_array().expect("a list").iter();
    outputs.filter_map(|output| Some(output["sop_instance_uid"].as_str()?.to_owned())).collect()
}

fn kept(orthanc: &Orthanc) -> BTreeSet<String> {
    let all: Value =
        serde_json::from_str(&orthanc.rest("GET", "/instances?expand", b"").expect("a list")).expect("JSON");
    let uid = |instance: &Value| instance["MainDicomTags"]["SOPInstanceUID"].as_str().expect("a UID").to_owned();
    all.as_array().expect("a list").iter().map(uid).collect()
}

fn listener() -> TcpListener {
    TcpListener::bind(("127.0.0.1", 0)).expect("a port")
}

fn dimse(listener: &TcpListener, lines: &str) -> String {
    let address = listener.local_addr().expect("an address").to_string();
    format!("dimse = {{ address = {address:?}, ae_title = \"PEER\"{lines} }}")
}

#[test]
fn results_come_to_orthanc_by_c_store_and_by_stow() {
    let (Some(module), Some(orthanc), Some(other)) =
        (Scenario::rogue("well-behaved"), Orthanc::start(), Orthanc::start())
    else {
        return;
    };
    let destinations =
        destination("pacs", &format!("dimse = {{ address = {:?}, ae_title = \"ORTHANC\" }}", orthanc.dicom()))
            + &destination("web", &format!("stow = {{ url = {:?} }}", other.dicom_web()));
    let node = Node::start(&site(module.package_folder(), &destinations));
    send_ct(&node);
    let rows = ["pacs", "web"].map(|name| delivery(&node, name, "sent"));
    let (_, result) = result(&node);
    assert_eq!(instances(&result).len(), 2, "SEG and SR");
    for (orthanc, row) in [&orthanc, &other].into_iter().zip(&rows) {
        assert_eq!(kept(orthanc), instances(&result), "{row}");
        assert_eq!((&row["attempts"], &row["error"]), (&1.into(), &Value::Null), "{row}");
    }
    let delivered = node.audited("result-delivered");
    assert_eq!(delivered.len(), 2, "{delivered:?}");
    let digests = delivered[0]["digests"].as_str().expect("text");
    let named = result["outputs"].as_array().expect("a list").iter().filter(|o| o["sop_class_uid"].is_string());
    named.for_each(|o| {
        assert!(digests.contains(&format!("output={}", o["sha256"].as_str().expect("text"))), "{digests}")
    });
    let metrics = get(&node, "/metrics").text();
    for line in [
        "gantry_deliveries_sent_total{destination=\"pacs\"} 1\n",
        "gantry_deliveries_sent_total{destination=\"web\"} 1\n",
        "gantry_deliveries{destination=\"pacs\",state=\"queued\"} 0\n",
        "gantry_delivery_age_seconds{destination=\"web\"} 0.0\n",
        "gantry_destination_left_alone{destination=\"web\"} 0\n",
    ] {
        assert!(metrics.contains(line), "`{line}` is missing: {metrics}");
    }
}

#[test]
fn orthanc_that_is_gone_for_a_while_has_everything_once() {
    let (Some(module), Some(mut orthanc)) = (Scenario::rogue("well-behaved"), Orthanc::start()) else { return };
    let destinations =
        destination("pacs", &format!("dimse = {{ address = {:?}, ae_title = \"ORTHANC\" }}", orthanc.dicom()))
            + &destination("web", &format!("stow = {{ url = {:?} }}", orthanc.dicom_web()));
    let config = site(module.package_folder(), &destinations);
    let mut node = Node::start(&config);
    orthanc.stop();
    send_ct(&node);
    for name in ["pacs", "web"] {
        let mut row = Value::Null;
        eventually("it is tried", || {
            row = delivery(&node, name, "queued");
            row["error"].is_string()
        });
        // One that is being made counts until it ends.
        assert!(row["attempts"].as_u64().is_some_and(|attempts| attempts <= 1), "nobody is there: none counts: {row}");
    }
    eventually("the breaker opens", || {
        get(&node, "/metrics").text().contains("gantry_destination_left_alone{destination=\"pacs\"} 1\n")
    });
    // Killed meanwhile: what waits, waits in the journal.
    node.kill();
    let node = node.again(&config);
    assert_eq!(deliveries(&node).len(), 2);
    orthanc.again();
    for name in ["pacs", "web"] {
        let row = delivery(&node, name, "sent");
        assert_eq!(row["error"], Value::Null, "{row}");
    }
    let (_, result) = result(&node);
    assert_eq!(kept(&orthanc), instances(&result), "nothing is lost");
    assert_eq!(orthanc.instances().expect("counted"), 2, "and nothing is there twice");
    assert_eq!(node.audited("result-delivered").len(), 2);
}

/// DCMTK's receiver, gone when it is dropped.
struct Storescp(Child);

impl Storescp {
    fn start(folder: &Path, port: u16, options: &[&str]) -> Option<Self> {
        let mut command = Command::new("storescp");
        command.args(options).arg("-od").arg(folder).arg(port.to_string()).stdin(Stdio::null());
        match command.stdout(Stdio::null()).stderr(Stdio::null()).spawn() {
            Ok(child) => Some(Self(child)),
            Err(_) => {
                skipped("storescp is not installed: run `apt-get install dcmtk`");
                None
            }
        }
    }
}

impl Drop for Storescp {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A destination that knows no encoding but the one that everybody must know gets that; others get the file as it is.
#[test]
fn storescp_gets_what_was_written_in_the_encoding_that_it_knows() {
    let Some(module) = Scenario::rogue("well-behaved") else { return };
    let folders = [(); 2].map(|()| tempfile::tempdir().expect("a folder"));
    let ports = [(); 2].map(|()| listener()).map(|held| held.local_addr().expect("an address").port());
    let [Some(_any), Some(_implicit)] =
        [(0, &[][..]), (1, &["+xi"][..])].map(|(i, options)| Storescp::start(folders[i].path(), ports[i], options))
    else {
        return;
    };
    let to = |name: &str, port: u16| {
        destination(name, &format!("dimse = {{ address = \"127.0.0.1:{port}\", ae_title = \"STORESCP\" }}"))
    };
    let node = Node::start(&site(module.package_folder(), &(to("any", ports[0]) + &to("implicit", ports[1]))));
    send_ct(&node);
    for name in ["any", "implicit"] {
        delivery(&node, name, "sent");
    }
    let (folder, result) = result(&node);
    for (received, syntax) in folders.iter().zip([uids::EXPLICIT_VR_LITTLE_ENDIAN, uids::IMPLICIT_VR_LITTLE_ENDIAN]) {
        let files = std::fs::read_dir(received.path()).expect("readable").map(|entry| entry.expect("an entry").path());
        let mut found = BTreeSet::new();
        for file in files {
            let object = dicom_object::open_file(&file).expect("DICOM");
            assert_eq!(object.meta().transfer_syntax(), syntax);
            let instance = object.meta().media_storage_sop_instance_uid().to_owned();
            let outputs = result["outputs"].as_array().expect("a list").iter();
            let output = outputs.clone().find(|output| output["sop_instance_uid"] == *instance).expect("one of ours");
            let ours = dicom_object::open_file(folder.join(output["file"].as_str().expect("text"))).expect("DICOM");
            for (one, other) in ours.iter().zip(object.iter()) {
                assert_eq!(one.header().tag, other.header().tag);
            }
            let text = |o: &dicom_object::DefaultDicomObject| {
                o.element(tags::PATIENT_NAME).expect("there").to_str().expect("text").into_owned()
            };
            assert_eq!(text(&ours), text(&object));
            found.insert(instance);
        }
        assert_eq!(found, instances(&result));
    }
}

/// One connection to a peer that fails in a way of its own.
fn connection(listener: &TcpListener) -> Peer {
    Peer::on(listener.accept().expect("a connection").0)
}

#[test]
fn a_peer_that_rejects_aborts_stalls_and_refuses_has_it_in_the_end() {
    let Some(module) = Scenario::rogue("well-behaved") else { return };
    let listener = listener();
    let lines = format!("send = [\"segmentation\"]\nbreaker_failures_max = 100\n{}", dimse(&listener, ""));
    let to = destination("peer", &lines).replace("timeout_ms = 2000", "timeout_ms = 300");
    let node = Node::start(&site(module.package_folder(), &to));
    send_ct(&node);

    let mut peer = connection(&listener);
    assert!(matches!(peer.read(), Some(Pdu::AssociationRQ(_))));
    let source = AssociationRJSource::ServiceUser(AssociationRJServiceUserReason::CallingAETitleNotRecognized);
    peer.send(&Pdu::AssociationRJ(AssociationRJ { result: AssociationRJResult::Permanent, source }));
    drop(peer);

    // Gone in the middle of a PDU.
    let mut peer = connection(&listener);
    peer.accept_all().expect("a request");
    peer.send_bytes(&[4, 0, 0, 0, 0, 200, 0, 0]);
    peer.cut();

    // Takes everything and says nothing.
    let mut peer = connection(&listener);
    peer.accept_all().expect("a request");
    let (_, first, data) = peer.message().expect("an object");
    assert!(matches!(peer.read(), Some(Pdu::AbortRQ { .. })), "after destinations.timeout_ms");
    drop(peer);

    // Says that it is full, and then that it takes it with a remark.
    for status in [0xA700, 0xB000] {
        let mut peer = connection(&listener);
        peer.accept_all().expect("a request");
        let (context, request, again) = peer.message().expect("an object");
        assert_eq!(element(&request, 0x1000), element(&first, 0x1000), "the same SOP Instance UID");
        assert_eq!(again, data, "and the same bytes");
        peer.respond(context, &request, status);
        assert!(peer.released());
    }
    let row = delivery(&node, "peer", "sent");
    assert_eq!(row["attempts"], 4, "an association that does not come to be costs none: {row}");
    assert_eq!(row["detail"], "segmentation.dcm: taken with status B000", "{row}");
    let (folder, _) = result(&node);
    assert!(data == data_set(&folder.join("segmentation.dcm")), "as it lies there");
    for said in ["rejects the association", "silent longer than destinations.timeout_ms = 300", "with status A700"] {
        assert!(node.log().contains(said), "{said}: {}", node.log());
    }
}

#[test]
fn what_is_refused_for_good_waits_for_a_person() {
    let Some(module) = Scenario::rogue("well-behaved") else { return };
    let listener = listener();
    let to = destination("peer", &format!("send = [\"segmentation\"]\n{}", dimse(&listener, "")));
    let node = Node::start(&site(module.package_folder(), &to));
    send_ct(&node);
    let answer = |status| {
        let mut peer = connection(&listener);
        peer.accept_all().expect("a request");
        let (context, request, _) = peer.message().expect("an object");
        peer.respond(context, &request, status);
        assert!(peer.released());
    };
    answer(0xC000);
    let row = delivery(&node, "peer", "dead");
    assert_eq!(row["error"], "segmentation.dcm: it refuses it with status C000", "{row}");
    assert_eq!(node.audited("delivery-failed").len(), 1);
    let id = row["id"].to_string();
    let shown = node.says(&["outbox", "show", &id]);
    assert!(shown.code == Some(0) && shown.out.starts_with(&format!("delivery {id}: dead to peer\n")), "{shown:?}");

    let said = node.says(&["outbox", "retry", &id]);
    assert!(said.code == Some(0) && said.out == format!("delivery {id} waits for its turn\n"), "{said:?}");
    answer(0);
    delivery(&node, "peer", "sent");
    let said = node.says(&["outbox", "drop", &id]);
    assert!(said.code == Some(3) && said.err.contains(&format!("delivery {id} is sent")), "{said:?}");
    for words in [["retry", "99"], ["drop", "99"], ["show", "99"]] {
        let said = node.says(&[&["outbox"], &words[..]].concat());
        assert!(said.code == Some(3) && said.err.contains("there is no delivery 99"), "{said:?}");
    }
    // Once more, for an archive that lost it; and dropped before it is there.
    let shown = json(&node.says(&["outbox", "retry", &id, "--json"]));
    assert_eq!((&shown["state"], &shown["module"]), (&"queued".into(), &"rogue".into()), "{shown}");
    let mut peer = connection(&listener);
    let said = json(&node.says(&["outbox", "drop", "--destination", "peer", "--json"]));
    assert_eq!(said, json!({ "changed": [row["id"]], "left": [] }));
    peer.accept_all().expect("a request");
    peer.cut();
    eventually("it ends", || node.log().matches("not delivered yet").count() > 0);
    delivery(&node, "peer", "dropped");
    assert_eq!([node.audited("delivery-retried").len(), node.audited("delivery-dropped").len()], [2, 1]);
}

/// The peer has it, and the node dies before it knows.
#[test]
fn what_was_taken_before_a_kill_is_sent_again_under_the_same_uid() {
    let Some(module) = Scenario::rogue("well-behaved") else { return };
    let listener = listener();
    let to = destination("peer", &format!("send = [\"report\"]\n{}", dimse(&listener, "")));
    let config = site(module.package_folder(), &to);
    let mut node = Node::start(&config);
    send_ct(&node);
    let mut peer = connection(&listener);
    peer.accept_all().expect("a request");
    let (_, first, data) = peer.message().expect("an object");
    node.kill();
    drop(peer);
    let node = node.again(&config);
    let mut peer = connection(&listener);
    peer.accept_all().expect("a request");
    let (context, request, again) = peer.message().expect("an object");
    assert_eq!(element(&request, 0x1000), element(&first, 0x1000));
    assert_eq!(again, data);
    peer.respond(context, &request, 0);
    assert!(peer.released());
    delivery(&node, "peer", "sent");
    assert_eq!(node.audited("result-delivered").len(), 1);
}

#[test]
fn a_destination_that_hangs_holds_up_no_other_one() {
    let Some(module) = Scenario::rogue("well-behaved") else { return };
    let (hangs, folder) = (listener(), tempfile::tempdir().expect("a folder"));
    let to = destination("hangs", &dimse(&hangs, "")).replace("timeout_ms = 2000", "timeout_ms = 60000")
        + &destination("share", &format!("folder = {{ path = {:?} }}", folder.path()));
    let mut node = Node::start(&site(module.package_folder(), &to));
    send_ct(&node);
    let mut peer = connection(&hangs);
    delivery(&node, "share", "sent");
    assert_eq!(delivery(&node, "hangs", "queued")["attempts"], 1);
    let (from, result) = result(&node);
    let found: Vec<_> =
        std::fs::read_dir(folder.path()).expect("readable").map(|e| e.expect("an entry").path()).collect();
    let [place] = found.as_slice() else { panic!("{found:?}") };
    let files =
        result["outputs"].as_array().expect("a list").iter().map(|o| o["file"].as_str().expect("text").to_owned());
    let mut expected: BTreeSet<String> = files.collect();
    expected.insert("result.json".into());
    let there = std::fs::read_dir(place)
        .expect("readable")
        .map(|e| e.expect("an entry").file_name().into_string().expect("text"));
    assert_eq!(there.collect::<BTreeSet<_>>(), expected);
    for file in expected {
        assert!(std::fs::read(place.join(&file)).ok() == std::fs::read(from.join(&file)).ok(), "{file}");
    }
    assert!(matches!(peer.read(), Some(Pdu::AssociationRQ(_))));
    // It does not hold up the end of the node for longer than `node.drain_ms` either; here the peer ends it.
    peer.cut();
    assert!(node.stop(), "{}", node.log());
}

/// A request over HTTP: its head, and its body.
fn request(listener: &TcpListener) -> (TcpStream, String, Vec<u8>) {
    let (mut stream, _) = listener.accept().expect("a connection");
    stream.set_read_timeout(Some(Duration::from_secs(30))).expect("set");
    let mut bytes = Vec::new();
    let mut piece = [0; 65536];
    let mut head = None;
    loop {
        if head.is_none() {
            head = bytes.windows(4).position(|w| w == b"\r\n\r\n").map(|at| at + 4);
        }
        if let Some(at) = head {
            let text = String::from_utf8_lossy(&bytes[..at]).into_owned();
            let lower = text.to_ascii_lowercase();
            let length = lower.lines().find_map(|l| l.strip_prefix("content-length: ")?.trim().parse::<usize>().ok());
            let whole = match length {
                Some(length) => bytes.len() >= at + length,
                None => bytes.ends_with(b"0\r\n\r\n"),
            };
            if whole {
                return (stream, text, bytes[at..].to_vec());
            }
        }
        let read = stream.read(&mut piece).expect("readable");
        assert!(read > 0, "cut");
        bytes.extend_from_slice(&piece[..read]);
    }
}

fn answer(mut stream: TcpStream, status: &str, kind: &str, body: &str, length: usize) {
    let head =
        format!("HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n");
    stream.write_all(head.as_bytes()).expect("written");
    stream.write_all(body.as_bytes()).expect("written");
}

#[test]
fn a_web_server_that_fails_in_every_way_has_it_in_the_end() {
    let Some(module) = Scenario::rogue("well-behaved") else { return };
    let listener = listener();
    let url = format!("http://{}/dicom-web", listener.local_addr().expect("an address"));
    let lines = format!("send = [\"segmentation\"]\nbreaker_failures_max = 100\nstow = {{ url = {url:?} }}");
    let node = Node::start(&site(module.package_folder(), &destination("web", &lines)));
    send_ct(&node);
    let json = "application/dicom+json";
    let (stream, head, first) = request(&listener);
    assert!(head.starts_with("POST /dicom-web/studies/2.25.2 HTTP/1.1\r\n"), "{head}");
    answer(stream, "429 Too Many Requests", json, "", 0);
    answer(request(&listener).0, "500 Internal Server Error", "text/html", "<h1>", 4);
    let (_, result) = result(&node);
    let output = result["outputs"].as_array().expect("a list").iter().find(|o| o["kind"] == "segmentation");
    let instance = output.expect("a segmentation")["sop_instance_uid"].as_str().expect("text");
    let says = |sequence: &str, more: Value| {
        let mut item = json!({ "00081155": { "vr": "UI", "Value": [instance] } });
        item.as_object_mut().expect("an object").extend(more.as_object().cloned().unwrap_or_default());
        json!({ sequence: { "vr": "SQ", "Value": [item] } }).to_string()
    };
    let stored = says("00081199", json!({}));
    // Half a body, and a whole one that tells of something else.
    answer(request(&listener).0, "200 OK", json, &stored[..stored.len() / 2], stored.len());
    answer(request(&listener).0, "200 OK", json, "{}", 2);
    let full = says("00081198", json!({ "00081197": { "vr": "US", "Value": [0xA700] } }));
    answer(request(&listener).0, "202 Accepted", json, &full, full.len());
    let (stream, _, last) = request(&listener);
    let object = |body: &[u8]| {
        let text = |at: usize| &body[at..];
        let dicm = body.windows(4).position(|w| w == b"DICM").expect("a DICOM file");
        text(dicm)[..1000.min(body.len() - dicm)].to_vec()
    };
    assert_eq!(object(&last), object(&first), "the same object");
    answer(stream, "200 OK", json, &stored, stored.len());
    let row = delivery(&node, "web", "sent");
    assert_eq!(row["attempts"], 6, "{row}");
    for said in ["status 429", "status 500", "is no DICOM JSON, or was cut", "says nothing of it", "status A700"] {
        assert!(node.log().contains(said), "{said}: {}", node.log());
    }
    assert!(!node.log().contains("SECRET") && !node.log().contains("Secret"), "no patient data: {}", node.log());
}

#[test]
fn a_message_is_signed_and_names_nobody_unless_that_is_wanted() {
    let Some(module) = Scenario::rogue("well-behaved") else { return };
    let (listeners, folder) = ([listener(), listener()], tempfile::tempdir().expect("a folder"));
    let secret = folder.path().join("secret");
    std::fs::write(&secret, "s3cret\n").expect("written");
    let hook = |name: &str, listener: &TcpListener, more: &str| {
        let url = format!("http://{}/hook", listener.local_addr().expect("an address"));
        destination(name, &format!("webhook = {{ url = {url:?}, secret_file = {secret:?}{more} }}"))
    };
    let to = hook("plain", &listeners[0], "") + &hook("named", &listeners[1], ", identity = true");
    let node = Node::start(&site(module.package_folder(), &to));
    send_ct(&node);
    let (stream, first, _) = request(&listeners[0]);
    answer(stream, "503 Service Unavailable", "text/plain", "", 0);
    for (index, listener) in listeners.iter().enumerate() {
        let (stream, head, body) = request(listener);
        let header = |head: &str, name: &str| {
            let lines = head.lines().filter_map(|line| line.split_once(": "));
            lines.filter(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.to_owned()).next()
        };
        let of = |name: &str| header(&head, name).expect(name);
        let mut mac = Hmac::<Sha256>::new_from_slice(b"s3cret").expect("a key");
        mac.update(of("Gantry-Timestamp").as_bytes());
        mac.update(b".");
        mac.update(&body);
        assert_eq!(of("Gantry-Signature"), format!("sha256={}", gantry::hex(&mac.finalize().into_bytes())));
        if index == 0 {
            assert_eq!(header(&first, "Gantry-Delivery"), Some(of("Gantry-Delivery")), "the same delivery");
        }
        let text = String::from_utf8(body).expect("text");
        assert_eq!(text.contains("Secret^Person"), index == 1, "{text}");
        assert_eq!(text.contains("SECRET-ID"), index == 1, "{text}");
        let message: Value = serde_json::from_str(&text).expect("JSON");
        assert_eq!(
            (&message["study_instance_uid"], &message["status"]),
            (&"2.25.2".into(), &"done".into()),
            "{message}"
        );
        assert!(message["findings"]["segments"][0]["name"].is_string(), "{message}");
        let (folder, _) = result(&node);
        let digest = gantry::hex(&Sha256::digest(std::fs::read(folder.join("result.json")).expect("readable")));
        assert_eq!(message["result_sha256"], digest);
        answer(stream, "204 No Content", "text/plain", "", 0);
    }
    assert_eq!(delivery(&node, "plain", "sent")["attempts"], 2);
    delivery(&node, "named", "sent");
}

#[test]
fn nothing_leaves_whose_bytes_are_not_those_of_the_job() {
    let Some(module) = Scenario::rogue("well-behaved") else { return };
    let listener = listener();
    let lines = format!("send = [\"segmentation\"]\nbreaker_failures_max = 100\n{}", dimse(&listener, ""));
    let node = Node::start(&site(module.package_folder(), &destination("peer", &lines)));
    send_ct(&node);
    // Before it answers, somebody changes the file.
    let peer = connection(&listener);
    let (folder, _) = result(&node);
    let file = folder.join("segmentation.dcm");
    let mut bytes = std::fs::read(&file).expect("readable");
    *bytes.last_mut().expect("bytes") ^= 1;
    std::fs::write(&file, bytes).expect("written");
    peer.cut();
    let row = delivery(&node, "peer", "dead");
    assert!(
        row["error"].as_str().is_some_and(|e| e.starts_with("segmentation.dcm is not what the job wrote")),
        "{row}"
    );
}

/// An N-EVENT-REPORT of these, on an association that the peer asks for.
fn report(node: &Node, transaction: &[u8], data: &[u8]) -> u16 {
    let commitment = uids::STORAGE_COMMITMENT_PUSH_MODEL;
    let mut peer = Peer::associate(node.dimse, &[(commitment, uids::EXPLICIT_VR_LITTLE_ENDIAN)]);
    let number = |n: u16| n.to_le_bytes().to_vec();
    let event = command(&[
        (0x0002, padded(commitment)),
        (0x0100, number(0x0100)),
        (0x0110, number(1)),
        (0x0800, number(1)),
        (0x1000, padded(uids::STORAGE_COMMITMENT_PUSH_MODEL_INSTANCE)),
        (0x1002, number(1)),
    ]);
    assert!(data.windows(transaction.len()).any(|w| w == transaction));
    peer.piece(1, PDataValueType::Command, true, &event);
    peer.data(1, data);
    let status = peer.status().0;
    assert!(peer.release());
    status
}

#[test]
fn a_destination_has_what_it_promised_to_keep() {
    let Some(module) = Scenario::rogue("well-behaved") else { return };
    let listener = listener();
    let to = format!("send = [\"report\"]\n{}", dimse(&listener, ", commitment = true, commitment_timeout_ms = 3000"));
    let node = Node::start(&site(module.package_folder(), &destination("peer", &to)));
    send_ct(&node);
    // It is asked, says yes, and never reports: it is sent the object again, and asked again.
    let mut reports = Vec::new();
    for _ in 0..2 {
        let mut peer = connection(&listener);
        peer.accept_all().expect("a request");
        let (context, request, _) = peer.message().expect("an object");
        peer.respond(context, &request, 0);
        let (context, request, data) = peer.message().expect("a request for storage commitment");
        assert_eq!(element(&request, 0x0100), Some(&0x0130_u16.to_le_bytes()[..]));
        peer.respond(context, &request, 0);
        // The data set of a report of success is that of the request.
        reports.push(data);
        if reports.len() == 1 {
            assert!(peer.released(), "after a moment");
            delivery(&node, "peer", "awaiting");
            assert!(node.audited("result-delivered").is_empty());
        }
    }
    let row = &deliveries(&node)[0];
    let transaction = row["transaction_uid"].as_str().expect("a UID").to_owned();
    assert_eq!(report(&node, b"2.25.", &reports[0]), 0x0115, "nothing waits under the first one any more");
    assert_eq!(report(&node, transaction.as_bytes(), &reports[1]), 0);
    let row = delivery(&node, "peer", "sent");
    assert_eq!(row["detail"], "promised to be kept", "{row}");
    assert_eq!(node.audited("result-delivered").len(), 1);
}

#[test]
fn orthanc_has_results_that_came_over_tls() {
    let Some(module) = Scenario::rogue("well-behaved") else { return };
    let folder = tempfile::tempdir().expect("a folder");
    let paths = certificates(folder.path());
    let Some(orthanc) = Orthanc::start_with(&orthanc_tls(&paths)) else { return };
    let [root, _, _, client, client_key] = &paths;
    let to = |roots: &Path| {
        format!(
            "dimse = {{ address = {:?}, ae_title = \"ORTHANC\", tls = {{ roots = {roots:?}, certificate = {client:?}, \
             key = {client_key:?}, server_name = \"localhost\" }} }}",
            orthanc.dicom()
        )
    };
    // One trusts somebody else's root: nothing is sent to who cannot be told from another.
    let text = destination("pacs", &to(root)) + &destination("wary", &to(client));
    let node = Node::start(&site(module.package_folder(), &text));
    send_ct(&node);
    delivery(&node, "pacs", "sent");
    let (_, result) = result(&node);
    assert_eq!(kept(&orthanc), instances(&result));
    eventually("it is tried", || delivery(&node, "wary", "queued")["error"].is_string());
    let row = delivery(&node, "wary", "queued");
    assert!(row["error"].as_str().is_some_and(|error| error.contains("certificate")), "{row}");
}

#[test]
fn orthanc_promises_to_keep_what_it_took() {
    let (Some(module), Some(orthanc)) = (Scenario::rogue("well-behaved"), Orthanc::start()) else { return };
    let to = format!("dimse = {{ address = {:?}, ae_title = \"ORTHANC\", commitment = true }}", orthanc.dicom());
    let node = Node::start(&site(module.package_folder(), &destination("pacs", &to)));
    let modality = json!({ "AET": "GANTRY", "Host": "127.0.0.1", "Port": node.dimse.port() });
    orthanc.rest("PUT", "/modalities/gantry", modality.to_string().as_bytes()).expect("a modality");
    send_ct(&node);
    let row = delivery(&node, "pacs", "sent");
    assert!(row["detail"].as_str().is_some_and(|d| d.contains("promised to be kept")), "{row}");
    let (_, result) = result(&node);
    assert_eq!(kept(&orthanc), instances(&result));
}

#[test]
fn destinations_are_checked_before_a_node_starts() {
    let Some(module) = Scenario::rogue("well-behaved") else { return };
    let gone = listener();
    let to = destination("peer", &dimse(&gone, "")) + &destination("web", "stow = { url = \"http://127.0.0.1:9/\" }");
    drop(gone);
    let node = Node::start(&site(module.package_folder(), &to));
    let said = json(&node.says(&["doctor", "--json"]));
    let checks = said["checks"].as_array().expect("a list");
    let found: Vec<_> = checks.iter().filter(|check| check["name"] == "destination").collect();
    assert_eq!(found.len(), 2, "{said}");
    assert!(found.iter().all(|check| check["state"] == "warn"), "{found:?}");
    assert!(found[0]["found"].as_str().is_some_and(|text| text.contains("Connection refused")), "{found:?}");
    let change = |more: &str| {
        let text = std::fs::read_to_string(node.config()).expect("readable");
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("gantry.toml");
        std::fs::write(&file, text + more).expect("written");
        let mut command = gantry_tests::command::gantry();
        let said = command.args(["config", "check"]).arg(&file).output().expect("gantry runs");
        gantry_tests::command::Said::from(said)
    };
    let webhook = "webhook = { url = \"http://a/\", secret_file = \"/nowhere/secret\" }";
    for (lines, says) in [
        (destination("hook", webhook), "destinations \"hook\": webhook.secret_file = /nowhere/secret"),
        (destination("share", "folder = { path = \"/nowhere\" }"), "destinations \"share\": folder.path = /nowhere"),
        (
            destination("web2", "modules = [\"other\"]\nstow = { url = \"http://a/\" }"),
            "results of \"other\", and no module",
        ),
    ] {
        let said = change(&lines);
        assert!(said.code == Some(2) && said.out.contains(says), "{says}: {said:?}");
    }
    let started = Instant::now();
    assert!(change("").code == Some(0) && started.elapsed() < Duration::from_secs(20));
}
