//! A built package: read as little as possible, believe a file only when its digest is right.

use std::io::Read;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::manifest::{Manifest, Sha256Hex};

/// A manifest's name in every package.
pub const MANIFEST_FILE: &str = "module.toml";
const MANIFEST_MAX_KIB: u64 = 256;

/// An opened package. Its files are read when asked for.
#[derive(Debug, Clone)]
pub struct Package {
    folder: PathBuf,
    manifest: Manifest,
    identity: [u8; 32],
    component_digest: [u8; 32],
}

/// Why a package cannot be used. The vendor's to mend.
#[derive(Debug, thiserror::Error)]
pub enum PackageError {
    /// A file cannot be read.
    #[error("cannot read {path}: {reason}", path = path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        reason: std::io::Error,
    },
    /// The manifest has an unknown key, a wrong type or a wrong value.
    #[error("{path}: {reason}", path = path.display())]
    Manifest {
        /// Which file.
        path: PathBuf,
        /// Key and remedy.
        reason: String,
    },
    /// A source folder was given.
    #[error("{path} is a module's source: run `gantry module build {path}` and use {path}/package", path = folder.display())]
    Source {
        /// The folder.
        folder: PathBuf,
    },
    /// The manifest does not say a file's digest.
    #[error("{path} names no sha256 for {file}: packages are made by `gantry module build`", path = path.display())]
    NoDigest {
        /// The manifest.
        path: PathBuf,
        /// The file without a digest.
        file: String,
    },
    /// A file is not the one that the manifest names.
    #[error("{path} has SHA-256 {found}, but the manifest says {expected}: the package was changed after it was built", path = path.display())]
    Digest {
        /// Which file.
        path: PathBuf,
        /// What it has.
        found: String,
        /// What the manifest says.
        expected: String,
    },
    /// A file passes a limit.
    #[error("{path} is larger than {limit} = {mib}", path = path.display())]
    TooLarge {
        /// Which file.
        path: PathBuf,
        /// The limit's name.
        limit: &'static str,
        /// Its value, MiB.
        mib: u64,
    },
    /// There is no such model.
    #[error("the package has no model `{0}`")]
    NoModel(String),
}

impl Package {
    /// Opens a package folder: reads the manifest alone.
    pub fn open(folder: &Path) -> Result<Self, PackageError> {
        let path = folder.join(MANIFEST_FILE);
        let bytes = read_bounded(&path, MANIFEST_MAX_KIB << 10, "the 256 KiB of a manifest", 0)?;
        let identity: [u8; 32] = Sha256::digest(&bytes).into();
        let wrong = |reason| PackageError::Manifest { path: path.clone(), reason };
        let text = String::from_utf8(bytes).map_err(|_| wrong("not UTF-8 text".into()))?;
        let manifest = Manifest::parse(&text).map_err(wrong)?;
        let no_digest = |file: &str| PackageError::NoDigest { path: path.clone(), file: file.to_owned() };
        let Some(Sha256Hex(component_digest)) = manifest.component.sha256 else {
            let source = folder.join("Cargo.toml").exists();
            return Err(match source {
                true => PackageError::Source { folder: folder.to_path_buf() },
                false => no_digest(&manifest.component.file),
            });
        };
        if let Some(model) = manifest.models.iter().find(|m| m.sha256.is_none()) {
            return Err(no_digest(&model.file));
        }
        Ok(Self { folder: folder.to_path_buf(), manifest, identity, component_digest })
    }

    /// What it says about itself.
    #[must_use]
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// SHA-256 of the manifest, which names the digest of every other file: the module's identity.
    #[must_use]
    pub fn identity(&self) -> [u8; 32] {
        self.identity
    }

    /// SHA-256 that the component must have.
    #[must_use]
    pub fn component_digest(&self) -> [u8; 32] {
        self.component_digest
    }

    /// Where the component lies.
    #[must_use]
    pub fn component_path(&self) -> PathBuf {
        self.folder.join(&self.manifest.component.file)
    }

    /// Reads the component and checks its digest.
    pub fn component(&self, max_mib: u64) -> Result<Vec<u8>, PackageError> {
        self.verified(&self.manifest.component.file, Some(Sha256Hex(self.component_digest)), "component_max_mib", max_mib)
    }

    /// Reads a model by the manifest's name for it and checks its digest.
    pub fn model(&self, name: &str, max_mib: u64) -> Result<Vec<u8>, PackageError> {
        let entry = self.manifest.models.iter().find(|m| m.name == name);
        let entry = entry.ok_or_else(|| PackageError::NoModel(name.chars().take(64).collect()))?;
        self.verified(&entry.file, entry.sha256, "model_max_mib", max_mib)
    }

    fn verified(
        &self,
        file: &str,
        expected: Option<Sha256Hex>,
        limit: &'static str,
        mib: u64,
    ) -> Result<Vec<u8>, PackageError> {
        let path = self.folder.join(file);
        let bytes = read_bounded(&path, mib << 20, limit, mib)?;
        let found = Sha256Hex(Sha256::digest(&bytes).into());
        if Some(found) != expected {
            let expected = expected.map(String::from).unwrap_or_default();
            return Err(PackageError::Digest { path, found: found.into(), expected });
        }
        Ok(bytes)
    }
}

fn read_bounded(path: &Path, max: u64, limit: &'static str, mib: u64) -> Result<Vec<u8>, PackageError> {
    let failed = |reason| PackageError::Read { path: path.to_path_buf(), reason };
    let file = std::fs::File::open(path).map_err(failed)?;
    let mut bytes = Vec::new();
    file.take(max + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > max {
        return Err(PackageError::TooLarge { path: path.to_path_buf(), limit, mib });
    }
    Ok(bytes)
}
