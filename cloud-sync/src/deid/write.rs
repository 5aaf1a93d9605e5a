//! A tree of elements as a file.

use std::ops::Range;

use dicom_core::{Tag, VR};

use super::held::Held;
use super::parse::{DataSet, Element, Encoding, Item, Syntax, Value, pad};

/// Names of this implementation in file meta information (PS3.10 7.1): a UUID made once for it.
const IMPLEMENTATION_CLASS_UID: &str = "2.25.237606217837751342157457268192001403798";
const IMPLEMENTATION_VERSION: &str = concat!("GANTRY_", env!("CARGO_PKG_VERSION"));

/// A file, but for its longest value: pixel data, as a rule, which lie in the source as they are.
pub(super) struct Pieces {
    before: Vec<u8>,
    kept: Range<usize>,
    after: Vec<u8>,
}

impl Pieces {
    /// The file, in the memory of its source where that has room, and where it begins there.
    pub(super) fn join(self, mut source: Vec<u8>) -> (Vec<u8>, usize) {
        let Self { before, kept, after } = self;
        if kept.is_empty() {
            return (before, 0);
        }
        match kept.start.checked_sub(before.len()) {
            Some(start) if source.len() >= kept.end => {
                source.truncate(kept.end);
                source.extend_from_slice(&after);
                source[start..kept.start].copy_from_slice(&before);
                (source, start)
            }
            _ => ([&before, source.get(kept).unwrap_or_default(), &after].concat(), 0),
        }
    }
}

/// Shorter values are copied.
const KEPT_BYTES_MIN: usize = 4096;

/// The longest value of a data set that lies in the source: of which element, and where.
fn longest(set: &DataSet<'_>, source: &[u8]) -> Option<(usize, Range<usize>)> {
    let lies = set.iter().enumerate().filter_map(|(n, e)| Some((n, within(e.bytes(), source)?)));
    lies.max_by_key(|(_, range)| range.len()).filter(|(_, range)| range.len() >= KEPT_BYTES_MIN)
}

/// Where a slice lies in another, if it is a part of it.
fn within(part: &[u8], whole: &[u8]) -> Option<Range<usize>> {
    let start = part.as_ptr().addr().checked_sub(whole.as_ptr().addr())?;
    let range = start..start.checked_add(part.len())?;
    whole.get(range.clone()).filter(|found| std::ptr::eq(*found, part))?;
    Some(range)
}

/// A file of PS3.10: an empty preamble, new file meta information, and the data set. What lies in the source is not copied.
pub(super) fn file(
    set: &DataSet<'_>,
    syntax: &Syntax,
    sop_class: &str,
    sop_instance: &str,
    source: &[u8],
) -> Result<Pieces, Held> {
    let kept = longest(set, source).filter(|_| !syntax.deflated);
    let mut out = Vec::with_capacity(if kept.is_some() { HEADER_BYTES } else { source.len() + HEADER_BYTES });
    out.resize(128, 0);
    out.extend_from_slice(b"DICM");
    let meta = vec![
        Element::new(Tag(2, 1), VR::OB, vec![0, 1]),
        Element::text(Tag(2, 2), VR::UI, sop_class),
        Element::text(Tag(2, 3), VR::UI, sop_instance),
        Element::text(Tag(2, 0x10), VR::UI, &syntax.uid),
        Element::text(Tag(2, 0x12), VR::UI, IMPLEMENTATION_CLASS_UID),
        Element::text(Tag(2, 0x13), VR::SH, IMPLEMENTATION_VERSION),
    ];
    let mut group = Vec::with_capacity(256);
    data_set(&mut group, &meta, Encoding::EXPLICIT)?;
    let length = u32::try_from(group.len()).unwrap_or_default().to_le_bytes();
    element(&mut out, &Element::new(Tag(2, 0), VR::UL, length.to_vec()), Encoding::EXPLICIT)?;
    out.extend_from_slice(&group);
    if syntax.deflated {
        let mut plain = Vec::new();
        data_set(&mut plain, set, syntax.encoding)?;
        let mut encoder = flate2::write::DeflateEncoder::new(out, flate2::Compression::default());
        std::io::Write::write_all(&mut encoder, &plain)?;
        let mut out = encoder.finish()?;
        pad(&mut out, VR::OB);
        return Ok(Pieces { before: out, kept: 0..0, after: Vec::new() });
    }
    let Some((n, kept)) = kept else {
        data_set(&mut out, set, syntax.encoding)?;
        return Ok(Pieces { before: out, kept: 0..0, after: Vec::new() });
    };
    let (before, rest) = set.split_at(n);
    let mut after = Vec::new();
    data_set(&mut out, before, syntax.encoding)?;
    if let Some((e, rest)) = rest.split_first() {
        begin(&mut out, e, syntax.encoding)?;
        end(&mut after, e, syntax.encoding);
        data_set(&mut after, rest, syntax.encoding)?;
    }
    Ok(Pieces { before: out, kept, after })
}

/// What most data sets have before their pixel data.
const HEADER_BYTES: usize = 16 << 10;

fn data_set(out: &mut Vec<u8>, set: &[Element<'_>], encoding: Encoding) -> Result<(), Held> {
    set.iter().try_for_each(|e| element(out, e, encoding))
}

fn tag(out: &mut Vec<u8>, tag: Tag, encoding: Encoding) {
    for half in [tag.0, tag.1] {
        out.extend_from_slice(&if encoding.big { half.to_be_bytes() } else { half.to_le_bytes() });
    }
}

fn length(out: &mut Vec<u8>, length: u32, encoding: Encoding) {
    out.extend_from_slice(&if encoding.big { length.to_be_bytes() } else { length.to_le_bytes() });
}

fn element(out: &mut Vec<u8>, e: &Element<'_>, encoding: Encoding) -> Result<(), Held> {
    begin(out, e, encoding)?;
    out.extend_from_slice(e.bytes());
    if let Value::Items(items, defined) = &e.value {
        let start = out.len();
        items.iter().try_for_each(|i| item(out, i, encoding))?;
        close(out, start, *defined, Tag(0xFFFE, 0xE0DD), encoding)?;
    }
    end(out, e, encoding);
    Ok(())
}

/// What stands before the value of an element.
fn begin(out: &mut Vec<u8>, e: &Element<'_>, encoding: Encoding) -> Result<(), Held> {
    tag(out, e.tag, encoding);
    match &e.value {
        Value::Bytes(bytes) => header(out, e.vr, bytes_u32(bytes.len() + bytes.len() % 2)?, encoding),
        Value::Fragments(_) => header(out, e.vr, u32::MAX, encoding),
        Value::Items(..) => header(out, VR::SQ, u32::MAX, encoding),
    }
}

/// What stands after the bytes of an element: padding, or the delimiter of fragments.
fn end(out: &mut Vec<u8>, e: &Element<'_>, encoding: Encoding) {
    match &e.value {
        Value::Bytes(bytes) if bytes.len() % 2 == 1 => {
            out.push(if matches!(e.vr, VR::UI | VR::OB | VR::UN) { 0 } else { b' ' });
        }
        Value::Fragments(_) => {
            tag(out, Tag(0xFFFE, 0xE0DD), encoding);
            length(out, 0, encoding);
        }
        Value::Bytes(_) | Value::Items(..) => {}
    }
}

fn item(out: &mut Vec<u8>, item: &Item<'_>, encoding: Encoding) -> Result<(), Held> {
    tag(out, Tag(0xFFFE, 0xE000), encoding);
    length(out, u32::MAX, encoding);
    let start = out.len();
    data_set(out, &item.elements, encoding)?;
    close(out, start, item.defined, Tag(0xFFFE, 0xE00D), encoding)
}

/// Ends what started at `start`, behind its length: by that length, or by a delimiter.
fn close(out: &mut Vec<u8>, start: usize, defined: bool, end: Tag, encoding: Encoding) -> Result<(), Held> {
    if !defined {
        tag(out, end, encoding);
        length(out, 0, encoding);
        return Ok(());
    }
    let bytes = bytes_u32(out.len() - start)?;
    let bytes = if encoding.big { bytes.to_be_bytes() } else { bytes.to_le_bytes() };
    if let Some(place) = out.get_mut(start - 4..start) {
        place.copy_from_slice(&bytes);
    }
    Ok(())
}

fn bytes_u32(bytes: usize) -> Result<u32, Held> {
    u32::try_from(bytes).map_err(|_| Held::Damaged { what: "a value of 4 GiB or more", at: 0 })
}

/// Whether the length of such a value takes four bytes after two that are reserved (PS3.5 7.1.2).
#[must_use]
pub fn has_long_length(vr: VR) -> bool {
    matches!(
        vr,
        VR::OB
            | VR::OD
            | VR::OF
            | VR::OL
            | VR::OV
            | VR::OW
            | VR::SQ
            | VR::SV
            | VR::UC
            | VR::UN
            | VR::UR
            | VR::UT
            | VR::UV
    )
}

fn header(out: &mut Vec<u8>, vr: VR, bytes: u32, encoding: Encoding) -> Result<(), Held> {
    if encoding.explicit {
        let long = has_long_length(vr);
        match u16::try_from(bytes) {
            Ok(bytes) if !long => {
                out.extend_from_slice(&vr.to_bytes());
                out.extend_from_slice(&if encoding.big { bytes.to_be_bytes() } else { bytes.to_le_bytes() });
                return Ok(());
            }
            // Too long for its VR: as UN (PS3.5 6.2.2 note 6).
            _ => out.extend_from_slice(&if long { vr } else { VR::UN }.to_bytes()),
        }
        out.extend_from_slice(&[0, 0]);
    }
    length(out, bytes, encoding);
    Ok(())
}
