//! Listings of a server that is not believed to come to an end.

use std::collections::HashSet;
use std::hash::{BuildHasher, Hash, RandomState};

use super::Failure;

/// Pages of a listing that are asked for; each has up to 1,000 entries.
const PAGES_MAX: usize = 10_000;
/// Of these, such in a row that have no entry: servers skip what expired.
const EMPTY_PAGES_MAX: usize = 1000;

/// How far a listing was read.
pub(crate) struct Pages {
    what: String,
    /// Digests of the places from which it went on.
    places: HashSet<u64>,
    digests: RandomState,
    empty: usize,
}

impl Pages {
    /// `what` names the request, as `listing …`.
    pub(crate) fn of(what: &str) -> Self {
        Self { what: what.to_owned(), places: HashSet::new(), digests: RandomState::new(), empty: 0 }
    }

    /// From where the page goes on that comes after one with so many entries; nothing after the last.
    ///
    /// # Errors
    /// [`Failure::Refused`] where the listing does not seem to end.
    pub(crate) fn next<P: Hash>(&mut self, entries: usize, next: Option<P>) -> Result<Option<P>, Failure> {
        let Some(next) = next else { return Ok(None) };
        self.empty = if entries == 0 { self.empty + 1 } else { 0 };
        let why = if !self.places.insert(self.digests.hash_one(&next)) {
            "its pages go round in a circle".to_owned()
        } else if self.empty >= EMPTY_PAGES_MAX {
            format!("{EMPTY_PAGES_MAX} pages in a row have nothing in them")
        } else if self.places.len() >= PAGES_MAX {
            format!("it has more than {PAGES_MAX} pages")
        } else {
            return Ok(Some(next));
        };
        Err(Failure::Refused { what: self.what.clone(), why: format!("{why}; look at what answers for the bucket") })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listing_that_has_no_end_is_ended() {
        let mut pages = Pages::of("listing batches");
        assert_eq!(pages.next(1000, Some("a")).expect("a page"), Some("a"));
        assert_eq!(pages.next(1000, Some("b")).expect("a page"), Some("b"));
        let failure = pages.next(1000, Some("a")).expect_err("it was there");
        assert!(failure.to_string().contains("listing batches: its pages go round"), "{failure}");
        assert_eq!(pages.next(10, None::<&str>).expect("the last page"), None);

        let pages_of = |entries: usize| {
            let mut pages = Pages::of("listing batches");
            (1..).find(|n| pages.next(entries, Some(*n)).is_err())
        };
        assert_eq!(pages_of(0), Some(EMPTY_PAGES_MAX));
        assert_eq!(pages_of(1), Some(PAGES_MAX));
    }
}
