//! `gantry outbox`: results on their way to destinations, as the journal of a node has them; it may run meanwhile.

use std::fmt::Write;

use anyhow::{Context, bail};
use gantry::config::Config;
use gantry::store::{DeliveryChanged, DeliveryRow, DeliveryState, Job, Store};

use super::job::{NodeArgs, chrono_text, pretty, with_journal};

pub(crate) const EXAMPLES: &str = "\
Examples:
  gantry outbox list --config /etc/gantry/gantry.toml --state dead
  gantry outbox retry --destination pacs --config /etc/gantry/gantry.toml
  gantry outbox drop 17 --config /etc/gantry/gantry.toml
";

/// Deliveries that are changed in one commit each, for a whole destination.
const PAGE: u32 = 1_000_000;

#[derive(clap::Subcommand)]
pub(crate) enum OutboxCommand {
    /// List deliveries, the latest first.
    #[command(after_help = concat!(
        "Examples:\n",
        "  gantry outbox list --config /etc/gantry/gantry.toml\n",
        "  gantry outbox list --destination pacs --state queued --json --config gantry.toml\n"
    ))]
    List {
        #[command(flatten)]
        node: NodeArgs,
        /// To this destination only.
        #[arg(long, value_name = "NAME")]
        destination: Option<String>,
        /// Of this study only.
        #[arg(long, value_name = "UID")]
        study: Option<String>,
        /// In this state only: held, queued, awaiting, sent, dead, dropped or superseded.
        #[arg(long)]
        state: Option<DeliveryState>,
        /// So many at most.
        #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
        limit: u32,
    },
    /// Show all that is known of a delivery.
    #[command(after_help = "Example:\n  gantry outbox show 17 --config /etc/gantry/gantry.toml\n")]
    Show {
        /// Its number.
        id: i64,
        #[command(flatten)]
        node: NodeArgs,
    },
    /// Have a result sent again that was given up, dropped or sent. With --json, prints it as `gantry outbox show` does.
    #[command(after_help = concat!(
        "Examples:\n",
        "  gantry outbox retry 17 --config /etc/gantry/gantry.toml\n",
        "  gantry outbox retry --destination pacs --config gantry.toml     # All that was given up.\n"
    ))]
    Retry {
        #[command(flatten)]
        which: Which,
        #[command(flatten)]
        node: NodeArgs,
    },
    /// Let go of a result that waits or was given up: this destination does not get it. With --json, prints it as `gantry outbox
    /// show` does.
    #[command(after_help = concat!(
        "Examples:\n",
        "  gantry outbox drop 17 --config /etc/gantry/gantry.toml\n",
        "  gantry outbox drop --destination old-pacs --config gantry.toml  # All that it does not have.\n"
    ))]
    Drop {
        #[command(flatten)]
        which: Which,
        #[command(flatten)]
        node: NodeArgs,
    },
}

#[derive(clap::Args)]
#[group(required = true, multiple = false)]
pub(crate) struct Which {
    /// The delivery's number.
    id: Option<i64>,
    /// All of this destination.
    #[arg(long, value_name = "NAME")]
    destination: Option<String>,
}

#[derive(Clone, Copy)]
enum Change {
    Retry,
    Drop,
}

pub(crate) fn run(command: OutboxCommand) -> Result<(), (u8, anyhow::Error)> {
    let text = match command {
        OutboxCommand::List { node, destination, study, state, limit } => with_journal(&node, |config, store| {
            let json = node.json;
            async move {
                let rows = store.deliveries(study.as_deref(), destination.as_deref(), state, limit).await?;
                if json { pretty(&serde_json::json!({ "deliveries": rows })) } else { list(&config, &rows) }
            }
        }),
        OutboxCommand::Show { id, node } => with_journal(&node, |_, store| {
            let json = node.json;
            async move { show(&store, id, json).await }
        }),
        OutboxCommand::Retry { which, node } => change(which, &node, Change::Retry),
        OutboxCommand::Drop { which, node } => change(which, &node, Change::Drop),
    };
    crate::print(text?.as_bytes())
}

fn list(config: &Config, rows: &[DeliveryRow]) -> anyhow::Result<String> {
    let mut text = String::new();
    for row in rows {
        let DeliveryRow { id, state, destination, attempts, job, study_instance_uid, .. } = row;
        let gone = match config.destinations.iter().any(|to| to.name == *destination) {
            true => "",
            false if DeliveryState::OPEN.contains(state) => "  (not configured: nobody sends it)",
            false => "",
        };
        let error = row.error.as_deref().map(gantry::printable).unwrap_or_default();
        writeln!(
            text,
            "{id:>6}  {state:<10}  {destination}  job {job} of {study_instance_uid}  {attempts} attempts  {error}{gone}"
        )?;
    }
    if text.is_empty() {
        text.push_str("no deliveries\n");
    }
    Ok(text)
}

/// A delivery, and whose result it is.
#[derive(serde::Serialize)]
struct Shown {
    #[serde(flatten)]
    row: DeliveryRow,
    module: String,
    correlation: String,
    /// Below the data folder; nothing once retention deleted it.
    result_path: Option<String>,
}

async fn show(store: &Store, id: i64, json: bool) -> anyhow::Result<String> {
    let row = store.delivery(id).await?.with_context(|| no_such(id))?;
    let job = store.job(row.job).await?.context("its job is not in the journal")?;
    if json {
        let Job { module, correlation, result_path, .. } = job;
        return pretty(&Shown { row, module, correlation, result_path });
    }
    let time = |ms: Option<i64>| ms.and_then(chrono_text).unwrap_or_else(|| "-".into());
    let mut text = String::new();
    writeln!(text, "delivery {id}: {} to {}", row.state, row.destination)?;
    writeln!(text, "  job {}, module {}, correlation {}", row.job, job.module, job.correlation)?;
    writeln!(text, "  study {}, version {}", row.study_instance_uid, job.study_version)?;
    writeln!(text, "  result sha256:{}", gantry::hex(&row.result_sha256))?;
    writeln!(text, "  attempts {}, priority {}", row.attempts, row.priority.name())?;
    writeln!(text, "  created {}", time(Some(row.created_ms)))?;
    if matches!(row.state, DeliveryState::Queued | DeliveryState::Awaiting) {
        writeln!(text, "  not tried before {}", time(Some(row.next_ms).filter(|ms| *ms > 0)))?;
    }
    writeln!(text, "  ended {}", time(row.ended_ms))?;
    if let Some(error) = &row.error {
        writeln!(text, "  last error: {}", gantry::printable(error))?;
    }
    if !row.detail.is_empty() {
        writeln!(text, "  {}", gantry::printable(&row.detail))?;
    }
    if let Some(transaction) = &row.transaction_uid {
        writeln!(text, "  storage commitment asked for under {transaction}")?;
    }
    Ok(text)
}

fn change(which: Which, node: &NodeArgs, change: Change) -> Result<String, (u8, anyhow::Error)> {
    let json = node.json;
    with_journal(node, |_, store| async move {
        match (which.id, which.destination) {
            (Some(id), _) => {
                let text = changed(id, &store, change).await?;
                if json { show(&store, id, json).await } else { Ok(text) }
            }
            (None, destination) => all(&store, &destination.unwrap_or_default(), change, json).await,
        }
    })
}

async fn apply(id: i64, store: &Store, change: Change) -> anyhow::Result<DeliveryChanged> {
    Ok(match change {
        Change::Retry => store.retry_delivery(id).await?,
        Change::Drop => store.drop_delivery(id).await?,
    })
}

async fn changed(id: i64, store: &Store, change: Change) -> anyhow::Result<String> {
    let (done, can) = match change {
        Change::Retry => ("waits for its turn", "can be tried again"),
        Change::Drop => ("is dropped", "can be dropped"),
    };
    match apply(id, store, change).await? {
        DeliveryChanged::Yes => Ok(format!("delivery {id} {done}\n")),
        DeliveryChanged::NoSuchDelivery => bail!(no_such(id)),
        DeliveryChanged::Not(state) => bail!("delivery {id} is {state}, and none in this state {can}"),
        DeliveryChanged::NoResult => {
            bail!("delivery {id} cannot be sent again: its result was deleted, or a later version of the study came")
        }
    }
}

/// What a destination does not have: of what it was given up for it, or all of it.
async fn all(store: &Store, destination: &str, change: Change, json: bool) -> anyhow::Result<String> {
    let states: &[DeliveryState] = match change {
        Change::Retry => &[DeliveryState::Dead],
        Change::Drop => &DeliveryState::OPEN,
    };
    let (mut changed, mut left) = (Vec::new(), Vec::new());
    for state in states {
        let rows = store.deliveries(None, Some(destination), Some(*state), PAGE).await?;
        // The oldest first, as they came.
        for row in rows.iter().rev() {
            match apply(row.id, store, change).await? {
                DeliveryChanged::Yes => changed.push(row.id),
                _ => left.push(row.id),
            }
        }
    }
    if json {
        return pretty(&serde_json::json!({ "changed": changed, "left": left }));
    }
    let done = match change {
        Change::Retry => "wait for their turn",
        Change::Drop => "are dropped",
    };
    let mut text = format!("{} deliveries to {destination} {done}\n", changed.len());
    if !left.is_empty() {
        writeln!(text, "{} are left as they are: their result was deleted, or superseded", left.len())?;
    }
    Ok(text)
}

fn no_such(id: i64) -> String {
    format!("there is no delivery {id}; `gantry outbox list` shows those that there are")
}
