//! The host's side of a worker: starts it, asks it, ends it.

use std::collections::HashMap;
use std::fs::File;
use std::io::{PipeReader, Read};
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
use super::child::Resident;
use super::choice::Program;
use super::protocol::{Answer, Ask, Failure, Numbered, Start, VERSION, pair, receive, send};
use crate::inference::Provider;

/// From the start of the program to what it says first: an engine library of some hundred MB is read.
const START_MAX: Duration = Duration::from_secs(60);
/// How often it is looked whether the one who waits still wants to.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// Of what a process says on its standard error, the last so many bytes are looked at when it has ended.
const WORDS_KEPT: usize = 4 << 10;
/// More bytes of that between two answers are no complaint but a flood.
const WORDS_MAX: usize = 4 << 20;

/// A process that runs. May be asked from several threads at once.
#[derive(Debug)]
pub(crate) struct Worker {
    process: Arc<Process>,
    number: AtomicU64,
    engine_version: String,
    providers: Vec<Provider>,
    kept: Vec<Kept>,
    /// Once its engine was there, and no model.
    began_with_bytes: u64,
}

/// What whoever asks and the thread that listens have in common.
#[derive(Debug)]
struct Process {
    id: u32,
    child: Mutex<Child>,
    socket: OwnedFd,
    asked: Mutex<Asked>,
    said: PipeReader,
    words: Mutex<Words>,
    /// Opened while that can be: later, its user may not look at it any more than others.
    resident: Option<Resident>,
}

/// What it said on its standard error, which is looked at when it has ended.
#[derive(Debug, Default)]
struct Words {
    last: Vec<u8>,
    since_answer: usize,
    ended: bool,
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
    /// It ended because it was refused memory, as it said itself: its words.
    OutOfMemory(String),
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
        let (said, words) = std::io::pipe().map_err(|e| failed("no pipe for a worker", &e))?;
        rustix::io::ioctl_fionbio(&said, true).map_err(|e| failed("no pipe for a worker", &e))?;
        let child = Command::new(&program.file)
            .args(&program.arguments)
            .env_clear()
            .current_dir("/")
            .stdin(theirs)
            .stdout(Stdio::null())
            .stderr(words)
            .spawn()
            .map_err(|e| failed(&format!("{} cannot be started as a worker", program.file.display()), &e))?;
        let id = child.id();
        let statm = File::open(format!("/proc/{id}/statm")).ok();
        let process = Arc::new(Process {
            id,
            child: Mutex::new(child),
            socket,
            asked: Mutex::default(),
            said,
            words: Mutex::default(),
            resident: statm.map(Resident::of),
        });
        let mut worker = Self {
            process: process.clone(),
            number: AtomicU64::new(0),
            engine_version: String::new(),
            providers: Vec::new(),
            kept: Vec::new(),
            began_with_bytes: 0,
        };
        let listener = std::thread::Builder::new().name("worker-answers".into()).spawn(move || process.listen());
        listener.map_err(|e| failed("no thread to listen to a worker", &e))?;
        match worker.ask(Ask::Start(start.clone()), &[], Instant::now() + START_MAX, unwanted) {
            Ok(Answer::Started { version: VERSION, engine_version, providers, kept }) => {
                worker.engine_version = crate::printable(&engine_version);
                worker.providers = providers;
                worker.kept = kept;
                worker.began_with_bytes = worker.resident_bytes().unwrap_or(0);
                Ok(worker)
            }
            Ok(Answer::Failed { how, text }) => Err(NoStart::Engine(how, text)),
            Ok(other) => Err(NoStart::Process(format!("a worker began with {other:?}"))),
            Err(NoAnswer::Died(how)) => Err(NoStart::Process(format!("a worker did not come up: it {how}"))),
            Err(NoAnswer::OutOfMemory(words)) => {
                Err(NoStart::Process(format!("a worker did not come up: it had not the memory to ({words})")))
            }
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

    /// Bytes of it that are in memory, where the kernel says so; 0 once it has ended.
    pub(crate) fn resident_bytes(&self) -> Option<u64> {
        self.process.resident.as_ref().map(Resident::bytes)
    }

    /// The same, without what its engine took before any model came.
    pub(crate) fn bytes_of_models(&self) -> Option<u64> {
        Some(self.resident_bytes()?.saturating_sub(self.began_with_bytes))
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
            if !self.wait() {
                break self.end("flooded its standard error");
            }
            match receive::<Answer>(&self.socket, &mut buffer) {
                Ok(Some((answer, files))) => {
                    self.words().since_answer = 0;
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

    /// Until there is an answer, or none will be; not when it says more on its standard error than anybody needs.
    fn wait(&self) -> bool {
        loop {
            let mut both = vec![PollFd::new(&self.socket, PollFlags::IN)];
            if !self.words().ended {
                both.push(PollFd::new(&self.said, PollFlags::IN));
            }
            // An error of poll is one of what comes next.
            let polled = poll(&mut both, None);
            let has = |n: usize| both.get(n).is_some_and(|one| !one.revents().is_empty());
            if has(1) && self.hear() > WORDS_MAX {
                return false;
            }
            if has(0) || polled.is_err_and(|e| e != rustix::io::Errno::INTR) {
                return true;
            }
        }
    }

    /// Takes what it said on its standard error; how much that is since its last answer.
    fn hear(&self) -> usize {
        let mut words = self.words();
        let mut piece = [0; 4096];
        while words.since_answer <= WORDS_MAX {
            match (&self.said).read(&mut piece) {
                Ok(0) => words.ended = true,
                Ok(read) => {
                    words.since_answer += read;
                    words.last.extend(piece.iter().take(read));
                    let surplus = words.last.len().saturating_sub(WORDS_KEPT);
                    words.last.drain(..surplus);
                    continue;
                }
                Err(e) if e.kind() == std::io::ErrorKind::Interrupted => continue,
                // Nothing more for now.
                Err(_) => {}
            }
            break;
        }
        words.since_answer
    }

    /// The line by which a process that aborts says that it was refused memory: Rust's and C++'s.
    fn was_refused_memory(&self) -> Option<String> {
        self.hear();
        let words = self.words();
        let text = String::from_utf8_lossy(&words.last);
        let line = text.lines().rev().find(|line| {
            line.starts_with("memory allocation of ") && line.contains(" bytes failed")
                || line.contains("std::bad_alloc")
        });
        line.map(|line| crate::printable(&line.chars().take(200).collect::<String>()))
    }

    fn words(&self) -> MutexGuard<'_, Words> {
        self.words.lock().unwrap_or_else(PoisonError::into_inner)
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
        if ended.is_some_and(|status| status.signal() == Some(nix::libc::SIGABRT))
            && let Some(words) = self.was_refused_memory()
        {
            return self.over(NoAnswer::OutOfMemory(words));
        }
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
