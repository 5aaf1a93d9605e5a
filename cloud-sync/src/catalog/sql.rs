//! SQL over a catalogue, by DataFusion in this process. Nothing can be written, and nothing be read but the tables.

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

use super::source::{Failure, Local};
use super::tables::Table;
use super::views::latest_views;

/// How much a query may take.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Of the engine, MiB. It writes nothing to the disk.
    pub memory_max_mib: u64,
    /// Rows that are answered.
    pub rows_max: usize,
}

/// How rows are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// For people.
    Table,
    /// An object a line, with nulls.
    Json,
    /// RFC 4180, with names in the first line.
    Csv,
}

/// Answers a query, piece by piece. Gives `false` where there are more rows than `rows_max`: the first were written.
///
/// # Errors
/// [`Failure::Query`]; [`Failure::Limit`]
pub async fn query(
    local: &Local,
    sql: &str,
    limits: Limits,
    form: Form,
    out: &mut (dyn FnMut(&[u8]) + Send),
) -> Result<bool, Failure> {
    let failed = |error: DataFusionError| match error.find_root() {
        DataFusionError::ResourcesExhausted(_) => Failure::Limit {
            what: "the memory that this query needs".to_owned(),
            limit: "--memory-max-mib",
            maximum: limits.memory_max_mib,
        },
        error => Failure::Query(error.strip_backtrace()),
    };
    let context = context(local, limits).await.map_err(failed)?;
    let reads = SQLOptions::new().with_allow_ddl(false).with_allow_dml(false).with_allow_statements(false);
    let asked = context.sql_with_options(sql, reads).await.map_err(failed)?;
    let mut stream = asked.execute_stream().await.map_err(failed)?;
    let schema = stream.schema();
    let (mut left, mut whole, mut kept, mut first) = (limits.rows_max, true, Vec::new(), true);
    while let Some(batch) = stream.try_next().await.map_err(failed)? {
        whole = batch.num_rows() <= left;
        let batch = batch.slice(0, batch.num_rows().min(left));
        left -= batch.num_rows();
        match form {
            Form::Table => kept.push(batch),
            Form::Json => out(&lines(&batch).map_err(failed)?),
            Form::Csv => out(&values(&batch, std::mem::take(&mut first)).map_err(failed)?),
        }
        if !whole {
            break;
        }
    }
    match form {
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

/// With the tables and views of a catalogue.
async fn context(local: &Local, limits: Limits) -> Result<SessionContext, DataFusionError> {
    let bytes = usize::try_from(limits.memory_max_mib << 20).unwrap_or(usize::MAX);
    let runtime = RuntimeEnvBuilder::new()
        .with_memory_limit(bytes, 1.0)
        .with_disk_manager_builder(DiskManagerBuilder::default().with_mode(DiskManagerMode::Disabled))
        .build_arc()?;
    let config = SessionConfig::new().with_information_schema(true);
    let context = SessionContext::new_with_config_rt(config, runtime);
    for table in Table::ALL {
        register(&context, local, table)?;
    }
    for (name, select) in latest_views() {
        context.sql(&format!("CREATE VIEW {name} AS {select}")).await?;
    }
    Ok(context)
}

fn register(context: &SessionContext, local: &Local, table: Table) -> Result<(), DataFusionError> {
    let in_key = [("site", DataType::Utf8), ("date", DataType::Date32)];
    if !local.tables.contains(&table) {
        let mut fields: Vec<_> = table.schema().fields().iter().cloned().collect();
        fields.extend(in_key.into_iter().map(|(name, kind)| Arc::new(Field::new(name, kind, false))));
        let empty = MemTable::try_new(Arc::new(Schema::new(fields)), vec![Vec::new()])?;
        context.register_table(table.name(), Arc::new(empty))?;
        return Ok(());
    }
    let root = std::path::absolute(&local.root)?.join("catalog").join(table.name());
    let options = ListingOptions::new(Arc::new(ParquetFormat::default()))
        .with_file_extension(".parquet")
        .with_table_partition_cols(in_key.map(|(name, kind)| (name.to_owned(), kind)).to_vec());
    let config = ListingTableConfig::new(ListingTableUrl::parse(url(&root))?)
        .with_listing_options(options)
        .with_schema(Arc::new(table.schema()));
    context.register_table(table.name(), Arc::new(ListingTable::try_new(config)?))?;
    Ok(())
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

#[cfg(test)]
mod tests;
