//! `gantry catalog`, as people call it. That other engines read what is written is tested beside the upload.

use std::path::Path;

use gantry_tests::command::{Said, gantry};
use serde_json::{Value, json};

const BATCH: &str = "0197e3a4-0000-7000-8000-000000000001";

fn catalog(arguments: &[&str]) -> Said {
    gantry().arg("catalog").args(arguments).output().expect("gantry runs").into()
}

/// A folder as a copy of a bucket: a manifest that nobody signed, and files of the sizes that it names.
fn copy(folder: &Path) {
    let part = |table: &str, bytes: u64, rows: u64| json!({ "table": table, "sha256": "ab".repeat(32), "bytes": bytes, "rows": rows });
    let manifest = json!({
        "version": 1, "batch": BATCH, "site": "site-7", "sealed": "2026-11-29T23:59:59Z", "modules": [], "studies": [],
        "catalog": [part("study", 10, 1), part("instance", 20, 300)],
    });
    let envelope =
        json!({ "payloadType": "application/vnd.gantry.batch+json", "payload": base64(&manifest), "signatures": [] });
    let batches = folder.join("site-7/batches");
    std::fs::create_dir_all(&batches).expect("made");
    std::fs::write(batches.join(format!("{BATCH}.dsse.json")), envelope.to_string()).expect("written");
    for (table, bytes) in [("study", 10), ("instance", 20)] {
        let day = folder.join(format!("catalog/{table}/site=site-7/date=2026-11-29"));
        std::fs::create_dir_all(&day).expect("made");
        std::fs::write(day.join(format!("{BATCH}.parquet")), vec![0; bytes]).expect("written");
    }
}

fn base64(value: &Value) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut bytes = value.to_string().into_bytes();
    // Blanks at the end of JSON say nothing, and spare the padding.
    bytes.resize(bytes.len().next_multiple_of(3), b' ');
    let digit = |bits: u32| char::from(DIGITS[(bits & 63) as usize]);
    let group = |group: &[u8]| {
        let bits = group.iter().fold(0, |bits, byte| bits << 8 | u32::from(*byte));
        [18, 12, 6, 0].map(|shift| digit(bits >> shift))
    };
    bytes.chunks_exact(3).flat_map(group).collect()
}

#[test]
fn batches_are_listed_with_what_is_wrong_with_them() {
    let folder = tempfile::tempdir().expect("a folder");
    let root = folder.path().to_str().expect("a path");
    assert_eq!(catalog(&["ls", root]).code, Some(3), "there is none");
    assert_eq!(catalog(&["ls"]).code, Some(2), "no source");
    copy(folder.path());
    let said = catalog(&["ls", root]);
    assert_eq!(said.code, Some(0), "{}", said.err);
    let line = said.out.lines().find(|line| line.contains(BATCH)).expect("the batch");
    let words: Vec<_> = line.split_whitespace().collect();
    assert_eq!(words, ["site-7", "2026-11-29", BATCH, "1", "0", "300", "0", "0", "0", "30", "unchecked"]);

    std::fs::write(
        folder.path().join(format!("catalog/instance/site=site-7/date=2026-11-29/{BATCH}.parquet")),
        "short",
    )
    .expect("written");
    let said = catalog(&["ls", root, "--json"]);
    assert_eq!(said.code, Some(4), "{}", said.err);
    let listed: Value = serde_json::from_str(&said.out).expect("JSON");
    assert_eq!(listed[0]["wrong"], json!(["instance has 5 bytes instead of 20"]));
    assert_eq!(listed[0]["tables"]["study"], json!({ "rows": 1, "bytes": 10 }));
}

#[test]
fn without_an_engine_it_says_how_to_get_one_and_whom_else_to_ask() {
    let asked = "SELECT count(*) FROM study";
    let said = catalog(&[
        "sql",
        "s3://bucket/gantry/",
        asked,
        "--endpoint-url",
        "http://localhost:9000",
        "--path-style",
        "--csv",
    ]);
    assert_eq!((said.code, said.out.as_str()), (Some(2), ""));
    for part in
        ["--features sql", "duckdb -csv", "s3://bucket/gantry/catalog/study/*/*/*.parquet", "URL_STYLE 'path'", asked]
    {
        assert!(said.err.contains(part), "`{part}` is missing in: {}", said.err);
    }
}
