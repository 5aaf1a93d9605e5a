//! The host's side of a worker: starts it, asks it, ends it.

use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::cage::{Kept, Probe};
use super::choice::Program;
use super::protocol::{Answer, Ask, Failure, Numbered, Start, VERSION, pair, receive, send};

/// From the start of the program to what it says first: an engine library of some hundred MB is read.
const START_MAX: Duration = Duration::from_secs(60);
/// How often it is looked whether the one who waits still wants to.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// A process that runs.
#[derive(Debug)]
pub(crate) struct Worker {
    child: Child,
    socket: OwnedFd,
    buffer: Vec<u8>,
    number: u64,
    engine_version: String,
    kept: Vec<Kept>,
}

/// Why there is no answer.
#[derive(Debug)]
pub(crate) enum NoAnswer {
    /// The process ended: how.
    Died(String),
    /// It did not answer in time.
    Late,
    /// Nobody waits any more.
    Unwanted,
}

/// Why there is no worker.
#[derive(Debug)]
pub(crate) enum NoStart {
    /// The engine or its device cannot be used.
    Engine(Failure, String),
    /// The process.
    Process(String),
    /// Nobody waits any more.
    Unwanted,
}

impl Worker {
    /// Starts one that inherits nothing but a socket, and waits until its walls stand.
    pub(crate) fn start(program: &Program, start: &Start, unwanted: &dyn Fn() -> bool) -> Result<Self, NoStart> {
        let failed = |what: &str, e: &dyn std::fmt::Display| NoStart::Process(format!("{what}: {e}"));
        let (socket, theirs) = pair().map_err(|e| failed("no socket for a worker", &e))?;
        let child = Command::new(&program.file)
            .args(&program.arguments)
            .env_clear()
            .current_dir("/")
            .stdin(theirs)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .map_err(|e| failed(&format!("{} cannot be started as a worker", program.file.display()), &e))?;
        let mut worker =
            Self { child, socket, buffer: Vec::new(), number: 0, engine_version: String::new(), kept: Vec::new() };
        match worker.ask(Ask::Start(start.clone()), &[], Some(Instant::now() + START_MAX), unwanted) {
            Ok(Answer::Started { version: VERSION, engine_version, kept }) => {
                worker.engine_version = crate::printable(&engine_version);
                worker.kept = kept;
                Ok(worker)
            }
            Ok(Answer::Failed { how, text }) => Err(NoStart::Engine(how, text)),
            Ok(other) => Err(NoStart::Process(format!("a worker began with {other:?}"))),
            Err(NoAnswer::Died(how)) => Err(NoStart::Process(format!("a worker did not come up: it {how}"))),
            Err(NoAnswer::Unwanted) => Err(NoStart::Unwanted),
            Err(NoAnswer::Late) => {
                Err(NoStart::Process(format!("a worker did not come up within {} s", START_MAX.as_secs())))
            }
        }
    }

    /// Name and version of its engine.
    pub(crate) fn engine_version(&self) -> &str {
        &self.engine_version
    }

    /// The walls around it.
    pub(crate) fn kept(&self) -> &[Kept] {
        &self.kept
    }

    /// Its process.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Whether it still runs, as far as is known.
    pub(crate) fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Asks, and waits for the answer. After any error the worker is of no use any more: drop it.
    pub(crate) fn ask(
        &mut self,
        ask: Ask,
        files: &[BorrowedFd<'_>],
        until: Option<Instant>,
        unwanted: &dyn Fn() -> bool,
    ) -> Result<Answer, NoAnswer> {
        self.number += 1;
        let number = self.number;
        if let Err(e) = send(&self.socket, &Numbered { number, what: ask }, files) {
            return Err(NoAnswer::Died(self.end(&format!("took no message ({e})"))));
        }
        self.wait(until, unwanted)?;
        match receive::<Answer>(&self.socket, &mut self.buffer) {
            Ok(Some((answer, files))) if answer.number == number && files.is_empty() => Ok(answer.what),
            Ok(Some(_)) => Err(NoAnswer::Died(self.end("answered what was not asked"))),
            Ok(None) => Err(NoAnswer::Died(self.end("closed its socket"))),
            Err(e) => Err(NoAnswer::Died(self.end(&format!("broke the protocol ({e})")))),
        }
    }

    fn wait(&self, until: Option<Instant>, unwanted: &dyn Fn() -> bool) -> Result<(), NoAnswer> {
        loop {
            let left = until.map(|until| until.saturating_duration_since(Instant::now()));
            if left.is_some_and(|left| left.is_zero()) {
                return Err(NoAnswer::Late);
            }
            let slice = left.unwrap_or(LOOK_EVERY).min(LOOK_EVERY);
            let slice = Timespec::try_from(slice).expect("some milliseconds");
            let mut ready = [PollFd::new(&self.socket, PollFlags::IN)];
            match poll(&mut ready, Some(&slice)) {
                Ok(0) | Err(rustix::io::Errno::INTR) if unwanted() => return Err(NoAnswer::Unwanted),
                Ok(0) | Err(rustix::io::Errno::INTR) => {}
                // What cannot be waited for is found when it is read.
                Ok(_) | Err(_) => return Ok(()),
            }
        }
    }

    /// Ends it, if it has not ended by itself; how it did, or `otherwise`.
    fn end(&mut self, otherwise: &str) -> String {
        // A process that ends closes its socket a moment before it can be waited for.
        let until = Instant::now() + Duration::from_millis(200);
        let ended = loop {
            match self.child.try_wait() {
                Ok(Some(status)) => break Some(status),
                Ok(None) if Instant::now() < until => std::thread::sleep(Duration::from_millis(2)),
                _ => break None,
            }
        };
        match ended {
            Some(status) => match (status.signal(), status.code()) {
                (Some(signal), _) => {
                    let name = nix::sys::signal::Signal::try_from(signal).map_or("an unknown signal", |s| s.as_str());
                    format!("was ended by {name}")
                }
                (None, code) => format!("ended with exit status {}", code.unwrap_or(-1)),
            },
            None => {
                self.kill();
                format!("{otherwise}, and was ended")
            }
        }
    }

    fn kill(&mut self) {
        // It may be gone already; then there is nothing to wait for either.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Has it try everything that it gave up.
    pub(crate) fn probe(&mut self) -> Result<Vec<Probe>, NoAnswer> {
        match self.ask(Ask::Probe, &[], Some(Instant::now() + START_MAX), &|| false)? {
            Answer::Probed(probes) => Ok(probes),
            _ => Err(NoAnswer::Died("answered what was not asked".into())),
        }
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.kill();
    }
}
