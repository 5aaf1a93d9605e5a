use super::*;
use crate::store::{Due, Store};

const STUDY: &str = "2.25.1";

async fn route(store: &Store, version: u32, priorities: &[(&str, Urgency)]) {
    let routed = Routed {
        study_instance_uid: STUDY.into(),
        study_version: version,
        routed_ms: 1,
        outcome: "jobs".into(),
        detail: String::new(),
        last_instance: 0,
    };
    let jobs: Vec<NewJob> = priorities
        .iter()
        .map(|(module, priority)| NewJob {
            module: (*module).into(),
            identity: [1; 32],
            gated: false,
            priority: *priority,
        })
        .collect();
    assert!(store.route(&routed, "c", &jobs).await.expect("routed"));
}

async fn priorities(store: &Store, version: u32) -> Vec<(String, Urgency)> {
    let jobs = store.jobs_of_version(STUDY, version).await.expect("jobs");
    jobs.into_iter().map(|job| (job.module, job.priority)).collect()
}

fn done(raise: Urgency, fallbacks: Vec<String>) -> Done {
    let (result_path, result_sha256, found) = ("results/x".into(), [2; 32], Vec::new());
    let (deliver, release, triage) = (Vec::new(), Release::AtOnce, Vec::new());
    Done { result_path, result_sha256, found, raise, unfit: false, fallbacks, deliver, release, triage, report: None }
}

#[tokio::test]
async fn a_finding_raises_the_other_jobs_of_its_study_and_lowers_none() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = Store::open(folder.path()).await.expect("a journal");
    route(&store, 1, &[("triage", Urgency::Routine), ("volume", Urgency::Routine), ("first", Urgency::Critical)]).await;
    let first = store.claim(Due::now(0), Urgency::Routine).await.expect("the journal").expect("a job");
    assert_eq!(first.module, "first", "urgent work goes first");
    assert_eq!(store.claim(Due::now(0), Urgency::Urgent).await.expect("the journal"), None, "the others can wait");
    let triage = store.claim(Due::now(0), Urgency::Routine).await.expect("the journal").expect("a job");
    let done = |raise| Ending::Done(done(raise, Vec::new()));
    store.end_job(triage.id, &done(Urgency::Urgent)).await.expect("ended");
    let raised = priorities(&store, 1).await;
    assert!(raised.contains(&("volume".into(), Urgency::Urgent)), "{raised:?}");
    assert!(raised.contains(&("first".into(), Urgency::Critical)), "{raised:?}");
    store.end_job(first.id, &done(Urgency::Routine)).await.expect("ended");
    assert!(priorities(&store, 1).await.contains(&("volume".into(), Urgency::Urgent)), "nothing lowers");
    // A later version of the study stands no lower.
    route(&store, 2, &[("volume", Urgency::Routine)]).await;
    assert_eq!(priorities(&store, 2).await, [("volume".to_owned(), Urgency::Critical)]);
}

#[tokio::test]
async fn a_job_that_waits_is_due_when_its_time_came_or_the_clock_jumped_back() {
    const YEAR_MS: i64 = 365 * 86_400_000;
    let folder = tempfile::tempdir().expect("a folder");
    let store = Store::open(folder.path()).await.expect("a journal");
    route(&store, 1, &[("fails", Urgency::Routine)]).await;
    let now = 50 * YEAR_MS;
    let at = |now_ms| Due { now_ms, wait_max_ms: 600_000 };
    let job = store.claim(at(now), Urgency::Routine).await.expect("the journal").expect("a job");
    let again = Ending::Again { not_before_ms: now + 600_000, class: "disk", error: "no space".into() };
    store.end_job(job.id, &again).await.expect("ended");
    for (now_ms, waits) in [(now, true), (now + 599_999, true), (now + 600_000, false), (now - 10 * YEAR_MS, false)] {
        let (ready, _) = store.queue(at(now_ms)).await.expect("the journal");
        assert_eq!(ready, u64::from(!waits), "at {now_ms}");
    }
    assert_eq!(store.claim(at(now), Urgency::Routine).await.expect("the journal"), None);
    let early = store.claim(at(now - 10 * YEAR_MS), Urgency::Routine).await.expect("the journal");
    assert_eq!(early.map(|job| (job.id, job.attempts)), Some((job.id, 2)));
}

/// Actions and details of the audit log, without those of making jobs and beginning runs.
async fn told(store: &Store) -> Vec<(String, String)> {
    let rows = store.audit_latest(Some(STUDY), 100).await.expect("the log");
    let rows = rows.into_iter().filter(|row| !["job-queued", "job-started"].contains(&row.action.as_str()));
    rows.map(|row| (row.action, row.detail)).collect()
}

#[tokio::test]
async fn what_ran_on_another_device_than_it_was_to_is_in_the_audit_log() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = Store::open(folder.path()).await.expect("a journal");
    route(&store, 1, &[("liver", Urgency::Routine), ("lungs", Urgency::Routine)]).await;
    for fallbacks in [vec![], vec!["coarse".to_owned(), "fine".to_owned()]] {
        let job = store.claim(Due::now(0), Urgency::Routine).await.expect("the journal").expect("a job");
        let done = Ending::Done(done(Urgency::Routine, fallbacks));
        store.end_job(job.id, &done).await.expect("ended");
    }
    let own = |detail: &str| ("job-done".to_owned(), detail.to_owned());
    assert_eq!(told(&store).await, [own(""), own("on a processor in place of a GPU: coarse, fine")]);
}

/// Runs the next job to its end with a report of this UID, as the module's results are released.
async fn report(store: &Store, instance: &str, release: Release) -> i64 {
    let job = store.claim(Due::now(0), Urgency::Routine).await.expect("the journal").expect("a job");
    end(store, job.id, instance, release).await;
    job.id
}

async fn end(store: &Store, job: i64, instance: &str, release: Release) {
    let report = Some(Reference { series: format!("{instance}.1"), instance: instance.into() });
    let ending = Ending::Done(Done { report, release, ..done(Urgency::Routine, Vec::new()) });
    store.end_job(job, &ending).await.expect("ended");
}

#[tokio::test]
async fn a_report_takes_the_place_of_those_that_were_there_when_its_version_came() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = Store::open(folder.path()).await.expect("a journal");
    let of = |name: &'static str| [(name, Urgency::Routine)];
    route(&store, 1, &of("a")).await;
    report(&store, "2.25.1", Release::AtOnce).await;
    route(&store, 2, &of("a")).await;
    let late = store.claim(Due::now(0), Urgency::Routine).await.expect("the journal").expect("a job");
    route(&store, 3, &of("a")).await;
    let third = store.claim(Due::now(0), Urgency::Routine).await.expect("the journal").expect("a job");
    let predecessors = async |job: &Job| {
        let found = store.predecessors(job).await.expect("asked");
        found.into_iter().map(|report| report.instance).collect::<Vec<_>>()
    };
    assert_eq!(predecessors(&third).await, ["2.25.1"]);
    // It was asked to stop, and was done all the same: nobody gets it.
    end(&store, late.id, "2.25.2", Release::AtOnce).await;
    assert_eq!(predecessors(&third).await, ["2.25.1"], "a run that is repeated names the same");
    end(&store, third.id, "2.25.3", Release::AtOnce).await;
    route(&store, 4, &[("a", Urgency::Routine), ("b", Urgency::Routine)]).await;
    let [a, b] = [(); 2].map(|()| store.claim(Due::now(0), Urgency::Routine));
    let (a, b) = (a.await.expect("the journal").expect("a job"), b.await.expect("the journal").expect("a job"));
    assert_eq!((predecessors(&a).await, predecessors(&b).await), (vec!["2.25.1".into(), "2.25.3".into()], vec![]));
}

#[tokio::test]
async fn a_report_that_never_left_is_nobodys_predecessor() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = Store::open(folder.path()).await.expect("a journal");
    for (version, release) in [(1, Release::Shadow), (2, Release::Hold), (3, Release::Hold)] {
        route(&store, version, &[("a", Urgency::Routine)]).await;
        let job = report(&store, &format!("2.25.{version}"), release).await;
        if version == 3 {
            store.release_result(job, "me", true).await.expect("released");
        }
    }
    route(&store, 4, &[("a", Urgency::Routine)]).await;
    let job = store.claim(Due::now(0), Urgency::Routine).await.expect("the journal").expect("a job");
    let found = store.predecessors(&job).await.expect("asked");
    assert_eq!(found, [Reference { series: "2.25.3.1".into(), instance: "2.25.3".into() }]);
}

#[tokio::test]
async fn what_a_later_version_or_a_restart_does_to_jobs_is_in_the_audit_log() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = Store::open(folder.path()).await.expect("a journal");
    let own = |action: &str, detail: &str| (action.to_owned(), detail.to_owned());
    route(&store, 1, &[("runs", Urgency::Critical), ("waits", Urgency::Routine)]).await;
    store.claim(Due::now(0), Urgency::Routine).await.expect("the journal").expect("a job");
    assert_eq!(store.recover_jobs(2).await.expect("recovered"), 1);
    store.claim(Due::now(0), Urgency::Routine).await.expect("the journal").expect("a job");
    route(&store, 2, &[]).await;
    let superseded = [
        own("job-requeued", "the node ended while it ran"),
        own("job-superseded", "by v2: asked to stop"),
        own("job-superseded", "by v2: cancelled before it ran"),
    ];
    assert_eq!(told(&store).await, superseded);
    // Asked to stop, and the node ended before it did.
    assert_eq!(store.recover_jobs(2).await.expect("recovered"), 1);
    assert_eq!(told(&store).await.last(), Some(&own("job-cancelled", "the node ended while it ran")));
}
