//! What leaves a hospital for the cloud: de-identified, proven to be, sealed in batches, uploaded once.
//! It does not depend on the runtime.
//!
//! ```text
//!  instance, result.json ─▶ deid: Deidentifier ─▶ Deidentified<T> ─▶ verify: Scanner, release ─▶ Released<T> ─▶ batch ─▶ s3
//!            │                        └─▶ Held: why it stays       ▲         └─▶ Leak: where, never what
//!            └────────── identifiers, by other code ───────────────┘
//! ```
//!
//! Read `deid` first, then `verify`, `batch`, `s3` and `catalog`.

pub mod batch;
pub mod catalog;
pub mod deid;
pub mod s3;
pub mod verify;
