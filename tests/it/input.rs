//! Input that is not what it should be: each ends in an error that says what and why, and nothing is written.

use std::path::Path;

use dicom_core::{DataElement, PrimitiveValue, VR};
use dicom_dictionary_std::tags;
use dicom_object::InMemDicomObject;
use gantry::inference::{Device, EnginePreference};
use gantry::pipeline::RunError;
use gantry::sandbox::JobError;
use gantry::study::ReadError;
use gantry_tests::{MANIFEST, Scenario, asset, change_files};

/// The small CT, changed, under a component that would segment it.
fn with_study(change: impl FnOnce(&Path)) -> Option<Scenario> {
    let scenario = Scenario::rogue("well-behaved")?;
    change(scenario.study());
    Some(scenario)
}

/// The small CT with one slice changed: the sixth by name.
fn with_slice(change: impl Fn(&mut InMemDicomObject)) -> Option<Scenario> {
    with_study(|study| {
        change_files(study, |index, slice| {
            if index == 5 {
                change(slice);
            }
        })
        .expect("changed");
    })
}

/// The input is at fault, and the message has every part of `said`.
fn is_unreadable(scenario: Option<Scenario>, said: &[&str]) {
    let Some(scenario) = scenario else { return };
    let error = scenario.refused();
    match &error {
        RunError::Read(read) => assert!(!read.is_limit(), "{error}"),
        RunError::Job(JobError::Read(read)) => assert!(!read.is_limit(), "{error}"),
        RunError::NothingAccepted { .. } => {}
        other => panic!("the input is at fault: {other:?}"),
    }
    let text = error.to_string();
    for part in said {
        assert!(text.contains(part), "`{part}` is missing in: {text}");
    }
}

#[test]
fn a_truncated_file_is_named() {
    let cut = |bytes: usize| {
        with_study(|study| {
            let path = study.join("5.dcm");
            let whole = std::fs::read(&path).expect("readable");
            std::fs::write(&path, &whole[..whole.len() - bytes]).expect("written");
        })
    };
    // In the pixels, and in the header before them.
    for bytes in [1, 100, 511, 600] {
        is_unreadable(cut(bytes), &["5.dcm", "damaged", "fetch the file again"]);
    }
}

/// What is left is no DICOM file any more, and a folder may hold others. It is not passed over in silence.
#[test]
fn a_file_cut_before_its_first_element_is_missed() {
    let cut = |name: &'static str| {
        with_study(move |study| {
            let whole = std::fs::read(study.join(name)).expect("readable");
            std::fs::write(study.join(name), &whole[..100]).expect("written");
        })
    };
    is_unreadable(cut("5.dcm"), &["slices are missing between z=8.00 and z=12.00"]);
    let Some(scenario) = cut("9.dcm") else { return };
    let warnings = scenario.run().expect("nine slices are a volume").warnings;
    assert!(warnings.iter().any(|w| w.contains("not DICOM")), "{warnings:?}");
}

#[test]
fn pixel_data_that_is_shorter_than_its_header_says_is_refused() {
    let short = with_slice(|slice| {
        let voxels = PrimitiveValue::U16(vec![0; 255].into());
        slice.put(DataElement::new(tags::PIXEL_DATA, VR::OW, voxels));
    });
    is_unreadable(short, &["5.dcm", "510 bytes of pixel data where the header says 512"]);
}

#[test]
fn a_giant_header_on_a_tiny_file_takes_no_memory() {
    let giant = with_study(|study| {
        change_files(study, |_, slice| {
            for tag in [tags::ROWS, tags::COLUMNS] {
                slice.put(DataElement::new(tag, VR::US, PrimitiveValue::from(65_535u16)));
            }
        })
        .expect("changed");
    });
    // The length of each file is known before anything is allocated: it is not a limit that is hit, the files are wrong.
    is_unreadable(giant, &["512 bytes of pixel data where the header says 8589672450"]);
}

#[test]
fn what_is_not_dicom_is_refused() {
    let text = with_study(|study| {
        std::fs::remove_dir_all(study).expect("removed");
        std::fs::create_dir(study).expect("made");
        std::fs::write(study.join("notes.txt"), "not an image").expect("written");
    });
    is_unreadable(text, &["no DICOM file among the 1 files given"]);
    let one = with_study(|study| std::fs::write(study.join("5.dcm"), [0; 4096]).expect("written")).map(|scenario| {
        let file = scenario.study().join("5.dcm");
        scenario.on(&file)
    });
    is_unreadable(one, &["5.dcm: not a DICOM file"]);
    let nothing = with_study(|study| std::fs::remove_dir_all(study).expect("removed"));
    is_unreadable(nothing, &["study", "cannot be read"]);
}

#[test]
fn two_patients_in_one_folder_are_refused_without_their_names() {
    let other = with_slice(|slice| {
        slice.put_str(tags::PATIENT_ID, VR::LO, "SECRET-OTHER");
    });
    is_unreadable(other, &["2 patients", "PatientID (0010,0020)"]);
}

#[test]
fn a_missing_slice_is_refused_with_its_place() {
    let gap = with_study(|study| std::fs::remove_file(study.join("5.dcm")).expect("removed"));
    is_unreadable(gap, &["slices are missing between z=8.00 and z=12.00"]);
}

/// Where findings lie could not be said.
#[test]
fn images_without_a_place_are_refused() {
    for tag in [tags::IMAGE_ORIENTATION_PATIENT, tags::IMAGE_POSITION_PATIENT] {
        let nowhere = with_study(|study| {
            change_files(study, |_, slice| {
                slice.remove_element(tag);
            })
            .expect("changed");
        });
        let name = if tag == tags::IMAGE_POSITION_PATIENT { "ImagePositionPatient" } else { "ImageOrientationPatient" };
        is_unreadable(nowhere, &[name, "missing"]);
    }
}

#[test]
fn mixed_orientation_is_refused() {
    let mixed = with_slice(|slice| {
        slice.put_str(tags::IMAGE_ORIENTATION_PATIENT, VR::DS, "1\\0\\0\\0\\0\\-1");
    });
    // The slice in another plane is a volume of its own, and misses where it was.
    is_unreadable(mixed, &["ImageOrientationPatient (0020,0037) axial", "slices are missing"]);
}

#[test]
fn a_series_that_the_module_does_not_accept_is_not_shown_to_it() {
    let mr = with_study(|study| {
        change_files(study, |_, slice| {
            slice.put_str(tags::MODALITY, VR::CS, "MR");
        })
        .expect("changed");
    });
    let Some(mr) = mr else { return };
    let error = mr.refused();
    assert!(matches!(error, RunError::NothingAccepted { series: 1, .. }), "{error:?}");
    assert!(error.to_string().contains("modality MR is not CT"), "{error}");
}

#[test]
fn a_series_without_uids_is_read_with_a_warning_and_refused_when_strict() {
    let Some(study) = asset("totalsegmentator/example_ct_dicom") else { return };
    let Some(scenario) = Scenario::rogue("well-behaved") else { return };
    let mut scenario = scenario.on(&study);
    scenario.strict = true;
    let error = scenario.refused();
    assert!(matches!(error, RunError::Read(ReadError::Identity { files: 20, .. })), "{error:?}");

    scenario.strict = false;
    let result = scenario.run().expect("read with warnings");
    assert!(result.warnings.iter().any(|w| w.contains("SOPInstanceUID")), "{:?}", result.warnings);
    let recorded = std::fs::read_to_string(scenario.out().join("result.json")).expect("readable");
    assert!(recorded.contains("SOPInstanceUID"), "the warning is in the result");
}

#[test]
fn a_gpu_that_is_not_there_is_refused_or_its_absence_recorded() {
    let interfaces = MANIFEST.lines().find(|l| l.starts_with("interfaces")).expect("the manifest asks for interfaces");
    let manifest = MANIFEST.replace(interfaces, "interfaces = [\"wasi:nn\"]");
    let Some(mut scenario) = Scenario::with_net("plain-nn", &manifest, "gpu") else { return };
    // tract has none, whatever the machine has.
    scenario.config.engines.engine = EnginePreference::Tract;
    let error = scenario.refused();
    // Not the module's fault: on a node it is tried again.
    assert!(matches!(error, RunError::Job(JobError::Engine(_))), "{error:?}");
    let text = error.to_string();
    assert!(text.to_lowercase().contains("gpu"), "{text}");

    scenario.config.engines.gpu_fallback_to_cpu = true;
    let result = scenario.run().expect("on the CPU");
    let model = &result.models[0];
    assert_eq!((model.requested, model.device, model.calls), (Device::Gpu, Device::Cpu, 1));
    assert!(model.fallback.as_ref().is_some_and(|why| why.to_lowercase().contains("gpu")), "{:?}", model.fallback);
}
