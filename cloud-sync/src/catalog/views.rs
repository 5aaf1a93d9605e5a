//! SQL that every engine understands: what of a catalogue is the latest.

use super::tables::Table;

/// Views of what is the latest, as names and what they select. A study that is handed in again makes rows again; batches are in
/// the order of time by their names, and records in a batch by their numbers.
#[must_use]
pub fn latest_views() -> Vec<(&'static str, String)> {
    let of = |table: &str, by: &str, order: &str| {
        format!(
            "SELECT * FROM {table} QUALIFY row_number() OVER (PARTITION BY site, {by} ORDER BY {order}batch DESC, record_number DESC) = 1"
        )
    };
    vec![
        ("study_latest", of("study", "coalesce(study_instance_uid, record)", "")),
        ("series_latest", of("series", "coalesce(series_instance_uid, record), kind", "")),
        ("instance_latest", of("instance", "coalesce(sop_instance_uid, object_sha256)", "")),
        // Timings alone do not take the place of a result.
        (
            "run_latest",
            of("run", "study_instance_uid, coalesce(module_sha256, result_sha256)", "runtime_version IS NULL, "),
        ),
        ("verdict_latest", of("verdict", "result_sha256, finding", "")),
        (
            "finding_latest",
            "SELECT finding.* FROM finding JOIN run_latest ON finding.site = run_latest.site \
             AND finding.record = run_latest.record AND finding.result_sha256 = run_latest.result_sha256"
                .to_owned(),
        ),
    ]
}

/// Statements that give DuckDB the tables below `root`, a folder or `s3://BUCKET/PREFIX`, without a `/` at its end.
#[must_use]
pub fn duckdb_views(root: &str) -> String {
    let root = root.replace('\'', "''");
    let table = |table: Table| {
        let name = table.name();
        format!(
            "CREATE VIEW {name} AS SELECT * FROM read_parquet('{root}/catalog/{name}/*/*/*.parquet', hive_partitioning = true); "
        )
    };
    Table::ALL.into_iter().map(table).collect()
}
