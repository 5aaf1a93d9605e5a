//! Declares a table of ten million elements: `guest_table_elements_max` must end it before it runs.

use gantry_guest::prelude::*;

struct Tables;

impl Analyzer for Tables {
    fn analyze(_: &Study) -> Result<(), Error> {
        Err("the host gave a table of ten million elements".into())
    }
}

gantry_guest::export!(Tables);
