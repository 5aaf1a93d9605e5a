//! `[studies]`: when a study is taken to be complete.

use serde::{Deserialize, Serialize};

use super::Range;

/// Completion of studies.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct StudiesConfig {
    /// A study that nothing shows to be complete closes this long after its last instance.
    pub close_timer_ms: u64,
    /// Whether a study may close without anybody having said how many instances it has: its senders ended, no slice is
    /// missing between two others, and the Instance Numbers of each series run from 1 without a hole. Off, because
    /// scanners that send each series in an association of its own would see the first series closed as a study,
    /// analysed, and superseded by every series that follows; and a last slice that was lost leaves no hole.
    pub close_without_count: bool,
    /// Studies that are watched at once; more wait in the journal until others close.
    pub open_max: usize,
}

impl Default for StudiesConfig {
    fn default() -> Self {
        Self { close_timer_ms: 60_000, close_without_count: false, open_max: 10_000 }
    }
}

impl StudiesConfig {
    pub(super) fn ranges(&self) -> Vec<Range> {
        vec![
            ("close_timer_ms", self.close_timer_ms, 1, 24 * 3_600_000),
            ("open_max", self.open_max as u64, 1, 1_000_000),
        ]
    }
}
