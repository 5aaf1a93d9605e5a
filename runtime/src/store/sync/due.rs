//! Studies that are to be looked at, and what is known of each that is.

use serde::Serialize;
use sqlx::Row;
use sqlx::sqlite::SqliteRow;

use super::super::{Batch, Due, Store, StoreError, now_ms};
use crate::audit::{Action, Event, NODE};

/// Reasons for which studies wait, of which as many are told apart.
const WAITS_SHOWN_MAX: i64 = 20;

/// Studies that are due by a condition, along the index that has them in order: the cross joins keep it outermost, so that the first
/// ends the search however many wait.
macro_rules! due {
    ($condition:literal) => {
        concat!(
            "SELECT todo.study_instance_uid AS study_instance_uid, change, since_ms, waits_since_ms, v.version AS version \
             FROM sync_todo AS todo CROSS JOIN study ON study.study_instance_uid = todo.study_instance_uid \
             CROSS JOIN study_version AS v ON v.study = study.id \
             AND v.version = (SELECT max(version) FROM study_version WHERE study = study.id) \
             CROSS JOIN routed ON routed.study_instance_uid = todo.study_instance_uid AND study_version = v.version \
             WHERE ",
            $condition,
            " AND v.last_received_ms = study.last_received_ms \
             AND NOT EXISTS (SELECT 1 FROM job WHERE job.study_instance_uid = todo.study_instance_uid \
             AND job.study_version = v.version AND state IN ('queued', 'gated', 'running')) \
             AND EXISTS (SELECT 1 FROM series JOIN instance ON instance.series = series.id \
             WHERE series.study = study.id AND via <> 'pacs') ORDER BY due_ms, since_ms, todo.study_instance_uid LIMIT ?3"
        )
    };
}

/// Those whose time has come.
pub(super) const DUE: &str = due!("due_ms <= ?1");
/// Those that would wait longer than anything does: the clock was another one.
pub(super) const DUE_LATEST: &str = due!("due_ms > ?2");

/// A study that is whole, on which nothing runs, and that is to be looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SyncDue {
    /// Study Instance UID.
    pub study_instance_uid: String,
    /// Its latest version.
    pub study_version: u32,
    /// As it was when it was looked at.
    pub change: i64,
    /// Since when it stands there.
    pub since_ms: i64,
    /// Since when it waits for something else than a verdict; 0 where it does not.
    pub waits_since_ms: i64,
}

/// How many studies wait for something.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SyncWaits {
    /// For what; empty for their turn.
    pub reason: String,
    /// How many.
    pub studies: u64,
    /// Since when the first of them does.
    pub since_ms: i64,
}

impl Store {
    /// Studies that are to be looked at: first those that were not looked at as they are, the longest there first, then those that
    /// waited. Of earlier studies of which an archive gave everything there are none: nobody sent them.
    ///
    /// # Errors
    /// The journal's.
    pub async fn sync_due(&self, due: Due, most: u32) -> Result<Vec<SyncDue>, StoreError> {
        let mut studies = Vec::new();
        for sql in [DUE, DUE_LATEST] {
            let query = sqlx::query(sql).bind(due.now_ms).bind(due.latest_ms());
            let rows = query.bind(most.saturating_sub(u32::try_from(studies.len()).unwrap_or(u32::MAX)));
            for row in rows.fetch_all(&self.pool).await? {
                studies.push(SyncDue {
                    study_instance_uid: row.try_get("study_instance_uid")?,
                    study_version: row.try_get("version")?,
                    change: row.try_get("change")?,
                    since_ms: row.try_get("since_ms")?,
                    waits_since_ms: row.try_get("waits_since_ms")?,
                });
            }
        }
        Ok(studies)
    }

    /// A look at a study begins: how many began before it and came to no end.
    ///
    /// # Errors
    /// The journal's.
    pub async fn sync_begin(&self, study: &SyncDue) -> Result<u32, StoreError> {
        let query =
            sqlx::query("UPDATE sync_todo SET begun = begun + 1 WHERE study_instance_uid = ? RETURNING begun - 1");
        let row = query.bind(&study.study_instance_uid).fetch_optional(&self.pool).await?;
        Ok(row.map(|row| row.try_get(0)).transpose()?.unwrap_or_default())
    }

    /// It came to its end, whatever that is.
    ///
    /// # Errors
    /// The journal's.
    pub async fn sync_end(&self, study: &SyncDue) -> Result<(), StoreError> {
        let query = sqlx::query("UPDATE sync_todo SET begun = 0 WHERE study_instance_uid = ?");
        query.bind(&study.study_instance_uid).execute(&self.pool).await?;
        Ok(())
    }

    /// A study waits for something, and is looked at again then, or when it changes. `since_ms` is 0 where that is a verdict.
    ///
    /// # Errors
    /// The journal's.
    pub async fn sync_wait(&self, study: &SyncDue, why: &str, since_ms: i64, due_ms: i64) -> Result<(), StoreError> {
        sqlx::query(
            "UPDATE sync_todo SET waits = ?, waits_since_ms = ?, due_ms = ? WHERE study_instance_uid = ? AND change = ?",
        )
        .bind(why)
        .bind(since_ms)
        .bind(due_ms)
        .bind(&study.study_instance_uid)
        .bind(study.change)
        .execute(&self.pool)
        .await?;
        Ok(())
    }

    /// Nothing is taken of a study as it is, by the policy or for what became of it.
    ///
    /// # Errors
    /// The journal's.
    pub async fn sync_skip(&self, study: &SyncDue, reason: &str) -> Result<(), StoreError> {
        let mut batch = self.begin().await?;
        sqlx::query(
            "INSERT INTO sync_part (study_instance_uid, study_version, change, state, reason, at_ms) \
             VALUES (?, ?, ?, 'skipped', ?, ?)",
        )
        .bind(&study.study_instance_uid)
        .bind(study.study_version)
        .bind(study.change)
        .bind(reason)
        .bind(now_ms())
        .execute(&mut *batch.transaction)
        .await?;
        batch.sync_looked_at(&study.study_instance_uid, study.change).await?;
        batch.commit().await
    }

    /// When the first and the last instance of a study came, and when this version of it closed; nothing where it is not there.
    ///
    /// # Errors
    /// The journal's.
    pub async fn sync_times(&self, study_instance_uid: &str, version: u32) -> Result<Option<[i64; 3]>, StoreError> {
        let row = sqlx::query(
            "SELECT first_received_ms, study.last_received_ms, closed_ms FROM study \
             JOIN study_version ON study_version.study = study.id WHERE study_instance_uid = ? AND version = ?",
        );
        let row = row.bind(study_instance_uid).bind(version).fetch_optional(&self.pool).await?;
        Ok(row.map(|row| Ok::<_, sqlx::Error>([row.try_get(0)?, row.try_get(1)?, row.try_get(2)?])).transpose()?)
    }

    /// AE titles of those who sent instances of a study.
    ///
    /// # Errors
    /// The journal's.
    pub async fn sync_senders(&self, study_instance_uid: &str) -> Result<Vec<String>, StoreError> {
        let rows = sqlx::query(
            "SELECT DISTINCT source FROM instance JOIN series ON series.id = instance.series \
             JOIN study ON study.id = series.study WHERE study_instance_uid = ? AND via = 'dimse'",
        );
        let rows = rows.bind(study_instance_uid).fetch_all(&self.pool).await?;
        Ok(rows.iter().map(|row| row.try_get(0)).collect::<Result<_, _>>()?)
    }

    /// Jobs of a study of which a destination has the result, and since when.
    ///
    /// # Errors
    /// The journal's.
    pub async fn sync_delivered(&self, study_instance_uid: &str) -> Result<Vec<(i64, i64)>, StoreError> {
        let rows = sqlx::query(
            "SELECT job, ended_ms FROM delivery WHERE study_instance_uid = ? AND state = 'sent' AND ended_ms IS NOT NULL",
        );
        let rows = rows.bind(study_instance_uid).fetch_all(&self.pool).await?;
        Ok(rows.iter().map(|row| Ok((row.try_get(0)?, row.try_get(1)?))).collect::<Result<_, sqlx::Error>>()?)
    }

    /// Whether a job that is urgent or more runs, or waits for nothing but its turn.
    ///
    /// # Errors
    /// The journal's.
    pub async fn urgent_work(&self, due: Due) -> Result<bool, StoreError> {
        let row = sqlx::query(
            "SELECT EXISTS (SELECT 1 FROM job WHERE priority >= 2 AND (state = 'running' OR \
             state = 'queued' AND (not_before_ms <= ? OR not_before_ms > ?)))",
        );
        Ok(row.bind(due.now_ms).bind(due.latest_ms()).fetch_one(&self.pool).await?.try_get(0)?)
    }

    /// For what studies wait, the reason of the most first.
    ///
    /// # Errors
    /// The journal's.
    pub async fn sync_waits(&self) -> Result<Vec<SyncWaits>, StoreError> {
        let rows = sqlx::query(
            "SELECT waits, count(*) AS studies, min(since_ms) AS since_ms FROM sync_todo GROUP BY waits \
             ORDER BY studies DESC, waits LIMIT ?",
        );
        let rows = rows.bind(WAITS_SHOWN_MAX).fetch_all(&self.pool).await?;
        let read = |row: &SqliteRow| {
            Ok(SyncWaits {
                reason: row.try_get("waits")?,
                studies: row.try_get::<i64, _>("studies")?.unsigned_abs(),
                since_ms: row.try_get("since_ms")?,
            })
        };
        Ok(rows.iter().map(read).collect::<Result<_, sqlx::Error>>()?)
    }
}

impl Batch {
    /// A study was looked at as it is; one that changed since stays.
    pub(super) async fn sync_looked_at(&mut self, study_instance_uid: &str, change: i64) -> Result<(), StoreError> {
        sqlx::query("DELETE FROM sync_todo WHERE study_instance_uid = ? AND change = ?")
            .bind(study_instance_uid)
            .bind(change)
            .execute(&mut *self.transaction)
            .await?;
        Ok(())
    }

    /// Something about a study changed that is handed on: it is to be looked at.
    ///
    /// # Errors
    /// The journal's.
    pub async fn sync_changed(&mut self, study_instance_uid: &str) -> Result<(), StoreError> {
        sqlx::query(
            "INSERT INTO sync_todo (study_instance_uid, since_ms) SELECT study_instance_uid, ?2 FROM study \
             WHERE study_instance_uid = ?1 ON CONFLICT DO UPDATE SET change = change + 1, due_ms = 0, waits = ''",
        )
        .bind(study_instance_uid)
        .bind(now_ms())
        .execute(&mut *self.transaction)
        .await?;
        Ok(())
    }

    /// Whether a study is being taken in, or, unless only this is asked, is yet to be looked at.
    ///
    /// # Errors
    /// The journal's.
    pub async fn sync_needs(&mut self, study_instance_uid: &str, also_todo: bool) -> Result<bool, StoreError> {
        let row = sqlx::query(
            "SELECT ?2 AND EXISTS (SELECT 1 FROM sync_todo WHERE study_instance_uid = ?1) OR \
             EXISTS (SELECT 1 FROM sync_part WHERE study_instance_uid = ?1 AND state = 'taking')",
        );
        Ok(row.bind(study_instance_uid).bind(also_todo).fetch_one(&mut *self.transaction).await?.try_get(0)?)
    }

    /// A study is about to be deleted for this reason: where it was yet to be looked at, a part and the audit log say so.
    ///
    /// # Errors
    /// The journal's.
    pub async fn sync_missed(&mut self, study_instance_uid: &str, reason: &str) -> Result<(), StoreError> {
        let missed = sqlx::query(
            "INSERT INTO sync_part (study_instance_uid, study_version, change, state, reason, at_ms) \
             SELECT study_instance_uid, max(version), change, 'skipped', ?2, ?3 FROM sync_todo \
             JOIN study USING (study_instance_uid) JOIN study_version ON study_version.study = study.id \
             WHERE study_instance_uid = ?1 GROUP BY study_instance_uid",
        )
        .bind(study_instance_uid)
        .bind(format!("{reason} deleted it before it was looked at"))
        .bind(now_ms())
        .execute(&mut *self.transaction)
        .await?;
        if missed.rows_affected() == 0 {
            return Ok(());
        }
        let event = Event {
            study_instance_uid: study_instance_uid.into(),
            detail: format!("by {reason}"),
            ..Event::new(NODE, Action::SyncStudyMissed)
        };
        self.audit(&event).await
    }
}
