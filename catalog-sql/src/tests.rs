use std::path::Path;

use datafusion::prelude::SessionContext;
use serde_json::{Value, json};

use super::query::{Failure, query};
use super::question::Question;

/// Two batches of a day as they lie in a copy of a bucket, written by the engine itself without its bounds.
async fn written(folder: &Path) {
    // Its own writing takes paths for patterns.
    let (context, plain) = (SessionContext::new(), tempfile::tempdir().expect("a folder"));
    let now = plain.path().join("now.parquet");
    for (batch, rows) in [("one", "('a', 1, 1.5, true), ('b', 2, NULL, false)"), ("two", "('a', 9, 2.5, NULL)")] {
        let file = folder.join(format!("run/site=site-7/date=2027-01-15/{batch}.parquet"));
        std::fs::create_dir_all(file.parent().expect("a folder")).expect("made");
        let select = "arrow_cast(column1, 'Utf8') AS name, arrow_cast(column2, 'Int32') AS number, \
                      arrow_cast(column3, 'Float64') AS value, arrow_cast(column4, 'Boolean') AS flag";
        let sql = format!("COPY (SELECT {select} FROM (VALUES {rows})) TO '{}'", now.display());
        context.sql(&sql).await.expect("SQL").collect().await.expect("written");
        std::fs::rename(&now, file).expect("moved");
    }
}

fn question(folder: &Path, sql: &str) -> Question {
    let columns = json!([["name", "VARCHAR"], ["number", "INTEGER"], ["value", "DOUBLE"], ["flag", "BOOLEAN"]]);
    let question = json!({
        "version": "0", "sql": sql, "memory_max_mib": 64, "rows_max": 100, "form": "csv",
        "tables": [
            { "name": "run", "columns": columns, "folder": folder.join("run") },
            { "name": "study", "columns": [["bytes", "BIGINT"], ["study_date", "DATE"]], "folder": null },
        ],
        "views": [["run_latest", "SELECT * FROM run QUALIFY row_number() OVER (PARTITION BY site, name ORDER BY number DESC) = 1"]],
    });
    serde_json::from_value(question).expect("a question")
}

async fn asked(question: &Question) -> Result<(bool, String), Failure> {
    let mut said = Vec::new();
    let whole = query(question, &mut |piece| said.extend_from_slice(piece)).await?;
    Ok((whole, String::from_utf8(said).expect("text")))
}

async fn said(folder: &Path, form: &str, sql: &str) -> String {
    let mut question = question(folder, sql);
    question.form = serde_json::from_value(form.into()).expect("a form");
    asked(&question).await.expect("an answer").1
}

#[tokio::test]
async fn tables_and_views_are_read_where_they_lie() {
    // What a shell or a pattern would take for something else.
    let folder = tempfile::Builder::new().prefix("a [b] %20*").tempdir().expect("a folder");
    let folder = folder.path();
    written(folder).await;
    let sql = "SELECT site, date, name, number, value, flag FROM run_latest ORDER BY name";
    let rows: Vec<Value> =
        said(folder, "json", sql).await.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let row = |name: &str, number: i32, value: Value, flag: Value| json!({ "site": "site-7", "date": "2027-01-15", "name": name, "number": number, "value": value, "flag": flag });
    assert_eq!(rows, [row("a", 9, json!(2.5), json!(null)), row("b", 2, json!(null), json!(false))]);
    for (table, n) in [("run", 3), ("run_latest", 2), ("study", 0)] {
        assert_eq!(said(folder, "csv", &format!("SELECT count(*) AS n FROM {table}")).await, format!("n\n{n}\n"));
    }
    assert_eq!(said(folder, "csv", "SELECT * FROM study").await, "bytes,study_date,site,date\n");
    let text = said(folder, "table", "SELECT name FROM run_latest ORDER BY name").await;
    assert!(text.contains("| name |") && text.contains("| a    |"), "{text}");
    assert!(said(folder, "table", "DESCRIBE study").await.contains("study_date"));
}

#[tokio::test]
async fn nothing_is_written_and_nothing_else_is_read() {
    let folder = tempfile::tempdir().expect("a folder");
    written(folder.path()).await;
    let secret = folder.path().join("secret.csv");
    std::fs::write(&secret, "secret\n1\n").expect("written");
    let (secret, out) = (secret.display(), folder.path().join("out.csv"));
    let to = out.display();
    for sql in [
        format!("COPY run TO '{to}'"),
        format!("EXPLAIN ANALYZE COPY run TO '{to}'"),
        format!("COPY (SELECT 1) TO '{to}' STORED AS CSV"),
        format!("CREATE EXTERNAL TABLE t STORED AS CSV LOCATION '{secret}'"),
        "CREATE TABLE t AS SELECT 1".to_owned(),
        "CREATE VIEW t AS SELECT 1".to_owned(),
        "DROP TABLE run".to_owned(),
        "INSERT INTO run SELECT * FROM run".to_owned(),
        "DELETE FROM run".to_owned(),
        "SET datafusion.execution.batch_size = 1".to_owned(),
        "PREPARE p AS SELECT 1".to_owned(),
        format!("SELECT * FROM '{secret}'"),
        format!("SELECT * FROM \"{secret}\""),
        format!("SELECT * FROM read_csv('{secret}')"),
        "SELECT 1; DROP TABLE run".to_owned(),
        "SELECT nothing FROM run".to_owned(),
        "SELECT repeat('x', 2000000000)".to_owned(),
    ] {
        let failure = asked(&question(folder.path(), &sql)).await.expect_err("it is refused");
        assert!(matches!(failure, Failure::Query(_)), "{sql}: {failure}");
    }
    assert!(!out.exists());
}

#[tokio::test]
async fn rows_and_memory_have_limits() {
    let folder = tempfile::tempdir().expect("a folder");
    written(folder.path()).await;
    let many = "SELECT a.value, b.value FROM generate_series(1, 3000) a CROSS JOIN generate_series(1, 3000) b";
    for (form, lines) in [("csv", 8), ("json", 7), ("table", 11)] {
        let mut question = question(folder.path(), many);
        (question.rows_max, question.form) = (7, serde_json::from_value(form.into()).expect("a form"));
        let (whole, text) = asked(&question).await.expect("the first");
        assert_eq!((whole, text.lines().count()), (false, lines), "{text}");
    }
    let sorted = format!("SELECT DISTINCT * FROM ({many})");
    for (sql, form) in [(many, "table"), (sorted.as_str(), "csv")] {
        let mut question = question(folder.path(), sql);
        (question.memory_max_mib, question.rows_max) = (1, 10_000_000);
        question.form = serde_json::from_value(form.into()).expect("a form");
        let failure = asked(&question).await.expect_err("it needs more");
        assert!(failure.to_string().contains("--memory-max-mib = 1"), "{form}: {failure}");
    }
}
