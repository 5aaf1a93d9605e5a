//! What an image says that may tell it from another one at its place: its echo, its b-value, its time.

use std::cmp::Ordering;

use dicom_core::value::Value;
use dicom_core::{PrimitiveValue, Tag};
use dicom_dictionary_std::tags;
use dicom_object::InMemDicomObject;

use super::attributes::{Attributes, is_code, text};

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
        let value = match tag {
            tags::DIFFUSION_B_VALUE => b_value(a.object).unwrap_or_default(),
            tag => a.text(tag),
        };
        let value: String = value.chars().take(VALUE_MAX_CHARS).collect();
        (!value.is_empty()).then(|| (place, value.into_boxed_str()))
    });
    said.collect()
}

/// Where vendors wrote b-values before the standard had an attribute for them: who reserved the block of private elements
/// (PS3.5 section 7.8.1), and which element of the block it is.
const PRIVATE_B_VALUES: [(&str, Tag); 3] = [
    ("SIEMENS MR HEADER", Tag(0x0019, 0x0C)),
    ("GEMS_PARM_01", Tag(0x0043, 0x39)),
    ("Philips Imaging DD 001", Tag(0x2001, 0x03)),
];
/// GE adds it to the b-values of acquisitions of several directions.
const GE_OFFSET: f64 = 1e9;
/// No scanner reaches it, in s/mm².
const B_VALUE_MAX: f64 = 1e6;

/// Diffusion b-value (0018,9087), or what its vendor says in an attribute of its own.
pub(super) fn b_value(object: &InMemDicomObject) -> Option<String> {
    text(object, tags::DIFFUSION_B_VALUE).or_else(|| {
        let stated = |(creator, tag): &(&str, Tag)| first_number(object, private(object, creator, *tag)?);
        let values = PRIVATE_B_VALUES.iter().filter_map(stated).map(|value| value % GE_OFFSET);
        let mut sensible = values.filter(|value| (0.0..B_VALUE_MAX).contains(value));
        sensible.next().map(|value| value.to_string())
    })
}

/// Where an element of a private block lies: which block is its creator's is for each file to say.
fn private(object: &InMemDicomObject, creator: &str, element: Tag) -> Option<Tag> {
    let group = element.group();
    let mut blocks = object.tags().filter(|tag| tag.group() == group && (0x10..=0xFF).contains(&tag.element()));
    let own = blocks.find(|block| text(object, *block).is_some_and(|owner| owner == creator))?;
    Some(Tag(group, own.element() << 8 | element.element()))
}

/// The first number of an attribute, also where nothing says what its bytes are: then text (IS, DS), or one FL.
fn first_number(object: &InMemDicomObject, tag: Tag) -> Option<f64> {
    let number = |text: &str| text.split('\\').next()?.trim_matches([' ', '\0']).parse::<f64>().ok();
    match object.get(tag)?.value() {
        Value::Primitive(PrimitiveValue::U8(bytes)) => {
            let said = std::str::from_utf8(bytes).ok().and_then(number);
            said.or_else(|| Some(f32::from_le_bytes(bytes.as_slice().try_into().ok()?).into()))
        }
        _ => number(&text(object, tag)?),
    }
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
    use dicom_core::{DataElement, VR};

    use super::*;

    /// An object with these elements.
    fn object(elements: &[(Tag, VR, PrimitiveValue)]) -> InMemDicomObject {
        InMemDicomObject::from_element_iter(
            elements.iter().map(|(tag, vr, value)| DataElement::new(*tag, *vr, value.clone())),
        )
    }

    #[test]
    fn b_values_are_found_in_the_block_that_their_vendor_reserved() {
        let owner = |group, block, name: &str| (Tag(group, block), VR::LO, PrimitiveValue::from(name));
        let siemens = |block: u16, value: &str| {
            let value = PrimitiveValue::from(value);
            object(&[
                owner(0x0019, 0x10, "SOMEBODY ELSE"),
                owner(0x0019, block, "SIEMENS MR HEADER "),
                (Tag(0x0019, 0x100C), VR::IS, PrimitiveValue::from("7")),
                (Tag(0x0019, block << 8 | 0x0C), VR::IS, value),
            ])
        };
        assert_eq!(b_value(&siemens(0x11, "800")).as_deref(), Some("800"));
        assert_eq!(b_value(&siemens(0xE0, "0 ")).as_deref(), Some("0"));
        assert_eq!(b_value(&siemens(0x11, "-1")), None);
        let nobodys = object(&[(Tag(0x0019, 0x100C), VR::IS, PrimitiveValue::from("7"))]);
        assert_eq!(b_value(&nobodys), None, "a block that nobody reserved");
        let ge = |first: &str| {
            let values = [first, "8", "0", "0"].map(str::to_owned);
            let values = PrimitiveValue::Strs(values.into_iter().collect());
            b_value(&object(&[owner(0x0043, 0x10, "GEMS_PARM_01"), (Tag(0x0043, 0x1039), VR::IS, values)]))
        };
        assert_eq!(ge("1000001500").as_deref(), Some("1500"));
        assert_eq!(ge("700").as_deref(), Some("700"));
        let philips = |vr, value| {
            b_value(&object(&[owner(0x2001, 0x10, "Philips Imaging DD 001"), (Tag(0x2001, 0x1003), vr, value)]))
        };
        assert_eq!(philips(VR::FL, PrimitiveValue::from(1000f32)).as_deref(), Some("1000"));
        // Of implicit VR nothing says what it is.
        let bytes = |bytes: &[u8]| PrimitiveValue::U8(bytes.iter().copied().collect());
        assert_eq!(philips(VR::UN, bytes(&50f32.to_le_bytes())).as_deref(), Some("50"));
        assert_eq!(philips(VR::UN, bytes(b"50\\1 ")).as_deref(), Some("50"));
        assert_eq!(philips(VR::UN, bytes(&f32::NAN.to_le_bytes())), None);
        assert_eq!(philips(VR::UN, bytes(&[1, 2, 3])), None);
    }

    #[test]
    fn what_the_standard_has_an_attribute_for_is_taken_from_it() {
        let stated = |value: f64| {
            b_value(&object(&[
                (tags::DIFFUSION_B_VALUE, VR::FD, PrimitiveValue::from(value)),
                (Tag(0x0019, 0x10), VR::LO, PrimitiveValue::from("SIEMENS MR HEADER")),
                (Tag(0x0019, 0x100C), VR::IS, PrimitiveValue::from("7")),
            ]))
        };
        assert_eq!(stated(1000.0).as_deref(), Some("1000"));
    }

    #[test]
    fn numbers_are_compared_by_their_size_and_come_before_text() {
        assert_eq!(compare("-0\\0\\1", "0\\0\\1.0"), Ordering::Equal);
        assert_eq!(compare("9", "10"), Ordering::Less);
        assert_eq!(compare("10", "A"), Ordering::Less);
    }
}
