//! Which engines there are, and which one runs a model.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use super::onnxruntime::OnnxRuntime;
use super::tract::Tract;
use super::{Device, Engine, EngineConfig, EngineKind, EnginePreference, InferenceError, LoadedModel, OnnxModel};

/// The engines of this process. Cheap to find, started when the first model needs one: loading ONNX Runtime takes
/// longer than everything else at start.
pub struct Engines {
    config: EngineConfig,
    library: Option<PathBuf>,
    started: Mutex<Vec<Arc<dyn Engine>>>,
}

impl Engines {
    /// Looks for what the configuration asks for; loads nothing.
    ///
    /// Fails with [`InferenceError::EngineUnavailable`] when ONNX Runtime is asked for and not there.
    pub fn discover(config: &EngineConfig) -> Result<Self, InferenceError> {
        let unavailable = |reason| InferenceError::EngineUnavailable { engine: EngineKind::OnnxRuntime, reason };
        let library = match config.engine {
            EnginePreference::Tract => None,
            EnginePreference::Auto | EnginePreference::OnnxRuntime => {
                find_library(config.onnxruntime_library.as_deref())
            }
        };
        match &library {
            // It was named: falling back to another engine would hide the mistake.
            Some(path) if !path.is_file() => {
                return Err(unavailable(format!("there is no library at {}", path.display())));
            }
            None if config.engine == EnginePreference::OnnxRuntime => {
                return Err(unavailable(
                    "its library was not found; set onnxruntime_library or GANTRY_ONNXRUNTIME, or use engine = \"tract\" \
                     ([engines] in gantry.toml), or run `cargo xtask assets` in a checkout"
                        .into(),
                ));
            }
            _ => {}
        }
        Ok(Self { config: config.clone(), library, started: Mutex::new(Vec::new()) })
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

    /// The largest model that [`Engines::load`] takes, MiB.
    #[must_use]
    pub fn model_max_mib(&self) -> u64 {
        self.config.model_max_mib
    }

    /// Loads a model to run on `target`.
    ///
    /// A GPU that cannot be had is an error, unless the operator allowed the CPU in its place: then
    /// [`LoadedModel::fallback`] says why.
    pub fn load(&self, name: &str, bytes: &[u8], target: Device) -> Result<LoadedModel, InferenceError> {
        let begun = Instant::now();
        let model = OnnxModel::read(name, bytes, self.config.model_max_mib)?;
        let load_on = |device| {
            let engine = self.engine(device)?;
            engine.load(&model).map(|loaded| (engine, loaded))
        };
        let (fallback, (engine, loaded)) = match load_on(target) {
            Err(error) if target == Device::Gpu && self.config.gpu_fallback_to_cpu => {
                let reason = error.to_string();
                tracing::warn!(model = super::name(name), reason, "falls back from GPU to CPU");
                (Some(reason), load_on(Device::Cpu)?)
            }
            result => (None, result?),
        };
        Ok(LoadedModel::new(&model, engine.as_ref(), loaded, target, fallback, begun.elapsed()))
    }

    /// The engine of a device, started if it has not been.
    fn engine(&self, device: Device) -> Result<Arc<dyn Engine>, InferenceError> {
        let mut started = self.started.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(engine) = started.iter().find(|engine| engine.device() == device) {
            return Ok(Arc::clone(engine));
        }
        let threads = self.threads();
        let engine: Arc<dyn Engine> = match (&self.library, device) {
            (Some(library), device) => Arc::new(OnnxRuntime::new(library, device, threads)?),
            (None, Device::Cpu) => Arc::new(Tract::new(threads)),
            (None, Device::Gpu) => {
                return Err(InferenceError::DeviceUnavailable {
                    device,
                    reason: "tract runs on processors only; provide ONNX Runtime with CUDA".into(),
                });
            }
        };
        started.push(Arc::clone(&engine));
        Ok(engine)
    }

    fn threads(&self) -> usize {
        match self.config.intra_threads {
            0 => std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
            threads => threads,
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
}
