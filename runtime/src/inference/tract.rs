//! tract: embedded, pure Rust, on the CPU. Always there.

use std::io::Cursor;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use tract_onnx::prelude::multithread::Executor;
use tract_onnx::prelude::{
    DatumType, Framework, InferenceFact, InferenceModel, InferenceModelExt, RunOptions, TValue, TVec, TractResult,
    TypedRunnableModel,
};
use tract_onnx::tract_core::plan;
use tract_onnx::tract_hir::ops::unimpl::UnimplementedOp;

use super::{
    Call, Device, Dim, Engine, EngineKind, InferenceError, Model, OnnxModel, REASON_CHARS, TensorSpec, guarded, name,
    shown,
};
use crate::memory::Budget;
use crate::tensor::{ElementType, Tensor};

/// Plans that one model keeps, one for each combination of input shapes: a plan holds its own packed weights. A
/// study asks for full slabs and one shorter last one.
const PLANS_MAX: usize = 4;

/// The engine.
pub(super) struct Tract {
    executor: Executor,
}

impl Tract {
    /// With a pool of `threads` threads, all models together.
    pub(super) fn new(threads: usize) -> Self {
        let executor = match threads {
            0 | 1 => Executor::SingleThread,
            n => Executor::multithread_with_name(n, "tract"),
        };
        Self { executor }
    }
}

impl Engine for Tract {
    fn kind(&self) -> EngineKind {
        EngineKind::Tract
    }

    fn version(&self) -> String {
        // Pinned with `=` in the workspace's manifest; a test holds the two together.
        "tract 0.23.9".to_string()
    }

    fn device(&self) -> Device {
        Device::Cpu
    }

    fn load(&self, model: &OnnxModel<'_>, _call: &Call<'_>) -> Result<Box<dyn Model>, InferenceError> {
        let fail = |reason| load_error(model.name(), reason);
        guarded(|| {
            for spec in model.inputs().iter().chain(model.outputs()) {
                if datum_type(spec.element).is_none() {
                    let reason =
                        format!("'{}' is {}, which tract lacks; use ONNX Runtime", name(&spec.name), spec.element);
                    return Err(fail(reason));
                }
            }
            let template = parse(model).map_err(fail)?;
            let loaded = TractModel {
                name: model.name().to_string(),
                inputs: model.inputs().to_vec(),
                outputs: model.outputs().to_vec(),
                template,
                options: RunOptions { executor: Some(self.executor.clone()), ..RunOptions::default() },
                plans: Mutex::new(Vec::new()),
            };
            if let Some(shapes) = fixed_shapes(model.inputs()) {
                loaded.plan(&shapes).map_err(fail)?;
            }
            Ok(Box::new(loaded) as Box<dyn Model>)
        })
        .unwrap_or_else(|panic| Err(fail(panic)))
    }
}

fn load_error(model: &str, reason: String) -> InferenceError {
    InferenceError::Load { engine: EngineKind::Tract, model: name(model), reason }
}

/// Parses the file; refuses operators that tract lacks now rather than on the first run.
fn parse(model: &OnnxModel<'_>) -> Result<InferenceModel, String> {
    let parsed = tract_onnx::onnx().model_for_read(&mut Cursor::new(model.bytes())).map_err(|e| told(&e))?;
    if let Some(node) = parsed.nodes().iter().find(|node| node.op_is::<UnimplementedOp>()) {
        return Err(format!("it has no operator {}; use ONNX Runtime", name(&node.op.name())));
    }
    let outlets = parsed.input_outlets().map_err(|e| told(&e))?;
    let same = outlets.len() == model.inputs().len()
        && outlets.iter().zip(model.inputs()).all(|(outlet, spec)| parsed.node(outlet.node).name == spec.name)
        && parsed.output_outlets().is_ok_and(|outputs| outputs.len() == model.outputs().len());
    if !same {
        return Err("tract finds other inputs or outputs than the file states".into());
    }
    Ok(parsed)
}

/// Shapes of the inputs, if the model leaves nothing open.
fn fixed_shapes(specs: &[TensorSpec]) -> Option<Shapes> {
    let size = |dim: &Dim| match dim {
        Dim::Fixed(size) => Some(*size),
        Dim::Named(_) | Dim::Any => None,
    };
    specs.iter().map(|spec| spec.dims.iter().map(size).collect()).collect()
}

/// Shapes of all inputs.
type Shapes = Vec<Vec<usize>>;
type Plan = Arc<TypedRunnableModel>;

struct TractModel {
    name: String,
    inputs: Vec<TensorSpec>,
    outputs: Vec<TensorSpec>,
    /// As parsed, its weights shared with every plan's starting point.
    template: InferenceModel,
    options: RunOptions,
    /// Most recently used last.
    plans: Mutex<Vec<(Shapes, Plan)>>,
}

impl TractModel {
    /// The model, optimised for exactly these input shapes: with sizes known, tract folds shape arithmetic away and
    /// chooses blocked convolutions; run symbolically, the same net takes a multiple of the time or fails.
    fn plan(&self, shapes: &[Vec<usize>]) -> Result<Plan, String> {
        if let Some(plan) = self.cached(shapes) {
            return Ok(plan);
        }
        let plan = self.build(shapes).map_err(|e| told(&e))?;
        let mut plans = self.plans.lock().unwrap_or_else(PoisonError::into_inner);
        if plans.len() >= PLANS_MAX {
            plans.remove(0);
        }
        plans.push((shapes.to_vec(), Arc::clone(&plan)));
        Ok(plan)
    }

    fn cached(&self, shapes: &[Vec<usize>]) -> Option<Plan> {
        let mut plans = self.plans.lock().unwrap_or_else(PoisonError::into_inner);
        let at = plans.iter().position(|(of, _)| of == shapes)?;
        let entry = plans.remove(at);
        let plan = Arc::clone(&entry.1);
        plans.push(entry);
        Some(plan)
    }

    fn build(&self, shapes: &[Vec<usize>]) -> TractResult<Plan> {
        let mut model = self.template.clone();
        for (i, (spec, shape)) in self.inputs.iter().zip(shapes).enumerate() {
            let datum = datum_type(spec.element).expect("types were checked at load");
            model.set_input_fact(i, InferenceFact::dt_shape(datum, shape.as_slice()))?;
        }
        plan::SimplePlan::new_with_options(model.into_optimized()?, &self.options)
    }

    /// Runs `plan`, looking at the deadline before every operator. `Ok(None)` when it passed.
    fn execute(plan: &Plan, inputs: TVec<TValue>, deadline: Option<Instant>) -> TractResult<Option<TVec<TValue>>> {
        let mut late = false;
        let result = plan.spawn()?.run_plan_with_eval(inputs, |context, state, node, inputs| {
            late |= deadline.is_some_and(|deadline| Instant::now() >= deadline);
            if late {
                tract_onnx::tract_hir::internal::bail!("deadline");
            }
            plan::eval(context, state, node, inputs)
        });
        if late { Ok(None) } else { result.map(Some) }
    }
}

impl Model for TractModel {
    fn inputs(&self) -> &[TensorSpec] {
        &self.inputs
    }

    fn outputs(&self) -> &[TensorSpec] {
        &self.outputs
    }

    fn run(&self, inputs: Vec<Tensor>, call: &Call<'_>) -> Result<Vec<Tensor>, InferenceError> {
        let Call { budget, deadline, .. } = *call;
        let fail = |reason| InferenceError::Run { engine: EngineKind::Tract, model: name(&self.name), reason };
        guarded(|| {
            let shapes: Shapes = inputs.iter().map(|t| t.shape().to_vec()).collect();
            let plan = self.plan(&shapes).map_err(fail)?;
            let inputs = inputs.into_iter().map(to_tract).collect::<TractResult<TVec<_>>>();
            let outputs = Self::execute(&plan, inputs.map_err(|e| fail(told(&e)))?, deadline)
                .map_err(|e| fail(told(&e)))?
                .ok_or_else(|| InferenceError::Deadline { model: name(&self.name) })?;
            self.outputs.iter().zip(outputs).map(|(spec, value)| from_tract(spec, value, budget, fail)).collect()
        })
        .unwrap_or_else(|panic| Err(fail(panic)))
    }
}

/// `None` for bf16, which tract has not.
fn datum_type(element: ElementType) -> Option<DatumType> {
    Some(match element {
        ElementType::F16 => DatumType::F16,
        ElementType::F32 => DatumType::F32,
        ElementType::F64 => DatumType::F64,
        ElementType::U8 => DatumType::U8,
        ElementType::I32 => DatumType::I32,
        ElementType::I64 => DatumType::I64,
        ElementType::Bf16 => return None,
    })
}

/// Copies: tract wants its own alignment.
fn to_tract(tensor: Tensor) -> TractResult<TValue> {
    let datum = datum_type(tensor.element()).expect("types were checked at load");
    let mut copy = tract_onnx::prelude::Tensor::zero_dt(datum, tensor.shape())?;
    copy.as_bytes_mut().copy_from_slice(tensor.data());
    Ok(copy.into())
}

fn from_tract(
    spec: &TensorSpec,
    value: TValue,
    budget: &Budget,
    fail: impl Fn(String) -> InferenceError,
) -> Result<Tensor, InferenceError> {
    let expected = datum_type(spec.element).expect("types were checked at load");
    // Integers that came from shapes are symbolic expressions in tract, here with nothing left open.
    let value = match value.datum_type() {
        DatumType::TDim => value.cast_to_dt(DatumType::I64).map_err(|e| fail(told(&e)))?,
        _ => std::borrow::Cow::Borrowed(&*value),
    };
    if value.datum_type().unquantized() != expected {
        return Err(fail(format!("output '{}' came out as {:?}", name(&spec.name), value.datum_type())));
    }
    let mut tensor = Tensor::zeroed(value.shape().to_vec(), spec.element, budget)?;
    let view = value.try_as_plain_ram().map_err(|e| fail(told(&e)))?;
    let bytes = view.as_bytes();
    if bytes.len() != tensor.data().len() {
        return Err(fail(format!("output '{}' has {} bytes", name(&spec.name), bytes.len())));
    }
    tensor.data_mut().copy_from_slice(bytes);
    Ok(tensor)
}

fn told(error: &tract_onnx::prelude::TractError) -> String {
    shown(&format!("{error:#}"), REASON_CHARS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_is_the_locked_one() {
        let lock = include_str!("../../../Cargo.lock");
        let version = Tract::new(1).version().replace("tract ", "");
        assert!(lock.contains(&format!("name = \"tract-onnx\"\nversion = \"{version}\"")), "{version}");
    }
}
