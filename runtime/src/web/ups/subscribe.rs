//! Who is told of workitems (PS3.18 sections 11.10 to 11.12).

use std::sync::Arc;

use axum::Extension;
use axum::body::Body;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, HeaderValue, Response, StatusCode, header};

use super::super::error::WebError;
use super::super::qido::{DICOM_JSON, Parameters};
use super::super::{Caller, Shared, answer, warning};
use super::{ALL, Answer, FILTERED};
use crate::store::Subscribed;

/// What somebody is told of.
enum Target {
    All,
    One(i64),
}

impl Target {
    fn workitem(&self) -> Option<i64> {
        match self {
            Self::All => None,
            Self::One(id) => Some(*id),
        }
    }
}

async fn target(shared: &Shared, text: &str) -> Result<Target, WebError> {
    match text {
        ALL => Ok(Target::All),
        FILTERED => Err(WebError::Workitem {
            status: StatusCode::FORBIDDEN,
            warning: "Filtered Worklist Subscriptions are not supported.",
        }),
        _ => Ok(Target::One(shared.workitem(text).await?.id)),
    }
}

/// An AE title (PS3.5 table 6.2-1).
pub(super) fn ae_title(text: &str) -> Result<String, WebError> {
    let text = text.trim_matches(' ');
    let plain = |b: u8| (0x20..0x7F).contains(&b) && b != b'\\';
    match (1..=16).contains(&text.len()) && text.bytes().all(plain) {
        true => Ok(text.to_owned()),
        false => Err(WebError::BadRequest("an AE title is 1 to 16 characters of ASCII, without `\\`".into())),
    }
}

/// Whether a deletion lock is asked for.
fn wants_lock(parameters: &Parameters) -> Result<bool, WebError> {
    let mut lock = false;
    for (name, value) in parameters {
        lock = match (name.as_str(), value.as_str()) {
            ("deletionlock", "true") => true,
            ("deletionlock", "false") => false,
            ("deletionlock", _) => return Err(WebError::BadRequest("deletionlock is true or false".into())),
            _ => return Err(WebError::BadRequest("a parameter is none that is known here".into())),
        };
    }
    Ok(lock)
}

pub(super) async fn subscribe(
    State(shared): State<Arc<Shared>>,
    Extension(caller): Extension<Caller>,
    Path((workitem, title)): Path<(String, String)>,
    Query(parameters): Query<Parameters>,
    headers: HeaderMap,
) -> Answer {
    let title = ae_title(&title)?;
    let target = target(&shared, &workitem).await?;
    let lock = wants_lock(&parameters)?;
    let maximum = shared.worklist.subscriptions_max;
    match shared.store.subscribe(&title, target.workitem(), &caller.name, maximum).await? {
        Subscribed::Yes => {}
        Subscribed::TooMany => return Err(WebError::LimitReached { limit: "worklist.subscriptions_max", maximum }),
        Subscribed::NoSuchWorkitem => return Err(WebError::NotFound("workitem")),
    }
    if let Target::One(id) = target
        && let Some(row) = shared.store.workitem(id).await?
    {
        shared.channels.tell_state(&title, &row);
    }
    let mut response = empty(StatusCode::CREATED);
    let url = shared.base_url(&headers).replacen("http", "ws", 1);
    let url = format!("{url}/subscribers/{}", escaped(&title));
    if let Ok(url) = HeaderValue::from_str(&url) {
        response.headers_mut().insert(header::CONTENT_LOCATION, url);
    }
    // Workitems are not deleted, and a lock would have all of them told at once.
    if lock {
        response.headers_mut().append(header::WARNING, warning("Deletion Lock not granted."));
    }
    Ok(response)
}

pub(super) async fn unsubscribe(
    State(shared): State<Arc<Shared>>,
    Extension(caller): Extension<Caller>,
    Path((workitem, title)): Path<(String, String)>,
) -> Answer {
    let title = ae_title(&title)?;
    let target = target(&shared, &workitem).await?;
    match shared.store.unsubscribe(&title, target.workitem(), &caller.name).await? {
        true => Ok(empty(StatusCode::OK)),
        false => Err(WebError::NotFound("subscription")),
    }
}

pub(super) async fn suspend(
    State(shared): State<Arc<Shared>>,
    Extension(caller): Extension<Caller>,
    Path((workitem, title)): Path<(String, String)>,
) -> Answer {
    let title = ae_title(&title)?;
    let suspended = match target(&shared, &workitem).await? {
        Target::All => shared.store.suspend(&title, &caller.name).await?,
        Target::One(_) => return Err(WebError::BadRequest("only a subscription to all workitems is suspended".into())),
    };
    if suspended { Ok(empty(StatusCode::OK)) } else { Err(WebError::NotFound("subscription")) }
}

fn empty(status: StatusCode) -> Response<Body> {
    let mut response = answer(status, DICOM_JSON, Body::empty());
    response.headers_mut().remove(header::CONTENT_TYPE);
    response
}

/// In a path of a URL.
fn escaped(title: &str) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-._~".contains(&b);
    title.bytes().map(|b| if plain(b) { char::from(b).to_string() } else { format!("%{b:02X}") }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_title_is_one() {
        assert_eq!(ae_title(" RIS 1 ").expect("a title"), "RIS 1");
        assert_eq!(escaped("RIS 1/2"), "RIS%201%2F2");
        for wrong in ["", "  ", "SEVENTEEN-LETTERS", "A\\B", "A\nB", "Ä"] {
            assert!(ae_title(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn a_lock_is_asked_for_in_one_way() {
        let parse = |name: &str, value: &str| wants_lock(&vec![(name.to_owned(), value.to_owned())]);
        assert!(parse("deletionlock", "true").expect("sound") && !parse("deletionlock", "false").expect("sound"));
        for (name, value) in [("deletionlock", "yes"), ("deletionlock", ""), ("lock", "true"), ("PatientID", "1")] {
            assert!(parse(name, value).is_err(), "{name}={value}");
        }
    }
}
