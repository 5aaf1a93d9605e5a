//! Runs a vendor's component without trusting it.
//!
//! ```text
//! Package ──prepare──▶ Prepared: compiled, imports checked against the grants, linked
//! Prepared + JobInput ──run──▶ Outcome: findings, log, what was read, which engines ran
//! ```
//!
//! Read on in this order: [`grants`] (what a module may have), `engine` (wasmtime's settings), `cache` (compiled
//! code), `state` (what one guest can reach), `capability` (the host functions, one file each), `limits`, `session` (modules that
//! look at frames one after another).
//!
//! What a guest cannot do is mostly what is *not* here: no file, socket, environment, clock or randomness is
//! linked unless it was granted by name, and nothing that names a patient crosses the boundary. A language that cannot do
//! without them gets an empty world (`capability/wasi.rs`), in which there is none of them either.

pub mod grants;
mod limits;
mod trusted_code;

mod bindings;
mod cache;
mod capability;
mod engine;
mod meter;
mod session;
mod state;
mod stream_bindings;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use wasmtime::component::types::ComponentItem;
use wasmtime::component::{InstancePre, Linker, ResourceTable, ResourceTableError};
use wasmtime::{Engine, PoolConcurrencyLimitError, Store, Trap, UpdateDeadline};

pub use cache::{CacheError, CodeCache, Origin};
pub use capability::frames::FrameHandle;
pub use capability::study::{InputRecord, SeriesHandle};
pub use capability::upstream::FinishedHandle;
pub use limits::LimitHit;
pub use meter::HostCalls;
pub use session::{Begin, Closed, FrameEnd, PreparedStream, Session};
pub use state::{Failure, JobState};

use crate::config::Limits;
use crate::findings::{Findings, LogLine};
use crate::inference::{Engines, Isolation, LoadedModel, Turn};
use crate::memory::{self, Budget};
use crate::module::manifest::{Interface, Manifest};
use crate::module::package::{Package, PackageError};
use crate::module::world::World;
use crate::study::{ReadError, ReadOptions, Study};
use crate::threads::Threads;
use crate::upstream::{Finished, Handed, UpstreamError};
use crate::worker::{Compiler, NoCode, Wall};
use grants::{Grants, ImportError};
use state::{Cancelled, DeadlineReached};

/// The engine, its clock, its compiler and its code cache: one a process.
#[derive(Debug)]
pub struct Sandbox {
    engine: Engine,
    limits: Limits,
    cache: CodeCache,
    /// In a worker; `None`: here.
    compiler: Option<Compiler>,
    _ticker: engine::Ticker,
}

/// A component, compiled, checked and linked: ready to be instantiated any number of times.
pub struct Prepared {
    analyzer: bindings::AnalyzerPre<JobState>,
    package: Arc<Package>,
    grants: Grants,
    origin: Origin,
    limits: Limits,
}

/// What one job works on.
pub struct JobInput {
    /// The study.
    pub study: Arc<Study>,
    /// Which of its series the module accepts, by position; never empty.
    pub accepted: Vec<usize>,
    /// Results of modules that ran before on this study: read when the guest asks, and may, for them.
    pub upstream: Vec<Handed>,
    /// Earlier studies of the patient, the latest first.
    pub priors: Vec<Prior>,
    /// How pixels are read.
    pub read: ReadOptions,
    /// Runs the models.
    pub engines: Arc<Engines>,
    /// Makes pseudonyms of UIDs: secret, one a site.
    pub pseudonym_key: [u8; 32],
    /// How urgent it is; stops it from outside.
    pub turn: Turn,
}

/// An earlier study of the patient.
#[derive(Debug, Clone)]
pub struct Prior {
    /// As read.
    pub study: Arc<Study>,
    /// Which of its series the module accepts, by position; never empty.
    pub accepted: Vec<usize>,
    /// Days from its date to that of the study that the job is about.
    pub days_before: u32,
}

/// What a job that ran to its end leaves.
pub struct Outcome {
    /// As stated; the output gate has yet to judge them.
    pub findings: Findings,
    /// What the guest logged.
    pub log: Vec<LogLine>,
    /// What was read.
    pub input: InputRecord,
    /// The earlier results that the guest could look at; none where it did not ask.
    pub upstream: Vec<Finished>,
    /// The models that were loaded, with what they ran on.
    pub models: Vec<Arc<LoadedModel>>,
    /// A limit that the module hit, and went on.
    pub limit: Option<LimitHit>,
    /// The most voxels and tensors that were on the host at once, bytes.
    pub host_memory_peak: u64,
    /// All memories of the guest together when it ended, bytes: they never shrink.
    pub guest_memory_peak: u64,
    /// What the guest called.
    pub host_calls: BTreeMap<Interface, HostCalls>,
    /// From an empty store to the first guest instruction.
    pub instantiation: Duration,
    /// Inside the guest and the host functions that it called.
    pub analysis: Duration,
}

impl std::fmt::Debug for Outcome {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Outcome").field("host_calls", &self.host_calls).finish_non_exhaustive()
    }
}

/// Why a component could not be made ready. The vendor's or the operator's to mend.
#[derive(Debug, thiserror::Error)]
pub enum PrepareError {
    /// The file is no WebAssembly component, or one that this runtime cannot compile.
    #[error("{path} is not a WebAssembly component that this runtime can load: {reason}", path = path.display())]
    NotAComponent {
        /// The file.
        path: std::path::PathBuf,
        /// What the compiler said.
        reason: String,
    },
    /// Its memories, tables or instances do not fit the limits, as its own declarations say.
    #[error(
        "{path} declares more than guest_memory_mib, guest_table_elements_max or guest_instances_max allow: {reason}",
        path = path.display()
    )]
    TooLarge {
        /// The file.
        path: std::path::PathBuf,
        /// What it declares.
        reason: String,
    },
    /// It was not compiled in time.
    #[error(
        "{path} was not compiled within compile_deadline_ms = {ms}; let its vendor make it smaller, or raise limits.compile_deadline_ms",
        path = path.display()
    )]
    CompileTooLong {
        /// The file.
        path: std::path::PathBuf,
        /// The limit.
        ms: u64,
    },
    /// It ended the process that compiled it.
    #[error(
        "compiling {path} ended its worker: the process {how}; it crashed the compiler, or takes more memory than compile_memory_mib = {memory_mib}: use another version of the module, or raise limits.compile_memory_mib",
        path = path.display()
    )]
    CompilerLost {
        /// The file.
        path: std::path::PathBuf,
        /// How the process ended.
        how: String,
        /// The limit.
        memory_mib: u64,
    },
    /// The host: no process to compile it in.
    #[error("components cannot be compiled here: {0}")]
    NoCompiler(String),
    /// It imports what was not granted.
    #[error(transparent)]
    Import(#[from] ImportError),
    /// It does not export what its world does, or imports something of another shape.
    #[error("the component does not fit the world {}: {reason}", world.name())]
    World {
        /// What it was to fit.
        world: World,
        /// Why it does not.
        reason: String,
    },
    /// It is a module of another kind.
    #[error("the module is one of the world {}, and this runs those of {}; use `{}`", is.name(), wanted.name(), is.command())]
    OtherWorld {
        /// What it is.
        is: World,
        /// What was to be run.
        wanted: World,
    },
    /// The package does not hold what its manifest says.
    #[error(transparent)]
    Package(#[from] PackageError),
}

/// Why a job did not end well. Nothing that it stated is used.
#[derive(Debug, thiserror::Error)]
pub enum JobError {
    /// A configured limit was hit.
    #[error("{0}")]
    Limit(LimitHit),
    /// The guest trapped.
    #[error("the module trapped: {0}")]
    Trap(String),
    /// The guest returned an error.
    #[error("the module failed: {0}")]
    Module(String),
    /// An engine could not load or run a model, and the guest did not go on without. The host, or the model.
    #[error("the module ended without findings after a model could not be run: {0}")]
    Engine(String),
    /// The host had no room to start the guest.
    #[error("the guest could not be started: {0}")]
    Host(String),
    /// The input that the guest asked for could not be read.
    #[error(transparent)]
    Read(Box<ReadError>),
    /// A result that the guest asked for is not what an earlier module left.
    #[error(transparent)]
    Upstream(Box<UpstreamError>),
    /// The package does not hold the model that the guest asked for as its manifest says.
    #[error(transparent)]
    Package(Box<PackageError>),
    /// Somebody cancelled it.
    #[error("the job was cancelled")]
    Cancelled,
}

/// A job that did not end well, and what the module logged until then.
#[derive(Debug, thiserror::Error)]
#[error("{error}")]
pub struct JobFailure {
    /// Why.
    pub error: JobError,
    /// The last line of a Rust module that panicked says where.
    pub log: Vec<LogLine>,
}

impl From<JobError> for JobFailure {
    fn from(error: JobError) -> Self {
        Self { error, log: Vec::new() }
    }
}

/// Characters of a guest's own error that are shown.
const MODULE_ERROR_CHARS: usize = 4096;
/// Room on a guest's thread for host functions, beside the guest's own stack.
const HOST_STACK_BYTES: usize = 8 << 20;

impl Sandbox {
    /// Starts the engine. Components are compiled in workers of `isolation`, without the walls that `accept_missing` names.
    pub fn new(
        limits: &Limits,
        cache: CodeCache,
        isolation: &Isolation,
        accept_missing: &[Wall],
    ) -> wasmtime::Result<Self> {
        let compiler =
            isolation.program()?.map(|program| Compiler { program, accept_missing: accept_missing.to_vec() });
        let engine = engine::engine(limits)?;
        let ticker = engine::Ticker::start(&engine)?;
        Ok(Self { engine, limits: limits.clone(), cache, compiler, _ticker: ticker })
    }

    /// Compiles (or finds compiled) a package's component, refuses imports that were not granted, and links it.
    pub fn prepare(&self, package: Arc<Package>, grants: Grants) -> Result<Prepared, PrepareError> {
        let (linked, origin) = self.link(&package, &grants, World::Analyzer)?;
        let analyzer = bindings::AnalyzerPre::new(linked).map_err(|e| does_not_fit(World::Analyzer, &e))?;
        let limits = module_limits(&self.limits, package.manifest());
        Ok(Prepared { analyzer, package, grants, origin, limits })
    }

    /// The same of a module that looks at frames one after another.
    pub fn prepare_stream(&self, package: Arc<Package>, grants: Grants) -> Result<PreparedStream, PrepareError> {
        let (linked, origin) = self.link(&package, &grants, World::FrameAnalyzer)?;
        let limits = module_limits(&self.limits, package.manifest());
        PreparedStream::new(linked, package, grants, origin, limits)
    }

    fn link(
        &self,
        package: &Package,
        grants: &Grants,
        wanted: World,
    ) -> Result<(InstancePre<JobState>, Origin), PrepareError> {
        // Read and checked even when its compiled code is there: a package is believed whole or not at all.
        let bytes = package.component(self.limits.component_max_mib)?;
        let compile = |component: &[u8]| match &self.compiler {
            Some(compiler) => compiler.compile(&self.limits, component),
            None => compile(&self.limits, component).map_err(NoCode::Refused),
        };
        let (component, origin) = self.cache.component(&self.engine, &bytes, compile).map_err(|no| {
            let path = package.component_path();
            match no {
                // wasmtime has no type for this: what does not fit the pool is found when code is loaded.
                NoCode::Refused(reason) if reason.contains("pooling allocator") => {
                    PrepareError::TooLarge { path, reason }
                }
                NoCode::Refused(reason) => PrepareError::NotAComponent { path, reason },
                NoCode::TooLong => PrepareError::CompileTooLong { path, ms: self.limits.compile_deadline_ms },
                NoCode::Died(how) => {
                    PrepareError::CompilerLost { path, how, memory_mib: self.limits.compile_memory_mib }
                }
                NoCode::Host(reason) => PrepareError::NoCompiler(reason),
            }
        })?;
        let types = component.component_type();
        let is = World::of_exports(types.exports(&self.engine).map(|(name, _)| name));
        if let Some(is) = is.filter(|is| *is != wanted) {
            return Err(PrepareError::OtherWorld { is, wanted });
        }
        for (name, item) in types.imports(&self.engine) {
            // A type that the world names: what there is of it comes from an interface, which is judged itself.
            if !name.contains(':') && matches!(item.ty, ComponentItem::Type(_) | ComponentItem::Resource(_)) {
                continue;
            }
            grants.check_import(name)?;
            let path = name.split('@').next().unwrap_or(name);
            if Interface::of_import(path).is_some_and(|interface| !wanted.offers(interface)) {
                let reason = format!("it imports `{name}`, which modules of this world cannot have");
                return Err(PrepareError::World { world: wanted, reason });
            }
        }
        let mut linker = Linker::new(&self.engine);
        capability::link(&mut linker, grants, wanted).map_err(|e| does_not_fit(wanted, &e))?;
        let linked = linker.instantiate_pre(&component).map_err(|e| does_not_fit(wanted, &e))?;
        Ok((linked, origin))
    }
}

fn does_not_fit(world: World, error: &wasmtime::Error) -> PrepareError {
    PrepareError::World { world, reason: format!("{error:#}") }
}

/// Compiles a component in this process: what a worker does. `Err` has wasmtime's words.
///
/// # Errors
/// It is no component, or one that wasmtime cannot compile.
pub fn compile(limits: &Limits, component: &[u8]) -> Result<Vec<u8>, String> {
    engine::compiler(limits).and_then(|engine| engine.precompile_component(component)).map_err(|e| format!("{e:#}"))
}

/// A module may ask for less than the site allows, never for more.
fn module_limits(site: &Limits, manifest: &Manifest) -> Limits {
    let asked = &manifest.limits;
    Limits {
        guest_memory_mib: asked.guest_memory_mib.unwrap_or(site.guest_memory_mib).min(site.guest_memory_mib),
        host_memory_mib: asked.host_memory_mib.unwrap_or(site.host_memory_mib).min(site.host_memory_mib),
        job_deadline_ms: asked.job_deadline_ms.unwrap_or(site.job_deadline_ms).min(site.job_deadline_ms),
        ..site.clone()
    }
}

/// Stack that a thread needs to run guests, bytes.
#[must_use]
pub fn stack_bytes(limits: &Limits) -> usize {
    HOST_STACK_BYTES + (limits.guest_stack_kib << 10)
}

impl Prepared {
    /// Whether it was compiled now or found.
    #[must_use]
    pub fn origin(&self) -> Origin {
        self.origin
    }

    /// What it was made of.
    #[must_use]
    pub fn package(&self) -> &Package {
        &self.package
    }

    /// What it may use.
    #[must_use]
    pub fn grants(&self) -> &Grants {
        &self.grants
    }

    /// Makes a store and an instance, and runs nothing: what `bench sandbox` times.
    pub fn instantiate(&self, input: JobInput) -> wasmtime::Result<()> {
        let mut store = self.store(input);
        self.analyzer.instantiate(&mut store)?;
        Ok(())
    }

    /// Runs one job to its end: on the threads that it is on, where they will do, else on some of its own.
    pub fn run(&self, input: JobInput) -> Result<Outcome, JobFailure> {
        let stack = stack_bytes(&self.limits);
        if Threads::are_here(stack) {
            return self.run_here(input);
        }
        match Threads::start("gantry-compute", Some(stack)) {
            Ok(threads) => threads.run(|| self.run_here(input)),
            Err(e) => Err(JobError::Host(format!("no threads for it: {e}")).into()),
        }
    }

    fn run_here(&self, input: JobInput) -> Result<Outcome, JobFailure> {
        let started = Instant::now();
        let mut store = self.store(input);
        let instance = match self.analyzer.instantiate(&mut store) {
            Ok(instance) => instance,
            Err(error) => return Err(judge(error, store.into_data()).into()),
        };
        let instantiation = started.elapsed();
        let started = Instant::now();
        let answer = instance.call_analyze(&mut store);
        let analysis = started.elapsed();
        let state = store.into_data();
        let log = state.log.finish();
        let error = match answer {
            // A guest that goes on without what the host could not give it would conclude from less than it was sent.
            Ok(Ok(())) if state.input_failed() => deeper_cause(state).expect("one of them is there"),
            Ok(Ok(())) => {
                return Ok(Outcome {
                    guest_memory_peak: state.growth.memory_bytes_used(),
                    limit: state.growth.hit,
                    host_memory_peak: state.budget.peak(),
                    host_calls: state.meter.record(),
                    findings: state.findings,
                    log,
                    input: state.study.record(),
                    upstream: state.upstream.record(),
                    models: state.models.record(),
                    instantiation,
                    analysis,
                });
            }
            Ok(Err(text)) => deeper_cause(state).unwrap_or_else(|| JobError::Module(printable(&text))),
            Err(error) => judge(error, state),
        };
        Err(JobFailure { error, log })
    }

    fn store(&self, input: JobInput) -> Store<JobState> {
        let log = capability::log::JobLog::new(self.limits.log_kib);
        store(self.analyzer.engine(), &self.package, &self.grants, &self.limits, input, log)
    }
}

/// A store in which one guest runs.
fn store(
    engine: &Engine,
    package: &Arc<Package>,
    grants: &Grants,
    limits: &Limits,
    input: JobInput,
    log: capability::log::JobLog,
) -> Store<JobState> {
    let limits = limits.clone();
    let mut table = ResourceTable::new();
    table.set_max_capacity(limits.handles_max);
    let deadline = capability::nn::Deadline::new(state::deadline(&limits));
    // Findings are judged when the guest is gone, and no deadline holds any more: so it must not keep this alive.
    let clock = Arc::new(state::Clock { deadline: deadline.clone(), turn: input.turn.clone() });
    let watched = Arc::downgrade(&clock);
    let over = move || watched.upgrade().is_some_and(|clock| clock.is_over());
    let budget = Budget::of_job(memory::bytes_of(limits.host_memory_mib), over);
    let models = capability::nn::Models::new(
        package.clone(),
        input.engines,
        capability::nn::Job { budget: budget.clone(), deadline, turn: input.turn },
    );
    let upstream = capability::upstream::UpstreamView::new(
        input.upstream,
        input.study.clone(),
        input.read.clone(),
        budget.clone(),
    );
    let study = capability::study::StudyView::new(
        input.study,
        input.accepted,
        input.priors,
        grants,
        input.pseudonym_key,
        input.read,
        budget.clone(),
    );
    let list_bytes = limits.guest_list_mib << 20;
    let state = JobState {
        table,
        growth: limits::GrowthLimiter::new(&limits),
        budget,
        study,
        upstream,
        copied: BTreeSet::new(),
        models,
        findings: Findings::default(),
        wasi: capability::wasi::Wasi::new(log.clone(), grants),
        log,
        meter: meter::Meter::default(),
        clock,
        limits,
    };
    let mut store = Store::new(engine, state);
    store.limiter(|state| &mut state.growth);
    // One tick, then ask: the callback decides by the clock, not by counting.
    store.set_epoch_deadline(1);
    store.epoch_deadline_callback(|context| {
        context.data().check_time()?;
        Ok(UpdateDeadline::Continue(1))
    });
    store.set_hostcall_fuel(list_bytes);
    store
}

/// Says in our words why the guest was stopped.
fn judge(error: wasmtime::Error, state: JobState) -> JobError {
    if error.downcast_ref::<Cancelled>().is_some() {
        return JobError::Cancelled;
    }
    let limit = |limit, detail: String| JobError::Limit(LimitHit { limit, detail });
    if let Some(deadline) = error.downcast_ref::<DeadlineReached>() {
        return limit("job_deadline_ms", deadline.to_string());
    }
    // Of WASI's own handles, whose functions have no failure to answer with.
    if matches!(error.downcast_ref::<ResourceTableError>(), Some(ResourceTableError::Full)) {
        let most = state.limits.handles_max;
        return limit("handles_max", format!("the guest holds as many handles as handles_max = {most} allows"));
    }
    let text = format!("{error:#}");
    if error.downcast_ref::<Trap>() == Some(&Trap::StackOverflow) {
        let kib = state.limits.guest_stack_kib;
        return limit("guest_stack_kib", format!("the guest used up its stack; guest_stack_kib = {kib}"));
    }
    // wasmtime keeps this error's type to itself; a test holds us to its text.
    if text.contains("fuel allocated for hostcalls has been exhausted") {
        let mib = state.limits.guest_list_mib;
        return limit("guest_list_mib", format!("the guest passed a list larger than guest_list_mib = {mib}"));
    }
    if error.is::<PoolConcurrencyLimitError>() {
        return JobError::Host(last_words(&error));
    }
    if let Some(wasmtime_wasi::I32Exit(status)) = error.downcast_ref() {
        let text = format!("it ended itself with exit status {status}; its last lines in the log may say why");
        return deeper_cause(state).unwrap_or(JobError::Module(text));
    }
    deeper_cause(state).unwrap_or_else(|| JobError::Trap(last_words(&error)))
}

/// Why the host refused the guest something earlier, which is why it then gave up: a better reason than its last
/// words.
fn deeper_cause(state: JobState) -> Option<JobError> {
    let read = state.study.failed.map(|error| JobError::Read(Box::new(error)));
    let upstream = || state.upstream.failed.map(|error| JobError::Upstream(Box::new(error)));
    let package = || state.models.failed.map(|error| JobError::Package(Box::new(error)));
    let limit = || state.growth.hit.map(JobError::Limit);
    let engine = || state.models.engine_failed.map(JobError::Engine);
    read.or_else(upstream).or_else(package).or_else(limit).or_else(engine)
}

/// The cause, without the guest's backtrace, which only its vendor can read.
fn last_words(error: &wasmtime::Error) -> String {
    printable(&error.root_cause().to_string())
}

fn printable(text: &str) -> String {
    text.chars().take(MODULE_ERROR_CHARS).map(|c| if c.is_control() && c != '\n' { ' ' } else { c }).collect()
}
