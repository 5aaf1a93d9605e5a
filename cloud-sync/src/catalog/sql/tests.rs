use serde_json::{Value, json};

use super::super::tests::{copied, result};
use super::*;

const LIMITS: Limits = Limits { memory_max_mib: 64, rows_max: 100 };

async fn asked(local: &Local, sql: &str, limits: Limits, form: Form) -> Result<(bool, String), Failure> {
    let mut said = Vec::new();
    let whole = query(local, sql, limits, form, &mut |piece| said.extend_from_slice(piece)).await?;
    Ok((whole, String::from_utf8(said).expect("text")))
}

#[tokio::test]
async fn tables_and_views_are_read_where_they_lie_and_nothing_else_is() {
    let folder = tempfile::Builder::new().prefix("a [b] %20*").tempdir().expect("a folder");
    copied(folder.path(), &[&result(), &result()]);
    let local = Local { root: folder.path().to_owned(), tables: vec![Table::Finding, Table::Run] };
    let sql = "SELECT site, date, finding, value, segment FROM finding_latest WHERE kind = 'segment'";
    let (whole, lines) = asked(&local, sql, LIMITS, Form::Json).await.expect("rows");
    let rows: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let row = json!({ "site": "site-7", "date": "2027-01-15", "finding": "segments/0", "value": 3.25, "segment": 7 });
    assert_eq!((whole, rows), (true, vec![row]));
    let count = |table: &'static str| format!("SELECT count(*) AS n FROM {table}");
    for (table, n) in
        [("finding", 14), ("finding_latest", 7), ("run", 2), ("run_latest", 1), ("study", 0), ("verdict_latest", 0)]
    {
        let (_, text) = asked(&local, &count(table), LIMITS, Form::Csv).await.expect("rows");
        assert_eq!(text, format!("n\n{n}\n"), "{table}");
    }
    let (_, text) = asked(&local, "SELECT * FROM study", LIMITS, Form::Csv).await.expect("no rows");
    assert!(
        text.starts_with("batch,record,record_number,profile,") && text.trim_end().ends_with(",site,date"),
        "{text}"
    );
    let (_, text) = asked(&local, "SELECT module FROM run_latest", LIMITS, Form::Table).await.expect("a row");
    assert!(text.contains("| module |") && text.contains("| m      |"), "{text}");
    let (_, text) = asked(&local, "SELECT record_number FROM run_latest", LIMITS, Form::Csv).await.expect("a row");
    assert_eq!(text, "record_number\n1\n", "the later record");
    asked(&local, "DESCRIBE instance", LIMITS, Form::Table).await.expect("columns");

    let few = Limits { rows_max: 3, ..LIMITS };
    let (whole, text) = asked(&local, "SELECT finding FROM finding", few, Form::Json).await.expect("rows");
    assert_eq!((whole, text.lines().count()), (false, 3));
    for sql in [
        "COPY run TO '/tmp/out.csv'",
        "CREATE TABLE t AS SELECT 1",
        "CREATE EXTERNAL TABLE t STORED AS CSV LOCATION '/etc/passwd'",
        "DROP TABLE run",
        "INSERT INTO run SELECT * FROM run",
        "SET datafusion.execution.batch_size = 1",
        "SELECT * FROM '/etc/passwd'",
        "SELECT nothing FROM run",
    ] {
        assert!(matches!(asked(&local, sql, LIMITS, Form::Csv).await, Err(Failure::Query(_))), "{sql}");
    }
    let much = "SELECT DISTINCT a.record || b.finding || c.finding || d.finding || e.finding || f.finding FROM finding a, finding b, \
                finding c, finding d, finding e, finding f";
    let least = Limits { memory_max_mib: 1, rows_max: 10 };
    let failure = asked(&local, much, least, Form::Csv).await.expect_err("it needs more");
    assert!(failure.to_string().contains("--memory-max-mib = 1"), "{failure}");
}
