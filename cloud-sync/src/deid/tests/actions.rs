use super::super::Dates;
use super::*;

const IDENTIFIERS: [&str; 17] = [
    "Mustermann",
    "Erika",
    "山田",
    "花子",
    "4471199",
    "77123",
    "Gallus",
    "Quincke",
    "Heinrich",
    "CTROOM7",
    "SN0060064",
    "1.2.3.4",
    "1.2.3.5",
    "1.2.3.6",
    "19310812",
    "091Y",
    "20230310",
];

#[test]
fn nothing_of_the_patient_is_left_under_any_preset() {
    for name in ["basic", "qa-minimal", "retraining", "metadata-only"] {
        let out = out(profile(name), &ct());
        let device = ["retraining", "metadata-only"].contains(&name);
        for identifier in IDENTIFIERS.iter().filter(|i| !(device && ["CTROOM7", "SN0060064"].contains(i))) {
            assert!(!out.holds(identifier), "{name}: {identifier}");
        }
        assert_eq!(&out.bytes[..128], [0; 128]);
    }
}

#[test]
fn a_code_stays_where_somebody_is_called_as_one_beside_it() {
    let image_type = |name: &'static str, value: &'static str| {
        let set = ct_with(vec![text(tags::PATIENT_NAME, VR::PN, name), text(tags::IMAGE_TYPE, VR::CS, value)]);
        out(Profile::default(), &set).text(tags::IMAGE_TYPE)
    };
    let perfusion = "DERIVED\\PRIMARY\\PERFUSION\\RCBF";
    assert_eq!(image_type("Perfusion^Primary", perfusion).as_deref(), Some(perfusion));
    assert_eq!(image_type("Quincke^Perfusion", "DERIVED\\PRIMARY\\PERFUSION\\QUINCKE"), None);
}

#[test]
fn the_basic_profile_does_what_the_table_says() {
    let out = out(Profile::default(), &ct());
    // X/D and X/Z/D of type 3, X.
    for tag in
        [tags::SERIES_DATE, tags::STATION_NAME, tags::DEVICE_SERIAL_NUMBER, tags::PATIENT_AGE, tags::STUDY_DESCRIPTION]
    {
        assert_eq!(out.text(tag), None, "{tag}");
    }
    // Z, and Z/D of type 2.
    for tag in [
        tags::STUDY_DATE,
        tags::CONTENT_DATE,
        tags::REFERRING_PHYSICIAN_NAME,
        tags::PATIENT_SEX,
        tags::PATIENT_BIRTH_DATE,
    ] {
        assert_eq!(out.text(tag).as_deref(), Some(""), "{tag}");
    }
    // What the table does not name.
    assert_eq!(out.text(tags::MODALITY).as_deref(), Some("CT"));
    assert_eq!(out.text(tags::MANUFACTURER).as_deref(), Some("Siemens"));
    let pseudonym = out.text(tags::PATIENT_ID).expect("there");
    assert_eq!((out.text(tags::PATIENT_NAME), pseudonym.len()), (Some(pseudonym), 16));
}

#[test]
fn what_was_done_is_stated() {
    let stated = |profile: Profile| {
        let out = out(profile, &ct());
        let set = out.set();
        let Some(Value::Items(codes, _)) = find(&set, tags::DEIDENTIFICATION_METHOD_CODE_SEQUENCE).map(|e| &e.value)
        else {
            panic!("no codes")
        };
        let codes: Vec<String> =
            codes.iter().map(|item| ascii(find(&item.elements, tags::CODE_VALUE)).to_owned()).collect();
        assert_eq!(out.text(tags::PATIENT_IDENTITY_REMOVED).as_deref(), Some("YES"));
        assert!(out.text(tags::DEIDENTIFICATION_METHOD).is_some_and(|m| m.split('\\').all(|part| part.len() <= 64)));
        (codes, out.text(tags::LONGITUDINAL_TEMPORAL_INFORMATION_MODIFIED).unwrap_or_default())
    };
    assert_eq!(stated(Profile::default()), (vec!["113100".into()], "REMOVED".into()));
    let (codes, dates) = stated(profile("qa-minimal"));
    assert_eq!((codes.join(" ").as_str(), dates.as_str()), ("113100 113101 113104 113105 113107", "MODIFIED"));
    let kept = Profile { dates: Dates::Keep, ..Profile::default() };
    assert_eq!(stated(kept).1, "UNMODIFIED");
}

#[test]
fn uids_are_the_same_wherever_they_stand_and_class_uids_stay() {
    let by = with(Profile::default());
    let out = out(Profile::default(), &ct());
    assert_eq!(out.text(tags::SOP_INSTANCE_UID), Some(by.uid("1.2.3.4.1")));
    assert_eq!(out.text(tags::STUDY_INSTANCE_UID), Some(by.uid("1.2.3.4")));
    let set = out.set();
    let Some(Value::Items(items, _)) = find(&set, tags::REFERENCED_IMAGE_SEQUENCE).map(|e| &e.value) else {
        panic!("kept")
    };
    assert_eq!(ascii(find(&items[0].elements, tags::REFERENCED_SOP_INSTANCE_UID)), by.uid("1.2.3.4.2"));
    assert_eq!(ascii(find(&items[0].elements, tags::REFERENCED_SOP_CLASS_UID)), uids::CT_IMAGE_STORAGE);
    let (meta, _) = parse::meta(&out.bytes, &super::super::Limits::default()).expect("meta");
    assert_eq!(ascii(find(&meta, tags::MEDIA_STORAGE_SOP_INSTANCE_UID)), by.uid("1.2.3.4.1"));
}

#[test]
fn retained_uids_stay() {
    let out = out(Profile { retain_uids: true, ..Profile::default() }, &ct());
    assert_eq!(out.text(tags::STUDY_INSTANCE_UID).as_deref(), Some("1.2.3.4"));
    assert_eq!(out.text(tags::SOP_INSTANCE_UID).as_deref(), Some("1.2.3.4.1"));
}

#[test]
fn another_key_gives_other_pseudonyms_and_days() {
    let other = Deidentifier::new(profile("qa-minimal"), Secret::new(&[8; 32]).expect("a key"));
    let [one, two] =
        [&with(profile("qa-minimal")), &other].map(|by| Out::of(&by.deidentify_bytes(file(&ct())).expect("released")));
    for tag in [tags::PATIENT_ID, tags::SOP_INSTANCE_UID, tags::ACCESSION_NUMBER, tags::STUDY_DATE] {
        assert_ne!(one.text(tag), two.text(tag), "{tag}");
    }
}

#[test]
fn dates_move_together_and_times_stay() {
    let out = out(profile("qa-minimal"), &ct());
    let days = |tag| super::super::dates::days(&out.text(tag).expect("there")[..8]).expect("a date");
    assert_eq!(days(tags::SERIES_DATE) - days(tags::STUDY_DATE), 1);
    assert_eq!(days(tags::CONTENT_DATE) - days(tags::STUDY_DATE), 2);
    assert_eq!(days(tags::ACQUISITION_DATE_TIME), days(tags::STUDY_DATE));
    assert!(out.text(tags::ACQUISITION_DATE_TIME).is_some_and(|t| t.ends_with("101112.5+0100")));
    assert_eq!(out.text(tags::STUDY_TIME).as_deref(), Some("101112"));
    assert_eq!(out.text(tags::PATIENT_BIRTH_DATE).as_deref(), Some(""), "no option keeps it");
}

#[test]
fn what_is_no_date_goes_and_full_dates_stay() {
    let shift = out(profile("qa-minimal"), &ct_with(vec![text(tags::SERIES_DATE, VR::DA, "Erika")]));
    assert_eq!(shift.text(tags::SERIES_DATE).as_deref(), Some(""));
    let keep = out(Profile { dates: Dates::Keep, ..Profile::default() }, &ct());
    assert_eq!(keep.text(tags::SERIES_DATE).as_deref(), Some("20230311"));
    assert_eq!(keep.text(tags::PATIENT_BIRTH_DATE).as_deref(), Some(""));
}

#[test]
fn options_keep_what_they_name() {
    let patient = out(Profile { retain_patient_characteristics: true, ..Profile::default() }, &ct());
    assert_eq!(patient.text(tags::PATIENT_AGE).as_deref(), Some("090Y"), "capped");
    assert_eq!(patient.text(tags::PATIENT_SEX).as_deref(), Some("F"));
    assert_eq!(patient.text(tags::PATIENT_WEIGHT).as_deref(), Some("61"));
    let device = out(Profile { retain_device_identity: true, ..Profile::default() }, &ct());
    assert_eq!(device.text(tags::DEVICE_SERIAL_NUMBER).as_deref(), Some("SN0060064"));
    assert_eq!(device.text(tags::INSTITUTION_NAME), None);
    let institution = out(Profile { retain_institution_identity: true, ..Profile::default() }, &ct());
    assert_eq!(institution.text(tags::INSTITUTION_NAME).as_deref(), Some("Sankt Gallus Spital"));
    assert_eq!(institution.text(tags::DEVICE_SERIAL_NUMBER), None);
}

#[test]
fn descriptions_are_cleaned_or_gone() {
    let clean = Profile { clean_descriptors: true, ..Profile::default() };
    let cleaned = out(clean.clone(), &ct());
    assert_eq!(cleaned.text(tags::STUDY_DESCRIPTION).as_deref(), Some("CT chest Dr"));
    assert_eq!(cleaned.text(tags::SERIES_DESCRIPTION).as_deref(), Some("Thorax 1.0 mm"));
    assert_eq!(out(Profile::default(), &ct()).text(tags::SERIES_DESCRIPTION), None);
    let hold = Profile { unclear_text: super::super::Unclear::Hold, ..clean };
    let doubtful = ct_with(vec![text(tags::SERIES_DESCRIPTION, VR::LO, "for Kowalczyk")]);
    assert_eq!(held(hold, &doubtful), Held::Text(tags::SERIES_DESCRIPTION));
}

#[test]
fn private_attributes_go_but_for_safe_ones() {
    let set = ct_with(vec![
        text(Tag(0x0009, 0x0010), VR::LO, "Erika"),
        text(Tag(0x0019, 0x0010), VR::LO, "SIEMENS MR HEADER"),
        text(Tag(0x0019, 0x100C), VR::IS, "1000"),
        text(Tag(0x0019, 0x1008), VR::LO, "kept nowhere"),
    ]);
    let basic = out(Profile::default(), &set);
    assert!(basic.set().iter().all(|e| e.tag.0 % 2 == 0));
    let safe = out(Profile { retain_safe_private: true, ..Profile::default() }, &set);
    let private: Vec<Tag> = safe.set().iter().map(|e| e.tag).filter(|tag| tag.0 % 2 == 1).collect();
    assert_eq!(private, [Tag(0x0019, 0x0010), Tag(0x0019, 0x100C)]);
}

#[test]
fn identifiers_hide_nowhere() {
    let deep = |depth: usize| {
        (0..depth).fold(vec![text(tags::PATIENT_NAME, VR::PN, "Mustermann^Erika")], |inner, _| {
            vec![sequence(tags::REFERENCED_SERIES_SEQUENCE, vec![inner])]
        })
    };
    let mut elements = deep(4);
    elements.extend([
        // Wrong VR, binary, a code, a comment in the table's blind spots.
        Element::new(tags::PATIENT_ADDRESS, VR::OB, b"Erika Mustermann".to_vec()),
        Element::new(tags::ICC_PROFILE, VR::OB, b"\0\0\0\x01copyright Erika Mustermann\0\0".to_vec()),
        Element::new(Tag(0x0018, 0x9087), VR::FD, b"Mustermann Erika".to_vec()),
        text(tags::SCANNING_SEQUENCE, VR::CS, "MUSTERMANN"),
        text(tags::RESCALE_TYPE, VR::LO, "of Mustermann"),
        text(tags::SCAN_OPTIONS, VR::CS, "HELIX\\ERIKA"),
        text(Tag(0x0018, 0x1151), VR::IS, "4471199"),
        Element::new(Tag(0x6000, 0x3000), VR::OW, b"Mustermann".to_vec()),
        Element::new(Tag(0x5000, 0x3000), VR::OW, b"Mustermann".to_vec()),
        Element::new(Tag(0x0008, 0x0000), VR::UL, b"Erik".to_vec()),
        text(Tag(0x0008, 0x9FFE), VR::LO, "Mustermann"),
    ]);
    for name in ["basic", "qa-minimal", "retraining"] {
        let out = out(profile(name), &ct_with(elements.clone()));
        for identifier in ["Mustermann", "MUSTERMANN", "Erika", "ERIKA", "4471199"] {
            assert!(!out.holds(identifier), "{name}: {identifier}");
        }
    }
}

#[test]
fn a_sequence_within_un_is_cleaned_in_both_encodings() {
    let inner = vec![
        text(tags::REFERENCED_SOP_CLASS_UID, VR::UI, uids::CT_IMAGE_STORAGE),
        text(tags::REFERENCED_SOP_INSTANCE_UID, VR::UI, "1.2.3.4.1"),
        text(tags::PATIENT_NAME, VR::PN, "Mustermann^Erika"),
    ];
    let set = ct_with(vec![sequence(tags::REFERENCED_IMAGE_SEQUENCE, vec![inner])]);
    for syntax in ["1.2.840.10008.1.2", EXPLICIT] {
        let mut bytes = file_in(&set, syntax);
        if syntax == EXPLICIT {
            let at = bytes.windows(6).position(|w| w == [0x08, 0x00, 0x40, 0x11, b'S', b'Q']).expect("there");
            bytes[at + 4..at + 6].copy_from_slice(b"UN");
        }
        let out = Out::of(&with(Profile::default()).deidentify_bytes(bytes).expect("released"));
        assert!(!out.holds("Mustermann"), "{syntax}");
        assert!(out.holds(&with(Profile::default()).uid("1.2.3.4.1")), "{syntax}");
    }
}

fn report() -> DataSet<'static> {
    let item = |kind: &str, value: Element<'static>| {
        vec![text(tags::RELATIONSHIP_TYPE, VR::CS, "CONTAINS"), text(tags::VALUE_TYPE, VR::CS, kind), value]
    };
    let content = vec![
        item("TEXT", text(tags::TEXT_VALUE, VR::UT, "Nodule in the left lung of Mrs Mustermann")),
        item("PNAME", text(tags::PERSON_NAME, VR::PN, "Quincke^Heinrich")),
        item("UIDREF", text(tags::UID, VR::UI, "1.2.3.4.1")),
    ];
    let mut set = ct();
    set.retain(|e| e.tag.0 < 0x0028);
    super::super::pixels::put(&mut set, text(tags::SOP_CLASS_UID, VR::UI, uids::COMPREHENSIVE_SR_STORAGE));
    super::super::pixels::put(&mut set, text(tags::MODALITY, VR::CS, "SR"));
    set.push(sequence(tags::CONTENT_SEQUENCE, content));
    set
}

#[test]
fn structured_content_is_cleaned_or_replaced() {
    let basic = out(Profile::default(), &report());
    assert!(!basic.holds("Nodule") && basic.holds("REMOVED"));
    let by = with(Profile::default());
    let cleaned = out(Profile { clean_structured_content: true, ..Profile::default() }, &report());
    assert!(cleaned.holds("Nodule in the left lung of"));
    assert!(cleaned.holds(&by.uid("1.2.3.4.1")));
    for out in [basic, cleaned] {
        assert!(!out.holds("Mustermann") && !out.holds("Quincke"));
        assert_ne!(out.text(tags::CONTENT_DATE).as_deref(), Some(""), "type 1 in a report");
    }
}

#[test]
fn annotations_are_cleaned_or_replaced() {
    let annotation = vec![
        text(tags::GRAPHIC_LAYER, VR::CS, "LAYER1"),
        sequence(
            tags::TEXT_OBJECT_SEQUENCE,
            vec![vec![text(tags::UNFORMATTED_TEXT_VALUE, VR::ST, "nodule Mustermann")]],
        ),
    ];
    let mut set = ct();
    set.retain(|e| e.tag.0 < 0x0028);
    super::super::pixels::put(
        &mut set,
        text(tags::SOP_CLASS_UID, VR::UI, uids::GRAYSCALE_SOFTCOPY_PRESENTATION_STATE_STORAGE),
    );
    super::super::pixels::put(&mut set, text(tags::MODALITY, VR::CS, "PR"));
    set.push(sequence(tags::GRAPHIC_ANNOTATION_SEQUENCE, vec![annotation]));
    let basic = out(Profile::default(), &set);
    assert!(!basic.holds("nodule") && basic.holds("POINT") && basic.holds("LAYER1"));
    let cleaned = out(Profile { clean_graphics: true, ..Profile::default() }, &set);
    assert!(cleaned.holds("nodule") && !cleaned.holds("Mustermann"));
}

#[test]
fn what_is_known_of_the_patient_from_elsewhere_goes_too() {
    let by = with(profile("qa-minimal"));
    let mut nameless = ct_with(vec![text(tags::SERIES_DESCRIPTION, VR::LO, "Thorax contrast")]);
    super::super::pixels::put(&mut nameless, text(tags::STUDY_DESCRIPTION, VR::LO, "CT CHEST"));
    nameless.retain(|e| e.tag != tags::PATIENT_NAME);
    let mut known = super::super::Subject::default();
    known.add_name("Chest^Contrast");
    let out = Out::of(&by.deidentify_knowing(file(&nameless), &known).expect("released"));
    assert_eq!(out.text(tags::STUDY_DESCRIPTION).as_deref(), Some("CT"));
    assert_eq!(out.text(tags::SERIES_DESCRIPTION).as_deref(), Some("Thorax"));
}

#[test]
fn a_report_of_counts_holds_no_value() {
    let by = with(profile("qa-minimal"));
    let instance = by.deidentify_bytes(file(&ct())).expect("released");
    let report = instance.report();
    assert_eq!(report.count(tags::PATIENT_ID, super::super::Action::Pseudonym), 1);
    assert_eq!(report.count(tags::REFERENCED_SOP_INSTANCE_UID, super::super::Action::Uid), 1);
    let text = serde_json::to_string(report).expect("JSON") + &format!("{instance:?} {by:?}");
    assert!(IDENTIFIERS.iter().all(|identifier| !text.contains(identifier)), "{text}");
}
