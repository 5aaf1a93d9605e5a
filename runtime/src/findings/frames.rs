//! What a module says of the frames of a stream: `gantry:imaging/frames` of the contract.

use super::Code;

/// A box of pixels of one frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
pub struct Rectangle {
    /// First column, from 0.
    pub column: u32,
    /// First row, from 0.
    pub row: u32,
    /// Number of columns.
    pub columns: u32,
    /// Number of rows.
    pub rows: u32,
}

impl Rectangle {
    /// Whether it holds a pixel and lies in a frame of this size.
    #[must_use]
    pub fn fits(self, columns: u32, rows: u32) -> bool {
        let within = |start: u32, size: u32, of: u32| size > 0 && start.checked_add(size).is_some_and(|end| end <= of);
        within(self.column, self.columns, columns) && within(self.row, self.rows, rows)
    }

    /// Number of pixels.
    #[must_use]
    pub fn pixels(self) -> u64 {
        u64::from(self.columns) * u64::from(self.rows)
    }
}

/// What a frame shows.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct FrameLabel {
    /// What.
    pub what: Code,
    /// 0 to 1.
    pub probability: f32,
}

/// Where something lies in a frame.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct FrameBox {
    /// Inside the frame.
    pub place: Rectangle,
    /// What.
    pub what: Code,
    /// 0 to 1.
    pub probability: f32,
}

/// What a module says of one frame.
#[derive(Debug, Clone, Default, PartialEq, serde::Serialize)]
pub struct FrameAnswer {
    /// How good the image is for what the module does, 0 to 1.
    pub quality: Option<f32>,
    /// What it shows.
    pub labels: Vec<FrameLabel>,
    /// Where.
    pub boxes: Vec<FrameBox>,
    /// What whoever holds the probe may do, the most important first.
    pub guidance: Vec<Code>,
}

/// Something that frames show, said of the whole stream.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct Conclusion {
    /// What.
    pub finding: Code,
    /// 0 to 1.
    pub probability: f32,
    /// Frames that show it, by number from 1.
    pub frames: Vec<u32>,
}

/// A number about the whole stream.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct StreamQuantity {
    /// What was measured.
    pub quantity: Code,
    /// How much.
    pub value: f64,
    /// In UCUM.
    pub unit: String,
    /// Frames that it was measured in, by number from 1; empty for the whole stream.
    pub frames: Vec<u32>,
}

/// What a module says at the end of a stream.
#[derive(Debug, Clone, Default, PartialEq, serde::Serialize)]
pub struct StreamSummary {
    /// What was seen.
    pub conclusions: Vec<Conclusion>,
    /// What was measured.
    pub quantities: Vec<StreamQuantity>,
}

impl StreamSummary {
    /// Statements and frames that they name; limited by `findings_max`.
    #[must_use]
    pub fn count(&self) -> usize {
        let frames =
            self.conclusions.iter().map(|c| c.frames.len()).chain(self.quantities.iter().map(|q| q.frames.len()));
        self.conclusions.len() + self.quantities.len() + frames.sum::<usize>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_box_fits_when_it_holds_a_pixel_and_none_outside() {
        let fits = |column, row, columns, rows| Rectangle { column, row, columns, rows }.fits(4, 3);
        assert!(fits(0, 0, 4, 3) && fits(3, 2, 1, 1));
        assert!(!fits(0, 0, 0, 1) && !fits(4, 0, 1, 1) && !fits(1, 0, 4, 1) && !fits(u32::MAX, 0, 2, 1));
    }
}
