//! Whether a study is complete: what is known of it goes in, what to do next comes out. Nothing else happens here.

use std::collections::BTreeSet;
use std::time::Duration;

use tokio::time::Instant;

use crate::store::StudyFacts;

/// What showed a study to be complete.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Evidence {
    /// Its instances state how many there are: (0020,1208), or (0020,1209) of each of (0020,1206) series.
    Stated,
    /// A PACS says how many there are.
    Pacs,
    /// A sender asked for commitment to exactly these instances.
    Commitment,
    /// Its senders ended and its series are numbered without a hole (`studies.close_without_count`).
    Ended,
    /// Nothing: `studies.close_timer_ms` passed since the last instance.
    Timer,
}

impl Evidence {
    /// In the journal and in metrics.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Stated => "stated",
            Self::Pacs => "pacs",
            Self::Commitment => "commitment",
            Self::Ended => "ended",
            Self::Timer => "timer",
        }
    }

    /// The one of this name.
    #[must_use]
    pub fn of_name(name: &str) -> Option<Self> {
        [Self::Stated, Self::Pacs, Self::Commitment, Self::Ended, Self::Timer].into_iter().find(|e| e.name() == name)
    }
}

/// What the site set.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rules {
    pub(super) close_timer: Duration,
    pub(super) close_without_count: bool,
}

/// A study that may get more instances.
#[derive(Debug)]
pub(super) struct OpenStudy {
    /// Associations, requests and passes over the folder that brought instances and have not ended.
    pub(super) sending: BTreeSet<String>,
    /// When the last instance came, by a clock that does not jump.
    pub(super) last: Instant,
    pub(super) facts: StudyFacts,
    /// What a storage commitment asks for, and how many of these are kept.
    pub(super) committed: Option<(u64, u64)>,
    pub(super) geometry: Geometry,
    pub(super) pacs: Pacs,
}

/// Whether slices are missing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Geometry {
    /// Not looked at with these instances.
    Unknown,
    /// Is being looked at.
    Looking,
    /// None is.
    Whole,
    /// Some are, or the files cannot be read; for people.
    Gap(String),
}

/// What a PACS says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pacs {
    /// There is none for this study.
    None,
    /// To be asked, not before this.
    From(Instant),
    /// Is being asked.
    Asking,
    /// It has this many, or did not say; ask again from then.
    Said(Option<u64>, Instant),
}

/// What to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Decision {
    /// It is complete.
    Close(Evidence),
    /// Read the headers of its files.
    Look,
    /// Ask the PACS.
    Ask,
    /// Nothing before something comes, or this.
    Wait(Instant),
}

/// What counts say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Counts {
    /// As many as there are.
    All(Evidence),
    /// Some are missing.
    Missing,
    /// Nothing that can be relied upon.
    Silent,
}

/// Decides. The timer closes whatever else is known; before it, a sender that goes on, a count that says that more is to
/// come and a gap each keep a study open.
pub(super) fn decide(study: &OpenStudy, rules: Rules, now: Instant) -> Decision {
    let timer = study.last + rules.close_timer;
    if now >= timer {
        return Decision::Close(Evidence::Timer);
    }
    let counts = counts(study);
    if !study.sending.is_empty() || counts == Counts::Missing || matches!(study.geometry, Geometry::Gap(_)) {
        return Decision::Wait(timer);
    }
    let numbered = rules.close_without_count && numbered(&study.facts);
    if counts == Counts::Silent && study.pacs == Pacs::None && !numbered {
        // Nothing would come of looking at the files.
        return Decision::Wait(timer);
    }
    if study.geometry == Geometry::Unknown {
        return Decision::Look;
    }
    if study.geometry == Geometry::Looking {
        return Decision::Wait(timer);
    }
    if let Counts::All(evidence) = counts {
        return Decision::Close(evidence);
    }
    match study.pacs {
        Pacs::Said(Some(count), _) if count == study.facts.instances => Decision::Close(Evidence::Pacs),
        // One that cannot be reached, or is behind, does not speak against what the numbers say.
        Pacs::None | Pacs::Said(None, _) if numbered => Decision::Close(Evidence::Ended),
        Pacs::Said(Some(count), _) if numbered && count < study.facts.instances => Decision::Close(Evidence::Ended),
        Pacs::From(then) | Pacs::Said(_, then) if now >= then => Decision::Ask,
        Pacs::From(then) | Pacs::Said(_, then) => Decision::Wait(timer.min(then)),
        Pacs::None | Pacs::Asking => Decision::Wait(timer),
    }
}

fn counts(study: &OpenStudy) -> Counts {
    let facts = &study.facts;
    // What is stated and not reached is believed over everything but the timer.
    let short = |stated: Option<u64>, kept: u64| stated.is_some_and(|stated| stated > kept);
    if short(facts.stated_instances, facts.instances)
        || short(facts.stated_series, facts.series.len() as u64)
        || facts.series.iter().any(|s| short(s.stated_instances, s.instances))
        || study.committed.is_some_and(|(asked, kept)| kept < asked)
    {
        return Counts::Missing;
    }
    if study.committed.is_some_and(|(asked, kept)| asked == kept && kept == facts.instances) {
        return Counts::All(Evidence::Commitment);
    }
    let of_study = facts.stated_instances == Some(facts.instances);
    let of_series = facts.stated_series == Some(facts.series.len() as u64)
        && facts.series.iter().all(|s| s.stated_instances == Some(s.instances));
    if of_study || of_series {
        return Counts::All(Evidence::Stated);
    }
    Counts::Silent
}

/// Whether no series shows a hole in its numbers. One that states how many it has needs no numbers.
fn numbered(facts: &StudyFacts) -> bool {
    facts.series.iter().all(|s| s.numbered || s.stated_instances == Some(s.instances))
}

/// What is known to be missing, for people; empty when nothing is.
pub(super) fn missing(study: &OpenStudy) -> String {
    let facts = &study.facts;
    let mut parts = Vec::new();
    let mut short = |stated: Option<u64>, kept: u64, what: &str| {
        if let Some(stated) = stated.filter(|stated| *stated > kept) {
            parts.push(format!("{kept} of {stated} {what}"));
        }
    };
    short(facts.stated_instances, facts.instances, "instances as stated in (0020,1208)");
    short(facts.stated_series, facts.series.len() as u64, "series as stated in (0020,1206)");
    for series in &facts.series {
        short(series.stated_instances, series.instances, "instances of a series as stated in (0020,1209)");
    }
    if let Some((asked, kept)) = study.committed {
        short(Some(asked), kept, "instances of a storage commitment");
    }
    if let Pacs::Said(count, _) = study.pacs {
        short(count, facts.instances, "instances that the PACS has");
    }
    if let Geometry::Gap(gap) = &study.geometry {
        parts.push(gap.clone());
    }
    if !study.sending.is_empty() {
        parts.push(format!("{} senders did not end", study.sending.len()));
    }
    parts.join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::SeriesFacts;

    const RULES: Rules = Rules { close_timer: Duration::from_secs(60), close_without_count: false };
    const LENIENT: Rules = Rules { close_without_count: true, ..RULES };

    /// One series of ten slices whose sender ended, of which nobody says how many there are.
    fn study(start: Instant) -> OpenStudy {
        let series = SeriesFacts { instances: 10, stated_instances: None, numbered: true };
        OpenStudy {
            sending: BTreeSet::new(),
            last: start,
            facts: StudyFacts { instances: 10, series: vec![series], ..StudyFacts::default() },
            committed: None,
            geometry: Geometry::Whole,
            pacs: Pacs::None,
        }
    }

    /// What is decided a second after the last instance; nothing when it is to wait for the timer.
    fn soon(rules: Rules, change: impl FnOnce(&mut OpenStudy)) -> Option<Decision> {
        let start = Instant::now();
        let mut open = study(start);
        change(&mut open);
        match decide(&open, rules, start + Duration::from_secs(1)) {
            Decision::Wait(until) if until == start + RULES.close_timer => None,
            decision => Some(decision),
        }
    }

    const fn closed(by: Evidence) -> Option<Decision> {
        Some(Decision::Close(by))
    }

    #[test]
    fn without_evidence_only_the_timer_closes() {
        assert_eq!(soon(RULES, |_| ()), None);
        let start = Instant::now();
        let mut open = study(start);
        open.sending.insert("an association that hangs".into());
        open.geometry = Geometry::Gap("a gap".into());
        assert!(matches!(decide(&open, RULES, start + Duration::from_millis(59_999)), Decision::Wait(_)));
        assert_eq!(decide(&open, RULES, start + Duration::from_secs(60)), Decision::Close(Evidence::Timer));
        assert_eq!(missing(&open), "a gap; 1 senders did not end");
    }

    #[test]
    fn a_stated_count_closes_when_it_is_reached_and_no_slice_is_missing() {
        let stated = |n| move |s: &mut OpenStudy| s.facts.stated_instances = Some(n);
        assert_eq!(soon(RULES, stated(10)), closed(Evidence::Stated));
        assert_eq!(soon(LENIENT, stated(11)), None, "numbers without a hole do not help when more is stated");
        assert_eq!(soon(RULES, stated(9)), None, "more than stated is no evidence");
        let with = |geometry: Geometry| {
            soon(RULES, |s| {
                stated(10)(s);
                s.geometry = geometry;
            })
        };
        assert_eq!(with(Geometry::Gap("a gap".into())), None);
        assert_eq!(with(Geometry::Looking), None);
        assert_eq!(with(Geometry::Unknown), Some(Decision::Look));
        let sending = soon(RULES, |s| {
            stated(10)(s);
            s.sending.insert("an association".into());
        });
        assert_eq!(sending, None);
    }

    #[test]
    fn counts_of_series_need_the_number_of_series() {
        let series = |number| {
            soon(RULES, |s| {
                s.facts.series[0].stated_instances = Some(10);
                s.facts.stated_series = number;
            })
        };
        assert_eq!(series(Some(1)), closed(Evidence::Stated));
        assert_eq!(series(None), None);
        assert_eq!(series(Some(2)), None);
    }

    #[test]
    fn a_commitment_must_name_what_is_kept() {
        let committed = |asked, kept| soon(RULES, |s| s.committed = Some((asked, kept)));
        assert_eq!(committed(10, 10), closed(Evidence::Commitment));
        assert_eq!(committed(11, 10), None);
        assert_eq!(committed(9, 9), None, "some were not asked for");
    }

    #[test]
    fn numbers_without_a_hole_are_evidence_where_the_site_says_so() {
        assert_eq!(soon(LENIENT, |_| ()), closed(Evidence::Ended));
        assert_eq!(soon(LENIENT, |s| s.facts.series[0].numbered = false), None);
        assert_eq!(soon(LENIENT, |s| s.geometry = Geometry::Unknown), Some(Decision::Look));
    }

    #[test]
    fn a_pacs_is_asked_and_asked_again() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut open = study(start);
        let mut says = |pacs, now| {
            open.pacs = pacs;
            decide(&open, RULES, now)
        };
        assert_eq!(says(Pacs::From(start), at(1)), Decision::Ask);
        assert_eq!(says(Pacs::Asking, at(1)), Decision::Wait(at(60)));
        assert_eq!(says(Pacs::Said(Some(10), at(6)), at(1)), Decision::Close(Evidence::Pacs));
        for other in [Some(9), Some(11), None] {
            assert_eq!(says(Pacs::Said(other, at(6)), at(1)), Decision::Wait(at(6)), "{other:?}");
            assert_eq!(says(Pacs::Said(other, at(6)), at(6)), Decision::Ask, "{other:?}");
        }
    }

    #[test]
    fn a_pacs_that_has_more_is_believed_over_numbers() {
        let later = Instant::now() + Duration::from_secs(3600);
        assert_eq!(soon(LENIENT, |s| s.pacs = Pacs::Said(Some(11), later)), None);
        assert_eq!(soon(LENIENT, |s| s.pacs = Pacs::Said(None, later)), closed(Evidence::Ended));
        assert_eq!(soon(LENIENT, |s| s.pacs = Pacs::Said(Some(3), later)), closed(Evidence::Ended));
    }
}
