//! One batch on its way to the bucket, beside everything else.

use std::sync::{Arc, Mutex, PoisonError};

use gantry_cloud_sync::batch::{Batch, Id};
use gantry_cloud_sync::s3::{Event, Failure, Uploaded, Uploader};
use tokio::task::JoinHandle;

/// A batch that is being sent.
pub(super) struct Upload {
    pub(super) batch: Id,
    task: JoinHandle<Result<Uploaded, Failure>>,
    trouble: Trouble,
}

/// What went wrong last, and was not overcome.
type Trouble = Arc<Mutex<Option<String>>>;

impl Upload {
    /// Begins; on the runtime of whoever calls.
    pub(super) fn start(uploader: &Arc<Uploader>, batch: Batch) -> Self {
        let (uploader, id, trouble) = (uploader.clone(), batch.id(), Trouble::default());
        let noted = trouble.clone();
        let task = tokio::spawn(async move { uploader.upload(&batch, move |event| note(&noted, event)).await });
        Self { batch: id, task, trouble }
    }

    /// What went wrong last, if it is not over.
    pub(super) fn trouble(&self) -> Option<String> {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner).clone()
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

    /// Breaks it off: what was sent stays sent, and the next one goes on from there. What came of it where it was over before.
    pub(super) async fn abort(mut self) -> Option<Uploaded> {
        self.task.abort();
        (&mut self.task).await.ok()?.ok()
    }
}

fn note(trouble: &Trouble, event: &Event) {
    let mut trouble = trouble.lock().unwrap_or_else(PoisonError::into_inner);
    match event {
        Event::Part { .. } | Event::Object { .. } | Event::Batch(_) => *trouble = None,
        Event::Again { what, why, .. } => *trouble = Some(format!("{what}: {why}")),
        Event::Replacing { key, why } => tracing::warn!("{key} is replaced in the bucket: {why}"),
        Event::Outage { .. } | Event::Found(_) => {}
    }
}
