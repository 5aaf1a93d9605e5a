use dicom_dictionary_std::tags;

use super::*;
use crate::findings::{Code, Findings, Segmentation, Unfit, Urgency};
use crate::geometry::{Geometry, Region};
use crate::memory::Budget;
use crate::outputs::tests::{labels, module, segment, stamp, study};
use crate::outputs::{gate, segmentation};
use crate::study::tests::assets;
use crate::study::{ReadOptions, Study};

fn small() -> Study {
    let axes = [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]];
    study(&Geometry::new([4, 3, 2], [1.0, 1.0, 2.0], [0.0; 3], axes).expect("a grid"))
}

fn volume(segment: u32, value: f64) -> Measurement {
    let quantity = Code::new("118565006", "SCT", "Volume");
    Measurement { quantity, value, unit: "mL".into(), segment: Some(segment) }
}

/// Liver and lung with voxels, a kidney without, and one of everything else.
fn findings(study: &Study) -> Findings {
    let grid = &study.series[0].volumes[0].geometry;
    let [nx, ny, nz] = grid.size();
    let row = |i: usize| if i % nx < nx / 2 { 9 } else { 4 };
    let voxels = (0..nx * ny * nz).map(|i| if i / nx % ny == ny / 2 { row(i) } else { 0 }).collect();
    let segments = vec![segment(5, "kidney"), segment(9, "liver"), segment(4, "lung")];
    let score = Measurement {
        quantity: Code::new("112031", "DCM", "Attenuation Coefficient"),
        value: -12.25,
        unit: "[hnsf'U]".into(),
        segment: None,
    };
    let found = || Code::new("36118008", "SCT", "Pneumothorax");
    Findings {
        segmentation: Some(Segmentation { labels: labels(grid, voxels), segments }),
        measurements: vec![volume(5, 0.0), volume(9, 1234.5), volume(4, 100.0 / 3.0), score],
        classifications: vec![Classification { finding: found(), probability: 0.9 }],
        triage: vec![Triage {
            level: Urgency::Urgent,
            finding: found(),
            probability: 0.75,
            reason: "air in the pleural space".into(),
        }],
        ..Findings::default()
    }
}

fn sr(study: &Study, findings: Findings, module: &ModuleInfo) -> Result<FileDicomObject<InMemDicomObject>, SrError> {
    let accepted = gate(findings, study, &[0], &[]).expect("accepted");
    let source = Source::new(study, accepted.source).expect("a volume");
    let uids = OutputUids::new(&source, &[[3; 32]], &module.identity, &[]);
    let seg = Reference { instance: uids.instance("segmentation"), series: uids.series("segmentation") };
    let marks = Source::new(study, accepted.marks_source).expect("a volume");
    let evidence = Evidence { source: &source, marks: &marks, seg: Some(&seg), predecessor: None };
    report(&accepted, &evidence, module, &uids, &stamp(), &Budget::unlimited()).map(|(report, _)| report)
}

/// The report as another program would read it.
fn read_back(object: &FileDicomObject<InMemDicomObject>) -> FileDicomObject<InMemDicomObject> {
    let mut file = Vec::new();
    object.write_all(&mut file).expect("encodes");
    dicom_object::from_reader(file.as_slice()).expect("reads back")
}

/// The content tree, one line an item.
fn outline(item: &InMemDicomObject, depth: usize, lines: &mut Vec<String>) {
    let text = |item: &InMemDicomObject, tag| item.get(tag).map(|e| e.to_str().expect("text").trim_end().to_owned());
    let first = |item: &InMemDicomObject, tag| -> Option<InMemDicomObject> { item.get(tag)?.items()?.first().cloned() };
    let code = |item: &InMemDicomObject, tag| first(item, tag).and_then(|c| text(&c, tags::CODE_MEANING));
    let value = match text(item, tags::VALUE_TYPE).expect("a type").as_str() {
        "CONTAINER" => None,
        "TEXT" => text(item, tags::TEXT_VALUE),
        "CODE" => code(item, tags::CONCEPT_CODE_SEQUENCE),
        "UIDREF" => text(item, tags::UID),
        "DATE" => text(item, tags::DATE),
        "TIME" => text(item, tags::TIME),
        "SCOORD" => item
            .element(tags::GRAPHIC_DATA)
            .ok()
            .and_then(|e| e.to_multi_float32().ok())
            .map(|points| points.iter().map(f32::to_string).collect::<Vec<_>>().join(" ")),
        "NUM" => first(item, tags::MEASURED_VALUE_SEQUENCE).map(|m| {
            let number = text(&m, tags::NUMERIC_VALUE).expect("a number");
            let exact = m.get(tags::FLOATING_POINT_VALUE).is_some();
            let unit = first(&m, tags::MEASUREMENT_UNITS_CODE_SEQUENCE).and_then(|u| text(&u, tags::CODE_VALUE));
            format!("{number} {}{}", unit.expect("a unit"), if exact { " (exact beside)" } else { "" })
        }),
        "IMAGE" => first(item, tags::REFERENCED_SOP_SEQUENCE).map(|r| {
            let segment = text(&r, tags::REFERENCED_SEGMENT_NUMBER).map_or(String::new(), |n| format!(" segment {n}"));
            format!("{}{segment}", text(&r, tags::REFERENCED_SOP_INSTANCE_UID).expect("a UID"))
        }),
        other => panic!("no value type of a report: {other}"),
    };
    let concept = code(item, tags::CONCEPT_NAME_CODE_SEQUENCE).unwrap_or_default();
    let shown = value.map_or(String::new(), |v| format!(" = {v}"));
    lines.push(format!("{}{concept}{shown}", "  ".repeat(depth)));
    if let Some(children) = item.get(tags::CONTENT_SEQUENCE).and_then(|e| e.items()) {
        children.iter().for_each(|child| outline(child, depth + 1, lines));
    }
}

fn lines(object: &InMemDicomObject) -> Vec<String> {
    let mut lines = Vec::new();
    outline(object, 0, &mut lines);
    lines
}

#[test]
fn every_finding_has_its_place() {
    let study = small();
    let report = read_back(&sr(&study, findings(&study), &module()).expect("a report"));
    let lines = lines(&report);
    let start = lines.iter().position(|l| l == "  Imaging Measurements").expect("measurements");
    let uids = OutputUids::new(&Source::new(&study, (0, 0)).expect("a volume"), &[[3; 32]], &[7; 32], &[]);
    let (seg, package) = (uids.instance("segmentation"), "07".repeat(32));
    // A kidney without voxels is not in the SEG, so the liver is the first there.
    let expected = format!(
        "  Imaging Measurements
    Algorithm Name = ct-organs
    Algorithm Version = 1.2.3
    Algorithm Parameters = package_sha256={package}
    Algorithm Manufacturer = Example
    Algorithm Family = Artificial Intelligence
    Measurement Group
      Tracking Identifier = liver
      Tracking Unique Identifier = {liver}
      Finding category = Anatomical Structure
      Finding = Liver
      Referenced Segment = {seg} segment 1
      Source series for segmentation = 2.25.2
      Volume = 1234.5 mL
      Probability = 0.9 1
        Derivation = Mean
    Measurement Group
      Tracking Identifier = lung
      Tracking Unique Identifier = {lung}
      Finding category = Anatomical Structure
      Finding = Lung
      Referenced Segment = {seg} segment 2
      Source series for segmentation = 2.25.2
      Volume = 33.3333333333333 mL (exact beside)
      Probability = 0.9 1
        Derivation = Mean
  Qualitative Evaluations
    Finding = Kidney
      Comment = kidney: no voxel was segmented
      Volume = 0 mL
      Algorithm Name = ct-organs
      Algorithm Version = 1.2.3
      Algorithm Parameters = package_sha256={package}
      Algorithm Manufacturer = Example
      Algorithm Family = Artificial Intelligence
    Finding = Pneumothorax
      Probability = 0.9 1
      Algorithm Name = ct-organs
      Algorithm Version = 1.2.3
      Algorithm Parameters = package_sha256={package}
      Algorithm Manufacturer = Example
      Algorithm Family = Artificial Intelligence
    Finding = Pneumothorax
      Probability = 0.75 1
      Priority = urgent
      Comment = air in the pleural space
      Algorithm Name = ct-organs
      Algorithm Version = 1.2.3
      Algorithm Parameters = package_sha256={package}
      Algorithm Manufacturer = Example
      Algorithm Family = Artificial Intelligence
    Attenuation Coefficient = -12.25 [hnsf'U]",
        liver = uids.tracking(9),
        lung = uids.tracking(4),
    );
    assert_eq!(lines[start..].join("\n"), expected);
}

#[test]
fn numbers_of_a_study_without_segments_are_one_group() {
    let study = small();
    let measurements = findings(&study).measurements.split_off(3);
    let report = read_back(&sr(&study, Findings { measurements, ..Findings::default() }, &module()).expect("a report"));
    let lines = lines(&report);
    let start = lines.iter().position(|l| l == "    Measurement Group").expect("a group");
    assert_eq!(lines[start + 1], "      Tracking Identifier = Measurements");
    assert_eq!(lines[start + 3..], ["      Attenuation Coefficient = -12.25 [hnsf'U]"]);
    let evidence = report.element(tags::CURRENT_REQUESTED_PROCEDURE_EVIDENCE_SEQUENCE).expect("present");
    let series = evidence.items().expect("items")[0].element(tags::REFERENCED_SERIES_SEQUENCE).expect("present");
    assert_eq!(series.items().expect("items").len(), 1, "no SEG is referred to, whatever was passed");
}

#[test]
fn the_head_says_who_of_whom_and_from_what() {
    let study = small();
    let report = read_back(&sr(&study, findings(&study), &module()).expect("a report"));
    let text = |tag| report.element(tag).expect("present").to_str().expect("text").into_owned();
    assert_eq!(text(tags::PATIENT_NAME), "Müller^Test");
    assert_eq!(text(tags::STUDY_INSTANCE_UID), "2.25.1");
    assert_eq!(text(tags::MODALITY), "SR");
    assert_eq!(text(tags::VERIFICATION_FLAG), "UNVERIFIED");
    assert!(text(tags::SERIES_DESCRIPTION).contains(dataset::DEMONSTRATION));
    let lines = lines(&report);
    for line in [
        "  Procedure reported = CT unspecified body region",
        "  Device Observer Manufacturer = Example",
        "       = 2.25.1002",
    ] {
        assert!(lines.iter().any(|l| l == line), "{line:?} in {lines:#?}");
    }
    let study_items = report.element(tags::CURRENT_REQUESTED_PROCEDURE_EVIDENCE_SEQUENCE).expect("present");
    let series = study_items.items().expect("items")[0].element(tags::REFERENCED_SERIES_SEQUENCE).expect("present");
    let counts = series
        .items()
        .expect("items")
        .iter()
        .map(|s| s.element(tags::REFERENCED_SOP_SEQUENCE).expect("present").items().expect("items").len());
    assert_eq!(counts.collect::<Vec<_>>(), [2, 1], "two slices, one SEG");
}

#[test]
fn text_beyond_the_character_set_of_the_source_changes_it() {
    let study = small();
    let mut stated = findings(&study);
    stated.triage[0].reason = "odma opłucnowa".into();
    let report = read_back(&sr(&study, stated, &ModuleInfo { vendor: "Würth".into(), ..module() }).expect("a report"));
    let text = |tag| report.element(tag).expect("present").to_str().expect("text").into_owned();
    assert_eq!(text(tags::SPECIFIC_CHARACTER_SET), "ISO_IR 192");
    assert_eq!(text(tags::PATIENT_NAME), "Müller^Test");
    let lines = lines(&report);
    assert!(lines.iter().any(|l| l.trim() == "Comment = odma opłucnowa"), "{lines:#?}");
}

#[test]
fn text_that_the_character_set_of_the_source_cannot_hold_is_marked_where_no_other_may_stand() {
    for set in ["\\ISO 2022 IR 87", "ISO 2022 IR 100", "PRIVATE_1"] {
        let mut study = small();
        study.series[0].header.put_str(tags::SPECIFIC_CHARACTER_SET, dicom_core::VR::CS, set);
        study.series[0].header.put_str(tags::PATIENT_NAME, dicom_core::VR::PN, "Yamada^Tarou");
        let mut stated = findings(&study);
        stated.triage[0].reason = "odma opłucnowa".into();
        let report = read_back(&sr(&study, stated, &module()).expect("a report"));
        let kept = report.element(tags::SPECIFIC_CHARACTER_SET).expect("present").to_str().expect("text").into_owned();
        assert_eq!(kept, set);
        let lines = lines(&report);
        assert!(lines.iter().any(|l| l.trim() == "Comment = odma op?ucnowa"), "{set}: {lines:#?}");
    }
}

fn a_box(start: [usize; 3], size: [usize; 3]) -> Mark {
    Mark { region: Region { start, size }, label: Code::new("27925004", "SCT", "Nodule"), probability: 0.5 }
}

#[test]
fn what_is_in_a_box_is_a_group_with_an_outline_in_each_of_its_slices() {
    let study = small();
    let marks = vec![a_box([0, 1, 1], [2, 1, 1]), a_box([1, 0, 0], [3, 2, 2])];
    let measurements = findings(&study).measurements.split_off(3);
    let stated = Findings { marks, measurements, ..Findings::default() };
    let report = read_back(&sr(&study, stated, &module()).expect("a report"));
    let lines = lines(&report);
    let start = lines.iter().position(|l| l == "    Measurement Group").expect("a group");
    let uids = OutputUids::new(&Source::new(&study, (0, 0)).expect("a volume"), &[[3; 32]], &[7; 32], &[]);
    let expected = format!(
        "    Measurement Group
      Tracking Identifier = Nodule 1
      Tracking Unique Identifier = {one}
      Finding = Nodule
      Image Region = 0 1 2 1 2 2 0 2 0 1
         = 2.25.1002
      Probability = 0.5 1
    Measurement Group
      Tracking Identifier = Nodule 2
      Tracking Unique Identifier = {two}
      Finding = Nodule
      Image Region = 1 0 4 0 4 2 1 2 1 0
         = 2.25.1001
      Image Region = 1 0 4 0 4 2 1 2 1 0
         = 2.25.1002
      Probability = 0.5 1
  Qualitative Evaluations
    Attenuation Coefficient = -12.25 [hnsf'U]",
        one = uids.other(OUTPUT, "mark 1"),
        two = uids.other(OUTPUT, "mark 2"),
    );
    assert_eq!(lines[start..].join("\n"), expected);
}

#[test]
fn boxes_of_another_series_are_evidence_of_their_own_and_boxes_without_end_name_the_limit() {
    let mut study = small();
    let mut other = small().series.remove(0);
    other.uid = "2.25.3".into();
    other.instances.iter_mut().for_each(|i| i.sop_instance_uid = i.sop_instance_uid.replace("2.25.1", "2.25.7"));
    let moved = Geometry::new([4, 3, 2], [1.0, 1.0, 2.0], [50.0; 3], other.volumes[0].geometry.axes());
    other.volumes[0].geometry = moved.expect("a grid");
    study.series.insert(0, other);
    let grid = study.series[1].volumes[0].geometry.clone();
    let segmentation = Segmentation { labels: labels(&grid, vec![9; 24]), segments: vec![segment(9, "liver")] };
    let marks = vec![a_box([0, 0, 0], [1, 1, 2]), a_box([0, 0, 1], [1, 1, 1])];
    let stated = Findings { segmentation: Some(segmentation), marks, ..Findings::default() };
    let accepted = gate(stated, &study, &[0, 1], &[]).expect("accepted");
    let [source, marks] = [accepted.source, accepted.marks_source].map(|at| Source::new(&study, at).expect("a volume"));
    let uids = OutputUids::new(&source, &[], &[7; 32], &[]);
    let seg = Reference { series: "2.25.8".into(), instance: "2.25.9".into() };
    let evidence = Evidence { source: &source, marks: &marks, seg: Some(&seg), predecessor: None };
    let (written, _) =
        report(&accepted, &evidence, &module(), &uids, &stamp(), &Budget::bytes(3 * OUTLINE_BYTES)).expect("a report");
    let study_items = written.element(tags::CURRENT_REQUESTED_PROCEDURE_EVIDENCE_SEQUENCE).expect("present");
    let series = study_items.items().expect("items")[0].element(tags::REFERENCED_SERIES_SEQUENCE).expect("present");
    let named: Vec<_> = series.items().expect("items").iter().map(|s| s.element(tags::SERIES_INSTANCE_UID)).collect();
    let named: Vec<_> = named.into_iter().map(|uid| uid.expect("one").to_str().expect("text").into_owned()).collect();
    assert_eq!(named, ["2.25.2", "2.25.3", "2.25.8"]);
    let lines = lines(&read_back(&written));
    assert_eq!(lines.iter().filter(|l| l.trim() == "Image Library Group").count(), 2);
    assert_eq!(lines.iter().filter(|l| l.ends_with(" = 2.25.7002")).count(), 3, "in the library, and for both boxes");
    let tight = report(&accepted, &evidence, &module(), &uids, &stamp(), &Budget::bytes(3 * OUTLINE_BYTES - 1));
    let error = tight.expect_err("no room").to_string();
    assert!(error.contains("host_memory_mib"), "{error}");
}

#[test]
fn the_library_says_where_images_lie_as_far_as_they_say_so() {
    let mut study = small();
    let stated = findings(&study);
    let library = |study: &Study| {
        let report = read_back(&sr(study, stated.clone(), &module()).expect("a report"));
        let lines = lines(&report);
        let first = lines.iter().position(|l| l.trim() == "Image Library Group").expect("a group");
        let end = lines.iter().position(|l| l == "  Imaging Measurements").expect("the next part");
        lines[first + 1..end].iter().map(|l| l.trim().to_owned()).collect::<Vec<_>>()
    };
    let first = library(&study);
    for line in ["Modality = Computed Tomography", "Study Date = 20200102", "Frame of Reference UID = 2.25.77"] {
        assert!(first.iter().any(|l| l == line), "{line:?} in {first:#?}");
    }
    assert_eq!(first[first.len() - 2..], ["= 2.25.1001", "= 2.25.1002"], "no position is made up");
    let series = &mut study.series[0];
    for (tag, vr, value) in [
        (tags::STUDY_TIME, VR::TM, "101112.5"),
        (tags::STUDY_DATE, VR::DA, "yesterday"),
        (tags::FRAME_OF_REFERENCE_UID, VR::UI, ""),
        (tags::LATERALITY, VR::CS, "L"),
    ] {
        series.header.put_str(tag, vr, value);
    }
    series.instances[1].position = Some([-1.5, 0.0, 2.0]);
    let lines = library(&study);
    for line in [
        "Image Laterality = Left",
        "Pixel Data Rows = 3 {pixels}",
        "Pixel Data Columns = 4 {pixels}",
        "Study Time = 101112.5",
        "Horizontal Pixel Spacing = 1 mm",
        "Spacing between slices = 2 mm",
        "Slice Thickness = 2 mm",
        "Image Orientation (Patient) Row X = 1 {-1:1}",
        "Image Orientation (Patient) Column Y = 1 {-1:1}",
        "Image Position (Patient) X = -1.5 mm",
    ] {
        assert!(lines.iter().any(|l| l == line), "{line:?} in {lines:#?}");
    }
    assert!(!lines.iter().any(|l| l.starts_with("Study Date") || l.starts_with("Frame of Reference")), "{lines:#?}");
}

#[test]
fn a_report_names_the_one_that_it_takes_the_place_of() {
    let study = small();
    let accepted = gate(Findings { segmentation: None, measurements: vec![], ..findings(&study) }, &study, &[0], &[]);
    let accepted = accepted.expect("accepted");
    let source = Source::new(&study, (0, 0)).expect("a volume");
    let uids = OutputUids::new(&source, &[], &[7; 32], &[]);
    let earlier = Reference { series: "2.25.50".into(), instance: "2.25.51".into() };
    let evidence = Evidence { source: &source, marks: &source, seg: None, predecessor: Some(&earlier) };
    let (report, _) = report(&accepted, &evidence, &module(), &uids, &stamp(), &Budget::unlimited()).expect("a report");
    let first = |object: &InMemDicomObject, tag| -> InMemDicomObject {
        object.element(tag).expect("present").items().expect("items")[0].clone()
    };
    let text =
        |object: &InMemDicomObject, tag| object.element(tag).expect("present").to_str().expect("text").into_owned();
    let study = first(&report, tags::PREDECESSOR_DOCUMENTS_SEQUENCE);
    let series = first(&study, tags::REFERENCED_SERIES_SEQUENCE);
    let document = first(&series, tags::REFERENCED_SOP_SEQUENCE);
    assert_eq!(text(&study, tags::STUDY_INSTANCE_UID), "2.25.1");
    assert_eq!(text(&series, tags::SERIES_INSTANCE_UID), "2.25.50");
    assert_eq!(text(&document, tags::REFERENCED_SOP_INSTANCE_UID), "2.25.51");
    assert_eq!(text(&document, tags::REFERENCED_SOP_CLASS_UID), dictionary::COMPREHENSIVE3_DSR_STORAGE);
}

#[test]
fn the_same_findings_give_the_same_bytes() {
    let study = small();
    let bytes = || {
        let mut file = Vec::new();
        let report = sr(&study, findings(&study), &module()).expect("a report");
        report.write_all(&mut file).expect("encodes");
        file
    };
    assert!(bytes() == bytes());
}

#[test]
fn nothing_stated_is_no_report() {
    let study = small();
    assert!(matches!(sr(&study, Findings::default(), &module()), Err(SrError::Empty)));
    let unfit = Unfit { reason: Code::new("111208", "DCM", "Too few slices"), detail: String::new() };
    assert!(matches!(
        sr(&study, Findings { unfit: Some(unfit), ..Findings::default() }, &module()),
        Err(SrError::Empty)
    ));
}

#[test]
fn segments_with_voxels_need_a_seg() {
    let study = small();
    let accepted = gate(findings(&study), &study, &[0], &[]).expect("accepted");
    let source = Source::new(&study, accepted.source).expect("a volume");
    let uids = OutputUids::new(&source, &[], &[7; 32], &[]);
    let evidence = Evidence { source: &source, marks: &source, seg: None, predecessor: None };
    let report = report(&accepted, &evidence, &module(), &uids, &stamp(), &Budget::unlimited());
    assert!(matches!(report, Err(SrError::NoSeg)));
}

#[test]
fn what_is_found_again_takes_the_place_of_what_it_did_before() {
    let study = small();
    let uids = OutputUids::new(&Source::new(&study, (0, 0)).expect("a volume"), &[], &[7; 32], &[]);
    let own = uids.instance(OUTPUT);
    let of = |instances: &[&str]| {
        let earlier: Vec<_> =
            instances.iter().map(|uid| Reference { series: "2.25.5".into(), instance: (*uid).into() }).collect();
        predecessor(&earlier, &uids).map(|report| report.instance.clone())
    };
    assert_eq!(of(&[]), None);
    assert_eq!(of(&["2.25.1", "2.25.2"]).as_deref(), Some("2.25.2"));
    assert_eq!(of(&[own.as_str()]), None, "it is no successor of itself");
    assert_eq!(of(&["2.25.1", own.as_str()]).as_deref(), Some("2.25.1"));
    assert_eq!(of(&["2.25.1", own.as_str(), "2.25.2"]).as_deref(), Some("2.25.1"));
}

#[test]
fn a_report_on_a_real_series_refers_to_its_slices_and_its_seg() {
    let Some(folder) = assets("totalsegmentator/example_ct_dicom") else { return };
    let options = ReadOptions::default();
    let study = crate::study::read(&[folder], &options).expect("the series reads");
    let accepted = gate(findings(&study), &study, &[0], &[]).expect("accepted");
    let source = Source::new(&study, accepted.source).expect("a volume");
    let uids = OutputUids::new(&source, &[[3; 32]], &module().identity, &[]);
    let seg = segmentation(&accepted, &source, &module(), &uids, &stamp()).expect("a SEG");
    let text = |tag| seg.element(tag).expect("present").to_str().expect("text").into_owned();
    let named = Reference { instance: text(tags::SOP_INSTANCE_UID), series: text(tags::SERIES_INSTANCE_UID) };
    let evidence = Evidence { source: &source, marks: &source, seg: Some(&named), predecessor: None };
    let (report, _) = report(&accepted, &evidence, &module(), &uids, &stamp(), &Budget::unlimited()).expect("a report");
    let report = read_back(&report);
    let lines = lines(&report);
    for instance in &study.series[0].instances {
        let images = lines.iter().filter(|l| l.ends_with(&format!(" = {}", instance.sop_instance_uid)));
        assert_eq!(images.count(), 1, "each slice stands once in the image library");
    }
    let segments = lines.iter().filter(|l| l.contains(&format!("Referenced Segment = {}", named.instance)));
    assert_eq!(segments.count(), 2);
}
