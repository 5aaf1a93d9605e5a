//! The worklist of a node: what the demonstration finds puts its study first, and says why.

use dicom_core::VR;
use dicom_dictionary_std::{tags, uids};
use gantry_tests::node::{Node, eventually};
use gantry_tests::{Scenario, change_files, needed, write_ct, write_head_ct};
use serde_json::Value;

use crate::dicomweb::get;
use crate::node::{json, send, send_ct, site};

/// The worklist, as HTTP has it.
fn worklist(node: &Node) -> Value {
    let reply = get(node, "/api/worklist");
    assert_eq!(reply.status, 200, "{}", reply.text());
    serde_json::from_slice(&reply.body).expect("JSON")
}

#[test]
fn an_urgent_finding_puts_its_study_first_and_the_list_says_why() {
    let Some(package) = needed("modules/head-ct-triage/package", "cargo xtask guests") else { return };
    let node = Node::start(&site(&package, ""));
    // Older, of another part of the body, and so nothing runs on it.
    let chest = tempfile::tempdir().expect("a folder");
    write_ct(chest.path()).expect("written");
    change_files(chest.path(), |_, slice| {
        slice.put_str(tags::NUMBER_OF_STUDY_RELATED_INSTANCES, VR::IS, "10");
        slice.put_str(tags::ACCESSION_NUMBER, VR::SH, "CHEST1");
    })
    .expect("changed");
    send(&node, chest.path(), uids::EXPLICIT_VR_LITTLE_ENDIAN);
    eventually("the first study is looked at", || worklist(&node)["studies"][0]["state"] == "nothing-to-run");

    let head = tempfile::tempdir().expect("a folder");
    write_head_ct(head.path(), true).expect("written");
    change_files(head.path(), |_, slice| {
        slice.put_str(tags::STUDY_INSTANCE_UID, VR::UI, "2.25.77");
        slice.put_str(tags::SERIES_INSTANCE_UID, VR::UI, "2.25.78");
        slice.put_str(tags::NUMBER_OF_STUDY_RELATED_INSTANCES, VR::IS, "32");
        slice.put_str(tags::ACCESSION_NUMBER, VR::SH, "HEAD1");
        let uid = slice.element(tags::SOP_INSTANCE_UID).expect("there").to_str().expect("text").into_owned();
        slice.put_str(tags::SOP_INSTANCE_UID, VR::UI, format!("{}.77", uid.trim_end_matches('\0')));
    })
    .expect("changed");
    send(&node, head.path(), uids::EXPLICIT_VR_LITTLE_ENDIAN);
    let mut list = Value::Null;
    eventually("the head is done", || {
        list = worklist(&node);
        list["studies"].as_array().is_some_and(|studies| studies.iter().any(|study| study["state"] == "done"))
    });
    assert_eq!((&list["total"], &list["offset"]), (&2.into(), &0.into()), "{list}");
    let [first, second] = [0, 1].map(|place| list["studies"][place].clone());
    assert_eq!(
        (&first["place"], &first["accession_number"], &first["level"]),
        (&1.into(), &"HEAD1".into(), &"urgent".into())
    );
    let why = &first["reasons"][0];
    assert_eq!(
        (&why["cause"], &why["module"], &why["level"]),
        (&"triage".into(), &"head-ct-triage".into(), &"urgent".into())
    );
    assert_eq!(why["finding"]["value"], "HYPERDENSE", "{why}");
    assert!(why["probability"].as_f64().is_some_and(|p| p > 0.5), "{why}");
    assert_eq!(first["reasons"].as_array().and_then(|all| all.last()).map(|last| &last["cause"]), Some(&"age".into()));
    assert_eq!(
        (&second["place"], &second["accession_number"], &second["level"]),
        (&2.into(), &"CHEST1".into(), &"routine".into())
    );
    let part = get(&node, "/api/worklist?limit=1&offset=1");
    let part: Value = serde_json::from_slice(&part.body).expect("JSON");
    assert_eq!((&part["total"], &part["studies"][0]["accession_number"]), (&2.into(), &"CHEST1".into()), "{part}");

    // On the command line the same.
    let told = json(&node.says(&["worklist", "--json"]));
    assert_eq!(told["studies"][0]["accession_number"], "HEAD1", "{told}");
    let says = node.says(&["worklist", "--limit", "1"]);
    for part in [
        "    1  urgent    done            HEAD1",
        "urgent: head-ct-triage (job ",
        "here for ",
        "2 studies are open; more from --offset 1 on",
    ] {
        assert!(says.code == Some(0) && says.out.contains(part), "`{part}` is missing: {says:?}");
    }
    assert!(!says.out.to_lowercase().contains("secret"), "{says:?}");
    let audited = node.audited("study-read");
    assert!(
        audited.iter().any(|row| row["object"] == "/api/worklist" && row["detail"] == "2 of the worklist"),
        "{audited:?}"
    );
}

#[test]
fn a_worklist_is_for_those_who_may_read_and_wrong_questions_are_refused() {
    let Some(module) = Scenario::rogue("well-behaved") else { return };
    let node = Node::start(&site(module.package_folder(), ""));
    for wrong in ["limit=-1", "limit=x", "offset=4294967296", "what=1", "limit=1&PatientID=1"] {
        assert_eq!(get(&node, &format!("/api/worklist?{wrong}")).status, 400, "{wrong}");
    }
    assert_eq!(get(&node, "/api/worklist?limit=0&offset=4294967295").status, 200);
    assert_eq!(get(&node, "/api/other").status, 404);
    send_ct(&node);
    eventually("it is on the list", || worklist(&node)["total"] == 1);
    assert_eq!(node.says(&["token", "new", "sender", "--scope", "send"]).code, Some(0));
    let reply = get(&node, "/api/worklist");
    assert_eq!(reply.status, 401, "{}", reply.text());
}
