//! Modules that look at frames one after another: one instance a stream, which is ended when it is late and begun anew.
//!
//! ```text
//! PreparedStream ──begin──▶ Session ──next──▶ FrameEnd, for each frame; ──close──▶ Closed: summary, log, models
//!                              └── an instance that was interrupted or trapped is dropped with all that it held ──▶ open
//! ```

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use wasmtime::Store;
use wasmtime::component::{InstancePre, Resource};

use super::capability::frames::FrameHandle;
use super::capability::log::JobLog;
use super::grants::Grants;
use super::state::{DeadlineReached, JobState};
use super::stream_bindings::{FrameAnalyzer, FrameAnalyzerPre, StreamInfo};
use super::{
    JobError, JobFailure, JobInput, LimitHit, Origin, PrepareError, deeper_cause, does_not_fit, judge, printable, store,
};
use crate::config::{Limits, StreamConfig};
use crate::findings::LogLine;
use crate::findings::frames::{FrameAnswer, Rectangle, StreamSummary};
use crate::inference::{Engines, LoadedModel, Turn};
use crate::module::package::Package;
use crate::module::world::World;
use crate::study::{Cine, Picture, ReadOptions};

/// A component that looks at frames, compiled, checked and linked.
pub struct PreparedStream {
    analyzer: FrameAnalyzerPre<JobState>,
    package: Arc<Package>,
    grants: Grants,
    origin: Origin,
    limits: Limits,
}

/// What a stream begins with.
#[derive(Clone)]
pub struct Begin {
    /// What is played.
    pub cine: Arc<Cine>,
    /// Mean time from one frame to the next, µs.
    pub interval_us: u64,
    /// Of the module, frame by frame.
    pub config: StreamConfig,
    /// How pixels are read.
    pub read: ReadOptions,
    /// Runs the models.
    pub engines: Arc<Engines>,
    /// Makes pseudonyms of UIDs.
    pub pseudonym_key: [u8; 32],
    /// Stops it from outside, also in the middle of a frame.
    pub turn: Turn,
}

/// One module on one stream.
pub struct Session<'a> {
    prepared: &'a PreparedStream,
    begin: Begin,
    /// None once it ended for good.
    live: Option<Live>,
    restarts: u32,
    /// Faults since the last answer.
    in_a_row: u32,
    kept: Kept,
}

struct Live {
    store: Store<JobState>,
    guest: FrameAnalyzer,
}

/// What outlives an instance.
struct Kept {
    log: JobLog,
    models: BTreeMap<String, Arc<LoadedModel>>,
    limit: Option<LimitHit>,
    host_memory_peak: u64,
}

/// What became of one frame.
#[derive(Debug)]
pub enum FrameEnd {
    /// In time; the gate has yet to judge it.
    Answered(FrameAnswer),
    /// Not within the frame budget. The module was ended and begun anew where it was interrupted, and not where it had answered when
    /// somebody looked.
    Late {
        /// Ended in the middle of it.
        interrupted: bool,
    },
    /// Not at all; the module was begun anew unless it said so itself.
    Failed(JobError),
}

/// What a stream leaves that ended well.
pub struct Closed {
    /// As stated; the gate has yet to judge it.
    pub summary: StreamSummary,
    /// What all of its instances logged.
    pub log: Vec<LogLine>,
    /// The models that were loaded, with what they ran on.
    pub models: Vec<Arc<LoadedModel>>,
    /// A limit that the module hit, and went on.
    pub limit: Option<LimitHit>,
    /// The most voxels and tensors that were on the host at once, bytes.
    pub host_memory_peak: u64,
}

impl PreparedStream {
    pub(super) fn new(
        linked: InstancePre<JobState>,
        package: Arc<Package>,
        grants: Grants,
        origin: Origin,
        limits: Limits,
    ) -> Result<Self, PrepareError> {
        let analyzer = FrameAnalyzerPre::new(linked).map_err(|e| does_not_fit(World::FrameAnalyzer, &e))?;
        Ok(Self { analyzer, package, grants, origin, limits })
    }

    /// Whether it was compiled now or found.
    #[must_use]
    pub fn origin(&self) -> Origin {
        self.origin
    }

    /// What it was made of.
    #[must_use]
    pub fn package(&self) -> &Package {
        &self.package
    }

    /// What it may use.
    #[must_use]
    pub fn grants(&self) -> &Grants {
        &self.grants
    }

    /// Bytes of stack that a thread needs on which a session runs.
    #[must_use]
    pub fn stack_bytes(&self) -> usize {
        super::stack_bytes(&self.limits)
    }

    /// Makes an instance and opens it. On a thread with [`stack_bytes`](Self::stack_bytes), as all that follows.
    ///
    /// # Errors
    /// It cannot be started, or does not open.
    pub fn begin(&self, begin: Begin) -> Result<Session<'_>, JobFailure> {
        let log = JobLog::new(self.limits.log_kib);
        let kept = Kept { log, models: BTreeMap::new(), limit: None, host_memory_peak: 0 };
        let mut session = Session { prepared: self, begin, live: None, restarts: 0, in_a_row: 0, kept };
        match session.open() {
            Ok(()) => Ok(session),
            Err(error) => Err(JobFailure { error, log: session.into_log() }),
        }
    }
}

impl Session<'_> {
    /// How often the module was ended and begun anew.
    #[must_use]
    pub fn restarts(&self) -> u32 {
        self.restarts
    }

    /// Lends the module a frame; `skipped` says how many before it were not answered. How long it took, the module alone.
    ///
    /// # Errors
    /// The stream is over: somebody stopped it, the module cannot begin anew, or so many faults in a row that it is given up.
    pub fn next(
        &mut self,
        picture: Arc<Picture>,
        number: u32,
        time_us: u64,
        skipped: u32,
    ) -> Result<(FrameEnd, Duration), JobError> {
        let mut live = self.live.take().ok_or_else(|| JobError::Host("the stream is over".into()))?;
        let budget = Duration::from_millis(self.begin.config.frame_budget_ms.into());
        let spacing_mm = self.begin.cine.spacing_mm;
        let frame = FrameHandle { picture, spacing_mm, number, time_us, skipped };
        let begun = Instant::now();
        live.store.data().clock.deadline.set(begun, "frame_budget_ms", self.begin.config.frame_budget_ms.into());
        let called = match live.store.data_mut().table.push(frame) {
            Ok(lent) => {
                let called = live.guest.call_next(&mut live.store, Resource::new_borrow(lent.rep()));
                // What it made of it is its own; a borrow that it kept has trapped.
                let _ = live.store.data_mut().table.delete(lent);
                called
            }
            Err(_) => {
                let detail = "the module holds as many handles as handles_max allows".to_owned();
                Err(live.store.data_mut().limit_trap("handles_max", detail))
            }
        };
        let took = begun.elapsed();
        let end = match called {
            Ok(answer) => {
                self.live = Some(live);
                match answer {
                    Ok(answer) if took <= budget => FrameEnd::Answered(answer.into()),
                    Ok(_) => FrameEnd::Late { interrupted: false },
                    Err(text) => FrameEnd::Failed(JobError::Module(printable(&text))),
                }
            }
            Err(error) => {
                let late = error.downcast_ref::<DeadlineReached>().is_some();
                match self.kept.take_from(live, |state| judge(error, state)) {
                    JobError::Cancelled => return Err(JobError::Cancelled),
                    _ if late => FrameEnd::Late { interrupted: true },
                    error => FrameEnd::Failed(error),
                }
            }
        };
        self.judge_row(&end)?;
        if self.live.is_none() {
            self.restarts += 1;
            self.open()?;
        }
        Ok((end, took))
    }

    /// That an answer did not fit: a fault as others.
    ///
    /// # Errors
    /// As [`next`](Self::next).
    pub fn refused(&mut self, why: &str) -> Result<(), JobError> {
        self.fault(format!("the last was refused: {why}"))
    }

    fn judge_row(&mut self, end: &FrameEnd) -> Result<(), JobError> {
        match end {
            // A refusal comes after it, and goes on with the row.
            FrameEnd::Answered(_) => Ok(()),
            FrameEnd::Late { .. } => {
                self.fault(format!("the last took longer than frame_budget_ms = {}", self.begin.config.frame_budget_ms))
            }
            FrameEnd::Failed(error) => self.fault(error.to_string()),
        }
    }

    /// That an answer fits.
    pub fn accepted(&mut self) {
        self.in_a_row = 0;
    }

    fn fault(&mut self, why: String) -> Result<(), JobError> {
        self.in_a_row += 1;
        let max = self.begin.config.faults_in_a_row_max;
        if self.in_a_row < max {
            return Ok(());
        }
        if let Some(live) = self.live.take() {
            self.kept.take_from(live, drop);
        }
        let hit = self.kept.limit.as_ref().map_or(String::new(), |hit| format!("; before that, {hit}"));
        let detail = format!("the module missed {max} frames in a row, faults_in_a_row_max = {max}: {why}{hit}");
        Err(JobError::Limit(LimitHit { limit: "faults_in_a_row_max", detail }))
    }

    fn open(&mut self) -> Result<(), JobError> {
        let Self { prepared, begin, kept, restarts, .. } = self;
        let input = JobInput {
            study: begin.cine.study.clone(),
            accepted: Vec::new(),
            upstream: Vec::new(),
            priors: Vec::new(),
            read: begin.read.clone(),
            engines: begin.engines.clone(),
            pseudonym_key: begin.pseudonym_key,
            turn: begin.turn.clone(),
        };
        let engine = prepared.analyzer.engine();
        let mut store = store(engine, &prepared.package, &prepared.grants, &prepared.limits, input, kept.log.clone());
        store.data().clock.deadline.set(Instant::now(), "open_deadline_ms", begin.config.open_deadline_ms);
        let guest = match prepared.analyzer.instantiate(&mut store) {
            Ok(guest) => guest,
            Err(error) => {
                let ms = begin.config.open_deadline_ms;
                return Err(kept.take(store, |state| beside_frames(error, state, "open", ms)));
            }
        };
        let opened = guest.call_open(&mut store, &info(begin, *restarts));
        let (live, ()) = self.ended(Live { store, guest }, opened, "open")?;
        self.live = Some(live);
        Ok(())
    }

    /// Asks the module for its summary, and ends it.
    ///
    /// # Errors
    /// As [`next`](Self::next), and the module's own.
    pub fn close(mut self) -> Result<Closed, JobFailure> {
        let summary = match self.summary() {
            Ok(summary) => summary,
            Err(error) => return Err(JobFailure { error, log: self.into_log() }),
        };
        let Kept { log, models, limit, host_memory_peak } = self.kept;
        let models = models.into_values().collect();
        Ok(Closed { summary, log: log.finish(), models, limit, host_memory_peak })
    }

    fn summary(&mut self) -> Result<StreamSummary, JobError> {
        let mut live = self.live.take().ok_or_else(|| JobError::Host("the stream is over".into()))?;
        let ms = self.begin.config.open_deadline_ms;
        live.store.data().clock.deadline.set(Instant::now(), "open_deadline_ms", ms);
        let closed = live.guest.call_close(&mut live.store);
        let (live, summary) = self.ended(live, closed, "close")?;
        // One that went on without what the host could not give it would conclude from less than it was sent.
        let failed = self.kept.take_from(live, |state| state.input_failed().then(|| deeper_cause(state)).flatten());
        failed.map_or_else(|| Ok(summary.into()), Err)
    }

    /// What a module logged that did not end well.
    #[must_use]
    pub fn into_log(self) -> Vec<LogLine> {
        let mut kept = self.kept;
        if let Some(live) = self.live {
            kept.take_from(live, drop);
        }
        kept.log.finish()
    }

    /// The value of a call beside the frames and the instance that gave it, or why there is none.
    fn ended<T>(
        &mut self,
        live: Live,
        called: wasmtime::Result<Result<T, String>>,
        name: &str,
    ) -> Result<(Live, T), JobError> {
        let ms = self.begin.config.open_deadline_ms;
        match called {
            Ok(Ok(value)) => Ok((live, value)),
            Ok(Err(text)) => {
                let said = JobError::Module(format!("{name}: {}", printable(&text)));
                Err(self.kept.take_from(live, |state| deeper_cause(state).unwrap_or(said)))
            }
            Err(error) => Err(self.kept.take_from(live, |state| beside_frames(error, state, name, ms))),
        }
    }
}

/// As [`judge`], of a call that has the time of `open_deadline_ms`.
fn beside_frames(error: wasmtime::Error, state: JobState, name: &str, ms: u64) -> JobError {
    if error.downcast_ref::<DeadlineReached>().is_none() {
        return judge(error, state);
    }
    let detail = format!("the module's `{name}` took longer than open_deadline_ms = {ms}");
    JobError::Limit(LimitHit { limit: "open_deadline_ms", detail })
}

impl Kept {
    fn take_from<T>(&mut self, live: Live, look: impl FnOnce(JobState) -> T) -> T {
        self.take(live.store, look)
    }

    /// Keeps what outlives the instance, and drops the rest.
    fn take<T>(&mut self, store: Store<JobState>, look: impl FnOnce(JobState) -> T) -> T {
        let state = store.into_data();
        self.models.extend(state.models.loaded().map(|(name, model)| (name.clone(), model.clone())));
        self.host_memory_peak = self.host_memory_peak.max(state.budget.peak());
        if self.limit.is_none() {
            self.limit.clone_from(&state.growth.hit);
        }
        look(state)
    }
}

fn info(begin: &Begin, restarts: u32) -> StreamInfo {
    let cine = &begin.cine;
    StreamInfo {
        columns: cine.columns,
        rows: cine.rows,
        channels: cine.channels,
        interval_us: begin.interval_us,
        budget_ms: begin.config.frame_budget_ms,
        restarts,
        pixel_spacing_mm: cine.spacing_mm.map(|[column, row]| (column, row)),
        image_areas: cine.areas.iter().map(|area: &Rectangle| (*area).into()).collect(),
    }
}
