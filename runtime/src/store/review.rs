//! What becomes of results, and what people said of them.

use serde::Serialize;
use sqlx::sqlite::SqliteRow;
use sqlx::{Row, SqliteExecutor};

use super::jobs::about;
use super::{Batch, Job, JobState, Store, StoreError, now_ms};
use crate::audit::{Action, Event};
use crate::config::Release;
use crate::review::{Correction, Verdict};

/// Whether a result may leave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Deliverable {
    /// It may.
    Now,
    /// Once a person releases it.
    Held,
    /// Never: its module runs in the shadow, or there is no result.
    Never,
}

/// What becomes of a result.
#[derive(Debug, Clone, Serialize)]
pub struct ReleaseRow {
    /// As its module was configured when it came.
    pub policy: Release,
    /// When somebody released it.
    pub released_ms: Option<i64>,
    /// Who.
    pub released_by: Option<String>,
}

impl ReleaseRow {
    /// Whether it may leave.
    #[must_use]
    pub fn deliverable(&self) -> Deliverable {
        match (self.policy, self.released_ms) {
            (Release::AtOnce, _) | (Release::Hold, Some(_)) => Deliverable::Now,
            (Release::Hold, None) => Deliverable::Held,
            (Release::Shadow, _) => Deliverable::Never,
        }
    }
}

/// A result, what becomes of it, and what was said of it.
#[derive(Debug, Clone, Serialize)]
pub struct Reviewed {
    /// Whose it is.
    #[serde(flatten)]
    pub job: Job,
    /// What becomes of it.
    pub release: ReleaseRow,
    /// In the order in which they were given.
    pub verdicts: Vec<VerdictRow>,
}

/// What somebody said of a finding.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct VerdictRow {
    /// Of which job's result.
    pub job: i64,
    /// Of `result.json`.
    pub result_sha256: String,
    /// See [`crate::review`].
    pub finding: String,
    /// What.
    pub verdict: Verdict,
    /// What the module had stated.
    pub stated: serde_json::Value,
    /// How it is otherwise.
    pub correction: Option<Correction>,
    /// In words.
    pub comment: String,
    /// When.
    pub given_ms: i64,
    /// By whom.
    pub given_by: String,
}

/// A verdict to be kept.
#[derive(Debug, Clone)]
pub struct NewVerdict {
    /// Of `result.json`, as it was looked at.
    pub result_sha256: [u8; 32],
    /// See [`crate::review`].
    pub finding: String,
    /// What the module had stated.
    pub stated: serde_json::Value,
    /// What.
    pub verdict: Verdict,
    /// How it is otherwise.
    pub correction: Option<Correction>,
    /// In words.
    pub comment: String,
    /// By whom.
    pub given_by: String,
}

/// Which results are asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Which {
    /// All of them.
    All,
    /// Those that wait for a release.
    Held,
    /// Those that may leave.
    MayLeave,
}

impl Which {
    fn condition(self) -> &'static str {
        match self {
            Self::All => "TRUE",
            Self::Held => {
                "policy = 'hold' AND released_ms IS NULL AND result_path IS NOT NULL AND superseded_by IS NULL"
            }
            Self::MayLeave => "job.id IN (SELECT job FROM deliverable)",
        }
    }
}

/// What came of a verdict.
#[derive(Debug, Clone, PartialEq)]
pub enum Given {
    /// It is kept.
    New(VerdictRow),
    /// The same was said before; nothing changed.
    Same(VerdictRow),
    /// Another one was given before, and stays.
    Conflict(VerdictRow),
    /// There is no such result.
    NoResult,
}

/// What came of a release.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Released {
    /// It may leave from now on.
    Yes,
    /// It might before; nothing changed.
    Already,
    /// Somebody rejected or corrected so many of its findings, and it would leave as the module stated them.
    Disputed(u64),
    /// Results of its module are never delivered.
    Shadow,
    /// A later version of the study supersedes it.
    Superseded,
    /// The job has no result, or its files are deleted.
    NoResult(JobState),
    /// There is no such job.
    NoSuchJob,
}

/// Results with what becomes of them.
const REVIEWED: &str = "SELECT job.*, policy, released_ms, released_by FROM job \
                        JOIN result_release ON result_release.job = job.id";

impl Store {
    /// Whether the result of a job may leave. Its deliveries are held until then, and of one in the shadow there are none.
    ///
    /// # Errors
    /// The journal's.
    pub async fn deliverable(&self, job: i64) -> Result<Deliverable, StoreError> {
        deliverable(&self.pool, job).await
    }

    /// A result, what becomes of it, and what was said of it.
    ///
    /// # Errors
    /// The journal's.
    pub async fn reviewed(&self, job: i64) -> Result<Option<Reviewed>, StoreError> {
        let query = sqlx::AssertSqlSafe(format!("{REVIEWED} WHERE job.id = ?"));
        let row = sqlx::query(query).bind(job).fetch_optional(&self.pool).await?;
        match row {
            Some(row) => Ok(Some(self.with_verdicts(&row).await?)),
            None => Ok(None),
        }
    }

    /// Results, the latest first: of one study or of all, without the first `offset`.
    ///
    /// # Errors
    /// The journal's.
    pub async fn results(
        &self,
        study: Option<&str>,
        which: Which,
        limit: u32,
        offset: u32,
    ) -> Result<Vec<Reviewed>, StoreError> {
        let query = sqlx::AssertSqlSafe(format!(
            "{REVIEWED} WHERE (?1 IS NULL OR study_instance_uid = ?1) AND ({}) ORDER BY job.id DESC LIMIT ?2 OFFSET ?3",
            which.condition()
        ));
        let rows = sqlx::query(query).bind(study).bind(limit).bind(offset).fetch_all(&self.pool).await?;
        let mut results = Vec::new();
        for row in &rows {
            results.push(self.with_verdicts(row).await?);
        }
        Ok(results)
    }

    async fn with_verdicts(&self, row: &SqliteRow) -> Result<Reviewed, StoreError> {
        let (job, release) = (Job::read(row)?, release(row)?);
        let rows =
            sqlx::query("SELECT * FROM verdict WHERE job = ? ORDER BY id").bind(job.id).fetch_all(&self.pool).await?;
        let verdicts = rows.iter().map(verdict).collect::<Result<_, _>>()?;
        Ok(Reviewed { job, release, verdicts })
    }

    /// Keeps what somebody said of a finding. What was said of it before stays: the same changes nothing, another is a conflict.
    ///
    /// # Errors
    /// The journal's.
    pub async fn give_verdict(&self, job: i64, new: &NewVerdict) -> Result<Given, StoreError> {
        let mut batch = self.begin().await?;
        let Some(job) = batch.done(job).await?.filter(|job| job.state == JobState::Done) else {
            return Ok(Given::NoResult);
        };
        let correction = new.correction.as_ref().map(serde_json::to_string).transpose();
        let correction = correction.map_err(|e| sqlx::Error::Encode(Box::new(e)))?;
        let row = sqlx::query(
            "INSERT INTO verdict (job, result_sha256, finding, verdict, stated, correction, comment, given_ms, given_by) \
             VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (job, finding) DO NOTHING RETURNING *",
        )
        .bind(job.id)
        .bind(new.result_sha256.as_slice())
        .bind(&new.finding)
        .bind(new.verdict.name())
        .bind(new.stated.to_string())
        .bind(correction)
        .bind(&new.comment)
        .bind(now_ms())
        .bind(&new.given_by)
        .fetch_optional(&mut *batch.transaction)
        .await?;
        if let Some(row) = row {
            let row = verdict(&row)?;
            let event = Event {
                digests: vec![("result", new.result_sha256)],
                detail: format!("{} {}", new.verdict.name(), new.finding),
                ..about(&job, &new.given_by, Action::VerdictGiven)
            };
            batch.audit(&event).await?;
            batch.commit().await?;
            return Ok(Given::New(row));
        }
        let row = sqlx::query("SELECT * FROM verdict WHERE job = ? AND finding = ?").bind(job.id).bind(&new.finding);
        let row = verdict(&row.fetch_one(&mut *batch.transaction).await?)?;
        let same = row.verdict == new.verdict && row.correction == new.correction;
        Ok(if same { Given::Same(row) } else { Given::Conflict(row) })
    }

    /// Lets a result leave that waits for it, in one commit with its deliveries; of what was rejected or corrected only `despite`
    /// that.
    ///
    /// # Errors
    /// The journal's.
    pub async fn release_result(&self, job: i64, who: &str, despite: bool) -> Result<Released, StoreError> {
        let mut batch = self.begin().await?;
        let Some(job) = batch.done(job).await? else { return Ok(Released::NoSuchJob) };
        match becomes(&mut *batch.transaction, job.id).await?.map(|row| row.deliverable()) {
            None => return Ok(Released::NoResult(job.state)),
            Some(Deliverable::Now) => return Ok(Released::Already),
            Some(Deliverable::Never) => return Ok(Released::Shadow),
            Some(Deliverable::Held) => {}
        }
        if job.superseded_by.is_some() {
            return Ok(Released::Superseded);
        }
        if job.result_path.is_none() {
            return Ok(Released::NoResult(job.state));
        }
        let disputed = sqlx::query("SELECT count(*) FROM verdict WHERE job = ? AND verdict <> 'accepted'").bind(job.id);
        let disputed: i64 = disputed.fetch_one(&mut *batch.transaction).await?.try_get(0)?;
        if disputed > 0 && !despite {
            return Ok(Released::Disputed(disputed.unsigned_abs()));
        }
        sqlx::query("UPDATE result_release SET released_ms = ?, released_by = ? WHERE job = ?")
            .bind(now_ms())
            .bind(who)
            .bind(job.id)
            .execute(&mut *batch.transaction)
            .await?;
        let detail = match disputed {
            0 => String::new(),
            disputed => format!("although {disputed} of its findings were rejected or corrected"),
        };
        batch.audit(&Event { detail, ..about(&job, who, Action::ResultReleased) }).await?;
        batch.release_deliveries(job.id).await?;
        batch.commit().await?;
        self.outbox_changed();
        Ok(Released::Yes)
    }
}

impl Batch {
    /// A job, seen by who writes.
    async fn done(&mut self, job: i64) -> Result<Option<Job>, StoreError> {
        let row =
            sqlx::query("SELECT * FROM job WHERE id = ?").bind(job).fetch_optional(&mut *self.transaction).await?;
        Ok(row.as_ref().map(Job::read).transpose()?)
    }

    /// See [`Store::deliverable`]; as this batch has it.
    ///
    /// # Errors
    /// The journal's.
    pub async fn deliverable(&mut self, job: i64) -> Result<Deliverable, StoreError> {
        deliverable(&mut *self.transaction, job).await
    }
}

async fn deliverable(journal: impl SqliteExecutor<'_>, job: i64) -> Result<Deliverable, StoreError> {
    Ok(becomes(journal, job).await?.map_or(Deliverable::Never, |row| row.deliverable()))
}

/// What becomes of the result of a job.
async fn becomes(journal: impl SqliteExecutor<'_>, job: i64) -> Result<Option<ReleaseRow>, sqlx::Error> {
    let row = sqlx::query("SELECT * FROM result_release WHERE job = ?").bind(job).fetch_optional(journal).await?;
    row.as_ref().map(release).transpose()
}

fn release(row: &SqliteRow) -> Result<ReleaseRow, sqlx::Error> {
    let policy: String = row.try_get("policy")?;
    let policy = Release::ALL.into_iter().find(|release| release.name() == policy);
    let unknown = || sqlx::Error::Decode("what becomes of a result is nothing that this version knows".into());
    Ok(ReleaseRow {
        policy: policy.ok_or_else(unknown)?,
        released_ms: row.try_get("released_ms")?,
        released_by: row.try_get("released_by")?,
    })
}

fn verdict(row: &SqliteRow) -> Result<VerdictRow, sqlx::Error> {
    let decode = |e: serde_json::Error| sqlx::Error::Decode(Box::new(e));
    let verdict = serde_json::Value::String(row.try_get("verdict")?);
    let correction: Option<String> = row.try_get("correction")?;
    Ok(VerdictRow {
        job: row.try_get("job")?,
        result_sha256: crate::hex(&row.try_get::<Vec<u8>, _>("result_sha256")?),
        finding: row.try_get("finding")?,
        verdict: serde_json::from_value(verdict).map_err(decode)?,
        stated: serde_json::from_str(row.try_get("stated")?).map_err(decode)?,
        correction: correction.map(|text| serde_json::from_str(&text)).transpose().map_err(decode)?,
        comment: row.try_get("comment")?,
        given_ms: row.try_get("given_ms")?,
        given_by: row.try_get("given_by")?,
    })
}

#[cfg(test)]
mod tests;
