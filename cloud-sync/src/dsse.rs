//! Bytes under somebody's signature: Ed25519 (RFC 8032) in a DSSE envelope (Dead Simple Signing Envelope 1.0). Batches are signed so by
//! their site, and modules by their vendor.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};
use aws_smithy_types::base64;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::batch::Digest;

/// SubjectPublicKeyInfo of an Ed25519 key up to the key itself (RFC 8410).
const SPKI: [u8; 12] = [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];
/// Whoever wants more signatures of one envelope looked at is keeping us busy.
const SIGNATURES_MAX: usize = 8;

/// With what somebody signs. It shows itself to nobody.
pub struct SigningKey(Ed25519KeyPair);

/// By what a signature is known.
#[derive(Clone, PartialEq, Eq)]
pub struct PublicKey([u8; 32]);

/// A key that cannot be used: the operator's to mend.
#[derive(Debug, thiserror::Error)]
#[error("{what} ({}): {remedy}", path.display())]
pub struct KeyError {
    what: &'static str,
    path: PathBuf,
    remedy: &'static str,
}

/// Why an envelope is not believed. Each reads on after the envelope's name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// It was cut or changed, or never was one.
    #[error("is no DSSE envelope: it was cut or changed")]
    NoEnvelope,
    /// Its payload is of another type.
    #[error("holds something else")]
    PayloadType,
    /// No key that was given signed these bytes.
    #[error("is signed by none of the keys that are known: it was changed, or its signer's key is missing")]
    Signature,
}

/// What an envelope holds, and the key that signed it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Opened {
    /// What was signed.
    pub payload: Vec<u8>,
    /// Of those that were given, who signed it.
    pub signer: PublicKey,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Envelope {
    payload_type: String,
    payload: String,
    signatures: Vec<Signature>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Signature {
    keyid: String,
    sig: String,
}

/// Signs a payload, and gives its envelope (JSON).
#[must_use]
pub fn seal(payload_type: &str, payload: &[u8], key: &SigningKey) -> Vec<u8> {
    let signature = key.0.sign(&signed_bytes(payload_type, payload));
    let envelope = Envelope {
        payload_type: payload_type.to_owned(),
        payload: base64::encode(payload),
        signatures: vec![Signature { keyid: key.public().id().to_string(), sig: base64::encode(signature) }],
    };
    serde_json::to_vec(&envelope).expect("an envelope is strings")
}

/// Opens an envelope of this payload type, when one of these keys signed it.
///
/// # Errors
/// [`Refused`]
pub fn open(payload_type: &str, envelope: &[u8], keys: &[PublicKey]) -> Result<Opened, Refused> {
    let parsed: Envelope = serde_json::from_slice(envelope).map_err(|_| Refused::NoEnvelope)?;
    let payload = base64::decode(&parsed.payload).map_err(|_| Refused::NoEnvelope)?;
    if parsed.payload_type != payload_type {
        return Err(Refused::PayloadType);
    }
    let signed = signed_bytes(payload_type, &payload);
    let by = |key: &&PublicKey| {
        parsed.signatures.iter().take(SIGNATURES_MAX).any(|signature| {
            base64::decode(&signature.sig)
                .is_ok_and(|bytes| UnparsedPublicKey::new(&ED25519, key.0).verify(&signed, &bytes).is_ok())
        })
    };
    let signer = keys.iter().find(by).cloned().ok_or(Refused::Signature)?;
    Ok(Opened { payload, signer })
}

impl SigningKey {
    /// From a file in PKCS #8 (PEM), as `openssl genpkey -algorithm ed25519` writes it.
    ///
    /// # Errors
    /// [`KeyError`]
    pub fn load(path: &Path) -> Result<Self, KeyError> {
        let remedy = "make one with `openssl genpkey -algorithm ed25519`, readable by this program only";
        let wrong = |what| KeyError { what, path: path.to_owned(), remedy };
        let text = Zeroizing::new(fs::read_to_string(path).map_err(|_| wrong("a signing key cannot be read"))?);
        let der = from_pem(&text, "PRIVATE KEY").map(Zeroizing::new);
        let der = der.ok_or_else(|| wrong("a signing key is no PEM file"))?;
        Self::from_pkcs8(&der).ok_or_else(|| wrong("a signing key is no Ed25519 key in PKCS #8"))
    }

    /// From PKCS #8, version 1 or 2.
    #[must_use]
    pub fn from_pkcs8(der: &[u8]) -> Option<Self> {
        Ed25519KeyPair::from_pkcs8(der).ok().map(Self)
    }

    /// What others know its signatures by.
    #[must_use]
    pub fn public(&self) -> PublicKey {
        PublicKey(self.0.public_key().as_ref().try_into().expect("a key of Ed25519 has 32 bytes"))
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SigningKey({})", self.public().id())
    }
}

impl PublicKey {
    /// From a file (PEM), as `openssl pkey -pubout` writes it.
    ///
    /// # Errors
    /// [`KeyError`]
    pub fn load(path: &Path) -> Result<Self, KeyError> {
        let remedy = "ask its owner for what `openssl pkey -pubout` writes";
        let wrong = |what| KeyError { what, path: path.to_owned(), remedy };
        let text = fs::read_to_string(path).map_err(|_| wrong("a public key cannot be read"))?;
        let der = from_pem(&text, "PUBLIC KEY").ok_or_else(|| wrong("a public key is no PEM file"))?;
        let key = der.strip_prefix(&SPKI).and_then(|key| key.try_into().ok());
        key.map(Self).ok_or_else(|| wrong("a public key is not of Ed25519"))
    }

    /// SHA-256 of the key, by which envelopes name it.
    #[must_use]
    pub fn id(&self) -> Digest {
        Digest::of(&self.0)
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey({})", self.id())
    }
}

/// DSSE's pre-authentication encoding.
fn signed_bytes(payload_type: &str, payload: &[u8]) -> Vec<u8> {
    let mut bytes = format!("DSSEv1 {} {payload_type} {} ", payload_type.len(), payload.len()).into_bytes();
    bytes.extend_from_slice(payload);
    bytes
}

fn from_pem(text: &str, label: &str) -> Option<Vec<u8>> {
    let (_, rest) = text.split_once(&format!("-----BEGIN {label}-----"))?;
    let (body, _) = rest.split_once(&format!("-----END {label}-----"))?;
    base64::decode(body.split_whitespace().collect::<String>()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key() -> SigningKey {
        SigningKey::from_pkcs8(
            Ed25519KeyPair::generate_pkcs8(&aws_lc_rs::rand::SystemRandom::new()).expect("one").as_ref(),
        )
        .expect("a key")
    }

    #[test]
    fn what_was_signed_is_believed_and_nothing_else() {
        let (ours, other) = (key(), key());
        let envelope = seal("a/b", b"payload", &ours);
        let keys = [other.public(), ours.public()];
        let opened = open("a/b", &envelope, &keys).expect("signed");
        assert_eq!((opened.payload.as_slice(), &opened.signer), (&b"payload"[..], &keys[1]));
        assert_eq!(open("a/b", &envelope, &keys[..1]), Err(Refused::Signature));
        assert_eq!(open("a/b", &envelope, &[]), Err(Refused::Signature));
        assert_eq!(open("a/c", &envelope, &keys), Err(Refused::PayloadType), "a batch is no module");
        assert_eq!(open("a/b", &envelope[1..], &keys), Err(Refused::NoEnvelope));
        let text = String::from_utf8(envelope).expect("JSON");
        let renamed = text.replace("\"a/b\"", "\"a/c\"");
        assert_eq!(open("a/c", renamed.as_bytes(), &keys), Err(Refused::Signature), "its type is signed, too");
        let other_payload = text.replace(&base64::encode("payload"), &base64::encode("PAYLOAD"));
        assert_eq!(open("a/b", other_payload.as_bytes(), &keys), Err(Refused::Signature));
    }

    /// Bytes of another implementation: the example of DSSE's own specification for its encoding.
    #[test]
    fn what_is_signed_is_encoded_as_the_specification_has_it() {
        assert_eq!(
            signed_bytes("http://example.com/HelloWorld", b"hello world"),
            b"DSSEv1 29 http://example.com/HelloWorld 11 hello world"
        );
    }
}
