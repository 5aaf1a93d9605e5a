//! Pixels of several samples, or of a palette, become red, green and blue of 8 bits (PS3.3 C.7.6.3.1.2 and C.7.9).

use dicom_dictionary_std::tags;

use super::ReadError;
use super::attributes::Attributes;
use super::lut::{Lut, Table};
use super::pixels::{Photometric, Pixels};

/// `bytes` of one frame, in little endian, plane after plane where `planar`.
pub(super) fn rgb(pixels: &Pixels, photometric: Photometric, planar: bool, bytes: &[u8]) -> Vec<u8> {
    let narrow = narrowed(pixels, bytes);
    if photometric == Photometric::YbrFull422 {
        let pairs = narrow.chunks_exact(4);
        return pairs.flat_map(|p| [ybr([p[0], p[2], p[3]]), ybr([p[1], p[2], p[3]])]).flatten().collect();
    }
    let plane = narrow.len() / 3;
    let colour = |i: usize| match planar {
        true => [narrow[i], narrow[plane + i], narrow[2 * plane + i]],
        false => [narrow[3 * i], narrow[3 * i + 1], narrow[3 * i + 2]],
    };
    let colours = (0..plane).map(colour);
    match photometric {
        Photometric::YbrFull => colours.flat_map(ybr).collect(),
        _ => colours.flatten().collect(),
    }
}

/// The highest 8 of the stored bits of each sample.
fn narrowed(pixels: &Pixels, bytes: &[u8]) -> Vec<u8> {
    let low = pixels.high + 1 - pixels.stored;
    let (down, up) = (low + pixels.stored.saturating_sub(8), 8u16.saturating_sub(pixels.stored));
    let highest = |sample: u32| ((sample >> down) << up) as u8;
    let word = |bytes: &[u8]| bytes.iter().rev().fold(0, |word, byte| word << 8 | u32::from(*byte));
    bytes.chunks_exact(pixels.sample_bytes()).map(|sample| highest(word(sample))).collect()
}

/// From luminance and chrominance of full range.
fn ybr([y, b, r]: [u8; 3]) -> [u8; 3] {
    let (y, b, r) = (f32::from(y), f32::from(b) - 128.0, f32::from(r) - 128.0);
    [y + 1.402 * r, y - 0.344_136 * b - 0.714_136 * r, y + 1.772 * b].map(|v| v.round() as u8)
}

/// The luminance of a colour, 0 to 255: what a display without colours shows (ITU-R BT.601, as Y of YBR_FULL).
pub(super) fn luminance([r, g, b]: [u8; 3]) -> f32 {
    0.299 * f32::from(r) + 0.587 * f32::from(g) + 0.114 * f32::from(b)
}

/// The palette of an image (PS3.3 C.7.9).
pub(super) struct Palette {
    /// Which stored value is the first entry; lower ones are it too.
    first: i32,
    colours: Vec<[u8; 3]>,
}

impl Palette {
    /// Reads it.
    pub(super) fn read(a: &Attributes<'_>) -> Result<Self, ReadError> {
        let read = |descriptor, data, segmented| Table::read(a, descriptor, data, Some(segmented));
        let red = read(
            tags::RED_PALETTE_COLOR_LOOKUP_TABLE_DESCRIPTOR,
            tags::RED_PALETTE_COLOR_LOOKUP_TABLE_DATA,
            tags::SEGMENTED_RED_PALETTE_COLOR_LOOKUP_TABLE_DATA,
        )?;
        let green = read(
            tags::GREEN_PALETTE_COLOR_LOOKUP_TABLE_DESCRIPTOR,
            tags::GREEN_PALETTE_COLOR_LOOKUP_TABLE_DATA,
            tags::SEGMENTED_GREEN_PALETTE_COLOR_LOOKUP_TABLE_DATA,
        )?;
        let blue = read(
            tags::BLUE_PALETTE_COLOR_LOOKUP_TABLE_DESCRIPTOR,
            tags::BLUE_PALETTE_COLOR_LOOKUP_TABLE_DATA,
            tags::SEGMENTED_BLUE_PALETTE_COLOR_LOOKUP_TABLE_DATA,
        )?;
        let first = red.first;
        let (red, green, blue) = (red.bytes(), green.bytes(), blue.bytes());
        let colours = red.zip(green).zip(blue).map(|((r, g), b)| [r, g, b]).collect();
        Ok(Self { first, colours })
    }

    /// The colour of a stored value.
    pub(super) fn colour(&self, value: i32) -> [u8; 3] {
        let last = self.colours.len() - 1;
        self.colours[usize::try_from(value.saturating_sub(self.first)).unwrap_or(0).min(last)]
    }

    /// From stored values to the luminance of their colours.
    pub(super) fn luminance(&self) -> Lut {
        Lut { first: self.first, values: self.colours.iter().map(|colour| luminance(*colour)).collect() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn luminance_and_chrominance_become_colours() {
        assert_eq!(ybr([128, 128, 128]), [128, 128, 128]);
        assert_eq!(ybr([76, 85, 255]), [254, 0, 0]);
        assert_eq!(ybr([255, 255, 255]), [255, 121, 255]);
    }
}
