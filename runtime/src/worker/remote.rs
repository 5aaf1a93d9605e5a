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
//! nobody is blamed for another's.

use std::cell::Cell;
use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::time::{Duration, Instant};

use super::choice::Program;
use super::host::{NoAnswer, NoStart, Worker};
use super::join::Gatherings;
use super::model::RemoteModel;
use super::protocol::{Answer, Ask, EngineRole, Failure, Role, Start};
use super::shared;
use crate::findings::Urgency;
use crate::inference::{
    Call, Device, DeviceQueue, Engine, EngineConfig, EngineKind, Execution, InferenceError, Model, NoTurn, OnnxModel,
    TensorSpec, Wish,
};
use crate::metrics::{Metrics, ModelOn};
use crate::module::manifest::Sha256Hex;

/// Freeing a model's memory.
const UNLOAD_MAX: Duration = Duration::from_secs(5);
/// So often a run begins anew because others of its vendor ended the process under it.
const NEIGHBOURS_MAX: usize = 8;
/// Who loads a model waits so long for the place of one that others want and do not run.
const PATIENCE: Duration = Duration::from_secs(1);
/// How often one that waits looks whether it is still wanted.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// Sizes of inputs of a model of which it is known how long they take.
const SIZES_MAX: usize = 32;
/// The first run of a size is no measure: engines plan for what they have not seen.
const RUNS_TO_KNOW: u32 = 2;
/// How long a model takes is believed so long after it ran.
const KNOWN_FOR: Duration = Duration::from_secs(600);

/// What is known of a vendor's models on a device: by digest, so that it holds whatever they are called.
#[derive(Debug, Default)]
pub(super) struct Health(Mutex<HashMap<[u8; 32], Record>>);

#[derive(Debug, Clone, Default)]
pub(super) struct Record {
    name: String,
    /// Processes that ended with it, since a run that ended well.
    pub(super) failures: u32,
    /// How the last one did.
    last: String,
    /// Of one item of a batch, where it has batches.
    pub(super) per_item: Option<Duration>,
    /// By bytes of inputs: how many runs, what the fastest took, and when the last was.
    fastest: BTreeMap<u64, (u32, Duration, Instant)>,
}

impl Record {
    /// A run of so many bytes of inputs ended well.
    fn ran(&mut self, bytes: u64, took: Duration) {
        // Loading alone shows nothing: a model can end every run.
        self.failures = 0;
        if self.fastest.len() < SIZES_MAX || self.fastest.contains_key(&bytes) {
            let (runs, least, last) = self.fastest.entry(bytes).or_insert((0, took, Instant::now()));
            *runs = runs.saturating_add(1);
            *least = took.min(*least);
            *last = Instant::now();
        }
    }

    /// What a run of so many bytes takes at least: what the fastest of no more bytes took. Zero where that is not known, or was
    /// long ago: what is refused by it does not run, and would be refused for ever if the machine was slow for a while.
    pub(super) fn takes(&self, bytes: u64) -> Duration {
        let is_known = |(runs, _, last): &(u32, Duration, Instant)| *runs >= RUNS_TO_KNOW && last.elapsed() < KNOWN_FOR;
        let known = self.fastest.range(..=bytes).rev().find(|(_, known)| is_known(known));
        known.map_or(Duration::ZERO, |(_, (_, least, _))| *least)
    }
}

impl Health {
    pub(super) fn with<T>(&self, sha256: &[u8; 32], f: impl FnOnce(&mut Record) -> T) -> T {
        f(self.lock().entry(*sha256).or_default())
    }

    /// Models that failed so often, by name.
    fn out_of_service(&self, failures_max: u32) -> Vec<OutOfService> {
        let records = self.lock();
        let out = records.iter().filter(|(_, record)| record.failures >= failures_max);
        let mut out: Vec<_> = out
            .map(|(sha256, Record { name, failures, last, .. })| OutOfService {
                model: name.clone(),
                sha256: Sha256Hex(*sha256),
                failures: *failures,
                last: last.clone(),
            })
            .collect();
        out.sort_by(|a, b| (&a.model, a.sha256.0).cmp(&(&b.model, b.sha256.0)));
        out
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<[u8; 32], Record>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

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

/// What is in the process, and who is. Locked for moments only.
#[derive(Default)]
struct Inside {
    slot: Slot,
    /// Somebody starts the process, or loads into it.
    loading: bool,
    /// Who loads or runs in it, and how many did so far.
    using: usize,
    begun: u64,
    /// One of them has it alone, or waits for the others to end.
    alone: bool,
}

/// The process, when there is one, and its models.
#[derive(Default)]
struct Slot {
    worker: Option<Arc<Worker>>,
    /// The one that was used last is last.
    loaded: Vec<Loaded>,
    /// Models that were loaded: into any process, and into this one.
    models: u64,
    had: u64,
    started: u64,
}

/// A model in a process. Whoever has a clone of it runs it, or waits for its turn to.
#[derive(Clone)]
pub(super) struct Loaded {
    /// What the process calls it.
    pub(super) number: u64,
    file: Arc<ModelFile>,
    signature: Arc<(Vec<TensorSpec>, Vec<TensorSpec>)>,
    resident_bytes: u64,
    /// Runs of it.
    running: Arc<AtomicUsize>,
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

/// A model that ended too many workers, `engines.model_failures_max`, and is not run until the node starts again.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct OutOfService {
    /// Its name in the package.
    pub model: String,
    /// SHA-256 of its file.
    pub sha256: Sha256Hex,
    /// Workers that ended with it, one after another.
    pub failures: u32,
    /// How the last one did.
    pub last: String,
}

/// Why a try did not end well.
pub(super) enum Trouble {
    Died(String),
    /// The process was refused memory and ended: its words.
    OutOfMemory(String),
    /// The process was ended because of somebody else's run.
    Stopped,
    /// Its deadline, or one of the configuration: its name and value.
    Late(Option<(&'static str, u64)>),
    Unwanted,
    Failed(Failure, String),
    Start(NoStart),
    NoTurn(NoTurn),
    Other(InferenceError),
}

impl Trouble {
    /// Whether the process is of no use any more.
    fn ends_process(&self) -> bool {
        matches!(self, Self::Died(_) | Self::OutOfMemory(_) | Self::Late(_) | Self::Unwanted)
    }
}

impl From<NoAnswer> for Trouble {
    fn from(no: NoAnswer) -> Self {
        match no {
            NoAnswer::Died(how) => Self::Died(how),
            NoAnswer::OutOfMemory(words) => Self::OutOfMemory(words),
            NoAnswer::Stopped => Self::Stopped,
            NoAnswer::Late => Self::Late(None),
            NoAnswer::Unwanted => Self::Unwanted,
        }
    }
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

/// The process, for one who may run in it.
type Entered<'e> = (Use<'e>, Arc<Worker>);

/// Somebody uses the process, until it is dropped.
struct Use<'e> {
    engine: &'e RemoteEngine,
    /// How many had begun, itself included, and whether nobody else was there.
    begun: u64,
    first: bool,
    loads: bool,
    alone: bool,
    runs: Option<Arc<AtomicUsize>>,
}

impl Use<'_> {
    /// Whether nobody else used the process meanwhile.
    fn was_alone(&self) -> bool {
        self.first && self.engine.lock().begun == self.begun
    }
}

impl Drop for Use<'_> {
    fn drop(&mut self) {
        let mut inside = self.engine.lock();
        inside.using -= 1;
        inside.loading &= !self.loads;
        inside.alone &= !self.alone;
        if let Some(runs) = &self.runs {
            runs.fetch_sub(1, Ordering::Relaxed);
        }
        self.engine.changed.notify_all();
    }
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
        self.tried(file, of_several, |alone| {
            loop {
                let loaded = self.loaded(file, wanted.call, alone)?;
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
        mut attempt: impl FnMut(bool) -> Result<T, (Trouble, bool)>,
    ) -> Result<T, InferenceError> {
        self.admit(file)?;
        let mut again = false;
        let mut neighbours = 0;
        loop {
            let trouble = match attempt(again) {
                Ok(done) => return Ok(done),
                Err((trouble, _)) if trouble.ends_process() && of_several() => {
                    self.lost();
                    return Err(InferenceError::Crashed { model: file.name.clone(), how: "was ended".into() });
                }
                // Who it was is found by trying each alone.
                Err((Trouble::Died(_) | Trouble::OutOfMemory(_), false)) if !again => {
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
                trouble => return Err(self.final_error(file, trouble)),
            }
        }
    }

    /// What is not tried again.
    fn final_error(&self, file: &ModelFile, trouble: Trouble) -> InferenceError {
        let model = file.name.clone();
        let refused = |reason| self.count_of(&file.name, |metrics, model| metrics.run_refused(model, reason));
        match trouble {
            Trouble::Died(how) => InferenceError::Crashed { model, how },
            Trouble::OutOfMemory(words) => {
                refused("memory");
                self.failed(file, "took more memory than engines.worker_memory_mib allows");
                InferenceError::OutOfMemory { model, mib: self.common.config.worker_memory_mib, reason: words }
            }
            Trouble::Stopped => {
                let how = "was ended again and again because of other runs of its vendor".into();
                InferenceError::Crashed { model, how }
            }
            Trouble::Late(limit) => {
                refused("deadline");
                match limit {
                    Some((limit, ms)) => {
                        self.failed(file, "did not end in time, and was ended");
                        InferenceError::TooLong { model, limit, ms }
                    }
                    // A job that came late says nothing of the model.
                    None => InferenceError::Deadline { model },
                }
            }
            Trouble::Unwanted | Trouble::Start(NoStart::Unwanted) => InferenceError::Cancelled { model },
            Trouble::Failed(how, text) | Trouble::Start(NoStart::Engine(how, text)) => {
                self.error(&file.name, how, &text)
            }
            Trouble::Start(NoStart::Process(reason)) => {
                InferenceError::EngineUnavailable { engine: self.kind(), reason }
            }
            Trouble::NoTurn(no) => {
                refused(match no {
                    NoTurn::Full(_) => "queue-full",
                    NoTurn::TooOld(_) => "queue-age",
                    NoTurn::Late(_) => "late",
                    NoTurn::Cancelled => "cancelled",
                });
                self.no_turn(model, &no)
            }
            Trouble::Other(error) => {
                if matches!(error, InferenceError::Deadline { .. } | InferenceError::TooLong { .. }) {
                    refused("deadline");
                }
                error
            }
        }
    }

    /// The model in a process that runs; started and loaded, where it is not, without a device.
    fn loaded(&self, file: &Arc<ModelFile>, call: &Call<'_>, alone: bool) -> Result<Loaded, (Trouble, bool)> {
        let mut inside = self.lock();
        let using = loop {
            // One that is to have the process alone waits for who loads into it as well.
            if !(inside.alone || alone && inside.loading) {
                if let Some(loaded) = inside.slot.find(file) {
                    return Ok(loaded);
                }
                if !inside.loading {
                    break self.begin(&mut inside, alone, true, None);
                }
            }
            still_wanted(file, call).map_err(|no| (no, true))?;
            inside = self.wait(inside);
        };
        // From here on nobody begins; those who run come to their end.
        while alone && inside.using > 1 {
            if let Err(no) = still_wanted(file, call) {
                drop(inside);
                return Err((no, true));
            }
            inside = self.wait(inside);
        }
        drop(inside);
        let mut worker = None;
        let done = self.load(file, call, &mut worker);
        self.leave(&using, worker.as_ref(), done)
    }

    /// Uses the process for a run. Nothing where the model is not there any more, or somebody has the process alone: whoever has the
    /// device does not wait for that.
    fn enter(&self, loaded: &Loaded, call: &Call<'_>, alone: bool) -> Result<Option<Entered<'_>>, (Trouble, bool)> {
        let mut inside = self.lock();
        if inside.alone || alone && inside.loading || !inside.slot.has(loaded.number) {
            return Ok(None);
        }
        inside.slot.used(loaded.number);
        let using = self.begin(&mut inside, alone, false, Some(loaded.running.clone()));
        // Those who run have a device too.
        while alone && inside.using > 1 {
            if let Err(no) = still_wanted(&loaded.file, call) {
                drop(inside);
                return Err((no, true));
            }
            inside = self.wait(inside);
        }
        let worker = inside.slot.worker.clone().filter(|_| inside.slot.has(loaded.number));
        drop(inside);
        Ok(worker.map(|worker| (using, worker)))
    }

    fn begin(&self, inside: &mut Inside, alone: bool, loads: bool, runs: Option<Arc<AtomicUsize>>) -> Use<'_> {
        let first = inside.using == 0;
        inside.using += 1;
        inside.begun += 1;
        inside.loading |= loads;
        inside.alone |= alone;
        if let Some(runs) = &runs {
            runs.fetch_add(1, Ordering::Relaxed);
        }
        Use { engine: self, begun: inside.begun, first: first || alone, loads, alone, runs }
    }

    /// What came of using a process, which ends where it is of no use any more; also whether it was used alone.
    fn leave<T>(
        &self,
        using: &Use<'_>,
        worker: Option<&Arc<Worker>>,
        done: Result<T, Trouble>,
    ) -> Result<T, (Trouble, bool)> {
        done.map_err(|trouble| {
            let was_alone = using.was_alone();
            if let Some(worker) = worker.filter(|_| trouble.ends_process()) {
                worker.stop();
                let mut inside = self.lock();
                if inside.slot.is_in(worker) {
                    inside.slot.clear();
                    self.note(&inside);
                }
            }
            (trouble, was_alone)
        })
    }

    /// Loads the model, into a new process where none runs. Who does so is the only one.
    fn load(&self, file: &Arc<ModelFile>, call: &Call<'_>, used: &mut Option<Arc<Worker>>) -> Result<Loaded, Trouble> {
        let size = file.sealed.metadata().map_or(0, |found| found.len());
        *used = Some(self.process(call)?);
        self.make_room(file, size, None, call)?;
        // In the place of one that held too much.
        let worker = self.process(call)?;
        *used = Some(worker.clone());
        let number = {
            let mut inside = self.lock();
            inside.slot.models += 1;
            inside.slot.models
        };
        let load = self.common.config.load_deadline_ms;
        let (until, limit) = earlier(call.deadline, Duration::from_millis(load), ("engines.load_deadline_ms", load));
        let ask = Ask::Load { model: number, name: file.name.clone(), warm_up: file.warm_up.clone() };
        let loaded = match worker.ask(ask, &[file.sealed.as_fd()], until, &|| call.turn.is_cancelled()) {
            Ok(Answer::Loaded { inputs, outputs, resident_bytes }) => {
                let (file, running) = (file.clone(), Arc::default());
                Loaded { number, file, signature: Arc::new((inputs, outputs)), resident_bytes, running }
            }
            Ok(Answer::Failed { how, text }) => return Err(Trouble::Failed(how, text)),
            Ok(_) => return Err(Trouble::Died("answered what was not asked".into())),
            Err(NoAnswer::Late) => return Err(Trouble::Late(limit)),
            Err(no) => return Err(no.into()),
        };
        {
            let mut inside = self.lock();
            if !inside.slot.is_in(&worker) {
                return Err(Trouble::Stopped);
            }
            inside.slot.loaded.push(loaded.clone());
            inside.slot.had += 1;
            self.note(&inside);
        }
        // How much it takes is known only now.
        self.make_room(file, 0, Some(number), call)?;
        Ok(loaded)
    }

    /// The process, started where none runs. For the one who loads.
    fn process(&self, call: &Call<'_>) -> Result<Arc<Worker>, Trouble> {
        {
            let mut inside = self.lock();
            if let Some(worker) = inside.slot.worker.clone().filter(|worker| worker.is_running()) {
                return Ok(worker);
            }
            inside.slot.clear();
        }
        let start = Start::new(self.common.config.worker_memory_mib, Role::Engine(self.start.clone()));
        let accepted = &self.common.config.accept_missing;
        let unwanted = || call.turn.is_cancelled() || call.deadline.is_some_and(|deadline| Instant::now() >= deadline);
        let worker = super::begin(&self.program, &start, accepted, &unwanted).map_err(|no| match no {
            NoStart::Unwanted if !call.turn.is_cancelled() => Trouble::Late(None),
            no => Trouble::Start(no),
        })?;
        let _ = self.version.set(worker.engine_version().to_owned());
        let worker = Arc::new(worker);
        let mut inside = self.lock();
        inside.slot.started += 1;
        inside.slot.worker = Some(worker.clone());
        self.count(|metrics| metrics.worker_started(&self.vendor, &self.device_name(), inside.slot.started > 1));
        self.note(&inside);
        Ok(worker)
    }

    /// Lets go of what was not used for the longest time, until so many bytes more fit. Before a model is loaded, it waits for those
    /// that run, and a moment for those that wait for their turn unless itself is urgent: others may wait for it to have loaded. A
    /// process that holds more than its models took is ended when nobody uses it: that gives all of it back. What was just loaded
    /// is kept.
    fn make_room(&self, file: &ModelFile, size: u64, loaded: Option<u64>, call: &Call<'_>) -> Result<(), Trouble> {
        let (most, before, since) = (self.common.config.models_memory_mib << 20, loaded.is_none(), Instant::now());
        loop {
            let (worker, oldest) = {
                let mut inside = self.lock();
                loop {
                    let Some(worker) = inside.slot.worker.clone() else { return Err(Trouble::Stopped) };
                    let fits = inside.slot.resident().saturating_add(size) <= most;
                    let hurry = call.turn.is_at_least(Urgency::Urgent) || since.elapsed() >= PATIENCE;
                    if let Some(place) = inside.slot.dispensable(loaded, hurry).filter(|_| !fits) {
                        break (worker, Some(inside.slot.loaded.remove(place)));
                    }
                    if fits || !before || inside.slot.loaded.is_empty() {
                        break (worker, None);
                    }
                    still_wanted(file, call)?;
                    inside = self.wait(inside);
                }
            };
            let Some(oldest) = oldest else { break };
            let until = Instant::now() + UNLOAD_MAX;
            match worker.ask(Ask::Unload { model: oldest.number }, &[], until, &|| call.turn.is_cancelled()) {
                Ok(_) => self.note(&self.lock()),
                // The job's deadline has nothing to do with it.
                Err(NoAnswer::Late) => return Err(Trouble::Died("did not let go of a model".into())),
                Err(no) => return Err(no.into()),
            }
        }
        if before {
            self.replace_if_it_holds(most.saturating_sub(size));
        }
        Ok(())
    }

    /// Ends a process that holds more than so much, unless somebody else uses it: what was let go of is not always given back.
    fn replace_if_it_holds(&self, more_than: u64) {
        let mut inside = self.lock();
        let Some(worker) = inside.slot.worker.clone() else { return };
        let held = worker.bytes_of_models().unwrap_or(0);
        let is_wanted = inside.using > 1 || inside.slot.loaded.iter().any(Loaded::is_wanted);
        if held > more_than && !is_wanted && inside.slot.had > 0 {
            tracing::info!(vendor = self.vendor, held, "a worker holds more than its models may take, and is replaced");
            inside.slot.clear();
            self.note(&inside);
            drop(inside);
            worker.stop();
        }
    }

    fn no_turn(&self, model: String, no: &NoTurn) -> InferenceError {
        let device = self.start.device;
        match no {
            NoTurn::Full(waiting) => {
                InferenceError::Busy { device, reason: format!("{waiting} runs wait for it, engines.queue_length_max") }
            }
            NoTurn::TooOld(age) => {
                let (ms, most) = (age.as_millis(), self.common.config.queue_age_max_ms);
                let reason = format!("the run waited {ms} ms for it, engines.queue_age_max_ms = {most}");
                InferenceError::Busy { device, reason }
            }
            NoTurn::Late(why) => InferenceError::TooLate { model, why: *why },
            NoTurn::Cancelled => InferenceError::Cancelled { model },
        }
    }

    pub(super) fn error(&self, model: &str, how: Failure, text: &str) -> InferenceError {
        let (engine, model) = (self.kind(), model.to_owned());
        let reason = crate::printable(text);
        match how {
            // A GPU's memory is no limit of the worker, and another time there is more of it.
            Failure::Load | Failure::Run | Failure::Memory
                if self.start.device == Device::Cpu && tells_of_memory(&reason) =>
            {
                InferenceError::OutOfMemory { model, mib: self.common.config.worker_memory_mib, reason }
            }
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

/// Whether an engine's own words say that it was refused memory: those of C++ and of ONNX Runtime's arena.
fn tells_of_memory(text: &str) -> bool {
    ["bad_alloc", "bad allocation", "Failed to allocate memory for requested buffer"].iter().any(|w| text.contains(w))
}

/// Whether whoever waits for a process still does.
fn still_wanted(file: &ModelFile, call: &Call<'_>) -> Result<(), Trouble> {
    let model = || file.name.clone();
    if call.turn.is_cancelled() {
        return Err(Trouble::Other(InferenceError::Cancelled { model: model() }));
    }
    match call.deadline.is_some_and(|deadline| Instant::now() >= deadline) {
        true => Err(Trouble::Other(InferenceError::Deadline { model: model() })),
        false => Ok(()),
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

impl Loaded {
    /// Whether somebody runs it, or waits for its turn to: the slot's own is one.
    fn is_wanted(&self) -> bool {
        Arc::strong_count(&self.running) > 1
    }

    fn is_running(&self) -> bool {
        self.running.load(Ordering::Relaxed) > 0
    }
}

impl Slot {
    fn is_running(&self) -> bool {
        self.worker.as_ref().is_some_and(|worker| worker.is_running())
    }

    fn is_in(&self, worker: &Arc<Worker>) -> bool {
        self.worker.as_ref().is_some_and(|own| Arc::ptr_eq(own, worker))
    }

    /// The model in a process that runs.
    fn find(&self, file: &ModelFile) -> Option<Loaded> {
        let loaded = self.loaded.iter().find(|loaded| loaded.file.sha256 == file.sha256)?;
        self.is_running().then(|| loaded.clone())
    }

    /// Whether it still has this one. No number is given twice, whatever process it is.
    fn has(&self, number: u64) -> bool {
        self.loaded.iter().any(|loaded| loaded.number == number) && self.is_running()
    }

    fn used(&mut self, number: u64) {
        if let Some(place) = self.loaded.iter().position(|loaded| loaded.number == number) {
            let loaded = self.loaded.remove(place);
            self.loaded.push(loaded);
        }
    }

    /// Which can go, the longest unused first: one that nobody wants, else, in a hurry, one that nobody runs.
    fn dispensable(&self, keep: Option<u64>, hurry: bool) -> Option<usize> {
        let first = |is: &dyn Fn(&Loaded) -> bool| self.loaded.iter().position(|l| Some(l.number) != keep && is(l));
        first(&|loaded| !loaded.is_wanted()).or_else(|| hurry.then(|| first(&|loaded| !loaded.is_running()))?)
    }

    /// Without a process; what was in it is gone. One that others still use ends with them.
    fn clear(&mut self) {
        self.worker = None;
        self.loaded.clear();
        self.had = 0;
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
        let loaded = self.tried(&file, &|| false, |alone| self.loaded(&file, call, alone))?;
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_takes_at_least_what_the_fastest_of_no_more_bytes_took() {
        let ms = Duration::from_millis;
        let mut record = Record::default();
        record.ran(100, ms(9000));
        assert_eq!(record.takes(100), ms(0), "the first may have planned");
        record.ran(100, ms(50));
        record.ran(100, ms(70));
        record.ran(10, ms(5));
        assert_eq!([99, 100, 1 << 40].map(|bytes| record.takes(bytes)), [ms(0), ms(50), ms(50)]);
        record.ran(200, ms(80));
        record.ran(200, ms(90));
        assert_eq!([199, 200].map(|bytes| record.takes(bytes)), [ms(50), ms(80)]);
        (1000..2000).for_each(|bytes| record.ran(bytes, ms(1)));
        assert_eq!(record.fastest.len(), SIZES_MAX);
    }

    #[test]
    fn an_engine_that_was_refused_memory_is_known_by_its_words() {
        for words in [
            "std::bad_alloc",
            "Exception during initialization: bad allocation",
            "Failed to allocate memory for requested buffer of size 107374182400",
        ] {
            assert!(tells_of_memory(words), "{words}");
        }
        assert!(!tells_of_memory("Non-zero status code returned while running MatMul node"));
    }
}
