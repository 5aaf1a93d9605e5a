//! A sealed batch in the spool.

use std::fs;
use std::path::{Path, PathBuf};

use super::manifest::MANIFEST_BYTES_MAX;
use super::{Digest, Failure, Id, Manifest, PublicKey, Sealed};

/// A sealed batch with all of its objects in the spool.
#[derive(Debug, Clone)]
pub struct Batch {
    sealed: Sealed,
    root: PathBuf,
    /// Of the site.
    keys: Vec<PublicKey>,
}

impl Batch {
    /// Reads an envelope of a spool with the keys that are trusted.
    pub(super) fn open(root: &Path, path: &Path, keys: &[PublicKey]) -> Result<Self, Failure> {
        let name = path.display().to_string();
        let sealed = Sealed::read(&name, read_bounded(path)?, keys)?;
        Ok(Self { sealed, root: root.to_owned(), keys: keys.to_vec() })
    }

    /// Its name.
    #[must_use]
    pub fn id(&self) -> Id {
        self.manifest().batch
    }

    /// What it is.
    #[must_use]
    pub fn manifest(&self) -> &Manifest {
        self.sealed.manifest()
    }

    /// Reads every object back and holds it against the manifest.
    ///
    /// # Errors
    /// [`Failure::Damaged`], [`Failure::Disk`]
    pub fn check(&self) -> Result<(), Failure> {
        let catalog = self.manifest().catalog_files().into_iter().map(|(_, content)| content);
        for content in self.manifest().contents().into_iter().chain(catalog) {
            let path = object_path(&self.root, content.sha256);
            match Digest::of_file(&path) {
                Ok(found) if found == (content.sha256, content.bytes) => {}
                Ok(_) => return Err(Failure::Damaged(content.sha256)),
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                    return Err(Failure::Damaged(content.sha256));
                }
                Err(source) => return Err(Failure::Disk { path, source }),
            }
        }
        Ok(())
    }

    /// Whether what lies under its name in the bucket is this batch as the site sealed it before somebody was taken out of it.
    pub(crate) fn takes_place_of(&self, name: &str, envelope: &[u8]) -> bool {
        let ours = self.manifest();
        Sealed::read(name, envelope.to_vec(), &self.keys).is_ok_and(|before| {
            let (same, mut studies) = (before.manifest().batch == ours.batch, before.manifest().studies.iter());
            same && before.manifest().studies.len() > ours.studies.len()
                && ours.studies.iter().all(|study| studies.any(|before| before == study))
        })
    }

    pub(crate) fn envelope(&self) -> &[u8] {
        self.sealed.envelope()
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }
}

pub(crate) fn object_path(root: &Path, sha256: Digest) -> PathBuf {
    let name = sha256.to_string();
    root.join("objects").join(name.get(..2).unwrap_or_default()).join(&name)
}

pub(crate) fn read_bounded(path: &Path) -> Result<Vec<u8>, Failure> {
    let bytes = fs::metadata(path).map_err(Failure::disk(path))?.len();
    if bytes > MANIFEST_BYTES_MAX {
        return Err(Failure::manifest(
            path.display(),
            format!("has {bytes} bytes, and at most {MANIFEST_BYTES_MAX} are read"),
        ));
    }
    fs::read(path).map_err(Failure::disk(path))
}
