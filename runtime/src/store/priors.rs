//! Earlier studies: of whom they are looked for, which are here, and what was decided for a version of a study.

use chrono::NaiveDate;
use sqlx::Row;
use sqlx::sqlite::SqliteRow;

use super::{Store, StoreError, now_ms};
use crate::audit::{Action, Event, NODE};
use crate::study::PatientEntry;

/// Studies of one patient that are looked at.
const STUDIES_MAX: u32 = 1000;

/// By what earlier studies of the patient are found. Holds a patient's identity: no `Debug`.
#[derive(Clone)]
pub struct PriorKey {
    /// Study Instance UID of the study itself.
    pub study_instance_uid: String,
    /// Whose it is.
    pub patient: PatientEntry,
    /// Study Date (0008,0020).
    pub study_date: String,
    /// Study Time (0008,0030); may be empty.
    pub study_time: String,
    /// Modalities of its series.
    pub modalities: Vec<String>,
}

/// An earlier study that jobs are shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PriorRow {
    /// Study Instance UID.
    pub study_instance_uid: String,
    /// Days before the study that the jobs are about.
    pub days_before: u32,
    /// Instances that it is made of.
    pub instances: u64,
    /// The last of them.
    pub last_instance: i64,
}

/// What was decided for a version of a study.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Gathered {
    /// The latest first.
    pub priors: Vec<PriorRow>,
    /// What could not be had; no patient data.
    pub warnings: Vec<String>,
}

impl PriorKey {
    /// Days from a date and time of a study to those of this one, where both are stated and the other is earlier.
    #[must_use]
    pub fn days_since(&self, date: &str, time: &str) -> Option<u32> {
        let day = |text: &str| NaiveDate::parse_from_str(text.trim(), "%Y%m%d").ok().filter(|_| text.trim().len() == 8);
        let days = u32::try_from((day(&self.study_date)? - day(date)?).num_days()).ok()?;
        let moment = |time: &str| format!("{:0<6}", time.trim());
        let stated = !self.study_time.trim().is_empty() && !time.trim().is_empty();
        let earlier = days > 0 || (stated && moment(time) < moment(&self.study_time));
        earlier.then_some(days)
    }

    /// Why nothing can be looked for by it, if so.
    #[must_use]
    pub fn unusable(&self) -> Option<&'static str> {
        let id = &self.patient.id;
        match () {
            () if id.is_empty() => Some("the study has no Patient ID (0010,0020)"),
            // Such an ID would match other patients (PS3.4 section C.2.2.2.4).
            () if id.contains(['*', '?', '\\']) => Some("the study's Patient ID (0010,0020) is a pattern"),
            () if NaiveDate::parse_from_str(self.study_date.trim(), "%Y%m%d").is_err() => {
                Some("the study has no Study Date (0008,0020)")
            }
            () if self.modalities.is_empty() => Some("the study has no Modality (0008,0060)"),
            () => None,
        }
    }
}

/// A study that may be an earlier one.
struct Known {
    row: PriorRow,
    date: String,
    time: String,
    patient: PatientEntry,
    usable: bool,
}

impl Known {
    fn read(row: &SqliteRow) -> Result<Self, sqlx::Error> {
        let instances: i64 = row.try_get("instances")?;
        let (sent, fetched): (i64, Option<i64>) = (row.try_get("sent")?, row.try_get("fetched")?);
        let (closed, closed_ms): (Option<i64>, Option<i64>) = (row.try_get("closed")?, row.try_get("closed_ms")?);
        let whole = match sent > 0 {
            true => closed == Some(instances) && closed_ms == Some(row.try_get("last_received_ms")?),
            false => fetched == Some(instances),
        };
        Ok(Self {
            row: PriorRow {
                study_instance_uid: row.try_get("study_instance_uid")?,
                days_before: 0,
                instances: instances.unsigned_abs(),
                last_instance: row.try_get("last_instance")?,
            },
            date: row.try_get("study_date")?,
            time: row.try_get("study_time")?,
            patient: patient(row)?,
            usable: whole,
        })
    }
}

pub(super) fn patient(row: &SqliteRow) -> Result<PatientEntry, sqlx::Error> {
    Ok(PatientEntry {
        id: row.try_get("patient_id")?,
        issuer: row.try_get("issuer_of_patient_id")?,
        name: row.try_get("patient_name")?,
        birth_date: row.try_get("patient_birth_date")?,
        sex: row.try_get("patient_sex")?,
    })
}

impl Store {
    /// By what earlier studies of a study's patient are found; nothing when the study is not known.
    ///
    /// # Errors
    /// The journal's.
    pub async fn prior_key(&self, study_instance_uid: &str) -> Result<Option<PriorKey>, StoreError> {
        let query = sqlx::query("SELECT * FROM study WHERE study_instance_uid = ?").bind(study_instance_uid);
        let Some(row) = query.fetch_optional(&self.pool).await? else { return Ok(None) };
        let modalities =
            sqlx::query("SELECT DISTINCT modality FROM series WHERE study = ? AND modality <> '' ORDER BY modality")
                .bind(row.try_get::<i64, _>("id")?)
                .fetch_all(&self.pool)
                .await?;
        Ok(Some(PriorKey {
            study_instance_uid: study_instance_uid.to_owned(),
            patient: patient(&row)?,
            study_date: row.try_get("study_date")?,
            study_time: row.try_get("study_time")?,
            modalities: modalities.iter().map(|row| row.try_get(0)).collect::<Result<_, _>>()?,
        }))
    }

    /// Earlier studies of the same patient with a modality of the study's that are whole here, the latest first: closed where
    /// somebody sent them, complete where they were fetched.
    ///
    /// # Errors
    /// The journal's.
    pub async fn earlier_studies(&self, key: &PriorKey, most: usize) -> Result<Vec<PriorRow>, StoreError> {
        if key.unusable().is_some() {
            return Ok(Vec::new());
        }
        let modalities = serde_json::to_string(&key.modalities).expect("strings are JSON");
        let rows = sqlx::query(
            "SELECT study.*, count(instance.id) AS instances, max(instance.id) AS last_instance, \
             sum(via <> 'pacs') AS sent, \
             (SELECT fetched.instances FROM fetched WHERE fetched.study = study.id) AS fetched, \
             (SELECT v.instances FROM study_version AS v WHERE v.study = study.id ORDER BY version DESC LIMIT 1) AS closed, \
             (SELECT v.last_received_ms FROM study_version AS v WHERE v.study = study.id ORDER BY version DESC LIMIT 1) \
             AS closed_ms \
             FROM study JOIN series ON series.study = study.id JOIN instance ON instance.series = series.id \
             WHERE patient_id = ?1 AND study_instance_uid <> ?2 AND study_date <= ?3 AND EXISTS \
             (SELECT 1 FROM series WHERE study = study.id AND modality IN (SELECT value FROM json_each(?4))) \
             GROUP BY study.id ORDER BY study_date DESC, study_time DESC, study_instance_uid LIMIT ?5",
        )
        .bind(&key.patient.id)
        .bind(&key.study_instance_uid)
        .bind(&key.study_date)
        .bind(modalities)
        .bind(STUDIES_MAX)
        .fetch_all(&self.pool)
        .await?;
        let mut priors = Vec::new();
        for row in &rows {
            let known = Known::read(row)?;
            let Some(days_before) = key.days_since(&known.date, &known.time) else { continue };
            if known.usable && known.patient.differs(&key.patient).is_none() && priors.len() < most {
                priors.push(PriorRow { days_before, ..known.row });
            }
        }
        Ok(priors)
    }

    /// How many instances of a study are here, if all of it was fetched; nothing when somebody sent any of it.
    ///
    /// # Errors
    /// The journal's.
    pub async fn fetched_instances(&self, study_instance_uid: &str) -> Result<Option<u64>, StoreError> {
        let row = sqlx::query(
            "SELECT count(*), coalesce(sum(via <> 'pacs'), 0) FROM study JOIN series ON series.study = study.id \
             JOIN instance ON instance.series = series.id WHERE study_instance_uid = ?",
        )
        .bind(study_instance_uid)
        .fetch_one(&self.pool)
        .await?;
        let (instances, sent): (i64, i64) = (row.try_get(0)?, row.try_get(1)?);
        Ok((sent == 0).then_some(instances.unsigned_abs()))
    }

    /// Whether all that an archive had of a study came, when it was fetched last.
    ///
    /// # Errors
    /// The journal's.
    pub async fn is_fetched(&self, study_instance_uid: &str) -> Result<bool, StoreError> {
        let query = sqlx::query("SELECT 1 FROM fetched JOIN study ON study.id = study WHERE study_instance_uid = ?");
        Ok(query.bind(study_instance_uid).fetch_optional(&self.pool).await?.is_some())
    }

    /// Records that an archive gave all that it has of an earlier study, and for which version of which study. Nothing is
    /// recorded when somebody sent any of it meanwhile.
    ///
    /// # Errors
    /// The journal's.
    pub async fn fetched(
        &self,
        prior: &str,
        (archive, correlation): (&str, &str),
        (study_instance_uid, version): (&str, u32),
    ) -> Result<(), StoreError> {
        let mut batch = self.begin().await?;
        let row = sqlx::query(
            "INSERT INTO fetched (study, instances, fetched_ms) SELECT study.id, count(*), ?2 FROM study \
             JOIN series ON series.study = study.id JOIN instance ON instance.series = series.id \
             WHERE study_instance_uid = ?1 GROUP BY study.id HAVING sum(via <> 'pacs') = 0 \
             ON CONFLICT (study) DO UPDATE SET instances = excluded.instances, fetched_ms = excluded.fetched_ms \
             RETURNING instances",
        )
        .bind(prior)
        .bind(now_ms())
        .fetch_optional(&mut *batch.transaction)
        .await?;
        let Some(row) = row else { return Ok(()) };
        let instances: i64 = row.try_get("instances")?;
        let event = Event {
            study_instance_uid: prior.to_owned(),
            object: format!("for v{version} of {study_instance_uid}"),
            detail: format!("{instances} instances from {archive}"),
            correlation: correlation.to_owned(),
            ..Event::new(NODE, Action::PriorFetched)
        };
        batch.audit(&event).await?;
        batch.commit().await
    }

    /// Records what jobs of a version of a study are shown of earlier ones. What was recorded first stays.
    ///
    /// # Errors
    /// The journal's.
    pub async fn record_gathered(&self, uid: &str, version: u32, gathered: &Gathered) -> Result<(), StoreError> {
        let mut batch = self.begin().await?;
        let done = sqlx::query("INSERT INTO gathered VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING")
            .bind(uid)
            .bind(version)
            .bind(now_ms())
            .bind(gathered.warnings.join("\n"))
            .execute(&mut *batch.transaction)
            .await?;
        if done.rows_affected() == 0 {
            return Ok(());
        }
        for (place, prior) in (0_i64..).zip(&gathered.priors) {
            sqlx::query("INSERT INTO prior VALUES (?, ?, ?, ?, ?, ?, ?)")
                .bind(uid)
                .bind(version)
                .bind(place)
                .bind(&prior.study_instance_uid)
                .bind(prior.days_before)
                .bind(prior.instances.cast_signed())
                .bind(prior.last_instance)
                .execute(&mut *batch.transaction)
                .await?;
        }
        batch.commit().await
    }

    /// What was decided for a version of a study; nothing before it was.
    ///
    /// # Errors
    /// The journal's.
    pub async fn gathered(&self, uid: &str, version: u32) -> Result<Option<Gathered>, StoreError> {
        let query = sqlx::query("SELECT warnings FROM gathered WHERE study_instance_uid = ? AND study_version = ?");
        let Some(row) = query.bind(uid).bind(version).fetch_optional(&self.pool).await? else { return Ok(None) };
        let warnings: String = row.try_get("warnings")?;
        let rows = sqlx::query("SELECT * FROM prior WHERE study_instance_uid = ? AND study_version = ? ORDER BY place");
        let rows = rows.bind(uid).bind(version).fetch_all(&self.pool).await?;
        let read = |row: &SqliteRow| {
            Ok(PriorRow {
                study_instance_uid: row.try_get("prior_uid")?,
                days_before: row.try_get("days_before")?,
                instances: row.try_get::<i64, _>("instances")?.unsigned_abs(),
                last_instance: row.try_get("last_instance")?,
            })
        };
        let priors = rows.iter().map(read).collect::<Result<_, sqlx::Error>>()?;
        Ok(Some(Gathered { priors, warnings: warnings.lines().map(str::to_owned).collect() }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(date: &str, time: &str) -> PriorKey {
        PriorKey {
            study_instance_uid: "2.25.1".into(),
            patient: PatientEntry { id: "P1".into(), issuer: "A".into(), ..PatientEntry::default() },
            study_date: date.into(),
            study_time: time.into(),
            modalities: vec!["CT".into()],
        }
    }

    #[test]
    fn earlier_is_told_by_date_and_on_one_day_by_time() {
        let own = key("20240301", "101500");
        for (date, time, days) in [
            ("20240229", "", Some(1)),
            ("20230301", "235959", Some(366)),
            ("20240301", "1014", Some(0)),
            ("20240301", "101500", None),
            ("20240301", "", None),
            ("20240302", "", None),
            ("", "", None),
            ("2024.02.01", "", None),
            ("20241301", "", None),
        ] {
            assert_eq!(own.days_since(date, time), days, "{date} {time}");
        }
        assert_eq!(key("20240301", "").days_since("20240301", "100000"), None);
    }

    #[test]
    fn what_could_match_others_is_not_asked_for() {
        assert_eq!(key("20240301", "").unusable(), None);
        for id in ["", "*", "A?", "A\\B"] {
            let mut key = key("20240301", "");
            key.patient.id = id.into();
            assert!(key.unusable().is_some(), "{id}");
        }
        assert!(key("", "").unusable().is_some());
    }

    /// Study 1 is the one that others are earlier than. 2 was sent and closed, 3 is open, 4 was fetched whole, 5 was cut off,
    /// 6 is of another issuer, 7 of another modality, 8 later, 9 of another ID.
    const STUDIES: &str = "
        WITH s (n, patient, issuer, day) AS (VALUES (1, 'P1', 'A', '20240301'), (2, 'P1', 'A', '20240201'),
            (3, 'P1', 'A', '20240202'), (4, 'P1', '', '20240203'), (5, 'P1', 'A', '20240204'), (6, 'P1', 'B', '20240205'),
            (7, 'P1', 'A', '20240206'), (8, 'P1', 'A', '20240401'), (9, 'P2', 'A', '20240207'))
            INSERT INTO study SELECT n, '2.25.' || n, patient, issuer, '', '', '', day, '', '', '', '', '', NULL, NULL, n, n
            FROM s;
        INSERT INTO series SELECT id, id, 's', iif(id = 7, 'MR', 'CT'), '', '', '', '', '', '', '', NULL FROM study;
        INSERT INTO instance SELECT id, id, 'i' || id, '', '', '', 1, 1, 1, 1, id, 1, zeroblob(32), id,
            iif(id IN (4, 5), 'pacs', 'dimse'), '', '' FROM series;
        INSERT INTO study_version (study, version, closed_ms, closed_by, instances, last_received_ms, gap, saved_ms)
            SELECT id, 1, 1, 'timer', 1, iif(id = 3, 0, id), '', 0 FROM study WHERE id NOT IN (4, 5);
        INSERT INTO fetched VALUES (4, 1, 1), (5, 2, 1);
    ";

    #[tokio::test]
    async fn whole_earlier_studies_of_the_same_patient_are_found() {
        let folder = tempfile::tempdir().expect("a folder");
        let store = Store::open(folder.path()).await.expect("a journal");
        store.tamper(STUDIES).await;
        let key = store.prior_key("2.25.1").await.expect("read").expect("known");
        let found = store.earlier_studies(&key, 10).await.expect("read");
        let brief: Vec<_> = found.iter().map(|p| (p.study_instance_uid.as_str(), p.days_before)).collect();
        assert_eq!(brief, [("2.25.4", 27), ("2.25.2", 29)]);
        assert_eq!(store.earlier_studies(&key, 1).await.expect("read").len(), 1);

        let gathered = Gathered { priors: found, warnings: vec!["a".into(), "b".into()] };
        assert_eq!(store.gathered("2.25.1", 1).await.expect("read"), None);
        store.record_gathered("2.25.1", 1, &gathered).await.expect("recorded");
        store.record_gathered("2.25.1", 1, &Gathered::default()).await.expect("recorded");
        assert_eq!(store.gathered("2.25.1", 1).await.expect("read"), Some(gathered));

        assert_eq!(store.fetched_instances("2.25.5").await.expect("read"), Some(1));
        assert_eq!(store.fetched_instances("2.25.2").await.expect("read"), None);
        assert_eq!(store.fetched_instances("2.25.404").await.expect("read"), Some(0));
        let open = store.open_studies(10).await.expect("read");
        assert_eq!(open, ["2.25.3"], "what was fetched is no work");
    }

    #[tokio::test]
    async fn what_was_fetched_may_go_unless_a_job_is_to_see_it() {
        let folder = tempfile::tempdir().expect("a folder");
        let store = Store::open(folder.path()).await.expect("a journal");
        store.tamper(STUDIES).await;
        let unfinished = async |uid: &str| {
            let mut batch = store.begin().await.expect("a batch");
            batch.is_unfinished(uid).await.expect("read")
        };
        assert!(!unfinished("2.25.4").await && !unfinished("2.25.2").await);
        store
            .tamper(
                "INSERT INTO routed VALUES ('2.25.1', 1, 1, 'jobs', '', 1);
                 INSERT INTO job (study_instance_uid, study_version, module, module_identity, state, priority, created_ms,
                     correlation) VALUES ('2.25.1', 1, 'm', zeroblob(32), 'gated', 0, 1, '')",
            )
            .await;
        assert!(unfinished("2.25.4").await && unfinished("2.25.5").await, "it may yet be seen");
        assert!(!unfinished("2.25.9").await, "another patient's");
        let key = store.prior_key("2.25.1").await.expect("read").expect("known");
        let priors = store.earlier_studies(&key, 10).await.expect("read");
        store.record_gathered("2.25.1", 1, &Gathered { priors, warnings: vec![] }).await.expect("recorded");
        assert!(unfinished("2.25.4").await && unfinished("2.25.2").await);
        assert!(!unfinished("2.25.5").await, "it was not whole, and will not be seen");
        store.tamper("UPDATE job SET state = 'done'").await;
        assert!(!unfinished("2.25.4").await && !unfinished("2.25.2").await);
    }
}
