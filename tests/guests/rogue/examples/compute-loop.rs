//! Runs the model `net` again and again: the deadline must end it.

use gantry_guest::prelude::*;

struct ComputeLoop;

impl Analyzer for ComputeLoop {
    fn analyze(_: &Study) -> Result<(), Error> {
        let model = Model::load("net")?;
        loop {
            model.run([("x", rogue::input())])?;
        }
    }
}

gantry_guest::export!(ComputeLoop);
