//! UPS-RS (PS3.18 chapter 11): jobs as workitems of the Unified Procedure Step (PS3.4 annex CC), and event reports of them.
//!
//! ```text
//! GET  /workitems, /workitems/UID ─▶ search, outputs::workitem ─▶ DICOM JSON
//! POST …/cancelrequest ─▶ store: the job is cancelled ─┐
//! jobs that move ─ triggers ─▶ workitem_event ─────────┴─▶ events: watch ─▶ a WebSocket for each subscriber
//! POST, DELETE …/subscribers/AE ─▶ subscribe ─▶ store
//! ```
//!
//! Gantry performs its workitems itself: others can neither make nor claim nor change them, and may ask for their end.

mod events;
mod search;
mod subscribe;

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Path, Query, Request, State};
use axum::http::{HeaderMap, Response, StatusCode, header};
use axum::routing::{get, post, put};
use axum::{Extension, Router};
use dicom_dictionary_std::{tags, uids};
use dicom_object::InMemDicomObject;
use serde_json::{Map, Value};

pub(super) use self::events::{Channels, watch};
use super::accept::{accepted, choose};
use super::error::WebError;
use super::json::{JSON, body, parse};
use super::qido::{DICOM_JSON, Listed, Parameters};
use super::{Caller, Shared, answer, uid};
use crate::findings::Code;
use crate::ingest::blocking;
use crate::outputs::Written;
use crate::outputs::workitem::{self, Asked, Parts, Performer};
use crate::review;
use crate::store::{CancelAsked, Deliverable, WorkitemRow, WorkitemState};

/// UPS Push SOP Class: that of every workitem.
const UPS_PUSH: &str = uids::UNIFIED_PROCEDURE_STEP_PUSH;
/// UPS Global Subscription SOP Instance: all workitems.
const ALL: &str = "1.2.840.10008.5.1.4.34.5";
/// UPS Filtered Global Subscription SOP Instance.
const FILTERED: &str = "1.2.840.10008.5.1.4.34.5.1";

type Answer = Result<Response<Body>, WebError>;

pub(super) fn router() -> Router<Arc<Shared>> {
    let workitem = "/dicom-web/workitems/{workitem}";
    let subscriber = "/dicom-web/workitems/{workitem}/subscribers/{aetitle}";
    Router::new()
        .route("/dicom-web/workitems", get(search::workitems))
        .route(workitem, get(retrieve))
        .route(&format!("{workitem}/state"), put(change_state))
        .route(&format!("{workitem}/cancelrequest"), post(request_cancellation))
        .route(subscriber, post(subscribe::subscribe).delete(subscribe::unsubscribe))
        .route(&format!("{subscriber}/suspend"), post(subscribe::suspend))
        .route("/dicom-web/subscribers/{aetitle}", get(events::open))
}

impl Shared {
    /// The workitem of a UID in a path.
    async fn workitem(&self, text: &str) -> Result<WorkitemRow, WebError> {
        let id = self.channels.prefix.workitem(uid(text)?.as_str()).ok_or(WebError::NotFound("workitem"))?;
        self.store.workitem(id).await?.ok_or(WebError::NotFound("workitem"))
    }

    /// What all workitems have alike.
    fn performer(&self) -> Performer<'_> {
        Performer { ae_title: &self.ae_title, label: &self.worklist.label, prefix: self.channels.prefix }
    }

    /// What a retrieved workitem tells beside what a search does.
    async fn parts(&self, row: &WorkitemRow) -> Result<Parts, WebError> {
        let job = &row.job;
        // Of a version of which instances were replaced since, it cannot be told which they were.
        let input =
            self.store.instances_of_version(&job.study_instance_uid, job.study_version).await?.unwrap_or_default();
        let (mut output, mut title) = (Vec::new(), None);
        if let (WorkitemState::Completed, Deliverable::Now, Some(path)) = (row.state, row.deliverable, &job.result_path)
        {
            let (folder, sha256) = (self.data.join(path), self.store.result_sha256(job).await?);
            let opened = blocking(move || review::open(&folder, sha256)).await.map_err(|e| WebError::internal(&e))?;
            title = opened.result.pointer("/module/title").and_then(Value::as_str).map(str::to_owned);
            output = outputs(&opened.result)?;
        }
        Ok(Parts { input, output, title })
    }
}

/// The files of a result.
pub(super) fn outputs(result: &Value) -> Result<Vec<Written>, WebError> {
    let outputs = result.get("outputs").cloned().unwrap_or_default();
    serde_json::from_value(outputs).map_err(|e| WebError::internal(&e))
}

/// Retrieve Workitem (section 11.5).
async fn retrieve(
    State(shared): State<Arc<Shared>>,
    Path(text): Path<String>,
    Query(parameters): Query<Parameters>,
    headers: HeaderMap,
) -> Answer {
    let accept = parameters.iter().find(|(name, _)| name == "accept").map(|(_, value)| value.as_str());
    let kind = choose(&accepted(&headers, accept)?, &[DICOM_JSON, JSON])?;
    let row = shared.workitem(&text).await?;
    let parts = shared.parts(&row).await?;
    let workitem = workitem::workitem(shared.performer(), &row, Some((&parts, &shared.base_url(&headers))));
    let mut response = answer(StatusCode::OK, kind, Value::Array(vec![json(&workitem)?.into()]).to_string());
    let study_instance_uid = Some(row.job.study_instance_uid);
    response.extensions_mut().insert(Listed { study_instance_uid, detail: "a workitem".into() });
    Ok(response)
}

/// A data set of ours in DICOM JSON (PS3.18 annex F): in order of tags, without what stands for no value.
fn json(object: &InMemDicomObject) -> Result<Map<String, Value>, WebError> {
    fn plain(object: &mut Map<String, Value>) {
        for element in object.values_mut().filter_map(Value::as_object_mut) {
            let values = element.get_mut("Value").and_then(Value::as_array_mut);
            let empty = values.is_some_and(|values| {
                values.iter_mut().for_each(|value| match value {
                    Value::Object(item) => plain(item),
                    Value::String(text) if text.is_empty() => *value = Value::Null,
                    _ => {}
                });
                values.iter().all(Value::is_null)
            });
            if empty {
                element.remove("Value");
            }
        }
        object.sort_keys();
    }
    match dicom_json::to_value(object).map_err(|e| WebError::internal(&e))? {
        Value::Object(mut object) => {
            plain(&mut object);
            Ok(object)
        }
        _ => Err(WebError::Internal),
    }
}

/// The name of an attribute in DICOM JSON.
fn key(tag: dicom_core::Tag) -> String {
    format!("{:04X}{:04X}", tag.group(), tag.element())
}

/// A data set in DICOM JSON: by itself, or as the only one of a list.
fn data_set(bytes: &[u8]) -> Result<Map<String, Value>, WebError> {
    match parse(bytes)? {
        Value::Object(object) => Ok(object),
        Value::Array(list) => match <[Value; 1]>::try_from(list) {
            Ok([Value::Object(object)]) => Ok(object),
            _ => Err(WebError::BadRequest("the body is no list of one data set".into())),
        },
        _ => Err(WebError::BadRequest("the body is no data set in DICOM JSON".into())),
    }
}

/// The only value of an attribute, as text.
fn text(object: &Map<String, Value>, tag: dicom_core::Tag, most: usize) -> Result<Option<&str>, WebError> {
    let Some(element) = object.get(&key(tag)) else { return Ok(None) };
    let values = match element.get("Value") {
        None => return Ok(None),
        Some(values) => values.as_array(),
    };
    match values.map(Vec::as_slice) {
        Some([]) => Ok(None),
        Some([Value::String(text)]) if text.chars().count() <= most && !text.contains('\0') => Ok(Some(text)),
        _ => Err(WebError::BadRequest(format!("{tag} is no text of at most {most} characters"))),
    }
}

/// Change Workitem State (section 11.7). Gantry is the performer: it holds the Transaction UID, and nobody else has it.
async fn change_state(State(shared): State<Arc<Shared>>, Path(name): Path<String>, request: Request) -> Answer {
    let (head, sent) = request.into_parts();
    let row = shared.workitem(&name).await?;
    let sent = data_set(&body(&shared, &head.headers, sent, &[DICOM_JSON, JSON]).await?)?;
    let wanted = text(&sent, tags::PROCEDURE_STEP_STATE, 16)?;
    let wanted = WorkitemState::ALL.into_iter().find(|state| Some(state.name()) == wanted);
    let transaction = text(&sent, tags::TRANSACTION_UID, 64)?;
    let refused = |status, warning| Err(WebError::Workitem { status, warning });
    match (row.state, wanted) {
        (_, None | Some(WorkitemState::Scheduled)) => Err(WebError::BadRequest(
            "Procedure Step State (0074,1000) must be IN PROGRESS, COMPLETED or CANCELED".into(),
        )),
        (WorkitemState::Completed, Some(WorkitemState::Completed)) => {
            Ok(warned(StatusCode::OK, "The UPS is already in the requested state of COMPLETED."))
        }
        (WorkitemState::Canceled, Some(WorkitemState::Canceled)) => {
            Ok(warned(StatusCode::OK, "The UPS is already in the requested state of CANCELED."))
        }
        _ if transaction.is_none() => refused(StatusCode::BAD_REQUEST, "The Transaction UID is missing."),
        (WorkitemState::InProgress, Some(WorkitemState::Completed | WorkitemState::Canceled)) => {
            refused(StatusCode::CONFLICT, "The Transaction UID is incorrect.")
        }
        _ => refused(StatusCode::CONFLICT, "The submitted request is inconsistent with the state of the UPS Instance."),
    }
}

/// An answer without a body.
fn warned(status: StatusCode, warning: &str) -> Response<Body> {
    let mut response = answer(status, DICOM_JSON, Body::empty());
    response.headers_mut().remove(header::CONTENT_TYPE);
    response.headers_mut().append(header::WARNING, super::warning(warning));
    response
}

/// Request Cancellation (section 11.8).
async fn request_cancellation(
    State(shared): State<Arc<Shared>>,
    Extension(caller): Extension<Caller>,
    Path(name): Path<String>,
    Query(parameters): Query<Parameters>,
    request: Request,
) -> Answer {
    let (head, sent) = request.into_parts();
    let requester = parameters.iter().find(|(name, _)| name == "requester").map(|(_, value)| value.as_str());
    let requester = requester.map(subscribe::ae_title).transpose()?;
    let row = shared.workitem(&name).await?;
    let sent = body(&shared, &head.headers, sent, &[DICOM_JSON, JSON]).await?;
    let sent = if sent.is_empty() { Map::new() } else { data_set(&sent)? };
    let requester = requester.unwrap_or_else(|| as_ae_title(&caller.name));
    let told = json(&workitem::cancellation(&requester, &asked(&sent)?))?;
    match shared.store.cancel_workitem(row.id, &caller.name, &Value::Object(told).to_string()).await? {
        CancelAsked::Yes => Ok(answer(StatusCode::ACCEPTED, DICOM_JSON, Body::empty())),
        CancelAsked::AlreadyCanceled => {
            Ok(warned(StatusCode::ACCEPTED, "The UPS is already in the requested state of CANCELED."))
        }
        CancelAsked::Completed => {
            Err(WebError::Workitem { status: StatusCode::CONFLICT, warning: "The UPS is already COMPLETED." })
        }
        CancelAsked::NoSuchWorkitem => Err(WebError::NotFound("workitem")),
    }
}

/// What is told of a request, and nothing else of it.
fn asked(sent: &Map<String, Value>) -> Result<Asked, WebError> {
    let part = |tag, most| Ok::<_, WebError>(text(sent, tag, most)?.map(str::to_owned));
    let reasons = sent.get(&key(tags::PROCEDURE_STEP_DISCONTINUATION_REASON_CODE_SEQUENCE));
    let codes = match reasons.and_then(|element| element.get("Value")) {
        Some(Value::Array(codes)) => Some(codes.iter().map(code).collect::<Result<_, _>>()?),
        _ => None,
    };
    Ok(Asked {
        reason: part(tags::REASON_FOR_CANCELLATION, 10_240)?,
        contact: part(tags::CONTACT_DISPLAY_NAME, 64)?,
        contact_uri: part(tags::CONTACT_URI, 2048)?,
        codes,
    })
}

fn code(item: &Value) -> Result<Code, WebError> {
    let object = item.as_object().ok_or_else(|| WebError::BadRequest("a code is no data set".into()))?;
    let part = |tag, most| text(object, tag, most).map(Option::unwrap_or_default);
    let (value, scheme) = (part(tags::CODE_VALUE, 16)?, part(tags::CODING_SCHEME_DESIGNATOR, 16)?);
    Ok(Code::new(value, scheme, part(tags::CODE_MEANING, 64)?))
}

/// The name of a token or certificate, as far as it is an AE title.
fn as_ae_title(name: &str) -> String {
    let plain = name.rsplit(' ').next().unwrap_or_default().chars().filter(|c| c.is_ascii_graphic() && *c != '\\');
    let title: String = plain.take(16).collect();
    if title.is_empty() { "UNKNOWN".into() } else { title }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn of_a_request_only_what_the_standard_names_is_told() {
        let sent = json!({
            "00741238": {"vr": "LT", "Value": ["wrong patient"]},
            "0074100E": {"vr": "SQ", "Value": [{"00080100": {"vr": "SH", "Value": ["110514"]},
                "00080102": {"vr": "SH", "Value": ["DCM"]}, "00080104": {"vr": "LO", "Value": ["Incorrect worklist entry"]}}]},
            "00100010": {"vr": "PN", "Value": [{"Alphabetic": "Doe"}]},
        });
        let asked = super::asked;
        let told = asked(sent.as_object().expect("an object")).expect("sound");
        let told = super::json(&workitem::cancellation("RIS", &told)).expect("writes");
        assert_eq!(told.keys().collect::<Vec<_>>(), ["0074100E", "00741236", "00741238"]);
        assert_eq!(told["0074100E"]["Value"][0]["00080100"]["Value"][0], "110514");
        let long = "a".repeat(10_241);
        for wrong in [
            json!({"00741238": {"vr": "LT", "Value": [1]}}),
            json!({"00741238": {"vr": "LT", "Value": [long]}}),
            json!({"00741238": {"vr": "LT", "Value": ["a", "b"]}}),
            json!({"00741238": {"vr": "LT", "Value": {}}}),
            json!({"0074100E": {"vr": "SQ", "Value": ["x"]}}),
        ] {
            assert!(asked(wrong.as_object().expect("an object")).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_data_set_is_one_by_itself_or_in_a_list() {
        assert!(data_set(b"{}").is_ok() && data_set(b"[{}]").is_ok());
        for wrong in ["", "{", "[]", "[{},{}]", "[1]", "1", "null"] {
            assert!(matches!(data_set(wrong.as_bytes()), Err(WebError::BadRequest(_))), "{wrong}");
        }
        let deep = "[".repeat(100_000);
        assert!(data_set(deep.as_bytes()).is_err(), "and no stack overflows");
    }

    #[test]
    fn who_asks_has_a_title() {
        for (name, title) in [("token ris", "ris"), ("loopback", "loopback"), ("certificate \\", "UNKNOWN")] {
            assert_eq!(as_ae_title(name), title);
        }
        assert_eq!(as_ae_title("token a-name-of-more-than-sixteen").len(), 16);
    }
}
