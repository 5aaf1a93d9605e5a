//! Deletes what the site no longer wants to keep: by age, and for space.
//!
//! ```text
//! one commit: rows go, files are noted as unneeded, the audit log says so ─▶ files go ─▶ notes go
//! ```
//!
//! A study goes with all results of its versions; results can also go before it (`retention.results_days`). Rows of jobs stay,
//! without a folder.
//!
//! What sync holds for a person's decision keeps its study for `retention.held_days`, and goes before that only where the disk
//! needs space and nothing else can go. So does what sync is yet to look at. Neither goes unsaid: their rows and the audit log tell.
//!
//! A crash between two steps leaves notes, and the next round goes on with them. Work that is not done stays whatever the disk
//! says: [`Protection`] is asked within the commit, so nothing can begin in between.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::audit::{Action, Event, NODE};
use crate::config::Config;
use crate::ingest::disk::Disk;
use crate::metrics::Metrics;
use crate::outputs::RESULT_FILE;
use crate::store::{Batch, Doomed, Store, StoreError, now_ms};

/// Candidates in memory at once.
const PAGE: u32 = 100;

const DAY_MS: i64 = 24 * 3600 * 1000;

/// What must not be deleted.
pub trait Protection: Send + Sync + 'static {
    /// Whether a study is not closed, or has a job that is not at its end; where nothing else can go, whether it must not go even then.
    fn protects(
        &self,
        batch: &mut Batch,
        study_instance_uid: &str,
        last: bool,
    ) -> impl Future<Output = Result<bool, StoreError>> + Send;

    /// Says, in the commit that deletes a study for this reason, what that means.
    fn lets_go(
        &self,
        _batch: &mut Batch,
        _study_instance_uid: &str,
        _reason: &str,
    ) -> impl Future<Output = Result<(), StoreError>> + Send {
        async { Ok(()) }
    }
}

/// What is not closed, has a job that is not at its end, or is yet to be handed to the cloud.
#[derive(Debug, Clone, Copy, Default)]
pub struct Unfinished {
    /// Whether anything is.
    pub sync: bool,
}

impl Protection for Unfinished {
    async fn protects(&self, batch: &mut Batch, study_instance_uid: &str, last: bool) -> Result<bool, StoreError> {
        Ok(batch.is_unfinished(study_instance_uid).await?
            || self.sync && batch.sync_needs(study_instance_uid, !last).await?)
    }

    async fn lets_go(&self, batch: &mut Batch, study_instance_uid: &str, reason: &str) -> Result<(), StoreError> {
        if self.sync {
            batch.sync_missed(study_instance_uid, reason).await?;
        }
        Ok(())
    }
}

/// Deletes, from time to time.
pub struct Retention<P> {
    store: Store,
    disk: Arc<dyn Disk>,
    metrics: Arc<Metrics>,
    data: PathBuf,
    protection: P,
    instances_days: Option<u64>,
    results_days: Option<u64>,
    quarantine_days: Option<u64>,
    held_days: u64,
    target_free_mib: Option<u64>,
    free_min_mib: u64,
    interval: Duration,
}

/// A round did not come to its end: the host's to mend. The next one goes on.
#[derive(Debug, thiserror::Error)]
pub enum RetentionError {
    /// The journal.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The disk.
    #[error("the data folder: {0}")]
    Disk(#[from] io::Error),
}

impl<P: Protection> Retention<P> {
    /// As the site's configuration says.
    #[must_use]
    pub fn new(
        config: &Config,
        data: PathBuf,
        store: Store,
        disk: Arc<dyn Disk>,
        metrics: Arc<Metrics>,
        protection: P,
    ) -> Self {
        Self {
            store,
            disk,
            metrics,
            data,
            protection,
            instances_days: config.retention.instances_days,
            results_days: Some(config.retention.results_days).filter(|days| *days > 0),
            quarantine_days: config.retention.quarantine_days,
            held_days: config.retention.held_days,
            target_free_mib: config.retention.disk_target_free_mib,
            free_min_mib: config.node.disk_free_min_mib,
            interval: Duration::from_millis(config.retention.interval_ms),
        }
    }

    /// Looks every `retention.interval_ms`, until the node stops.
    pub async fn run(self, stop: CancellationToken) {
        loop {
            if let Err(e) = self.round(now_ms()).await {
                tracing::error!("retention: {e}");
            }
            if tokio::time::timeout(self.interval, stop.cancelled()).await.is_ok() {
                return;
            }
        }
    }

    /// Deletes what may go at a time; says whether there is space for new instances then.
    ///
    /// # Errors
    /// The journal's or the disk's.
    pub async fn round(&self, now_ms: i64) -> Result<bool, RetentionError> {
        self.remove_files().await?;
        let before = |days: u64| now_ms.saturating_sub(i64::try_from(days).unwrap_or(i64::MAX).saturating_mul(DAY_MS));
        if let Some(days) = self.quarantine_days {
            while self.quarantine(before(days), PAGE, "retention.quarantine_days").await? {}
        }
        // Before any study: who sends what cannot be kept pushes out nothing that can.
        while self.wants_space().await? && self.quarantine(i64::MAX, 1, "retention.disk_target_free_mib").await? {}
        let held_since = before(self.held_days);
        self.studies(self.instances_days.map(before), Some(held_since)).await?;
        if let Some(days) = self.results_days {
            self.results(before(days), held_since).await?;
        }
        if self.wants_space().await? {
            self.studies(None, None).await?;
        }
        self.metrics.quarantine(self.store.quarantine_count().await?);
        self.metrics.held(self.store.held_open().await?);
        let free = self.free().await?;
        self.metrics.disk_free(free);
        Ok(free >> 20 >= self.free_min_mib)
    }

    /// The oldest first: those before a time, and as many more as the disk needs, but for those of which something was held since,
    /// or that sync is yet to look at. Where nothing else can go, these too.
    async fn studies(&self, before: Option<i64>, held_since: Option<i64>) -> Result<(), RetentionError> {
        if before.is_none() && self.target_free_mib.is_none() {
            return Ok(());
        }
        let mut last: Option<Doomed> = None;
        loop {
            let studies = self.store.oldest_studies(last.as_ref(), PAGE).await?;
            if studies.is_empty() {
                return Ok(());
            }
            for study in studies {
                let reason = match self.target_free_mib {
                    _ if before.is_some_and(|before| study.since_ms < before) => "retention.instances_days",
                    Some(_) if self.wants_space().await? => "retention.disk_target_free_mib",
                    // Younger ones have no other reason to go.
                    _ => return Ok(()),
                };
                self.delete_study(&study, reason, held_since).await?;
                last = Some(study);
            }
        }
    }

    async fn delete_study(&self, study: &Doomed, reason: &str, held_since: Option<i64>) -> Result<(), RetentionError> {
        let mut batch = self.store.begin().await?;
        if self.keeps(&mut batch, &study.uid, held_since).await? {
            return Ok(());
        }
        self.protection.lets_go(&mut batch, &study.uid, reason).await?;
        let Some(instances) = batch.delete_study(study).await? else { return Ok(()) };
        batch.held_are_gone(&study.uid, None, reason).await?;
        let results = batch.delete_results(&study.uid, None, reason).await?;
        let event = Event {
            study_instance_uid: study.uid.clone(),
            detail: format!("{instances} instances, {results} results by {reason}"),
            ..Event::new(NODE, Action::StudyDeleted)
        };
        batch.audit(&event).await?;
        batch.commit().await?;
        self.metrics.deleted("study");
        (0..results).for_each(|_| self.metrics.deleted("result"));
        tracing::info!(study = study.uid, instances, results, "deleted by {reason}");
        self.remove_files().await
    }

    async fn keeps(&self, batch: &mut Batch, study: &str, held_since: Option<i64>) -> Result<bool, StoreError> {
        if self.protection.protects(batch, study, held_since.is_none()).await? {
            return Ok(true);
        }
        match held_since {
            Some(since) => batch.is_held_since(study, since).await,
            None => Ok(false),
        }
    }

    /// Those of jobs that ended before a time, unless there is work on their study: it may need them.
    async fn results(&self, before_ms: i64, held_since: i64) -> Result<(), RetentionError> {
        let mut last: Option<Doomed> = None;
        loop {
            let jobs = self.store.results_before(before_ms, last.as_ref(), PAGE).await?;
            if jobs.is_empty() {
                return Ok(());
            }
            let mut batch = self.store.begin().await?;
            let mut results = 0;
            for job in &jobs {
                if !self.keeps(&mut batch, &job.uid, Some(held_since)).await? {
                    batch.held_are_gone(&job.uid, Some(job.id), "retention.results_days").await?;
                    results += batch.delete_results(&job.uid, Some(job.id), "retention.results_days").await?;
                }
            }
            batch.commit().await?;
            (0..results).for_each(|_| self.metrics.deleted("result"));
            self.remove_files().await?;
            last = jobs.into_iter().next_back();
        }
    }

    /// The files that were set aside first, before a time; whether there were any.
    async fn quarantine(&self, before_ms: i64, most: u32, reason: &str) -> Result<bool, RetentionError> {
        let files = self.store.quarantined_before(before_ms, most).await?;
        if files.is_empty() {
            return Ok(false);
        }
        let mut batch = self.store.begin().await?;
        for file in &files {
            batch.delete_quarantined(file).await?;
            let event = Event {
                object: file.uid.clone(),
                detail: format!("by {reason}"),
                ..Event::new(NODE, Action::QuarantineDeleted)
            };
            batch.audit(&event).await?;
        }
        batch.commit().await?;
        files.iter().for_each(|_| self.metrics.deleted("quarantine"));
        self.remove_files().await?;
        Ok(true)
    }

    /// Removes what the journal let go of. That a file is gone already is what a crash leaves.
    async fn remove_files(&self) -> Result<(), RetentionError> {
        loop {
            let files = self.store.unneeded(1000).await?;
            let Some(last) = files.last().map(|f| f.id) else { return Ok(()) };
            let (disk, data) = (self.disk.clone(), self.data.clone());
            let remove = move || {
                let mut folders = BTreeSet::new();
                for file in files {
                    let path = data.join(&file.path);
                    let is_result = std::fs::symlink_metadata(&path).is_ok_and(|found| found.is_dir());
                    let removed = if is_result { remove_result(&*disk, &path) } else { disk.remove(&path) };
                    match removed {
                        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
                        _ => folders.extend(path.ancestors().skip(1).find(|f| f.is_dir()).map(PathBuf::from)),
                    }
                }
                // Before the notes go: a file that a power cut brings back would have none.
                folders.iter().try_for_each(|folder| disk.sync_folder(folder))
            };
            tokio::task::spawn_blocking(remove).await.map_err(io::Error::other)??;
            self.store.removed(last).await?;
        }
    }

    /// Whether the disk has less than the site wants.
    async fn wants_space(&self) -> Result<bool, RetentionError> {
        match self.target_free_mib {
            Some(target) => Ok(self.free().await? >> 20 < target),
            None => Ok(false),
        }
    }

    async fn free(&self) -> Result<u64, RetentionError> {
        let (disk, data) = (self.disk.clone(), self.data.clone());
        let asked = tokio::task::spawn_blocking(move || disk.free_bytes(&data)).await;
        Ok(asked.map_err(io::Error::other)??)
    }
}

/// Removes a folder of results. The file that makes it one goes first, as when a result is replaced; the folders of its module and
/// its study go where nothing else is in them.
fn remove_result(disk: &dyn Disk, folder: &Path) -> io::Result<()> {
    match disk.remove(&folder.join(RESULT_FILE)) {
        Ok(()) => disk.sync_folder(folder)?,
        Err(e) if e.kind() == io::ErrorKind::NotFound => {}
        Err(e) => return Err(e),
    }
    disk.remove_tree(folder)?;
    // results/STUDY/MODULE/VERSION; one that is not empty stays.
    let mut above = folder.ancestors().skip(1).take(2);
    let _ = above.try_for_each(|folder| disk.remove_folder(folder));
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

    use super::*;
    use crate::config::{NodeConfig, RetentionConfig};
    use crate::ingest::disk::{DiskFile, RealDisk};

    /// Protects what has this UID.
    struct Protect(&'static str);

    impl Protection for Protect {
        async fn protects(&self, _: &mut Batch, study_instance_uid: &str, _: bool) -> Result<bool, StoreError> {
            Ok(study_instance_uid == self.0)
        }
    }

    /// Fails to remove when told, and has 100 MiB more for each file that went.
    #[derive(Default)]
    struct SmallDisk {
        broken: AtomicBool,
        removed: AtomicU64,
    }

    impl Disk for SmallDisk {
        fn create(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
            RealDisk.create(path)
        }
        fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
            RealDisk.rename(from, to)
        }
        fn sync_folder(&self, folder: &Path) -> io::Result<()> {
            RealDisk.sync_folder(folder)
        }
        fn create_folder(&self, folder: &Path) -> io::Result<()> {
            RealDisk.create_folder(folder)
        }
        fn remove(&self, path: &Path) -> io::Result<()> {
            if self.broken.load(Ordering::Relaxed) {
                return Err(io::Error::other("broken"));
            }
            self.removed.fetch_add(1, Ordering::Relaxed);
            RealDisk.remove(path)
        }
        fn remove_tree(&self, folder: &Path) -> io::Result<()> {
            RealDisk.remove_tree(folder)
        }
        fn remove_folder(&self, folder: &Path) -> io::Result<()> {
            RealDisk.remove_folder(folder)
        }
        fn free_bytes(&self, _: &Path) -> io::Result<u64> {
            Ok((100 + 100 * self.removed.load(Ordering::Relaxed)) << 20)
        }
    }

    const STUDIES: &str = "
        WITH day (n) AS (VALUES (1), (2), (3)) INSERT INTO study
            SELECT n, n, '', '', '', '', '', '', '', '', '', '', '', NULL, NULL, n * 86400000, n * 86400000 FROM day;
        INSERT INTO series SELECT id, id, 's', '', '', '', '', '', '', '', '', NULL FROM study;
        INSERT INTO instance
            SELECT id, id, 'i' || id, '', '', '', 1, 1, 1, 1, id, 1, zeroblob(32), id, 'dimse', '', '' FROM series;
        INSERT INTO quarantine VALUES (1, '', '', '', 'q', 1, zeroblob(32), 86400000, 'dimse', '', '');
    ";

    /// A job on each study that was done when the study came.
    const JOBS: &str = "
        INSERT INTO study_version SELECT id, id, 1, 1, 'stated', 1, last_received_ms, '', 0 FROM study;
        INSERT INTO routed SELECT study_instance_uid, 1, 1, 'jobs', '', 1 FROM study;
        INSERT INTO job (id, study_instance_uid, study_version, module, module_identity, state, priority, created_ms,
            ended_ms, result_path, correlation) SELECT id, study_instance_uid, 1, 'm', zeroblob(32), 'done', 0, 1,
            last_received_ms, 'results/' || id || '/m/v1', '' FROM study;
    ";

    struct Site<P> {
        folder: tempfile::TempDir,
        disk: Arc<SmallDisk>,
        retention: Retention<P>,
    }

    impl Site<Protect> {
        /// The first study is protected.
        async fn new(retention: RetentionConfig) -> Self {
            Self::protecting(retention, Protect("1")).await
        }
    }

    impl<P: Protection> Site<P> {
        /// Studies 1, 2 and 3 of one instance, received on days 1, 2 and 3. A file was set aside on day 1.
        async fn protecting(retention: RetentionConfig, protection: P) -> Self {
            let folder = tempfile::tempdir().expect("a folder");
            let store = Store::open(folder.path()).await.expect("a journal");
            store.tamper(STUDIES).await;
            for name in ["1", "2", "3", "q"] {
                std::fs::write(folder.path().join(name), name).expect("written");
            }
            let disk = Arc::new(SmallDisk::default());
            let node = NodeConfig { disk_free_min_mib: 150, ..NodeConfig::default() };
            let config = Config { node, retention, ..Config::default() };
            let metrics = Metrics::new();
            let data = folder.path().to_owned();
            let retention = Retention::new(&config, data, store, disk.clone(), metrics, protection);
            Self { folder, disk, retention }
        }

        /// Each study has a result.
        async fn with_results(self) -> Self {
            self.retention.store.tamper(JOBS).await;
            for study in ["1", "2", "3"] {
                let folder = self.folder.path().join("results").join(study).join("m/v1");
                std::fs::create_dir_all(&folder).expect("made");
                for name in [RESULT_FILE, "segmentation.dcm"] {
                    std::fs::write(folder.join(name), name).expect("written");
                }
            }
            self
        }

        /// Which studies have folders of results.
        fn results(&self) -> String {
            let there = |study: &&str| self.folder.path().join("results").join(study).exists();
            ["1", "2", "3"].into_iter().filter(there).collect()
        }

        /// Action and study of the audit log's rows.
        async fn told(&self) -> Vec<(String, String)> {
            let told = self.retention.store.audit_latest(None, 10).await.expect("a log");
            told.into_iter().map(|row| (row.action, row.study_instance_uid)).collect()
        }

        /// Which files are there.
        fn files(&self) -> String {
            ["1", "2", "3", "q"].into_iter().filter(|name| self.folder.path().join(name).exists()).collect()
        }

        async fn round(&self, day: i64) -> Result<bool, RetentionError> {
            self.retention.round(day * DAY_MS).await
        }
    }

    #[tokio::test]
    async fn what_is_old_goes_unless_there_is_work_on_it() {
        let settings =
            RetentionConfig { instances_days: Some(2), quarantine_days: Some(1), ..RetentionConfig::default() };
        let site = Site::new(settings).await;
        assert!(!site.round(2).await.expect("a round"), "less than node.disk_free_min_mib");
        assert_eq!(site.files(), "123q");
        assert!(site.round(5).await.expect("a round"));
        assert_eq!(site.files(), "13");
        assert_eq!(site.told().await, [own("quarantine-deleted", ""), own("study-deleted", "2")]);
    }

    fn own(action: &str, study: &str) -> (String, String) {
        (action.to_owned(), study.to_owned())
    }

    #[tokio::test]
    async fn results_go_by_their_age_and_with_their_study() {
        let by_age = RetentionConfig { results_days: 1, ..RetentionConfig::default() };
        let site = Site::new(by_age).await.with_results().await;
        site.round(3).await.expect("a round");
        assert_eq!(site.results(), "123", "of a study that is protected");
        site.round(4).await.expect("a round");
        assert_eq!((site.results().as_str(), site.files().as_str()), ("13", "123q"));
        assert_eq!(site.told().await, [own("result-deleted", "2")]);
        let job = site.retention.store.job(2).await.expect("the journal").expect("the job stays");
        assert_eq!((job.state, job.result_path), (crate::store::JobState::Done, None));

        let with_study = RetentionConfig { instances_days: Some(2), ..RetentionConfig::default() };
        let site = Site::new(with_study).await.with_results().await;
        site.round(5).await.expect("a round");
        assert_eq!((site.results().as_str(), site.files().as_str()), ("13", "13q"));
        assert_eq!(site.told().await, [own("result-deleted", "2"), own("study-deleted", "2")]);
    }

    #[tokio::test]
    async fn work_on_a_study_keeps_its_results_and_its_images() {
        let settings = RetentionConfig { results_days: 1, instances_days: Some(1), ..RetentionConfig::default() };
        let site = Site::protecting(settings, Unfinished::default()).await.with_results().await;
        site.retention
            .store
            .tamper(
                "WITH work (study, state) AS (VALUES ('1', 'queued'), ('2', 'gated'), ('3', 'running'))
                 INSERT INTO job (study_instance_uid, study_version, module, module_identity, state, priority,
                 created_ms, correlation) SELECT study, 1, 'other', zeroblob(32), state, 0, 1, '' FROM work",
            )
            .await;
        site.round(100).await.expect("a round");
        assert_eq!((site.results().as_str(), site.files().as_str()), ("123", "123q"));
        site.retention.store.tamper("UPDATE job SET state = 'dead' WHERE state <> 'done'").await;
        site.round(100).await.expect("a round");
        assert_eq!((site.results().as_str(), site.files().as_str()), ("", "q"));
    }

    #[tokio::test]
    async fn what_is_yet_to_be_handed_to_the_cloud_stays() {
        for (sync, left) in [(true, "123q"), (false, "q")] {
            let settings = RetentionConfig { instances_days: Some(1), ..RetentionConfig::default() };
            let site = Site::protecting(settings, Unfinished { sync }).await.with_results().await;
            site.round(100).await.expect("a round");
            assert_eq!(site.files(), left);
        }
    }

    /// A bucket that cannot be had must not stop the images that come.
    #[tokio::test]
    async fn for_space_what_waits_for_the_cloud_goes_when_nothing_else_can_and_not_unsaid() {
        let settings = RetentionConfig { disk_target_free_mib: Some(300), ..RetentionConfig::default() };
        let site = Site::protecting(settings, Unfinished { sync: true }).await.with_results().await;
        site.retention
            .store
            .tamper(
                "INSERT INTO sync_part (study_instance_uid, study_version, change, state, record, at_ms)
                 VALUES ('1', 1, 1, 'taking', 'r', 1)",
            )
            .await;
        assert!(site.round(5).await.expect("a round"));
        assert_eq!(site.files(), "13", "study 1 is being taken in");
        let parts = site.retention.store.sync_parts(Some("2"), 10).await.expect("parts");
        let [part] = &parts[..] else { panic!("{parts:?}") };
        assert_eq!(part.state, "skipped");
        assert!(part.reason.contains("retention.disk_target_free_mib"), "{}", part.reason);
        assert!(site.told().await.contains(&own("sync-study-missed", "2")));
    }

    /// The wall clock of a host can jump by years: what came last may say an earlier time than what came before.
    #[tokio::test]
    async fn a_clock_that_jumps_back_keeps_no_study_for_ever() {
        let settings = RetentionConfig { instances_days: Some(2), ..RetentionConfig::default() };
        let site = Site::protecting(settings, Unfinished::default()).await.with_results().await;
        site.retention
            .store
            .tamper(
                "UPDATE study_version SET last_received_ms = 4000000000000;
                 INSERT INTO study_version SELECT id + 3, id, 2, 1, 'stated', 1, last_received_ms, '', 0 FROM study",
            )
            .await;
        site.round(5).await.expect("a round");
        assert_eq!(site.files(), "3q");
    }

    /// Jobs and results are named by versions, and both outlive what they are of.
    #[tokio::test]
    async fn a_study_that_comes_again_after_it_was_deleted_is_a_later_version() {
        let settings = RetentionConfig { instances_days: Some(2), ..RetentionConfig::default() };
        let site = Site::new(settings).await.with_results().await;
        site.round(5).await.expect("a round");
        let store = &site.retention.store;
        assert!(store.study_facts("2").await.expect("the journal").is_none());
        store
            .tamper(
                "INSERT INTO study SELECT 2, 2, '', '', '', '', '', '', '', '', '', '', '', NULL, NULL, 7, 7;
                 INSERT INTO series SELECT 2, 2, 's', '', '', '', '', '', '', '', '', NULL;
                 INSERT INTO instance SELECT 2, 2, 'i2', '', '', '', 1, 1, 1, 1, '2', 1, zeroblob(32), 7, 'dimse', '', ''",
            )
            .await;
        let facts = store.study_facts("2").await.expect("the journal").expect("there");
        let closing = crate::store::Closing {
            study_instance_uid: "2",
            by: "stated",
            facts: &facts,
            gap: "",
            saved_ms: 0,
            closed_ms: 8,
        };
        assert_eq!(store.close_study(&closing).await.expect("closed"), Some(2));
    }

    #[tokio::test]
    async fn for_space_the_oldest_goes_and_no_more_than_is_needed() {
        // What was set aside goes before any study.
        for (target, left) in [(200, "123"), (300, "13")] {
            let settings = RetentionConfig { disk_target_free_mib: Some(target), ..RetentionConfig::default() };
            let site = Site::new(settings).await;
            assert!(site.round(3).await.expect("a round"));
            assert_eq!(site.files(), left);
        }
    }

    /// Holds something of studies 2 and 3, on day 4 by the clock of the journal.
    const HELD: &str = "INSERT INTO sync_quarantine (study_instance_uid, kind, series_instance_uid, sop_instance_uid, job, sha256,
        profile_sha256, reason, detail, excuses, held_ms, state, state_ms)
        SELECT id, 'instance', 's', 'i' || id, 0, zeroblob(32), zeroblob(32), 'burned-in', '', '[\"no-text-seen\"]', 4 * 86400000,
        iif(id = 2, 'held', 'discarded'), 4 * 86400000 FROM study WHERE id > 1";

    /// What each held object has become.
    async fn held(site: &Site<Protect>) -> Vec<(String, &'static str)> {
        let rows = site.retention.store.held(Default::default(), 10, 0).await.expect("rows");
        rows.into_iter().map(|row| (row.study_instance_uid, row.state.name())).collect()
    }

    #[tokio::test]
    async fn what_is_held_stays_for_its_days_and_never_goes_unsaid() {
        let settings = RetentionConfig { instances_days: Some(1), held_days: 10, ..RetentionConfig::default() };
        let site = Site::new(settings).await;
        site.retention.store.tamper(HELD).await;
        site.round(14).await.expect("a round");
        assert_eq!(site.files(), "12q", "what was discarded keeps nothing");
        site.round(15).await.expect("a round");
        assert_eq!(site.files(), "1q");
        assert_eq!(held(&site).await, [("3".to_owned(), "discarded"), ("2".to_owned(), "gone")]);
        let told = site.told().await;
        assert_eq!(told, [own("study-deleted", "3"), own("objects-gone", "2"), own("study-deleted", "2")]);
    }

    #[tokio::test]
    async fn results_stay_with_what_is_held_of_their_study() {
        let settings = RetentionConfig { results_days: 1, held_days: 10, ..RetentionConfig::default() };
        let site = Site::new(settings).await.with_results().await;
        site.retention.store.tamper(HELD).await;
        site.round(14).await.expect("a round");
        assert_eq!(site.results(), "12");
        site.round(15).await.expect("a round");
        assert_eq!(site.results(), "1");
        assert_eq!(held(&site).await.pop(), Some(("2".to_owned(), "held")), "of an image, which is there");
    }

    #[tokio::test]
    async fn for_space_what_is_held_goes_when_nothing_else_can() {
        // Three files can go before it: what was set aside, and two studies.
        for (target, left) in [(300, "12"), (400, "1")] {
            let settings = RetentionConfig { disk_target_free_mib: Some(target), ..RetentionConfig::default() };
            let site = Site::new(settings).await;
            site.retention.store.tamper(HELD).await;
            site.round(5).await.expect("a round");
            assert_eq!(site.files(), left);
        }
    }

    #[tokio::test]
    async fn a_removal_that_was_cut_short_is_finished() {
        let settings = RetentionConfig { instances_days: Some(2), ..RetentionConfig::default() };
        let site = Site::new(settings).await;
        site.disk.broken.store(true, Ordering::Relaxed);
        site.round(5).await.expect_err("the disk is broken");
        assert_eq!(site.files(), "123q");
        site.disk.broken.store(false, Ordering::Relaxed);
        site.round(5).await.expect("a round");
        assert_eq!(site.files(), "13q");
        assert_eq!(site.retention.store.unneeded(1).await.expect("notes"), []);
    }

    #[tokio::test]
    async fn results_that_were_half_removed_are_removed_to_the_end() {
        let settings = RetentionConfig { results_days: 1, ..RetentionConfig::default() };
        let site = Site::new(settings).await.with_results().await;
        site.disk.broken.store(true, Ordering::Relaxed);
        site.round(4).await.expect_err("the disk is broken");
        // As a process leaves it that is killed between the two.
        std::fs::remove_file(site.folder.path().join("results/2/m/v1").join(RESULT_FILE)).expect("removed");
        site.disk.broken.store(false, Ordering::Relaxed);
        site.round(4).await.expect("a round");
        assert_eq!(site.results(), "13");
        assert_eq!(site.retention.store.unneeded(1).await.expect("notes"), []);
    }
}
