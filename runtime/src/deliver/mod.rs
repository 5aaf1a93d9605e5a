//! Results to where they are looked at: a durable row for each (result, destination), sent until the destination has it.
//!
//! ```text
//! job done ─ one commit ─▶ outbox (journal) ─▶ one queue a destination ─▶ Delivery ─┬▶ dimse · stow: DICOM objects
//!                             ▲                  breaker, back-off, order           ├▶ folder: all files
//!                             └──── sent · again · dead ◀───────────────────────────┴▶ webhook · fhir · mllp: messages
//! ```
//!
//! What was sent and not recorded before a crash is sent again, under the same UIDs, so that the destination has it once. Nothing
//! leaves whose bytes are not those that the job wrote. A destination that is slow or gone holds up its own queue alone.
//!
//! Read on in this order: this file, `queue`, `breaker`, then one file for each way.

mod breaker;
mod commitment;
mod dimse;
pub mod fhir;
mod folder;
pub mod mllp;
mod queue;
mod stow;
mod subject;
mod webhook;

use std::fs::File;
use std::io::{Read, Seek};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;
use sha2::{Digest, Sha256};

pub use self::commitment::Promises;
pub use self::queue::{Parts, StartError, start};
use crate::config::{Config, DestinationConfig, Target};
use crate::outputs::{OutputKind, RESULT_FILE, Written};
use crate::store::{DeliveryRow, Job, StudyIdentity};

/// The largest `result.json` that is read.
const RESULT_MAX_BYTES: u64 = 64 << 20;
/// How much of a file is in memory while it is hashed or sent.
const PIECE_BYTES: usize = 256 << 10;
/// A token, or a key of a signature.
const SECRET_MAX_BYTES: u64 = 64 << 10;

/// A result on its way to one destination. Holds a patient's identity: no `Debug`.
#[derive(Clone)]
pub struct Delivery {
    /// In the journal; the same however often it is tried.
    pub id: i64,
    /// Which attempt, from 1.
    pub attempt: u32,
    /// What the destination is called.
    pub destination: String,
    /// Whose result it is; its `correlation` ties it to the association or request that brought the study's last instance.
    pub job: Job,
    /// Where the result's files lie.
    pub folder: PathBuf,
    /// `result.json` as the job wrote it; its digest is right.
    pub result: serde_json::Value,
    /// The same, as bytes.
    pub result_bytes: Vec<u8>,
    /// SHA-256 of them.
    pub result_sha256: [u8; 32],
    /// Every file of the result but `result.json`, with kind, UIDs and digest, also those that do not go to this destination.
    /// [`Delivery::open`] hands out bytes.
    pub written: Vec<Written>,
    /// Kinds of outputs that go to this destination.
    pub kinds: Vec<OutputKind>,
    /// Patient and study as the journal has them.
    pub identity: StudyIdentity,
}

/// Why an attempt did not end well.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// The same could go well at another time.
    pub again: bool,
    /// For people; no patient data.
    pub text: String,
}

impl Failure {
    /// What may pass: the destination refuses for now, or fails.
    #[must_use]
    pub fn again(text: impl Into<String>) -> Self {
        Self { again: true, text: text.into() }
    }

    /// What stays: the destination does not take such a thing.
    #[must_use]
    pub fn for_good(text: impl Into<String>) -> Self {
        Self { again: false, text: text.into() }
    }
}

/// What became of an attempt that did not end well, with whose fault it is.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Trouble {
    /// The destination was not reached, or did not answer: nothing that this delivery could help.
    Unreachable(String),
    /// It answered, or the files are at fault.
    Failed(Failure),
}

impl From<Failure> for Trouble {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

/// An attempt that ended well.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
struct Sent {
    /// Digests of what left.
    outputs: Vec<[u8; 32]>,
    /// What the destination said beside, for people.
    detail: String,
    /// Under which UID it was asked to promise to keep it, where it has not answered yet.
    awaits: Option<String>,
}

/// Destinations that get the results of a module.
#[must_use]
pub fn destinations(configured: &[DestinationConfig], module: &str) -> Vec<String> {
    configured.iter().filter(|to| to.wants(module)).map(|to| to.name.clone()).collect()
}

/// What is needed of `result.json`.
#[derive(Deserialize)]
struct Kept {
    outputs: Vec<Written>,
}

/// What a delivery is made of.
struct Parcel {
    row: DeliveryRow,
    job: Job,
    identity: StudyIdentity,
}

impl Delivery {
    /// Reads `result.json`, and believes it when its digest is that of the journal.
    fn load(Parcel { row, job, identity }: Parcel, data: &Path, to: &DestinationConfig) -> Result<Self, Failure> {
        let below = job.result_path.as_ref().ok_or_else(|| Failure::for_good("its result was deleted"))?;
        let folder = data.join(below);
        let mut bytes = Vec::new();
        let read =
            File::open(folder.join(RESULT_FILE)).and_then(|f| f.take(RESULT_MAX_BYTES + 1).read_to_end(&mut bytes));
        read.map_err(|e| Failure::again(format!("{RESULT_FILE} cannot be read: {e}")))?;
        if <[u8; 32]>::from(Sha256::digest(&bytes)) != row.result_sha256 {
            return Err(Failure::for_good(changed(RESULT_FILE)));
        }
        // The parser's own words may quote what it read.
        let unknown = |_| Failure::for_good(format!("{RESULT_FILE} is none that this version knows"));
        let Kept { outputs: written } = serde_json::from_slice(&bytes).map_err(unknown)?;
        let kinds = written.iter().map(|file| file.kind).chain([OutputKind::Result]).filter(|kind| to.sends(*kind));
        Ok(Self {
            id: row.id,
            attempt: row.attempts,
            destination: row.destination,
            folder,
            result: serde_json::from_slice(&bytes).map_err(unknown)?,
            result_bytes: bytes,
            result_sha256: row.result_sha256,
            kinds: kinds.collect(),
            written,
            identity,
            job,
        })
    }

    /// The files that go to this destination, without `result.json`.
    pub fn outputs(&self) -> impl Iterator<Item = &Written> {
        self.written.iter().filter(|file| self.kinds.contains(&file.kind))
    }

    /// Whether `result.json` goes there too.
    #[must_use]
    pub fn sends_result(&self) -> bool {
        self.kinds.contains(&OutputKind::Result)
    }

    /// A file of the result, at its first byte, once all of it was hashed and is what the job wrote. Takes as long as reading it.
    ///
    /// # Errors
    /// It cannot be read, or is not what the job wrote.
    pub fn open(&self, output: &Written) -> Result<File, Failure> {
        open_output(&self.folder, output)
    }
}

/// See [`Delivery::open`]; of a result in this folder.
pub(crate) fn open_output(folder: &Path, output: &Written) -> Result<File, Failure> {
    let name = &output.file;
    let unread = |e: std::io::Error| Failure::again(format!("{name} cannot be read: {e}"));
    if Path::new(name).file_name().is_none_or(|plain| plain != name.as_str()) {
        return Err(Failure::for_good(format!("{RESULT_FILE} names a file outside of its folder")));
    }
    let mut file = File::open(folder.join(name)).map_err(unread)?;
    let (mut hash, mut piece, mut bytes) = (Sha256::new(), vec![0; PIECE_BYTES], 0);
    loop {
        let read = file.read(&mut piece).map_err(unread)?;
        if read == 0 {
            break;
        }
        bytes += read as u64;
        hash.update(piece.get(..read).unwrap_or_default());
    }
    if crate::hex(&hash.finalize()) != output.sha256 || bytes != output.bytes {
        return Err(Failure::for_good(changed(name)));
    }
    file.rewind().map_err(unread)?;
    Ok(file)
}

fn changed(name: &str) -> String {
    format!(
        "{name} is not what the job wrote: its SHA-256 is another; look who can write to the data folder, and put the file back from a backup"
    )
}

/// Whether the files that destinations name are there and can be used; for `gantry config check`.
///
/// # Errors
/// Names the destination, the key and what is wrong.
pub fn check(config: &Config) -> Result<(), String> {
    for to in &config.destinations {
        let named = |e: String| format!("destinations {:?}: {e}", to.name);
        match to.target() {
            Some(Target::Dimse(dimse)) => dimse::check(dimse).map_err(named)?,
            Some(Target::Stow(stow)) => stow::check(stow).map_err(named)?,
            Some(Target::Folder(folder)) => folder::check(folder).map_err(named)?,
            Some(Target::Webhook(webhook)) => webhook::check(webhook).map_err(named)?,
            Some(Target::Fhir(fhir)) => fhir::check(fhir).map_err(named)?,
            Some(Target::Mllp(mllp)) => mllp::check(mllp).map_err(named)?,
            None => {}
        }
    }
    Ok(())
}

/// Calls every destination that can be called without sending it anything: C-ECHO, or a connection; of each its name, and what it
/// said or why not.
pub async fn call(config: &Config) -> Vec<(String, Result<String, String>)> {
    let mut said = Vec::new();
    for to in &config.destinations {
        let answered = match to.target() {
            Some(Target::Dimse(dimse)) => dimse::echo(dimse, &config.dimse).await,
            Some(Target::Stow(stow)) => connects(&stow.url).await,
            Some(Target::Webhook(webhook)) => connects(&webhook.url).await,
            Some(Target::Fhir(fhir)) => match &fhir.url {
                Some(url) => connects(url).await,
                None => continue,
            },
            Some(Target::Mllp(mllp)) => connects(&format!("mllp://{}", mllp.address)).await,
            Some(Target::Folder(_)) | None => continue,
        };
        said.push((to.name.clone(), answered));
    }
    said
}

/// For a call that sends nothing.
const CALL_WITHIN: Duration = Duration::from_secs(3);

async fn connects(url: &str) -> Result<String, String> {
    let url = reqwest::Url::parse(url).map_err(|e| e.to_string())?;
    let (host, port) = (url.host_str().unwrap_or_default(), url.port_or_known_default().unwrap_or(443));
    let host = host.trim_matches(['[', ']']);
    match tokio::time::timeout(CALL_WITHIN, tokio::net::TcpStream::connect((host, port))).await {
        Ok(Ok(_)) => Ok("somebody listens".into()),
        Ok(Err(e)) => Err(e.to_string()),
        Err(_) => Err(format!("no connection within {} s", CALL_WITHIN.as_secs())),
    }
}

/// What a file holds that has a token or a key in it.
fn secret(key: &str, path: &Path) -> Result<String, String> {
    let named = |e: &dyn std::fmt::Display| format!("{key} = {}: {e}", path.display());
    let mut text = String::new();
    let file = File::open(path).map_err(|e| named(&e))?;
    file.take(SECRET_MAX_BYTES).read_to_string(&mut text).map_err(|e| named(&e))?;
    match text.trim() {
        "" => Err(named(&"it is empty")),
        text => Ok(text.to_owned()),
    }
}
