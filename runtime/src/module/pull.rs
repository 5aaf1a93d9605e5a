//! `gantry module pull`: a package out of a bucket, beside those that are there, once it is known to be what its vendor signed.
//!
//! ```text
//! envelope ─▶ signature, names, sizes ─▶ files, each bounded and hashed ─▶ manifest ─▶ all read again ─▶ models loaded ─▶ renamed
//! ```
//!
//! Nothing from the bucket is believed. Until the rename nothing is visible; a pull that is interrupted goes on where it was.

use std::fs::OpenOptions;
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use gantry_cloud_sync::batch::Digester;
use gantry_cloud_sync::dsse::PublicKey;
use gantry_cloud_sync::s3::{self, Bucket, Fetched};

use super::files::Files;
use super::installed::{FolderError, Installed, create, difference, make};
use super::location::Location;
use super::manifest::Sha256Hex;
use super::package::{MANIFEST_FILE, Package, PackageError};
use super::statement::{ENVELOPE_FILE, ENVELOPE_MAX_KIB, SignedFile, Statement, StatementError};
use crate::config::Limits;

/// What to pull, and under which conditions.
#[derive(Debug)]
pub struct Request<'a> {
    /// `…/NAME/VERSION`.
    pub from: &'a Location,
    /// One of these must have signed it.
    pub trust: &'a [PublicKey],
    /// The digest that it must have.
    pub digest: Option<Sha256Hex>,
    /// A version below the latest that is there is taken too.
    pub allow_older: bool,
    /// What is read at most.
    pub limits: &'a Limits,
}

/// What happens meanwhile.
#[derive(Debug)]
pub enum Step<'a> {
    /// Somebody else pulls into the folder.
    Waiting,
    /// So many bytes are to come, of which so many are there.
    Fetching(u64, u64),
    /// A file comes.
    File(&'a str),
    /// So many bytes came.
    Came(u64),
}

/// Why nothing was installed.
#[derive(Debug, thiserror::Error)]
pub enum PullError {
    /// Nobody is trusted.
    #[error("no key is trusted for {0}: name the vendor's by --trust, or in [[module_sources]] of the configuration")]
    NoTrust(Location),
    /// The place names no package.
    #[error("{0}")]
    Place(String),
    /// The bucket, or the way to it.
    #[error(transparent)]
    Bucket(#[from] s3::Failure),
    /// There is no such package.
    #[error(
        "there is no package at {0}: it has no {ENVELOPE_FILE}; look at the address, and ask the vendor whether it is published"
    )]
    None(Location),
    /// An object is not there.
    #[error("{0} is missing, though it was signed: ask the vendor to publish the package again")]
    Missing(Location),
    /// An object is not what was signed.
    #[error("{at} {how}: it was cut or changed after it was signed; tell the vendor")]
    Changed {
        /// Which.
        at: Location,
        /// How it differs.
        how: &'static str,
    },
    /// What is signed cannot be believed.
    #[error("{at}: {reason}")]
    Statement {
        /// Where it lies.
        at: Location,
        /// Why.
        reason: StatementError,
    },
    /// It is the package of another place.
    #[error("{at} holds the envelope of {name} {version}: somebody put it there; tell the vendor")]
    Other {
        /// Where it lies.
        at: Location,
        /// What it is of.
        name: String,
        /// Which version.
        version: semver::Version,
    },
    /// Not the digest that was asked for.
    #[error("{at} is signed with digest sha256:{}, and not the one of --digest: nothing was installed", String::from(*found))]
    Digest {
        /// Where it lies.
        at: Location,
        /// Its digest.
        found: Sha256Hex,
    },
    /// A later version is there.
    #[error("{name} {there} is installed, and {version} is older: if you want it back, say --allow-older")]
    Older {
        /// Which module.
        name: String,
        /// The one that is wanted.
        version: semver::Version,
        /// The one that is there.
        there: semver::Version,
    },
    /// The same version with other contents.
    #[error(
        "{name} {version} is installed with digest {there}…, and this one has {digest}…: a version stands for one package; \
         ask the vendor which is right, and pull into another folder if you want both"
    )]
    Rebuilt {
        /// Which module.
        name: String,
        /// The version of both.
        version: semver::Version,
        /// The digest of the one that is there.
        there: String,
        /// The digest of this one.
        digest: String,
    },
    /// What is installed was changed.
    #[error("{folder} is installed, and {how}: it was changed here; see who can write to it, move it away and pull again", folder = folder.display())]
    Damaged {
        /// Where.
        folder: PathBuf,
        /// How it differs.
        how: String,
    },
    /// The package.
    #[error(transparent)]
    Package(#[from] PackageError),
    /// The folder to install into.
    #[error("it cannot be installed: {0}")]
    Folder(#[from] FolderError),
}

/// What a package is, and where.
#[derive(Debug)]
pub enum Pulled {
    /// It was there, whole.
    There(Statement, PublicKey, PathBuf),
    /// It was fetched and is what was signed; nobody sees it yet.
    Staged(Box<Staged>),
}

/// A package that is whole, durable and what its vendor signed, before it is given its place.
#[derive(Debug)]
pub struct Staged {
    /// What was signed.
    pub statement: Statement,
    /// By whom.
    pub signer: PublicKey,
    /// Opened where it is now.
    pub package: Package,
    folder: PathBuf,
    installed: Installed,
}

impl Staged {
    pub(super) fn new(
        statement: Statement,
        signer: PublicKey,
        package: Package,
        folder: PathBuf,
        installed: Installed,
    ) -> Self {
        Self { statement, signer, package, folder, installed }
    }

    /// Where it will be.
    ///
    /// # Errors
    /// Something is in the way.
    pub fn place(&self) -> Result<PathBuf, FolderError> {
        self.installed.place(&self.statement)
    }

    /// Gives it its place, in one step.
    ///
    /// # Errors
    /// [`FolderError`]
    pub fn install(self) -> Result<PathBuf, FolderError> {
        self.installed.install(&self.folder, &self.statement)
    }
}

/// Fetches a package into a hidden folder of `into`, and holds it against its signature.
///
/// # Errors
/// [`PullError`]; nothing was installed.
pub async fn pull(
    request: &Request<'_>,
    bucket: &Bucket,
    into: &Path,
    on: &(dyn Fn(Step<'_>) + Sync),
) -> Result<Pulled, PullError> {
    let Request { from, trust, limits, .. } = request;
    if trust.is_empty() {
        return Err(PullError::NoTrust((*from).clone()));
    }
    let (name, version) = from.package().map_err(PullError::Place)?;
    let at = from.below(ENVELOPE_FILE);
    let envelope = small(bucket, &at, ENVELOPE_MAX_KIB << 10).await?.ok_or_else(|| PullError::None((*from).clone()))?;
    let of = |at: &Location| {
        let at = at.clone();
        move |reason| PullError::Statement { at, reason }
    };
    let (statement, signer) = Statement::open(&envelope, trust, limits).map_err(of(&at))?;
    if statement.name != name || statement.version != version {
        let Statement { name, version, .. } = statement;
        return Err(PullError::Other { at, name, version });
    }
    if request.digest.is_some_and(|digest| digest != statement.manifest_sha256) {
        return Err(PullError::Digest { at: (*from).clone(), found: statement.manifest_sha256 });
    }
    let waits = || on(Step::Waiting);
    let installed = Installed::open(into, waits)?;
    let place = installed.place(&statement)?;
    if place.exists() {
        return match difference(&Files::Folder(place.clone()), &statement)? {
            None => Ok(Pulled::There(statement, signer, place)),
            Some(how) => Err(PullError::Damaged { folder: place, how }),
        };
    }
    fits(&installed, &statement, request.allow_older)?;

    let folder = installed.stage(&statement)?;
    let begun: u64 =
        statement.files.iter().filter_map(|file| folder.join(&file.path).metadata().ok()).map(|m| m.len()).sum();
    on(Step::Fetching(statement.bytes(), begun.min(statement.bytes())));
    // The manifest first: what does not fit it is not fetched.
    let manifest = statement.files.iter().filter(|file| file.path == MANIFEST_FILE);
    for file in manifest {
        fetch(bucket, from, &folder, file, on).await?;
    }
    let path = folder.join(MANIFEST_FILE);
    let bytes = std::fs::read(&path).map_err(FolderError::io(&path))?;
    statement.manifest(&bytes, limits).map_err(of(&from.below(MANIFEST_FILE)))?;
    for file in statement.files.iter().filter(|file| file.path != MANIFEST_FILE) {
        fetch(bucket, from, &folder, file, on).await?;
    }
    keep(&folder.join(ENVELOPE_FILE), &envelope)?;
    // What an earlier pull left is looked at with the rest.
    if difference(&Files::Folder(folder.clone()), &statement)?.is_some() {
        std::fs::remove_dir_all(&folder).map_err(FolderError::io(&folder))?;
        return Err(FolderError::wrong(
            &folder,
            "was changed while files came: see who can write to it, and pull again",
        )
        .into());
    }
    let package = Package::open(&folder)?;
    Ok(Pulled::Staged(Box::new(Staged { statement, signer, package, folder, installed })))
}

/// Whether a package may come beside those that are there.
pub(super) fn fits(installed: &Installed, statement: &Statement, allow_older: bool) -> Result<(), PullError> {
    let Statement { name, version, .. } = statement;
    let versions = installed.versions(name)?;
    let digest = String::from(statement.manifest_sha256).chars().take(12).collect::<String>();
    if let Some(there) = versions.iter().find(|there| there.version == *version && there.digest != digest) {
        let (name, version, there) = (name.clone(), version.clone(), there.digest.clone());
        return Err(PullError::Rebuilt { name, version, there, digest });
    }
    let later = versions.into_iter().map(|there| there.version).filter(|there| there.cmp_precedence(version).is_gt());
    match later.max() {
        Some(there) if !allow_older => Err(PullError::Older { name: name.clone(), version: version.clone(), there }),
        _ => Ok(()),
    }
}

/// A small object, whole.
async fn small(bucket: &Bucket, at: &Location, most: u64) -> Result<Option<Vec<u8>>, PullError> {
    let mut bytes = Vec::new();
    let mut keep = |piece: &[u8]| {
        bytes.extend_from_slice(piece);
        Ok(())
    };
    match bucket.fetch(at.key(), Digester::default(), most, &mut keep).await? {
        Fetched::Whole(..) => Ok(Some(bytes)),
        Fetched::Missing => Ok(None),
        Fetched::TooLong | Fetched::NotKept(_) => {
            Err(PullError::Changed { at: at.clone(), how: "is longer than an envelope" })
        }
    }
}

/// Makes a file of the package be in the folder, durably: what is there of it is gone on with, once.
async fn fetch(
    bucket: &Bucket,
    from: &Location,
    folder: &Path,
    file: &SignedFile,
    on: &(dyn Fn(Step<'_>) + Sync),
) -> Result<(), PullError> {
    let path = folder.join(&file.path);
    let mut parent = folder.to_path_buf();
    for part in file.path.split('/').rev().skip(1).collect::<Vec<_>>().into_iter().rev() {
        parent.push(part);
        make(&parent, 0o755)?;
    }
    on(Step::File(&file.path));
    let at = from.below(&file.path);
    let mut kept = create(&path, OpenOptions::new().read(true).write(true).truncate(false))?;
    let mut begun = Digester::default();
    let mut piece = vec![0; 1 << 18];
    loop {
        match kept.read(&mut piece).map_err(FolderError::io(&path))? {
            0 => break,
            read => begun.update(piece.get(..read).unwrap_or_default()),
        }
    }
    drop(piece);
    let is = |digester: Digester| {
        let (digest, bytes) = digester.finish();
        bytes == file.bytes && digest.as_bytes() == &file.sha256.0
    };
    let there = begun.bytes();
    if there == file.bytes && is(begun.clone()) {
        return Ok(());
    }
    if there >= file.bytes {
        begun = restart(&mut kept, &path)?;
    }
    loop {
        let resumed = begun.bytes() > 0;
        let fetched = bucket
            .fetch(at.key(), begun, file.bytes, &mut |piece| {
                on(Step::Came(piece.len() as u64));
                kept.write_all(piece)
            })
            .await?;
        let changed = |how| Err(PullError::Changed { at: at.clone(), how });
        let ended = match fetched {
            Fetched::Whole(digest, bytes) if bytes == file.bytes && digest.as_bytes() == &file.sha256.0 => {
                return kept.sync_all().map_err(|e| FolderError::io(&path)(e).into());
            }
            Fetched::NotKept(reason) => return Err(FolderError::Io { path, reason }.into()),
            Fetched::Missing => Err(PullError::Missing(at.clone())),
            Fetched::TooLong => changed("has more bytes than were signed"),
            Fetched::Whole(_, bytes) if bytes < file.bytes => changed("has fewer bytes than were signed"),
            Fetched::Whole(..) => changed("has another digest than was signed"),
        };
        // It may be what was there that is wrong.
        begun = restart(&mut kept, &path)?;
        if !resumed {
            return ended;
        }
    }
}

/// From the first byte.
fn restart(file: &mut std::fs::File, path: &Path) -> Result<Digester, FolderError> {
    file.set_len(0).and_then(|()| file.seek(SeekFrom::Start(0))).map_err(FolderError::io(path))?;
    Ok(Digester::default())
}

/// A small file, durable.
fn keep(path: &Path, bytes: &[u8]) -> Result<(), FolderError> {
    let mut file = create(path, OpenOptions::new().write(true).truncate(true))?;
    file.write_all(bytes).and_then(|()| file.sync_all()).map_err(FolderError::io(path))
}
