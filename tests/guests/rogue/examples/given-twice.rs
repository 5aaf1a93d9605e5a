//! Gives a model one input twice, and gives up: the host's reason must be the job's.

use gantry_guest::prelude::*;

struct GivenTwice;

impl Analyzer for GivenTwice {
    fn analyze(_: &Study) -> Result<(), Error> {
        Model::load("net")?.run([("x", rogue::input()), ("x", rogue::input())])?;
        Err("the model ran".into())
    }
}

gantry_guest::export!(GivenTwice);
