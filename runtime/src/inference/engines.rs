//! Which engines there are, and which one runs a model.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use super::onnxruntime::OnnxRuntime;
use super::tract::Tract;
use super::{
    Call, Device, DeviceQueue, Engine, EngineConfig, EngineKind, EnginePreference, Execution, InferenceError,
    Isolation, LoadedModel, OnnxModel, Provider, QueueLimits,
};
use crate::metrics::Metrics;
use crate::worker::{self, Common, RemoteEngine, WorkerReport};

/// The engines of a host. Cheap to find, started when the first model needs one: loading ONNX Runtime takes
/// longer than everything else at start.
pub struct Engines {
    config: EngineConfig,
    library: Option<PathBuf>,
    started: Mutex<HashMap<(String, Device), Started>>,
    queues: Mutex<HashMap<Device, Arc<DeviceQueue>>>,
    metrics: OnceLock<Arc<Metrics>>,
}

#[derive(Clone)]
enum Started {
    Here(Arc<dyn Engine>),
    Worker(Arc<RemoteEngine>),
}

/// Of a library that is not there.
const LIBRARY_REMEDY: &str = "set onnxruntime_library or GANTRY_ONNXRUNTIME, or use engine = \"tract\" ([engines] in \
                                         gantry.toml), or run `cargo xtask assets` in a checkout";

/// A model that is to be loaded.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// Whose it is: vendors share no process.
    pub vendor: &'a str,
    /// Its name in the package.
    pub name: &'a str,
    /// The file.
    pub bytes: &'a [u8],
    /// Where it is to run.
    pub target: Device,
    /// Shapes of its inputs, by name, for a first run when it is loaded.
    pub warm_up: Option<&'a BTreeMap<String, Vec<usize>>>,
}

impl Engines {
    /// Looks for what the configuration asks for; loads nothing.
    ///
    /// Fails with [`InferenceError::EngineUnavailable`] when ONNX Runtime is asked for and not there.
    pub fn discover(config: &EngineConfig) -> Result<Self, InferenceError> {
        let unavailable = |reason| InferenceError::EngineUnavailable { engine: EngineKind::OnnxRuntime, reason };
        config.check().map_err(unavailable)?;
        let library = match config.engine {
            EnginePreference::Tract => None,
            EnginePreference::Auto | EnginePreference::OnnxRuntime => {
                find_library(config.onnxruntime_library.as_deref())
            }
        };
        match &library {
            // It was named: falling back to another engine would hide the mistake.
            Some(path) if !path.is_file() => {
                let path = path.display();
                return Err(unavailable(format!("there is no library at {path}; {LIBRARY_REMEDY}")));
            }
            None if config.engine == EnginePreference::OnnxRuntime || config.cpu.provider == Provider::OpenVino => {
                return Err(unavailable(format!("its library was not found; {LIBRARY_REMEDY}")));
            }
            _ => {}
        }
        let (started, queues, metrics) = Default::default();
        Ok(Self { config: config.clone(), library, started, queues, metrics })
    }

    /// Counts and times what runs from now on, in workers that are not started yet.
    pub fn count(&self, metrics: Arc<Metrics>) {
        // Whoever came first counts.
        let _ = self.metrics.set(metrics);
    }

    /// The engine that models will run on.
    #[must_use]
    pub fn kind(&self) -> EngineKind {
        if self.library.is_some() { EngineKind::OnnxRuntime } else { EngineKind::Tract }
    }

    /// ONNX Runtime's library, if it is used.
    #[must_use]
    pub fn library(&self) -> Option<&Path> {
        self.library.as_deref()
    }

    /// Whether tract stands in for ONNX Runtime, whose library was not found.
    #[must_use]
    pub fn lacks_library(&self) -> bool {
        self.library.is_none() && self.config.engine == EnginePreference::Auto
    }

    /// The largest model that [`Engines::load`] takes, MiB.
    #[must_use]
    pub fn model_max_mib(&self) -> u64 {
        self.config.model_max_mib
    }

    /// Loads a model to run where it asks to.
    ///
    /// A GPU that cannot be had is an error, unless the operator allowed the CPU in its place: then
    /// [`LoadedModel::fallback`] says why.
    pub fn load(&self, request: Request<'_>, call: &Call<'_>) -> Result<LoadedModel, InferenceError> {
        let begun = Instant::now();
        let Request { vendor, name, bytes, target, warm_up } = request;
        let mut model = OnnxModel::read(name, bytes, self.config.model_max_mib)?;
        if let Some(shapes) = warm_up {
            model = model.warmed_up_by(shapes);
        }
        let load_on = |device| match self.engine(vendor, device)? {
            Started::Here(engine) => loaded(&model, &*engine, call, target),
            Started::Worker(engine) => loaded(&model, &engine, call, target),
        };
        let (fallback, mut loaded) = match load_on(target) {
            Err(error) if target == Device::Gpu && self.config.gpu_fallback_to_cpu && lacks_gpu(&error) => {
                let reason = error.without_remedy();
                tracing::warn!(model = super::name(name), vendor, reason, "falls back from GPU to CPU");
                let loaded = load_on(Device::Cpu)?;
                if let Some(metrics) = self.metrics.get() {
                    metrics.gpu_fallback(&super::name(name), vendor);
                }
                (Some(reason), loaded)
            }
            result => (None, result?),
        };
        loaded.came_up(fallback, begun.elapsed());
        Ok(loaded)
    }

    /// The engine of a vendor and a device, started if it has not been.
    fn engine(&self, vendor: &str, device: Device) -> Result<Started, InferenceError> {
        // Without a process of its own there is nothing that vendors could share.
        let vendor = if self.config.isolation == Isolation::SameProcess { "" } else { vendor };
        let mut started = self.started.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (vendor.to_owned(), device);
        if let Some(engine) = started.get(&key) {
            return Ok(engine.clone());
        }
        let (library, threads) = (self.library.as_deref(), self.threads());
        let program = self.config.isolation.program().map_err(|e| InferenceError::EngineUnavailable {
            engine: self.kind(),
            reason: format!("the system does not say which program this is ({e}), so no worker can be started"),
        })?;
        let engine = match program {
            None => {
                let execution = self.config.execution(device);
                Started::Here(local(library, device, execution, threads, self.config.runs_at_once_max)?.into())
            }
            Some(program) => {
                let start = worker::start(&self.config, self.library.clone(), device, threads);
                let common = Common {
                    config: self.config.clone(),
                    queue: self.queue(device),
                    metrics: self.metrics.get().cloned(),
                };
                let engine = RemoteEngine::new(vendor, program, start, common);
                Started::Worker(Arc::new(engine))
            }
        };
        started.insert(key, engine.clone());
        Ok(engine)
    }

    fn queue(&self, device: Device) -> Arc<DeviceQueue> {
        let mut queues = self.queues.lock().unwrap_or_else(PoisonError::into_inner);
        let limits = QueueLimits {
            at_once: self.config.runs_at_once_max,
            length_max: self.config.queue_length_max,
            age_max: Some(self.config.queue_age_max_ms).filter(|ms| *ms > 0).map(Duration::from_millis),
            routine_wait_max: Duration::from_millis(self.config.routine_wait_max_ms),
        };
        queues.entry(device).or_insert_with(|| Arc::new(DeviceQueue::new(limits))).clone()
    }

    /// Every worker that was needed so far, by vendor and device. Metrics of them and of the queues of devices are as of then.
    #[must_use]
    pub fn workers(&self) -> Vec<WorkerReport> {
        if let Some(metrics) = self.metrics.get() {
            let queues = self.queues.lock().unwrap_or_else(PoisonError::into_inner).clone();
            for (device, queue) in queues {
                let (length, oldest) = queue.waiting();
                metrics.device_queue(&device.to_string(), length, oldest);
            }
        }
        let started = self.started.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let mut reports: Vec<_> = started
            .into_values()
            .filter_map(|started| match started {
                Started::Worker(engine) => Some(engine.report()),
                Started::Here(_) => None,
            })
            .collect();
        reports.sort_by(|a, b| (&a.vendor, a.device as u8).cmp(&(&b.vendor, b.device as u8)));
        reports
    }

    /// Threads of one run: as many as all that run at once leave each other.
    fn threads(&self) -> usize {
        match self.config.intra_threads {
            0 => (processors() / self.config.runs_at_once_max).max(1),
            threads => threads,
        }
    }
}

/// Processors that this process may use.
#[must_use]
pub fn processors() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
}

/// Whether a GPU cannot be had, or not for this model. Whoever waits for one, or for nothing any more, lacks none; and a model that
/// was too slow there, broke its worker, or is refused would be no better for another device.
fn lacks_gpu(error: &InferenceError) -> bool {
    matches!(
        error,
        InferenceError::DeviceUnavailable { .. }
            | InferenceError::EngineUnavailable { .. }
            | InferenceError::Unsupported { .. }
    )
}

fn loaded(
    model: &OnnxModel<'_>,
    engine: &dyn Engine,
    call: &Call<'_>,
    requested: Device,
) -> Result<LoadedModel, InferenceError> {
    let loaded = engine.load(model, call)?;
    Ok(LoadedModel::new(model, engine, loaded, requested))
}

/// Brings a library into this process and runs nothing of it.
///
/// # Errors
/// It cannot be used.
pub fn bring_in(library: Option<&Path>) -> Result<(), InferenceError> {
    library.map_or(Ok(()), super::onnxruntime::bring_in)
}

/// An engine in this process: what a worker is made of. A model of it is run so often at once, each time with so many threads.
///
/// # Errors
/// The library or the device cannot be used.
pub fn local(
    library: Option<&Path>,
    device: Device,
    execution: Execution,
    threads: usize,
    contexts: usize,
) -> Result<Box<dyn Engine>, InferenceError> {
    match (library, device) {
        (Some(library), device) => Ok(Box::new(OnnxRuntime::new(library, device, execution, threads, contexts)?)),
        (None, Device::Cpu) => Ok(Box::new(Tract::new(threads))),
        (None, Device::Gpu) => {
            Err(InferenceError::DeviceUnavailable { device, reason: "tract runs on processors only".into() })
        }
    }
}

/// ONNX Runtime's library: as configured; else by `GANTRY_ONNXRUNTIME`; else `libonnxruntime.so*` beside the
/// executable; else `onnxruntime/libonnxruntime.so*` in the assets folder (`GANTRY_ASSETS`, or `.cache/assets` beside
/// the `target` folder that the executable was built into).
///
/// Never in the working directory: whoever owns the folder that a study lies in must not choose our native code.
/// Paths that were named are returned as they are, whether or not something is there.
#[must_use]
pub fn find_library(configured: Option<&Path>) -> Option<PathBuf> {
    let variable = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    if let Some(named) = configured.map(Path::to_path_buf).or_else(|| variable("GANTRY_ONNXRUNTIME")) {
        return Some(named);
    }
    let executable = std::env::current_exe().ok()?;
    let built = executable.ancestors().find(|folder| folder.file_name().is_some_and(|name| name == "target"));
    let checkout = built.and_then(Path::parent).map(|root| root.join(".cache/assets"));
    let assets = || variable("GANTRY_ASSETS").or(checkout).and_then(|folder| library_in(&folder.join("onnxruntime")));
    executable.parent().and_then(library_in).or_else(assets)
}

/// `libonnxruntime.so`, or the newest of `libonnxruntime.so.…`.
fn library_in(folder: &Path) -> Option<PathBuf> {
    const NAME: &str = "libonnxruntime.so";
    let plain = folder.join(NAME);
    if plain.is_file() {
        return Some(plain);
    }
    let version = |path: &Path| -> Option<Vec<u32>> {
        let suffix = path.file_name()?.to_str()?.strip_prefix(NAME)?.strip_prefix('.')?;
        suffix.split('.').map(|part| part.parse().ok()).collect()
    };
    let files = std::fs::read_dir(folder).ok()?.flatten().map(|entry| entry.path()).filter(|path| path.is_file());
    files.filter_map(|path| Some((version(&path)?, path))).max().map(|(_, path)| path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_who_lacks_a_gpu_falls_back() {
        let (model, reason) = (String::from("m"), String::from("r"));
        let (device, engine) = (Device::Gpu, EngineKind::OnnxRuntime);
        let lacking = [
            InferenceError::DeviceUnavailable { device, reason: reason.clone() },
            InferenceError::EngineUnavailable { engine, reason: reason.clone() },
            InferenceError::Unsupported { device, model: model.clone(), reason: reason.clone() },
        ];
        assert!(lacking.iter().all(lacks_gpu));
        let others = [
            InferenceError::Input(reason.clone()),
            InferenceError::Refused { model: model.clone(), reason: reason.clone() },
            InferenceError::Load { engine, model: model.clone(), reason: reason.clone() },
            InferenceError::Run { engine, model: model.clone(), reason: reason.clone() },
            InferenceError::Deadline { model: model.clone() },
            InferenceError::TooLong { model: model.clone(), limit: "engines.load_deadline_ms", ms: 1 },
            InferenceError::Crashed { model: model.clone(), how: reason.clone() },
            InferenceError::OutOfService { model: model.clone(), failures: 3, last: reason.clone() },
            InferenceError::Busy { device, reason },
            InferenceError::Cancelled { model },
        ];
        assert!(!others.iter().any(lacks_gpu));
    }

    #[test]
    fn the_newest_library_of_a_folder_is_found_and_a_named_one_is_kept() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = |name: &str| {
            let path = folder.path().join(name);
            std::fs::write(&path, b"").expect("written");
            path
        };
        assert_eq!(library_in(folder.path()), None);
        file("libonnxruntime_providers_shared.so");
        file("libonnxruntime.so.old");
        assert_eq!(library_in(folder.path()), None);
        file("libonnxruntime.so.1.9.0");
        let newest = file("libonnxruntime.so.1.32.0");
        assert_eq!(library_in(folder.path()), Some(newest));
        let plain = file("libonnxruntime.so");
        assert_eq!(library_in(folder.path()), Some(plain));
        let named = Path::new("/nonexistent/lib.so");
        assert_eq!(find_library(Some(named)).as_deref(), Some(named));
    }

    #[test]
    fn runs_at_once_leave_each_other_as_many_threads() {
        let threads = |intra_threads, runs_at_once_max| {
            let engine = EnginePreference::Tract;
            let config = EngineConfig { engine, intra_threads, runs_at_once_max, ..EngineConfig::default() };
            Engines::discover(&config).expect("tract is built in").threads()
        };
        assert_eq!([threads(0, 1), threads(0, 2)], [processors(), (processors() / 2).max(1)]);
        assert_eq!(threads(0, processors() + 1), 1, "one at least");
        assert_eq!(threads(3, 8), 3, "what the operator chose");
    }
}
