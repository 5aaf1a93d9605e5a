//! One pass over every byte of an output, and a second one over its texts without what separates numbers.

use std::collections::BTreeSet;

use sha2::{Digest, Sha256};

use super::attributes::{Meaning, is_time, meaning};
use super::identifiers::{Identifiers, is_moment, is_text};
use super::lexicon::{Lexicons, Sought};
use super::patterns::{Edges, Ground, Pattern};
use super::search::{Search, begins};
use super::walk::{Leaf, Part, Walked, walk};
use super::{Dates, Kind, Leak, Limits, Place, Proof, Retain, Unproven, Unverifiable};

/// Seeks the identifiers of a [`Verifier`](super::Verifier)'s sources in outputs. It can be shared by threads.
pub struct Scanner {
    identifiers: Vec<Identifier>,
    sought: Sought,
    retain: Retain,
    limits: Limits,
}

struct Identifier {
    kind: Kind,
    /// At which a day stood.
    tags: BTreeSet<u32>,
}

/// How much is sought, not what.
impl std::fmt::Debug for Scanner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Scanner")
            .field("sought", &self.identifiers.len())
            .field("retain", &self.retain)
            .finish_non_exhaustive()
    }
}

/// Bytes between which edges are sought, and what they are.
struct Region<'a> {
    start: usize,
    end: usize,
    ground: Ground,
    leaf: Option<&'a Leaf>,
}

impl Scanner {
    pub(super) fn new(
        identifiers: &Identifiers,
        retain: Retain,
        lexicons: Option<&Lexicons>,
        limits: &Limits,
    ) -> Result<Self, Unverifiable> {
        let days: BTreeSet<&str> = match retain.dates {
            Dates::Full => identifiers.iter().filter(|(kind, ..)| *kind == Kind::Date).map(|(_, day, _)| day).collect(),
            Dates::Removed | Dates::Modified => BTreeSet::new(),
        };
        let (mut all, mut texts) = (Vec::new(), Vec::new());
        for (kind, text, tags) in identifiers.iter() {
            let kept = kind == Kind::BirthDate && days.contains(text);
            if kept || retain.excuses(kind) {
                continue;
            }
            all.push(Identifier { kind, tags: if kind == Kind::Date { tags.clone() } else { BTreeSet::new() } });
            texts.push((kind, text));
        }
        let sought = Sought::new(&texts, lexicons, limits)?;
        Ok(Scanner { identifiers: all, sought, retain, limits: limits.clone() })
    }

    pub(super) fn leaks_max(&self) -> usize {
        self.limits.leaks_max
    }

    /// Looks through a DICOM file.
    ///
    /// # Errors
    /// Where identifiers of the sources are, or why it could not be followed to its end.
    pub fn prove_instance(&self, output: &[u8]) -> Result<Proof, Unproven> {
        self.seek_in_instance(output)?;
        Ok(self.proof(output))
    }

    pub(super) fn seek_in_instance(&self, output: &[u8]) -> Result<(), Unproven> {
        let walked = walk(output, &self.limits).map_err(Unproven::Output)?;
        let mut leaks = Vec::new();
        self.scan(output, &regions(&walked, Part::File), Some(&walked), &mut leaks);
        if let Some(inflated) = &walked.inflated {
            self.scan(inflated, &regions(&walked, Part::Inflated), Some(&walked), &mut leaks);
        }
        clean(leaks)
    }

    /// Looks through JSON or any other text.
    ///
    /// # Errors
    /// Where identifiers of the sources are.
    pub fn prove_text(&self, output: &[u8]) -> Result<Proof, Unproven> {
        self.seek_in_text(output)?;
        Ok(self.proof(output))
    }

    pub(super) fn seek_in_text(&self, output: &[u8]) -> Result<(), Unproven> {
        let mut leaks = Vec::new();
        let whole = Region { start: 0, end: output.len(), ground: Ground::Text, leaf: None };
        self.scan(output, &[whole], None, &mut leaks);
        clean(leaks)
    }

    /// Of an output in which nothing was found, or nothing but false alarms.
    pub(super) fn proof(&self, output: &[u8]) -> Proof {
        let output_sha256 = Sha256::digest(output).into();
        Proof { output_sha256, identifiers: self.identifiers(), retain: self.retain, passed: BTreeSet::new() }
    }

    /// How many identifiers it seeks.
    pub(super) fn identifiers(&self) -> usize {
        self.identifiers.len()
    }

    /// What it excuses.
    pub(super) fn retain(&self) -> Retain {
        self.retain
    }

    fn scan(&self, bytes: &[u8], regions: &[Region<'_>], walked: Option<&Walked<'_>>, leaks: &mut Vec<Leak>) {
        let lexicons = self.sought.lexicons();
        let search = Search::new(&self.sought.filter, lexicons.map(|lexicon| &lexicon.index));
        let gap = Region { start: 0, end: bytes.len(), ground: Ground::Small, leaf: None };
        let mut candidate = |(lexicon, needle, end): (usize, u32, usize)| {
            let known: Option<&(u32, Pattern)> = lexicons[lexicon].patterns.get(needle as usize);
            let Some((number, pattern)) = known else { return };
            let Some(identifier) = self.sought.place(lexicon, *number) else { return };
            let Some(start) = begins(&pattern.bytes, bytes, end) else { return };
            let before = regions.partition_point(|region| region.start <= start);
            let region = before.checked_sub(1).and_then(|at| regions.get(at)).filter(|region| end <= region.end);
            let region = region.unwrap_or(&gap);
            if counts(pattern, bytes, start, end, region) {
                self.report(identifier, pattern.encoding, start, region, walked, leaks);
            }
        };
        // What lies within bulk is long; what reaches over its ends is anything.
        let longest = lexicons.map(|lexicon| lexicon.index.longest()).into_iter().max().unwrap_or_default();
        let closely_all = lexicons.iter().any(|lexicon| lexicon.is_short);
        let mut from = 0;
        for region in regions.iter().filter(|region| region.ground == Ground::Bulk && !closely_all) {
            let (inner, end) = (region.start.saturating_add(longest), region.end.saturating_sub(longest));
            if inner >= end {
                continue;
            }
            search.closely(bytes, from..inner, &mut candidate);
            search.in_bulk(bytes, region.start..region.end, &mut candidate);
            from = end;
        }
        search.closely(bytes, from..bytes.len(), &mut candidate);
        self.squeeze(bytes, regions, walked, leaks);
    }

    /// Numbers whatever separates their digits.
    fn squeeze(&self, bytes: &[u8], regions: &[Region<'_>], walked: Option<&Walked<'_>>, leaks: &mut Vec<Leak>) {
        let lexicons = self.sought.lexicons();
        let lengths = lexicons.iter().flat_map(|lexicon| lexicon.squeezed.iter().map(|squeezed| squeezed.bytes.len()));
        let Some(shortest) = lengths.min() else { return };
        let search = Search::new(&self.sought.narrow, lexicons.map(|lexicon| &lexicon.squeezing));
        let (mut kept, mut bare): (Vec<usize>, Vec<u8>) = Default::default();
        for region in regions.iter().filter(|r| is_squeezable(r.ground) && r.end - r.start >= shortest) {
            kept.clear();
            kept.extend(within(bytes, region).filter(|(_, b)| !SEPARATES[usize::from(*b)]).map(|(at, _)| at));
            bare.clear();
            bare.extend(kept.iter().filter_map(|&at| bytes.get(at)));
            let is_alphanumeric = |at: Option<usize>| {
                let at = at.filter(|&at| (region.start..region.end).contains(&at));
                at.and_then(|at| bytes.get(at)).is_some_and(u8::is_ascii_alphanumeric)
            };
            search.closely(&bare, 0..bare.len(), &mut |(lexicon, needle, end)| {
                let Some(squeezed) = lexicons[lexicon].squeezed.get(needle as usize) else { return };
                let Some(identifier) = self.sought.place(lexicon, squeezed.number) else { return };
                let Some(begin) = begins(&squeezed.bytes, &bare, end) else { return };
                let (Some(&start), Some(&last)) = (kept.get(begin), kept.get(end - 1)) else { return };
                let free = squeezed.end_only || !is_alphanumeric(start.checked_sub(1));
                if free && !is_alphanumeric(Some(last + 1)) {
                    self.report(identifier, "without separators", start, region, walked, leaks);
                }
            });
        }
    }

    fn report(
        &self,
        identifier: u32,
        encoding: &'static str,
        at: usize,
        region: &Region<'_>,
        walked: Option<&Walked<'_>>,
        leaks: &mut Vec<Leak>,
    ) {
        let Some(sought) = self.identifiers.get(identifier as usize) else { return };
        // A moved day may fall on another day of the source, but not at the same attribute.
        let moved =
            self.retain.dates == Dates::Modified && sought.kind == Kind::Date && region.ground == Ground::Temporal;
        if moved && region.leaf.is_some_and(|leaf| !sought.tags.contains(&leaf.tag)) {
            return;
        }
        let place = match (region.leaf, walked) {
            (Some(leaf), Some(walked)) => {
                let mut tags: Vec<u32> = walked.around(leaf).collect();
                tags.reverse();
                tags.push(leaf.tag);
                Place::Element(tags)
            }
            _ => Place::Offset(at),
        };
        let leak = Leak { kind: sought.kind, place, encoding };
        if leaks.len() < self.limits.leaks_max && !leaks.contains(&leak) {
            leaks.push(leak);
        }
    }
}

fn clean(leaks: Vec<Leak>) -> Result<(), Unproven> {
    if leaks.is_empty() { Ok(()) } else { Err(Unproven::Leaks(leaks)) }
}

fn within<'b>(bytes: &'b [u8], region: &Region<'_>) -> impl Iterator<Item = (usize, u8)> + 'b {
    let range = region.start..region.end;
    range.clone().zip(bytes.get(range).unwrap_or_default().iter().copied())
}

/// What stands between the digits of a number.
const SEPARATES: [bool; 256] = {
    let (mut all, separators) = ([false; 256], b" -./_:()+,\0");
    let mut at = 0;
    while at < separators.len() {
        all[separators[at] as usize] = true;
        at += 1;
    }
    all
};

fn is_squeezable(ground: Ground) -> bool {
    matches!(ground, Ground::Name | Ground::Text | Ground::Code | Ground::Small)
}

fn regions<'a>(walked: &'a Walked<'_>, part: Part) -> Vec<Region<'a>> {
    let preamble = Region { start: 0, end: 128, ground: Ground::Small, leaf: None };
    let has_preamble = part == Part::File && walked.file.get(128..132) == Some(b"DICM");
    let leaves = walked.leaves.iter().filter(|leaf| leaf.part == part && leaf.len > 0).map(|leaf| Region {
        start: leaf.start,
        end: leaf.start + leaf.len,
        ground: ground(walked, leaf),
        leaf: Some(leaf),
    });
    has_preamble.then_some(preamble).into_iter().chain(leaves).collect()
}

/// Binary values up to this are looked through as closely as texts.
const SMALL_MAX_BYTES: usize = 4096;

fn ground(walked: &Walked<'_>, leaf: &Leaf) -> Ground {
    let binary = if leaf.len <= SMALL_MAX_BYTES && leaf.tag != 0x7FE0_0010 { Ground::Small } else { Ground::Bulk };
    match leaf.vr.as_ref() {
        Some(b"PN") => Ground::Name,
        Some(b"LO" | b"SH" | b"LT" | b"ST" | b"UT" | b"UC" | b"UR" | b"AE") => Ground::Text,
        Some(b"CS") => Ground::Code,
        Some(b"DS" | b"IS") => Ground::Number,
        Some(b"DA" | b"TM" | b"DT" | b"AS") => Ground::Temporal,
        Some(b"UI") => Ground::Uid,
        Some(b"AT" | b"FL" | b"FD" | b"SL" | b"SS" | b"SV" | b"UL" | b"US" | b"UV") => binary,
        Some(b"OB" | b"OW" | b"OF" | b"OD" | b"OL" | b"OV") if !is_text(walked.bytes(leaf)) => binary,
        _ => untold(walked, leaf, binary),
    }
}

/// Without a VR of its own, by what is known of the tag and by shape.
fn untold(walked: &Walked<'_>, leaf: &Leaf, binary: Ground) -> Ground {
    let bytes = walked.bytes(leaf);
    match meaning(leaf.tag, walked.around(leaf)) {
        _ if leaf.tag == 0x7FE0_0010 || !is_text(bytes) => binary,
        Some(Meaning::Sought(Kind::Name | Kind::Staff)) => Ground::Name,
        Some(Meaning::Sought(_) | Meaning::Text) => Ground::Text,
        _ if leaf.vr.is_some() => Ground::Text,
        _ => {
            let text = String::from_utf8_lossy(bytes);
            let text = text.trim_matches([' ', '\0']);
            let all = |signs: &str| text.chars().all(|c| c.is_ascii_digit() || signs.contains(c));
            if all(".") && text.split('.').count() > 3 {
                Ground::Uid
            } else if is_moment(text) || is_time(leaf.tag) {
                Ground::Temporal
            } else if all(".+-eE\\ ") {
                Ground::Number
            } else {
                Ground::Text
            }
        }
    }
}

/// Whether bytes that look like a pattern are it, by the table of the module's documentation.
fn counts(pattern: &Pattern, bytes: &[u8], start: usize, end: usize, region: &Region<'_>) -> bool {
    let Some(found) = bytes.get(start..end) else { return false };
    if !pattern.grounds.has(region.ground) || pattern.exact && found != pattern.bytes {
        return false;
    }
    let (low, stride) = (pattern.low, pattern.stride);
    let inside = |at: usize| (region.start..region.end).contains(&at);
    let at = |at: Option<usize>| at.filter(|&at| inside(at)).and_then(|at| bytes.get(at)).copied();
    let before = at((start + low).checked_sub(stride));
    let after = at(Some(end + low));
    // Seven bits of JIS are text of ASCII unless an escape sequence came before.
    if pattern.encoding == "ISO-2022-JP" {
        let from = start.saturating_sub(128).max(region.start);
        if !bytes.get(from..start).is_some_and(|before| before.contains(&0x1B)) {
            return false;
        }
    }
    // Boundaries say nothing where a value is in no alphabet.
    if pattern.exact && pattern.encoding != "UTF-8" && pattern.edges != Edges::Word {
        return region.ground != Ground::Bulk || pattern.bulk;
    }
    let first = found.get(low).copied();
    let last = found.len().checked_sub(stride).and_then(|at| found.get(at + low)).copied();
    let word_before = is_boundary(before, first, region.ground);
    let word_after = is_boundary(after, last, region.ground);
    let digit = |b: Option<u8>| b.is_some_and(|b| b.is_ascii_digit());
    let edges = match (pattern.edges, region.ground) {
        (Edges::Number, _) => !digit(before) && !digit(after),
        (Edges::NumberBefore, Ground::Temporal | Ground::Text | Ground::Name | Ground::Code | Ground::Small) => {
            !digit(before)
        }
        (Edges::NumberBefore, _) => !digit(before) && !digit(after),
        (Edges::Word, _) | (_, Ground::Bulk) => word_before && word_after,
        (_, Ground::Code) if found.len() < 10 * stride => word_before && word_after,
        (Edges::One, _) => word_before || word_after,
        (Edges::Free, _) => true,
    };
    edges
        && (region.ground != Ground::Bulk || pattern.bulk && word_before && word_after && is_plausible(pattern, found))
        && (!pattern.faint || region.ground != Ground::Small || stride > 1 || is_printed(bytes, start, end, region))
}

/// Letters end at anything else, digits and letters at each other; in text, bytes beyond ASCII go with letters.
fn is_boundary(outside: Option<u8>, inside: Option<u8>, ground: Ground) -> bool {
    let class = |b: u8| match b {
        b'0'..=b'9' => 1,
        b if b.is_ascii_alphabetic() || b >= 0x80 && ground != Ground::Bulk => 2,
        _ => 0,
    };
    match (outside, inside) {
        (Some(outside), Some(inside)) => class(outside) == 0 || class(outside) != class(inside),
        _ => true,
    }
}

/// In a case in which people write: random bytes mix them.
fn is_plausible(pattern: &Pattern, found: &[u8]) -> bool {
    let letters = || found.iter().filter(|b| b.is_ascii_alphabetic());
    let titled = || {
        let mut inside = false;
        found.iter().filter(|&&b| b != 0).all(|b| {
            let fits = !b.is_ascii_alphabetic() || b.is_ascii_lowercase() == inside;
            inside = b.is_ascii_alphanumeric();
            fits
        })
    };
    found == pattern.bytes || letters().all(u8::is_ascii_lowercase) || letters().all(u8::is_ascii_uppercase) || titled()
}

/// Among at least eight printable bytes.
fn is_printed(bytes: &[u8], start: usize, end: usize, region: &Region<'_>) -> bool {
    let is_printable = |b: &&u8| (0x20..0x7F).contains(*b);
    let before = bytes.get(region.start..start).unwrap_or_default().iter().rev().take_while(is_printable).count();
    let after = bytes.get(end..region.end).unwrap_or_default().iter().take_while(is_printable).count();
    before + after + (end - start) >= 8
}
