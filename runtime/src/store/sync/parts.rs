//! What came of each look at a study.

use futures_util::TryStreamExt;
use serde::Serialize;
use sqlx::Row;
use sqlx::sqlite::SqliteRow;

use super::super::{HeldObject, Store, StoreError, ToHold, now_ms};
use super::SyncDue;
use crate::audit::{Action, Event, NODE};

/// Rows of objects in one commit: the journal has one writer, and a C-STORE waits for it.
pub(super) const ROWS_AT_ONCE: usize = 50;

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
    /// Whose it is, by a pseudonym; empty where an earlier version took it.
    pub patient: String,
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

impl Store {
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

    /// A study of the patient with this pseudonym is about to be taken in under this name.
    ///
    /// # Errors
    /// The journal's.
    pub async fn sync_take(&self, study: &SyncDue, record: &str, patient: &str) -> Result<i64, StoreError> {
        let row = sqlx::query(
            "INSERT INTO sync_part (study_instance_uid, study_version, change, state, record, patient, at_ms) \
             VALUES (?, ?, ?, 'taking', ?, ?, ?) RETURNING id",
        )
        .bind(&study.study_instance_uid)
        .bind(study.study_version)
        .bind(study.change)
        .bind(record)
        .bind(patient)
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

    /// Tells the record of everything that was handed in, and whose it is, by a pseudonym: empty where an earlier version took it.
    ///
    /// # Errors
    /// The journal's.
    pub async fn sync_records(&self, mut tell: impl FnMut(&str, &str)) -> Result<(), StoreError> {
        let mut rows = sqlx::query("SELECT record, patient FROM sync_part WHERE record IS NOT NULL").fetch(&self.pool);
        while let Some(row) = rows.try_next().await? {
            tell(row.try_get("record")?, row.try_get("patient")?);
        }
        Ok(())
    }

    /// A part left the spool again, for this reason: no batch that waits has it. Of one that was on its way objects may be in the bucket.
    ///
    /// # Errors
    /// The journal's.
    pub async fn sync_withdraw(&self, part: &SyncOpen, reason: &str, was_leaving: bool) -> Result<(), StoreError> {
        let mut batch = self.begin().await?;
        let query = "UPDATE sync_part SET state = 'skipped', reason = ? WHERE id = ? AND state = 'spooled'";
        let done = sqlx::query(query).bind(reason).bind(part.id).execute(&mut *batch.transaction).await?;
        if done.rows_affected() == 0 {
            return Ok(());
        }
        let left = if was_leaving { "; objects of it may be in the bucket" } else { "" };
        let event = Event {
            study_instance_uid: part.study_instance_uid.clone(),
            object: format!("record {}", part.record),
            detail: format!("{reason}{left}"),
            ..Event::new(NODE, Action::SyncStudyWithdrawn)
        };
        batch.audit(&event).await?;
        batch.commit().await
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

impl SyncOpen {
    fn read(row: &SqliteRow) -> Result<Self, sqlx::Error> {
        Ok(Self {
            id: row.try_get("id")?,
            study_instance_uid: row.try_get("study_instance_uid")?,
            record: row.try_get::<Option<String>, _>("record")?.unwrap_or_default(),
            spooled: row.try_get::<&str, _>("state")? == "spooled",
            patient: row.try_get("patient")?,
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
