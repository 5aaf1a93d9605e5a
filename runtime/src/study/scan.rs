//! The structure of a file, walked before anything parses it.
//!
//! dicom-object recurses for each level of nesting and allocates what an element's length says. A hostile file
//! of a few kilobytes could so overflow the stack or take gigabytes. The walk here is flat, allocates nothing,
//! decodes element headers with the very decoders that the parser will use, and refuses what nests too deep,
//! holds too many elements, or claims more bytes than there are. What it lets through is safe to parse, and it
//! finds where the pixel data lie on the way, so that no header is read twice and no voxel before its time.

use std::io::Read;
use std::ops::Range;
use std::path::Path;

use dicom_core::header::{DataElementHeader, SequenceItemHeader};
use dicom_core::{Length, Tag, VR};
use dicom_dictionary_std::tags;
use dicom_encoding::decode::Decode;
use dicom_encoding::decode::explicit_be::ExplicitVRBigEndianDecoder;
use dicom_encoding::decode::explicit_le::ExplicitVRLittleEndianDecoder;
use dicom_encoding::decode::implicit_le::ImplicitVRLittleEndianDecoder;

use super::{ReadError, ReadOptions};

/// The first element of the group of pixel data.
const PIXEL_GROUP: Tag = Tag(0x7FE0, 0x0000);
/// What may come before pixel data in their group and is of no use to one frame: the retired group length, Extended
/// Offset Table, its lengths, and Encapsulated Pixel Data Value Total Length.
const OFFSET_TABLES: [Tag; 4] = [PIXEL_GROUP, Tag(0x7FE0, 0x0001), Tag(0x7FE0, 0x0002), Tag(0x7FE0, 0x0003)];
const PIXEL_DATA: Tag = Tag(0x7FE0, 0x0010);
/// How much more is read at a time: most headers fit into one.
const CHUNK_BYTES: usize = 16 << 10;

/// How elements are encoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Encoding {
    ExplicitLittle,
    ExplicitBig,
    ImplicitLittle,
}

/// Where the walk ended: at the group of pixel data or at the end of the data set.
#[derive(Debug, PartialEq)]
pub(super) struct Header {
    /// End of the elements before it.
    pub(super) end: usize,
    /// Elements before it that the parser does not understand and must not see: sequences of unknown VR in implicit
    /// VR within a data set of explicit VR (PS3.5 section 6.2.2). They are vendors' own.
    pub(super) cuts: Vec<Range<usize>>,
    /// The element there, if the data set does not end there.
    pub(super) next: Option<Next>,
}

/// The first element of the group of pixel data, or after it.
#[derive(Debug, PartialEq)]
pub(super) struct Next {
    pub(super) tag: Tag,
    pub(super) vr: VR,
    /// Offset of its value.
    pub(super) value: usize,
    /// `None` for undefined: encapsulated.
    pub(super) length: Option<u32>,
}

/// Why a walk ended early.
#[derive(Debug)]
pub(super) enum Stop {
    /// Not well-formed; the text says what and where.
    Damaged(String),
    /// A limit was reached: what, its name and value.
    Limit(String, &'static str, u64),
    /// The operating system refused.
    Io(std::io::Error),
    /// There is nothing that decodes it.
    Decoder(String),
}

impl Stop {
    /// Of the file at `path`.
    pub(super) fn of(self, path: &Path) -> ReadError {
        match self {
            Self::Io(e) => ReadError::io(path, e),
            Self::Damaged(reason) => ReadError::damaged(path, reason),
            Self::Decoder(reason) => ReadError::Decoder { path: path.to_owned(), reason },
            Self::Limit(what, limit, maximum) => ReadError::Limit { path: Some(path.to_owned()), what, limit, maximum },
        }
    }
}

impl From<String> for Stop {
    fn from(damage: String) -> Self {
        Self::Damaged(damage)
    }
}

impl From<std::io::Error> for Stop {
    fn from(error: std::io::Error) -> Self {
        Self::Io(error)
    }
}

/// The bytes of a source read so far.
pub(super) struct Window<R> {
    source: R,
    pub(super) bytes: Vec<u8>,
    ended: bool,
}

impl<R: Read> Window<R> {
    pub(super) fn new(source: R) -> Self {
        Self { source, bytes: Vec::new(), ended: false }
    }

    /// Reads until there are `end` bytes; whether there are.
    pub(super) fn reach(&mut self, end: usize) -> std::io::Result<bool> {
        while self.bytes.len() < end && !self.ended {
            let want = (end - self.bytes.len()).max(CHUNK_BYTES) as u64;
            let got = self.source.by_ref().take(want).read_to_end(&mut self.bytes)? as u64;
            self.ended = got < want;
        }
        Ok(self.bytes.len() >= end)
    }

    /// What was read so far, and what the rest comes from.
    pub(super) fn into_parts(self) -> (Vec<u8>, R) {
        (self.bytes, self.source)
    }
}

/// An open sequence or item.
struct Open {
    item: bool,
    /// Within encapsulated pixel data (an icon's), whose items are bytes.
    fragments: bool,
    /// Of what is in it.
    encoding: Encoding,
    /// Where it ends, if its length is defined.
    end: Option<usize>,
}

/// Walks the data set that starts at `start`, up to the group of pixel data.
pub(super) fn walk<R: Read>(
    window: &mut Window<R>,
    start: usize,
    outermost: Encoding,
    options: &ReadOptions,
) -> Result<Header, Stop> {
    walk_until(window, start, outermost, Some(PIXEL_GROUP), options)
}

/// Walks from where [`walk`] ended to the end of a data set that `source` gives from its start and that is at most
/// `most` bytes long. Pixels and fragments are passed over by `skip`, which must not stop short of the end unnoticed where
/// `most` is not the exact length.
pub(super) fn walk_rest<R: Read>(
    mut source: R,
    skip: impl Fn(&mut R, u64) -> std::io::Result<()>,
    most: u64,
    header: &Header,
    outermost: Encoding,
    options: &ReadOptions,
) -> Result<(), Stop> {
    let Some(next) = &header.next else { return Ok(()) };
    let pixels = is_pixels(next.tag);
    let mut at = if pixels { next.value } else { header.end } as u64;
    let pass = |source: &mut R, at: u64, bytes: u64| match at.saturating_add(bytes) <= most {
        true => Ok(skip(source, bytes).map(|()| at + bytes)?),
        false => Err(Stop::Damaged(format!("the file ends within {bytes} bytes of pixel data at byte {at}"))),
    };
    pass(&mut source, 0, at)?;
    match (pixels, next.length) {
        (false, _) => {}
        (true, Some(length)) => _ = pass(&mut source, at, length.into())?,
        (true, None) => loop {
            let mut item = [0; 8];
            source.read_exact(&mut item).map_err(|e| match e.kind() {
                std::io::ErrorKind::UnexpectedEof => {
                    Stop::Damaged(format!("the file ends between fragments at byte {at}"))
                }
                _ => Stop::Io(e),
            })?;
            let length = u32::from_le_bytes([item[4], item[5], item[6], item[7]]);
            match &item[..4] {
                [0xFE, 0xFF, 0x00, 0xE0] if length != u32::MAX => at = pass(&mut source, at + 8, length.into())?,
                [0xFE, 0xFF, 0xDD, 0xE0] => break,
                _ => return Err(Stop::Damaged(format!("no fragment where pixel data must have one, at byte {at}"))),
            }
        },
    }
    walk_until(&mut Window::new(source), 0, outermost, None, options).map(|_| ())
}

/// Whether this is an element of pixel data (PS3.3 C.7.6.3, C.7.6.24, C.7.6.25).
pub(super) fn is_pixels(tag: Tag) -> bool {
    matches!(tag, PIXEL_DATA | tags::FLOAT_PIXEL_DATA | tags::DOUBLE_FLOAT_PIXEL_DATA)
}

fn walk_until<R: Read>(
    window: &mut Window<R>,
    start: usize,
    outermost: Encoding,
    until: Option<Tag>,
    options: &ReadOptions,
) -> Result<Header, Stop> {
    let mut open: Vec<Open> = Vec::new();
    let mut at = start;
    let mut tables = None;
    let mut cuts: Vec<Range<usize>> = Vec::new();
    // Start of the element of the data set itself that the walk is in, and whether it must be cut.
    let (mut top, mut cut) = (start, false);
    for _ in 0..options.elements_max {
        while let Some(end) = open.last().and_then(|o| o.end) {
            if at > end {
                return Err(Stop::Damaged(format!("an element at byte {at} reaches over the end of what holds it")));
            }
            if at < end {
                break;
            }
            open.pop();
        }
        // A level is a sequence and an item.
        if open.len() > options.sequence_depth_max.saturating_mul(2) {
            let maximum = options.sequence_depth_max as u64;
            return Err(Stop::Limit(format!("a sequence nested at byte {at}"), "sequence_depth_max", maximum));
        }
        if at - start > options.header_max_bytes() {
            return Err(too_large("the size of what comes before the pixel data".into(), options));
        }
        if open.is_empty() {
            if std::mem::take(&mut cut) {
                cuts.push(top..at);
            }
            top = at;
        }
        let encoding = open.last().map_or(outermost, |o| o.encoding);
        if let Some(within) = open.last().filter(|o| !o.item) {
            let fragments = within.fragments;
            at = item(window, at, encoding, fragments, &mut open, options)?;
            continue;
        }
        if open.is_empty() && !window.reach(at + 1)? {
            return Ok(Header { end: tables.unwrap_or(at), cuts, next: None });
        }
        let (header, value) = element(window, at, encoding)?;
        let undefined = header.len.is_undefined();
        if open.is_empty() && until.is_some_and(|until| header.tag >= until) {
            if OFFSET_TABLES.contains(&header.tag) && !undefined {
                tables = tables.or(Some(at));
                at = skip(window, &open, value, header.len.0 as usize, options)?;
                continue;
            }
            let length = header.len.get();
            let next = Next { tag: header.tag, vr: header.vr, value, length };
            return Ok(Header { end: tables.unwrap_or(at), cuts, next: Some(next) });
        }
        if header.tag == Tag(0xFFFE, 0xE00D) {
            open.pop();
            at = value;
        } else if header.vr == VR::SQ || undefined {
            let end = within(&open, value, header.len)?;
            let fragments = header.tag == PIXEL_DATA && undefined;
            let unknown = header.vr == VR::UN && encoding != Encoding::ImplicitLittle;
            let implicit = unknown && !explicit_items(window, value)?;
            cut |= implicit;
            let encoding = if implicit { Encoding::ImplicitLittle } else { encoding };
            open.push(Open { item: false, fragments, encoding, end });
            at = value;
        } else {
            whole(&header, value)?;
            at = skip(window, &open, value, header.len.0 as usize, options)?;
        }
    }
    Err(Stop::Limit("the number of elements before the pixel data".into(), "elements_max", options.elements_max as u64))
}

/// Whether a value is a whole number of numbers: the parser reads those, and would take what is left for the next element,
/// with any length.
fn whole(header: &DataElementHeader, value: usize) -> Result<(), Stop> {
    let unit = match header.vr {
        VR::US | VR::SS | VR::OW => 2,
        VR::AT | VR::FL | VR::OF | VR::UL | VR::SL | VR::OL => 4,
        VR::FD | VR::OD | VR::UV | VR::SV | VR::OV => 8,
        _ => 1,
    };
    let length = header.len.0;
    if length.is_multiple_of(unit) {
        return Ok(());
    }
    let vr = header.vr.to_string();
    Err(Stop::Damaged(format!("a value of {length} bytes at byte {value}, where {vr} has {unit} bytes for each")))
}

/// Walks over the header of an item or a delimiter at `at`.
fn item<R: Read>(
    window: &mut Window<R>,
    at: usize,
    encoding: Encoding,
    fragments: bool,
    open: &mut Vec<Open>,
    options: &ReadOptions,
) -> Result<usize, Stop> {
    if !window.reach(at + 8)? {
        return Err(truncated(at, "within a sequence"));
    }
    let mut bytes = &window.bytes[at..at + 8];
    let header = match encoding {
        Encoding::ExplicitLittle => ExplicitVRLittleEndianDecoder::default().decode_item_header(&mut bytes),
        Encoding::ExplicitBig => ExplicitVRBigEndianDecoder::default().decode_item_header(&mut bytes),
        Encoding::ImplicitLittle => ImplicitVRLittleEndianDecoder::default().decode_item_header(&mut bytes),
    };
    match header {
        Ok(SequenceItemHeader::Item { len }) if fragments => match len.get() {
            Some(length) => skip(window, open, at + 8, length as usize, options),
            None => Err(Stop::Damaged(format!("a fragment of undefined length at byte {at}"))),
        },
        Ok(SequenceItemHeader::Item { len }) => {
            let end = within(open, at + 8, len)?;
            open.push(Open { item: true, fragments: false, encoding, end });
            Ok(at + 8)
        }
        Ok(SequenceItemHeader::SequenceDelimiter) => {
            open.pop();
            Ok(at + 8)
        }
        Ok(SequenceItemHeader::ItemDelimiter) | Err(_) => {
            Err(Stop::Damaged(format!("no item where a sequence must have one, at byte {at}")))
        }
    }
}

/// Header of the element at `at` and offset of its value.
pub(super) fn element<R: Read>(
    window: &mut Window<R>,
    at: usize,
    encoding: Encoding,
) -> Result<(DataElementHeader, usize), Stop> {
    window.reach(at + 12)?;
    let mut bytes = window.bytes.get(at..).unwrap_or_default();
    let header = match encoding {
        Encoding::ExplicitLittle => ExplicitVRLittleEndianDecoder::default().decode_header(&mut bytes),
        Encoding::ExplicitBig => ExplicitVRBigEndianDecoder::default().decode_header(&mut bytes),
        Encoding::ImplicitLittle => ImplicitVRLittleEndianDecoder::default().decode_header(&mut bytes),
    };
    // Its only way to fail is to run out of bytes.
    let (header, length) = header.map_err(|_| truncated(at, "within the header of an element"))?;
    Ok((header, at + length))
}

/// Whether the first element in the first item of a sequence of unknown VR at `value` has a VR. The standard says no,
/// and some writers, as the parser, say yes.
pub(super) fn explicit_items<R: Read>(window: &mut Window<R>, value: usize) -> Result<bool, Stop> {
    window.reach(value + 14)?;
    let vr = window.bytes.get(value + 12..value + 14).and_then(|vr| VR::from_binary([vr[0], vr[1]]));
    Ok(vr.is_some())
}

/// End of a value of `length` bytes at `value`, which must lie in the source and in what is open.
fn skip<R: Read>(
    window: &mut Window<R>,
    open: &[Open],
    value: usize,
    length: usize,
    options: &ReadOptions,
) -> Result<usize, Stop> {
    let end = value + length;
    if innermost(open).is_some_and(|limit| end > limit) {
        return Err(Stop::Damaged(format!("a value at byte {value} reaches over the end of what holds it")));
    }
    if length > options.header_max_bytes() {
        return Err(too_large(format!("{length} bytes of one element before the pixel data"), options));
    }
    if !window.reach(end)? {
        return Err(truncated(value, &format!("within a value of {length} bytes")));
    }
    Ok(end)
}

/// End of a sequence or item at `value`, which must lie within what is open.
fn within(open: &[Open], value: usize, length: Length) -> Result<Option<usize>, Stop> {
    let Some(length) = length.get() else { return Ok(None) };
    let end = value + length as usize;
    match innermost(open) {
        Some(limit) if end > limit => {
            Err(Stop::Damaged(format!("a sequence at byte {value} reaches over the end of what holds it")))
        }
        _ => Ok(Some(end)),
    }
}

fn innermost(open: &[Open]) -> Option<usize> {
    open.iter().rev().find_map(|o| o.end)
}

fn too_large(what: String, options: &ReadOptions) -> Stop {
    Stop::Limit(what, "header_max_mib", options.header_max_mib)
}

fn truncated(at: usize, place: &str) -> Stop {
    Stop::Damaged(format!("the file ends {place} at byte {at}"))
}
