//! A node of our own: the real `gantry serve`, on loopback, on ports that were free, gone when it is dropped.

use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use gantry::store::{InstanceRow, Store};
use tempfile::TempDir;

use crate::command::{Said, gantry};

/// What a test waits for at most.
const PATIENCE: Duration = Duration::from_secs(30);

/// Its configuration, in the folder of all that is its own.
const CONFIG: &str = "gantry.toml";

/// Our own AE title.
pub const NODE_TITLE: &str = "GANTRY";

/// Runs until it is dropped.
#[derive(Debug)]
pub struct Node {
    /// Where the DICOM network service listens.
    pub dimse: SocketAddr,
    /// What it printed when it was ready.
    pub ready: serde_json::Value,
    child: Child,
    folder: TempDir,
    log: Arc<Mutex<String>>,
}

impl Node {
    /// Starts one and waits until it is ready. `config` is more TOML: keys of `[dimse]` and `[node]` are merged into what
    /// every test needs, which is loopback, a data folder, and callers that need not be listed.
    #[must_use]
    pub fn start(config: &str) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        Self::start_in(folder, config).expect("a node starts")
    }

    /// The same, with this variable in its environment.
    #[must_use]
    pub fn start_where(variable: &str, value: &Path, config: &str) -> Self {
        let mut command = gantry();
        command.env(variable, value);
        Self::run(command, tempfile::tempdir().expect("a folder"), config).expect("a node starts")
    }

    /// Starts this program, with what it keeps in a folder of its own below `folder`, and with the log that it has by
    /// itself.
    ///
    /// # Errors
    /// It ends before it is ready; its log says why.
    pub fn of(program: &Path, folder: &Path, config: &str) -> Result<Self> {
        Self::run(Command::new(program), TempDir::new_in(folder)?, config)
    }

    fn start_in(folder: TempDir, config: &str) -> Result<Self> {
        let mut command = gantry();
        command.env("RUST_LOG", "gantry=debug,dicom_ul=error");
        Self::run(command, folder, config)
    }

    fn run(mut command: Command, folder: TempDir, config: &str) -> Result<Self> {
        let file = folder.path().join(CONFIG);
        std::fs::write(&file, configuration(folder.path(), config)?)?;
        command.arg("serve").arg("--config").arg(&file);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().context("gantry cannot be started")?;
        let log = Arc::new(Mutex::new(String::new()));
        let stderr = child.stderr.take().context("standard error is a pipe")?;
        let reading = keep(stderr, log.clone());
        let stdout = child.stdout.take().context("standard output is a pipe")?;
        let mut line = String::new();
        let read = BufReader::new(stdout).read_line(&mut line);
        if !read.is_ok_and(|bytes| bytes > 0) {
            child.wait()?;
            reading.join().expect("the log is read to its end");
            bail!("it ended before it was ready:\n{}", log.lock().expect("nobody failed"));
        }
        let ready: serde_json::Value = serde_json::from_str(&line).context(line)?;
        // Port 9 discards: a node without the service must not be sent to.
        let dimse = ready["dimse"].as_str().unwrap_or("127.0.0.1:9").parse()?;
        Ok(Self { dimse, ready, child, folder, log })
    }

    /// Starts again on the same data, after [`stop`](Self::stop) or [`kill`](Self::kill).
    #[must_use]
    pub fn again(self, config: &str) -> Self {
        let Self { ref folder, .. } = self;
        let kept = TempDir::new_in(folder.path().parent().expect("it lies in a folder")).expect("a folder");
        std::fs::remove_dir(kept.path()).expect("empty");
        std::fs::rename(folder.path(), kept.path()).expect("moved");
        drop(self);
        Self::start_in(kept, config).expect("a node starts")
    }

    /// What it keeps stays when it is dropped.
    pub fn leave_files(&mut self) {
        self.folder.disable_cleanup(true);
    }

    /// Its data folder.
    #[must_use]
    pub fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// What a call of `gantry` with these words and the node's configuration says; it may run, or not.
    #[must_use]
    pub fn says(&self, arguments: &[&str]) -> Said {
        let mut command = gantry();
        command.args(arguments).arg("--config").arg(self.config());
        command.output().expect("gantry runs").into()
    }

    /// The rows of its audit log about an action, as `gantry audit show --json` prints them.
    ///
    /// # Panics
    /// When there is no log.
    #[must_use]
    pub fn audited(&self, action: &str) -> Vec<serde_json::Value> {
        let said = self.says(&["audit", "show", "--limit", "10000", "--json"]);
        assert_eq!(said.code, Some(0), "{said:?}");
        let rows = said.out.lines().map(|line| serde_json::from_str(line).expect("JSON"));
        rows.filter(|row: &serde_json::Value| row["action"] == action).collect()
    }

    /// Its configuration.
    #[must_use]
    pub fn config(&self) -> PathBuf {
        self.folder.path().join(CONFIG)
    }

    /// What it logged so far.
    #[must_use]
    pub fn log(&self) -> String {
        self.log.lock().expect("nobody failed").clone()
    }

    /// Its process, for signals and memory.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The most memory that it ever had, in MiB.
    ///
    /// # Panics
    /// When it does not run.
    #[must_use]
    pub fn peak_mib(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).expect("it runs");
        let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("a peak");
        peak.trim().trim_end_matches(" kB").parse::<u64>().expect("a number") >> 10
    }

    /// The files below `folder` of the data folder (`instances`, `quarantine`, `incoming`), in order.
    #[must_use]
    pub fn files(&self, folder: &str) -> Vec<PathBuf> {
        let mut files = Vec::new();
        walk(&self.data().join(folder), &mut files);
        files.sort();
        files
    }

    /// What the journal says of an instance.
    #[must_use]
    pub fn instance(&self, sop_instance_uid: &str) -> Option<InstanceRow> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            let store = Store::open(&self.data()).await.expect("a journal");
            let row = store.instance(sop_instance_uid).await.expect("readable");
            store.close().await;
            row
        })
    }

    /// SIGTERM, and its end; whether it ended well.
    pub fn stop(&mut self) -> bool {
        let pid = i32::try_from(self.pid()).ok().and_then(rustix::process::Pid::from_raw).expect("a process");
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).expect("it runs");
        self.child.wait().expect("it ends").success()
    }

    /// SIGKILL, and its end.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            eprintln!("the node's log:\n{}", self.log());
        }
    }
}

/// Waits until `condition` holds.
///
/// # Panics
/// When it does not within half a minute.
pub fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "{what}: not within {PATIENCE:?}");
        std::thread::park_timeout(Duration::from_millis(10));
    }
}

/// What every test needs, and what this one adds.
fn configuration(folder: &Path, more: &str) -> Result<String> {
    let base = format!(
        "[node]\ndata_folder = {data:?}\ndisk_free_min_mib = 1\n\
         [dimse]\nlisten = \"127.0.0.1:0\"\nae_title = {NODE_TITLE:?}\nunknown_callers = \"accept\"\n",
        data = folder.join("data"),
    );
    let mut table: toml::Table = base.parse()?;
    merge(&mut table, more.parse().context("the test's configuration")?);
    Ok(table.to_string())
}

fn merge(table: &mut toml::Table, more: toml::Table) {
    for (key, value) in more {
        match (table.get_mut(&key), value) {
            (Some(toml::Value::Table(known)), toml::Value::Table(more)) => merge(known, more),
            (_, value) => drop(table.insert(key, value)),
        }
    }
}

/// Reads to the end, so that the pipe never fills.
fn keep(stderr: ChildStderr, log: Arc<Mutex<String>>) -> std::thread::JoinHandle<()> {
    std::thread::spawn(move || {
        let mut reader = BufReader::new(stderr);
        let mut bytes = [0; 4096];
        while let Ok(n @ 1..) = reader.read(&mut bytes) {
            log.lock().expect("nobody failed").push_str(&String::from_utf8_lossy(&bytes[..n]));
        }
    })
}

fn walk(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        match entry.path() {
            path if path.is_dir() => walk(&path, files),
            path => files.push(path),
        }
    }
}
