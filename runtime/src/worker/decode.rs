//! Decoding compressed pixel data in workers, where the site chose that.
//!
//! Those who read one study share some: what a file does to its decoder reaches frames of that study alone.

use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::choice::{Program, Wall};
use super::host::{NoAnswer, Worker};
use super::protocol::{Answer, Ask, Failure, Role, Start};
use super::{cage, misused, shared};
use crate::config::Config;
use crate::study::CompressedFrame;

/// Workers that decode frames of one study: as many as decode at once, started when they are needed.
#[derive(Debug)]
pub struct Decoders {
    settings: Settings,
    idle: Mutex<Vec<Worker>>,
}

#[derive(Debug, Clone)]
struct Settings {
    program: Program,
    accept_missing: Vec<Wall>,
    memory_mib: u64,
    deadline_ms: u64,
}

/// Why a frame was not decoded.
#[derive(Debug)]
pub(crate) enum NoFrame {
    /// The decoder refused it: its words.
    Refused(String),
    /// It did not end in time, which is `limits.decode_deadline_ms`.
    TooLong(u64),
    /// The process ended: how, and what memory it had, `limits.decode_memory_mib`.
    Died(String, u64),
    /// There is no worker, or nothing can be handed to it.
    Host(String),
}

impl Decoders {
    /// As configured; `None` when frames are decoded in this process.
    ///
    /// # Errors
    /// The system does not say what this program is.
    pub fn new(config: &Config) -> std::io::Result<Option<Arc<Self>>> {
        let Some(program) = config.engines.isolation.program()?.filter(|_| config.engines.decode_in_worker) else {
            return Ok(None);
        };
        let settings = Settings {
            program,
            accept_missing: config.engines.accept_missing.clone(),
            memory_mib: config.limits.decode_memory_mib,
            deadline_ms: config.limits.decode_deadline_ms,
        };
        Ok(Some(Arc::new(Self { settings, idle: Mutex::default() })))
    }

    /// The same for another study.
    #[must_use]
    pub(crate) fn apart(&self) -> Arc<Self> {
        Arc::new(Self { settings: self.settings.clone(), idle: Mutex::default() })
    }

    /// Decodes a frame, which then has `expected` bytes, into `out`; how many bits its samples have.
    pub(crate) fn decode(
        &self,
        frame: &CompressedFrame,
        value: &[u8],
        expected: usize,
        out: &mut Vec<u8>,
    ) -> Result<u16, NoFrame> {
        let idle = || self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            // One that died while it waited says nothing of this frame.
            let used = idle().pop().and_then(|worker: Worker| worker.is_running().then_some(worker));
            let is_new = used.is_none();
            let worker = used.map_or_else(|| self.start(), Ok)?;
            match self.ask(&worker, frame, value, expected, out) {
                // What an earlier frame left behind may have ended it: once more, in a new one.
                Err(NoFrame::Died(..)) if !is_new => {}
                done => {
                    if matches!(done, Ok(_) | Err(NoFrame::Refused(_))) {
                        idle().push(worker);
                    }
                    return done;
                }
            }
        }
    }

    fn start(&self) -> Result<Worker, NoFrame> {
        let Settings { program, accept_missing, memory_mib, .. } = &self.settings;
        let start = Start::new(*memory_mib, Role::Decode);
        super::begin(program, &start, accept_missing, &|| false).map_err(|no| NoFrame::Host(super::told_no(no)))
    }

    fn ask(
        &self,
        worker: &Worker,
        frame: &CompressedFrame,
        value: &[u8],
        expected: usize,
        out: &mut Vec<u8>,
    ) -> Result<u16, NoFrame> {
        let Settings { memory_mib, deadline_ms, .. } = self.settings;
        let host = |e: std::io::Error| NoFrame::Host(format!("a frame cannot be handed to a worker: {e}"));
        let died = |how: &str| NoFrame::Died(how.to_owned(), memory_mib);
        let (from, to) = (shared::of(value).map_err(host)?, shared::empty().map_err(host)?);
        let ask = Ask::Decode { frame: frame.clone(), deadline_ms };
        let until = Instant::now() + Duration::from_millis(deadline_ms);
        let precision = match worker.ask(ask, &[from.as_fd(), to.as_fd()], until, &|| false) {
            Ok(Answer::Decoded { precision }) => precision,
            Ok(Answer::Failed { how: Failure::Refused, text }) => {
                return Err(NoFrame::Refused(crate::printable(&text)));
            }
            Ok(Answer::Failed { text, .. }) => return Err(died(&format!("failed: {}", crate::printable(&text)))),
            Ok(_) => return Err(died("answered what was not asked")),
            Err(NoAnswer::Died(how)) => return Err(died(&how)),
            Err(NoAnswer::OutOfMemory(words)) => return Err(died(&format!("was ended by SIGABRT ({words})"))),
            Err(NoAnswer::Late | NoAnswer::Unwanted | NoAnswer::Stopped) => return Err(NoFrame::TooLong(deadline_ms)),
        };
        // A mapping that could still be written to would keep it open.
        shared::seal(&to).map_err(|_| died("keeps its pixels open"))?;
        if to.metadata().map_err(host)?.len() != expected as u64 {
            return Err(died("gave pixels of another size"));
        }
        out.resize(expected, 0);
        to.read_exact_at(out, 0).map_err(host)?;
        Ok(precision)
    }
}

/// Decodes the value of Pixel Data of one frame into bytes; how many bits its samples have. `Err` says what is damaged.
pub type Decode = fn(&CompressedFrame, &[u8], &mut Vec<u8>) -> Result<u16, String>;

/// In a worker. `out` is memory to reuse.
pub(super) fn answer(decode: Decode, ask: Ask, files: Vec<OwnedFd>, out: &mut Vec<u8>) -> Answer {
    let Ask::Decode { frame, deadline_ms } = ask else { return Answer::failed(&misused("it only decodes")) };
    let failed = |how, text: &str| Answer::Failed { how, text: super::protocol::cut(text) };
    let [from, to] = match <[OwnedFd; 2]>::try_from(files) {
        Ok(files) => files,
        Err(_) => return Answer::failed(&misused("no file")),
    };
    cage::limit_processor_time(Some(Duration::from_millis(deadline_ms)), cage::threads());
    let mapped = match shared::map(&from) {
        Ok(mapped) => mapped,
        Err(e) => return Answer::failed(&misused(&e.to_string())),
    };
    let precision = match decode(&frame, mapped.bytes(), out) {
        Ok(precision) => precision,
        Err(text) => return failed(Failure::Refused, &text),
    };
    match File::from(to).write_all_at(out, 0) {
        Ok(()) => Answer::Decoded { precision },
        Err(e) => failed(Failure::Run, &format!("the pixels cannot be handed over: {e}")),
    }
}
