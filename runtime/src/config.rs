//! `gantry.toml`: one file, unknown keys refused, every limit with its unit in its name.

use std::io::Read;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// The largest file that is read.
const CONFIG_MAX_MIB: u64 = 1;

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
    /// What comes before the pixel data of a DICOM file.
    pub header_max_mib: u64,
    /// Elements and items before the pixel data of a DICOM file.
    pub elements_max: usize,
    /// Sequences within sequences of a DICOM file.
    pub sequence_depth_max: usize,
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
            header_max_mib: 64,
            elements_max: 500_000,
            sequence_depth_max: 64,
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

impl Config {
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
        let config: Self = toml::from_str(&text)
            .map_err(|reason| ConfigError::Parse { path: path.into(), reason: Box::new(reason) })?;
        config.check()?;
        Ok(config)
    }

    fn check(&self) -> Result<(), ConfigError> {
        match self.limits.ranges().into_iter().find(|(_, value, low, high)| !(low..=high).contains(&value)) {
            Some((name, value, low, high)) => {
                Err(ConfigError::Value(format!("limits.{name} = {value} is not in {low}..={high}")))
            }
            None => Ok(()),
        }
    }
}

impl Limits {
    /// Name, value, and the least and the most that makes sense, of each limit. Within them a number of MiB is a
    /// number of bytes, and the sandbox can start.
    fn ranges(&self) -> [(&'static str, u64, u64, u64); 20] {
        // Taken apart, so that a limit without a range does not compile.
        let Self {
            guest_memory_mib,
            guest_table_elements_max,
            guest_instances_max,
            guest_stack_kib,
            handles_max,
            host_memory_mib,
            guest_list_mib,
            guest_read_mib,
            log_kib,
            findings_max,
            job_deadline_ms,
            jobs_max,
            component_max_mib,
            model_max_mib,
            file_max_mib,
            files_max,
            volume_max_mib,
            header_max_mib,
            elements_max,
            sequence_depth_max,
        } = self.clone();
        [
            ("guest_memory_mib", guest_memory_mib, 1, 4096),
            ("guest_table_elements_max", guest_table_elements_max as u64, 1, 10_000_000),
            ("guest_instances_max", guest_instances_max.into(), 1, 1000),
            // wasmtime wants it below the 2 MiB of `async_stack_size`, with room for what the host does there.
            ("guest_stack_kib", guest_stack_kib as u64, 64, 1536),
            ("handles_max", handles_max as u64, 1, 10_000_000),
            ("host_memory_mib", host_memory_mib, 1, 1 << 20),
            ("guest_list_mib", guest_list_mib as u64, 1, 4096),
            ("guest_read_mib", guest_read_mib, 1, 4096),
            ("log_kib", log_kib as u64, 1, 1 << 20),
            ("findings_max", findings_max as u64, 1, 1_000_000),
            ("job_deadline_ms", job_deadline_ms, 1, 24 * 3600 * 1000),
            ("jobs_max", jobs_max.into(), 1, 64),
            ("component_max_mib", component_max_mib, 1, 4096),
            ("model_max_mib", model_max_mib, 1, 1 << 16),
            ("file_max_mib", file_max_mib, 1, 1 << 16),
            ("files_max", files_max as u64, 1, 10_000_000),
            ("volume_max_mib", volume_max_mib, 1, 1 << 16),
            ("header_max_mib", header_max_mib, 1, 4096),
            ("elements_max", elements_max as u64, 1, 100_000_000),
            // The parser recurses: the stack of a thread holds this much.
            ("sequence_depth_max", sequence_depth_max as u64, 1, 64),
        ]
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
