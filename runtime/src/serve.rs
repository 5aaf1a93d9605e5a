//! `gantry serve`: assembles a node, top to bottom, and takes it apart again.

use std::fs::{File, TryLockError};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::completion::{Archive, Completion, PacsError};
use crate::app::App;
use crate::config::Config;
use crate::ingest::dimse::{BindError, Dimse};
use crate::ingest::disk::RealDisk;
use crate::ingest::{self, Intake};
use crate::schedule::{STOP_GRACE, ScheduleError, Scheduler, StudyClosed};
use crate::store::{Store, StoreError};
use crate::web::{Web, WebStartError};

/// A node that runs.
pub struct Node {
    /// Where the DICOM network service listens.
    pub dimse: Option<SocketAddr>,
    /// Where DICOMweb listens.
    pub web: Option<SocketAddr>,
    /// Takes studies that are whole; `None` where no modules are configured.
    pub closed: Option<tokio::sync::mpsc::Sender<StudyClosed>>,
    store: Store,
    stop: CancellationToken,
    tasks: TaskTracker,
    drain: Duration,
    /// Held as long as the node runs: one node a data folder.
    _lock: File,
}

/// A node cannot start: the operator's to mend.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// `node.data_folder` is not set.
    #[error(
        "node.data_folder is not set: `gantry serve` needs a folder that only its user can write; see examples/gantry.toml"
    )]
    NoDataFolder,
    /// It cannot be used.
    #[error("node.data_folder {path}: {reason}", path = path.display())]
    DataFolder {
        /// Which.
        path: PathBuf,
        /// Why.
        reason: std::io::Error,
    },
    /// Another node runs on it.
    #[error("node.data_folder {path}: another node runs on it; stop that one first", path = .0.display())]
    Busy(PathBuf),
    /// The journal.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// DICOMweb.
    #[error(transparent)]
    Web(#[from] WebStartError),
    /// The DICOM network service.
    #[error(transparent)]
    Dimse(#[from] BindError),
    /// An archive.
    #[error(transparent)]
    Pacs(#[from] PacsError),
    /// What every job needs.
    #[error(transparent)]
    App(#[from] crate::app::StartError),
    /// The modules.
    #[error(transparent)]
    Schedule(#[from] ScheduleError),
}

/// Studies that closed and wait to be routed.
const CLOSED_MAX: usize = 256;

impl Node {
    /// Starts everything. When this returns, what it listens on is open.
    ///
    /// # Errors
    /// What the operator must mend first.
    pub async fn start(config: Config) -> Result<Self, StartError> {
        let data = config.node.data_folder.clone().ok_or(StartError::NoDataFolder)?;
        let unusable = |reason| StartError::DataFolder { path: data.clone(), reason };
        let lock = lock(&data)?;
        let store = Store::open(&data).await?;
        sweep(&data.join("incoming")).map_err(unusable)?;
        let archives = Archive::all(&config)?;
        let (intake, notices) =
            Intake::start(&config, data.clone(), store.clone(), Arc::new(RealDisk)).map_err(unusable)?;
        let (stop, tasks) = (CancellationToken::new(), TaskTracker::new());
        let mut web = None;
        if let Some(address) = config.web.listen {
            let service = Web::bind(address, &config, intake.clone(), store.clone(), data.clone()).await?;
            web = Some(service.local_addr());
            tasks.spawn(service.run(stop.clone(), tasks.clone()));
        }
        let dimse = Dimse::bind(&config, intake.clone(), store.clone()).await?;
        let dimse_address = dimse.as_ref().map(Dimse::local_addr);
        if let Some(dimse) = dimse {
            let (stop, associations) = (stop.clone(), tasks.clone());
            tasks.spawn(async move { dimse.run(stop, &associations).await });
        }
        // Nobody takes closed studies yet: the journal has them.
        let (closed, _) = mpsc::channel(1);
        let _completion =
            Completion::start(&config, archives, data, store.clone(), notices, closed, stop.clone(), &tasks);
        tasks.spawn(ingest::folder::watch(config.folder.clone(), intake, stop.clone()));
        tracing::info!("ready");
        Ok(Self {
            dimse: dimse_address,
            web,
            store,
            stop,
            tasks,
            drain: Duration::from_millis(config.node.drain_ms),
            _lock: lock,
        })
    }

    /// What it listens on, on one line of JSON: with port 0 there is no other way to learn it.
    #[must_use]
    pub fn ready(&self) -> String {
        serde_json::json!({ "dimse": self.dimse, "web": self.web }).to_string()
        let _ = intake;
        let drain = Duration::from_millis(config.node.drain_ms);
        let mut closed = None;
        if !config.modules.is_empty() {
            let app = tokio::task::spawn_blocking(move || App::start(config)).await;
            let app = Arc::new(app.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()))?);
            let (sender, studies) = tokio::sync::mpsc::channel(CLOSED_MAX);
            Scheduler::start(app, store.clone(), data, studies, stop.clone(), &tasks).await?;
            closed = Some(sender);
        }
        tracing::info!("ready");
        Ok(Self { dimse: None, closed, store, stop, tasks, drain, _lock: lock })
    }

    /// Takes nothing new, lets what runs come to its end for `node.drain_ms`, and ends.
    pub async fn stop(self) {
        self.stop.cancel();
        self.tasks.close();
        // Guests are told to stop after `drain`, and their jobs go back to the queue.
        if tokio::time::timeout(self.drain + STOP_GRACE, self.tasks.wait()).await.is_err() {
            tracing::warn!(
                "some transfers or jobs did not end within node.drain_ms; they are taken up at the next start"
            );
        }
        self.store.close().await;
    }
}

/// Until SIGTERM or Ctrl-C.
///
/// # Errors
/// Signals cannot be listened to.
pub async fn until_stopped() -> std::io::Result<()> {
    let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
    tokio::select! {
        _ = terminate.recv() => Ok(()),
        interrupted = tokio::signal::ctrl_c() => interrupted,
    }
}

/// Makes the data folder when it is missing, and makes sure that no other node runs on it.
fn lock(data: &Path) -> Result<File, StartError> {
    let unusable = |reason| StartError::DataFolder { path: data.to_owned(), reason };
    std::fs::create_dir_all(data).map_err(unusable)?;
    let lock = File::create(data.join("lock")).map_err(unusable)?;
    match lock.try_lock() {
        Ok(()) => Ok(lock),
        Err(TryLockError::WouldBlock) => Err(StartError::Busy(data.to_owned())),
        Err(TryLockError::Error(e)) => Err(unusable(e)),
    }
}

/// What an earlier process left unfinished was never acknowledged.
fn sweep(incoming: &Path) -> std::io::Result<()> {
    let Ok(entries) = std::fs::read_dir(incoming) else { return Ok(()) };
    for entry in entries {
        std::fs::remove_file(entry?.path())?;
    }
    Ok(())
}
