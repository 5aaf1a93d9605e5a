//! The host's side of a worker: starts it, asks it, ends it.

use std::collections::HashMap;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError, SyncSender};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::cage::{Kept, Probe};
use super::choice::Program;
use super::protocol::{Answer, Ask, Failure, Numbered, Start, VERSION, pair, receive, send};
use crate::inference::Provider;

/// From the start of the program to what it says first: an engine library of some hundred MB is read.
const START_MAX: Duration = Duration::from_secs(60);
/// How often it is looked whether the one who waits still wants to.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// A process that runs. May be asked from several threads at once.
#[derive(Debug)]
pub(crate) struct Worker {
    process: Arc<Process>,
    number: AtomicU64,
    engine_version: String,
    providers: Vec<Provider>,
    kept: Vec<Kept>,
}

/// What whoever asks and the thread that listens have in common.
#[derive(Debug)]
struct Process {
    id: u32,
    child: Mutex<Child>,
    socket: OwnedFd,
    asked: Mutex<Asked>,
}

#[derive(Debug, Default)]
struct Asked {
    /// Who waits for the answer of a number.
    waiting: HashMap<u64, SyncSender<Answer>>,
    /// Once it has ended, or is to.
    end: Option<NoAnswer>,
}

/// Why there is no answer.
#[derive(Debug, Clone)]
pub(crate) enum NoAnswer {
    /// The process ended: how.
    Died(String),
    /// The host ended it, for a reason that has nothing to do with who asked.
    Stopped,
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
        let process = Arc::new(Process { id: child.id(), child: Mutex::new(child), socket, asked: Mutex::default() });
        let mut worker = Self {
            process: process.clone(),
            number: AtomicU64::new(0),
            engine_version: String::new(),
            providers: Vec::new(),
            kept: Vec::new(),
        };
        let listener = std::thread::Builder::new().name("worker-answers".into()).spawn(move || process.listen());
        listener.map_err(|e| failed("no thread to listen to a worker", &e))?;
        match worker.ask(Ask::Start(start.clone()), &[], Instant::now() + START_MAX, unwanted) {
            Ok(Answer::Started { version: VERSION, engine_version, providers, kept }) => {
                worker.engine_version = crate::printable(&engine_version);
                worker.providers = providers;
                worker.kept = kept;
                Ok(worker)
            }
            Ok(Answer::Failed { how, text }) => Err(NoStart::Engine(how, text)),
            Ok(other) => Err(NoStart::Process(format!("a worker began with {other:?}"))),
            Err(NoAnswer::Died(how)) => Err(NoStart::Process(format!("a worker did not come up: it {how}"))),
            Err(NoAnswer::Unwanted | NoAnswer::Stopped) => Err(NoStart::Unwanted),
            Err(NoAnswer::Late) => {
                Err(NoStart::Process(format!("a worker did not come up within {} s", START_MAX.as_secs())))
            }
        }
    }

    /// Name and version of its engine.
    pub(crate) fn engine_version(&self) -> &str {
        &self.engine_version
    }

    /// What its engine's library was built for.
    pub(crate) fn providers(&self) -> &[Provider] {
        &self.providers
    }

    /// The walls around it.
    pub(crate) fn kept(&self) -> &[Kept] {
        &self.kept
    }

    /// Its process.
    pub(crate) fn id(&self) -> u32 {
        self.process.id
    }

    /// Whether it still runs, as far as is known.
    pub(crate) fn is_running(&self) -> bool {
        self.process.asked().end.is_none() && matches!(self.process.child().try_wait(), Ok(None))
    }

    /// Asks, and waits for the answer. After any error the worker is of no use to anybody any more: see [`Self::stop`].
    pub(crate) fn ask(
        &self,
        ask: Ask,
        files: &[BorrowedFd<'_>],
        until: Instant,
        unwanted: &dyn Fn() -> bool,
    ) -> Result<Answer, NoAnswer> {
        let number = self.number.fetch_add(1, Ordering::Relaxed) + 1;
        let (answer, answered) = mpsc::sync_channel(1);
        {
            let mut asked = self.process.asked();
            if let Some(end) = &asked.end {
                return Err(end.clone());
            }
            asked.waiting.insert(number, answer);
        }
        let ask = Numbered { number, what: ask };
        while let Err(e) = send(&self.process.socket, &ask, files) {
            // It has not yet taken what others asked.
            if e.kind() != std::io::ErrorKind::WouldBlock {
                self.process.end(&format!("took no message ({e})"));
                break;
            }
            self.patience(until, unwanted)?;
            let mut writable = [PollFd::new(&self.process.socket, PollFlags::OUT)];
            let _ = poll(&mut writable, Some(&Timespec { tv_sec: 0, tv_nsec: 5_000_000 }));
        }
        loop {
            let left = self.patience(until, unwanted)?;
            match answered.recv_timeout(left.min(LOOK_EVERY)) {
                Ok(answer) => return Ok(answer),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => {
                    return Err(self.process.asked().end.clone().unwrap_or(NoAnswer::Stopped));
                }
            }
        }
    }

    /// How long may still be waited.
    fn patience(&self, until: Instant, unwanted: &dyn Fn() -> bool) -> Result<Duration, NoAnswer> {
        // A process that is gone is told as such, not as one that nobody waits for.
        if let Some(end) = &self.process.asked().end {
            return Err(end.clone());
        }
        if unwanted() {
            return Err(NoAnswer::Unwanted);
        }
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() { Err(NoAnswer::Late) } else { Ok(left) }
    }

    /// Ends it: whoever else waits for it is told that it was stopped.
    pub(crate) fn stop(&self) {
        self.process.over(NoAnswer::Stopped);
        self.process.kill();
    }

    /// Has it try everything that it gave up, and to open what others have.
    pub(crate) fn probe(&self, others: &[PathBuf]) -> Result<Vec<Probe>, NoAnswer> {
        match self.ask(Ask::Probe(others.to_vec()), &[], Instant::now() + START_MAX, &|| false)? {
            Answer::Probed(probes) => Ok(probes),
            _ => Err(NoAnswer::Died("answered what was not asked".into())),
        }
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Process {
    fn asked(&self) -> MutexGuard<'_, Asked> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn child(&self) -> MutexGuard<'_, Child> {
        self.child.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Hands answers to who waits for them, until the process ends.
    fn listen(&self) {
        let mut buffer = Vec::new();
        loop {
            match receive::<Answer>(&self.socket, &mut buffer) {
                Ok(Some((answer, files))) => {
                    let waiting = self.asked().waiting.remove(&answer.number).filter(|_| files.is_empty());
                    let Some(waiting) = waiting else { break self.end("answered what was not asked") };
                    // Who asked may have gone.
                    let _ = waiting.send(answer.what);
                }
                Ok(None) => break self.end("closed its socket"),
                Err(e) => break self.end(&format!("broke the protocol ({e})")),
            }
        }
        self.kill();
        // One that the kernel cannot end yet must not keep others from asking about it.
        while let Ok(None) = self.child().try_wait() {
            std::thread::sleep(LOOK_EVERY);
        }
    }

    /// Ends it, if it has not ended by itself, and tells everybody how it did, or `otherwise`.
    fn end(&self, otherwise: &str) {
        // A process that ends closes its socket a moment before it can be waited for.
        let until = Instant::now() + Duration::from_millis(200);
        let ended = loop {
            // Whoever looks whether it runs does so between two of these.
            let ended = self.child().try_wait();
            match ended {
                Ok(Some(status)) => break Some(status),
                Ok(None) if Instant::now() < until => std::thread::sleep(Duration::from_millis(2)),
                _ => break None,
            }
        };
        let how = match ended {
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
        };
        self.over(NoAnswer::Died(how));
    }

    /// It is over, for this reason unless there was one before.
    fn over(&self, why: NoAnswer) {
        let mut asked = self.asked();
        asked.end.get_or_insert(why);
        asked.waiting.clear();
    }

    fn kill(&self) {
        // It may be gone already.
        let _ = self.child().kill();
    }
}
