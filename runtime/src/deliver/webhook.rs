//! A signed message that there is a result: what was found, and nothing of whom unless the site says so.
//!
//! ```text
//! Gantry-Delivery: 17                     the same however often it is tried: who saw it already can leave it
//! Gantry-Timestamp: 1767225600            seconds since 1970; part of what is signed, so that no old message passes for a new one
//! Gantry-Signature: sha256=HEX            HMAC-SHA256 with the key over TIMESTAMP "." BODY
//! ```

use std::time::Duration;

use hmac::{Hmac, KeyInit, Mac};
use reqwest::StatusCode;
use reqwest::header::CONTENT_TYPE;
use reqwest::redirect::Policy;
use serde_json::{Value, json};
use sha2::Sha256;

use super::{Delivery, Failure, Sent, Trouble, secret};
use crate::config::WebhookDestination;

/// Parts of `result.json` that are told; its files are named by their digests.
const TOLD: [&str; 8] = ["schema", "status", "runtime_version", "date", "time", "module", "findings", "outputs"];

pub(super) struct Sender {
    client: reqwest::Client,
    url: String,
    key: String,
    identity: bool,
    timeout_ms: u64,
}

pub(super) fn check(to: &WebhookDestination) -> Result<(), String> {
    secret("webhook.secret_file", &to.secret_file).map(|_| ())
}

impl Sender {
    pub(super) fn new(to: &WebhookDestination, timeout_ms: u64) -> Result<Self, String> {
        let key = secret("webhook.secret_file", &to.secret_file)?;
        let client = reqwest::Client::builder().redirect(Policy::none()).timeout(Duration::from_millis(timeout_ms));
        let client = client.build().map_err(|e| e.to_string())?;
        Ok(Self { client, url: to.url.clone(), key, identity: to.identity, timeout_ms })
    }

    pub(super) async fn send(&self, delivery: &Delivery) -> Result<Sent, Trouble> {
        let body = message(delivery, self.identity).to_string();
        let timestamp = chrono::Utc::now().timestamp().to_string();
        let request = self
            .client
            .post(&self.url)
            .header(CONTENT_TYPE, "application/json")
            .header("Gantry-Delivery", delivery.id)
            .header("Gantry-Timestamp", &timestamp)
            .header("Gantry-Signature", signature(&self.key, &timestamp, &body))
            .body(body);
        match request.send().await {
            // What it says beside is nobody's: it is not read.
            Ok(answer) if answer.status().is_success() => Ok(Sent::default()),
            Ok(answer) => Err(refused(answer.status()).into()),
            Err(e) => Err(not_sent(e, self.timeout_ms)),
        }
    }
}

fn signature(key: &str, timestamp: &str, body: &str) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(key.as_bytes()).expect("HMAC takes a key of any length");
    for part in [timestamp, ".", body] {
        mac.update(part.as_bytes());
    }
    format!("sha256={}", crate::hex(&mac.finalize().into_bytes()))
}

/// What is told of a result.
fn message(delivery: &Delivery, identity: bool) -> Value {
    let Delivery { job, result, .. } = delivery;
    let mut message = json!({
        "event": "result",
        "delivery": delivery.id,
        "destination": delivery.destination,
        "job": job.id,
        "study_instance_uid": job.study_instance_uid,
        "study_version": job.study_version,
        "priority": job.priority,
        "correlation": job.correlation,
        "result_sha256": crate::hex(&delivery.result_sha256),
    });
    for key in TOLD {
        message[key] = result.get(key).cloned().unwrap_or_default();
    }
    if identity {
        let who = &delivery.identity;
        message["identity"] = json!({
            "patient_id": who.patient.id,
            "issuer_of_patient_id": who.patient.issuer,
            "patient_name": who.patient.name,
            "patient_birth_date": who.patient.birth_date,
            "patient_sex": who.patient.sex,
            "accession_number": who.accession_number,
            "study_date": who.study_date,
            "study_time": who.study_time,
            "study_id": who.study_id,
        });
    }
    message
}

/// What an HTTP status other than success means for a delivery. What says that the destination is not as it was configured may
/// pass once somebody looked: it is no reason to give up all that waits.
pub(super) fn refused(status: StatusCode) -> Failure {
    let text = format!("it answers with status {}", status.as_u16());
    match status {
        StatusCode::BAD_REQUEST
        | StatusCode::NOT_ACCEPTABLE
        | StatusCode::GONE
        | StatusCode::PAYLOAD_TOO_LARGE
        | StatusCode::UNSUPPORTED_MEDIA_TYPE
        | StatusCode::UNPROCESSABLE_ENTITY => Failure::for_good(text),
        _ => Failure::again(text),
    }
}

/// A request that got no answer. Without the address.
fn not_sent(error: reqwest::Error, timeout_ms: u64) -> Trouble {
    let connects = error.is_connect();
    let text = match error.is_timeout() {
        true => format!("it did not answer within destinations.timeout_ms = {timeout_ms}"),
        false => crate::printable(&crate::completion::failed(error)),
    };
    if connects { Trouble::Unreachable(text) } else { Failure::again(text).into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// By another implementation: `printf '%s' '1767225600.{"a":1}' | openssl dgst -sha256 -hmac secret`.
    #[test]
    fn the_signature_is_that_of_timestamp_and_body() {
        let signed = signature("secret", "1767225600", "{\"a\":1}");
        assert_eq!(signed, "sha256=96a067a1c95eb143fc00b9097bcfcbcd5456adda508c443ff219748e764dbed7");
        assert_ne!(signed, signature("secret", "1767225601", "{\"a\":1}"));
    }

    #[test]
    fn only_what_the_message_itself_is_to_blame_for_is_given_up() {
        for status in [400, 410, 413, 415, 422] {
            assert!(!refused(StatusCode::from_u16(status).expect("a status")).again, "{status}");
        }
        for status in [302, 401, 403, 404, 408, 409, 425, 429, 500, 502, 503, 504] {
            assert!(refused(StatusCode::from_u16(status).expect("a status")).again, "{status}");
        }
    }
}
