//! Running jobs: each from one state to the next, with a row in the audit log.

use sqlx::sqlite::SqliteRow;
use sqlx::{Row, Sqlite, Transaction};

use super::{Done, Ending, FoundRow, Job, JobState, about, jobs, level, select_job, urgency};
use crate::audit::{Action, Event, NODE};
use crate::config::Release;
use crate::findings::Urgency;
use crate::outputs::Reference;
use crate::store::{Due, Store, StoreError, now_ms};

impl Store {
    /// Takes the next job that is at least so urgent: the most urgent first, and of these the one that waits longest.
    ///
    /// # Errors
    /// The journal's.
    pub async fn claim(&self, due: Due, least: Urgency) -> Result<Option<Job>, StoreError> {
        let mut batch = self.begin().await?;
        let row = sqlx::query(
            "UPDATE job SET state = 'running', attempts = attempts + 1, started_ms = NULL, ended_ms = NULL WHERE id = (\
             SELECT id FROM job WHERE state = 'queued' AND (not_before_ms <= ? OR not_before_ms > ?) AND priority >= ? \
             ORDER BY priority DESC, created_ms, id LIMIT 1) RETURNING *",
        )
        .bind(due.now_ms)
        .bind(due.latest_ms())
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

    /// A run ended. Only a job that runs changes.
    ///
    /// # Errors
    /// The journal's.
    pub async fn end_job(&self, id: i64, ending: &Ending) -> Result<(), StoreError> {
        let mut batch = self.begin().await?;
        let now = now_ms();
        let query = match ending {
            Ending::Done(Done { result_path, unfit, .. }) => sqlx::query(
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
        if let Ending::Done(Done { found, raise, release, triage, .. }) = ending {
            record_found(&mut batch.transaction, id, found, *raise).await?;
            batch.stated(id, *release, triage).await?;
        }
        let job = sqlx::query(select_job!("WHERE id = ?")).bind(id).fetch_one(&mut *batch.transaction).await?;
        let job = Job::read(&job)?;
        batch.audit(&audited(&job, ending)).await?;
        let mut delivers = false;
        if let Ending::Done(Done { deliver, result_sha256, release, .. }) = ending
            && job.superseded_by.is_none()
            && *release != Release::Shadow
        {
            batch.deliver(&job, result_sha256, deliver, *release == Release::Hold).await?;
            delivers = !deliver.is_empty();
        }
        if let Ending::Done(Done { report: Some(report), .. }) = ending
            && job.superseded_by.is_none()
        {
            let query = sqlx::query("INSERT INTO result_report VALUES (?, ?, ?)").bind(id);
            query.bind(&report.series).bind(&report.instance).execute(&mut *batch.transaction).await?;
        }
        batch.commit().await?;
        if delivers {
            self.outbox_changed();
        }
        Ok(())
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

    /// Jobs that run, and how urgent each is by now: an order may have come since it began.
    ///
    /// # Errors
    /// The journal's.
    pub async fn running_priorities(&self) -> Result<Vec<(i64, Urgency)>, StoreError> {
        let rows = sqlx::query("SELECT id, priority FROM job WHERE state = 'running'").fetch_all(&self.pool).await?;
        let read = |row: &SqliteRow| Ok((row.try_get("id")?, urgency(row.try_get("priority")?)));
        Ok(rows.iter().map(read).collect::<Result<_, sqlx::Error>>()?)
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

    /// The SRs of a job's module on earlier versions of its study, the earliest first: of results that may have left, and
    /// were there when the next version came. Always the same for a job, whatever becomes of those results.
    ///
    /// # Errors
    /// The journal's.
    pub async fn predecessors(&self, job: &Job) -> Result<Vec<Reference>, StoreError> {
        let rows = sqlx::query(
            "SELECT series_instance_uid, sop_instance_uid FROM result_report JOIN job ON job.id = result_report.job \
             WHERE study_instance_uid = ? AND module = ? AND study_version < ? \
             AND job.id IN (SELECT job FROM deliverable) ORDER BY study_version, job.id",
        )
        .bind(&job.study_instance_uid)
        .bind(&job.module)
        .bind(job.study_version)
        .fetch_all(&self.pool)
        .await?;
        let read = |row: &SqliteRow| Ok(Reference { series: row.try_get(0)?, instance: row.try_get(1)? });
        Ok(rows.iter().map(read).collect::<Result<_, sqlx::Error>>()?)
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
        Ending::Done(Done { result_sha256, fallbacks, .. }) => {
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
    sqlx::query(
        "UPDATE delivery SET priority = ?1 WHERE state IN ('held', 'queued') AND priority < ?1 \
         AND study_instance_uid = (SELECT study_instance_uid FROM job WHERE id = ?2)",
    )
    .bind(level(raise))
    .bind(job)
    .execute(&mut **transaction)
    .await?;
    Ok(())
}
