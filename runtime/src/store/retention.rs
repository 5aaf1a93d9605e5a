//! What may go, and what is to be removed from the disk once the journal let go of it.

use sqlx::Row;

use super::jobs::about;
use super::{Batch, Job, Store, StoreError};
use crate::audit::{Action, Event, NODE};

/// Something that the journal can let go of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Doomed {
    /// In the journal.
    pub id: i64,
    /// Study Instance UID, also of results; SOP Instance UID of a file that was set aside.
    pub uid: String,
    /// When its last byte came; of results: when the job ended.
    pub since_ms: i64,
}

/// A file, or a folder of results, that no row of the journal needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unneeded {
    /// Of its entry.
    pub id: i64,
    /// Below the data folder.
    pub path: String,
}

impl Store {
    /// Studies after one of the list, those first for which nothing came for the longest time.
    ///
    /// # Errors
    /// The journal's.
    pub async fn oldest_studies(&self, after: Option<&Doomed>, most: u32) -> Result<Vec<Doomed>, StoreError> {
        let (since_ms, id) = after.map_or((i64::MIN, i64::MIN), |c| (c.since_ms, c.id));
        let rows = sqlx::query(
            "SELECT id, study_instance_uid AS uid, last_received_ms AS since_ms FROM study \
             WHERE (last_received_ms, id) > (?, ?) ORDER BY last_received_ms, id LIMIT ?",
        )
        .bind(since_ms)
        .bind(id)
        .bind(most)
        .fetch_all(&self.pool)
        .await?;
        Ok(rows.iter().map(candidate).collect::<Result<_, _>>()?)
    }

    /// Jobs, after one of the list, that ended before a time and whose results are there: those first that ended first.
    ///
    /// # Errors
    /// The journal's.
    pub async fn results_before(&self, ms: i64, after: Option<&Doomed>, most: u32) -> Result<Vec<Doomed>, StoreError> {
        let (since_ms, id) = after.map_or((i64::MIN, i64::MIN), |c| (c.since_ms, c.id));
        let rows = sqlx::query(
            "SELECT id, study_instance_uid AS uid, ended_ms AS since_ms FROM job WHERE result_path IS NOT NULL \
             AND ended_ms < ? AND (ended_ms, id) > (?, ?) ORDER BY ended_ms, id LIMIT ?",
        )
        .bind(ms)
        .bind(since_ms)
        .bind(id)
        .bind(most)
        .fetch_all(&self.pool)
        .await?;
        Ok(rows.iter().map(candidate).collect::<Result<_, _>>()?)
    }

    /// Files that were set aside before a time.
    ///
    /// # Errors
    /// The journal's.
    pub async fn quarantined_before(&self, ms: i64, most: u32) -> Result<Vec<Doomed>, StoreError> {
        let rows = sqlx::query(
            "SELECT id, sop_instance_uid AS uid, received_ms AS since_ms FROM quarantine WHERE received_ms < ? ORDER BY id LIMIT ?",
        )
        .bind(ms)
        .bind(most)
        .fetch_all(&self.pool)
        .await?;
        Ok(rows.iter().map(candidate).collect::<Result<_, _>>()?)
    }

    /// Whether the file of this name is set aside.
    ///
    /// # Errors
    /// The journal's.
    pub(crate) async fn is_set_aside(&self, path: &str) -> Result<bool, StoreError> {
        let query = sqlx::query("SELECT EXISTS (SELECT 1 FROM quarantine WHERE path = ?) AS there").bind(path);
        Ok(query.fetch_one(&self.pool).await?.try_get::<bool, _>("there")?)
    }

    /// How many files are set aside.
    ///
    /// # Errors
    /// The journal's.
    pub async fn quarantine_count(&self) -> Result<u64, StoreError> {
        let row = sqlx::query("SELECT count(*) AS files FROM quarantine").fetch_one(&self.pool).await?;
        Ok(row.try_get::<i64, _>("files")?.unsigned_abs())
    }

    /// Files to remove.
    ///
    /// # Errors
    /// The journal's.
    pub async fn unneeded(&self, most: u32) -> Result<Vec<Unneeded>, StoreError> {
        let query = sqlx::query("SELECT id, path FROM unneeded ORDER BY id LIMIT ?").bind(most);
        let rows = query.fetch_all(&self.pool).await?;
        let read = |row: &sqlx::sqlite::SqliteRow| {
            Ok::<_, sqlx::Error>(Unneeded { id: row.try_get("id")?, path: row.try_get("path")? })
        };
        Ok(rows.iter().map(read).collect::<Result<_, _>>()?)
    }

    /// Files up to this entry are gone from the disk.
    ///
    /// # Errors
    /// The journal's.
    pub async fn removed(&self, up_to: i64) -> Result<(), StoreError> {
        sqlx::query("DELETE FROM unneeded WHERE id <= ?").bind(up_to).execute(&self.pool).await?;
        Ok(())
    }
}

impl Batch {
    /// Lets go of a study with its instances, unless something came for it since; says how many instances those were. Their files
    /// are unneeded once the batch is committed.
    ///
    /// # Errors
    /// The journal's.
    pub async fn delete_study(&mut self, study: &Doomed) -> Result<Option<u64>, StoreError> {
        let same = sqlx::query("SELECT 1 FROM study WHERE id = ? AND last_received_ms = ?");
        let same = same.bind(study.id).bind(study.since_ms).fetch_optional(&mut *self.transaction).await?;
        if same.is_none() {
            return Ok(None);
        }
        sqlx::query(
            "INSERT INTO unneeded (path) SELECT path FROM instance JOIN series ON series.id = instance.series \
             WHERE series.study = ?",
        )
        .bind(study.id)
        .execute(&mut *self.transaction)
        .await?;
        let instances = "DELETE FROM instance WHERE series IN (SELECT id FROM series WHERE study = ?)";
        let instances = sqlx::query(instances).bind(study.id).execute(&mut *self.transaction).await?.rows_affected();
        sqlx::query("DELETE FROM series WHERE study = ?").bind(study.id).execute(&mut *self.transaction).await?;
        sqlx::query("DELETE FROM study WHERE id = ?").bind(study.id).execute(&mut *self.transaction).await?;
        Ok(Some(instances))
    }

    /// Lets go of the results of a job, or of all jobs on a study, and has the audit log say so; how many those were. Their folders
    /// are unneeded once the batch is committed.
    ///
    /// # Errors
    /// The journal's.
    pub async fn delete_results(&mut self, study: &str, job: Option<i64>, reason: &str) -> Result<u64, StoreError> {
        sqlx::query(
            "INSERT INTO unneeded (path) SELECT result_path FROM job WHERE study_instance_uid = ?1 \
             AND (?2 IS NULL OR id = ?2) AND result_path IS NOT NULL",
        )
        .bind(study)
        .bind(job)
        .execute(&mut *self.transaction)
        .await?;
        let rows = sqlx::query(
            "UPDATE job SET result_path = NULL WHERE study_instance_uid = ?1 AND (?2 IS NULL OR id = ?2) \
             AND result_path IS NOT NULL RETURNING *",
        )
        .bind(study)
        .bind(job)
        .fetch_all(&mut *self.transaction)
        .await?;
        for row in &rows {
            let detail = format!("by {reason}");
            self.audit(&Event { detail, ..about(&Job::read(row)?, NODE, Action::ResultDeleted) }).await?;
        }
        Ok(rows.len() as u64)
    }

    /// Whether something came for a study since it was closed last, or a job that is of it or is to see it is not at its end, or a
    /// result waits for a person's release. As long as nobody looked for the earlier studies of a job that waits, it may yet see any
    /// of the patient's. Also whether a result did not reach its destination yet, and nobody dropped it.
    /// One of which everything was fetched is never closed, and so never open.
    ///
    /// # Errors
    /// The journal's.
    pub async fn is_unfinished(&mut self, study_instance_uid: &str) -> Result<bool, StoreError> {
        let row = sqlx::query(
            "SELECT EXISTS (SELECT 1 FROM study WHERE study_instance_uid = ?1 AND last_received_ms <> \
             coalesce((SELECT last_received_ms FROM study_version AS v WHERE v.study = study.id \
             ORDER BY version DESC LIMIT 1), -1) \
             AND EXISTS (SELECT 1 FROM series JOIN instance ON instance.series = series.id \
             WHERE series.study = study.id AND via <> 'pacs')) \
             OR EXISTS (SELECT 1 FROM job WHERE study_instance_uid = ?1 AND state IN ('queued', 'gated', 'running')) \
             OR EXISTS (SELECT 1 FROM job JOIN result_release ON result_release.job = job.id \
             WHERE study_instance_uid = ?1 AND policy = 'hold' AND released_ms IS NULL AND result_path IS NOT NULL \
             AND superseded_by IS NULL) \
             OR EXISTS (SELECT 1 FROM delivery WHERE study_instance_uid = ?1 AND state IN ('held', 'queued', 'awaiting', 'dead')) \
             OR EXISTS (SELECT 1 FROM prior JOIN job USING (study_instance_uid, study_version) \
             WHERE prior_uid = ?1 AND state IN ('queued', 'gated', 'running')) \
             OR EXISTS (SELECT 1 FROM job JOIN study AS own USING (study_instance_uid) \
             JOIN study AS other ON other.patient_id = own.patient_id AND own.patient_id <> '' \
             WHERE other.study_instance_uid = ?1 AND state = 'gated' AND NOT EXISTS (SELECT 1 FROM gathered \
             WHERE gathered.study_instance_uid = job.study_instance_uid \
             AND gathered.study_version = job.study_version))",
        )
        .bind(study_instance_uid)
        .fetch_one(&mut *self.transaction)
        .await?;
        Ok(row.try_get(0)?)
    }

    /// Lets go of a file that was set aside.
    ///
    /// # Errors
    /// The journal's.
    pub async fn delete_quarantined(&mut self, file: &Doomed) -> Result<(), StoreError> {
        sqlx::query("INSERT INTO unneeded (path) SELECT path FROM quarantine WHERE id = ?")
            .bind(file.id)
            .execute(&mut *self.transaction)
            .await?;
        sqlx::query("DELETE FROM quarantine WHERE id = ?").bind(file.id).execute(&mut *self.transaction).await?;
        Ok(())
    }
}

fn candidate(row: &sqlx::sqlite::SqliteRow) -> Result<Doomed, sqlx::Error> {
    Ok(Doomed { id: row.try_get("id")?, uid: row.try_get("uid")?, since_ms: row.try_get("since_ms")? })
}
