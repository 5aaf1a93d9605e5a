//! What a vendor signs of a package: its name, its version and each of its files, in a DSSE envelope beside them.
//!
//! The module's identity stays the digest of its manifest. The list adds what the manifest has no digests of (a model card), and sizes: what
//! comes from a bucket is bounded by what was signed before any of it is read.

use std::collections::BTreeSet;

use gantry_cloud_sync::dsse::{self, PublicKey, Refused, SigningKey};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::manifest::{Manifest, Sha256Hex};
use super::package::{MANIFEST_FILE, MANIFEST_MAX_KIB};
use crate::config::{Limits, is_module_name};

/// The envelope's name, in a package and in a bucket.
pub const ENVELOPE_FILE: &str = "module.dsse.json";
/// The type of its payload.
pub const PAYLOAD_TYPE: &str = "application/vnd.gantry.module+json";
/// The most that an envelope may have.
pub const ENVELOPE_MAX_KIB: u64 = 1024;

/// What is signed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Statement {
    /// Version of this format: 1.
    pub schema: u32,
    /// The module's name, as in its manifest.
    pub name: String,
    /// Its version, as in its manifest.
    pub version: semver::Version,
    /// SHA-256 of its manifest: its identity.
    pub manifest_sha256: Sha256Hex,
    /// Every file but the envelope, by path.
    pub files: Vec<SignedFile>,
    /// When it was signed: RFC 3339, UTC.
    pub signed: String,
}

/// A file of a package.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SignedFile {
    /// Below the package: parts of letters, digits, `.`, `_` and `-`, with `/` between them.
    pub path: String,
    /// Its digest.
    pub sha256: Sha256Hex,
    /// Its size.
    pub bytes: u64,
}

/// Why a statement, or a package with it, is not believed. The vendor's to mend, or of whoever changed it.
#[derive(Debug, thiserror::Error)]
pub enum StatementError {
    /// The envelope.
    #[error("the envelope {0}")]
    Envelope(#[from] Refused),
    /// What it says.
    #[error("what is signed cannot be: {0}")]
    Wrong(String),
    /// What it says passes a limit.
    #[error("what is signed has {what}, more than limits.{limit} = {value}")]
    Limit {
        /// How much of what.
        what: String,
        /// The limit's name.
        limit: &'static str,
        /// Its value.
        value: u64,
    },
    /// The manifest is not the one that was signed.
    #[error("the manifest is not the one that was signed: {0}")]
    Manifest(String),
}

impl Statement {
    /// Opens an envelope that one of these keys signed, and tells which.
    ///
    /// # Errors
    /// [`StatementError`]
    pub fn open(envelope: &[u8], keys: &[PublicKey], limits: &Limits) -> Result<(Self, PublicKey), StatementError> {
        let opened = dsse::open(PAYLOAD_TYPE, envelope, keys)?;
        let statement: Self = serde_json::from_slice(&opened.payload)
            .map_err(|e| StatementError::Wrong(crate::printable(&e.to_string())))?;
        statement.check(limits)?;
        Ok((statement, opened.signer))
    }

    /// Signs it.
    ///
    /// # Errors
    /// [`StatementError`], where nobody would believe it.
    pub fn seal(&self, key: &SigningKey, limits: &Limits) -> Result<Vec<u8>, StatementError> {
        self.check(limits)?;
        let payload = serde_json::to_vec(self).expect("a statement is strings, numbers and lists");
        Ok(dsse::seal(PAYLOAD_TYPE, &payload, key))
    }

    /// Of all files together.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.files.iter().map(|file| file.bytes).sum()
    }

    /// The folder of this version beside others: `VERSION-DIGEST`, with the first 12 digits of the digest.
    #[must_use]
    pub fn folder_name(&self) -> String {
        let digest = String::from(self.manifest_sha256);
        format!("{}-{}", self.version, digest.get(..12).unwrap_or_default())
    }

    /// Whether two state the same, whenever they were signed.
    #[must_use]
    pub fn says_the_same(&self, other: &Self) -> bool {
        Self { signed: other.signed.clone(), ..self.clone() } == *other
    }

    fn check(&self, limits: &Limits) -> Result<(), StatementError> {
        let wrong = |why: &str| Err(StatementError::Wrong(why.to_owned()));
        if self.schema != 1 {
            return wrong("its schema is not 1: update this program");
        }
        if !is_module_name(&self.name) {
            return wrong("name: 1 to 64 of a-z, 0-9 and -");
        }
        if self.version.to_string().len() > 64 {
            return wrong("version: at most 64 characters");
        }
        if chrono::DateTime::parse_from_rfc3339(&self.signed).is_err() {
            return wrong("signed: a time as RFC 3339 has it");
        }
        let limit = |what, limit, value| Err(StatementError::Limit { what, limit, value });
        if self.files.len() > limits.package_files_max {
            return limit(format!("{} files", self.files.len()), "package_files_max", limits.package_files_max as u64);
        }
        let bytes = self.files.iter().try_fold(0_u64, |sum, file| sum.checked_add(file.bytes));
        if bytes.is_none_or(|bytes| bytes > limits.package_max_mib << 20) {
            let mib = bytes.map_or("far too many".to_owned(), |bytes| bytes.div_ceil(1 << 20).to_string());
            return limit(format!("{mib} MiB"), "package_max_mib", limits.package_max_mib);
        }
        if self.files.iter().any(|file| file.path == ENVELOPE_FILE) {
            return wrong("files: the envelope is among them");
        }
        check_paths(self.files.iter().map(|file| file.path.as_str()))
            .map_err(|why| StatementError::Wrong(format!("files: {why}")))?;
        let manifest = self.files.iter().find(|file| file.path == MANIFEST_FILE);
        match manifest {
            Some(file) if file.sha256 != self.manifest_sha256 => wrong("files: module.toml has another digest"),
            Some(file) if file.bytes > MANIFEST_MAX_KIB << 10 => wrong("files: module.toml has more than 256 KiB"),
            Some(_) => Ok(()),
            None => wrong("files: module.toml is not among them"),
        }
    }

    /// Reads the manifest that was signed, and holds what it says against the list.
    ///
    /// # Errors
    /// [`StatementError::Manifest`] and [`StatementError::Limit`]
    pub fn manifest(&self, bytes: &[u8], limits: &Limits) -> Result<Manifest, StatementError> {
        let wrong = |why: String| StatementError::Manifest(why);
        if Sha256Hex(Sha256::digest(bytes).into()) != self.manifest_sha256 {
            return Err(wrong("its digest is another".into()));
        }
        let text = std::str::from_utf8(bytes).map_err(|_| wrong("it is not UTF-8 text".into()))?;
        let manifest = Manifest::parse(text).map_err(wrong)?;
        if manifest.name != self.name || manifest.version != self.version {
            return Err(wrong(format!("it is of {} {}", manifest.name, manifest.version)));
        }
        let Manifest { component, models, .. } = &manifest;
        let parts = models.iter().map(|m| (&m.file, m.sha256, "model_max_mib", limits.model_max_mib));
        let component = (&component.file, component.sha256, "component_max_mib", limits.component_max_mib);
        for (name, sha256, limit, mib) in std::iter::once(component).chain(parts) {
            let file = self.files.iter().find(|file| file.path == *name && Some(file.sha256) == sha256);
            let file = file.ok_or_else(|| wrong(format!("{name} is not signed with the digest that it says")))?;
            if file.bytes > mib << 20 {
                let what = format!("{name} of {} MiB", file.bytes.div_ceil(1 << 20));
                return Err(StatementError::Limit { what, limit, value: mib });
            }
        }
        Ok(manifest)
    }
}

/// Each path lies in the package, is there once, and is no folder of another.
///
/// # Errors
/// Which does not, and what is allowed.
pub(super) fn check_paths<'a>(paths: impl Iterator<Item = &'a str>) -> Result<(), String> {
    let mut seen = BTreeSet::new();
    for path in paths {
        if !is_path(path) {
            let why =
                "each is at most 255 of letters, digits, `.`, `_`, `-` and `/`, none of its parts begins with `.`";
            return Err(format!("{:?}: {why}", path.chars().take(64).collect::<String>()));
        }
        // As a file system that does not tell cases apart would see it.
        if !seen.insert(path.to_ascii_lowercase()) {
            return Err(format!("{path} is there twice"));
        }
    }
    let folders = |path: &str| path.match_indices('/').map(|(at, _)| path[..at].to_owned()).collect::<Vec<_>>();
    match seen.iter().flat_map(|path| folders(path)).find(|folder| seen.contains(folder)) {
        Some(folder) => Err(format!("{folder} is a file and a folder")),
        None => Ok(()),
    }
}

/// Whether a name of a file is one that may come from a bucket.
fn is_path(path: &str) -> bool {
    let part = |part: &str| {
        !part.is_empty()
            && !part.starts_with('.')
            && part.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'))
    };
    path.len() <= 255 && path.split('/').all(part)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(path: &str, bytes: u64) -> SignedFile {
        SignedFile { path: path.into(), sha256: Sha256Hex([7; 32]), bytes }
    }

    fn statement() -> Statement {
        Statement {
            schema: 1,
            name: "lungs".into(),
            version: semver::Version::new(1, 2, 3),
            manifest_sha256: Sha256Hex([7; 32]),
            files: vec![file("module.toml", 10), file("models/net.onnx", 1 << 20), file("MODEL_CARD.md", 5)],
            signed: "2026-01-02T03:04:05Z".into(),
        }
    }

    fn refused(change: impl FnOnce(&mut Statement)) -> String {
        let mut statement = statement();
        statement.check(&Limits::default()).expect("it is right");
        change(&mut statement);
        statement.check(&Limits::default()).expect_err("it is wrong").to_string()
    }

    #[test]
    fn a_path_that_leads_out_of_the_package_is_refused() {
        for path in [
            "../evil",
            "models/../../evil",
            "/etc/passwd",
            "models//net",
            "models/./net",
            "",
            "models/",
            ".hidden",
            "models\\net",
            "a\nb",
            "caf\u{e9}",
            "module.dsse.json",
        ] {
            assert!(
                refused(|s| s.files.push(file(path, 1))).starts_with("what is signed cannot be: files: "),
                "{path:?}"
            );
        }
        assert!(refused(|s| s.files.push(file(&"a".repeat(256), 1))).contains("at most 255"));
    }

    #[test]
    fn a_file_is_there_once_and_is_no_folder() {
        assert!(refused(|s| s.files.push(file("Models/NET.onnx", 1))).contains("there twice"));
        assert!(refused(|s| s.files.push(file("models", 1))).contains("models is a file and a folder"));
        assert!(refused(|s| s.files.push(file("MODEL_CARD.md/x", 1))).contains("is a file and a folder"));
    }

    #[test]
    fn sizes_are_refused_before_anything_is_read() {
        let limits = Limits::default();
        for bytes in [limits.package_max_mib << 20, u64::MAX, u64::MAX - (1 << 20)] {
            let said = refused(|s| s.files.push(file("huge", bytes)));
            assert!(said.contains("more than limits.package_max_mib = "), "{said}");
        }
        let many = refused(|s| s.files.extend((0..limits.package_files_max).map(|i| file(&format!("f{i}"), 0))));
        assert!(many.contains("limits.package_files_max = "), "{many}");
        assert!(refused(|s| s.files[0].bytes = 257 << 10).contains("256 KiB"));
    }

    #[test]
    fn what_is_stated_belongs_together() {
        assert!(refused(|s| s.schema = 2).contains("update this program"));
        assert!(refused(|s| s.name = "../lungs".into()).contains("name"));
        assert!(refused(|s| s.signed = "yesterday".into()).contains("RFC 3339"));
        assert!(refused(|s| s.files[0].sha256 = Sha256Hex([8; 32])).contains("another digest"));
        assert!(refused(|s| drop(s.files.remove(0))).contains("not among them"));
        let version = semver::Version::parse(&format!("1.0.0-{}", "a".repeat(64))).expect("one");
        assert!(refused(|s| s.version = version).contains("at most 64"));
        let later = Statement { signed: "2027-01-02T03:04:05Z".into(), ..statement() };
        assert!(later.says_the_same(&statement()) && later != statement());
    }
}
