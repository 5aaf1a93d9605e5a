//! Packages of one folder, beside one another: `FOLDER/NAME/VERSION-DIGEST`, each there whole and never changed.
//!
//! ```text
//! FOLDER/.pull/lock                     held by who pulls into this folder
//! FOLDER/.pull/DIGEST/…                 what is being fetched; the next pull of it goes on from there
//! FOLDER/NAME/VERSION-DIGEST/…          renamed to in one step, when all of it is durable
//! ```

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::files::Files;
use super::manifest::Sha256Hex;
use super::package::PackageError;
use super::statement::{ENVELOPE_FILE, Statement};

const NO_FOLDER: &str = "is a link or a file, where a folder must be: move it away";

/// Why a folder cannot be used. The host's to mend.
#[derive(Debug, thiserror::Error)]
pub enum FolderError {
    /// The operating system says no.
    #[error("{path}: {reason}", path = path.display())]
    Io {
        /// Which file or folder.
        path: PathBuf,
        /// Why.
        reason: io::Error,
    },
    /// It is not what it should be.
    #[error("{path} {why}", path = path.display())]
    Wrong {
        /// Which file or folder.
        path: PathBuf,
        /// What it is, and what to do.
        why: &'static str,
    },
}

impl FolderError {
    pub(super) fn io(path: &Path) -> impl FnOnce(io::Error) -> Self + '_ {
        move |reason| Self::Io { path: path.to_owned(), reason }
    }

    pub(super) fn wrong(path: &Path, why: &'static str) -> Self {
        Self::Wrong { path: path.to_owned(), why }
    }
}

/// A folder of packages, while nobody else pulls into it.
#[derive(Debug)]
pub struct Installed {
    folder: PathBuf,
    staging: PathBuf,
    /// Until it is dropped, or the process ends.
    _lock: File,
}

/// A version that is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Version {
    /// Which.
    pub version: semver::Version,
    /// The first 12 digits of its digest.
    pub digest: String,
}

impl Installed {
    /// Waits for others that pull into this folder, which is made where it is missing; `waits` is called before that takes time.
    ///
    /// # Errors
    /// [`FolderError`]
    pub fn open(folder: &Path, waits: impl FnOnce()) -> Result<Self, FolderError> {
        fs::create_dir_all(folder).map_err(FolderError::io(folder))?;
        let folder = folder.canonicalize().map_err(FolderError::io(folder))?;
        let staging = folder.join(".pull");
        // Nobody else gets to put a link into it.
        make(&staging, 0o700)?;
        let path = staging.join("lock");
        let lock = create(&path, OpenOptions::new().write(true))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                waits();
                lock.lock().map_err(FolderError::io(&path))?;
            }
            Err(TryLockError::Error(reason)) => return Err(FolderError::Io { path, reason }),
        }
        Ok(Self { folder, staging, _lock: lock })
    }

    /// Where a package is, or will be.
    ///
    /// # Errors
    /// [`FolderError::Wrong`] where a link or a file is in the way.
    pub fn place(&self, statement: &Statement) -> Result<PathBuf, FolderError> {
        let module = self.folder.join(&statement.name);
        let place = module.join(statement.folder_name());
        for folder in [&module, &place] {
            if folder.symlink_metadata().is_ok_and(|found| !found.is_dir()) {
                return Err(FolderError::wrong(folder, NO_FOLDER));
            }
        }
        Ok(place)
    }

    /// The versions of a module that are there. What has another name than a pull gives is nobody's business.
    ///
    /// # Errors
    /// [`FolderError`]
    pub fn versions(&self, name: &str) -> Result<Vec<Version>, FolderError> {
        let folder = self.folder.join(name);
        let entries = match fs::read_dir(&folder) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.map_err(FolderError::io(&folder))?,
        };
        let mut versions = Vec::new();
        for entry in entries {
            let name = entry.map_err(FolderError::io(&folder))?.file_name();
            let parsed = name.to_str().and_then(|name| name.rsplit_once('-')).and_then(|(version, digest)| {
                let is_digest = digest.len() == 12 && digest.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
                Some(Version { version: version.parse().ok()?, digest: is_digest.then(|| digest.to_owned())? })
            });
            versions.extend(parsed);
        }
        Ok(versions)
    }

    /// The folder in which a package is gathered, with what an earlier pull left of it. What was left of others is taken away.
    ///
    /// # Errors
    /// [`FolderError`]
    pub fn stage(&self, statement: &Statement) -> Result<PathBuf, FolderError> {
        let ours = String::from(statement.manifest_sha256);
        for entry in fs::read_dir(&self.staging).map_err(FolderError::io(&self.staging))? {
            let entry = entry.map_err(FolderError::io(&self.staging))?;
            let path = entry.path();
            let kept = entry.file_name() == ours.as_str() && files(&path).is_ok();
            if entry.file_name() == "lock" || kept {
                continue;
            }
            let is_folder = entry.file_type().is_ok_and(|kind| kind.is_dir());
            if is_folder { fs::remove_dir_all(&path) } else { fs::remove_file(&path) }
                .map_err(FolderError::io(&path))?;
        }
        let folder = self.staging.join(ours);
        make(&folder, 0o755)?;
        Ok(folder)
    }

    /// Gives a staged package, whose files are durable, its place among the others.
    ///
    /// # Errors
    /// [`FolderError`]
    pub fn install(&self, staged: &Path, statement: &Statement) -> Result<PathBuf, FolderError> {
        let module = self.folder.join(&statement.name);
        make(&module, 0o755)?;
        let place = self.place(statement)?;
        for folder in folders(staged)? {
            sync(&folder)?;
        }
        fs::rename(staged, &place).map_err(FolderError::io(&place))?;
        for folder in [&module, &self.folder, &self.staging] {
            sync(folder)?;
        }
        Ok(place)
    }
}

/// What a package holds that its statement does not say, or the other way round; nothing where all is right. Every byte is read.
///
/// # Errors
/// [`FolderError`]
pub fn difference(package: &Files, statement: &Statement) -> Result<Option<String>, PackageError> {
    let mut found = package.list()?;
    found.retain(|path| path != ENVELOPE_FILE);
    for file in &statement.files {
        let Some(at) = found.iter().position(|path| *path == file.path) else {
            return Ok(Some(format!("{} is missing", file.path)));
        };
        found.swap_remove(at);
        let (sha256, bytes) = package.digest(&file.path)?;
        if (sha256, bytes) != (file.sha256, file.bytes) {
            return Ok(Some(format!("{} is not the file that was signed", file.path)));
        }
    }
    Ok(found.first().map(|path| format!("{} is not signed", crate::printable(path))))
}

/// Paths of all files below a folder. Links, and whatever else is no file, are refused.
///
/// # Errors
/// [`FolderError`]
pub fn files(folder: &Path) -> Result<Vec<String>, FolderError> {
    let mut found = Vec::new();
    for entry in walkdir::WalkDir::new(folder).min_depth(1).sort_by_file_name() {
        let entry = entry.map_err(|e| FolderError::io(folder)(e.into()))?;
        if entry.file_type().is_dir() {
            continue;
        }
        if !entry.file_type().is_file() {
            return Err(FolderError::wrong(entry.path(), "is a link or a device: a package holds its files itself"));
        }
        let path = entry.path().strip_prefix(folder).ok().and_then(Path::to_str);
        let why = "has a name that is not UTF-8 text: give it another";
        found.push(path.ok_or_else(|| FolderError::wrong(entry.path(), why))?.to_owned());
    }
    Ok(found)
}

/// Digest and size of a file, read piece by piece.
pub(super) fn digest(path: &Path) -> Result<(Sha256Hex, u64), FolderError> {
    let mut file = File::open(path).map_err(FolderError::io(path))?;
    let (mut hash, mut bytes, mut piece) = (Sha256::new(), 0, vec![0; 1 << 18]);
    loop {
        match file.read(&mut piece).map_err(FolderError::io(path))? {
            0 => return Ok((Sha256Hex(hash.finalize().into()), bytes)),
            read => {
                hash.update(piece.get(..read).unwrap_or_default());
                bytes += read as u64;
            }
        }
    }
}

/// Opens a file, made where it is missing, and never one that a link leads to.
pub(super) fn create(path: &Path, options: &mut OpenOptions) -> Result<File, FolderError> {
    options.create(true).custom_flags(libc::O_NOFOLLOW).open(path).map_err(FolderError::io(path))
}

/// Makes a folder where none is. A link to one is none.
pub(super) fn make(folder: &Path, mode: u32) -> Result<(), FolderError> {
    match fs::DirBuilder::new().mode(mode).create(folder) {
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
        made => return made.map_err(FolderError::io(folder)),
    }
    match folder.symlink_metadata().map_err(FolderError::io(folder))?.is_dir() {
        true => Ok(()),
        false => Err(FolderError::wrong(folder, NO_FOLDER)),
    }
}

fn folders(root: &Path) -> Result<Vec<PathBuf>, FolderError> {
    let entries = walkdir::WalkDir::new(root).into_iter();
    let folders = entries.filter(|entry| entry.as_ref().map_or(true, |entry| entry.file_type().is_dir()));
    folders.map(|entry| Ok(entry.map_err(|e| FolderError::io(root)(e.into()))?.into_path())).collect()
}

fn sync(folder: &Path) -> Result<(), FolderError> {
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(FolderError::io(folder))
}
