//! `gantry:imaging/frames`: one image of a stream, lent to the guest for one call.

use std::sync::Arc;

use wasmtime::component::Resource;

use crate::findings::frames::{
    Conclusion, FrameAnswer, FrameBox, FrameLabel, Rectangle, StreamQuantity, StreamSummary,
};
use crate::geometry::Geometry;
use crate::sandbox::state::{Failure, JobState};
use crate::sandbox::stream_bindings::gantry::imaging::frames;
use crate::study::Picture;
use crate::volumes::Volume;

/// A frame as the guest holds it.
#[derive(Clone)]
pub struct FrameHandle {
    pub(in crate::sandbox) picture: Arc<Picture>,
    /// Distance between pixel centres along a row and along a column, mm.
    pub(in crate::sandbox) spacing_mm: Option<[f64; 2]>,
    pub(in crate::sandbox) number: u32,
    pub(in crate::sandbox) time_us: u64,
    pub(in crate::sandbox) skipped: u32,
}

impl frames::Host for JobState {}

impl frames::HostFrame for JobState {
    fn number(&mut self, this: Resource<FrameHandle>) -> wasmtime::Result<u32> {
        Ok(self.table.get(&this)?.number)
    }

    fn time_us(&mut self, this: Resource<FrameHandle>) -> wasmtime::Result<u64> {
        Ok(self.table.get(&this)?.time_us)
    }

    fn skipped(&mut self, this: Resource<FrameHandle>) -> wasmtime::Result<u32> {
        Ok(self.table.get(&this)?.skipped)
    }

    fn brightness(&mut self, this: Resource<FrameHandle>, what: frames::Rectangle) -> Result<Vec<u8>, Failure> {
        let what = Rectangle::from(what);
        let picture = self.table.get(&this)?.picture.clone();
        if !what.fits(picture.columns, picture.rows) {
            let (columns, rows) = (picture.columns, picture.rows);
            return Err(Failure::Invalid(format!(
                "{what:?} is empty or leaves the frame of {columns} × {rows} pixels"
            )));
        }
        self.check_read(what.pixels())?;
        let lines = picture.brightness.chunks_exact(picture.columns as usize);
        let lines = lines.skip(what.row as usize).take(what.rows as usize);
        let columns = what.column as usize..(what.column + what.columns) as usize;
        Ok(lines.flat_map(|line| &line[columns.clone()]).copied().collect())
    }

    fn volume(&mut self, this: Resource<FrameHandle>, channel: Option<u32>) -> Result<Resource<Volume>, Failure> {
        let frame = self.table.get(&this)?;
        let picture = &frame.picture;
        let voxels = match (channel, &picture.colours) {
            (None, _) | (Some(0), None) => picture.brightness.clone(),
            (Some(channel @ 0..3), Some(colours)) => {
                colours.iter().skip(channel as usize).step_by(3).copied().collect()
            }
            (Some(channel), colours) => {
                let have = if colours.is_some() { 3 } else { 1 };
                return Err(Failure::Invalid(format!("there is no channel {channel}: the frame has {have}")));
            }
        };
        let [x, y] = frame.spacing_mm.unwrap_or([1.0, 1.0]);
        let axes = [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]];
        let size = [picture.columns as usize, picture.rows as usize, 1];
        let grid = Geometry::new(size, [x, y, 1.0], [0.0; 3], axes).map_err(crate::volumes::VolumeError::from)?;
        let volume = Volume::from_u8(grid, voxels, &self.budget)?;
        self.push(volume)
    }

    fn drop(&mut self, this: Resource<FrameHandle>) -> wasmtime::Result<()> {
        self.table.delete(this)?;
        Ok(())
    }
}

impl From<frames::Rectangle> for Rectangle {
    fn from(r: frames::Rectangle) -> Self {
        Self { column: r.column, row: r.row, columns: r.columns, rows: r.rows }
    }
}

impl From<Rectangle> for frames::Rectangle {
    fn from(r: Rectangle) -> Self {
        Self { column: r.column, row: r.row, columns: r.columns, rows: r.rows }
    }
}

impl From<frames::Answer> for FrameAnswer {
    fn from(answer: frames::Answer) -> Self {
        let label = |l: frames::Label| FrameLabel { what: l.what.into(), probability: l.probability };
        let located =
            |b: frames::Located| FrameBox { place: b.place.into(), what: b.what.into(), probability: b.probability };
        Self {
            quality: answer.quality,
            labels: answer.labels.into_iter().map(label).collect(),
            boxes: answer.boxes.into_iter().map(located).collect(),
            guidance: answer.guidance.into_iter().map(Into::into).collect(),
        }
    }
}

impl From<frames::Summary> for StreamSummary {
    fn from(summary: frames::Summary) -> Self {
        let conclusion = |c: frames::Conclusion| Conclusion {
            finding: c.finding.into(),
            probability: c.probability,
            frames: c.frames,
        };
        let quantity = |q: frames::Quantity| StreamQuantity {
            quantity: q.quantity.into(),
            value: q.value,
            unit: q.unit,
            frames: q.frames,
        };
        Self {
            conclusions: summary.conclusions.into_iter().map(conclusion).collect(),
            quantities: summary.quantities.into_iter().map(quantity).collect(),
        }
    }
}
