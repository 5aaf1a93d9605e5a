//! ONNX Runtime, from a shared library that is loaded when the first model is.
//!
//! The library is native code with a C interface. It is one per process, and so is its environment.

use std::fmt::Debug;
use std::fs::File;
use std::io::Read;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, PoisonError, mpsc};
use std::time::Instant;

use ort::environment::{Environment, EnvironmentBuilder};
use ort::ep::{self, ExecutionProvider, ExecutionProviderDispatch};
use ort::logging::LogLevel;
use ort::session::builder::{AutoDevicePolicy, GraphOptimizationLevel, SessionBuilder};
use ort::session::{RunOptions, Session, SessionInputValue};
use ort::value::{DynValue, Outlet, PrimitiveTensorElementType, TensorElementType, TensorRef};

use super::{
    Call, Device, Engine, EngineKind, Execution, InferenceError, Model, OnnxModel, Output, Precision, Provider,
    REASON_CHARS, TensorSpec, guarded, name, shown,
};
use crate::tensor::{ElementType, Tensor};

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
                return Err(format!("{} was built without {provider}; use the library of {library}", self.version));
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
            Ok(Box::new(OrtModel {
                name: model.name().to_string(),
                inputs: model.inputs().to_vec(),
                outputs: model.outputs().to_vec(),
                idle: Mutex::new(sessions),
                freed: Condvar::new(),
            }) as Box<dyn Model>)
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
pub(super) fn bring_in(library: &Path) -> Result<(), InferenceError> {
    bring(&mut LIBRARY.lock().unwrap_or_else(PoisonError::into_inner), library).map(drop).map_err(unusable)
}

fn unusable(reason: String) -> InferenceError {
    InferenceError::EngineUnavailable {
        engine: EngineKind::OnnxRuntime,
        reason: format!(
            "{reason}; set onnxruntime_library or GANTRY_ONNXRUNTIME to a libonnxruntime.so of version 1.{} or newer",
            ort::MINOR_VERSION
        ),
    }
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
fn environment(library: &Path) -> Result<(Environment, String), String> {
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

struct OrtModel {
    name: String,
    inputs: Vec<TensorSpec>,
    outputs: Vec<TensorSpec>,
    /// One for each run at once, since `ort` runs a session once at a time. Each has weights of its own.
    idle: Mutex<Vec<Session>>,
    freed: Condvar,
}

/// A session that nobody else uses.
struct Borrowed<'m>(&'m OrtModel, Option<Session>);

impl Drop for Borrowed<'_> {
    fn drop(&mut self) {
        self.0.idle.lock().unwrap_or_else(PoisonError::into_inner).extend(self.1.take());
        self.0.freed.notify_one();
    }
}

impl Model for OrtModel {
    fn inputs(&self) -> &[TensorSpec] {
        &self.inputs
    }

    fn outputs(&self) -> &[TensorSpec] {
        &self.outputs
    }

    fn run(&self, inputs: Vec<Tensor>, call: &Call<'_>) -> Result<Vec<Tensor>, InferenceError> {
        let mut tensors = Vec::new();
        self.run_and_show(inputs, call, &mut |outputs| {
            let copied = outputs.iter().map(|Output { element, shape, bytes }| {
                let mut tensor = Tensor::zeroed(shape.clone(), *element, call.budget)?;
                tensor.data_mut().copy_from_slice(bytes);
                Ok(tensor)
            });
            tensors = copied.collect::<Result<_, InferenceError>>()?;
            Ok(())
        })?;
        Ok(tensors)
    }

    fn run_and_show(&self, inputs: Vec<Tensor>, call: &Call<'_>, show: &mut Show<'_>) -> Result<(), InferenceError> {
        guarded(|| {
            let mut borrowed = self.borrow();
            let Some(session) = &mut borrowed.1 else { return Err(self.error("it has no session".into())) };
            match call.deadline {
                None => self.execute(session, inputs, &RunOptions::new().map_err(|e| self.fail(&e))?, show),
                Some(deadline) => self.execute_until(session, inputs, deadline, show),
            }
        })
        .unwrap_or_else(|panic| Err(self.error(panic)))
    }
}

/// Who is shown the outputs of a run.
type Show<'s> = dyn FnMut(&[Output<'_>]) -> Result<(), InferenceError> + 's;

impl OrtModel {
    /// Waits for one that is idle.
    fn borrow(&self) -> Borrowed<'_> {
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        let mut idle = self.freed.wait_while(idle, |idle| idle.is_empty()).unwrap_or_else(PoisonError::into_inner);
        let session = idle.pop();
        drop(idle);
        Borrowed(self, session)
    }

    /// Asks ONNX Runtime, from a second thread, to stop after the operator that runs at `deadline`.
    fn execute_until(
        &self,
        session: &mut Session,
        inputs: Vec<Tensor>,
        deadline: Instant,
        show: &mut Show<'_>,
    ) -> Result<(), InferenceError> {
        let options = RunOptions::new().map_err(|e| self.fail(&e))?;
        let result = std::thread::scope(|scope| {
            let (running, finished) = mpsc::channel::<()>();
            let options = &options;
            scope.spawn(move || {
                let left = deadline.saturating_duration_since(Instant::now());
                if finished.recv_timeout(left) == Err(mpsc::RecvTimeoutError::Timeout) {
                    let _ = options.terminate();
                }
            });
            let result = self.execute(session, inputs, options, show);
            drop(running);
            result
        });
        match result {
            Err(InferenceError::Run { .. }) if Instant::now() >= deadline => {
                Err(InferenceError::Deadline { model: name(&self.name) })
            }
            result => result,
        }
    }

    fn execute(
        &self,
        session: &mut Session,
        inputs: Vec<Tensor>,
        options: &RunOptions,
        show: &mut Show<'_>,
    ) -> Result<(), InferenceError> {
        let values = self
            .inputs
            .iter()
            .zip(&inputs)
            .map(|(spec, tensor)| Ok((spec.name.as_str(), to_ort(tensor.element(), tensor.shape(), tensor.data())?)))
            .collect::<ort::Result<Vec<_>>>()
            .map_err(|e| self.fail(&e))?;
        let outputs = session.run_with_options(values, options).map_err(|e| self.fail(&e))?;
        // Not needed for the outputs, and as large.
        drop(inputs);
        let values: Vec<_> = outputs.values().collect();
        let seen = self.outputs.iter().zip(&values).map(|(spec, value)| self.output(spec, value));
        show(&seen.collect::<Result<Vec<_>, _>>()?)
    }

    fn output<'v>(&self, spec: &TensorSpec, value: &'v DynValue) -> Result<Output<'v>, InferenceError> {
        match spec.element {
            ElementType::F16 => self.seen::<half::f16>(spec, value),
            ElementType::Bf16 => self.seen::<half::bf16>(spec, value),
            ElementType::F32 => self.seen::<f32>(spec, value),
            ElementType::F64 => self.seen::<f64>(spec, value),
            ElementType::U8 => self.seen::<u8>(spec, value),
            ElementType::I32 => self.seen::<i32>(spec, value),
            ElementType::I64 => self.seen::<i64>(spec, value),
        }
    }

    fn seen<'v, T: PrimitiveTensorElementType + bytemuck::Pod>(
        &self,
        spec: &TensorSpec,
        value: &'v DynValue,
    ) -> Result<Output<'v>, InferenceError> {
        let (shape, elements) = value.try_extract_tensor::<T>().map_err(|e| self.fail(&e))?;
        let shape = shape
            .iter()
            .map(|&size| usize::try_from(size))
            .collect::<Result<Vec<_>, _>>()
            .map_err(|_| self.error(format!("output '{}' has a negative dimension", name(&spec.name))))?;
        let bytes: &[u8] = bytemuck::cast_slice(elements);
        if bytes.len() != Tensor::bytes_of(&shape, spec.element)? {
            return Err(self.error(format!("output '{}' has {} bytes", name(&spec.name), bytes.len())));
        }
        Ok(Output { element: spec.element, shape, bytes })
    }

    fn error(&self, reason: String) -> InferenceError {
        InferenceError::Run { engine: EngineKind::OnnxRuntime, model: name(&self.name), reason }
    }

    fn fail(&self, error: &ort::Error) -> InferenceError {
        self.error(told(error))
    }
}

/// Elements as ONNX Runtime sees them: in place.
fn to_ort<'t>(element: ElementType, shape: &[usize], data: &'t [u8]) -> ort::Result<SessionInputValue<'t>> {
    match element {
        ElementType::F16 => viewed::<half::f16>(shape, data),
        ElementType::Bf16 => viewed::<half::bf16>(shape, data),
        ElementType::F32 => viewed::<f32>(shape, data),
        ElementType::F64 => viewed::<f64>(shape, data),
        ElementType::U8 => viewed::<u8>(shape, data),
        ElementType::I32 => viewed::<i32>(shape, data),
        ElementType::I64 => viewed::<i64>(shape, data),
    }
}

fn viewed<'t, T>(shape: &[usize], data: &'t [u8]) -> ort::Result<SessionInputValue<'t>>
where
    T: PrimitiveTensorElementType + bytemuck::Pod + Debug,
{
    let shape = shape.to_vec();
    match bytemuck::try_cast_slice::<u8, T>(data) {
        Ok(elements) => Ok(TensorRef::from_array_view((shape, elements))?.into()),
        // Bytes may lie anywhere; allocators put all but the smallest on 16.
        Err(_) => {
            let elements: Vec<T> = data.chunks_exact(size_of::<T>()).map(bytemuck::pod_read_unaligned).collect();
            Ok(ort::value::Tensor::from_array((shape, elements))?.into())
        }
    }
}

fn element_type(element: ElementType) -> TensorElementType {
    match element {
        ElementType::F16 => TensorElementType::Float16,
        ElementType::Bf16 => TensorElementType::Bfloat16,
        ElementType::F32 => TensorElementType::Float32,
        ElementType::F64 => TensorElementType::Float64,
        ElementType::U8 => TensorElementType::Uint8,
        ElementType::I32 => TensorElementType::Int32,
        ElementType::I64 => TensorElementType::Int64,
    }
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

    #[test]
    fn elements_are_seen_in_place_and_copied_only_from_odd_addresses() {
        let Some(library) = super::super::suite::library() else {
            assert!(std::env::var_os("CI").is_none(), "no ONNX Runtime: run `cargo xtask assets`");
            eprintln!("skipped: no ONNX Runtime; run `cargo xtask assets`");
            return;
        };
        let _engine = OnnxRuntime::new(&library, Device::Cpu, Execution::default(), 1, 1).expect("it loads");
        let aligned: Vec<f64> = (0..9).map(f64::from).collect();
        let bytes: &[u8] = bytemuck::cast_slice(&aligned);
        for offset in [0, 1, 4] {
            let mut moved = vec![0.0f64; 10];
            let moved: &mut [u8] = bytemuck::cast_slice_mut(&mut moved);
            moved[offset..offset + 72].copy_from_slice(bytes);
            let data = &moved[offset..offset + 72];
            let value = to_ort(ElementType::F64, &[3, 3], data).expect("a value");
            assert_eq!(matches!(value, SessionInputValue::View(_)), offset == 0, "offset {offset}");
            let (shape, elements) = value.try_extract_tensor::<f64>().expect("f64");
            assert_eq!((&shape[..], elements), (&[3, 3][..], &aligned[..]));
            assert_eq!(offset == 0, std::ptr::eq(elements.as_ptr().cast(), data.as_ptr()));
        }
    }
}
