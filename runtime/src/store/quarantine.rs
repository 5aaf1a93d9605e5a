//! What stays in the hospital although the policy chose it, and what people decided about it.
//!
//! ```text
//!            ┌──────────── another reason, other bytes, another profile ───────────┐
//!            ▼                                                                     │
//!  hold ─▶ held ── release ─▶ released ── the next run of sync takes it along ─▶ sent
//!            │ ▲                  │
//!   discard  │ └── (release) ─┐   │       retention let go of the object
//!            ▼                │   ▼
//!        discarded ───────────┘  gone
//! ```
//!
//! A release sends nothing: it excuses the reason, of these bytes under this profile, and sync looks at the object again. What goes
//! along names its part, and is `sent` when its batch is in the bucket; a discard before its batch is sealed takes the part back.

use std::collections::{BTreeMap, HashMap, HashSet};

use gantry_cloud_sync::deid::{Excuse, Excuses, UnknownExcuse};
use gantry_cloud_sync::held::{Reason, ReasonKind};
use serde::{Serialize, Serializer};
use sqlx::Row;
use sqlx::sqlite::SqliteRow;

use super::{Batch, Store, StoreError, now_ms};
use crate::audit::{Action, Event, NODE};

macro_rules! words {
    ($(#[$about:meta])* $name:ident { $($(#[doc = $doc:literal])+ $variant:ident = $word:literal,)* }) => {
        $(#[$about])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
        #[serde(rename_all = "kebab-case")]
        pub enum $name {
            $($(#[doc = $doc])+ $variant,)*
        }

        impl $name {
            /// Every one.
            pub const ALL: &'static [Self] = &[$(Self::$variant),*];

            /// In the journal, and for people.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self { $(Self::$variant => $word,)* }
            }

            /// The one of this name.
            #[must_use]
            pub fn named(word: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|known| known.name() == word)
            }

            fn read(word: &str) -> Result<Self, sqlx::Error> {
                Self::named(word).ok_or_else(|| sqlx::Error::Decode("a word of the quarantine is not known to this version".into()))
            }
        }
    };
}

words! {
    /// What is held.
    HeldKind {
        /// A DICOM instance, received or made by a job.
        Instance = "instance",
        /// The `result.json` of a job.
        Result = "result",
        /// What people said of the result of a job.
        Verdict = "verdict",
        /// How long the steps of a job took.
        Timing = "timing",
    }
}

words! {
    /// Where a held object stands.
    HeldState {
        /// It waits for a person.
        Held = "held",
        /// A person excused its reason; sync looks at it again.
        Released = "released",
        /// A person decided that it stays.
        Discarded = "discarded",
        /// It went along.
        Sent = "sent",
        /// Retention let go of the object before it left.
        Gone = "gone",
    }
}

/// Which object: what the journal calls it, and its bytes.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct HeldObject {
    /// What it is.
    pub kind: HeldKind,
    /// Series Instance UID of an instance; empty otherwise.
    pub series_instance_uid: String,
    /// SOP Instance UID of an instance; empty otherwise.
    pub sop_instance_uid: String,
    /// The job that made it, or that it is about; nothing for what was received.
    pub job: Option<i64>,
    /// SHA-256 of its bytes, as they were looked at.
    pub sha256: [u8; 32],
}

/// An object that stays.
#[derive(Debug, Clone)]
pub struct ToHold {
    /// Which.
    pub object: HeldObject,
    /// Why.
    pub reason: Reason,
}

/// A row of the quarantine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct HeldRow {
    /// Its number.
    pub id: i64,
    /// Study Instance UID.
    pub study_instance_uid: String,
    /// What it is.
    pub kind: HeldKind,
    /// Of instances; empty otherwise.
    pub series_instance_uid: String,
    /// Of instances; empty otherwise.
    pub sop_instance_uid: String,
    /// The job that made it, or that it is about.
    pub job: Option<i64>,
    /// Of the bytes that were held.
    #[serde(serialize_with = "as_hex")]
    pub sha256: [u8; 32],
    /// Of the profile with its options.
    #[serde(serialize_with = "as_hex")]
    pub profile_sha256: [u8; 32],
    /// Why.
    pub reason: ReasonKind,
    /// What exactly; no value.
    pub detail: String,
    /// What a person says who releases it; empty where nobody can.
    pub excuses: Excuses,
    /// When, the last time that the reason was a new one.
    pub held_ms: i64,
    /// Where it stands.
    pub state: HeldState,
    /// Since when.
    pub state_ms: i64,
    /// Who decided last; empty before that.
    pub decided_by: String,
    /// In their words.
    pub decided_why: String,
}

fn as_hex<S: Serializer>(bytes: &[u8; 32], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&crate::hex(bytes))
}

/// Which rows are asked for.
#[derive(Debug, Clone, Copy, Default)]
pub struct HeldSearch<'s> {
    /// Of this study.
    pub study: Option<&'s str>,
    /// For this reason.
    pub reason: Option<ReasonKind>,
    /// In this state.
    pub state: Option<HeldState>,
}

/// What people decided of one object.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Decided {
    /// What was excused; pass it to the de-identifier.
    pub excuses: Excuses,
    /// It stays: do not look at it.
    pub discarded: bool,
}

/// A decision that cannot be taken; then none of those that were to be taken together is.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Undecided {
    /// There is no such row.
    #[error("{0}: there is no such object in the quarantine; `gantry quarantine list` has their numbers")]
    NoSuch(i64),
    /// Nobody can excuse this.
    #[error("{0} is held for `{name}`: {remedy}", name = .1.name(), remedy = .1.remedy())]
    NotExcusable(i64, ReasonKind),
    /// It went along before.
    #[error("{0} was sent already, and cannot be taken back from here")]
    Sent(i64),
    /// Retention let go of it.
    #[error("{0} is gone: retention deleted it; it is held anew if it comes again")]
    Gone(i64),
}

/// A decision, or why it could not be taken.
pub type Decision = Result<Vec<HeldRow>, Undecided>;

impl Store {
    /// Rows, the latest first, without the first `offset`.
    ///
    /// # Errors
    /// The journal's.
    pub async fn held(&self, search: HeldSearch<'_>, limit: u32, offset: u32) -> Result<Vec<HeldRow>, StoreError> {
        let rows = sqlx::query(
            "SELECT * FROM sync_quarantine WHERE (?1 IS NULL OR study_instance_uid = ?1) AND (?2 IS NULL OR reason = ?2) \
             AND (?3 IS NULL OR state = ?3) ORDER BY id DESC LIMIT ?4 OFFSET ?5",
        )
        .bind(search.study)
        .bind(search.reason.map(ReasonKind::name))
        .bind(search.state.map(HeldState::name))
        .bind(limit)
        .bind(offset)
        .fetch_all(&self.pool)
        .await?;
        Ok(rows.iter().map(read).collect::<Result<_, _>>()?)
    }

    /// A row.
    ///
    /// # Errors
    /// The journal's.
    pub async fn held_row(&self, id: i64) -> Result<Option<HeldRow>, StoreError> {
        let row = sqlx::query("SELECT * FROM sync_quarantine WHERE id = ?").bind(id).fetch_optional(&self.pool).await?;
        Ok(row.as_ref().map(read).transpose()?)
    }

    /// How many objects there are in each state and for each reason.
    ///
    /// # Errors
    /// The journal's.
    pub async fn held_counts(&self) -> Result<BTreeMap<(HeldState, ReasonKind), u64>, StoreError> {
        let rows = sqlx::query("SELECT state, reason, count(*) AS objects FROM sync_quarantine GROUP BY state, reason");
        let rows = rows.fetch_all(&self.pool).await?;
        let count = |row: &SqliteRow| {
            let key = (HeldState::read(row.try_get("state")?)?, reason(row)?);
            Ok::<_, sqlx::Error>((key, row.try_get::<i64, _>("objects")?.unsigned_abs()))
        };
        Ok(rows.iter().map(count).collect::<Result<_, _>>()?)
    }

    /// How many objects wait for a person.
    ///
    /// # Errors
    /// The journal's.
    pub async fn held_open(&self) -> Result<u64, StoreError> {
        let row =
            sqlx::query("SELECT count(*) FROM sync_quarantine WHERE state = 'held'").fetch_one(&self.pool).await?;
        Ok(row.try_get::<i64, _>(0)?.unsigned_abs())
    }

    /// Numbers of the rows that these objects of a study have and that are not at their end.
    ///
    /// # Errors
    /// The journal's.
    pub async fn rows_of_held(&self, study: &str, objects: &[HeldObject]) -> Result<Vec<i64>, StoreError> {
        let rows = sqlx::query(
            "SELECT id, kind, sop_instance_uid, job FROM sync_quarantine WHERE study_instance_uid = ? \
             AND state IN ('held', 'released')",
        );
        let rows = rows.bind(study).fetch_all(&self.pool).await?;
        let called =
            |object: &HeldObject| (object.kind, object.sop_instance_uid.clone(), object.job.unwrap_or_default());
        let objects: HashSet<_> = objects.iter().map(called).collect();
        let mut ids = Vec::new();
        for row in &rows {
            let kind = HeldKind::read(row.try_get("kind")?)?;
            if objects.contains(&(kind, row.try_get("sop_instance_uid")?, row.try_get("job")?)) {
                ids.push(row.try_get("id")?);
            }
        }
        Ok(ids)
    }

    /// What people decided of the objects of a study, by the digest of their bytes; objects of which nobody decided anything
    /// are not in it. An excuse counts under the profile for which it was given, a discard under every one.
    ///
    /// # Errors
    /// The journal's.
    pub async fn excuses_of(
        &self,
        study: &str,
        profile_sha256: &[u8; 32],
    ) -> Result<HashMap<[u8; 32], Decided>, StoreError> {
        let mut decided: HashMap<[u8; 32], Decided> = HashMap::new();
        let discarded =
            sqlx::query("SELECT sha256 FROM sync_quarantine WHERE study_instance_uid = ? AND state = 'discarded'");
        for row in discarded.bind(study).fetch_all(&self.pool).await? {
            decided.entry(digest(&row, "sha256")?).or_default().discarded = true;
        }
        let excused = sqlx::query(
            "SELECT sync_excuse.sha256, excuse FROM sync_excuse JOIN sync_quarantine ON id = quarantine \
             WHERE study_instance_uid = ? AND sync_excuse.profile_sha256 = ? AND state <> 'discarded'",
        );
        for row in excused.bind(study).bind(profile_sha256.as_slice()).fetch_all(&self.pool).await? {
            let excuse: &str = row.try_get("excuse")?;
            let excuse: Excuse = excuse.parse().map_err(|e: UnknownExcuse| sqlx::Error::Decode(Box::new(e)))?;
            decided.entry(digest(&row, "sha256")?).or_default().excuses.extend([excuse]);
        }
        Ok(decided)
    }

    /// Excuses the reasons of these objects, all or none; sync looks at them again. Of what was released before, nothing changes.
    ///
    /// # Errors
    /// The journal's.
    pub async fn release_held(&self, ids: &[i64], who: &str, why: &str) -> Result<Decision, StoreError> {
        self.decide(ids, HeldState::Released, who, why).await
    }

    /// Has these objects stay, all or none, whatever the profile. Of what was discarded before, nothing changes.
    ///
    /// # Errors
    /// The journal's.
    pub async fn discard_held(&self, ids: &[i64], who: &str, why: &str) -> Result<Decision, StoreError> {
        self.decide(ids, HeldState::Discarded, who, why).await
    }

    async fn decide(&self, ids: &[i64], to: HeldState, who: &str, why: &str) -> Result<Decision, StoreError> {
        let mut batch = self.begin().await?;
        let mut decided = Vec::with_capacity(ids.len());
        for &id in ids {
            let query = sqlx::query("SELECT * FROM sync_quarantine WHERE id = ?").bind(id);
            let row = query.fetch_optional(&mut *batch.transaction).await?;
            let Some(mut row) = row.as_ref().map(read).transpose()? else { return Ok(Err(Undecided::NoSuch(id))) };
            match row.state {
                HeldState::Sent => return Ok(Err(Undecided::Sent(id))),
                HeldState::Gone => return Ok(Err(Undecided::Gone(id))),
                _ if to == HeldState::Released && row.excuses.is_empty() => {
                    return Ok(Err(Undecided::NotExcusable(id, row.reason)));
                }
                _ => {}
            }
            if row.state != to {
                batch.decide(&mut row, to, who, why).await?;
            }
            decided.push(row);
        }
        batch.commit().await?;
        Ok(Ok(decided))
    }
}

impl Batch {
    async fn decide(&mut self, row: &mut HeldRow, to: HeldState, who: &str, why: &str) -> Result<(), StoreError> {
        row.state = to;
        row.state_ms = now_ms();
        row.decided_by = who.into();
        row.decided_why = why.into();
        sqlx::query("UPDATE sync_quarantine SET state = ?, state_ms = ?, decided_by = ?, decided_why = ? WHERE id = ?")
            .bind(to.name())
            .bind(row.state_ms)
            .bind(who)
            .bind(why)
            .bind(row.id)
            .execute(&mut *self.transaction)
            .await?;
        let mut detail = format!("{} held for {}", row.kind.name(), row.reason.name());
        if to == HeldState::Released {
            for excuse in row.excuses.iter() {
                sqlx::query("INSERT OR IGNORE INTO sync_excuse VALUES (?, ?, ?, ?, ?, ?)")
                    .bind(row.id)
                    .bind(row.sha256.as_slice())
                    .bind(row.profile_sha256.as_slice())
                    .bind(excuse.to_string())
                    .bind(row.state_ms)
                    .bind(who)
                    .execute(&mut *self.transaction)
                    .await?;
            }
            let excused: Vec<_> = row.excuses.iter().map(ToString::to_string).collect();
            detail = format!("{detail}: {}", excused.join("; "));
        }
        // Not the words of whoever decides: they may name a patient, and stay in the journal.
        let action = if to == HeldState::Released { Action::ObjectReleased } else { Action::ObjectDiscarded };
        let event = Event {
            study_instance_uid: row.study_instance_uid.clone(),
            object: called(row),
            digests: vec![("object", row.sha256), ("profile", row.profile_sha256)],
            detail,
            ..Event::new(who, action)
        };
        self.audit(&event).await
    }

    /// Holds objects of a study, in one commit with whatever else the batch has; says how many are held that were not before.
    ///
    /// The same bytes for the same reason under the same profile are the same row, and what was decided of it stays. A new reason,
    /// other bytes or another profile hold the object again, unless somebody discarded these very bytes.
    ///
    /// # Errors
    /// The journal's.
    pub async fn hold(&mut self, study: &str, profile_sha256: &[u8; 32], held: &[ToHold]) -> Result<u64, StoreError> {
        let mut reasons: BTreeMap<(HeldKind, ReasonKind), u64> = BTreeMap::new();
        for ToHold { object, reason } in held {
            let excuses = serde_json::to_string(&reason.excuses).map_err(|e| sqlx::Error::Encode(Box::new(e)))?;
            let changed = sqlx::query(
                "INSERT INTO sync_quarantine AS old (study_instance_uid, kind, series_instance_uid, sop_instance_uid, job, \
                 sha256, profile_sha256, reason, detail, excuses, held_ms, state, state_ms) \
                 VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?11, 'held', ?11) \
                 ON CONFLICT (study_instance_uid, kind, sop_instance_uid, job) DO UPDATE SET \
                 series_instance_uid = excluded.series_instance_uid, sha256 = excluded.sha256, \
                 profile_sha256 = excluded.profile_sha256, reason = excluded.reason, detail = excluded.detail, \
                 excuses = excluded.excuses, held_ms = excluded.held_ms, state = 'held', state_ms = excluded.state_ms, \
                 decided_by = '', decided_why = '', part = NULL \
                 WHERE old.sha256 <> excluded.sha256 OR old.state <> 'discarded' AND (old.state IN ('sent', 'gone') \
                 OR old.profile_sha256 <> excluded.profile_sha256 OR old.reason <> excluded.reason \
                 OR old.excuses <> excluded.excuses)",
            )
            .bind(study)
            .bind(object.kind.name())
            .bind(&object.series_instance_uid)
            .bind(&object.sop_instance_uid)
            .bind(object.job.unwrap_or_default())
            .bind(object.sha256.as_slice())
            .bind(profile_sha256.as_slice())
            .bind(reason.kind.name())
            .bind(&reason.detail)
            .bind(excuses)
            .bind(now_ms())
            .execute(&mut *self.transaction)
            .await?
            .rows_affected();
            *reasons.entry((object.kind, reason.kind)).or_default() += changed;
        }
        reasons.retain(|_, objects| *objects > 0);
        let detail = reasons.iter().map(|((kind, reason), n)| format!("{n} × {} for {}", kind.name(), reason.name()));
        let detail = detail.collect::<Vec<_>>().join("; ");
        if !reasons.is_empty() {
            let event = Event {
                study_instance_uid: study.into(),
                digests: vec![("profile", *profile_sha256)],
                detail,
                ..Event::new(NODE, Action::ObjectsHeld)
            };
            self.audit(&event).await?;
        }
        Ok(reasons.values().sum())
    }

    /// Rows of these objects go along with a part: they are at their end when it is sent.
    ///
    /// # Errors
    /// The journal's.
    pub async fn along_with(&mut self, part: i64, rows: &[i64]) -> Result<(), StoreError> {
        for row in rows {
            sqlx::query("UPDATE sync_quarantine SET part = ? WHERE id = ?")
                .bind(part)
                .bind(row)
                .execute(&mut *self.transaction)
                .await?;
        }
        Ok(())
    }

    /// A part was sent: what went along with it is at its end, also what somebody discarded after its batch was sealed; how much that was.
    ///
    /// # Errors
    /// The journal's.
    pub async fn sent_of_held(&mut self, part: i64) -> Result<u64, StoreError> {
        let count = "SELECT count(*) FROM sync_quarantine WHERE part = ? AND state = 'discarded'";
        let late: i64 = sqlx::query(count).bind(part).fetch_one(&mut *self.transaction).await?.try_get(0)?;
        sqlx::query("UPDATE sync_quarantine SET state = 'sent', state_ms = ? WHERE part = ?")
            .bind(now_ms())
            .bind(part)
            .execute(&mut *self.transaction)
            .await?;
        Ok(late.unsigned_abs())
    }

    /// Whether a person discarded one of these objects of a study.
    ///
    /// # Errors
    /// The journal's.
    pub async fn is_discarded(&mut self, study: &str, objects: &[HeldObject]) -> Result<bool, StoreError> {
        let rows =
            sqlx::query("SELECT sha256 FROM sync_quarantine WHERE study_instance_uid = ? AND state = 'discarded'");
        let rows = rows.bind(study).fetch_all(&mut *self.transaction).await?;
        let discarded: HashSet<_> = rows.iter().map(|row| digest(row, "sha256")).collect::<Result<_, _>>()?;
        Ok(objects.iter().any(|object| discarded.contains(&object.sha256)))
    }

    /// Whether something of a study, or of one job on it, was held since then and waits for a person or for sync.
    ///
    /// # Errors
    /// The journal's.
    pub async fn is_held_since(&mut self, study: &str, since_ms: i64) -> Result<bool, StoreError> {
        let query = "SELECT EXISTS (SELECT 1 FROM sync_quarantine WHERE study_instance_uid = ? \
                     AND state IN ('held', 'released') AND held_ms >= ?)";
        let row = sqlx::query(query).bind(study).bind(since_ms).fetch_one(&mut *self.transaction).await?;
        Ok(row.try_get(0)?)
    }

    /// The objects of a study, or what a job on it made, are deleted: rows that wait are at their end, and the audit log says so.
    ///
    /// # Errors
    /// The journal's.
    pub async fn held_are_gone(&mut self, study: &str, job: Option<i64>, reason: &str) -> Result<u64, StoreError> {
        let gone = sqlx::query(
            "UPDATE sync_quarantine SET state = 'gone', state_ms = ?3 WHERE study_instance_uid = ?1 \
             AND (?2 IS NULL OR job = ?2) AND state IN ('held', 'released')",
        )
        .bind(study)
        .bind(job)
        .bind(now_ms())
        .execute(&mut *self.transaction)
        .await?
        .rows_affected();
        if gone > 0 {
            let event = Event {
                study_instance_uid: study.into(),
                detail: format!("{gone} held objects, by {reason}"),
                ..Event::new(NODE, Action::ObjectsGone)
            };
            self.audit(&event).await?;
        }
        Ok(gone)
    }
}

/// What a row is about, below its study.
fn called(row: &HeldRow) -> String {
    match row.job {
        Some(job) if row.sop_instance_uid.is_empty() => format!("{} of job {job}", row.kind.name()),
        Some(job) => format!("{} of job {job}", row.sop_instance_uid),
        None => row.sop_instance_uid.clone(),
    }
}

fn reason(row: &SqliteRow) -> Result<ReasonKind, sqlx::Error> {
    let unknown = || sqlx::Error::Decode("a reason of the quarantine is not known to this version".into());
    ReasonKind::named(row.try_get("reason")?).ok_or_else(unknown)
}

fn digest(row: &SqliteRow, column: &str) -> Result<[u8; 32], sqlx::Error> {
    let bytes: Vec<u8> = row.try_get(column)?;
    bytes.try_into().map_err(|_| sqlx::Error::Decode("a digest of the quarantine is not 32 bytes".into()))
}

fn read(row: &SqliteRow) -> Result<HeldRow, sqlx::Error> {
    let excuses = serde_json::from_str(row.try_get("excuses")?).map_err(|e| sqlx::Error::Decode(Box::new(e)))?;
    Ok(HeldRow {
        id: row.try_get("id")?,
        study_instance_uid: row.try_get("study_instance_uid")?,
        kind: HeldKind::read(row.try_get("kind")?)?,
        series_instance_uid: row.try_get("series_instance_uid")?,
        sop_instance_uid: row.try_get("sop_instance_uid")?,
        job: Some(row.try_get("job")?).filter(|&job: &i64| job != 0),
        sha256: digest(row, "sha256")?,
        profile_sha256: digest(row, "profile_sha256")?,
        reason: reason(row)?,
        detail: row.try_get("detail")?,
        excuses,
        held_ms: row.try_get("held_ms")?,
        state: HeldState::read(row.try_get("state")?)?,
        state_ms: row.try_get("state_ms")?,
        decided_by: row.try_get("decided_by")?,
        decided_why: row.try_get("decided_why")?,
    })
}

#[cfg(test)]
mod tests;
