//! Files of results that were hashed and found to be what their job wrote: a viewer asks for the frames of a segmentation one by
//! one, and each time the whole of it would be hashed.
//!
//! A file is believed as long as its number, size and times are those that it had before it was hashed. Whoever writes to it
//! changes the time of its last change, which no call sets; a file that changed so shortly before that its time might not tell is
//! hashed again. What is sent to destinations is hashed each time (`deliver`).

use std::collections::HashMap;
use std::fs::{File, Metadata};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::deliver::{self, Failure};
use crate::outputs::Written;

/// Files that are remembered; a few hundred bytes each.
const FILES_MAX: usize = 4096;
/// How long a file must have lain untouched: times of some file systems are whole seconds.
const SETTLED: Duration = Duration::from_secs(2);

/// See above.
#[derive(Debug, Default)]
pub(super) struct Verified(Mutex<HashMap<PathBuf, (Seen, String)>>);

/// A file as the kernel tells it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Seen {
    device: u64,
    inode: u64,
    bytes: u64,
    modified_ns: i128,
    changed_ns: i128,
}

impl Seen {
    fn of(file: &Metadata) -> Self {
        let ns = |seconds: i64, ns: i64| i128::from(seconds) * 1_000_000_000 + i128::from(ns);
        Self {
            device: file.dev(),
            inode: file.ino(),
            bytes: file.len(),
            modified_ns: ns(file.mtime(), file.mtime_nsec()),
            changed_ns: ns(file.ctime(), file.ctime_nsec()),
        }
    }

    fn is_settled(&self) -> bool {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let settled = i128::try_from(now.saturating_sub(SETTLED).as_nanos()).unwrap_or(0);
        self.changed_ns < settled && self.modified_ns < settled
    }
}

impl Verified {
    /// Whether a file of the result in `folder` is what its job wrote. Takes as long as reading it, the first time.
    ///
    /// # Errors
    /// As [`deliver::open_output`].
    pub(super) fn check(&self, folder: &Path, output: &Written) -> Result<(), Failure> {
        let path = folder.join(&output.file);
        let seen = File::open(&path).and_then(|file| file.metadata()).map(|file| Seen::of(&file)).ok();
        let lock = || self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let (Some(seen), Some((before, sha256))) = (seen, lock().get(&path))
            && seen == *before
            && *sha256 == output.sha256
        {
            return Ok(());
        }
        deliver::open_output(folder, output)?;
        if let Some(seen) = seen.filter(Seen::is_settled) {
            let mut known = lock();
            if known.len() >= FILES_MAX {
                known.clear();
            }
            known.insert(path, (seen, output.sha256.clone()));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use sha2::{Digest, Sha256};

    use super::*;
    use crate::outputs::OutputKind;

    fn output(content: &[u8]) -> Written {
        Written {
            file: "a.dcm".into(),
            kind: OutputKind::Segmentation,
            sop_class_uid: None,
            sop_instance_uid: None,
            series_instance_uid: None,
            sha256: crate::hex(&Sha256::digest(content)),
            bytes: content.len() as u64,
        }
    }

    #[test]
    fn a_file_is_hashed_again_when_anything_about_it_is_another() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("a.dcm");
        fs::write(&path, b"one").expect("written");
        let (verified, one) = (Verified::default(), output(b"one"));
        verified.check(folder.path(), &one).expect("as written");
        assert!(verified.0.lock().expect("free").is_empty(), "its time might not tell of the next change");
        // As if it had lain there for long.
        let seen = Seen::of(&fs::metadata(&path).expect("there"));
        verified.0.lock().expect("free").insert(path.clone(), (seen, one.sha256.clone()));
        verified.check(folder.path(), &one).expect("remembered");
        verified.check(folder.path(), &output(b"two")).expect_err("what is stated is another");
        // The clock of files may stand for some milliseconds.
        while Seen::of(&fs::metadata(&path).expect("there")) == seen {
            fs::write(&path, b"two").expect("written");
        }
        verified.check(folder.path(), &one).expect_err("of the same size");
        let back = fs::File::options().write(true).open(&path).expect("opens");
        let modified = UNIX_EPOCH + Duration::from_nanos(u64::try_from(seen.modified_ns).expect("after 1970"));
        back.set_modified(modified).expect("set");
        verified.check(folder.path(), &one).expect_err("with its old time, which anybody can set");
        fs::remove_file(&path).expect("removed");
        verified.check(folder.path(), &one).expect_err("gone");
        fs::write(&path, b"one").expect("written");
        verified.check(folder.path(), &one).expect("another file with the same bytes");
    }

    #[test]
    fn a_file_that_was_remembered_is_not_read() {
        let folder = tempfile::tempdir().expect("a folder");
        let (path, verified) = (folder.path().join("a.dcm"), Verified::default());
        fs::write(&path, b"two").expect("written");
        let seen = Seen::of(&fs::metadata(&path).expect("there"));
        let one = Written { bytes: 3, ..output(b"one") };
        verified.check(folder.path(), &one).expect_err("is another");
        verified.0.lock().expect("free").insert(path, (seen, one.sha256.clone()));
        verified.check(folder.path(), &one).expect("what is remembered counts");
    }
}
