//! Searches for studies, series and instances: what QIDO-RS (PS3.18 section 10.6) asks of the journal.

use sqlx::sqlite::SqliteRow;
use sqlx::{QueryBuilder, Row, Sqlite};

use super::{InstanceRow, Store, StoreError};

/// What is searched for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Studies.
    Study,
    /// Series.
    Series,
    /// Instances.
    Instance,
}

macro_rules! fields {
    ($($name:ident, $level:ident, $sql:literal, $doc:literal;)*) => {
        /// What can be matched and is returned.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Field {
            $(#[doc = $doc] $name,)*
        }

        impl Field {
            /// Every field, from the study down.
            pub const ALL: &'static [Self] = &[$(Self::$name),*];

            /// The level that it describes.
            #[must_use]
            pub fn level(self) -> Level {
                match self { $(Self::$name => Level::$level,)* }
            }

            fn sql(self) -> &'static str {
                match self { $(Self::$name => $sql,)* }
            }
        }
    };
}

fields! {
    StudyInstanceUid, Study, "study.study_instance_uid", "(0020,000D)";
    PatientName, Study, "study.patient_name", "(0010,0010)";
    PatientId, Study, "study.patient_id", "(0010,0020)";
    IssuerOfPatientId, Study, "study.issuer_of_patient_id", "(0010,0021)";
    PatientBirthDate, Study, "study.patient_birth_date", "(0010,0030)";
    PatientSex, Study, "study.patient_sex", "(0010,0040)";
    StudyDate, Study, "study.study_date", "(0008,0020)";
    StudyTime, Study, "study.study_time", "(0008,0030)";
    AccessionNumber, Study, "study.accession_number", "(0008,0050)";
    ReferringPhysicianName, Study, "study.referring_physician_name", "(0008,0090)";
    StudyId, Study, "study.study_id", "(0020,0010)";
    StudyDescription, Study, "study.study_description", "(0008,1030)";
    ModalitiesInStudy, Study,
        "(SELECT group_concat(modality, '\\') FROM (SELECT DISTINCT s.modality AS modality FROM series AS s WHERE s.study = study.id ORDER BY s.modality))",
        "(0008,0061)";
    NumberOfStudyRelatedSeries, Study, "(SELECT count(*) FROM series AS s WHERE s.study = study.id)", "(0020,1206)";
    NumberOfStudyRelatedInstances, Study,
        "(SELECT count(*) FROM instance AS i JOIN series AS s ON s.id = i.series WHERE s.study = study.id)",
        "(0020,1208)";
    SeriesInstanceUid, Series, "series.series_instance_uid", "(0020,000E)";
    Modality, Series, "series.modality", "(0008,0060)";
    SeriesNumber, Series, "series.series_number", "(0020,0011)";
    SeriesDescription, Series, "series.series_description", "(0008,103E)";
    SeriesDate, Series, "series.series_date", "(0008,0021)";
    SeriesTime, Series, "series.series_time", "(0008,0031)";
    BodyPartExamined, Series, "series.body_part_examined", "(0018,0015)";
    PerformedStepStartDate, Series, "series.performed_step_start_date", "(0040,0244)";
    PerformedStepStartTime, Series, "series.performed_step_start_time", "(0040,0245)";
    NumberOfSeriesRelatedInstances, Series,
        "(SELECT count(*) FROM instance AS i WHERE i.series = series.id)",
        "(0020,1209)";
    SopInstanceUid, Instance, "instance.sop_instance_uid", "(0008,0018)";
    SopClassUid, Instance, "instance.sop_class_uid", "(0008,0016)";
    AvailableTransferSyntaxUid, Instance, "instance.transfer_syntax_uid", "(0008,3002)";
    InstanceNumber, Instance, "instance.instance_number", "(0020,0013)";
    Rows, Instance, "instance.\"rows\"", "(0028,0010)";
    Columns, Instance, "instance.\"columns\"", "(0028,0011)";
    BitsAllocated, Instance, "instance.bits_allocated", "(0028,0100)";
    NumberOfFrames, Instance, "instance.number_of_frames", "(0028,0008)";
}

/// A condition on a field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Match {
    /// One of these.
    Any(Vec<String>),
    /// With `*` and `?`.
    Wildcard {
        /// As sent.
        pattern: String,
        /// Names: `a` is `A` (ASCII).
        ignore_case: bool,
    },
    /// Between two texts, both included; an empty value lies in no range.
    Range {
        /// The least, if there is one.
        from: Option<String>,
        /// The most, if there is one.
        to: Option<String>,
    },
    /// The field is a date, and with its time it lies between two moments, both included: date and time one after the other
    /// (PS3.4 section C.2.2.2.5.4). What has no date or no time lies in no range.
    Moments {
        /// The field of the time.
        time: Field,
        /// The least, if there is one.
        from: Option<String>,
        /// The most, if there is one.
        to: Option<String>,
    },
}

/// A search.
#[derive(Debug, Clone)]
pub struct Search {
    /// For what.
    pub level: Level,
    /// All of these hold.
    pub filters: Vec<(Field, Match)>,
    /// At most so many.
    pub limit: u32,
    /// Without the first so many.
    pub offset: u32,
}

/// One match: the fields of its level and those above, in the order of [`Field::ALL`]; numbers as text, nothing as
/// empty text. Holds a patient's identity: no `Debug`.
pub struct Found(pub Vec<(Field, String)>);

impl Found {
    /// The value of a field.
    #[must_use]
    pub fn get(&self, field: Field) -> &str {
        self.0.iter().find(|(f, _)| *f == field).map_or("", |(_, value)| value)
    }
}

/// Which of a study's instances.
#[derive(Debug, Clone, Copy, Default)]
pub struct Part<'a> {
    /// Only of this series.
    pub series_instance_uid: Option<&'a str>,
    /// Only this one.
    pub sop_instance_uid: Option<&'a str>,
}

impl Store {
    /// Searches; in order of arrival.
    ///
    /// # Errors
    /// The journal's.
    pub async fn search(&self, search: &Search) -> Result<Vec<Found>, StoreError> {
        let fields: Vec<Field> = Field::ALL.iter().copied().filter(|f| f.level() <= search.level).collect();
        let mut query = select(search, &fields);
        let rows = query.build().fetch_all(&self.pool).await?;
        Ok(rows.iter().map(|row| found(row, &fields)).collect::<Result<_, _>>()?)
    }

    /// The instances of a study, or of a part of it, in order of arrival.
    ///
    /// # Errors
    /// The journal's.
    pub async fn instances_of(&self, study_instance_uid: &str, part: Part<'_>) -> Result<Vec<InstanceRow>, StoreError> {
        let rows = sqlx::query(
            "SELECT instance.id AS id, study_instance_uid, series_instance_uid, sop_instance_uid, sop_class_uid, \
             transfer_syntax_uid, path, bytes, sha256, via = 'pacs' AS fetched FROM study JOIN series ON series.study = study.id \
             JOIN instance ON instance.series = series.id WHERE study_instance_uid = ?1 \
             AND (?2 IS NULL OR series_instance_uid = ?2) AND (?3 IS NULL OR sop_instance_uid = ?3) \
             ORDER BY instance.id",
        )
        .bind(study_instance_uid)
        .bind(part.series_instance_uid)
        .bind(part.sop_instance_uid)
        .fetch_all(&self.pool)
        .await?;
        Ok(rows.iter().map(InstanceRow::read).collect::<Result<_, _>>()?)
    }
}

fn found(row: &SqliteRow, fields: &[Field]) -> Result<Found, sqlx::Error> {
    let value = |(index, field): (usize, &Field)| Ok((*field, row.try_get::<String, _>(index)?));
    Ok(Found(fields.iter().enumerate().map(value).collect::<Result<_, sqlx::Error>>()?))
}

/// The statement: text that is ours, values that are bound.
fn select(search: &Search, fields: &[Field]) -> QueryBuilder<Sqlite> {
    let mut query = QueryBuilder::new("SELECT ");
    for (index, field) in fields.iter().enumerate() {
        let comma = if index == 0 { "" } else { ", " };
        query.push(comma).push("coalesce(CAST(").push(field.sql()).push(" AS TEXT), '')");
    }
    query.push(" FROM study");
    if search.level >= Level::Series {
        query.push(" JOIN series ON series.study = study.id");
    }
    if search.level >= Level::Instance {
        query.push(" JOIN instance ON instance.series = series.id");
    }
    query.push(" WHERE 1");
    for (field, condition) in &search.filters {
        query.push(" AND ");
        filter(&mut query, *field, condition);
    }
    query.push(match search.level {
        Level::Study => " ORDER BY study.id",
        Level::Series => " ORDER BY series.id",
        Level::Instance => " ORDER BY instance.id",
    });
    query.push(" LIMIT ").push_bind(i64::from(search.limit)).push(" OFFSET ").push_bind(i64::from(search.offset));
    query
}

fn filter(query: &mut QueryBuilder<Sqlite>, field: Field, condition: &Match) {
    // Of several values each is matched (PS3.4 section C.2.2.2.1).
    if field == Field::ModalitiesInStudy {
        query.push("EXISTS (SELECT 1 FROM series AS m WHERE m.study = study.id AND ");
        matches(query, "m.modality", condition);
        query.push(")");
        return;
    }
    matches(query, field.sql(), condition);
}

pub(super) fn matches(query: &mut QueryBuilder<Sqlite>, sql: &'static str, condition: &Match) {
    match condition {
        Match::Any(values) => {
            query.push("CAST(").push(sql).push(" AS TEXT) IN (");
            let mut list = query.separated(", ");
            for value in values {
                list.push_bind(value.clone());
            }
            query.push(")");
        }
        Match::Wildcard { pattern, ignore_case: true } => {
            query.push("lower(").push(sql).push(") GLOB ").push_bind(glob(&pattern.to_ascii_lowercase()));
        }
        Match::Wildcard { pattern, ignore_case: false } => {
            query.push("CAST(").push(sql).push(" AS TEXT) GLOB ").push_bind(glob(pattern));
        }
        Match::Range { from, to } => {
            query.push("(").push(sql).push(" <> ''");
            if let Some(from) = from {
                query.push(" AND ").push(sql).push(" >= ").push_bind(from.clone());
            }
            if let Some(to) = to {
                query.push(" AND ").push(sql).push(" <= ").push_bind(to.clone());
            }
            query.push(")");
        }
        Match::Moments { time, from, to } => {
            let time = time.sql();
            query.push("(").push(sql).push(" <> '' AND ").push(time).push(" <> ''");
            for (end, comparison) in [(from, " >= "), (to, " <= ")] {
                if let Some(end) = end {
                    query.push(" AND ").push(sql).push(" || ").push(time).push(comparison).push_bind(end.clone());
                }
            }
            query.push(")");
        }
    }
}

/// SQLite's GLOB has the wildcards of DICOM, and sets of characters, which DICOM has not.
fn glob(pattern: &str) -> String {
    pattern.replace('[', "[[]")
}
