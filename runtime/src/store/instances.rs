//! Studies, series and instances: what was received, and what of it was set aside.

use sqlx::sqlite::SqliteRow;
use sqlx::{Row, Sqlite, Transaction};

use super::{Store, StoreError};
use crate::study::{Entry, PatientEntry};

/// Changes that become durable together or not at all.
pub struct Batch {
    pub(super) transaction: Transaction<'static, Sqlite>,
    /// The last row of the audit log, once the batch has added one.
    pub(super) audit_head: Option<crate::audit::Head>,
}

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
    /// Whether its study may be closed: [`Batch::closed_version`] is sure.
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
    /// Begins changes; one writer at a time.
    ///
    /// # Errors
    /// The journal's.
    pub async fn begin(&self) -> Result<Batch, StoreError> {
        Ok(Batch { transaction: self.pool.begin_with("BEGIN IMMEDIATE").await?, audit_head: None })
    }

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

impl Batch {
    /// What is known of an instance and of its study, also when it is of this batch.
    ///
    /// # Errors
    /// The journal's.
    pub async fn known(&mut self, study_instance_uid: &str, sop_instance_uid: &str) -> Result<Known, StoreError> {
        let query = sqlx::query(
            "SELECT study.id AS study, study.patient_id, study.issuer_of_patient_id, study.patient_name, \
             study.patient_birth_date, study.patient_sex, \
             EXISTS (SELECT 1 FROM study_version AS v WHERE v.study = study.id \
             AND v.last_received_ms = study.last_received_ms) AS closed, \
             instance.id AS instance, own.study_instance_uid AS own_uid, path, bytes, sha256, via = 'pacs' AS fetched \
             FROM (SELECT ? AS study_uid, ? AS instance_uid) \
             LEFT JOIN study ON study.study_instance_uid = study_uid \
             LEFT JOIN instance ON sop_instance_uid = instance_uid \
             LEFT JOIN series ON series.id = instance.series LEFT JOIN study AS own ON own.id = series.study",
        );
        let query = query.bind(study_instance_uid).bind(sop_instance_uid);
        let row = query.fetch_one(&mut *self.transaction).await?;
        let patient = match row.try_get::<Option<i64>, _>("study")? {
            None => None,
            Some(_) => Some(PatientEntry {
                id: row.try_get("patient_id")?,
                issuer: row.try_get("issuer_of_patient_id")?,
                name: row.try_get("patient_name")?,
                birth_date: row.try_get("patient_birth_date")?,
                sex: row.try_get("patient_sex")?,
            }),
        };
        let instance = match row.try_get("instance")? {
            None => None,
            Some(id) => Some(Kept {
                id,
                study_instance_uid: row.try_get("own_uid")?,
                path: row.try_get("path")?,
                bytes: row.try_get::<i64, _>("bytes")?.unsigned_abs(),
                sha256: digest(&row)?,
                fetched: row.try_get::<i64, _>("fetched")? != 0,
            }),
        };
        Ok(Known { patient, closed: row.try_get::<i64, _>("closed")? != 0, instance })
    }

    /// Adds an instance, and its study and series when they are new. What an earlier instance of the study or series left
    /// empty is filled; what it said stays.
    ///
    /// # Errors
    /// The journal's.
    pub async fn add(&mut self, candidate: &Candidate<'_>) -> Result<(), StoreError> {
        let (entry, filed) = (candidate.entry, candidate.filed);
        let (patient, study, series) = (&entry.patient, &entry.study, &entry.series);
        // One text, for each costs a way to the journal's thread and back.
        let query = sqlx::query(
            "INSERT INTO study (study_instance_uid, patient_id, issuer_of_patient_id, patient_name, patient_birth_date, \
             patient_sex, study_date, study_time, accession_number, referring_physician_name, study_id, \
             study_description, stated_series, stated_instances, first_received_ms, last_received_ms) \
             VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) \
             ON CONFLICT (study_instance_uid) DO UPDATE SET \
             patient_id = iif(patient_id = '', excluded.patient_id, patient_id), \
             issuer_of_patient_id = iif(issuer_of_patient_id = '', excluded.issuer_of_patient_id, issuer_of_patient_id), \
             patient_name = iif(patient_name = '', excluded.patient_name, patient_name), \
             patient_birth_date = iif(patient_birth_date = '', excluded.patient_birth_date, patient_birth_date), \
             patient_sex = iif(patient_sex = '', excluded.patient_sex, patient_sex), \
             stated_series = coalesce(excluded.stated_series, stated_series), \
             stated_instances = coalesce(excluded.stated_instances, stated_instances), \
             last_received_ms = excluded.last_received_ms; \
             INSERT INTO series (study, series_instance_uid, modality, series_number, series_description, series_date, \
             series_time, body_part_examined, performed_step_start_date, performed_step_start_time, stated_instances) \
             SELECT id, ?, ?, ?, ?, ?, ?, ?, ?, ?, ? FROM study WHERE study_instance_uid = ? \
             ON CONFLICT (study, series_instance_uid) DO UPDATE SET \
             stated_instances = coalesce(excluded.stated_instances, stated_instances); \
             INSERT INTO instance (series, sop_instance_uid, sop_class_uid, transfer_syntax_uid, instance_number, \
             \"rows\", \"columns\", bits_allocated, number_of_frames, path, bytes, sha256, received_ms, via, source, \
             correlation) SELECT series.id, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ? \
             FROM series JOIN study ON study.id = series.study \
             WHERE series_instance_uid = ? AND study_instance_uid = ?",
        );
        let query = query
            .bind(&study.uid)
            .bind(&patient.id)
            .bind(&patient.issuer)
            .bind(&patient.name)
            .bind(&patient.birth_date)
            .bind(&patient.sex)
            .bind(&study.date)
            .bind(&study.time)
            .bind(&study.accession_number)
            .bind(&study.referring_physician_name)
            .bind(&study.id)
            .bind(&study.description)
            .bind(study.stated_series)
            .bind(study.stated_instances)
            .bind(filed.received_ms)
            .bind(filed.received_ms);
        let query = query
            .bind(&series.uid)
            .bind(&series.modality)
            .bind(&series.number)
            .bind(&series.description)
            .bind(&series.date)
            .bind(&series.time)
            .bind(&series.body_part_examined)
            .bind(&series.performed_step_start_date)
            .bind(&series.performed_step_start_time)
            .bind(series.stated_instances)
            .bind(&study.uid);
        let query = query
            .bind(&entry.sop_instance_uid)
            .bind(&entry.sop_class_uid)
            .bind(&entry.transfer_syntax_uid)
            .bind(&entry.instance_number)
            .bind(entry.rows)
            .bind(entry.columns)
            .bind(entry.bits_allocated)
            .bind(entry.number_of_frames)
            .bind(&filed.path)
            .bind(filed.bytes.cast_signed())
            .bind(filed.sha256.as_slice())
            .bind(filed.received_ms)
            .bind(filed.via)
            .bind(&filed.source)
            .bind(&filed.correlation)
            .bind(&series.uid)
            .bind(&study.uid);
        query.execute(&mut *self.transaction).await?;
        Ok(())
    }

    /// An instance that was fetched is one that somebody sent, from now on: its study is work.
    ///
    /// # Errors
    /// The journal's.
    pub async fn adopt(&mut self, id: i64, filed: &Filed) -> Result<(), StoreError> {
        sqlx::query("UPDATE instance SET received_ms = ?, via = ?, source = ?, correlation = ? WHERE id = ?")
            .bind(filed.received_ms)
            .bind(filed.via)
            .bind(&filed.source)
            .bind(&filed.correlation)
            .bind(id)
            .execute(&mut *self.transaction)
            .await?;
        sqlx::query(
            "UPDATE study SET last_received_ms = ? \
             WHERE id = (SELECT study FROM series JOIN instance ON instance.series = series.id WHERE instance.id = ?)",
        )
        .bind(filed.received_ms)
        .bind(id)
        .execute(&mut *self.transaction)
        .await?;
        Ok(())
    }

    /// Whether somebody sent any of a study: it is work, and no earlier study that was only fetched.
    ///
    /// # Errors
    /// The journal's.
    pub async fn is_sent(&mut self, study_instance_uid: &str) -> Result<bool, StoreError> {
        let query = sqlx::query(
            "SELECT 1 FROM study JOIN series ON series.study = study.id JOIN instance ON instance.series = series.id \
             WHERE study_instance_uid = ? AND via <> 'pacs' LIMIT 1",
        );
        Ok(query.bind(study_instance_uid).fetch_optional(&mut *self.transaction).await?.is_some())
    }

    /// Takes an instance out, for another one of its UID.
    ///
    /// # Errors
    /// The journal's.
    pub async fn remove(&mut self, id: i64) -> Result<(), StoreError> {
        sqlx::query("DELETE FROM instance WHERE id = ?").bind(id).execute(&mut *self.transaction).await?;
        Ok(())
    }

    /// Records what was set aside.
    ///
    /// # Errors
    /// The journal's.
    pub async fn quarantine(&mut self, why: &Quarantined, filed: &Filed) -> Result<(), StoreError> {
        sqlx::query(
            "INSERT INTO quarantine (reason, detail, sop_instance_uid, path, bytes, sha256, received_ms, via, source, \
             correlation) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        )
        .bind(why.reason)
        .bind(&why.detail)
        .bind(&why.sop_instance_uid)
        .bind(&filed.path)
        .bind(filed.bytes.cast_signed())
        .bind(filed.sha256.as_slice())
        .bind(filed.received_ms)
        .bind(filed.via)
        .bind(&filed.source)
        .bind(&filed.correlation)
        .execute(&mut *self.transaction)
        .await?;
        Ok(())
    }

    /// Makes the changes durable.
    ///
    /// # Errors
    /// The journal's; then nothing of the batch is known to be durable.
    pub async fn commit(self) -> Result<(), StoreError> {
        Ok(self.transaction.commit().await?)
    }
}
