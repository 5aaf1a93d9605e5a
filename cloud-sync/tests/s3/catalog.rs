//! Studies through everything, from their files to tables that other people's engines read straight from the bucket.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::Ed25519KeyPair;
use dicom_core::{DataElement, PrimitiveValue, VR};
use dicom_dictionary_std::tags;
use gantry_cloud_sync::batch::{Digest, Entry, Format, Kind, Limits, Manifest, Profile, Releasable, SiteKey, Spool};
use gantry_cloud_sync::catalog::{Signature, Source, list};
use gantry_cloud_sync::deid::{self, Deidentified, Deidentifier, Instance, Json, Secret, Subject};
use gantry_cloud_sync::s3::{Check, Reader, Report};
use gantry_cloud_sync::verify::{self, Bytes, Proof, Released, Retain, Scanner, Unproven, Verifier};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::servers::Server;
use super::spooled::SITE;
use super::{connect, skipped};

/// A study before and after: its released instances and its result.
struct Study {
    instances: Vec<Released<Instance>>,
    sources: Vec<Vec<u8>>,
    subject: Subject,
    /// As the hospital calls it.
    uid: String,
}

pub(super) async fn other_engines_read_what_went_in(server: &Server) {
    let (Some(files), Some(python)) = (slices(), python()) else { return };
    let folder = TempDir::new().expect("a folder");
    let (mut spool, first) = spooled(folder.path(), &files);
    let bucket = server.bucket("catalog", false).await;
    let credentials = folder.path().join("credentials");
    std::fs::write(&credentials, server.credentials()).expect("credentials");
    let uploader = connect(server, "catalog", &server.url, &credentials, |_| {}).await;
    let uploaded = uploader.drain(&mut spool, |_| {}).await.expect("it is in");
    assert_eq!(uploaded.len(), 2);
    let check = Check { read: true, repair: true };
    let report = uploader.verify(&mut spool, &[], &HashSet::new(), check, |_| {}).await.expect("a check");
    assert!(report.is_right() && report.repaired == 0, "{report:?}");
    let parts = bucket.keys().await.into_iter().filter(|key| key.starts_with("gantry/catalog/")).collect::<Vec<_>>();
    assert_eq!(parts.len(), 12, "six tables of two batches: {parts:?}");

    judge(&said(server, &python, "catalog"), &first);
    gone_and_back(server, &mut spool, &credentials, &parts).await;
    who_opted_out_hides_no_loss_of_others(server, &mut spool, &credentials).await;
}

/// Somebody opts out when all is there and the spool was not told, and then all others do.
pub(super) async fn who_is_withdrawn_late_is_in_no_manifest_and_no_row(server: &Server) {
    let (Some(files), Some(python)) = (slices(), python()) else { return };
    let folder = TempDir::new().expect("a folder");
    let (mut spool, _) = spooled(folder.path(), &files);
    let bucket = server.bucket("withdrawn", false).await;
    let credentials = folder.path().join("credentials");
    std::fs::write(&credentials, server.credentials()).expect("credentials");
    let uploader = connect(server, "withdrawn", &server.url, &credentials, |_| {}).await;
    let [batch, never] = spool.sealed().expect("a list")[..] else { panic!("two batches") };
    let begun = spool.batch(batch).expect("it waits");
    uploader.upload(&begun, |_| {}).await.expect("it is in");
    let rows = json!({ "study": 2, "series": 3, "instance": 8, "finding": 3, "verdict": 1, "run": 1 });
    assert_eq!(said(server, &python, "withdrawn")["rows"], rows);
    let manifest = format!("gantry/{SITE}/{}", Manifest::path(batch));
    let of_both = bucket.get(&manifest).await;

    // The first, of whom all results are: their tables are there, without rows.
    let records: Vec<_> = begun.manifest().studies.iter().map(|study| study.record).collect();
    assert!(spool.withdraw(records[0]).expect("withdrawn"));
    let uploaded = uploader.upload(&spool.batch(batch).expect("it waits"), |_| {}).await.expect("it is in");
    assert_eq!((uploaded.objects, uploaded.sent, uploaded.there), (3, 0, 3));
    let rows = json!({ "study": 1, "series": 1, "instance": 3, "finding": 0, "verdict": 0, "run": 0 });
    assert_eq!(said(server, &python, "withdrawn")["rows"], rows);
    let check = Check { read: true, repair: false };
    let nobody = HashSet::new();
    let report = uploader.verify(&mut spool, &[], &nobody, check, |_| {}).await.expect("a check");
    assert!(report.is_right() && (report.batches, report.objects) == (1, 9), "{report:?}");

    assert!(spool.withdraw(records[1]).expect("withdrawn"));
    uploader.upload(&spool.batch(batch).expect("it waits"), |_| {}).await.expect("it is in");
    let rows = json!({ "study": 0, "series": 0, "instance": 0, "finding": 0, "verdict": 0, "run": 0 });
    assert_eq!(said(server, &python, "withdrawn")["rows"], rows);
    let there = bucket.keys().await;
    let records: Vec<_> = spool.batch(never).expect("it waits").manifest().studies.iter().map(|s| s.record).collect();
    records.into_iter().for_each(|record| assert!(spool.withdraw(record).expect("withdrawn")));
    uploader.drain(&mut spool, |_| {}).await.expect("there is nothing of it");
    assert_eq!(bucket.keys().await, there, "nothing tells of a batch that never was");
    let report = uploader.verify(&mut spool, &[], &nobody, check, |_| {}).await.expect("a check");
    assert!(report.is_right() && (report.batches, report.objects) == (1, 6), "{report:?}");

    // The manifest with both of them is the site's, and was right once.
    bucket.put(&manifest, &of_both).await;
    let check = Check { read: true, repair: true };
    let report = uploader.verify(&mut spool, &[], &nobody, check, |_| {}).await.expect("a check");
    assert_eq!((report.manifests_wrong, report.repaired, report.is_right()), (1, 1, true), "{report:?}");
    assert_ne!(bucket.get(&manifest).await, of_both);
}

/// What DuckDB and DataFusion read of a bucket, where they agree.
fn said(server: &Server, python: &Path, bucket: &str) -> Value {
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/catalog.md");
    let judged = Command::new(python)
        .arg(peers().join("catalog.py"))
        .args([server.url.as_str(), &server.key, &server.secret, bucket, "gantry/"])
        .arg(docs)
        .output()
        .expect("Python runs");
    assert!(judged.status.success(), "{}: {}", server.name, String::from_utf8_lossy(&judged.stderr));
    serde_json::from_slice(&judged.stdout).expect("JSON")
}

/// Two studies of two patients, and the first again a day later; and the first.
fn spooled(folder: &Path, files: &[PathBuf]) -> (Spool, Study) {
    let by = deidentifier();
    let [first, second] = [("A", &files[..5]), ("B", &files[5..8])].map(|(patient, files)| study(&by, patient, files));
    let result = json(&by, &first, &result(&first.uid));
    let result_sha256 = Digest::of(result.as_bytes()).to_string();
    let verdict = |verdict: &str| json(&by, &first, &self::verdict(&first.uid, &result_sha256, verdict));
    let (rejected, accepted) = (verdict("rejected"), verdict("accepted"));
    let timing = json(&by, &first, &timing(&first.uid, &result_sha256));

    let key = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).expect("a key");
    let open = |key: &[u8]| SiteKey::from_pkcs8(key).expect("a key");
    let site = SITE.parse().expect("a name");
    let mut spool = Spool::open(folder, Limits::default(), site, open(key.as_ref())).expect("a spool");
    let day = |days: u64| UNIX_EPOCH + Duration::from_secs(1_800_000_000 + days * 86_400);
    let mut of_first: Vec<(Kind, &dyn Releasable)> = instances(&first);
    of_first.extend([(Kind::Result, &result as &dyn Releasable), (Kind::Verdict, &rejected), (Kind::Timing, &timing)]);
    add(&mut spool, &of_first, day(0));
    add(&mut spool, &instances(&second), day(0));
    spool.seal_all(day(0)).expect("sealed");
    // The first again, in a later version, with another verdict.
    of_first[6] = (Kind::Verdict, &accepted);
    add(&mut spool, &of_first, day(1));
    spool.seal_all(day(1)).expect("sealed");
    drop(of_first);
    assert_ne!(first.instances[0].patient_pseudonym(), second.instances[0].patient_pseudonym());
    (spool, first)
}

/// What engines saw, against what was handed in.
fn judge(said: &Value, first: &Study) {
    // Two series of the first study, twice; one of the second.
    let rows = json!({ "study": 3, "series": 5, "instance": 13, "finding": 6, "verdict": 2, "run": 2 });
    assert_eq!(said["rows"], rows);
    let latest = json!({ "study": 2, "series": 3, "instance": 8, "finding": 3, "verdict": 1, "run": 1 });
    assert_eq!(said["latest"], latest);
    assert_eq!(said["days"], json!([["2027-01-15", 2], ["2027-01-16", 1]]));
    let mut expected: Vec<Vec<Value>> = Vec::new();
    let mut instances: Vec<_> = first.instances.iter().collect();
    instances.sort_by_key(|instance| instance.sop_instance_uid());
    for instance in instances {
        let header = dicom_object::from_reader(instance.as_bytes()).expect("DICOM");
        let text = |tag| header.get(tag).expect("it is there").to_str().expect("text").trim().to_owned();
        let date = text(tags::STUDY_DATE);
        let date = format!("{}-{}-{}", &date[..4], &date[4..6], &date[6..]);
        let z: f64 = text(tags::IMAGE_POSITION_PATIENT).rsplit('\\').next().expect("three").parse().expect("a number");
        let thickness: f64 = text(tags::SLICE_THICKNESS).parse().expect("a number");
        let about = json!([
            instance.study_instance_uid(),
            instance.series_instance_uid(),
            instance.sop_instance_uid(),
            Digest::of(instance.as_bytes()).to_string(),
            instance.as_bytes().len(),
            instance.patient_pseudonym(),
            date,
            thickness,
            512,
            z,
        ]);
        let found = [
            json!(["measurements/0", "118565006", 1432.5, null]),
            json!(["segments/0", "10200004", 1432.5, 0.75]),
            json!(["triage/0", "4147007", null, 0.875]),
        ];
        for found in found {
            let place = json!([SITE, "2027-01-16"]);
            let row = [&about, &found, &place].into_iter().flat_map(|part| part.as_array().expect("a list").clone());
            expected.push(row.collect());
        }
    }
    assert_eq!(said["joined"], json!(expected));

    // The queries of the documentation.
    let manufacturer = &said["queries"][0][0][2];
    assert_eq!(said["queries"][0], json!([[SITE, "CT", manufacturer, 3, 8, said["queries"][0][0][5]]]));
    let judged = json!([["ct-organs", "1.0.0", "Mass", 1, 1, 0]]);
    assert_eq!(said["queries"][1], judged, "the later verdict counts, once");
    let keys: Vec<_> = said["queries"][2].as_array().expect("rows").iter().map(|row| row[0].clone()).collect();
    let uids: Vec<Value> = first.instances.iter().map(|instance| instance.sop_instance_uid().into()).collect();
    assert!(keys.len() == 5 && keys.iter().all(|key| uids.contains(key)), "{keys:?}");
}

/// A file of the catalogue that is lost or changed is seen by `ls` and put back by `verify`.
async fn gone_and_back(server: &Server, spool: &mut Spool, credentials: &Path, parts: &[String]) {
    let bucket = server.client();
    let uploader = connect(server, "catalog", &server.url, credentials, |_| {}).await;
    let reader = Reader::connect(server.config("catalog", &server.url, credentials)).await.expect("a reader");
    let source = Source::Bucket(Box::new(reader));
    let key = spool.public_key();
    let listed = list(&source, Some(&key)).await.expect("a list");
    assert!(listed.iter().all(|batch| batch.signature == Signature::Valid && batch.wrong.is_empty()), "{listed:?}");
    let rows: Vec<_> = listed.iter().map(|batch| batch.tables["instance"].rows).collect();
    assert_eq!(rows, [Some(8), Some(5)]);

    let before = bucket.get_object().bucket("catalog").key(&parts[0]).send().await.expect("a file");
    let before = before.body.collect().await.expect("its bytes").into_bytes();
    bucket.delete_object().bucket("catalog").key(&parts[0]).send().await.expect("it is gone");
    let changed = bucket.put_object().bucket("catalog").key(&parts[1]).body(b"changed".to_vec().into());
    changed.send().await.expect("it is another");
    let wrong: usize = list(&source, Some(&key)).await.expect("a list").iter().map(|batch| batch.wrong.len()).sum();
    assert_eq!(wrong, 2);
    let check = |repair| Check { read: true, repair };
    let nobody = HashSet::new();
    let found = uploader.verify(spool, &[], &nobody, check(false), |_| {}).await.expect("a check");
    assert_eq!((found.missing, found.damaged, found.repaired), (1, 1, 0));
    let repaired = uploader.verify(spool, &[], &nobody, check(true), |_| {}).await.expect("a check");
    assert!(repaired.is_right(), "{repaired:?}");
    let after = bucket.get_object().bucket("catalog").key(&parts[0]).send().await.expect("a file");
    assert_eq!(after.body.collect().await.expect("its bytes").into_bytes(), before);
}

/// The first of the two of a batch opts out when that is in the bucket, and then the other.
async fn who_opted_out_hides_no_loss_of_others(server: &Server, spool: &mut Spool, credentials: &Path) {
    let bucket = server.client();
    let uploader = connect(server, "catalog", &server.url, credentials, |_| {}).await;
    let [both, again] = spool.sent().expect("a list")[..] else { panic!("two batches") };
    let studies = |batch| spool.batch(batch).expect("it is kept").manifest().studies.clone();
    let (studies, again) = (studies(both), studies(again));
    let key = |path: &str| format!("gantry/{SITE}/{path}");
    let (manifest, object) = (key(&Manifest::path(both)), key(&studies[0].objects[0].sha256.path()));
    let envelope = bucket.get_object().bucket("catalog").key(&manifest).send().await.expect("a manifest");
    let envelope = envelope.body.collect().await.expect("its bytes").into_bytes();
    let first = HashSet::from([studies[0].record, again[0].record]);
    let all = studies.iter().map(|study| study.record).collect();
    let repair = Check { read: true, repair: true };
    let counts = |report: &Report| {
        let Report { manifests_wrong, missing, damaged, repaired, opted_out, .. } = *report;
        ([manifests_wrong, missing, damaged, repaired, opted_out], report.is_right())
    };

    // Somebody else's manifest, and then none: nobody sees the second any more.
    let other = bucket.put_object().bucket("catalog").key(&manifest).body(b"{}".to_vec().into());
    other.send().await.expect("it is another");
    let report = uploader.verify(spool, &[], &first, repair, |_| {}).await.expect("a check");
    assert_eq!(counts(&report), ([1, 0, 0, 0, 0], false));
    bucket.delete_object().bucket("catalog").key(&manifest).send().await.expect("it is gone");
    let report = uploader.verify(spool, &[], &first, repair, |_| {}).await.expect("a check");
    assert_eq!(counts(&report), ([1, 0, 0, 0, 0], false));
    let report = uploader.verify(spool, &[], &all, repair, |_| {}).await.expect("a check");
    assert_eq!(counts(&report), ([1, 0, 0, 0, 1], true), "nobody is left who could miss it");

    // What is damaged is no less so for whose it is.
    let back = bucket.put_object().bucket("catalog").key(&manifest).body(envelope.into());
    back.send().await.expect("it is back");
    let damaged = bucket.put_object().bucket("catalog").key(&object).body(b"changed".to_vec().into());
    damaged.send().await.expect("it is another");
    let report = uploader.verify(spool, &[], &first, repair, |_| {}).await.expect("a check");
    assert!(!report.is_right() && report.damaged > 0 && report.repaired == 0, "{report:?}");
}

fn instances(study: &Study) -> Vec<(Kind, &dyn Releasable)> {
    study.instances.iter().map(|instance| (Kind::Instance, instance as &dyn Releasable)).collect()
}

fn add(spool: &mut Spool, contents: &[(Kind, &dyn Releasable)], now: SystemTime) {
    let profile = Profile { name: "retraining".to_owned(), digest: Digest::of(b"profile") };
    let format = |kind| if kind == Kind::Instance { Format::Dicom } else { Format::Json };
    let entries: Vec<_> =
        contents.iter().map(|&(kind, content)| Entry { kind, format: format(kind), module: None, content }).collect();
    spool.add(&profile, &entries, now).expect("taken in");
}

fn deidentifier() -> Deidentifier {
    let profile = deid::Profile::preset("retraining").expect("a preset");
    Deidentifier::new(profile, Secret::new(&[7; 32]).expect("a secret"))
}

/// Slices of a real CT as a study of this patient. Its UIDs were taken out by who published it.
fn study(by: &Deidentifier, patient: &str, files: &[PathBuf]) -> Study {
    let uid = format!("1.2.826.0.1.3680043.10.{}", if patient == "A" { 4711 } else { 4712 });
    let sources: Vec<Vec<u8>> = files
        .iter()
        .enumerate()
        .map(|(place, path)| {
            let mut object = dicom_object::open_file(path).expect("DICOM");
            let instance = object.meta().media_storage_sop_instance_uid().trim_end_matches('\0').to_owned();
            let series = format!("{uid}.{}", if place < 3 { 1 } else { 2 });
            for (tag, vr, value) in [
                (tags::STUDY_INSTANCE_UID, VR::UI, uid.clone()),
                (tags::SERIES_INSTANCE_UID, VR::UI, series),
                (tags::SOP_INSTANCE_UID, VR::UI, instance),
                (tags::PATIENT_ID, VR::LO, format!("{patient}-0815")),
                (tags::STUDY_DATE, VR::DA, "20240229".to_owned()),
            ] {
                object.put(DataElement::new(tag, vr, PrimitiveValue::from(value)));
            }
            let mut bytes = Vec::new();
            object.write_all(&mut bytes).expect("written");
            bytes
        })
        .collect();
    let mut subject = Subject::default();
    sources.iter().for_each(|source| subject.add(&by.subject(source).expect("understood")));
    let clean = |source: &Vec<u8>| by.deidentify_knowing(source.clone(), &subject).expect("clean");
    let instances = sources
        .iter()
        .map(|source| proven(by, clean(source), std::slice::from_ref(source), Scanner::prove_instance))
        .collect();
    Study { instances, sources, subject, uid }
}

fn json(by: &Deidentifier, study: &Study, document: &Value) -> Released<Json> {
    let clean = by.deidentify_json(document.to_string().as_bytes(), &study.subject).expect("clean");
    proven(by, clean, &study.sources[..1], Scanner::prove_text)
}

fn proven<T>(
    by: &Deidentifier,
    made: Deidentified<T>,
    sources: &[Vec<u8>],
    prove: impl Fn(&Scanner, &[u8]) -> Result<Proof, Unproven>,
) -> Released<T>
where
    Deidentified<T>: Bytes,
{
    let mut verifier = Verifier::new(Retain::from(by.profile()), verify::Limits::default());
    sources.iter().for_each(|source| verifier.add_source(source).expect("understood"));
    let proof = prove(&verifier.scanner().expect("a scanner"), made.bytes()).expect("clean");
    verify::release(made, &proof, by.profile()).expect("released")
}

fn module() -> Value {
    json!({ "name": "ct-organs", "version": "1.0.0", "identity_sha256": "ab".repeat(32), "component_sha256": "cd".repeat(32), "demonstration": true })
}

/// As `docs/result-json.md` has it.
fn result(study: &str) -> Value {
    let code = |value: &str, meaning: &str| json!({ "value": value, "scheme": "SCT", "meaning": meaning });
    json!({
        "schema": "gantry.result/1", "status": "done", "runtime_version": "0.1.0", "date": "20240301", "time": "101500",
        "correlation": "c", "module": module(), "models": [],
        "input": { "study_instance_uid": study, "series": [], "upstream": [], "priors": [] },
        "findings": {
            "segments": [{ "value": 1, "number": 1, "name": "Liver", "category": code("123037004", "Anatomical Structure"),
                "kind": code("10200004", "Liver"), "confidence": 0.75, "voxels": 90_000, "millilitres": 1432.5 }],
            "probabilities": [],
            "measurements": [{ "quantity": code("118565006", "Volume"), "value": 1432.5, "unit": "mL", "segment": 1 }],
            "classifications": [],
            "triage": [{ "level": "urgent", "finding": code("4147007", "Mass"), "probability": 0.875, "reason": "a mass" }],
            "unfit": null, "heatmap": null, "marks": [],
        },
        "outputs": [], "predecessor": null, "phases": [{ "name": "analysis", "milliseconds": 12.5 }],
        "host_memory_peak_bytes": null, "warnings": [], "log": [],
    })
}

/// As `docs/sync.md` has them.
fn verdict(study: &str, result_sha256: &str, verdict: &str) -> Value {
    json!({
        "schema": "gantry.verdict/1", "study_instance_uid": study, "module": module(), "result": { "object_sha256": result_sha256 },
        "verdicts": [{ "finding": "triage/0", "verdict": verdict, "stated": {}, "given": "2024-03-02" }],
    })
}

fn timing(study: &str, result_sha256: &str) -> Value {
    json!({
        "schema": "gantry.timing/1", "study_instance_uid": study, "receive_milliseconds": 2500.0,
        "jobs": [{ "module": module(), "result": { "object_sha256": result_sha256 }, "state": "done", "priority": "urgent",
            "attempts": 1, "wait_milliseconds": 30.5, "run_milliseconds": 410.25, "turnaround_milliseconds": 441.0 }],
    })
}

fn slices() -> Option<Vec<PathBuf>> {
    let folder = peers().join("../../.cache/assets/totalsegmentator/example_ct_dicom");
    let Ok(entries) = std::fs::read_dir(&folder) else {
        skipped("there is no CT: run `cargo xtask assets`");
        return None;
    };
    let mut files: Vec<_> = entries.map(|entry| entry.expect("an entry").path()).collect();
    files.sort();
    Some(files)
}

fn python() -> Option<PathBuf> {
    let python = peers().join("../../.cache/venv/bin/python");
    let imports = ["-c", "import duckdb, duckdb_extension_httpfs, datafusion, pyarrow"];
    if !Command::new(&python).args(imports).output().is_ok_and(|said| said.status.success()) {
        skipped("DuckDB and DataFusion are not installed: run `cargo xtask assets --peers`");
        return None;
    }
    Some(python)
}

fn peers() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/peers")
}
