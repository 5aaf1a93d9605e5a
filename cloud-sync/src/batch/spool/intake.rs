//! A study on its way into the spool, object by object.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::SystemTime;

use super::super::durable::sync_folder;
use super::super::record::Record;
use super::super::{Digest, Failure, Format, Id, Kind, Module, Object, Profile, Releasable, Study};
use super::{MIB, Spool, seconds};
use crate::catalog::Gatherer;

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

impl<'s> Intake<'s> {
    pub(super) fn new(spool: &'s mut Spool, record: Id, profile: &Profile) -> Self {
        let study = Study { record, profile: profile.clone(), objects: Vec::new() };
        let rows = Gatherer::new(&profile.name, spool.limits.study_rows_max);
        Self { spool, study, modules: Vec::new(), folders: BTreeSet::new(), rows }
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
        let record = Record::new(self.spool.next, seconds(now), self.modules, self.study);
        let json = record.written(&self.rows.finish()?)?;
        let id = record.study.record;
        self.spool.put("records", id, &json)?;
        self.spool.next = self.spool.next.saturating_add(1);
        self.spool.records.push(record);
        Ok(id)
    }
}
