//! `gantry module install`: a package out of a file, beside those that are there, once it is known to be what its vendor signed.
//!
//! The same as [`pull`](super::pull::pull) for a hospital without a way to a bucket: what is looked at, and where it goes, is one.

use std::fs::OpenOptions;
use std::io::Write;
use std::path::{Path, PathBuf};

use gantry_cloud_sync::dsse::PublicKey;

use super::files::Files;
use super::installed::{FolderError, Installed, create, difference, make};
use super::manifest::Sha256Hex;
use super::package::{MANIFEST_FILE, Package, PackageError};
use super::pull::{PullError, Pulled, Staged, fits};
use super::statement::{ENVELOPE_FILE, ENVELOPE_MAX_KIB, Statement, StatementError};
use crate::config::Limits;

/// What to install, and under which conditions.
#[derive(Debug)]
pub struct Request<'a> {
    /// A file of `gantry module pack`, or a package folder.
    pub from: &'a Path,
    /// One of these must have signed it.
    pub trust: &'a [PublicKey],
    /// The digest that it must have.
    pub digest: Option<Sha256Hex>,
    /// A version below the latest that is there is taken too.
    pub allow_older: bool,
    /// What is read at most.
    pub limits: &'a Limits,
}

/// Why nothing was installed.
#[derive(Debug, thiserror::Error)]
pub enum InstallError {
    /// Nobody is trusted.
    #[error("no key is trusted: name the vendor's by --trust")]
    NoTrust,
    /// It is not signed.
    #[error("{path} holds no {ENVELOPE_FILE}: it was not signed; ask its vendor for one that was", path = .0.display())]
    NotSigned(PathBuf),
    /// What is signed cannot be believed.
    #[error("{path}: {reason}", path = path.display())]
    Statement {
        /// The package.
        path: PathBuf,
        /// Why.
        reason: StatementError,
    },
    /// It is not what was signed.
    #[error("{path}: {how}: it was changed after it was signed; tell the vendor", path = path.display())]
    Changed {
        /// The package.
        path: PathBuf,
        /// How it differs.
        how: String,
    },
    /// Not the digest that was asked for.
    #[error("it is signed with digest sha256:{}, and not the one of --digest: nothing was installed", String::from(*.0))]
    Digest(Sha256Hex),
    /// What is there already, and where it goes.
    #[error(transparent)]
    Place(#[from] PullError),
    /// The package.
    #[error(transparent)]
    Package(#[from] PackageError),
}

impl From<FolderError> for InstallError {
    fn from(error: FolderError) -> Self {
        Self::Place(error.into())
    }
}

/// Copies a package into a hidden folder of `into`, and holds it against its signature; `waits` is called where another one is under way.
///
/// # Errors
/// [`InstallError`]; nothing was installed.
pub fn install(request: &Request<'_>, into: &Path, waits: impl FnOnce()) -> Result<Pulled, InstallError> {
    let Request { from, trust, limits, .. } = request;
    if trust.is_empty() {
        return Err(InstallError::NoTrust);
    }
    let files = Files::open(from)?;
    if !files.holds(ENVELOPE_FILE) {
        return Err(InstallError::NotSigned((*from).to_owned()));
    }
    let envelope = files.read(ENVELOPE_FILE, ENVELOPE_MAX_KIB << 10, "the 1024 KiB of an envelope", 0)?;
    let of = |reason| InstallError::Statement { path: (*from).to_owned(), reason };
    let (statement, signer) = Statement::open(&envelope, trust, limits).map_err(of)?;
    if request.digest.is_some_and(|digest| digest != statement.manifest_sha256) {
        return Err(InstallError::Digest(statement.manifest_sha256));
    }
    let changed = |how| InstallError::Changed { path: (*from).to_owned(), how };
    let installed = Installed::open(into, waits)?;
    let place = installed.place(&statement)?;
    if place.exists() {
        return match difference(&Files::Folder(place.clone()), &statement)? {
            None => Ok(Pulled::There(statement, signer, place)),
            Some(how) => Err(PullError::Damaged { folder: place, how }.into()),
        };
    }
    fits(&installed, &statement, request.allow_older)?;
    if let Some(how) = difference(&files, &statement)? {
        return Err(changed(how));
    }
    statement.manifest(&files.read(MANIFEST_FILE, 256 << 10, "the 256 KiB of a manifest", 0)?, limits).map_err(of)?;

    let folder = installed.stage(&statement)?;
    // Nothing of an earlier pull is gone on with here, and what it left would count as changed by the vendor.
    std::fs::remove_dir_all(&folder).map_err(FolderError::io(&folder))?;
    make(&folder, 0o755)?;
    let paths = statement.files.iter().map(|file| file.path.as_str()).chain([ENVELOPE_FILE]);
    for path in paths {
        copy(&files, path, &folder)?;
    }
    // The folder is what counts: all of it is read once more.
    if let Some(how) = difference(&Files::Folder(folder.clone()), &statement)? {
        std::fs::remove_dir_all(&folder).map_err(FolderError::io(&folder))?;
        return Err(changed(how));
    }
    let package = Package::open(&folder)?;
    Ok(Pulled::Staged(Box::new(Staged::new(statement, signer, package, folder, installed))))
}

/// A file, durable.
fn copy(files: &Files, path: &str, folder: &Path) -> Result<(), InstallError> {
    let mut parent = folder.to_path_buf();
    for part in path.rsplit_once('/').map_or("", |(parent, _)| parent).split('/').filter(|part| !part.is_empty()) {
        parent.push(part);
        make(&parent, 0o755)?;
    }
    let to = folder.join(path);
    let mut file = create(&to, OpenOptions::new().write(true).truncate(true))?;
    files.copy(path, &mut |piece| file.write_all(piece))?;
    Ok(file.sync_all().map_err(FolderError::io(&to))?)
}
