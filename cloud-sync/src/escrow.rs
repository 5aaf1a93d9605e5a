//! Who is who, for the hospital alone: the mapping of what was released, encrypted to the hospital's own keys.
//!
//! ```text
//! FOLDER/2031-01-01/UUID.jsonl.age    one file for each record, of lines of JSON (docs/quarantine.md)
//! ```
//!
//! Files are in the format of age (<https://age-encryption.org/v1>) to X25519 recipients (`age1…`), so `age -d -i KEY FILE` opens
//! them, and nothing on the node does: the identity is kept elsewhere. They lie in a folder of their own that nothing uploads.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use age::x25519::{Identity, Recipient};
use zeroize::Zeroizing;

use crate::batch::sync_folder;
use crate::deid::Mapping;

const ENDING: &str = ".jsonl.age";
/// Recipients of one file.
pub(crate) const RECIPIENTS_MAX: usize = 16;
/// A file of keys, and a file of the escrow when it is looked through.
const KEYS_MAX_KIB: u64 = 64;
const FILE_MAX_MIB: u64 = 1024;

/// Where mappings are kept.
#[derive(Debug)]
pub struct Escrow {
    folder: PathBuf,
    recipients: Vec<Recipient>,
}

/// The escrow cannot be used: the operator's or the host's to mend.
#[derive(Debug, thiserror::Error)]
pub enum EscrowError {
    /// No recipient, too many, or something else.
    #[error("{0}: recipients are 1 to {RECIPIENTS_MAX} lines `age1…`, as `age-keygen -y KEY` prints them")]
    Recipients(String),
    /// No identity.
    #[error("{0}: no line is an identity (`AGE-SECRET-KEY-1…`), as `age-keygen` makes it")]
    Identity(PathBuf),
    /// Others can read it.
    #[error("{0}: others may look into it; `chmod 700` it")]
    Open(PathBuf),
    /// The operating system refuses.
    #[error("{path}: {error}")]
    Disk {
        /// What it is about.
        path: PathBuf,
        /// What it says.
        error: io::Error,
    },
    /// Encryption fails, or what was found is no file of the escrow.
    #[error("{path}: {what}")]
    Age {
        /// What it is about.
        path: PathBuf,
        /// Without anything of what is in it.
        what: String,
    },
}

impl Escrow {
    /// In this folder, which is made when it is missing, to the recipients of a file: a line each, and comments after `#`.
    ///
    /// # Errors
    /// [`EscrowError`]; also where others than its owner can look into the folder.
    pub fn open(folder: &Path, recipients_file: &Path) -> Result<Self, EscrowError> {
        let recipients = lines(recipients_file)?;
        Self::to(folder, keys(&recipients), &recipients_file.display().to_string())
    }

    /// The same, to these; `named` says where they come from.
    ///
    /// # Errors
    /// As of [`Self::open`].
    pub fn to<'r>(
        folder: &Path,
        recipients: impl IntoIterator<Item = &'r str>,
        named: &str,
    ) -> Result<Self, EscrowError> {
        let parsed: Result<Vec<Recipient>, _> = recipients.into_iter().map(str::parse).collect();
        let wrong = || EscrowError::Recipients(named.to_owned());
        let recipients = parsed.map_err(|_| wrong())?;
        if !(1..=RECIPIENTS_MAX).contains(&recipients.len()) {
            return Err(wrong());
        }
        DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(disk(folder))?;
        let mode = fs::metadata(folder).map_err(disk(folder))?.permissions().mode();
        if mode & 0o077 != 0 {
            return Err(EscrowError::Open(folder.into()));
        }
        let escrow = Self { folder: folder.into(), recipients };
        escrow.clear()?;
        Ok(escrow)
    }

    /// Keeps mappings in one file, durably, before what they are of may leave. The same may be kept twice.
    ///
    /// # Errors
    /// [`EscrowError`]; then nothing of it is there.
    pub fn keep(&self, mappings: &[Mapping]) -> Result<PathBuf, EscrowError> {
        let day = self.folder.join(chrono::Utc::now().format("%Y-%m-%d").to_string());
        if !day.is_dir() {
            DirBuilder::new().recursive(true).mode(0o700).create(&day).map_err(disk(&day))?;
            sync_folder(&self.folder).map_err(disk(&self.folder))?;
        }
        let name = uuid::Uuid::now_v7();
        let (unread, path) = (self.folder.join(format!(".{name}")), day.join(format!("{name}{ENDING}")));
        let written = self.write(&unread, mappings).and_then(|()| fs::rename(&unread, &path));
        if let Err(error) = written.and_then(|()| sync_folder(&day)) {
            // It is no use without its name; the next start takes it away where this cannot.
            let _ = fs::remove_file(&unread);
            return Err(EscrowError::Disk { path, error });
        }
        Ok(path)
    }

    fn write(&self, path: &Path, mappings: &[Mapping]) -> io::Result<()> {
        let recipients = self.recipients.iter().map(|recipient| recipient as &dyn age::Recipient);
        let encryptor = age::Encryptor::with_recipients(recipients).map_err(io::Error::other)?;
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
        let mut writer = encryptor.wrap_output(file)?;
        mappings.iter().try_for_each(|mapping| writer.write_all(mapping.line()))?;
        writer.finish()?.sync_all()
    }

    /// Files that a crash left without their names.
    fn clear(&self) -> Result<(), EscrowError> {
        for entry in fs::read_dir(&self.folder).map_err(disk(&self.folder))? {
            let entry = entry.map_err(disk(&self.folder))?;
            if entry.file_name().to_string_lossy().starts_with('.') {
                fs::remove_file(entry.path()).map_err(disk(&entry.path()))?;
            }
        }
        Ok(())
    }
}

/// Lines of an escrow in which this stands, whether it is what was released or what was there before: where the identity is, and not
/// on the node.
///
/// # Errors
/// [`EscrowError`]; also where a file is to other recipients.
pub fn find(folder: &Path, identity_file: &Path, sought: &str) -> Result<Vec<serde_json::Value>, EscrowError> {
    let text = lines(identity_file)?;
    let identities: Vec<Identity> = keys(&text).filter_map(|key| key.parse().ok()).collect();
    if identities.is_empty() {
        return Err(EscrowError::Identity(identity_file.into()));
    }
    let mut found = Vec::new();
    for path in files(folder)? {
        let wrong = |what: &dyn std::fmt::Display| EscrowError::Age { path: path.clone(), what: what.to_string() };
        let file = File::open(&path).map_err(disk(&path))?;
        let decryptor = age::Decryptor::new(file).map_err(|e| wrong(&e))?;
        let identities = identities.iter().map(|identity| identity as &dyn age::Identity);
        let reader = decryptor.decrypt(identities).map_err(|e| wrong(&e))?;
        let mut text = String::new();
        reader.take((FILE_MAX_MIB << 20) + 1).read_to_string(&mut text).map_err(disk(&path))?;
        if text.len() as u64 > FILE_MAX_MIB << 20 {
            return Err(wrong(&format!("it has more than {FILE_MAX_MIB} MiB")));
        }
        for line in text.lines() {
            let line: serde_json::Value =
                serde_json::from_str(line).map_err(|_| wrong(&"it has a line that is no JSON"))?;
            let values = ["source", "released"].into_iter().filter_map(|part| line[part].as_object());
            if values.flat_map(|part| part.values()).any(|value| value == sought) {
                found.push(line);
            }
        }
    }
    Ok(found)
}

/// All files of an escrow, those first that came first.
fn files(folder: &Path) -> Result<Vec<PathBuf>, EscrowError> {
    let within = |folder: &Path| -> Result<Vec<PathBuf>, EscrowError> {
        let entries = fs::read_dir(folder).map_err(disk(folder))?;
        entries.map(|entry| Ok(entry.map_err(disk(folder))?.path())).collect()
    };
    let mut all = Vec::new();
    for day in within(folder)?.into_iter().filter(|path| path.is_dir()) {
        all.extend(within(&day)?.into_iter().filter(|path| path.to_string_lossy().ends_with(ENDING)));
    }
    all.sort();
    Ok(all)
}

fn disk(path: &Path) -> impl Fn(io::Error) -> EscrowError + use<> {
    let path = path.to_owned();
    move |error| EscrowError::Disk { path: path.clone(), error }
}

/// A small text file; it may hold an identity.
fn lines(path: &Path) -> Result<Zeroizing<String>, EscrowError> {
    let most = KEYS_MAX_KIB << 10;
    let file = File::open(path).map_err(disk(path))?;
    // Never moved while it grows: what was moved would not be zeroed.
    let mut text = Zeroizing::new(String::with_capacity(usize::try_from(most).unwrap_or_default() + 1));
    file.take(most).read_to_string(&mut text).map_err(disk(path))?;
    Ok(text)
}

fn keys(text: &str) -> impl Iterator<Item = &str> {
    text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'))
}

#[cfg(test)]
mod tests;
