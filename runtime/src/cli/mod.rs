//! The commands of `gantry`: arguments in, text or JSON out.

pub(crate) mod job;
pub(crate) mod node;
pub(crate) mod outbox;
pub(crate) mod review;
pub(crate) mod summary;
pub(crate) mod token;
pub(crate) mod worker;
pub(crate) mod worklist;
