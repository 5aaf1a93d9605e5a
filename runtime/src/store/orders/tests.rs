//! What orders do to jobs, whose they are, and how long they are kept.

use super::*;
use crate::store::{NewJob, Routed};

const STUDIES: &str = "
    WITH s (n, patient, issuer, accession) AS (VALUES (1, 'P1', 'A', 'ACC1'), (2, 'P1', '', 'ACC2'), (3, 'P1', 'B', ''),
        (4, 'P2', 'A', 'ACC1'))
        INSERT INTO study SELECT n, '2.25.' || n, patient, issuer, '', '', '', '20240301', '', accession, '', '', '', NULL,
        NULL, n, n FROM s;
";

fn sender() -> Sender {
    Sender { name: "RIS|HOSP".into(), control_id: "42".into(), address: "192.0.2.1".into(), correlation: "c".into() }
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
    store.record_orders(orders, &sender(), 90).await.expect("recorded").raised
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
    let rows = sqlx::query("SELECT state, priority FROM delivery WHERE study_instance_uid = '2.25.3' ORDER BY state");
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
async fn an_order_of_another_patient_is_nothing_to_a_study_with_its_accession_number() {
    let (_folder, store) = journal().await;
    for uid in ["2.25.1", "2.25.4"] {
        route(&store, uid, 1).await;
    }
    let of = |placer: &str, patient: &str| {
        let patients = vec![(patient.to_owned(), "A".to_owned())];
        Order { patients, ..order(placer, "ACC1", Urgency::Urgent) }
    };
    let record = async |order| store.record_orders(&[order], &sender(), 90).await.expect("recorded");
    assert_eq!(record(of("1", "P1")).await, Ordered { raised: 1, of_others: 1 });
    assert_eq!(priority(&store, "2.25.1", 1).await, Urgency::Urgent);
    assert_eq!(priority(&store, "2.25.4", 1).await, Urgency::Routine, "P2 has the same accession number");
    route(&store, "2.25.4", 2).await;
    assert_eq!(priority(&store, "2.25.4", 2).await, Urgency::Routine, "nor what is routed later");
    assert!(store.order_of_study("2.25.4").await.expect("read").is_none());
    assert_eq!(store.placer_of_study("2.25.4").await.expect("read"), None);
    let rows = store.audit_latest(Some("2.25.4"), 100).await.expect("a log");
    let told: Vec<_> = rows.iter().filter(|row| row.action == "order-of-another").map(|row| &row.who).collect();
    assert_eq!(told, ["RIS|HOSP", "gantry"], "when it came, and when the study was routed");
    let rows = store.audit_latest(Some("2.25.1"), 100).await.expect("a log");
    assert!(rows.iter().all(|row| row.action != "order-of-another"), "{rows:?}");

    // One that names the study is about it, whoever is in PID.
    let named = Order { study_instance_uid: "2.25.4".into(), ..of("2", "P1") };
    assert_eq!(record(named).await.raised, 1);
    assert_eq!(priority(&store, "2.25.4", 2).await, Urgency::Urgent);
}

/// Of a system that states no placer's number.
fn of_patient(patient: &str, priority: Urgency) -> Order {
    Order { patients: vec![(patient.to_owned(), "A".to_owned())], ..order("", "ACC1", priority) }
}

#[tokio::test]
async fn two_patients_orders_with_one_accession_number_and_no_placer_are_two() {
    let (_folder, store) = journal().await;
    told(&store, &[of_patient("P1", Urgency::Urgent)]).await;
    told(&store, &[of_patient("P2", Urgency::Routine)]).await;
    for uid in ["2.25.1", "2.25.4"] {
        route(&store, uid, 1).await;
    }
    assert_eq!(priority(&store, "2.25.1", 1).await, Urgency::Urgent, "the other order took nothing from it");
    assert_eq!(priority(&store, "2.25.4", 1).await, Urgency::Routine, "nor was given anything");
    told(&store, &[Order { cancelled: true, ..of_patient("P2", Urgency::Routine) }]).await;
    let cancelled = async |uid: &str| store.order_of_study(uid).await.expect("read").expect("an order").cancelled;
    assert!(!cancelled("2.25.1").await && cancelled("2.25.4").await);
    // Whoever was merged since is the same.
    let merge = Merge { surviving: ("NEW".into(), "A".into()), prior: ("P1".into(), "A".into()) };
    store.record_merges(&[merge], &sender(), 365).await.expect("noted");
    told(&store, &[Order { cancelled: true, ..of_patient("NEW", Urgency::Routine) }]).await;
    assert!(cancelled("2.25.1").await);
    let row = sqlx::query("SELECT count(*) AS n FROM imaging_order").fetch_one(&store.pool).await.expect("read");
    assert_eq!(row.get::<i64, _>("n"), 2);
}

#[tokio::test]
async fn many_orders_of_a_message_raise_a_study_and_tell_of_it_once() {
    let (_folder, store) = journal().await;
    for uid in ["2.25.1", "2.25.4"] {
        route(&store, uid, 1).await;
    }
    let many = |priority| (0..50).map(move |n| Order { placer: n.to_string(), ..of_patient("P1", priority) });
    let orders: Vec<_> = many(Urgency::Prompt).chain(many(Urgency::Urgent)).collect();
    let recorded = store.record_orders(&orders, &sender(), 90).await.expect("recorded");
    assert_eq!(recorded, Ordered { raised: 1, of_others: 1 });
    assert_eq!(priority(&store, "2.25.1", 1).await, Urgency::Urgent);
    let rows = store.audit_latest(None, 1000).await.expect("a log");
    for action in ["jobs-raised", "order-of-another", "order-received"] {
        assert_eq!(rows.iter().filter(|row| row.action == action).count(), 1, "{action}");
    }
}

#[tokio::test]
async fn an_mrn_beside_pid_3_is_the_patients() {
    let (_folder, store) = journal().await;
    let his = Order { patients: vec![("HIS9".into(), String::new())], ..order("1", "ACC2", Urgency::Urgent) };
    assert_eq!(store.record_orders(std::slice::from_ref(&his), &sender(), 90).await.expect("recorded").of_others, 1);
    route(&store, "2.25.2", 1).await;
    assert_eq!(priority(&store, "2.25.2", 1).await, Urgency::Routine, "of another");
    let mrn = Order { other_ids: vec![("P1".into(), String::new())], ..his };
    assert_eq!(
        store.record_orders(&[mrn], &sender(), 90).await.expect("recorded"),
        Ordered { raised: 1, of_others: 0 }
    );
    assert_eq!(priority(&store, "2.25.2", 1).await, Urgency::Urgent);
}

#[tokio::test]
async fn an_order_of_the_identity_that_a_patient_has_since_a_merge_is_the_patients() {
    let (_folder, store) = journal().await;
    route(&store, "2.25.2", 1).await;
    let patients = vec![("NEW".to_owned(), "A".to_owned())];
    let order = Order { patients, ..order("1", "ACC2", Urgency::Urgent) };
    assert_eq!(told(&store, std::slice::from_ref(&order)).await, 0);
    assert_eq!(priority(&store, "2.25.2", 1).await, Urgency::Routine);
    let merge = Merge { surviving: ("NEW".into(), "A".into()), prior: ("P1".into(), "A".into()) };
    store.record_merges(&[merge], &sender(), 365).await.expect("noted");
    assert_eq!(told(&store, &[order]).await, 1);
    assert_eq!(priority(&store, "2.25.2", 1).await, Urgency::Urgent);
}

#[tokio::test]
async fn a_merge_is_noted_for_each_study_and_changes_none() {
    let (_folder, store) = journal().await;
    let merge = Merge { surviving: ("P9".into(), "A".into()), prior: ("P1".into(), "A".into()) };
    for _ in 0..2 {
        assert_eq!(store.record_merges(std::slice::from_ref(&merge), &sender(), 365).await.expect("noted"), 2);
    }
    let rows = store.audit_latest(Some("2.25.1"), 10).await.expect("a log");
    assert!(rows.iter().all(|row| row.action == "merge-noted"), "{rows:?}");
    assert!(store.audit_latest(Some("2.25.3"), 10).await.expect("a log").is_empty(), "another issuer's");
    assert!(!rows.iter().any(|row| format!("{row:?}").contains("P9")), "{rows:?}");
    let key = store.prior_key("2.25.1").await.expect("read").expect("known");
    assert_eq!(key.patient.id, "P1", "images keep the identity that they have");
}

#[tokio::test]
async fn merges_that_are_old_go() {
    let (_folder, store) = journal().await;
    let merge = |id: &str| Merge { surviving: ("P9".into(), "A".into()), prior: (id.into(), "A".into()) };
    let kept = async || {
        let rows = sqlx::query("SELECT prior_id FROM patient_merge ORDER BY id").fetch_all(&store.pool).await;
        rows.expect("read").iter().map(|row| row.get("prior_id")).collect::<Vec<String>>()
    };
    for id in ["P1", "P2"] {
        store.record_merges(&[merge(id)], &sender(), 365).await.expect("noted");
    }
    store.tamper("UPDATE patient_merge SET received_ms = received_ms - 366 * 86400000").await;
    store.record_merges(&[merge("P2")], &sender(), 365).await.expect("noted");
    assert_eq!(kept().await, ["P2"], "told again");
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
