//! Runs the model `net` on NaN, on infinities and on the largest number: it may give anything, and gives what it gave before
//! once it is asked something sensible again.

use gantry_guest::prelude::*;

struct NanInputs;

impl Analyzer for NanInputs {
    fn analyze(_: &Study) -> Result<(), Error> {
        let model = Model::load("net")?;
        let run = |value: f32| {
            let outputs = model.run([("x", Tensor::from_f32(&[1, 1, 4, 4, 4], &[value; 64]))])?;
            outputs.get("y")?.to_f32()
        };
        let before = run(0.5)?;
        for value in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, f32::MAX, f32::MIN_POSITIVE / 2.0] {
            match run(value) {
                Ok(given) => info!("{value}: {} numbers", given.len()),
                Err(error) => info!("{value}: {error}"),
            }
        }
        if run(0.5)? != before {
            return Err("what it gave depends on what it was given before".into());
        }
        rogue::all_refused()
    }
}

gantry_guest::export!(NanInputs);
