//! How long something took, over many times.

use std::time::Duration;

use crate::metrics::nearest_rank;

/// Durations of a stream, in microseconds each.
#[derive(Debug, Default)]
pub(super) struct Times(Vec<u32>);

/// What is told of them, ms.
#[derive(Debug, Clone, Copy, Default, PartialEq, serde::Serialize)]
pub struct Percentiles {
    /// Half were not longer.
    pub p50: f64,
    /// Nine of ten were not longer.
    pub p90: f64,
    /// 99 of 100 were not longer.
    pub p99: f64,
    /// The longest.
    pub max: f64,
}

impl Times {
    pub(super) fn push(&mut self, took: Duration) {
        self.0.push(u32::try_from(took.as_micros()).unwrap_or(u32::MAX));
    }

    /// The mean difference from one to the next, ms: how irregularly answers come.
    pub(super) fn jitter_ms(&self) -> f64 {
        let steps = self.0.windows(2).map(|pair| f64::from(pair[0].abs_diff(pair[1])));
        let count = self.0.len().saturating_sub(1).max(1);
        steps.sum::<f64>() / count as f64 / 1e3
    }

    /// All 0 where there are none.
    pub(super) fn percentiles(&self) -> Percentiles {
        let mut sorted = self.0.clone();
        sorted.sort_unstable();
        let at = |percent| nearest_rank(&sorted, percent).map_or(0.0, |us| f64::from(us) / 1e3);
        Percentiles { p50: at(50), p90: at(90), p99: at(99), max: at(100) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn times(ms: impl IntoIterator<Item = u64>) -> Times {
        let mut times = Times::default();
        ms.into_iter().for_each(|ms| times.push(Duration::from_millis(ms)));
        times
    }

    #[test]
    fn percentiles_are_times_that_occurred() {
        let told = times((1..=200).rev()).percentiles();
        assert_eq!((told.p50, told.p90, told.p99, told.max), (100.0, 180.0, 198.0, 200.0));
        let one = times([7]).percentiles();
        assert_eq!((one.p50, one.p99, one.max), (7.0, 7.0, 7.0));
        assert_eq!(times([]).percentiles(), Percentiles::default());
    }

    #[test]
    fn jitter_is_the_mean_step() {
        assert_eq!(times([5, 5, 5]).jitter_ms(), 0.0);
        assert_eq!(times([5, 7, 3]).jitter_ms(), 3.0);
        assert_eq!((times([]).jitter_ms(), times([9]).jitter_ms()), (0.0, 0.0));
    }
}
