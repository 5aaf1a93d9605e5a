use std::sync::Arc;

use super::super::{Doubt, Frame, KnownDevice, Pixels, Rectangle, Risky, TextDetector};
use super::*;

pub(super) struct Finds(pub(super) Vec<Rectangle>);

impl TextDetector for Finds {
    fn text(&self, frame: Frame<'_>) -> Result<Vec<Rectangle>, Held> {
        assert_eq!(
            frame.pixels.len(),
            usize::from(frame.rows) * usize::from(frame.columns) * usize::from(frame.samples)
        );
        Ok(self.0.clone())
    }
}

/// An ultrasound image of 4 × 4 grey pixels of value 9.
pub(super) fn ultrasound(more: Vec<Element<'static>>) -> DataSet<'static> {
    let mut elements = vec![
        text(tags::SOP_CLASS_UID, VR::UI, uids::ULTRASOUND_IMAGE_STORAGE),
        text(tags::MODALITY, VR::CS, "US"),
        text(tags::MANUFACTURER_MODEL_NAME, VR::LO, "CX50"),
        us(tags::BITS_ALLOCATED, 8),
        us(tags::BITS_STORED, 8),
        us(tags::HIGH_BIT, 7),
        Element::new(tags::PIXEL_DATA, VR::OB, vec![9; 16]),
    ];
    elements.extend(more);
    ct_with(elements)
}

pub(super) fn region(x: u32, y: u32, right: u32, bottom: u32) -> Element<'static> {
    let corner = |tag, value: u32| Element::new(tag, VR::UL, value.to_le_bytes().to_vec());
    sequence(
        tags::SEQUENCE_OF_ULTRASOUND_REGIONS,
        vec![vec![
            corner(tags::REGION_LOCATION_MIN_X0, x),
            corner(tags::REGION_LOCATION_MIN_Y0, y),
            corner(tags::REGION_LOCATION_MAX_X1, right),
            corner(tags::REGION_LOCATION_MAX_Y1, bottom),
        ]],
    )
}

pub(super) fn pixels(out: &Out) -> Vec<u8> {
    find(&out.set(), tags::PIXEL_DATA).map(|e| e.bytes().to_vec()).expect("there")
}

pub(super) fn cleaning() -> Profile {
    Profile { clean_pixel_data: true, ..Profile::default() }
}

#[test]
fn images_that_may_show_text_are_held() {
    let doubts = [
        (ultrasound(vec![]), Doubt::Kind),
        (ct_with(vec![text(tags::BURNED_IN_ANNOTATION, VR::CS, "YES")]), Doubt::Stated),
        (ct_with(vec![text(tags::SOP_CLASS_UID, VR::UI, uids::SECONDARY_CAPTURE_IMAGE_STORAGE)]), Doubt::Captured),
        (ct_with(vec![text(tags::IMAGE_TYPE, VR::CS, "DERIVED\\SECONDARY\\SCREEN SAVE")]), Doubt::Captured),
        (ct_with(vec![text(tags::MODALITY, VR::CS, "DX")]), Doubt::Unknown),
    ];
    for (set, doubt) in doubts {
        assert_eq!(held(Profile::default(), &set), Held::BurnedIn(doubt));
        assert_eq!(held(cleaning(), &set), Held::BurnedIn(doubt));
    }
    let said = ct_with(vec![text(tags::MODALITY, VR::CS, "DX"), text(tags::BURNED_IN_ANNOTATION, VR::CS, "NO")]);
    assert_eq!(out(Profile::default(), &said).text(tags::BURNED_IN_ANNOTATION).as_deref(), Some("NO"));
    assert_eq!(out(Profile::default(), &ct()).text(tags::BURNED_IN_ANNOTATION), None, "nobody looked");
}

#[test]
fn all_outside_ultrasound_regions_is_black() {
    let out = out(cleaning(), &ultrasound(vec![region(1, 1, 2, 3)]));
    assert_eq!(pixels(&out), [0, 0, 0, 0, 0, 9, 9, 0, 0, 9, 9, 0, 0, 9, 9, 0]);
    assert_eq!(out.text(tags::BURNED_IN_ANNOTATION).as_deref(), Some("NO"));
    let set = ultrasound(vec![region(1, 1, 2, 3)]);
    assert_eq!(held(Profile::default(), &set), Held::BurnedIn(Doubt::Kind), "without the option nothing is masked");
}

#[test]
fn known_devices_have_masks_or_are_known_to_be_clean() {
    let device = |masks| KnownDevice {
        manufacturer: "SIEMENS".into(),
        model: "cx50".into(),
        modality: "US".into(),
        rows: 4,
        columns: 4,
        masks,
    };
    let known =
        |masks| Profile { pixels: Pixels { known_devices: vec![device(masks)], ..Pixels::default() }, ..cleaning() };
    let masked = out(known(vec![Rectangle { x: 0, y: 0, width: 99, height: 1 }]), &ultrasound(vec![]));
    assert_eq!(pixels(&masked)[..5], [0, 0, 0, 0, 9]);
    assert_eq!(pixels(&out(known(vec![]), &ultrasound(vec![]))), [9; 16]);
    let stated = ultrasound(vec![text(tags::BURNED_IN_ANNOTATION, VR::CS, "YES")]);
    assert_eq!(held(known(vec![]), &stated), Held::BurnedIn(Doubt::Stated), "the object knows better");
}

#[test]
fn what_a_detector_finds_is_black_or_held() {
    let found = Rectangle { x: 2, y: 0, width: 2, height: 2 };
    let by = |profile: Profile, found: Vec<Rectangle>| {
        with(profile).with_detector(Arc::new(Finds(found))).deidentify_bytes(file(&ultrasound(vec![])))
    };
    let masking = Profile { pixels: Pixels { risky: Risky::Mask, ..Pixels::default() }, ..cleaning() };
    let masked = Out::of(&by(masking, vec![found]).expect("released"));
    assert_eq!(pixels(&masked), [9, 9, 0, 0, 9, 9, 0, 0, 9, 9, 9, 9, 9, 9, 9, 9]);
    assert_eq!(by(cleaning(), vec![found]).err(), Some(Held::TextInPixels));
    assert_eq!(pixels(&Out::of(&by(cleaning(), vec![]).expect("released"))), [9; 16]);
}

#[test]
fn heads_are_held_unless_the_site_says_otherwise() {
    let head = |part: &str| ct_with(vec![text(tags::BODY_PART_EXAMINED, VR::CS, part)]);
    for part in ["HEAD", "BRAIN", "HEADNECK"] {
        assert_eq!(held(Profile::default(), &head(part)), Held::Recognizable);
    }
    let described = ct_with(vec![text(tags::STUDY_DESCRIPTION, VR::LO, "Schädel nativ")]);
    assert_eq!(held(Profile::default(), &described), Held::Recognizable);
    let allow =
        Profile { pixels: Pixels { head: super::super::Head::Allow, ..Pixels::default() }, ..Profile::default() };
    assert_eq!(out(allow.clone(), &head("HEAD")).text(tags::RECOGNIZABLE_VISUAL_FEATURES).as_deref(), Some("YES"));
    let option = Profile { clean_recognizable_visual_features: true, ..allow };
    assert_eq!(held(option, &head("HEAD")), Held::Recognizable, "nothing here alters a face");
    assert_eq!(out(Profile::default(), &ct()).text(tags::RECOGNIZABLE_VISUAL_FEATURES).as_deref(), Some("NO"));
}

#[test]
fn overlays_go_and_with_them_what_lies_in_unused_bits() {
    let overlay = |within: bool| {
        let mut elements = vec![
            us(Tag(0x6000, 0x0010), 4),
            us(Tag(0x6000, 0x0011), 4),
            us(Tag(0x6000, 0x0102), if within { 12 } else { 0 }),
        ];
        if within {
            elements.push(Element::new(tags::PIXEL_DATA, VR::OW, vec![0xFF; 32]));
        } else {
            elements.push(Element::new(Tag(0x6000, 0x3000), VR::OW, vec![0xFF; 2]));
        }
        ct_with(elements)
    };
    for within in [false, true] {
        let out = out(Profile { clean_graphics: true, ..Profile::default() }, &overlay(within));
        assert!(out.set().iter().all(|e| e.tag.0 != 0x6000), "no detector looked");
        assert!(!within || pixels(&out).chunks(2).all(|pair| pair == [0xFF, 0x0F]));
    }
    let by = with(Profile { clean_graphics: true, ..Profile::default() });
    let looked = by.with_detector(Arc::new(Finds(vec![]))).deidentify_bytes(file(&overlay(false))).expect("released");
    assert!(Out::of(&looked).set().iter().any(|e| e.tag == Tag(0x6000, 0x3000)));
}

#[test]
fn metadata_only_has_no_pixels_and_holds_no_image_for_them() {
    let set = ultrasound(vec![text(tags::BURNED_IN_ANNOTATION, VR::CS, "YES")]);
    let out = out(profile("metadata-only"), &set);
    assert!(out.set().iter().all(|e| e.tag.0 < 0x7FE0));
}
