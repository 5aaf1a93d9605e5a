//! Measured in this process: the sandbox beside native Rust, and the making of an instance.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use gantry::app::App;
use gantry::config::Config;
use gantry::findings::Urgency;
use gantry::inference::{EngineConfig, Engines, Isolation, Turn};
use gantry::module::package::Package;
use gantry::sandbox::grants::Policy;
use gantry::sandbox::{JobInput, Outcome, Prepared};
use gantry::study::Study;

use crate::Places;
use crate::native::{self, Job, Stated};
use crate::report::{Report, median};

const INSTANCES: usize = 2000;
const MIB: f64 = 1048576.0;

/// One study and one component, ready.
pub(crate) struct Bench {
    app: App,
    package: Arc<Package>,
    prepared: Prepared,
    study: Arc<Study>,
    series: usize,
}

/// Measures and reports.
pub(crate) fn measure(places: &Places, rounds: usize, report: &mut Report) -> Result<()> {
    let bench = Bench::ready(places, Isolation::SameProcess)?;
    bench.compare(rounds, report)?;
    bench.instantiate(report)
}

impl Bench {
    pub(crate) fn ready(places: &Places, isolation: Isolation) -> Result<Self> {
        Self::of(&places.folder, &places.package, &places.study, |engines| engines.isolation = isolation)
    }

    /// Any package on any study with a CT.
    pub(crate) fn of(
        folder: &Path,
        package: &Path,
        study: &Path,
        change: impl FnOnce(&mut EngineConfig),
    ) -> Result<Self> {
        let mut config = Config::default();
        change(&mut config.engines);
        config.cache.folder = Some(folder.join("gantry"));
        let app = App::start(config)?;
        let package = Arc::new(Package::open(package)?);
        let policy = Policy::new(&app.config.grants, &[])?;
        let (grants, _) = policy.grant(&package.manifest().needs);
        let prepared = app.sandbox.prepare(package.clone(), grants)?;
        let study = Arc::new(gantry::study::read(&[study.to_owned()], &app.read_options(false))?);
        let series = study.series.iter().position(|s| s.modality == "CT").context("the study has no CT")?;
        Ok(Self { app, package, prepared, study, series })
    }

    pub(crate) fn engines(&self) -> &Engines {
        &self.app.engines
    }

    fn input(&self, turn: Turn) -> JobInput {
        JobInput {
            study: self.study.clone(),
            accepted: vec![self.series],
            upstream: Vec::new(),
            priors: Vec::new(),
            read: self.app.read_options(false),
            engines: self.app.engines.clone(),
            pseudonym_key: self.app.pseudonym_key,
            turn,
        }
    }

    pub(crate) fn sandboxed(&self) -> Result<Outcome> {
        self.sandboxed_as(Urgency::Routine)
    }

    pub(crate) fn sandboxed_as(&self, urgency: Urgency) -> Result<Outcome> {
        Ok(self.prepared.run(self.input(Turn::new(urgency)))?)
    }

    /// On a thread of its own, as a guest is: the C library keeps memory by thread, which shows.
    fn native(&self) -> Result<Stated> {
        let job = Job {
            study: &self.study,
            series: self.series,
            read: &self.app.read_options(false),
            package: &self.package,
            engines: &self.app.engines,
            host_memory_mib: self.app.config.limits.host_memory_mib,
        };
        std::thread::scope(|scope| scope.spawn(|| native::analyze(&job)).join().expect("the native steps do not panic"))
    }

    /// Both in turn, each first as often as the other; after one round that does not count.
    fn compare(&self, rounds: usize, report: &mut Report) -> Result<()> {
        same(&self.sandboxed()?, &self.native()?)?;
        let (mut sandbox, mut native) = (Vec::new(), Vec::new());
        for round in 0..rounds.max(1) {
            for turn in 0..2 {
                let begun = Instant::now();
                if (round + turn) % 2 == 0 {
                    let outcome = self.sandboxed()?;
                    sandbox.push(Sandboxed::of(&outcome, begun.elapsed()));
                } else {
                    let stated = self.native()?;
                    native.push(Took::of(begun.elapsed(), stated.model.usage().compute));
                }
            }
        }
        let all = |f: fn(&Took) -> f64| -> [Vec<f64>; 2] {
            [sandbox.iter().map(|s| f(&s.took)).collect(), native.iter().map(f).collect()]
        };
        let [a, b] = all(|t| t.all);
        let note = format!("{rounds} in turn, median of ratios; medians {:.3} s and {:.3} s", median(&a), median(&b));
        report.wanted("ct-organs, sandbox / native Rust", ratio(&a, &b), "", (1.05, Some(1.02)), note);
        let (fast_a, fast_b) = (fastest(&a), fastest(&b));
        let note = format!("{fast_a:.3} s and {fast_b:.3} s: what a busy machine disturbs least");
        report.told("  the fastest of each", fast_a / fast_b, "", note);
        let [a, b] = all(|t| t.beside_network);
        let note = format!("median of ratios; medians {:.3} s and {:.3} s", median(&a), median(&b));
        report.told("  without the network", ratio(&a, &b), "", note);
        let each = |f: fn(&Sandboxed) -> f64| median(&sandbox.iter().map(f).collect::<Vec<_>>());
        report.told("  reading, hashing and decoding", each(|s| s.decoding) * 1e3, "ms", "in the sandboxed runs");
        report.told("  loading the model", each(|s| s.loading) * 1e3, "ms", "the engine runs already");
        report.told("  voxels and tensors at most", each(|s| s.peak_mib), "MiB", "charged to the job's budget");
        Ok(())
    }

    fn instantiate(&self, report: &mut Report) -> Result<()> {
        let mut microseconds = Vec::with_capacity(INSTANCES);
        for _ in 0..INSTANCES {
            let input = self.input(Turn::default());
            let begun = Instant::now();
            self.prepared.instantiate(input).map_err(|e| anyhow::anyhow!("{e:#}"))?;
            microseconds.push(begun.elapsed().as_secs_f64() * 1e6);
        }
        let note = format!("store and instance made and dropped, median of {INSTANCES}");
        report.wanted("instantiating a cached component", median(&microseconds), "µs", (20.0, None), note);
        Ok(())
    }
}

/// How long one run took, s.
struct Took {
    all: f64,
    beside_network: f64,
}

impl Took {
    fn of(all: Duration, network: Duration) -> Self {
        Self { all: all.as_secs_f64(), beside_network: all.saturating_sub(network).as_secs_f64() }
    }
}

/// What one run in the sandbox took.
struct Sandboxed {
    took: Took,
    decoding: f64,
    loading: f64,
    peak_mib: f64,
}

impl Sandboxed {
    fn of(outcome: &Outcome, all: Duration) -> Self {
        Self {
            took: Took::of(all, outcome.models.iter().map(|m| m.usage().compute).sum()),
            decoding: outcome.input.decoding.as_secs_f64(),
            loading: outcome.models.iter().map(|m| m.load_time().as_secs_f64()).sum(),
            peak_mib: outcome.host_memory_peak as f64 / MIB,
        }
    }
}

/// The middle one of the ratios of each round.
pub(crate) fn ratio(a: &[f64], b: &[f64]) -> f64 {
    median(&a.iter().zip(b).map(|(a, b)| a / b).collect::<Vec<_>>())
}

fn fastest(values: &[f64]) -> f64 {
    values.iter().copied().fold(f64::INFINITY, f64::min)
}

/// Only the same work can be compared.
fn same(sandboxed: &Outcome, native: &Stated) -> Result<()> {
    let measured: Vec<f64> = sandboxed.findings.measurements.iter().map(|m| m.value).collect();
    let both = (&measured, &native.millilitres);
    ensure!(measured == native.millilitres, "the sandbox and native Rust measure different volumes: {both:?}");
    let labels = &sandboxed.findings.segmentation.as_ref().context("the module states a segmentation")?.labels;
    let [x, y, z] = labels.geometry().size();
    let (mut a, mut b) = (vec![0; x * y], vec![0; x * y]);
    for slice in 0..z {
        labels.label_slice(slice, &mut a)?;
        native.labels.label_slice(slice, &mut b)?;
        ensure!(a == b, "the sandbox and native Rust label slice {slice} differently");
    }
    Ok(())
}
