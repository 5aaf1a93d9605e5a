//! Brings a model of its own as bytes: `load` must be refused with `unsupported-operation`.
//! Ends well when it was.

use gantry_guest::prelude::*;

struct LoadBytes;

impl Analyzer for LoadBytes {
    #[cfg(target_arch = "wasm32")]
    fn analyze(_: &Study) -> Result<(), Error> {
        use gantry_guest::__private::bindings::wasi::nn::graph::{ExecutionTarget, GraphEncoding, load};
        match load(&[b"no model".to_vec()], GraphEncoding::Onnx, ExecutionTarget::Cpu) {
            Err(error) if error.code() == ErrorCode::UnsupportedOperation => info!("{}", error.data()),
            Err(error) => return Err(Error::Model { code: error.code(), data: error.data() }),
            Ok(_) => return Err("the host parsed a model that is not in the package".into()),
        }
        findings::classify(&rogue::code("REFUSED", "The model was refused"), 1.0)
    }

    #[cfg(not(target_arch = "wasm32"))]
    fn analyze(_: &Study) -> Result<(), Error> {
        Err("there is no `load` in the fake host".into())
    }
}

gantry_guest::export!(LoadBytes);
