//! All outputs of a job, or none.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use dicom_object::{FileDicomObject, InMemDicomObject};
use sha2::{Digest, Sha256};
use tempfile::TempDir;

use super::{OutputKind, encode};
use crate::trusted_code::begin_writing;

/// Name of the SEG in the output folder.
pub const SEGMENTATION_FILE: &str = "segmentation.dcm";
/// Name of the SEG of probabilities.
pub const FRACTIONAL_FILE: &str = "fractional-segmentation.dcm";
/// Name of the SR.
pub const REPORT_FILE: &str = "report.dcm";
/// Name of the parametric map.
pub const PARAMETRIC_MAP_FILE: &str = "parametric-map.dcm";
/// Name of the presentation state.
pub const PRESENTATION_FILE: &str = "presentation-state.dcm";
/// Name of the secondary capture.
pub const CAPTURE_FILE: &str = "secondary-capture.dcm";
/// Name of the picture.
pub const OVERLAY_FILE: &str = "overlay.png";
/// Name of the result.
pub const RESULT_FILE: &str = "result.json";
/// All names that a result may have in its folder.
pub const OUTPUT_FILES: [&str; 8] = [
    SEGMENTATION_FILE,
    FRACTIONAL_FILE,
    REPORT_FILE,
    PARAMETRIC_MAP_FILE,
    PRESENTATION_FILE,
    CAPTURE_FILE,
    OVERLAY_FILE,
    RESULT_FILE,
];

/// An output that lies, or is about to lie, in the output folder.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
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
    /// Another run has the folder: the operator's to wait for.
    #[error("{}: another run writes to this folder; wait for it, or give each run a folder of its own", .0.display())]
    Busy(PathBuf),
    /// In the place of an output is something that a result may not replace: the operator's to take away.
    #[error("{}: is in the place of a result, and no earlier result here says that it wrote it; take it away, or name another folder", .0.display())]
    Occupied(PathBuf),
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
/// removes it, so whoever stops a job on Ctrl-C must let it unwind. Until then the folder is locked: no second
/// transaction begins in it.
#[derive(Debug)]
pub struct Transaction {
    out: PathBuf,
    // These go in this order: what lies in a folder, the folder, the lock on it.
    staging: TempDir,
    made: Made,
    /// The folder, open and locked. The lock ends with the process, whatever ends that.
    folder: File,
    written: Vec<Written>,
}

impl Transaction {
    /// Nothing written yet.
    ///
    /// # Errors
    /// [`WriteError::Io`] when the folder cannot be made or written to, [`WriteError::Busy`] when another transaction
    /// has it, [`WriteError::Occupied`] when an output could not get its place.
    pub fn begin(out: &Path) -> Result<Self, WriteError> {
        let made = Made::make(out).map_err(|e| WriteError::io(out, e))?;
        let folder = File::open(out).map_err(|e| WriteError::io(out, e))?;
        folder.try_lock().map_err(|e| match e {
            fs::TryLockError::WouldBlock => WriteError::Busy(out.to_owned()),
            fs::TryLockError::Error(e) => WriteError::io(out, e),
        })?;
        // Another transaction may have removed the folder just before, and a third have made it anew.
        let id = |m: &fs::Metadata| (m.dev(), m.ino());
        let locked = folder.metadata().map_err(|e| WriteError::io(out, e))?;
        if !fs::metadata(out).is_ok_and(|now| id(&now) == id(&locked)) {
            return Err(WriteError::Busy(out.to_owned()));
        }
        let earlier = earlier(out)?;
        for file in OUTPUT_FILES {
            let place = out.join(file);
            if replaceable(&place)? && !earlier.iter().any(|e| e == file) {
                return Err(WriteError::Occupied(place));
            }
        }
        let staging = tempfile::Builder::new().prefix(".gantry-").tempdir_in(out);
        let staging = staging.map_err(|e| WriteError::io(out, e))?;
        Ok(Self { out: out.to_owned(), staging, made, folder, written: Vec::new() })
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
        let series = object.get(dicom_dictionary_std::tags::SERIES_INSTANCE_UID);
        let uids = [
            uid(object.meta().media_storage_sop_class_uid()),
            uid(object.meta().media_storage_sop_instance_uid()),
            series.and_then(|e| e.to_str().ok()).and_then(|text| uid(&text)),
        ];
        self.stage(file, kind, uids, |to| {
            encode::write_file(object, to).map_err(|e| WriteError::Encode { file: file.into(), reason: e.to_string() })
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
        write: impl FnOnce(&mut Hashing) -> Result<(), WriteError>,
    ) -> Result<&Written, WriteError> {
        let plain = Path::new(file).file_name().is_some_and(|name| name == file) && !file.starts_with('.');
        if !plain || self.written.iter().any(|w| w.file == file) {
            return Err(WriteError::Name(file.into()));
        }
        let path = self.staging.path().join(file);
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

    /// What has been written so far, and where each file lies until it has its place.
    pub fn staged(&self) -> impl Iterator<Item = (&Written, PathBuf)> {
        self.written.iter().map(|written| (written, self.staging.path().join(&written.file)))
    }

    /// What has been written so far.
    #[must_use]
    pub fn written(&self) -> &[Written] {
        &self.written
    }

    /// Puts all files into their place, over files of the same names. Outputs of an earlier result that this one does
    /// not have ([`OUTPUT_FILES`]) go, so that two results never mix; what else lies in the folder stays. The file that
    /// names the others, written last, goes first and comes last: where it is, its result is whole, even if the
    /// process is killed in between.
    ///
    /// # Errors
    /// [`WriteError::Io`] and [`WriteError::Occupied`]; the folder is then as it was before.
    pub fn commit(mut self) -> Result<Vec<Written>, WriteError> {
        let staging = self.staging.path();
        let before = staging.join(".before");
        fs::create_dir(&before).map_err(|e| WriteError::io(&self.out, e))?;
        let mut moves = Moves::default();
        for file in self.written.iter().map(|w| w.file.as_str()).rev().chain(OUTPUT_FILES.into_iter().rev()) {
            let place = self.out.join(file);
            if replaceable(&place)? {
                moves.rename(place, before.join(file))?;
            }
        }
        for file in self.written.iter().map(|w| &w.file) {
            moves.rename(staging.join(file), self.out.join(file))?;
        }
        self.folder.sync_all().map_err(|e| WriteError::io(&self.out, e))?;
        moves.keep();
        self.made.0.clear();
        // What is left in `staging` are the files from before: that they cannot be removed harms no result.
        Ok(self.written)
    }
}

/// An earlier result is read up to this size.
const EARLIER_MAX_BYTES: u64 = 256 << 20;

/// The outputs of the earlier result in `out`, by its own account: what is not among them is somebody else's.
fn earlier(out: &Path) -> Result<Vec<String>, WriteError> {
    let path = out.join(RESULT_FILE);
    if !replaceable(&path)? {
        return Ok(Vec::new());
    }
    let mut bytes = Vec::new();
    let read = File::open(&path).and_then(|file| file.take(EARLIER_MAX_BYTES).read_to_end(&mut bytes));
    read.map_err(|e| WriteError::io(&path, e))?;
    let result: serde_json::Value = serde_json::from_slice(&bytes).unwrap_or_default();
    if !result["schema"].as_str().is_some_and(|schema| schema.starts_with("gantry.result/")) {
        return Err(WriteError::Occupied(path));
    }
    let outputs = result["outputs"].as_array().into_iter().flatten();
    let names = outputs.filter_map(|output| output["file"].as_str()).chain([RESULT_FILE]);
    Ok(names.map(str::to_owned).collect())
}

/// Whether a file is at `place`; anything else that is there is refused, links too.
fn replaceable(place: &Path) -> Result<bool, WriteError> {
    match place.symlink_metadata() {
        Ok(found) if found.is_file() => Ok(true),
        Ok(_) => Err(WriteError::Occupied(place.to_owned())),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(e) => Err(WriteError::io(place, e)),
    }
}

/// Folders that were made, the innermost first. They go with it, unless something was put into them meanwhile.
#[derive(Debug)]
struct Made(Vec<PathBuf>);

impl Made {
    /// Makes `folder` and what is missing above it.
    fn make(folder: &Path) -> io::Result<Self> {
        let missing = folder.ancestors().take_while(|f| !f.as_os_str().is_empty() && !f.exists());
        let made = Self(missing.map(Path::to_owned).collect());
        fs::create_dir_all(folder)?;
        Ok(made)
    }
}

impl Drop for Made {
    fn drop(&mut self) {
        for folder in &self.0 {
            let _ = fs::remove_dir(folder);
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
struct Hashing {
    to: File,
    hash: Sha256,
    bytes: u64,
    failed: Option<io::Error>,
}

/// What is written at once of more, and from how much on it is hashed meanwhile.
const PIECE_BYTES: usize = 4 << 20;
const LARGE_BYTES: usize = 256 << 10;

impl Write for Hashing {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let piece = &bytes[..bytes.len().min(PIECE_BYTES)];
        let (to, hash) = (&mut self.to, &mut self.hash);
        let written = if piece.len() < LARGE_BYTES {
            to.write_all(piece).map(|()| hash.update(piece))
        } else {
            let write = || -> io::Result<()> {
                to.write_all(piece)?;
                // The last fsync has less to do.
                begin_writing(to);
                Ok(())
            };
            rayon::join(write, || hash.update(piece)).0
        };
        if let Err(e) = written {
            self.failed = Some(io::Error::new(e.kind(), e.to_string()));
            return Err(e);
        }
        self.bytes += piece.len() as u64;
        Ok(piece.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.to.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(file: &str, bytes: &[u8]) -> Output {
        Output { file: file.into(), kind: OutputKind::Result, content: Content::Bytes(bytes.to_vec()) }
    }

    /// Names and contents of everything in a folder, hidden things too.
    fn listing(folder: &Path) -> Vec<(String, String)> {
        let entries = fs::read_dir(folder).expect("a folder").map(|e| e.expect("an entry"));
        let mut all: Vec<_> = entries
            .map(|e| {
                let content = fs::read_to_string(e.path()).unwrap_or_else(|_| "folder".into());
                (e.file_name().to_string_lossy().into_owned(), content)
            })
            .collect();
        all.sort();
        all
    }

    fn pairs(expected: &[(&str, &str)]) -> Vec<(String, String)> {
        expected.iter().map(|(a, b)| ((*a).into(), (*b).into())).collect()
    }

    #[test]
    fn outputs_appear_together_with_their_digests() {
        let temp = tempfile::tempdir().expect("a folder");
        let out = temp.path().join("new/out");
        let written = write_all(&out, vec![bytes("a.json", b"abc"), bytes("b.json", b"")]).expect("written");
        assert_eq!(listing(&out), pairs(&[("a.json", "abc"), ("b.json", "")]));
        assert_eq!(written[0].sha256, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
        assert_eq!((written[0].bytes, written[1].bytes), (3, 0));
    }

    #[test]
    fn a_later_run_replaces_its_own_and_leaves_the_rest() {
        let temp = tempfile::tempdir().expect("a folder");
        fs::write(temp.path().join("notes.txt"), "mine").expect("written");
        write_all(temp.path(), vec![bytes("a.json", b"1")]).expect("written");
        write_all(temp.path(), vec![bytes("a.json", b"2")]).expect("written");
        assert_eq!(listing(temp.path()), pairs(&[("a.json", "2"), ("notes.txt", "mine")]));
    }

    #[test]
    fn a_transaction_that_is_dropped_leaves_nothing() {
        let temp = tempfile::tempdir().expect("a folder");
        let out = temp.path().join("new/out");
        let mut transaction = Transaction::begin(&out).expect("begun");
        transaction.bytes("a.json", OutputKind::Result, b"1").expect("staged");
        assert!(!out.join("a.json").exists(), "not before it is committed");
        drop(transaction);
        assert_eq!(listing(temp.path()), pairs(&[]), "folders that it made go with it");
    }

    #[test]
    fn a_failed_commit_puts_everything_back() {
        let temp = tempfile::tempdir().expect("a folder");
        write_all(temp.path(), vec![bytes("a.json", b"old")]).expect("written");
        let mut transaction = Transaction::begin(temp.path()).expect("begun");
        transaction.bytes("a.json", OutputKind::Result, b"new").expect("staged");
        transaction.bytes("b.json", OutputKind::Result, b"new").expect("staged");
        transaction.bytes("c.json", OutputKind::Result, b"new").expect("staged");
        let staged = transaction.staging.path().join("c.json");
        fs::remove_file(staged).expect("removed behind its back");
        let error = transaction.commit().expect_err("c.json is gone");
        assert!(error.to_string().contains("c.json"), "{error}");
        assert_eq!(listing(temp.path()), pairs(&[("a.json", "old")]));
    }

    #[test]
    fn names_that_leave_the_folder_or_repeat_are_refused() {
        let temp = tempfile::tempdir().expect("a folder");
        for name in ["", "..", "../a", "/a", "a/b", ".hidden", "a/"] {
            let error = write_all(temp.path(), vec![bytes("ok.json", b""), bytes(name, b"")]).expect_err("refused");
            assert!(matches!(error, WriteError::Name(_)), "{name}: {error}");
        }
        assert!(write_all(temp.path(), vec![bytes("a", b"1"), bytes("a", b"2")]).is_err());
        assert_eq!(listing(temp.path()), pairs(&[]));
    }

    #[test]
    fn a_folder_that_another_run_writes_to_is_refused() {
        let temp = tempfile::tempdir().expect("a folder");
        let mut first = Transaction::begin(temp.path()).expect("begun");
        let error = Transaction::begin(temp.path()).expect_err("the first has it");
        assert!(error.to_string().contains("another run writes to this folder"), "{error}");
        first.bytes("a.json", OutputKind::Result, b"1").expect("staged");
        first.commit().expect("undisturbed");
        Transaction::begin(temp.path()).expect("the first is done");
    }

    #[test]
    fn a_file_that_no_earlier_result_wrote_is_not_replaced() {
        let temp = tempfile::tempdir().expect("a folder");
        let refused = || matches!(Transaction::begin(temp.path()), Err(WriteError::Occupied(_)));
        let result = temp.path().join(RESULT_FILE);
        fs::write(temp.path().join(REPORT_FILE), "a slice of somebody's").expect("written");
        assert!(refused(), "no result is there");
        fs::write(&result, "{}").expect("written");
        assert!(refused(), "a result of something else");
        fs::write(&result, r#"{"schema": "gantry.result/1", "outputs": [{"file": "overlay.png"}]}"#).expect("written");
        assert!(refused(), "a result that does not name it");
        fs::write(&result, r#"{"schema": "gantry.result/1", "outputs": [{"file": "report.dcm"}]}"#).expect("written");
        write_all(temp.path(), vec![bytes(RESULT_FILE, b"new")]).expect("the earlier one goes");
        assert_eq!(listing(temp.path()), pairs(&[(RESULT_FILE, "new")]));
    }

    #[test]
    fn a_folder_in_the_place_of_an_output_is_not_replaced() {
        let temp = tempfile::tempdir().expect("a folder");
        fs::create_dir(temp.path().join(RESULT_FILE)).expect("made");
        fs::write(temp.path().join(RESULT_FILE).join("notes.txt"), "mine").expect("written");
        let error = Transaction::begin(temp.path()).expect_err("refused before any work");
        assert!(matches!(&error, WriteError::Occupied(path) if path.ends_with(RESULT_FILE)), "{error}");
        fs::create_dir(temp.path().join("a.json")).expect("made");
        fs::rename(temp.path().join(RESULT_FILE), temp.path().join("other")).expect("moved");
        assert!(matches!(write_all(temp.path(), vec![bytes("a.json", b"1")]), Err(WriteError::Occupied(_))));
        assert_eq!(listing(temp.path()), pairs(&[("a.json", "folder"), ("other", "folder")]));
    }

    #[test]
    fn an_output_folder_that_is_a_file_is_refused() {
        let temp = tempfile::tempdir().expect("a folder");
        let out = temp.path().join("file");
        fs::write(&out, "mine").expect("written");
        assert!(matches!(Transaction::begin(&out), Err(WriteError::Io { .. })));
        assert_eq!(fs::read_to_string(&out).expect("still there"), "mine");
    }
}
