//! Components that misbehave, each beside one that does not: it ends as the table in `gantry_tests::guests` says, nothing of it is written,
//! what runs beside it in the same process goes on, and so does the process.
//!
//! Most are examples of `tests/guests/rogue`, one misdeed a file; what no compiler writes is in [`handmade`]. Of those that commit
//! several misdeeds, each is tried: see `rogue::misdeed`. A new example is to be put into it, and a test says so.
//!
//! Order of reading: that table, [`site`], the tests here, [`handmade`]. Models that misbehave are in `malformed.rs`, engines
//! that do in `workers.rs`, compilers and decoders in `tools.rs`.

mod handmade;
mod site;

use std::collections::BTreeSet;

use gantry::pipeline::{Event, RunError};
use gantry::sandbox::{JobError, PrepareError};
use gantry_tests::{MANIFEST, Scenario, guests, repository};

use site::Site;

#[test]
fn a_well_behaved_component_is_done() {
    let Some(scenario) = Scenario::rogue("well-behaved") else { return };
    let result = scenario.run().expect("done");
    assert!(scenario.out().join("segmentation.dcm").exists());
    assert!(scenario.out().join("report.dcm").exists());
    assert!(scenario.out().join("result.json").exists());
    let bone = &result.findings.segments[0];
    assert_eq!(bone.voxels, 6 * 6 * 6);
    let again = scenario.run().expect("done again");
    let uids = |r: &gantry::outputs::result::JobResult| {
        r.outputs.iter().map(|o| (o.sop_instance_uid.clone(), o.sha256.clone())).collect::<Vec<_>>()
    };
    assert_eq!(uids(&result), uids(&again), "a re-run writes the same objects");
}

#[test]
fn those_who_take_without_end_meet_a_limit() {
    Site::try_each(guests::greedy());
}

#[test]
fn those_who_run_without_end_meet_the_deadline() {
    Site::try_each(guests::endless());
}

#[test]
fn a_trap_fails_the_job() {
    Site::try_each(guests::traps());
}

#[test]
fn findings_that_do_not_fit_are_refused() {
    Site::try_each(guests::misstated());
}

#[test]
fn what_is_refused_to_a_guest_is_refused_kindly() {
    Site::try_each(guests::refused());
}

#[test]
fn an_import_that_was_not_granted_is_named_before_anything_runs() {
    Site::try_each(guests::unlinked());
}

#[test]
fn components_that_no_compiler_writes_are_contained_too() {
    Site::try_each(handmade::all());
}

/// Examples that do nothing wrong.
const WELL_BEHAVED: [&str; 13] = [
    "well-behaved",
    "by-the-clock",
    "echoes",
    "segments",
    "shown",
    "boxes",
    "slow",
    "unfit",
    "follow",
    "priors",
    "plain-nn",
    "windows",
    "whole-head",
];
/// Of another world: `streams.rs` tries it.
const OF_STREAMS: [&str; 1] = ["frames"];

#[test]
fn every_guest_of_the_folder_is_tried_and_they_are_many() {
    let guests = guests::all();
    let tried: BTreeSet<_> = guests.iter().map(|guest| guest.name).chain(WELL_BEHAVED).chain(OF_STREAMS).collect();
    let folders =
        ["rogue", "tables", "streams"].map(|name| repository().join("tests/guests").join(name).join("examples"));
    let listed = folders.iter().flat_map(|folder| std::fs::read_dir(folder).expect("listed"));
    let there: BTreeSet<_> = listed
        .map(|entry| entry.expect("an entry").path().file_stem().expect("a name").to_string_lossy().into_owned())
        .collect();
    assert_eq!(
        there.iter().map(String::as_str).collect::<BTreeSet<_>>(),
        tried,
        "each is in a table, or in none by name"
    );
    let misbehaving: BTreeSet<_> = guests.iter().map(|guest| guest.name).collect();
    assert!(misbehaving.len() >= 40, "{} components that misbehave", misbehaving.len());
}

#[test]
fn many_instances_meet_their_limit() {
    let Some(mut scenario) = Scenario::rogue("well-behaved") else { return };
    scenario.config.limits.guest_instances_max = 1;
    let error = scenario.refused();
    assert!(matches!(error, RunError::Prepare(PrepareError::TooLarge { .. })), "{error:?}");
    assert!(error.to_string().contains("guest_instances_max"), "{error}");
}

#[test]
fn what_a_guest_may_read_in_one_call_is_bounded() {
    let Some(mut scenario) = Scenario::rogue("well-behaved") else { return };
    scenario.config.limits.guest_read_mib = 0;
    let RunError::Job(JobError::Limit(hit)) = scenario.refused() else { panic!("a limit") };
    assert_eq!(hit.limit, "guest_read_mib", "{hit}");
}

#[test]
fn a_panic_is_logged_with_its_place() {
    let Some(scenario) = Scenario::rogue("panic") else { return };
    let lines = std::cell::RefCell::new(Vec::new());
    let failed = scenario.run_watched(&|event| {
        if let Event::Log(line) = event {
            lines.borrow_mut().push(line.message.clone());
        }
    });
    assert!(failed.is_err());
    assert!(lines.borrow().iter().any(|line| line.contains("panic.rs")), "{lines:?}");
}

#[test]
fn a_result_replaces_an_earlier_one_whole() {
    let Some(scenario) = Scenario::rogue("well-behaved") else { return };
    let overlay = scenario.out().join("overlay.png");
    assert_eq!(scenario.command_says(&["--overlay"]).code, Some(0));
    assert!(overlay.exists());
    std::fs::write(scenario.out().join("somebody-elses.txt"), "notes").expect("written");
    scenario.run().expect("done");
    assert!(!overlay.exists(), "a picture of other findings");
    assert!(scenario.out().join("somebody-elses.txt").exists(), "not ours to remove");

    std::fs::write(&overlay, "somebody's").expect("written");
    let refused = scenario.run().expect_err("not ours to replace").to_string();
    assert!(refused.contains("overlay.png: is in the place of a result"), "{refused}");
    assert_eq!(std::fs::read_to_string(&overlay).expect("still there"), "somebody's");
}

#[test]
fn a_file_that_is_no_component_is_refused_by_name() {
    let scenario = Scenario::new(b"not wasm at all", MANIFEST).expect("a scenario");
    let error = scenario.refused().to_string();
    assert!(error.contains("component.wasm is not a WebAssembly component"), "{error}");
}

#[test]
fn a_manifest_with_an_unknown_key_and_a_changed_file_are_refused() {
    let scenario = Scenario::new(b"x", &MANIFEST.replace("schema = 1", "schema = 1\ncolour = 3")).expect("a scenario");
    assert!(scenario.refused().to_string().contains("colour"));
    let scenario = Scenario::new(b"x", MANIFEST).expect("a scenario");
    scenario.write_package("component.wasm", b"y").expect("written");
    assert!(scenario.refused().to_string().contains("the manifest says"));
}
