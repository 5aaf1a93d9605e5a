//! What a person excuses goes through, says so, and excuses nothing else.

use std::sync::Arc;

use super::super::{Deidentified, Excuse, Excuses, Subject, Unclear};
use super::image::{Finds, cleaning, pixels, region, ultrasound};
use super::*;
use crate::held::{Reason, ReasonKind};
use crate::verify::{self, FalseAlarm, Kind, NotProven, Place, Retain, Unproven, Verifier};

fn excuses(all: impl IntoIterator<Item = Excuse>) -> Excuses {
    all.into_iter().collect()
}

fn excused(by: &Deidentifier, set: &DataSet<'_>, excuses: &Excuses) -> Result<Deidentified<Instance>, Held> {
    by.deidentify_excused(file(set), &Subject::default(), excuses)
}

fn head() -> DataSet<'static> {
    ct_with(vec![text(tags::BODY_PART_EXAMINED, VR::CS, "HEAD")])
}

fn holding() -> Profile {
    Profile { clean_descriptors: true, unclear_text: Unclear::Hold, ..Profile::default() }
}

/// A name that nothing marks as one, beside one that the data set knows.
fn unclear() -> DataSet<'static> {
    ct_with(vec![text(tags::STUDY_DESCRIPTION, VR::LO, "CT chest Zwackelmann, Mustermann")])
}

fn codes(out: &Out) -> Vec<String> {
    let set = out.set();
    let Some(Value::Items(items, _)) = find(&set, tags::DEIDENTIFICATION_METHOD_CODE_SEQUENCE).map(|e| &e.value) else {
        panic!("there are codes");
    };
    items.iter().map(|item| ascii(find(&item.elements, tags::CODE_VALUE)).to_owned()).collect()
}

#[test]
fn an_image_in_which_a_person_saw_no_text_leaves_and_says_so() {
    let seen = excuses([Excuse::NoTextSeen]);
    for profile in [Profile::default(), cleaning()] {
        let by = with(profile);
        let instance = excused(&by, &ultrasound(vec![]), &seen).expect("released");
        assert_eq!(instance.report().excused(), &seen);
        let json = serde_json::to_value(instance.report()).expect("JSON");
        assert_eq!(json["excused"], serde_json::json!(["no-text-seen"]));
        let out = Out::of(&instance);
        assert_eq!(pixels(&out), [9; 16]);
        assert_eq!(out.text(tags::BURNED_IN_ANNOTATION).as_deref(), Some("NO"));
        let method = out.text(tags::DEIDENTIFICATION_METHOD).expect("there");
        assert!(method.ends_with("\\excused by a person: no-text-seen"), "{method}");
        assert_eq!(codes(&out).contains(&"113101".to_owned()), by.profile().clean_pixel_data);
    }
    // What can be masked is, whatever a person saw, and a detector looks too.
    let masked = excused(&with(cleaning()), &ultrasound(vec![region(1, 1, 2, 3)]), &seen).expect("released");
    assert_eq!(pixels(&Out::of(&masked))[..5], [0; 5]);
    assert!(masked.report().excused().is_empty(), "nothing had to be excused");
    let found = Arc::new(Finds(vec![super::super::Rectangle { x: 2, y: 0, width: 2, height: 2 }]));
    let detecting = with(cleaning()).with_detector(found);
    assert_eq!(excused(&detecting, &ultrasound(vec![]), &seen).err(), Some(Held::TextInPixels));
    let read = excused(&detecting, &ultrasound(vec![]), &excuses([Excuse::FoundTextRead])).expect("released");
    assert_eq!(pixels(&Out::of(&read)), [9; 16], "the text that was read stays");
    assert!(read.report().excused().has(&Excuse::FoundTextRead));
}

#[test]
fn a_face_that_may_leave_is_not_said_to_be_clean() {
    let allowed = excuses([Excuse::FaceAllowed]);
    let option = Profile { clean_recognizable_visual_features: true, ..Profile::default() };
    for (profile, set, recognizable, cleans) in
        [(Profile::default(), head(), "YES", false), (option.clone(), head(), "YES", false), (option, ct(), "NO", true)]
    {
        let instance = excused(&with(profile), &set, &allowed).expect("released");
        let out = Out::of(&instance);
        assert_eq!(out.text(tags::RECOGNIZABLE_VISUAL_FEATURES).as_deref(), Some(recognizable));
        assert_eq!(codes(&out).contains(&"113102".to_owned()), cleans);
        assert_eq!(instance.report().excused().is_empty(), recognizable == "NO");
    }
}

#[test]
fn words_that_a_person_read_stay_and_identifiers_beside_them_go() {
    let by = with(holding());
    assert_eq!(held(holding(), &unclear()), Held::Text(tags::STUDY_DESCRIPTION));
    let read = excused(&by, &unclear(), &excuses([Excuse::TextRead(tags::STUDY_DESCRIPTION)])).expect("released");
    let out = Out::of(&read);
    assert_eq!(out.text(tags::STUDY_DESCRIPTION).as_deref(), Some("CT chest Zwackelmann"));
    let method = out.text(tags::DEIDENTIFICATION_METHOD).expect("there");
    assert!(method.ends_with("\\excused by a person: text-read (0008,1030)"), "{method}");

    let subject = by.subject(&file(&ct())).expect("whose it is");
    let result = br#"{"message": "like that of Zwackelmann and Mustermann"}"#;
    let held = by.deidentify_json(result, &subject).expect_err("held");
    let reason = Reason::from(&held);
    let json = by.deidentify_json_excused(result, &subject, &reason.excuses).expect("released");
    let json = String::from_utf8(json.into_bytes()).expect("text");
    assert!(json.contains("Zwackelmann") && !json.contains("Mustermann"), "{json}");
}

/// Everything that can be excused, but for what would help, helps nothing; and what is damaged cannot be.
#[test]
fn an_excuse_of_one_thing_excuses_nothing_else() {
    let alarm = FalseAlarm { kind: Kind::Name, place: Place::Element(vec![0x0010_0010]) };
    let all = [
        Excuse::NoTextSeen,
        Excuse::FoundTextRead,
        Excuse::FaceAllowed,
        Excuse::TextRead(tags::STUDY_DESCRIPTION),
        Excuse::TextRead(tags::SERIES_DESCRIPTION),
        Excuse::FalseAlarm(alarm),
    ];
    let document = ct_with(vec![text(tags::SOP_CLASS_UID, VR::UI, uids::ENCAPSULATED_PDF_STORAGE)]);
    let pressed = Element {
        tag: tags::PIXEL_DATA,
        vr: VR::OB,
        // An empty offset table and one frame.
        value: Value::Fragments(b"\xFE\xFF\x00\xE0\0\0\0\0\xFE\xFF\x00\xE0\x02\0\0\x0012".as_slice().into()),
    };
    let compressed = ultrasound(vec![region(1, 1, 2, 3), pressed]);
    let sets = [
        (Profile::default(), ultrasound(vec![]), EXPLICIT),
        (Profile::default(), head(), EXPLICIT),
        (holding(), unclear(), EXPLICIT),
        (Profile::default(), document, EXPLICIT),
        (cleaning(), compressed, "1.2.840.10008.1.2.4.50"),
    ];
    for (profile, set, syntax) in sets {
        let by = with(profile);
        let bytes = file_in(&set, syntax);
        let held = by.deidentify_bytes(bytes.clone()).expect_err("held");
        let helps = Reason::from(&held).excuses;
        let others = excuses(all.iter().filter(|excuse| !helps.has(excuse)).cloned());
        let still = by.deidentify_excused(bytes.clone(), &Subject::default(), &others);
        assert_eq!(still.err().as_ref(), Some(&held));
        let released = by.deidentify_excused(bytes, &Subject::default(), &helps).is_ok();
        assert_eq!(released, !helps.is_empty(), "{held}");
    }
}

/// Somebody is called as the maker of the scanner is.
#[test]
fn a_false_alarm_passes_at_its_place_and_nowhere_else() {
    let by = with(Profile::default());
    let source = file(&ct());
    let mut verifier = Verifier::new(Retain::from(by.profile()), verify::Limits::default());
    verifier.add_source(&source).expect("it can be followed");
    verifier.add_known(Kind::Id, "Siemens").expect("known");
    let scanner = verifier.scanner().expect("identifiers");
    let plain = by.deidentify_bytes(source.clone()).expect("released");
    let found = scanner.prove_instance(plain.as_bytes()).expect_err("it is there");
    let reason = Reason::from(&found);
    assert_eq!(reason.kind, ReasonKind::Leak);
    assert_eq!(reason.excuses.iter().map(ToString::to_string).collect::<Vec<_>>(), ["false-alarm id (0008,0070)"]);

    let elsewhere = FalseAlarm { kind: Kind::Id, place: Place::Element(vec![0x0008_1090]) };
    let another = FalseAlarm { kind: Kind::Name, place: Place::Element(vec![0x0008_0070]) };
    let nothing = scanner.prove_instance_but(plain.as_bytes(), [&elsewhere, &another]);
    assert_eq!(nothing.err(), Some(found), "another place, another kind");

    let excused = by.deidentify_excused(source, &Subject::default(), &reason.excuses).expect("released");
    assert_eq!(excused.as_bytes(), plain.as_bytes(), "nothing was done otherwise");
    let proof = scanner.prove_instance_but(excused.as_bytes(), reason.excuses.false_alarms()).expect("proven");
    assert_eq!(proof.passed().count(), 1);
    // The very same bytes, but nobody excused anything of this one.
    assert_eq!(verify::release(plain, &proof, by.profile()).err(), Some(NotProven::OtherExcuses));
    assert!(verify::release(excused, &proof, by.profile()).is_ok());
    assert!(matches!(scanner.prove_text(b"Siemens"), Err(Unproven::Leaks(_))));
}
