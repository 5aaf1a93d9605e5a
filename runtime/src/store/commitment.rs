//! Storage commitment: what is kept, and the results that are to be sent.

use sqlx::Row;
use sqlx::sqlite::SqliteRow;

use super::{Due, Store, StoreError};
use crate::audit::Event;

/// An instance that somebody asks about, and what is said of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommitmentItem {
    /// Referenced SOP Class UID.
    pub sop_class_uid: String,
    /// Referenced SOP Instance UID.
    pub sop_instance_uid: String,
    /// Why it is not committed; `None`: it is.
    pub failure: Option<CommitmentFailure>,
}

/// Why an instance is not committed (Failure Reason, PS3.4 section J.3.3.1.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CommitmentFailure {
    /// It is not kept.
    NoSuchInstance,
    /// It is kept under another SOP class.
    ClassInstanceConflict,
}

impl CommitmentFailure {
    /// Failure Reason (0008,1197).
    #[must_use]
    pub fn code(self) -> u16 {
        match self {
            Self::NoSuchInstance => 0x0112,
            Self::ClassInstanceConflict => 0x0119,
        }
    }

    fn of(code: i64) -> Self {
        if code == 0x0119 { Self::ClassInstanceConflict } else { Self::NoSuchInstance }
    }
}

/// A result that is to be sent.
#[derive(Debug, Clone)]
pub struct CommitmentReport {
    /// In the journal; 0 for one that is not there yet.
    pub id: i64,
    /// Transaction UID (0008,1195).
    pub transaction_uid: String,
    /// Who asked.
    pub ae_title: String,
    /// From where.
    pub address: String,
    /// Where it takes results, if that is known.
    pub port: Option<u16>,
    /// How often it was tried on an association of its own.
    pub attempts: u32,
    /// What is said.
    pub items: Vec<CommitmentItem>,
}

impl Store {
    /// Says of each instance, by class and instance UID, whether it is durable, as far as the journal knows; and of those its
    /// file below the data folder, and how many bytes that has.
    ///
    /// # Errors
    /// The journal's.
    pub async fn commitment(
        &self,
        references: &[(String, String)],
    ) -> Result<Vec<(CommitmentItem, Option<(String, u64)>)>, StoreError> {
        let mut connection = self.pool.acquire().await?;
        let mut items = Vec::with_capacity(references.len());
        for (class, instance) in references {
            let query = sqlx::query("SELECT sop_class_uid, path, bytes FROM instance WHERE sop_instance_uid = ?");
            let (failure, file) = match query.bind(instance).fetch_optional(&mut *connection).await? {
                None => (Some(CommitmentFailure::NoSuchInstance), None),
                Some(row) if row.try_get::<&str, _>(0)? != class => {
                    (Some(CommitmentFailure::ClassInstanceConflict), None)
                }
                Some(row) => (None, Some((row.try_get(1)?, row.try_get::<i64, _>(2)?.unsigned_abs()))),
            };
            let (sop_class_uid, sop_instance_uid) = (class.clone(), instance.clone());
            items.push((CommitmentItem { sop_class_uid, sop_instance_uid, failure }, file));
        }
        Ok(items)
    }

    /// Study Instance UIDs of those of these SOP Instance UIDs that are kept, and how many of each those are.
    ///
    /// # Errors
    /// The journal's.
    pub async fn studies_of(&self, sop_instance_uids: &[&str]) -> Result<Vec<(String, u64)>, StoreError> {
        let list = serde_json::Value::from(sop_instance_uids).to_string();
        let rows = sqlx::query(
            "SELECT study_instance_uid, count(*) FROM instance JOIN series ON series.id = instance.series \
             JOIN study ON study.id = series.study WHERE sop_instance_uid IN (SELECT value FROM json_each(?)) \
             GROUP BY study.id ORDER BY study.id",
        )
        .bind(list)
        .fetch_all(&self.pool)
        .await?;
        let read = |row: &SqliteRow| Ok::<_, sqlx::Error>((row.try_get(0)?, row.try_get::<i64, _>(1)?.unsigned_abs()));
        Ok(rows.iter().map(read).collect::<Result<_, _>>()?)
    }

    /// Journals a result that is to be sent on an association of its own at `next_ms`, with what the audit log says of it;
    /// its id.
    ///
    /// # Errors
    /// The journal's.
    pub async fn add_report(
        &self,
        report: &CommitmentReport,
        next_ms: i64,
        events: &[Event],
    ) -> Result<i64, StoreError> {
        let mut batch = self.begin().await?;
        let row = sqlx::query(
            "INSERT INTO commitment_report (transaction_uid, ae_title, address, port, requested_ms, state, attempts, \
             next_ms) VALUES (?, ?, ?, ?, ?, 'pending', 0, ?) RETURNING id",
        )
        .bind(&report.transaction_uid)
        .bind(&report.ae_title)
        .bind(&report.address)
        .bind(report.port)
        .bind(super::now_ms())
        .bind(next_ms)
        .fetch_one(&mut *batch.transaction)
        .await?;
        let id: i64 = row.try_get(0)?;
        for item in &report.items {
            sqlx::query(
                "INSERT INTO commitment_item (report, sop_class_uid, sop_instance_uid, failure_reason) \
                 VALUES (?, ?, ?, ?)",
            )
            .bind(id)
            .bind(&item.sop_class_uid)
            .bind(&item.sop_instance_uid)
            .bind(item.failure.map(CommitmentFailure::code))
            .execute(&mut *batch.transaction)
            .await?;
        }
        for event in events {
            batch.audit(event).await?;
        }
        batch.commit().await?;
        Ok(id)
    }

    /// The results that are due, the first first, `most` of them.
    ///
    /// # Errors
    /// The journal's.
    pub async fn due_reports(&self, due: Due, most: u32) -> Result<Vec<CommitmentReport>, StoreError> {
        let query = sqlx::query(
            "SELECT id, transaction_uid, ae_title, address, port, attempts FROM commitment_report \
             WHERE state = 'pending' AND (next_ms <= ? OR next_ms > ?) ORDER BY next_ms, id LIMIT ?",
        );
        let rows = query.bind(due.now_ms).bind(due.latest_ms()).bind(most).fetch_all(&self.pool).await?;
        let mut reports = Vec::with_capacity(rows.len());
        for row in rows {
            let id: i64 = row.try_get("id")?;
            let items = sqlx::query("SELECT * FROM commitment_item WHERE report = ? ORDER BY rowid").bind(id);
            let items = items.fetch_all(&self.pool).await?;
            reports.push(CommitmentReport {
                id,
                transaction_uid: row.try_get("transaction_uid")?,
                ae_title: row.try_get("ae_title")?,
                address: row.try_get("address")?,
                port: row.try_get("port")?,
                attempts: row.try_get("attempts")?,
                items: items.iter().map(item).collect::<Result<_, _>>()?,
            });
        }
        Ok(reports)
    }

    /// When the next result is due.
    ///
    /// # Errors
    /// The journal's.
    pub async fn next_report_ms(&self, due: Due) -> Result<Option<i64>, StoreError> {
        let query =
            sqlx::query("SELECT min(iif(next_ms > ?, ?, next_ms)) FROM commitment_report WHERE state = 'pending'");
        Ok(query.bind(due.latest_ms()).bind(due.now_ms).fetch_one(&self.pool).await?.try_get(0)?)
    }

    /// The peer has the result.
    ///
    /// # Errors
    /// The journal's.
    pub async fn report_sent(&self, id: i64) -> Result<(), StoreError> {
        sqlx::query("UPDATE commitment_report SET state = 'sent' WHERE id = ?").bind(id).execute(&self.pool).await?;
        Ok(())
    }

    /// It is to be tried at `next_ms`; `tried`: it was tried on an association of its own.
    ///
    /// # Errors
    /// The journal's.
    pub async fn report_again(&self, id: i64, tried: bool, next_ms: i64) -> Result<(), StoreError> {
        let query = sqlx::query("UPDATE commitment_report SET attempts = attempts + ?, next_ms = ? WHERE id = ?");
        query.bind(i64::from(tried)).bind(next_ms).bind(id).execute(&self.pool).await?;
        Ok(())
    }

    /// It is given up.
    ///
    /// # Errors
    /// The journal's.
    pub async fn report_failed(&self, id: i64) -> Result<(), StoreError> {
        sqlx::query("UPDATE commitment_report SET state = 'failed' WHERE id = ?").bind(id).execute(&self.pool).await?;
        Ok(())
    }
}

fn item(row: &SqliteRow) -> Result<CommitmentItem, sqlx::Error> {
    Ok(CommitmentItem {
        sop_class_uid: row.try_get("sop_class_uid")?,
        sop_instance_uid: row.try_get("sop_instance_uid")?,
        failure: row.try_get::<Option<i64>, _>("failure_reason")?.map(CommitmentFailure::of),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn results_wait_in_the_journal_until_they_are_sent() {
        let folder = tempfile::tempdir().expect("a folder");
        let store = Store::open(folder.path()).await.expect("opens");
        let items = store.commitment(&[("1.2".into(), "1.2.3".into())]).await.expect("answers");
        let items: Vec<_> = items.into_iter().map(|(item, _)| item).collect();
        assert_eq!(items[0].failure, Some(CommitmentFailure::NoSuchInstance));
        let report = CommitmentReport {
            id: 0,
            transaction_uid: "1.2.4".into(),
            ae_title: "CT1".into(),
            address: "192.0.2.1".into(),
            port: Some(104),
            attempts: 0,
            items,
        };
        let id = store.add_report(&report, 1000, &[]).await.expect("journalled");
        store.close().await;

        let store = Store::open(folder.path()).await.expect("opens again");
        let at = |now_ms| Due { now_ms, wait_max_ms: 1000 };
        assert_eq!(store.next_report_ms(at(0)).await.expect("answers"), Some(1000));
        assert!(store.due_reports(at(999), 10).await.expect("answers").is_empty());
        let due = store.due_reports(at(1000), 10).await.expect("answers");
        assert_eq!((due[0].id, &due[0].items, due[0].port), (id, &report.items, Some(104)));
        store.report_again(id, true, 2000).await.expect("journalled");
        assert_eq!(store.due_reports(at(2000), 10).await.expect("answers")[0].attempts, 1);
        // The clock jumped back by years: nothing that is told to wait now waits so long.
        let years_ago = at(-1_000_000_000_000);
        assert_eq!(store.next_report_ms(years_ago).await.expect("answers"), Some(years_ago.now_ms));
        assert_eq!(store.due_reports(years_ago, 10).await.expect("answers").len(), 1);
        store.report_sent(id).await.expect("journalled");
        assert_eq!(store.next_report_ms(years_ago).await.expect("answers"), None);
    }
}
