//! The files of a package, however they lie: in a folder, or in one file that `gantry module pack` made.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use sha2::{Digest, Sha256};

use super::installed;
use super::manifest::Sha256Hex;
use super::pack::{Pack, SUMS_FILE};
use super::package::PackageError;

/// Where a package's files are read from.
#[derive(Debug, Clone)]
pub enum Files {
    /// A folder.
    Folder(PathBuf),
    /// A file with all of them.
    Pack(Arc<Pack>),
}

impl Files {
    /// A file is taken for a pack, and anything else for a folder.
    ///
    /// # Errors
    /// It is a file and no pack.
    pub fn open(path: &Path) -> Result<Self, PackageError> {
        match path.is_file() {
            true => Ok(Self::Pack(Arc::new(Pack::open(path)?))),
            false => Ok(Self::Folder(path.to_owned())),
        }
    }

    /// Where they lie.
    #[must_use]
    pub fn place(&self) -> &Path {
        match self {
            Self::Folder(folder) => folder,
            Self::Pack(pack) => pack.path(),
        }
    }

    /// A path for people; within a pack there is no such file.
    #[must_use]
    pub fn path_of(&self, file: &str) -> PathBuf {
        self.place().join(file)
    }

    /// Paths of all files, sorted. The list of digests that a pack begins with is none of the package's.
    ///
    /// # Errors
    /// A link, a device, or a name that is no text.
    pub fn list(&self) -> Result<Vec<String>, PackageError> {
        let mut files = match self {
            Self::Folder(folder) => installed::files(folder)?,
            Self::Pack(pack) => pack.entries().iter().map(|entry| entry.path.clone()).collect(),
        };
        files.retain(|file| file != SUMS_FILE);
        files.sort();
        Ok(files)
    }

    /// Whether there is a file of this name.
    #[must_use]
    pub fn holds(&self, file: &str) -> bool {
        match self {
            Self::Folder(folder) => folder.join(file).exists(),
            Self::Pack(pack) => pack.entries().iter().any(|entry| entry.path == file),
        }
    }

    /// A file's bytes, at most so many.
    ///
    /// # Errors
    /// It cannot be read, lies elsewhere, is not what the pack says, or passes `limit`, whose value is `mib`, where that is not 0.
    pub fn read(&self, file: &str, max: u64, limit: &'static str, mib: u64) -> Result<Vec<u8>, PackageError> {
        match self {
            Self::Folder(folder) => {
                let path = folder.join(file);
                contained(folder, &path)?;
                read_bounded(&path, max, limit, mib)
            }
            Self::Pack(pack) => match pack.entry(file)? {
                entry if entry.bytes > max => Err(PackageError::TooLarge { path: self.path_of(file), limit, mib }),
                entry => pack.read(entry),
            },
        }
    }

    /// Digest and size of a file, read piece by piece.
    ///
    /// # Errors
    /// It cannot be read, or is not what the pack says.
    pub fn digest(&self, file: &str) -> Result<(Sha256Hex, u64), PackageError> {
        match self {
            Self::Folder(folder) => Ok(installed::digest(&folder.join(file))?),
            Self::Pack(pack) => {
                let entry = pack.entry(file)?;
                pack.copy(entry, &mut |_| Ok(()))?;
                Ok((entry.sha256, entry.bytes))
            }
        }
    }

    /// Hands a file on piece by piece; its digest and size.
    ///
    /// # Errors
    /// It cannot be read, is not what the pack says, or `keep` fails.
    pub fn copy(
        &self,
        file: &str,
        keep: &mut dyn FnMut(&[u8]) -> std::io::Result<()>,
    ) -> Result<(Sha256Hex, u64), PackageError> {
        match self {
            Self::Pack(pack) => {
                let entry = pack.entry(file)?;
                pack.copy(entry, keep)?;
                Ok((entry.sha256, entry.bytes))
            }
            Self::Folder(folder) => {
                let path = folder.join(file);
                contained(folder, &path)?;
                let failed = |reason| PackageError::Read { path: path.clone(), reason };
                let mut open = File::open(&path).map_err(failed)?;
                let (mut hash, mut bytes, mut piece) = (Sha256::new(), 0, vec![0; 1 << 18]);
                loop {
                    match open.read(&mut piece).map_err(failed)? {
                        0 => return Ok((Sha256Hex(hash.finalize().into()), bytes)),
                        read => {
                            let piece = piece.get(..read).unwrap_or_default();
                            hash.update(piece);
                            bytes += read as u64;
                            keep(piece).map_err(failed)?;
                        }
                    }
                }
            }
        }
    }
}

/// Refuses a link that leads out of the package.
fn contained(folder: &Path, path: &Path) -> Result<(), PackageError> {
    let failed = |reason| PackageError::Read { path: path.to_path_buf(), reason };
    let folder = folder.canonicalize().map_err(failed)?;
    match path.canonicalize().map_err(failed)?.starts_with(&folder) {
        true => Ok(()),
        false => Err(PackageError::Outside { path: path.to_path_buf() }),
    }
}

pub(super) fn read_bounded(path: &Path, max: u64, limit: &'static str, mib: u64) -> Result<Vec<u8>, PackageError> {
    let failed = |reason| PackageError::Read { path: path.to_path_buf(), reason };
    // Opening a pipe would wait for somebody to write to it.
    if !std::fs::metadata(path).map_err(failed)?.is_file() {
        return Err(failed(std::io::Error::other("not a regular file")));
    }
    let file = File::open(path).map_err(failed)?;
    let mut bytes = Vec::new();
    file.take(max + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > max {
        return Err(PackageError::TooLarge { path: path.to_path_buf(), limit, mib });
    }
    Ok(bytes)
}
