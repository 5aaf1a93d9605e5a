//! Batches into the bucket: all objects, then the manifest, then what the catalogue says of it.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use tokio::task::JoinSet;

use super::Failure;
use super::config::Config;
use super::gate::Gate;
use super::object::{Job, Outcome, send_as};
use super::requests::Object;
use super::store::Store;
use super::verify::Found;
use crate::batch::{Batch, Content, Digest, Id, MANIFEST_BYTES_MAX, Manifest, Site, Spool};

pub(super) type Notify = Arc<dyn Fn(&Event) + Send + Sync>;

/// What happens meanwhile, for whoever shows or counts it.
#[derive(Debug, Clone)]
pub enum Event {
    /// A part of a large object is in.
    Part {
        /// Of the object.
        key: String,
        /// From 1.
        number: i32,
        /// Its size.
        bytes: u64,
    },
    /// An object is in.
    Object {
        /// Its digest.
        sha256: Digest,
        /// Its size.
        bytes: u64,
        /// How it came to be there.
        outcome: Outcome,
    },
    /// A batch is in, whole.
    Batch(Id),
    /// A request failed and will be made again.
    Again {
        /// Which.
        what: String,
        /// How it failed.
        why: String,
        /// How often it was made.
        attempt: u32,
        /// In how long.
        after: Duration,
    },
    /// Something else lies under an object's name.
    Replacing {
        /// Which.
        key: String,
        /// How it differs.
        why: String,
    },
    /// A batch was put off until the server is there again.
    Outage {
        /// Which.
        batch: Id,
        /// How it failed.
        why: String,
        /// In how long it is tried again.
        after: Duration,
    },
    /// A check found something wrong.
    Found(Found),
}

/// A batch that is in the bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Uploaded {
    /// Which.
    pub batch: Id,
    /// How many objects it has, each counted once.
    pub objects: usize,
    /// Their size.
    pub bytes: u64,
    /// How many of them were sent.
    pub sent: usize,
    /// How many were there.
    pub there: usize,
    /// How many took the place of something else.
    pub replaced: usize,
}

/// What an uploader is doing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Status {
    /// The batch on its way.
    pub batch: Option<Id>,
    /// Its objects.
    pub objects: usize,
    /// Those that are in.
    pub objects_done: usize,
    /// Their size.
    pub bytes: u64,
    /// Of those that are in.
    pub bytes_done: u64,
    /// What went wrong last, since the batch before.
    pub trouble: Option<String>,
}

/// Uploads the batches of one site to one bucket.
pub struct Uploader {
    pub(super) store: Arc<Store>,
    status: Arc<Mutex<Status>>,
}

impl Uploader {
    /// Reads credentials and keys; asks nothing of the bucket yet.
    ///
    /// # Errors
    /// [`Failure::Configuration`]
    pub async fn connect(config: Config, site: &Site) -> Result<Self, Failure> {
        let store = Arc::new(Store::connect(config, site, None).await?);
        Ok(Self { store, status: Arc::default() })
    }

    /// The same; nothing leaves but through this gate.
    ///
    /// # Errors
    /// As of [`Self::connect`].
    pub async fn connect_through(gate: Arc<dyn Gate>, config: Config, site: &Site) -> Result<Self, Failure> {
        let store = Arc::new(Store::connect(config, site, Some(gate)).await?);
        Ok(Self { store, status: Arc::default() })
    }

    /// Makes a batch be in the bucket, whole: what is missing of it is sent, then its manifest, and its catalogue last. To be called again after any failure
    /// or crash; also when it was in already. One out of which all were taken is there only where it was before.
    ///
    /// # Errors
    /// [`Failure`]; where it [is passing](Failure::is_passing), only time is needed.
    pub async fn upload(
        &self,
        batch: &Batch,
        on: impl Fn(&Event) + Send + Sync + 'static,
    ) -> Result<Uploaded, Failure> {
        let contents = batch.manifest().contents();
        let bytes = contents.iter().map(|content| content.bytes).sum();
        let objects = contents.len();
        self.now(|status| *status = Status { batch: Some(batch.id()), objects, bytes, ..Status::default() });
        let job = self.job(batch.root(), on);
        let mut uploaded = Uploaded { batch: batch.id(), objects, bytes, sent: 0, there: 0, replaced: 0 };
        let key = format!("{}{}", job.store.root(), Manifest::path(batch.id()));
        if batch.manifest().studies.is_empty() && job.store.head(&job.on, &key).await?.is_none() {
            (job.on)(&Event::Batch(batch.id()));
            return Ok(uploaded);
        }
        let root = job.store.root();
        let objects = contents.into_iter().map(|content| (format!("{root}{}", content.sha256.path()), content));
        send_all(&job, objects, |content, outcome| {
            match outcome {
                Outcome::Sent => uploaded.sent += 1,
                Outcome::There => uploaded.there += 1,
                Outcome::Replaced => uploaded.replaced += 1,
            }
            (job.on)(&Event::Object { sha256: content.sha256, bytes: content.bytes, outcome });
        })
        .await?;
        send_manifest(&job, batch, &key).await?;
        let prefix = &job.store.config.prefix;
        let files = batch.manifest().catalog_files().into_iter();
        send_all(&job, files.map(|(path, content)| (format!("{prefix}{path}"), content)), |_, _| {}).await?;
        (job.on)(&Event::Batch(batch.id()));
        Ok(uploaded)
    }

    /// Uploads what waits in a spool, oldest first, for as long as it takes: while the server is away it waits and tries again.
    ///
    /// # Errors
    /// What does not go away by itself.
    pub async fn drain(
        &self,
        spool: &mut Spool,
        on: impl Fn(&Event) + Send + Sync + Clone + 'static,
    ) -> Result<Vec<Uploaded>, Failure> {
        let mut done = Vec::new();
        let after = Duration::from_secs(self.store.config.outage_pause_s);
        for id in spool.sealed()? {
            let batch = spool.batch(id)?;
            loop {
                match self.upload(&batch, on.clone()).await {
                    Ok(uploaded) => {
                        done.push(uploaded);
                        break;
                    }
                    Err(failure) if failure.is_passing() => {
                        on(&Event::Outage { batch: id, why: failure.to_string(), after });
                        tokio::time::sleep(after).await;
                    }
                    Err(failure) => return Err(failure),
                }
            }
            spool.finish(id, SystemTime::now())?;
        }
        Ok(done)
    }

    /// Asks for one page of manifests: whether there is such a bucket, which may be listed.
    ///
    /// # Errors
    /// [`Failure`]
    pub async fn look(&self) -> Result<(), Failure> {
        let on: Notify = Arc::new(|_| {});
        self.store.manifests(&on, None).await.map(|_| ())
    }

    /// What it is doing now.
    #[must_use]
    pub fn status(&self) -> Status {
        self.status.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn job(&self, spool: &std::path::Path, on: impl Fn(&Event) + Send + Sync + 'static) -> Arc<Job> {
        let status = Arc::clone(&self.status);
        let on: Notify = Arc::new(move |event| {
            note(&mut status.lock().unwrap_or_else(PoisonError::into_inner), event);
            on(event);
        });
        Arc::new(Job { store: Arc::clone(&self.store), on, spool: spool.to_owned() })
    }

    fn now(&self, change: impl FnOnce(&mut Status)) {
        change(&mut self.status.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

fn note(status: &mut Status, event: &Event) {
    match event {
        Event::Object { bytes, .. } => {
            status.objects_done += 1;
            status.bytes_done += bytes;
        }
        Event::Batch(_) => *status = Status::default(),
        Event::Again { what, why, .. } => status.trouble = Some(format!("{what}: {why}")),
        Event::Replacing { key, why } => status.trouble = Some(format!("{key}: {why}")),
        Event::Part { .. } | Event::Outage { .. } | Event::Found(_) => {}
    }
}

/// Sends each unless it is there under its key, several at once.
async fn send_all(
    job: &Arc<Job>,
    mut contents: impl Iterator<Item = (String, Content)>,
    mut sent: impl FnMut(Content, Outcome),
) -> Result<(), Failure> {
    let mut sending = JoinSet::new();
    loop {
        // Some more than requests, so that files are read while others are on their way.
        while sending.len() < 2 * job.store.config.parallel_requests_max {
            let Some((key, content)) = contents.next() else {
                break;
            };
            let job = Arc::clone(job);
            sending.spawn(async move { send_as(&job, &key, content, true).await.map(|outcome| (content, outcome)) });
        }
        let Some(done) = sending.join_next().await else {
            return Ok(());
        };
        let (content, outcome) = done.expect("it does not panic and is not cancelled")?;
        sent(content, outcome);
    }
}

/// Puts a manifest where none is. Its name is not a digest, so one that differs is written over only where it is ours, of the same batch before
/// somebody was taken out of it.
pub(super) async fn send_manifest(job: &Job, batch: &Batch, key: &str) -> Result<(), Failure> {
    let (store, on, envelope) = (&job.store, &job.on, batch.envelope());
    let object = Object { key, sha256: Digest::of(envelope), media_type: "application/json" };
    let body = Bytes::copy_from_slice(envelope);
    match store.create(on, &object, &body, store.config.read_back).await {
        Err(Failure::Taken(_)) => {}
        created => return created.map(drop),
    }
    let there = store.get(on, key, MANIFEST_BYTES_MAX).await?;
    if !there.is_some_and(|there| batch.takes_place_of(key, &there)) {
        return Err(Failure::Taken(key.to_owned()));
    }
    on(&Event::Replacing { key: key.to_owned(), why: "somebody was taken out of its batch".to_owned() });
    store.replace(on, key, envelope).await?;
    // It is looked at as one that was there.
    store.create(on, &object, &body, true).await.map(drop)
}
