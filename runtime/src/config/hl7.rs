//! `[hl7]`: how orders and merges of patients come in, by HL7 v2 over MLLP.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use serde::{Deserialize, Serialize};

use super::{Range, TlsConfig};
use crate::findings::Urgency;
use crate::messages::hl7::order::{Place, Rules};

/// The MLLP service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Hl7Config {
    /// Where to listen; no MLLP service when not set.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub listen: Option<SocketAddr>,
    /// Certificate and key; without it the service speaks plain TCP.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls: Option<TlsConfig>,
    /// Who may connect; with `tls.client_roots` anybody who has such a certificate when empty.
    pub allowed_addresses: Vec<IpAddr>,
    /// What we call ourselves, in MSH-3 of answers.
    pub application: String,
    /// And in MSH-4.
    pub facility: String,
    /// Where the accession number stands: the first of these fields with a value.
    pub accession_fields: Vec<String>,
    /// Where a code of a priority puts a study; one that is not here is routine.
    pub priorities: BTreeMap<String, Urgency>,
    /// How long orders are kept after they were last heard of.
    pub orders_days: u64,
    /// How long merges of patients are kept after they were last heard of.
    pub merges_days: u64,
    /// Connections at once; more are closed.
    pub connections_max: usize,
    /// From connecting to the end of the TLS handshake.
    pub handshake_timeout_ms: u64,
    /// Between two messages of a connection.
    pub idle_timeout_ms: u64,
    /// From the first byte of a message to its last.
    pub message_timeout_ms: u64,
    /// For an answer to be taken.
    pub answer_timeout_ms: u64,
    /// One message.
    pub message_max_kib: u64,
    /// Segments of one message.
    pub segments_max: usize,
}

impl Default for Hl7Config {
    fn default() -> Self {
        let priorities = [
            ("S", Urgency::Urgent),
            ("STAT", Urgency::Urgent),
            ("A", Urgency::Prompt),
            ("ASAP", Urgency::Prompt),
            ("T", Urgency::Prompt),
            ("P", Urgency::Prompt),
            ("R", Urgency::Routine),
        ];
        Self {
            listen: None,
            tls: None,
            allowed_addresses: Vec::new(),
            application: "GANTRY".into(),
            facility: String::new(),
            accession_fields: ["IPC-1", "OBR-18", "ORC-3", "OBR-3"].map(String::from).to_vec(),
            priorities: priorities.map(|(code, urgency)| (code.to_owned(), urgency)).into(),
            orders_days: 90,
            merges_days: 365,
            connections_max: 16,
            handshake_timeout_ms: 10_000,
            idle_timeout_ms: 3_600_000,
            message_timeout_ms: 30_000,
            answer_timeout_ms: 10_000,
            message_max_kib: 1024,
            segments_max: 1000,
        }
    }
}

impl Hl7Config {
    pub(super) fn ranges(&self) -> Vec<Range> {
        vec![
            ("orders_days", self.orders_days, 1, 3650),
            ("merges_days", self.merges_days, 1, 36_500),
            ("connections_max", self.connections_max as u64, 1, 1000),
            ("handshake_timeout_ms", self.handshake_timeout_ms, 1, 3_600_000),
            ("idle_timeout_ms", self.idle_timeout_ms, 1, 7 * 24 * 3_600_000),
            ("message_timeout_ms", self.message_timeout_ms, 1, 3_600_000),
            ("answer_timeout_ms", self.answer_timeout_ms, 1, 3_600_000),
            ("message_max_kib", self.message_max_kib, 1, 65_536),
            ("segments_max", self.segments_max as u64, 4, 100_000),
        ]
    }

    /// Whoever sends an order moves studies up, so nobody may by default.
    pub(super) fn check(&self) -> Result<(), String> {
        let certified = self.tls.as_ref().is_some_and(|tls| tls.client_roots.is_some());
        if self.listen.is_some() && self.allowed_addresses.is_empty() && !certified {
            return Err(
                "hl7.listen needs hl7.allowed_addresses, or hl7.tls with client_roots: whoever may send orders moves \
                        studies up"
                    .into(),
            );
        }
        for (key, text) in [("application", &self.application), ("facility", &self.facility)] {
            if text.len() > 180 || !text.bytes().all(|b| (0x20..0x7F).contains(&b)) {
                return Err(format!("hl7.{key} = {text:?}: at most 180 characters of ASCII"));
            }
        }
        for (key, count, most) in
            [("accession_fields", self.accession_fields.len(), 16), ("priorities", self.priorities.len(), 256)]
        {
            if count > most {
                return Err(format!("hl7.{key} has {count} entries; {most} at most"));
            }
        }
        if self.accession_fields.is_empty() {
            return Err("hl7.accession_fields is empty; name a field, as \"OBR-18\"".into());
        }
        if let Some(wrong) = self.accession_fields.iter().find(|text| Place::parse(text).is_none()) {
            return Err(format!("hl7.accession_fields has {wrong:?}, which is no field, as \"OBR-18\" or \"ZDS-1.2\""));
        }
        Ok(())
    }

    /// How orders are read.
    #[must_use]
    pub fn rules(&self) -> Rules {
        Rules {
            accession_fields: self.accession_fields.iter().filter_map(|text| Place::parse(text)).collect(),
            priorities: self.priorities.iter().map(|(code, urgency)| (code.to_ascii_uppercase(), *urgency)).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Config;

    #[test]
    fn who_may_send_orders_is_said() {
        let parse = |text: &str| Config::parse(std::path::Path::new("x.toml"), text).map_err(|e| e.to_string());
        let listen = "[hl7]\nlisten = \"0.0.0.0:2575\"\n";
        for (text, says) in [
            (listen.to_owned(), "hl7.listen needs hl7.allowed_addresses"),
            (
                format!("{listen}tls = {{ certificate = \"c\", key = \"k\" }}\n"),
                "hl7.listen needs hl7.allowed_addresses",
            ),
            (format!("{listen}allowed_addresses = [\"ris\"]\n"), "allowed_addresses"),
            ("[hl7]\naccession_fields = [\"obr-18\"]\n".into(), "hl7.accession_fields has \"obr-18\""),
            ("[hl7]\naccession_fields = []\n".into(), "hl7.accession_fields is empty"),
            ("[hl7]\napplication = \"\u{fc}\"\n".into(), "hl7.application"),
            ("[hl7]\npriorities = { S = \"soon\" }\n".into(), "soon"),
            ("[hl7]\nmerges_days = 0\n".into(), "hl7.merges_days = 0 is not in 1..=36500"),
            ("[hl7]\nmessage_max_kib = 0\n".into(), "hl7.message_max_kib = 0 is not in 1..=65536"),
        ] {
            let said = parse(&text).map(|_| ()).expect_err(&text);
            assert!(said.contains(says), "{text}: {said}");
        }
        parse(&format!("{listen}allowed_addresses = [\"192.0.2.7\"]\n")).expect("fine");
        parse(&format!("{listen}tls = {{ certificate = \"c\", key = \"k\", client_roots = \"r\" }}\n")).expect("fine");
    }
}
