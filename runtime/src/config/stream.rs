//! `[stream]`: what `gantry stream` lets a module have of time and memory, frame by frame.

use serde::{Deserialize, Serialize};

use super::Range;

/// Limits of streams, beside those of `[limits]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct StreamConfig {
    /// From handing a frame to a module to its answer. A frame that is answered later is missed.
    pub frame_budget_ms: u32,
    /// From the start of an instance to the end of `open`, and the same for `close`.
    pub open_deadline_ms: u64,
    /// Frames that are missed one after another, with no answer between them: so many end the stream.
    pub faults_in_a_row_max: u32,
    /// Labels, boxes and guidance of one answer together.
    pub findings_per_frame_max: usize,
    /// Frames that are decoded before they are due.
    pub frames_ahead_max: usize,
    /// Memory of these, of each stream.
    pub frames_ahead_mib: u64,
    /// Frames of a stream, repeated ones included.
    pub frames_max: u64,
}

impl Default for StreamConfig {
    fn default() -> Self {
        Self {
            frame_budget_ms: 33,
            open_deadline_ms: 10_000,
            faults_in_a_row_max: 10,
            findings_per_frame_max: 64,
            frames_ahead_max: 8,
            frames_ahead_mib: 256,
            frames_max: 1_000_000,
        }
    }
}

impl StreamConfig {
    /// Name, value, and the least and the most that makes sense, of each limit.
    pub(super) fn ranges(&self) -> Vec<Range> {
        // Taken apart, so that a limit without a range does not compile.
        let Self {
            frame_budget_ms,
            open_deadline_ms,
            faults_in_a_row_max,
            findings_per_frame_max,
            frames_ahead_max,
            frames_ahead_mib,
            frames_max,
        } = self.clone();
        vec![
            // A guest is looked at every 5 ms.
            ("frame_budget_ms", frame_budget_ms.into(), 5, 60_000),
            ("open_deadline_ms", open_deadline_ms, 1, 3_600_000),
            ("faults_in_a_row_max", faults_in_a_row_max.into(), 1, 1_000_000),
            ("findings_per_frame_max", findings_per_frame_max as u64, 1, 100_000),
            ("frames_ahead_max", frames_ahead_max as u64, 1, 10_000),
            ("frames_ahead_mib", frames_ahead_mib, 1, 1 << 16),
            ("frames_max", frames_max, 1, 100_000_000),
        ]
    }
}
