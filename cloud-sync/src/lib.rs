//! What leaves a hospital for the cloud: de-identified, proven to be, sealed in batches, uploaded once.
//! It does not depend on the runtime.
//!
//! ```text
//!  instance, result.json ─▶ deid: Deidentifier ─▶ Deidentified<T> ─▶ batches and upload take nothing else
//!                                     └─▶ Held: why it stays in the hospital
//! ```

pub mod deid;
