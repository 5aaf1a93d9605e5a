//! One error for everything that can go wrong in a module.

use std::fmt;

use crate::types::{ErrorCode, Failure};

/// Why a module cannot go on. Returned from [`analyze`](crate::Analyzer::analyze) it ends the job as failed, and
/// its text is shown to the operator.
///
/// `?` makes one of a refused host call, of a wasi-nn error, and of a text.
#[derive(Debug, Clone, PartialEq)]
pub enum Error {
    /// The host could not do what was asked; the text names the argument, the attribute or the limit.
    Host(Failure),
    /// A model could not be loaded or run.
    Model {
        /// What kind of error.
        code: ErrorCode,
        /// What happened, in words.
        data: String,
    },
    /// The module's own reason.
    Message(String),
}

impl Error {
    /// The module's own reason. Never put what could name a patient into it.
    pub fn new(reason: impl fmt::Display) -> Self {
        Self::Message(reason.to_string())
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Host(Failure::Invalid(text)) => write!(f, "invalid: {text}"),
            Self::Host(Failure::Unavailable(text)) => write!(f, "unavailable: {text}"),
            Self::Host(Failure::Denied(text)) => write!(f, "denied: {text}"),
            Self::Host(Failure::Limit(text)) => write!(f, "limit: {text}"),
            Self::Model { code, data } => write!(f, "{}: {data}", name(*code)),
            Self::Message(text) => f.write_str(text),
        }
    }
}

impl std::error::Error for Error {}

/// The name that the contract gives an error code.
fn name(code: ErrorCode) -> &'static str {
    match code {
        ErrorCode::InvalidArgument => "invalid-argument",
        ErrorCode::InvalidEncoding => "invalid-encoding",
        ErrorCode::Timeout => "timeout",
        ErrorCode::RuntimeError => "runtime-error",
        ErrorCode::UnsupportedOperation => "unsupported-operation",
        ErrorCode::TooLarge => "too-large",
        ErrorCode::NotFound => "not-found",
        ErrorCode::Security => "security",
        ErrorCode::Unknown => "unknown",
    }
}

impl From<Failure> for Error {
    fn from(failure: Failure) -> Self {
        Self::Host(failure)
    }
}

impl From<crate::sys::errors::Error> for Error {
    fn from(error: crate::sys::errors::Error) -> Self {
        Self::Model { code: error.code(), data: error.data() }
    }
}

impl From<String> for Error {
    fn from(reason: String) -> Self {
        Self::Message(reason)
    }
}

impl From<&str> for Error {
    fn from(reason: &str) -> Self {
        Self::Message(reason.into())
    }
}
