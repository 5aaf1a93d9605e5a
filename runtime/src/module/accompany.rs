//! What goes into a package beside code, models and model card: licences, cases without their studies, and the SBOM.

use std::path::Path;

use sha2::{Digest, Sha256};

use super::cases::{CASE_FILE, CASES_FOLDER};
use super::manifest::{Manifest, Sha256Hex};
use super::sbom::{self, Crates};

/// Texts of licences beside a module's source, by the beginning of their names.
const LICENSES: [&str; 3] = ["LICENSE", "LICENCE", "NOTICE"];
const TEXT_MAX_BYTES: u64 = 1 << 20;

/// A file, and why it cannot be read.
pub type Unreadable = (std::path::PathBuf, std::io::Error);

/// Files of a source that go along, with their paths in the package. Of a case only its description does: images of patients do not get
/// into a package because somebody tried a module on them.
///
/// # Errors
/// A file, and why it cannot be read.
pub fn of_source(source: &Path) -> Result<Vec<(String, Vec<u8>)>, Unreadable> {
    let mut found = Vec::new();
    let read = |path: &Path| match std::fs::metadata(path) {
        Ok(file) if file.len() > TEXT_MAX_BYTES => Err(std::io::Error::other("has more than 1 MiB")),
        _ => std::fs::read(path),
    };
    let mut take = |path: &Path, name: String| -> Result<(), Unreadable> {
        found.push((name, read(path).map_err(|e| (path.to_owned(), e))?));
        Ok(())
    };
    for name in names(source)? {
        if LICENSES.iter().any(|license| name.starts_with(license)) && source.join(&name).is_file() {
            take(&source.join(&name), name)?;
        }
    }
    let cases = source.join(CASES_FOLDER);
    for name in names(&cases)? {
        let path = cases.join(&name).join(CASE_FILE);
        if path.is_file() {
            take(&path, format!("{CASES_FOLDER}/{name}/{CASE_FILE}"))?;
        }
    }
    Ok(found)
}

/// Names in a folder, sorted; none where there is no folder.
fn names(folder: &Path) -> Result<Vec<String>, (std::path::PathBuf, std::io::Error)> {
    let failed = |e| (folder.to_owned(), e);
    let entries = match std::fs::read_dir(folder) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(failed)?,
    };
    let mut names = Vec::new();
    for entry in entries {
        names.extend(entry.map_err(failed)?.file_name().into_string());
    }
    names.sort();
    Ok(names)
}

/// The SBOM of a package that was built of `source`.
///
/// # Errors
/// A lock file that cannot be read.
pub fn sbom(source: &Path, manifest: &Manifest, identity: &[u8; 32], card: &[u8]) -> Result<Vec<u8>, String> {
    let card = Sha256Hex(Sha256::digest(card).into());
    Ok(sbom::document(manifest, identity, Some(card), &Crates::of_source(source)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_go_along_and_studies_do_not() {
        let source = tempfile::tempdir().expect("a folder");
        for (name, text) in [
            ("LICENSE", "text"),
            ("NOTICE.md", "text"),
            ("README.md", "no"),
            ("cases/b/expect.toml", "b"),
            ("cases/a/expect.toml", "a"),
            ("cases/a/study/1.dcm", "pixels"),
            ("cases/no/other.toml", "no"),
        ] {
            let path = source.path().join(name);
            std::fs::create_dir_all(path.parent().expect("a folder")).expect("made");
            std::fs::write(path, text).expect("written");
        }
        let found: Vec<_> = of_source(source.path()).expect("read").into_iter().map(|(name, _)| name).collect();
        assert_eq!(found, ["LICENSE", "NOTICE.md", "cases/a/expect.toml", "cases/b/expect.toml"]);
    }
}
