//! Warnings of which peers can cause as many as they like: some a minute are told, the rest is counted.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

const PERIOD: Duration = Duration::from_secs(60);
/// Told within [`PERIOD`].
const TOLD_MAX: u32 = 10;

#[derive(Debug, Default)]
pub(super) struct Warnings(Mutex<Told>);

#[derive(Debug, Default)]
struct Told {
    since: Option<Instant>,
    told: u32,
    untold: u64,
}

impl Warnings {
    /// Whether one may be told now; then how many were not told before it.
    pub(super) fn may(&self, now: Instant) -> Option<u64> {
        let mut told = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if told.since.is_none_or(|since| now.duration_since(since) >= PERIOD) {
            (told.since, told.told) = (Some(now), 0);
        }
        if told.told >= TOLD_MAX {
            told.untold += 1;
            return None;
        }
        told.told += 1;
        Some(std::mem::take(&mut told.untold))
    }

    /// Tells what may be told.
    pub(super) fn warn(&self, what: &str) {
        match self.may(Instant::now()) {
            Some(0) => tracing::warn!("hl7: {what}"),
            Some(untold) => tracing::warn!("hl7: {what}; {untold} warnings before this one were not told"),
            None => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_told_by_time_and_not_by_its_size() {
        let (warnings, start) = (Warnings::default(), Instant::now());
        let told = (0..10_000).filter_map(|n| warnings.may(start + Duration::from_millis(n))).collect::<Vec<_>>();
        assert_eq!(told, [0; 10]);
        assert_eq!(warnings.may(start + PERIOD), Some(9_990), "the next minute tells how many");
        assert_eq!(warnings.may(start + PERIOD), Some(0));
    }
}
