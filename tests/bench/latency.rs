//! From the last acknowledgement of a complete study to the first instruction of the module.

use std::path::Path;
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, Result, bail, ensure};
use gantry::store::{Changed, Job, Store};
use gantry_tests::node::{NODE_TITLE, Node};
use gantry_tests::repository;

use crate::report::{Report, median};
use crate::sender::Sender;
use crate::synthetic::{Kind, Study};

/// What a study may take to be analysed, or a job to be cancelled.
const PATIENCE: Duration = Duration::from_secs(120);
/// Nobody is told when a job starts but its journal.
const POLL: Duration = Duration::from_millis(20);

/// Sends studies, one after the other, to a node that runs ct-organs on them, and reports.
pub(crate) fn measure(below: &Path, gantry: &Path, slices: usize, studies: usize, report: &mut Report) -> Result<()> {
    let package = repository().join("modules/ct-organs/package");
    if studies == 0 {
        return Ok(());
    }
    if !package.is_dir() {
        report.skip(format!("time to the module: {} is missing: run `cargo xtask guests`", package.display()));
        return Ok(());
    }
    let cache = below.join("gantry");
    let config = format!("[cache]\nfolder = {cache:?}\n[[modules]]\npackage = {package:?}\n");
    let node = Node::of(gantry, below, &config)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let store = runtime.block_on(Store::open(&node.data()))?;
    let mut milliseconds = Vec::new();
    for number in 1..=studies as u64 {
        let study = Study { kind: Kind::Ct, number, images: slices };
        let acknowledged_ms = send(&node, &study)?;
        let job = runtime.block_on(started(&store, &study.uid()))?;
        let started_ms = job.started_ms.context("a job that started")?;
        milliseconds.push((started_ms - acknowledged_ms) as f64);
        runtime.block_on(ended(&store, job.id))?;
    }
    runtime.block_on(store.close());
    let all = milliseconds.iter().map(|ms| format!("{ms:.0}")).collect::<Vec<_>>().join(" ");
    let note = format!("{studies} complete studies of {slices} slices, each job cancelled then: {all}");
    report.wanted("last acknowledgement to the module", median(&milliseconds), "ms", (250.0, None), note);
    Ok(())
}

/// When the last instance was acknowledged, milliseconds since 1970.
fn send(node: &Node, study: &Study) -> Result<i64> {
    let images = (0..study.images).map(|index| study.image(index)).collect::<Result<Vec<_>>>()?;
    let mut sender = Sender::associate(node.dimse, NODE_TITLE, &[study.kind.class()])?;
    images.iter().try_for_each(|image| sender.store(image).map(drop))?;
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?;
    sender.release()?;
    Ok(i64::try_from(now.as_millis())?)
}

/// The study's job, once its guest runs.
async fn started(store: &Store, study: &str) -> Result<Job> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        for job in store.jobs(Some(study), None).await? {
            match job.started_ms {
                Some(_) => return Ok(job),
                None if job.state.is_over() => bail!("the job ended before its guest ran: {:?}", job.error),
                None => {}
            }
        }
        ensure!(Instant::now() < deadline, "no job of the study starts within {PATIENCE:?}");
        tokio::time::sleep(POLL).await;
    }
}

/// Cancels a job and waits for its end, so that it does not stand in the way of the next one.
async fn ended(store: &Store, id: i64) -> Result<()> {
    if store.cancel_job(id).await? != Changed::Yes {
        eprintln!("job {id} ended before it could be cancelled");
    }
    let deadline = Instant::now() + PATIENCE;
    while !store.job(id).await?.context("the job is in the journal")?.state.is_over() {
        ensure!(Instant::now() < deadline, "job {id} does not end within {PATIENCE:?}");
        tokio::time::sleep(POLL).await;
    }
    Ok(())
}
