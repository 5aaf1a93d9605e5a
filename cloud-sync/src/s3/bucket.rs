//! Files of a bucket by their keys, each whole: for what is no batch.

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::Mutex;

use super::Failure;
use super::body::{PIECE, Progress};
use super::client::CustomerKey;
use super::config::{Config, MIB};
use super::object::Outcome;
use super::requests::Object;
use super::store::{Stop, Store};
use super::trouble::{Kind, Trouble, pause};
use super::upload::{Event, Notify};
use crate::batch::{Digest, Digester};

/// A bucket. Keys are whole: [`Config::prefix`] is not put before them.
pub struct Bucket {
    store: Store,
    on: Notify,
}

/// What came of reading an object.
#[derive(Debug)]
pub enum Fetched {
    /// Digest and size in bytes of all of it.
    Whole(Digest, u64),
    /// There is none.
    Missing,
    /// It has more bytes than were asked for; no more than these were taken.
    TooLong,
    /// What came could not be kept here.
    NotKept(io::Error),
}

/// Takes each piece once, in order.
type Keep<'a> = &'a mut (dyn FnMut(&[u8]) -> io::Result<()> + Send);

/// How far an object was read.
struct Reading<'a> {
    digester: Digester,
    keep: Keep<'a>,
    /// Nobody wants more of it.
    ended: Option<Fetched>,
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
        let (store, config) = (&self.store, &self.store.config);
        let reading = &Mutex::new(Reading { digester: begun, keep, ended: None });
        let what = format!("GET of {key}");
        let read = store.insist(&self.on, &what, |client| async move {
            let mut reading = reading.lock().await;
            let from = reading.digester.bytes();
            let customer_key = store.customer_key.as_ref();
            let request = client
                .get_object()
                .bucket(&config.bucket)
                .key(key)
                .set_range((from > 0).then(|| format!("bytes={from}-")))
                .set_sse_customer_algorithm(customer_key.map(|_| "AES256".to_owned()))
                .set_sse_customer_key(customer_key.map(CustomerKey::encoded))
                .set_sse_customer_key_md5(customer_key.map(|key| key.md5.clone()));
            let mut got = store.answered(async { Ok(request.send().await?) }).await?;
            let mut left = got.content_length.and_then(|bytes| u64::try_from(bytes).ok()).unwrap_or_default();
            let (progress, mut moved) = (Progress::default(), 0);
            let all = async {
                while let Some(piece) = got.body.next().await {
                    let piece = piece.map_err(|error| Trouble::passing(format!("the answer broke off: {error}")))?;
                    progress.hold(true);
                    store.receives.wait(piece.len()).await;
                    progress.hold(false);
                    moved += piece.len();
                    if moved >= PIECE {
                        progress.moved();
                        moved = 0;
                    }
                    left = left.saturating_sub(piece.len() as u64);
                    if !reading.take(&piece, most) {
                        return Ok(());
                    }
                }
                if left > 0 { Err(Trouble::passing("the answer broke off")) } else { Ok(()) }
            };
            progress.watch(store.stall_max(), all).await
        });
        match read.await {
            Err(Stop::Answer(Kind::Missing, _)) => return Ok(Fetched::Missing),
            read => read.map_err(|stop| stop.of(key))?,
        }
        let mut reading = reading.lock().await;
        Ok(reading.ended.take().unwrap_or_else(|| {
            let (digest, bytes) = std::mem::take(&mut reading.digester).finish();
            Fetched::Whole(digest, bytes)
        }))
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

impl Reading<'_> {
    /// Whether more is wanted.
    fn take(&mut self, piece: &[u8], most: u64) -> bool {
        if self.digester.bytes() + piece.len() as u64 > most {
            self.ended = Some(Fetched::TooLong);
        } else {
            self.digester.update(piece);
            self.ended = (self.keep)(piece).err().map(Fetched::NotKept);
        }
        self.ended.is_none()
    }
}
