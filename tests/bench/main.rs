//! What must be fast and small, measured: ratios within one run, since machines differ.
//!
//! `cargo xtask bench` builds everything optimised and runs this. What misses its target is said, and is no failure: a
//! busy machine would fail the best code.
//!
//! `sandbox` is `command`, `inside`, `native`, `peers` and `study`; `workers` goes on in `neighbours` and `processor`; `ingest` and
//! `hospital` share `synthetic`, `sender` and `receivers`; `outputs` is `seg` and `outbox` on what `organs` has; `deid` stands alone,
//! and `decode` takes its study; `sync` shares `spooled` with the tests of what it measures; `volumes` and `stream` stand alone too.

mod command;
mod decode;
mod deid;
mod disk;
mod gpu;
mod hospital;
mod ingest;
mod inside;
mod latency;
mod native;
mod neighbours;
mod organs;
mod outbox;
mod outputs;
mod peers;
mod processor;
mod receivers;
mod report;
mod seg;
mod sender;
#[expect(dead_code, reason = "it is whole where it is at home")]
#[path = "../../cloud-sync/tests/s3/spooled.rs"]
mod spooled;
mod stream;
mod study;
mod sync;
mod sync_triage;
mod synthetic;
mod volumes;
mod workers;

use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
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
    /// What processes around engines cost, what urgent work waits for, and what a neighbour feels of who misbehaves.
    Workers(workers::Options),
    /// How fast images come in, beside other receivers and the disk alone.
    Ingest(ingest::Options),
    /// The busiest hour of a large hospital, in less time.
    Hospital(hospital::Options),
    /// What urgent findings feel of sync.
    SyncTriage(sync_triage::Options),
    /// A SEG beside highdicom, and what a result waits for before its destination has it, alone and beside thousands for one that is
    /// gone.
    Outputs(outputs::Options),
    /// De-identified slices beside other people's de-identifiers, and what memory that takes.
    Deid(deid::Options),
    /// A CT in JPEG 2000 to a volume, beside pydicom with OpenJPEG.
    Decode(decode::Options),
    /// A batch into a bucket, many small objects and few large ones, beside s5cmd.
    Sync(sync::Options),
    /// Operations on a volume beside scipy and SimpleITK.
    Volumes(volumes::Options),
    /// Two streams at once at 30 frames a second, against the frame budget and against one alone.
    Stream(stream::Options),
    /// What everything around an engine costs on a GPU, beside the bare engine. Needs nothing but this program, the engine's library
    /// and models.
    Gpu(gpu::Options),
    /// What `gpu` starts.
    #[command(hide = true)]
    Worker,
    /// What `outputs` starts.
    #[command(hide = true)]
    WriteSeg(seg::Once),
    /// What `sync` starts.
    #[command(hide = true)]
    Upload(sync::Once),
}

/// Slices of the study that the sandbox's targets are meant for.
const TARGET_SLICES: usize = 300;

/// What every measurement takes.
#[derive(Debug, clap::Args)]
struct Built {
    /// Processors that everything runs on.
    #[arg(long, default_value_t = 2)]
    processors: usize,
    /// The `gantry` that is measured as a process; the one beside this program unless said otherwise.
    #[arg(long)]
    gantry: Option<PathBuf>,
    /// Where everything is kept, and so which disk is measured; `.cache/bench` unless said otherwise.
    #[arg(long)]
    folder: Option<PathBuf>,
    /// For scripts.
    #[arg(long)]
    json: bool,
}

/// How much to measure.
#[derive(Debug, clap::Args)]
struct Options {
    /// Slices of the study.
    #[arg(long, default_value_t = TARGET_SLICES)]
    slices: usize,
    /// How often each comparison is repeated; medians count.
    #[arg(long, default_value_t = 7)]
    rounds: usize,
    /// Leave out what runs in this process.
    #[arg(long)]
    only_command: bool,
    /// Leave out the comparison with Python.
    #[arg(long)]
    no_peers: bool,
    #[command(flatten)]
    built: Built,
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
    let subject = Cli::parse().subject;
    let built = match &subject {
        Subject::Worker => return gpu::worker(),
        Subject::WriteSeg(options) => return seg::once(options),
        Subject::Upload(options) => return sync::once(options),
        Subject::Gpu(options) => return gpu(options),
        Subject::Sandbox(options) => &options.built,
        Subject::Workers(options) => &options.built,
        Subject::Ingest(options) => &options.built,
        Subject::Hospital(options) => &options.built,
        Subject::SyncTriage(options) => &options.built,
        Subject::Outputs(options) => &options.built,
        Subject::Deid(options) => &options.built,
        Subject::Sync(options) => &options.built,
        Subject::Decode(options) => &options.built,
        Subject::Volumes(options) => &options.built,
        Subject::Stream(options) => &options.built,
    };
    let processors = pin(built.processors)?;
    let folder = built.folder.clone().unwrap_or_else(|| repository().join(".cache/bench"));
    std::fs::create_dir_all(&folder)?;
    let folder = folder.canonicalize()?;
    let gantry = match &built.gantry {
        Some(path) => std::path::absolute(path)?,
        None => std::env::current_exe()?.with_file_name("gantry"),
    };
    anyhow::ensure!(gantry.is_file(), "{} is missing: build gantry first", gantry.display());
    let report = match &subject {
        Subject::Sandbox(options) => sandbox(folder, gantry, options, processors)?,
        Subject::Workers(options) => {
            let places = places(folder, gantry, options.slices)?;
            let mut report = Report::begin(format!("workers, {}", profile(&places.gantry)), processors);
            workers::measure(&places, options, &mut report)?;
            report
        }
        Subject::Ingest(options) => {
            let mut report = Report::begin(format!("ingest, {}", profile(&gantry)), processors);
            ingest::measure(&folder, &gantry, options, &mut report)?;
            report
        }
        Subject::Outputs(options) => {
            let mut report = Report::begin(format!("outputs, {}", profile(&gantry)), processors);
            outputs::measure(&folder, options, &mut report)?;
            report
        }
        Subject::SyncTriage(options) => {
            let mut report = Report::begin(format!("triage beside sync, {}", profile(&gantry)), processors);
            sync_triage::measure(&folder, &gantry, options, &mut report)?;
            report
        }
        Subject::Deid(options) => {
            let mut report = Report::begin(format!("deid, {}", profile(&gantry)), processors);
            deid::measure(&folder, &gantry, options, processors, &mut report)?;
            report
        }
        Subject::Decode(options) => {
            let mut report = Report::begin(format!("decode, {}", profile(&std::env::current_exe()?)), processors);
            decode::measure(&folder, options, processors, &mut report)?;
            report
        }
        Subject::Sync(options) => {
            let mut report = Report::begin(format!("sync, {}", profile(&gantry)), processors);
            sync::measure(options, &mut report)?;
            report
        }
        Subject::Volumes(options) => {
            let subject = format!("512 × 512 × {} voxels, {}", options.slices(), profile(&gantry));
            let mut report = Report::begin(subject, processors);
            volumes::measure(&folder, options, processors, &mut report)?;
            report
        }
        Subject::Stream(options) => {
            let mut report = Report::begin(format!("stream, {}", profile(&gantry)), processors);
            stream::measure(&folder, options, &mut report)?;
            report
        }
        Subject::Gpu(_) | Subject::Worker | Subject::WriteSeg(_) | Subject::Upload(_) => unreachable!("done above"),
        Subject::Hospital(options) => {
            let mut report = Report::begin(format!("hospital, {}", profile(&gantry)), processors);
            hospital::measure(&folder, &gantry, options, processors, &mut report)?;
            report
        }
    };
    match built.json {
        true => println!("{}", serde_json::to_string_pretty(&report.to_json())?),
        false => print!("{report}"),
    }
    Ok(())
}

/// On all processors, in no folder.
fn gpu(options: &gpu::Options) -> Result<()> {
    let report = gpu::measure(options)?;
    let json = serde_json::to_string_pretty(&report.to_json())?;
    if let Some(path) = &options.out {
        std::fs::write(path, format!("{json}\n")).with_context(|| path.display().to_string())?;
    }
    match options.json {
        true => println!("{json}"),
        false => print!("{report}"),
    }
    Ok(())
}

/// How gantry was built, by the folder that cargo put it in.
fn profile(gantry: &Path) -> String {
    let folder = gantry.parent().and_then(Path::file_name).unwrap_or_default().to_string_lossy();
    match &*folder {
        "debug" => "the development build (opt-level 1, dependencies 2)".into(),
        other => format!("the {other} build"),
    }
}

fn places(folder: PathBuf, gantry: PathBuf, slices: usize) -> Result<Places> {
    let package = repository().join("modules/ct-organs/package");
    anyhow::ensure!(package.is_dir(), "{} is missing: run `cargo xtask guests`", package.display());
    Ok(Places { study: study::repeated(&folder, slices)?, package, folder, gantry })
}

fn sandbox(folder: PathBuf, gantry: PathBuf, options: &Options, processors: usize) -> Result<Report> {
    let places = places(folder, gantry, options.slices)?;
    let subject = match options.slices {
        TARGET_SLICES => format!("{TARGET_SLICES} slices"),
        slices => format!("{slices} slices (targets are those of {TARGET_SLICES})"),
    };
    let mut report = Report::begin(subject, processors);
    // First of all: what this process leaves in memory must not stand beside the command.
    command::measure(&places, options, &mut report)?;
    if !options.only_command {
        inside::measure(&places, options.rounds, &mut report)?;
    }
    if !options.no_peers {
        peers::measure(&places, &mut report)?;
    }
    Ok(report)
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
