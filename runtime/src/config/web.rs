//! `[web]`: DICOMweb, who may use it, and how much at once.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use super::{Range, TlsConfig};

/// The DICOMweb service (PS3.18).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct WebConfig {
    /// Where to listen; no web service when not set.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub listen: Option<SocketAddr>,
    /// Certificate and key; without it the service speaks plain HTTP.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls: Option<TlsConfig>,
    /// What holders of client certificates may do (mutual TLS); others that the roots sign may do nothing.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub clients: Vec<WebClient>,
    /// How clients reach the service, for the URLs in answers, as in `https://pacs.example`; what they called it when not set.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub public_url: Option<String>,
    /// Connections at once; more are told only how the node is, or to come later.
    pub connections_max: usize,
    /// From connecting, or from the end of a request, to the whole head of the next, the TLS handshake included.
    pub header_timeout_ms: u64,
    /// Head of a request.
    pub header_max_kib: u64,
    /// How long a client is waited for in all until it sent another 64 KiB of a request's body, or the rest.
    pub idle_timeout_ms: u64,
    /// How long a client is waited for in all until it took another 64 KiB of an answer, or the rest.
    pub answer_timeout_ms: u64,
    /// Body of one STOW request.
    pub request_max_mib: u64,
    /// What the body of one STOW request with `Content-Encoding: gzip` may inflate to.
    pub inflated_max_mib: u64,
    /// Instances of one STOW request.
    pub parts_max: usize,
    /// Matches of one search; more are had by `offset`.
    pub qido_results_max: usize,
    /// Pixels of one rendered image, and of the frame it is rendered from.
    pub rendered_pixels_max: u64,
    /// Pictures of one answer.
    pub rendered_images_max: usize,
    /// Frames that are decoded, and data sets that are told as metadata, at once.
    pub renders_max: usize,
    /// Binary values above this are given by reference in metadata.
    pub inline_max_bytes: u64,
}

/// A holder of a client certificate.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WebClient {
    /// Common name of the certificate's subject.
    pub common_name: String,
    /// What it may do.
    pub scopes: Vec<Scope>,
}

/// What somebody may do. None includes another. Once a first token was made, nobody does anything without a token or a client
/// certificate, also when all tokens are revoked; before, who connects from loopback may do everything.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Scope {
    /// Store instances: STOW-RS.
    Send,
    /// Search and retrieve: QIDO-RS, WADO-RS, the worklist and results, workitems and subscriptions to them.
    Read,
    /// Say of findings whether they are right, and release results.
    Review,
    /// See how the node does: `/metrics`.
    Operate,
    /// Cancel jobs, by UPS-RS. What else there is to administer is done on the machine, by `gantry`.
    Administer,
}

impl Scope {
    /// Every scope.
    pub const ALL: [Self; 5] = [Self::Send, Self::Read, Self::Review, Self::Operate, Self::Administer];

    /// As on the command line.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Send => "send",
            Self::Read => "read",
            Self::Review => "review",
            Self::Operate => "operate",
            Self::Administer => "administer",
        }
    }
}

impl std::str::FromStr for Scope {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|scope| scope.name() == text);
        found.ok_or_else(|| "a scope is send, read, review, operate or administer".into())
    }
}

impl Default for WebConfig {
    fn default() -> Self {
        Self {
            listen: None,
            tls: None,
            clients: Vec::new(),
            public_url: None,
            connections_max: 256,
            header_timeout_ms: 10_000,
            header_max_kib: 64,
            idle_timeout_ms: 30_000,
            answer_timeout_ms: 30_000,
            request_max_mib: 65_536,
            inflated_max_mib: 8192,
            parts_max: 100_000,
            qido_results_max: 1000,
            rendered_pixels_max: 16_777_216,
            rendered_images_max: 1000,
            renders_max: 2,
            inline_max_bytes: 1024,
        }
    }
}

impl WebConfig {
    pub(super) fn ranges(&self) -> Vec<Range> {
        vec![
            ("connections_max", self.connections_max as u64, 1, 10_000),
            ("header_timeout_ms", self.header_timeout_ms, 1, 3_600_000),
            ("header_max_kib", self.header_max_kib, 8, 1024),
            ("idle_timeout_ms", self.idle_timeout_ms, 1, 3_600_000),
            ("answer_timeout_ms", self.answer_timeout_ms, 1, 3_600_000),
            ("request_max_mib", self.request_max_mib, 1, 1 << 24),
            ("inflated_max_mib", self.inflated_max_mib, 1, 1 << 24),
            ("parts_max", self.parts_max as u64, 1, 10_000_000),
            ("qido_results_max", self.qido_results_max as u64, 1, 100_000),
            ("rendered_pixels_max", self.rendered_pixels_max, 1, 1 << 28),
            ("rendered_images_max", self.rendered_images_max as u64, 1, 100_000),
            ("renders_max", self.renders_max as u64, 1, 256),
            ("inline_max_bytes", self.inline_max_bytes, 0, 1 << 20),
        ]
    }
}
