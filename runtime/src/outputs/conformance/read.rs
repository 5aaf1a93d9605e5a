//! A finished object, read back from its bytes: Explicit VR Little Endian (PS3.5 section 7.1.2) and nothing else.
//!
//! Not by the library that wrote it: what two halves of one library agree on may still be wrong. Pixels are passed over,
//! so that an object of hundreds of megabytes costs what its header does.

use std::fmt;
use std::io::{self, Read};
use std::ops::Range;

use dicom_core::dictionary::{DataDictionary, DataDictionaryEntry};
use dicom_core::{Tag, VR};
use dicom_dictionary_std::{StandardDataDictionary, tags};

use super::Fault;

/// What is read at a time.
const CHUNK_BYTES: u64 = 64 << 10;
/// Sequences in one another; a report has the most, one for each level of its content.
const DEPTH_MAX: usize = 32;
/// Preamble and prefix (PS3.10 section 7.1).
const PREFIX: Range<usize> = 128..132;
const ITEM: Tag = Tag(0xFFFE, 0xE000);
const ITEM_END: Tag = Tag(0xFFFE, 0xE00D);
const SEQUENCE_END: Tag = Tag(0xFFFE, 0xE0DD);
const UNDEFINED: u32 = u32::MAX;

/// An object as it lies in its file.
pub(super) struct Object {
    bytes: Vec<u8>,
    meta: Vec<Element>,
    elements: Vec<Element>,
}

pub(super) struct Element {
    pub(super) tag: Tag,
    pub(super) vr: VR,
    value: Value,
}

enum Value {
    /// Of [`Object::bytes`].
    Bytes(Range<usize>),
    Items(Vec<Vec<Element>>),
    /// So many bytes, which were passed over.
    Pixels(u64),
}

/// A data set, or an item of a sequence.
#[derive(Clone, Copy)]
pub(super) struct DataSet<'a> {
    bytes: &'a [u8],
    elements: &'a [Element],
}

/// An element in a data set.
#[derive(Clone, Copy)]
pub(super) struct Field<'a> {
    bytes: &'a [u8],
    element: &'a Element,
}

/// Why an object was not read.
pub(super) enum Unread {
    /// It may be read another time.
    Io(io::Error),
    /// It is none.
    Broken(Fault),
}

impl Object {
    /// Reads an object of `length` bytes, up to its pixel data, which must end where it does.
    pub(super) fn read(source: impl Read, length: u64) -> Result<Self, Unread> {
        let mut reader = Reader { source, bytes: Vec::new(), length, failed: None };
        match Self::parts(&mut reader) {
            Ok((meta, elements)) => Ok(Self { bytes: reader.bytes, meta, elements }),
            Err(fault) => Err(reader.failed.map_or(Unread::Broken(fault), Unread::Io)),
        }
    }

    /// The file meta information, and the data set.
    fn parts(reader: &mut Reader<impl Read>) -> Result<(Vec<Element>, Vec<Element>), Fault> {
        reader.reach(PREFIX.end)?;
        if reader.bytes.get(PREFIX) != Some(b"DICM") {
            return Err(Fault::new("the file", "no DICM prefix (PS3.10 section 7.1)"));
        }
        // The length of the group is an element of 12 bytes.
        let mut at = PREFIX.end;
        let first = reader.element(&mut at, 0)?;
        let group = Field { bytes: &reader.bytes, element: &first }.unsigned().filter(|_| first.tag == Tag(2, 0));
        let group = group.ok_or_else(|| {
            Fault::new(name(Tag(2, 0)), "the file meta information does not begin with its length (PS3.10 section 7.1)")
        })?;
        let end = at.saturating_add(group as usize);
        let meta = reader.elements(&mut at, Some(end), 0)?;
        let elements = reader.elements(&mut at, None, 0)?;
        Ok((meta, elements))
    }

    /// The file meta information, without the length of its group.
    pub(super) fn meta(&self) -> DataSet<'_> {
        DataSet { bytes: &self.bytes, elements: &self.meta }
    }

    pub(super) fn data_set(&self) -> DataSet<'_> {
        DataSet { bytes: &self.bytes, elements: &self.elements }
    }
}

struct Reader<R> {
    source: R,
    bytes: Vec<u8>,
    length: u64,
    /// Why the source gives no more.
    failed: Option<io::Error>,
}

impl<R: Read> Reader<R> {
    /// Reads up to `end`.
    fn reach(&mut self, end: usize) -> Result<(), Fault> {
        let broken = |what: &str| Fault::new("the file", format!("{what} at byte {end}"));
        if end as u64 > self.length {
            return Err(broken("a value reaches beyond the end of the file"));
        }
        if self.bytes.len() < end {
            let want = (end - self.bytes.len()) as u64;
            let read = self.source.by_ref().take(want.max(CHUNK_BYTES)).read_to_end(&mut self.bytes);
            if let Err(error) = read {
                self.failed = Some(error);
                return Err(broken("it cannot be read back"));
            }
        }
        if self.bytes.len() < end { Err(broken("the file is shorter than what was written of it")) } else { Ok(()) }
    }

    fn bytes<const N: usize>(&mut self, at: &mut usize) -> Result<[u8; N], Fault> {
        let from = *at;
        *at = from.saturating_add(N);
        self.reach(*at)?;
        let bytes = self.bytes.get(from..*at).and_then(|bytes| bytes.first_chunk());
        bytes.copied().ok_or_else(|| Fault::new("the file", "it ends too soon"))
    }

    fn tag(&mut self, at: &mut usize) -> Result<Tag, Fault> {
        let [a, b, c, d] = self.bytes(at)?;
        Ok(Tag(u16::from_le_bytes([a, b]), u16::from_le_bytes([c, d])))
    }

    /// Elements up to `end`, else up to the end of the item, or of the file at the top.
    fn elements(&mut self, at: &mut usize, end: Option<usize>, depth: usize) -> Result<Vec<Element>, Fault> {
        let mut elements: Vec<Element> = Vec::new();
        loop {
            let done = match end {
                Some(end) => *at >= end,
                None => depth == 0 && *at as u64 >= self.length,
            };
            if done {
                break;
            }
            if end.is_none() && depth > 0 {
                let mut ahead = *at;
                if self.tag(&mut ahead)? == ITEM_END {
                    *at = ahead;
                    self.bytes::<4>(at)?;
                    break;
                }
            }
            let element = self.element(at, depth)?;
            if elements.last().is_some_and(|last| last.tag >= element.tag) {
                return Err(Fault::new(name(element.tag), "elements are not in ascending order (PS3.5 section 7.1)"));
            }
            elements.push(element);
        }
        match end {
            Some(end) if *at > end => Err(Fault::new("the file", "an element reaches over the end of what holds it")),
            _ => Ok(elements),
        }
    }

    fn element(&mut self, at: &mut usize, depth: usize) -> Result<Element, Fault> {
        let tag = self.tag(at)?;
        let fault = |rule: &str| Fault::new(name(tag), rule);
        let vr =
            VR::from_binary(self.bytes(at)?).ok_or_else(|| fault("no value representation of PS3.5 section 6.2"))?;
        let length = match vr {
            VR::OB | VR::OD | VR::OF | VR::OL | VR::OV | VR::OW | VR::SQ | VR::SV => self.long(at)?,
            VR::UC | VR::UN | VR::UR | VR::UT | VR::UV => self.long(at)?,
            _ => u32::from(u16::from_le_bytes(self.bytes(at)?)),
        };
        let value = if vr == VR::SQ {
            Value::Items(self.items(at, length, depth + 1).map_err(|fault| fault.within(tag))?)
        } else if length == UNDEFINED {
            return Err(fault("its length is undefined, which only a sequence's may be here (PS3.5 section 7.1.1)"));
        } else if !length.is_multiple_of(2) {
            return Err(fault("its length is odd (PS3.5 section 7.1.1)"));
        } else if depth == 0 && matches!(tag, tags::PIXEL_DATA | tags::FLOAT_PIXEL_DATA | tags::DOUBLE_FLOAT_PIXEL_DATA)
        {
            let end = (*at as u64).saturating_add(length.into());
            if end != self.length {
                return Err(fault("the file does not end where its pixel data do"));
            }
            *at = usize::try_from(end).unwrap_or(usize::MAX);
            Value::Pixels(length.into())
        } else {
            let from = *at;
            *at = from.saturating_add(length as usize);
            self.reach(*at)?;
            Value::Bytes(from..*at)
        };
        Ok(Element { tag, vr, value })
    }

    fn long(&mut self, at: &mut usize) -> Result<u32, Fault> {
        self.bytes::<2>(at)?;
        Ok(u32::from_le_bytes(self.bytes(at)?))
    }

    fn items(&mut self, at: &mut usize, length: u32, depth: usize) -> Result<Vec<Vec<Element>>, Fault> {
        if depth > DEPTH_MAX {
            return Err(Fault::new("", format!("sequences are nested deeper than {DEPTH_MAX}")));
        }
        let end = (length != UNDEFINED).then(|| at.saturating_add(length as usize));
        let mut items = Vec::new();
        while end.is_none_or(|end| *at < end) {
            let tag = self.tag(at)?;
            let length = u32::from_le_bytes(self.bytes(at)?);
            match tag {
                SEQUENCE_END if end.is_none() => return Ok(items),
                ITEM => {}
                _ => return Err(Fault::new("", "no item where a sequence must have one (PS3.5 section 7.5)")),
            }
            let end = (length != UNDEFINED).then(|| at.saturating_add(length as usize));
            let item = self.elements(at, end, depth);
            items.push(item.map_err(|fault| fault.in_item(items.len() + 1))?);
        }
        match end {
            Some(end) if *at > end => Err(Fault::new("", "an item reaches over the end of its sequence")),
            _ => Ok(items),
        }
    }
}

impl<'a> DataSet<'a> {
    pub(super) fn fields(self) -> impl Iterator<Item = Field<'a>> {
        self.elements.iter().map(move |element| Field { bytes: self.bytes, element })
    }

    pub(super) fn field(self, tag: Tag) -> Option<Field<'a>> {
        let at = self.elements.binary_search_by_key(&tag, |element| element.tag).ok()?;
        Some(Field { bytes: self.bytes, element: self.elements.get(at)? })
    }

    /// Whether it has a value, or items.
    pub(super) fn has(self, tag: Tag) -> bool {
        self.field(tag).is_some_and(|field| !field.is_empty())
    }

    /// The items of a sequence; none where it is not there.
    pub(super) fn items(self, tag: Tag) -> impl Iterator<Item = DataSet<'a>> {
        self.field(tag).into_iter().flat_map(Field::items)
    }

    /// The first item of a sequence.
    pub(super) fn item(self, tag: Tag) -> Option<DataSet<'a>> {
        self.items(tag).next()
    }

    /// Text of the default repertoire without padding; empty where there is none.
    pub(super) fn text(self, tag: Tag) -> &'a str {
        self.field(tag).map_or("", Field::text)
    }

    /// The first number of a binary value.
    pub(super) fn unsigned(self, tag: Tag) -> Option<u32> {
        self.field(tag)?.unsigned()
    }

    /// Exactly `N` decimal strings.
    pub(super) fn decimals<const N: usize>(self, tag: Tag) -> Option<[f64; N]> {
        let values = self.text(tag).split('\\').map(|value| value.trim().parse::<f64>());
        let values: Vec<f64> = values.collect::<Result<_, _>>().ok()?;
        <[f64; N]>::try_from(values).ok()
    }
}

impl<'a> Field<'a> {
    pub(super) fn tag(self) -> Tag {
        self.element.tag
    }

    pub(super) fn vr(self) -> VR {
        self.element.vr
    }

    /// The value as it lies there; empty for items and pixels.
    pub(super) fn value(self) -> &'a [u8] {
        match &self.element.value {
            Value::Bytes(range) => self.bytes.get(range.clone()).unwrap_or_default(),
            Value::Items(_) | Value::Pixels(_) => &[],
        }
    }

    /// Bytes of pixels that were passed over; `None` for anything else.
    pub(super) fn pixels(self) -> Option<u64> {
        match self.element.value {
            Value::Pixels(bytes) => Some(bytes),
            _ => None,
        }
    }

    pub(super) fn items(self) -> impl Iterator<Item = DataSet<'a>> {
        let items = match &self.element.value {
            Value::Items(items) => items.as_slice(),
            _ => &[],
        };
        items.iter().map(move |elements| DataSet { bytes: self.bytes, elements })
    }

    pub(super) fn is_empty(self) -> bool {
        match &self.element.value {
            Value::Bytes(_) => self.unpadded().is_empty(),
            Value::Items(items) => items.is_empty(),
            Value::Pixels(bytes) => *bytes == 0,
        }
    }

    /// The value without what makes its length even or its text wide.
    pub(super) fn unpadded(self) -> &'a [u8] {
        let value = self.value();
        let padding: &[u8] = match self.element.vr {
            VR::UI => b"\0",
            VR::AE | VR::AS | VR::CS | VR::DA | VR::DS | VR::DT | VR::IS | VR::LO | VR::LT | VR::PN | VR::SH => b" ",
            VR::ST | VR::TM | VR::UC | VR::UR | VR::UT => b" ",
            _ => b"",
        };
        let end = value.iter().rposition(|byte| !padding.contains(byte)).map_or(0, |last| last + 1);
        value.get(..end).unwrap_or_default()
    }

    /// See [`DataSet::text`].
    pub(super) fn text(self) -> &'a str {
        std::str::from_utf8(self.unpadded()).unwrap_or_default().trim_matches(' ')
    }

    /// The first number of a binary value.
    pub(super) fn unsigned(self) -> Option<u32> {
        match self.element.vr {
            VR::US => self.value().first_chunk().map(|bytes| u16::from_le_bytes(*bytes).into()),
            VR::UL => self.value().first_chunk().map(|bytes| u32::from_le_bytes(*bytes)),
            _ => None,
        }
    }

    /// The values of an FL.
    pub(super) fn floats(self) -> impl Iterator<Item = f32> {
        let value = if self.element.vr == VR::FL { self.value() } else { &[] };
        value.as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes))
    }

    /// How many values: of text those between backslashes, of binary values by their size.
    pub(super) fn multiplicity(self) -> usize {
        let value = self.unpadded();
        let one = usize::from(!self.is_empty());
        match self.element.vr {
            VR::US | VR::SS => value.len() / 2,
            VR::UL | VR::SL | VR::FL | VR::AT => value.len() / 4,
            VR::FD | VR::SV | VR::UV => value.len() / 8,
            VR::LT | VR::ST | VR::UT | VR::UR => one,
            VR::OB | VR::OD | VR::OF | VR::OL | VR::OV | VR::OW | VR::SQ | VR::UN => one,
            _ => value.split(|byte| *byte == b'\\').count() * one,
        }
    }
}

/// Keyword and number of an attribute.
pub(super) fn name(tag: Tag) -> String {
    struct Named(Tag);
    impl fmt::Display for Named {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            match StandardDataDictionary.by_tag(self.0) {
                Some(entry) => write!(f, "{} {}", entry.alias(), self.0),
                None => write!(f, "{}", self.0),
            }
        }
    }
    Named(tag).to_string()
}
