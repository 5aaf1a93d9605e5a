//! All outputs of a job, or none.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use dicom_object::{FileDicomObject, InMemDicomObject};
use sha2::{Digest, Sha256};
use tempfile::TempDir;

/// What an output is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum OutputKind {
    /// DICOM SEG.
    Segmentation,
    /// DICOM SR.
    Report,
    /// `result.json`.
    Result,
}

/// An output that lies, or is about to lie, in the output folder.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Written {
    /// Name in the output folder.
    pub file: String,
    /// What it is.
    pub kind: OutputKind,
    /// SOP Class UID; `None` for what is not DICOM.
    pub sop_class_uid: Option<String>,
    /// SOP Instance UID; `None` for what is not DICOM.
    pub sop_instance_uid: Option<String>,
    /// Series Instance UID; `None` for what is not DICOM.
    pub series_instance_uid: Option<String>,
    /// SHA-256 of the file, hexadecimal.
    pub sha256: String,
    /// Size of the file.
    pub bytes: u64,
}

/// One output to write.
#[derive(Debug)]
pub struct Output {
    /// Name in the output folder.
    pub file: String,
    /// What it is.
    pub kind: OutputKind,
    /// What is in it.
    pub content: Content,
}

/// What is in an [`Output`].
#[derive(Debug)]
pub enum Content {
    /// Written as it is encoded, without a copy.
    Dicom(Box<FileDicomObject<InMemDicomObject>>),
    /// As they are.
    Bytes(Vec<u8>),
}

/// Outputs could not be written; nothing of them was left, and files from before are as they were.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// The operating system refused: the operator's to repair.
    #[error("{}: cannot be written: {source}", path.display())]
    Io {
        /// What was written.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// An object that cannot be encoded: ours to repair.
    #[error("{file}: cannot be encoded as DICOM: {reason}")]
    Encode {
        /// Name in the output folder.
        file: String,
        /// Why not.
        reason: String,
    },
    /// A name that would leave the folder, or was given twice: ours to repair.
    #[error("`{0}` is no name for an output: a plain file name, given once")]
    Name(String),
}

impl WriteError {
    fn io(path: &Path, source: io::Error) -> Self {
        Self::Io { path: path.to_owned(), source }
    }
}

/// Writes `outputs` into the folder `out`, which is made where it is missing.
///
/// # Errors
/// See [`WriteError`].
pub fn write_all(out: &Path, outputs: Vec<Output>) -> Result<Vec<Written>, WriteError> {
    let mut transaction = Transaction::begin(out)?;
    for output in outputs {
        match output.content {
            Content::Dicom(object) => transaction.dicom(&output.file, output.kind, &object)?,
            Content::Bytes(bytes) => transaction.bytes(&output.file, output.kind, &bytes)?,
        };
    }
    transaction.commit()
}

/// Outputs that are written one by one, so that a later one can name the digest of an earlier, and appear together.
///
/// Files lie in a hidden folder inside the output folder until [`commit`](Self::commit). Dropping a transaction
/// removes it, so whoever stops a job on Ctrl-C must let it unwind.
#[derive(Debug)]
pub struct Transaction {
    out: PathBuf,
    /// Whether `out` was made by this transaction: then it goes with it.
    made: bool,
    /// `None` once committed.
    staging: Option<TempDir>,
    written: Vec<Written>,
}

impl Transaction {
    /// Nothing written yet.
    ///
    /// # Errors
    /// [`WriteError::Io`] when the folder cannot be made or written to.
    pub fn begin(out: &Path) -> Result<Self, WriteError> {
        let made = !out.exists();
        fs::create_dir_all(out).map_err(|e| WriteError::io(out, e))?;
        let staging = tempfile::Builder::new().prefix(".gantry-").tempdir_in(out);
        let staging = staging.map_err(|e| WriteError::io(out, e))?;
        Ok(Self { out: out.to_owned(), made, staging: Some(staging), written: Vec::new() })
    }

    /// Writes a DICOM object as it is encoded; `file` is its name in the output folder.
    ///
    /// # Errors
    /// See [`WriteError`].
    pub fn dicom(
        &mut self,
        file: &str,
        kind: OutputKind,
        object: &FileDicomObject<InMemDicomObject>,
    ) -> Result<&Written, WriteError> {
        let uid = |text: &str| Some(text.trim_end_matches(['\0', ' ']).to_owned());
        let series = object.element(dicom_dictionary_std::tags::SERIES_INSTANCE_UID).ok();
        let uids = [
            uid(object.meta().media_storage_sop_class_uid()),
            uid(object.meta().media_storage_sop_instance_uid()),
            series.and_then(|e| e.to_str().ok()).and_then(|text| uid(&text)),
        ];
        self.stage(file, kind, uids, |to| {
            object.write_all(to).map_err(|e| WriteError::Encode { file: file.into(), reason: chain(&e) })
        })
    }

    /// Writes bytes; `file` is their name in the output folder.
    ///
    /// # Errors
    /// See [`WriteError`].
    pub fn bytes(&mut self, file: &str, kind: OutputKind, bytes: &[u8]) -> Result<&Written, WriteError> {
        let path = self.out.join(file);
        self.stage(file, kind, [None, None, None], |to| to.write_all(bytes).map_err(|e| WriteError::io(&path, e)))
    }

    fn stage(
        &mut self,
        file: &str,
        kind: OutputKind,
        [class, instance, series]: [Option<String>; 3],
        write: impl FnOnce(&mut Hashing<File>) -> Result<(), WriteError>,
    ) -> Result<&Written, WriteError> {
        let plain = Path::new(file).file_name().is_some_and(|name| name == file) && !file.starts_with('.');
        if !plain || self.written.iter().any(|w| w.file == file) {
            return Err(WriteError::Name(file.into()));
        }
        let staging = self.staging.as_ref().expect("a transaction has its folder until it is committed");
        let path = staging.path().join(file);
        let io = |e| WriteError::io(&self.out.join(file), e);
        let to = File::create_new(&path).map_err(io)?;
        let mut hashing = Hashing { to, hash: Sha256::new(), bytes: 0, failed: None };
        let done = write(&mut hashing);
        if let Some(error) = hashing.failed.take() {
            // A full disk is the operator's fault, though an encoder reports it.
            return Err(io(error));
        }
        done?;
        hashing.to.sync_all().map_err(io)?;
        let sha256 = crate::hex(&hashing.hash.finalize());
        let (sop_class_uid, sop_instance_uid, series_instance_uid) = (class, instance, series);
        let bytes = hashing.bytes;
        let file = file.to_owned();
        self.written.push(Written { file, kind, sop_class_uid, sop_instance_uid, series_instance_uid, sha256, bytes });
        Ok(self.written.last().expect("one was just pushed"))
    }

    /// Puts all files into their place, over files of the same names. What else lies in the folder stays.
    ///
    /// # Errors
    /// [`WriteError::Io`]; the folder is then as it was before.
    pub fn commit(mut self) -> Result<Vec<Written>, WriteError> {
        let staging = self.staging.as_ref().expect("a transaction is committed once").path().to_owned();
        let before = staging.join(".before");
        fs::create_dir(&before).map_err(|e| WriteError::io(&self.out, e))?;
        let mut moves = Moves::default();
        for file in self.written.iter().map(|w| &w.file) {
            let place = self.out.join(file);
            if place.symlink_metadata().is_ok() {
                moves.rename(place.clone(), before.join(file))?;
            }
            moves.rename(staging.join(file), place)?;
        }
        let folder = File::open(&self.out).and_then(|folder| folder.sync_all());
        folder.map_err(|e| WriteError::io(&self.out, e))?;
        moves.keep();
        // What is left in it are the files from before: that they cannot be removed harms no result.
        drop(self.staging.take());
        Ok(std::mem::take(&mut self.written))
    }
}

impl Drop for Transaction {
    fn drop(&mut self) {
        if self.staging.take().is_some() && self.made {
            // Fails when something else was put there meanwhile, and then it is not ours to remove.
            let _ = fs::remove_dir(&self.out);
        }
    }
}

/// Renames that are undone unless kept.
#[derive(Default)]
struct Moves(Vec<(PathBuf, PathBuf)>);

impl Moves {
    fn rename(&mut self, from: PathBuf, to: PathBuf) -> Result<(), WriteError> {
        fs::rename(&from, &to).map_err(|e| WriteError::io(&to, e))?;
        self.0.push((from, to));
        Ok(())
    }

    fn keep(mut self) {
        self.0.clear();
    }
}

impl Drop for Moves {
    fn drop(&mut self) {
        for (from, to) in self.0.drain(..).rev() {
            let _ = fs::rename(to, from);
        }
    }
}

/// Hashes and counts what passes through.
struct Hashing<W> {
    to: W,
    hash: Sha256,
    bytes: u64,
    failed: Option<io::Error>,
}

impl<W: Write> Write for Hashing<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.to.write(bytes).inspect_err(|e| {
            if e.kind() != io::ErrorKind::Interrupted {
                self.failed = Some(io::Error::new(e.kind(), e.to_string()));
            }
        })?;
        self.hash.update(&bytes[..written]);
        self.bytes += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.to.flush()
    }
}

/// An error and its causes. Encoders name tags, not values.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}
