//! Which studies are open, in which order, and why.

use serde::Serialize;
use sqlx::sqlite::SqliteRow;
use sqlx::{AssertSqlSafe, Row};

use super::jobs::{level, urgency};
use super::{Batch, Job, JobState, Store, StoreError, now_ms};
use crate::config::Release;
use crate::findings::{Code, Triage, Urgency};
use crate::worklist::Reason;

/// A part of the worklist.
#[derive(Debug, Clone, Serialize)]
pub struct Worklist {
    /// Studies that are open.
    pub total: u64,
    /// Without the first so many.
    pub offset: u32,
    /// In order.
    pub studies: Vec<OpenStudy>,
}

/// A study that is open.
#[derive(Debug, Clone, Serialize)]
pub struct OpenStudy {
    /// From 1.
    pub place: u64,
    /// Study Instance UID.
    pub study_instance_uid: String,
    /// (0008,0050), as its first instance has it.
    pub accession_number: String,
    /// Where it stands.
    pub state: StudyState,
    /// The highest of its reasons.
    pub level: Urgency,
    /// When its first instance came: of two studies on one level the older one goes first.
    pub since_ms: i64,
    /// Why it stands there, the highest first; its age comes last.
    pub reasons: Vec<Why>,
}

/// Where a study stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum StudyState {
    /// It is not whole yet.
    Receiving,
    /// It is whole; what runs on it is not decided yet.
    Closed,
    /// Jobs wait, and none runs.
    Waiting,
    /// A job runs.
    Running,
    /// All jobs are over, and one of them without a result although it should have one.
    Failed,
    /// All jobs are over, and a result waits for a person's release.
    Held,
    /// All jobs are over.
    Done,
    /// No module runs on it.
    NothingToRun,
    /// No module can read it.
    Unreadable,
}

impl StudyState {
    /// For people.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Receiving => "receiving",
            Self::Closed => "closed",
            Self::Waiting => "waiting",
            Self::Running => "running",
            Self::Failed => "failed",
            Self::Held => "held",
            Self::Done => "done",
            Self::NothingToRun => "nothing-to-run",
            Self::Unreadable => "unreadable",
        }
    }
}

/// One reason for a place.
#[derive(Debug, Clone, Serialize)]
#[serde(tag = "cause", rename_all = "lowercase")]
pub enum Why {
    /// The priority of the order.
    Order {
        /// How high.
        level: Urgency,
        /// As the order has it.
        priority: String,
    },
    /// A rule of the site.
    Rule {
        /// How high.
        level: Urgency,
        /// Which.
        rule: String,
    },
    /// The least priority of a module that runs on it.
    Module {
        /// How high.
        level: Urgency,
        /// Which.
        module: String,
    },
    /// A job that stands higher than the other reasons say: it was made, or raised, before they were kept.
    Job {
        /// How high.
        level: Urgency,
        /// Which.
        job: i64,
        /// Of which module.
        module: String,
    },
    /// What a module found.
    Triage {
        /// How high.
        level: Urgency,
        /// Which module.
        module: String,
        /// In which job.
        job: i64,
        /// On which version of the study.
        study_version: u32,
        /// For what.
        finding: Code,
        /// 0 to 1.
        probability: f32,
        /// The module's words for people.
        reason: String,
        /// The result waits for a person's release.
        held: bool,
    },
    /// How long it has been there.
    Age {
        /// Since its first instance.
        seconds: u64,
    },
}

impl Why {
    /// How high it puts the study.
    #[must_use]
    pub fn level(&self) -> Urgency {
        match self {
            Self::Order { level, .. }
            | Self::Rule { level, .. }
            | Self::Module { level, .. }
            | Self::Job { level, .. }
            | Self::Triage { level, .. } => *level,
            Self::Age { .. } => Urgency::Routine,
        }
    }
}

/// Studies that are open: something came or ended of late, or is yet to end or to be released. Of earlier studies of which
/// everything was fetched there is no work.
const OPEN: &str = "FROM study WHERE study_instance_uid IN (\
    SELECT study_instance_uid FROM study WHERE last_received_ms >= ?1 \
    UNION SELECT study_instance_uid FROM job WHERE state IN ('queued', 'gated', 'running') \
    UNION SELECT study_instance_uid FROM job WHERE ended_ms >= ?1 \
    UNION SELECT study_instance_uid FROM job JOIN result_release ON result_release.job = job.id \
    WHERE policy = 'hold' AND released_ms IS NULL AND result_path IS NOT NULL AND superseded_by IS NULL) \
    AND EXISTS (SELECT 1 FROM series JOIN instance ON instance.series = series.id \
    WHERE series.study = study.id AND via <> 'pacs')";

/// As high as its highest reason. A job's priority only rises, and is one.
const LEVEL: &str = "max(\
    coalesce((SELECT max(priority) FROM job WHERE job.study_instance_uid = study.study_instance_uid), 0), \
    coalesce((SELECT max(level) FROM reason WHERE reason.study_instance_uid = study.study_instance_uid), 0), \
    coalesce((SELECT max(level) FROM triage JOIN job ON job.id = triage.job JOIN result_release USING (job) \
    WHERE job.study_instance_uid = study.study_instance_uid AND policy <> 'shadow'), 0))";

impl Store {
    /// A part of the worklist. Studies of which nothing came and no job ended since `open_since_ms` have left it, unless a job of
    /// theirs is not at its end, or a result is held.
    ///
    /// # Errors
    /// The journal's.
    pub async fn worklist(&self, open_since_ms: i64, limit: u32, offset: u32) -> Result<Worklist, StoreError> {
        // One moment for all of it.
        let mut reading = self.pool.begin().await?;
        let count = AssertSqlSafe(format!("SELECT count(*) {OPEN}"));
        let total: i64 = sqlx::query(count).bind(open_since_ms).fetch_one(&mut *reading).await?.try_get(0)?;
        let page = format!(
            "SELECT id, study_instance_uid, accession_number, first_received_ms, {LEVEL} AS level, \
             coalesce((SELECT v.last_received_ms = study.last_received_ms FROM study_version AS v \
             WHERE v.study = study.id ORDER BY version DESC LIMIT 1), 0) AS closed \
             {OPEN} ORDER BY level DESC, first_received_ms, id LIMIT ?2 OFFSET ?3"
        );
        let page = sqlx::query(AssertSqlSafe(page));
        let rows = page.bind(open_since_ms).bind(limit).bind(offset).fetch_all(&mut *reading).await?;
        let mut studies = Vec::new();
        for (place, row) in (u64::from(offset) + 1..).zip(&rows) {
            let uid: String = row.try_get("study_instance_uid")?;
            let since_ms: i64 = row.try_get("first_received_ms")?;
            let state = state(&mut reading, &uid, row.try_get::<i64, _>("closed")? != 0).await?;
            let level = urgency(row.try_get("level")?);
            let mut reasons = reasons(&mut reading, &uid).await?;
            if reasons.iter().all(|why| why.level() < level) {
                reasons.extend(highest(&mut reading, &uid).await?);
            }
            reasons.sort_by_key(|why| std::cmp::Reverse(why.level()));
            let seconds = now_ms().saturating_sub(since_ms).max(0).unsigned_abs() / 1000;
            reasons.push(Why::Age { seconds });
            studies.push(OpenStudy {
                place,
                study_instance_uid: uid,
                accession_number: row.try_get("accession_number")?,
                state,
                level,
                since_ms,
                reasons,
            });
        }
        Ok(Worklist { total: total.unsigned_abs(), offset, studies })
    }

    /// Adds a reason to a study, which need not be here yet, and raises its jobs to it. Says how many rose.
    ///
    /// # Errors
    /// The journal's.
    pub async fn raise_study(&self, study_instance_uid: &str, reason: &Reason) -> Result<u64, StoreError> {
        let mut batch = self.begin().await?;
        let raised = batch.raise_study(study_instance_uid, reason).await?;
        batch.commit().await?;
        Ok(raised)
    }

    /// The triage statements of a job's result, in the order in which they were made; none before it is done.
    ///
    /// # Errors
    /// The journal's.
    pub async fn triage_of(&self, job: i64) -> Result<Vec<Triage>, StoreError> {
        let rows =
            sqlx::query("SELECT * FROM triage WHERE job = ? ORDER BY place").bind(job).fetch_all(&self.pool).await?;
        Ok(rows.iter().map(triage).collect::<Result<_, _>>()?)
    }
}

impl Batch {
    /// See [`Store::raise_study`].
    ///
    /// # Errors
    /// The journal's.
    pub async fn raise_study(&mut self, study_instance_uid: &str, reason: &Reason) -> Result<u64, StoreError> {
        self.reason(study_instance_uid, reason).await?;
        let query = sqlx::query("UPDATE job SET priority = ?1 WHERE study_instance_uid = ?2 AND priority < ?1");
        let raised = query.bind(level(reason.level)).bind(study_instance_uid).execute(&mut *self.transaction).await?;
        Ok(raised.rows_affected())
    }

    /// Keeps a reason; one that is known stays as it is.
    pub(super) async fn reason(&mut self, study_instance_uid: &str, reason: &Reason) -> Result<(), StoreError> {
        sqlx::query(
            "INSERT INTO reason (study_instance_uid, level, cause, what, since_ms) VALUES (?, ?, ?, ?, ?) \
             ON CONFLICT DO NOTHING",
        )
        .bind(study_instance_uid)
        .bind(level(reason.level))
        .bind(reason.cause.name())
        .bind(&reason.what)
        .bind(now_ms())
        .execute(&mut *self.transaction)
        .await?;
        Ok(())
    }

    /// What becomes of the result of a job that is done, and what in it is a reason to look sooner.
    pub(super) async fn stated(&mut self, job: i64, release: Release, stated: &[Triage]) -> Result<(), StoreError> {
        sqlx::query("INSERT INTO result_release (job, policy) VALUES (?, ?)")
            .bind(job)
            .bind(release.name())
            .execute(&mut *self.transaction)
            .await?;
        for (place, triage) in (0_i64..).zip(stated) {
            sqlx::query("INSERT INTO triage VALUES (?, ?, ?, ?, ?, ?, ?, ?)")
                .bind(job)
                .bind(place)
                .bind(level(triage.level))
                .bind(&triage.finding.value)
                .bind(&triage.finding.scheme)
                .bind(&triage.finding.meaning)
                .bind(f64::from(triage.probability))
                .bind(&triage.reason)
                .execute(&mut *self.transaction)
                .await?;
        }
        Ok(())
    }
}

#[expect(clippy::cast_possible_truncation, reason = "it was an f32")]
fn triage(row: &SqliteRow) -> Result<Triage, sqlx::Error> {
    Ok(Triage {
        level: urgency(row.try_get("level")?),
        finding: Code {
            value: row.try_get("code_value")?,
            scheme: row.try_get("code_scheme")?,
            meaning: row.try_get("code_meaning")?,
        },
        probability: row.try_get::<f64, _>("probability")? as f32,
        reason: row.try_get("reason")?,
    })
}

type Reading = sqlx::Transaction<'static, sqlx::Sqlite>;

async fn reasons(reading: &mut Reading, uid: &str) -> Result<Vec<Why>, StoreError> {
    let mut reasons = Vec::new();
    let stated = sqlx::query(
        "SELECT triage.*, module, study_version, policy = 'hold' AND released_ms IS NULL AS held FROM triage \
         JOIN job ON job.id = triage.job JOIN result_release USING (job) \
         WHERE study_instance_uid = ? AND policy <> 'shadow' ORDER BY triage.job, place",
    );
    for row in &stated.bind(uid).fetch_all(&mut **reading).await? {
        let Triage { level, finding, probability, reason } = triage(row)?;
        reasons.push(Why::Triage {
            level,
            module: row.try_get("module")?,
            job: row.try_get("job")?,
            study_version: row.try_get("study_version")?,
            finding,
            probability,
            reason,
            held: row.try_get::<i64, _>("held")? != 0,
        });
    }
    let kept = sqlx::query("SELECT * FROM reason WHERE study_instance_uid = ? ORDER BY id").bind(uid);
    for row in &kept.fetch_all(&mut **reading).await? {
        let (level, what) = (urgency(row.try_get("level")?), row.try_get("what")?);
        reasons.push(match row.try_get::<&str, _>("cause")? {
            "order" => Why::Order { level, priority: what },
            "rule" => Why::Rule { level, rule: what },
            _ => Why::Module { level, module: what },
        });
    }
    Ok(reasons)
}

/// The job that stands highest, where it stands above others.
async fn highest(reading: &mut Reading, uid: &str) -> Result<Option<Why>, StoreError> {
    let query = "SELECT * FROM job WHERE study_instance_uid = ? AND priority > 0 ORDER BY priority DESC, id LIMIT 1";
    let row = sqlx::query(query).bind(uid).fetch_optional(&mut **reading).await?;
    let job = row.as_ref().map(Job::read).transpose()?;
    Ok(job.map(|job| Why::Job { level: job.priority, job: job.id, module: job.module }))
}

async fn state(reading: &mut Reading, uid: &str, closed: bool) -> Result<StudyState, StoreError> {
    if !closed {
        return Ok(StudyState::Receiving);
    }
    let routed = sqlx::query(
        "SELECT outcome, routed.study_version FROM routed JOIN study USING (study_instance_uid) \
         WHERE study_instance_uid = ? AND routed.study_version = \
         (SELECT max(version) FROM study_version WHERE study_version.study = study.id)",
    );
    let Some(routed) = routed.bind(uid).fetch_optional(&mut **reading).await? else { return Ok(StudyState::Closed) };
    match routed.try_get::<&str, _>("outcome")? {
        "nothing-to-run" => return Ok(StudyState::NothingToRun),
        "unreadable" => return Ok(StudyState::Unreadable),
        _ => {}
    }
    let version: u32 = routed.try_get("study_version")?;
    let jobs = sqlx::query(
        "SELECT job.*, coalesce(policy = 'hold' AND released_ms IS NULL, 0) AS held FROM job \
         LEFT JOIN result_release ON result_release.job = job.id WHERE study_instance_uid = ? AND study_version = ?",
    );
    let rows = jobs.bind(uid).bind(version).fetch_all(&mut **reading).await?;
    let jobs: Vec<Job> = rows.iter().map(Job::read).collect::<Result<_, _>>()?;
    let any = |states: &[JobState]| jobs.iter().any(|job| states.contains(&job.state));
    let held = rows.iter().map(|row| row.try_get::<i64, _>("held")).collect::<Result<Vec<_>, _>>()?;
    Ok(match () {
        () if any(&[JobState::Running]) => StudyState::Running,
        () if any(&[JobState::Queued, JobState::Gated]) => StudyState::Waiting,
        () if held.contains(&1) => StudyState::Held,
        () if any(&[JobState::Failed, JobState::Dead]) => StudyState::Failed,
        () => StudyState::Done,
    })
}

#[cfg(test)]
mod tests;
