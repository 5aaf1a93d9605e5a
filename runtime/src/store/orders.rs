//! Orders and merges that others told of (HL7 v2), and what an order does to jobs: it raises those of its study, whichever
//! comes first, and lowers none.

use std::collections::{BTreeMap, BTreeSet};

use sqlx::sqlite::SqliteRow;
use sqlx::{Row, SqliteConnection};

use super::jobs::level;
use super::{Batch, Store, StoreError, now_ms, whose};
use crate::audit::{Action, Event};
use crate::findings::Urgency;
use crate::messages::hl7::order::{Merge, Order};
use crate::worklist::Reason;

/// Studies that one message may name.
const STUDIES_MAX: u32 = 1000;
/// Rows of orders that are looked at for one order or study.
const ORDERS_MAX: u32 = 100;
/// Old orders that go with each message.
const OLD_MAX: u32 = 100;

const DAY_MS: i64 = 86_400_000;

/// What becomes of an order with a study's accession number and another patient.
pub(super) const OF_ANOTHER: &str =
    "an order with its accession number names another patient (PID-3) than its images: it does not raise it";

/// What a message of orders did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ordered {
    /// Of how many studies jobs were raised.
    pub raised: u64,
    /// How many studies have an accession number of these orders, and another patient.
    pub of_others: u64,
}

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
    /// Study Instance UID; or empty.
    pub study_instance_uid: String,
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

/// Orders of a study: by its UID, or by its accession number, whoever they are for.
const ORDERS: &str = "SELECT * FROM imaging_order WHERE (study_instance_uid <> '' AND study_instance_uid = ?1) \
                      OR (accession_number <> '' AND accession_number = \
                      (SELECT accession_number FROM study WHERE study_instance_uid = ?1)) \
                      ORDER BY cancelled, priority DESC, id DESC LIMIT ?2";

/// Rows of an order, by placer, accession number and study. Each arm has an index: of those without a placer, only what it names is read.
macro_rules! known_orders {
    ($before:literal) => {
        concat!(
            $before,
            "SELECT id, accession_number, study_instance_uid, patients FROM imaging_order WHERE placer_order_number = ?1 AND accession_number = ?2 AND (?1 <> '' OR ?2 <> '') ",
            "UNION SELECT id, accession_number, study_instance_uid, patients FROM imaging_order WHERE placer_order_number = ?1 AND ?1 <> '' AND ?2 = '' ",
            "UNION SELECT id, accession_number, study_instance_uid, patients FROM imaging_order WHERE placer_order_number = ?1 AND accession_number = '' AND ?1 <> '' ",
            "UNION SELECT id, accession_number, study_instance_uid, patients FROM imaging_order WHERE study_instance_uid = ?3 AND study_instance_uid <> '' AND ?1 = '' ",
            "AND ?2 = '' AND placer_order_number = '' AND accession_number = '' ORDER BY id LIMIT ?4",
        )
    };
}

impl Store {
    /// Records what a message ordered, raises the jobs of its studies, and lets go of orders older than this.
    ///
    /// # Errors
    /// The journal's; then nothing was recorded.
    pub async fn record_orders(&self, orders: &[Order], from: &Sender, days: u64) -> Result<Ordered, StoreError> {
        let mut batch = self.begin().await?;
        let mut told = Ways::default();
        for order in orders {
            batch.record_order(order, from, &mut told).await?;
        }
        // Once, however many of its orders lead to a study.
        let raised = batch.raise(told, from).await?;
        let of_others = batch.tell_others(orders, from).await?;
        let old =
            "DELETE FROM imaging_order WHERE id IN (SELECT id FROM imaging_order WHERE last_received_ms < ? LIMIT ?)";
        batch.let_go(old, days).await?;
        let detail = format!("{} orders, from {}; jobs of {raised} studies raised", orders.len(), from.address);
        batch.audit(&event(from, Action::OrderReceived, detail)).await?;
        batch.commit().await?;
        Ok(Ordered { raised, of_others })
    }

    /// Notes merges, in the journal and for each study of the identity that goes in the audit log, and lets go of those older than
    /// this. Neither images nor results change. Says how many studies that are.
    ///
    /// # Errors
    /// The journal's; then nothing was noted.
    pub async fn record_merges(&self, merges: &[Merge], from: &Sender, days: u64) -> Result<u64, StoreError> {
        let mut batch = self.begin().await?;
        let mut concerned = 0;
        for merge in merges {
            sqlx::query(
                "INSERT INTO patient_merge (prior_id, prior_issuer, surviving_id, surviving_issuer, sender, \
                         control_id, received_ms) VALUES (?, ?, ?, ?, ?, ?, ?) \
                         ON CONFLICT DO UPDATE SET received_ms = excluded.received_ms",
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
            .bind(STUDIES_MAX)
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
        let old = "DELETE FROM patient_merge WHERE id IN (SELECT id FROM patient_merge WHERE received_ms < ? LIMIT ?)";
        batch.let_go(old, days).await?;
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
        let mut connection = self.pool.acquire().await?;
        Ok(orders_of_study(&mut connection, study_instance_uid).await?.0.into_iter().next())
    }

    /// Placer Order Number of the order of a study, with its namespace behind `^`: of one that names the study, or else of one with
    /// its accession number and of its patient, where all studies with that number are of one patient: two systems may give the same
    /// number to two patients. Never that of a cancelled order, nor of one that names another study.
    ///
    /// # Errors
    /// The journal's.
    pub async fn placer_of_study(&self, study_instance_uid: &str) -> Result<Option<String>, StoreError> {
        let mut connection = self.pool.acquire().await?;
        let (orders, _) = orders_of_study(&mut connection, study_instance_uid).await?;
        let with_number = || orders.iter().filter(|order| !order.cancelled && !order.placer_order_number.is_empty());
        if let Some(order) = with_number().find(|order| order.study_instance_uid == study_instance_uid) {
            return Ok(Some(order.placer_order_number.clone()));
        }
        let Some(order) = with_number().find(|order| order.study_instance_uid.is_empty()) else { return Ok(None) };
        let row = sqlx::query(
            "SELECT count(*) = 1 OR (count(DISTINCT patient_id || char(31) || issuer_of_patient_id) = 1 \
             AND min(patient_id) <> '') AS one FROM study WHERE accession_number <> '' AND accession_number = ?",
        );
        let row = row.bind(&order.accession_number).fetch_one(&mut *connection).await?;
        Ok(row.try_get::<bool, _>("one")?.then(|| order.placer_order_number.clone()))
    }
}

/// Before this, what is kept for so many days is old.
fn before(days: u64) -> i64 {
    now_ms().saturating_sub(i64::try_from(days).unwrap_or(i64::MAX).saturating_mul(DAY_MS))
}

/// Orders of a study, those that are not cancelled first, of these the most urgent, and of these the one that came last. How many more
/// have its accession number and name another patient: they are none of its.
async fn orders_of_study(
    connection: &mut SqliteConnection,
    study_instance_uid: &str,
) -> Result<(Vec<OrderRow>, usize), StoreError> {
    let rows = sqlx::query(ORDERS).bind(study_instance_uid).bind(ORDERS_MAX).fetch_all(&mut *connection).await?;
    if rows.is_empty() {
        return Ok((Vec::new(), 0));
    }
    let patient = whose::identities_of_study(connection, study_instance_uid).await?;
    let mut orders = Vec::new();
    for row in &rows {
        let order = OrderRow::read(row)?;
        if order.study_instance_uid == study_instance_uid || whose::Ordered::read(row)?.may_be(&patient) {
            orders.push(order);
        }
    }
    let of_others = rows.len() - orders.len();
    Ok((orders, of_others))
}

impl Batch {
    /// Where orders put a study; the lowest when there is none. And how many are another patient's.
    pub(super) async fn priority_of_orders(&mut self, study_instance_uid: &str) -> Result<(i64, usize), StoreError> {
        let (orders, of_others) = orders_of_study(&mut self.transaction, study_instance_uid).await?;
        let highest = orders.iter().map(|order| level(order.priority)).max();
        Ok((highest.unwrap_or(0), of_others))
    }

    /// Deletes what is older than so many days, and at most [`OLD_MAX`] rows of it.
    async fn let_go(&mut self, old: &'static str, days: u64) -> Result<(), StoreError> {
        sqlx::query(old).bind(before(days)).bind(OLD_MAX).execute(&mut *self.transaction).await?;
        Ok(())
    }

    /// Has the audit log say of which studies with their accession numbers orders name another patient, once; how many those are. One
    /// that an order names is about it.
    async fn tell_others(&mut self, orders: &[Order], from: &Sender) -> Result<u64, StoreError> {
        let named: BTreeSet<&str> = orders.iter().map(|order| order.study_instance_uid.as_str()).collect();
        // The same patient's are asked about once.
        let mut asked = BTreeSet::new();
        let mut others = BTreeSet::new();
        for order in orders {
            let whose = whose::Ordered::of(order);
            if order.patients.is_empty()
                || order.accession_number.is_empty()
                || !asked.insert((order.accession_number.as_str(), whose.written()))
            {
                continue;
            }
            let rows = sqlx::query(
                "SELECT study_instance_uid FROM study WHERE accession_number <> '' AND accession_number = ? ORDER BY id LIMIT ?",
            );
            let rows = rows.bind(&order.accession_number).bind(STUDIES_MAX).fetch_all(&mut *self.transaction).await?;
            for row in &rows {
                let study: String = row.try_get("study_instance_uid")?;
                if named.contains(study.as_str()) {
                    continue;
                }
                let patient = whose::identities_of_study(&mut self.transaction, &study).await?;
                if !whose.may_be(&patient) {
                    others.insert(study);
                }
            }
        }
        let count = others.len() as u64;
        for study_instance_uid in others {
            let event = event(from, Action::OrderOfAnother, OF_ANOTHER.into());
            self.audit(&Event { study_instance_uid, ..event }).await?;
        }
        Ok(count)
    }

    /// And adds to where the message's orders lead.
    async fn record_order(&mut self, order: &Order, from: &Sender, ways: &mut Ways) -> Result<(), StoreError> {
        let known = self.known_orders(order).await?;
        let patients = whose::Ordered::of(order).written();
        ways.add(order, &order.accession_number, &order.study_instance_uid);
        for (id, accession_number, study_instance_uid) in &known {
            ways.add(order, accession_number, study_instance_uid);
            sqlx::query(
                "UPDATE imaging_order SET priority = max(priority, ?2), \
                 accession_number = iif(?3 = '', accession_number, ?3), \
                 study_instance_uid = iif(?4 = '', study_instance_uid, ?4), \
                 filler_order_number = iif(?5 = '', filler_order_number, ?5), \
                 stated_priority = iif(?6 = '', stated_priority, ?6), reason = iif(?7 = '', reason, ?7), \
                 cancelled = ?8, sender = ?9, control_id = ?10, last_received_ms = ?11, \
                 patients = iif(?12 = '', patients, ?12) WHERE id = ?1",
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
            .bind(&patients)
            .execute(&mut *self.transaction)
            .await?;
        }
        if known.is_empty() {
            sqlx::query(
                "INSERT INTO imaging_order (placer_order_number, filler_order_number, accession_number, study_instance_uid, \
                 priority, stated_priority, reason, cancelled, sender, control_id, first_received_ms, last_received_ms, \
                 patients) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?11, ?12)",
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
            .bind(&patients)
            .execute(&mut *self.transaction)
            .await?;
        }
        Ok(())
    }

    /// Rows that are this order, with accession number and study: of its placer, with its accession number, or without one yet; all of
    /// its placer's where the message has none. Never another patient's: without a placer, two may have one accession number.
    async fn known_orders(&mut self, order: &Order) -> Result<Vec<(i64, String, String)>, StoreError> {
        let rows = sqlx::query(known_orders!(""))
            .bind(&order.placer)
            .bind(&order.accession_number)
            .bind(&order.study_instance_uid)
            .bind(ORDERS_MAX)
            .fetch_all(&mut *self.transaction)
            .await?;
        let mut merged = None;
        let mut known = Vec::new();
        for row in &rows {
            let whose = whose::Ordered::read(row)?;
            if !whose.may_be(&order.patients) {
                if merged.is_none() {
                    merged = Some(whose::identities(&mut self.transaction, &order.patients).await?);
                }
                if !merged.as_ref().is_some_and(|patient| whose.may_be(patient)) {
                    continue;
                }
            }
            known.push((row.try_get("id")?, row.try_get("accession_number")?, row.try_get("study_instance_uid")?));
        }
        Ok(known)
    }

    /// Studies with jobs to which the orders of a message lead, each with what they stated.
    async fn led_to(&mut self, ways: Ways) -> Result<BTreeMap<String, Stated>, StoreError> {
        let mut studies: BTreeMap<String, Stated> = BTreeMap::new();
        for (accession_number, stated) in &ways.accession_numbers {
            let rows = sqlx::query(
                "SELECT DISTINCT study_instance_uid FROM job WHERE study_instance_uid IN (SELECT study_instance_uid \
                 FROM study WHERE accession_number <> '' AND accession_number = ?)",
            );
            for row in rows.bind(accession_number).fetch_all(&mut *self.transaction).await? {
                studies.entry(row.try_get("study_instance_uid")?).or_default().extend(stated.clone());
            }
        }
        for (study_instance_uid, stated) in ways.studies {
            let row = sqlx::query("SELECT 1 FROM job WHERE study_instance_uid = ? LIMIT 1").bind(&study_instance_uid);
            if row.fetch_optional(&mut *self.transaction).await?.is_some() {
                studies.entry(study_instance_uid).or_default().extend(stated);
            }
        }
        Ok(studies)
    }

    /// Up, never down: to where all that was ordered of a study puts it, which may be more than this message says. Says of how many
    /// studies jobs were raised.
    async fn raise(&mut self, ways: Ways, from: &Sender) -> Result<u64, StoreError> {
        let mut raised = 0;
        for (study, stated) in self.led_to(ways).await? {
            let (priority, _) = self.priority_of_orders(&study).await?;
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
            let stated = stated.get(&priority).map_or(urgency.name(), String::as_str);
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

/// What orders stated for each priority.
type Stated = BTreeMap<i64, String>;

/// To which accession numbers and studies the orders of a message lead.
#[derive(Default)]
struct Ways {
    accession_numbers: BTreeMap<String, Stated>,
    studies: BTreeMap<String, Stated>,
}

impl Ways {
    fn add(&mut self, order: &Order, accession_number: &str, study_instance_uid: &str) {
        let to = |ways: &mut BTreeMap<String, Stated>, name: &str| {
            if !name.is_empty() {
                ways.entry(name.to_owned()).or_default().insert(level(order.priority), order.stated_priority.clone());
            }
        };
        to(&mut self.accession_numbers, accession_number);
        to(&mut self.studies, study_instance_uid);
    }
}

impl OrderRow {
    fn read(row: &SqliteRow) -> Result<Self, sqlx::Error> {
        Ok(Self {
            placer_order_number: row.try_get("placer_order_number")?,
            accession_number: row.try_get("accession_number")?,
            study_instance_uid: row.try_get("study_instance_uid")?,
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
