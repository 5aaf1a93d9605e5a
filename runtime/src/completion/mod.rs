//! Studies close on evidence; a timer is only the fallback.
//!
//! ```text
//! Notice ─▶ Watcher ─ decide ─▶ look at the geometry · ask the PACS · wait · close ─▶ study_version, Closed
//! ```
//!
//! One task owns all open studies. What it decides upon comes from the journal, not from what it was told: a notice only
//! says where to look. Versions are journalled before anybody hears of them, and only when nothing came in between.
//! Time is measured by a clock that does not jump; the wall clock is only written down.
//!
//! Read in this order: `decide`, then `watch`, then `pacs`; and for earlier studies `priors`, then `retrieve`.

mod decide;
mod find;
mod pacs;
mod priors;
mod retrieve;
mod watch;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub use self::decide::Evidence;
pub(crate) use self::pacs::failed;
pub use self::pacs::{Archive, PacsError};
pub use self::priors::fetch_priors;
use crate::config::Config;
use crate::ingest::Notice;
use crate::store::Store;

/// A study that is complete for now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Closed {
    /// Study Instance UID (0020,000D).
    pub study_instance_uid: String,
    /// From 1; each supersedes those before.
    pub version: u32,
    /// What showed it to be complete.
    pub by: Evidence,
    /// How much earlier than the timer.
    pub saved: Duration,
    /// When its last instance was received, milliseconds since 1970.
    pub last_received_ms: i64,
}

/// Instances that one storage commitment may name.
const COMMITTED_MAX: usize = 100_000;
/// Commitments that wait to be looked at.
const COMMANDS_MAX: usize = 64;

/// What of the node completion uses.
pub struct Parts<'a> {
    /// As configured.
    pub config: &'a Config,
    /// Those that are asked.
    pub archives: Arc<[Archive]>,
    /// The data folder.
    pub data: PathBuf,
    /// The journal.
    pub store: Store,
}

/// Speaks to the task that watches studies; cheap to clone.
#[derive(Debug, Clone)]
pub struct Completion {
    commands: mpsc::Sender<Commitment>,
}

/// What a sender asked commitment for.
#[derive(Debug)]
struct Commitment {
    study: String,
    instances: Vec<String>,
}

impl Completion {
    /// Starts the task. Studies that were open when the node last ended, or got instances since, are open again, and
    /// none of their senders is waited for.
    pub fn start(
        parts: Parts<'_>,
        notices: mpsc::UnboundedReceiver<Notice>,
        closed: mpsc::Sender<Closed>,
        stop: CancellationToken,
        tasks: &TaskTracker,
    ) -> Self {
        let (commands, heard) = mpsc::channel(COMMANDS_MAX);
        let watcher = watch::Watcher::new(parts, closed, tasks.clone());
        tasks.spawn(watcher.run(notices, heard, stop));
        Self { commands }
    }

    /// Says that a sender asks for storage commitment of these instances (SOP Instance UIDs) of a study: what it asks
    /// for is what it has sent. Several lists of one study add up.
    pub async fn committed(&self, study_instance_uid: &str, mut instances: Vec<String>) {
        if instances.len() > COMMITTED_MAX {
            tracing::warn!(
                study = study_instance_uid,
                "a storage commitment names more than {COMMITTED_MAX} instances; it is no evidence"
            );
            return;
        }
        instances.sort_unstable();
        instances.dedup();
        let commitment = Commitment { study: study_instance_uid.to_owned(), instances };
        // When the node stops, nobody listens.
        let _ = self.commands.send(commitment).await;
    }
}
