//! Guests that do what a sandbox must survive, one an example. Each file says what it does and what should happen.
//!
//! `gantry module build-examples tests/guests/rogue --out target/guests/rogue` makes a component of each. Tests put
//! them into packages with manifests of their own.

use gantry_guest::prelude::*;

/// The voxels of the first series.
pub fn source(study: &Study) -> Result<Volume, Error> {
    study.series().first().ok_or("a study without series")?.volume(0)
}

/// A private code.
pub fn code(value: &str, meaning: &str) -> Code {
    Code::new(value, "99ROGUE", meaning)
}

/// One segment that fits everything.
pub fn segment() -> Segment {
    Segment::anatomy(1, "Bone", Code::sct("272673000", "Bone"))
}
