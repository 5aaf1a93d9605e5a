//! What a site chose, as it is read when sync starts: the policy, its keys, and who cleans by them. Who opted out is read again
//! whenever that file changes.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use gantry_cloud_sync::batch::{self, Digest, PublicKey, SiteKey};
use gantry_cloud_sync::deid::{Attribute, Deidentifier, Profile, Secret};
use gantry_cloud_sync::dsse::KeyError;
use gantry_cloud_sync::escrow::{Escrow, EscrowError};
use gantry_cloud_sync::policy::{OptOut, Policy, PolicyError};

use crate::config::{Config, SyncConfig};
use crate::redact::{self, RedactError};

/// The largest policy, or list of those who opted out, that is read.
const FILE_MAX_MIB: u64 = 64;

/// Read once, but for who opted out.
#[derive(Debug)]
pub struct Site {
    /// What may leave, as what, and where to.
    pub policy: Policy,
    pub(super) secret: Secret,
    opt_out: Option<OptOutFile>,
    /// What the policy looks at.
    pub(super) attributes: Vec<Attribute>,
    /// By the policy's profile, and without characteristics of the patient.
    pub(super) cleaners: [Cleaner; 2],
    /// Of which signatures in the bucket are believed.
    pub trusted: Vec<PublicKey>,
}

/// One profile.
#[derive(Debug)]
pub(super) struct Cleaner {
    pub(super) by: Deidentifier,
    pub(super) profile: batch::Profile,
}

/// Nothing can be handed on: the operator's to mend.
#[derive(Debug, thiserror::Error)]
pub enum SiteError {
    /// No policy.
    #[error("sync.policy is not set: name the policy; see docs/sync.md")]
    NoPolicy,
    /// It cannot be read.
    #[error("sync.policy {path}: {reason}", path = path.display())]
    File {
        /// Which file.
        path: PathBuf,
        /// Why.
        reason: std::io::Error,
    },
    /// It says what cannot be.
    #[error("sync.policy {path}: {reason}", path = path.display())]
    Policy {
        /// Which file.
        path: PathBuf,
        /// Why.
        reason: Box<PolicyError>,
    },
    /// Nobody knows who opted out.
    #[error("consent.opt_out_file {path}: {reason}; nothing is handed on until it can be read", path = path.display())]
    OptOut {
        /// Which file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// A key.
    #[error("identity_key_file {path}: {reason}", path = path.display())]
    Identity {
        /// Which file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// A key of signatures.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// Where the hospital keeps who is who.
    #[error("escrow: {0}")]
    Escrow(#[from] EscrowError),
    /// What looks for text in images.
    #[error(transparent)]
    Redact(#[from] RedactError),
}

impl Site {
    /// Reads the policy and what it names.
    ///
    /// # Errors
    /// [`SiteError`].
    pub fn read(config: &SyncConfig) -> Result<Self, SiteError> {
        let path = config.policy.as_deref().ok_or(SiteError::NoPolicy)?;
        let wrong = |reason| SiteError::Policy { path: path.into(), reason: Box::new(reason) };
        let policy = Policy::from_toml(&text(path)?).map_err(wrong)?;
        let policy = policy.with_paths_from(path.parent().unwrap_or(Path::new(".")));
        let identity = |reason: String| SiteError::Identity { path: policy.identity_key_file.clone(), reason };
        let secret = Secret::read(&policy.identity_key_file).map_err(|e| identity(e.to_string()))?;
        let opt_out = match &policy.consent.opt_out_file {
            Some(file) => Some(OptOutFile::read(file, &secret)?),
            None => None,
        };
        let profiles = [policy.profile.clone(), policy.profile_without_characteristics()];
        let cleaners = profiles.map(|profile| Cleaner::new(profile, &secret));
        let trusted = policy.trusted_key_files.iter().map(|file| PublicKey::load(file)).collect::<Result<_, _>>()?;
        let attributes = policy.attributes();
        Ok(Self { policy, secret, opt_out, attributes, cleaners, trusted })
    }

    /// The same, able to look into pixels: with what decodes them, and the text detector of the configuration.
    ///
    /// # Errors
    /// [`SiteError::Redact`].
    pub fn equipped(self, config: &Config) -> Result<Self, SiteError> {
        let [one, other] = self.cleaners;
        let [by_one, by_other] = redact::equipped([one.by, other.by], config)?;
        let cleaners = [Cleaner { by: by_one, ..one }, Cleaner { by: by_other, ..other }];
        Ok(Self { cleaners, ..self })
    }

    /// Who opted out, if the policy names a file, as it is now.
    ///
    /// # Errors
    /// [`SiteError::OptOut`].
    pub(super) fn opt_out(&self) -> Result<Option<Arc<OptOut>>, SiteError> {
        self.opt_out.as_ref().map(|file| file.now(&self.secret)).transpose()
    }

    /// With what batches are signed.
    ///
    /// # Errors
    /// [`SiteError::Key`].
    pub fn signing_key(&self) -> Result<SiteKey, SiteError> {
        Ok(SiteKey::load(&self.policy.signing_key_file)?)
    }

    /// Where the hospital keeps who is who, if it does.
    ///
    /// # Errors
    /// [`SiteError::Escrow`].
    pub(super) fn escrow(&self) -> Result<Option<Escrow>, SiteError> {
        let Some(escrow) = &self.policy.escrow else { return Ok(None) };
        let recipients = escrow.recipients.iter().map(String::as_str);
        Ok(Some(Escrow::to(&escrow.folder, recipients, "escrow.recipients")?))
    }
}

/// A list that may change.
#[derive(Debug)]
struct OptOutFile {
    path: PathBuf,
    read: Mutex<(Stamp, Arc<OptOut>)>,
}

/// What is another one when a file was written or replaced: where it lies, its size, and when it changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp {
    file: (u64, u64),
    bytes: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Stamp {
    fn of(file: &Metadata) -> Self {
        Self {
            file: (file.dev(), file.ino()),
            bytes: file.len(),
            modified: (file.mtime(), file.mtime_nsec()),
            changed: (file.ctime(), file.ctime_nsec()),
        }
    }
}

impl OptOutFile {
    fn read(path: &Path, secret: &Secret) -> Result<Self, SiteError> {
        Ok(Self { path: path.into(), read: Mutex::new(listed(path, secret)?) })
    }

    fn now(&self, secret: &Secret) -> Result<Arc<OptOut>, SiteError> {
        let mut read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        // What cannot be looked at is read, which says why.
        if !std::fs::metadata(&self.path).is_ok_and(|there| Stamp::of(&there) == read.0) {
            *read = listed(&self.path, secret)?;
        }
        Ok(Arc::clone(&read.1))
    }
}

fn listed(path: &Path, secret: &Secret) -> Result<(Stamp, Arc<OptOut>), SiteError> {
    let wrong = |reason: String| SiteError::OptOut { path: path.into(), reason };
    // Before it is read: what is written meanwhile gives it another.
    let stamp = std::fs::metadata(path).map_err(|e| wrong(e.to_string()))?;
    let text = text(path).map_err(|e| match e {
        SiteError::File { reason, .. } => wrong(reason.to_string()),
        other => other,
    })?;
    let list = OptOut::parse(&text, secret).map_err(|e| wrong(e.to_string()))?;
    Ok((Stamp::of(&stamp), Arc::new(list)))
}

impl Cleaner {
    fn new(profile: Profile, secret: &Secret) -> Self {
        let written = serde_json::to_vec(&profile).expect("a profile is strings, numbers and lists");
        let named = batch::Profile { name: profile.name.clone(), digest: Digest::of(&written) };
        Self { by: Deidentifier::new(profile, secret.clone()), profile: named }
    }
}

fn text(path: &Path) -> Result<String, SiteError> {
    let failed = |reason| SiteError::File { path: path.into(), reason };
    let bytes = bytes(path, FILE_MAX_MIB << 20).map_err(failed)?;
    String::from_utf8(bytes).map_err(|_| failed(std::io::Error::other("it must be text, in UTF-8")))
}

/// Bounded, because a device or a pipe need not end.
fn bytes(path: &Path, most: u64) -> std::io::Result<Vec<u8>> {
    use std::io::Read;
    let mut bytes = Vec::new();
    std::fs::File::open(path)?.take(most + 1).read_to_end(&mut bytes)?;
    match bytes.len() as u64 > most {
        true => Err(std::io::Error::other(format!("it has more than {most} bytes"))),
        false => Ok(bytes),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_of_those_who_opted_out_is_read_again_and_nobody_is_known_without_it() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("opt-out.txt");
        let secret = Secret::random().expect("a key");
        let write = |ids: &[&str]| std::fs::write(&path, OptOut::write(ids.iter().copied(), &secret)).expect("written");
        write(&["4711"]);
        let file = OptOutFile::read(&path, &secret).expect("a list");
        let first = file.now(&secret).expect("a list");
        assert!(Arc::ptr_eq(&first, &file.now(&secret).expect("a list")), "it is not read without need");
        write(&["4711", "4712"]);
        let second = file.now(&secret).expect("a list");
        assert_eq!(format!("{first:?}, {second:?}"), "OptOut of 1 patients, OptOut of 2 patients");

        std::fs::write(&path, "4713\n").expect("written");
        for _ in 0..2 {
            let failure = file.now(&secret).expect_err("it is no list");
            assert!(failure.to_string().contains("consent.opt_out_file"), "{failure}");
        }
        std::fs::remove_file(&path).expect("removed");
        assert!(matches!(file.now(&secret), Err(SiteError::OptOut { .. })));
    }
}
