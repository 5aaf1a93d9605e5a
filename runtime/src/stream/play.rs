//! One cine played to one module: three threads, and the clock between them.
//!
//! ```text
//! decoder ──a few frames ahead──▶ camera ──when they are due──▶ mailbox ──the latest──▶ viewer: the module
//! ```

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, SyncSender};
use std::sync::{Arc, Barrier};
use std::time::{Duration, Instant};

use super::mailbox::Mailbox;
use super::view::{Played, view};
use super::{Event, Pace, StreamError};
use crate::pipeline::RunError;
use crate::sandbox::{Begin, PreparedStream};
use crate::study::{Picture, ReadError, Timing};
use crate::threads::Threads;

/// How often who waits for a frame looks whether it is to stop.
const LOOK: Duration = Duration::from_millis(50);

/// What one stream is.
pub(super) struct Take<'a> {
    pub(super) prepared: &'a PreparedStream,
    pub(super) begin: Begin,
    pub(super) clock: Clock,
    pub(super) repeat: u32,
    /// Frames that are decoded before they are due.
    pub(super) ahead: usize,
    /// Keep what was said of each frame.
    pub(super) keeps_answers: bool,
    /// From 0.
    pub(super) index: usize,
}

/// When frames are due.
#[derive(Debug, Clone)]
pub(super) enum Clock {
    Recorded(Timing),
    Every(Duration),
    /// As soon as the module is done with the one before, whenever that was due.
    Unpaced(Option<Timing>),
}

impl Clock {
    pub(super) fn of(pace: Pace, timing: Option<&Timing>) -> Option<Self> {
        match pace {
            Pace::Recorded => timing.cloned().map(Self::Recorded),
            Pace::Rate(rate) => Some(Self::Every(Duration::from_secs_f64(1.0 / rate))),
            Pace::Unpaced => Some(Self::Unpaced(timing.cloned())),
        }
    }

    /// From frame `number`, counted from 1, to the next.
    fn after(&self, number: u32) -> Duration {
        match self {
            Self::Recorded(timing) => Duration::from_micros(timing.after(number)),
            Self::Every(interval) => *interval,
            Self::Unpaced(timing) => timing.as_ref().map_or(Duration::ZERO, |t| Duration::from_micros(t.after(number))),
        }
    }

    /// In the mean, µs; 0 where nobody knows.
    pub(super) fn mean_us(&self) -> u64 {
        match self {
            Self::Recorded(timing) => timing.mean_us(),
            Self::Every(interval) => u64::try_from(interval.as_micros()).unwrap_or(u64::MAX),
            Self::Unpaced(timing) => timing.as_ref().map_or(0, Timing::mean_us),
        }
    }

    /// Whether frames wait for it.
    pub(super) fn is_paced(&self) -> bool {
        !matches!(self, Self::Unpaced(_))
    }
}

/// A frame on its way.
pub(super) struct Shot {
    /// In the stream, from 0.
    pub(super) place: u64,
    /// In the image, from 1.
    pub(super) number: u32,
    pub(super) picture: Arc<Picture>,
    pub(super) decoding: Duration,
    /// From the first on.
    pub(super) at: Duration,
    /// When the module could have had it; none where it has it when it wants it.
    pub(super) offered: Option<Instant>,
    /// How much later that was than it was due.
    pub(super) late: Duration,
}

/// Plays it to its end. All streams of a call begin at once, when all modules are open.
pub(super) fn play(
    take: &Take<'_>,
    begins: &Barrier,
    stop: &AtomicBool,
    observe: &(dyn Fn(Event<'_>) + Sync),
) -> Result<Played, StreamError> {
    let threads = Threads::start("gantry-stream", Some(take.prepared.stack_bytes()));
    let opened = threads.map_err(|e| StreamError::Host(format!("no threads for a stream: {e}"))).and_then(|threads| {
        let session = threads.run(|| take.prepared.begin(take.begin.clone()));
        session.map(|session| (threads, session)).map_err(|failure| StreamError::of(failure, observe))
    });
    if opened.is_err() {
        stop.store(true, Ordering::SeqCst);
    }
    // Also who failed: the others wait for it.
    begins.wait();
    let (threads, session) = opened?;
    let mailbox = Mailbox::new();
    let (to_camera, from_decoder) = mpsc::sync_channel(take.ahead.max(1));
    std::thread::scope(|scope| {
        scope.spawn(|| decode(take, to_camera, stop));
        let camera = scope.spawn(|| shoot(take, from_decoder, &mailbox, stop));
        let viewed = threads.run(|| view(take, session, &mailbox, observe));
        // Where the module gave up, the camera has nobody to shoot for.
        mailbox.close();
        let shot = camera.join().map_err(|_| StreamError::Host("the thread that plays frames ended".into()))?;
        if viewed.is_err() || shot.is_err() {
            stop.store(true, Ordering::SeqCst);
        }
        let Shots { offered, dropped } = shot.map_err(RunError::from)?;
        let all = u64::from(take.begin.cine.frames) * u64::from(take.repeat);
        Ok(viewed?.ended(dropped, offered < all))
    })
}

type Decoded = Result<(u32, Picture, Duration), ReadError>;

/// Decodes frame after frame until nobody wants more.
fn decode(take: &Take<'_>, to_camera: SyncSender<Decoded>, stop: &AtomicBool) {
    let cine = &take.begin.cine;
    for number in (0..take.repeat).flat_map(|_| 1..=cine.frames) {
        if stop.load(Ordering::SeqCst) {
            return;
        }
        let begun = Instant::now();
        let decoded = cine.picture(number).map(|picture| (number, picture, begun.elapsed()));
        let failed = decoded.is_err();
        if to_camera.send(decoded).is_err() || failed {
            return;
        }
    }
}

/// What the camera knows.
#[derive(Default)]
struct Shots {
    offered: u64,
    /// Of these, the module never saw so many.
    dropped: u64,
}

/// Offers each frame when it is due.
fn shoot(
    take: &Take<'_>,
    from_decoder: Receiver<Decoded>,
    mailbox: &Mailbox<Shot>,
    stop: &AtomicBool,
) -> Result<Shots, ReadError> {
    let (mut shots, mut at) = (Shots::default(), Duration::ZERO);
    let mut started = None;
    for (place, decoded) in (0..).zip(from_decoder) {
        let (number, picture, decoding) = match decoded {
            Ok(decoded) => decoded,
            Err(error) => {
                mailbox.close();
                return Err(error);
            }
        };
        // The clock begins with the first frame, which had to be decoded.
        let due = *started.get_or_insert_with(Instant::now) + at;
        while take.clock.is_paced() && Instant::now() < due {
            if stop.load(Ordering::SeqCst) || mailbox.closed_before(due.min(Instant::now() + LOOK)) {
                break;
            }
        }
        if stop.load(Ordering::SeqCst) {
            break;
        }
        let offered = take.clock.is_paced().then(Instant::now);
        let late = offered.map_or(Duration::ZERO, |offered| offered.saturating_duration_since(due));
        let shot = Shot { place, number, picture: Arc::new(picture), decoding, at, offered, late };
        let put = match offered {
            None => mailbox.put_when_taken(shot).map(|()| None),
            Some(_) => mailbox.put(shot),
        };
        match put {
            Ok(before) => {
                shots.offered += 1;
                shots.dropped += u64::from(before.is_some());
            }
            Err(_) => break,
        }
        at += take.clock.after(number);
    }
    mailbox.close();
    Ok(shots)
}
