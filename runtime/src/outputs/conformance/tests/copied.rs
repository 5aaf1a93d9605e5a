//! What a source states in ways that the standard does not foresee, or that are hard to read, comes back as it was.

use dicom_core::value::DataSetSequence;
use dicom_core::{DataElement, PrimitiveValue, VR};
use dicom_dictionary_std::uids;
use dicom_encoding::transfer_syntax::TransferSyntaxIndex;
use dicom_transfer_syntax_registry::TransferSyntaxRegistry;

use super::*;

fn plain() -> Study {
    study(&Geometry::new([20, 10, 4], [0.7, 0.8, 2.5], [0.0; 3], AXES).expect("a grid"))
}

/// A study with these elements of a source, as they are read from their bytes.
fn stating(elements: &[(Tag, VR, &[u8])]) -> Study {
    let mut study = plain();
    let mut sorted = elements.to_vec();
    sorted.sort_by_key(|(tag, ..)| *tag);
    let mut bytes = Vec::new();
    for (tag, vr, value) in sorted {
        let mut value = value.to_vec();
        if value.len() % 2 == 1 {
            value.push(b' ');
        }
        bytes.extend([tag.group().to_le_bytes(), tag.element().to_le_bytes()].concat());
        bytes.extend(vr.to_bytes());
        match vr {
            VR::UN => {
                bytes.extend([0; 2]);
                bytes.extend(u32::try_from(value.len()).expect("short").to_le_bytes());
            }
            _ => bytes.extend(u16::try_from(value.len()).expect("short").to_le_bytes()),
        }
        bytes.extend(value);
    }
    let syntax = TransferSyntaxRegistry.get(uids::EXPLICIT_VR_LITTLE_ENDIAN).expect("known");
    let read = InMemDicomObject::read_dataset_with_ts(&bytes[..], syntax).expect("readable");
    assert_eq!(read.iter().count(), elements.len());
    read.into_iter().for_each(|element| _ = study.series[0].header.put(element));
    study
}

fn conforms(study: Study) -> Whole {
    let whole = Whole::of(study);
    check_all(&whole.study, &whole.written, whole.folder.path()).expect("conforms");
    whole
}

#[test]
fn a_name_with_the_byte_of_a_backslash_is_a_name() {
    let gb: &[u8] = b"\x81\x5C\xBB\xAA^M";
    for (set, name) in [
        ("\\ISO 2022 IR 87", &b"Y^T=\x1B$B;3K\\\x1B(B"[..]),
        ("ISO_IR 192", b"M\xFCller^J"),
        ("GB18030", gb),
        ("GBK", gb),
    ] {
        let set = (tags::SPECIFIC_CHARACTER_SET, VR::CS, set.as_bytes());
        let whole = conforms(stating(&[set, (tags::PATIENT_NAME, VR::PN, name)]));
        let another = whole.changed(SEG, |object| _ = object.put_str(tags::PATIENT_NAME, VR::PN, "Doe^Jane"));
        assert!(another.expect_err("another's").place.starts_with("PatientName"));
    }
}

#[test]
fn several_values_of_one_study_are_the_sources_affair() {
    let whole = conforms(stating(&[
        (tags::ACCESSION_NUMBER, VR::SH, b"A1 \\A2"),
        (tags::PATIENT_ID, VR::LO, b" P1\\ P2"),
        (tags::STUDY_ID, VR::SH, b"1\\2"),
        (tags::STUDY_TIME, VR::TM, b"1000\\1100"),
        (tags::REFERRING_PHYSICIAN_NAME, VR::PN, b"A^B\\C^D"),
    ]));
    let fewer = whole.changed(SEG, |object| _ = object.put_str(tags::ACCESSION_NUMBER, VR::SH, "A1"));
    assert!(fewer.expect_err("one of two").place.starts_with("AccessionNumber"));
}

#[test]
fn what_an_archive_did_not_know_is_told_or_left_out() {
    let whole = conforms(stating(&[
        (tags::SPECIFIC_CHARACTER_SET, VR::CS, b"ISO_IR 100"),
        (tags::PATIENT_NAME, VR::UN, b"M\xFCller^J"),
        (tags::PATIENT_ID, VR::UN, b"P7"),
        (tags::STUDY_DATE, VR::UN, b"20200102"),
        (tags::TYPE_OF_PATIENT_ID, VR::UN, b"TEXT"),
        (tags::ISSUER_OF_PATIENT_ID, VR::UN, b"SITE"),
        (tags::STUDY_DESCRIPTION, VR::UN, b"CT"),
        (tags::BODY_PART_EXAMINED, VR::UN, b"CHEST"),
        (tags::LATERALITY, VR::UN, b"L"),
        (tags::ISSUER_OF_ACCESSION_NUMBER_SEQUENCE, VR::UN, b""),
        (tags::LONGITUDINAL_TEMPORAL_INFORMATION_MODIFIED, VR::UN, b"MODIFIED"),
    ]));
    for object in &whole.objects {
        assert_eq!((&*text(object, tags::PATIENT_NAME), &*text(object, tags::PATIENT_ID)), ("Müller^J", "P7"));
        assert!(object.element(tags::PATIENT_NAME).is_ok_and(|name| name.vr() == VR::PN));
        assert!(object.get(tags::TYPE_OF_PATIENT_ID).is_none() && object.get(tags::STUDY_DESCRIPTION).is_none());
    }
    for name in ["", "Doe^Jane"] {
        let another = whole.changed(SEG, |object| _ = object.put_str(tags::PATIENT_NAME, VR::PN, name));
        assert!(another.expect_err("not what it says").place.starts_with("PatientName"), "{name}");
    }
}

#[test]
fn copied_sequences_are_copied_to_the_last_element() {
    let code = |value: &str, meaning: &str| {
        let mut item = InMemDicomObject::new_empty();
        item.put_str(tags::CODE_VALUE, VR::SH, value);
        item.put_str(tags::CODING_SCHEME_DESIGNATOR, VR::SH, "L");
        item.put_str(tags::CODE_MEANING, VR::LO, meaning);
        item.put(DataElement::new(tags::SELECTOR_US_VALUE, VR::US, PrimitiveValue::from(7u16)));
        item
    };
    let sequence =
        |items: Vec<_>| DataElement::new(tags::PROCEDURE_CODE_SEQUENCE, VR::SQ, DataSetSequence::from(items));
    let mut study = plain();
    study.series[0].header.put(sequence(vec![code("a value of more than 16 signs", "Schädel")]));
    let whole = conforms(study);
    let in_first = [(tags::PROCEDURE_CODE_SEQUENCE, 0)];
    let changes: [&dyn Fn(&mut InMemDicomObject); 4] = [
        &|item| _ = item.put_str(tags::CODE_MEANING, VR::LO, "Hals"),
        &|item| _ = item.remove_element(tags::CODE_MEANING),
        &|item| _ = item.put_str(tags::CODE_VALUE, VR::SH, "another of more than 16 signs"),
        &|item| _ = item.put(DataElement::new(tags::SELECTOR_US_VALUE, VR::US, PrimitiveValue::from(8u16))),
    ];
    for (at, change) in changes.iter().enumerate() {
        let refused = whole.changed(SEG, |object| inside(object, &in_first, &mut |item| change(item)));
        assert!(refused.expect_err("not the source's").place.starts_with("ProcedureCodeSequence"), "{at}");
    }
}

#[test]
fn a_grid_at_45_degrees_has_two_nearest_sides() {
    let s = 0.5f64.sqrt();
    for axes in [
        [[s, s, 0.0], [0.0, 0.0, -1.0], [-s, s, 0.0]],
        [[s, -s, 0.0], [s, s, 0.0], [0.0, 0.0, 1.0]],
        [[0.0, s, -s], [1.0, 0.0, 0.0], [0.0, -s, -s]],
    ] {
        let whole = conforms(study(&Geometry::new([20, 10, 4], [0.7, 0.8, 2.5], [0.0; 3], axes).expect("a grid")));
        let turned = whole.changed(CAPTURE, |object| _ = object.put_str(tags::PATIENT_ORIENTATION, VR::CS, "R\\A"));
        assert!(turned.expect_err("opposite sides").place.starts_with("PatientOrientation"));
    }
}

#[test]
fn segments_are_numbered_from_1_without_a_gap() {
    let whole = Whole::new();
    for number in [1u16, 3] {
        let refused = whole.changed(SEG, |object| {
            inside(object, &[(tags::SEGMENT_SEQUENCE, 1)], &mut |item| {
                item.put(DataElement::new(tags::SEGMENT_NUMBER, VR::US, PrimitiveValue::from(number)));
            });
        });
        let refused = refused.expect_err("not 1 and 2");
        assert!(refused.place.starts_with("SegmentSequence[2].SegmentNumber"), "{refused}");
    }
}

/// Too many open files, or a disk that does not answer: nobody's fault, and it may pass.
#[test]
fn a_file_that_cannot_be_read_now_is_no_object_that_does_not_conform() {
    struct Fails<'a>(&'a [u8]);
    impl io::Read for Fails<'_> {
        fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
            match io::Read::read(&mut self.0, into)? {
                0 => Err(io::Error::other("no answer")),
                read => Ok(read),
            }
        }
    }
    let whole = Whole::new();
    let raw = bytes(&whole.objects[SEG]);
    let (length, half) = (raw.len() as u64, &raw[..600]);
    assert!(matches!(Object::read(Fails(half), length), Err(Unread::Io(_))));
    assert!(matches!(Object::read(half, length), Err(Unread::Broken(_))));
    let gone = [(&whole.written[SEG], whole.folder.path().join("gone.dcm"))];
    let error = check(gone, &Inputs::new(&whole.study, &[0])).expect_err("no file");
    assert!(matches!(error, CheckError::Unread { .. }), "{error}");
    assert!(matches!(crate::pipeline::RunError::from(error), crate::pipeline::RunError::Write(_)));
}
