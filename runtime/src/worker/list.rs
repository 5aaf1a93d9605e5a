//! What workers there are, for who asks while a node runs: a file in its data folder.

use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::WorkerReport;

/// Of the file, bytes: it is ours, and read by a command.
const FILE_MAX_BYTES: u64 = 1 << 20;

/// The workers of a node at a moment.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct WorkerList {
    /// When, ms since 1970 (UTC).
    pub written_ms: i64,
    /// By vendor and device.
    pub workers: Vec<WorkerReport>,
}

impl WorkerList {
    /// What is left of it when its node has ended: no process, and nothing in one.
    #[must_use]
    pub fn ended(mut self) -> Self {
        for worker in &mut self.workers {
            (worker.process, worker.memory_bytes) = (None, None);
            worker.models.clear();
        }
        self
    }
}

fn path(data: &Path) -> PathBuf {
    data.join("workers.json")
}

/// Writes the file anew. It need not survive a power cut: no worker does.
///
/// # Errors
/// Of the file system.
pub(crate) fn write(data: &Path, list: &WorkerList) -> io::Result<()> {
    let new = data.join("workers.json.new");
    std::fs::write(&new, serde_json::to_vec(list)?)?;
    std::fs::rename(new, path(data))
}

/// When a node was last seen to do something on a data folder, ms since 1970 (UTC): it writes its workers down when they change,
/// and the head of the audit log while that moves, and once more when it stops.
#[must_use]
pub fn last_seen_ms(data: &Path, list: &WorkerList) -> Option<i64> {
    let head = || {
        let written = std::fs::metadata(data.join(crate::audit::FILE)).ok()?.modified().ok()?;
        i64::try_from(written.duration_since(std::time::UNIX_EPOCH).ok()?.as_millis()).ok()
    };
    head().max((list.written_ms > 0).then_some(list.written_ms))
}

/// What the node wrote last; nothing when it has not run a model yet.
///
/// # Errors
/// Of the file system, or the file is none of ours.
pub fn read(data: &Path) -> io::Result<Option<WorkerList>> {
    use io::Read as _;
    let file = match std::fs::File::open(path(data)) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        file => file?,
    };
    let mut text = String::new();
    file.take(FILE_MAX_BYTES).read_to_string(&mut text)?;
    Ok(Some(serde_json::from_str(&text)?))
}
