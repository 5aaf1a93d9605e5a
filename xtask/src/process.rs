//! Child processes: each runs in a process group of its own, so that Ctrl-C or a TERM stops it with all of its children
//! (a compiler under cargo, a test under nextest, an Orthanc under a test).

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process_group};
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// The shell's exit code for a program that Ctrl-C ended.
pub(crate) const EXIT_INTERRUPTED: u8 = 130;

/// Somebody pressed Ctrl-C, or sent TERM.
#[derive(Debug)]
pub(crate) struct Interrupted;

impl std::fmt::Display for Interrupted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("interrupted")
    }
}

impl std::error::Error for Interrupted {}

/// One command line.
#[derive(Debug)]
pub(crate) struct Step {
    command: Command,
    words: Vec<OsString>,
}

impl Step {
    /// A call of `program`.
    pub(crate) fn new(program: impl AsRef<OsStr>) -> Self {
        Self { command: Command::new(program.as_ref()), words: vec![program.as_ref().to_owned()] }
    }

    /// The name under which messages show the program.
    pub(crate) fn shown_as(mut self, name: &str) -> Self {
        if let Some(first) = self.words.first_mut() {
            *first = name.into();
        }
        self
    }

    /// One more argument.
    pub(crate) fn arg(mut self, argument: impl AsRef<OsStr>) -> Self {
        self.words.push(argument.as_ref().to_owned());
        self.command.arg(argument);
        self
    }

    /// More arguments.
    pub(crate) fn args<A: AsRef<OsStr>>(self, arguments: impl IntoIterator<Item = A>) -> Self {
        arguments.into_iter().fold(self, Self::arg)
    }

    /// Sets an environment variable.
    pub(crate) fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.command.env(name, value);
        self
    }

    /// Takes an environment variable away.
    pub(crate) fn without_env(mut self, name: &OsStr) -> Self {
        self.command.env_remove(name);
        self
    }

    /// Sets the working folder.
    pub(crate) fn in_folder(mut self, folder: &Path) -> Self {
        self.command.current_dir(folder);
        self
    }

    /// The command line, ready for a shell.
    pub(crate) fn line(&self) -> String {
        self.words.iter().map(|word| quoted(&word.to_string_lossy())).collect::<Vec<_>>().join(" ")
    }

    /// Runs it with our own output, and fails unless it succeeds.
    pub(crate) fn run(mut self) -> Result<()> {
        let status = self.finish()?.status;
        self.check(status)
    }

    /// Runs it silently and returns what it printed; the error shows the end of that.
    pub(crate) fn capture(mut self) -> Result<String> {
        self.command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let output = self.finish()?;
        let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
        if let Err(error) = self.check(output.status) {
            let stderr = String::from_utf8_lossy(&output.stderr);
            bail!("{error}; its output ended:\n{}", last_lines(&format!("{stdout}{stderr}"), 15));
        }
        Ok(stdout)
    }

    /// Starts it and returns the first line that it prints, which says that it is ready; what else it has to say goes to
    /// the file `log`.
    pub(crate) fn start(mut self, log: &Path) -> Result<(Background, String)> {
        let file = File::create(log).with_context(|| format!("cannot write {}", log.display()))?;
        self.command.stdout(Stdio::piped()).stderr(file);
        let mut child = start(&mut self.command).with_context(|| format!("cannot start `{}`", self.line()))?;
        let stdout = child.stdout.take();
        let mut background = Background { child: Some(child), line: self.line() };
        let mut first = String::new();
        let read = stdout.map(|stdout| BufReader::new(stdout).read_line(&mut first));
        match read {
            Some(Ok(1..)) => Ok((background, first)),
            _ => {
                background.end()?;
                let said = std::fs::read_to_string(log).unwrap_or_default();
                bail!("`{}` ended before it was ready; its output ended:\n{}", background.line, last_lines(&said, 15))
            }
        }
    }

    /// Runs it silently; whether it succeeded, and all that it printed.
    pub(crate) fn transcript(mut self) -> Result<(bool, String)> {
        self.command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let output = self.finish()?;
        let [stdout, stderr] = [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes));
        Ok((output.status.success(), format!("{stdout}{stderr}")))
    }

    fn finish(&mut self) -> Result<Output> {
        let child = start(&mut self.command).with_context(|| format!("cannot start `{}`", self.line()))?;
        let group = Pid::from_child(&child);
        let output = child.wait_with_output();
        let mut running = running();
        running.forget(group);
        if running.interrupted {
            return Err(Interrupted.into());
        }
        output.with_context(|| format!("lost sight of `{}`", self.line()))
    }

    fn check(&self, status: ExitStatus) -> Result<()> {
        if !status.success() {
            bail!("`{}` failed ({status})", self.line());
        }
        Ok(())
    }
}

/// A child that runs beside others until it is told to stop. It does not outlive this value.
#[derive(Debug)]
pub(crate) struct Background {
    child: Option<Child>,
    line: String,
}

impl Background {
    /// TERM, and its end, which must be a good one.
    pub(crate) fn stop(mut self) -> Result<()> {
        match self.end()? {
            Some(status) if !status.success() => bail!("`{}` did not end well ({status})", self.line),
            _ => Ok(()),
        }
    }

    /// Its end; nothing where that was seen before.
    fn end(&mut self) -> Result<Option<ExitStatus>> {
        let Some(mut child) = self.child.take() else { return Ok(None) };
        let group = Pid::from_child(&child);
        let _ = kill_process_group(group, Signal::TERM);
        let status = child.wait();
        let mut running = running();
        running.forget(group);
        if running.interrupted {
            return Err(Interrupted.into());
        }
        status.map(Some).with_context(|| format!("lost sight of `{}`", self.line))
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        // What led here is told already.
        let _ = self.end();
    }
}

/// What the signal handler must know.
struct Running {
    /// One child that is waited for, and those that run beside it.
    groups: Vec<Pid>,
    interrupted: bool,
}

impl Running {
    fn forget(&mut self, group: Pid) {
        self.groups.retain(|other| *other != group);
    }
}

static RUNNING: Mutex<Running> = Mutex::new(Running { groups: Vec::new(), interrupted: false });

fn running() -> MutexGuard<'static, Running> {
    RUNNING.lock().unwrap_or_else(PoisonError::into_inner)
}

/// From now on Ctrl-C and TERM end the running children and their children first, and then us: a first one asks them to
/// stop, a second one kills them.
pub(crate) fn stop_children_on_interrupt() -> Result<()> {
    ctrlc::set_handler(|| {
        let mut running = running();
        if running.groups.is_empty() {
            std::process::exit(i32::from(EXIT_INTERRUPTED));
        }
        let signal = if running.interrupted { Signal::KILL } else { Signal::TERM };
        running.interrupted = true;
        for group in &running.groups {
            // A group may have ended by itself in this very moment.
            let _ = kill_process_group(*group, signal);
        }
    })
    .context("cannot watch for Ctrl-C")
}

/// Spawns while holding the lock, so that no signal falls between the start of a child and the note of its group.
fn start(command: &mut Command) -> Result<Child> {
    let mut running = running();
    if running.interrupted {
        return Err(Interrupted.into());
    }
    let child = command.process_group(0).stdin(Stdio::null()).spawn()?;
    running.groups.push(Pid::from_child(&child));
    Ok(child)
}

fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./=:,+@%~".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

fn last_lines(text: &str, count: usize) -> String {
    let lines: Vec<&str> = text.lines().collect();
    lines.get(lines.len().saturating_sub(count)..).unwrap_or_default().join("\n")
}

/// A number of bytes for people.
pub(crate) fn size(bytes: u64) -> String {
    // Exact enough for a line on a terminal: tenths of 10^6, and small files in 10^3.
    if bytes < 1_000_000 {
        return format!("{} kB", bytes.div_ceil(1000));
    }
    format!("{}.{} MB", bytes / 1_000_000, bytes / 100_000 % 10)
}

/// Seconds since `start` for people.
pub(crate) fn seconds(elapsed: Duration) -> String {
    format!("{:.1} s", elapsed.as_secs_f64())
}

/// Runs `work` and returns how long it took beside what it returned.
pub(crate) fn timed<T>(work: impl FnOnce() -> T) -> (T, Duration) {
    let start = Instant::now();
    let value = work();
    (value, start.elapsed())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_line_can_be_pasted() {
        let step = Step::new("/opt/bin/cargo").shown_as("cargo").args(["test", "--", "it's", "a b", ""]);
        assert_eq!(step.line(), r"cargo test -- 'it'\''s' 'a b' ''");
    }

    #[test]
    fn a_failure_names_the_command_and_shows_its_output() {
        let error = Step::new("sh").args(["-c", "echo to-out; echo to-err >&2; exit 3"]).capture().expect_err("exit 3");
        let text = format!("{error:#}");
        for part in ["to-out", "to-err", "exit status: 3", "sh -c"] {
            assert!(text.contains(part), "`{part}` is missing in: {text}");
        }
    }

    #[test]
    fn a_transcript_is_had_of_a_failure_too() {
        let run = |script: &str| Step::new("sh").args(["-c", script]).transcript().expect("it ran");
        assert_eq!(run("echo out; echo err >&2; exit 3"), (false, "out\nerr\n".into()));
        assert_eq!(run("echo out"), (true, "out\n".into()));
    }

    #[test]
    fn a_missing_program_is_named() {
        let error = Step::new("no-such-program").run().expect_err("it does not exist");
        assert!(format!("{error:#}").contains("cannot start `no-such-program`"));
    }

    #[test]
    fn a_child_beside_others_is_ready_when_it_says_so_and_is_told_to_stop() {
        let log = std::env::temp_dir().join(format!("gantry-background-{}", std::process::id()));
        let script = "trap 'echo stopped >&2; exit 0' TERM; echo ready; while :; do sleep 0.05; done";
        let (child, first) = Step::new("sh").args(["-c", script]).start(&log).expect("it starts");
        assert_eq!(first, "ready\n");
        assert_eq!(Step::new("echo").arg("beside").capture().expect("another child"), "beside\n");
        child.stop().expect("it ends well");
        let said = std::fs::read_to_string(&log).expect("a log");
        assert!(said.contains("stopped"), "{said}");

        let error = Step::new("sh").args(["-c", "echo no port >&2; exit 2"]).start(&log).expect_err("never ready");
        assert!(format!("{error:#}").contains("no port"), "{error:#}");
        std::fs::remove_file(&log).expect("cleaned up");
    }

    #[test]
    fn a_child_reads_no_terminal() {
        assert_eq!(Step::new("cat").capture().expect("an empty input"), "");
    }

    #[test]
    fn sizes_are_for_people() {
        assert_eq!(size(0), "0 kB");
        assert_eq!(size(1), "1 kB");
        assert_eq!(size(999_999), "1000 kB");
        assert_eq!(size(1_250_000), "1.2 MB");
        assert_eq!(size(20_000_000), "20.0 MB");
    }

    #[test]
    fn only_the_end_of_long_output_is_shown() {
        assert_eq!(last_lines("1\n2\n3\n", 2), "2\n3");
        assert_eq!(last_lines("1", 2), "1");
    }
}
