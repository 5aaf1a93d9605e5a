//! `gantry:imaging/upstream`: what modules found on the same study before this one.

use std::collections::BTreeMap;
use std::sync::Arc;

use wasmtime::component::Resource;

use crate::findings::{Code, Urgency};
use crate::memory::Budget;
use crate::sandbox::bindings::gantry::imaging::{findings, types, upstream};
use crate::sandbox::state::{Failure, JobState};
use crate::study::{Labels, ReadError, ReadOptions, Study};
use crate::upstream::{Finished, Handed, UpstreamError};

/// A guest's handle of an earlier result: its place among those that were handed over.
#[derive(Debug, Clone, Copy)]
pub struct FinishedHandle(usize);

/// What of earlier results one module may see.
pub(crate) struct UpstreamView {
    handed: Vec<Handed>,
    study: Arc<Study>,
    read: ReadOptions,
    budget: Budget,
    /// From the first time that the guest asked.
    finished: Option<Vec<Finished>>,
    labels: BTreeMap<usize, Option<Labels>>,
    /// Why a result could not be given, if one could not.
    pub(in crate::sandbox) failed: Option<UpstreamError>,
}

impl UpstreamView {
    pub(crate) fn new(handed: Vec<Handed>, study: Arc<Study>, read: ReadOptions, budget: Budget) -> Self {
        Self { handed, study, read, budget, finished: None, labels: BTreeMap::new(), failed: None }
    }

    /// The results that the guest could look at.
    pub(crate) fn record(self) -> Vec<Finished> {
        self.finished.unwrap_or_default()
    }

    /// Reads them all on the first call; how many there are.
    fn open(&mut self) -> Result<usize, Failure> {
        if let Some(finished) = &self.finished {
            return Ok(finished.len());
        }
        let opened = self.handed.iter().map(|handed| handed.open(&self.study.uid, &self.budget));
        match opened.collect::<Result<Vec<_>, _>>() {
            Ok(finished) => Ok(self.finished.insert(finished).len()),
            Err(error) => Err(self.remember(error)),
        }
    }

    fn finished(&self, handle: FinishedHandle) -> &Finished {
        &self.finished.as_ref().expect("a handle is given out once they are open")[handle.0]
    }

    fn labels(&mut self, handle: FinishedHandle) -> Result<Option<Labels>, Failure> {
        if let Some(labels) = self.labels.get(&handle.0) {
            return Ok(labels.clone());
        }
        match self.finished(handle).labels(&self.study, &self.budget, &self.read) {
            Ok(labels) => Ok(self.labels.entry(handle.0).or_insert(labels).clone()),
            Err(error) => Err(self.remember(error)),
        }
    }

    /// Keeps the reason for the operator. It names files, so the guest gets only its kind.
    fn remember(&mut self, error: UpstreamError) -> Failure {
        let for_guest = match &error {
            UpstreamError::OverBudget(e) | UpstreamError::Segmentation(ReadError::OverBudget(e)) => e.clone().into(),
            e if e.is_limit() => {
                Failure::Limit("volume_max_mib", "an earlier result passes a limit of the site".into())
            }
            _ => Failure::Unavailable("an earlier result cannot be read; the operator's error says why".into()),
        };
        self.failed.get_or_insert(error);
        for_guest
    }
}

impl upstream::Host for JobState {
    fn results(&mut self) -> Result<Vec<Resource<FinishedHandle>>, Failure> {
        let count = self.upstream.open()?;
        (0..count).map(|i| self.push(FinishedHandle(i))).collect()
    }
}

impl JobState {
    fn finished(&self, this: &Resource<FinishedHandle>) -> wasmtime::Result<&Finished> {
        Ok(self.upstream.finished(*self.table.get(this)?))
    }
}

impl upstream::HostFinished for JobState {
    fn origin(&mut self, this: Resource<FinishedHandle>) -> wasmtime::Result<upstream::Origin> {
        let module = &self.finished(&this)?.module;
        Ok(upstream::Origin {
            name: module.name.clone(),
            version: module.version.clone(),
            vendor: module.vendor.clone(),
            demonstration: module.demonstration,
        })
    }

    fn unfit(&mut self, this: Resource<FinishedHandle>) -> wasmtime::Result<Option<upstream::Refusal>> {
        let unfit = self.finished(&this)?.stated.unfit.as_ref();
        Ok(unfit.map(|unfit| upstream::Refusal { reason: (&unfit.reason).into(), detail: unfit.detail.clone() }))
    }

    fn classifications(&mut self, this: Resource<FinishedHandle>) -> wasmtime::Result<Vec<upstream::Classification>> {
        let stated = self.finished(&this)?.stated.classifications.iter();
        let told =
            stated.map(|c| upstream::Classification { finding: (&c.finding).into(), probability: c.probability });
        Ok(told.collect())
    }

    fn measurements(&mut self, this: Resource<FinishedHandle>) -> wasmtime::Result<Vec<upstream::Measurement>> {
        let stated = self.finished(&this)?.stated.measurements.iter();
        let told = stated.map(|m| upstream::Measurement {
            quantity: (&m.quantity).into(),
            value: m.value,
            unit: m.unit.clone(),
            segment: m.segment,
        });
        Ok(told.collect())
    }

    fn triage(&mut self, this: Resource<FinishedHandle>) -> wasmtime::Result<Vec<upstream::Alert>> {
        let stated = self.finished(&this)?.stated.triage.iter();
        let told = stated.map(|t| upstream::Alert {
            level: t.level.into(),
            finding: (&t.finding).into(),
            probability: t.probability,
            reason: t.reason.clone(),
        });
        Ok(told.collect())
    }

    fn segments(&mut self, this: Resource<FinishedHandle>) -> wasmtime::Result<Vec<findings::Segment>> {
        let stated = self.finished(&this)?.stated.segments.iter();
        let told = stated.map(|s| findings::Segment {
            value: s.value,
            name: s.name.clone(),
            category: (&s.category).into(),
            kind: (&s.kind).into(),
            confidence: s.confidence,
        });
        Ok(told.collect())
    }

    fn segmentation(&mut self, this: Resource<FinishedHandle>) -> Result<Option<upstream::Segmentation>, Failure> {
        let handle = *self.table.get(&this)?;
        let Some(Labels { series, volume, labels, .. }) = self.upstream.labels(handle)? else { return Ok(None) };
        let labels = labels.with_source((series, volume));
        let series = self.study.pseudonym(&self.upstream.study.series[series].uid);
        let index = u32::try_from(volume).unwrap_or(u32::MAX);
        Ok(Some(upstream::Segmentation { series, index, labels: self.push(labels)? }))
    }

    fn drop(&mut self, this: Resource<FinishedHandle>) -> wasmtime::Result<()> {
        self.table.delete(this)?;
        Ok(())
    }
}

impl From<&Code> for types::Code {
    fn from(code: &Code) -> Self {
        Self { value: code.value.clone(), scheme: code.scheme.clone(), meaning: code.meaning.clone() }
    }
}

impl From<Urgency> for findings::Urgency {
    fn from(level: Urgency) -> Self {
        match level {
            Urgency::Routine => Self::Routine,
            Urgency::Prompt => Self::Prompt,
            Urgency::Urgent => Self::Urgent,
            Urgency::Critical => Self::Critical,
        }
    }
}
