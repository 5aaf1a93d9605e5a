//! The worker itself: the process, its walls and its loop; and what it does as one engine on one device for one vendor's
//! models.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::time::{Duration, Instant};

use super::protocol::{Answer, Ask, Described, EngineRole, Numbered, Role, VERSION, receive, send};
use super::{cage, compile, decode, misused, shared, trusted_code};
use crate::inference::{self, Batch, Call, Engine, InferenceError, Model, OnnxModel, Turn};
use crate::memory::Budget;

/// Answers on its standard input until that is closed. The first message says what it is to be; before it takes a second one,
/// it can do nothing any more but what it is for.
///
/// As an engine, `prepare` is called while files can still be read, and must start no thread: what is started then stays free. `engine` is called
/// when nothing can be done any more. `tools` are for the other roles.
///
/// # Errors
/// It was not started by a host.
pub fn run(
    prepare: impl FnOnce(&StartOf<'_>) -> Result<(), InferenceError>,
    engine: impl FnOnce(&StartOf<'_>) -> Result<Box<dyn Engine>, InferenceError>,
    tools: Tools,
) -> io::Result<std::convert::Infallible> {
    trusted_code::close_inherited()?;
    let socket = io::stdin().as_fd().try_clone_to_owned()?;
    let mut buffer = Vec::new();
    let not_ours = |e: &dyn std::fmt::Display| {
        io::Error::other(format!(
            "`gantry worker` is started by gantry itself, to run models; its input is no host ({e}). To see the workers of a node: `gantry worker list --config FILE`"
        ))
    };
    let first = receive::<Ask>(&socket, &mut buffer).map_err(|e| not_ours(&e))?;
    let Some((Numbered { number, what: Ask::Start(start) }, _)) = first else {
        return Err(not_ours(&"it says nothing"));
    };
    if start.version != VERSION {
        let text =
            format!("the host speaks version {}, this program {VERSION}; was it replaced? Restart", start.version);
        let how = super::protocol::Failure::Engine;
        send(&socket, &Numbered { number, what: Answer::Failed { how, text } }, &[])?;
        std::process::exit(0);
    }
    // The kernel does not count threads of the superuser.
    let is_root = rustix::process::getuid().is_root();
    let left = cage::leave_namespaces();
    // Within a namespace of its own a user has the worker's threads alone.
    let threads_max = left.missing.is_none().then(|| cage::threads_max(start.role.threads()));
    let mut kept = vec![left];
    // Opened while files can be.
    let resident = Resident::of(File::open("/proc/self/statm")?);
    if let Role::Engine(role) = &start.role
        && let Err(e) = prepare(&StartOf(role))
    {
        fail(&socket, number, Answer::failed(&e));
    }
    // Walls are around the threads of those who put them up.
    let threads = std::fs::read_dir("/proc/self/task")?.count();
    if threads != 1 {
        let text = format!("its library started {} threads of its own when it was loaded", threads - 1);
        fail(&socket, number, Answer::Failed { how: super::protocol::Failure::Engine, text });
    }
    let reach = start.role.reach();
    kept.extend(cage::close(&reach, start.memory_mib, threads_max));
    let threads_max = threads_max.filter(|_| !is_root);
    let mut providers = Vec::new();
    let (serve, at_once, engine_version): (Serve, usize, String) = match start.role {
        Role::Engine(role) => {
            let engine = match engine(&StartOf(&role)) {
                Ok(engine) => engine,
                Err(e) => fail(&socket, number, Answer::failed(&e)),
            };
            let version = engine.version();
            providers = engine.providers();
            let (models_max_mib, at_once) = (role.model_max_mib, role.contexts.max(1));
            let threads = role.threads.saturating_mul(at_once);
            let (models, running) = Default::default();
            let work = Work { engine, models, models_max_mib, threads, running, resident };
            (Arc::new(move |ask, files| work.answer(ask, files)), at_once, version)
        }
        Role::Walls(_) => {
            let nothing = |_, _| Answer::failed(&misused("it runs nothing"));
            (Arc::new(nothing), 1, String::new())
        }
        Role::Compile => (Arc::new(move |ask, files| compile::answer(tools.compile, ask, files)), 1, String::new()),
        Role::Decode => {
            let out = Mutex::new(Vec::new());
            let decode = move |ask, files| {
                decode::answer(tools.decode, ask, files, &mut out.lock().unwrap_or_else(PoisonError::into_inner))
            };
            (Arc::new(decode), 1, String::new())
        }
    };
    let started = Answer::Started { version: VERSION, engine_version, providers, kept };
    send(&socket, &Numbered { number, what: started }, &[])?;

    let (asks, asked) = mpsc::channel();
    let (asked, replies) = (Arc::new(Mutex::new(asked)), Arc::new(socket.try_clone()?));
    // One more, so that what is loaded can run while another model is loaded.
    for _ in 0..=at_once {
        let (serve, asked, replies, reach) = (serve.clone(), asked.clone(), replies.clone(), reach.clone());
        // As large as a main thread's, on which compilers and decoders are tried by those who make them.
        std::thread::Builder::new().name("work".into()).stack_size(STACK_BYTES).spawn(move || {
            let _end = EndsProcess;
            loop {
                let next = asked.lock().unwrap_or_else(PoisonError::into_inner).recv();
                let Ok((Numbered { number, what }, files)) = next else { break };
                let what = match what {
                    Ask::Probe(others) => Answer::Probed(cage::probe(&reach, &others, threads_max)),
                    what => serve(what, files),
                };
                if let Err(e) = send(&replies, &Numbered { number, what }, &[]) {
                    let how = super::protocol::Failure::Run;
                    let what = Answer::Failed { how, text: format!("the answer cannot be sent: {e}") };
                    let _ = send(&replies, &Numbered { number, what }, &[]);
                }
            }
        })?;
    }
    // The host's end is seen while there is work.
    while let Ok(Some(ask)) = receive::<Ask>(&socket, &mut buffer) {
        if asks.send(ask).is_err() {
            break;
        }
    }
    // Without the destructors of a library whose threads still run.
    std::process::abort()
}

/// The host is told why there is no worker.
fn fail(socket: &OwnedFd, number: u64, answer: Answer) -> ! {
    let _ = send(socket, &Numbered { number, what: answer }, &[]);
    std::process::exit(0)
}

/// What workers do that run no models.
#[derive(Debug, Clone, Copy)]
pub struct Tools {
    /// Compiles a component.
    pub compile: compile::Compile,
    /// Decodes a frame.
    pub decode: decode::Decode,
}

impl Default for Tools {
    /// The real ones.
    fn default() -> Self {
        Self { compile: crate::sandbox::compile, decode: crate::study::CompressedFrame::decode }
    }
}

/// Of the thread that works.
const STACK_BYTES: usize = 8 << 20;

/// Answers what a role is asked for, from several threads where it does several things at once.
type Serve = Arc<dyn Fn(Ask, Vec<OwnedFd>) -> Answer + Send + Sync>;

/// A host that waits for an answer must not wait for a thread that is gone.
struct EndsProcess;

impl Drop for EndsProcess {
    fn drop(&mut self) {
        std::process::exit(101);
    }
}

/// What an engine is to be, for those who make it.
#[derive(Debug, Clone, Copy)]
pub struct StartOf<'a>(&'a EngineRole);

impl StartOf<'_> {
    /// ONNX Runtime's library; tract where there is none.
    #[must_use]
    pub fn library(&self) -> Option<&std::path::Path> {
        self.0.library.as_deref()
    }

    /// Where its models run.
    #[must_use]
    pub fn device(&self) -> crate::inference::Device {
        self.0.device
    }

    /// What runs them there.
    #[must_use]
    pub fn execution(&self) -> crate::inference::Execution {
        self.0.execution
    }

    /// Threads of one run.
    #[must_use]
    pub fn threads(&self) -> usize {
        self.0.threads
    }

    /// Runs at once.
    #[must_use]
    pub fn contexts(&self) -> usize {
        self.0.contexts
    }
}

/// `/proc/…/statm` of a process, which cannot be opened any more once its walls stand.
#[derive(Debug)]
pub(super) struct Resident {
    statm: File,
    page_bytes: u64,
}

impl Resident {
    pub(super) fn of(statm: File) -> Self {
        Self { statm, page_bytes: rustix::param::page_size() as u64 }
    }

    /// Bytes of the process that are in memory; 0 where the kernel does not say.
    pub(super) fn bytes(&self) -> u64 {
        let mut text = [0; 128];
        let read = self.statm.read_at(&mut text, 0).unwrap_or(0);
        let text = String::from_utf8_lossy(text.get(..read).unwrap_or_default()).into_owned();
        let pages: u64 = text.split(' ').nth(1).and_then(|n| n.parse().ok()).unwrap_or(0);
        pages.saturating_mul(self.page_bytes)
    }
}

/// By number, with their names.
type Models = HashMap<u64, (String, Arc<dyn Model>)>;

struct Work {
    engine: Box<dyn Engine>,
    models: Mutex<Models>,
    models_max_mib: u64,
    /// Of all runs at once.
    threads: usize,
    running: Mutex<Vec<Option<Instant>>>,
    resident: Resident,
}

impl Work {
    fn answer(&self, ask: Ask, files: Vec<OwnedFd>) -> Answer {
        let mut files = files.into_iter();
        let answered = match ask {
            Ask::Load { model, name, warm_up, items } => self.load(model, &name, &warm_up, batch(items), files.next()),
            Ask::Run { model, inputs, deadline_ms, items } => {
                let until = deadline_ms.map(|ms| Instant::now() + Duration::from_millis(ms));
                self.run(model, inputs, until, batch(items), [files.next(), files.next()])
            }
            Ask::Unload { model } => {
                self.models().remove(&model);
                Ok(Answer::Unloaded { resident_bytes: self.resident.bytes() })
            }
            Ask::Start(_) | Ask::Probe(_) | Ask::Compile(_) | Ask::Decode { .. } => Err(misused("it only runs models")),
        };
        answered.unwrap_or_else(|error| Answer::failed(&error))
    }

    fn load(
        &self,
        model: u64,
        name: &str,
        warm_up: &BTreeMap<String, Vec<usize>>,
        batch: Batch,
        file: Option<OwnedFd>,
    ) -> Result<Answer, InferenceError> {
        let _running = self.until(None);
        let before = self.resident.bytes();
        let mapped = mapped(file)?;
        let read = OnnxModel::read(name, mapped.bytes(), self.models_max_mib)?;
        let (budget, turn) = (Budget::unlimited(), Turn::default());
        let call = Call { budget: &budget, deadline: None, turn: &turn, batch };
        let loaded: Arc<dyn Model> = self.engine.load(&read, &call)?.into();
        drop(read);
        drop(mapped);
        inference::warm_up(name, &*loaded, warm_up, &call)?;
        let (inputs, outputs) = (loaded.inputs().to_vec(), loaded.outputs().to_vec());
        self.models().insert(model, (name.to_owned(), loaded));
        Ok(Answer::Loaded { inputs, outputs, resident_bytes: self.resident.bytes().saturating_sub(before) })
    }

    fn run(
        &self,
        model: u64,
        inputs: Vec<Described>,
        deadline: Option<Instant>,
        batch: Batch,
        [from, to]: [Option<OwnedFd>; 2],
    ) -> Result<Answer, InferenceError> {
        let found = self.models().get(&model).cloned();
        let (name, model) = found.ok_or_else(|| misused("there is no such model"))?;
        let budget = Budget::unlimited();
        let inputs = shared::tensors(&mapped(from)?, inputs, &budget)?;
        // Ends what the engine does not, should the host be gone by then too.
        let _running = self.until(deadline);
        let turn = Turn::default();
        let to = File::from(to.ok_or_else(|| misused("no file for outputs"))?);
        let mut described = Vec::new();
        let call = Call { budget: &budget, deadline, turn: &turn, batch };
        model.run_and_show(inputs, &call, &mut |outputs| {
            let pieces: Vec<_> = outputs.iter().map(Into::into).collect();
            described = shared::write(&to, &pieces).map_err(|e| InferenceError::Run {
                engine: self.engine.kind(),
                model: name.clone(),
                reason: format!("its outputs cannot be handed over: {e}"),
            })?;
            Ok(())
        })?;
        Ok(Answer::Ran { outputs: described })
    }

    fn models(&self) -> MutexGuard<'_, Models> {
        self.models.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn running(&self) -> MutexGuard<'_, Vec<Option<Instant>>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Something runs until then, or without end: the process may use processors for as long as all that runs.
    fn until(&self, deadline: Option<Instant>) -> Running<'_> {
        let mut running = self.running();
        running.push(deadline);
        let now = Instant::now();
        let longest = running.iter().map(|end| end.map(|end| end.saturating_duration_since(now)));
        let longest = longest.reduce(|a, b| Some(a?.max(b?))).flatten();
        cage::limit_processor_time(longest, self.threads);
        Running { work: self, deadline }
    }
}

struct Running<'w> {
    work: &'w Work,
    deadline: Option<Instant>,
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        let mut running = self.work.running();
        if let Some(place) = running.iter().position(|deadline| *deadline == self.deadline) {
            running.swap_remove(place);
        }
    }
}

fn batch(items: bool) -> Batch {
    if items { Batch::Items } else { Batch::Whole }
}

fn mapped(file: Option<OwnedFd>) -> Result<shared::Mapped, InferenceError> {
    let file = file.ok_or_else(|| misused("no file"))?;
    shared::map(&file).map_err(|e| misused(&e.to_string()))
}
