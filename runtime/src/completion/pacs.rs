//! Archives: how many instances a study has (QIDO-RS or C-FIND), and which earlier studies of a patient there are (QIDO-RS).

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use dicom_core::Tag;
use dicom_core::ops::AttributeSelector;
use dicom_dictionary_std::tags;
use dicom_object::InMemDicomObject;
use dicom_web::{DicomWebClient, DicomWebError};
use tokio::sync::Semaphore;
use tokio::time::timeout;

use super::find;
use super::retrieve::{RetrieveError, Retriever};
use crate::config::{Config, DimseConfig, PacsConfig};
use crate::dimse::client::{Limits, Peer};
use crate::dimse::wire::{Broken, Within};
use crate::ingest::{Arrival, Asked, Intake, Refused, Uid};
use crate::store::{PriorKey, StoreError};
use crate::study::PatientEntry;
use crate::tls::{self, TlsError};

/// Studies of one patient that an archive is asked for.
const STUDIES_MAX: u32 = 1000;
/// A bearer token's file.
const TOKEN_MAX_BYTES: u64 = 64 << 10;

/// Trouble that goes on is told again after this.
const TELL_AGAIN: Duration = Duration::from_secs(60);

/// One archive.
pub struct Archive {
    pub(super) config: PacsConfig,
    calling: String,
    limits: Limits,
    tls: Option<tls::Client>,
    web: Option<DicomWebClient>,
    /// There where earlier studies may be fetched.
    retriever: Option<Retriever>,
    asks: Semaphore,
    /// Apart from questions, which do not wait for what is large.
    pub(super) fetches: Semaphore,
    /// The trouble with it that was told last, and when.
    told: Mutex<Option<(String, Instant)>>,
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
        let base = config.url.as_ref().map(|url| url.trim_end_matches('/'));
        let mut web = base.map(DicomWebClient::with_single_url);
        let mut bearer = None;
        if let (Some(web), Some(path)) = (&mut web, &config.token_file) {
            let refused = |reason| PacsError::Token { name: config.name.clone(), path: path.clone(), reason };
            let token = token(path).map_err(refused)?;
            web.set_bearer_token(token.trim());
            bearer = Some(token.trim().to_owned());
        }
        let retriever = base.filter(|_| config.priors).map(|base| {
            Retriever::new(base, bearer.as_deref(), config.prior_instances_max)
                .map_err(|reason| PacsError::Answer { name: config.name.clone(), reason })
        });
        let unusable = |reason| PacsError::Tls { name: config.name.clone(), reason };
        let tls = config.tls.as_ref().map(tls::Client::new).transpose().map_err(unusable)?;
        let within = Within { limit: "pacs.timeout_ms", ms: config.timeout_ms };
        Ok(Self {
            config: config.clone(),
            calling: dimse.ae_title.clone(),
            limits: Limits { associate: within, message: within, ..Limits::new(dimse) },
            tls,
            web,
            retriever: retriever.transpose()?,
            asks: Semaphore::new(config.asks_max),
            fetches: Semaphore::new(config.asks_max),
            told: Mutex::new(None),
        })
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

    /// Whether this trouble is to be told in the log: it is another one than the last, or was told [`TELL_AGAIN`] before. Every
    /// study that waits asks every few seconds.
    pub(super) fn is_news(&self, trouble: &PacsError, now: Instant) -> bool {
        let trouble = trouble.to_string();
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        let known = |(last, at): &(String, Instant)| *last == trouble && now.duration_since(*at) < TELL_AGAIN;
        if told.as_ref().is_some_and(known) {
            return false;
        }
        *told = Some((trouble, now));
        true
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

    /// Earlier studies of the patient that it has, of a modality of the study's, the latest first, with the number of their
    /// instances.
    pub(super) async fn priors(&self, key: &PriorKey) -> Result<Vec<(Uid, u64)>, PacsError> {
        let Some(web) = self.web.as_ref().filter(|_| key.unusable().is_none()) else { return Ok(Vec::new()) };
        let query = web
            .query_studies()
            .with_filter(AttributeSelector::from(tags::PATIENT_ID), key.patient.id.clone())
            .with_includefields(vec![
                tags::NUMBER_OF_STUDY_RELATED_INSTANCES,
                tags::MODALITIES_IN_STUDY,
                tags::ISSUER_OF_PATIENT_ID,
                tags::STUDY_DATE,
                tags::STUDY_TIME,
            ])
            .with_limit(STUDIES_MAX);
        let found = self.within(self.config.timeout_ms, "pacs.timeout_ms", async {
            query.run().await.map_err(|e| self.web_answer(e))
        });
        let mut priors: Vec<(String, Uid, u64)> = found.await?.iter().filter_map(|s| prior(s, key)).collect();
        // The UID decides between studies of one moment, so that chance does not.
        priors.sort_by(|a, b| b.0.cmp(&a.0).then_with(|| a.1.cmp(&b.1)));
        priors.truncate(self.config.priors_max);
        Ok(priors.into_iter().map(|(_, uid, count)| (uid, count)).collect())
    }

    /// Whether earlier studies may be fetched from it.
    pub(super) fn gives_priors(&self) -> bool {
        self.retriever.is_some()
    }

    /// Takes in all that it has of one study.
    pub(super) async fn fetch(&self, intake: &Intake, arrival: &Arrival, asked: &Arc<Asked>) -> Result<(), PacsError> {
        let Some(retriever) = &self.retriever else { return Ok(()) };
        let retrieve = async {
            retriever.retrieve(intake, arrival, asked).await.map_err(|e| match e {
                RetrieveError::Refused(refused) => PacsError::Keep(refused),
                other => self.answer(other.to_string()),
            })
        };
        self.within(self.config.prior_timeout_ms, "pacs.prior_timeout_ms", retrieve).await
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
            DicomWebError::RequestFailed { source, .. } => failed(source),
            DicomWebError::DeserializationFailed { source } => format!("no DICOM JSON: {}", source.without_url()),
            other => other.to_string(),
        };
        self.answer(crate::printable(&reason))
    }
}

/// A request that failed, with what lies below it, such as a refused connection or a certificate. Without the address, which holds
/// what was asked for, and without what a decoder says, which may hold what was answered.
pub(crate) fn failed(error: reqwest::Error) -> String {
    let error = error.without_url();
    let mut text = format!("the request failed: {error}");
    let mut below = std::error::Error::source(&error).filter(|_| !error.is_decode());
    while let Some(cause) = below {
        text += &format!(": {cause}");
        below = cause.source();
    }
    text
}

/// Date and time, UID and number of instances of a study, when it is a prior of the one that `key` is of.
fn prior(study: &InMemDicomObject, key: &PriorKey) -> Option<(String, Uid, u64)> {
    let uid = Uid::parse(&text(study, tags::STUDY_INSTANCE_UID))?;
    let (date, time) = (text(study, tags::STUDY_DATE), text(study, tags::STUDY_TIME));
    let patient = PatientEntry {
        id: text(study, tags::PATIENT_ID),
        issuer: text(study, tags::ISSUER_OF_PATIENT_ID),
        ..PatientEntry::default()
    };
    let modalities = study.get(tags::MODALITIES_IN_STUDY)?.to_multi_str().ok()?;
    let moment = format!("{date} {time}");
    let other = PriorKey {
        study_instance_uid: uid.as_str().to_owned(),
        patient,
        study_date: date,
        study_time: time,
        modalities: modalities.iter().map(|modality| modality.trim().to_owned()).collect(),
    };
    key.days_before(&other).ok()?;
    Some((moment, uid, instances(study).unwrap_or(0)))
}

fn instances(study: &InMemDicomObject) -> Option<u64> {
    text(study, tags::NUMBER_OF_STUDY_RELATED_INSTANCES).parse().ok()
}

fn text(object: &InMemDicomObject, tag: Tag) -> String {
    let text = object.get(tag).and_then(|e| e.to_str().ok()).unwrap_or_default();
    text.trim_matches(['\0', ' ']).to_owned()
}

fn token(path: &std::path::Path) -> Result<String, String> {
    use std::io::Read;
    let mut text = String::new();
    let file = std::fs::File::open(path).map_err(|e| e.to_string())?;
    file.take(TOKEN_MAX_BYTES).read_to_string(&mut text).map_err(|e| e.to_string())?;
    if text.trim().is_empty() { Err("it is empty".into()) } else { Ok(text) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An archive at a port where nobody listens any more.
    fn gone() -> Archive {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let url = format!("http://{}/dicom-web", listener.local_addr().expect("an address"));
        Archive::new(&PacsConfig { url: Some(url), ..PacsConfig::default() }, &DimseConfig::default())
            .expect("an archive")
    }

    #[tokio::test]
    async fn an_archive_that_is_gone_is_told_with_the_cause_and_not_with_what_was_asked() {
        let archive = gone();
        let said = archive.count("2.25.404").await.expect_err("nobody answers").to_string();
        assert!(said.contains("Connection refused"), "{said}");
        assert!(!said.contains("2.25.404") && !said.contains("http://"), "{said}");
    }

    #[test]
    fn trouble_that_goes_on_is_told_once_a_minute() {
        let (archive, start) = (gone(), Instant::now());
        let (down, other) = (archive.answer("down".into()), archive.answer("other".into()));
        let after = |seconds| start + Duration::from_secs(seconds);
        assert!(archive.is_news(&down, start));
        assert!(!archive.is_news(&down, after(59)));
        assert!(archive.is_news(&down, after(60)));
        assert!(archive.is_news(&other, after(61)), "it changed");
        assert!(!archive.is_news(&other, after(62)));
    }
}
