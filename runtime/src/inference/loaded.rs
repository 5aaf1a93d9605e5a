//! A model that is ready to run, and what the record of a job says about it.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::check::check;
use super::{Call, Device, Dim, Engine, EngineKind, Execution, InferenceError, Model, OnnxModel, TensorSpec, name};
use crate::tensor::{ElementType, Tensor};

/// A loaded model with its name, digest, engine and device.
pub struct LoadedModel {
    name: String,
    sha256: [u8; 32],
    engine: EngineKind,
    engine_version: String,
    requested: Device,
    device: Device,
    execution: Execution,
    fallback: Option<String>,
    load_time: Duration,
    model: Box<dyn Model>,
    calls: AtomicU64,
    compute_ns: AtomicU64,
}

/// Runs a model on zeros, so that what an engine does only once is done before anybody waits: plans, kernels, memory. Nothing
/// where no shapes are given.
///
/// # Errors
/// The shapes are none of its inputs', or it does not run.
pub fn warm_up(
    name: &str,
    model: &dyn Model,
    shapes: &BTreeMap<String, Vec<usize>>,
    call: &Call<'_>,
) -> Result<(), InferenceError> {
    if shapes.is_empty() {
        return Ok(());
    }
    let refused =
        |e: InferenceError| InferenceError::Refused { model: super::name(name), reason: format!("its warm_up: {e}") };
    let zeros = shapes.iter().map(|(input, shape)| {
        let element = model.inputs().iter().find(|spec| spec.name == *input).map_or(ElementType::F32, |s| s.element);
        Ok((input.clone(), Tensor::zeroed(shape.clone(), element, call.budget)?))
    });
    let zeros = zeros.collect::<Result<_, InferenceError>>().map_err(refused)?;
    let inputs = check(name, model.inputs(), zeros).map_err(refused)?;
    model.run(inputs, call).map(drop).map_err(refused)
}

/// How much a model was used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Usage {
    /// Runs that were started.
    pub calls: u64,
    /// Time that they took, together.
    pub compute: Duration,
}

impl LoadedModel {
    pub(super) fn new(file: &OnnxModel<'_>, engine: &dyn Engine, model: Box<dyn Model>, requested: Device) -> Self {
        Self {
            name: file.name().to_string(),
            sha256: file.sha256(),
            engine: engine.kind(),
            engine_version: engine.version(),
            requested,
            device: engine.device(),
            execution: engine.execution(),
            fallback: None,
            load_time: Duration::ZERO,
            model,
            calls: AtomicU64::new(0),
            compute_ns: AtomicU64::new(0),
        }
    }

    /// How it came to be where it is.
    pub(super) fn came_up(&mut self, fallback: Option<String>, load_time: Duration) {
        self.fallback = fallback;
        self.load_time = load_time;
    }

    /// Runs it on named inputs; gives every output with its name, in the model's order.
    ///
    /// Fails with [`InferenceError::Input`] when the inputs do not fit, before the engine sees them.
    pub fn run(&self, inputs: Vec<(String, Tensor)>, call: &Call<'_>) -> Result<Vec<(String, Tensor)>, InferenceError> {
        let inputs = check(&self.name, self.model.inputs(), inputs)?;
        self.calls.fetch_add(1, Ordering::Relaxed);
        let begun = Instant::now();
        let result = self.model.run(inputs, call);
        let nanoseconds = u64::try_from(begun.elapsed().as_nanos()).unwrap_or(u64::MAX);
        self.compute_ns.fetch_add(nanoseconds, Ordering::Relaxed);
        self.verified(result?)
    }

    /// Outputs by name, if they are of the number, types and fixed sizes that the model states.
    fn verified(&self, outputs: Vec<Tensor>) -> Result<Vec<(String, Tensor)>, InferenceError> {
        let specs = self.model.outputs();
        let fail = |reason| InferenceError::Run { engine: self.engine, model: name(&self.name), reason };
        if outputs.len() != specs.len() {
            return Err(fail(format!("{} outputs came, {} are stated", outputs.len(), specs.len())));
        }
        specs
            .iter()
            .zip(outputs)
            .map(|(spec, tensor)| match tensor.element() == spec.element && fits(spec, tensor.shape()) {
                true => Ok((spec.name.clone(), tensor)),
                false => Err(fail(format!(
                    "output '{}' came as {} {:?}, which the model does not state",
                    name(&spec.name),
                    tensor.element(),
                    tensor.shape()
                ))),
            })
            .collect()
    }

    /// Its name in the package.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// SHA-256 of its file.
    #[must_use]
    pub fn sha256(&self) -> &[u8; 32] {
        &self.sha256
    }

    /// The engine that runs it.
    #[must_use]
    pub fn engine(&self) -> EngineKind {
        self.engine
    }

    /// The engine's name and version.
    #[must_use]
    pub fn engine_version(&self) -> &str {
        &self.engine_version
    }

    /// The device that was asked for.
    #[must_use]
    pub fn requested_device(&self) -> Device {
        self.requested
    }

    /// The device that it runs on.
    #[must_use]
    pub fn device(&self) -> Device {
        self.device
    }

    /// What runs it there.
    #[must_use]
    pub fn execution(&self) -> Execution {
        self.execution
    }

    /// Why it does not run on the device that was asked for, if so.
    #[must_use]
    pub fn fallback(&self) -> Option<&str> {
        self.fallback.as_deref()
    }

    /// Time that loading took, the start of the engine included.
    #[must_use]
    pub fn load_time(&self) -> Duration {
        self.load_time
    }

    /// What it takes.
    #[must_use]
    pub fn inputs(&self) -> &[TensorSpec] {
        self.model.inputs()
    }

    /// What it gives.
    #[must_use]
    pub fn outputs(&self) -> &[TensorSpec] {
        self.model.outputs()
    }

    /// How much it was used so far.
    #[must_use]
    pub fn usage(&self) -> Usage {
        Usage {
            calls: self.calls.load(Ordering::Relaxed),
            compute: Duration::from_nanos(self.compute_ns.load(Ordering::Relaxed)),
        }
    }
}

/// An engine that counts wrong gives another shape; a model may be silent about it.
fn fits(spec: &TensorSpec, shape: &[usize]) -> bool {
    let stated = |(dim, size): (&Dim, &usize)| !matches!(dim, Dim::Fixed(fixed) if fixed != size);
    spec.dims.is_empty() || spec.dims.len() == shape.len() && spec.dims.iter().zip(shape).all(stated)
}

impl std::fmt::Debug for LoadedModel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "LoadedModel({} on {} by {})", name(&self.name), self.device, self.engine_version)
    }
}
