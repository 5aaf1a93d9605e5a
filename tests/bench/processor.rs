//! Which processor a thread runs on, and with it the threads and processes that it starts.

use anyhow::{Context, Result};
use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;

/// The calling thread.
const OWN: Pid = Pid::from_raw(0);

/// The first processors that this thread may use, at most so many.
pub(crate) fn first(most: usize) -> Result<Vec<usize>> {
    let allowed = sched_getaffinity(OWN)?;
    Ok((0..CpuSet::count()).filter(|&n| allowed.is_set(n).unwrap_or(false)).take(most).collect())
}

/// A thread that was put on one processor, until this is dropped there.
#[derive(Debug)]
pub(crate) struct Pinned {
    before: CpuSet,
}

/// Puts the calling thread on this processor. Threads and processes that it started before stay where they are.
pub(crate) fn pin(processor: usize) -> Result<Pinned> {
    let before = sched_getaffinity(OWN)?;
    let mut only = CpuSet::new();
    only.set(processor)?;
    sched_setaffinity(OWN, &only).with_context(|| format!("no thread can be put on processor {processor}"))?;
    Ok(Pinned { before })
}

impl Drop for Pinned {
    fn drop(&mut self) {
        // It could be put somewhere else before.
        let _ = sched_setaffinity(OWN, &self.before);
    }
}
