//! Whose turn it is with the spool: the process that follows lets go of it when somebody else wants it.
//!
//! Who wants it locks a file beside it, which nobody can forget to unlock: the kernel does so when a process ends.

use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use gantry_cloud_sync::batch::{self, Spool};

use super::{Site, SiteError};

/// In the folder of the spool.
const WANTED: &str = "wanted";
/// Between two tries.
const TRY_EVERY: Duration = Duration::from_millis(50);

/// Looks whether somebody wants the spool.
pub(super) struct Turn(File);

impl Turn {
    pub(super) fn new(spool: &Path) -> Result<Self, batch::Failure> {
        open(spool).map(Self)
    }

    pub(super) fn is_wanted(&self) -> bool {
        let wanted = matches!(self.0.try_lock_shared(), Err(TryLockError::WouldBlock));
        let _ = self.0.unlock();
        wanted
    }
}

/// A spool cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum TakeError {
    /// A key.
    #[error(transparent)]
    Site(#[from] SiteError),
    /// The spool.
    #[error(transparent)]
    Spool(#[from] batch::Failure),
}

/// Takes the spool from the process that follows, which has it again when both of these are dropped. It may be within an object
/// of a study, and is waited for.
///
/// # Errors
/// [`TakeError`]; [`batch::Failure::InUse`] when it is not let go of within this time.
pub fn take_spool(site: &Site, folder: &Path, within: Duration) -> Result<(Spool, File), TakeError> {
    let wanted = open(folder)?;
    let in_use = || batch::Failure::InUse(folder.to_owned());
    let deadline = Instant::now() + within;
    loop {
        let locked = match wanted.try_lock() {
            Ok(()) => true,
            Err(TryLockError::WouldBlock) => false,
            Err(TryLockError::Error(source)) => {
                return Err(batch::Failure::Disk { path: folder.join(WANTED), source }.into());
            }
        };
        if locked {
            break;
        }
        if Instant::now() >= deadline {
            return Err(in_use().into());
        }
        std::thread::sleep(TRY_EVERY);
    }
    loop {
        let (limits, name) = (site.policy.batch.clone(), site.policy.site.clone());
        match Spool::open(folder, limits, name, site.signing_key()?) {
            Err(batch::Failure::InUse(_)) if Instant::now() < deadline => std::thread::sleep(TRY_EVERY),
            spool => return Ok((spool?, wanted)),
        }
    }
}

fn open(folder: &Path) -> Result<File, batch::Failure> {
    let disk = |path: PathBuf| move |source| batch::Failure::Disk { path, source };
    crate::make_private_folder(folder).map_err(disk(folder.to_owned()))?;
    let path = folder.join(WANTED);
    File::options().create(true).truncate(false).write(true).open(&path).map_err(disk(path))
}
