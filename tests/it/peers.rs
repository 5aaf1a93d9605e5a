//! What is written, judged by other people's software.
//!
//! What a file must hold comes from the sandbox alone: the voxels and numbers that the module stated, before the gate
//! and the writers have seen them.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::OnceLock;

use dicom_core::{DataElement, PrimitiveValue, VR};
use dicom_dictionary_std::tags;
use gantry::findings::Findings;
use gantry_tests::orthanc::Orthanc;
use gantry_tests::peers::{NodePeers, Peers};
use gantry_tests::{Scenario, asset, change_files, needed};
use serde_json::json;

/// A scenario that has run.
pub(crate) struct Done {
    pub(crate) scenario: Scenario,
    stated: Findings,
}

impl Done {
    pub(crate) fn of(scenario: Scenario) -> Self {
        let stated = scenario.stated().expect("the module runs").findings;
        scenario.run().expect("the result is written");
        Self { scenario, stated }
    }

    pub(crate) fn written(&self, name: &str) -> String {
        path_text(&self.scenario.out().join(name))
    }

    /// Labels as stated, x fastest, and the values that occur.
    fn labels(&self) -> (Vec<u16>, [usize; 3], BTreeSet<u32>) {
        let labels = &self.stated.segmentation.as_ref().expect("the module segments").labels;
        let [nx, ny, nz] = labels.geometry().size();
        let mut voxels = vec![0u16; nx * ny * nz];
        for (z, slice) in voxels.chunks_exact_mut(nx * ny).enumerate() {
            labels.label_slice(z, slice).expect("labels");
        }
        let present = voxels.iter().map(|&v| u32::from(v)).collect();
        (voxels, [nx, ny, nz], present)
    }

    /// (value, Segment Number, name) of the segments that have voxels, in the order in which they were stated.
    fn numbered(&self) -> Vec<(u32, usize, &str)> {
        let (_, _, present) = self.labels();
        let segments = &self.stated.segmentation.as_ref().expect("the module segments").segments;
        let held = segments.iter().filter(|s| present.contains(&s.value));
        held.zip(1..).map(|(s, number)| (s.value, number, s.name.as_str())).collect()
    }

    /// Writes what the SEG must hold into a folder, as `judge_seg.py` reads it; the file.
    pub(crate) fn expected(&self, folder: &Path) -> String {
        let (voxels, size, _) = self.labels();
        let bytes: Vec<u8> = voxels.iter().flat_map(|v| v.to_le_bytes()).collect();
        std::fs::write(folder.join("labels.raw"), bytes).expect("written");
        let named =
            |&(value, number, name): &(u32, usize, &str)| json!({"value": value, "number": number, "name": name});
        let segments: Vec<_> = self.numbered().iter().map(named).collect();
        let expected = json!({"voxels": "labels.raw", "type": "uint16", "size": size, "segments": segments});
        let file = folder.join("expected.json");
        std::fs::write(&file, expected.to_string()).expect("written");
        path_text(&file)
    }

    /// SEG and SR, by all who judge them but dcmjs, which looks for sources of one image alone.
    pub(crate) fn judge(&self, peers: &Peers) {
        self.judge_seg_by(peers, None);
        self.judge_sr_by(peers, None);
    }

    /// dciodvfy, highdicom, pydicom, dcmqi and dcmjs find each mask as it was stated, and where it was stated.
    fn judge_seg(&self, peers: &Peers) {
        self.judge_seg_by(peers, NodePeers::with("dcmjs").as_ref());
    }

    fn judge_seg_by(&self, peers: &Peers, dcmjs: Option<&NodePeers>) {
        let folder = tempfile::tempdir().expect("a folder");
        let [seg, source] = [self.written("segmentation.dcm"), path_text(self.scenario.study())];
        let expected = self.expected(folder.path());
        peers.agree("judge_seg.py", &[&seg, &source, &expected]);
        if let Some(node) = dcmjs {
            node.agree("judge_dcmjs.cjs", &["seg", &seg, &source, &expected]);
        }
    }

    /// dciodvfy, PixelMed's validator, highdicom, dcmqi and dcmjs find each measurement as it was stated.
    fn judge_sr(&self, peers: &Peers) {
        self.judge_sr_by(peers, NodePeers::with("dcmjs").as_ref());
    }

    fn judge_sr_by(&self, peers: &Peers, dcmjs: Option<&NodePeers>) {
        let numbered = self.numbered();
        let of_segment = self.stated.measurements.iter().filter_map(|m| {
            let (_, number, _) = numbered.iter().find(|(value, ..)| Some(*value) == m.segment)?;
            Some(json!({"number": number, "quantity": m.quantity.value, "value": m.value, "unit": m.unit}))
        });
        let expected: Vec<_> = of_segment.collect();
        assert_eq!(expected.len(), numbered.len(), "the module measures each segment once");
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("expected.json");
        std::fs::write(&file, json!(expected).to_string()).expect("written");
        let [sr, seg] = ["report.dcm", "segmentation.dcm"].map(|name| self.written(name));
        let file = path_text(&file);
        let mut arguments = vec![sr.as_str(), &seg, &file];
        if pixelmed_is_there() {
            arguments.push("--pixelmed");
        }
        peers.agree("judge_sr.py", &arguments);
        if let Some(node) = dcmjs {
            node.agree("judge_dcmjs.cjs", &["sr", &sr, &seg, &file]);
        }
    }
}

pub(crate) fn path_text(path: &Path) -> String {
    path.to_str().expect("a path in UTF-8").to_owned()
}

pub(crate) fn pixelmed_is_there() -> bool {
    let there = Path::new("/usr/share/java/pixelmed.jar").exists();
    if !there {
        gantry_tests::skipped("PixelMed's validator: run `apt-get install libpixelmed-java default-jre-headless`");
    }
    there
}

/// The demonstration module on the real CT, run once for all tests of this process.
pub(crate) fn real() -> Option<&'static Done> {
    static DONE: OnceLock<Option<Done>> = OnceLock::new();
    let run = || {
        let package = needed("modules/ct-organs/package", "cargo xtask guests")?;
        let study = asset("totalsegmentator/example_ct_dicom")?;
        let mut scenario = Scenario::existing(&package, &study).expect("a scenario");
        scenario.config.limits.job_deadline_ms = 300_000;
        Some(Done::of(scenario))
    };
    DONE.get_or_init(run).as_ref()
}

#[test]
fn the_seg_of_a_real_ct_holds_what_the_module_stated_where_it_was() {
    let (Some(peers), Some(done)) = (Peers::find(), real()) else { return };
    assert!(done.numbered().iter().any(|(.., name)| *name == "Liver"), "{:?}", done.numbered());
    done.judge_seg(&peers);
}

#[test]
fn the_sr_of_a_real_ct_states_what_the_module_measured() {
    let (Some(peers), Some(done)) = (Peers::find(), real()) else { return };
    done.judge_sr(&peers);
}

#[test]
fn a_pacs_takes_both() {
    let (Some(peers), Some(done), Some(orthanc)) = (Peers::find(), real(), Orthanc::start()) else { return };
    let [seg, sr] = ["segmentation.dcm", "report.dcm"].map(|name| done.written(name));
    peers.agree("stow.py", &[&orthanc.dicom_web(), &seg, &sr]);
}

/// Row and column direction and the step from slice to slice, so that no axis is where a reader might guess it.
pub(crate) const ORIENTATIONS: [(&str, [f64; 6], [f64; 3]); 6] = [
    ("axial, from the head down", [1.0, 0.0, 0.0, 0.0, 1.0, 0.0], [0.0, 0.0, -2.0]),
    ("coronal", [1.0, 0.0, 0.0, 0.0, 0.0, -1.0], [0.0, 2.0, 0.0]),
    ("sagittal, against the normal", [0.0, 1.0, 0.0, 0.0, 0.0, -1.0], [2.0, 0.0, 0.0]),
    ("oblique, mirrored", [-0.8, 0.6, 0.0, 0.0, 0.0, 1.0], [1.2, 1.6, 0.0]),
    ("axial, feet first, from the left", [-1.0, 0.0, 0.0, 0.0, 1.0, 0.0], [0.0, 0.0, 2.0]),
    ("axial, feet first, prone", [-1.0, 0.0, 0.0, 0.0, -1.0, 0.0], [0.0, 0.0, 2.0]),
];

#[test]
fn segments_are_what_and_where_they_were_in_every_orientation() {
    let Some(peers) = Peers::find() else { return };
    for (name, orientation, step) in ORIENTATIONS {
        let Some(scenario) = Scenario::rogue("segments") else { return };
        place(scenario.study(), orientation, step);
        eprintln!("{name}");
        let done = Done::of(scenario);
        let numbered = [(7, 1, "Liver"), (300, 2, "Spleen"), (3, 3, "Kidney")];
        assert_eq!(done.numbered(), numbered, "the segment without voxels is left out");
        done.judge_seg(&peers);
    }
}

#[test]
fn measurements_belong_to_their_segments() {
    let Some(peers) = Peers::find() else { return };
    let Some(scenario) = Scenario::rogue("segments") else { return };
    let (_, orientation, step) = ORIENTATIONS[0];
    place(scenario.study(), orientation, step);
    Done::of(scenario).judge_sr(&peers);
}

/// Three boxes of the small CT, by number of the segment: columns, rows and slices.
const BOXES: [(u16, [std::ops::Range<usize>; 3]); 3] =
    [(1, [1..7, 9..11, 0..4]), (2, [8..15, 0..3, 2..9]), (4, [0..3, 12..16, 6..10])];

/// Gives the small CT other axes, oblong voxels, and boxes that are their own mirror image along no axis.
pub(crate) fn place(study: &Path, orientation: [f64; 6], step: [f64; 3]) {
    let decimals = |values: &[f64]| values.iter().map(ToString::to_string).collect::<Vec<_>>().join("\\");
    change_files(study, |z, slice| {
        let position: Vec<f64> = [-20.0, 30.0, 7.5].iter().zip(step).map(|(start, s)| start + s * z as f64).collect();
        slice.put_str(tags::IMAGE_POSITION_PATIENT, VR::DS, decimals(&position));
        slice.put_str(tags::IMAGE_ORIENTATION_PATIENT, VR::DS, decimals(&orientation));
        slice.put_str(tags::PIXEL_SPACING, VR::DS, "0.75\\1.25");
        let feet_first = orientation[0] == -1.0;
        slice.put_str(tags::PATIENT_POSITION, VR::CS, if feet_first { "FFS" } else { "HFS" });
        let stored = |x: usize, y: usize| {
            let at = |(_, [columns, rows, slices]): &&(u16, [std::ops::Range<usize>; 3])| {
                columns.contains(&x) && rows.contains(&y) && slices.contains(&z)
            };
            BOXES.iter().find(at).map_or(24, |(n, _)| 1024 + 100 * n)
        };
        let voxels = (0..256).map(|i| stored(i % 16, i / 16));
        slice.put(DataElement::new(tags::PIXEL_DATA, VR::OW, PrimitiveValue::U16(voxels.collect())));
    })
    .expect("changed");
}
