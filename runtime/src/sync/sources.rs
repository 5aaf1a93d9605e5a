//! What there is of one study: instances, results, and what was made of them.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use gantry_cloud_sync::batch::{self, Digest, Format, Kind};
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use crate::outputs::RESULT_FILE;
use crate::review;
use crate::store::{HeldKind, HeldObject, InstanceRow, Job, JobState, Reviewed, Store, StoreError, SyncDue, Which};

/// Results of one study that are looked at for verdicts.
const RESULTS_MAX: u32 = 1000;

/// One study as it is.
pub(super) struct Sources {
    /// What was received.
    pub(super) instances: Vec<Source>,
    /// Jobs of this version, which are over, and what they left.
    pub(super) jobs: Vec<Ran>,
    /// AE titles of those who sent it.
    pub(super) senders: BTreeSet<String>,
    /// When its first and its last instance came, and when it closed.
    pub(super) times: Times,
}

/// Milliseconds since 1970.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Times {
    pub(super) first_received_ms: i64,
    pub(super) last_received_ms: i64,
    pub(super) closed_ms: i64,
}

/// A file or a document that may leave.
#[derive(Debug, Clone)]
pub(super) struct Source {
    pub(super) kind: Kind,
    pub(super) format: Format,
    pub(super) module: Option<batch::Module>,
    pub(super) object: HeldObject,
    pub(super) content: Content,
}

#[derive(Debug, Clone)]
pub(super) enum Content {
    File(PathBuf),
    Made(Vec<u8>),
}

/// A job that is over.
pub(super) struct Ran {
    pub(super) job: Job,
    /// With a result: what it left, and what people said of it.
    pub(super) result: Option<Made>,
    /// When the last destination had it.
    pub(super) delivered_ms: Option<i64>,
}

/// A result that is there.
pub(super) struct Made {
    pub(super) reviewed: Reviewed,
    pub(super) module: batch::Module,
    /// `result.json`.
    pub(super) document: Source,
    /// SEG, SR and the like.
    pub(super) derived: Vec<Source>,
}

/// A study cannot be gathered: the host's to mend.
#[derive(Debug, thiserror::Error)]
pub(super) enum GatherError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("a result: {0}")]
    Result(#[from] review::OpenError),
}

/// All that there is of a study; nothing where its instances were replaced or deleted since: what takes their place comes by itself.
pub(super) async fn gather(store: &Store, data: &Path, due: &SyncDue) -> Result<Option<Sources>, GatherError> {
    let uid = &due.study_instance_uid;
    let Some(instances) = store.instances_of_version(uid, due.study_version).await? else { return Ok(None) };
    if instances.is_empty() {
        return Ok(None);
    }
    let Some(times) = store.sync_times(uid, due.study_version).await? else { return Ok(None) };
    let [first_received_ms, last_received_ms, closed_ms] = times;
    let mut reviewed = store.results(Some(uid), Which::All, RESULTS_MAX, 0).await?;
    let delivered = store.sync_delivered(uid).await?;
    let mut jobs = Vec::new();
    for job in store.jobs_of_version(uid, due.study_version).await? {
        let place = reviewed.iter().position(|reviewed| reviewed.job.id == job.id);
        let result = match place.map(|place| reviewed.swap_remove(place)) {
            Some(reviewed) if job.state == JobState::Done => made(store, data, &job, reviewed).await?,
            _ => None,
        };
        let delivered_ms = delivered.iter().filter(|(of, _)| *of == job.id).map(|(_, ms)| *ms).max();
        jobs.push(Ran { job, result, delivered_ms });
    }
    Ok(Some(Sources {
        instances: instances.into_iter().map(|row| received(data, row)).collect(),
        jobs,
        senders: store.sync_senders(uid).await?.into_iter().collect(),
        times: Times { first_received_ms, last_received_ms, closed_ms },
    }))
}

fn received(data: &Path, row: InstanceRow) -> Source {
    Source {
        kind: Kind::Instance,
        format: Format::Dicom,
        module: None,
        object: HeldObject {
            kind: HeldKind::Instance,
            series_instance_uid: row.series_instance_uid,
            sop_instance_uid: row.sop_instance_uid,
            job: None,
            sha256: row.sha256,
        },
        content: Content::File(data.join(row.path)),
    }
}

/// What a job left, believed by the journal; nothing where retention deleted it.
async fn made(store: &Store, data: &Path, job: &Job, reviewed: Reviewed) -> Result<Option<Made>, GatherError> {
    let Some(path) = &job.result_path else { return Ok(None) };
    let (folder, sha256) = (data.join(path), store.result_sha256(job).await?);
    let opened = match review::open(&folder, sha256) {
        Err(review::OpenError::Io(e)) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        opened => opened?,
    };
    let module = module(&opened.result).ok_or(review::OpenError::Format)?;
    let document = Source {
        kind: Kind::Result,
        format: Format::Json,
        module: Some(module.clone()),
        object: of_job(HeldKind::Result, job, sha256),
        content: Content::File(folder.join(RESULT_FILE)),
    };
    let outputs = opened.result.get("outputs").and_then(Value::as_array);
    let derived = outputs.into_iter().flatten().filter_map(|output| derived(&folder, job, &module, output)).collect();
    Ok(Some(Made { reviewed, module, document, derived }))
}

/// A document about a job.
pub(super) fn of_job(kind: HeldKind, job: &Job, sha256: [u8; 32]) -> HeldObject {
    HeldObject { kind, series_instance_uid: String::new(), sop_instance_uid: String::new(), job: Some(job.id), sha256 }
}

/// A document that was made here.
pub(super) fn document(kind: Kind, object: HeldObject, module: Option<&batch::Module>, bytes: Vec<u8>) -> Source {
    let object = HeldObject { sha256: Sha256::digest(&bytes).into(), ..object };
    Source { kind, format: Format::Json, module: module.cloned(), object, content: Content::Made(bytes) }
}

/// An object of a result that is DICOM; pictures for people stay.
fn derived(folder: &Path, job: &Job, module: &batch::Module, output: &Value) -> Option<Source> {
    let text = |key: &str| output.get(key).and_then(Value::as_str);
    let (file, sop_instance_uid) = (text("file")?, text("sop_instance_uid")?);
    let sha256: Digest = text("sha256")?.parse().ok()?;
    if Path::new(file).file_name()?.to_str()? != file {
        return None;
    }
    Some(Source {
        kind: Kind::Result,
        format: Format::Dicom,
        module: Some(module.clone()),
        object: HeldObject {
            kind: HeldKind::Instance,
            series_instance_uid: text("series_instance_uid").unwrap_or_default().to_owned(),
            sop_instance_uid: sop_instance_uid.to_owned(),
            job: Some(job.id),
            sha256: *sha256.as_bytes(),
        },
        content: Content::File(folder.join(file)),
    })
}

/// The module of a result, with the models that it loaded.
fn module(result: &Value) -> Option<batch::Module> {
    let of = result.get("module")?;
    let text = |of: &Value, key: &str| of.get(key).and_then(Value::as_str).map(str::to_owned);
    let mut models: Vec<batch::Model> = Vec::new();
    for model in result.get("models").and_then(Value::as_array).into_iter().flatten() {
        let model = batch::Model { name: text(model, "name")?, digest: text(model, "sha256")?.parse().ok()? };
        if !models.contains(&model) {
            models.push(model);
        }
    }
    Some(batch::Module {
        name: text(of, "name")?,
        version: text(of, "version")?,
        digest: text(of, "identity_sha256")?.parse().ok()?,
        models,
    })
}
