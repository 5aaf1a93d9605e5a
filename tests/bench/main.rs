//! What must be fast and small, measured: ratios within one run, since machines differ.
//!
//! `cargo xtask bench sandbox` builds everything optimised and runs this. What is over its target is said, and is no
//! failure: a busy machine would fail the best code.

mod command;
mod inside;
mod native;
mod peers;
mod report;
mod study;

use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result};
use clap::{Parser, Subcommand};
use gantry_tests::repository;
use report::Report;

/// Measures Gantry.
#[derive(Debug, Parser)]
struct Cli {
    #[command(subcommand)]
    subject: Subject,
}

#[derive(Debug, Subcommand)]
enum Subject {
    /// What the sandbox costs over native Rust, and what the whole command costs beside the network.
    Sandbox(Options),
}

/// How much to measure.
#[derive(Debug, clap::Args)]
struct Options {
    /// Slices of the study.
    #[arg(long, default_value_t = report::TARGET_SLICES)]
    slices: usize,
    /// How often each comparison is repeated; medians count.
    #[arg(long, default_value_t = 7)]
    rounds: usize,
    /// Processors that everything runs on.
    #[arg(long, default_value_t = 2)]
    processors: usize,
    /// The `gantry` that is measured as a process; the one beside this program unless said otherwise.
    #[arg(long)]
    gantry: Option<PathBuf>,
    /// Leave out what runs in this process.
    #[arg(long)]
    only_command: bool,
    /// Leave out the comparison with Python.
    #[arg(long)]
    no_peers: bool,
    /// For scripts.
    #[arg(long)]
    json: bool,
}

/// Where things lie.
struct Places {
    /// Made once, kept: the study, compiled code, outputs.
    folder: PathBuf,
    study: PathBuf,
    package: PathBuf,
    gantry: PathBuf,
}

fn main() -> Result<()> {
    let Subject::Sandbox(options) = Cli::parse().subject;
    let processors = pin(options.processors)?;
    let folder = repository().join(".cache/bench");
    let gantry = match &options.gantry {
        Some(path) => path.clone(),
        None => std::env::current_exe()?.with_file_name("gantry"),
    };
    let places = Places {
        study: study::repeated(&folder, options.slices)?,
        package: repository().join("modules/ct-organs/package"),
        folder,
        gantry,
    };
    anyhow::ensure!(places.gantry.is_file(), "{} is missing: build gantry first", places.gantry.display());
    anyhow::ensure!(places.package.is_dir(), "{} is missing: run `cargo xtask guests`", places.package.display());

    let mut report = Report::begin(options.slices, processors);
    // First of all: what this process leaves in memory must not stand beside the command.
    command::measure(&places, &options, &mut report)?;
    if !options.only_command {
        inside::measure(&places, options.rounds, &mut report)?;
    }
    if !options.no_peers {
        peers::measure(&places, &mut report)?;
    }
    match options.json {
        true => println!("{}", serde_json::to_string_pretty(&report.to_json())?),
        false => print!("{report}"),
    }
    Ok(())
}

/// Keeps this process, and with it every process that it starts, on the first `wanted` processors that it may use:
/// where there are more, it starts itself again under `taskset`. How many there are then.
fn pin(wanted: usize) -> Result<usize> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let list = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:")).context("which processors")?;
    let allowed = processors(list.trim())?;
    if allowed.len() <= wanted.max(1) {
        return Ok(allowed.len());
    }
    let chosen = allowed.iter().take(wanted.max(1)).map(usize::to_string).collect::<Vec<_>>().join(",");
    let arguments = std::env::args_os().skip(1);
    let error = Command::new("taskset").arg("-c").arg(chosen).arg(std::env::current_exe()?).args(arguments).exec();
    Err(error).context("cannot run taskset (Debian: util-linux)")
}

/// `0-2,5` as numbers.
fn processors(list: &str) -> Result<Vec<usize>> {
    let mut all = Vec::new();
    for part in list.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        all.extend(first.parse::<usize>()?..=last.parse::<usize>()?);
    }
    Ok(all)
}
