//! What was handed to the cloud, and what is to be.
//!
//! A study that changed stands in `sync_todo`, where triggers put it. Each time that it is looked at makes a `sync_part`:
//!
//! ```text
//! todo ─▶ waits, and is looked at again
//!      ├▶ skipped
//!      ├▶ held        all of it
//!      └▶ taking ─▶ spooled ─▶ sent
//! ```
//!
//! A part's record is named before the spool gets anything. Whoever starts asks the spool about those that are being taken: what it
//! has is spooled, what it has not was never there, and the study is looked at anew.

use serde::Serialize;
use sqlx::Row;
use sqlx::sqlite::SqliteRow;

use super::{Batch, Due, HeldObject, Store, StoreError, ToHold, now_ms};
use crate::audit::{Action, Event, NODE, OPERATOR};

/// Rows of objects in one commit: the journal has one writer, and a C-STORE waits for it.
const ROWS_AT_ONCE: usize = 50;

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
const DUE: &str = due!("due_ms <= ?1");
/// Those that would wait longer than anything does: the clock was another one.
const DUE_LATEST: &str = due!("due_ms > ?2");

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

/// A part that is being taken in, or was and is not sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SyncOpen {
    /// In the journal.
    pub id: i64,
    /// Study Instance UID.
    pub study_instance_uid: String,
    /// Under which the spool has it, if it does.
    pub record: String,
    /// Whether the spool was seen to have it.
    pub spooled: bool,
}

/// What is taken of a study.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct SyncTaken {
    /// Objects.
    pub objects: u64,
    /// Objects that stay, in quarantine.
    pub objects_held: u64,
    /// Bytes of the objects.
    pub bytes: u64,
}

/// What a look at the objects of a study came to.
#[derive(Debug, Clone, Default)]
pub struct SyncLooked {
    /// Of the profile with its options.
    pub profile_sha256: [u8; 32],
    /// What stays.
    pub held: Vec<ToHold>,
    /// What goes along.
    pub along: Vec<HeldObject>,
}

/// How many parts are in a state.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SyncCount {
    /// `taking`, `spooled`, `sent`, `held` or `skipped`.
    pub state: String,
    /// Parts.
    pub parts: u64,
    /// Objects in them.
    pub objects: u64,
    /// Objects that stayed.
    pub objects_held: u64,
    /// Their bytes.
    pub bytes: u64,
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

/// What waits, for those who watch a node.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SyncWaiting {
    /// Studies that are to be looked at.
    pub studies: u64,
    /// Parts in the spool.
    pub parts: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Whether somebody paused it.
    pub paused: bool,
    /// When the last batch was in the bucket.
    pub last_batch_ms: Option<i64>,
}

/// One part, for people.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SyncPart {
    /// Study Instance UID.
    pub study_instance_uid: String,
    /// Which closing of it.
    pub study_version: u32,
    /// `taking`, `spooled`, `sent`, `held` or `skipped`.
    pub state: String,
    /// Why it was skipped.
    pub reason: String,
    /// Its name in the manifest.
    pub record: Option<String>,
    /// The batch that it was sent in.
    pub batch: Option<String>,
    /// What was taken.
    #[serde(flatten)]
    pub taken: SyncTaken,
    /// When it was looked at.
    pub at_ms: i64,
    /// When its batch was in the bucket.
    pub sent_ms: Option<i64>,
}

/// Whether something is handed on.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct SyncState {
    /// Since when not.
    pub paused_ms: Option<i64>,
    /// Who said so.
    pub paused_by: String,
    /// Why.
    pub paused_reason: String,
    /// What the process that hands on does, or why it does nothing.
    pub doing: String,
    /// Since when.
    pub doing_ms: Option<i64>,
    /// The batch that was sent last.
    pub last_batch: Option<String>,
    /// When it was in the bucket, whole.
    pub last_batch_ms: Option<i64>,
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

    /// All that would be taken of a study is held: the part that was begun is at its end.
    ///
    /// # Errors
    /// The journal's.
    pub async fn sync_hold(&self, study: &SyncDue, part: i64, looked: &SyncLooked) -> Result<(), StoreError> {
        self.sync_stays(study, looked).await?;
        let mut batch = self.begin().await?;
        sqlx::query("UPDATE sync_part SET state = 'held', record = NULL, objects_held = ? WHERE id = ?")
            .bind(i64::try_from(looked.held.len()).unwrap_or(i64::MAX))
            .bind(part)
            .execute(&mut *batch.transaction)
            .await?;
        batch.sync_looked_at(&study.study_instance_uid, study.change).await?;
        batch.commit().await
    }

    /// A study is about to be taken in under this name.
    ///
    /// # Errors
    /// The journal's.
    pub async fn sync_take(&self, study: &SyncDue, record: &str) -> Result<i64, StoreError> {
        let row = sqlx::query(
            "INSERT INTO sync_part (study_instance_uid, study_version, change, state, record, at_ms) \
             VALUES (?, ?, ?, 'taking', ?, ?) RETURNING id",
        )
        .bind(&study.study_instance_uid)
        .bind(study.study_version)
        .bind(study.change)
        .bind(record)
        .bind(now_ms())
        .fetch_one(&self.pool)
        .await?;
        Ok(row.try_get("id")?)
    }

    /// A study is not taken in after all, and the spool got no record.
    ///
    /// # Errors
    /// The journal's.
    pub async fn sync_untake(&self, part: i64) -> Result<(), StoreError> {
        let query = sqlx::query("DELETE FROM sync_part WHERE id = ? AND state = 'taking'").bind(part);
        query.execute(&self.pool).await?;
        Ok(())
    }

    /// All of what is taken of a study is in the spool, and its record is about to be; what stays of it is held. Not where somebody
    /// discarded some of it meanwhile: then it is to be looked at again.
    ///
    /// # Errors
    /// The journal's.
    pub async fn sync_taken(
        &self,
        study: &SyncDue,
        part: i64,
        taken: &SyncTaken,
        looked: &SyncLooked,
    ) -> Result<bool, StoreError> {
        self.sync_stays(study, looked).await?;
        let uid = &study.study_instance_uid;
        for some in self.rows_of_held(uid, &looked.along).await?.chunks(ROWS_AT_ONCE) {
            let mut batch = self.begin().await?;
            batch.along_with(part, some).await?;
            batch.commit().await?;
        }
        let mut batch = self.begin().await?;
        if batch.is_discarded(uid, &looked.along).await? {
            return Ok(false);
        }
        sqlx::query("UPDATE sync_part SET objects = ?, objects_held = ?, bytes = ? WHERE id = ?")
            .bind(taken.objects.cast_signed())
            .bind(taken.objects_held.cast_signed())
            .bind(taken.bytes.cast_signed())
            .bind(part)
            .execute(&mut *batch.transaction)
            .await?;
        batch.commit().await?;
        Ok(true)
    }

    /// Holds what stays of a study, before the commit that ends the look at it: the same rows when it is looked at again.
    async fn sync_stays(&self, study: &SyncDue, looked: &SyncLooked) -> Result<(), StoreError> {
        for some in looked.held.chunks(ROWS_AT_ONCE) {
            let mut batch = self.begin().await?;
            batch.hold(&study.study_instance_uid, &looked.profile_sha256, some).await?;
            batch.commit().await?;
        }
        Ok(())
    }

    /// The spool has a part, with its record. To be told again after a crash.
    ///
    /// # Errors
    /// The journal's.
    pub async fn sync_spooled(&self, part: i64) -> Result<(), StoreError> {
        let mut batch = self.begin().await?;
        let row = sqlx::query("UPDATE sync_part SET state = 'spooled' WHERE id = ? AND state = 'taking' RETURNING *")
            .bind(part)
            .fetch_optional(&mut *batch.transaction)
            .await?;
        let Some(row) = row else { return Ok(()) };
        let part = SyncPart::read(&row)?;
        let (record, taken) = (part.record.unwrap_or_default(), part.taken);
        let event = Event {
            study_instance_uid: part.study_instance_uid.clone(),
            object: format!("record {record} v{}", part.study_version),
            detail: format!("{} objects, {} held", taken.objects, taken.objects_held),
            ..Event::new(NODE, Action::SyncStudyTaken)
        };
        batch.audit(&event).await?;
        batch.sync_looked_at(&part.study_instance_uid, row.try_get("change")?).await?;
        batch.commit().await
    }

    /// A part never came to be: the study is looked at anew. Also of one that the spool has lost.
    ///
    /// # Errors
    /// The journal's.
    pub async fn sync_again(&self, part: &SyncOpen) -> Result<(), StoreError> {
        let mut batch = self.begin().await?;
        sqlx::query("DELETE FROM sync_part WHERE id = ?").bind(part.id).execute(&mut *batch.transaction).await?;
        batch.sync_changed(&part.study_instance_uid).await?;
        batch.commit().await
    }

    /// Parts that are being taken in, or were and are not sent.
    ///
    /// # Errors
    /// The journal's.
    pub async fn sync_open(&self) -> Result<Vec<SyncOpen>, StoreError> {
        let query = sqlx::query("SELECT * FROM sync_part WHERE state IN ('taking', 'spooled') ORDER BY id");
        let rows = query.fetch_all(&self.pool).await?;
        Ok(rows.iter().map(SyncOpen::read).collect::<Result<_, _>>()?)
    }

    /// Parts in the spool with which something went along that somebody discarded since, or may have.
    ///
    /// # Errors
    /// The journal's.
    pub async fn sync_discarded(&self) -> Result<Vec<SyncOpen>, StoreError> {
        // An object that goes along twice names the later part.
        let query = sqlx::query(
            "SELECT * FROM sync_part WHERE state IN ('taking', 'spooled') AND state <> 'taking' AND EXISTS (SELECT 1 FROM sync_quarantine AS held \
             WHERE held.study_instance_uid = sync_part.study_instance_uid AND held.state = 'discarded' \
             AND held.part >= sync_part.id) ORDER BY id",
        );
        let rows = query.fetch_all(&self.pool).await?;
        Ok(rows.iter().map(SyncOpen::read).collect::<Result<_, _>>()?)
    }

    /// A batch with these records is in the bucket, whole. To be told again after a crash.
    ///
    /// # Errors
    /// The journal's.
    pub async fn sync_sent(&self, id: &str, records: &[String], now_ms: i64) -> Result<(), StoreError> {
        let list = serde_json::to_string(records).expect("strings are JSON");
        let mut batch = self.begin().await?;
        let rows = sqlx::query(
            "UPDATE sync_part SET state = 'sent', batch = ?1, sent_ms = ?2 WHERE state IN ('taking', 'spooled') \
             AND record IN (SELECT value FROM json_each(?3)) RETURNING *",
        )
        .bind(id)
        .bind(now_ms)
        .bind(list)
        .fetch_all(&mut *batch.transaction)
        .await?;
        if rows.is_empty() {
            return Ok(());
        }
        for row in &rows {
            let late = match batch.sent_of_held(row.try_get("id")?).await? {
                0 => String::new(),
                late => format!(", {late} discarded after the batch was sealed"),
            };
            let part = SyncPart::read(row)?;
            let event = Event {
                study_instance_uid: part.study_instance_uid,
                object: format!("record {} v{}", part.record.unwrap_or_default(), part.study_version),
                detail: format!("in batch {id}: {} objects{late}", part.taken.objects),
                ..Event::new(NODE, Action::SyncStudySent)
            };
            batch.audit(&event).await?;
        }
        sqlx::query("UPDATE sync_state SET last_batch = ?, last_batch_ms = ?")
            .bind(id)
            .bind(now_ms)
            .execute(&mut *batch.transaction)
            .await?;
        batch.commit().await
    }

    /// What the policy remembers of bytes that were sent, as JSON.
    ///
    /// # Errors
    /// The journal's.
    pub async fn sync_ledger(&self) -> Result<String, StoreError> {
        Ok(sqlx::query("SELECT ledger FROM sync_state").fetch_one(&self.pool).await?.try_get(0)?)
    }

    /// What the policy remembers of characteristics that patients share, as JSON.
    ///
    /// # Errors
    /// The journal's.
    pub async fn sync_cohort(&self) -> Result<String, StoreError> {
        Ok(sqlx::query("SELECT cohort FROM sync_state").fetch_one(&self.pool).await?.try_get(0)?)
    }

    /// See [`Self::sync_cohort`].
    ///
    /// # Errors
    /// The journal's.
    pub async fn keep_sync_cohort(&self, cohort: &str) -> Result<(), StoreError> {
        sqlx::query("UPDATE sync_state SET cohort = ?").bind(cohort).execute(&self.pool).await?;
        Ok(())
    }

    /// See [`Self::sync_ledger`].
    ///
    /// # Errors
    /// The journal's.
    pub async fn keep_sync_ledger(&self, ledger: &str) -> Result<(), StoreError> {
        sqlx::query("UPDATE sync_state SET ledger = ?").bind(ledger).execute(&self.pool).await?;
        Ok(())
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

    /// Whether something is handed on.
    ///
    /// # Errors
    /// The journal's.
    pub async fn sync_state(&self) -> Result<SyncState, StoreError> {
        let row = sqlx::query("SELECT * FROM sync_state").fetch_one(&self.pool).await?;
        Ok(SyncState {
            paused_ms: row.try_get("paused_ms")?,
            paused_by: row.try_get("paused_by")?,
            paused_reason: row.try_get("paused_reason")?,
            doing: row.try_get("doing")?,
            doing_ms: row.try_get("doing_ms")?,
            last_batch: row.try_get("last_batch")?,
            last_batch_ms: row.try_get("last_batch_ms")?,
        })
    }

    /// What the process that hands on does, or why it does nothing; no patient data.
    ///
    /// # Errors
    /// The journal's.
    pub async fn sync_doing(&self, what: &str) -> Result<(), StoreError> {
        sqlx::query("UPDATE sync_state SET doing = ?, doing_ms = ?")
            .bind(what)
            .bind(now_ms())
            .execute(&self.pool)
            .await?;
        Ok(())
    }

    /// Nothing is handed on from now on; whether something was before.
    ///
    /// # Errors
    /// The journal's.
    pub async fn pause_sync(&self, reason: &str) -> Result<bool, StoreError> {
        let mut batch = self.begin().await?;
        let done = sqlx::query(
            "UPDATE sync_state SET paused_ms = ?, paused_by = ?, paused_reason = ? WHERE paused_ms IS NULL",
        )
        .bind(now_ms())
        .bind(OPERATOR)
        .bind(reason)
        .execute(&mut *batch.transaction)
        .await?;
        if done.rows_affected() == 0 {
            return Ok(false);
        }
        batch.audit(&Event { detail: reason.into(), ..Event::new(OPERATOR, Action::SyncPaused) }).await?;
        batch.commit().await?;
        Ok(true)
    }

    /// Things are handed on again; whether they were not before.
    ///
    /// # Errors
    /// The journal's.
    pub async fn resume_sync(&self) -> Result<bool, StoreError> {
        let mut batch = self.begin().await?;
        let done = sqlx::query(
            "UPDATE sync_state SET paused_ms = NULL, paused_by = '', paused_reason = '' WHERE paused_ms IS NOT NULL",
        );
        if done.execute(&mut *batch.transaction).await?.rows_affected() == 0 {
            return Ok(false);
        }
        batch.audit(&Event::new(OPERATOR, Action::SyncResumed)).await?;
        batch.commit().await?;
        Ok(true)
    }

    /// What waits, without a look at what is over.
    ///
    /// # Errors
    /// The journal's.
    pub async fn sync_waiting(&self) -> Result<SyncWaiting, StoreError> {
        let row = sqlx::query(
            "SELECT (SELECT count(*) FROM sync_todo) AS studies, \
             (SELECT count(*) FROM sync_part WHERE state IN ('taking', 'spooled')) AS parts, \
             (SELECT coalesce(sum(bytes), 0) FROM sync_part WHERE state IN ('taking', 'spooled')) AS bytes, \
             paused_ms IS NOT NULL AS paused, last_batch_ms FROM sync_state",
        );
        let row = row.fetch_one(&self.pool).await?;
        let number = |name: &str| row.try_get::<i64, _>(name).map(i64::unsigned_abs);
        Ok(SyncWaiting {
            studies: number("studies")?,
            parts: number("parts")?,
            bytes: number("bytes")?,
            paused: row.try_get::<i64, _>("paused")? != 0,
            last_batch_ms: row.try_get("last_batch_ms")?,
        })
    }

    /// How many parts there are, by state.
    ///
    /// # Errors
    /// The journal's.
    pub async fn sync_counts(&self) -> Result<Vec<SyncCount>, StoreError> {
        let rows = sqlx::query(
            "SELECT state, count(*) AS parts, sum(objects) AS objects, sum(objects_held) AS objects_held, \
             sum(bytes) AS bytes FROM sync_part GROUP BY state ORDER BY state",
        );
        let rows = rows.fetch_all(&self.pool).await?;
        let read = |row: &SqliteRow| {
            let number = |name: &str| row.try_get::<i64, _>(name).map(i64::unsigned_abs);
            Ok(SyncCount {
                state: row.try_get("state")?,
                parts: number("parts")?,
                objects: number("objects")?,
                objects_held: number("objects_held")?,
                bytes: number("bytes")?,
            })
        };
        Ok(rows.iter().map(read).collect::<Result<_, sqlx::Error>>()?)
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

    /// Parts, the latest first: of one study or of all.
    ///
    /// # Errors
    /// The journal's.
    pub async fn sync_parts(&self, study: Option<&str>, most: u32) -> Result<Vec<SyncPart>, StoreError> {
        let rows = sqlx::query(
            "SELECT * FROM sync_part WHERE ?1 IS NULL OR study_instance_uid = ?1 ORDER BY id DESC LIMIT ?2",
        );
        let rows = rows.bind(study).bind(most).fetch_all(&self.pool).await?;
        Ok(rows.iter().map(SyncPart::read).collect::<Result<_, _>>()?)
    }
}

impl Batch {
    /// A study was looked at as it is; one that changed since stays.
    async fn sync_looked_at(&mut self, study_instance_uid: &str, change: i64) -> Result<(), StoreError> {
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

impl SyncOpen {
    fn read(row: &SqliteRow) -> Result<Self, sqlx::Error> {
        Ok(Self {
            id: row.try_get("id")?,
            study_instance_uid: row.try_get("study_instance_uid")?,
            record: row.try_get::<Option<String>, _>("record")?.unwrap_or_default(),
            spooled: row.try_get::<&str, _>("state")? == "spooled",
        })
    }
}

impl SyncPart {
    fn read(row: &SqliteRow) -> Result<Self, sqlx::Error> {
        let number = |name: &str| row.try_get::<i64, _>(name).map(i64::unsigned_abs);
        let taken =
            SyncTaken { objects: number("objects")?, objects_held: number("objects_held")?, bytes: number("bytes")? };
        Ok(Self {
            study_instance_uid: row.try_get("study_instance_uid")?,
            study_version: row.try_get("study_version")?,
            state: row.try_get("state")?,
            reason: row.try_get("reason")?,
            record: row.try_get("record")?,
            batch: row.try_get("batch")?,
            taken,
            at_ms: row.try_get("at_ms")?,
            sent_ms: row.try_get("sent_ms")?,
        })
    }
}

#[cfg(test)]
mod tests;
