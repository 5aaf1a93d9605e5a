//! The rows of the audit log, each chained to the one before it.

use rusqlite::{OptionalExtension, params};
use sha2::{Digest, Sha256};
use sqlx::Row;
use sqlx::sqlite::SqliteRow;

use super::{Batch, IntakeBatch, Store, StoreError};
use crate::audit::{Event, Head};

/// The version of the canonical bytes.
const VERSION: u8 = 1;

/// A row as it stands in the journal, true or not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditRow {
    /// Its place: 1 for the first, without gaps.
    pub id: i64,
    /// Of the canonical bytes.
    pub version: i64,
    /// Milliseconds since 1970, UTC.
    pub at_ms: i64,
    /// AE title, token, folder, or the node itself.
    pub who: String,
    /// [`crate::audit::Action::name`], or what somebody wrote there.
    pub action: String,
    /// Study Instance UID, or empty.
    pub study_instance_uid: String,
    /// What it was done to, below the study.
    pub object: String,
    /// `NAME=HEX`, between spaces.
    pub digests: String,
    /// For people; no patient data.
    pub detail: String,
    /// One from association to result.
    pub correlation: String,
    /// As written; [`AuditRow::digest`] says what it must be.
    pub sha256: Vec<u8>,
}

impl AuditRow {
    /// What the row's digest must be after a row with this one. `None` when the version is not known.
    #[must_use]
    pub fn digest(&self, previous: &[u8]) -> Option<[u8; 32]> {
        if self.version != i64::from(VERSION) {
            return None;
        }
        let mut hash = Sha256::new();
        hash.update(previous);
        // Canonical bytes: version, place and time in fixed width, then each text after its length.
        hash.update([VERSION]);
        hash.update(self.id.to_be_bytes());
        hash.update(self.at_ms.to_be_bytes());
        let texts = [
            &self.who,
            &self.action,
            &self.study_instance_uid,
            &self.object,
            &self.digests,
            &self.detail,
            &self.correlation,
        ];
        for text in texts {
            hash.update((text.len() as u64).to_be_bytes());
            hash.update(text);
        }
        Some(hash.finalize().into())
    }

    fn read(row: &SqliteRow) -> Result<Self, sqlx::Error> {
        Ok(Self {
            id: row.try_get("id")?,
            version: row.try_get("version")?,
            at_ms: row.try_get("at_ms")?,
            who: row.try_get("who")?,
            action: row.try_get("action")?,
            study_instance_uid: row.try_get("study_instance_uid")?,
            object: row.try_get("object")?,
            digests: row.try_get("digests")?,
            detail: row.try_get("detail")?,
            correlation: row.try_get("correlation")?,
            sha256: row.try_get("sha256")?,
        })
    }
}

fn head(row: Option<&SqliteRow>) -> Result<Head, sqlx::Error> {
    let Some(row) = row else { return Ok(Head::default()) };
    let sha256: Vec<u8> = row.try_get("sha256")?;
    let sha256 = sha256.try_into().map_err(|_| sqlx::Error::Decode("an audit digest is not 32 bytes".into()))?;
    Ok(Head { id: row.try_get("id")?, sha256 })
}

const HEAD: &str = "SELECT id, sha256 FROM audit ORDER BY id DESC LIMIT 1";

const INSERT: &str = "INSERT INTO audit (id, version, at_ms, who, action, study_instance_uid, object, digests, detail, \
                      correlation, sha256) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)";

/// The row of an event that comes after `last`.
fn row(last: &Head, event: &Event) -> (AuditRow, Head) {
    let mut row = AuditRow {
        id: last.id + 1,
        version: VERSION.into(),
        at_ms: super::now_ms(),
        who: crate::printable(&event.who),
        action: event.action.name().into(),
        study_instance_uid: event.study_instance_uid.clone(),
        object: crate::printable(&event.object),
        digests: event.digests.iter().map(|(n, d)| format!("{n}={}", crate::hex(d))).collect::<Vec<_>>().join(" "),
        detail: crate::printable(&event.detail),
        correlation: event.correlation.clone(),
        sha256: Vec::new(),
    };
    let sha256 = row.digest(&last.sha256).expect("it is the version that is written");
    row.sha256 = sha256.to_vec();
    let head = Head { id: row.id, sha256 };
    (row, head)
}

impl Batch {
    /// Adds an event to the audit log: durable with the batch or not at all.
    ///
    /// # Errors
    /// The journal's.
    pub async fn audit(&mut self, event: &Event) -> Result<(), StoreError> {
        // A batch is the only writer, so the head stays what it was.
        let last = match self.audit_head {
            Some(head) => head,
            None => head(sqlx::query(HEAD).fetch_optional(&mut *self.transaction).await?.as_ref())?,
        };
        let (row, head) = row(&last, event);
        sqlx::query(INSERT)
            .bind(row.id)
            .bind(row.version)
            .bind(row.at_ms)
            .bind(row.who)
            .bind(row.action)
            .bind(row.study_instance_uid)
            .bind(row.object)
            .bind(row.digests)
            .bind(row.detail)
            .bind(row.correlation)
            .bind(row.sha256)
            .execute(&mut *self.transaction)
            .await?;
        self.audit_head = Some(head);
        Ok(())
    }
}

impl IntakeBatch<'_> {
    /// Adds an event to the audit log: durable with the batch or not at all.
    ///
    /// # Errors
    /// The journal's.
    pub fn audit(&mut self, event: &Event) -> Result<(), StoreError> {
        // As above.
        let last = match self.audit_head {
            Some(head) => head,
            None => {
                let mut statement = self.transaction.prepare_cached(HEAD)?;
                let head = statement.query_row([], |row| Ok(Head { id: row.get("id")?, sha256: row.get("sha256")? }));
                head.optional()?.unwrap_or_default()
            }
        };
        let (row, head) = row(&last, event);
        self.transaction.prepare_cached(INSERT)?.execute(params![
            row.id,
            row.version,
            row.at_ms,
            row.who,
            row.action,
            row.study_instance_uid,
            row.object,
            row.digests,
            row.detail,
            row.correlation,
            row.sha256
        ])?;
        self.audit_head = Some(head);
        Ok(())
    }
}

impl Store {
    /// The last row of the audit log.
    ///
    /// # Errors
    /// The journal's.
    pub async fn audit_head(&self) -> Result<Head, StoreError> {
        Ok(head(sqlx::query(HEAD).fetch_optional(&self.pool).await?.as_ref())?)
    }

    /// Rows after a place, in order.
    ///
    /// # Errors
    /// The journal's.
    pub async fn audit_after(&self, id: i64, most: u32) -> Result<Vec<AuditRow>, StoreError> {
        let query = sqlx::query("SELECT * FROM audit WHERE id > ? ORDER BY id LIMIT ?").bind(id).bind(most);
        let rows = query.fetch_all(&self.pool).await?;
        Ok(rows.iter().map(AuditRow::read).collect::<Result<_, _>>()?)
    }

    /// The latest rows, of one study or of all, in order.
    ///
    /// # Errors
    /// The journal's.
    pub async fn audit_latest(&self, study_instance_uid: Option<&str>, most: u32) -> Result<Vec<AuditRow>, StoreError> {
        let query = match study_instance_uid {
            Some(uid) => {
                // The condition of the index is named, so that it is used.
                sqlx::query(
                    "SELECT * FROM audit WHERE study_instance_uid = ? AND study_instance_uid <> '' \
                     ORDER BY id DESC LIMIT ?",
                )
                .bind(uid)
            }
            None => sqlx::query("SELECT * FROM audit ORDER BY id DESC LIMIT ?"),
        };
        let rows = query.bind(most).fetch_all(&self.pool).await?;
        Ok(rows.iter().rev().map(AuditRow::read).collect::<Result<_, _>>()?)
    }
}
