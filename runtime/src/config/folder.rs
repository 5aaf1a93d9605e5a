//! `[folder]`: a folder whose files are taken in.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::Range;

/// The watched folder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct FolderConfig {
    /// Files that appear here, or in folders below, are taken in and removed; nothing is watched when not set. What is
    /// refused lies in its `rejected` folder. Names that begin with a dot are left alone: copy under such a name, then
    /// rename.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<PathBuf>,
    /// From one look to the next.
    pub poll_ms: u64,
    /// A file is taken when its size and time of change stayed the same this long.
    pub stable_ms: u64,
    /// Files that one look considers; the others wait for the next.
    pub files_max: usize,
    /// Files that are taken in at once.
    pub files_at_once_max: usize,
}

impl Default for FolderConfig {
    fn default() -> Self {
        Self { path: None, poll_ms: 1000, stable_ms: 5000, files_max: 10_000, files_at_once_max: 8 }
    }
}

impl FolderConfig {
    pub(super) fn ranges(&self) -> Vec<Range> {
        vec![
            ("poll_ms", self.poll_ms, 1, 3_600_000),
            ("stable_ms", self.stable_ms, 1, 3_600_000),
            ("files_max", self.files_max as u64, 1, 1_000_000),
            ("files_at_once_max", self.files_at_once_max as u64, 1, 1000),
        ]
    }
}
