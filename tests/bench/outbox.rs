//! What a result waits for once its job is done: alone, and beside thousands of others for a destination that is gone.
//!
//! The queues run in this process, on a journal on the disk that is measured; no module runs. What is measured is from the call that
//! makes a job done to the moment at which its journal says that the destination has the result.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use gantry::config::{Config, Release};
use gantry::deliver;
use gantry::findings::Urgency;
use gantry::ingest::disk::RealDisk;
use gantry::ingest::{Arrival, Form, Intake, Via};
use gantry::metrics::Metrics;
use gantry::store::{DeliveryState, Due, Ending, NewJob, Routed, Store};
use gantry_tests::orthanc::Orthanc;
use serde_json::json;
use sha2::{Digest, Sha256};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::Built;
use crate::report::{Report, median};

/// Of the small CT.
const STUDY: &str = "2.25.2";
/// Below the data folder.
const RESULT: &str = "results/one";
const PATIENCE: Duration = Duration::from_secs(60);

/// How much to measure.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Results that wait for the destination that is gone.
    #[arg(long, default_value_t = 10_000)]
    waiting: usize,
    /// Results whose way is measured, alone and beside those.
    #[arg(long, default_value_t = 60)]
    results: usize,
    #[command(flatten)]
    pub(crate) built: Built,
}

/// Measures.
pub(crate) fn measure(below: &Path, options: &Options, report: &mut Report) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(of_folder(below, options, report))?;
    match Orthanc::start_in(below) {
        Some(orthanc) => runtime.block_on(of_orthanc(below, &orthanc, options, report)),
        None => {
            report.skip("the way to Orthanc: it is not installed");
            Ok(())
        }
    }
}

/// A folder alone, and beside a destination at which nobody listens and for which results wait.
async fn of_folder(below: &Path, options: &Options, report: &mut Report) -> Result<()> {
    let share = tempfile::tempdir_in(below)?;
    let gone = TcpListener::bind(("127.0.0.1", 0))?.local_addr()?;
    let text = format!(
        "[[destinations]]\nname = \"share\"\nfolder = {{ path = {:?} }}\n\
         [[destinations]]\nname = \"gone\"\ndimse = {{ address = \"{gone}\", ae_title = \"GONE\" }}\n",
        share.path()
    );
    let bench = Bench::new(below, &text, options).await?;
    let alone = bench.way("share", options.results).await?;
    for _ in 0..options.waiting {
        bench.done(&["gone"]).await?;
    }
    let waiting = bench.store.open_deliveries().await?;
    let waiting = waiting.iter().filter(|count| count.destination == "gone").map(|count| count.count).sum::<u64>();
    ensure!(waiting == options.waiting as u64, "{waiting} wait");
    let beside = bench.way("share", options.results).await?;
    bench.stop().await;
    let note = format!("medians of {} results to a folder: {alone:.1} and {beside:.1} ms", options.results);
    report.wanted(
        &format!("a result's way beside {} for a destination that is gone ÷ alone", options.waiting),
        beside / alone,
        "",
        (1.1, None),
        note,
    );
    Ok(())
}

/// To Orthanc, on its own.
async fn of_orthanc(below: &Path, orthanc: &Orthanc, options: &Options, report: &mut Report) -> Result<()> {
    let text = format!(
        "[[destinations]]\nname = \"pacs\"\ndimse = {{ address = {:?}, ae_title = \"ORTHANC\" }}\n",
        orthanc.dicom()
    );
    let bench = Bench::new(below, &text, options).await?;
    let median = bench.way("pacs", options.results).await?;
    bench.stop().await;
    let note = format!("median of {} results of one CT slice, from the end of a job to `sent`", options.results);
    report.told("a result's way to Orthanc by C-STORE", median, "ms", note);
    Ok(())
}

/// A journal with one study, whose results are all the same slice, and queues that run on it.
struct Bench {
    store: Store,
    sha256: [u8; 32],
    stop: CancellationToken,
    tasks: TaskTracker,
    _folder: tempfile::TempDir,
}

impl Bench {
    async fn new(below: &Path, text: &str, options: &Options) -> Result<Self> {
        let folder = tempfile::tempdir_in(below)?;
        let data = folder.path().join("data");
        std::fs::create_dir(&data)?;
        let mut config: Config = toml::from_str(text)?;
        config.node.data_folder = Some(data.clone());
        config.node.disk_free_min_mib = 0;
        let (store, metrics) = (Store::open(&data).await?, Metrics::new());
        let slice = take_in(&config, &data, &store, folder.path()).await?;
        let sha256 = result(&data, &slice)?;
        let (stop, tasks) = (CancellationToken::new(), TaskTracker::new());
        route(&store, options.waiting + 2 * options.results).await?;
        let parts = deliver::Parts { config: &config, store: store.clone(), data, metrics };
        deliver::start(&parts, &stop, &tasks)?;
        Ok(Self { store, sha256, stop, tasks, _folder: folder })
    }

    /// Makes the next job done, whose result goes to these.
    async fn done(&self, destinations: &[&str]) -> Result<i64> {
        let job = self.store.claim(Due::now(0), Urgency::Routine).await?.context("a job")?;
        let ending = Ending::Done(gantry::store::Done {
            result_path: RESULT.into(),
            result_sha256: self.sha256,
            found: Vec::new(),
            raise: Urgency::Routine,
            unfit: false,
            fallbacks: Vec::new(),
            deliver: destinations.iter().map(|&name| name.to_owned()).collect(),
            release: Release::AtOnce,
            triage: Vec::new(),
            report: None,
        });
        self.store.end_job(job.id, &ending).await?;
        Ok(job.id)
    }

    /// The median time from the end of a job to a destination that has its result, ms, one after the other.
    async fn way(&self, destination: &str, results: usize) -> Result<f64> {
        let mut milliseconds = Vec::new();
        for _ in 0..results {
            let start = Instant::now();
            let job = self.done(&[destination]).await?;
            loop {
                let latest = self.store.deliveries(None, Some(destination), None, 1).await?;
                if latest.first().is_some_and(|row| row.job == job && row.state == DeliveryState::Sent) {
                    break;
                }
                ensure!(start.elapsed() < PATIENCE, "not sent: {latest:?}");
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            milliseconds.push(start.elapsed().as_secs_f64() * 1e3);
        }
        Ok(median(&milliseconds))
    }

    async fn stop(self) {
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
        self.store.close().await;
    }
}

/// Takes in the small CT, so that there is a study; one of its files.
async fn take_in(config: &Config, data: &Path, store: &Store, below: &Path) -> Result<PathBuf> {
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
    Ok(study.join("0.dcm"))
}

/// Writes the result that all jobs share: one object. The digest of `result.json`.
fn result(data: &Path, slice: &Path) -> Result<[u8; 32]> {
    let folder = data.join(RESULT);
    std::fs::create_dir_all(&folder)?;
    let bytes = std::fs::read(slice)?;
    std::fs::write(folder.join("segmentation.dcm"), &bytes)?;
    let output = json!({
        "file": "segmentation.dcm", "kind": "segmentation", "sop_class_uid": "1.2.840.10008.5.1.4.1.1.2",
        "sop_instance_uid": "2.25.10", "series_instance_uid": "2.25.3",
        "sha256": gantry::hex(&Sha256::digest(&bytes)), "bytes": bytes.len(),
    });
    let result = json!({ "schema": "gantry.result/1", "outputs": [output] }).to_string();
    std::fs::write(folder.join("result.json"), &result)?;
    Ok(Sha256::digest(result).into())
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
