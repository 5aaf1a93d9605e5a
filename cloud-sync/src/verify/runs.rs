//! Where in pixel data a needle could end, told by what needles are made of.
//!
//! Needles for bulk are text. Each ends in six bytes of few kinds, such as letters and digits, or in five of them with a zero after each
//! (UTF-16). Pixel data seldom have so many in a row, so most of them are passed over at the speed at which memory is read, and nothing
//! is looked up. Where this does not call, no needle ends.

use std::ops::Range;

use super::search::LONG;

/// Bytes that are told of together.
pub(super) const BLOCK: usize = 64;
/// What is looked at after a block: a run that begins in it ends there.
const AHEAD: usize = 16;
/// Bytes whose kinds are known before any run is sought: they must have come to the cache by then.
const CHUNK: usize = 32 * BLOCK;
/// Letters, each with a zero after it, that count as a run.
const PAIRS: usize = 5;
/// Ranges of bytes by which those of needles are told from others.
const RANGES: usize = 3;
/// Where so many of the 256 bytes are in needles, runs are everywhere.
const KINDS_MAX: usize = 160;

/// Which bytes needles end in.
#[derive(Clone)]
pub(super) struct Kinds([bool; 256]);

impl Default for Kinds {
    fn default() -> Self {
        Self([false; 256])
    }
}

impl Kinds {
    /// Adds a needle of [`LONG`] bytes or more.
    pub(super) fn add(&mut self, needle: &[u8]) {
        let end = || needle.last_chunk::<LONG>().map_or(needle, |end| end).to_vec();
        for byte in letters(needle).unwrap_or_else(end) {
            self.0[usize::from(byte.to_ascii_lowercase())] = true;
            self.0[usize::from(byte.to_ascii_uppercase())] = true;
        }
    }

    /// What tells runs of any of these; nothing where they are too many to tell.
    pub(super) fn runs(all: [&Kinds; 2]) -> Option<Runs> {
        let is_in = |byte: &u8| all.iter().any(|kinds| kinds.0[usize::from(*byte)]);
        let bytes: Vec<u8> = (0..=u8::MAX).filter(is_in).collect();
        let mut ranges: Vec<(u8, u8)> = bytes.iter().map(|&byte| (byte, byte)).collect();
        // The nearest become one until they are few enough.
        while let Some(at) = (1..ranges.len()).min_by_key(|&at| ranges[at].0 - ranges[at - 1].1)
            && ranges.len() > RANGES
        {
            ranges[at - 1].1 = ranges[at].1;
            ranges.remove(at);
        }
        let kinds: usize = ranges.iter().map(|(low, high)| usize::from(high - low) + 1).sum();
        let has_zero = ranges.first().is_some_and(|(low, _)| *low == 0);
        if has_zero || kinds > KINDS_MAX {
            return None;
        }
        // One that is empty is another once more.
        let of = |at: usize| ranges.get(at).or(ranges.first()).map(|(low, high)| (*low, high - low));
        Some(Runs { ranges: [of(0)?, of(1)?, of(2)?] })
    }
}

/// The letters in which a needle of UTF-16 ends, of either byte order.
fn letters(needle: &[u8]) -> Option<Vec<u8>> {
    let little = |needle: &[u8]| -> Option<Vec<u8>> {
        let pairs = needle.last_chunk::<{ 2 * PAIRS }>()?.as_chunks::<2>().0;
        pairs.iter().map(|&[letter, zero]| (letter != 0 && zero == 0).then_some(letter)).collect()
    };
    let (_, rest) = needle.split_last()?;
    little(needle).or_else(|| little(rest))
}

/// Tells runs.
pub(super) struct Runs {
    /// The lowest of each, and how many come after it.
    ranges: [(u8, u8); RANGES],
}

/// What is set for bytes that are letters, and for those with a zero after them.
struct Told {
    letters: [u8; CHUNK + AHEAD],
    paired: [u8; CHUNK + AHEAD],
}

impl Runs {
    /// Calls for each block, by its beginning, in which a run begins: of a needle that lies within `range`, all that is sought
    /// of its last six bytes begins there or within [`Runs::REACH`] after it.
    pub(super) fn blocks(&self, bytes: &[u8], range: Range<usize>, found: &mut impl FnMut(usize)) {
        let within = bytes.get(..range.end).unwrap_or(bytes);
        let mut told = Told { letters: [0; CHUNK + AHEAD], paired: [0; CHUNK + AHEAD] };
        let mut at = range.start;
        while let Some(rest) = within.get(at..).filter(|rest| !rest.is_empty()) {
            match rest.first_chunk() {
                Some(chunk) => self.tell(chunk, &mut told),
                None => {
                    let mut chunk = [0; CHUNK + AHEAD + 1];
                    chunk[..rest.len()].copy_from_slice(rest);
                    self.tell(&chunk, &mut told);
                }
            }
            for block in (0..CHUNK.min(rest.len())).step_by(BLOCK) {
                if told.has_run(block) {
                    found(at + block);
                }
            }
            at += CHUNK;
        }
    }

    /// How far behind a block the last four bytes of its needles begin.
    pub(super) const REACH: usize = AHEAD;

    /// Plain loops over arrays, of which the compiler makes instructions for many bytes at once.
    fn tell(&self, bytes: &[u8; CHUNK + AHEAD + 1], told: &mut Told) {
        let [a, b, c] = self.ranges;
        let set = |is: bool| if is { u8::MAX } else { 0 };
        for (letter, byte) in told.letters.iter_mut().zip(bytes) {
            let is_in = |(low, more): (u8, u8)| byte.wrapping_sub(low) <= more;
            *letter = set(is_in(a) | is_in(b) | is_in(c));
        }
        for ((paired, letter), next) in told.paired.iter_mut().zip(&told.letters).zip(bytes.iter().skip(1)) {
            *paired = letter & set(*next == 0);
        }
    }
}

impl Told {
    /// Whether a run begins in this block; what cannot be told of is looked at.
    fn has_run(&self, block: usize) -> bool {
        let told = (self.letters.get(block..), self.paired.get(block..));
        let (Some(letters), Some(paired)) = told else { return true };
        let told: (Option<&[u8; BLOCK + AHEAD]>, Option<_>) = (letters.first_chunk(), paired.first_chunk());
        let (Some(l), Some(p)): (_, Option<&[u8; BLOCK + AHEAD]>) = told else { return true };
        let mut any = [0; 16];
        for first in (0..BLOCK).step_by(any.len()) {
            for (at, any) in any.iter_mut().enumerate() {
                let at = first + at;
                *any |= l[at] & l[at + 1] & l[at + 2] & l[at + 3] & l[at + 4] & l[at + 5];
                *any |= p[at] & p[at + 2] & p[at + 4] & p[at + 6] & p[at + 8];
            }
        }
        any != [0; 16]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn blocks(needles: &[&[u8]], bytes: &[u8]) -> Option<Vec<usize>> {
        let mut kinds = Kinds::default();
        needles.iter().for_each(|needle| kinds.add(needle));
        let mut found = Vec::new();
        Kinds::runs([&kinds, &Kinds::default()])?.blocks(bytes, 0..bytes.len(), &mut |block| found.push(block));
        Some(found)
    }

    #[test]
    fn blocks_without_a_run_are_passed_over() {
        let mut bytes = vec![0; 10 * BLOCK];
        bytes[2 * BLOCK + 60..][..8].copy_from_slice(b"19580312");
        bytes[7 * BLOCK..][..16].copy_from_slice(b"M\0i\0l\0l\0e\0r\0s\0x\0");
        assert_eq!(blocks(&[b"19580312", b"\0M\0i\0l\0l\0e\0r"], &bytes), Some(vec![2 * BLOCK, 7 * BLOCK]));
        assert_eq!(blocks(&[b"19580312"], &[7; 9 * BLOCK]), Some(vec![]));
    }

    /// Zeros are everywhere, and a text of all bytes is any.
    #[test]
    fn what_cannot_be_told_from_an_image_is_not() {
        assert_eq!(blocks(&[b"\x01\x0D\0a\x01\x0D"], &[0; BLOCK]), None);
        let all: Vec<Vec<u8>> = (1..=u8::MAX).map(|byte| vec![byte; LONG]).collect();
        assert_eq!(blocks(&all.iter().map(Vec::as_slice).collect::<Vec<_>>(), &[0; BLOCK]), None);
    }
}
