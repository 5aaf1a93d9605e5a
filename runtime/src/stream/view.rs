//! The module's side of a stream: each frame that it is lent, what became of it, and the summary.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use super::mailbox::Mailbox;
use super::percentiles::Times;
use super::play::{Shot, Take};
use super::report::{Counts, Guidance, OneStream};
use super::{Event, StreamError};
use crate::findings::frames::FrameAnswer;
use crate::outputs::frame_answer;
use crate::sandbox::{Closed, FrameEnd, Session};

/// Codes of guidance that are counted, each by itself.
const GUIDANCE_MAX: usize = 64;

/// All that was had of a stream that ended well.
pub(super) struct Played {
    pub(super) told: OneStream,
    pub(super) closed: Closed,
    /// Frames that were answered with what fits, or too late, by number.
    pub(super) answered: BTreeSet<u32>,
    /// What was said of them, in order; empty where it was not to be kept.
    pub(super) answers: Vec<(u32, FrameAnswer)>,
}

/// Lends the module the latest frame until there is none, and asks for its summary.
pub(super) fn view(
    take: &Take<'_>,
    mut session: Session<'_>,
    mailbox: &Mailbox<Shot>,
    observe: &(dyn Fn(Event<'_>) + Sync),
) -> Result<Viewed, StreamError> {
    let (mut seen, mut unanswered_from, begun) = (Seen::default(), 0, Instant::now());
    while let Some(shot) = mailbox.take() {
        let since = shot.offered.unwrap_or_else(Instant::now);
        let skipped = u32::try_from(shot.place - unanswered_from).unwrap_or(u32::MAX);
        let time_us = u64::try_from(shot.at.as_micros()).unwrap_or(u64::MAX);
        let answered = session.next(shot.picture.clone(), shot.number, time_us, skipped).and_then(|(end, took)| {
            let end = judged(take, end);
            match &end {
                Ended::Answered(_) => session.accepted(),
                Ended::Refused(why) => session.refused(why)?,
                Ended::Late(_) | Ended::Failed(_) => {}
            }
            Ok(seen.count(take, &shot, end, took, since.elapsed()))
        });
        match answered {
            Ok(true) => unanswered_from = shot.place + 1,
            Ok(false) => {}
            Err(error) => return Err(StreamError::ended(error, session.into_log(), observe)),
        }
        seen.counts.restarts = session.restarts();
        observe(Event::Frame { stream: take.index, counts: seen.counts });
    }
    let seconds = begun.elapsed().as_secs_f64();
    let closed = session.close().map_err(|failure| StreamError::of(failure, observe))?;
    Ok(Viewed { seen, seconds, closed })
}

/// What became of a frame, with the gate's judgement.
enum Ended {
    Answered(FrameAnswer),
    Late(bool),
    Refused(String),
    Failed(String),
}

fn judged(take: &Take<'_>, end: FrameEnd) -> Ended {
    let cine = &take.begin.cine;
    match end {
        FrameEnd::Answered(answer) => {
            let max = take.begin.config.findings_per_frame_max;
            match frame_answer(&answer, [cine.columns, cine.rows], max) {
                Ok(()) => Ended::Answered(answer),
                Err(refusal) => Ended::Refused(refusal.to_string()),
            }
        }
        FrameEnd::Late { interrupted } => Ended::Late(interrupted),
        FrameEnd::Failed(error) => Ended::Failed(error.to_string()),
    }
}

/// A stream that ended, not yet told.
pub(super) struct Viewed {
    seen: Seen,
    seconds: f64,
    closed: Closed,
}

/// What is counted on the way.
#[derive(Default)]
struct Seen {
    counts: Counts,
    latency: Times,
    module: Times,
    decoding: Times,
    late: Times,
    /// The sum of what was said, and how often.
    quality: (f64, u64),
    guidance: Vec<Guidance>,
    first_fault: Option<String>,
    answered: BTreeSet<u32>,
    answers: Vec<(u32, FrameAnswer)>,
}

impl Seen {
    /// Whether the frame was answered, and the answer fits.
    fn count(&mut self, take: &Take<'_>, shot: &Shot, end: Ended, took: Duration, latency: Duration) -> bool {
        self.counts.given += 1;
        self.decoding.push(shot.decoding);
        self.late.push(shot.late);
        // Of late ones too: without them, who is late most would look fastest.
        self.module.push(took);
        self.latency.push(latency);
        let budget_ms = take.begin.config.frame_budget_ms;
        let fault = match end {
            Ended::Answered(answer) => {
                self.answer(take, shot.number, answer);
                return true;
            }
            Ended::Late(interrupted) => {
                self.counts.missed += 1;
                self.counts.interrupted += u64::from(interrupted);
                if !interrupted {
                    // Nobody told the module that it was too late: it may name what it saw.
                    self.answered.insert(shot.number);
                }
                format!("took longer than frame_budget_ms = {budget_ms}")
            }
            Ended::Refused(why) => {
                self.counts.refused += 1;
                format!("the answer was refused: {why}")
            }
            Ended::Failed(why) => {
                self.counts.failed += 1;
                why
            }
        };
        self.first_fault.get_or_insert_with(|| format!("frame {}: {fault}", shot.number));
        false
    }

    fn answer(&mut self, take: &Take<'_>, number: u32, answer: FrameAnswer) {
        self.counts.answered += 1;
        self.answered.insert(number);
        if let Some(quality) = answer.quality {
            self.quality = (self.quality.0 + f64::from(quality), self.quality.1 + 1);
        }
        for code in &answer.guidance {
            match self.guidance.iter().position(|known| known.is(code)) {
                Some(known) => self.guidance[known].frames += 1,
                None if self.guidance.len() < GUIDANCE_MAX => {
                    self.guidance.push(Guidance { code: code.clone(), frames: 1 });
                }
                None => {}
            }
        }
        if take.keeps_answers {
            self.answers.push((number, answer));
        }
    }
}

impl Viewed {
    /// With what the camera knows.
    pub(super) fn ended(self, dropped: u64, stopped: bool) -> Played {
        let Self { seen, seconds, closed } = self;
        let Seen { counts, latency, module, decoding, late, quality, mut guidance, first_fault, answered, answers } =
            seen;
        guidance.sort_by_key(|g| std::cmp::Reverse(g.frames));
        let told = OneStream {
            counts: Counts { dropped, ..counts },
            seconds,
            stopped,
            latency_ms: latency.percentiles(),
            jitter_ms: latency.jitter_ms(),
            module_ms: module.percentiles(),
            decoding_ms: decoding.percentiles(),
            late_ms: late.percentiles(),
            quality_mean: (quality.1 > 0).then(|| quality.0 / quality.1 as f64),
            guidance,
            first_fault,
            conclusions: closed.summary.conclusions.clone(),
            quantities: closed.summary.quantities.clone(),
        };
        Played { told, closed, answered, answers }
    }
}
