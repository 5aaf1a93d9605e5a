//! `gantry deid`, as people call it.

use std::path::{Path, PathBuf};

use dicom_core::Tag;
use dicom_object::open_file;
use gantry_tests::command::{Said, gantry};
use gantry_tests::write_ct;

fn deid(input: &Path, out: &Path, more: &[&str]) -> Said {
    gantry().arg("deid").arg(input).arg(out).args(more).output().expect("gantry runs").into()
}

/// All files below a folder, sorted.
fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).expect("a folder").map(|e| e.expect("an entry").path());
    let mut files: Vec<PathBuf> =
        entries.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect();
    files.sort();
    files
}

#[test]
fn a_study_and_its_result_leave_without_identity_and_still_belong_together() {
    let folder = tempfile::tempdir().expect("a folder");
    let [study, out, again] = ["Doe Jane", "out", "again"].map(|name| folder.path().join(name));
    std::fs::create_dir(&study).expect("made");
    write_ct(&study).expect("a study");
    let source = open_file(&files(&study)[0]).expect("readable");
    let uid = source.element(Tag(0x0020, 0x000D)).expect("there").to_str().expect("text").into_owned();
    let result = format!("{{\"input\": {{\"study_instance_uid\": \"{uid}\"}}}}");
    std::fs::write(study.join("result.json"), result).expect("written");
    let key = folder.path().join("key");
    std::fs::write(&key, [5; 32]).expect("written");
    let (key, report) = (key.to_str().expect("a path"), folder.path().join("report.json"));
    let report = report.to_str().expect("a path");
    let said = deid(&study, &out, &["--profile", "qa-minimal", "--key", key, "--report", report]);
    assert_eq!(said.code, Some(0), "{}", said.err);
    let released = files(&out);
    assert_eq!(released.len(), 11, "{released:?}");
    let object = open_file(released.iter().find(|path| path.extension().is_some_and(|e| e == "dcm")).expect("one"))
        .expect("DICOM");
    let new = object.element(Tag(0x0020, 0x000D)).expect("there").to_str().expect("text").into_owned();
    assert_ne!(new, uid);
    let json = released.iter().find(|path| path.extension().is_some_and(|e| e == "json")).expect("a result");
    assert!(std::fs::read_to_string(json).expect("text").contains(&new), "the result is about the same study");
    let report: serde_json::Value =
        serde_json::from_str(&std::fs::read_to_string(report).expect("text")).expect("JSON");
    assert_eq!(
        (report["released"].as_u64(), report["actions"]["(0010,0020)"]["pseudonym"].as_u64()),
        (Some(11), Some(10))
    );
    // The same key, the same bytes.
    assert_eq!(deid(&study, &again, &["--profile", "qa-minimal", "--key", key]).code, Some(0));
    let bytes =
        |folder: &Path| files(folder).iter().map(|path| std::fs::read(path).expect("readable")).collect::<Vec<_>>();
    assert_eq!(bytes(&out), bytes(&again));
    assert_eq!(deid(&study, &out, &["--profile", "qa-minimal", "--key", key]).code, Some(1), "nothing is replaced");
}

#[test]
fn what_is_held_is_said_and_not_written() {
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::write(folder.path().join("notes.txt"), "Jane Doe").expect("written");
    let out = folder.path().join("out");
    let said = deid(folder.path(), &out, &[]);
    assert_eq!(said.code, Some(4));
    assert!(said.err.contains("not a DICOM file"), "{}", said.err);
    assert!(!out.exists());
    assert_eq!(deid(folder.path(), &out, &["--profile", "everything"]).code, Some(2));
}
