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

/// Bone by its density, its volume, and the probability that there is any: fits in everything, and needs no model.
pub fn find_bone(study: &Study) -> Result<(), Error> {
    let source = source(study)?;
    let labels = source.threshold(300.0, 4000.0)?;
    let found = labels.components(1)?;
    info!("{} pieces of bone", found.len());
    findings::segmentation(&labels, &[Segment { confidence: Some(0.5), ..segment() }])?;
    let millilitres = found.iter().map(|c| c.millilitres).sum();
    findings::measure(&Code::sct("118565006", "Volume"), millilitres, "mL", Some(1))?;
    findings::classify(&code("BONE", "Bone is in the image"), if found.is_empty() { 0.0 } else { 1.0 })
}
