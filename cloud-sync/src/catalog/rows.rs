//! Rows of one study's part, gathered from what was released of it.

use serde::{Deserialize, Serialize};

use super::instances::Instances;
use super::results::Results;
use super::tables::{OF_RECORD, Table};
use crate::batch::{Digest, Failure, Format, Kind};

/// Characters of a cell; longer text is cut.
const CELL_CHARACTERS_MAX: usize = 256;

/// A value, or none.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(untagged)]
pub(crate) enum Cell {
    /// It is not known, or does not apply.
    #[default]
    Null,
    Flag(bool),
    Whole(i64),
    Number(f64),
    /// Also a day, as `YYYY-MM-DD`.
    Text(String),
}

impl From<&str> for Cell {
    /// Without what no table should show; nothing where nothing is left.
    fn from(text: &str) -> Self {
        let text: String = text.trim().chars().filter(|c| !c.is_control()).take(CELL_CHARACTERS_MAX).collect();
        if text.is_empty() { Self::Null } else { Self::Text(text) }
    }
}

impl From<String> for Cell {
    fn from(text: String) -> Self {
        Self::from(text.as_str())
    }
}

impl From<Digest> for Cell {
    fn from(digest: Digest) -> Self {
        Self::Text(digest.to_string())
    }
}

impl From<f64> for Cell {
    fn from(number: f64) -> Self {
        if number.is_finite() { Self::Number(number) } else { Self::Null }
    }
}

impl From<i64> for Cell {
    fn from(number: i64) -> Self {
        Self::Whole(number)
    }
}

impl From<u64> for Cell {
    fn from(number: u64) -> Self {
        i64::try_from(number).map_or(Self::Null, Self::Whole)
    }
}

impl From<bool> for Cell {
    fn from(flag: bool) -> Self {
        Self::Flag(flag)
    }
}

impl<T: Into<Cell>> From<Option<T>> for Cell {
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::Null, Into::into)
    }
}

/// One row: cells in the order of its table's columns, without [`OF_RECORD`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct Row(Vec<Cell>);

impl Row {
    /// Of nulls.
    pub(super) fn of(table: Table) -> Self {
        Self(vec![Cell::Null; table.columns().len() - OF_RECORD.len()])
    }

    /// Puts a value into a column of its table.
    pub(super) fn set(&mut self, table: Table, column: &str, value: impl Into<Cell>) {
        *self.cell(table, column) = value.into();
    }

    /// The same where there is none yet.
    pub(super) fn fill(&mut self, table: Table, column: &str, value: impl FnOnce() -> Cell) {
        let cell = self.cell(table, column);
        if *cell == Cell::Null {
            *cell = value();
        }
    }

    pub(super) fn get(&self, table: Table, column: &str) -> &Cell {
        &self.0[place(table, column)]
    }

    fn cell(&mut self, table: Table, column: &str) -> &mut Cell {
        &mut self.0[place(table, column)]
    }

    pub(super) fn cells(&self) -> &[Cell] {
        &self.0
    }
}

fn place(table: Table, column: &str) -> usize {
    let place = table.columns().iter().skip(OF_RECORD.len()).position(|there| there.name == column);
    place.expect("the table has a column of this name")
}

/// What one study's part brings to all tables.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Rows {
    pub(super) study: Vec<Row>,
    pub(super) series: Vec<Row>,
    pub(super) instance: Vec<Row>,
    pub(super) finding: Vec<Row>,
    pub(super) verdict: Vec<Row>,
    pub(super) run: Vec<Row>,
}

impl Rows {
    pub(super) fn of(&self, table: Table) -> &[Row] {
        match table {
            Table::Study => &self.study,
            Table::Series => &self.series,
            Table::Instance => &self.instance,
            Table::Finding => &self.finding,
            Table::Verdict => &self.verdict,
            Table::Run => &self.run,
        }
    }

    /// How many there are.
    pub(crate) fn count(&self) -> usize {
        Table::ALL.into_iter().map(|table| self.of(table).len()).sum()
    }

    /// Whether each has a cell for each column: what a file on the disk says is not believed.
    pub(crate) fn is_whole(&self) -> bool {
        Table::ALL
            .into_iter()
            .all(|table| self.of(table).iter().all(|row| row.cells().len() == table.columns().len() - OF_RECORD.len()))
    }
}

/// Makes rows of a study's contents, one after another.
pub(crate) struct Gatherer {
    rows_max: usize,
    instances: Instances,
    results: Results,
}

impl Gatherer {
    /// For a study under this profile, which brings `batch.study_rows_max` rows at most.
    pub(crate) fn new(profile: &str, rows_max: usize) -> Self {
        Self { rows_max, instances: Instances::new(profile), results: Results::default() }
    }

    /// Takes one object in. What cannot be read of it is null.
    pub(crate) fn add(
        &mut self,
        kind: Kind,
        format: Format,
        module: Option<Digest>,
        sha256: Digest,
        content: &[u8],
    ) -> Result<(), Failure> {
        match format {
            Format::Dicom => self.instances.add(kind, module, sha256, content),
            Format::Json => self.results.add(kind, sha256, content),
        }
        check(self.instances.count() + self.results.count(), self.rows_max)
    }

    pub(crate) fn finish(self) -> Result<Rows, Failure> {
        let (rows_max, mut rows) = (self.rows_max, Rows::default());
        self.instances.finish(&mut rows);
        self.results.finish(&mut rows);
        check(rows.count(), rows_max)?;
        Ok(rows)
    }
}

fn check(rows: usize, rows_max: usize) -> Result<(), Failure> {
    match rows > rows_max {
        true => Err(Failure::Configuration(format!(
            "a study brings {rows} rows or more to the catalogue, and may bring batch.study_rows_max = {rows_max}"
        ))),
        false => Ok(()),
    }
}
