//! Batches: what leaves together, named by what it is, sealed with the site's signature, and durable before it leaves.
//!
//! ```text
//!  Releasable ─▶ Spool::add ─▶ record ─┐  until size, count or age
//!                              record ─┴▶ Spool::seal_due ─▶ Batch (manifest, signed) ─▶ s3
//! ```
//!
//! Read in the order `manifest`, `seal`, `spool`, `sealed`. `docs/sync.md` has the layout of all that is written.

use crate::deid::Deidentified;
use crate::verify::{Bytes, Released};

mod digest;
mod durable;
mod failure;
mod limits;
mod manifest;
mod name;
mod record;
mod seal;
mod sealed;
mod spool;

pub(crate) use durable::remove;
pub(crate) use manifest::{Content, MANIFEST_BYTES_MAX};
pub(crate) use sealed::{object_path, read_bounded};

pub use digest::{Digest, Digester};
pub use failure::Failure;
pub use limits::Limits;
pub use manifest::{Format, Kind, MANIFEST_VERSION, Manifest, Model, Module, Object, Part, Profile, Study};
pub use name::{Id, Site};
pub use seal::{PublicKey, Sealed, SiteKey};
pub use sealed::Batch;
pub use spool::{Entry, Intake, Spool, Waiting};

/// What may be put into a batch: [`Released<T>`] and nothing else. Nothing with an identity can be made to be one.
///
/// ```compile_fail
/// struct Anything;
/// impl gantry_cloud_sync::batch::Releasable for Anything {
///     fn bytes(&self) -> &[u8] {
///         b"anything"
///     }
/// }
/// ```
pub trait Releasable: private::Only {
    /// The bytes of the file that leaves.
    fn bytes(&self) -> &[u8];
}

mod private {
    pub trait Only {}
}

impl<T> private::Only for Released<T> {}

impl<T> Releasable for Released<T>
where
    Deidentified<T>: Bytes,
{
    fn bytes(&self) -> &[u8] {
        Bytes::bytes(&**self)
    }
}

/// Tests of this crate put plain bytes into batches.
#[cfg(test)]
pub(crate) struct Harmless(pub(crate) Vec<u8>);

#[cfg(test)]
impl private::Only for Harmless {}

#[cfg(test)]
impl Releasable for Harmless {
    fn bytes(&self) -> &[u8] {
        &self.0
    }
}
