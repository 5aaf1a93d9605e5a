//! `[outputs]`: which objects a result has beyond those that every finding has.

use serde::{Deserialize, Serialize};

/// What is written. A finding is in the SEG, the SR and the presentation state in any case, and in `result.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct OutputsConfig {
    /// A key slice with what was found drawn into it, for archives and viewers that show nothing else.
    pub secondary_capture: bool,
    /// The values of a heatmap as they are: four bytes for each voxel of the source.
    pub parametric_map: bool,
    /// Probabilities of segments: a byte for each voxel of the slices in which a segment has any.
    pub fractional_segmentation: bool,
}

impl Default for OutputsConfig {
    fn default() -> Self {
        Self { secondary_capture: false, parametric_map: true, fractional_segmentation: true }
    }
}
