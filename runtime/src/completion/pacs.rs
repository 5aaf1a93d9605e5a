//! Archives: how many instances a study has (QIDO-RS or C-FIND), and earlier studies of a patient (QIDO-RS, WADO-RS).

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use dicom_core::Tag;
use dicom_core::ops::AttributeSelector;
use dicom_dictionary_std::tags;
use dicom_object::{FileDicomObject, InMemDicomObject};
use dicom_web::{DicomWebClient, DicomWebError};
use futures_util::StreamExt;
use tokio::sync::Semaphore;
use tokio::time::timeout;

use super::find;
use crate::config::{Config, DimseConfig, PacsConfig};
use crate::dimse::client::{Limits, Peer};
use crate::dimse::wire::{Broken, Within};
use crate::ingest::{Arrival, Form, Intake, Refused, Uid, Via};
use crate::store::{PriorKey, Store, StoreError};
use crate::tls::{self, TlsError};

/// Studies of one patient that an archive is asked for.
const STUDIES_MAX: u32 = 1000;
/// Files as the archive keeps them, not decoded for us (PS3.18 section 8.7.3.5.2).
const AS_KEPT: &str = "multipart/related; type=\"application/dicom\"; transfer-syntax=*";
/// A bearer token's file.
const TOKEN_MAX_BYTES: u64 = 64 << 10;

/// One archive.
pub struct Archive {
    config: PacsConfig,
    calling: String,
    limits: Limits,
    tls: Option<tls::Client>,
    web: Option<DicomWebClient>,
    asks: Semaphore,
}

/// An archive cannot be asked. Says no patient data.
#[derive(Debug, thiserror::Error)]
pub enum PacsError {
    /// The operator: the token cannot be read.
    #[error("pacs {name:?}: token_file {path}: {reason}", path = path.display())]
    Token {
        /// Which archive.
        name: String,
        /// Which file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// The operator: a certificate or key for it cannot be used.
    #[error("pacs {name:?}: tls.{reason}")]
    Tls {
        /// Which archive.
        name: String,
        /// What is wrong.
        reason: TlsError,
    },
    /// The archive: too slow.
    #[error("pacs {name:?} did not answer within {limit} = {ms}")]
    Slow {
        /// Which archive.
        name: String,
        /// Which limit.
        limit: &'static str,
        /// Its value.
        ms: u64,
    },
    /// The archive: refuses, fails, or makes no sense.
    #[error("pacs {name:?}: {reason}")]
    Answer {
        /// Which archive.
        name: String,
        /// Why.
        reason: String,
    },
    /// The host: cannot keep what was fetched.
    #[error("what was fetched cannot be kept: {0}")]
    Keep(#[from] Refused),
    /// The host: the journal.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Archive {
    /// All that are configured.
    ///
    /// # Errors
    /// [`PacsError::Token`] and [`PacsError::Tls`].
    pub fn all(config: &Config) -> Result<Arc<[Self]>, PacsError> {
        config.pacs.iter().map(|pacs| Self::new(pacs, &config.dimse)).collect()
    }

    fn new(config: &PacsConfig, dimse: &DimseConfig) -> Result<Self, PacsError> {
        let mut web = config.url.as_ref().map(|url| DicomWebClient::with_single_url(url.trim_end_matches('/')));
        if let (Some(web), Some(path)) = (&mut web, &config.token_file) {
            let refused = |reason| PacsError::Token { name: config.name.clone(), path: path.clone(), reason };
            web.set_bearer_token(token(path).map_err(refused)?.trim());
        }
        let asks = Semaphore::new(config.asks_max);
        let unusable = |reason| PacsError::Tls { name: config.name.clone(), reason };
        let tls = config.tls.as_ref().map(tls::Client::new).transpose().map_err(unusable)?;
        let within = Within { limit: "pacs.timeout_ms", ms: config.timeout_ms };
        let limits = Limits { associate: within, message: within, ..Limits::new(dimse) };
        Ok(Self { config: config.clone(), calling: dimse.ae_title.clone(), limits, tls, web, asks })
    }

    /// Whether it keeps what these send.
    #[must_use]
    pub fn keeps(&self, sources: &[String]) -> bool {
        let named = &self.config.sources;
        named.is_empty() || sources.iter().any(|source| named.contains(source) || *source == self.config.name)
    }

    /// From an answer that does not fit to the next question.
    #[must_use]
    pub fn ask_again(&self) -> Duration {
        Duration::from_millis(self.config.ask_again_ms)
    }

    /// How many instances it has of a study: 0 when it does not have it, nothing when it does not say.
    ///
    /// # Errors
    /// It is slow, refuses, fails, or makes no sense.
    pub async fn count(&self, study_instance_uid: &str) -> Result<Option<u64>, PacsError> {
        let _turn = self.asks.acquire().await;
        let ask = async {
            match (&self.web, &self.config.address) {
                (Some(web), _) => self.count_by_web(web, study_instance_uid).await,
                (None, Some(address)) => {
                    let (called, calling) = (&self.config.ae_title, &self.calling);
                    let peer = Peer { address, called, calling, tls: self.tls.as_ref() };
                    find::count(&peer, self.limits, study_instance_uid).await.map_err(|broken| self.broken(broken))
                }
                (None, None) => Err(self.answer("neither url nor address is set".into())),
            }
        };
        self.within(self.config.timeout_ms, "pacs.timeout_ms", ask).await
    }

    async fn count_by_web(&self, web: &DicomWebClient, study_instance_uid: &str) -> Result<Option<u64>, PacsError> {
        let query = web
            .query_studies()
            .with_filter(AttributeSelector::from(tags::STUDY_INSTANCE_UID), study_instance_uid.to_owned())
            .with_includefields(vec![tags::NUMBER_OF_STUDY_RELATED_INSTANCES])
            .with_limit(2);
        let found = query.run().await.map_err(|e| self.web_answer(e))?;
        let study = found.iter().find(|study| text(study, tags::STUDY_INSTANCE_UID) == study_instance_uid);
        Ok(study.map_or(Some(0), instances))
    }

    /// Earlier studies of the patient that it has, of a modality of the study's, the latest first.
    async fn priors(&self, web: &DicomWebClient, key: &PriorKey, own: &str) -> Result<Vec<(Uid, u64)>, PacsError> {
        let query = web
            .query_studies()
            .with_filter(AttributeSelector::from(tags::PATIENT_ID), key.patient_id.clone())
            .with_includefields(vec![
                tags::NUMBER_OF_STUDY_RELATED_INSTANCES,
                tags::MODALITIES_IN_STUDY,
                tags::ISSUER_OF_PATIENT_ID,
                tags::STUDY_DATE,
            ])
            .with_limit(STUDIES_MAX);
        let found = self.within(self.config.timeout_ms, "pacs.timeout_ms", async {
            query.run().await.map_err(|e| self.web_answer(e))
        });
        let mut priors: Vec<(String, Uid, u64)> = found.await?.iter().filter_map(|s| prior(s, key, own)).collect();
        // The UID decides between studies of one day, so that chance does not.
        priors.sort_by(|a, b| b.0.cmp(&a.0).then_with(|| a.1.cmp(&b.1)));
        priors.truncate(self.config.priors_max);
        Ok(priors.into_iter().map(|(_, uid, count)| (uid, count)).collect())
    }

    /// Takes one study in.
    async fn fetch(&self, web: &DicomWebClient, intake: &Intake, key: &PriorKey, study: &Uid) -> Result<(), PacsError> {
        let arrival = Arrival::new(Via::Pacs, &self.config.name);
        let mut web = web.clone();
        web.add_header("Accept", AS_KEPT);
        let fetch = async {
            let objects = web.retrieve_study(study.as_str()).run().await.map_err(|e| self.web_answer(e))?;
            let mut objects = std::pin::pin!(objects);
            let mut count = 0;
            while let Some(object) = objects.next().await {
                count += 1;
                if count > self.config.prior_instances_max {
                    let most = self.config.prior_instances_max;
                    return Err(self.answer(format!("study {study} has more than pacs.prior_instances_max = {most}")));
                }
                self.keep(intake, &arrival, key, study, object.map_err(|e| self.web_answer(e))?).await?;
            }
            Ok(())
        };
        let fetched = self.within(self.config.prior_timeout_ms, "pacs.prior_timeout_ms", fetch).await;
        intake.ended(&arrival);
        fetched
    }

    async fn keep(
        &self,
        intake: &Intake,
        arrival: &Arrival,
        key: &PriorKey,
        study: &Uid,
        object: FileDicomObject<InMemDicomObject>,
    ) -> Result<(), PacsError> {
        let other = text(&object, tags::STUDY_INSTANCE_UID) != study.as_str();
        if other || text(&object, tags::PATIENT_ID) != key.patient_id {
            return Err(self.answer(format!("asked for study {study}, it sends another study or patient")));
        }
        let mut bytes = Vec::new();
        object.write_all(&mut bytes).map_err(|e| self.answer(crate::printable(&e.to_string())))?;
        let mut incoming = intake.begin(arrival, Form::File)?;
        incoming.write(&bytes).await?;
        match incoming.finish().await {
            // It was here, in another encoding: the first stays.
            Ok(_) | Err(Refused::Conflict) => Ok(()),
            Err(refused) => Err(refused.into()),
        }
    }

    async fn within<T>(
        &self,
        ms: u64,
        limit: &'static str,
        work: impl Future<Output = Result<T, PacsError>>,
    ) -> Result<T, PacsError> {
        let slow = || PacsError::Slow { name: self.config.name.clone(), limit, ms };
        timeout(Duration::from_millis(ms), work).await.unwrap_or_else(|_| Err(slow()))
    }

    fn broken(&self, broken: Broken) -> PacsError {
        match broken {
            Broken::Silent { limit, ms } => PacsError::Slow { name: self.config.name.clone(), limit, ms },
            other => self.answer(crate::printable(&other.to_string())),
        }
    }

    fn answer(&self, reason: String) -> PacsError {
        PacsError::Answer { name: self.config.name.clone(), reason }
    }

    /// Without addresses, which hold what was asked for.
    fn web_answer(&self, error: DicomWebError) -> PacsError {
        let reason = match error {
            DicomWebError::RequestFailed { source, .. } => format!("the request failed: {}", source.without_url()),
            DicomWebError::DeserializationFailed { source } => format!("no DICOM JSON: {}", source.without_url()),
            other => other.to_string(),
        };
        self.answer(crate::printable(&reason))
    }
}

/// Fetches earlier studies of a study's patient, with a modality that it has, from the first archive that allows it
/// (`pacs.priors`), and takes them in. What is here already is not fetched again.
///
/// # Returns
/// Study Instance UIDs, the latest first; none where no archive allows it or nothing tells the patient.
///
/// # Errors
/// Of the archive, the host or the journal. What was taken in before stays.
pub async fn fetch_priors(
    archives: &[Archive],
    store: &Store,
    intake: &Intake,
    study_instance_uid: &str,
) -> Result<Vec<String>, PacsError> {
    let allowed = archives.iter().filter(|archive| archive.config.priors);
    let Some((archive, web)) = allowed.filter_map(|archive| Some((archive, archive.web.as_ref()?))).next() else {
        return Ok(Vec::new());
    };
    let Some(key) = store.prior_key(study_instance_uid).await? else { return Ok(Vec::new()) };
    // Such an ID would match other patients (PS3.4 section C.2.2.2.4), and an empty one all.
    if key.patient_id.is_empty() || key.patient_id.contains(['*', '?', '\\']) {
        tracing::info!(study = study_instance_uid, "no priors: its Patient ID (0010,0020) is empty or a pattern");
        return Ok(Vec::new());
    }
    let mut fetched = Vec::new();
    for (prior, count) in archive.priors(web, &key, study_instance_uid).await? {
        if count > archive.config.prior_instances_max as u64 {
            let most = archive.config.prior_instances_max;
            tracing::warn!(
                prior = prior.as_str(),
                count,
                "a prior is left: more than pacs.prior_instances_max = {most}"
            );
            continue;
        }
        let here = store.study_facts(prior.as_str()).await?.map_or(0, |facts| facts.instances);
        if here == 0 || here < count {
            archive.fetch(web, intake, &key, &prior).await?;
        }
        fetched.push(prior.as_str().to_owned());
    }
    Ok(fetched)
}

/// Date, UID and number of instances of a study, when it is a prior of the one that `key` is of.
fn prior(study: &InMemDicomObject, key: &PriorKey, own: &str) -> Option<(String, Uid, u64)> {
    let uid = Uid::parse(&text(study, tags::STUDY_INSTANCE_UID))?;
    let date = text(study, tags::STUDY_DATE);
    let issuer = text(study, tags::ISSUER_OF_PATIENT_ID);
    let same_issuer = issuer.is_empty() || key.issuer.is_empty() || issuer == key.issuer;
    let same_patient = text(study, tags::PATIENT_ID) == key.patient_id && same_issuer;
    let modalities = study.element(tags::MODALITIES_IN_STUDY).ok()?.to_multi_str().ok()?;
    let same_modality = modalities.iter().any(|m| key.modalities.iter().any(|own| own == m.trim()));
    let earlier = key.study_date.is_empty() || date <= key.study_date;
    let is = uid.as_str() != own && same_patient && same_modality && earlier;
    is.then(|| (date, uid, instances(study).unwrap_or(0)))
}

fn instances(study: &InMemDicomObject) -> Option<u64> {
    text(study, tags::NUMBER_OF_STUDY_RELATED_INSTANCES).parse().ok()
}

fn text(object: &InMemDicomObject, tag: Tag) -> String {
    let text = object.element(tag).ok().and_then(|e| e.to_str().ok()).unwrap_or_default();
    text.trim_matches(['\0', ' ']).to_owned()
}

fn token(path: &std::path::Path) -> Result<String, String> {
    use std::io::Read;
    let mut text = String::new();
    let file = std::fs::File::open(path).map_err(|e| e.to_string())?;
    file.take(TOKEN_MAX_BYTES).read_to_string(&mut text).map_err(|e| e.to_string())?;
    if text.trim().is_empty() { Err("it is empty".into()) } else { Ok(text) }
}
