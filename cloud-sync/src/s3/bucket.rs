//! Files of a bucket by their keys, each whole: for what is no batch.

use std::sync::Arc;

use bytes::Bytes;

use super::Failure;
use super::config::{Config, MIB};
use super::object::Outcome;
use super::read::{Fetched, Keep};
use super::requests::Object;
use super::store::{Stop, Store};
use super::trouble::{Kind, pause};
use super::upload::{Event, Notify};
use crate::batch::{Digest, Digester};

/// A bucket. Keys are whole: [`Config::prefix`] is not put before them.
pub struct Bucket {
    store: Store,
    on: Notify,
}

impl Bucket {
    /// The most that one request puts, MiB: S3 takes no more.
    pub const CREATE_MAX_MIB: u64 = 5120;

    /// Reads credentials and keys; asks nothing of the bucket yet. What fails and is tried again is told to `on`.
    ///
    /// # Errors
    /// [`Failure::Configuration`]
    pub async fn connect(config: Config, on: impl Fn(&Event) + Send + Sync + 'static) -> Result<Self, Failure> {
        Ok(Self { store: Store::below(config, String::new()).await?, on: Arc::new(on) })
    }

    /// Reads an object of at most so many bytes, piece by piece. It begins behind the bytes that the digester was given, and what breaks
    /// off goes on from where it broke off.
    ///
    /// # Errors
    /// [`Failure`], after all attempts.
    pub async fn fetch(&self, key: &str, begun: Digester, most: u64, keep: Keep<'_>) -> Result<Fetched, Failure> {
        self.store.read(&self.on, key, begun, most, keep).await
    }

    /// Makes an object of at most [`Bucket::CREATE_MAX_MIB`] be there, where nothing is, and reads it back. One that is there and is
    /// the same is left as it is.
    ///
    /// # Errors
    /// [`Failure::Taken`] where something else is there; it is not written over.
    pub async fn create(&self, key: &str, media_type: &str, body: Bytes) -> Result<Outcome, Failure> {
        let (config, sha256, bytes) = (&self.store.config, Digest::of(&body), body.len() as u64);
        if bytes > Self::CREATE_MAX_MIB * MIB {
            let why = format!("it has more than {} MiB, the most of one request", Self::CREATE_MAX_MIB);
            return Err(Failure::Refused { what: key.to_owned(), why });
        }
        let object = Object { key, sha256, media_type };
        let (mut only_new, mut why) = (true, String::new());
        for attempt in 1..=config.attempts_max {
            if attempt > 1 {
                tokio::time::sleep(pause(config, attempt - 1)).await;
            }
            let created = match self.store.put(&self.on, &object, body.clone(), only_new).await {
                Ok(()) => true,
                Err(Stop::Answer(Kind::Exists, _)) => false,
                Err(Stop::Answer(Kind::Conflict, reason)) => {
                    why = reason;
                    continue;
                }
                Err(stop) => return Err(stop.of(key)),
            };
            match self.fetch(key, Digester::default(), bytes, &mut |_| Ok(())).await? {
                Fetched::Whole(found, _) if found == sha256 => {
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
        let attempts = config.attempts_max;
        Err(Failure::Changed { key: key.to_owned(), attempts, why })
    }
}
