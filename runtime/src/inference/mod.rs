//! Engines that run a model. Knows nothing of guests.
//!
//! ```text
//! bytes ──▶ onnx::OnnxModel ──▶ Engine::load ──▶ LoadedModel::run
//!           (nothing external,   (tract or         check ─▶ Model::run ─▶ outputs verified
//!            signature read)      ONNX Runtime)
//! ```
//!
//! Read [`Engines`] first, then [`OnnxModel`], [`check()`], and the two engines.
//!
//! **What holds here.** No engine sees bytes that [`OnnxModel::read`] did not accept, nor inputs that [`check()`] did
//! not accept. A model that asks for a GPU runs on one, is refused, or is recorded as a fallback that the operator
//! allowed. A panic in an engine is an error of that call: both engines are other people's code that parses a
//! vendor's bytes, and a wrong index there must not end the runtime.
//!
//! **Where they run.** In processes of their own ([`crate::worker`]): a memory error inside ONNX Runtime ends one of those, its
//! memory has a limit, and a deadline reaches it wherever it is. [`Isolation::SameProcess`] is what runs in a worker, and
//! what tests of engines use.

mod check;
mod config;
mod engines;
mod execution;
mod loaded;
mod onnx;
mod onnxruntime;
mod queue;
mod tract;

#[cfg(test)]
mod suite;
#[cfg(test)]
mod testmodels;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

pub use check::check;
pub use config::{EngineConfig, EnginePreference, Isolation};
pub use engines::{Engines, Request, bring_in, find_library, local, processors};
pub use execution::{CpuConfig, Device, Execution, GpuConfig, Precision, Provider};
pub use loaded::{LoadedModel, Usage, warm_up};
pub use onnx::{Anatomy, OnnxModel};
pub use onnxruntime::session;
pub use queue::{DeviceQueue, NoTurn, Permit, QueueLimits, TooLate, Turn, Wish};

use crate::memory::{Budget, OverBudget};
use crate::tensor::{ElementType, Tensor, TensorError};

/// Which library runs a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EngineKind {
    /// Embedded, pure Rust, CPU only.
    Tract,
    /// ONNX Runtime, loaded from its shared library.
    OnnxRuntime,
}

impl std::fmt::Display for EngineKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Tract => "tract",
            Self::OnnxRuntime => "ONNX Runtime",
        })
    }
}

/// Size of one dimension of a model's input or output.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(untagged)]
pub enum Dim {
    /// Always this.
    Fixed(usize),
    /// Any, but the same wherever the name stands.
    Named(String),
    /// Any.
    Any,
}

/// An input or output of a model.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct TensorSpec {
    /// Its name in the model.
    pub name: String,
    /// Type of its elements.
    pub element: ElementType,
    /// Size of each dimension. For an output, what the model says: empty too when it says nothing.
    pub dims: Vec<Dim>,
}

/// A library that can load models.
pub trait Engine: Send + Sync {
    /// Which.
    fn kind(&self) -> EngineKind;
    /// Name and version, for the record: `onnxruntime 1.32.0`.
    fn version(&self) -> String;
    /// Where its models run.
    fn device(&self) -> Device;
    /// What runs them there.
    fn execution(&self) -> Execution {
        Execution::default()
    }
    /// What could run models, as far as it was built for it.
    fn providers(&self) -> Vec<Provider> {
        vec![Provider::BuiltIn]
    }
    /// Loads an ONNX model, for a job.
    fn load(&self, model: &OnnxModel<'_>, call: &Call<'_>) -> Result<Box<dyn Model>, InferenceError>;
}

/// For whom something is loaded or run.
#[derive(Debug, Clone, Copy)]
pub struct Call<'a> {
    /// Host memory of the job.
    pub budget: &'a Budget,
    /// When the job ends at the latest.
    pub deadline: Option<Instant>,
    /// How urgent it is, and whether it is still wanted.
    pub turn: &'a Turn,
    /// What its first axis is.
    pub batch: Batch,
}

/// What the first axis of all of a model's inputs and outputs is, as its manifest says: whether whoever runs it may run items one
/// by one.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Batch {
    /// Nothing that the host knows: each run is run whole.
    #[default]
    Whole,
    /// Items that do not depend on one another: the host may run some of them at a time.
    Items,
    /// As before, and runs of several jobs may be one.
    Joined(Join),
}

/// How runs of several jobs become one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Join {
    /// Items of all of them.
    pub items_max: usize,
    /// How long the first waits for others, where there are any that have the model.
    pub window: Duration,
}

/// A loaded model. May be run from several threads.
pub trait Model: Send + Sync {
    /// What it takes.
    fn inputs(&self) -> &[TensorSpec];
    /// What it gives.
    fn outputs(&self) -> &[TensorSpec];
    /// Runs it on inputs that [`check()`] accepted, in the order of [`Model::inputs`]. Outputs in the order of
    /// [`Model::outputs`]. Ends with [`InferenceError::Deadline`] at the first operator after the deadline, or wherever it is.
    fn run(&self, inputs: Vec<Tensor>, call: &Call<'_>) -> Result<Vec<Tensor>, InferenceError>;
    /// As [`Model::run`], for who hands the outputs on: they are seen where the engine has them, once and not after.
    fn run_and_show(
        &self,
        inputs: Vec<Tensor>,
        call: &Call<'_>,
        show: &mut dyn FnMut(&[Output<'_>]) -> Result<(), InferenceError>,
    ) -> Result<(), InferenceError> {
        let outputs = self.run(inputs, call)?;
        let seen = |tensor| Output::from(tensor);
        show(&outputs.iter().map(seen).collect::<Vec<_>>())
    }
}

/// An output where its engine has it.
#[derive(Debug, Clone)]
pub struct Output<'o> {
    /// Type of its elements.
    pub element: ElementType,
    /// Size of each dimension.
    pub shape: Vec<usize>,
    /// As of a [`Tensor`].
    pub bytes: &'o [u8],
}

impl<'o> From<&'o Tensor> for Output<'o> {
    fn from(tensor: &'o Tensor) -> Self {
        Self { element: tensor.element(), shape: tensor.shape().to_vec(), bytes: tensor.data() }
    }
}

/// Why a model did not run.
#[derive(Debug, thiserror::Error)]
pub enum InferenceError {
    /// The guest's inputs do not fit the model.
    #[error("{0}")]
    Input(String),
    /// The model is refused before any engine sees it.
    #[error("model '{model}' is refused: {reason}")]
    Refused {
        /// Its name in the package.
        model: String,
        /// Why.
        reason: String,
    },
    /// The engine cannot load this model.
    #[error("{engine} cannot load model '{model}': {reason}")]
    Load {
        /// Which engine.
        engine: EngineKind,
        /// Its name in the package.
        model: String,
        /// What it said.
        reason: String,
    },
    /// What runs models on the device lacks an operator of this one.
    #[error(
        "model '{model}' cannot run on the {device}: {reason}; choose another provider (engines.gpu), or allow the processor in its place with engines.gpu_fallback_to_cpu"
    )]
    Unsupported {
        /// The device that was asked for.
        device: Device,
        /// Its name in the package.
        model: String,
        /// What the engine said.
        reason: String,
    },
    /// The engine failed.
    #[error("{engine} failed to run model '{model}': {reason}")]
    Run {
        /// Which engine.
        engine: EngineKind,
        /// Its name in the package.
        model: String,
        /// What it said.
        reason: String,
    },
    /// The deadline passed while the model ran.
    #[error("model '{model}' was stopped at the job's deadline (job_deadline_ms)")]
    Deadline {
        /// Its name in the package.
        model: String,
    },
    /// It was too slow for a limit of the configuration.
    #[error("model '{model}' was stopped at {limit} = {ms}")]
    TooLong {
        /// Its name in the package.
        model: String,
        /// The limit.
        limit: &'static str,
        /// Its value, ms.
        ms: u64,
    },
    /// The process that ran it ended, and so did the one that tried again.
    #[error("model '{model}' ended the worker that ran it: the process {how}")]
    Crashed {
        /// Its name in the package.
        model: String,
        /// How the process ended.
        how: String,
    },
    /// It asked for more memory than its worker may have.
    #[error("model '{model}' needs more memory than engines.worker_memory_mib = {mib} allows: {reason}")]
    OutOfMemory {
        /// Its name in the package.
        model: String,
        /// The limit.
        mib: u64,
        /// How that showed.
        reason: String,
    },
    /// It is not run, since it cannot end in time.
    #[error("model '{model}' is not run: it cannot end before the deadline ({limit}): {why}")]
    TooLate {
        /// Its name in the package.
        model: String,
        /// The limit that sets the deadline.
        limit: &'static str,
        /// What is known.
        why: TooLate,
    },
    /// It ended too many workers.
    #[error(
        "model '{model}' is out of service: it ended its worker {failures} times (engines.model_failures_max), the last time the process {last}"
    )]
    OutOfService {
        /// Its name in the package.
        model: String,
        /// How often.
        failures: u32,
        /// How the last process ended.
        last: String,
    },
    /// Others have the device.
    #[error("the {device} is busy: {reason}")]
    Busy {
        /// Which.
        device: Device,
        /// What is too much.
        reason: String,
    },
    /// Nobody waits for it any more.
    #[error("model '{model}' was stopped: its job was cancelled")]
    Cancelled {
        /// Its name in the package.
        model: String,
    },
    /// The engine itself cannot be used on this machine.
    #[error("{engine} cannot be used: {reason}")]
    EngineUnavailable {
        /// Which engine.
        engine: EngineKind,
        /// Why, and what to do.
        reason: String,
    },
    /// No engine runs models on this device here.
    #[error(
        "no {device} to run models on: {reason}; provide ONNX Runtime with CUDA, TensorRT or OpenVINO (engines.gpu), or allow the processor in its place with engines.gpu_fallback_to_cpu"
    )]
    DeviceUnavailable {
        /// The device that was asked for.
        device: Device,
        /// Why.
        reason: String,
    },
    /// No room.
    #[error(transparent)]
    OverBudget(#[from] OverBudget),
    /// A tensor cannot be.
    #[error(transparent)]
    Tensor(#[from] TensorError),
}

impl InferenceError {
    /// The limit that was met, if one was: as in the configuration.
    #[must_use]
    pub fn limit(&self) -> Option<&'static str> {
        match self {
            Self::TooLong { limit, .. } | Self::TooLate { limit, .. } => Some(limit),
            Self::OutOfMemory { .. } => Some("engines.worker_memory_mib"),
            Self::Deadline { .. } => Some("job_deadline_ms"),
            Self::OverBudget(_) | Self::Tensor(TensorError::OverBudget(_)) => Some("host_memory_mib"),
            _ => None,
        }
    }
}

impl InferenceError {
    /// What happened, without what an operator could do about it: for a record of it, where that was done.
    #[must_use]
    pub fn without_remedy(&self) -> String {
        match self {
            Self::DeviceUnavailable { device, reason } => format!("no {device} to run models on: {reason}"),
            Self::Unsupported { device, model, reason } => {
                format!("model '{model}' cannot run on the {device}: {reason}")
            }
            Self::EngineUnavailable { engine, reason } => {
                format!("{engine} cannot be used: {}", onnxruntime::without_remedy(reason))
            }
            other => other.to_string(),
        }
    }
}

/// Turns a panic in `f` into its message.
///
/// Engines are third-party code on a vendor's bytes; state that a panic may have left half-changed lives in the
/// model that panicked and in nothing else.
fn guarded<T>(f: impl FnOnce() -> Result<T, InferenceError>) -> Result<Result<T, InferenceError>, String> {
    catch_unwind(AssertUnwindSafe(f)).map_err(|panic| {
        let text = panic
            .downcast_ref::<&str>()
            .map(|s| (*s).to_string())
            .or_else(|| panic.downcast_ref::<String>().cloned())
            .unwrap_or_default();
        format!("it panicked: {}", shown(&text, REASON_CHARS))
    })
}

/// Characters of an engine's own words that are worth repeating.
const REASON_CHARS: usize = 600;
/// Characters of a name that somebody else chose.
const NAME_CHARS: usize = 64;

/// Text from a guest, a model or an engine, for a message: control characters escaped, cut after `limit` characters.
fn shown(text: &str, limit: usize) -> String {
    let mut out = String::new();
    for (n, c) in text.chars().enumerate() {
        if n == limit {
            out.push('…');
            break;
        }
        match c {
            '\'' | '"' => out.push(c),
            c => out.extend(c.escape_debug()),
        }
    }
    out
}

/// [`shown`] for names.
fn name(text: &str) -> String {
    shown(text, NAME_CHARS)
}
