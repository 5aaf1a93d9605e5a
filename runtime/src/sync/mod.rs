//! `gantry sync`: what may leave the hospital goes to the cloud, in a process of its own beside the node.
//!
//! ```text
//!  journal ─▶ study: gather, decide, clean, prove ─▶ spool ─▶ seal ─▶ upload ─▶ gate ─▶ bucket
//!                     (study.rs)      └─▶ quarantine            (upload.rs)  (gate.rs)
//! ```
//!
//! Read `study.rs` first: it is the path of one study. Here is the loop around it: what is due is taken in one by one, while
//! at most one batch is on its way. Everything that was done is in the journal and in the spool, so that the process can be
//! killed anywhere. The machine is the node's: this process has what it leaves (`child.rs`), and does nothing while urgent jobs
//! run or wait.

mod child;
mod documents;
mod gate;
mod site;
mod sources;
mod study;
mod turn;
mod upload;

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime};

use chrono::Local;
use gantry_cloud_sync::batch::{self, Batch, Id, Spool};
use gantry_cloud_sync::policy::{Ledger, OptOut};
use gantry_cloud_sync::s3::{Failure, Uploaded, Uploader};
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;

pub use self::child::{Child, step_back};
pub use self::gate::Gate;
pub use self::site::{Site, SiteError};
pub use self::study::{Came, StudyError};
pub use self::turn::{TakeError, take_spool};

use self::study::Work;
use self::turn::Turn;
use self::upload::Upload;
use crate::config::Config;
use crate::store::{Due, Store, StoreError, SyncDue, now_ms};

/// What a study that waits is told to wait at most.
const WAIT_MAX_MS: u64 = 366 * 24 * 3_600_000;

/// A spool that is full is asked again after so long: to look through it takes a while.
const FULL_FOR: Duration = Duration::from_secs(60);

/// What it takes.
pub struct Parts {
    /// What the site chose.
    pub site: Site,
    /// The node's.
    pub config: Config,
    /// The journal, which others use meanwhile.
    pub store: Store,
    /// The node's data folder.
    pub data: PathBuf,
    /// Whether the node runs, and has the machine first.
    pub beside_node: bool,
}

/// For how long it runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Until everything that can be handed on now is.
    Once {
        /// Also what a batch would wait for others for.
        now: bool,
    },
    /// Until it is stopped.
    Follow,
}

/// What happens, for whoever shows it.
#[derive(Debug)]
pub enum Event<'e> {
    /// A study was looked at.
    Study(&'e SyncDue, &'e Came),
    /// A batch was made.
    Sealed(Id),
    /// A batch is on its way.
    Sending(Id),
    /// A batch is in the bucket, whole.
    Sent(&'e Uploaded),
    /// Why nothing moves now.
    Halted(&'e str),
}

/// What came of a run.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Summary {
    /// Studies that were taken.
    pub taken: u64,
    /// Objects of those, and of others, that are held.
    pub objects_held: u64,
    /// Studies that stay by the policy.
    pub skipped: u64,
    /// Batches that are in the bucket.
    pub sent: u64,
    /// Why something waits.
    pub halted: Option<String>,
    /// It is not that it is not time yet: somebody has to do something.
    pub failed: bool,
}

/// It cannot go on: the operator's or the host's to mend.
#[derive(Debug, thiserror::Error)]
pub enum SyncError {
    /// The policy, or what it names.
    #[error(transparent)]
    Site(#[from] SiteError),
    /// The journal.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The spool.
    #[error(transparent)]
    Spool(#[from] batch::Failure),
    /// The bucket's settings.
    #[error(transparent)]
    Bucket(#[from] Failure),
    /// One study.
    #[error(transparent)]
    Study(#[from] StudyError),
    /// What the journal keeps.
    #[error("the journal's ledger is not what this version wrote: {0}")]
    Ledger(serde_json::Error),
    /// Threads.
    #[error("threads for instances: {0}")]
    Threads(#[from] rayon::ThreadPoolBuildError),
}

/// Hands on what is due, until the mode says that it is enough or somebody stops it.
///
/// # Errors
/// [`SyncError`]. Nothing is lost by any.
pub async fn run(
    parts: Parts,
    mode: Mode,
    stop: CancellationToken,
    on: &(dyn Fn(&Event<'_>) + Sync),
) -> Result<Summary, SyncError> {
    let Parts { site, config: Config { sync: config, .. }, store, data, beside_node } = parts;
    let site = Arc::new(site);
    let threads = rayon::ThreadPoolBuilder::new().num_threads(config.instances_at_once_max).start_handler(move |n| {
        if beside_node
            && let Err(e) = crate::trusted_code::take_what_is_left()
            && n == 0
        {
            tracing::warn!(
                "sync: the host refuses sched_setscheduler or ioprio_set, so that the node's work may be slowed: {e}"
            );
        }
    });
    let threads = threads.build()?;
    let gate = Arc::new(Gate::patient(site.clone(), store.clone()).await?);
    let through = gate.clone();
    let uploader = Uploader::connect_through(through, site.policy.s3.clone(), &site.policy.site).await?;
    let escrow = site.escrow()?;
    let (leave, runtime) = (AtomicBool::new(false), Handle::current());
    let work = Arc::new(Work { site, config, store, data, stop, leave, escrow, threads, runtime });
    let turn = Turn::new(&work.config.spool(&work.data))?;
    let mut run = Run {
        work,
        uploader: Arc::new(uploader),
        gate,
        turn,
        opted_out: None,
        on,
        spool: None,
        upload: None,
        not_before: None,
        full_until: None,
        told: None,
        summary: Summary::default(),
    };
    let done = run.go(mode).await;
    run.break_off().await?;
    run.work.store.sync_doing("").await?;
    done.map(|()| run.summary)
}

/// What can be done next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Next {
    /// A study was looked at, and more may wait.
    Took,
    /// None waits.
    Nothing,
    /// Not now.
    Later,
    /// Somebody wants something else than what was begun.
    Left,
}

struct Run<'r> {
    work: Arc<Work>,
    uploader: Arc<Uploader>,
    gate: Arc<Gate>,
    turn: Turn,
    /// On which nobody is of whom something is in the spool.
    opted_out: Option<Arc<OptOut>>,
    on: &'r (dyn Fn(&Event<'_>) + Sync),
    spool: Option<Spool>,
    upload: Option<Upload>,
    /// After a failure.
    not_before: Option<Instant>,
    /// The spool took nothing more in, and is not asked again before.
    full_until: Option<Instant>,
    /// Why nothing moves, as the journal was told.
    told: Option<String>,
    summary: Summary,
}

impl Run<'_> {
    async fn go(&mut self, mode: Mode) -> Result<(), SyncError> {
        let poll = Duration::from_millis(self.work.config.poll_ms);
        while !self.work.stop.is_cancelled() {
            let state = self.work.store.sync_state().await?;
            if state.paused_ms.is_some() {
                self.break_off().await?;
                self.spool = None;
                let reason = if state.paused_reason.is_empty() { "" } else { ": " };
                self.halt(&format!("paused by {}{reason}{}", state.paused_by, state.paused_reason), false).await?;
                if mode != Mode::Follow {
                    return Ok(());
                }
                self.sleep(poll).await;
                continue;
            }
            if self.turn.is_wanted() {
                self.break_off().await?;
                self.spool = None;
                self.halt("another command has the spool", false).await?;
                self.sleep(poll).await;
                continue;
            }
            if !self.open(mode).await? {
                self.sleep(poll).await;
                continue;
            }
            self.look_after_upload().await?;
            let next = self.take_one().await?;
            if next == Next::Left {
                continue;
            }
            self.take_back().await?;
            self.withdraw().await?;
            self.seal(mode, next)?;
            let waits = self.send().await?;
            if next == Next::Took {
                continue;
            }
            if self.upload.is_none() && next == Next::Nothing {
                if mode != Mode::Follow {
                    return Ok(());
                }
                if !waits {
                    self.go_on("").await?;
                }
            }
            self.sleep(poll).await;
        }
        Ok(())
    }

    async fn sleep(&self, time: Duration) {
        tokio::select! {
            () = tokio::time::sleep(time) => {}
            () = self.work.stop.cancelled() => {}
        }
    }

    /// Takes the spool, and brings journal and spool together after whatever ended the process before; whether it could be had.
    async fn open(&mut self, mode: Mode) -> Result<bool, SyncError> {
        if self.spool.is_some() {
            return Ok(true);
        }
        let (site, folder) = (self.work.site.clone(), self.work.config.spool(&self.work.data));
        let key = site.signing_key()?;
        let opened = crate::ingest::blocking(move || {
            Spool::open(&folder, site.policy.batch.clone(), site.policy.site.clone(), key)
        });
        let spool = match opened.await {
            Err(e @ batch::Failure::InUse(_)) if mode == Mode::Follow => {
                self.halt(&e.to_string(), true).await?;
                return Ok(false);
            }
            spool => spool?,
        };
        reconcile(&self.work.store, &spool).await?;
        self.gate.reopen().await?;
        (self.spool, self.opted_out) = (Some(spool), None);
        self.prune()?;
        Ok(true)
    }

    /// Forgets what was sent long enough ago, which may make room. Only of what the journal was told.
    fn prune(&mut self) -> Result<(), SyncError> {
        let Some(spool) = &mut self.spool else { return Ok(()) };
        if spool.prune(SystemTime::now())? > 0 {
            self.full_until = None;
        }
        Ok(())
    }

    /// Takes in the study that stands there longest.
    async fn take_one(&mut self) -> Result<Next, SyncError> {
        if self.work.store.urgent_work(Due::now(0)).await? {
            self.halt("urgent jobs have the machine", false).await?;
            return Ok(Next::Later);
        }
        if let Some(until) = self.full_until {
            if until > Instant::now() {
                return Ok(Next::Nothing);
            }
            self.full_until = None;
            self.prune()?;
        }
        let Some(due) = self.work.store.sync_due(Due::now(WAIT_MAX_MS), 1).await?.pop() else {
            return Ok(Next::Nothing);
        };
        let Some(mut spool) = self.spool.take() else { return Ok(Next::Nothing) };
        let (work, of) = (self.work.clone(), due.clone());
        work.leave.store(false, Ordering::Relaxed);
        let handed = crate::ingest::blocking(move || {
            let came = work.hand_in(&mut spool, &of);
            (spool, came)
        });
        let (spool, came) = self.beside(handed).await?;
        let came = match came {
            Err(StudyError::Spool(full @ batch::Failure::Full { .. })) => {
                // What it kept of this study is swept when it is opened again.
                drop(spool);
                self.full_until = Some(Instant::now() + FULL_FOR);
                self.halt(&full.to_string(), true).await?;
                return Ok(Next::Later);
            }
            came => came?,
        };
        self.spool = Some(spool);
        match &came {
            Came::Taken(taken) => {
                self.summary.taken += 1;
                self.summary.objects_held += taken.objects_held;
            }
            Came::Held(objects) => self.summary.objects_held += *objects as u64,
            Came::Skipped(_) => self.summary.skipped += 1,
            Came::Waits(_) => {}
            Came::Stopped => return Ok(Next::Left),
        }
        (self.on)(&Event::Study(&due, &came));
        Ok(Next::Took)
    }

    /// Waits for a study, which can take hours, and looks meanwhile after what is on its way and whether somebody wants something else.
    async fn beside<T>(&mut self, handed: impl Future<Output = T>) -> Result<T, SyncError> {
        let poll = Duration::from_millis(self.work.config.poll_ms);
        let mut goes_on = Ok(true);
        tokio::pin!(handed);
        loop {
            tokio::select! {
                handed = &mut handed => return goes_on.map(|_| handed),
                () = tokio::time::sleep(poll), if matches!(goes_on, Ok(true)) => {
                    goes_on = self.goes_on().await;
                    if !matches!(goes_on, Ok(true)) {
                        self.work.leave.store(true, Ordering::Relaxed);
                    }
                }
            }
        }
    }

    /// Whether a study may be taken in further.
    async fn goes_on(&mut self) -> Result<bool, SyncError> {
        if self.work.store.sync_state().await?.paused_ms.is_some() || self.turn.is_wanted() {
            self.break_off().await?;
            return Ok(false);
        }
        self.look_after_upload().await?;
        Ok(true)
    }

    /// What somebody discarded leaves the spool, unless its batch is sealed: the rest of its study is looked at again.
    async fn take_back(&mut self) -> Result<(), SyncError> {
        let Some(spool) = &mut self.spool else { return Ok(()) };
        for part in self.work.store.sync_discarded().await? {
            let taken_back = part.record.parse().ok().map(|record| spool.take_back(record)).transpose()?;
            if taken_back == Some(true) {
                self.work.store.sync_again(&part).await?;
            }
        }
        Ok(())
    }

    /// Of patients who opted out since nothing stays in the spool, and nothing of a batch that waits or is on its way: what else is in
    /// it is sealed again, and takes the place of what is in the bucket of it.
    async fn withdraw(&mut self) -> Result<(), SyncError> {
        let Some(list) = self.work.site.opt_out()? else { return Ok(()) };
        if self.spool.is_none() || self.opted_out.as_ref().is_some_and(|seen| Arc::ptr_eq(seen, &list)) {
            return Ok(());
        }
        let Some(spool) = &self.spool else { return Ok(()) };
        let mut gone = Vec::new();
        for part in self.work.store.sync_open().await? {
            let record = part.record.parse().ok().filter(|_| part.spooled && list.has(&part.patient));
            let Some(record) = record else { continue };
            gone.push((part, record, spool.batch_of(record)?));
        }
        if self.upload.as_ref().is_some_and(|upload| gone.iter().any(|(_, _, batch)| *batch == Some(upload.batch))) {
            self.break_off().await?;
        }
        let Some(spool) = &mut self.spool else { return Ok(()) };
        for (part, record, batch) in &gone {
            // From the spool first: what the journal still has there after a crash is looked at anew, and then stays.
            if spool.withdraw(*record)? {
                let why = "its patient opted out after it was taken in";
                self.work.store.sync_withdraw(part, why, batch.is_some()).await?;
            }
        }
        self.opted_out = Some(list);
        if gone.is_empty() { Ok(()) } else { self.go_on("").await }
    }

    fn seal(&mut self, mode: Mode, next: Next) -> Result<(), SyncError> {
        let Some(spool) = &mut self.spool else { return Ok(()) };
        let sealed = match mode {
            Mode::Once { now: true } if next == Next::Nothing => spool.seal_all(SystemTime::now())?,
            _ => spool.seal_due(SystemTime::now())?,
        };
        sealed.into_iter().for_each(|id| (self.on)(&Event::Sealed(id)));
        Ok(())
    }

    /// Begins with the batch that waits longest, if it may leave; whether one waits for something else than time.
    async fn send(&mut self) -> Result<bool, SyncError> {
        let Some(spool) = &self.spool else { return Ok(true) };
        let Some(&id) = spool.sealed()?.first() else { return Ok(false) };
        if self.upload.is_some() {
            return Ok(false);
        }
        if self.not_before.is_some_and(|at| at > Instant::now()) {
            return Ok(true);
        }
        let batch = spool.batch(id)?;
        if let Some(why) = self.not_now() {
            self.halt(&why, false).await?;
            return Ok(true);
        }
        self.gate.of(self.patients(&records(&batch)).await?);
        self.upload = Some(Upload::start(&self.uploader, batch));
        self.go_on(&format!("sends batch {id}")).await?;
        (self.on)(&Event::Sending(id));
        Ok(false)
    }

    /// Whose these records are.
    async fn patients(&self, records: &[String]) -> Result<Vec<String>, SyncError> {
        let records: HashSet<&String> = records.iter().collect();
        let parts = self.work.store.sync_open().await?.into_iter();
        Ok(parts.filter(|part| records.contains(&part.record)).map(|part| part.patient).collect())
    }

    /// Why no batch may leave now, by the policy.
    fn not_now(&self) -> Option<String> {
        let (window, now) = (&self.work.site.policy.window, Local::now());
        (!window.is_open(&now))
            .then(|| format!("the window of the policy opens at {}", window.opens(&now).format("%Y-%m-%d %H:%M")))
    }

    /// Ends what is over, and breaks off what the window closes on.
    async fn look_after_upload(&mut self) -> Result<(), SyncError> {
        let Some(upload) = &mut self.upload else { return Ok(()) };
        let (id, trouble) = (upload.batch, self.gate.waits().or_else(|| upload.trouble()));
        if !upload.is_over() {
            match trouble {
                Some(trouble) => self.halt(&trouble, false).await?,
                None => self.go_on(&format!("sends batch {id}")).await?,
            }
            if self.not_now().is_some() {
                self.break_off().await?;
            }
            return Ok(());
        }
        // What ended is for the spool to know, which may be with a study.
        if self.spool.is_none() {
            return Ok(());
        }
        let ended = upload.end().await;
        self.upload = None;
        self.gate.settle().await?;
        match ended {
            Ok(uploaded) => self.sent(id, &uploaded).await,
            Err(failure) => {
                self.not_before = Some(Instant::now() + Duration::from_secs(self.work.site.policy.s3.outage_pause_s));
                self.halt(&failure.to_string(), true).await
            }
        }
    }

    /// The journal is told before the spool may forget.
    async fn sent(&mut self, id: Id, uploaded: &Uploaded) -> Result<(), SyncError> {
        let Some(spool) = &mut self.spool else { return Ok(()) };
        spool.finish(id, SystemTime::now())?;
        let records = records(&spool.batch(id)?);
        self.work.store.sync_sent(&id.to_string(), &records, now_ms()).await?;
        self.prune()?;
        self.go_on("").await?;
        // Nobody is told of one out of which all were taken.
        if uploaded.objects > 0 {
            self.summary.sent += 1;
            (self.on)(&Event::Sent(uploaded));
        }
        Ok(())
    }

    async fn break_off(&mut self) -> Result<(), SyncError> {
        let Some(upload) = self.upload.take() else { return Ok(()) };
        let id = upload.batch;
        let ended = upload.abort().await;
        self.gate.settle().await?;
        match ended {
            // It was whole in the bucket before, and is no batch any more that waits. With the spool away the next upload finds it there.
            Some(uploaded) if self.spool.is_some() => self.sent(id, &uploaded).await,
            _ => Ok(()),
        }
    }

    async fn halt(&mut self, why: &str, failed: bool) -> Result<(), SyncError> {
        self.summary.halted = Some(why.into());
        self.summary.failed = failed;
        if self.told.as_deref() != Some(why) {
            tracing::info!("sync: {why}");
            (self.on)(&Event::Halted(why));
            self.tell(why).await?;
        }
        Ok(())
    }

    async fn go_on(&mut self, doing: &str) -> Result<(), SyncError> {
        self.summary.halted = None;
        self.summary.failed = false;
        self.not_before = None;
        self.tell(doing).await
    }

    async fn tell(&mut self, what: &str) -> Result<(), SyncError> {
        if self.told.as_deref() != Some(what) {
            self.work.store.sync_doing(what).await?;
            self.told = Some(what.into());
        }
        Ok(())
    }
}

/// What left in the last day, for the limits of the policy.
///
/// # Errors
/// [`SyncError::Store`], [`SyncError::Ledger`].
pub async fn ledger(store: &Store) -> Result<Ledger, SyncError> {
    match store.sync_ledger().await?.as_str() {
        "" => Ok(Ledger::default()),
        kept => serde_json::from_str(kept).map_err(SyncError::Ledger),
    }
}

fn records(batch: &Batch) -> Vec<String> {
    batch.manifest().studies.iter().map(|study| study.record.to_string()).collect()
}

/// What the journal began and did not see the end of. It is asked before the spool forgets anything.
async fn reconcile(store: &Store, spool: &Spool) -> Result<(), SyncError> {
    let sent = spool.sent()?;
    let mut batches = HashMap::new();
    for id in spool.sealed()?.into_iter().chain(sent.iter().copied()) {
        batches.extend(records(&spool.batch(id)?).into_iter().map(|record| (record, id)));
    }
    for part in store.sync_open().await? {
        let batch = batches.get(&part.record);
        let is_there = batch.is_some() || part.record.parse().is_ok_and(|record| spool.has_record(record));
        if !is_there {
            // Never finished, or lost with the spool: the study is looked at anew.
            store.sync_again(&part).await?;
            continue;
        }
        if !part.spooled {
            store.sync_spooled(part.id).await?;
        }
        if let Some(id) = batch.filter(|id| sent.contains(id)) {
            store.sync_sent(&id.to_string(), &[part.record], now_ms()).await?;
        }
    }
    Ok(())
}
