//! Runs the model `net` on inputs that do not fit: each must be `invalid-argument` before an engine sees it.
//!
//! The model takes one f32 `x` of rank 5 that [1, 1, 4, 4, 4] fits. At the end a right call must still work.

use gantry_guest::prelude::*;

struct WrongInputs;

const SHAPE: [u32; 5] = [1, 1, 4, 4, 4];

fn good() -> Tensor {
    Tensor::from_f32(&SHAPE, &[0.5; 64])
}

fn named(name: &str, tensor: Tensor) -> (String, Tensor) {
    (name.into(), tensor)
}

fn variants() -> Vec<(&'static str, Vec<(String, Tensor)>)> {
    let bytes = |dimensions: &[u32], ty, length| Tensor::new(dimensions, ty, &vec![0; length]);
    vec![
        ("no input", vec![]),
        ("unknown name", vec![named("y", good())]),
        ("empty name", vec![named("", good())]),
        ("long name", vec![named(&"x".repeat(1 << 20), good())]),
        ("one too many", vec![named("x", good()), named("y", good())]),
        ("twice", vec![named("x", good()), named("x", good())]),
        ("u8", vec![named("x", bytes(&SHAPE, TensorType::U8, 64))]),
        ("i64", vec![named("x", bytes(&SHAPE, TensorType::I64, 512))]),
        ("f16", vec![named("x", bytes(&SHAPE, TensorType::Fp16, 128))]),
        ("bf16", vec![named("x", bytes(&SHAPE, TensorType::Bf16, 128))]),
        ("i32", vec![named("x", bytes(&SHAPE, TensorType::I32, 256))]),
        ("NUL after the name", vec![named("x\0", good())]),
        ("f64", vec![named("x", bytes(&SHAPE, TensorType::Fp64, 512))]),
        ("rank 3", vec![named("x", bytes(&[4, 4, 4], TensorType::Fp32, 256))]),
        ("rank 0", vec![named("x", bytes(&[], TensorType::Fp32, 4))]),
        ("rank 64", vec![named("x", bytes(&[1; 64], TensorType::Fp32, 4))]),
        ("a dimension of 0", vec![named("x", bytes(&[1, 1, 0, 4, 4], TensorType::Fp32, 0))]),
    ]
}

impl Analyzer for WrongInputs {
    fn analyze(_: &Study) -> Result<(), Error> {
        let model = Model::load("net")?;
        for (what, inputs) in variants() {
            match model.run(inputs) {
                Err(Error::Model { code: ErrorCode::InvalidArgument, data }) => info!("{what}: {data}"),
                Err(other) => return Err(Error::new(format_args!("{what}: {other} instead of invalid-argument"))),
                Ok(_) => return Err(Error::new(format_args!("{what}: the model ran"))),
            }
        }
        model.run([("x", good())])?;
        findings::classify(&rogue::code("REFUSED", "Every wrong input was refused"), 1.0)
    }
}

gantry_guest::export!(WrongInputs);
