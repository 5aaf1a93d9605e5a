//! Wrong values, references, places and pixels.

use dicom_core::value::DataSetSequence;
use dicom_core::{DataElement, PrimitiveValue, VR};
use dicom_dictionary_std::uids;

use super::*;

const FRAME: Tag = tags::PER_FRAME_FUNCTIONAL_GROUPS_SEQUENCE;
const SHARED: Tag = tags::SHARED_FUNCTIONAL_GROUPS_SEQUENCE;

/// In which item of which sequences.
type In<'p> = &'p [(Tag, usize)];
/// Where the damage is told, and a part of the rule.
type Told = (&'static str, &'static str);

/// One text in one place of one object.
fn texts(which: usize, cases: &[(In<'_>, Tag, VR, &str, Told)]) {
    let whole = Whole::new();
    for (path, tag, vr, value, (place, rule)) in cases {
        let put = |object: &mut InMemDicomObject| inside(object, path, &mut |item| _ = item.put_str(*tag, *vr, *value));
        let error = whole.changed(which, put).expect_err(value);
        assert!(error.place.contains(place) && error.rule.contains(rule), "{value}: {error}");
    }
}

fn numbers(which: usize, cases: &[(In<'_>, Tag, PrimitiveValue, Told)]) {
    let whole = Whole::new();
    for (path, tag, value, (place, rule)) in cases {
        let put = |object: &mut InMemDicomObject| {
            inside(object, path, &mut |item| {
                let vr = item.element(*tag).map_or(VR::US, |element| element.vr());
                item.put(DataElement::new(*tag, vr, value.clone()));
            });
        };
        let error = whole.changed(which, put).expect_err(place);
        assert!(error.place.contains(place) && error.rule.contains(rule), "{error}");
    }
}

#[test]
fn a_value_that_is_none_is_refused() {
    let lost = "no CS of PS3.5";
    texts(
        SEG,
        &[
            (&[], tags::CONTENT_LABEL, VR::CS, "segmentation", ("ContentLabel", lost)),
            (&[], tags::CONTENT_LABEL, VR::CS, "SEGMENTATION_LABEL", ("ContentLabel", lost)),
            (&[], tags::CONTENT_DATE, VR::DA, "20240230", ("ContentDate", "a date")),
            (&[], tags::CONTENT_TIME, VR::TM, "256000", ("ContentTime", "a time")),
            (&[], tags::SERIES_DESCRIPTION, VR::LO, &"x".repeat(65), ("SeriesDescription", "64 characters")),
            (&[], tags::SERIES_DESCRIPTION, VR::LO, "a\u{7}", ("SeriesDescription", "control")),
            (&[], tags::CONTENT_DESCRIPTION, VR::CS, "X", ("ContentDescription", "not that of PS3.6")),
            (&[], tags::SERIES_NUMBER, VR::IS, "99999999999", ("SeriesNumber", "whole number")),
            (&[], tags::INSTANCE_NUMBER, VR::IS, "1\\2", ("InstanceNumber", "2 values")),
            (&[], tags::MODALITY, VR::CS, "OT", ("Modality", "must be one of SEG")),
            (
                &[(tags::SEGMENT_SEQUENCE, 0)],
                tags::TRACKING_UID,
                VR::UI,
                "2.25.01",
                ("SegmentSequence[1].TrackingUID", "zeros"),
            ),
            (
                &[(tags::SEGMENT_SEQUENCE, 1), (tags::SEGMENTED_PROPERTY_TYPE_CODE_SEQUENCE, 0)],
                tags::CODE_VALUE,
                VR::SH,
                "12345678901234567",
                ("SegmentSequence[2].SegmentedPropertyTypeCodeSequence[1].CodeValue", "16 characters"),
            ),
            (
                &[(FRAME, 2), (tags::PLANE_POSITION_SEQUENCE, 0)],
                tags::IMAGE_POSITION_PATIENT,
                VR::DS,
                "1\\2",
                ("[3].PlanePositionSequence[1].ImagePositionPatient", "2 values"),
            ),
            (
                &[(SHARED, 0), (tags::PIXEL_MEASURES_SEQUENCE, 0)],
                tags::SLICE_THICKNESS,
                VR::DS,
                "nan",
                ("SliceThickness", "decimal"),
            ),
        ],
    );
}

#[test]
fn text_beyond_the_declared_characters_is_refused() {
    let whole = Whole::new();
    let raw = bytes(&whole.objects[SEG]);
    let at = raw.windows(8).position(|w| w == b"SEGMENTA").expect("the label");
    let mut beyond = raw.clone();
    beyond[at] = 0xC4;
    let error = whole.with(SEG, &beyond).expect_err("no CS");
    assert!(error.place.starts_with("ContentLabel") && error.rule.contains("Specific Character Set"), "{error}");
    // The title of the map is written in UTF-8; without saying so nobody reads it.
    let error = whole.changed(MAP, |object| remove(object, &[], tags::SPECIFIC_CHARACTER_SET)).expect_err("refused");
    assert!(error.place.starts_with("PatientName"), "{error}");
}

#[test]
fn what_an_object_refers_to_is_there() {
    let source = [(FRAME, 0), (tags::DERIVATION_IMAGE_SEQUENCE, 0), (tags::SOURCE_IMAGE_SEQUENCE, 0)];
    let listed = [(tags::REFERENCED_SERIES_SEQUENCE, 0), (tags::REFERENCED_INSTANCE_SEQUENCE, 1)];
    let (uid, class) = (tags::REFERENCED_SOP_INSTANCE_UID, tags::REFERENCED_SOP_CLASS_UID);
    let gone = "neither an input nor of this result";
    texts(
        SEG,
        &[
            (&source, uid, VR::UI, "2.25.9", ("SourceImageSequence[1].ReferencedSOPInstanceUID", gone)),
            (&listed, uid, VR::UI, "2.25.9", ("ReferencedInstanceSequence[2].ReferencedSOPInstanceUID", gone)),
            // It is an image of the input, but then nothing lists the one that frames are of.
            (&listed, uid, VR::UI, "2.25.1001", ("ReferencedSOPInstanceUID", "not among what the object lists")),
            (&listed, class, VR::UI, uids::MR_IMAGE_STORAGE, ("ReferencedSOPClassUID", "not the class")),
            (
                &listed[..1],
                tags::SERIES_INSTANCE_UID,
                VR::UI,
                "2.25.9",
                ("SeriesInstanceUID", "a series that is neither"),
            ),
        ],
    );
    let evidence = (tags::CURRENT_REQUESTED_PROCEDURE_EVIDENCE_SEQUENCE, 0);
    let of_series = [evidence, (tags::REFERENCED_SERIES_SEQUENCE, 0)];
    let of_seg = [evidence, (tags::REFERENCED_SERIES_SEQUENCE, 1), (tags::REFERENCED_SOP_SEQUENCE, 0)];
    texts(
        SR,
        &[
            (&[evidence], tags::STUDY_INSTANCE_UID, VR::UI, "2.25.9", ("StudyInstanceUID", "another study")),
            (&of_seg, uid, VR::UI, "2.25.1001", ("ReferencedSOPClassUID", "not the class")),
            (
                &of_seg[..2],
                tags::SERIES_INSTANCE_UID,
                VR::UI,
                "2.25.2",
                ("ReferencedSOPInstanceUID", "of another series"),
            ),
            (
                &of_series,
                tags::SERIES_INSTANCE_UID,
                VR::UI,
                "2.25.9",
                ("SeriesInstanceUID", "a series that is neither"),
            ),
        ],
    );
    let annotated = [(tags::GRAPHIC_ANNOTATION_SEQUENCE, 0), (tags::REFERENCED_IMAGE_SEQUENCE, 0)];
    texts(
        STATE,
        &[
            (&annotated, uid, VR::UI, "2.25.9", ("ReferencedSOPInstanceUID", gone)),
            // An input, and no image of the state.
            (&annotated, uid, VR::UI, "2.25.1001", ("ReferencedSOPInstanceUID", "not among what the object lists")),
            (&annotated, tags::REFERENCED_FRAME_NUMBER, VR::IS, "2", ("ReferencedFrameNumber", "is no frame")),
            (&annotated[..1], tags::GRAPHIC_LAYER, VR::CS, "OTHER", ("GraphicLayer", "is no layer")),
        ],
    );
    texts(CAPTURE, &[(&[(tags::SOURCE_IMAGE_SEQUENCE, 0)], uid, VR::UI, "2.25.9", ("ReferencedSOPInstanceUID", gone))]);
}

/// The content item of a report whose value type and concept these are, with where it is.
fn item(object: &InMemDicomObject, kind: &str, concept: &str, above: &Place) -> Option<Place> {
    let items = object.element(tags::CONTENT_SEQUENCE).ok()?.items()?;
    items.iter().zip(0..).find_map(|(item_, at)| {
        let place: Place = above.iter().copied().chain([(tags::CONTENT_SEQUENCE, at)]).collect();
        let names = item_.element(tags::CONCEPT_NAME_CODE_SEQUENCE).ok().and_then(|e| e.items()?.first().cloned());
        let named = names.is_some_and(|name| text(&name, tags::CODE_VALUE) == concept) || concept.is_empty();
        if named && text(item_, tags::VALUE_TYPE) == kind { Some(place) } else { item(item_, kind, concept, &place) }
    })
}

#[test]
fn what_a_report_is_about_is_there() {
    let whole = Whole::new();
    let place = |kind, concept| item(&whole.objects[SR], kind, concept, &vec![]).expect("an item");
    let of = |place: &Place| place.iter().copied().chain([(tags::REFERENCED_SOP_SEQUENCE, 0)]).collect::<Place>();
    let segment = of(&place("IMAGE", "121191"));
    let number = |value: u16| (tags::REFERENCED_SEGMENT_NUMBER, VR::US, PrimitiveValue::from(value));
    let frame = |value: &str| (tags::REFERENCED_FRAME_NUMBER, VR::IS, PrimitiveValue::from(value));
    let uid = |tag, value: &str| (tag, VR::UI, PrimitiveValue::from(value));
    let frames = text(&whole.objects[SEG], tags::NUMBER_OF_FRAMES).parse::<u32>().expect("a number");
    let (last, beyond) = (frames.to_string(), (frames + 1).to_string());
    let cases = [
        (&segment, vec![number(3)], "is no segment of the object"),
        (&segment, vec![frame(&beyond)], "is no frame"),
        (&segment, vec![frame("0")], "is no frame"),
        // The first frames are of the first segment.
        (&segment, vec![frame(&last)], "a frame of another segment"),
        (&segment, vec![uid(tags::REFERENCED_SOP_CLASS_UID, uids::PARAMETRIC_MAP_STORAGE)], "not the class"),
        (&of(&place("IMAGE", "")), vec![number(1)], "is no segment"),
        (&place("UIDREF", "112227"), vec![uid(tags::UID, "2.25.9")], "names nothing"),
        (&place("UIDREF", "121232"), vec![uid(tags::UID, "2.25.9")], "names nothing"),
    ];
    for (place, put, rule) in cases {
        let error = whole.changed(SR, |object| {
            inside(object, place, &mut |item| {
                put.iter().for_each(|(tag, vr, value)| _ = item.put(DataElement::new(*tag, *vr, value.clone())));
            });
        });
        let error = error.expect_err(rule);
        assert!(error.rule.contains(rule), "{error}");
    }
    whole
        .changed(SR, |object| {
            inside(object, &segment, &mut |i| _ = i.put_str(tags::REFERENCED_FRAME_NUMBER, VR::IS, "1"))
        })
        .expect("a frame that is there");
}

/// A report on a segmentation that is not written with it.
#[test]
fn an_object_that_another_needs_is_there_or_neither() {
    let whole = Whole::new();
    let error = check_all(&whole.study, &whole.written[SR..=SR], whole.folder.path()).expect_err("without its SEG");
    assert!(error.place.contains("Evidence") && error.rule.contains("neither an input nor of this result"), "{error}");
}

#[test]
fn a_predecessor_is_of_the_same_study_and_no_object_of_this_result() {
    let whole = Whole::new();
    let with = |study: &str, class: &str| {
        let item = |elements: Vec<(Tag, &str)>, nested: Option<(Tag, InMemDicomObject)>| {
            let mut item = InMemDicomObject::new_empty();
            elements.into_iter().for_each(|(tag, value)| _ = item.put_str(tag, VR::UI, value));
            if let Some((tag, nested)) = nested {
                item.put(DataElement::new(tag, VR::SQ, DataSetSequence::from(vec![nested])));
            }
            item
        };
        let of = [(tags::REFERENCED_SOP_CLASS_UID, class), (tags::REFERENCED_SOP_INSTANCE_UID, "2.25.99")];
        let series = item(
            vec![(tags::SERIES_INSTANCE_UID, "2.25.98")],
            Some((tags::REFERENCED_SOP_SEQUENCE, item(of.into(), None))),
        );
        let study = item(vec![(tags::STUDY_INSTANCE_UID, study)], Some((tags::REFERENCED_SERIES_SEQUENCE, series)));
        whole.changed(SR, |object| {
            object.put(DataElement::new(
                tags::PREDECESSOR_DOCUMENTS_SEQUENCE,
                VR::SQ,
                DataSetSequence::from(vec![study]),
            ));
        })
    };
    with("2.25.1", uids::COMPREHENSIVE3_DSR_STORAGE).expect("an earlier report");
    with("2.25.3", uids::COMPREHENSIVE3_DSR_STORAGE).expect_err("of another study");
    with("2.25.1", uids::CT_IMAGE_STORAGE).expect_err("no result");
}

#[test]
fn an_object_lies_where_its_source_lies() {
    let position = [(FRAME, 1), (tags::PLANE_POSITION_SEQUENCE, 0)];
    let orientation = [(SHARED, 0), (tags::PLANE_ORIENTATION_SEQUENCE, 0)];
    let measures = [(SHARED, 0), (tags::PIXEL_MEASURES_SEQUENCE, 0)];
    let off = "more than 0.01 mm";
    for which in [SEG, MAP] {
        let whole = Whole::new();
        let there = {
            let frame = whole.objects[which].element(FRAME).expect("frames").items().expect("items")[1].clone();
            let place = frame.element(tags::PLANE_POSITION_SEQUENCE).expect("one").items().expect("items")[0].clone();
            text(&place, tags::IMAGE_POSITION_PATIENT)
        };
        let [x, y, z]: [f64; 3] =
            there.split('\\').map(|n| n.parse().expect("a number")).collect::<Vec<_>>().try_into().expect("three");
        let shifted = |by: f64| format!("{}\\{y}\\{z}", x + by);
        let put = |value: String| {
            whole.changed(which, |object| {
                inside(object, &position, &mut |i| _ = i.put_str(tags::IMAGE_POSITION_PATIENT, VR::DS, value.as_str()))
            })
        };
        put(shifted(0.009)).expect("within the tolerance");
        assert!(put(shifted(0.011)).expect_err("beyond it").rule.contains(off));
        let (s, c) = 0.3f64.sin_cos();
        let turned = format!("{c:.10}\\{s:.10}\\0\\{s:.10}\\{:.10}\\0", -c);
        texts(
            which,
            &[
                // The next slice's place, rows upside down, and sides swapped.
                (
                    &position,
                    tags::IMAGE_POSITION_PATIENT,
                    VR::DS,
                    &format!("{x}\\{y}\\{}", z + 2.5),
                    ("[2].ImagePositionPatient", off),
                ),
                (&orientation, tags::IMAGE_ORIENTATION_PATIENT, VR::DS, &turned, ("ImageOrientationPatient", off)),
                (&measures, tags::PIXEL_SPACING, VR::DS, "0.7\\0.8", ("", off)),
                (&measures, tags::SPACING_BETWEEN_SLICES, VR::DS, "2.6", ("SpacingBetweenSlices", "0.01 mm")),
                (
                    &[],
                    tags::FRAME_OF_REFERENCE_UID,
                    VR::UI,
                    "2.25.78",
                    ("FrameOfReferenceUID", "not that of the source"),
                ),
            ],
        );
        numbers(
            which,
            &[
                (&[], tags::ROWS, PrimitiveValue::from(20u16), ("", "")),
                (
                    &[(FRAME, 1), (tags::FRAME_CONTENT_SEQUENCE, 0)],
                    tags::DIMENSION_INDEX_VALUES,
                    PrimitiveValue::U32([1, 1, 1].into_iter().collect()),
                    ("[2].DimensionIndexValues", "as there are dimensions"),
                ),
            ],
        );
    }
    texts(
        CAPTURE,
        &[(&[], tags::PATIENT_ORIENTATION, VR::CS, "R\\P", ("PatientOrientation", "not that of the source"))],
    );
    let graphic = [(tags::GRAPHIC_ANNOTATION_SEQUENCE, 0), (tags::GRAPHIC_OBJECT_SEQUENCE, 0)];
    let outside = PrimitiveValue::F32([0.0, 0.0, 21.0, 0.0, 21.0, 1.0, 0.0, 1.0, 0.0, 0.0].into_iter().collect());
    let area = [(tags::DISPLAYED_AREA_SELECTION_SEQUENCE, 0)];
    numbers(
        STATE,
        &[
            (&graphic, tags::GRAPHIC_DATA, outside, ("GraphicData", "outside of the images")),
            (
                &graphic,
                tags::NUMBER_OF_GRAPHIC_POINTS,
                PrimitiveValue::from(4u16),
                ("NumberOfGraphicPoints", "as many points"),
            ),
            (
                &area,
                tags::DISPLAYED_AREA_BOTTOM_RIGHT_HAND_CORNER,
                PrimitiveValue::I32([21, 10].into_iter().collect()),
                ("DisplayedArea", "not in the images"),
            ),
        ],
    );
}

#[test]
fn an_object_has_as_many_pixels_as_it_says() {
    for (which, tag) in [(SEG, tags::PIXEL_DATA), (MAP, tags::FLOAT_PIXEL_DATA), (CAPTURE, tags::PIXEL_DATA)] {
        let whole = Whole::new();
        let raw = bytes(&whole.objects[which]);
        let pixels = whole.objects[which].element(tag).expect("pixels").to_bytes().expect("bytes").len();
        let error = whole.with(which, &raw[..raw.len() - 2]).expect_err("cut");
        assert!(error.rule.contains("does not end where its pixel data do"), "{error}");
        let error = whole.with(which, &[&raw[..], &[0; 2]].concat()).expect_err("longer");
        assert!(error.rule.contains("does not end where its pixel data do"), "{error}");
        let error = whole.with(which, &raw[..raw.len() - pixels - 40]).expect_err("cut before them");
        assert!(error.rule.contains("beyond the end of the file"), "{error}");
        // Whole, and fewer than rows, columns and frames make.
        let fewer = whole.changed(which, |object| {
            let value = match which {
                MAP => PrimitiveValue::F32(vec![0.0; pixels / 4 - 1].into()),
                _ => PrimitiveValue::U8(vec![0; pixels - 2].into()),
            };
            let vr = object.element(tag).expect("pixels").vr();
            object.put(DataElement::new(tag, vr, value));
        });
        assert!(fewer.expect_err("fewer").rule.contains("rows, columns, frames and bits make"));
    }
    let whole = Whole::new();
    let error = whole.changed(SEG, |object| {
        object.update_value(FRAME, |value| _ = value.items_mut().expect("items").pop());
    });
    assert!(error.expect_err("a frame less").rule.contains("as many items as frames"));
}

#[test]
fn a_file_is_what_it_says() {
    let whole = Whole::new();
    let raw = bytes(&whole.objects[SEG]);
    let mut no_prefix = raw.clone();
    no_prefix[128] = b'X';
    assert!(whole.with(SEG, &no_prefix).expect_err("no DICOM").rule.contains("PS3.10"));
    let mut meta = raw.clone();
    let at = meta.windows(6).position(|w| w == [2, 0, 3, 0, b'U', b'I']).map_or(0, |at| at + 8);
    let digit = meta[at + 5..].iter().position(|b| b.is_ascii_digit()).map_or(0, |n| at + 5 + n);
    meta[digit] = if meta[digit] == b'1' { b'2' } else { b'1' };
    let error = whole.with(SEG, &meta).expect_err("the meta information of another object");
    assert!(error.place.starts_with("MediaStorageSOPInstanceUID"), "{error}");
    let error = whole.changed(SEG, |object| _ = object.put_str(tags::SERIES_INSTANCE_UID, VR::UI, "2.25.2"));
    assert!(error.expect_err("the source's series").rule.contains("a series of the source"));
    let error = whole.changed(SEG, |object| _ = object.put_str(tags::SERIES_INSTANCE_UID, VR::UI, "2.25.5"));
    assert!(error.expect_err("not recorded").rule.contains("result.json"));
    for cut in (0..raw.len()).step_by(raw.len() / 97 + 1) {
        assert!(whole.with(SEG, &raw[..cut]).is_err(), "cut at {cut}");
    }
    // Whatever the bytes: an answer and no panic.
    let mut random = 0x9E37_79B9_u32;
    for _ in 0..300 {
        random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let mut noisy = raw.clone();
        let at = random as usize % noisy.len();
        noisy[at] ^= (random >> 24) as u8 | 1;
        let _ = whole.with(SEG, &noisy);
    }
}
