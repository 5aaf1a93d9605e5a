use proptest::prelude::*;

use super::super::Limits;
use super::*;

#[test]
fn what_is_no_dicom_or_of_an_unknown_syntax_is_held() {
    let by = with(Profile::default());
    assert_eq!(by.deidentify_bytes(b"hello".to_vec()).err(), Some(Held::NotDicom));
    let mut bytes = file(&ct());
    let at = bytes.windows(EXPLICIT.len()).position(|w| w == EXPLICIT.as_bytes()).expect("there");
    bytes[at + EXPLICIT.len() - 1] = b'7';
    assert_eq!(by.deidentify_bytes(bytes).err(), Some(Held::TransferSyntax));
}

#[test]
fn every_syntax_is_kept_and_its_pixels_with_it() {
    for syntax in ["1.2.840.10008.1.2", EXPLICIT, "1.2.840.10008.1.2.2", "1.2.840.10008.1.2.1.99"] {
        let mut set = ct();
        if syntax == "1.2.840.10008.1.2.2" {
            let big = |e: &mut Element<'_>| {
                if let (Value::Bytes(bytes), VR::US) = (&mut e.value, e.vr) {
                    bytes.to_mut().reverse();
                }
            };
            set.iter_mut().for_each(big);
        }
        let source = file_in(&set, syntax);
        let instance = with(profile("qa-minimal")).deidentify_bytes(source).expect("released");
        let (meta, start) = parse::meta(instance.as_bytes(), &Limits::default()).expect("meta");
        assert_eq!(ascii(find(&meta, tags::TRANSFER_SYNTAX_UID)), syntax);
        if syntax.ends_with(".99") {
            assert!(start < instance.as_bytes().len());
            continue;
        }
        let out = Out::of(&instance);
        let pixels: Vec<u8> = (0..32).collect();
        assert_eq!(find(&out.set(), tags::PIXEL_DATA).map(|e| e.bytes().to_vec()), Some(pixels), "{syntax}");
        assert!(!out.holds("Mustermann"));
    }
}

#[test]
fn compressed_pixels_pass_untouched() {
    let fragments = [&[0xFE, 0xFF, 0, 0xE0, 0, 0, 0, 0][..], &[0xFE, 0xFF, 0, 0xE0, 4, 0, 0, 0, 1, 2, 3, 4]].concat();
    let mut set = ct();
    set.retain(|e| e.tag != tags::PIXEL_DATA);
    set.push(Element { tag: tags::PIXEL_DATA, vr: VR::OB, value: Value::Fragments(fragments.clone().into()) });
    let source = file_in(&set, "1.2.840.10008.1.2.4.90");
    let out = Out::of(&with(Profile::default()).deidentify_bytes(source).expect("released"));
    assert_eq!(find(&out.set(), tags::PIXEL_DATA).map(|e| e.bytes().to_vec()), Some(fragments));
}

#[test]
fn limits_are_named() {
    let deep = (0..20).fold(vec![text(tags::CODE_MEANING, VR::LO, "x")], |inner, _| {
        vec![sequence(tags::CONTENT_SEQUENCE, vec![inner])]
    });
    let limit = |limits: Limits| held(Profile { limits, ..Profile::default() }, &ct_with(deep.clone()));
    assert_eq!(limit(Limits::default()), Held::Limit { limit: "sequence_depth_max", maximum: 16 });
    let few = Limits { sequence_depth_max: 64, elements_max: 20, ..Limits::default() };
    assert_eq!(limit(few), Held::Limit { limit: "elements_max", maximum: 20 });
}

#[test]
fn an_attribute_that_decides_is_there_once() {
    let mut set = ct();
    set.insert(0, text(tags::MODALITY, VR::CS, "US"));
    assert_eq!(held(Profile::default(), &set), Held::Attribute(tags::MODALITY));
}

#[test]
fn documents_are_refused_wherever_they_are() {
    let set = ct_with(vec![Element::new(tags::ENCAPSULATED_DOCUMENT, VR::OB, b"%PDF".to_vec())]);
    assert!(matches!(held(Profile::default(), &set), Held::Kind(_)));
}

proptest! {
    #[test]
    fn no_bytes_break_it(at in 132usize..1200, with_byte in any::<u8>(), cut in 0usize..1400) {
        let mut bytes = file(&ct());
        let at = at.min(bytes.len() - 1);
        bytes[at] = with_byte;
        bytes.truncate(bytes.len().min(cut.max(at)));
        let _ = with(profile("retraining")).deidentify_bytes(bytes);
    }

    #[test]
    fn no_data_set_breaks_it(tail in proptest::collection::vec(any::<u8>(), 0..300)) {
        let mut bytes = file(&ct());
        bytes.extend(tail);
        let _ = with(profile("retraining")).deidentify_bytes(bytes);
    }
}

#[test]
fn an_output_is_the_same_wherever_its_pixels_lie() {
    let pixels: Vec<u8> = (0..8192u32).map(|n| (n * 31) as u8).collect();
    let source = file(&ct_with(vec![Element::new(tags::PIXEL_DATA, VR::OW, pixels)]));
    let (limits, syntax) = (super::super::Limits::default(), Syntax::of(EXPLICIT).expect("known"));
    let (_, start) = parse::meta(&source, &limits).expect("meta");
    let more = "x".repeat(4000);
    for comment in ["short", &more] {
        let mut set = parse::data_set(&source, start, Encoding::EXPLICIT, &limits).expect("a data set");
        super::super::pixels::put(&mut set, text(tags::IMAGE_COMMENTS, VR::LT, comment));
        let write = |source: &[u8]| write::file(&set, &syntax, "1.2", "3.4", source).expect("it can be written");
        let (copied, _) = write(&[]).join(Vec::new());
        let (placed, from) = write(&source).join(source.clone());
        assert!(placed[from..] == copied, "another file");
        assert_eq!(from > 0, comment == "short", "in the memory of the source where it has room");
    }
}
