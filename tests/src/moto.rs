//! moto's S3 on loopback, on a port that was free, gone when it is dropped. Signatures are not checked here: the tests of
//! `cloud-sync` do that.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::node::eventually;
use crate::peers::Peers;

/// A server, and its one bucket.
#[derive(Debug)]
pub struct S3 {
    server: Child,
    port: u16,
}

/// The bucket.
pub const BUCKET: &str = "cohort";

impl S3 {
    /// A free port, for one that comes later.
    ///
    /// # Panics
    /// When there is none.
    #[must_use]
    pub fn free_port() -> u16 {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        listener.local_addr().expect("its address").port()
    }

    /// Starts one; nothing where it is not installed.
    #[must_use]
    pub fn start() -> Option<Self> {
        Self::start_on(Self::free_port())
    }

    /// The same, on this port.
    ///
    /// # Panics
    /// When it does not start.
    #[must_use]
    pub fn start_on(port: u16) -> Option<Self> {
        let peers = Peers::with("moto, flask, flask_cors")?;
        let mut command: Command = peers.python();
        command.args(["-m", "moto.server", "-H", "127.0.0.1", "-p", &port.to_string()]);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let s3 = Self { server: command.spawn().expect("Python runs"), port };
        eventually("the S3 server answers", || TcpStream::connect(("127.0.0.1", port)).is_ok());
        assert_eq!(s3.ask("PUT", &format!("/{BUCKET}")).0, 200, "a bucket");
        Some(s3)
    }

    /// Where it is.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Its process.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.server.id()
    }

    /// Keys of all objects, in order.
    #[must_use]
    pub fn keys(&self) -> Vec<String> {
        let (status, body) = self.ask("GET", &format!("/{BUCKET}?list-type=2&max-keys=1000"));
        assert_eq!(status, 200, "a list");
        let text = String::from_utf8_lossy(&body).into_owned();
        let mut keys: Vec<String> =
            text.split("<Key>").skip(1).filter_map(|rest| Some(rest.split_once("</Key>")?.0.to_owned())).collect();
        keys.sort();
        keys
    }

    /// The bytes of an object.
    ///
    /// # Panics
    /// When it is not there.
    #[must_use]
    pub fn get(&self, key: &str) -> Vec<u8> {
        let (status, body) = self.ask("GET", &format!("/{BUCKET}/{key}"));
        assert_eq!(status, 200, "{key}");
        body
    }

    fn ask(&self, method: &str, target: &str) -> (u16, Vec<u8>) {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).expect("connected");
        stream.set_read_timeout(Some(Duration::from_secs(30))).expect("a socket");
        // Without the header it asks whether anybody may.
        let request = format!(
            "{method} {target} HTTP/1.1\r\nHost: 127.0.0.1:{}\r\nAuthorization: AWS4-HMAC-SHA256 Credential=k/20260101/us-east-1/s3/aws4_request, SignedHeaders=host, Signature=0\r\n\
             Content-Length: 0\r\nConnection: close\r\n\r\n",
            self.port
        );
        stream.write_all(request.as_bytes()).expect("sent");
        let mut all = Vec::new();
        let _ = stream.read_to_end(&mut all);
        let end = all.windows(4).position(|w| w == b"\r\n\r\n").expect("an answer");
        let status = String::from_utf8_lossy(&all[..end]).split(' ').nth(1).and_then(|s| s.parse().ok());
        (status.expect("a status"), all.split_off(end + 4))
    }
}

impl Drop for S3 {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}
