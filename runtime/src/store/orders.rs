//! Orders and merges that others told of (HL7 v2), and what an order does to jobs: it raises those of its study, whichever
//! comes first, and lowers none.

use sqlx::Row;
use sqlx::sqlite::SqliteRow;

use super::jobs::level;
use super::{Batch, Store, StoreError, now_ms};
use crate::audit::{Action, Event};
use crate::findings::Urgency;
use crate::messages::hl7::order::{Merge, Order};
use crate::worklist::Reason;

/// Rows that one message may change or name, of each kind.
const ROWS_MAX: u32 = 1000;
/// Old orders that go with each message.
const OLD_MAX: u32 = 100;

const DAY_MS: i64 = 86_400_000;

/// Who sent a message, and what it is called.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sender {
    /// Application and facility.
    pub name: String,
    /// What it calls the message.
    pub control_id: String,
    /// From which address.
    pub address: String,
    /// Of the connection.
    pub correlation: String,
}

/// What is known of the order of a study. The reason may tell of the patient: no `Debug`.
#[derive(Clone, PartialEq, Eq)]
pub struct OrderRow {
    /// Placer Order Number, with its namespace behind `^`; or empty.
    pub placer_order_number: String,
    /// Accession Number; or empty.
    pub accession_number: String,
    /// The highest priority that was ever stated.
    pub priority: Urgency,
    /// As it was stated last.
    pub stated_priority: String,
    /// Why it was made.
    pub reason: String,
    /// It is not to be carried out.
    pub cancelled: bool,
    /// When it came first.
    pub first_received_ms: i64,
}

/// Orders of a study: by its UID, or by its accession number.
macro_rules! orders_of_study {
    ($before:literal, $after:literal) => {
        concat!(
            $before,
            " FROM imaging_order WHERE (study_instance_uid <> '' AND study_instance_uid = ?1) ",
            "OR (accession_number <> '' AND accession_number = ",
            "(SELECT accession_number FROM study WHERE study_instance_uid = ?1))",
            $after
        )
    };
}

/// Rows of an order, by placer, accession number and study. Each arm has an index: of those without a placer, only what it names is read.
macro_rules! known_orders {
    ($before:literal) => {
        concat!(
            $before,
            "SELECT id FROM imaging_order WHERE placer_order_number = ?1 AND accession_number = ?2 AND (?1 <> '' OR ?2 <> '') ",
            "UNION SELECT id FROM imaging_order WHERE placer_order_number = ?1 AND ?1 <> '' AND ?2 = '' ",
            "UNION SELECT id FROM imaging_order WHERE placer_order_number = ?1 AND accession_number = '' AND ?1 <> '' ",
            "UNION SELECT id FROM imaging_order WHERE study_instance_uid = ?3 AND study_instance_uid <> '' AND ?1 = '' ",
            "AND ?2 = '' AND placer_order_number = '' AND accession_number = '' ORDER BY id LIMIT ?4",
        )
    };
}

impl Store {
    /// Records what a message ordered, raises the jobs of its studies, and lets go of orders older than this. Says of how many
    /// studies jobs were raised.
    ///
    /// # Errors
    /// The journal's; then nothing was recorded.
    pub async fn record_orders(&self, orders: &[Order], from: &Sender, days: u64) -> Result<u64, StoreError> {
        let mut batch = self.begin().await?;
        let mut raised = 0;
        for order in orders {
            raised += batch.record_order(order, from).await?;
        }
        let before = now_ms().saturating_sub(i64::try_from(days).unwrap_or(i64::MAX).saturating_mul(DAY_MS));
        sqlx::query(
            "DELETE FROM imaging_order WHERE id IN (SELECT id FROM imaging_order WHERE last_received_ms < ? LIMIT ?)",
        )
        .bind(before)
        .bind(OLD_MAX)
        .execute(&mut *batch.transaction)
        .await?;
        let detail = format!("{} orders, from {}; jobs of {raised} studies raised", orders.len(), from.address);
        batch.audit(&event(from, Action::OrderReceived, detail)).await?;
        batch.commit().await?;
        Ok(raised)
    }

    /// Notes merges, in the journal and for each study of the identity that goes in the audit log. Neither images nor results
    /// change.
    ///
    /// # Errors
    /// The journal's; then nothing was noted.
    pub async fn record_merges(&self, merges: &[Merge], from: &Sender) -> Result<u64, StoreError> {
        let mut batch = self.begin().await?;
        let mut concerned = 0;
        for merge in merges {
            sqlx::query(
                "INSERT INTO patient_merge (prior_id, prior_issuer, surviving_id, surviving_issuer, sender, \
                         control_id, received_ms) VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
            )
            .bind(&merge.prior.0)
            .bind(&merge.prior.1)
            .bind(&merge.surviving.0)
            .bind(&merge.surviving.1)
            .bind(&from.name)
            .bind(&from.control_id)
            .bind(now_ms())
            .execute(&mut *batch.transaction)
            .await?;
            let rows = sqlx::query(
                "SELECT study_instance_uid FROM study WHERE patient_id = ?1 AND (issuer_of_patient_id = ?2 \
                                    OR issuer_of_patient_id = '' OR ?2 = '') ORDER BY id LIMIT ?3",
            )
            .bind(&merge.prior.0)
            .bind(&merge.prior.1)
            .bind(ROWS_MAX)
            .fetch_all(&mut *batch.transaction)
            .await?;
            for row in &rows {
                let detail =
                    "its patient was merged into another; images and results keep the identity they have".into();
                let study_instance_uid = row.try_get("study_instance_uid")?;
                batch.audit(&Event { study_instance_uid, ..event(from, Action::MergeNoted, detail) }).await?;
            }
            concerned += rows.len() as u64;
        }
        let detail = format!("{} merges, from {}; {concerned} studies here", merges.len(), from.address);
        batch.audit(&event(from, Action::MergeNoted, detail)).await?;
        batch.commit().await?;
        Ok(concerned)
    }

    /// The order of a study: of several the most urgent, and of these the one that came last.
    ///
    /// # Errors
    /// The journal's.
    pub async fn order_of_study(&self, study_instance_uid: &str) -> Result<Option<OrderRow>, StoreError> {
        let query = sqlx::query(orders_of_study!("SELECT *", " ORDER BY cancelled, priority DESC, id DESC LIMIT 1"));
        let query = query.bind(study_instance_uid);
        Ok(query.fetch_optional(&self.pool).await?.as_ref().map(OrderRow::read).transpose()?)
    }

    /// Placer Order Number of the order of a study, with its namespace behind `^`: of one that names the study, or else of one with
    /// its accession number, where all studies with that number are of one patient: two systems may give the same number to two
    /// patients. Never that of a cancelled order, nor of one that names another study.
    ///
    /// # Errors
    /// The journal's.
    pub async fn placer_of_study(&self, study_instance_uid: &str) -> Result<Option<String>, StoreError> {
        let row = sqlx::query(
            "SELECT placer_order_number FROM imaging_order WHERE cancelled = 0 AND placer_order_number <> '' \
             AND study_instance_uid <> '' AND study_instance_uid = ?1 \
             UNION ALL SELECT * FROM (SELECT placer_order_number FROM imaging_order WHERE cancelled = 0 \
             AND placer_order_number <> '' AND study_instance_uid = '' AND accession_number <> '' AND accession_number = \
             (SELECT accession_number FROM study WHERE study_instance_uid = ?1) \
             AND (SELECT count(*) = 1 OR (count(DISTINCT patient_id || char(31) || issuer_of_patient_id) = 1 \
             AND min(patient_id) <> '') FROM study WHERE study.accession_number <> '' AND \
             study.accession_number = imaging_order.accession_number) \
             ORDER BY priority DESC, id DESC LIMIT 1) LIMIT 1",
        );
        let row = row.bind(study_instance_uid).fetch_optional(&self.pool).await?;
        Ok(row.map(|row| row.try_get("placer_order_number")).transpose()?)
    }
}

impl Batch {
    /// Where orders put a study; the lowest when there is none.
    pub(super) async fn priority_of_orders(&mut self, study_instance_uid: &str) -> Result<i64, StoreError> {
        let query = sqlx::query(orders_of_study!("SELECT max(priority) AS priority", "")).bind(study_instance_uid);
        let row = query.fetch_one(&mut *self.transaction).await?;
        Ok(row.try_get::<Option<i64>, _>("priority")?.unwrap_or(0))
    }

    /// Says of how many studies jobs were raised.
    async fn record_order(&mut self, order: &Order, from: &Sender) -> Result<u64, StoreError> {
        let known = self.known_orders(order).await?;
        for id in &known {
            sqlx::query(
                "UPDATE imaging_order SET priority = max(priority, ?2), \
                 accession_number = iif(?3 = '', accession_number, ?3), \
                 study_instance_uid = iif(?4 = '', study_instance_uid, ?4), \
                 filler_order_number = iif(?5 = '', filler_order_number, ?5), \
                 stated_priority = iif(?6 = '', stated_priority, ?6), reason = iif(?7 = '', reason, ?7), \
                 cancelled = ?8, sender = ?9, control_id = ?10, last_received_ms = ?11 WHERE id = ?1",
            )
            .bind(id)
            .bind(level(order.priority))
            .bind(&order.accession_number)
            .bind(&order.study_instance_uid)
            .bind(&order.filler)
            .bind(&order.stated_priority)
            .bind(&order.reason)
            .bind(order.cancelled)
            .bind(&from.name)
            .bind(&from.control_id)
            .bind(now_ms())
            .execute(&mut *self.transaction)
            .await?;
        }
        if known.is_empty() {
            sqlx::query(
                "INSERT INTO imaging_order (placer_order_number, filler_order_number, accession_number, study_instance_uid, \
                 priority, stated_priority, reason, cancelled, sender, control_id, first_received_ms, last_received_ms) \
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?11)",
            )
            .bind(&order.placer)
            .bind(&order.filler)
            .bind(&order.accession_number)
            .bind(&order.study_instance_uid)
            .bind(level(order.priority))
            .bind(&order.stated_priority)
            .bind(&order.reason)
            .bind(order.cancelled)
            .bind(&from.name)
            .bind(&from.control_id)
            .bind(now_ms())
            .execute(&mut *self.transaction)
            .await?;
        }
        self.raise(order, from).await
    }

    /// Rows that are this order: of its placer, with its accession number, or without one yet; all of its placer's where the message
    /// has none.
    async fn known_orders(&mut self, order: &Order) -> Result<Vec<i64>, StoreError> {
        let rows = sqlx::query(known_orders!(""))
            .bind(&order.placer)
            .bind(&order.accession_number)
            .bind(&order.study_instance_uid)
            .bind(ROWS_MAX)
            .fetch_all(&mut *self.transaction)
            .await?;
        Ok(rows.iter().map(|row| row.try_get("id")).collect::<Result<_, _>>()?)
    }

    /// Up, never down: to where all that was ordered of a study puts it, which may be more than this message says.
    async fn raise(&mut self, order: &Order, from: &Sender) -> Result<u64, StoreError> {
        let rows = sqlx::query(
            "SELECT DISTINCT study_instance_uid FROM job WHERE study_instance_uid IN (\
             SELECT study_instance_uid FROM study WHERE accession_number <> '' AND accession_number IN (\
             SELECT ?2 UNION SELECT accession_number FROM imaging_order WHERE placer_order_number = ?1 AND ?1 <> '') \
             UNION SELECT study_instance_uid FROM imaging_order WHERE placer_order_number = ?1 AND ?1 <> '' \
             UNION SELECT ?3) ORDER BY study_instance_uid",
        )
        .bind(&order.placer)
        .bind(&order.accession_number)
        .bind(&order.study_instance_uid)
        .fetch_all(&mut *self.transaction)
        .await?;
        let studies = rows.iter().map(|row| row.try_get::<String, _>("study_instance_uid"));
        let mut raised = 0;
        for study in studies.collect::<Result<Vec<_>, _>>()? {
            let priority = self.priority_of_orders(&study).await?;
            let jobs = sqlx::query("UPDATE job SET priority = ?1 WHERE priority < ?1 AND study_instance_uid = ?2")
                .bind(priority)
                .bind(&study)
                .execute(&mut *self.transaction)
                .await?;
            if jobs.rows_affected() == 0 {
                continue;
            }
            raised += 1;
            let urgency = super::jobs::urgency(priority);
            // What raises is a code that the site's configuration knows; of an earlier message it need not be the one stated last.
            let stated = if urgency == order.priority { order.stated_priority.as_str() } else { urgency.name() };
            self.reason(&study, &Reason::order(urgency, stated)).await?;
            sqlx::query(
                "UPDATE delivery SET priority = max(priority, ?) WHERE state IN ('held', 'queued') AND study_instance_uid = ?",
            )
            .bind(priority)
            .bind(&study)
            .execute(&mut *self.transaction)
            .await?;
            let detail = format!("its order says {}", urgency.name());
            self.audit(&Event { study_instance_uid: study, ..event(from, Action::JobsRaised, detail) }).await?;
        }
        Ok(raised)
    }
}

impl OrderRow {
    fn read(row: &SqliteRow) -> Result<Self, sqlx::Error> {
        Ok(Self {
            placer_order_number: row.try_get("placer_order_number")?,
            accession_number: row.try_get("accession_number")?,
            priority: super::jobs::urgency(row.try_get("priority")?),
            stated_priority: row.try_get("stated_priority")?,
            reason: row.try_get("reason")?,
            cancelled: row.try_get("cancelled")?,
            first_received_ms: row.try_get("first_received_ms")?,
        })
    }
}

fn event(from: &Sender, action: Action, detail: String) -> Event {
    let (object, correlation) = (from.control_id.clone(), from.correlation.clone());
    Event { object, detail, correlation, ..Event::new(&from.name, action) }
}

#[cfg(test)]
mod tests;
