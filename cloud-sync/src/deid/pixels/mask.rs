//! Pixels blacked out.

use dicom_core::VR;
use dicom_dictionary_std::tags;

use super::{
    DataSet, Deidentifier, Element, Encoding, Frame, Held, Palette, Rectangle, Value, ascii, find, number, put, shown,
    text,
};

/// Text that is found in one of so many frames is in all of them.
const LASTING_PART: usize = 10;

/// Decoded frames of an instance.
pub(super) struct Image {
    rows: u16,
    columns: u16,
    samples: u16,
    bits_allocated: u16,
    bits_stored: u16,
    signed: bool,
    photometric: String,
    palette: Option<Palette>,
    window: Option<(f64, f64)>,
    vr: VR,
    /// Samples of a pixel lie in planes (Planar Configuration 1).
    planes: bool,
    big: bool,
    /// Bytes are swapped within words, as those of OW in big endian are (PS3.5 A.3), while they lie in the data set.
    swapped: bool,
    frames: usize,
    pixels: Vec<u8>,
    /// What a decoder made: with the method of a lossy transfer syntax.
    decoded: Option<Option<&'static str>>,
    /// Frames as a detector wants them, made when they are asked for.
    interleaved: Vec<u8>,
    changed: bool,
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
    /// The pixel data of a data set: native ones are taken out of it until [`Image::put_back`], compressed ones stay, decoded beside.
    pub(super) fn of(by: &Deidentifier, set: &mut DataSet<'_>, encoding: Encoding, file: &[u8]) -> Result<Self, Held> {
        let required = |tag| number(set, tag, encoding).ok_or(Held::Attribute(tag));
        let (rows, columns) = (required(tags::ROWS)?, required(tags::COLUMNS)?);
        let (samples, bits_allocated) = (required(tags::SAMPLES_PER_PIXEL)?, required(tags::BITS_ALLOCATED)?);
        let bits_stored = number(set, tags::BITS_STORED, encoding).unwrap_or(bits_allocated);
        let high_bit = number(set, tags::HIGH_BIT, encoding).unwrap_or(bits_stored.saturating_sub(1));
        let signed = number(set, tags::PIXEL_REPRESENTATION, encoding) == Some(1);
        let stated =
            ascii(find(set, tags::NUMBER_OF_FRAMES)).parse().ok().filter(|&frames: &usize| frames > 0).unwrap_or(1);
        // Before anything is decoded.
        by.profile.limits.frames(stated)?;
        by.profile.limits.frame_pixels(rows, columns)?;
        let mut photometric = text(set, tags::PHOTOMETRIC_INTERPRETATION);
        let mut planes = samples == 3 && number(set, tags::PLANAR_CONFIGURATION, encoding) == Some(1);
        let window = shown::window(set);
        let element = find(set, tags::PIXEL_DATA).ok_or(Held::Attribute(tags::PIXEL_DATA))?;
        let (vr, mut decoded, mut pixels) = (element.vr, None, None);
        if let Value::Fragments(_) = element.value {
            let decoder =
                by.decoder.as_ref().ok_or(Held::Mask("they are compressed, and nothing here decodes them"))?;
            let made = decoder.frames(file)?;
            (photometric, planes) = (made.photometric, false);
            (decoded, pixels) = (Some(made.lossy), Some(made.pixels));
        }
        if !matches!((samples, bits_allocated), (1, 8 | 16 | 32) | (3, 8 | 16))
            || photometric.contains("_42")
            || !(1..=bits_allocated).contains(&bits_stored)
            || high_bit.checked_add(1) != Some(bits_stored)
        {
            return Err(Held::Mask("their layout is not one that can be masked"));
        }
        let palette = (photometric == "PALETTE COLOR").then(|| Palette::of(set, encoding)).transpose()?;
        let frame = usize::from(rows) * usize::from(columns) * usize::from(samples) * usize::from(bits_allocated / 8);
        let all = frame.checked_mul(stated).filter(|&all| all > 0);
        let fits = |bytes: &[u8]| all.is_some_and(|all| bytes.len() == all || bytes.len() == all + all % 2);
        let swapped = decoded.is_none() && encoding.big && bits_allocated == 8 && vr == VR::OW;
        let pixels = match pixels {
            Some(pixels) => pixels,
            None => {
                let element = set.iter_mut().find(|e| e.tag == tags::PIXEL_DATA);
                let Some(Element { value: Value::Bytes(bytes), .. }) = element else {
                    return Err(Held::Mask("they are no bytes"));
                };
                std::mem::take(bytes).into_owned()
            }
        };
        if !fits(&pixels) {
            return Err(Held::Mask("there are not as many as their attributes say"));
        }
        let mut image = Self {
            rows,
            columns,
            samples,
            bits_allocated,
            bits_stored,
            signed,
            photometric,
            palette,
            window,
            vr,
            planes,
            big: encoding.big,
            swapped,
            frames: stated,
            pixels,
            decoded,
            interleaved: Vec::new(),
            changed: false,
        };
        image.swap();
        Ok(image)
    }

    fn swap(&mut self) {
        if self.swapped {
            self.pixels.as_chunks_mut::<2>().0.iter_mut().for_each(|pair| pair.reverse());
        }
    }

    fn frame_bytes(&self) -> usize {
        self.plane_bytes() * usize::from(self.samples)
    }

    /// Of one sample of each pixel of a frame.
    fn plane_bytes(&self) -> usize {
        usize::from(self.rows) * usize::from(self.columns) * usize::from(self.bits_allocated / 8)
    }

    pub(super) fn frames(&self) -> usize {
        self.frames
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
            palette: self.palette.as_ref(),
            window: self.window,
            pixels,
        }
    }

    /// Where text was found in at least two frames and one of [`LASTING_PART`]: what is burned in stands at its place in all of them,
    /// also in one in which it was missed.
    pub(super) fn lasting(&self, found: &[Vec<Rectangle>]) -> Vec<Rectangle> {
        let (rows, columns) = (usize::from(self.rows), usize::from(self.columns));
        let least = (found.len() / LASTING_PART).max(2);
        if found.len() < least || columns == 0 {
            return Vec::new();
        }
        let mut frames = vec![0usize; rows * columns];
        // The last frame that counted a pixel, so that boxes of one frame that overlap count it once.
        let mut last = vec![usize::MAX; rows * columns];
        for (frame, text) in found.iter().enumerate() {
            for text in text {
                let side = |from: u32, length: u32, most: usize| {
                    let end = usize::try_from(from.saturating_add(length)).unwrap_or(most).min(most);
                    usize::try_from(from).unwrap_or(most).min(end)..end
                };
                for y in side(text.y, text.height, rows) {
                    for at in side(text.x, text.width, columns).map(|x| y * columns + x) {
                        if last[at] != frame {
                            (last[at], frames[at]) = (frame, frames[at] + 1);
                        }
                    }
                }
            }
        }
        let mut lasting = Vec::new();
        for (row, y) in frames.chunks_exact(columns).zip(0..) {
            let mut x = 0;
            for run in row.chunk_by(|a, b| (*a >= least) == (*b >= least)) {
                let width = u32::try_from(run.len()).unwrap_or(u32::MAX);
                if run.first().is_some_and(|&frames| frames >= least) {
                    lasting.push(Rectangle { x, y, width, height: 1 });
                }
                x += width;
            }
        }
        lasting
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
        let bytes = |value: i64| {
            let [a, b, c, d, ..] = value.to_le_bytes();
            let mut bytes = [a, b, c, d];
            if self.big {
                bytes[..usize::from(self.bits_allocated / 8)].reverse();
            }
            bytes
        };
        let half = 1i64 << (self.bits_stored - 1);
        let (least, most) = if self.signed { (-half, half - 1) } else { (0, 2 * half - 1) };
        if let Some(palette) = &self.palette {
            return [bytes(palette.darkest().clamp(least, most)); 3];
        }
        match self.photometric.as_str() {
            "MONOCHROME1" => [bytes(most); 3],
            "MONOCHROME2" => [bytes(least); 3],
            ybr if ybr.starts_with("YBR") => [bytes(0), bytes(half), bytes(half)],
            _ => [bytes(0); 3],
        }
    }

    /// Puts pixel data back as they were, or masked; whether they are native now and were not. What the image is goes with them.
    pub(super) fn put_back(mut self, set: &mut DataSet<'_>) -> bool {
        let Some(lossy) = self.decoded else {
            self.swap();
            put(set, Element::new(tags::PIXEL_DATA, self.vr, self.pixels));
            return false;
        };
        if !self.changed {
            return false;
        }
        if self.pixels.len() % 2 == 1 {
            self.pixels.push(0);
        }
        // Offset tables of fragments go too.
        set.retain(|e| e.tag.0 != 0x7FE0);
        put(set, Element::text(tags::PHOTOMETRIC_INTERPRETATION, VR::CS, &self.photometric));
        if self.samples > 1 {
            put(set, Element::new(tags::PLANAR_CONFIGURATION, VR::US, vec![0, 0]));
        }
        // PS3.3 C.7.6.1.1.5: once lossy, always lossy.
        if let Some(method) = lossy {
            put(set, Element::text(tags::LOSSY_IMAGE_COMPRESSION, VR::CS, "01"));
            if find(set, tags::LOSSY_IMAGE_COMPRESSION_METHOD).is_none_or(|e| e.is_empty()) {
                put(set, Element::text(tags::LOSSY_IMAGE_COMPRESSION_METHOD, VR::CS, method));
            }
        }
        put(set, Element::new(tags::PIXEL_DATA, if self.bits_allocated > 8 { VR::OW } else { VR::OB }, self.pixels));
        true
    }
}
