//! Earlier studies of a patient: what an archive has is found by QIDO-RS and taken in by WADO-RS.

use std::sync::Arc;

use super::{Archive, PacsError};
use crate::ingest::{Arrival, Asked, Intake, Via};
use crate::store::{PriorKey, Store};

/// Fetches earlier studies by this key, with a modality of the study's, from the first archive that allows it
/// (`pacs.priors`), and takes them in. What is here already is not fetched again, and nothing is added to a study that somebody
/// sent. `of` is the study and its version that they are fetched for, for the audit log.
///
/// # Returns
/// What could not be had of single studies, for people; no patient data.
///
/// # Errors
/// Of the archive, the host or the journal. What was taken in before stays.
pub async fn fetch_priors(
    archives: &[Archive],
    store: &Store,
    intake: &Intake,
    key: &PriorKey,
    version: u32,
) -> Result<Vec<String>, PacsError> {
    let Some(archive) = archives.iter().find(|archive| archive.gives_priors()) else { return Ok(Vec::new()) };
    let _turn = archive.fetches.acquire().await;
    let mut missed = Vec::new();
    for (prior, count) in archive.priors(key).await? {
        let most = archive.config.prior_instances_max;
        if count > most as u64 {
            missed.push(format!(
                "an earlier study of {count} instances is left where it is: pacs.prior_instances_max = {most}"
            ));
            continue;
        }
        match store.fetched_instances(prior.as_str()).await? {
            Some(here) if here < count || !store.is_fetched(prior.as_str()).await? => {}
            _ => continue,
        }
        let arrival = Arrival::new(Via::Pacs, &archive.config.name);
        let asked = Arc::new(Asked { study: prior, patient: key.patient.clone() });
        match archive.fetch(intake, &arrival, &asked).await {
            Ok(()) => {
                let (name, of) = (archive.config.name.as_str(), (key.study_instance_uid.as_str(), version));
                store.fetched(asked.study.as_str(), (name, &arrival.correlation), of).await?;
            }
            Err(PacsError::Store(error)) => return Err(error.into()),
            Err(error) => {
                tracing::warn!(study = key.study_instance_uid, prior = asked.study.as_str(), "not fetched: {error}");
                missed.push(format!("an earlier study could not be fetched: {error}"));
            }
        }
    }
    Ok(missed)
}
