//! What the processes around engines cost, and what the queue of a device gives to urgent work.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use gantry::findings::Urgency;
use gantry::inference::{Batch, Call, Device, Dim, EngineConfig, Engines, Isolation, LoadedModel, Request, Turn};
use gantry::memory::Budget;
use gantry::module::package::Package;
use gantry::tensor::{ElementType, Tensor};
use gantry::worker::Program;
use gantry_tests::repository;

use crate::inside::{Bench, ratio};
use crate::report::{Report, median};
use crate::{Built, Places};

/// A routine run may hold the device so long, ms.
const SLICE_MS: u64 = 150;
/// Items of a routine batch: about a second of the device.
const ROUTINE_ITEMS: usize = 16;

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
    pub(crate) built: Built,
}

/// Measures and reports.
pub(crate) fn measure(places: &Places, options: &Options, report: &mut Report) -> Result<()> {
    let workers = Isolation::Program(Program { file: places.gantry.clone(), arguments: vec!["worker".into()] });
    boundary(places, &workers, options.rounds, report)?;
    let triage = Triage::open()?;
    triage.restart(&workers, options.rounds, report)?;
    triage.urgent(&workers, options.urgent, report)
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

/// The network of `head-ct-triage`, which takes batches.
struct Triage {
    package: Package,
    bytes: Vec<u8>,
}

impl Triage {
    fn open() -> Result<Self> {
        let package = Package::open(&repository().join("modules/head-ct-triage/package"));
        let package = package.context("build the module first: cargo xtask guests")?;
        let bytes = package.model("triage", 1024)?;
        Ok(Self { package, bytes })
    }

    fn engines(workers: &Isolation, slice_ms: u64) -> Result<Engines> {
        let isolation = workers.clone();
        Ok(Engines::discover(&EngineConfig { isolation, device_slice_ms_max: slice_ms, ..EngineConfig::default() })?)
    }

    fn load(&self, engines: &Engines, job: &Job) -> Result<LoadedModel> {
        let vendor = &self.package.manifest().vendor;
        let request = Request { vendor, name: "triage", bytes: &self.bytes, target: Device::Cpu, warm_up: None };
        Ok(engines.load(request, &job.call())?)
    }

    /// From the end of a worker by SIGKILL to the next result.
    fn restart(&self, workers: &Isolation, rounds: usize, report: &mut Report) -> Result<()> {
        let engines = Self::engines(workers, SLICE_MS)?;
        let job = Job::new(Urgency::Routine, Batch::Whole);
        let model = self.load(&engines, &job)?;
        let mut seconds = Vec::new();
        for _ in 0..rounds.max(1) {
            job.run(&model, 1)?;
            let process = engines.workers().iter().find_map(|worker| worker.process).context("a worker runs")?;
            let process = rustix::process::Pid::from_raw(process.cast_signed()).context("a process")?;
            rustix::process::kill_process(process, rustix::process::Signal::KILL)?;
            let begun = Instant::now();
            job.run(&model, 1)?;
            seconds.push(begun.elapsed().as_secs_f64());
        }
        let note = format!("median of {rounds}: the process, the engine, the model and one run");
        report.wanted("worker killed → next result", median(&seconds), "s", (1.0, None), note);
        Ok(())
    }

    fn urgent(&self, workers: &Isolation, count: usize, report: &mut Report) -> Result<()> {
        let alone = self.percentile(workers, count, None)?;
        let ours = self.percentile(workers, count, Some(Urgency::Urgent))?;
        let plain = self.percentile(workers, count, Some(Urgency::Routine))?;
        report.told("urgent run alone, p99", alone * 1e3, "ms", format!("{count} runs"));
        let most = 1.25 + SLICE_MS as f64 / 1e3 / alone;
        let note =
            format!("{:.0} ms; one slice is {SLICE_MS} ms; batches of {ROUTINE_ITEMS} fill the device", ours * 1e3);
        report.wanted("urgent p99, device saturated / alone", ours / alone, "", (most, None), note);
        let note = format!("{:.0} ms: first in, first out, batches whole", plain * 1e3);
        report.told("  the same with a plain queue", plain / alone, "", note);
        Ok(())
    }

    /// Of runs of one item each, s: alone, or beside two routine jobs that never pause. Where they are not urgent either, the
    /// queue is first in, first out, and batches are run whole.
    fn percentile(&self, workers: &Isolation, count: usize, beside: Option<Urgency>) -> Result<f64> {
        let plain = beside == Some(Urgency::Routine);
        let engines = Self::engines(workers, SLICE_MS)?;
        let job = Job::new(beside.unwrap_or(Urgency::Urgent), Batch::Whole);
        let model = self.load(&engines, &job)?;
        job.run(&model, 1)?;
        let over = AtomicBool::new(beside.is_none());
        std::thread::scope(|scope| {
            let saturate = || -> Result<()> {
                let job = Job::new(Urgency::Routine, if plain { Batch::Whole } else { Batch::Items });
                let model = self.load(&engines, &job)?;
                while !over.load(Ordering::Relaxed) {
                    job.run(&model, ROUTINE_ITEMS)?;
                }
                Ok(())
            };
            let busy = [scope.spawn(saturate), scope.spawn(saturate)];
            if beside.is_some() {
                std::thread::sleep(Duration::from_secs(3));
            }
            // Fewer where each takes seconds.
            let count = if plain { count.min(20) } else { count };
            let times: Result<Vec<f64>> = (0..count)
                .map(|_| {
                    let begun = Instant::now();
                    job.run(&model, 1)?;
                    Ok(begun.elapsed().as_secs_f64())
                })
                .collect();
            over.store(true, Ordering::Relaxed);
            for thread in busy {
                thread.join().expect("it does not panic")?;
            }
            let mut times = times?;
            times.sort_by(f64::total_cmp);
            Ok(times[(times.len() * 99).div_ceil(100) - 1])
        })
    }
}

struct Job {
    budget: Budget,
    turn: Turn,
    batch: Batch,
}

impl Job {
    fn new(urgency: Urgency, batch: Batch) -> Self {
        Self { budget: Budget::unlimited(), turn: Turn::new(urgency), batch }
    }

    fn call(&self) -> Call<'_> {
        Call { budget: &self.budget, deadline: None, turn: &self.turn, batch: self.batch }
    }

    /// Runs a batch of zeros.
    fn run(&self, model: &LoadedModel, items: usize) -> Result<()> {
        let inputs = model.inputs().iter().map(|spec| {
            let size = |(axis, dim): (usize, &Dim)| match dim {
                Dim::Fixed(size) => *size,
                _ if axis == 0 => items,
                _ => 64,
            };
            let shape = spec.dims.iter().enumerate().map(size).collect();
            Ok((spec.name.clone(), Tensor::zeroed(shape, ElementType::F32, &self.budget)?))
        });
        model.run(inputs.collect::<Result<_>>()?, &self.call())?;
        Ok(())
    }
}
