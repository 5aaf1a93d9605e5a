//! Frames of a made-up stream.

use super::grid::{Volume, invalid};
use crate::frames::{Answer, Rectangle, StreamInfo};
use crate::types::{Extent, Failure, Geometry, Vec3};

/// One frame in the fake host's memory: grey, or three channels.
#[derive(Debug, Clone)]
pub(crate) struct Frame {
    pub(crate) columns: u32,
    pub(crate) rows: u32,
    pub(crate) spacing_mm: Option<(f64, f64)>,
    pub(crate) number: u32,
    pub(crate) time_us: u64,
    pub(crate) skipped: u32,
    pub(crate) channels: Vec<Vec<u8>>,
}

impl Frame {
    pub(crate) fn number(&self) -> u32 {
        self.number
    }

    pub(crate) fn time_us(&self) -> u64 {
        self.time_us
    }

    pub(crate) fn skipped(&self) -> u32 {
        self.skipped
    }

    fn bright(&self, pixel: usize) -> u8 {
        match &self.channels[..] {
            [r, g, b] => {
                let [r, g, b] = [r, g, b].map(|channel| u32::from(channel[pixel]));
                ((77 * r + 150 * g + 29 * b) >> 8) as u8
            }
            channels => channels[0][pixel],
        }
    }

    pub(crate) fn brightness(&self, what: Rectangle) -> Result<Vec<u8>, Failure> {
        if !fits(what, self.columns, self.rows) {
            return invalid(format!("{what:?} is empty or leaves a frame of {} × {}", self.columns, self.rows));
        }
        let mut pixels = Vec::with_capacity(what.pixels());
        for row in what.row..what.row + what.rows {
            for column in what.column..what.column + what.columns {
                pixels.push(self.bright((row * self.columns + column) as usize));
            }
        }
        Ok(pixels)
    }

    pub(crate) fn volume(&self, channel: Option<u32>) -> Result<Volume, Failure> {
        let count = self.columns as usize * self.rows as usize;
        let voxels: Vec<u8> = match channel {
            None => (0..count).map(|pixel| self.bright(pixel)).collect(),
            Some(n) => match self.channels.get(n as usize) {
                Some(channel) => channel.clone(),
                None => return invalid(format!("there is no channel {n}: the frame has {}", self.channels.len())),
            },
        };
        let (x, y) = self.spacing_mm.unwrap_or((1.0, 1.0));
        let grid = Geometry::upright(Extent::new(self.columns, self.rows, 1), Vec3::new(x, y, 1.0));
        Volume::new(grid, voxels.into_iter().map(f32::from).collect())
    }
}

fn fits(what: Rectangle, columns: u32, rows: u32) -> bool {
    let within = |start: u32, size: u32, of: u32| size > 0 && start.checked_add(size).is_some_and(|end| end <= of);
    within(what.column, what.columns, columns) && within(what.row, what.rows, rows)
}

/// What the host's gate refuses of an answer.
pub(crate) fn judge(answer: &Answer, info: &StreamInfo) -> Result<(), Failure> {
    let labels = answer.labels.iter().map(|label| label.probability);
    let boxes = answer.boxes.iter().map(|found| found.probability);
    for value in answer.quality.into_iter().chain(labels).chain(boxes) {
        if !(0.0..=1.0).contains(&value) {
            return invalid(format!("{value} is not in 0..=1"));
        }
    }
    match answer.boxes.iter().find(|found| !fits(found.place, info.columns, info.rows)) {
        Some(found) => invalid(format!("the box {:?} is empty or leaves the frame", found.place)),
        None => Ok(()),
    }
}
