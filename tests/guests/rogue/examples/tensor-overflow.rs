//! Makes a tensor of a shape that no machine can address: the constructor must trap, saying so.

use gantry_guest::prelude::*;

struct TensorOverflow;

impl Analyzer for TensorOverflow {
    fn analyze(_: &Study) -> Result<(), Error> {
        let tensor = Tensor::new(&[u32::MAX; 5], TensorType::Fp32, &[0; 252]);
        Err(Error::new(format_args!("the host took a tensor of {:?}", tensor.dimensions())))
    }
}

gantry_guest::export!(TensorOverflow);
