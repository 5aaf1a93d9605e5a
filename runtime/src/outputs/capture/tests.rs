use dicom_core::Tag;

use super::*;
use crate::findings::{Classification, Code, Findings, Heatmap, Segmentation, Triage, Unfit, Urgency};
use crate::memory::Budget;
use crate::outputs::gate;
use crate::outputs::tests::{labels, module, segment, stamp, study};
use crate::study::Study;

const SIZE: [usize; 3] = [40, 30, 4];

/// Pixels twice as high as wide: the picture's are square, so it is 360 × 540.
fn a_study() -> Study {
    let axes = [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]];
    study(&Geometry::new(SIZE, [1.0, 2.0, 2.5], [-20.0, -30.0, 100.0], axes).expect("a grid"))
}

fn grid(study: &Study) -> Geometry {
    study.series[0].volumes[0].geometry.clone()
}

/// Segment 2 in a box of slice 1 and a larger one of slice 2; segment 7 in a corner of slice 1.
fn segmentation(study: &Study) -> Segmentation {
    let voxels = (0..SIZE.iter().product()).map(|i: usize| {
        let [x, y, z] = [i % 40, i / 40 % 30, i / 1200];
        match z {
            1 if (4..8).contains(&x) && (3..6).contains(&y) => 2,
            1 if x < 2 && y < 2 => 7,
            2 if (4..9).contains(&x) && (3..7).contains(&y) => 2,
            _ => 0,
        }
    });
    let labels = labels(&grid(study), voxels.collect());
    Segmentation { labels, segments: vec![segment(2, "liver"), segment(7, "lung"), segment(9, "kidney")] }
}

fn heatmap(study: &Study) -> Heatmap {
    let hot = |[x, y, z]: [usize; 3]| if z == 3 && (30..35).contains(&x) && (20..25).contains(&y) { 0.9 } else { 0.02 };
    let voxels = (0..SIZE.iter().product()).map(|i: usize| hot([i % 40, i / 40 % 30, i / 1200])).collect();
    let values = Volume::from_f32(grid(study), voxels, &Budget::unlimited()).expect("as many as the grid has");
    Heatmap { values, title: "Suspicion".into() }
}

fn mark(start: [usize; 3], size: [usize; 3], probability: f32) -> Mark {
    Mark { region: Region { start, size }, label: Code::new("x", "99EXAMPLE", "Nodule"), probability }
}

fn key(findings: Findings, study: &Study) -> Option<(usize, (usize, usize))> {
    let accepted = gate(findings, study, &[0], &[]).expect("accepted");
    key_slice(&accepted, study).map(|key| (key.slice, key.source))
}

fn capture(findings: Findings, study: &Study) -> FileDicomObject<InMemDicomObject> {
    let accepted = gate(findings, study, &[0], &[]).expect("accepted");
    let key = key_slice(&accepted, study).expect("something was found");
    let source = Source::new(study, key.source).expect("a volume");
    let whole = grid(study);
    let slice = Geometry::new([40, 30, 1], whole.spacing(), [0.0; 3], whole.axes()).expect("a grid");
    let image = Volume::from_f32(slice, vec![40.0; 1200], &Budget::unlimited()).expect("as many as the grid has");
    let uids = OutputUids::new(&source, &[[1; 32]], &module().identity, &[]);
    secondary_capture(&accepted, key, &source, &image, &module(), &uids, &stamp()).expect("a capture")
}

fn text(object: &InMemDicomObject, tag: Tag) -> String {
    object.element(tag).expect("an element").to_str().expect("text").trim_end_matches('\0').to_owned()
}

/// Middle, in parts of the width and height of the image, of the pixels of it that `is` picks.
fn middle(capture: &InMemDicomObject, is: impl Fn([i32; 3]) -> bool) -> [f64; 2] {
    let side = |tag| capture.element(tag).expect("a size").to_int::<usize>().expect("a number");
    let (width, rows) = (side(tags::COLUMNS), side(tags::ROWS));
    let rgb = capture.element(tags::PIXEL_DATA).expect("pixels").to_bytes().expect("bytes");
    let (left, top, columns, lines) = (8, 36, 360, 540);
    let (mut count, mut sum) = (0usize, [0usize; 2]);
    for y in top..(top + lines).min(rows) {
        for x in left..left + columns {
            let at = (y * width + x) * 3;
            if is([0, 1, 2].map(|c| i32::from(rgb[at + c]))) {
                (count, sum) = (count + 1, [sum[0] + x - left, sum[1] + y - top]);
            }
        }
    }
    assert!(count > 0, "no such pixel");
    [sum[0] as f64 / count as f64 / columns as f64, sum[1] as f64 / count as f64 / lines as f64]
}

fn near(found: [f64; 2], expected: [f64; 2]) -> bool {
    found.iter().zip(expected).all(|(a, b)| (a - b).abs() < 0.01)
}

#[test]
fn the_key_slice_is_the_hottest_the_fullest_or_that_of_the_most_probable_box() {
    let study = a_study();
    let marks = vec![mark([0; 3], [2, 2, 1], 0.5), mark([0, 0, 1], [2, 2, 3], 0.75), mark([0; 3], [2, 2, 1], 0.75)];
    let findings = Findings { marks, ..Findings::default() };
    assert_eq!(key(findings.clone(), &study), Some((2, (0, 0))), "the middle of the first of the best");
    let findings = Findings { segmentation: Some(segmentation(&study)), ..findings };
    assert_eq!(key(findings.clone(), &study), Some((2, (0, 0))));
    let findings = Findings { heatmap: Some(heatmap(&study)), ..findings };
    assert_eq!(key(findings, &study), Some((3, (0, 0))));
    assert_eq!(key(classified(), &study), Some((2, (0, 0))), "the middle of all");
    assert_eq!(key(Findings::default(), &study), None);
    let unfit = Unfit { reason: Code::new("x", "99EXAMPLE", "Cut off"), detail: String::new() };
    assert_eq!(key(Findings { unfit: Some(unfit), ..Findings::default() }, &study), None);
}

/// Of the study as a whole, without a place.
fn classified() -> Findings {
    let found = Classification { finding: Code::new("x", "99EXAMPLE", "Bone"), probability: 0.5 };
    Findings { classifications: vec![found], ..Findings::default() }
}

#[test]
fn what_has_no_place_is_told_beside_the_middle_slice() {
    let study = a_study();
    let made = capture(classified(), &study);
    let of = &made.element(tags::SOURCE_IMAGE_SEQUENCE).expect("a sequence").items().expect("items")[0];
    assert_eq!(text(of, tags::REFERENCED_SOP_INSTANCE_UID), "2.25.1003", "the third of four");
    assert!(text(&made, tags::DERIVATION_DESCRIPTION).ends_with("in words around it"));
    let accepted = gate(classified(), &study, &[0], &[]).expect("accepted");
    let (key, source) = (key_slice(&accepted, &study).expect("classified"), Source::new(&study, (0, 0)).expect("one"));
    let lines = lines(&accepted, key, &source, &module());
    let told: Vec<&str> = lines.iter().map(|line| line.text.as_str()).collect();
    assert_eq!(
        told[3..],
        ["The middle of the volume: what was found is of all of it, and not of this slice", "Bone 0.50"]
    );
}

#[test]
fn the_header_says_what_it_is_of_and_that_it_is_drawn() {
    let study = a_study();
    let capture = capture(Findings { segmentation: Some(segmentation(&study)), ..Findings::default() }, &study);
    assert_eq!(text(&capture, tags::SOP_CLASS_UID), "1.2.840.10008.5.1.4.1.1.7");
    assert_eq!(text(&capture, tags::BURNED_IN_ANNOTATION), "YES");
    assert_eq!(text(&capture, tags::IMAGE_TYPE), "DERIVED\\SECONDARY");
    assert_eq!(text(&capture, tags::PATIENT_ORIENTATION), "L\\P");
    assert_eq!(text(&capture, tags::PATIENT_NAME), "Müller^Test");
    assert_eq!(text(&capture, tags::SPECIFIC_CHARACTER_SET), "ISO_IR 100");
    assert_eq!(text(&capture, tags::SERIES_NUMBER), "303");
    assert_eq!(text(&capture, tags::IMAGE_COMMENTS), "DEMONSTRATION - not for clinical use");
    let of = &capture.element(tags::SOURCE_IMAGE_SEQUENCE).expect("a sequence").items().expect("items")[0];
    assert_eq!(text(of, tags::REFERENCED_SOP_INSTANCE_UID), "2.25.1003", "the third slice");
    let side = |tag| capture.element(tag).expect("a size").to_int::<usize>().expect("a number");
    let bytes = capture.element(tags::PIXEL_DATA).expect("pixels").to_bytes().expect("bytes");
    assert_eq!(bytes.len(), (side(tags::ROWS) * side(tags::COLUMNS) * 3).next_multiple_of(2));
}

#[test]
fn body_part_and_side_are_those_of_the_source_and_unknown_where_it_should_say() {
    let side = |part: &str, side: &str| {
        let mut study = a_study();
        for (tag, value) in [(tags::BODY_PART_EXAMINED, part), (tags::LATERALITY, side)] {
            study.series[0].header.put_str(tag, VR::CS, value);
        }
        let findings = Findings { segmentation: Some(segmentation(&study)), ..Findings::default() };
        let capture = capture(findings, &study);
        let found = |tag| capture.get(tag).map(|e| e.to_str().expect("text").into_owned());
        (found(tags::BODY_PART_EXAMINED), found(tags::LATERALITY))
    };
    assert_eq!(side("KNEE", "L"), (Some("KNEE".into()), Some("L".into())));
    assert_eq!(side("KNEE", ""), (Some("KNEE".into()), Some(String::new())));
    assert_eq!(side("HEAD", ""), (Some("HEAD".into()), None));
    assert_eq!(side("", ""), (None, Some(String::new())));
}

#[test]
fn a_contour_lies_around_its_segment() {
    let study = a_study();
    let capture = capture(Findings { segmentation: Some(segmentation(&study)), ..Findings::default() }, &study);
    let [r, g, b] = COLOURS[0].map(i32::from);
    // Columns 4 to 9 of 40 and rows 3 to 7 of 30.
    let at = middle(&capture, |pixel| pixel == [r, g, b]);
    assert!(near(at, [6.5 / 40.0, 5.0 / 30.0]), "{at:?}");
}

#[test]
fn heat_lies_where_it_is_hot_and_a_box_around_its_voxels() {
    let study = a_study();
    let findings = Findings {
        heatmap: Some(heatmap(&study)),
        marks: vec![mark([10, 20, 2], [6, 4, 2], 0.5)],
        ..Findings::default()
    };
    let capture = capture(findings, &study);
    let hot = middle(&capture, |[r, _, b]| r > b + 60 && r != 255);
    assert!(near(hot, [32.5 / 40.0, 22.5 / 30.0]), "{hot:?}");
    let [r, g, b] = AMBER.map(i32::from);
    let frame = middle(&capture, |pixel| pixel == [r, g, b]);
    assert!(near(frame, [13.0 / 40.0, 22.0 / 30.0]), "{frame:?}");
}

#[test]
fn what_was_found_is_told_in_words_up_to_a_limit() {
    let study = a_study();
    let reason = Triage {
        level: Urgency::Urgent,
        finding: Code::new("x", "99EXAMPLE", "Bleeding"),
        probability: 0.98,
        reason: "look".into(),
    };
    let classified =
        |n: usize| Classification { finding: Code::new("x", "99EXAMPLE", &format!("Finding {n}")), probability: 0.5 };
    let findings = Findings {
        segmentation: Some(segmentation(&study)),
        triage: vec![reason],
        classifications: (0..20).map(classified).collect(),
        ..Findings::default()
    };
    let accepted = gate(findings, &study, &[0], &[]).expect("accepted");
    let source = Source::new(&study, (0, 0)).expect("a volume");
    let key = key_slice(&accepted, &study).expect("a segment has a place");
    let lines = lines(&accepted, key, &source, &module());
    let told: Vec<&str> = lines.iter().map(|line| line.text.as_str()).collect();
    assert_eq!(told[..2], ["Organs in body CT", "ct-organs 1.2.3 by Example"]);
    assert_eq!(told[2], "Series 3, slice 3 of 4, z = 105.0 mm");
    assert_eq!(told[3], "URGENT: Bleeding 0.98");
    assert_eq!((told.len(), told[told.len() - 1]), (3 + 16 + 1, "and 7 more"));
    let all = super::findings(&accepted, key);
    let named = |name: &str| all.iter().find(|line| line.text.starts_with(name)).map(|line| (&*line.text, line.colour));
    // 12 and 20 voxels of 5 mm³; the lung lies in another slice.
    assert_eq!(named("liver"), Some(("liver, 0.2 mL in all", Some(COLOURS[0]))));
    assert_eq!(named("lung"), Some(("lung, 0.0 mL in all", None)));
    assert_eq!(named("kidney"), None, "it has no voxel");
}
