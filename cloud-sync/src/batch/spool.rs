//! The folder in which batches are made and wait: whatever was taken in is there after a crash, once.
//!
//! ```text
//! lock               held while a process has the spool
//! scratch/           files that have no name yet
//! objects/ab/abcd…   by SHA-256; also files of the catalogue
//! records/ID.json    what one study brought, with its rows for the catalogue, until its batch is sealed
//! sealed/ID.json     envelopes of batches that wait for upload
//! uploads/           journals of multipart uploads (s3)
//! sent/ID.json       envelopes of batches that are in the bucket, kept for repair
//! ```

use std::collections::BTreeSet;
use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use chrono::{DateTime, SecondsFormat, Utc};

use super::durable::{remove, sync_folder, write};
use super::record::{Record, rows_of};
use super::sealed::{Batch, object_path};
use super::{
    Digest, Failure, Format, Id, Kind, Limits, MANIFEST_VERSION, Manifest, Module, Object, Part, Profile, Releasable,
    Sealed, Site, SiteKey, Study,
};
use crate::catalog::{Files, Gatherer};

const MIB: u64 = 1024 * 1024;

/// A spool that this process has.
pub struct Spool {
    root: PathBuf,
    limits: Limits,
    site: Site,
    key: SiteKey,
    /// What wait to be sealed, oldest first.
    records: Vec<Record>,
    /// Of all objects.
    bytes: u64,
    _lock: File,
}

/// One object of a study that is handed in.
pub struct Entry<'a> {
    /// What it is to the study.
    pub kind: Kind,
    /// What it is as a file.
    pub format: Format,
    /// The module that made it.
    pub module: Option<&'a Module>,
    /// What was proven to be clean.
    pub content: &'a dyn Releasable,
}

/// A study that is being taken in.
pub struct Intake<'s> {
    spool: &'s mut Spool,
    study: Study,
    modules: Vec<Module>,
    folders: BTreeSet<PathBuf>,
    rows: Gatherer,
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
        let mut spool = Self { root: root.to_owned(), limits, site, key, records: Vec::new(), bytes: 0, _lock: lock };
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
        let study = Study { record, profile: profile.clone(), objects: Vec::new() };
        let rows = Gatherer::new(&profile.name, self.limits.study_rows_max);
        Intake { spool: self, study, modules: Vec::new(), folders: BTreeSet::new(), rows }
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
        self.sync("sealed")
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
        let (catalog, more) = self.catalog(batch, chosen)?;
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
        // From here on the envelope counts: `recover` removes what records of it a crash leaves.
        for record in self.records.drain(..count).collect::<Vec<_>>() {
            let path = self.path("records", record.study.record);
            remove(&path).map_err(Failure::disk(&path))?;
        }
        self.sync("records")?;
        Ok(id)
    }

    /// Makes the catalogue of a batch of these records, durable among the objects; and gives its size. One record's rows are in memory at
    /// a time.
    fn catalog(&self, batch: Id, records: &[Record]) -> Result<(Vec<Part>, u64), Failure> {
        let scratch = self.root.join("scratch");
        let mut files = Files::new(&scratch, batch);
        for record in records {
            let id = record.study.record;
            files.add(id, &rows_of(&self.path("records", id))?)?;
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

    fn recover(&mut self) -> Result<(), Failure> {
        let scratch = self.root.join("scratch");
        for entry in fs::read_dir(&scratch).map_err(Failure::disk(&scratch))?.flatten() {
            remove(&entry.path()).map_err(Failure::disk(&scratch))?;
        }
        let mut in_batches = BTreeSet::new();
        for id in self.sealed()?.into_iter().chain(self.sent()?) {
            let batch = self.batch(id)?;
            in_batches.extend(batch.manifest().studies.iter().map(|study| study.record));
        }
        for id in self.ids("records")? {
            let path = self.path("records", id);
            if in_batches.contains(&id) {
                remove(&path).map_err(Failure::disk(&path))?;
                continue;
            }
            self.records.push(Record::read(&path)?);
        }
        self.records.sort_by_key(|record| record.number);
        self.sync("records")?;
        self.sweep()
    }

    /// Removes objects that no record and no batch names, and counts the others.
    fn sweep(&mut self) -> Result<(), Failure> {
        let mut named: BTreeSet<Digest> = BTreeSet::new();
        for id in self.sealed()?.into_iter().chain(self.sent()?) {
            let batch = self.batch(id)?;
            named.extend(batch.manifest().contents().iter().map(|content| content.sha256));
            named.extend(batch.manifest().catalog.iter().map(|part| part.sha256));
        }
        named.extend(self.records.iter().flat_map(|record| &record.study.objects).map(|object| object.sha256));
        let objects = self.root.join("objects");
        let mut bytes = 0;
        for folder in fs::read_dir(&objects).map_err(Failure::disk(&objects))?.flatten() {
            for file in fs::read_dir(folder.path()).map_err(Failure::disk(&objects))?.flatten() {
                let digest = file.file_name().to_str().and_then(|name| name.parse::<Digest>().ok());
                if digest.is_some_and(|digest| named.contains(&digest)) {
                    bytes += file.metadata().map_err(Failure::disk(&objects))?.len();
                } else {
                    remove(&file.path()).map_err(Failure::disk(&objects))?;
                }
            }
        }
        self.bytes = bytes;
        Ok(())
    }

    /// Keeps an object under its digest. One that is there is written over: it may have been damaged since.
    fn keep(&mut self, sha256: Digest, content: &[u8], folders: &mut BTreeSet<PathBuf>) -> Result<(), Failure> {
        let path = object_path(&self.root, sha256);
        let folder = self.folder_of(&path)?;
        let there = path.exists();
        write(&self.root.join("scratch"), &path, content).map_err(Failure::disk(&path))?;
        if !there {
            self.bytes += content.len() as u64;
        }
        folders.insert(folder);
        Ok(())
    }

    /// The folder of an object, made where it is missing.
    fn folder_of(&self, path: &Path) -> Result<PathBuf, Failure> {
        let folder = path.parent().unwrap_or(&self.root).to_owned();
        if !folder.exists() {
            fs::create_dir_all(&folder).map_err(Failure::disk(&folder))?;
            self.sync("objects")?;
        }
        Ok(folder)
    }

    fn put(&self, folder: &str, id: Id, bytes: &[u8]) -> Result<(), Failure> {
        let path = self.path(folder, id);
        write(&self.root.join("scratch"), &path, bytes).map_err(Failure::disk(&path))?;
        self.sync(folder)
    }

    fn sync(&self, folder: &str) -> Result<(), Failure> {
        let folder = self.root.join(folder);
        sync_folder(&folder).map_err(Failure::disk(&folder))
    }

    fn path(&self, folder: &str, id: Id) -> PathBuf {
        self.root.join(folder).join(format!("{id}.json"))
    }

    fn ids(&self, folder: &str) -> Result<Vec<Id>, Failure> {
        let folder = self.root.join(folder);
        let mut ids = Vec::new();
        for entry in fs::read_dir(&folder).map_err(Failure::disk(&folder))? {
            let name = entry.map_err(Failure::disk(&folder))?.file_name();
            ids.extend(name.to_str().and_then(|name| name.strip_suffix(".json")?.parse::<Id>().ok()));
        }
        ids.sort_unstable();
        Ok(ids)
    }
}

impl Intake<'_> {
    /// Keeps an object; of an intake that is not finished nothing is sent.
    ///
    /// # Errors
    /// [`Failure::Full`], [`Failure::Disk`]; [`Failure::Configuration`] of a study that there is never room for
    pub fn put(&mut self, entry: &Entry<'_>) -> Result<(), Failure> {
        let (content, limits) = (entry.content.bytes(), &self.spool.limits);
        if self.study.objects.len() >= limits.study_objects_max {
            let most = limits.study_objects_max;
            return Err(Failure::Configuration(format!(
                "a study brings more than batch.study_objects_max = {most} objects"
            )));
        }
        let (bytes, sha256) = (self.spool.bytes.saturating_add(content.len() as u64), Digest::of(content));
        if bytes > limits.spool_max_mib * MIB {
            let own: u64 = self.study.objects.iter().map(|object| object.bytes).sum();
            if own.saturating_add(content.len() as u64) > limits.spool_max_mib * MIB {
                let most = limits.spool_max_mib;
                return Err(Failure::Configuration(format!(
                    "a study alone is larger than batch.spool_max_mib = {most}"
                )));
            }
            return Err(Failure::Full { bytes, limit_mib: limits.spool_max_mib });
        }
        self.spool.keep(sha256, content, &mut self.folders)?;
        if let Some(module) = entry.module.filter(|module| !self.modules.contains(module)) {
            self.modules.push(module.clone());
        }
        let (kind, format, module) = (entry.kind, entry.format, entry.module.map(|module| module.digest));
        self.rows.add(kind, format, module, sha256, content)?;
        self.study.objects.push(Object { kind, format, sha256, bytes: content.len() as u64, module });
        Ok(())
    }

    /// What it has so far.
    #[must_use]
    pub fn objects(&self) -> &[Object] {
        &self.study.objects
    }

    /// Makes the record: all of it is durable when this returns.
    ///
    /// # Errors
    /// [`Failure::Disk`], [`Failure::Configuration`]
    pub fn finish(mut self, now: SystemTime) -> Result<Id, Failure> {
        if self.study.objects.is_empty() {
            return Err(Failure::Configuration("a study that brings no object is no part of a batch".to_owned()));
        }
        for folder in std::mem::take(&mut self.folders) {
            sync_folder(&folder).map_err(Failure::disk(&folder))?;
        }
        let record = Record::after(self.spool.records.last(), seconds(now), self.modules, self.study);
        let json = record.written(&self.rows.finish()?)?;
        let id = record.study.record;
        self.spool.put("records", id, &json)?;
        self.spool.records.push(record);
        Ok(id)
    }
}

fn seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

#[cfg(test)]
mod tests;
