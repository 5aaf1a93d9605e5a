//! Tables from stored values to others (PS3.3 C.7.6.3.1.5, C.7.9.2, C.11.1 and C.11.2).

use dicom_core::Tag;
use dicom_dictionary_std::tags;

use super::ReadError;
use super::attributes::Attributes;

/// From stored values to what they measure.
#[derive(Debug, PartialEq)]
pub(super) struct Lut {
    /// Which stored value is the first entry; lower ones are it too, and those behind the last are the last.
    pub(super) first: i32,
    /// At least one.
    pub(super) values: Vec<f32>,
}

impl Lut {
    /// Reads the first item of Modality LUT Sequence, of stored values that are `signed` or not.
    pub(super) fn modality(a: &Attributes<'_>, signed: bool) -> Result<Self, ReadError> {
        let (first, table) = Self::first_item(a, tags::MODALITY_LUT_SEQUENCE, signed)?;
        Ok(Self { first, values: table.words.into_iter().map(f32::from).collect() })
    }

    /// Reads the first item of VOI LUT Sequence, of values that are negative (`signed`) or are not: from what is measured
    /// to what is shown of it, 0 (black) to 1.
    pub(super) fn voi(a: &Attributes<'_>, signed: bool) -> Result<Self, ReadError> {
        let (first, table) = Self::first_item(a, tags::VOILUT_SEQUENCE, signed)?;
        let highest = f32::from(u16::MAX >> (16 - table.bits));
        Ok(Self { first, values: table.words.into_iter().map(|word| f32::from(word) / highest).collect() })
    }

    /// The table of a sequence's first item, and the value of its first entry.
    fn first_item(a: &Attributes<'_>, sequence: Tag, signed: bool) -> Result<(i32, Table), ReadError> {
        let items = a.object.get(sequence).and_then(|element| element.items());
        let object = items.and_then(<[_]>::first).ok_or_else(|| a.fault(sequence, "has no item"))?;
        let table = Table::read(&Attributes { path: a.path, object }, tags::LUT_DESCRIPTOR, tags::LUT_DATA, None)?;
        // Its VR is that of the values, and some writers say otherwise.
        let first = if signed && table.first > i32::from(i16::MAX) { table.first - (1 << 16) } else { table.first };
        Ok((first, table))
    }

    /// What a stored value measures.
    pub(super) fn value(&self, stored: i32) -> f32 {
        let place = usize::try_from(stored.saturating_sub(self.first)).unwrap_or(0);
        self.values[place.min(self.values.len() - 1)]
    }
}

/// A table as it is stored.
pub(super) struct Table {
    pub(super) first: i32,
    /// At least one entry.
    words: Vec<u16>,
    /// Bits of an entry.
    bits: u16,
}

impl Table {
    /// Reads it by the tags of its descriptor and its data, or of data in segments.
    pub(super) fn read(
        a: &Attributes<'_>,
        descriptor: Tag,
        data: Tag,
        segmented: Option<Tag>,
    ) -> Result<Self, ReadError> {
        let [entries, first, bits] = a.numbers::<3>(descriptor)?.ok_or_else(|| a.fault(descriptor, "is missing"))?;
        // 65536 does not fit its 16 bits; and where pixels are signed, so is what counts entries.
        let entries = if entries <= 0.0 { entries + 65536.0 } else { entries };
        let entries = entries.clamp(1.0, 65536.0) as usize;
        if !(8.0..=16.0).contains(&bits) {
            return Err(a.fault(descriptor, "has entries of other than 8 to 16 bits"));
        }
        let words = |tag: Tag| a.object.get(tag).and_then(|element| element.to_multi_int::<u16>().ok());
        let bits = bits as u16;
        let mut words = match (words(data).filter(|words| !words.is_empty()), segmented.and_then(words)) {
            (Some(words), _) if bits == 8 && words.len() < entries => {
                words.iter().flat_map(|word| word.to_le_bytes()).map(u16::from).collect()
            }
            (Some(words), _) => words,
            (None, Some(segments)) => {
                expanded(&segments, entries).ok_or_else(|| a.fault(data, "has segments that are not well-formed"))?
            }
            (None, None) => return Err(a.fault(data, "is missing or empty")),
        };
        if words.len() < entries {
            return Err(a.fault(data, "has fewer entries than its descriptor says"));
        }
        words.truncate(entries);
        Ok(Self { first: first as i32, words, bits })
    }

    /// The highest 8 bits of each entry.
    pub(super) fn bytes(&self) -> impl Iterator<Item = u8> {
        let down = self.bits - 8;
        self.words.iter().map(move |word| (word >> down) as u8)
    }
}

/// Segments of a palette (PS3.3 C.7.9.2) as `entries` entries; `None` where they are not well-formed.
fn expanded(segments: &[u16], entries: usize) -> Option<Vec<u16>> {
    let mut words = Vec::new();
    let mut rest = segments;
    while words.len() < entries && !rest.is_empty() {
        rest = match rest {
            // Segments again, which may not be indirect themselves.
            [2, count, low, high, after @ ..] => {
                let bytes = usize::from(*high) << 16 | usize::from(*low);
                let mut again = segments.get(bytes / 2..)?;
                for _ in 0..*count {
                    again = segment(again, entries, &mut words)?;
                }
                after
            }
            _ => segment(rest, entries, &mut words)?,
        };
    }
    Some(words)
}

/// One segment, discrete or linear; what comes after it.
fn segment<'a>(segment: &'a [u16], entries: usize, words: &mut Vec<u16>) -> Option<&'a [u16]> {
    let (kind, [count, rest @ ..]) = segment.split_first()? else { return None };
    let count = usize::from(*count);
    // One that adds nothing could be walked for ever.
    if count == 0 || words.len() + count > entries {
        return None;
    }
    match kind {
        0 => {
            let (values, after) = rest.split_at_checked(count)?;
            words.extend_from_slice(values);
            Some(after)
        }
        1 => {
            let (end, after) = rest.split_first()?;
            let from = f64::from(*words.last()?);
            let step = (f64::from(*end) - from) / count as f64;
            words.extend((1..=count).map(|i| (from + step * i as f64).round() as u16));
            Some(after)
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use dicom_core::{DataElement, PrimitiveValue, VR};
    use dicom_object::InMemDicomObject;

    use super::*;

    #[test]
    fn segments_of_a_palette_are_runs_ramps_and_repetitions() {
        assert_eq!(expanded(&[0, 2, 5, 10, 1, 2, 20], 4), Some(vec![5, 10, 15, 20]));
        assert_eq!(expanded(&[0, 1, 7, 2, 1, 0, 0], 2), Some(vec![7, 7]), "the first segment once more");
        assert_eq!(expanded(&[1, 2, 20], 2), None, "a ramp from nothing");
        assert_eq!(expanded(&[0, 5, 1], 5), None, "cut");
        assert_eq!(expanded(&[0, 3, 1, 2, 3], 2), None, "more than there are entries");
        assert_eq!(expanded(&[0, 1, 1, 2, 9, 9, 9], 20), None, "outside");
        assert_eq!(expanded(&[0, 1, 1, 2, 65535, 3, 0], 20), None, "itself, over and over");
    }

    #[test]
    fn a_signed_descriptor_counts_entries_without_a_sign() {
        let mut object = InMemDicomObject::new_empty();
        let descriptor = PrimitiveValue::I16([-25536i16, -2, 16].into_iter().collect());
        object.put(DataElement::new(tags::LUT_DESCRIPTOR, VR::SS, descriptor));
        object.put(DataElement::new(tags::LUT_DATA, VR::OW, PrimitiveValue::U16(vec![7u16; 40_000].into())));
        let a = Attributes { path: Path::new("a.dcm"), object: &object };
        let table = Table::read(&a, tags::LUT_DESCRIPTOR, tags::LUT_DATA, None).map_err(|e| e.to_string());
        assert_eq!(table.map(|table| (table.first, table.words.len())), Ok((-2, 40_000)));
    }

    #[test]
    fn values_outside_of_a_table_are_its_ends() {
        let lut = Lut { first: -2, values: vec![1.0, 2.0, 3.0] };
        assert_eq!([-9, -2, -1, 0, 1, i32::MAX].map(|v| lut.value(v)), [1.0, 1.0, 2.0, 3.0, 3.0, 3.0]);
        assert_eq!(lut.value(i32::MIN), 1.0);
    }
}
