//! Each object that we write, damaged in each way that a rule is about, and refused by that rule.

mod copied;
mod damage;
mod required;

use std::collections::BTreeSet;
use std::path::PathBuf;

use dicom_core::Tag;
use dicom_object::{FileDicomObject, InMemDicomObject};
use tempfile::TempDir;

use super::*;
use crate::findings::{Classification, Code, Findings, Heatmap, Mark, Measurement, Segmentation, Triage, Urgency};
use crate::geometry::{Geometry, Region};
use crate::memory::Budget;
use crate::outputs::tests::{labels, module, segment, stamp, study};
use crate::outputs::{
    Evidence, OutputKind, OutputUids, Reference, Source, Transaction, gate, key_slice, parametric_map,
    presentation_state, report, secondary_capture, segmentation,
};
use crate::study::Study;
use crate::volumes::Volume;

type Made = FileDicomObject<InMemDicomObject>;

const SEG: usize = 0;
const SR: usize = 1;
const MAP: usize = 2;
const STATE: usize = 3;
const CAPTURE: usize = 4;
const FILES: [(&str, OutputKind); 5] = [
    ("segmentation.dcm", OutputKind::Segmentation),
    ("report.dcm", OutputKind::Report),
    ("parametric-map.dcm", OutputKind::ParametricMap),
    ("presentation-state.dcm", OutputKind::PresentationState),
    ("secondary-capture.dcm", OutputKind::SecondaryCapture),
];

/// A result with one of everything, of an oblique CT.
struct Whole {
    study: Study,
    objects: Vec<Made>,
    folder: TempDir,
    written: Vec<Written>,
}

impl Whole {
    fn new() -> Self {
        let (s, c) = 0.3f64.sin_cos();
        let axes = [[c, s, 0.0], [-s, c, 0.0], [0.0, 0.0, 1.0]];
        Self::of(study(&Geometry::new([20, 10, 4], [0.7, 0.8, 2.5], [-10.0, 20.0, 30.0], axes).expect("a grid")))
    }

    fn of(study: Study) -> Self {
        let grid = study.series[0].volumes[0].geometry.clone();
        let accepted = gate(findings(&grid), &study, &[0], &[]).expect("accepted");
        let source = Source::new(&study, accepted.source).expect("a volume");
        let (module, stamp) = (module(), stamp());
        let uids = OutputUids::new(&source, &[[3; 32]], &module.identity, &[]);
        let seg = segmentation(&accepted, &source, &module, &uids, &stamp).expect("a SEG");
        let named = Reference { instance: uids.instance("segmentation"), series: uids.series("segmentation") };
        let evidence = Evidence { source: &source, marks: &source, seg: Some(&named), predecessor: None };
        let report = report(&accepted, &evidence, &module, &uids, &stamp, &Budget::unlimited());
        let (report, _held) = report.expect("a report");
        let heatmap = accepted.heatmap.as_ref().expect("one");
        let (map, _held) = parametric_map(heatmap, &source, &module, &uids, &stamp).expect("a map");
        let budget = Budget::unlimited();
        let state = presentation_state(&accepted, &source, &module, &uids, &stamp, &budget);
        let (state, _held) = state.expect("a state");
        let key = key_slice(&accepted, &study).expect("something has a place");
        let [columns, rows, _] = grid.size();
        let slice = Geometry::new([columns, rows, 1], grid.spacing(), [0.0; 3], grid.axes()).expect("a grid");
        let image = Volume::from_f32(slice, vec![40.0; columns * rows], &budget).expect("as many as the grid has");
        let capture = secondary_capture(&accepted, key, &source, &image, &module, &uids, &stamp).expect("a capture");
        let folder = tempfile::tempdir().expect("a folder");
        let objects = vec![seg, report, map, state, capture];
        let mut whole = Self { study, objects, folder, written: Vec::new() };
        whole.written = (0..FILES.len()).map(|i| whole.write(i, &bytes(&whole.objects[i]))).collect();
        whole
    }

    /// Puts an object into its file.
    fn write(&self, which: usize, bytes: &[u8]) -> Written {
        let (file, kind) = FILES[which];
        std::fs::write(self.folder.path().join(file), bytes).expect("written");
        let uid = |tag| Some(text(&self.objects[which], tag));
        Written {
            file: file.into(),
            kind,
            sop_class_uid: uid(tags::SOP_CLASS_UID),
            sop_instance_uid: uid(tags::SOP_INSTANCE_UID),
            series_instance_uid: uid(tags::SERIES_INSTANCE_UID),
            sha256: String::new(),
            bytes: bytes.len() as u64,
        }
    }

    /// What the gate says of the result when one of its files has other bytes.
    fn with(&self, which: usize, changed: &[u8]) -> Result<(), Nonconforming> {
        let mut written = self.written.clone();
        written[which] = self.write(which, changed);
        let checked = check_all(&self.study, &written, self.folder.path());
        self.write(which, &bytes(&self.objects[which]));
        checked
    }

    /// The same when one of its objects is another.
    fn changed(&self, which: usize, change: impl FnOnce(&mut InMemDicomObject)) -> Result<(), Nonconforming> {
        let mut object = self.objects[which].clone();
        change(&mut object);
        self.with(which, &bytes(&object))
    }
}

fn check_all(study: &Study, written: &[Written], folder: &std::path::Path) -> Result<(), Nonconforming> {
    let staged = written.iter().map(|written| (written, folder.join(&written.file)));
    let staged: Vec<(&Written, PathBuf)> = staged.collect();
    check(staged, &Inputs::new(study, &[0])).map_err(nonconforming_of)
}

fn nonconforming_of(error: CheckError) -> Nonconforming {
    match error {
        CheckError::Nonconforming(refused) => refused,
        unread @ CheckError::Unread { .. } => panic!("{unread}"),
    }
}

fn bytes(object: &Made) -> Vec<u8> {
    let mut file = Vec::new();
    object.write_all(&mut file).expect("encodes");
    file
}

fn text(object: &InMemDicomObject, tag: Tag) -> String {
    object.element(tag).expect("an element").to_str().expect("text").trim_end_matches(['\0', ' ']).to_owned()
}

fn findings(grid: &Geometry) -> Findings {
    let [columns, rows, slices] = grid.size();
    let voxel = |i: usize| match [i % columns, i / columns % rows, i / columns / rows] {
        [x, 2..=4, 1..=2] if x < 7 => 9,
        [x, 7, 2] if x > 7 => 4,
        _ => 0,
    };
    let voxels = columns * rows * slices;
    let segments = vec![segment(9, "liver"), segment(4, "lung"), segment(5, "kidney")];
    let heat = (0..voxels).map(|i| i as f32 / voxels as f32).collect();
    let found = || Code::new("36118008", "SCT", "Pneumothorax");
    let volume = |segment, value| Measurement {
        quantity: Code::new("118565006", "SCT", "Volume"),
        value,
        unit: "mL".into(),
        segment,
    };
    Findings {
        segmentation: Some(Segmentation { labels: labels(grid, (0..voxels).map(voxel).collect()), segments }),
        measurements: vec![volume(Some(9), 100.0 / 3.0), volume(Some(5), 0.0), volume(None, 2.0)],
        classifications: vec![Classification { finding: found(), probability: 0.9 }],
        triage: vec![Triage {
            level: Urgency::Urgent,
            finding: found(),
            probability: 0.75,
            reason: "air in the pleural space".into(),
        }],
        heatmap: Some(Heatmap {
            values: Volume::from_f32(grid.clone(), heat, &Budget::unlimited()).expect("as many as the grid has"),
            title: "Wärme".into(),
        }),
        marks: vec![Mark {
            region: Region { start: [2, 3, 1], size: [5, 4, 2] },
            label: Code::new("x", "99EXAMPLE", "Nodule"),
            probability: 0.875,
        }],
        ..Findings::default()
    }
}

#[test]
fn what_we_write_conforms() {
    let whole = Whole::new();
    check_all(&whole.study, &whole.written, whole.folder.path()).expect("conforms");
}

#[test]
fn an_object_that_does_not_conform_leaves_nothing_of_its_result() {
    let whole = Whole::new();
    let mut elsewhere = whole.objects[SEG].clone();
    elsewhere.put_str(tags::FRAME_OF_REFERENCE_UID, dicom_core::VR::UI, "2.25.78");
    let out = whole.folder.path().join("out");
    let mut transaction = Transaction::begin(&out).expect("begun");
    transaction.dicom(FILES[SEG].0, FILES[SEG].1, &elsewhere).expect("staged");
    transaction.dicom(FILES[SR].0, FILES[SR].1, &whole.objects[SR]).expect("staged");
    let error = check(transaction.staged(), &Inputs::new(&whole.study, &[0])).expect_err("another frame of reference");
    let error = nonconforming_of(error);
    assert_eq!((error.file.as_str(), error.object), ("segmentation.dcm", "Segmentation"));
    drop(transaction);
    assert!(!out.exists());
}

/// In hospitals there is much that no standard allows; it comes back as it was.
#[test]
fn what_the_source_states_is_not_ours_to_judge() {
    let mut study = study(&Geometry::new([20, 10, 4], [0.7, 0.8, 2.5], [0.0; 3], AXES).expect("a grid"));
    let header = &mut study.series[0].header;
    for (tag, vr, value) in [
        (tags::ACCESSION_NUMBER, dicom_core::VR::SH, "an accession number of 33 signs!"),
        (tags::STUDY_DATE, dicom_core::VR::DA, "2020.01.02"),
        (tags::PATIENT_SEX, dicom_core::VR::CS, "unknown"),
        (tags::BODY_PART_EXAMINED, dicom_core::VR::CS, "Abdomen, upper part"),
        (tags::FRAME_OF_REFERENCE_UID, dicom_core::VR::UI, "2.25.077"),
    ] {
        header.put_str(tag, vr, value);
    }
    study.series[0].uid = "2.25.02".into();
    study.series[0].instances[1].sop_instance_uid = "2.25.01002".into();
    let whole = Whole::of(study);
    check_all(&whole.study, &whole.written, whole.folder.path()).expect("conforms");
    let refused = whole.changed(SEG, |object| _ = object.put_str(tags::ACCESSION_NUMBER, dicom_core::VR::SH, "A1"));
    assert_eq!(refused.expect_err("another's").rule, "is not what the source says");
}

const AXES: [[f64; 3]; 3] = [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]];

#[test]
fn an_error_names_object_attribute_and_rule_and_no_value() {
    let whole = Whole::new();
    let label = [(tags::SEGMENT_SEQUENCE, 1)];
    let error = whole.changed(SEG, |object| remove(object, &label, tags::SEGMENT_LABEL)).expect_err("refused");
    assert_eq!(
        error.to_string(),
        "segmentation.dcm (Segmentation) does not conform and nothing of the result is kept: \
         SegmentSequence[2].SegmentLabel (0062,0005): type 1, and missing: module Segmentation Image (PS3.3 C.8.20.2), \
         of the Segmentation (PS3.3 A.51); this is a fault of gantry, report it with this line"
    );
    let error = whole.changed(SEG, |object| _ = object.put_str(tags::PATIENT_NAME, dicom_core::VR::PN, "Doe^Jane"));
    let error = error.expect_err("refused").to_string();
    assert!(error.contains("PatientName (0010,0010)") && !error.contains("Doe") && !error.contains("ller"), "{error}");
}

type Place = Vec<(Tag, usize)>;

/// Changes an item in sequences, each with the place of the item in it, from 0.
fn inside(object: &mut InMemDicomObject, path: &[(Tag, usize)], change: &mut dyn FnMut(&mut InMemDicomObject)) {
    let Some(((tag, item), rest)) = path.split_first() else { return change(object) };
    let there = object.update_value(*tag, |value| {
        let items = value.items_mut().expect("a sequence");
        inside(&mut items[*item], rest, change);
    });
    assert!(there, "no {tag}");
}

fn remove(object: &mut InMemDicomObject, path: &[(Tag, usize)], tag: Tag) {
    inside(object, path, &mut |item| assert!(item.remove_element(tag), "no {tag}"));
}
