//! One instance in Explicit VR Little Endian (PS3.5 annex A.2), for who reads nothing else.
//!
//! Values pass through as they are, whatever character set they are in: the header is not parsed and written, but
//! walked, and each element gets its explicit VR. Pixels follow piece by piece: native ones from the file or from what it
//! inflates to, compressed ones frame by frame, so that no more than a header and a frame are in memory.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

use dicom_core::dictionary::{DataDictionary, DataDictionaryEntry, VirtualVr};
use dicom_core::{Tag, VR};
use dicom_dictionary_std::{StandardDataDictionary, tags, uids};
use dicom_object::FileMetaTableBuilder;
use flate2::read::DeflateDecoder;

use super::retrieve::{self, Kept};
use super::scan::{self, Encoding, Next, Window};
use super::{ReadError, ReadOptions};
use crate::dimse::{IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME};

/// A piece of native pixel data.
const PIECE_BYTES: u64 = 256 << 10;
const TRAILING_PADDING: Tag = tags::DATA_SET_TRAILING_PADDING;
const ITEM: Tag = Tag(0xFFFE, 0xE000);
const ITEM_END: Tag = Tag(0xFFFE, 0xE00D);
const SEQUENCE_END: Tag = Tag(0xFFFE, 0xE0DD);

/// An instance on its way into Explicit VR Little Endian. Holds a patient's identity: no `Debug`.
pub struct Rewrite {
    kept: Kept,
    /// The file up to the value of its pixel data.
    head: Option<Vec<u8>>,
    pixels: Rest,
    /// Values are of an even length.
    pad: bool,
}

/// The pixel data that are still to come.
enum Rest {
    None,
    /// In the file, from a place on; so many bytes are turned round.
    Native {
        at: u64,
        left: u64,
        unit: usize,
    },
    /// What the file inflates to, so many bytes more of it.
    Inflated {
        from: DeflateDecoder<File>,
        left: u64,
    },
    /// Frames to be decoded, of so many bytes each.
    Frames {
        next: u32,
        last: u32,
        bytes: usize,
    },
}

/// Makes ready to rewrite an instance. What cannot be rewritten is told now, as far as headers tell: damage within a
/// codestream shows only when it is decoded.
///
/// # Errors
/// It cannot be read or decoded by this version, or not within the limits.
pub fn rewrite(path: &Path, options: &ReadOptions) -> Result<Rewrite, ReadError> {
    let kept = retrieve::keep(path, options)?;
    let opened = &kept.opened;
    let mut changes = Vec::new();
    let mut element = Vec::new();
    let mut pixels = Rest::None;
    let mut pad = false;
    match &opened.header.next {
        Some(next) if scan::is_pixels(next.tag) => {
            let (vr, length, rest) = rest(&kept, next, &mut changes, options)?;
            pad = !length.is_multiple_of(2);
            let even = u32::try_from(length.next_multiple_of(2)).ok().filter(|length| *length != u32::MAX);
            let even = even.ok_or_else(|| ReadError::unavailable(path, "uncompressed pixel data of 4 GiB and more"))?;
            put_header(&mut element, next.tag, vr, Some(even));
            pixels = rest;
        }
        Some(next) if next.tag != TRAILING_PADDING => return Err(after_pixels(path)),
        _ => {}
    }
    let signed = kept.attributes().small(tags::PIXEL_REPRESENTATION)? == Some(1);
    let data_set = Transcoder { outermost: opened.syntax.encoding, signed, changes: &changes }
        .run(opened.header_bytes())
        .map_err(|reason| match reason {
            Trouble::Damaged(reason) => ReadError::damaged(path, reason),
            Trouble::Unavailable(what) => ReadError::unavailable(path, what),
        })?;
    let mut head = preamble(&kept)?;
    head.extend(data_set);
    head.extend(element);
    Ok(Rewrite { kept, head: Some(head), pixels, pad })
}

impl Rewrite {
    /// The next piece of the file; `None` after the last.
    ///
    /// # Errors
    /// Damage; the file is then not whole.
    pub fn piece(&mut self, options: &ReadOptions) -> Result<Option<Vec<u8>>, ReadError> {
        if let Some(head) = self.head.take() {
            return Ok(Some(head));
        }
        let kept = &self.kept;
        let io = |e| ReadError::io(&kept.path, e);
        let cut = || ReadError::Changed(kept.path.clone());
        match &mut self.pixels {
            Rest::Native { at, left, unit } if *left > 0 => {
                let bytes = (*left).min(PIECE_BYTES);
                let mut file = File::open(&kept.path).map_err(io)?;
                file.seek(SeekFrom::Start(*at)).map_err(io)?;
                let mut piece = Vec::new();
                if file.take(bytes).read_to_end(&mut piece).map_err(io)? as u64 != bytes {
                    return Err(cut());
                }
                piece.chunks_exact_mut(*unit).for_each(<[u8]>::reverse);
                (*at, *left) = (*at + bytes, *left - bytes);
                Ok(Some(piece))
            }
            Rest::Inflated { from, left } if *left > 0 => {
                let bytes = (*left).min(PIECE_BYTES);
                let mut piece = Vec::new();
                from.take(bytes).read_to_end(&mut piece).map_err(|_| kept.not_inflated())?;
                *left -= bytes;
                if piece.len() as u64 == bytes { Ok(Some(piece)) } else { Err(cut()) }
            }
            Rest::Frames { next, last, bytes } if *next <= *last => {
                let frame = kept.frame(*next, options)?.ok_or_else(cut)?.native()?;
                if frame.len() != *bytes {
                    return Err(cut());
                }
                *next += 1;
                Ok(Some(frame))
            }
            _ => Ok(std::mem::take(&mut self.pad).then(|| vec![0])),
        }
    }
}

/// VR and length of the pixel data as they will be, and where they come from. Adds what changes before them.
fn rest(
    kept: &Kept,
    next: &Next,
    changes: &mut Vec<(Tag, Vec<u8>)>,
    options: &ReadOptions,
) -> Result<(VR, u64, Rest), ReadError> {
    if let Some(length) = next.length {
        let (at, length) = (next.value as u64, u64::from(length));
        if kept.opened.syntax.deflated {
            kept.check_held(format!("an instance with {length} bytes of pixels that were deflated"), length, options)?;
            ends_after(kept, at + length)?;
            return Ok((next.vr, length, Rest::Inflated { from: kept.inflating(at)?, left: length }));
        }
        ends_after(kept, at + length)?;
        return Ok((next.vr, length, Rest::Native { at, left: length, unit: kept.swapped()? }));
    }
    let end = kept.items(next, options)?.last().map_or(next.value as u64, |(at, length)| at + length);
    ends_after(kept, end + 8)?;
    let frames = kept.frames()?;
    let first = kept.frame(1, options)?;
    let first = first.ok_or_else(|| ReadError::damaged(&kept.path, "its pixel data have no frame"))?;
    let (pixels, becomes) = first.becomes()?;
    let length = (pixels.bytes() as u64).saturating_mul(frames.into());
    kept.check_held(format!("an instance with {length} bytes of pixels"), length, options)?;
    if pixels.photometric != becomes {
        let mut term = becomes.term().as_bytes().to_vec();
        term.resize(term.len().next_multiple_of(2), b' ');
        changes.push((tags::PHOTOMETRIC_INTERPRETATION, term));
    }
    if pixels.samples > 1 && !pixels.stored_as_is() {
        changes.push((tags::PLANAR_CONFIGURATION, vec![0, 0]));
    }
    let vr = if pixels.allocated > 8 { VR::OW } else { VR::OB };
    Ok((vr, length, Rest::Frames { next: 1, last: frames, bytes: pixels.bytes() }))
}

/// Whether nothing but padding follows at `end`: it would be lost.
fn ends_after(kept: &Kept, end: u64) -> Result<(), ReadError> {
    let mut tag = Vec::new();
    if kept.opened.syntax.deflated {
        tag = kept.inflated(end, 4)?;
    } else {
        let io = |e| ReadError::io(&kept.path, e);
        let mut file = File::open(&kept.path).map_err(io)?;
        file.seek(SeekFrom::Start(end)).map_err(io)?;
        file.take(4).read_to_end(&mut tag).map_err(io)?;
    }
    match tag[..] {
        [] | [0xFC, 0xFF, 0xFC, 0xFF] | [0xFF, 0xFC, 0xFF, 0xFC] => Ok(()),
        _ => Err(after_pixels(&kept.path)),
    }
}

fn after_pixels(path: &Path) -> ReadError {
    ReadError::unavailable(path, "another transfer syntax for an instance with elements behind its pixel data")
}

/// Preamble, prefix and file meta information (PS3.10 section 7.1).
fn preamble(kept: &Kept) -> Result<Vec<u8>, ReadError> {
    let a = kept.attributes();
    let meta = FileMetaTableBuilder::new()
        .media_storage_sop_class_uid(a.uid(tags::SOP_CLASS_UID)?)
        .media_storage_sop_instance_uid(a.uid(tags::SOP_INSTANCE_UID)?)
        .transfer_syntax(uids::EXPLICIT_VR_LITTLE_ENDIAN)
        .implementation_class_uid(IMPLEMENTATION_CLASS_UID)
        .implementation_version_name(IMPLEMENTATION_VERSION_NAME);
    let mut bytes = vec![0; 128];
    bytes.extend_from_slice(b"DICM");
    let written = meta.build().is_ok_and(|meta| meta.write(&mut bytes).is_ok());
    if written { Ok(bytes) } else { Err(ReadError::damaged(&kept.path, "its UIDs make no file meta information")) }
}

/// Why a header cannot be brought into another transfer syntax.
enum Trouble {
    Damaged(String),
    Unavailable(&'static str),
}

/// Walks a header that [`scan::walk`] let through, and writes it.
struct Transcoder<'a> {
    outermost: Encoding,
    /// Pixel Representation (0028,0103) says so.
    signed: bool,
    /// Values for elements of the data set itself, in place of theirs.
    changes: &'a [(Tag, Vec<u8>)],
}

/// An open sequence or item.
#[derive(Clone, Copy)]
struct Open {
    item: bool,
    /// Of what is in it.
    encoding: Encoding,
    /// It goes out as it is; others are written anew, and end with a delimiter.
    as_is: bool,
    /// Where it ends, if its length is defined.
    end: Option<usize>,
}

impl Transcoder<'_> {
    fn run(&self, header: &[u8]) -> Result<Vec<u8>, Trouble> {
        let damaged =
            |at: usize| Trouble::Damaged(format!("its header is not well-formed at byte {at} of its data set"));
        let mut window = Window::new(header);
        let mut out = Vec::with_capacity(header.len() + header.len() / 8);
        let mut open: Vec<Open> = Vec::new();
        let mut at = 0;
        loop {
            while let Some(closed) = open.pop_if(|o| o.end.is_some_and(|end| at >= end)) {
                close(&mut out, closed);
            }
            if at >= header.len() {
                return if open.is_empty() { Ok(out) } else { Err(damaged(at)) };
            }
            let as_is = self.outermost == Encoding::ExplicitLittle;
            let within = Open { item: true, encoding: self.outermost, as_is, end: None };
            let within = open.last().copied().unwrap_or(within);
            if !within.item {
                let (tag, length) = item(header, at, within.encoding).ok_or_else(|| damaged(at))?;
                match tag {
                    ITEM => {
                        put_item(&mut out, &header[at..at + 8], within.as_is);
                        open.push(Open { item: true, end: length.map(|length| at + 8 + length), ..within });
                    }
                    SEQUENCE_END => _ = open.pop().map(|closed| close(&mut out, Open { end: None, ..closed })),
                    _ => return Err(damaged(at)),
                }
                at += 8;
                continue;
            }
            let (element, value) = scan::element(&mut window, at, within.encoding).map_err(|_| damaged(at))?;
            if element.tag == ITEM_END {
                open.pop().map(|closed| close(&mut out, Open { end: None, ..closed })).ok_or_else(|| damaged(at))?;
                at = value;
                continue;
            }
            let length = element.len.get().map(|length| length as usize);
            if element.vr == VR::SQ || length.is_none() {
                let end = length.map(|length| value + length);
                open.push(self.sequence(&mut window, &mut out, (at, value), element.tag, element.vr, within, end)?);
                at = value;
                continue;
            }
            let end = value + length.unwrap_or(0);
            let bytes = header.get(value..end).ok_or_else(|| damaged(at))?;
            let change = self.changes.iter().find(|(tag, _)| open.is_empty() && *tag == element.tag);
            match change {
                // Group lengths are retired, and would be wrong.
                _ if element.tag.element() == 0 && (!within.as_is || open.is_empty()) => {}
                Some((tag, bytes)) => put(&mut out, *tag, element.vr, bytes, 1),
                None if within.as_is => out.extend_from_slice(&header[at..end]),
                None => {
                    let unit = if within.encoding == Encoding::ExplicitBig { unit(element.vr) } else { 1 };
                    put(&mut out, element.tag, self.vr(element.tag, element.vr), bytes, unit);
                }
            }
            at = end;
        }
    }

    /// Writes the header of a sequence, or of what has no length.
    #[expect(clippy::too_many_arguments, reason = "all of an element, and where it is")]
    fn sequence(
        &self,
        window: &mut Window<&[u8]>,
        out: &mut Vec<u8>,
        (at, value): (usize, usize),
        tag: Tag,
        vr: VR,
        within: Open,
        end: Option<usize>,
    ) -> Result<Open, Trouble> {
        let explicit = within.encoding != Encoding::ImplicitLittle;
        if tag == tags::PIXEL_DATA {
            return Err(Trouble::Unavailable("another transfer syntax for an instance with a compressed icon"));
        }
        // PS3.5 section 6.2.2: of unknown VR and length, its items are in implicit VR, also where it goes.
        let unknown = vr == VR::UN && !(explicit && scan::explicit_items(window, value).unwrap_or(false));
        if within.as_is {
            out.extend_from_slice(&window.bytes[at..value]);
        } else if vr == VR::SQ || unknown && !explicit {
            put_header(out, tag, vr, end.filter(|_| vr != VR::SQ).map(|end| (end - value) as u32));
        } else {
            return Err(Trouble::Unavailable("another transfer syntax for an instance with sequences of unknown VR"));
        }
        let encoding = if unknown { Encoding::ImplicitLittle } else { within.encoding };
        Ok(Open { item: false, encoding, as_is: within.as_is || unknown, end })
    }

    /// The VR of an element, where the dictionary leaves a choice.
    fn vr(&self, tag: Tag, vr: VR) -> VR {
        let choice = || StandardDataDictionary.by_tag(tag).is_some_and(|entry| entry.vr() == VirtualVr::Xs);
        if vr == VR::US && self.outermost == Encoding::ImplicitLittle && self.signed && choice() { VR::SS } else { vr }
    }
}

/// Tag and length of an item or a delimiter.
fn item(header: &[u8], at: usize, encoding: Encoding) -> Option<(Tag, Option<usize>)> {
    let [g0, g1, e0, e1, l0, l1, l2, l3] = *header.get(at..)?.first_chunk::<8>()?;
    let (tag, length) = match encoding {
        Encoding::ExplicitBig => {
            ((u16::from_be_bytes([g0, g1]), u16::from_be_bytes([e0, e1])), u32::from_be_bytes([l0, l1, l2, l3]))
        }
        _ => ((u16::from_le_bytes([g0, g1]), u16::from_le_bytes([e0, e1])), u32::from_le_bytes([l0, l1, l2, l3])),
    };
    Some((tag.into(), (length != u32::MAX).then_some(length as usize)))
}

/// Ends a sequence or an item, unless its own length, which stays, says where it ends.
fn close(out: &mut Vec<u8>, closed: Open) {
    if closed.as_is && closed.end.is_some() {
        return;
    }
    put_tag(out, if closed.item { ITEM_END } else { SEQUENCE_END });
    out.extend_from_slice(&[0; 4]);
}

fn put_tag(out: &mut Vec<u8>, tag: Tag) {
    out.extend_from_slice(&tag.group().to_le_bytes());
    out.extend_from_slice(&tag.element().to_le_bytes());
}

fn put_item(out: &mut Vec<u8>, was: &[u8], as_is: bool) {
    if as_is {
        return out.extend_from_slice(was);
    }
    put_tag(out, ITEM);
    out.extend_from_slice(&[0xFF; 4]);
}

/// The header of an element (PS3.5 section 7.1.2).
fn put_header(out: &mut Vec<u8>, tag: Tag, vr: VR, length: Option<u32>) {
    let length = length.unwrap_or(u32::MAX);
    let long = gantry_cloud_sync::deid::has_long_length(vr);
    put_tag(out, tag);
    match u16::try_from(length) {
        Ok(short) if !long => {
            out.extend_from_slice(vr.to_string().as_bytes());
            out.extend_from_slice(&short.to_le_bytes());
        }
        _ => {
            // PS3.5 section 6.2.2: what is too long for its VR is of unknown VR.
            out.extend_from_slice(if long { vr.to_string() } else { VR::UN.to_string() }.as_bytes());
            out.extend_from_slice(&[0; 2]);
            out.extend_from_slice(&length.to_le_bytes());
        }
    }
}

/// An element, with each `unit` bytes of its value turned round.
fn put(out: &mut Vec<u8>, tag: Tag, vr: VR, value: &[u8], unit: usize) {
    put_header(out, tag, vr, u32::try_from(value.len()).ok());
    let start = out.len();
    out.extend_from_slice(value);
    out[start..].chunks_exact_mut(unit).for_each(<[u8]>::reverse);
}

/// Bytes of one number.
fn unit(vr: VR) -> usize {
    match vr {
        VR::US | VR::SS | VR::OW | VR::AT => 2,
        VR::UL | VR::SL | VR::FL | VR::OF | VR::OL => 4,
        VR::FD | VR::OD | VR::OV | VR::SV | VR::UV => 8,
        _ => 1,
    }
}
