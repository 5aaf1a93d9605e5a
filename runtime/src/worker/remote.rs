//! An engine in a process of its own, as the rest of the host sees it.
//!
//! ```text
//! Model::run ─▶ device's queue ─▶ worker (started, model loaded, if not yet) ─▶ run ─▶ outputs
//!                                    ▲                                          │
//!                                    └── once more, in a new process ◀── died ──┘   late: ended, and an error
//! ```
//!
//! A process that died takes its models with it: they are loaded again by whoever needs them next. The files that they are
//! loaded from stay with the host. Where a device takes several runs at once, a process has several: who tries again after a
//! crash then has it alone, so that nobody is blamed for another's.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, RwLock, Weak};
use std::time::{Duration, Instant};

use super::choice::Program;
use super::host::{NoAnswer, NoStart, Worker};
use super::join::Gatherings;
use super::model::RemoteModel;
use super::protocol::{Answer, Ask, EngineRole, Failure, Role, Start};
use super::shared;
use crate::inference::{
    Call, Device, DeviceQueue, Engine, EngineConfig, EngineKind, Execution, InferenceError, Model, NoTurn, OnnxModel,
    TensorSpec,
};
use crate::metrics::Metrics;

/// Freeing a model's memory.
const UNLOAD_MAX: Duration = Duration::from_secs(5);
/// So often a run begins anew because others of its vendor ended the process under it.
const NEIGHBOURS_MAX: usize = 8;

/// What is known of a vendor's models on a device: by digest, so that it holds whatever they are called.
#[derive(Debug, Default)]
pub(super) struct Health(Mutex<HashMap<[u8; 32], Record>>);

#[derive(Debug, Clone, Default)]
pub(super) struct Record {
    /// Processes that ended with it, since a run that ended well.
    pub(super) failures: u32,
    /// How the last one did.
    last: String,
    /// Of one item of a batch, where it has batches.
    pub(super) per_item: Option<Duration>,
}

impl Health {
    pub(super) fn with<T>(&self, sha256: &[u8; 32], f: impl FnOnce(&mut Record) -> T) -> T {
        f(self.0.lock().unwrap_or_else(PoisonError::into_inner).entry(*sha256).or_default())
    }
}

/// An engine for one vendor's models on one device.
pub(crate) struct RemoteEngine {
    vendor: String,
    program: Program,
    start: EngineRole,
    pub(super) common: Common,
    pub(super) health: Health,
    slot: Mutex<Slot>,
    /// Those that somebody uses or that are loaded, by digest.
    files: Mutex<HashMap<[u8; 32], Weak<ModelFile>>>,
    pub(super) gatherings: Gatherings,
    /// Held by those who run; by one alone who tries again.
    together: RwLock<()>,
    /// Who uses a process.
    using: AtomicUsize,
    runs: AtomicU64,
    seen: Mutex<WorkerReport>,
    version: OnceLock<String>,
}

/// What the workers of a host, or of a device, have in common.
pub(crate) struct Common {
    pub(crate) config: EngineConfig,
    /// Of the device.
    pub(crate) queue: Arc<DeviceQueue>,
    pub(crate) metrics: Option<Arc<Metrics>>,
}

/// The process, when there is one, and what is in it.
#[derive(Default)]
struct Slot {
    worker: Option<Arc<Worker>>,
    /// The one that was used last is last.
    loaded: Vec<Loaded>,
    models: u64,
    started: u64,
}

/// A model in a process.
#[derive(Clone)]
pub(super) struct Loaded {
    /// What the process calls it.
    pub(super) number: u64,
    file: Arc<ModelFile>,
    signature: Arc<(Vec<TensorSpec>, Vec<TensorSpec>)>,
    resident_bytes: u64,
}

/// A model as it is handed to processes.
#[derive(Debug)]
pub(super) struct ModelFile {
    pub(super) name: String,
    pub(super) sha256: [u8; 32],
    sealed: File,
    warm_up: BTreeMap<String, Vec<usize>>,
    /// Jobs that have it.
    pub(super) users: AtomicUsize,
}

/// A worker as operators see it.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct WorkerReport {
    /// Whose models it runs.
    pub vendor: String,
    /// Where.
    pub device: Device,
    /// Its engine and version, once it was started.
    pub engine: Option<String>,
    /// Its process, when it runs.
    pub process: Option<u32>,
    /// Processes that were started after the first.
    pub restarts: u64,
    /// Runs so far.
    pub runs: u64,
    /// Models that are loaded, and what they took, bytes.
    pub models: Vec<(String, u64)>,
    /// Walls that do not stand.
    pub missing: Vec<super::cage::Kept>,
}

impl WorkerReport {
    fn of(vendor: &str, device: Device) -> Self {
        let (engine, process, restarts, runs, models, missing) = Default::default();
        Self { vendor: vendor.to_owned(), device, engine, process, restarts, runs, models, missing }
    }
}

/// Why a try did not end well.
pub(super) enum Trouble {
    Died(String),
    /// The process was ended because of somebody else's run.
    Stopped,
    /// Its deadline, or one of the configuration: its name and value.
    Late(Option<(&'static str, u64)>),
    Unwanted,
    Failed(Failure, String),
    Start(NoStart),
    Other(InferenceError),
}

impl Trouble {
    /// Whether the process is of no use any more.
    fn ends_process(&self) -> bool {
        matches!(self, Self::Died(_) | Self::Late(_) | Self::Unwanted)
    }
}

impl From<NoAnswer> for Trouble {
    fn from(no: NoAnswer) -> Self {
        match no {
            NoAnswer::Died(how) => Self::Died(how),
            NoAnswer::Stopped => Self::Stopped,
            NoAnswer::Late => Self::Late(None),
            NoAnswer::Unwanted => Self::Unwanted,
        }
    }
}

impl RemoteEngine {
    pub(crate) fn new(vendor: &str, program: Program, start: EngineRole, common: Common) -> Self {
        let seen = Mutex::new(WorkerReport::of(vendor, start.device));
        let (health, slot, files, gatherings, together, using, runs, version) = Default::default();
        let vendor = vendor.to_owned();
        Self { vendor, program, start, common, health, slot, files, gatherings, together, using, runs, seen, version }
    }

    pub(super) fn count(&self, count: impl FnOnce(&Metrics)) {
        if let Some(metrics) = &self.common.metrics {
            count(metrics);
        }
    }

    pub(super) fn device_name(&self) -> String {
        self.start.device.to_string()
    }

    fn kind(&self) -> EngineKind {
        if self.start.library.is_some() { EngineKind::OnnxRuntime } else { EngineKind::Tract }
    }

    /// A run ended well.
    pub(super) fn ran(&self, file: &ModelFile, items: usize, took: Duration) {
        self.runs.fetch_add(1, Ordering::Relaxed);
        // Loading alone shows nothing: a model can end every run.
        self.health.with(&file.sha256, |record| record.failures = 0);
        self.count(|metrics| metrics.model_ran(&file.name, &self.device_name(), items, took));
    }

    /// As it is, or as it was before the model came that it loads.
    pub(crate) fn report(&self) -> WorkerReport {
        let idle = self.slot.try_lock();
        if let Ok(mut slot) = idle {
            if !slot.is_running() {
                slot.clear();
            }
            self.note(&slot);
        }
        let mut report = self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone();
        report.runs = self.runs.load(Ordering::Relaxed);
        report
    }

    fn note(&self, slot: &Slot) {
        let worker = slot.worker.as_ref();
        let missing = worker.map(|w| w.kept().iter().filter(|kept| kept.missing.is_some()).cloned().collect());
        *self.seen.lock().unwrap_or_else(PoisonError::into_inner) = WorkerReport {
            engine: self.version.get().cloned(),
            process: worker.map(|worker| worker.id()),
            restarts: slot.started.saturating_sub(1),
            models: slot.loaded.iter().map(|l| (l.file.name.clone(), l.resident_bytes)).collect(),
            missing: missing.unwrap_or_default(),
            ..WorkerReport::of(&self.vendor, self.start.device)
        };
    }

    fn lock(&self) -> MutexGuard<'_, Slot> {
        self.slot.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Refuses a model that ended its process too often.
    fn admit(&self, file: &ModelFile) -> Result<(), InferenceError> {
        let most = self.common.config.model_failures_max;
        self.health.with(&file.sha256, |record| match record.failures >= most {
            true => Err(InferenceError::OutOfService {
                model: file.name.clone(),
                failures: record.failures,
                last: record.last.clone(),
            }),
            false => Ok(()),
        })
    }

    fn lost(&self) {
        self.count(|metrics| metrics.worker_lost(&self.vendor, &self.device_name()));
    }

    /// A process ended with a model: whether that was once too often.
    fn failed(&self, file: &ModelFile, how: &str) -> bool {
        let failures = self.health.with(&file.sha256, |record| {
            record.failures += 1;
            how.clone_into(&mut record.last);
            record.failures
        });
        let out = failures >= self.common.config.model_failures_max;
        self.lost();
        let (model, vendor, device) = (&file.name, &self.vendor, self.start.device);
        tracing::warn!(model, vendor, %device, failures, "a worker was lost: it {how}");
        if out {
            tracing::error!(
                model,
                sha256 = crate::hex(&file.sha256),
                vendor,
                "the model is out of service: it ended its worker {failures} times, engines.model_failures_max; start the node again once it is mended"
            );
        }
        out
    }

    /// Does something in a worker that has the model loaded. In a new process, once more, when the process died; but never where
    /// that is of several jobs: then each tries by itself, and the model is not blamed before.
    pub(super) fn in_worker<T>(
        &self,
        file: &Arc<ModelFile>,
        call: &Call<'_>,
        of_several: &dyn Fn() -> bool,
        mut work: impl FnMut(&Worker, &Loaded) -> Result<T, Trouble>,
    ) -> Result<T, InferenceError> {
        self.admit(file)?;
        let permit = self.common.queue.enter(call.turn, call.deadline).map_err(|no| self.no_turn(&file.name, &no))?;
        self.count(|metrics| metrics.model_waited(&file.name, &self.device_name(), permit.waited));
        let mut again = false;
        let mut neighbours = 0;
        loop {
            let trouble = match self.attempt(file, call, again, &mut work) {
                Ok(done) => return Ok(done),
                Err((trouble, _)) if trouble.ends_process() && of_several() => {
                    self.lost();
                    return Err(InferenceError::Crashed { model: file.name.clone(), how: "was ended".into() });
                }
                // Who it was is found by trying each alone.
                Err((Trouble::Died(_), false)) if !again => {
                    self.lost();
                    again = true;
                    continue;
                }
                Err((trouble, _)) => trouble,
            };
            match trouble {
                Trouble::Died(how) => {
                    let out = self.failed(file, &how);
                    if again || out {
                        return Err(InferenceError::Crashed { model: file.name.clone(), how });
                    }
                    again = true;
                }
                Trouble::Stopped if neighbours < NEIGHBOURS_MAX => neighbours += 1,
                Trouble::Stopped => {
                    let how = "was ended again and again because of other runs of its vendor".into();
                    return Err(InferenceError::Crashed { model: file.name.clone(), how });
                }
                Trouble::Late(limit) => {
                    self.count(|metrics| metrics.run_refused("deadline"));
                    // A job that came late says nothing of the model.
                    if limit.is_some() {
                        self.failed(file, "did not end in time, and was ended");
                    }
                    return Err(match limit {
                        Some((limit, ms)) => InferenceError::TooLong { model: file.name.clone(), limit, ms },
                        None => InferenceError::Deadline { model: file.name.clone() },
                    });
                }
                Trouble::Unwanted | Trouble::Start(NoStart::Unwanted) => {
                    return Err(InferenceError::Cancelled { model: file.name.clone() });
                }
                Trouble::Failed(how, text) => return Err(self.error(&file.name, how, text)),
                Trouble::Start(NoStart::Engine(how, text)) => return Err(self.error(&file.name, how, text)),
                Trouble::Start(NoStart::Process(reason)) => {
                    return Err(InferenceError::EngineUnavailable { engine: self.kind(), reason });
                }
                Trouble::Other(error) => return Err(error),
            }
        }
    }

    /// One try; when it fails, also whether it had the process for itself.
    fn attempt<T>(
        &self,
        file: &Arc<ModelFile>,
        call: &Call<'_>,
        alone: bool,
        work: &mut impl FnMut(&Worker, &Loaded) -> Result<T, Trouble>,
    ) -> Result<T, (Trouble, bool)> {
        let _others = (!alone).then(|| self.together.read().unwrap_or_else(PoisonError::into_inner));
        let _nobody = alone.then(|| self.together.write().unwrap_or_else(PoisonError::into_inner));
        self.using.fetch_add(1, Ordering::Relaxed);
        let mut slot = self.lock();
        let ready = self.ready(&mut slot, file, call);
        let worker = slot.worker.clone();
        self.note(&slot);
        drop(slot);
        let done = match (ready, &worker) {
            (Ok(loaded), Some(worker)) => work(worker, &loaded),
            (Ok(_), None) => Err(Trouble::Stopped),
            (Err(trouble), _) => Err(trouble),
        };
        let was_alone = self.using.fetch_sub(1, Ordering::Relaxed) == 1;
        done.map_err(|trouble| {
            if trouble.ends_process() {
                worker.iter().for_each(|worker| worker.stop());
                let mut slot = self.lock();
                if slot.worker.as_ref().zip(worker.as_ref()).is_some_and(|(now, ended)| Arc::ptr_eq(now, ended)) {
                    slot.clear();
                }
            }
            (trouble, was_alone)
        })
    }

    /// The model in a process that runs.
    fn ready(&self, slot: &mut Slot, file: &Arc<ModelFile>, call: &Call<'_>) -> Result<Loaded, Trouble> {
        if !slot.is_running() {
            slot.clear();
            slot.worker = Some(self.begin(call).map_err(Trouble::Start)?);
            slot.started += 1;
        }
        if let Some(place) = slot.loaded.iter().position(|loaded| loaded.file.sha256 == file.sha256) {
            let loaded = slot.loaded.remove(place);
            slot.loaded.push(loaded.clone());
            return Ok(loaded);
        }
        let size = file.sealed.metadata().map_or(0, |found| found.len());
        self.make_room(slot, size, 0, call)?;
        slot.models += 1;
        let number = slot.models;
        let load = self.common.config.load_deadline_ms;
        let (until, limit) = earlier(call.deadline, Duration::from_millis(load), ("engines.load_deadline_ms", load));
        let ask = Ask::Load { model: number, name: file.name.clone(), warm_up: file.warm_up.clone() };
        match slot.worker()?.ask(ask, &[file.sealed.as_fd()], until, &|| call.turn.is_cancelled()) {
            Ok(Answer::Loaded { inputs, outputs, resident_bytes }) => {
                let signature = Arc::new((inputs, outputs));
                let loaded = Loaded { number, file: file.clone(), signature, resident_bytes };
                slot.loaded.push(loaded.clone());
                let resident = slot.resident();
                self.count(|metrics| metrics.worker_models(&self.vendor, &self.device_name(), resident));
                // How much it takes is known only now.
                self.make_room(slot, 0, 1, call)?;
                Ok(loaded)
            }
            Ok(Answer::Failed { how, text }) => Err(Trouble::Failed(how, text)),
            Ok(_) => Err(Trouble::Died("answered what was not asked".into())),
            Err(NoAnswer::Late) => Err(Trouble::Late(limit)),
            Err(no) => Err(no.into()),
        }
    }

    /// Lets go of what was not used for the longest time, until so many bytes more fit, and keeps so many models whatever they
    /// take. Where nothing is loaded and the process holds more all the same, it is ended: that gives all of it back.
    fn make_room(&self, slot: &mut Slot, size: u64, keep: usize, call: &Call<'_>) -> Result<(), Trouble> {
        let most = self.common.config.models_memory_mib << 20;
        while slot.loaded.len() > keep && slot.resident().saturating_add(size) > most {
            let oldest = slot.loaded.remove(0);
            let until = Instant::now() + UNLOAD_MAX;
            let ask = Ask::Unload { model: oldest.number };
            match slot.worker()?.ask(ask, &[], until, &|| call.turn.is_cancelled()) {
                Ok(Answer::Unloaded { resident_bytes }) if slot.loaded.is_empty() && resident_bytes > most => {
                    slot.clear();
                    slot.worker = Some(self.begin(call).map_err(Trouble::Start)?);
                    slot.started += 1;
                }
                Ok(_) => {}
                // The job's deadline has nothing to do with it.
                Err(NoAnswer::Late) => return Err(Trouble::Died("did not let go of a model".into())),
                Err(no) => return Err(no.into()),
            }
        }
        Ok(())
    }

    fn begin(&self, call: &Call<'_>) -> Result<Arc<Worker>, NoStart> {
        let start = Start::new(self.common.config.worker_memory_mib, Role::Engine(self.start.clone()));
        let accepted = &self.common.config.accept_missing;
        let worker = super::begin(&self.program, &start, accepted, &|| call.turn.is_cancelled())?;
        let _ = self.version.set(worker.engine_version().to_owned());
        Ok(Arc::new(worker))
    }

    fn no_turn(&self, model: &str, no: &NoTurn) -> InferenceError {
        let device = self.start.device;
        self.count(|metrics| {
            metrics.run_refused(match no {
                NoTurn::Full(_) => "queue-full",
                NoTurn::Late => "late",
                NoTurn::Cancelled => "cancelled",
            });
        });
        match no {
            NoTurn::Full(waiting) => {
                InferenceError::Busy { device, reason: format!("{waiting} runs wait for it, engines.queue_length_max") }
            }
            NoTurn::Late => InferenceError::Busy { device, reason: "the job's deadline came before its turn".into() },
            NoTurn::Cancelled => InferenceError::Cancelled { model: model.to_owned() },
        }
    }

    pub(super) fn error(&self, model: &str, how: Failure, text: String) -> InferenceError {
        let (engine, model) = (self.kind(), model.to_owned());
        let reason = crate::printable(&text);
        match how {
            Failure::Input => InferenceError::Input(reason),
            Failure::Refused => InferenceError::Refused { model, reason },
            Failure::Load => InferenceError::Load { engine, model, reason },
            Failure::Unsupported => InferenceError::Unsupported { device: self.start.device, model, reason },
            Failure::Deadline => InferenceError::Deadline { model },
            Failure::Engine => InferenceError::EngineUnavailable { engine, reason },
            Failure::Device => InferenceError::DeviceUnavailable { device: self.start.device, reason },
            Failure::Run | Failure::Memory => InferenceError::Run { engine, model, reason },
        }
    }
}

/// The earlier of a deadline and so long from now; which limit it is, unless it is the deadline.
pub(super) fn earlier<L>(deadline: Option<Instant>, most: Duration, limit: L) -> (Instant, Option<L>) {
    let own = Instant::now() + most;
    match deadline {
        Some(deadline) if deadline < own => (deadline, None),
        _ => (own, Some(limit)),
    }
}

impl Slot {
    fn is_running(&self) -> bool {
        self.worker.as_ref().is_some_and(|worker| worker.is_running())
    }

    fn worker(&self) -> Result<&Worker, Trouble> {
        self.worker.as_deref().ok_or(Trouble::Stopped)
    }

    /// Without a process; what was in it is gone. One that others still use ends with them.
    fn clear(&mut self) {
        self.worker = None;
        self.loaded.clear();
    }

    fn resident(&self) -> u64 {
        self.loaded.iter().map(|loaded| loaded.resident_bytes).sum()
    }
}

impl Engine for Arc<RemoteEngine> {
    fn kind(&self) -> EngineKind {
        RemoteEngine::kind(self)
    }

    fn version(&self) -> String {
        self.version.get().cloned().unwrap_or_default()
    }

    fn device(&self) -> Device {
        self.start.device
    }

    fn execution(&self) -> Execution {
        self.start.execution
    }

    fn load(&self, model: &OnnxModel<'_>, call: &Call<'_>) -> Result<Box<dyn Model>, InferenceError> {
        let file = self.file(model)?;
        self.in_worker(&file, call, &|| false, |_, loaded| {
            // Two parsers of ours, one of them where a vendor's bytes may have changed it.
            let (inputs, outputs) = &*loaded.signature;
            match inputs == model.inputs() && outputs == model.outputs() {
                true => Ok(()),
                false => Err(Trouble::Died("states another signature than its file".into())),
            }
        })?;
        let signature = (model.inputs().to_vec(), model.outputs().to_vec());
        Ok(Box::new(RemoteModel::new(self.clone(), file, signature)))
    }
}

impl RemoteEngine {
    /// The model in a file in memory: the one that others use, if they do.
    fn file(&self, model: &OnnxModel<'_>) -> Result<Arc<ModelFile>, InferenceError> {
        let (name, sha256, warm_up) = (crate::printable(model.name()), model.sha256(), model.warm_up());
        let mut files = self.files.lock().unwrap_or_else(PoisonError::into_inner);
        files.retain(|_, file| file.strong_count() > 0);
        let known = files.get(&sha256).and_then(Weak::upgrade);
        if let Some(file) = known.filter(|file| file.name == name && file.warm_up == *warm_up) {
            return Ok(file);
        }
        let sealed = shared::of(model.bytes()).map_err(|e| InferenceError::EngineUnavailable {
            engine: self.kind(),
            reason: format!("a model cannot be handed to a worker: {e}"),
        })?;
        let file = ModelFile { name, sha256, sealed, warm_up: warm_up.clone(), users: AtomicUsize::new(0) };
        let file = Arc::new(file);
        files.insert(sha256, Arc::downgrade(&file));
        Ok(file)
    }
}
