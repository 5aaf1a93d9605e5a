//! What urgent findings feel of sync: from the last image of a study to the end of its job, while sync works through a backlog
//! beside the node and while it is paused, in turns on one node.
//!
//! The bucket is another machine's in a hospital, so the server stands behind everything else here.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use dicom_core::VR;
use dicom_dictionary_std::{tags, uids};
use gantry::store::{JobState, Store};
use gantry_tests::dimse::data_set;
use gantry_tests::node::{NODE_TITLE, Node};
use gantry_tests::s3::S3Server;
use gantry_tests::{change_files, repository, write_head_ct};

use crate::Built;
use crate::report::{Report, median};
use crate::sender::Sender;
use crate::synthetic::{Image, Kind, Study};

const BUCKET: &str = "cohort";
/// How much slower triage may be beside sync.
const RATIO_MAX: f64 = 1.05;
/// For one job.
const PATIENCE: Duration = Duration::from_secs(120);
/// Before a head is sent: whoever was told to go on does, and whoever was told to stop has.
const SETTLE: Duration = Duration::from_secs(2);

/// How much to measure.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Heads that are sent with sync at work, and as many while it is paused.
    #[arg(long, default_value_t = 15)]
    rounds: u32,
    /// Studies that sync works through meanwhile, of 200 slices of MR each; it must not come to their end.
    #[arg(long, default_value_t = 60)]
    studies: u64,
    #[command(flatten)]
    pub(crate) built: Built,
}

/// Sends, and reports.
pub(crate) fn measure(below: &Path, gantry: &Path, options: &Options, report: &mut Report) -> Result<()> {
    let package = repository().join("modules/head-ct-triage/package");
    ensure!(package.is_dir(), "{} is missing: run `cargo xtask guests`", package.display());
    let Some(s3) = S3Server::moto() else {
        report.skip("triage beside sync: moto is not installed");
        return Ok(());
    };
    s3.make(BUCKET);
    let behind = Command::new("chrt").args(["--all-tasks", "--idle", "--pid", "0"]).arg(s3.pid().to_string()).status();
    ensure!(behind.context("cannot run chrt (Debian: util-linux)")?.success(), "chrt fails");
    let site = tempfile::tempdir_in(below)?;
    let node = Node::of(gantry, below, &config(site.path(), &package, &s3)?)?;
    pause(&node, true)?;
    for number in 0..options.studies {
        let study = Study { kind: Kind::Mr, number, images: 200 };
        let mut sender = Sender::associate(node.dimse, NODE_TITLE, &[study.kind.class()])?;
        (0..study.images).try_for_each(|index| sender.store(&study.image(index)?).map(drop))?;
        sender.release()?;
    }
    // The first one has what is done once.
    head(&node, 0)?;
    let (mut with, mut without) = (Vec::new(), Vec::new());
    for round in 0..options.rounds {
        // In turns, and each first as often: what changes slowly is in both.
        for sync in [round % 2 == 0, round % 2 != 0] {
            pause(&node, !sync)?;
            std::thread::sleep(SETTLE);
            let took = head(&node, 1 + 2 * round + u32::from(sync))?;
            if sync { &mut with } else { &mut without }.push(took);
        }
    }
    pause(&node, true)?;
    let status: serde_json::Value = serde_json::from_str(&node.says(&["sync", "status", "--json"]).out)?;
    let waiting = status["waiting"].as_array().into_iter().flatten().filter_map(|waits| waits["studies"].as_u64());
    let (waiting, taken) = (waiting.sum::<u64>(), options.studies);
    ensure!(waiting > 0, "sync came to the end of {taken} studies: raise --studies");
    let (beside, alone) = (median(&with), median(&without));
    let note = format!("{} heads, from the last image to the end of the job", without.len());
    report.told("triage, median with sync paused", alone, "ms", note);
    let note = format!("{} heads; {} of {taken} studies were taken meanwhile", with.len(), taken - waiting.min(taken));
    report.told("triage, median beside sync", beside, "ms", note);
    report.wanted(
        "triage, beside sync / with sync paused",
        beside / alone,
        "",
        (RATIO_MAX, None),
        "in turns, on one node",
    );
    Ok(())
}

fn config(folder: &Path, package: &Path, s3: &S3Server) -> Result<String> {
    let S3Server { url, key, secret, .. } = s3;
    std::fs::write(folder.join("identity.key"), [7; 32])?;
    let signing = rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519)?;
    std::fs::write(folder.join("signing.pem"), signing.serialize_pem())?;
    let credentials = format!("[default]\naws_access_key_id = {key}\naws_secret_access_key = {secret}\n");
    std::fs::write(folder.join("credentials"), credentials)?;
    let policy = folder.join("sync.toml");
    std::fs::write(
        &policy,
        format!(
            "version = 1\nsite = \"bench\"\nidentity_key_file = \"identity.key\"\nsigning_key_file = \"signing.pem\"\n\
             [[rules]]\nname = \"all\"\nsend = true\n[profile]\nbase = \"qa-minimal\"\n\
             [batch]\nbatch_max_mib = 64\nbatch_age_max_s = 5\n\
             [s3]\nbucket = \"{BUCKET}\"\nregion = \"us-east-1\"\npath_style = true\n\
             endpoint_url = \"{url}\"\ncredentials_file = \"credentials\"\n"
        ),
    )?;
    Ok(format!(
        "[sync]\npolicy = {policy:?}\npoll_ms = 100\n[schedule]\npoll_ms = 20\n[[modules]]\npackage = {package:?}\n"
    ))
}

fn pause(node: &Node, paused: bool) -> Result<()> {
    let said = node.says(&["sync", if paused { "pause" } else { "resume" }]);
    ensure!(said.code == Some(0), "{said:?}");
    Ok(())
}

/// Sends one, and waits until its job is done; how long that took after its last image, ms.
fn head(node: &Node, number: u32) -> Result<f64> {
    let (folder, uid) = (tempfile::tempdir()?, format!("2.25.8400{number:05}1"));
    write_head_ct(folder.path(), true)?;
    change_files(folder.path(), |index, slice| {
        slice.put_str(tags::STUDY_INSTANCE_UID, VR::UI, uid.as_str());
        slice.put_str(tags::SERIES_INSTANCE_UID, VR::UI, format!("2.25.8400{number:05}2"));
        slice.put_str(tags::SOP_INSTANCE_UID, VR::UI, format!("2.25.8400{number:05}3{index}"));
        slice.put_str(tags::NUMBER_OF_STUDY_RELATED_INSTANCES, VR::IS, "32");
    })?;
    let mut sender = Sender::associate(node.dimse, NODE_TITLE, &[uids::CT_IMAGE_STORAGE])?;
    for index in 0..32 {
        let file = folder.path().join(format!("{index}.dcm"));
        let object = dicom_object::open_file(&file)?;
        let uid = object.element(tags::SOP_INSTANCE_UID)?.to_str()?.trim_end_matches('\0').to_owned();
        sender.store(&Image { class: uids::CT_IMAGE_STORAGE, uid, data_set: data_set(&file) })?;
    }
    sender.release()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let store = Store::open_to_read(&node.data()).await?;
        let deadline = Instant::now() + PATIENCE;
        let ended = loop {
            let done = store.jobs(Some(&uid), Some(JobState::Done)).await?;
            if let Some(ended) = done.first().and_then(|job| job.ended_ms) {
                break ended;
            }
            ensure!(Instant::now() < deadline, "no job is done within {PATIENCE:?}:\n{}", node.log());
            tokio::time::sleep(Duration::from_millis(20)).await;
        };
        let times = store.sync_times(&uid, 1).await?.context("the study is there")?;
        store.close().await;
        Ok((ended - times[1]) as f64)
    })
}
