//! How fit frames of a B-mode ultrasound are to be looked at, and what whoever holds the probe may do: formulas on brightness, no
//! model. A demonstration, not for clinical use.
//!
//! ```text
//! frame ─▶ image area ─▶ every second pixel ─┬─▶ look: brightness, clipping, dark columns, sharpness ─┬─▶ quality ─▶ answer
//!                                            └─▶ small: 32 × 32 means ─ against the frame before ─▶ movement ┘   guidance
//! ```
//!
//! `MODEL_CARD.md` says what each number is and is not.

use gantry_guest::frames::{Answer, Frame, FrameAnalyzer, Rectangle, StreamInfo, Summary};
use gantry_guest::prelude::*;

mod look;

use look::{Look, Small};

/// Codes of this module's own.
const SCHEME: &str = "99GANTRY";

/// Below this mean brightness of what is not black, gain is too low; above the other, too high.
const MEAN: (f32, f32) = (24.0, 150.0);
/// Of all pixels, so many that are as bright as can be are too many.
const CLIPPED: f32 = 0.02;
/// Of all columns, so many that stay dark are too many.
const SHADOW: f32 = 0.35;
/// Below this mean step between neighbours, in parts of their brightness, the image is out of focus.
const SHARPNESS: f32 = 0.03;
/// Above this mean change from frame to frame, in parts of 255, the probe moves too fast.
const MOTION: f32 = 0.06;
/// So many frames without any change are a frozen image.
const FROZEN_FRAMES: u32 = 10;
/// From this quality on a frame is worth keeping.
const GOOD: f32 = 0.6;
/// The summary names so many frames.
const NAMED_MAX: usize = 10;

struct Guidance {
    area: Rectangle,
    columns: usize,
    before: Option<Small>,
    still: u32,
    /// Number and quality of the best frames, the best first.
    best: Vec<(u32, f32)>,
    answered: u32,
    good: u32,
    quality_sum: f64,
}

impl FrameAnalyzer for Guidance {
    fn open(info: &StreamInfo) -> Result<Self, Error> {
        let largest = info.image_areas.iter().max_by_key(|area| area.pixels()).copied();
        let area = largest.unwrap_or_else(|| info.whole());
        if info.restarts > 0 {
            info!(
                "begun anew, {} times until now: movement and the best frames until then are forgotten",
                info.restarts
            );
        }
        Ok(Self {
            area,
            columns: area.columns as usize,
            before: None,
            still: 0,
            best: Vec::new(),
            answered: 0,
            good: 0,
            quality_sum: 0.0,
        })
    }

    fn next(&mut self, frame: &Frame<'_>) -> Result<Answer, Error> {
        let pixels = frame.brightness(self.area)?;
        let look = Look::at(&pixels, self.columns);
        let small = Small::of(&pixels, self.columns);
        // Movement is a rate: what lies longer back may have changed more.
        let motion = self.before.as_ref().map(|before| small.change(before) / (frame.skipped() + 1) as f32);
        self.still = if motion == Some(0.0) { self.still + 1 } else { 0 };
        self.before = Some(small);
        let (quality, guidance) = self.judge(&look, motion);
        self.remember(frame.number(), quality);
        Ok(guidance.into_iter().fold(Answer::of_quality(quality), Answer::guide))
    }

    fn close(self) -> Result<Summary, Error> {
        if self.answered == 0 {
            return Ok(Summary::new());
        }
        let mut frames: Vec<u32> = self.best.iter().map(|(number, _)| *number).collect();
        frames.sort_unstable();
        frames.dedup();
        let mean = self.quality_sum / f64::from(self.answered);
        let good = f64::from(self.good) / f64::from(self.answered);
        let summary = Summary::new().measure(code("QUALITY", "Mean quality of frames"), mean, "1", Vec::new()).measure(
            code("GOOD-FRAMES", "Part of frames that are fit to be looked at"),
            good,
            "1",
            Vec::new(),
        );
        Ok(match frames.is_empty() {
            true => summary,
            false => summary.conclude(code("BEST-FRAMES", "Frames of the best quality"), good as f32, frames),
        })
    }
}

impl Guidance {
    /// Quality from 0 to 1, and what may be done about it, what weighs most first.
    fn judge(&self, look: &Look, motion: Option<f32>) -> (f32, Vec<Code>) {
        if look.used == 0.0 {
            return (0.0, vec![code("NO-IMAGE", "No image")]);
        }
        // Each is 1 where nothing is wrong, and falls to 0 where nothing is right.
        let below = |value: f32, limit: f32| (value / limit).clamp(0.0, 1.0);
        let above = |value: f32, limit: f32| (limit / value.max(limit)).clamp(0.0, 1.0);
        let mut parts = vec![
            (below(look.mean, MEAN.0), "GAIN-UP", "More gain"),
            (above(look.mean, MEAN.1).min(above(look.clipped, CLIPPED)), "GAIN-DOWN", "Less gain"),
            (above(look.shadow, SHADOW), "CONTACT", "More contact, or another window"),
            (below(look.sharpness, SHARPNESS), "FOCUS", "Another focus or depth"),
            (above(motion.unwrap_or(0.0), MOTION), "SLOWER", "Move the probe more slowly"),
        ];
        let quality = parts.iter().map(|(part, ..)| part).product::<f32>();
        parts.retain(|(part, ..)| *part < 1.0);
        parts.sort_by(|a, b| a.0.total_cmp(&b.0));
        let mut guidance: Vec<Code> = parts.into_iter().map(|(_, value, meaning)| code(value, meaning)).collect();
        if self.still >= FROZEN_FRAMES {
            guidance.insert(0, code("FROZEN", "The image is frozen"));
        }
        (quality, guidance)
    }

    fn remember(&mut self, number: u32, quality: f32) {
        self.answered += 1;
        self.quality_sum += f64::from(quality);
        if quality < GOOD {
            return;
        }
        self.good += 1;
        // A stream may be played again: of one frame, the best.
        if let Some(known) = self.best.iter_mut().find(|(known, _)| *known == number) {
            known.1 = known.1.max(quality);
        } else {
            self.best.push((number, quality));
        }
        self.best.sort_by(|a, b| b.1.total_cmp(&a.1));
        self.best.truncate(NAMED_MAX);
    }
}

fn code(value: &str, meaning: &str) -> Code {
    Code::new(value, SCHEME, meaning)
}

gantry_guest::export_frames!(Guidance);

#[cfg(test)]
mod tests {
    use gantry_guest::testing::{FakeStream, Streamed, stream};

    use super::*;

    type Image = Box<dyn Fn(u32, u32) -> u8>;

    /// Speckle of this brightness: the same pattern each time, moved by so many columns.
    fn speckle(base: u32, shift: u32) -> impl Fn(u32, u32) -> u8 {
        move |x, y| {
            // Grains of 4 × 4, as a hash has them.
            let seed = ((x + shift) / 4).wrapping_mul(2_654_435_761) ^ (y / 4).wrapping_mul(2_246_822_519);
            let grain = (seed ^ (seed >> 15)).wrapping_mul(2_246_822_519) >> 24;
            (base + grain * base / 255) as u8
        }
    }

    fn played(frames: impl IntoIterator<Item = Image>) -> Streamed {
        let frames = frames.into_iter().fold(FakeStream::grey(64, 64), |all, frame| all.frame(frame));
        stream::<Guidance>(frames).expect("played")
    }

    fn answer(played: &Streamed, index: usize) -> (f32, Vec<&str>) {
        let answer = played.answers[index].1.as_ref().expect("an answer");
        (answer.quality.expect("a quality"), answer.guidance.iter().map(|code| code.value.as_str()).collect())
    }

    #[test]
    fn a_still_image_of_tissue_is_good() {
        let played = played([Box::new(speckle(60, 0)) as Image, Box::new(speckle(60, 0))]);
        assert_eq!(answer(&played, 1), (1.0, vec![]));
        assert_eq!(played.summary.conclusions[0].frames, [1, 2]);
        assert_eq!(played.summary.quantities[0].value, 1.0);
    }

    #[test]
    fn each_fault_has_its_guidance() {
        let cases: [(&str, Image); 5] = [
            ("GAIN-UP", Box::new(speckle(9, 0))),
            ("GAIN-DOWN", Box::new(|x, y| if (x / 4 + y / 4) % 2 == 0 { 255 } else { 120 })),
            ("CONTACT", Box::new(|x, y| if x < 40 { 0 } else { speckle(60, 0)(x, y) })),
            ("FOCUS", Box::new(|x, y| (60 + (x + y) / 8) as u8)),
            ("NO-IMAGE", Box::new(|_, _| 0)),
        ];
        for (expected, frame) in cases {
            let played = played([frame]);
            let (quality, guidance) = answer(&played, 0);
            assert!(quality < 1.0 && guidance.first() == Some(&expected), "{expected}: {quality}, {guidance:?}");
        }
    }

    #[test]
    fn movement_is_a_rate_and_a_frozen_image_is_told() {
        let fast = played([Box::new(speckle(60, 0)) as Image, Box::new(speckle(60, 200))]);
        assert_eq!(answer(&fast, 1).1, ["SLOWER"]);
        let frames = FakeStream::grey(64, 64).frame(speckle(60, 0)).skip(9).frame(speckle(60, 200));
        let slower = stream::<Guidance>(frames).expect("played");
        assert!(answer(&slower, 1).0 > answer(&fast, 1).0, "the same change over ten frames is a tenth of the rate");
        let frozen = played((0..12).map(|_| Box::new(speckle(60, 0)) as Image));
        assert_eq!((answer(&frozen, 9).1, answer(&frozen, 10).1), (vec![], vec!["FROZEN"]));
    }

    #[test]
    fn what_it_knew_is_gone_when_it_is_begun_anew() {
        let frames = FakeStream::grey(64, 64).frame(speckle(60, 0)).restart().frame(speckle(60, 200));
        let played = stream::<Guidance>(frames).expect("played");
        assert_eq!(answer(&played, 1), (1.0, vec![]), "nothing to compare with");
        assert_eq!(played.summary.conclusions[0].frames, [3]);
        assert_eq!(played.log.len(), 1);
    }

    #[test]
    fn only_the_image_area_is_looked_at() {
        let area = Rectangle { column: 0, row: 0, columns: 32, rows: 64 };
        let half = |x, y| if x < 32 { speckle(60, 0)(x, y) } else { 255 };
        let played = stream::<Guidance>(FakeStream::grey(64, 64).area(area).frame(half)).expect("played");
        assert_eq!(answer(&played, 0), (1.0, vec![]));
    }
}
