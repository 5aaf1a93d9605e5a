//! Makes a tensor four bytes short of its shape: the constructor must trap, saying so.

use gantry_guest::prelude::*;

struct WrongLength;

impl Analyzer for WrongLength {
    fn analyze(_: &Study) -> Result<(), Error> {
        let tensor = Tensor::new(&[1, 1, 4, 4, 4], TensorType::Fp32, &[0; 252]);
        Err(Error::new(format_args!("the host took a tensor of {:?}", tensor.dimensions())))
    }
}

gantry_guest::export!(WrongLength);
