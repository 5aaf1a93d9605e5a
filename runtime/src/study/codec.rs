//! Pixel data of one frame become stored values.

use std::borrow::Cow;
use std::io::Read;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};

use dicom_core::value::C;
use dicom_encoding::TransferSyntaxIndex;
use dicom_encoding::adapters::{PixelDataObject, RawPixelData};
use dicom_transfer_syntax_registry::TransferSyntaxRegistry;
use flate2::read::DeflateDecoder;
use serde::{Deserialize, Serialize};

use super::pixels::{Coding, Photometric, Pixels};
use super::scan::Stop;
use super::{colour, jpeg, jpeg12, jpegls, jpegxl};
use crate::worker::{Decoders, NoFrame};

/// Decodes the frame whose Pixel Data value starts at `value`, which goes on to the end of the data set, into `out`
/// (see [`Pixels::unpack`]), in one of `decoders` where there are some. `scratch` is memory to reuse.
pub(super) fn decode(
    pixels: &Pixels,
    transfer_syntax: &str,
    value: &[u8],
    decoders: Option<&Decoders>,
    scratch: &mut Vec<u8>,
    out: &mut [i16],
) -> Result<(), Stop> {
    let short = |bytes: &[u8]| format!("{} bytes of pixel data where the header says {}", bytes.len(), pixels.bytes());
    let lost = |()| "pixels have more bits than Bits Stored (0028,0101) says".to_owned();
    let unpacked = match pixels.coding {
        Coding::Native { big_endian } => {
            let bytes = value.get(..pixels.native_bytes()).ok_or_else(|| short(value))?;
            pixels.unpack(bytes, big_endian, false, out)
        }
        Coding::Fragment | Coding::Deflated => pixels.unpack(&plain(pixels, value)?, false, false, out),
        Coding::Rle | Coding::Jpeg | Coding::JpegLs | Coding::Jpeg2000 | Coding::JpegXl { .. } => {
            let precision = expand(pixels, transfer_syntax, value, decoders, scratch)?;
            pixels.unpack(scratch, false, precision > pixels.stored, out)
        }
    };
    Ok(unpacked.map_err(lost)?)
}

/// Decodes an encapsulated frame of several samples a pixel, as [`decode`] does, into bytes in little endian.
/// Compressed ones become pixel after pixel. What the samples then mean.
pub(super) fn decode_colour(
    pixels: &Pixels,
    transfer_syntax: &str,
    value: &[u8],
    decoders: Option<&Decoders>,
    out: &mut Vec<u8>,
) -> Result<Photometric, Stop> {
    if pixels.stored_as_is() {
        out.extend_from_slice(&plain(pixels, value)?);
    } else {
        expand(pixels, transfer_syntax, value, decoders, out)?;
    }
    Ok(becomes(pixels, value)?)
}

/// Decodes a frame as [`decode`] does, into what its pixels measure: through the modality LUT, colours as their
/// luminance.
pub(super) fn values(
    pixels: &Pixels,
    transfer_syntax: &str,
    value: &[u8],
    decoders: Option<&Decoders>,
    scratch: &mut Scratch,
    out: &mut [f32],
) -> Result<(), Stop> {
    let Scratch { decoded, stored } = scratch;
    if pixels.samples == 1 && pixels.is_narrow() {
        stored.resize(out.len(), 0);
        decode(pixels, transfer_syntax, value, decoders, decoded, stored)?;
        pixels.measure(stored, out);
        return Ok(());
    }
    decoded.clear();
    let photometric = match pixels.coding {
        Coding::Native { big_endian } => {
            let short = || format!("{} bytes of pixel data where the header says {}", value.len(), pixels.bytes());
            decoded.extend_from_slice(value.get(..pixels.native_bytes()).ok_or_else(short)?);
            if big_endian {
                pixels.turn_round(decoded);
            }
            pixels.photometric
        }
        _ => decode_colour(pixels, transfer_syntax, value, decoders, decoded)?,
    };
    if pixels.samples == 1 {
        pixels.measure_wide(decoded, out);
        return Ok(());
    }
    let colours = colour::rgb(pixels, photometric, pixels.planar && pixels.stored_as_is(), decoded);
    for (out, colour) in out.iter_mut().zip(colours.chunks_exact(3)) {
        *out = colour::luminance([colour[0], colour[1], colour[2]]);
    }
    Ok(())
}

/// Memory that is used again and again.
#[derive(Default)]
pub(super) struct Scratch {
    pub(super) decoded: Vec<u8>,
    pub(super) stored: Vec<i16>,
}

/// What samples mean once the frame is decoded. `Err` where its codestream cannot be decoded, as far as it says.
pub(super) fn becomes(pixels: &Pixels, value: &[u8]) -> Result<Photometric, String> {
    if !matches!(pixels.coding, Coding::Jpeg | Coding::JpegLs | Coding::Jpeg2000 | Coding::JpegXl { .. }) {
        return Ok(match pixels.photometric {
            // RLE has a plane for each sample, all of one size.
            Photometric::YbrFull422 if !pixels.stored_as_is() => Photometric::YbrFull,
            other => other,
        });
    }
    let data = joined(&fragments(value)?);
    let stream = Codestream::read(pixels, &data)?;
    Ok(match pixels.photometric {
        one if pixels.samples == 1 => one,
        _ if stream.becomes_rgb => Photometric::Rgb,
        Photometric::YbrFull422 => Photometric::YbrFull,
        Photometric::YbrRct | Photometric::YbrIct => Photometric::Rgb,
        other => other,
    })
}

/// Decodes a compressed frame into `out`, in little endian, wherever that is to be; how many bits its samples have.
fn expand(
    pixels: &Pixels,
    transfer_syntax: &str,
    value: &[u8],
    decoders: Option<&Decoders>,
    out: &mut Vec<u8>,
) -> Result<u16, Stop> {
    let frame = CompressedFrame { pixels: pixels.clone(), transfer_syntax: transfer_syntax.to_owned() };
    let Some(decoders) = decoders else { return Ok(frame.decode(value, out)?) };
    decoders.decode(&frame, value, pixels.bytes(), out).map_err(|no| match no {
        NoFrame::Refused(reason) => Stop::Damaged(reason),
        NoFrame::TooLong(ms) => Stop::Limit("the time to decode its image".into(), "decode_deadline_ms", ms),
        NoFrame::Died(how, mib) => Stop::Damaged(format!(
            "decoding its image ended the worker: the process {how}; it crashed, or takes more memory than decode_memory_mib = {mib}"
        )),
        NoFrame::Host(reason) => Stop::Decoder(reason),
    })
}

/// What decoding needs to know of a compressed frame of one image. Nothing of a patient.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CompressedFrame {
    pixels: Pixels,
    transfer_syntax: String,
}

impl CompressedFrame {
    /// Decodes its value of Pixel Data in this process into `out`, in little endian; how many bits its samples have.
    ///
    /// # Errors
    /// What is damaged.
    pub fn decode(&self, value: &[u8], out: &mut Vec<u8>) -> Result<u16, String> {
        expand_here(&self.pixels, &self.transfer_syntax, value, out)
    }
}

/// A larger image than this is at most so many times as large as its compressed data. What shows nothing is smaller yet,
/// but nobody sends so much of it. The registry's decoders stop at 64 times.
const EXPANDS_FREELY_BYTES: usize = 16 << 20;
const EXPANDS_TIMES: usize = 1000;

/// Whether `compressed` bytes can become the image that the header says, before memory is taken for it.
pub(super) fn plausible(pixels: &Pixels, compressed: usize) -> Result<(), String> {
    let expected = pixels.bytes();
    if expected <= EXPANDS_FREELY_BYTES.max(compressed.saturating_mul(EXPANDS_TIMES)) {
        return Ok(());
    }
    Err(format!("{compressed} bytes of compressed pixel data for an image of {expected} bytes"))
}

fn expand_here(pixels: &Pixels, transfer_syntax: &str, value: &[u8], out: &mut Vec<u8>) -> Result<u16, String> {
    let expected = pixels.bytes();
    out.clear();
    plausible(pixels, value.len())?;
    if pixels.coding == Coding::Rle {
        let [fragment] = fragments(value)?[..] else {
            return Err("RLE pixel data of one frame must be one fragment".into());
        };
        out.resize(expected, 0);
        rle(fragment, usize::from(pixels.samples), pixels.sample_bytes(), out)?;
        return Ok(pixels.stored);
    }
    let data = joined(&fragments(value)?);
    let stream = Codestream::read(pixels, &data)?;
    match (pixels.coding, stream.precision) {
        (Coding::JpegLs, _) => {
            let header = jpegls::header(&data)?.ok_or("the compressed image has no header")?;
            own(pixels, out, |put| header.decode(&data, put))?;
        }
        (Coding::Jpeg, 12) if !stream.lossless => {
            let data = &data[stream.range.clone()];
            own(pixels, out, |put| jpeg12::decode(data, &jpeg::segments(data), put))?;
        }
        (Coding::JpegXl { .. }, _) => {
            let data = jpegxl::codestream(&data)?;
            let header = jpegxl::header(&data)?;
            let as_stored = pixels.photometric == Photometric::YbrFull && !stream.becomes_rgb;
            own(pixels, out, |put| jpegxl::decode(&data, &header, as_stored, put))?;
        }
        _ => {
            let frame = Frame { pixels, transfer_syntax, data: &stream.told(&data) };
            frame.decode(out)?;
        }
    }
    if out.len() != expected {
        return Err("the compressed image is not of the size that the header says".into());
    }
    Ok(stream.precision)
}

/// Runs a decoder of ours, which says where each sample belongs, into `out`.
fn own(
    pixels: &Pixels,
    out: &mut Vec<u8>,
    decode: impl FnOnce(&mut dyn FnMut(usize, u16)) -> Result<(), String>,
) -> Result<(), String> {
    out.resize(pixels.bytes(), 0);
    let wide = pixels.sample_bytes();
    decode(&mut |at, sample| {
        // In little endian, with zeros above where there is room for more; in 8 bits it is a byte.
        let place = out.get_mut(at * wide..(at + 1) * wide).unwrap_or_default();
        place.iter_mut().zip(sample.to_le_bytes()).for_each(|(place, byte)| *place = byte);
    })
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

/// The pixels of fragments that are not compressed, or deflated: no more of them than the header says.
fn plain<'a>(pixels: &Pixels, value: &'a [u8]) -> Result<Cow<'a, [u8]>, String> {
    let expected = pixels.bytes();
    let mut bytes = joined(&fragments(value)?);
    if pixels.coding == Coding::Deflated {
        let mut inflated = Vec::new();
        let most = expected as u64;
        let read = DeflateDecoder::new(&*bytes).take(most).read_to_end(&mut inflated);
        read.map_err(|_| "its deflated frame cannot be inflated")?;
        bytes = Cow::Owned(inflated);
    }
    if bytes.len() < expected {
        return Err(format!("{} bytes of pixel data where the header says {expected}", bytes.len()));
    }
    Ok(match bytes {
        Cow::Borrowed(bytes) => Cow::Borrowed(&bytes[..expected]),
        Cow::Owned(mut bytes) => {
            bytes.truncate(expected);
            Cow::Owned(bytes)
        }
    })
}

fn joined<'a>(fragments: &[&'a [u8]]) -> Cow<'a, [u8]> {
    match fragments {
        [one] => Cow::Borrowed(one),
        many => Cow::Owned(many.concat()),
    }
}

/// RLE Lossless (PS3.5 annex G): for each sample a plane for each of its `bytes`, the highest first, into little
/// endian, pixel after pixel. The registry's decoder allocates as many offsets as the input says, so it is not used.
fn rle(fragment: &[u8], samples: usize, bytes: usize, out: &mut [u8]) -> Result<(), String> {
    let planes = samples * bytes;
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
        let (sample, byte) = (plane / bytes, bytes - 1 - plane % bytes);
        let places = out.iter_mut().skip(sample * bytes + byte).step_by(planes);
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
pub(super) struct Codestream {
    pub(super) width: u32,
    pub(super) height: u32,
    pub(super) components: u16,
    /// All have the same depth, and a sample for each pixel once they are decoded.
    pub(super) alike: bool,
    pub(super) precision: u16,
    /// Where it lies in the pixel data.
    pub(super) range: Range<usize>,
    /// Of JPEG 2000, and 0 elsewhere.
    pub(super) tiles: u64,
    /// JPEG without a transform.
    pub(super) lossless: bool,
    /// Decoded, three components are red, green and blue.
    pub(super) becomes_rgb: bool,
    /// Of JPEG with three components: where the names of these are in it, and what the decoder is to take them for.
    pub(super) names: Vec<(usize, u8)>,
}

/// What the header of a tile-part takes (SOT and SOD). The decoder takes kilobytes for each tile that it is told of.
const TILE_MIN_BYTES: u64 = 14;

impl Codestream {
    fn read(pixels: &Pixels, data: &[u8]) -> Result<Self, String> {
        let stream = match pixels.coding {
            Coding::Jpeg => jpeg::header(data, pixels.photometric)?,
            Coding::JpegLs => jpegls::header(data)?.map(|header| Self::of_jpegls(&header, data)),
            Coding::JpegXl { jpeg } => {
                let header = jpegxl::header(&jpegxl::codestream(data)?)?;
                // Only a JPEG has chrominance of its own size, and of what was one the decoder makes colours.
                let becomes_rgb = jpeg || matches!(pixels.photometric, Photometric::Xyb | Photometric::YbrFull422);
                Some(Self {
                    width: header.width,
                    height: header.height,
                    components: header.components,
                    becomes_rgb,
                    ..Self::whole(header.precision, data)
                })
            }
            _ => jpeg2000(data),
        };
        let stream = stream.ok_or("the compressed image has no header or no end")?;
        stream.check(pixels)?;
        Ok(stream)
    }

    fn of_jpegls(header: &jpegls::Header, data: &[u8]) -> Self {
        Self {
            width: header.width.into(),
            height: header.height.into(),
            components: header.components.into(),
            ..Self::whole(header.precision.into(), data)
        }
    }

    /// All of `data`, in one piece, with nothing to be told to its decoder.
    fn whole(precision: u16, data: &[u8]) -> Self {
        Self {
            width: 0,
            height: 0,
            components: 0,
            alike: true,
            precision,
            range: 0..data.len(),
            tiles: 0,
            lossless: false,
            becomes_rgb: false,
            names: Vec::new(),
        }
    }

    /// The decoders allocate by the codestream's own header and copy by the data set's: both must agree first.
    fn check(&self, pixels: &Pixels) -> Result<(), String> {
        if (self.width, self.height) != (u32::from(pixels.columns), u32::from(pixels.rows)) {
            return Err(format!(
                "its compressed image is {}x{} where the header says {}x{}",
                self.width, self.height, pixels.columns, pixels.rows
            ));
        }
        if self.tiles.saturating_mul(TILE_MIN_BYTES) > self.range.len() as u64 {
            return Err("its compressed image has fewer tiles than its header says".into());
        }
        if self.components != pixels.samples {
            return Err(format!("its compressed image has {} components, not {}", self.components, pixels.samples));
        }
        if !self.alike {
            return Err("its compressed image has components of other sizes or depths than the first".into());
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

    /// The codestream, with names for its components from which the decoder takes what their colours are: it guesses by
    /// them, and knows nothing of Photometric Interpretation.
    fn told<'a>(&self, data: &'a [u8]) -> Cow<'a, [u8]> {
        let stream = &data[self.range.clone()];
        if self.names.is_empty() {
            return Cow::Borrowed(stream);
        }
        let mut told = stream.to_vec();
        self.names.iter().for_each(|(at, name)| told[*at] = *name);
        Cow::Owned(told)
    }
}

/// The SIZ and COD markers of a JPEG 2000 codestream (ISO 15444-1 annex A.5.1 and A.6.1), which some writers wrap into
/// JP2 boxes.
fn jpeg2000(data: &[u8]) -> Option<Codestream> {
    let end = ended(data)?;
    let start = data.windows(4).take(4096).position(|w| w == [0xFF, 0x4F, 0xFF, 0x51])?;
    let siz = data.get(start..end)?;
    let long = |at: usize| Some(u32::from_be_bytes(*siz.get(at..)?.first_chunk()?));
    let short = |at: usize| Some(u16::from_be_bytes(*siz.get(at..)?.first_chunk()?));
    let components = short(40)?;
    let first = siz.get(42..45)?;
    let described = siz.get(42..42 + usize::from(components) * 3).unwrap_or_default();
    let alike = matches!(first, [_, 1, 1]) && described.chunks_exact(3).all(|component| component == first);
    let depth = *first.first()?;
    let mut at = 4 + usize::from(short(4)?);
    while !matches!(siz.get(at..at + 2)?, [0xFF, 0x52 | 0x90]) {
        at += 2 + usize::from(short(at + 2)?);
    }
    let count =
        |size: u32, first: u32, tile: u32| (tile > 0).then(|| u64::from(size.saturating_sub(first).div_ceil(tile)));
    Some(Codestream {
        width: long(8)?.checked_sub(long(16)?)?,
        height: long(12)?.checked_sub(long(20)?)?,
        components,
        alike,
        precision: u16::from(depth & 0x7F) + 1,
        range: start..end,
        tiles: count(long(8)?, long(32)?, long(24)?)? * count(long(12)?, long(36)?, long(28)?)?,
        lossless: false,
        becomes_rgb: siz.get(at + 1) == Some(&0x52) && siz.get(at + 8) == Some(&1),
        names: Vec::new(),
    })
}

/// Where a codestream ends, if it does: both formats close with the same marker, and writers pad with zeros or one
/// byte of ones. The decoders make up what a cut codestream lacks, so it must not reach them.
pub(super) fn ended(data: &[u8]) -> Option<usize> {
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
        Some(self.pixels.samples)
    }
    fn bits_allocated(&self) -> Option<u16> {
        Some(self.pixels.allocated)
    }
    fn bits_stored(&self) -> Option<u16> {
        Some(self.pixels.stored)
    }
    fn photometric_interpretation(&self) -> Option<&str> {
        Some(self.pixels.photometric.term())
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_of_our_own_decoders_have_as_many_bits_as_are_allocated() {
        let pixels = |allocated| Pixels {
            coding: Coding::JpegLs,
            deflated: false,
            offset: 0,
            length: None,
            words: false,
            rows: 1,
            columns: 2,
            photometric: Photometric::Monochrome2,
            samples: 1,
            planar: false,
            allocated,
            stored: 8,
            high: 7,
            signed: false,
            float: false,
            slope: 1.0,
            intercept: 0.0,
            lut: None,
        };
        let written = |allocated: u16| {
            let mut out = Vec::new();
            let done = own(&pixels(allocated), &mut out, |put| {
                put(0, 1);
                put(1, 0x0203);
                // Behind the last is nothing.
                put(2, 9);
                Ok(())
            });
            done.expect("written");
            out
        };
        assert_eq!(written(8), [1, 3]);
        assert_eq!(written(16), [1, 0, 3, 2]);
        assert_eq!(written(32), [1, 0, 0, 0, 3, 2, 0, 0]);
    }
}
