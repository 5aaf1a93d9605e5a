//! A study closed: what is to run on it.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, mpsc};
use tokio_util::sync::CancellationToken;

use super::StudyClosed;
use super::retry::pause_ms;
use super::work::{Shop, Which};
use crate::ingest::blocking;
use crate::routing::{Circumstances, ModuleExplanation, Plan, explain};
use crate::store::{NewJob, Routed, StoreError, now_ms};
use crate::study::{self, ReadError, Study};
use crate::worklist::{Cause, Reason};

/// Routes studies in the order in which they close.
pub(super) struct Router {
    pub(super) shop: Arc<Shop>,
    pub(super) plan: Arc<Plan>,
    pub(super) changed: Arc<Notify>,
    pub(super) stop: CancellationToken,
}

impl Router {
    /// Until the node stops. What closed and was not routed by then is to be told again at the next start.
    pub(super) async fn run(self, mut closed: mpsc::Receiver<StudyClosed>) {
        loop {
            let next = tokio::select! {
                () = self.stop.cancelled() => return,
                next = closed.recv() => next,
            };
            let Some(study) = next else { return };
            let mut attempt = 1;
            while let Err(error) = self.route(&study).await {
                tracing::error!(
                    study = study.study_instance_uid,
                    "the study cannot be routed, and is tried again: {error}"
                );
                let pause = Duration::from_millis(pause_ms(attempt, &self.shop.app.config.schedule).unsigned_abs());
                attempt = attempt.saturating_add(1);
                tokio::select! {
                    () = self.stop.cancelled() => return,
                    () = tokio::time::sleep(pause) => {}
                }
            }
            self.changed.notify_one();
        }
    }

    async fn route(&self, closed: &StudyClosed) -> Result<(), StoreError> {
        let Shop { store, app, data, metrics, .. } = &*self.shop;
        let uid = &closed.study_instance_uid;
        let Some(arrivals) = store.arrivals(uid).await? else {
            tracing::warn!(study = uid, "a study closed of which nothing is here");
            return Ok(());
        };
        let instances = store.instances_of_study(uid).await?;
        let last_instance = instances.iter().map(|instance| instance.id).max().unwrap_or(0);
        let paths: Vec<PathBuf> = instances.iter().map(|instance| data.join(&instance.path)).collect();
        let options = app.read_options(false);
        let read = blocking(move || study::read(&paths, &options)).await;
        let ordered = store.order_of_study(uid).await?.map(|order| order.priority);
        let seen = Circumstances::now(arrivals.sources, ordered);
        let Decided { outcome, detail, jobs, reasons } = match read {
            Ok(study) => self.decide(closed.version, study, &seen),
            Err(error) => unreadable(&error),
        };
        let routed = Routed {
            study_instance_uid: uid.clone(),
            study_version: closed.version,
            routed_ms: now_ms(),
            outcome: outcome.to_owned(),
            detail,
            last_instance,
        };
        let (version, correlation) = (closed.version, &arrivals.correlation);
        if store.route_for(&routed, correlation, &jobs, &reasons).await? {
            metrics.study_routed(outcome);
            match outcome {
                "unreadable" => {
                    tracing::warn!(study = uid, version, correlation, "no module can read it: {}", routed.detail)
                }
                _ => tracing::info!(
                    study = uid,
                    version,
                    correlation,
                    outcome,
                    jobs = jobs.len(),
                    "routed: {}",
                    routed.detail
                ),
            }
        } else {
            tracing::info!(study = uid, version, correlation, "this version or a later one was routed before");
        }
        Ok(())
    }

    fn decide(&self, version: u32, study: Study, seen: &Circumstances) -> Decided {
        let explained = explain(&study, &self.plan, seen);
        let run = explained.iter().filter(|module| module.would_run);
        let jobs = run.filter_map(|module| {
            let planned = self.plan.module(&module.module)?;
            Some(NewJob {
                module: module.module.clone(),
                identity: planned.package.identity(),
                gated: !module.waits_for.is_empty() || module.priors.is_some(),
                priority: module.priority,
            })
        });
        let jobs: Vec<NewJob> = jobs.collect();
        let reasons = reasons(&explained);
        if jobs.is_empty() {
            let told = format!("none of {} modules runs on it; `gantry route explain` says why", explained.len());
            return Decided { outcome: "nothing-to-run", detail: told, jobs, reasons };
        }
        self.shop.recent.keep(Which::Version(version), &Arc::new(study));
        let names: Vec<&str> = jobs.iter().map(|job| job.module.as_str()).collect();
        Decided { outcome: "jobs", detail: names.join(", "), jobs, reasons }
    }
}

/// What becomes of a version of a study.
struct Decided {
    outcome: &'static str,
    detail: String,
    jobs: Vec<NewJob>,
    reasons: Vec<Reason>,
}

/// Why the study stands where it stands: its order, and what is said of modules that run on it.
fn reasons(explained: &[ModuleExplanation]) -> Vec<Reason> {
    let mut reasons: Vec<Reason> = Vec::new();
    for module in explained {
        let of_study = module.reasons.iter().filter(|reason| module.would_run || reason.cause == Cause::Order);
        for reason in of_study {
            if !reasons.contains(reason) {
                reasons.push(reason.clone());
            }
        }
    }
    reasons
}

/// Without paths, which mean nothing to people who look at a study.
fn unreadable(error: &ReadError) -> Decided {
    let detail = error.for_record(&|_| "an instance".into()).to_string();
    let outcome = match error {
        ReadError::NoImages { .. } | ReadError::NoDicom { .. } => "nothing-to-run",
        _ => "unreadable",
    };
    Decided { outcome, detail, jobs: Vec::new(), reasons: Vec::new() }
}
