//! What a well-behaved module feels of those that misbehave beside it.
//!
//! Each that misbehaves does so again and again on a thread of its own, while the neighbour has its turns; before and after, the
//! neighbour is alone. How much two of its times alone differ is told too: nobody can be blamed for less.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use anyhow::{Context, Result};
use gantry::findings::Urgency;
use gantry::inference::{
    Batch, Device, EngineConfig, EnginePreference, Engines, Isolation, LoadedModel, Request, find_library,
};
use gantry::worker::Program;
use gantry_tests::onnx::{right_model, wrong_models};
use gantry_tests::{Scenario, guests, repository};

use crate::report::{Report, median};
use crate::workers::{Job, Net, percentile};

/// What the 99th percentile may grow to.
const TARGET: f64 = 1.1;
/// Those that stand in the note.
const NAMED: usize = 5;

/// Measures and reports, with so many jobs or runs beside each.
pub(crate) fn measure(workers: &Isolation, gantry: &Path, count: usize, report: &mut Report) -> Result<()> {
    if count == 0 {
        return Ok(());
    }
    beside_components(workers, count, report)?;
    beside_models(workers, count, report)?;
    beside_engines(gantry, count, report)
}

/// A whole job of the guest `well-behaved`, from files to files, beside each guest of the table.
fn beside_components(workers: &Isolation, count: usize, report: &mut Report) -> Result<()> {
    if !repository().join("target/guests/rogue/well-behaved.wasm").is_file() {
        report.skip("jobs beside components that misbehave: they are missing, run `cargo xtask guests`");
        return Ok(());
    }
    let mut neighbour = Scenario::rogue("well-behaved").context("it is there")?;
    neighbour.config.limits.guest_memory_mib = 4096;
    neighbour.config.engines.isolation = workers.clone();
    let app = neighbour.app();
    let once = || Ok(neighbour.run_in(&app, &|_| {}).map(drop)?);
    let mut beside = Beside::new("a job beside components that misbehave", count, &once)?;
    for guest in guests::all() {
        let Some(scenario) = guest.scenario() else { continue };
        beside.each(&format!("{} {}", guest.name, guest.misdeed), || {
            // How it must end is what tests look at.
            let _ = scenario.run_in(&app, &|_| {});
        })?;
    }
    beside.tell(report);
    Ok(())
}

/// A run of a small network of another vendor beside each model that is wrong, with each engine.
fn beside_models(workers: &Isolation, count: usize, report: &mut Report) -> Result<()> {
    for engine in [EnginePreference::Tract, EnginePreference::OnnxRuntime] {
        if engine == EnginePreference::OnnxRuntime && find_library(None).is_none() {
            report.skip("models beside wrong ones with ONNX Runtime: its library is missing");
            continue;
        }
        let engines = engines(workers.clone(), engine)?;
        let (net, job) = (Net::organs()?, Job::new(Urgency::Routine, Batch::Whole));
        let model = net.load(&engines, &job)?;
        let once = || job.run(&model, 1);
        let mut beside = Beside::new(&format!("a model beside wrong ones, {}", engines.kind()), count, &once)?;
        for wrong in wrong_models() {
            beside.each(wrong.name, || {
                let _ = load(&engines, wrong.name, &wrong.bytes).map(|model| job.run(&model, 1));
            })?;
        }
        beside.tell(report);
    }
    Ok(())
}

/// The same beside engines that misbehave: those have workers of another program.
fn beside_engines(gantry: &Path, count: usize, report: &mut Report) -> Result<()> {
    let faulty = gantry.with_file_name("faulty-worker");
    if !faulty.is_file() {
        report.skip(format!("a model beside engines that misbehave: {} is missing", faulty.display()));
        return Ok(());
    }
    let program = |file: &Path, arguments| Isolation::Program(Program { file: file.to_owned(), arguments });
    let real = engines(program(gantry, vec!["worker".into()]), EnginePreference::Auto)?;
    let bad = engines(program(&faulty, Vec::new()), EnginePreference::Tract)?;
    let (net, job) = (Net::organs()?, Job::new(Urgency::Routine, Batch::Whole));
    let model = net.load(&real, &job)?;
    let once = || job.run(&model, 1);
    let mut beside = Beside::new("a model beside engines that misbehave", count, &once)?;
    for name in ["abort", "load-abort", "exit", "panic", "hang", "spin", "recurse", "allocate", "threads", "flood"] {
        // A model of any bytes that are right: the engine goes by its name.
        beside.each(name, || {
            let _ = load(&bad, name, &right_model()).map(|model| job.run(&model, 1));
        })?;
    }
    beside.tell(report);
    Ok(())
}

/// One thread a run, and one run for each of two at once.
fn engines(isolation: Isolation, engine: EnginePreference) -> Result<Engines> {
    let config = EngineConfig {
        engine,
        isolation,
        intra_threads: 1,
        runs_at_once_max: 2,
        worker_memory_mib: 700,
        load_deadline_ms: 2000,
        compute_deadline_ms: 2000,
        model_failures_max: 1000,
        ..EngineConfig::default()
    };
    Ok(Engines::discover(&config)?)
}

/// For somebody else.
fn load(engines: &Engines, name: &str, bytes: &[u8]) -> Result<LoadedModel> {
    let job = Job::new(Urgency::Routine, Batch::Whole);
    let request = Request { vendor: "misbehaving", name, bytes, target: Device::Cpu, warm_up: None };
    Ok(engines.load(request, &job.call())?)
}

/// Times of a neighbour.
struct Beside<'a> {
    name: String,
    count: usize,
    once: &'a dyn Fn() -> Result<()>,
    /// Of the last time it was alone, s.
    alone: Vec<f64>,
    /// All times alone, and all beside somebody, s.
    all: [Vec<f64>; 2],
    /// Of the 99th percentiles: who, and beside it over alone.
    ratios: Vec<(String, f64)>,
    /// Alone, over the time before.
    noise: Vec<f64>,
}

impl<'a> Beside<'a> {
    fn new(name: &str, count: usize, once: &'a dyn Fn() -> Result<()>) -> Result<Self> {
        let (all, ratios, noise) = Default::default();
        let mut new = Self { name: name.to_owned(), count, once, alone: Vec::new(), all, ratios, noise };
        new.times()?;
        new.alone = new.times()?;
        Ok(new)
    }

    fn times(&self) -> Result<Vec<f64>> {
        let timed = |_| {
            let begun = Instant::now();
            (self.once)()?;
            Ok(begun.elapsed().as_secs_f64())
        };
        (0..self.count).map(timed).collect()
    }

    /// Beside one that misbehaves, and alone again.
    fn each(&mut self, who: &str, misbehave: impl Fn() + Sync) -> Result<()> {
        let over = AtomicBool::new(false);
        let beside = std::thread::scope(|scope| {
            scope.spawn(|| {
                while !over.load(Ordering::Relaxed) {
                    misbehave();
                }
            });
            let times = self.times();
            over.store(true, Ordering::Relaxed);
            times
        })?;
        let after = self.times()?;
        let [before_p99, beside_p99, after_p99] = [&self.alone, &beside, &after].map(|times| percentile(times.clone()));
        // As long alone as beside: before and after.
        let alone = percentile([&self.alone[..], &after].concat());
        eprintln!("  beside {who}: {:.3} ms, alone {:.3} ms", beside_p99 * 1e3, alone * 1e3);
        self.ratios.push((who.to_owned(), beside_p99 / alone));
        self.noise.push(after_p99 / before_p99);
        self.all[0].extend(&after);
        self.all[1].extend(&beside);
        self.alone = after;
        Ok(())
    }

    fn tell(mut self, report: &mut Report) {
        self.ratios.sort_by(|a, b| b.1.total_cmp(&a.1));
        let worst = self.ratios.first().map_or(f64::NAN, |(_, ratio)| *ratio);
        let named = self.ratios.iter().take(NAMED).map(|(who, ratio)| format!("{who} {ratio:.2}"));
        let within = self.ratios.iter().filter(|(_, ratio)| *ratio <= TARGET).count();
        let note = format!(
            "p99 of {} beside each of {}, over that alone; {within} within {TARGET}; {}",
            self.count,
            self.ratios.len(),
            named.collect::<Vec<_>>().join(", ")
        );
        report.wanted(&format!("{}, the worst", self.name), worst, "", (TARGET, None), note);
        let [alone, beside] = self.all.map(percentile);
        let note = format!("p99 of all together: {:.2} and {:.2} ms", beside * 1e3, alone * 1e3);
        report.wanted("  all together", beside / alone, "", (TARGET, None), note);
        let most = self.noise.iter().copied().fold(0.0, f64::max);
        let note = format!("p99 over that of the time before; median {:.2}", median(&self.noise));
        report.told("  alone / alone, the worst", most, "", note);
    }
}
