//! Rows as Parquet: the same rows in the same order are the same bytes.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow_array::{
    ArrayRef, BooleanArray, Date32Array, Float64Array, Int32Array, Int64Array, RecordBatch, StringArray,
};
use arrow_schema::{DataType, Field, Schema};
use chrono::NaiveDate;
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_writer::ArrowWriterOptions;
use parquet::basic::Compression;
use parquet::file::metadata::KeyValue;
use parquet::file::properties::WriterProperties;

use super::rows::{Cell, Row, Rows};
use super::tables::{OF_RECORD, Table, Type};
use crate::batch::{Digest, Failure, Id};

/// Version of the tables, in each file as `gantry.catalog`.
pub(super) const VERSION: &str = "1";
/// Rows that are turned into columns at once.
const ROWS_AT_ONCE: usize = 8192;
/// Rows of a row group: what the writer holds, encoded.
const ROW_GROUP_ROWS: usize = 65_536;

impl Table {
    /// As Arrow has it. Every column may be null.
    #[must_use]
    pub fn schema(self) -> Schema {
        let fields = self.columns().iter().map(|column| {
            let kind = match column.kind {
                Type::Varchar => DataType::Utf8,
                Type::Integer => DataType::Int32,
                Type::Bigint => DataType::Int64,
                Type::Double => DataType::Float64,
                Type::Boolean => DataType::Boolean,
                Type::Date => DataType::Date32,
            };
            Field::new(column.name, kind, true)
        });
        Schema::new(fields.collect::<Vec<_>>())
    }
}

/// The tables of one batch in the making.
pub(crate) struct Files<'s> {
    scratch: &'s Path,
    batch: Id,
    /// Records so far.
    records: i32,
    files: Vec<Writing>,
}

/// A file that was made, under a name that nobody reads.
pub(crate) struct Made {
    pub(crate) table: Table,
    pub(crate) path: PathBuf,
    pub(crate) sha256: Digest,
    pub(crate) bytes: u64,
    pub(crate) rows: u64,
}

struct Writing {
    table: Table,
    schema: Arc<Schema>,
    path: PathBuf,
    writer: ArrowWriter<File>,
    /// With their records and the places of these.
    pending: Vec<(Id, i32, Row)>,
    rows: u64,
}

impl<'s> Files<'s> {
    /// These tables get a file also without rows.
    pub(crate) fn new(scratch: &'s Path, batch: Id, tables: impl IntoIterator<Item = Table>) -> Result<Self, Failure> {
        let files = tables.into_iter().map(|table| Writing::new(scratch, table)).collect::<Result<_, _>>()?;
        Ok(Self { scratch, batch, records: 0, files })
    }

    /// Writes one record's rows; records come in the order of the manifest.
    pub(crate) fn add(&mut self, record: Id, rows: &Rows) -> Result<(), Failure> {
        let number = self.records;
        self.records = self.records.saturating_add(1);
        for table in Table::ALL {
            let rows = rows.of(table);
            if rows.is_empty() {
                continue;
            }
            let place = match self.files.iter().position(|file| file.table == table) {
                Some(place) => place,
                None => {
                    self.files.push(Writing::new(self.scratch, table)?);
                    self.files.len() - 1
                }
            };
            let file = &mut self.files[place];
            for row in rows {
                file.pending.push((record, number, row.clone()));
                if file.pending.len() == ROWS_AT_ONCE {
                    file.write(self.batch)?;
                }
            }
        }
        Ok(())
    }

    /// Durable files, in the order of [`Table::ALL`].
    pub(crate) fn finish(mut self) -> Result<Vec<Made>, Failure> {
        self.files.sort_by_key(|file| file.table);
        self.files.into_iter().map(|file| file.finish(self.batch)).collect()
    }
}

impl Writing {
    fn new(scratch: &Path, table: Table) -> Result<Self, Failure> {
        let path = scratch.join(uuid::Uuid::now_v7().to_string());
        let file = File::create_new(&path).map_err(Failure::disk(&path))?;
        let of = |key: &str, value: &str| KeyValue::new(key.to_owned(), Some(value.to_owned()));
        let properties = WriterProperties::builder()
            .set_compression(Compression::SNAPPY)
            .set_max_row_group_row_count(Some(ROW_GROUP_ROWS))
            .set_created_by("gantry".to_owned())
            .set_key_value_metadata(Some(vec![of("gantry.catalog", VERSION), of("gantry.table", table.name())]))
            .build();
        // Readers go by Parquet's own types.
        let options = ArrowWriterOptions::new().with_properties(properties).with_skip_arrow_metadata(true);
        let schema = Arc::new(table.schema());
        let writer = ArrowWriter::try_new_with_options(file, Arc::clone(&schema), options).map_err(trouble(&path))?;
        Ok(Self { table, schema, path, writer, pending: Vec::new(), rows: 0 })
    }

    fn write(&mut self, batch: Id) -> Result<(), Failure> {
        let batch = batch.to_string();
        let columns = self.table.columns().iter().enumerate().map(|(place, column)| match place {
            0 => Arc::new(StringArray::from(vec![batch.as_str(); self.pending.len()])) as ArrayRef,
            1 => Arc::new(self.pending.iter().map(|(record, ..)| Some(record.to_string())).collect::<StringArray>()),
            2 => Arc::new(self.pending.iter().map(|(_, number, _)| *number).collect::<Int32Array>()),
            place => {
                let place = place - OF_RECORD.len();
                let cells = self.pending.iter().map(|(.., row)| row.cells().get(place).unwrap_or(&Cell::Null));
                array(column.kind, cells)
            }
        });
        let columns =
            RecordBatch::try_new(Arc::clone(&self.schema), columns.collect()).expect("columns are the schema's");
        self.rows += self.pending.len() as u64;
        self.pending.clear();
        self.writer.write(&columns).map_err(trouble(&self.path))
    }

    fn finish(mut self, batch: Id) -> Result<Made, Failure> {
        if !self.pending.is_empty() {
            self.write(batch)?;
        }
        let Self { table, path, writer, rows, .. } = self;
        let file = writer.into_inner().map_err(trouble(&path))?;
        file.sync_all().map_err(Failure::disk(&path))?;
        let (sha256, bytes) = Digest::of_file(&path).map_err(Failure::disk(&path))?;
        Ok(Made { table, path, sha256, bytes, rows })
    }
}

/// A cell of another type than its column is null.
fn array<'c>(kind: Type, cells: impl Iterator<Item = &'c Cell>) -> ArrayRef {
    let whole = |cell: &Cell| match cell {
        Cell::Whole(whole) => Some(*whole),
        _ => None,
    };
    match kind {
        Type::Varchar => Arc::new(cells.map(text).collect::<StringArray>()),
        Type::Integer => {
            Arc::new(cells.map(|cell| whole(cell).and_then(|n| i32::try_from(n).ok())).collect::<Int32Array>())
        }
        Type::Bigint => Arc::new(cells.map(whole).collect::<Int64Array>()),
        Type::Double => {
            let number = |cell: &Cell| match cell {
                Cell::Number(number) => Some(*number),
                Cell::Whole(whole) => Some(*whole as f64),
                _ => None,
            };
            Arc::new(cells.map(number).collect::<Float64Array>())
        }
        Type::Boolean => {
            let flag = |cell: &Cell| match cell {
                Cell::Flag(flag) => Some(*flag),
                _ => None,
            };
            Arc::new(cells.map(flag).collect::<BooleanArray>())
        }
        Type::Date => {
            let epoch = NaiveDate::default();
            let day = |cell: &Cell| {
                let day: NaiveDate = text(cell)?.parse().ok()?;
                i32::try_from(day.signed_duration_since(epoch).num_days()).ok()
            };
            Arc::new(cells.map(day).collect::<Date32Array>())
        }
    }
}

fn text(cell: &Cell) -> Option<&str> {
    match cell {
        Cell::Text(text) => Some(text),
        _ => None,
    }
}

/// Types are the schema's, so what goes wrong is the disk.
fn trouble(path: &Path) -> impl FnOnce(parquet::errors::ParquetError) -> Failure + '_ {
    move |error| Failure::Disk { path: path.to_owned(), source: std::io::Error::other(error) }
}
