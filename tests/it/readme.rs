//! What the README shows works, and what the documents refer to is there.

use std::path::Path;
use std::process::Command;

use gantry_tests::command::{Said, gantry};
use gantry_tests::{needed, repository};

/// Documents that people read first.
const DOCUMENTS: [&str; 3] = ["README.md", "ARCHITECTURE.md", "CHANGELOG.md"];

fn document(name: &str) -> String {
    std::fs::read_to_string(repository().join(name)).expect("a document")
}

/// The lines of the fenced shell blocks of a document, without comments.
fn shell_lines(text: &str) -> Vec<Vec<String>> {
    let mut lines = Vec::new();
    let mut inside = false;
    for line in text.lines() {
        if line.starts_with("```") {
            inside = line == "```sh";
        } else if inside {
            let words: Vec<String> =
                line.split_whitespace().take_while(|w| !w.starts_with('#')).map(str::to_owned).collect();
            if !words.is_empty() {
                lines.push(words);
            }
        }
    }
    lines
}

/// Runs what is fast and needs no network; the rest must be a command that there is.
#[test]
fn the_commands_of_the_readme_work() {
    let lines = shell_lines(&document("README.md"));
    let out = tempfile::tempdir().expect("a folder");
    for line in &lines {
        let words: Vec<&str> = line.iter().map(String::as_str).collect();
        let said = match words.as_slice() {
            ["cargo", "xtask", command, ..] => help(command),
            // What `gantry()` does.
            ["cargo", "build", "--package", "gantry"] => continue,
            ["target/debug/gantry", arguments @ ..] => match run(arguments, out.path()) {
                Some(said) => said,
                None => return,
            },
            _ => panic!("this test does not know how to check `{}`", words.join(" ")),
        };
        assert_eq!(said.code, Some(0), "`{}`: {}{}", words.join(" "), said.out, said.err);
    }
    for promised in [&["cargo", "xtask", "demo"][..], &["cargo", "xtask", "test"], &["target/debug/gantry", "run"]] {
        assert!(
            lines.iter().any(|line| line.starts_with(&promised.iter().map(ToString::to_string).collect::<Vec<_>>()))
        );
    }
    for file in ["segmentation.dcm", "report.dcm", "result.json"] {
        assert!(out.path().join(file).exists(), "`gantry run` writes {file}");
    }
}

fn help(command: &str) -> Said {
    let mut cargo = Command::new("cargo");
    cargo.args(["xtask", command, "--help"]).current_dir(repository());
    cargo.output().expect("cargo runs").into()
}

/// Runs `gantry` as the README does, but for where the assets lie here and where results go.
fn run(arguments: &[&str], out: &Path) -> Option<Said> {
    needed("modules/ct-organs/package", "cargo xtask guests")?;
    let mut command = gantry();
    let mut after_out = false;
    for argument in arguments {
        match argument.strip_prefix(".cache/assets/") {
            _ if after_out => command.arg(out),
            Some(path) => command.arg(gantry_tests::asset(path)?),
            None => command.arg(argument),
        };
        after_out = *argument == "--out";
    }
    Some(command.output().expect("gantry runs").into())
}

#[test]
fn links_lead_somewhere() {
    for name in DOCUMENTS {
        let text = document(name);
        // [text](target), outside of code: none of these documents has `](` in code.
        for target in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let file = target.split('#').next().unwrap_or_default();
            if !target.contains("://") && !file.is_empty() {
                assert!(repository().join(file).exists(), "{name} refers to {target}, which is not there");
            }
        }
    }
}

/// `folder/file` in backticks, where the folder is one of the repository's.
#[test]
fn paths_in_documents_exist() {
    for name in DOCUMENTS {
        for code in document(name).split('`').skip(1).step_by(2) {
            let Some((folder, _)) = code.split_once('/') else { continue };
            let is_path = !code.contains([' ', '*', '\n']) && repository().join(folder).is_dir();
            let is_made = code.starts_with("target/") || code.starts_with(".cache/");
            if is_path && !is_made {
                assert!(repository().join(code).exists(), "{name} names {code}, which is not there");
            }
        }
    }
}

/// The tests that guard an invariant: `area::file::tests` is a module of the runtime.
#[test]
fn guards_of_invariants_exist() {
    let text = document("ARCHITECTURE.md");
    let guards = text.split('`').skip(1).step_by(2).filter(|code| code.contains("::"));
    let source = repository().join("runtime/src");
    let mut found = 0;
    for guard in guards.filter(|guard| source.join(guard.split("::").next().unwrap_or_default()).is_dir()) {
        let path = guard.trim_end_matches("::tests").replace("::", "/");
        let is_there = ["", "/mod"].iter().any(|end| source.join(format!("{path}{end}.rs")).is_file());
        assert!(is_there, "ARCHITECTURE.md names {guard}, which is not there");
        found += 1;
    }
    assert!(found >= 5, "the table of invariants names its guards");
}
