//! Components that misbehave: each ends in a clear error, the process goes on, and nothing is written.

use gantry::pipeline::{Event, RunError};
use gantry::sandbox::{JobError, PrepareError};
use gantry_tests::{MANIFEST, Scenario};

fn hits(name: &str, limit: &str, change: impl FnOnce(&mut gantry::config::Limits)) {
    let Some(mut scenario) = Scenario::rogue(name) else { return };
    change(&mut scenario.config.limits);
    match scenario.refused() {
        RunError::Job(JobError::Limit(hit)) => {
            assert_eq!(hit.limit, limit, "{hit}");
            assert!(hit.to_string().contains(limit), "the message names the limit: {hit}");
        }
        other => panic!("{name} must hit {limit}: {other:?}"),
    }
}

fn is_refused_by_the_gate(name: &str) {
    let Some(scenario) = Scenario::rogue(name) else { return };
    let error = scenario.refused();
    assert!(matches!(error, RunError::Refused(_) | RunError::Job(JobError::Module(_))), "{name}: {error:?}");
}

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
fn endless_loops_meet_the_deadline() {
    hits("loop", "job_deadline_ms", |l| l.job_deadline_ms = 200);
}

#[test]
fn endless_recursion_meets_the_stack() {
    hits("recurse", "guest_stack_kib", |_| {});
}

#[test]
fn endless_allocation_meets_the_memory_limit() {
    hits("allocate", "guest_memory_mib", |l| l.guest_memory_mib = 64);
}

#[test]
fn hoarded_handles_meet_their_limit() {
    hits("handles", "handles_max", |_| {});
}

#[test]
fn host_memory_is_bounded() {
    hits("host-memory", "host_memory_mib", |l| l.host_memory_mib = 64);
}

#[test]
fn large_tables_meet_their_limit() {
    let Some(scenario) = Scenario::rogue("tables") else { return };
    let error = scenario.refused();
    assert!(matches!(error, RunError::Prepare(PrepareError::TooLarge { .. })), "{error:?}");
    assert!(error.to_string().contains("guest_table_elements_max"), "{error}");
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
    hits("well-behaved", "guest_read_mib", |l| l.guest_read_mib = 0);
}

#[test]
fn a_flood_of_findings_meets_its_limit() {
    hits("findings-flood", "findings_max", |_| {});
}

#[test]
fn a_list_of_two_gibibytes_is_refused() {
    hits("list-2gib", "guest_list_mib", |l| l.guest_memory_mib = 4096);
    hits("tensor-2gib", "guest_list_mib", |l| l.guest_memory_mib = 4096);
}

#[test]
fn findings_that_do_not_fit_are_refused() {
    for name in [
        "nan",
        "wrong-shape",
        "elsewhere",
        "fraction",
        "probability",
        "twice",
        "unfit-and-more",
        "unknown-label",
        "ignores-refusals",
    ] {
        is_refused_by_the_gate(name);
    }
}

#[test]
fn a_trap_fails_the_job() {
    for name in ["trap", "panic"] {
        let Some(scenario) = Scenario::rogue(name) else { return };
        assert!(matches!(scenario.refused(), RunError::Job(JobError::Trap(_))), "{name}");
    }
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
fn an_import_that_was_not_granted_is_named_before_anything_runs() {
    for (name, import) in [("ungranted", "wasi:"), ("unknown-import", "imports `")] {
        let Some(scenario) = Scenario::rogue(name) else { return };
        let error = scenario.refused();
        assert!(matches!(error, RunError::Prepare(_)), "{error:?}");
        assert!(error.to_string().contains(import), "{error}");
    }
}

#[test]
fn what_is_refused_to_a_guest_is_refused_kindly() {
    // These look at the refusals themselves and end well when each was as it must be.
    for name in ["identity", "other-model", "load-bytes", "huge-grid", "log-flood"] {
        let Some(scenario) = Scenario::rogue(name) else { return };
        scenario.run().unwrap_or_else(|e| panic!("{name}: {e}"));
    }
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
