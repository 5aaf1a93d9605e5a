//! Making jobs: what was decided for a version of a study, and what that does to earlier ones.

use sqlx::Row;
use sqlx::sqlite::SqliteRow;

use super::{Arrivals, Job, JobState, NewJob, Routed, about, jobs, level};
use crate::audit::{Action, Event, NODE};
use crate::store::orders::OF_ANOTHER;
use crate::store::{Batch, InstanceRow, Store, StoreError, now_ms};
use crate::worklist::Reason;

impl Store {
    /// How a study came; `None` when nothing of it is here.
    ///
    /// # Errors
    /// The journal's.
    pub async fn arrivals(&self, study_instance_uid: &str) -> Result<Option<Arrivals>, StoreError> {
        let rows = sqlx::query(
            "SELECT instance.source AS source, max(instance.id) AS last, instance.correlation AS correlation \
             FROM instance JOIN series ON series.id = instance.series JOIN study ON study.id = series.study \
             WHERE study_instance_uid = ? GROUP BY source ORDER BY last",
        )
        .bind(study_instance_uid)
        .fetch_all(&self.pool)
        .await?;
        let Some(last) = rows.last() else { return Ok(None) };
        let correlation = last.try_get("correlation")?;
        let sources = rows.iter().map(|row| row.try_get("source")).collect::<Result<_, _>>()?;
        Ok(Some(Arrivals { sources, correlation }))
    }

    /// The instances that a version of a study is made of; nothing when some of them were replaced since.
    ///
    /// # Errors
    /// The journal's.
    pub async fn instances_of_version(&self, uid: &str, version: u32) -> Result<Option<Vec<InstanceRow>>, StoreError> {
        let row = sqlx::query(
            "SELECT last_instance, (SELECT instances FROM study JOIN study_version ON study_version.study = study.id \
             WHERE study_instance_uid = ?1 AND version = ?2) AS instances \
             FROM routed WHERE study_instance_uid = ?1 AND study_version = ?2",
        )
        .bind(uid)
        .bind(version)
        .fetch_optional(&self.pool)
        .await?;
        let mut instances = self.instances_of_study(uid).await?;
        let Some(row) = row else { return Ok(Some(instances)) };
        let last: i64 = row.try_get("last_instance")?;
        instances.retain(|instance| instance.id <= last);
        let all: Option<i64> = row.try_get("instances")?;
        let whole = all.is_none_or(|all| all.unsigned_abs() == instances.len() as u64);
        Ok(whole.then_some(instances))
    }

    /// Records what was decided, makes the jobs, and lets the version supersede earlier ones: of these, what waits is
    /// cancelled, what runs is asked to stop, and what is done stays and names its successor. A job stands no lower than
    /// the study ever stood, and no lower than its order says. `false`, and nothing is changed, when this version or a later one is there already.
    ///
    /// # Errors
    /// The journal's.
    pub async fn route(&self, routed: &Routed, correlation: &str, new: &[NewJob]) -> Result<bool, StoreError> {
        self.route_for(routed, correlation, new, &[]).await
    }

    /// The same, with the reasons for which the study stands where it stands.
    ///
    /// # Errors
    /// The journal's.
    pub async fn route_for(
        &self,
        routed: &Routed,
        correlation: &str,
        new: &[NewJob],
        reasons: &[Reason],
    ) -> Result<bool, StoreError> {
        let mut batch = self.begin().await?;
        let (uid, version) = (&routed.study_instance_uid, routed.study_version);
        let known = sqlx::query(
            "SELECT max(study_version) AS version, (SELECT max(priority) FROM (SELECT priority FROM job \
             WHERE study_instance_uid = ?1 UNION ALL SELECT level FROM reason WHERE study_instance_uid = ?1)) AS \
             priority FROM routed WHERE study_instance_uid = ?1",
        )
        .bind(uid)
        .fetch_one(&mut *batch.transaction)
        .await?;
        if known.try_get::<Option<u32>, _>("version")?.is_some_and(|known| known >= version) {
            return Ok(false);
        }
        let stood: i64 = known.try_get::<Option<i64>, _>("priority")?.unwrap_or(0);
        // Here, and not before: an order that comes meanwhile waits for this commit, and finds the jobs.
        let (ordered, of_others) = batch.priority_of_orders(uid).await?;
        let stood = stood.max(ordered);
        if of_others > 0 {
            let event = Event::new(NODE, Action::OrderOfAnother);
            let detail = OF_ANOTHER.to_owned();
            batch
                .audit(&Event { study_instance_uid: uid.into(), detail, correlation: correlation.into(), ..event })
                .await?;
        }
        sqlx::query("INSERT INTO routed VALUES (?, ?, ?, ?, ?, ?)")
            .bind(uid)
            .bind(version)
            .bind(routed.routed_ms)
            .bind(&routed.outcome)
            .bind(&routed.detail)
            .bind(routed.last_instance)
            .execute(&mut *batch.transaction)
            .await?;
        supersede(&mut batch, uid, version, routed.routed_ms).await?;
        for reason in reasons {
            batch.reason(uid, reason).await?;
        }
        for job in new {
            let row = sqlx::query(
                "INSERT INTO job (study_instance_uid, study_version, module, module_identity, state, priority, \
                 created_ms, correlation) VALUES (?, ?, ?, ?, ?, ?, ?, ?) RETURNING *",
            )
            .bind(uid)
            .bind(version)
            .bind(&job.module)
            .bind(job.identity.as_slice())
            .bind(if job.gated { "gated" } else { "queued" })
            .bind(level(job.priority).max(stood))
            .bind(routed.routed_ms)
            .bind(correlation)
            .fetch_one(&mut *batch.transaction)
            .await?;
            batch.audit(&about(&Job::read(&row)?, NODE, Action::JobQueued)).await?;
        }
        batch.commit().await?;
        Ok(true)
    }

    /// What was decided for a study, the latest version first; for all studies when none is named.
    ///
    /// # Errors
    /// The journal's.
    pub async fn routed(&self, study_instance_uid: Option<&str>) -> Result<Vec<Routed>, StoreError> {
        let rows = sqlx::query(
            "SELECT * FROM routed WHERE ?1 IS NULL OR study_instance_uid = ?1 ORDER BY routed_ms DESC, study_version DESC",
        )
        .bind(study_instance_uid)
        .fetch_all(&self.pool)
        .await?;
        let read = |row: &SqliteRow| {
            Ok(Routed {
                study_instance_uid: row.try_get("study_instance_uid")?,
                study_version: row.try_get("study_version")?,
                routed_ms: row.try_get("routed_ms")?,
                outcome: row.try_get("outcome")?,
                detail: row.try_get("detail")?,
                last_instance: row.try_get("last_instance")?,
            })
        };
        Ok(rows.iter().map(read).collect::<Result<_, sqlx::Error>>()?)
    }

    /// Records that no module is configured that could run on this version of a study.
    ///
    /// # Errors
    /// The journal's.
    pub async fn nothing_to_run(&self, study_instance_uid: &str, version: u32) -> Result<(), StoreError> {
        let last = self.instances_of_study(study_instance_uid).await?.iter().map(|i| i.id).max();
        let routed = Routed {
            study_instance_uid: study_instance_uid.to_owned(),
            study_version: version,
            routed_ms: now_ms(),
            outcome: "nothing-to-run".into(),
            detail: "no module is configured".into(),
            last_instance: last.unwrap_or(0),
        };
        self.route(&routed, "", &[]).await.map(|_| ())
    }

    /// Studies whose last version was not routed: the node ended between closing and routing. Priors, of which everything was
    /// fetched, are none of them.
    ///
    /// # Errors
    /// The journal's.
    pub async fn unrouted_versions(&self) -> Result<Vec<(String, u32)>, StoreError> {
        let rows = sqlx::query(
            "SELECT study_instance_uid, last FROM (SELECT study.id AS id, study_instance_uid, max(version) AS last \
             FROM study_version JOIN study ON study.id = study_version.study GROUP BY study.id) AS closed \
             WHERE EXISTS (SELECT 1 FROM instance JOIN series ON series.id = instance.series \
             WHERE series.study = closed.id AND via <> 'pacs') \
             AND NOT EXISTS (SELECT 1 FROM routed WHERE routed.study_instance_uid = closed.study_instance_uid \
             AND routed.study_version >= closed.last)",
        )
        .fetch_all(&self.pool)
        .await?;
        let read = |row: &SqliteRow| Ok::<_, sqlx::Error>((row.try_get(0)?, row.try_get(1)?));
        Ok(rows.iter().map(read).collect::<Result<_, _>>()?)
    }
}

async fn supersede(batch: &mut Batch, uid: &str, version: u32, now: i64) -> Result<(), StoreError> {
    // Only this study's jobs of earlier versions are there.
    sqlx::query(
        "UPDATE delivery SET state = 'superseded', ended_ms = ? WHERE study_instance_uid = ? \
         AND state IN ('held', 'queued', 'dead')",
    )
    .bind(now)
    .bind(uid)
    .execute(&mut *batch.transaction)
    .await?;
    let rows = sqlx::query(
        "UPDATE job SET superseded_by = ?1, cancel_requested = iif(state = 'running', 1, cancel_requested), \
         ended_ms = iif(state IN ('queued', 'gated'), ?3, ended_ms), \
         error_class = iif(state IN ('queued', 'gated'), 'superseded', error_class), \
         error = iif(state IN ('queued', 'gated'), 'a later version of the study came', error), \
         state = iif(state IN ('queued', 'gated'), 'cancelled', state) \
         WHERE study_instance_uid = ?2 AND study_version < ?1 AND superseded_by IS NULL RETURNING *",
    )
    .bind(version)
    .bind(uid)
    .bind(now)
    .fetch_all(&mut *batch.transaction)
    .await?;
    for job in jobs(&rows)? {
        let was = match (job.state, job.error_class.as_deref()) {
            (JobState::Cancelled, Some("superseded")) => "cancelled before it ran".to_owned(),
            (JobState::Running, _) => "asked to stop".to_owned(),
            (state, _) => format!("was {state}"),
        };
        let detail = format!("by v{version}: {was}");
        batch.audit(&Event { detail, ..about(&job, NODE, Action::JobSuperseded) }).await?;
    }
    Ok(())
}
