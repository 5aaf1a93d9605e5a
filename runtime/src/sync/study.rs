//! The path of one study to the cloud, top to bottom.
//!
//! ```text
//!  gather ─▶ know ─▶ decide ─▶ take ─▶ clean and prove ─▶ spool ─▶ record
//!              │        │                     └─▶ quarantine
//!              │        └─▶ wait · skip
//!              └─ identifiers of all sources together
//! ```
//!
//! It runs on a thread of its own, and asks between objects whether it may go on. Killed anywhere, it loses nothing and does
//! nothing twice: see `store/sync.rs`.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use chrono::{DateTime, Utc};
use gantry_cloud_sync::batch::{self, Digest, Entry, Format, Id, Intake, Kind, Releasable, Spool};
use gantry_cloud_sync::deid::{Instance, Json, Mapping, Patient, Values};
use gantry_cloud_sync::escrow::{Escrow, EscrowError};
use gantry_cloud_sync::held::Reason;
use gantry_cloud_sync::known::{Known, Prover, Stays};
use gantry_cloud_sync::policy::{Candidate, Cohort, Context, Decision, JobEnd, Priority, Verdict, Wait};
use gantry_cloud_sync::verify::{Limits, Released};
use rayon::prelude::*;
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;

use super::documents;
use super::site::{Cleaner, Site, SiteError};
use super::sources::{Content, GatherError, Source, Sources, gather};
use crate::config::SyncConfig;
use crate::findings::Urgency;
use crate::review;
use crate::store::{Decided, Due, JobState, Store, StoreError, SyncDue, SyncLooked, SyncTaken, ToHold, now_ms};

/// What waits for something else than a verdict is looked at again after so long, then after as long as it waited, and at last at
/// least so often.
const LOOK_AGAIN_MS: [i64; 2] = [60_000, 3_600_000];

/// Looks at a study that may end with their process, one after another, before it is left out.
const LOOKS_MAX: u32 = 3;

/// What a study is taken in with.
pub(super) struct Work {
    pub(super) site: Arc<Site>,
    pub(super) config: SyncConfig,
    pub(super) store: Store,
    pub(super) data: PathBuf,
    pub(super) stop: CancellationToken,
    /// The study that is being taken in is to be left as it is.
    pub(super) leave: AtomicBool,
    pub(super) escrow: Option<Escrow>,
    pub(super) threads: rayon::ThreadPool,
    pub(super) runtime: Handle,
}

/// What came of looking at a study.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Came {
    /// It was taken.
    Taken(SyncTaken),
    /// All that would be taken is held: so many objects.
    Held(usize),
    /// It stays, for this reason.
    Skipped(String),
    /// It is looked at again: for what it waits.
    Waits(String),
    /// Somebody wants this process to end, or to do something else.
    Stopped,
}

/// A study cannot be looked at: the host's to mend. It stays where it stood.
#[derive(Debug, thiserror::Error)]
pub enum StudyError {
    /// The journal.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The spool.
    #[error(transparent)]
    Spool(#[from] batch::Failure),
    /// The escrow.
    #[error("escrow: {0}")]
    Escrow(#[from] EscrowError),
    /// Who opted out is not known.
    #[error(transparent)]
    Site(#[from] SiteError),
    /// What the journal keeps of earlier decisions.
    #[error("the journal's {0} is not what this version wrote: {1}")]
    Kept(&'static str, serde_json::Error),
}

/// Why a study goes no further.
enum Stop {
    Error(StudyError),
    /// For a verdict, until then.
    Verdict(i64),
    /// For something else, for `sync.wait_max_h` at most.
    Wait(String),
    Skip(String),
    /// Somebody discarded some of it while it was cleaned.
    Discarded,
    Cancelled,
}

impl From<GatherError> for Stop {
    fn from(error: GatherError) -> Self {
        match error {
            GatherError::Store(e) => Self::Error(e.into()),
            GatherError::Result(e) => Self::Wait(format!("for a result that can be read: {e}")),
        }
    }
}

impl<E: Into<StudyError>> From<E> for Stop {
    fn from(error: E) -> Self {
        Self::Error(error.into())
    }
}

impl Work {
    /// Looks at a study, and takes in what may leave of it.
    pub(super) fn hand_in(&self, spool: &mut Spool, due: &SyncDue) -> Result<Came, StudyError> {
        let came = self.look(spool, due);
        self.wait(self.store.sync_end(due))?;
        came
    }

    fn look(&self, spool: &mut Spool, due: &SyncDue) -> Result<Came, StudyError> {
        let path = match self.wait(self.store.sync_begin(due))? {
            // Whatever it has in it must not stop all others.
            LOOKS_MAX.. => {
                Err(Stop::Skip(format!("{LOOKS_MAX} processes ended while they looked at it; the host's log says how")))
            }
            _ => self.path(spool, due),
        };
        match path {
            Ok(came) => Ok(came),
            Err(Stop::Error(error)) => Err(error),
            Err(Stop::Cancelled) => Ok(Came::Stopped),
            // As it stands, it is looked at at once.
            Err(Stop::Discarded) => Ok(Came::Waits("to be looked at without what was discarded meanwhile".into())),
            Err(Stop::Verdict(until_ms)) => {
                let why = "for a verdict";
                self.wait(self.store.sync_wait(due, why, 0, until_ms))?;
                Ok(Came::Waits(why.into()))
            }
            Err(Stop::Wait(why)) => {
                let now_ms = now_ms();
                // A clock that was set back starts it anew.
                let since_ms = if (1..=now_ms).contains(&due.waits_since_ms) { due.waits_since_ms } else { now_ms };
                let most_ms = hours_ms(self.config.wait_max_h);
                let waited_ms = now_ms - since_ms;
                if waited_ms >= most_ms {
                    let why = format!("it waited for sync.wait_max_h = {} {why}", self.config.wait_max_h);
                    self.wait(self.store.sync_skip(due, &why))?;
                    return Ok(Came::Skipped(why));
                }
                let due_ms = now_ms + look_again_ms(waited_ms).min(most_ms - waited_ms);
                self.wait(self.store.sync_wait(due, &why, since_ms, due_ms))?;
                Ok(Came::Waits(why))
            }
            Err(Stop::Skip(why)) => {
                self.wait(self.store.sync_skip(due, &why))?;
                Ok(Came::Skipped(why))
            }
        }
    }

    fn path(&self, spool: &mut Spool, due: &SyncDue) -> Result<Came, Stop> {
        let gathered = self.wait(gather(&self.store, &self.data, due))?;
        let gone = || Stop::Wait("for its next version: instances were replaced or deleted".into());
        let sources = gathered.ok_or_else(gone)?;
        let (known, values) = self.know(&sources)?;
        let (cleaner, patient) = self.decide(due, &sources, &known, values)?;
        let profile_sha256 = *cleaner.profile.digest.as_bytes();
        let decided = self.wait(self.store.excuses_of(&due.study_instance_uid, &profile_sha256))?;
        let prover = known.prover(&cleaner.by);

        let record = Id::new();
        let part = self.wait(self.store.sync_take(due, &record.to_string(), patient.pseudonym()))?;
        let taking = Taking {
            work: self,
            prover: prover.as_ref(),
            decided: &decided,
            intake: spool.take_in(record, &cleaner.profile),
            looked: SyncLooked { profile_sha256, ..SyncLooked::default() },
            released: HashMap::new(),
            mappings: Vec::new(),
        };
        let came = self.take(due, &sources, taking, part);
        // What failed on the disk may be there or not: the next start asks the spool.
        if let Err(Stop::Verdict(_) | Stop::Wait(_) | Stop::Skip(_) | Stop::Discarded | Stop::Cancelled) = came {
            self.wait(self.store.sync_untake(part))?;
        }
        came
    }

    fn take(&self, due: &SyncDue, sources: &Sources, mut taking: Taking<'_, '_>, part: i64) -> Result<Came, Stop> {
        taking.sources(&self.files(sources))?;
        taking.sources(&self.documents(due, sources, &taking.released))?;
        let Taking { intake, looked, mappings, .. } = taking;
        let held = looked.held.len();
        if intake.objects().is_empty() && held == 0 {
            return Err(Stop::Skip("there is nothing of it that the policy sends".into()));
        }
        if intake.objects().is_empty() {
            self.wait(self.store.sync_hold(due, part, &looked))?;
            return Ok(Came::Held(held));
        }
        let taken = SyncTaken {
            objects: intake.objects().len() as u64,
            objects_held: held as u64,
            bytes: intake.objects().iter().map(|object| object.bytes).sum(),
        };
        // Who is who is kept before anything can leave.
        if let Some(escrow) = self.escrow.as_ref().filter(|_| !mappings.is_empty()) {
            escrow.keep(&mappings)?;
        }
        if !self.wait(self.store.sync_taken(due, part, &taken, &looked))? {
            return Err(Stop::Discarded);
        }
        match intake.finish(SystemTime::now()) {
            // As of `put`.
            Err(batch::Failure::Configuration(why)) => return Err(Stop::Skip(why)),
            finished => finished?,
        };
        self.wait(self.store.sync_spooled(part))?;
        Ok(Came::Taken(taken))
    }

    /// What identifies in all of it, and what the policy looks at. What cannot be understood is held later, by itself.
    fn know(&self, sources: &Sources) -> Result<(Known, Values), Stop> {
        let by = &self.site.cleaners[0].by;
        let (mut known, mut values) = (Known::new(by, Limits::default()), Values::default());
        let made = sources.jobs.iter().filter_map(|ran| ran.result.as_ref());
        for made in made.clone() {
            for row in &made.reviewed.verdicts {
                // A program's name is no person's.
                let Some((_, person)) = row.given_by.split_once(" for ") else { continue };
                let _ = known.add_person(person);
            }
        }
        for source in sources.instances.iter().chain(made.flat_map(|made| &made.derived)) {
            self.may_go_on()?;
            let Content::File(path) = &source.content else { continue };
            let Ok(bytes) = by.read(path) else { continue };
            if source.kind != Kind::Instance {
                let _ = known.add_made(by, &bytes);
                continue;
            }
            let _ = known.add(by, &bytes);
            if let Ok(said) = by.values(&bytes, &self.site.attributes) {
                values.add(said);
            }
        }
        Ok((known, values))
    }

    /// By which profile it goes, and whose it is.
    fn decide(
        &self,
        due: &SyncDue,
        sources: &Sources,
        known: &Known,
        values: Values,
    ) -> Result<(&Cleaner, Patient), Stop> {
        let [cleaner, without] = &self.site.cleaners;
        let Some(patient) = known.patient(&cleaner.by) else {
            return Err(Stop::Skip("whose it is cannot be known: its instances name no patient, or several".into()));
        };
        let settled = sources.jobs.iter().filter_map(|ran| ran.job.ended_ms).max().unwrap_or(sources.times.closed_ms);
        let study = Candidate {
            patient,
            study_instance_uid: cleaner.by.uid(&due.study_instance_uid),
            values,
            calling_ae_titles: sources.senders.clone(),
            modules: sources.jobs.iter().map(|ran| ran.job.module.clone()).collect(),
            jobs: sources.jobs.iter().filter_map(|ran| end(ran.job.state)).collect(),
            priority: priority(sources.jobs.iter().map(|ran| ran.job.priority).max().unwrap_or_default()),
            verdicts: sources.jobs.iter().filter_map(|ran| ran.result.as_ref()).flat_map(verdicts).collect(),
            settled: DateTime::from_timestamp_millis(settled).unwrap_or_default(),
        };
        let now = Utc::now();
        let opt_out = self.site.opt_out()?;
        let context = Context { secret: &self.site.secret, opt_out: opt_out.as_deref(), now };
        let kept = self.wait(self.store.sync_cohort())?;
        let mut cohort = match kept.as_str() {
            "" => Cohort::default(),
            kept => serde_json::from_str(kept).map_err(|e| StudyError::Kept("cohort", e))?,
        };
        let before = cohort.clone();
        let decision = self.site.policy.decide(&study, &context, &mut cohort);
        if cohort != before {
            let kept = serde_json::to_string(&cohort).expect("a cohort is lists of strings");
            self.wait(self.store.keep_sync_cohort(&kept))?;
        }
        match decision {
            Decision::Send { without_characteristics, .. } => {
                Ok((if without_characteristics { without } else { cleaner }, study.patient))
            }
            Decision::Wait(Wait::Verdict { until, .. }) => Err(Stop::Verdict(until.timestamp_millis())),
            Decision::Wait(wait) => Err(Stop::Wait(wait.to_string())),
            Decision::Stay(stay) => Err(Stop::Skip(stay.to_string())),
        }
    }

    /// What lies in files and may leave by the policy.
    fn files(&self, sources: &Sources) -> Vec<Source> {
        let made = sources.jobs.iter().filter_map(|ran| ran.result.as_ref());
        let results = made.flat_map(|made| made.derived.iter().chain([&made.document]));
        let files = sources.instances.iter().chain(results);
        files.filter(|source| self.site.policy.objects.contains(&source.kind)).cloned().collect()
    }

    /// What is made of the journal and may leave by the policy, with the digests of results as they leave.
    fn documents(&self, due: &SyncDue, sources: &Sources, released: &HashMap<i64, Digest>) -> Vec<Source> {
        let released = |job: i64| released.get(&job).copied();
        let verdicts = sources.jobs.iter().filter_map(|ran| documents::verdict(due, ran, released(ran.job.id)));
        let timing = (!sources.jobs.is_empty()).then(|| documents::timing(due, sources.times, &sources.jobs, released));
        let documents = verdicts.chain(timing);
        documents.filter(|source| self.site.policy.objects.contains(&source.kind)).collect()
    }

    /// Waits while urgent jobs run or wait for their turn: they have the machine to themselves.
    fn may_go_on(&self) -> Result<(), Stop> {
        loop {
            if self.stop.is_cancelled() || self.leave.load(Ordering::Relaxed) {
                return Err(Stop::Cancelled);
            }
            if !self.wait(self.store.urgent_work(Due::now(0)))? {
                return Ok(());
            }
            let poll = Duration::from_millis(self.config.poll_ms);
            self.runtime.block_on(async {
                let _ = tokio::time::timeout(poll, self.stop.cancelled()).await;
            });
        }
    }

    fn wait<T>(&self, journal: impl Future<Output = T>) -> T {
        self.runtime.block_on(journal)
    }
}

/// A study that is being taken in.
struct Taking<'t, 's> {
    work: &'t Work,
    prover: Result<&'t Prover<'t>, &'t Stays>,
    decided: &'t HashMap<[u8; 32], Decided>,
    intake: Intake<'s>,
    looked: SyncLooked,
    /// Digests of results as they leave, by jobs.
    released: HashMap<i64, Digest>,
    /// For the hospital's escrow.
    mappings: Vec<Mapping>,
}

/// What may leave.
enum Clean {
    Instance(Box<Released<Instance>>, Option<Mapping>),
    Json(Released<Json>),
}

impl Taking<'_, '_> {
    /// A few at once, so that few are in memory.
    fn sources(&mut self, sources: &[Source]) -> Result<(), Stop> {
        for some in sources.chunks(self.work.config.instances_at_once_max) {
            self.work.may_go_on()?;
            let (prover, decided, work) = (self.prover, self.decided, self.work);
            let looked: Vec<_> = self
                .work
                .threads
                .install(|| some.par_iter().map(|source| clean(source, prover, decided, work)).collect());
            for (source, clean) in some.iter().zip(looked) {
                match clean {
                    None => {}
                    Some(Ok(clean)) => self.keep(source, clean)?,
                    Some(Err(stays)) => {
                        let (object, reason) = (source.object.clone(), Reason::from(&stays));
                        self.looked.held.push(ToHold { object, reason });
                    }
                }
            }
        }
        Ok(())
    }

    fn keep(&mut self, source: &Source, clean: Clean) -> Result<(), Stop> {
        let content: &dyn Releasable = match &clean {
            Clean::Instance(instance, _) => &**instance,
            Clean::Json(json) => json,
        };
        let entry = Entry { kind: source.kind, format: source.format, module: source.module.as_ref(), content };
        match self.intake.put(&entry) {
            // It is of this study alone, and another try changes nothing.
            Err(batch::Failure::Configuration(why)) => return Err(Stop::Skip(why)),
            put => put?,
        }
        if source.kind == Kind::Result
            && source.format == Format::Json
            && let Some(job) = source.object.job
        {
            self.released.insert(job, Digest::of(content.bytes()));
        }
        if let Clean::Instance(_, mapping) = clean {
            self.mappings.extend(mapping);
        }
        self.looked.along.push(source.object.clone());
        Ok(())
    }
}

/// What leaves of a source, or why it stays; nothing where a person decided that it does.
fn clean(
    source: &Source,
    prover: Result<&Prover<'_>, &Stays>,
    decided: &HashMap<[u8; 32], Decided>,
    work: &Work,
) -> Option<Result<Clean, Stays>> {
    let decided = decided.get(&source.object.sha256).cloned().unwrap_or_default();
    if decided.discarded {
        return None;
    }
    let clean = || {
        let bytes = match &source.content {
            Content::File(path) => work.site.cleaners[0].by.read(path)?,
            Content::Made(bytes) => bytes.clone(),
        };
        let (prover, sha256) = (prover.map_err(Clone::clone)?, &source.object.sha256);
        Ok(match source.format {
            Format::Dicom => {
                let mapping = work.escrow.as_ref().map(|_| prover.mapping(&bytes)).transpose()?;
                Clean::Instance(Box::new(prover.instance(bytes, sha256, &decided.excuses)?), mapping)
            }
            Format::Json if Digest::of(&bytes).as_bytes() != sha256 => return Err(Stays::Unknown),
            Format::Json => Clean::Json(prover.json(&bytes, &decided.excuses)?),
        })
    };
    Some(clean())
}

fn end(state: JobState) -> Option<JobEnd> {
    match state {
        JobState::Done => Some(JobEnd::Done),
        JobState::Failed => Some(JobEnd::Failed),
        JobState::Dead => Some(JobEnd::Dead),
        JobState::Cancelled => Some(JobEnd::Cancelled),
        JobState::Skipped => Some(JobEnd::Skipped),
        JobState::Queued | JobState::Gated | JobState::Running => None,
    }
}

fn priority(urgency: Urgency) -> Priority {
    match urgency {
        Urgency::Routine => Priority::Routine,
        Urgency::Prompt => Priority::Prompt,
        Urgency::Urgent => Priority::Urgent,
        Urgency::Critical => Priority::Critical,
    }
}

fn verdicts(made: &super::sources::Made) -> impl Iterator<Item = Verdict> + '_ {
    made.reviewed.verdicts.iter().map(|row| match row.verdict {
        review::Verdict::Accepted => Verdict::Accepted,
        review::Verdict::Rejected => Verdict::Rejected,
        review::Verdict::Corrected => Verdict::Corrected,
    })
}

/// When it is looked at again what waited for so long.
fn look_again_ms(waited_ms: i64) -> i64 {
    let [first, most] = LOOK_AGAIN_MS;
    waited_ms.clamp(first, most)
}

fn hours_ms(hours: u64) -> i64 {
    i64::try_from(hours).unwrap_or(i64::MAX).saturating_mul(3_600_000)
}
