//! Hoards the host's own errors, which are handles too: `handles_max` must end it.

use gantry_guest::__private::bindings::wasi::nn::graph::load_by_name;
use gantry_guest::prelude::*;

struct Errors;

impl Analyzer for Errors {
    fn analyze(_: &Study) -> Result<(), Error> {
        let mut hoard = Vec::new();
        for _ in 0..1_000_000 {
            hoard.push(load_by_name("no-such-model"));
        }
        Err(Error::new(format_args!("the host gave {} errors", hoard.len())))
    }
}

gantry_guest::export!(Errors);
