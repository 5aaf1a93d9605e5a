use super::*;
use crate::store::{Due, Ending, NewJob, Routed};
use crate::worklist::Cause;

/// Two studies, the first older, both whole.
const STUDIES: &str = "
    INSERT INTO study SELECT 1, '2.25.1', 'P', '', '', '', '', '', '', 'ACC1', '', '', '', NULL, NULL, 1000, 2000;
    INSERT INTO study SELECT 2, '2.25.2', 'Q', '', '', '', '', '', '', 'ACC2', '', '', '', NULL, NULL, 1500, 2500;
    INSERT INTO study SELECT 3, '2.25.3', 'P', '', '', '', '', '', '', 'OLD', '', '', '', NULL, NULL, 1, 9000;
    INSERT INTO series SELECT id, id, '2.25.9' || id, '', '', '', '', '', '', '', '', NULL FROM study;
    INSERT INTO instance SELECT id, id, '2.25.8' || id, '', '', '', 1, 1, 1, 1, 'f', 1, zeroblob(32), 1,
        iif(id = 3, 'pacs', 'dimse'), 'CT1', '' FROM study;
    INSERT INTO study_version SELECT id, id, 1, 3000, 'counts', 1, last_received_ms, '', 0 FROM study WHERE id < 3;
";

async fn route(store: &Store, uid: &str, modules: &[&str], reasons: &[Reason]) {
    let routed = Routed {
        study_instance_uid: uid.into(),
        study_version: 1,
        routed_ms: 1,
        outcome: "jobs".into(),
        detail: String::new(),
        last_instance: 0,
    };
    let priority = reasons.iter().map(|r| r.level).max().unwrap_or_default();
    let job = |module: &&str| NewJob { module: (*module).into(), identity: [1; 32], gated: false, priority };
    let jobs: Vec<NewJob> = modules.iter().map(job).collect();
    assert!(store.route_for(&routed, "c", &jobs, reasons).await.expect("routed"));
}

async fn end(store: &Store, job: i64, release: Release, level: Urgency) {
    let finding = Code::new("BLEED", "99T", "Bleeding");
    let triage = vec![Triage { level, finding, probability: 0.9, reason: "a dense lesion".into() }];
    let raise = if release == Release::Shadow { Urgency::Routine } else { level };
    let done = Ending::Done(crate::store::Done {
        result_path: "results/x".into(),
        result_sha256: [2; 32],
        found: Vec::new(),
        raise,
        unfit: false,
        fallbacks: Vec::new(),
        deliver: Vec::new(),
        release,
        triage,
        report: None,
    });
    store.end_job(job, &done).await.expect("ended");
}

async fn told(store: &Store) -> Vec<(String, &'static str, Urgency)> {
    let list = store.worklist(1000, 10, 0).await.expect("a worklist");
    assert_eq!(list.total, list.studies.len() as u64);
    assert!(list.studies.iter().zip(1..).all(|(study, place)| study.place == place));
    list.studies.into_iter().map(|s| (s.accession_number, s.state.name(), s.level)).collect()
}

#[tokio::test]
async fn studies_stand_by_their_reasons_and_their_age_and_nothing_lowers() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = Store::open(folder.path()).await.expect("a journal");
    store.tamper(STUDIES).await;
    let own = |accession: &str, state, level| (accession.to_owned(), state, level);
    let routine = Urgency::Routine;
    assert_eq!(told(&store).await, [own("ACC1", "closed", routine), own("ACC2", "closed", routine)]);

    route(&store, "2.25.1", &["a"], &[]).await;
    route(&store, "2.25.2", &["b", "c"], &[Reason::order(Urgency::Prompt, "HIGH")]).await;
    assert_eq!(told(&store).await, [own("ACC2", "waiting", Urgency::Prompt), own("ACC1", "waiting", routine)]);

    // What is found in the shadow moves nothing.
    let job = store.claim(Due::now(0), routine).await.expect("the journal").expect("a job");
    assert_eq!(told(&store).await[0].1, "running");
    end(&store, job.id, Release::Shadow, Urgency::Critical).await;
    assert_eq!(told(&store).await[0], own("ACC2", "waiting", Urgency::Prompt));
    let job = store.claim(Due::now(0), routine).await.expect("the journal").expect("a job");
    end(&store, job.id, Release::AtOnce, routine).await;
    assert_eq!(told(&store).await[0], own("ACC2", "done", Urgency::Prompt));

    let job = store.claim(Due::now(0), routine).await.expect("the journal").expect("a job");
    end(&store, job.id, Release::Hold, Urgency::Urgent).await;
    assert_eq!(
        told(&store).await,
        [own("ACC1", "held", Urgency::Urgent), own("ACC2", "done", Urgency::Prompt)],
        "who is to release it sees it first"
    );
    assert_eq!(store.triage_of(job.id).await.expect("kept")[0].reason, "a dense lesion");

    // Lower reasons change nothing, higher ones do.
    for (level, expected) in [(routine, Urgency::Prompt), (Urgency::Critical, Urgency::Critical)] {
        let reason = Reason { level, cause: Cause::Rule, what: "r".into() };
        store.raise_study("2.25.2", &reason).await.expect("raised");
        assert!(told(&store).await.contains(&own("ACC2", "done", expected)));
    }
    let list = store.worklist(1000, 1, 0).await.expect("a worklist");
    assert_eq!((list.total, list.studies[0].accession_number.as_str()), (2, "ACC2"), "a page");
    let reasons = serde_json::to_value(&list.studies[0].reasons).expect("JSON");
    let causes: Vec<&str> = reasons.as_array().expect("a list").iter().filter_map(|r| r["cause"].as_str()).collect();
    assert_eq!(causes, ["rule", "order", "triage", "rule", "age"], "{reasons}");
    let second = store.worklist(1000, 1, 1).await.expect("a worklist");
    assert_eq!((second.studies[0].place, second.studies[0].accession_number.as_str()), (2, "ACC1"));
    let Why::Triage { module, probability, held, .. } = &second.studies[0].reasons[0] else { panic!("{second:?}") };
    assert_eq!((module.as_str(), *probability, *held), ("a", 0.9, true));
}

#[tokio::test]
async fn a_study_is_open_until_its_time_is_over_and_longer_while_something_waits() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = Store::open(folder.path()).await.expect("a journal");
    store.tamper(STUDIES).await;
    let later = 5000;
    assert_eq!(store.worklist(later, 10, 0).await.expect("a worklist").total, 0);
    route(&store, "2.25.1", &["a"], &[]).await;
    assert_eq!(store.worklist(later, 10, 0).await.expect("a worklist").total, 1, "a job waits");
    let job = store.claim(Due::now(0), Urgency::Routine).await.expect("the journal").expect("a job");
    end(&store, job.id, Release::Hold, Urgency::Routine).await;
    let much_later = now_ms() + 1000;
    assert_eq!(store.worklist(much_later, 10, 0).await.expect("a worklist").total, 1, "a result is held");
    store.release_result(job.id, "me", false).await.expect("released");
    assert_eq!(store.worklist(much_later, 10, 0).await.expect("a worklist").total, 0);
    assert_eq!(store.worklist(later, 10, 0).await.expect("a worklist").total, 1, "it ended not long ago");
}

#[tokio::test]
async fn an_order_that_comes_before_its_images_raises_them() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = Store::open(folder.path()).await.expect("a journal");
    let stat = Reason::order(Urgency::Urgent, "STAT");
    assert_eq!(store.raise_study("2.25.1", &stat).await.expect("kept"), 0);
    store.tamper(STUDIES).await;
    route(&store, "2.25.1", &["a"], &[]).await;
    let jobs = store.jobs(Some("2.25.1"), None).await.expect("jobs");
    assert_eq!(jobs[0].priority, Urgency::Urgent);
    let list = store.worklist(0, 1, 0).await.expect("a worklist");
    assert!(matches!(&list.studies[0].reasons[0], Why::Order { priority, .. } if priority == "STAT"), "{list:?}");
    // Whoever raised it.
    store.tamper("UPDATE job SET priority = 3").await;
    let list = store.worklist(0, 1, 0).await.expect("a worklist");
    let Why::Job { level, module, .. } = &list.studies[0].reasons[0] else { panic!("{list:?}") };
    assert_eq!((*level, module.as_str()), (Urgency::Critical, "a"));
}
