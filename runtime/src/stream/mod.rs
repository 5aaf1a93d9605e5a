//! `gantry stream`: a cine played to a module that looks at frames one after another.
//!
//! ```text
//! cine ─ decoder ─▶ a few frames ahead ─ camera ─▶ mailbox: the latest frame ─▶ module ─ gate ─▶ answers
//!        (lazily)                       (clock)                      │             (budget)
//!                                                                    └ a newer one takes its place: dropped
//! ```
//!
//! Read in this order: `run` below, `play`, `view`, [`crate::sandbox::Session`], `report`, `write`.
//! What a module is told of frames that it did not see is in `wit/stream.wit`.

mod mailbox;
mod percentiles;
mod play;
mod report;
mod view;
mod write;

use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Barrier};

pub use self::percentiles::Percentiles;
pub use self::report::{AnsweredFrame, Counts, Guidance, OneStream, SCHEMA, StreamRecord, StreamReport};

use self::play::{Clock, Take};
use self::view::Played;
use crate::app::App;
use crate::findings::LogLine;
use crate::inference::Turn;
use crate::module::package::Package;
use crate::outputs::{self, Refusal, Stamp, Transaction};
use crate::pipeline::RunError;
use crate::routing::accepts;
use crate::sandbox::grants::Policy;
use crate::sandbox::{Begin, JobError, JobFailure, PreparedStream};
use crate::study::{self, Cine};

/// What to play to what.
#[derive(Debug)]
pub struct Request<'a> {
    /// A package folder.
    pub module: &'a Path,
    /// Files and folders with an image of several frames.
    pub study: &'a [PathBuf],
    /// How fast.
    pub pace: Pace,
    /// How many at once, each with a module of its own.
    pub streams: usize,
    /// How often the frames are played.
    pub repeat: u32,
    /// Where the result goes; nowhere where there is none. For one stream that is played once.
    pub out: Option<&'a Path>,
    /// What the operator allows.
    pub policy: &'a Policy,
    /// When the result is made.
    pub stamp: Stamp,
}

/// How fast frames are played.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Pace {
    /// As the image says.
    Recorded,
    /// So many a second.
    Rate(f64),
    /// Each as soon as the module is done with the one before; none is dropped.
    Unpaced,
}

impl std::str::FromStr for Pace {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.parse::<f64>() {
            _ if text == "max" => Ok(Self::Unpaced),
            Ok(rate) if (0.1..=1000.0).contains(&rate) => Ok(Self::Rate(rate)),
            _ => Err("frames a second from 0.1 to 1000, or max".into()),
        }
    }
}

/// What happens on the way, for whoever watches.
#[derive(Debug)]
pub enum Event<'a> {
    /// The next step begins.
    Step(&'static str),
    /// So many frames will be played, on each stream.
    Frames(u64),
    /// A frame ended.
    Frame {
        /// Of which stream, from 0.
        stream: usize,
        /// Until now.
        counts: Counts,
    },
    /// A line that the module logged on a stream that then failed.
    Log(&'a LogLine),
}

/// Why there is no report. Nothing was written.
#[derive(Debug, thiserror::Error)]
pub enum StreamError {
    /// As on a study: the input, the package, the component, the module while it ran, or our own writers.
    #[error(transparent)]
    Run(#[from] RunError),
    /// Nothing to play.
    #[error("no image of several frames is among the files given; name an ultrasound cine, or a folder that holds one")]
    NoCine,
    /// The module is not for it.
    #[error("{module} accepts none of the {cines} images of several frames: {reasons}")]
    NothingAccepted {
        /// The module's name.
        module: String,
        /// How many there are.
        cines: usize,
        /// Why each was not accepted.
        reasons: String,
    },
    /// The image does not say when frames are due.
    #[error("{} says neither FrameTime (0018,1063) nor FrameTimeVector (0018,1065) nor a rate to show it at; give one by --fps", crate::shown(.0))]
    NoRate(PathBuf),
    /// A limit of the configuration.
    #[error("{what} would pass {limit} = {maximum}")]
    Limit {
        /// What is too large.
        what: String,
        /// Its name.
        limit: &'static str,
        /// Its value.
        maximum: u64,
    },
    /// What the module stated at the end.
    #[error("the output gate refused what the module says of the stream: {0}")]
    Refused(#[from] Refusal),
    /// The host.
    #[error("{0}")]
    Host(String),
}

impl StreamError {
    fn of(failure: JobFailure, observe: &(dyn Fn(Event<'_>) + Sync)) -> Self {
        Self::ended(failure.error, failure.log, observe)
    }

    fn ended(error: JobError, log: Vec<LogLine>, observe: &(dyn Fn(Event<'_>) + Sync)) -> Self {
        log.iter().for_each(|line| observe(Event::Log(line)));
        RunError::from(error).into()
    }
}

/// Plays an image to a module until its end, or until `stop` is set, which ends it after the frame that the module has. Cancelling
/// `turn` ends it in the middle, as a failure.
///
/// # Errors
/// See [`StreamError`].
pub fn run(
    app: &App,
    request: &Request<'_>,
    (stop, turn): (&AtomicBool, &Turn),
    observe: &(dyn Fn(Event<'_>) + Sync),
) -> Result<StreamReport, StreamError> {
    let limit = |what: String, limit, maximum| StreamError::Limit { what, limit, maximum };
    let (jobs_max, frames_max) = (app.config.limits.jobs_max, app.config.stream.frames_max);
    if request.streams == 0 || request.streams as u64 > u64::from(jobs_max) {
        return Err(limit(format!("{} streams", request.streams), "limits.jobs_max", jobs_max.into()));
    }
    let package = Arc::new(Package::open(request.module).map_err(RunError::from)?);
    let (grants, denied) = request.policy.grant(&package.manifest().needs);
    observe(Event::Step("reading headers"));
    // Before the work, so that it is not done for a folder that cannot be written to.
    let transaction = request.out.map(Transaction::begin).transpose().map_err(RunError::from)?;
    let cines = study::cines(request.study, &app.read_options(false)).map_err(RunError::from)?;
    let (cine, mut warnings) = chosen(&package, cines)?;
    let frames = u64::from(cine.frames) * u64::from(request.repeat);
    if frames > frames_max {
        return Err(limit(format!("{frames} frames"), "stream.frames_max", frames_max));
    }
    let clock = Clock::of(request.pace, cine.timing.as_ref());
    let clock = clock.ok_or_else(|| StreamError::NoRate(cine.path().to_owned()))?;
    observe(Event::Step("preparing the component"));
    let prepared = app.sandbox.prepare_stream(package, grants).map_err(RunError::from)?;
    warnings
        .extend(denied.iter().map(|ask| format!("the module asks for {ask}, which was not granted (--grant {ask})")));
    let digest = request.out.map(|_| write::digest(cine.path())).transpose().map_err(RunError::from)?;
    observe(Event::Step("streaming"));
    observe(Event::Frames(frames));
    let played = play_all(app, request, &prepared, (&cine, &clock), (stop, turn), observe)?;
    for stream in &played {
        let (summary, most) = (&stream.closed.summary, app.config.limits.findings_max);
        outputs::stream_summary(summary, &stream.answered, cine.spacing_mm.is_some(), most)?;
        // As a study's result says it.
        warnings.extend(stream.closed.limit.iter().map(|hit| format!("the module hit a limit and went on: {hit}")));
    }
    let module = prepared.package().manifest();
    let report = StreamReport {
        schema: SCHEMA,
        module: module.name.clone(),
        version: module.version.to_string(),
        demonstration: module.label.demonstration,
        frame_budget_ms: app.config.stream.frame_budget_ms,
        frames_per_second: clock.is_paced().then(|| 1e6 / clock.mean_us().max(1) as f64),
        paced_by: match request.pace {
            Pace::Recorded => cine.timing.as_ref().map_or("", |timing| timing.by),
            Pace::Rate(_) | Pace::Unpaced => "--fps",
        },
        frames: cine.frames,
        repeat: request.repeat,
        size: [cine.columns, cine.rows],
        blackened: !cine.areas.is_empty(),
        streams: played.iter().map(|stream| stream.told.clone()).collect(),
        warnings,
    };
    // What was stopped is no result: who asks for it again gets all of it.
    if let (Some(transaction), Some(digest), [one]) = (transaction, digest, &played[..])
        && !one.told.stopped
    {
        observe(Event::Step("writing results"));
        write::write(transaction, (&prepared, &cine, digest), one, &report, &request.stamp)?;
    }
    Ok(report)
}

/// The first image that the module is for.
fn chosen(package: &Package, cines: Vec<Cine>) -> Result<(Arc<Cine>, Vec<String>), StreamError> {
    let count = cines.len();
    if count == 0 {
        return Err(StreamError::NoCine);
    }
    let manifest = package.manifest();
    let mut reasons = Vec::new();
    for cine in cines {
        let refusal = cine.study.series.first().and_then(|series| accepts::refusal(&manifest.accepts, series));
        let Some(reason) = refusal else {
            let mut warnings = Vec::new();
            if count > 1 {
                warnings
                    .push(format!("there are {count} images of several frames; name the file of another to play it"));
            }
            if cine.areas.is_empty() {
                warnings.push(
                    "the image states no ultrasound region: text that is burned into it is shown to the module".into(),
                );
            }
            return Ok((Arc::new(cine), warnings));
        };
        reasons.push(reason);
    }
    Err(StreamError::NothingAccepted { module: manifest.name.clone(), cines: count, reasons: reasons.join(", ") })
}

/// Plays all streams at once, each on threads of its own; the first failure of any ends them all.
fn play_all(
    app: &App,
    request: &Request<'_>,
    prepared: &PreparedStream,
    (cine, clock): (&Arc<Cine>, &Clock),
    (stop, turn): (&AtomicBool, &Turn),
    observe: &(dyn Fn(Event<'_>) + Sync),
) -> Result<Vec<Played>, StreamError> {
    let config = &app.config.stream;
    let room = config.frames_ahead_mib.saturating_mul(1 << 20) / cine.picture_bytes().max(1);
    let ahead = config.frames_ahead_max.min(usize::try_from(room).unwrap_or(usize::MAX));
    if ahead == 0 {
        let what = format!("a frame of {} bytes", cine.picture_bytes());
        return Err(StreamError::Limit { what, limit: "stream.frames_ahead_mib", maximum: config.frames_ahead_mib });
    }
    let begins = Barrier::new(request.streams);
    let take = |index| Take {
        prepared,
        begin: Begin {
            cine: cine.clone(),
            interval_us: clock.mean_us(),
            config: config.clone(),
            read: app.read_options(false),
            engines: app.engines.clone(),
            pseudonym_key: app.pseudonym_key,
            turn: turn.clone(),
        },
        clock: clock.clone(),
        repeat: request.repeat,
        ahead,
        keeps_answers: request.out.is_some(),
        index,
    };
    let takes: Vec<Take<'_>> = (0..request.streams).map(take).collect();
    std::thread::scope(|scope| {
        let begins = &begins;
        let threads: Vec<_> =
            takes.iter().map(|take| scope.spawn(move || play::play(take, begins, stop, observe))).collect();
        let ended = threads.into_iter().map(|thread| {
            thread.join().unwrap_or_else(|_| Err(StreamError::Host("the thread of a stream ended".into())))
        });
        // All are waited for; then the first failure is told.
        ended.collect::<Vec<_>>().into_iter().collect()
    })
}
