//! Files of a bucket by their keys, each whole: for what is no batch.

use std::sync::Arc;

use bytes::Bytes;

use super::Failure;
use super::config::{Config, MIB};
use super::object::Outcome;
use super::read::{Fetched, Keep};
use super::requests::Object;
use super::store::Store;
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
        if body.len() as u64 > Self::CREATE_MAX_MIB * MIB {
            let why = format!("it has more than {} MiB, the most of one request", Self::CREATE_MAX_MIB);
            return Err(Failure::Refused { what: key.to_owned(), why });
        }
        let object = Object { key, sha256: Digest::of(&body), media_type };
        self.store.create(&self.on, &object, &body, true).await
    }
}
