//! `[worklist]`: which studies are open, and who is told of workitems.

use serde::{Deserialize, Serialize};

use super::Range;

/// The worklist and UPS-RS (PS3.18 chapter 11), on the port of `[web]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct WorklistConfig {
    /// Worklist Label (0074,1202) of every workitem.
    pub label: String,
    /// How long a study stays on the worklist after its last instance and the end of its last job.
    pub open_hours: u64,
    /// Body of one request to `/api` or UPS-RS.
    pub request_max_kib: u64,
    /// Subscriptions to workitems, of all subscribers together.
    pub subscriptions_max: u64,
    /// Connections at once over which event reports are sent.
    pub channels_max: usize,
    /// Event reports that wait for one subscriber; one that is further behind loses its connection.
    pub events_waiting_max: usize,
    /// How often the journal is asked for what is to be told.
    pub poll_ms: u64,
    /// A subscriber that says nothing for so long is asked whether it is there, and let go after as long again.
    pub ping_ms: u64,
}

impl Default for WorklistConfig {
    fn default() -> Self {
        Self {
            label: "GANTRY".into(),
            open_hours: 72,
            request_max_kib: 64,
            subscriptions_max: 10_000,
            channels_max: 64,
            events_waiting_max: 1000,
            poll_ms: 250,
            ping_ms: 30_000,
        }
    }
}

impl WorklistConfig {
    pub(super) fn ranges(&self) -> Vec<Range> {
        vec![
            ("open_hours", self.open_hours, 1, 8760),
            ("request_max_kib", self.request_max_kib, 1, 1024),
            ("subscriptions_max", self.subscriptions_max, 1, 1_000_000),
            ("channels_max", self.channels_max as u64, 1, 10_000),
            ("events_waiting_max", self.events_waiting_max as u64, 16, 10_000),
            ("poll_ms", self.poll_ms, 10, 60_000),
            ("ping_ms", self.ping_ms, 1, 3_600_000),
        ]
    }

    pub(super) fn check(&self) -> Result<(), String> {
        let plain = |c: char| !c.is_control() && c != '\\';
        match (1..=64).contains(&self.label.chars().count()) && self.label.chars().all(plain) {
            true => Ok(()),
            false => Err(format!("worklist.label = {:?}: 1 to 64 characters without `\\`", self.label)),
        }
    }

    /// Studies of which nothing came and no job ended since then have left the worklist.
    #[must_use]
    pub fn open_since_ms(&self, now_ms: i64) -> i64 {
        let hours = i64::try_from(self.open_hours).unwrap_or(i64::MAX);
        now_ms.saturating_sub(hours.saturating_mul(3_600_000))
    }
}
