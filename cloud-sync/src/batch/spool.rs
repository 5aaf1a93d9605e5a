//! The folder in which batches are made and wait: whatever was taken in is there after a crash, once.
//!
//! ```text
//! lock               held while a process has the spool
//! scratch/           files that have no name yet
//! objects/ab/abcd…   by SHA-256; also files of the catalogue
//! records/ID.json    what one study brought, with its rows for the catalogue, until its batch is in the bucket
//! sealed/ID.json     envelopes of batches that wait for upload
//! uploads/           journals of multipart uploads (s3)
//! sent/ID.json       envelopes of batches that are in the bucket, kept for repair
//! ```

mod disk;
mod intake;

use std::collections::BTreeSet;
use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use chrono::{DateTime, SecondsFormat, Utc};

pub use self::intake::{Entry, Intake};
use super::durable::{remove, sync_folder};
use super::record::{Record, rows_of};
use super::sealed::{Batch, object_path};
use super::{Failure, Id, Limits, MANIFEST_VERSION, Manifest, Module, Part, Profile, Sealed, Site, SiteKey};
use crate::catalog::{Files, Rows, Table};

const MIB: u64 = 1024 * 1024;

/// A spool that this process has.
pub struct Spool {
    root: PathBuf,
    limits: Limits,
    site: Site,
    key: SiteKey,
    /// What wait to be sealed, oldest first.
    records: Vec<Record>,
    /// The number of the next record.
    next: u64,
    /// Of all objects.
    bytes: u64,
    _lock: File,
}

/// What waits in a spool.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Waiting {
    /// Studies that are in no batch yet.
    pub studies: usize,
    /// Batches that are not uploaded.
    pub batches: usize,
    /// Batches that were, and are kept for repair.
    pub sent: usize,
    /// What all objects take.
    pub bytes: u64,
}

impl Spool {
    /// Takes the folder, makes what is missing in it, and puts right what a crash left half done.
    ///
    /// # Errors
    /// [`Failure`]
    pub fn open(root: &Path, limits: Limits, site: Site, key: SiteKey) -> Result<Self, Failure> {
        limits.check()?;
        for folder in ["scratch", "objects", "records", "sealed", "uploads", "sent"] {
            let folder = root.join(folder);
            fs::create_dir_all(&folder).map_err(Failure::disk(&folder))?;
        }
        sync_folder(root).map_err(Failure::disk(root))?;
        let path = root.join("lock");
        let lock =
            File::options().create(true).truncate(false).write(true).open(&path).map_err(Failure::disk(&path))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(Failure::InUse(root.to_owned())),
            Err(TryLockError::Error(source)) => return Err(Failure::Disk { path, source }),
        }
        let (root, records) = (root.to_owned(), Vec::new());
        let mut spool = Self { root, limits, site, key, records, next: 0, bytes: 0, _lock: lock };
        spool.recover()?;
        Ok(spool)
    }

    /// Takes in what one study brings: all of it is durable when this returns, or none of it will be sent.
    ///
    /// # Errors
    /// As of [`Self::take_in`], [`Intake::put`] and [`Intake::finish`].
    pub fn add(&mut self, profile: &Profile, entries: &[Entry<'_>], now: SystemTime) -> Result<Id, Failure> {
        let mut intake = self.take_in(Id::new(), profile);
        entries.iter().try_for_each(|entry| intake.put(entry))?;
        intake.finish(now)
    }

    /// Begins to take in what one study brings, object by object, so that not all of it is in memory. The name is the caller's, who can
    /// ask by it after a crash whether the record came to be.
    pub fn take_in(&mut self, record: Id, profile: &Profile) -> Intake<'_> {
        Intake::new(self, record, profile)
    }

    /// Whether a record waits to be sealed. What is in batches is in their manifests.
    #[must_use]
    pub fn has_record(&self, id: Id) -> bool {
        self.records.iter().any(|record| record.study.record == id)
    }

    /// Takes a record back that waits to be sealed; whether it did. Of its objects those go that nothing else names.
    ///
    /// # Errors
    /// [`Failure::Disk`]
    pub fn take_back(&mut self, id: Id) -> Result<bool, Failure> {
        let Some(at) = self.records.iter().position(|record| record.study.record == id) else { return Ok(false) };
        let path = self.path("records", id);
        remove(&path).map_err(Failure::disk(&path))?;
        self.sync("records")?;
        self.records.remove(at);
        self.sweep()?;
        Ok(true)
    }

    /// The batch of this record that waits for upload, if it is in one.
    ///
    /// # Errors
    /// [`Failure::Disk`], [`Failure::Manifest`]
    pub fn batch_of(&self, record: Id) -> Result<Option<Id>, Failure> {
        for id in self.sealed()? {
            if self.batch(id)?.manifest().studies.iter().any(|study| study.record == record) {
                return Ok(Some(id));
            }
        }
        Ok(None)
    }

    /// Takes a record back, also one whose batch waits for upload: what else is in that is sealed again, under the same name. Whether there
    /// was one.
    ///
    /// # Errors
    /// As of [`Self::batch_of`].
    pub fn withdraw(&mut self, id: Id) -> Result<bool, Failure> {
        let Some(batch) = self.batch_of(id)? else { return self.take_back(id) };
        self.seal_again(batch, id)?;
        let path = self.path("records", id);
        remove(&path).map_err(Failure::disk(&path))?;
        self.sync("records")?;
        self.sweep()?;
        Ok(true)
    }

    /// Seals a batch again without this record. It keeps its name and its day, since some of it may be in the bucket, the manifest too: what is
    /// there is written over then. So a table that has no rows any more keeps its file.
    fn seal_again(&mut self, id: Id, without: Id) -> Result<(), Failure> {
        let mut manifest = self.batch(id)?.manifest().clone();
        manifest.studies.retain(|study| study.record != without);
        let made: BTreeSet<_> =
            manifest.studies.iter().flat_map(|study| &study.objects).map(|object| object.module).collect();
        manifest.modules.retain(|module| made.contains(&Some(module.digest)));
        let records = manifest.studies.iter().map(|study| study.record);
        let tables = manifest.catalog.iter().map(|part| part.table);
        (manifest.catalog, _) = self.catalog(id, records, tables)?;
        self.put("sealed", id, Sealed::new(manifest, &self.key).envelope())
    }

    /// Seals what is large, many or old enough; gives the batches it made.
    ///
    /// # Errors
    /// [`Failure::Disk`]
    pub fn seal_due(&mut self, now: SystemTime) -> Result<Vec<Id>, Failure> {
        let mut made = Vec::new();
        while self.is_due(now) {
            made.push(self.seal_one(now)?);
        }
        Ok(made)
    }

    /// Seals all there is.
    ///
    /// # Errors
    /// [`Failure::Disk`]
    pub fn seal_all(&mut self, now: SystemTime) -> Result<Vec<Id>, Failure> {
        let mut made = Vec::new();
        while !self.records.is_empty() {
            made.push(self.seal_one(now)?);
        }
        Ok(made)
    }

    /// Batches that wait for upload, oldest first.
    ///
    /// # Errors
    /// [`Failure::Disk`]
    pub fn sealed(&self) -> Result<Vec<Id>, Failure> {
        self.ids("sealed")
    }

    /// Batches that were uploaded and are kept, oldest first.
    ///
    /// # Errors
    /// [`Failure::Disk`]
    pub fn sent(&self) -> Result<Vec<Id>, Failure> {
        self.ids("sent")
    }

    /// A batch that waits or is kept, its signature checked.
    ///
    /// # Errors
    /// [`Failure::Unknown`], [`Failure::Manifest`], [`Failure::Disk`]
    pub fn batch(&self, id: Id) -> Result<Batch, Failure> {
        let mut paths = [self.path("sealed", id), self.path("sent", id)].into_iter();
        let path = paths.find(|path| path.exists()).ok_or(Failure::Unknown(id))?;
        Batch::open(&self.root, &path, &[self.key.public()])
    }

    /// Marks a batch as being in the bucket, whole.
    ///
    /// # Errors
    /// [`Failure::Disk`]
    pub fn finish(&mut self, id: Id, now: SystemTime) -> Result<(), Failure> {
        let (from, to) = (self.path("sealed", id), self.path("sent", id));
        let marked = File::options().write(true).open(&from).and_then(|file| file.set_modified(now));
        marked.map_err(Failure::disk(&from))?;
        fs::rename(&from, &to).map_err(Failure::disk(&to))?;
        self.sync("sent")?;
        self.sync("sealed")?;
        // Those that a crash leaves go at the next start.
        for study in &self.batch(id)?.manifest().studies {
            let path = self.path("records", study.record);
            remove(&path).map_err(Failure::disk(&path))?;
        }
        self.sync("records")
    }

    /// Forgets batches that were sent longer ago than they are kept, and objects that nobody names any more.
    ///
    /// # Errors
    /// [`Failure::Disk`], [`Failure::Manifest`]
    pub fn prune(&mut self, now: SystemTime) -> Result<usize, Failure> {
        let keep = Duration::from_secs(self.limits.keep_sent_h * 3600);
        let mut gone = 0;
        for id in self.sent()? {
            let path = self.path("sent", id);
            let since = fs::metadata(&path).and_then(|meta| meta.modified()).map_err(Failure::disk(&path))?;
            if now.duration_since(since).is_ok_and(|age| age >= keep) {
                remove(&path).map_err(Failure::disk(&path))?;
                gone += 1;
            }
        }
        if gone > 0 {
            self.sync("sent")?;
            self.sweep()?;
        }
        Ok(gone)
    }

    /// What waits.
    ///
    /// # Errors
    /// [`Failure::Disk`]
    pub fn waiting(&self) -> Result<Waiting, Failure> {
        let (batches, sent) = (self.sealed()?.len(), self.sent()?.len());
        Ok(Waiting { studies: self.records.len(), batches, sent, bytes: self.bytes })
    }

    /// What the site's signatures are known by.
    #[must_use]
    pub fn public_key(&self) -> super::PublicKey {
        self.key.public()
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    fn is_due(&self, now: SystemTime) -> bool {
        let Some(oldest) = self.records.first() else {
            return false;
        };
        let bytes: u64 = self.records.iter().map(Record::bytes).sum();
        bytes >= self.limits.batch_max_mib * MIB
            || self.records.len() >= self.limits.batch_studies_max
            || seconds(now).saturating_sub(oldest.taken_s) >= self.limits.batch_age_max_s
    }

    /// Seals the oldest records that fit into a batch, at least one.
    fn seal_one(&mut self, now: SystemTime) -> Result<Id, Failure> {
        let mut bytes = 0u64;
        let fits = |record: &&Record| {
            bytes = bytes.saturating_add(record.bytes());
            bytes <= self.limits.batch_max_mib * MIB
        };
        let count = self.records.iter().take(self.limits.batch_studies_max).take_while(fits).count().max(1);
        let chosen = self.records.get(..count).unwrap_or_default();
        let mut modules: Vec<Module> = Vec::new();
        for module in chosen.iter().flat_map(|record| &record.modules) {
            if !modules.contains(module) {
                modules.push(module.clone());
            }
        }
        let batch = Id::of_batch();
        let (catalog, more) = self.catalog(batch, chosen.iter().map(|record| record.study.record), [])?;
        let manifest = Manifest {
            version: MANIFEST_VERSION,
            batch,
            site: self.site.clone(),
            sealed: DateTime::<Utc>::from(now).to_rfc3339_opts(SecondsFormat::Secs, true),
            modules,
            studies: chosen.iter().map(|record| record.study.clone()).collect(),
            catalog,
        };
        let id = manifest.batch;
        let sealed = Sealed::new(manifest, &self.key);
        self.bytes += more;
        self.put("sealed", id, sealed.envelope())?;
        // From here on the envelope counts. Records stay on the disk until the batch is sent: it may have to be sealed again.
        self.records.drain(..count);
        Ok(id)
    }

    /// Makes the catalogue of a batch of these records, of these tables also without rows, durable among the objects; and gives its size. One
    /// record's rows are in memory at a time.
    fn catalog(
        &self,
        batch: Id,
        records: impl Iterator<Item = Id>,
        tables: impl IntoIterator<Item = Table>,
    ) -> Result<(Vec<Part>, u64), Failure> {
        let scratch = self.root.join("scratch");
        let mut files = Files::new(&scratch, batch, tables)?;
        for id in records {
            let path = self.path("records", id);
            // An earlier version that sealed it kept no rows: it has no part in the catalogue.
            let rows = if path.exists() { rows_of(&path)? } else { Rows::default() };
            files.add(id, &rows)?;
        }
        let (mut parts, mut bytes) = (Vec::new(), 0);
        for made in files.finish()? {
            let path = object_path(&self.root, made.sha256);
            let folder = self.folder_of(&path)?;
            fs::rename(&made.path, &path).map_err(Failure::disk(&path))?;
            sync_folder(&folder).map_err(Failure::disk(&folder))?;
            parts.push(Part { table: made.table, sha256: made.sha256, bytes: made.bytes, rows: made.rows });
            bytes += made.bytes;
        }
        Ok((parts, bytes))
    }
}

fn seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

#[cfg(test)]
mod tests;
