//! Jobs, from a study that closed to results that are durable.
//!
//! ```text
//! StudyClosed ─ route ─▶ journal: queued · gated ─ dispatcher ─▶ workers (plain threads) ─ pipeline ─▶ results/
//!                           ▲    gate, claim, cancel │                    │
//!                           └──── done · again · failed · dead ◀──────────┘ Ended
//! ```
//!
//! One task, the dispatcher, moves every job from one state to the next, so that nothing happens at once; the workers
//! only run guests. The journal is the truth: what ran when the node ended is queued again at the next start, and a
//! repeated run writes the same objects under the same UIDs. `gantry job` writes to the journal; the dispatcher looks
//! every `schedule.poll_ms`.
//!
//! Read on in this order: `route`, this file, `gate`, `priors`, `work`, `retry`.

mod gate;
mod priors;
mod retry;
mod route;
mod work;

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::{Notify, mpsc};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use self::gate::{Gate, Sibling};
use self::priors::Gatherer;
pub use self::priors::PriorSource;
use self::route::Router;
use self::work::{Assignment, Ended, Finished, Ready, Recent, Shop};
use crate::app::App;
use crate::audit::{Action, Event, NODE};
use crate::findings::Urgency;
use crate::inference::{Device, Turn};
use crate::ingest::blocking;
use crate::metrics::Metrics;
use crate::module::check::{self, CheckError};
use crate::routing::{Plan, PlanError};
use crate::sandbox::{self, PrepareError};
use crate::store::{Done, Due, Ending, Job, JobState, Store, StoreError, now_ms};
use crate::threads::Threads;
use crate::worker::list::WorkerList;
use crate::worker::{self, WorkerReport};

/// How long a guest that was told to stop may take: host calls on large volumes are not interrupted.
pub const STOP_GRACE: Duration = Duration::from_secs(5);

/// A study is whole, as far as can be told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StudyClosed {
    /// Study Instance UID.
    pub study_instance_uid: String,
    /// Which closing of it, from 1. A later one supersedes.
    pub version: u32,
}

/// Jobs cannot run: the operator's to mend.
#[derive(Debug, thiserror::Error)]
pub enum ScheduleError {
    /// The modules as configured.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// A module's component.
    #[error("modules ({module}): {reason}")]
    Prepare {
        /// Which.
        module: String,
        /// Why.
        reason: PrepareError,
    },
    /// One of its models.
    #[error("modules ({module}): {reason}")]
    Model {
        /// Of which module.
        module: String,
        /// Why.
        reason: CheckError,
    },
    /// The journal.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// No thread.
    #[error("no thread could be started for jobs; limits.jobs_max says how many there are: {0}")]
    Thread(std::io::Error),
}

/// What of the node jobs use.
pub struct Parts {
    /// What every job needs.
    pub app: Arc<App>,
    /// The journal.
    pub store: Store,
    /// The data folder.
    pub data: PathBuf,
    /// Where earlier studies come from.
    pub priors: PriorSource,
    /// What is counted.
    pub metrics: Arc<Metrics>,
}

/// Opens and prepares every module, takes up what an earlier process left, and starts. It ends when `stop` is
/// cancelled and what runs has ended, at the latest `node.drain_ms` and [`STOP_GRACE`] later.
///
/// # Errors
/// [`ScheduleError`].
pub async fn start(
    Parts { app, store, data, priors, metrics }: Parts,
    closed: mpsc::Receiver<StudyClosed>,
    stop: CancellationToken,
    tasks: &TaskTracker,
) -> Result<(), ScheduleError> {
    let plan = Arc::new(Plan::load(&app.config)?);
    let (of_app, of_plan) = (app.clone(), plan.clone());
    let (modules, vetted) = blocking(move || prepare(&of_app, &of_plan)).await?;
    record(&store, &vetted).await?;
    let again = store.recover_jobs(app.config.schedule.attempts_max).await?;
    if again > 0 {
        tracing::warn!("{again} jobs ran when the node ended; they are taken up");
    }
    let runtime = tokio::runtime::Handle::current();
    let shop = Arc::new(Shop { app, store, data, modules, recent: Recent::default(), runtime, metrics });
    let (assign, ended) = workers(&shop).map_err(ScheduleError::Thread)?;
    let changed = Arc::new(Notify::new());
    let router = Router { shop: shop.clone(), plan: plan.clone(), changed: changed.clone(), stop: stop.clone() };
    tasks.spawn(router.run(closed));
    changed.notify_one();
    let priors = Gatherer::new(shop.clone(), priors, tasks.clone(), changed.clone(), stop.clone());
    let (running, unrecorded, workers, out_of_service) = Default::default();
    let dispatcher = Dispatcher { shop, plan, assign, priors, running, unrecorded, workers, out_of_service };
    tasks.spawn(dispatcher.run(ended, changed, stop));
    Ok(())
}

/// What happened to models, in the audit log.
async fn record(store: &Store, events: &[Event]) -> Result<(), StoreError> {
    let mut batch = store.begin().await?;
    for event in events {
        batch.audit(event).await?;
    }
    batch.commit().await
}

/// Every module compiled, checked and linked, and its models loaded, once.
fn prepare(app: &App, plan: &Plan) -> Result<(HashMap<String, Ready>, Vec<Event>), ScheduleError> {
    let mut vetted = Vec::new();
    let mut prepare = |planned: &crate::routing::Planned| {
        let (grants, denied) = planned.policy.grant(&planned.package.manifest().needs);
        for ask in denied {
            tracing::warn!(module = planned.name, "the module asks for {ask}, which was not granted");
        }
        let prepared = app.sandbox.prepare(planned.package.clone(), grants);
        let prepared = prepared.map_err(|reason| ScheduleError::Prepare { module: planned.name.clone(), reason })?;
        let checked = check::check(&planned.package, &app.engines);
        let checked = checked.map_err(|reason| ScheduleError::Model { module: planned.name.clone(), reason })?;
        check::warm_up(&planned.package, &app.engines);
        vetted.extend(planned.package.manifest().models.iter().zip(&checked.models).map(|(entry, model)| Event {
            object: format!("{}/{}", planned.name, entry.name),
            digests: entry.sha256.iter().map(|digest| ("model", digest.0)).collect(),
            detail: format!("{} nodes, loaded by {} in {} ms", model.anatomy.nodes, model.engine, model.load_ms),
            ..Event::new(NODE, Action::ModelVetted)
        }));
        Ok((planned.name.clone(), Ready { planned: planned.clone(), prepared }))
    };
    let modules = plan.modules.iter().map(&mut prepare).collect::<Result<_, ScheduleError>>()?;
    Ok((modules, vetted))
}

type Channels = (std::sync::mpsc::Sender<Assignment>, mpsc::UnboundedReceiver<Ended>);

/// One thread for each job that may run at once. They end when the sender is gone.
fn workers(shop: &Arc<Shop>) -> std::io::Result<Channels> {
    let (assign, jobs) = std::sync::mpsc::channel();
    let (report, ended) = mpsc::unbounded_channel();
    let jobs = Arc::new(Mutex::new(jobs));
    for number in 1..=shop.app.config.limits.jobs_max {
        let (shop, jobs, report) = (shop.clone(), jobs.clone(), report.clone());
        let stack = sandbox::stack_bytes(&shop.app.config.limits);
        let threads = Threads::start("gantry-compute", Some(stack)).map_err(std::io::Error::other)?;
        let thread = std::thread::Builder::new().name(format!("gantry-job-{number}"));
        thread.spawn(move || work::worker(&shop, &threads, &jobs, &report))?;
    }
    Ok((assign, ended))
}

/// A job that runs.
struct Running {
    turn: Turn,
    /// Study Instance UID.
    study: String,
}

/// What runs is as urgent as the journal says by now, and never less than it was.
fn hurry(running: &HashMap<i64, Running>, priorities: &[(i64, Urgency)]) {
    for (id, urgency) in priorities {
        if let Some(running) = running.get(id) {
            running.turn.raise(*urgency);
        }
    }
}

/// Moves jobs from state to state.
struct Dispatcher {
    shop: Arc<Shop>,
    plan: Arc<Plan>,
    assign: std::sync::mpsc::Sender<Assignment>,
    priors: Gatherer,
    running: HashMap<i64, Running>,
    /// What the journal could not take yet.
    unrecorded: Vec<(Job, Ending)>,
    /// As told last.
    workers: Vec<WorkerReport>,
    /// Vendor, device and digest of models of which the audit log says that they are out of service.
    out_of_service: HashSet<(String, Device, [u8; 32])>,
}

impl Dispatcher {
    async fn run(mut self, mut ended: mpsc::UnboundedReceiver<Ended>, changed: Arc<Notify>, stop: CancellationToken) {
        let mut poll = tokio::time::interval(Duration::from_millis(self.shop.app.config.schedule.poll_ms));
        poll.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = stop.cancelled() => break,
                () = changed.notified() => {}
                _ = poll.tick() => {}
                Some(end) = ended.recv() => self.ended(end, false).await,
            }
            if let Err(e) = self.advance().await {
                tracing::error!("{e}; jobs wait until it can be used again");
            }
            self.tell_workers().await;
        }
        self.drain(ended).await;
    }

    /// For `gantry worker list`, metrics and the audit log.
    async fn tell_workers(&mut self) {
        let workers = self.shop.app.engines.workers();
        if workers == self.workers {
            return;
        }
        if let Err(e) = self.record_out_of_service(&workers).await {
            tracing::error!("that a model is out of service cannot be recorded yet: {e}");
            return;
        }
        let list = WorkerList { written_ms: now_ms(), workers };
        if let Err(e) = worker::list::write(&self.shop.data, &list) {
            tracing::warn!("the list of workers cannot be written: {e}");
        }
        self.workers = list.workers;
    }

    async fn record_out_of_service(&mut self, workers: &[WorkerReport]) -> Result<(), StoreError> {
        for worker in workers {
            for out in &worker.out_of_service {
                let key = (worker.vendor.clone(), worker.device, out.sha256.0);
                if self.out_of_service.contains(&key) {
                    continue;
                }
                let event = Event {
                    object: format!("{}/{}", worker.vendor, out.model),
                    digests: vec![("model", out.sha256.0)],
                    detail: format!(
                        "on {}: it ended {} workers, the last one {}",
                        worker.device, out.failures, out.last
                    ),
                    ..Event::new(NODE, Action::ModelOutOfService)
                };
                record(&self.shop.store, &[event]).await?;
                self.out_of_service.insert(key);
            }
        }
        Ok(())
    }

    /// Everything that can go on does.
    async fn advance(&mut self) -> Result<(), StoreError> {
        self.record().await?;
        for id in self.shop.store.jobs_to_cancel().await? {
            if let Some(running) = self.running.get(&id) {
                running.turn.cancel();
            }
        }
        if !self.running.is_empty() {
            hurry(&self.running, &self.shop.store.running_priorities().await?);
        }
        self.gates().await?;
        let places = self.shop.app.config.limits.jobs_max as usize;
        let retry_max_ms = self.shop.app.config.schedule.retry_max_ms;
        while self.running.len() < places {
            // The last place is for what cannot wait until another job ends.
            let last = places > 1 && self.running.len() + 1 == places;
            let least = if last { Urgency::Urgent } else { Urgency::Routine };
            let Some(job) = self.shop.store.claim(Due::now(retry_max_ms), least).await? else { break };
            let turn = Turn::new(job.priority);
            self.running.insert(job.id, Running { turn: turn.clone(), study: job.study_instance_uid.clone() });
            let sent = self.assign.send(Assignment { job, turn });
            sent.expect("workers hold the receiver as long as this sender lives");
        }
        Ok(())
    }

    /// Decides for every job that waits for others, or for earlier studies.
    async fn gates(&mut self) -> Result<(), StoreError> {
        let store = &self.shop.store;
        let mut waiting = HashSet::new();
        // The oldest first, which are the predecessors: what is skipped here is over for those that come after it.
        for job in store.jobs(None, Some(JobState::Gated)).await?.iter().rev() {
            let gate = match self.plan.module(&job.module) {
                Some(module) => gate::decide(module, &self.siblings(job).await?),
                None => Gate::Skip { class: "module", reason: format!("{} is no longer configured", job.module) },
            };
            match gate {
                Gate::Wait => {}
                Gate::Open if self.lacks_priors(job).await? => {
                    waiting.insert((job.study_instance_uid.clone(), job.study_version));
                }
                Gate::Open => store.open_gate(job.id).await?,
                Gate::Skip { class, reason: error } => {
                    tracing::info!(job = job.id, correlation = job.correlation, "skipped: {error}");
                    store.end_job(job.id, &Ending::Over { state: JobState::Skipped, class, error }).await?;
                }
            }
        }
        self.priors.work_for(waiting);
        Ok(())
    }

    /// Whether a job is to see earlier studies, and they were not looked for yet.
    async fn lacks_priors(&self, job: &Job) -> Result<bool, StoreError> {
        let sees = self.shop.modules.get(&job.module).is_some_and(Ready::sees_priors);
        Ok(sees && self.shop.store.gathered(&job.study_instance_uid, job.study_version).await?.is_none())
    }

    async fn siblings(&self, job: &Job) -> Result<Vec<Sibling>, StoreError> {
        let store = &self.shop.store;
        let mut siblings = Vec::new();
        for other in store.jobs_of_version(&job.study_instance_uid, job.study_version).await? {
            let found = store.found(other.id).await?;
            siblings.push(Sibling { job: other, found });
        }
        Ok(siblings)
    }

    async fn ended(&mut self, ended: Ended, stopping: bool) {
        let Ended { job, how } = ended;
        self.running.remove(&job.id);
        let config = &self.shop.app.config.schedule;
        let ending = match how {
            Finished::Done(done) => Ending::Done(done),
            Finished::Cancelled if stopping => Ending::BrokenOff,
            Finished::Cancelled => {
                Ending::Over { state: JobState::Cancelled, class: "cancelled", error: "cancelled while it ran".into() }
            }
            Finished::Failed(cause) => retry::after(cause, job.attempts, config, now_ms()),
        };
        match &ending {
            Ending::Done(Done { result_path, raise, .. }) => {
                tracing::info!(job = job.id, correlation = job.correlation, "done: {result_path}");
                // In the journal the others are raised with it.
                let of_study = self.running.values().filter(|running| running.study == job.study_instance_uid);
                of_study.for_each(|running| running.turn.raise(*raise));
            }
            Ending::Again { class, error, .. } | Ending::Over { class, error, .. } => {
                tracing::warn!(job = job.id, correlation = job.correlation, class, "no result: {error}");
            }
            Ending::BrokenOff => tracing::info!(job = job.id, correlation = job.correlation, "broken off"),
        }
        self.unrecorded.push((job, ending));
        if let Err(e) = self.record().await {
            tracing::error!("the end of a job is not recorded yet: {e}");
        }
    }

    async fn record(&mut self) -> Result<(), StoreError> {
        while let Some((job, ending)) = self.unrecorded.last() {
            self.shop.store.end_job(job.id, ending).await?;
            self.unrecorded.pop();
        }
        Ok(())
    }

    /// Nothing new begins. What runs may end by itself, is then told to, and goes back to the queue.
    async fn drain(mut self, mut ended: mpsc::UnboundedReceiver<Ended>) {
        let told_at = Instant::now() + Duration::from_millis(self.shop.app.config.node.drain_ms);
        let asked: Vec<i64> = self.shop.store.jobs_to_cancel().await.unwrap_or_default();
        for (deadline, stopping) in [(told_at, false), (told_at + STOP_GRACE, true)] {
            if stopping {
                self.running.values().for_each(|running| running.turn.cancel());
            }
            while !self.running.is_empty() {
                match tokio::time::timeout_at(deadline, ended.recv()).await {
                    Ok(Some(end)) => {
                        let stopping = stopping && !asked.contains(&end.job.id);
                        self.ended(end, stopping).await;
                    }
                    Ok(None) => return,
                    Err(_) => break,
                }
            }
        }
        if !self.running.is_empty() {
            tracing::warn!("{} jobs do not stop; they are taken up at the next start", self.running.len());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_that_runs_is_hurried_and_never_held_back() {
        let running = |urgency| Running { turn: Turn::new(urgency), study: String::new() };
        let jobs = HashMap::from([(1, running(Urgency::Routine)), (2, running(Urgency::Urgent))]);
        hurry(&jobs, &[(1, Urgency::Critical), (2, Urgency::Routine), (3, Urgency::Critical)]);
        assert!(jobs[&1].turn.is_at_least(Urgency::Critical));
        assert!(jobs[&2].turn.is_at_least(Urgency::Urgent) && !jobs[&2].turn.is_at_least(Urgency::Critical));
    }
}
