//! A module's own models: right calls work, a changed model is noticed. Wrong calls and tensors are in `containment`.

use gantry_tests::{MANIFEST, Scenario};

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
    let more = "\"gantry:imaging/filters\", \"gantry:imaging/patches\", \"wasi:nn\"";
    let manifest = MANIFEST.replace("\"wasi:nn\"", more);
    let Some(scenario) = Scenario::with_net("windows", &manifest, "cpu") else { return };
    let result = scenario.run().expect("the windows came together");
    assert_eq!(result.findings.classifications[0].probability, 1.0);
    // 9 × 7 × 5 voxels under windows of 4 × 4 × 4, two apart; four quarters, each as it is and mirrored, along z too. What is
    // more urgent comes between any two.
    assert_eq!(result.models[0].calls, (4 * 3 * 2) * (4 * 2 * 2));
}
