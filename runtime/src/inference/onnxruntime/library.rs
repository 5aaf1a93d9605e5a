//! The shared library, and its environment: one of each in a process.

use std::fs::File;
use std::io::Read;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use ort::environment::{Environment, EnvironmentBuilder};
use ort::logging::LogLevel;

use super::told;
use crate::inference::{EngineKind, InferenceError, REASON_CHARS, shown};

/// The one library of this process.
struct Library {
    /// As it was named.
    named: PathBuf,
    path: PathBuf,
    version: String,
    environment: State,
}

enum State {
    Unused(Box<EnvironmentBuilder>),
    /// Once it failed, there is no other.
    Made(Result<Environment, String>),
}

/// Once a library is in, no other can be.
static LIBRARY: Mutex<Option<Library>> = Mutex::new(None);

/// Brings the library into this process and runs nothing of it: an environment starts threads, and opens what it finds.
pub(in crate::inference) fn bring_in(library: &Path) -> Result<(), InferenceError> {
    bring(&mut LIBRARY.lock().unwrap_or_else(PoisonError::into_inner), library).map(drop).map_err(unusable)
}

pub(super) fn unusable(reason: String) -> InferenceError {
    InferenceError::EngineUnavailable { engine: EngineKind::OnnxRuntime, reason: reason + &remedy() }
}

fn remedy() -> String {
    let minor = ort::MINOR_VERSION;
    format!("; set onnxruntime_library or GANTRY_ONNXRUNTIME to a libonnxruntime.so of version 1.{minor} or newer")
}

/// Why the library is unusable, without what to do about it.
pub(in crate::inference) fn without_remedy(reason: &str) -> &str {
    reason.strip_suffix(&*remedy()).unwrap_or(reason)
}

fn bring<'l>(loaded: &'l mut Option<Library>, library: &Path) -> Result<&'l mut Library, String> {
    // By its name first: in a worker, no name leads anywhere any more.
    let is_in = loaded.as_ref().is_some_and(|loaded| loaded.named == library);
    if !is_in {
        let path = library.canonicalize().map_err(|e| format!("{}: {e}", library.display()))?;
        match loaded {
            Some(loaded) if loaded.path == path => {}
            Some(loaded) => {
                return Err(format!(
                    "this process has loaded {} and cannot load {}",
                    loaded.path.display(),
                    path.display()
                ));
            }
            None => {
                // `ort` asserts where a library has the right symbol and the wrong content.
                let builder = catch_unwind(|| ort::init_from(&path))
                    .map_err(|_| format!("{} is no usable ONNX Runtime", path.display()))?
                    .map_err(|e| shown(&e.to_string(), REASON_CHARS))?;
                let (named, version) = (library.to_path_buf(), version(&path));
                *loaded = Some(Library { named, path, version, environment: State::Unused(Box::new(builder)) });
            }
        }
    }
    loaded.as_mut().ok_or_else(|| "it is not loaded".into())
}

/// The one environment of this process, and the library's version.
pub(super) fn environment(library: &Path) -> Result<(Environment, String), String> {
    let mut loaded = LIBRARY.lock().unwrap_or_else(PoisonError::into_inner);
    let library = bring(&mut loaded, library)?;
    let version = library.version.clone();
    let unmade = State::Made(Err("its environment could not be made".into()));
    let made = match std::mem::replace(&mut library.environment, unmade) {
        State::Made(made) => made,
        State::Unused(builder) => make(*builder, &library.path),
    };
    library.environment = State::Made(made.clone());
    Ok((made?, version))
}

fn make(builder: EnvironmentBuilder, path: &Path) -> Result<Environment, String> {
    catch_unwind(AssertUnwindSafe(|| {
        let environment = builder.with_name("gantry").with_telemetry(false).with_logger(Arc::new(log)).build()?;
        environment.set_log_level(LogLevel::Warning);
        Ok(environment)
    }))
    .map_err(|_| format!("{} lacks version {} of its interface", path.display(), ort::MINOR_VERSION))
    .and_then(|built: ort::Result<_>| built.map_err(|e| told(&e)))
}

/// ONNX Runtime's log into ours. What it calls an error also comes back as one.
fn log(level: LogLevel, category: &str, id: &str, _location: &str, message: &str) {
    let message = shown(message, REASON_CHARS);
    match level {
        LogLevel::Fatal | LogLevel::Error => tracing::warn!(target: "onnxruntime", id, category, "{message}"),
        _ => tracing::debug!(target: "onnxruntime", id, category, "{message}"),
    }
}

/// `onnxruntime 1.32.0`. The interface says it only through a raw pointer; the version that its symbols are bound
/// to stands in the file.
fn version(library: &Path) -> String {
    const MARK: &[u8] = b"\0VERS_";
    let mut head = Vec::new();
    let read = File::open(library).and_then(|file| file.take(4 << 20).read_to_end(&mut head));
    let found = read.ok().and_then(|_| {
        let start = head.windows(MARK.len()).position(|window| window == MARK)? + MARK.len();
        let digits = head[start..].iter().take(16).take_while(|b| b.is_ascii_digit() || **b == b'.');
        String::from_utf8(digits.copied().collect()).ok().filter(|v| !v.is_empty())
    });
    match found {
        Some(version) => format!("onnxruntime {version}"),
        None => "onnxruntime of unknown version".to_string(),
    }
}
