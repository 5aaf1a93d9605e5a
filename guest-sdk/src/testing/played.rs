//! Fake streams, for modules that look at frames.

use std::fmt;
use std::rc::Rc;

use super::{FakeStudy, Line, PlayModel};
use crate::error::Error;
use crate::fake::{self, Job};
use crate::frames::{Answer, Frame, FrameAnalyzer, Rectangle, StreamInfo, Summary};
use crate::tensor::Tensor;

/// A stream of made-up frames: 30 a second, unless changed.
pub struct FakeStream {
    info: StreamInfo,
    steps: Vec<Step>,
    models: Vec<(String, Rc<PlayModel>)>,
}

#[derive(Debug)]
enum Step {
    Frame(Vec<Vec<u8>>),
    Skip(u32),
    Restart,
}

/// What a module said of a fake stream.
#[derive(Debug, Clone, PartialEq)]
pub struct Streamed {
    /// Of each frame that it was lent, by number.
    pub answers: Vec<(u32, Result<Answer, Error>)>,
    /// At the end.
    pub summary: Summary,
    /// Lines of the log.
    pub log: Vec<Line>,
}

/// Plays a fake stream to a module.
///
/// # Errors
///
/// What `open` or `close` returned, and `invalid` for an answer that the host would refuse. What `next` returned is among the
/// answers.
pub fn stream<A: FrameAnalyzer>(played: FakeStream) -> Result<Streamed, Error> {
    let FakeStream { mut info, steps, models } = played;
    let (mut answers, mut summary) = (Vec::new(), None);
    let job = FakeStudy { models, ..FakeStudy::default() };
    let stated = Job::run(job, || {
        let mut analyzer = A::open(&info)?;
        let (mut number, mut skipped) = (0, 0);
        for step in steps {
            match step {
                Step::Skip(frames) => (number, skipped) = (number + frames, skipped + frames),
                Step::Restart => {
                    // The frame that it did not answer.
                    (number, skipped) = (number + 1, skipped + 1);
                    info.restarts += 1;
                    analyzer = A::open(&info)?;
                }
                Step::Frame(channels) => {
                    number += 1;
                    let frame = fake::stream::Frame {
                        columns: info.columns,
                        rows: info.rows,
                        spacing_mm: info.pixel_spacing_mm,
                        number,
                        time_us: u64::from(number - 1) * info.interval_us,
                        skipped,
                        channels,
                    };
                    let answer = analyzer.next(&Frame(&frame));
                    skipped = if answer.is_ok() { 0 } else { skipped + 1 };
                    answer.as_ref().map_or(Ok(()), |answer| fake::judge(answer, &info))?;
                    answers.push((number, answer));
                }
            }
        }
        summary = Some(analyzer.close()?);
        Ok::<(), Error>(())
    })?;
    let summary = summary.expect("it was asked for before `run` ended well");
    Ok(Streamed { answers, summary, log: stated.log })
}

impl FakeStream {
    /// Of grey frames of this size.
    #[must_use]
    pub fn grey(columns: u32, rows: u32) -> Self {
        Self::new(columns, rows, 1)
    }

    /// Of frames of this size with red, green and blue.
    #[must_use]
    pub fn colour(columns: u32, rows: u32) -> Self {
        Self::new(columns, rows, 3)
    }

    fn new(columns: u32, rows: u32, channels: u32) -> Self {
        let info = StreamInfo {
            columns,
            rows,
            channels,
            interval_us: 33_333,
            budget_ms: 33,
            restarts: 0,
            pixel_spacing_mm: None,
            image_areas: Vec::new(),
        };
        Self { info, steps: Vec::new(), models: Vec::new() }
    }

    /// Whose pixels are so many mm apart along a row and along a column.
    #[must_use]
    pub fn spacing_mm(mut self, along_row: f64, along_column: f64) -> Self {
        self.info.pixel_spacing_mm = Some((along_row, along_column));
        self
    }

    /// With one more place that shows tissue. The host blackens what is outside of all; the fake plays frames as they are given.
    #[must_use]
    pub fn area(mut self, area: Rectangle) -> Self {
        self.info.image_areas.push(area);
        self
    }

    /// With one more frame: `value(column, row)`, in each channel of a colour stream.
    #[must_use]
    pub fn frame(self, value: impl Fn(u32, u32) -> u8) -> Self {
        let pixels = |info: &StreamInfo| {
            let rows = 0..info.rows;
            rows.flat_map(|row| (0..info.columns).map(move |column| (column, row)))
                .map(|(column, row)| value(column, row))
                .collect::<Vec<_>>()
        };
        let channels = vec![pixels(&self.info); self.info.channels as usize];
        self.step(Step::Frame(channels))
    }

    /// With one more frame of a colour stream: `value(column, row)` is red, green and blue.
    #[must_use]
    pub fn frame_of_colours(self, value: impl Fn(u32, u32) -> [u8; 3]) -> Self {
        let mut channels = vec![Vec::new(); 3];
        for row in 0..self.info.rows {
            for column in 0..self.info.columns {
                channels.iter_mut().zip(value(column, row)).for_each(|(channel, sample)| channel.push(sample));
            }
        }
        self.step(Step::Frame(channels))
    }

    /// The module is not lent the next so many frames.
    #[must_use]
    pub fn skip(self, frames: u32) -> Self {
        self.step(Step::Skip(frames))
    }

    /// The module is ended in the middle of the next frame, as one that is late, and begun anew.
    #[must_use]
    pub fn restart(self) -> Self {
        self.step(Step::Restart)
    }

    /// With a model that `play` stands in for: see [`FakeStudy::model`].
    #[must_use]
    pub fn model(
        mut self,
        name: &str,
        play: impl Fn(&[(String, Tensor)]) -> Result<Vec<(String, Tensor)>, String> + 'static,
    ) -> Self {
        self.models.push((name.into(), Rc::new(play)));
        self
    }

    fn step(mut self, step: Step) -> Self {
        self.steps.push(step);
        self
    }
}

impl fmt::Debug for FakeStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let models: Vec<&String> = self.models.iter().map(|(name, _)| name).collect();
        f.debug_struct("FakeStream")
            .field("info", &self.info)
            .field("steps", &self.steps)
            .field("models", &models)
            .finish()
    }
}
