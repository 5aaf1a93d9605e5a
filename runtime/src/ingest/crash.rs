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
use sha2::{Digest, Sha256};

use super::disk::{Disk, DiskFile, RealDisk};
use super::{Arrival, Form, Intake, Outcome, Refused, Stored, Via};
use crate::config::Config;
use crate::store::{Change, Store};

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
    /// SQLite begins to commit: rows that appear, by table and number.
    Commit(Vec<(String, i64)>),
    /// A sender is told that the instance is kept.
    Acknowledge(String),
}

/// Writes to the real disk and remembers what it did.
#[derive(Clone)]
struct Recorder {
    data: PathBuf,
    log: Arc<Mutex<Vec<Op>>>,
    files: Arc<Mutex<usize>>,
    full: Arc<AtomicBool>,
    fails_to_sync: bool,
}

struct RecordedFile {
    recorder: Recorder,
    number: usize,
    file: Box<dyn DiskFile>,
}

impl Recorder {
    fn new(data: &Path) -> Self {
        let (log, files, full) = Default::default();
        Self { data: data.to_owned(), log, files, full, fails_to_sync: false }
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
    expected: HashMap<String, Digest32>,
}

impl Recording {
    async fn start(prepare: impl FnOnce(&mut Recorder)) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let mut recorder = Recorder::new(folder.path());
        prepare(&mut recorder);
        let noted = recorder.clone();
        let store = Store::open_watched(folder.path(), move |changes| {
            let added = changes.iter().filter(|c| c.added).map(|Change { table, row, .. }| (table.clone(), *row));
            noted.note(Op::Commit(added.collect()));
        });
        let store = store.await.expect("a journal");
        let mut config = Config::default();
        config.node.disk_free_min_mib = 0;
        let disk = Arc::new(recorder.clone());
        let (intake, _) =
            Intake::start(&config, folder.path().to_owned(), store.clone(), disk, crate::metrics::Metrics::new())
                .expect("starts");
        Self { folder, recorder, intake, store, expected: HashMap::new() }
    }

    async fn send(&self, bytes: &[u8]) -> Result<Stored, Refused> {
        let mut incoming = self.intake.begin(&Arrival::new(Via::Folder, "TEST"), Form::File)?;
        for piece in bytes.chunks(100_000) {
            incoming.write(piece).await?;
        }
        let stored = incoming.finish().await?;
        if stored.outcome == Outcome::New {
            self.recorder.note(Op::Acknowledge(stored.sop_instance_uid.clone()));
        }
        Ok(stored)
    }

    /// Several at a time, so that commits are shared and files are written side by side.
    async fn send_many(&mut self, numbers: std::ops::Range<u32>, at_once: usize) {
        let files: Vec<_> = numbers.map(|n| (format!("2.25.1000{n}"), file(n))).collect();
        for (uid, bytes) in &files {
            self.expected.insert(uid.clone(), Sha256::digest(bytes).into());
        }
        for some in files.chunks(at_once) {
            let sent = futures_util::future::join_all(some.iter().map(|(_, bytes)| self.send(bytes))).await;
            assert!(sent.iter().all(Result::is_ok), "{sent:?}");
        }
    }

    /// What was recorded, and what the journal's rows say.
    async fn end(self) -> History {
        let mut rows = HashMap::new();
        for uid in self.expected.keys() {
            let row = self.store.instance(uid).await.expect("readable").expect("every instance is journalled");
            rows.insert(row.id, (uid.clone(), PathBuf::from(row.path), row.sha256));
        }
        drop(self.intake);
        self.store.close().await;
        let log = self.recorder.log.lock().expect("nobody failed").clone();
        History { log, rows, expected: self.expected }
    }
}

#[derive(Clone)]
struct History {
    log: Vec<Op>,
    rows: HashMap<i64, (String, PathBuf, Digest32)>,
    expected: HashMap<String, Digest32>,
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
    commits: Vec<Vec<(String, i64)>>,
    acknowledged: BTreeSet<String>,
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
            Op::Acknowledge(uid) => drop(self.acknowledged.insert(uid.clone())),
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
        let uid = |(table, row): &(String, i64)| (table == "instance").then(|| self.rows.get(row)).flatten();
        let tells = |commit: &Vec<(String, i64)>| {
            commit.iter().filter_map(uid).any(|(uid, ..)| model.acknowledged.contains(uid))
        };
        let durable = model.commits.iter().rposition(tells).map_or(0, |last| last + 1);
        let commits = durable + choices.of(model.commits.len() - durable, true);
        let mut journalled = BTreeSet::new();
        for (uid, path, sha256) in model.commits.iter().take(commits).flatten().filter_map(uid) {
            let bytes = files.get(path).ok_or(format!("{uid} is journalled, and its file is gone"))?;
            let digest = Digest32::from(Sha256::digest(bytes));
            if digest != *sha256 || Some(&digest) != self.expected.get(uid) {
                return Err(format!("{uid} is journalled, and its file is not what was sent"));
            }
            journalled.insert(uid);
        }
        match model.acknowledged.iter().find(|uid| !journalled.contains(uid)) {
            Some(uid) => Err(format!("{uid} is acknowledged, and the journal does not know it")),
            None => Ok(()),
        }
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

/// A small secondary capture of its own, with bytes enough for several writes every third time.
fn file(number: u32) -> Vec<u8> {
    let mut object = InMemDicomObject::new_empty();
    for (tag, vr, value) in [
        (tags::SOP_CLASS_UID, VR::UI, uids::SECONDARY_CAPTURE_IMAGE_STORAGE.to_owned()),
        (tags::SOP_INSTANCE_UID, VR::UI, format!("2.25.1000{number}")),
        (tags::STUDY_INSTANCE_UID, VR::UI, format!("2.25.2000{}", number / 4)),
        (tags::SERIES_INSTANCE_UID, VR::UI, format!("2.25.3000{}", number / 4)),
        (tags::MODALITY, VR::CS, "OT".to_owned()),
    ] {
        object.put_str(tag, vr, value);
    }
    let bytes = vec![number.to_le_bytes()[0]; if number.is_multiple_of(3) { 600_000 } else { 4_000 }];
    object.put(dicom_core::DataElement::new(tags::PIXEL_DATA, VR::OB, dicom_core::PrimitiveValue::from(bytes)));
    let meta = FileMetaTableBuilder::new().transfer_syntax(uids::EXPLICIT_VR_LITTLE_ENDIAN);
    let mut bytes = Vec::new();
    object.with_meta(meta).expect("complete").write_all(&mut bytes).expect("writing to memory does not fail");
    bytes
}

async fn history() -> History {
    let mut recording = Recording::start(|_| {}).await;
    recording.send_many(0..4, 1).await;
    recording.send_many(4..16, 6).await;
    recording.end().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_power_cut_at_any_point_loses_nothing_that_was_acknowledged() {
    let history = history().await;
    let count = |of: fn(&Op) -> bool| history.log.iter().filter(|op| of(op)).count();
    assert_eq!(count(|op| matches!(op, Op::Acknowledge(_))), 16);
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
        ("the acknowledgement comes before the commit", history.earlier(|op| matches!(op, Op::Acknowledge(_)), 1)),
    ] {
        assert!(broken.check().is_err(), "{what}: not found");
    }
}

/// A process that was killed can leave a folder that the next one finds, and that a power cut still takes.
#[tokio::test(flavor = "multi_thread")]
async fn a_folder_that_a_killed_process_left_is_made_durable_before_it_is_used() {
    let mut recording = Recording::start(|recorder| {
        let now = chrono::Utc::now();
        for time in [now, now + chrono::Duration::hours(1)] {
            let hour = recorder.data.join(format!("instances/{}", time.format("%Y%m%d/%H")));
            recorder.create_folder(&hour).expect("made");
        }
    })
    .await;
    recording.send_many(0..2, 1).await;
    recording.end().await.check().expect("nothing is lost");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_refuses_leaves_nothing_and_passes() {
    let recording = Recording::start(|_| {}).await;
    recording.recorder.full.store(true, Ordering::SeqCst);
    // Full in the middle, and at the end.
    for number in [0, 1] {
        let refused = recording.send(&file(number)).await.expect_err("there is no space");
        assert!(matches!(refused, Refused::Disk(_)), "{refused:?}");
    }
    let incoming = std::fs::read_dir(recording.folder.path().join("incoming")).expect("there");
    assert_eq!(incoming.count(), 0);
    recording.recorder.full.store(false, Ordering::SeqCst);
    assert_eq!(recording.send(&file(0)).await.expect("there is space").outcome, Outcome::New);
    assert!(recording.store.instance("2.25.10001").await.expect("readable").is_none());
}

/// What ends a process is seen from another one.
#[test]
fn a_failed_fsync_ends_the_process() {
    const CHILD: &str = "GANTRY_TEST_FSYNC_FAILS";
    const THIS: &str = "ingest::crash::a_failed_fsync_ends_the_process";
    if std::env::var_os(CHILD).is_some() {
        let runtime = tokio::runtime::Runtime::new().expect("a runtime");
        let answer = runtime
            .block_on(async { Recording::start(|recorder| recorder.fails_to_sync = true).await.send(&file(0)).await });
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
