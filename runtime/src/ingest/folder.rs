//! The watched folder: files that appear are taken in, and go.
//!
//! A file is taken when its size and time of change stayed the same for `folder.stable_ms`, so also one that was moved
//! in. It is removed once it is durable, moved to `rejected/` with the reason when it is refused, and left alone when
//! the host cannot take it now. Its name says nothing to us, and may say who the patient is: it stands beside the reason, where
//! the file lay, and in no log.

use std::collections::HashMap;
use std::fs::{File, Metadata};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use futures_util::StreamExt;
use rustix::fs::{Access, Mode, OFlags};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use walkdir::WalkDir;

use super::{Arrival, Form, Intake, PIECE_BYTES, Refused, Via, blocking};
use crate::config::FolderConfig;

/// What is refused goes here.
const REJECTED: &str = "rejected";
/// Folders in folders.
const DEPTH_MAX: usize = 16;

/// What to do where the folder cannot be used.
pub(crate) const REMEDY: &str = "folder.path must be a folder that the user of `gantry serve` can read and write: files are removed once they are taken in";

/// Whether the folder can be watched now.
///
/// # Errors
/// It is not there, is no folder, or may not be read or written by us.
pub fn check(path: &Path) -> io::Result<()> {
    if !std::fs::metadata(path)?.is_dir() {
        return Err(io::ErrorKind::NotADirectory.into());
    }
    Ok(rustix::fs::access(path, Access::READ_OK | Access::WRITE_OK | Access::EXEC_OK)?)
}

/// A file as it was when it was looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Seen {
    device: u64,
    inode: u64,
    bytes: u64,
    changed: (i64, i64),
}

impl From<&Metadata> for Seen {
    fn from(m: &Metadata) -> Self {
        Self { device: m.dev(), inode: m.ino(), bytes: m.size(), changed: (m.mtime(), m.mtime_nsec()) }
    }
}

/// What is known of a path between two looks.
struct Known {
    seen: Seen,
    since: Instant,
    /// It was refused and could not be moved away: not taken again until it changes.
    stuck: bool,
}

/// What became of a file.
enum Fate {
    /// Durable, and gone from the folder.
    Taken,
    /// In `rejected/`.
    Rejected,
    /// Changed while it was read, or the host cannot take it now: later.
    Left,
    /// Cannot be removed or moved.
    Stuck,
}

/// Watches until `stop`. Nothing happens when no folder is configured.
pub async fn watch(config: FolderConfig, intake: Intake, stop: CancellationToken) {
    let Some(path) = config.path.clone() else { return };
    let source = path.display().to_string();
    let mut arrival: Option<Arrival> = None;
    let mut known = HashMap::new();
    loop {
        let (found, now) = (look(path.clone(), config.files_max).await, Instant::now());
        let files = found.unwrap_or_else(|e| {
            tracing::warn!("folder.path cannot be read; this is tried again: {e}; {REMEDY}");
            Vec::new()
        });
        let ready = ready(&mut known, &files, now, Duration::from_millis(config.stable_ms));
        let waiting = known.values().any(|k| !k.stuck);
        if ready.is_empty() && !waiting {
            // A quiet pass: what came so far is all.
            if let Some(arrival) = arrival.take() {
                intake.ended(&arrival);
            }
        }
        if !ready.is_empty() {
            let arrival = arrival.get_or_insert_with(|| Arrival::new(Via::Folder, &source));
            for (file, fate) in take_all(&config, &path, &intake, arrival, ready, &stop).await {
                match fate {
                    Fate::Taken | Fate::Rejected | Fate::Left => drop(known.remove(&file)),
                    Fate::Stuck => {
                        if let Some(known) = known.get_mut(&file) {
                            known.stuck = true;
                        }
                    }
                }
            }
        }
        tokio::select! {
            () = stop.cancelled() => break,
            () = tokio::time::sleep(Duration::from_millis(config.poll_ms)) => {}
        }
    }
    if let Some(arrival) = arrival {
        intake.ended(&arrival);
    }
}

/// Takes files in, several at once.
async fn take_all(
    config: &FolderConfig,
    path: &Path,
    intake: &Intake,
    arrival: &Arrival,
    ready: Vec<(PathBuf, Seen)>,
    stop: &CancellationToken,
) -> Vec<(PathBuf, Fate)> {
    let take = |(file, seen): (PathBuf, Seen)| async move {
        if stop.is_cancelled() {
            return (file, Fate::Left);
        }
        let fate = take(path, &file, seen, intake, arrival).await;
        (file, fate)
    };
    futures_util::stream::iter(ready).map(take).buffer_unordered(config.files_at_once_max).collect().await
}

/// Regular files below the folder, without links, hidden ones and what was rejected.
async fn look(path: PathBuf, most: usize) -> io::Result<Vec<(PathBuf, Seen)>> {
    blocking(move || {
        let rejected = path.join(REJECTED);
        let wanted = |entry: &walkdir::DirEntry| {
            entry.depth() == 0 || !entry.file_name().as_encoded_bytes().starts_with(b".") && entry.path() != rejected
        };
        let walk = WalkDir::new(&path).follow_links(false).max_depth(DEPTH_MAX).sort_by_file_name().into_iter();
        let mut files = Vec::new();
        for entry in walk.filter_entry(wanted) {
            let entry = match entry {
                Ok(entry) => entry,
                Err(e) if e.depth() == 0 => return Err(e.into()),
                // It went in the meantime, or may not be read.
                Err(_) => continue,
            };
            if let Ok(metadata) = entry.metadata()
                && metadata.is_file()
            {
                files.push((entry.into_path(), Seen::from(&metadata)));
                if files.len() >= most {
                    break;
                }
            }
        }
        Ok(files)
    })
    .await
}

/// Files that stayed the same long enough. Forgets those that are gone.
fn ready(
    known: &mut HashMap<PathBuf, Known>,
    files: &[(PathBuf, Seen)],
    now: Instant,
    stable: Duration,
) -> Vec<(PathBuf, Seen)> {
    let mut before = std::mem::take(known);
    let mut ready = Vec::new();
    for (path, seen) in files {
        let known_before = before.remove(path).filter(|k| k.seen == *seen);
        let entry = known_before.unwrap_or(Known { seen: *seen, since: now, stuck: false });
        if !entry.stuck && now.duration_since(entry.since) >= stable {
            ready.push((path.clone(), *seen));
        }
        known.insert(path.clone(), entry);
    }
    ready
}

async fn take(folder: &Path, path: &Path, seen: Seen, intake: &Intake, arrival: &Arrival) -> Fate {
    let result = match open(path, seen).await {
        Some(file) => stream(file, intake, arrival).await,
        None => return Fate::Left,
    };
    // Somebody still writes to it: what was read is not the file.
    if !std::fs::symlink_metadata(path).is_ok_and(|m| Seen::from(&m) == seen) {
        return Fate::Left;
    }
    match result {
        Ok(()) => match std::fs::remove_file(path) {
            Ok(()) => Fate::Taken,
            Err(e) => {
                tracing::error!("a file of the watched folder was taken in and cannot be removed: {e}; {REMEDY}");
                Fate::Stuck
            }
        },
        Err(refused @ (Refused::OutOfSpace { .. } | Refused::Disk(_) | Refused::Stopping)) => {
            tracing::warn!("a file of the watched folder has to wait: {refused}");
            Fate::Left
        }
        Err(refused) => match reject(folder, path, &refused) {
            Ok(()) => Fate::Rejected,
            Err(e) => {
                tracing::error!(
                    "a file of the watched folder was refused and cannot be moved away: {refused}: {e}; {REMEDY}"
                );
                Fate::Stuck
            }
        },
    }
}

/// Opens the file that was seen, and no link or pipe that took its place.
async fn open(path: &Path, seen: Seen) -> Option<File> {
    let path = path.to_owned();
    let opened = blocking(move || -> io::Result<(File, Metadata)> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = File::from(rustix::fs::open(&path, flags, Mode::empty())?);
        let metadata = file.metadata()?;
        Ok((file, metadata))
    });
    match opened.await {
        Ok((file, metadata)) if metadata.is_file() && Seen::from(&metadata) == seen => Some(file),
        Ok(_) => None,
        Err(e) => {
            tracing::warn!("a file of the watched folder cannot be opened; this is tried again: {e}");
            None
        }
    }
}

async fn stream(mut file: File, intake: &Intake, arrival: &Arrival) -> Result<(), Refused> {
    let mut incoming = intake.begin(arrival, Form::File)?;
    let mut buffer = vec![0; PIECE_BYTES];
    loop {
        let (read, back, rest) = blocking(move || {
            let read = file.read(&mut buffer);
            (read, file, buffer)
        })
        .await;
        (file, buffer) = (back, rest);
        match read {
            Ok(0) => break,
            Ok(bytes) => incoming.write(buffer.get(..bytes).expect("no more is read than fits")).await?,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(Refused::Disk(e.to_string())),
        }
    }
    incoming.finish().await.map(drop)
}

/// Moves a file to `rejected/`, under a name of ours, beside the reason and where it lay. Who may read the file may read that.
fn reject(folder: &Path, path: &Path, refused: &Refused) -> io::Result<()> {
    let rejected = folder.join(REJECTED);
    match std::fs::create_dir(&rejected) {
        Err(e) if e.kind() != io::ErrorKind::AlreadyExists => return Err(e),
        _ => {}
    }
    // A link could lead anywhere.
    if !std::fs::symlink_metadata(&rejected)?.is_dir() {
        return Err(io::Error::other("rejected/ is no folder"));
    }
    let name = uuid::Uuid::now_v7().simple().to_string();
    let lay = crate::shown(path.strip_prefix(folder).unwrap_or(path));
    let mode = std::fs::symlink_metadata(path)?.mode() & 0o666;
    let beside = rejected.join(format!("{name}.reason.txt"));
    let mut beside = std::fs::OpenOptions::new().write(true).create_new(true).mode(mode).open(beside)?;
    write!(beside, "{}: {refused}\nfile: {lay}\n", refused.reason())?;
    std::fs::rename(path, rejected.join(name))?;
    tracing::warn!(
        reason = refused.reason(),
        "a file of the watched folder is refused and lies in rejected/: {refused}"
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_ready_when_it_stayed_the_same_long_enough() {
        let (start, stable) = (Instant::now(), Duration::from_secs(5));
        let at = |seconds| start + Duration::from_secs(seconds);
        let file = |bytes| vec![(PathBuf::from("a"), Seen { device: 1, inode: 1, bytes, changed: (0, 0) })];
        let mut known = HashMap::new();
        let mut look = |files: &[(PathBuf, Seen)], seconds| ready(&mut known, files, at(seconds), stable).len();
        assert_eq!(look(&file(10), 0), 0);
        assert_eq!(look(&file(10), 4), 0);
        assert_eq!(look(&file(20), 5), 0, "it grew");
        assert_eq!(look(&file(20), 9), 0);
        assert_eq!(look(&file(20), 10), 1);
        assert_eq!(look(&[], 11), 0);
        assert_eq!(look(&file(20), 20), 0, "it was gone: it counts from anew");
    }
}
