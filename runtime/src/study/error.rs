//! Why input could not be read.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use dicom_core::Tag;
use dicom_core::dictionary::{DataDictionary, DataDictionaryEntry};
use dicom_dictionary_std::StandardDataDictionary;

use crate::geometry::GeometryError;
use crate::memory::OverBudget;
use crate::shown;
use crate::volumes::VolumeError;

/// Why input could not be read. Messages name the file, the tag and the remedy; never patient data (paths and
/// UIDs excepted: what an operator puts into a path is theirs).
///
/// Who is at fault: the operator for [`Io`](Self::Io), [`NotDicom`](Self::NotDicom), [`Foreign`](Self::Foreign),
/// [`Missing`](Self::Missing),
/// [`NoDicom`](Self::NoDicom),
/// [`NoImages`](Self::NoImages), [`Patients`](Self::Patients), [`Studies`](Self::Studies),
/// [`Limit`](Self::Limit), [`Decoder`](Self::Decoder) and [`OverBudget`](Self::OverBudget); this version for
/// [`Unavailable`](Self::Unavailable) and [`TransferSyntax`](Self::TransferSyntax); the input for the others.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The operating system refused.
    #[error("{}: cannot be read: {source}", shown(path))]
    Io {
        /// What was read.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// A file that was named is not DICOM.
    #[error("{}: not a DICOM file (no DICM at byte 128), or a DICOMDIR that is not named so; name DICOM files or folders that hold them", shown(.0))]
    NotDicom(PathBuf),
    /// A file in a folder is not DICOM, and `strict` forbids to leave it out.
    #[error("{}: not a DICOM file, and strict reading leaves nothing out; it may be a slice that was cut: fetch it again, take it away, or read without strict", shown(.0))]
    Foreign(PathBuf),
    /// A DICOMDIR names files that are not there, and `strict` forbids to do without.
    #[error(
        "a DICOMDIR names {files} files that are not there, and strict reading leaves nothing out; copy the whole medium, or read without strict"
    )]
    Missing {
        /// How many.
        files: usize,
    },
    /// Nothing to read.
    #[error("no DICOM file among the {files} files given; name a folder or files of one study")]
    NoDicom {
        /// Files that were looked at.
        files: usize,
    },
    /// DICOM, but no images.
    #[error("none of the {objects} DICOM objects given is an image; add the images of the study")]
    NoImages {
        /// Objects that were looked at.
        objects: usize,
    },
    /// DICOM, but cut short or not well-formed.
    #[error("{}: damaged: {reason}; fetch the file again from where it came", shown(path))]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong, and where.
        reason: String,
    },
    /// Another file than when its header was read.
    #[error("{}: changed while it was read; run again when nothing writes to the folder", shown(.0))]
    Changed(PathBuf),
    /// An attribute that is needed is absent or makes no sense.
    #[error("{}: {keyword} {tag} {problem}", shown(path))]
    Attribute {
        /// The file.
        path: PathBuf,
        /// Which attribute.
        tag: Tag,
        /// Its keyword (PS3.6).
        keyword: &'static str,
        /// What is wrong with it and what to do.
        problem: String,
    },
    /// Identity that would have to be repaired, and `strict` forbids it.
    #[error(
        "{files} files: {what}, and strict reading repairs nothing; send the images again from their source, or read without strict"
    )]
    Identity {
        /// How many files.
        files: usize,
        /// Which tags.
        what: String,
    },
    /// More than one patient.
    #[error("the input holds {patients} patients (they differ in {by}); give the files of one patient")]
    Patients {
        /// How many.
        patients: usize,
        /// Keyword and tag in which they differ.
        by: &'static str,
    },
    /// More than one study.
    #[error("the input holds {} studies: {}; give the folder or the files of one of them", .0.len(), counted(.0))]
    Studies(Vec<(String, usize)>),
    /// A limit of the configuration, or of this version, was reached.
    #[error("{what} would pass {limit} = {maximum}{}", path.as_deref().map(|p| format!(" ({})", shown(p))).unwrap_or_default())]
    Limit {
        /// The file, where there is one.
        path: Option<PathBuf>,
        /// What is too large.
        what: String,
        /// Name of the limit.
        limit: &'static str,
        /// Its value.
        maximum: u64,
    },
    /// Valid, but not offered by this version.
    #[error("{}: {what} is not available in this version", shown(path))]
    Unavailable {
        /// The file.
        path: PathBuf,
        /// What it would take.
        what: String,
    },
    /// The host has no worker that decodes it.
    #[error("{}: cannot be decoded on this host: {reason}", shown(path))]
    Decoder {
        /// The file.
        path: PathBuf,
        /// Why not.
        reason: String,
    },
    /// Pixel data in a transfer syntax that is not decoded.
    #[error(
        "{}: transfer syntax {uid} ({name}) cannot be decoded by this version; send the images uncompressed",
        shown(path)
    )]
    TransferSyntax {
        /// The file.
        path: PathBuf,
        /// Its UID.
        uid: String,
        /// Its name (PS3.6 annex A).
        name: String,
    },
    /// The instances of a series do not form a volume; the text names no file.
    #[error("{0}")]
    NoVolume(String),
    /// Two instances of a series cannot be in one volume.
    #[error("{problem}: {} and {}{remedy}", shown(&files[0]), shown(&files[1]))]
    Apart {
        /// What they have, or have not, in common.
        problem: String,
        /// The two.
        files: [PathBuf; 2],
        /// What to do.
        remedy: &'static str,
    },
    /// A grid that cannot be.
    #[error("{}: {source}", shown(path))]
    Geometry {
        /// The first slice.
        path: PathBuf,
        /// What is wrong with it.
        source: GeometryError,
    },
    /// Why a series gives no volumes.
    #[error("series {uid}: {reason}")]
    Series {
        /// Series Instance UID.
        uid: String,
        /// Why.
        reason: Arc<Self>,
    },
    /// No series gives a volume.
    #[error("no series gives a volume: {}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
    NoSeries(Vec<Self>),
    /// No such volume in the series.
    #[error("no volume {index}: the series has {count}")]
    NoSuchVolume {
        /// What was asked for.
        index: usize,
        /// How many there are.
        count: usize,
    },
    /// No room.
    #[error(transparent)]
    OverBudget(#[from] OverBudget),
    /// The voxels cannot be a volume.
    #[error(transparent)]
    Volume(#[from] VolumeError),
}

impl ReadError {
    /// Whether a limit was reached, rather than the input being at fault.
    #[must_use]
    pub fn is_limit(&self) -> bool {
        match self {
            Self::Limit { .. } | Self::OverBudget(_) | Self::Volume(VolumeError::OverBudget(_)) => true,
            Self::Series { reason, .. } => reason.is_limit(),
            Self::NoSeries(reasons) => reasons.iter().all(Self::is_limit),
            _ => false,
        }
    }

    /// As this, with what `name` says in the place of each path: for records, which go further than messages do.
    #[must_use]
    pub fn for_record(&self, name: &dyn Fn(&Path) -> String) -> Self {
        let named = |path: &Path| PathBuf::from(name(path));
        match self {
            Self::Attribute { path, tag, keyword, problem } => {
                Self::Attribute { path: named(path), tag: *tag, keyword, problem: problem.clone() }
            }
            Self::Damaged { path, reason } => Self::Damaged { path: named(path), reason: reason.clone() },
            Self::Limit { what, limit, maximum, .. } => {
                Self::Limit { path: None, what: what.clone(), limit, maximum: *maximum }
            }
            Self::Unavailable { path, what } => Self::Unavailable { path: named(path), what: what.clone() },
            Self::TransferSyntax { path, uid, name } => {
                Self::TransferSyntax { path: named(path), uid: uid.clone(), name: name.clone() }
            }
            Self::Geometry { path, source } => Self::Geometry { path: named(path), source: source.clone() },
            Self::NoVolume(reason) => Self::NoVolume(reason.clone()),
            Self::Apart { problem, files, remedy } => {
                Self::Apart { problem: problem.clone(), files: files.each_ref().map(|path| named(path)), remedy }
            }
            Self::Series { uid, reason } => {
                Self::Series { uid: uid.clone(), reason: Arc::new(reason.for_record(name)) }
            }
            Self::NoSeries(reasons) => Self::NoSeries(reasons.iter().map(|reason| reason.for_record(name)).collect()),
            Self::NoDicom { files } => Self::NoDicom { files: *files },
            Self::NoImages { objects } => Self::NoImages { objects: *objects },
            // The others are of more patients or studies than one, or of the host.
            _ => Self::NoVolume("it cannot be read".into()),
        }
    }

    pub(super) fn apart(problem: impl Into<String>, files: [&Path; 2], remedy: &'static str) -> Self {
        Self::Apart { problem: problem.into(), files: files.map(Path::to_owned), remedy }
    }

    pub(super) fn io(path: &Path, source: std::io::Error) -> Self {
        Self::Io { path: path.to_owned(), source }
    }

    pub(super) fn damaged(path: &Path, reason: impl Into<String>) -> Self {
        Self::Damaged { path: path.to_owned(), reason: reason.into() }
    }

    pub(super) fn unavailable(path: &Path, what: impl Into<String>) -> Self {
        Self::Unavailable { path: path.to_owned(), what: what.into() }
    }

    pub(super) fn attribute(path: &Path, tag: Tag, problem: impl Into<String>) -> Self {
        let keyword = StandardDataDictionary.by_tag(tag).map_or("attribute", DataDictionaryEntry::alias);
        Self::Attribute { path: path.to_owned(), tag, keyword, problem: problem.into() }
    }
}

/// Studies with their number of files; no more than eight.
fn counted(studies: &[(String, usize)]) -> String {
    let mut text: Vec<String> = studies.iter().take(8).map(|(uid, files)| format!("{uid} ({files} files)")).collect();
    if studies.len() > 8 {
        text.push(format!("and {} more", studies.len() - 8));
    }
    text.join(", ")
}
