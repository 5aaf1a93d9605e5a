//! How the voxels of one instance are stored, and how they become stored values.

use std::sync::Arc;

use dicom_core::VR;
use dicom_dictionary_std::tags;
use dicom_encoding::TransferSyntaxIndex;
use dicom_transfer_syntax_registry::TransferSyntaxRegistry;
use serde::{Deserialize, Serialize};

use super::ReadError;
use super::attributes::Attributes;
use super::colour::Palette;
use super::lut::Lut;
use super::scan::{Encoding, Next};

/// How pixel data are encoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Coding {
    /// As they are.
    Native { big_endian: bool },
    /// As they are, in a fragment.
    Fragment,
    /// The same, deflated (PS3.5 annex A.4.13).
    Deflated,
    /// PS3.5 annex G.
    Rle,
    /// PS3.5 annex A.4.1: baseline, extended and lossless.
    Jpeg,
    /// PS3.5 annex A.4.3.
    JpegLs,
    /// PS3.5 annex A.4.4, high-throughput included.
    Jpeg2000,
    /// JPEG XL: of what was a JPEG before, or of pixels.
    JpegXl { jpeg: bool },
}

/// What a transfer syntax means here.
#[derive(Debug, Clone, Copy)]
pub(super) struct Syntax {
    pub(super) encoding: Encoding,
    /// The whole data set is deflated.
    pub(super) deflated: bool,
    /// `None`: this version does not decode it.
    pub(super) coding: Option<Coding>,
}

/// What is known of a transfer syntax; `None` when not even the header can be read.
pub(super) fn syntax(uid: &str) -> Option<Syntax> {
    let explicit = |coding| Syntax { encoding: Encoding::ExplicitLittle, deflated: false, coding };
    let little = Some(Coding::Native { big_endian: false });
    let standard = uid.strip_prefix("1.2.840.10008.1.2")?;
    Some(match standard {
        "" => Syntax { encoding: Encoding::ImplicitLittle, ..explicit(little) },
        ".1" => explicit(little),
        ".1.99" => Syntax { deflated: true, ..explicit(little) },
        ".2" => Syntax { encoding: Encoding::ExplicitBig, ..explicit(Some(Coding::Native { big_endian: true })) },
        ".1.98" => explicit(Some(Coding::Fragment)),
        ".8.1" => explicit(Some(Coding::Deflated)),
        ".5" => explicit(Some(Coding::Rle)),
        ".4.50" | ".4.51" | ".4.57" | ".4.70" => explicit(Some(Coding::Jpeg)),
        ".4.80" | ".4.81" => explicit(Some(Coding::JpegLs)),
        ".4.90" | ".4.91" | ".4.201" | ".4.202" | ".4.203" => explicit(Some(Coding::Jpeg2000)),
        ".4.110" | ".4.112" => explicit(Some(Coding::JpegXl { jpeg: false })),
        ".4.111" => explicit(Some(Coding::JpegXl { jpeg: true })),
        _ => TransferSyntaxRegistry.get(uid).filter(|ts| ts.is_encapsulated_pixel_data()).map(|_| explicit(None))?,
    })
}

/// Whether the header of a file in this transfer syntax can be read, so that it can be kept and filed.
#[must_use]
pub fn readable_syntax(uid: &str) -> bool {
    syntax(uid).is_some()
}

/// Whether pixels in a transfer syntax are decoded.
#[must_use]
pub fn decodes(uid: &str) -> bool {
    syntax(uid).is_some_and(|syntax| syntax.coding.is_some())
}

/// The error for pixel data, or a file, in a transfer syntax that is not read.
pub(super) fn not_decoded(path: &std::path::Path, uid: &str) -> ReadError {
    let name = TransferSyntaxRegistry.get(uid).map_or("unknown", |ts| ts.name());
    ReadError::TransferSyntax { path: path.to_owned(), uid: uid.to_owned(), name: name.to_owned() }
}

/// What samples of a pixel mean (PS3.3 C.7.6.3.1.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Photometric {
    Monochrome1,
    Monochrome2,
    PaletteColor,
    Rgb,
    YbrFull,
    /// Two pixels share their chrominance.
    YbrFull422,
    /// As JPEG 2000 takes RGB apart: reversibly, or not.
    YbrRct,
    YbrIct,
    /// As JPEG XL takes RGB apart.
    Xyb,
}

impl Photometric {
    const ALL: [Self; 9] = [
        Self::Monochrome1,
        Self::Monochrome2,
        Self::PaletteColor,
        Self::Rgb,
        Self::YbrFull,
        Self::YbrFull422,
        Self::YbrRct,
        Self::YbrIct,
        Self::Xyb,
    ];

    /// The value of Photometric Interpretation (0028,0004).
    pub(super) fn term(self) -> &'static str {
        match self {
            Self::Monochrome1 => "MONOCHROME1",
            Self::Monochrome2 => "MONOCHROME2",
            Self::PaletteColor => "PALETTE COLOR",
            Self::Rgb => "RGB",
            Self::YbrFull => "YBR_FULL",
            Self::YbrFull422 => "YBR_FULL_422",
            Self::YbrRct => "YBR_RCT",
            Self::YbrIct => "YBR_ICT",
            Self::Xyb => "XYB",
        }
    }

    /// How many samples a pixel then has.
    fn samples(self) -> u16 {
        match self {
            Self::Monochrome1 | Self::Monochrome2 | Self::PaletteColor => 1,
            Self::Rgb | Self::YbrFull | Self::YbrFull422 | Self::YbrRct | Self::YbrIct | Self::Xyb => 3,
        }
    }
}

/// What decoding needs to know of an instance: from its header.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Pixels {
    pub(super) coding: Coding,
    pub(super) deflated: bool,
    /// Offset of the value of Pixel Data: in the file, or in what it inflates to.
    pub(super) offset: usize,
    /// Bytes of the value; `None`: encapsulated.
    pub(super) length: Option<u32>,
    /// Words of 16 bits (OW), which matters to 8-bit pixels in big endian.
    pub(super) words: bool,
    pub(super) rows: u16,
    pub(super) columns: u16,
    pub(super) photometric: Photometric,
    /// 1, or 3 of a colour.
    pub(super) samples: u16,
    /// Plane after plane, rather than pixel after pixel.
    pub(super) planar: bool,
    /// 1, 8, 16 or 32; of floating-point numbers 32 or 64.
    pub(super) allocated: u16,
    pub(super) stored: u16,
    pub(super) high: u16,
    pub(super) signed: bool,
    /// Floating-point numbers (Float Pixel Data, Double Float Pixel Data).
    pub(super) float: bool,
    pub(super) slope: f64,
    pub(super) intercept: f64,
    /// A table in the place of slope and intercept; no decoder needs it.
    #[serde(skip)]
    pub(super) lut: Option<Arc<Lut>>,
}

impl Pixels {
    /// Reads the image pixel and modality LUT modules (PS3.3 C.7.6.3 and C.11.1) of what can be a slice of a volume.
    pub(super) fn read(a: &Attributes<'_>, next: &Next, uid: &str, syntax: Syntax) -> Result<Self, ReadError> {
        let unavailable = |what: &str| Err(ReadError::unavailable(a.path, what));
        if a.present(tags::SHARED_FUNCTIONAL_GROUPS_SEQUENCE) || a.small(tags::NUMBER_OF_FRAMES)?.is_some_and(|n| n > 1)
        {
            return unavailable("an image of several frames (enhanced or multi-frame object)");
        }
        let pixels = Self::layout(a, next, uid, syntax)?;
        let lut = match pixels.photometric {
            Photometric::PaletteColor => Some(Palette::read(a)?.luminance()),
            Photometric::Monochrome1 | Photometric::Monochrome2 if a.present(tags::MODALITY_LUT_SEQUENCE) => {
                Some(Lut::modality(a, pixels.signed)?)
            }
            Photometric::Monochrome1 | Photometric::Monochrome2 => {
                let (slope, intercept) = rescale(a)?;
                return Ok(Self { slope, intercept, ..pixels });
            }
            // Colours are what they are.
            _ => None,
        };
        if lut.is_some() && !pixels.is_narrow() {
            return unavailable("a table of values for pixels of more than 16 bits");
        }
        Ok(Self { lut: lut.map(Arc::new), ..pixels })
    }

    /// Reads the image pixel module alone, of one frame: stored values are its values.
    pub(super) fn layout(a: &Attributes<'_>, next: &Next, uid: &str, syntax: Syntax) -> Result<Self, ReadError> {
        let unavailable = |what: &str| Err(ReadError::unavailable(a.path, what));
        let float = next.tag != tags::PIXEL_DATA;
        let (term, samples) =
            (a.text(tags::PHOTOMETRIC_INTERPRETATION), a.small(tags::SAMPLES_PER_PIXEL)?.unwrap_or(1));
        let known = Photometric::ALL.into_iter().find(|known| known.term() == term && known.samples() == samples);
        let Some(photometric) = known else {
            return unavailable("this Photometric Interpretation (0028,0004) with this many samples a pixel");
        };
        let allocated = match next.tag {
            tags::FLOAT_PIXEL_DATA => 32,
            tags::DOUBLE_FLOAT_PIXEL_DATA => 64,
            _ => a.needed_small(tags::BITS_ALLOCATED)?,
        };
        if float && samples != 1 {
            return unavailable("floating-point numbers of several samples a pixel");
        }
        if !matches!((allocated, samples), (8 | 16 | 32, _) | (1, 1)) && !float {
            return unavailable("Bits Allocated (0028,0100) other than 1 (of one sample), 8, 16 and 32");
        }
        let coding = syntax.coding.ok_or_else(|| not_decoded(a.path, uid))?;
        let pixels = Self {
            coding,
            deflated: syntax.deflated,
            offset: next.value,
            length: next.length,
            words: next.vr == VR::OW,
            rows: a.needed_small(tags::ROWS)?,
            columns: a.needed_small(tags::COLUMNS)?,
            photometric,
            samples,
            planar: samples > 1 && a.small(tags::PLANAR_CONFIGURATION)?.unwrap_or(0) != 0,
            allocated,
            stored: if float { allocated } else { a.small(tags::BITS_STORED)?.unwrap_or(allocated) },
            high: match a.small(tags::HIGH_BIT)?.filter(|_| !float) {
                Some(high) => high,
                None if float => allocated - 1,
                None => a.small(tags::BITS_STORED)?.unwrap_or(allocated).saturating_sub(1),
            },
            float,
            signed: match a.small(tags::PIXEL_REPRESENTATION)? {
                Some(1) => true,
                Some(0) | None => false,
                Some(_) => return Err(a.fault(tags::PIXEL_REPRESENTATION, "is neither 0 nor 1")),
            },
            slope: 1.0,
            intercept: 0.0,
            lut: None,
        };
        pixels.check(a)?;
        Ok(pixels)
    }

    fn check(&self, a: &Attributes<'_>) -> Result<(), ReadError> {
        for (tag, n) in [(tags::ROWS, self.rows), (tags::COLUMNS, self.columns)] {
            if n == 0 {
                return Err(a.fault(tag, "is 0"));
            }
        }
        if !(1..=self.allocated).contains(&self.stored) {
            return Err(a.fault(tags::BITS_STORED, "is not between 1 and Bits Allocated"));
        }
        if !(self.stored - 1..self.allocated).contains(&self.high) {
            return Err(a.fault(tags::HIGH_BIT, "does not fit Bits Stored and Bits Allocated"));
        }
        if self.subsampled() && !self.columns.is_multiple_of(2) {
            return Err(a.fault(tags::COLUMNS, "is odd, and two pixels share their chrominance"));
        }
        let native = matches!(self.coding, Coding::Native { .. });
        if self.photometric == Photometric::Xyb && !matches!(self.coding, Coding::JpegXl { .. }) {
            return Err(a.fault(tags::PHOTOMETRIC_INTERPRETATION, "is XYB, which is of JPEG XL alone"));
        }
        if !self.stored_as_is() && (self.allocated == 1 || self.float) {
            return Err(ReadError::unavailable(
                a.path,
                "pixel data of single bits or floating-point numbers, compressed,",
            ));
        }
        match self.length {
            Some(length) if native => {
                let (length, expected) = (length as usize, self.bytes());
                if length < expected {
                    let reason = format!("{length} bytes of pixel data where the header says {expected}");
                    return Err(ReadError::damaged(a.path, reason));
                }
                // Writers pad to even and to blocks. A column or row more than the header says is no padding.
                let side = usize::from(self.rows.min(self.columns)) * usize::from(self.samples * self.allocated) / 8;
                if length > expected + 1 && length >= expected + side {
                    let reason = format!("{length} bytes of pixel data are more than the {expected} of its header");
                    return Err(ReadError::damaged(a.path, reason));
                }
                Ok(())
            }
            None if !native => Ok(()),
            _ => Err(ReadError::damaged(a.path, "pixel data are not encoded as its transfer syntax says")),
        }
    }

    /// Whether they are not compressed.
    pub(super) fn stored_as_is(&self) -> bool {
        matches!(self.coding, Coding::Native { .. } | Coding::Fragment | Coding::Deflated)
    }

    /// Whether two pixels share samples.
    fn subsampled(&self) -> bool {
        self.stored_as_is() && self.photometric == Photometric::YbrFull422
    }

    /// Number of voxels.
    pub(super) fn voxels(&self) -> usize {
        usize::from(self.rows) * usize::from(self.columns)
    }

    /// Bytes of the decoded pixel data.
    pub(super) fn bytes(&self) -> usize {
        let samples = if self.subsampled() { 2 } else { usize::from(self.samples) };
        (self.voxels() * samples * usize::from(self.allocated)).div_ceil(8)
    }

    /// Bytes of a sample; of single bits as if they were bytes.
    pub(super) fn sample_bytes(&self) -> usize {
        usize::from(self.allocated.div_ceil(8))
    }

    /// Whether stored values have 16 bits at most.
    pub(super) fn is_narrow(&self) -> bool {
        self.allocated <= 16
    }

    /// Whether values are slope and intercept away from stored values of at most 16 bits.
    pub(super) fn is_linear(&self) -> bool {
        self.samples == 1 && self.is_narrow() && self.lut.is_none()
    }

    /// What stored values, less their bias, measure.
    pub(super) fn measure(&self, stored: &[i16], out: &mut [f32]) {
        let bias = self.bias();
        if let Some(lut) = &self.lut {
            for (out, stored) in out.iter_mut().zip(stored) {
                *out = lut.value(i32::from(*stored) + bias);
            }
            return;
        }
        let (slope, intercept) = (self.slope as f32, self.intercept as f32);
        for (out, stored) in out.iter_mut().zip(stored) {
            *out = slope * (i32::from(*stored) + bias) as f32 + intercept;
        }
    }

    /// What one sample a pixel of more than 16 bits measures, of `bytes` in little endian. `f32` holds 24 bits of it.
    pub(super) fn measure_wide(&self, bytes: &[u8], out: &mut [f32]) {
        let rescaled = |value: f64| (self.slope * value + self.intercept) as f32;
        let word = |bytes: &[u8]| bytes.iter().rev().fold(0u64, |word, byte| word << 8 | u64::from(*byte));
        let value = |bytes: &[u8]| match (self.float, self.allocated) {
            (true, 32) => f64::from(f32::from_bits(word(bytes) as u32)),
            (true, _) => f64::from_bits(word(bytes)),
            (false, _) => self.integer(word(bytes)),
        };
        for (out, bytes) in out.iter_mut().zip(bytes.chunks_exact(self.sample_bytes())) {
            *out = rescaled(value(bytes));
        }
    }

    /// The stored bits of a word, with their sign.
    fn integer(&self, word: u64) -> f64 {
        let top = word << (63 - self.high);
        let down = 64 - u32::from(self.stored);
        if self.signed { ((top as i64) >> down) as f64 } else { (top >> down) as f64 }
    }

    /// Native pixel data in big endian become little endian.
    pub(super) fn turn_round(&self, bytes: &mut [u8]) {
        // PS3.5 annex A.3: OW swaps the bytes of a word in big endian, also those of smaller pixels.
        let unit = if self.allocated <= 8 { 1 + usize::from(self.words) } else { self.sample_bytes() };
        bytes.chunks_exact_mut(unit).for_each(<[u8]>::reverse);
    }

    /// Bytes of native pixel data that unpacking looks at: whole words where bytes are swapped within them.
    pub(super) fn native_bytes(&self) -> usize {
        match self.coding {
            Coding::Native { big_endian: true } if self.words && self.allocated <= 8 => {
                self.bytes().next_multiple_of(2)
            }
            _ => self.bytes(),
        }
    }

    /// What is taken from stored values so that they fit an `i16`.
    pub(super) fn bias(&self) -> i32 {
        if !self.signed && self.stored == 16 { 32768 } else { 0 }
    }

    /// Stored values less [`bias`](Self::bias) of `bytes`, [`native_bytes`](Self::native_bytes) of them, into
    /// `out`.
    /// `Err` when bits that Bits Stored leaves out hold something and `exact` forbids it.
    pub(super) fn unpack(&self, bytes: &[u8], big_endian: bool, exact: bool, out: &mut [i16]) -> Result<(), ()> {
        if self.allocated == 1 {
            let swap = usize::from(big_endian && self.words);
            for (i, out) in out.iter_mut().enumerate() {
                *out = i16::from((bytes[(i / 8) ^ swap] >> (i % 8)) & 1);
            }
            return Ok(());
        }
        if self.allocated == 8 {
            // PS3.5 annex A.3: OW swaps the bytes of a word in big endian, also those of 8-bit pixels.
            let swap = usize::from(big_endian && self.words);
            let raw = (0..out.len()).map(|i| u16::from(bytes[i ^ swap]));
            return self.spread(raw, exact, out);
        }
        let whole = self.stored == 16;
        if whole && cfg!(target_endian = "little") && !big_endian {
            bytemuck::cast_slice_mut::<i16, u8>(out).copy_from_slice(bytes);
            if !self.signed {
                // v - 32768 in 16 bits is v with its highest bit turned.
                out.iter_mut().for_each(|v| *v ^= i16::MIN);
            }
            return Ok(());
        }
        let words = bytes.chunks_exact(2).map(|w| [w[0], w[1]]);
        if big_endian {
            self.spread(words.map(u16::from_be_bytes), exact, out)
        } else {
            self.spread(words.map(u16::from_le_bytes), exact, out)
        }
    }

    /// What [`unpack`](Self::unpack) gave, as native pixel data in little endian.
    pub(super) fn pack(&self, values: &[i16]) -> Vec<u8> {
        let up = self.high + 1 - self.stored;
        let raw = values.iter().map(|v| ((i32::from(*v) + self.bias()) as u16) << up);
        match self.allocated {
            1 | 8 => raw.map(|v| v as u8).collect(),
            _ => raw.flat_map(u16::to_le_bytes).collect(),
        }
    }

    /// Takes the stored bits out of each raw pixel: up to the top, then down with or without the sign.
    fn spread(&self, raw: impl Iterator<Item = u16>, exact: bool, out: &mut [i16]) -> Result<(), ()> {
        let (up, down) = (15 - self.high, 16 - self.stored);
        let bias = self.bias() as u16;
        let mut lost = false;
        for (out, raw) in out.iter_mut().zip(raw) {
            let top = raw << up;
            let value = if self.signed { ((top as i16) >> down) as u16 } else { top >> down };
            // Two's complement without its sign above the stored bits is no loss.
            lost |= value != raw && u32::from(raw) >> self.stored > 0;
            *out = value.wrapping_sub(bias) as i16;
        }
        if exact && lost && self.high + 1 == self.stored { Err(()) } else { Ok(()) }
    }
}

/// Slopes and intercepts with which every stored value of 16 bits becomes a finite `f32`, and none is lost; what
/// images are measured in lies far within.
const SLOPE_MIN: f64 = 1e-30;
const SLOPE_MAX: f64 = 1e6;
const INTERCEPT_MAX: f64 = 1e12;

/// Rescale Slope and Rescale Intercept.
fn rescale(a: &Attributes<'_>) -> Result<(f64, f64), ReadError> {
    // A dose has a scaling of its own (PS3.3 C.8.8.3): Gy, or relative.
    if let (Some([scaling]), "RTDOSE") = (a.numbers::<1>(tags::DOSE_GRID_SCALING)?, a.text(tags::MODALITY).as_str()) {
        return match (SLOPE_MIN..=SLOPE_MAX).contains(&scaling.abs()) {
            true => Ok((scaling, 0.0)),
            false => Err(a.fault(tags::DOSE_GRID_SCALING, "is 0, or not near any dose")),
        };
    }
    let slope = a.numbers::<1>(tags::RESCALE_SLOPE)?;
    let intercept = a.numbers::<1>(tags::RESCALE_INTERCEPT)?;
    match (slope, intercept) {
        (Some([slope]), _) if !(SLOPE_MIN..=SLOPE_MAX).contains(&slope.abs()) => {
            let problem = format!("is 0, or its size is not between {SLOPE_MIN:e} and {SLOPE_MAX:e}");
            Err(a.fault(tags::RESCALE_SLOPE, problem))
        }
        (_, Some([intercept])) if intercept.abs() > INTERCEPT_MAX => {
            Err(a.fault(tags::RESCALE_INTERCEPT, format!("is farther from 0 than {INTERCEPT_MAX:e}")))
        }
        (Some([slope]), Some([intercept])) => Ok((slope, intercept)),
        // A CT without a modality LUT cannot be brought to Hounsfield units; elsewhere stored values are the values.
        (None, None) if a.text(tags::MODALITY) != "CT" => Ok((1.0, 0.0)),
        (None, _) => Err(a.missing(tags::RESCALE_SLOPE)),
        (Some(_), None) => Err(a.missing(tags::RESCALE_INTERCEPT)),
    }
}
