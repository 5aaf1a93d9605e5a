//! Hoards tensors of one element: `handles_max` must end it, however small they are.

use gantry_guest::prelude::*;

struct Tensors;

impl Analyzer for Tensors {
    fn analyze(_: &Study) -> Result<(), Error> {
        let mut hoard = Vec::new();
        for n in 0..1_000_000 {
            hoard.push(Tensor::from_f32(&[1], &[n as f32]));
        }
        Err(Error::new(format_args!("the host gave {} tensors", hoard.len())))
    }
}

gantry_guest::export!(Tensors);
