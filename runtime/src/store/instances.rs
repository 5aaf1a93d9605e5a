//! Studies, series and instances: what was received, and what of it was set aside.

use sqlx::Row;
use sqlx::sqlite::SqliteRow;

use super::{Store, StoreError};
use crate::study::{Entry, PatientEntry};

/// An instance that is to be journalled.
pub struct Candidate<'a> {
    /// What the file says of itself.
    pub entry: &'a Entry,
    /// The file and how it came.
    pub filed: &'a Filed,
}

/// A file of ours, and how it came.
#[derive(Debug, Clone)]
pub struct Filed {
    /// Below the data folder.
    pub path: String,
    /// Its size.
    pub bytes: u64,
    /// Its digest.
    pub sha256: [u8; 32],
    /// When its last byte came.
    pub received_ms: i64,
    /// `dimse`, `stow`, `folder` or `pacs`.
    pub via: &'static str,
    /// AE title, token or folder.
    pub source: String,
    /// One for each association, request or file.
    pub correlation: String,
}

/// What was set aside.
#[derive(Debug, Clone)]
pub struct Quarantined {
    /// A word, for filters and metrics.
    pub reason: &'static str,
    /// For people; no patient data.
    pub detail: String,
    /// SOP Instance UID as announced or read; empty when there is none that can be told.
    pub sop_instance_uid: String,
}

/// An instance that is kept.
#[derive(Debug, Clone)]
pub struct InstanceRow {
    /// In the journal.
    pub id: i64,
    /// Study Instance UID.
    pub study_instance_uid: String,
    /// Series Instance UID.
    pub series_instance_uid: String,
    /// SOP Instance UID.
    pub sop_instance_uid: String,
    /// SOP Class UID.
    pub sop_class_uid: String,
    /// Transfer Syntax UID.
    pub transfer_syntax_uid: String,
    /// Below the data folder.
    pub path: String,
    /// Its size.
    pub bytes: u64,
    /// Its digest.
    pub sha256: [u8; 32],
}

/// What the journal knows when an instance comes.
pub struct Known {
    /// Whose its study is.
    pub patient: Option<PatientEntry>,
    /// Whether its study may be closed: [`super::IntakeBatch::closed_version`] is sure.
    pub closed: bool,
    /// The instance with its UID.
    pub instance: Option<Kept>,
}

/// The file of an instance that is kept.
pub struct Kept {
    /// Of the instance, in the journal.
    pub id: i64,
    /// Of which study it is.
    pub study_instance_uid: String,
    /// Transfer Syntax UID.
    pub transfer_syntax_uid: String,
    /// Below the data folder.
    pub path: String,
    /// Its size.
    pub bytes: u64,
    /// Its digest.
    pub sha256: [u8; 32],
    /// Whether it was fetched from a PACS, and nobody sent it.
    pub fetched: bool,
}

fn digest(row: &SqliteRow) -> Result<[u8; 32], sqlx::Error> {
    let digest: Vec<u8> = row.try_get("sha256")?;
    digest.try_into().map_err(|_| sqlx::Error::Decode("a digest is not 32 bytes".into()))
}

/// The columns of [`InstanceRow`], with a condition.
macro_rules! select_instance {
    ($condition:literal) => {
        concat!(
            "SELECT instance.id AS id, study_instance_uid, series_instance_uid, sop_instance_uid, sop_class_uid, ",
            "transfer_syntax_uid, path, bytes, sha256 FROM instance ",
            "JOIN series ON series.id = instance.series JOIN study ON study.id = series.study WHERE ",
            $condition
        )
    };
}

impl InstanceRow {
    pub(super) fn read(row: &SqliteRow) -> Result<Self, sqlx::Error> {
        Ok(Self {
            id: row.try_get("id")?,
            study_instance_uid: row.try_get("study_instance_uid")?,
            series_instance_uid: row.try_get("series_instance_uid")?,
            sop_instance_uid: row.try_get("sop_instance_uid")?,
            sop_class_uid: row.try_get("sop_class_uid")?,
            transfer_syntax_uid: row.try_get("transfer_syntax_uid")?,
            path: row.try_get("path")?,
            bytes: row.try_get::<i64, _>("bytes")?.unsigned_abs(),
            sha256: digest(row)?,
        })
    }
}

impl Store {
    /// The instance with this SOP Instance UID.
    ///
    /// # Errors
    /// The journal's.
    pub async fn instance(&self, sop_instance_uid: &str) -> Result<Option<InstanceRow>, StoreError> {
        let query = sqlx::query(select_instance!("sop_instance_uid = ?")).bind(sop_instance_uid);
        Ok(query.fetch_optional(&self.pool).await?.as_ref().map(InstanceRow::read).transpose()?)
    }

    /// The instances of a study, by their place in the journal: in order of arrival.
    ///
    /// # Errors
    /// The journal's.
    pub async fn instances_of_study(&self, study_instance_uid: &str) -> Result<Vec<InstanceRow>, StoreError> {
        let query =
            sqlx::query(select_instance!("study_instance_uid = ? ORDER BY instance.id")).bind(study_instance_uid);
        let rows = query.fetch_all(&self.pool).await?;
        Ok(rows.iter().map(InstanceRow::read).collect::<Result<_, _>>()?)
    }
}
