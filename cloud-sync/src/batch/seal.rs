//! A manifest under a site's signature: Ed25519 (RFC 8032) in a DSSE envelope (Dead Simple Signing Envelope 1.0).

use std::fmt;
use std::fs;
use std::path::Path;

use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};
use aws_smithy_types::base64;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::{Digest, Failure, Manifest};

const PAYLOAD_TYPE: &str = "application/vnd.gantry.batch+json";
/// SubjectPublicKeyInfo of an Ed25519 key up to the key itself (RFC 8410).
const SPKI: [u8; 12] = [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];

/// With what a site signs. It shows itself to nobody.
pub struct SiteKey(Ed25519KeyPair);

/// By what a site's signature is known.
#[derive(Clone, PartialEq, Eq)]
pub struct PublicKey([u8; 32]);

/// A manifest with a signature that was made here or checked here.
#[derive(Debug, Clone)]
pub struct Sealed {
    manifest: Manifest,
    envelope: Vec<u8>,
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

impl SiteKey {
    /// From a file in PKCS #8 (PEM), as `openssl genpkey -algorithm ed25519` writes it.
    ///
    /// # Errors
    /// [`Failure::Key`]
    pub fn load(path: &Path) -> Result<Self, Failure> {
        const REMEDY: &str = "make one with `openssl genpkey -algorithm ed25519`, readable by this program only";
        let wrong = |what| Failure::Key { what, path: path.to_owned(), remedy: REMEDY };
        let text = Zeroizing::new(fs::read_to_string(path).map_err(|_| wrong("the site's key cannot be read"))?);
        let der = from_pem(&text, "PRIVATE KEY").map(Zeroizing::new);
        let der = der.ok_or_else(|| wrong("the site's key is no PEM file"))?;
        Self::from_pkcs8(&der).ok_or_else(|| wrong("the site's key is no Ed25519 key in PKCS #8"))
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

impl fmt::Debug for SiteKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SiteKey({})", self.public().id())
    }
}

impl PublicKey {
    /// From a file (PEM), as `openssl pkey -pubout` writes it.
    ///
    /// # Errors
    /// [`Failure::Key`]
    pub fn load(path: &Path) -> Result<Self, Failure> {
        const REMEDY: &str = "ask the site for what `openssl pkey -pubout` writes";
        let wrong = |what| Failure::Key { what, path: path.to_owned(), remedy: REMEDY };
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

impl Sealed {
    /// Signs a manifest.
    pub(super) fn new(manifest: Manifest, key: &SiteKey) -> Self {
        let payload = serde_json::to_vec(&manifest).expect("a manifest is strings, numbers and lists");
        let signature = key.0.sign(&signed_bytes(&payload));
        let envelope = Envelope {
            payload_type: PAYLOAD_TYPE.to_owned(),
            payload: base64::encode(payload),
            signatures: vec![Signature { keyid: key.public().id().to_string(), sig: base64::encode(signature) }],
        };
        let envelope = serde_json::to_vec(&envelope).expect("an envelope is strings");
        Self { manifest, envelope }
    }

    /// Reads an envelope that lies under this name, and believes it when one of these keys signed it.
    ///
    /// # Errors
    /// [`Failure::Manifest`]
    pub fn read(name: &str, envelope: Vec<u8>, keys: &[PublicKey]) -> Result<Self, Failure> {
        let wrong = |why: &str| Failure::manifest(name, why);
        const CHANGED: &str = "is no DSSE envelope: it was cut or changed; upload its batch again";
        let parsed: Envelope = serde_json::from_slice(&envelope).map_err(|_| wrong(CHANGED))?;
        let payload = base64::decode(&parsed.payload).map_err(|_| wrong(CHANGED))?;
        if parsed.payload_type != PAYLOAD_TYPE {
            return Err(wrong("holds something else than a batch of Gantry: keep other things out of this folder"));
        }
        let signed = signed_bytes(&payload);
        let by = |key: &PublicKey, signature: &Signature| {
            base64::decode(&signature.sig)
                .is_ok_and(|bytes| UnparsedPublicKey::new(&ED25519, key.0).verify(&signed, &bytes).is_ok())
        };
        // Whoever reads this many signatures of one envelope is being kept busy.
        let signatures = || parsed.signatures.iter().take(8);
        if !keys.iter().any(|key| signatures().any(|signature| by(key, signature))) {
            return Err(wrong(
                "is signed by none of the keys that are known: it was changed, or its site's key is missing",
            ));
        }
        let manifest: Manifest = serde_json::from_slice(&payload).map_err(|error| {
            Failure::manifest(name, format!("is signed, and cannot be read: {error}; update this program"))
        })?;
        manifest.check().map_err(|why| Failure::manifest(name, why))?;
        Ok(Self { manifest, envelope })
    }

    /// What is sealed.
    #[must_use]
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// As it is written to disk and bucket.
    #[must_use]
    pub fn envelope(&self) -> &[u8] {
        &self.envelope
    }
}

/// DSSE's pre-authentication encoding.
fn signed_bytes(payload: &[u8]) -> Vec<u8> {
    let mut bytes = format!("DSSEv1 {} {PAYLOAD_TYPE} {} ", PAYLOAD_TYPE.len(), payload.len()).into_bytes();
    bytes.extend_from_slice(payload);
    bytes
}

fn from_pem(text: &str, label: &str) -> Option<Vec<u8>> {
    let (_, rest) = text.split_once(&format!("-----BEGIN {label}-----"))?;
    let (body, _) = rest.split_once(&format!("-----END {label}-----"))?;
    base64::decode(body.split_whitespace().collect::<String>()).ok()
}
