//! Gantry.
pub mod findings;
pub mod geometry;
pub mod inference;
pub mod memory;
pub mod outputs;
pub mod study;
pub mod tensor;
pub mod volumes;
