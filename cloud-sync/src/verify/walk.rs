//! Where every value of a data set lies, found without a dictionary and without the cleaner's parser.
//!
//! Tolerant in what it takes (no file meta information, implicit or explicit, either byte order, deflated, sequences that
//! call themselves UN), strict in what it lets pass: what it cannot follow to the last byte is a fault, since an
//! identifier could lie behind it.

use std::io::Read;

use super::charset::Charset;
use super::{Limits, Unverifiable};

/// Where a leaf hangs: the sequence that holds it, or none.
pub(super) type Parent = Option<u32>;

/// A sequence, by its own tag.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sequence {
    pub(super) tag: u32,
    pub(super) parent: Parent,
}

/// A value that holds no further elements.
#[derive(Clone, Copy, Debug)]
pub(super) struct Leaf {
    pub(super) tag: u32,
    pub(super) parent: Parent,
    /// Absent in implicit VR.
    pub(super) vr: Option<[u8; 2]>,
    /// Into the part that holds it.
    pub(super) start: usize,
    pub(super) len: usize,
    charset: Charset,
    /// Of the file itself, or of what was deflated in it.
    pub(super) part: Part,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    File,
    Inflated,
}

/// A file and where its values lie.
pub(super) struct Walked<'a> {
    pub(super) file: &'a [u8],
    pub(super) inflated: Option<Vec<u8>>,
    /// In the order of their bytes within each part, without overlap.
    pub(super) leaves: Vec<Leaf>,
    pub(super) sequences: Vec<Sequence>,
}

impl Walked<'_> {
    pub(super) fn bytes(&self, leaf: &Leaf) -> &[u8] {
        let part = match leaf.part {
            Part::File => self.file,
            Part::Inflated => self.inflated.as_deref().unwrap_or_default(),
        };
        part.get(leaf.start..leaf.start.saturating_add(leaf.len)).unwrap_or_default()
    }

    /// The text of a leaf, in the character set of its data set or item.
    pub(super) fn text(&self, leaf: &Leaf) -> String {
        leaf.charset.read(self.bytes(leaf))
    }

    /// Tags of the sequences around a leaf, innermost first.
    pub(super) fn around(&self, leaf: &Leaf) -> impl Iterator<Item = u32> + '_ {
        let mut parent = leaf.parent;
        std::iter::from_fn(move || {
            let sequence = self.sequences.get(parent? as usize)?;
            parent = sequence.parent;
            Some(sequence.tag)
        })
    }
}

const EXPLICIT_BIG: &str = "1.2.840.10008.1.2.2";
const IMPLICIT_LITTLE: &str = "1.2.840.10008.1.2";
const DEFLATED: [&str; 2] = ["1.2.840.10008.1.2.1.99", "1.2.840.10008.1.2.8.1"];

const SPECIFIC_CHARACTER_SET: u32 = 0x0008_0005;
const TRANSFER_SYNTAX: u32 = 0x0002_0010;
const PIXEL_DATA: u32 = 0x7FE0_0010;
const ITEM: u32 = 0xFFFE_E000;
const ITEM_END: u32 = 0xFFFE_E00D;
const SEQUENCE_END: u32 = 0xFFFE_E0DD;
const UNDEFINED: u32 = u32::MAX;

/// Walks a file of PS3.10, with or without its preamble and file meta information.
pub(super) fn walk<'a>(file: &'a [u8], limits: &Limits) -> Result<Walked<'a>, Unverifiable> {
    let at = if file.get(128..132) == Some(b"DICM") { 132 } else { 0 };
    let mut walker = Walker::new(file, at, Part::File, limits);
    let mut syntax = String::new();
    if starts_with_group_2(file, at) {
        walker.meta()?;
        if let Some(leaf) = walker.leaves.iter().find(|leaf| leaf.tag == TRANSFER_SYNTAX) {
            let value = file.get(leaf.start..leaf.start + leaf.len).unwrap_or_default();
            syntax = String::from_utf8_lossy(value).trim_end_matches(['\0', ' ']).to_owned();
        }
    }
    if DEFLATED[0] == syntax {
        let body = inflate(file.get(walker.at..).unwrap_or_default(), limits)?;
        let mut inner = Walker::new(&body, 0, Part::Inflated, limits);
        inner.leaves = std::mem::take(&mut walker.leaves);
        inner.whole(true, false)?;
        let (leaves, sequences) = (inner.leaves, inner.sequences);
        return Ok(Walked { file, leaves, sequences, inflated: Some(body) });
    }
    let (explicit, big) = match syntax.as_str() {
        EXPLICIT_BIG => (true, true),
        IMPLICIT_LITTLE => (false, false),
        "" => guess(file.get(walker.at..).unwrap_or_default()),
        _ => (true, false),
    };
    walker.whole(explicit, big)?;
    let Walker { leaves, sequences, .. } = walker;
    Ok(Walked { file, inflated: None, leaves, sequences })
}

fn starts_with_group_2(file: &[u8], at: usize) -> bool {
    file.get(at..at + 2) == Some(&[2, 0])
}

/// Without a transfer syntax: explicit where a VR stands, big-endian where the group reads low so.
fn guess(body: &[u8]) -> (bool, bool) {
    let explicit = body.get(4..6).is_some_and(|vr| vr.iter().all(u8::is_ascii_uppercase));
    let group = |big| {
        body.get(..2)
            .map_or(0, |b| if big { u16::from_be_bytes([b[0], b[1]]) } else { u16::from_le_bytes([b[0], b[1]]) })
    };
    (explicit, group(true) < group(false))
}

fn inflate(deflated: &[u8], limits: &Limits) -> Result<Vec<u8>, Unverifiable> {
    let mut body = Vec::new();
    let most = limits.inflated_max_bytes;
    let read = flate2::read::DeflateDecoder::new(deflated).take(most as u64 + 1).read_to_end(&mut body);
    if read.is_err() {
        return Err(Unverifiable::Malformed { offset: 0, what: "deflated data that do not inflate" });
    }
    if body.len() > most {
        return Err(Unverifiable::Limit { name: "inflated_max_bytes", limit: most });
    }
    Ok(body)
}

struct Walker<'a> {
    data: &'a [u8],
    at: usize,
    part: Part,
    limits: &'a Limits,
    leaves: Vec<Leaf>,
    sequences: Vec<Sequence>,
}

/// How the elements of a data set are written.
#[derive(Clone, Copy)]
struct Writing {
    explicit: bool,
    big: bool,
}

struct Header {
    tag: u32,
    vr: Option<[u8; 2]>,
    len: u32,
}

impl<'a> Walker<'a> {
    fn new(data: &'a [u8], at: usize, part: Part, limits: &'a Limits) -> Self {
        Walker { data, at, part, limits, leaves: Vec::new(), sequences: Vec::new() }
    }

    /// File meta information: group 2, explicit little endian.
    fn meta(&mut self) -> Result<(), Unverifiable> {
        while starts_with_group_2(self.data, self.at) {
            let header = self.header(Writing { explicit: true, big: false })?;
            self.value(&header, self.data.len(), Writing { explicit: true, big: false }, None, Charset::default(), 0)?;
        }
        Ok(())
    }

    /// The data set, to the last byte.
    fn whole(&mut self, explicit: bool, big: bool) -> Result<(), Unverifiable> {
        self.elements(self.data.len(), false, Writing { explicit, big }, None, Charset::default(), 0)
    }

    fn elements(
        &mut self,
        end: usize,
        delimited: bool,
        writing: Writing,
        parent: Parent,
        mut charset: Charset,
        depth: usize,
    ) -> Result<(), Unverifiable> {
        if depth > self.limits.depth_max {
            return Err(Unverifiable::Limit { name: "depth_max", limit: self.limits.depth_max });
        }
        while self.at < end {
            // Trailing zeros after the last element are padding that some writers leave.
            if depth == 0 && self.data.get(self.at..end).is_some_and(|rest| rest.iter().all(|&b| b == 0)) {
                self.at = end;
                break;
            }
            let header = self.header(writing)?;
            if header.tag == ITEM_END && delimited {
                return Ok(());
            }
            if header.tag >> 16 == 0xFFFE {
                return Err(self.malformed("a delimiter outside of a sequence"));
            }
            self.value(&header, end, writing, parent, charset, depth)?;
            if header.tag == SPECIFIC_CHARACTER_SET
                && let Some(leaf) = self.leaves.last()
            {
                let terms = self.data.get(leaf.start..leaf.start + leaf.len).unwrap_or_default();
                charset = Charset::of_terms(terms);
            }
        }
        if delimited { Err(self.malformed("an item without its end")) } else { Ok(()) }
    }

    fn value(
        &mut self,
        header: &Header,
        end: usize,
        writing: Writing,
        parent: Parent,
        charset: Charset,
        depth: usize,
    ) -> Result<(), Unverifiable> {
        if self.leaves.len() + self.sequences.len() >= self.limits.elements_max {
            return Err(Unverifiable::Limit { name: "elements_max", limit: self.limits.elements_max });
        }
        let &Header { tag, vr, len } = header;
        let binary = matches!(vr.as_ref(), Some(b"OB" | b"OW" | b"OF" | b"OD" | b"OL" | b"OV")) || tag == PIXEL_DATA;
        if len == UNDEFINED {
            if binary {
                return self.fragments(tag, vr, writing, parent, charset);
            }
            let inner = match vr.as_ref() {
                Some(b"UN") => Writing { explicit: self.explicit_item(writing), ..writing },
                _ => writing,
            };
            return self.sequence(tag, end, true, inner, parent, charset, depth);
        }
        let len = len as usize;
        let Some(stop) = self.at.checked_add(len).filter(|&stop| stop <= end) else {
            return Err(self.malformed("a value that reaches past what holds it"));
        };
        let start = self.at;
        let may_nest = vr.as_ref().is_none_or(|vr| matches!(vr, b"SQ" | b"UN" | b"OB"));
        if may_nest && tag != PIXEL_DATA && (vr.as_ref() == Some(b"SQ") || self.looks_nested(writing, stop)) {
            let marks = (self.leaves.len(), self.sequences.len());
            let inner = match vr.as_ref() {
                Some(b"SQ") => writing,
                _ => Writing { explicit: self.explicit_item(writing), ..writing },
            };
            match self.sequence(tag, stop, false, inner, parent, charset, depth) {
                Ok(()) => return Ok(()),
                Err(error @ Unverifiable::Limit { .. }) => return Err(error),
                Err(error) if vr.as_ref() == Some(b"SQ") => return Err(error),
                // It only looked like one.
                Err(_) => {
                    self.leaves.truncate(marks.0);
                    self.sequences.truncate(marks.1);
                }
            }
        }
        self.leaves.push(Leaf { tag, parent, vr, start, len, charset, part: self.part });
        self.at = stop;
        Ok(())
    }

    /// Whether a value of unknown representation begins with an item that fits into it.
    fn looks_nested(&self, writing: Writing, stop: usize) -> bool {
        match (self.tag_at(self.at, writing.big), self.u32_at(self.at + 4, writing.big)) {
            (Some(ITEM), Some(len)) => len == UNDEFINED || self.at + 8 + len as usize <= stop,
            _ => false,
        }
    }

    /// Whether the first element of the item that begins here states its VR. Without an element: as outside.
    fn explicit_item(&self, outside: Writing) -> bool {
        let vr = self.data.get(self.at + 12..self.at + 14);
        vr.map_or(outside.explicit, |vr| vr.iter().all(u8::is_ascii_uppercase))
    }

    #[expect(clippy::too_many_arguments, reason = "what surrounds a sequence, once")]
    fn sequence(
        &mut self,
        tag: u32,
        end: usize,
        delimited: bool,
        writing: Writing,
        parent: Parent,
        charset: Charset,
        depth: usize,
    ) -> Result<(), Unverifiable> {
        self.sequences.push(Sequence { tag, parent });
        let inside = Some((self.sequences.len() - 1) as u32);
        while self.at < end {
            let (Some(item), Some(len)) = (self.tag_at(self.at, writing.big), self.u32_at(self.at + 4, writing.big))
            else {
                return Err(self.malformed("a sequence that ends within an item's header"));
            };
            self.at += 8;
            match item {
                SEQUENCE_END if delimited => return Ok(()),
                ITEM if len == UNDEFINED => self.elements(end, true, writing, inside, charset, depth + 1)?,
                ITEM => {
                    let stop = self.at.saturating_add(len as usize);
                    if stop > end {
                        return Err(self.malformed("an item that reaches past its sequence"));
                    }
                    self.elements(stop, false, writing, inside, charset, depth + 1)?;
                }
                _ => return Err(self.malformed("something else than an item in a sequence")),
            }
        }
        if delimited { Err(self.malformed("a sequence without its end")) } else { Ok(()) }
    }

    /// Encapsulated pixel data: each fragment is a value of its own.
    fn fragments(
        &mut self,
        tag: u32,
        vr: Option<[u8; 2]>,
        writing: Writing,
        parent: Parent,
        charset: Charset,
    ) -> Result<(), Unverifiable> {
        loop {
            let (Some(item), Some(len)) = (self.tag_at(self.at, writing.big), self.u32_at(self.at + 4, writing.big))
            else {
                return Err(self.malformed("fragments without their end"));
            };
            self.at += 8;
            match item {
                SEQUENCE_END => return Ok(()),
                ITEM => {
                    let (start, len) = (self.at, len as usize);
                    if len > self.data.len() - start {
                        return Err(self.malformed("a fragment that reaches past the file"));
                    }
                    if self.leaves.len() >= self.limits.elements_max {
                        return Err(Unverifiable::Limit { name: "elements_max", limit: self.limits.elements_max });
                    }
                    self.leaves.push(Leaf { tag, parent, vr, start, len, charset, part: self.part });
                    self.at = start + len;
                }
                _ => return Err(self.malformed("something else than a fragment")),
            }
        }
    }

    fn header(&mut self, writing: Writing) -> Result<Header, Unverifiable> {
        let short = || Unverifiable::Malformed { offset: self.at, what: "an element's header that is cut off" };
        let tag = self.tag_at(self.at, writing.big).ok_or_else(short)?;
        let vr: [u8; 2] = self.data.get(self.at + 4..self.at + 6).and_then(|b| b.try_into().ok()).ok_or_else(short)?;
        // Delimiters have no VR; some writers state none for elements of an explicit data set either.
        if !writing.explicit || tag >> 16 == 0xFFFE || !vr.iter().all(u8::is_ascii_uppercase) {
            let len = self.u32_at(self.at + 4, writing.big).ok_or_else(short)?;
            self.at += 8;
            return Ok(Header { tag, vr: None, len });
        }
        let reserved = self.data.get(self.at + 6..self.at + 8).ok_or_else(short)?;
        let (len, taken) = if is_long(vr) || !is_known(vr) && reserved == [0, 0] {
            (self.u32_at(self.at + 8, writing.big).ok_or_else(short)?, 12)
        } else {
            let two = [reserved[0], reserved[1]];
            (u32::from(if writing.big { u16::from_be_bytes(two) } else { u16::from_le_bytes(two) }), 8)
        };
        self.at += taken;
        Ok(Header { tag, vr: Some(vr), len })
    }

    fn tag_at(&self, at: usize, big: bool) -> Option<u32> {
        let bytes: [u8; 4] = self.data.get(at..at.checked_add(4)?)?.try_into().ok()?;
        Some(if big { u32::from_be_bytes(bytes) } else { u32::from_le_bytes(bytes).rotate_left(16) })
    }

    fn u32_at(&self, at: usize, big: bool) -> Option<u32> {
        let bytes: [u8; 4] = self.data.get(at..at.checked_add(4)?)?.try_into().ok()?;
        Some(if big { u32::from_be_bytes(bytes) } else { u32::from_le_bytes(bytes) })
    }

    fn malformed(&self, what: &'static str) -> Unverifiable {
        Unverifiable::Malformed { offset: self.at, what }
    }
}

/// VRs with a length of 32 bits (PS3.5, 7.1.2).
fn is_long(vr: [u8; 2]) -> bool {
    matches!(&vr, b"OB" | b"OD" | b"OF" | b"OL" | b"OV" | b"OW" | b"SQ" | b"SV" | b"UC" | b"UN" | b"UR" | b"UT" | b"UV")
}

fn is_known(vr: [u8; 2]) -> bool {
    is_long(vr)
        || matches!(
            &vr,
            b"AE"
                | b"AS"
                | b"AT"
                | b"CS"
                | b"DA"
                | b"DS"
                | b"DT"
                | b"FD"
                | b"FL"
                | b"IS"
                | b"LO"
                | b"LT"
                | b"PN"
                | b"SH"
                | b"SL"
                | b"SS"
                | b"ST"
                | b"TM"
                | b"UI"
                | b"UL"
                | b"US"
        )
}
