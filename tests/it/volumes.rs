//! How files become volumes, judged by SimpleITK's reader and by dcm2niix; and results on objects of several frames and on
//! tilted stacks, judged as all results are.

use std::path::{Path, PathBuf};

use dicom_core::value::DataSetSequence;
use dicom_core::{DataElement, PrimitiveValue, VR};
use dicom_dictionary_std::{tags, uids};
use dicom_object::InMemDicomObject;
use gantry::memory::Budget;
use gantry::study::{self, ReadOptions, Series, Study};
use gantry_tests::peers::Peers;
use gantry_tests::{MANIFEST, Scenario, asset, change_files};
use serde_json::json;

use crate::peers::{Done, ORIENTATIONS, path_text, place};
use crate::shown;

fn read(folder: &Path) -> Study {
    study::read(&[folder.to_owned()], &ReadOptions::default()).unwrap_or_else(|e| panic!("{}: {e}", folder.display()))
}

/// Writes the voxels of all volumes of a series, and what they are, into a folder, as `judge_volumes.py` reads it; the file.
fn stated(series: &Series, folder: &Path) -> PathBuf {
    let volume = |(index, layout): (usize, &study::VolumeLayout)| {
        let decoded = series.decode(index, &Budget::unlimited(), &ReadOptions::default()).expect("decoded").volume;
        let values = decoded.read(decoded.geometry().region()).expect("voxels");
        let name = format!("{index}.raw");
        let bytes: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        std::fs::write(folder.join(&name), bytes).expect("written");
        let slice = |i: &usize| {
            let image = &series.instances[*i];
            json!({"sop_instance_uid": image.sop_instance_uid, "frame": image.frame})
        };
        let grid = &layout.geometry;
        json!({
            "voxels": name, "size": grid.size(), "spacing": grid.spacing(), "origin": grid.origin(), "axes": grid.axes(),
            "tilted": layout.tilt.is_some(), "slices": layout.slices.iter().map(slice).collect::<Vec<_>>(),
        })
    };
    let volumes: Vec<_> = series.volumes.iter().enumerate().map(volume).collect();
    let file = folder.join("volumes.json");
    std::fs::write(&file, json!(volumes).to_string()).expect("written");
    file
}

fn judge(peers: &Peers, folder: &Path, dcm2niix: bool) -> Study {
    let study = read(folder);
    assert_eq!(study.series.len(), 1, "{}", folder.display());
    let out = tempfile::tempdir().expect("a folder");
    let file = stated(&study.series[0], out.path());
    let [folder, file] = [folder, &file].map(path_text);
    let mut arguments = vec![folder.as_str(), &file];
    if !dcm2niix {
        arguments.push("--without-dcm2niix");
    }
    peers.agree("judge_volumes.py", &arguments);
    study
}

fn judges() -> Option<Peers> {
    Peers::with("highdicom, pydicom, SimpleITK, dcm2niix")
}

#[test]
fn volumes_are_what_simpleitk_and_dcm2niix_make_of_the_same_files() {
    let (Some(peers), Some(ct)) = (judges(), asset("totalsegmentator/example_ct_dicom")) else { return };
    let cases = tempfile::tempdir().expect("a folder");
    peers.agree("make_volumes.py", &[&path_text(&ct), &path_text(cases.path())]);
    for (case, volumes, dcm2niix) in [
        ("ct", 1, true),
        ("tilted", 1, true),
        ("oblique", 1, true),
        ("sagittal", 1, true),
        ("echoes", 2, true),
        ("legacy", 1, true),
        // dcm2niix 1.0.20260724 takes other values out of frames of JPEG 2000 than OpenJPEG does.
        ("legacy-jpeg2000", 1, false),
        ("legacy-oblique", 1, true),
        // dcm2niix makes one volume of both echoes where one object holds them.
        ("enhanced-echoes", 2, false),
    ] {
        eprintln!("{case}");
        let study = judge(&peers, &cases.path().join(case), dcm2niix);
        assert_eq!(study.series[0].volumes.len(), volumes, "{case}");
    }
}

#[test]
fn real_images_alone_and_of_several_frames_lie_where_simpleitk_has_them() {
    let (Some(peers), Some(pydicom), Some(data)) = (judges(), asset("pydicom"), asset("pydicom-data")) else { return };
    for file in [
        pydicom.join("test_files/MR_small.dcm"),
        pydicom.join("test_files/CT_small.dcm"),
        data.join("eCT_Supplemental.dcm"),
    ] {
        eprintln!("{}", file.display());
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::copy(&file, folder.path().join("a.dcm")).expect("copied");
        judge(&peers, folder.path(), false);
    }
}

fn sequence(object: &mut InMemDicomObject, tag: dicom_core::Tag, items: Vec<InMemDicomObject>) {
    object.put(DataElement::new(tag, VR::SQ, DataSetSequence::from(items)));
}

/// Makes one Enhanced CT of the slices in a folder, its frames in no order.
fn enhance(folder: &Path) {
    let mut files: Vec<PathBuf> =
        std::fs::read_dir(folder).expect("a folder").map(|e| e.expect("an entry").path()).collect();
    files.sort();
    let slices: Vec<_> = files.iter().map(|path| dicom_object::open_file(path).expect("a slice")).collect();
    let order: Vec<usize> = (0..slices.len()).map(|i| i * 7 % slices.len()).collect();
    let group = |slice: &InMemDicomObject, tags: &[dicom_core::Tag]| {
        let mut item = InMemDicomObject::new_empty();
        tags.iter().filter_map(|tag| slice.get(*tag)).for_each(|element| _ = item.put(element.clone()));
        vec![item]
    };
    let mut object = slices[0].clone();
    let moved = [
        (tags::PIXEL_MEASURES_SEQUENCE, &[tags::PIXEL_SPACING, tags::SLICE_THICKNESS][..]),
        (tags::PLANE_ORIENTATION_SEQUENCE, &[tags::IMAGE_ORIENTATION_PATIENT]),
        (tags::PIXEL_VALUE_TRANSFORMATION_SEQUENCE, &[tags::RESCALE_SLOPE, tags::RESCALE_INTERCEPT]),
    ];
    let mut shared = InMemDicomObject::new_empty();
    for (tag, tags) in moved {
        sequence(&mut shared, tag, group(&slices[0], tags));
        tags.iter().for_each(|tag| _ = object.remove_element(*tag));
    }
    object.remove_element(tags::IMAGE_POSITION_PATIENT);
    sequence(&mut object, tags::SHARED_FUNCTIONAL_GROUPS_SEQUENCE, vec![shared]);
    let frame = |i: &usize| {
        let mut item = InMemDicomObject::new_empty();
        sequence(&mut item, tags::PLANE_POSITION_SEQUENCE, group(&slices[*i], &[tags::IMAGE_POSITION_PATIENT]));
        item
    };
    sequence(&mut object, tags::PER_FRAME_FUNCTIONAL_GROUPS_SEQUENCE, order.iter().map(frame).collect());
    object.put_str(tags::NUMBER_OF_FRAMES, VR::IS, slices.len().to_string());
    object.put_str(tags::SOP_CLASS_UID, VR::UI, uids::ENHANCED_CT_IMAGE_STORAGE);
    object.put_str(tags::SOP_INSTANCE_UID, VR::UI, "2.25.77");
    let pixels = order
        .iter()
        .flat_map(|i| slices[*i].get(tags::PIXEL_DATA).expect("pixels").to_multi_int::<u16>().expect("words"));
    object.put(DataElement::new(tags::PIXEL_DATA, VR::OW, PrimitiveValue::U16(pixels.collect())));
    object.update_meta(|meta| {
        meta.media_storage_sop_class_uid = uids::ENHANCED_CT_IMAGE_STORAGE.into();
        meta.media_storage_sop_instance_uid = "2.25.77".into();
    });
    files.iter().for_each(|file| std::fs::remove_file(file).expect("removed"));
    object.write_to_file(folder.join("enhanced.dcm")).expect("written");
}

#[test]
fn segments_and_measurements_of_frames_are_what_and_where_they_were() {
    let Some(peers) = Peers::find() else { return };
    for (name, orientation, step) in [ORIENTATIONS[0], ORIENTATIONS[3]] {
        let Some(scenario) = Scenario::rogue("segments") else { return };
        place(scenario.study(), orientation, step);
        enhance(scenario.study());
        eprintln!("{name}");
        Done::of(scenario).judge(&peers);
    }
}

#[test]
fn what_is_shown_of_frames_is_where_it_was() {
    let Some(peers) = Peers::find() else { return };
    let Some(scenario) = shown::scenario() else { return };
    let (_, orientation, step) = ORIENTATIONS[3];
    place(scenario.study(), orientation, step);
    enhance(scenario.study());
    let stated = scenario.stated().expect("the module runs").findings;
    scenario.run().expect("the result is written");
    shown::judge_by(&scenario, &stated, &peers, None);
    shown::judge_regions(&scenario, &stated, &peers, false);
}

#[test]
fn what_is_found_in_a_tilted_stack_lies_where_it_is_in_its_images() {
    let Some(peers) = Peers::find() else { return };
    let Some(scenario) = shown::scenario() else { return };
    // The small CT with a piece of 400 HU in the middle; the table moves along z, the slices lie across.
    change_files(scenario.study(), |z, slice| {
        slice.put_str(tags::IMAGE_POSITION_PATIENT, VR::DS, format!("-8\\-8\\{}", 2 * z));
        slice.put_str(tags::IMAGE_ORIENTATION_PATIENT, VR::DS, "1\\0\\0\\0\\0.9659258263\\0.2588190451");
    })
    .expect("changed");
    let result = scenario.run().expect("the result is written");
    assert!(result.warnings.iter().any(|warning| warning.contains("15.0 degrees")), "{:?}", result.warnings);
    let [out, source] = [&scenario.out(), scenario.study()].map(path_text);
    peers.agree("judge_tilted.py", &[&out, &source]);
}

#[test]
fn a_module_is_told_which_volume_is_which() {
    let manifest = MANIFEST.replace("[component]", "attributes = [\"EchoTime\"]\n[component]");
    for enhanced in [false, true] {
        let Some(scenario) = Scenario::rogue_with("echoes", &manifest) else { return };
        let slices = std::fs::read_dir(scenario.study()).expect("a folder").map(|e| e.expect("an entry").path());
        let copies = tempfile::tempdir().expect("a folder");
        for (i, path) in slices.enumerate() {
            std::fs::copy(path, copies.path().join(format!("{i}.dcm"))).expect("copied");
        }
        let echo = |folder: &Path, time: &str, uid: usize, brighter: u16| {
            change_files(folder, |z, slice| {
                slice.put_str(tags::ECHO_TIME, VR::DS, time);
                slice.put_str(tags::SOP_INSTANCE_UID, VR::UI, format!("2.25.{uid}{z}"));
                let pixels = slice.get(tags::PIXEL_DATA).expect("pixels").to_multi_int::<u16>().expect("words");
                let pixels = pixels.iter().map(|v| v + brighter).collect();
                slice.put(DataElement::new(tags::PIXEL_DATA, VR::OW, PrimitiveValue::U16(pixels)));
            })
            .expect("changed");
        };
        echo(scenario.study(), "9.2", 31, 100);
        echo(copies.path(), "4.6", 32, 0);
        if enhanced {
            enhance(scenario.study());
            enhance(copies.path());
        }
        for (i, entry) in std::fs::read_dir(copies.path()).expect("a folder").enumerate() {
            let to = scenario.study().join(format!("other-{i}.dcm"));
            std::fs::copy(entry.expect("an entry").path(), to).expect("copied");
        }
        if enhanced {
            change_files(scenario.study(), |i, object| {
                object.put_str(tags::SOP_INSTANCE_UID, VR::UI, format!("2.25.8{i}"));
            })
            .expect("changed");
        }
        let stated = scenario.stated().expect("the module runs").findings;
        let values: Vec<f64> = stated.measurements.iter().map(|measurement| measurement.value).collect();
        assert_eq!(values, [4.6, 400.0, 9.2, 500.0], "enhanced: {enhanced}");
        if !enhanced {
            // Both echoes lie on one grid; the module segments the second.
            scenario.run().expect("the result is written");
            let seg = dicom_object::open_file(scenario.out().join("segmentation.dcm")).expect("a SEG");
            let items = |object: &InMemDicomObject, tag| {
                object.get(tag).and_then(|element| element.items()).expect("items").to_vec()
            };
            let series = items(&seg, tags::REFERENCED_SERIES_SEQUENCE);
            let images = items(&series[0], tags::REFERENCED_INSTANCE_SEQUENCE);
            let uid = |image: &InMemDicomObject| {
                let uid = image.get(tags::REFERENCED_SOP_INSTANCE_UID).expect("a UID").to_str().expect("text");
                uid.trim_end_matches('\0').to_owned()
            };
            let uids: Vec<String> = images.iter().map(uid).collect();
            assert!(!uids.is_empty() && uids.iter().all(|uid| uid.starts_with("2.25.31")), "{uids:?}");
        }
    }
}
