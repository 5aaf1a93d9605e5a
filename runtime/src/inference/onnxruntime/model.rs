//! A model: sessions, and tensors as ONNX Runtime sees them.

use std::fmt::Debug;
use std::sync::{Condvar, Mutex, PoisonError, mpsc};
use std::time::Instant;

use ort::session::{RunOptions, Session, SessionInputValue};
use ort::value::{DynValue, PrimitiveTensorElementType, TensorElementType, TensorRef};

use super::told;
use crate::inference::{Call, EngineKind, InferenceError, Model, OnnxModel, Output, TensorSpec, guarded, name};
use crate::tensor::{ElementType, Tensor};

pub(super) struct OrtModel {
    name: String,
    inputs: Vec<TensorSpec>,
    outputs: Vec<TensorSpec>,
    /// One for each run at once, since `ort` runs a session once at a time. Each has weights of its own.
    idle: Mutex<Vec<Session>>,
    freed: Condvar,
}

impl OrtModel {
    pub(super) fn new(model: &OnnxModel<'_>, sessions: Vec<Session>) -> Self {
        Self {
            name: model.name().to_string(),
            inputs: model.inputs().to_vec(),
            outputs: model.outputs().to_vec(),
            idle: Mutex::new(sessions),
            freed: Condvar::new(),
        }
    }
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

pub(super) fn element_type(element: ElementType) -> TensorElementType {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inference::onnxruntime::OnnxRuntime;
    use crate::inference::{Device, Execution, suite};

    #[test]
    fn elements_are_seen_in_place_and_copied_only_from_odd_addresses() {
        let Some(library) = suite::library() else {
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
