//! Real files, where `cargo xtask assets` has fetched them.

use super::*;

#[test]
fn a_siemens_abdomen_without_uids_is_read_as_others_read_it() {
    let Some(path) = assets("totalsegmentator/example_ct_dicom") else { return };
    let study = read(std::slice::from_ref(&path), &options()).expect("a study");
    let series = &study.series[0];
    assert_eq!((study.series.len(), series.instances.len(), series.modality.as_str()), (1, 20, "CT"));
    let geometry = &series.volumes[0].geometry;
    assert_eq!(geometry.size(), [512, 512, 20]);
    assert_eq!(geometry.spacing(), [0.9765625, 0.9765625, 2.0]);
    assert_eq!(geometry.origin(), [-249.51171875, -437.51171875, -804.5]);
    says(
        &study.warnings.join("\n"),
        &["20 files: ", "SOPInstanceUID (0008,0018)", "StudyInstanceUID (0020,000D)", "SeriesInstanceUID (0020,000E)"],
    );
    let values = values(series);
    // As SimpleITK (GDCM, OpenJPEG) and pydicom (Pillow) give them: slice from the feet, row, column.
    let voxel = |z: usize, y: usize, x: usize| values[(z * 512 + y) * 512 + x];
    assert_eq!([voxel(19, 256, 256), voxel(19, 300, 200), voxel(19, 100, 256)], [94.0, 106.0, -997.0]);
    assert_eq!([voxel(9, 256, 256), voxel(9, 300, 200), voxel(9, 200, 350)], [-67.0, 84.0, 104.0]);
    assert_eq!([voxel(0, 256, 256), voxel(0, 100, 256), voxel(0, 200, 350)], [86.0, -1009.0, 154.0]);
    let sum = |z: usize| values[z * 512 * 512..(z + 1) * 512 * 512].iter().map(|v| f64::from(*v)).sum::<f64>();
    assert_eq!([sum(0), sum(9), sum(19)], [-164982396.0, -163367558.0, -163079110.0]);
    let strict = ReadOptions { strict: true, ..options() };
    let refused = read(&[path], &strict).expect_err("refused").to_string();
    says(&refused, &["20 files", "SOPClassUID (0008,0016)", "SOPInstanceUID (0008,0018)"]);
}

/// A file of the assets by its name, wherever it lies in `folder`.
pub(super) fn asset(folder: &str, name: &str) -> Option<PathBuf> {
    let found = walkdir::WalkDir::new(assets(folder)?).into_iter().flatten().find(|e| e.file_name() == name);
    assert!(found.is_some(), "{name} is not in {folder}");
    found.map(walkdir::DirEntry::into_path)
}

#[test]
fn one_image_has_the_values_that_pydicom_gives_in_every_transfer_syntax() {
    // The sum over all pixels of pixel_array * RescaleSlope + RescaleIntercept, and the number of pixels.
    for (folder, name, pixels, sum) in [
        ("pydicom", "CT_small.dcm", 128 * 128, -1_950_906.0),
        ("pydicom", "J2K_pixelrep_mismatch.dcm", 512 * 512, -172_605_258.0),
        ("pydicom", "MR_small.dcm", 64 * 64, 2_125_338.0),
        ("pydicom", "MR_small_RLE.dcm", 64 * 64, 2_125_338.0),
        ("pydicom", "MR_small_bigendian.dcm", 64 * 64, 2_125_338.0),
        ("pydicom", "MR_small_expb.dcm", 64 * 64, 2_125_338.0),
        ("pydicom", "MR_small_implicit.dcm", 64 * 64, 2_125_338.0),
        ("pydicom", "MR_small_jp2klossless.dcm", 64 * 64, 2_125_338.0),
        ("pydicom", "MR_small_jpeg_ls_lossless.dcm", 64 * 64, 2_125_338.0),
        ("pydicom-data", "693_UNCR.dcm", 512 * 512, -271_466_631.0),
        ("pydicom-data", "693_J2KR.dcm", 512 * 512, -271_466_631.0),
        ("pydicom-data", "MR2_J2KI.dcm", 1024 * 1024, 297_341_684.24),
    ] {
        let Some(path) = asset(folder, name) else { return };
        let study = read(&[path], &options()).unwrap_or_else(|e| panic!("{e}"));
        let values = values(&study.series[0]);
        assert_eq!(values.len(), pixels, "{name}");
        let found: f64 = values.iter().map(|v| f64::from(*v)).sum();
        assert!((found - sum).abs() < 1e-6 * sum.abs(), "{name}: {found} is not {sum}");
    }
    let Some(truncated) = asset("pydicom", "MR_truncated.dcm") else { return };
    says(&read(&[truncated], &options()).expect_err("refused").to_string(), &["MR_truncated.dcm", "8130 bytes"]);
}

#[test]
fn lossless_jpeg_gives_the_values_that_gdcm_gives() {
    let Some(path) = asset("pydicom-data", "JPEG-LL.dcm") else { return };
    // It lies nowhere, so it is put somewhere.
    let mut file = dicom_object::open_file(path).expect("a DICOM file");
    set(&mut file, tags::IMAGE_POSITION_PATIENT, VR::DS, "0\\0\\0");
    set(&mut file, tags::IMAGE_ORIENTATION_PATIENT, VR::DS, AXIAL);
    set(&mut file, tags::PIXEL_SPACING, VR::DS, "1\\1");
    let folder = Folder::new();
    file.write_to_file(folder.path().join("a.dcm")).expect("a written file");
    let values = folder.values();
    assert_eq!(values.iter().map(|v| f64::from(*v)).sum::<f64>(), 3_596_452.0);
    assert_eq!(values[100_000..100_010], [44.0, 49.0, 38.0, 47.0, 42.0, 44.0, 35.0, 44.0, 45.0, 46.0]);
}
