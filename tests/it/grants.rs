//! What a module asks for and the operator grants, and nothing else.

use gantry::pipeline::RunError;
use gantry::sandbox::JobError;
use gantry_tests::{MANIFEST, Scenario, needed};

/// A guest that imports randomness and the clock, and asks for both.
fn ungranted() -> Option<Scenario> {
    let component = needed("target/guests/rogue/ungranted.wasm", "cargo xtask guests")?;
    let manifest = MANIFEST.replace("\"wasi:nn\"", "\"wasi:random\", \"wasi:clocks\"");
    Some(Scenario::new(&std::fs::read(component).expect("readable"), &manifest).expect("a scenario"))
}

#[test]
fn wasi_is_there_when_asked_for_and_granted_and_only_then() {
    let Some(mut scenario) = ungranted() else { return };
    for grants in [vec![], vec!["wasi:random"], vec!["wasi:clocks"]] {
        scenario.grants = grants.iter().map(|&g| g.to_owned()).collect();
        let error = scenario.refused();
        assert!(matches!(error, RunError::Prepare(_)), "{grants:?}: {error:?}");
        let missing = if grants == ["wasi:random"] { "--grant wasi:clocks" } else { "--grant wasi:random" };
        assert!(error.to_string().contains(missing), "{grants:?}: {error}");
    }
    scenario.grants = vec!["wasi:random".into(), "wasi:clocks".into()];
    let result = scenario.run().expect("both were granted");
    assert!(result.module.grants.contains(&"wasi:clocks".to_owned()), "the result records what was granted");
}

#[test]
fn a_guest_that_sleeps_in_the_host_meets_the_deadline() {
    let Some(component) = needed("target/guests/rogue/sleep.wasm", "cargo xtask guests") else { return };
    let manifest = MANIFEST.replace("\"wasi:nn\"", "\"wasi:io\", \"wasi:clocks\"");
    let mut scenario = Scenario::new(&std::fs::read(component).expect("readable"), &manifest).expect("a scenario");
    scenario.grants = vec!["wasi:io".into(), "wasi:clocks".into()];
    scenario.config.limits.job_deadline_ms = 200;
    let RunError::Job(JobError::Limit(hit)) = scenario.refused() else { panic!("the deadline") };
    assert_eq!(hit.limit, "job_deadline_ms");
}

#[test]
fn an_error_of_a_megabyte_is_cut_and_cleaned() {
    let Some(scenario) = Scenario::rogue("long-error") else { return };
    let RunError::Job(JobError::Module(text)) = scenario.refused() else { panic!("the module's own error") };
    assert!(text.chars().count() <= 4096, "{} characters", text.chars().count());
    assert!(!text.contains('\u{1b}'), "no control characters reach a terminal");
}
