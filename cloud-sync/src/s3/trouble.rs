//! What a request that failed means, whatever the server calls it, and how long to wait before the next.

use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::time::{Duration, SystemTime};

use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use aws_smithy_runtime_api::client::result::SdkError;
use aws_smithy_types::error::display::DisplayErrorContext;
use aws_smithy_types::error::metadata::ProvideErrorMetadata;

use super::config::Config;

const PROXY_REFUSES: &str = "the proxy wants another name and password than s3.proxy_credentials_file has";
const UNKNOWN_AUTHORITY: &str = "s3.ca_file, or the system's authorities without it, must have who signed it";

/// How one request failed.
#[derive(Debug)]
pub(super) struct Trouble {
    pub(super) kind: Kind,
    pub(super) why: String,
    /// How long the server asks to be left alone (RFC 9110, 10.2.3).
    pub(super) retry_after: Option<Duration>,
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
        Self::of(Kind::Passing, why)
    }

    /// There is no answer, for a reason that the SDK tells in words only.
    fn unanswered(why: String) -> Self {
        if why.contains("proxy auth") {
            Self::of(Kind::Denied, format!("{why}; {PROXY_REFUSES}"))
        } else if why.contains("certificate") {
            // One that expired is renewed without us.
            Self::passing(format!("{why}; {UNKNOWN_AUTHORITY}"))
        } else if why.contains("credentials") {
            // The chain found nothing: only a person can change that.
            Self::of(Kind::Denied, why)
        } else {
            Self::passing(why)
        }
    }

    pub(super) fn of(kind: Kind, why: impl Into<String>) -> Self {
        Self { kind, why: why.into(), retry_after: None }
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
            if let Some(feature) = refused(&error) {
                return Self::of(Kind::Denied, feature);
            }
            return Self::unanswered(why);
        };
        let said = error.message().map(first_line).unwrap_or_default();
        let why = match (code.is_empty(), said.is_empty()) {
            _ if status == 407 => format!("HTTP status 407; {PROXY_REFUSES}"),
            (true, _) => format!("HTTP status {status}"),
            (false, true) => format!("HTTP status {status} ({code})"),
            (false, false) => format!("HTTP status {status} ({code}: {said})"),
        };
        let retry_after = error.raw_response().and_then(|response| response.headers().get("retry-after"));
        let retry_after = retry_after.and_then(|value| wanted(value, SystemTime::now()));
        Self { kind: kind(status, &code), why, retry_after }
    }
}

/// Ways to credentials that this program does not go, whose names in the chain's error say little to who reads it.
fn refused(error: &(dyn std::error::Error + 'static)) -> Option<&'static str> {
    let mut causes = std::iter::successors(Some(error), |error| error.source());
    causes.any(|cause| cause.to_string().contains("credentials-process")).then_some(
        "the profile names a credential_process, and an uploader starts no programs: let a timer write what that program says \
         into s3.credentials_file, which is read again when credentials expire, or serve it as instance metadata \
         (AWS_EC2_METADATA_SERVICE_ENDPOINT)",
    )
}

/// `Retry-After`: seconds, or a date.
fn wanted(value: &str, now: SystemTime) -> Option<Duration> {
    if let Ok(seconds) = value.trim().parse() {
        return Some(Duration::from_secs(seconds));
    }
    let date = chrono::DateTime::parse_from_rfc2822(value.trim()).ok()?;
    Some(SystemTime::from(date).duration_since(now).unwrap_or_default())
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
        401 | 403 | 407 => Kind::Denied,
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

/// Before the next attempt: as long as the server asked for, within `s3.retry_after_max_s`, or else as [`pause`] has it.
pub(super) fn after(config: &Config, attempt: u32, retry_after: Option<Duration>) -> Duration {
    let longest = Duration::from_secs(config.retry_after_max_s);
    pause(config, attempt).max(retry_after.unwrap_or_default().min(longest))
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
    fn a_server_that_asks_for_time_gets_it_within_the_limit() {
        let config = Config { backoff_first_ms: 1, retry_after_max_s: 30, ..Config::default() };
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777);
        assert_eq!(wanted("7", now), Some(Duration::from_secs(7)));
        assert_eq!(wanted("Sun, 06 Nov 1994 08:49:47 GMT", now), Some(Duration::from_secs(10)));
        assert_eq!(wanted("Sun, 06 Nov 1994 08:49:27 GMT", now), Some(Duration::ZERO));
        assert_eq!(wanted("soon", now), None);
        assert_eq!(after(&config, 1, wanted("7", now)), Duration::from_secs(7));
        assert_eq!(after(&config, 1, wanted("99999999", now)), Duration::from_secs(30));
        assert!(after(&config, 1, None) <= Duration::from_millis(1));
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
