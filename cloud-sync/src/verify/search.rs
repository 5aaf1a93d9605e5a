//! Many byte strings sought at once, ASCII letters in any case.
//!
//! ```text
//!  bytes ─▶ four of them, folded and hashed ─▶ filter: is the bit set? ─▶ seldom: index ─▶ candidates, compared by the caller
//! ```
//!
//! A needle is known by its last four bytes. Where bytes are many, only every third place is looked at: long needles are also
//! known by the four bytes that end one and two before their end, so one of the three groups lies at such a place wherever the
//! needle does; and only where there are enough letters in a row for a needle (`runs.rs`). The filter may call in vain; what it does not
//! call for is not there.

use std::ops::Range;

use super::runs::{BLOCK, Kinds, Runs};

/// Bytes that are looked up together.
const GRAM: usize = 4;
/// Of this many places one is looked at where bytes are many.
const STRIDE: usize = 3;
/// Places that are looked at together: the processor asks for the next before it has the answer to the last.
const PLACES: usize = 4;
/// The shortest needle that is found so.
pub(super) const LONG: usize = GRAM + STRIDE - 1;

/// Four bytes; letters are the same in both cases. Digits and zeros stay what they are: images are full of bytes like them.
fn gram(four: [u8; GRAM]) -> u32 {
    let four = u32::from_le_bytes(four);
    four | (four & 0x4040_4040) >> 1
}

fn gram_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().copied().map(gram)
}

/// By Fibonacci's multiplier: the high bits depend on all of the gram's.
fn hash(gram: u32) -> u64 {
    u64::from(gram).wrapping_mul(0x9E37_79B9_7F4A_7C15)
}

/// Two bits for each gram that is sought, both in the same one of so many words.
#[derive(Clone)]
pub(super) struct Filter<const WORDS: usize>(Box<[u64; WORDS]>);

impl<const WORDS: usize> Default for Filter<WORDS> {
    fn default() -> Self {
        Filter(Box::new([0; WORDS]))
    }
}

impl<const WORDS: usize> Filter<WORDS> {
    /// Which word, and which bits of it.
    fn place(gram: u32) -> (usize, u32, u32) {
        let hash = hash(gram);
        let word = (hash >> (64 - WORDS.trailing_zeros())) as usize % WORDS;
        (word, (hash >> 40) as u32 % 64, (hash >> 34) as u32 % 64)
    }

    fn add(&mut self, gram: u32) {
        let (word, one, other) = Self::place(gram);
        self.0[word] |= 1 << one | 1 << other;
    }

    /// Whether both bits are set, in the lowest bit; the others say nothing.
    fn bits(&self, gram: u32) -> u64 {
        let (word, one, other) = Self::place(gram);
        self.0[word] >> one & self.0[word] >> other
    }

    fn has(&self, gram: u32) -> bool {
        self.bits(gram) & 1 == 1
    }
}

/// A gram of a needle.
#[derive(Clone, Copy)]
struct Entry {
    gram: u32,
    /// The one before it, where the needle is that long.
    before: Option<u32>,
    needle: u32,
    /// How many bytes of the needle come after it.
    rest: u8,
}

/// A needle that has no gram.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Short {
    /// In lower case.
    first: u8,
    needle: u32,
    len: u8,
}

/// Needles by their grams.
#[derive(Default)]
pub(super) struct Index {
    /// Where the entries of each hash begin, and at last where all end.
    begins: Vec<u32>,
    entries: Vec<Entry>,
    shift: u32,
    short: Vec<Short>,
    /// What needles for bulk end in.
    kinds: Kinds,
    /// The length of the longest needle.
    longest: usize,
}

/// Something to seek.
pub(super) struct Needle<'n> {
    pub(super) bytes: &'n [u8],
    /// Also where bytes are many. It has [`LONG`] bytes or more then.
    pub(super) in_bulk: bool,
}

impl Index {
    /// Needles are known by their places in `needles`; their grams go into the filter.
    pub(super) fn new<'n, const WORDS: usize>(
        needles: impl Iterator<Item = Needle<'n>>,
        filter: &mut Filter<WORDS>,
    ) -> Self {
        let mut index = Index::default();
        let mut all = Vec::new();
        for (needle, Needle { bytes, in_bulk }) in (0..).zip(needles) {
            index.longest = index.longest.max(bytes.len());
            let rests = if in_bulk { STRIDE } else { 1 };
            if in_bulk {
                index.kinds.add(bytes);
            }
            let grams = (0..rests).map_while(|rest| bytes.len().checked_sub(GRAM + rest).map(|at| (rest, at)));
            for (rest, at) in grams {
                let Some(gram) = gram_at(bytes, at) else { continue };
                filter.add(gram);
                let before = at.checked_sub(GRAM).and_then(|at| gram_at(bytes, at));
                all.push(Entry { gram, before, needle, rest: rest as u8 });
            }
            if let (1..GRAM, Some(first)) = (bytes.len(), bytes.first()) {
                index.short.push(Short { first: first.to_ascii_lowercase(), needle, len: bytes.len() as u8 });
            }
        }
        index.short.sort_unstable();
        // About one entry for each hash.
        let bits = all.len().next_power_of_two().trailing_zeros().clamp(4, 20);
        index.shift = 64 - bits;
        index.sort(&all, 1 << bits);
        index
    }

    /// Puts entries of one hash side by side.
    fn sort(&mut self, entries: &[Entry], hashes: usize) {
        let mut begins = vec![0u32; hashes + 1];
        for entry in entries {
            begins[(hash(entry.gram) >> self.shift) as usize + 1] += 1;
        }
        let mut sum = 0;
        for begin in &mut begins {
            sum += *begin;
            *begin = sum;
        }
        let mut next = begins.clone();
        self.entries = vec![Entry { gram: 0, before: None, needle: 0, rest: 0 }; entries.len()];
        for entry in entries {
            let place = &mut next[(hash(entry.gram) >> self.shift) as usize];
            self.entries[*place as usize] = *entry;
            *place += 1;
        }
        self.begins = begins;
    }

    pub(super) fn longest(&self) -> usize {
        self.longest
    }

    fn of(&self, gram: u32) -> impl Iterator<Item = &Entry> {
        let hash = (hash(gram) >> self.shift) as usize;
        let range = match self.begins.get(hash..hash + 2) {
            Some(&[begin, end]) => begin as usize..end as usize,
            _ => 0..0,
        };
        self.entries.get(range).unwrap_or_default().iter().filter(move |entry| entry.gram == gram)
    }
}

/// Two indexes, and the filter of both.
pub(super) struct Search<'s, const WORDS: usize> {
    filter: &'s Filter<WORDS>,
    indexes: [&'s Index; 2],
    /// With what needles begin that have no gram.
    firsts: [bool; 256],
    /// Where needles for bulk may be; nothing where they may be anywhere.
    runs: Option<Runs>,
}

/// A needle that may stand there: of which index, which, and where it would end.
pub(super) type Candidate = (usize, u32, usize);

impl<'s, const WORDS: usize> Search<'s, WORDS> {
    pub(super) fn new(filter: &'s Filter<WORDS>, indexes: [&'s Index; 2]) -> Self {
        let mut firsts = [false; 256];
        let short = indexes.iter().flat_map(|index| &index.short);
        for Short { first, .. } in short {
            firsts[usize::from(*first)] = true;
            firsts[usize::from(first.to_ascii_uppercase())] = true;
        }
        Self { filter, indexes, firsts, runs: Kinds::runs(indexes.map(|index| &index.kinds)) }
    }

    /// Every needle whose last four bytes may begin in `range`; of shorter ones, whose first does.
    pub(super) fn closely(&self, bytes: &[u8], range: Range<usize>, candidate: &mut impl FnMut(Candidate)) {
        let mut at = range.start;
        while at < range.end {
            let Some(block) = bytes.get(at..).and_then(<[u8]>::first_chunk::<{ PLACES + GRAM - 1 }>) else { break };
            let [a, b, c, d, e, f, g] = *block;
            let grams = [[a, b, c, d], [b, c, d, e], [c, d, e, f], [d, e, f, g]];
            let any = grams.iter().fold(0, |any, four| {
                any | self.filter.bits(gram(*four)) | u64::from(self.firsts[usize::from(four[0])])
            });
            if any & 1 == 1 {
                (at..range.end.min(at + PLACES)).for_each(|at| self.closely_at(bytes, at, candidate));
            }
            at += PLACES;
        }
        (at..range.end.min(bytes.len())).for_each(|at| self.closely_at(bytes, at, candidate));
    }

    fn closely_at(&self, bytes: &[u8], at: usize, candidate: &mut impl FnMut(Candidate)) {
        if let Some(first) = bytes.get(at).filter(|first| self.firsts[usize::from(**first)]) {
            self.short(first.to_ascii_lowercase(), at, candidate);
        }
        if let Some(gram) = gram_at(bytes, at).filter(|&gram| self.filter.has(gram)) {
            self.look(bytes, gram, at, 1, candidate);
        }
    }

    /// Every needle for bulk that may lie within `range`, some twice.
    pub(super) fn in_bulk(&self, bytes: &[u8], range: Range<usize>, candidate: &mut impl FnMut(Candidate)) {
        let Some(runs) = &self.runs else { return self.in_strides(bytes, range, candidate) };
        let end = range.end;
        runs.blocks(bytes, range, &mut |block| {
            self.in_strides(bytes, block..end.min(block + BLOCK + Runs::REACH), candidate);
        });
    }

    /// The same without asking first where needles may be.
    fn in_strides(&self, bytes: &[u8], range: Range<usize>, candidate: &mut impl FnMut(Candidate)) {
        const STRIDES: usize = STRIDE * (PLACES - 1) + GRAM;
        let within = bytes.get(..range.end).unwrap_or(bytes);
        let mut at = range.start;
        while let Some(block) = within.get(at..).and_then(<[u8]>::first_chunk::<STRIDES>) {
            let [a, b, c, d, e, f, g, h, i, j, k, l, m] = *block;
            let grams = [[a, b, c, d], [d, e, f, g], [g, h, i, j], [j, k, l, m]].map(gram);
            let any = grams.iter().fold(0, |any, &gram| any | self.filter.bits(gram));
            if any & 1 == 1 {
                for (place, gram) in grams.into_iter().enumerate().filter(|(_, gram)| self.filter.has(*gram)) {
                    self.look(bytes, gram, at + place * STRIDE, STRIDE, candidate);
                }
            }
            at += PLACES * STRIDE;
        }
        while let Some(gram) = gram_at(within, at) {
            if self.filter.has(gram) {
                self.look(bytes, gram, at, STRIDE, candidate);
            }
            at += STRIDE;
        }
    }

    fn look(&self, bytes: &[u8], gram: u32, at: usize, rests: usize, candidate: &mut impl FnMut(Candidate)) {
        let before = at.checked_sub(GRAM).and_then(|at| gram_at(bytes, at));
        for (number, index) in self.indexes.iter().enumerate() {
            let fits =
                |entry: &&Entry| usize::from(entry.rest) < rests && (entry.before.is_none() || entry.before == before);
            for entry in index.of(gram).filter(fits) {
                candidate((number, entry.needle, at + GRAM + usize::from(entry.rest)));
            }
        }
    }

    fn short(&self, first: u8, at: usize, candidate: &mut impl FnMut(Candidate)) {
        for (number, index) in self.indexes.iter().enumerate() {
            let from = index.short.partition_point(|short| short.first < first);
            let rest = index.short.get(from..).unwrap_or_default();
            for short in rest.iter().take_while(|short| short.first == first) {
                candidate((number, short.needle, at + usize::from(short.len)));
            }
        }
    }
}

/// Where a needle begins that ends there, if it does.
pub(super) fn begins(needle: &[u8], bytes: &[u8], end: usize) -> Option<usize> {
    let start = end.checked_sub(needle.len())?;
    bytes.get(start..end)?.eq_ignore_ascii_case(needle).then_some(start)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Needle and end of each place, by looking everywhere.
    fn plainly(needles: &[Vec<u8>], bytes: &[u8]) -> Vec<(usize, usize)> {
        let ends = |needle: &[u8]| needle.len()..=bytes.len();
        let all = needles.iter().enumerate().flat_map(|(n, needle)| ends(needle).map(move |end| (n, end)));
        let mut found: Vec<_> = all.filter(|(n, end)| begins(&needles[*n], bytes, *end).is_some()).collect();
        found.sort_unstable();
        found
    }

    fn by_index(needles: &[Vec<u8>], bytes: &[u8], from: usize, bulk: bool) -> Vec<(usize, usize)> {
        let mut filter = Filter::<16>::default();
        let (some, others) = needles.split_at(needles.len() / 2);
        let mut index = |needles: &[Vec<u8>]| {
            let all = needles.iter().map(|bytes| Needle { bytes, in_bulk: bytes.len() >= LONG });
            Index::new(all, &mut filter)
        };
        let indexes = [index(some), index(others)];
        let search = Search::new(&filter, [&indexes[0], &indexes[1]]);
        let mut found = Vec::new();
        let mut candidate = |(index, needle, end): Candidate| {
            let needle = index * some.len() + needle as usize;
            let is_here = begins(&needles[needle], bytes, end).is_some_and(|start| start >= from);
            if is_here && (!bulk || needles[needle].len() >= LONG) {
                found.push((needle, end));
            }
        };
        match bulk {
            true => search.in_bulk(bytes, from..bytes.len(), &mut candidate),
            false => search.closely(bytes, from..bytes.len(), &mut candidate),
        }
        found.sort_unstable();
        found.dedup();
        found
    }

    /// Text in one byte or two.
    fn written(text: &[u8], as_is: u8) -> Vec<u8> {
        match as_is {
            0 => text.to_vec(),
            1 => text.iter().flat_map(|&b| [b, 0]).collect(),
            _ => text.iter().flat_map(|&b| [0, b]).collect(),
        }
    }

    proptest! {
        /// Few letters, so that needles overlap, repeat and nearly stand everywhere.
        #[test]
        fn nothing_is_missed(
            needles in prop::collection::vec(prop::collection::vec(prop::sample::select(&b"aAb1\0\xFF"[..]), 1..12), 1..12),
            bytes in prop::collection::vec(prop::sample::select(&b"aAbB1\0\xFF"[..]), 0..400),
            from in 0usize..12,
        ) {
            let from = from.min(bytes.len());
            let expected: Vec<_> =
                plainly(&needles, &bytes).into_iter().filter(|(n, end)| end - needles[*n].len() >= from).collect();
            prop_assert_eq!(by_index(&needles, &bytes, from, false), expected.clone());
            let long: Vec<_> = expected.into_iter().filter(|(n, _)| needles[*n].len() >= LONG).collect();
            prop_assert_eq!(by_index(&needles, &bytes, from, true), long);
        }

        /// Text among noise, so that most blocks are passed over.
        #[test]
        fn no_text_is_missed_where_runs_are_sought_first(
            texts in prop::collection::vec((prop::collection::vec(prop::sample::select(&b"aB1.z"[..]), 6..9), 0u8..3), 1..6),
            noise in prop::collection::vec(prop::sample::select(&b"\0\0\x01\x0F1aB\x80\xFF"[..]), 0..6000),
            places in prop::collection::vec((0usize..6000, 0usize..6), 0..12),
        ) {
            let needles: Vec<_> = texts.iter().map(|(text, as_is)| written(text, *as_is)).collect();
            let mut bytes = noise;
            for (at, needle) in places {
                let needle = &needles[needle % needles.len()];
                if let Some(place) = bytes.get_mut(at..at + needle.len()) {
                    place.copy_from_slice(needle);
                }
            }
            prop_assert_eq!(by_index(&needles, &bytes, 0, true), plainly(&needles, &bytes));
        }
    }
}
