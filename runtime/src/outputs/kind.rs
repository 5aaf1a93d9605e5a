//! The one thing of an output that an operator may also name.

/// What an output is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OutputKind {
    /// DICOM SEG.
    Segmentation,
    /// DICOM SEG of probabilities.
    FractionalSegmentation,
    /// DICOM SR.
    Report,
    /// DICOM Parametric Map.
    ParametricMap,
    /// DICOM Grayscale Softcopy Presentation State.
    PresentationState,
    /// DICOM Secondary Capture.
    SecondaryCapture,
    /// `overlay.png`.
    Overlay,
    /// `result.json`.
    Result,
}
