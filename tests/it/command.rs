//! The `gantry` command: exit codes, what it prints, and that Ctrl-C leaves nothing behind.

use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Command, Stdio};

use gantry_tests::command::{Said, gantry};
use gantry_tests::{MANIFEST, Scenario};

/// It failed with `code` and says so, on standard error only, and wrote nothing.
fn fails(scenario: &Scenario, more: &[&str], code: i32, said: &str) {
    let says = scenario.command_says(more);
    assert_eq!(says.code, Some(code), "{says:?}");
    assert!(says.err.contains("error: ") && says.err.contains(said), "`{said}` is missing in: {says:?}");
    assert_eq!(says.out, "", "a script that reads standard output gets a result or nothing");
    assert!(!says.err.to_lowercase().contains("secret"), "no patient data in messages: {says:?}");
    assert!(!scenario.out().is_dir(), "nothing is written");
}

#[test]
fn exit_codes_are_documented() {
    for arguments in [&["--help"][..], &["help"]] {
        let says = Said::from(gantry().args(arguments).output().expect("gantry runs"));
        assert_eq!(says.code, Some(0));
        for line in
            ["  0    done", "  1    ", "  2    usage", "  3    ", "  4    ", "  5    a limit", "  130  interrupted"]
        {
            assert!(says.out.contains(line), "`{line}` is missing in: {}", says.out);
        }
        for check in ["`gantry doctor`: a check failed", "`gantry config check`: a check failed"] {
            assert!(says.out.contains(check), "`{check}` is missing in: {}", says.out);
        }
    }
}

#[test]
fn a_result_is_summed_up_for_people_or_printed_for_scripts() {
    let Some(scenario) = Scenario::rogue("well-behaved") else { return };
    let says = scenario.command_says(&[]);
    assert_eq!(says.code, Some(0), "{says:?}");
    for part in ["rogue 0.1.0 by Tests", "not for clinical use", "Bone", "0.4 mL", "segmentation.dcm", "report.dcm"] {
        assert!(says.out.contains(part), "`{part}` is missing in: {}", says.out);
    }

    let says = scenario.command_says(&["--json", "--overlay"]);
    assert_eq!(says.code, Some(0), "{says:?}");
    let printed: serde_json::Value = serde_json::from_str(&says.out).expect("JSON and nothing else");
    let written = std::fs::read(scenario.out().join("result.json")).expect("readable");
    assert_eq!(printed, serde_json::from_slice::<serde_json::Value>(&written).expect("JSON"));
    assert_eq!(printed["status"], "done");
    for output in printed["outputs"].as_array().expect("a list") {
        let file = scenario.out().join(output["file"].as_str().expect("a name"));
        let bytes = std::fs::metadata(&file).expect("each output is there").len();
        assert_eq!(output["bytes"].as_u64(), Some(bytes), "{}", file.display());
    }
}

#[test]
fn a_result_that_cannot_be_written_is_1() {
    let Some(scenario) = Scenario::rogue("well-behaved") else { return };
    std::fs::write(scenario.out(), "in the way").expect("written");
    fails(&scenario, &[], 1, "cannot be written");
    assert_eq!(std::fs::read_to_string(scenario.out()).expect("readable"), "in the way");
}

#[test]
fn usage_and_configuration_are_2() {
    let Some(mut scenario) = Scenario::rogue("well-behaved") else { return };
    fails(&scenario, &["--colour"], 2, "--colour");
    fails(&scenario, &["--grant", "attribute:PatientName"], 2, "PatientName");
    scenario.config.limits.jobs_max = 0;
    fails(&scenario, &[], 2, "jobs_max = 0");
}

#[test]
fn unreadable_input_is_3() {
    let Some(scenario) = Scenario::rogue("well-behaved") else { return };
    let slice = scenario.study().join("5.dcm");
    let whole = std::fs::read(&slice).expect("readable");
    std::fs::write(&slice, &whole[..whole.len() - 1]).expect("written");
    fails(&scenario, &["--json"], 3, "5.dcm: damaged");
    std::fs::remove_file(&slice).expect("removed");
    fails(&scenario, &[], 3, "slices are missing");
}

#[test]
fn a_module_that_fails_or_is_refused_is_4() {
    for (guest, said) in [("trap", "the module trapped"), ("twice", ""), ("ungranted", "wasi:")] {
        let Some(scenario) = Scenario::rogue(guest) else { return };
        fails(&scenario, &["--json"], 4, said);
    }
    let scenario = Scenario::new(b"not wasm at all", MANIFEST).expect("a scenario");
    fails(&scenario, &[], 4, "not a WebAssembly component");
}

#[test]
fn a_limit_is_5() {
    let Some(mut scenario) = Scenario::rogue("loop") else { return };
    scenario.config.limits.job_deadline_ms = 200;
    fails(&scenario, &[], 5, "job_deadline_ms = 200");
    let Some(mut scenario) = Scenario::rogue("well-behaved") else { return };
    scenario.config.limits.files_max = 9;
    fails(&scenario, &[], 5, "files_max = 9");
}

#[test]
fn ctrl_c_ends_a_job_and_leaves_nothing() {
    for signal in ["INT", "TERM"] {
        let Some(mut scenario) = Scenario::rogue("loop") else { return };
        scenario.config.limits.job_deadline_ms = 120_000;
        let mut command = scenario.command();
        command.env("RUST_LOG", "gantry=info").stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut process = command.spawn().expect("gantry starts");
        let mut log = BufReader::new(process.stderr.take().expect("a pipe"));
        let mut line = String::new();
        while !line.contains("analysing") {
            line.clear();
            assert_ne!(log.read_line(&mut line).expect("readable"), 0, "it ended before the module ran");
        }
        let kill = format!("kill -{signal} {}", process.id());
        assert!(Command::new("sh").args(["-c", &kill]).status().expect("sh runs").success());
        let mut rest = String::new();
        log.read_to_string(&mut rest).expect("readable");
        let status = process.wait().expect("it ends");
        assert_eq!(status.code(), Some(130), "{rest}");
        assert!(rest.contains("cancelled"), "{rest}");
        assert!(!scenario.out().exists(), "nothing is written");
    }
}

#[cfg(target_os = "linux")]
#[test]
fn output_that_cannot_be_printed_is_1_and_nobody_listening_is_0() {
    let component = "modules/ct-organs/package/component.wasm";
    let Some(component) = gantry_tests::needed(component, "cargo xtask guests") else { return };
    let inspect = |to: Stdio| {
        let mut command = gantry();
        command.args(["module", "inspect"]).arg(component.parent().expect("a folder"));
        Said::from(command.stdout(to).output().expect("gantry runs"))
    };
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full").expect("opened");
    let says = inspect(full.into());
    assert_eq!(says.code, Some(1), "{says:?}");
    assert!(says.err.contains("standard output cannot be written to"), "{says:?}");
    let (reader, writer) = std::io::pipe().expect("a pipe");
    drop(reader);
    let says = inspect(writer.into());
    assert_eq!((says.code, says.err.as_str()), (Some(0), ""), "{says:?}");
}

#[test]
fn what_was_called_wrongly_says_what_to_do_next() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("gantry.toml");
    std::fs::write(&file, format!("[node]\ndata_folder = {:?}\n", folder.path().join("data"))).expect("written");
    let says = |file: &Path, arguments: &[&str]| -> Said {
        gantry().args(arguments).arg("--config").arg(file).output().expect("gantry runs").into()
    };
    let unset = folder.path().join("unset.toml");
    std::fs::write(&unset, "").expect("written");
    let missing = folder.path().join("missing.toml");
    let of_node: [&[&str]; 7] = [
        &["worker", "list"],
        &["job", "list"],
        &["job", "cancel", "1"],
        &["route", "explain", "1.2"],
        &["audit", "show"],
        &["audit", "verify"],
        &["token", "list"],
    ];
    for arguments in of_node {
        let said = says(&missing, arguments);
        assert!(
            said.code == Some(2) && said.err.contains("begin with what `gantry config example` prints"),
            "{said:?}"
        );
        let said = says(&unset, arguments);
        let expected = format!("node.data_folder is not set in {}: set it, or name the node's own", unset.display());
        assert!(said.code == Some(2) && said.err.contains(&expected), "{arguments:?}: {said:?}");
        let said = says(&file, arguments);
        match arguments[0] {
            // They need no journal.
            "worker" => assert!(said.out.contains("the node is not running, and never was"), "{said:?}"),
            "token" => assert_eq!(said.code, Some(0), "{said:?}"),
            _ => assert!(said.code == Some(2) && said.err.contains("no journal: `gantry serve` makes it"), "{said:?}"),
        }
    }
    // Now there is a journal, and nothing in it.
    for (arguments, code, expected) in [
        (&["token", "list"][..], 0, "`gantry token new` makes one"),
        (&["job", "list", "--study", "1.2"], 0, "without --study, all that there is"),
        (&["job", "list", "--state", "done"], 0, "without --state, all that there are"),
        (&["audit", "show", "--study", "1.2"], 0, "without --study, the latest about any"),
        (&["route", "explain", "1.2"], 3, "`gantry job list` shows studies that are"),
        (&["job", "show", "1"], 3, "`gantry job list` shows those that there are"),
    ] {
        let said = says(&file, arguments);
        let told = format!("{}{}", said.out, said.err);
        assert!(said.code == Some(code) && told.contains(expected), "{arguments:?}: {said:?}");
    }
    for command in ["show", "retry", "cancel"] {
        let said = says(&file, &["job", command, "first"]);
        assert!(said.code == Some(2) && said.err.contains("`gantry job list` shows them"), "{said:?}");
    }
}
