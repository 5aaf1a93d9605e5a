//! A module's own models and tensors: right calls work, wrong ones are refused, a changed model is noticed.

use gantry::pipeline::RunError;
use gantry::sandbox::JobError;
use gantry_tests::{MANIFEST, Scenario};

#[test]
fn wrong_names_types_and_shapes_are_refused_before_an_engine_sees_them() {
    let Some(scenario) = Scenario::with_net("wrong-inputs", MANIFEST, "cpu") else { return };
    let result = scenario.run().expect("each was refused as it must be, and a right call worked");
    assert_eq!(result.findings.classifications.len(), 1);
}

#[test]
fn a_tensor_whose_data_does_not_fit_its_shape_cannot_be_made() {
    for (guest, said) in
        [("wrong-length", "has 256 bytes, but 252 were given"), ("tensor-overflow", "cannot be addressed")]
    {
        let Some(scenario) = Scenario::with_net(guest, MANIFEST, "cpu") else { return };
        let error = scenario.refused();
        assert!(matches!(error, RunError::Job(JobError::Trap(_))), "{error:?}");
        assert!(error.to_string().contains(said), "{error}");
    }
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
