//! `gantry catalog`: what lies in a bucket, as tables.

use std::fmt::Write;
use std::path::{Path, PathBuf};

use anyhow::anyhow;
use gantry_cloud_sync::batch::PublicKey;
use gantry_cloud_sync::catalog::{self, Listed, Signature, Source, Table};
use gantry_cloud_sync::s3;

mod sql;

pub(crate) const EXAMPLES: &str = "\
Examples:
  gantry catalog ls s3://bucket/gantry --key site.pub.pem
  gantry catalog ls copy/ --json
  gantry catalog sql s3://bucket/gantry 'SELECT modality, count(*) FROM series_latest GROUP BY modality'
";

type Failure = (u8, anyhow::Error);

#[derive(clap::Subcommand)]
pub(crate) enum CatalogCommand {
    /// List batches with their tables, rows and bytes.
    #[command(after_help = "Example:\n  gantry catalog ls s3://bucket/gantry --key site.pub.pem\n")]
    Ls {
        /// A folder that is laid out as a bucket, or `s3://BUCKET/PREFIX`. Without it, the bucket of the configuration.
        #[arg(value_name = "SOURCE", required_unless_present = "config")]
        source: Option<String>,
        #[command(flatten)]
        reach: ReachArgs,
        /// For scripts.
        #[arg(long)]
        json: bool,
    },
    /// Ask the tables study, series, instance, finding, verdict and run, or what of each is the latest: study_latest and so on.
    #[command(after_help = "Example:\n  gantry catalog sql copy/ 'SELECT * FROM run_latest' --csv\n")]
    Sql(SqlArgs),
}

/// How a catalogue is reached, and whose is believed.
#[derive(clap::Args)]
pub(crate) struct ReachArgs {
    /// The site's public key (PEM): what no manifest signed by it names is reported by `ls`, and refused by `sql`.
    #[arg(long, value_name = "FILE")]
    key: Option<PathBuf>,
    /// A policy, whose `[s3]` says how the bucket is reached.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// A server other than AWS.
    #[arg(long, value_name = "URL")]
    endpoint_url: Option<String>,
    /// Region, where the chain of credentials does not say it.
    #[arg(long, value_name = "REGION")]
    region: Option<String>,
    /// Name the bucket in the path and not in the host name.
    #[arg(long)]
    path_style: bool,
}

#[derive(clap::Args)]
pub(crate) struct SqlArgs {
    /// A folder that is laid out as a bucket, or `s3://BUCKET/PREFIX`.
    #[arg(value_name = "SOURCE")]
    source: String,
    /// One statement that reads.
    #[arg(value_name = "SQL")]
    sql: String,
    #[command(flatten)]
    reach: ReachArgs,
    /// An object a line, instead of a table.
    #[arg(long, conflicts_with = "csv")]
    json: bool,
    /// Comma-separated values, with names in the first line.
    #[arg(long)]
    csv: bool,
    /// Rows that are shown, 1 to 10,000,000.
    #[arg(long, value_name = "NUMBER", default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    rows_max: u32,
    /// Memory of the engine, 16 to 1,048,576 MiB.
    #[arg(long, value_name = "MIB", default_value_t = 512, value_parser = clap::value_parser!(u64).range(16..=1_048_576))]
    memory_max_mib: u64,
    /// What is copied of a bucket before it is asked, or of a folder with --key: 1 to 1,048,576 MiB.
    #[arg(long, value_name = "MIB", default_value_t = 1024, value_parser = clap::value_parser!(u64).range(1..=1_048_576))]
    mirror_max_mib: u64,
}

/// Runs the command; exit code and error otherwise.
pub(crate) fn run(command: &CatalogCommand) -> Result<(), Failure> {
    match command {
        CatalogCommand::Ls { source, reach, json } => ls(source.as_deref(), reach, *json),
        CatalogCommand::Sql(args) => sql::run(args),
    }
}

fn ls(name: Option<&str>, reach: &ReachArgs, json: bool) -> Result<(), Failure> {
    let key = key(reach)?;
    let listed = wait(async {
        let source = source(name, reach).await?;
        catalog::list(&source, key.as_ref()).await.map_err(failed)
    })?;
    let text = match json {
        true => serde_json::to_string_pretty(&listed).map_err(|e| (1, e.into()))? + "\n",
        false => table(&listed),
    };
    crate::print(text.as_bytes())?;
    match listed.iter().filter(|batch| !batch.wrong.is_empty()).count() {
        0 => Ok(()),
        wrong => Err((
            4,
            anyhow!("{wrong} of {} batches are not as they should be; `gantry sync verify` repairs", listed.len()),
        )),
    }
}

/// Site, day, batch, rows of each table, bytes, signature; and sums.
fn table(listed: &[Listed]) -> String {
    const ROWS: &str = "writing to a string does not fail";
    let mut text = String::new();
    let line = |text: &mut String, cells: [&str; 3], rows: &[String], bytes: &str, signature: &str| {
        let [site, date, batch] = cells;
        write!(text, "{site:<16} {date:<10} {batch:<36}").expect(ROWS);
        rows.iter().for_each(|rows| write!(text, " {rows:>9}").expect(ROWS));
        writeln!(text, " {bytes:>12} {signature}").expect(ROWS);
    };
    let names = Table::ALL.map(|table| table.name().to_owned());
    line(&mut text, ["SITE", "DATE", "BATCH"], &names.map(|name| name.to_uppercase()), "BYTES", "SIGNATURE");
    let (mut sums, mut bytes_of_all) = ([0u64; 6], 0);
    for batch in listed {
        let held = Table::ALL.map(|table| batch.tables.get(table.name()));
        let rows = held.map(|held| match held {
            None => "0".to_owned(),
            Some(held) => held.rows.map_or_else(|| "?".to_owned(), |rows| rows.to_string()),
        });
        let bytes: u64 = held.iter().flatten().map(|held| held.bytes).sum();
        sums.iter_mut().zip(held).for_each(|(sum, held)| *sum += held.and_then(|held| held.rows).unwrap_or_default());
        bytes_of_all += bytes;
        let signature = match batch.signature {
            Signature::Valid => "valid",
            Signature::Unchecked => "unchecked",
            Signature::None => "none",
        };
        let (site, batch_id) = (batch.site.as_str(), batch.batch.to_string());
        line(&mut text, [site, &batch.date, &batch_id], &rows, &bytes.to_string(), signature);
        batch.wrong.iter().for_each(|why| writeln!(text, "  {}", gantry::printable(why)).expect(ROWS));
    }
    let count = format!("{} batches", listed.len());
    line(&mut text, ["", "", &count], &sums.map(|sum| sum.to_string()), &bytes_of_all.to_string(), "");
    text
}

fn key(reach: &ReachArgs) -> Result<Option<PublicKey>, Failure> {
    reach.key.as_deref().map(PublicKey::load).transpose().map_err(|e| (2, e.into()))
}

/// Where it lies: what the arguments name, as the configuration reaches it.
async fn source(name: Option<&str>, reach: &ReachArgs) -> Result<Source, Failure> {
    let mut config = reach.config.as_deref().map_or_else(|| Ok(s3::Config::default()), configured)?;
    match name.map(|name| name.strip_prefix("s3://").ok_or(name)) {
        Some(Err(folder)) => return Ok(Source::Folder(PathBuf::from(folder))),
        Some(Ok(place)) => {
            let (bucket, prefix) = place.split_once('/').unwrap_or((place, ""));
            config.bucket = bucket.to_owned();
            config.prefix = prefix.trim_end_matches('/').to_owned();
            if !config.prefix.is_empty() {
                config.prefix.push('/');
            }
        }
        None => {}
    }
    if let Some(url) = &reach.endpoint_url {
        config.endpoint_url = Some(url.clone());
    }
    if let Some(region) = &reach.region {
        config.region = Some(region.clone());
    }
    config.path_style |= reach.path_style;
    let reader = s3::Reader::connect(config).await.map_err(|e| (2, e.into()))?;
    Ok(Source::Bucket(Box::new(reader)))
}

/// `[s3]` of a policy.
fn configured(path: &Path) -> Result<s3::Config, Failure> {
    #[derive(serde::Deserialize)]
    struct Policy {
        s3: s3::Config,
    }
    let wrong = |why: &dyn std::fmt::Display| (2, anyhow!("{}: {why}", path.display()));
    let text = std::fs::read_to_string(path).map_err(|e| wrong(&e))?;
    let policy: Policy = toml::from_str(&text).map_err(|e| wrong(&e.message()))?;
    Ok(policy.s3)
}

fn failed(failure: catalog::Failure) -> Failure {
    let code = match &failure {
        catalog::Failure::Nothing(_) | catalog::Failure::Disk { .. } => 3,
        catalog::Failure::Limit { .. } => 5,
        catalog::Failure::Untrusted { .. } => 4,
        catalog::Failure::Bucket(s3::Failure::Unreachable { .. }) => 1,
        catalog::Failure::Bucket(_) => 2,
    };
    (code, failure.into())
}

fn wait<T>(work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(|e| (2, e.into()))?;
    runtime.block_on(work)
}
