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
    Batch, Call, Device, Dim, Engine, EngineKind, InferenceError, Model, OnnxModel, REASON_CHARS, TensorSpec, guarded,
    name, shown,
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

impl Tract {
    /// Without a plan yet.
    fn model(&self, model: &OnnxModel<'_>) -> Result<TractModel, String> {
        Ok(TractModel {
            name: model.name().to_string(),
            inputs: model.inputs().to_vec(),
            outputs: model.outputs().to_vec(),
            template: parse(model)?,
            options: RunOptions { executor: Some(self.executor.clone()), ..RunOptions::default() },
            plans: Mutex::new(Vec::new()),
        })
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
            let loaded = self.model(model).map_err(fail)?;
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
        guarded(|| match self.items(&inputs, call.batch) {
            Some(items) => self.run_items(&inputs, items, call),
            None => {
                let shapes: Shapes = inputs.iter().map(|t| t.shape().to_vec()).collect();
                // Each is given back as soon as it was copied.
                let values = inputs.into_iter().map(|t| to_tract(t.element(), t.shape(), t.data()));
                self.run_once(&shapes, values.collect(), call)
            }
        })
        .unwrap_or_else(|panic| Err(self.fail(panic)))
    }
}

impl TractModel {
    /// How many items are run one by one, with one plan for batches of all sizes: tract is slow to plan and to run a batch for the
    /// first time. head-ct-triage's net (3-D) takes 0.4 s for that with one item, 13 s with two and 30 s with four.
    fn items(&self, inputs: &[Tensor], batch: Batch) -> Option<usize> {
        let open = |spec: &TensorSpec| spec.dims.first().is_some_and(|dim| !matches!(dim, Dim::Fixed(_)));
        let items = *inputs.first()?.shape().first()?;
        let same = inputs.iter().all(|tensor| tensor.shape().first() == Some(&items));
        (batch != Batch::Whole && items > 1 && same && self.inputs.iter().all(open)).then_some(items)
    }

    fn run_items(&self, inputs: &[Tensor], items: usize, call: &Call<'_>) -> Result<Vec<Tensor>, InferenceError> {
        let differ = || self.fail("outputs of its items cannot be joined, and its manifest says `batch = true`".into());
        let one = |tensor: &Tensor| std::iter::once(1).chain(tensor.shape().iter().skip(1).copied()).collect();
        let shapes: Shapes = inputs.iter().map(one).collect();
        let mut all: Vec<Tensor> = Vec::new();
        for item in 0..items {
            let values = inputs.iter().zip(&shapes).map(|(tensor, shape)| {
                let each = tensor.data().len() / items;
                to_tract(tensor.element(), shape, tensor.data().get(item * each..(item + 1) * each).unwrap_or_default())
            });
            let outputs = self.run_once(&shapes, values.collect(), call)?;
            if item == 0 {
                let whole = outputs.iter().map(|output| {
                    let mut shape = output.shape().to_vec();
                    match shape.first_mut() {
                        Some(first) if *first == 1 => *first = items,
                        _ => return Err(differ()),
                    }
                    Ok(Tensor::zeroed(shape, output.element(), call.budget)?)
                });
                all = whole.collect::<Result<_, InferenceError>>()?;
            }
            for (all, output) in all.iter_mut().zip(outputs) {
                let each = all.data().len() / items;
                let place = all.data_mut().get_mut(item * each..(item + 1) * each);
                let place = place.filter(|place| place.len() == output.data().len()).ok_or_else(differ)?;
                place.copy_from_slice(output.data());
            }
        }
        Ok(all)
    }

    fn run_once(
        &self,
        shapes: &[Vec<usize>],
        inputs: TractResult<TVec<TValue>>,
        call: &Call<'_>,
    ) -> Result<Vec<Tensor>, InferenceError> {
        let fail = |reason| self.fail(reason);
        let plan = self.plan(shapes).map_err(fail)?;
        let outputs = Self::execute(&plan, inputs.map_err(|e| fail(told(&e)))?, call.deadline)
            .map_err(|e| fail(told(&e)))?
            .ok_or_else(|| InferenceError::Deadline { model: name(&self.name) })?;
        self.outputs.iter().zip(outputs).map(|(spec, value)| from_tract(spec, value, call.budget, fail)).collect()
    }

    fn fail(&self, reason: String) -> InferenceError {
        InferenceError::Run { engine: EngineKind::Tract, model: name(&self.name), reason }
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
fn to_tract(element: ElementType, shape: &[usize], data: &[u8]) -> TractResult<TValue> {
    let datum = datum_type(element).expect("types were checked at load");
    let mut copy = tract_onnx::prelude::Tensor::zero_dt(datum, shape)?;
    copy.as_bytes_mut().copy_from_slice(data);
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
    use crate::inference::Turn;
    use crate::inference::testmodels::{D, F32, unary};

    #[test]
    fn items_of_a_batch_need_one_plan_whatever_their_number() {
        let dims = [D::S("n"), D::N(2)];
        let bytes = unary("Neg", F32, &dims, &dims, &[]);
        let file = OnnxModel::read("m", &bytes, 1).expect("a model");
        let model = Tract::new(1).model(&file).expect("it has Neg");
        let (budget, turn) = (Budget::unlimited(), Turn::default());
        let run = |items: usize, batch| {
            let numbers: Vec<f32> = (0..2 * items).map(|n| n as f32).collect();
            let bytes = numbers.iter().flat_map(|n| n.to_le_bytes()).collect();
            let x = Tensor::new(vec![items, 2], ElementType::F32, bytes, &budget).expect("it fits");
            let outputs = model.run(vec![x], &Call { budget: &budget, deadline: None, turn: &turn, batch });
            let outputs = outputs.expect("it runs");
            let negated: Vec<f32> = numbers.iter().map(|n| -n).collect();
            assert_eq!((outputs[0].shape(), outputs[0].as_f32()), (&[items, 2][..], Some(&*negated)));
        };
        let planned = || -> Vec<usize> {
            let plans = model.plans.lock().expect("nobody failed");
            plans.iter().map(|(shapes, _)| shapes[0][0]).collect()
        };
        for items in [4, 7, 1, 16, 33] {
            run(items, Batch::Items);
            assert_eq!(planned(), [1]);
        }
        run(5, Batch::Whole);
        assert_eq!(planned(), [1, 5], "what is no batch is run whole");
    }

    #[test]
    fn the_version_is_the_locked_one() {
        let lock = include_str!("../../../Cargo.lock");
        let version = Tract::new(1).version().replace("tract ", "");
        assert!(lock.contains(&format!("name = \"tract-onnx\"\nversion = \"{version}\"")), "{version}");
    }
}
