//! What writing a segmentation takes.

use std::process::Command;

use dicom_dictionary_std::tags;
use dicom_object::OpenFileOptions;
use serde_json::Value;

const MIB: u64 = 1 << 20;

/// In a process of its own, which does nothing else: three organs on each of 300 slices of 512 × 512 voxels.
#[test]
fn a_seg_takes_64_mib_beside_its_mask_at_most() {
    let folder = tempfile::tempdir().expect("a folder");
    let out = folder.path().join("out");
    let said = Command::new(env!("CARGO_BIN_EXE_bench")).arg("write-seg").arg(&out).output().expect("it starts");
    assert!(said.status.success(), "{}", String::from_utf8_lossy(&said.stderr));
    let told: Value = serde_json::from_slice(&said.stdout).expect("JSON");
    let bytes = |name: &str| told[name].as_u64().expect("a number");
    // Else it is not this that was measured.
    let seg = OpenFileOptions::new().read_until(tags::PIXEL_DATA).open_file(out.join("segmentation.dcm"));
    let frames = seg.expect("a SEG").element(tags::NUMBER_OF_FRAMES).expect("there").to_int::<u32>();
    assert_eq!(frames.expect("a number"), 900);
    assert!(bytes("before") >= bytes("mask"), "the mask is in memory: {told}");
    let took = bytes("peak") - bytes("before");
    assert!(took <= 64 * MIB, "{} MiB beside a mask of {} MiB", took / MIB, bytes("mask") / MIB);
}
