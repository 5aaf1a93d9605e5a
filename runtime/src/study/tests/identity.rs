//! Patients, studies, series, and what is repaired.

use super::*;

#[test]
fn two_patients_are_refused_without_naming_them() {
    let with = |tag, vr, value: &str| {
        let folder = Folder::of_slices(2);
        let mut object = slice(2);
        set(&mut object, tag, vr, value);
        folder.add("other.dcm", &object);
        let refusal = folder.read().map(|_| ()).map_err(|e| e.to_string());
        if let Err(text) = &refusal {
            assert!(!text.contains("OTHER") && !text.to_lowercase().contains("secret"), "no patient data: {text}");
        }
        refusal
    };
    let refusal = with(tags::PATIENT_ID, VR::LO, "OTHER").expect_err("refused");
    says(&refusal, &["2 patients", "PatientID (0010,0020)"]);
    assert_eq!(with(tags::PATIENT_ID, VR::LO, ""), Ok(()), "an empty ID contradicts none");
    assert_eq!(with(tags::PATIENT_NAME, VR::PN, "SECRET^NAME^^"), Ok(()), "spelling");
    let folder = Folder::new();
    for (i, birth) in ["19500101", "19500102"].iter().enumerate() {
        let mut object = slice(i);
        set(&mut object, tags::PATIENT_BIRTH_DATE, VR::DA, birth);
        folder.add(&format!("{i}"), &object);
    }
    says(&folder.refusal(), &["PatientBirthDate (0010,0030)"]);
    let folder = Folder::new();
    for (i, name) in ["A^B", "C^D"].iter().enumerate() {
        let mut object = slice(i);
        set(&mut object, tags::PATIENT_ID, VR::LO, "");
        set(&mut object, tags::PATIENT_NAME, VR::PN, name);
        folder.add(&format!("{i}"), &object);
    }
    says(&folder.refusal(), &["PatientName (0010,0010)"]);
}

#[test]
fn two_studies_are_refused_with_their_uids_and_counts() {
    let folder = Folder::of_slices(2);
    let mut object = slice(2);
    set(&mut object, tags::STUDY_INSTANCE_UID, VR::UI, "2.25.9");
    let other = folder.add("other.dcm", &object);
    says(&folder.refusal(), &["2 studies: 2.25.1 (2 files), 2.25.9 (1 files)", "give the folder or the files of one"]);
    let study = read(&[other], &options()).expect("one of them alone");
    assert_eq!(study.uid, "2.25.9");
}

#[test]
fn series_come_in_order_of_acquisition_and_one_bad_series_does_not_spoil_the_study() {
    let folder = Folder::new();
    for (uid, number, time, position) in [
        ("2.25.20", "", "080000", "0\\0\\0"),
        ("2.25.21", "10", "080000", "0\\0\\0"),
        ("2.25.22", "9", "110000", "0\\0\\0"),
        ("2.25.23", "9", "100000", ""),
    ] {
        let object = changed(|o| {
            set(o, tags::SERIES_INSTANCE_UID, VR::UI, uid);
            set(o, tags::SERIES_NUMBER, VR::IS, number);
            set(o, tags::SERIES_TIME, VR::TM, time);
            set(o, tags::IMAGE_POSITION_PATIENT, VR::DS, position);
        });
        folder.add(uid, &object);
    }
    let study = folder.read().expect("a study");
    let order: Vec<_> = study.series.iter().map(|s| s.uid.as_str()).collect();
    assert_eq!(order, ["2.25.23", "2.25.22", "2.25.21", "2.25.20"]);
    let bad = &study.series[0];
    assert!(bad.volumes.is_empty() && bad.refused.is_some() && bad.instances.len() == 1);
    says(&study.warnings.join("\n"), &["no volume: series 2.25.23", "ImagePositionPatient"]);
    let refused = bad.decode(0, &Budget::unlimited(), &options()).expect_err("refused").to_string();
    says(&refused, &["series 2.25.23", "ImagePositionPatient (0020,0032)"]);
    let none = study.series[1].decode(1, &Budget::unlimited(), &options()).expect_err("no such volume");
    assert!(matches!(none, ReadError::NoSuchVolume { index: 1, count: 1 }), "{none}");
}

#[test]
fn when_no_series_gives_a_volume_all_reasons_are_given() {
    let folder = Folder::new();
    for uid in ["2.25.20", "2.25.21"] {
        folder.add(
            uid,
            &changed(|o| {
                set(o, tags::SERIES_INSTANCE_UID, VR::UI, uid);
                set(o, tags::IMAGE_POSITION_PATIENT, VR::DS, "");
            }),
        );
    }
    says(&folder.refusal(), &["no series gives a volume", "series 2.25.20: ", "series 2.25.21: "]);
}

#[test]
fn what_is_no_image_is_left_out_with_a_warning() {
    let folder = Folder::of_slices(2);
    folder.add(
        "sr.dcm",
        &changed(|o| {
            set(o, tags::MODALITY, VR::CS, "SR");
            set(o, tags::SOP_CLASS_UID, VR::UI, uids::COMPREHENSIVE_SR_STORAGE);
            o.remove_element(tags::ROWS);
            set(o, tags::SERIES_INSTANCE_UID, VR::UI, "2.25.5");
            o.remove_element(tags::PIXEL_DATA);
        }),
    );
    folder.add(
        "seg.dcm",
        &changed(|o| {
            set(o, tags::MODALITY, VR::CS, "SEG");
            set(o, tags::SOP_CLASS_UID, VR::UI, uids::SEGMENTATION_STORAGE);
            set(o, tags::SERIES_INSTANCE_UID, VR::UI, "2.25.6");
        }),
    );
    folder.add_bytes("readme.txt", b"not DICOM");
    folder.add_bytes("empty", b"");
    let study = folder.read().expect("a study");
    assert_eq!(study.series.len(), 1);
    let warnings = study.warnings.join("\n");
    says(&warnings, &["2 files that are not DICOM", "left out (modality SR)", "left out (modality SEG)"]);
    let only = Folder::new();
    only.add(
        "sr.dcm",
        &changed(|o| {
            set(o, tags::SOP_CLASS_UID, VR::UI, uids::COMPREHENSIVE_SR_STORAGE);
            o.remove_element(tags::ROWS);
            o.remove_element(tags::PIXEL_DATA);
        }),
    );
    says(&only.refusal(), &["none of the 1 DICOM objects"]);
}

#[test]
fn localizers_among_the_slices_are_left_out_and_a_series_of_them_stays() {
    let localizer = |uid: &str| {
        changed(|o| {
            set(o, tags::IMAGE_TYPE, VR::CS, "ORIGINAL\\PRIMARY\\LOCALIZER");
            set(o, tags::SOP_INSTANCE_UID, VR::UI, "2.25.88");
            set(o, tags::IMAGE_ORIENTATION_PATIENT, VR::DS, "1\\0\\0\\0\\0\\-1");
            set(o, tags::SERIES_INSTANCE_UID, VR::UI, uid);
        })
    };
    let folder = Folder::of_slices(3);
    folder.add("scout.dcm", &localizer("2.25.2"));
    let study = folder.read().expect("a study");
    assert_eq!(study.series[0].instances.len(), 3);
    says(&study.warnings.join("\n"), &["series 2.25.2: 1 localizers"]);
    folder.add("scout.dcm", &localizer("2.25.30"));
    let study = folder.read().expect("a study");
    assert_eq!(study.series.len(), 2);
    assert!(study.series.iter().all(|s| s.volumes.len() == 1));
}

#[test]
fn empty_uids_are_repaired_the_same_way_each_time_or_refused_when_strict() {
    let folder = Folder::new();
    let empty = [tags::SOP_CLASS_UID, tags::SOP_INSTANCE_UID, tags::STUDY_INSTANCE_UID, tags::SERIES_INSTANCE_UID];
    for i in 0..2 {
        // File meta takes the instance UID before it is emptied.
        let path = folder.add("x", &slice(i));
        let mut file = dicom_object::open_file(&path).expect("what was just written");
        for tag in empty {
            set(&mut file, tag, VR::UI, "");
        }
        file.write_to_file(folder.path().join(format!("{i}.dcm"))).expect("a written file");
    }
    std::fs::remove_file(folder.path().join("x")).expect("removed");
    let study = folder.read().expect("a study");
    let series = &study.series[0];
    assert_eq!(series.instances[1].sop_instance_uid, "2.25.10001");
    assert_eq!(series.instances[1].sop_class_uid, uids::CT_IMAGE_STORAGE);
    // Written down: a change would give results of the same images other identities.
    assert_eq!(study.uid, "2.25.215229876598863599594761512840345369147");
    assert_eq!(series.uid, "2.25.236729232632748994352649572766028933291");
    for (keyword, value) in [
        ("SOPClassUID", uids::CT_IMAGE_STORAGE),
        ("SOPInstanceUID", "2.25.10000"),
        ("StudyInstanceUID", &study.uid),
        ("SeriesInstanceUID", &series.uid),
    ] {
        assert_eq!(series.attribute(keyword).as_deref(), Some(value));
    }
    let warnings = study.warnings.join("\n");
    says(&warnings, &["2 files: ", "(0008,0016)", "(0008,0018)", "(0020,000D)", "(0020,000E)", "(0020,0052)"]);
    let strict = ReadOptions { strict: true, ..options() };
    let refused = read(&[folder.path().to_owned()], &strict).expect_err("refused").to_string();
    says(&refused, &["2 files", "SOPInstanceUID (0008,0018)", "without strict"]);
    let whole = Folder::of_slices(2);
    read(&[whole.path().to_owned()], &strict).expect("nothing to repair");
}

#[test]
fn without_anything_to_derive_a_study_from_it_is_refused() {
    let refusal = refusal_of(|o| {
        set(o, tags::STUDY_INSTANCE_UID, VR::UI, "");
        set(o, tags::FRAME_OF_REFERENCE_UID, VR::UI, "");
    });
    says(&refusal, &["StudyInstanceUID (0020,000D) is empty", "(0020,0052)"]);
    says(&refusal_of(|o| set(o, tags::SERIES_INSTANCE_UID, VR::UI, "../../etc")), &["(0020,000E) is no UID"]);
}

#[test]
fn paths_that_give_nothing_are_errors() {
    let folder = Folder::new();
    says(&folder.refusal(), &["no DICOM file among the 0 files"]);
    let text = folder.add_bytes("readme.txt", &[b'x'; 200]);
    says(&folder.refusal(), &["no DICOM file among the 1 files"]);
    let named = read(&[text], &options()).expect_err("named, so it must be DICOM").to_string();
    says(&named, &["readme.txt", "not a DICOM file"]);
    let absent = read(&[folder.path().join("absent")], &options()).expect_err("absent").to_string();
    says(&absent, &["absent", "cannot be read"]);
}

#[test]
fn a_file_counts_once_however_often_it_is_named() {
    let folder = Folder::of_slices(3);
    let paths = [folder.path().join("s1.dcm"), folder.path().to_owned(), folder.path().join(".")];
    let study = read(&paths, &options()).expect("a study");
    assert_eq!(study.series[0].instances.len(), 3);
}

#[test]
fn each_image_says_which_grey_values_are_shown() {
    use crate::study::voi::{Function, Voi, Window};
    let stated = |change: &dyn Fn(&mut InMemDicomObject)| {
        let folder = Folder::new();
        folder.add("a.dcm", &changed(|o| change(o)));
        folder.read().expect("a study").series[0].instances[0].voi
    };
    let window = |o: &mut InMemDicomObject, width: &str, function: &str| {
        set(o, tags::WINDOW_CENTER, VR::DS, "40\\300");
        set(o, tags::WINDOW_WIDTH, VR::DS, width);
        set(o, tags::VOILUT_FUNCTION, VR::CS, function);
    };
    let table = |o: &mut InMemDicomObject| {
        let items = dicom_core::value::DataSetSequence::from(vec![InMemDicomObject::new_empty()]);
        o.put(DataElement::new(tags::VOILUT_SEQUENCE, VR::SQ, items));
    };
    let nothing = |o: &mut InMemDicomObject| {
        for tag in [tags::WINDOW_CENTER, tags::WINDOW_WIDTH] {
            o.remove_element(tag);
        }
    };
    let found = |width, function| Voi::Window(Window { centre: 40.0, width, function });
    assert_eq!(stated(&|o| window(o, "0.5\\1500", "SIGMOID ")), found(0.5, Some(Function::Sigmoid)));
    assert_eq!(stated(&|o| window(o, "400", "WAVES")), found(400.0, None), "no such function");
    assert_eq!(stated(&nothing), Voi::Nothing);
    assert_eq!(stated(&|o| [nothing(o), table(o)].into_iter().collect()), Voi::Table);
    assert_eq!(stated(&|o| [window(o, "0", ""), table(o)].into_iter().collect()), Voi::Table, "no width");
    assert_eq!(stated(&|o| [window(o, "400", ""), table(o)].into_iter().collect()), found(400.0, None));
}

#[test]
fn attributes_are_text_by_keyword() {
    let folder = Folder::new();
    folder.add(
        "a.dcm",
        &changed(|o| {
            set(o, tags::BODY_PART_EXAMINED, VR::CS, "CHEST ");
            set(o, tags::WINDOW_CENTER, VR::DS, "40\\300");
            o.put(DataElement::new(
                tags::ICON_IMAGE_SEQUENCE,
                VR::SQ,
                Value::from(dicom_core::value::DataSetSequence::new(
                    vec![InMemDicomObject::new_empty()],
                    dicom_core::Length::UNDEFINED,
                )),
            ));
        }),
    );
    let study = folder.read().expect("a study");
    let series = &study.series[0];
    assert_eq!(series.attribute("BodyPartExamined").as_deref(), Some("CHEST"));
    assert_eq!(series.attribute("WindowCenter").as_deref(), Some("40\\300"));
    assert_eq!(series.attribute("Rows").as_deref(), Some("3"));
    for none in ["StudyDescription", "NoSuchKeyword", "PixelData", "IconImageSequence"] {
        assert_eq!(series.attribute(none), None, "{none}");
    }
    assert!(series.header.get(tags::PIXEL_DATA).is_none());
    assert!(series.header.get(tags::ICON_IMAGE_SEQUENCE).is_none());
    assert!(is_keyword("BodyPartExamined") && !is_keyword("NoSuchKeyword") && !is_keyword("IconImageSequence"));
}

/// Two slices whose second has another value of `tag`.
fn differing(tag: Tag, vr: VR, values: [&str; 2]) -> Folder {
    let folder = Folder::of_slices(0);
    for (i, value) in values.into_iter().enumerate() {
        let mut object = slice(i);
        set(&mut object, tag, vr, value);
        folder.add_as(&format!("{i}.dcm"), &object, uids::EXPLICIT_VR_LITTLE_ENDIAN);
    }
    folder
}

#[test]
fn another_sex_or_issuer_is_another_patient() {
    says(&differing(tags::PATIENT_SEX, VR::CS, ["F", "M"]).refusal(), &["PatientSex (0010,0040)"]);
    says(&differing(tags::ISSUER_OF_PATIENT_ID, VR::LO, ["A", "B"]).refusal(), &["IssuerOfPatientID (0010,0021)"]);
    differing(tags::PATIENT_SEX, VR::CS, ["F", ""]).read().expect("an empty value contradicts none");
}

#[test]
fn another_spelling_of_the_name_is_a_warning_and_when_strict_another_patient() {
    let folder = differing(tags::PATIENT_NAME, VR::PN, ["Secret^Name", "Secret^N"]);
    let study = folder.read().expect("one patient");
    let warning = study.warnings.iter().find(|w| w.contains("PatientName (0010,0010)")).expect("a warning");
    assert!(!warning.to_lowercase().contains("secret"), "{warning}");
    let strict = ReadOptions { strict: true, ..options() };
    says(&read(&[folder.path().to_owned()], &strict).expect_err("refused").to_string(), &["PatientName (0010,0010)"]);
}
