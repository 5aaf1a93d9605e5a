//! `gantry module bench`: how long a module takes on a study, phase by phase, cold and warm, and in how much memory.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use serde::Serialize;

use super::package::{Package, PackageError};
use super::trial::{self, Job, Trial};
use crate::app::{App, StartError};
use crate::config::Config;
use crate::inference::Turn;
use crate::metrics::nearest_rank;
use crate::pipeline::RunError;
use crate::sandbox::PrepareError;
use crate::sandbox::grants::Policy;
use crate::study::{self, ReadError};

/// How to measure.
#[derive(Debug)]
pub struct Options<'a> {
    /// A package.
    pub module: &'a Path,
    /// Files and folders of one study.
    pub study: &'a [PathBuf],
    /// What is granted.
    pub policy: &'a Policy,
    /// Warm runs, one after the other, and as many at once.
    pub runs: usize,
    /// Runs at once for the throughput.
    pub at_once: usize,
}

/// What was measured.
#[derive(Debug, Serialize)]
pub struct Bench {
    /// `NAME VERSION`.
    pub module: String,
    /// SHA-256 over the manifest.
    pub identity_sha256: String,
    /// Of the study.
    pub images: usize,
    /// What it has decoded, as `f32`, bytes.
    pub voxel_bytes: u64,
    /// Engines, by model.
    pub engines: Vec<String>,
    /// The first run of a process that finds no compiled code: start, compiler, engine and model included.
    pub cold: Vec<Phase>,
    /// Each phase over the runs that followed.
    pub warm: Vec<Percentiles>,
    /// Several at once.
    pub throughput: Throughput,
    /// The most.
    pub memory: Memory,
}

/// How long a phase took.
#[derive(Debug, Serialize)]
pub struct Phase {
    /// Which.
    pub phase: &'static str,
    /// ms.
    pub milliseconds: f64,
}

/// How long a phase took in several runs, ms.
#[derive(Debug, Serialize)]
pub struct Percentiles {
    /// Which.
    pub phase: &'static str,
    /// Half of the runs took at most so long.
    pub p50_ms: f64,
    /// Nine of ten.
    pub p90_ms: f64,
    /// All but one of a hundred.
    pub p99_ms: f64,
    /// The longest.
    pub max_ms: f64,
}

/// Studies in a time.
#[derive(Debug, Serialize)]
pub struct Throughput {
    /// Runs at once.
    pub at_once: usize,
    /// Runs that ended.
    pub studies: usize,
    /// In so long.
    pub seconds: f64,
    /// How many a minute.
    pub studies_per_minute: f64,
    /// Their images, a second.
    pub images_per_second: f64,
}

/// The most memory, bytes.
#[derive(Debug, Serialize)]
pub struct Memory {
    /// Voxels and tensors of one run.
    pub host_peak_bytes: u64,
    /// The guest's own.
    pub guest_peak_bytes: u64,
    /// This process, all runs at once included; none where the kernel does not tell.
    pub process_peak_bytes: Option<u64>,
    /// The processes in which engines ran, together.
    pub workers_peak_bytes: Option<u64>,
}

/// Why nothing was measured.
#[derive(Debug, thiserror::Error)]
pub enum BenchError {
    /// The package.
    #[error(transparent)]
    Package(#[from] PackageError),
    /// The study.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The process cannot start.
    #[error(transparent)]
    Start(#[from] StartError),
    /// The component.
    #[error(transparent)]
    Prepare(#[from] PrepareError),
    /// A run failed.
    #[error(transparent)]
    Run(#[from] RunError),
    /// No room.
    #[error("a temporary folder cannot be made: {0}")]
    Temporary(#[from] std::io::Error),
}

/// Names of phases, in order.
const PHASES: [&str; 9] =
    ["read", "prepare", "decode", "load", "operations", "inference", "module", "outputs", "whole"];

/// Measures. What is compiled goes into a folder of its own, which makes the first run a cold one.
///
/// # Errors
/// [`BenchError`]; the first run that fails ends it.
pub fn bench(
    mut config: Config,
    options: &Options<'_>,
    turn: &Turn,
    on: &(dyn Fn(&str, usize) + Sync),
) -> Result<Bench, BenchError> {
    let package = Arc::new(Package::open(options.module)?);
    let cache = tempfile::tempdir()?;
    config.cache.folder = Some(cache.path().to_owned());
    on("cold", 0);
    let started = Instant::now();
    let app = App::start(config)?;
    let start_ms = started.elapsed().as_secs_f64() * 1e3;
    let Options { module, study, policy, runs, at_once } = *options;
    let (none, strict): ([PathBuf; 0], _) = ([], false);
    let job = Job { module, study, upstream: &none, priors: &none, policy, strict, prepared: None };
    let (mut cold, first) = (Vec::new(), trial::run(&app, &job, turn)?);
    let (first, result) = whole(first)?;
    let engines = result.models.iter().map(|m| format!("{}: {} on {}", m.name, m.engine, m.device)).collect();
    cold.push(Phase { phase: "start", milliseconds: start_ms });
    cold.extend(PHASES.iter().zip(first.phases).map(|(&phase, milliseconds)| Phase { phase, milliseconds }));

    let (grants, _) = policy.grant(&package.manifest().needs);
    let prepared = app.sandbox.prepare(package.clone(), grants)?;
    let job = Job { prepared: Some(&prepared), ..job };
    let mut samples = Vec::with_capacity(runs);
    for run in 0..runs {
        on("warm", run);
        samples.push(whole(trial::run(&app, &job, turn)?)?.0);
    }
    let warm = PHASES.iter().enumerate().map(|(at, &phase)| percentiles(phase, samples.iter().map(|s| s.phases[at])));
    let read = study::read(study, &app.read_options(strict))?;
    let images = read.series.iter().map(|series| series.instances.len()).sum();
    let throughput =
        several(runs.max(at_once), at_once, images, &|| whole(trial::run(&app, &job, turn)?).map(drop), on)?;
    let most = |of: fn(&Sample) -> u64| samples.iter().map(of).max().unwrap_or_default();
    let volumes = read.series.iter().flat_map(|series| &series.volumes);
    Ok(Bench {
        module: format!("{} {}", package.manifest().name, package.manifest().version),
        identity_sha256: crate::hex(&package.identity()),
        images,
        voxel_bytes: volumes.map(|v| v.geometry.size().iter().map(|n| *n as u64).product::<u64>() * 4).sum(),
        engines,
        cold,
        warm: warm.collect(),
        throughput,
        memory: Memory {
            host_peak_bytes: most(|s| s.host_peak).max(first.host_peak),
            guest_peak_bytes: most(|s| s.guest_peak).max(first.guest_peak),
            process_peak_bytes: peak_of(std::process::id()),
            workers_peak_bytes: children().map(|children| children.into_iter().filter_map(peak_of).sum()),
        },
    })
}

/// Of one run.
struct Sample {
    phases: [f64; PHASES.len()],
    host_peak: u64,
    guest_peak: u64,
}

/// The phases of a run that ended well.
fn whole(trial: Trial) -> Result<(Sample, crate::outputs::result::JobResult), BenchError> {
    let result = trial.result?;
    let used = trial.used.ok_or_else(|| RunError::Write("the run told nothing of what it used".into()))?;
    let of = |name: &str| result.phases.iter().find(|p| p.name == name).map_or(0.0, |p| p.milliseconds);
    let (all, read, prepare) = (trial.took.as_secs_f64() * 1e3, of("headers"), of("prepare"));
    let inside = [used.decode_ms, used.load_ms, used.operations_ms, used.inference_ms, used.module_ms];
    let outputs = (all - read - prepare - of("analysis")).max(0.0);
    let [decode, load, operations, inference, module] = inside;
    // Starting a guest is the module's.
    let module = module + (of("analysis") - used.analysis_ms).max(0.0);
    let phases = [read, prepare, decode, load, operations, inference, module, outputs, all];
    let (host_peak, guest_peak) = (used.host_memory_peak_bytes, used.guest_memory_peak_bytes);
    Ok((Sample { phases, host_peak, guest_peak }, result))
}

/// Runs `job` so many times on so many threads.
fn several(
    runs: usize,
    at_once: usize,
    images: usize,
    job: &(dyn Fn() -> Result<(), BenchError> + Sync),
    on: &(dyn Fn(&str, usize) + Sync),
) -> Result<Throughput, BenchError> {
    let (next, started) = (AtomicUsize::new(0), Instant::now());
    let work = || -> Result<(), BenchError> {
        loop {
            let run = next.fetch_add(1, Ordering::Relaxed);
            if run >= runs {
                return Ok(());
            }
            on("at once", run);
            job()?;
        }
    };
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..at_once).map(|_| scope.spawn(work)).collect();
        threads.into_iter().try_for_each(|thread| thread.join().expect("a thread that measures does not panic"))
    })?;
    let seconds = started.elapsed().as_secs_f64();
    let per_second = runs as f64 / seconds;
    Ok(Throughput {
        at_once,
        studies: runs,
        seconds,
        studies_per_minute: per_second * 60.0,
        images_per_second: per_second * images as f64,
    })
}

/// Each is a run that there was.
fn percentiles(phase: &'static str, runs: impl Iterator<Item = f64>) -> Percentiles {
    let mut sorted: Vec<f64> = runs.collect();
    sorted.sort_by(f64::total_cmp);
    let at = |percent| nearest_rank(&sorted, percent).unwrap_or_default();
    Percentiles { phase, p50_ms: at(50), p90_ms: at(90), p99_ms: at(99), max_ms: at(100) }
}

/// The most memory that a process held at once, as Linux tells it.
fn peak_of(process: u32) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    Some(line.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok()? << 10)
}

/// The processes that this one started and that still run.
fn children() -> Option<Vec<u32>> {
    let threads = std::fs::read_dir("/proc/self/task").ok()?;
    let mut all = Vec::new();
    for thread in threads {
        let text = std::fs::read_to_string(thread.ok()?.path().join("children")).ok()?;
        all.extend(text.split_whitespace().filter_map(|id| id.parse::<u32>().ok()));
    }
    Some(all)
}

impl fmt::Display for Bench {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mib = |bytes: u64| bytes.div_ceil(1 << 20);
        writeln!(f, "{}, on {} images, {} MiB of voxels", self.module, self.images, mib(self.voxel_bytes))?;
        self.engines.iter().try_for_each(|engine| writeln!(f, "  {engine}"))?;
        writeln!(f, "\n{:<12}{:>10}{:>10}{:>10}{:>10}{:>10}", "ms", "cold", "p50", "p90", "p99", "most")?;
        let cold =
            |phase: &str| self.cold.iter().find(|cold| cold.phase == phase).map_or(0.0, |cold| cold.milliseconds);
        writeln!(f, "{:<12}{:>10.1}", "start", cold("start"))?;
        for Percentiles { phase, p50_ms, p90_ms, p99_ms, max_ms } in &self.warm {
            let cold = cold(phase);
            writeln!(f, "{phase:<12}{cold:>10.1}{p50_ms:>10.1}{p90_ms:>10.1}{p99_ms:>10.1}{max_ms:>10.1}")?;
        }
        let Throughput { at_once, studies, seconds, studies_per_minute, images_per_second } = &self.throughput;
        writeln!(
            f,
            "\n{studies_per_minute:.1} studies a minute, {images_per_second:.0} images a second: {studies} runs, {at_once} at once, in {seconds:.1} s"
        )?;
        let Memory { host_peak_bytes, guest_peak_bytes, process_peak_bytes, workers_peak_bytes } = &self.memory;
        write!(
            f,
            "at most {} MiB of voxels and tensors, {} MiB in the guest",
            mib(*host_peak_bytes),
            mib(*guest_peak_bytes)
        )?;
        process_peak_bytes.iter().try_for_each(|bytes| write!(f, ", {} MiB in this process", mib(*bytes)))?;
        workers_peak_bytes.iter().try_for_each(|bytes| write!(f, ", {} MiB in workers", mib(*bytes)))?;
        writeln!(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_runs_that_there_were() {
        let of = |runs: &[f64]| {
            let p = percentiles("x", runs.iter().copied());
            [p.p50_ms, p.p90_ms, p.p99_ms, p.max_ms]
        };
        assert_eq!(of(&[3.0]), [3.0; 4]);
        assert_eq!(of(&[4.0, 1.0, 3.0, 2.0]), [2.0, 4.0, 4.0, 4.0]);
        let many: Vec<f64> = (1..=200).map(f64::from).collect();
        assert_eq!(of(&many), [100.0, 180.0, 198.0, 200.0]);
        assert_eq!(of(&[]), [0.0; 4]);
    }

    #[test]
    fn every_run_is_done_once_and_the_first_failure_is_told() {
        let done = AtomicUsize::new(0);
        let job = || {
            done.fetch_add(1, Ordering::Relaxed);
            Ok(())
        };
        let measured = several(50, 4, 10, &job, &|_, _| {}).expect("done");
        assert_eq!((done.into_inner(), measured.studies, measured.at_once), (50, 50, 4));
        assert!(
            (measured.images_per_second * 6.0 - measured.studies_per_minute).abs() < 1e-6 * measured.studies_per_minute
        );
        let failing = || Err(RunError::Write("no".into()).into());
        assert!(several(5, 2, 1, &failing, &|_, _| {}).is_err());
    }

    #[test]
    fn this_process_has_a_peak() {
        assert!(peak_of(std::process::id()).is_some_and(|bytes| bytes > 1 << 20));
    }
}
