//! `gantry sync run` beside a node: a process of its own, which has what the node leaves of the machine.
//!
//! The code that speaks to the cloud is not in the process that scanners speak to. That process starts it, starts it again when
//! it ends, and holds the other end of its standard input: when the node is gone, however it went, the child sees the end and
//! stops.

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

use crate::config::SyncConfig;
use crate::metrics::Metrics;
use crate::store::Store;

/// The first pause before it is started again; the next ones are twice as long each.
const PAUSE_FIRST: Duration = Duration::from_millis(500);
/// One that ran for so long is started again at once.
const LASTED: Duration = Duration::from_secs(60);
/// How often it is looked whether it ended.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// How often what waits is counted.
const COUNT_EVERY: Duration = Duration::from_secs(5);

/// Gives this process what others leave of the machine; names the system calls that were refused. To be called before any thread is
/// started: they inherit it.
pub fn step_back() -> Vec<String> {
    crate::trusted_code::step_back()
}

/// The process of a node.
#[derive(Debug)]
pub struct Child {
    /// This program.
    pub program: PathBuf,
    /// The configuration of the node.
    pub file: PathBuf,
    /// `[sync]`.
    pub config: SyncConfig,
}

impl Child {
    /// Keeps it running until the node stops, and ends it then.
    pub async fn keep(self, store: Store, metrics: Arc<Metrics>, stop: CancellationToken) {
        let counting = count(store, metrics.clone());
        tokio::pin!(counting);
        let running = self.run(&metrics, &stop);
        tokio::pin!(running);
        tokio::select! {
            () = &mut running => {}
            never = &mut counting => never,
        }
        metrics.sync_up(false);
    }

    async fn run(&self, metrics: &Metrics, stop: &CancellationToken) {
        let most = Duration::from_millis(self.config.restart_pause_max_ms);
        let mut pause = PAUSE_FIRST;
        while !stop.is_cancelled() {
            let since = Instant::now();
            let ended = self.once(metrics, stop).await;
            metrics.sync_up(false);
            if stop.is_cancelled() {
                return;
            }
            if since.elapsed() >= LASTED {
                pause = PAUSE_FIRST;
            }
            tracing::warn!(again_in_ms = pause.as_millis(), "sync: the process {ended}; its log says why");
            if tokio::time::timeout(pause, stop.cancelled()).await.is_ok() {
                return;
            }
            metrics.sync_restarted();
            pause = (2 * pause).min(most);
        }
    }

    /// One process, from its start to its end; how it ended.
    async fn once(&self, metrics: &Metrics, stop: &CancellationToken) -> String {
        let mut command = Command::new(&self.program);
        command.args(["sync", "run", "--follow", "--of-node", "--config"]).arg(&self.file);
        let mut child = match command.stdin(Stdio::piped()).stdout(Stdio::null()).spawn() {
            Ok(child) => child,
            Err(e) => return format!("cannot be started: {e}"),
        };
        metrics.sync_up(true);
        // It reads to the end of this, which comes with ours.
        let mut input = child.stdin.take();
        let mut kill_at: Option<Instant> = None;
        loop {
            match child.try_wait() {
                Ok(None) => {}
                Ok(Some(status)) => return format!("ended: {status}"),
                Err(e) => return format!("is not known to have ended: {e}"),
            }
            match kill_at {
                None if tokio::time::timeout(LOOK_EVERY, stop.cancelled()).await.is_ok() => {
                    drop(input.take());
                    kill_at = Some(Instant::now() + Duration::from_millis(self.config.stop_timeout_ms));
                }
                Some(at) if Instant::now() >= at => {
                    let _ = child.kill();
                    let _ = child.wait();
                    return "had to be killed".into();
                }
                None => {}
                Some(_) => tokio::time::sleep(LOOK_EVERY / 4).await,
            }
        }
    }
}

/// What waits, for those who watch the node.
async fn count(store: Store, metrics: Arc<Metrics>) {
    loop {
        match store.sync_waiting().await {
            Ok(waiting) => metrics.sync_waiting(&waiting),
            Err(e) => tracing::warn!("sync: what waits cannot be counted: {e}"),
        }
        tokio::time::sleep(COUNT_EVERY).await;
    }
}
