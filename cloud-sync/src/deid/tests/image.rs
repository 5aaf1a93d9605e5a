use std::sync::Arc;

use super::super::{
    DecodedFrames, Doubt, Frame, FrameDecoder, KnownDevice, Limits, Pixels, Rectangle, Risky, TextDetector,
};
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

/// Makes these pixels of every file.
struct Decodes(DecodedFrames);

impl FrameDecoder for Decodes {
    fn frames(&self, _: &[u8]) -> Result<DecodedFrames, Held> {
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

/// Finds text in the first column of frames that begin with 9.
struct FindsNine;

impl TextDetector for FindsNine {
    fn text(&self, frame: Frame<'_>) -> Result<Vec<Rectangle>, Held> {
        let column = Rectangle { x: 0, y: 0, width: 1, height: 4 };
        // Two boxes that overlap are one sighting.
        Ok(if frame.pixels[0] == 9 { vec![column, Rectangle { height: 2, ..column }] } else { Vec::new() })
    }
}

#[test]
fn text_that_lasts_is_black_in_frames_too_in_which_it_was_missed() {
    let masking = Profile { pixels: Pixels { risky: Risky::Mask, ..Pixels::default() }, ..cleaning() };
    let by = with(masking).with_detector(Arc::new(FindsNine));
    let first = |firsts: &[u8]| {
        let frames: Vec<u8> = firsts.iter().flat_map(|&first| [&[first][..], &[7; 15]].concat()).collect();
        let number = text(tags::NUMBER_OF_FRAMES, VR::IS, &firsts.len().to_string());
        let set = ultrasound(vec![number, Element::new(tags::PIXEL_DATA, VR::OB, frames)]);
        let masked = pixels(&Out::of(&by.deidentify_bytes(file(&set)).expect("released")));
        masked.chunks_exact(16).map(|frame| [frame[0], frame[12], frame[1]]).collect::<Vec<_>>()
    };
    assert_eq!(first(&[9, 9, 1]), [[0, 0, 7]; 3], "found twice");
    assert_eq!(first(&[9, 1, 1]), [[0, 0, 7], [1, 7, 7], [1, 7, 7]], "found once");
    let (thrice, of_forty) = ([[9; 3].as_slice(), &[1; 37]].concat(), [[9; 4].as_slice(), &[1; 36]].concat());
    assert_eq!(first(&thrice)[3..], [[1, 7, 7]; 37]);
    assert_eq!(first(&of_forty), [[0, 0, 7]; 40]);
}

const JPEG: &str = "1.2.840.10008.1.2.4.50";

/// The ultrasound image, compressed, in colours: one item of 4 bytes after an empty offset table.
fn compressed() -> Vec<u8> {
    let items = [&[0xFE, 0xFF, 0x00, 0xE0, 0, 0, 0, 0, 0xFE, 0xFF, 0x00, 0xE0, 4, 0, 0, 0][..], &[1, 2, 3, 4]].concat();
    let set = ultrasound(vec![
        us(tags::SAMPLES_PER_PIXEL, 3),
        us(tags::PLANAR_CONFIGURATION, 1),
        text(tags::PHOTOMETRIC_INTERPRETATION, VR::CS, "YBR_FULL_422"),
        Element { tag: tags::PIXEL_DATA, vr: VR::OB, value: Value::Fragments(items.into()) },
    ]);
    file_in(&set, JPEG)
}

fn looked_at(file: Vec<u8>, found: Vec<Rectangle>, pixels: Vec<u8>) -> Result<Out, Held> {
    let decoded = DecodedFrames { photometric: "RGB".into(), pixels, lossy: Some("ISO_10918_1") };
    let masking = Profile { pixels: Pixels { risky: Risky::Mask, ..Pixels::default() }, ..cleaning() };
    let by = with(masking).with_detector(Arc::new(Finds(found))).with_decoder(Arc::new(Decodes(decoded)));
    by.deidentify_bytes(file).map(|instance| Out::of(&instance))
}

fn transfer_syntax(out: &Out) -> String {
    let (meta, _) = super::super::parse::meta(&out.bytes, &super::super::Limits::default()).expect("meta");
    ascii(find(&meta, tags::TRANSFER_SYNTAX_UID)).to_owned()
}

#[test]
fn compressed_pixels_stay_as_they_were_unless_text_is_in_them() {
    let clean = looked_at(compressed(), vec![], vec![9; 48]).expect("released");
    assert_eq!(transfer_syntax(&clean), JPEG);
    assert!(
        matches!(find(&clean.set(), tags::PIXEL_DATA).map(|e| &e.value), Some(Value::Fragments(bytes)) if bytes.ends_with(&[1, 2, 3, 4]))
    );
    assert_eq!(clean.text(tags::PHOTOMETRIC_INTERPRETATION).as_deref(), Some("YBR_FULL_422"));
    assert_eq!(clean.text(tags::BURNED_IN_ANNOTATION).as_deref(), Some("NO"));

    let found = Rectangle { x: 1, y: 0, width: 1, height: 4 };
    let masked = looked_at(compressed(), vec![found], vec![9; 48]).expect("released");
    assert_eq!(transfer_syntax(&masked), EXPLICIT);
    assert_eq!(pixels(&masked), [9, 9, 9, 0, 0, 0, 9, 9, 9, 9, 9, 9].repeat(4));
    assert_eq!(masked.text(tags::PHOTOMETRIC_INTERPRETATION).as_deref(), Some("RGB"));
    assert_eq!(find(&masked.set(), tags::PLANAR_CONFIGURATION).map(|e| e.bytes().to_vec()), Some(vec![0, 0]));
    assert_eq!(masked.text(tags::LOSSY_IMAGE_COMPRESSION).as_deref(), Some("01"), "what was lost stays lost");
    assert_eq!(masked.text(tags::LOSSY_IMAGE_COMPRESSION_METHOD).as_deref(), Some("ISO_10918_1"));
    let short = looked_at(compressed(), vec![found], vec![9; 47]).err();
    assert_eq!(short, Some(Held::Mask("there are not as many as their attributes say")));
}

#[test]
fn black_is_the_darkest_that_the_image_can_show() {
    let corner = Rectangle { x: 0, y: 0, width: 1, height: 1 };
    let first = |more: Vec<Element<'static>>| {
        pixels(&looked_at(file(&ultrasound(more)), vec![corner], vec![]).expect("released"))[..2].to_vec()
    };
    assert_eq!(first(vec![]), [0, 9]);
    assert_eq!(first(vec![text(tags::PHOTOMETRIC_INTERPRETATION, VR::CS, "MONOCHROME1")]), [255, 9]);
    assert_eq!(first(vec![us(tags::PIXEL_REPRESENTATION, 1)]), [0x80, 9]);
    let table = |tag, entries: &[u8]| Element::new(tag, VR::OW, entries.to_vec());
    let descriptor = |tag| Element::new(tag, VR::US, vec![4u8, 0, 8, 0, 8, 0]);
    let mut palette = vec![
        text(tags::PHOTOMETRIC_INTERPRETATION, VR::CS, "PALETTE COLOR"),
        descriptor(tags::RED_PALETTE_COLOR_LOOKUP_TABLE_DESCRIPTOR),
        descriptor(tags::GREEN_PALETTE_COLOR_LOOKUP_TABLE_DESCRIPTOR),
        descriptor(tags::BLUE_PALETTE_COLOR_LOOKUP_TABLE_DESCRIPTOR),
        table(tags::RED_PALETTE_COLOR_LOOKUP_TABLE_DATA, &[200, 9, 1, 80]),
        table(tags::GREEN_PALETTE_COLOR_LOOKUP_TABLE_DATA, &[200, 0, 2, 80]),
        table(tags::BLUE_PALETTE_COLOR_LOOKUP_TABLE_DATA, &[200, 0, 3, 80]),
    ];
    assert_eq!(first(palette.clone()), [10, 9], "the third entry, whose number is 10");
    palette.pop();
    let held = looked_at(file(&ultrasound(palette)), vec![corner], vec![]).err();
    assert_eq!(held, Some(Held::Mask("their palette is missing, segmented or damaged")));
}

#[test]
fn bytes_within_words_of_big_endian_are_masked_where_they_are_shown() {
    let numbered: Vec<u8> = (1..=16).collect();
    let set = ultrasound(vec![Element::new(tags::PIXEL_DATA, VR::OW, numbered)]);
    let big = |set: &DataSet<'static>| {
        let mut set = set.clone();
        // Numbers of two bytes are the only ones in it.
        for element in set.iter_mut().filter(|e| e.vr == VR::US) {
            let Value::Bytes(bytes) = &mut element.value else { continue };
            bytes.to_mut().as_chunks_mut::<2>().0.iter_mut().for_each(|pair| pair.reverse());
        }
        file_in(&set, "1.2.840.10008.1.2.2")
    };
    // The second pixel is the first byte of the first word.
    let second = Rectangle { x: 1, y: 0, width: 1, height: 1 };
    let masked = looked_at(big(&set), vec![second], vec![]).expect("released");
    assert_eq!(pixels(&masked)[..4], [0, 2, 3, 4]);
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

/// Counts how often it is asked.
#[derive(Default)]
struct Counts(std::sync::atomic::AtomicUsize);

impl TextDetector for Counts {
    fn text(&self, _: Frame<'_>) -> Result<Vec<Rectangle>, Held> {
        self.0.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        Ok(vec![])
    }
}

#[test]
fn one_object_takes_no_more_looks_and_no_more_memory_than_its_limits_say() {
    let counts = Arc::new(Counts::default());
    let looks = || counts.0.swap(0, std::sync::atomic::Ordering::Relaxed);
    let limits = Limits { frames_max: 2, frame_pixels_max: 65_536, overlay_planes_max: 3, ..Limits::default() };
    let profile = Profile { clean_graphics: true, limits, ..cleaning() };
    let by = with(profile).with_detector(counts.clone());
    let limit = |set: &DataSet<'static>| match by.deidentify_bytes(file(set)) {
        Err(Held::Limit { limit, .. }) => Some(limit),
        other => other.map(|_| None).expect("released"),
    };

    let images = |frames: &str, rows: u16, columns: u16, pixels: usize| {
        ultrasound(vec![
            text(tags::NUMBER_OF_FRAMES, VR::IS, frames),
            us(tags::ROWS, rows),
            us(tags::COLUMNS, columns),
            Element::new(tags::PIXEL_DATA, VR::OB, vec![9; pixels]),
        ])
    };
    assert_eq!((limit(&images("2", 1, 2, 4)), looks()), (None, 2));
    assert_eq!((limit(&images("3", 1, 2, 6)), looks()), (Some("frames_max"), 0));
    assert_eq!((limit(&images("1", 257, 256, 257 * 256)), looks()), (Some("frame_pixels_max"), 0));

    let overlay = |group: u16, frames: &str, rows: u16, columns: u16, bytes: usize| {
        vec![
            us(Tag(group, 0x0010), rows),
            us(Tag(group, 0x0011), columns),
            text(Tag(group, 0x0015), VR::IS, frames),
            us(Tag(group, 0x0102), 0),
            Element::new(Tag(group, 0x3000), VR::OW, vec![0x55; bytes]),
        ]
    };
    let two = |first, second| ct_with([overlay(0x6000, first, 1, 2, 2), overlay(0x6002, second, 1, 2, 2)].concat());
    assert_eq!((limit(&two("1", "2")), looks()), (None, 3));
    assert_eq!((limit(&two("2", "2")), looks()), (Some("overlay_planes_max"), 2));
    assert_eq!(limit(&ct_with(overlay(0x6000, "1", 257, 256, 8224))), Some("frame_pixels_max"));

    // Bits of planes that are not stated go with their overlay.
    let more = Out::of(&by.deidentify_bytes(file(&ct_with(overlay(0x6000, "1", 1, 2, 1 << 20)))).expect("released"));
    assert_eq!((looks(), more.set().iter().any(|e| e.tag.0 == 0x6000)), (0, false));
}

#[test]
fn metadata_only_has_no_pixels_and_holds_no_image_for_them() {
    let set = ultrasound(vec![text(tags::BURNED_IN_ANNOTATION, VR::CS, "YES")]);
    let out = out(profile("metadata-only"), &set);
    assert!(out.set().iter().all(|e| e.tag.0 < 0x7FE0));
}
