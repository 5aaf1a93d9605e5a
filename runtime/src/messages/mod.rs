//! What is said to the hospital's other systems: findings as FHIR and as HL7 v2, and what orders and merges say to us.
//!
//! ```text
//! result.json, study row ─▶ Told ─┬─▶ fhir: a transaction Bundle
//!                                 └─▶ hl7: ORU^R01
//! ORM^O01 · OMI^O23 · ADT^A40 ─▶ hl7::order ─▶ the journal
//! ```
//!
//! Everything here is pure: text in, text out. Who sends it is `deliver`, who listens is `ingest::mllp`. Nothing that a module
//! said reaches a message but as a value of JSON or an escaped component.

pub mod fhir;
pub mod hl7;
#[cfg(test)]
mod tests;
mod told;

pub use self::told::{Subject, Told, ToldError};
