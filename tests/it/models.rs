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
