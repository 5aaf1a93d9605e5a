//! Makes a tensor whose dimensions, multiplied in 64 bits, are 0 again, as long as its data: the constructor must trap.

use gantry_guest::prelude::*;

struct Wraps;

impl Analyzer for Wraps {
    fn analyze(_: &Study) -> Result<(), Error> {
        let tensor = Tensor::new(&[1 << 16; 4], TensorType::U8, &[]);
        Err(Error::new(format_args!("the host took a tensor of {:?}", tensor.dimensions())))
    }
}

gantry_guest::export!(Wraps);
