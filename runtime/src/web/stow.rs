//! STOW-RS (PS3.18 section 10.5): instances come in, each is answered for.
//!
//! Parts go to the disk as they come. What was stored before a request failed stays; sent again, it is the same.

use std::collections::BTreeMap;
use std::io::Write;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Extension;
use axum::body::Body;
use axum::extract::{Path, Request, State};
use axum::http::{HeaderMap, HeaderValue, Response, StatusCode, header};
use bytes::Bytes;
use flate2::write::GzDecoder;
use http_body_util::BodyExt;
use serde_json::{Map, Value, json};

use super::accept::{Media, accepted, choose};
use super::error::{RETRY_AFTER_SECONDS, WebError};
use super::multipart::{Event, Headers, Parser};
use super::pace::Pace;
use super::{Caller, Shared, answer, uid};
use crate::ingest::{Arrival, Form, Incoming, Intake, Refused, Stored, Uid, Via};

const DICOM: &str = "application/dicom";
const DICOM_JSON: &str = "application/dicom+json";
/// File meta information lies within: what failed is named from it.
const HEAD_BYTES: usize = 4096;
/// Compressed bytes that are inflated at once: 1,032 times as many at most come out.
const INFLATE_BYTES: usize = 4096;

pub(super) async fn store(
    State(shared): State<Arc<Shared>>,
    Extension(caller): Extension<Caller>,
    request: Request,
) -> Result<Response<Body>, WebError> {
    take(&shared, &caller, None, request).await
}

pub(super) async fn store_in_study(
    State(shared): State<Arc<Shared>>,
    Extension(caller): Extension<Caller>,
    Path(study): Path<String>,
    request: Request,
) -> Result<Response<Body>, WebError> {
    take(&shared, &caller, Some(uid(&study)?), request).await
}

async fn take(
    shared: &Shared,
    caller: &Caller,
    study: Option<Uid>,
    request: Request,
) -> Result<Response<Body>, WebError> {
    let (head, body) = request.into_parts();
    choose(&accepted(&head.headers, None)?, &[DICOM_JSON])?;
    let parser = parser(&head.headers)?;
    let source = Source::new(shared, &head.headers, body)?;
    let arrival = Arrival::new(Via::Stow, &caller.name);
    // However this ends, also when the client goes away: nothing more comes of it.
    let _ended = Ended { intake: shared.intake.clone(), arrival: arrival.clone() };
    let form = study.clone().map_or(Form::File, Form::FileOfStudy);
    let mut taking = Taking { shared, arrival, form, outcomes: Vec::new(), part: None };
    let came = taking.all(parser, source).await;
    taking.log_refused();
    came?;
    let base = shared.base_url(&head.headers);
    taking.report(&base, study.as_ref())
}

/// Says that a request ended.
struct Ended {
    intake: Intake,
    arrival: Arrival,
}

impl Drop for Ended {
    fn drop(&mut self) {
        self.intake.ended(&self.arrival);
    }
}

fn parser(headers: &HeaderMap) -> Result<Parser, WebError> {
    let refused = || {
        WebError::UnsupportedMediaType(
            "the body must be multipart/related; type=\"application/dicom\"; boundary=…".into(),
        )
    };
    let kind = headers.get(header::CONTENT_TYPE).and_then(|v| v.to_str().ok()).and_then(Media::parse);
    let kind = kind.filter(|m| m.kind == "multipart/related").ok_or_else(refused)?;
    if kind.parameter("type").is_some_and(|parts| !parts.eq_ignore_ascii_case(DICOM)) {
        return Err(refused());
    }
    Ok(Parser::new(kind.parameter("boundary").unwrap_or_default())?)
}

/// A body, within its limits, inflated when it must be.
struct Source<'a> {
    shared: &'a Shared,
    body: Body,
    pace: Pace,
    received: u64,
    gzip: Option<Gzip>,
}

struct Gzip {
    decoder: GzDecoder<Vec<u8>>,
    pending: Bytes,
    inflated: u64,
}

impl<'a> Source<'a> {
    fn new(shared: &'a Shared, headers: &HeaderMap, body: Body) -> Result<Self, WebError> {
        let coding = headers.get(header::CONTENT_ENCODING).map(|v| v.to_str().unwrap_or_default().to_ascii_lowercase());
        let gzip = match coding.as_deref() {
            None | Some("identity") => None,
            Some("gzip" | "x-gzip") => {
                Some(Gzip { decoder: GzDecoder::new(Vec::new()), pending: Bytes::new(), inflated: 0 })
            }
            Some(_) => {
                let text = "Content-Encoding must be gzip, or the body as it is";
                return Err(WebError::UnsupportedMediaType(text.into()));
            }
        };
        let pace = Pace::new(Duration::from_millis(shared.config.idle_timeout_ms));
        Ok(Self { shared, body, pace, received: 0, gzip })
    }

    /// The next piece, `None` at the end.
    async fn next(&mut self) -> Result<Option<Bytes>, WebError> {
        loop {
            if let Some(gzip) = &mut self.gzip
                && !gzip.pending.is_empty()
            {
                let piece = gzip.inflate(self.shared.config.inflated_max_mib)?;
                if !piece.is_empty() {
                    return Ok(Some(piece));
                }
                continue;
            }
            let Some(piece) = self.received().await? else {
                return match &mut self.gzip {
                    Some(gzip) => gzip.end(),
                    None => Ok(None),
                };
            };
            match &mut self.gzip {
                Some(gzip) => gzip.pending = piece,
                None => return Ok(Some(piece)),
            }
        }
    }

    async fn received(&mut self) -> Result<Option<Bytes>, WebError> {
        loop {
            let since = Instant::now();
            let frame = tokio::time::timeout(self.pace.left(), self.body.frame()).await;
            let frame = frame.map_err(|_| WebError::TimedOut)?;
            self.pace.waited(since.elapsed());
            let Some(frame) = frame else { return Ok(None) };
            let frame = frame.map_err(|_| WebError::BadRequest("the body ends before its end".into()))?;
            // Trailers say nothing here.
            let Ok(piece) = frame.into_data() else { continue };
            self.pace.moved(piece.len());
            self.received = self.received.saturating_add(piece.len() as u64);
            let maximum = self.shared.config.request_max_mib;
            if self.received > maximum << 20 {
                return Err(WebError::TooLarge { limit: "web.request_max_mib", maximum });
            }
            if !piece.is_empty() {
                return Ok(Some(piece));
            }
        }
    }
}

impl Gzip {
    fn inflate(&mut self, maximum: u64) -> Result<Bytes, WebError> {
        let piece = self.pending.split_to(self.pending.len().min(INFLATE_BYTES));
        self.decoder.write_all(&piece).map_err(|_| no_gzip())?;
        let inflated = std::mem::take(self.decoder.get_mut());
        self.inflated = self.inflated.saturating_add(inflated.len() as u64);
        if self.inflated > maximum << 20 {
            return Err(WebError::TooLarge { limit: "web.inflated_max_mib", maximum });
        }
        Ok(inflated.into())
    }

    /// What is left, once.
    fn end(&mut self) -> Result<Option<Bytes>, WebError> {
        self.decoder.try_finish().map_err(|_| no_gzip())?;
        let left = std::mem::take(self.decoder.get_mut());
        Ok((!left.is_empty()).then(|| left.into()))
    }
}

fn no_gzip() -> WebError {
    WebError::BadRequest("the body is not whole gzip, as its Content-Encoding says".into())
}

/// A request that is being taken in.
struct Taking<'a> {
    shared: &'a Shared,
    arrival: Arrival,
    form: Form,
    outcomes: Vec<Outcome>,
    part: Option<Part>,
}

/// A part that is being taken in.
struct Part {
    /// What is refused is read to its end, for others may follow, and not kept.
    incoming: Result<Box<Incoming>, Failure>,
    /// Of that, bytes so far.
    unkept: u64,
    head: Vec<u8>,
}

/// What became of a part.
enum Outcome {
    Stored(Stored),
    /// With SOP Class and SOP Instance UID, when they can be told.
    Failed(Failure, Option<(Uid, Uid)>),
}

/// Why a part was not stored.
enum Failure {
    Refused(Refused),
    /// It is not announced as application/dicom.
    NoDicom,
}

impl Taking<'_> {
    async fn all(&mut self, mut parser: Parser, mut source: Source<'_>) -> Result<(), WebError> {
        while let Some(piece) = source.next().await? {
            parser.push(&piece);
            while let Some(event) = parser.event()? {
                match event {
                    Event::Part(headers) => self.begin(&headers)?,
                    Event::Data(data) => self.write(&data).await?,
                    Event::PartEnd => self.end().await,
                    Event::End => return Ok(()),
                }
            }
        }
        Ok(parser.finish()?)
    }

    fn begin(&mut self, headers: &Headers) -> Result<(), WebError> {
        let maximum = self.shared.config.parts_max as u64;
        if self.outcomes.len() as u64 >= maximum {
            return Err(WebError::TooLarge { limit: "web.parts_max", maximum });
        }
        // Without a header of its own, a part is what the whole says.
        let kind = headers.get("content-type").map(Media::parse);
        let dicom = kind.is_none_or(|kind| kind.is_some_and(|kind| kind.kind == DICOM));
        let coding = headers.get("content-transfer-encoding").unwrap_or("binary").to_ascii_lowercase();
        let incoming = match dicom && matches!(coding.as_str(), "binary" | "8bit" | "7bit") {
            true => self.shared.intake.begin(&self.arrival, self.form.clone()).map(Box::new).map_err(Failure::Refused),
            false => Err(Failure::NoDicom),
        };
        self.part = Some(Part { incoming, unkept: 0, head: Vec::new() });
        Ok(())
    }

    async fn write(&mut self, data: &[u8]) -> Result<(), WebError> {
        let Some(part) = &mut self.part else { return Ok(()) };
        let room = HEAD_BYTES.saturating_sub(part.head.len()).min(data.len());
        part.head.extend_from_slice(&data[..room]);
        match &mut part.incoming {
            Ok(incoming) => {
                if let Err(refused) = incoming.write(data).await {
                    part.incoming = Err(Failure::Refused(refused));
                }
            }
            Err(_) => part.unkept += data.len() as u64,
        }
        // One that never ends is not read for ever.
        let maximum = self.shared.options.file_max_mib;
        match part.unkept > maximum << 20 {
            true => Err(WebError::TooLarge { limit: "limits.file_max_mib", maximum }),
            false => Ok(()),
        }
    }

    async fn end(&mut self) {
        let Some(part) = self.part.take() else { return };
        let stored = match part.incoming {
            Ok(incoming) => incoming.finish().await.map_err(Failure::Refused),
            Err(failure) => Err(failure),
        };
        self.outcomes.push(match stored {
            Ok(stored) => Outcome::Stored(stored),
            Err(failure) => Outcome::Failed(failure, announced(&part.head)),
        });
    }

    /// One line for each reason: a full disk is no line for every image.
    fn log_refused(&self) {
        let mut reasons = BTreeMap::new();
        for outcome in &self.outcomes {
            if let Outcome::Failed(Failure::Refused(refused), _) = outcome {
                reasons.entry(refused.reason()).or_insert((refused, 0_u64)).1 += 1;
            }
        }
        for (reason, (refused, instances)) in reasons {
            let (source, correlation) = (&self.arrival.source, &self.arrival.correlation);
            tracing::warn!(source, correlation, reason, instances, "instances refused; the first: {refused}");
        }
    }

    /// The response of PS3.18 section 10.5.3.
    fn report(&self, base: &str, study: Option<&Uid>) -> Result<Response<Body>, WebError> {
        if self.outcomes.is_empty() {
            return Err(WebError::BadRequest("the body has no part".into()));
        }
        let (mut stored, mut failed, mut others) = (Vec::new(), Vec::new(), Vec::new());
        let (mut ours, mut large) = (true, true);
        let mut studies: Vec<&str> = study.map(Uid::as_str).into_iter().collect();
        for outcome in &self.outcomes {
            match outcome {
                Outcome::Stored(s) => {
                    let url = format!(
                        "{base}/studies/{}/series/{}/instances/{}",
                        s.study_instance_uid, s.series_instance_uid, s.sop_instance_uid
                    );
                    let mut item = reference(&s.sop_class_uid, &s.sop_instance_uid);
                    item.insert("00081190".into(), element("UR", json!(url)));
                    stored.push(Value::Object(item));
                    studies.push(&s.study_instance_uid);
                }
                Outcome::Failed(failure, uids) => {
                    ours &= failure.is_ours();
                    large &= matches!(failure, Failure::Refused(Refused::TooLarge { .. }));
                    let list = if uids.is_some() { &mut failed } else { &mut others };
                    let named = uids.as_ref().map(|(class, instance)| reference(class.as_str(), instance.as_str()));
                    let mut item = named.unwrap_or_default();
                    item.insert("00081197".into(), element("US", json!(failure.reason())));
                    list.push(Value::Object(item));
                }
            }
        }
        let all = failed.is_empty() && others.is_empty();
        let status = match (stored.is_empty(), all) {
            (false, true) => StatusCode::OK,
            (false, false) => StatusCode::ACCEPTED,
            _ if ours => StatusCode::SERVICE_UNAVAILABLE,
            _ if large => StatusCode::PAYLOAD_TOO_LARGE,
            _ => StatusCode::CONFLICT,
        };
        let mut report = Map::new();
        studies.dedup();
        if let [study] = studies[..] {
            report.insert("00081190".into(), element("UR", json!(format!("{base}/studies/{study}"))));
        }
        for (tag, items) in [("00081198", failed), ("00081199", stored), ("0008119A", others)] {
            if !items.is_empty() {
                report.insert(tag.into(), json!({"vr": "SQ", "Value": items}));
            }
        }
        let mut response = answer(status, DICOM_JSON, Value::Object(report).to_string());
        if status == StatusCode::SERVICE_UNAVAILABLE {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static(RETRY_AFTER_SECONDS));
        }
        Ok(response)
    }
}

impl Failure {
    /// Failure Reason (0008,1197), PS3.18 annex I.2.2.
    fn reason(&self) -> u16 {
        match self {
            Self::Refused(refused) => refused.code(),
            Self::NoDicom => Refused::CANNOT_UNDERSTAND,
        }
    }

    /// The host's, for now: the same may be stored later.
    fn is_ours(&self) -> bool {
        matches!(self, Self::Refused(Refused::OutOfSpace { .. } | Refused::Disk(_) | Refused::Stopping))
    }
}

fn element(vr: &str, value: Value) -> Value {
    json!({"vr": vr, "Value": [value]})
}

fn reference(class: &str, instance: &str) -> Map<String, Value> {
    let pairs = [("00081150", class), ("00081155", instance)];
    pairs.into_iter().map(|(tag, uid)| (tag.to_owned(), element("UI", json!(uid)))).collect()
}

/// Media Storage SOP Class UID and SOP Instance UID of the file meta information (PS3.10 section 7.1) at the start of a
/// file.
fn announced(head: &[u8]) -> Option<(Uid, Uid)> {
    let mut rest = head.get(128..)?.strip_prefix(b"DICM")?;
    let (mut class, mut instance) = (None, None);
    while let Some((&[2, 0, e0, e1, v0, v1, l0, l1], after)) = rest.split_first_chunk::<8>() {
        let (length, after) = if matches!(&[v0, v1], b"OB" | b"OW" | b"UN" | b"UT" | b"SQ") {
            let (long, after) = after.split_first_chunk::<4>()?;
            (usize::try_from(u32::from_le_bytes(*long)).ok()?, after)
        } else {
            (usize::from(u16::from_le_bytes([l0, l1])), after)
        };
        let (value, after) = after.split_at_checked(length)?;
        let uid = || std::str::from_utf8(value).ok().and_then(Uid::parse);
        match u16::from_le_bytes([e0, e1]) {
            0x0002 => class = uid(),
            0x0003 => instance = uid(),
            _ => {}
        }
        if class.is_some() && instance.is_some() {
            break;
        }
        rest = after;
    }
    class.zip(instance)
}
