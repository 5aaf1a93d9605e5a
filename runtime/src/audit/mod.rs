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
//! Who is refused can ask again and again: of refusals from one address for one reason there are at most two rows a minute
//! ([`Audit::refused`]), so that a flood of them does not fill the disk.
//!
//! Somebody who can write both files can write both anew. Against that, the head is logged when it is anchored, and a log that is
//! collected elsewhere holds it.

mod refusals;
mod verify;

use std::io::Write;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

use self::refusals::{Refusal, Refusals};
use crate::store::{Store, StoreError};

pub use self::refusals::{KINDS_MAX as REFUSAL_KINDS_MAX, PERIOD as REFUSAL_PERIOD};
pub use self::verify::{Broken, Verified, verify};

/// How often the head is written beside the journal when it has moved.
pub const ANCHOR_EVERY: Duration = Duration::from_secs(10);

/// Who the node itself is.
pub const NODE: &str = "gantry";

/// Whoever may write to the journal, with `gantry job` and `gantry token`.
pub const OPERATOR: &str = "operator";

/// The anchor's name in the data folder.
pub(crate) const FILE: &str = "audit.head";

macro_rules! actions {
    ($($(#[doc = $doc:literal])+ $variant:ident = $name:literal,)*) => {
        /// What was done. Names are in rows: one never changes its meaning.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Action {
            $($(#[doc = $doc])+ $variant,)*
        }

        impl Action {
            /// Every action.
            pub const ALL: &'static [Self] = &[$(Self::$variant),*];

            /// In rows.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }
        }
    };
}

actions! {
    /// The node started, and found the end of the log gone or written anew.
    AuditBroken = "audit-broken",
    /// The node started.
    NodeStarted = "node-started",
    /// The node stopped in order.
    NodeStopped = "node-stopped",
    /// An association was rejected, or its TLS handshake failed.
    AssociationRejected = "association-rejected",
    /// A request without the right to it was refused, or the TLS handshake before it failed.
    AccessRefused = "access-refused",
    /// A new instance was made durable.
    InstanceStored = "instance-stored",
    /// An instance came again with the same bytes; nothing changed.
    InstanceSame = "instance-same",
    /// An instance took the place of one with other bytes.
    InstanceReplaced = "instance-replaced",
    /// What came was set aside.
    InstanceQuarantined = "instance-quarantined",
    /// A request for storage commitment was answered: the detail says how many instances are promised.
    InstancesCommitted = "instances-committed",
    /// Images, metadata or search results were handed out.
    StudyRead = "study-read",
    /// A study closed.
    StudyClosed = "study-closed",
    /// A study that was closed changed.
    StudyReopened = "study-reopened",
    /// An archive gave all that it had of a study, as an earlier one of another study's patient.
    PriorFetched = "prior-fetched",
    /// A module was put on a study.
    JobQueued = "job-queued",
    /// A module began on a study.
    JobStarted = "job-started",
    /// A module ended with a result.
    JobDone = "job-done",
    /// A module or its job failed.
    JobFailed = "job-failed",
    /// Somebody cancelled a job.
    JobCancelled = "job-cancelled",
    /// A later version of the study came: what waits is cancelled, what runs is to stop, what is done stays.
    JobSuperseded = "job-superseded",
    /// A run ended without a result, by itself or with the node, and the job waits again.
    JobRequeued = "job-requeued",
    /// Somebody had a job tried again.
    JobRetried = "job-retried",
    /// Orders came by HL7.
    OrderReceived = "order-received",
    /// An order names another patient than the study with its accession number, and does nothing for it.
    OrderOfAnother = "order-of-another",
    /// An order raised the jobs of its study.
    JobsRaised = "jobs-raised",
    /// An identity of a patient was merged into another by who manages them; nothing here changed.
    MergeNoted = "merge-noted",
    /// A message of HL7 was refused.
    MessageRefused = "message-refused",
    /// Somebody said of a finding whether it is right: the detail says of which.
    VerdictGiven = "verdict-given",
    /// Somebody let a result leave that was held.
    ResultReleased = "result-released",
    /// Somebody asked to be told of workitems, or to be told no more.
    SubscriptionChanged = "subscription-changed",
    /// Somebody opened a connection on which they are told of workitems.
    ChannelOpened = "channel-opened",
    /// A destination has a result, by the digests of what left.
    ResultDelivered = "result-delivered",
    /// A result did not reach a destination, and was given up.
    DeliveryFailed = "delivery-failed",
    /// Somebody had a result sent to a destination again.
    DeliveryRetried = "delivery-retried",
    /// Somebody took a result out of a destination's queue.
    DeliveryDropped = "delivery-dropped",
    /// What may leave of a study was taken into a batch.
    SyncStudyTaken = "sync-study-taken",
    /// A batch with a part of a study is in the bucket.
    SyncStudySent = "sync-study-sent",
    /// Retention needed the space of a study that was yet to be looked at.
    SyncStudyMissed = "sync-study-missed",
    /// A part that was in the spool does not leave after all: the detail says why.
    SyncStudyWithdrawn = "sync-study-withdrawn",
    /// Somebody stopped what is handed to the cloud.
    SyncPaused = "sync-paused",
    /// Somebody let it go on.
    SyncResumed = "sync-resumed",
    /// Somebody held the bucket against its manifests, or put it right.
    SyncVerified = "sync-verified",
    /// Retention deleted a study's instances.
    StudyDeleted = "study-deleted",
    /// Retention deleted a job's results.
    ResultDeleted = "result-deleted",
    /// Retention deleted a file that was set aside.
    QuarantineDeleted = "quarantine-deleted",
    /// Objects stay that a policy had chosen to leave: how many, and why.
    ObjectsHeld = "objects-held",
    /// Somebody excused why an object is held, so that it may leave.
    ObjectReleased = "object-released",
    /// Somebody decided that an object stays that a policy had chosen to leave.
    ObjectDiscarded = "object-discarded",
    /// Retention deleted objects that were held before anybody decided, or before they left.
    ObjectsGone = "objects-gone",
    /// A model was loaded where it could do no harm, before any job runs it.
    ModelVetted = "model-vetted",
    /// A model ended too many workers, and is not run until the node starts again.
    ModelOutOfService = "model-out-of-service",
    /// Somebody had a package fetched from a bucket and installed beside the others: the detail says who signed it.
    ModuleInstalled = "module-installed",
    /// A package from a bucket was not installed, since it is not what its vendor signed, or may not come beside the others.
    ModuleRefused = "module-refused",
    /// A token was made.
    TokenCreated = "token-created",
    /// A token was taken back.
    TokenRevoked = "token-revoked",
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
    refusals: Arc<Refusals>,
}

impl Audit {
    /// Of the journal in a data folder.
    #[must_use]
    pub fn new(store: Store, data: &Path) -> Self {
        Self { store, data: data.into(), refusals: Arc::default() }
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

    /// Records that somebody at an address was refused, for the reason in the event's detail. The first row of an address, action and
    /// reason is written at once; the others are counted, and told in one row after [`REFUSAL_PERIOD`]. Of more than
    /// [`REFUSAL_KINDS_MAX`] such kinds within that time, the others are counted together. A count that was not written when the
    /// process is killed is lost. That it cannot be recorded changes nothing for who is refused.
    ///
    /// Whether it was the first, for a log of the same length.
    pub async fn refused(&self, from: IpAddr, event: Event) -> bool {
        let refusal = Refusal { action: event.action, from: Some(from.to_canonical()), reason: event.detail.clone() };
        if !self.refusals.note(refusal, &event.who, Instant::now()) {
            return false;
        }
        let detail = format!("{}, from {}", event.detail, from.to_canonical());
        if let Err(e) = self.record(&Event { detail, ..event }).await {
            tracing::error!("a refusal cannot be recorded in the audit log: {e}");
        }
        true
    }

    /// Writes what was counted of refusals; also what may still grow, when the node stops.
    async fn record_refusals(&self, stopping: bool) -> Result<(), StoreError> {
        for (refusal, counted) in self.refusals.due(Instant::now(), stopping) {
            let event = Event { detail: counted.detail(&refusal), ..Event::new(&counted.who, refusal.action) };
            self.record(&event).await?;
        }
        Ok(())
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
        self.record_refusals(true).await?;
        self.record(&Event::new(NODE, Action::NodeStopped)).await?;
        self.anchor(None).await?;
        Ok(())
    }

    /// Writes the head beside the journal, and what was counted of refusals, every [`ANCHOR_EVERY`], until the node stops.
    pub async fn keep_anchored(self, stop: CancellationToken) {
        let mut anchored = None;
        loop {
            if tokio::time::timeout(ANCHOR_EVERY, stop.cancelled()).await.is_ok() {
                return;
            }
            if let Err(e) = self.record_refusals(false).await {
                tracing::error!("refusals were counted and cannot be recorded in the audit log: {e}");
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

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    /// An action that nothing writes is a promise that the log does not keep.
    #[test]
    fn every_action_is_written_somewhere() {
        let sources = walkdir::WalkDir::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("src")).into_iter();
        let sources = sources.map(|entry| entry.expect("an entry").into_path());
        let sources = sources.filter(|path| path.extension().is_some_and(|extension| extension == "rs"));
        let code: String = sources
            .map(|path| std::fs::read_to_string(path).expect("readable"))
            .map(|text| text.split("#[cfg(test)]\nmod tests").next().unwrap_or_default().to_owned())
            .collect();
        for action in Action::ALL {
            let used = |ending: &str| code.contains(&format!("Action::{action:?}{ending}"));
            assert!([",", ")", ";", " "].into_iter().any(used), "nothing writes {action:?}");
        }
        let names: std::collections::BTreeSet<_> = Action::ALL.iter().map(|action| action.name()).collect();
        assert_eq!(names.len(), Action::ALL.len(), "each has a name of its own");
    }
}
