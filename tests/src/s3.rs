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
            command.arg(folder.path()).args(free_ports().map(|port| port.to_string()));
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

    /// moto; nothing where Python has it not.
    ///
    /// # Panics
    /// Where it is installed and does not start.
    #[must_use]
    pub fn moto() -> Option<Self> {
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
        command.arg(script("moto_s3.py"));
        Some(Self::start("moto", command, TempDir::new().expect("a folder")).expect("moto starts"))
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

fn free_ports() -> [u16; 3] {
    let free = [(); 3].map(|()| TcpListener::bind("127.0.0.1:0").expect("a free port"));
    free.map(|listener| listener.local_addr().expect("its address").port())
}
