//! A built package: read as little as possible, believe a file only when its digest is right.

use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::files::Files;
use super::installed::FolderError;
use super::language::Language;
use super::manifest::{Manifest, Sha256Hex};

/// A manifest's name in every package.
pub const MANIFEST_FILE: &str = "module.toml";
pub(super) const MANIFEST_MAX_KIB: u64 = 256;

/// An opened package. Its files are read when asked for.
#[derive(Debug, Clone)]
pub struct Package {
    files: Files,
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
    /// There is no manifest.
    #[error("{path} holds no module.toml: give a package folder, as `gantry module build` makes it, or a file of `gantry module pack`", path = folder.display())]
    NotAPackage {
        /// The folder.
        folder: PathBuf,
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
    #[error("{path} is larger than {limit}{}", if *mib > 0 { format!(" = {mib}") } else { String::new() }, path = path.display())]
    TooLarge {
        /// Which file.
        path: PathBuf,
        /// The limit's name.
        limit: &'static str,
        /// Its value, MiB.
        mib: u64,
    },
    /// A link leads out of the package.
    #[error("{path} lies outside of the package: a package holds its files itself", path = path.display())]
    Outside {
        /// Which file.
        path: PathBuf,
    },
    /// There is no such model.
    #[error("the package has no model `{0}`")]
    NoModel(String),
    /// A file is no package in one file.
    #[error("{path} is no package: {reason}; `gantry module pack` makes packages of one file", path = path.display())]
    Pack {
        /// Which.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// It has more files than a site takes.
    #[error("{path} has {files} files, more than limits.package_files_max = {most}", path = path.display())]
    TooMany {
        /// Which package.
        path: PathBuf,
        /// How many it has.
        files: usize,
        /// The limit's value.
        most: usize,
    },
    /// A folder.
    #[error(transparent)]
    Folder(#[from] FolderError),
}

impl PackageError {
    /// Whether it is about which folder was given, not about what a package holds.
    #[must_use]
    pub fn is_usage(&self) -> bool {
        matches!(self, Self::NotAPackage { .. } | Self::Source { .. })
    }
}

impl Package {
    /// Opens a package, a folder or one file: reads the manifest alone.
    pub fn open(place: &Path) -> Result<Self, PackageError> {
        let files = Files::open(place)?;
        let (folder, path) = (place, files.path_of(MANIFEST_FILE));
        if !files.holds(MANIFEST_FILE) {
            return Err(PackageError::NotAPackage { folder: folder.to_path_buf() });
        }
        let bytes = files.read(MANIFEST_FILE, MANIFEST_MAX_KIB << 10, "the 256 KiB of a manifest", 0)?;
        let identity: [u8; 32] = Sha256::digest(&bytes).into();
        let wrong = |reason| PackageError::Manifest { path: path.clone(), reason };
        let text = String::from_utf8(bytes).map_err(|_| wrong("not UTF-8 text".into()))?;
        let manifest = Manifest::parse(&text).map_err(wrong)?;
        let no_digest = |file: &str| PackageError::NoDigest { path: path.clone(), file: file.to_owned() };
        let Some(Sha256Hex(component_digest)) = manifest.component.sha256 else {
            return Err(match Language::of(folder) {
                Some(_) => PackageError::Source { folder: folder.to_path_buf() },
                None => no_digest(&manifest.component.file),
            });
        };
        if let Some(model) = manifest.models.iter().find(|m| m.sha256.is_none()) {
            return Err(no_digest(&model.file));
        }
        Ok(Self { files, manifest, identity, component_digest })
    }

    /// All of its files.
    #[must_use]
    pub fn files(&self) -> &Files {
        &self.files
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
        self.files.path_of(&self.manifest.component.file)
    }

    /// Reads the component and checks its digest.
    pub fn component(&self, max_mib: u64) -> Result<Vec<u8>, PackageError> {
        self.verified(
            &self.manifest.component.file,
            Some(Sha256Hex(self.component_digest)),
            "component_max_mib",
            max_mib,
        )
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
        let path = self.files.path_of(file);
        let bytes = self.files.read(file, mib << 20, limit, mib)?;
        let found = Sha256Hex(Sha256::digest(&bytes).into());
        if Some(found) != expected {
            let expected = expected.map(String::from).unwrap_or_default();
            return Err(PackageError::Digest { path, found: found.into(), expected });
        }
        Ok(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A package with one model, and its manifest's text.
    fn package() -> (tempfile::TempDir, String) {
        let folder = tempfile::tempdir().expect("a folder");
        let sha256 = |bytes: &[u8]| crate::hex(&Sha256::digest(bytes));
        let text = format!(
            r#"
            schema = 1
            name = "lungs"
            version = "0.1.0"
            vendor = "Example"
            label = {{ title = "Lungs", intended_use = "None.", demonstration = true }}
            accepts = {{ modality = ["CT"] }}
            component = {{ file = "component.wasm", sha256 = "{}" }}
            models = [{{ name = "net", file = "models/net.onnx", sha256 = "{}" }}]
            "#,
            sha256(b"component"),
            sha256(b"model")
        );
        std::fs::create_dir(folder.path().join("models")).expect("a folder");
        for (file, bytes) in
            [(MANIFEST_FILE, text.as_bytes()), ("component.wasm", b"component"), ("models/net.onnx", b"model")]
        {
            std::fs::write(folder.path().join(file), bytes).expect("written");
        }
        (folder, text)
    }

    #[test]
    fn files_are_believed_when_their_digest_is_right() {
        let (folder, text) = package();
        let package = Package::open(folder.path()).expect("a package");
        assert_eq!(package.component(1).expect("as built"), b"component");
        assert_eq!(package.model("net", 1).expect("as built"), b"model");
        let identity: [u8; 32] = Sha256::digest(&text).into();
        assert_eq!(package.identity(), identity);
        std::fs::write(folder.path().join("models/net.onnx"), b"other").expect("written");
        let error = package.model("net", 1).expect_err("changed");
        assert!(matches!(error, PackageError::Digest { .. }), "{error}");
        assert!(error.to_string().contains("models/net.onnx"), "{error}");
    }

    #[test]
    fn only_its_own_files_are_reached() {
        let (folder, _) = package();
        let package = Package::open(folder.path()).expect("a package");
        assert!(matches!(package.model("../net", 1), Err(PackageError::NoModel(_))));
        let model = folder.path().join("models/net.onnx");
        let elsewhere = tempfile::NamedTempFile::new().expect("a file");
        std::fs::write(elsewhere.path(), b"model").expect("written");
        std::fs::remove_file(&model).expect("removed");
        std::os::unix::fs::symlink(elsewhere.path(), &model).expect("linked");
        assert!(matches!(package.model("net", 1), Err(PackageError::Outside { .. })), "even with the right bytes");
    }

    #[test]
    fn a_file_past_its_limit_is_not_read() {
        let (folder, _) = package();
        let package = Package::open(folder.path()).expect("a package");
        std::fs::write(folder.path().join("component.wasm"), vec![0; (1 << 20) + 1]).expect("written");
        let error = package.component(1).expect_err("too large").to_string();
        assert!(error.contains("component_max_mib = 1"), "{error}");
        std::fs::write(folder.path().join(MANIFEST_FILE), vec![b'#'; 257 << 10]).expect("written");
        let error = Package::open(folder.path()).expect_err("too large").to_string();
        assert!(error.contains("the 256 KiB of a manifest"), "{error}");
    }

    #[test]
    fn a_source_folder_is_told_from_a_package() {
        let (folder, text) = package();
        let source = text.replace("sha256", "#sha256").replace("component = { file = \"component.wasm\", #", "#");
        let source: String = source.lines().filter(|l| !l.contains("models =")).map(|l| format!("{l}\n")).collect();
        std::fs::write(folder.path().join(MANIFEST_FILE), source).expect("written");
        assert!(matches!(Package::open(folder.path()), Err(PackageError::NoDigest { .. })));
        std::fs::write(folder.path().join("Cargo.toml"), "").expect("written");
        let error = Package::open(folder.path()).expect_err("a source");
        assert!(error.to_string().contains("run `gantry module build"), "{error}");
        assert!(Package::open(&folder.path().join("nowhere")).is_err());
    }

    #[test]
    fn a_manifest_that_is_a_link_out_of_the_package_is_refused() {
        let (folder, _) = package();
        let elsewhere = tempfile::tempdir().expect("a folder");
        let (here, there) = (folder.path().join(MANIFEST_FILE), elsewhere.path().join(MANIFEST_FILE));
        std::fs::rename(&here, &there).expect("moved");
        std::os::unix::fs::symlink(&there, &here).expect("linked");
        assert!(matches!(Package::open(folder.path()), Err(PackageError::Outside { .. })));
    }
}
