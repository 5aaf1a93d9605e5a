//! `gantry.toml`: one file, unknown keys refused, every limit with its unit in its name.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// Everything that an operator can set. [`Config::default`] is what holds without a file.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
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
}

/// Limits. Hitting one ends the job with an error that has the limit's name in it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Linear memory of a guest.
    pub guest_memory_mib: u64,
    /// Elements in all tables of a guest.
    pub guest_table_elements_max: usize,
    /// Core instances, memories and tables of one component, each.
    pub guest_instances_max: u32,
    /// Stack of a guest.
    pub guest_stack_kib: usize,
    /// Handles (series, volumes, tensors, …) that a guest may hold at once.
    pub handles_max: usize,
    /// Voxels and tensors that a job may hold on the host at once.
    pub host_memory_mib: u64,
    /// Lists and strings that a guest may pass in one call.
    pub guest_list_mib: usize,
    /// Voxels or tensor bytes that a guest may read in one call.
    pub guest_read_mib: u64,
    /// Log lines of a job.
    pub log_kib: usize,
    /// Findings of a job.
    pub findings_max: usize,
    /// From the first guest instruction to its answer.
    pub job_deadline_ms: u64,
    /// Jobs that run at once.
    pub jobs_max: u32,
    /// A component file.
    pub component_max_mib: u64,
    /// A model file.
    pub model_max_mib: u64,
    /// A DICOM file.
    pub file_max_mib: u64,
    /// Files in a study.
    pub files_max: usize,
    /// Voxels of a volume, as stored.
    pub volume_max_mib: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            guest_memory_mib: 256,
            guest_table_elements_max: 100_000,
            guest_instances_max: 32,
            guest_stack_kib: 1024,
            handles_max: 10_000,
            host_memory_mib: 8192,
            guest_list_mib: 256,
            guest_read_mib: 64,
            log_kib: 64,
            findings_max: 1000,
            job_deadline_ms: 300_000,
            jobs_max: 4,
            component_max_mib: 64,
            model_max_mib: 1024,
            file_max_mib: 2048,
            files_max: 20_000,
            volume_max_mib: 4096,
        }
    }
}

/// What the operator gives a module that asks for it. `--grant` adds to both lists.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct GrantConfig {
    /// Interfaces: the module's own study, voxels, findings, log and models unless said otherwise.
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
    #[error("cannot read the configuration {path}: {reason}", path = path.display())]
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
    /// A value is out of its range.
    #[error("configuration: {0}")]
    Value(String),
}

impl Config {
    /// Reads and checks a file.
    pub fn read(path: &Path) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(path).map_err(|reason| ConfigError::Read { path: path.into(), reason })?;
        let config: Self = toml::from_str(&text)
            .map_err(|reason| ConfigError::Parse { path: path.into(), reason: Box::new(reason) })?;
        config.check()?;
        Ok(config)
    }

    fn check(&self) -> Result<(), ConfigError> {
        let limits = &self.limits;
        let ranges: [(&str, u64, u64, u64); 6] = [
            ("guest_memory_mib", limits.guest_memory_mib, 1, 4096),
            ("guest_stack_kib", limits.guest_stack_kib as u64, 64, 4096),
            ("guest_instances_max", u64::from(limits.guest_instances_max), 1, 1000),
            ("guest_list_mib", limits.guest_list_mib as u64, 1, 4096),
            ("jobs_max", u64::from(limits.jobs_max), 1, 64),
            ("job_deadline_ms", limits.job_deadline_ms, 1, 24 * 3600 * 1000),
        ];
        for (name, value, low, high) in ranges {
            if !(low..=high).contains(&value) {
                return Err(ConfigError::Value(format!("limits.{name} = {value} is not in {low}..={high}")));
            }
        }
        Ok(())
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
    }

    #[test]
    fn the_default_survives_a_round_trip() {
        let text = toml::to_string(&Config::default()).expect("printable");
        assert_eq!(parse(&text).expect("fine"), Config::default());
    }
}
