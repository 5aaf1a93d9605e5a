//! Why a batch is not in the bucket yet, or an object is not what it should be.

use crate::batch::{self, Digest};

/// What ended an upload or a check. Nothing of it loses anything: what was sent stays sent, and the next call goes on.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The operator's: a value of the configuration, or a file that it names.
    #[error("{0}")]
    Configuration(String),
    /// The operator's: no credentials, or ones that the server refuses.
    #[error("{0}: look at the credentials of the chain and at the policy of the bucket")]
    Denied(String),
    /// The operator's: no such bucket.
    #[error("there is no bucket {0}: create it, or look at s3.bucket, s3.region and s3.endpoint_url")]
    NoBucket(String),
    /// The network's or the server's: it could not be reached, or was not well, at every attempt. It goes away by itself.
    #[error("{what} did not succeed in s3.attempts_max = {attempts} attempts, at last: {why}; it will be tried again")]
    Unreachable {
        /// Which request, of what.
        what: String,
        /// How often.
        attempts: u32,
        /// At last.
        why: String,
    },
    /// The server's: it refuses what others accept.
    #[error("the server refuses {what}: {why}")]
    Refused {
        /// Which request, of what.
        what: String,
        /// What it says, and what to do.
        why: String,
    },
    /// Somebody else's manifest lies where ours should.
    #[error(
        "another manifest lies at {0}: two sites share a pseudonym, or somebody else writes here; ours was not written over it"
    )]
    Taken(String),
    /// The server's: what it gives back is not what was sent, however often.
    #[error(
        "{key} reads back as something else than was sent, {attempts} times: {why}; what is between here and the server changes data"
    )]
    Changed {
        /// Which object.
        key: String,
        /// How often.
        attempts: u32,
        /// How it differs.
        why: String,
    },
    /// An object is larger than the configuration allows.
    #[error("object {sha256} has {bytes} bytes, more than s3.object_max_gib = {limit_gib}: raise it")]
    TooLarge {
        /// Which.
        sha256: Digest,
        /// Its size.
        bytes: u64,
        /// The limit.
        limit_gib: u64,
    },
    /// The hospital's: its [`Gate`](super::Gate) does not let it leave.
    #[error("{0}")]
    Withheld(String),
    /// This machine's.
    #[error(transparent)]
    Spool(#[from] batch::Failure),
}

impl Failure {
    /// True where only time is needed.
    #[must_use]
    pub fn is_passing(&self) -> bool {
        matches!(self, Self::Unreachable { .. })
    }
}
