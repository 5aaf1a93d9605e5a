//! Knows wasi-nn and nothing of Gantry but the export: runs the model `net` (input `x`, f32 [1, 1, 4, 4, 4]) and
//! looks at what comes out. It must run here.

#![expect(unsafe_code, reason = "wit-bindgen writes it")]

mod bindings {
    wit_bindgen::generate!({
        inline: "
            package rogue:plain-nn;
            world plain {
                include wasi:nn/ml@0.2.0-rc-2024-10-28;
                export analyze: func() -> result<_, string>;
            }
        ",
        path: "../../../wit/deps/wasi-nn",
        world: "rogue:plain-nn/plain",
        generate_all,
    });
}

use bindings::wasi::nn::errors::Error;
use bindings::wasi::nn::graph::load_by_name;
use bindings::wasi::nn::tensor::{Tensor, TensorType};

struct PlainNn;

impl bindings::Guest for PlainNn {
    fn analyze() -> Result<(), String> {
        let text = |error: Error| format!("{:?}: {}", error.code(), error.data());
        let context = load_by_name("net").and_then(|graph| graph.init_execution_context()).map_err(text)?;
        let data: Vec<u8> = [0.5f32; 64].iter().flat_map(|v| v.to_le_bytes()).collect();
        let input = Tensor::new(&[1, 1, 4, 4, 4], TensorType::Fp32, &data);
        let outputs = context.compute(vec![("x".into(), input)]).map_err(text)?;
        let bytes: usize = outputs.iter().map(|(_, tensor)| tensor.data().len()).sum();
        if bytes == 0 { Err("the model gave nothing".into()) } else { Ok(()) }
    }
}

bindings::export!(PlainNn with_types_in bindings);
