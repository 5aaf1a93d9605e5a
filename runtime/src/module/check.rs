//! `gantry module check`, and what a node does before it takes a module: every model is read, and loaded where it can do no harm.

use std::fmt;
use std::time::{Duration, Instant};

use serde::Serialize;

use super::manifest::{Manifest, ModelEntry, Sha256Hex};
use super::package::{Package, PackageError};
use crate::inference::{
    Anatomy, Call, Device, Dim, EngineKind, Engines, InferenceError, OnnxModel, Request, TensorSpec, Turn,
};
use crate::memory::Budget;

/// What was found of a package's models.
#[derive(Debug, Serialize)]
pub struct Checked {
    /// SHA-256 over the manifest: the module's identity.
    pub identity_sha256: String,
    /// Each model.
    pub models: Vec<CheckedModel>,
}

/// A model that an engine took.
#[derive(Debug, Serialize)]
pub struct CheckedModel {
    /// Its name in the package.
    pub name: String,
    /// SHA-256 of its file.
    pub sha256: String,
    /// Bytes of its file.
    pub bytes: usize,
    /// What it is made of.
    #[serde(flatten)]
    pub anatomy: Anatomy,
    /// What it takes.
    pub inputs: Vec<TensorSpec>,
    /// What it gives.
    pub outputs: Vec<TensorSpec>,
    /// The engine that loaded it on the processor, wherever it is to run.
    pub engine: String,
    /// Time that took, the start of a worker included, ms.
    pub load_ms: u64,
}

/// Why a package is not to be used. The vendor's to mend, or the host's.
#[derive(Debug, thiserror::Error)]
pub enum CheckError {
    /// The package does not hold what its manifest says.
    #[error(transparent)]
    Package(#[from] PackageError),
    /// A model.
    #[error(transparent)]
    Model(InferenceError),
    /// There is no engine, or no worker for it.
    #[error(transparent)]
    Engine(InferenceError),
    /// tract does not take a model, and stands in for an engine that may.
    #[error(
        "{0}; it was tried since the library of ONNX Runtime, which may take it, was not found: set onnxruntime_library or \
         GANTRY_ONNXRUNTIME, or run `cargo xtask assets` in a checkout"
    )]
    OtherEngine(InferenceError),
}

impl CheckError {
    /// Whether the package may be as it should, and this machine is not.
    #[must_use]
    pub fn is_of_host(&self) -> bool {
        matches!(self, Self::Engine(_) | Self::OtherEngine(_))
    }

    fn of(error: InferenceError, engines: &Engines) -> Self {
        match error {
            InferenceError::EngineUnavailable { .. } | InferenceError::DeviceUnavailable { .. } => Self::Engine(error),
            InferenceError::Load { engine: EngineKind::Tract, .. } if engines.lacks_library() => {
                Self::OtherEngine(error)
            }
            error => Self::Model(error),
        }
    }
}

/// Looks at every model of a package, and loads it on the processor, in a worker, within `engines.load_deadline_ms` and
/// `engines.worker_memory_mib`.
///
/// # Errors
/// The first that is refused.
pub fn check(package: &Package, engines: &Engines) -> Result<Checked, CheckError> {
    let models = package.manifest().models.iter().map(|entry| {
        let bytes = package.model(&entry.name, engines.model_max_mib())?;
        let read = OnnxModel::read(&entry.name, &bytes, engines.model_max_mib());
        let anatomy = read.map_err(CheckError::Model)?.anatomy().clone();
        let (budget, turn, since) = (Budget::unlimited(), Turn::default(), Instant::now());
        let call = Call { budget: &budget, deadline: None, turn: &turn, batch: entry.batch() };
        let vendor = &package.manifest().vendor;
        let ModelEntry { name, warm_up, .. } = entry;
        let request = Request { vendor, name, bytes: &bytes, target: Device::Cpu, warm_up: Some(warm_up) };
        let loaded = engines.load(request, &call).map_err(|e| CheckError::of(e, engines))?;
        Ok::<_, CheckError>(CheckedModel {
            name: entry.name.clone(),
            sha256: crate::hex(loaded.sha256()),
            bytes: bytes.len(),
            anatomy,
            inputs: loaded.inputs().to_vec(),
            outputs: loaded.outputs().to_vec(),
            engine: loaded.engine_version().to_owned(),
            load_ms: milliseconds(since.elapsed()),
        })
    });
    Ok(Checked { identity_sha256: Sha256Hex(package.identity()).into(), models: models.collect::<Result<_, _>>()? })
}

/// Loads models with a `warm_up` on the device that they are for, where that is another than [`check`] loads them on. What does not
/// work is told here, and again by the first job that needs it.
pub fn warm_up(package: &Package, engines: &Engines) {
    let Manifest { name: module, vendor, models, .. } = package.manifest();
    for entry in models.iter().filter(|entry| entry.target != Device::Cpu && !entry.warm_up.is_empty()) {
        let (budget, turn) = (Budget::unlimited(), Turn::default());
        let call = Call { budget: &budget, deadline: None, turn: &turn, batch: entry.batch() };
        let ModelEntry { name, target, warm_up, .. } = entry;
        let loaded = package.model(name, engines.model_max_mib()).map_err(CheckError::from).and_then(|bytes| {
            let request = Request { vendor, name, bytes: &bytes, target: *target, warm_up: Some(warm_up) };
            engines.load(request, &call).map_err(|e| CheckError::of(e, engines))
        });
        if let Err(error) = loaded {
            tracing::warn!(module, model = name, "a model is not warmed up: {error}");
        }
    }
}

fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

impl fmt::Display for Checked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "identity    sha256:{}", self.identity_sha256)?;
        for model in &self.models {
            let Anatomy { nodes, opset, operators } = &model.anatomy;
            let operators: Vec<_> = operators.iter().map(String::as_str).collect();
            writeln!(f, "model       {}, {} KiB, sha256:{}", model.name, model.bytes.div_ceil(1024), model.sha256)?;
            writeln!(f, "  takes     {}", signature(&model.inputs))?;
            writeln!(f, "  gives     {}", signature(&model.outputs))?;
            writeln!(f, "  made of   {nodes} nodes of operator set {opset}: {}", operators.join(", "))?;
            writeln!(f, "  loaded    by {} on the processor in {} ms", model.engine, model.load_ms)?;
        }
        match self.models.len() {
            0 => writeln!(f, "it has no models"),
            _ => writeln!(
                f,
                "every model was loaded on the processor, in a worker and within its limits; `gantry doctor` tells of GPUs"
            ),
        }
    }
}

/// `ct: f32 [n, 1, 512, 512]`; names are the vendor's.
fn signature(specs: &[TensorSpec]) -> String {
    let size = |dim: &Dim| match dim {
        Dim::Fixed(size) => size.to_string(),
        Dim::Named(name) => crate::printable(name),
        Dim::Any => "?".into(),
    };
    let one = |spec: &TensorSpec| {
        let dims: Vec<_> = spec.dims.iter().map(size).collect();
        format!("{}: {} [{}]", crate::printable(&spec.name), spec.element, dims.join(", "))
    };
    specs.iter().map(one).collect::<Vec<_>>().join(", ")
}
