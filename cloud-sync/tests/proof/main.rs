//! Whether de-identified files are: canaries, MIDI-B's actions, and real files, judged by the independent verifier; and
//! whether the verifier finds what is there.
//!
//! `selftest` first: a verifier that finds nothing would pass everything else.

mod canary;
mod dicom;
mod midi;
mod read;
mod real;
mod selftest;
mod study;
mod table;

use std::path::{Path, PathBuf};

/// The repository.
fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the package lies in the repository")
}

/// Real test material that `cargo xtask assets` fetches. Absent on a person's machine, the test is skipped; in CI it fails.
fn asset(path: &str) -> Option<PathBuf> {
    let folder = std::env::var_os("GANTRY_ASSETS").map_or_else(|| repository().join(".cache/assets"), PathBuf::from);
    let path = folder.join(path);
    if path.exists() {
        return Some(path);
    }
    skipped(&format!("{} is missing: run `cargo xtask assets`", path.display()));
    None
}

/// Says why a test is skipped; in CI, where nothing may be missing, fails it.
fn skipped(why: &str) {
    let ci = std::env::var("CI").is_ok_and(|value| !["", "0", "false"].contains(&value.as_str()));
    assert!(!ci, "{why}");
    eprintln!("skipped: {why}");
}
