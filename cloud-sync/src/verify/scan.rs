//! One pass over every byte of an output, and a second one over its texts without what separates numbers.

use std::collections::BTreeSet;

use aho_corasick::{AhoCorasick, AhoCorasickKind, MatchKind};
use sha2::{Digest, Sha256};

use super::attributes::{Meaning, is_time, meaning};
use super::identifiers::{Identifiers, is_moment, is_text};
use super::patterns::{Edges, Ground, Pattern, patterns};
use super::spellings::{Trust, spellings};
use super::walk::{Leaf, Part, Walked, walk};
use super::{Dates, Kind, Leak, Limits, Place, Proof, Retain, Unproven, Unverifiable};

/// Seeks the identifiers of a [`Verifier`](super::Verifier)'s sources in outputs. It can be shared by threads.
pub struct Scanner {
    sought: Vec<Sought>,
    patterns: Vec<(u32, Pattern)>,
    automaton: AhoCorasick,
    /// By identifier; whether codes may stand before it.
    squeezed: Vec<(u32, bool)>,
    squeezing: AhoCorasick,
    retain: Retain,
    limits: Limits,
}

struct Sought {
    kind: Kind,
    tags: BTreeSet<u32>,
}

/// How much is sought, not what.
impl std::fmt::Debug for Scanner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Scanner")
            .field("sought", &self.sought.len())
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
    pub(super) fn new(identifiers: &Identifiers, retain: Retain, limits: &Limits) -> Result<Self, Unverifiable> {
        let days: BTreeSet<&str> =
            identifiers.iter().filter(|(kind, ..)| *kind == Kind::Date).map(|(_, text, _)| text).collect();
        let (mut sought, mut all, mut squeezed) = (Vec::new(), Vec::new(), Vec::new());
        let mut numbers: Vec<Vec<u8>> = Vec::new();
        let mut bytes = 0;
        for (kind, text, tags) in identifiers.iter() {
            let kept = kind == Kind::BirthDate && retain.dates == Dates::Full && days.contains(text);
            if kept || retain.excuses(kind) {
                continue;
            }
            let at = sought.len() as u32;
            sought.push(Sought { kind, tags: tags.clone() });
            for spelling in spellings(kind, text) {
                if matches!(spelling.trust, Trust::Squeezed | Trust::SqueezedEnd) {
                    squeezed.push((at, spelling.trust == Trust::SqueezedEnd));
                    numbers.push(spelling.text.into_bytes());
                    continue;
                }
                for pattern in patterns(&spelling) {
                    bytes += pattern.bytes.len();
                    all.push((at, pattern));
                }
                if bytes > limits.patterns_max_bytes {
                    return Err(Unverifiable::Limit { name: "patterns_max_bytes", limit: limits.patterns_max_bytes });
                }
            }
        }
        let too_many = |_| Unverifiable::Limit { name: "patterns_max_bytes", limit: limits.patterns_max_bytes };
        let build = |patterns: &mut dyn Iterator<Item = &[u8]>| {
            AhoCorasick::builder()
                .ascii_case_insensitive(true)
                .match_kind(MatchKind::Standard)
                .kind(Some(AhoCorasickKind::ContiguousNFA))
                .build(patterns)
                .map_err(too_many)
        };
        let automaton = build(&mut all.iter().map(|(_, pattern)| pattern.bytes.as_slice()))?;
        let squeezing = build(&mut numbers.iter().map(Vec::as_slice))?;
        Ok(Scanner { sought, patterns: all, automaton, squeezed, squeezing, retain, limits: limits.clone() })
    }

    pub(super) fn leaks_max(&self) -> usize {
        self.limits.leaks_max
    }

    /// Looks through a DICOM file.
    ///
    /// # Errors
    /// Where identifiers of the sources are, or why it could not be followed to its end.
    pub fn prove_instance(&self, output: &[u8]) -> Result<Proof, Unproven> {
        let walked = walk(output, &self.limits).map_err(Unproven::Output)?;
        let mut leaks = Vec::new();
        self.scan(output, &regions(&walked, Part::File), Some(&walked), &mut leaks);
        if let Some(inflated) = &walked.inflated {
            self.scan(inflated, &regions(&walked, Part::Inflated), Some(&walked), &mut leaks);
        }
        self.conclude(output, leaks)
    }

    /// Looks through JSON or any other text.
    ///
    /// # Errors
    /// Where identifiers of the sources are.
    pub fn prove_text(&self, output: &[u8]) -> Result<Proof, Unproven> {
        let mut leaks = Vec::new();
        let whole = Region { start: 0, end: output.len(), ground: Ground::Text, leaf: None };
        self.scan(output, &[whole], None, &mut leaks);
        self.conclude(output, leaks)
    }

    fn conclude(&self, output: &[u8], leaks: Vec<Leak>) -> Result<Proof, Unproven> {
        if !leaks.is_empty() {
            return Err(Unproven::Leaks(leaks));
        }
        Ok(self.proof(output))
    }

    /// Of an output in which nothing was found, or nothing but false alarms.
    pub(super) fn proof(&self, output: &[u8]) -> Proof {
        let output_sha256 = Sha256::digest(output).into();
        Proof { output_sha256, identifiers: self.sought.len(), retain: self.retain, passed: BTreeSet::new() }
    }

    fn scan(&self, bytes: &[u8], regions: &[Region<'_>], walked: Option<&Walked<'_>>, leaks: &mut Vec<Leak>) {
        let gap = Region { start: 0, end: bytes.len(), ground: Ground::Small, leaf: None };
        for found in self.automaton.find_overlapping_iter(bytes) {
            let Some((sought, pattern)) = self.patterns.get(found.pattern().as_usize()) else { continue };
            let (start, end) = (found.start(), found.end());
            let before = regions.partition_point(|region| region.start <= start);
            let region = before.checked_sub(1).and_then(|at| regions.get(at)).filter(|region| end <= region.end);
            let region = region.unwrap_or(&gap);
            if counts(pattern, bytes, start, end, region) {
                self.report(*sought, pattern.encoding, start, region, walked, leaks);
            }
        }
        for region in regions.iter().filter(|region| is_squeezable(region.ground)) {
            self.squeeze(bytes, region, walked, leaks);
        }
    }

    /// Numbers whatever separates their digits.
    fn squeeze(&self, bytes: &[u8], region: &Region<'_>, walked: Option<&Walked<'_>>, leaks: &mut Vec<Leak>) {
        let kept: Vec<usize> = (region.start..region.end)
            .filter(|&at| bytes.get(at).is_some_and(|b| !b" -./_:()+,\0".contains(b)))
            .collect();
        let bare: Vec<u8> = kept.iter().filter_map(|&at| bytes.get(at).copied()).collect();
        let is_alphanumeric = |at: Option<usize>| {
            let at = at.filter(|&at| (region.start..region.end).contains(&at));
            at.and_then(|at| bytes.get(at)).is_some_and(u8::is_ascii_alphanumeric)
        };
        for found in self.squeezing.find_overlapping_iter(&bare) {
            let Some(&(sought, end_only)) = self.squeezed.get(found.pattern().as_usize()) else { continue };
            let (Some(&start), Some(&last)) = (kept.get(found.start()), kept.get(found.end() - 1)) else { continue };
            if (end_only || !is_alphanumeric(start.checked_sub(1))) && !is_alphanumeric(Some(last + 1)) {
                self.report(sought, "without separators", start, region, walked, leaks);
            }
        }
    }

    fn report(
        &self,
        sought: u32,
        encoding: &'static str,
        at: usize,
        region: &Region<'_>,
        walked: Option<&Walked<'_>>,
        leaks: &mut Vec<Leak>,
    ) {
        let Some(sought) = self.sought.get(sought as usize) else { return };
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
