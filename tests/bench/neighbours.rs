//! What a well-behaved module feels of those that misbehave beside it, in one node.
//!
//! ```text
//! alone ─ beside ─ alone ─ beside ─ …      for each that misbehaves; as many jobs or runs each time
//! ```
//!
//! In turn, so that what drifts (a machine that grows warm, a disk that fills) is in both. Who misbehaves does so again and again on a
//! thread of its own. Where there are two processors, the neighbour has one and who misbehaves the other, with the threads and
//! workers that each starts: what is left is what a node itself makes them share (queues of devices, locks, memory), and not
//! what a scheduler gives to as many threads as a site lets run at once.
//! `--shared-processors` leaves that to the scheduler too, and `--on-disk` has studies and results where all jobs wait for one
//! journal of a file system.
//!
//! How much the neighbour's own times differ is told beside that: what it took alone in every second round, over what it took alone
//! in the others. Nobody can be blamed for less.

use std::path::Path;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use anyhow::{Context, Result};
use gantry::findings::Urgency;
use gantry::inference::{
    Batch, Device, EngineConfig, EnginePreference, Engines, Isolation, LoadedModel, Request, find_library,
};
use gantry::threads::Threads;
use gantry::worker::Program;
use gantry_tests::onnx::{right_model, wrong_models};
use gantry_tests::{Scenario, guests, repository};

use crate::processor::{self, Pinned};
use crate::report::{Report, median, percentile};
use crate::workers::{Job, Net};

/// What the 99th percentile may grow to.
const TARGET: f64 = 1.1;
/// Alone, and beside somebody; even, so that its halves are alike.
const ROUNDS: usize = 6;
/// Jobs or runs at the beginning of a round that do not count: after a pause, which is longer where a misdeed had to come to its end,
/// caches are cold and processors asleep.
const SETTLING: usize = 5;
/// Those that stand in the note.
const NAMED: usize = 5;

/// How much to measure.
#[derive(Debug, clap::Args)]
#[group(skip)]
pub(crate) struct Options {
    /// Jobs or runs alone and as many beside each that misbehaves; the 99th percentile counts.
    #[arg(long, default_value_t = 200)]
    beside: usize,
    /// Leave processors to the scheduler: a neighbour has none to itself.
    #[arg(long)]
    shared_processors: bool,
    /// Studies and results on the disk, which all jobs of a machine share, not in memory.
    #[arg(long)]
    on_disk: bool,
    /// Beside those alone that have this in their name.
    #[arg(long, value_name = "NAME")]
    neighbour: Option<String>,
}

/// Measures and reports.
pub(crate) fn measure(workers: &Isolation, gantry: &Path, options: &Options, report: &mut Report) -> Result<()> {
    if options.beside == 0 {
        return Ok(());
    }
    let memory = Path::new("/dev/shm");
    if !options.on_disk && memory.is_dir() {
        // Fails where somebody chose before.
        let _ = tempfile::env::override_temp_dir(memory);
    }
    let place = Place::of(options)?;
    beside_components(workers, &place, report)?;
    beside_models(workers, &place, report)?;
    beside_engines(gantry, &place, report)
}

/// Where the neighbour and who misbehaves run, and how much is measured.
struct Place {
    /// Jobs or runs of a round.
    each: usize,
    /// Of those alone.
    only: Option<String>,
    /// A processor for each, where there are two.
    processors: Option<(usize, usize)>,
}

impl Place {
    fn of(options: &Options) -> Result<Self> {
        let processors = match *processor::first(2)? {
            [own, other] if !options.shared_processors => Some((own, other)),
            _ => None,
        };
        Ok(Self { each: options.beside.div_ceil(ROUNDS), only: options.neighbour.clone(), processors })
    }

    /// Puts the calling thread on the neighbour's processor.
    fn own(&self) -> Result<Option<Pinned>> {
        self.processors.map(|(own, _)| processor::pin(own)).transpose()
    }

    /// Puts it on the other's.
    fn other(&self) -> Result<Option<Pinned>> {
        self.processors.map(|(_, other)| processor::pin(other)).transpose()
    }
}

/// A whole job of the guest `well-behaved`, from files to files, beside each guest of the table.
fn beside_components(workers: &Isolation, place: &Place, report: &mut Report) -> Result<()> {
    if !repository().join("target/guests/rogue/well-behaved.wasm").is_file() {
        report.skip("jobs beside components that misbehave: they are missing, run `cargo xtask guests`");
        return Ok(());
    }
    let mut neighbour = Scenario::rogue("well-behaved").context("it is there")?;
    neighbour.config.limits.guest_memory_mib = 4096;
    neighbour.config.engines.isolation = workers.clone();
    let app = neighbour.app();
    let neighbour = &neighbour;
    let once = || Ok(neighbour.run_in(&app, &|_| {}).map(drop)?);
    // What all jobs of a node share is started where it may run anywhere.
    once()?;
    let _own = place.own()?;
    // As a node has them: for each job that runs at once, started where that runs.
    let stack = gantry::sandbox::stack_bytes(&neighbour.config.limits);
    let threads = Threads::start("gantry-compute", Some(stack))?;
    let once = || threads.run(once);
    let theirs = OnceLock::new();
    let theirs = |job: &(dyn Fn() + Sync)| match theirs.get_or_init(|| Threads::start("gantry-compute", Some(stack))) {
        Ok(threads) => threads.run(job),
        Err(e) => eprintln!("no threads for who misbehaves: {e}"),
    };
    // What two jobs at once feel of each other anyway.
    let mut beside = Beside::new("a job beside one that behaves", place, &once)?;
    let other = Scenario::rogue("well-behaved").context("it is there")?;
    beside.each("well-behaved", || theirs(&|| drop(other.run_in(&app, &|_| {}))))?;
    beside.tell(report);
    let mut beside = Beside::new("a job beside components that misbehave", place, &once)?;
    for guest in guests::all() {
        let Some(scenario) = guest.scenario() else { continue };
        // How it must end is what tests look at.
        beside
            .each(&format!("{} {}", guest.name, guest.misdeed), || theirs(&|| drop(scenario.run_in(&app, &|_| {}))))?;
    }
    beside.tell(report);
    Ok(())
}

/// A run of a small network of another vendor beside each model that is wrong, with each engine.
fn beside_models(workers: &Isolation, place: &Place, report: &mut Report) -> Result<()> {
    for engine in [EnginePreference::Tract, EnginePreference::OnnxRuntime] {
        if engine == EnginePreference::OnnxRuntime && find_library(None).is_none() {
            report.skip("models beside wrong ones with ONNX Runtime: its library is missing");
            continue;
        }
        let engines = engines(workers.clone(), engine)?;
        let (net, job) = (Net::organs()?, Job::new(Urgency::Routine, Batch::Whole));
        // Before its worker is started, which stays with it.
        let _own = place.own()?;
        let model = net.load(&engines, &job)?;
        let once = || job.run(&model, 1);
        let mut beside = Beside::new(&format!("a model beside wrong ones, {}", engines.kind()), place, &once)?;
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
fn beside_engines(gantry: &Path, place: &Place, report: &mut Report) -> Result<()> {
    let faulty = gantry.with_file_name("faulty-worker");
    if !faulty.is_file() {
        report.skip(format!("a model beside engines that misbehave: {} is missing", faulty.display()));
        return Ok(());
    }
    let program = |file: &Path, arguments| Isolation::Program(Program { file: file.to_owned(), arguments });
    let real = engines(program(gantry, vec!["worker".into()]), EnginePreference::Auto)?;
    let bad = engines(program(&faulty, Vec::new()), EnginePreference::Tract)?;
    let (net, job) = (Net::organs()?, Job::new(Urgency::Routine, Batch::Whole));
    let _own = place.own()?;
    let model = net.load(&real, &job)?;
    let once = || job.run(&model, 1);
    let mut beside = Beside::new("a model beside engines that misbehave", place, &once)?;
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
    place: &'a Place,
    once: &'a dyn Fn() -> Result<()>,
    /// All together.
    all: Times,
    told: Vec<Told>,
}

/// Of one neighbour beside one that misbehaves, or of all, s.
#[derive(Default)]
struct Times {
    /// Of every second round, and of the others.
    alone: [Vec<f64>; 2],
    beside: Vec<f64>,
}

/// What came of one.
struct Told {
    who: String,
    /// 99th percentile beside it over that alone.
    ratio: f64,
    noise: f64,
}

impl Times {
    fn ratio(&self) -> f64 {
        percentile(&self.beside) / percentile(&self.alone.concat())
    }

    /// 99th percentiles of the halves of what was measured alone, the larger over the smaller.
    fn noise(&self) -> f64 {
        let [one, other] = self.alone.each_ref().map(|times| percentile(times));
        one.max(other) / one.min(other)
    }

    fn add(&mut self, more: Self) {
        self.alone.iter_mut().zip(more.alone).for_each(|(all, more)| all.extend(more));
        self.beside.extend(more.beside);
    }
}

impl<'a> Beside<'a> {
    fn new(name: &str, place: &'a Place, once: &'a dyn Fn() -> Result<()>) -> Result<Self> {
        let new = Self { name: name.to_owned(), place, once, all: Times::default(), told: Vec::new() };
        // Some that do not count.
        new.times()?;
        Ok(new)
    }

    /// Of one round.
    fn times(&self) -> Result<Vec<f64>> {
        let timed = |_| {
            let begun = Instant::now();
            (self.once)()?;
            Ok(begun.elapsed().as_secs_f64())
        };
        (0..SETTLING).try_for_each(|_| (self.once)())?;
        (0..self.place.each).map(timed).collect()
    }

    /// Of one round, from when somebody misbehaves; and how often that was.
    fn times_beside(&self, misbehave: &(impl Fn() + Sync)) -> Result<(Vec<f64>, usize)> {
        let (over, begun) = (AtomicBool::new(false), AtomicBool::new(false));
        std::thread::scope(|scope| {
            let misbehaving = scope.spawn(|| {
                let pinned = self.place.other();
                let mut times = 0;
                while !over.load(Ordering::Relaxed) {
                    begun.store(true, Ordering::Relaxed);
                    misbehave();
                    times += 1;
                }
                pinned.map(|_| times)
            });
            while !begun.load(Ordering::Relaxed) {
                std::thread::yield_now();
            }
            let times = self.times();
            over.store(true, Ordering::Relaxed);
            let misdeeds = misbehaving.join().expect("it does not panic")?;
            Ok((times?, misdeeds))
        })
    }

    /// Alone and beside one that misbehaves, in turn.
    fn each(&mut self, who: &str, misbehave: impl Fn() + Sync) -> Result<()> {
        if self.place.only.as_ref().is_some_and(|only| !who.contains(only)) {
            return Ok(());
        }
        let (mut times, mut misdeeds) = (Times::default(), 0);
        for round in 0..ROUNDS {
            times.alone[round % 2].extend(self.times()?);
            let (beside, more) = self.times_beside(&misbehave)?;
            times.beside.extend(beside);
            misdeeds += more;
        }
        let (ratio, noise) = (times.ratio(), times.noise());
        let [beside, alone] = [times.beside.clone(), times.alone.concat()].map(|times| percentile(&times) * 1e3);
        eprintln!(
            "  beside {who} ({misdeeds} times): {beside:.3} ms, alone {alone:.3} ms, {ratio:.2}; noise {noise:.2}"
        );
        self.told.push(Told { who: who.to_owned(), ratio, noise });
        self.all.add(times);
        Ok(())
    }

    fn tell(mut self, report: &mut Report) {
        if self.told.is_empty() {
            return;
        }
        self.told.sort_by(|a, b| b.ratio.total_cmp(&a.ratio));
        let worst = self.told.first().map_or(f64::NAN, |told| told.ratio);
        let named =
            self.told.iter().take(NAMED).map(|Told { who, ratio, noise }| format!("{who} {ratio:.2} ({noise:.2})"));
        let count = |is: &dyn Fn(&Told) -> bool| self.told.iter().filter(|told| is(told)).count();
        let (within, quiet) = (count(&|told| told.ratio <= TARGET), count(&|told| told.ratio <= TARGET * told.noise));
        let note = format!(
            "p99 of {} beside each of {}, over that of as many alone, in turn, {}; {within} within {TARGET}, {quiet} within {TARGET} \
             times what they differ alone; {}",
            self.place.each * ROUNDS,
            self.told.len(),
            if self.place.processors.is_some() { "a processor for each" } else { "processors shared" },
            named.collect::<Vec<_>>().join(", ")
        );
        report.wanted(&format!("{}, the worst", self.name), worst, "", (TARGET, None), note);
        let [beside, alone] = [self.all.beside.clone(), self.all.alone.concat()].map(|times| percentile(&times));
        let note = format!("p99 of all together: {:.2} and {:.2} ms", beside * 1e3, alone * 1e3);
        report.wanted("  all together", self.all.ratio(), "", (TARGET, None), note);
        let noises: Vec<f64> = self.told.iter().map(|told| told.noise).collect();
        let most = noises.iter().copied().fold(0.0, f64::max);
        let note = format!("p99 of halves of all alone; of each: median {:.2}, the worst {most:.2}", median(&noises));
        report.told("  alone / alone", self.all.noise(), "", note);
    }
}
