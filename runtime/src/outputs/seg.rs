//! DICOM Segmentation.

use dicom_object::{FileDicomObject, InMemDicomObject};

use super::{Accepted, ModuleInfo, OutputUids, Source, Stamp};

/// Why there is no SEG.
#[derive(Debug, thiserror::Error)]
pub enum SegError {
    /// No segment has a voxel.
    #[error("no segment has a voxel, and a SEG without frames is none")]
    Empty,
}

/// The SEG of `accepted`.
pub fn segmentation(
    accepted: &Accepted,
    source: &Source<'_>,
    module: &ModuleInfo,
    uids: &OutputUids,
    stamp: &Stamp,
) -> Result<FileDicomObject<InMemDicomObject>, SegError> {
    let _ = (accepted, source, module, uids, stamp);
    Err(SegError::Empty)
}
