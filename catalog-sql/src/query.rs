//! One statement, by DataFusion. Nothing can be written, and nothing be read but the tables.

use std::path::Path;
use std::sync::Arc;

use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::csv;
use datafusion::arrow::datatypes::{DataType, Field, Schema};
use datafusion::arrow::json;
use datafusion::arrow::util::pretty::pretty_format_batches;
use datafusion::datasource::MemTable;
use datafusion::datasource::file_format::parquet::ParquetFormat;
use datafusion::datasource::listing::{ListingOptions, ListingTable, ListingTableConfig, ListingTableUrl};
use datafusion::error::DataFusionError;
use datafusion::execution::disk_manager::{DiskManagerBuilder, DiskManagerMode};
use datafusion::execution::runtime_env::RuntimeEnvBuilder;
use datafusion::prelude::{SQLOptions, SessionConfig, SessionContext};
use futures_util::TryStreamExt;

use super::question::{Form, Kind, Question, Table};

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// A limit.
    #[error("the memory that this query needs is more than --memory-max-mib = {0}: raise it, or ask for less")]
    Memory(u64),
    /// Whoever asks: it cannot be answered.
    #[error("{0}")]
    Query(String),
}

/// Of a table, at once: as many as threads compute, on machines with many processors too.
const PARTITIONS: usize = 4;
/// Functions that make much of little: one row of theirs takes memory that nobody counts.
const UNCOUNTED: [&str; 3] = ["repeat", "lpad", "rpad"];

/// Answers a question, piece by piece. Gives `false` where there are more rows than `rows_max`: the first were written.
///
/// # Errors
/// [`Failure`]
pub async fn query(question: &Question, out: &mut (dyn FnMut(&[u8]) + Send)) -> Result<bool, Failure> {
    let too_much = || Failure::Memory(question.memory_max_mib);
    let failed = |error: DataFusionError| match error.find_root() {
        DataFusionError::ResourcesExhausted(_) => too_much(),
        error => Failure::Query(error.strip_backtrace()),
    };
    let mut room = usize::try_from(question.memory_max_mib.saturating_mul(1 << 20)).unwrap_or(usize::MAX);
    let context = context(question, room).await.map_err(failed)?;
    let reads = SQLOptions::new().with_allow_ddl(false).with_allow_dml(false).with_allow_statements(false);
    let asked = context.sql_with_options(&question.sql, reads).await.map_err(failed)?;
    let mut stream = asked.execute_stream().await.map_err(failed)?;
    let schema = stream.schema();
    let (mut left, mut whole, mut kept, mut first) = (question.rows_max, true, Vec::new(), true);
    while let Some(batch) = stream.try_next().await.map_err(failed)? {
        whole = batch.num_rows() <= left;
        let batch = batch.slice(0, batch.num_rows().min(left));
        left -= batch.num_rows();
        match question.form {
            // As wide as the widest row, so all of it is there before the first is written.
            Form::Table => {
                room = room.checked_sub(batch.get_array_memory_size()).ok_or_else(too_much)?;
                kept.push(batch);
            }
            Form::Json => out(&lines(&batch).map_err(failed)?),
            Form::Csv => out(&values(&batch, std::mem::take(&mut first)).map_err(failed)?),
        }
        if !whole {
            break;
        }
    }
    match question.form {
        Form::Table => {
            if kept.is_empty() {
                kept.push(RecordBatch::new_empty(schema));
            }
            let table = pretty_format_batches(&kept).map_err(|error| failed(error.into()))?;
            out(format!("{table}\n").as_bytes());
        }
        Form::Csv if first => out(&values(&RecordBatch::new_empty(schema), true).map_err(failed)?),
        Form::Json | Form::Csv => {}
    }
    Ok(whole)
}

/// With the tables and views, and room for so many bytes.
async fn context(question: &Question, room: usize) -> Result<SessionContext, DataFusionError> {
    let runtime = RuntimeEnvBuilder::new()
        .with_memory_limit(room, 1.0)
        .with_disk_manager_builder(DiskManagerBuilder::default().with_mode(DiskManagerMode::Disabled))
        .build_arc()?;
    let config = SessionConfig::new().with_information_schema(true).with_target_partitions(PARTITIONS);
    let context = SessionContext::new_with_config_rt(config, runtime);
    for name in UNCOUNTED {
        context.deregister_udf(name);
    }
    for table in &question.tables {
        register(&context, table)?;
    }
    for (name, select) in &question.views {
        context.sql(&format!("CREATE VIEW {name} AS {select}")).await?;
    }
    Ok(context)
}

fn register(context: &SessionContext, table: &Table) -> Result<(), DataFusionError> {
    let own = table.columns.iter().map(|(name, kind)| Field::new(name, arrow(*kind), true));
    let in_path = [("site", DataType::Utf8), ("date", DataType::Date32)];
    let Some(folder) = &table.folder else {
        let all = own.chain(in_path.into_iter().map(|(name, kind)| Field::new(name, kind, false)));
        let empty = MemTable::try_new(Arc::new(Schema::new(all.collect::<Vec<_>>())), vec![Vec::new()])?;
        return context.register_table(&table.name, Arc::new(empty)).map(drop);
    };
    let options = ListingOptions::new(Arc::new(ParquetFormat::default()))
        .with_file_extension(".parquet")
        .with_table_partition_cols(in_path.map(|(name, kind)| (name.to_owned(), kind)).to_vec());
    let config = ListingTableConfig::new(ListingTableUrl::parse(url(folder))?)
        .with_listing_options(options)
        .with_schema(Arc::new(Schema::new(own.collect::<Vec<_>>())));
    context.register_table(&table.name, Arc::new(ListingTable::try_new(config)?)).map(drop)
}

fn arrow(kind: Kind) -> DataType {
    match kind {
        Kind::Varchar => DataType::Utf8,
        Kind::Integer => DataType::Int32,
        Kind::Bigint => DataType::Int64,
        Kind::Double => DataType::Float64,
        Kind::Boolean => DataType::Boolean,
        Kind::Date => DataType::Date32,
    }
}

/// As a URL, so that nothing in a name is taken for a pattern.
fn url(folder: &Path) -> String {
    use std::os::unix::ffi::OsStrExt;
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/-._~".contains(&byte);
    let escaped = folder.as_os_str().as_bytes().iter().map(|&byte| match plain(byte) {
        true => char::from(byte).to_string(),
        false => format!("%{byte:02X}"),
    });
    format!("file://{}/", escaped.collect::<String>())
}

fn lines(batch: &RecordBatch) -> Result<Vec<u8>, DataFusionError> {
    let mut bytes = Vec::new();
    let mut writer =
        json::WriterBuilder::new().with_explicit_nulls(true).build::<_, json::writer::LineDelimited>(&mut bytes);
    writer.write(batch)?;
    writer.finish()?;
    drop(writer);
    Ok(bytes)
}

fn values(batch: &RecordBatch, header: bool) -> Result<Vec<u8>, DataFusionError> {
    let mut bytes = Vec::new();
    let mut writer = csv::WriterBuilder::new().with_header(header).build(&mut bytes);
    writer.write(batch)?;
    drop(writer);
    Ok(bytes)
}
