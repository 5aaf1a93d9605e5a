//! Who asks, and what they may do: bearer tokens (RFC 6750) and client certificates.
//!
//! A token is 32 random bytes. Only its SHA-256 is kept, and looked up as a whole: how long that takes says nothing of a
//! token that is not known.

use std::net::IpAddr;

use axum::http::{HeaderMap, header};
use sha2::{Digest, Sha256};

use super::error::WebError;
use crate::config::{Scope, WebClient};
use crate::store::{Store, StoreError, now_ms};

/// What tokens begin with, so that people and scanners of source code tell them.
const PREFIX: &str = "gantry_";

/// Who asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Caller {
    /// For the journal: `token NAME`, `certificate NAME` or `loopback`.
    pub(super) name: String,
    scopes: Vec<Scope>,
}

impl Caller {
    /// Whether they may.
    pub(super) fn may(&self, scope: Scope) -> Result<(), WebError> {
        if self.scopes.contains(&scope) { Ok(()) } else { Err(WebError::Forbidden(scope)) }
    }
}

/// How a connection was made.
#[derive(Debug, Clone)]
pub(super) struct Connected {
    /// Common name of the client's certificate, which the TLS handshake verified.
    pub(super) common_name: Option<String>,
    /// The service listens on loopback and asks for no certificates.
    pub(super) loopback: bool,
    /// The client's address.
    pub(super) from: IpAddr,
}

/// Says who asks.
pub(super) async fn caller(
    store: &Store,
    clients: &[WebClient],
    connected: &Connected,
    headers: &HeaderMap,
) -> Result<Caller, WebError> {
    if let Some(value) = headers.get(header::AUTHORIZATION) {
        let unknown = WebError::Unauthorized("the token is not known, has expired or was revoked");
        let Some(digest) = value.to_str().ok().and_then(bearer).map(digest) else { return Err(unknown) };
        let row = store.token(&digest).await?.ok_or(unknown)?;
        if row.revoked_ms.is_some() || row.expires_ms.is_some_and(|end| end <= now_ms()) {
            return Err(WebError::Unauthorized("the token is not known, has expired or was revoked"));
        }
        let scopes = row.scopes.split(' ').filter_map(|s| s.parse().ok()).collect();
        return Ok(Caller { name: format!("token {}", row.name), scopes });
    }
    if let Some(name) = &connected.common_name {
        let scopes = clients.iter().find(|c| c.common_name == *name).map(|c| c.scopes.clone()).unwrap_or_default();
        return Ok(Caller { name: format!("certificate {name}"), scopes });
    }
    // The first token closes what was open.
    if connected.loopback && !store.has_tokens().await? {
        return Ok(Caller { name: "loopback".into(), scopes: Scope::ALL.to_vec() });
    }
    Err(WebError::Unauthorized("this needs a bearer token: see `gantry token new`"))
}

/// The token in the value of Authorization.
fn bearer(value: &str) -> Option<&str> {
    let (scheme, token) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

fn digest(token: &str) -> [u8; 32] {
    Sha256::digest(token.as_bytes()).into()
}

/// A token cannot be made: the operator's to mend.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// The name is taken.
    #[error("there is a token of this name; revoked ones keep theirs")]
    Taken,
    /// The name is none.
    #[error("a token's name is 1 to 64 letters, digits, `-`, `_` and `.`")]
    Name,
    /// The host has no random numbers.
    #[error("the operating system gives no random numbers")]
    Random,
    /// The journal.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Makes a token; what is returned is shown once and kept nowhere.
///
/// # Errors
/// [`TokenError`].
pub async fn new_token(
    store: &Store,
    name: &str,
    scopes: &[Scope],
    expires_ms: Option<i64>,
) -> Result<String, TokenError> {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-_.".contains(&b);
    if !(1..=64).contains(&name.len()) || !name.bytes().all(plain) {
        return Err(TokenError::Name);
    }
    let mut secret = [0; 32];
    let random = rustls::crypto::aws_lc_rs::default_provider().secure_random;
    random.fill(&mut secret).map_err(|_| TokenError::Random)?;
    let token = format!("{PREFIX}{}", crate::hex(&secret));
    let names: Vec<&str> = Scope::ALL.into_iter().filter(|s| scopes.contains(s)).map(Scope::name).collect();
    match store.add_token(name, &digest(&token), &names.join(" "), expires_ms).await? {
        true => Ok(token),
        false => Err(TokenError::Taken),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_bearer_token_is_one() {
        assert_eq!(bearer("bearer abc"), Some("abc"));
        for text in ["", "Bearer", "Basic abc", "abc"] {
            assert_eq!(bearer(text), None, "{text}");
        }
    }
}
