//! Traps where the host asks it for memory for a list: the job fails.

#![expect(unsafe_code, reason = "the name is that which hosts call")]

use gantry_guest::prelude::*;

struct TrapRealloc;

impl Analyzer for TrapRealloc {
    fn analyze(study: &Study) -> Result<(), Error> {
        Err(Error::new(format_args!("the host gave a list of {}", study.series().len())))
    }
}

/// In the place of that of the SDK.
#[unsafe(no_mangle)]
extern "C" fn cabi_realloc(_: *mut u8, _: usize, _: usize, _: usize) -> *mut u8 {
    rogue::trap()
}

gantry_guest::export!(TrapRealloc);
