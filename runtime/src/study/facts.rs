//! What an image says that may tell it from another one at its place: its echo, its b-value, its time.

use std::cmp::Ordering;

use dicom_core::Tag;
use dicom_dictionary_std::tags;

use super::attributes::{Attributes, is_code};

/// What an attribute says of a volume.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Meaning {
    /// A measurement that was made at every place: each volume has one value, and all have the same slices.
    Repeat,
    /// A measurement that was made in order at every place; its values may vary from slice to slice.
    Order,
    /// Another kind of image or another acquisition: each volume has one value, and slices of its own.
    Kind,
    /// A part of the body alone: said of stacks that follow one another.
    Block,
}

/// What may tell volumes apart, the most telling first.
pub(super) const FACTS: [(Tag, Meaning); 27] = [
    (tags::STACK_ID, Meaning::Kind),
    (tags::ECHO_TIME, Meaning::Repeat),
    (tags::EFFECTIVE_ECHO_TIME, Meaning::Repeat),
    (tags::ECHO_NUMBERS, Meaning::Repeat),
    (tags::INVERSION_TIME, Meaning::Repeat),
    (tags::INVERSION_TIMES, Meaning::Repeat),
    (tags::FLIP_ANGLE, Meaning::Repeat),
    (tags::KVP, Meaning::Repeat),
    (tags::DIFFUSION_B_VALUE, Meaning::Repeat),
    (tags::DIFFUSION_GRADIENT_ORIENTATION, Meaning::Repeat),
    (tags::COMPLEX_IMAGE_COMPONENT, Meaning::Repeat),
    (tags::TEMPORAL_POSITION_IDENTIFIER, Meaning::Repeat),
    (tags::TEMPORAL_POSITION_INDEX, Meaning::Repeat),
    (tags::NOMINAL_PERCENTAGE_OF_CARDIAC_PHASE, Meaning::Repeat),
    (tags::IMAGE_TYPE, Meaning::Kind),
    (tags::FRAME_TYPE, Meaning::Kind),
    (tags::CONVOLUTION_KERNEL, Meaning::Kind),
    (tags::NOMINAL_CARDIAC_TRIGGER_DELAY_TIME, Meaning::Order),
    (tags::TRIGGER_TIME, Meaning::Order),
    (tags::FRAME_REFERENCE_TIME, Meaning::Order),
    (tags::TEMPORAL_POSITION_TIME_OFFSET, Meaning::Order),
    (tags::ACQUISITION_NUMBER, Meaning::Kind),
    (tags::ACQUISITION_TIME, Meaning::Order),
    (tags::ACQUISITION_DATE_TIME, Meaning::Order),
    (tags::FRAME_ACQUISITION_DATE_TIME, Meaning::Order),
    // Whatever else a writer counts frames by.
    (tags::DIMENSION_INDEX_VALUES, Meaning::Repeat),
    (tags::SLICE_THICKNESS, Meaning::Block),
];

/// Longer ones are cut: they come from outside, and each frame has its own.
const VALUE_MAX_CHARS: usize = 128;

/// Place in [`FACTS`] and value of what an image says.
pub(super) type Facts = Box<[(u8, Box<str>)]>;

/// What an image, or the groups of a frame put together, says.
pub(super) fn read(a: &Attributes<'_>) -> Facts {
    let said = (0u8..).zip(FACTS).filter_map(|(place, (tag, _))| {
        let value: String = a.text(tag).chars().take(VALUE_MAX_CHARS).collect();
        (!value.is_empty()).then(|| (place, value.into_boxed_str()))
    });
    said.collect()
}

/// The value at a place; empty where nothing is said.
pub(super) fn value(facts: &Facts, place: usize) -> &str {
    facts.iter().find(|(at, _)| usize::from(*at) == place).map_or("", |(_, value)| value)
}

/// Numbers by their size, and before other text.
pub(super) fn compare(a: &str, b: &str) -> Ordering {
    // Zero is zero, with a minus too.
    let number = |text: &str| text.trim().parse::<f64>().ok().map(|n| if n == 0.0 { 0.0 } else { n });
    let numbers = |text: &str| text.split('\\').map(number).collect::<Option<Vec<_>>>();
    match (numbers(a), numbers(b)) {
        (Some(a), Some(b)) => {
            let differ = a.iter().zip(&b).map(|(a, b)| a.total_cmp(b)).find(|order| order.is_ne());
            differ.unwrap_or(a.len().cmp(&b.len()))
        }
        (Some(_), None) => Ordering::Less,
        (None, Some(_)) => Ordering::Greater,
        (None, None) => a.cmp(b),
    }
}

/// What of a value people may see: numbers, times and codes. Anything else may be anything, also a name.
pub(super) fn shown(value: &str) -> &str {
    let number = |c: char| c.is_ascii_digit() || matches!(c, '.' | '-' | '+' | 'e' | 'E' | ' ');
    let plain = |part: &str| is_code(part) || part.chars().all(number);
    match value {
        "" => "none",
        value if value.split('\\').all(plain) => value,
        _ => "text",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_compared_by_their_size_and_come_before_text() {
        assert_eq!(compare("-0\\0\\1", "0\\0\\1.0"), Ordering::Equal);
        assert_eq!(compare("9", "10"), Ordering::Less);
        assert_eq!(compare("10", "A"), Ordering::Less);
    }
}
