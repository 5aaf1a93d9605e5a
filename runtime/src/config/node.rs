//! `[node]`: what `gantry serve` keeps, and where.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::Range;

/// The node as a whole.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct NodeConfig {
    /// Instances and the journal. `gantry serve` needs it, and nobody but its user may write there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub data_folder: Option<PathBuf>,
    /// With less space than this on the disk of `data_folder`, new instances are refused (Out of Resources).
    pub disk_free_min_mib: u64,
    /// Instances that share one commit at most.
    pub commit_instances_max: usize,
    /// What to do with other bytes under a SOP Instance UID that is known in the same study.
    pub duplicates: Duplicates,
    /// How long SIGTERM waits for transfers and jobs.
    pub drain_ms: u64,
}

/// Other bytes under a known SOP Instance UID.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Duplicates {
    /// Refuse them and quarantine them; the first stays.
    #[default]
    Refuse,
    /// The newer ones replace the first, which goes to quarantine.
    Replace,
}

impl Default for NodeConfig {
    fn default() -> Self {
        Self {
            data_folder: None,
            disk_free_min_mib: 1024,
            commit_instances_max: 256,
            duplicates: Duplicates::Refuse,
            drain_ms: 30_000,
        }
    }
}

impl NodeConfig {
    pub(super) fn ranges(&self) -> Vec<Range> {
        vec![
            ("disk_free_min_mib", self.disk_free_min_mib, 0, 1 << 30),
            ("commit_instances_max", self.commit_instances_max as u64, 1, 10_000),
            ("drain_ms", self.drain_ms, 0, 3_600_000),
        ]
    }
}

/// A server's certificate, and whom it trusts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TlsConfig {
    /// PEM: the certificate and those that lead to its root.
    pub certificate: PathBuf,
    /// PEM: its private key.
    pub key: PathBuf,
    /// PEM: roots that sign clients' certificates. When set, a client without one is refused (mutual TLS).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_roots: Option<PathBuf>,
}

/// TLS with a peer that we call. Its certificate must be one that the roots sign.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PeerTlsConfig {
    /// PEM: roots that sign the peer's certificate.
    pub roots: PathBuf,
    /// PEM: our certificate and those that lead to its root, for a peer that asks for one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificate: Option<PathBuf>,
    /// PEM: its private key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<PathBuf>,
    /// A DNS name or an IP address that the peer's certificate is for; what we call when not set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server_name: Option<String>,
}

impl PeerTlsConfig {
    /// A certificate without its key is of no use, and the other way round.
    pub(super) fn check(&self, of: &str) -> Result<(), String> {
        match self.certificate.is_some() == self.key.is_some() {
            true => Ok(()),
            false => Err(format!("{of}: tls needs both certificate and key, or neither")),
        }
    }
}
