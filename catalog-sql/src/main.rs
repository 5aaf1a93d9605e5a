//! The engine of `gantry catalog sql`: answers one question that stands on standard input, on standard output.
//!
//! ```text
//!  gantry ─▶ files in a folder, and a question ─▶ gantry-sql ─▶ rows
//! ```
//!
//! A process of its own, since what SQL takes of memory is not all counted where it is taken: the kernel counts the rest, and then it
//! is this process that ends.

mod query;
mod question;
#[cfg(test)]
mod tests;

use std::io::{Read, Write};
use std::process::ExitCode;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use query::{Failure, query};
use question::Question;

/// No question is longer, MiB.
const QUESTION_MAX_MIB: u64 = 16;
/// What the program itself takes, its threads' stacks, and rows on their way.
const OWN_MIB: u64 = 192;
/// Threads that compute, and that read: the stack of each counts as memory.
const THREADS: [usize; 2] = [4, 16];

fn main() -> ExitCode {
    match answer() {
        Ok(()) => ExitCode::SUCCESS,
        Err((code, why)) => {
            eprintln!("{why}");
            ExitCode::from(code)
        }
    }
}

/// Ends with 2 where what is asked cannot be answered, and with 5 where a limit is reached.
fn answer() -> Result<(), (u8, String)> {
    let question = question()?;
    bound(question.memory_max_mib)?;
    let [compute, read] = THREADS;
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    let runtime = builder.worker_threads(compute).max_blocking_threads(read).enable_all().build();
    let runtime = runtime.map_err(|e| (1, format!("no threads: {e}")))?;
    let (mut stdout, mut written) = (std::io::stdout(), Ok(()));
    let mut out = |piece: &[u8]| {
        if written.is_ok() {
            written = stdout.write_all(piece);
        }
    };
    let whole = runtime.block_on(query(&question, &mut out)).map_err(|failure| match failure {
        Failure::Memory(_) => (5, failure.to_string()),
        Failure::Query(_) => (2, failure.to_string()),
    })?;
    match written.and_then(|()| stdout.flush()) {
        Err(e) if e.kind() != std::io::ErrorKind::BrokenPipe => {
            return Err((1, format!("standard output cannot be written to: {e}")));
        }
        _ => {}
    }
    match whole {
        true => Ok(()),
        false => Err((5, format!("there are more rows than --rows-max = {}: these are the first", question.rows_max))),
    }
}

fn question() -> Result<Question, (u8, String)> {
    let wrong = |why: &dyn std::fmt::Display| (2, format!("a question of `gantry catalog sql` is expected: {why}"));
    let mut text = String::new();
    std::io::stdin().take(QUESTION_MAX_MIB << 20).read_to_string(&mut text).map_err(|e| wrong(&e))?;
    let question: Question = serde_json::from_str(&text).map_err(|e| wrong(&e))?;
    let own = env!("CARGO_PKG_VERSION");
    match question.version == own {
        true => Ok(question),
        false => Err((2, format!("gantry-sql is of version {own}, and gantry of {}: build both", question.version))),
    }
}

/// What this process writes to of its memory, whoever takes it.
fn bound(memory_max_mib: u64) -> Result<(), (u8, String)> {
    let most = memory_max_mib.saturating_add(OWN_MIB).saturating_mul(1 << 20);
    let maximum = getrlimit(Resource::Data).maximum;
    let current = Some(maximum.map_or(most, |maximum| maximum.min(most)));
    setrlimit(Resource::Data, Rlimit { current, maximum })
        .map_err(|e| (1, format!("the memory of the engine cannot be limited: {e}")))
}
