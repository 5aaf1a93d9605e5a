//! Modules in C, Python and JavaScript: what docs/languages.md shows works, and what an empty WASI has is nothing.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use gantry::findings::LogLine;
use gantry::module::foreign::{Explained, Kind, explain_file};
use gantry::pipeline::RunError;
use gantry_tests::command::{Said, gantry};
use gantry_tests::{MANIFEST, Scenario, needed, needed_peer, repository, skipped, write_ct};

/// Where programs are looked for: first what `cargo xtask assets --peers` installed to make guests with.
fn path_with_tools() -> OsString {
    let tools = repository().join(".cache/toolchains");
    let own = [tools.join("venv/bin"), tools.join("npm/node_modules/.bin")];
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::join_paths(own.into_iter().chain(std::env::split_paths(&path))).expect("a path")
}

fn has(tool: &str) -> bool {
    let there = std::env::split_paths(&path_with_tools()).any(|folder| folder.join(tool).is_file());
    if !there {
        skipped(&format!("{tool} is missing: run `cargo xtask assets --peers`"));
    }
    there
}

/// The lines of a shell block of the document that begins with this one.
fn walk_through(first: &str) -> Vec<String> {
    let text = std::fs::read_to_string(repository().join("docs/languages.md")).expect("a document");
    let mut blocks = text.split("```sh\n").skip(1).filter_map(|rest| rest.split("```").next());
    let block = blocks.find(|block| block.starts_with(first)).unwrap_or_else(|| panic!("no block begins `{first}`"));
    block.lines().map(str::to_owned).collect()
}

/// Runs what the document shows, in an empty folder, with the small CT as `STUDY`; what it installs is there already, and its
/// version is the one that is there. The module's package and the result.
fn walk(language: &str) -> (tempfile::TempDir, PathBuf) {
    let lines = walk_through(&format!("gantry module new bones --language {language}\n"));
    let folder = tempfile::tempdir().expect("a folder");
    let study = folder.path().join("STUDY");
    std::fs::create_dir(&study).expect("a folder");
    write_ct(&study).expect("written");
    let mut ran = 0;
    for line in lines {
        let words: Vec<_> = line.split_whitespace().take_while(|word| !word.starts_with('#')).collect();
        let ["gantry", arguments @ ..] = words.as_slice() else {
            let installs = ["apt-get install ", "cd bones && "].iter().any(|start| line.starts_with(start));
            assert!(installs, "this test does not know what `{line}` does");
            continue;
        };
        let mut command = gantry();
        command.args(arguments).current_dir(folder.path()).env("PATH", path_with_tools());
        let said: Said = command.output().expect("gantry runs").into();
        assert_eq!(said.code, Some(0), "`{line}`: {}{}", said.out, said.err);
        ran += 1;
    }
    assert!(ran >= 4, "it is made, built, looked at and run");
    let package = folder.path().join("bones/package");
    (folder, package)
}

fn is_bone_found(language: &str, tool: &str) {
    if !has(tool) {
        return;
    }
    let (folder, package) = walk(language);
    let result = std::fs::read_to_string(folder.path().join("OUT/result.json")).expect("a result");
    let result: serde_json::Value = serde_json::from_str(&result).expect("JSON");
    // What the template in Rust finds in it as well: 6 × 6 × 6 voxels of 1 × 1 × 2 mm.
    assert_eq!(result["findings"]["segments"][0]["voxels"], 216, "{result:#}");
    let volume = &result["findings"]["measurements"][0];
    assert!((volume["value"].as_f64().expect("a number") - 0.432).abs() < 1e-9, "{volume}");
    assert_eq!(volume["unit"], "mL");
    let tested = gantry().args(["module", "test"]).arg(folder.path().join("bones")).output().expect("gantry runs");
    let said = Said::from(tested);
    assert!(said.code == Some(0) && said.out.contains("1 passed, 0 failed"), "{said:?}");
    let component = std::fs::read(package.join("component.wasm")).expect("a component");
    // Tools have paths of the machines that they were made on in them: HOME may be one of those as well.
    for place in [folder.path().to_str().expect("text"), repository().to_str().expect("text")] {
        let told = component.windows(place.len()).any(|bytes| bytes == place.as_bytes());
        assert!(!told, "the component tells that it was built in {place}");
    }
}

#[test]
fn a_new_module_in_c_builds_and_runs() {
    is_bone_found("c", "wasm-ld");
}

#[test]
fn a_new_module_in_python_builds_and_runs() {
    is_bone_found("python", "componentize-py");
}

#[test]
fn a_new_module_in_javascript_builds_and_runs() {
    is_bone_found("javascript", "componentize-js");
}

#[test]
fn a_module_that_cannot_be_built_says_why() {
    let folder = tempfile::tempdir().expect("a folder");
    let says = |arguments: &[&str], path: OsString| -> Said {
        let mut command = gantry();
        command.arg("module").args(arguments).current_dir(folder.path());
        // A user who asks for backtraces is told what is wrong all the same.
        command.env("PATH", path).env("RUST_BACKTRACE", "1").env_remove("WASI_SDK_PATH");
        command.output().expect("gantry runs").into()
    };
    let write = |file: &str, text: &str| std::fs::write(folder.path().join(file), text).expect("written");
    for (language, file, remedy) in [
        ("c", "module.c", "apt-get install clang lld wasi-libc"),
        ("python", "module.py", ".venv/bin/pip install -r requirements.txt"),
        ("javascript", "module.js", "npm install"),
    ] {
        assert_eq!(says(&["new", language, "--language", language], path_with_tools()).code, Some(0));
        let said = says(&["build", language], "/nowhere".into());
        assert_eq!(said.code, Some(4), "{said:?}");
        assert!(said.err.contains(remedy), "{said:?}");
        write(&format!("{language}/{file}"), "this is ( no language");
    }
    let said = says(&["new", "sdk", "--language", "c", "--sdk", "nowhere"], path_with_tools());
    assert_eq!(said.code, Some(2), "{said:?}");
    for (language, tool, why) in [
        ("c", "wasm-ld", "module.c:1"),
        ("python", "componentize-py", "SyntaxError"),
        ("javascript", "componentize-js", "module.js"),
    ] {
        if has(tool) {
            let said = says(&["build", language], path_with_tools());
            assert_eq!(said.code, Some(4), "{said:?}");
            assert!(said.err.contains(why), "{said:?}");
            assert!(!folder.path().join(language).join("package").exists(), "a failed build leaves no package");
        }
    }
    std::fs::remove_file(folder.path().join("c/module.c")).expect("removed");
    let said = says(&["build", "c"], path_with_tools());
    assert_eq!(said.code, Some(2), "{said:?}");
    assert!(said.err.contains("module.c, module.py, module.js"), "{said:?}");
}

/// A guest of `tests/guests` that tries what it can, with what its manifest asks for.
fn probe(language: &str, interfaces: &[&str]) -> Option<Scenario> {
    let component = needed(&format!("tests/guests/probe-{language}/package/component.wasm"), "cargo xtask guests")?;
    let asked: String = interfaces.iter().map(|name| format!(", \"{name}\"")).collect();
    let manifest = MANIFEST.replace(", \"wasi:nn\"", &asked);
    Some(Scenario::new(&std::fs::read(component).expect("readable"), &manifest).expect("a scenario"))
}

/// The lines of its log, as `level: message`.
fn log(scenario: &Scenario) -> Vec<String> {
    let outcome = scenario.stated().expect("it runs to its end");
    outcome.log.iter().map(|LogLine { level, message }| format!("{level}: {message}")).collect()
}

/// What the probe was to be refused was, what it saw has these values, and it saw nothing else but what passes for random; another job
/// sees the same.
fn reaches_nothing(language: &str, refused: &[&str], seen: &[&str]) {
    let Some(scenario) = probe(language, &["wasi:empty"]) else { return };
    let lines = log(&scenario);
    for what in refused {
        let start = format!("info: {what}: refused");
        assert!(lines.iter().any(|line| line.starts_with(&start)), "{language}: {what} in {lines:#?}");
    }
    for line in seen {
        assert!(lines.iter().any(|said| said == line), "{language}: no `{line}` in {lines:#?}");
    }
    for text in ["printed", "complained"] {
        assert!(lines.iter().any(|line| line.ends_with(text)), "{language}: what is {text} is in the log: {lines:#?}");
    }
    let known = |line: &&String| {
        let is_refusal = line.contains(": refused");
        let is_random = line.contains("random") || line.contains("generator");
        is_refusal
            || is_random
            || seen.contains(&line.as_str())
            || line.ends_with("printed")
            || line.ends_with("complained")
    };
    let other: Vec<_> = lines.iter().filter(|line| !known(line)).collect();
    assert!(other.is_empty(), "{language}: {other:#?}");
    assert_eq!(log(&scenario), lines, "{language}: another job sees the same");
}

#[test]
fn c_reaches_nothing() {
    reaches_nothing(
        "c",
        &["read", "relative", "write", "list", "folder"],
        &[
            "info: variables = 0",
            "info: home = 0",
            "info: input = -1",
            "info: clock failed = 0",
            "info: seconds = 0",
            "info: passed = 0",
            "info: random failed = 0",
        ],
    );
}

#[test]
fn python_reaches_nothing() {
    reaches_nothing(
        "python",
        &["read", "relative", "write", "list", "list here", "stream", "datagram", "connect", "lookup"],
        &[
            "info: home = None",
            "info: variables = []",
            "info: arguments = []",
            "info: input = ''",
            "info: clock = 0.0",
            "info: sleep = None",
            "info: passed = 0",
        ],
    );
}

#[test]
fn javascript_reaches_nothing() {
    // Without the import a call of `fetch` has nowhere to go: it traps.
    let path = "tests/guests/probe-javascript/package/component.wasm";
    let Some(component) = needed(path, "cargo xtask guests") else { return };
    let explained = explain_file(&component, 64).expect("WebAssembly");
    let imports: Vec<_> = explained.wants.iter().flat_map(|want| &want.imports).collect();
    assert!(!imports.iter().any(|import| import.starts_with("wasi:http/")), "{imports:?}");
    let seen = ["info: clock = 0", "info: passed = 0", "info: fetch = function"];
    reaches_nothing("javascript", &["files", "variables"], &seen);
}

#[test]
fn what_is_asked_for_is_real_once_it_is_granted() {
    let Some(mut scenario) = probe("c", &["wasi:empty", "wasi:clocks", "wasi:random"]) else { return };
    let number = |lines: &[String], what: &str| -> i64 {
        let start = format!("info: {what} = ");
        lines.iter().find_map(|line| line.strip_prefix(&start)).expect("it says so").parse().expect("a number")
    };
    let denied = log(&scenario);
    assert_eq!((number(&denied, "seconds"), number(&denied, "passed")), (0, 0), "asked for, and not granted");
    scenario.grants = vec!["wasi:random".into()];
    let [one, two] = [log(&scenario), log(&scenario)];
    assert_ne!(number(&one, "random"), number(&two, "random"));
    assert_eq!(number(&one, "seconds"), 0);
}

#[test]
fn without_an_empty_world_each_part_is_refused_by_name() {
    for language in ["c", "python", "javascript"] {
        let Some(scenario) = probe(language, &[]) else { continue };
        let error = scenario.refused();
        assert!(matches!(error, RunError::Prepare(_)), "{language}: {error:?}");
        assert!(error.to_string().contains("--grant wasi:"), "{language}: {error}");
    }
}

fn explained(program: &str) -> Option<Explained> {
    let file = needed_peer(&format!("itk-wasm/{program}.wasi.wasm"))?;
    Some(explain_file(&file, 64).expect("WebAssembly"))
}

#[test]
fn other_peoples_programs_are_refused_with_what_they_want() {
    for program in ["structured-report-to-text", "read-image-dicom-file-series"] {
        let Some(explained) = explained(program) else { return };
        assert_eq!(explained.kind, Kind::Program);
        let wants: Vec<_> = explained.wants.iter().map(|want| want.what.as_str()).collect();
        for what in ["arguments", "files", "standard streams"] {
            assert!(wants.contains(&what), "{program}: {wants:?}");
        }
        let files = explained.wants.iter().find(|want| want.what == "files").expect("it wants files");
        assert!(files.imports.iter().any(|import| import == "wasi_snapshot_preview1.path_open"), "{files:?}");
        assert!(files.gets.starts_with("none"), "{files:?}");
        assert!(explained.refused.iter().any(|why| why.contains("it is a program")), "{:?}", explained.refused);
    }
}

#[test]
fn the_document_shows_what_is_said_of_one() {
    let Some(explained) = explained("structured-report-to-text") else { return };
    let document = std::fs::read_to_string(repository().join("docs/languages.md")).expect("a document");
    assert!(document.contains(&explained.to_string()), "docs/languages.md should show:\n{explained}");
}

#[test]
fn a_component_is_explained_by_what_it_imports() {
    let path = "tests/guests/probe-python/package/component.wasm";
    let Some(component) = needed(path, "cargo xtask guests") else { return };
    let explained = explain_file(&component, 64).expect("WebAssembly");
    assert_eq!(explained.kind, Kind::Component);
    assert!(explained.refused.is_empty(), "{:?}", explained.refused);
    let sockets = explained.wants.iter().find(|want| want.what == "wasi:empty").expect("CPython imports sockets");
    assert!(sockets.gets.contains("no socket"), "{sockets:?}");
    let error = explain_file(&repository().join("README.md"), 64).expect_err("a text").to_string();
    assert!(error.contains("is no WebAssembly"), "{error}");
    let error = explain_file(&component, 1).expect_err("18 MiB").to_string();
    assert!(error.contains("component_max_mib"), "{error}");
}

#[test]
fn what_docs_install_is_what_is_tested() {
    let read = |file: &Path| std::fs::read_to_string(repository().join(file)).expect("a file");
    let templates = Path::new("guest-sdk/template");
    let wanted = read(&templates.join("python/requirements.txt.in"));
    assert!(read(Path::new("tests/toolchains/requirements.txt")).ends_with(&wanted));
    let versions = |file: &Path, key: &str| -> serde_json::Value {
        let text = read(file).replace("{{name}}", "bones");
        let json: serde_json::Value = serde_json::from_str(&text).expect("JSON");
        assert!(json[key]["@bytecodealliance/componentize-js"].is_string(), "{json}");
        json[key].clone()
    };
    let told = versions(&templates.join("javascript/package.json.in"), "devDependencies");
    let tested = versions(Path::new("tests/toolchains/package.json"), "dependencies");
    // More is tested with than vendors are told of: parts in machine code, which npm finds by itself from Node.js 20 on.
    for (package, version) in told.as_object().expect("an object") {
        assert_eq!(tested[package], *version, "{package}");
    }
}
