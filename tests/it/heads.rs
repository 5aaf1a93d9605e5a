//! A network that others made, on a whole head of 256³ voxels: what comes out of a package around it is what ONNX Runtime makes of
//! the same head in Python.

use std::path::{Path, PathBuf};

use dicom_core::{DataElement, PrimitiveValue, VR};
use dicom_dictionary_std::tags;
use gantry::inference::EnginePreference;
use gantry::module::phantom::Phantom;
use gantry_tests::nifti::Nifti;
use gantry_tests::peers::Peers;
use gantry_tests::{MANIFEST, Scenario, asset, change_files, shared};
use sha2::{Digest, Sha256};

use crate::peers::path_text;

/// Segments, and voxels that ONNX Runtime 1.32 gave them in Python.
const FOUND: [(&str, u64); 2] = [("White matter", 527_305), ("Grey matter", 1_009_937)];

/// Writes a head as a series of MR images, with its rows and columns as they are in the file.
fn write_head(head: &Nifti, folder: &Path) {
    let axes = head.places.map(|[x, y, z, _]| [x, y, z]);
    assert_eq!(axes, [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]], "1 mm, to the right, the front and the head");
    let [right, front, up] = head.places.map(|[.., first]| first);
    let empty = format!("modality = 'MR'\nsize = {:?}\nspacing_mm = [1, 1, 1]\nbackground = 0", head.size);
    let empty: Phantom = toml::from_str(&empty).expect("a phantom");
    empty.write(folder).expect("written");
    let [columns, rows, _] = head.size;
    change_files(folder, |z, image| {
        let voxels = &head.voxels[z * columns * rows..][..columns * rows];
        let voxels = voxels.iter().map(|voxel| u16::from(*voxel)).collect();
        image.put(DataElement::new(tags::PIXEL_DATA, VR::OW, PrimitiveValue::U16(voxels)));
        // DICOM's axes lead to the left and the back.
        image.put_str(tags::IMAGE_ORIENTATION_PATIENT, VR::DS, "-1\\0\\0\\0\\-1\\0");
        let first = format!("{}\\{}\\{}", -right, -front, up + z as f32);
        image.put_str(tags::IMAGE_POSITION_PATIENT, VR::DS, first);
    })
    .expect("changed");
}

#[test]
fn a_network_of_others_labels_a_whole_head_as_it_does_in_python() {
    let Some(network) = shared("assets/meshnet5.onnx") else { return };
    let (Some(maps), Some(_)) = (asset("nilearn"), asset("onnxruntime/libonnxruntime.so")) else { return };
    let bytes = std::fs::read(&network).expect("readable");
    let digest = gantry::hex(&Sha256::digest(&bytes));
    let model =
        format!("[[models]]\nname = \"tissue\"\nfile = \"tissue.onnx\"\ntarget = \"cpu\"\nsha256 = \"{digest}\"\n");
    let manifest = MANIFEST.replace("[\"CT\"]", "[\"MR\"]");
    let manifest = manifest.replace("\"wasi:nn\"", "\"gantry:imaging/filters\", \"wasi:nn\"");
    // 128 MiB of labels, of which none is in the guest.
    let manifest = format!("{manifest}[limits]\nguest_memory_mib = 16\n{model}");
    let Some(scenario) = Scenario::rogue_with("whole-head", &manifest) else { return };
    scenario.write_package("tissue.onnx", &bytes).expect("written");
    let study = tempfile::tempdir().expect("a folder");
    let head = Nifti::read(&maps.join("mni_icbm152_t1_tal_nlin_sym_09a_converted.nii.gz")).expect("a head");
    write_head(&head, study.path());
    let mut scenario = scenario.on(study.path());
    scenario.config.engines.engine = EnginePreference::OnnxRuntime;
    scenario.config.limits.job_deadline_ms = 120_000;

    let result = scenario.run().expect("done");
    assert_eq!(result.models[0].calls, 1, "all of the head at once");
    let segments = &result.findings.segments;
    assert_eq!(segments.len(), FOUND.len());
    for (segment, (name, voxels)) in segments.iter().zip(FOUND) {
        assert_eq!(segment.name, name);
        assert!(segment.voxels.abs_diff(voxels) <= voxels / 200, "{name}: {} voxels, not {voxels}", segment.voxels);
    }
    let Some(peers) = Peers::with("numpy, onnxruntime, pydicom, SimpleITK") else { return };
    let seg = scenario.out().join("segmentation.dcm");
    let [seg, network, maps] = [seg, network, maps].map(|path: PathBuf| path_text(&path));
    peers.agree("judge_head.py", &[&seg, &network, &maps]);
}
