//! The journal: what was received, what is to be done, what was done. SQLite, and the only place that knows SQL.
//!
//! Write-ahead log with `synchronous=FULL`: a commit that returned survives a power cut. Times are milliseconds since 1970.

mod audit;
mod commitment;
mod completion;
mod instances;
mod intake;
mod jobs;
mod orders;
mod outbox;
mod priors;
mod quarantine;
mod query;
mod retention;
mod review;
mod said;
mod subscriptions;
mod sync;
mod tokens;
#[cfg(test)]
mod watched;
mod whose;
mod workitems;
mod worklist;

use std::path::Path;
use std::time::Duration;

use sqlx::migrate::{Migration, MigrationType, Migrator};
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{Sqlite, Transaction};
use tokio::sync::watch;
use tokio_util::task::TaskTracker;

pub use self::audit::AuditRow;
pub use self::commitment::{CommitmentFailure, CommitmentItem, CommitmentReport};
pub use self::completion::{Closing, SeriesFacts, StudyFacts, VersionRow};
pub use self::instances::{Candidate, Filed, InstanceRow, Kept, Known, Quarantined};
pub use self::intake::{IntakeBatch, IntakeWriter};
pub use self::jobs::{Arrivals, Changed, Done, Ending, FoundRow, Job, JobState, NewJob, Routed};
pub use self::orders::{OrderRow, Ordered, Sender};
pub use self::outbox::{DeliveryChanged, DeliveryCount, DeliveryEnding, DeliveryRow, DeliveryState, StudyIdentity};
pub use self::priors::{Gathered, PriorKey, PriorRow};
pub use self::quarantine::{
    Decided, Decision, HeldKind, HeldObject, HeldRow, HeldSearch, HeldState, ToHold, Undecided,
};
pub use self::query::{Field, Found, Level, Match, Part, Search};
pub use self::retention::{Doomed, Unneeded};
pub use self::review::{Deliverable, Given, NewVerdict, ReleaseRow, Released, Reviewed, VerdictRow, Which};
pub use self::subscriptions::Subscribed;
pub use self::sync::{
    SyncCount, SyncDue, SyncLooked, SyncOpen, SyncPart, SyncState, SyncTaken, SyncWaiting, SyncWaits,
};
pub use self::tokens::TokenRow;
pub use self::workitems::{
    CancelAsked, WorkitemEvent, WorkitemField, WorkitemNews, WorkitemRow, WorkitemSearch, WorkitemState,
};
pub use self::worklist::{OpenStudy, StudyState, Why, Worklist};

/// Every version of the schema, in order. A file here never changes once it was released: the next change is a new file.
const SCHEMA: &[(i64, &str, &str)] = &[
    (1, "instances", include_str!("schema/0001_instances.sql")),
    (2, "commitment", include_str!("schema/0002_commitment.sql")),
    (3, "tokens", include_str!("schema/0003_tokens.sql")),
    (4, "jobs", include_str!("schema/0004_jobs.sql")),
    (5, "completion", include_str!("schema/0005_completion.sql")),
    (6, "audit", include_str!("schema/0006_audit.sql")),
    (7, "priors", include_str!("schema/0007_priors.sql")),
    (8, "results", include_str!("schema/0008_results.sql")),
    (9, "quarantine", include_str!("schema/0009_quarantine.sql")),
    (10, "instance ids", include_str!("schema/0010_instance_ids.sql")),
    (11, "outbox", include_str!("schema/0011_outbox.sql")),
    (12, "worklist", include_str!("schema/0012_worklist.sql")),
    (13, "orders", include_str!("schema/0013_orders.sql")),
    (14, "said", include_str!("schema/0014_said.sql")),
    (15, "reports", include_str!("schema/0015_reports.sql")),
    (16, "sync quarantine", include_str!("schema/0016_sync_quarantine.sql")),
    (17, "sync", include_str!("schema/0017_sync.sql")),
    (18, "sync patient", include_str!("schema/0018_sync_patient.sql")),
];
/// The file's name in the data folder.
const FILE: &str = "journal.sqlite";

/// Connections at once: the writer waits its turn, readers do not.
const CONNECTIONS_MAX: u32 = 8;

/// How long closing waits for intakes.
const WRITERS_CLOSE_WITHIN: Duration = Duration::from_secs(1);

/// How long a writer waits for another one.
const BUSY_TIMEOUT: Duration = Duration::from_secs(30);

/// The journal.
#[derive(Debug, Clone)]
pub struct Store {
    pool: SqlitePool,
    /// Connections of intakes that are open.
    writers: TaskTracker,
    /// Counts what was put into the outbox by this process.
    outbox: watch::Sender<u64>,
    #[cfg(test)]
    watch: Option<watched::Watch>,
}

/// Changes that become durable together or not at all. What the intake changes is an [`IntakeBatch`].
pub struct Batch {
    transaction: Transaction<'static, Sqlite>,
    /// The last row of the audit log, once the batch has added one.
    audit_head: Option<crate::audit::Head>,
}

/// What is due of that which waits until a moment that was written down.
///
/// A clock that jumps back must not hold it up for as long as it jumped: what seems to wait for longer than anything is told to
/// was written before the jump, and is due.
#[derive(Debug, Clone, Copy)]
pub struct Due {
    /// Milliseconds since 1970.
    pub now_ms: i64,
    /// The longest that anything of the kind is told to wait.
    pub wait_max_ms: i64,
}

impl Due {
    /// Now, where nothing is told to wait longer than this.
    #[must_use]
    pub fn now(wait_max_ms: u64) -> Self {
        Self { now_ms: now_ms(), wait_max_ms: i64::try_from(wait_max_ms).unwrap_or(i64::MAX) }
    }

    /// What is to happen later than this was written before the clock jumped.
    fn latest_ms(self) -> i64 {
        self.now_ms.saturating_add(self.wait_max_ms)
    }
}

/// The journal fails: the host's to mend.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// It cannot be opened, or is of a later version.
    #[error("the journal cannot be opened: {0}")]
    Open(String),
    /// A statement failed.
    #[error("the journal cannot be read or written: {0}")]
    Sql(#[from] sqlx::Error),
    /// A statement of the intake failed.
    #[error("the journal cannot be read or written: {0}")]
    Intake(#[from] rusqlite::Error),
}

impl StoreError {
    /// Whether another process holds the journal: nothing was done, and it can be tried again.
    #[must_use]
    pub fn is_busy(&self) -> bool {
        self.is(rusqlite::ErrorCode::DatabaseBusy)
    }

    /// Whether the disk has no room for a change of the intake: nothing of it was done. SQLite calls a quota's end a failed
    /// write, which it takes back as well.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.is(rusqlite::ErrorCode::DiskFull)
            || matches!(self, Self::Intake(rusqlite::Error::SqliteFailure(e, _)) if e.extended_code == rusqlite::ffi::SQLITE_IOERR_WRITE)
    }

    fn is(&self, code: rusqlite::ErrorCode) -> bool {
        matches!(self, Self::Intake(e) if e.sqlite_error_code() == Some(code))
    }
}

impl Store {
    /// Opens the journal in `folder`, makes it when missing and brings it up to date.
    ///
    /// # Errors
    /// [`StoreError::Open`] also when a later version of Gantry has written it.
    pub async fn open(folder: &Path) -> Result<Self, StoreError> {
        let options = SqliteConnectOptions::new()
            .filename(folder.join(FILE))
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .foreign_keys(true)
            .busy_timeout(BUSY_TIMEOUT);
        let pool = SqlitePoolOptions::new().max_connections(CONNECTIONS_MAX).connect_with(options).await;
        let pool = pool.map_err(|e| StoreError::Open(e.to_string()))?;
        migrator().run(&pool).await.map_err(|e| StoreError::Open(e.to_string()))?;
        Ok(Self::of(pool))
    }

    /// Whether a journal is in `folder`: for commands that only look at what a node keeps.
    #[must_use]
    pub fn is_in(folder: &Path) -> bool {
        folder.join(FILE).is_file()
    }

    /// Opens a journal that is there, to read: a node may be running on it.
    ///
    /// # Errors
    /// There is none.
    pub async fn open_to_read(folder: &Path) -> Result<Self, StoreError> {
        let path = folder.join(FILE);
        let options = SqliteConnectOptions::new().filename(&path).read_only(true).busy_timeout(BUSY_TIMEOUT);
        let pool = SqlitePoolOptions::new().max_connections(1).connect_with(options).await;
        Ok(Self::of(pool.map_err(|e| StoreError::Open(format!("{}: {e}", path.display())))?))
    }

    fn of(pool: SqlitePool) -> Self {
        Self {
            pool,
            writers: TaskTracker::new(),
            outbox: watch::Sender::new(0),
            #[cfg(test)]
            watch: None,
        }
    }

    /// Begins changes; one writer at a time.
    ///
    /// # Errors
    /// The journal's.
    pub async fn begin(&self) -> Result<Batch, StoreError> {
        Ok(Batch { transaction: self.pool.begin_with("BEGIN IMMEDIATE").await?, audit_head: None })
    }

    /// Changes whenever this process puts something into the outbox. What another one does there, `gantry outbox` for one, is
    /// found by looking.
    #[must_use]
    pub fn watch_outbox(&self) -> watch::Receiver<u64> {
        self.outbox.subscribe()
    }

    fn outbox_changed(&self) {
        self.outbox.send_modify(|changes| *changes = changes.wrapping_add(1));
    }

    /// Does what nobody should: for tests of what is found then.
    #[cfg(test)]
    pub(crate) async fn tamper(&self, sql: &'static str) {
        sqlx::raw_sql(sql).execute(&self.pool).await.expect("SQL");
    }

    /// Writes what is in memory and closes the file: the last connection takes the write-ahead log into it. An intake that
    /// somebody still has is waited for a moment only.
    pub async fn close(&self) {
        self.writers.close();
        let _ = tokio::time::timeout(WRITERS_CLOSE_WITHIN, self.writers.wait()).await;
        self.pool.close().await;
    }
}

fn migrator() -> Migrator {
    let migrations = SCHEMA.iter().map(|(version, name, sql)| {
        Migration::new(*version, (*name).into(), MigrationType::Simple, sqlx::SqlSafeStr::into_sql_str(*sql), false)
    });
    Migrator { migrations: migrations.collect(), ..Migrator::DEFAULT }
}

impl Batch {
    /// Makes the changes durable.
    ///
    /// # Errors
    /// The journal's; then nothing of the batch is known to be durable.
    pub async fn commit(self) -> Result<(), StoreError> {
        Ok(self.transaction.commit().await?)
    }
}

/// Milliseconds since 1970, UTC.
#[must_use]
pub fn now_ms() -> i64 {
    chrono::Utc::now().timestamp_millis()
}
