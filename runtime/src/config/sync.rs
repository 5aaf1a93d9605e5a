//! `[sync]`: what is handed to the cloud.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// How instances are made ready to leave: see `docs/deidentification.md`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SyncConfig {
    /// The model that finds text in images, an ONNX file; without one, images that may show text stay, unless masks of their device or
    /// ultrasound regions say where none is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub text_detector: Option<PathBuf>,
    /// SHA-256 of that file, hexadecimal: no other is loaded.
    pub text_detector_sha256: String,
}

impl Default for SyncConfig {
    fn default() -> Self {
        Self { text_detector: None, text_detector_sha256: crate::redact::PINNED_SHA256.into() }
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
}
