//! One instance given out again: its attributes, its bulk data and its frames.

use std::fs::File;
use std::io::{BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use dicom_core::header::Header as _;
use dicom_core::{Tag, VR};
use dicom_dictionary_std::tags;
use dicom_object::InMemDicomObject;
use flate2::read::DeflateDecoder;

use super::attributes::Attributes;
use super::header::{self, Opened};
use super::lut::Lut;
use super::pixels::{Coding, Photometric, Pixels, Syntax};
use super::scan::Next;
use super::voi::{self, Voi};
use super::{ReadError, ReadOptions, codec, colour, scan};
use crate::worker::Decoders;

/// An item of encapsulated pixel data, and the delimiter after the last.
const ITEM: [u8; 4] = [0xFE, 0xFF, 0x00, 0xE0];
const DELIMITER: [u8; 8] = [0xFE, 0xFF, 0xDD, 0xE0, 0, 0, 0, 0];

/// One instance without its pixels. Holds a patient's identity: no `Debug`.
pub struct Kept {
    /// The data set up to the group of pixel data.
    pub dataset: InMemDicomObject,
    /// Value Representation of Pixel Data (7FE0,0010), when it has some.
    pub pixel_vr: Option<VR>,
    /// Transfer Syntax UID (0002,0010).
    pub transfer_syntax_uid: String,
    pub(super) path: PathBuf,
    pub(super) opened: Box<Opened>,
    /// Place and length of every item of encapsulated pixel data, once they were asked for.
    items: OnceLock<Vec<(u64, u64)>>,
    decoders: Option<Arc<Decoders>>,
}

/// One frame as stored. Holds a patient's image: no `Debug`.
pub struct Frame<'a> {
    kept: &'a Kept,
    options: &'a ReadOptions,
    /// From 1.
    number: u32,
    /// The pixels in little endian, or the compressed image.
    pub bytes: Vec<u8>,
    /// Whether they are compressed, or otherwise in fragments.
    pub encapsulated: bool,
}

/// Pixels that can be shown.
pub enum Shown {
    /// Values through the modality LUT; low ones are white when `inverted` (MONOCHROME1).
    Grey {
        /// Row after row.
        values: Vec<f32>,
        /// MONOCHROME1, or a Presentation LUT Shape of INVERSE.
        inverted: bool,
    },
    /// Red, green and blue, a byte each.
    Colour(Vec<u8>),
}

/// Reads an instance without its pixels. Frames of it that are compressed are decoded as `options` say.
///
/// # Errors
/// It cannot be read, or not within the limits.
pub fn keep(path: &Path, options: &ReadOptions) -> Result<Kept, ReadError> {
    let opened = header::open_dicom(path, options)?;
    let dataset = opened.parse(path)?;
    let next = opened.header.next.as_ref();
    let pixel_vr = next.filter(|next| next.tag == tags::PIXEL_DATA).map(|next| next.vr);
    let transfer_syntax_uid = opened.meta.transfer_syntax.clone();
    let (path, decoders) = (path.to_owned(), options.decoders.clone());
    Ok(Kept { dataset, pixel_vr, transfer_syntax_uid, path, opened, items: OnceLock::new(), decoders })
}

impl Kept {
    pub(super) fn attributes(&self) -> Attributes<'_> {
        Attributes { path: &self.path, object: &self.dataset }
    }

    /// Rows and columns.
    ///
    /// # Errors
    /// They are missing.
    pub fn size(&self) -> Result<(u16, u16), ReadError> {
        let a = self.attributes();
        Ok((a.needed_small(tags::ROWS)?, a.needed_small(tags::COLUMNS)?))
    }

    /// Number of Frames (0028,0008); 0 without pixel data.
    ///
    /// # Errors
    /// It is no number.
    pub fn frames(&self) -> Result<u32, ReadError> {
        if !self.opened.header.next.as_ref().is_some_and(|next| scan::is_pixels(next.tag)) {
            return Ok(0);
        }
        let stated = self.attributes().numbers::<1>(tags::NUMBER_OF_FRAMES)?;
        Ok(stated.map_or(1, |[n]| n.clamp(1.0, f64::from(u32::MAX)) as u32))
    }

    /// The first window that is stated, with its function (PS3.3 section C.11.2.1), in values after the modality LUT.
    #[must_use]
    pub fn window(&self) -> Option<voi::Window> {
        match Voi::read(&self.attributes()) {
            Voi::Window(window) => Some(window),
            Voi::Table | Voi::Nothing => None,
        }
    }

    /// What its VOI LUT Sequence (PS3.3 section C.11.2.1.1) shows of values after the modality LUT, by its first table: 0
    /// (black) to 1. `None` where it has no table that can be read.
    #[must_use]
    pub fn by_table(&self, values: &[f32]) -> Option<Vec<f32>> {
        let lut = Lut::voi(&self.attributes(), values.iter().any(|value| *value < 0.0)).ok()?;
        Some(values.iter().map(|value| lut.value(value.round() as i32)).collect())
    }

    /// Where the value of native pixel data lies in the file, and its length; `None` when it is not there as it is.
    #[must_use]
    pub fn native_value(&self) -> Option<(u64, u64)> {
        let next =
            self.opened.header.next.as_ref().filter(|_| self.pixel_vr.is_some() && !self.opened.syntax.deflated)?;
        Some((next.value as u64, next.length?.into()))
    }

    /// Reads a frame, counted from 1; `None` when there is none of this number.
    ///
    /// # Errors
    /// It cannot be found, or passes `volume_max_mib`.
    pub fn frame<'a>(&'a self, number: u32, options: &'a ReadOptions) -> Result<Option<Frame<'a>>, ReadError> {
        let frames = self.frames()?;
        let Some(next) = self.opened.header.next.as_ref().filter(|_| (1..=frames).contains(&number)) else {
            return Ok(None);
        };
        let encapsulated = next.length.is_none();
        let bytes = match encapsulated {
            true => self.encapsulated(next, number, frames, options)?,
            false => self.native(next, number, frames, options)?,
        };
        Ok(Some(Frame { kept: self, options, number, bytes, encapsulated }))
    }

    /// Whether its frames can be shown, as far as its header says.
    ///
    /// # Errors
    /// They cannot, by this version.
    pub fn can_be_shown(&self) -> Result<(), ReadError> {
        let native = self.opened.header.next.as_ref().is_some_and(|next| next.length.is_some());
        let length = if native { u32::try_from(self.native_bytes()?).ok() } else { None };
        let pixels = self.pixels(length)?;
        match pixels.photometric {
            Photometric::Monochrome1 | Photometric::Monochrome2 => self.slice(length, 1).map(|_| ()),
            Photometric::PaletteColor => self.palette(&pixels).map(|_| ()),
            _ => Ok(()),
        }
    }

    fn palette(&self, pixels: &Pixels) -> Result<colour::Palette, ReadError> {
        if !pixels.is_narrow() {
            return Err(ReadError::unavailable(&self.path, "a palette for pixels of more than 16 bits"));
        }
        colour::Palette::read(&self.attributes())
    }

    /// How the pixels of a frame are stored, if its value has this length; `None`: it is encapsulated.
    pub(super) fn pixels(&self, length: Option<u32>) -> Result<Pixels, ReadError> {
        Pixels::layout(&self.attributes(), &self.next(length), &self.transfer_syntax_uid, self.frame_syntax())
    }

    /// The same, with what makes values of its pixels: as if the frame were alone in its file.
    fn slice(&self, length: Option<u32>, number: u32) -> Result<Pixels, ReadError> {
        let groups = [tags::SHARED_FUNCTIONAL_GROUPS_SEQUENCE, tags::PER_FRAME_FUNCTIONAL_GROUPS_SEQUENCE];
        let left_out = |tag: Tag| groups.contains(&tag) || tag == tags::NUMBER_OF_FRAMES;
        let elements = self.dataset.iter().filter(|element| !left_out(element.tag()));
        let mut alone = InMemDicomObject::from_element_iter(elements.cloned());
        // What holds for all frames, and then what holds for this one (PS3.3 C.7.6.16.2.9).
        for (group, item) in groups.into_iter().zip([0, number as usize - 1]) {
            let first = |object: &InMemDicomObject, tag, item| object.get(tag)?.items()?.get(item).cloned();
            let values = first(&self.dataset, group, item)
                .and_then(|group| first(&group, tags::PIXEL_VALUE_TRANSFORMATION_SEQUENCE, 0));
            values.into_iter().flatten().for_each(|element| _ = alone.put(element));
        }
        let a = Attributes { path: &self.path, object: &alone };
        Pixels::read(&a, &self.next(length), &self.transfer_syntax_uid, self.frame_syntax())
    }

    /// Of frames, which are read into little endian.
    fn frame_syntax(&self) -> Syntax {
        let Syntax { coding, .. } = self.opened.syntax;
        let native = matches!(coding, Some(Coding::Native { .. }));
        Syntax {
            coding: if native { Some(Coding::Native { big_endian: false }) } else { coding },
            ..self.opened.syntax
        }
    }

    fn next(&self, length: Option<u32>) -> Next {
        let next = self.opened.header.next.as_ref().filter(|next| scan::is_pixels(next.tag));
        let (tag, vr) = next.map_or((tags::PIXEL_DATA, VR::OW), |next| (next.tag, next.vr));
        Next { tag, vr, value: 0, length }
    }

    /// How many bytes are turned round to become little endian.
    pub(super) fn swapped(&self) -> Result<usize, ReadError> {
        if !matches!(self.opened.syntax.coding, Some(Coding::Native { big_endian: true })) {
            return Ok(1);
        }
        let words = self.opened.header.next.as_ref().is_some_and(|next| next.vr == VR::OW);
        match self.attributes().needed_small(tags::BITS_ALLOCATED)? {
            bits @ (16 | 32 | 64) => Ok(usize::from(bits / 8)),
            // PS3.5 annex A.3: OW swaps the bytes of a word in big endian, also those of smaller pixels.
            1..=8 => Ok(if words { 2 } else { 1 }),
            _ => Err(ReadError::unavailable(&self.path, "this Bits Allocated (0028,0100) in big endian")),
        }
    }

    /// Bytes of one frame of native pixel data.
    fn native_bytes(&self) -> Result<u64, ReadError> {
        self.native_bits().map(|bits| bits.div_ceil(8))
    }

    /// Bits of one frame of native pixel data. Those of single bits follow one another without a gap.
    fn native_bits(&self) -> Result<u64, ReadError> {
        let a = self.attributes();
        let (rows, columns) = self.size()?;
        let samples = a.small(tags::SAMPLES_PER_PIXEL)?.unwrap_or(1);
        let allocated = a.needed_small(tags::BITS_ALLOCATED)?;
        let shared = samples == 3 && a.text(tags::PHOTOMETRIC_INTERPRETATION).ends_with("_422");
        if !allocated.is_multiple_of(8) && allocated != 1 || shared && !columns.is_multiple_of(2) {
            return Err(ReadError::unavailable(&self.path, "a frame of pixels that are neither bytes nor bits"));
        }
        let samples = if shared { 2 } else { samples };
        Ok(u64::from(rows) * u64::from(columns) * u64::from(samples) * u64::from(allocated))
    }

    fn native(&self, next: &Next, number: u32, frames: u32, options: &ReadOptions) -> Result<Vec<u8>, ReadError> {
        let io = |e| ReadError::io(&self.path, e);
        let bits = self.native_bits()?;
        let frame = bits.div_ceil(8);
        self.check(frame, options)?;
        let length = u64::from(next.length.unwrap_or(0));
        let first_bit = bits.saturating_mul(u64::from(number - 1));
        if bits.saturating_mul(frames.into()).div_ceil(8) > length {
            let reason = format!("{length} bytes of pixel data for {frames} frames of {frame}");
            return Err(ReadError::damaged(&self.path, reason));
        }
        // Whole words, which are turned round; a frame may begin and end within one.
        let unit = self.swapped()? as u64;
        let (start, stop) = (first_bit / 8, (first_bit + bits).div_ceil(8));
        let (first, end) = (start / unit * unit, stop.next_multiple_of(unit).min(length));
        let at = next.value as u64 + first;
        let mut bytes = Vec::new();
        if self.opened.syntax.deflated {
            bytes = self.inflated(at, end - first)?;
        } else {
            let mut file = File::open(&self.path).map_err(io)?;
            file.seek(SeekFrom::Start(at)).map_err(io)?;
            file.take(end - first).read_to_end(&mut bytes).map_err(io)?;
        }
        if bytes.len() as u64 != end - first {
            return Err(ReadError::damaged(&self.path, "the file ends within its pixel data"));
        }
        bytes.chunks_exact_mut(unit as usize).for_each(<[u8]>::reverse);
        bytes.drain(..(start - first) as usize);
        down(&mut bytes, (first_bit % 8) as u32, bits);
        bytes.truncate(frame as usize);
        Ok(bytes)
    }

    /// At most `most` bytes from `at` of a deflated data set.
    pub(super) fn inflated(&self, at: u64, most: u64) -> Result<Vec<u8>, ReadError> {
        let mut bytes = Vec::new();
        self.inflating(at)?.take(most).read_to_end(&mut bytes).map_err(|_| self.not_inflated())?;
        Ok(bytes)
    }

    /// A deflated data set from `at` on.
    pub(super) fn inflating(&self, at: u64) -> Result<DeflateDecoder<File>, ReadError> {
        let io = |e| ReadError::io(&self.path, e);
        let mut file = File::open(&self.path).map_err(io)?;
        file.seek(SeekFrom::Start(self.opened.source.deflated)).map_err(io)?;
        let mut inflating = header::inflate(file);
        let skipped = std::io::copy(&mut inflating.by_ref().take(at), &mut std::io::sink());
        skipped.map(|_| inflating).map_err(|_| self.not_inflated())
    }

    pub(super) fn not_inflated(&self) -> ReadError {
        ReadError::damaged(&self.path, "its deflated data set cannot be inflated")
    }

    /// Joins the fragments of a frame (PS3.5 annex A.4).
    fn encapsulated(&self, next: &Next, number: u32, frames: u32, options: &ReadOptions) -> Result<Vec<u8>, ReadError> {
        let io = |e| ReadError::io(&self.path, e);
        let mut file = BufReader::new(File::open(&self.path).map_err(io)?);
        let items = self.items(next, options)?;
        let Some(((table_at, table_bytes), fragments)) = items.split_first().filter(|(_, rest)| !rest.is_empty())
        else {
            return Err(ReadError::damaged(&self.path, "its pixel data have no fragment"));
        };
        let index = number as usize - 1;
        let chosen: Vec<(u64, u64)> = match fragments.len() {
            _ if frames == 1 => fragments.to_vec(),
            many if many == frames as usize => fragments.get(index).copied().into_iter().collect(),
            _ if *table_bytes == u64::from(frames) * 4 => {
                let mut offset = |index: usize| -> Result<u64, ReadError> {
                    let mut word = [0; 4];
                    file.seek(SeekFrom::Start(table_at + index as u64 * 4)).map_err(io)?;
                    file.read_exact(&mut word).map_err(io)?;
                    Ok(u32::from_le_bytes(word).into())
                };
                let start = offset(index)?;
                let end = if number == frames { u64::MAX } else { offset(index + 1)? };
                // Offsets count from the first byte of the first fragment's item.
                let first = table_at + table_bytes;
                let within = |(at, _): &&(u64, u64)| (start..end).contains(&(at - 8 - first));
                fragments.iter().filter(within).copied().collect()
            }
            _ => {
                let what = "a frame of several fragments without a Basic Offset Table";
                return Err(ReadError::unavailable(&self.path, what));
            }
        };
        let total = chosen.iter().fold(0u64, |sum, (_, length)| sum.saturating_add(*length));
        self.check(total, options)?;
        let mut bytes = Vec::new();
        for (at, length) in chosen {
            file.seek(SeekFrom::Start(at)).map_err(io)?;
            if file.by_ref().take(length).read_to_end(&mut bytes).map_err(io)? as u64 != length {
                return Err(ReadError::damaged(&self.path, "the file ends within its pixel data"));
            }
        }
        Ok(bytes)
    }

    /// Place and length of every item's value.
    pub(super) fn items(&self, next: &Next, options: &ReadOptions) -> Result<&[(u64, u64)], ReadError> {
        if self.items.get().is_none() {
            let items = self.walk_items(next.value as u64, options)?;
            let _ = self.items.set(items);
        }
        Ok(self.items.get().map_or(&[], Vec::as_slice))
    }

    fn walk_items(&self, start: u64, options: &ReadOptions) -> Result<Vec<(u64, u64)>, ReadError> {
        let io = |e| ReadError::io(&self.path, e);
        let mut file = File::open(&self.path).map_err(io)?;
        let (mut at, mut items) = (start, Vec::new());
        file.seek(SeekFrom::Start(at)).map_err(io)?;
        while items.len() <= options.elements_max {
            let mut head = [0; 8];
            file.read_exact(&mut head).map_err(io)?;
            let [t0, t1, t2, t3, length @ ..] = head;
            if [t0, t1, t2, t3] != ITEM {
                return Ok(items);
            }
            let length = u64::from(u32::from_le_bytes(length));
            items.push((at + 8, length));
            at += 8 + length;
            file.seek(SeekFrom::Start(at)).map_err(io)?;
        }
        let (limit, maximum) = ("elements_max", options.elements_max as u64);
        Err(ReadError::Limit { path: Some(self.path.clone()), what: "the number of fragments".into(), limit, maximum })
    }

    fn check(&self, bytes: u64, options: &ReadOptions) -> Result<(), ReadError> {
        self.check_held(format!("a frame of {bytes} bytes"), bytes, options)
    }

    /// What is held in memory to decode it must fit.
    pub(super) fn check_held(&self, what: String, bytes: u64, options: &ReadOptions) -> Result<(), ReadError> {
        if bytes <= options.volume_max_mib.saturating_mul(1 << 20) {
            return Ok(());
        }
        let (limit, maximum) = ("volume_max_mib", options.volume_max_mib);
        Err(ReadError::Limit { path: Some(self.path.clone()), what, limit, maximum })
    }
}

/// Moves `bits` bits by as many as `by`, 7 at most, to the start, and clears those behind them in the last byte.
fn down(bytes: &mut [u8], by: u32, bits: u64) {
    if by > 0 {
        for i in 0..bytes.len() {
            let next = bytes.get(i + 1).map_or(0, |next| u16::from(*next) << 8);
            bytes[i] = ((next | u16::from(bytes[i])) >> by) as u8;
        }
    }
    let whole = (bits / 8) as usize;
    if let Some(last) = bytes.get_mut(whole).filter(|_| !bits.is_multiple_of(8)) {
        *last &= (1u8 << (bits % 8)) - 1;
    }
}

impl Frame<'_> {
    /// The pixels uncompressed, in little endian; those of a colour pixel after pixel where they were compressed.
    ///
    /// # Errors
    /// They cannot be decoded by this version.
    pub fn native(&self) -> Result<Vec<u8>, ReadError> {
        if !self.encapsulated {
            return Ok(self.bytes.clone());
        }
        self.decoded().map(|(_, bytes)| bytes)
    }

    /// The same, with Photometric Interpretation (0028,0004) of what they are then.
    ///
    /// # Errors
    /// They cannot be decoded by this version.
    pub fn decoded(&self) -> Result<(&'static str, Vec<u8>), ReadError> {
        let pixels = self.pixels()?;
        let (photometric, bytes) = match pixels.samples {
            1 if self.encapsulated && pixels.is_narrow() => (pixels.photometric, pixels.pack(&self.stored(&pixels)?)),
            _ => self.colours(&pixels)?,
        };
        Ok((photometric.term(), bytes))
    }

    /// What is to be shown.
    ///
    /// # Errors
    /// It cannot be decoded by this version.
    pub fn shown(&self) -> Result<Shown, ReadError> {
        let pixels = self.pixels()?;
        match pixels.photometric {
            Photometric::Monochrome1 | Photometric::Monochrome2 => {
                let slice = self.kept.slice(self.length(), self.number)?;
                let mut values = vec![0.0; slice.voxels()];
                let Kept { transfer_syntax_uid, path, decoders, .. } = self.kept;
                let (value, decoders) = (self.value()?, decoders.as_deref());
                codec::values(
                    &slice,
                    transfer_syntax_uid,
                    &value,
                    decoders,
                    &mut codec::Scratch::default(),
                    &mut values,
                )
                .map_err(|stop| stop.of(path))?;
                // Presentation LUT Shape says the same of radiographs (PS3.3 section C.8.11.3).
                let shape = self.kept.attributes().text(tags::PRESENTATION_LUT_SHAPE);
                let inverted = pixels.photometric == Photometric::Monochrome1 || shape == "INVERSE";
                Ok(Shown::Grey { values, inverted })
            }
            Photometric::PaletteColor => {
                let palette = self.kept.palette(&pixels)?;
                let bias = pixels.bias();
                let entries = self.stored(&pixels)?.into_iter().map(|v| palette.colour(i32::from(v) + bias));
                Ok(Shown::Colour(entries.flatten().collect()))
            }
            _ => {
                let (photometric, bytes) = self.colours(&pixels)?;
                let planar = pixels.planar && pixels.stored_as_is();
                Ok(Shown::Colour(colour::rgb(&pixels, photometric, planar, &bytes)))
            }
        }
    }

    /// What samples mean once the frame is decoded.
    ///
    /// # Errors
    /// It cannot be decoded by this version, as far as its headers tell.
    pub(super) fn becomes(&self) -> Result<(Pixels, Photometric), ReadError> {
        let pixels = self.pixels()?;
        let photometric = codec::becomes(&pixels, &self.value()?);
        let photometric = photometric.map_err(|reason| ReadError::damaged(&self.kept.path, reason))?;
        Ok((pixels, photometric))
    }

    /// How it is stored; decoded, it fits.
    fn pixels(&self) -> Result<Pixels, ReadError> {
        let pixels = self.kept.pixels(self.length())?;
        self.kept.check(pixels.bytes() as u64, self.options)?;
        if self.encapsulated {
            let plausible = codec::plausible(&pixels, self.bytes.len());
            plausible.map_err(|reason| ReadError::damaged(&self.kept.path, reason))?;
        }
        Ok(pixels)
    }

    fn length(&self) -> Option<u32> {
        u32::try_from(self.bytes.len()).ok().filter(|_| !self.encapsulated)
    }

    /// The stored values of one sample a pixel, less their bias.
    fn stored(&self, pixels: &Pixels) -> Result<Vec<i16>, ReadError> {
        let mut values = vec![0; pixels.voxels()];
        let mut scratch = Vec::new();
        let Kept { transfer_syntax_uid, path, decoders, .. } = self.kept;
        codec::decode(pixels, transfer_syntax_uid, &self.value()?, decoders.as_deref(), &mut scratch, &mut values)
            .map_err(|stop| stop.of(path))?;
        Ok(values)
    }

    /// The samples of several a pixel in little endian, and what they mean.
    fn colours(&self, pixels: &Pixels) -> Result<(Photometric, Vec<u8>), ReadError> {
        if !self.encapsulated {
            return Ok((pixels.photometric, self.bytes.clone()));
        }
        let mut bytes = Vec::new();
        let Kept { transfer_syntax_uid, path, decoders, .. } = self.kept;
        codec::decode_colour(pixels, transfer_syntax_uid, &self.value()?, decoders.as_deref(), &mut bytes)
            .map(|photometric| (photometric, bytes))
            .map_err(|stop| stop.of(path))
    }

    /// The frame as the value of Pixel Data.
    fn value(&self) -> Result<Vec<u8>, ReadError> {
        if !self.encapsulated {
            return Ok(self.bytes.clone());
        }
        let length = u32::try_from(self.bytes.len())
            .map_err(|_| ReadError::unavailable(&self.kept.path, "a frame of more than 4 GiB"))?;
        Ok([&ITEM[..], &[0; 4], &ITEM, &length.to_le_bytes(), &self.bytes, &DELIMITER].concat())
    }
}
