//! A FHIR R4 server of our own: Medplum's router on a repository in memory (`tests/peers/fhir_server.cjs`), on loopback, gone when it
//! is dropped.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Stdio};

use serde_json::Value;

use crate::peers::NodePeers;

/// Types of resources that Gantry writes.
const TYPES: [&str; 7] = ["Device", "DiagnosticReport", "ImagingStudy", "Observation", "Patient", "Provenance", "Task"];

/// Runs until it is dropped.
#[derive(Debug)]
pub struct FhirServer {
    process: Child,
    port: u16,
}

impl FhirServer {
    /// Starts one; nothing where Node.js or the packages are not there. With `transactions` it takes a whole transaction or nothing, of
    /// few entries.
    ///
    /// # Panics
    /// When it does not start.
    #[must_use]
    pub fn start(transactions: bool) -> Option<Self> {
        let peers = NodePeers::with("@medplum/fhir-router")?;
        let mut command = peers.script("fhir_server.cjs", if transactions { &["transactions"] } else { &[] });
        let mut process = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("Node.js runs");
        let mut line = String::new();
        let stdout = process.stdout.take().expect("it is a pipe");
        BufReader::new(stdout).read_line(&mut line).expect("a port");
        let port = line.trim().parse().expect("a port");
        Some(Self { process, port })
    }

    /// Its base address.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}/r4", self.port)
    }

    /// One request, below its base address; status and body of the answer.
    ///
    /// # Panics
    /// When it does not answer in JSON.
    #[must_use]
    pub fn rest(&self, method: &str, path: &str, body: &str) -> (u16, Value) {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).expect("connected");
        let length = body.len();
        let head = "Connection: close\r\nContent-Type: application/fhir+json";
        write!(stream, "{method} /r4{path} HTTP/1.0\r\n{head}\r\nContent-Length: {length}\r\n\r\n{body}")
            .expect("sent");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("text");
        let status = answer.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
        let body = answer.split_once("\r\n\r\n").expect("a body").1;
        (status, serde_json::from_str(body).unwrap_or_else(|e| panic!("{e}: {answer}")))
    }

    /// The resources that a search finds.
    ///
    /// # Panics
    /// When it refuses it.
    #[must_use]
    pub fn search(&self, query: &str) -> Vec<Value> {
        let (status, bundle) = self.rest("GET", &format!("/{query}"), "");
        assert_eq!((status, &bundle["type"]), (200, &"searchset".into()), "{query}: {bundle}");
        let entries = bundle["entry"].as_array().cloned().unwrap_or_default();
        entries.into_iter().map(|entry| entry["resource"].clone()).collect()
    }

    /// All that it has of what Gantry writes, in the order of their types.
    ///
    /// # Panics
    /// As [`Self::search`].
    #[must_use]
    pub fn all(&self) -> Vec<Value> {
        TYPES.iter().flat_map(|kind| self.search(&format!("{kind}?_count=1000"))).collect()
    }
}

impl Drop for FhirServer {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
