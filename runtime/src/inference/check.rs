//! What a guest gives is held against what the model takes before an engine sees it.
//!
//! The specifications come from the model's bytes, the inputs from the guest: neither is trusted, so messages quote
//! both escaped and cut.

use std::collections::HashMap;

use super::{Dim, InferenceError, TensorSpec, name};
use crate::tensor::{ElementType, Tensor};

/// Dimensions of the largest tensor that an engine is given. Nets for volumes use five.
pub(super) const RANK_MAX: usize = 8;
/// Names or dimensions that one message lists.
const LISTED: usize = 8;

/// Puts named inputs into the model's order.
///
/// Refuses missing, unknown and repeated names, wrong element types, ranks and fixed sizes, one named dimension with
/// two sizes, and empty tensors (engines differ on what they do with those).
pub fn check(model: &str, specs: &[TensorSpec], inputs: Vec<(String, Tensor)>) -> Result<Vec<Tensor>, InferenceError> {
    let model = name(model);
    let positions: HashMap<&str, usize> = specs.iter().enumerate().map(|(i, s)| (s.name.as_str(), i)).collect();
    let mut found: Vec<Option<Tensor>> = specs.iter().map(|_| None).collect();
    for (given, tensor) in inputs {
        let Some(slot) = positions.get(given.as_str()).and_then(|&i| found.get_mut(i)) else {
            return Err(refuse(format!("model '{model}' has no input '{}'; it takes {}", name(&given), names(specs))));
        };
        if slot.replace(tensor).is_some() {
            return Err(refuse(format!("model '{model}' input '{}' was given twice", name(&given))));
        }
    }
    let mut sizes = Sizes::default();
    let mut ordered = Vec::with_capacity(specs.len());
    for (spec, tensor) in specs.iter().zip(found) {
        let Some(tensor) = tensor else {
            return Err(refuse(format!("model '{model}' input '{}' is missing", name(&spec.name))));
        };
        sizes.accept(&model, spec, &tensor)?;
        ordered.push(tensor);
    }
    Ok(ordered)
}

/// Sizes that named dimensions have been given so far, and by which input.
#[derive(Default)]
struct Sizes<'s>(HashMap<&'s str, (usize, &'s str)>);

impl<'s> Sizes<'s> {
    fn accept(&mut self, model: &str, spec: &'s TensorSpec, tensor: &Tensor) -> Result<(), InferenceError> {
        let shape = tensor.shape();
        let mismatch = |why: &str| {
            refuse(format!(
                "model '{model}' input '{}': expected {}, got {}{why}",
                name(&spec.name),
                described(spec),
                typed(tensor.element(), shape)
            ))
        };
        if spec.element != tensor.element() || spec.dims.len() != shape.len() {
            return Err(mismatch(""));
        }
        if shape.contains(&0) {
            return Err(mismatch(", which is empty"));
        }
        for (dim, &size) in spec.dims.iter().zip(shape) {
            match dim {
                Dim::Fixed(fixed) if *fixed != size => return Err(mismatch("")),
                Dim::Named(symbol) => {
                    let (first, by) = *self.0.entry(symbol).or_insert((size, &spec.name));
                    if first != size {
                        return Err(mismatch(&format!(", but input '{}' has {} = {first}", name(by), name(symbol))));
                    }
                }
                Dim::Fixed(_) | Dim::Any => {}
            }
        }
        Ok(())
    }
}

fn refuse(message: String) -> InferenceError {
    InferenceError::Input(message)
}

/// `f32 [n, 1, h, w]`.
pub(super) fn described(spec: &TensorSpec) -> String {
    let dims = spec.dims.iter().map(|dim| match dim {
        Dim::Fixed(size) => size.to_string(),
        Dim::Named(symbol) => name(symbol),
        Dim::Any => "?".to_string(),
    });
    format!("{} [{}]", spec.element, listed(dims, spec.dims.len()))
}

/// `u8 [1, 2]`. A guest may give any number of dimensions.
pub(super) fn typed(element: ElementType, shape: &[usize]) -> String {
    format!("{element} [{}]", listed(shape.iter().map(ToString::to_string), shape.len()))
}

fn names(specs: &[TensorSpec]) -> String {
    if specs.is_empty() {
        return "none".to_string();
    }
    listed(specs.iter().map(|s| format!("'{}'", name(&s.name))), specs.len())
}

fn listed(items: impl Iterator<Item = String>, count: usize) -> String {
    let mut items: Vec<String> = items.take(LISTED).collect();
    if count > LISTED {
        items.push(format!("… {count} in all"));
    }
    items.join(", ")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::memory::Budget;

    fn spec(name: &str, element: ElementType, dims: &[Dim]) -> TensorSpec {
        TensorSpec { name: name.into(), element, dims: dims.to_vec() }
    }

    fn named(name: &str) -> Dim {
        Dim::Named(name.into())
    }

    fn given(name: &str, element: ElementType, shape: &[usize]) -> (String, Tensor) {
        let tensor = Tensor::zeroed(shape.to_vec(), element, &Budget::unlimited()).expect("small");
        (name.into(), tensor)
    }

    fn organs() -> Vec<TensorSpec> {
        vec![spec("ct", ElementType::F32, &[named("n"), Dim::Fixed(1), named("h"), named("w")])]
    }

    fn refusal(specs: &[TensorSpec], inputs: Vec<(String, Tensor)>) -> String {
        check("organs", specs, inputs).expect_err("refused").to_string()
    }

    #[test]
    fn inputs_come_out_in_the_order_of_the_model() {
        let specs = [
            spec("a", ElementType::F32, &[named("n")]),
            spec("b", ElementType::I64, &[named("n"), Dim::Any]),
            spec("c", ElementType::U8, &[]),
        ];
        let inputs = vec![
            given("c", ElementType::U8, &[]),
            given("b", ElementType::I64, &[2, 7]),
            given("a", ElementType::F32, &[2]),
        ];
        let ordered = check("m", &specs, inputs).expect("fits");
        let shapes: Vec<_> = ordered.iter().map(Tensor::shape).collect();
        assert_eq!(shapes, [&[2][..], &[2, 7], &[]]);
        assert!(check("m", &[], vec![]).expect("nothing wanted, nothing given").is_empty());
    }

    #[test]
    fn what_does_not_fit_is_named() {
        let f32 = ElementType::F32;
        let one = |element, shape: &[usize]| refusal(&organs(), vec![given("ct", element, shape)]);
        assert_eq!(
            one(ElementType::U8, &[1, 2]),
            "model 'organs' input 'ct': expected f32 [n, 1, h, w], got u8 [1, 2]"
        );
        assert_eq!(
            one(f32, &[1, 2, 3, 4]),
            "model 'organs' input 'ct': expected f32 [n, 1, h, w], got f32 [1, 2, 3, 4]"
        );
        assert_eq!(
            one(f32, &[1, 1, 0, 4]),
            "model 'organs' input 'ct': expected f32 [n, 1, h, w], got f32 [1, 1, 0, 4], which is empty"
        );
        assert_eq!(refusal(&organs(), vec![]), "model 'organs' input 'ct' is missing");
        assert_eq!(refusal(&organs(), vec![given("mr", f32, &[1])]), "model 'organs' has no input 'mr'; it takes 'ct'");
        let twice = || given("ct", f32, &[1, 1, 2, 2]);
        assert_eq!(refusal(&organs(), vec![twice(), twice()]), "model 'organs' input 'ct' was given twice");
    }

    #[test]
    fn a_named_dimension_has_one_size_everywhere() {
        let specs = [
            spec("a", ElementType::F32, &[named("n"), Dim::Any]),
            spec("b", ElementType::F32, &[named("n"), Dim::Any]),
        ];
        let inputs = |n: usize| vec![given("a", ElementType::F32, &[2, 5]), given("b", ElementType::F32, &[n, 6])];
        assert!(check("m", &specs, inputs(2)).is_ok(), "unnamed dimensions may differ");
        assert_eq!(
            check("m", &specs, inputs(3)).expect_err("refused").to_string(),
            "model 'm' input 'b': expected f32 [n, ?], got f32 [3, 6], but input 'a' has n = 2"
        );
        let square = [spec("x", ElementType::F32, &[named("s"), named("s")])];
        assert!(check("m", &square, vec![given("x", ElementType::F32, &[2, 3])]).is_err());
    }

    #[test]
    fn hostile_names_and_shapes_give_short_printable_messages() {
        let long = "x".repeat(1 << 20);
        for hostile in ["a\0b\u{1b}[31m", long.as_str(), "", "\u{202e}"] {
            let message = refusal(&organs(), vec![given(hostile, ElementType::F32, &[1])]);
            assert!(message.len() < 400, "{} bytes", message.len());
            assert!(!message.contains(['\0', '\u{1b}', '\u{202e}']), "{message:?}");
        }
        let ranks = refusal(&organs(), vec![given("ct", ElementType::F32, &vec![1; 10_000])]);
        assert!(ranks.ends_with("1, 1, … 10000 in all]"), "{ranks}");
    }

    proptest! {
        #[test]
        fn nothing_a_guest_names_or_shapes_panics(
            names in proptest::collection::vec("(ct|\\PC{0,4})", 0..4),
            shape in proptest::collection::vec(0usize..4, 0..6),
        ) {
            let inputs = names.iter().map(|n| given(n, ElementType::F32, &shape)).collect();
            if let Ok(ordered) = check("organs", &organs(), inputs) {
                prop_assert_eq!(names, vec!["ct".to_string()]);
                prop_assert_eq!(ordered[0].shape().len(), 4);
                prop_assert_eq!(ordered[0].shape()[1], 1);
            }
        }
    }
}
