//! A module's own models: right calls work, a changed model is noticed. Wrong calls and tensors are in `containment`.

use gantry::findings::Urgency;
use gantry::inference::Turn;
use gantry::metrics::Metrics;
use gantry::pipeline::RunError;
use gantry::sandbox::JobError;
use gantry_tests::{MANIFEST, Scenario};

/// A manifest that asks for windows.
fn with_patches() -> String {
    let more = "\"gantry:imaging/filters\", \"gantry:imaging/patches\", \"wasi:nn\"";
    MANIFEST.replace("\"wasi:nn\"", more)
}

#[test]
fn a_component_for_plain_wasi_nn_runs() {
    let interfaces = MANIFEST.lines().find(|l| l.starts_with("interfaces")).expect("the manifest asks for interfaces");
    let plain = MANIFEST.replace(interfaces, "interfaces = [\"wasi:nn\"]");
    let Some(scenario) = Scenario::with_net("plain-nn", &plain, "cpu") else { return };
    scenario.run().expect("done, with nothing to say");
    let nothing = MANIFEST.replace(interfaces, "interfaces = []");
    let Some(scenario) = Scenario::with_net("plain-nn", &nothing, "cpu") else { return };
    assert!(scenario.refused().to_string().contains("wasi:nn/"), "the import that is not asked for is named");
}

#[test]
fn a_model_that_is_not_the_one_in_the_manifest_is_refused() {
    let Some(scenario) = Scenario::with_net("plain-nn", MANIFEST, "cpu") else { return };
    scenario.write_package("net.onnx", b"another model").expect("written");
    let error = scenario.refused().to_string();
    assert!(error.contains("net.onnx has SHA-256") && error.contains("but the manifest says"), "{error}");
}

#[test]
fn a_model_looks_at_each_window_in_a_run_of_its_own() {
    let Some(scenario) = Scenario::with_net("windows", &with_patches(), "cpu") else { return };
    let result = scenario.run().expect("the windows came together");
    assert_eq!(result.findings.classifications[0].probability, 1.0);
    // 9 × 7 × 5 voxels under windows of 4 × 4 × 4, two apart; four quarters, each as it is and mirrored, along z too. What is
    // more urgent comes between any two.
    assert_eq!(result.models[0].calls, (4 * 3 * 2) * (4 * 2 * 2));
}

#[test]
fn an_urgent_job_runs_its_model_between_two_windows_of_another() {
    // A million windows in one call: it comes to no end by itself.
    let Some(mut windows) = Scenario::with_net("endless-windows", &with_patches(), "cpu") else { return };
    let another = MANIFEST.replace("vendor = \"Tests\"", "vendor = \"Another\"");
    let urgent = Scenario::with_net("plain-nn", &another, "cpu").expect("built as the other");
    windows.config.limits.job_deadline_ms = 600_000;
    let app = windows.app();
    let metrics = Metrics::new();
    app.engines.count(metrics.clone());
    let runs = |vendor: &str| -> u64 {
        let name = format!("gantry_model_run_seconds_count{{vendor=\"{vendor}\",model=\"net\",device=\"cpu\"}} ");
        let seen = metrics.render();
        seen.lines().find_map(|line| line.strip_prefix(&name)?.parse().ok()).unwrap_or(0)
    };
    std::thread::scope(|scope| {
        let turn = Turn::default();
        let (first, app) = (turn.clone(), &app);
        let (windows, urgent) = (&windows, &urgent);
        let running = scope.spawn(move || windows.run_as(app, &first, &|_| {}).map(drop));
        let until = |enough: &dyn Fn() -> bool| {
            while !enough() && !running.is_finished() {
                std::thread::yield_now();
            }
        };
        until(&|| runs("Tests") >= 3);
        let ran = urgent.run_as(app, &Turn::new(Urgency::Urgent), &|_| {}).map(drop);
        let (before, others) = (runs("Tests"), runs("Another"));
        let went_on = !running.is_finished();
        until(&|| runs("Tests") > before);
        let after = runs("Tests");
        turn.cancel();
        let error = running.join().expect("it does not panic").expect_err("it was cancelled");
        assert!(matches!(error, RunError::Job(JobError::Cancelled)), "{error}");
        ran.expect("done, beside the other");
        assert!(went_on && others > 0, "{others} runs of the urgent job");
        assert!(before >= 3 && after > before, "{before} windows before, {after} after");
    });
}
