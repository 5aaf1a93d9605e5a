//! `gantry module check`: whose fault it is that a package is not taken.

use gantry_tests::command::{Said, gantry};
use gantry_tests::onnx::endless;
use gantry_tests::{MANIFEST, Scenario};
use sha2::{Digest, Sha256};

/// A package with this model.
fn package(bytes: &[u8]) -> Scenario {
    let digest = gantry::hex(&Sha256::digest(bytes));
    let entry = format!("[[models]]\nname = \"net\"\nfile = \"net.onnx\"\ntarget = \"cpu\"\nsha256 = \"{digest}\"\n");
    let scenario = Scenario::new(b"looked at by others", &format!("{MANIFEST}{entry}")).expect("a scenario");
    scenario.write_package("net.onnx", bytes).expect("written");
    scenario
}

/// Its code and words, with this configuration, and this file as the library of ONNX Runtime; or none.
fn check(scenario: &Scenario, config: &str, library: Option<&str>) -> Said {
    let folder = tempfile::tempdir().expect("a folder");
    let (file, library_file) = (folder.path().join("gantry.toml"), folder.path().join("library.so"));
    std::fs::write(&file, config).expect("written");
    let mut command = gantry();
    command.args(["module", "check"]).arg(scenario.package_folder()).arg("--config").arg(&file);
    command.env("GANTRY_ASSETS", folder.path()).env_remove("GANTRY_ONNXRUNTIME");
    if let Some(content) = library {
        if !content.is_empty() {
            std::fs::write(&library_file, content).expect("written");
        }
        command.env("GANTRY_ONNXRUNTIME", &library_file);
    }
    command.output().expect("gantry runs").into()
}

#[test]
fn what_this_machine_lacks_is_told_from_what_is_wrong_with_a_package() {
    let sound = package(&endless());
    let remedy = "set onnxruntime_library or GANTRY_ONNXRUNTIME";
    for (config, library, says) in [
        ("", None, "which may take it, was not found: set"),
        ("[engines]\nengine = \"onnx-runtime\"\n", None, "its library was not found; set"),
        ("", Some(""), "there is no library at "),
        ("", Some("no library"), "ONNX Runtime cannot be used: "),
    ] {
        let said = check(&sound, config, library);
        assert!(said.code == Some(2) && said.err.contains(says) && said.err.contains(remedy), "{config:?}: {said:?}");
    }
    // Who chose tract wants to know what it takes; and what is wrong is so without any engine.
    let said = check(&sound, "[engines]\nengine = \"tract\"\n", None);
    assert!(said.code == Some(4) && said.err.contains("it has no operator"), "{said:?}");
    let said = check(&package(b"no model"), "", None);
    assert!(said.code == Some(4) && said.err.contains("it is no ONNX model"), "{said:?}");
}
