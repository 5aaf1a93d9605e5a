//! Pixels of several samples, or of a palette, become red, green and blue of 8 bits (PS3.3 C.7.6.3.1.2 and C.7.9).

use dicom_core::Tag;
use dicom_dictionary_std::tags;

use super::ReadError;
use super::attributes::Attributes;
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
    let highest = |sample: u16| ((sample >> down) << up) as u8;
    match pixels.allocated {
        8 => bytes.iter().map(|b| highest(u16::from(*b))).collect(),
        _ => bytes.chunks_exact(2).map(|w| highest(u16::from_le_bytes([w[0], w[1]]))).collect(),
    }
}

/// From luminance and chrominance of full range.
fn ybr([y, b, r]: [u8; 3]) -> [u8; 3] {
    let (y, b, r) = (f32::from(y), f32::from(b) - 128.0, f32::from(r) - 128.0);
    [y + 1.402 * r, y - 0.344_136 * b - 0.714_136 * r, y + 1.772 * b].map(|v| v.round() as u8)
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
        let (red, first) = table(a, tags::RED_PALETTE_COLOR_LOOKUP_TABLE_DESCRIPTOR, RED)?;
        let (green, _) = table(a, tags::GREEN_PALETTE_COLOR_LOOKUP_TABLE_DESCRIPTOR, GREEN)?;
        let (blue, _) = table(a, tags::BLUE_PALETTE_COLOR_LOOKUP_TABLE_DESCRIPTOR, BLUE)?;
        let colours = red.iter().zip(&green).zip(&blue).map(|((r, g), b)| [*r, *g, *b]).collect();
        Ok(Self { first, colours })
    }

    /// The colour of a stored value.
    pub(super) fn colour(&self, value: i32) -> [u8; 3] {
        let last = self.colours.len() - 1;
        self.colours[usize::try_from(value - self.first).unwrap_or(0).min(last)]
    }
}

const RED: Tag = tags::RED_PALETTE_COLOR_LOOKUP_TABLE_DATA;
const GREEN: Tag = tags::GREEN_PALETTE_COLOR_LOOKUP_TABLE_DATA;
const BLUE: Tag = tags::BLUE_PALETTE_COLOR_LOOKUP_TABLE_DATA;

/// One table, and the stored value of its first entry.
fn table(a: &Attributes<'_>, descriptor: Tag, data: Tag) -> Result<(Vec<u8>, i32), ReadError> {
    let [entries, first, bits] = a.numbers::<3>(descriptor)?.ok_or_else(|| a.fault(descriptor, "is missing"))?;
    // 65536 does not fit its 16 bits.
    let entries = if entries == 0.0 { 1 << 16 } else { entries.clamp(1.0, 65535.0) as usize };
    let element = a.object.get(data);
    let Some(words) = element.and_then(|element| element.to_multi_int::<u16>().ok()) else {
        return Err(ReadError::unavailable(a.path, "a palette that is segmented or has no entries"));
    };
    let mut values: Vec<u8> = match bits as u16 {
        16 => words.iter().map(|word| (word >> 8) as u8).collect(),
        8 if words.len() >= entries => words.iter().map(|word| *word as u8).collect(),
        8 => words.iter().flat_map(|word| word.to_le_bytes()).collect(),
        _ => return Err(a.fault(descriptor, "has entries of other than 8 and 16 bits")),
    };
    if values.len() < entries {
        return Err(a.fault(data, "has fewer entries than its descriptor says"));
    }
    values.truncate(entries);
    Ok((values, first as i32))
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
