//! What leaves now, beside what left: a limit is passed by no request, whatever is on its way beside it and whatever ends the process.

use chrono::{DateTime, Utc};

use super::budget::{MIB, minute_of};
use super::{Ledger, Limits};

/// What the caller's journal counts ahead, so that it need not be written for each small object.
const AHEAD: u64 = 16 * MIB;

/// Counts requests that are on their way as of now, until they end. The caller keeps a ledger that knows of all bytes before they leave.
#[derive(Debug)]
pub struct Meter {
    limits: Limits,
    left: Ledger,
    /// Bytes of requests that are on their way.
    leaving: u64,
    /// Bytes that the kept ledger counts beyond that, as of this minute.
    ahead: u64,
    minute: i64,
}

/// Whether a request may be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Room {
    /// Now.
    Now,
    /// Once this ledger is kept.
    Keep(Ledger),
    /// Not before this moment.
    From(DateTime<Utc>),
    /// It is larger than this limit, MiB.
    Never(&'static str, u64),
}

impl Meter {
    /// What left before counts; what was on its way when it was kept, until now.
    #[must_use]
    pub fn new(limits: Limits, kept: Ledger, now: DateTime<Utc>) -> Self {
        Self { limits, left: kept.landed(now), leaving: 0, ahead: 0, minute: 0 }
    }

    /// Whether a request of so many bytes may be made. What may is on its way, until [`Self::left`] says that it is not.
    pub fn ask(&mut self, bytes: u64, now: DateTime<Utc>) -> Room {
        if let Some((limit, most)) = self.limits.least().filter(|(_, most)| bytes > most.saturating_mul(MIB)) {
            return Room::Never(limit, most);
        }
        if self.ahead >= bytes && self.minute == minute_of(now) {
            self.ahead -= bytes;
            self.leaving = self.leaving.saturating_add(bytes);
            return Room::Now;
        }
        self.ahead = 0;
        let counted = self.ledger();
        let opens = self.limits.opens(bytes, &counted, now);
        if opens > now {
            return Room::From(opens);
        }
        let room = self.limits.room(&counted, now).unwrap_or(u64::MAX);
        (self.ahead, self.minute) = (AHEAD.min(room).saturating_sub(bytes), minute_of(now));
        self.leaving = self.leaving.saturating_add(bytes);
        Room::Keep(self.ledger())
    }

    /// A request ended, however it did: some or all of its bytes left up to now.
    pub fn left(&mut self, bytes: u64, now: DateTime<Utc>) {
        self.leaving = self.leaving.saturating_sub(bytes);
        self.left.add(bytes, now);
    }

    /// What is counted ahead is not, from now on: nothing is on its way for a while.
    pub fn settle(&mut self) {
        self.ahead = 0;
    }

    /// What the caller keeps: all that left, what is on its way and what is counted ahead.
    #[must_use]
    pub fn ledger(&self) -> Ledger {
        self.left.clone().with_leaving(self.leaving.saturating_add(self.ahead))
    }
}

#[cfg(test)]
mod tests {
    use chrono::TimeDelta;
    use proptest::prelude::*;

    use super::*;

    fn at(seconds: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(1_800_000_000 + seconds, 0).expect("a moment")
    }

    const LIMITS: Limits = Limits { hourly_max_mib: Some(20), daily_max_mib: Some(50) };

    #[test]
    fn the_journal_is_told_before_and_not_of_each() {
        let mut meter = Meter::new(LIMITS, Ledger::default(), at(0));
        let Room::Keep(kept) = meter.ask(MIB, at(0)) else { panic!("the first is told") };
        assert_eq!(LIMITS.room(&kept, at(0)), Some(4 * MIB), "what follows is counted ahead");
        for _ in 0..15 {
            assert_eq!(meter.ask(MIB, at(1)), Room::Now);
        }
        let Room::Keep(kept) = meter.ask(MIB, at(2)) else { panic!("as it is spent") };
        assert_eq!(LIMITS.room(&kept, at(2)), Some(0));
        assert_eq!(LIMITS.room(&meter.ledger(), at(2)), Some(0));
        meter.settle();
        assert_eq!(LIMITS.room(&meter.ledger(), at(2)), Some(3 * MIB), "it is given back");
        assert_eq!(meter.ask(21 * MIB, at(2)), Room::Never("limits.hourly_max_mib", 20));
    }

    #[test]
    fn what_is_on_its_way_counts_until_it_ended() {
        let mut meter = Meter::new(LIMITS, Ledger::default(), at(0));
        assert!(matches!(meter.ask(20 * MIB, at(0)), Room::Keep(_)));
        // A slow line: more than an hour.
        assert_eq!(meter.ask(MIB, at(4000)), Room::From(at(7620)));
        meter.left(20 * MIB, at(4100));
        assert_eq!(meter.ask(MIB, at(7600)), Room::From(at(7740)), "as of its end");
        assert!(matches!(meter.ask(MIB, at(7740)), Room::Keep(_)));
    }

    proptest! {
        /// Requests that begin as they may and last for a while, some of them beside one another; and a process that ends between.
        #[test]
        fn no_hour_and_no_day_has_more(requests in prop::collection::vec((0_i64..900, 1_u64..8, 0_i64..600, 0_u8..10), 1..80)) {
            let mut meter = Meter::new(LIMITS, Ledger::default(), at(0));
            let (mut kept, mut now) = (Ledger::default(), 0);
            let mut open: Vec<(i64, i64, u64)> = Vec::new();
            let mut all: Vec<(i64, i64, u64)> = Vec::new();
            for (pause, mib, lasts, dies) in requests {
                now += pause;
                open.sort_by_key(|request| request.1);
                loop {
                    open.retain(|&(_, end, bytes)| {
                        if end <= now {
                            meter.left(bytes, at(end));
                        }
                        end > now
                    });
                    match meter.ask(mib * MIB, at(now)) {
                        Room::Now => break,
                        Room::Keep(ledger) => {
                            kept = ledger;
                            break;
                        }
                        // It may be less than it says, where something ends meanwhile.
                        Room::From(opens) => now = open.iter().map(|(_, end, _)| *end).min().unwrap_or(i64::MAX)
                            .min((opens - at(0)).num_seconds()),
                        Room::Never(..) => unreachable!("none is"),
                    }
                }
                // A process that dies takes its requests with it.
                let end = if dies == 0 { now } else { now + lasts };
                open.push((now, end, mib * MIB));
                all.push((now, end, mib * MIB));
                if dies == 0 {
                    for &(begin, _, bytes) in &open {
                        if let Some(one) = all.iter_mut().find(|one| one.0 == begin && one.2 == bytes && one.1 > now) {
                            one.1 = now;
                        }
                    }
                    open.clear();
                    meter = Meter::new(LIMITS, kept.clone(), at(now));
                }
            }
            // At worst all of a request left in its last moment, or in its first.
            for moments in [all.iter().map(|r| (r.0, r.2)).collect::<Vec<_>>(), all.iter().map(|r| (r.1, r.2)).collect()] {
                for &(end, _) in &moments {
                    for (hours, most) in [(1, 20), (24, 50)] {
                        let span = TimeDelta::hours(hours).num_seconds();
                        let sum: u64 = moments.iter().filter(|(at, _)| *at <= end && *at > end - span).map(|(_, bytes)| bytes).sum();
                        prop_assert!(sum <= most * MIB, "{} MiB in {hours} h", sum / MIB);
                    }
                }
            }
        }
    }
}
