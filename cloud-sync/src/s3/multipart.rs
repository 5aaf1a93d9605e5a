//! A large object in parts, several at once, gone on with after a crash.

use std::collections::BTreeMap;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use tokio::task::JoinSet;

use super::Failure;
use super::config::{Config, MIB, PARTS_MAX};
use super::journal::{Begun, Journal};
use super::object::{Attempt, Job, blocking};
use super::requests::{Object, Part, Unfinished};
use super::store::Stop;
use super::trouble::Kind;
use super::upload::Event;
use crate::batch::{self, Content, Digest};

/// Sends all that is missing of an object, and completes it.
pub(super) async fn send(
    job: &Arc<Job>,
    object: &Object<'_>,
    content: Content,
    only_new: bool,
) -> Result<Attempt, Failure> {
    let path = batch::object_path(&job.spool, content.sha256);
    // Beside all that follows, so that the file is read while parts are on their way.
    let checked = tokio::spawn(check(path.clone(), content));
    let (journal, mut parts) = match resumed(job, object, content).await? {
        Some(resumed) => resumed,
        None if only_new && job.store.head(&job.on, object.key).await?.is_some() => {
            return Ok(Attempt::Look);
        }
        None => (begin(job, object, content).await?, BTreeMap::new()),
    };
    let journal = Arc::new(journal);
    let sent = send_parts(job, &journal, &path, &mut parts).await;
    let journal = Arc::into_inner(journal).expect("its tasks have ended");
    let upload = journal.begun.upload();
    if let Err(failure) = checked.await.expect("it does not panic and is not cancelled") {
        given_up(job, journal, &upload, String::new()).await?;
        return Err(failure);
    }
    match sent {
        Ok(()) => {}
        // Somebody aborted it, or the server forgot it.
        Err(Stop::Answer(_, why)) => return given_up(job, journal, &upload, why).await,
        Err(Stop::End(failure)) => return Err(failure),
    }
    let parts: Vec<_> = parts.into_values().collect();
    match job.store.complete(&job.on, &upload, &parts, only_new).await {
        Ok(()) => {
            journal.remove()?;
            Ok(Attempt::Sent)
        }
        // There is no such upload any more: it may have been completed by a request whose answer was lost.
        Err(Stop::Answer(Kind::Missing, _)) => {
            journal.remove()?;
            Ok(Attempt::Look)
        }
        Err(Stop::Answer(Kind::Exists, _)) => {
            given_up(job, journal, &upload, String::new()).await?;
            Ok(Attempt::Look)
        }
        Err(Stop::Answer(_, why)) => given_up(job, journal, &upload, why).await,
        Err(Stop::End(failure)) => Err(failure),
    }
}

/// How large parts are: as configured, or as large as it takes to need no more of them than there may be.
fn part_bytes(config: &Config, bytes: u64) -> u64 {
    (config.part_mib * MIB).max(bytes.div_ceil(PARTS_MAX))
}

/// Aborts an upload first, and forgets it then: what cannot be aborted now is found again.
async fn given_up(job: &Job, journal: Journal, upload: &Unfinished, why: String) -> Result<Attempt, Failure> {
    job.store.abort(&job.on, upload).await?;
    journal.remove()?;
    Ok(Attempt::Again(why))
}

async fn begin(job: &Job, object: &Object<'_>, content: Content) -> Result<Journal, Failure> {
    let upload_id = job.store.begin(&job.on, object).await.map_err(|stop| stop.of(object.key))?;
    let begun = Begun {
        version: 1,
        bucket: job.store.config.bucket.clone(),
        key: object.key.to_owned(),
        upload_id,
        part_bytes: part_bytes(&job.store.config, content.bytes),
        bytes: content.bytes,
    };
    Ok(Journal::create(&job.spool, content.sha256, begun)?)
}

type Parts = BTreeMap<i32, (Part, Digest)>;

/// An upload that was begun before, and its parts that need not go again.
async fn resumed(job: &Job, object: &Object<'_>, content: Content) -> Result<Option<(Journal, Parts)>, Failure> {
    let Some(journal) = Journal::open(&job.spool, content.sha256)? else {
        return Ok(None);
    };
    let begun = &journal.begun;
    // Another bucket or prefix than it is now.
    if begun.bucket != job.store.config.bucket
        || begun.key != object.key
        || begun.bytes != content.bytes
        || begun.part_bytes == 0
        || begun.part_bytes > job.store.config.memory_max_mib * MIB
    {
        journal.remove()?;
        return Ok(None);
    }
    match job.store.parts(&job.on, &begun.upload()).await {
        Ok(there) => {
            let agreed = journal.agreed(there).into_iter().map(|(part, digest)| (part.number, (part, digest)));
            let parts = agreed.collect();
            Ok(Some((journal, parts)))
        }
        // It is gone, or the server cannot say what it has of it: anew.
        Err(Stop::Answer(..)) => {
            job.store.abort(&job.on, &begun.upload()).await?;
            journal.remove()?;
            Ok(None)
        }
        Err(Stop::End(failure)) => Err(failure),
    }
}

async fn send_parts(job: &Arc<Job>, journal: &Arc<Journal>, path: &Path, parts: &mut Parts) -> Result<(), Stop> {
    let Begun { part_bytes, bytes, .. } = journal.begun;
    let mut sending = JoinSet::new();
    for (number, from) in (1..).zip((0..bytes).step_by(usize::try_from(part_bytes).unwrap_or(usize::MAX))) {
        if parts.contains_key(&number) {
            continue;
        }
        let piece = Piece { path: path.to_owned(), number, from, bytes: part_bytes.min(bytes - from) };
        sending.spawn(send_part(Arc::clone(job), Arc::clone(journal), piece));
    }
    let mut outcome = Ok(());
    while let Some(sent) = sending.join_next().await {
        match sent {
            Ok(Ok((part, digest))) => {
                parts.insert(part.number, (part, digest));
            }
            Ok(Err(stop)) if outcome.is_ok() => {
                outcome = Err(stop);
                sending.abort_all();
            }
            // Those that were ended because of the first.
            _ => {}
        }
    }
    outcome
}

struct Piece {
    path: PathBuf,
    number: i32,
    from: u64,
    bytes: u64,
}

async fn send_part(job: Arc<Job>, journal: Arc<Journal>, piece: Piece) -> Result<(Part, Digest), Stop> {
    let Piece { path, number, from, bytes } = piece;
    let _memory = job.store.memory_for(bytes).await;
    let (body, digest) = blocking(move || {
        let read = || -> std::io::Result<Vec<u8>> {
            let mut file = std::fs::File::open(&path)?;
            file.seek(SeekFrom::Start(from))?;
            let mut body = vec![0; usize::try_from(bytes).unwrap_or(usize::MAX)];
            file.read_exact(&mut body)?;
            Ok(body)
        };
        let body = Bytes::from(read().map_err(batch::Failure::disk(&path))?);
        let digest = Digest::of(&body);
        Ok((body, digest))
    })
    .await?;
    let etag = job.store.put_part(&job.on, &journal.begun.upload(), number, body, digest).await?;
    let part = Part { number, etag, bytes };
    journal.note(&part, digest).map_err(Failure::from)?;
    (job.on)(&Event::Part { key: journal.begun.key.clone(), number, bytes });
    Ok((part, digest))
}

/// Whether the file in the spool is what it is called.
async fn check(path: PathBuf, content: Content) -> Result<(), Failure> {
    blocking(move || {
        let found = Digest::of_file(&path).map_err(batch::Failure::disk(&path))?;
        if found == (content.sha256, content.bytes) { Ok(()) } else { Err(batch::Failure::Damaged(content.sha256)) }
    })
    .await
}
