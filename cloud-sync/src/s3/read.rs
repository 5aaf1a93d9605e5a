//! An object piece by piece, at its pace, to its end; what breaks off goes on from there.

use std::io;

use tokio::sync::Mutex;

use super::Failure;
use super::body::{PIECE, Progress};
use super::client::CustomerKey;
use super::store::{Stop, Store};
use super::trouble::{Kind, Trouble};
use super::upload::Notify;
use crate::batch::{Digest, Digester};

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
pub(super) type Keep<'k> = &'k mut (dyn FnMut(&[u8]) -> io::Result<()> + Send);

/// How far an object was read.
struct Reading<'k> {
    digester: Digester,
    most: u64,
    keep: Keep<'k>,
    /// Its size, as the server said first.
    total: Option<u64>,
    /// Nobody wants more of it.
    ended: Option<Fetched>,
}

impl Store {
    /// Reads an object of at most so many bytes. It begins behind the bytes that the digester was given.
    pub(super) async fn read(
        &self,
        on: &Notify,
        key: &str,
        begun: Digester,
        most: u64,
        keep: Keep<'_>,
    ) -> Result<Fetched, Failure> {
        let reading = &Mutex::new(Reading { digester: begun, most, keep, total: None, ended: None });
        let what = format!("GET of {key}");
        let read = self.insist(on, &what, |client| async move {
            let mut reading = reading.lock().await;
            let from = reading.digester.bytes();
            let customer_key = self.customer_key.as_ref();
            let request = client
                .get_object()
                .bucket(&self.config.bucket)
                .key(key)
                .set_range((from > 0).then(|| format!("bytes={from}-")))
                .set_sse_customer_algorithm(customer_key.map(|_| "AES256".to_owned()))
                .set_sse_customer_key(customer_key.map(CustomerKey::encoded))
                .set_sse_customer_key_md5(customer_key.map(|key| key.md5.clone()));
            let mut got = self.answered(async { Ok(request.send().await?) }).await?;
            let bytes = got.content_length.and_then(|bytes| u64::try_from(bytes).ok());
            let (mut left, total) = rest(from, reading.total, bytes, got.content_range())?;
            reading.total = total;
            let (progress, mut moved) = (Progress::default(), 0);
            let all = async {
                while let Some(piece) = got.body.next().await {
                    let piece = piece.map_err(|error| Trouble::passing(format!("the answer broke off: {error}")))?;
                    progress.hold(true);
                    self.receives.wait(piece.len()).await;
                    progress.hold(false);
                    moved += piece.len();
                    if moved >= PIECE {
                        progress.moved();
                        moved = 0;
                    }
                    left = left.saturating_sub(piece.len() as u64);
                    if !reading.take(&piece) {
                        return Ok(());
                    }
                }
                if left > 0 { Err(Trouble::passing("the answer broke off")) } else { Ok(()) }
            };
            progress.watch(self.stall_max(), all).await
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

    /// Reads and hashes an object of at most so many bytes.
    pub(super) async fn digest(&self, on: &Notify, key: &str, most: u64) -> Result<Fetched, Failure> {
        self.read(on, key, Digester::default(), most, &mut |_| Ok(())).await
    }

    /// The bytes of a small object; nothing where there is none.
    pub(super) async fn get(&self, on: &Notify, key: &str, most: u64) -> Result<Option<Vec<u8>>, Failure> {
        let mut bytes = Vec::new();
        let mut keep = |piece: &[u8]| {
            bytes.extend_from_slice(piece);
            Ok(())
        };
        let read = self.read(on, key, Digester::default(), most, &mut keep).await?;
        match read {
            Fetched::Whole(..) => Ok(Some(bytes)),
            Fetched::Missing => Ok(None),
            Fetched::TooLong | Fetched::NotKept(_) => {
                let why = format!("it has more than {most} bytes: it is not ours");
                Err(Failure::Refused { what: format!("GET of {key}"), why })
            }
        }
    }
}

impl Reading<'_> {
    /// Whether more is wanted.
    fn take(&mut self, piece: &[u8]) -> bool {
        if self.digester.bytes() + piece.len() as u64 > self.most {
            self.ended = Some(Fetched::TooLong);
        } else {
            self.digester.update(piece);
            self.ended = (self.keep)(piece).err().map(Fetched::NotKept);
        }
        self.ended.is_none()
    }
}

/// How many bytes an answer has, and the size of all, by its Content-Length and Content-Range (RFC 9110, 14.4), where bytes were asked for from
/// here to the end of so many.
fn rest(from: u64, known: Option<u64>, bytes: Option<u64>, range: Option<&str>) -> Result<(u64, Option<u64>), Trouble> {
    if from == 0 {
        return Ok((bytes.unwrap_or_default(), bytes));
    }
    let number = |text: &str| text.parse::<u64>().ok();
    let numbers = range.and_then(|range| {
        let (unit, range) = range.split_once(' ')?;
        let ((first, last), total) =
            range.split_once('/').and_then(|(range, total)| Some((range.split_once('-')?, total)))?;
        unit.eq_ignore_ascii_case("bytes").then_some((number(first)?, number(last)?, number(total)?))
    });
    match numbers {
        Some((first, last, total))
            if first == from
                && first <= last
                && last.checked_add(1) == Some(total)
                && known.is_none_or(|known| known == total)
                && bytes.is_none_or(|bytes| bytes == total - from) =>
        {
            Ok((total - from, Some(total)))
        }
        _ => {
            let of = known.map(|known| format!(" of {known}")).unwrap_or_default();
            let said: String = range.unwrap_or("none").chars().take(80).collect();
            let why = format!("bytes from {from} on{of} were asked for, and Content-Range of the answer is {said}");
            Err(Trouble::of(Kind::Garbled, why))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_goes_on_from_elsewhere_or_is_another_object_is_not_taken() {
        let rest = |known, bytes, range| rest(10, known, bytes, range).map_err(|trouble| trouble.to_string());
        assert_eq!(rest(Some(100), Some(90), Some("bytes 10-99/100")), Ok((90, Some(100))));
        assert_eq!(rest(None, None, Some("Bytes 10-99/100")), Ok((90, Some(100))), "begun by an earlier process");
        for (bytes, range) in [
            (90, None),
            (100, Some("bytes 0-99/100")),
            (90, Some("bytes 11-99/100")),
            (80, Some("bytes 10-89/100")),
            (91, Some("bytes 10-100/101")),
            (89, Some("bytes 10-99/100")),
            (90, Some("bytes 10-99/*")),
            (90, Some("bytes 10-99")),
            (90, Some("lines 10-99/100")),
            (0, Some("bytes 10-9/10")),
        ] {
            let why = rest(Some(100), Some(bytes), range).expect_err("it is not what was asked for");
            assert!(why.contains("Content-Range") && why.contains(range.unwrap_or("none")), "{why}");
        }
    }
}
