//! Pixel data of one frame become stored values.

use std::borrow::Cow;
use std::panic::{AssertUnwindSafe, catch_unwind};

use dicom_core::value::C;
use dicom_encoding::TransferSyntaxIndex;
use dicom_encoding::adapters::{PixelDataObject, RawPixelData};
use dicom_transfer_syntax_registry::TransferSyntaxRegistry;

use super::pixels::{Coding, Pixels};

/// Decodes the frame whose Pixel Data value starts at `value`, which goes on to the end of the data set, into `out`
/// (see [`Pixels::unpack`]). `scratch` is memory to reuse. `Err` says what is damaged.
pub(super) fn decode(
    pixels: &Pixels,
    transfer_syntax: &str,
    value: &[u8],
    scratch: &mut Vec<u8>,
    out: &mut [i16],
) -> Result<(), String> {
    let expected = pixels.bytes();
    let short = |bytes: &[u8]| format!("{} bytes of pixel data where the header says {expected}", bytes.len());
    let lost = |()| "pixels have more bits than Bits Stored (0028,0101) says".to_owned();
    match pixels.coding {
        Coding::Native { big_endian } => {
            let bytes = value.get(..pixels.native_bytes()).ok_or_else(|| short(value))?;
            pixels.unpack(bytes, big_endian, false, out).map_err(lost)
        }
        Coding::Fragment => {
            let value = joined(&fragments(value)?);
            let bytes = value.get(..expected).ok_or_else(|| short(&value))?;
            pixels.unpack(bytes, false, false, out).map_err(lost)
        }
        Coding::Rle => {
            let [fragment] = fragments(value)?[..] else {
                return Err("RLE pixel data of one frame must be one fragment".into());
            };
            scratch.clear();
            scratch.resize(expected, 0);
            rle(fragment, usize::from(pixels.allocated / 8), scratch)?;
            pixels.unpack(scratch, false, false, out).map_err(lost)
        }
        Coding::Jpeg | Coding::Jpeg2000 => {
            let data = joined(&fragments(value)?);
            let stream = if pixels.coding == Coding::Jpeg { jpeg(&data) } else { jpeg2000(&data) };
            let stream = stream.ok_or("the compressed image has no header or no end")?;
            stream.check(pixels)?;
            let frame = Frame { pixels, transfer_syntax, data: &data[stream.range.clone()] };
            scratch.clear();
            frame.decode(scratch)?;
            if scratch.len() != expected {
                return Err("the compressed image is not of the size that the header says".into());
            }
            pixels.unpack(scratch, false, stream.precision > pixels.stored, out).map_err(lost)
        }
    }
}

/// The fragments of encapsulated pixel data (PS3.5 annex A.4), without the offset table.
fn fragments(value: &[u8]) -> Result<Vec<&[u8]>, String> {
    let mut rest = value;
    let mut items = Vec::new();
    loop {
        let Some((header, after)) = rest.split_first_chunk::<8>() else {
            return Err("the file ends within its pixel data".into());
        };
        let [t0, t1, t2, t3, l0, l1, l2, l3] = *header;
        let length = u32::from_le_bytes([l0, l1, l2, l3]) as usize;
        match [t0, t1, t2, t3] {
            [0xFE, 0xFF, 0x00, 0xE0] => {
                let item = after.get(..length).ok_or("the file ends within a fragment of its pixel data")?;
                items.push(item);
                rest = &after[length..];
            }
            [0xFE, 0xFF, 0xDD, 0xE0] => break,
            _ => return Err("the fragments of its pixel data are not well-formed".into()),
        }
    }
    if items.len() < 2 {
        return Err("its pixel data have no fragment".into());
    }
    items.remove(0);
    Ok(items)
}

fn joined<'a>(fragments: &[&'a [u8]]) -> Cow<'a, [u8]> {
    match fragments {
        [one] => Cow::Borrowed(one),
        many => Cow::Owned(many.concat()),
    }
}

/// RLE Lossless (PS3.5 annex G): a plane for each byte of a pixel, the highest first, into little endian. The
/// registry's decoder allocates as many offsets as the input says, so it is not used.
fn rle(fragment: &[u8], planes: usize, out: &mut [u8]) -> Result<(), String> {
    let word = |i: usize| {
        let bytes = fragment.get(i * 4..i * 4 + 4)?;
        Some(u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]) as usize)
    };
    if fragment.len() < 64 || word(0) != Some(planes) {
        return Err("its RLE header does not fit Bits Allocated (0028,0100)".into());
    }
    for plane in 0..planes {
        let start = word(1 + plane).unwrap_or(0);
        let end = if plane + 1 < planes { word(2 + plane).unwrap_or(0) } else { fragment.len() };
        let segment = fragment.get(start..end).filter(|_| start >= 64);
        let segment = segment.ok_or("an RLE segment lies outside its fragment")?;
        let places = out.iter_mut().skip(planes - 1 - plane).step_by(planes);
        if !unpack_bits(segment, places) {
            return Err("an RLE segment is too short for the image".into());
        }
    }
    Ok(())
}

/// Fills `places` from PackBits; whether there was enough.
fn unpack_bits<'a>(segment: &[u8], mut places: impl Iterator<Item = &'a mut u8>) -> bool {
    let mut rest = segment;
    while let [control, after @ ..] = rest {
        let count = usize::from(*control);
        rest = after;
        let (run, bytes) = match count {
            0..=127 => (&after[..after.len().min(count + 1)], 1),
            128 => continue,
            _ => (&after[..after.len().min(1)], 257 - count),
        };
        rest = &rest[run.len()..];
        for byte in run.iter().flat_map(|byte| std::iter::repeat_n(*byte, bytes)) {
            match places.next() {
                Some(place) => *place = byte,
                // Segments are padded to an even length.
                None => return true,
            }
        }
    }
    places.next().is_none()
}

/// What a codestream says of itself.
struct Codestream {
    width: u32,
    height: u32,
    components: u16,
    precision: u16,
    /// Where it lies in the pixel data.
    range: std::ops::Range<usize>,
}

impl Codestream {
    /// The decoders allocate by the codestream's own header and copy by the data set's: both must agree first.
    fn check(&self, pixels: &Pixels) -> Result<(), String> {
        if (self.width, self.height) != (u32::from(pixels.columns), u32::from(pixels.rows)) {
            return Err(format!(
                "its compressed image is {}x{} where the header says {}x{}",
                self.width, self.height, pixels.columns, pixels.rows
            ));
        }
        if self.components != 1 {
            return Err(format!("its compressed image has {} components, not one", self.components));
        }
        if self.precision.div_ceil(8) != pixels.allocated / 8
            && (pixels.coding == Coding::Jpeg || self.precision > pixels.allocated)
        {
            return Err(format!(
                "its compressed image has {} bits a pixel, which do not fit Bits Allocated {}",
                self.precision, pixels.allocated
            ));
        }
        Ok(())
    }
}

/// The start of frame of a JPEG image (ISO 10918-1 annex B).
fn jpeg(data: &[u8]) -> Option<Codestream> {
    let end = ended(data)?;
    let mut at = 2;
    if !data.starts_with(&[0xFF, 0xD8]) {
        return None;
    }
    loop {
        let [0xFF, marker] = *data.get(at..at + 2)? else { return None };
        match marker {
            0xFF => at += 1,
            0x01 | 0xD0..=0xD7 => at += 2,
            0xC0..=0xC3 | 0xC5..=0xC7 | 0xC9..=0xCB | 0xCD..=0xCF => {
                let [precision, y0, y1, x0, x1, components] = *data.get(at + 4..at + 10)? else { return None };
                return Some(Codestream {
                    width: u32::from(u16::from_be_bytes([x0, x1])),
                    height: u32::from(u16::from_be_bytes([y0, y1])),
                    components: u16::from(components),
                    precision: u16::from(precision),
                    range: 0..end,
                });
            }
            0xD8..=0xDA => return None,
            _ => {
                let length = u16::from_be_bytes([*data.get(at + 2)?, *data.get(at + 3)?]);
                at += 2 + usize::from(length.max(2));
            }
        }
    }
}

/// The SIZ marker of a JPEG 2000 codestream (ISO 15444-1 annex A.5.1), which some writers wrap into JP2 boxes.
fn jpeg2000(data: &[u8]) -> Option<Codestream> {
    let end = ended(data)?;
    let start = data.windows(4).take(4096).position(|w| w == [0xFF, 0x4F, 0xFF, 0x51])?;
    let siz = data.get(start..end)?;
    let long = |at: usize| Some(u32::from_be_bytes(*siz.get(at..)?.first_chunk()?));
    let [components0, components1, depth, across, down] = *siz.get(40..45)? else { return None };
    if (across, down) != (1, 1) {
        return None;
    }
    Some(Codestream {
        width: long(8)?.checked_sub(long(16)?)?,
        height: long(12)?.checked_sub(long(20)?)?,
        components: u16::from_be_bytes([components0, components1]),
        precision: u16::from(depth & 0x7F) + 1,
        range: start..end,
    })
}

/// Where a codestream ends, if it does: both formats close with the same marker, and writers pad with zeros or one
/// byte of ones. The decoders make up what a cut codestream lacks, so it must not reach them.
fn ended(data: &[u8]) -> Option<usize> {
    let zeros = data.iter().rev().take_while(|b| **b == 0).count();
    let end = data.len() - zeros;
    [end, end.saturating_sub(1)].into_iter().find(|end| data[..*end].ends_with(&[0xFF, 0xD9]))
}

/// One compressed frame as the registry's decoders want to see it.
struct Frame<'a> {
    pixels: &'a Pixels,
    transfer_syntax: &'a str,
    data: &'a [u8],
}

impl Frame<'_> {
    fn decode(&self, out: &mut Vec<u8>) -> Result<(), String> {
        let decoder = TransferSyntaxRegistry.get(self.transfer_syntax).and_then(|ts| ts.pixel_data_reader());
        let decoder = decoder.ok_or("its transfer syntax has no decoder")?;
        // These decoders index and unwrap on what is in the codestream. A panic must fail this file, not the process
        // that serves others; `out` is cleared before it is used again, so nothing half-done is seen.
        match catch_unwind(AssertUnwindSafe(|| decoder.decode_frame(self, 0, out))) {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) | Err(_) => Err("its compressed image cannot be decoded".into()),
        }
    }
}

impl PixelDataObject for Frame<'_> {
    fn transfer_syntax_uid(&self) -> &str {
        self.transfer_syntax
    }
    fn rows(&self) -> Option<u16> {
        Some(self.pixels.rows)
    }
    fn cols(&self) -> Option<u16> {
        Some(self.pixels.columns)
    }
    fn samples_per_pixel(&self) -> Option<u16> {
        Some(1)
    }
    fn bits_allocated(&self) -> Option<u16> {
        Some(self.pixels.allocated)
    }
    fn bits_stored(&self) -> Option<u16> {
        Some(self.pixels.stored)
    }
    fn photometric_interpretation(&self) -> Option<&str> {
        Some("MONOCHROME2")
    }
    fn number_of_frames(&self) -> Option<u32> {
        Some(1)
    }
    fn number_of_fragments(&self) -> Option<u32> {
        Some(1)
    }
    fn fragment(&self, fragment: usize) -> Option<Cow<'_, [u8]>> {
        (fragment == 0).then_some(Cow::Borrowed(self.data))
    }
    fn offset_table(&self) -> Option<Cow<'_, [u32]>> {
        Some(Cow::Borrowed(&[]))
    }
    fn raw_pixel_data(&self) -> Option<RawPixelData> {
        Some(RawPixelData { fragments: C::from_iter([self.data.to_vec()]), offset_table: C::new() })
    }
}
