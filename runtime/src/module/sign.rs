//! `gantry module sign` and `gantry module push`: what a vendor does with a package that it built.

use std::io::Write;
use std::path::Path;

use gantry_cloud_sync::dsse::{PublicKey, SigningKey};
use gantry_cloud_sync::s3::{self, Bucket, Outcome};

use super::files::Files;
use super::installed::{FolderError, difference};
use super::location::Location;
use super::manifest::Sha256Hex;
use super::pack;
use super::package::{MANIFEST_FILE, Package, PackageError};
use super::statement::{ENVELOPE_FILE, ENVELOPE_MAX_KIB, SignedFile, Statement, StatementError};
use crate::config::Limits;
use crate::inference::Turn;

/// Why a package is not signed, or not pushed. The vendor's to mend.
#[derive(Debug, thiserror::Error)]
pub enum SignError {
    /// The package.
    #[error(transparent)]
    Package(#[from] PackageError),
    /// Its files.
    #[error(transparent)]
    Folder(#[from] FolderError),
    /// What would be signed, or was.
    #[error(transparent)]
    Statement(#[from] StatementError),
    /// It is not signed.
    #[error("{0} holds no {ENVELOPE_FILE}: sign it with `gantry module sign`")]
    NotSigned(String),
    /// It was changed after it was signed.
    #[error("{0}: the package was changed after it was signed; build it anew, and sign it")]
    Changed(String),
    /// Something else lies there.
    #[error("something else lies at {0}: what was published is never changed; raise the version of the module")]
    Taken(String),
    /// The bucket.
    #[error(transparent)]
    Bucket(#[from] s3::Failure),
}

/// What was signed.
#[derive(Debug)]
pub struct Signed {
    /// What it says.
    pub statement: Statement,
    /// Whether there was a signature by this key that says the same.
    pub was_there: bool,
}

/// Signs a package, by an envelope beside its files. One that is signed by this key and was not changed is left as it is.
///
/// # Errors
/// [`SignError`]
pub fn sign(
    folder: &Path,
    key: &SigningKey,
    limits: &Limits,
    now: &chrono::DateTime<chrono::Utc>,
) -> Result<Signed, SignError> {
    let package = Package::open(folder)?;
    package.component(limits.component_max_mib)?;
    for model in &package.manifest().models {
        package.model(&model.name, limits.model_max_mib)?;
    }
    let mut files = Vec::new();
    let files_of = package.files();
    for path in files_of.list()?.into_iter().filter(|path| path != ENVELOPE_FILE) {
        let (sha256, bytes) = files_of.digest(&path)?;
        files.push(SignedFile { path, sha256, bytes });
    }
    let statement = Statement {
        schema: 1,
        name: package.manifest().name.clone(),
        version: package.manifest().version.clone(),
        manifest_sha256: Sha256Hex(package.identity()),
        files,
        signed: now.to_rfc3339_opts(chrono::SecondsFormat::Secs, true),
    };
    let envelope = statement.seal(key, limits)?;
    let there = envelope_of(files_of)?.and_then(|there| Statement::open(&there, &[key.public()], limits).ok());
    if there.is_some_and(|(there, _)| there.says_the_same(&statement)) {
        return Ok(Signed { statement, was_there: true });
    }
    match files_of {
        Files::Pack(_) => {
            pack::write(files_of, &[(ENVELOPE_FILE, envelope)].into(), folder, limits, &Turn::default())?;
        }
        Files::Folder(folder) => put(folder, &envelope).map_err(FolderError::io(&folder.join(ENVELOPE_FILE)))?,
    }
    Ok(Signed { statement, was_there: false })
}

/// The envelope, beside the files of a folder.
fn put(folder: &Path, envelope: &[u8]) -> std::io::Result<()> {
    let mut file = tempfile::NamedTempFile::new_in(folder)?;
    file.write_all(envelope)?;
    // As other files of the package: who reads those reads this one.
    file.as_file().set_permissions(std::fs::metadata(folder.join(MANIFEST_FILE))?.permissions())?;
    file.as_file().sync_all()?;
    file.persist(folder.join(ENVELOPE_FILE)).map_err(|e| e.error)?;
    Ok(())
}

/// What a push came to.
#[derive(Debug)]
pub struct Pushed {
    /// Where the package lies.
    pub at: Location,
    /// What is signed.
    pub statement: Statement,
    /// Files that were sent; the others were there.
    pub sent: usize,
}

/// Puts a signed package under `below`/NAME/VERSION/, its envelope last: it is there whole or not at all. It is looked at with the public
/// key first, as who pulls it will. What is there and is the same stays.
///
/// # Errors
/// [`SignError`]
pub async fn push(
    folder: &Path,
    keys: &[PublicKey],
    limits: &Limits,
    bucket: &Bucket,
    below: &Location,
    on: impl Fn(&str),
) -> Result<Pushed, SignError> {
    let shown = || folder.display().to_string();
    let files_of = Files::open(folder)?;
    let envelope = envelope_of(&files_of)?.ok_or_else(|| SignError::NotSigned(shown()))?;
    let (statement, _) = Statement::open(&envelope, keys, limits)?;
    if let Some(difference) = difference(&files_of, &statement)? {
        return Err(SignError::Changed(format!("{}: {difference}", shown())));
    }
    statement.manifest(&whole(&files_of, &statement, MANIFEST_FILE)?, limits)?;
    let at = below.below(&statement.name).below(&statement.version.to_string());
    let mut files: Vec<&str> = statement.files.iter().map(|file| file.path.as_str()).collect();
    // Who lists the folder takes it for a package once the manifest is there.
    files.sort_by_key(|path| *path == MANIFEST_FILE);
    let mut sent = 0;
    for path in files.into_iter().chain([ENVELOPE_FILE]) {
        on(path);
        let bytes = match path {
            ENVELOPE_FILE => envelope.clone(),
            path => whole(&files_of, &statement, path)?,
        };
        let place = at.below(path);
        let created = bucket.create(place.key(), media_type(path), bytes.into()).await;
        match created {
            Ok(Outcome::There) => {}
            Ok(Outcome::Sent | Outcome::Replaced) => sent += 1,
            Err(s3::Failure::Taken(_)) => return Err(SignError::Taken(place.to_string())),
            Err(failure) => return Err(failure.into()),
        }
    }
    Ok(Pushed { at, statement, sent })
}

/// A file of no more bytes than were signed.
fn whole(files: &Files, statement: &Statement, path: &str) -> Result<Vec<u8>, PackageError> {
    let bytes = statement.files.iter().find(|file| file.path == path).map_or(0, |file| file.bytes);
    files.read(path, bytes, "what was signed of it", 0)
}

/// The envelope among a package's files; nothing where there is none.
fn envelope_of(files: &Files) -> Result<Option<Vec<u8>>, PackageError> {
    match files.holds(ENVELOPE_FILE) {
        true => files.read(ENVELOPE_FILE, ENVELOPE_MAX_KIB << 10, "the 1024 KiB of an envelope", 0).map(Some),
        false => Ok(None),
    }
}

fn media_type(path: &str) -> &'static str {
    match path.rsplit('.').next() {
        Some("toml") => "application/toml",
        Some("wasm") => "application/wasm",
        Some("json") => "application/json",
        Some("md") => "text/markdown; charset=utf-8",
        _ => "application/octet-stream",
    }
}
