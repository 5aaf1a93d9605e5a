//! What sync holds, on a real node: seen, released and discarded by people, and told in the audit log.

use dicom_core::VR;
use dicom_dictionary_std::{tags, uids};
use gantry::store::{HeldKind, HeldObject, Store, ToHold};
use gantry_cloud_sync::deid::{Deidentifier, Held, Profile, Secret, Subject};
use gantry_cloud_sync::held::Reason;
use gantry_tests::command::Said;
use gantry_tests::node::Node;
use gantry_tests::{change_files, write_ct};
use serde_json::Value;

use crate::dicomweb::{ask, get, token};
use crate::node::{json, send};

const PROFILE: [u8; 32] = [9; 32];

/// A node with a CT of a head, of which the first slice is held for its face and the second as a document, as sync would: by the
/// real de-identifier, through the journal's own ways.
fn holding() -> Node {
    let node = Node::start("[web]\nlisten = \"127.0.0.1:0\"\n");
    let folder = tempfile::tempdir().expect("a folder");
    write_ct(folder.path()).expect("written");
    change_files(folder.path(), |_, slice| {
        slice.put_str(tags::BODY_PART_EXAMINED, VR::CS, "HEAD");
    })
    .expect("changed");
    send(&node, folder.path(), uids::EXPLICIT_VR_LITTLE_ENDIAN);
    let by = deidentifier();
    in_journal(&node, async |store| {
        let rows = store.instances_of_study("2.25.2").await.expect("readable");
        let object = |place: usize| HeldObject {
            kind: HeldKind::Instance,
            series_instance_uid: rows[place].series_instance_uid.clone(),
            sop_instance_uid: rows[place].sop_instance_uid.clone(),
            job: None,
            sha256: rows[place].sha256,
        };
        let face = by.deidentify_file(&node.data().join(&rows[0].path)).expect_err("it is held");
        let held = [
            ToHold { object: object(0), reason: Reason::from(&face) },
            ToHold { object: object(1), reason: Reason::from(&Held::Kind("encapsulated documents")) },
        ];
        let mut batch = store.begin().await.expect("begun");
        assert_eq!(batch.hold("2.25.2", &PROFILE, &held).await.expect("held"), 2);
        batch.commit().await.expect("committed");
    });
    node
}

fn deidentifier() -> Deidentifier {
    Deidentifier::new(Profile::preset("qa-minimal").expect("a preset"), Secret::new(&[3; 32]).expect("a key"))
}

/// As another process than the node.
fn in_journal<T>(node: &Node, work: impl AsyncFnOnce(&Store) -> T) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let store = Store::open(&node.data()).await.expect("a journal");
        let done = work(&store).await;
        store.close().await;
        done
    })
}

fn decide(node: &Node, what: &str, ids: &[&str], why: &str) -> Said {
    node.says(&[&["quarantine", what], ids, &["--by", "Dr. A. Example", "--reason", why]].concat())
}

#[test]
fn what_is_held_is_shown_with_what_can_be_done_about_it() {
    let node = holding();
    let list = json(&node.says(&["quarantine", "list", "--json"]));
    let reasons: Vec<_> = list.as_array().expect("a list").iter().map(|row| row["reason"].clone()).collect();
    assert_eq!(reasons, ["kind", "recognizable"], "the latest first");
    let faces = json(&node.says(&["quarantine", "list", "--reason", "recognizable", "--study", "2.25.2", "--json"]));
    assert_eq!((faces.as_array().map(Vec::len), &faces[0]["id"]), (Some(1), &Value::from(1)));
    assert_eq!(faces[0]["excuses"], serde_json::json!(["face-allowed"]));
    assert_eq!(json(&node.says(&["quarantine", "list", "--study", "2.25.99", "--json"])), serde_json::json!([]));
    assert_eq!(node.says(&["quarantine", "list", "--reason", "whatever"]).code, Some(2));

    let picture = node.data().join("frame.png");
    let picture_name = picture.to_str().expect("a path");
    let shown = node.says(&["quarantine", "show", "1", "--png", picture_name]);
    assert_eq!(shown.code, Some(0), "{shown:?}");
    for said in
        ["recognizable", "A face could be rendered from it.", "release it where a face may leave", "face-allowed"]
    {
        assert!(shown.out.contains(said), "{}", shown.out);
    }
    assert!(!shown.out.contains("Secret") && !shown.out.contains("SECRET"), "{}", shown.out);
    assert!(std::fs::read(&picture).expect("drawn").starts_with(b"\x89PNG"));
    let again = node.says(&["quarantine", "show", "1", "--png", picture_name]);
    assert_eq!(again.code, Some(3), "no file is replaced: {again:?}");
    let none = node.says(&["quarantine", "show", "1", "--png", "/nowhere", "--frame", "2"]);
    assert!(none.code == Some(3) && none.err.contains("no such frame"), "{none:?}");
    let document = json(&node.says(&["quarantine", "show", "2", "--json"]));
    assert!(
        document["remedy"].as_str().is_some_and(|remedy| remedy.starts_with("it cannot be released")),
        "{document}"
    );
    assert_eq!(node.says(&["quarantine", "show", "99"]).code, Some(3));
}

#[test]
fn people_release_and_discard_and_the_audit_log_tells_who() {
    let node = holding();
    let refused = decide(&node, "release", &["1", "2"], "all of it");
    assert_eq!(refused.code, Some(3), "{refused:?}");
    assert!(refused.err.contains("2 is held for `kind`: it cannot be released"), "{}", refused.err);
    assert_eq!(json(&node.says(&["quarantine", "list", "--json"])).as_array().map(Vec::len), Some(2), "nothing was");
    assert_eq!(
        node.says(&["quarantine", "release", "1", "--reason", "why"]).code,
        Some(2),
        "nobody's decision is none"
    );
    assert_eq!(decide(&node, "release", &["1"], " ").code, Some(2), "nor one without a reason");

    let released = decide(&node, "release", &["1"], "Mrs. Secret agreed");
    assert_eq!(released.code, Some(0), "{released:?}");
    assert_eq!(decide(&node, "discard", &["2"], "a letter to Mrs. Secret").code, Some(0));
    let states = json(&node.says(&["quarantine", "list", "--state", "any", "--json"]));
    assert_eq!((&states[0]["state"], &states[1]["state"]), (&"discarded".into(), &"released".into()), "{states}");
    assert_eq!(states[1]["decided_by"], "operator for Dr. A. Example");

    // What sync does next: it looks at the object again, with what was excused.
    let excused = in_journal(&node, async |store| {
        let row = store.held_row(1).await.expect("readable").expect("there");
        let decided = store.excuses_of("2.25.2", &PROFILE).await.expect("decided");
        let path =
            node.data().join(store.instance(&row.sop_instance_uid).await.expect("readable").expect("there").path);
        let source = std::fs::read(path).expect("readable");
        deidentifier().deidentify_excused(source, &Subject::default(), &decided[&row.sha256].excuses)
    });
    assert!(!excused.expect("released").report().excused().is_empty());

    for (action, detail) in [
        ("objects-held", "1 × instance for kind; 1 × instance for recognizable"),
        ("object-released", "instance held for recognizable: face-allowed"),
        ("object-discarded", "instance held for kind"),
    ] {
        let rows = node.audited(action);
        assert_eq!((rows.len(), &rows[0]["detail"]), (1, &detail.into()), "{rows:?}");
        assert!(!format!("{rows:?}").contains("Secret"), "what people write stays in the journal");
    }
    assert_eq!(node.audited("object-released")[0]["who"], "operator for Dr. A. Example");
    let verified = node.says(&["audit", "verify"]);
    assert_eq!(verified.code, Some(0), "{verified:?}");
    assert!(!node.log().contains("Mrs. Secret"));
}

#[test]
fn programs_list_what_is_held_with_the_scope_of_reviewers() {
    let node = holding();
    let open = get(&node, "/api/quarantine?reason=recognizable");
    assert_eq!(open.status, 200, "{}", open.text());
    let rows: Value = serde_json::from_slice(&open.body).expect("JSON");
    assert_eq!((rows.as_array().map(Vec::len), &rows[0]["state"]), (Some(1), &"held".into()), "{rows}");
    assert_eq!(get(&node, "/api/quarantine?reason=whatever").status, 400);
    let read = token(&node, &["new", "viewer", "--scope", "read"]);
    let review = token(&node, &["new", "reviewer", "--scope", "read", "--scope", "review"]);
    let with = |token: &str| ask(&node, "GET", "/api/quarantine", &format!("Authorization: Bearer {token}\r\n")).status;
    assert_eq!((with(&read), with(&review)), (403, 200));
}
