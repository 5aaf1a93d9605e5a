//! Two streams at once, at 30 frames a second each, against the frame budget and against one alone.

use std::path::Path;
use std::sync::atomic::AtomicBool;

use anyhow::{Context, Result};
use gantry::app::App;
use gantry::config::Config;
use gantry::inference::Turn;
use gantry::outputs::Stamp;
use gantry::sandbox::grants::Policy;
use gantry::stream::{self, OneStream, Pace, Request};
use gantry_tests::{assets, repository};

use crate::Built;
use crate::report::{Report, median};

/// A real cine: 120 frames of 640 × 480 in JPEG.
const CINE: &str = "pydicom-data/color3d_jpeg_baseline.dcm";
/// What a frame may take at 30 frames a second.
const BUDGET_MS: f64 = 33.0;
const RATE: f64 = 30.0;

/// How much to measure.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// How often the cine of four seconds is played each time.
    #[arg(long, default_value_t = 5)]
    repeat: u32,
    /// How often one stream and two are measured, in turn; medians count.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    #[command(flatten)]
    pub(crate) built: Built,
}

pub(crate) fn measure(folder: &Path, options: &Options, report: &mut Report) -> Result<()> {
    let player = Player::ready(folder)?;
    let (mut alone, mut both) = (Vec::new(), Vec::new());
    for _ in 0..options.rounds.max(1) {
        alone.extend(player.play(1, options.repeat, Pace::Rate(RATE))?);
        both.push(player.play(2, options.repeat, Pace::Rate(RATE))?);
    }
    // Of two at once, the one that fared worse.
    let worst = |of: fn(&OneStream) -> f64| -> Vec<f64> {
        both.iter().map(|two| two.iter().map(of).fold(0.0, f64::max)).collect()
    };
    let one = |of: fn(&OneStream) -> f64| median(&alone.iter().map(of).collect::<Vec<_>>());
    let frames = u64::from(options.repeat) * 120;
    let note = format!("{} times {frames} frames; the worse of both, median", both.len());
    let two_p99 = median(&worst(|s| s.latency_ms.p99));
    report.wanted("two streams at 30 a second, latency p99", two_p99, "ms", (BUDGET_MS, Some(10.0)), note);
    report.told("  p50", median(&worst(|s| s.latency_ms.p50)), "ms", "");
    report.told("  the longest", worst(|s| s.latency_ms.max).into_iter().fold(0.0, f64::max), "ms", "of all");
    let lost = |s: &OneStream| (s.counts.dropped + s.counts.missed + s.counts.failed + s.counts.refused) as f64;
    let lost = both.iter().flatten().map(lost).sum::<f64>();
    report.wanted("  frames dropped or missed", lost, "", (0.0, None), "of all");
    report.told("  jitter", median(&worst(|s| s.jitter_ms)), "ms", "");
    report.told("one alone, latency p99", one(|s| s.latency_ms.p99), "ms", "median");
    report.told("two / one alone, p99", two_p99 / one(|s| s.latency_ms.p99), "", "in the same run");
    report.told("  decoding a frame", one(|s| s.decoding_ms.p50), "ms", "ahead of time, in no latency; one alone, p50");
    report.told("  frames later than due, p99", one(|s| s.late_ms.p99), "ms", "the host's fault; one alone");
    let unpaced = player.play(1, options.repeat, Pace::Unpaced)?;
    let rate = unpaced.first().map_or(0.0, |s| s.counts.given as f64 / s.seconds);
    report.at_least("one alone as fast as it goes", rate, "/s", RATE, "decoding included");
    Ok(())
}

/// The demonstration, and the cine.
struct Player {
    app: App,
}

impl Player {
    fn ready(folder: &Path) -> Result<Self> {
        let mut config = Config::default();
        config.cache.folder = Some(folder.join("gantry"));
        anyhow::ensure!(assets().join(CINE).is_file(), "{CINE} is missing: run `cargo xtask assets`");
        Ok(Self { app: App::start(config)? })
    }

    fn play(&self, streams: usize, repeat: u32, pace: Pace) -> Result<Vec<OneStream>> {
        let policy = Policy::new(&self.app.config.grants, &[])?;
        let request = Request {
            module: &repository().join("modules/us-guidance/package"),
            study: &[assets().join(CINE)],
            pace,
            streams,
            repeat,
            out: None,
            policy: &policy,
            stamp: Stamp { date: "20240102".into(), time: "030405".into() },
        };
        let played = stream::run(&self.app, &request, (&AtomicBool::new(false), &Turn::default()), &|_| {});
        Ok(played.context("the cine cannot be played: run `cargo xtask guests`")?.streams)
    }
}
