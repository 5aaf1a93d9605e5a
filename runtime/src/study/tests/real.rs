//! Real files, where `cargo xtask assets` has fetched them.

use super::*;

/// A folder of the assets, or `None`, said so, where it is not fetched; that is an error in CI.
fn assets(name: &str) -> Option<PathBuf> {
    let root = std::env::var_os("GANTRY_ASSETS")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../.cache/assets"), PathBuf::from);
    let path = root.join(name);
    if path.exists() {
        return Some(path);
    }
    assert!(std::env::var_os("CI").is_none(), "{} is missing: run `cargo xtask assets`", path.display());
    eprintln!("skipped: no {name}; run `cargo xtask assets`");
    None
}

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
