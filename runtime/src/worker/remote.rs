//! An engine in a process of its own, as the rest of the host sees it.
//!
//! ```text
//! Model::run ─▶ device's queue ─▶ worker (started, model loaded, if not yet) ─▶ run ─▶ outputs
//!                                    ▲                                          │
//!                                    └── once more, in a new process ◀── died ──┘   late: ended, and an error
//! ```
//!
//! A process that died takes its models with it: they are loaded again by whoever needs them next. The files that they are
//! loaded from stay with the host.

use std::collections::HashMap;
use std::fs::File;
use std::os::fd::AsFd;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use super::choice::Program;
use super::host::{NoAnswer, NoStart, Worker};
use super::protocol::{Answer, Ask, Described, EngineRole, Failure, Role, Start};
use super::shared::{self, Piece};
use crate::findings::Urgency;
use crate::inference::{
    Call, Device, DeviceQueue, Dim, Engine, EngineConfig, EngineKind, InferenceError, Model, NoTurn, OnnxModel,
    TensorSpec,
};
use crate::metrics::Metrics;
use crate::tensor::Tensor;

/// After a deadline, until an engine that is to stop by itself is ended.
const GRACE: Duration = Duration::from_millis(250);
/// Freeing a model's memory.
const UNLOAD_MAX: Duration = Duration::from_secs(5);
/// Nobody knows yet how long an item takes.
const FIRST_PIECE: usize = 1;

/// What is known of a vendor's models on a device: by digest, so that it holds whatever they are called.
#[derive(Debug, Default)]
struct Health(Mutex<HashMap<[u8; 32], Record>>);

#[derive(Debug, Clone, Default)]
struct Record {
    /// Processes that ended with it, since a run that ended well.
    failures: u32,
    /// How the last one did.
    last: String,
    /// Of one item of a batch, where it has batches.
    per_item: Option<Duration>,
}

impl Health {
    fn with<T>(&self, sha256: &[u8; 32], f: impl FnOnce(&mut Record) -> T) -> T {
        f(self.0.lock().unwrap_or_else(PoisonError::into_inner).entry(*sha256).or_default())
    }
}

/// An engine for one vendor's models on one device.
pub(crate) struct RemoteEngine {
    vendor: String,
    program: Program,
    start: EngineRole,
    common: Common,
    health: Health,
    slot: Mutex<Slot>,
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
    worker: Option<Worker>,
    /// The one that was used last is last.
    loaded: Vec<Loaded>,
    models: u64,
    started: u64,
    runs: u64,
}

struct Loaded {
    number: u64,
    file: Arc<ModelFile>,
    inputs: Vec<TensorSpec>,
    outputs: Vec<TensorSpec>,
    resident_bytes: u64,
}

struct ModelFile {
    name: String,
    sha256: [u8; 32],
    sealed: File,
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
enum Trouble {
    Died(String),
    /// Its deadline, or one of the configuration: its name and value.
    Late(Option<(&'static str, u64)>),
    Unwanted,
    Failed(Failure, String),
    Start(NoStart),
    Other(InferenceError),
}

impl From<NoAnswer> for Trouble {
    fn from(no: NoAnswer) -> Self {
        match no {
            NoAnswer::Died(how) => Self::Died(how),
            NoAnswer::Late => Self::Late(None),
            NoAnswer::Unwanted => Self::Unwanted,
        }
    }
}

impl RemoteEngine {
    pub(crate) fn new(vendor: &str, program: Program, start: EngineRole, common: Common) -> Self {
        let (health, slot, version) = Default::default();
        let seen = Mutex::new(WorkerReport::of(vendor, start.device));
        Self { vendor: vendor.to_owned(), program, start, common, health, slot, seen, version }
    }

    fn count(&self, count: impl FnOnce(&Metrics)) {
        if let Some(metrics) = &self.common.metrics {
            count(metrics);
        }
    }

    fn device_name(&self) -> String {
        self.start.device.to_string()
    }

    fn kind(&self) -> EngineKind {
        if self.start.library.is_some() { EngineKind::OnnxRuntime } else { EngineKind::Tract }
    }

    /// As it is, or as it was before the run that it is in.
    pub(crate) fn report(&self) -> WorkerReport {
        let idle = self.slot.try_lock();
        if let Ok(mut slot) = idle {
            let gone = !slot.worker.as_mut().is_some_and(Worker::is_running);
            if gone {
                slot.clear();
            }
            self.note(&slot);
        }
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn note(&self, slot: &Slot) {
        let worker = slot.worker.as_ref();
        let missing = worker.map(|w| w.kept().iter().filter(|kept| kept.missing.is_some()).cloned().collect());
        *self.seen.lock().unwrap_or_else(PoisonError::into_inner) = WorkerReport {
            vendor: self.vendor.clone(),
            device: self.start.device,
            engine: self.version.get().cloned(),
            process: worker.map(Worker::id),
            restarts: slot.started.saturating_sub(1),
            runs: slot.runs,
            models: slot.loaded.iter().map(|l| (l.file.name.clone(), l.resident_bytes)).collect(),
            missing: missing.unwrap_or_default(),
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

    /// A process ended with a model: whether that was once too often.
    fn failed(&self, file: &ModelFile, how: &str) -> bool {
        let failures = self.health.with(&file.sha256, |record| {
            record.failures += 1;
            how.clone_into(&mut record.last);
            record.failures
        });
        let out = failures >= self.common.config.model_failures_max;
        self.count(|metrics| metrics.worker_lost(&self.vendor, &self.device_name()));
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

    /// Does something in a worker that has the model loaded. In a new process, once more, when the process died.
    fn in_worker<T>(
        &self,
        file: &Arc<ModelFile>,
        call: &Call<'_>,
        work: impl Fn(&mut Worker, &Loaded) -> Result<T, Trouble>,
    ) -> Result<T, InferenceError> {
        self.admit(file)?;
        let permit = self.common.queue.enter(call.turn, call.deadline).map_err(|no| self.no_turn(&file.name, &no))?;
        self.count(|metrics| metrics.model_waited(&file.name, &self.device_name(), permit.waited));
        let mut slot = self.lock();
        let mut again = true;
        loop {
            let trouble = match self.ready(&mut slot, file, call).and_then(|place| {
                let Slot { worker, loaded, runs, .. } = &mut *slot;
                *runs += 1;
                work(worker.as_mut().expect("it is ready"), &loaded[place])
            }) {
                Ok(done) => {
                    self.note(&slot);
                    return Ok(done);
                }
                Err(trouble) => trouble,
            };
            match trouble {
                Trouble::Died(how) => {
                    slot.clear();
                    let out = self.failed(file, &how);
                    if !again || out {
                        return Err(InferenceError::Crashed { model: file.name.clone(), how });
                    }
                    again = false;
                }
                Trouble::Late(limit) => {
                    slot.clear();
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
                    slot.clear();
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

    /// Where the model is in a process that runs.
    fn ready(&self, slot: &mut Slot, file: &Arc<ModelFile>, call: &Call<'_>) -> Result<usize, Trouble> {
        if !slot.worker.as_mut().is_some_and(Worker::is_running) {
            slot.clear();
            slot.worker = Some(self.begin(call).map_err(Trouble::Start)?);
            slot.started += 1;
        }
        if let Some(place) = slot.loaded.iter().position(|loaded| loaded.file.sha256 == file.sha256) {
            let loaded = slot.loaded.remove(place);
            slot.loaded.push(loaded);
            return Ok(slot.loaded.len() - 1);
        }
        let size = file.sealed.metadata().map_or(0, |found| found.len());
        self.make_room(slot, size, 0, call)?;
        slot.models += 1;
        let number = slot.models;
        let load = self.common.config.load_deadline_ms;
        let (until, limit) = earlier(call.deadline, Duration::from_millis(load), ("engines.load_deadline_ms", load));
        let ask = Ask::Load { model: number, name: file.name.clone() };
        let worker = slot.worker.as_mut().expect("it was started");
        match worker.ask(ask, &[file.sealed.as_fd()], Some(until), &|| call.turn.is_cancelled()) {
            Ok(Answer::Loaded { inputs, outputs, resident_bytes }) => {
                slot.loaded.push(Loaded { number, file: file.clone(), inputs, outputs, resident_bytes });
                let resident = slot.resident();
                self.count(|metrics| metrics.worker_models(&self.vendor, &self.device_name(), resident));
                // How much it takes is known only now.
                self.make_room(slot, 0, 1, call)?;
                Ok(slot.loaded.len() - 1)
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
            let worker = slot.worker.as_mut().expect("something is loaded");
            let until = Instant::now() + UNLOAD_MAX;
            match worker.ask(Ask::Unload { model: oldest.number }, &[], Some(until), &|| call.turn.is_cancelled()) {
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

    fn begin(&self, call: &Call<'_>) -> Result<Worker, NoStart> {
        let start = Start::new(self.common.config.worker_memory_mib, Role::Engine(self.start.clone()));
        let accepted = &self.common.config.accept_missing;
        let worker = super::begin(&self.program, &start, accepted, &|| call.turn.is_cancelled())?;
        let _ = self.version.set(worker.engine_version().to_owned());
        Ok(worker)
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

    fn error(&self, model: &str, how: Failure, text: String) -> InferenceError {
        let (engine, model) = (self.kind(), model.to_owned());
        let reason = crate::printable(&text);
        match how {
            Failure::Input => InferenceError::Input(reason),
            Failure::Refused => InferenceError::Refused { model, reason },
            Failure::Load => InferenceError::Load { engine, model, reason },
            Failure::Deadline => InferenceError::Deadline { model },
            Failure::Engine => InferenceError::EngineUnavailable { engine, reason },
            Failure::Device => InferenceError::DeviceUnavailable { device: self.start.device, reason },
            Failure::Run | Failure::Memory => InferenceError::Run { engine, model, reason },
        }
    }
}

/// The earlier of a deadline and so long from now; which limit it is, unless it is the deadline.
fn earlier<L>(deadline: Option<Instant>, most: Duration, limit: L) -> (Instant, Option<L>) {
    let own = Instant::now() + most;
    match deadline {
        Some(deadline) if deadline < own => (deadline, None),
        _ => (own, Some(limit)),
    }
}

impl Slot {
    /// Without a process; what was in it is gone.
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

    fn load(&self, model: &OnnxModel<'_>, call: &Call<'_>) -> Result<Box<dyn Model>, InferenceError> {
        let sealed = shared::of(model.bytes()).map_err(|e| InferenceError::EngineUnavailable {
            engine: self.kind(),
            reason: format!("a model cannot be handed to a worker: {e}"),
        })?;
        let name = crate::printable(model.name());
        let file = Arc::new(ModelFile { name, sha256: model.sha256(), sealed });
        let (inputs, outputs) = self.in_worker(&file, call, |_, loaded| {
            // Two parsers of ours, one of them where a vendor's bytes may have changed it.
            match loaded.inputs == model.inputs() && loaded.outputs == model.outputs() {
                true => Ok((loaded.inputs.clone(), loaded.outputs.clone())),
                false => Err(Trouble::Died("states another signature than its file".into())),
            }
        })?;
        Ok(Box::new(RemoteModel { engine: self.clone(), file, inputs, outputs }))
    }
}

struct RemoteModel {
    engine: Arc<RemoteEngine>,
    file: Arc<ModelFile>,
    inputs: Vec<TensorSpec>,
    outputs: Vec<TensorSpec>,
}

impl Model for RemoteModel {
    fn inputs(&self) -> &[TensorSpec] {
        &self.inputs
    }

    fn outputs(&self) -> &[TensorSpec] {
        &self.outputs
    }

    fn run(&self, inputs: Vec<Tensor>, call: &Call<'_>) -> Result<Vec<Tensor>, InferenceError> {
        let Some(items) = self.items(&inputs, call) else {
            let whole: Vec<_> = inputs.iter().map(Piece::from).collect();
            return Ok(self.run_piece(&whole, 1, call)?.0);
        };
        let mut done = 0;
        let mut joined: Option<Vec<Joined>> = None;
        while done < items {
            let count = self.piece(items - done);
            let piece: Vec<_> = inputs.iter().map(|tensor| part(tensor, done, count)).collect();
            let (outputs, ran) = self.run_piece(&piece, count, call)?;
            let per_item = ran / u32::try_from(count).unwrap_or(u32::MAX);
            // A slow piece counts at once and is forgotten slowly: the next one must not hold the device for longer.
            self.engine.health.with(&self.file.sha256, |record| {
                let before = record.per_item.unwrap_or(per_item);
                record.per_item = Some(per_item.max(before / 8 * 7 + per_item / 8));
            });
            if outputs.iter().any(|output| output.shape().first() != Some(&count)) {
                return Err(self.engine.error(
                    &self.file.name,
                    Failure::Run,
                    "its manifest says `batch = true`, but an output has not one item for each of the inputs".into(),
                ));
            }
            let joined = joined.get_or_insert_with(|| outputs.iter().map(|_| Joined::default()).collect());
            joined.iter_mut().zip(outputs).for_each(|(joined, output)| joined.pieces.push(output));
            done += count;
        }
        joined.unwrap_or_default().into_iter().map(|joined| joined.tensor(items, call)).collect()
    }
}

/// Pieces of one output.
#[derive(Default)]
struct Joined {
    pieces: Vec<Tensor>,
}

impl Joined {
    fn tensor(mut self, items: usize, call: &Call<'_>) -> Result<Tensor, InferenceError> {
        if self.pieces.len() == 1 {
            return Ok(self.pieces.remove(0));
        }
        let Some(first) = self.pieces.first() else { return Err(InferenceError::Input("an empty batch".into())) };
        let mut shape = first.shape().to_vec();
        if let Some(batch) = shape.first_mut() {
            *batch = items;
        }
        let mut tensor = Tensor::zeroed(shape, first.element(), call.budget)?;
        let mut rest = tensor.data_mut();
        for piece in self.pieces {
            let Some((place, more)) = rest.split_at_mut_checked(piece.data().len()) else {
                return Err(InferenceError::Input("pieces of an output differ in shape".into()));
            };
            place.copy_from_slice(piece.data());
            rest = more;
        }
        match rest.is_empty() {
            true => Ok(tensor),
            false => Err(InferenceError::Input("pieces of an output differ in shape".into())),
        }
    }
}

/// So many items of a batch, in place.
fn part(tensor: &Tensor, from: usize, count: usize) -> Piece<'_> {
    let mut shape = tensor.shape().to_vec();
    let each = tensor.data().len() / shape.first().copied().unwrap_or(1).max(1);
    if let Some(batch) = shape.first_mut() {
        *batch = count;
    }
    let bytes = tensor.data().get(from * each..(from + count) * each).unwrap_or_default();
    Piece { element: tensor.element(), shape, bytes }
}

impl RemoteModel {
    /// How many items a batch has that may be run piece by piece.
    fn items(&self, inputs: &[Tensor], call: &Call<'_>) -> Option<usize> {
        if !call.batch || call.turn.is_at_least(Urgency::Urgent) {
            return None;
        }
        let open = |spec: &TensorSpec| spec.dims.first().is_some_and(|dim| !matches!(dim, Dim::Fixed(_)));
        let items = *inputs.first()?.shape().first()?;
        let same = inputs.iter().all(|tensor| tensor.shape().first() == Some(&items));
        (items > 1 && same && self.inputs.iter().all(open)).then_some(items)
    }

    /// As many items as the device is to be held for.
    fn piece(&self, left: usize) -> usize {
        // A fifth is left: no two runs take the same time.
        let slice = Duration::from_millis(self.engine.common.config.device_slice_ms_max) / 5 * 4;
        let per_item = self.engine.health.with(&self.file.sha256, |record| record.per_item);
        let fit = per_item.map_or(FIRST_PIECE as u128, |each| slice.as_nanos() / each.as_nanos().max(1));
        // Few sizes: engines plan for each that they have not seen.
        let fit = usize::try_from(fit).unwrap_or(left).max(1);
        (1 << fit.ilog2()).min(left)
    }

    /// Outputs, and how long the device was held for them.
    fn run_piece(
        &self,
        inputs: &[Piece<'_>],
        items: usize,
        call: &Call<'_>,
    ) -> Result<(Vec<Tensor>, Duration), InferenceError> {
        let most = self.engine.common.config.compute_deadline_ms;
        let given = || {
            let (from, to) = (shared::empty()?, shared::empty()?);
            let described = shared::write(&from, inputs)?;
            shared::seal(&from)?;
            Ok((from, to, described))
        };
        let handed = |e: std::io::Error| {
            self.engine.error(&self.file.name, Failure::Run, format!("tensors cannot be handed over: {e}"))
        };
        self.engine.in_worker(&self.file, call, |worker, loaded| {
            let since = Instant::now();
            let (from, to, described): (File, File, Vec<Described>) = given().map_err(|e| Trouble::Other(handed(e)))?;
            let limit = ("engines.compute_deadline_ms", most);
            let (until, limit) = earlier(call.deadline, Duration::from_millis(most), limit);
            let left = until.saturating_duration_since(Instant::now());
            let deadline_ms = Some(u64::try_from(left.as_millis()).unwrap_or(u64::MAX));
            let ask = Ask::Run { model: loaded.number, inputs: described, deadline_ms };
            let answer =
                worker.ask(ask, &[from.as_fd(), to.as_fd()], Some(until + GRACE), &|| call.turn.is_cancelled());
            match answer {
                Ok(Answer::Ran { outputs }) if outputs.len() == self.outputs.len() => {
                    // A mapping that could still be written to would keep it open.
                    shared::seal(&to).map_err(|_| Trouble::Died("keeps its outputs open".into()))?;
                    let outputs = shared::read(&to, outputs, call.budget).map_err(|e| match e {
                        shared::ReadError::Tensor(e) => Trouble::Other(e.into()),
                        shared::ReadError::Io(e) => Trouble::Died(format!("gave outputs that are not there ({e})")),
                    })?;
                    // Loading alone shows nothing: a model can end every run.
                    self.engine.health.with(&self.file.sha256, |record| record.failures = 0);
                    let ran = since.elapsed();
                    let engine = &self.engine;
                    engine.count(|metrics| metrics.model_ran(&self.file.name, &engine.device_name(), items, ran));
                    Ok((outputs, ran))
                }
                Ok(Answer::Failed { how: Failure::Deadline, .. }) => Err(Trouble::Other(match limit {
                    Some((limit, ms)) => InferenceError::TooLong { model: self.file.name.clone(), limit, ms },
                    None => InferenceError::Deadline { model: self.file.name.clone() },
                })),
                Ok(Answer::Failed { how, text }) => Err(Trouble::Failed(how, text)),
                Ok(_) => Err(Trouble::Died("answered what was not asked".into())),
                Err(NoAnswer::Late) => Err(Trouble::Late(limit)),
                Err(no) => Err(no.into()),
            }
        })
    }
}
