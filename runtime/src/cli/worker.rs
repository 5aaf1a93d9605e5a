//! `gantry worker`: the processes in which a node runs models.

use std::path::PathBuf;

use anyhow::anyhow;
use clap::Subcommand;
use gantry::config::Config;
use gantry::worker::WorkerReport;
use gantry::worker::list::{self, WorkerList};

#[derive(Subcommand)]
pub(crate) enum WorkerCommand {
    /// Show every worker: vendor, device, engine, process, models, memory.
    #[command(after_help = "Example:\n  gantry worker list --config /etc/gantry/gantry.toml --json\n")]
    List {
        /// The node's configuration.
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
        /// For scripts.
        #[arg(long)]
        json: bool,
    },
}

pub(crate) fn run(WorkerCommand::List { config, json }: &WorkerCommand) -> Result<(), (u8, anyhow::Error)> {
    let data = crate::cli::data_folder(config, &Config::read(config).map_err(|e| (2, e.into()))?)?;
    let unreadable = |e| (1, anyhow!("the list of workers cannot be read: {e}; run this as the user of the node"));
    // Before the list: of a node that ends just now, what it wrote last is read.
    let running = gantry::serve::is_running(&data).map_err(unreadable)?;
    let list = list::read(&data).map_err(unreadable)?.unwrap_or(WorkerList { written_ms: 0, workers: Vec::new() });
    let list = if running { list } else { list.ended() };
    let told = Told { running, last_seen_ms: list::last_seen_ms(&data, &list), list };
    let text = match json {
        true => serde_json::to_string_pretty(&told).map_err(|e| (1, e.into()))? + "\n",
        false => for_people(&told),
    };
    crate::print(text.as_bytes())
}

/// The workers of a node, and whether it runs.
#[derive(serde::Serialize)]
struct Told {
    running: bool,
    last_seen_ms: Option<i64>,
    #[serde(flatten)]
    list: WorkerList,
}

fn for_people(Told { running, last_seen_ms, list }: &Told) -> String {
    let head = match (running, last_seen_ms.and_then(chrono::DateTime::from_timestamp_millis)) {
        (true, _) if list.workers.is_empty() => "no worker was started yet by this node\n".into(),
        (true, _) => String::new(),
        (false, Some(at)) => format!("the node is not running; it was last seen at {}\n", at.format("%F %T UTC")),
        (false, None) => "the node is not running, and never was on this data folder\n".into(),
    };
    std::iter::once(head).chain(list.workers.iter().map(line)).collect()
}

fn line(worker: &WorkerReport) -> String {
    let process = match worker.process {
        Some(process) => {
            let memory = worker.memory_bytes.map(|bytes| format!(" of {} MiB", bytes >> 20));
            format!("process {process}{}", memory.unwrap_or_default())
        }
        None => "no process".into(),
    };
    let models = worker.models.iter().map(|(name, bytes)| format!("{name} {} MiB", bytes >> 20));
    let out = worker.out_of_service.iter().map(|out| {
        let digest = String::from(out.sha256);
        format!(
            "  out of service: {}, sha256:{digest}, which ended {} workers: {}\n",
            out.model, out.failures, out.last
        )
    });
    let missing = worker.missing.iter().map(|kept| format!(", without {}", kept.wall.name()));
    format!(
        "{} on {}: {process}, {}, {} runs, {} restarts, models: {}{}\n{}",
        worker.vendor,
        worker.device,
        worker.engine.as_deref().unwrap_or("no engine yet"),
        worker.runs,
        worker.restarts,
        if worker.models.is_empty() { "none".to_owned() } else { models.collect::<Vec<_>>().join(", ") },
        missing.collect::<String>(),
        out.collect::<String>(),
    )
}
