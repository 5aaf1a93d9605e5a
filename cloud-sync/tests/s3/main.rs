//! Batches into the buckets of real servers, while everything goes wrong that does.
//!
//! A server takes seconds to start, so there is one test for each, of all scenarios, each in a bucket of its own.

mod catalog;
#[expect(unreachable_pub, dead_code, reason = "it is public, and whole, elsewhere")]
#[path = "../../../tests/src/certificates.rs"]
mod certificates;
mod crash;
mod faults;
mod limits;
mod plain;
mod proxy;
mod reach;
#[expect(unreachable_pub, dead_code, reason = "it is public, and whole, elsewhere")]
#[path = "../../../tests/src/s3.rs"]
mod s3_server;
mod servers;
mod spooled;
mod told;

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use gantry_cloud_sync::s3::{Check, Event, Report, Uploader};

use s3_server::S3Server;
use servers::{Bucket, Server};
use spooled::{SITE, Spooled, noise};

/// So that one that hangs is told by its name. Most take seconds.
const SCENARIO_MAX: Duration = Duration::from_secs(150);

/// Runs scenarios one after another, also after one that fails, and says which did.
macro_rules! run {
    ($server:expr, $($scenario:path),+ $(,)?) => {{
        let mut failed = Vec::new();
        $(
            let server = Arc::clone(&$server);
            let scenario = tokio::spawn(async move {
                tokio::time::timeout(SCENARIO_MAX, $scenario(&server)).await.expect("it comes to an end")
            });
            if scenario.await.is_err() {
                failed.push(stringify!($scenario));
            }
        )+
        failed
    }};
}

#[tokio::test(flavor = "multi_thread")]
async fn radosgw() {
    let Some(server) = S3Server::radosgw().map(Server).map(Arc::new) else { return };
    let mut failed = every_scenario(&server).await;
    failed.extend(run!(
        server,
        told::what_only_our_key_reads_nobody_else_reads,
        limits::an_object_takes_no_more_memory_than_it_may,
    ));
    assert_eq!(failed, [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn moto() {
    let Some(server) = S3Server::moto().map(Server).map(Arc::new) else { return };
    let mut failed = every_scenario(&server).await;
    failed.extend(run!(
        server,
        faults::a_bit_that_flips_on_its_way_is_noticed_by_reading_back,
        faults::a_complete_that_conflicts_is_resolved,
        reach::credentials_come_from_where_the_chain_finds_them,
    ));
    assert_eq!(failed, [""; 0]);
}

async fn every_scenario(server: &Arc<Server>) -> Vec<&'static str> {
    run!(
        server,
        plain::a_batch_is_there_whole_once_and_reads_back,
        plain::what_lies_there_already_is_looked_at,
        plain::what_is_missing_or_damaged_is_found_and_repaired,
        limits::the_line_is_not_used_beyond_its_limit,
        told::what_the_server_is_told_to_do_it_does,
        told::what_the_server_is_told_about_encryption_it_does_or_refuses,
        reach::tls_by_an_authority_of_ones_own_through_a_proxy_that_asks_for_a_password,
        reach::a_bucket_may_be_in_the_host_name,
        faults::each_ends_with_the_batch_in_the_bucket,
        faults::an_answer_with_other_bytes_than_were_asked_for_is_not_taken,
        faults::credentials_that_expire_are_read_again,
        faults::an_outage_costs_only_time,
        faults::a_server_that_asks_for_time_gets_it,
        faults::what_time_does_not_cure_ends_with_a_reason,
        crash::killed_anywhere_it_goes_on,
        catalog::other_engines_read_what_went_in,
        catalog::who_is_withdrawn_late_is_in_no_manifest_and_no_row,
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
        Self::of(server, name, Spooled::new(objects)).await
    }

    async fn of(server: &Server, name: &str, spooled: Spooled) -> Self {
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
        let nobody = HashSet::new();
        uploader.verify(&mut self.spooled.open(), &[], &nobody, check, self.told()).await.expect("a check")
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

/// Where peers lie, for `s3_server`.
fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the crate lies in the repository")
}

/// Says why a test is skipped; in CI, where nothing may be missing, fails it.
fn skipped(why: &str) {
    let ci = std::env::var("CI").is_ok_and(|value| !["", "0", "false"].contains(&value.as_str()));
    assert!(!ci, "{why}");
    eprintln!("skipped: {why}");
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
