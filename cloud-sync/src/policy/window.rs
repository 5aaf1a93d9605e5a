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
