//! The same work by what people use today: pydicom, scipy, ONNX Runtime's Python package and highdicom.

use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use anyhow::{Context, Result, ensure};
use gantry_tests::repository;
use serde_json::Value;

use crate::Places;
use crate::report::Report;

/// What the script says when a package is missing.
pub(crate) const MISSING: i32 = 3;

/// A call of a script of `tests/peers`, or why it cannot run here.
pub(crate) fn script(script: &str) -> Result<Command, String> {
    let python =
        std::env::var_os("GANTRY_PYTHON").map_or_else(|| repository().join(".cache/venv/bin/python"), PathBuf::from);
    if !python.is_file() {
        return Err(format!("{} is missing: run `cargo xtask assets --peers`", python.display()));
    }
    let mut command = Command::new(&python);
    command.arg(repository().join("tests/peers").join(script));
    Ok(command)
}

/// A script of `tests/peers` that answers lines by lines of JSON, the first of which says what it is made of.
pub(crate) struct Dialogue {
    process: Child,
    asks: ChildStdin,
    says: BufReader<ChildStdout>,
}

impl Dialogue {
    /// Starts it, or why it cannot run here.
    pub(crate) fn start(name: &str, arguments: &[&OsStr]) -> Result<Result<Self, String>> {
        let mut command = match script(name) {
            Ok(command) => command,
            Err(why) => return Ok(Err(why)),
        };
        let mut process = command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let (asks, says) = (process.stdin.take().context("piped")?, process.stdout.take().context("piped")?);
        let mut script = Self { process, asks, says: BufReader::new(says) };
        match script.says() {
            Ok(versions) => eprintln!("beside {}", versions["packages"]),
            Err(_) if script.process.wait()?.code() == Some(MISSING) => {
                return Ok(Err("run `cargo xtask assets --peers`".into()));
            }
            Err(e) => return Err(e),
        }
        Ok(Ok(script))
    }

    /// What it answers.
    pub(crate) fn ask(&mut self, line: &str) -> Result<Value> {
        writeln!(self.asks, "{line}")?;
        self.says()
    }

    fn says(&mut self) -> Result<Value> {
        let mut line = String::new();
        ensure!(self.says.read_line(&mut line)? > 0, "the script ended");
        Ok(serde_json::from_str(&line)?)
    }
}

impl Drop for Dialogue {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Runs a script of `tests/peers` and returns what it tells, or why it cannot run here.
pub(crate) fn python<'a>(name: &str, arguments: impl IntoIterator<Item = &'a OsStr>) -> Result<Result<Value, String>> {
    let mut command = match script(name) {
        Ok(command) => command,
        Err(why) => return Ok(Err(why)),
    };
    let output = command.args(arguments).output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    if output.status.code() == Some(MISSING) {
        return Ok(Err(said.trim().to_owned()));
    }
    anyhow::ensure!(output.status.success(), "{name}: {said}");
    Ok(Ok(serde_json::from_slice(&output.stdout)?))
}

/// Measures and reports, or says why not.
pub(crate) fn measure(places: &Places, report: &mut Report) -> Result<()> {
    let out = places.folder.join("out-python");
    std::fs::create_dir_all(&out)?;
    let network = places.package.join("models/organs.onnx");
    let told = match python("bench_sandbox.py", [places.study.as_os_str(), network.as_os_str(), out.as_os_str()])? {
        Ok(told) => told,
        Err(why) => {
            report.skip(format!("Python: {why}"));
            return Ok(());
        }
    };
    let seconds = |name: &str| told[name].as_f64().unwrap_or(f64::NAN);
    let beside = seconds("total") - seconds("network");
    report.told("Python, wall", seconds("total"), "s", told["stages"].to_string());
    report.told("Python, outside of the network", beside, "s", told["packages"].as_str().unwrap_or_default());
    if let Some(ours) = report.value("gantry run, outside of the network") {
        report.told("Python / gantry run, outside of the network", beside / ours, "", "larger is better for us");
    }
    report.told("Python, peak memory", seconds("peak_mib"), "MiB", told["millilitres"].to_string());
    Ok(())
}
