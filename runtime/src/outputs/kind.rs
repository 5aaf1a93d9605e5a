//! The one thing of an output that an operator may also name.

/// What an output is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OutputKind {
    /// DICOM SEG.
    Segmentation,
    /// DICOM SR.
    Report,
    /// `overlay.png`.
    Overlay,
    /// `result.json`.
    Result,
}
