//! A body in memory that goes out in pieces, at its pace, and tells whether it moves.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use tokio::time::{Instant, Sleep};

use super::pace::Pacer;
use super::trouble::Trouble;

/// What moves at once, and the least that counts as moving.
pub(super) const PIECE: usize = 64 * 1024;

/// Whether a request moves.
#[derive(Debug, Default)]
pub(super) struct Progress {
    pieces: AtomicU64,
    /// It is we who hold it back.
    held: AtomicBool,
}

impl Progress {
    pub(super) fn moved(&self) {
        self.pieces.fetch_add(1, Ordering::Relaxed);
    }

    /// What follows is our own waiting, or is not any more.
    pub(super) fn hold(&self, held: bool) {
        self.held.store(held, Ordering::Relaxed);
    }

    /// Runs a request, and gives it up when nothing moved for so long.
    pub(super) async fn watch<T>(
        &self,
        stall_max: Duration,
        request: impl Future<Output = Result<T, Trouble>>,
    ) -> Result<T, Trouble> {
        let mut request = std::pin::pin!(request);
        loop {
            let before = self.pieces.load(Ordering::Relaxed);
            if let Ok(done) = tokio::time::timeout(stall_max, &mut request).await {
                return done;
            }
            if before == self.pieces.load(Ordering::Relaxed) && !self.held.load(Ordering::Relaxed) {
                let why = format!("nothing moved for s3.stall_max_s = {}", stall_max.as_secs());
                return Err(Trouble::passing(why));
            }
        }
    }
}

/// What this file is about.
pub(super) struct Paced {
    bytes: Bytes,
    pacer: Arc<Pacer>,
    progress: Arc<Progress>,
    waits: Option<Pin<Box<Sleep>>>,
    /// The next piece has its time.
    reserved: bool,
}

impl Paced {
    pub(super) fn new(bytes: Bytes, pacer: Arc<Pacer>, progress: Arc<Progress>) -> Self {
        Self { bytes, pacer, progress, waits: None, reserved: false }
    }
}

impl Body for Paced {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        if self.bytes.is_empty() {
            return Poll::Ready(None);
        }
        let piece = self.bytes.len().min(PIECE);
        if !self.reserved {
            self.reserved = true;
            self.waits = self.pacer.reserve(piece).map(|at: Instant| Box::pin(tokio::time::sleep_until(at)));
        }
        if let Some(waits) = &mut self.waits {
            let waiting = waits.as_mut().poll(cx).is_pending();
            self.progress.hold(waiting);
            if waiting {
                return Poll::Pending;
            }
        }
        self.waits = None;
        self.reserved = false;
        self.progress.moved();
        Poll::Ready(Some(Ok(Frame::data(self.bytes.split_to(piece)))))
    }

    fn is_end_stream(&self) -> bool {
        self.bytes.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.bytes.len() as u64)
    }
}
