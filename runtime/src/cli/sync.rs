//! `gantry sync`: what is handed to the cloud, and whether it got there.

use std::fmt::Write;
use std::io::Read;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::anyhow;
use chrono::{Local, Utc};
use gantry::audit::{Action, Audit, Event, OPERATOR};
use gantry::config::{Config, TelemetryConfig};
use gantry::store::{HeldState, Store, SyncCount, SyncPart, SyncState, SyncWaits};
use gantry::sync::{self, Came, Event as Progress, Gate, Mode, Parts, Site, Summary, take_spool};
use gantry::telemetry;
use gantry_cloud_sync::s3::{Check, Event as S3Event, Found, Report, Uploader};
use tokio_util::sync::CancellationToken;
use tracing_subscriber::util::SubscriberInitExt;

use super::job::{NodeArgs, chrono_text, pretty, with_journal};

type Failure = (u8, anyhow::Error);

pub(crate) const EXAMPLES: &str = "\
Examples:
  gantry sync status --config /etc/gantry/gantry.toml
  gantry sync run --now --config /etc/gantry/gantry.toml
  gantry sync pause --reason \"line is being repaired\" --config /etc/gantry/gantry.toml
  gantry sync verify --repair --config /etc/gantry/gantry.toml
";

/// How long `verify` waits for the process of a node to let go of the spool.
const SPOOL_WITHIN: Duration = Duration::from_secs(300);
/// Parts that `status` shows.
const PARTS_SHOWN: u32 = 10;

#[derive(clap::Subcommand)]
pub(crate) enum SyncCommand {
    /// Hand on what is due: look at studies, make batches, upload them. A node with `sync.policy` does so by itself.
    #[command(after_help = concat!(
        "Examples:\n",
        "  gantry sync run --config gantry.toml             # What is due, and no more.\n",
        "  gantry sync run --now --config gantry.toml       # Also what a batch would wait for others for.\n",
        "  gantry sync run --follow --config gantry.toml    # Until Ctrl-C.\n"
    ))]
    Run(RunArgs),
    /// Show what waits where, what was sent, and why nothing moves.
    #[command(after_help = "Example:\n  gantry sync status --json --config /etc/gantry/gantry.toml\n")]
    Status {
        #[command(flatten)]
        node: NodeArgs,
        /// What came of this study alone.
        #[arg(long, value_name = "UID")]
        study: Option<String>,
    },
    /// Hold the bucket against what was sent to it.
    #[command(after_help = concat!(
        "Examples:\n",
        "  gantry sync verify --config gantry.toml             # By what the server says of each object.\n",
        "  gantry sync verify --read --config gantry.toml      # By all of its bytes.\n",
        "  gantry sync verify --repair --config gantry.toml    # And put right what can be.\n"
    ))]
    Verify {
        #[command(flatten)]
        node: NodeArgs,
        /// Read all bytes of all objects.
        #[arg(long)]
        read: bool,
        /// Send again what is missing or damaged while the spool has it, but nothing of who opted out since, and abort uploads
        /// that nobody completes.
        #[arg(long)]
        repair: bool,
    },
    /// Hand on nothing until `gantry sync resume`, also after a restart. What is on its way is broken off, and goes on from there.
    #[command(after_help = "Example:\n  gantry sync pause --reason \"audit\" --config /etc/gantry/gantry.toml\n")]
    Pause {
        #[command(flatten)]
        node: NodeArgs,
        /// Why: it is shown and goes into the audit log. Name no patient.
        #[arg(long, default_value = "", value_name = "TEXT")]
        reason: String,
    },
    /// Go on.
    #[command(after_help = "Example:\n  gantry sync resume --config /etc/gantry/gantry.toml\n")]
    Resume {
        #[command(flatten)]
        node: NodeArgs,
    },
}

#[derive(clap::Args)]
pub(crate) struct RunArgs {
    #[command(flatten)]
    node: NodeArgs,
    /// Go on until it is stopped.
    #[arg(long, conflicts_with = "now")]
    follow: bool,
    /// Make batches of all there is, whatever their size and age.
    #[arg(long)]
    now: bool,
    /// For `gantry serve`: leave the machine to others, and end with the one that started it.
    #[arg(long, hide = true)]
    of_node: bool,
}

pub(crate) fn run(command: SyncCommand) -> Result<(), Failure> {
    let text = match command {
        SyncCommand::Run(args) => return hand_on(&args),
        SyncCommand::Verify { node, read, repair } => return verify(&node, Check { read, repair }),
        SyncCommand::Status { node, study } => with_journal(&node, |config, store| {
            let json = node.json;
            async move { status(&config, &store, study.as_deref(), json).await }
        }),
        SyncCommand::Pause { node, reason } => with_journal(&node, |_, store| {
            let json = node.json;
            async move {
                let changed = store.pause_sync(&gantry::printable(&reason)).await?;
                done(changed, json, "nothing is handed on from now on", "it was paused before; nothing changed")
            }
        }),
        SyncCommand::Resume { node } => with_journal(&node, |_, store| {
            let json = node.json;
            async move {
                let changed = store.resume_sync().await?;
                done(changed, json, "it goes on", "it was not paused; nothing changed")
            }
        }),
    };
    crate::print(text?.as_bytes())
}

fn done(changed: bool, json: bool, yes: &str, no: &str) -> anyhow::Result<String> {
    match json {
        true => pretty(&serde_json::json!({ "changed": changed })),
        false => Ok(format!("{}\n", if changed { yes } else { no })),
    }
}

/// The configuration, what the site chose, and where the journal is.
fn opened(node: &NodeArgs) -> Result<(Config, Site, PathBuf), Failure> {
    let usage = |e: anyhow::Error| (2, e);
    let config = Config::read(&node.config).map_err(|e| usage(e.into()))?;
    let data = super::journal_folder(&node.config, &config)?;
    let site = Site::read(&config.sync).map_err(|e| usage(e.into()))?;
    Ok((config, site, data))
}

fn hand_on(args: &RunArgs) -> Result<(), Failure> {
    let stepped_back = if args.of_node { sync::step_back() } else { Ok(()) };
    let usage = |e: anyhow::Error| (2, e);
    let (config, site, data) = opened(&args.node)?;
    let site = site.equipped(&config).map_err(|e| usage(e.into()))?;
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    let runtime = builder.worker_threads(2).enable_all().build().map_err(|e| usage(e.into()))?;
    let none = TelemetryConfig { otlp_endpoint: None, ..config.telemetry.clone() };
    let (subscriber, _telemetry) =
        telemetry::subscriber(&config.log, &none, runtime.handle(), std::io::stderr).map_err(|e| usage(e.into()))?;
    subscriber.try_init().map_err(|e| usage(e.into()))?;
    if let Err(e) = stepped_back {
        tracing::warn!("sync: the host refuses setpriority, so that the node's work may be slowed: {e}");
    }
    let stop = CancellationToken::new();
    if args.of_node {
        let parent_gone = stop.clone();
        std::thread::spawn(move || {
            // It writes nothing: this ends when it does.
            let _ = std::io::stdin().lock().read(&mut [0]);
            parent_gone.cancel();
        });
    }
    let mode = if args.follow { Mode::Follow } else { Mode::Once { now: args.now } };
    let summary = runtime.block_on(async {
        let on_signal = stop.clone();
        tokio::spawn(async move {
            match gantry::serve::until_stopped().await {
                Ok(()) => on_signal.cancel(),
                Err(e) => tracing::warn!("signals cannot be listened to: {e}"),
            }
        });
        let store = Store::open(&data).await.map_err(|e| usage(e.into()))?;
        let parts = Parts { site, config, store: store.clone(), data, beside_node: args.of_node };
        let quiet = args.node.json || args.of_node;
        let on = |event: &Progress<'_>| {
            if !quiet {
                show(event);
            }
        };
        let summary = sync::run(parts, mode, stop.clone(), &on).await.map_err(|e| (1, e.into()));
        store.close().await;
        summary
    })?;
    if stop.is_cancelled() && !args.follow {
        return Err((130, anyhow!("interrupted; what was begun goes on the next time")));
    }
    let text = match args.node.json {
        true => pretty(&serde_json::json!({
            "taken": summary.taken, "objects_held": summary.objects_held, "skipped": summary.skipped,
            "sent": summary.sent, "halted": summary.halted,
        }))
        .map_err(|e| (1, e))?,
        false => summed(&summary),
    };
    crate::print(text.as_bytes())?;
    match (summary.failed, summary.halted) {
        (true, Some(why)) => Err((1, anyhow!("{why}"))),
        _ => Ok(()),
    }
}

fn summed(summary: &Summary) -> String {
    let Summary { taken, objects_held, skipped, sent, halted, .. } = summary;
    let mut text =
        format!("{taken} studies taken, {skipped} stay, {objects_held} objects held, {sent} batches in the bucket\n");
    if let Some(why) = halted {
        text.push_str(&format!("what is left waits: {}\n", gantry::printable(why)));
    }
    text
}

fn show(event: &Progress<'_>) {
    match event {
        Progress::Study(study, came) => {
            let what = match came {
                Came::Taken(taken) => format!("taken: {} objects, {} held", taken.objects, taken.objects_held),
                Came::Held(objects) => format!("all {objects} objects are held"),
                Came::Skipped(why) => format!("stays: {why}"),
                Came::Waits(why) => format!("waits {why}"),
                Came::Stopped => return,
            };
            eprintln!("study {} v{} {}", study.study_instance_uid, study.study_version, gantry::printable(&what));
        }
        Progress::Sealed(batch) => eprintln!("batch {batch} is sealed"),
        Progress::Sending(batch) => eprintln!("batch {batch} is on its way"),
        Progress::Sent(sent) => {
            let (objects, there) = (sent.objects, sent.there);
            eprintln!("batch {} is in the bucket: {objects} objects, {there} of them were there", sent.batch);
        }
        Progress::Halted(why) => eprintln!("waits: {}", gantry::printable(why)),
    }
}

/// All of it.
#[derive(serde::Serialize)]
struct Status {
    #[serde(flatten)]
    state: SyncState,
    policy: Option<PathBuf>,
    /// Why the policy cannot be used.
    policy_error: Option<String>,
    /// Whether the window of the policy is open, and the bytes that may leave now.
    window_open: Option<bool>,
    room_bytes: Option<u64>,
    waiting: Vec<SyncWaits>,
    parts: Vec<SyncCount>,
    held: u64,
    latest: Vec<SyncPart>,
    /// Why nothing moves, if so.
    halted: Option<String>,
}

async fn status(config: &Config, store: &Store, study: Option<&str>, json: bool) -> anyhow::Result<String> {
    let state = store.sync_state().await?;
    let site = Site::read(&config.sync);
    let ledger = sync::ledger(store).await?;
    let policy = site.as_ref().ok().map(|site| &site.policy);
    let counts = store.held_counts().await?;
    let status = Status {
        policy: config.sync.policy.clone(),
        policy_error: site.as_ref().err().map(ToString::to_string),
        window_open: policy.map(|policy| policy.window.is_open(&Local::now())),
        room_bytes: policy.and_then(|policy| policy.limits.room(&ledger, Utc::now())),
        waiting: store.sync_waits().await?,
        parts: store.sync_counts().await?,
        held: counts.iter().filter(|((state, _), _)| *state == HeldState::Held).map(|(_, objects)| objects).sum(),
        latest: store.sync_parts(study, PARTS_SHOWN).await?,
        halted: halted(&state, site.as_ref().err().map(ToString::to_string)),
        state,
    };
    if json { pretty(&status) } else { written(&status) }
}

fn halted(state: &SyncState, policy: Option<String>) -> Option<String> {
    match (state.paused_ms, policy) {
        (Some(_), _) => Some(format!("paused by {}: {}", state.paused_by, state.paused_reason)),
        (None, Some(policy)) => Some(policy),
        (None, None) => Some(state.doing.clone()).filter(|doing| !doing.is_empty() && !doing.starts_with("sends ")),
    }
}

fn written(status: &Status) -> anyhow::Result<String> {
    let time = |ms: Option<i64>| ms.and_then(chrono_text).unwrap_or_else(|| "never".into());
    let mut text = String::new();
    match &status.halted {
        Some(why) => writeln!(text, "nothing moves: {}", gantry::printable(why))?,
        None if status.state.doing.is_empty() => writeln!(text, "nothing to do")?,
        None => writeln!(text, "{}", gantry::printable(&status.state.doing))?,
    }
    match &status.state.last_batch {
        Some(batch) => writeln!(text, "last batch {batch}, in the bucket since {}", time(status.state.last_batch_ms))?,
        None => writeln!(text, "no batch was sent yet")?,
    }
    if let Some(open) = status.window_open {
        let room = status.room_bytes.map_or("no limit".into(), |bytes| format!("{bytes} bytes may leave now"));
        writeln!(text, "window {}, {room}", if open { "open" } else { "closed" })?;
    }
    for SyncWaits { reason, studies, since_ms } in &status.waiting {
        let reason = if reason.is_empty() { "for their turn" } else { reason };
        writeln!(text, "{studies} studies wait {}, since {}", gantry::printable(reason), time(Some(*since_ms)))?;
    }
    for SyncCount { state, parts, objects, objects_held, bytes } in &status.parts {
        writeln!(text, "{parts} parts {state}: {objects} objects, {bytes} bytes, {objects_held} held")?;
    }
    if status.held > 0 {
        writeln!(text, "{} objects wait for a person: `gantry quarantine list`", status.held)?;
    }
    for part in &status.latest {
        let batch = part.batch.as_deref().map(|batch| format!(" in batch {batch}")).unwrap_or_default();
        let reason =
            if part.reason.is_empty() { String::new() } else { format!(": {}", gantry::printable(&part.reason)) };
        let (uid, version) = (&part.study_instance_uid, part.study_version);
        writeln!(text, "  {}  {} {uid} v{version}{batch}{reason}", time(Some(part.at_ms)), part.state)?;
    }
    Ok(text)
}

fn verify(node: &NodeArgs, check: Check) -> Result<(), Failure> {
    let usage = |e: anyhow::Error| (2, e);
    let (config, site, data) = opened(node)?;
    let (folder, site) = (config.sync.spool(&data), Arc::new(site));
    let (mut spool, _wanted) = take_spool(&site, &folder, SPOOL_WITHIN).map_err(|e| usage(e.into()))?;
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    let runtime = builder.worker_threads(2).enable_all().build().map_err(|e| usage(e.into()))?;
    let json = node.json;
    let report = runtime.block_on(async {
        let store = Store::open(&data).await.map_err(|e| usage(e.into()))?;
        let gate = Arc::new(Gate::impatient(site.clone(), store.clone()).await.map_err(|e| usage(e.into()))?);
        let uploader = Uploader::connect_through(gate.clone(), site.policy.s3.clone(), &site.policy.site).await;
        let uploader = uploader.map_err(|e| usage(e.into()))?;
        let opted_out = gate.of_all().await.map_err(|e| usage(e.into()))?;
        let on = move |event: &S3Event| match event {
            S3Event::Found(found) if !json => eprintln!("{}", said(found)),
            S3Event::Again { what, why, .. } => tracing::warn!("{what}: {why}"),
            _ => {}
        };
        let report = uploader.verify(&mut spool, &site.trusted, &opted_out, check, on).await;
        let report = report.map_err(|e| (1, e.into()));
        gate.settle().await.map_err(|e| (1, e.into()))?;
        let report = report?;
        let how = if check.repair { "with repair: " } else { "" };
        let event = Event { detail: format!("{how}{}", line(&report)), ..Event::new(OPERATOR, Action::SyncVerified) };
        Audit::new(store.clone(), &data).record(&event).await.map_err(|e| (1, e.into()))?;
        store.close().await;
        Ok::<_, Failure>(report)
    })?;
    let text = match json {
        true => pretty(&serde_json::json!({
            "right": report.is_right(), "batches": report.batches, "objects": report.objects, "bytes": report.bytes,
            "manifests_wrong": report.manifests_wrong, "missing": report.missing, "damaged": report.damaged,
            "orphans": report.orphans, "repaired": report.repaired, "opted_out": report.opted_out,
        }))
        .map_err(|e| (1, e))?,
        false => format!("{}\n", line(&report)),
    };
    crate::print(text.as_bytes())?;
    match report.is_right() {
        true => Ok(()),
        false if check.repair => {
            Err((1, anyhow!("some of it cannot be put right; hand the studies in again that are lost")))
        }
        false => {
            Err((1, anyhow!("the bucket is not as it should be; `gantry sync verify --repair` puts right what can be")))
        }
    }
}

fn line(report: &Report) -> String {
    let Report { batches, objects, bytes, manifests_wrong, missing, damaged, orphans, repaired, opted_out } = report;
    format!(
        "{batches} batches, {objects} objects, {bytes} bytes: {manifests_wrong} manifests wrong, {missing} objects missing, \
         {damaged} damaged, {orphans} uploads left behind, {repaired} of these put right, {opted_out} of these missing of \
         patients who opted out since"
    )
}

fn said(found: &Found) -> String {
    match found {
        Found::Manifest { key, why } => format!("{key} {why}"),
        Found::Batch(id) => format!("batch {id} was sent, and its manifest is not there"),
        Found::Missing(key) => format!("{key} is missing"),
        Found::Damaged { key, why } => format!("{key} is damaged: {why}"),
        Found::Orphan { key, .. } => format!("an upload of {key} was begun, and nobody completes it"),
        Found::Repaired(key) => format!("{key} is right again"),
        Found::Lost(key) => format!("{key} is lost: hand its study in again"),
        Found::OptedOut { what, others: false } => format!("{what} is not sent again: its patient opted out since"),
        Found::OptedOut { what, others: true } => format!(
            "{what} is not sent again: a patient of its batch opted out since; hand in the studies of the others again"
        ),
    }
}
