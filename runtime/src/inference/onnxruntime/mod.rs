//! ONNX Runtime, from a shared library that is loaded when the first model is.
//!
//! The library is native code with a C interface. It is one per process, and so is its environment.

mod library;
mod model;

use std::path::Path;

use ort::environment::Environment;
use ort::ep::{self, ExecutionProvider, ExecutionProviderDispatch};
use ort::session::Session;
use ort::session::builder::{AutoDevicePolicy, GraphOptimizationLevel, SessionBuilder};
use ort::value::Outlet;

use self::library::{environment, unusable};
use self::model::{OrtModel, element_type};
use super::{
    Call, Device, Engine, EngineKind, Execution, InferenceError, Model, OnnxModel, Precision, Provider, REASON_CHARS,
    TensorSpec, guarded, name, shown,
};

pub(super) use self::library::{bring_in, without_remedy};

/// `y = x + x`: loading it tells whether a device is there at all.
const PROBE: &[u8] =
    b"\x08\x08:5\n\x0e\n\x01x\n\x01x\x12\x01y\"\x03Add\x12\x01pZ\x0f\n\x01x\x12\n\n\x08\x08\x01\x12\x04\n\x02\x08\x01b\x0f\n\x01y\x12\n\n\x08\x08\x01\x12\x04\n\x02\x08\x01B\x04\n\x00\x10\r";

/// The engine on one device.
pub(super) struct OnnxRuntime {
    environment: Environment,
    version: String,
    device: Device,
    execution: Execution,
    threads: usize,
    contexts: usize,
}

impl OnnxRuntime {
    /// Loads the library, if this process has not yet, and looks whether `device` is there.
    ///
    /// Fails with [`InferenceError::EngineUnavailable`] when the library cannot be used and
    /// [`InferenceError::DeviceUnavailable`] when the device cannot.
    pub(super) fn new(
        library: &Path,
        device: Device,
        execution: Execution,
        threads: usize,
        contexts: usize,
    ) -> Result<Self, InferenceError> {
        let (environment, version) = environment(library).map_err(unusable)?;
        let engine = Self { environment, version, device, execution, threads, contexts };
        if execution.provider != Provider::BuiltIn {
            engine.probe()?;
        }
        Ok(engine)
    }

    /// A failure here is the machine's, a later one the model's.
    fn probe(&self) -> Result<(), InferenceError> {
        let Self { device, execution: Execution { provider, .. }, .. } = *self;
        let unavailable = |reason| match device {
            Device::Gpu => InferenceError::DeviceUnavailable { device, reason },
            Device::Cpu => InferenceError::EngineUnavailable { engine: EngineKind::OnnxRuntime, reason },
        };
        let probe = || -> Result<(), String> {
            if !is_in_library(provider) {
                let library = match provider {
                    Provider::OpenVino => "onnxruntime-openvino",
                    _ => "onnxruntime-gpu",
                };
                return Err(format!(
                    "{} was built without {provider}, which the library of {library} has",
                    self.version
                ));
            }
            self.builder("probe").and_then(|mut b| b.commit_from_memory(PROBE)).map_err(|e| told(&e))?;
            Ok(())
        };
        guarded(|| probe().map_err(unavailable)).unwrap_or_else(|panic| Err(unavailable(panic)))
    }

    fn builder(&self, log_id: &str) -> ort::Result<SessionBuilder> {
        let builder = Session::builder(&self.environment)?
            // `ort` would let the library choose a device by itself, a GPU or an NPU for a model that asked for a CPU.
            .with_auto_device(AutoDevicePolicy::PreferCPU)?
            .with_no_environment_execution_providers()?
            .with_optimization_level(GraphOptimizationLevel::All)?
            .with_intra_threads(self.threads)?
            .with_inter_threads(1)?
            // Patterns plan one block for all buffers of a shape and keep it beside the arena: half as much memory again
            // for the CT net, for no time.
            .with_memory_pattern(false)?
            .with_config_entry("session.load_model_format", "ONNX")?
            // Threads that look for more work between runs take processors from the workers of other vendors.
            .with_config_entry("session.force_spinning_stop", "1")?
            .with_log_id(log_id)?;
        // With its arena the peak is half of that without (110 and 201 MiB for 16 slices of the CT net), since
        // the C library keeps freed buffers of mixed sizes; and no page is faulted in twice.
        let built_in = || ep::CPU::default().with_arena_allocator(true).build();
        let builder = builder.with_execution_providers(match self.execution.provider {
            Provider::BuiltIn => vec![built_in()],
            Provider::Cuda => vec![self.cuda()],
            Provider::TensorRt => vec![self.tensorrt(), self.cuda()],
            Provider::OpenVino if self.device == Device::Cpu => vec![self.openvino(), built_in()],
            Provider::OpenVino => vec![self.openvino()],
        })?;
        Ok(match self.device {
            Device::Cpu => builder,
            // Each provider is an error where it cannot be had; this, where it lacks an operator.
            Device::Gpu => builder.with_disable_cpu_fallback()?,
        })
    }

    fn cuda(&self) -> ExecutionProviderDispatch {
        let Execution { index, memory_max_mib, precision, .. } = self.execution;
        let cuda = ep::CUDA::default()
            .with_device_id(index.cast_signed())
            .with_tf32(precision != Precision::F32)
            .with_arena_extend_strategy(ep::ArenaExtendStrategy::SameAsRequested)
            .with_conv_algorithm_search(ep::cuda::ConvAlgorithmSearch::Heuristic);
        let limited = match bytes(memory_max_mib) {
            Some(most) => cuda.with_memory_limit(most),
            None => cuda,
        };
        limited.build().error_on_failure()
    }

    fn tensorrt(&self) -> ExecutionProviderDispatch {
        let Execution { index, memory_max_mib, precision, .. } = self.execution;
        let tensorrt =
            ep::TensorRT::default().with_device_id(index.cast_signed()).with_fp16(precision == Precision::F16);
        let limited = match bytes(memory_max_mib) {
            Some(most) => tensorrt.with_max_workspace_size(most),
            None => tensorrt,
        };
        limited.build().error_on_failure()
    }

    fn openvino(&self) -> ExecutionProviderDispatch {
        let device = match self.device {
            Device::Cpu => "CPU".to_owned(),
            Device::Gpu => format!("GPU.{}", self.execution.index),
        };
        // Left to itself it takes less where the device is faster for it.
        let precision = if self.execution.precision == Precision::F16 { "FP16" } else { "FP32" };
        let openvino =
            ep::OpenVINO::default().with_device_type(device).with_precision(precision).with_num_threads(self.threads);
        openvino.build().error_on_failure()
    }
}

/// MiB of a limit in bytes; nothing for 0, which is none.
fn bytes(mib: u64) -> Option<usize> {
    (mib > 0).then(|| usize::try_from(mib << 20).unwrap_or(usize::MAX))
}

/// Whether the library was built for it. Whether it can be had is known when a model is loaded.
fn is_in_library(provider: Provider) -> bool {
    let found = match provider {
        Provider::BuiltIn => return true,
        Provider::Cuda => ep::CUDA::is_available(),
        Provider::TensorRt => ep::TensorRT::is_available(),
        Provider::OpenVino => ep::OpenVINO::is_available(),
    };
    found.unwrap_or_default()
}

/// How ONNX Runtime says that no provider but its own, for processors, has an operator.
const LEFT_TO_CPU: &str = "assigned to the default CPU EP";

/// A session of ONNX Runtime by itself, with the options that it has here: what everything around it is measured by.
///
/// # Errors
/// As of an engine and its models.
pub fn session(
    library: &Path,
    device: Device,
    execution: Execution,
    threads: usize,
    model: &[u8],
) -> Result<Session, InferenceError> {
    let engine = OnnxRuntime::new(library, device, execution, threads, 1)?;
    let session = || engine.builder("bare")?.commit_from_memory(model);
    guarded(|| session().map_err(|e| failed(device, "bare".into(), told(&e))))
        .unwrap_or_else(|panic| Err(failed(device, "bare".into(), panic)))
}

impl Engine for OnnxRuntime {
    fn kind(&self) -> EngineKind {
        EngineKind::OnnxRuntime
    }

    fn version(&self) -> String {
        format!("{}{}", self.version, self.execution.suffix())
    }

    fn device(&self) -> Device {
        self.device
    }

    fn execution(&self) -> Execution {
        self.execution
    }

    fn providers(&self) -> Vec<Provider> {
        Provider::ALL.into_iter().filter(|&provider| is_in_library(provider)).collect()
    }

    fn load(&self, model: &OnnxModel<'_>, _call: &Call<'_>) -> Result<Box<dyn Model>, InferenceError> {
        let fail = |reason: String| failed(self.device, name(model.name()), reason);
        guarded(|| {
            let session = || {
                let mut builder = self.builder(&name(model.name()))?;
                builder.commit_from_memory(model.bytes())
            };
            let sessions: Vec<_> =
                (0..self.contexts.max(1)).map(|_| session()).collect::<Result<_, _>>().map_err(|e| fail(told(&e)))?;
            // Two parsers read the file; if they disagree, it was made to.
            if sessions.iter().any(|s| !agree(s.inputs(), model.inputs()) || !agree(s.outputs(), model.outputs())) {
                return Err(fail("ONNX Runtime finds other inputs or outputs than the file states".into()));
            }
            Ok(Box::new(OrtModel::new(model, sessions)) as Box<dyn Model>)
        })
        .unwrap_or_else(|panic| Err(fail(panic)))
    }
}

/// Why a model was not loaded.
fn failed(device: Device, model: String, reason: String) -> InferenceError {
    match reason.contains(LEFT_TO_CPU) {
        true => InferenceError::Unsupported { device, model, reason },
        false => InferenceError::Load { engine: EngineKind::OnnxRuntime, model, reason },
    }
}

fn agree(outlets: &[Outlet], specs: &[TensorSpec]) -> bool {
    outlets.len() == specs.len()
        && outlets.iter().zip(specs).all(|(outlet, spec)| {
            outlet.name() == spec.name && outlet.dtype().tensor_type() == Some(element_type(spec.element))
        })
}

fn told(error: &ort::Error) -> String {
    shown(error.message(), REASON_CHARS)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// ONNX Runtime's own words, by which a provider that lacks an operator is told from a model that cannot be loaded.
    #[test]
    fn what_is_left_to_the_processor_is_told_from_what_cannot_be_loaded() {
        let Some(library) = super::super::suite::library() else {
            assert!(std::env::var_os("CI").is_none(), "no ONNX Runtime: run `cargo xtask assets`");
            eprintln!("skipped: no ONNX Runtime; run `cargo xtask assets`");
            return;
        };
        let (environment, _) = environment(&library).expect("it loads");
        let load = |bytes: &[u8]| {
            // As where no provider that was registered has the operator.
            let builder = Session::builder(&environment)?.with_auto_device(AutoDevicePolicy::PreferCPU)?;
            builder.with_disable_cpu_fallback()?.commit_from_memory(bytes)
        };
        let why = |bytes: &[u8]| failed(Device::Gpu, "m".into(), told(&load(bytes).map(drop).expect_err("refused")));
        let left = why(PROBE);
        assert!(matches!(left, InferenceError::Unsupported { device: Device::Gpu, .. }), "{left}");
        let damaged = why(&PROBE[..20]);
        assert!(matches!(damaged, InferenceError::Load { .. }), "{damaged}");
    }
}
