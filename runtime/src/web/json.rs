//! Small requests: their parameters and their bodies.

use std::time::Duration;

use axum::body::Body;
use axum::http::{HeaderMap, Response, StatusCode, header};
use bytes::Bytes;
use http_body_util::{BodyExt, LengthLimitError, Limited};

use super::accept::Media;
use super::error::WebError;
use super::qido::{PARAMETERS_MAX, Parameters, number};
use super::{Shared, answer};

pub(super) const JSON: &str = "application/json";

/// Which part of a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Page {
    pub(super) limit: u32,
    pub(super) offset: u32,
}

impl Page {
    /// Takes `limit` and `offset` out of the parameters, and hands on the others to `other`, which says whether it knows one.
    pub(super) fn of(
        parameters: &Parameters,
        most: usize,
        mut other: impl FnMut(&str, &str) -> Result<bool, WebError>,
    ) -> Result<Self, WebError> {
        if parameters.len() > PARAMETERS_MAX {
            return Err(WebError::BadRequest(format!("more than {PARAMETERS_MAX} parameters")));
        }
        let most = u32::try_from(most).unwrap_or(u32::MAX);
        let mut page = Self { limit: most, offset: 0 };
        for (name, value) in parameters {
            match name.as_str() {
                "limit" => page.limit = number(name, value)?.min(most),
                "offset" => page.offset = number(name, value)?,
                _ if other(name, value)? => {}
                _ => return Err(WebError::BadRequest("a parameter is none that is known here".into())),
            }
        }
        Ok(page)
    }
}

/// The number of a job.
pub(super) fn job(text: &str) -> Result<i64, WebError> {
    text.parse().ok().filter(|id| *id > 0).ok_or(WebError::NotFound("job"))
}

/// The whole body of a request, of one of these types where there is one.
pub(super) async fn body(shared: &Shared, headers: &HeaderMap, body: Body, kinds: &[&str]) -> Result<Bytes, WebError> {
    let maximum = shared.worklist.request_max_kib;
    let most = usize::try_from(maximum << 10).unwrap_or(usize::MAX);
    let within = Duration::from_millis(shared.config.idle_timeout_ms);
    let read = tokio::time::timeout(within, Limited::new(body, most).collect()).await;
    let bytes = match read.map_err(|_| WebError::TimedOut)? {
        Ok(body) => body.to_bytes(),
        Err(e) if e.is::<LengthLimitError>() => {
            return Err(WebError::TooLarge { limit: "worklist.request_max_kib", maximum });
        }
        Err(_) => return Err(WebError::BadRequest("the body ends before its end".into())),
    };
    let kind = headers.get(header::CONTENT_TYPE).and_then(|v| v.to_str().ok()).and_then(Media::parse);
    // A page in a browser can send other types to anybody, without being asked for what it may.
    let is_kind = kind.is_some_and(|media| kinds.contains(&media.kind.as_str()));
    match bytes.is_empty() || is_kind {
        true => Ok(bytes),
        false => Err(WebError::UnsupportedMediaType(format!("the body must be {}", kinds.join(" or ")))),
    }
}

/// Reads one. The parser's own words may quote what it read.
pub(super) fn parse<T: serde::de::DeserializeOwned>(bytes: &[u8]) -> Result<T, WebError> {
    serde_json::from_slice(bytes).map_err(|e| {
        let problem = match e.classify() {
            serde_json::error::Category::Data => {
                "has a field that is missing, unknown or of another type, or a value that is none"
            }
            _ => "is no JSON",
        };
        WebError::BadRequest(format!("the body {problem} (line {}, column {})", e.line(), e.column()))
    })
}

/// An answer in JSON.
pub(super) fn json(status: StatusCode, value: &impl serde::Serialize) -> Result<Response<Body>, WebError> {
    let text = serde_json::to_string(value).map_err(|e| WebError::internal(&e))?;
    Ok(answer(status, JSON, text))
}
