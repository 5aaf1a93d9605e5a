//! Gives the host memory that lies outside of its own, for a list: the job fails.

#![expect(unsafe_code, reason = "the name is that which hosts call")]

use gantry_guest::prelude::*;

struct WildRealloc;

impl Analyzer for WildRealloc {
    fn analyze(study: &Study) -> Result<(), Error> {
        Err(Error::new(format_args!("the host gave a list of {}", study.series().len())))
    }
}

/// In the place of that of the SDK.
#[unsafe(no_mangle)]
extern "C" fn cabi_realloc(_: *mut u8, _: usize, _: usize, _: usize) -> *mut u8 {
    std::ptr::without_provenance_mut(0xffff_fff0)
}

gantry_guest::export!(WildRealloc);
