//! Whether something is handed on, what waits, and what the policy remembers.

use serde::Serialize;
use sqlx::Row;

use super::super::{Store, StoreError, now_ms};
use crate::audit::{Action, Event, OPERATOR};

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

impl Store {
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

    /// What the policy remembers of bytes that were sent, as JSON.
    ///
    /// # Errors
    /// The journal's.
    pub async fn sync_ledger(&self) -> Result<String, StoreError> {
        Ok(sqlx::query("SELECT ledger FROM sync_state").fetch_one(&self.pool).await?.try_get(0)?)
    }

    /// See [`Self::sync_ledger`].
    ///
    /// # Errors
    /// The journal's.
    pub async fn keep_sync_ledger(&self, ledger: &str) -> Result<(), StoreError> {
        sqlx::query("UPDATE sync_state SET ledger = ?").bind(ledger).execute(&self.pool).await?;
        Ok(())
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
}
