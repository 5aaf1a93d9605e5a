//! A folder that others read: each result becomes a folder in it, whole or not at all.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use sha2::{Digest, Sha256};

use super::{Delivery, Failure, Sent};
use crate::config::FolderDestination;
use crate::ingest::blocking;
use crate::outputs::RESULT_FILE;

pub(super) struct Sender {
    path: PathBuf,
}

/// Whether files can be put there.
pub(super) fn check(to: &FolderDestination) -> Result<(), String> {
    let unusable = |e: &dyn std::fmt::Display| format!("folder.path = {}: {e}", to.path.display());
    match fs::metadata(&to.path) {
        Ok(found) if !found.is_dir() => Err(unusable(&"it is no folder")),
        Err(e) => Err(unusable(&e)),
        Ok(_) => rustix::fs::access(&to.path, rustix::fs::Access::WRITE_OK | rustix::fs::Access::EXEC_OK)
            .map_err(|e| unusable(&format!("it cannot be written to: {e}"))),
    }
}

impl Sender {
    /// A folder that is not there yet, such as a share that is mounted later, is waited for.
    pub(super) fn new(to: &FolderDestination) -> Result<Self, String> {
        Ok(Self { path: to.path.clone() })
    }

    pub(super) async fn send(&self, delivery: Arc<Delivery>) -> Result<Sent, Failure> {
        let path = self.path.clone();
        blocking(move || put(&path, &delivery)).await
    }
}

/// Copies all files to a hidden folder beside the result's place, makes them durable, and renames it.
fn put(path: &Path, delivery: &Delivery) -> Result<Sent, Failure> {
    let failed = |e: io::Error| Failure::again(format!("folder.path cannot be written to: {e}"));
    let place = path.join(name(delivery));
    let outputs: Vec<[u8; 32]> = delivery.outputs().filter_map(|output| digest(&output.sha256)).collect();
    if place.exists() {
        return there(&place, delivery).map(|()| Sent { outputs, ..Sent::default() });
    }
    let staging = tempfile::Builder::new().prefix(".gantry-").tempdir_in(path).map_err(failed)?;
    for output in delivery.outputs() {
        let mut from = delivery.open(output)?;
        let mut to = File::create_new(staging.path().join(&output.file)).map_err(failed)?;
        io::copy(&mut from, &mut to).and_then(|_| to.sync_all()).map_err(failed)?;
    }
    if delivery.sends_result() {
        let mut to = File::create_new(staging.path().join(RESULT_FILE)).map_err(failed)?;
        to.write_all(&delivery.result_bytes).and_then(|()| to.sync_all()).map_err(failed)?;
    }
    // Made for our user alone; in the folder that others read it is as open as that is.
    let mode = fs::metadata(path).map_err(failed)?.permissions();
    fs::set_permissions(staging.path(), mode).map_err(failed)?;
    let sync = |folder: &Path| File::open(folder).and_then(|folder| folder.sync_all()).map_err(failed);
    sync(staging.path())?;
    fs::rename(staging.path(), &place).map_err(failed)?;
    // What is no longer there cannot be taken away.
    let _ = staging.keep();
    sync(path)?;
    Ok(Sent { outputs, ..Sent::default() })
}

/// The end of an attempt that a crash kept from being recorded; what lies there must be the same.
fn there(place: &Path, delivery: &Delivery) -> Result<(), Failure> {
    let read = |name: &str| fs::read(place.join(name)).map(|bytes| crate::hex(&Sha256::digest(bytes)));
    let own = delivery.sends_result().then(|| (RESULT_FILE, crate::hex(&delivery.result_sha256)));
    let files = delivery.outputs().map(|output| (output.file.as_str(), output.sha256.clone())).chain(own);
    for (name, sha256) in files {
        match read(name) {
            Ok(found) if found == sha256 => {}
            _ => {
                return Err(Failure::for_good(format!(
                    "its place is taken by something else, or {name} there was changed; take it away and try again"
                )));
            }
        }
    }
    Ok(())
}

/// As the result lies below the data folder, in one name: nothing of it is a peer's text.
fn name(delivery: &Delivery) -> String {
    let study = crate::hex(&Sha256::digest(&delivery.job.study_instance_uid));
    format!("{}-{}-v{}", &study[..32], delivery.job.module, delivery.job.study_version)
}

/// Of 64 hexadecimal digits.
pub(super) fn digest(hex: &str) -> Option<[u8; 32]> {
    let pairs = hex.as_bytes().as_chunks::<2>().0;
    let bytes: Option<Vec<u8>> =
        pairs.iter().map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()).collect();
    bytes?.try_into().ok()
}
