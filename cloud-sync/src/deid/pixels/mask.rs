//! Pixels blacked out.

use dicom_core::VR;
use dicom_dictionary_std::tags;

use super::{DataSet, Deidentifier, Element, Encoding, Frame, Held, Rectangle, Value, ascii, find, number, put, text};

/// Decoded frames of an instance.
pub(super) struct Image {
    rows: u16,
    columns: u16,
    samples: u16,
    bits_allocated: u16,
    bits_stored: u16,
    signed: bool,
    photometric: String,
    vr: VR,
    /// Samples of a pixel lie in planes (Planar Configuration 1).
    planes: bool,
    big: bool,
    pixels: Vec<u8>,
    /// Frames as a detector wants them, made when they are asked for.
    interleaved: Vec<u8>,
    changed: bool,
}

/// Decodes compressed pixel data in place; whether there were any.
pub(super) fn decode(by: &Deidentifier, set: &mut DataSet<'_>, file: &[u8]) -> Result<bool, Held> {
    if !matches!(find(set, tags::PIXEL_DATA).map(|e| &e.value), Some(Value::Fragments(_))) {
        return Ok(false);
    }
    let decoder = by.decoder.as_ref().ok_or(Held::Mask("they are compressed, and nothing here decodes them"))?;
    let decoded = decoder.frames(file)?;
    set.retain(|e| e.tag.0 != 0x7FE0);
    let wide = number(set, tags::BITS_ALLOCATED, Encoding::EXPLICIT).is_some_and(|bits| bits > 8);
    put(set, Element::text(tags::PHOTOMETRIC_INTERPRETATION, VR::CS, &decoded.photometric));
    if find(set, tags::PLANAR_CONFIGURATION).is_some() {
        put(set, Element::new(tags::PLANAR_CONFIGURATION, VR::US, vec![0, 0]));
    }
    put(set, Element::new(tags::PIXEL_DATA, if wide { VR::OW } else { VR::OB }, decoded.pixels));
    Ok(true)
}

/// Clears bits of pixels beyond those stored, where retired overlays lie (PS3.3 C.9.2, before 2004).
pub(super) fn clear_unused_bits(set: &mut DataSet<'_>, encoding: Encoding) -> Result<(), Held> {
    let numbers = [tags::BITS_ALLOCATED, tags::BITS_STORED, tags::HIGH_BIT].map(|tag| number(set, tag, encoding));
    let [Some(allocated), Some(stored), Some(high)] = numbers else {
        return Err(Held::Mask("an overlay lies in its unused bits"));
    };
    let signed = number(set, tags::PIXEL_REPRESENTATION, encoding) == Some(1);
    let Some(Element { value: Value::Bytes(bytes), .. }) = set.iter_mut().find(|e| e.tag == tags::PIXEL_DATA) else {
        return Err(Held::Mask("an overlay lies in its unused bits, and they are compressed"));
    };
    if allocated != 16 || stored == 0 || high > 15 || stored > high + 1 {
        return Err(Held::Mask("an overlay lies in its unused bits"));
    }
    let (low, left, right) = (high + 1 - stored, 15 - high, 16 - stored);
    for pair in bytes.to_mut().chunks_exact_mut(2) {
        let value = encoding.u16([pair[0], pair[1]]) << left;
        // The sign goes on to the left of what is stored.
        let value = if signed { (value.cast_signed() >> right).cast_unsigned() } else { value >> right } << low;
        pair.copy_from_slice(&if encoding.big { value.to_be_bytes() } else { value.to_le_bytes() });
    }
    Ok(())
}

impl Image {
    pub(super) fn of(set: &mut DataSet<'_>, encoding: Encoding) -> Result<Self, Held> {
        let required = |tag| number(set, tag, encoding).ok_or(Held::Attribute(tag));
        let (rows, columns) = (required(tags::ROWS)?, required(tags::COLUMNS)?);
        let (samples, bits_allocated) = (required(tags::SAMPLES_PER_PIXEL)?, required(tags::BITS_ALLOCATED)?);
        let photometric = text(set, tags::PHOTOMETRIC_INTERPRETATION);
        if !matches!((samples, bits_allocated), (1, 8 | 16 | 32) | (3, 8 | 16)) || photometric.contains("_42") {
            return Err(Held::Mask("their layout is not one that can be masked"));
        }
        let stated =
            ascii(find(set, tags::NUMBER_OF_FRAMES)).parse().ok().filter(|&frames: &usize| frames > 0).unwrap_or(1);
        let frame = usize::from(rows) * usize::from(columns) * usize::from(samples) * usize::from(bits_allocated / 8);
        let element = set.iter_mut().find(|e| e.tag == tags::PIXEL_DATA).ok_or(Held::Attribute(tags::PIXEL_DATA))?;
        let vr = element.vr;
        let Value::Bytes(bytes) = &mut element.value else { return Err(Held::Mask("they are compressed")) };
        let fits = frame > 0 && frame.checked_mul(stated).is_some_and(|all| bytes.len() == all + all % 2);
        if !fits {
            return Err(Held::Mask("there are not as many as their attributes say"));
        }
        let pixels = std::mem::take(bytes).into_owned();
        Ok(Self {
            rows,
            columns,
            samples,
            bits_allocated,
            bits_stored: number(set, tags::BITS_STORED, encoding).unwrap_or(bits_allocated),
            signed: number(set, tags::PIXEL_REPRESENTATION, encoding) == Some(1),
            photometric,
            vr,
            planes: samples == 3 && number(set, tags::PLANAR_CONFIGURATION, encoding) == Some(1),
            big: encoding.big,
            pixels,
            interleaved: Vec::new(),
            changed: false,
        })
    }

    fn frame_bytes(&self) -> usize {
        self.plane_bytes() * usize::from(self.samples)
    }

    /// Of one sample of each pixel of a frame.
    fn plane_bytes(&self) -> usize {
        usize::from(self.rows) * usize::from(self.columns) * usize::from(self.bits_allocated / 8)
    }

    pub(super) fn frames(&self) -> usize {
        self.pixels.len() / self.frame_bytes().max(1)
    }

    pub(super) fn changed(&self) -> bool {
        self.changed
    }

    /// A frame, samples side by side and little endian.
    pub(super) fn frame(&mut self, frame: usize) -> Frame<'_> {
        let bytes = self.frame_bytes();
        let source = self.pixels.get(frame * bytes..(frame + 1) * bytes).unwrap_or_default();
        let sample = usize::from(self.bits_allocated / 8);
        let pixels = if self.planes || self.big && sample > 1 {
            let plane = self.plane_bytes();
            self.interleaved.clear();
            for at in (0..plane).step_by(sample) {
                for s in 0..usize::from(self.samples) {
                    let from = if self.planes { s * plane + at } else { at * usize::from(self.samples) + s * sample };
                    let value = source.get(from..from + sample).unwrap_or_default();
                    match self.big {
                        true => self.interleaved.extend(value.iter().rev()),
                        false => self.interleaved.extend(value),
                    }
                }
            }
            &self.interleaved
        } else {
            source
        };
        Frame {
            rows: self.rows,
            columns: self.columns,
            samples: self.samples,
            bits_allocated: self.bits_allocated,
            bits_stored: self.bits_stored,
            signed: self.signed,
            photometric: &self.photometric,
            pixels,
        }
    }

    /// Blacks out a rectangle of every frame.
    pub(super) fn black_out(&mut self, mask: Rectangle) {
        (0..self.frames()).for_each(|frame| self.black_out_in(frame, mask));
    }

    /// Blacks out all of every frame but these rectangles.
    pub(super) fn black_out_but(&mut self, kept: &[Rectangle]) {
        for y in 0..u32::from(self.rows) {
            let mut x = 0;
            while x < u32::from(self.columns) {
                let inside =
                    |x: u32| kept.iter().find(|k| y >= k.y && y - k.y < k.height && x >= k.x && x - k.x < k.width);
                if let Some(kept) = inside(x) {
                    x = kept.x.saturating_add(kept.width);
                    continue;
                }
                let end = kept.iter().filter(|k| y >= k.y && y - k.y < k.height && k.x > x).map(|k| k.x).min();
                let end = end.unwrap_or(u32::MAX).min(self.columns.into());
                self.black_out(Rectangle { x, y, width: end - x, height: 1 });
                x = end;
            }
        }
    }

    /// Blacks out a rectangle of one frame, as far as it lies in it.
    pub(super) fn black_out_in(&mut self, frame: usize, mask: Rectangle) {
        let (rows, columns) = (u32::from(self.rows), u32::from(self.columns));
        let (right, bottom) =
            (mask.x.saturating_add(mask.width).min(columns), mask.y.saturating_add(mask.height).min(rows));
        let sample = usize::from(self.bits_allocated / 8);
        let planes = if self.planes { usize::from(self.samples) } else { 1 };
        let pixel = if self.planes { sample } else { sample * usize::from(self.samples) };
        let black = self.black();
        for y in mask.y..bottom {
            for plane in 0..planes {
                let row = frame * self.frame_bytes() + plane * self.plane_bytes();
                let row = row + y as usize * columns as usize * pixel;
                let from = row + mask.x.min(right) as usize * pixel;
                let Some(bytes) = self.pixels.get_mut(from..row + right as usize * pixel) else { continue };
                self.changed |= !bytes.is_empty();
                for (n, byte) in bytes.iter_mut().enumerate() {
                    let channel = if self.planes { plane } else { n / sample % usize::from(self.samples) };
                    *byte = black[channel.min(2)][n % sample];
                }
            }
        }
    }

    /// Black, for each sample of a pixel, in the byte order of the data set.
    fn black(&self) -> [[u8; 4]; 3] {
        let bytes = |value: u32| {
            let mut bytes = value.to_le_bytes();
            if self.big {
                bytes[..usize::from(self.bits_allocated / 8)].reverse();
            }
            bytes
        };
        let stored = u32::from(self.bits_stored.clamp(1, 32));
        let most = if self.signed { (1u32 << (stored - 1)) - 1 } else { u32::MAX >> (32 - stored) };
        if self.photometric == "MONOCHROME1" {
            return [bytes(most); 3];
        }
        if self.photometric.starts_with("YBR") {
            let neutral = bytes(1 << (stored - 1));
            return [bytes(0), neutral, neutral];
        }
        [bytes(0); 3]
    }

    pub(super) fn put_back(self, set: &mut DataSet<'_>) {
        put(set, Element::new(tags::PIXEL_DATA, self.vr, self.pixels));
    }
}
