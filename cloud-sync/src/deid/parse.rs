//! A file as a tree of elements that borrow from it.
//!
//! Nothing is believed: no length beyond what holds the value, no depth or number beyond the limits, and nothing is allocated by a
//! declared length. Sequences within UN are parsed, in implicit VR as PS3.5 6.2.2 says or in explicit VR as some write them.

use std::borrow::Cow;

use dicom_core::dictionary::{DataDictionary, DataDictionaryEntry, VirtualVr};
use dicom_core::{Tag, VR};
use dicom_dictionary_std::{StandardDataDictionary, tags};

use super::held::Held;
use super::profile::Limits;

const ITEM: Tag = Tag(0xFFFE, 0xE000);
const ITEM_END: Tag = Tag(0xFFFE, 0xE00D);
const SEQUENCE_END: Tag = Tag(0xFFFE, 0xE0DD);
const UNDEFINED: u32 = u32::MAX;

/// How a data set is encoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Encoding {
    pub(super) explicit: bool,
    pub(super) big: bool,
}

impl Encoding {
    pub(super) const EXPLICIT: Self = Self { explicit: true, big: false };
    pub(super) const IMPLICIT: Self = Self { explicit: false, big: false };

    pub(super) fn u16(self, bytes: [u8; 2]) -> u16 {
        if self.big { u16::from_be_bytes(bytes) } else { u16::from_le_bytes(bytes) }
    }

    pub(super) fn u32(self, bytes: [u8; 4]) -> u32 {
        if self.big { u32::from_be_bytes(bytes) } else { u32::from_le_bytes(bytes) }
    }
}

/// A transfer syntax, as far as it matters where nothing is decoded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Syntax {
    pub(super) uid: String,
    pub(super) encoding: Encoding,
    pub(super) deflated: bool,
    /// Pixel data are compressed.
    pub(super) encapsulated: bool,
}

impl Syntax {
    /// `None` for one that is not known, or whose pixel data are elsewhere.
    pub(super) fn of(uid: &str) -> Option<Self> {
        let big = Encoding { explicit: true, big: true };
        let (encoding, deflated, encapsulated) = match uid {
            "1.2.840.10008.1.2" => (Encoding::IMPLICIT, false, false),
            "1.2.840.10008.1.2.1" => (Encoding::EXPLICIT, false, false),
            "1.2.840.10008.1.2.1.99" => (Encoding::EXPLICIT, true, false),
            "1.2.840.10008.1.2.2" => (big, false, false),
            "1.2.840.10008.1.2.1.98" | "1.2.840.10008.1.2.5" => (Encoding::EXPLICIT, false, true),
            // JPIP: pixel data are at a URL.
            "1.2.840.10008.1.2.4.94" | "1.2.840.10008.1.2.4.95" => return None,
            "1.2.840.10008.1.2.4.204" | "1.2.840.10008.1.2.4.205" => return None,
            _ if uid.starts_with("1.2.840.10008.1.2.4.") => (Encoding::EXPLICIT, false, true),
            _ => return None,
        };
        Some(Self { uid: uid.into(), encoding, deflated, encapsulated })
    }
}

/// A data set, or an item of a sequence.
pub(super) type DataSet<'a> = Vec<Element<'a>>;

#[derive(Debug, Clone)]
pub(super) struct Element<'a> {
    pub(super) tag: Tag,
    pub(super) vr: VR,
    pub(super) value: Value<'a>,
}

#[derive(Debug, Clone)]
pub(super) enum Value<'a> {
    Bytes(Cow<'a, [u8]>),
    /// Items, and whether the sequence has a defined length.
    Items(Vec<Item<'a>>, bool),
    /// Compressed pixel data: all items, without the delimiter.
    Fragments(Cow<'a, [u8]>),
}

#[derive(Debug, Clone)]
pub(super) struct Item<'a> {
    pub(super) elements: DataSet<'a>,
    /// Whether it has a defined length.
    pub(super) defined: bool,
}

impl<'a> Element<'a> {
    pub(super) fn new(tag: Tag, vr: VR, bytes: impl Into<Cow<'a, [u8]>>) -> Self {
        Self { tag, vr, value: Value::Bytes(bytes.into()) }
    }

    /// A value of characters, padded to an even length.
    pub(super) fn text(tag: Tag, vr: VR, text: &str) -> Self {
        let mut bytes = text.as_bytes().to_vec();
        pad(&mut bytes, vr);
        Self::new(tag, vr, bytes)
    }

    pub(super) fn bytes(&self) -> &[u8] {
        match &self.value {
            Value::Bytes(bytes) | Value::Fragments(bytes) => bytes,
            Value::Items(..) => &[],
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        match &self.value {
            Value::Bytes(bytes) => bytes.is_empty() || is_text(self.vr) && bytes.iter().all(|b| matches!(b, b' ' | 0)),
            Value::Items(items, _) => items.is_empty(),
            Value::Fragments(_) => false,
        }
    }
}

/// Whether a UID has the form of one (PS3.5 9.1).
pub(super) fn is_uid(text: &str) -> bool {
    text.len() <= 64 && text.split('.').all(|part| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit()))
}

/// Whether values of this VR are characters.
pub(super) fn is_text(vr: VR) -> bool {
    use VR::{AE, AS, CS, DA, DS, DT, IS, LO, LT, PN, SH, ST, TM, UC, UI, UR, UT};
    matches!(vr, AE | AS | CS | DA | DS | DT | IS | LO | LT | PN | SH | ST | TM | UC | UI | UR | UT)
}

/// Pads to an even length, as its VR wants (PS3.5 6.2).
pub(super) fn pad(bytes: &mut Vec<u8>, vr: VR) {
    if bytes.len() % 2 == 1 {
        bytes.push(if matches!(vr, VR::UI | VR::OB | VR::UN) { 0 } else { b' ' });
    }
}

/// Characters of a value in the default repertoire, without padding; nothing where it is not that.
pub(super) fn ascii<'e>(element: Option<&'e Element<'_>>) -> &'e str {
    let bytes = element.map(Element::bytes).unwrap_or_default();
    std::str::from_utf8(bytes).unwrap_or_default().trim_matches([' ', '\0'])
}

/// The element of a data set with this tag.
pub(super) fn find<'s, 'a>(set: &'s [Element<'a>], tag: Tag) -> Option<&'s Element<'a>> {
    set.iter().find(|e| e.tag == tag)
}

/// The number in an element of VR US.
pub(super) fn number(set: &[Element<'_>], tag: Tag, encoding: Encoding) -> Option<u16> {
    match *find(set, tag)?.bytes() {
        [a, b] => Some(encoding.u16([a, b])),
        _ => None,
    }
}

/// What PS3.6 says about an attribute; nothing where it is private or not there.
pub(super) fn dictionary_vr(tag: Tag) -> Option<VirtualVr> {
    if tag.0 % 2 == 1 {
        return None;
    }
    StandardDataDictionary.by_tag(tag).map(|entry| entry.vr())
}

/// File meta information (PS3.10 7.1) and where the data set starts.
pub(super) fn meta<'a>(file: &'a [u8], limits: &Limits) -> Result<(DataSet<'a>, usize), Held> {
    if file.get(128..132) != Some(b"DICM") {
        return Err(Held::NotDicom);
    }
    let mut reader = Reader { bytes: file, at: 132, encoding: Encoding::EXPLICIT, left: limits.elements_max, limits };
    let mut meta = DataSet::new();
    while file.get(reader.at..reader.at + 2) == Some(&[2, 0]) {
        meta.push(reader.element(file.len(), 0)?);
    }
    Ok((meta, reader.at))
}

/// The data set from `start`.
pub(super) fn data_set<'a>(
    bytes: &'a [u8],
    start: usize,
    encoding: Encoding,
    limits: &Limits,
) -> Result<DataSet<'a>, Held> {
    let mut reader = Reader { bytes, at: start, encoding, left: limits.elements_max, limits };
    let mut set = DataSet::new();
    while reader.at < bytes.len() {
        // What some writers fill the last block with.
        if bytes[reader.at..].iter().take(8).all(|&b| b == 0) {
            break;
        }
        set.push(reader.element(bytes.len(), 0)?);
    }
    Ok(set)
}

struct Reader<'a, 'l> {
    bytes: &'a [u8],
    at: usize,
    encoding: Encoding,
    /// Elements and items that may still come.
    left: usize,
    limits: &'l Limits,
}

impl<'a> Reader<'a, '_> {
    fn damaged(&self, what: &'static str) -> Held {
        Held::Damaged { what, at: self.at }
    }

    fn count(&mut self) -> Result<(), Held> {
        let limit = Held::Limit { limit: "elements_max", maximum: self.limits.elements_max as u64 };
        self.left = self.left.checked_sub(1).ok_or(limit)?;
        Ok(())
    }

    fn take<const N: usize>(&mut self, end: usize) -> Result<[u8; N], Held> {
        let bytes = self.bytes.get(self.at..end.min(self.bytes.len())).and_then(|rest| rest.first_chunk());
        let bytes = *bytes.ok_or_else(|| self.damaged("it ends within the header of an element"))?;
        self.at += N;
        Ok(bytes)
    }

    fn tag(&mut self, end: usize) -> Result<Tag, Held> {
        let [a, b, c, d] = self.take(end)?;
        Ok(Tag(self.encoding.u16([a, b]), self.encoding.u16([c, d])))
    }

    fn length(&mut self, end: usize) -> Result<u32, Held> {
        let bytes = self.take(end)?;
        Ok(self.encoding.u32(bytes))
    }

    fn value(&mut self, length: u32, end: usize) -> Result<&'a [u8], Held> {
        let until = self.at.checked_add(length as usize).filter(|&until| until <= end);
        let until = until.ok_or_else(|| self.damaged("a value reaches over the end of what holds it"))?;
        let value = self.bytes.get(self.at..until).ok_or_else(|| self.damaged("it ends within a value"))?;
        self.at = until;
        Ok(value)
    }

    /// The element at hand, which must lie before `end`.
    fn element(&mut self, end: usize, depth: usize) -> Result<Element<'a>, Held> {
        let tag = self.tag(end)?;
        self.after_tag(tag, end, depth)
    }

    fn after_tag(&mut self, tag: Tag, end: usize, depth: usize) -> Result<Element<'a>, Held> {
        self.count()?;
        if tag.0 == 0xFFFE {
            return Err(self.damaged("a delimiter where an element must be"));
        }
        let (vr, length) = self.vr_and_length(tag, end)?;
        let value = if length == UNDEFINED {
            self.undefined(tag, vr, end, depth)?
        } else if vr == VR::SQ {
            let until = self.at.checked_add(length as usize).filter(|&until| until <= end);
            let until = until.ok_or_else(|| self.damaged("a sequence reaches over the end of what holds it"))?;
            Value::Items(self.items(Some(until), end, depth)?, true)
        } else {
            let start = self.at;
            let bytes = self.value(length, end)?;
            match vr == VR::UN && looks_like_items(bytes) && !self.encoding.big {
                true => self.hidden_items(start, depth)?.unwrap_or(Value::Bytes(bytes.into())),
                false => Value::Bytes(bytes.into()),
            }
        };
        let vr = if matches!(value, Value::Items(..)) { VR::SQ } else { vr };
        Ok(Element { tag, vr, value })
    }

    fn vr_and_length(&mut self, tag: Tag, end: usize) -> Result<(VR, u32), Held> {
        if !self.encoding.explicit {
            let length = self.length(end)?;
            return Ok((implicit_vr(tag), length));
        }
        let letters: [u8; 2] = self.take(end)?;
        if !letters.iter().all(u8::is_ascii_uppercase) {
            return Err(self.damaged("an element without a value representation"));
        }
        // What a later edition of the standard adds has a long length (PS3.5 7.1.2).
        let vr = VR::from_binary(letters).unwrap_or(VR::UN);
        let long = super::write::has_long_length(vr);
        if long {
            let _reserved: [u8; 2] = self.take(end)?;
            return Ok((vr, self.length(end)?));
        }
        let length = self.take(end)?;
        Ok((vr, self.encoding.u16(length).into()))
    }

    fn undefined(&mut self, tag: Tag, vr: VR, end: usize, depth: usize) -> Result<Value<'a>, Held> {
        let pixels = tag == tags::PIXEL_DATA;
        match vr {
            VR::OB | VR::OW if pixels => Ok(Value::Fragments(self.fragments(end)?.into())),
            VR::SQ => Ok(Value::Items(self.items(None, end, depth)?, false)),
            // Its numbers would have to be turned round.
            VR::UN if self.encoding.big => Err(self.damaged("a sequence of unknown representation in big endian")),
            VR::UN => {
                let outer = self.encoding;
                self.encoding = within_unknown(self.bytes.get(self.at..).unwrap_or_default(), outer);
                let items = self.items(None, end, depth);
                self.encoding = outer;
                Ok(Value::Items(items?, false))
            }
            _ => Err(self.damaged("a length that is undefined where none may be")),
        }
    }

    /// Items within a value of VR UN and defined length; nothing where it is not a whole sequence.
    fn hidden_items(&mut self, start: usize, depth: usize) -> Result<Option<Value<'a>>, Held> {
        let (end, outer) = (self.at, self.encoding);
        self.at = start;
        self.encoding = within_unknown(self.bytes.get(start..end).unwrap_or_default(), outer);
        let items = self.items(Some(end), end, depth);
        self.encoding = outer;
        self.at = end;
        match items {
            Ok(items) => Ok(Some(Value::Items(items, true))),
            Err(limit @ Held::Limit { .. }) => Err(limit),
            Err(_) => Ok(None),
        }
    }

    fn items(&mut self, until: Option<usize>, end: usize, depth: usize) -> Result<Vec<Item<'a>>, Held> {
        let maximum = self.limits.sequence_depth_max;
        if depth >= maximum {
            return Err(Held::Limit { limit: "sequence_depth_max", maximum: maximum as u64 });
        }
        let end = until.unwrap_or(end);
        let mut items = Vec::new();
        while until.is_none_or(|until| self.at < until) {
            self.count()?;
            let (tag, length) = (self.tag(end)?, self.length(end)?);
            match tag {
                SEQUENCE_END => return Ok(items),
                ITEM => items.push(self.item(length, end, depth)?),
                _ => return Err(self.damaged("no item where a sequence must have one")),
            }
        }
        Ok(items)
    }

    fn item(&mut self, length: u32, end: usize, depth: usize) -> Result<Item<'a>, Held> {
        let mut elements = DataSet::new();
        if length == UNDEFINED {
            loop {
                let tag = self.tag(end)?;
                if tag == ITEM_END {
                    self.length(end)?;
                    return Ok(Item { elements, defined: false });
                }
                elements.push(self.after_tag(tag, end, depth + 1)?);
            }
        }
        let until = self.at.checked_add(length as usize).filter(|&until| until <= end);
        let until = until.ok_or_else(|| self.damaged("an item reaches over the end of its sequence"))?;
        while self.at < until {
            elements.push(self.element(until, depth + 1)?);
        }
        Ok(Item { elements, defined: true })
    }

    /// All fragments, up to their delimiter.
    fn fragments(&mut self, end: usize) -> Result<&'a [u8], Held> {
        let start = self.at;
        loop {
            let before = self.at;
            let (tag, length) = (self.tag(end)?, self.length(end)?);
            match tag {
                SEQUENCE_END => return Ok(self.bytes.get(start..before).unwrap_or_default()),
                ITEM if length != UNDEFINED => _ = self.value(length, end)?,
                _ => return Err(self.damaged("no fragment where pixel data must have one")),
            }
        }
    }
}

/// The VR of an element in implicit VR: that of the dictionary, and UN where there is none or it depends.
fn implicit_vr(tag: Tag) -> VR {
    match dictionary_vr(tag) {
        Some(vr) => vr.relaxed(),
        // A private creator.
        None if tag.0 % 2 == 1 && (0x10..=0xFF).contains(&tag.1) => VR::LO,
        None => VR::UN,
    }
}

fn looks_like_items(bytes: &[u8]) -> bool {
    bytes.starts_with(&[0xFE, 0xFF, 0x00, 0xE0])
}

/// How the items in a value of VR UN at the start of `bytes` are encoded: in implicit VR, unless the first element has one.
fn within_unknown(bytes: &[u8], outer: Encoding) -> Encoding {
    let letters = bytes.get(12..14).and_then(|vr| VR::from_binary([vr[0], vr[1]]));
    if letters.is_some() && outer.explicit { outer } else { Encoding::IMPLICIT }
}
