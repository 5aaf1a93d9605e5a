//! Results of modules that ran before, as they are handed to one that comes after them.
//!
//! ```text
//! Handed: a folder ── result.json, its digest, its study ──▶ Finished: what was stated ── SEG, its digest ──▶ Labels
//! ```
//!
//! Everything comes from the folder in which the earlier job left it, and nothing is believed before its digest is
//! right: `result.json` by the journal, the segmentation by `result.json`.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use sha2::{Digest, Sha256};

use crate::memory::{Budget, Charge, OverBudget};
use crate::outputs::result::{InputUpstream, Module, SCHEMA, Stated};
use crate::outputs::{OutputKind, RESULT_FILE, SEGMENTATION_FILE, Written};
use crate::shown;
use crate::study::{self, Labels, ReadError, ReadOptions, Study};

/// The largest `result.json` that is read.
pub(crate) const RESULT_MAX_MIB: u64 = 64;
/// How much of a file is in memory while it is hashed.
const CHUNK_BYTES: usize = 64 << 10;

/// A result that a job may look at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Handed {
    /// The folder of it.
    pub folder: PathBuf,
    /// SHA-256 of its `result.json`, where somebody else than the folder says so: the journal of a node.
    pub result_sha256: Option<[u8; 32]>,
}

/// A result that was read, and is what the earlier job left.
#[derive(Debug, Clone)]
pub struct Finished {
    folder: PathBuf,
    result_sha256: [u8; 32],
    segmentation: Option<Written>,
    /// Whose it is.
    pub module: Module,
    /// What that module stated and the gate accepted.
    pub stated: Stated,
}

/// Why an earlier result cannot be handed on. The host is at fault, or the operator who names a folder.
#[derive(Debug, thiserror::Error)]
pub enum UpstreamError {
    /// The operating system refused.
    #[error("{}: the result of an earlier module cannot be read: {source}", shown(path))]
    Io {
        /// What was read.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// Not the bytes that the earlier job left.
    #[error(
        "{}: is not what the earlier module left: its SHA-256 is not the one that {by} names; put the file back from a \
         backup, or send the study again",
        shown(path)
    )]
    Changed {
        /// The file.
        path: PathBuf,
        /// Who names the digest.
        by: &'static str,
    },
    /// No result, or one that this version does not know.
    #[error("{}: is no result that this version can hand on: {reason}", shown(path))]
    Format {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A result on another study.
    #[error("{}: is a result on another study; hand over those on this one", shown(.0))]
    Study(PathBuf),
    /// Larger than any result.
    #[error("{}: a result of more than {RESULT_MAX_MIB} MiB is not read", shown(.0))]
    TooLarge(PathBuf),
    /// No room.
    #[error(transparent)]
    OverBudget(#[from] OverBudget),
    /// The segmentation.
    #[error(transparent)]
    Segmentation(#[from] ReadError),
}

impl UpstreamError {
    /// Whether a limit was reached, rather than the result being at fault.
    #[must_use]
    pub fn is_limit(&self) -> bool {
        match self {
            Self::TooLarge(_) | Self::OverBudget(_) => true,
            Self::Segmentation(e) => e.is_limit(),
            _ => false,
        }
    }
}

/// What is needed of `result.json`.
#[derive(Deserialize)]
struct Kept {
    schema: String,
    module: Module,
    input: KeptInput,
    findings: Stated,
    outputs: Vec<Written>,
}

#[derive(Deserialize)]
struct KeptInput {
    study_instance_uid: String,
}

impl Handed {
    /// Of a folder that the operator names, whose `result.json` is believed.
    #[must_use]
    pub fn named(folder: &Path) -> Self {
        Self { folder: folder.to_owned(), result_sha256: None }
    }

    /// Reads what was stated about the study of this UID.
    ///
    /// # Errors
    /// See [`UpstreamError`].
    pub fn open(&self, study_instance_uid: &str, budget: &Budget) -> Result<Finished, UpstreamError> {
        let path = self.folder.join(RESULT_FILE);
        let (bytes, result_sha256, _held) = read(&path, budget)?;
        if self.result_sha256.is_some_and(|expected| expected != result_sha256) {
            return Err(UpstreamError::Changed { path, by: "the journal" });
        }
        let format = |reason: String| UpstreamError::Format { path: path.clone(), reason };
        // The parser's own words may quote what it read.
        let kept: Kept = serde_json::from_slice(&bytes)
            .map_err(|e| format(format!("it is not {SCHEMA} at line {}, column {}", e.line(), e.column())))?;
        if kept.schema != SCHEMA {
            return Err(format(format!("it is not {SCHEMA}")));
        }
        if kept.input.study_instance_uid != study_instance_uid {
            return Err(UpstreamError::Study(path));
        }
        let segmentation = kept.outputs.into_iter().find(|output| output.kind == OutputKind::Segmentation);
        // A name is no path to follow.
        if segmentation.as_ref().is_some_and(|output| output.file != SEGMENTATION_FILE) {
            return Err(format(format!("its segmentation is not {SEGMENTATION_FILE}")));
        }
        let folder = self.folder.clone();
        Ok(Finished { folder, result_sha256, segmentation, module: kept.module, stated: kept.findings })
    }
}

impl Finished {
    /// The segmentation as it was stated, on the grid of its source in `study`; `None` where there is none, and where
    /// no segment has a voxel.
    ///
    /// # Errors
    /// See [`UpstreamError`].
    pub fn labels(
        &self,
        study: &Study,
        budget: &Budget,
        options: &ReadOptions,
    ) -> Result<Option<Labels>, UpstreamError> {
        let Some(written) = &self.segmentation else { return Ok(None) };
        let path = self.folder.join(SEGMENTATION_FILE);
        let changed = || UpstreamError::Changed { path: path.clone(), by: RESULT_FILE };
        // Before anything of it is parsed, and once more what was parsed.
        if crate::hex(&digest(&path, written.bytes)?) != written.sha256 {
            return Err(changed());
        }
        let numbered = self.stated.segments.iter().filter_map(|s| Some((s.number?, u16::try_from(s.value).ok()?)));
        let values: BTreeMap<u16, u16> = numbered.collect();
        let labels = study::labels(&path, study, &values, budget, options)?;
        match crate::hex(&labels.sha256) == written.sha256 {
            true => Ok(Some(labels)),
            false => Err(changed()),
        }
    }

    /// How the result of the later module names it.
    #[must_use]
    pub fn reference(&self) -> InputUpstream {
        InputUpstream {
            module: self.module.name.clone(),
            version: self.module.version.clone(),
            identity_sha256: self.module.identity_sha256.clone(),
            result_sha256: crate::hex(&self.result_sha256),
        }
    }

    /// SHA-256 over what the later module could see of it. When it was made and how long that took is not part of it:
    /// the same input gives the same outputs under the same UIDs, in a chain too.
    #[must_use]
    pub fn seen(&self) -> [u8; 32] {
        let stated = serde_json::to_vec(&self.stated).expect("structs with string keys are JSON");
        // The UID of a segmentation is derived from all that it was made of.
        let segmentation = self.segmentation.as_ref().and_then(|written| written.sop_instance_uid.as_deref());
        let mut hash = Sha256::new();
        hash.update(b"gantry/upstream/1\0");
        for part in [self.module.identity_sha256.as_bytes(), &stated, segmentation.unwrap_or_default().as_bytes()] {
            hash.update((part.len() as u64).to_le_bytes());
            hash.update(part);
        }
        hash.finalize().into()
    }
}

/// A whole file, its digest, and what it is charged as while it is held.
fn read(path: &Path, budget: &Budget) -> Result<(Vec<u8>, [u8; 32], Charge), UpstreamError> {
    let io = |source| UpstreamError::Io { path: path.to_owned(), source };
    let file = File::open(path).map_err(io)?;
    let size = file.metadata().map_err(io)?.len();
    let most = RESULT_MAX_MIB << 20;
    let charge = budget.charge(size.min(most))?;
    let mut bytes = Vec::new();
    file.take(most + 1).read_to_end(&mut bytes).map_err(io)?;
    if bytes.len() as u64 > most {
        return Err(UpstreamError::TooLarge(path.to_owned()));
    }
    let digest = Sha256::digest(&bytes).into();
    Ok((bytes, digest, charge))
}

/// The digest of the first `bytes` of a file, and of one more where there are more: then it is not the file's.
fn digest(path: &Path, bytes: u64) -> Result<[u8; 32], UpstreamError> {
    let io = |source| UpstreamError::Io { path: path.to_owned(), source };
    let mut hash = Sha256::new();
    let mut file = File::open(path).map_err(io)?.take(bytes.saturating_add(1));
    let mut chunk = vec![0; CHUNK_BYTES];
    loop {
        match file.read(&mut chunk).map_err(io)? {
            0 => return Ok(hash.finalize().into()),
            got => hash.update(&chunk[..got]),
        }
    }
}
