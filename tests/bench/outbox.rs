//! What a result waits for once its job is done: alone, and beside thousands of others for a destination that is gone.
//!
//! The queues run in this process, on a journal on the disk that is measured; no module runs. What is measured is from the call that
//! makes a job done to the moment at which its journal says that the destination has the result.

use std::net::TcpListener;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use dicom_dictionary_std::uids;
use gantry::config::{Config, Release};
use gantry::deliver;
use gantry::findings::Urgency;
use gantry::ingest::disk::RealDisk;
use gantry::ingest::{Arrival, Form, Intake, Via};
use gantry::metrics::Metrics;
use gantry::outputs::{OutputKind, RESULT_FILE, SEGMENTATION_FILE, Transaction};
use gantry::store::{DeliveryState, Due, Ending, NewJob, Routed, Store};
use gantry::study::ReadOptions;
use gantry_tests::orthanc::Orthanc;
use serde_json::json;
use sha2::{Digest, Sha256};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::organs::{Extent, Found, labels};
use crate::report::{Report, median};
use crate::seg::SLICES;
use crate::sender::Sender;
use crate::study;
use crate::synthetic::Image;

/// Of the small CT.
const STUDY: &str = "2.25.2";
const PATIENCE: Duration = Duration::from_secs(60);

/// Measures the way to a folder, alone and beside `waiting` results for a destination that is gone.
pub(crate) fn beside(below: &Path, results: usize, waiting: usize, report: &mut Report) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(of_folder(below, results, waiting, report))
}

/// Measures the way to Orthanc, beside what Orthanc itself takes.
pub(crate) fn to_orthanc(below: &Path, results: usize, report: &mut Report) -> Result<()> {
    let Some(orthanc) = Orthanc::start_in(below) else {
        report.skip("the way to Orthanc: it is not installed");
        return Ok(());
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(of_orthanc(below, &orthanc, results, report))
}

/// A folder alone, and beside a destination at which nobody listens and for which results wait.
async fn of_folder(below: &Path, results: usize, waiting: usize, report: &mut Report) -> Result<()> {
    let share = tempfile::tempdir_in(below)?;
    let gone = TcpListener::bind(("127.0.0.1", 0))?.local_addr()?;
    let text = format!(
        "[[destinations]]\nname = \"share\"\nfolder = {{ path = {:?} }}\n\
         [[destinations]]\nname = \"gone\"\ndimse = {{ address = \"{gone}\", ae_title = \"GONE\" }}\n",
        share.path()
    );
    let bench = Bench::new(below, &text, waiting + 2 * results).await?;
    let result = bench.keep("one", |transaction| {
        transaction.bytes(SEGMENTATION_FILE, OutputKind::Segmentation, &bench.slice).map(drop)
    })?;
    let way = async || {
        let mut all = Vec::new();
        for _ in 0..results {
            all.push(bench.way("share", &result).await?);
        }
        Ok::<_, anyhow::Error>(median(&all))
    };
    let alone = way().await?;
    for _ in 0..waiting {
        bench.done(&result, "gone").await?;
    }
    let open = bench.store.open_deliveries().await?;
    let open = open.iter().filter(|count| count.destination == "gone").map(|count| count.count).sum::<u64>();
    ensure!(open == waiting as u64, "{open} wait");
    let beside = way().await?;
    bench.stop().await;
    let note = format!("medians of {results} results of one object to a folder: {alone:.1} and {beside:.1} ms");
    let name = format!("a result's way beside {waiting} for a destination that is gone ÷ alone");
    report.wanted(&name, beside / alone, "", (1.1, None), note);
    Ok(())
}

/// SEGs of three organs, one by one, in turn with a sender that has them in memory and does nothing else.
async fn of_orthanc(below: &Path, orthanc: &Orthanc, results: usize, report: &mut Report) -> Result<()> {
    let text = format!(
        "[[destinations]]\nname = \"pacs\"\ndimse = {{ address = {:?}, ae_title = \"ORTHANC\" }}\n",
        orthanc.dicom()
    );
    let found = found(below)?;
    let bench = Bench::new(below, &text, results).await?;
    let (mut ways, mut own, mut plain, mut megabytes) = (Vec::new(), Vec::new(), Vec::new(), 0.0);
    for number in 0..u32::try_from(results)? {
        // What it has already it would take faster.
        let (ours, theirs) = (found.seg(2 * number)?, found.seg(2 * number + 1)?);
        let kept = bench.keep(&format!("{number}"), |transaction| {
            transaction.dicom(SEGMENTATION_FILE, OutputKind::Segmentation, &ours).map(drop)
        })?;
        ways.push(bench.way("pacs", &kept).await?);
        let uid = theirs.meta().media_storage_sop_instance_uid().trim_end_matches('\0').to_owned();
        let mut image = Image { class: uids::SEGMENTATION_STORAGE, uid, data_set: Vec::new() };
        theirs.write_dataset(&mut image.data_set)?;
        megabytes = image.data_set.len() as f64 / 1e6;
        let begun = Instant::now();
        let mut sender = Sender::associate(orthanc.dicom().parse()?, "ORTHANC", &[image.class])?;
        own.push(sender.store(&image)?.as_secs_f64() * 1e3);
        plain.push(begun.elapsed().as_secs_f64() * 1e3);
        sender.release()?;
    }
    bench.stop().await;
    ensure!(orthanc.instances()? == 2 * results as u64, "Orthanc keeps {} instances", orthanc.instances()?);
    let (way, own, plain) = (median(&ways), median(&own), median(&plain));
    let note = format!("median of {results} SEGs of {megabytes:.1} MB, from the end of a job to `sent` in the journal");
    report.told("finding → in Orthanc by C-STORE", way, "ms", note);
    report.told("  a plain sender, association and C-STORE", plain, "ms", "the same objects with other UIDs, in turn");
    report.told("  of that Orthanc's own", own, "ms", "from the last byte of the C-STORE request to the response");
    let note = "release of the association and the journal's commit included";
    report.wanted("finding → in Orthanc, beyond Orthanc's own", way - own, "ms", (200.0, None), note);
    Ok(())
}

fn found(below: &Path) -> Result<Found> {
    let study = gantry::study::read(&[study::repeated(below, SLICES)?], &ReadOptions::default())?;
    let grid = &study.series.first().and_then(|series| series.volumes.first()).context("a volume")?.geometry;
    let labels = labels(grid, Extent::OfABody)?;
    Found::new(study, labels)
}

/// A journal with one study, which has the results, and queues that run on it.
struct Bench {
    store: Store,
    /// A file of the study.
    slice: Vec<u8>,
    stop: CancellationToken,
    tasks: TaskTracker,
    folder: tempfile::TempDir,
}

/// A result as it lies in the data folder.
struct Kept {
    path: String,
    sha256: [u8; 32],
}

impl Bench {
    async fn new(below: &Path, text: &str, jobs: usize) -> Result<Self> {
        let folder = tempfile::tempdir_in(below)?;
        let data = folder.path().join("data");
        std::fs::create_dir(&data)?;
        let mut config: Config = toml::from_str(text)?;
        config.node.data_folder = Some(data.clone());
        config.node.disk_free_min_mib = 0;
        let (store, metrics) = (Store::open(&data).await?, Metrics::new());
        let slice = take_in(&config, &data, &store, folder.path()).await?;
        let (stop, tasks) = (CancellationToken::new(), TaskTracker::new());
        route(&store, jobs).await?;
        let parts = deliver::Parts { config: &config, store: store.clone(), data, metrics };
        deliver::start(&parts, &stop, &tasks)?;
        Ok(Self { store, slice, stop, tasks, folder })
    }

    /// Writes a result as a job does.
    fn keep(
        &self,
        name: &str,
        write: impl FnOnce(&mut Transaction) -> Result<(), gantry::outputs::WriteError>,
    ) -> Result<Kept> {
        let path = format!("results/{name}");
        let mut transaction = Transaction::begin(&self.folder.path().join("data").join(&path))?;
        write(&mut transaction)?;
        let result = json!({ "schema": "gantry.result/1", "outputs": transaction.written() }).to_string();
        transaction.bytes(RESULT_FILE, OutputKind::Result, result.as_bytes())?;
        transaction.commit()?;
        Ok(Kept { path, sha256: Sha256::digest(result).into() })
    }

    /// Makes the next job done, with a result that goes to this destination.
    async fn done(&self, result: &Kept, destination: &str) -> Result<i64> {
        let job = self.store.claim(Due::now(0), Urgency::Routine).await?.context("a job")?;
        self.end(job.id, result, destination).await
    }

    async fn end(&self, job: i64, result: &Kept, destination: &str) -> Result<i64> {
        let ending = Ending::Done(gantry::store::Done {
            result_path: result.path.clone(),
            result_sha256: result.sha256,
            found: Vec::new(),
            raise: Urgency::Routine,
            unfit: false,
            fallbacks: Vec::new(),
            deliver: vec![destination.to_owned()],
            release: Release::AtOnce,
            triage: Vec::new(),
            report: None,
        });
        self.store.end_job(job, &ending).await?;
        Ok(job)
    }

    /// The time from the end of a job to a destination that has its result, ms.
    async fn way(&self, destination: &str, result: &Kept) -> Result<f64> {
        let job = self.store.claim(Due::now(0), Urgency::Routine).await?.context("a job")?.id;
        let start = Instant::now();
        self.end(job, result, destination).await?;
        loop {
            let latest = self.store.deliveries(None, Some(destination), None, 1).await?;
            if latest.first().is_some_and(|row| row.job == job && row.state == DeliveryState::Sent) {
                return Ok(start.elapsed().as_secs_f64() * 1e3);
            }
            ensure!(start.elapsed() < PATIENCE, "not sent: {latest:?}");
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    async fn stop(self) {
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
        self.store.close().await;
    }
}

/// Takes in the small CT, so that there is a study; one of its files.
async fn take_in(config: &Config, data: &Path, store: &Store, below: &Path) -> Result<Vec<u8>> {
    let study = below.join("study");
    std::fs::create_dir(&study)?;
    gantry_tests::write_ct(&study)?;
    let (disk, metrics) = (Arc::new(RealDisk), Metrics::new());
    let (intake, _notices) = Intake::start(config, data.to_owned(), store.clone(), disk, metrics)?;
    let arrival = Arrival::new(Via::Folder, "CT1");
    for file in std::fs::read_dir(&study)? {
        let mut incoming = intake.begin(&arrival, Form::File)?;
        incoming.write(&std::fs::read(file?.path())?).await?;
        incoming.finish().await?;
    }
    Ok(std::fs::read(study.join("0.dcm"))?)
}

/// So many jobs on the study, each of a module of its own.
async fn route(store: &Store, jobs: usize) -> Result<()> {
    let routed = Routed {
        study_instance_uid: STUDY.into(),
        study_version: 1,
        routed_ms: 1,
        outcome: "jobs".into(),
        detail: String::new(),
        last_instance: i64::MAX,
    };
    let new = |number| NewJob {
        module: format!("module-{number}"),
        identity: [1; 32],
        gated: false,
        priority: Urgency::Routine,
    };
    let jobs: Vec<NewJob> = (0..jobs).map(new).collect();
    ensure!(store.route(&routed, "bench", &jobs).await?, "routed once");
    Ok(())
}
