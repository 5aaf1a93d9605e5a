//! A result as a transaction to a FHIR server, or as a line of NDJSON in a folder.
//!
//! What was sent and not known to have arrived is sent again: every entry is conditional on an identifier that the result always has,
//! so that twice has the effect of once.

mod config;

use std::io::Write;
use std::path::Path;
use std::time::Duration;

use chrono::{DateTime, NaiveDateTime, Utc};
use reqwest::StatusCode;
use reqwest::header::{ACCEPT, CONTENT_TYPE, RETRY_AFTER};
use reqwest::redirect::Policy;
use serde_json::Value;

pub use self::config::FhirDestination;
use super::subject::told;
use super::{Delivery, Failure, Sent, Trouble, secret};
use crate::ingest::blocking;
use crate::messages::Subject;
use crate::messages::fhir::{Naming, Statement, bundle, outcome, standing};
use crate::store::{Store, StoreError};
use crate::study::ReadOptions;

/// The media type of FHIR's JSON.
const FHIR_JSON: &str = "application/fhir+json";
/// How often a server that asks to be waited for is waited for in one attempt.
const WAITS_MAX: u32 = 4;

/// Ready to send to one server, or into one folder.
pub(super) struct Sender {
    to: FhirDestination,
    naming: Naming,
    client: reqwest::Client,
    token: Option<String>,
    timeout_ms: u64,
    store: Store,
    options: ReadOptions,
}

/// Whether the files that it names can be used.
pub(super) fn check(to: &FhirDestination) -> Result<(), String> {
    if let Some(file) = &to.token_file {
        secret("fhir.token_file", file)?;
    }
    match &to.folder {
        Some(folder) if !folder.is_dir() => Err(format!("fhir.folder = {}: there is no such folder", folder.display())),
        _ => Ok(()),
    }
}

/// What a server said.
enum Said {
    Taken,
    /// It asks to be left alone for so long.
    Wait(Duration),
}

impl Sender {
    pub(super) fn new(
        to: &FhirDestination,
        timeout_ms: u64,
        store: Store,
        options: ReadOptions,
    ) -> Result<Self, String> {
        check(to)?;
        let token = to.token_file.as_ref().map(|file| secret("fhir.token_file", file)).transpose()?;
        let client = reqwest::Client::builder().redirect(Policy::none()).timeout(Duration::from_millis(timeout_ms));
        let client = client.build().map_err(|e| e.to_string())?;
        let naming = Naming {
            patient_system: to.patient_system.clone(),
            issuer_systems: to.issuer_systems.clone(),
            accession_system: to.accession_system.clone(),
            patient: to.patient,
            task: to.task,
            provenance: to.provenance,
        };
        Ok(Self { to: to.clone(), naming, client, token, timeout_ms, store, options })
    }

    pub(super) async fn send(&self, delivery: &Delivery) -> Result<Sent, Trouble> {
        let (told, subject) = told(delivery, &self.store, &self.options).await?;
        let earlier = self.earlier(delivery.id).await?;
        let made = bundle(&told, &subject, &self.naming, &earlier, &delivery.result_sha256);
        let bundle = made.map_err(|e| Failure::for_good(e.to_string()))?;
        // Before it is said: a later version must know of it, whatever becomes of this attempt.
        let said =
            serde_json::to_string(&standing(&told, &bundle, &earlier)).map_err(|e| Failure::again(e.to_string()))?;
        self.store.note_said(delivery.id, &said).await.map_err(journal)?;
        if let Some(folder) = self.to.folder.clone() {
            let name = format!("{}.ndjson", crate::hex(&delivery.result_sha256));
            let written = blocking(move || put(&folder, &name, &bundle)).await;
            written.map_err(|e| Failure::again(format!("fhir.folder cannot be written: {e}")))?;
            return Ok(Sent::default());
        }
        let body = bundle.to_string();
        let entries = bundle["entry"].as_array().map_or(0, Vec::len);
        for _ in 0..=WAITS_MAX {
            match self.post(body.clone(), entries, &subject).await? {
                Said::Taken => return Ok(Sent::default()),
                Said::Wait(pause) => tokio::time::sleep(pause).await,
            }
        }
        Err(Failure::again("it asks to be waited for, again and again").into())
    }

    /// What earlier versions of the study stated there.
    async fn earlier(&self, delivery: i64) -> Result<Vec<Statement>, Failure> {
        let said = self.store.said_before(delivery).await.map_err(journal)?;
        let read = said.iter().map(|said| serde_json::from_str::<Vec<Statement>>(said));
        let read = read.collect::<Result<Vec<_>, _>>();
        Ok(read
            .map_err(|_| Failure::for_good("what was said before is in no format that this version knows"))?
            .concat())
    }

    async fn post(&self, body: String, entries: usize, subject: &Subject) -> Result<Said, Trouble> {
        let base = self.to.url.as_deref().unwrap_or_default();
        let mut request = self.client.post(base).header(CONTENT_TYPE, FHIR_JSON).header(ACCEPT, FHIR_JSON);
        // That it is there is enough to know.
        request = request.header("Prefer", "return=minimal").body(body);
        if let Some(token) = &self.token {
            request = request.bearer_auth(token);
        }
        let answer = request.send().await.map_err(|e| self.not_sent(e))?;
        let status = answer.status();
        let wait = answer.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok());
        let wait = wait.and_then(|text| pause(text, Utc::now()));
        let read = self.read(answer).await;
        if status.is_success() {
            // Only a whole answer says that all of it was done.
            let all = done(&read?, entries);
            return all.map(|()| Said::Taken).map_err(|e| Failure::again(e).into());
        }
        let may_wait = matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE);
        match wait {
            Some(pause) if may_wait && pause <= Duration::from_millis(self.to.retry_after_max_ms) => {
                return Ok(Said::Wait(pause));
            }
            _ => {}
        }
        // Of a refusal the status says enough, should the rest be cut.
        let why =
            read.ok().and_then(|body| outcome::told(&body, subject)).map(|why| format!(": {why}")).unwrap_or_default();
        let text = format!("it answers with status {}{why}", status.as_u16());
        let failure = if stays(status) { Failure::for_good(text) } else { Failure::again(text) };
        Err(failure.into())
    }

    /// The body, which must be whole and within its limit.
    async fn read(&self, mut answer: reqwest::Response) -> Result<Vec<u8>, Failure> {
        let most = usize::try_from(self.to.answer_max_kib << 10).unwrap_or(usize::MAX);
        let mut body = Vec::new();
        loop {
            match answer.chunk().await {
                Ok(Some(piece)) if body.len() + piece.len() <= most => body.extend_from_slice(&piece),
                Ok(Some(_)) => return Err(Failure::again("its answer is larger than fhir.answer_max_kib")),
                Ok(None) => return Ok(body),
                Err(_) => return Err(Failure::again("its answer was cut off")),
            }
        }
    }

    fn not_sent(&self, error: reqwest::Error) -> Trouble {
        let connects = error.is_connect();
        let text = match error.is_timeout() {
            true => format!("it did not answer within destinations.timeout_ms = {}", self.timeout_ms),
            false => crate::printable(&error.without_url().to_string()),
        };
        if connects { Trouble::Unreachable(text) } else { Failure::again(text).into() }
    }
}

/// How long Retry-After asks to be waited for: seconds, or a date (RFC 9110 section 10.2.3). A date that is over asks for nothing.
fn pause(text: &str, now: DateTime<Utc>) -> Option<Duration> {
    let text = text.trim();
    if let Ok(seconds) = text.parse::<u32>() {
        return Some(Duration::from_secs(seconds.into()));
    }
    let until = text.strip_suffix(" GMT").and_then(|date| {
        // As every server writes it, and two ways of old (RFC 9110 section 5.6.7), of which the last has no zone.
        ["%a, %d %b %Y %H:%M:%S", "%A, %d-%b-%y %H:%M:%S"]
            .iter()
            .find_map(|form| NaiveDateTime::parse_from_str(date, form).ok())
    });
    let until = until.or_else(|| NaiveDateTime::parse_from_str(text, "%a %b %e %H:%M:%S %Y").ok())?;
    Some(until.and_utc().signed_duration_since(now).to_std().unwrap_or_default())
}

fn journal(error: StoreError) -> Failure {
    Failure::again(error.to_string())
}

/// What the message itself is to blame for. What says that the server is not as it was configured, or busy with the same, may
/// pass once somebody looked.
fn stays(status: StatusCode) -> bool {
    status.is_client_error()
        && !matches!(status.as_u16(), 401 | 403 | 404 | 405 | 407 | 408 | 409 | 421 | 423 | 425 | 429)
}

/// Whether an answer says of each entry that it is there.
fn done(body: &[u8], entries: usize) -> Result<(), String> {
    let unsound = || {
        "it says that all went well, and not of what: its answer is no Bundle of type transaction-response".to_owned()
    };
    let answer: Value = serde_json::from_slice(body).map_err(|_| unsound())?;
    let answered = answer["entry"].as_array().ok_or_else(unsound)?;
    if answer["resourceType"] != "Bundle" || answer["type"] != "transaction-response" || answered.len() != entries {
        return Err(unsound());
    }
    let well = |entry: &&Value| entry["response"]["status"].as_str().is_some_and(|status| status.starts_with('2'));
    match answered.iter().filter(|entry| !well(entry)).count() {
        0 => Ok(()),
        n => Err(format!("it says that {n} of {entries} entries did not go in")),
    }
}

/// A file of one line, whole or not at all; it takes the place of one with the same result.
fn put(folder: &Path, name: &str, bundle: &Value) -> std::io::Result<()> {
    let mut file = tempfile::NamedTempFile::with_prefix_in(".gantry-", folder)?;
    writeln!(file, "{bundle}")?;
    file.as_file().sync_all()?;
    file.persist(folder.join(name)).map_err(|e| e.error)?;
    std::fs::File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests;
