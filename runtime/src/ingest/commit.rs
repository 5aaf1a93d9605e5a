//! The one task that names files and journals them: everything that waits shares one commit.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use tokio::sync::{mpsc, oneshot};

use super::disk::Disk;
use super::{Arrival, Folders, Outcome, Refused, Stored, blocking};
use crate::store::{Batch, Candidate, Filed, Quarantined, Store, StoreError};
use crate::study::Entry;

/// A file whose bytes are durable, to be named and journalled.
pub(super) struct Filing {
    pub(super) incoming: PathBuf,
    /// What it is, or why it is set aside.
    pub(super) entry: Result<Box<Entry>, (Quarantined, Refused)>,
    pub(super) bytes: u64,
    pub(super) sha256: [u8; 32],
    pub(super) received_ms: i64,
    pub(super) arrival: Arrival,
    pub(super) reply: oneshot::Sender<Result<Stored, Refused>>,
}

/// What becomes of a file.
enum Fate {
    /// It gets this name below the data folder.
    Named(String),
    /// It goes: the same bytes are here.
    Removed,
}

pub(super) struct Committer {
    pub(super) store: Store,
    pub(super) disk: Arc<dyn Disk>,
    pub(super) folders: Folders,
    pub(super) replace: bool,
    pub(super) most: usize,
    pub(super) durable: Durable,
}

/// Folders whose own names this process made durable. That a folder is there says nothing: an earlier process may have
/// been killed between making it and syncing what it lies in.
#[derive(Clone, Default)]
pub(super) struct Durable(Arc<Mutex<BTreeSet<PathBuf>>>);

impl Durable {
    /// More are not remembered: syncing again costs time and nothing else.
    const FOLDERS_MAX: usize = 64;

    fn has(&self, folder: &Path) -> bool {
        self.0.lock().expect("nobody failed").contains(folder)
    }

    fn add(&self, folders: BTreeSet<PathBuf>) {
        let mut known = self.0.lock().expect("nobody failed");
        if known.len() + folders.len() > Self::FOLDERS_MAX {
            known.clear();
        }
        known.extend(folders);
    }
}

/// Ends the process: what the disk holds is unknown, and nothing more may be acknowledged.
pub(super) fn fatal(what: &str, error: &dyn std::fmt::Display) -> ! {
    tracing::error!(
        "{what} failed: {error}; the disk cannot be trusted, so the node stops. Nothing that was acknowledged is lost; check the disk before the next start"
    );
    std::process::abort()
}

impl Committer {
    pub(super) async fn run(self, mut queue: mpsc::Receiver<Filing>) {
        let mut filings = Vec::new();
        while queue.recv_many(&mut filings, self.most).await > 0 {
            let done = match self.commit(&filings).await {
                Ok(done) => done,
                Err(e) => fatal("the journal's commit", &e),
            };
            for (filing, answer) in filings.drain(..).zip(done) {
                // Whoever sent it may be gone: it is kept all the same.
                let _ = filing.reply.send(answer);
            }
        }
    }

    /// Journals, names, makes the names durable, and only then commits.
    async fn commit(&self, filings: &[Filing]) -> Result<Vec<Result<Stored, Refused>>, StoreError> {
        let mut batch = self.store.begin().await?;
        let mut answers = Vec::with_capacity(filings.len());
        let mut fates = Vec::with_capacity(filings.len());
        for filing in filings {
            let (fate, answer) = self.decide(&mut batch, filing).await?;
            fates.push((filing.incoming.clone(), fate));
            answers.push(answer);
        }
        let (disk, data) = (self.disk.clone(), self.folders.data.clone());
        let durable = self.durable.clone();
        blocking(move || name(&*disk, &data, &durable, &fates).unwrap_or_else(|e| fatal("naming of an instance", &e)))
            .await;
        batch.commit().await?;
        Ok(answers)
    }

    async fn decide(&self, batch: &mut Batch, filing: &Filing) -> Result<(Fate, Result<Stored, Refused>), StoreError> {
        let entry = match &filing.entry {
            Ok(entry) => entry,
            Err((why, refused)) => return self.set_aside(batch, filing, why.clone(), refused.clone()).await,
        };
        let set_aside = |refused: &Refused| Quarantined {
            reason: refused.reason(),
            detail: refused.to_string(),
            sop_instance_uid: entry.sop_instance_uid.clone(),
        };
        let mut outcome = Outcome::New;
        if let Some(known) = batch.instance(&entry.sop_instance_uid).await? {
            if known.sha256 == filing.sha256 {
                return Ok((Fate::Removed, Ok(stored(entry, Outcome::Same))));
            }
            if !self.replace {
                let refused = Refused::Conflict;
                return self.set_aside(batch, filing, set_aside(&refused), refused).await;
            }
            // Its file stays where it is, and is no longer an instance.
            let replaced = Quarantined {
                reason: "replaced",
                detail: "a newer instance with this SOP Instance UID came (node.duplicates = \"replace\")".into(),
                sop_instance_uid: entry.sop_instance_uid.clone(),
            };
            let old = Filed { path: known.path, bytes: known.bytes, sha256: known.sha256, ..self.filed(filing, "") };
            batch.quarantine(&replaced, &old).await?;
            batch.remove(known.id).await?;
            outcome = Outcome::Replaced;
        }
        if let Some(by) = batch.patient_of(&entry.study.uid).await?.and_then(|known| known.contradicts(&entry.patient))
        {
            let refused = Refused::OtherPatient(by);
            return self.set_aside(batch, filing, set_aside(&refused), refused).await;
        }
        let filed = self.filed(filing, "instances");
        batch.add(&Candidate { entry, filed: &filed }).await?;
        Ok((Fate::Named(filed.path), Ok(stored(entry, outcome))))
    }

    async fn set_aside(
        &self,
        batch: &mut Batch,
        filing: &Filing,
        why: Quarantined,
        refused: Refused,
    ) -> Result<(Fate, Result<Stored, Refused>), StoreError> {
        let filed = self.filed(filing, "quarantine");
        batch.quarantine(&why, &filed).await?;
        Ok((Fate::Named(filed.path), Err(refused)))
    }

    /// Files lie by the hour they came, under their digest: a batch touches few folders, and no path holds what a peer sent.
    fn filed(&self, filing: &Filing, folder: &str) -> Filed {
        let hour = chrono::DateTime::from_timestamp_millis(filing.received_ms).unwrap_or_default().format("%Y%m%d/%H");
        Filed {
            path: format!("{folder}/{hour}/{}-{}.dcm", crate::hex(&filing.sha256), filing.received_ms),
            bytes: filing.bytes,
            sha256: filing.sha256,
            received_ms: filing.received_ms,
            via: filing.arrival.via.name(),
            source: filing.arrival.source.clone(),
            correlation: filing.arrival.correlation.clone(),
        }
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

/// Gives files their names and makes the names durable.
fn name(disk: &dyn Disk, data: &Path, durable: &Durable, fates: &[(PathBuf, Fate)]) -> std::io::Result<()> {
    let mut touched = BTreeSet::new();
    for (incoming, fate) in fates {
        match fate {
            Fate::Removed => disk.remove(incoming)?,
            Fate::Named(path) => {
                let path = data.join(path);
                let folder = path.parent().unwrap_or(data);
                if touched.insert(folder.to_owned()) && !durable.has(folder) {
                    disk.create_folder(folder)?;
                    // The hour's, the day's and the kind's names.
                    touched.extend(folder.ancestors().skip(1).take_while(|f| f.starts_with(data)).map(Path::to_owned));
                }
                disk.rename(incoming, &path)?;
            }
        }
    }
    touched.iter().rev().try_for_each(|folder| disk.sync_folder(folder))?;
    durable.add(touched);
    Ok(())
}
