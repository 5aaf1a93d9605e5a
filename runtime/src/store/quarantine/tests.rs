use gantry_cloud_sync::deid::Held;

use super::*;

const STUDY: &str = "2.25.1";
const PROFILE: [u8; 32] = [7; 32];

async fn journal() -> (tempfile::TempDir, Store) {
    let folder = tempfile::tempdir().expect("a folder");
    let store = Store::open(folder.path()).await.expect("a journal");
    (folder, store)
}

fn instance(n: u8) -> HeldObject {
    HeldObject {
        kind: HeldKind::Instance,
        series_instance_uid: "2.25.2".into(),
        sop_instance_uid: format!("2.25.3.{n}"),
        job: None,
        sha256: [n; 32],
    }
}

fn face(n: u8) -> ToHold {
    ToHold { object: instance(n), reason: Reason::from(&Held::Recognizable) }
}

async fn hold(store: &Store, profile: [u8; 32], held: &[ToHold]) -> u64 {
    let mut batch = store.begin().await.expect("begun");
    let new = batch.hold(STUDY, &profile, held).await.expect("held");
    batch.commit().await.expect("committed");
    new
}

async fn states(store: &Store) -> Vec<(i64, HeldState)> {
    let rows = store.held(HeldSearch::default(), 10, 0).await.expect("rows");
    rows.iter().map(|row| (row.id, row.state)).collect()
}

async fn decided(store: &Store, profile: [u8; 32], n: u8) -> Decided {
    store.excuses_of(STUDY, &profile).await.expect("decided").remove(&[n; 32]).unwrap_or_default()
}

#[tokio::test]
async fn what_is_held_again_for_the_same_reason_is_the_same_row() {
    let (_folder, store) = journal().await;
    assert_eq!(hold(&store, PROFILE, &[face(1), face(2)]).await, 2);
    assert_eq!(hold(&store, PROFILE, &[face(1), face(2)]).await, 0);
    assert_eq!(states(&store).await, [(2, HeldState::Held), (1, HeldState::Held)]);
    let told = store.audit_latest(None, 10).await.expect("a log");
    let told: Vec<_> = told.iter().map(|row| (row.action.as_str(), row.detail.as_str())).collect();
    assert_eq!(told, [("objects-held", "2 × instance for recognizable")]);
    let counts = store.held_counts().await.expect("counts");
    assert_eq!(counts, BTreeMap::from([((HeldState::Held, ReasonKind::Recognizable), 2)]));
    let by_reason = HeldSearch { reason: Some(ReasonKind::BurnedIn), ..HeldSearch::default() };
    assert_eq!(store.held(by_reason, 10, 0).await.expect("rows"), []);
}

#[tokio::test]
async fn a_release_excuses_one_reason_of_these_bytes_under_this_profile() {
    let (_folder, store) = journal().await;
    hold(&store, PROFILE, &[face(1), face(2)]).await;
    let released = store.release_held(&[1], "Dr. A", "agreed").await.expect("asked").expect("released");
    assert_eq!((released.len(), released[0].state, released[0].decided_by.as_str()), (1, HeldState::Released, "Dr. A"));
    let face_allowed: Excuses = [Excuse::FaceAllowed].into_iter().collect();
    assert_eq!(decided(&store, PROFILE, 1).await, Decided { excuses: face_allowed.clone(), discarded: false });
    assert_eq!(decided(&store, PROFILE, 2).await, Decided::default());
    assert_eq!(decided(&store, [8; 32], 1).await, Decided::default(), "another profile");

    // A run that began before the release holds it for what was excused meanwhile: the release stays.
    assert_eq!(hold(&store, PROFILE, &[face(1)]).await, 0);
    // Then something else is in its way, and the first excuse still counts.
    let text = ToHold { object: instance(1), reason: Reason::from(&Held::TextInPixels) };
    assert_eq!(hold(&store, PROFILE, &[text]).await, 1);
    assert_eq!(states(&store).await, [(2, HeldState::Held), (1, HeldState::Held)]);
    store.release_held(&[1], "Dr. A", "read").await.expect("asked").expect("released");
    let both: Excuses = [Excuse::FaceAllowed, Excuse::FoundTextRead].into_iter().collect();
    assert_eq!(decided(&store, PROFILE, 1).await.excuses, both);

    assert_eq!(store.rows_of_held(STUDY, &[instance(1), instance(3)]).await.expect("asked"), [1]);
    let mut batch = store.begin().await.expect("begun");
    batch.along_with(5, &[1]).await.expect("taken along");
    assert_eq!(batch.sent_of_held(4).await.expect("another part"), 0);
    assert_eq!(batch.sent_of_held(5).await.expect("sent"), 0);
    batch.commit().await.expect("committed");
    assert_eq!(states(&store).await[1], (1, HeldState::Sent));
    let again = store.discard_held(&[1], "Dr. B", "no").await.expect("asked");
    assert_eq!(again, Err(Undecided::Sent(1)));
    assert_eq!(decided(&store, PROFILE, 1).await.excuses, both, "it can be sent again");
}

#[tokio::test]
async fn what_was_discarded_stays_until_its_bytes_are_others() {
    let (_folder, store) = journal().await;
    hold(&store, PROFILE, &[face(1)]).await;
    store.discard_held(&[1], "Dr. A", "no consent").await.expect("asked").expect("discarded");
    assert!(decided(&store, [8; 32], 1).await.discarded, "under every profile");
    let text = ToHold { object: instance(1), reason: Reason::from(&Held::TextInPixels) };
    assert_eq!(hold(&store, [8; 32], &[text]).await, 0);
    assert_eq!(states(&store).await, [(1, HeldState::Discarded)]);
    let other = ToHold { object: HeldObject { sha256: [9; 32], ..instance(1) }, ..face(1) };
    assert_eq!(hold(&store, PROFILE, &[other]).await, 1);
    assert_eq!(states(&store).await, [(1, HeldState::Held)]);
    assert_eq!(decided(&store, PROFILE, 1).await, Decided::default(), "nothing was decided of either bytes");
}

#[tokio::test]
async fn decisions_are_taken_together_or_not_at_all_and_told_without_their_words() {
    let (_folder, store) = journal().await;
    let document = ToHold { object: instance(2), reason: Reason::from(&Held::Kind("encapsulated documents")) };
    hold(&store, PROFILE, &[face(1), document]).await;
    let refused = store.release_held(&[1, 2], "Dr. A", "all").await.expect("asked").expect_err("one cannot be");
    assert_eq!(refused, Undecided::NotExcusable(2, ReasonKind::Kind));
    assert!(refused.to_string().starts_with("2 is held for `kind`: it cannot be released"), "{refused}");
    let missing = store.discard_held(&[1, 99], "Dr. A", "all").await.expect("asked");
    assert_eq!(missing, Err(Undecided::NoSuch(99)));
    assert_eq!(states(&store).await, [(2, HeldState::Held), (1, HeldState::Held)]);
    store.release_held(&[1], "Dr. A", "Mrs. Example agreed").await.expect("asked").expect("released");
    store.discard_held(&[2], "Dr. A", "of Mrs. Example").await.expect("asked").expect("discarded");
    let told = store.audit_latest(None, 2).await.expect("a log");
    let told: Vec<_> = told.iter().map(|row| (row.action.as_str(), row.object.as_str(), row.detail.as_str())).collect();
    assert_eq!(
        told,
        [
            ("object-released", "2.25.3.1", "instance held for recognizable: face-allowed"),
            ("object-discarded", "2.25.3.2", "instance held for kind"),
        ]
    );
    assert_eq!(store.held_row(1).await.expect("a row").expect("there").decided_why, "Mrs. Example agreed");
}

/// Results of two jobs on one study are two objects.
#[tokio::test]
async fn each_job_has_its_own() {
    let (_folder, store) = journal().await;
    let of = |job, kind| ToHold {
        object: HeldObject {
            kind,
            series_instance_uid: String::new(),
            sop_instance_uid: String::new(),
            job: Some(job),
            sha256: [1; 32],
        },
        reason: Reason::from(&Held::Patient),
    };
    let all = [of(1, HeldKind::Result), of(2, HeldKind::Result), of(2, HeldKind::Verdict), of(2, HeldKind::Timing)];
    assert_eq!(hold(&store, PROFILE, &all).await, 4);
    let mut batch = store.begin().await.expect("begun");
    assert_eq!(batch.held_are_gone(STUDY, Some(2), "retention.results_days").await.expect("gone"), 3);
    batch.commit().await.expect("committed");
    let row = store.held_row(1).await.expect("a row").expect("there");
    assert_eq!((row.job, row.state), (Some(1), HeldState::Held));
    let again = store.release_held(&[2], "me", "why").await.expect("asked");
    assert_eq!(again, Err(Undecided::Gone(2)));
}
