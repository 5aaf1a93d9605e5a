//! `[dimse]`: who may send images, and how much at once.

use std::net::{IpAddr, SocketAddr};

use serde::{Deserialize, Serialize};

use super::{PeerTlsConfig, Range, TlsConfig};

/// The DICOM network service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DimseConfig {
    /// Where to listen; no DICOM network service when not set.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub listen: Option<SocketAddr>,
    /// Our own AE title, which callers must name.
    pub ae_title: String,
    /// What to do with callers that are not listed.
    pub unknown_callers: UnknownCallers,
    /// Who may send.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub callers: Vec<Caller>,
    /// Certificate and key; without it the service speaks plain TCP.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls: Option<TlsConfig>,
    /// Associations at once; more are rejected for now (local limit exceeded).
    pub associations_max: usize,
    /// From connecting to a whole A-ASSOCIATE-RQ, the TLS handshake included.
    pub associate_timeout_ms: u64,
    /// Between two messages of an association.
    pub idle_timeout_ms: u64,
    /// Between two PDUs of a message, and for a response to be taken.
    pub dimse_timeout_ms: u64,
    /// A PDU that is received; PS3.8 annex D.1 tells the peer.
    pub pdu_max_bytes: u32,
    /// A command set.
    pub command_max_bytes: u32,
    /// Instances in one request for storage commitment.
    pub commitment_instances_max: usize,
    /// How often a result of storage commitment is sent to a caller's port before it is given up.
    pub commitment_attempts_max: u32,
    /// From the first attempt to the second; twice as long after each, up to 64 times.
    pub commitment_retry_ms: u64,
}

/// One application entity that may send.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Caller {
    /// Its AE title.
    pub ae_title: String,
    /// Its address; from anywhere when not set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<IpAddr>,
    /// Where it takes results of storage commitment: its listening port, at the address it called from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// TLS at that port; plain TCP when not set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<PeerTlsConfig>,
}

/// Callers that are not listed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum UnknownCallers {
    /// Reject the association: calling AE title not recognized.
    #[default]
    Refuse,
    /// Take what they send.
    Accept,
}

impl Default for DimseConfig {
    fn default() -> Self {
        Self {
            listen: None,
            ae_title: "GANTRY".into(),
            unknown_callers: UnknownCallers::Refuse,
            callers: Vec::new(),
            tls: None,
            associations_max: 64,
            associate_timeout_ms: 10_000,
            idle_timeout_ms: 60_000,
            dimse_timeout_ms: 30_000,
            pdu_max_bytes: 131_072,
            command_max_bytes: 65_536,
            commitment_instances_max: 10_000,
            commitment_attempts_max: 12,
            commitment_retry_ms: 60_000,
        }
    }
}

impl DimseConfig {
    pub(super) fn ranges(&self) -> Vec<Range> {
        vec![
            ("associations_max", self.associations_max as u64, 1, 10_000),
            ("associate_timeout_ms", self.associate_timeout_ms, 1, 3_600_000),
            ("idle_timeout_ms", self.idle_timeout_ms, 1, 24 * 3_600_000),
            ("dimse_timeout_ms", self.dimse_timeout_ms, 1, 3_600_000),
            ("pdu_max_bytes", self.pdu_max_bytes.into(), 4096, 1 << 24),
            ("command_max_bytes", self.command_max_bytes.into(), 1024, 1 << 24),
            ("commitment_instances_max", self.commitment_instances_max as u64, 1, 100_000),
            ("commitment_attempts_max", self.commitment_attempts_max.into(), 1, 1000),
            ("commitment_retry_ms", self.commitment_retry_ms, 1, 24 * 3_600_000),
        ]
    }

    /// AE titles are 1 to 16 characters of the default repertoire without `\\` and not blank (PS3.5 section 6.2, VR AE).
    pub(super) fn check(&self) -> Result<(), String> {
        let titles = self.callers.iter().map(|c| ("dimse.callers.ae_title", &c.ae_title));
        for (key, title) in std::iter::once(("dimse.ae_title", &self.ae_title)).chain(titles) {
            if !is_ae_title(title) {
                return Err(format!(
                    "{key} = {title:?} is no AE title: 1 to 16 ASCII characters, without \\ and outer spaces"
                ));
            }
        }
        for caller in &self.callers {
            let of = format!("dimse.callers ({})", caller.ae_title);
            match &caller.tls {
                Some(_) if caller.port.is_none() => return Err(format!("{of}: tls is for port, which is not set")),
                Some(tls) => tls.check(&of)?,
                None => {}
            }
        }
        Ok(())
    }
}

pub(super) fn is_ae_title(title: &str) -> bool {
    let plain = title.bytes().all(|b| (0x20..0x7F).contains(&b) && b != b'\\');
    plain && !title.trim().is_empty() && title.trim() == title && title.len() <= 16
}
