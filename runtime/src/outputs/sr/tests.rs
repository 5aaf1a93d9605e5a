use std::path::PathBuf;

use dicom_dictionary_std::tags;

use super::*;
use crate::findings::{Code, Findings, Segmentation, Unfit, Urgency};
use crate::geometry::{Geometry, Region};
use crate::outputs::tests::{labels, module, segment, stamp, study};
use crate::outputs::{gate, segmentation};
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
    let accepted = gate(findings, study, &[0]).expect("accepted");
    let source = Source::new(study, accepted.source).expect("a volume");
    let uids = OutputUids::new(&source, &[[3; 32]], &module.identity, &[]);
    let seg = SegReference { instance: uids.instance("segmentation"), series: uids.series("segmentation") };
    report(&accepted, &source, module, &uids, Some(&seg), &stamp())
}

/// The report as another program would read it.
fn read_back(object: &FileDicomObject<InMemDicomObject>) -> FileDicomObject<InMemDicomObject> {
    let mut file = Vec::new();
    object.write_all(&mut file).expect("encodes");
    dicom_object::from_reader(file.as_slice()).expect("reads back")
}

/// The content tree, one line an item.
fn outline(item: &InMemDicomObject, depth: usize, lines: &mut Vec<String>) {
    let text = |item: &InMemDicomObject, tag| {
        item.element_opt(tag).expect("reads").map(|e| e.to_str().expect("text").trim_end().to_owned())
    };
    let first = |item: &InMemDicomObject, tag| -> Option<InMemDicomObject> {
        item.element_opt(tag).expect("reads")?.items()?.first().cloned()
    };
    let code = |item: &InMemDicomObject, tag| first(item, tag).and_then(|c| text(&c, tags::CODE_MEANING));
    let value = match text(item, tags::VALUE_TYPE).expect("a type").as_str() {
        "CONTAINER" => None,
        "TEXT" => text(item, tags::TEXT_VALUE),
        "CODE" => code(item, tags::CONCEPT_CODE_SEQUENCE),
        "UIDREF" => text(item, tags::UID),
        "NUM" => first(item, tags::MEASURED_VALUE_SEQUENCE).map(|m| {
            let number = text(&m, tags::NUMERIC_VALUE).expect("a number");
            let exact = m.element_opt(tags::FLOATING_POINT_VALUE).expect("reads").is_some();
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
    if let Some(children) = item.element_opt(tags::CONTENT_SEQUENCE).expect("reads").and_then(|e| e.items()) {
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
    Finding = Pneumothorax
      Probability = 0.9 1
      Algorithm Name = ct-organs
      Algorithm Version = 1.2.3
      Algorithm Parameters = package_sha256={package}
    Finding = Pneumothorax
      Probability = 0.75 1
      Priority = urgent
      Comment = air in the pleural space
      Algorithm Name = ct-organs
      Algorithm Version = 1.2.3
      Algorithm Parameters = package_sha256={package}
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
fn what_is_in_a_box_is_told_with_its_place() {
    let study = small();
    let region = Region { start: [0, 1, 0], size: [2, 1, 2] };
    let marks = vec![Mark { region, label: Code::new("27925004", "SCT", "Nodule"), probability: 0.5 }];
    let report = read_back(&sr(&study, Findings { marks, ..Findings::default() }, &module()).expect("a report"));
    let lines = lines(&report);
    let told = |wanted: &str| lines.iter().any(|line| line.trim() == wanted);
    assert!(told("Comment = box: columns 1 to 2, rows 2 to 2, slices 1 to 2 along the normal"), "{lines:#?}");
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
    let accepted = gate(findings(&study), &study, &[0]).expect("accepted");
    let source = Source::new(&study, accepted.source).expect("a volume");
    let uids = OutputUids::new(&source, &[], &[7; 32], &[]);
    let report = report(&accepted, &source, &module(), &uids, None, &stamp());
    assert!(matches!(report, Err(SrError::NoSeg)));
}

/// A folder of real data, or `None` where a person has not fetched it.
fn real_ct() -> Option<PathBuf> {
    let repository = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).parent()?;
    let assets = std::env::var_os("GANTRY_ASSETS").map_or_else(|| repository.join(".cache/assets"), PathBuf::from);
    let folder = assets.join("totalsegmentator/example_ct_dicom");
    if folder.is_dir() {
        return Some(folder);
    }
    assert!(std::env::var_os("CI").is_none(), "{} is missing: run `cargo xtask assets`", folder.display());
    eprintln!("skipped: {} is missing; run `cargo xtask assets`", folder.display());
    None
}

#[test]
fn a_report_on_a_real_series_refers_to_its_slices_and_its_seg() {
    let Some(folder) = real_ct() else { return };
    let options = ReadOptions::default();
    let study = crate::study::read(&[folder], &options).expect("the series reads");
    let accepted = gate(findings(&study), &study, &[0]).expect("accepted");
    let source = Source::new(&study, accepted.source).expect("a volume");
    let uids = OutputUids::new(&source, &[[3; 32]], &module().identity, &[]);
    let seg = segmentation(&accepted, &source, &module(), &uids, &stamp()).expect("a SEG");
    let text = |tag| seg.element(tag).expect("present").to_str().expect("text").into_owned();
    let named = SegReference { instance: text(tags::SOP_INSTANCE_UID), series: text(tags::SERIES_INSTANCE_UID) };
    let report = report(&accepted, &source, &module(), &uids, Some(&named), &stamp()).expect("a report");
    let report = read_back(&report);
    let lines = lines(&report);
    for instance in &study.series[0].instances {
        let images = lines.iter().filter(|l| l.ends_with(&format!(" = {}", instance.sop_instance_uid)));
        assert_eq!(images.count(), 1, "each slice stands once in the image library");
    }
    let segments = lines.iter().filter(|l| l.contains(&format!("Referenced Segment = {}", named.instance)));
    assert_eq!(segments.count(), 2);
}
