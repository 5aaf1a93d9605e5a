//! Makes a tensor of three elements with a byte too many, of the type that its misdeed says: the constructor must trap.

use gantry_guest::prelude::*;

struct Lengths;

impl Analyzer for Lengths {
    fn analyze(study: &Study) -> Result<(), Error> {
        let ty = rogue::TYPES[rogue::misdeed(study)? as usize];
        let bytes = [2, 2, 4, 8, 1, 4, 8][rogue::misdeed(study)? as usize];
        let right = Tensor::new(&[3], ty, &vec![0; 3 * bytes]);
        let wrong = Tensor::new(&[3], ty, &vec![0; 3 * bytes + 1]);
        Err(Error::new(format_args!("the host took {:?} and {:?}", right.ty(), wrong.ty())))
    }
}

gantry_guest::export!(Lengths);
