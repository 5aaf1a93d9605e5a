//! Jobs: what is to run on which study, and what became of it.
//!
//! What they are is here; `route` makes them, `run` moves them from state to state, `operate` is for people and for what is
//! counted.

mod operate;
mod route;
mod run;
#[cfg(test)]
mod tests;

use std::fmt;
use std::str::FromStr;

use sqlx::Row;
use sqlx::sqlite::SqliteRow;

use super::StoreError;
use crate::audit::{Action, Event};
use crate::config::Release;
use crate::findings::{Triage, Urgency};
use crate::outputs::Reference;

/// Where a job stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum JobState {
    /// Waits for its turn.
    Queued,
    /// Waits for other modules to end, or for earlier studies.
    Gated,
    /// Runs.
    Running,
    /// Has a result.
    Done,
    /// Ended without a result, for a cause that does not pass: it was not tried again.
    Failed,
    /// Was tried as often as `schedule.attempts_max` says.
    Dead,
    /// Somebody cancelled it, or a later version of the study did.
    Cancelled,
    /// What it depends on was not found, or could not be told.
    Skipped,
}

impl JobState {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::Queued,
        Self::Gated,
        Self::Running,
        Self::Done,
        Self::Failed,
        Self::Dead,
        Self::Cancelled,
        Self::Skipped,
    ];

    /// In the journal and for people.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Gated => "gated",
            Self::Running => "running",
            Self::Done => "done",
            Self::Failed => "failed",
            Self::Dead => "dead",
            Self::Cancelled => "cancelled",
            Self::Skipped => "skipped",
        }
    }

    /// Whether nothing more happens to it by itself.
    #[must_use]
    pub fn is_over(self) -> bool {
        !matches!(self, Self::Queued | Self::Gated | Self::Running)
    }
}

impl fmt::Display for JobState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for JobState {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|state| state.name() == name);
        found.ok_or_else(|| format!("there is no state `{name}`; there are: {}", Self::ALL.map(Self::name).join(", ")))
    }
}

/// One job.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct Job {
    /// In the journal.
    pub id: i64,
    /// Study Instance UID.
    pub study_instance_uid: String,
    /// Which closing of the study, from 1.
    pub study_version: u32,
    /// What the module is called on this node.
    pub module: String,
    /// SHA-256 over its manifest, hexadecimal.
    pub module_identity: String,
    /// Where it stands.
    pub state: JobState,
    /// Runs that began, without those that the node itself broke off.
    pub attempts: u32,
    /// Its place in the queue.
    pub priority: Urgency,
    /// When the study was routed.
    pub created_ms: i64,
    /// Does not run before.
    pub not_before_ms: i64,
    /// The first guest instruction of the last run.
    pub started_ms: Option<i64>,
    /// When it ended.
    pub ended_ms: Option<i64>,
    /// Who is at fault, as a word; `unfit` with a result that says so.
    pub error_class: Option<String>,
    /// What happened; no patient data.
    pub error: Option<String>,
    /// Its folder of results, below the data folder; none when there are none, or when retention deleted them.
    pub result_path: Option<String>,
    /// Ties it to the association or request that brought the study's last instance.
    pub correlation: String,
    /// Somebody asked to cancel it.
    pub cancel_requested: bool,
    /// A later version of the study.
    pub superseded_by: Option<u32>,
}

/// A job to be made.
#[derive(Debug, Clone)]
pub struct NewJob {
    /// What the module is called on this node.
    pub module: String,
    /// SHA-256 over its manifest.
    pub identity: [u8; 32],
    /// Waits for others.
    pub gated: bool,
    /// Its place in the queue at least.
    pub priority: Urgency,
}

/// What was decided for a version of a study.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Routed {
    /// Study Instance UID.
    pub study_instance_uid: String,
    /// Which closing of it.
    pub study_version: u32,
    /// When.
    pub routed_ms: i64,
    /// `jobs`, `nothing-to-run` or `unreadable`.
    pub outcome: String,
    /// For people; no patient data.
    pub detail: String,
    /// The last instance that is part of it.
    #[serde(skip)]
    pub last_instance: i64,
}

/// How a study came.
#[derive(Debug, Clone)]
pub struct Arrivals {
    /// Who sent it.
    pub sources: Vec<String>,
    /// Of the last instance.
    pub correlation: String,
}

/// Something that a job found, or looked for and did not find.
#[derive(Debug, Clone, PartialEq)]
pub struct FoundRow {
    /// Code value.
    pub code_value: String,
    /// Code meaning.
    pub code_meaning: String,
    /// Segment label, or empty.
    pub label: String,
    /// 0 to 1.
    pub probability: f64,
}

/// How a run ended.
#[derive(Debug, Clone)]
pub enum Ending {
    /// With a result.
    Done(Done),
    /// Tried again later.
    Again {
        /// When.
        not_before_ms: i64,
        /// Who is at fault.
        class: &'static str,
        /// What happened.
        error: String,
    },
    /// For good.
    Over {
        /// [`JobState::Failed`], [`JobState::Dead`], [`JobState::Cancelled`] or [`JobState::Skipped`].
        state: JobState,
        /// Who is at fault.
        class: &'static str,
        /// What happened.
        error: String,
    },
    /// The node stops: as if the run had not begun.
    BrokenOff,
}

/// A result, which is durable.
#[derive(Debug, Clone)]
pub struct Done {
    /// Below the data folder.
    pub result_path: String,
    /// Of `result.json`, which names the digests of everything else.
    pub result_sha256: [u8; 32],
    /// What it found.
    pub found: Vec<FoundRow>,
    /// What it raises the study's other jobs to.
    pub raise: Urgency,
    /// The module called the input unfit: what it did not find says nothing.
    pub unfit: bool,
    /// Models that ran on a processor where they were to run on a GPU, as the site allows.
    pub fallbacks: Vec<String>,
    /// Destinations that get it, unless a later version of the study came.
    pub deliver: Vec<String>,
    /// What becomes of the result.
    pub release: Release,
    /// Its reasons to look sooner.
    pub triage: Vec<Triage>,
    /// Its SR, if it has one.
    pub report: Option<Reference>,
}

/// What `gantry job` can change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Changed {
    /// It was.
    Yes,
    /// There is no such job.
    NoSuchJob,
    /// Not in this state.
    Not(JobState),
}

/// The columns of [`Job`], with the rest of a statement.
macro_rules! select_job {
    ($rest:literal) => {
        concat!("SELECT * FROM job ", $rest)
    };
}
use select_job;

pub(super) fn level(urgency: Urgency) -> i64 {
    match urgency {
        Urgency::Routine => 0,
        Urgency::Prompt => 1,
        Urgency::Urgent => 2,
        Urgency::Critical => 3,
    }
}

/// What [`level`] made a number of.
pub(super) fn urgency(level: i64) -> Urgency {
    match level {
        ..=0 => Urgency::Routine,
        1 => Urgency::Prompt,
        2 => Urgency::Urgent,
        3.. => Urgency::Critical,
    }
}

impl Job {
    pub(super) fn read(row: &SqliteRow) -> Result<Self, sqlx::Error> {
        let decode = |what: &str| sqlx::Error::Decode(what.to_owned().into());
        let state: String = row.try_get("state")?;
        let identity: Vec<u8> = row.try_get("module_identity")?;
        Ok(Self {
            id: row.try_get("id")?,
            study_instance_uid: row.try_get("study_instance_uid")?,
            study_version: row.try_get("study_version")?,
            module: row.try_get("module")?,
            module_identity: crate::hex(&identity),
            state: state.parse().map_err(|_| decode("a job's state is none that this version knows"))?,
            attempts: row.try_get("attempts")?,
            priority: urgency(row.try_get("priority")?),
            created_ms: row.try_get("created_ms")?,
            not_before_ms: row.try_get("not_before_ms")?,
            started_ms: row.try_get("started_ms")?,
            ended_ms: row.try_get("ended_ms")?,
            error_class: row.try_get("error_class")?,
            error: row.try_get("error")?,
            result_path: row.try_get("result_path")?,
            correlation: row.try_get("correlation")?,
            cancel_requested: row.try_get::<i64, _>("cancel_requested")? != 0,
            superseded_by: row.try_get("superseded_by")?,
        })
    }
}

fn jobs(rows: &[SqliteRow]) -> Result<Vec<Job>, StoreError> {
    Ok(rows.iter().map(Job::read).collect::<Result<_, _>>()?)
}

/// Something that somebody did to a job.
pub(super) fn about(job: &Job, who: &str, action: Action) -> Event {
    Event {
        study_instance_uid: job.study_instance_uid.clone(),
        object: format!("job {} {} sha256:{} v{}", job.id, job.module, job.module_identity, job.study_version),
        correlation: job.correlation.clone(),
        ..Event::new(who, action)
    }
}
