//! A tree of elements as a file.

use dicom_core::{Tag, VR};

use super::held::Held;
use super::parse::{DataSet, Element, Encoding, Item, Syntax, Value, pad};

/// Names of this implementation in file meta information (PS3.10 7.1): a UUID made once for it.
const IMPLEMENTATION_CLASS_UID: &str = "2.25.237606217837751342157457268192001403798";
const IMPLEMENTATION_VERSION: &str = concat!("GANTRY_", env!("CARGO_PKG_VERSION"));

/// A file of PS3.10: an empty preamble, new file meta information, and the data set.
pub(super) fn file(
    set: &DataSet<'_>,
    syntax: &Syntax,
    sop_class: &str,
    sop_instance: &str,
    capacity: usize,
) -> Result<Vec<u8>, Held> {
    let mut out = Vec::with_capacity(capacity);
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
        return Ok(out);
    }
    data_set(&mut out, set, syntax.encoding)?;
    Ok(out)
}

fn data_set(out: &mut Vec<u8>, set: &DataSet<'_>, encoding: Encoding) -> Result<(), Held> {
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
    tag(out, e.tag, encoding);
    match &e.value {
        Value::Bytes(bytes) => {
            header(out, e.vr, bytes_u32(bytes.len() + bytes.len() % 2)?, encoding)?;
            out.extend_from_slice(bytes);
            if bytes.len() % 2 == 1 {
                out.push(if matches!(e.vr, VR::UI | VR::OB | VR::UN) { 0 } else { b' ' });
            }
        }
        Value::Fragments(fragments) => {
            header(out, e.vr, u32::MAX, encoding)?;
            out.extend_from_slice(fragments);
            tag(out, Tag(0xFFFE, 0xE0DD), encoding);
            length(out, 0, encoding);
        }
        Value::Items(items, defined) => {
            header(out, VR::SQ, u32::MAX, encoding)?;
            let start = out.len();
            items.iter().try_for_each(|i| item(out, i, encoding))?;
            close(out, start, *defined, Tag(0xFFFE, 0xE0DD), encoding)?;
        }
    }
    Ok(())
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
pub(super) fn has_long_length(vr: VR) -> bool {
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
