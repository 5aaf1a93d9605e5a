//! One destination: what is next, an attempt, and what follows from how it ended.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::breaker::{Breaker, chance, pause_ms};
use super::{Delivery, Failure, Parcel, Promises, Sent, Trouble, dimse, fhir, folder, mllp, stow, webhook};
use crate::config::{Config, DestinationConfig, Target};
use crate::deliver::fhir::FhirDestination;
use crate::deliver::mllp::MllpDestination;
use crate::ingest::blocking;
use crate::metrics::Metrics;
use crate::store::{DeliveryEnding, DeliveryRow, Due, Store, StoreError, now_ms};

/// How long the journal is left alone after it failed.
const JOURNAL_PAUSE: Duration = Duration::from_secs(5);

/// What of the node deliveries use.
pub struct Parts<'c> {
    /// Who gets what.
    pub config: &'c Config,
    /// The journal.
    pub store: Store,
    /// The data folder.
    pub data: PathBuf,
    /// What is counted.
    pub metrics: Arc<Metrics>,
}

/// A destination cannot be used: the operator's to mend. Names it, the key and what is wrong.
#[derive(Debug, thiserror::Error)]
#[error("destinations {name:?}: {reason}")]
pub struct StartError {
    name: String,
    reason: String,
}

/// Starts a queue for each destination. They end when `stop` is cancelled and what is being sent has ended, at the latest
/// `node.drain_ms` later; what did not is sent again at the next start.
///
/// # Errors
/// A file that a destination needs cannot be used.
pub fn start(parts: &Parts<'_>, stop: &CancellationToken, tasks: &TaskTracker) -> Result<(), StartError> {
    let Parts { config, store, data, metrics } = parts;
    for to in &config.destinations {
        let named = |reason| StartError { name: to.name.clone(), reason };
        let promises = Promises::new(store.clone(), &config.destinations, metrics.clone());
        let way = Way::new(to, config, promises).map_err(named)?;
        metrics.breaker(&to.name, false);
        let queue = Queue {
            breaker: Breaker::new(to),
            to: to.clone(),
            way: Arc::new(way),
            store: store.clone(),
            data: data.clone(),
            metrics: metrics.clone(),
            poll: Duration::from_millis(config.schedule.poll_ms),
            drain: Duration::from_millis(config.node.drain_ms),
        };
        tasks.spawn(queue.run(stop.clone()));
    }
    Ok(())
}

/// A way that is ready to be gone.
enum Way {
    Dimse(dimse::Sender),
    Stow(stow::Sender),
    Folder(folder::Sender),
    Webhook(webhook::Sender),
    Fhir(FhirDestination),
    Mllp(MllpDestination),
}

impl Way {
    fn new(to: &DestinationConfig, config: &Config, promises: Promises) -> Result<Self, String> {
        Ok(match to.target() {
            Some(Target::Dimse(dimse)) => {
                Self::Dimse(dimse::Sender::new(dimse, to.timeout_ms, &config.dimse, promises)?)
            }
            Some(Target::Stow(stow)) => Self::Stow(stow::Sender::new(stow)?),
            Some(Target::Folder(folder)) => Self::Folder(folder::Sender::new(folder)?),
            Some(Target::Webhook(webhook)) => Self::Webhook(webhook::Sender::new(webhook, to.timeout_ms)?),
            Some(Target::Fhir(fhir)) => Self::Fhir(fhir.clone()),
            Some(Target::Mllp(mllp)) => Self::Mllp(mllp.clone()),
            None => return Err("there is no way to it".into()),
        })
    }

    async fn send(&self, delivery: &Arc<Delivery>) -> Result<Sent, Trouble> {
        match self {
            Self::Dimse(sender) => sender.send(delivery).await,
            Self::Stow(sender) => sender.send(delivery).await,
            Self::Folder(sender) => Ok(sender.send(delivery.clone()).await?),
            Self::Webhook(sender) => sender.send(delivery).await,
            Self::Fhir(to) => Ok(fhir::send(to, delivery).await.map(|()| Sent::default())?),
            Self::Mllp(to) => Ok(mllp::send(to, delivery).await.map(|()| Sent::default())?),
        }
    }
}

struct Queue {
    to: DestinationConfig,
    way: Arc<Way>,
    breaker: Breaker,
    store: Store,
    data: PathBuf,
    metrics: Arc<Metrics>,
    /// How often the journal is asked for what another process put there, and for what is due.
    poll: Duration,
    drain: Duration,
}

impl Queue {
    async fn run(mut self, stop: CancellationToken) {
        let mut changes = self.store.watch_outbox();
        while !stop.is_cancelled() {
            changes.mark_unchanged();
            let left_alone = self.breaker.closed_from(Instant::now());
            let pause = match left_alone {
                Some(until) => until.saturating_duration_since(Instant::now()),
                None => match self.next(&stop).await {
                    Ok(true) => continue,
                    Ok(false) => self.poll,
                    Err(e) => {
                        tracing::error!(destination = self.to.name, "{e}; deliveries wait until it can be used again");
                        JOURNAL_PAUSE
                    }
                },
            };
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(pause) => {}
                changed = changes.changed(), if left_alone.is_none() => {
                    if changed.is_err() {
                        return;
                    }
                }
            }
        }
    }

    /// Makes the next attempt, where one is due; whether there was one.
    async fn next(&mut self, stop: &CancellationToken) -> Result<bool, StoreError> {
        self.overdue().await?;
        let Some(row) = self.store.claim_delivery(&self.to.name, Due::now(self.to.retry_max_ms)).await? else {
            return Ok(false);
        };
        let ending = match self.load(&row).await? {
            Ok(delivery) => {
                let sending = tokio::spawn(attempt(self.way.clone(), delivery, self.to.send_max_ms));
                self.ended(&row, sending, stop).await
            }
            // What is wrong is here.
            Err(failure) => self.failed(&row, Trouble::Failed(failure)),
        };
        self.record(&row, &ending, stop).await;
        Ok(true)
    }

    /// What nobody promised to keep in time is sent again.
    async fn overdue(&self) -> Result<(), StoreError> {
        let Some(Target::Dimse(dimse)) = self.to.target() else { return Ok(()) };
        for row in self.store.overdue_deliveries(&self.to.name, Due::now(dimse.commitment_timeout_ms)).await? {
            let text =
                format!("it promised nothing within dimse.commitment_timeout_ms = {}", dimse.commitment_timeout_ms);
            let ending = self.failed(&row, Trouble::Failed(Failure::again(text)));
            self.store.end_delivery(row.id, &ending).await?;
        }
        Ok(())
    }

    async fn load(&self, row: &DeliveryRow) -> Result<Result<Arc<Delivery>, Failure>, StoreError> {
        let (job, identity) =
            (self.store.job(row.job).await?, self.store.study_identity(&row.study_instance_uid).await?);
        let (Some(job), Some(identity)) = (job, identity) else {
            return Ok(Err(Failure::for_good("its study was deleted")));
        };
        let (parcel, data, to) = (Parcel { row: row.clone(), job, identity }, self.data.clone(), self.to.clone());
        Ok(blocking(move || Delivery::load(parcel, &data, &to)).await.map(Arc::new))
    }

    /// Waits for the end of an attempt; where the node stops, for `node.drain_ms`.
    async fn ended(
        &mut self,
        row: &DeliveryRow,
        mut sending: tokio::task::JoinHandle<Result<Sent, Trouble>>,
        stop: &CancellationToken,
    ) -> DeliveryEnding {
        let drain = self.drain;
        let drained = async {
            stop.cancelled().await;
            tokio::time::sleep(drain).await;
        };
        let done = tokio::select! {
            done = &mut sending => done,
            () = drained => {
                sending.abort();
                return DeliveryEnding::BrokenOff;
            }
        };
        // A fault of ours costs this attempt, not the queue.
        let panicked = |_| Err(Failure::again("the runtime panicked; its log says where").into());
        match done.unwrap_or_else(panicked) {
            Ok(sent) => {
                self.breaker.answered();
                let Sent { outputs, detail, awaits } = sent;
                let Some(transaction_uid) = awaits else { return DeliveryEnding::Sent { outputs, detail } };
                let timeout_ms = self.to.dimse.as_ref().map_or(0, |dimse| dimse.commitment_timeout_ms);
                let next_ms = now_ms().saturating_add_unsigned(timeout_ms);
                DeliveryEnding::Awaiting { transaction_uid, next_ms, detail }
            }
            Err(trouble) => {
                match &trouble {
                    Trouble::Failed(Failure { again: false, .. }) => self.breaker.answered(),
                    _ => self.breaker.failed(Instant::now()),
                }
                self.failed(row, trouble)
            }
        }
    }

    fn failed(&self, row: &DeliveryRow, trouble: Trouble) -> DeliveryEnding {
        after(&self.to, row, trouble, now_ms(), chance())
    }

    /// Tells, and journals until the journal takes it: what is lost here is sent once more.
    async fn record(&self, row: &DeliveryRow, ending: &DeliveryEnding, stop: &CancellationToken) {
        let (destination, delivery, job) = (&self.to.name, row.id, row.job);
        match ending {
            DeliveryEnding::Sent { detail, .. } => {
                tracing::info!(destination, delivery, job, "delivered{}", after_colon(detail));
                self.metrics.delivery_sent(destination);
            }
            DeliveryEnding::Awaiting { detail, .. } => {
                tracing::info!(destination, delivery, job, "taken, and not promised yet{}", after_colon(detail));
            }
            DeliveryEnding::Again { error, .. } => {
                tracing::warn!(destination, delivery, job, "not delivered yet: {error}");
                self.metrics.delivery_failed(destination);
            }
            DeliveryEnding::Dead { error } => {
                tracing::error!(
                    destination,
                    delivery,
                    job,
                    "given up: {error}; `gantry outbox retry {delivery}` tries it again"
                );
                self.metrics.delivery_failed(destination);
            }
            DeliveryEnding::BrokenOff => tracing::info!(destination, delivery, job, "broken off"),
        }
        self.metrics.breaker(destination, self.breaker.is_open());
        while let Err(e) = self.store.end_delivery(row.id, ending).await {
            tracing::error!(destination, delivery, "the end of an attempt is not recorded yet: {e}");
            if tokio::time::timeout(JOURNAL_PAUSE, stop.cancelled()).await.is_ok() {
                return;
            }
        }
    }
}

fn after_colon(detail: &str) -> String {
    if detail.is_empty() { String::new() } else { format!(": {detail}") }
}

/// One attempt, within its time.
async fn attempt(way: Arc<Way>, delivery: Arc<Delivery>, send_max_ms: u64) -> Result<Sent, Trouble> {
    let late = || Failure::again(format!("it did not take all within destinations.send_max_ms = {send_max_ms}"));
    match tokio::time::timeout(Duration::from_millis(send_max_ms), way.send(&delivery)).await {
        Ok(done) => done,
        Err(_) => Err(late().into()),
    }
}

/// What follows from an attempt that failed. A destination that cannot be reached costs a delivery none of its attempts, only time.
pub(super) fn after(
    to: &DestinationConfig,
    row: &DeliveryRow,
    trouble: Trouble,
    now_ms: i64,
    chance: f64,
) -> DeliveryEnding {
    let age_ms = u64::try_from(now_ms.saturating_sub(row.since_ms)).unwrap_or(0);
    let (again, counts, error) = match trouble {
        Trouble::Unreachable(error) => (true, false, error),
        Trouble::Failed(Failure { again, text }) => (again, true, text),
    };
    if again && age_ms >= to.age_max_ms {
        return DeliveryEnding::Dead {
            error: format!("{error}; older than destinations.age_max_ms = {}", to.age_max_ms),
        };
    }
    if again && counts && row.attempts >= to.attempts_max {
        let most = to.attempts_max;
        return DeliveryEnding::Dead { error: format!("{error}; destinations.attempts_max = {most} are used up") };
    }
    match again {
        false => DeliveryEnding::Dead { error },
        true => {
            let pause_ms = pause_ms(to, if counts { row.attempts } else { 1 }, chance);
            DeliveryEnding::Again { next_ms: now_ms.saturating_add(pause_ms), counts, error }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::findings::Urgency;
    use crate::store::DeliveryState;

    fn row(attempts: u32) -> DeliveryRow {
        DeliveryRow {
            id: 1,
            job: 1,
            study_instance_uid: "2.25.2".into(),
            destination: "pacs".into(),
            state: DeliveryState::Queued,
            priority: Urgency::Routine,
            attempts,
            since_ms: 1000,
            created_ms: 0,
            next_ms: 0,
            ended_ms: None,
            error: None,
            detail: String::new(),
            result_sha256: [0; 32],
            transaction_uid: None,
        }
    }

    #[test]
    fn what_may_pass_is_tried_again_so_often_and_so_long() {
        let to = DestinationConfig {
            attempts_max: 3,
            retry_first_ms: 100,
            age_max_ms: 10_000,
            ..DestinationConfig::default()
        };
        let refused = || Trouble::Failed(Failure::again("A700"));
        let again = |next_ms, counts, error: &str| DeliveryEnding::Again { next_ms, counts, error: error.into() };
        let dead = |error: &str| DeliveryEnding::Dead { error: error.into() };
        assert_eq!(after(&to, &row(1), refused(), 2000, 0.0), again(2100, true, "A700"));
        assert_eq!(after(&to, &row(2), refused(), 2000, 0.0), again(2200, true, "A700"));
        assert_eq!(after(&to, &row(3), refused(), 2000, 0.0), dead("A700; destinations.attempts_max = 3 are used up"));
        assert_eq!(after(&to, &row(1), Trouble::Failed(Failure::for_good("C000")), 2000, 0.0), dead("C000"));
        // Nobody is there: no attempt is used up, and the time is bounded all the same.
        let gone = || Trouble::Unreachable("gone".into());
        assert_eq!(after(&to, &row(9), gone(), 2000, 0.0), again(2100, false, "gone"));
        assert_eq!(after(&to, &row(1), gone(), 11_000, 0.0), dead("gone; older than destinations.age_max_ms = 10000"));
        // A clock that jumped back makes nothing old.
        assert_eq!(after(&to, &row(1), gone(), -5000, 0.0), again(-4900, false, "gone"));
    }
}
