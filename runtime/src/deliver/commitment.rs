//! Promises of destinations to keep what they took (storage commitment, PS3.4 annex J): asked for under a UID that is journalled
//! first, and answered on the same association, or at any later time on one that the destination asks us for.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::breaker::chance;
use super::queue::after;
use super::{Failure, Trouble};
use crate::config::DestinationConfig;
use crate::dimse::promise::Report;
use crate::metrics::Metrics;
use crate::store::{DeliveryEnding, Store, StoreError, now_ms};

/// Who was asked what is in the journal; cheap to clone.
#[derive(Debug, Clone)]
pub struct Promises {
    store: Store,
    destinations: Arc<[DestinationConfig]>,
    metrics: Arc<Metrics>,
}

/// An object that is to be promised, as the journal keeps it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Asked {
    /// SOP Class UID.
    pub(super) class: String,
    /// SOP Instance UID.
    pub(super) instance: String,
    /// SHA-256 of the file, hexadecimal.
    pub(super) sha256: String,
}

impl Promises {
    /// Of the deliveries in a journal.
    #[must_use]
    pub fn new(store: Store, destinations: &[DestinationConfig], metrics: Arc<Metrics>) -> Self {
        Self { store, destinations: destinations.into(), metrics }
    }

    /// Journals what is asked for, before it is; the Transaction UID.
    pub(super) async fn ask(&self, delivery: i64, asked: &[Asked]) -> Result<String, StoreError> {
        // Nobody who was not told it can guess it.
        let transaction = format!("2.25.{}", uuid::Uuid::now_v7().as_u128());
        let asked = serde_json::to_string(asked).unwrap_or_default();
        self.store.ask_promise(delivery, &transaction, &asked).await?;
        Ok(transaction)
    }

    /// Takes a report: whether it answers something that was asked. What is promised counts as sent, and what is not is sent again.
    ///
    /// # Errors
    /// The journal's.
    pub(crate) async fn reported(&self, report: &Report) -> Result<bool, StoreError> {
        let Some((row, asked)) = self.store.asked_promise(&report.transaction).await? else { return Ok(false) };
        let asked: Vec<Asked> = serde_json::from_str(&asked).unwrap_or_default();
        let destination = row.destination.as_str();
        let ending = match kept(report, &asked) {
            Ok(()) => DeliveryEnding::Sent {
                outputs: asked.iter().filter_map(|asked| super::folder::digest(&asked.sha256)).collect(),
                detail: "promised to be kept".into(),
            },
            Err(failure) => {
                let unknown = DestinationConfig::default();
                let to = self.destinations.iter().find(|to| to.name == row.destination).unwrap_or(&unknown);
                after(to, &row, Trouble::Failed(failure), now_ms(), chance())
            }
        };
        match &ending {
            DeliveryEnding::Sent { .. } => {
                tracing::info!(destination, delivery = row.id, "promised to be kept");
                self.metrics.delivery_sent(destination);
            }
            DeliveryEnding::Again { error, .. } | DeliveryEnding::Dead { error } => {
                tracing::warn!(destination, delivery = row.id, "{error}");
                self.metrics.delivery_failed(destination);
            }
            _ => {}
        }
        self.store.end_delivery(row.id, &ending).await?;
        Ok(true)
    }
}

/// Whether all that was asked for is promised.
pub(super) fn kept(report: &Report, asked: &[Asked]) -> Result<(), Failure> {
    let Some(missing) = asked.iter().find(|asked| !report.committed.contains(&asked.instance)) else {
        return Ok(());
    };
    let failed = report.failed.iter().find(|(instance, _)| *instance == missing.instance);
    Err(Failure::again(match failed {
        Some((_, reason)) => format!("it does not promise to keep what it took: failure reason {reason:04X}"),
        None => "it does not promise to keep all that it took".into(),
    }))
}
