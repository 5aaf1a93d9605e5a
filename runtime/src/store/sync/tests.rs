use sqlx::Row;

use super::due::{DUE, DUE_LATEST};
use super::parts::ROWS_AT_ONCE;
use super::*;
use crate::config::Release;
use crate::store::{Done, Due, Ending, HeldKind, HeldObject, NewJob, NewVerdict, Routed, Store, ToHold, now_ms};

/// A study that was sent, one that an archive gave as an earlier one, and one that is open.
const STUDIES: &str = "
    WITH n (id, via, received) AS (VALUES (1, 'dimse', 2000), (2, 'pacs', 2000), (3, 'dimse', 2000)) INSERT INTO study
        SELECT id, '2.25.' || id, 'P', '', '', '', '', '', '', '', '', '', '', NULL, NULL, 1000, received FROM n;
    INSERT INTO series SELECT id, id, '2.25.9' || id, '', '', '', '', '', '', '', '', NULL FROM study;
    INSERT INTO instance SELECT id, id, '2.25.8' || id, '', '', '', 1, 1, 1, 1, 'f', 1, zeroblob(32), 1,
        iif(id = 2, 'pacs', 'dimse'), 'CT1', '' FROM study;
    INSERT INTO study_version SELECT id, id, 1, 3000, 'counts', 1, iif(id = 3, 1999, last_received_ms), '', 0 FROM study;
";

async fn store() -> (tempfile::TempDir, Store) {
    let folder = tempfile::tempdir().expect("a folder");
    let store = Store::open(folder.path()).await.expect("a journal");
    store.tamper(STUDIES).await;
    (folder, store)
}

/// Puts this many jobs on a version of the first study.
async fn route(store: &Store, version: u32, jobs: u8) {
    let routed = Routed {
        study_instance_uid: "2.25.1".into(),
        study_version: version,
        routed_ms: 1,
        outcome: "jobs".into(),
        detail: String::new(),
        last_instance: 1,
    };
    let job = |n: u8| NewJob { module: format!("m{n}"), identity: [n; 32], gated: false, priority: Default::default() };
    let jobs: Vec<_> = (0..jobs).map(job).collect();
    assert!(store.route(&routed, "c", &jobs).await.expect("routed"));
}

async fn end(store: &Store, job: i64) {
    store.tamper("UPDATE job SET state = 'running' WHERE state = 'queued'").await;
    let done = Ending::Done(Done {
        result_path: "results/x".into(),
        result_sha256: [2; 32],
        found: Vec::new(),
        raise: Default::default(),
        unfit: false,
        fallbacks: Vec::new(),
        deliver: Vec::new(),
        release: Release::AtOnce,
        triage: Vec::new(),
        report: None,
    });
    store.end_job(job, &done).await.expect("ended");
}

async fn due(store: &Store) -> Option<SyncDue> {
    let mut due = store.sync_due(Due::now(0), 10).await.expect("asked");
    assert!(due.len() <= 1, "{due:?}");
    due.pop()
}

#[tokio::test]
async fn a_study_is_due_once_it_is_whole_and_its_jobs_are_over_and_again_when_it_changes() {
    let (_folder, store) = store().await;
    assert_eq!(due(&store).await, None, "nothing is decided of what runs on it");
    route(&store, 1, 1).await;
    assert_eq!(due(&store).await, None, "a job waits");
    end(&store, 1).await;
    let first = due(&store).await.expect("it is whole");
    assert_eq!((first.study_instance_uid.as_str(), first.study_version), ("2.25.1", 1));

    // It waits, until something changes.
    store.sync_wait(&first, "for a verdict", 0, now_ms() + 1_000_000).await.expect("kept");
    let wait = Due::now(10_000_000);
    assert!(store.sync_due(wait, 10).await.expect("asked").is_empty());
    assert_eq!(due(&store).await.map(|due| due.change), Some(first.change), "no clock jumps that far ahead");
    let verdict = NewVerdict {
        result_sha256: [2; 32],
        finding: "result".into(),
        stated: serde_json::json!({}),
        verdict: crate::review::Verdict::Accepted,
        correction: None,
        comment: String::new(),
        given_by: "somebody".into(),
    };
    store.give_verdict(1, &verdict).await.expect("given");
    let second = store.sync_due(wait, 10).await.expect("asked").pop().expect("it changed");
    assert!(second.change > first.change);

    // What is said of it as it was does not count for it as it is.
    store.sync_skip(&first, "late").await.expect("kept");
    assert_eq!(due(&store).await, Some(second.clone()));
    store.sync_skip(&second, "in time").await.expect("kept");
    assert_eq!(due(&store).await, None);
    let parts = store.sync_parts(Some("2.25.1"), 10).await.expect("parts");
    assert_eq!(parts.iter().map(|part| part.reason.as_str()).collect::<Vec<_>>(), ["in time", "late"]);
}

#[tokio::test]
async fn a_part_goes_from_the_journal_to_the_bucket_in_steps_that_can_be_told_again() {
    let (_folder, store) = store().await;
    route(&store, 1, 0).await;
    let study = due(&store).await.expect("it is whole");
    let part = store.sync_take(&study, "r1", "P").await.expect("taken");
    let mut batch = store.begin().await.expect("begun");
    assert!(batch.sync_needs("2.25.1", false).await.expect("asked"), "retention leaves it");
    drop(batch);

    // Killed before the spool had it.
    let open = store.sync_open().await.expect("asked").pop().expect("it is open");
    assert_eq!((open.record.as_str(), open.spooled), ("r1", false));
    store.sync_again(&open).await.expect("again");
    let study = due(&store).await.expect("again");
    assert!(store.sync_parts(None, 10).await.expect("parts").is_empty());

    assert_eq!(part, 1);
    let part = store.sync_take(&study, "r2", "P").await.expect("taken");
    let object = HeldObject {
        kind: HeldKind::Instance,
        series_instance_uid: "s".into(),
        sop_instance_uid: "i".into(),
        job: None,
        sha256: [3; 32],
    };
    let reason = gantry_cloud_sync::held::Reason::from(&gantry_cloud_sync::deid::Held::Recognizable);
    let looked = SyncLooked { held: vec![ToHold { object, reason }], ..SyncLooked::default() };
    let taken = SyncTaken { objects: 3, objects_held: 1, bytes: 30 };
    assert!(store.sync_taken(&study, part, &taken, &looked).await.expect("kept"));
    for _ in 0..2 {
        store.sync_spooled(part).await.expect("kept");
    }
    assert_eq!(due(&store).await, None);
    for _ in 0..2 {
        store.sync_sent("b1", &["r2".into(), "unknown".into()], 5000).await.expect("kept");
    }
    let sent = store.sync_parts(None, 10).await.expect("parts").pop().expect("one");
    assert_eq!((sent.state.as_str(), sent.batch.as_deref(), sent.taken), ("sent", Some("b1"), taken));
    assert_eq!(store.sync_state().await.expect("asked").last_batch.as_deref(), Some("b1"));
    let told: Vec<_> = store.audit_latest(None, 100).await.expect("a log").into_iter().map(|row| row.action).collect();
    assert_eq!(told, ["objects-held", "sync-study-taken", "sync-study-sent"], "each once");

    // Somebody releases what is held.
    store.release_held(&[1], "a", "b").await.expect("the journal").expect("it can be");
    assert!(due(&store).await.is_some(), "it is looked at again");
}

#[tokio::test]
async fn a_discard_counts_while_a_study_is_taken_and_until_its_batch_is_sealed() {
    let (_folder, store) = store().await;
    route(&store, 1, 0).await;
    let object = |n: u8| HeldObject {
        kind: HeldKind::Instance,
        series_instance_uid: "s".into(),
        sop_instance_uid: format!("i{n}"),
        job: None,
        sha256: [n; 32],
    };
    let mut batch = store.begin().await.expect("begun");
    let reason = gantry_cloud_sync::held::Reason::from(&gantry_cloud_sync::deid::Held::Recognizable);
    let held = [1, 2].map(|n| ToHold { object: object(n), reason: reason.clone() });
    batch.hold("2.25.1", &[0; 32], &held).await.expect("held");
    batch.commit().await.expect("committed");
    store.release_held(&[1, 2], "a", "b").await.expect("the journal").expect("it can be");
    let states = async || {
        let rows = store.held(Default::default(), 10, 0).await.expect("rows");
        rows.into_iter().rev().map(|row| row.state.name()).collect::<Vec<_>>()
    };

    // While it is cleaned.
    let study = due(&store).await.expect("it is whole");
    let part = store.sync_take(&study, "r1", "P").await.expect("taken");
    let both = SyncLooked { along: vec![object(1), object(2)], ..SyncLooked::default() };
    store.discard_held(&[1], "a", "b").await.expect("the journal").expect("it can be");
    assert!(!store.sync_taken(&study, part, &SyncTaken::default(), &both).await.expect("asked"));
    store.sync_untake(part).await.expect("kept");
    assert_eq!(due(&store).await, Some(study.clone()), "it is looked at again");

    // While it is in the spool.
    let part = store.sync_take(&study, "r2", "P").await.expect("taken");
    let rest = SyncLooked { along: vec![object(2)], ..SyncLooked::default() };
    assert!(store.sync_taken(&study, part, &SyncTaken::default(), &rest).await.expect("kept"));
    store.sync_spooled(part).await.expect("kept");
    assert!(store.sync_discarded().await.expect("asked").is_empty());
    assert_eq!(states().await, ["discarded", "released"], "nothing left yet");
    store.discard_held(&[2], "a", "b").await.expect("the journal").expect("it can be");
    let back = store.sync_discarded().await.expect("asked");
    assert_eq!(back.iter().map(|part| part.record.as_str()).collect::<Vec<_>>(), ["r2"]);

    // Its batch was sealed before: it leaves, and nobody says otherwise.
    store.sync_sent("b1", &["r2".into()], 1).await.expect("kept");
    assert_eq!(states().await, ["discarded", "sent"]);
    let told = store.audit_latest(None, 1).await.expect("a log").pop().expect("a row");
    assert!(told.detail.ends_with(", 1 discarded after the batch was sealed"), "{}", told.detail);
}

#[tokio::test]
async fn what_is_withdrawn_stays_and_is_told_of_once() {
    let (_folder, store) = store().await;
    route(&store, 1, 0).await;
    let study = due(&store).await.expect("it is whole");
    let part = store.sync_take(&study, "r1", "PSEUDONYM").await.expect("taken");
    let taken = SyncTaken { objects: 3, objects_held: 0, bytes: 30 };
    assert!(store.sync_taken(&study, part, &taken, &SyncLooked::default()).await.expect("kept"));
    store.sync_spooled(part).await.expect("kept");
    let open = store.sync_open().await.expect("asked").pop().expect("it is open");
    assert_eq!(open.patient, "PSEUDONYM");
    for _ in 0..2 {
        store.sync_withdraw(&open, "its patient opted out", true).await.expect("kept");
    }
    let parts = store.sync_parts(None, 10).await.expect("parts");
    assert_eq!((parts[0].state.as_str(), parts[0].reason.as_str()), ("skipped", "its patient opted out"));
    assert!(store.sync_open().await.expect("asked").is_empty());
    let told = store.audit_latest(None, 100).await.expect("a log");
    let told: Vec<_> =
        told.into_iter().filter(|row| row.action == "sync-study-withdrawn").map(|row| row.detail).collect();
    assert_eq!(told, ["its patient opted out; objects of it may be in the bucket"]);
    let mut records = Vec::new();
    store.sync_records(|record, patient| records.push(format!("{record} {patient}"))).await.expect("asked");
    assert_eq!(records, ["r1 PSEUDONYM"], "whose it was is known");
    store.sync_sent("b1", &["r1".into()], 5000).await.expect("kept");
    assert_eq!(store.sync_parts(None, 10).await.expect("parts")[0].state, "skipped", "no batch has it");
    assert_eq!(due(&store).await, None);
}

#[tokio::test]
async fn what_was_not_looked_at_comes_before_what_waited_and_the_first_ends_the_search() {
    let (_folder, store) = store().await;
    route(&store, 1, 0).await;
    store
        .tamper(
            "UPDATE instance SET via = 'dimse';
             INSERT INTO routed SELECT study_instance_uid, 1, 1, 'nothing', '', 1 FROM study WHERE id = 2",
        )
        .await;
    let all = async || {
        let due = store.sync_due(Due::now(u64::MAX), 10).await.expect("asked");
        due.into_iter().map(|due| (due.study_instance_uid, due.waits_since_ms)).collect::<Vec<_>>()
    };
    assert_eq!(all().await, [("2.25.1".into(), 0), ("2.25.2".into(), 0)]);
    let first = store.sync_due(Due::now(0), 1).await.expect("asked").pop().expect("it is whole");
    store.sync_wait(&first, "for others", 7, now_ms()).await.expect("kept");
    assert_eq!(all().await, [("2.25.2".into(), 0), ("2.25.1".into(), 7)], "it waited, since then");

    for sql in [DUE, DUE_LATEST] {
        let plan = format!("EXPLAIN QUERY PLAN {sql}");
        let rows = sqlx::query(sqlx::AssertSqlSafe(plan)).bind(1_i64).bind(2_i64).bind(1).fetch_all(&store.pool).await;
        let plan: Vec<String> = rows.expect("a plan").iter().map(|row| row.get("detail")).collect();
        assert!(plan[0].contains("USING INDEX sync_todo_due (due_ms"), "{plan:?}");
        assert!(!plan.iter().any(|step| step.contains("TEMP B-TREE")), "{plan:?}");
    }
}

#[tokio::test]
async fn looks_that_come_to_no_end_are_counted() {
    let (_folder, store) = store().await;
    route(&store, 1, 0).await;
    let study = due(&store).await.expect("it is whole");
    for before in 0..3 {
        assert_eq!(store.sync_begin(&study).await.expect("begun"), before);
        // Killed, and started again.
        let part = store.sync_take(&study, "r", "P").await.expect("taken");
        let open = store.sync_open().await.expect("asked").pop().expect("it is open");
        assert_eq!(open.id, part);
        store.sync_again(&open).await.expect("again");
    }
    store.sync_end(&study).await.expect("ended");
    assert_eq!(store.sync_begin(&study).await.expect("begun"), 0);
}

/// A C-STORE waits for whoever writes.
#[tokio::test]
async fn a_study_of_which_much_is_held_is_many_commits() {
    let (_folder, store) = store().await;
    route(&store, 1, 0).await;
    let study = due(&store).await.expect("it is whole");
    let part = store.sync_take(&study, "r1", "P").await.expect("taken");
    let reason = gantry_cloud_sync::held::Reason::from(&gantry_cloud_sync::deid::Held::Recognizable);
    let held = |n: usize| {
        let object = HeldObject {
            kind: HeldKind::Instance,
            series_instance_uid: "s".into(),
            sop_instance_uid: format!("i{n}"),
            job: None,
            sha256: [1; 32],
        };
        ToHold { object, reason: reason.clone() }
    };
    let looked = SyncLooked { held: (0..2 * ROWS_AT_ONCE + 1).map(held).collect(), ..SyncLooked::default() };
    store.sync_hold(&study, part, &looked).await.expect("held");
    let told: Vec<_> = store.audit_latest(None, 10).await.expect("a log").into_iter().map(|row| row.detail).collect();
    assert_eq!(told, [50, 50, 1].map(|n| format!("{n} × instance for recognizable")));
    let parts = store.sync_parts(None, 10).await.expect("parts");
    assert_eq!((parts[0].state.as_str(), parts[0].taken.objects_held), ("held", 101));
}

#[tokio::test]
async fn a_later_version_is_looked_at_and_what_was_deleted_is_not() {
    let (_folder, store) = store().await;
    route(&store, 1, 0).await;
    let first = due(&store).await.expect("it is whole");
    store
        .tamper(
            "UPDATE study SET last_received_ms = 9000 WHERE id = 1;
             INSERT INTO study_version VALUES (9, 1, 2, 9001, 'counts', 1, 9000, '', 0)",
        )
        .await;
    assert_eq!(due(&store).await, None, "not routed yet");
    route(&store, 2, 0).await;
    let second = due(&store).await.expect("it is whole");
    assert_eq!((second.study_version, second.change), (2, first.change + 1));
    store
        .tamper("DELETE FROM instance WHERE id = 1; DELETE FROM series WHERE id = 1; DELETE FROM study WHERE id = 1")
        .await;
    assert_eq!(due(&store).await, None);
    assert_eq!(store.sync_waits().await.expect("asked")[0].studies, 2);
}

#[tokio::test]
async fn urgent_work_is_what_runs_or_could() {
    let (_folder, store) = store().await;
    route(&store, 1, 1).await;
    let urgent = async || store.urgent_work(Due::now(1000)).await.expect("asked");
    assert!(!urgent().await, "it is routine");
    store.tamper("UPDATE job SET priority = 2").await;
    assert!(urgent().await);
    store.tamper("UPDATE job SET not_before_ms = CAST(unixepoch('subsec') * 1000 AS INTEGER) + 900").await;
    assert!(!urgent().await, "it is tried again later");
    store.tamper("UPDATE job SET state = 'running'").await;
    assert!(urgent().await);
}

#[tokio::test]
async fn what_is_paused_says_so_once() {
    let (_folder, store) = store().await;
    assert!(store.pause_sync("inspection").await.expect("paused") && !store.pause_sync("again").await.expect("asked"));
    assert_eq!(store.sync_state().await.expect("asked").paused_reason, "inspection");
    assert!(store.sync_waiting().await.expect("asked").paused);
    assert!(store.resume_sync().await.expect("resumed") && !store.resume_sync().await.expect("asked"));
    assert_eq!(store.sync_state().await.expect("asked").paused_ms, None);
}
