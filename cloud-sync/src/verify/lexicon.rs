//! Identifiers in every spelling as bytes, ready to be sought; and those that were made ready for a source before.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

use super::patterns::{Ground, Pattern, patterns};
use super::search::{Filter, Index, LONG, Needle};
use super::spellings::{Trust, spellings};
use super::{Kind, Limits, Unverifiable};

/// What is set for the patterns of a scanner: 32 KiB, which the nearest cache of a processor has room for.
pub(super) type Wide = Filter<4096>;
/// What is set for numbers without separators.
pub(super) type Narrow = Filter<64>;

/// Identifiers by number, and what seeks them.
#[derive(Default)]
pub(super) struct Lexicon {
    numbers: HashMap<String, Vec<(Kind, u32)>>,
    /// Of all patterns of an identifier.
    bytes: Vec<usize>,
    /// With the numbers of their identifiers.
    pub(super) patterns: Vec<(u32, Pattern)>,
    pub(super) index: Index,
    pub(super) squeezed: Vec<Squeezed>,
    pub(super) squeezing: Index,
    /// A pattern counts in bulk that is too short to be found there.
    pub(super) is_short: bool,
}

/// A number without what separates it.
pub(super) struct Squeezed {
    pub(super) number: u32,
    /// Codes may stand before it.
    pub(super) end_only: bool,
    pub(super) bytes: Vec<u8>,
}

impl Lexicon {
    /// Adds what it seeks to the filters.
    pub(super) fn new<'i>(
        identifiers: impl Iterator<Item = (Kind, &'i str)>,
        limits: &Limits,
        filter: &mut Wide,
        narrow: &mut Narrow,
    ) -> Result<Self, Unverifiable> {
        let mut made = Lexicon::default();
        let mut left = limits.patterns_max_bytes;
        for (number, (kind, text)) in (0..).zip(identifiers) {
            made.numbers.entry(text.to_owned()).or_default().push((kind, number));
            let mut bytes = 0;
            for spelling in spellings(kind, text) {
                if matches!(spelling.trust, Trust::Squeezed | Trust::SqueezedEnd) {
                    let end_only = spelling.trust == Trust::SqueezedEnd;
                    made.squeezed.push(Squeezed { number, end_only, bytes: spelling.text.into_bytes() });
                    continue;
                }
                for pattern in patterns(&spelling) {
                    bytes += pattern.bytes.len();
                    made.patterns.push((number, pattern));
                }
                if bytes > left {
                    return Err(too_many(limits));
                }
            }
            left -= bytes;
            made.bytes.push(bytes);
        }
        let in_bulk = |pattern: &Pattern| pattern.bulk && pattern.grounds.has(Ground::Bulk);
        made.is_short = made.patterns.iter().any(|(_, pattern)| in_bulk(pattern) && pattern.bytes.len() < LONG);
        let needles = made.patterns.iter().map(|(_, p)| Needle { bytes: &p.bytes, in_bulk: in_bulk(p) });
        made.index = Index::new(needles, filter);
        let needles = made.squeezed.iter().map(|squeezed| Needle { bytes: &squeezed.bytes, in_bulk: false });
        made.squeezing = Index::new(needles, narrow);
        Ok(made)
    }

    fn number(&self, kind: Kind, text: &str) -> Option<u32> {
        self.numbers.get(text)?.iter().find(|(known, _)| *known == kind).map(|(_, number)| *number)
    }

    /// How many identifiers it has.
    pub(super) fn len(&self) -> usize {
        self.bytes.len()
    }

    fn bytes(&self, number: u32) -> usize {
        self.bytes.get(number as usize).copied().unwrap_or_default()
    }
}

fn too_many(limits: &Limits) -> Unverifiable {
    Unverifiable::Limit { name: "patterns_max_bytes", limit: limits.patterns_max_bytes }
}

/// A lexicon with the filters of it alone.
#[derive(Default)]
struct Ready {
    lexicon: Lexicon,
    filter: Wide,
    narrow: Narrow,
}

/// Spellings that were made for one source and serve for the next: the slices of a study have nearly all identifiers in
/// common. Scanners seek the same with it and without. It can be shared by threads; what it holds of sources before ends with
/// it, or when eight others came since.
#[derive(Clone, Default)]
pub struct Lexicons(Arc<Mutex<VecDeque<Arc<Ready>>>>);

/// Sources of different studies at once.
const LEXICONS_MAX: usize = 8;
/// One that is larger serves one source.
const LEXICON_MAX_BYTES: usize = 4 << 20;

/// It tells nothing of what it holds.
impl std::fmt::Debug for Lexicons {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Lexicons(..)")
    }
}

impl Lexicons {
    /// One that has most of these identifiers.
    fn with(&self, identifiers: &[(Kind, &str)], limits: &Limits) -> Result<Arc<Ready>, Unverifiable> {
        let all = || self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let known: Vec<Arc<Ready>> = all().iter().cloned().collect();
        let lacks = |ready: &Ready| {
            identifiers.iter().filter(|(kind, text)| ready.lexicon.number(*kind, text).is_none()).count()
        };
        let fits = |ready: &&Arc<Ready>| lacks(ready) * 3 <= identifiers.len();
        if let Some(found) = known.iter().find(fits) {
            return Ok(Arc::clone(found));
        }
        let (mut filter, mut narrow) = (Wide::default(), Narrow::default());
        let lexicon = Lexicon::new(identifiers.iter().copied(), limits, &mut filter, &mut narrow)?;
        let kept = lexicon.bytes.iter().sum::<usize>() <= LEXICON_MAX_BYTES;
        let ready = Arc::new(Ready { lexicon, filter, narrow });
        if kept {
            let mut all = all();
            all.push_front(Arc::clone(&ready));
            all.truncate(LEXICONS_MAX);
        }
        Ok(ready)
    }
}

/// What a scanner seeks: what was ready before, and what else there is.
pub(super) struct Sought {
    ready: Arc<Ready>,
    own: Lexicon,
    /// Places in the scanner's list by number, of each.
    places: [Vec<Option<u32>>; 2],
    pub(super) filter: Wide,
    pub(super) narrow: Narrow,
}

impl Sought {
    /// Identifiers are known by their places in this list.
    pub(super) fn new(
        identifiers: &[(Kind, &str)],
        lexicons: Option<&Lexicons>,
        limits: &Limits,
    ) -> Result<Self, Unverifiable> {
        let ready = match lexicons {
            Some(lexicons) => lexicons.with(identifiers, limits)?,
            None => Arc::default(),
        };
        let mut places = vec![None; ready.lexicon.len()];
        let (mut own, mut own_places, mut bytes) = (Vec::new(), Vec::new(), 0);
        for (place, (kind, text)) in (0u32..).zip(identifiers) {
            match ready.lexicon.number(*kind, text) {
                Some(number) => {
                    places[number as usize] = Some(place);
                    bytes += ready.lexicon.bytes(number);
                }
                None => {
                    own.push((*kind, *text));
                    own_places.push(Some(place));
                }
            }
        }
        let (mut filter, mut narrow) = (ready.filter.clone(), ready.narrow.clone());
        let left = limits.patterns_max_bytes.checked_sub(bytes).ok_or_else(|| too_many(limits))?;
        let rest = Limits { patterns_max_bytes: left, ..limits.clone() };
        let own = Lexicon::new(own.into_iter(), &rest, &mut filter, &mut narrow).map_err(|_| too_many(limits))?;
        Ok(Sought { ready, own, places: [places, own_places], filter, narrow })
    }

    pub(super) fn lexicons(&self) -> [&Lexicon; 2] {
        [&self.ready.lexicon, &self.own]
    }

    /// The place in the list of what has this number in that lexicon; nothing where this scanner does not seek it.
    pub(super) fn place(&self, lexicon: usize, number: u32) -> Option<u32> {
        *self.places.get(lexicon)?.get(number as usize)?
    }
}
