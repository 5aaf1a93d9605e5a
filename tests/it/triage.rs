//! The demonstration for urgent findings, on heads that are made here.

use dicom_core::VR;
use dicom_dictionary_std::tags;
use gantry::findings::Urgency;
use gantry::outputs::result::JobResult;
use gantry::pipeline::RunError;
use gantry_tests::{Scenario, change_files, needed, write_head_ct};
use tempfile::TempDir;

/// The package on a head; its folder lives as long as the scenario is used.
fn head(lesion: bool) -> Option<(TempDir, Scenario)> {
    let package = needed("modules/head-ct-triage/package", "cargo xtask guests")?;
    let study = tempfile::tempdir().expect("a folder");
    write_head_ct(study.path(), lesion).expect("written");
    let mut scenario = Scenario::existing(&package, study.path()).expect("a scenario");
    scenario.config.limits.job_deadline_ms = 300_000;
    Some((study, scenario))
}

/// Voxels that are suspected, and the hottest score.
fn heat(result: &JobResult) -> (u64, f32) {
    let heatmap = result.findings.heatmap.as_ref().expect("a heatmap, whatever it shows");
    (result.findings.segments.iter().map(|segment| segment.voxels).sum(), heatmap.maximum)
}

#[test]
fn a_dense_lesion_is_urgent_and_says_why_and_where() {
    let Some((_study, scenario)) = head(true) else { return };
    let result = scenario.run().expect("done");
    let [triage] = result.findings.triage.as_slice() else { panic!("{:?}", result.findings.triage) };
    assert_eq!((triage.level, triage.finding.value.as_str()), (Urgency::Urgent, "HYPERDENSE"), "{}", triage.reason);
    assert!(triage.reason.contains("on the patient's left"), "{}", triage.reason);
    let (suspected, most) = heat(&result);
    assert!(suspected > 0 && most > 0.9, "{suspected} voxels, {most}");
    for file in ["segmentation.dcm", "parametric-map.dcm"] {
        assert!(scenario.out().join(file).is_file(), "{file}");
    }
    assert!(result.module.demonstration, "not for clinical use");
}

#[test]
fn a_head_without_one_is_routine() {
    let Some((_study, scenario)) = head(false) else { return };
    let result = scenario.run().expect("done");
    let [triage] = result.findings.triage.as_slice() else { panic!("{:?}", result.findings.triage) };
    let (suspected, most) = heat(&result);
    assert_eq!((triage.level, suspected), (Urgency::Routine, 0), "{}", triage.reason);
    assert!((0.0..0.5).contains(&most), "{most}");
}

#[test]
fn another_part_of_the_body_is_not_looked_at() {
    let Some((study, scenario)) = head(true) else { return };
    change_files(study.path(), |_, slice| {
        slice.put_str(tags::BODY_PART_EXAMINED, VR::CS, "CHEST");
    })
    .expect("changed");
    let error = scenario.refused();
    assert!(matches!(error, RunError::NothingAccepted { .. }), "{error:?}");
    assert!(error.to_string().contains("body part CHEST is not"), "{error}");
}
