//! One run of one job, on a plain thread.

use std::cell::Cell;
use std::collections::{HashMap, VecDeque};
use std::panic::AssertUnwindSafe;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use sha2::{Digest, Sha256};
use tokio::runtime::Handle;
use tokio::sync::mpsc::UnboundedSender;

use super::retry::Cause;
use crate::app::App;
use crate::config::Release;
use crate::deliver;
use crate::findings::Urgency;
use crate::inference::{Device, Turn};
use crate::metrics::Metrics;
use crate::module::manifest::Interface;
use crate::outputs::result::{JobResult, Status};
use crate::outputs::{self, RESULT_FILE, Stamp};
use crate::pipeline::{self, Event, Phases, RunError, Work};
use crate::priors;
use crate::routing::Planned;
use crate::sandbox::{JobError, Prepared, Prior};
use crate::store::{Done, FoundRow, Gathered, InstanceRow, Job, JobState, PriorRow, Store, StoreError, now_ms};
use crate::study::{self, ReadError, Study};
use crate::threads::Threads;
use crate::upstream::Handed;

/// Studies whose headers are kept between routing and running, earlier ones among them.
const RECENT_STUDIES_MAX: usize = 8;

/// A module that is compiled, checked and linked.
pub(super) struct Ready {
    pub(super) planned: Planned,
    pub(super) prepared: Prepared,
}

impl Ready {
    /// Whether it asks for earlier studies and was granted them.
    pub(super) fn sees_priors(&self) -> bool {
        self.planned.sees_priors()
    }
}

/// What every run needs.
pub(super) struct Shop {
    pub(super) app: Arc<App>,
    pub(super) store: Store,
    pub(super) data: PathBuf,
    pub(super) modules: HashMap<String, Ready>,
    pub(super) recent: Recent,
    pub(super) runtime: Handle,
    pub(super) metrics: Arc<Metrics>,
}

/// A job that was claimed, and how to stop and to hurry it.
pub(super) struct Assignment {
    pub(super) job: Job,
    pub(super) turn: Turn,
}

/// How a run ended.
pub(super) struct Ended {
    pub(super) job: Job,
    pub(super) how: Finished,
}

pub(super) enum Finished {
    Done(Done),
    Cancelled,
    Failed(Cause),
}

/// Headers of the studies that were routed last, and of earlier ones that their jobs saw: they need not be read again a moment
/// later.
#[derive(Default)]
pub(super) struct Recent(Mutex<VecDeque<(String, Which, Arc<Study>)>>);

/// Which instances of a study.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Which {
    /// Of a version that was routed.
    Version(u32),
    /// These files, by a digest over their paths, which name digests of what is in them.
    Files([u8; 32]),
}

impl Recent {
    pub(super) fn keep(&self, which: Which, study: &Arc<Study>) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.push_back((study.uid.clone(), which, study.clone()));
        while kept.len() > RECENT_STUDIES_MAX {
            kept.pop_front();
        }
    }

    fn get(&self, uid: &str, which: Which) -> Option<Arc<Study>> {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.iter().find(|(u, w, _)| u == uid && *w == which).map(|(_, _, study)| study.clone())
    }
}

/// Runs what it is given until there is nothing more to come.
pub(super) fn worker(
    shop: &Shop,
    threads: &Threads,
    jobs: &Mutex<std::sync::mpsc::Receiver<Assignment>>,
    ended: &UnboundedSender<Ended>,
) {
    loop {
        let next = jobs.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(Assignment { job, turn }) = next else { return };
        let span = tracing::info_span!("job", job = job.id, module = job.module, correlation = job.correlation);
        let run = || span.in_scope(|| shop.run(&job, &turn));
        // A fault of ours costs this run, not the node.
        let run = std::panic::catch_unwind(AssertUnwindSafe(|| threads.run(run)));
        let how = run.unwrap_or_else(|_| Finished::Failed(host("the runtime panicked; its log says where".into())));
        if ended.send(Ended { job, how }).is_err() {
            return;
        }
    }
}

fn host(text: String) -> Cause {
    Cause { class: "host", passes: true, text }
}

impl Shop {
    fn run(&self, job: &Job, turn: &Turn) -> Finished {
        let (phases, first) = (Phases::start(), Cell::new(None));
        let Some(ready) =
            self.modules.get(&job.module).filter(|r| crate::hex(&r.planned.package.identity()) == job.module_identity)
        else {
            let text = format!("the module {} of this identity is no longer configured", job.module);
            return Finished::Failed(Cause { class: "module", passes: false, text });
        };
        let below = folder(&job.study_instance_uid, &job.module, job.study_version);
        let out = self.data.join(&below);
        let done = self
            .study(job)
            .and_then(|study| self.analyse(Run { job, turn, first: &first }, ready, study, &out, phases));
        // One that its guest never came to took no time of it.
        if let Some(First { at, waited }) = first.take() {
            let device = done.as_ref().map_or("none", |result| device(result));
            self.metrics.job_ended(&job.module, device, waited, at.elapsed());
        }
        match done {
            Ok(result) => match durable(&out, &self.data) {
                Ok(result_sha256) => Finished::Done(Done {
                    result_path: below,
                    result_sha256,
                    found: found(&result),
                    raise: raised(&result, ready.planned.release),
                    unfit: result.status == Status::Unfit,
                    fallbacks: fallbacks(&result),
                    deliver: deliver::destinations(&self.app.config.destinations, &job.module),
                    release: ready.planned.release,
                    report: outputs::report_of(&result.outputs),
                    triage: result.findings.triage,
                }),
                Err(e) => Finished::Failed(Cause {
                    class: "disk",
                    passes: true,
                    text: format!("the results are not durable: {e}"),
                }),
            },
            Err(NoResult::Run(RunError::Job(JobError::Cancelled))) => Finished::Cancelled,
            Err(NoResult::Run(error)) => {
                if let RunError::Nonconforming(refused) = &error {
                    // Somebody must know: the site does not have a result that it should have.
                    self.metrics.nonconforming(refused.object);
                    tracing::error!(object = refused.object, "{refused}");
                }
                Finished::Failed(Cause::from(&error))
            }
            Err(NoResult::Replaced) => {
                let text =
                    "instances of this version of the study were replaced; its next version runs on the new ones";
                Finished::Failed(Cause { class: "input", passes: false, text: text.into() })
            }
            Err(NoResult::Store(error)) => Finished::Failed(host(error.to_string())),
            Err(NoResult::Clear(error)) => {
                Finished::Failed(Cause { class: "disk", passes: true, text: format!("the results' folder: {error}") })
            }
        }
    }

    fn study(&self, job: &Job) -> Result<Arc<Study>, NoResult> {
        if let Some(study) = self.recent.get(&job.study_instance_uid, Which::Version(job.study_version)) {
            return Ok(study);
        }
        let instances = self.store.instances_of_version(&job.study_instance_uid, job.study_version);
        let instances = self.runtime.block_on(instances)?.ok_or(NoResult::Replaced)?;
        Ok(self.read(&instances).map_err(RunError::from)?)
    }

    /// Results of the modules that this one comes after, where it may look at them: of the same version of the study.
    async fn upstream(&self, job: &Job, ready: &Ready) -> Result<Vec<Handed>, StoreError> {
        if !ready.prepared.grants().interfaces.contains(&Interface::Upstream) {
            return Ok(Vec::new());
        }
        let jobs = self.store.jobs_of_version(&job.study_instance_uid, job.study_version).await?;
        let mut handed = Vec::new();
        for module in &ready.planned.after {
            let last = jobs.iter().rev().find(|other| &other.module == module);
            let Some(other) = last.filter(|other| other.state == JobState::Done) else { continue };
            let Some(path) = &other.result_path else { continue };
            let result_sha256 = Some(self.store.result_sha256(other).await?);
            handed.push(Handed { folder: self.data.join(path), result_sha256 });
        }
        Ok(handed)
    }

    /// The earlier studies that a job sees, and what people must know of those that it does not.
    fn priors(&self, job: &Job, ready: &Ready) -> Result<(Vec<Prior>, Vec<String>), NoResult> {
        if !ready.sees_priors() {
            return Ok((Vec::new(), Vec::new()));
        }
        let gathered = self.store.gathered(&job.study_instance_uid, job.study_version);
        let Gathered { priors: rows, mut warnings } = self.runtime.block_on(gathered)?.unwrap_or_default();
        let package = ready.prepared.package();
        let most = priors::most(package, self.app.config.limits.priors_max);
        let mut priors = Vec::new();
        for row in rows {
            if priors.len() == most {
                break;
            }
            match self.prior(&row)? {
                Ok(study) => priors.extend(priors::prior(package, study, row.days_before)),
                Err(why) => warnings.push(format!("an earlier study was left out: {why}")),
            }
        }
        Ok((priors, warnings))
    }

    /// An earlier study as it was when it was decided that it is shown, or why that cannot be.
    fn prior(&self, row: &PriorRow) -> Result<Result<Arc<Study>, String>, StoreError> {
        let mut instances = self.runtime.block_on(self.store.instances_of_study(&row.study_instance_uid))?;
        instances.retain(|instance| instance.id <= row.last_instance);
        if instances.len() as u64 != row.instances {
            return Ok(Err("it changed, or was deleted, since it was found".into()));
        }
        // Several modules may look at it, one after the other.
        let paths: Vec<&str> = instances.iter().map(|instance| instance.path.as_str()).collect();
        let which = Which::Files(Sha256::digest(paths.join("\n")).into());
        if let Some(study) = self.recent.get(&row.study_instance_uid, which) {
            return Ok(Ok(study));
        }
        let read = self.read(&instances).inspect(|study| self.recent.keep(which, study));
        Ok(read.map_err(|e| e.for_record(&|_| "one of its files".into()).to_string()))
    }

    fn read(&self, instances: &[InstanceRow]) -> Result<Arc<Study>, ReadError> {
        let paths: Vec<PathBuf> = instances.iter().map(|instance| self.data.join(&instance.path)).collect();
        Ok(Arc::new(study::read(&paths, &self.app.read_options(false))?))
    }

    fn analyse(
        &self,
        Run { job, turn, first }: Run<'_>,
        ready: &Ready,
        study: Arc<Study>,
        out: &Path,
        mut phases: Phases,
    ) -> Result<JobResult, NoResult> {
        clear_unfinished(out).map_err(NoResult::Clear)?;
        let accepted = pipeline::accept(ready.prepared.package(), &study)?;
        let upstream = self.runtime.block_on(self.upstream(job, ready))?;
        let (priors, warnings) = self.priors(job, ready)?;
        let predecessors = self.runtime.block_on(self.store.predecessors(job))?;
        phases.end("headers");
        let work = Work {
            prepared: &ready.prepared,
            policy: &ready.planned.policy,
            study,
            accepted,
            upstream,
            priors,
            predecessors,
            warnings,
            out,
            strict: false,
            overlay: self.app.config.schedule.overlay,
            stamp: stamp(job.created_ms),
            correlation: Some(job.correlation.clone()),
            phases,
        };
        let observe = |event: Event<'_>| match event {
            Event::Step(step) => tracing::debug!("{step}"),
            Event::Guest => first.set(Some(self.started(job))),
            Event::Ran(_) => {}
            Event::Log(line) => tracing::info!(level = line.level, "module: {}", line.message),
        };
        Ok(pipeline::run_prepared(&self.app, work, turn, &observe)?)
    }

    /// Does not wait for the journal: the guest starts now.
    fn started(&self, job: &Job) -> First {
        let (store, id, attempt, started_ms) = (self.store.clone(), job.id, job.attempts, now_ms());
        let waited = u64::try_from(started_ms.saturating_sub(job.created_ms)).unwrap_or(0);
        tracing::info!(since_routed_ms = started_ms - job.created_ms, attempt, "the guest starts");
        self.runtime.spawn(async move {
            if let Err(e) = store.job_started(id, attempt, started_ms).await {
                tracing::warn!("the start of job {id} is not recorded: {e}");
            }
        });
        First { at: Instant::now(), waited: Duration::from_millis(waited) }
    }
}

/// A run of a job, and when its guest came to its first instruction.
struct Run<'a> {
    job: &'a Job,
    turn: &'a Turn,
    first: &'a Cell<Option<First>>,
}

/// A guest's first instruction.
struct First {
    at: Instant,
    /// Since the job was made.
    waited: Duration,
}

/// Why there is no result.
enum NoResult {
    Run(RunError),
    /// Not what the version was made of.
    Replaced,
    Store(StoreError),
    Clear(std::io::Error),
}

impl From<RunError> for NoResult {
    fn from(error: RunError) -> Self {
        Self::Run(error)
    }
}

impl From<StoreError> for NoResult {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

/// Where results of a job lie, below the data folder: nothing of it is a peer's text.
fn folder(study_instance_uid: &str, module: &str, version: u32) -> String {
    let digest = crate::hex(&Sha256::digest(study_instance_uid));
    format!("results/{}/{module}/v{version}", &digest[..32])
}

/// What a process that was killed left there is no result: one without `result.json` is not whole. The folder is ours
/// alone.
fn clear_unfinished(out: &Path) -> std::io::Result<()> {
    match out.join(RESULT_FILE).is_file() || !out.exists() {
        true => Ok(()),
        false => std::fs::remove_dir_all(out),
    }
}

/// The names of a new folder are durable when the folders above are. The digest of `result.json`.
fn durable(out: &Path, data: &Path) -> std::io::Result<[u8; 32]> {
    for folder in out.ancestors().take_while(|folder| folder.starts_with(data)) {
        std::fs::File::open(folder)?.sync_all()?;
    }
    Ok(Sha256::digest(std::fs::read(out.join(RESULT_FILE))?).into())
}

/// Of the study's routing, not of the run: one that is repeated writes the same bytes.
fn stamp(created_ms: i64) -> Stamp {
    let created = chrono::DateTime::from_timestamp_millis(created_ms).unwrap_or_default();
    Stamp { date: created.format("%Y%m%d").to_string(), time: created.format("%H%M%S").to_string() }
}

/// Where the models of a result ran, for metrics.
fn device(result: &JobResult) -> &'static str {
    match result.models.as_slice() {
        [] => "none",
        models if models.iter().any(|model| model.device == Device::Gpu) => "gpu",
        _ => "cpu",
    }
}

/// What the study's other jobs are raised to. What a module finds in the shadow moves nothing.
fn raised(result: &JobResult, release: Release) -> Urgency {
    match release {
        Release::Shadow => Urgency::Routine,
        Release::AtOnce | Release::Hold => result.findings.triage.iter().map(|t| t.level).max().unwrap_or_default(),
    }
}

/// Models that ran on another device than their module asked for.
fn fallbacks(result: &JobResult) -> Vec<String> {
    result.models.iter().filter(|model| model.fallback.is_some()).map(|model| model.name.clone()).collect()
}

/// What conditions may ask for.
fn found(result: &JobResult) -> Vec<FoundRow> {
    let segments = result.findings.segments.iter().map(|segment| FoundRow {
        code_value: segment.kind.value.clone(),
        code_meaning: segment.kind.meaning.clone(),
        label: segment.name.clone(),
        probability: if segment.voxels > 0 { 1.0 } else { 0.0 },
    });
    let coded = |code: &crate::findings::Code, probability: f32| FoundRow {
        code_value: code.value.clone(),
        code_meaning: code.meaning.clone(),
        label: String::new(),
        probability: probability.into(),
    };
    let classes = result.findings.classifications.iter().map(|c| coded(&c.finding, c.probability));
    let triage = result.findings.triage.iter().map(|t| coded(&t.finding, t.probability));
    let marks = result.findings.marks.iter().map(|m| coded(&m.label, m.probability));
    segments.chain(classes).chain(triage).chain(marks).collect()
}
