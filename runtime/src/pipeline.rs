//! One study, top to bottom: read, accept, run in the sandbox, gate, write, check what was written.
//!
//! Nothing is in the output folder before the last step, and then everything is.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use sha2::{Digest, Sha256};

use crate::app::App;
use crate::findings::LogLine;
use crate::inference::Turn;
use crate::memory::Budget;
use crate::module::manifest::Interface;
use crate::module::package::{Package, PackageError};
use crate::outputs::result::{Input, InputFile, InputPrior, InputSeries, JobResult, Model, Module, Phase};
use crate::outputs::{
    self, CAPTURE_FILE, Evidence, FRACTIONAL_FILE, ModuleInfo, OVERLAY_FILE, OutputKind, OutputUids,
    PARAMETRIC_MAP_FILE, PRESENTATION_FILE, REPORT_FILE, RESULT_FILE, Reference, Refusal, SEGMENTATION_FILE, Source,
    Stamp, Transaction, WriteError,
};
use crate::priors::{self, PriorError};
use crate::routing;
use crate::sandbox::grants::Policy;
use crate::sandbox::{JobError, JobInput, Outcome, PrepareError, Prepared, Prior};
use crate::study::{self, Instance, ReadError, Series, Study};
use crate::upstream::{Finished, Handed};

/// What to run on what.
#[derive(Debug)]
pub struct Request<'a> {
    /// A package folder.
    pub module: &'a Path,
    /// Files and folders of one study.
    pub study: &'a [PathBuf],
    /// Folders of earlier results on this study, for a module that comes after others.
    pub upstream: &'a [PathBuf],
    /// Folders or files of earlier studies of the patient, each of all of one, for a module that compares with them.
    pub priors: &'a [PathBuf],
    /// Where results go.
    pub out: &'a Path,
    /// What the operator allows.
    pub policy: &'a Policy,
    /// Refuse what would otherwise be repaired.
    pub strict: bool,
    /// Draw `overlay.png` as well.
    pub overlay: bool,
    /// When the result is made.
    pub stamp: Stamp,
}

/// What happens on the way, for whoever watches.
#[derive(Debug)]
pub enum Event<'a> {
    /// The next step begins.
    Step(&'static str),
    /// The guest starts: its first instruction runs as soon as it is instantiated, within a millisecond or so.
    Guest,
    /// It ended well: what it used, and what it stated before the gate has judged it.
    Ran(&'a Outcome),
    /// A line that the module logged in a job that then failed. Those of a job that did not are in the result.
    Log(&'a LogLine),
}

/// Why there is no result. Nothing was written.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The input.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// No series fits the module.
    #[error("{module} accepts none of the {series} series: {reasons}")]
    NothingAccepted {
        /// The module's name.
        module: String,
        /// How many there are.
        series: usize,
        /// Why each was not accepted.
        reasons: String,
    },
    /// The earlier studies that were named.
    #[error(transparent)]
    Prior(#[from] PriorError),
    /// The package.
    #[error(transparent)]
    Package(#[from] PackageError),
    /// The component.
    #[error(transparent)]
    Prepare(#[from] PrepareError),
    /// The module, while it ran.
    #[error(transparent)]
    Job(#[from] JobError),
    /// What the module stated.
    #[error("the output gate refused the module's findings: {0}")]
    Refused(#[from] Refusal),
    /// An object that our own writers made and that does not conform.
    #[error(transparent)]
    Nonconforming(#[from] outputs::Nonconforming),
    /// Our own writers.
    #[error("the result cannot be written: {0}")]
    Write(String),
}

impl From<outputs::CheckError> for RunError {
    fn from(error: outputs::CheckError) -> Self {
        match error {
            outputs::CheckError::Nonconforming(refused) => Self::Nonconforming(refused),
            unread @ outputs::CheckError::Unread { .. } => Self::Write(unread.to_string()),
        }
    }
}

impl From<WriteError> for RunError {
    fn from(error: WriteError) -> Self {
        Self::Write(error.to_string())
    }
}

/// One run of a module that is ready: what the node and [`run`] have in common.
pub struct Work<'a> {
    /// Of the module.
    pub prepared: &'a Prepared,
    /// What the operator allows.
    pub policy: &'a Policy,
    /// As read.
    pub study: Arc<Study>,
    /// Positions of the series that the module [accepts](accept).
    pub accepted: Vec<usize>,
    /// Results of the modules that it comes after.
    pub upstream: Vec<Handed>,
    /// Earlier studies of the patient, the latest first.
    pub priors: Vec<Prior>,
    /// SRs of the module on earlier versions of the study, the earliest first.
    pub predecessors: Vec<Reference>,
    /// What people must know of this run that the study does not say; no patient data.
    pub warnings: Vec<String>,
    /// Where results go.
    pub out: &'a Path,
    /// Refuse what would otherwise be repaired.
    pub strict: bool,
    /// Draw `overlay.png` as well.
    pub overlay: bool,
    /// When the result is made.
    pub stamp: Stamp,
    /// For `result.json`, and for nothing that is DICOM: a re-run writes the same objects.
    pub correlation: Option<String>,
    /// What was done until now.
    pub phases: Phases,
}

/// Runs a module on a study and writes what it found.
pub fn run(app: &App, request: &Request<'_>, turn: &Turn, observe: &dyn Fn(Event<'_>)) -> Result<JobResult, RunError> {
    let mut phases = Phases::start();

    let package = Arc::new(Package::open(request.module)?);
    let (grants, _) = request.policy.grant(&package.manifest().needs);
    observe(Event::Step("reading headers"));
    let study = Arc::new(study::read(request.study, &app.read_options(request.strict))?);
    let accepted = accept(&package, &study)?;
    let (of_site, options) = (app.config.limits.priors_max, app.read_options(request.strict));
    let (priors, warnings) = priors::named(request.priors, &study, (&package, &grants), of_site, &options)?;
    phases.end("headers");

    observe(Event::Step("preparing the component"));
    let prepared = app.sandbox.prepare(package, grants)?;
    phases.end("prepare");

    let Request { policy, out, strict, overlay, .. } = *request;
    let upstream = request.upstream.iter().map(|folder| Handed::named(folder)).collect();
    let stamp = request.stamp.clone();
    let work = Work {
        prepared: &prepared,
        policy,
        study,
        accepted,
        upstream,
        priors,
        predecessors: Vec::new(),
        warnings,
        out,
        strict,
        overlay,
        stamp,
        correlation: None,
        phases,
    };
    run_prepared(app, work, turn, observe)
}

/// Runs a module that is ready on a study that was read, and writes what it found.
pub fn run_prepared(
    app: &App,
    work: Work<'_>,
    turn: &Turn,
    observe: &dyn Fn(Event<'_>),
) -> Result<JobResult, RunError> {
    let Work { prepared, policy, study, accepted, upstream, priors, warnings, out, strict, overlay, stamp, .. } = work;
    let (correlation, predecessors, mut phases) = (work.correlation, work.predecessors, work.phases);
    let package = prepared.package();
    let (_, denied) = policy.grant(&package.manifest().needs);
    let in_vain = !upstream.is_empty() && !package.manifest().needs.interfaces.contains(&Interface::Upstream);

    // Before the work, so that it is not done for a folder that cannot be written to.
    let mut transaction = Transaction::begin(out)?;
    observe(Event::Step("analysing"));
    observe(Event::Guest);
    let outcome = prepared.run(JobInput {
        study: study.clone(),
        accepted: accepted.clone(),
        upstream,
        priors,
        read: app.read_options(strict),
        engines: app.engines.clone(),
        pseudonym_key: app.pseudonym_key,
        turn: turn.clone(),
    });
    let outcome = outcome.map_err(|failure| {
        failure.log.iter().for_each(|line| observe(Event::Log(line)));
        failure.error
    })?;
    phases.end("analysis");
    observe(Event::Ran(&outcome));

    observe(Event::Step("checking findings"));
    let grants: Vec<String> = grant_names(prepared.grants());
    let module = module_info(package);
    let record = Record { study: &study, accepted: &accepted, outcome: &outcome, package, module: &module, grants };
    let findings = outputs::gate(outcome.findings.clone(), &study, &accepted, &outcome.input.volumes_read)?;
    phases.end("gate");

    observe(Event::Step("writing results"));
    let mut result = record.result(&findings, &stamp);
    result.correlation = correlation;
    result.warnings.extend(warnings);
    result
        .warnings
        .extend(denied.iter().map(|ask| format!("the module asks for {ask}, which was not granted (--grant {ask})")));
    let unasked = policy.unasked(&package.manifest().needs);
    result.warnings.extend(unasked.iter().map(|grant| format!("--grant {grant}: the module does not ask for it")));
    if in_vain {
        result.warnings.push(format!("--upstream: the module does not ask for {}", Interface::Upstream.name()));
    }
    let budget = Budget::mib(app.config.limits.host_memory_mib);
    let predecessor = write_dicom(&mut transaction, &record, &findings, &predecessors, &stamp, &budget);
    result.predecessor = predecessor.map_err(RunError::Write)?;
    write_pictures(app, &mut transaction, &record, &findings, strict, &stamp)?;
    if overlay {
        draw(app, &mut transaction, &record, &findings, strict)?;
    }
    phases.end("encode");

    observe(Event::Step("checking objects"));
    outputs::conforms(transaction.staged(), &outputs::Inputs::new(&study, &accepted))?;
    if turn.is_cancelled() {
        return Err(JobError::Cancelled.into());
    }
    phases.end("conformance");
    result.outputs = transaction.written().to_vec();
    result.phases = phases.ended;
    transaction.bytes(RESULT_FILE, OutputKind::Result, &result.to_bytes())?;
    transaction.commit()?;
    Ok(result)
}

/// Positions of the series that the manifest accepts.
///
/// # Errors
/// [`RunError::NothingAccepted`].
pub fn accept(package: &Package, study: &Study) -> Result<Vec<usize>, RunError> {
    let (accepted, reasons) = accepted_series(package, study);
    if accepted.is_empty() {
        let module = package.manifest().name.clone();
        return Err(RunError::NothingAccepted { module, series: study.series.len(), reasons: reasons.join(", ") });
    }
    Ok(accepted)
}

/// Positions of the series of a study that the manifest accepts, and why it does not accept the others.
pub fn accepted_series(package: &Package, study: &Study) -> (Vec<usize>, Vec<String>) {
    let accepts = &package.manifest().accepts;
    let mut accepted = Vec::new();
    let mut reasons = Vec::new();
    for (index, series) in study.series.iter().enumerate() {
        match routing::accepts::refusal(accepts, series) {
            None => accepted.push(index),
            Some(reason) => reasons.push(format!("{} ({reason})", series.uid)),
        }
    }
    (accepted, reasons)
}

/// The SEG and the SR; the SR of an earlier version of the study that this one takes the place of.
fn write_dicom(
    transaction: &mut Transaction,
    record: &Record<'_>,
    findings: &outputs::Accepted,
    predecessors: &[Reference],
    stamp: &Stamp,
    budget: &Budget,
) -> Result<Option<Reference>, String> {
    let (source, uids) = record.source(findings.source)?;
    let mut seg = None;
    if findings.has_seg() {
        let object =
            outputs::segmentation(findings, &source, record.module, &uids, stamp).map_err(|e| e.to_string())?;
        let written =
            transaction.dicom(SEGMENTATION_FILE, OutputKind::Segmentation, &object).map_err(|e| e.to_string())?;
        let (instance, series) = (written.sop_instance_uid.clone(), written.series_instance_uid.clone());
        seg = instance.zip(series).map(|(instance, series)| Reference { instance, series });
    }
    if !outputs::has_report(findings) {
        return Ok(None);
    }
    let (marks, _) = record.source(findings.marks_source)?;
    let predecessor = outputs::predecessor(predecessors, &uids);
    let evidence = Evidence { source: &source, marks: &marks, seg: seg.as_ref(), predecessor };
    let made = outputs::report(findings, &evidence, record.module, &uids, stamp, budget);
    let (object, _held) = made.map_err(|e| e.to_string())?;
    transaction.dicom(REPORT_FILE, OutputKind::Report, &object).map_err(|e| e.to_string())?;
    Ok(predecessor.cloned())
}

/// What shows where something lies: each on a source volume of its own.
fn write_pictures(
    app: &App,
    transaction: &mut Transaction,
    record: &Record<'_>,
    findings: &outputs::Accepted,
    strict: bool,
    stamp: &Stamp,
) -> Result<(), RunError> {
    let (module, wanted) = (record.module, &app.config.outputs);
    let failed = |e: &dyn std::error::Error| RunError::Write(e.to_string());
    let budget = Budget::mib(app.config.limits.host_memory_mib);
    if wanted.fractional_segmentation && findings.fractional().next().is_some() {
        let (source, uids) = record.source(findings.source).map_err(RunError::Write)?;
        let made = outputs::fractional_segmentation(findings, &source, module, &uids, stamp);
        let (object, _held) = made.map_err(|e| failed(&e))?;
        transaction.dicom(FRACTIONAL_FILE, OutputKind::FractionalSegmentation, &object)?;
    }
    if let Some(heatmap) = findings.heatmap.as_ref().filter(|_| wanted.parametric_map) {
        let (source, uids) = record.source(heatmap.source).map_err(RunError::Write)?;
        let made = outputs::parametric_map(heatmap, &source, module, &uids, stamp);
        let (object, _held) = made.map_err(|e| failed(&e))?;
        transaction.dicom(PARAMETRIC_MAP_FILE, OutputKind::ParametricMap, &object)?;
    }
    if !findings.marks.is_empty() {
        let (source, uids) = record.source(findings.marks_source).map_err(RunError::Write)?;
        let made = outputs::presentation_state(findings, &source, module, &uids, stamp, &budget);
        let (object, _held) = made.map_err(|e| failed(&e))?;
        transaction.dicom(PRESENTATION_FILE, OutputKind::PresentationState, &object)?;
    }
    if let Some(key) = outputs::key_slice(findings, record.study).filter(|_| wanted.secondary_capture) {
        let (source, uids) = record.source(key.source).map_err(RunError::Write)?;
        let (volume, options) = (source.volume_index, app.read_options(strict));
        let decoded = source.series.decode_slice(volume, key.slice, &budget, &options)?;
        unchanged(record, source.instance(key.slice).into_iter().zip(&decoded.digests))?;
        let made = outputs::secondary_capture(findings, key, &source, &decoded.volume, module, &uids, stamp);
        let object = made.map_err(|e| failed(&e))?;
        transaction.dicom(CAPTURE_FILE, OutputKind::SecondaryCapture, &object)?;
    }
    Ok(())
}

/// Whether files that were decoded once more are those that were analysed.
fn unchanged<'a>(
    record: &Record<'_>,
    decoded: impl IntoIterator<Item = (&'a Instance, &'a [u8; 32])>,
) -> Result<(), RunError> {
    for (instance, digest) in decoded {
        let analysed = record.outcome.input.digests.get(&instance.sop_instance_uid);
        if analysed.is_some_and(|analysed| analysed != digest) {
            return Err(ReadError::Changed(instance.path.clone()).into());
        }
    }
    Ok(())
}

/// Decodes the source once more: the picture is for people who ask for it, and nobody else pays for it.
fn draw(
    app: &App,
    transaction: &mut Transaction,
    record: &Record<'_>,
    findings: &outputs::Accepted,
    strict: bool,
) -> Result<(), RunError> {
    let (source, _) = record.source(findings.source).map_err(RunError::Write)?;
    let budget = Budget::mib(app.config.limits.host_memory_mib);
    let decoded = source.series.decode(source.volume_index, &budget, &app.read_options(strict))?;
    let instances = source.layout.slices.iter().map(|&slice| &source.series.instances[slice]);
    unchanged(record, instances.zip(&decoded.digests))?;
    let picture = outputs::overlay(&decoded.volume, findings, &source);
    if let Some(picture) = picture.map_err(|e| RunError::Write(e.to_string()))? {
        transaction.bytes(OVERLAY_FILE, OutputKind::Overlay, &picture)?;
    }
    Ok(())
}

/// What the result says beside the findings.
struct Record<'a> {
    study: &'a Study,
    accepted: &'a [usize],
    outcome: &'a Outcome,
    package: &'a Package,
    module: &'a ModuleInfo,
    grants: Vec<String>,
}

impl<'a> Record<'a> {
    /// A source volume, and the UIDs of what is made of it.
    fn source(&self, at: (usize, usize)) -> Result<(Source<'a>, OutputUids), String> {
        let source = Source::new(self.study, at).ok_or("the source volume is gone")?;
        let digests = self.input_digests();
        let uids = OutputUids::new(&source, &digests, &self.module.identity, &self.circumstances());
        Ok((source, uids))
    }

    fn result(&self, findings: &outputs::Accepted, stamp: &Stamp) -> JobResult {
        let module = Module::new(self.module, &self.package.component_digest(), self.grants.clone());
        let mut result = JobResult::new(findings, module, self.input(), stamp);
        result.models = self.outcome.models.iter().map(|m| Model::from(m.as_ref())).collect();
        result.host_memory_peak_bytes = Some(self.outcome.host_memory_peak);
        result.warnings.clone_from(&self.study.warnings);
        result.warnings.extend(self.outcome.input.warnings.iter().cloned());
        result.log.clone_from(&self.outcome.log);
        let demonstrations = self.outcome.upstream.iter().map(|earlier| &earlier.module).filter(|m| m.demonstration);
        result.warnings.extend(
            demonstrations.map(|m| format!("the module looked at what {} found, which is a demonstration", m.name)),
        );
        result
            .warnings
            .extend(self.outcome.limit.iter().map(|hit| format!("the module hit a limit and went on: {hit}")));
        result
    }

    /// What beside the input and the module may change the findings.
    fn circumstances(&self) -> Vec<String> {
        let models = self.outcome.models.iter().map(|m| Model::from(m.as_ref()));
        let models = models.map(|m| format!("{} on {} {:?}", m.name, m.engine, m.device));
        let version = format!("gantry {}", env!("CARGO_PKG_VERSION"));
        let upstream = self.outcome.upstream.iter().map(|earlier| format!("upstream {}", crate::hex(&earlier.seen())));
        self.grants.iter().cloned().chain(models).chain([version]).chain(upstream).collect()
    }

    /// Of what the findings may depend on: the headers of series that the module could see, and the files that it had
    /// decoded. Earlier studies are among them once it was told of them, and not before.
    fn input_digests(&self) -> Vec<[u8; 32]> {
        let priors = &self.outcome.input.priors;
        let of = |study: &'_ Study, accepted: &[usize]| {
            let instances = accepted.iter().flat_map(|&series| &study.series[series].instances);
            instances.map(study::Instance::header_digest).collect::<Vec<_>>()
        };
        let own = of(self.study, self.accepted);
        let earlier = priors.iter().flat_map(|prior| {
            let days: [u8; 32] = Sha256::digest(format!("days before: {}", prior.days_before)).into();
            std::iter::once(days).chain(of(&prior.study, &prior.accepted))
        });
        own.into_iter().chain(earlier).chain(self.outcome.input.digests.values().copied()).collect()
    }

    fn input(&self) -> Input {
        let priors = self.outcome.input.priors.iter().map(|prior| InputPrior {
            study_instance_uid: prior.study.uid.clone(),
            pseudonym: self.pseudonym(&prior.study.uid),
            days_before: prior.days_before,
            series: prior.accepted.iter().map(|&index| self.input_series(&prior.study.series[index])).collect(),
        });
        Input {
            study_instance_uid: self.study.uid.clone(),
            series: self.accepted.iter().map(|&index| self.input_series(&self.study.series[index])).collect(),
            upstream: self.outcome.upstream.iter().map(Finished::reference).collect(),
            priors: priors.collect(),
        }
    }

    fn input_series(&self, series: &Series) -> InputSeries {
        let mut seen = BTreeSet::new();
        let files = series.instances.iter().filter(|instance| seen.insert(instance.sop_instance_uid.as_str()));
        let decoded = files.filter_map(|instance| {
            let digest = self.outcome.input.digests.get(&instance.sop_instance_uid)?;
            Some(InputFile { sop_instance_uid: instance.sop_instance_uid.clone(), sha256: crate::hex(digest) })
        });
        InputSeries {
            series_instance_uid: series.uid.clone(),
            pseudonym: self.pseudonym(&series.uid),
            modality: series.modality.clone(),
            decoded: decoded.collect(),
        }
    }

    fn pseudonym(&self, uid: &str) -> String {
        self.outcome.input.pseudonyms.get(uid).cloned().unwrap_or_default()
    }
}

pub(crate) fn grant_names(grants: &crate::sandbox::grants::Grants) -> Vec<String> {
    let interfaces = grants.interfaces.iter().map(|i| i.name().to_owned());
    interfaces.chain(grants.attributes.iter().map(|a| format!("attribute:{a}"))).collect()
}

pub(crate) fn module_info(package: &Package) -> ModuleInfo {
    let manifest = package.manifest();
    ModuleInfo {
        name: manifest.name.clone(),
        version: manifest.version.to_string(),
        vendor: manifest.vendor.clone(),
        title: manifest.label.title.clone(),
        demonstration: manifest.label.demonstration,
        identity: package.identity(),
    }
}

/// How long each phase took.
#[derive(Debug)]
pub struct Phases {
    since: Instant,
    ended: Vec<Phase>,
}

impl Phases {
    /// From now on.
    #[must_use]
    pub fn start() -> Self {
        Self { since: Instant::now(), ended: Vec::new() }
    }

    /// A phase ends, and the next begins.
    pub fn end(&mut self, name: &'static str) {
        let milliseconds = self.since.elapsed().as_secs_f64() * 1000.0;
        self.ended.push(Phase { name, milliseconds });
        self.since = Instant::now();
    }
}
