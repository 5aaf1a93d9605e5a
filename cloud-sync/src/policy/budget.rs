//! `[limits]`: how much may leave in an hour and in a day. Both are the last 60 minutes and 24 hours, at any moment.

use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};

use super::PolicyError;

pub(super) const MIB: u64 = 1 << 20;
const MAX_MIB: u64 = 64 << 20;
const MINUTE_S: i64 = 60;

/// How much may leave.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// In any 60 minutes, 1 to 67,108,864 MiB; without it no limit.
    pub hourly_max_mib: Option<u64>,
    /// In any 24 hours, 1 to 67,108,864 MiB; without it no limit.
    pub daily_max_mib: Option<u64>,
}

impl Limits {
    pub(super) fn check(&self) -> Result<(), PolicyError> {
        let keys = [("limits.hourly_max_mib", self.hourly_max_mib), ("limits.daily_max_mib", self.daily_max_mib)];
        match keys.into_iter().find(|(_, most)| !most.is_none_or(|most| (1..=MAX_MIB).contains(&most))) {
            Some((key, _)) => Err(PolicyError::range(key, "1 to 67108864")),
            None => Ok(()),
        }
    }

    /// The smaller one, MiB.
    pub(super) fn least(&self) -> Option<(&'static str, u64)> {
        let keys = [("limits.hourly_max_mib", self.hourly_max_mib), ("limits.daily_max_mib", self.daily_max_mib)];
        keys.into_iter().filter_map(|(key, most)| Some((key, most?))).min_by_key(|(_, most)| *most)
    }

    fn spans(&self) -> impl Iterator<Item = (TimeDelta, u64)> {
        let spans = [(TimeDelta::hours(1), self.hourly_max_mib), (TimeDelta::hours(24), self.daily_max_mib)];
        spans.into_iter().filter_map(|(span, most)| Some((span, most?.saturating_mul(MIB))))
    }

    /// How many bytes may leave now; nothing where there is no limit.
    #[must_use]
    pub fn room(&self, sent: &Ledger, now: DateTime<Utc>) -> Option<u64> {
        self.spans().map(|(span, most)| most.saturating_sub(sent.sum(span, now))).min()
    }

    /// When so many bytes may leave: now, or the moment from which on. What is larger than a limit counts as all of it.
    #[must_use]
    pub fn opens(&self, bytes: u64, sent: &Ledger, now: DateTime<Utc>) -> DateTime<Utc> {
        self.spans().map(|(span, most)| sent.falls_to(most - bytes.min(most), span, now)).max().unwrap_or(now)
    }
}

/// What left in the last day, by minutes. The caller keeps it: JSON of at most 1,441 pairs, which says nothing of anybody.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ledger {
    version: super::Version,
    /// Minutes since 1970 in UTC, and bytes; in order of time.
    minutes: Vec<(i64, u64)>,
    /// Bytes that may be on their way: they count as of now, whenever that is.
    #[serde(default, skip_serializing_if = "is_none")]
    leaving: u64,
}

fn is_none(bytes: &u64) -> bool {
    *bytes == 0
}

impl Ledger {
    /// Notes what left, and forgets what is over a day old.
    pub fn add(&mut self, bytes: u64, now: DateTime<Utc>) {
        let minute = minute_of(now);
        // What left before a clock was set back counts as of now.
        self.minutes.iter_mut().for_each(|(at, _)| *at = (*at).min(minute));
        self.minutes.retain(|(at, _)| *at >= minute - 24 * 60);
        self.minutes.push((minute, bytes));
        self.minutes.dedup_by(|later, earlier| {
            let same = later.0 == earlier.0;
            if same {
                earlier.1 = earlier.1.saturating_add(later.1);
            }
            same
        });
    }

    /// The same, where so many bytes may be on their way.
    pub(super) fn with_leaving(mut self, bytes: u64) -> Self {
        self.leaving = bytes;
        self
    }

    /// What may have been on its way when this was kept is not any more.
    pub(super) fn landed(mut self, now: DateTime<Utc>) -> Self {
        match std::mem::take(&mut self.leaving) {
            0 => {}
            bytes => self.add(bytes, now),
        }
        self
    }

    /// What counts at this moment for so long a span before it: when it ceases to, and bytes. A minute counts until all of it did.
    fn counted(&self, span: TimeDelta, now: DateTime<Utc>) -> impl Iterator<Item = (DateTime<Utc>, u64)> {
        let ends = move |at: i64| DateTime::from_timestamp((at.min(minute_of(now)) + 1) * MINUTE_S, 0);
        let all = self.minutes.iter().copied().chain([(minute_of(now), self.leaving)]);
        let counted = all.map(move |(at, bytes)| (ends(at).unwrap_or(now) + span, bytes));
        counted.filter(move |(ends, _)| *ends > now)
    }

    fn sum(&self, span: TimeDelta, now: DateTime<Utc>) -> u64 {
        self.counted(span, now).fold(0, |sum, (_, bytes)| sum.saturating_add(bytes))
    }

    /// The first moment, from now on, at which what counts is no more than that.
    fn falls_to(&self, most: u64, span: TimeDelta, now: DateTime<Utc>) -> DateTime<Utc> {
        let mut sum = self.sum(span, now);
        for (ends, bytes) in self.counted(span, now) {
            if sum <= most {
                break;
            }
            sum = sum.saturating_sub(bytes);
            if sum <= most {
                return ends;
            }
        }
        now
    }
}

pub(super) fn minute_of(now: DateTime<Utc>) -> i64 {
    now.timestamp().div_euclid(MINUTE_S)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(seconds: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(1_800_000_000 + seconds, 0).expect("a moment")
    }

    const BOTH: Limits = Limits { hourly_max_mib: Some(10), daily_max_mib: Some(25) };

    #[test]
    fn an_hour_and_a_day_are_the_last_ones() {
        let mut sent = Ledger::default();
        assert_eq!(BOTH.room(&sent, at(0)), Some(10 * MIB));
        sent.add(10 * MIB, at(0));
        assert_eq!(BOTH.room(&sent, at(3599)), Some(0));
        assert_eq!(BOTH.opens(1, &sent, at(10)), at(3660), "a minute counts until all of it is over");
        assert_eq!(BOTH.room(&sent, at(3660)), Some(10 * MIB));
        sent.add(10 * MIB, at(3660));
        assert_eq!(BOTH.room(&sent, at(7320)), Some(5 * MIB), "the day");
        assert_eq!(BOTH.opens(5 * MIB, &sent, at(7320)), at(7320));
        assert_eq!(BOTH.opens(6 * MIB, &sent, at(7320)), at(24 * 3600 + 60));
        assert_eq!(BOTH.opens(999 * MIB, &sent, at(7320)), at(24 * 3600 + 3720), "what is larger counts as all of it");
        assert_eq!(Limits::default().room(&sent, at(7320)), None);
        assert_eq!(Limits::default().opens(u64::MAX, &sent, at(7320)), at(7320));
    }

    #[test]
    fn a_clock_that_is_set_back_loosens_nothing_and_stops_nothing_for_long() {
        let mut sent = Ledger::default();
        sent.add(10 * MIB, at(400 * 24 * 3600));
        assert_eq!(BOTH.room(&sent, at(0)), Some(0));
        assert_eq!(BOTH.opens(MIB, &sent, at(0)), at(3660));
        sent.add(0, at(0));
        assert_eq!(BOTH.room(&sent, at(3660)), Some(10 * MIB));
        let kept = serde_json::to_string(&sent).expect("JSON");
        assert_eq!(serde_json::from_str::<Ledger>(&kept).expect("a ledger"), sent);
    }

    proptest! {
        #[test]
        fn whoever_waits_as_told_stays_within_both_limits(sizes in prop::collection::vec((0_i64..2000, 1_u64..12), 1..60)) {
            let (mut sent, mut now, mut all) = (Ledger::default(), at(0), Vec::new());
            for (pause, mib) in sizes {
                let opens = BOTH.opens(mib * MIB, &sent, now + TimeDelta::seconds(pause));
                prop_assert!(opens >= now);
                now = opens;
                prop_assert!(mib > 10 || BOTH.room(&sent, now).is_some_and(|room| room >= mib * MIB));
                sent.add(mib * MIB, now);
                all.push((now, mib));
            }
            prop_assert!(sent.minutes.len() <= 1441);
            for (end, _) in &all {
                for (hours, most) in [(1, 10), (24, 25)] {
                    let within = |at: &DateTime<Utc>| at <= end && *at > *end - TimeDelta::hours(hours);
                    let sizes: Vec<u64> = all.iter().filter(|(at, _)| within(at)).map(|(_, mib)| *mib).collect();
                    prop_assert!(sizes.iter().sum::<u64>() <= most || sizes.len() == 1, "{sizes:?}");
                }
            }
        }
    }
}
