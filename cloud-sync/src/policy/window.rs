//! `[window]`: at which times of day uploads run, by the clock on the wall.

use chrono::{DateTime, Datelike, NaiveTime, TimeDelta, TimeZone, Timelike, Weekday};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::PolicyError;

const DAY_MIN: u16 = 24 * 60;
/// A window of one day a week opens within so many days, also where a change of clocks swallows it once.
const AHEAD_DAYS: i64 = 15;

/// When uploads run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Window {
    /// Local time at which it opens, `HH:MM`.
    pub from: TimeOfDay,
    /// Local time at which it closes; earlier than `from`: on the next day.
    pub to: TimeOfDay,
    /// Days on which it opens.
    pub days: Vec<Day>,
}

/// Minutes since midnight, written `HH:MM`; `24:00` is the end of the day.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct TimeOfDay(u16);

/// A day of the week.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[expect(missing_docs, reason = "days of the week")]
pub enum Day {
    Mon,
    Tue,
    Wed,
    Thu,
    Fri,
    Sat,
    Sun,
}

impl Day {
    const ALL: [Self; 7] = [Self::Mon, Self::Tue, Self::Wed, Self::Thu, Self::Fri, Self::Sat, Self::Sun];

    fn of(day: Weekday) -> Self {
        match day {
            Weekday::Mon => Self::Mon,
            Weekday::Tue => Self::Tue,
            Weekday::Wed => Self::Wed,
            Weekday::Thu => Self::Thu,
            Weekday::Fri => Self::Fri,
            Weekday::Sat => Self::Sat,
            Weekday::Sun => Self::Sun,
        }
    }
}

impl Default for Window {
    fn default() -> Self {
        Self { from: TimeOfDay(0), to: TimeOfDay(DAY_MIN), days: Day::ALL.to_vec() }
    }
}

impl Window {
    pub(super) fn check(&self) -> Result<(), PolicyError> {
        if self.from.0 >= DAY_MIN {
            return Err(PolicyError::range("window.from", "00:00 to 23:59"));
        }
        if self.from == self.to {
            return Err(PolicyError::Contradiction(
                "window.from and window.to are the same: for the whole day name 00:00 and 24:00".to_owned(),
            ));
        }
        if self.days.is_empty() {
            return Err(PolicyError::range("window.days", "at least one of mon, tue, wed, thu, fri, sat and sun"));
        }
        Ok(())
    }

    /// Whether uploads run at this moment.
    #[must_use]
    pub fn is_open<Z: TimeZone>(&self, now: &DateTime<Z>) -> bool {
        let wall = now.naive_local();
        let minute = minute_of(wall.time());
        let today = self.days.contains(&Day::of(wall.weekday()));
        let yesterday = self.days.contains(&Day::of(wall.weekday().pred()));
        let (from, to) = (self.from.0, self.to.0);
        match from < to {
            true => today && (from..to).contains(&minute),
            false => today && minute >= from || yesterday && minute < to,
        }
    }

    /// The moment from which on uploads run: now where they do.
    #[must_use]
    pub fn opens<Z: TimeZone>(&self, now: &DateTime<Z>) -> DateTime<Z> {
        self.first(now, true).unwrap_or_else(|| now.clone() + TimeDelta::days(AHEAD_DAYS))
    }

    /// The moment from which on they do not: now where that is so, nothing where they always run.
    #[must_use]
    pub fn closes<Z: TimeZone>(&self, now: &DateTime<Z>) -> Option<DateTime<Z>> {
        self.first(now, false)
    }

    /// By trying each minute: clocks that change make any other way wrong on two days of the year.
    fn first<Z: TimeZone>(&self, now: &DateTime<Z>, open: bool) -> Option<DateTime<Z>> {
        if self.is_open(now) == open {
            return Some(now.clone());
        }
        let into = TimeDelta::seconds(now.second().into()) + TimeDelta::nanoseconds(now.nanosecond().into());
        let minute = now.clone() - into;
        (1..=AHEAD_DAYS * i64::from(DAY_MIN))
            .map(|n| minute.clone() + TimeDelta::minutes(n))
            .find(|moment| self.is_open(moment) == open)
    }
}

fn minute_of(time: NaiveTime) -> u16 {
    u16::try_from(time.num_seconds_from_midnight() / 60).unwrap_or(DAY_MIN - 1)
}

impl std::str::FromStr for TimeOfDay {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let two = |text: &str| (text.len() == 2 && text.bytes().all(|b| b.is_ascii_digit())).then(|| text.parse().ok());
        let read = || {
            let (hours, minutes) = text.split_once(':')?;
            let (hours, minutes): (u16, u16) = (two(hours)??, two(minutes)??);
            let all = hours * 60 + minutes;
            (minutes < 60 && all <= DAY_MIN).then_some(Self(all))
        };
        read().ok_or("a time of day is HH:MM, from 00:00 to 24:00")
    }
}

impl Serialize for TimeOfDay {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format_args!("{:02}:{:02}", self.0 / 60, self.0 % 60))
    }
}

impl<'de> Deserialize<'de> for TimeOfDay {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use chrono::{FixedOffset, MappedLocalTime, NaiveDate, NaiveDateTime, Utc};
    use proptest::prelude::*;

    use super::*;

    /// Central European time of 2026: an hour is left out on 29 March, and comes twice on 25 October.
    #[derive(Debug, Clone, Copy)]
    struct Berlin;

    impl Berlin {
        fn at(self, utc: &NaiveDateTime) -> FixedOffset {
            let change = |month, day| NaiveDate::from_ymd_opt(2026, month, day).and_then(|d| d.and_hms_opt(1, 0, 0));
            let summer = change(3, 29).expect("a day")..change(10, 25).expect("a day");
            FixedOffset::east_opt(if summer.contains(utc) { 7200 } else { 3600 }).expect("an offset")
        }
    }

    impl TimeZone for Berlin {
        type Offset = FixedOffset;

        fn from_offset(_: &FixedOffset) -> Self {
            Self
        }

        fn offset_from_local_date(&self, _: &NaiveDate) -> MappedLocalTime<FixedOffset> {
            MappedLocalTime::None
        }

        fn offset_from_local_datetime(&self, _: &NaiveDateTime) -> MappedLocalTime<FixedOffset> {
            MappedLocalTime::None
        }

        fn offset_from_utc_date(&self, utc: &NaiveDate) -> FixedOffset {
            self.at(&utc.and_time(NaiveTime::MIN))
        }

        fn offset_from_utc_datetime(&self, utc: &NaiveDateTime) -> FixedOffset {
            self.at(utc)
        }
    }

    fn window(from: &str, to: &str, days: &[Day]) -> Window {
        let time = |text: &str| text.parse().expect("a time of day");
        Window { from: time(from), to: time(to), days: days.to_vec() }
    }

    fn berlin(utc: &str) -> DateTime<Berlin> {
        utc.parse::<DateTime<Utc>>().expect("a moment").with_timezone(&Berlin)
    }

    fn opens(window: &Window, utc: &str) -> String {
        window.opens(&berlin(utc)).with_timezone(&Utc).format("%FT%TZ").to_string()
    }

    #[test]
    fn a_window_over_midnight_belongs_to_the_day_on_which_it_opens() {
        let night = window("22:00", "06:00", &[Day::Fri]);
        // 2 January 2026 is a Friday; there it is an hour later than in UTC.
        assert!(!night.is_open(&berlin("2026-01-02T03:00:00Z")), "the night before");
        assert!(!night.is_open(&berlin("2026-01-02T20:59:59Z")));
        assert!(night.is_open(&berlin("2026-01-02T21:00:00Z")));
        assert!(night.is_open(&berlin("2026-01-03T04:59:59Z")));
        assert!(!night.is_open(&berlin("2026-01-03T05:00:00Z")));
        assert_eq!(opens(&night, "2026-01-02T20:30:15.5Z"), "2026-01-02T21:00:00Z");
        assert_eq!(opens(&night, "2026-01-03T05:00:00Z"), "2026-01-09T21:00:00Z");
        let closes = night.closes(&berlin("2026-01-02T21:00:00Z")).expect("it closes");
        assert_eq!(closes.with_timezone(&Utc).to_rfc3339(), "2026-01-03T05:00:00+00:00");
        assert!(Window::default().is_open(&berlin("2026-01-03T05:00:00Z")));
        assert!(Window::default().closes(&berlin("2026-01-03T05:00:00Z")).is_none());
    }

    #[test]
    fn clocks_that_change_neither_skip_a_window_nor_open_it_early() {
        let early = window("02:30", "04:00", &Day::ALL);
        // 02:00 to 03:00 is not there: it opens at 03:00, which is 01:00 in UTC.
        assert_eq!(opens(&early, "2026-03-28T23:00:00Z"), "2026-03-29T01:00:00Z");
        let swallowed = window("02:15", "02:45", &Day::ALL);
        assert_eq!(opens(&swallowed, "2026-03-28T23:00:00Z"), "2026-03-30T00:15:00Z");
        // 02:00 to 03:00 comes twice, and so does the window.
        assert_eq!(opens(&swallowed, "2026-10-24T23:00:00Z"), "2026-10-25T00:15:00Z");
        assert_eq!(opens(&swallowed, "2026-10-25T00:45:00Z"), "2026-10-25T01:15:00Z");
    }

    #[test]
    fn times_of_day_are_read_strictly() {
        for wrong in ["", "7:00", "07:60", "24:01", "25:00", "07:0", "07.00", "+7:00", "0a:00"] {
            assert!(wrong.parse::<TimeOfDay>().is_err(), "{wrong}");
        }
        assert_eq!(serde_json::to_string(&TimeOfDay(1439)).expect("JSON"), "\"23:59\"");
    }

    proptest! {
        #[test]
        fn it_opens_at_the_first_moment_at_which_it_is_open(
            seconds in 0_i64..365 * 86_400, from in 0_u16..1440, length in 1_u16..1440, days in prop::sample::subsequence(Day::ALL.to_vec(), 1..=7),
        ) {
            let window = Window { from: TimeOfDay(from), to: TimeOfDay((from + length) % 1440), days };
            let now = berlin("2026-01-01T00:00:00Z") + TimeDelta::seconds(seconds);
            let opens = window.opens(&now);
            prop_assert!(opens >= now && window.is_open(&opens));
            prop_assert!(opens == now || !window.is_open(&(opens - TimeDelta::seconds(1))));
            let closes = window.closes(&opens).expect("it closes");
            prop_assert!(!window.is_open(&closes) && window.is_open(&(closes - TimeDelta::seconds(1))));
        }
    }
}
