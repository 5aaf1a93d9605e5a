//! What a power cut leaves of the write path, at every point where one may fall.
//!
//! ```text
//! real intake, recorded ─▶ log of operations, journal commits, acknowledgements ─▶ every prefix × what may be lost ─▶ check
//! ```
//!
//! The model is harsher than file systems are. Bytes that were not synced may be there, gone, cut short or zeros. What
//! happened to the names in a folder that was not synced may be there or gone, folder by folder, in order. A commit of the
//! journal may be durable from the moment SQLite begins it, and is from the acknowledgement on.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use dicom_core::VR;
use dicom_dictionary_std::{tags, uids};
use dicom_object::{FileMetaTableBuilder, InMemDicomObject};
use rusqlite::hooks::Action;
use sha2::{Digest, Sha256};

use super::disk::{Disk, DiskFile, RealDisk};
use super::{Arrival, Form, Intake, Outcome, Refused, Stored, Via};
use crate::config::{Config, Duplicates};
use crate::store::Store;

/// Random choices for each crash point, besides the extremes.
const RANDOM_CHOICES: u64 = 12;

type Digest32 = [u8; 32];

/// One step of the write path, in the order in which they happened. Paths are below the data folder.
#[derive(Debug, Clone)]
enum Op {
    Create(PathBuf, usize),
    Append(usize, Vec<u8>),
    Sync(usize),
    Rename(PathBuf, PathBuf),
    SyncFolder(PathBuf),
    CreateFolder(PathBuf),
    Remove(PathBuf),
    /// SQLite begins to commit: instances that appear and go, by the number of their row.
    Commit(Vec<(Action, i64)>),
    /// A sender is told that the instance is kept: its UID, and the digest of what is kept.
    Acknowledge(String, Digest32),
}

/// Writes to the real disk and remembers what it did.
#[derive(Clone)]
struct Recorder {
    data: PathBuf,
    log: Arc<Mutex<Vec<Op>>>,
    files: Arc<Mutex<usize>>,
    full: Arc<AtomicBool>,
    no_folders: Arc<AtomicBool>,
    fails_to_sync: bool,
}

struct RecordedFile {
    recorder: Recorder,
    number: usize,
    file: Box<dyn DiskFile>,
}

impl Recorder {
    fn new(data: &Path) -> Self {
        let (log, files, full, no_folders) = Default::default();
        Self { data: data.to_owned(), log, files, full, no_folders, fails_to_sync: false }
    }

    fn note(&self, op: Op) {
        self.log.lock().expect("nobody failed").push(op);
    }

    fn below(&self, path: &Path) -> PathBuf {
        path.strip_prefix(&self.data).expect("the write path stays in the data folder").to_owned()
    }
}

// What gives is noted before it is done, what takes after: a note never promises more than the disk.
impl Disk for Recorder {
    fn create(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        let file = RealDisk.create(path)?;
        let mut files = self.files.lock().expect("nobody failed");
        let number = *files;
        *files += 1;
        self.note(Op::Create(self.below(path), number));
        Ok(Box::new(RecordedFile { recorder: self.clone(), number, file }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.note(Op::Rename(self.below(from), self.below(to)));
        RealDisk.rename(from, to)
    }

    fn sync_folder(&self, folder: &Path) -> io::Result<()> {
        RealDisk.sync_folder(folder)?;
        self.note(Op::SyncFolder(self.below(folder)));
        Ok(())
    }

    fn create_folder(&self, folder: &Path) -> io::Result<()> {
        if self.no_folders.load(Ordering::SeqCst) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.note(Op::CreateFolder(self.below(folder)));
        RealDisk.create_folder(folder)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.note(Op::Remove(self.below(path)));
        RealDisk.remove(path)
    }

    fn remove_tree(&self, _: &Path) -> io::Result<()> {
        unreachable!("the write path removes no folder")
    }

    fn remove_folder(&self, _: &Path) -> io::Result<()> {
        unreachable!("the write path removes no folder")
    }

    fn free_bytes(&self, folder: &Path) -> io::Result<u64> {
        RealDisk.free_bytes(folder)
    }
}

impl DiskFile for RecordedFile {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        if self.recorder.full.load(Ordering::SeqCst) {
            // As the kernel does: some bytes fit.
            self.file.append(bytes.get(..bytes.len() / 2).unwrap_or_default())?;
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.recorder.note(Op::Append(self.number, bytes.to_vec()));
        self.file.append(bytes)
    }

    fn sync(&mut self) -> io::Result<()> {
        if self.recorder.fails_to_sync {
            return Err(io::Error::other("the medium failed"));
        }
        self.file.sync()?;
        self.recorder.note(Op::Sync(self.number));
        Ok(())
    }
}

/// A node's intake on a recorded disk.
struct Recording {
    folder: tempfile::TempDir,
    recorder: Recorder,
    intake: Intake,
    store: Store,
    rows: Mutex<HashMap<i64, Row>>,
    /// What was sent under a UID, in order.
    sent: Mutex<HashMap<String, Vec<Digest32>>>,
}

/// What the journal says of an instance: its UID, where its file lies, and the file's digest.
type Row = (String, PathBuf, Digest32);

impl Recording {
    async fn start(prepare: impl FnOnce(&mut Recorder)) -> Self {
        Self::start_with(prepare, Duplicates::Refuse).await
    }

    async fn start_with(prepare: impl FnOnce(&mut Recorder), duplicates: Duplicates) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let mut recorder = Recorder::new(folder.path());
        prepare(&mut recorder);
        let noted = recorder.clone();
        let store = Store::open_watched(folder.path(), move |changes| {
            let instances = changes.iter().filter(|change| change.table == "instance");
            noted.note(Op::Commit(instances.map(|change| (change.action, change.row)).collect()));
        });
        let store = store.await.expect("a journal");
        Self::on(folder, recorder, store, duplicates)
    }

    fn on(folder: tempfile::TempDir, recorder: Recorder, store: Store, duplicates: Duplicates) -> Self {
        let mut config = Config::default();
        config.node.disk_free_min_mib = 0;
        config.node.duplicates = duplicates;
        let (disk, metrics) = (Arc::new(recorder.clone()), crate::metrics::Metrics::new());
        let started = Intake::start(&config, folder.path().to_owned(), store.clone(), disk, metrics);
        let (intake, _) = started.expect("starts");
        Self { folder, recorder, intake, store, rows: Mutex::default(), sent: Mutex::default() }
    }

    async fn send(&self, bytes: &[u8]) -> Result<Stored, Refused> {
        let mut incoming = self.intake.begin(&Arrival::new(Via::Folder, "TEST"), Form::File)?;
        for piece in bytes.chunks(100_000) {
            incoming.write(piece).await?;
        }
        incoming.finish().await
    }

    /// Sends an instance, which is kept, and remembers what it was told.
    async fn keep(&self, uid: &str, bytes: &[u8]) -> Outcome {
        let digest = Sha256::digest(bytes).into();
        self.sent.lock().expect("nobody failed").entry(uid.to_owned()).or_default().push(digest);
        let stored = self.send(bytes).await.expect("kept");
        self.recorder.note(Op::Acknowledge(uid.to_owned(), digest));
        let row = self.store.instance(uid).await.expect("readable").expect("every instance is journalled");
        let noted = (uid.to_owned(), PathBuf::from(row.path), row.sha256);
        self.rows.lock().expect("nobody failed").insert(row.id, noted);
        stored.outcome
    }

    /// Several at a time, so that commits are shared and files are written side by side; what each was.
    async fn keep_all(&self, files: &[(String, Vec<u8>)], at_once: usize) -> Vec<Outcome> {
        let mut outcomes = Vec::new();
        for some in files.chunks(at_once) {
            let kept = some.iter().map(|(uid, bytes)| self.keep(uid, bytes));
            outcomes.extend(futures_util::future::join_all(kept).await);
        }
        outcomes
    }

    async fn end(self) -> History {
        drop(self.intake);
        self.store.close().await;
        let log = self.recorder.log.lock().expect("nobody failed").clone();
        let (rows, sent) = (self.rows.into_inner(), self.sent.into_inner());
        History { log, rows: rows.expect("nobody failed"), sent: sent.expect("nobody failed") }
    }
}

#[derive(Clone)]
struct History {
    log: Vec<Op>,
    rows: HashMap<i64, Row>,
    sent: HashMap<String, Vec<Digest32>>,
}

/// What happens to what is not durable.
#[derive(Debug, Clone, Copy)]
enum Chance {
    Lost,
    Kept,
    /// Names are kept and bytes are lost, as with delayed allocation.
    NamesOnly,
    Random(u64),
}

/// SplitMix64: the same choices on every machine.
struct Choices(Chance);

impl Choices {
    /// How many of `n` stay.
    fn of(&mut self, n: usize, names: bool) -> usize {
        match &mut self.0 {
            Chance::Lost => 0,
            Chance::Kept => n,
            Chance::NamesOnly => usize::from(names) * n,
            Chance::Random(state) => {
                *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
                let mut z = *state;
                z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
                z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
                usize::try_from((z ^ (z >> 31)) % (n as u64 + 1)).expect("at most n")
            }
        }
    }
}

#[derive(Clone)]
enum Entry {
    File(usize),
    Folder,
}

#[derive(Default)]
struct Names {
    durable: BTreeMap<PathBuf, Entry>,
    /// In order; `None` takes a name away.
    pending: Vec<(PathBuf, Option<Entry>)>,
}

/// A file system at a moment: what is durable, and what is not yet.
#[derive(Default)]
struct Model {
    folders: BTreeMap<PathBuf, Names>,
    /// What runs now sees: all of it.
    seen: BTreeMap<PathBuf, Entry>,
    /// Bytes, and how many of them are durable.
    files: HashMap<usize, (Vec<u8>, usize)>,
    commits: Vec<Vec<(Action, i64)>>,
    acknowledged: BTreeSet<(String, Digest32)>,
}

impl Model {
    fn change(&mut self, path: &Path, entry: Option<Entry>) {
        match entry.clone() {
            Some(entry) => self.seen.insert(path.to_owned(), entry),
            None => self.seen.remove(path),
        };
        let folder = path.parent().expect("all is below the data folder").to_owned();
        self.folders.entry(folder).or_default().pending.push((path.to_owned(), entry));
    }

    fn apply(&mut self, op: &Op) {
        match op {
            Op::Create(path, number) => {
                self.files.insert(*number, (Vec::new(), 0));
                self.change(path, Some(Entry::File(*number)));
            }
            Op::Append(number, bytes) => self.files.get_mut(number).expect("created").0.extend_from_slice(bytes),
            Op::Sync(number) => {
                let (bytes, durable) = self.files.get_mut(number).expect("created");
                *durable = bytes.len();
            }
            Op::Rename(from, to) => {
                let entry = self.seen.get(from).cloned().expect("it was there to be renamed");
                self.change(from, None);
                self.change(to, Some(entry));
            }
            Op::SyncFolder(folder) => {
                let names = self.folders.entry(folder.clone()).or_default();
                for (path, entry) in names.pending.drain(..) {
                    set(&mut names.durable, path, entry);
                }
            }
            Op::CreateFolder(folder) => {
                let above: Vec<_> = folder.ancestors().filter(|f| !f.as_os_str().is_empty()).collect();
                for folder in above.into_iter().rev() {
                    if !self.seen.contains_key(folder) {
                        self.change(folder, Some(Entry::Folder));
                    }
                }
            }
            Op::Remove(path) => self.change(path, None),
            Op::Commit(rows) => self.commits.push(rows.clone()),
            Op::Acknowledge(uid, digest) => drop(self.acknowledged.insert((uid.clone(), *digest))),
        }
    }

    /// The files that are there after a power cut.
    fn after_power_cut(&self, choices: &mut Choices) -> BTreeMap<PathBuf, Vec<u8>> {
        let mut names: BTreeMap<PathBuf, Entry> = BTreeMap::new();
        for folder in self.folders.values() {
            let mut left = folder.durable.clone();
            let kept = choices.of(folder.pending.len(), true);
            folder.pending.iter().take(kept).for_each(|(path, entry)| set(&mut left, path.clone(), entry.clone()));
            names.extend(left);
        }
        let is_reachable = |path: &Path| {
            let above = path.ancestors().skip(1).filter(|f| !f.as_os_str().is_empty());
            above.into_iter().all(|f| matches!(names.get(f), Some(Entry::Folder)))
        };
        let mut left = BTreeMap::new();
        for (path, entry) in &names {
            if let Entry::File(number) = entry
                && is_reachable(path)
            {
                let (bytes, durable) = &self.files[number];
                let kept = durable + choices.of(bytes.len() - durable, false);
                let mut content = bytes[..kept].to_vec();
                if choices.of(1, false) == 0 && matches!(choices.0, Chance::Random(_)) {
                    // The size is durable, the bytes are not.
                    content.resize(bytes.len(), 0);
                }
                left.insert(path.clone(), content);
            }
        }
        left
    }
}

fn set(names: &mut BTreeMap<PathBuf, Entry>, path: PathBuf, entry: Option<Entry>) {
    match entry {
        Some(entry) => names.insert(path, entry),
        None => names.remove(&path),
    };
}

impl History {
    /// Cuts the power after every operation, and says how often that was survived, or what was lost first.
    fn check(&self) -> Result<usize, String> {
        let (mut model, mut survived) = (Model::default(), 0);
        for (point, op) in self.log.iter().enumerate() {
            model.apply(op);
            let random = (0..RANDOM_CHOICES).map(|n| Chance::Random(point as u64 * 1000 + n));
            for chance in [Chance::Lost, Chance::Kept, Chance::NamesOnly].into_iter().chain(random) {
                let what = |fault| format!("power cut after operation {point} ({chance:?}): {fault}");
                self.check_one(&model, &mut Choices(chance)).map_err(what)?;
                survived += 1;
            }
        }
        Ok(survived)
    }

    fn check_one(&self, model: &Model, choices: &mut Choices) -> Result<(), String> {
        let files = model.after_power_cut(choices);
        // SQLite's commits are in order; one that somebody was told of is durable.
        let added = |(action, row): &(Action, i64)| *action == Action::SQLITE_INSERT && self.told(model, *row);
        let durable = model.commits.iter().rposition(|commit| commit.iter().any(added)).map_or(0, |last| last + 1);
        let commits = durable + choices.of(model.commits.len() - durable, true);
        let mut live: BTreeMap<i64, &Row> = BTreeMap::new();
        for (action, row) in model.commits.iter().take(commits).flatten() {
            match (action, self.rows.get(row)) {
                (Action::SQLITE_INSERT, Some(known)) => drop(live.insert(*row, known)),
                (Action::SQLITE_DELETE, _) => drop(live.remove(row)),
                _ => {}
            }
        }
        let mut journalled: HashMap<&str, Digest32> = HashMap::new();
        for (uid, path, sha256) in live.into_values() {
            let bytes = files.get(path).ok_or(format!("{uid} is journalled, and its file is gone"))?;
            let digest = Digest32::from(Sha256::digest(bytes));
            if digest != *sha256 || self.place(uid, &digest).is_none() {
                return Err(format!("{uid} is journalled, and its file is not what was sent"));
            }
            if journalled.insert(uid, digest).is_some() {
                return Err(format!("{uid} is journalled twice"));
            }
        }
        for (uid, digest) in &model.acknowledged {
            let kept = journalled.get(uid.as_str()).and_then(|kept| self.place(uid, kept));
            if kept < self.place(uid, digest) {
                return Err(format!("{uid} is acknowledged, and the journal does not know it, or an older one"));
            }
        }
        Ok(())
    }

    /// Which of those that were sent under a UID has this digest.
    fn place(&self, uid: &str, digest: &Digest32) -> Option<usize> {
        self.sent.get(uid)?.iter().position(|sent| sent == digest)
    }

    /// Whether a sender was told that what this row is of is kept.
    fn told(&self, model: &Model, row: i64) -> bool {
        let known = self.rows.get(&row).map(|(uid, _, sha256)| (uid.clone(), *sha256));
        known.is_some_and(|known| model.acknowledged.contains(&known))
    }

    fn without(&self, left_out: impl Fn(&Op) -> bool) -> Self {
        let log = self.log.iter().filter(|op| !left_out(op)).cloned().collect();
        Self { log, ..self.clone() }
    }

    /// Moves each operation of a kind before the one that precedes it, `by` times.
    fn earlier(&self, moved: impl Fn(&Op) -> bool, by: usize) -> Self {
        let mut log = self.log.clone();
        for index in 0..log.len() {
            if moved(&log[index]) {
                (index.saturating_sub(by)..index).rev().for_each(|i| log.swap(i, i + 1));
            }
        }
        Self { log, ..self.clone() }
    }
}

/// UID and bytes of a small secondary capture of its own, with bytes enough for several writes every third time.
fn file(number: u32) -> (String, Vec<u8>) {
    version(number, 0)
}

/// As [`file`]; each version has other bytes under the same UID.
fn version(number: u32, version: u8) -> (String, Vec<u8>) {
    let uid = format!("2.25.1000{number}");
    let mut object = InMemDicomObject::new_empty();
    for (tag, vr, value) in [
        (tags::SOP_CLASS_UID, VR::UI, uids::SECONDARY_CAPTURE_IMAGE_STORAGE.to_owned()),
        (tags::SOP_INSTANCE_UID, VR::UI, uid.clone()),
        (tags::STUDY_INSTANCE_UID, VR::UI, format!("2.25.2000{}", number / 4)),
        (tags::SERIES_INSTANCE_UID, VR::UI, format!("2.25.3000{}", number / 4)),
        (tags::MODALITY, VR::CS, "OT".to_owned()),
    ] {
        object.put_str(tag, vr, value);
    }
    let bytes = vec![number.to_le_bytes()[0] ^ (version << 4); if number.is_multiple_of(3) { 600_000 } else { 4_000 }];
    object.put(dicom_core::DataElement::new(tags::PIXEL_DATA, VR::OB, dicom_core::PrimitiveValue::from(bytes)));
    let meta = FileMetaTableBuilder::new().transfer_syntax(uids::EXPLICIT_VR_LITTLE_ENDIAN);
    let mut bytes = Vec::new();
    object.with_meta(meta).expect("complete").write_all(&mut bytes).expect("writing to memory does not fail");
    (uid, bytes)
}

fn files(numbers: std::ops::Range<u32>) -> Vec<(String, Vec<u8>)> {
    numbers.map(file).collect()
}

async fn history() -> History {
    let recording = Recording::start(|_| {}).await;
    recording.keep_all(&files(0..4), 1).await;
    recording.keep_all(&files(4..16), 6).await;
    recording.end().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_power_cut_at_any_point_loses_nothing_that_was_acknowledged() {
    let history = history().await;
    let count = |of: fn(&Op) -> bool| history.log.iter().filter(|op| of(op)).count();
    assert_eq!(count(|op| matches!(op, Op::Acknowledge(..))), 16);
    assert!(count(|op| matches!(op, Op::Commit(rows) if !rows.is_empty())) >= 5, "commits are seen");
    let survived = history.check().expect("nothing is lost");
    assert_eq!(survived, history.log.len() * (3 + RANDOM_CHOICES as usize));
}

/// A check that nothing can fail proves nothing.
#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_lies_and_an_order_that_is_wrong_are_found() {
    let history = history().await;
    let is_commit = |op: &Op| matches!(op, Op::Commit(rows) if !rows.is_empty());
    for (what, broken) in [
        ("files are not synced", history.without(|op| matches!(op, Op::Sync(_)))),
        ("folders are not synced", history.without(|op| matches!(op, Op::SyncFolder(_)))),
        (
            "the hour's folder alone is not synced",
            history.without(|op| matches!(op, Op::SyncFolder(folder) if folder.components().count() == 3)),
        ),
        (
            "the folder above alone is not synced",
            history.without(|op| matches!(op, Op::SyncFolder(folder) if folder.components().count() == 2)),
        ),
        ("the journal commits before the folder is synced", history.earlier(is_commit, 1)),
        ("the journal commits before the name is there", history.earlier(is_commit, 5)),
        ("the acknowledgement comes before the commit", history.earlier(|op| matches!(op, Op::Acknowledge(..)), 1)),
    ] {
        assert!(broken.check().is_err(), "{what}: not found");
    }
}

/// An instance that is known comes again: the same bytes, and others that take its place.
#[tokio::test(flavor = "multi_thread")]
async fn a_power_cut_while_a_known_instance_is_overwritten_leaves_the_one_or_the_other() {
    let recording = Recording::start_with(|_| {}, Duplicates::Replace).await;
    let first = files(0..4);
    let second: Vec<_> = (0..4).map(|number| version(number, 1)).collect();
    assert_eq!(recording.keep_all(&first, 2).await, [Outcome::New; 4]);
    assert_eq!(recording.keep_all(&first, 2).await, [Outcome::Same; 4]);
    let others = recording.recorder.log.lock().expect("nobody failed").len();
    assert_eq!(recording.keep_all(&second, 3).await, [Outcome::Replaced; 4]);
    let again = recording.recorder.log.lock().expect("nobody failed").len();
    assert_eq!(recording.keep_all(&second, 1).await, [Outcome::Same; 4]);
    let history = recording.end().await;
    history.check().expect("nothing is lost");
    // What was sent again takes the place of what is kept, and so must be durable before.
    let synced = |from: usize, to: usize| {
        let ops = history.log.iter().enumerate();
        let left_out = ops.filter(|(n, op)| (from..to).contains(n) && matches!(op, Op::Sync(_))).map(|(n, _)| n);
        let left_out: BTreeSet<_> = left_out.collect();
        let log = history.log.iter().enumerate().filter(|(n, _)| !left_out.contains(n)).map(|(_, op)| op.clone());
        History { log: log.collect(), ..history.clone() }
    };
    assert!(synced(others, again).check().is_err(), "what replaces is not synced: not found");
    assert!(synced(again, history.log.len()).check().is_err(), "what is restored is not synced: not found");
}

/// A process that was killed can leave a folder that the next one finds, and that a power cut still takes.
#[tokio::test(flavor = "multi_thread")]
async fn a_folder_that_a_killed_process_left_is_made_durable_before_it_is_used() {
    let recording = Recording::start(|recorder| {
        let now = chrono::Utc::now();
        for time in [now, now + chrono::Duration::hours(1)] {
            let hour = recorder.data.join(format!("instances/{}", time.format("%Y%m%d/%H")));
            recorder.create_folder(&hour).expect("made");
        }
    })
    .await;
    recording.keep_all(&files(0..2), 1).await;
    recording.end().await.check().expect("nothing is lost");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_refuses_leaves_nothing_and_passes() {
    let recording = Recording::start(|_| {}).await;
    recording.recorder.full.store(true, Ordering::SeqCst);
    // Full in the middle, and at the end.
    for number in [0, 1] {
        let refused = recording.send(&file(number).1).await.expect_err("there is no space");
        assert!(matches!(refused, Refused::Disk(_)), "{refused:?}");
    }
    let incoming = std::fs::read_dir(recording.folder.path().join("incoming")).expect("there");
    assert_eq!(incoming.count(), 0);
    recording.recorder.full.store(false, Ordering::SeqCst);
    assert_eq!(recording.send(&file(0).1).await.expect("there is space").outcome, Outcome::New);
    assert!(recording.store.instance("2.25.10001").await.expect("readable").is_none());
}

/// Nothing was promised when the disk says that it is full, so the node goes on.
#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_is_full_for_a_folder_or_the_journal_refuses_leaves_nothing_and_passes() {
    let recording = Recording::start(|_| {}).await;
    let (uid, bytes) = file(1);
    let mut incoming = recording.intake.begin(&Arrival::new(Via::Folder, "TEST"), Form::File).expect("space");
    incoming.write(&bytes).await.expect("space");
    // The last bytes are written, and the hour's folder cannot be made.
    recording.recorder.no_folders.store(true, Ordering::SeqCst);
    let refused = incoming.finish().await.expect_err("there is no space");
    assert!(matches!(refused, Refused::Disk(_)), "{refused:?}");
    assert_eq!(left(&recording), 0);
    recording.recorder.no_folders.store(false, Ordering::SeqCst);
    assert_eq!(recording.keep(&uid, &bytes).await, Outcome::New);

    let folder = tempfile::tempdir().expect("a folder");
    let recorder = Recorder::new(folder.path());
    let pages = Store::open(folder.path()).await.expect("a journal").pages().await + 12;
    let store = Store::open_small(folder.path(), pages).await.expect("a journal");
    let recording = Recording::on(folder, recorder, store, Duplicates::Refuse);
    let mut kept = 0;
    let refused = loop {
        match recording.send(&file(kept * 4).1).await {
            Ok(_) => kept += 1,
            Err(refused) => break refused,
        }
        assert!(kept < 500, "the journal is never full");
    };
    assert!(matches!(&refused, Refused::Disk(why) if why.contains("full")), "{refused:?}");
    assert_eq!(refused.code(), 0xA701);
    assert!(kept > 0);
    assert_eq!(left(&recording), kept as usize, "what was kept, and no other file");
    assert!(recording.store.instance(&file(kept * 4).0).await.expect("readable").is_none());
    assert!(recording.store.instance(&file(0).0).await.expect("readable").is_some());
}

/// Files below the data folder, without the journal's.
fn left(recording: &Recording) -> usize {
    let walk = walkdir::WalkDir::new(recording.folder.path()).into_iter().map(|entry| entry.expect("readable"));
    walk.filter(|entry| entry.file_type().is_file() && entry.depth() > 1).count()
}

/// What ends a process is seen from another one.
#[test]
fn a_failed_fsync_ends_the_process() {
    const CHILD: &str = "GANTRY_TEST_FSYNC_FAILS";
    const THIS: &str = "ingest::crash::a_failed_fsync_ends_the_process";
    if std::env::var_os(CHILD).is_some() {
        let runtime = tokio::runtime::Runtime::new().expect("a runtime");
        let answer = runtime.block_on(async {
            Recording::start(|recorder| recorder.fails_to_sync = true).await.send(&file(0).1).await
        });
        // Seen only when the process goes on.
        println!("answered: {answer:?}");
        return;
    }
    let this = std::env::current_exe().expect("a test binary");
    let child = Command::new(this).args(["--exact", THIS, "--nocapture"]).env(CHILD, "1").output().expect("runs");
    let signal = std::os::unix::process::ExitStatusExt::signal(&child.status);
    assert_eq!(signal, Some(rustix::process::Signal::ABORT.as_raw()), "{child:?}");
    assert!(!String::from_utf8_lossy(&child.stdout).contains("answered"), "{child:?}");
}
