//! Instances come in, are made durable, and only then acknowledged.
//!
//! ```text
//! C-STORE ─┐
//! STOW-RS ─┼─▶ Intake::begin ─▶ Incoming::write … ─▶ Incoming::finish ─▶ commit (many at once) ─▶ Stored | Refused
//! folder ──┘    incoming/<id>       in pieces        digest, inspection,      journal
//!                                                    name, fsync of both
//! ```
//!
//! All of that is done by one thread: an association's own, or one that is lent by the runtime. Each change of threads costs
//! as much as the inspection does.
//!
//! What cannot be kept as an instance is set aside in `quarantine/` with the reason, as durably, and refused. A failed
//! fsync or commit ends the process: what the disk then holds is unknown, and trying again could say otherwise.

pub(crate) mod accept;
mod commit;
#[cfg(test)]
mod crash;
pub mod dimse;
pub mod disk;
pub mod folder;
pub mod mllp;
mod names;
pub(crate) mod unfiled;

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use dicom_object::FileMetaTableBuilder;
use sha2::{Digest, Sha256};
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinHandle;
use tracing::Instrument;

use self::commit::{Committer, Filing};
use self::disk::{Disk, DiskFile};
use self::names::{Names, NoRoom};
use crate::config::Config;
use crate::metrics::Metrics;
use crate::store::{Quarantined, Store};
use crate::study::{self, Entry, PatientEntry, ReadError, ReadOptions};

/// Pieces of this size are written at once.
const PIECE_BYTES: usize = 256 << 10;
/// A piece, and what came with its last bytes.
const BUFFER_BYTES: usize = PIECE_BYTES + (128 << 10);
/// Instances that are looked at and named at once, each on a thread that waits for another one's fsync: fewer than there are threads.
const FILED_AT_ONCE_MAX: usize = 128;
/// Buffers that are kept for the next instances: memory that is new each time costs as much as copying into it.
const BUFFERS_MAX: usize = 16;

/// A UID that was checked: 1 to 64 characters, numbers without leading zeros between dots (PS3.5 section 9.1).
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Uid(String);

impl Uid {
    /// Checks; a trailing NUL or space, which is padding on the wire, is taken away. Leading zeros are let through,
    /// because scanners send them.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.trim_end_matches(['\0', ' ']);
        let numbers = text.split('.').all(|n| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()));
        (numbers && text.len() <= 64).then(|| Self(text.to_owned()))
    }

    /// As text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Display for Uid {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// By which way something came.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Via {
    /// C-STORE.
    Dimse,
    /// STOW-RS.
    Stow,
    /// The watched folder.
    Folder,
    /// Fetched from a PACS.
    Pacs,
}

impl Via {
    /// In the journal and in metrics.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Dimse => "dimse",
            Self::Stow => "stow",
            Self::Folder => "folder",
            Self::Pacs => "pacs",
        }
    }
}

/// One association, request or file: who sends, and what ties together all that is said of it from here to the result.
#[derive(Debug, Clone)]
pub struct Arrival {
    /// By which way.
    pub via: Via,
    /// AE title, token or folder; printable.
    pub source: String,
    /// In every log line, journal row and audit entry.
    pub correlation: String,
}

impl Arrival {
    /// With a correlation id of its own.
    #[must_use]
    pub fn new(via: Via, source: &str) -> Self {
        let correlation = uuid::Uuid::now_v7().simple().to_string();
        Self { via, source: crate::printable(source.trim()), correlation }
    }
}

/// What comes.
#[derive(Debug, Clone)]
pub enum Form {
    /// A data set alone, as in C-STORE (PS3.7 section 9.1.1): preamble and file meta information are added.
    DataSet {
        /// SOP Class UID as announced.
        sop_class_uid: Uid,
        /// SOP Instance UID as announced.
        sop_instance_uid: Uid,
        /// Transfer Syntax UID as negotiated.
        transfer_syntax_uid: Uid,
    },
    /// A whole file (PS3.10).
    File,
    /// A whole file (PS3.10) of an instance of this study.
    FileOfStudy(Uid),
    /// A whole file (PS3.10) that an archive was asked for.
    Asked(Arc<Asked>),
}

/// What an archive was asked for: a study of this patient. Holds a patient's identity, of which `Debug` tells nothing.
pub struct Asked {
    /// Which study.
    pub study: Uid,
    /// Whose.
    pub patient: PatientEntry,
}

impl std::fmt::Debug for Asked {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Asked").field("study", &self.study).finish_non_exhaustive()
    }
}

/// An instance that is durable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    /// Study Instance UID.
    pub study_instance_uid: String,
    /// Series Instance UID.
    pub series_instance_uid: String,
    /// SOP Class UID.
    pub sop_class_uid: String,
    /// SOP Instance UID.
    pub sop_instance_uid: String,
    /// What it was to us.
    pub outcome: Outcome,
}

/// What an acknowledged instance was to us.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// New.
    New,
    /// The same bytes were here: nothing changed.
    Same,
    /// The same bytes were here, fetched from a PACS; now somebody sent them, and they are work.
    Adopted,
    /// Other bytes were here, and the site lets newer ones replace them.
    Replaced,
}

/// Why an instance is not acknowledged. Says no patient data.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Refused {
    /// The host has no space: the operator's to mend. Send again later.
    #[error("the disk has less than node.disk_free_min_mib = {disk_free_min_mib} free; free space or lower the limit")]
    OutOfSpace {
        /// The limit.
        disk_free_min_mib: u64,
    },
    /// The host cannot write: the operator's to mend. Send again later.
    #[error("the host cannot keep the instance: {0}")]
    Disk(String),
    /// The peer: more bytes than an instance may have.
    #[error("the instance passes limits.file_max_mib = {file_max_mib}")]
    TooLarge {
        /// The limit.
        file_max_mib: u64,
    },
    /// The peer: no sound DICOM, or over a limit of its structure. Set aside.
    #[error("{0}")]
    Unreadable(String),
    /// The peer: what was announced is not what came. Set aside.
    #[error("{0} of the data set is not what the command or the file meta information says")]
    NotAnnounced(&'static str),
    /// The peer: other bytes under a known UID. Set aside.
    #[error("another instance with this SOP Instance UID is kept; node.duplicates decides which stays")]
    Conflict,
    /// The peer: a known UID in another study. Set aside, whatever the policy: an instance is of one study. Which one is for
    /// the audit log, and not for the peer.
    #[error("an instance with this SOP Instance UID is kept in another study")]
    OtherStudy(String),
    /// The peer: the study is another patient's. Set aside.
    #[error("the study of this UID is of another patient: {0} differs")]
    OtherPatient(&'static str),
    /// Nobody: it was fetched as part of an earlier study, and somebody is sending that now. Set aside.
    #[error("the study is being sent to this node; what was fetched of it is not needed")]
    SentMeanwhile,
    /// The host is stopping. Send again later.
    #[error("the node is stopping")]
    Stopping,
}

impl Refused {
    /// The status of C-STORE, and the Failure Reason (0008,1197) of STOW-RS: PS3.4 table B.2-1 and PS3.7 annex C. The last
    /// digits tell ours apart. A file too large is a resource too, for the standard has no other word for it.
    #[must_use]
    pub fn code(&self) -> u16 {
        match self {
            Self::OutOfSpace { .. } => 0xA700,
            Self::Disk(_) => 0xA701,
            Self::TooLarge { .. } => 0xA702,
            Self::Stopping => 0xA703,
            Self::NotAnnounced(_) => 0xA900,
            Self::Unreadable(_) => Self::CANNOT_UNDERSTAND,
            Self::OtherPatient(_) => 0xC001,
            // Duplicate SOP Instance.
            Self::Conflict | Self::OtherStudy(_) | Self::SentMeanwhile => 0x0111,
        }
    }

    /// Error: Cannot understand.
    pub(crate) const CANNOT_UNDERSTAND: u16 = 0xC000;

    /// A word, for filters and metrics.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        match self {
            Self::OutOfSpace { .. } => "out-of-space",
            Self::Disk(_) => "disk",
            Self::TooLarge { .. } => "too-large",
            Self::Unreadable(_) => "unreadable",
            Self::NotAnnounced(_) => "not-announced",
            Self::Conflict => "conflict",
            Self::OtherStudy(_) => "other-study",
            Self::OtherPatient(_) => "other-patient",
            Self::SentMeanwhile => "sent-meanwhile",
            Self::Stopping => "stopping",
        }
    }
}

/// What those who wait for studies to be whole are told.
#[derive(Debug, Clone)]
pub enum Notice {
    /// An instance is durable.
    Instance {
        /// Of what.
        stored: Stored,
        /// By whom.
        arrival: Arrival,
    },
    /// An association, request or file ended: nothing more comes of it.
    Ended(Arrival),
}

/// Takes instances in. One for all ways; cheap to clone.
#[derive(Clone)]
pub struct Intake {
    shared: Arc<Shared>,
    /// Whoever calls may wait for the disk: see [`Self::on_own_thread`].
    own_thread: bool,
}

struct Shared {
    disk: Arc<dyn Disk>,
    names: Arc<Names>,
    committer: Committer,
    folders: Folders,
    disk_free_min_mib: u64,
    options: ReadOptions,
    metrics: Arc<Metrics>,
    notices: mpsc::UnboundedSender<Notice>,
    buffers: Mutex<Vec<Vec<u8>>>,
    filed_at_once: Arc<Semaphore>,
}

impl Shared {
    /// An empty one.
    fn buffer(&self) -> Vec<u8> {
        let kept = self.buffers.lock().unwrap_or_else(PoisonError::into_inner).pop();
        kept.unwrap_or_else(|| Vec::with_capacity(BUFFER_BYTES))
    }

    /// For the next instance.
    fn keep(&self, mut buffer: Vec<u8>) {
        let mut buffers = self.buffers.lock().unwrap_or_else(PoisonError::into_inner);
        if buffers.len() < BUFFERS_MAX && (PIECE_BYTES..=BUFFER_BYTES).contains(&buffer.capacity()) {
            buffer.clear();
            buffers.push(buffer);
        }
    }

    /// Asked before each piece is written: many large instances may have begun while there was space.
    fn has_space(&self) -> Result<(), Refused> {
        let free = self.disk.free_bytes(&self.folders.data).map_err(disk)?;
        self.metrics.disk_free(free);
        match self.disk_free_min_mib {
            disk_free_min_mib if free >> 20 < disk_free_min_mib => Err(Refused::OutOfSpace { disk_free_min_mib }),
            _ => Ok(()),
        }
    }
}

/// Where files lie, below the data folder.
#[derive(Debug, Clone)]
pub(crate) struct Folders {
    pub(crate) data: PathBuf,
    pub(crate) incoming: PathBuf,
}

impl Intake {
    /// Opens the journal for what comes. It is closed when the last clone of the intake is gone.
    ///
    /// # Errors
    /// Of the file system, or the journal's.
    pub fn start(
        config: &Config,
        data: PathBuf,
        store: Store,
        disk: Arc<dyn Disk>,
        metrics: Arc<Metrics>,
    ) -> std::io::Result<(Self, mpsc::UnboundedReceiver<Notice>)> {
        let folders = Folders { incoming: data.join("incoming"), data };
        for name in ["incoming", "instances", "quarantine"] {
            disk.create_folder(&folders.data.join(name))?;
        }
        disk.sync_folder(&folders.data)?;
        let (notices, heard) = mpsc::unbounded_channel();
        let names = Arc::new(Names::new(disk.clone(), folders.data.clone()));
        let writer = store.intake_writer().map_err(std::io::Error::other)?;
        let committer = Committer::new(config, folders.data.clone(), names.clone(), metrics.clone(), writer);
        let shared = Shared {
            disk,
            names,
            committer,
            folders,
            disk_free_min_mib: config.node.disk_free_min_mib,
            options: ReadOptions::new(&config.limits, true),
            metrics,
            notices,
            buffers: Mutex::default(),
            filed_at_once: Arc::new(Semaphore::new(FILED_AT_ONCE_MAX)),
        };
        Ok((Self { shared: Arc::new(shared), own_thread: false }, heard))
    }

    /// For a thread that may wait for the disk, with a runtime of its own: what takes time is done where it is called.
    #[must_use]
    pub fn on_own_thread(&self) -> Self {
        Self { own_thread: true, ..self.clone() }
    }

    /// Where one may wait for the disk.
    async fn blocking<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> T {
        match self.own_thread {
            true => work(),
            false => blocking(work).await,
        }
    }

    /// Begins an instance.
    ///
    /// # Errors
    /// No space, or the disk cannot be written to.
    pub fn begin(&self, arrival: &Arrival, form: Form) -> Result<Incoming, Refused> {
        self.open(arrival, form).inspect_err(|refused| self.count(arrival, refused))
    }

    fn count(&self, arrival: &Arrival, refused: &Refused) {
        self.shared.metrics.instance_refused(arrival.via, refused.reason());
    }

    fn open(&self, arrival: &Arrival, form: Form) -> Result<Incoming, Refused> {
        self.shared.has_space()?;
        let Shared { disk, folders, .. } = &*self.shared;
        let path = folders.incoming.join(uuid::Uuid::now_v7().simple().to_string());
        let file = disk.create(&path).map_err(|e| Refused::Disk(e.to_string()))?;
        let mut incoming = Incoming {
            intake: self.clone(),
            arrival: arrival.clone(),
            writing: Writing::Waits(Written {
                file,
                hash: Sha256::new(),
                bytes: 0,
                piece: self.shared.buffer(),
                free: self.shared.buffer(),
            }),
            begun_bytes: 0,
            buffer: self.shared.buffer(),
            leftover: Leftover { disk: disk.clone(), path: Some(path) },
            form,
        };
        incoming.write_preamble();
        Ok(incoming)
    }

    /// Says that an association, request or file ended.
    pub fn ended(&self, arrival: &Arrival) {
        // Nobody listens when the node stops.
        let _ = self.shared.notices.send(Notice::Ended(arrival.clone()));
    }

    /// The path of a file by its name in the journal.
    #[must_use]
    pub fn path(&self, below: &str) -> PathBuf {
        self.shared.folders.data.join(below)
    }
}

/// An instance that is coming in. Dropped, it leaves nothing.
pub struct Incoming {
    intake: Intake,
    arrival: Arrival,
    form: Form,
    writing: Writing,
    /// Given to be written.
    begun_bytes: u64,
    buffer: Vec<u8>,
    leftover: Leftover,
}

/// A piece is written and hashed while the next one comes.
enum Writing {
    Waits(Written),
    Runs(JoinHandle<std::io::Result<Written>>),
    Failed,
}

/// What was written.
struct Written {
    file: Box<dyn DiskFile>,
    /// Of all but the last piece: what comes last is hashed while the disk works.
    hash: Sha256,
    bytes: u64,
    /// The last one.
    piece: Vec<u8>,
    /// The one before, for its memory.
    free: Vec<u8>,
}

impl Written {
    fn append(mut self, piece: Vec<u8>) -> std::io::Result<Self> {
        self.file.append(&piece)?;
        self.hash.update(&self.piece);
        self.bytes += piece.len() as u64;
        self.free = std::mem::replace(&mut self.piece, piece);
        self.free.clear();
        Ok(self)
    }
}

impl Writing {
    /// What was written, once the last piece is.
    async fn wait(&mut self) -> std::io::Result<Written> {
        match std::mem::replace(self, Self::Failed) {
            Self::Waits(written) => Ok(written),
            Self::Runs(running) => joined(running).await,
            Self::Failed => Err(std::io::Error::other("writing was interrupted")),
        }
    }
}

/// A file that goes unless it was taken on.
struct Leftover {
    disk: Arc<dyn Disk>,
    path: Option<PathBuf>,
}

impl Drop for Leftover {
    fn drop(&mut self) {
        if let Some(path) = &self.path
            && let Err(e) = self.disk.remove(path)
        {
            tracing::warn!("an unfinished file stays in incoming/ until the next start: {e}");
        }
    }
}

impl Incoming {
    fn write_preamble(&mut self) {
        let Form::DataSet { sop_class_uid, sop_instance_uid, transfer_syntax_uid } = &self.form else { return };
        let meta = FileMetaTableBuilder::new()
            .media_storage_sop_class_uid(sop_class_uid.as_str())
            .media_storage_sop_instance_uid(sop_instance_uid.as_str())
            .transfer_syntax(transfer_syntax_uid.as_str())
            .build()
            .expect("class, instance and transfer syntax are there");
        self.buffer.resize(128, 0);
        self.buffer.extend_from_slice(b"DICM");
        meta.write(&mut self.buffer).expect("writing to memory does not fail");
    }

    /// Adds bytes.
    ///
    /// # Errors
    /// The limit for files, or the disk.
    pub async fn write(&mut self, bytes: &[u8]) -> Result<(), Refused> {
        let written = self.append(bytes).await;
        written.inspect_err(|refused| self.intake.count(&self.arrival, refused))
    }

    async fn append(&mut self, bytes: &[u8]) -> Result<(), Refused> {
        self.buffer.extend_from_slice(bytes);
        if self.buffer.len() < PIECE_BYTES {
            return Ok(());
        }
        self.begun_bytes += self.buffer.len() as u64;
        let file_max_mib = self.intake.shared.options.file_max_mib;
        if self.begun_bytes > file_max_mib << 20 {
            return Err(Refused::TooLarge { file_max_mib });
        }
        self.intake.shared.has_space()?;
        let mut written = self.writing.wait().await.map_err(disk)?;
        let piece = std::mem::replace(&mut self.buffer, std::mem::take(&mut written.free));
        let write = move || written.append(piece);
        self.writing = match self.intake.own_thread {
            true => Writing::Waits(write().map_err(disk)?),
            false => Writing::Runs(tokio::task::spawn_blocking(write)),
        };
        Ok(())
    }

    /// Makes the instance durable. When this returns an instance, a power cut does not lose it.
    ///
    /// # Errors
    /// Everything of [`Refused`]. What is not sound or does not fit is in quarantine then, as durably.
    pub async fn finish(self) -> Result<Stored, Refused> {
        let (came, intake, arrival) = (Instant::now(), self.intake.clone(), self.arrival.clone());
        let done = self.make_durable().instrument(crate::telemetry::arrival(&arrival)).await;
        let (stored, bytes) = done.inspect_err(|refused| intake.count(&arrival, refused))?;
        intake.shared.metrics.instance_stored(arrival.via, stored.outcome, bytes, came.elapsed());
        let _ = intake.shared.notices.send(Notice::Instance { stored: stored.clone(), arrival });
        Ok(stored)
    }

    async fn make_durable(self) -> Result<(Stored, u64), Refused> {
        let Self { intake, arrival, form, mut writing, buffer, leftover, .. } = self;
        let written = writing.wait().await.map_err(disk)?;
        // Threads that are lent are fewer than associations may be.
        let place = match intake.own_thread {
            true => None,
            false => Some(intake.shared.filed_at_once.clone().acquire_owned().await.map_err(|_| Refused::Stopping)?),
        };
        let shared = intake.shared.clone();
        let file = move || {
            let _place = place;
            shared.file(written, buffer, leftover, &form, arrival)
        };
        intake.blocking(file).await
    }
}

impl Shared {
    /// Writes the rest, looks at the file, makes it and its name durable, and journals it; what it is, and its size. From the
    /// first byte here to the answer nothing can come between, whoever waits for that.
    fn file(
        &self,
        written: Written,
        rest: Vec<u8>,
        mut leftover: Leftover,
        form: &Form,
        arrival: Arrival,
    ) -> Result<(Stored, u64), Refused> {
        let Written { mut file, mut hash, bytes, piece, free } = written;
        let options = &self.options;
        let bytes = bytes + rest.len() as u64;
        if bytes > options.file_max_mib << 20 {
            return Err(Refused::TooLarge { file_max_mib: options.file_max_mib });
        }
        file.append(&rest).map_err(disk)?;
        // The disk works while the rest is hashed and the file looked at.
        file.begin_sync();
        [&piece, &rest].iter().for_each(|piece| hash.update(piece));
        [piece, rest, free].into_iter().for_each(|buffer| self.keep(buffer));
        let sha256: [u8; 32] = hash.finalize().into();
        let mut path = leftover.path.clone().ok_or_else(|| disk(std::io::Error::other("the file is gone")))?;
        let entry = study::inspect(&path, options).map_err(|e| unreadable(&e));
        let entry = entry.and_then(|entry| announced(entry, form)).map(Box::new);
        let received_ms = crate::store::now_ms();
        let own = path.file_name().unwrap_or_default().to_string_lossy();
        let name = format!("{}-{own}.dcm", crate::hex(&sha256));
        // A new name takes nothing away, so it need not wait for the bytes: a journalling file system makes both durable in
        // one go. It means nothing until the journal has it.
        let entry = match entry {
            Ok(entry) => {
                let below = commit::below("instances", received_ms, &name);
                path = self.names.give(&path, &below).map_err(|NoRoom(why)| Refused::Disk(why))?;
                leftover.path = Some(path.clone());
                Ok((entry, below))
            }
            Err(refused) => {
                let (reason, detail) = (refused.reason(), refused.to_string());
                Err((Quarantined { reason, detail, sop_instance_uid: form.sop_instance_uid() }, refused))
            }
        };
        file.sync().unwrap_or_else(|e| commit::fatal("fsync of an instance", &e));
        leftover.path = None;
        let stored = self.committer.journal(Filing { path, entry, name, bytes, sha256, received_ms, arrival })?;
        Ok((stored, bytes))
    }
}

impl Form {
    fn sop_instance_uid(&self) -> String {
        match self {
            Self::DataSet { sop_instance_uid, .. } => sop_instance_uid.to_string(),
            Self::File | Self::FileOfStudy(_) | Self::Asked(_) => String::new(),
        }
    }
}

/// What came, if it is what its sender said it would be: in the file meta information, in the command of which we made
/// that, or in the path of the request; or what was asked for.
fn announced(entry: Entry, form: &Form) -> Result<Entry, Refused> {
    let (study, patient) = match form {
        Form::DataSet { .. } | Form::File => (None, None),
        Form::FileOfStudy(study) => (Some(study), None),
        Form::Asked(asked) => (Some(&asked.study), Some(&asked.patient)),
    };
    let other_study = study.filter(|study| study.as_str() != entry.study.uid).map(|_| "StudyInstanceUID (0020,000D)");
    if let Some(what) = entry.contradicts_meta().or(other_study) {
        return Err(Refused::NotAnnounced(what));
    }
    match patient.and_then(|patient| patient.differs(&entry.patient)) {
        Some(by) => Err(Refused::OtherPatient(by)),
        None => Ok(entry),
    }
}

/// Without the path, which is ours and means nothing to the peer.
fn unreadable(error: &ReadError) -> Refused {
    Refused::Unreadable(error.for_record(&|_| "the instance".into()).to_string())
}

fn disk(error: std::io::Error) -> Refused {
    Refused::Disk(error.to_string())
}

/// Runs on a thread that may wait for the disk.
pub(crate) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    joined(tokio::task::spawn_blocking(work)).await
}

/// What such a thread returns; its panic goes on here.
async fn joined<T>(work: JoinHandle<T>) -> T {
    match work.await {
        Ok(done) => done,
        Err(e) if e.is_panic() => std::panic::resume_unwind(e.into_panic()),
        // The runtime stops and drops this task too.
        Err(_) => std::future::pending().await,
    }
}
