//! `gantry module pack`: one file of a package, which is run, tested, signed and installed like a folder, and believed no more than one.

use std::collections::BTreeSet;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use gantry_tests::command::{Said, gantry};
use gantry_tests::peers::Peers;
use gantry_tests::{MANIFEST, Scenario, asset, needed, repository};
use rcgen::{KeyPair, PKCS_ED25519};
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::cases::{says, text};

/// A copy of our own module's package that may be changed.
fn organs(folder: &Path) -> Option<PathBuf> {
    let from = needed("modules/ct-organs/package", "cargo xtask guests")?;
    let to = folder.join("package");
    for file in gantry::module::installed::files(&from).expect("a folder") {
        std::fs::create_dir_all(to.join(&file).parent().expect("a folder")).expect("made");
        std::fs::copy(from.join(&file), to.join(&file)).expect("copied");
    }
    Some(to)
}

fn packed(package: &Path, to: &Path) -> Value {
    let said = says(&["pack", text(package), "--out", text(to), "--json"]);
    assert_eq!(said.code, Some(0), "{said:?}");
    serde_json::from_str(&said.out).expect("JSON")
}

fn keys(folder: &Path) -> (PathBuf, PathBuf) {
    let key = KeyPair::generate_for(&PKCS_ED25519).expect("a key");
    let (private, public) = (folder.join("vendor.pem"), folder.join("vendor.pub.pem"));
    std::fs::write(&private, key.serialize_pem()).expect("written");
    std::fs::write(&public, key.public_key_pem()).expect("written");
    (private, public)
}

#[test]
fn a_pack_is_the_same_file_on_every_machine_and_runs_like_its_folder() {
    let Some(study) = asset("totalsegmentator/example_ct_dicom") else { return };
    let folder = tempfile::tempdir().expect("a folder");
    let Some(package) = organs(folder.path()) else { return };
    let first = folder.path().join("first.gantry");
    let told = packed(&package, &first);
    let bytes = std::fs::read(&first).expect("written");
    assert_eq!(told["sha256"], gantry::hex(&Sha256::digest(&bytes)));

    // Another order of the folder, other rights, times, umask and working directory.
    let mut files = gantry::module::installed::files(&package).expect("a folder");
    files.reverse();
    let other = folder.path().join("other/package");
    for file in &files {
        std::fs::create_dir_all(other.join(file).parent().expect("a folder")).expect("made");
        std::fs::write(other.join(file), std::fs::read(package.join(file)).expect("read")).expect("written");
        std::fs::set_permissions(other.join(file), PermissionsExt::from_mode(0o600)).expect("set");
    }
    let program = gantry().get_program().to_owned();
    let again = folder.path().join("again.gantry");
    let script = "umask 077 && cd \"$1\" && TZ=Pacific/Auckland \"$2\" module pack package --out \"$3\"";
    let mut shell = Command::new("sh");
    shell.args(["-c", script, "sh"]).arg(folder.path().join("other")).arg(program).arg(&again);
    let said = Said::from(shell.output().expect("sh runs"));
    assert_eq!(said.code, Some(0), "{said:?}");
    assert!(std::fs::read(&again).expect("written") == bytes, "not the same file");

    let result = |module: &Path, out: &str| -> Value {
        let out = folder.path().join(out);
        let mut command = gantry();
        command.arg("run").arg("--module").arg(module).arg(&study).arg("--out").arg(&out).arg("--json");
        let said = Said::from(command.output().expect("gantry runs"));
        assert_eq!(said.code, Some(0), "{said:?}");
        serde_json::from_str(&said.out).expect("JSON")
    };
    let (of_folder, of_pack) = (result(&package, "out-folder"), result(&first, "out-pack"));
    assert_eq!(of_folder["module"], of_pack["module"], "one identity");
    let digests = |result: &Value| -> BTreeSet<String> {
        let outputs = result["outputs"].as_array().expect("a list").iter();
        outputs.map(|output| output["sop_instance_uid"].to_string()).collect()
    };
    assert_eq!(digests(&of_folder), digests(&of_pack), "the same objects");

    // Others read it.
    let out = folder.path().join("by-tar");
    std::fs::create_dir(&out).expect("made");
    let run = |program: &str, words: &[&str]| {
        let said = Said::from(Command::new(program).args(words).current_dir(&out).output().expect("it runs"));
        assert_eq!(said.code, Some(0), "{program}: {said:?}");
    };
    run("tar", &["xf", text(&first)]);
    run("sha256sum", &["--strict", "--quiet", "-c", "SHA256SUMS"]);
    assert_eq!(packed(&out, &again)["sha256"], told["sha256"], "what tar made of it is the same package");
    let unpacked = folder.path().join("unpacked");
    assert_eq!(says(&["unpack", text(&first), "--to", text(&unpacked)]).code, Some(0));
    assert_eq!(
        gantry::module::installed::files(&unpacked).expect("a folder"),
        gantry::module::installed::files(&package).expect("a folder")
    );
}

#[test]
fn a_pack_is_tested_inspected_and_compared() {
    let folder = tempfile::tempdir().expect("a folder");
    let Some(package) = organs(folder.path()) else { return };
    let pack = folder.path().join("organs.gantry");
    packed(&package, &pack);
    let said = says(&["test", text(&pack), "--case", "phantom"]);
    assert_eq!(said.code, Some(0), "{said:?}");
    let card = says(&["inspect", text(&pack), "--card"]);
    assert!(card.code == Some(0) && card.out.contains("not for\nclinical use"), "{card:?}");
    let shown = says(&["inspect", text(&pack)]);
    assert!(shown.out.contains("cases       abdomen, phantom") && shown.out.contains(" in sbom.cdx.json"), "{shown:?}");
    let same = says(&["diff", text(&package), text(&pack)]);
    assert!(same.code == Some(0) && same.out.contains("  the same\n"), "{same:?}");

    let manifest = std::fs::read_to_string(package.join("module.toml")).expect("read");
    let changed = manifest
        .replace("version = \"0.1.0\"", "version = \"0.2.0\"")
        .replace("guest_memory_mib = 64", "guest_memory_mib = 128")
        .replace("\"wasi:nn\"]", "\"wasi:nn\", \"wasi:clocks\"]\nattributes = [\"PatientSex\"]")
        .replace("attributes = []\n", "");
    std::fs::write(package.join("module.toml"), &changed).expect("written");
    std::fs::write(package.join("MODEL_CARD.md"), "# Another card\n").expect("written");
    let differ = says(&["diff", text(&pack), text(&package)]);
    assert_eq!(differ.code, Some(0), "{differ:?}");
    let lines: Vec<&str> = differ.out.lines().collect();
    assert!(
        lines[2].contains("asks for attribute:PatientSex, which the old one does not"),
        "grants come first: {differ:?}"
    );
    assert!(lines[3].contains("asks for wasi:clocks, which the old one does not"), "{differ:?}");
    assert!(differ.out.contains("  limits.guest_memory_mib: 64 → 128\n"), "{differ:?}");
    assert!(differ.out.contains("  MODEL_CARD.md: "), "{differ:?}");
    let json = says(&["diff", text(&pack), text(&package), "--json"]);
    let told: Value = serde_json::from_str(&json.out).expect("JSON");
    assert_eq!(told["asks_for_more"], serde_json::json!(["attribute:PatientSex", "wasi:clocks"]));
    assert_eq!((&told["old"]["version"], &told["new"]["version"]), (&"0.1.0".into(), &"0.2.0".into()));
}

#[test]
fn whoever_looks_at_a_package_says_with_which_limits() {
    // Too large for a site that takes components of 1 MiB, and no component for one that reads it.
    let folder = tempfile::tempdir().expect("a folder");
    let scenario = Scenario::new(&vec![0; 3 << 19], MANIFEST).expect("a scenario");
    let (package, config) = (scenario.package_folder(), folder.path().join("gantry.toml"));
    std::fs::write(&config, "[limits]\ncomponent_max_mib = 1\n").expect("written");
    let component = package.join("component.wasm");
    let package = text(package);
    let out = folder.path().join("x.gantry");
    for words in [
        &["inspect", package][..],
        &["diff", package, package],
        &["pack", package, "--out", text(&out)],
        &["explain", text(&component)],
    ] {
        let without = says(words);
        assert!(without.code == Some(4) && !without.err.contains("component_max_mib"), "{words:?}: {without:?}");
        let with = says(&[words, &["--config", text(&config)]].concat());
        assert!(with.err.contains("component_max_mib = 1") && !out.exists(), "{words:?}: {with:?}");
        let none = says(&[words, &["--config", "/nonexistent"]].concat());
        assert!(none.code == Some(2) && none.err.contains("/nonexistent"), "{words:?}: {none:?}");
    }
}

#[test]
fn the_sbom_is_cyclonedx_and_names_every_crate_of_the_lock_file() {
    let Some(package) = needed("modules/ct-organs/package", "cargo xtask guests") else { return };
    let said = says(&["inspect", text(&package), "--sbom"]);
    let told: Value = serde_json::from_str(&said.out).expect("JSON");
    let lock = std::fs::read_to_string(repository().join("modules/ct-organs/Cargo.lock")).expect("read");
    let names = |of: &str| lock.matches(of).count();
    let components = told["components"].as_array().expect("a list");
    let libraries: Vec<_> = components.iter().filter(|c| c["type"] == "library").collect();
    assert_eq!(libraries.len(), names("[[package]]") - 1, "all but the module itself");
    let licensed = libraries.iter().filter(|c| c["licenses"].is_array()).count();
    assert_eq!(licensed, libraries.len(), "Cargo told the licence of each");
    let model = std::fs::read(package.join("models/organs.onnx")).expect("read");
    let of_model = components.iter().find(|c| c["type"] == "machine-learning-model").expect("one");
    assert_eq!(of_model["hashes"][0]["content"], gantry::hex(&Sha256::digest(model)));
    assert_eq!(of_model["licenses"][0]["expression"], "Apache-2.0");
    let Some(peers) = Peers::with("cyclonedx, jsonschema, license_expression, packageurl") else { return };
    let triage = repository().join("modules/head-ct-triage/package/sbom.cdx.json");
    peers.agree("judge_sbom.py", &[text(&package.join("sbom.cdx.json")), text(&triage)]);
}

#[test]
fn a_signed_pack_is_installed_like_a_signed_folder() {
    let folder = tempfile::tempdir().expect("a folder");
    let Some(package) = organs(folder.path()) else { return };
    let (private, public) = keys(folder.path());
    let pack = folder.path().join("organs.gantry");
    packed(&package, &pack);
    let into = folder.path().join("modules");
    let install = |from: &Path, more: &[&str]| {
        let words = ["install", text(from), "--into", text(&into), "--trust", text(&public), "--json"];
        says(&[&words[..], more].concat())
    };
    let unsigned = install(&pack, &[]);
    assert!(unsigned.code == Some(4) && unsigned.err.contains("it was not signed"), "{unsigned:?}");
    let signed = says(&["sign", text(&pack), "--key", text(&private)]);
    assert!(signed.code == Some(0) && signed.out.contains(", signed by key "), "{signed:?}");
    let again = says(&["sign", text(&pack), "--key", text(&private)]);
    assert!(again.out.contains(", was signed by key "), "{again:?}");

    let other = install(&pack, &["--digest", &format!("sha256:{}", "0".repeat(64))]);
    assert!(other.code == Some(4) && other.err.contains("not the one of --digest"), "{other:?}");
    assert!(
        !into.exists() || std::fs::read_dir(&into).expect("a folder").all(|e| e.expect("one").file_name() == ".pull")
    );
    let done = install(&pack, &[]);
    assert_eq!(done.code, Some(0), "{done:?}");
    let told: Value = serde_json::from_str(&done.out).expect("JSON");
    let place = PathBuf::from(told["folder"].as_str().expect("a path"));
    assert_eq!(told["installed"], true);
    let list = |folder: &Path| gantry::module::installed::files(folder).expect("a folder");
    let mut expected = list(&package);
    expected.push("module.dsse.json".into());
    expected.sort();
    let mut found = list(&place);
    found.sort();
    assert_eq!(found, expected);
    let there: Value = serde_json::from_str(&install(&pack, &[]).out).expect("JSON");
    assert_eq!(there["installed"], false, "it is there");

    // A folder that was signed is packed with its signature, and nothing is added.
    assert_eq!(says(&["sign", text(&package), "--key", text(&private)]).code, Some(0));
    let of_folder = folder.path().join("folder.gantry");
    assert_eq!(packed(&package, &of_folder)["signed"], true);
    assert_eq!(install(&of_folder, &[]).code, Some(0));
    assert_eq!(install(&package, &[]).code, Some(0), "a folder, too");

    // What was changed after it was signed is none of the vendor's.
    std::fs::write(package.join("MODEL_CARD.md"), "# Another card\n").expect("written");
    packed(&package, &of_folder);
    let elsewhere = folder.path().join("elsewhere");
    let words = ["install", text(&of_folder), "--into", text(&elsewhere), "--trust", text(&public)];
    let changed = says(&words);
    assert!(
        changed.code == Some(4) && changed.err.contains("MODEL_CARD.md is not the file that was signed"),
        "{changed:?}"
    );
    let (_, stranger) = keys(&elsewhere);
    let words = ["install", text(&pack), "--into", text(&elsewhere), "--trust", text(&stranger)];
    let untrusted = says(&words);
    assert!(untrusted.code == Some(4) && untrusted.err.contains("signed by none of the keys"), "{untrusted:?}");
}

#[test]
fn a_pack_that_was_tampered_with_is_refused_before_anything_runs() {
    let Some(scenario) = Scenario::rogue("well-behaved") else { return };
    let folder = tempfile::tempdir().expect("a folder");
    let (package, pack) = (scenario.package_folder(), folder.path().join("x.gantry"));
    packed(package, &pack);
    let sound = std::fs::read(&pack).expect("read");
    let at = |needle: &[u8]| sound.windows(needle.len()).position(|bytes| bytes == needle).expect("there");
    let study = text(scenario.study());
    let refused = |bytes: &[u8], told: &str| {
        let (file, out) = (folder.path().join("changed.gantry"), folder.path().join("out"));
        std::fs::write(&file, bytes).expect("written");
        let to = folder.path().join("to");
        let runs: Said = gantry()
            .args(["run", "--module", text(&file), study, "--out", text(&out)])
            .output()
            .expect("gantry runs")
            .into();
        let unpacks = says(&["unpack", text(&file), "--to", text(&to)]);
        assert!(unpacks.code == Some(4) && unpacks.err.contains(told), "{told}: {unpacks:?}");
        assert!(runs.code == Some(4), "{told}: {runs:?}");
        assert!(!to.exists() && !out.exists(), "{told}: something was written");
    };
    let with = |at: usize, byte: u8| {
        let mut bytes = sound.clone();
        bytes[at] = byte;
        bytes
    };
    refused(b"PK\x03\x04", "it ends too early");
    refused(&[0; 4096], "it does not begin as one");
    refused(&sound[..sound.len() - 512], "it does not end with its last file");
    refused(&[&sound[..], b"more"].concat(), "it does not end with its last file");
    // The component's last byte, before the zeros.
    let component = std::fs::read(package.join("component.wasm")).expect("read");
    let inside = at(&component);
    refused(
        &with(inside + component.len() - 1, !component[component.len() - 1]),
        "the package was changed after it was built",
    );
    // A name, and what kind of thing it is: a link.
    let header = inside - 512;
    refused(&with(header, b'C'), "it was changed");
    refused(&with(header + 156, b'2'), "it was changed");

    // What is no file of a package does not get into one.
    symlink("/etc/passwd", package.join("passwd")).expect("linked");
    let said = says(&["pack", text(package), "--out", text(&pack)]);
    assert!(said.code == Some(1) && said.err.contains("is a link or a device"), "{said:?}");
    std::fs::remove_file(package.join("passwd")).expect("removed");
    std::fs::write(package.join(".hidden"), "x").expect("written");
    let said = says(&["pack", text(package), "--out", text(&pack)]);
    assert!(said.code == Some(4) && said.err.contains("none of its parts begins with `.`"), "{said:?}");
    let said = says(&["pack", text(&pack)]);
    assert!(said.code == Some(2) && said.err.contains("this is a file"), "{said:?}");
    std::fs::remove_file(package.join(".hidden")).expect("removed");
    let said = says(&["pack", text(package), "--out", text(&package.join("x.gantry"))]);
    assert!(said.code == Some(2) && said.err.contains("would lie in the package"), "{said:?}");
    assert!(!package.join("x.gantry").exists());
    let said = says(&["unpack", text(&pack), "--to", text(folder.path())]);
    assert!(said.code == Some(1) && said.err.contains("is there already"), "{said:?}");
}
