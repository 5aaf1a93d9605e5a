//! Gives a model none of its inputs, and gives up: the host's reason must be the job's.

use gantry_guest::prelude::*;

struct MissingInput;

impl Analyzer for MissingInput {
    fn analyze(_: &Study) -> Result<(), Error> {
        Model::load("net")?.run(Vec::<(String, Tensor)>::new())?;
        Err("the model ran".into())
    }
}

gantry_guest::export!(MissingInput);
