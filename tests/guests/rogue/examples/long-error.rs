//! Fails with 1 MiB of text, with control characters in it: the text that is shown must be short and clean.

use gantry_guest::prelude::*;

struct LongError;

impl Analyzer for LongError {
    fn analyze(_: &Study) -> Result<(), Error> {
        Err(Error::new("no\u{1b}[31m way\r\n".repeat(100_000)))
    }
}

gantry_guest::export!(LongError);
