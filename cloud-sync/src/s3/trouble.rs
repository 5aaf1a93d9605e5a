//! What a request that failed means, whatever the server calls it, and how long to wait before the next.

use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use aws_smithy_runtime_api::client::result::SdkError;
use aws_smithy_types::error::display::DisplayErrorContext;
use aws_smithy_types::error::metadata::ProvideErrorMetadata;

use super::config::Config;

/// How one request failed.
#[derive(Debug)]
pub(super) struct Trouble {
    pub(super) kind: Kind,
    pub(super) why: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Try again: the network, a server that is busy or ill, a clock that was set right by the answer.
    Passing,
    /// Try again with credentials that are read anew.
    Expired,
    /// 400 or 403 without a word, as HEAD is answered: credentials, permission, or a clock that was set right by the answer.
    Unsaid,
    /// A success that nobody understands: broken off, or not S3.
    Garbled,
    /// 412: something lies there.
    Exists,
    /// 409: somebody else wrote there meanwhile.
    Conflict,
    /// 404 of an object, or of an upload.
    Missing,
    /// 404 of the bucket.
    NoBucket,
    /// 401, 403, or no credentials at all.
    Denied,
    /// The upload as a whole is broken: parts are not what the server has.
    Broken,
    /// Anything else that will not go away.
    Refused,
}

impl Trouble {
    pub(super) fn passing(why: impl Into<String>) -> Self {
        Self { kind: Kind::Passing, why: why.into() }
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.why)
    }
}

impl<E> From<SdkError<E, HttpResponse>> for Trouble
where
    E: ProvideErrorMetadata + std::error::Error + Send + Sync + 'static,
{
    fn from(error: SdkError<E, HttpResponse>) -> Self {
        let status = error.raw_response().map(|response| response.status().as_u16());
        let code = error.code().unwrap_or_default().to_owned();
        let Some(status) = status else {
            let why = first_line(&DisplayErrorContext(&error).to_string());
            // The chain found nothing: only a person can change that.
            let kind = if why.contains("credentials") { Kind::Denied } else { Kind::Passing };
            return Self { kind, why };
        };
        let said = error.message().map(first_line).unwrap_or_default();
        let why = match (code.is_empty(), said.is_empty()) {
            (true, _) => format!("HTTP status {status}"),
            (false, true) => format!("HTTP status {status} ({code})"),
            (false, false) => format!("HTTP status {status} ({code}: {said})"),
        };
        Self { kind: kind(status, &code), why }
    }
}

fn kind(status: u16, code: &str) -> Kind {
    match code {
        "ExpiredToken"
        | "ExpiredTokenException"
        | "InvalidToken"
        | "TokenRefreshRequired"
        | "InvalidAccessKeyId"
        | "InvalidClientTokenId" => {
            return Kind::Expired;
        }
        // The answer has set the clock that signs.
        "RequestTimeTooSkewed" | "RequestExpired" | "RequestInTheFuture" => return Kind::Passing,
        // Cut or changed on its way, or too slow: the next time it may arrive.
        "BadDigest"
        | "XAmzContentSHA256Mismatch"
        | "InvalidDigest"
        | "IncompleteBody"
        | "RequestTimeout"
        | "SlowDown"
        | "InternalError"
        | "ServiceUnavailable"
        | "TooManyRequests" => return Kind::Passing,
        "NoSuchBucket" => return Kind::NoBucket,
        "InvalidPart" | "InvalidPartOrder" | "EntityTooSmall" | "NoSuchVersion" => {
            return Kind::Broken;
        }
        _ => {}
    }
    match status {
        412 => Kind::Exists,
        409 => Kind::Conflict,
        404 => Kind::Missing,
        400 | 403 if code.is_empty() => Kind::Unsaid,
        401 | 403 => Kind::Denied,
        501 => Kind::Refused,
        200..=299 => Kind::Garbled,
        408 | 425 | 429 | 500.. => Kind::Passing,
        _ => Kind::Refused,
    }
}

/// What a stranger says, short and on one line.
fn first_line(text: &str) -> String {
    text.chars().take(300).map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// Exponential, with all of it by chance: many sites that lost one server do not come back at once.
pub(super) fn pause(config: &Config, attempt: u32) -> Duration {
    let longest =
        config.backoff_first_ms.saturating_mul(1 << attempt.saturating_sub(1).min(20)).min(config.backoff_max_ms);
    // A hasher's keys are random; more is not asked of it.
    let chance = RandomState::new().hash_one(attempt);
    Duration::from_millis(chance % longest.saturating_add(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_up_to_their_limit() {
        let config = Config { backoff_first_ms: 100, backoff_max_ms: 1000, ..Config::default() };
        let longest = |attempt| (0..200).map(|_| pause(&config, attempt)).max().expect("some");
        assert!(longest(1) <= Duration::from_millis(100));
        assert!(longest(3) > Duration::from_millis(200) && longest(3) <= Duration::from_millis(400));
        assert!(longest(100) > Duration::from_millis(800) && longest(100) <= Duration::from_millis(1000));
    }

    #[test]
    fn what_goes_away_is_told_from_what_does_not() {
        for (status, code, expected) in [
            (503, "SlowDown", Kind::Passing),
            (429, "", Kind::Passing),
            (400, "RequestTimeout", Kind::Passing),
            (403, "RequestTimeTooSkewed", Kind::Passing),
            (400, "ExpiredToken", Kind::Expired),
            (403, "SignatureDoesNotMatch", Kind::Denied),
            (403, "", Kind::Unsaid),
            (404, "NoSuchUpload", Kind::Missing),
            (404, "NoSuchBucket", Kind::NoBucket),
            (400, "InvalidPart", Kind::Broken),
            (409, "ConditionalRequestConflict", Kind::Conflict),
            (412, "PreconditionFailed", Kind::Exists),
            (501, "NotImplemented", Kind::Refused),
            (400, "InvalidArgument", Kind::Refused),
        ] {
            assert_eq!(kind(status, code), expected, "{status} {code}");
        }
    }
}
