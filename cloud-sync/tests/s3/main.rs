//! Batches into the buckets of real servers, while everything goes wrong that does.
//!
//! A server takes seconds to start, so there is one test for each, of all scenarios, each in a bucket of its own.

mod catalog;
mod crash;
mod faults;
mod plain;
mod proxy;
mod servers;
mod spooled;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use gantry_cloud_sync::s3::{Check, Event, Report, Uploader};

use servers::{Bucket, Server};
use spooled::{SITE, Spooled, noise};

/// Runs scenarios one after another, also after one that fails, and says which did.
macro_rules! run {
    ($server:expr, $($scenario:path),+ $(,)?) => {{
        let mut failed = Vec::new();
        $(
            let server = Arc::clone(&$server);
            if tokio::spawn(async move { $scenario(&server).await }).await.is_err() {
                failed.push(stringify!($scenario));
            }
        )+
        failed
    }};
}

#[tokio::test(flavor = "multi_thread")]
async fn radosgw() {
    let Some(server) = Server::radosgw().map(Arc::new) else { return };
    let mut failed = every_scenario(&server).await;
    failed.extend(run!(server, plain::what_the_server_is_told_to_do_it_does));
    assert_eq!(failed, [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn moto() {
    let Some(server) = Server::moto().map(Arc::new) else { return };
    let mut failed = every_scenario(&server).await;
    failed.extend(run!(
        server,
        faults::a_bit_that_flips_on_its_way_is_noticed_by_reading_back,
        faults::a_complete_that_conflicts_is_resolved,
    ));
    assert_eq!(failed, [""; 0]);
}

async fn every_scenario(server: &Arc<Server>) -> Vec<&'static str> {
    run!(
        server,
        plain::a_batch_is_there_whole_once_and_reads_back,
        plain::what_lies_there_already_is_looked_at,
        plain::what_is_missing_or_damaged_is_found_and_repaired,
        plain::the_line_is_not_used_beyond_its_limit,
        faults::each_ends_with_the_batch_in_the_bucket,
        faults::credentials_that_expire_are_read_again,
        faults::an_outage_costs_only_time,
        faults::what_time_does_not_cure_ends_with_a_reason,
        crash::killed_anywhere_it_goes_on,
        catalog::other_engines_read_what_went_in,
    )
}

/// A bucket, a spool with one batch, and credentials.
struct Scene {
    bucket: Bucket,
    spooled: Spooled,
    credentials: PathBuf,
    events: Arc<Mutex<Vec<Event>>>,
}

impl Scene {
    /// With a batch of three small objects and a large one of three parts.
    async fn new(server: &Server, name: &str) -> Self {
        let seed = name.bytes().fold(7, |seed: u64, byte| seed.wrapping_mul(31) + u64::from(byte));
        let objects = [1, 1000, 70_000, 11 * 1024 * 1024 + 5].into_iter();
        let objects = objects.zip(seed..).map(|(bytes, seed)| noise(seed, bytes)).collect();
        Self::with(server, name, objects).await
    }

    async fn with(server: &Server, name: &str, objects: Vec<Vec<u8>>) -> Self {
        let spooled = Spooled::new(objects);
        let credentials = spooled.folder.path().join("credentials");
        fs::write(&credentials, server.credentials()).expect("credentials");
        Self { bucket: server.bucket(name, false).await, spooled, credentials, events: Arc::default() }
    }

    async fn uploader(&self, server: &Server, url: &str) -> Uploader {
        connect(server, &self.bucket.name, url, &self.credentials, |_| {}).await
    }

    /// To be told what happens.
    fn told(&self) -> impl Fn(&Event) + Clone + Send + Sync + 'static {
        let events = Arc::clone(&self.events);
        move |event| events.lock().expect("a lock").push(event.clone())
    }

    fn events(&self) -> Vec<Event> {
        self.events.lock().expect("a lock").clone()
    }

    async fn upload(
        &self,
        uploader: &Uploader,
    ) -> Result<gantry_cloud_sync::s3::Uploaded, gantry_cloud_sync::s3::Failure> {
        let spool = self.spooled.open();
        let batch = spool.batch(self.spooled.batch.parse().expect("an ID")).expect("a batch");
        uploader.upload(&batch, self.told()).await
    }

    async fn verify(&self, uploader: &Uploader, repair: bool) -> Report {
        let check = Check { read: true, repair };
        uploader.verify(&mut self.spooled.open(), &[], check, self.told()).await.expect("a check")
    }

    /// Each object is there, once, as it was; the manifest too; and no upload that nobody will complete.
    async fn assert_whole(&self, what: &str) {
        assert_eq!(self.bucket.keys().await, self.spooled.keys(), "{what}: keys of the bucket");
        for object in &self.spooled.objects {
            assert!(
                self.bucket.get(&Spooled::key(object)).await == *object,
                "{what}: an object of {} bytes",
                object.len()
            );
        }
        assert_eq!(self.bucket.unfinished().await, 0, "{what}: multipart uploads");
    }
}

async fn connect(
    server: &Server,
    bucket: &str,
    url: &str,
    credentials: &Path,
    change: impl FnOnce(&mut gantry_cloud_sync::s3::Config),
) -> Uploader {
    let mut config = server.config(bucket, url, credentials);
    change(&mut config);
    Uploader::connect(config, &SITE.parse().expect("a name")).await.expect("an uploader")
}
