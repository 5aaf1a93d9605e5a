//! Workitems: a job as the Unified Procedure Step (PS3.4 annex CC) tells it. Triggers of the schema keep them beside jobs.

use sqlx::sqlite::SqliteRow;
use sqlx::{QueryBuilder, Row, Sqlite};

use super::jobs::urgency;
use super::query::matches;
use super::{Deliverable, Job, Match, Store, StoreError, now_ms};
use crate::findings::Urgency;
use crate::worklist::uid::Prefix;

/// Procedure Step State (0074,1000).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WorkitemState {
    /// Its job waits.
    Scheduled,
    /// Its job began.
    InProgress,
    /// Its job has a result.
    Completed,
    /// Its job ended without one.
    Canceled,
}

impl WorkitemState {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Scheduled, Self::InProgress, Self::Completed, Self::Canceled];

    /// As the standard has it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Scheduled => "SCHEDULED",
            Self::InProgress => "IN PROGRESS",
            Self::Completed => "COMPLETED",
            Self::Canceled => "CANCELED",
        }
    }

    fn read(row: &SqliteRow, column: &str) -> Result<Self, sqlx::Error> {
        let name: &str = row.try_get(column)?;
        let found = Self::ALL.into_iter().find(|state| state.name() == name);
        found.ok_or_else(|| sqlx::Error::Decode("a workitem's state is none that this version knows".into()))
    }
}

/// A workitem. Holds a patient's identity: no `Debug`.
pub struct WorkitemRow {
    /// In the journal; half of its UID.
    pub id: i64,
    /// As it is now.
    pub job: Job,
    /// Of the workitem.
    pub state: WorkitemState,
    /// Whether all that it waits for is there.
    pub ready: bool,
    /// As long as it was not over, that of its job.
    pub priority: Urgency,
    /// When it was made.
    pub made_ms: i64,
    /// When it changed last.
    pub modified_ms: i64,
    /// When it was first in progress.
    pub started_ms: Option<i64>,
    /// When it was over.
    pub ended_ms: Option<i64>,
    /// The one in whose place it is.
    pub replaces: Option<i64>,
    /// Whether its result may leave.
    pub deliverable: Deliverable,
    /// Patient's Name (0010,0010), like what follows empty when the study is not kept.
    pub patient_name: String,
    /// (0010,0020).
    pub patient_id: String,
    /// (0010,0021).
    pub issuer_of_patient_id: String,
    /// (0010,0030).
    pub patient_birth_date: String,
    /// (0010,0040).
    pub patient_sex: String,
    /// (0008,0050).
    pub accession_number: String,
}

macro_rules! fields {
    ($($name:ident, $sql:literal, $doc:literal;)*) => {
        /// What workitems can be searched by.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum WorkitemField {
            $(#[doc = $doc] $name,)*
        }

        impl WorkitemField {
            fn sql(self) -> &'static str {
                match self { $(Self::$name => $sql,)* }
            }
        }
    };
}

fields! {
    Id, "workitem.id", "(0008,0018), as its place in the journal.";
    Replaces, "coalesce(workitem.replaces, 0)", "(0008,1155) of (0074,1224), as its place in the journal.";
    State, "workitem.state", "(0074,1000)";
    Priority, "CASE workitem.priority WHEN 0 THEN 'LOW' WHEN 1 THEN 'MEDIUM' ELSE 'HIGH' END", "(0074,1200)";
    Label, "job.module", "(0074,1204)";
    WorklistLabel, "constant.label", "(0074,1202)";
    Readiness, "iif(workitem.ready, 'READY', 'INCOMPLETE')", "(0040,4041)";
    Start, "strftime('%Y%m%d%H%M%S', workitem.made_ms / 1000, 'unixepoch')", "(0040,4005)";
    Modified, "strftime('%Y%m%d%H%M%S', workitem.modified_ms / 1000, 'unixepoch')", "(0040,4010)";
    StudyInstanceUid, "job.study_instance_uid", "(0020,000D)";
    PatientName, "coalesce(study.patient_name, '')", "(0010,0010)";
    PatientId, "coalesce(study.patient_id, '')", "(0010,0020)";
    IssuerOfPatientId, "coalesce(study.issuer_of_patient_id, '')", "(0010,0021)";
    PatientBirthDate, "coalesce(study.patient_birth_date, '')", "(0010,0030)";
    PatientSex, "coalesce(study.patient_sex, '')", "(0010,0040)";
    AccessionNumber, "coalesce(study.accession_number, '')", "(0008,0050) of (0040,A370)";
    WorkitemCode, "'110001'", "(0008,0100) of (0040,4018)";
    WorkitemCodeScheme, "'DCM'", "(0008,0102) of (0040,4018)";
    Absent, "''", "What no workitem of a job has.";
}

/// A search.
#[derive(Debug, Clone, Default)]
pub struct WorkitemSearch {
    /// Worklist Label of all of them.
    pub label: String,
    /// Only these.
    pub ids: Option<Vec<i64>>,
    /// All of these hold.
    pub filters: Vec<(WorkitemField, Match)>,
    /// At most so many.
    pub limit: u32,
    /// Without the first so many.
    pub offset: u32,
}

/// Something that is to be told of a workitem.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkitemEvent {
    /// In the journal.
    pub id: i64,
    /// Of which.
    pub workitem: i64,
    /// What.
    pub what: WorkitemNews,
    /// As it is from then on.
    pub state: WorkitemState,
    /// As it is from then on.
    pub ready: bool,
    /// As it is from then on.
    pub priority: Urgency,
}

/// What is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WorkitemNews {
    /// Its state, or whether its input is ready.
    State,
    /// Its priority rose.
    Priority,
    /// Somebody asks for its end, with this in DICOM JSON.
    CancelRequested(String),
}

/// What came of a request to cancel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CancelAsked {
    /// Its job is cancelled, or told to stop.
    Yes,
    /// It was canceled before.
    AlreadyCanceled,
    /// It is over, with a result.
    Completed,
    /// There is no such workitem.
    NoSuchWorkitem,
}

const COLUMNS: &str = "job.*, workitem.id AS workitem_id, workitem.state AS workitem_state, ready, \
    workitem.priority AS workitem_priority, made_ms, workitem.modified_ms AS modified_ms, \
    workitem.started_ms AS workitem_started_ms, workitem.ended_ms AS workitem_ended_ms, replaces, policy, released_ms, \
    coalesce(patient_name, '') AS patient_name, coalesce(patient_id, '') AS patient_id, \
    coalesce(issuer_of_patient_id, '') AS issuer_of_patient_id, \
    coalesce(patient_birth_date, '') AS patient_birth_date, coalesce(patient_sex, '') AS patient_sex, \
    coalesce(accession_number, '') AS accession_number";

const TABLES: &str = "FROM workitem JOIN constant JOIN job ON job.id = workitem.job \
    LEFT JOIN result_release ON result_release.job = job.id \
    LEFT JOIN study ON study.study_instance_uid = job.study_instance_uid";

impl Store {
    /// This node's half of UIDs of workitems.
    ///
    /// # Errors
    /// The journal's.
    pub async fn workitem_prefix(&self) -> Result<Prefix, StoreError> {
        let row = sqlx::query("SELECT prefix FROM workitem_node").fetch_one(&self.pool).await?;
        let prefix: Vec<u8> = row.try_get(0)?;
        let prefix =
            prefix.try_into().map_err(|_| sqlx::Error::Decode("a node's half of UIDs is not 8 bytes".into()))?;
        Ok(Prefix(prefix))
    }

    /// Searches; in the order in which they were made.
    ///
    /// # Errors
    /// The journal's.
    pub async fn workitems(&self, search: &WorkitemSearch) -> Result<Vec<WorkitemRow>, StoreError> {
        let mut query = QueryBuilder::<Sqlite>::new("WITH constant AS (SELECT ");
        query.push_bind(search.label.clone()).push(" AS label) SELECT ").push(COLUMNS).push(" ").push(TABLES);
        query.push(" WHERE 1");
        if let Some(ids) = &search.ids {
            query.push(" AND workitem.id IN (");
            let mut list = query.separated(", ");
            for id in ids {
                list.push_bind(*id);
            }
            query.push(")");
        }
        for (field, condition) in &search.filters {
            query.push(" AND ");
            matches(&mut query, field.sql(), condition);
        }
        query.push(" ORDER BY workitem.id LIMIT ").push_bind(i64::from(search.limit));
        query.push(" OFFSET ").push_bind(i64::from(search.offset));
        let rows = query.build().fetch_all(&self.pool).await?;
        Ok(rows.iter().map(WorkitemRow::read).collect::<Result<_, _>>()?)
    }

    /// One workitem.
    ///
    /// # Errors
    /// The journal's.
    pub async fn workitem(&self, id: i64) -> Result<Option<WorkitemRow>, StoreError> {
        let search = WorkitemSearch { ids: Some(vec![id]), limit: 1, ..WorkitemSearch::default() };
        Ok(self.workitems(&search).await?.pop())
    }

    /// Jobs of a study that have results that may leave, the latest first.
    ///
    /// # Errors
    /// The journal's.
    pub async fn delivered_jobs(&self, study_instance_uid: &str) -> Result<Vec<Job>, StoreError> {
        let rows = sqlx::query(
            "SELECT * FROM job WHERE study_instance_uid = ? AND result_path IS NOT NULL \
             AND id IN (SELECT job FROM deliverable) ORDER BY id DESC",
        );
        let rows = rows.bind(study_instance_uid).fetch_all(&self.pool).await?;
        Ok(rows.iter().map(Job::read).collect::<Result<_, _>>()?)
    }

    /// Has the job of a workitem cancelled, and subscribers told who asked for it.
    ///
    /// # Errors
    /// The journal's.
    pub async fn cancel_workitem(&self, id: i64, who: &str, request: &str) -> Result<CancelAsked, StoreError> {
        let mut batch = self.begin().await?;
        let row = sqlx::query("SELECT *, state AS workitem_state FROM workitem WHERE id = ?").bind(id);
        let Some(row) = row.fetch_optional(&mut *batch.transaction).await? else {
            return Ok(CancelAsked::NoSuchWorkitem);
        };
        match WorkitemState::read(&row, "workitem_state")? {
            WorkitemState::Completed => return Ok(CancelAsked::Completed),
            WorkitemState::Canceled => return Ok(CancelAsked::AlreadyCanceled),
            WorkitemState::Scheduled | WorkitemState::InProgress => {}
        }
        sqlx::query(
            "INSERT INTO workitem_event (workitem, kind, state, ready, priority, request, at_ms) \
             SELECT id, 'cancel', state, ready, priority, ?, ? FROM workitem WHERE id = ?",
        )
        .bind(request)
        .bind(now_ms())
        .bind(id)
        .execute(&mut *batch.transaction)
        .await?;
        // One that is not over has a job that is not.
        batch.cancel_job(row.try_get("job")?, who).await?;
        batch.commit().await?;
        Ok(CancelAsked::Yes)
    }

    /// The last event that there is to tell.
    ///
    /// # Errors
    /// The journal's.
    pub async fn last_workitem_event(&self) -> Result<i64, StoreError> {
        let row = sqlx::query("SELECT coalesce(max(id), 0) FROM workitem_event").fetch_one(&self.pool).await?;
        Ok(row.try_get(0)?)
    }

    /// What is to be told after an event, in order.
    ///
    /// # Errors
    /// The journal's.
    pub async fn workitem_events_after(&self, id: i64, most: u32) -> Result<Vec<WorkitemEvent>, StoreError> {
        let query = sqlx::query("SELECT * FROM workitem_event WHERE id > ? ORDER BY id LIMIT ?").bind(id).bind(most);
        let rows = query.fetch_all(&self.pool).await?;
        let read = |row: &SqliteRow| {
            let request: Option<String> = row.try_get("request")?;
            Ok(WorkitemEvent {
                id: row.try_get("id")?,
                workitem: row.try_get("workitem")?,
                what: match row.try_get("kind")? {
                    "cancel" => WorkitemNews::CancelRequested(request.unwrap_or_default()),
                    "priority" => WorkitemNews::Priority,
                    _ => WorkitemNews::State,
                },
                state: WorkitemState::read(row, "state")?,
                ready: row.try_get::<i64, _>("ready")? != 0,
                priority: urgency(row.try_get("priority")?),
            })
        };
        Ok(rows.iter().map(read).collect::<Result<_, sqlx::Error>>()?)
    }
}

impl WorkitemRow {
    fn read(row: &SqliteRow) -> Result<Self, sqlx::Error> {
        let (policy, released): (Option<&str>, Option<i64>) = (row.try_get("policy")?, row.try_get("released_ms")?);
        let deliverable = match (policy, released) {
            (Some("at-once"), _) | (Some("hold"), Some(_)) => Deliverable::Now,
            (Some("hold"), None) => Deliverable::Held,
            _ => Deliverable::Never,
        };
        Ok(Self {
            id: row.try_get("workitem_id")?,
            job: Job::read(row)?,
            state: WorkitemState::read(row, "workitem_state")?,
            ready: row.try_get::<i64, _>("ready")? != 0,
            priority: urgency(row.try_get("workitem_priority")?),
            made_ms: row.try_get("made_ms")?,
            modified_ms: row.try_get("modified_ms")?,
            started_ms: row.try_get("workitem_started_ms")?,
            ended_ms: row.try_get("workitem_ended_ms")?,
            replaces: row.try_get("replaces")?,
            deliverable,
            patient_name: row.try_get("patient_name")?,
            patient_id: row.try_get("patient_id")?,
            issuer_of_patient_id: row.try_get("issuer_of_patient_id")?,
            patient_birth_date: row.try_get("patient_birth_date")?,
            patient_sex: row.try_get("patient_sex")?,
            accession_number: row.try_get("accession_number")?,
        })
    }
}
