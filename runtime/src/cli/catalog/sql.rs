//! `gantry catalog sql`: the engine is a program of its own beside this one, in a process that ends with its question.

use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::anyhow;
use gantry_cloud_sync::catalog::{self, Local, Mirror, Table};
use serde_json::{Value, json};

use super::{Failure, SqlArgs, failed, key, source, wait};

const ENGINE: &str = "gantry-sql";
const BUILD: &str = "cargo xtask sql --release";

pub(super) fn run(args: &SqlArgs) -> Result<(), Failure> {
    let Some(engine) = engine() else { return Err((2, without_engine(args))) };
    let key = key(&args.reach)?;
    let folder = tempfile::tempdir().map_err(|e| (1, e.into()))?;
    let local = wait(async {
        let source = source(Some(&args.source), &args.reach).await?;
        let mirror = Mirror { folder: folder.path(), mirror_max_mib: args.mirror_max_mib };
        source.local(mirror, key.as_ref()).await.map_err(failed)
    })?;
    ask(Command::new(engine), args, &question(args, &local))
}

/// All that the engine gets to know. `catalog-sql/src/question.rs` reads it.
fn question(args: &SqlArgs, local: &Local) -> Value {
    let table = |table: Table| {
        let columns: Vec<_> = table.columns().iter().map(|column| (column.name, column.kind.name())).collect();
        let folder = local.tables.contains(&table).then(|| local.root.join("catalog").join(table.name()));
        json!({ "name": table.name(), "columns": columns, "folder": folder })
    };
    let form = match (args.json, args.csv) {
        (true, _) => "json",
        (_, true) => "csv",
        _ => "table",
    };
    json!({
        "version": env!("CARGO_PKG_VERSION"), "tables": Table::ALL.map(table), "views": catalog::latest_views(), "sql": args.sql,
        "memory_max_mib": args.memory_max_mib, "rows_max": args.rows_max, "form": form,
    })
}

/// Rows go straight to our own output.
fn ask(mut engine: Command, args: &SqlArgs, question: &Value) -> Result<(), Failure> {
    let failed = |e: std::io::Error| (1, anyhow!("the engine for SQL: {e}"));
    let mut engine = engine.stdin(Stdio::piped()).stderr(Stdio::piped()).spawn().map_err(failed)?;
    // One that ends without listening says why.
    let _ = engine.stdin.take().map(|mut stdin| stdin.write_all(question.to_string().as_bytes()));
    let said = engine.wait_with_output().map_err(failed)?;
    match said.status.code() {
        Some(0) => Ok(()),
        Some(code) => {
            let why = gantry::printable(&String::from_utf8_lossy(&said.stderr).trim().replace('\n', " "));
            Err((u8::try_from(code).unwrap_or(1), anyhow!("{why}")))
        }
        // It takes what it must not, and the kernel refuses.
        None => {
            let limit = args.memory_max_mib;
            let why = "the memory that this query needs is more than";
            Err((5, anyhow!("{why} --memory-max-mib = {limit}: raise it, or ask for less")))
        }
    }
}

/// Nothing where nobody built it. Never one of another folder.
fn engine() -> Option<PathBuf> {
    let beside = std::env::current_exe().ok()?.with_file_name(ENGINE);
    beside.is_file().then_some(beside)
}

/// What to do where there is no engine: build it, or ask another one the same.
fn without_engine(args: &SqlArgs) -> anyhow::Error {
    let (reach, root) = (&args.reach, args.source.trim_end_matches('/'));
    let mut before = format!("SET memory_limit = '{}MiB'; ", args.memory_max_mib);
    if root.starts_with("s3://") {
        before +=
            "INSTALL httpfs; LOAD httpfs; INSTALL aws; LOAD aws; CREATE SECRET (TYPE s3, PROVIDER credential_chain";
        let (host, tls) = match reach.endpoint_url.as_deref().and_then(|url| url.split_once("://")) {
            Some((scheme, host)) => (Some(host.trim_end_matches('/')), scheme != "http"),
            None => (None, true),
        };
        let region = reach.region.as_deref();
        for (key, value) in [("REGION", region), ("ENDPOINT", host), ("URL_STYLE", reach.path_style.then_some("path"))]
        {
            value.into_iter().for_each(|value| before += &format!(", {key} '{value}'"));
        }
        before += if tls { "); " } else { ", USE_SSL false); " };
    }
    let form = match (args.json, args.csv) {
        (true, _) => " -jsonlines",
        (_, true) => " -csv",
        _ => "",
    };
    // What DuckDB shows and copies is its own matter.
    let _ = (args.rows_max, args.mirror_max_mib);
    let statements = format!("{before}{}{}", catalog::duckdb_views(root), args.sql);
    anyhow!(
        "gantry-sql, the engine for SQL, is not beside this gantry: build it with `{BUILD}`, or ask DuckDB:\n  duckdb{form} -c \"{}\"",
        statements.replace('\\', "\\\\").replace('"', "\\\"").replace('$', "\\$").replace('`', "\\`")
    )
}
