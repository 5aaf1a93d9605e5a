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
    let usage = |e: anyhow::Error| (2, e);
    let config = Config::read(config).map_err(|e| usage(e.into()))?;
    let data = config.node.data_folder.ok_or_else(|| usage(anyhow!("node.data_folder is not set")))?;
    let list = list::read(&data).map_err(|e| (1, anyhow!("the list of workers cannot be read: {e}")))?;
    let list = list.unwrap_or(WorkerList { written_ms: 0, workers: Vec::new() });
    let text = match json {
        true => serde_json::to_string_pretty(&list).map_err(|e| (1, e.into()))? + "\n",
        false if list.workers.is_empty() => "no worker was started yet by this node\n".into(),
        false => list.workers.iter().map(line).collect(),
    };
    crate::print(text.as_bytes())
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
