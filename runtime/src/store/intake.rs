//! What the intake writes: on a connection and a thread of its own, because a way to the journal's other threads and back
//! for each statement costs more than the statements do.

use std::time::Duration;

use rusqlite::{Connection, OpenFlags, OptionalExtension, Row, Transaction, TransactionBehavior, params};
use tokio_util::task::task_tracker::TaskTrackerToken;

use super::{BUSY_TIMEOUT, Candidate, Filed, Kept, Known, Quarantined, Store, StoreError};
use crate::audit::Head;
use crate::study::PatientEntry;

/// Prepared statements that are kept; all of this file.
const STATEMENTS_MAX: usize = 32;

/// A connection to the journal that waits where it is called.
pub struct IntakeWriter {
    // Before the token: it is closed when the token goes.
    connection: Connection,
    _open: TaskTrackerToken,
}

/// Changes that become durable together or not at all.
pub struct IntakeBatch<'a> {
    pub(super) transaction: Transaction<'a>,
    /// The last row of the audit log, once the batch has added one.
    pub(super) audit_head: Option<Head>,
}

impl Store {
    /// A connection for the intake.
    ///
    /// # Errors
    /// The journal's.
    pub fn intake_writer(&self) -> Result<IntakeWriter, StoreError> {
        let connection = Connection::open(self.pool.connect_options().get_filename())?;
        // What the other connections have; that there is a write-ahead log is in the file.
        connection.busy_timeout(BUSY_TIMEOUT)?;
        connection.pragma_update(None, "synchronous", "FULL")?;
        connection.pragma_update(None, "foreign_keys", true)?;
        connection.set_prepared_statement_cache_capacity(STATEMENTS_MAX);
        #[cfg(test)]
        if let Some(watch) = &self.watch {
            watch.over(&connection)?;
        }
        Ok(IntakeWriter { connection, _open: self.writers.token() })
    }

    /// Whether the intake can write: it would have its turn within this time, or whoever has theirs gets on. Waits where it is
    /// called.
    ///
    /// # Errors
    /// The journal's.
    pub fn takes_instances(&self, within: Duration) -> Result<bool, StoreError> {
        // One that is not there is not made.
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let mut connection = Connection::open_with_flags(self.pool.connect_options().get_filename(), flags)?;
        connection.busy_timeout(within)?;
        let changes = |of: &Connection| of.pragma_query_value(None, "data_version", |row| row.get::<_, i64>(0));
        let before = changes(&connection)?;
        let turn = connection.transaction_with_behavior(TransactionBehavior::Immediate).map(drop);
        match turn.map_err(StoreError::from) {
            Err(e) if e.is_busy() => Ok(changes(&connection)? != before),
            had => had.map(|()| true),
        }
    }
}

impl IntakeWriter {
    /// Begins changes; one writer at a time.
    ///
    /// # Errors
    /// The journal's.
    pub fn begin(&mut self) -> Result<IntakeBatch<'_>, StoreError> {
        let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        Ok(IntakeBatch { transaction, audit_head: None })
    }
}

impl IntakeBatch<'_> {
    /// What is known of an instance and of its study, also when it is of this batch.
    ///
    /// # Errors
    /// The journal's.
    pub fn known(&self, study_instance_uid: &str, sop_instance_uid: &str) -> Result<Known, StoreError> {
        let mut study = self.transaction.prepare_cached(
            "SELECT patient_id, issuer_of_patient_id, patient_name, patient_birth_date, patient_sex, \
             EXISTS (SELECT 1 FROM study_version AS v WHERE v.study = study.id \
             AND v.last_received_ms = study.last_received_ms) AS closed FROM study WHERE study_instance_uid = ?",
        )?;
        let study = study.query_row([study_instance_uid], |row| Ok((patient(row)?, row.get("closed")?))).optional()?;
        let mut instance = self.transaction.prepare_cached(
            "SELECT instance.id AS id, study_instance_uid, transfer_syntax_uid, path, bytes, sha256, via = 'pacs' AS fetched FROM instance \
             JOIN series ON series.id = instance.series JOIN study ON study.id = series.study \
             WHERE sop_instance_uid = ?",
        )?;
        let instance = instance.query_row([sop_instance_uid], kept).optional()?;
        let (patient, closed) = study.map_or((None, false), |(patient, closed)| (Some(patient), closed));
        Ok(Known { patient, closed, instance })
    }

    /// The version of a study that everything of it belongs to; nothing when it is open or not known.
    ///
    /// # Errors
    /// The journal's.
    pub fn closed_version(&self, study_instance_uid: &str) -> Result<Option<u32>, StoreError> {
        // Instances are counted only where the times are the same, which is once for each time that a study reopens.
        let mut statement = self.transaction.prepare_cached(
            "SELECT version FROM study JOIN study_version ON study_version.study = study.id \
             WHERE study_instance_uid = ? \
             AND version = (SELECT max(version) FROM study_version AS v WHERE v.study = study.id) \
             AND iif(study_version.last_received_ms = study.last_received_ms, instances = (SELECT count(*) FROM instance \
             JOIN series ON series.id = instance.series WHERE series.study = study.id), 0)",
        )?;
        Ok(statement.query_row([study_instance_uid], |row| row.get(0)).optional()?)
    }

    /// Whether somebody sent any of a study: it is work, and no earlier study that was only fetched.
    ///
    /// # Errors
    /// The journal's.
    pub fn is_sent(&self, study_instance_uid: &str) -> Result<bool, StoreError> {
        let mut statement = self.transaction.prepare_cached(
            "SELECT 1 FROM study JOIN series ON series.study = study.id JOIN instance ON instance.series = series.id \
             WHERE study_instance_uid = ? AND via <> 'pacs' LIMIT 1",
        )?;
        Ok(statement.exists([study_instance_uid])?)
    }

    /// Adds an instance, and its study and series when they are new. What an earlier instance of the study or series left
    /// empty is filled; what it said stays.
    ///
    /// # Errors
    /// The journal's.
    pub fn add(&self, candidate: &Candidate<'_>) -> Result<(), StoreError> {
        let (entry, filed) = (candidate.entry, candidate.filed);
        let (patient, study, series) = (&entry.patient, &entry.study, &entry.series);
        let mut add_study = self.transaction.prepare_cached(
            "INSERT INTO study (study_instance_uid, patient_id, issuer_of_patient_id, patient_name, patient_birth_date, \
             patient_sex, study_date, study_time, accession_number, referring_physician_name, study_id, \
             study_description, stated_series, stated_instances, first_received_ms, last_received_ms) \
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?15) \
             ON CONFLICT (study_instance_uid) DO UPDATE SET \
             patient_id = iif(patient_id = '', excluded.patient_id, patient_id), \
             issuer_of_patient_id = iif(issuer_of_patient_id = '', excluded.issuer_of_patient_id, issuer_of_patient_id), \
             patient_name = iif(patient_name = '', excluded.patient_name, patient_name), \
             patient_birth_date = iif(patient_birth_date = '', excluded.patient_birth_date, patient_birth_date), \
             patient_sex = iif(patient_sex = '', excluded.patient_sex, patient_sex), \
             stated_series = coalesce(excluded.stated_series, stated_series), \
             stated_instances = coalesce(excluded.stated_instances, stated_instances), \
             last_received_ms = excluded.last_received_ms RETURNING id",
        )?;
        let added = params![
            study.uid,
            patient.id,
            patient.issuer,
            patient.name,
            patient.birth_date,
            patient.sex,
            study.date,
            study.time,
            study.accession_number,
            study.referring_physician_name,
            study.id,
            study.description,
            study.stated_series,
            study.stated_instances,
            filed.received_ms
        ];
        let study: i64 = add_study.query_row(added, |row| row.get(0))?;
        let mut add_series = self.transaction.prepare_cached(
            "INSERT INTO series (study, series_instance_uid, modality, series_number, series_description, series_date, \
             series_time, body_part_examined, performed_step_start_date, performed_step_start_time, stated_instances) \
             VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) \
             ON CONFLICT (study, series_instance_uid) DO UPDATE SET \
             stated_instances = coalesce(excluded.stated_instances, stated_instances) RETURNING id",
        )?;
        let added = params![
            study,
            series.uid,
            series.modality,
            series.number,
            series.description,
            series.date,
            series.time,
            series.body_part_examined,
            series.performed_step_start_date,
            series.performed_step_start_time,
            series.stated_instances
        ];
        let series: i64 = add_series.query_row(added, |row| row.get(0))?;
        let mut add_instance = self.transaction.prepare_cached(
            "INSERT INTO instance (series, sop_instance_uid, sop_class_uid, transfer_syntax_uid, instance_number, \
             \"rows\", \"columns\", bits_allocated, number_of_frames, path, bytes, sha256, received_ms, via, source, \
             correlation) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        )?;
        add_instance.execute(params![
            series,
            entry.sop_instance_uid,
            entry.sop_class_uid,
            entry.transfer_syntax_uid,
            entry.instance_number,
            entry.rows,
            entry.columns,
            entry.bits_allocated,
            entry.number_of_frames,
            filed.path,
            filed.bytes.cast_signed(),
            filed.sha256,
            filed.received_ms,
            filed.via,
            filed.source,
            filed.correlation
        ])?;
        Ok(())
    }

    /// An instance that was fetched is one that somebody sent, from now on: its study is work.
    ///
    /// # Errors
    /// The journal's.
    pub fn adopt(&self, id: i64, filed: &Filed) -> Result<(), StoreError> {
        self.transaction.execute(
            "UPDATE instance SET received_ms = ?, via = ?, source = ?, correlation = ? WHERE id = ?",
            params![filed.received_ms, filed.via, filed.source, filed.correlation, id],
        )?;
        self.transaction.execute(
            "UPDATE study SET last_received_ms = ? \
             WHERE id = (SELECT study FROM series JOIN instance ON instance.series = series.id WHERE instance.id = ?)",
            params![filed.received_ms, id],
        )?;
        Ok(())
    }

    /// Takes an instance out, for another one of its UID.
    ///
    /// # Errors
    /// The journal's.
    pub fn remove(&self, id: i64) -> Result<(), StoreError> {
        self.transaction.execute("DELETE FROM instance WHERE id = ?", [id])?;
        Ok(())
    }

    /// Where these bytes were set aside for this reason already.
    ///
    /// # Errors
    /// The journal's.
    pub fn quarantined(&self, sha256: &[u8; 32], reason: &str) -> Result<Option<String>, StoreError> {
        let mut statement =
            self.transaction.prepare_cached("SELECT path FROM quarantine WHERE sha256 = ? AND reason = ?")?;
        Ok(statement.query_row(params![sha256, reason], |row| row.get(0)).optional()?)
    }

    /// Records what was set aside.
    ///
    /// # Errors
    /// The journal's.
    pub fn quarantine(&self, why: &Quarantined, filed: &Filed) -> Result<(), StoreError> {
        self.transaction.execute(
            "INSERT INTO quarantine (reason, detail, sop_instance_uid, path, bytes, sha256, received_ms, via, source, \
             correlation) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            params![
                why.reason,
                why.detail,
                why.sop_instance_uid,
                filed.path,
                filed.bytes.cast_signed(),
                filed.sha256,
                filed.received_ms,
                filed.via,
                filed.source,
                filed.correlation
            ],
        )?;
        Ok(())
    }

    /// Makes the changes durable.
    ///
    /// # Errors
    /// The journal's; then nothing of the batch is known to be durable.
    pub fn commit(self) -> Result<(), StoreError> {
        Ok(self.transaction.commit()?)
    }
}

fn patient(row: &Row<'_>) -> rusqlite::Result<PatientEntry> {
    Ok(PatientEntry {
        id: row.get("patient_id")?,
        issuer: row.get("issuer_of_patient_id")?,
        name: row.get("patient_name")?,
        birth_date: row.get("patient_birth_date")?,
        sex: row.get("patient_sex")?,
    })
}

fn kept(row: &Row<'_>) -> rusqlite::Result<Kept> {
    Ok(Kept {
        id: row.get("id")?,
        study_instance_uid: row.get("study_instance_uid")?,
        transfer_syntax_uid: row.get("transfer_syntax_uid")?,
        path: row.get("path")?,
        bytes: row.get::<_, i64>("bytes")?.unsigned_abs(),
        sha256: row.get("sha256")?,
        fetched: row.get("fetched")?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::{Action, Event};
    use crate::store::FILE;

    #[test]
    fn a_journal_that_somebody_holds_takes_no_instances_and_one_that_somebody_writes_to_does() {
        let folder = tempfile::tempdir().expect("a folder");
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let store = runtime.block_on(Store::open(folder.path())).expect("a journal");
        let (within, mut writer) = (Duration::from_millis(200), store.intake_writer().expect("a connection"));
        let takes = |within| store.takes_instances(within).expect("it answers");
        assert!(takes(Duration::ZERO));
        let held = writer.begin().expect("begun");
        assert!(!takes(within));
        held.commit().expect("committed");
        assert!(takes(Duration::ZERO));

        // Who always writes leaves nobody else a turn, or hardly.
        std::thread::scope(|threads| {
            let asked = threads.spawn(|| takes(within));
            while !asked.is_finished() {
                let mut batch = writer.begin().expect("begun");
                let event = Event::new("CT1", Action::StudyReopened);
                batch.audit(&event).expect("written");
                batch.commit().expect("committed");
            }
            assert!(asked.join().expect("no panic"));
        });
        std::fs::remove_file(folder.path().join(FILE)).expect("removed");
        assert!(store.takes_instances(Duration::ZERO).is_err());
    }
}
