//! Batches go into a bucket: each object once, the manifest last, whatever happens in between.
//!
//! ```text
//!  Batch ─▶ Uploader ─┬▶ object: PUT, or multipart with a journal ─▶ read back ─┐
//!                     └▶ object …                                              ─┴▶ manifest
//! ```
//!
//! Read in the order `config`, `upload`, `object`, `multipart`, `verify`; `store` has one request each, and `trouble` what
//! comes of those that fail. `docs/sync.md` says what happens on each failure.

mod body;
mod client;
mod config;
mod failure;
mod journal;
mod multipart;
mod object;
mod pace;
mod store;
mod trouble;
mod upload;
mod verify;

pub use config::{Config, Encryption, LockMode, ObjectLock, Secret};
pub use failure::Failure;
pub use object::Outcome;
pub use upload::{Event, Status, Uploaded, Uploader};
pub use verify::{Check, Found, Report};
