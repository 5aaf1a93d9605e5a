//! `[log]`, `[telemetry]` and `[retention]`: what is said, where traces go, and what is kept for how long.

use serde::{Deserialize, Serialize};

use super::Range;

/// Log lines of `gantry serve`, on standard error.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LogConfig {
    /// For people or for machines.
    pub format: LogFormat,
    /// `error`, `warn`, `info`, `debug` or `trace`, also by part: `info,gantry::ingest=debug`. `RUST_LOG` overrides it.
    pub level: String,
}

/// How a log line looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

impl Default for LogConfig {
    fn default() -> Self {
        Self { format: LogFormat::Text, level: "info".into() }
    }
}

impl LogConfig {
    /// The level as a filter takes it. One word is for our own lines: a decoder that tells of every tile would bury them.
    pub(crate) fn directives(&self) -> String {
        match self.level.contains(['=', ',']) {
            true => self.level.clone(),
            false => format!("warn,gantry={}", self.level),
        }
    }

    pub(super) fn check(&self) -> Result<(), String> {
        match tracing_subscriber::EnvFilter::builder().parse(self.directives()) {
            Ok(_) => Ok(()),
            Err(e) => Err(format!("log.level = {:?}: {e}; use error, warn, info, debug or trace", self.level)),
        }
    }
}

/// OpenTelemetry traces.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TelemetryConfig {
    /// A collector that takes OTLP over HTTP, such as `http://127.0.0.1:4318/v1/traces`; no traces when not set.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub otlp_endpoint: Option<String>,
    /// How long the collector may take to answer.
    pub otlp_timeout_ms: u64,
}

impl Default for TelemetryConfig {
    fn default() -> Self {
        Self { otlp_endpoint: None, otlp_timeout_ms: 10_000 }
    }
}

impl TelemetryConfig {
    pub(super) fn ranges(&self) -> Vec<Range> {
        vec![("otlp_timeout_ms", self.otlp_timeout_ms, 1, 600_000)]
    }

    pub(super) fn check(&self) -> Result<(), String> {
        match &self.otlp_endpoint {
            Some(url) if !url.starts_with("http://") => Err(format!(
                "telemetry.otlp_endpoint = {url:?}: it must begin with http://; run a collector on this machine, which can speak TLS to others"
            )),
            _ => Ok(()),
        }
    }
}

/// What is deleted, and when. Work that is not done always stays.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RetentionConfig {
    /// Studies go, with all results of theirs, when nothing came for them for so long; never when not set.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub instances_days: Option<u64>,
    /// Results of a job go so long after it ended; 0: they stay as long as their study. Nobody else has them, so that is the
    /// default.
    pub results_days: u64,
    /// Files in quarantine go after so long; never when not set.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub quarantine_days: Option<u64>,
    /// What sync holds for a person's decision keeps its study and its results for so long.
    pub held_days: u64,
    /// With less space than this, what is in quarantine goes, and then the studies that wait longest, however young; none do
    /// when not set.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub disk_target_free_mib: Option<u64>,
    /// How often it is looked.
    pub interval_ms: u64,
}

impl Default for RetentionConfig {
    fn default() -> Self {
        Self {
            instances_days: None,
            results_days: 0,
            quarantine_days: None,
            held_days: 30,
            disk_target_free_mib: None,
            interval_ms: 60_000,
        }
    }
}

impl RetentionConfig {
    pub(super) fn ranges(&self) -> Vec<Range> {
        vec![
            ("instances_days", self.instances_days.unwrap_or(1), 1, 36_500),
            ("results_days", self.results_days, 0, 36_500),
            ("quarantine_days", self.quarantine_days.unwrap_or(1), 1, 36_500),
            ("held_days", self.held_days, 1, 36_500),
            ("disk_target_free_mib", self.disk_target_free_mib.unwrap_or(1), 1, 1 << 30),
            ("interval_ms", self.interval_ms, 100, 24 * 3_600_000),
        ]
    }
}
