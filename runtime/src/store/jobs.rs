//! Jobs: what is to run on which study, and what became of it.

use std::fmt;
use std::str::FromStr;

use sqlx::sqlite::SqliteRow;
use sqlx::{Row, Sqlite, Transaction};

use super::{Batch, InstanceRow, Store, StoreError, now_ms};
use crate::audit::{Action, Event, NODE, OPERATOR};
use crate::findings::Urgency;
use crate::module::manifest::Sha256Hex;

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
    /// With a result, which is durable.
    Done {
        /// Below the data folder.
        result_path: String,
        /// Of `result.json`, which names the digests of everything else.
        result_sha256: [u8; 32],
        /// What it found.
        found: Vec<FoundRow>,
        /// What it raises the study's other jobs to.
        raise: Urgency,
        /// The module called the input unfit: what it did not find says nothing.
        unfit: bool,
        /// Models that ran on a processor where they were to run on a GPU, as the site allows.
        fallbacks: Vec<String>,
    },
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

fn level(urgency: Urgency) -> i64 {
    match urgency {
        Urgency::Routine => 0,
        Urgency::Prompt => 1,
        Urgency::Urgent => 2,
        Urgency::Critical => 3,
    }
}

impl Job {
    pub(super) fn read(row: &SqliteRow) -> Result<Self, sqlx::Error> {
        let decode = |what: &str| sqlx::Error::Decode(what.to_owned().into());
        let state: String = row.try_get("state")?;
        let identity: Vec<u8> = row.try_get("module_identity")?;
        let priority = match row.try_get::<i64, _>("priority")? {
            0 => Urgency::Routine,
            1 => Urgency::Prompt,
            2 => Urgency::Urgent,
            _ => Urgency::Critical,
        };
        Ok(Self {
            id: row.try_get("id")?,
            study_instance_uid: row.try_get("study_instance_uid")?,
            study_version: row.try_get("study_version")?,
            module: row.try_get("module")?,
            module_identity: crate::hex(&identity),
            state: state.parse().map_err(|_| decode("a job's state is none that this version knows"))?,
            attempts: row.try_get("attempts")?,
            priority,
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

/// Routing.
impl Store {
    /// How a study came; `None` when nothing of it is here.
    ///
    /// # Errors
    /// The journal's.
    pub async fn arrivals(&self, study_instance_uid: &str) -> Result<Option<Arrivals>, StoreError> {
        let rows = sqlx::query(
            "SELECT instance.source AS source, max(instance.id) AS last, instance.correlation AS correlation \
             FROM instance JOIN series ON series.id = instance.series JOIN study ON study.id = series.study \
             WHERE study_instance_uid = ? GROUP BY source ORDER BY last",
        )
        .bind(study_instance_uid)
        .fetch_all(&self.pool)
        .await?;
        let Some(last) = rows.last() else { return Ok(None) };
        let correlation = last.try_get("correlation")?;
        let sources = rows.iter().map(|row| row.try_get("source")).collect::<Result<_, _>>()?;
        Ok(Some(Arrivals { sources, correlation }))
    }

    /// The instances that a version of a study is made of; nothing when some of them were replaced since.
    ///
    /// # Errors
    /// The journal's.
    pub async fn instances_of_version(&self, uid: &str, version: u32) -> Result<Option<Vec<InstanceRow>>, StoreError> {
        let row = sqlx::query(
            "SELECT last_instance, (SELECT instances FROM study JOIN study_version ON study_version.study = study.id \
             WHERE study_instance_uid = ?1 AND version = ?2) AS instances \
             FROM routed WHERE study_instance_uid = ?1 AND study_version = ?2",
        )
        .bind(uid)
        .bind(version)
        .fetch_optional(&self.pool)
        .await?;
        let mut instances = self.instances_of_study(uid).await?;
        let Some(row) = row else { return Ok(Some(instances)) };
        let last: i64 = row.try_get("last_instance")?;
        instances.retain(|instance| instance.id <= last);
        let all: Option<i64> = row.try_get("instances")?;
        let whole = all.is_none_or(|all| all.unsigned_abs() == instances.len() as u64);
        Ok(whole.then_some(instances))
    }

    /// Records what was decided, makes the jobs, and lets the version supersede earlier ones: of these, what waits is
    /// cancelled, what runs is asked to stop, and what is done stays and names its successor. A job stands no lower than
    /// the study ever stood. `false`, and nothing is changed, when this version or a later one is there already.
    ///
    /// # Errors
    /// The journal's.
    pub async fn route(&self, routed: &Routed, correlation: &str, new: &[NewJob]) -> Result<bool, StoreError> {
        let mut batch = self.begin().await?;
        let (uid, version) = (&routed.study_instance_uid, routed.study_version);
        let known = sqlx::query(
            "SELECT max(study_version) AS version, (SELECT max(priority) FROM job WHERE study_instance_uid = ?1) AS \
             priority FROM routed WHERE study_instance_uid = ?1",
        )
        .bind(uid)
        .fetch_one(&mut *batch.transaction)
        .await?;
        if known.try_get::<Option<u32>, _>("version")?.is_some_and(|known| known >= version) {
            return Ok(false);
        }
        let stood: i64 = known.try_get::<Option<i64>, _>("priority")?.unwrap_or(0);
        sqlx::query("INSERT INTO routed VALUES (?, ?, ?, ?, ?, ?)")
            .bind(uid)
            .bind(version)
            .bind(routed.routed_ms)
            .bind(&routed.outcome)
            .bind(&routed.detail)
            .bind(routed.last_instance)
            .execute(&mut *batch.transaction)
            .await?;
        supersede(&mut batch, uid, version, routed.routed_ms).await?;
        for job in new {
            let row = sqlx::query(
                "INSERT INTO job (study_instance_uid, study_version, module, module_identity, state, priority, \
                 created_ms, correlation) VALUES (?, ?, ?, ?, ?, ?, ?, ?) RETURNING *",
            )
            .bind(uid)
            .bind(version)
            .bind(&job.module)
            .bind(job.identity.as_slice())
            .bind(if job.gated { "gated" } else { "queued" })
            .bind(level(job.priority).max(stood))
            .bind(routed.routed_ms)
            .bind(correlation)
            .fetch_one(&mut *batch.transaction)
            .await?;
            batch.audit(&about(&Job::read(&row)?, NODE, Action::JobQueued)).await?;
        }
        batch.commit().await?;
        Ok(true)
    }

    /// What was decided for a study, the latest version first; for all studies when none is named.
    ///
    /// # Errors
    /// The journal's.
    pub async fn routed(&self, study_instance_uid: Option<&str>) -> Result<Vec<Routed>, StoreError> {
        let rows = sqlx::query(
            "SELECT * FROM routed WHERE ?1 IS NULL OR study_instance_uid = ?1 ORDER BY routed_ms DESC, study_version DESC",
        )
        .bind(study_instance_uid)
        .fetch_all(&self.pool)
        .await?;
        let read = |row: &SqliteRow| {
            Ok(Routed {
                study_instance_uid: row.try_get("study_instance_uid")?,
                study_version: row.try_get("study_version")?,
                routed_ms: row.try_get("routed_ms")?,
                outcome: row.try_get("outcome")?,
                detail: row.try_get("detail")?,
                last_instance: row.try_get("last_instance")?,
            })
        };
        Ok(rows.iter().map(read).collect::<Result<_, sqlx::Error>>()?)
    }
}

async fn supersede(batch: &mut Batch, uid: &str, version: u32, now: i64) -> Result<(), StoreError> {
    let rows = sqlx::query(
        "UPDATE job SET superseded_by = ?1, cancel_requested = iif(state = 'running', 1, cancel_requested), \
         ended_ms = iif(state IN ('queued', 'gated'), ?3, ended_ms), \
         error_class = iif(state IN ('queued', 'gated'), 'superseded', error_class), \
         error = iif(state IN ('queued', 'gated'), 'a later version of the study came', error), \
         state = iif(state IN ('queued', 'gated'), 'cancelled', state) \
         WHERE study_instance_uid = ?2 AND study_version < ?1 AND superseded_by IS NULL RETURNING *",
    )
    .bind(version)
    .bind(uid)
    .bind(now)
    .fetch_all(&mut *batch.transaction)
    .await?;
    for job in jobs(&rows)? {
        let was = match (job.state, job.error_class.as_deref()) {
            (JobState::Cancelled, Some("superseded")) => "cancelled before it ran".to_owned(),
            (JobState::Running, _) => "asked to stop".to_owned(),
            (state, _) => format!("was {state}"),
        };
        let detail = format!("by v{version}: {was}");
        batch.audit(&Event { detail, ..about(&job, NODE, Action::JobSuperseded) }).await?;
    }
    Ok(())
}

/// Running.
impl Store {
    /// Takes the next job that is at least so urgent: the most urgent first, and of these the one that waits longest.
    ///
    /// # Errors
    /// The journal's.
    pub async fn claim(&self, now_ms: i64, least: Urgency) -> Result<Option<Job>, StoreError> {
        let mut batch = self.begin().await?;
        let row = sqlx::query(
            "UPDATE job SET state = 'running', attempts = attempts + 1, started_ms = NULL, ended_ms = NULL WHERE id = (\
             SELECT id FROM job WHERE state = 'queued' AND not_before_ms <= ? AND priority >= ? \
             ORDER BY priority DESC, created_ms, id LIMIT 1) RETURNING *",
        )
        .bind(now_ms)
        .bind(level(least))
        .fetch_optional(&mut *batch.transaction)
        .await?;
        let Some(row) = row else { return Ok(None) };
        let job = Job::read(&row)?;
        batch.audit(&about(&job, NODE, Action::JobStarted)).await?;
        batch.commit().await?;
        Ok(Some(job))
    }

    /// Records the moment of a run's first guest instruction.
    ///
    /// # Errors
    /// The journal's.
    pub async fn job_started(&self, id: i64, attempt: u32, started_ms: i64) -> Result<(), StoreError> {
        sqlx::query("UPDATE job SET started_ms = ? WHERE id = ? AND attempts = ?")
            .bind(started_ms)
            .bind(id)
            .bind(attempt)
            .execute(&self.pool)
            .await?;
        Ok(())
    }

    /// Records that no module is configured that could run on this version of a study.
    ///
    /// # Errors
    /// The journal's.
    pub async fn nothing_to_run(&self, study_instance_uid: &str, version: u32) -> Result<(), StoreError> {
        let last = self.instances_of_study(study_instance_uid).await?.iter().map(|i| i.id).max();
        let routed = Routed {
            study_instance_uid: study_instance_uid.to_owned(),
            study_version: version,
            routed_ms: now_ms(),
            outcome: "nothing-to-run".into(),
            detail: "no module is configured".into(),
            last_instance: last.unwrap_or(0),
        };
        self.route(&routed, "", &[]).await.map(|_| ())
    }

    /// How many jobs are in each state.
    ///
    /// # Errors
    /// The journal's.
    pub async fn job_counts(&self) -> Result<Vec<(JobState, u64)>, StoreError> {
        let rows = sqlx::query("SELECT state, count(*) AS jobs FROM job GROUP BY state").fetch_all(&self.pool).await?;
        let mut counts: Vec<(JobState, u64)> = JobState::ALL.into_iter().map(|state| (state, 0)).collect();
        for row in &rows {
            let (name, jobs): (String, i64) = (row.try_get("state")?, row.try_get("jobs")?);
            counts.iter_mut().filter(|(state, _)| state.name() == name).for_each(|c| c.1 = jobs.unsigned_abs());
        }
        Ok(counts)
    }

    /// How many jobs are ready to run, and when the oldest of them was made.
    ///
    /// # Errors
    /// The journal's.
    pub async fn queue(&self) -> Result<(u64, Option<i64>), StoreError> {
        let query =
            sqlx::query("SELECT count(*), min(created_ms) FROM job WHERE state = 'queued' AND not_before_ms <= ?");
        let row = query.bind(now_ms()).fetch_one(&self.pool).await?;
        Ok((row.try_get::<i64, _>(0)?.unsigned_abs(), row.try_get(1)?))
    }

    /// Studies whose last version was not routed: the node ended between closing and routing. Priors, of which everything was
    /// fetched, are none of them.
    ///
    /// # Errors
    /// The journal's.
    pub async fn unrouted_versions(&self) -> Result<Vec<(String, u32)>, StoreError> {
        let rows = sqlx::query(
            "SELECT study_instance_uid, last FROM (SELECT study.id AS id, study_instance_uid, max(version) AS last \
             FROM study_version JOIN study ON study.id = study_version.study GROUP BY study.id) AS closed \
             WHERE EXISTS (SELECT 1 FROM instance JOIN series ON series.id = instance.series \
             WHERE series.study = closed.id AND via <> 'pacs') \
             AND NOT EXISTS (SELECT 1 FROM routed WHERE routed.study_instance_uid = closed.study_instance_uid \
             AND routed.study_version >= closed.last)",
        )
        .fetch_all(&self.pool)
        .await?;
        let read = |row: &SqliteRow| Ok::<_, sqlx::Error>((row.try_get(0)?, row.try_get(1)?));
        Ok(rows.iter().map(read).collect::<Result<_, _>>()?)
    }

    /// A run ended. Only a job that runs changes.
    ///
    /// # Errors
    /// The journal's.
    pub async fn end_job(&self, id: i64, ending: &Ending) -> Result<(), StoreError> {
        let mut batch = self.begin().await?;
        let now = now_ms();
        let query = match ending {
            Ending::Done { result_path, unfit, .. } => sqlx::query(
                "UPDATE job SET state = 'done', ended_ms = ?, result_path = ?, error_class = ?, error = NULL, \
                 cancel_requested = 0 WHERE id = ? AND state = 'running'",
            )
            .bind(now)
            .bind(result_path)
            .bind(unfit.then_some("unfit")),
            Ending::Again { not_before_ms, class, error } => sqlx::query(
                "UPDATE job SET state = 'queued', not_before_ms = ?, error_class = ?, error = ? \
                 WHERE id = ? AND state = 'running'",
            )
            .bind(*not_before_ms)
            .bind(*class)
            .bind(error),
            Ending::Over { state, class, error } => sqlx::query(
                "UPDATE job SET state = ?, ended_ms = ?, error_class = ?, error = ?, cancel_requested = 0 \
                 WHERE id = ? AND state IN ('running', 'gated')",
            )
            .bind(state.name())
            .bind(now)
            .bind(*class)
            .bind(error),
            Ending::BrokenOff => sqlx::query(
                "UPDATE job SET state = 'queued', attempts = attempts - 1 WHERE id = ? AND state = 'running'",
            ),
        };
        let changed = query.bind(id).execute(&mut *batch.transaction).await?.rows_affected();
        if changed == 0 {
            return Ok(());
        }
        if let Ending::Done { found, raise, .. } = ending {
            record_found(&mut batch.transaction, id, found, *raise).await?;
        }
        let job = sqlx::query(select_job!("WHERE id = ?")).bind(id).fetch_one(&mut *batch.transaction).await?;
        batch.audit(&audited(&Job::read(&job)?, ending)).await?;
        batch.commit().await
    }

    /// What ran when the node ended goes back to the queue, or is dead when it was tried often enough; what somebody
    /// asked to cancel is cancelled.
    ///
    /// # Errors
    /// The journal's.
    pub async fn recover_jobs(&self, attempts_max: u32) -> Result<u64, StoreError> {
        let mut batch = self.begin().await?;
        let rows = sqlx::query(
            "UPDATE job SET \
             error_class = iif(cancel_requested, 'cancelled', 'host'), error = 'the node ended while it ran', \
             ended_ms = iif(cancel_requested OR attempts >= ?1, ?2, NULL), \
             state = iif(cancel_requested, 'cancelled', iif(attempts >= ?1, 'dead', 'queued')) \
             WHERE state = 'running' RETURNING *",
        )
        .bind(attempts_max)
        .bind(now_ms())
        .fetch_all(&mut *batch.transaction)
        .await?;
        for job in jobs(&rows)? {
            let action = match job.state {
                JobState::Queued => Action::JobRequeued,
                JobState::Cancelled => Action::JobCancelled,
                _ => Action::JobFailed,
            };
            let detail = job.error.clone().unwrap_or_default();
            batch.audit(&Event { detail, ..about(&job, NODE, action) }).await?;
        }
        batch.commit().await?;
        Ok(rows.len() as u64)
    }

    /// Jobs that run and that somebody asked to cancel.
    ///
    /// # Errors
    /// The journal's.
    pub async fn jobs_to_cancel(&self) -> Result<Vec<i64>, StoreError> {
        let rows = sqlx::query("SELECT id FROM job WHERE state = 'running' AND cancel_requested = 1");
        let rows = rows.fetch_all(&self.pool).await?;
        Ok(rows.iter().map(|row| row.try_get("id")).collect::<Result<_, _>>()?)
    }

    /// A job that waits for others has its turn.
    ///
    /// # Errors
    /// The journal's.
    pub async fn open_gate(&self, id: i64) -> Result<(), StoreError> {
        let query = sqlx::query("UPDATE job SET state = 'queued' WHERE id = ? AND state = 'gated'");
        query.bind(id).execute(&self.pool).await?;
        Ok(())
    }

    /// What a job that is done found.
    ///
    /// # Errors
    /// The journal's.
    pub async fn found(&self, job: i64) -> Result<Vec<FoundRow>, StoreError> {
        let rows = sqlx::query("SELECT * FROM job_finding WHERE job = ?").bind(job).fetch_all(&self.pool).await?;
        let read = |row: &SqliteRow| {
            Ok(FoundRow {
                code_value: row.try_get("code_value")?,
                code_meaning: row.try_get("code_meaning")?,
                label: row.try_get("label")?,
                probability: row.try_get("probability")?,
            })
        };
        Ok(rows.iter().map(read).collect::<Result<_, sqlx::Error>>()?)
    }
}

/// What the audit log says of the end of a run.
fn audited(job: &Job, ending: &Ending) -> Event {
    let (action, digests, detail) = match ending {
        Ending::Done { result_sha256, fallbacks, .. } => {
            let detail = match fallbacks.as_slice() {
                [] => String::new(),
                models => format!("on a processor in place of a GPU: {}", models.join(", ")),
            };
            (Action::JobDone, vec![("result", *result_sha256)], detail)
        }
        Ending::Over { state: JobState::Cancelled, .. } => (Action::JobCancelled, Vec::new(), String::new()),
        Ending::Over { class, .. } => (Action::JobFailed, Vec::new(), (*class).to_owned()),
        Ending::Again { class, .. } => (Action::JobRequeued, Vec::new(), (*class).to_owned()),
        Ending::BrokenOff => (Action::JobRequeued, Vec::new(), "the node stops".to_owned()),
    };
    Event { digests, detail, ..about(job, NODE, action) }
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

async fn record_found(
    transaction: &mut Transaction<'static, Sqlite>,
    job: i64,
    found: &[FoundRow],
    raise: Urgency,
) -> Result<(), StoreError> {
    sqlx::query("DELETE FROM job_finding WHERE job = ?").bind(job).execute(&mut **transaction).await?;
    for row in found {
        sqlx::query("INSERT INTO job_finding VALUES (?, ?, ?, ?, ?)")
            .bind(job)
            .bind(&row.code_value)
            .bind(&row.code_meaning)
            .bind(&row.label)
            .bind(row.probability)
            .execute(&mut **transaction)
            .await?;
    }
    // Up, never down: `max`.
    sqlx::query(
        "UPDATE job SET priority = max(priority, ?) \
         WHERE study_instance_uid = (SELECT study_instance_uid FROM job WHERE id = ?)",
    )
    .bind(level(raise))
    .bind(job)
    .execute(&mut **transaction)
    .await?;
    Ok(())
}

/// For people.
impl Store {
    /// Jobs, the latest first, of one study or of all, in one state or in any.
    ///
    /// # Errors
    /// The journal's.
    pub async fn jobs(&self, study: Option<&str>, state: Option<JobState>) -> Result<Vec<Job>, StoreError> {
        let rows = sqlx::query(select_job!(
            "WHERE (?1 IS NULL OR study_instance_uid = ?1) AND (?2 IS NULL OR state = ?2) ORDER BY id DESC"
        ))
        .bind(study)
        .bind(state.map(JobState::name))
        .fetch_all(&self.pool)
        .await?;
        jobs(&rows)
    }

    /// The jobs of one version of a study.
    ///
    /// # Errors
    /// The journal's.
    pub async fn jobs_of_version(&self, uid: &str, version: u32) -> Result<Vec<Job>, StoreError> {
        let query = sqlx::query(select_job!("WHERE study_instance_uid = ? AND study_version = ? ORDER BY id"));
        jobs(&query.bind(uid).bind(version).fetch_all(&self.pool).await?)
    }

    /// SHA-256 of the `result.json` of a job that is done, as the audit log has it.
    ///
    /// # Errors
    /// The journal's; also when the log says nothing of its end.
    pub async fn result_sha256(&self, job: &Job) -> Result<[u8; 32], StoreError> {
        let done = about(job, NODE, Action::JobDone);
        let row = sqlx::query(
            "SELECT digests FROM audit WHERE study_instance_uid = ? AND study_instance_uid <> '' \
             AND action = ? AND object = ? ORDER BY id DESC LIMIT 1",
        )
        .bind(done.study_instance_uid)
        .bind(done.action.name())
        .bind(done.object)
        .fetch_optional(&self.pool)
        .await?;
        let digests: Option<String> = row.map(|row| row.try_get("digests")).transpose()?;
        let digest = digests.as_ref().and_then(|digests| digests.split(' ').find_map(|d| d.strip_prefix("result=")));
        let digest = digest.and_then(|hex| Sha256Hex::try_from(hex.to_owned()).ok()).map(|digest| digest.0);
        let missing = || sqlx::Error::Decode(format!("the audit log has no result of job {}", job.id).into());
        Ok(digest.ok_or_else(missing)?)
    }

    /// One job.
    ///
    /// # Errors
    /// The journal's.
    pub async fn job(&self, id: i64) -> Result<Option<Job>, StoreError> {
        let row = sqlx::query(select_job!("WHERE id = ?")).bind(id).fetch_optional(&self.pool).await?;
        Ok(row.as_ref().map(Job::read).transpose()?)
    }

    /// Lets a job that ended without a result run again, with all its attempts; what was skipped because of it waits for
    /// it again. Not what a later version of the study supersedes.
    ///
    /// # Errors
    /// The journal's.
    pub async fn retry_job(&self, id: i64) -> Result<Changed, StoreError> {
        let mut batch = self.begin().await?;
        let job = sqlx::query(
            "UPDATE job SET state = 'gated', attempts = 0, not_before_ms = 0, ended_ms = NULL, cancel_requested = 0 \
             WHERE id = ? AND state IN ('failed', 'dead', 'cancelled', 'skipped') AND superseded_by IS NULL RETURNING *",
        )
        .bind(id)
        .fetch_optional(&mut *batch.transaction)
        .await?;
        let Some(job) = job else {
            drop(batch);
            return self.unchanged(id).await;
        };
        sqlx::query(
            "UPDATE job SET state = 'gated', ended_ms = NULL, error_class = NULL, error = NULL \
             WHERE state = 'skipped' AND error_class = 'predecessor' AND (study_instance_uid, study_version) = \
             (SELECT study_instance_uid, study_version FROM job WHERE id = ?)",
        )
        .bind(id)
        .execute(&mut *batch.transaction)
        .await?;
        batch.audit(&about(&Job::read(&job)?, OPERATOR, Action::JobRetried)).await?;
        batch.commit().await?;
        Ok(Changed::Yes)
    }

    /// Cancels a job that waits, and asks one that runs to stop.
    ///
    /// # Errors
    /// The journal's.
    pub async fn cancel_job(&self, id: i64) -> Result<Changed, StoreError> {
        let mut batch = self.begin().await?;
        let job = sqlx::query(
            "UPDATE job SET cancel_requested = iif(state = 'running', 1, 0), \
             error_class = iif(state = 'running', error_class, 'cancelled'), \
             error = iif(state = 'running', error, 'cancelled before it ran'), \
             ended_ms = iif(state = 'running', ended_ms, ?), state = iif(state = 'running', state, 'cancelled') \
             WHERE id = ? AND state IN ('queued', 'gated', 'running') RETURNING *",
        )
        .bind(now_ms())
        .bind(id)
        .fetch_optional(&mut *batch.transaction)
        .await?;
        let Some(job) = job else {
            drop(batch);
            return self.unchanged(id).await;
        };
        let job = Job::read(&job)?;
        let detail = if job.state == JobState::Running { "asked to stop" } else { "before it ran" };
        batch.audit(&Event { detail: detail.into(), ..about(&job, OPERATOR, Action::JobCancelled) }).await?;
        batch.commit().await?;
        Ok(Changed::Yes)
    }

    async fn unchanged(&self, id: i64) -> Result<Changed, StoreError> {
        Ok(self.job(id).await?.map_or(Changed::NoSuchJob, |job| Changed::Not(job.state)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STUDY: &str = "2.25.1";

    async fn route(store: &Store, version: u32, priorities: &[(&str, Urgency)]) {
        let routed = Routed {
            study_instance_uid: STUDY.into(),
            study_version: version,
            routed_ms: 1,
            outcome: "jobs".into(),
            detail: String::new(),
            last_instance: 0,
        };
        let jobs: Vec<NewJob> = priorities
            .iter()
            .map(|(module, priority)| NewJob {
                module: (*module).into(),
                identity: [1; 32],
                gated: false,
                priority: *priority,
            })
            .collect();
        assert!(store.route(&routed, "c", &jobs).await.expect("routed"));
    }

    async fn priorities(store: &Store, version: u32) -> Vec<(String, Urgency)> {
        let jobs = store.jobs_of_version(STUDY, version).await.expect("jobs");
        jobs.into_iter().map(|job| (job.module, job.priority)).collect()
    }

    #[tokio::test]
    async fn a_finding_raises_the_other_jobs_of_its_study_and_lowers_none() {
        let folder = tempfile::tempdir().expect("a folder");
        let store = Store::open(folder.path()).await.expect("a journal");
        route(&store, 1, &[("triage", Urgency::Routine), ("volume", Urgency::Routine), ("first", Urgency::Critical)])
            .await;
        let first = store.claim(now_ms(), Urgency::Routine).await.expect("the journal").expect("a job");
        assert_eq!(first.module, "first", "urgent work goes first");
        assert_eq!(store.claim(now_ms(), Urgency::Urgent).await.expect("the journal"), None, "the others can wait");
        let triage = store.claim(now_ms(), Urgency::Routine).await.expect("the journal").expect("a job");
        let done = |raise| Ending::Done {
            result_path: "results/x".into(),
            result_sha256: [2; 32],
            found: Vec::new(),
            raise,
            unfit: false,
            fallbacks: Vec::new(),
        };
        store.end_job(triage.id, &done(Urgency::Urgent)).await.expect("ended");
        let raised = priorities(&store, 1).await;
        assert!(raised.contains(&("volume".into(), Urgency::Urgent)), "{raised:?}");
        assert!(raised.contains(&("first".into(), Urgency::Critical)), "{raised:?}");
        store.end_job(first.id, &done(Urgency::Routine)).await.expect("ended");
        assert!(priorities(&store, 1).await.contains(&("volume".into(), Urgency::Urgent)), "nothing lowers");
        // A later version of the study stands no lower.
        route(&store, 2, &[("volume", Urgency::Routine)]).await;
        assert_eq!(priorities(&store, 2).await, [("volume".to_owned(), Urgency::Critical)]);
    }

    /// Actions and details of the audit log, without those of making jobs and beginning runs.
    async fn told(store: &Store) -> Vec<(String, String)> {
        let rows = store.audit_latest(Some(STUDY), 100).await.expect("the log");
        let rows = rows.into_iter().filter(|row| !["job-queued", "job-started"].contains(&row.action.as_str()));
        rows.map(|row| (row.action, row.detail)).collect()
    }

    #[tokio::test]
    async fn what_ran_on_another_device_than_it_was_to_is_in_the_audit_log() {
        let folder = tempfile::tempdir().expect("a folder");
        let store = Store::open(folder.path()).await.expect("a journal");
        route(&store, 1, &[("liver", Urgency::Routine), ("lungs", Urgency::Routine)]).await;
        for fallbacks in [vec![], vec!["coarse".to_owned(), "fine".to_owned()]] {
            let job = store.claim(now_ms(), Urgency::Routine).await.expect("the journal").expect("a job");
            let (result_path, result_sha256, found) = ("results/x".into(), [2; 32], Vec::new());
            let (raise, unfit) = (Urgency::Routine, false);
            let done = Ending::Done { result_path, result_sha256, found, raise, unfit, fallbacks };
            store.end_job(job.id, &done).await.expect("ended");
        }
        let own = |detail: &str| ("job-done".to_owned(), detail.to_owned());
        assert_eq!(told(&store).await, [own(""), own("on a processor in place of a GPU: coarse, fine")]);
    }

    #[tokio::test]
    async fn what_a_later_version_or_a_restart_does_to_jobs_is_in_the_audit_log() {
        let folder = tempfile::tempdir().expect("a folder");
        let store = Store::open(folder.path()).await.expect("a journal");
        let own = |action: &str, detail: &str| (action.to_owned(), detail.to_owned());
        route(&store, 1, &[("runs", Urgency::Critical), ("waits", Urgency::Routine)]).await;
        store.claim(now_ms(), Urgency::Routine).await.expect("the journal").expect("a job");
        assert_eq!(store.recover_jobs(2).await.expect("recovered"), 1);
        store.claim(now_ms(), Urgency::Routine).await.expect("the journal").expect("a job");
        route(&store, 2, &[]).await;
        let superseded = [
            own("job-requeued", "the node ended while it ran"),
            own("job-superseded", "by v2: asked to stop"),
            own("job-superseded", "by v2: cancelled before it ran"),
        ];
        assert_eq!(told(&store).await, superseded);
        // Asked to stop, and the node ended before it did.
        assert_eq!(store.recover_jobs(2).await.expect("recovered"), 1);
        assert_eq!(told(&store).await.last(), Some(&own("job-cancelled", "the node ended while it ran")));
    }
}
