//! `wasi:nn`: the module's own models, through the runtime's engines.
//!
//! The interface is the standard one and the backend contract ([`BackendGraph`], [`BackendExecutionContext`]) is
//! that of the `wasmtime-wasi-nn` crate. The host functions are ours, because the crate's neither account for
//! tensors nor let the guest see why a call failed.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use wasmtime::component::Resource;
use wasmtime_wasi_nn::ExecutionContext;
use wasmtime_wasi_nn::backend::{BackendError, BackendExecutionContext, BackendGraph, Id, NamedTensor};

use crate::inference::{Batch, Call, Engines, InferenceError, LoadedModel, Request, TensorSpec, Turn};
use crate::memory::Budget;
use crate::module::manifest::ModelEntry;
use crate::module::package::{Package, PackageError};
use crate::sandbox::bindings::wasi::nn::errors::ErrorCode;
use crate::sandbox::bindings::wasi::nn::graph::{ExecutionTarget, GraphEncoding};
use crate::sandbox::bindings::wasi::nn::{errors, graph, inference, tensor};
use crate::sandbox::state::{Failure, JobState};
use crate::tensor::{ElementType, Tensor, TensorError};

/// What `errors.error` holds.
#[derive(Debug)]
pub struct NnError {
    code: ErrorCode,
    text: String,
    /// An engine could not do it, whatever the guest asked: that may be otherwise at another time.
    of_engine: bool,
    /// What it met, if that is what it was.
    limit: Option<&'static str>,
}

impl NnError {
    /// What the guest asked for cannot be.
    fn refused(code: ErrorCode, text: String) -> Self {
        Self { code, text, of_engine: false, limit: None }
    }
}

/// When a job must be over. Of a stream it moves on with each frame, for all that was made of it.
#[derive(Debug, Clone)]
pub(crate) struct Deadline(Arc<Mutex<Until>>);

#[derive(Debug, Clone, Copy)]
struct Until {
    at: Instant,
    /// Which limit says so, and its value in ms; none where that is the job's.
    limit: Option<(&'static str, u64)>,
}

impl Deadline {
    pub(crate) fn new(at: Instant) -> Self {
        Self(Arc::new(Mutex::new(Until { at, limit: None })))
    }

    pub(in crate::sandbox) fn get(&self) -> Instant {
        self.until().at
    }

    /// So many ms after a moment, as a limit of that name says.
    pub(in crate::sandbox) fn set(&self, from: Instant, limit: &'static str, ms: u64) {
        let until = Until { at: from + Duration::from_millis(ms), limit: Some((limit, ms)) };
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = until;
    }

    fn until(&self) -> Until {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// An engine knows of jobs alone: what came too late says which limit it was late for.
    fn named(&self, error: InferenceError) -> InferenceError {
        match (error, self.until().limit) {
            (InferenceError::Deadline { model }, Some((limit, ms))) => InferenceError::TooLong { model, limit, ms },
            (InferenceError::TooLate { model, why, .. }, Some((limit, _))) => {
                InferenceError::TooLate { model, limit, why }
            }
            (error, _) => error,
        }
    }
}

/// For which job models run.
#[derive(Debug, Clone)]
pub(crate) struct Job {
    pub(crate) budget: Budget,
    pub(crate) deadline: Deadline,
    pub(crate) turn: Turn,
}

impl Job {
    fn call(&self, batch: Batch) -> Call<'_> {
        Call { budget: &self.budget, deadline: Some(self.deadline.get()), turn: &self.turn, batch }
    }
}

/// The models of the module's package, loaded when first asked for.
pub(crate) struct Models {
    package: Arc<Package>,
    engines: Arc<Engines>,
    job: Job,
    loaded: BTreeMap<String, Arc<LoadedModel>>,
    /// Why a model of the package could not be read, if one could not.
    pub(in crate::sandbox) failed: Option<PackageError>,
    /// Why an engine could not load or run a model, if one could not.
    pub(in crate::sandbox) engine_failed: Option<String>,
}

impl Models {
    pub(crate) fn new(package: Arc<Package>, engines: Arc<Engines>, job: Job) -> Self {
        Self { package, engines, job, loaded: BTreeMap::new(), failed: None, engine_failed: None }
    }

    /// Those that were used.
    pub(crate) fn record(self) -> Vec<Arc<LoadedModel>> {
        self.loaded.into_values().collect()
    }

    /// Those that were used until now, by name.
    pub(in crate::sandbox) fn loaded(&self) -> impl Iterator<Item = (&String, &Arc<LoadedModel>)> {
        self.loaded.iter()
    }

    fn graph(&mut self, name: &str) -> Result<Graph, NnError> {
        let model = match self.loaded.get(name) {
            Some(model) => model.clone(),
            None => {
                let model = Arc::new(self.load(name)?);
                self.loaded.insert(name.to_owned(), model.clone());
                model
            }
        };
        let entry = self.package.manifest().models.iter().find(|entry| entry.name == name);
        let batch = entry.map_or(Batch::Whole, ModelEntry::batch);
        Ok(Graph { model, job: self.job.clone(), batch })
    }

    fn load(&mut self, name: &str) -> Result<LoadedModel, NnError> {
        let Some(entry) = self.package.manifest().models.iter().find(|m| m.name == name) else {
            let own: Vec<_> = self.package.manifest().models.iter().map(|m| m.name.as_str()).collect();
            let shown: String = name.chars().take(64).flat_map(char::escape_default).collect();
            let text = format!("the module's package has no model `{shown}`; it has: {}", own.join(", "));
            return Err(NnError::refused(ErrorCode::NotFound, text));
        };
        let bytes = match self.package.model(&entry.name, self.engines.model_max_mib()) {
            Ok(bytes) => bytes,
            Err(error) => {
                // The reason names files of the host: it is for the operator.
                self.failed.get_or_insert(error);
                let text = "the model cannot be read; the operator's error says why".to_owned();
                return Err(NnError::refused(ErrorCode::RuntimeError, text));
            }
        };
        let vendor = &self.package.manifest().vendor;
        let ModelEntry { name, target, warm_up, .. } = entry;
        let request = Request { vendor, name, bytes: &bytes, target: *target, warm_up: Some(warm_up) };
        self.engines.load(request, &self.job.call(entry.batch())).map_err(|e| self.job.deadline.named(e).into())
    }
}

/// A model of the package as wasi-nn sees it.
#[derive(Clone)]
#[expect(unreachable_pub, reason = "the generated bindings re-export it")]
pub struct Graph {
    model: Arc<LoadedModel>,
    job: Job,
    batch: Batch,
}

/// A model to be run: the backend contract of `wasmtime-wasi-nn`, and what that hides of the model. It keeps no state between runs.
#[expect(unreachable_pub, reason = "the generated bindings re-export it")]
pub struct Context {
    graph: Graph,
    backend: ExecutionContext,
    outputs: Outputs,
}

/// What the last run gave. The crate's tensors are vectors; what a worker wrote lies in a sealed file, and would be copied into one
/// for nobody. So outputs pass the contract by.
type Outputs = Arc<Mutex<Vec<(String, Tensor)>>>;

impl Context {
    fn of(graph: &Graph) -> Result<Self, NnError> {
        let outputs = Outputs::default();
        let backend = Box::new(Backend { graph: graph.clone(), outputs: outputs.clone() }) as Box<dyn BackendGraph>;
        let backend = wasmtime_wasi_nn::Graph::from(backend).init_execution_context()?;
        Ok(Self { graph: graph.clone(), backend, outputs })
    }

    /// The same model to be run by somebody else.
    pub(super) fn again(&self) -> Result<Self, NnError> {
        Self::of(&self.graph)
    }

    /// Runs it on named inputs; gives every output with its name.
    pub(super) fn run(&mut self, inputs: Vec<(String, Tensor)>) -> Result<Vec<(String, Tensor)>, NnError> {
        let named = inputs.into_iter().map(|(name, tensor)| NamedTensor { name, tensor: to_wasi_nn(tensor) });
        self.backend.compute_with_io(named.collect())?;
        Ok(std::mem::take(&mut *self.outputs.lock().unwrap_or_else(PoisonError::into_inner)))
    }

    /// What it takes.
    pub(super) fn inputs(&self) -> &[TensorSpec] {
        self.graph.model.inputs()
    }

    /// What it gives.
    pub(super) fn outputs(&self) -> &[TensorSpec] {
        self.graph.model.outputs()
    }
}

/// A graph to the crate; also a context of it.
#[derive(Clone)]
struct Backend {
    graph: Graph,
    outputs: Outputs,
}

impl BackendGraph for Backend {
    fn init_execution_context(&self) -> Result<ExecutionContext, BackendError> {
        Ok(ExecutionContext::from(Box::new(self.clone()) as Box<dyn BackendExecutionContext>))
    }
}

impl BackendExecutionContext for Backend {
    fn set_input(&mut self, _id: Id, _tensor: &wasmtime_wasi_nn::Tensor) -> Result<(), BackendError> {
        Err(only_components())
    }

    fn get_output(&mut self, _id: Id) -> Result<wasmtime_wasi_nn::Tensor, BackendError> {
        Err(only_components())
    }

    /// Its outputs are in [`Outputs`].
    fn compute(&mut self, inputs: Option<Vec<NamedTensor>>) -> Result<Option<Vec<NamedTensor>>, BackendError> {
        let Graph { model, job, batch } = &self.graph;
        let failed = |e: InferenceError| BackendError::BackendAccess(wasmtime::Error::new(job.deadline.named(e)));
        let inputs = inputs
            .ok_or_else(only_components)?
            .into_iter()
            .map(|input| Ok((input.name, from_wasi_nn(input.tensor, &job.budget)?)))
            .collect::<Result<Vec<_>, TensorError>>()
            .map_err(|e| failed(e.into()))?;
        let outputs = model.run(inputs, &job.call(*batch)).map_err(failed)?;
        *self.outputs.lock().unwrap_or_else(PoisonError::into_inner) = outputs;
        Ok(Some(Vec::new()))
    }
}

/// The other half of the backend contract is for core modules, which cannot run here.
fn only_components() -> BackendError {
    BackendError::BackendAccess(wasmtime::format_err!("only components are supported"))
}

fn from_wasi_nn(t: wasmtime_wasi_nn::Tensor, budget: &Budget) -> Result<Tensor, TensorError> {
    use wasmtime_wasi_nn::wit::TensorType as T;
    let element = match t.ty {
        T::Fp16 => ElementType::F16,
        T::Fp32 => ElementType::F32,
        T::Fp64 => ElementType::F64,
        T::Bf16 => ElementType::Bf16,
        T::U8 => ElementType::U8,
        T::I32 => ElementType::I32,
        T::I64 => ElementType::I64,
    };
    Tensor::new(t.dimensions.iter().map(|&d| d as usize).collect(), element, t.data, budget)
}

fn to_wasi_nn(t: Tensor) -> wasmtime_wasi_nn::Tensor {
    use wasmtime_wasi_nn::wit::TensorType as T;
    let ty = match t.element() {
        ElementType::F16 => T::Fp16,
        ElementType::F32 => T::Fp32,
        ElementType::F64 => T::Fp64,
        ElementType::Bf16 => T::Bf16,
        ElementType::U8 => T::U8,
        ElementType::I32 => T::I32,
        ElementType::I64 => T::I64,
    };
    let (dimensions, data) = (dimensions(&t), t.into_data());
    wasmtime_wasi_nn::Tensor { dimensions, ty, data }
}

fn dimensions(t: &Tensor) -> Vec<u32> {
    t.shape().iter().map(|&d| u32::try_from(d).unwrap_or(u32::MAX)).collect()
}

impl From<NnError> for Failure {
    fn from(error: NnError) -> Self {
        match (error.limit, error.code) {
            (Some(limit), _) => Self::Limit(limit, error.text),
            (None, ErrorCode::InvalidArgument) => Self::Invalid(error.text),
            (None, _) => Self::Unavailable(error.text),
        }
    }
}

impl From<BackendError> for NnError {
    fn from(error: BackendError) -> Self {
        match error {
            BackendError::BackendAccess(e) => match e.downcast::<InferenceError>() {
                Ok(e) => e.into(),
                Err(e) => Self::refused(ErrorCode::RuntimeError, e.to_string()),
            },
            other => Self::refused(ErrorCode::RuntimeError, other.to_string()),
        }
    }
}

impl From<InferenceError> for NnError {
    fn from(error: InferenceError) -> Self {
        let code = match &error {
            InferenceError::Input(_) => ErrorCode::InvalidArgument,
            InferenceError::OverBudget(_) | InferenceError::Tensor(TensorError::OverBudget(_)) => ErrorCode::TooLarge,
            InferenceError::Tensor(_) => ErrorCode::InvalidArgument,
            InferenceError::DeviceUnavailable { .. } => ErrorCode::UnsupportedOperation,
            InferenceError::Deadline { .. }
            | InferenceError::TooLong { .. }
            | InferenceError::TooLate { .. }
            | InferenceError::Cancelled { .. } => ErrorCode::Timeout,
            InferenceError::Busy { .. } => ErrorCode::RuntimeError,
            _ => ErrorCode::RuntimeError,
        };
        let of_engine = matches!(
            error,
            InferenceError::Load { .. }
                | InferenceError::Run { .. }
                | InferenceError::EngineUnavailable { .. }
                | InferenceError::DeviceUnavailable { .. }
                | InferenceError::Busy { .. }
        );
        Self { code, text: error.to_string(), of_engine, limit: error.limit() }
    }
}

type NnResult<T> = wasmtime::Result<Result<Resource<T>, Resource<NnError>>>;

impl JobState {
    /// Hands out a resource or an error, both as handles.
    fn answer<T: Send + 'static>(&mut self, result: Result<T, NnError>) -> NnResult<T> {
        match result {
            Ok(value) => Ok(Ok(self.push_or_trap(value)?)),
            Err(error) => Ok(Err(self.error_handle(error)?)),
        }
    }

    fn error_handle(&mut self, error: NnError) -> wasmtime::Result<Resource<NnError>> {
        self.note(&error);
        self.push_or_trap(error)
    }

    /// Remembers what the operator is to hear of an error, whatever the guest makes of it.
    pub(super) fn note(&mut self, error: &NnError) {
        if let Some(limit) = error.limit {
            self.growth.record(limit, error.text.clone());
        }
        if error.of_engine {
            self.models.engine_failed.get_or_insert_with(|| error.text.clone());
        }
    }

    fn push_or_trap<T: Send + 'static>(&mut self, entry: T) -> wasmtime::Result<Resource<T>> {
        self.push(entry).map_err(|failure| match failure {
            Failure::Limit(limit, detail) => self.limit_trap(limit, detail),
            Failure::Trap(error) => error,
            Failure::Over => self.over(),
            other => wasmtime::format_err!("{other:?}"),
        })
    }
}

impl graph::Host for JobState {
    fn load(&mut self, _builder: Vec<Vec<u8>>, _encoding: GraphEncoding, _target: ExecutionTarget) -> NnResult<Graph> {
        let text = "models come from the module's package: use load-by-name".to_owned();
        self.answer(Err(NnError::refused(ErrorCode::UnsupportedOperation, text)))
    }

    fn load_by_name(&mut self, name: String) -> NnResult<Graph> {
        let graph = self.models.graph(&name);
        self.answer(graph)
    }
}

impl graph::HostGraph for JobState {
    fn init_execution_context(&mut self, this: Resource<Graph>) -> NnResult<Context> {
        let context = Context::of(self.table.get(&this)?);
        self.answer(context)
    }

    fn drop(&mut self, this: Resource<Graph>) -> wasmtime::Result<()> {
        self.table.delete(this)?;
        Ok(())
    }
}

impl inference::Host for JobState {}

impl inference::HostGraphExecutionContext for JobState {
    fn compute(
        &mut self,
        this: Resource<Context>,
        inputs: Vec<(String, Resource<Tensor>)>,
    ) -> wasmtime::Result<Result<Vec<(String, Resource<Tensor>)>, Resource<NnError>>> {
        let mut named = Vec::with_capacity(inputs.len());
        for (name, tensor) in inputs {
            named.push((name, self.table.delete(tensor)?));
        }
        let ran = self.table.get_mut(&this)?.run(named);
        // A job that ran out of time in an engine ends here, whatever the guest would make of the error.
        self.check_time()?;
        match ran {
            Ok(outputs) => {
                let handles = outputs.into_iter().map(|(name, tensor)| Ok((name, self.push_or_trap(tensor)?)));
                Ok(Ok(handles.collect::<wasmtime::Result<Vec<_>>>()?))
            }
            Err(error) => Ok(Err(self.error_handle(error)?)),
        }
    }

    fn drop(&mut self, this: Resource<Context>) -> wasmtime::Result<()> {
        self.table.delete(this)?;
        Ok(())
    }
}

impl tensor::Host for JobState {}

impl tensor::HostTensor for JobState {
    fn new(
        &mut self,
        dimensions: Vec<u32>,
        ty: tensor::TensorType,
        data: Vec<u8>,
    ) -> wasmtime::Result<Resource<Tensor>> {
        let shape = dimensions.iter().map(|&d| d as usize).collect();
        match Tensor::new(shape, ElementType::from(ty), data, &self.budget) {
            Ok(tensor) => self.push_or_trap(tensor),
            Err(TensorError::OverBudget(e)) => Err(self.limit_trap("host_memory_mib", e.to_string())),
            Err(e) => Err(wasmtime::Error::new(e)),
        }
    }

    fn dimensions(&mut self, this: Resource<Tensor>) -> wasmtime::Result<Vec<u32>> {
        Ok(dimensions(self.table.get(&this)?))
    }

    fn ty(&mut self, this: Resource<Tensor>) -> wasmtime::Result<tensor::TensorType> {
        Ok(self.table.get(&this)?.element().into())
    }

    fn data(&mut self, this: Resource<Tensor>) -> wasmtime::Result<Vec<u8>> {
        let bytes = self.table.get(&this)?.data().len() as u64;
        if let Err(Failure::Limit(limit, detail)) = self.check_read(bytes) {
            return Err(self.limit_trap(limit, detail));
        }
        Ok(self.table.get(&this)?.data().to_vec())
    }

    fn drop(&mut self, this: Resource<Tensor>) -> wasmtime::Result<()> {
        self.table.delete(this)?;
        Ok(())
    }
}

impl errors::Host for JobState {}

impl errors::HostError for JobState {
    fn code(&mut self, this: Resource<NnError>) -> wasmtime::Result<ErrorCode> {
        Ok(self.table.get(&this)?.code)
    }

    fn data(&mut self, this: Resource<NnError>) -> wasmtime::Result<String> {
        Ok(self.table.get(&this)?.text.clone())
    }

    fn drop(&mut self, this: Resource<NnError>) -> wasmtime::Result<()> {
        self.table.delete(this)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inference::TooLate;

    #[test]
    fn what_comes_too_late_names_the_limit_that_holds_at_the_time() {
        let late = || InferenceError::Deadline { model: "m".into() };
        let why = TooLate { left: Duration::from_millis(3), ahead: Duration::ZERO, takes: Duration::from_millis(9) };
        let refused = || InferenceError::TooLate { model: "m".into(), limit: "job_deadline_ms", why };
        let deadline = Deadline::new(Instant::now());
        for error in [late(), refused()].map(|error| deadline.named(error)) {
            assert!(
                error.limit() == Some("job_deadline_ms") && error.to_string().contains("(job_deadline_ms)"),
                "{error}"
            );
        }
        for (limit, ms) in [("open_deadline_ms", 300), ("frame_budget_ms", 33)] {
            deadline.set(Instant::now(), limit, ms);
            assert!(deadline.get() <= Instant::now() + Duration::from_millis(ms));
            for error in [late(), refused()].map(|error| NnError::from(deadline.named(error))) {
                assert!(error.limit == Some(limit) && matches!(error.code, ErrorCode::Timeout), "{:?}", error.limit);
                assert!(error.text.contains(limit) && !error.text.contains("job"), "{}", error.text);
            }
        }
    }
}
