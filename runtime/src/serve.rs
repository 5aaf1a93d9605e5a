//! `gantry serve`: assembles a node, top to bottom, and takes it apart again.

use std::fs::{File, TryLockError};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::app::App;
use crate::audit::{AnchorError, Audit};
use crate::completion::{self, Archive, Closed, Completion, PacsError};
use crate::config::Config;
use crate::deliver;
use crate::doctor;
use crate::ingest::dimse::{BindError, Dimse};
use crate::ingest::disk::RealDisk;
use crate::ingest::mllp::{Mllp, MllpError};
use crate::ingest::{self, Intake, unfiled};
use crate::metrics::Metrics;
use crate::retention::{Retention, Unfinished};
use crate::schedule::{self, PriorSource, STOP_GRACE, ScheduleError, StudyClosed};
use crate::store::{Store, StoreError};
use crate::study::ReadOptions;
use crate::sync;
use crate::web::{Web, WebStartError};
use crate::worker;

/// A node that runs.
pub struct Node {
    /// Where the DICOM network service listens.
    pub dimse: Option<SocketAddr>,
    /// Where DICOMweb listens.
    pub web: Option<SocketAddr>,
    /// Where orders come in.
    pub hl7: Option<SocketAddr>,
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
    /// The watched folder cannot be used.
    #[error("folder.path {path}: {reason}; {remedy}", path = path.display(), remedy = ingest::folder::REMEDY)]
    Folder {
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
    Anchor(#[from] AnchorError),
    /// An archive.
    #[error(transparent)]
    Pacs(#[from] PacsError),
    /// What is to hold a worker does not.
    #[error("no worker can be started: {0}")]
    Worker(String),
    /// What every job needs.
    #[error(transparent)]
    App(#[from] crate::app::StartError),
    /// The modules.
    #[error(transparent)]
    Schedule(#[from] ScheduleError),
    /// Who gets results.
    #[error(transparent)]
    Deliver(#[from] deliver::StartError),
    /// What hands things to the cloud.
    #[error("`gantry sync` cannot be started: {0}")]
    Sync(String),
    /// The DICOM network service.
    #[error(transparent)]
    Dimse(#[from] BindError),
    /// DICOMweb.
    #[error(transparent)]
    Web(#[from] WebStartError),
    /// The MLLP service.
    #[error(transparent)]
    Mllp(#[from] MllpError),
}

/// Studies that closed and wait to be routed.
const CLOSED_MAX: usize = 256;

impl Node {
    /// Starts everything. When this returns, what it listens on is open. `file` is where the configuration was read: the process that
    /// hands things to the cloud reads it too.
    ///
    /// # Errors
    /// What the operator must mend first.
    pub async fn start(config: Config, file: &Path) -> Result<Self, StartError> {
        let data = config.node.data_folder.clone().ok_or(StartError::NoDataFolder)?;
        let unusable = |reason| StartError::DataFolder { path: data.clone(), reason };
        let (stop, tasks) = (CancellationToken::new(), TaskTracker::new());
        let drain = Duration::from_millis(config.node.drain_ms);

        // What is kept.
        let lock = lock(&data)?;
        for check in doctor::check_data_folder(&data, config.node.disk_free_min_mib) {
            if check.state != doctor::State::Ok {
                tracing::warn!("{}: {}; {}", check.name, check.found, check.remedy);
            }
        }
        if let Some(path) = &config.folder.path {
            ingest::folder::check(path).map_err(|reason| StartError::Folder { path: path.clone(), reason })?;
        }
        let of_workers = config.clone();
        ingest::blocking(move || worker::stand(&of_workers)).await.map_err(StartError::Worker)?;
        let store = Store::open(&data).await?;
        let metrics = Metrics::new();
        let audit = Audit::new(store.clone(), &data);
        audit.start().await?;
        tasks.spawn(audit.clone().keep_anchored(stop.clone()));
        sweep(&data.join("incoming")).map_err(unusable)?;
        let left = unfiled::remove(&store, &data, &ReadOptions::new(&config.limits, true)).await?;
        if left > 0 {
            tracing::info!(files = left, "an earlier process ended before these were kept and acknowledged: removed");
        }
        let disk = Arc::new(RealDisk);

        // From an instance to a study that is whole, to its jobs.
        let (intake, notices) =
            Intake::start(&config, data.clone(), store.clone(), disk.clone(), metrics.clone()).map_err(unusable)?;
        let archives = Archive::all(&config)?;
        let (closed, studies) = mpsc::channel(CLOSED_MAX);
        let parts =
            completion::Parts { config: &config, archives: archives.clone(), data: data.clone(), store: store.clone() };
        let completion = Completion::start(parts, notices, closed, stop.clone(), &tasks);
        let (route, routed) = mpsc::channel(CLOSED_MAX);
        let unrouted = store.unrouted_versions().await?;
        tasks.spawn(hand_on(unrouted, studies, route, store.clone(), metrics.clone()));
        if config.modules.is_empty() {
            drop(routed);
        } else {
            let of_app = config.clone();
            let app = Arc::new(ingest::blocking(move || App::start(of_app)).await?);
            app.engines.count(metrics.clone());
            let priors = PriorSource { archives, intake: intake.clone() };
            let (store, data, metrics) = (store.clone(), data.clone(), metrics.clone());
            let parts = schedule::Parts { app, store, data, priors, metrics };
            schedule::start(parts, routed, stop.clone(), &tasks).await?;
        }
        deliver::start(
            &deliver::Parts { config: &config, store: store.clone(), data: data.clone(), metrics: metrics.clone() },
            &stop,
            &tasks,
        )?;
        let unfinished = Unfinished { sync: config.sync.policy.is_some() };
        let retention = Retention::new(&config, data.clone(), store.clone(), disk, metrics.clone(), unfinished);
        tasks.spawn(retention.run(stop.clone()));
        if config.sync.policy.is_some() {
            let program = std::env::current_exe().map_err(|e| StartError::Sync(e.to_string()))?;
            let child = sync::Child { program, file: file.to_owned(), config: config.sync.clone() };
            tasks.spawn(child.keep(store.clone(), metrics.clone(), stop.clone()));
        }

        // The ways in, last: what comes finds everything there.
        let (of_store, of_metrics) = (store.clone(), metrics.clone());
        let dimse = Dimse::bind(&config, intake.clone(), of_store, completion, of_metrics, audit.clone()).await?;
        let dimse_address = dimse.as_ref().map(Dimse::local_addr);
        if let Some(dimse) = dimse {
            let (stop, associations) = (stop.clone(), tasks.clone());
            tasks.spawn(async move { dimse.run(stop, &associations).await });
        }
        let mllp = Mllp::bind(&config, store.clone(), metrics.clone(), audit.clone()).await?;
        let hl7 = mllp.as_ref().map(Mllp::local_addr);
        if let Some(mllp) = mllp {
            let (stop, connections) = (stop.clone(), tasks.clone());
            tasks.spawn(async move { mllp.run(stop, &connections).await });
        }
        let mut web_address = None;
        if let Some(address) = config.web.listen {
            let web = Web::bind(address, &config, intake.clone(), store.clone(), data, metrics, audit.clone()).await?;
            web_address = Some(web.local_addr());
            tasks.spawn(web.run(stop.clone(), tasks.clone()));
        }
        tasks.spawn(ingest::folder::watch(config.folder.clone(), intake, stop.clone()));
        tracing::info!("ready");
        Ok(Self { dimse: dimse_address, web: web_address, hl7, store, audit, stop, tasks, drain, _lock: lock })
    }

    /// What it listens on, on one line of JSON: with port 0 there is no other way to learn it.
    #[must_use]
    pub fn ready(&self) -> String {
        serde_json::json!({ "dimse": self.dimse, "web": self.web, "hl7": self.hl7 }).to_string()
    }

    /// Takes nothing new, lets what runs come to its end for `node.drain_ms`, and ends.
    pub async fn stop(self) {
        self.stop.cancel();
        self.tasks.close();
        // Guests are told to stop after `drain`, and their jobs go back to the queue. What is acknowledged meanwhile is anchored
        // as always.
        let drained = tokio::select! {
            drained = tokio::time::timeout(self.drain + STOP_GRACE, self.tasks.wait()) => drained.is_ok(),
            () = self.audit.clone().keep_anchored(CancellationToken::new()) => false,
        };
        if let Err(e) = self.audit.stop().await {
            tracing::error!("that the node stops cannot be recorded: {e}");
        }
        if drained {
            self.store.close().await;
        } else {
            // The journal stays open for them: what it does not commit was not acknowledged.
            tracing::warn!(
                "some transfers or jobs did not end within node.drain_ms; they are taken up at the next start"
            );
        }
    }
}

/// From studies that are whole to the modules: first those that an earlier process closed and did not come to route.
async fn hand_on(
    unrouted: Vec<(String, u32)>,
    mut studies: mpsc::Receiver<Closed>,
    route: mpsc::Sender<StudyClosed>,
    store: Store,
    metrics: Arc<Metrics>,
) {
    let route = async |study_instance_uid: String, version: u32| {
        let closed = StudyClosed { study_instance_uid, version };
        // Where no module is configured nobody listens, and the journal says so: a module that is added later does not run
        // on all that came before.
        if let Err(mpsc::error::SendError(closed)) = route.send(closed).await
            && let Err(e) = store.nothing_to_run(&closed.study_instance_uid, closed.version).await
        {
            tracing::error!(study = closed.study_instance_uid, "that nothing runs on it cannot be recorded: {e}");
        }
    };
    for (study_instance_uid, version) in unrouted {
        route(study_instance_uid, version).await;
    }
    while let Some(Closed { study_instance_uid, version, by, saved, .. }) = studies.recv().await {
        metrics.study_closed(by.name(), saved);
        route(study_instance_uid, version).await;
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

/// Locked by the node that runs on a data folder, for as long as it does.
const LOCK: &str = "lock";
/// Who looks whether a node runs ([`is_running`]) has the lock for a moment.
const LOCKED_WITHIN: Duration = Duration::from_secs(1);

/// Whether a node runs on a data folder.
///
/// # Errors
/// Of the file system.
pub fn is_running(data: &Path) -> std::io::Result<bool> {
    let lock = match File::open(data.join(LOCK)) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(false),
        lock => lock?,
    };
    match lock.try_lock_shared() {
        Ok(()) => Ok(false),
        Err(TryLockError::WouldBlock) => Ok(true),
        Err(TryLockError::Error(e)) => Err(e),
    }
}

/// Makes the data folder when it is missing, for our user alone, and makes sure that no other node runs on it.
fn lock(data: &Path) -> Result<File, StartError> {
    let unusable = |reason| StartError::DataFolder { path: data.to_owned(), reason };
    crate::make_private_folder(data).map_err(unusable)?;
    let lock = File::create(data.join(LOCK)).map_err(unusable)?;
    // That the folder has its name must be durable as what is in it; where the parent cannot be opened, whoever made the
    // folder for this user has seen to that.
    if let Some(parent) = std::path::absolute(data).map_err(unusable)?.parent()
        && let Ok(parent) = File::open(parent)
    {
        parent.sync_all().map_err(unusable)?;
    }
    let since = Instant::now();
    loop {
        match lock.try_lock() {
            Ok(()) => return Ok(lock),
            Err(TryLockError::WouldBlock) if since.elapsed() < LOCKED_WITHIN => {
                std::thread::sleep(Duration::from_millis(10));
            }
            Err(TryLockError::WouldBlock) => return Err(StartError::Busy(data.to_owned())),
            Err(TryLockError::Error(e)) => return Err(unusable(e)),
        }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::{ANCHOR_EVERY, Action, Event, verify};

    #[test]
    fn whether_a_node_runs_can_be_asked_and_keeps_none_from_starting() {
        let folder = tempfile::tempdir().expect("a folder");
        assert!(!is_running(folder.path()).expect("readable"), "none ever did");
        let held = lock(folder.path()).expect("nobody else runs on it");
        assert!(is_running(folder.path()).expect("readable"));
        assert!(matches!(lock(folder.path()), Err(StartError::Busy(_))));
        drop(held);
        assert!(!is_running(folder.path()).expect("readable"), "it was");
        // Somebody looks just then.
        let looks = File::open(folder.path().join(LOCK)).expect("there");
        looks.try_lock_shared().expect("free");
        std::thread::scope(|scope| {
            let starts = scope.spawn(|| lock(folder.path()));
            std::thread::sleep(LOCKED_WITHIN / 10);
            drop(looks);
            starts.join().expect("it does not panic").expect("it starts");
        });
    }

    #[tokio::test]
    async fn the_audit_log_is_anchored_while_a_node_drains_and_when_that_takes_too_long() {
        let folder = tempfile::tempdir().expect("a folder");
        let data = folder.path();
        let store = Store::open(data).await.expect("a journal");
        let audit = Audit::new(store.clone(), data);
        audit.start().await.expect("started");
        let tasks = TaskTracker::new();
        // It never ends, and is waited for until the head was due again.
        tasks.spawn(std::future::pending::<()>());
        let node = Node {
            dimse: None,
            web: None,
            hl7: None,
            store: store.clone(),
            audit: audit.clone(),
            stop: CancellationToken::new(),
            tasks,
            drain: ANCHOR_EVERY,
            _lock: lock(data).expect("nobody else runs on it"),
        };
        let stopping = tokio::spawn(node.stop());
        audit.record(&Event::new("CT1", Action::InstanceStored)).await.expect("recorded");
        let mut verified = verify(&store, data).await.expect("whole");
        while verified.anchored == 1 && !stopping.is_finished() {
            tokio::time::sleep(Duration::from_millis(10)).await;
            verified = verify(&store, data).await.expect("whole");
        }
        assert_eq!((verified.anchored, verified.head.id), (2, 2), "what came while it drains");
        stopping.await.expect("it ends");
        let verified = verify(&store, data).await.expect("whole");
        assert_eq!((verified.anchored, verified.head.id), (3, 3), "that it stops");
        assert_eq!(store.audit_latest(None, 1).await.expect("a log")[0].action, "node-stopped");
    }
}
