//! Dates and times of DICOM (PS3.5 6.2), moved by whole days: times of day and intervals stay.

/// A date of the Gregorian calendar, as days since 1970-01-01.
fn days_of(year: i64, month: i64, day: i64) -> Option<i64> {
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let length = match month {
        1 | 3 | 5 | 7 | 8 | 10 | 12 => 31,
        4 | 6 | 9 | 11 => 30,
        2 => 28 + i64::from(leap),
        _ => return None,
    };
    if !(1..=length).contains(&day) || !(1..=9999).contains(&year) {
        return None;
    }
    // Years that start in March, so that the leap day comes last.
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let (era, of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let of_year = (153 * month + 2) / 5 + day - 1;
    Some(era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468)
}

fn date_of(days: i64) -> Option<(i64, i64, i64)> {
    let days = days + 719_468;
    let (era, of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * of_year + 2) / 153;
    let day = of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    (1..=9999).contains(&year).then_some((year, month, day))
}

fn digits(text: &str, from: usize, count: usize) -> Option<i64> {
    let part = text.get(from..from + count)?;
    part.bytes().all(|b| b.is_ascii_digit()).then(|| part.parse().ok())?
}

/// Days since 1970-01-01 of a DA, `YYYYMMDD` or the old `YYYY.MM.DD`; nothing where it is no date.
pub(super) fn days(date: &str) -> Option<i64> {
    match *date.as_bytes() {
        [_, _, _, _, b'.', _, _, b'.', _, _] => days_of(digits(date, 0, 4)?, digits(date, 5, 2)?, digits(date, 8, 2)?),
        [_, _, _, _, _, _, _, _] => days_of(digits(date, 0, 4)?, digits(date, 4, 2)?, digits(date, 6, 2)?),
        _ => None,
    }
}

/// A DA this many days later; nothing where it is no date.
pub(super) fn shift_da(date: &str, by: i32) -> Option<String> {
    let (year, month, day) = date_of(days(date)? + i64::from(by))?;
    Some(format!("{year:04}{month:02}{day:02}"))
}

/// A DT this many days later, with its time and offset; nothing where it is none, or does not state a day.
pub(super) fn shift_dt(text: &str, by: i32) -> Option<String> {
    let (time, offset) = match text.find(['+', '-']) {
        Some(at) => text.split_at(at),
        None => (text, ""),
    };
    let signed = |offset: &str| offset.len() == 5 && digits(offset, 1, 4).is_some_and(|n| n <= 1400 && n % 100 < 60);
    if !(offset.is_empty() || signed(offset)) {
        return None;
    }
    let (date, time) = time.split_at_checked(8)?;
    if !(time.is_empty() || is_tm(time)) {
        return None;
    }
    Some(shift_da(date, by)? + time + offset)
}

/// Whether this is a TM: `HH`, `HHMM`, `HHMMSS`, `HHMMSS.F…`, or the old form with colons.
pub(super) fn is_tm(text: &str) -> bool {
    let plain: String = match *text.as_bytes() {
        [_, _, b':', _, _, b':', _, _, ..] => text.chars().filter(|&c| c != ':').collect(),
        _ => text.into(),
    };
    let (whole, fraction) = plain.split_once('.').unwrap_or((&plain, "0"));
    let part = |from: usize, most: i64| digits(whole, from, 2).is_some_and(|n| n <= most);
    let fits = match whole.len() {
        2 => part(0, 23),
        4 => part(0, 23) && part(2, 59),
        6 => part(0, 23) && part(2, 59) && part(4, 60),
        _ => false,
    };
    let fraction_fits = (1..=6).contains(&fraction.len()) && fraction.bytes().all(|b| b.is_ascii_digit());
    fits && fraction_fits && (whole.len() == 6 || !plain.contains('.'))
}

/// Years in an AS, rounded down; nothing where it is none.
pub(super) fn years(age: &str) -> Option<i64> {
    let number = digits(age, 0, 3)?;
    match age.get(3..)? {
        "Y" => Some(number),
        "M" => Some(number / 12),
        "W" => Some(number * 7 / 365),
        "D" => Some(number / 365),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn days_go_over_months_years_and_leap_days() {
        assert_eq!(days("19700101"), Some(0));
        assert_eq!(shift_da("20240301", -1).as_deref(), Some("20240229"));
        assert_eq!(shift_da("20230301", -1).as_deref(), Some("20230228"));
        assert_eq!(shift_da("20000101", -1).as_deref(), Some("19991231"));
        assert_eq!(shift_da("2004.01.19", 1).as_deref(), Some("20040120"));
        for wrong in ["20230229", "20231301", "2023", "", "yesterday", "00000000", "２０２３０１０１"] {
            assert_eq!(shift_da(wrong, -1), None, "{wrong}");
        }
    }

    #[test]
    fn a_dt_keeps_its_time_and_offset() {
        assert_eq!(shift_dt("20221208140352.457000", -8).as_deref(), Some("20221130140352.457000"));
        assert_eq!(shift_dt("202212081403+0100", -8).as_deref(), Some("202211301403+0100"));
        assert_eq!(shift_dt("20221208", -8).as_deref(), Some("20221130"));
        for wrong in ["2022", "202212", "20221208250000", "20221208+99", "20221208 Doe"] {
            assert_eq!(shift_dt(wrong, -8), None, "{wrong}");
        }
    }

    #[test]
    fn times_are_told_from_other_text() {
        for right in ["14", "1403", "140352", "140352.457", "14:03:52"] {
            assert!(is_tm(right), "{right}");
        }
        for wrong in ["", "1", "25", "1461", "14.5", "140352.", "140352.1234567", "Doe"] {
            assert!(!is_tm(wrong), "{wrong}");
        }
    }

    #[test]
    fn ages_are_years() {
        assert_eq!(["095Y", "999M", "006W", "40Y", "040X"].map(years), [Some(95), Some(83), Some(0), None, None]);
    }

    proptest! {
        #[test]
        fn intervals_stay(first in -600_000i64..2_000_000, apart in 0i64..100_000, by in -36_500i32..0) {
            let text = |days| date_of(days).map(|(y, m, d)| format!("{y:04}{m:02}{d:02}")).expect("in range");
            let (one, other) = (text(first), text(first + apart));
            let moved = |date: &str| shift_da(date, by).and_then(|d| days(&d)).expect("in range");
            prop_assert_eq!(moved(&other) - moved(&one), apart);
        }
    }
}
