//! Gives a model an input that it has not, beside the one that it has, and gives up: the host's reason must be the job's.

use gantry_guest::prelude::*;

struct ExtraInput;

impl Analyzer for ExtraInput {
    fn analyze(_: &Study) -> Result<(), Error> {
        Model::load("net")?.run([("x", rogue::input()), ("z", rogue::input())])?;
        Err("the model ran".into())
    }
}

gantry_guest::export!(ExtraInput);
