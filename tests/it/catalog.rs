//! `gantry catalog`, as people call it. That other engines read what is written is tested beside the upload.

use std::path::Path;

use gantry_tests::command::{Said, gantry};
use gantry_tests::peers::Peers;
use gantry_tests::s3::S3Server;
use gantry_tests::{present, repository};
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
    // Beside another one, an engine is not sought.
    let (folder, program) = (tempfile::tempdir().expect("a folder"), gantry());
    let alone = folder.path().join("gantry");
    std::fs::hard_link(program.get_program(), &alone)
        .or_else(|_| std::fs::copy(program.get_program(), &alone).map(drop))
        .expect("a copy");
    let mut command = std::process::Command::new(alone);
    command.args(["catalog", "sql", "s3://bucket/gantry/", asked, "--endpoint-url", "http://localhost:9000"]);
    let said = Said::from(command.args(["--path-style", "--csv"]).output().expect("gantry runs"));
    assert_eq!((said.code, said.out.as_str()), (Some(2), ""));
    for part in
        ["cargo xtask sql", "duckdb -csv", "s3://bucket/gantry/catalog/study/*/*/*.parquet", "URL_STYLE 'path'", asked]
    {
        assert!(said.err.contains(part), "`{part}` is missing in: {}", said.err);
    }
}

/// Queries of which every engine gives the same rows in the same order.
const QUERIES: [&str; 4] = [
    "SELECT site, modality, instances, body_part FROM series_latest WHERE kind = 'acquired' ORDER BY series_instance_uid",
    "SELECT sop_instance_uid, object_sha256, bytes, position_z_mm, date FROM instance_latest ORDER BY sop_instance_uid",
    "SELECT r.module, f.finding, f.kind, f.code_value, f.voxels FROM finding_latest f JOIN run_latest r \
     ON r.site = f.site AND r.result_sha256 = f.result_sha256 ORDER BY f.finding",
    "SELECT count(*) AS runs, count(DISTINCT study_instance_uid) AS studies, max(date) AS last FROM run",
];

/// What somebody may ask who means no good, and what is said.
const REFUSED: [(&str, u8, &str); 9] = [
    ("COPY run TO '/tmp/gantry-out.csv'", 2, "COPY"),
    ("EXPLAIN ANALYZE COPY run TO '/tmp/gantry-out.csv'", 2, "COPY"),
    ("CREATE EXTERNAL TABLE t STORED AS CSV LOCATION '/etc/passwd'", 2, "DDL"),
    ("INSERT INTO run SELECT * FROM run", 2, "DML"),
    ("SET datafusion.execution.batch_size = 1", 2, "SetVariable"),
    ("SELECT * FROM '/etc/passwd'", 2, "passwd"),
    ("SELECT count(*) FROM run; DROP TABLE run", 2, "single SQL statement"),
    ("SELECT repeat('x', 2000000000)", 2, "repeat"),
    (
        "SELECT DISTINCT a.value, b.value FROM generate_series(1, 3000) a CROSS JOIN generate_series(1, 3000) b",
        5,
        "--memory-max-mib = 16",
    ),
];

/// What lies below this prefix of a bucket, by our engine and by DuckDB; and what is refused. Nothing where there is no engine.
pub(crate) fn engines_agree(s3: &S3Server, bucket: &str, prefix: &str) {
    let engine = Path::new(gantry().get_program()).with_file_name("gantry-sql");
    let peers = Peers::with("duckdb, datafusion, duckdb_extension_httpfs");
    let (Some(_), Some(peers)) = (present(engine, "cargo xtask sql"), peers) else { return };
    let root = format!("s3://{bucket}/{prefix}");
    let ask = |sql: &str, more: &[&str]| {
        let mut command = gantry();
        command.args([
            "catalog",
            "sql",
            &root,
            sql,
            "--endpoint-url",
            &s3.url,
            "--region",
            "us-east-1",
            "--path-style",
        ]);
        command.args(more).env("AWS_ACCESS_KEY_ID", &s3.key).env("AWS_SECRET_ACCESS_KEY", &s3.secret);
        Said::from(command.output().expect("gantry runs"))
    };
    let docs = repository().join("docs/catalog.md");
    let docs = docs.to_str().expect("a path");
    for sql in QUERIES {
        let said = ask(sql, &["--json"]);
        assert_eq!((said.code, said.err.as_str()), (Some(0), ""), "{sql}");
        let rows = said.out.lines().map(|line| serde_json::from_str::<Value>(line).expect("JSON"));
        let ours: Vec<Vec<Value>> =
            rows.map(|row| row.as_object().expect("an object").values().cloned().collect()).collect();
        let judged = peers.script("catalog.py", &[&s3.url, &s3.key, &s3.secret, bucket, prefix, docs, sql]).output();
        let judged = Said::from(judged.expect("Python runs"));
        assert_eq!(judged.code, Some(0), "{}", judged.err);
        let theirs: Vec<Vec<Value>> = serde_json::from_str(&judged.out).expect("JSON");
        assert!(!ours.is_empty() && ours == theirs, "{sql}: {ours:?}, and DuckDB says {theirs:?}");
    }
    for (sql, code, why) in REFUSED {
        let said = ask(sql, &["--memory-max-mib", "16", "--csv", "--rows-max", "10000000"]);
        assert!(said.code == Some(code.into()) && said.out.is_empty() && said.err.contains(why), "{sql}: {said:?}");
    }
    let said = ask("SELECT batch FROM instance", &["--rows-max", "3", "--csv"]);
    assert!(said.code == Some(5) && said.out.lines().count() == 4 && said.err.contains("--rows-max = 3"), "{said:?}");
}
