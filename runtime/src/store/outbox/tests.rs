use super::*;
use crate::config::Release;
use crate::store::{Ending, NewJob, Routed};

/// A journal whose deliveries are those of jobs that end.
struct Outbox {
    store: Store,
    _folder: tempfile::TempDir,
}

impl Outbox {
    async fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        Self { store: Store::open(folder.path()).await.expect("a journal"), _folder: folder }
    }

    async fn route(&self, study: &str, version: u32, modules: &[(&str, Urgency)]) {
        let routed = Routed {
            study_instance_uid: study.into(),
            study_version: version,
            routed_ms: 1,
            outcome: "jobs".into(),
            detail: String::new(),
            last_instance: 0,
        };
        let new = |(module, priority): &(&str, Urgency)| NewJob {
            module: (*module).into(),
            identity: [1; 32],
            gated: false,
            priority: *priority,
        };
        let jobs: Vec<NewJob> = modules.iter().map(new).collect();
        assert!(self.store.route(&routed, "c", &jobs).await.expect("routed"));
    }

    /// Runs the next job to its end, with deliveries to these.
    async fn done(&self, destinations: &[&str]) {
        let job = self.store.claim(Due::now(0), Urgency::Routine).await.expect("claimed").expect("a job");
        let ending = Ending::Done(crate::store::Done {
            result_path: format!("results/{}", job.id),
            result_sha256: [7; 32],
            found: Vec::new(),
            raise: Urgency::Routine,
            unfit: false,
            fallbacks: Vec::new(),
            deliver: destinations.iter().map(|&name| name.to_owned()).collect(),
            release: Release::AtOnce,
            triage: Vec::new(),
            report: None,
        });
        self.store.end_job(job.id, &ending).await.expect("ended");
        // Twice is once.
        self.store.end_job(job.id, &ending).await.expect("ended");
    }

    /// Claims what is next for a destination: its job.
    async fn next(&self, destination: &str) -> Option<DeliveryRow> {
        self.store.claim_delivery(destination, Due::now(60_000)).await.expect("claimed")
    }

    async fn end(&self, row: &DeliveryRow, ending: DeliveryEnding) -> DeliveryRow {
        self.store.end_delivery(row.id, &ending).await.expect("ended");
        self.store.delivery(row.id).await.expect("readable").expect("there")
    }

    async fn audited(&self, action: Action) -> usize {
        let rows = self.store.audit_latest(None, 1000).await.expect("a log");
        rows.iter().filter(|row| row.action == action.name()).count()
    }
}

fn sent() -> DeliveryEnding {
    DeliveryEnding::Sent { outputs: vec![[8; 32]], detail: String::new() }
}

fn again(ms: i64) -> DeliveryEnding {
    DeliveryEnding::Again { next_ms: now_ms() + ms, counts: true, error: "no".into() }
}

#[tokio::test]
async fn what_a_later_version_took_the_place_of_is_not_sent_again_and_blocks_nothing() {
    let outbox = Outbox::new().await;
    outbox.route("2.25.1", 1, &[("a", Urgency::Routine)]).await;
    outbox.done(&["pacs", "share"]).await;
    let (pacs, share) = (outbox.next("pacs").await.expect("due"), outbox.next("share").await.expect("due"));
    let awaited = DeliveryEnding::Awaiting { transaction_uid: "2.25.9".into(), next_ms: 0, detail: String::new() };
    assert_eq!(outbox.end(&pacs, awaited).await.state, DeliveryState::Awaiting);
    assert_eq!(outbox.end(&share, DeliveryEnding::Dead { error: "no".into() }).await.state, DeliveryState::Dead);
    outbox.route("2.25.1", 2, &[("a", Urgency::Routine)]).await;
    let share = outbox.store.delivery(share.id).await.expect("readable").expect("there");
    assert_eq!(share.state, DeliveryState::Superseded, "nobody need decide on it, and retention goes on");
    assert_eq!(outbox.end(&pacs, again(0)).await.state, DeliveryState::Superseded, "nothing was promised");
    outbox.done(&["pacs"]).await;
    assert_ne!(outbox.next("pacs").await.expect("the later one").job, pacs.job);
}

#[tokio::test]
async fn a_result_has_one_delivery_for_each_destination_and_the_watcher_is_told() {
    let outbox = Outbox::new().await;
    let mut changes = outbox.store.watch_outbox();
    outbox.route("2.25.1", 1, &[("a", Urgency::Routine)]).await;
    assert!(!changes.has_changed().expect("open"));
    outbox.done(&["pacs", "share"]).await;
    assert!(changes.has_changed().expect("open"));
    changes.mark_unchanged();
    let all = outbox.store.deliveries(None, None, None, 10).await.expect("a list");
    assert_eq!(all.iter().map(|row| row.destination.as_str()).collect::<Vec<_>>(), ["share", "pacs"]);
    let row = outbox.next("pacs").await.expect("due");
    assert_eq!((row.attempts, row.result_sha256), (1, [7; 32]));
    let ended = outbox.end(&row, sent()).await;
    assert_eq!((ended.state, ended.ended_ms.is_some()), (DeliveryState::Sent, true));
    assert!(outbox.next("pacs").await.is_none());
    assert_eq!(outbox.audited(Action::ResultDelivered).await, 1);
    outbox.end(&row, sent()).await;
    assert_eq!(outbox.audited(Action::ResultDelivered).await, 1, "told once");
    let open = outbox.store.open_deliveries().await.expect("counted");
    assert_eq!(open.iter().map(|c| (c.destination.as_str(), c.count)).collect::<Vec<_>>(), [("share", 1)]);
}

#[tokio::test]
async fn within_a_study_a_destination_gets_results_in_order_and_the_most_urgent_study_goes_first() {
    let outbox = Outbox::new().await;
    outbox.route("2.25.1", 1, &[("a", Urgency::Routine), ("b", Urgency::Routine)]).await;
    outbox.done(&["pacs"]).await;
    outbox.done(&["pacs"]).await;
    outbox.route("2.25.2", 1, &[("a", Urgency::Critical)]).await;
    outbox.done(&["pacs"]).await;
    let urgent = outbox.next("pacs").await.expect("due");
    assert_eq!(urgent.study_instance_uid, "2.25.2");
    outbox.end(&urgent, sent()).await;
    let first = outbox.next("pacs").await.expect("due");
    outbox.end(&first, again(60_000)).await;
    assert!(outbox.next("pacs").await.is_none(), "the second waits for the first");
    outbox.end(&first, again(0)).await;
    let again = outbox.next("pacs").await.expect("due");
    assert_eq!((again.id, again.attempts), (first.id, 2));
    outbox.end(&again, DeliveryEnding::Dead { error: "no".into() }).await;
    let second = outbox.next("pacs").await.expect("due");
    assert!(second.id > first.id, "what was given up holds up nothing");
}

#[tokio::test]
async fn a_clock_that_jumps_back_and_attempts_that_do_not_count_hold_nothing_up() {
    let outbox = Outbox::new().await;
    outbox.route("2.25.1", 1, &[("a", Urgency::Routine)]).await;
    outbox.done(&["pacs"]).await;
    let row = outbox.next("pacs").await.expect("due");
    let unreached = DeliveryEnding::Again { next_ms: now_ms() + 1_000_000, counts: false, error: "no".into() };
    assert_eq!(outbox.end(&row, unreached).await.attempts, 0);
    let row = outbox.next("pacs").await.expect("nothing waits so long but by a clock that jumped");
    assert_eq!(outbox.end(&row, DeliveryEnding::BrokenOff).await.attempts, 0);
    assert_eq!(outbox.end(&row, DeliveryEnding::BrokenOff).await.attempts, 0);
}

#[tokio::test]
async fn a_later_version_supersedes_what_was_not_sent() {
    let outbox = Outbox::new().await;
    outbox.route("2.25.1", 1, &[("a", Urgency::Routine), ("b", Urgency::Routine)]).await;
    outbox.done(&["pacs", "share"]).await;
    let flying = outbox.next("pacs").await.expect("due");
    outbox.route("2.25.1", 2, &[("a", Urgency::Routine)]).await;
    assert!(outbox.next("share").await.is_none());
    let all = outbox.store.deliveries(None, None, Some(DeliveryState::Superseded), 10).await.expect("a list");
    assert_eq!(all.len(), 2);
    assert_eq!(outbox.end(&flying, again(0)).await.state, DeliveryState::Superseded, "it is not tried again");
    assert_eq!(outbox.end(&flying, sent()).await.state, DeliveryState::Sent, "and what arrived arrived");
    let changed = outbox.store.retry_delivery(flying.id).await.expect("asked");
    assert_eq!(changed, DeliveryChanged::NoResult, "the later one is what counts");
    outbox.done(&["pacs"]).await;
    assert!(outbox.next("pacs").await.is_some_and(|row| row.id > flying.id));
}

#[tokio::test]
async fn what_was_not_delivered_is_not_deleted_and_what_an_operator_changes_is_recorded() {
    let outbox = Outbox::new().await;
    outbox.route("2.25.1", 1, &[("a", Urgency::Routine)]).await;
    outbox.done(&["pacs"]).await;
    let unfinished = async || {
        let mut batch = outbox.store.begin().await.expect("begun");
        batch.is_unfinished("2.25.1").await.expect("asked")
    };
    assert!(unfinished().await, "it waits");
    let row = outbox.next("pacs").await.expect("due");
    outbox.end(&row, DeliveryEnding::Dead { error: "no".into() }).await;
    assert!(unfinished().await, "it can be tried again");
    let change = async |retry: bool| match retry {
        true => outbox.store.retry_delivery(row.id).await.expect("asked"),
        false => outbox.store.drop_delivery(row.id).await.expect("asked"),
    };
    assert_eq!(change(true).await, DeliveryChanged::Yes);
    assert_eq!(change(true).await, DeliveryChanged::Not(DeliveryState::Queued));
    assert_eq!(outbox.next("pacs").await.map(|row| row.attempts), Some(1));
    assert_eq!(change(false).await, DeliveryChanged::Yes);
    assert_eq!(change(false).await, DeliveryChanged::Not(DeliveryState::Dropped));
    assert!(!unfinished().await, "somebody let go of it");
    let mut batch = outbox.store.begin().await.expect("begun");
    batch.delete_results("2.25.1", None, "x").await.expect("deleted");
    batch.commit().await.expect("committed");
    assert_eq!(change(true).await, DeliveryChanged::NoResult);
    let none = outbox.store.drop_delivery(99).await.expect("asked");
    assert_eq!(none, DeliveryChanged::NoSuchDelivery);
    let audited = [Action::DeliveryFailed, Action::DeliveryRetried, Action::DeliveryDropped];
    for action in audited {
        assert_eq!(outbox.audited(action).await, 1, "{}", action.name());
    }
}

#[tokio::test]
async fn what_is_held_goes_nowhere_until_it_is_released() {
    let outbox = Outbox::new().await;
    outbox.route("2.25.1", 1, &[("a", Urgency::Routine)]).await;
    outbox.done(&[]).await;
    let job = outbox.store.jobs(None, None).await.expect("a list").remove(0);
    let mut batch = outbox.store.begin().await.expect("begun");
    batch.deliver(&job, &[7; 32], &["pacs".into()], true).await.expect("made");
    batch.commit().await.expect("committed");
    assert!(outbox.next("pacs").await.is_none());
    let mut batch = outbox.store.begin().await.expect("begun");
    assert!(batch.is_unfinished("2.25.1").await.expect("asked"), "retention leaves it");
    assert_eq!(batch.release_deliveries(job.id).await.expect("released"), 1);
    assert_eq!(batch.release_deliveries(job.id).await.expect("released"), 0, "once");
    batch.commit().await.expect("committed");
    assert_eq!(outbox.next("pacs").await.map(|row| row.job), Some(job.id));
}

#[tokio::test]
async fn a_promise_is_found_by_its_uid_until_it_is_given_and_asked_for_again_when_it_is_late() {
    let outbox = Outbox::new().await;
    outbox.route("2.25.1", 1, &[("a", Urgency::Routine)]).await;
    outbox.done(&["pacs"]).await;
    let row = outbox.next("pacs").await.expect("due");
    outbox.store.ask_promise(row.id, "2.25.9", "[]").await.expect("noted");
    assert!(outbox.store.asked_promise("2.25.9").await.expect("asked").is_some(), "also while it is being sent");
    let awaiting =
        |next_ms| DeliveryEnding::Awaiting { transaction_uid: "2.25.9".into(), next_ms, detail: String::new() };
    let due = Due::now(60_000);
    assert_eq!(outbox.end(&row, awaiting(due.now_ms + 30_000)).await.state, DeliveryState::Awaiting);
    assert!(outbox.next("pacs").await.is_none());
    assert!(outbox.store.overdue_deliveries("pacs", due).await.expect("asked").is_empty());
    let later = Due { now_ms: due.now_ms + 30_000, ..due };
    assert_eq!(outbox.store.overdue_deliveries("pacs", later).await.expect("asked").len(), 1);
    assert_eq!(outbox.end(&row, sent()).await.state, DeliveryState::Sent);
    assert!(outbox.store.asked_promise("2.25.9").await.expect("asked").is_none(), "it was given");
}
