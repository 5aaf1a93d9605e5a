//! UPS-RS as worklist clients use it, and as they should not.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use dicom_core::VR;
use dicom_dictionary_std::tags;
use gantry_tests::node::{Node, eventually};
use gantry_tests::peers::Peers;
use gantry_tests::{Scenario, change_files, write_ct};
use serde_json::{Value, json};

use crate::dicomweb::{Reply, WEB, ask, exchange, get, question, web};
use crate::node::{send_ct, site};

const ALL: &str = "1.2.840.10008.5.1.4.34.5";
const DICOM_JSON: &str = "Content-Type: application/dicom+json\r\n";

fn of(reply: &Reply) -> Value {
    serde_json::from_slice(&reply.body).unwrap_or_else(|e| panic!("{e}: {}", reply.text()))
}

fn put(node: &Node, method: &str, target: &str, headers: &str, body: &[u8]) -> Reply {
    let length = format!("Content-Length: {}\r\n{headers}", body.len());
    exchange(node, &[&question(method, target, &length), body].concat())
}

/// UIDs of workitems, in order.
fn workitems(node: &Node) -> Vec<String> {
    let reply = get(node, "/dicom-web/workitems");
    if reply.status == 204 {
        return Vec::new();
    }
    let list = of(&reply);
    let uids = list.as_array().expect("a list").iter().map(|item| item["00080018"]["Value"][0].as_str());
    uids.map(|uid| uid.expect("a UID").to_owned()).collect()
}

fn workitem(node: &Node, uid: &str) -> Value {
    let reply = get(node, &format!("/dicom-web/workitems/{uid}"));
    assert_eq!(reply.status, 200, "{}", reply.text());
    of(&reply)[0].clone()
}

fn state(node: &Node, uid: &str) -> String {
    workitem(node, uid)["00741000"]["Value"][0].as_str().expect("a state").to_owned()
}

fn subscribe(node: &Node, workitem: &str, title: &str) -> Reply {
    put(node, "POST", &format!("/dicom-web/workitems/{workitem}/subscribers/{title}"), "", b"")
}

const KEY: &str = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n";

/// A subscriber's connection.
struct Channel(TcpStream);

impl Channel {
    /// Opens one; the answer to its handshake.
    fn open(node: &Node, title: &str, headers: &str) -> (Self, String) {
        let mut stream = TcpStream::connect(web(node)).expect("connected");
        stream.set_read_timeout(Some(Duration::from_secs(30))).expect("a socket");
        let path = format!("/dicom-web/subscribers/{title}");
        let request = format!("GET {path} HTTP/1.1\r\nHost: h\r\n{headers}\r\n");
        stream.write_all(request.as_bytes()).expect("sent");
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte).expect("an answer");
            head.push(byte[0]);
        }
        (Self(stream), String::from_utf8_lossy(&head).to_lowercase())
    }

    fn of(node: &Node, title: &str) -> Self {
        let (channel, head) = Self::open(node, title, &format!("Connection: Upgrade\r\nUpgrade: websocket\r\n{KEY}"));
        assert!(head.starts_with("http/1.1 101 "), "{head}");
        // That of RFC 6455 section 1.3.
        assert!(head.contains("sec-websocket-accept: s3pplmbitxaq9kygzzhzrbk+xoo="), "{head}");
        channel
    }

    /// Opcode and payload of the next frame.
    fn frame(&mut self) -> (u8, Vec<u8>) {
        let mut head = [0; 2];
        self.0.read_exact(&mut head).expect("a frame");
        assert!(head[0] & 0x80 != 0 && head[1] & 0x80 == 0, "whole and not masked: {head:?}");
        let mut length = u64::from(head[1]);
        if length == 126 {
            let mut more = [0; 2];
            self.0.read_exact(&mut more).expect("a length");
            length = u64::from(u16::from_be_bytes(more));
        }
        let mut payload = Vec::new();
        (&mut self.0).take(length).read_to_end(&mut payload).expect("a payload");
        (head[0] & 0xF, payload)
    }

    /// The next event report.
    fn event(&mut self) -> Value {
        let (opcode, payload) = self.frame();
        assert_eq!(opcode, 1, "{payload:?}");
        serde_json::from_slice(&payload).expect("JSON")
    }

    /// Type and state of the next event report of a workitem, and its priority where it is told.
    fn told(&mut self, uid: &str) -> (u64, String, Option<String>) {
        let event = self.event();
        assert_eq!(event["00001000"]["Value"][0], uid, "{event}");
        let text = |key: &str| event[key]["Value"][0].as_str().map(str::to_owned);
        let kind = event["00001002"]["Value"][0].as_u64().expect("a type");
        (kind, text("00741000").unwrap_or_default(), text("00741200"))
    }
}

fn of_state(state: &str) -> (u64, String, Option<String>) {
    (1, state.to_owned(), None)
}

#[test]
fn a_worklist_client_follows_a_job_to_its_output() {
    let Some(peers) = Peers::with("dicomweb_client, pydicom, requests") else { return };
    let Some(module) = Scenario::rogue("well-behaved") else { return };
    let node = Node::start(&site(module.package_folder(), ""));
    let folder = tempfile::tempdir().expect("a folder");
    write_ct(folder.path()).expect("written");
    change_files(folder.path(), |_, object| {
        object.put_str(tags::NUMBER_OF_STUDY_RELATED_INSTANCES, VR::IS, "10");
        object.put_str(tags::ACCESSION_NUMBER, VR::SH, "A1");
    })
    .expect("changed");
    let base = format!("http://{}/dicom-web", web(&node));
    let files: Vec<String> = (0..10).map(|z| folder.path().join(format!("{z}.dcm")).display().to_string()).collect();
    let mut arguments = vec![base.as_str()];
    arguments.extend(files.iter().map(String::as_str));
    peers.agree("ups.py", &arguments);
}

#[test]
fn a_cancellation_reaches_the_job_and_those_who_subscribed() {
    let Some(module) = Scenario::rogue("loop") else { return };
    let config = site(module.package_folder(), "[worklist]\npoll_ms = 20\n");
    let mut node = Node::start(&config);
    assert_eq!(subscribe(&node, ALL, "RIS").status, 201);
    let mut ris = Channel::of(&node, "RIS");
    send_ct(&node);
    eventually("there is a workitem", || !workitems(&node).is_empty());
    let uid = workitems(&node)[0].clone();
    assert_eq!(ris.told(&uid), of_state("SCHEDULED"));
    assert_eq!(ris.told(&uid), of_state("IN PROGRESS"));

    // Another one subscribes to this one alone, and is told at once how it stands.
    let mut viewer = Channel::of(&node, "VIEWER");
    let subscribed = subscribe(&node, &uid, "VIEWER");
    assert_eq!(subscribed.status, 201, "{}", subscribed.text());
    assert!(subscribed.head.contains("content-location: ws://h/dicom-web/subscribers/viewer"), "{}", subscribed.head);
    assert_eq!(viewer.told(&uid), of_state("IN PROGRESS"));
    // Who comes again too.
    let mut again = Channel::of(&node, "VIEWER");
    assert_eq!(again.told(&uid), of_state("IN PROGRESS"));
    drop(again);

    // Nobody else performs it.
    let path = format!("/dicom-web/workitems/{uid}/state");
    let change = |state: &str, transaction: Option<&str>| {
        let mut body = json!({"00741000": {"vr": "CS", "Value": [state]}});
        if let Some(transaction) = transaction {
            body["00081195"] = json!({"vr": "UI", "Value": [transaction]});
        }
        let reply = put(&node, "PUT", &path, DICOM_JSON, body.to_string().as_bytes());
        let warning = reply.head.lines().find(|line| line.starts_with("warning: ")).unwrap_or_default().to_owned();
        (reply.status, warning)
    };
    let warning = |text: &str| format!("warning: 299 gantry \"{text}\"");
    assert_eq!(change("COMPLETED", None), (400, warning("the transaction uid is missing.")));
    assert_eq!(change("COMPLETED", Some("2.25.1")), (409, warning("the transaction uid is incorrect.")));
    let inconsistent = warning("the submitted request is inconsistent with the state of the ups instance.");
    assert_eq!(change("IN PROGRESS", Some("2.25.1")), (409, inconsistent.clone()));
    assert_eq!(change("SCHEDULED", Some("2.25.1")).0, 400);
    assert_eq!(change("DONE", Some("2.25.1")).0, 400);

    let cancel = format!("/dicom-web/workitems/{uid}/cancelrequest?requester=RIS");
    let why = json!({"00741238": {"vr": "LT", "Value": ["the order was wrong"]}}).to_string();
    let asked = put(&node, "POST", &cancel, DICOM_JSON, why.as_bytes());
    assert_eq!(asked.status, 202, "{}", asked.text());
    for channel in [&mut ris, &mut viewer] {
        let event = channel.event();
        assert_eq!(event["00001002"]["Value"][0], 2, "{event}");
        assert_eq!(event["00741236"], json!({"vr": "AE", "Value": ["RIS"]}), "{event}");
        assert_eq!(event["00741238"]["Value"][0], "the order was wrong", "{event}");
        assert_eq!(channel.told(&uid), of_state("CANCELED"));
    }
    let canceled = workitem(&node, &uid);
    let progress = &canceled["00741002"]["Value"][0];
    assert!(progress["00404052"]["Value"][0].is_string(), "{canceled}");
    assert_eq!(progress["0074100E"]["Value"][0]["00080100"]["Value"][0], "110513", "{canceled}");
    let asked = put(&node, "POST", &cancel, DICOM_JSON, b"");
    assert_eq!(asked.status, 202, "{}", asked.text());
    assert!(asked.head.contains("already in the requested state of canceled"), "{}", asked.head);
    assert_eq!(change("CANCELED", None), (200, warning("the ups is already in the requested state of canceled.")));
    assert_eq!(change("COMPLETED", Some("2.25.1")), (409, inconsistent));
    assert_eq!(node.audited("job-cancelled")[0]["who"], "loopback");

    // Tried again, it is another one, which tells whose place it takes. What another process changes is told too.
    assert_eq!(node.says(&["job", "retry", "1"]).code, Some(0));
    eventually("there are two", || workitems(&node).len() == 2);
    let second = workitems(&node)[1].clone();
    assert_eq!(state(&node, &uid), "CANCELED", "the first stays as it was");
    assert_eq!(workitem(&node, &second)["00741224"]["Value"][0]["00081155"]["Value"][0], uid.as_str());
    let event = ris.event();
    assert_eq!(
        (&event["00001000"]["Value"][0], &event["00404041"]["Value"][0]),
        (&json!(second), &json!("INCOMPLETE"))
    );
    assert_eq!(ris.told(&second), of_state("SCHEDULED"), "and ready");
    assert_eq!(ris.told(&second), of_state("IN PROGRESS"));
    assert_eq!(node.says(&["job", "cancel", "1"]).code, Some(0));
    assert_eq!(ris.told(&second), of_state("CANCELED"));

    // That the node stops, and was started again.
    assert!(node.stop(), "{}", node.log());
    let event = ris.event();
    assert_eq!((&event["00001002"]["Value"][0], &event["00741242"]["Value"][0]), (&json!(4), &json!("GOING DOWN")));
    let (opcode, payload) = ris.frame();
    assert_eq!((opcode, &payload[..2]), (8, &1001_u16.to_be_bytes()[..]), "it is closed in order");
    let node = node.again(&config);
    let mut ris = Channel::of(&node, "RIS");
    let event = ris.event();
    assert_eq!((&event["00001002"]["Value"][0], &event["00741242"]["Value"][0]), (&json!(4), &json!("RESTARTED")));
    assert_eq!(workitems(&node), [uid, second], "the same UIDs");
}

#[test]
fn a_rise_is_told_and_a_completed_one_is_not_cancelled() {
    let Some(first) = Scenario::rogue("well-behaved") else { return };
    let Some(second) = Scenario::rogue("loop") else { return };
    let second = second.package_folder().to_owned();
    let more =
        format!("[[modules]]\npackage = {second:?}\nname = \"second\"\n[worklist]\npoll_ms = 20\nlabel = \"CT AI\"\n");
    let node = Node::start(&site(first.package_folder(), &more));
    send_ct(&node);
    let find = |query: &str| -> Vec<Value> {
        let reply = get(&node, &format!("/dicom-web/workitems?{query}"));
        if reply.status == 204 { Vec::new() } else { of(&reply).as_array().cloned().expect("a list") }
    };
    eventually("one is done and one runs", || {
        !find("ProcedureStepState=COMPLETED").is_empty() && !find("00741000=IN%20PROGRESS").is_empty()
    });
    let uid = |item: &Value| item["00080018"]["Value"][0].as_str().expect("a UID").to_owned();
    let completed = uid(&find("ProcedureStepLabel=rogue")[0]);
    let runs = uid(&find("ProcedureStepLabel=second&WorklistLabel=CT*")[0]);
    assert_eq!(find("WorklistLabel=CT%20AI&limit=1").len(), 1);
    let refused = put(&node, "POST", &format!("/dicom-web/workitems/{completed}/cancelrequest"), "", b"");
    assert_eq!(refused.status, 409, "{}", refused.text());
    assert!(refused.head.contains("warning: 299 gantry \"the ups is already completed.\""), "{}", refused.head);

    assert_eq!(subscribe(&node, &runs, "RIS").status, 201);
    let mut ris = Channel::of(&node, "RIS");
    assert_eq!(ris.told(&runs), of_state("IN PROGRESS"));
    // As an order does that comes late.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let store = gantry::store::Store::open(&node.data()).await.expect("a journal");
        let stat = gantry::worklist::Reason::order(gantry::findings::Urgency::Urgent, "STAT");
        assert_eq!(store.raise_study("2.25.2", &stat).await.expect("raised"), 2);
        store.close().await;
    });
    assert_eq!(ris.told(&runs), (1, "IN PROGRESS".into(), Some("HIGH".into())));
    assert_eq!(workitem(&node, &runs)["00741200"]["Value"][0], "HIGH");
    assert_eq!(workitem(&node, &completed)["00741200"]["Value"][0], "LOW", "what is over stays as it was");
}

#[test]
fn what_no_client_should_ask_is_refused() {
    let Some(module) = Scenario::rogue("loop") else { return };
    let node = Node::start(&site(
        module.package_folder(),
        "[worklist]\nsubscriptions_max = 2\nchannels_max = 2\nping_ms = 3000\n",
    ));
    for (path, status) in [
        ("/dicom-web/workitems/2.25.1", 404),
        ("/dicom-web/workitems/1.2.840.10008.5.1.4.34.5", 404),
        ("/dicom-web/workitems/..%2F..%2Fetc", 400),
        ("/dicom-web/workitems/x", 400),
        ("/dicom-web/workitems?PatientID=a%00", 400),
        ("/dicom-web/workitems?ScheduledProcedureStepStartDateTime=tomorrow", 400),
        ("/dicom-web/workitems?NoSuchKeyword=1", 400),
        ("/dicom-web/workitems?limit=-1", 400),
        ("/dicom-web/workitems", 204),
    ] {
        let reply = get(&node, path);
        assert_eq!(reply.status, status, "{path}: {}", reply.text());
    }
    assert_eq!(ask(&node, "GET", "/dicom-web/workitems", "Accept: application/dicom+xml\r\n").status, 406);
    assert_eq!(put(&node, "POST", "/dicom-web/workitems", DICOM_JSON, b"[{}]").status, 405, "others make none");
    for path in ["/dicom-web/workitems/2.25.1/state", "/dicom-web/workitems/2.25.1/cancelrequest"] {
        let method = if path.ends_with("state") { "PUT" } else { "POST" };
        assert_eq!(put(&node, method, path, DICOM_JSON, b"{}").status, 404, "{path}");
    }

    // Subscriptions.
    let filtered = subscribe(&node, "1.2.840.10008.5.1.4.34.5.1", "A");
    assert!(filtered.status == 403 && filtered.head.contains("filtered worklist subscriptions"), "{}", filtered.head);
    assert_eq!(subscribe(&node, ALL, "SEVENTEEN-LETTERS").status, 400);
    assert_eq!(subscribe(&node, ALL, "A%5CB").status, 400);
    assert_eq!(subscribe(&node, ALL, "A?deletionlock=maybe").status, 400);
    assert_eq!(subscribe(&node, "2.25.1", "A").status, 404);
    let locked = subscribe(&node, ALL, "A?deletionlock=true");
    assert!(locked.status == 201 && locked.head.contains("deletion lock not granted."), "{}", locked.head);
    for n in 1..10 {
        let reply = subscribe(&node, ALL, &format!("AE{n}"));
        match n {
            1 => assert_eq!(reply.status, 201),
            _ => {
                assert_eq!(reply.status, 503, "{}", reply.text());
                assert!(reply.text().contains("worklist.subscriptions_max = 2"), "{}", reply.text());
            }
        }
    }
    let suspend = |title: &str| {
        put(&node, "POST", &format!("/dicom-web/workitems/{ALL}/subscribers/{title}/suspend"), "", b"").status
    };
    assert_eq!([suspend("A"), suspend("A"), suspend("B")], [200, 404, 404]);
    let end = |title: &str| ask(&node, "DELETE", &format!("/dicom-web/workitems/{ALL}/subscribers/{title}"), "").status;
    assert_eq!([end("A"), end("A")], [200, 404]);

    // Connections.
    let upgrade = "Connection: keep-alive, Upgrade\r\nUpgrade: WebSocket\r\n";
    for (headers, why) in [
        (String::new(), "Connection must be Upgrade"),
        (format!("Connection: Upgrade\r\n{KEY}"), "Upgrade websocket"),
        (format!("{upgrade}Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 8\r\n"), "must be 13"),
        (format!("{upgrade}Sec-WebSocket-Key: short\r\nSec-WebSocket-Version: 13\r\n"), "16 bytes in Base64"),
        (format!("{upgrade}{KEY}Origin: http://evil.example\r\n"), "Origin must be"),
        (format!("{upgrade}{KEY}Origin: null\r\n"), "Origin must be"),
    ] {
        let (mut channel, head) = Channel::open(&node, "A", &headers);
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).expect("a length");
        let mut body = vec![0; length.trim().parse().expect("a number")];
        channel.0.read_exact(&mut body).expect("a body");
        let body = String::from_utf8_lossy(&body);
        let status = if headers.contains("Origin") { 403 } else { 400 };
        let refused = head.starts_with(&format!("http/1.1 {status} ")) && body.contains(why);
        assert!(refused, "{headers}: {head}{body}");
    }
    let (_own, head) = Channel::open(&node, "A", &format!("{upgrade}{KEY}Origin: http://h\r\n"));
    assert!(head.starts_with("http/1.1 101 "), "{head}");
    let mut silent = Channel::of(&node, "B");
    let (_third, head) = Channel::open(&node, "C", &format!("{upgrade}{KEY}Origin: http://h\r\n"));
    assert!(head.starts_with("http/1.1 503 "), "{head}");
    // Asked twice whether it is there, it says nothing and is let go; and so its place is free.
    assert_eq!(silent.frame().0, 9);
    let mut end = Vec::new();
    silent.0.read_to_end(&mut end).expect("it ends");
    eventually("a place is free", || {
        Channel::open(&node, "C", &format!("{upgrade}{KEY}")).1.starts_with("http/1.1 101 ")
    });
    // What a client says is bounded: a masked text of 64 KiB.
    let mut loud = Channel::of(&node, "D");
    let mut frame = vec![0x81, 0xFE, 0xFF, 0xFF, 0, 0, 0, 0];
    frame.resize(8 + 0xFFFF, b'a');
    let _ = loud.0.write_all(&frame);
    let mut end = Vec::new();
    let _ = loud.0.read_to_end(&mut end);
    assert_eq!(get(&node, "/healthz").status, 200);

    // Who may look may be told, and may not cancel.
    let token = node.says(&["token", "new", "viewer", "--scope", "read"]).out;
    let bearer = format!("Authorization: Bearer {}\r\n", token.trim());
    assert_eq!(get(&node, "/dicom-web/workitems").status, 401);
    assert_eq!(ask(&node, "GET", "/dicom-web/workitems", &bearer).status, 204);
    let (_, head) = Channel::open(&node, "E", &format!("{upgrade}{KEY}"));
    assert!(head.starts_with("http/1.1 401 "), "{head}");
    let refused = put(&node, "POST", "/dicom-web/workitems/2.25.1/cancelrequest", &bearer, b"");
    assert!(refused.status == 403 && refused.text().contains("administer"), "{}", refused.text());
    let path = format!("/dicom-web/workitems/{ALL}/subscribers/F");
    assert_eq!(put(&node, "POST", &path, &bearer, b"").status, 201);
}

#[test]
fn a_connection_ends_with_its_token() {
    let node = Node::start(&format!("{WEB}[worklist]\nping_ms = 200\n"));
    let token = node.says(&["token", "new", "viewer", "--scope", "read"]).out;
    let headers =
        format!("Connection: Upgrade\r\nUpgrade: websocket\r\n{KEY}Authorization: Bearer {}\r\n", token.trim());
    let (mut channel, head) = Channel::open(&node, "VIEWER", &headers);
    assert!(head.starts_with("http/1.1 101 "), "{head}");
    let opened = node.audited("channel-opened");
    assert_eq!(opened.len(), 1, "{opened:?}");
    assert_eq!((&opened[0]["who"], &opened[0]["object"]), (&json!("token viewer"), &json!("VIEWER")), "{opened:?}");
    let mut pings = 0;
    let end = std::thread::scope(|scope| {
        let mut revoking = None;
        loop {
            let (opcode, payload) = channel.frame();
            if opcode != 9 {
                break (opcode, payload);
            }
            // Masked, as all that a client says.
            channel.0.write_all(&[0x8A, 0x80, 0, 0, 0, 0]).expect("sent");
            pings += 1;
            if pings == 3 {
                revoking = Some(scope.spawn(|| node.says(&["token", "revoke", "viewer"]).code));
            }
            assert!(revoking.as_ref().is_none_or(|_| pings < 300), "it is told on and on");
        }
    });
    assert!(pings >= 3, "it was open as long as its token");
    assert_eq!((end.0, &end.1[..2]), (8, &1008_u16.to_be_bytes()[..]), "{end:?}");
    let (_, head) = Channel::open(&node, "VIEWER", &headers);
    assert!(head.starts_with("http/1.1 401 "), "{head}");
}
