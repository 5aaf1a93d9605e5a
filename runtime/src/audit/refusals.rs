//! Refusals, of which anybody can cause as many as they like: counted, so that the log grows by time and not by them.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::Action;

/// How long refusals of one kind are counted before a row tells their number.
pub const PERIOD: Duration = Duration::from_secs(60);

/// Kinds that are told apart within [`PERIOD`]. With two rows each, of some 300 bytes, a flood from everywhere costs less than
/// 60 MiB a day.
pub const KINDS_MAX: usize = 64;

/// A kind of refusal.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Refusal {
    pub(super) action: Action,
    /// Nothing for all that are not told apart.
    pub(super) from: Option<IpAddr>,
    pub(super) reason: String,
}

/// What was counted of a kind after its first.
#[derive(Debug)]
pub(super) struct Counted {
    /// Who was refused first.
    pub(super) who: String,
    more: u64,
    since: Instant,
    until: Instant,
}

impl Counted {
    /// For people.
    pub(super) fn detail(&self, refusal: &Refusal) -> String {
        let (more, seconds) = (self.more, self.until.duration_since(self.since).as_secs() + 1);
        match refusal.from {
            Some(from) => format!("{more} more within {seconds} s: {}, from {from}", refusal.reason),
            None => format!("{more} within {seconds} s, from more addresses or for more reasons than are told apart"),
        }
    }
}

#[derive(Debug, Default)]
pub(super) struct Refusals(Mutex<HashMap<Refusal, Counted>>);

impl Refusals {
    /// Counts one; whether it is the first of its kind, to be written at once.
    pub(super) fn note(&self, refusal: Refusal, who: &str, now: Instant) -> bool {
        let mut kinds = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(counted) = kinds.get_mut(&refusal) {
            counted.more += 1;
            counted.until = now;
            return false;
        }
        let first = |more, who: &str| Counted { who: who.to_owned(), more, since: now, until: now };
        if kinds.len() < KINDS_MAX {
            kinds.insert(refusal, first(0, who));
            return true;
        }
        let others = Refusal { action: refusal.action, from: None, reason: String::new() };
        let counted = kinds.entry(others).or_insert_with(|| first(0, ""));
        counted.more += 1;
        counted.until = now;
        false
    }

    /// Forgets the kinds whose time is over, or all, and says those of which more than the first came.
    pub(super) fn due(&self, now: Instant, all: bool) -> Vec<(Refusal, Counted)> {
        let mut kinds = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let over = kinds.extract_if(|_, counted| all || now.duration_since(counted.since) >= PERIOD);
        over.filter(|(_, counted)| counted.more > 0).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(address: [u8; 4]) -> Refusal {
        Refusal { action: Action::AssociationRejected, from: Some(address.into()), reason: "unknown".into() }
    }

    #[test]
    fn a_flood_from_one_address_is_two_rows_a_minute() {
        let (refusals, start) = (Refusals::default(), Instant::now());
        let mut now = start;
        let written = (0..10_000)
            .filter(|n| {
                now = start + Duration::from_millis(*n);
                refusals.note(refusal([192, 0, 2, 1]), &format!("TITLE{n}"), now)
            })
            .count();
        assert_eq!(written, 1);
        assert!(refusals.due(now, false).is_empty(), "it is counted on");
        let due = refusals.due(start + PERIOD, false);
        let [(kind, counted)] = due.as_slice() else { panic!("{due:?}") };
        assert_eq!(counted.detail(kind), "9999 more within 10 s: unknown, from 192.0.2.1");
        assert_eq!(counted.who, "TITLE0");
        assert!(refusals.note(refusal([192, 0, 2, 1]), "TITLE", start + PERIOD), "the next minute begins anew");
        assert!(refusals.due(start + 2 * PERIOD, false).is_empty(), "one alone is told once");
    }

    #[test]
    fn a_flood_from_everywhere_is_bounded_too() {
        let (refusals, now) = (Refusals::default(), Instant::now());
        let written = (0..=255).filter(|last| refusals.note(refusal([192, 0, 2, *last]), "A", now)).count();
        assert_eq!(written, KINDS_MAX);
        let due = refusals.due(now, true);
        let [(kind, counted)] = due.as_slice() else { panic!("{due:?}") };
        assert!(counted.detail(kind).starts_with("192 within 1 s, from more addresses"), "{}", counted.detail(kind));
        assert!(refusals.due(now, true).is_empty(), "told once");
    }
}
