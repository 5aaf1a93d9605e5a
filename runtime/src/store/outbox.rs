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
mod tests {
    use super::*;
    use crate::config::Release;
    use crate::store::{Ending, NewJob, Routed};

    /// A journal whose deliveries are those of jobs that end.
    struct Outbox {
        store: Store,
        _folder: tempfile::TempDir,
    }

    impl Outbox {
        async fn new() -> Self {
            let folder = tempfile::tempdir().expect("a folder");
            Self { store: Store::open(folder.path()).await.expect("a journal"), _folder: folder }
        }

        async fn route(&self, study: &str, version: u32, modules: &[(&str, Urgency)]) {
            let routed = Routed {
                study_instance_uid: study.into(),
                study_version: version,
                routed_ms: 1,
                outcome: "jobs".into(),
                detail: String::new(),
                last_instance: 0,
            };
            let new = |(module, priority): &(&str, Urgency)| NewJob {
                module: (*module).into(),
                identity: [1; 32],
                gated: false,
                priority: *priority,
            };
            let jobs: Vec<NewJob> = modules.iter().map(new).collect();
            assert!(self.store.route(&routed, "c", &jobs).await.expect("routed"));
        }

        /// Runs the next job to its end, with deliveries to these.
        async fn done(&self, destinations: &[&str]) {
            let job = self.store.claim(Due::now(0), Urgency::Routine).await.expect("claimed").expect("a job");
            let ending = Ending::Done(crate::store::Done {
                result_path: format!("results/{}", job.id),
                result_sha256: [7; 32],
                found: Vec::new(),
                raise: Urgency::Routine,
                unfit: false,
                fallbacks: Vec::new(),
                deliver: destinations.iter().map(|&name| name.to_owned()).collect(),
                release: Release::AtOnce,
                triage: Vec::new(),
                report: None,
            });
            self.store.end_job(job.id, &ending).await.expect("ended");
            // Twice is once.
            self.store.end_job(job.id, &ending).await.expect("ended");
        }

        /// Claims what is next for a destination: its job.
        async fn next(&self, destination: &str) -> Option<DeliveryRow> {
            self.store.claim_delivery(destination, Due::now(60_000)).await.expect("claimed")
        }

        async fn end(&self, row: &DeliveryRow, ending: DeliveryEnding) -> DeliveryRow {
            self.store.end_delivery(row.id, &ending).await.expect("ended");
            self.store.delivery(row.id).await.expect("readable").expect("there")
        }

        async fn audited(&self, action: Action) -> usize {
            let rows = self.store.audit_latest(None, 1000).await.expect("a log");
            rows.iter().filter(|row| row.action == action.name()).count()
        }
    }

    fn sent() -> DeliveryEnding {
        DeliveryEnding::Sent { outputs: vec![[8; 32]], detail: String::new() }
    }

    fn again(ms: i64) -> DeliveryEnding {
        DeliveryEnding::Again { next_ms: now_ms() + ms, counts: true, error: "no".into() }
    }

    #[tokio::test]
    async fn what_a_later_version_took_the_place_of_is_not_sent_again_and_blocks_nothing() {
        let outbox = Outbox::new().await;
        outbox.route("2.25.1", 1, &[("a", Urgency::Routine)]).await;
        outbox.done(&["pacs", "share"]).await;
        let (pacs, share) = (outbox.next("pacs").await.expect("due"), outbox.next("share").await.expect("due"));
        let awaited = DeliveryEnding::Awaiting { transaction_uid: "2.25.9".into(), next_ms: 0, detail: String::new() };
        assert_eq!(outbox.end(&pacs, awaited).await.state, DeliveryState::Awaiting);
        assert_eq!(outbox.end(&share, DeliveryEnding::Dead { error: "no".into() }).await.state, DeliveryState::Dead);
        outbox.route("2.25.1", 2, &[("a", Urgency::Routine)]).await;
        let share = outbox.store.delivery(share.id).await.expect("readable").expect("there");
        assert_eq!(share.state, DeliveryState::Superseded, "nobody need decide on it, and retention goes on");
        assert_eq!(outbox.end(&pacs, again(0)).await.state, DeliveryState::Superseded, "nothing was promised");
        outbox.done(&["pacs"]).await;
        assert_ne!(outbox.next("pacs").await.expect("the later one").job, pacs.job);
    }

    #[tokio::test]
    async fn a_result_has_one_delivery_for_each_destination_and_the_watcher_is_told() {
        let outbox = Outbox::new().await;
        let mut changes = outbox.store.watch_outbox();
        outbox.route("2.25.1", 1, &[("a", Urgency::Routine)]).await;
        assert!(!changes.has_changed().expect("open"));
        outbox.done(&["pacs", "share"]).await;
        assert!(changes.has_changed().expect("open"));
        changes.mark_unchanged();
        let all = outbox.store.deliveries(None, None, None, 10).await.expect("a list");
        assert_eq!(all.iter().map(|row| row.destination.as_str()).collect::<Vec<_>>(), ["share", "pacs"]);
        let row = outbox.next("pacs").await.expect("due");
        assert_eq!((row.attempts, row.result_sha256), (1, [7; 32]));
        let ended = outbox.end(&row, sent()).await;
        assert_eq!((ended.state, ended.ended_ms.is_some()), (DeliveryState::Sent, true));
        assert!(outbox.next("pacs").await.is_none());
        assert_eq!(outbox.audited(Action::ResultDelivered).await, 1);
        outbox.end(&row, sent()).await;
        assert_eq!(outbox.audited(Action::ResultDelivered).await, 1, "told once");
        let open = outbox.store.open_deliveries().await.expect("counted");
        assert_eq!(open.iter().map(|c| (c.destination.as_str(), c.count)).collect::<Vec<_>>(), [("share", 1)]);
    }

    #[tokio::test]
    async fn within_a_study_a_destination_gets_results_in_order_and_the_most_urgent_study_goes_first() {
        let outbox = Outbox::new().await;
        outbox.route("2.25.1", 1, &[("a", Urgency::Routine), ("b", Urgency::Routine)]).await;
        outbox.done(&["pacs"]).await;
        outbox.done(&["pacs"]).await;
        outbox.route("2.25.2", 1, &[("a", Urgency::Critical)]).await;
        outbox.done(&["pacs"]).await;
        let urgent = outbox.next("pacs").await.expect("due");
        assert_eq!(urgent.study_instance_uid, "2.25.2");
        outbox.end(&urgent, sent()).await;
        let first = outbox.next("pacs").await.expect("due");
        outbox.end(&first, again(60_000)).await;
        assert!(outbox.next("pacs").await.is_none(), "the second waits for the first");
        outbox.end(&first, again(0)).await;
        let again = outbox.next("pacs").await.expect("due");
        assert_eq!((again.id, again.attempts), (first.id, 2));
        outbox.end(&again, DeliveryEnding::Dead { error: "no".into() }).await;
        let second = outbox.next("pacs").await.expect("due");
        assert!(second.id > first.id, "what was given up holds up nothing");
    }

    #[tokio::test]
    async fn a_clock_that_jumps_back_and_attempts_that_do_not_count_hold_nothing_up() {
        let outbox = Outbox::new().await;
        outbox.route("2.25.1", 1, &[("a", Urgency::Routine)]).await;
        outbox.done(&["pacs"]).await;
        let row = outbox.next("pacs").await.expect("due");
        let unreached = DeliveryEnding::Again { next_ms: now_ms() + 1_000_000, counts: false, error: "no".into() };
        assert_eq!(outbox.end(&row, unreached).await.attempts, 0);
        let row = outbox.next("pacs").await.expect("nothing waits so long but by a clock that jumped");
        assert_eq!(outbox.end(&row, DeliveryEnding::BrokenOff).await.attempts, 0);
        assert_eq!(outbox.end(&row, DeliveryEnding::BrokenOff).await.attempts, 0);
    }

    #[tokio::test]
    async fn a_later_version_supersedes_what_was_not_sent() {
        let outbox = Outbox::new().await;
        outbox.route("2.25.1", 1, &[("a", Urgency::Routine), ("b", Urgency::Routine)]).await;
        outbox.done(&["pacs", "share"]).await;
        let flying = outbox.next("pacs").await.expect("due");
        outbox.route("2.25.1", 2, &[("a", Urgency::Routine)]).await;
        assert!(outbox.next("share").await.is_none());
        let all = outbox.store.deliveries(None, None, Some(DeliveryState::Superseded), 10).await.expect("a list");
        assert_eq!(all.len(), 2);
        assert_eq!(outbox.end(&flying, again(0)).await.state, DeliveryState::Superseded, "it is not tried again");
        assert_eq!(outbox.end(&flying, sent()).await.state, DeliveryState::Sent, "and what arrived arrived");
        let changed = outbox.store.retry_delivery(flying.id).await.expect("asked");
        assert_eq!(changed, DeliveryChanged::NoResult, "the later one is what counts");
        outbox.done(&["pacs"]).await;
        assert!(outbox.next("pacs").await.is_some_and(|row| row.id > flying.id));
    }

    #[tokio::test]
    async fn what_was_not_delivered_is_not_deleted_and_what_an_operator_changes_is_recorded() {
        let outbox = Outbox::new().await;
        outbox.route("2.25.1", 1, &[("a", Urgency::Routine)]).await;
        outbox.done(&["pacs"]).await;
        let unfinished = async || {
            let mut batch = outbox.store.begin().await.expect("begun");
            batch.is_unfinished("2.25.1").await.expect("asked")
        };
        assert!(unfinished().await, "it waits");
        let row = outbox.next("pacs").await.expect("due");
        outbox.end(&row, DeliveryEnding::Dead { error: "no".into() }).await;
        assert!(unfinished().await, "it can be tried again");
        let change = async |retry: bool| match retry {
            true => outbox.store.retry_delivery(row.id).await.expect("asked"),
            false => outbox.store.drop_delivery(row.id).await.expect("asked"),
        };
        assert_eq!(change(true).await, DeliveryChanged::Yes);
        assert_eq!(change(true).await, DeliveryChanged::Not(DeliveryState::Queued));
        assert_eq!(outbox.next("pacs").await.map(|row| row.attempts), Some(1));
        assert_eq!(change(false).await, DeliveryChanged::Yes);
        assert_eq!(change(false).await, DeliveryChanged::Not(DeliveryState::Dropped));
        assert!(!unfinished().await, "somebody let go of it");
        let mut batch = outbox.store.begin().await.expect("begun");
        batch.delete_results("2.25.1", None, "x").await.expect("deleted");
        batch.commit().await.expect("committed");
        assert_eq!(change(true).await, DeliveryChanged::NoResult);
        let none = outbox.store.drop_delivery(99).await.expect("asked");
        assert_eq!(none, DeliveryChanged::NoSuchDelivery);
        let audited = [Action::DeliveryFailed, Action::DeliveryRetried, Action::DeliveryDropped];
        for action in audited {
            assert_eq!(outbox.audited(action).await, 1, "{}", action.name());
        }
    }

    #[tokio::test]
    async fn what_is_held_goes_nowhere_until_it_is_released() {
        let outbox = Outbox::new().await;
        outbox.route("2.25.1", 1, &[("a", Urgency::Routine)]).await;
        outbox.done(&[]).await;
        let job = outbox.store.jobs(None, None).await.expect("a list").remove(0);
        let mut batch = outbox.store.begin().await.expect("begun");
        batch.deliver(&job, &[7; 32], &["pacs".into()], true).await.expect("made");
        batch.commit().await.expect("committed");
        assert!(outbox.next("pacs").await.is_none());
        let mut batch = outbox.store.begin().await.expect("begun");
        assert!(batch.is_unfinished("2.25.1").await.expect("asked"), "retention leaves it");
        assert_eq!(batch.release_deliveries(job.id).await.expect("released"), 1);
        assert_eq!(batch.release_deliveries(job.id).await.expect("released"), 0, "once");
        batch.commit().await.expect("committed");
        assert_eq!(outbox.next("pacs").await.map(|row| row.job), Some(job.id));
    }

    #[tokio::test]
    async fn a_promise_is_found_by_its_uid_until_it_is_given_and_asked_for_again_when_it_is_late() {
        let outbox = Outbox::new().await;
        outbox.route("2.25.1", 1, &[("a", Urgency::Routine)]).await;
        outbox.done(&["pacs"]).await;
        let row = outbox.next("pacs").await.expect("due");
        outbox.store.ask_promise(row.id, "2.25.9", "[]").await.expect("noted");
        assert!(outbox.store.asked_promise("2.25.9").await.expect("asked").is_some(), "also while it is being sent");
        let awaiting =
            |next_ms| DeliveryEnding::Awaiting { transaction_uid: "2.25.9".into(), next_ms, detail: String::new() };
        let due = Due::now(60_000);
        assert_eq!(outbox.end(&row, awaiting(due.now_ms + 30_000)).await.state, DeliveryState::Awaiting);
        assert!(outbox.next("pacs").await.is_none());
        assert!(outbox.store.overdue_deliveries("pacs", due).await.expect("asked").is_empty());
        let later = Due { now_ms: due.now_ms + 30_000, ..due };
        assert_eq!(outbox.store.overdue_deliveries("pacs", later).await.expect("asked").len(), 1);
        assert_eq!(outbox.end(&row, sent()).await.state, DeliveryState::Sent);
        assert!(outbox.store.asked_promise("2.25.9").await.expect("asked").is_none(), "it was given");
    }
}
