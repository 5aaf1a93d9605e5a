//! What shows where something lies: the heatmap as a parametric map, boxes as a presentation state, the key slice as a
//! secondary capture. Judged by other people's software, in every orientation.

use std::collections::BTreeSet;

use dicom_core::VR;
use dicom_dictionary_std::tags;
use gantry::findings::Findings;
use gantry::outputs::OutputKind;
use gantry_tests::orthanc::Orthanc;
use gantry_tests::peers::{NodePeers, Peers};
use gantry_tests::{Scenario, change_files};
use serde_json::json;

use crate::peers::{ORIENTATIONS, path_text, pixelmed_is_there, place};

pub(crate) fn scenario() -> Option<Scenario> {
    let mut scenario = Scenario::rogue("shown")?;
    scenario.config.outputs.secondary_capture = true;
    Some(scenario)
}

/// dciodvfy, highdicom, pydicom, dcmqi and dcmjs find all of it as it was stated, and where it was stated.
fn judge(scenario: &Scenario, stated: &Findings, peers: &Peers) {
    judge_by(scenario, stated, peers, NodePeers::with("dcmjs").as_ref());
}

pub(crate) fn judge_by(scenario: &Scenario, stated: &Findings, peers: &Peers, dcmjs: Option<&NodePeers>) {
    let folder = tempfile::tempdir().expect("a folder");
    let values = &stated.heatmap.as_ref().expect("a heatmap").values;
    let size @ [columns, rows, slices] = values.geometry().size();
    let mut slice = vec![0f32; columns * rows];
    let (mut bytes, mut hottest, mut most) = (Vec::new(), 0, f64::NEG_INFINITY);
    for z in 0..slices {
        values.slice(z, &mut slice).expect("values");
        bytes.extend(slice.iter().flat_map(|v| v.to_le_bytes()));
        // The densest of the boxes, 400 HU, is as hot in each of its slices.
        let heat: f64 = slice.iter().map(|v| f64::from(*v)).sum();
        if slice.iter().any(|v| *v >= 0.39) && heat > most {
            (most, hottest) = (heat, z);
        }
    }
    std::fs::write(folder.path().join("heat.raw"), bytes).expect("written");
    let marks: Vec<_> = stated
        .marks
        .iter()
        .map(|mark| {
            let region = mark.region;
            let (label, probability) = (&mark.label.meaning, mark.probability);
            json!({"start": region.start, "size": region.size, "label": label, "probability": probability})
        })
        .collect();
    let expected = json!({"values": "heat.raw", "size": size, "marks": marks, "hottest": hottest});
    let file = folder.path().join("expected.json");
    std::fs::write(&file, expected.to_string()).expect("written");
    let [out, source, file] = [&scenario.out(), scenario.study(), &file].map(path_text);
    peers.agree("judge_shown.py", &[&out, &source, &file]);
    if let Some(node) = dcmjs {
        node.agree("judge_dcmjs.cjs", &["shown", &out, &source, &file]);
    }
}

/// dciodvfy, highdicom, pydicom and dcmqi find the boxes and the images of the SR where they are, and PixelMed's validator
/// its templates as they should be where it is asked: it takes seconds.
pub(crate) fn judge_regions(scenario: &Scenario, stated: &Findings, peers: &Peers, templates: bool) {
    let folder = tempfile::tempdir().expect("a folder");
    let boxes: Vec<_> = stated
        .marks
        .iter()
        .map(|mark| {
            let region = mark.region;
            let (label, probability) = (&mark.label.value, mark.probability);
            json!({"start": region.start, "size": region.size, "label": label, "probability": probability})
        })
        .collect();
    let file = folder.path().join("expected.json");
    std::fs::write(&file, json!(boxes).to_string()).expect("written");
    let [sr, seg] = ["report.dcm", "segmentation.dcm"].map(|name| scenario.out().join(name));
    let seg = if seg.exists() { path_text(&seg) } else { "-".into() };
    let [sr, source, file] = [&sr, scenario.study(), &file].map(path_text);
    let mut arguments = vec![sr.as_str(), &seg, &source, &file];
    if templates && pixelmed_is_there() {
        arguments.push("--pixelmed");
    }
    peers.agree("judge_regions.py", &arguments);
}

#[test]
fn boxes_are_planar_or_volumetric_regions_of_the_report_in_every_orientation() {
    let Some(peers) = Peers::find() else { return };
    for (name, orientation, step) in ORIENTATIONS {
        let Some(scenario) = Scenario::rogue("boxes") else { return };
        place(scenario.study(), orientation, step);
        eprintln!("{name}");
        let stated = scenario.stated().expect("the module runs").findings;
        assert_eq!(stated.marks.len(), 3, "one for each piece");
        scenario.run().expect("the result is written");
        judge_regions(&scenario, &stated, &peers, false);
    }
}

/// The validator holds all groups of a report against TID 1410 where it has just one outline, and against TID 1411 where it has
/// segments.
#[test]
fn reports_with_boxes_are_as_their_templates_say() {
    let Some(peers) = Peers::find() else { return };
    for (guest, boxes) in [("boxes", 1), ("shown", 3)] {
        let Some(scenario) = Scenario::rogue(guest) else { return };
        if boxes > 1 {
            let (_, orientation, step) = ORIENTATIONS[3];
            place(scenario.study(), orientation, step);
        }
        let stated = scenario.stated().expect("the module runs").findings;
        assert_eq!(stated.marks.len(), boxes);
        scenario.run().expect("the result is written");
        judge_regions(&scenario, &stated, &peers, true);
    }
}

#[test]
fn a_heatmap_boxes_and_the_key_slice_are_where_they_were_in_every_orientation() {
    let Some(peers) = Peers::find() else { return };
    for (name, orientation, step) in ORIENTATIONS {
        let Some(scenario) = scenario() else { return };
        place(scenario.study(), orientation, step);
        eprintln!("{name}");
        let stated = scenario.stated().expect("the module runs").findings;
        assert_eq!(stated.marks.len(), 3, "one for each piece");
        scenario.run().expect("the result is written");
        judge(&scenario, &stated, &peers);
    }
}

#[test]
fn names_in_any_character_set_and_what_images_say_of_their_grey_values_are_kept() {
    let Some(peers) = Peers::find() else { return };
    for (set, name) in [("ISO_IR 192", "Łukasz^Żółć"), ("ISO_IR 100", "Müller^Jörg"), ("ISO_IR 144", "Люкceмбypг")]
    {
        let Some(scenario) = scenario() else { return };
        let (_, orientation, step) = ORIENTATIONS[3];
        place(scenario.study(), orientation, step);
        change_files(scenario.study(), |index, slice| {
            slice.put_str(tags::SPECIFIC_CHARACTER_SET, VR::CS, set);
            slice.put_str(tags::PATIENT_NAME, VR::PN, name);
            slice.put_str(tags::WINDOW_CENTER, VR::DS, "80\\40");
            slice.put_str(tags::WINDOW_WIDTH, VR::DS, "160\\400");
            if index % 2 == 1 {
                slice.put_str(tags::WINDOW_WIDTH, VR::DS, "120\\400");
                slice.put_str(tags::VOILUT_FUNCTION, VR::CS, "SIGMOID");
            }
        })
        .expect("changed");
        let stated = scenario.stated().expect("the module runs").findings;
        scenario.run().expect("the result is written");
        judge(&scenario, &stated, &peers);
        let state = dicom_object::open_file(scenario.out().join("presentation-state.dcm")).expect("readable");
        let windows = state.element(tags::SOFTCOPY_VOILUT_SEQUENCE).expect("a window").items().expect("items").to_vec();
        let stated = |window: &dicom_object::InMemDicomObject| {
            let text = |tag| window.get(tag).map(|e| e.to_str().expect("text").into_owned());
            let text = |tag| text(tag).unwrap_or_default().trim().to_owned();
            [tags::WINDOW_CENTER, tags::WINDOW_WIDTH, tags::VOILUT_FUNCTION].map(text).join(" ").trim().to_owned()
        };
        let own: BTreeSet<_> = windows.iter().map(stated).collect();
        assert_eq!(own, BTreeSet::from(["80 160".into(), "80 120 SIGMOID".into()]), "the first of each image's own");
        let count = |window: &dicom_object::InMemDicomObject| {
            window.element(tags::REFERENCED_IMAGE_SEQUENCE).expect("images").items().expect("items").len()
        };
        assert!(windows.len() == 2 && windows.iter().all(|window| count(window) > 0), "each names its images");
    }
}

/// Code extensions, and a set that nobody knows: only the source's own bytes are right.
#[test]
fn names_in_a_character_set_that_only_the_source_explains_keep_their_bytes() {
    const PLACE: &str = "NAME-STANDS-HERE";
    let Some(peers) = Peers::find() else { return };
    for (set, name) in [
        ("\\ISO 2022 IR 87", &b"Y^T=\x1B$B;3ED\x1B(B^ "[..]),
        // The second byte of its last character is a backslash's.
        ("\\ISO 2022 IR 87", &b"Y^T=\x1B$B;3K\\\x1B(B"[..]),
        ("PRIVATE_1", &b"\xC1\xC2^\xFE========== "[..]),
    ] {
        let Some(scenario) = scenario() else { return };
        let (_, orientation, step) = ORIENTATIONS[3];
        place(scenario.study(), orientation, step);
        change_files(scenario.study(), |_, slice| {
            slice.put_str(tags::SPECIFIC_CHARACTER_SET, VR::CS, set);
            slice.put_str(tags::PATIENT_NAME, VR::PN, PLACE);
            // A validator calls neither valid.
            if set == "PRIVATE_1" {
                slice.put_str(tags::ACCESSION_NUMBER, VR::SH, "A1 \\A2");
            }
        })
        .expect("changed");
        let name = [name, &b" ".repeat(PLACE.len() - name.len())[..]].concat();
        for file in std::fs::read_dir(scenario.study()).expect("listed") {
            let file = file.expect("an entry").path();
            let mut bytes = std::fs::read(&file).expect("readable");
            let at = bytes.windows(PLACE.len()).position(|w| w == PLACE.as_bytes()).expect("the name");
            bytes[at..at + name.len()].copy_from_slice(&name);
            std::fs::write(&file, bytes).expect("written");
        }
        let stated = scenario.stated().expect("the module runs").findings;
        let result = scenario.run().expect("the result is written");
        for output in result.outputs {
            let bytes = std::fs::read(scenario.out().join(&output.file)).expect("readable");
            let kept = name.trim_ascii_end();
            assert!(bytes.windows(kept.len()).any(|w| w == kept), "{set}: {}", output.file);
        }
        // What nobody knows, no validator calls valid; dciodvfy too takes half a character for the end of a value; and dcmjs
        // reads no file with code extensions.
        if set != "PRIVATE_1" && !name.contains(&b'\\') {
            judge_by(&scenario, &stated, &peers, None);
        }
    }
}

#[test]
fn images_without_a_frame_of_reference_have_objects_in_one() {
    let (Some(peers), Some(scenario)) = (Peers::find(), scenario()) else { return };
    let (_, orientation, step) = ORIENTATIONS[3];
    place(scenario.study(), orientation, step);
    change_files(scenario.study(), |_, slice| {
        slice.remove_element(tags::FRAME_OF_REFERENCE_UID);
    })
    .expect("changed");
    let stated = scenario.stated().expect("the module runs").findings;
    scenario.run().expect("the result is written");
    judge(&scenario, &stated, &peers);
    judge_regions(&scenario, &stated, &peers, false);
}

#[test]
fn a_run_that_is_repeated_writes_the_same_objects_and_a_site_chooses_among_them() {
    let Some(mut scenario) = scenario() else { return };
    let result = scenario.run().expect("done");
    let written = |result: &gantry::outputs::result::JobResult| {
        result.outputs.iter().map(|o| (o.kind as u8, o.sop_instance_uid.clone(), o.sha256.clone())).collect::<Vec<_>>()
    };
    assert_eq!(written(&result), written(&scenario.run().expect("done again")));
    let series: BTreeSet<_> = result.outputs.iter().map(|o| o.series_instance_uid.clone()).collect();
    assert_eq!((result.outputs.len(), series.len()), (6, 6), "each is a series of its own");
    assert_eq!(result.findings.heatmap.as_ref().map(|h| h.title.as_str()), Some("Density"));
    assert!(result.findings.marks.iter().all(|mark| mark.label.value == "DENSE") && !result.findings.marks.is_empty());
    scenario.config.outputs.secondary_capture = false;
    scenario.config.outputs.parametric_map = false;
    scenario.config.outputs.fractional_segmentation = false;
    let fewer = scenario.run().expect("done with less");
    let kinds: Vec<_> = fewer.outputs.iter().map(|o| o.kind).collect();
    assert_eq!(kinds, [OutputKind::Segmentation, OutputKind::Report, OutputKind::PresentationState]);
    assert!(!scenario.out().join("secondary-capture.dcm").exists(), "a capture of the result before");
}

#[test]
fn a_pacs_takes_them_all() {
    let (Some(peers), Some(scenario), Some(orthanc)) = (Peers::find(), scenario(), Orthanc::start()) else { return };
    let result = scenario.run().expect("done");
    let files: Vec<String> = result.outputs.iter().map(|o| path_text(&scenario.out().join(&o.file))).collect();
    let url = orthanc.dicom_web();
    let arguments: Vec<&str> = std::iter::once(url.as_str()).chain(files.iter().map(String::as_str)).collect();
    peers.agree("stow.py", &arguments);
}
