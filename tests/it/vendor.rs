//! What a vendor does on the first day: a new module builds, passes its tests and runs, and gives nothing away.

use std::path::Path;
use std::process::Command;

use gantry::module::build::{BuildError, build};
use gantry::module::{inspect, language::Language, new, package::Package};
use gantry_tests::command::{Said, gantry};
use gantry_tests::{MANIFEST, Scenario, repository, skipped};

#[test]
fn a_new_module_passes_its_tests_builds_and_runs() {
    // Inside the repository, so that what the other guests are built of is not built again.
    let target = repository().join("target");
    std::fs::create_dir_all(&target).expect("a folder");
    let parent = tempfile::Builder::new().prefix("new-module-").tempdir_in(&target).expect("a folder");
    let source = new::new("first-day", parent.path(), Language::Rust, None).expect("made");

    let mut cargo = Command::new("cargo");
    cargo.args(["test", "--quiet"]).current_dir(&source).env("CARGO_TARGET_DIR", target.join("new-module"));
    let output = cargo.output().expect("cargo runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));

    let built = match build(&source, &mut |_| {}) {
        Err(BuildError::NoToolchain(why)) => return skipped(&why),
        built => built.expect("built"),
    };
    let package = Package::open(&built.package).expect("a package");
    let inspection = inspect::inspect(&package, 1, 1).expect("as built");
    assert_eq!(inspection.warnings, ["a demonstration, not for clinical use"]);
    let component = package.component(1).expect("as built");
    let home = std::env::var("HOME").expect("a home");
    for place in [repository().to_str().expect("text"), &home] {
        let told = component.windows(place.len()).any(|bytes| bytes == place.as_bytes());
        assert!(!told, "the component tells that it was built in {place}");
    }

    let scenario = Scenario::new(&component, MANIFEST).expect("a scenario");
    let result = scenario.run().expect("done");
    assert_eq!(result.findings.segments[0].voxels, 6 * 6 * 6);
    passes_its_cases(&source);
}

fn passes_its_cases(source: &Path) {
    let tested = gantry().args(["module", "test"]).arg(source).output().expect("gantry runs");
    let said = Said::from(tested);
    assert!(said.code == Some(0) && said.out.contains("1 passed, 0 failed"), "{said:?}");
}

#[test]
fn a_module_made_of_a_network_passes_its_tests_builds_and_runs() {
    let target = repository().join("target");
    std::fs::create_dir_all(&target).expect("a folder");
    let parent = tempfile::Builder::new().prefix("new-module-").tempdir_in(&target).expect("a folder");
    for (name, network, labels, found) in [
        (
            "by-slice",
            "ct-organs/models/organs.onnx",
            &["Liver", "Lungs", "Kidneys"][..],
            "3 labels of voxels, from slices",
        ),
        ("by-volume", "head-ct-triage/models/triage.onnx", &["Dense"], "a score of each voxel, from volumes"),
    ] {
        let mut command = gantry();
        command.args(["module", "new", name, "--dir"]).arg(parent.path()).arg("--from-onnx");
        command.arg(repository().join("modules").join(network));
        for label in labels {
            command.args(["--label", label]);
        }
        let said = Said::from(command.output().expect("gantry runs"));
        assert!(said.code == Some(0) && said.err.contains(found), "{said:?}");
        let source = parent.path().join(name);
        let card = std::fs::read_to_string(source.join("MODEL_CARD.md")).expect("readable");
        assert!(card.contains(labels[0]) && !card.contains("bone"), "it is that of the network: {card}");
        let mut cargo = Command::new("cargo");
        // Not that of another test: to cargo, copies of the SDK are one.
        cargo.args(["test", "--quiet"]).current_dir(&source).env("CARGO_TARGET_DIR", target.join("new-network"));
        let output = cargo.output().expect("cargo runs");
        assert!(output.status.success(), "{name}: {}", String::from_utf8_lossy(&output.stderr));
        match build(&source, &mut |_| {}) {
            Err(BuildError::NoToolchain(why)) => return skipped(&why),
            built => drop(built.expect("built")),
        }
        passes_its_cases(&source);
    }
    let refused = |words: &[&str], code: i32, told: &str| {
        let mut command = gantry();
        let network = repository().join("modules/ct-organs/models/organs.onnx");
        command.args(["module", "new", "never", "--dir"]).arg(parent.path()).args(words);
        if !words.contains(&"--from-onnx") {
            command.arg("--from-onnx").arg(network);
        }
        let said = Said::from(command.output().expect("gantry runs"));
        assert!(said.code == Some(code) && said.err.contains(told), "{words:?}: {said:?}");
        assert!(!parent.path().join("never").exists(), "nothing is made");
    };
    refused(&["--label", "Liver"], 2, "--label: 1 were given, and the network has 3");
    refused(&["--modality", "ct"], 2, "--modality: a code");
    refused(&["--from-onnx", "/nonexistent.onnx"], 2, "/nonexistent.onnx");
    refused(&["--from-onnx", "README.md"], 4, "it is no ONNX model");
}

#[test]
fn a_module_that_does_not_compile_says_why() {
    let target = repository().join("target");
    std::fs::create_dir_all(&target).expect("a folder");
    let parent = tempfile::Builder::new().prefix("new-module-").tempdir_in(&target).expect("a folder");
    let source = new::new("first-try", parent.path(), Language::Rust, None).expect("made");
    std::fs::remove_file(source.join("MODEL_CARD.md")).expect("removed");
    let error = build(&source, &mut |_| {}).expect_err("no card").to_string();
    assert!(error.contains("has no MODEL_CARD.md"), "{error}");

    std::fs::write(source.join("MODEL_CARD.md"), "# Card").expect("written");
    let manifest = std::fs::read_to_string(source.join("module.toml")).expect("readable");
    let fewer = manifest.replace("    \"gantry:imaging/volumes\",\n", "");
    assert_ne!(fewer, manifest);
    std::fs::write(source.join("module.toml"), fewer).expect("written");
    match build(&source, &mut |_| {}) {
        Err(BuildError::NoToolchain(why)) => return skipped(&why),
        built => {
            let error = built.expect_err("the manifest asks for too little").to_string();
            assert!(error.contains("needs.interfaces does not list gantry:imaging/volumes"), "{error}");
        }
    }
    std::fs::write(source.join("module.toml"), manifest).expect("written");
    let code = std::fs::read_to_string(source.join("src/lib.rs")).expect("readable");
    std::fs::write(source.join("src/lib.rs"), code.replace("gantry_guest::export!(Module);", "")).expect("written");
    let error = build(&source, &mut |_| {}).expect_err("nothing can be called").to_string();
    assert!(error.contains("add gantry_guest::export!(YourType) to src/lib.rs"), "{error}");

    std::fs::write(source.join("src/lib.rs"), "pub fn broken( {}").expect("written");
    let error = build(&source, &mut |_| {}).expect_err("it does not compile").to_string();
    let lines: Vec<_> = error.lines().collect();
    assert!(lines[1].starts_with("error: ") && error.contains("src/lib.rs:1"), "what is wrong comes first: {error}");
    assert!(lines.last().is_some_and(|line| line.starts_with("the command was: cargo ")), "{error}");
    assert!(!source.join("package").exists(), "a failed build leaves no package");
}

#[test]
fn a_command_that_cannot_work_says_what_would() {
    let folder = tempfile::tempdir().expect("a folder");
    let says = |arguments: &[&str]| -> Said {
        gantry().arg("module").args(arguments).current_dir(folder.path()).output().expect("gantry runs").into()
    };
    let refused = |arguments: &[&str], code: i32, remedy: &str| {
        let said = says(arguments);
        assert_eq!(said.code, Some(code), "{arguments:?}: {said:?}");
        assert!(said.err.contains(remedy), "{arguments:?}: {said:?}");
    };
    refused(&["new", "Liver"], 2, "is no name for a module");
    refused(&["new", "liver", "--sdk", "nowhere"], 2, "give guest-sdk of a checkout");
    assert_eq!(says(&["new", "liver"]).code, Some(0));
    refused(&["new", "liver"], 2, "is there already");
    refused(&["build", "nowhere"], 2, "holds no module.toml: give the source folder, as `gantry module new` makes it");
    refused(&["inspect", "nowhere"], 2, "give a package folder, as `gantry module build` makes it");
    refused(&["inspect", "liver"], 2, "run `gantry module build");

    let scenario = Scenario::new(b"no component", MANIFEST).expect("a scenario");
    let package = scenario.package_folder().to_str().expect("text");
    refused(&["build", package], 2, "this is a package; build its parent");
    refused(&["inspect", package], 4, "is not a WebAssembly component");

    let help = says(&["--help"]);
    assert!(help.out.contains("gantry module build liver") && !help.out.contains("build-examples"), "{help:?}");
}
