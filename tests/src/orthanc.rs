//! An Orthanc with DICOMweb of our own: on loopback, on ports that were free, gone when it is dropped.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, Command, Stdio};

use anyhow::{Context, Result, bail};
use tempfile::TempDir;

use crate::skipped;

/// In its folder.
const CONFIG: &str = "orthanc.json";
const PLUGIN: &str = "/usr/share/orthanc/plugins/libOrthancDicomWeb.so";
/// Somebody else may take a port between the moment it was found free and Orthanc's start.
const ATTEMPTS: usize = 3;

/// Runs until it is dropped.
#[derive(Debug)]
pub struct Orthanc {
    process: Child,
    http_port: u16,
    dicom_port: u16,
    program: PathBuf,
    storage: TempDir,
}

impl Orthanc {
    /// Starts one and waits until it serves; nothing where it is not installed.
    #[must_use]
    pub fn start() -> Option<Self> {
        Self::start_in(&std::env::temp_dir())
    }

    /// The same, with what it keeps in a folder of its own below this one: for a certain disk.
    ///
    /// # Panics
    /// When it does not start.
    #[must_use]
    pub fn start_in(below: &Path) -> Option<Self> {
        Self::start_as(below, &serde_json::Value::Null)
    }

    /// The same, with more keys in its configuration.
    ///
    /// # Panics
    /// When it does not start.
    #[must_use]
    pub fn start_with(more: &serde_json::Value) -> Option<Self> {
        Self::start_as(&std::env::temp_dir(), more)
    }

    fn start_as(below: &Path, more: &serde_json::Value) -> Option<Self> {
        let program = installed();
        let Some(program) = program.filter(|_| Path::new(PLUGIN).exists()) else {
            skipped("Orthanc is not installed: run `apt-get install orthanc orthanc-dicomweb`");
            return None;
        };
        let mut last = None;
        for _ in 0..ATTEMPTS {
            match Self::attempt(&program, below, more) {
                Ok(orthanc) => return Some(orthanc),
                Err(error) => last = Some(error),
            }
        }
        panic!("Orthanc does not start: {:#}", last.expect("there was an attempt"));
    }

    fn attempt(program: &Path, below: &Path, more: &serde_json::Value) -> Result<Self> {
        let storage = TempDir::new_in(below)?;
        let [http_port, dicom_port] = free_ports()?;
        let mut configuration = serde_json::json!({
            "Name": "Gantry's tests",
            "StorageDirectory": storage.path().join("storage"),
            "IndexDirectory": storage.path().join("storage"),
            "HttpPort": http_port,
            "DicomPort": dicom_port,
            // It listens on every interface, and answers this machine only.
            "RemoteAccessAllowed": false,
            "AuthenticationEnabled": false,
            "DicomAlwaysAllowFind": true,
            "Plugins": [PLUGIN],
            "DicomWeb": { "Enable": true, "Root": "/dicom-web/" },
        });
        for (key, value) in more.as_object().into_iter().flatten() {
            configuration[key] = value.clone();
        }
        std::fs::write(storage.path().join(CONFIG), configuration.to_string())?;
        let process = spawn(program, storage.path())?;
        // Dropped, and so ended, where it does not come up.
        let mut orthanc = Self { process, http_port, dicom_port, program: program.to_owned(), storage };
        orthanc.wait_until_started()?;
        Ok(orthanc)
    }

    fn wait_until_started(&mut self) -> Result<()> {
        wait_until_started(self.process.stderr.take().context("standard error is a pipe")?)
    }

    /// Ends it; nobody listens on its ports.
    ///
    /// # Panics
    /// When it cannot be ended.
    pub fn stop(&mut self) {
        self.process.kill().expect("it runs");
        self.process.wait().expect("it ends");
    }

    /// Starts it again with what it kept, on the same ports, after [`stop`](Self::stop).
    ///
    /// # Panics
    /// When it does not start.
    pub fn again(&mut self) {
        self.process = spawn(&self.program, self.storage.path()).expect("Orthanc is there");
        self.wait_until_started().expect("it starts again");
    }

    /// Where it speaks DICOMweb.
    #[must_use]
    pub fn dicom_web(&self) -> String {
        format!("http://127.0.0.1:{}/dicom-web", self.http_port)
    }

    /// Where it speaks DIMSE, under any AE title.
    #[must_use]
    pub fn dicom(&self) -> String {
        format!("127.0.0.1:{}", self.dicom_port)
    }

    /// Has it keep a DICOM file.
    pub fn keep(&self, file: &Path) -> Result<()> {
        self.rest("POST", "/instances", &std::fs::read(file)?).map(|_| ())
    }

    /// How many instances it keeps.
    pub fn instances(&self) -> Result<u64> {
        let statistics: serde_json::Value = serde_json::from_str(&self.rest("GET", "/statistics", &[])?)?;
        statistics["CountInstances"].as_u64().context("Orthanc's statistics have no CountInstances")
    }

    /// One request to its REST interface; the body of its answer, which must be good.
    pub fn rest(&self, method: &str, path: &str, body: &[u8]) -> Result<String> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.http_port))?;
        let length = body.len();
        write!(stream, "{method} {path} HTTP/1.0\r\nHost: 127.0.0.1\r\nContent-Length: {length}\r\n\r\n")?;
        stream.write_all(body)?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        match (answer.split(' ').nth(1), answer.split_once("\r\n\r\n")) {
            (Some("200"), Some((_, body))) => Ok(body.to_owned()),
            _ => bail!("Orthanc answers {method} {path} with {answer}"),
        }
    }
}

impl Drop for Orthanc {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn spawn(program: &Path, storage: &Path) -> Result<Child> {
    let mut command = Command::new(program);
    command.arg(storage.join(CONFIG)).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    command.spawn().context("Orthanc cannot be started")
}

/// Reads its log until it says that it serves, and goes on reading, so that the pipe never fills.
fn wait_until_started(log: ChildStderr) -> Result<()> {
    let mut lines = BufReader::new(log).lines();
    let mut said = Vec::new();
    for line in lines.by_ref() {
        let line = line?;
        if line.contains("Orthanc has started") {
            std::thread::spawn(move || lines.for_each(drop));
            return Ok(());
        }
        said.push(line);
    }
    bail!("it ended; its log:\n{}", said.join("\n"))
}

fn free_ports() -> Result<[u16; 2]> {
    // Both are held until both are known, so that they differ.
    let http = TcpListener::bind(("127.0.0.1", 0))?;
    let dicom = TcpListener::bind(("127.0.0.1", 0))?;
    Ok([http.local_addr()?.port(), dicom.local_addr()?.port()])
}

/// Debian keeps it where services lie, which is not on everybody's search path.
fn installed() -> Option<PathBuf> {
    let paths = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&paths).chain(["/usr/sbin".into(), "/usr/local/sbin".into()]);
    folders.map(|folder| folder.join("Orthanc")).find(|program| program.is_file())
}
