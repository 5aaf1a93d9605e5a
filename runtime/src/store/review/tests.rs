use super::*;
use crate::store::{DeliveryChanged, DeliveryState, Due, Ending, NewJob, Routed};

async fn done(store: &Store, release: Release) -> i64 {
    let uid = format!("2.25.{}", release as u8 + 1);
    let routed = Routed {
        study_instance_uid: uid,
        study_version: 1,
        routed_ms: 1,
        outcome: "jobs".into(),
        detail: String::new(),
        last_instance: 0,
    };
    let new = NewJob { module: "a".into(), identity: [1; 32], gated: false, priority: Default::default() };
    assert!(store.route(&routed, "c", &[new]).await.expect("routed"));
    let job = store.claim(Due::now(0), Default::default()).await.expect("the journal").expect("a job");
    let done = Ending::Done(crate::store::Done {
        result_path: "results/x".into(),
        result_sha256: [2; 32],
        found: Vec::new(),
        raise: Default::default(),
        unfit: false,
        fallbacks: Vec::new(),
        deliver: vec!["pacs".into()],
        release,
        triage: Vec::new(),
        report: None,
    });
    store.end_job(job.id, &done).await.expect("ended");
    job.id
}

/// What the view says, by which results are sent.
async fn may_leave(store: &Store) -> Vec<i64> {
    let rows = sqlx::query("SELECT job FROM deliverable ORDER BY job").fetch_all(&store.pool).await.expect("a view");
    rows.iter().map(|row| row.try_get(0).expect("a job")).collect()
}

#[tokio::test]
async fn what_is_held_leaves_once_it_is_released_and_what_is_in_the_shadow_never() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = Store::open(folder.path()).await.expect("a journal");
    let at_once = done(&store, Release::AtOnce).await;
    let hold = done(&store, Release::Hold).await;
    let shadow = done(&store, Release::Shadow).await;
    let deliverable = async |job| store.deliverable(job).await.expect("asked");
    assert_eq!(deliverable(at_once).await, Deliverable::Now);
    assert_eq!(deliverable(hold).await, Deliverable::Held);
    assert_eq!(deliverable(shadow).await, Deliverable::Never);
    assert_eq!(deliverable(99).await, Deliverable::Never);
    assert_eq!(may_leave(&store).await, [at_once]);
    // Held deliveries wait, and of the one in the shadow there is none.
    let states = async || {
        let rows = store.deliveries(None, None, None, 10).await.expect("deliveries");
        rows.into_iter().map(|row| (row.job, row.state)).collect::<Vec<_>>()
    };
    assert_eq!(states().await, [(hold, DeliveryState::Held), (at_once, DeliveryState::Queued)]);
    let release = async |job| store.release_result(job, "me", false).await.expect("asked");
    assert_eq!(release(shadow).await, Released::Shadow);
    assert_eq!(release(at_once).await, Released::Already);
    assert_eq!(release(99).await, Released::NoSuchJob);
    assert_eq!(release(hold).await, Released::Yes);
    assert_eq!(release(hold).await, Released::Already);
    assert_eq!(may_leave(&store).await, [at_once, hold]);
    assert_eq!(deliverable(hold).await, Deliverable::Now);
    assert_eq!(states().await, [(hold, DeliveryState::Queued), (at_once, DeliveryState::Queued)]);
    // Whatever somebody writes there.
    store.tamper("UPDATE result_release SET released_ms = 1 WHERE policy = 'shadow'").await;
    assert_eq!(may_leave(&store).await, [at_once, hold]);
    let listed = async |which| {
        let list = store.results(None, which, 10, 0).await.expect("asked");
        list.into_iter().map(|reviewed| reviewed.job.id).collect::<std::collections::BTreeSet<_>>()
    };
    assert_eq!(listed(Which::MayLeave).await, [at_once, hold].into());
    assert_eq!(listed(Which::All).await.len(), 3);
    let told = store.audit_latest(None, 100).await.expect("a log");
    assert_eq!(told.iter().filter(|row| row.action == "result-released").count(), 1);
}

#[tokio::test]
async fn what_was_held_and_dropped_and_is_retried_waits_for_its_release_all_the_same() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = Store::open(folder.path()).await.expect("a journal");
    let job = done(&store, Release::Hold).await;
    let row = async || store.deliveries(None, None, None, 10).await.expect("deliveries").remove(0);
    let id = row().await.id;
    assert_eq!(store.drop_delivery(id).await.expect("asked"), DeliveryChanged::Yes);
    assert_eq!(store.retry_delivery(id).await.expect("asked"), DeliveryChanged::Yes);
    assert_eq!(row().await.state, DeliveryState::Held);
    // Not even where it came into the queue by another way.
    store.tamper("UPDATE delivery SET state = 'queued'").await;
    assert!(store.claim_delivery("pacs", Due::now(0)).await.expect("asked").is_none());
    store.tamper("UPDATE delivery SET state = 'held'").await;
    assert_eq!(store.release_result(job, "me", false).await.expect("asked"), Released::Yes);
    assert!(store.claim_delivery("pacs", Due::now(0)).await.expect("asked").is_some());
}

#[tokio::test]
async fn a_result_that_is_superseded_or_gone_is_not_released() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = Store::open(folder.path()).await.expect("a journal");
    let job = done(&store, Release::Hold).await;
    store.tamper("UPDATE job SET superseded_by = 2").await;
    assert_eq!(store.release_result(job, "me", true).await.expect("asked"), Released::Superseded);
    store.tamper("UPDATE job SET superseded_by = NULL, result_path = NULL").await;
    assert_eq!(store.release_result(job, "me", true).await.expect("asked"), Released::NoResult(JobState::Done));
    assert!(may_leave(&store).await.is_empty());
}

#[tokio::test]
async fn a_verdict_is_kept_once() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = Store::open(folder.path()).await.expect("a journal");
    let job = done(&store, Release::AtOnce).await;
    let new = |verdict, correction| NewVerdict {
        result_sha256: [2; 32],
        finding: "triage/0".into(),
        stated: serde_json::json!({"level": "urgent"}),
        verdict,
        correction,
        comment: "c".into(),
        given_by: "me".into(),
    };
    let level = |level| Some(Correction { level: Some(level), ..Correction::default() });
    let prompt = new(Verdict::Corrected, level(crate::findings::Urgency::Prompt));
    let Given::New(row) = store.give_verdict(job, &prompt).await.expect("asked") else { panic!("it is new") };
    assert_eq!(store.give_verdict(job, &prompt).await.expect("asked"), Given::Same(row.clone()));
    for other in [new(Verdict::Accepted, None), new(Verdict::Corrected, level(crate::findings::Urgency::Routine))] {
        assert_eq!(store.give_verdict(job, &other).await.expect("asked"), Given::Conflict(row.clone()));
    }
    assert_eq!(store.give_verdict(99, &prompt).await.expect("asked"), Given::NoResult);
    let reviewed = store.reviewed(job).await.expect("asked").expect("there");
    assert_eq!(reviewed.verdicts, [row]);
    assert_eq!(store.results(Some("2.25.1"), Which::All, 10, 0).await.expect("asked").len(), 1);
    assert!(store.results(None, Which::Held, 10, 0).await.expect("asked").is_empty(), "nothing is held");
}
