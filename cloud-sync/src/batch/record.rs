//! What one study brought, in the spool: its part of the manifest, and its rows of the catalogue.

use std::path::Path;

use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};

use super::manifest::MANIFEST_BYTES_MAX;
use super::sealed::read_bounded;
use super::{Failure, MANIFEST_VERSION, Module, Study};
use crate::catalog::Rows;

/// A study that waits for its batch. Without its rows, of which there may be many: they stay on the disk.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Record {
    version: u32,
    /// Among those that wait: the greater the later.
    #[serde(default)]
    pub(super) number: u64,
    pub(super) taken_s: u64,
    pub(super) modules: Vec<Module>,
    pub(super) study: Study,
    #[serde(rename = "rows", default, skip_serializing)]
    _rows: IgnoredAny,
}

impl Record {
    pub(super) fn new(number: u64, taken_s: u64, modules: Vec<Module>, study: Study) -> Self {
        Self { version: MANIFEST_VERSION, number, taken_s, modules, study, _rows: IgnoredAny }
    }

    /// Of its objects.
    pub(super) fn bytes(&self) -> u64 {
        self.study.objects.iter().map(|object| object.bytes).sum()
    }

    /// As it is on the disk.
    pub(super) fn written(&self, rows: &Rows) -> Result<Vec<u8>, Failure> {
        #[derive(Serialize)]
        struct Written<'r> {
            #[serde(flatten)]
            record: &'r Record,
            rows: &'r Rows,
        }
        let json = serde_json::to_vec(&Written { record: self, rows });
        let json = json.expect("a record is strings, numbers and lists");
        match json.len() as u64 {
            bytes if bytes > MANIFEST_BYTES_MAX => Err(Failure::Configuration(format!(
                "the record of a study has {bytes} bytes, and at most {MANIFEST_BYTES_MAX} are read: lower \
                 batch.study_objects_max or batch.study_rows_max"
            ))),
            _ => Ok(json),
        }
    }

    pub(super) fn read(path: &Path) -> Result<Self, Failure> {
        parsed(path)
    }
}

/// The rows of the record in this file.
pub(super) fn rows_of(path: &Path) -> Result<Rows, Failure> {
    #[derive(Deserialize)]
    struct WithRows {
        #[serde(default)]
        rows: Rows,
    }
    let rows = parsed::<WithRows>(path)?.rows;
    match rows.is_whole() {
        true => Ok(rows),
        false => Err(Failure::manifest(path.display(), "of a study has rows of another version: update this program")),
    }
}

fn parsed<T: for<'de> Deserialize<'de>>(path: &Path) -> Result<T, Failure> {
    serde_json::from_slice(&read_bounded(path)?)
        .map_err(|error| Failure::manifest(path.display(), format!("of a study cannot be read: {error}")))
}
