//! What the processes around engines cost, and what the queue of a device gives to urgent work and to many small runs.

use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use gantry::findings::Urgency;
use gantry::inference::{
    Batch, Call, Device, Dim, EngineConfig, EnginePreference, Engines, Isolation, Join, LoadedModel, Request, Turn,
    find_library,
};
use gantry::memory::Budget;
use gantry::module::package::Package;
use gantry::tensor::{ElementType, Tensor};
use gantry::worker::Program;
use gantry_tests::repository;

use crate::inside::{Bench, ratio};
use crate::report::{Report, median, percentile};
use crate::{Built, Places, neighbours};

/// A routine run may hold the device so long, ms.
const SLICE_MS: u64 = 150;
/// Items of a routine batch: about a second of the device.
const ROUTINE_ITEMS: usize = 16;
/// Urgent runs where each takes seconds.
const PLAIN_RUNS: usize = 20;
/// Jobs that have runs of one item at the same time.
const SMALL_JOBS: usize = 16;
/// Runs of each.
const SMALL_RUNS: usize = 24;
/// Rows and columns of a small image.
const SMALL_SIDE: usize = 64;
/// How small runs become one.
const JOIN: Batch = Batch::Joined(Join { items_max: SMALL_JOBS, window: Duration::from_micros(2000) });

/// How much to measure.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Slices of the study.
    #[arg(long, default_value_t = crate::TARGET_SLICES)]
    pub(crate) slices: usize,
    /// How often each comparison is repeated; medians count.
    #[arg(long, default_value_t = 7)]
    pub(crate) rounds: usize,
    /// Urgent runs of each kind; the 99th percentile counts.
    #[arg(long, default_value_t = 100)]
    urgent: usize,
    #[command(flatten)]
    neighbours: neighbours::Options,
    /// One part alone.
    #[arg(long, value_enum)]
    only: Option<Part>,
    #[command(flatten)]
    pub(crate) built: Built,
}

/// What can be measured by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Part {
    /// ct-organs with its engine in a worker and in the process
    Boundary,
    /// From a killed worker to the next result
    Restart,
    /// Urgent work on a device that routine work saturates
    Urgent,
    /// Small runs of many jobs, as one and each by itself
    Batches,
    /// A job beside components that misbehave, a model beside models and engines that do
    Neighbours,
}

/// Measures and reports.
pub(crate) fn measure(places: &Places, options: &Options, report: &mut Report) -> Result<()> {
    let workers = Isolation::Program(Program { file: places.gantry.clone(), arguments: vec!["worker".into()] });
    let wanted = |part| options.only.is_none_or(|only| only == part);
    if wanted(Part::Boundary) {
        boundary(places, &workers, options.rounds, report)?;
    }
    if wanted(Part::Restart) {
        Net::triage()?.restart(&workers, options.rounds, report)?;
    }
    if wanted(Part::Urgent) {
        Net::triage()?.urgent(&workers, options.urgent, report)?;
        urgent_module(places, &workers, options.urgent, report)?;
    }
    if wanted(Part::Batches) {
        Net::organs()?.batches(&workers, options.rounds, report)?;
    }
    if wanted(Part::Neighbours) {
        neighbours::measure(&workers, &places.gantry, &options.neighbours, report)?;
    }
    Ok(())
}

/// The same job with its engine here and in a worker, in turn.
fn boundary(places: &Places, workers: &Isolation, rounds: usize, report: &mut Report) -> Result<()> {
    let (here, there) = (Bench::ready(places, Isolation::SameProcess)?, Bench::ready(places, workers.clone())?);
    let (mut inside, mut outside) = (Vec::new(), Vec::new());
    // One round that does not count.
    for round in 0..=rounds.max(1) {
        for turn in 0..2 {
            let (bench, times) = if (round + turn) % 2 == 0 { (&here, &mut inside) } else { (&there, &mut outside) };
            let begun = Instant::now();
            bench.sandboxed()?;
            if round > 0 {
                times.push(begun.elapsed().as_secs_f64());
            }
        }
    }
    let note =
        format!("{rounds} in turn, median of ratios; medians {:.3} s and {:.3} s", median(&outside), median(&inside));
    report.wanted("ct-organs, in a worker / in process", ratio(&outside, &inside), "", (1.05, None), note);
    Ok(())
}

/// A network of a module, which takes batches.
pub(crate) struct Net {
    package: Package,
    name: &'static str,
    bytes: Vec<u8>,
}

impl Net {
    /// 3-D, some 50 ms an item.
    fn triage() -> Result<Self> {
        Self::open("head-ct-triage", "triage")
    }

    /// 2-D, and small where its images are.
    pub(crate) fn organs() -> Result<Self> {
        Self::open("ct-organs", "organs")
    }

    fn open(module: &str, name: &'static str) -> Result<Self> {
        let package = Package::open(&repository().join("modules").join(module).join("package"));
        let package = package.context("build the module first: cargo xtask guests")?;
        let bytes = package.model(name, 1024)?;
        Ok(Self { package, name, bytes })
    }

    fn engines(workers: &Isolation, slice_ms: u64, engine: EnginePreference) -> Result<Engines> {
        let isolation = workers.clone();
        let config = EngineConfig { isolation, device_slice_ms_max: slice_ms, engine, ..EngineConfig::default() };
        Ok(Engines::discover(&config)?)
    }

    pub(crate) fn load(&self, engines: &Engines, job: &Job) -> Result<LoadedModel> {
        let vendor = &self.package.manifest().vendor;
        let request = Request { vendor, name: self.name, bytes: &self.bytes, target: Device::Cpu, warm_up: None };
        Ok(engines.load(request, &job.call())?)
    }

    /// From the end of a worker by SIGKILL to the next result, with each engine that runs on processors.
    fn restart(&self, workers: &Isolation, rounds: usize, report: &mut Report) -> Result<()> {
        for engine in [EnginePreference::Tract, EnginePreference::OnnxRuntime] {
            if engine == EnginePreference::OnnxRuntime && find_library(None).is_none() {
                report.skip("a killed worker with ONNX Runtime: its library is missing, run `cargo xtask assets`");
                continue;
            }
            let engines = Self::engines(workers, SLICE_MS, engine)?;
            let seconds = self.killed(&engines, rounds.max(1))?;
            let note = format!("median of {rounds}: the process, the engine, the model and one run");
            let name = format!("worker killed → next result, {}", engines.kind());
            report.wanted(&name, median(&seconds), "s", (1.0, None), note);
            let worst = seconds.iter().copied().fold(0.0, f64::max);
            report.wanted("  the worst of them", worst, "s", (1.0, None), "");
        }
        Ok(())
    }

    fn killed(&self, engines: &Engines, rounds: usize) -> Result<Vec<f64>> {
        let job = Job::new(Urgency::Routine, Batch::Whole);
        let model = self.load(engines, &job)?;
        let killed = |_| {
            job.run(&model, 1)?;
            let process = engines.workers().iter().find_map(|worker| worker.process).context("a worker runs")?;
            let process = rustix::process::Pid::from_raw(process.cast_signed()).context("a process")?;
            rustix::process::kill_process(process, rustix::process::Signal::KILL)?;
            let begun = Instant::now();
            job.run(&model, 1)?;
            Ok(begun.elapsed().as_secs_f64())
        };
        (0..rounds).map(killed).collect()
    }

    /// One `compute` of one item at a time, and nothing around it.
    fn urgent(&self, workers: &Isolation, count: usize, report: &mut Report) -> Result<()> {
        let alone = self.computes(workers, count, None)?;
        let ours = self.computes(workers, count, Some(Urgency::Urgent))?;
        // Fewer where each takes seconds: of so few, it is the worst.
        let plain = self.computes(workers, count.min(PLAIN_RUNS), Some(Urgency::Routine))?;
        report.told("urgent compute alone, p99", alone * 1e3, "ms", format!("{count} of one item of head-ct-triage"));
        let most = 1.25 + SLICE_MS as f64 / 1e3 / alone;
        let note =
            format!("{:.0} ms; one slice is {SLICE_MS} ms; batches of {ROUTINE_ITEMS} fill the device", ours * 1e3);
        report.wanted("urgent compute p99, device saturated / alone", ours / alone, "", (most, None), note);
        let note = format!(
            "{:.0} ms, the worst of {}: first in, first out, batches whole",
            plain * 1e3,
            count.min(PLAIN_RUNS)
        );
        report.told("  the same with a plain queue", plain / alone, "", note);
        Ok(())
    }

    /// Of runs of one item each, s: alone, or beside two routine jobs that never pause. Where they are not urgent either, the
    /// queue is first in, first out, and batches are run whole.
    fn computes(&self, workers: &Isolation, count: usize, beside: Option<Urgency>) -> Result<f64> {
        let engines = Self::engines(workers, SLICE_MS, EnginePreference::Auto)?;
        let job = Job::new(beside.unwrap_or(Urgency::Urgent), Batch::Whole);
        let model = self.load(&engines, &job)?;
        job.run(&model, 1)?;
        let batch = if beside == Some(Urgency::Routine) { Batch::Whole } else { Batch::Items };
        let beside = beside.map(|_| batch);
        self.beside_routine_work(&engines, beside, || p99(count, || job.run(&model, 1)))
    }

    /// Does something while two routine jobs never pause, where their batches are to be of a kind.
    fn beside_routine_work<T>(
        &self,
        engines: &Engines,
        batch: Option<Batch>,
        measured: impl FnOnce() -> Result<T>,
    ) -> Result<T> {
        let Some(batch) = batch else { return measured() };
        let over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let saturate = || -> Result<()> {
                let job = Job::new(Urgency::Routine, batch);
                let model = self.load(engines, &job)?;
                while !over.load(Ordering::Relaxed) {
                    job.run(&model, ROUTINE_ITEMS)?;
                }
                Ok(())
            };
            let busy = [scope.spawn(saturate), scope.spawn(saturate)];
            std::thread::sleep(Duration::from_secs(3));
            let measured = measured();
            over.store(true, Ordering::Relaxed);
            for thread in busy {
                thread.join().expect("it does not panic")?;
            }
            measured
        })
    }

    /// Runs of one small image: of many jobs at the same time, and of one that is alone.
    fn batches(&self, workers: &Isolation, rounds: usize, report: &mut Report) -> Result<()> {
        let engines = Self::engines(workers, SLICE_MS, EnginePreference::Auto)?;
        let (mut joined, mut apart) = (Vec::new(), Vec::new());
        // One round that does not count.
        for round in 0..=rounds.max(1) {
            for turn in 0..2 {
                let (batch, seconds) =
                    if (round + turn) % 2 == 0 { (JOIN, &mut joined) } else { (Batch::Items, &mut apart) };
                let took = self.small_runs(&engines, batch, SMALL_JOBS)?;
                if round > 0 {
                    seconds.push(took);
                }
            }
        }
        let per_second = |seconds: &[f64]| (SMALL_JOBS * SMALL_RUNS) as f64 / median(seconds);
        let note = format!(
            "{SMALL_JOBS} jobs, 1 × {SMALL_SIDE} × {SMALL_SIDE} through ct-organs' net: {:.0} and {:.0} runs a second",
            per_second(&joined),
            per_second(&apart)
        );
        report.told("runs as one / each by itself, throughput", ratio(&apart, &joined), "", note);
        let (mut joined, mut apart) = (Vec::new(), Vec::new());
        for round in 0..=rounds.max(1) {
            for turn in 0..2 {
                let (batch, seconds) =
                    if (round + turn) % 2 == 0 { (JOIN, &mut joined) } else { (Batch::Items, &mut apart) };
                let took = self.small_runs(&engines, batch, 1)?;
                if round > 0 {
                    seconds.push(took);
                }
            }
        }
        let each = |seconds: &[f64]| median(seconds) / SMALL_RUNS as f64 * 1e3;
        let note = format!("{:.2} and {:.2} ms a run", each(&joined), each(&apart));
        report.wanted("one job, may be joined / may not", ratio(&joined, &apart), "", (1.05, None), note);
        Ok(())
    }

    /// So many jobs, each with its runs of one image, from the first to the last, s.
    fn small_runs(&self, engines: &Engines, batch: Batch, jobs: usize) -> Result<f64> {
        let ready = Barrier::new(jobs + 1);
        std::thread::scope(|scope| {
            let mut running = Vec::new();
            for _ in 0..jobs {
                running.push(scope.spawn(|| -> Result<()> {
                    let job = Job { side: SMALL_SIDE, ..Job::new(Urgency::Routine, batch) };
                    let loaded = self.load(engines, &job).and_then(|model| {
                        job.run(&model, 1)?;
                        Ok(model)
                    });
                    ready.wait();
                    let model = loaded?;
                    (0..SMALL_RUNS).try_for_each(|_| job.run(&model, 1))
                }));
            }
            ready.wait();
            let begun = Instant::now();
            for thread in running {
                thread.join().expect("it does not panic")?;
            }
            Ok(begun.elapsed().as_secs_f64())
        })
    }
}

/// Whole jobs of `head-ct-triage`, reading the study and judging findings included.
fn urgent_module(places: &Places, workers: &Isolation, count: usize, report: &mut Report) -> Result<()> {
    let study = places.folder.join("head");
    if !study.is_dir() {
        // It is there whole or not at all.
        let partial = tempfile::Builder::new().prefix(".head-").tempdir_in(&places.folder)?;
        gantry_tests::write_head_ct(partial.path(), true)?;
        std::fs::rename(partial.path(), &study)?;
        let _ = partial.keep();
    }
    let net = Net::triage()?;
    let measured = |batch: Option<Batch>, urgency, count| {
        let package = repository().join("modules/head-ct-triage/package");
        let bench = Bench::of(&places.folder, &package, &study, |engines| {
            engines.isolation = workers.clone();
            engines.device_slice_ms_max = SLICE_MS;
        })?;
        let job = || bench.sandboxed_as(urgency).map(drop);
        job()?;
        net.beside_routine_work(bench.engines(), batch, || p99(count, job))
    };
    let alone = measured(None, Urgency::Urgent, count)?;
    let ours = measured(Some(Batch::Items), Urgency::Urgent, count)?;
    let plain = measured(Some(Batch::Whole), Urgency::Routine, count.min(PLAIN_RUNS))?;
    report.told(
        "urgent job alone, p99",
        alone * 1e3,
        "ms",
        format!("{count} of head-ct-triage, 32 slices, one compute"),
    );
    let most = 1.25 + SLICE_MS as f64 / 1e3 / alone;
    let note = format!("{:.0} ms; routine work has the processors as well as the device", ours * 1e3);
    report.wanted("urgent job p99, device saturated / alone", ours / alone, "", (most, None), note);
    let note = format!("{:.0} ms, the worst of {}", plain * 1e3, count.min(PLAIN_RUNS));
    report.told("  the same with a plain queue", plain / alone, "", note);
    Ok(())
}

/// The 99th percentile of so many, s; of less than a hundred it is the worst.
pub(crate) fn p99(count: usize, once: impl Fn() -> Result<()>) -> Result<f64> {
    let times = (0..count.max(1)).map(|_| {
        let begun = Instant::now();
        once()?;
        Ok(begun.elapsed().as_secs_f64())
    });
    Ok(percentile(&times.collect::<Result<Vec<_>>>()?))
}

/// For whom something runs.
pub(crate) struct Job {
    budget: Budget,
    turn: Turn,
    batch: Batch,
    /// Of what a model leaves open, but its batch.
    pub(crate) side: usize,
}

impl Job {
    pub(crate) fn new(urgency: Urgency, batch: Batch) -> Self {
        Self { budget: Budget::unlimited(), turn: Turn::new(urgency), batch, side: 64 }
    }

    pub(crate) fn call(&self) -> Call<'_> {
        Call { budget: &self.budget, deadline: None, turn: &self.turn, batch: self.batch }
    }

    /// Runs a batch of zeros.
    pub(crate) fn run(&self, model: &LoadedModel, items: usize) -> Result<()> {
        let inputs = model.inputs().iter().map(|spec| {
            let size = |(axis, dim): (usize, &Dim)| match dim {
                Dim::Fixed(size) => *size,
                _ if axis == 0 => items,
                _ => self.side,
            };
            let shape = spec.dims.iter().enumerate().map(size).collect();
            Ok((spec.name.clone(), Tensor::zeroed(shape, ElementType::F32, &self.budget)?))
        });
        model.run(inputs.collect::<Result<_>>()?, &self.call())?;
        Ok(())
    }
}
