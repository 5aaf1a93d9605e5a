//! Files on disk become studies, series and volumes.

use std::path::{Path, PathBuf};

use dicom_object::InMemDicomObject;

use crate::geometry::Geometry;
use crate::memory::Budget;
use crate::volumes::Volume;

/// One study of one patient.
#[derive(Debug)]
pub struct Study {
    /// Study Instance UID (0020,000D).
    pub uid: String,
    /// In order of acquisition (Series Number, then time, then UID).
    pub series: Vec<Series>,
    /// What was repaired or left out, for people; no patient data.
    pub warnings: Vec<String>,
}

/// One series.
#[derive(Debug)]
pub struct Series {
    /// Series Instance UID (0020,000E).
    pub uid: String,
    /// Modality (0008,0060).
    pub modality: String,
    /// Dataset of the first instance without pixel data, repaired: what outputs copy patient, study and
    /// frame of reference from.
    pub header: InMemDicomObject,
    /// Every instance, in the order of the volumes' slices.
    pub instances: Vec<Instance>,
    /// The volumes that the instances form.
    pub volumes: Vec<VolumeLayout>,
}

/// One instance.
#[derive(Debug, Clone)]
pub struct Instance {
    /// Where it lies.
    pub path: PathBuf,
    /// SOP Class UID (0008,0016).
    pub sop_class_uid: String,
    /// SOP Instance UID (0008,0018).
    pub sop_instance_uid: String,
    /// Transfer Syntax UID (0002,0010).
    pub transfer_syntax_uid: String,
}

/// A volume: which instances are its slices, from the first along the grid's z axis.
#[derive(Debug, Clone)]
pub struct VolumeLayout {
    /// The grid.
    pub geometry: Geometry,
    /// Index into [`Series::instances`] of each slice.
    pub slices: Vec<usize>,
}

/// How to read.
#[derive(Debug, Clone)]
pub struct ReadOptions {
    /// Refuse what would otherwise be repaired with a warning (empty UIDs taken from file meta).
    pub strict: bool,
    /// Files larger than this are refused.
    pub file_max_mib: u64,
    /// More files than this are refused.
    pub files_max: usize,
    /// A volume of more voxel bytes (as stored) than this is refused.
    pub volume_max_mib: u64,
}

/// Why input could not be read. Messages name the file, the tag and the remedy; never patient data.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// Placeholder
    #[error("{0}")]
    Other(String),
}

/// A decoded volume and the SHA-256 of every file that it was decoded from.
#[derive(Debug)]
pub struct Decoded {
    /// Through the modality LUT.
    pub volume: Volume,
    /// One for each slice, in order of [`VolumeLayout::slices`].
    pub digests: Vec<[u8; 32]>,
}

/// Reads the headers of all DICOM files under `paths`.
pub fn read(_paths: &[PathBuf], _options: &ReadOptions) -> Result<Study, ReadError> {
    todo!()
}

impl Series {
    /// Decodes one volume, on several threads.
    pub fn decode(&self, _index: usize, _budget: &Budget, _options: &ReadOptions) -> Result<Decoded, ReadError> {
        todo!()
    }
    /// Value of an attribute by keyword, several values joined with `\`; `None` when absent or empty.
    #[must_use]
    pub fn attribute(&self, _keyword: &str) -> Option<String> {
        todo!()
    }
}

#[expect(dead_code, reason = "placeholder")]
fn unused(_: &Path) {}
