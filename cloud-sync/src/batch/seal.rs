//! A manifest under a site's signature, in a DSSE envelope.

use super::{Failure, Manifest};
use crate::dsse::{self, PublicKey, Refused, SigningKey};

const PAYLOAD_TYPE: &str = "application/vnd.gantry.batch+json";

/// A manifest with a signature that was made here or checked here.
#[derive(Debug, Clone)]
pub struct Sealed {
    manifest: Manifest,
    envelope: Vec<u8>,
}

impl Sealed {
    /// Signs a manifest.
    pub(super) fn new(manifest: Manifest, key: &SigningKey) -> Self {
        let payload = serde_json::to_vec(&manifest).expect("a manifest is strings, numbers and lists");
        Self { envelope: dsse::seal(PAYLOAD_TYPE, &payload, key), manifest }
    }

    /// Reads an envelope that lies under this name, and believes it when one of these keys signed it.
    ///
    /// # Errors
    /// [`Failure::Manifest`]
    pub fn read(name: &str, envelope: Vec<u8>, keys: &[PublicKey]) -> Result<Self, Failure> {
        let opened = dsse::open(PAYLOAD_TYPE, &envelope, keys).map_err(|refused| {
            let remedy = match refused {
                Refused::NoEnvelope => "; upload its batch again",
                Refused::PayloadType => " than a batch of Gantry: keep other things out of this folder",
                Refused::Signature => "",
            };
            Failure::manifest(name, format!("{refused}{remedy}"))
        })?;
        let manifest: Manifest = serde_json::from_slice(&opened.payload).map_err(|error| {
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
