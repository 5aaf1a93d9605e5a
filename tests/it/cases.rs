//! `gantry module test`, `check` and `bench`: what a vendor learns of a module before anybody has it.

use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use gantry_tests::command::{Said, gantry};
use gantry_tests::{MANIFEST, Scenario, asset, needed, repository};
use serde_json::Value;

/// `gantry module WORDS`.
pub(crate) fn says(words: &[&str]) -> Said {
    gantry().arg("module").args(words).output().expect("gantry runs").into()
}

pub(crate) fn text(path: &Path) -> &str {
    path.to_str().expect("UTF-8")
}

fn json(said: &Said) -> Value {
    serde_json::from_str(&said.out).unwrap_or_else(|e| panic!("{e}: {said:?}"))
}

/// A package around a guest, with cases.
fn with_cases(guest: &str, manifest: &str, cases: &[(&str, &str)]) -> Option<Scenario> {
    let scenario = Scenario::rogue_with(guest, manifest)?;
    for (name, text) in cases {
        std::fs::create_dir_all(scenario.package_folder().join("cases").join(name)).expect("made");
        scenario.write_package(&format!("cases/{name}/expect.toml"), text.as_bytes()).expect("written");
    }
    Some(scenario)
}

/// A ball of bone of 30 mm in air: 113.1 mL.
const BALL: &str = r#"
[study.phantom]
modality = "CT"
size = [40, 40, 24]
spacing_mm = [2.0, 2.0, 3.0]
background = -1000
shapes = [{ name = "ball", kind = "ellipsoid", centre_mm = [4, -3, 2], radii_mm = [30, 30, 30], value = 700 }]
"#;

#[test]
fn our_own_modules_pass_their_cases() {
    let Some(_) = needed("modules/ct-organs/package", "cargo xtask guests") else { return };
    let Some(_) = asset("totalsegmentator/example_ct_dicom") else { return };
    let Some(_) = asset("pydicom-data/RG1_UNCR.dcm") else { return };
    for (module, cases) in
        [("ct-organs", 2), ("head-ct-triage", 3), ("cxr-quality", 2), ("mammo-density", 1), ("mr-brain-tissue", 1)]
    {
        let said = says(&["test", &format!("modules/{module}"), "--json"]);
        assert_eq!(said.code, Some(0), "{said:?}");
        let told = json(&said);
        let all = told["cases"].as_array().expect("a list");
        assert_eq!(all.len(), cases, "{told}");
        for case in all {
            assert_eq!(case["outcome"], "passed", "{case}");
            assert!(case["used"]["inference_ms"].is_number() && case["differences"] == serde_json::json!([]), "{case}");
        }
        let shipped = repository().join("modules").join(module).join("package/cases");
        assert_eq!(std::fs::read_dir(shipped).expect("they are in the package").count(), cases);
    }
}

#[test]
fn what_is_not_as_it_should_be_is_told() {
    let wrong = "
        [expect]
        raised = true
        classifications = [{ finding = \"NODULE\", probability = [0.5, 1.0] }]
        segments = [
            { name = \"Bone\", millilitres = [1.0, 2.0], shape = \"ball\", dice_min = 1.0 },
            { name = \"Liver\" },
        ]
        marks = [1, 2]
        outputs = [\"heat.dcm\"]
    ";
    let right = "
        [expect]
        segments = [{ name = \"Bone\", millilitres = [111.0, 115.0], shape = \"ball\", dice_min = 0.999 }]
        measurements = [{ quantity = \"Volume\", segment = \"Bone\", value = [111.0, 115.0], unit = \"mL\" }]
    ";
    let elsewhere = BALL.replace("centre_mm = [4,", "centre_mm = [-9,");
    let cases = [
        ("a-right", format!("{BALL}{right}")),
        ("b-wrong", format!("{BALL}{wrong}")),
        ("c-fails", format!("{BALL}[expect]\nstatus = \"failure\"\n")),
        ("d-missing", "study = { asset = \"nowhere\" }".to_owned()),
        ("e-elsewhere", format!("{elsewhere}{right}")),
    ];
    let cases: Vec<_> = cases.iter().map(|(name, text)| (*name, text.as_str())).collect();
    let Some(scenario) = with_cases("well-behaved", MANIFEST, &cases) else { return };
    let package = text(scenario.package_folder());
    let said = says(&["test", package, "--skip-missing"]);
    assert_eq!(said.code, Some(4), "{said:?}");
    for line in [
        "passed ",
        "a-right\n",
        "    triage: expected raised, found no triage",
        "    classification NODULE: expected 0.5 to 1, found none",
        "    segment Bone, mL: expected 1 to 2, found 11",
        "    segment Liver: expected there, found only Bone",
        "    boxes: expected 1 to 2, found 0",
        "    outputs: expected heat.dcm, found only segmentation.dcm",
        "    status: expected failure, found done",
        "    the study of case d-missing is not there",
        "2 passed, 2 failed, 1 skipped",
    ] {
        assert!(said.out.contains(line), "{line}: {}", said.out);
    }
    assert!(said.err.contains("2 of 5 cases failed"), "{said:?}");
    let one = says(&["test", package, "--case", "a-right", "--json"]);
    assert_eq!((one.code, json(&one)["cases"].as_array().map(Vec::len)), (Some(0), Some(1)), "{one:?}");
    let missing = says(&["test", package, "--case", "d-missing"]);
    assert!(missing.code == Some(4) && missing.out.contains("is not there"), "{missing:?}");
    let nothing = says(&["test", package, "--case", "d-missing", "--skip-missing"]);
    assert!(nothing.code == Some(3) && nothing.err.contains("no case ran"), "{nothing:?}");
}

#[test]
fn a_case_may_expect_that_a_module_calls_a_study_unfit_or_fails() {
    let manifest = format!("{MANIFEST}[limits]\njob_deadline_ms = 300\n");
    for (guest, expect) in [
        ("unfit", "[expect]\nstatus = \"unfit\"\n"),
        ("trap", "[expect]\nstatus = \"failure\"\nfailure = \"the module trapped\"\n"),
        ("loop", "[expect]\nstatus = \"failure\"\nfailure = \"job_deadline_ms = 300\"\n"),
    ] {
        let Some(scenario) = with_cases(guest, &manifest, &[("one", &format!("{BALL}{expect}"))]) else { return };
        let said = says(&["test", text(scenario.package_folder())]);
        assert_eq!(said.code, Some(0), "{guest}: {said:?}");
        let not = format!("{BALL}[expect]\nstatus = \"done\"\n");
        scenario.write_package("cases/one/expect.toml", not.as_bytes()).expect("written");
        let said = says(&["test", text(scenario.package_folder())]);
        assert!(said.code == Some(4) && said.out.contains("status: expected done, found "), "{guest}: {said:?}");
    }
}

#[test]
fn a_package_or_a_source_grants_itself_nothing() {
    let manifest = MANIFEST.replace("\"wasi:nn\"", "\"wasi:clocks\"");
    let case = format!("[study]\ngrant = [\"wasi:clocks\"]\n{BALL}");
    let Some(scenario) = with_cases("by-the-clock", &manifest, &[("one", case.as_str())]) else { return };
    let package = text(scenario.package_folder());
    // A source is a folder with a package in it, and may be a stranger's as well.
    let source = tempfile::tempdir().expect("a folder");
    let inside = source.path().join("package");
    std::fs::create_dir(&inside).expect("made");
    for file in ["module.toml", "component.wasm"] {
        std::fs::copy(scenario.package_folder().join(file), inside.join(file)).expect("copied");
    }
    let unbuilt = manifest.replace("sha256 = \"COMPONENT\"\n", "");
    std::fs::write(source.path().join("module.toml"), unbuilt).expect("written");
    std::fs::write(source.path().join("Cargo.toml"), "").expect("written");
    std::fs::create_dir_all(source.path().join("cases/one")).expect("made");
    std::fs::write(source.path().join("cases/one/expect.toml"), &case).expect("written");
    for module in [package, text(source.path()), text(&inside)] {
        for command in ["test", "check"] {
            let said = says(&[command, module]);
            assert!(said.code == Some(4) && said.out.contains("say --grant wasi:clocks"), "{command}: {said:?}");
            let said = says(&[command, module, "--grant", "wasi:clocks"]);
            assert_eq!(said.code, Some(0), "{command}: {said:?}");
        }
    }
}

#[test]
fn what_cannot_be_tested_says_what_to_do() {
    let folder = tempfile::tempdir().expect("a folder");
    let nowhere = text(folder.path());
    let Some(none) = Scenario::rogue("well-behaved") else { return };
    let Some(broken) = with_cases("well-behaved", MANIFEST, &[("one", "[expect]\ncolour = 1\n")]) else { return };
    let (none, broken) = (text(none.package_folder()), text(broken.package_folder()));
    for (words, code, told) in [
        (&["test", nowhere][..], 2, "holds no module.toml: give a package folder"),
        (&["test", none], 2, "has no cases: write cases/NAME/expect.toml"),
        (&["test", broken], 2, "expect.toml: line 2: unknown field `colour`"),
        (&["test", broken, "--case", "two"], 2, "unknown field"),
        (&["test", none, "--grant", "wasi:telepathy"], 2, "there is no interface `wasi:telepathy`"),
        (&["test", none, "--engine", "abacus"], 2, "abacus"),
        (&["check", none, "--study", "/nonexistent"], 4, "a run failed"),
        (&["diff", none, nowhere], 2, "holds no module.toml"),
        (&["pack", nowhere], 2, "holds no module.toml"),
        (&["unpack", "/nonexistent", "--to", nowhere], 2, "there is no such file"),
        (&["install", none, "--into", nowhere], 2, "--trust"),
        (&["inspect", none, "--card"], 4, "MODEL_CARD.md"),
        (&["bench", none, "/nonexistent"], 3, "/nonexistent"),
        (&["bench", none, nowhere, "--runs", "0"], 2, "--runs"),
        (&["bench", none, nowhere, "--at-once", "64"], 2, "limits.jobs_max = 4 allows no more"),
    ] {
        let said = says(words);
        assert!(said.code == Some(code) && said.err.contains(told), "{words:?}: {said:?}");
    }
}

#[test]
fn every_command_shows_how_it_is_called() {
    for command in [
        "new", "build", "check", "test", "bench", "sign", "pack", "unpack", "push", "pull", "install", "inspect",
        "diff",
    ] {
        let said = says(&[command, "--help"]);
        assert!(said.code == Some(0) && said.out.contains(&format!("\n  gantry module {command} ")), "{said:?}");
    }
}

#[test]
fn a_hospitals_questions_are_asked_first() {
    let Some(_) = needed("modules/head-ct-triage/package", "cargo xtask guests") else { return };
    let said = says(&["check", "modules/head-ct-triage", "--json"]);
    assert_eq!(said.code, Some(0), "{said:?}");
    let told = json(&said);
    let codes = |told: &Value| -> Vec<String> {
        let warnings = told["warnings"].as_array().expect("a list").iter();
        warnings.map(|warning| warning["code"].as_str().expect("text").to_owned()).collect()
    };
    assert_eq!(codes(&told), ["demonstration"], "{told}");
    let samples = told["samples"].as_array().expect("a list");
    assert_eq!(samples.len(), 3, "its cases: {told}");
    assert!(samples.iter().all(|sample| sample["deterministic"] == true), "{told}");
    let bleeding = &samples[0];
    let calls = &bleeding["used"]["calls"];
    assert!(calls["gantry:imaging/volumes"].as_u64() > Some(5) && calls["wasi:nn"].as_u64() > Some(1), "{bleeding}");
    assert!(bleeding["used"]["model_calls"]["triage"].as_u64() > Some(0), "{bleeding}");
    for part in ["decode_ms", "inference_ms", "operations_ms"] {
        assert!(bleeding["used"][part].as_f64() > Some(0.0), "{part}: {bleeding}");
    }
    assert!(bleeding["used"]["guest_memory_peak_bytes"].as_u64() > Some(1 << 16), "{bleeding}");

    // One that asks for much, says little, and gives something else each time.
    let manifest = MANIFEST.replace("\"wasi:nn\"", "\"wasi:clocks\", \"wasi:random\"");
    let manifest = manifest.replace("[component]", "attributes = [\"KVP\", \"PatientSex\"]\n[component]");
    let Some(scenario) = Scenario::rogue_with("by-the-clock", &manifest) else { return };
    let package = text(scenario.package_folder());
    let said = says(&["check", package, "--grant", "wasi:clocks", "--json"]);
    assert_eq!(said.code, Some(0), "{said:?}");
    let told = json(&said);
    let codes = codes(&told);
    for code in [
        "intended-use",
        "model-card",
        "license",
        "no-sbom",
        "no-cases",
        "asks-in-vain",
        "unusual-grant",
        "not-deterministic",
        "attribute-unread",
        "demonstration",
    ] {
        assert!(codes.iter().any(|told| told == code), "{code}: {told}");
    }
    assert_eq!(told["denied"], serde_json::json!(["wasi:random", "attribute:PatientSex"]));
    assert!(told["samples"][0]["study"].as_str().is_some_and(|study| study.starts_with("a phantom")), "{told}");
    let said = says(&["check", package]);
    assert!(
        said.code == Some(4) && said.out.contains("--grant wasi:clocks"),
        "what is not granted is not there: {said:?}"
    );
}

#[test]
fn a_benchmark_tells_where_the_time_goes() {
    let Some(study) = asset("totalsegmentator/example_ct_dicom") else { return };
    let Some(_) = needed("modules/ct-organs/package", "cargo xtask guests") else { return };
    let said = says(&["bench", "modules/ct-organs", text(&study), "--runs", "3", "--at-once", "2", "--json"]);
    assert_eq!(said.code, Some(0), "{said:?}");
    let told = json(&said);
    assert_eq!(told["images"], 20);
    assert!(told["engines"][0].as_str().is_some_and(|engine| engine.starts_with("organs: ")), "{told}");
    let cold = |phase: &str| {
        let all = told["cold"].as_array().expect("a list");
        all.iter().find(|p| p["phase"] == phase).and_then(|p| p["milliseconds"].as_f64()).expect("there")
    };
    let warm = told["warm"].as_array().expect("a list");
    let of = |phase: &str| warm.iter().find(|p| p["phase"] == phase).unwrap_or_else(|| panic!("{phase}: {told}"));
    let ms = |phase: &str, which: &str| of(phase)[which].as_f64().expect("a number");
    for phase in ["decode", "operations", "inference", "outputs", "whole"] {
        let sorted = ["p50_ms", "p90_ms", "p99_ms", "max_ms"].map(|which| ms(phase, which));
        assert!(sorted.is_sorted() && sorted[0] > 0.0, "{phase}: {told}");
    }
    assert!(cold("prepare") > 0.0 && ms("prepare", "max_ms") == 0.0, "it is compiled once: {told}");
    let parts = ["read", "decode", "load", "operations", "inference", "module", "outputs"].map(|p| ms(p, "p50_ms"));
    // Medians do not add up; nothing is left out or counted twice.
    assert!((0.5..1.5).contains(&(parts.iter().sum::<f64>() / ms("whole", "p50_ms"))), "{told}");
    assert_eq!((&told["throughput"]["studies"], &told["throughput"]["at_once"]), (&3.into(), &2.into()));
    assert!(told["throughput"]["studies_per_minute"].as_f64() > Some(0.0));
    let voxels = 20 * 512 * 512 * 4_u64;
    assert_eq!(told["voxel_bytes"], voxels);
    assert!(told["memory"]["host_peak_bytes"].as_u64() >= Some(voxels / 2), "{told}");
    assert!(told["memory"]["process_peak_bytes"].as_u64() > Some(1 << 20), "{told}");
}

#[test]
fn ctrl_c_ends_a_test_a_check_and_a_benchmark() {
    let Some(scenario) = with_cases("loop", MANIFEST, &[("one", BALL)]) else { return };
    let (package, study) = (scenario.package_folder(), scenario.study());
    let commands: [Vec<PathBuf>; 3] = [
        vec!["test".into(), package.into()],
        vec!["check".into(), package.into()],
        vec!["bench".into(), package.into(), study.into()],
    ];
    for words in commands {
        let mut command = gantry();
        command.arg("module").args(&words).env("RUST_LOG", "gantry=info");
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut process = command.spawn().expect("gantry starts");
        let mut log = BufReader::new(process.stderr.take().expect("a pipe"));
        let mut line = String::new();
        while !line.contains("analysing") {
            line.clear();
            assert_ne!(log.read_line(&mut line).expect("readable"), 0, "{words:?} ended before the module ran");
        }
        let kill = format!("kill -INT {}", process.id());
        assert!(Command::new("sh").args(["-c", &kill]).status().expect("sh runs").success());
        let mut rest = String::new();
        log.read_to_string(&mut rest).expect("readable");
        assert_eq!(process.wait().expect("it ends").code(), Some(130), "{words:?}: {rest}");
    }
}
