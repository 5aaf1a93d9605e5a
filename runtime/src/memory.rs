//! The budget of host memory that one job may hold: voxels and tensors.
//!
//! A [`Charge`] is taken before the memory is allocated and kept beside it; dropping it gives the bytes back.
//!
//! A budget also knows whether its job is to end: what computes for long asks it between two parts of its work.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Bytes of voxels and tensors that a job may keep on the host at once (`host_memory_mib`).
#[derive(Debug, Clone)]
pub struct Budget(Arc<Inner>);

struct Inner {
    limit: u64,
    used: AtomicU64,
    peak: AtomicU64,
    over: Option<Box<dyn Fn() -> bool + Send + Sync>>,
}

/// The job that a budget is of has reached its deadline or was cancelled: what it was computing is for nobody.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the job is over")]
pub struct JobOver;

/// The job would hold more host memory than `host_memory_mib` allows.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{wanted} more bytes of voxels and tensors would pass host_memory_mib = {} ({used} bytes in use)",
    limit >> 20
)]
pub struct OverBudget {
    /// Bytes asked for.
    pub wanted: u64,
    /// Bytes in use when they were asked for.
    pub used: u64,
    /// The limit, bytes.
    pub limit: u64,
}

impl Budget {
    /// A budget of `mib` MiB; without end where that is more than can be counted.
    #[must_use]
    pub fn mib(mib: u64) -> Self {
        Self::bytes(bytes_of(mib))
    }

    /// A budget of `limit` bytes.
    #[must_use]
    pub fn bytes(limit: u64) -> Self {
        Self::new(limit, None)
    }

    /// The budget of a job that is to end once `over` says so.
    #[must_use]
    pub fn of_job(limit: u64, over: impl Fn() -> bool + Send + Sync + 'static) -> Self {
        Self::new(limit, Some(Box::new(over)))
    }

    fn new(limit: u64, over: Option<Box<dyn Fn() -> bool + Send + Sync>>) -> Self {
        Self(Arc::new(Inner { limit, used: AtomicU64::new(0), peak: AtomicU64::new(0), over }))
    }

    /// Whether there is still somebody to compute for.
    pub fn check_time(&self) -> Result<(), JobOver> {
        if self.0.over.as_ref().is_some_and(|over| over()) { Err(JobOver) } else { Ok(()) }
    }

    /// A budget that nothing reaches.
    #[must_use]
    pub fn unlimited() -> Self {
        Self::bytes(u64::MAX)
    }

    /// Takes `bytes` for as long as the charge lives.
    pub fn charge(&self, bytes: u64) -> Result<Charge, OverBudget> {
        let inner = &self.0;
        let taken = inner.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |used| {
            used.checked_add(bytes).filter(|&total| total <= inner.limit)
        });
        match taken {
            Ok(before) => {
                inner.peak.fetch_max(before + bytes, Ordering::Relaxed);
                Ok(Charge { budget: self.clone(), bytes })
            }
            Err(used) => Err(OverBudget { wanted: bytes, used, limit: inner.limit }),
        }
    }

    /// The most bytes that it gives out at once.
    #[must_use]
    pub fn limit(&self) -> u64 {
        self.0.limit
    }

    /// Bytes in use now.
    #[must_use]
    pub fn used(&self) -> u64 {
        self.0.used.load(Ordering::Relaxed)
    }

    /// The most bytes that were in use at once.
    #[must_use]
    pub fn peak(&self) -> u64 {
        self.0.peak.load(Ordering::Relaxed)
    }
}

/// Without end where that is more than can be counted.
#[must_use]
pub fn bytes_of(mib: u64) -> u64 {
    mib.saturating_mul(1 << 20)
}

impl std::fmt::Debug for Inner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} of {} bytes", self.used.load(Ordering::Relaxed), self.limit)
    }
}

/// Bytes taken from a [`Budget`], given back on drop.
#[derive(Debug)]
pub struct Charge {
    budget: Budget,
    bytes: u64,
}

impl Charge {
    /// The budget that it was taken from.
    #[must_use]
    pub fn budget(&self) -> &Budget {
        &self.budget
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.budget.0.used.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// For a process with many threads that come and go, such as a node with its associations: glibc gives each thread a heap of
/// its own, up to eight for each processor, and each keeps what it once had. As many as processors do.
pub fn share_heaps() {
    let processors = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    crate::trusted_code::heaps_at_most(i32::try_from(processors).unwrap_or(i32::MAX));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_charge_is_refused_past_the_limit_and_given_back_on_drop() {
        let budget = Budget::mib(1);
        let held = budget.charge(1 << 19).expect("half fits");
        let refused = budget.charge((1 << 19) + 1).expect_err("more than half does not");
        assert_eq!(refused, OverBudget { wanted: (1 << 19) + 1, used: 1 << 19, limit: 1 << 20 });
        assert!(refused.to_string().contains("host_memory_mib = 1"), "{refused}");
        drop(held);
        assert_eq!(budget.used(), 0);
        assert_eq!(budget.peak(), 1 << 19);
        assert!(budget.charge(u64::MAX).is_err(), "no overflow");
        assert_eq!(Budget::mib(u64::MAX).limit(), u64::MAX, "and none of MiB");
    }
}
