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

/// Every type that a tensor can have.
pub const TYPES: [TensorType; 7] = [
    TensorType::Fp16,
    TensorType::Bf16,
    TensorType::Fp32,
    TensorType::Fp64,
    TensorType::U8,
    TensorType::I32,
    TensorType::I64,
];

/// What the model `net` takes.
pub fn input() -> Tensor {
    Tensor::from_f32(&[1, 1, 4, 4, 4], &[0.5; 64])
}

/// Which of its misdeeds a guest of several commits, from 0: so many slices the study has less than ten.
pub fn misdeed(study: &Study) -> Result<u32, Error> {
    Ok(10u32.saturating_sub(study.first("CT")?.geometry(0)?.size.z))
}

/// An error, unless a call was refused because it makes no sense.
pub fn invalid<T>(what: &str, result: Result<T, Error>) -> Result<(), Error> {
    match result {
        Err(Error::Host(Failure::Invalid(_))) => Ok(()),
        Err(other) => Err(Error::new(format_args!("{what}: {other} instead of invalid"))),
        Ok(_) => Err(Error::new(format_args!("{what} was done"))),
    }
}

/// The host's error, for guests that call it without the SDK's wrappers.
pub fn told(error: gantry_guest::__private::bindings::wasi::nn::errors::Error) -> Error {
    Error::Model { code: error.code(), data: error.data() }
}

/// What is stated by a guest that was refused everything as it must be.
pub fn all_refused() -> Result<(), Error> {
    findings::classify(&code("REFUSED", "Every call was refused"), 1.0)
}

/// Ends the component where it stands.
pub fn trap() -> ! {
    #[cfg(target_arch = "wasm32")]
    std::arch::wasm32::unreachable();
    #[cfg(not(target_arch = "wasm32"))]
    std::process::abort();
}
