//! `gantry stream`: a cine played to a module that looks at frames one after another.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use gantry::app::App;
use gantry::inference::{EnginePreference, Turn};
use gantry::sandbox::grants::Policy;
use gantry::stream::{self, Event, Pace, Request, StreamError};
use indicatif::ProgressBar;

/// How often the line of progress is written anew, in frames.
const TOLD_EVERY: u64 = 5;

pub(crate) const EXAMPLES: &str = "\
Examples:
  gantry stream modules/us-guidance/package cine.dcm
  gantry stream modules/us-guidance/package cine.dcm --out results/
  gantry stream PACKAGE cine.dcm --fps 30 --streams 2 --repeat 10 --json
  gantry stream PACKAGE cine.dcm --fps max              as fast as the module goes; none is dropped
  gantry stream PACKAGE cine.dcm --budget-ms 100        for a module that needs longer

Ctrl-C ends it after the frame that the module has, with the report of what was played (exit code 130); a second one ends it at
once. docs/streams.md says what is counted.";

#[derive(clap::Args)]
pub(crate) struct StreamArgs {
    /// The module's package, of the world `frame-analyzer`.
    #[arg(value_name = "MODULE")]
    module: PathBuf,
    /// An image of several frames, or a folder that holds one.
    #[arg(required = true, value_name = "STUDY")]
    study: Vec<PathBuf>,
    /// Frames a second, or `max`; as the image says unless given.
    #[arg(long, value_name = "RATE")]
    fps: Option<Pace>,
    /// So many streams of the image at once, each with an instance of the module; at most limits.jobs_max.
    #[arg(long, value_name = "N", default_value_t = 1)]
    streams: usize,
    /// Play the frames so often.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    repeat: u32,
    /// Overrides stream.frame_budget_ms of the configuration.
    #[arg(long, value_name = "MS", value_parser = clap::value_parser!(u32).range(5..=60_000))]
    budget_ms: Option<u32>,
    /// Write a report that refers to frames (DICOM SR) and result.json into this folder. The result of an earlier run in it is
    /// replaced. For one stream, played once.
    #[arg(long, value_name = "DIR", conflicts_with_all = ["streams", "repeat"])]
    out: Option<PathBuf>,
    /// Allow an interface, such as `wasi:clocks`, if the module asks for it. Repeatable.
    #[arg(long, value_name = "WHAT")]
    grant: Vec<String>,
    /// Limits, grants and engines; see examples/gantry.toml. Defaults hold without it, and no file is looked for.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Which inference engine; overrides engines.engine of the configuration.
    #[arg(long)]
    engine: Option<EnginePreference>,
    /// For scripts.
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: &StreamArgs) -> Result<(), (u8, anyhow::Error)> {
    let usage = |e: anyhow::Error| (2, e);
    let mut config = crate::cli::config(args.config.as_deref())?;
    if let Some(engine) = args.engine {
        config.engines.engine = engine;
    }
    if let Some(ms) = args.budget_ms {
        config.stream.frame_budget_ms = ms;
    }
    let policy = Policy::new(&config.grants, &args.grant).map_err(|e| usage(e.into()))?;
    let app = App::start(config).map_err(|e| usage(e.into()))?;
    let (stop, turn) = (Arc::new(AtomicBool::new(false)), Turn::default());
    let (stops, cancels) = (stop.clone(), turn.clone());
    ctrlc::set_handler(move || {
        if stops.swap(true, Ordering::SeqCst) {
            cancels.cancel();
        }
    })
    .map_err(|e| usage(e.into()))?;
    let request = Request {
        module: &args.module,
        study: &args.study,
        pace: args.fps.unwrap_or(Pace::Recorded),
        streams: args.streams,
        repeat: args.repeat,
        out: args.out.as_deref(),
        policy: &policy,
        stamp: crate::now(),
    };
    let progress = Progress::new();
    let report = stream::run(&app, &request, (&*stop, &turn), &|event| progress.tell(&event));
    progress.bar.finish_and_clear();
    let report = report.map_err(|e| (exit_code(&e), e.into()))?;
    let text = match args.json {
        true => serde_json::to_string_pretty(&report).map_err(|e| (1, e.into()))? + "\n",
        false => report.to_string(),
    };
    crate::print(text.as_bytes())?;
    match report.streams.iter().any(|stream| stream.stopped) {
        true if args.out.is_some() => Err((130, anyhow::anyhow!("interrupted: nothing was written"))),
        true => Err((130, anyhow::anyhow!("interrupted"))),
        false => Ok(()),
    }
}

/// One line on a terminal: frames of all streams.
struct Progress {
    bar: ProgressBar,
    frames: AtomicU64,
}

impl Progress {
    fn new() -> Self {
        let bar = ProgressBar::new_spinner();
        bar.enable_steady_tick(Duration::from_millis(100));
        Self { bar, frames: AtomicU64::new(0) }
    }

    fn tell(&self, event: &Event<'_>) {
        match event {
            Event::Step(step) => {
                tracing::info!("{step}");
                self.bar.set_message(*step);
            }
            Event::Frames(frames) => self.frames.store(*frames, Ordering::Relaxed),
            Event::Frame { stream, counts } if counts.given.is_multiple_of(TOLD_EVERY) => {
                self.bar.set_message(format!(
                    "stream {}: {} of {} frames answered, {} missed",
                    stream + 1,
                    counts.answered,
                    self.frames.load(Ordering::Relaxed),
                    counts.missed + counts.failed + counts.refused,
                ))
            }
            Event::Frame { .. } => {}
            Event::Log(line) => self.bar.suspend(|| eprintln!("module {}: {}", line.level, line.message)),
        }
    }
}

fn exit_code(error: &StreamError) -> u8 {
    match error {
        StreamError::Run(e) => crate::exit_code(e),
        StreamError::NoCine | StreamError::NothingAccepted { .. } => 3,
        StreamError::NoRate(_) | StreamError::Host(_) => 2,
        StreamError::Limit { .. } => 5,
        StreamError::Refused(_) => 4,
    }
}
