//! What goes wrong with batches on this machine.

use std::io;
use std::path::{Path, PathBuf};

use super::{Digest, Id};

/// Why a batch could not be kept, sealed or read.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The operator's: a value of the configuration.
    #[error("{0}")]
    Configuration(String),
    /// The operator's: a key.
    #[error(transparent)]
    Key(#[from] crate::dsse::KeyError),
    /// The machine's: its disk.
    #[error("the spool cannot use {path}: {source}; look at the disk and at who owns the folder")]
    Disk {
        /// What it was about.
        path: PathBuf,
        /// What the operating system says.
        source: io::Error,
    },
    /// Somebody else's process has the spool.
    #[error("the spool {0} is in use by another process: wait for it to end, or give this one a folder of its own")]
    InUse(PathBuf),
    /// The spool is as full as it may be.
    #[error(
        "the spool holds {bytes} bytes of spool_max_mib = {limit_mib}: uploads are behind; raise the limit or look at `status`"
    )]
    Full {
        /// What it would hold.
        bytes: u64,
        /// The limit.
        limit_mib: u64,
    },
    /// A file of the spool is not what its name or manifest says.
    #[error(
        "object {0} of the spool is not what its digest says: the disk lost or changed it; hand the study in again"
    )]
    Damaged(Digest),
    /// A batch that is not there.
    #[error("no batch {0} waits in the spool; `status` lists those that do")]
    Unknown(Id),
    /// A manifest that is not one, or is of nobody we know.
    #[error("the manifest {name} {why}")]
    Manifest {
        /// Which.
        name: String,
        /// What is wrong with it, and what to do.
        why: String,
    },
}

impl Failure {
    pub(crate) fn disk(path: &Path) -> impl FnOnce(io::Error) -> Self + '_ {
        move |source| Self::Disk { path: path.to_owned(), source }
    }

    pub(crate) fn manifest(name: impl ToString, why: impl Into<String>) -> Self {
        Self::Manifest { name: name.to_string(), why: why.into() }
    }
}
