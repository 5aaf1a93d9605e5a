//! Debian's age makes the keys and opens what was written here.

use std::process::Command;

use super::*;
use crate::deid::{Deidentifier, Profile, Secret, Subject};

/// A folder with two identities and their recipients; nothing where age is not installed.
fn keys_of_age() -> Option<tempfile::TempDir> {
    if !Path::new("/usr/bin/age").exists() {
        let remedy = "age is not installed: run `apt-get install --no-install-recommends age`";
        assert!(std::env::var_os("CI").is_none(), "{remedy}");
        eprintln!("skipped: {remedy}");
        return None;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let mut recipients = String::from("# of the records office\n");
    for name in ["one", "two"] {
        let key = folder.path().join(name);
        assert!(Command::new("age-keygen").arg("-o").arg(&key).output().expect("it runs").status.success());
        let public = Command::new("age-keygen").arg("-y").arg(&key).output().expect("it runs");
        recipients += &String::from_utf8(public.stdout).expect("text");
    }
    std::fs::write(folder.path().join("recipients"), recipients).expect("written");
    Some(folder)
}

/// What age itself finds in a file.
fn opened(file: &Path, identity: &Path) -> Option<String> {
    let said = Command::new("age").arg("-d").arg("-i").arg(identity).arg(file).output().expect("it runs");
    said.status.success().then(|| String::from_utf8(said.stdout).expect("text"))
}

fn mappings() -> Vec<Mapping> {
    let by = Deidentifier::new(Profile::preset("retraining").expect("a preset"), Secret::new(&[7; 32]).expect("a key"));
    let source = crate::deid::ct_for_tests();
    [1, 2].map(|_| by.mapping(&source, &Subject::default()).expect("understood")).into()
}

#[test]
fn age_opens_what_was_kept_and_nobody_else_does() {
    let Some(keys) = keys_of_age() else { return };
    let [one, two, recipients, folder] = ["one", "two", "recipients", "escrow"].map(|name| keys.path().join(name));
    let escrow = Escrow::open(&folder, &recipients).expect("an escrow");
    let file = escrow.keep(&mappings()).expect("kept");
    let text = opened(&file, &one).expect("the first opens it");
    assert_eq!(opened(&file, &two).as_ref(), Some(&text), "so does the second");
    let stranger = keys.path().join("stranger");
    assert!(Command::new("age-keygen").arg("-o").arg(&stranger).output().expect("it runs").status.success());
    assert_eq!(opened(&file, &stranger), None);

    let lines: Vec<serde_json::Value> = text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert_eq!(lines.len(), 2);
    let (source, released) = (&lines[0]["source"], &lines[0]["released"]);
    assert_eq!(
        (&source["patient_id"], &source["patient_name"]),
        (&"PAT-4471199".into(), &"Mustermann^Erika=山田^花子".into())
    );
    assert_eq!((&source["sop_instance_uid"], &source["accession_number"]), (&"1.2.3.4.1".into(), &"ACC-77123".into()));

    // They are those of the instance that leaves.
    let by = Deidentifier::new(Profile::preset("retraining").expect("a preset"), Secret::new(&[7; 32]).expect("a key"));
    let instance = by.deidentify_bytes(crate::deid::ct_for_tests()).expect("released");
    assert_eq!(released["patient_id"], instance.patient_pseudonym());
    assert_eq!(released["study_instance_uid"], instance.study_instance_uid());
    assert_eq!(released["series_instance_uid"], instance.series_instance_uid());
    assert_eq!(released["sop_instance_uid"], instance.sop_instance_uid());
    let accession = released["accession_number"].as_str().expect("a pseudonym").as_bytes();
    assert!(instance.as_bytes().windows(accession.len()).any(|window| window == accession));
    let days = lines[0]["dates_moved_days"].as_i64().expect("days");
    let moved = chrono::NaiveDate::from_ymd_opt(2023, 3, 10).expect("a day") + chrono::Duration::days(days);
    let moved = moved.format("%Y%m%d").to_string();
    assert!(instance.as_bytes().windows(8).any(|window| window == moved.as_bytes()), "its study date");

    let found = find(&folder, &two, instance.sop_instance_uid()).expect("looked through");
    assert_eq!(found, lines);
    assert_eq!(find(&folder, &two, "PAT-4471199").expect("looked through").len(), 2, "the other way round");
    assert_eq!(find(&folder, &two, "2.25.1").expect("looked through").len(), 0);
    assert!(matches!(find(&folder, &stranger, "2.25.1"), Err(EscrowError::Age { .. })));
    assert!(matches!(find(&folder, &recipients, "2.25.1"), Err(EscrowError::Identity(_))));
}

#[test]
fn what_is_kept_is_closed_to_others_and_whole_or_not_there() {
    let Some(keys) = keys_of_age() else { return };
    let [recipients, folder] = ["recipients", "escrow"].map(|name| keys.path().join(name));
    let escrow = Escrow::open(&folder, &recipients).expect("an escrow");
    let file = escrow.keep(&mappings()).expect("kept");
    let mode = |path: &Path| std::fs::metadata(path).expect("there").permissions().mode() & 0o777;
    assert_eq!((mode(&folder), mode(file.parent().expect("a day")), mode(&file)), (0o700, 0o700, 0o600));
    let bytes = std::fs::read(&file).expect("readable");
    assert!(bytes.starts_with(b"age-encryption.org/v1\n-> X25519 ") && !bytes.windows(10).any(|w| w == b"Mustermann"));

    // As a killed process leaves it.
    let left = folder.join(".018f0000-0000-7000-8000-000000000000");
    std::fs::write(&left, "half").expect("written");
    Escrow::open(&folder, &recipients).expect("an escrow");
    assert!(!left.exists() && file.exists());

    std::fs::set_permissions(&folder, std::os::unix::fs::PermissionsExt::from_mode(0o750)).expect("changed");
    assert!(matches!(Escrow::open(&folder, &recipients), Err(EscrowError::Open(_))));
    for wrong in ["", "# nobody\n", "age1qqq\n", "ssh-ed25519 AAAA\n"] {
        std::fs::write(&recipients, wrong).expect("written");
        assert!(matches!(Escrow::open(&folder, &recipients), Err(EscrowError::Recipients(_))), "{wrong}");
    }
}
