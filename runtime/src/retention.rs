//! Deletes what the site no longer wants to keep: by age, and for space.
//!
//! ```text
//! one commit: rows go, files are noted as unneeded, the audit log says so ─▶ files go ─▶ notes go
//! ```
//!
//! A crash between two steps leaves notes, and the next round goes on with them. Work that is not done, and results that are not
//! delivered, stay whatever the disk says: [`Protection`] is asked within the commit, so nothing can begin in between.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::audit::{Action, Event, NODE};
use crate::config::Config;
use crate::ingest::disk::Disk;
use crate::metrics::Metrics;
use crate::store::{Batch, Doomed, Store, StoreError, now_ms};

/// Candidates in memory at once.
const PAGE: u32 = 100;

const DAY_MS: i64 = 24 * 3600 * 1000;

/// What must not be deleted.
pub trait Protection: Send + Sync + 'static {
    /// Whether a study is not closed, has a job that is not at its end, or a result that is not delivered.
    fn protects(
        &self,
        batch: &mut Batch,
        study_instance_uid: &str,
    ) -> impl Future<Output = Result<bool, StoreError>> + Send;
}

/// What is not closed, or has a job that is not at its end.
#[derive(Debug, Clone, Copy)]
pub struct Unfinished;

impl Protection for Unfinished {
    async fn protects(&self, batch: &mut Batch, study_instance_uid: &str) -> Result<bool, StoreError> {
        batch.is_unfinished(study_instance_uid).await
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
    quarantine_days: Option<u64>,
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
    Disk(#[from] std::io::Error),
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
            quarantine_days: config.retention.quarantine_days,
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
            self.quarantine(before(days)).await?;
        }
        self.studies(self.instances_days.map(before)).await?;
        self.metrics.quarantine(self.store.quarantine_count().await?);
        let free = self.free().await?;
        self.metrics.disk_free(free);
        Ok(free >> 20 >= self.free_min_mib)
    }

    /// The oldest first: those before a time, and as many more as the disk needs.
    async fn studies(&self, before: Option<i64>) -> Result<(), RetentionError> {
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
                    _ if before.is_some_and(|before| study.received_ms < before) => "retention.instances_days",
                    Some(target) if self.free().await? >> 20 < target => "retention.disk_target_free_mib",
                    // Younger ones have no other reason to go.
                    _ => return Ok(()),
                };
                self.delete_study(&study, reason).await?;
                last = Some(study);
            }
        }
    }

    async fn delete_study(&self, study: &Doomed, reason: &str) -> Result<(), RetentionError> {
        let mut batch = self.store.begin().await?;
        if self.protection.protects(&mut batch, &study.uid).await? {
            return Ok(());
        }
        let Some(instances) = batch.delete_study(study).await? else { return Ok(()) };
        let event = Event {
            study_instance_uid: study.uid.clone(),
            detail: format!("{instances} instances by {reason}"),
            ..Event::new(NODE, Action::StudyDeleted)
        };
        batch.audit(&event).await?;
        batch.commit().await?;
        self.metrics.deleted("study");
        tracing::info!(study = study.uid, instances, "deleted by {reason}");
        self.remove_files().await
    }

    async fn quarantine(&self, before_ms: i64) -> Result<(), RetentionError> {
        loop {
            let files = self.store.quarantined_before(before_ms, PAGE).await?;
            if files.is_empty() {
                return Ok(());
            }
            let mut batch = self.store.begin().await?;
            for file in &files {
                batch.delete_quarantined(file).await?;
                let event = Event {
                    object: file.uid.clone(),
                    detail: "by retention.quarantine_days".into(),
                    ..Event::new(NODE, Action::QuarantineDeleted)
                };
                batch.audit(&event).await?;
            }
            batch.commit().await?;
            files.iter().for_each(|_| self.metrics.deleted("quarantine"));
            self.remove_files().await?;
        }
    }

    /// Removes what the journal let go of. That a file is gone already is what a crash leaves.
    async fn remove_files(&self) -> Result<(), RetentionError> {
        loop {
            let files = self.store.unneeded(1000).await?;
            let Some(last) = files.last().map(|f| f.id) else { return Ok(()) };
            let (disk, data) = (self.disk.clone(), self.data.clone());
            let remove = move || {
                let mut folders = std::collections::BTreeSet::new();
                for file in files {
                    let path = data.join(&file.path);
                    match disk.remove(&path) {
                        Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(e),
                        _ => folders.extend(path.parent().filter(|f| f.is_dir()).map(PathBuf::from)),
                    }
                }
                // Before the notes go: a file that a power cut brings back would have none.
                folders.iter().try_for_each(|folder| disk.sync_folder(folder))
            };
            tokio::task::spawn_blocking(remove).await.map_err(std::io::Error::other)??;
            self.store.removed(last).await?;
        }
    }

    async fn free(&self) -> Result<u64, RetentionError> {
        let (disk, data) = (self.disk.clone(), self.data.clone());
        let asked = tokio::task::spawn_blocking(move || disk.free_bytes(&data)).await;
        Ok(asked.map_err(std::io::Error::other)??)
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::path::Path;
    use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

    use super::*;
    use crate::config::{NodeConfig, RetentionConfig};
    use crate::ingest::disk::{DiskFile, RealDisk};

    /// Protects what has this UID.
    struct Protect(&'static str);

    impl Protection for Protect {
        async fn protects(&self, _: &mut Batch, study_instance_uid: &str) -> Result<bool, StoreError> {
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

    struct Site {
        folder: tempfile::TempDir,
        disk: Arc<SmallDisk>,
        retention: Retention<Protect>,
    }

    impl Site {
        /// Studies 1, 2 and 3 of one instance, received on days 1, 2 and 3; 1 is protected. A file was set aside on day 1.
        async fn new(retention: RetentionConfig) -> Self {
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
            let retention = Retention::new(&config, data, store, disk.clone(), metrics, Protect("1"));
            Self { folder, disk, retention }
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
        let told = site.retention.store.audit_latest(None, 10).await.expect("a log");
        let told: Vec<_> = told.iter().map(|row| (row.action.as_str(), row.study_instance_uid.as_str())).collect();
        assert_eq!(told, [("quarantine-deleted", ""), ("study-deleted", "2")]);
    }

    #[tokio::test]
    async fn for_space_the_oldest_goes_and_no_more_than_is_needed() {
        let settings = RetentionConfig { disk_target_free_mib: Some(200), ..RetentionConfig::default() };
        let site = Site::new(settings).await;
        assert!(site.round(3).await.expect("a round"));
        assert_eq!(site.files(), "13q");
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
}
