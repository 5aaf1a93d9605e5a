//! What a module concluded, in types: the only thing that leaves the sandbox.

pub mod frames;
mod urgency;

use crate::geometry::Region;
use crate::volumes::Volume;

pub use self::urgency::Urgency;

/// A coded concept (PS3.3 section 8.8).
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Code {
    /// Code Value (0008,0100).
    pub value: String,
    /// Coding Scheme Designator (0008,0102).
    pub scheme: String,
    /// Code Meaning (0008,0104).
    pub meaning: String,
}

impl Code {
    /// A code from its three parts.
    #[must_use]
    pub fn new(value: &str, scheme: &str, meaning: &str) -> Self {
        Self { value: value.into(), scheme: scheme.into(), meaning: meaning.into() }
    }
}

/// A triage statement: moves the study up.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Triage {
    /// How far up.
    pub level: Urgency,
    /// For what.
    pub finding: Code,
    /// 0 to 1.
    pub probability: f32,
    /// For people.
    pub reason: String,
}

/// A finding about the whole study.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Classification {
    /// What.
    pub finding: Code,
    /// 0 to 1.
    pub probability: f32,
}

/// A number with its unit.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Measurement {
    /// What was measured.
    pub quantity: Code,
    /// How much.
    pub value: f64,
    /// In UCUM: `mL`, `mm`, `1`.
    pub unit: String,
    /// The voxel value of the segment that it belongs to, if to one.
    pub segment: Option<u32>,
}

/// One segment of a [`Segmentation`] (PS3.3 C.8.20.4).
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct Segment {
    /// The voxel value that marks it, from 1.
    pub value: u32,
    /// Segment Label (0062,0005).
    pub name: String,
    /// Segmented Property Category.
    pub category: Code,
    /// Segmented Property Type.
    pub kind: Code,
    /// Mean probability of its voxels, 0 to 1.
    pub confidence: Option<f32>,
}

/// A label volume and what its values mean.
#[derive(Debug, Clone)]
pub struct Segmentation {
    /// Voxel values name segments; 0 is background.
    pub labels: Volume,
    /// In the order in which they were stated.
    pub segments: Vec<Segment>,
}

/// How probable it is, voxel for voxel, that it belongs to a segment.
#[derive(Debug, Clone)]
pub struct Probabilities {
    /// The voxel value of the segment.
    pub segment: u32,
    /// 0 to 1, on the grid of the labels.
    pub values: Volume,
}

/// How strongly each voxel speaks for what the module looks for.
#[derive(Debug, Clone)]
pub struct Heatmap {
    /// Finite values.
    pub values: Volume,
    /// For people.
    pub title: String,
}

/// A box in which something lies.
#[derive(Debug, Clone, PartialEq)]
pub struct Mark {
    /// Of the first volume that the module was given.
    pub region: Region,
    /// What.
    pub label: Code,
    /// 0 to 1.
    pub probability: f32,
}

/// The input is not fit for the module.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Unfit {
    /// Why, coded.
    pub reason: Code,
    /// Why, for people.
    pub detail: String,
}

/// One line of a module's log.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct LogLine {
    /// `debug`, `info` or `warn`.
    pub level: &'static str,
    /// Control characters replaced by spaces, so that a line stays a line.
    pub message: String,
}

/// Everything that a module stated in one job, in order.
#[derive(Debug, Clone, Default)]
pub struct Findings {
    /// At most one.
    pub segmentation: Option<Segmentation>,
    /// At most one for each segment.
    pub probabilities: Vec<Probabilities>,
    /// Numbers.
    pub measurements: Vec<Measurement>,
    /// About the whole study.
    pub classifications: Vec<Classification>,
    /// Reasons to look sooner.
    pub triage: Vec<Triage>,
    /// At most one.
    pub heatmap: Option<Heatmap>,
    /// Boxes.
    pub marks: Vec<Mark>,
    /// Set when the input was not fit; everything else is then empty.
    pub unfit: Option<Unfit>,
}

impl Findings {
    /// How many statements there are; limited by `findings_max`.
    #[must_use]
    pub fn count(&self) -> usize {
        self.segmentation.as_ref().map_or(0, |s| s.segments.len())
            + self.probabilities.len()
            + self.measurements.len()
            + self.classifications.len()
            + self.triage.len()
            + usize::from(self.heatmap.is_some())
            + self.marks.len()
            + usize::from(self.unfit.is_some())
    }
}
