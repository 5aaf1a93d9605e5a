//! Earlier studies, before the first job that is to see them: fetched in the background, while other jobs go on.
//!
//! ```text
//! a gated job's turn ─▶ Gatherer ─ archive, at most schedule.priors_wait_ms ─▶ journal: which, and what was missed ─▶ queued
//! ```
//!
//! It is done once for each version of a study, and what was decided is in the journal before a job of it runs: every run sees
//! the same. What a node did not come to before it ended begins anew at the next start, and what was taken in by then is not
//! fetched again.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::work::Shop;
use crate::completion::{Archive, fetch_priors};
use crate::ingest::Intake;
use crate::store::{Gathered, PriorKey, StoreError};

/// Where earlier studies come from, and who takes them in.
pub struct PriorSource {
    /// Those that are configured.
    pub archives: Arc<[Archive]>,
    /// Makes what they send durable.
    pub intake: Intake,
}

/// Study Instance UID and version.
pub(super) type Of = (String, u32);

/// Gathers for every version that waits for it.
pub(super) struct Gatherer {
    shop: Arc<Shop>,
    source: Arc<PriorSource>,
    tasks: TaskTracker,
    changed: Arc<Notify>,
    stop: CancellationToken,
    /// Cancelled when it is over, or when nobody waits for it any more.
    running: HashMap<Of, CancellationToken>,
}

impl Gatherer {
    pub(super) fn new(
        shop: Arc<Shop>,
        source: PriorSource,
        tasks: TaskTracker,
        changed: Arc<Notify>,
        stop: CancellationToken,
    ) -> Self {
        Self { shop, source: Arc::new(source), tasks, changed, stop, running: HashMap::new() }
    }

    /// Works for these, and for no others.
    pub(super) fn work_for(&mut self, wanted: HashSet<Of>) {
        self.running.retain(|of, running| {
            let goes_on = wanted.contains(of) && !running.is_cancelled();
            if !goes_on {
                running.cancel();
            }
            goes_on
        });
        for of in wanted {
            if !self.running.contains_key(&of) {
                let running = self.stop.child_token();
                self.running.insert(of.clone(), running.clone());
                self.start(of, running);
            }
        }
    }

    fn start(&self, (study, version): Of, running: CancellationToken) {
        let (shop, source, changed) = (self.shop.clone(), self.source.clone(), self.changed.clone());
        self.tasks.spawn(async move {
            let over = running.clone();
            let gathered = running.run_until_cancelled(gather(&shop, &source, &study, version)).await;
            if let Some(Err(e)) = gathered {
                tracing::error!(study, version, "earlier studies cannot be looked for, and this is tried again: {e}");
            }
            over.cancel();
            changed.notify_one();
        });
    }
}

async fn gather(shop: &Shop, source: &PriorSource, study: &str, version: u32) -> Result<(), StoreError> {
    let store = &shop.store;
    let mut gathered = Gathered::default();
    if let Some(key) = store.prior_key(study).await? {
        gathered.warnings = match key.unusable() {
            Some(reason) => vec![format!("no earlier studies were looked for: {reason}")],
            None => fetch(shop, source, &key, version).await,
        };
        gathered.priors = store.earlier_studies(&key, shop.app.config.limits.priors_max).await?;
    }
    for warning in &gathered.warnings {
        tracing::warn!(study, version, "{warning}");
    }
    tracing::info!(study, version, priors = gathered.priors.len(), "earlier studies were looked for");
    store.record_gathered(study, version, &gathered).await
}

/// What could not be had, for people.
async fn fetch(shop: &Shop, source: &PriorSource, key: &PriorKey, version: u32) -> Vec<String> {
    let wait_ms = shop.app.config.schedule.priors_wait_ms;
    let fetch = fetch_priors(&source.archives, &shop.store, &source.intake, key, version);
    match tokio::time::timeout(Duration::from_millis(wait_ms), fetch).await {
        Ok(Ok(missed)) => missed,
        Ok(Err(error)) => vec![format!("earlier studies could not be fetched: {error}")],
        Err(_) => vec![format!("earlier studies did not come within schedule.priors_wait_ms = {wait_ms}")],
    }
}
