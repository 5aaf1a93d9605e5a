//! The outbox: results on their way to destinations, a row for each (result, destination).

use std::fmt;
use std::str::FromStr;

use sqlx::Row;
use sqlx::sqlite::SqliteRow;

use super::jobs::about;
use super::{Batch, Due, Job, Store, StoreError, now_ms};
use crate::audit::{Action, Event, NODE, OPERATOR};
use crate::findings::Urgency;
use crate::study::PatientEntry;

/// Where a delivery stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum DeliveryState {
    /// Waits for a person to release the result.
    Held,
    /// Waits for its turn, or is being sent.
    Queued,
    /// Was taken, and the destination is yet to promise to keep it.
    Awaiting,
    /// The destination has it.
    Sent,
    /// Was given up; `gantry outbox retry` tries it again.
    Dead,
    /// Somebody dropped it.
    Dropped,
    /// A later version of the study came before it was sent.
    Superseded,
}

impl DeliveryState {
    /// All of them.
    pub const ALL: [Self; 7] =
        [Self::Held, Self::Queued, Self::Awaiting, Self::Sent, Self::Dead, Self::Dropped, Self::Superseded];

    /// Those in which the destination does not have it yet.
    pub const OPEN: [Self; 4] = [Self::Held, Self::Queued, Self::Awaiting, Self::Dead];

    /// In the journal and for people.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Held => "held",
            Self::Queued => "queued",
            Self::Awaiting => "awaiting",
            Self::Sent => "sent",
            Self::Dead => "dead",
            Self::Dropped => "dropped",
            Self::Superseded => "superseded",
        }
    }
}

impl fmt::Display for DeliveryState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for DeliveryState {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|state| state.name() == name);
        found.ok_or_else(|| format!("there is no state `{name}`; there are: {}", Self::ALL.map(Self::name).join(", ")))
    }
}

/// One delivery.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct DeliveryRow {
    /// In the journal.
    pub id: i64,
    /// Of which job it is the result.
    pub job: i64,
    /// Study Instance UID.
    pub study_instance_uid: String,
    /// As it is called in the configuration.
    pub destination: String,
    /// Where it stands.
    pub state: DeliveryState,
    /// Its place in the queue.
    pub priority: Urgency,
    /// Attempts at which the destination was reached, or that the node did not live to see the end of.
    pub attempts: u32,
    /// From then on its age counts.
    pub since_ms: i64,
    /// When the job was done.
    pub created_ms: i64,
    /// Not tried before.
    pub next_ms: i64,
    /// When it was sent, given up or dropped.
    pub ended_ms: Option<i64>,
    /// What went wrong last; no patient data.
    pub error: Option<String>,
    /// What the destination said beside that it took it.
    pub detail: String,
    /// Of `result.json`.
    #[serde(serialize_with = "hexadecimal")]
    pub result_sha256: [u8; 32],
    /// Under which storage commitment was asked for last.
    pub transaction_uid: Option<String>,
}

fn hexadecimal<S: serde::Serializer>(digest: &[u8; 32], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&crate::hex(digest))
}

/// How an attempt ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DeliveryEnding {
    /// The destination has it.
    Sent {
        /// What left, by digest.
        outputs: Vec<[u8; 32]>,
        /// What it said beside.
        detail: String,
    },
    /// It was taken, and is to be promised.
    Awaiting {
        /// Under which UID that was asked for.
        transaction_uid: String,
        /// When it is asked for again.
        next_ms: i64,
        /// What it said beside.
        detail: String,
    },
    /// Tried again.
    Again {
        /// When.
        next_ms: i64,
        /// The destination was reached.
        counts: bool,
        /// What went wrong.
        error: String,
    },
    /// Given up.
    Dead {
        /// What went wrong.
        error: String,
    },
    /// The node stops: as if it had not begun.
    BrokenOff,
}

/// What `gantry outbox` can change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DeliveryChanged {
    /// It was.
    Yes,
    /// There is no such delivery.
    NoSuchDelivery,
    /// Not in this state.
    Not(DeliveryState),
    /// Its result is gone, or a later version of the study came.
    NoResult,
}

/// How many deliveries there are that a destination does not have yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeliveryCount {
    /// To which destination.
    pub destination: String,
    /// In which state.
    pub state: DeliveryState,
    /// How many.
    pub count: u64,
    /// When the oldest of them was made.
    pub oldest_ms: i64,
}

/// Who a study is of, and what it is, as its first instance told. Holds a patient's identity: no `Debug`.
#[derive(Clone)]
pub struct StudyIdentity {
    /// The patient.
    pub patient: PatientEntry,
    /// Study Date, `YYYYMMDD` or empty.
    pub study_date: String,
    /// Study Time.
    pub study_time: String,
    /// Accession Number.
    pub accession_number: String,
    /// Referring Physician's Name.
    pub referring_physician_name: String,
    /// Study ID.
    pub study_id: String,
    /// Study Description.
    pub study_description: String,
}

/// What is next for a destination: of each study the first that is not sent, the most urgent of these that are due.
const NEXT: &str = "SELECT id FROM delivery AS next WHERE destination = ? AND state = 'queued' \
                    AND (next_ms <= ? OR next_ms > ?) AND NOT EXISTS (SELECT 1 FROM delivery AS before \
                    WHERE before.study_instance_uid = next.study_instance_uid \
                    AND before.destination = next.destination AND before.state = 'queued' AND before.id < next.id) \
                    ORDER BY priority DESC, id LIMIT 1";

impl Batch {
    /// Makes the deliveries of a result, one for each destination; those that are there stay as they are. Held ones wait until a person
    /// releases the result.
    ///
    /// # Errors
    /// The journal's.
    pub async fn deliver(
        &mut self,
        job: &Job,
        result_sha256: &[u8; 32],
        destinations: &[String],
        held: bool,
    ) -> Result<(), StoreError> {
        for destination in destinations {
            sqlx::query(
                "INSERT INTO delivery (job, study_instance_uid, destination, state, priority, since_ms, created_ms, \
                 result_sha256) VALUES (?1, ?2, ?3, ?7, ?4, ?5, ?5, ?6) ON CONFLICT DO NOTHING",
            )
            .bind(job.id)
            .bind(&job.study_instance_uid)
            .bind(destination)
            .bind(super::jobs::level(job.priority))
            .bind(now_ms())
            .bind(result_sha256.as_slice())
            .bind(if held { DeliveryState::Held } else { DeliveryState::Queued }.name())
            .execute(&mut *self.transaction)
            .await?;
        }
        Ok(())
    }

    /// Lets go what was held of a result; how many deliveries that are.
    ///
    /// # Errors
    /// The journal's.
    pub async fn release_deliveries(&mut self, job: i64) -> Result<u64, StoreError> {
        let query = sqlx::query(
            "UPDATE delivery SET state = 'queued', since_ms = ?, \
             priority = max(priority, (SELECT priority FROM job WHERE job.id = delivery.job)) \
             WHERE job = ? AND state = 'held'",
        );
        Ok(query.bind(now_ms()).bind(job).execute(&mut *self.transaction).await?.rows_affected())
    }
}

impl Store {
    /// Takes the next delivery of a destination that is due; it counts as an attempt.
    ///
    /// # Errors
    /// The journal's.
    pub async fn claim_delivery(&self, destination: &str, due: Due) -> Result<Option<DeliveryRow>, StoreError> {
        // Asked without the writer's turn: most of the time there is nothing.
        let next = sqlx::query(NEXT).bind(destination).bind(due.now_ms).bind(due.latest_ms());
        let Some(next) = next.fetch_optional(&self.pool).await? else { return Ok(None) };
        // What nobody released goes nowhere, however it came into the queue.
        let claimed = sqlx::query(
            "UPDATE delivery SET attempts = attempts + 1 WHERE id = ? AND state = 'queued' \
             AND job IN (SELECT job FROM deliverable) RETURNING *",
        );
        let claimed = claimed.bind(next.try_get::<i64, _>("id")?).fetch_optional(&self.pool).await?;
        Ok(claimed.as_ref().map(DeliveryRow::read).transpose()?)
    }

    /// An attempt ended. What was taken although a later version of the study came meanwhile is sent all the same.
    ///
    /// # Errors
    /// The journal's.
    pub async fn end_delivery(&self, id: i64, ending: &DeliveryEnding) -> Result<(), StoreError> {
        let mut batch = self.begin().await?;
        let query = match ending {
            DeliveryEnding::Sent { detail, .. } => sqlx::query(
                "UPDATE delivery SET state = 'sent', ended_ms = ?, detail = ?, error = NULL \
                 WHERE id = ? AND state IN ('queued', 'awaiting', 'superseded', 'dropped') RETURNING *",
            )
            .bind(now_ms())
            .bind(detail),
            DeliveryEnding::Awaiting { transaction_uid, next_ms, detail } => sqlx::query(
                "UPDATE delivery SET state = 'awaiting', transaction_uid = ?, next_ms = ?, detail = ?, error = NULL \
                 WHERE id = ? AND state IN ('queued', 'superseded') RETURNING *",
            )
            .bind(transaction_uid)
            .bind(*next_ms)
            .bind(detail),
            DeliveryEnding::Again { next_ms, counts, error } => sqlx::query(
                "UPDATE delivery SET state = iif(job IN (SELECT id FROM job WHERE superseded_by IS NOT NULL), \
                 'superseded', 'queued'), next_ms = ?, error = ?, attempts = max(attempts - ?, 0) \
                 WHERE id = ? AND state IN ('queued', 'awaiting') RETURNING *",
            )
            .bind(*next_ms)
            .bind(error)
            .bind(i64::from(!counts)),
            DeliveryEnding::Dead { error } => sqlx::query(
                "UPDATE delivery SET state = iif(job IN (SELECT id FROM job WHERE superseded_by IS NOT NULL), \
                 'superseded', 'dead'), ended_ms = ?, error = ? \
                 WHERE id = ? AND state IN ('queued', 'awaiting') RETURNING *",
            )
            .bind(now_ms())
            .bind(error),
            DeliveryEnding::BrokenOff => sqlx::query(
                "UPDATE delivery SET attempts = max(attempts - 1, 0) WHERE id = ? AND state = 'queued' RETURNING *",
            ),
        };
        let Some(row) = query.bind(id).fetch_optional(&mut *batch.transaction).await? else { return Ok(()) };
        let row = DeliveryRow::read(&row)?;
        let said = match ending {
            DeliveryEnding::Sent { outputs, detail } => {
                let outputs = outputs.iter().map(|digest| ("output", *digest));
                let digests = [("result", row.result_sha256)].into_iter().chain(outputs).collect();
                Some((Action::ResultDelivered, digests, detail.clone()))
            }
            DeliveryEnding::Dead { error } => Some((Action::DeliveryFailed, Vec::new(), error.clone())),
            _ => None,
        };
        if let Some((action, digests, said)) = said {
            let detail = if said.is_empty() { said } else { format!(": {said}") };
            let detail = format!("to {}, after {} attempts{detail}", row.destination, row.attempts);
            let job = batch.job_of(&row).await?;
            batch.audit(&Event { digests, detail, ..about(&job, NODE, action) }).await?;
        }
        batch.commit().await
    }

    /// Notes what a destination is asked to promise, before it is.
    ///
    /// # Errors
    /// The journal's.
    pub(crate) async fn ask_promise(&self, id: i64, transaction_uid: &str, asked: &str) -> Result<(), StoreError> {
        let query = sqlx::query("UPDATE delivery SET transaction_uid = ?, asked = ? WHERE id = ?");
        query.bind(transaction_uid).bind(asked).bind(id).execute(&self.pool).await?;
        Ok(())
    }

    /// What was asked under a UID and is not answered yet, with what was noted then.
    ///
    /// # Errors
    /// The journal's.
    pub(crate) async fn asked_promise(
        &self,
        transaction_uid: &str,
    ) -> Result<Option<(DeliveryRow, String)>, StoreError> {
        let row = sqlx::query("SELECT * FROM delivery WHERE transaction_uid = ? AND state IN ('queued', 'awaiting')");
        let Some(row) = row.bind(transaction_uid).fetch_optional(&self.pool).await? else { return Ok(None) };
        Ok(Some((DeliveryRow::read(&row)?, row.try_get("asked")?)))
    }

    /// What a destination took, and did not promise in time.
    ///
    /// # Errors
    /// The journal's.
    pub async fn overdue_deliveries(&self, destination: &str, due: Due) -> Result<Vec<DeliveryRow>, StoreError> {
        let rows = sqlx::query(
            "SELECT * FROM delivery WHERE state = 'awaiting' AND destination = ? AND (next_ms <= ? OR next_ms > ?) \
             ORDER BY id",
        );
        let rows = rows.bind(destination).bind(due.now_ms).bind(due.latest_ms()).fetch_all(&self.pool).await?;
        Ok(rows.iter().map(DeliveryRow::read).collect::<Result<_, _>>()?)
    }

    /// A delivery.
    ///
    /// # Errors
    /// The journal's.
    pub async fn delivery(&self, id: i64) -> Result<Option<DeliveryRow>, StoreError> {
        let row = sqlx::query("SELECT * FROM delivery WHERE id = ?").bind(id).fetch_optional(&self.pool).await?;
        Ok(row.as_ref().map(DeliveryRow::read).transpose()?)
    }

    /// Deliveries, the latest first; all where nothing is named.
    ///
    /// # Errors
    /// The journal's.
    pub async fn deliveries(
        &self,
        study: Option<&str>,
        destination: Option<&str>,
        state: Option<DeliveryState>,
        most: u32,
    ) -> Result<Vec<DeliveryRow>, StoreError> {
        let rows = sqlx::query(
            "SELECT * FROM delivery WHERE (?1 IS NULL OR study_instance_uid = ?1) AND (?2 IS NULL OR destination = ?2) \
             AND (?3 IS NULL OR state = ?3) ORDER BY id DESC LIMIT ?4",
        )
        .bind(study)
        .bind(destination)
        .bind(state.map(DeliveryState::name))
        .bind(most)
        .fetch_all(&self.pool)
        .await?;
        Ok(rows.iter().map(DeliveryRow::read).collect::<Result<_, _>>()?)
    }

    /// How many deliveries destinations do not have yet, by state.
    ///
    /// # Errors
    /// The journal's.
    pub async fn open_deliveries(&self) -> Result<Vec<DeliveryCount>, StoreError> {
        let rows = sqlx::query(
            "SELECT destination, state, count(*) AS deliveries, min(since_ms) AS oldest_ms FROM delivery \
             WHERE state IN ('held', 'queued', 'awaiting', 'dead') GROUP BY destination, state ORDER BY destination, state",
        )
        .fetch_all(&self.pool)
        .await?;
        let read = |row: &SqliteRow| {
            Ok(DeliveryCount {
                destination: row.try_get("destination")?,
                state: state(row)?,
                count: row.try_get::<i64, _>("deliveries")?.unsigned_abs(),
                oldest_ms: row.try_get("oldest_ms")?,
            })
        };
        Ok(rows.iter().map(read).collect::<Result<_, sqlx::Error>>()?)
    }

    /// Has a delivery that is over tried again, with all its attempts, unless its result is gone or a later version of the study
    /// came.
    ///
    /// # Errors
    /// The journal's.
    pub async fn retry_delivery(&self, id: i64) -> Result<DeliveryChanged, StoreError> {
        let mut batch = self.begin().await?;
        let row = sqlx::query(
            "UPDATE delivery SET state = iif(job IN (SELECT job FROM deliverable), 'queued', 'held'), \
             priority = max(priority, (SELECT priority FROM job WHERE job.id = delivery.job)), \
             attempts = 0, next_ms = 0, since_ms = ?, ended_ms = NULL, \
             transaction_uid = NULL WHERE id = ? AND state IN ('dead', 'dropped', 'sent', 'awaiting') \
             AND EXISTS (SELECT 1 FROM job WHERE job.id = delivery.job AND result_path IS NOT NULL \
             AND superseded_by IS NULL) RETURNING *",
        );
        let row = row.bind(now_ms()).bind(id).fetch_optional(&mut *batch.transaction).await?;
        self.changed(
            batch,
            id,
            row,
            Action::DeliveryRetried,
            &[DeliveryState::Held, DeliveryState::Queued, DeliveryState::Superseded],
        )
        .await
    }

    /// Takes a delivery out of its queue, or lets go of one that was given up. One that is being sent may still arrive.
    ///
    /// # Errors
    /// The journal's.
    pub async fn drop_delivery(&self, id: i64) -> Result<DeliveryChanged, StoreError> {
        let mut batch = self.begin().await?;
        let row = sqlx::query(
            "UPDATE delivery SET state = 'dropped', ended_ms = ? WHERE id = ? \
             AND state IN ('held', 'queued', 'awaiting', 'dead') RETURNING *",
        );
        let row = row.bind(now_ms()).bind(id).fetch_optional(&mut *batch.transaction).await?;
        let over = [DeliveryState::Sent, DeliveryState::Dropped, DeliveryState::Superseded];
        self.changed(batch, id, row, Action::DeliveryDropped, &over).await
    }

    /// Records what an operator changed, or tells why nothing was.
    async fn changed(
        &self,
        mut batch: Batch,
        id: i64,
        row: Option<SqliteRow>,
        action: Action,
        not: &[DeliveryState],
    ) -> Result<DeliveryChanged, StoreError> {
        let Some(row) = row else {
            drop(batch);
            return Ok(match self.delivery(id).await? {
                None => DeliveryChanged::NoSuchDelivery,
                Some(row) if not.contains(&row.state) => DeliveryChanged::Not(row.state),
                Some(_) => DeliveryChanged::NoResult,
            });
        };
        let row = DeliveryRow::read(&row)?;
        let job = batch.job_of(&row).await?;
        let detail = format!("to {}", row.destination);
        batch.audit(&Event { detail, ..about(&job, OPERATOR, action) }).await?;
        batch.commit().await?;
        self.outbox_changed();
        Ok(DeliveryChanged::Yes)
    }

    /// Who a study is of; nothing when it is not kept.
    ///
    /// # Errors
    /// The journal's.
    pub async fn study_identity(&self, study_instance_uid: &str) -> Result<Option<StudyIdentity>, StoreError> {
        let row = sqlx::query("SELECT * FROM study WHERE study_instance_uid = ?").bind(study_instance_uid);
        let Some(row) = row.fetch_optional(&self.pool).await? else { return Ok(None) };
        Ok(Some(StudyIdentity {
            patient: super::priors::patient(&row)?,
            study_date: row.try_get("study_date")?,
            study_time: row.try_get("study_time")?,
            accession_number: row.try_get("accession_number")?,
            referring_physician_name: row.try_get("referring_physician_name")?,
            study_id: row.try_get("study_id")?,
            study_description: row.try_get("study_description")?,
        }))
    }
}

impl Batch {
    async fn job_of(&mut self, row: &DeliveryRow) -> Result<Job, StoreError> {
        let job = sqlx::query("SELECT * FROM job WHERE id = ?").bind(row.job).fetch_one(&mut *self.transaction).await?;
        Ok(Job::read(&job)?)
    }
}

impl DeliveryRow {
    fn read(row: &SqliteRow) -> Result<Self, sqlx::Error> {
        let decode = |what: &str| sqlx::Error::Decode(what.to_owned().into());
        let digest: Vec<u8> = row.try_get("result_sha256")?;
        Ok(Self {
            id: row.try_get("id")?,
            job: row.try_get("job")?,
            study_instance_uid: row.try_get("study_instance_uid")?,
            destination: row.try_get("destination")?,
            state: state(row)?,
            priority: super::jobs::urgency(row.try_get("priority")?),
            attempts: row.try_get("attempts")?,
            since_ms: row.try_get("since_ms")?,
            created_ms: row.try_get("created_ms")?,
            next_ms: row.try_get("next_ms")?,
            ended_ms: row.try_get("ended_ms")?,
            error: row.try_get("error")?,
            detail: row.try_get("detail")?,
            result_sha256: digest.try_into().map_err(|_| decode("a digest of a result is not 32 bytes"))?,
            transaction_uid: row.try_get("transaction_uid")?,
        })
    }
}

fn state(row: &SqliteRow) -> Result<DeliveryState, sqlx::Error> {
    let name: String = row.try_get("state")?;
    let unknown = || sqlx::Error::Decode("a delivery's state is none that this version knows".into());
    name.parse().map_err(|_| unknown())
}

#[cfg(test)]
mod tests;
