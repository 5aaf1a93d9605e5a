//! Measured in this process: the sandbox beside native Rust, and the making of an instance.

use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use gantry::app::App;
use gantry::config::Config;
use gantry::module::package::Package;
use gantry::sandbox::grants::Policy;
use gantry::sandbox::{CancelToken, JobInput, Outcome, Prepared};
use gantry::study::Study;

use crate::Places;
use crate::native::{self, Job, Stated};
use crate::report::{Report, median};

const INSTANCES: usize = 2000;
const MIB: f64 = 1048576.0;

/// One study and one component, ready.
struct Bench {
    app: App,
    package: Arc<Package>,
    prepared: Prepared,
    study: Arc<Study>,
    series: usize,
}

/// Measures and reports.
pub(crate) fn measure(places: &Places, rounds: usize, report: &mut Report) -> Result<()> {
    let bench = Bench::ready(places)?;
    bench.compare(rounds, report)?;
    bench.instantiate(report)
}

impl Bench {
    fn ready(places: &Places) -> Result<Self> {
        let mut config = Config::default();
        config.cache.folder = Some(places.folder.join("gantry"));
        let app = App::start(config)?;
        let package = Arc::new(Package::open(&places.package)?);
        let policy = Policy::new(&app.config.grants, &[])?;
        let (grants, _) = policy.grant(&package.manifest().needs);
        let prepared = app.sandbox.prepare(package.clone(), grants)?;
        let study = Arc::new(gantry::study::read(std::slice::from_ref(&places.study), &app.read_options(false))?);
        let series = study.series.iter().position(|s| s.modality == "CT").context("the study has no CT")?;
        Ok(Self { app, package, prepared, study, series })
    }

    fn input(&self) -> JobInput {
        JobInput {
            study: self.study.clone(),
            accepted: vec![self.series],
            read: self.app.read_options(false),
            engines: self.app.engines.clone(),
            pseudonym_key: self.app.pseudonym_key,
            cancel: CancelToken::default(),
        }
    }

    fn sandboxed(&self) -> Result<Outcome> {
        Ok(self.prepared.run(self.input())?)
    }

    fn native(&self) -> Result<Stated> {
        native::analyze(&Job {
            study: &self.study,
            series: self.series,
            read: &self.app.read_options(false),
            package: &self.package,
            engines: &self.app.engines,
            host_memory_mib: self.app.config.limits.host_memory_mib,
        })
    }

    /// Both in turn, each first as often as the other; after one round that does not count.
    fn compare(&self, rounds: usize, report: &mut Report) -> Result<()> {
        same(&self.sandboxed()?, &self.native()?)?;
        let (mut sandbox, mut native) = (Vec::new(), Vec::new());
        let (mut beside_sandbox, mut beside_native) = (Vec::new(), Vec::new());
        let mut peak = 0u64;
        for round in 0..rounds.max(1) {
            for turn in 0..2 {
                let begun = Instant::now();
                if (round + turn) % 2 == 0 {
                    let outcome = self.sandboxed()?;
                    let took = begun.elapsed().as_secs_f64();
                    sandbox.push(took);
                    beside_sandbox
                        .push(took - outcome.models.iter().map(|m| m.usage().compute.as_secs_f64()).sum::<f64>());
                    peak = peak.max(outcome.host_memory_peak);
                } else {
                    let stated = self.native()?;
                    let took = begun.elapsed().as_secs_f64();
                    native.push(took);
                    beside_native.push(took - stated.model.usage().compute.as_secs_f64());
                }
            }
        }
        let (sandbox, native) = (median(&sandbox), median(&native));
        let (beside_sandbox, beside_native) = (median(&beside_sandbox), median(&beside_native));
        let note = format!("medians of {rounds} in turn: {sandbox:.3} s and {native:.3} s");
        report.wanted("ct-organs, sandbox / native Rust", sandbox / native, "", (1.05, Some(1.02)), note);
        let note = format!("medians: {beside_sandbox:.3} s and {beside_native:.3} s");
        report.told("  the same without the network", beside_sandbox / beside_native, "", note);
        report.told("  voxels and tensors at most", peak as f64 / MIB, "MiB", "charged to the job's budget");
        Ok(())
    }

    fn instantiate(&self, report: &mut Report) -> Result<()> {
        let mut microseconds = Vec::with_capacity(INSTANCES);
        for _ in 0..INSTANCES {
            let input = self.input();
            let begun = Instant::now();
            self.prepared.instantiate(input).map_err(|e| anyhow::anyhow!("{e:#}"))?;
            microseconds.push(begun.elapsed().as_secs_f64() * 1e6);
        }
        let note = format!("store and instance made and dropped, median of {INSTANCES}");
        report.wanted("instantiating a cached component", median(&microseconds), "µs", (20.0, None), note);
        Ok(())
    }
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
