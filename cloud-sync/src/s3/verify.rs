//! Whether the bucket has what its manifests say, and no more than that in the making; and how to make it so.

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;

use tokio::task::JoinSet;

use super::Failure;
use super::journal::Journal;
use super::object::{Compared, Job, Outcome, compare, send_as};
use super::pages::Pages;
use super::upload::{Event, Uploader, send_manifest};
use crate::batch::{Content, Digest, Id, MANIFEST_BYTES_MAX, Manifest, PublicKey, Sealed, Spool, Study};

/// Something that is not as it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// A manifest that cannot be believed.
    Manifest {
        /// Where it lies.
        key: String,
        /// What is wrong with it.
        why: String,
    },
    /// A batch that was sent, and whose manifest is not there.
    Batch(Id),
    /// An object that is not there.
    Missing(String),
    /// An object that is something else.
    Damaged {
        /// Where it lies.
        key: String,
        /// How it differs.
        why: String,
    },
    /// A multipart upload that nobody will complete.
    Orphan {
        /// Of which object.
        key: String,
        /// Which.
        upload_id: String,
    },
    /// What was missing or damaged, and is right again.
    Repaired(String),
    /// What is missing or damaged, and of which the spool has nothing any more: hand the study in again.
    Lost(String),
    /// What is missing or damaged, and has something of somebody who opted out since: it is not sent again.
    OptedOut {
        /// Which.
        what: String,
        /// It has something of others, too, who miss it.
        others: bool,
    },
}

/// How many of what there are.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    /// Manifests that were read.
    pub batches: usize,
    /// Objects and files of the catalogue that they name; one that two batches name counts twice.
    pub objects: usize,
    /// Their size.
    pub bytes: u64,
    /// Manifests that cannot be believed, or are not there.
    pub manifests_wrong: usize,
    /// Objects that are not there.
    pub missing: usize,
    /// Objects that are something else.
    pub damaged: usize,
    /// Multipart uploads that nobody will complete.
    pub orphans: usize,
    /// Of all these, what was put right.
    pub repaired: usize,
    /// Of all these, what is missing and nobody misses: all in it is of those who opted out since.
    pub opted_out: usize,
}

impl Report {
    /// Whether the bucket is, or is now, as it should be.
    #[must_use]
    pub fn is_right(&self) -> bool {
        self.manifests_wrong + self.missing + self.damaged + self.orphans == self.repaired + self.opted_out
    }
}

/// How closely to look, and what to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Check {
    /// Read all bytes of all objects; otherwise only what HEAD says.
    pub read: bool,
    /// Put right what can be.
    pub repair: bool,
}

impl Uploader {
    /// Holds the bucket against its manifests, as far as they are signed by the spool's site or by one of these keys. It keeps the spool
    /// from being uploaded meanwhile; what waits in it is not missed in the bucket. `opted_out` are records of those who opted out since: nothing
    /// of them is sent again.
    ///
    /// # Errors
    /// [`Failure`] where the check itself could not be made; what it finds is in the report, and each in an [`Event::Found`].
    pub async fn verify(
        &self,
        spool: &mut Spool,
        trusted: &[PublicKey],
        opted_out: &HashSet<Id>,
        check: Check,
        on: impl Fn(&Event) + Send + Sync + 'static,
    ) -> Result<Report, Failure> {
        let job = self.job(spool.root(), on);
        let keys: Vec<_> = [spool.public_key()].into_iter().chain(trusted.iter().cloned()).collect();
        let look = Look { job: &job, keys: &keys, opted_out, check };
        let mut report = Report::default();
        let mut seen = BTreeSet::new();
        let (mut pages, mut from) = (Pages::of("listing batches"), None);
        loop {
            let (page, next) = job.store.manifests(&job.on, from).await?;
            from = pages.next(page.len(), next)?;
            for key in page {
                seen.extend(batch_of(&key));
                if let Some(manifest) = look.manifest(spool, &key, &mut report).await? {
                    look.objects(&manifest, &mut report).await?;
                    look.catalog(&manifest, &mut report).await?;
                }
            }
            if from.is_none() {
                break;
            }
        }
        for id in spool.sent()? {
            if seen.contains(&id) {
                continue;
            }
            let batch = spool.batch(id)?;
            // One out of which all were taken before it was there.
            if batch.manifest().studies.is_empty() {
                continue;
            }
            report.manifests_wrong += 1;
            (job.on)(&Event::Found(Found::Batch(id)));
            let path = Manifest::path(id);
            let whose = look.whose(batch.manifest());
            if whose != Whose::Others {
                report.opted_out += usize::from(whose == Whose::OptedOut);
                stays(&job, path, whose);
            } else if check.repair {
                look.objects(batch.manifest(), &mut report).await?;
                send_manifest(&job, &batch, &format!("{}{path}", job.store.root())).await?;
                repaired(&job, &mut report, path);
                look.catalog(batch.manifest(), &mut report).await?;
            }
        }
        orphans(&job, spool, check, &mut report).await?;
        Ok(report)
    }
}

/// Of whom something is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Whose {
    /// Of those alone who opted out since: it is not sent again, and not missed.
    OptedOut,
    /// Of one of them, and of others: it is not sent again.
    Both,
    Others,
}

/// How the bucket is looked at.
struct Look<'l> {
    job: &'l Arc<Job>,
    /// Of which signatures are believed.
    keys: &'l [PublicKey],
    /// Records of which nothing is sent again.
    opted_out: &'l HashSet<Id>,
    check: Check,
}

impl Look<'_> {
    /// Reads a manifest, and puts it right where the spool has it.
    async fn manifest(&self, spool: &Spool, key: &str, report: &mut Report) -> Result<Option<Manifest>, Failure> {
        let job = self.job;
        let Some(envelope) = job.store.get(&job.on, key, MANIFEST_BYTES_MAX).await? else {
            return Ok(None);
        };
        report.batches += 1;
        let name = |manifest: &Manifest| format!("{}{}", job.store.root(), Manifest::path(manifest.batch));
        let ours = batch_of(key).and_then(|id| spool.batch(id).ok());
        let why = match Sealed::read(key, envelope, self.keys) {
            Ok(sealed) if name(sealed.manifest()) != key => "it is the manifest of another batch".to_owned(),
            Ok(sealed) => {
                // Somebody was taken out of the batch before it was sent. One that waits takes its place when it is sent.
                let earlier = ours.as_ref().is_some_and(|ours| ours.takes_place_of(key, sealed.envelope()));
                if !earlier || !spool.sent()?.contains(&sealed.manifest().batch) {
                    return Ok(Some(sealed.manifest().clone()));
                }
                "it is of the batch before somebody was taken out of it".to_owned()
            }
            Err(error) => error.to_string(),
        };
        report.manifests_wrong += 1;
        (job.on)(&Event::Found(Found::Manifest { key: key.to_owned(), why }));
        let Some(ours) = ours else { return Ok(None) };
        let whose = self.whose(ours.manifest());
        if whose != Whose::Others {
            stays(job, key.to_owned(), whose);
            return Ok(None);
        }
        if !self.check.repair {
            return Ok(None);
        }
        job.store.replace(&job.on, key, ours.envelope()).await?;
        repaired(job, report, key.to_owned());
        Ok(Some(ours.manifest().clone()))
    }

    /// Of whom a batch is.
    fn whose(&self, manifest: &Manifest) -> Whose {
        let out = manifest.studies.iter().filter(|study| self.opted_out.contains(&study.record)).count();
        match out {
            0 => Whose::Others,
            _ if out == manifest.studies.len() => Whose::OptedOut,
            _ => Whose::Both,
        }
    }

    /// Checks the objects of a manifest, several at once.
    async fn objects(&self, manifest: &Manifest, report: &mut Report) -> Result<(), Failure> {
        let (out, others): (Vec<_>, Vec<_>) =
            manifest.studies.iter().partition(|study| self.opted_out.contains(&study.record));
        let objects = |studies: Vec<&Study>| -> HashSet<Digest> {
            studies.into_iter().flat_map(|study| &study.objects).map(|object| object.sha256).collect()
        };
        let (out, others) = (objects(out), objects(others));
        // What says the same of both says nothing of who opted out that is not also of the others.
        let whose = |sha256: &Digest| match out.contains(sha256) && !others.contains(sha256) {
            true => Whose::OptedOut,
            false => Whose::Others,
        };
        let root = self.job.store.root();
        let contents = manifest.contents().into_iter();
        let keyed = contents.map(|content| (format!("{root}{}", content.sha256.path()), content));
        self.all(keyed.map(|(key, content)| (key, content, whose(&content.sha256))), report).await
    }

    /// The same of what the catalogue has of it: each of its files may have rows of any of its studies.
    async fn catalog(&self, manifest: &Manifest, report: &mut Report) -> Result<(), Failure> {
        let (prefix, whose) = (&self.job.store.config.prefix, self.whose(manifest));
        let files = manifest.catalog_files().into_iter();
        self.all(files.map(|(path, content)| (format!("{prefix}{path}"), content, whose)), report).await
    }

    /// Contents by their keys, and of whom each is.
    async fn all(
        &self,
        mut contents: impl Iterator<Item = (String, Content, Whose)>,
        report: &mut Report,
    ) -> Result<(), Failure> {
        let mut checking = JoinSet::new();
        loop {
            while checking.len() < self.job.store.config.parallel_requests_max {
                let Some((key, content, whose)) = contents.next() else {
                    break;
                };
                report.objects += 1;
                report.bytes += content.bytes;
                checking.spawn(one(Arc::clone(self.job), key, content, whose, self.check));
            }
            let Some(checked) = checking.join_next().await else {
                return Ok(());
            };
            let checked = checked.expect("it does not panic and is not cancelled")?;
            report.missing += usize::from(checked.missing);
            report.damaged += usize::from(checked.damaged);
            report.repaired += usize::from(checked.repaired);
            report.opted_out += usize::from(checked.opted_out);
        }
    }
}

/// Which batch the manifest under this key should be of.
fn batch_of(key: &str) -> Option<Id> {
    key.rsplit('/').next()?.strip_suffix(".dsse.json")?.parse().ok()
}

#[derive(Default)]
struct Checked {
    missing: bool,
    damaged: bool,
    repaired: bool,
    opted_out: bool,
}

async fn one(job: Arc<Job>, key: String, content: Content, whose: Whose, check: Check) -> Result<Checked, Failure> {
    let mut checked = Checked::default();
    let found = match compare(&job, &key, content, check.read).await? {
        Compared::Same => return Ok(checked),
        Compared::Missing => {
            checked.missing = true;
            Found::Missing(key.clone())
        }
        Compared::Different(why) => {
            checked.damaged = true;
            Found::Damaged { key: key.clone(), why }
        }
    };
    (job.on)(&Event::Found(found));
    if whose != Whose::Others {
        checked.opted_out = checked.missing && whose == Whose::OptedOut;
        stays(&job, key, whose);
        return Ok(checked);
    }
    if !check.repair {
        return Ok(checked);
    }
    if !crate::batch::object_path(&job.spool, content.sha256).exists() {
        (job.on)(&Event::Found(Found::Lost(key)));
        return Ok(checked);
    }
    match send_as(&job, &key, content, checked.missing).await? {
        Outcome::Sent | Outcome::There | Outcome::Replaced => {
            checked.repaired = true;
            (job.on)(&Event::Found(Found::Repaired(key)));
        }
    }
    Ok(checked)
}

/// Uploads of this site that no batch on its way needs.
async fn orphans(job: &Arc<Job>, spool: &Spool, check: Check, report: &mut Report) -> Result<(), Failure> {
    let mut wanted = BTreeSet::new();
    for id in spool.sealed()? {
        let batch = spool.batch(id)?;
        wanted.extend(batch.manifest().contents().into_iter().map(|content| content.sha256));
        wanted.extend(batch.manifest().catalog.iter().map(|part| part.sha256));
    }
    let mut live = BTreeSet::new();
    for digest in Journal::all(spool.root())? {
        let Some(journal) = Journal::open(spool.root(), digest)? else {
            continue;
        };
        if wanted.contains(&digest) {
            live.insert(journal.begun.upload_id);
        } else if check.repair {
            journal.remove()?;
        }
    }
    for upload in job.store.unfinished(&job.on).await? {
        if live.contains(&upload.upload_id) {
            continue;
        }
        report.orphans += 1;
        let (key, upload_id) = (upload.key.clone(), upload.upload_id.clone());
        (job.on)(&Event::Found(Found::Orphan { key, upload_id }));
        if check.repair {
            job.store.abort(&job.on, &upload).await?;
            repaired(job, report, upload.key);
        }
    }
    Ok(())
}

fn repaired(job: &Job, report: &mut Report, what: String) {
    report.repaired += 1;
    (job.on)(&Event::Found(Found::Repaired(what)));
}

fn stays(job: &Job, what: String, whose: Whose) {
    (job.on)(&Event::Found(Found::OptedOut { what, others: whose == Whose::Both }));
}
