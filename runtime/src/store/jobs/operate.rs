//! Jobs as they are looked at, counted, tried again and cancelled.

use sqlx::Row;

use super::{Changed, Job, JobState, about, jobs, select_job};
use crate::audit::{Action, Event, NODE, OPERATOR};
use crate::module::manifest::Sha256Hex;
use crate::store::{Batch, Due, Store, StoreError, now_ms};

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

    /// One job.
    ///
    /// # Errors
    /// The journal's.
    pub async fn job(&self, id: i64) -> Result<Option<Job>, StoreError> {
        let row = sqlx::query(select_job!("WHERE id = ?")).bind(id).fetch_optional(&self.pool).await?;
        Ok(row.as_ref().map(Job::read).transpose()?)
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
    pub async fn queue(&self, due: Due) -> Result<(u64, Option<i64>), StoreError> {
        let query = sqlx::query(
            "SELECT count(*), min(created_ms) FROM job WHERE state = 'queued' AND (not_before_ms <= ? OR not_before_ms > ?)",
        );
        let row = query.bind(due.now_ms).bind(due.latest_ms()).fetch_one(&self.pool).await?;
        Ok((row.try_get::<i64, _>(0)?.unsigned_abs(), row.try_get(1)?))
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
        sqlx::query(
            "UPDATE job SET state = 'gated', ended_ms = NULL, error_class = NULL, error = NULL \
             WHERE state = 'skipped' AND error_class = 'predecessor' AND (study_instance_uid, study_version) = \
             (SELECT study_instance_uid, study_version FROM job WHERE id = ?)",
        )
        .bind(id)
        .execute(&mut *batch.transaction)
        .await?;
        let Some(job) = job else {
            drop(batch);
            return self.unchanged(id).await;
        };
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
        match batch.cancel_job(id, OPERATOR).await? {
            true => batch.commit().await.map(|()| Changed::Yes),
            false => {
                drop(batch);
                self.unchanged(id).await
            }
        }
    }

    pub(in crate::store) async fn unchanged(&self, id: i64) -> Result<Changed, StoreError> {
        Ok(self.job(id).await?.map_or(Changed::NoSuchJob, |job| Changed::Not(job.state)))
    }
}

impl Batch {
    /// Cancels a job that waits, and asks one that runs to stop; whether it is one of these.
    ///
    /// # Errors
    /// The journal's.
    pub async fn cancel_job(&mut self, id: i64, who: &str) -> Result<bool, StoreError> {
        let job = sqlx::query(
            "UPDATE job SET cancel_requested = iif(state = 'running', 1, 0), \
             error_class = iif(state = 'running', error_class, 'cancelled'), \
             error = iif(state = 'running', error, 'cancelled before it ran'), \
             ended_ms = iif(state = 'running', ended_ms, ?), state = iif(state = 'running', state, 'cancelled') \
             WHERE id = ? AND state IN ('queued', 'gated', 'running') RETURNING *",
        )
        .bind(now_ms())
        .bind(id)
        .fetch_optional(&mut *self.transaction)
        .await?;
        let Some(job) = job else { return Ok(false) };
        let job = Job::read(&job)?;
        let detail = if job.state == JobState::Running { "asked to stop" } else { "before it ran" };
        self.audit(&Event { detail: detail.into(), ..about(&job, who, Action::JobCancelled) }).await?;
        Ok(true)
    }
}
