//! A module looks at what another one found: the same numbers, and nothing that is not what that one left.

use std::path::Path;

use dicom_core::{DataElement, PrimitiveValue, VR};
use dicom_dictionary_std::tags;
use gantry::outputs::result::JobResult;
use gantry::pipeline::RunError;
use gantry::sandbox::JobError;
use gantry::upstream::UpstreamError;
use gantry_tests::{MANIFEST, Scenario, change_files, needed};
use sha2::{Digest, Sha256};

const GRANT: &str = "gantry:imaging/upstream";

/// A guest that states three segments, and has found them all: slabs of 100, 200 and 300 HU.
fn segments() -> Option<Scenario> {
    let scenario = Scenario::rogue("segments")?;
    change_files(scenario.study(), |z, object| {
        let hu = |i: usize| if z < 3 { 0 } else { (i % 16 / 4) as u16 * 100 };
        let stored = (0..256).map(|i| hu(i) + 1024).collect();
        object.put(DataElement::new(tags::PIXEL_DATA, VR::OW, PrimitiveValue::U16(stored)));
    })
    .expect("changed");
    Some(scenario)
}

/// `follow` after a guest that is done.
fn after(first: &Scenario) -> Option<(JobResult, Scenario)> {
    let done = first.run().expect("done");
    Some((done, Scenario::rogue("follow")?.after(first)))
}

fn measured(result: &JobResult) -> Vec<(Option<u32>, f64)> {
    let mut measured: Vec<_> = result.findings.measurements.iter().map(|m| (m.segment, m.value)).collect();
    measured.sort_by_key(|(segment, _)| *segment);
    measured
}

/// Codes of findings with a probability above 0.
fn found(result: &JobResult) -> Vec<&str> {
    let found = result.findings.classifications.iter().filter(|c| c.probability > 0.0);
    found.map(|c| c.finding.value.as_str()).collect()
}

fn uids(result: &JobResult) -> Vec<Option<&str>> {
    result.outputs.iter().map(|output| output.sop_instance_uid.as_deref()).collect()
}

fn digest(path: &Path) -> String {
    gantry::hex(&Sha256::digest(std::fs::read(path).expect("readable")))
}

fn refused(scenario: &Scenario) -> UpstreamError {
    match scenario.refused() {
        RunError::Job(JobError::Upstream(error)) => *error,
        other => panic!("not the earlier result: {other:?}"),
    }
}

#[test]
fn every_voxel_and_number_is_as_the_earlier_module_stated_it() {
    let Some(first) = segments() else { return };
    let Some((done, second)) = after(&first) else { return };
    let result = second.run().expect("done");
    assert_eq!(measured(&done).len(), 3);
    assert_eq!(measured(&result), measured(&done), "counted anew from the voxels that were handed over");
    let voxels = |r: &JobResult| r.findings.segments.iter().map(|s| (s.value, s.voxels)).collect::<Vec<_>>();
    assert_eq!(voxels(&result), voxels(&done));
    assert!(voxels(&done).contains(&(3, 0)), "one that is in no SEG is told: {:?}", voxels(&done));
    let pixels = |scenario: &Scenario| {
        let seg = dicom_object::open_file(scenario.out().join("segmentation.dcm")).expect("a SEG");
        seg.element(tags::PIXEL_DATA).expect("pixels").to_bytes().expect("bytes").into_owned()
    };
    assert_eq!(pixels(&first), pixels(&second), "the same frames");
    let log: Vec<&str> = result.log.iter().map(|line| line.message.as_str()).collect();
    assert!(log.contains(&"from rogue 0.1.0 of Tests, true"), "{log:?}");
    for (segment, value) in measured(&done) {
        assert!(log.contains(&format!("measured {value} mL of segment {segment:?}").as_str()), "{log:?}");
    }
}

#[test]
fn a_result_names_those_that_it_looked_at_and_its_uids_follow_from_what_they_hold() {
    let Some(first) = segments() else { return };
    let Some((done, second)) = after(&first) else { return };
    let result = second.run().expect("done");
    let [earlier] = result.input.upstream.as_slice() else { panic!("{:?}", result.input.upstream) };
    assert_eq!((earlier.module.as_str(), earlier.version.as_str()), ("rogue", "0.1.0"));
    assert_eq!(earlier.identity_sha256, done.module.identity_sha256);
    assert_eq!(earlier.result_sha256, digest(&first.out().join("result.json")));
    assert!(
        result.warnings.iter().any(|w| w.contains("rogue found, which is a demonstration")),
        "{:?}",
        result.warnings
    );
    let text = std::fs::read_to_string(second.out().join("result.json")).expect("readable");
    assert!(!text.contains("Secret") && !text.contains("SECRET"), "no patient data");

    let before = digest(&first.out().join("result.json"));
    first.run().expect("done again");
    assert_ne!(digest(&first.out().join("result.json")), before, "it took another time");
    let again = second.run().expect("done again");
    assert_eq!(uids(&again), uids(&result), "the chain gives the same objects");

    // The same grid and the same images, and other findings about them.
    let Some(other) = Scenario::rogue("well-behaved") else { return };
    let other = other.on(first.study());
    other.run().expect("done");
    let Some(third) = Scenario::rogue("follow") else { return };
    let third = third.after(&other).run().expect("done");
    assert!(uids(&third).iter().all(|uid| !uids(&result).contains(uid)), "other findings are other objects");
}

#[test]
fn what_was_not_granted_is_not_there() {
    let Some(first) = segments() else { return };
    let Some((_, mut second)) = after(&first) else { return };
    second.grants.clear();
    let error = second.refused();
    assert!(matches!(error, RunError::Prepare(_)), "{error:?}");
    assert!(error.to_string().contains(&format!("--grant {GRANT}")), "{error}");
}

#[test]
fn a_manifest_that_does_not_ask_gets_no_interface_and_no_result() {
    let Some(component) = needed("target/guests/rogue/follow.wasm", "cargo xtask guests") else { return };
    let scenario = Scenario::new(&std::fs::read(component).expect("readable"), MANIFEST).expect("a scenario");
    let error = scenario.refused();
    assert!(matches!(error, RunError::Prepare(_)) && error.to_string().contains(GRANT), "{error}");

    let Some(first) = segments() else { return };
    first.run().expect("done");
    let Some(second) = Scenario::rogue("well-behaved") else { return };
    let result = second.after(&first).run().expect("done");
    assert!(result.input.upstream.is_empty());
    let expected = [
        format!("--upstream: the module does not ask for {GRANT}"),
        format!("--grant {GRANT}: the module does not ask for it"),
    ];
    assert!(expected.iter().all(|e| result.warnings.contains(e)), "{:?}", result.warnings);
}

#[test]
fn without_earlier_results_there_are_none() {
    let Some(mut alone) = Scenario::rogue("follow") else { return };
    alone.grants.push(GRANT.into());
    let result = alone.run().expect("done");
    assert!(found(&result).is_empty() && result.findings.classifications[0].finding.value == "EARLIER");
    assert!(result.input.upstream.is_empty());
}

#[test]
fn an_earlier_module_that_called_the_input_unfit_is_told_so() {
    let Some(first) = Scenario::rogue("unfit") else { return };
    let Some((_, second)) = after(&first) else { return };
    let result = second.run().expect("done");
    assert_eq!(found(&result), ["EARLIER", "SHORT"]);
    assert_eq!(result.input.upstream.len(), 1, "it looked at it");
}

/// The guest goes on without it; the job does not.
#[test]
fn a_segmentation_that_is_not_what_was_left_fails_the_job() {
    let Some(first) = segments() else { return };
    let Some((_, second)) = after(&first) else { return };
    let path = first.out().join("segmentation.dcm");
    let bytes = std::fs::read(&path).expect("readable");
    let flipped = |at: usize| bytes.iter().enumerate().map(|(i, b)| if i == at { b ^ 1 } else { *b }).collect();
    let longer = [&bytes[..], &[0, 0]].concat();
    let shorter = bytes[..bytes.len() - 2].to_vec();
    let tampered: [Vec<u8>; 5] = [flipped(bytes.len() - 2), flipped(200), longer, shorter, b"DICM".to_vec()];
    for tampered in tampered {
        std::fs::write(&path, tampered).expect("written");
        let error = refused(&second);
        assert!(matches!(error, UpstreamError::Changed { by: "result.json", .. }), "{error:?}");
        assert!(error.to_string().contains("segmentation.dcm"), "{error}");
    }
    std::fs::remove_file(&path).expect("removed");
    assert!(matches!(refused(&second), UpstreamError::Io { .. }));
    std::fs::write(&path, bytes).expect("written");
    second.run().expect("as it was");
}

#[test]
fn what_is_no_result_on_this_study_is_refused() {
    let Some(first) = segments() else { return };
    let Some((_, second)) = after(&first) else { return };
    let path = first.out().join("result.json");
    let text = std::fs::read_to_string(&path).expect("readable");
    let with = |from: &str, to: &str| {
        assert!(text.contains(from), "{from}");
        std::fs::write(&path, text.replace(from, to)).expect("written");
        refused(&second)
    };
    let error = with("\"study_instance_uid\": \"2.25.2\"", "\"study_instance_uid\": \"2.25.99\"");
    assert!(matches!(error, UpstreamError::Study(_)), "{error:?}");
    for (from, to) in [
        ("gantry.result/1", "gantry.result/2"),
        ("\"segmentation.dcm\"", "\"../out/segmentation.dcm\""),
        ("\"findings\"", "\"finds\""),
    ] {
        let error = with(from, to);
        assert!(matches!(error, UpstreamError::Format { .. }), "{to}: {error:?}");
    }
    // A number that the SEG has, and the result does not.
    let error = with("\"number\": 1,", "\"number\": 9,");
    assert!(matches!(error, UpstreamError::Segmentation(_)), "{error:?}");
    assert!(error.to_string().contains("a segment that was not stated"), "{error}");
    let _ = std::fs::remove_file(&path);
    assert!(matches!(refused(&second), UpstreamError::Io { .. }));
}

#[test]
fn what_is_handed_over_is_charged_and_read_within_the_limits_of_every_dicom_file() {
    let Some(first) = segments() else { return };
    let Some((_, mut second)) = after(&first) else { return };
    let usual = second.config.limits.clone();
    second.config.limits.host_memory_mib = 0;
    assert!(matches!(refused(&second), UpstreamError::OverBudget(_)));
    second.config.limits = usual.clone();
    second.config.limits.elements_max = 100;
    let error = refused(&second);
    assert!(error.is_limit() && error.to_string().contains("elements_max = 100"), "{error}");
    second.config.limits = usual;
    let peak = second.run().expect("done").host_memory_peak_bytes.expect("measured");
    assert!(peak >= 16 * 16 * 10 * 2, "{peak} bytes, though one of the values needs 16-bit labels");
}

#[test]
fn the_command_hands_a_folder_over() {
    let Some(first) = segments() else { return };
    let Some((_, second)) = after(&first) else { return };
    let out = first.out();
    let folder = out.to_str().expect("UTF-8");
    let says = second.command_says(&["--json", "--grant", GRANT, "--upstream", folder]);
    assert_eq!(says.code, Some(0), "{says:?}");
    let result: serde_json::Value = serde_json::from_str(&says.out).expect("JSON");
    assert_eq!(result["input"]["upstream"][0]["module"], "rogue");
    std::fs::write(out.join("segmentation.dcm"), b"").expect("written");
    let says = second.command_says(&["--grant", GRANT, "--upstream", folder]);
    assert!(says.code == Some(3) && says.err.contains("is not what the earlier module left"), "{says:?}");
}
