//! Files are journalled: everything that waits shares one commit.

use std::path::PathBuf;
use std::sync::mpsc::{SyncSender, TryRecvError, sync_channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use super::names::{Names, NoRoom, Touched};
use super::{Arrival, Outcome, Refused, Stored, Via};
use crate::audit::{Action, Event};
use crate::config::{Config, Duplicates};
use crate::metrics::Metrics;
use crate::store::{Candidate, Filed, IntakeBatch, IntakeWriter, Kept, Known, Quarantined, StoreError};
use crate::study::{self, Entry};

/// A file to be journalled. Its bytes are durable; so is its name, where it is sound.
pub(super) struct Filing {
    pub(super) path: PathBuf,
    /// What it is, with its name below the data folder; or why it is set aside.
    pub(super) entry: Result<(Box<Entry>, String), (Quarantined, Refused)>,
    /// Which no other file has, in any folder of the data folder.
    pub(super) name: String,
    pub(super) bytes: u64,
    pub(super) sha256: [u8; 32],
    pub(super) received_ms: i64,
    pub(super) arrival: Arrival,
}

/// One that waits for a commit.
struct Waiting {
    filing: Filing,
    reply: SyncSender<Result<Stored, Refused>>,
}

/// What becomes of a file.
enum Fate {
    /// It has its name.
    Stays,
    /// It gets this name, which no file has.
    SetAside(String),
    /// It takes the place of the file of this name, which is to hold the same bytes.
    Restored(String),
    /// It goes: what it says is here.
    Removed,
}

/// Why none of a batch is kept.
enum NotKept {
    /// It was told before anything was promised.
    NoRoom(String),
    /// What the disk holds is not known.
    Unknown(StoreError),
}

impl From<StoreError> for NotKept {
    fn from(error: StoreError) -> Self {
        if error.is_full() { Self::NoRoom(error.to_string()) } else { Self::Unknown(error) }
    }
}

impl From<NoRoom> for NotKept {
    fn from(NoRoom(why): NoRoom) -> Self {
        Self::NoRoom(why)
    }
}

/// Journals files, for any thread.
pub(super) struct Committer {
    names: Arc<Names>,
    data: PathBuf,
    replace: bool,
    most: usize,
    metrics: Arc<Metrics>,
    queue: Mutex<Queue>,
    /// Somebody's turn ended.
    ended: Condvar,
    /// Of whoever has the turn.
    writer: Mutex<IntakeWriter>,
}

/// Who waits, and whether somebody has the turn to commit.
#[derive(Default)]
struct Queue {
    waiting: Vec<Waiting>,
    busy: bool,
}

/// The turn to commit. It ends whatever happens.
struct Turn<'c>(&'c Committer);

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        locked(&self.0.queue).busy = false;
        self.0.ended.notify_all();
    }
}

/// Ends the process: what the disk holds is unknown, and nothing more may be acknowledged.
pub(super) fn fatal(what: &str, error: &dyn std::fmt::Display) -> ! {
    tracing::error!(
        "{what} failed: {error}; the disk cannot be trusted, so the node stops. Nothing that was acknowledged is lost; check the disk before the next start"
    );
    std::process::abort()
}

/// A name below the data folder. Files lie by the hour they came, under their digest and a name that no other has: no path
/// holds what a peer sent.
pub(super) fn below(folder: &str, received_ms: i64, name: &str) -> String {
    let hour = chrono::DateTime::from_timestamp_millis(received_ms).unwrap_or_default().format("%Y%m%d/%H");
    format!("{folder}/{hour}/{name}")
}

impl Committer {
    pub(super) fn new(
        config: &Config,
        data: PathBuf,
        names: Arc<Names>,
        metrics: Arc<Metrics>,
        writer: IntakeWriter,
    ) -> Self {
        let (replace, most) = (config.node.duplicates == Duplicates::Replace, config.node.commit_instances_max);
        let (queue, ended) = (Mutex::default(), Condvar::new());
        Self { names, data, replace, most, metrics, queue, ended, writer: Mutex::new(writer) }
    }

    /// Journals a file, and waits until that is durable. While one thread commits, others come to wait; the first of them
    /// that wakes takes all of them along. Who is answered waits for nobody's turn.
    pub(super) fn journal(&self, filing: Filing) -> Result<Stored, Refused> {
        let (reply, answer) = sync_channel(1);
        let mut queue = locked(&self.queue);
        queue.waiting.push(Waiting { filing, reply });
        loop {
            match answer.try_recv() {
                Ok(answer) => return answer,
                Err(TryRecvError::Disconnected) => {
                    return Err(Refused::Disk("the journal's commit was cut off".into()));
                }
                Err(TryRecvError::Empty) => {}
            }
            if queue.busy {
                queue = self.ended.wait(queue).unwrap_or_else(PoisonError::into_inner);
                continue;
            }
            queue.busy = true;
            let most = self.most.min(queue.waiting.len());
            let round = queue.waiting.drain(..most).collect();
            drop(queue);
            let turn = Turn(self);
            self.round(round);
            drop(turn);
            queue = locked(&self.queue);
        }
    }

    /// Journals what waited, and answers.
    fn round(&self, round: Vec<Waiting>) {
        let (filings, replies): (Vec<_>, Vec<_>) = round.into_iter().map(|one| (one.filing, one.reply)).unzip();
        let mut writer = locked(&self.writer);
        let mut moved = Vec::new();
        let done = self.commit(&mut writer, &filings, &mut moved).unwrap_or_else(|no| match no {
            NotKept::Unknown(e) => fatal("the journal's commit", &e),
            NotKept::NoRoom(why) => {
                filings.iter().map(|filing| &filing.path).chain(&moved).for_each(|path| self.names.undo(path));
                filings.iter().map(|_| Err(Refused::Disk(why.clone()))).collect()
            }
        });
        for (reply, answer) in replies.into_iter().zip(done) {
            // It waits as long as it takes.
            let _ = reply.send(answer);
        }
    }

    /// Journals, moves what does not stay, and only then commits. `moved` are names that mean nothing without a commit.
    fn commit(
        &self,
        writer: &mut IntakeWriter,
        filings: &[Filing],
        moved: &mut Vec<PathBuf>,
    ) -> Result<Vec<Result<Stored, Refused>>, NotKept> {
        let mut batch = loop {
            match writer.begin() {
                // Nothing was done yet, and the disk is not to blame.
                Err(e) if e.is_busy() => tracing::error!(
                    "somebody else holds the journal, and nothing can be acknowledged until they let go: close what has journal.sqlite open"
                ),
                begun => break begun?,
            }
        };
        let (mut answers, mut touched, mut quarantined) = (Vec::with_capacity(filings.len()), Touched::default(), 0);
        for filing in filings {
            let (fate, answer) = self.decide(&mut batch, filing)?;
            let told = event(filing, &answer);
            batch.audit(&told)?;
            // The study whose instance it would have replaced is told as well as the one that it says it is of.
            if let Err(Refused::OtherStudy(kept_in)) = &answer {
                batch.audit(&Event { study_instance_uid: kept_in.clone(), ..told })?;
            }
            let replaces = matches!(answer, Ok(Stored { outcome: Outcome::Replaced, .. }));
            quarantined += u64::from(replaces || matches!(fate, Fate::SetAside(_)));
            match fate {
                Fate::Stays => {}
                Fate::SetAside(name) => moved.push(self.names.give_later(&filing.path, &name, &mut touched)?),
                Fate::Restored(name) => drop(self.names.give_later(&filing.path, &name, &mut touched)?),
                Fate::Removed => self.names.remove(&filing.path)?,
            }
            answers.push(answer);
        }
        self.names.sync(touched);
        batch.commit()?;
        self.metrics.committed(filings.len());
        self.metrics.quarantined(quarantined);
        Ok(answers)
    }

    fn decide(
        &self,
        batch: &mut IntakeBatch<'_>,
        filing: &Filing,
    ) -> Result<(Fate, Result<Stored, Refused>), StoreError> {
        let (entry, name) = match &filing.entry {
            Ok((entry, name)) => (entry, name),
            Err((why, refused)) => return self.set_aside(batch, filing, why.clone(), refused.clone()),
        };
        let set_aside = |refused: &Refused| Quarantined {
            reason: refused.reason(),
            detail: refused.to_string(),
            sop_instance_uid: entry.sop_instance_uid.clone(),
        };
        let fetched = filing.arrival.via == Via::Pacs;
        let Known { patient, closed, instance } = batch.known(&entry.study.uid, &entry.sop_instance_uid)?;
        if let Some((known, fate)) =
            instance.as_ref().and_then(|known| Some((known, self.repeats(known, filing, entry)?)))
        {
            if !known.fetched || fetched {
                return Ok((fate, Ok(stored(entry, Outcome::Same))));
            }
            if closed {
                reopen(batch, filing, &entry.study.uid)?;
            }
            batch.adopt(known.id, &filed(filing, String::new()))?;
            return Ok((fate, Ok(stored(entry, Outcome::Adopted))));
        }
        if let Some(known) = instance.as_ref().filter(|known| known.study_instance_uid != entry.study.uid) {
            let refused = Refused::OtherStudy(known.study_instance_uid.clone());
            return self.set_aside(batch, filing, set_aside(&refused), refused);
        }
        // What somebody sends counts for more than what we fetched, whatever the policy.
        let stays = |known: &Kept| if known.fetched == fetched { !self.replace } else { !known.fetched };
        if instance.as_ref().is_some_and(stays) {
            let refused = Refused::Conflict;
            return self.set_aside(batch, filing, set_aside(&refused), refused);
        }
        // Before anything is replaced: what is another patient's takes nobody's place.
        if let Some(by) = patient.and_then(|known| known.contradicts(&entry.patient)) {
            let refused = Refused::OtherPatient(by);
            return self.set_aside(batch, filing, set_aside(&refused), refused);
        }
        if fetched && batch.is_sent(&entry.study.uid)? {
            let refused = Refused::SentMeanwhile;
            return self.set_aside(batch, filing, set_aside(&refused), refused);
        }
        if closed {
            reopen(batch, filing, &entry.study.uid)?;
        }
        let mut outcome = Outcome::New;
        if let Some(known) = instance {
            // Its file stays where it is, and is no longer an instance.
            let replaced = Quarantined {
                reason: "replaced",
                detail: match known.fetched && !fetched {
                    true => "it was fetched, and somebody sent another instance with this SOP Instance UID".into(),
                    false => "a newer instance with this SOP Instance UID came (node.duplicates = \"replace\")".into(),
                },
                sop_instance_uid: entry.sop_instance_uid.clone(),
            };
            let old =
                Filed { path: known.path, bytes: known.bytes, sha256: known.sha256, ..filed(filing, String::new()) };
            batch.quarantine(&replaced, &old)?;
            batch.remove(known.id)?;
            outcome = Outcome::Replaced;
        }
        batch.add(&Candidate { entry, filed: &filed(filing, name.clone()) })?;
        Ok((Fate::Stays, Ok(stored(entry, outcome))))
    }

    /// What becomes of a file that says what a kept one does; nothing when it says something else. The same bytes take the
    /// kept file's place, whatever became of that on the disk. The same data set can come with other file meta information:
    /// ours by C-STORE, somebody's by STOW-RS.
    fn repeats(&self, known: &Kept, filing: &Filing, entry: &Entry) -> Option<Fate> {
        if known.sha256 == filing.sha256 {
            return Some(Fate::Restored(known.path.clone()));
        }
        let same = known.transfer_syntax_uid == entry.transfer_syntax_uid
            && study::same_data_set(&self.data.join(&known.path), &filing.path).unwrap_or(false);
        same.then_some(Fate::Removed)
    }

    fn set_aside(
        &self,
        batch: &mut IntakeBatch<'_>,
        filing: &Filing,
        why: Quarantined,
        refused: Refused,
    ) -> Result<(Fate, Result<Stored, Refused>), StoreError> {
        // Who tries again and again fills no disk.
        if let Some(path) = batch.quarantined(&filing.sha256, why.reason)? {
            return Ok((Fate::Restored(path), Err(refused)));
        }
        let filed = filed(filing, below("quarantine", filing.received_ms, &filing.name));
        batch.quarantine(&why, &filed)?;
        Ok((Fate::SetAside(filed.path), Err(refused)))
    }
}

/// A panic leaves nothing half done: who waits goes on waiting, and a transaction is rolled back.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn filed(filing: &Filing, path: String) -> Filed {
    Filed {
        path,
        bytes: filing.bytes,
        sha256: filing.sha256,
        received_ms: filing.received_ms,
        via: filing.arrival.via.name(),
        source: filing.arrival.source.clone(),
        correlation: filing.arrival.correlation.clone(),
    }
}

/// Says that a study which was closed changes by what comes; nothing where it was open.
fn reopen(batch: &mut IntakeBatch<'_>, filing: &Filing, study_instance_uid: &str) -> Result<(), StoreError> {
    let Some(version) = batch.closed_version(study_instance_uid)? else { return Ok(()) };
    let event = Event {
        study_instance_uid: study_instance_uid.to_owned(),
        object: format!("v{version}"),
        correlation: filing.arrival.correlation.clone(),
        ..Event::new(&filing.arrival.source, Action::StudyReopened)
    };
    batch.audit(&event)
}

/// What the audit log says of it: that it came, from whom, and what became of it.
fn event(filing: &Filing, answer: &Result<Stored, Refused>) -> Event {
    let action = match answer {
        Ok(Stored { outcome: Outcome::New | Outcome::Adopted, .. }) => Action::InstanceStored,
        Ok(Stored { outcome: Outcome::Same, .. }) => Action::InstanceSame,
        Ok(Stored { outcome: Outcome::Replaced, .. }) => Action::InstanceReplaced,
        Err(_) => Action::InstanceQuarantined,
    };
    let (study_instance_uid, object) = match &filing.entry {
        Ok((entry, _)) => (entry.study.uid.clone(), entry.sop_instance_uid.clone()),
        Err((why, _)) => (String::new(), why.sop_instance_uid.clone()),
    };
    Event {
        who: filing.arrival.source.clone(),
        action,
        study_instance_uid,
        object,
        digests: vec![("instance", filing.sha256)],
        detail: match answer {
            Ok(Stored { outcome: Outcome::Adopted, .. }) => "it had been fetched".into(),
            Ok(_) => String::new(),
            Err(refused) => refused.reason().into(),
        },
        correlation: filing.arrival.correlation.clone(),
    }
}

fn stored(entry: &Entry, outcome: Outcome) -> Stored {
    Stored {
        study_instance_uid: entry.study.uid.clone(),
        series_instance_uid: entry.series.uid.clone(),
        sop_class_uid: entry.sop_class_uid.clone(),
        sop_instance_uid: entry.sop_instance_uid.clone(),
        outcome,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use dicom_core::{DataElement, Tag, VR};
    use dicom_dictionary_std::{tags, uids};
    use dicom_object::{FileMetaTableBuilder, InMemDicomObject};
    use tempfile::TempDir;

    use crate::config::{Config, Duplicates};
    use crate::ingest::disk::RealDisk;
    use crate::ingest::{Arrival, Form, Intake, Outcome, Refused, Stored, Uid, Via};
    use crate::store::Store;

    struct Node {
        data: TempDir,
        store: Store,
        intake: Intake,
    }

    async fn node(change: impl FnOnce(&mut Config)) -> Node {
        let data = tempfile::tempdir().expect("a folder");
        let mut config = Config::default();
        config.node.disk_free_min_mib = 0;
        change(&mut config);
        let store = Store::open(data.path()).await.expect("a journal");
        let (intake, _) = Intake::start(
            &config,
            data.path().to_owned(),
            store.clone(),
            Arc::new(RealDisk),
            crate::metrics::Metrics::new(),
        )
        .expect("starts");
        Node { data, store, intake }
    }

    impl Node {
        async fn send(&self, form: Form, bytes: &[u8]) -> Result<Stored, Refused> {
            let arrival = Arrival::new(Via::Dimse, "CT1");
            let mut incoming = self.intake.begin(&arrival, form)?;
            for piece in bytes.chunks(1000) {
                incoming.write(piece).await?;
            }
            incoming.finish().await
        }

        async fn send_as(&self, uid: &str, object: &InMemDicomObject) -> Result<Stored, Refused> {
            let parse = |uid| Uid::parse(uid).expect("a UID");
            let form = Form::DataSet {
                sop_class_uid: parse(uids::ENCAPSULATED_PDF_STORAGE),
                sop_instance_uid: parse(uid),
                transfer_syntax_uid: parse(uids::IMPLICIT_VR_LITTLE_ENDIAN),
            };
            self.send(form, &bytes(object)).await
        }

        /// Files below a folder.
        fn files(&self, folder: &str) -> Vec<std::path::PathBuf> {
            let walk = walkdir::WalkDir::new(self.data.path().join(folder)).into_iter();
            walk.map(|e| e.expect("an entry")).filter(|e| e.file_type().is_file()).map(|e| e.into_path()).collect()
        }
    }

    fn bytes(object: &InMemDicomObject) -> Vec<u8> {
        let mut bytes = Vec::new();
        let implicit = dicom_transfer_syntax_registry::entries::IMPLICIT_VR_LITTLE_ENDIAN.erased();
        object.write_dataset_with_ts(&mut bytes, &implicit).expect("written");
        bytes
    }

    fn object(uid: &str, changes: &[(Tag, VR, &str)]) -> InMemDicomObject {
        let mut object = InMemDicomObject::new_empty();
        let own = [
            (tags::SOP_CLASS_UID, VR::UI, uids::ENCAPSULATED_PDF_STORAGE),
            (tags::SOP_INSTANCE_UID, VR::UI, uid),
            (tags::STUDY_INSTANCE_UID, VR::UI, "2.25.1"),
            (tags::SERIES_INSTANCE_UID, VR::UI, "2.25.2"),
            (tags::PATIENT_ID, VR::LO, "SECRET-ID"),
        ];
        for (tag, vr, value) in own.iter().chain(changes) {
            object.put(DataElement::new(*tag, *vr, *value));
        }
        object
    }

    #[tokio::test]
    async fn an_instance_is_kept_once_as_it_came() {
        let node = node(|_| {}).await;
        let sent = object("2.25.3", &[]);
        let stored = node.send_as("2.25.3", &sent).await.expect("kept");
        assert_eq!((stored.study_instance_uid.as_str(), stored.outcome), ("2.25.1", Outcome::New));
        assert_eq!(node.send_as("2.25.3", &sent).await.expect("the same").outcome, Outcome::Same);
        let row = node.store.instance("2.25.3").await.expect("the journal").expect("a row");
        let file = std::fs::read(node.intake.path(&row.path)).expect("the file");
        assert!(file.ends_with(&bytes(&sent)) && file.len() as u64 == row.bytes);
        assert_eq!((node.files("instances").len(), node.files("incoming").len()), (1, 0));
        assert_eq!(node.store.instances_of_study("2.25.1").await.expect("the journal").len(), 1);
    }

    #[tokio::test]
    async fn other_bytes_under_a_known_uid_follow_the_policy() {
        for (policy, outcome) in [(Duplicates::Refuse, None), (Duplicates::Replace, Some(Outcome::Replaced))] {
            let node = node(|c| c.node.duplicates = policy).await;
            node.send_as("2.25.3", &object("2.25.3", &[])).await.expect("kept");
            let other = object("2.25.3", &[(tags::STUDY_ID, VR::SH, "x")]);
            let answer = node.send_as("2.25.3", &other).await;
            assert_eq!(answer.as_ref().ok().map(|s| s.outcome), outcome, "{answer:?}");
            assert_eq!(node.files("instances").len() + node.files("quarantine").len(), 2, "both are kept");
            let row = node.store.instance("2.25.3").await.expect("the journal").expect("a row");
            let file = std::fs::read(node.intake.path(&row.path)).expect("the file");
            assert_eq!(file.ends_with(&bytes(&other)), outcome.is_some());
        }
    }

    #[tokio::test]
    async fn what_is_another_patients_takes_nobodys_place() {
        let node = node(|c| c.node.duplicates = Duplicates::Replace).await;
        node.send_as("2.25.3", &object("2.25.3", &[])).await.expect("kept");
        let other = object("2.25.3", &[(tags::PATIENT_ID, VR::LO, "SECRET-2")]);
        let refused = node.send_as("2.25.3", &other).await.expect_err("another patient");
        assert_eq!(refused.reason(), "other-patient");
        assert!(node.store.instance("2.25.3").await.expect("the journal").is_some(), "the first stays");
        assert_eq!((node.files("instances").len(), node.files("quarantine").len()), (1, 1));
    }

    #[tokio::test]
    async fn what_is_wrong_is_set_aside_and_refused_without_naming_the_patient() {
        let node = node(|_| {}).await;
        node.send_as("2.25.3", &object("2.25.3", &[])).await.expect("kept");
        let cut = bytes(&object("2.25.4", &[]));
        let unreadable = node.send(Form::File, &cut[..cut.len() - 3]).await;
        let patient = node.send_as("2.25.5", &object("2.25.5", &[(tags::PATIENT_ID, VR::LO, "SECRET-2")])).await;
        let announced = node.send_as("2.25.6", &object("2.25.7", &[])).await;
        for (answer, reason) in [(unreadable, "unreadable"), (patient, "other-patient"), (announced, "not-announced")] {
            let refused = answer.expect_err(reason);
            assert_eq!(refused.reason(), reason);
            assert!(!refused.to_string().contains("SECRET") && !refused.to_string().contains("incoming"), "{refused}");
        }
        assert_eq!(
            (node.files("quarantine").len(), node.files("instances").len(), node.files("incoming").len()),
            (3, 1, 0)
        );
    }

    #[tokio::test]
    async fn what_is_of_another_study_takes_nobodys_place() {
        let node = node(|c| c.node.duplicates = Duplicates::Replace).await;
        node.send_as("2.25.3", &object("2.25.3", &[])).await.expect("kept");
        let other =
            object("2.25.3", &[(tags::STUDY_INSTANCE_UID, VR::UI, "2.25.9"), (tags::PATIENT_ID, VR::LO, "SECRET-2")]);
        let refused = node.send_as("2.25.3", &other).await.expect_err("of another study");
        assert_eq!((refused.reason(), refused.code()), ("other-study", 0x0111));
        let row = node.store.instance("2.25.3").await.expect("the journal").expect("the first stays");
        assert_eq!(row.study_instance_uid, "2.25.1");
        for study in ["2.25.1", "2.25.9"] {
            let told = node.store.audit_latest(Some(study), 100).await.expect("the log");
            let told = told.iter().find(|row| row.action == "instance-quarantined").expect(study);
            assert_eq!((told.object.as_str(), told.detail.as_str()), ("2.25.3", "other-study"), "{study}");
        }
    }

    #[tokio::test]
    async fn the_same_bytes_take_the_place_of_a_file_that_was_lost_or_damaged() {
        let node = node(|_| {}).await;
        let sent = object("2.25.3", &[]);
        node.send_as("2.25.3", &sent).await.expect("kept");
        let row = node.store.instance("2.25.3").await.expect("the journal").expect("a row");
        let path = node.intake.path(&row.path);
        let whole = std::fs::read(&path).expect("the file");
        std::fs::remove_file(&path).expect("removed");
        assert_eq!(node.send_as("2.25.3", &sent).await.expect("the same").outcome, Outcome::Same);
        assert_eq!(std::fs::read(&path).expect("there again"), whole);
        std::fs::write(&path, vec![0; whole.len()]).expect("damaged");
        assert_eq!(node.send_as("2.25.3", &sent).await.expect("the same").outcome, Outcome::Same);
        assert_eq!(std::fs::read(&path).expect("whole again"), whole);
        assert_eq!((node.files("instances").len(), node.files("incoming").len()), (1, 0));
    }

    #[tokio::test]
    async fn the_same_data_set_is_the_same_whatever_its_file_meta_information() {
        let node = node(|_| {}).await;
        let sent = object("2.25.3", &[]);
        node.send_as("2.25.3", &sent).await.expect("kept");
        let file = |data_set: &[u8], transfer_syntax: &str| {
            let meta = FileMetaTableBuilder::new()
                .media_storage_sop_class_uid(uids::ENCAPSULATED_PDF_STORAGE)
                .media_storage_sop_instance_uid("2.25.3")
                .transfer_syntax(transfer_syntax)
                .implementation_version_name("ELSEWHERE");
            let mut bytes = [vec![0; 128], b"DICM".to_vec()].concat();
            meta.build().expect("complete").write(&mut bytes).expect("written");
            bytes.extend_from_slice(data_set);
            bytes
        };
        let again = node.send(Form::File, &file(&bytes(&sent), uids::IMPLICIT_VR_LITTLE_ENDIAN)).await;
        assert_eq!(again.expect("the same").outcome, Outcome::Same);
        let other = bytes(&object("2.25.3", &[(tags::STUDY_ID, VR::SH, "x")]));
        let other = node.send(Form::File, &file(&other, uids::IMPLICIT_VR_LITTLE_ENDIAN)).await;
        assert_eq!(other.expect_err("it says something else").reason(), "conflict");
    }

    #[tokio::test]
    async fn what_was_named_and_not_journalled_goes_at_the_next_start_and_nothing_else() {
        let node = node(|c| c.node.duplicates = Duplicates::Replace).await;
        node.send_as("2.25.3", &object("2.25.3", &[])).await.expect("kept");
        node.send_as("2.25.3", &object("2.25.3", &[(tags::STUDY_ID, VR::SH, "x")])).await.expect("replaced");
        node.send_as("2.25.4", &object("2.25.4", &[])).await.expect("kept");
        let kept = node.files("instances");
        assert_eq!(kept.len(), 3, "what was replaced is there too");
        let row = node.store.instance("2.25.4").await.expect("the journal").expect("a row");
        let beside = |name: &str| node.intake.path(&row.path).with_file_name(name);
        // As a killed process leaves them: of a known UID and of none, and one that a power cut took the bytes of.
        std::fs::copy(node.intake.path(&row.path), beside("known.dcm")).expect("copied");
        let whole = std::fs::read(node.intake.path(&row.path)).expect("readable");
        let uid = whole.windows(6).rposition(|bytes| bytes == b"2.25.4").expect("its UID");
        let other = [&whole[..uid], b"2.25.5", &whole[uid + 6..]].concat();
        std::fs::write(beside("unknown.dcm"), other).expect("written");
        std::fs::write(beside("empty.dcm"), b"").expect("written");
        let options = crate::study::ReadOptions::new(&Config::default().limits, true);
        let removed = crate::ingest::unfiled::remove(&node.store, node.data.path(), &options).await;
        assert_eq!(removed.expect("the journal"), 2);
        let mut left = node.files("instances");
        left.retain(|path| !path.ends_with("empty.dcm"));
        assert!(left.len() == 3 && kept.iter().all(|path| left.contains(path)), "{left:?}");
    }

    #[tokio::test]
    async fn what_is_refused_again_and_again_is_set_aside_once() {
        let node = node(|_| {}).await;
        node.send_as("2.25.3", &object("2.25.3", &[])).await.expect("kept");
        let other = object("2.25.3", &[(tags::STUDY_ID, VR::SH, "x")]);
        for _ in 0..3 {
            assert_eq!(node.send_as("2.25.3", &other).await.expect_err("a conflict").reason(), "conflict");
        }
        assert_eq!((node.files("quarantine").len(), node.store.quarantine_count().await.expect("the journal")), (1, 1));
    }

    #[tokio::test]
    async fn a_journal_that_somebody_else_holds_is_waited_for() {
        let node = node(|_| {}).await;
        let held = node.store.begin().await.expect("a batch");
        let release = async {
            tokio::time::sleep(std::time::Duration::from_millis(300)).await;
            drop(held);
        };
        let object = object("2.25.3", &[]);
        let (sent, ()) = tokio::join!(node.send_as("2.25.3", &object), release);
        assert_eq!(sent.expect("kept").outcome, Outcome::New);
    }

    #[tokio::test]
    async fn limits_leave_nothing_behind() {
        let small = node(|c| c.limits.file_max_mib = 1).await;
        let refused = small.send(Form::File, &vec![0; 2 << 20]).await.expect_err("too large");
        assert!(refused.to_string().contains("limits.file_max_mib = 1"), "{refused}");
        assert_eq!(small.files(".").iter().filter(|f| f.extension().is_some_and(|e| e == "dcm")).count(), 0);
        assert_eq!(small.files("incoming").len(), 0);
        let full = node(|c| c.node.disk_free_min_mib = 1 << 30).await;
        let refused = full.send(Form::File, &[]).await.expect_err("no space");
        assert!(refused.to_string().contains("node.disk_free_min_mib"), "{refused}");
    }

    #[tokio::test]
    async fn a_name_that_changes_under_one_id_is_kept() {
        let node = node(|_| {}).await;
        node.send_as("2.25.3", &object("2.25.3", &[(tags::PATIENT_NAME, VR::PN, "A^B")])).await.expect("kept");
        node.send_as("2.25.4", &object("2.25.4", &[(tags::PATIENT_NAME, VR::PN, "A^C")])).await.expect("kept");
    }

    #[test]
    fn uids_that_could_be_paths_are_none() {
        for wrong in ["", "../../etc/x", "1.2/3", "1..2", "1.2.", ".1", "1.2.x", &"1".repeat(65)] {
            assert_eq!(Uid::parse(wrong), None, "{wrong}");
        }
        assert_eq!(Uid::parse("1.2.840\0").expect("padded").as_str(), "1.2.840");
    }
}
