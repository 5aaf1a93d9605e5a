//! Batches as `docs/sync.md` describes them, written without any code of ours: what the uploader reads is what is documented.

use std::fs;
use std::path::{Path, PathBuf};

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use aws_smithy_types::base64;
use gantry_cloud_sync::batch::{Digest, Limits, SiteKey, Spool};
use serde_json::json;
use tempfile::TempDir;
use uuid::Uuid;

pub(crate) const SITE: &str = "site-7";
const TYPE: &str = "application/vnd.gantry.batch+json";

/// A spool with one batch.
pub(crate) struct Spooled {
    pub(crate) folder: TempDir,
    pub(crate) batch: String,
    pub(crate) objects: Vec<Vec<u8>>,
    pkcs8: Vec<u8>,
}

impl Spooled {
    pub(crate) fn new(objects: Vec<Vec<u8>>) -> Self {
        let folder = TempDir::new().expect("a folder");
        let named = objects.iter().map(|object| {
            let path = folder.path().join(Self::below(object));
            fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
            fs::write(path, object).expect("an object");
            (sha256(object), object.len() as u64)
        });
        let named = named.collect();
        Self { objects, ..Self::seal(folder, named) }
    }

    /// With one object of so many zeros, which takes no room on the disk; `objects` has it not.
    pub(crate) fn zeros(bytes: u64) -> Self {
        let folder = TempDir::new().expect("a folder");
        let file = folder.path().join("zeros");
        fs::File::create(&file).and_then(|file| file.set_len(bytes)).expect("a file with a hole");
        let hex = Digest::of_file(&file).expect("readable").0.to_string();
        let path = folder.path().join("objects").join(&hex[..2]);
        fs::create_dir_all(&path).expect("a folder");
        fs::rename(file, path.join(&hex)).expect("renamed");
        Self::seal(folder, vec![(hex, bytes)])
    }

    /// What lies in the folder already, by name and size.
    fn seal(folder: TempDir, named: Vec<(String, u64)>) -> Self {
        let pkcs8 = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).expect("a key").as_ref().to_vec();
        let pair = Ed25519KeyPair::from_pkcs8(&pkcs8).expect("a key");
        let described: Vec<_> = named
            .iter()
            .map(|(sha256, bytes)| json!({ "kind": "instance", "format": "dicom", "sha256": sha256, "bytes": bytes }))
            .collect();
        let batch = Uuid::now_v7().to_string();
        let profile = json!({ "name": "retraining", "digest": sha256(b"profile") });
        let manifest = json!({
            "version": 1,
            "batch": batch,
            "site": SITE,
            "sealed": "2026-11-29T02:00:00Z",
            "modules": [],
            "studies": [{ "record": Uuid::now_v7().to_string(), "profile": profile, "objects": described }],
        })
        .to_string();
        let signed = format!("DSSEv1 {} {TYPE} {} {manifest}", TYPE.len(), manifest.len());
        let envelope = json!({
            "payloadType": TYPE,
            "payload": base64::encode(&manifest),
            "signatures": [{
                "keyid": sha256(pair.public_key().as_ref()),
                "sig": base64::encode(pair.sign(signed.as_bytes())),
            }],
        });
        fs::create_dir_all(folder.path().join("sealed")).expect("a folder");
        fs::write(folder.path().join(format!("sealed/{batch}.json")), envelope.to_string()).expect("an envelope");
        fs::write(folder.path().join("key"), &pkcs8).expect("a key");
        Self { folder, batch, objects: Vec::new(), pkcs8 }
    }

    pub(crate) fn open(&self) -> Spool {
        open(self.folder.path(), &self.pkcs8)
    }

    /// Where an object lies, in the spool.
    pub(crate) fn below(object: &[u8]) -> PathBuf {
        let hex = sha256(object);
        Path::new("objects").join(&hex[..2]).join(hex)
    }

    /// Where it lies in the bucket.
    pub(crate) fn key(object: &[u8]) -> String {
        let hex = sha256(object);
        format!("gantry/{SITE}/objects/sha256/{}/{hex}", &hex[..2])
    }

    pub(crate) fn manifest(&self) -> String {
        format!("gantry/{SITE}/batches/{}.dsse.json", self.batch)
    }

    /// Every key that the bucket should have.
    pub(crate) fn keys(&self) -> Vec<String> {
        let mut keys: Vec<_> = self.objects.iter().map(|object| Self::key(object)).collect();
        keys.push(self.manifest());
        keys.sort();
        keys
    }
}

/// Opens a spool; in another process, too.
pub(crate) fn open(folder: &Path, pkcs8: &[u8]) -> Spool {
    let key = SiteKey::from_pkcs8(pkcs8).expect("a key");
    Spool::open(folder, Limits::default(), SITE.parse().expect("a name"), key).expect("a spool")
}

pub(crate) fn sha256(bytes: &[u8]) -> String {
    digest(&SHA256, bytes).as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Bytes that no other seed gives, and no compression shortens.
pub(crate) fn noise(seed: u64, bytes: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    (0..bytes.div_ceil(8)).flat_map(|_| next().to_le_bytes()).take(bytes).collect()
}
