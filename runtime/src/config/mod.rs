//! `gantry.toml`: one file, unknown keys refused, every limit with its unit in its name.

mod destinations;
mod dimse;
mod folder;
mod hl7;
mod limits;
mod node;
mod outputs;
mod pacs;
mod routing;
mod seen;
mod sources;
mod stream;
mod studies;
mod sync;
mod web;
mod worklist;

use std::io::Read;
use std::path::{Path, PathBuf};

use gantry_cloud_sync::s3;
use serde::{Deserialize, Serialize};

pub use self::destinations::{
    DestinationConfig, DimseDestination, FolderDestination, StowDestination, Target, WebhookDestination,
};
pub use self::dimse::{Caller, DimseConfig, UnknownCallers};
pub use self::folder::FolderConfig;
pub use self::hl7::Hl7Config;
pub use self::limits::Limits;
pub use self::node::{Duplicates, NodeConfig, PeerTlsConfig, TlsConfig};
pub use self::outputs::OutputsConfig;
pub use self::pacs::PacsConfig;
pub(crate) use self::routing::is_module_name;
pub use self::routing::{
    Condition, Effect, Hours, ModuleConfig, ORDER_PRIORITIES, Presence, RULE_ATTRIBUTES, Release, RuleConfig,
    ScheduleConfig,
};
pub use self::seen::{LogConfig, LogFormat, RetentionConfig, TelemetryConfig};
pub use self::sources::ModuleSource;
pub use self::stream::StreamConfig;
pub use self::studies::StudiesConfig;
pub use self::sync::{SyncConfig, TEXT_DETECTOR_SHA256};
pub use self::web::{Scope, WebClient, WebConfig};
pub use self::worklist::WorklistConfig;

use crate::module::location::Location;

/// Name and value of a limit, and the least and the most that makes sense.
type Range = (&'static str, u64, u64, u64);

/// The largest file that is read.
const CONFIG_MAX_MIB: u64 = 1;

/// Everything that an operator can set. [`Config::default`] is what holds without a file.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// What no study, module or guest may pass.
    pub limits: Limits,
    /// What modules may be given when their manifest asks.
    pub grants: GrantConfig,
    /// Which inference engines, and how.
    pub engines: crate::inference::EngineConfig,
    /// Where compiled components are kept.
    pub cache: CacheSettings,
    /// What `gantry serve` keeps, and where.
    pub node: NodeConfig,
    /// How images come in from scanners.
    pub dimse: DimseConfig,
    /// A folder as a way in.
    pub folder: FolderConfig,
    /// How orders come in.
    pub hl7: Hl7Config,
    /// When a study is complete.
    pub studies: StudiesConfig,
    /// Archives that may be asked.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub pacs: Vec<PacsConfig>,
    /// DICOMweb, and who may use it.
    pub web: WebConfig,
    /// When jobs run, and how often again.
    pub schedule: ScheduleConfig,
    /// What runs on this node.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub modules: Vec<ModuleConfig>,
    /// Where it runs.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub rules: Vec<RuleConfig>,
    /// Where packages come from.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub module_sources: Vec<ModuleSource>,
    /// Who gets results.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub destinations: Vec<DestinationConfig>,
    /// What a result is written as.
    pub outputs: OutputsConfig,
    /// How `gantry stream` plays frames to modules.
    pub stream: StreamConfig,
    /// Log lines of the node.
    pub log: LogConfig,
    /// Traces of the node.
    pub telemetry: TelemetryConfig,
    /// What the node deletes, and when.
    pub retention: RetentionConfig,
    /// Which studies are open, and who is told of workitems.
    pub worklist: WorklistConfig,
    /// What is handed to the cloud.
    pub sync: SyncConfig,
}

/// What the operator gives a module that asks for it. `--grant` adds to both lists.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct GrantConfig {
    /// Interfaces: the module's own study, voxels, findings, marks, log and models unless said otherwise.
    pub interfaces: Vec<String>,
    /// DICOM attributes by keyword: technical ones unless said otherwise.
    pub attributes: Vec<String>,
}

impl Default for GrantConfig {
    fn default() -> Self {
        Self {
            interfaces: crate::sandbox::grants::DEFAULT_INTERFACES.iter().map(|i| i.name().to_owned()).collect(),
            attributes: crate::sandbox::grants::DEFAULT_ATTRIBUTES.iter().map(|&a| a.to_owned()).collect(),
        }
    }
}

/// Compiled components.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CacheSettings {
    /// A folder that only the user of the runtime can write; `$XDG_CACHE_HOME/gantry` when not set.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub folder: Option<PathBuf>,
}

/// A configuration that cannot be used: the operator's to mend.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// Cannot be read.
    #[error("cannot read the configuration {path}: {reason}; {remedy}", path = path.display(), remedy = remedy(reason))]
    Read {
        /// Which file.
        path: PathBuf,
        /// Why.
        reason: std::io::Error,
    },
    /// Is not TOML, or has an unknown key or a wrong type.
    #[error("configuration {path}: {reason}", path = path.display())]
    Parse {
        /// Which file.
        path: PathBuf,
        /// Line, key and what was expected.
        reason: Box<toml::de::Error>,
    },
    /// Is larger than any configuration.
    #[error("configuration {path}: more than {CONFIG_MAX_MIB} MiB, which is no configuration", path = path.display())]
    TooLarge {
        /// Which file.
        path: PathBuf,
    },
    /// A value is out of its range.
    #[error("configuration: {0}")]
    Value(String),
}

fn remedy(reason: &std::io::Error) -> &'static str {
    match reason.kind() {
        std::io::ErrorKind::NotFound => "name another file, or begin with what `gantry config example` prints",
        std::io::ErrorKind::InvalidData => "it must be text, in UTF-8",
        std::io::ErrorKind::IsADirectory => "name the file in it",
        _ => "let the user of this command read it",
    }
}

impl Config {
    /// `[engines]`, with the limits that hold for them too.
    #[must_use]
    pub fn engines(&self) -> crate::inference::EngineConfig {
        crate::inference::EngineConfig { model_max_mib: self.limits.model_max_mib, ..self.engines.clone() }
    }

    /// How to reach a bucket that packages lie in.
    #[must_use]
    pub fn bucket_of(&self, location: &Location) -> s3::Config {
        let default = || s3::Config { bucket: location.bucket().to_owned(), ..s3::Config::default() };
        sources::of(&self.module_sources, location).map_or_else(default, |source| source.at(location))
    }

    /// Files with the keys that a package there must be signed with.
    #[must_use]
    pub fn trusted_for(&self, location: &Location) -> &[PathBuf] {
        sources::of(&self.module_sources, location).map_or(&[], |source| &source.trust)
    }

    /// Reads and checks a file.
    pub fn read(path: &Path) -> Result<Self, ConfigError> {
        // Bounded, because a device or a pipe need not end.
        let mut text = String::new();
        let file = std::fs::File::open(path).map_err(|reason| ConfigError::Read { path: path.into(), reason })?;
        let read = file.take((CONFIG_MAX_MIB << 20) + 1).read_to_string(&mut text);
        if text.len() as u64 > CONFIG_MAX_MIB << 20 {
            return Err(ConfigError::TooLarge { path: path.into() });
        }
        read.map_err(|reason| ConfigError::Read { path: path.into(), reason })?;
        Self::parse(path, &text)
    }

    /// Checks a text; `path` is for messages.
    pub fn parse(path: &Path, text: &str) -> Result<Self, ConfigError> {
        let config: Self = toml::from_str(text)
            .map_err(|reason| ConfigError::Parse { path: path.into(), reason: Box::new(reason) })?;
        config.check()?;
        Ok(config)
    }

    fn check(&self) -> Result<(), ConfigError> {
        let sections = [
            ("limits", self.limits.ranges()),
            ("engines", self.engines.ranges()),
            ("node", self.node.ranges()),
            ("dimse", self.dimse.ranges()),
            ("folder", self.folder.ranges()),
            ("hl7", self.hl7.ranges()),
            ("studies", self.studies.ranges()),
            ("web", self.web.ranges()),
            ("schedule", self.schedule.ranges()),
            ("stream", self.stream.ranges()),
            ("telemetry", self.telemetry.ranges()),
            ("retention", self.retention.ranges()),
            ("worklist", self.worklist.ranges()),
            ("sync", self.sync.ranges()),
        ];
        let archives = self.pacs.iter().map(|pacs| ("pacs", pacs.ranges()));
        let destinations = self.destinations.iter().map(|to| ("destinations", to.ranges()));
        for (section, ranges) in sections.into_iter().chain(archives).chain(destinations) {
            if let Some((name, value, low, high)) =
                ranges.into_iter().find(|(_, v, low, high)| !(low..=high).contains(&v))
            {
                return Err(ConfigError::Value(format!("{section}.{name} = {value} is not in {low}..={high}")));
            }
        }
        let checks = [
            self.engines.check(),
            self.pacs.iter().try_for_each(PacsConfig::check),
            self.dimse.check(),
            self.hl7.check(),
            self.engines.check(),
            routing::check(&self.modules, &self.rules),
            self.module_sources.iter().try_for_each(ModuleSource::check),
            destinations::check(&self.destinations),
            self.log.check(),
            self.telemetry.check(),
            self.worklist.check(),
            self.sync.check(),
        ];
        checks.into_iter().collect::<Result<(), String>>().map_err(ConfigError::Value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Config, ConfigError> {
        let file = tempfile::NamedTempFile::new().expect("a file");
        std::fs::write(file.path(), text).expect("written");
        Config::read(file.path())
    }

    #[test]
    fn what_is_not_set_has_its_default() {
        let config = parse("[limits]\nguest_memory_mib = 64\n").expect("fine");
        assert_eq!(config.limits, Limits { guest_memory_mib: 64, ..Limits::default() });
        assert_eq!(config.grants, GrantConfig::default());
    }

    #[test]
    fn unknown_keys_and_wild_values_are_refused_by_name() {
        let unknown = parse("[limits]\nguest_memory_gb = 1\n").expect_err("refused").to_string();
        assert!(unknown.contains("guest_memory_gb"), "{unknown}");
        let wild = parse("[limits]\nguest_memory_mib = 9999\n").expect_err("refused").to_string();
        assert!(wild.contains("limits.guest_memory_mib = 9999 is not in 1..=4096"), "{wild}");
        for level in ["loud", "gantry::ingest=loud"] {
            let wild = parse(&format!("[log]\nlevel = \"{level}\"\n")).expect_err("refused").to_string();
            assert!(wild.contains(&format!("log.level = \"{level}\"")), "{wild}");
        }
        for level in ["debug", "info,gantry::ingest=debug"] {
            parse(&format!("[log]\nlevel = \"{level}\"\n")).expect("fine");
        }
    }

    #[test]
    fn a_source_of_modules_says_whom_to_believe() {
        for (text, says) in [
            ("url = \"s3://b/v\"\ntrust = []\n", "module_sources (s3://b/v): trust: name at least one"),
            ("url = \"https://b/v\"\ntrust = [\"k\"]\n", "write s3://BUCKET/PREFIX"),
            ("url = \"s3://b/v\"\ntrust = [\"k\"]\ns3 = { bucket = \"c\" }\n", "url says both"),
            ("url = \"s3://b/v\"\ntrust = [\"k\"]\ns3 = { attempts_max = 0 }\n", "s3.attempts_max is 0"),
        ] {
            let refused = parse(&format!("[[module_sources]]\n{text}")).expect_err(text).to_string();
            assert!(refused.contains(says), "{refused}");
        }
        let source = |url: &str| format!("[[module_sources]]\nurl = {url:?}\ntrust = [\"k\"]\n");
        let config = parse(&(source("s3://b/v") + &source("s3://b/v/lungs") + &source("s3://b/v2"))).expect("fine");
        let of = |url: &str| {
            sources::of(&config.module_sources, &url.parse().expect("a place")).map(|source| source.url.to_string())
        };
        assert_eq!(of("s3://b/v/lungs/1.0.0").as_deref(), Some("s3://b/v/lungs"), "the longest");
        assert_eq!(of("s3://b/v/liver/1.0.0").as_deref(), Some("s3://b/v"));
        assert_eq!(of("s3://b/w/liver/1.0.0"), None);
    }

    #[test]
    fn an_archive_that_cannot_be_asked_is_a_mistake() {
        for (text, says) in [
            ("[[pacs]]\nname = \"a\"\n", "neither url"),
            ("[[pacs]]\nurl = \"ftp://a\"\n", "neither http"),
            ("[[pacs]]\naddress = \"a:104\"\n", "no AE title"),
            ("[[pacs]]\naddress = \"a:104\"\nae_title = \"A\"\npriors = true\n", "priors need a url"),
            ("[[pacs]]\nurl = \"https://a\"\ntls = { roots = \"r\" }\n", "tls is for address"),
            (
                "[[pacs]]\naddress = \"a:104\"\nae_title = \"A\"\ntls = { roots = \"r\", key = \"k\" }\n",
                "both certificate and key",
            ),
            ("[[dimse.callers]]\nae_title = \"A\"\ntls = { roots = \"r\" }\n", "tls is for port"),
            ("[[pacs]]\nurl = \"http://a\"\ntimeout_ms = 0\n", "pacs.timeout_ms = 0 is not in"),
            ("[studies]\nclose_timer_ms = 0\n", "studies.close_timer_ms = 0 is not in"),
            ("[folder]\npoll_ms = 0\n", "folder.poll_ms = 0 is not in"),
        ] {
            let refused = parse(text).expect_err(text).to_string();
            assert!(refused.contains(says), "{refused}");
        }
        parse("[[pacs]]\naddress = \"a:104\"\nae_title = \"A\"\nsources = [\"CT1\"]\ntls = { roots = \"r\" }\n")
            .expect("fine");
    }

    /// Every key of the default, so that none is forgotten.
    #[test]
    fn every_limit_has_a_range_that_holds_its_default_and_ends() {
        let default = toml::Table::try_from(Limits::default()).expect("a table");
        for (key, value) in &default {
            for wild in [-1, 0, i64::MAX] {
                let refused = parse(&format!("[limits]\n{key} = {wild}\n")).expect_err(key).to_string();
                assert!(refused.contains(key.as_str()), "{key} = {wild}: {refused}");
            }
            parse(&format!("[limits]\n{key} = {value}\n")).expect(key);
        }
        for (name, value, low, high) in Limits::default().ranges() {
            assert!((low..=high).contains(&value), "{name}");
            assert_eq!(default.get(name).and_then(toml::Value::as_integer), i64::try_from(value).ok(), "{name}");
            if name.ends_with("_mib") {
                assert!(high.checked_mul(1 << 20).is_some(), "{name}");
            }
        }
    }

    #[cfg(unix)]
    #[test]
    fn a_configuration_that_does_not_end_is_refused() {
        let refused = Config::read(Path::new("/dev/zero")).expect_err("refused").to_string();
        assert!(refused.contains("/dev/zero: more than 1 MiB"), "{refused}");
        let large = parse(&"#\n".repeat((1 << 19) + 1)).expect_err("refused");
        assert!(matches!(large, ConfigError::TooLarge { .. }), "{large}");
        assert_eq!(parse(&"#\n".repeat(1 << 19)).expect("just fits"), Config::default());
    }

    #[test]
    fn the_default_survives_a_round_trip() {
        let text = toml::to_string(&Config::default()).expect("printable");
        assert_eq!(parse(&text).expect("fine"), Config::default());
    }
}
