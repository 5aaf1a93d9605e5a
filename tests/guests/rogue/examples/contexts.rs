//! Has several execution contexts of one model at once, which must all give the same, and then hoards them: `handles_max`
//! must end it.

use gantry_guest::__private::bindings::wasi::nn::graph::load_by_name;
use gantry_guest::__private::bindings::wasi::nn::tensor::Tensor as Input;
use gantry_guest::prelude::*;

struct Contexts;

impl Analyzer for Contexts {
    fn analyze(_: &Study) -> Result<(), Error> {
        let graph = load_by_name("net").map_err(rogue::told)?;
        let context = || graph.init_execution_context().map_err(rogue::told);
        let several = [context()?, context()?, context()?];
        let mut answers = Vec::new();
        // The second is asked again after the third.
        for at in [0, 1, 2, 1, 0] {
            let input = Input::new(&[1, 1, 4, 4, 4], TensorType::Fp32, &[0; 256]);
            let outputs = several[at].compute(vec![("x".into(), input)]).map_err(rogue::told)?;
            answers.push(outputs.iter().map(|(_, tensor)| tensor.data()).collect::<Vec<_>>());
        }
        if answers.iter().any(|answer| *answer != answers[0]) {
            return Err("one context knows of another".into());
        }
        let mut hoard = Vec::new();
        for _ in 0..1_000_000 {
            hoard.push(context()?);
        }
        Err(Error::new(format_args!("the host gave {} contexts", hoard.len())))
    }
}

gantry_guest::export!(Contexts);
