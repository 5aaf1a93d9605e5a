use arrow_array::cast::AsArray;
use arrow_array::types::{Date32Type, Float64Type, Int32Type, Int64Type};
use arrow_array::{Array, RecordBatch};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::Ed25519KeyPair;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use serde_json::json;
use std::path::Path;
use std::time::{Duration, UNIX_EPOCH};

use super::*;
use crate::batch::{Digest, Entry, Format, Harmless, Id, Kind, Limits, Manifest, Profile, PublicKey, SiteKey, Spool};

const RECORDS: [&str; 2] = ["c07db8b6-0000-4000-8000-000000000001", "3f1c2a9e-0000-4000-8000-000000000002"];

fn id(text: &str) -> Id {
    text.parse().expect("an ID")
}

fn code(value: &str) -> serde_json::Value {
    json!({ "value": value, "scheme": "SCT", "meaning": format!("meaning of {value}") })
}

fn result() -> Vec<u8> {
    let module = json!({ "name": "m", "version": "1.2.0", "identity_sha256": "aa", "component_sha256": "bb", "demonstration": true });
    json!({
        "schema": "gantry.result/1",
        "status": "done",
        "runtime_version": "0.1.0",
        "date": "20240229",
        "module": module,
        "models": [
            { "engine": "onnxruntime 1", "device": "cpu", "compute_milliseconds": 1.5 },
            { "engine": "tract", "device": "gpu", "compute_milliseconds": 2.0 },
        ],
        "input": { "study_instance_uid": "2.25.1", "series": [{ "decoded": [{}, {}] }, { "decoded": [] }] },
        "findings": {
            "segments": [{ "value": 7, "name": "Liver", "kind": code("L"), "confidence": 0.5, "voxels": 12, "millilitres": 3.25 }],
            "probabilities": [{ "segment": 7, "number": 1, "maximum": 0.75 }],
            "measurements": [{ "quantity": code("V"), "value": 1.25, "unit": "mm", "segment": 7 }],
            "classifications": [{ "finding": code("C"), "probability": 0.25 }],
            "triage": [{ "level": "urgent", "finding": code("T"), "probability": 1.0, "reason": "words" }],
            "unfit": null,
            "heatmap": { "title": "words", "minimum": 0.0, "maximum": 9.5 },
            "marks": [{ "start": [1, 2, 3], "size": [4, 5, 6], "label": code("M"), "probability": 0.125 }],
        },
        "outputs": [{}, {}, {}],
        "phases": [{ "name": "headers", "milliseconds": 1.0 }, { "name": "analysis", "milliseconds": 4.0 }],
        "host_memory_peak_bytes": 5_000_000_000_u64,
    })
    .to_string()
    .into_bytes()
}

fn gathered(contents: &[(Kind, Vec<u8>)]) -> Rows {
    let mut gatherer = Gatherer::new("qa-minimal", 1000);
    for (kind, content) in contents {
        gatherer.add(*kind, Format::Json, None, Digest::of(content), content).expect("few rows");
    }
    gatherer.finish().expect("few rows")
}

/// Reads back what was written of a table, by the reader of the library.
fn written(rows: &[&Rows], table: Table) -> (RecordBatch, Digest) {
    let folder = tempfile::tempdir().expect("a folder");
    let mut files = Files::new(folder.path(), id("0197e3a4-0000-7000-8000-00000000000b"), []).expect("files");
    for (record, rows) in RECORDS.into_iter().zip(rows) {
        files.add(id(record), rows).expect("written");
    }
    let made = files.finish().expect("written").into_iter().find(|made| made.table == table).expect("it has rows");
    let file = std::fs::File::open(&made.path).expect("a file");
    let mut reader = ParquetRecordBatchReaderBuilder::try_new(file).expect("Parquet").build().expect("a reader");
    let batch = reader.next().expect("rows").expect("readable");
    assert_eq!(batch.num_rows() as u64, made.rows);
    assert_eq!(Digest::of_file(&made.path).expect("a file"), (made.sha256, made.bytes));
    (batch, made.sha256)
}

fn column<'b>(batch: &'b RecordBatch, name: &str) -> &'b dyn Array {
    batch.column_by_name(name).expect("a column").as_ref()
}

fn texts<'b>(batch: &'b RecordBatch, name: &str) -> Vec<Option<&'b str>> {
    column(batch, name).as_string::<i32>().iter().collect()
}

fn numbers(batch: &RecordBatch, name: &str) -> Vec<Option<f64>> {
    column(batch, name).as_primitive::<Float64Type>().iter().collect()
}

/// Others read these tables by what is written there.
#[test]
fn the_documentation_names_every_column_with_its_type_and_every_view() {
    let docs = include_str!("../../../docs/catalog.md");
    for table in Table::ALL {
        let (_, section) = docs.split_once(&format!("\n### {}\n", table.name())).expect("a section");
        let section = section.split("\n### ").next().expect("its text");
        let documented: Vec<_> = section
            .lines()
            .filter_map(|line| {
                let mut cells = line.strip_prefix("| `")?.split(" | ");
                Some((cells.next()?.trim_end_matches('`'), cells.next()?))
            })
            .collect();
        let there: Vec<_> = table.columns().iter().map(|column| (column.name, column.kind.name())).collect();
        assert_eq!(documented, there, "{}", table.name());
    }
    for (name, select) in latest_views() {
        assert!(docs.lines().any(|line| line == format!("{name:<16} {select}")), "{name} {select}");
    }
}

#[test]
fn a_result_is_a_run_with_its_findings() {
    let rows = gathered(&[(Kind::Result, result())]);
    let (run, _) = written(&[&rows], Table::Run);
    assert_eq!(texts(&run, "module"), [Some("m")]);
    let (twice, _) = written(&[&rows, &rows], Table::Run);
    assert_eq!(texts(&twice, "record"), RECORDS.map(Some));
    assert_eq!(column(&twice, "record_number").as_primitive::<Int32Type>().values()[..], [0, 1]);
    assert_eq!(texts(&run, "device"), [Some("gpu")]);
    assert_eq!(texts(&run, "result_sha256"), [Some(Digest::of(&result()).to_string().as_str())]);
    assert_eq!(numbers(&run, "compute_milliseconds"), [Some(3.5)]);
    assert_eq!(numbers(&run, "analysis_milliseconds"), [Some(4.0)]);
    assert_eq!(numbers(&run, "wait_milliseconds"), [None]);
    assert_eq!(column(&run, "host_memory_peak_bytes").as_primitive::<Int64Type>().value(0), 5_000_000_000);
    assert_eq!(column(&run, "run_date").as_primitive::<Date32Type>().value(0), 19_782);
    assert!(column(&run, "demonstration").as_boolean().value(0));
    for (name, count) in [("series_seen", 2), ("instances_decoded", 2), ("outputs", 3), ("findings", 7), ("models", 2)]
    {
        assert_eq!(column(&run, name).as_primitive::<Int32Type>().value(0), count, "{name}");
    }

    let (finding, _) = written(&[&rows], Table::Finding);
    let names =
        ["segments/0", "probabilities/0", "measurements/0", "classifications/0", "triage/0", "marks/0", "heatmap"];
    assert_eq!(texts(&finding, "finding"), names.map(Some));
    let codes = [Some("L"), None, Some("V"), Some("C"), Some("T"), Some("M"), None];
    assert_eq!(texts(&finding, "code_value"), codes);
    assert_eq!(numbers(&finding, "value"), [Some(3.25), None, Some(1.25), None, None, None, Some(9.5)]);
    let probabilities = [Some(0.5), Some(0.75), None, Some(0.25), Some(1.0), Some(0.125), None];
    assert_eq!(numbers(&finding, "probability"), probabilities);
    assert_eq!(texts(&finding, "level")[4], Some("urgent"));
    let mark = |name: &str| column(&finding, name).as_primitive::<Int64Type>().value(5);
    assert_eq!(["start_x", "start_y", "start_z", "size_x", "size_y", "size_z"].map(mark), [1, 2, 3, 4, 5, 6]);
}

#[test]
fn verdicts_and_timings_go_to_their_results() {
    let module = json!({ "name": "m", "version": "1.2.0", "identity_sha256": "aa" });
    let of = json!({ "object_sha256": Digest::of(&result()).to_string() });
    let verdict = json!({
        "schema": "gantry.verdict/1", "study_instance_uid": "2.25.1", "module": module, "result": of,
        "verdicts": [
            { "finding": "triage/0", "verdict": "rejected", "given": "2024-03-01" },
            { "finding": "measurements/0", "verdict": "corrected", "correction": { "value": 2, "unit": "mm", "present": true, "code": code("X") } },
        ],
    });
    let timing = json!({
        "schema": "gantry.timing/1", "study_instance_uid": "2.25.1", "receive_milliseconds": 100,
        "jobs": [
            { "module": module, "result": of, "state": "done", "priority": "urgent", "attempts": 1, "wait_milliseconds": 5.5, "run_milliseconds": 7 },
            { "module": { "name": "other" }, "result": { "object_sha256": null }, "state": "failed", "attempts": 3 },
        ],
    });
    let contents = [
        (Kind::Timing, timing.to_string().into()),
        (Kind::Result, result()),
        (Kind::Verdict, verdict.to_string().into()),
    ];
    let rows = gathered(&contents);
    let (run, _) = written(&[&rows], Table::Run);
    assert_eq!(texts(&run, "status"), [Some("done"), Some("failed")]);
    assert_eq!(texts(&run, "priority"), [Some("urgent"), None]);
    assert_eq!(texts(&run, "module"), [Some("m"), Some("other")]);
    assert_eq!(numbers(&run, "wait_milliseconds"), [Some(5.5), None]);
    assert_eq!(numbers(&run, "run_milliseconds"), [Some(7.0), None]);
    assert_eq!(numbers(&run, "receive_milliseconds"), [Some(100.0), Some(100.0)]);
    let (verdict, _) = written(&[&rows], Table::Verdict);
    assert_eq!(texts(&verdict, "finding"), [Some("triage/0"), Some("measurements/0")]);
    assert_eq!(numbers(&verdict, "corrected_value"), [None, Some(2.0)]);
    assert_eq!(texts(&verdict, "corrected_code_value"), [None, Some("X")]);
    assert_eq!(column(&verdict, "given").as_primitive::<Date32Type>().iter().collect::<Vec<_>>(), [Some(19_783), None]);
    assert_eq!(texts(&verdict, "result_sha256"), texts(&run, "result_sha256")[..1].repeat(2));
}

#[test]
fn the_same_rows_are_the_same_bytes_and_another_row_is_not() {
    let rows = gathered(&[(Kind::Result, result())]);
    let again: Rows = serde_json::from_slice(&serde_json::to_vec(&rows).expect("JSON")).expect("rows");
    assert_eq!(again, rows, "as the spool has them on the disk");
    let digest = written(&[&rows, &rows], Table::Finding).1;
    assert_eq!(written(&[&again, &again], Table::Finding).1, digest);
    assert_ne!(written(&[&rows], Table::Finding).1, digest);
}

/// Whatever is in a document or a file: rows with nulls, and no end of the process.
#[test]
fn what_is_no_result_or_no_instance_is_null() {
    for text in ["", "[]", "{\"schema\": \"gantry.result/2\"}", "{\"schema\": 1, \"module\": []}"] {
        let rows = gathered(&[(Kind::Result, text.into()), (Kind::Verdict, text.into()), (Kind::Timing, text.into())]);
        assert_eq!(rows.count(), 1, "{text}");
        assert_eq!(texts(&written(&[&rows], Table::Run).0, "module"), [None]);
    }
    let whole: serde_json::Value = serde_json::from_slice(&result()).expect("JSON");
    for other in [json!(null), json!(-1), json!("text"), json!([[], {}]), json!({ "a": 1 }), json!(1e300), json!(true)]
    {
        for key in whole.as_object().expect("an object").keys().filter(|key| *key != "schema") {
            let mut changed = whole.clone();
            changed[key] = other.clone();
            let rows = gathered(&[(Kind::Result, changed.to_string().into())]);
            assert_eq!(written(&[&rows], Table::Run).0.num_rows(), 1);
        }
        for key in whole["findings"].as_object().expect("an object").keys() {
            let mut changed = whole.clone();
            changed["findings"][key] = json!([other.clone()]);
            assert!(gathered(&[(Kind::Result, changed.to_string().into())]).is_whole());
        }
    }
    let mut gatherer = Gatherer::new("basic", 1000);
    gatherer.add(Kind::Instance, Format::Dicom, None, Digest::of(b"no DICOM"), b"no DICOM").expect("few rows");
    let rows = gatherer.finish().expect("few rows");
    let (instance, _) = written(&[&rows], Table::Instance);
    assert_eq!(texts(&instance, "object_sha256"), [Some(Digest::of(b"no DICOM").to_string().as_str())]);
    assert_eq!((rows.count(), texts(&instance, "sop_instance_uid")), (1, vec![None]));
}

/// Makes a folder a copy of a bucket that has a batch of these results, each a record; and gives the key and the batch.
fn copied(folder: &Path, results: &[&[u8]]) -> (PublicKey, Manifest) {
    let spooled = tempfile::tempdir().expect("a folder");
    let key = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).expect("a key");
    let key = SiteKey::from_pkcs8(key.as_ref()).expect("a key");
    let (public, site) = (key.public(), "site-7".parse().expect("a name"));
    let mut spool = Spool::open(spooled.path(), Limits::default(), site, key).expect("a spool");
    let now = UNIX_EPOCH + Duration::from_secs(1_800_000_000);
    let profile = Profile { name: "qa-minimal".to_owned(), digest: Digest::of(b"profile") };
    for result in results {
        let content = &Harmless(result.to_vec());
        let entry = Entry { kind: Kind::Result, format: Format::Json, module: None, content };
        spool.add(&profile, &[entry], now).expect("taken in");
    }
    let id = spool.seal_all(now).expect("sealed")[0];
    let batch = spool.batch(id).expect("a batch");
    let write = |path: String, bytes: &[u8]| {
        let path = folder.join(path);
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("made");
        std::fs::write(path, bytes).expect("written");
    };
    write(format!("site-7/{}", Manifest::path(id)), batch.envelope());
    for (path, content) in batch.manifest().catalog_files() {
        let file = crate::batch::object_path(spooled.path(), content.sha256);
        write(path, &std::fs::read(file).expect("a file"));
    }
    (public, batch.manifest().clone())
}

#[tokio::test]
async fn with_a_key_only_what_its_site_signed_is_read() {
    let folder = tempfile::tempdir().expect("a folder");
    let (key, manifest) = copied(folder.path(), &[&result()]);
    let other = copied(tempfile::tempdir().expect("a folder").path(), &[&result()]).0;
    let source = Source::Folder(folder.path().to_owned());
    let mirrored = async |key: &PublicKey, mirror_max_mib| {
        let folder = tempfile::tempdir().expect("a folder");
        let local = source.local(Mirror { folder: folder.path(), mirror_max_mib }, Some(key)).await;
        local.map(|local| (local.tables, std::fs::read(folder.path().join(manifest.catalog_path(Table::Run))).ok()))
    };
    let file = folder.path().join(manifest.catalog_path(Table::Run));
    let bytes = std::fs::read(&file).expect("a file");
    let (tables, copied) = mirrored(&key, 1).await.expect("it is signed");
    assert_eq!((tables, copied), (vec![Table::Finding, Table::Run], Some(bytes.clone())));
    assert!(matches!(mirrored(&key, 0).await, Err(Failure::Limit { limit: "--mirror-max-mib", .. })));
    assert!(matches!(mirrored(&other, 1).await, Err(Failure::Untrusted { .. })), "another site's key");

    let mut changed = bytes;
    changed[100] ^= 1;
    std::fs::write(&file, &changed).expect("changed");
    let failure = mirrored(&key, 1).await.expect_err("it was changed");
    assert!(failure.to_string().contains("is not what its signed manifest says"), "{failure}");
    let stray = folder.path().join(manifest.catalog_path(Table::Study));
    std::fs::create_dir_all(stray.parent().expect("a folder")).expect("made");
    std::fs::rename(&file, &stray).expect("renamed");
    let failure = mirrored(&key, 1).await.expect_err("it is of no manifest");
    assert!(failure.to_string().contains("nobody signed it"), "{failure}");
    let listed = list(&source, Some(&other)).await.expect("a list");
    assert_eq!((listed[0].signature, listed[0].wrong.len()), (Signature::None, 1));

    // Without a key they are only linked to, and nothing else that lies there.
    std::fs::write(stray.with_file_name("other.parquet"), "other").expect("written");
    let links = tempfile::tempdir().expect("a folder");
    source.local(Mirror { folder: links.path(), mirror_max_mib: 0 }, None).await.expect("nothing is copied");
    let linked = links.path().join(manifest.catalog_path(Table::Study));
    assert_eq!(std::fs::read(&linked).expect("a link"), changed);
    assert!(!linked.with_file_name("other.parquet").exists());
}
