//! What was handed to the cloud, and what is to be.
//!
//! A study that changed stands in `sync_todo`, where triggers put it. Each time that it is looked at makes a `sync_part`:
//!
//! ```text
//! todo ─▶ waits, and is looked at again
//!      ├▶ skipped
//!      ├▶ held        all of it
//!      └▶ taking ─▶ spooled ─▶ sent
//! ```
//!
//! A part's record is named before the spool gets anything. Whoever starts asks the spool about those that are being taken: what it
//! has is spooled, what it has not was never there, and the study is looked at anew.

mod due;
mod parts;
mod state;

pub use due::{SyncDue, SyncWaits};
pub use parts::{SyncCount, SyncLooked, SyncOpen, SyncPart, SyncTaken};
pub use state::{SyncState, SyncWaiting};

#[cfg(test)]
mod tests;
