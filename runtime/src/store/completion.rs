//! Studies as wholes: what is known of them while they are open, and their versions.

use sqlx::Row;
use sqlx::sqlite::SqliteRow;

use super::{Store, StoreError};
use crate::audit::{Action, Event, NODE};

/// What the journal knows of a study that may be complete.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct StudyFacts {
    /// Instances that are kept.
    pub instances: u64,
    /// Number of Study Related Instances (0020,1208), when stated.
    pub stated_instances: Option<u64>,
    /// Number of Study Related Series (0020,1206), when stated.
    pub stated_series: Option<u64>,
    /// When the latest instance came, by the wall clock of that moment.
    pub last_received_ms: i64,
    /// In order of UID.
    pub series: Vec<SeriesFacts>,
    /// Who sent: AE titles, tokens, folders.
    pub sources: Vec<String>,
    /// Ties it to the association or request that brought its last instance.
    pub correlation: String,
    /// Whether all of it was fetched from a PACS: a prior that nobody sent.
    pub fetched: bool,
}

/// What the journal knows of a series.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SeriesFacts {
    /// Instances that are kept.
    pub instances: u64,
    /// Number of Series Related Instances (0020,1209), when stated.
    pub stated_instances: Option<u64>,
    /// Whether the Instance Numbers (0020,0013) are whole, differ, and run from 1 to the number of instances.
    pub numbered: bool,
}

/// A study that is about to be closed.
#[derive(Debug, Clone)]
pub struct Closing<'a> {
    /// Study Instance UID.
    pub study_instance_uid: &'a str,
    /// A name of [`crate::completion::Evidence`].
    pub by: &'static str,
    /// What was known when it was decided; when the journal knows more by now, nothing is closed.
    pub facts: &'a StudyFacts,
    /// What is missing; empty when nothing is known to be.
    pub gap: &'a str,
    /// How much earlier than the timer.
    pub saved_ms: u64,
    /// Now.
    pub closed_ms: i64,
}

/// One time that a study was taken to be complete.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VersionRow {
    /// In the journal: rises with every version of any study.
    pub id: i64,
    /// Study Instance UID.
    pub study_instance_uid: String,
    /// From 1.
    pub version: u32,
    /// When.
    pub closed_ms: i64,
    /// A name of [`crate::completion::Evidence`].
    pub by: String,
    /// Instances that it has.
    pub instances: u64,
    /// When the latest of them came.
    pub last_received_ms: i64,
    /// What was missing; empty when nothing was known to be.
    pub gap: String,
    /// How much earlier than the timer.
    pub saved_ms: u64,
}

/// The columns of [`VersionRow`], with what follows.
macro_rules! select_version {
    ($rest:literal) => {
        concat!(
            "SELECT study_version.id AS id, study_instance_uid, version, closed_ms, closed_by, instances, ",
            "study_version.last_received_ms AS last_received_ms, gap, saved_ms FROM study_version ",
            "JOIN study ON study.id = study_version.study WHERE ",
            $rest
        )
    };
}

impl VersionRow {
    fn read(row: &SqliteRow) -> Result<Self, sqlx::Error> {
        Ok(Self {
            id: row.try_get("id")?,
            study_instance_uid: row.try_get("study_instance_uid")?,
            version: row.try_get("version")?,
            closed_ms: row.try_get("closed_ms")?,
            by: row.try_get("closed_by")?,
            instances: row.try_get::<i64, _>("instances")?.unsigned_abs(),
            last_received_ms: row.try_get("last_received_ms")?,
            gap: row.try_get("gap")?,
            saved_ms: row.try_get::<i64, _>("saved_ms")?.unsigned_abs(),
        })
    }
}

impl Store {
    /// Studies with instances that no version has, the longest known first; at most `most`. Those of which everything was
    /// fetched are none of them.
    ///
    /// # Errors
    /// The journal's.
    pub async fn open_studies(&self, most: usize) -> Result<Vec<String>, StoreError> {
        // Both are compared: a clock that jumps can repeat a time, and replacing an instance keeps the number.
        let query = sqlx::query(
            "SELECT study_instance_uid FROM study \
             LEFT JOIN (SELECT study, max(version), last_received_ms, instances FROM study_version GROUP BY study) \
             AS latest ON latest.study = study.id \
             WHERE (latest.study IS NULL OR latest.last_received_ms <> study.last_received_ms OR latest.instances <> \
             (SELECT count(*) FROM instance JOIN series ON series.id = instance.series WHERE series.study = study.id)) \
             AND EXISTS (SELECT 1 FROM series JOIN instance ON instance.series = series.id \
             WHERE series.study = study.id AND via <> 'pacs') \
             ORDER BY study.id LIMIT ?",
        );
        let rows = query.bind(i64::try_from(most).unwrap_or(i64::MAX)).fetch_all(&self.pool).await?;
        Ok(rows.iter().map(|row| row.try_get(0)).collect::<Result<_, _>>()?)
    }

    /// What is known of a study; nothing when it is not.
    ///
    /// # Errors
    /// The journal's.
    pub async fn study_facts(&self, study_instance_uid: &str) -> Result<Option<StudyFacts>, StoreError> {
        let query = sqlx::query(
            "SELECT id, stated_series, stated_instances, last_received_ms FROM study WHERE study_instance_uid = ?",
        );
        let Some(row) = query.bind(study_instance_uid).fetch_optional(&self.pool).await? else { return Ok(None) };
        let id: i64 = row.try_get("id")?;
        // CAST makes a number of any text; what is not digits alone counts as odd.
        let series = sqlx::query(
            "SELECT count(instance.id) AS instances, series.stated_instances AS stated, \
             count(DISTINCT CAST(instance_number AS INTEGER)) AS numbers, \
             min(CAST(instance_number AS INTEGER)) AS low, max(CAST(instance_number AS INTEGER)) AS high, \
             sum(trim(instance_number) = '' OR trim(instance_number) GLOB '*[^0-9]*') AS odd \
             FROM series JOIN instance ON instance.series = series.id WHERE series.study = ? \
             GROUP BY series.id ORDER BY series_instance_uid",
        );
        let rows = series.bind(id).fetch_all(&self.pool).await?;
        let series = rows.iter().map(SeriesFacts::read).collect::<Result<Vec<_>, _>>()?;
        let sources = sqlx::query(
            "SELECT source, min(via = 'pacs') FROM instance JOIN series ON series.id = instance.series \
             WHERE series.study = ? GROUP BY source ORDER BY source",
        );
        let sources = sources.bind(id).fetch_all(&self.pool).await?;
        let last = sqlx::query(
            "SELECT instance.correlation FROM instance JOIN series ON series.id = instance.series \
             WHERE series.study = ? ORDER BY instance.id DESC LIMIT 1",
        );
        let last = last.bind(id).fetch_optional(&self.pool).await?;
        let fetched = sources.iter().map(|row| row.try_get::<i64, _>(1)).collect::<Result<Vec<_>, _>>()?;
        let stated = |name: &str| row.try_get::<Option<i64>, _>(name).map(|n| n.map(i64::unsigned_abs));
        Ok(Some(StudyFacts {
            instances: series.iter().map(|s| s.instances).sum(),
            stated_instances: stated("stated_instances")?,
            stated_series: stated("stated_series")?,
            last_received_ms: row.try_get("last_received_ms")?,
            series,
            sources: sources.iter().map(|row| row.try_get(0)).collect::<Result<_, _>>()?,
            correlation: last.map(|row| row.try_get(0)).transpose()?.unwrap_or_default(),
            fetched: fetched.iter().all(|all| *all == 1),
        }))
    }

    /// Records that a study is complete, as its next version: also after those of an earlier time, when retention deleted it
    /// and it came anew, since jobs and results are named by versions. Nothing is recorded, and nothing returned, when something
    /// came since the decision or when the study is not known.
    ///
    /// # Errors
    /// The journal's.
    pub async fn close_study(&self, closing: &Closing<'_>) -> Result<Option<u32>, StoreError> {
        let mut batch = self.begin().await?;
        let row = sqlx::query(
            "INSERT INTO study_version (study, version, closed_ms, closed_by, instances, last_received_ms, gap, \
             saved_ms) SELECT id, 1 + max(coalesce((SELECT max(version) FROM study_version WHERE study = study.id), 0), \
             coalesce((SELECT max(study_version) FROM routed WHERE study_instance_uid = ?1), 0)), \
             ?2, ?3, ?4, ?5, ?6, ?7 FROM study WHERE study_instance_uid = ?1 AND last_received_ms = ?5 AND ?4 = \
             (SELECT count(*) FROM instance JOIN series ON series.id = instance.series WHERE series.study = study.id) \
             RETURNING version",
        )
        .bind(closing.study_instance_uid)
        .bind(closing.closed_ms)
        .bind(closing.by)
        .bind(closing.facts.instances.cast_signed())
        .bind(closing.facts.last_received_ms)
        .bind(closing.gap)
        .bind(closing.saved_ms.cast_signed())
        .fetch_optional(&mut *batch.transaction)
        .await?;
        let Some(row) = row else { return Ok(None) };
        let version: u32 = row.try_get("version")?;
        let event = Event {
            study_instance_uid: closing.study_instance_uid.to_owned(),
            object: format!("v{version}"),
            detail: format!("by {}: {} instances", closing.by, closing.facts.instances),
            correlation: closing.facts.correlation.clone(),
            ..Event::new(NODE, Action::StudyClosed)
        };
        batch.audit(&event).await?;
        batch.commit().await?;
        Ok(Some(version))
    }

    /// The versions of a study, the first first.
    ///
    /// # Errors
    /// The journal's.
    pub async fn versions_of_study(&self, study_instance_uid: &str) -> Result<Vec<VersionRow>, StoreError> {
        let query = sqlx::query(select_version!("study_instance_uid = ? ORDER BY version")).bind(study_instance_uid);
        let rows = query.fetch_all(&self.pool).await?;
        Ok(rows.iter().map(VersionRow::read).collect::<Result<_, _>>()?)
    }

    /// Versions of any study after the one with this number in the journal: what was closed and perhaps not yet acted
    /// upon when the process ended.
    ///
    /// # Errors
    /// The journal's.
    pub async fn versions_after(&self, id: i64, most: u32) -> Result<Vec<VersionRow>, StoreError> {
        let query = sqlx::query(select_version!("study_version.id > ? ORDER BY study_version.id LIMIT ?"));
        let rows = query.bind(id).bind(most).fetch_all(&self.pool).await?;
        Ok(rows.iter().map(VersionRow::read).collect::<Result<_, _>>()?)
    }

    /// How many of these SOP Instance UIDs the study has.
    ///
    /// # Errors
    /// The journal's.
    pub async fn kept_of(&self, study_instance_uid: &str, sops: &[String]) -> Result<u64, StoreError> {
        let list = serde_json::to_string(sops).expect("strings are JSON");
        let query = sqlx::query(
            "SELECT count(*) FROM study JOIN series ON series.study = study.id \
             JOIN instance ON instance.series = series.id WHERE study_instance_uid = ? \
             AND sop_instance_uid IN (SELECT value FROM json_each(?))",
        );
        let row = query.bind(study_instance_uid).bind(list).fetch_one(&self.pool).await?;
        Ok(row.try_get::<i64, _>(0)?.unsigned_abs())
    }
}

impl SeriesFacts {
    fn read(row: &SqliteRow) -> Result<Self, sqlx::Error> {
        let number = |name: &str| row.try_get::<Option<i64>, _>(name);
        let instances: i64 = row.try_get("instances")?;
        let numbers = [number("numbers")?, number("high")?];
        Ok(Self {
            instances: instances.unsigned_abs(),
            stated_instances: number("stated")?.map(i64::unsigned_abs),
            numbered: number("odd")? == Some(0)
                && number("low")? == Some(1)
                && numbers.iter().all(|n| *n == Some(instances)),
        })
    }
}
