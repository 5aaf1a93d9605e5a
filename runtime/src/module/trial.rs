//! One run of a module whose results nobody keeps: how a vendor's cases, checks and benchmarks run, with what it used.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::Serialize;

use super::needs::Interface;
use crate::app::App;
use crate::findings::Segmentation;
use crate::inference::Turn;
use crate::outputs::Stamp;
use crate::outputs::result::JobResult;
use crate::pipeline::{self, Event, Phases, Request, RunError, Work};
use crate::sandbox::grants::Policy;
use crate::sandbox::{Outcome, Prepared};
use crate::study;
use crate::upstream::Handed;

/// What to run.
#[derive(Clone, Copy)]
pub struct Job<'a> {
    /// A package.
    pub module: &'a Path,
    /// Files and folders of one study.
    pub study: &'a [PathBuf],
    /// Results of earlier modules on it.
    pub upstream: &'a [PathBuf],
    /// Earlier studies.
    pub priors: &'a [PathBuf],
    /// What is granted.
    pub policy: &'a Policy,
    /// Refuse what would be repaired.
    pub strict: bool,
    /// The module, ready, as a node has it; made ready in the run where there is none.
    pub prepared: Option<&'a Prepared>,
}

/// How it went.
pub struct Trial {
    /// The result, whose files are gone.
    pub result: Result<JobResult, RunError>,
    /// What it used; nothing where the module did not end well.
    pub used: Option<Used>,
    /// Its segmentation with voxels, as stated.
    pub segmentation: Option<Segmentation>,
    /// What the module logged in a run that failed.
    pub log: Vec<String>,
    /// All of it.
    pub took: Duration,
}

/// What a run used.
#[derive(Debug, Clone, Serialize)]
pub struct Used {
    /// From an empty store to the first instruction, ms.
    pub start_ms: f64,
    /// Inside of the guest and what it called, ms; what follows, up to `module_ms`, are its parts.
    pub analysis_ms: f64,
    /// Decoding pixels, ms.
    pub decode_ms: f64,
    /// Loading models, ms.
    pub load_ms: f64,
    /// Runs of models, ms.
    pub inference_ms: f64,
    /// Operations on volumes and filters, ms.
    pub operations_ms: f64,
    /// What is left: the guest's own instructions, and handing over, ms.
    pub module_ms: f64,
    /// The most voxels and tensors on the host at once, bytes.
    pub host_memory_peak_bytes: u64,
    /// The guest's own memory, bytes.
    pub guest_memory_peak_bytes: u64,
    /// Calls of each interface.
    pub calls: BTreeMap<&'static str, u64>,
    /// Runs of each model.
    pub model_calls: BTreeMap<String, u64>,
    /// Attributes that it asked for.
    pub attributes_read: BTreeSet<String>,
}

impl Used {
    fn of(outcome: &Outcome) -> Self {
        let ms = |time: Duration| time.as_secs_f64() * 1e3;
        let (decode_ms, analysis_ms) = (ms(outcome.input.decoding), ms(outcome.analysis));
        let load_ms = outcome.models.iter().map(|model| ms(model.load_time())).sum();
        let inference_ms = outcome.models.iter().map(|model| ms(model.usage().compute)).sum();
        // `patches` run models meanwhile, and those count above.
        let operations = [Interface::Volumes, Interface::Filters].into_iter();
        let operations = operations.filter_map(|interface| outcome.host_calls.get(&interface));
        let operations_ms = operations.map(|calls| ms(calls.time)).sum::<f64>();
        Self {
            start_ms: ms(outcome.instantiation),
            analysis_ms,
            decode_ms,
            load_ms,
            inference_ms,
            operations_ms,
            module_ms: (analysis_ms - decode_ms - load_ms - inference_ms - operations_ms).max(0.0),
            host_memory_peak_bytes: outcome.host_memory_peak,
            guest_memory_peak_bytes: outcome.guest_memory_peak,
            calls: outcome.host_calls.iter().map(|(interface, calls)| (interface.name(), calls.calls)).collect(),
            model_calls: outcome.models.iter().map(|m| (m.name().to_owned(), m.usage().calls)).collect(),
            attributes_read: outcome.input.attributes_read.clone(),
        }
    }
}

/// Runs it, in a folder of its own that is then removed. Dates of results are the same in every trial, and so are the results.
///
/// # Errors
/// There is no room for a temporary folder. How the module did is in the [`Trial`].
pub fn run(app: &App, job: &Job<'_>, turn: &Turn) -> std::io::Result<Trial> {
    let out = tempfile::tempdir()?;
    let (used, segmentation, log) = (RefCell::new(None), RefCell::new(None), RefCell::new(Vec::new()));
    let Job { module, study, upstream, priors, policy, strict, .. } = *job;
    let out = out.path().join("out");
    let stamp = Stamp { date: "20260101".into(), time: "120000".into() };
    let request = Request { module, study, upstream, priors, out: &out, policy, strict, overlay: false, stamp };
    let observe = |event: Event<'_>| match event {
        Event::Ran(outcome) => {
            used.replace(Some(Used::of(outcome)));
            segmentation.replace(outcome.findings.segmentation.clone());
        }
        Event::Log(line) => log.borrow_mut().push(format!("{}: {}", line.level, line.message)),
        Event::Step(step) => tracing::info!("{step}"),
        Event::Guest => {}
    };
    let started = Instant::now();
    let result = match job.prepared {
        None => pipeline::run(app, &request, turn, &observe),
        Some(prepared) => again(app, prepared, request, turn, &observe),
    };
    let took = started.elapsed();
    Ok(Trial { result, used: used.into_inner(), segmentation: segmentation.into_inner(), log: log.into_inner(), took })
}

/// As a node runs a module that is ready, without earlier studies.
fn again(
    app: &App,
    prepared: &Prepared,
    request: Request<'_>,
    turn: &Turn,
    observe: &dyn Fn(Event<'_>),
) -> Result<JobResult, RunError> {
    let mut phases = Phases::start();
    let study = Arc::new(study::read(request.study, &app.read_options(request.strict))?);
    let accepted = pipeline::accept(prepared.package(), &study)?;
    phases.end("headers");
    let Request { policy, upstream, out, strict, overlay, stamp, .. } = request;
    let work = Work {
        prepared,
        policy,
        study,
        accepted,
        upstream: upstream.iter().map(|folder| Handed::named(folder)).collect(),
        priors: Vec::new(),
        predecessors: Vec::new(),
        warnings: Vec::new(),
        out,
        strict,
        overlay,
        stamp,
        correlation: None,
        phases,
    };
    pipeline::run_prepared(app, work, turn, observe)
}
