//! `gantry serve`: assembles a node, top to bottom, and takes it apart again.

use std::fs::{File, TryLockError};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::audit::Audit;
use crate::config::Config;
use crate::ingest::Intake;
use crate::ingest::disk::RealDisk;
use crate::metrics::Metrics;
use crate::store::{Store, StoreError};

/// A node that runs.
pub struct Node {
    /// Where the DICOM network service listens.
    pub dimse: Option<SocketAddr>,
    store: Store,
    audit: Audit,
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
    /// The head of the audit log.
    #[error("the head of the audit log cannot be written: {0}")]
    Anchor(#[from] crate::audit::AnchorError),
}

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
        let metrics = Metrics::new();
        sweep(&data.join("incoming")).map_err(unusable)?;
        let (intake, _notices) =
            Intake::start(&config, data.clone(), store.clone(), Arc::new(RealDisk), metrics.clone())
                .map_err(unusable)?;
        let (stop, tasks) = (CancellationToken::new(), TaskTracker::new());
        let audit = Audit::new(store.clone(), &data);
        audit.start().await?;
        tasks.spawn(audit.clone().keep_anchored(stop.clone()));
        let _ = intake;
        tracing::info!("ready");
        Ok(Self {
            dimse: None,
            store,
            audit,
            stop,
            tasks,
            drain: Duration::from_millis(config.node.drain_ms),
            _lock: lock,
        })
    }

    /// Takes nothing new, lets what runs come to its end for `node.drain_ms`, and ends.
    pub async fn stop(self) {
        self.stop.cancel();
        self.tasks.close();
        if tokio::time::timeout(self.drain, self.tasks.wait()).await.is_err() {
            tracing::warn!(
                "some transfers or jobs did not end within node.drain_ms; they are taken up at the next start"
            );
        }
        if let Err(e) = self.audit.stop().await {
            tracing::error!("that the node stops cannot be recorded: {e}");
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
