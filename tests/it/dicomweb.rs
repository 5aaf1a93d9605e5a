//! DICOMweb as clients use it, and as they should not.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use dicom_core::{DataElement, PrimitiveValue, VR};
use dicom_dictionary_std::tags;
use flate2::Compression;
use flate2::write::GzEncoder;
use gantry::config::Scope;
use gantry::store::Store;
use gantry::web::new_token;
use gantry_tests::command::{Said, gantry};
use gantry_tests::node::{Node, eventually};
use gantry_tests::orthanc::Orthanc;
use gantry_tests::peers::Peers;
use gantry_tests::{change_files, write_ct};

pub(crate) const WEB: &str = "[web]\nlisten = \"127.0.0.1:0\"\n";
pub(crate) const MULTIPART: &str = "Content-Type: multipart/related; type=\"application/dicom\"; boundary=b\r\n";
pub(crate) const INSTANCE: &str = "/dicom-web/studies/2.25.2/series/2.25.3/instances/2.25.10";

/// An answer.
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

impl Reply {
    /// What came, to the end of the connection.
    pub(crate) fn of(mut all: Vec<u8>) -> Self {
        let end = all.windows(4).position(|w| w == b"\r\n\r\n").expect("an answer");
        let head = String::from_utf8_lossy(&all[..end]).to_lowercase();
        let status = head.split(' ').nth(1).and_then(|s| s.parse().ok()).expect("a status");
        Self { status, head, body: all.split_off(end + 4) }
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

pub(crate) fn web(node: &Node) -> SocketAddr {
    node.ready["web"].as_str().expect("it listens").parse().expect("an address")
}

/// Sends a request as it is, and reads to the end of the connection.
pub(crate) fn exchange(node: &Node, request: &[u8]) -> Reply {
    let mut stream = TcpStream::connect(web(node)).expect("connected");
    stream.set_read_timeout(Some(Duration::from_secs(30))).expect("a socket");
    // A request may be answered before its end.
    let _ = stream.write_all(request);
    let mut all = Vec::new();
    let _ = stream.read_to_end(&mut all);
    Reply::of(all)
}

pub(crate) fn ask(node: &Node, method: &str, target: &str, headers: &str) -> Reply {
    exchange(node, &question(method, target, headers))
}

/// A request without a body, of which the connection ends with the answer.
pub(crate) fn question(method: &str, target: &str, headers: &str) -> Vec<u8> {
    format!("{method} {target} HTTP/1.1\r\nHost: h\r\nConnection: close\r\n{headers}\r\n").into_bytes()
}

pub(crate) fn get(node: &Node, target: &str) -> Reply {
    ask(node, "GET", target, "")
}

pub(crate) fn post(node: &Node, target: &str, headers: &str, body: &[u8]) -> Reply {
    let length = format!("Content-Length: {}\r\n{headers}", body.len());
    exchange(node, &[&question("POST", target, &length), body].concat())
}

/// The small CT in files, and as the body of one request with the boundary `b`.
pub(crate) fn study() -> (tempfile::TempDir, Vec<PathBuf>, Vec<u8>) {
    let folder = tempfile::tempdir().expect("a folder");
    write_ct(folder.path()).expect("written");
    let files: Vec<PathBuf> = (0..10).map(|z| folder.path().join(format!("{z}.dcm"))).collect();
    let mut body = Vec::new();
    for file in &files {
        body.extend_from_slice(b"--b\r\nContent-Type: application/dicom\r\n\r\n");
        body.extend(std::fs::read(file).expect("readable"));
        body.extend_from_slice(b"\r\n");
    }
    body.extend_from_slice(b"--b--\r\n");
    (folder, files, body)
}

pub(crate) fn filled(config: &str) -> Node {
    let node = Node::start(config);
    let reply = post(&node, "/dicom-web/studies", MULTIPART, &study().2);
    assert_eq!(reply.status, 200, "{}", reply.text());
    node
}

#[test]
fn dicomweb_client_stores_finds_and_retrieves() {
    let Some(peers) = Peers::with("dicomweb_client, pydicom") else { return };
    let node = Node::start(WEB);
    let (_folder, files, _) = study();
    let base = format!("http://{}/dicom-web", web(&node));
    let mut arguments = vec![base.as_str()];
    arguments.extend(files.iter().map(|file| file.to_str().expect("UTF-8")));
    peers.agree("dicomweb.py", &arguments);
}

#[test]
fn orthanc_stores_by_stow() {
    let Some(orthanc) = Orthanc::start() else { return };
    let node = Node::start(WEB);
    let server = format!("{{\"Url\":\"http://{}/dicom-web/\"}}", web(&node));
    orthanc.rest("PUT", "/dicom-web/servers/gantry", server.as_bytes()).expect("a server");
    for file in study().1 {
        orthanc.keep(&file).expect("kept");
    }
    let studies: Vec<String> =
        serde_json::from_str(&orthanc.rest("GET", "/studies", b"").expect("studies")).expect("a list");
    let what = format!("{{\"Resources\":[\"{}\"],\"Synchronous\":true}}", studies[0]);
    orthanc.rest("POST", "/dicom-web/servers/gantry/stow", what.as_bytes()).expect("sent");
    for z in 0..10 {
        assert!(node.instance(&format!("2.25.1{z}")).is_some(), "slice {z}");
    }
}

#[test]
fn gzip_is_inflated_and_a_bomb_is_refused_at_its_limit() {
    let node = Node::start("[web]\nlisten = \"127.0.0.1:0\"\ninflated_max_mib = 8\n");
    let gzip = |body: &[u8]| {
        let mut gzip = GzEncoder::new(Vec::new(), Compression::default());
        gzip.write_all(body).expect("compressed");
        gzip.finish().expect("compressed")
    };
    let headers = format!("{MULTIPART}Content-Encoding: gzip\r\n");
    assert_eq!(post(&node, "/dicom-web/studies", &headers, &gzip(&study().2)).status, 200);
    let bomb = [b"--b\r\nContent-Type: application/dicom\r\n\r\n".as_slice(), &vec![0; 1 << 30]].concat();
    let reply = post(&node, "/dicom-web/studies", &headers, &gzip(&bomb));
    assert_eq!(reply.status, 413, "{}", reply.text());
    assert!(reply.text().contains("web.inflated_max_mib"), "{}", reply.text());
    let cut = gzip(&study().2);
    assert_eq!(post(&node, "/dicom-web/studies", &headers, &cut[..cut.len() / 2]).status, 400);
    eventually("nothing is left", || node.files("incoming").is_empty());
}

#[test]
fn bytes_come_back_as_they_were_sent() {
    let node = filled(WEB);
    let (_folder, files, _) = study();
    let reply = ask(&node, "GET", INSTANCE, "Accept: application/dicom\r\n");
    assert_eq!(reply.status, 200);
    let sent = std::fs::read(&files[0]).expect("readable");
    assert!(reply.body.windows(sent.len()).any(|w| w == sent), "the file, whole");
}

#[test]
fn instances_of_another_study_fail_one_by_one() {
    let node = Node::start(WEB);
    let reply = post(&node, "/dicom-web/studies/2.25.99", MULTIPART, &study().2);
    let report: serde_json::Value = serde_json::from_slice(&reply.body).unwrap_or_default();
    assert_eq!(reply.status, 409, "{}", reply.text());
    assert_eq!(report["00081198"]["Value"].as_array().map(Vec::len), Some(10));
    assert_eq!(report["00081198"]["Value"][0]["00081197"]["Value"][0], 0xA900);
    assert!(node.files("instances").is_empty());
}

#[test]
fn a_wrong_boundary_is_refused() {
    let node = Node::start(WEB);
    let (_folder, _, body) = study();
    let other = MULTIPART.replace("boundary=b", "boundary=other");
    assert_eq!(post(&node, "/dicom-web/studies", &other, &body).status, 400);
    let none = "Content-Type: multipart/related; type=\"application/dicom\"\r\n";
    assert_eq!(post(&node, "/dicom-web/studies", none, &body).status, 400);
    assert_eq!(post(&node, "/dicom-web/studies", "Content-Type: text/plain\r\n", &body).status, 415);
    assert_eq!(post(&node, "/dicom-web/studies", MULTIPART, &body[..body.len() - 9]).status, 400);
    eventually("nothing is left", || node.files("incoming").is_empty());
}

#[test]
fn a_part_that_never_ends_times_out_and_leaves_nothing() {
    let node = Node::start("[web]\nlisten = \"127.0.0.1:0\"\nidle_timeout_ms = 300\n");
    let (_folder, _, body) = study();
    let head = format!("POST /dicom-web/studies HTTP/1.1\r\nHost: h\r\nContent-Length: 1000000\r\n{MULTIPART}\r\n");
    let reply = exchange(&node, &[head.as_bytes(), &body[..700]].concat());
    assert_eq!(reply.status, 408, "{}", reply.text());
    eventually("nothing is left", || node.files("incoming").is_empty());
}

/// The head of a request whose body has chunks, and the beginning of its first part.
fn begin_chunked(node: &Node) -> TcpStream {
    let mut stream = TcpStream::connect(web(node)).expect("connected");
    stream.set_read_timeout(Some(Duration::from_secs(30))).expect("a socket");
    let head = question("POST", "/dicom-web/studies", &format!("Transfer-Encoding: chunked\r\n{MULTIPART}"));
    stream.write_all(&head).expect("asked");
    stream.write_all(&chunk(b"--b\r\nContent-Type: application/dicom\r\n\r\n")).expect("begun");
    stream
}

fn chunk(bytes: &[u8]) -> Vec<u8> {
    [format!("{:x}\r\n", bytes.len()).as_bytes(), bytes, b"\r\n"].concat()
}

fn rest(mut stream: TcpStream) -> Reply {
    let mut all = Vec::new();
    let _ = stream.read_to_end(&mut all);
    Reply::of(all)
}

#[test]
fn a_part_that_goes_on_for_ever_is_cut_off() {
    for (limit, says) in
        [("request_max_mib = 1", "web.request_max_mib = 1"), ("[limits]\nfile_max_mib = 1", "limits.file_max_mib = 1")]
    {
        let node = Node::start(&format!("{WEB}{limit}\n"));
        let (mut stream, piece, began) = (begin_chunked(&node), chunk(&[0; 64 << 10]), Instant::now());
        let mut pieces = 0;
        while stream.write_all(&piece).is_ok() {
            pieces += 1;
            assert!(pieces < 1000, "{says}: it goes on reading");
        }
        let reply = rest(stream);
        assert_eq!(reply.status, 413, "{}", reply.text());
        assert!(reply.text().contains(says) && reply.head.contains("connection: close"), "{}", reply.text());
        assert!(began.elapsed() < Duration::from_secs(10), "{says}: {:?}", began.elapsed());
        assert_eq!(get(&node, "/dicom-web/studies").status, 204);
        eventually("nothing is left", || node.files("incoming").is_empty());
    }
}

#[test]
fn a_trickle_is_let_go_and_others_are_served_meanwhile() {
    let node = Node::start(&format!("{WEB}connections_max = 2\nidle_timeout_ms = 1500\n"));
    let (mut stream, began) = (begin_chunked(&node), Instant::now());
    // A byte whenever nothing came back for a while.
    stream.set_read_timeout(Some(Duration::from_millis(20))).expect("a socket");
    let mut all = Vec::new();
    loop {
        let sent = stream.write_all(&chunk(&[0]));
        match stream.read_to_end(&mut all) {
            Err(e) if e.kind() == ErrorKind::WouldBlock && sent.is_ok() => {}
            _ => break,
        }
        if began.elapsed() < Duration::from_millis(500) {
            assert_eq!(get(&node, "/dicom-web/studies").status, 204);
        }
        assert!(began.elapsed() < Duration::from_secs(20), "it goes on reading");
    }
    let reply = Reply::of(all);
    assert_eq!(reply.status, 408, "{}", reply.text());
    assert!(reply.text().contains("less than 64 KiB of the body came within web.idle_timeout_ms"), "{}", reply.text());
    eventually("nothing is left", || node.files("incoming").is_empty());

    // A line that is slow, and goes on, takes as long as it takes: 64 KiB in 16 pauses of 10 ms.
    let (mut stream, began) = (begin_chunked(&node), Instant::now());
    while began.elapsed() < Duration::from_millis(2500) {
        stream.write_all(&chunk(&[0; 4096])).expect("it is read");
        std::thread::park_timeout(Duration::from_millis(10));
    }
    stream.write_all(&[chunk(b"\r\n--b--\r\n"), b"0\r\n\r\n".to_vec()].concat()).expect("it is read");
    let reply = rest(stream);
    assert_eq!(reply.status, 409, "read to its end, and no DICOM: {}", reply.text());
}

/// More than the buffers of a connection hold.
const LARGE: u16 = 4096;

#[test]
fn a_client_that_does_not_read_is_let_go_and_others_are_served_meanwhile() {
    let node = Node::start(&format!("{WEB}connections_max = 2\nanswer_timeout_ms = 4000\n"));
    let (folder, files, _) = study();
    files[1..].iter().for_each(|file| std::fs::remove_file(file).expect("removed"));
    let enlarge = |_, slice: &mut dicom_object::InMemDicomObject| {
        for tag in [tags::ROWS, tags::COLUMNS] {
            slice.put(DataElement::new(tag, VR::US, PrimitiveValue::from(LARGE)));
        }
        let pixels = vec![0_u16; usize::from(LARGE) * usize::from(LARGE)];
        slice.put(DataElement::new(tags::PIXEL_DATA, VR::OW, PrimitiveValue::U16(pixels.into())));
    };
    change_files(folder.path(), enlarge).expect("changed");
    let file = std::fs::read(&files[0]).expect("readable");
    let body = [b"--b\r\nContent-Type: application/dicom\r\n\r\n", &file[..], b"\r\n--b--\r\n"].concat();
    let reply = post(&node, "/dicom-web/studies", MULTIPART, &body);
    assert_eq!(reply.status, 200, "{}", reply.text());

    // It asks, sees that the answer begins, and takes no more of it.
    let ask_and_wait = || {
        let mut stream = TcpStream::connect(web(&node)).expect("connected");
        stream.set_read_timeout(Some(Duration::from_secs(30))).expect("a socket");
        stream.write_all(format!("GET {INSTANCE} HTTP/1.1\r\nHost: h\r\n\r\n").as_bytes()).expect("asked");
        let mut begin = [0; 12];
        stream.read_exact(&mut begin).expect("an answer");
        assert_eq!(&begin, b"HTTP/1.1 200");
        stream
    };
    let let_go = || node.log().matches("took less than 64 KiB of an answer within web.answer_timeout_ms").count();
    let began = Instant::now();
    let mut first = ask_and_wait();
    assert_eq!(get(&node, "/dicom-web/studies").status, 200);
    assert_eq!(get(&node, &format!("{INSTANCE}/metadata")).status, 200);
    assert!(let_go() == 0 && began.elapsed() < Duration::from_secs(4), "{:?}", began.elapsed());
    // Both places are taken: who watches the node is answered all the same, others are told to come later.
    let _second = ask_and_wait();
    assert_eq!(get(&node, "/healthz").status, 200);
    let busy = get(&node, "/dicom-web/studies");
    assert!(busy.status == 503 && busy.text().contains("web.connections_max"), "{}", busy.text());
    assert!(began.elapsed() < Duration::from_secs(4), "{:?}", began.elapsed());
    eventually("both are let go", || let_go() == 2);
    assert_eq!(get(&node, "/dicom-web/studies").status, 200);
    let mut rest = Vec::new();
    let _ = first.read_to_end(&mut rest);
    assert!(rest.len() < file.len(), "{} of {} bytes", rest.len(), file.len());
}

#[test]
fn an_unreasonable_viewport_is_refused() {
    let node = filled(WEB);
    assert_eq!(get(&node, &format!("{INSTANCE}/rendered?viewport=999999,999999")).status, 400);
    let reply = get(&node, &format!("{INSTANCE}/rendered?viewport=64,64&window=40,400"));
    assert_eq!(reply.status, 200, "{}", reply.text());
    assert!(reply.head.contains("image/jpeg"));
}

#[test]
fn malformed_and_extreme_searches_are_refused() {
    let node = filled(WEB);
    let long = "9".repeat(10_000);
    for query in ["StudyDate=yesterday", "limit=-1", "NoSuchKeyword=1", &format!("PatientID={long}"), "PatientID=%00"] {
        let reply = get(&node, &format!("/dicom-web/studies?{query}"));
        assert_eq!(reply.status, 400, "{query:.40}: {}", reply.text());
    }
    for query in ["PatientID=%27%20OR%201%3D1--", "PatientID=[A-Z]*", "PatientName=%25"] {
        assert_eq!(get(&node, &format!("/dicom-web/studies?{query}")).status, 204, "{query}");
    }
    let fuzzy = get(&node, "/dicom-web/studies?fuzzymatching=true&PatientName=secret*");
    assert!(fuzzy.status == 200 && fuzzy.head.contains("warning: 299"), "{}", fuzzy.head);
}

#[test]
fn paths_lead_nowhere_else_and_methods_are_known() {
    let node = filled(WEB);
    for path in ["..%2F..%2Fetc", "%00", "1..2", &"1".repeat(65)] {
        assert_eq!(get(&node, &format!("/dicom-web/studies/{path}")).status, 400, "{path}");
    }
    assert_eq!(get(&node, "/dicom-web/studies/1.2.3").status, 404);
    assert_eq!(ask(&node, "DELETE", "/dicom-web/studies", "").status, 405);
    let head = ask(&node, "HEAD", "/dicom-web/studies", "");
    assert!(head.status == 200 && head.body.is_empty());
    assert_eq!(ask(&node, "GET", INSTANCE, "Accept: text/html\r\n").status, 406);
    assert_eq!((get(&node, "/healthz").status, get(&node, "/readyz").status), (200, 200));
}

/// `gantry token …` on a node's configuration.
pub(crate) fn token(node: &Node, arguments: &[&str]) -> String {
    let file = node.data().parent().expect("a folder").join("gantry.toml");
    let mut command = gantry();
    command.arg("token").args(arguments).arg("--config").arg(file);
    let said = Said::from(command.output().expect("it runs"));
    assert_eq!(said.code, Some(0), "{}", said.err);
    said.out.trim().to_owned()
}

#[test]
fn tokens_open_what_their_scopes_say_until_they_are_revoked() {
    let node = Node::start(WEB);
    assert_eq!(get(&node, "/dicom-web/studies").status, 204, "loopback is open without tokens");
    let read = token(&node, &["new", "viewer", "--scope", "read"]);
    let send = token(&node, &["new", "modality", "--scope", "send"]);
    let with = |token: &str| ask(&node, "GET", "/dicom-web/studies", &format!("Authorization: Bearer {token}\r\n"));
    let none = get(&node, "/dicom-web/studies");
    assert!(none.status == 401 && none.head.contains("www-authenticate: bearer"), "{}", none.head);
    assert_eq!((with(&read).status, with(&send).status, with("gantry_00").status), (204, 403, 401));
    let (_folder, _, body) = study();
    let sent = |token: &str| {
        post(&node, "/dicom-web/studies", &format!("{MULTIPART}Authorization: Bearer {token}\r\n"), &body).status
    };
    assert_eq!((sent(&read), sent(&send)), (403, 200));
    token(&node, &["revoke", "viewer"]);
    assert_eq!(with(&read).status, 401);
    assert!(token(&node, &["list"]).contains("viewer\tread\trevoked"));
    (0..20).for_each(|_| assert_eq!(with("gantry_00").status, 401));
    let rows = node.audited("access-refused");
    let told: Vec<_> = rows.iter().map(|row| (row["who"].as_str(), row["detail"].as_str().expect("text"))).collect();
    assert_eq!(told.len(), 4, "each reason once, and the others are counted: {told:?}");
    let scope = "this needs the scope read, which the token or certificate does not have, from 127.0.0.1";
    assert!(told.contains(&(Some("token modality"), scope)), "{told:?}");
}

#[test]
fn a_token_ends_when_it_says_and_metrics_are_for_operators() {
    let node = Node::start(WEB);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let expired = runtime.block_on(async {
        let store = Store::open(&node.data()).await.expect("the journal");
        new_token(&store, "old", &[Scope::Operate], Some(1)).await.expect("a token")
    });
    let operate = token(&node, &["new", "operator", "--scope", "operate", "--expires-days", "1"]);
    let metrics = |token: &str| ask(&node, "GET", "/metrics", &format!("Authorization: Bearer {token}\r\n"));
    assert_eq!(metrics(&expired).status, 401);
    let counted = metrics(&operate);
    assert!(counted.status == 200 && counted.text().contains("gantry_associations_open 0"), "{}", counted.text());
    let read = token(&node, &["new", "viewer", "--scope", "read"]);
    assert_eq!(metrics(&read).status, 403);
}

#[test]
fn a_request_that_a_full_disk_refuses_is_one_line_of_the_log() {
    let node = Node::start(&format!("{WEB}[node]\ndisk_free_min_mib = 1073741824\n"));
    let reply = post(&node, "/dicom-web/studies", MULTIPART, &study().2);
    assert_eq!(reply.status, 503, "{}", reply.text());
    eventually("it is told", || node.log().contains("instances refused"));
    let log = node.log();
    let told: Vec<&str> = log.lines().filter(|line| line.contains("instances refused")).collect();
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(told[0].contains("reason=\"out-of-space\" instances=10"), "{told:?}");
}

#[test]
fn a_node_is_not_ready_while_its_disk_is_full_or_its_journal_is_held() {
    let full = Node::start(&format!("{WEB}[node]\ndisk_free_min_mib = 1073741824\n"));
    let told = get(&full, "/readyz");
    assert!(told.status == 503 && told.text().contains("node.disk_free_min_mib"), "{}", told.text());
    assert!(told.head.contains("retry-after"), "{}", told.head);
    assert_eq!(get(&full, "/healthz").status, 200, "it is no reason to start it anew");

    let node = Node::start(WEB);
    assert_eq!(get(&node, "/readyz").status, 200);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let store = runtime.block_on(Store::open(&node.data())).expect("the journal");
    // Somebody else's, and never committed.
    let held = runtime.block_on(store.begin()).expect("begun");
    let mut told = get(&node, "/readyz");
    eventually("it is noticed", || {
        told = get(&node, "/readyz");
        told.status == 503
    });
    assert!(told.text().contains("the journal cannot be written to"), "{}", told.text());
    assert_eq!(get(&node, "/healthz").status, 200);
    runtime.block_on(async {
        drop(held);
        store.close().await;
    });
    eventually("it is ready again", || get(&node, "/readyz").status == 200);
}
