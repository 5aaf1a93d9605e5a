//! Batches go into a bucket: each object once, the manifest last, whatever happens in between.
//!
//! ```text
//!  Batch ─▶ Uploader ─┬▶ object: PUT, or multipart with a journal ─▶ read back ─┐
//!                     └▶ object …                                              ─┴▶ manifest
//! ```
//!
//! `bucket` is for files that are no batch: modules of vendors.
//!
//! Read in the order `config`, `upload`, `object`, `multipart`, `verify`; `requests` has one request each, `read` reads an object, `store`
//! makes them until they are answered, when `gate` lets them, and `trouble` says what those that fail mean. `docs/sync.md` says what happens then.

mod body;
mod bucket;
mod client;
mod config;
mod failure;
mod gate;
mod journal;
mod multipart;
mod object;
mod pace;
mod pages;
mod read;
mod reader;
mod requests;
mod store;
mod trouble;
mod upload;
mod verify;

pub use bucket::Bucket;
pub use config::{Config, Encryption, LockMode, ObjectLock};
pub use failure::Failure;
pub use gate::{Gate, Leave};
pub use object::Outcome;
pub(crate) use pages::Pages;
pub use read::Fetched;
pub use reader::Reader;
pub use upload::{Event, Status, Uploaded, Uploader};
pub use verify::{Check, Found, Report};
