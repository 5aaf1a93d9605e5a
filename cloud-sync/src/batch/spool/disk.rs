//! The spool's files: what a crash left half done, what nobody names any more, and where each lies.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use super::super::durable::{remove, sync_folder, write};
use super::super::record::Record;
use super::super::sealed::object_path;
use super::super::{Digest, Failure, Id};
use super::Spool;

impl Spool {
    pub(super) fn recover(&mut self) -> Result<(), Failure> {
        let scratch = self.root.join("scratch");
        for entry in fs::read_dir(&scratch).map_err(Failure::disk(&scratch))?.flatten() {
            remove(&entry.path()).map_err(Failure::disk(&scratch))?;
        }
        let mut objects = BTreeSet::new();
        let sealed = self.named_in(self.sealed()?, &mut objects)?;
        let sent = self.named_in(self.sent()?, &mut objects)?;
        for id in self.ids("records")? {
            let path = self.path("records", id);
            if sent.contains(&id) {
                remove(&path).map_err(Failure::disk(&path))?;
                continue;
            }
            let record = Record::read(&path)?;
            self.next = self.next.max(record.number.saturating_add(1));
            if !sealed.contains(&id) {
                self.records.push(record);
            }
        }
        self.records.sort_by_key(|record| record.number);
        self.sync("records")?;
        self.sweep_all_but(objects)
    }

    /// Records of these batches, and their objects, files of the catalogue among them.
    fn named_in(&self, batches: Vec<Id>, objects: &mut BTreeSet<Digest>) -> Result<BTreeSet<Id>, Failure> {
        let mut records = BTreeSet::new();
        for id in batches {
            let batch = self.batch(id)?;
            let manifest = batch.manifest();
            records.extend(manifest.studies.iter().map(|study| study.record));
            objects.extend(manifest.studies.iter().flat_map(|study| &study.objects).map(|object| object.sha256));
            objects.extend(manifest.catalog.iter().map(|part| part.sha256));
        }
        Ok(records)
    }

    /// Removes objects that no record and no batch names, and counts the others.
    pub(super) fn sweep(&mut self) -> Result<(), Failure> {
        let mut objects = BTreeSet::new();
        self.named_in(self.sealed()?, &mut objects)?;
        self.named_in(self.sent()?, &mut objects)?;
        self.sweep_all_but(objects)
    }

    /// The same, with objects that batches name.
    fn sweep_all_but(&mut self, mut named: BTreeSet<Digest>) -> Result<(), Failure> {
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
    pub(super) fn keep(
        &mut self,
        sha256: Digest,
        content: &[u8],
        folders: &mut BTreeSet<PathBuf>,
    ) -> Result<(), Failure> {
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
    pub(super) fn folder_of(&self, path: &Path) -> Result<PathBuf, Failure> {
        let folder = path.parent().unwrap_or(&self.root).to_owned();
        if !folder.exists() {
            fs::create_dir_all(&folder).map_err(Failure::disk(&folder))?;
            self.sync("objects")?;
        }
        Ok(folder)
    }

    pub(super) fn put(&self, folder: &str, id: Id, bytes: &[u8]) -> Result<(), Failure> {
        let path = self.path(folder, id);
        write(&self.root.join("scratch"), &path, bytes).map_err(Failure::disk(&path))?;
        self.sync(folder)
    }

    pub(super) fn sync(&self, folder: &str) -> Result<(), Failure> {
        let folder = self.root.join(folder);
        sync_folder(&folder).map_err(Failure::disk(&folder))
    }

    pub(super) fn path(&self, folder: &str, id: Id) -> PathBuf {
        self.root.join(folder).join(format!("{id}.json"))
    }

    pub(super) fn ids(&self, folder: &str) -> Result<Vec<Id>, Failure> {
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
