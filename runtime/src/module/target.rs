//! What a vendor names: a source, whose package lies in it, a package, or a package in one file.

use std::path::{Path, PathBuf};

use super::build::PACKAGE_FOLDER;
use super::cases::CASES_FOLDER;
use super::files::Files;
use super::package::{MANIFEST_FILE, Package, PackageError};
use crate::config::Limits;
use crate::inference::Turn;

/// A package, and where its cases are.
#[derive(Debug)]
pub struct Target {
    /// A package folder.
    pub package: PathBuf,
    /// The folder with a folder `cases`: the source where there is one, since it is what somebody works on.
    pub cases: PathBuf,
    _unpacked: Option<tempfile::TempDir>,
}

impl Target {
    /// Finds it. A package in one file is unpacked for as long as this is kept.
    ///
    /// # Errors
    /// There is no package.
    pub fn of(place: &Path, limits: &Limits) -> Result<Self, PackageError> {
        if let Files::Pack(pack) = Files::open(place)? {
            let made = tempfile::tempdir().map_err(super::installed::FolderError::io(place))?;
            let folder = made.path().join(PACKAGE_FOLDER);
            pack.unpack(&folder, limits, &Turn::default())?;
            return Ok(Self { package: folder.clone(), cases: folder, _unpacked: Some(made) });
        }
        let folder = |package: PathBuf, source: &Path| {
            let has_cases = source.join(CASES_FOLDER).is_dir();
            let cases = if has_cases { source.to_owned() } else { package.clone() };
            Self { package, cases, _unpacked: None }
        };
        match Package::open(place) {
            Err(PackageError::Source { .. }) if place.join(PACKAGE_FOLDER).join(MANIFEST_FILE).is_file() => {
                Ok(folder(place.join(PACKAGE_FOLDER), place))
            }
            Err(e) => Err(e),
            Ok(_) => {
                // The folder that a package was built in, and not any that it happens to lie in.
                let whole = place.canonicalize().unwrap_or_else(|_| place.to_owned());
                let source = whole.parent().filter(|_| whole.file_name().is_some_and(|name| name == PACKAGE_FOLDER));
                let source = source.filter(|source| source.join(MANIFEST_FILE).is_file());
                Ok(folder(place.to_owned(), source.unwrap_or(place)))
            }
        }
    }
}
