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
mod tests {
    use super::*;
    use crate::store::{NewJob, Routed};

    const STUDIES: &str = "
        WITH s (n, patient, issuer, accession) AS (VALUES (1, 'P1', 'A', 'ACC1'), (2, 'P1', '', 'ACC2'), (3, 'P1', 'B', ''),
            (4, 'P2', 'A', 'ACC1'))
            INSERT INTO study SELECT n, '2.25.' || n, patient, issuer, '', '', '', '20240301', '', accession, '', '', '', NULL,
            NULL, n, n FROM s;
    ";

    fn sender() -> Sender {
        Sender {
            name: "RIS|HOSP".into(),
            control_id: "42".into(),
            address: "192.0.2.1".into(),
            correlation: "c".into(),
        }
    }

    fn order(placer: &str, accession: &str, priority: Urgency) -> Order {
        Order { placer: placer.into(), accession_number: accession.into(), priority, ..Order::default() }
    }

    async fn route(store: &Store, uid: &str, version: u32) {
        let routed = Routed {
            study_instance_uid: uid.into(),
            study_version: version,
            routed_ms: 1,
            outcome: "jobs".into(),
            detail: String::new(),
            last_instance: 0,
        };
        let job = NewJob { module: "m".into(), identity: [1; 32], gated: false, priority: Urgency::Routine };
        assert!(store.route(&routed, "c", &[job]).await.expect("routed"));
    }

    async fn priority(store: &Store, uid: &str, version: u32) -> Urgency {
        store.jobs_of_version(uid, version).await.expect("jobs")[0].priority
    }

    async fn told(store: &Store, orders: &[Order]) -> u64 {
        store.record_orders(orders, &sender(), 90).await.expect("recorded")
    }

    async fn journal() -> (tempfile::TempDir, Store) {
        let folder = tempfile::tempdir().expect("a folder");
        let store = Store::open(folder.path()).await.expect("a journal");
        store.tamper(STUDIES).await;
        (folder, store)
    }

    #[tokio::test]
    async fn an_order_raises_the_jobs_of_its_studies_whichever_comes_first_and_lowers_none() {
        let (_folder, store) = journal().await;
        route(&store, "2.25.1", 1).await;
        route(&store, "2.25.2", 1).await;
        assert_eq!(told(&store, &[order("1", "ACC1", Urgency::Urgent)]).await, 1, "the study that is there");
        assert_eq!(priority(&store, "2.25.1", 1).await, Urgency::Urgent);
        assert_eq!(priority(&store, "2.25.2", 1).await, Urgency::Routine, "another accession number");
        route(&store, "2.25.4", 1).await;
        assert_eq!(priority(&store, "2.25.4", 1).await, Urgency::Urgent, "the order was there first");

        assert_eq!(told(&store, &[order("1", "ACC1", Urgency::Routine)]).await, 0);
        let cancelled = Order { cancelled: true, ..order("1", "ACC1", Urgency::Routine) };
        assert_eq!(told(&store, &[cancelled]).await, 0);
        assert_eq!(priority(&store, "2.25.1", 1).await, Urgency::Urgent, "nothing lowers");
        route(&store, "2.25.1", 2).await;
        assert_eq!(priority(&store, "2.25.1", 2).await, Urgency::Urgent, "nor a later version");
        let raised = store.audit_latest(Some("2.25.1"), 100).await.expect("a log");
        let raised: Vec<_> = raised.iter().filter(|row| row.action == "jobs-raised").map(|row| &row.detail).collect();
        assert_eq!(raised, ["its order says urgent"]);
        assert!(store.audit_latest(None, 100).await.expect("a log").iter().all(|row| !row.detail.contains("ACC1")));
    }

    #[tokio::test]
    async fn an_order_finds_its_study_by_uid_and_by_what_its_placer_said_before() {
        let (_folder, store) = journal().await;
        route(&store, "2.25.3", 1).await;
        let by_uid = Order { study_instance_uid: "2.25.3".into(), ..order("", "", Urgency::Prompt) };
        assert_eq!(told(&store, &[by_uid.clone(), by_uid]).await, 1);
        assert_eq!(priority(&store, "2.25.3", 1).await, Urgency::Prompt);

        // The number comes when the filler has given it; then the placer says that it is urgent, and does not repeat it.
        told(&store, &[order("7", "", Urgency::Routine)]).await;
        told(&store, &[Order { reason: "fall".into(), ..order("7", "ACC2", Urgency::Routine) }]).await;
        route(&store, "2.25.2", 1).await;
        assert_eq!(told(&store, &[order("7", "", Urgency::Critical)]).await, 1);
        assert_eq!(priority(&store, "2.25.2", 1).await, Urgency::Critical);
        let known = store.order_of_study("2.25.2").await.expect("read").expect("an order");
        assert_eq!(
            (known.placer_order_number.as_str(), known.priority, known.reason.as_str()),
            ("7", Urgency::Critical, "fall")
        );
        assert!(store.order_of_study("2.25.4").await.expect("read").is_none());
    }

    #[tokio::test]
    async fn an_order_without_a_number_is_nobody_elses() {
        let (_folder, store) = journal().await;
        route(&store, "2.25.3", 1).await;
        told(&store, &[order("9", "", Urgency::Critical)]).await;
        assert_eq!(priority(&store, "2.25.3", 1).await, Urgency::Routine, "neither has an accession number");
        assert!(store.order_of_study("2.25.3").await.expect("read").is_none());
    }

    #[tokio::test]
    async fn a_study_is_raised_to_where_its_order_stands_also_by_a_message_that_says_less() {
        let (_folder, store) = journal().await;
        for uid in ["2.25.1", "2.25.2", "2.25.3"] {
            route(&store, uid, 1).await;
        }
        store
            .tamper(
                "INSERT INTO delivery (job, study_instance_uid, destination, state, priority, since_ms, created_ms, \
                 result_sha256) SELECT id, study_instance_uid, column1, column1, 0, 1, 1, x'00' FROM job, \
                 (VALUES ('held'), ('queued'), ('sent'))",
            )
            .await;
        told(&store, &[order("7", "", Urgency::Critical)]).await;
        let names = Order { study_instance_uid: "2.25.3".into(), ..order("7", "", Urgency::Routine) };
        assert_eq!(told(&store, std::slice::from_ref(&names)).await, 1, "the placer said before that it is critical");
        assert_eq!(priority(&store, "2.25.3", 1).await, Urgency::Critical);
        let rows =
            sqlx::query("SELECT state, priority FROM delivery WHERE study_instance_uid = '2.25.3' ORDER BY state");
        let rows = rows.fetch_all(&store.pool).await.expect("read");
        let rows: Vec<(String, i64)> = rows.iter().map(|row| (row.get("state"), row.get("priority"))).collect();
        assert_eq!(rows, [("held".into(), 3), ("queued".into(), 3), ("sent".into(), 0)]);
        assert_eq!(told(&store, &[names]).await, 0, "once");

        // One request with a study that is urgent, and one that is not.
        told(&store, &[order("8", "ACC1", Urgency::Urgent), order("8", "ACC2", Urgency::Routine)]).await;
        assert_eq!(priority(&store, "2.25.1", 1).await, Urgency::Urgent);
        assert_eq!(priority(&store, "2.25.2", 1).await, Urgency::Routine, "another order of the placer");
    }

    #[tokio::test]
    async fn an_order_is_known_to_the_journal_for_a_job_that_runs() {
        let (_folder, store) = journal().await;
        route(&store, "2.25.1", 1).await;
        let job = store.claim(crate::store::Due::now(0), Urgency::Routine).await.expect("read").expect("a job");
        assert_eq!(store.running_priorities().await.expect("read"), [(job.id, Urgency::Routine)]);
        told(&store, &[order("1", "ACC1", Urgency::Critical)]).await;
        assert_eq!(store.running_priorities().await.expect("read"), [(job.id, Urgency::Critical)]);
    }

    #[tokio::test]
    async fn orders_are_looked_up_and_none_is_searched_for() {
        let (_folder, store) = journal().await;
        let plan = sqlx::query(known_orders!("EXPLAIN QUERY PLAN ")).bind("").bind("ACC1").bind("").bind(1);
        let plan = plan.fetch_all(&store.pool).await.expect("a plan");
        let plan: Vec<String> = plan.iter().map(|row| row.get("detail")).collect();
        let tables: Vec<_> = plan.iter().filter(|step| step.contains("imaging_order")).collect();
        assert!(tables.len() == 4 && tables.iter().all(|step| step.starts_with("SEARCH")), "{plan:#?}");
        let exact = "imaging_order_placer (placer_order_number=? AND accession_number=?)";
        assert!(tables.iter().any(|step| step.contains(exact)), "{plan:#?}");
    }

    #[tokio::test]
    async fn a_placers_number_is_told_only_where_it_cannot_be_another_patients() {
        let (_folder, store) = journal().await;
        let placer = async |uid: &str| store.placer_of_study(uid).await.expect("read");
        told(&store, &[order("1", "ACC1", Urgency::Urgent), order("2", "ACC2", Urgency::Routine)]).await;
        assert_eq!(placer("2.25.1").await, None, "two patients have studies with this accession number");
        assert_eq!(placer("2.25.2").await.as_deref(), Some("2"));
        assert_eq!(placer("2.25.3").await, None, "nobody ordered it");

        let names = Order { study_instance_uid: "2.25.4".into(), ..order("3", "ACC1", Urgency::Routine) };
        told(&store, &[names]).await;
        assert_eq!(placer("2.25.4").await.as_deref(), Some("3"), "the order names the study");
        assert_eq!(placer("2.25.1").await, None, "and not this one");
        store.tamper("UPDATE study SET patient_id = 'P1', issuer_of_patient_id = 'A'").await;
        assert_eq!(placer("2.25.1").await.as_deref(), Some("1"), "all are one patient's");
        assert_eq!(placer("2.25.4").await.as_deref(), Some("3"), "the one that names it goes before");
        store.tamper("UPDATE study SET issuer_of_patient_id = '' WHERE study_instance_uid = '2.25.4'").await;
        assert_eq!(placer("2.25.1").await, None, "whose ID it is, nobody says");
        store.tamper("UPDATE study SET patient_id = '', issuer_of_patient_id = ''").await;
        assert_eq!(placer("2.25.1").await, None, "nobody's are not one patient's");

        let cancelled = Order { cancelled: true, ..order("2", "ACC2", Urgency::Critical) };
        told(&store, &[cancelled]).await;
        assert_eq!(placer("2.25.2").await, None);
        let cancelled = Order { cancelled: true, ..order("3", "ACC1", Urgency::Routine) };
        told(&store, &[cancelled]).await;
        assert_eq!(placer("2.25.4").await, None);
    }

    #[tokio::test]
    async fn a_merge_is_noted_for_each_study_and_changes_none() {
        let (_folder, store) = journal().await;
        let merge = Merge { surviving: ("P9".into(), "A".into()), prior: ("P1".into(), "A".into()) };
        for _ in 0..2 {
            assert_eq!(store.record_merges(std::slice::from_ref(&merge), &sender()).await.expect("noted"), 2);
        }
        let rows = store.audit_latest(Some("2.25.1"), 10).await.expect("a log");
        assert!(rows.iter().all(|row| row.action == "merge-noted"), "{rows:?}");
        assert!(store.audit_latest(Some("2.25.3"), 10).await.expect("a log").is_empty(), "another issuer's");
        assert!(!rows.iter().any(|row| format!("{row:?}").contains("P9")), "{rows:?}");
        let key = store.prior_key("2.25.1").await.expect("read").expect("known");
        assert_eq!(key.patient.id, "P1", "images keep the identity that they have");
    }

    #[tokio::test]
    async fn orders_that_are_old_go() {
        let (_folder, store) = journal().await;
        told(&store, &[order("1", "ACC1", Urgency::Urgent)]).await;
        store.tamper("UPDATE imaging_order SET last_received_ms = 1").await;
        told(&store, &[order("2", "ACC2", Urgency::Routine)]).await;
        assert!(store.order_of_study("2.25.1").await.expect("read").is_none());
        assert!(store.order_of_study("2.25.2").await.expect("read").is_some());
    }
}
