//! Private attributes that identify nobody (PS3.15 E.3.10).

use std::collections::HashSet;

use dicom_core::{Tag, VR};

use super::parse::{DataSet, Encoding, Value, ascii, find};

/// Of table E.3.10-1: creator, group, elements within the block. Not all of the table: those of which two sources agree.
const SAFE: [(&str, u16, &[u8]); 16] = [
    ("Philips PET Private Group", 0x7053, &[0x00, 0x09]),
    ("ELSCINT1", 0x00E1, &[0x21]),
    ("ELSCINT1", 0x01E1, &[0x26]),
    ("ELSCINT1", 0x01F1, &[0x01, 0x07, 0x26, 0x27]),
    ("GEMS_ACQU_01", 0x0019, &[0x23, 0x24, 0x27, 0x9E]),
    ("GEMS_SERS_01", 0x0025, &[0x07]),
    ("GEMS_PARM_01", 0x0043, &[0x27, 0x39, 0x6F]),
    ("GEMS_HELIOS_01", 0x0045, &[0x01, 0x02]),
    (
        "GEMS_SENO_02",
        0x0045,
        &[0x06, 0x1B, 0x20, 0x27, 0x29, 0x2A, 0x2B, 0x49, 0x58, 0x59, 0x60, 0x61, 0x64, 0x71, 0x72, 0x90],
    ),
    ("GEIIS PACS", 0x0903, &[0x10, 0x11, 0x12]),
    ("Philips Imaging DD 001", 0x2001, &[0x03, 0x04]),
    ("Philips MR Imaging DD 001", 0x2005, &[0x0D, 0x0E]),
    ("SIEMENS MR HEADER", 0x0019, &[0x0C, 0x0D, 0x0E, 0x27]),
    (
        "HOLOGIC, Inc.",
        0x0019,
        &[0x06, 0x07, 0x08, 0x16, 0x25, 0x26, 0x27, 0x28, 0x29, 0x30, 0x31, 0x32, 0x33, 0x34, 0x35, 0x37],
    ),
    ("HOLOGIC, Inc.", 0x7E01, &[0x01, 0x02]),
    ("HOLOGIC, Inc.", 0x7F01, &[0x01, 0x02]),
];
const PRIVATE_DATA_ELEMENT_CHARACTERISTICS: Tag = Tag(0x0008, 0x0300);
const GROUP_REFERENCE: Tag = Tag(0x0008, 0x0301);
const CREATOR_REFERENCE: Tag = Tag(0x0008, 0x0302);
const STATUS: Tag = Tag(0x0008, 0x0303);
const NONIDENTIFYING: Tag = Tag(0x0008, 0x0304);

/// The elements of a data set or item that may stay: private ones that are known not to identify, with their creators.
pub(super) fn safe(set: &DataSet<'_>, encoding: Encoding) -> HashSet<Tag> {
    let mut safe = HashSet::new();
    for creator in set.iter().filter(|e| e.tag.0 % 2 == 1 && (0x10..=0xFF).contains(&e.tag.1)) {
        let (group, block) = (creator.tag.0, creator.tag.1);
        let name = ascii(Some(creator));
        let listed = |element: u8| {
            SAFE.iter().any(|&(by, of, elements)| by == name && of == group && elements.contains(&element))
        };
        let stated = stated(set, group, name, encoding);
        let kept = set.iter().filter(|e| e.tag.0 == group && e.tag.1 >> 8 == block).filter(|e| {
            let [_, element] = e.tag.1.to_be_bytes();
            listed(element) || stated.as_ref().is_some_and(|s| s.is_empty() || s.contains(&u16::from(element)))
        });
        let before = safe.len();
        safe.extend(kept.map(|e| e.tag));
        if safe.len() > before {
            safe.insert(creator.tag);
        }
    }
    safe
}

/// What the object itself says of a block (PS3.3 C.12.1.1.7): the elements that identify nobody, none named meaning all; nothing
/// where it says nothing of the kind.
fn stated(set: &DataSet<'_>, group: u16, creator: &str, encoding: Encoding) -> Option<Vec<u16>> {
    let Value::Items(items, _) = &find(set, PRIVATE_DATA_ELEMENT_CHARACTERISTICS)?.value else { return None };
    let item = items.iter().map(|item| &item.elements).find(|item| {
        super::parse::number(item, GROUP_REFERENCE, encoding) == Some(group)
            && ascii(find(item, CREATOR_REFERENCE)) == creator
    })?;
    match ascii(find(item, STATUS)) {
        "SAFE" => Some(Vec::new()),
        "MIXED" => {
            let bytes = find(item, NONIDENTIFYING).filter(|e| e.vr == VR::US)?.bytes();
            let numbers: Vec<u16> = bytes.chunks_exact(2).map(|pair| encoding.u16([pair[0], pair[1]]) & 0xFF).collect();
            (!numbers.is_empty()).then_some(numbers)
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::super::parse::Element;
    use super::*;

    fn set(creator: &'static str) -> DataSet<'static> {
        vec![
            Element::text(Tag(0x0019, 0x0010), VR::LO, creator),
            Element::text(Tag(0x0019, 0x100C), VR::IS, "1000"),
            Element::text(Tag(0x0019, 0x1008), VR::LO, "Doe"),
            Element::text(Tag(0x0019, 0x110C), VR::IS, "1000"),
        ]
    }

    #[test]
    fn only_what_is_listed_under_its_creator_is_safe() {
        let kept = safe(&set("SIEMENS MR HEADER"), Encoding::EXPLICIT);
        assert_eq!(kept, HashSet::from([Tag(0x0019, 0x0010), Tag(0x0019, 0x100C)]));
        assert!(safe(&set("SOMEBODY ELSE"), Encoding::EXPLICIT).is_empty());
    }

    #[test]
    fn what_the_object_calls_safe_is() {
        let item = vec![
            Element::new(GROUP_REFERENCE, VR::US, vec![0x19, 0]),
            Element::text(CREATOR_REFERENCE, VR::LO, "SOMEBODY ELSE"),
            Element::text(STATUS, VR::CS, "MIXED"),
            Element::new(NONIDENTIFYING, VR::US, vec![0x0C, 0]),
        ];
        let mut set = set("SOMEBODY ELSE");
        let items = vec![super::super::parse::Item { elements: item, defined: true }];
        set.insert(
            0,
            Element { tag: PRIVATE_DATA_ELEMENT_CHARACTERISTICS, vr: VR::SQ, value: Value::Items(items, true) },
        );
        assert_eq!(safe(&set, Encoding::EXPLICIT), HashSet::from([Tag(0x0019, 0x0010), Tag(0x0019, 0x100C)]));
    }
}
