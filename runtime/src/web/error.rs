//! What goes wrong with a request, as a status of PS3.18 section 8.5 and a problem of RFC 9457.

use axum::body::Body;
use axum::http::{HeaderName, HeaderValue, Response, StatusCode, header};
use axum::response::IntoResponse;

use super::multipart::MultipartError;
use crate::config::Scope;
use crate::store::StoreError;
use crate::study::ReadError;

/// How long to wait before trying again.
pub(super) const RETRY_AFTER_SECONDS: &str = "30";

/// Why a request is not served. Says no patient data.
#[derive(Debug, thiserror::Error)]
pub(super) enum WebError {
    /// The peer: not understood.
    #[error("{0}")]
    BadRequest(String),
    /// The peer: the body is not well-formed.
    #[error("{0}")]
    Multipart(#[from] MultipartError),
    /// The peer: nobody we know.
    #[error("{0}")]
    Unauthorized(&'static str),
    /// The peer: known, and not allowed to.
    #[error("this needs the scope {}, which the token or certificate does not have", .0.name())]
    Forbidden(Scope),
    /// The peer: a page of another site, in the browser of somebody who may know nothing of it.
    #[error(
        "a page of another site asks for this: its Origin must be the host that is asked, or that of web.public_url"
    )]
    OtherSite,
    /// The peer: nothing of this name here.
    #[error("no such {0}")]
    NotFound(&'static str),
    /// The peer: wants what there is not.
    #[error("{0}")]
    NotAcceptable(String),
    /// The peer: too slow.
    #[error("less than 64 KiB of the body came within web.idle_timeout_ms")]
    TimedOut,
    /// The peer: too much.
    #[error("the body passes {limit} = {maximum}")]
    TooLarge {
        /// Name of the limit.
        limit: &'static str,
        /// Its value.
        maximum: u64,
    },
    /// The peer: a form that is not taken.
    #[error("{0}")]
    UnsupportedMediaType(String),
    /// The peer: does not go with what is there.
    #[error("{0}")]
    Conflict(String),
    /// The peer: does not go with a workitem, for a reason that the standard words.
    #[error("{warning}")]
    Workitem {
        /// As PS3.18 chapter 11 has it.
        status: StatusCode,
        /// Of the Warning header.
        warning: &'static str,
    },
    /// The peer, or all of them together: as much as there may be is there.
    #[error("{limit} = {maximum} is reached; try again later, or have it raised")]
    LimitReached {
        /// Name of the limit.
        limit: &'static str,
        /// Its value.
        maximum: u64,
    },
    /// The host: for now.
    #[error("{0}")]
    Unavailable(&'static str),
    /// The host: the operator's to mend; logged, not told.
    #[error("the node could not do it; its log says why")]
    Internal,
}

impl WebError {
    /// Of ours: the peer is told no more than that.
    pub(super) fn internal(error: &dyn std::fmt::Display) -> Self {
        tracing::error!("a web request failed: {error}");
        Self::Internal
    }

    /// What is told of a file that cannot be given in this form.
    pub(super) fn unreadable(error: &ReadError) -> Self {
        match error {
            ReadError::Io { .. } | ReadError::NotDicom(_) | ReadError::Changed(_) | ReadError::Decoder { .. } => {
                Self::internal(error)
            }
            // Without the path, which is ours.
            _ => Self::NotAcceptable(error.for_record(&|_| "the instance".into()).to_string()),
        }
    }

    fn status(&self) -> StatusCode {
        match self {
            Self::BadRequest(_) | Self::Multipart(_) => StatusCode::BAD_REQUEST,
            Self::Unauthorized(_) => StatusCode::UNAUTHORIZED,
            Self::Forbidden(_) | Self::OtherSite => StatusCode::FORBIDDEN,
            Self::NotFound(_) => StatusCode::NOT_FOUND,
            Self::NotAcceptable(_) => StatusCode::NOT_ACCEPTABLE,
            Self::TimedOut => StatusCode::REQUEST_TIMEOUT,
            Self::TooLarge { .. } => StatusCode::PAYLOAD_TOO_LARGE,
            Self::UnsupportedMediaType(_) => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::Conflict(_) => StatusCode::CONFLICT,
            Self::Workitem { status, .. } => *status,
            Self::Unavailable(_) | Self::LimitReached { .. } => StatusCode::SERVICE_UNAVAILABLE,
            Self::Internal => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    /// A header that goes with the status.
    fn header(&self) -> Option<(HeaderName, HeaderValue)> {
        let (name, value) = match self {
            Self::Unauthorized(_) => (header::WWW_AUTHENTICATE, "Bearer realm=\"gantry\""),
            Self::Forbidden(_) => (header::WWW_AUTHENTICATE, "Bearer error=\"insufficient_scope\""),
            Self::Unavailable(_) | Self::LimitReached { .. } => (header::RETRY_AFTER, RETRY_AFTER_SECONDS),
            Self::Workitem { warning, .. } => return Some((header::WARNING, super::warning(warning))),
            // The rest of the body is not read.
            Self::TimedOut | Self::TooLarge { .. } | Self::Multipart(_) => (header::CONNECTION, "close"),
            _ => return None,
        };
        Some((name, HeaderValue::from_static(value)))
    }
}

impl From<StoreError> for WebError {
    fn from(error: StoreError) -> Self {
        Self::internal(&error)
    }
}

impl IntoResponse for WebError {
    fn into_response(self) -> Response<Body> {
        let status = self.status();
        let problem = serde_json::json!({
            "title": status.canonical_reason(),
            "status": status.as_u16(),
            "detail": self.to_string(),
        });
        let mut response = Response::new(Body::from(problem.to_string()));
        *response.status_mut() = status;
        let kind = HeaderValue::from_static("application/problem+json");
        response.headers_mut().insert(header::CONTENT_TYPE, kind);
        response.headers_mut().extend(self.header());
        response
    }
}
