//! Looks at frames, and does with each what its first pixel says: a test writes the images. The quality that it states is how many
//! frames it answered since it was begun, in hundredths, and a label how many were skipped.

use std::hint::black_box;

use gantry_guest::frames::{Answer, Frame, FrameAnalyzer, Rectangle, StreamInfo, Summary};
use gantry_guest::prelude::*;

struct Obedient {
    restarts: u32,
    answered: u32,
    numbers: Vec<u32>,
    hoard: Vec<Volume>,
    memory: Vec<Vec<u8>>,
    /// What to do in `close`.
    end: u8,
}

impl FrameAnalyzer for Obedient {
    fn open(info: &StreamInfo) -> Result<Self, Error> {
        info!("opened, {} restarts", info.restarts);
        let (numbers, hoard, memory) = Default::default();
        Ok(Self { restarts: info.restarts, answered: 0, numbers, hoard, memory, end: 0 })
    }

    fn next(&mut self, frame: &Frame<'_>) -> Result<Answer, Error> {
        let word = frame.brightness(Rectangle { column: 0, row: 0, columns: 1, rows: 1 })?[0];
        let skipped = frame.skipped() as f32 / 100.0;
        let answer = Answer::of_quality((self.answered + 1) as f32 / 100.0)
            .label(rogue::code("SKIPPED", "Hundredths of skipped frames"), skipped);
        let answer = match word {
            // Longer than any budget.
            1 => loop {
                black_box(());
            },
            2 => rogue::trap(),
            3 => return Err("frame refused".into()),
            4 => Answer { quality: Some(f32::NAN), ..answer },
            5 => answer.locate(
                Rectangle { column: 0, row: 0, columns: u32::MAX, rows: 1 },
                rogue::code("BOX", "A box"),
                1.0,
            ),
            6 => {
                for _ in 0..100 {
                    self.hoard.push(frame.volume(None)?);
                }
                answer
            }
            7 => {
                self.memory.push(vec![1; 16 << 20]);
                answer
            }
            8 => (0..1000).fold(answer, |answer, _| answer.guide(rogue::code("MUCH", "Much"))),
            // Outside of the frame.
            9 => {
                let outside = frame.brightness(Rectangle { column: 1, row: 0, columns: u32::MAX, rows: 1 });
                rogue::invalid("brightness outside", outside)?;
                rogue::invalid("a channel that is none", frame.volume(Some(3)))?;
                answer.guide(rogue::code("REFUSED", "Every call was refused"))
            }
            10 => panic!("as told"),
            11 => {
                let outputs = Model::load("net")?.run([("x", rogue::input())])?;
                answer.guide(rogue::code("RAN", &format!("{} values", outputs.get("y")?.to_f32()?.len())))
            }
            // As bright as the frame is, on the way of a network's input.
            12 => {
                let tensor = frame.volume(None)?.affine(1.0 / 255.0, 0.0)?.to_slice_tensor(TensorType::Fp32)?;
                let mean = tensor.to_f32()?.iter().sum::<f32>() / tensor.dimensions().iter().product::<u32>() as f32;
                answer.label(rogue::code("MEAN", "Brightness"), mean)
            }
            end @ 100.. => {
                self.end = end;
                answer
            }
            _ => answer.guide(rogue::code("FINE", "Fine")),
        };
        self.answered += 1;
        // What the gate refuses is no answer, and a stream may be played again.
        if !matches!(word, 4 | 5 | 8) && !self.numbers.contains(&frame.number()) {
            self.numbers.push(frame.number());
        }
        Ok(answer)
    }

    fn close(self) -> Result<Summary, Error> {
        let frames = match self.end {
            100 => return Err("no summary".into()),
            101 => rogue::trap(),
            102 => vec![10_000],
            103 => loop {
                black_box(());
            },
            _ => self.numbers,
        };
        let summary = Summary::new().conclude(rogue::code("ANSWERED", "Answered frames"), 1.0, frames);
        Ok(summary.measure(rogue::code("RESTARTS", "Restarts"), self.restarts.into(), "1", Vec::new()))
    }
}

gantry_guest::export_frames!(Obedient);
