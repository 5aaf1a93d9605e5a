//! `[sync]`: what is handed to the cloud, and what that may take of the machine.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::Range;

/// SHA-256 of the text detector that `cargo xtask assets` fetches.
pub const TEXT_DETECTOR_SHA256: &str = "d2a7720d45a54257208b1e13e36a8479894cb74155a5efe29462512d42f49da9";

/// Studies, results, verdicts and timings, de-identified, to a bucket: see `docs/sync.md`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SyncConfig {
    /// What may leave, as what, and where to; nothing leaves when not set.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub policy: Option<PathBuf>,
    /// Where batches are made and wait; `sync` in the data folder when not set.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub spool_folder: Option<PathBuf>,
    /// How often the journal is asked for studies, and whether urgent jobs wait.
    pub poll_ms: u64,
    /// Instances that are worked on at once.
    pub instances_at_once_max: usize,
    /// How long a study waits for what the policy wants of it, but for a verdict, before it is left out.
    pub wait_max_h: u64,
    /// The longest pause before `gantry serve` starts the process again that did not last.
    pub restart_pause_max_ms: u64,
    /// How long that process may take to end when the node stops, before it is killed: it loses nothing.
    pub stop_timeout_ms: u64,
    /// The model that finds text in images, an ONNX file; without one, images that may show text stay, unless masks of their device or
    /// ultrasound regions say where none is: see `docs/deidentification.md`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub text_detector: Option<PathBuf>,
    /// SHA-256 of that file, hexadecimal: no other is loaded.
    pub text_detector_sha256: String,
}

impl Default for SyncConfig {
    fn default() -> Self {
        Self {
            policy: None,
            spool_folder: None,
            poll_ms: 1000,
            instances_at_once_max: 2,
            wait_max_h: 168,
            restart_pause_max_ms: 60_000,
            stop_timeout_ms: 5000,
            text_detector: None,
            text_detector_sha256: TEXT_DETECTOR_SHA256.into(),
        }
    }
}

impl SyncConfig {
    pub(super) fn check(&self) -> Result<(), String> {
        let digest = &self.text_detector_sha256;
        match digest.len() == 64 && digest.bytes().all(|b| b.is_ascii_hexdigit()) {
            true => Ok(()),
            false => Err(format!("sync.text_detector_sha256 = {digest:?} is no SHA-256: 64 hexadecimal digits")),
        }
    }

    pub(super) fn ranges(&self) -> Vec<Range> {
        vec![
            ("poll_ms", self.poll_ms, 10, 600_000),
            ("instances_at_once_max", self.instances_at_once_max as u64, 1, 64),
            ("wait_max_h", self.wait_max_h, 1, 8760),
            ("restart_pause_max_ms", self.restart_pause_max_ms, 100, 3_600_000),
            ("stop_timeout_ms", self.stop_timeout_ms, 100, 600_000),
        ]
    }

    /// Where batches are made and wait, for a node with this data folder.
    #[must_use]
    pub fn spool(&self, data: &Path) -> PathBuf {
        self.spool_folder.clone().unwrap_or_else(|| data.join("sync"))
    }
}
