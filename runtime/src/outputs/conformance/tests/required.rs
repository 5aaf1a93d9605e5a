//! Every attribute of every object, taken away and emptied: what the gate lets pass then is in `optional.txt`, and is of type 3
//! where it stands, of type 2 (empty), or of a type 1C whose condition does not hold.

use std::fmt::Write;

use dicom_core::value::DataSetSequence;
use dicom_core::{DataElement, PrimitiveValue, VR};
use dicom_dictionary_std::uids;

use super::*;

/// Every attribute, the first item of each sequence alone: places, and keywords.
fn places(object: &InMemDicomObject, above: &Place, name: &str, all: &mut Vec<(Place, Tag, String)>) {
    for element in object.iter() {
        let tag = element.header().tag;
        let keyword = crate::outputs::conformance::read::name(tag);
        let keyword = format!("{name}{}", keyword.split(' ').next().unwrap_or_default());
        all.push((above.clone(), tag, keyword.clone()));
        // Content items differ from one another; items of other sequences do not.
        let most = if tag == tags::CONTENT_SEQUENCE { usize::MAX } else { 1 };
        for (item, at) in element.items().unwrap_or_default().iter().zip(0..).take(most) {
            let place = above.iter().copied().chain([(tag, at)]).collect();
            places(item, &place, &format!("{keyword}."), all);
        }
    }
}

/// Of content items only what stands in the last two: a report has the same ones all over.
fn short(keyword: &str) -> String {
    match keyword.rsplit_once("ContentSequence.") {
        Some((_, rest)) => format!("ContentSequence.{rest}"),
        None => keyword.to_owned(),
    }
}

/// Keywords of the attributes to which `damage` may be done, each place of a keyword alike.
fn passes(whole: &Whole, which: usize, damage: impl Fn(&mut InMemDicomObject, Tag)) -> BTreeSet<String> {
    let mut all = Vec::new();
    places(&whole.objects[which], &vec![], "", &mut all);
    assert!(all.len() > 50, "an object has more than {}", all.len());
    let passed = all.into_iter().filter(|(place, tag, _)| {
        whole.changed(which, |object| inside(object, place, &mut |item| damage(item, *tag))).is_ok()
    });
    passed.map(|(.., keyword)| short(&keyword)).collect()
}

#[test]
fn nothing_that_an_object_needs_can_be_missing_or_empty() {
    let whole = Whole::new();
    let mut found = String::new();
    for which in [SEG, SR, MAP, STATE, CAPTURE] {
        let missing = passes(&whole, which, |item, tag| _ = item.remove_element(tag));
        let emptied = passes(&whole, which, |item, tag| {
            let element = item.element(tag).expect("there");
            let empty = match element.vr() {
                VR::SQ => DataElement::new(tag, VR::SQ, DataSetSequence::from(vec![])),
                vr => DataElement::new(tag, vr, PrimitiveValue::Empty),
            };
            item.put(empty);
        });
        for keyword in &missing | &emptied {
            let how = match (missing.contains(&keyword), emptied.contains(&keyword)) {
                (true, true) => "missing or empty",
                (true, false) => "missing",
                _ => "empty",
            };
            writeln!(found, "{}: {keyword} may be {how}", FILES[which].0).expect("into a string");
        }
    }
    assert!(found == include_str!("optional.txt"), "not as in optional.txt:\n{found}");
}

/// The classes of this object and those that its attributes follow from.
#[test]
fn a_fractional_segmentation_has_rules_of_its_own() {
    let whole = Whole::new();
    let fractional = |object: &mut InMemDicomObject| {
        let number =
            |object: &InMemDicomObject, tag| object.element(tag).expect("there").to_int::<usize>().expect("one");
        let frames = text(object, tags::NUMBER_OF_FRAMES).parse::<usize>().expect("a number");
        let pixels = number(object, tags::ROWS) * number(object, tags::COLUMNS) * frames;
        object.put_str(tags::SEGMENTATION_TYPE, VR::CS, "FRACTIONAL");
        object.put_str(tags::SEGMENTATION_FRACTIONAL_TYPE, VR::CS, "PROBABILITY");
        for (tag, value) in [
            (tags::MAXIMUM_FRACTIONAL_VALUE, 255u16),
            (tags::BITS_ALLOCATED, 8),
            (tags::BITS_STORED, 8),
            (tags::HIGH_BIT, 7),
        ] {
            object.put(DataElement::new(tag, VR::US, PrimitiveValue::from(value)));
        }
        object.put(DataElement::new(tags::PIXEL_DATA, VR::OB, PrimitiveValue::U8(vec![0; pixels].into())));
    };
    whole.changed(SEG, fractional).expect("conforms");
    for (tag, rule) in [(tags::SEGMENTATION_FRACTIONAL_TYPE, "type 1C"), (tags::MAXIMUM_FRACTIONAL_VALUE, "type 1C")] {
        let error = whole.changed(SEG, |object| {
            fractional(object);
            object.remove_element(tag);
        });
        assert!(error.expect_err("refused").rule.starts_with(rule));
    }
    let bits = whole.changed(SEG, |object| {
        object.put_str(tags::SEGMENTATION_TYPE, VR::CS, "FRACTIONAL");
        object.put_str(tags::SEGMENTATION_FRACTIONAL_TYPE, VR::CS, "PROBABILITY");
        object.put(DataElement::new(tags::MAXIMUM_FRACTIONAL_VALUE, VR::US, PrimitiveValue::from(1u16)));
    });
    assert!(bits.expect_err("refused").place.starts_with("BitsAllocated"));
}

#[test]
fn an_object_of_a_class_that_is_not_written_is_refused() {
    let whole = Whole::new();
    let error = whole.changed(SEG, |object| _ = object.put_str(tags::SOP_CLASS_UID, VR::UI, uids::CT_IMAGE_STORAGE));
    assert!(error.expect_err("refused").place.starts_with("SOPClassUID"));
}
