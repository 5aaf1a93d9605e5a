//! What a node keeps must be sound to its last byte.

use super::pixels::jpeg_2000;
use super::*;

fn kept(folder: &Folder) -> Result<Entry, String> {
    inspect(&folder.path().join("a.dcm"), &ReadOptions { strict: true, ..options() }).map_err(|e| e.to_string())
}

fn refused(bytes: &[u8]) -> String {
    let folder = Folder::new();
    folder.add_bytes("a.dcm", bytes);
    let refusal = kept(&folder).err().expect("refused");
    assert!(!refusal.to_lowercase().contains("secret"), "no patient data: {refusal}");
    refusal
}

fn bytes_as(transfer_syntax: &str, change: impl FnOnce(&mut InMemDicomObject)) -> Vec<u8> {
    let folder = Folder::new();
    std::fs::read(folder.add_as("a.dcm", &changed(change), transfer_syntax)).expect("the file")
}

#[test]
fn an_entry_has_what_files_are_found_by() {
    for ts in
        [EXPLICIT, uids::IMPLICIT_VR_LITTLE_ENDIAN, "1.2.840.10008.1.2.2", uids::DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN]
    {
        let folder = Folder::new();
        folder.add_as("a.dcm", &changed(|o| set(o, tags::NUMBER_OF_SERIES_RELATED_INSTANCES, VR::IS, "20")), ts);
        let entry = kept(&folder).expect(ts);
        assert_eq!((entry.sop_instance_uid.as_str(), entry.transfer_syntax_uid.as_str()), ("2.25.10000", ts));
        assert_eq!((entry.study.uid.as_str(), entry.series.uid.as_str()), ("2.25.1", "2.25.2"));
        assert_eq!((entry.patient.id.as_str(), entry.series.modality.as_str()), ("SECRET-ID", "CT"));
        assert_eq!(
            (entry.rows, entry.series.stated_instances, entry.study.stated_series),
            (Some(ROWS), Some(20), None)
        );
    }
}

#[test]
fn a_text_without_end_is_filed_cut() {
    for characters in [1024, 1025, 5000] {
        let text = "ä".repeat(characters);
        let object = changed(|o| {
            set(o, tags::SPECIFIC_CHARACTER_SET, VR::CS, "ISO_IR 192");
            set(o, tags::PATIENT_NAME, VR::PN, &text);
            set(o, tags::STUDY_DESCRIPTION, VR::LO, &text);
            set(o, tags::SERIES_DESCRIPTION, VR::LO, &text);
        });
        let folder = Folder::new();
        folder.add("a.dcm", &object);
        let entry = kept(&folder).expect("sound");
        let filed = "ä".repeat(1024);
        assert_eq!([entry.patient.name, entry.study.description, entry.series.description], [filed.as_str(); 3]);
    }
}

#[test]
fn a_file_cut_anywhere_is_refused() {
    let whole = bytes_as(EXPLICIT, |o| set(o, Tag(0x7FE1, 0x0010), VR::LO, "AFTER THE PIXELS"));
    let fragments = bytes_as(uids::JPEG2000_LOSSLESS, |o| encapsulate(o, &[&jpeg_2000(), &jpeg_2000()]));
    for bytes in [whole, fragments] {
        let pixels = bytes.windows(4).position(|w| w == [0xE0, 0x7F, 0x10, 0]).expect("Pixel Data");
        let after = bytes.windows(4).position(|w| w == [0xE1, 0x7F, 0x10, 0]);
        // Between two elements after the pixels a cut cannot be told.
        for end in (132..bytes.len()).filter(|end| Some(*end) != after) {
            let refusal = refused(&bytes[..end]);
            assert!(end <= pixels || refusal.contains("damaged"), "cut at {end}: {refusal}");
        }
    }
}

#[test]
fn what_lies_after_the_pixels_is_walked_too() {
    let whole = bytes_as(EXPLICIT, |_| {});
    let sequence = [0xFA, 0xFF, 0xFA, 0xFF, b'S', b'Q', 0, 0, 0xFF, 0xFF, 0xFF, 0xFF];
    let item = [0xFE, 0xFF, 0x00, 0xE0, 0xFF, 0xFF, 0xFF, 0xFF];
    let nested = [sequence.as_slice(), &item].concat();
    says(&refused(&[whole.as_slice(), &nested.repeat(100_000)].concat()), &["sequence_depth_max = 64"]);
    let long = [0xE1, 0x7F, 0x10, 0, b'U', b'T', 0, 0, 0xF0, 0xFF, 0xFF, 0xFF, 1];
    says(&refused(&[whole.as_slice(), &long].concat()), &["header_max_mib = 64"]);
}

#[test]
fn fragments_are_walked_to_their_end() {
    let item = [0xFE, 0xFF, 0x00, 0xE0];
    let fragments = bytes_as(uids::JPEG2000_LOSSLESS, |o| encapsulate(o, &[&jpeg_2000()]));
    let end = fragments.len() - 8;
    let endless = [&fragments[..end], &item, &[0xFF; 4]].concat();
    says(&refused(&endless), &["damaged", "no fragment where pixel data must have one"]);
    let beyond = [&fragments[..end], &item, &[0, 0, 0, 0x70]].concat();
    says(&refused(&beyond), &["damaged", "the file ends within"]);
}

#[test]
fn a_deflated_data_set_inflates_within_the_limit_for_files_and_no_further() {
    let folder = Folder::new();
    let object = changed(|o| {
        set_us(o, tags::ROWS, 1024);
        set_us(o, tags::COLUMNS, 1024);
        words(o, vec![0; 1024 * 1024]);
    });
    folder.add_as("a.dcm", &object, uids::DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN);
    kept(&folder).expect("2 MiB of zeros");
    let small = ReadOptions { file_max_mib: 1, ..options() };
    let refusal = inspect(&folder.path().join("a.dcm"), &small).err().expect("refused").to_string();
    says(&refusal, &["what a deflated data set inflates to", "file_max_mib = 1"]);
}

#[test]
fn uids_that_are_empty_or_wrong_are_refused_and_others_than_in_the_meta_information_are_told() {
    for tag in [tags::SOP_CLASS_UID, tags::SOP_INSTANCE_UID, tags::STUDY_INSTANCE_UID, tags::SERIES_INSTANCE_UID] {
        says(&refused(&bytes_as(EXPLICIT, |o| set(o, tag, VR::UI, ""))), &["is missing or empty"]);
        says(&refused(&bytes_as(EXPLICIT, |o| set(o, tag, VR::UI, "../../etc/x"))), &["is no UID"]);
    }
    let mut other = bytes_as(EXPLICIT, |_| {});
    let class = uids::CT_IMAGE_STORAGE.as_bytes();
    let at = other.windows(class.len()).position(|w| w == class).expect("Media Storage SOP Class UID");
    // MR.
    other[at + class.len() - 1] = b'4';
    let folder = Folder::new();
    folder.add_bytes("a.dcm", &other);
    assert_eq!(kept(&folder).expect("sound").contradicts_meta(), Some("SOPClassUID (0008,0016)"));
}

#[test]
fn an_image_without_pixels_is_refused_and_a_report_is_kept() {
    says(
        &refused(&bytes_as(EXPLICIT, |o| _ = o.remove_element(tags::PIXEL_DATA))),
        &["damaged", "before its pixel data"],
    );
}

#[test]
fn patients_differ_by_what_both_say() {
    let patient = |id: &str, name: &str, sex: &str| PatientEntry {
        id: id.into(),
        name: name.into(),
        sex: sex.into(),
        ..PatientEntry::default()
    };
    let known = patient("1", "A^B", "F");
    for (other, by) in [
        (patient("1", "A^B", "f"), None),
        (patient("1", "A^C", ""), None),
        (patient("2", "A^B", "F"), Some("PatientID (0010,0020)")),
        (patient("1", "A^B", "M"), Some("PatientSex (0010,0040)")),
        (patient("", "A^B^^", "F"), None),
        (patient("", "A^C", "F"), Some("PatientName (0010,0010)")),
    ] {
        assert_eq!(known.contradicts(&other), by);
    }
}
