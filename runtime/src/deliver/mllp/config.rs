//! `[destinations.mllp]`: a receiver of HL7 v2.

use serde::{Deserialize, Serialize};

use crate::config::PeerTlsConfig;
use crate::messages::hl7::Charset;

/// Who gets ORU^R01, and how.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MllpDestination {
    /// `host:port`.
    pub address: String,
    /// TLS; plain TCP when not set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<PeerTlsConfig>,
    /// MSH-3.
    #[serde(default = "gantry")]
    pub sending_application: String,
    /// MSH-4.
    #[serde(default)]
    pub sending_facility: String,
    /// MSH-5.
    #[serde(default)]
    pub receiving_application: String,
    /// MSH-6.
    #[serde(default)]
    pub receiving_facility: String,
    /// In which character set, by its name in HL7's table 0211; that of the study when not set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub character_set: Option<String>,
    /// Asks for a commit acknowledgement and for the application's (enhanced mode); for one answer when not set.
    #[serde(default)]
    pub enhanced: bool,
    /// Before the result of a triage above routine, tells that its order is more urgent than it was (ORM^O01).
    #[serde(default)]
    pub order_updates: bool,
    /// One answer.
    #[serde(default = "sixty_four")]
    pub answer_max_kib: u64,
}

fn gantry() -> String {
    "GANTRY".into()
}

fn sixty_four() -> u64 {
    64
}

impl MllpDestination {
    /// Whether it can be used.
    ///
    /// # Errors
    /// Says why not, after the key.
    pub fn check(&self) -> Result<(), String> {
        let port = self.address.rsplit_once(':').filter(|(host, _)| !host.is_empty()).map(|(_, port)| port);
        if !port.is_some_and(|port| port.parse::<u16>().is_ok_and(|port| port > 0)) {
            return Err(format!("address = {:?} is not host:port", self.address));
        }
        if let Some(name) = self.character_set.as_ref().filter(|name| Charset::named(name).is_none()) {
            return Err(format!(
                "character_set = {name:?} is none that is known here, as \"8859/1\" or \"UNICODE UTF-8\""
            ));
        }
        for (key, text) in [
            ("sending_application", &self.sending_application),
            ("sending_facility", &self.sending_facility),
            ("receiving_application", &self.receiving_application),
            ("receiving_facility", &self.receiving_facility),
        ] {
            if text.len() > 180 || !text.bytes().all(|b| (0x20..0x7F).contains(&b)) {
                return Err(format!("{key} = {text:?}: at most 180 characters of ASCII"));
            }
        }
        if !(1..=1024).contains(&self.answer_max_kib) {
            return Err(format!("answer_max_kib = {} is not in 1..=1024", self.answer_max_kib));
        }
        match &self.tls {
            Some(tls) if tls.certificate.is_some() != tls.key.is_some() => {
                Err("tls needs both certificate and key, or neither".into())
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_work_is_named() {
        let read = |more: &str| toml::from_str::<MllpDestination>(&format!("address = \"ris:2575\"\n{more}"));
        let base = read("").expect("fine");
        base.check().expect("fine");
        for (more, says) in [
            ("character_set = \"EBCDIC\"", "character_set = \"EBCDIC\""),
            ("sending_application = \"\u{fc}\"", "sending_application"),
            ("answer_max_kib = 0", "answer_max_kib = 0 is not in 1..=1024"),
            ("tls = { roots = \"r\", key = \"k\" }", "both certificate and key"),
        ] {
            let said = read(more).expect("read").check().expect_err(more);
            assert!(said.contains(says), "{said}");
        }
        for address in ["ris", "ris:0", ":1", "ris:99999"] {
            assert!(MllpDestination { address: address.into(), ..base.clone() }.check().is_err(), "{address}");
        }
    }
}
