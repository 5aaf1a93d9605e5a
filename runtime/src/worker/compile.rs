//! Compiling a component in a worker: one component, and the process ends.
//!
//! The host loads the code that comes back. So the walls hold what a component can do to the compiler (never end, take all
//! memory, crash it), and keep a compiler that was subverted from all but its output; they do not make that trusted.

use std::fs::File;
use std::io::{Read as _, Seek as _};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::time::{Duration, Instant};

use super::choice::{Program, Wall};
use super::host::NoAnswer;
use super::protocol::{Answer, Ask, Failure, Role, Start};
use super::{cage, misused, shared};
use crate::config::Limits;

/// Compiles components in workers.
#[derive(Debug)]
pub(crate) struct Compiler {
    pub(crate) program: Program,
    pub(crate) accept_missing: Vec<Wall>,
}

/// Why there is no code.
#[derive(Debug)]
pub(crate) enum NoCode {
    /// The compiler refused the component: its words.
    Refused(String),
    /// It did not end in time.
    TooLong,
    /// The process ended: how.
    Died(String),
    /// There is no worker, or nothing can be handed to it.
    Host(String),
}

impl Compiler {
    /// The code of a component, by settings that follow from `limits`.
    pub(crate) fn compile(&self, limits: &Limits, component: &[u8]) -> Result<Vec<u8>, NoCode> {
        let host = |e: std::io::Error| NoCode::Host(format!("a component cannot be handed to a worker: {e}"));
        let (from, mut to) = (shared::of(component).map_err(host)?, shared::empty().map_err(host)?);
        let start = Start::new(limits.compile_memory_mib, Role::Compile);
        let worker = super::begin(&self.program, &start, &self.accept_missing, &|| false)
            .map_err(|no| NoCode::Host(super::told_no(no)))?;
        let until = Instant::now() + Duration::from_millis(limits.compile_deadline_ms);
        let ask = Ask::Compile(Box::new(limits.clone()));
        match worker.ask(ask, &[from.as_fd(), to.as_fd()], until, &|| false) {
            Ok(Answer::Compiled) => {}
            Ok(Answer::Failed { how: Failure::Refused, text }) => return Err(NoCode::Refused(crate::printable(&text))),
            Ok(Answer::Failed { text, .. }) => {
                return Err(NoCode::Died(format!("failed: {}", crate::printable(&text))));
            }
            Ok(_) => return Err(NoCode::Died("answered what was not asked".into())),
            Err(NoAnswer::Died(how)) => return Err(NoCode::Died(how)),
            Err(NoAnswer::OutOfMemory(words)) => return Err(NoCode::Died(format!("was ended by SIGABRT ({words})"))),
            Err(NoAnswer::Late | NoAnswer::Unwanted | NoAnswer::Stopped) => return Err(NoCode::TooLong),
        }
        // A mapping that could still be written to would keep it open.
        shared::seal(&to).map_err(|_| NoCode::Died("keeps its code open".into()))?;
        let mut code = Vec::new();
        to.rewind().and_then(|()| to.read_to_end(&mut code)).map_err(host)?;
        Ok(code)
    }
}

/// Compiles with settings that follow from limits. `Err` has the compiler's words.
pub type Compile = fn(&Limits, &[u8]) -> Result<Vec<u8>, String>;

/// In a worker.
pub(super) fn answer(compile: Compile, ask: Ask, files: Vec<OwnedFd>) -> Answer {
    let Ask::Compile(limits) = ask else { return Answer::failed(&misused("it only compiles")) };
    let failed = |how, text: &str| Answer::Failed { how, text: super::protocol::cut(text) };
    let [from, to] = match <[OwnedFd; 2]>::try_from(files) {
        Ok(files) => files,
        Err(_) => return Answer::failed(&misused("no file")),
    };
    cage::limit_processor_time(Some(Duration::from_millis(limits.compile_deadline_ms)), cage::threads());
    let mapped = match shared::map(&from) {
        Ok(mapped) => mapped,
        Err(e) => return Answer::failed(&misused(&e.to_string())),
    };
    let code = match compile(&limits, mapped.bytes()) {
        Ok(code) => code,
        Err(text) => return failed(Failure::Refused, &text),
    };
    match File::from(to).write_all_at(&code, 0) {
        Ok(()) => Answer::Compiled,
        Err(e) => failed(Failure::Run, &format!("the code cannot be handed over: {e}")),
    }
}
