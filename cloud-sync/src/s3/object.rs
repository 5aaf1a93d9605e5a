//! One object into the bucket, and proof that it is there.

use std::sync::Arc;

use bytes::Bytes;

use super::config::MIB;
use super::read::Fetched;
use super::requests::Object;
use super::store::{Stop, Store};
use super::trouble::{Kind, pause};
use super::upload::{Event, Notify};
use super::{Failure, multipart};
use crate::batch::{self, Content, Digest};

/// What sends the objects of one spool.
pub(super) struct Job {
    pub(super) store: Arc<Store>,
    pub(super) on: Notify,
    pub(super) spool: std::path::PathBuf,
}

/// How an object came to be there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It was sent.
    Sent,
    /// It was there.
    There,
    /// Something else was there under its name.
    Replaced,
}

/// What one attempt came to.
pub(super) enum Attempt {
    Sent,
    /// Something lies there, or may: look.
    Look,
    /// Somebody else came in between: again.
    Again(String),
}

/// How what lies in the bucket differs from what should.
pub(super) enum Compared {
    Same,
    Missing,
    Different(String),
}

/// Sends an object unless it is there. What lies under its key and is something else is replaced: its name, or the manifest that is there,
/// says what must be there.
pub(super) async fn send_as(
    job: &Arc<Job>,
    key: &str,
    content: Content,
    mut only_new: bool,
) -> Result<Outcome, Failure> {
    let config = &job.store.config;
    if content.bytes > config.object_max_gib * 1024 * MIB {
        let (sha256, bytes, limit_gib) = (content.sha256, content.bytes, config.object_max_gib);
        return Err(Failure::TooLarge { sha256, bytes, limit_gib });
    }
    let object = Object { key, sha256: content.sha256, media_type: content.media_type };
    let mut different = None;
    let mut why = String::new();
    for attempt in 1..=config.attempts_max {
        if attempt > 1 {
            tokio::time::sleep(pause(config, attempt - 1)).await;
        }
        let sent = if content.bytes > config.multipart_above_mib * MIB {
            multipart::send(job, &object, content, only_new).await?
        } else {
            whole(job, &object, content, only_new).await?
        };
        let outcome = match sent {
            Attempt::Again(reason) => {
                why = reason;
                continue;
            }
            Attempt::Sent if different.is_some() => Outcome::Replaced,
            Attempt::Sent => Outcome::Sent,
            Attempt::Look => Outcome::There,
        };
        if outcome != Outcome::There && !config.read_back {
            return Ok(outcome);
        }
        match compare(job, key, content, config.read_back).await? {
            Compared::Same => return Ok(outcome),
            Compared::Missing => why = "it is not there".to_owned(),
            Compared::Different(reason) => {
                (job.on)(&Event::Replacing { key: key.to_owned(), why: reason.clone() });
                different = Some(reason);
                only_new = false;
            }
        }
    }
    let (attempts, key) = (config.attempts_max, key.to_owned());
    match different {
        Some(why) => Err(Failure::Changed { key, attempts, why }),
        None => Err(Failure::Unreachable { what: format!("upload of {key}"), attempts, why }),
    }
}

impl Store {
    /// Makes an object whose name is not its digest be there, where nothing is. One that is there and is the same is left as it is.
    pub(super) async fn create(
        &self,
        on: &Notify,
        object: &Object<'_>,
        body: &Bytes,
        read_back: bool,
    ) -> Result<Outcome, Failure> {
        let (config, key) = (&self.config, object.key);
        let (mut only_new, mut why) = (true, String::new());
        for attempt in 1..=config.attempts_max {
            if attempt > 1 {
                tokio::time::sleep(pause(config, attempt - 1)).await;
            }
            let created = match self.put(on, object, body.clone(), only_new).await {
                Ok(()) if !read_back => return Ok(Outcome::Sent),
                Ok(()) => true,
                Err(Stop::Answer(Kind::Exists, _)) => false,
                Err(Stop::Answer(Kind::Conflict, reason)) => {
                    why = reason;
                    continue;
                }
                Err(stop) => return Err(stop.of(key)),
            };
            match self.digest(on, key, body.len() as u64).await? {
                Fetched::Whole(found, _) if found == object.sha256 => {
                    return Ok(if created { Outcome::Sent } else { Outcome::There });
                }
                Fetched::Missing => why = "it is not there".to_owned(),
                // What we created ourselves a moment ago may be written over.
                _ if created => {
                    only_new = false;
                    why = "its digest is another".to_owned();
                }
                _ => return Err(Failure::Taken(key.to_owned())),
            }
        }
        let (attempts, key) = (config.attempts_max, key.to_owned());
        match only_new {
            true => Err(Failure::Unreachable { what: format!("upload of {key}"), attempts, why }),
            false => Err(Failure::Changed { key, attempts, why }),
        }
    }
}

/// Holds what lies in the bucket against what should: by its size and metadata, or, where asked, by all of its bytes.
pub(super) async fn compare(job: &Job, key: &str, content: Content, read: bool) -> Result<Compared, Failure> {
    if read {
        return Ok(match job.store.digest(&job.on, key, content.bytes).await? {
            Fetched::Missing => Compared::Missing,
            Fetched::Whole(sha256, _) if sha256 == content.sha256 => Compared::Same,
            Fetched::Whole(_, bytes) if bytes != content.bytes => {
                Compared::Different(format!("it has {bytes} bytes instead of {}", content.bytes))
            }
            Fetched::Whole(sha256, _) => Compared::Different(format!("its SHA-256 is {sha256}")),
            Fetched::TooLong | Fetched::NotKept(_) => {
                Compared::Different(format!("it has more than {} bytes", content.bytes))
            }
        });
    }
    Ok(match job.store.head(&job.on, key).await? {
        None => Compared::Missing,
        Some(head) if head.bytes != content.bytes => {
            Compared::Different(format!("it has {} bytes instead of {}", head.bytes, content.bytes))
        }
        Some(head) if head.sha256 == Some(content.sha256) => Compared::Same,
        Some(_) => Compared::Different("its metadata do not give its SHA-256".to_owned()),
    })
}

/// In one request.
async fn whole(job: &Job, object: &Object<'_>, content: Content, only_new: bool) -> Result<Attempt, Failure> {
    let _memory = job.store.memory_for(content.bytes).await;
    let path = batch::object_path(&job.spool, content.sha256);
    let body = blocking(move || {
        // A file that grew is not read to its end.
        let grown = std::fs::metadata(&path).map_err(batch::Failure::disk(&path))?.len() != content.bytes;
        let body = if grown { Vec::new() } else { std::fs::read(&path).map_err(batch::Failure::disk(&path))? };
        if grown || Digest::of(&body) != content.sha256 {
            return Err(batch::Failure::Damaged(content.sha256));
        }
        Ok(Bytes::from(body))
    })
    .await?;
    match job.store.put(&job.on, object, body, only_new).await {
        Ok(()) => Ok(Attempt::Sent),
        Err(Stop::Answer(Kind::Exists, _)) => Ok(Attempt::Look),
        Err(Stop::Answer(Kind::Conflict, why)) => Ok(Attempt::Again(why)),
        Err(stop) => Err(stop.of(object.key)),
    }
}

/// Work on files, off the threads that serve the network.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, batch::Failure> + Send + 'static,
) -> Result<T, Failure> {
    tokio::task::spawn_blocking(work).await.expect("it does not panic and is not cancelled").map_err(Failure::from)
}
