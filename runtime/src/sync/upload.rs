//! One batch on its way to the bucket, beside everything else.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use gantry_cloud_sync::batch::{Batch, Id};
use gantry_cloud_sync::s3::{Event, Failure, Outcome, Uploaded, Uploader};
use tokio::task::JoinHandle;

/// A batch that is being sent.
pub(super) struct Upload {
    pub(super) batch: Id,
    task: JoinHandle<Result<Uploaded, Failure>>,
    seen: Arc<Seen>,
}

/// What was seen of it.
#[derive(Debug, Default)]
struct Seen {
    /// Bytes that left and are not counted yet.
    bytes: AtomicU64,
    trouble: Mutex<Option<String>>,
}

impl Upload {
    /// Begins; on the runtime of whoever calls.
    pub(super) fn start(uploader: &Arc<Uploader>, batch: Batch, parts_above_mib: u64) -> Self {
        let (uploader, id, seen) = (uploader.clone(), batch.id(), Arc::<Seen>::default());
        let noting = seen.clone();
        let task =
            tokio::spawn(
                async move { uploader.upload(&batch, move |event| noting.note(event, parts_above_mib)).await },
            );
        Self { batch: id, task, seen }
    }

    /// Bytes that left since this was asked last.
    pub(super) fn bytes(&self) -> u64 {
        self.seen.bytes.swap(0, Ordering::Relaxed)
    }

    /// What went wrong last, if it is not over.
    pub(super) fn trouble(&self) -> Option<String> {
        self.seen.trouble.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn is_over(&self) -> bool {
        self.task.is_finished()
    }

    /// How it ended.
    pub(super) async fn end(&mut self) -> Result<Uploaded, Failure> {
        match (&mut self.task).await {
            Ok(ended) => ended,
            Err(e) if e.is_panic() => std::panic::resume_unwind(e.into_panic()),
            Err(_) => std::future::pending().await,
        }
    }

    /// Breaks it off: what was sent stays sent, and the next one goes on from there.
    pub(super) async fn abort(mut self) -> u64 {
        self.task.abort();
        let _ = (&mut self.task).await;
        self.bytes()
    }
}

impl Seen {
    fn note(&self, event: &Event, parts_above_mib: u64) {
        let trouble = |trouble: Option<String>| {
            *self.trouble.lock().unwrap_or_else(PoisonError::into_inner) = trouble;
        };
        let add = |bytes: u64| self.bytes.fetch_add(bytes, Ordering::Relaxed);
        match event {
            Event::Part { bytes, .. } => {
                add(*bytes);
                trouble(None);
            }
            // Of a larger one each part was counted.
            Event::Object { bytes, outcome: Outcome::Sent | Outcome::Replaced, .. } => {
                if *bytes <= parts_above_mib << 20 {
                    add(*bytes);
                }
                trouble(None);
            }
            Event::Object { .. } | Event::Batch(_) => trouble(None),
            Event::Again { what, why, .. } => trouble(Some(format!("{what}: {why}"))),
            Event::Replacing { key, why } => tracing::warn!("{key} is replaced in the bucket: {why}"),
            Event::Outage { .. } | Event::Found(_) => {}
        }
    }
}
