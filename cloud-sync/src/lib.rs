//! What leaves a hospital for the cloud: de-identified, proven to be, sealed in batches, uploaded once.
//! It does not depend on the runtime.
//!
//! Read [`batch`] first, then [`s3`].

pub mod batch;
pub mod s3;
