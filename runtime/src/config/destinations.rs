//! `[[destinations]]`: who gets results, in which way, and how often it is tried.

use std::collections::BTreeSet;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::{PeerTlsConfig, Range, is_module_name};
use crate::deliver::fhir::FhirDestination;
use crate::deliver::mllp::MllpDestination;
use crate::outputs::OutputKind;

/// One destination, with exactly one of the ways to it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DestinationConfig {
    /// In the journal, messages and metrics: what waits for it waits under this name.
    pub name: String,
    /// Modules whose results go there; all when empty.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub modules: Vec<String>,
    /// What goes there; all that the way can carry when empty.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub send: Vec<OutputKind>,
    /// Attempts at which it was reached before a delivery is dead.
    pub attempts_max: u32,
    /// From the first such attempt to the second; twice as long each time after, and by chance up to half as long.
    pub retry_first_ms: u64,
    /// The longest time between two attempts, and that a destination is left alone.
    pub retry_max_ms: u64,
    /// A delivery that is so old, and fails again, is dead.
    pub age_max_ms: u64,
    /// Attempts that fail one after another before it is left alone for a while.
    pub breaker_failures_max: u32,
    /// How long it is left alone at first; twice as long each time after.
    pub breaker_open_ms: u64,
    /// For one answer.
    pub timeout_ms: u64,
    /// For one whole delivery.
    pub send_max_ms: u64,
    /// By C-STORE.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dimse: Option<DimseDestination>,
    /// By STOW-RS.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stow: Option<StowDestination>,
    /// As a folder.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub folder: Option<FolderDestination>,
    /// As a signed message.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub webhook: Option<WebhookDestination>,
    /// To a FHIR server.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fhir: Option<FhirDestination>,
    /// As HL7 v2.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mllp: Option<MllpDestination>,
}

/// The way to a destination.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Target<'c> {
    /// C-STORE.
    Dimse(&'c DimseDestination),
    /// STOW-RS.
    Stow(&'c StowDestination),
    /// A folder.
    Folder(&'c FolderDestination),
    /// A signed message.
    Webhook(&'c WebhookDestination),
    /// A FHIR server.
    Fhir(&'c FhirDestination),
    /// HL7 v2.
    Mllp(&'c MllpDestination),
}

/// An application entity that stores what it is sent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DimseDestination {
    /// `host:port`.
    pub address: String,
    /// Its AE title.
    pub ae_title: String,
    /// TLS; plain TCP when not set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<PeerTlsConfig>,
    /// It is asked to promise to keep what it took (storage commitment), and only then has it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub commitment: bool,
    /// How long such a promise is waited for before it is asked for again.
    #[serde(default = "an_hour")]
    pub commitment_timeout_ms: u64,
}

fn an_hour() -> u64 {
    3_600_000
}

/// An origin server of DICOMweb.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StowDestination {
    /// Where it speaks DICOMweb: `https://pacs.example/dicom-web`.
    pub url: String,
    /// A file that holds a bearer token for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token_file: Option<PathBuf>,
}

/// A folder that others read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FolderDestination {
    /// It must be there; each result becomes a folder in it, whole or not at all.
    pub path: PathBuf,
}

/// Somebody who is told that there is a result.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WebhookDestination {
    /// Where messages are posted to.
    pub url: String,
    /// A file that holds the key of the signature.
    pub secret_file: PathBuf,
    /// Messages also tell patient and order.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub identity: bool,
}

impl Default for DestinationConfig {
    fn default() -> Self {
        Self {
            name: String::new(),
            modules: Vec::new(),
            send: Vec::new(),
            attempts_max: 20,
            retry_first_ms: 5_000,
            retry_max_ms: 900_000,
            age_max_ms: 7 * 24 * 3_600_000,
            breaker_failures_max: 5,
            breaker_open_ms: 30_000,
            timeout_ms: 30_000,
            send_max_ms: 600_000,
            dimse: None,
            stow: None,
            folder: None,
            webhook: None,
            fhir: None,
            mllp: None,
        }
    }
}

impl DestinationConfig {
    /// The way to it; nothing where there is none.
    #[must_use]
    pub fn target(&self) -> Option<Target<'_>> {
        self.targets().next()
    }

    fn targets(&self) -> impl Iterator<Item = Target<'_>> {
        [
            self.dimse.as_ref().map(Target::Dimse),
            self.stow.as_ref().map(Target::Stow),
            self.folder.as_ref().map(Target::Folder),
            self.webhook.as_ref().map(Target::Webhook),
            self.fhir.as_ref().map(Target::Fhir),
            self.mllp.as_ref().map(Target::Mllp),
        ]
        .into_iter()
        .flatten()
    }

    /// Whether it gets results of a module.
    #[must_use]
    pub fn wants(&self, module: &str) -> bool {
        self.modules.is_empty() || self.modules.iter().any(|wanted| wanted == module)
    }

    /// Whether an output of a kind goes there.
    #[must_use]
    pub fn sends(&self, kind: OutputKind) -> bool {
        let carries = self.target().is_some_and(|target| target.carries(kind));
        carries && (self.send.is_empty() || self.send.contains(&kind))
    }

    pub(super) fn ranges(&self) -> Vec<Range> {
        const DAY_MS: u64 = 24 * 3_600_000;
        let commitment_timeout_ms = self.dimse.as_ref().map_or_else(an_hour, |dimse| dimse.commitment_timeout_ms);
        vec![
            ("attempts_max", self.attempts_max.into(), 1, 10_000),
            ("retry_first_ms", self.retry_first_ms, 1, DAY_MS),
            ("retry_max_ms", self.retry_max_ms, 1, DAY_MS),
            ("age_max_ms", self.age_max_ms, 1, 3650 * DAY_MS),
            ("breaker_failures_max", self.breaker_failures_max.into(), 1, 10_000),
            ("breaker_open_ms", self.breaker_open_ms, 1, DAY_MS),
            ("timeout_ms", self.timeout_ms, 1, 3_600_000),
            ("send_max_ms", self.send_max_ms, 1, DAY_MS),
            ("dimse.commitment_timeout_ms", commitment_timeout_ms, 1, 30 * DAY_MS),
        ]
    }

    fn check(&self) -> Result<(), String> {
        let name = &self.name;
        if !is_module_name(name) {
            return Err(format!("destinations.name = {name:?}: 1 to 64 of a-z, 0-9 and -"));
        }
        let of = format!("destinations {name:?}");
        let mut targets = self.targets();
        let (Some(target), None) = (targets.next(), targets.next()) else {
            return Err(format!("{of}: set one of dimse, stow, folder, webhook, fhir and mllp"));
        };
        if let Some(module) = self.modules.iter().find(|module| !is_module_name(module)) {
            return Err(format!("{of}: modules has {module:?}, which is no name of a module"));
        }
        if let Some(kind) = self.send.iter().find(|kind| !target.carries(**kind)) {
            let word = serde_json::to_value(kind).unwrap_or_default();
            return Err(format!("{of}: send has {word}, which {} does not carry", target.name()));
        }
        target.check(&of)
    }
}

impl Target<'_> {
    /// As its key.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Dimse(_) => "dimse",
            Self::Stow(_) => "stow",
            Self::Folder(_) => "folder",
            Self::Webhook(_) => "webhook",
            Self::Fhir(_) => "fhir",
            Self::Mllp(_) => "mllp",
        }
    }

    /// Whether an output of a kind can go this way. What is a message of its own carries no files.
    #[must_use]
    pub fn carries(self, kind: OutputKind) -> bool {
        let is_dicom = !matches!(kind, OutputKind::Overlay | OutputKind::Result);
        match self {
            Self::Dimse(_) | Self::Stow(_) => is_dicom,
            Self::Folder(_) => true,
            Self::Webhook(_) | Self::Fhir(_) | Self::Mllp(_) => false,
        }
    }

    fn check(self, of: &str) -> Result<(), String> {
        match self {
            Self::Dimse(dimse) => {
                if !dimse
                    .address
                    .rsplit_once(':')
                    .is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok_and(|port| port > 0))
                {
                    return Err(format!("{of}: dimse.address = {:?} is not host:port", dimse.address));
                }
                if !super::dimse::is_ae_title(&dimse.ae_title) {
                    return Err(format!(
                        "{of}: dimse.ae_title is no AE title: 1 to 16 ASCII characters, without \\ and outer spaces"
                    ));
                }
                dimse.tls.as_ref().map_or(Ok(()), |tls| tls.check(&format!("{of}: dimse")))
            }
            Self::Stow(stow) => url(&format!("{of}: stow.url"), &stow.url),
            Self::Folder(folder) if folder.path.as_os_str().is_empty() => Err(format!("{of}: folder.path is empty")),
            Self::Folder(_) => Ok(()),
            Self::Webhook(webhook) => url(&format!("{of}: webhook.url"), &webhook.url),
            Self::Fhir(fhir) => fhir.check().map_err(|e| format!("{of}: fhir.{e}")),
            Self::Mllp(mllp) => mllp.check().map_err(|e| format!("{of}: mllp.{e}")),
        }
    }
}

fn url(key: &str, url: &str) -> Result<(), String> {
    let parsed = reqwest::Url::parse(url).ok().filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host());
    match parsed {
        None => Err(format!("{key} is no address that begins with http:// or https://")),
        // It would be in messages.
        Some(url) if !url.username().is_empty() || url.password().is_some() => {
            Err(format!("{key} holds a user or a password, which belong into a file"))
        }
        Some(_) => Ok(()),
    }
}

pub(super) fn check(destinations: &[DestinationConfig]) -> Result<(), String> {
    let mut names = BTreeSet::new();
    for destination in destinations {
        destination.check()?;
        if !names.insert(&destination.name) {
            return Err(format!("destinations: two are called {:?}", destination.name));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::Config;
    use super::*;

    fn parse(text: &str) -> Result<Config, String> {
        Config::parse(std::path::Path::new("x.toml"), text).map_err(|e| e.to_string())
    }

    #[test]
    fn each_way_is_read_and_carries_what_it_can() {
        let text = "[[destinations]]\nname = \"pacs\"\ndimse = { address = \"a:104\", ae_title = \"A\" }\n\
                    [[destinations]]\nname = \"web\"\nsend = [\"report\"]\nstow = { url = \"https://a/dicom-web\" }\n\
                    [[destinations]]\nname = \"share\"\nmodules = [\"organs\"]\nfolder = { path = \"/srv\" }\n\
                    [[destinations]]\nname = \"hook\"\nwebhook = { url = \"http://a/\", secret_file = \"/s\" }\n";
        let config = parse(text).expect("fine");
        let [pacs, web, share, hook] = config.destinations.as_slice() else { panic!("four") };
        assert!(pacs.sends(OutputKind::Segmentation) && !pacs.sends(OutputKind::Overlay));
        assert!(web.sends(OutputKind::Report) && !web.sends(OutputKind::Segmentation));
        assert!(share.sends(OutputKind::Result) && share.wants("organs") && !share.wants("triage"));
        assert!(!hook.sends(OutputKind::Report) && hook.wants("triage"));
        let printed = toml::to_string(&config).expect("printable");
        assert_eq!(parse(&printed).expect("fine"), config);
    }

    #[test]
    fn wild_values_are_refused_by_name() {
        let dimse = "dimse = { address = \"a:104\", ae_title = \"A\" }\n";
        let named = |lines: &str| format!("[[destinations]]\nname = \"pacs\"\n{lines}");
        for (text, says) in [
            (format!("[[destinations]]\n{dimse}"), "destinations.name = \"\""),
            (format!("[[destinations]]\nname = \"../x\"\n{dimse}"), "destinations.name"),
            (named(""), "set one of dimse, stow, folder"),
            (named(&format!("{dimse}folder = {{ path = \"/srv\" }}\n")), "set one of dimse, stow, folder"),
            (named(&format!("{dimse}send = [\"overlay\"]\n")), "send has \"overlay\", which dimse does not carry"),
            (named(&format!("{dimse}send = [\"picture\"]\n")), "picture"),
            (named(&format!("{dimse}modules = [\"Organs\"]\n")), "modules has \"Organs\""),
            (named(&format!("{dimse}attempts_max = 0\n")), "destinations.attempts_max = 0 is not in 1..=10000"),
            (named("dimse = { address = \"a\", ae_title = \"A\" }\n"), "dimse.address = \"a\" is not host:port"),
            (named("dimse = { address = \"a:0\", ae_title = \"A\" }\n"), "is not host:port"),
            (named("dimse = { address = \"a:104\", ae_title = \"\" }\n"), "dimse.ae_title is no AE title"),
            (
                named("dimse = { address = \"a:104\", ae_title = \"A\", tls = { roots = \"r\", key = \"k\" } }\n"),
                "both certificate and key",
            ),
            (named("stow = { url = \"ftp://a\" }\n"), "stow.url is no address"),
            (named("stow = { url = \"https://u:p@a/\" }\n"), "stow.url holds a user or a password"),
            (named("webhook = { url = \"http://a/\" }\n"), "secret_file"),
            (named("folder = { path = \"\" }\n"), "folder.path is empty"),
            (format!("{0}{0}", named(dimse)), "two are called \"pacs\""),
        ] {
            let said = parse(&text).expect_err(&text);
            assert!(said.contains(says), "{text}: {said}");
        }
    }
}
