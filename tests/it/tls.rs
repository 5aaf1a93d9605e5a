//! TLS of both services: who comes in with which certificate, and what is spoken (BCP 195; PS3.15 annexes B.12 and B.13).

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use gantry::config::PeerTlsConfig;
use gantry::tls::Client;
use gantry_tests::Scenario;
use gantry_tests::certificates::Root;
use gantry_tests::node::{NODE_TITLE, Node, eventually};
use gantry_tests::peers::Peers;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::dicomweb::{MULTIPART, Reply, WEB, question, study, token, web};
use crate::messages::deliveries;
use crate::node::{send_ct, site};

/// What a test waits for at most.
const PATIENCE: Duration = Duration::from_secs(30);

/// A table with a server's certificate and key, and with what signs its clients.
fn table(name: &str, [certificate, key]: &[PathBuf; 2], client_roots: Option<&Path>) -> String {
    let clients = client_roots.map(|roots| format!("client_roots = {roots:?}\n")).unwrap_or_default();
    format!("[{name}.tls]\ncertificate = {certificate:?}\nkey = {key:?}\n{clients}")
}

/// Who calls: with this certificate or none, and trusting these roots.
fn caller(roots: &Path, own: Option<&[PathBuf; 2]>) -> PeerTlsConfig {
    let [certificate, key] = own.cloned().map_or([None, None], |own| own.map(Some));
    PeerTlsConfig { roots: roots.to_owned(), certificate, key, server_name: Some("localhost".into()) }
}

/// One request over TLS as it is, read to the end of the connection.
fn exchange(node: &Node, caller: &PeerTlsConfig, request: &[u8]) -> std::io::Result<Reply> {
    let client = Client::new(caller).expect("usable");
    let exchange = async {
        let stream = tokio::net::TcpStream::connect(web(node)).await?;
        let mut stream = client.connect("127.0.0.1", stream).await?;
        stream.write_all(request).await?;
        let mut all = Vec::new();
        // TLS 1.3 tells a client only now that its certificate is none.
        match stream.read_to_end(&mut all).await {
            Err(e) if all.is_empty() => Err(e),
            _ if all.is_empty() => Err(ErrorKind::UnexpectedEof.into()),
            _ => Ok(Reply::of(all)),
        }
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async { tokio::time::timeout(PATIENCE, exchange).await }).expect("an end")
}

fn ask(node: &Node, caller: &PeerTlsConfig, target: &str, headers: &str) -> Reply {
    exchange(node, caller, &question("GET", target, headers)).expect("an answer")
}

/// What went wrong before there was an answer.
fn refused(node: &Node, caller: &PeerTlsConfig) -> String {
    let answer = exchange(node, caller, &question("GET", "/dicom-web/studies", ""));
    answer.map(|reply| reply.status).expect_err("refused").to_string()
}

#[test]
fn a_certificate_opens_what_its_name_may_do_and_no_certificate_opens_nothing() {
    let folder = tempfile::tempdir().expect("a folder");
    let [root, other] = ["root", "other"].map(|name| Root::new(folder.path(), name));
    let clients = ["viewer:read", "modality:send", "watcher:operate"].map(|client| {
        let (name, scope) = client.split_once(':').expect("two words");
        format!("[[web.clients]]\ncommon_name = {name:?}\nscopes = [{scope:?}]\n")
    });
    let tls = table("web", &root.sign("localhost"), Some(&root.path));
    let node = Node::start(&[WEB, &tls, &clients.concat()].concat());
    let body = study().2;
    let stow =
        [&question("POST", "/dicom-web/studies", &format!("Content-Length: {}\r\n{MULTIPART}", body.len())), &*body];
    let stow = stow.concat();
    for (name, stores, searches, watches) in [
        ("viewer", 403, 204, 403),
        ("modality", 200, 403, 403),
        ("watcher", 403, 403, 200),
        ("stranger", 403, 403, 403),
    ] {
        let caller = caller(&root.path, Some(&root.sign(name)));
        let get = |target: &str| ask(&node, &caller, target, "").status;
        let stored = exchange(&node, &caller, &stow).expect("an answer");
        assert_eq!(
            (stored.status, get("/dicom-web/studies"), get("/metrics"), get("/healthz")),
            (stores, searches, watches, 200),
            "{name}"
        );
        assert_eq!(stored.text().contains("https://h/dicom-web/studies/2.25.2"), stores == 200, "{}", stored.text());
    }
    let viewer = root.sign("viewer");
    assert_eq!(ask(&node, &caller(&root.path, Some(&viewer)), "/dicom-web/studies", "").status, 200);
    let rows = node.audited("access-refused");
    assert!(rows.iter().any(|row| row["who"] == "certificate viewer"), "{rows:?}");

    for (own, why) in [(None, "CertificateRequired"), (Some(other.sign("viewer")), "UnknownCA")] {
        let told = refused(&node, &caller(&root.path, own.as_ref()));
        assert!(told.contains(why), "{told}");
    }
    // The other way round: who calls believes no other server than the root's.
    let told = refused(&node, &caller(&other.path, Some(&viewer)));
    assert!(told.contains("invalid peer certificate"), "{told}");
    let elsewhere = PeerTlsConfig { server_name: Some("elsewhere".into()), ..caller(&root.path, Some(&viewer)) };
    assert!(refused(&node, &elsewhere).contains("invalid peer certificate"));
    let mut plain = TcpStream::connect(web(&node)).expect("connected");
    plain.write_all(&question("GET", "/healthz", "")).expect("asked");
    let mut said = Vec::new();
    let _ = plain.read_to_end(&mut said);
    assert!(!said.windows(4).any(|word| word == b"HTTP"), "{said:?}");

    // Five: without a certificate, with another root's, two that did not believe the server, and one that spoke no TLS.
    let watcher = caller(&root.path, Some(&root.sign("watcher")));
    let metrics = || ask(&node, &watcher, "/metrics", "").text();
    eventually("all are counted", || metrics().contains("gantry_web_connections_refused_total{reason=\"tls\"} 5\n"));
    let told: Vec<_> =
        node.log().lines().filter(|line| line.contains("TLS handshake failed")).map(str::to_owned).collect();
    assert!(told.len() == 1 && told[0].contains("WARN") && told[0].contains("127.0.0.1"), "once a minute: {told:?}");
    let rows = node.audited("access-refused");
    let rows: Vec<_> = rows.iter().filter(|row| row["detail"] == "the TLS handshake failed, from 127.0.0.1").collect();
    assert_eq!(rows.len(), 1, "{rows:?}");
}

#[test]
fn a_token_opens_what_it_may_over_tls_whatever_the_certificate_is() {
    let folder = tempfile::tempdir().expect("a folder");
    let root = Root::new(folder.path(), "root");
    let (server, stranger) = (root.sign("localhost"), root.sign("stranger"));
    for (client_roots, own) in [(None, None), (Some(&*root.path), Some(&stranger))] {
        let node = Node::start(&[WEB, &table("web", &server, client_roots)].concat());
        let read = format!("Authorization: Bearer {}\r\n", token(&node, &["new", "viewer", "--scope", "read"]));
        let caller = caller(&root.path, own);
        let with = |headers: &str| ask(&node, &caller, "/dicom-web/studies", headers).status;
        assert_eq!(with(&read), 204);
        assert_eq!(with(""), if own.is_some() { 403 } else { 401 });
        assert_eq!(with("Authorization: Bearer gantry_00\r\n"), 401, "it is not the certificate that counts then");
        assert_eq!(ask(&node, &caller, "/metrics", &read).status, 403);
    }
}

/// What a server answers to a ClientHello.
#[derive(Debug, PartialEq, Eq)]
enum Answer {
    /// This version and suite (RFC 5246 section 7.4.1.3, RFC 8446 section 4.1.3).
    Hello(u16, u16),
    /// This alert (RFC 5246 section 7.2).
    Alert(u8),
}

const TLS_1_0: u16 = 0x0301;
const TLS_1_1: u16 = 0x0302;
const TLS_1_2: u16 = 0x0303;
const TLS_1_3: u16 = 0x0304;
const HANDSHAKE_FAILURE: Answer = Answer::Alert(40);
const PROTOCOL_VERSION: Answer = Answer::Alert(70);

/// Suites that a client may offer and BCP 195 forbids: null, RC4 and 3DES; without forward secrecy, with and without
/// authenticated encryption; in CBC mode.
const FORBIDDEN: [u16; 12] =
    [0x003B, 0x0005, 0x000A, 0x002F, 0x0035, 0x003C, 0x009C, 0x009D, 0xC009, 0xC013, 0xC023, 0xC027];
/// ECDHE with AES-GCM and ChaCha20, for ECDSA and for RSA.
const FORWARD_SECRET: [[u16; 3]; 2] = [[0xC02B, 0xC02C, 0xCCA9], [0xC02F, 0xC030, 0xCCA8]];
const OF_TLS_1_3: [u16; 3] = [0x1301, 0x1302, 0x1303];

/// A value with its length before it, in so many bytes.
fn sized(bytes: usize, value: &[u8]) -> Vec<u8> {
    [&value.len().to_be_bytes()[8 - bytes..], value].concat()
}

fn words(words: &[u16]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_be_bytes()).collect()
}

/// A ClientHello of one version in its record, made by hand: a library may refuse to offer what nobody should take.
fn hello(version: u16, suites: &[u16]) -> Vec<u8> {
    let mut extensions = vec![
        // Groups: X25519 and P-256. Points: uncompressed. Signatures: ECDSA and RSA (PSS and PKCS #1) with SHA-256 to 512.
        (10, sized(2, &words(&[0x001D, 0x0017]))),
        (11, sized(1, &[0])),
        (13, sized(2, &words(&[0x0403, 0x0503, 0x0804, 0x0805, 0x0806, 0x0401, 0x0501, 0x0601]))),
    ];
    if version == TLS_1_3 {
        let share = [words(&[0x001D]), sized(2, &[9; 32])].concat();
        extensions.extend([(43, sized(1, &words(&[TLS_1_3]))), (51, sized(2, &share))]);
    }
    let extensions: Vec<u8> =
        extensions.into_iter().flat_map(|(kind, value)| [words(&[kind]), sized(2, &value)].concat()).collect();
    let random = [7; 32];
    let body = [
        &words(&[version.min(TLS_1_2)]),
        &random[..],
        &sized(1, &[]),
        &sized(2, &words(suites)),
        &sized(1, &[0]),
        &sized(2, &extensions),
    ]
    .concat();
    let message = [&[1][..], &sized(3, &body)].concat();
    [&[22][..], &words(&[TLS_1_0]), &sized(2, &message)].concat()
}

fn offer(to: SocketAddr, version: u16, suites: &[u16]) -> Answer {
    let mut stream = TcpStream::connect(to).expect("connected");
    stream.set_read_timeout(Some(PATIENCE)).expect("a socket");
    stream.write_all(&hello(version, suites)).expect("sent");
    let mut head = [0; 5];
    stream.read_exact(&mut head).expect("an answer");
    let mut record = vec![0; usize::from(u16::from_be_bytes([head[3], head[4]]))];
    stream.read_exact(&mut record).expect("an answer");
    if head[0] == 21 {
        return Answer::Alert(record[1]);
    }
    assert_eq!((head[0], record[0]), (22, 2), "a ServerHello");
    let word = |at: usize| u16::from_be_bytes([record[at], record[at + 1]]);
    // Type and length (4), version (2), random (32), session, suite (2).
    let suite = word(39 + usize::from(record[38]));
    // Which of the two it is stands in an extension, and these suites are of no other version.
    let version = if OF_TLS_1_3.contains(&suite) { TLS_1_3 } else { word(4) };
    Answer::Hello(version, suite)
}

#[test]
fn what_bcp_195_forbids_is_refused_by_both_services_and_what_it_asks_for_is_taken() {
    let folder = tempfile::tempdir().expect("a folder");
    let root = Root::new(folder.path(), "root");
    let (ecdsa, rsa) = (root.sign("localhost"), root.sign_rsa("localhost"));
    for certificates in [[&ecdsa, &rsa], [&rsa, &ecdsa]] {
        let tables = [table("dimse", certificates[0], None), table("web", certificates[1], None)].concat();
        let node = Node::start(&[WEB, &tables].concat());
        for (service, certificate) in [node.dimse, web(&node)].into_iter().zip(certificates) {
            let own = FORWARD_SECRET[usize::from(certificate == &rsa)];
            for version in [TLS_1_0, TLS_1_1] {
                let all = [&FORBIDDEN[..], &own].concat();
                assert_eq!(offer(service, version, &all), PROTOCOL_VERSION, "{version:x}");
            }
            for suite in FORBIDDEN {
                assert_eq!(offer(service, TLS_1_2, &[suite]), HANDSHAKE_FAILURE, "{suite:x}");
            }
            for suite in own {
                // Whatever else the client would have, and would rather have.
                let all = [&FORBIDDEN[..], &[suite]].concat();
                assert_eq!(offer(service, TLS_1_2, &all), Answer::Hello(TLS_1_2, suite), "{suite:x}");
            }
            for suite in OF_TLS_1_3 {
                assert_eq!(offer(service, TLS_1_3, &[suite]), Answer::Hello(TLS_1_3, suite), "{suite:x}");
            }
        }
    }
}

#[test]
fn openssl_speaks_both_versions_with_both_services() {
    let Some(peers) = Peers::with("pynetdicom, ssl") else { return };
    let folder = tempfile::tempdir().expect("a folder");
    let root = Root::new(folder.path(), "root");
    let (server, [certificate, key]) = (root.sign("localhost"), root.sign("viewer"));
    let tables = ["dimse", "web"].map(|name| table(name, &server, Some(&root.path))).concat();
    let viewer = "[[web.clients]]\ncommon_name = \"viewer\"\nscopes = [\"read\"]\n";
    let node = Node::start(&[WEB, &tables, viewer].concat());
    let ports = [node.dimse, web(&node)].map(|address| address.port().to_string());
    let [root, certificate, key] = [root.path, certificate, key].map(|path| path.to_str().expect("UTF-8").to_owned());
    peers.agree("tls.py", &[&ports[0], NODE_TITLE, &ports[1], &root, &certificate, &key]);
}

#[test]
fn who_opens_a_connection_and_begins_no_handshake_is_let_go_and_delays_nobody() {
    let folder = tempfile::tempdir().expect("a folder");
    let own = Root::new(folder.path(), "root").sign("localhost");
    let tables = ["dimse", "web"].map(|name| table(name, &own, None)).concat();
    let limits = "[dimse]\nassociations_max = 1\nassociate_timeout_ms = 3000\n[web]\nheader_timeout_ms = 3000\nlisten = \"127.0.0.1:0\"\n";
    let node = Node::start(&[limits, &tables].concat());
    for service in [node.dimse, web(&node)] {
        let began = Instant::now();
        let whole = hello(TLS_1_3, &OF_TLS_1_3);
        let mut silent: Vec<TcpStream> = [0, 1, whole.len() / 2, whole.len()]
            .into_iter()
            .map(|bytes| {
                let mut stream = TcpStream::connect(service).expect("connected");
                stream.set_read_timeout(Some(PATIENCE)).expect("a socket");
                stream.write_all(&whole[..bytes]).expect("sent");
                stream
            })
            .collect();
        assert!(matches!(offer(service, TLS_1_3, &OF_TLS_1_3), Answer::Hello(..)));
        assert!(began.elapsed() < Duration::from_secs(3), "others wait for them: {:?}", began.elapsed());
        for stream in &mut silent {
            let mut said = Vec::new();
            let ended = stream.read_to_end(&mut said);
            assert!(!ended.is_err_and(|e| e.kind() == ErrorKind::WouldBlock), "it is held for ever");
        }
        assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
    }
    eventually("the log names the limit", || node.log().contains("dimse.associate_timeout_ms = 3000"));
}

/// As docs/delivery.md says.
#[test]
fn results_go_by_stow_to_whom_the_roots_in_the_environment_vouch_for() {
    let Some(module) = Scenario::rogue("well-behaved") else { return };
    let folder = tempfile::tempdir().expect("a folder");
    let [root, stranger] = ["site", "stranger"].map(|name| Root::new(folder.path(), name));
    let archive = Node::start(&(WEB.to_owned() + &table("web", &root.sign("localhost"), None)));
    let stow = format!("stow = {{ url = \"https://{}/dicom-web\" }}", web(&archive));
    let config = site(
        module.package_folder(),
        &format!(
            "[[destinations]]\nname = \"web\"\nretry_first_ms = 20\nretry_max_ms = 60\nbreaker_open_ms = 20\n{stow}\n"
        ),
    );
    let with = |roots: &Root, is: &dyn Fn(&serde_json::Value) -> bool| {
        let node = Node::start_where("SSL_CERT_FILE", &roots.path, &config);
        send_ct(&node);
        eventually("a delivery", || deliveries(&node).first().is_some_and(is));
    };
    with(&stranger, &|row| row["state"] == "queued" && row["error"].as_str().is_some_and(|error| !error.is_empty()));
    assert!(archive.files("instances").is_empty(), "nothing was sent to it");
    with(&root, &|row| row["state"] == "sent");
    assert!(!archive.files("instances").is_empty());
}
