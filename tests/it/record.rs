//! Every result is traceable to what made it, and names nobody.

use gantry_tests::{MANIFEST, Scenario, needed};
use sha2::{Digest, Sha256};

#[test]
fn the_result_names_the_digest_of_every_input_and_output_and_no_person() {
    let Some(component) = needed("target/guests/rogue/well-behaved.wasm", "cargo xtask guests") else { return };
    let component = std::fs::read(component).expect("readable");
    let scenario = Scenario::new(&component, MANIFEST).expect("a scenario");
    let result = scenario.run().expect("done");

    assert_eq!(result.module.component_sha256, gantry::hex(&Sha256::digest(&component)));
    let package = scenario.package().expect("opened");
    assert_eq!(result.module.identity_sha256, gantry::hex(&package.identity()));

    let mut inputs: Vec<_> = std::fs::read_dir(scenario.study())
        .expect("listed")
        .map(|e| gantry::hex(&Sha256::digest(std::fs::read(e.expect("an entry").path()).expect("readable"))))
        .collect();
    let mut recorded: Vec<_> = result.input.series[0].decoded.iter().map(|f| f.sha256.clone()).collect();
    inputs.sort();
    recorded.sort();
    assert_eq!(inputs, recorded);

    assert_eq!(result.outputs.len(), 2, "SEG and SR");
    for output in &result.outputs {
        let bytes = std::fs::read(scenario.out().join(&output.file)).expect("readable");
        assert_eq!(output.sha256, gantry::hex(&Sha256::digest(&bytes)), "{}", output.file);
    }
    assert!(result.host_memory_peak_bytes.is_some_and(|bytes| bytes > 0));

    let text = std::fs::read_to_string(scenario.out().join("result.json")).expect("readable");
    assert!(!text.contains("Secret") && !text.contains("SECRET"), "no patient data");
    assert!(!text.contains(&scenario.study().display().to_string()), "no paths of the hospital");
}
