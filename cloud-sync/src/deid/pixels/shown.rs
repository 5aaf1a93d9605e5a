//! What a viewer makes of stored values: a palette, and the window that the image states.

use dicom_core::Tag;
use dicom_dictionary_std::tags;

use super::{DataSet, Encoding, Held, ascii, find};

/// Colours of stored values (PS3.3 C.7.6.3.1.5).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Palette {
    /// The stored value of the first colour; lower ones have it too, and those above the last have the last.
    pub first: i32,
    /// Red, green and blue, the highest 8 bits of each; never empty.
    pub colours: Vec<[u8; 3]>,
}

impl Palette {
    /// The palette of an image.
    ///
    /// # Errors
    /// It is missing, segmented or not as its descriptors say.
    pub(super) fn of(set: &DataSet<'_>, encoding: Encoding) -> Result<Self, Held> {
        const TABLES: [(Tag, Tag); 3] = [
            (tags::RED_PALETTE_COLOR_LOOKUP_TABLE_DESCRIPTOR, tags::RED_PALETTE_COLOR_LOOKUP_TABLE_DATA),
            (tags::GREEN_PALETTE_COLOR_LOOKUP_TABLE_DESCRIPTOR, tags::GREEN_PALETTE_COLOR_LOOKUP_TABLE_DATA),
            (tags::BLUE_PALETTE_COLOR_LOOKUP_TABLE_DESCRIPTOR, tags::BLUE_PALETTE_COLOR_LOOKUP_TABLE_DATA),
        ];
        let unusable = Held::Mask("their palette is missing, segmented or damaged");
        let [red, green, blue] = TABLES.map(|(descriptor, data)| table(set, descriptor, data, encoding));
        let (Some((first, red)), Some((_, green)), Some((_, blue))) = (red, green, blue) else { return Err(unusable) };
        let colours: Vec<[u8; 3]> = red.iter().zip(&green).zip(&blue).map(|((r, g), b)| [*r, *g, *b]).collect();
        if colours.is_empty() { Err(unusable) } else { Ok(Self { first, colours }) }
    }

    /// The colour of a stored value.
    #[must_use]
    pub fn colour(&self, value: i64) -> [u8; 3] {
        let entry = usize::try_from(value - i64::from(self.first)).unwrap_or(0);
        self.colours.get(entry).or(self.colours.last()).copied().unwrap_or_default()
    }

    /// The stored value of the darkest colour.
    pub(super) fn darkest(&self) -> i64 {
        let sum = |colour: &[u8; 3]| colour.iter().map(|&c| u32::from(c)).sum::<u32>();
        let entry = (0..self.colours.len()).min_by_key(|&n| self.colours.get(n).map(sum)).unwrap_or(0);
        i64::from(self.first) + i64::try_from(entry).unwrap_or(0)
    }
}

/// The stored value of the first entry, and the entries.
fn table(set: &DataSet<'_>, descriptor: Tag, data: Tag, encoding: Encoding) -> Option<(i32, Vec<u8>)> {
    let words = |tag| -> Option<Vec<u16>> {
        Some(find(set, tag)?.bytes().as_chunks::<2>().0.iter().map(|&pair| encoding.u16(pair)).collect())
    };
    let [entries, first, bits] = words(descriptor)?[..] else { return None };
    // 65536 does not fit its 16 bits.
    let entries = if entries == 0 { 1 << 16 } else { usize::from(entries) };
    // Signed where stored values are; images with such a palette are rare, and others never begin there.
    let first = if first > 0x7FFF { i32::from(first.cast_signed()) } else { i32::from(first) };
    let Some(element) = find(set, data) else {
        // (0028,1221) stands for (0028,1201), and so on.
        let segments = words(Tag(data.0, data.1 + 0x20)).filter(|_| bits == 16)?;
        let values = unsegmented(&segments, entries)?;
        return Some((first, values.get(..entries)?.iter().map(|word| word.to_be_bytes()[0]).collect()));
    };
    let values: Vec<u8> = match bits {
        16 => words(data)?.into_iter().map(|word| word.to_be_bytes()[0]).collect(),
        8 if element.bytes().len() >= entries * 2 => words(data)?.into_iter().map(|w| w.to_le_bytes()[0]).collect(),
        // Two entries a word, the first the lower one.
        8 => words(data)?.into_iter().flat_map(u16::to_le_bytes).collect(),
        _ => return None,
    };
    Some((first, values.get(..entries)?.to_vec()))
}

/// The entries of a segmented table (PS3.3 C.7.9.2), or more.
fn unsegmented(words: &[u16], entries: usize) -> Option<Vec<u16>> {
    let (mut values, mut at) = (Vec::new(), 0);
    while values.len() < entries {
        at = segment(words, at, true, entries, &mut values)?;
    }
    Some(values)
}

/// Adds the segment that begins at a word; where the next one does.
fn segment(words: &[u16], at: usize, may_refer: bool, entries: usize, values: &mut Vec<u16>) -> Option<usize> {
    let [kind, count, rest @ ..] = words.get(at..)? else { return None };
    let length = usize::from(*count);
    match (*kind, rest) {
        (0, _) => {
            values.extend_from_slice(rest.get(..length)?);
            Some(at + 2 + length)
        }
        (1, [to, ..]) => {
            let from = i64::from(*values.last()?);
            let step = |n: i64| u16::try_from(from + (i64::from(*to) - from) * n / i64::from(*count)).unwrap_or(*to);
            values.extend((1..=i64::from(*count)).map(step));
            Some(at + 3)
        }
        (2, [low, high, ..]) if may_refer => {
            // So many segments again, from this byte on.
            let mut from = ((usize::from(*high) << 16) | usize::from(*low)) / 2;
            for _ in 0..length {
                let before = values.len();
                from = segment(words, from, false, entries, values)?;
                match values.len() {
                    all if all >= entries => break,
                    // What adds nothing could be repeated without end.
                    same if same == before => return None,
                    _ => {}
                }
            }
            Some(at + 4)
        }
        _ => None,
    }
}

/// Lowest and highest stored value that the first window of an image shows.
pub(super) fn window(set: &DataSet<'_>) -> Option<(f64, f64)> {
    let first = |tag| {
        let text = ascii(find(set, tag)).split('\\').next()?;
        text.trim().parse::<f64>().ok().filter(|n| n.is_finite())
    };
    let (centre, width) = (first(tags::WINDOW_CENTER)?, first(tags::WINDOW_WIDTH)?);
    let (slope, intercept) = (first(tags::RESCALE_SLOPE).unwrap_or(1.0), first(tags::RESCALE_INTERCEPT).unwrap_or(0.0));
    let stored = |value: f64| (value - intercept) / slope;
    let (a, b) = (stored(centre - width / 2.0), stored(centre + width / 2.0));
    let (low, high) = (a.min(b), a.max(b));
    (low.is_finite() && high.is_finite() && high - low >= 1.0).then_some((low, high))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn segments_are_lists_slopes_and_repetitions() {
        let words = [0, 2, 10, 20, 1, 4, 40, 2, 2, 0, 0];
        assert_eq!(unsegmented(&words, 12), Some(vec![10, 20, 25, 30, 35, 40, 10, 20, 25, 30, 35, 40]));
        assert_eq!(unsegmented(&words, 13), None, "too few");
        for wrong in [&[0, 3, 1][..], &[1, 1, 5], &[2, 1, 0, 0], &[3, 1, 1], &[0]] {
            assert_eq!(unsegmented(wrong, 5), None, "{wrong:?}");
        }
    }
}
