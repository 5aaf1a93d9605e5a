//! Gantry: runs vendors' imaging models as sandboxed WebAssembly components and writes their findings as DICOM.
//!
//! Read [`pipeline`] first: it is the path of one study, top to bottom.

pub mod app;
pub mod audit;
mod certificate;
pub mod completion;
pub mod config;
pub mod deliver;
pub mod dimse;
pub mod doctor;
pub mod findings;
pub mod geometry;
pub mod inference;
pub mod ingest;
pub mod memory;
pub mod messages;
pub mod metrics;
pub mod module;
pub mod outputs;
pub mod pipeline;
pub mod priors;
pub mod redact;
pub mod retention;
pub mod review;
pub mod routing;
pub mod sandbox;
pub mod schedule;
pub mod serve;
pub mod store;
pub mod stream;
pub mod study;
pub mod sync;
pub mod telemetry;
pub mod tensor;
pub mod threads;
pub mod tls;
mod trusted_code;
pub mod upstream;
pub mod volumes;
pub mod web;
pub mod worker;
pub mod worklist;

/// Makes a folder and those above it, where they are missing, for its owner alone (mode 0700). One that is there stays as it is.
///
/// # Errors
/// Of the file system.
pub fn make_private_folder(folder: &std::path::Path) -> std::io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)
}

/// Lower-case hexadecimal.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        write!(text, "{byte:02x}").expect("writing to a string does not fail");
        text
    })
}

/// Text of somebody else's on one line, without what a terminal would obey.
#[must_use]
pub fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c }).collect()
}

/// A path in that way: whoever made a file may have named it.
fn shown(path: &std::path::Path) -> String {
    printable(&path.to_string_lossy())
}
