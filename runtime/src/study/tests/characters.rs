//! Names whose characters have the byte of a backslash in them.

use super::*;
use crate::study::inspect;

/// A file in this set whose texts hold 0x5C within characters, and in one place as a separator.
fn in_set(folder: &Folder, set_name: &str, syntax: &str, [family, given]: [&str; 2], code: [u8; 2]) -> PathBuf {
    let object = changed(|o| {
        set(o, tags::SPECIFIC_CHARACTER_SET, VR::CS, set_name);
        set(o, tags::PATIENT_NAME, VR::PN, &format!("{family}^{given}"));
        // Each ends in ASCII: the library that writes this file does not go back to it by itself (PS3.5 section 6.1.2.5.3).
        set(o, tags::OTHER_PATIENT_NAMES, VR::PN, &format!("{given}^{family}^A\\{family}^B"));
        o.put(DataElement::new(tags::PATIENT_COMMENTS, VR::LT, PrimitiveValue::from(format!("{given}, {given}."))));
        let mut item = InMemDicomObject::new_empty();
        set(&mut item, tags::REQUESTED_PROCEDURE_DESCRIPTION, VR::LO, &format!("{given} CT"));
        let mut own = InMemDicomObject::new_empty();
        set(&mut own, tags::SPECIFIC_CHARACTER_SET, VR::CS, "ISO_IR 192");
        set(&mut own, tags::REQUESTED_PROCEDURE_DESCRIPTION, VR::LO, "é");
        let items = dicom_core::value::DataSetSequence::from(vec![item, own]);
        o.put(DataElement::new(tags::REQUEST_ATTRIBUTES_SEQUENCE, VR::SQ, items));
    });
    let path = folder.add_as(&format!("{set_name}-{syntax}.dcm").replace('\\', "-"), &object, syntax);
    let bytes = std::fs::read(&path).expect("readable");
    let deflated = syntax == uids::DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN;
    assert!(deflated || bytes.windows(2).any(|pair| pair == code), "{set_name}: the file holds no {code:x?}");
    path
}

#[test]
fn a_name_is_whole_where_its_characters_hold_the_byte_of_a_backslash() {
    for (name, parts, code) in [
        ("GB18030", ["王", "誠運"], *b"\xd5\x5c"),
        ("GBK", ["錦", "誠"], *b"\xd5\x5c"),
        // What writers take for Shift JIS, and JIS X 0208 after an escape sequence.
        ("ISO_IR 13", ["表", "能"], *b"\x95\x5c"),
        ("ISO_IR 87", ["宮本", "學"], *b"\x35\x5c"),
    ] {
        for syntax in [EXPLICIT, uids::IMPLICIT_VR_LITTLE_ENDIAN, uids::DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN] {
            let folder = Folder::new();
            let path = in_set(&folder, name, syntax, parts, code);
            let [family, given] = parts;
            let entry = inspect(&path, &options()).expect("it is whole");
            assert_eq!(entry.patient.name, format!("{family}^{given}"), "{name} {syntax}");
            assert_eq!(character_set(&path, &options()).expect("readable"), name);
            let study = folder.read().expect("a study");
            let header = &study.series[0].header;
            let values = |tag| header.get(tag).expect("there").to_multi_str().expect("text").to_vec();
            assert_eq!(values(tags::PATIENT_NAME), [format!("{family}^{given}")], "{name} {syntax}");
            assert_eq!(values(tags::OTHER_PATIENT_NAMES), [format!("{given}^{family}^A"), format!("{family}^B")]);
            assert_eq!(values(tags::PATIENT_COMMENTS), [format!("{given}, {given}.")]);
            let items = header.get(tags::REQUEST_ATTRIBUTES_SEQUENCE).and_then(|e| e.items()).expect("items");
            let said = |item: &InMemDicomObject| text(item, tags::REQUESTED_PROCEDURE_DESCRIPTION).expect("text");
            assert_eq!(
                items.iter().map(said).collect::<Vec<_>>(),
                [format!("{given} CT"), "é".to_owned()],
                "{name} {syntax}"
            );
        }
    }
}

#[test]
fn what_is_no_text_in_its_set_is_as_the_parser_has_it() {
    let folder = Folder::new();
    // A lead byte at the end of the value, and nothing behind it.
    let object = changed(|o| {
        set(o, tags::SPECIFIC_CHARACTER_SET, VR::CS, "GB18030");
        set(o, tags::PATIENT_NAME, VR::PN, "QQ^QX");
    });
    let path = folder.add("cut.dcm", &object);
    let mut bytes = std::fs::read(&path).expect("readable");
    let at = bytes.windows(5).position(|w| w == b"QQ^QX").expect("there");
    bytes[at + 4] = 0xd5;
    folder.add_bytes("cut.dcm", &bytes);
    let entry = inspect(&path, &options()).expect("it is whole");
    assert!(entry.patient.name.starts_with("QQ^Q"), "not lost: {}", entry.patient.name.len());
}
