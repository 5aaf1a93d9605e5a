//! Everything that one guest can reach: one [`JobState`] a job, gone when the job ends.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use wasmtime::component::{HasSelf, ResourceTable, ResourceTableError};

use super::bindings::gantry::imaging::types;
use super::capability::log::JobLog;
use super::capability::nn::{Deadline, Models};
use super::capability::study::StudyView;
use super::capability::upstream::UpstreamView;
use super::capability::wasi::Wasi;
use super::limits::GrowthLimiter;
use super::meter::Meter;
use crate::config::Limits;
use crate::findings::Findings;
use crate::inference::Turn;
use crate::memory::{Budget, OverBudget};
use crate::module::needs::Interface;
use crate::volumes::{StudyVolume, VolumeError};

/// The host side of one job.
pub struct JobState {
    pub(super) table: ResourceTable,
    pub(super) limits: Limits,
    pub(super) growth: GrowthLimiter,
    pub(super) budget: Budget,
    pub(super) study: StudyView,
    pub(super) upstream: UpstreamView,
    /// Volumes of the study whose voxels the guest copied into its own memory, changed or not, or can copy out of a tensor.
    pub(super) copied: BTreeSet<StudyVolume>,
    pub(super) models: Models,
    pub(super) findings: Findings,
    pub(super) log: JobLog,
    pub(super) wasi: Wasi,
    pub(super) meter: Meter,
    pub(super) clock: Arc<Clock>,
}

/// When a job is to end.
#[derive(Debug)]
pub(super) struct Clock {
    pub(super) deadline: Deadline,
    pub(super) turn: Turn,
}

impl Clock {
    /// Whether its deadline came, or it was cancelled.
    pub(super) fn is_over(&self) -> bool {
        self.turn.is_cancelled() || Instant::now() >= self.deadline.get()
    }
}

/// How host functions find their state.
pub(super) type State = HasSelf<JobState>;

/// What a host function answers a guest when it cannot do what was asked; see `types.failure` in the contract.
#[derive(Debug)]
pub enum Failure {
    /// The argument makes no sense.
    Invalid(String),
    /// The input cannot give this.
    Unavailable(String),
    /// Not granted.
    Denied(String),
    /// A limit was reached: its name in the configuration, and what happened.
    Limit(&'static str, String),
    /// The job's deadline came, or it was cancelled, while the host computed: the guest hears of nothing more.
    Over,
    /// The guest broke the rules of the component model (a handle it does not have), or the host failed.
    Trap(wasmtime::Error),
}

/// A guest ran past `job_deadline_ms`.
#[derive(Debug, thiserror::Error)]
#[error("the guest ran longer than job_deadline_ms = {0}")]
pub(super) struct DeadlineReached(pub(super) u64);

/// Somebody cancelled the job.
#[derive(Debug, thiserror::Error)]
#[error("the job was cancelled")]
pub(super) struct Cancelled;

/// A host function that cannot answer with a failure reached a limit.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(super) struct LimitTrap(pub(super) String);

impl JobState {
    /// Called by wasmtime when the epoch moved on: may the guest go on?
    pub(super) fn check_time(&self) -> wasmtime::Result<()> {
        if self.clock.turn.is_cancelled() {
            return Err(Cancelled.into());
        }
        if Instant::now() >= self.clock.deadline.get() {
            return Err(DeadlineReached(self.limits.job_deadline_ms).into());
        }
        Ok(())
    }

    /// Why a job ends whose time was over when a host function looked.
    pub(super) fn over(&self) -> wasmtime::Error {
        self.check_time().err().unwrap_or_else(|| Cancelled.into())
    }

    /// Whether the host could not give the guest something of its input, whatever the guest made of that.
    pub(super) fn input_failed(&self) -> bool {
        self.study.failed.is_some() || self.upstream.failed.is_some() || self.models.failed.is_some()
    }

    /// The guest calls a function of this interface.
    pub(super) fn called(&mut self, interface: Interface) -> &mut Self {
        self.meter.called(interface);
        self
    }

    /// Puts a resource into the guest's table: the last thing that a function does that makes one.
    pub(super) fn push<T: Send + 'static>(&mut self, entry: T) -> Result<wasmtime::component::Resource<T>, Failure> {
        self.meter.answered();
        Ok(self.table.push(entry)?)
    }

    /// Remembers the first limit that was hit and makes a trap of it, for functions without a failure to return.
    pub(super) fn limit_trap(&mut self, limit: &'static str, detail: String) -> wasmtime::Error {
        self.growth.record(limit, detail.clone());
        LimitTrap(detail).into()
    }
}

impl From<ResourceTableError> for Failure {
    fn from(error: ResourceTableError) -> Self {
        match error {
            ResourceTableError::Full => {
                Self::Limit("handles_max", "the guest holds as many handles as handles_max allows".into())
            }
            other => Self::Trap(other.into()),
        }
    }
}

impl From<OverBudget> for Failure {
    fn from(error: OverBudget) -> Self {
        Self::Limit("host_memory_mib", error.to_string())
    }
}

impl From<VolumeError> for Failure {
    fn from(error: VolumeError) -> Self {
        match error {
            VolumeError::OverBudget(e) | VolumeError::Tensor(crate::tensor::TensorError::OverBudget(e)) => e.into(),
            VolumeError::JobOver(_) => Self::Over,
            other => Self::Invalid(other.to_string()),
        }
    }
}

impl types::Host for JobState {
    fn convert_failure(&mut self, failure: Failure) -> wasmtime::Result<types::Failure> {
        Ok(match failure {
            Failure::Invalid(text) => types::Failure::Invalid(text),
            Failure::Unavailable(text) => types::Failure::Unavailable(text),
            Failure::Denied(text) => types::Failure::Denied(text),
            Failure::Limit(limit, text) => {
                self.growth.record(limit, text.clone());
                types::Failure::Limit(text)
            }
            Failure::Over => return Err(self.over()),
            Failure::Trap(error) => return Err(error),
        })
    }
}

/// The moment at which a job that starts now must be over.
pub(super) fn deadline(limits: &Limits) -> Instant {
    Instant::now() + Duration::from_millis(limits.job_deadline_ms)
}
