//! Engines that run a model. Knows nothing of guests.

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

/// Where a model runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Device {
    /// The host's processors.
    Cpu,
    /// A GPU.
    Gpu,
}

/// Size of one dimension of a model's input or output.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
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
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct TensorSpec {
    /// Its name in the model.
    pub name: String,
    /// Type of its elements.
    pub element: ElementType,
    /// Size of each dimension.
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
    /// Loads an ONNX model.
    fn load(&self, model: &[u8]) -> Result<Box<dyn Model>, InferenceError>;
}

/// A loaded model. May be run from several threads.
pub trait Model: Send + Sync {
    /// What it takes.
    fn inputs(&self) -> &[TensorSpec];
    /// What it gives.
    fn outputs(&self) -> &[TensorSpec];
    /// Runs it on inputs that [`check`] accepted, in the order of [`Model::inputs`]. Outputs in the order of
    /// [`Model::outputs`].
    fn run(&self, inputs: Vec<Tensor>, budget: &Budget) -> Result<Vec<Tensor>, InferenceError>;
}

/// Why a model did not run.
#[derive(Debug, thiserror::Error)]
pub enum InferenceError {
    /// The guest's inputs do not fit the model.
    #[error("{0}")]
    Input(String),
    /// The engine cannot load this model.
    #[error("{engine:?} cannot load the model: {reason}")]
    Load {
        /// Which engine.
        engine: EngineKind,
        /// What it said.
        reason: String,
    },
    /// The engine failed.
    #[error("{engine:?} failed: {reason}")]
    Run {
        /// Which engine.
        engine: EngineKind,
        /// What it said.
        reason: String,
    },
    /// No room.
    #[error(transparent)]
    OverBudget(#[from] OverBudget),
    /// A tensor cannot be.
    #[error(transparent)]
    Tensor(#[from] TensorError),
}
