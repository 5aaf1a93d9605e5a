//! Passes 2 GiB to the constructor of a tensor: `guest_list_mib` must end it. Needs a guest memory of more than
//! 2 GiB; with less it fails by itself.

use gantry_guest::prelude::*;

struct Tensor2Gib;

impl Analyzer for Tensor2Gib {
    fn analyze(_: &Study) -> Result<(), Error> {
        let size = (1 << 31) - 1;
        let data = vec![0; size];
        let tensor = Tensor::new(&[size as u32], TensorType::U8, &data);
        Err(Error::new(format_args!("the host took a tensor of {:?}", tensor.dimensions())))
    }
}

gantry_guest::export!(Tensor2Gib);
