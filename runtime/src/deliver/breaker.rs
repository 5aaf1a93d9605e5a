//! When a destination is left alone, and when a delivery is tried again. Pure: time and chance come from outside.

use std::time::{Duration, Instant};

use crate::config::DestinationConfig;

/// Leaves a destination alone for a while after attempts failed one after another. Then one attempt is made; when it fails too,
/// the while is twice as long, up to `retry_max_ms`.
#[derive(Debug)]
pub(super) struct Breaker {
    failures_max: u32,
    first: Duration,
    most: Duration,
    /// One after another, the last one included.
    failures: u32,
    open: Option<Open>,
}

#[derive(Debug, Clone, Copy)]
struct Open {
    until: Instant,
    lasts: Duration,
}

impl Breaker {
    pub(super) fn new(to: &DestinationConfig) -> Self {
        let most = Duration::from_millis(to.retry_max_ms);
        let first = Duration::from_millis(to.breaker_open_ms);
        Self { failures_max: to.breaker_failures_max, first, most: most.max(first), failures: 0, open: None }
    }

    /// Until when nothing is to be tried; nothing where an attempt may be made.
    pub(super) fn closed_from(&self, now: Instant) -> Option<Instant> {
        self.open.map(|open| open.until).filter(|until| *until > now)
    }

    /// Whether the destination is left alone, but for single attempts.
    pub(super) fn is_open(&self) -> bool {
        self.open.is_some()
    }

    /// It has what it was sent, or said that it never takes it.
    pub(super) fn answered(&mut self) {
        self.failures = 0;
        self.open = None;
    }

    /// An attempt failed for a cause that may pass.
    pub(super) fn failed(&mut self, now: Instant) {
        self.failures = self.failures.saturating_add(1);
        if self.failures >= self.failures_max {
            let lasts = self.open.map_or(self.first, |open| (open.lasts * 2).min(self.most));
            self.open = Some(Open { until: now + lasts, lasts });
        }
    }
}

/// From the `attempt`th attempt, counted from 1, to the next one: twice as long each time, up to a limit, and by chance (0 to 1) up to
/// half less, so that what failed together does not come back together.
pub(super) fn pause_ms(to: &DestinationConfig, attempt: u32, chance: f64) -> i64 {
    let doublings = attempt.saturating_sub(1).min(32);
    let pause = to.retry_first_ms.saturating_mul(1 << doublings).min(to.retry_max_ms);
    let part = 1.0 - 0.5 * chance.clamp(0.0, 1.0);
    #[expect(clippy::cast_precision_loss, clippy::cast_possible_truncation, reason = "a day at most")]
    let pause = (pause as f64 * part) as i64;
    pause.max(1)
}

/// 0 to 1, evenly.
pub(super) fn chance() -> f64 {
    use std::hash::{BuildHasher, Hasher};
    // Each has keys of its own, by chance.
    let bits = std::collections::hash_map::RandomState::new().build_hasher().finish();
    #[expect(clippy::cast_precision_loss, reason = "chance needs no more")]
    let part = bits as f64 / u64::MAX as f64;
    part
}

#[cfg(test)]
mod tests {
    use super::*;

    fn to() -> DestinationConfig {
        DestinationConfig {
            retry_first_ms: 1000,
            retry_max_ms: 60_000,
            breaker_failures_max: 3,
            breaker_open_ms: 20_000,
            ..DestinationConfig::default()
        }
    }

    #[test]
    fn pauses_double_up_to_a_limit_and_differ() {
        let pauses = [1, 2, 3, 6, 7, 8, 1000, u32::MAX].map(|attempt| pause_ms(&to(), attempt, 0.0));
        assert_eq!(pauses, [1000, 2000, 4000, 32_000, 60_000, 60_000, 60_000, 60_000]);
        assert_eq!(pause_ms(&to(), 2, 1.0), 1000);
        let chances = [(); 100].map(|()| chance());
        assert!(chances.iter().all(|chance| (0.0..=1.0).contains(chance)));
        let (low, high) = (chances.iter().any(|c| *c < 0.4), chances.iter().any(|c| *c > 0.6));
        assert!(low && high, "{chances:?}");
    }

    #[test]
    fn a_destination_that_fails_is_left_alone_for_longer_and_longer_until_it_answers() {
        let (mut breaker, start) = (Breaker::new(&to()), Instant::now());
        let at = |seconds| start + Duration::from_secs(seconds);
        breaker.failed(at(0));
        breaker.failed(at(0));
        assert_eq!((breaker.closed_from(at(0)), breaker.is_open()), (None, false));
        breaker.failed(at(0));
        assert_eq!((breaker.closed_from(at(0)), breaker.is_open()), (Some(at(20)), true));
        assert_eq!(breaker.closed_from(at(20)), None, "one attempt");
        assert!(breaker.is_open());
        for (now, until) in [(20, 60), (60, 120), (120, 180)] {
            breaker.failed(at(now));
            assert_eq!(breaker.closed_from(at(now)), Some(at(until)));
        }
        breaker.answered();
        assert_eq!((breaker.closed_from(at(121)), breaker.is_open()), (None, false));
        breaker.failed(at(200));
        assert!(!breaker.is_open(), "it counts from the beginning");
    }
}
