//! `[[pacs]]`: archives that are asked how many instances a study has, and for earlier studies.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::{PeerTlsConfig, Range};

/// One archive. With `url` it is asked by DICOMweb, else by C-FIND at `address`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PacsConfig {
    /// In messages and in the journal.
    pub name: String,
    /// Where it speaks DICOMweb: `https://pacs.example/dicom-web`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// A file that holds a bearer token for `url`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token_file: Option<PathBuf>,
    /// Where it speaks DIMSE: `pacs.example:104`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    /// Its AE title.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub ae_title: String,
    /// AE titles of senders whose studies it keeps; all when empty.
    pub sources: Vec<String>,
    /// For one question, from connecting to the whole answer.
    pub timeout_ms: u64,
    /// Questions at once.
    pub asks_max: usize,
    /// From an answer that does not fit to the next question about the study.
    pub ask_again_ms: u64,
    /// Whether earlier studies of a patient may be fetched for modules that ask for them.
    pub priors: bool,
    /// Earlier studies that are fetched for a study at most, the latest first.
    pub priors_max: usize,
    /// Instances of one earlier study; a study with more is left where it is.
    pub prior_instances_max: usize,
    /// For one earlier study.
    pub prior_timeout_ms: u64,
    /// TLS at `address`; plain TCP when not set. A `url` says so itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls: Option<PeerTlsConfig>,
}

impl Default for PacsConfig {
    fn default() -> Self {
        Self {
            name: "pacs".into(),
            url: None,
            token_file: None,
            address: None,
            ae_title: String::new(),
            sources: Vec::new(),
            timeout_ms: 10_000,
            asks_max: 4,
            ask_again_ms: 5_000,
            priors: false,
            priors_max: 2,
            prior_instances_max: 5_000,
            prior_timeout_ms: 300_000,
            tls: None,
        }
    }
}

impl PacsConfig {
    pub(super) fn ranges(&self) -> Vec<Range> {
        vec![
            ("timeout_ms", self.timeout_ms, 1, 3_600_000),
            ("asks_max", self.asks_max as u64, 1, 1000),
            ("ask_again_ms", self.ask_again_ms, 1, 24 * 3_600_000),
            ("priors_max", self.priors_max as u64, 1, 100),
            ("prior_instances_max", self.prior_instances_max as u64, 1, 1_000_000),
            ("prior_timeout_ms", self.prior_timeout_ms, 1, 24 * 3_600_000),
        ]
    }

    /// A PACS that cannot be reached by any way, and priors from one that cannot give them, are mistakes.
    pub(super) fn check(&self) -> Result<(), String> {
        let name = &self.name;
        match (&self.url, &self.address) {
            (None, None) => Err(format!("pacs {name:?} has neither url (DICOMweb) nor address and ae_title (DIMSE)")),
            (Some(url), _) if !url.starts_with("http://") && !url.starts_with("https://") => {
                Err(format!("pacs {name:?}: url begins with neither http:// nor https://"))
            }
            (None, Some(_)) if self.priors => Err(format!("pacs {name:?}: priors need a url (DICOMweb)")),
            (_, Some(_)) if !super::dimse::is_ae_title(&self.ae_title) => Err(format!(
                "pacs {name:?}: ae_title is no AE title: 1 to 16 ASCII characters, without \\ and outer spaces"
            )),
            (None, _) if self.token_file.is_some() => Err(format!("pacs {name:?}: token_file needs a url (DICOMweb)")),
            (Some(_), _) if self.tls.is_some() => {
                Err(format!("pacs {name:?}: tls is for address (DIMSE); with url, https:// says so"))
            }
            _ => self.tls.as_ref().map_or(Ok(()), |tls| tls.check(&format!("pacs {name:?}"))),
        }
    }
}
