//! The audit log: who did what to which study, with digests and without names.
//!
//! ```text
//! row 1 ◀── row 2 ◀── … ◀── row N ◀── audit.head, a file beside the journal
//! ```
//!
//! A row's digest covers the digest of the row before it, so a row that was changed, taken out, put in or moved is found
//! ([`verify()`]). The head is written to a file of its own every [`ANCHOR_EVERY`], so rows cut off at the end are found too, but
//! for those of that time. What is acknowledged is in the log: both are one commit ([`crate::store::Batch::audit`]).
//!
//! Somebody who can write both files can write both anew. Against that, the head is logged when it is anchored, and a log that is
//! collected elsewhere holds it.

mod verify;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::store::{Store, StoreError};

pub use self::verify::{Broken, Verified, verify};

/// How often the head is written beside the journal when it has moved.
pub const ANCHOR_EVERY: Duration = Duration::from_secs(10);

/// Who the node itself is.
pub const NODE: &str = "gantry";

/// Whoever may write to the journal, with `gantry job` and `gantry token`.
pub const OPERATOR: &str = "operator";

/// The anchor's name in the data folder.
const FILE: &str = "audit.head";

/// What was done. Names are in rows: one never changes its meaning.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Action {
    /// The node started, and found the end of the log gone or written anew.
    AuditBroken,
    /// The node started.
    NodeStarted,
    /// The node stopped in order.
    NodeStopped,
    /// An association was rejected.
    AssociationRejected,
    /// A request without the right to it was refused.
    AccessRefused,
    /// A new instance was made durable.
    InstanceStored,
    /// An instance came again with the same bytes; nothing changed.
    InstanceSame,
    /// An instance took the place of one with other bytes.
    InstanceReplaced,
    /// What came was set aside.
    InstanceQuarantined,
    /// Durability was confirmed to a peer (storage commitment).
    InstancesCommitted,
    /// Images, metadata or search results were handed out.
    StudyRead,
    /// A study closed.
    StudyClosed,
    /// A study that was closed takes more.
    StudyReopened,
    /// An archive gave all that it had of a study, as an earlier one of another study's patient.
    PriorFetched,
    /// A module was put on a study.
    JobQueued,
    /// A module began on a study.
    JobStarted,
    /// A module ended with a result.
    JobDone,
    /// A module or its job failed.
    JobFailed,
    /// Somebody cancelled a job.
    JobCancelled,
    /// Somebody had a job tried again.
    JobRetried,
    /// A result left for another system.
    ResultDelivered,
    /// Retention deleted a study's instances.
    StudyDeleted,
    /// Retention deleted a study's results.
    ResultDeleted,
    /// Retention deleted a file that was set aside.
    QuarantineDeleted,
    /// A token was made.
    TokenCreated,
    /// A token was taken back.
    TokenRevoked,
}

impl Action {
    /// In rows.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::AuditBroken => "audit-broken",
            Self::NodeStarted => "node-started",
            Self::NodeStopped => "node-stopped",
            Self::AssociationRejected => "association-rejected",
            Self::AccessRefused => "access-refused",
            Self::InstanceStored => "instance-stored",
            Self::InstanceSame => "instance-same",
            Self::InstanceReplaced => "instance-replaced",
            Self::InstanceQuarantined => "instance-quarantined",
            Self::InstancesCommitted => "instances-committed",
            Self::StudyRead => "study-read",
            Self::StudyClosed => "study-closed",
            Self::StudyReopened => "study-reopened",
            Self::PriorFetched => "prior-fetched",
            Self::JobQueued => "job-queued",
            Self::JobStarted => "job-started",
            Self::JobDone => "job-done",
            Self::JobFailed => "job-failed",
            Self::JobCancelled => "job-cancelled",
            Self::JobRetried => "job-retried",
            Self::ResultDelivered => "result-delivered",
            Self::StudyDeleted => "study-deleted",
            Self::ResultDeleted => "result-deleted",
            Self::QuarantineDeleted => "quarantine-deleted",
            Self::TokenCreated => "token-created",
            Self::TokenRevoked => "token-revoked",
        }
    }
}

/// What happened. No names, dates or IDs of patients; UIDs are fine.
#[derive(Debug, Clone)]
pub struct Event {
    /// AE title, name of a token, folder, or `gantry` for the node itself.
    pub who: String,
    /// What was done.
    pub action: Action,
    /// Study Instance UID; empty when there is none.
    pub study_instance_uid: String,
    /// What it was done to, below the study: a SOP Instance UID, a job, a token.
    pub object: String,
    /// SHA-256 of what it was done with, by what it is of: `instance`, `module`, `model`, `result`, …
    pub digests: Vec<(&'static str, [u8; 32])>,
    /// For people.
    pub detail: String,
    /// One from association to result.
    pub correlation: String,
}

impl Event {
    /// Of somebody, with nothing more said.
    #[must_use]
    pub fn new(who: &str, action: Action) -> Self {
        Self {
            who: who.into(),
            action,
            study_instance_uid: String::new(),
            object: String::new(),
            digests: Vec::new(),
            detail: String::new(),
            correlation: String::new(),
        }
    }
}

/// The last row. All zero before the first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Head {
    /// Its place.
    pub id: i64,
    /// Its digest.
    pub sha256: [u8; 32],
}

/// Writes the log; cheap to clone.
#[derive(Debug, Clone)]
pub struct Audit {
    store: Store,
    data: PathBuf,
}

impl Audit {
    /// Of the journal in a data folder.
    #[must_use]
    pub fn new(store: Store, data: &Path) -> Self {
        Self { store, data: data.into() }
    }

    /// Adds an event in a commit of its own. Use [`crate::store::Batch::audit`] where there are other changes to share it with.
    ///
    /// # Errors
    /// The journal's.
    pub async fn record(&self, event: &Event) -> Result<(), StoreError> {
        let mut batch = self.store.begin().await?;
        batch.audit(event).await?;
        batch.commit().await
    }

    /// Looks whether the log still has the row that was anchored last, and records that the node starts. A log that lost its end is
    /// written on, with a row that says so: a scanner does not wait for an investigation, and [`verify()`] finds the row.
    ///
    /// # Errors
    /// The journal's, or the disk's.
    pub async fn start(&self) -> Result<(), AnchorError> {
        let last = self.store.audit_head().await?;
        let anchor = read_head(&self.data);
        let whole = match &anchor {
            Ok(None) => last.id == 0,
            Ok(Some(anchor)) => anchor.id == 0 || self.has(anchor).await?,
            Err(_) => false,
        };
        if !whole {
            let said = match anchor {
                Ok(Some(anchor)) => format!("{FILE} said row {}", anchor.id),
                Ok(None) => format!("{FILE} was missing"),
                Err(e) => format!("{FILE} could not be read: {e}"),
            };
            let detail = format!("{said}, and the log ended at row {}", last.id);
            tracing::error!(
                "the audit log is not what was written: {detail}; find out who can write to the data folder"
            );
            self.record(&Event { detail, ..Event::new(NODE, Action::AuditBroken) }).await?;
        }
        self.record(&Event::new(NODE, Action::NodeStarted)).await?;
        self.anchor(None).await?;
        Ok(())
    }

    async fn has(&self, anchor: &Head) -> Result<bool, StoreError> {
        let row = self.store.audit_after(anchor.id - 1, 1).await?;
        Ok(row.first().is_some_and(|row| row.id == anchor.id && row.sha256 == anchor.sha256))
    }

    /// Records that the node stops in order, and anchors the last row.
    ///
    /// # Errors
    /// The journal's, or the disk's.
    pub async fn stop(&self) -> Result<(), AnchorError> {
        self.record(&Event::new(NODE, Action::NodeStopped)).await?;
        self.anchor(None).await?;
        Ok(())
    }

    /// Writes the head beside the journal, every [`ANCHOR_EVERY`], until the node stops.
    pub async fn keep_anchored(self, stop: CancellationToken) {
        let mut anchored = None;
        loop {
            if tokio::time::timeout(ANCHOR_EVERY, stop.cancelled()).await.is_ok() {
                return;
            }
            match self.anchor(anchored).await {
                Ok(head) => anchored = Some(head),
                Err(e) => tracing::error!(
                    "the head of the audit log cannot be written to {FILE}: {e}; a cut tail would not be found"
                ),
            }
        }
    }

    /// Writes the head beside the journal unless it is this one.
    ///
    /// # Errors
    /// The journal's, or the disk's.
    pub async fn anchor(&self, anchored: Option<Head>) -> Result<Head, AnchorError> {
        let head = self.store.audit_head().await?;
        if anchored != Some(head) {
            let data = self.data.clone();
            tokio::task::spawn_blocking(move || write_head(&data, head)).await.map_err(std::io::Error::other)??;
            tracing::info!(row = head.id, sha256 = crate::hex(&head.sha256), "head of the audit log");
        }
        Ok(head)
    }
}

/// The head cannot be anchored: the host's to mend.
#[derive(Debug, thiserror::Error)]
pub enum AnchorError {
    /// The journal.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The file.
    #[error(transparent)]
    Disk(#[from] std::io::Error),
}

/// As a whole or not at all.
fn write_head(data: &Path, head: Head) -> std::io::Result<()> {
    let mut file = tempfile::NamedTempFile::with_prefix_in(".audit-head-", data)?;
    writeln!(file, "1 {} {}", head.id, crate::hex(&head.sha256))?;
    file.as_file().sync_all()?;
    file.persist(data.join(FILE)).map_err(|e| e.error)?;
    std::fs::File::open(data)?.sync_all()
}

/// The anchor; `None` when there is no such file.
fn read_head(data: &Path) -> std::io::Result<Option<Head>> {
    use std::io::{Error, ErrorKind, Read};
    let file = match std::fs::File::open(data.join(FILE)) {
        Ok(file) => file,
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(e),
    };
    let mut text = String::new();
    file.take(200).read_to_string(&mut text)?;
    let parse = || {
        let (id, digest) = text.strip_prefix("1 ")?.trim_end().split_once(' ')?;
        let pairs = digest.as_bytes().as_chunks::<2>();
        let bytes: Option<Vec<u8>> =
            pairs.0.iter().map(|p| u8::from_str_radix(std::str::from_utf8(p).ok()?, 16).ok()).collect();
        Some(Head { id: id.parse().ok()?, sha256: bytes?.try_into().ok()? })
    };
    parse().map(Some).ok_or_else(|| Error::new(ErrorKind::InvalidData, "it is no head of an audit log"))
}
