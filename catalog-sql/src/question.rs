//! What is asked: JSON, written by `gantry catalog sql`.

use std::path::PathBuf;

use serde::Deserialize;

/// One statement, what it is asked of, and how much it may take.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Question {
    /// Of the program that asks: both come together.
    pub version: String,
    /// All that can be read.
    pub tables: Vec<Table>,
    /// Names, and what they select.
    pub views: Vec<(String, String)>,
    /// One statement that reads.
    pub sql: String,
    /// Of the engine, MiB. It writes nothing to the disk.
    pub memory_max_mib: u64,
    /// Rows that are answered.
    pub rows_max: usize,
    /// How they are written.
    pub form: Form,
}

/// A table, with `site` and `date` beside its own columns.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Table {
    /// Its name.
    pub name: String,
    /// Names and types.
    pub columns: Vec<(String, Kind)>,
    /// Where its files lie, as `site=SITE/date=DATE/NAME.parquet`; nothing where there are none.
    pub folder: Option<PathBuf>,
}

/// A type, as `docs/catalog.md` has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Kind {
    Varchar,
    Integer,
    Bigint,
    Double,
    Boolean,
    Date,
}

/// How rows are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Form {
    /// For people.
    Table,
    /// An object a line, with nulls.
    Json,
    /// RFC 4180, with names in the first line.
    Csv,
}
