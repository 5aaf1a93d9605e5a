//! The one task that owns all open studies.

use std::collections::{BTreeSet, HashMap};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Semaphore, mpsc};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::decide::{Decision, Evidence, Geometry, OpenStudy, Pacs, Rules, decide, missing};
use super::{Archive, Closed, Commitment, Parts};
use crate::ingest::{Notice, Outcome, Via};
use crate::store::{Closing, Store, StoreError, StudyFacts, now_ms};
use crate::study::{self, ReadOptions};

/// The journal is searched this often for studies that nobody gave notice of: whoever sent them went away between the
/// commit and the notice.
const SWEEP: Duration = Duration::from_secs(60);
/// A study that is found so, or that just got more, is looked at after this: its notice may be on the way.
const SETTLE: Duration = Duration::from_millis(200);
/// After an error of the journal.
const AGAIN: Duration = Duration::from_secs(5);
/// Notices that are taken before studies are looked at.
const NOTICES_AT_ONCE: usize = 1024;
/// Studies whose headers are read at once: each uses every processor.
const LOOKS_AT_ONCE: usize = 2;

pub(super) struct Watcher {
    rules: Rules,
    open_max: usize,
    options: ReadOptions,
    archives: Arc<[Archive]>,
    data: PathBuf,
    store: Store,
    closed: mpsc::Sender<Closed>,
    tasks: TaskTracker,
    looks: Arc<Semaphore>,
    open: HashMap<String, Watched>,
    findings: (mpsc::UnboundedSender<Finding>, Option<mpsc::UnboundedReceiver<Finding>>),
}

struct Watched {
    study: OpenStudy,
    /// Instances that a storage commitment asks for.
    committed: BTreeSet<String>,
    /// When it is looked at next.
    due: Instant,
    /// Whether the journal knows more than `study.facts`.
    stale: bool,
    /// Rises with everything that comes: what was found out about an earlier revision does not hold.
    revision: u64,
}

/// What a look at the files or a PACS gave.
struct Finding {
    study: String,
    revision: u64,
    what: What,
}

enum What {
    Geometry(Geometry),
    Pacs(Option<u64>, Duration),
}

impl Watcher {
    pub(super) fn new(
        Parts { config, archives, data, store }: Parts<'_>,
        closed: mpsc::Sender<Closed>,
        tasks: TaskTracker,
    ) -> Self {
        let (sender, receiver) = mpsc::unbounded_channel();
        Self {
            rules: Rules {
                close_timer: Duration::from_millis(config.studies.close_timer_ms),
                close_without_count: config.studies.close_without_count,
            },
            open_max: config.studies.open_max,
            options: ReadOptions::new(&config.limits, false),
            archives,
            data,
            store,
            closed,
            tasks,
            looks: Arc::new(Semaphore::new(LOOKS_AT_ONCE)),
            open: HashMap::new(),
            findings: (sender, Some(receiver)),
        }
    }

    pub(super) async fn run(
        mut self,
        mut notices: mpsc::UnboundedReceiver<Notice>,
        mut commitments: mpsc::Receiver<Commitment>,
        stop: CancellationToken,
    ) {
        let mut findings = self.findings.1.take().expect("a watcher runs once");
        let mut heard = Vec::new();
        self.sweep(Instant::now()).await;
        let mut sweep = Instant::now() + SWEEP;
        loop {
            let next = self.open.values().map(|watched| watched.due).min().map_or(sweep, |due| due.min(sweep));
            tokio::select! {
                () = stop.cancelled() => return,
                count = notices.recv_many(&mut heard, NOTICES_AT_ONCE) => {
                    if count == 0 {
                        // The intake is gone: the node stops.
                        return;
                    }
                    for notice in heard.drain(..) {
                        self.notice(notice).await;
                    }
                }
                Some(commitment) = commitments.recv() => self.commitment(commitment),
                Some(finding) = findings.recv() => self.finding(finding),
                () = tokio::time::sleep_until(next) => {}
            }
            let now = Instant::now();
            if now >= sweep {
                self.sweep(now + SETTLE).await;
                sweep = now + SWEEP;
            }
            let due: Vec<String> =
                self.open.iter().filter(|(_, watched)| watched.due <= now).map(|(uid, _)| uid.clone()).collect();
            for uid in due {
                tokio::select! {
                    () = stop.cancelled() => return,
                    () = self.step(&uid) => {}
                }
            }
        }
    }

    /// Opens what the journal knows and nobody watches.
    async fn sweep(&mut self, due: Instant) {
        let found = match self.store.open_studies(self.open_max).await {
            Ok(found) => found,
            Err(e) => return tracing::error!("open studies cannot be looked for; this is tried again: {e}"),
        };
        for uid in found {
            if self.open.len() >= self.open_max {
                return;
            }
            if !self.open.contains_key(&uid) {
                let arrivals = self.store.arrivals(&uid).await.ok().flatten();
                self.open(&uid, arrivals.as_ref().map(|arrivals| arrivals.correlation.as_str()), due).await;
            }
        }
    }

    /// `correlation`: of what opens it, or of its last instance.
    async fn open(&mut self, uid: &str, correlation: Option<&str>, due: Instant) {
        match self.store.versions_of_study(uid).await.as_ref().map(|versions| versions.last().map(|v| v.version)) {
            Ok(Some(version)) => {
                tracing::info!(
                    study = uid,
                    version,
                    correlation,
                    "instances came after this version was closed: the study is open again"
                );
            }
            Ok(None) => tracing::debug!(study = uid, correlation, "a study is open"),
            Err(e) => tracing::warn!(study = uid, correlation, "its versions cannot be read: {e}"),
        }
        let study = OpenStudy {
            sending: BTreeSet::new(),
            last: Instant::now(),
            facts: StudyFacts::default(),
            committed: None,
            geometry: Geometry::Unknown,
            pacs: Pacs::None,
        };
        let watched = Watched { study, committed: BTreeSet::new(), due, stale: true, revision: 0 };
        self.open.insert(uid.to_owned(), watched);
    }

    async fn notice(&mut self, notice: Notice) {
        let now = Instant::now();
        match notice {
            // What was fetched is there for other studies' jobs, and no work.
            Notice::Instance { arrival, .. } if arrival.via == Via::Pacs => {}
            // The same bytes change nothing.
            Notice::Instance { stored, .. } if stored.outcome == Outcome::Same => {}
            Notice::Instance { stored, arrival } => {
                let uid = stored.study_instance_uid;
                if !self.open.contains_key(&uid) {
                    if self.open.len() >= self.open_max {
                        tracing::warn!(
                            study = uid,
                            correlation = arrival.correlation,
                            "more than studies.open_max = {} studies are open; it waits",
                            self.open_max
                        );
                        return;
                    }
                    self.open(&uid, Some(&arrival.correlation), now).await;
                }
                let watched = self.open.get_mut(&uid).expect("it was just opened");
                watched.study.sending.insert(arrival.correlation);
                watched.study.last = now;
                watched.study.geometry = Geometry::Unknown;
                watched.stale = true;
                watched.revision += 1;
                watched.due = now;
            }
            Notice::Ended(arrival) => {
                for watched in self.open.values_mut() {
                    if watched.study.sending.remove(&arrival.correlation) {
                        watched.due = now;
                    }
                }
            }
        }
    }

    fn commitment(&mut self, commitment: Commitment) {
        let Some(watched) = self.open.get_mut(&commitment.study) else { return };
        watched.committed.extend(commitment.instances);
        watched.stale = true;
        watched.due = Instant::now();
    }

    fn finding(&mut self, finding: Finding) {
        let Some(watched) = self.open.get_mut(&finding.study) else { return };
        let (now, current) = (Instant::now(), finding.revision == watched.revision);
        watched.due = now;
        match finding.what {
            What::Geometry(geometry) if current => watched.study.geometry = geometry,
            What::Geometry(_) => watched.study.geometry = Geometry::Unknown,
            What::Pacs(count, again) if current => watched.study.pacs = Pacs::Said(count, now + again),
            What::Pacs(..) => watched.study.pacs = Pacs::From(now),
        }
    }

    /// Does what is to be done about one study.
    async fn step(&mut self, uid: &str) {
        let result = self.advance(uid).await;
        if let Err(e) = result {
            tracing::error!(study = uid, "it cannot be closed for now; this is tried again: {e}");
            if let Some(watched) = self.open.get_mut(uid) {
                watched.due = Instant::now() + AGAIN;
            }
        }
    }

    async fn advance(&mut self, uid: &str) -> Result<(), StoreError> {
        loop {
            let now = Instant::now();
            let Some(watched) = self.open.get_mut(uid) else { return Ok(()) };
            let timer = watched.study.last + self.rules.close_timer;
            if watched.stale && (watched.study.sending.is_empty() || now >= timer) {
                let Some(facts) = self.store.study_facts(uid).await?.filter(|facts| facts.instances > 0) else {
                    self.open.remove(uid);
                    return Ok(());
                };
                watched.refresh(facts, &self.archives, now);
                if !watched.committed.is_empty() {
                    let list: Vec<String> = watched.committed.iter().cloned().collect();
                    let kept = self.store.kept_of(uid, &list).await?;
                    watched.study.committed = Some((list.len() as u64, kept));
                }
            }
            match decide(&watched.study, self.rules, now) {
                Decision::Wait(until) => {
                    watched.due = until;
                    return Ok(());
                }
                Decision::Look => {
                    watched.study.geometry = Geometry::Looking;
                    let revision = watched.revision;
                    self.look(uid, revision);
                }
                Decision::Ask => {
                    watched.study.pacs = Pacs::Asking;
                    let (revision, sources) = (watched.revision, watched.study.facts.sources.clone());
                    self.ask(uid, revision, &sources);
                }
                Decision::Close(by) => return self.close(uid, by, now).await,
            }
        }
    }

    /// Reads the headers of a study's files.
    fn look(&self, uid: &str, revision: u64) {
        let (store, looks, data, options) =
            (self.store.clone(), self.looks.clone(), self.data.clone(), self.options.clone());
        let (study, findings) = (uid.to_owned(), self.findings.0.clone());
        self.tasks.spawn(async move {
            let _turn = looks.acquire().await;
            let geometry = match store.instances_of_study(&study).await {
                Ok(rows) => {
                    let paths: Vec<PathBuf> = rows.iter().map(|row| data.join(&row.path)).collect();
                    match tokio::task::spawn_blocking(move || study::gap(&paths, &options)).await {
                        Ok(Ok(None)) => Geometry::Whole,
                        Ok(Ok(Some(gap))) => Geometry::Gap(gap),
                        Ok(Err(e)) => Geometry::Gap(e.for_record(&|_| "one of its files".into()).to_string()),
                        Err(_) => Geometry::Gap("its files could not be looked at".into()),
                    }
                }
                Err(e) => Geometry::Gap(e.to_string()),
            };
            // When the node stops, nobody listens.
            let _ = findings.send(Finding { study, revision, what: What::Geometry(geometry) });
        });
    }

    /// Asks the first PACS that keeps what these sources send.
    fn ask(&self, uid: &str, revision: u64, sources: &[String]) {
        let (archives, study, findings) = (self.archives.clone(), uid.to_owned(), self.findings.0.clone());
        let Some(index) = archives.iter().position(|archive| archive.keeps(sources)) else { return };
        self.tasks.spawn(async move {
            let archive = &archives[index];
            let count = archive.count(&study).await.unwrap_or_else(|e| {
                if archive.is_news(&e, std::time::Instant::now()) {
                    tracing::warn!(
                        study,
                        "how many instances it has is not known: {e}; told again after a minute at the earliest"
                    );
                } else {
                    tracing::debug!(study, "how many instances it has is not known: {e}");
                }
                None
            });
            let _ = findings.send(Finding { study, revision, what: What::Pacs(count, archive.ask_again()) });
        });
    }

    async fn close(&mut self, uid: &str, by: Evidence, now: Instant) -> Result<(), StoreError> {
        let Some(watched) = self.open.get_mut(uid) else { return Ok(()) };
        let timer = watched.study.last + self.rules.close_timer;
        let saved_ms = u64::try_from(timer.saturating_duration_since(now).as_millis()).unwrap_or(u64::MAX);
        let gap = if by == Evidence::Timer { missing(&watched.study) } else { String::new() };
        let facts = &watched.study.facts;
        let closing =
            Closing { study_instance_uid: uid, by: by.name(), facts, gap: &gap, saved_ms, closed_ms: now_ms() };
        let Some(version) = self.store.close_study(&closing).await? else {
            // Something came since; its notice says what.
            watched.stale = true;
            watched.due = now + SETTLE;
            return Ok(());
        };
        let (instances, correlation) = (facts.instances, facts.correlation.clone());
        let closed = Closed {
            study_instance_uid: uid.to_owned(),
            version,
            by,
            saved: Duration::from_millis(saved_ms),
            last_received_ms: facts.last_received_ms,
        };
        self.open.remove(uid);
        let by = by.name();
        if gap.is_empty() {
            tracing::info!(study = uid, version, correlation, by, instances, saved_ms, "closed");
        } else {
            tracing::warn!(study = uid, version, correlation, by, instances, gap, "closed though something is missing");
        }
        if version > 1 {
            tracing::info!(study = uid, version, correlation, "what was found in earlier versions is superseded");
        }
        // When nobody takes it, the journal has it.
        let _ = self.closed.send(closed).await;
        Ok(())
    }
}

impl Watched {
    /// Takes on what the journal knows.
    fn refresh(&mut self, facts: StudyFacts, archives: &[Archive], now: Instant) {
        self.stale = false;
        if facts != self.study.facts {
            self.revision += 1;
            self.study.geometry = Geometry::Unknown;
            self.study.pacs = match self.study.pacs {
                // The answer comes, and is about what was.
                Pacs::Asking => Pacs::Asking,
                _ if archives.iter().any(|archive| archive.keeps(&facts.sources)) => Pacs::From(now),
                _ => Pacs::None,
            };
        }
        self.study.facts = facts;
    }
}
