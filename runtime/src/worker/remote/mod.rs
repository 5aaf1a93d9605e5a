//! An engine in a process of its own, as the rest of the host sees it.
//!
//! ```text
//! Model::run ─▶ worker (started, model loaded, if not yet) ─▶ device's queue ─▶ run ─▶ outputs
//!                 ▲                                                              │
//!                 └────────── once more, in a new process ◀──────────── died ────┘   late: ended, and an error
//! ```
//!
//! A process that died takes its models with it: they are loaded again by whoever needs them next. The files that they are
//! loaded from stay with the host. Whoever starts a process or loads a model holds no device: others run there, also other models
//! of the same process. One loads into a process at a time; it stands on what is in the process ([`Inside`]), and nobody waits
//! for it without looking whether that is still wanted.
//!
//! Where a device takes several runs at once, a process has several: who tries again after a crash then has it alone, so that
//! nobody is blamed for another's. Nor for the memory that models of others hold: who lacks it beside them tries again in a process of
//! its own.
//!
//! `inside` says what is in the process and who uses it, `load` brings models into it, `trouble` is what can go wrong, `health` what
//! is known of models.

mod health;
mod inside;
mod load;
mod trouble;

use std::cell::Cell;
use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::time::{Duration, Instant};

use self::health::Health;
use self::inside::{Inside, Room};
use super::choice::Program;
use super::host::Worker;
use super::join::Gatherings;
use super::model::RemoteModel;
use super::protocol::EngineRole;
use super::shared;
use crate::inference::{
    Call, Device, DeviceQueue, Engine, EngineConfig, EngineKind, Execution, InferenceError, Model, OnnxModel, Wish,
};
use crate::metrics::{Metrics, ModelOn};

pub use self::health::OutOfService;
pub(super) use self::inside::Loaded;
pub(super) use self::trouble::Trouble;

/// So often a run begins anew because others of its vendor ended the process under it.
const NEIGHBOURS_MAX: usize = 8;
/// How often one that waits looks whether it is still wanted.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// An engine for one vendor's models on one device.
pub(crate) struct RemoteEngine {
    vendor: String,
    program: Program,
    start: EngineRole,
    pub(super) common: Common,
    pub(super) health: Health,
    inside: Mutex<Inside>,
    changed: Condvar,
    /// Those that somebody uses or that are loaded, by digest.
    files: Mutex<HashMap<[u8; 32], Weak<ModelFile>>>,
    pub(super) gatherings: Gatherings,
    runs: AtomicU64,
    version: OnceLock<String>,
}

/// What the workers of a host, or of a device, have in common.
pub(crate) struct Common {
    pub(crate) config: EngineConfig,
    /// Of the device.
    pub(crate) queue: Arc<DeviceQueue>,
    pub(crate) metrics: Option<Arc<Metrics>>,
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
    /// What that takes of memory, bytes, where the kernel tells.
    #[serde(default)]
    pub memory_bytes: Option<u64>,
    /// Processes that were started after the first.
    pub restarts: u64,
    /// Runs so far.
    pub runs: u64,
    /// Models that are loaded, and what they took, bytes.
    pub models: Vec<(String, u64)>,
    /// Models that are not run any more.
    #[serde(default)]
    pub out_of_service: Vec<OutOfService>,
    /// Walls that do not stand.
    pub missing: Vec<super::cage::Kept>,
}

/// A run, or a piece of one, that is to have the device.
pub(super) struct Wanted<'w> {
    pub(super) call: &'w Call<'w>,
    /// How long earlier pieces of it waited for the device; this one's wait is added.
    pub(super) waited: &'w Cell<Duration>,
    /// What it takes at least, and with all pieces that are to come.
    pub(super) holds: Duration,
    pub(super) takes: Duration,
}

impl RemoteEngine {
    pub(crate) fn new(vendor: &str, program: Program, start: EngineRole, common: Common) -> Self {
        let (health, inside, changed, files, gatherings, runs, version) = Default::default();
        let vendor = vendor.to_owned();
        Self { vendor, program, start, common, health, inside, changed, files, gatherings, runs, version }
    }

    fn count(&self, count: impl FnOnce(&Metrics)) {
        if let Some(metrics) = &self.common.metrics {
            count(metrics);
        }
    }

    /// Counts what concerns a model.
    fn count_of(&self, model: &str, count: impl FnOnce(&Metrics, ModelOn<'_>)) {
        self.count(|metrics| count(metrics, ModelOn { vendor: &self.vendor, model, device: &self.device_name() }));
    }

    fn device_name(&self) -> String {
        self.start.device.to_string()
    }

    fn kind(&self) -> EngineKind {
        if self.start.library.is_some() { EngineKind::OnnxRuntime } else { EngineKind::Tract }
    }

    /// A run of so many items, or of what has none, and so many bytes of inputs ended well.
    pub(super) fn ran(&self, file: &ModelFile, items: Option<usize>, bytes: u64, took: Duration) {
        self.runs.fetch_add(1, Ordering::Relaxed);
        self.health.with(&file.sha256, |record| {
            record.ran(bytes, took);
            let Some(items) = items else { return };
            let each = took / u32::try_from(items.max(1)).unwrap_or(u32::MAX);
            // A slow run counts at once and is forgotten slowly: the next one must not hold the device for longer.
            let before = record.per_item.unwrap_or(each);
            record.per_item = Some(each.max(before / 8 * 7 + each / 8));
        });
        self.count_of(&file.name, |metrics, model| metrics.model_ran(model, items.unwrap_or(1), took));
    }

    /// As it is now.
    pub(crate) fn report(&self) -> WorkerReport {
        let mut inside = self.lock();
        if inside.slot.worker.is_some() && !inside.slot.is_running() {
            inside.slot.clear();
        }
        self.note(&inside);
        let worker = inside.slot.worker.clone();
        let models = inside.slot.loaded.iter().map(|l| (l.file.name.clone(), l.resident_bytes)).collect();
        let restarts = inside.slot.started.saturating_sub(1);
        drop(inside);
        let missing = worker.iter().flat_map(|w| w.kept()).filter(|kept| kept.missing.is_some()).cloned().collect();
        WorkerReport {
            vendor: self.vendor.clone(),
            device: self.start.device,
            engine: self.version.get().cloned(),
            process: worker.as_ref().map(|worker| worker.id()),
            memory_bytes: worker.as_ref().and_then(|worker| worker.resident_bytes()),
            restarts,
            runs: self.runs.load(Ordering::Relaxed),
            models,
            out_of_service: self.health.out_of_service(self.common.config.model_failures_max),
            missing,
        }
    }

    /// What the process has, for metrics: wherever that changed.
    fn note(&self, inside: &Inside) {
        self.count(|metrics| {
            let (vendor, device) = (&self.vendor, self.device_name());
            metrics.worker_models(vendor, &device, inside.slot.resident());
            let memory = inside.slot.worker.as_ref().map_or(Some(0), |worker| worker.resident_bytes());
            memory.into_iter().for_each(|bytes| metrics.worker_memory(vendor, &device, bytes));
        });
    }

    fn lock(&self) -> MutexGuard<'_, Inside> {
        self.inside.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Until something changed, or a moment: nobody tells when a job is cancelled.
    fn wait<'g>(&self, inside: MutexGuard<'g, Inside>) -> MutexGuard<'g, Inside> {
        self.changed.wait_timeout(inside, LOOK_EVERY).unwrap_or_else(PoisonError::into_inner).0
    }

    /// Refuses a model that ended its process too often.
    fn admit(&self, file: &ModelFile) -> Result<(), InferenceError> {
        let most = self.common.config.model_failures_max;
        let out = self.health.with(&file.sha256, |record| {
            (record.failures >= most).then(|| InferenceError::OutOfService {
                model: file.name.clone(),
                failures: record.failures,
                last: record.last.clone(),
            })
        });
        match out {
            None => Ok(()),
            Some(error) => {
                self.count_of(&file.name, |metrics, model| metrics.run_refused(model, "out-of-service"));
                Err(error)
            }
        }
    }

    fn lost(&self) {
        self.count(|metrics| metrics.worker_lost(&self.vendor, &self.device_name()));
    }

    /// A process ended with a model: whether that was once too often.
    fn failed(&self, file: &ModelFile, how: &str) -> bool {
        let failures = self.health.with(&file.sha256, |record| {
            record.failures += 1;
            how.clone_into(&mut record.last);
            file.name.clone_into(&mut record.name);
            record.failures
        });
        let most = self.common.config.model_failures_max;
        let out = failures >= most;
        self.lost();
        let (model, vendor, device) = (&file.name, &self.vendor, self.start.device);
        tracing::warn!(model, vendor, %device, failures, "a worker was lost: it {how}");
        if out {
            let count = self.health.out_of_service(most).len();
            self.count(|metrics| metrics.models_out_of_service(vendor, &self.device_name(), count));
            tracing::error!(
                model,
                sha256 = crate::hex(&file.sha256),
                vendor,
                "the model is out of service: it ended its worker {failures} times, engines.model_failures_max; start the node again once it is mended"
            );
        }
        out
    }

    /// Runs something in a worker that has the model loaded, when it has the device. In a new process, once more, when the process
    /// died; but never where that is of several jobs: then each tries by itself, and the model is not blamed before.
    pub(super) fn in_worker<T>(
        &self,
        file: &Arc<ModelFile>,
        wanted: &Wanted<'_>,
        of_several: &dyn Fn() -> bool,
        mut work: impl FnMut(&Worker, &Loaded) -> Result<T, Trouble>,
    ) -> Result<T, InferenceError> {
        self.tried(file, of_several, |room| {
            let (mut room, alone) = (room, room != Room::Shared);
            loop {
                let loaded = self.loaded(file, wanted.call, room)?;
                // Once: two that each want it for themselves would end it for each other without end.
                room = if alone { Room::Alone } else { room };
                let Call { turn, deadline, .. } = *wanted.call;
                let Wanted { holds, takes, .. } = *wanted;
                let wish = Wish { turn, deadline, waited: wanted.waited.get(), holds, takes };
                let permit = self.common.queue.enter(&wish).map_err(|no| (Trouble::NoTurn(no), true))?;
                wanted.waited.set(wanted.waited.get() + permit.waited);
                // The process may have gone meanwhile, or the model from it: then others have the device first.
                let Some((using, worker)) = self.enter(&loaded, wanted.call, alone)? else { continue };
                self.count_of(&file.name, |metrics, model| metrics.model_waited(model, permit.waited));
                return self.leave(&using, Some(&worker), work(&worker, &loaded));
            }
        })
    }

    /// Tries, and once more where the process died.
    fn tried<T>(
        &self,
        file: &Arc<ModelFile>,
        of_several: &dyn Fn() -> bool,
        mut attempt: impl FnMut(Room) -> Result<T, (Trouble, bool)>,
    ) -> Result<T, InferenceError> {
        self.admit(file)?;
        let mut room = Room::Shared;
        let mut neighbours = 0;
        loop {
            let trouble = match attempt(room) {
                Ok(done) => return Ok(done),
                Err((trouble, _)) if trouble.ends_process() && of_several() => {
                    self.lost();
                    return Err(InferenceError::Crashed { model: file.name.clone(), how: "was ended".into() });
                }
                // Who it was is found by trying each alone.
                Err((Trouble::Died(_) | Trouble::OutOfMemory(_), false)) if room == Room::Shared => {
                    self.lost();
                    room = Room::Alone;
                    continue;
                }
                // As for what others hold.
                Err((Trouble::Crowded(words), _)) if room != Room::Fresh => {
                    tracing::info!(
                        model = file.name,
                        vendor = self.vendor,
                        words,
                        "tried again in a worker of its own"
                    );
                    self.lost();
                    room = Room::Fresh;
                    continue;
                }
                Err((trouble, _)) => trouble,
            };
            match trouble {
                Trouble::Died(how) => {
                    let out = self.failed(file, &how);
                    if room != Room::Shared || out {
                        return Err(InferenceError::Crashed { model: file.name.clone(), how });
                    }
                    room = Room::Alone;
                }
                Trouble::Stopped if neighbours < NEIGHBOURS_MAX => neighbours += 1,
                trouble => return Err(self.final_error(file, trouble)),
            }
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
        let loaded = self.tried(&file, &|| false, |room| self.loaded(&file, call, room))?;
        // Two parsers of ours, one of them where a vendor's bytes may have changed it.
        let (inputs, outputs) = &*loaded.signature;
        if inputs != model.inputs() || outputs != model.outputs() {
            self.forget(&loaded);
            self.failed(&file, "stated another signature than its file");
            let how = "stated another signature than its file, and was ended".into();
            return Err(InferenceError::Crashed { model: file.name.clone(), how });
        }
        let signature = (model.inputs().to_vec(), model.outputs().to_vec());
        Ok(Box::new(RemoteModel::new(self.clone(), file, signature)))
    }
}

impl RemoteEngine {
    /// Ends the process that has this model.
    fn forget(&self, loaded: &Loaded) {
        let mut inside = self.lock();
        if inside.slot.has(loaded.number)
            && let Some(worker) = inside.slot.worker.take()
        {
            inside.slot.clear();
            self.note(&inside);
            drop(inside);
            worker.stop();
        }
    }

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
