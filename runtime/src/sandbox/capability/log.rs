//! `gantry:imaging/log`: lines for the vendor's support, up to `log_kib` a job. What a guest writes to its standard streams
//! is among them.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::findings::LogLine;
use crate::sandbox::bindings::gantry::imaging::log;
use crate::sandbox::state::JobState;

/// The lines of a job, bounded. Clones are of the same log: streams that the guest holds write to it as well.
#[derive(Debug, Clone)]
pub(crate) struct JobLog(Arc<Mutex<Lines>>);

#[derive(Debug)]
struct Lines {
    lines: Vec<LogLine>,
    room: usize,
    kib: usize,
    dropped: u64,
    /// What was printed since the last end of a line.
    out: Vec<u8>,
    err: Vec<u8>,
}

/// A standard stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Printed {
    /// Standard output: what was done.
    Out,
    /// Standard error: what is not as it should be.
    Err,
}

/// What a line costs beside its text, so that empty lines are bounded too.
const LINE_OVERHEAD: usize = 16;
/// A longer line that is printed becomes several.
const PRINTED_LINE_BYTES: usize = 4096;

impl JobLog {
    pub(crate) fn new(kib: usize) -> Self {
        let (out, err) = (Vec::new(), Vec::new());
        Self(Arc::new(Mutex::new(Lines { lines: Vec::new(), room: kib << 10, kib, dropped: 0, out, err })))
    }

    fn write(&self, level: &'static str, message: &str) {
        self.lines().write(level, message);
    }

    /// Takes what was written to a standard stream; a line counts when it ends.
    pub(super) fn print(&self, stream: Printed, bytes: &[u8]) {
        let mut lines = self.lines();
        for &byte in bytes {
            let open = lines.open(stream);
            if byte != b'\n' {
                open.push(byte);
            }
            if byte == b'\n' || open.len() == PRINTED_LINE_BYTES {
                lines.end(stream);
            }
        }
    }

    /// The lines, and a last one that says how many were dropped.
    pub(crate) fn finish(&self) -> Vec<LogLine> {
        let mut log = self.lines();
        log.end(Printed::Out);
        log.end(Printed::Err);
        let mut lines = std::mem::take(&mut log.lines);
        if log.dropped > 0 {
            let message = format!("{} lines more were dropped: log_kib = {}", log.dropped, log.kib);
            lines.push(LogLine { level: "warn", message });
        }
        lines
    }

    fn lines(&self) -> MutexGuard<'_, Lines> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Lines {
    fn write(&mut self, level: &'static str, message: &str) {
        let cost = message.len().saturating_add(LINE_OVERHEAD);
        if cost > self.room {
            self.dropped += 1;
            return;
        }
        self.room -= cost;
        let message = message.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        self.lines.push(LogLine { level, message });
    }

    fn open(&mut self, stream: Printed) -> &mut Vec<u8> {
        match stream {
            Printed::Out => &mut self.out,
            Printed::Err => &mut self.err,
        }
    }

    fn end(&mut self, stream: Printed) {
        let line = std::mem::take(self.open(stream));
        if !line.is_empty() {
            let level = if stream == Printed::Out { "info" } else { "warn" };
            self.write(level, &String::from_utf8_lossy(&line));
        }
    }
}

impl log::Host for JobState {
    fn write(&mut self, level: log::Level, message: String) -> wasmtime::Result<()> {
        let level = match level {
            log::Level::Debug => "debug",
            log::Level::Info => "info",
            log::Level::Warn => "warn",
        };
        self.log.write(level, &message);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_past_the_limit_are_counted_and_dropped() {
        let log = JobLog::new(1);
        for _ in 0..100 {
            log.write("info", "sixteen letters!");
        }
        log.write("info", &"x".repeat(5000));
        let lines = log.finish();
        assert_eq!(lines.len(), 1024 / 32 + 1);
        assert_eq!(lines.last().expect("a line").message, "69 lines more were dropped: log_kib = 1");
    }

    #[test]
    fn a_line_stays_a_line() {
        let log = JobLog::new(1);
        log.write("info", "a\nb\u{1b}[31m");
        assert_eq!(log.finish()[0].message, "a b [31m");
    }

    #[test]
    fn what_is_printed_becomes_lines_within_the_same_limit() {
        let log = JobLog::new(1);
        log.print(Printed::Out, b"one\ntw");
        log.print(Printed::Err, b"wrong\n\n");
        log.print(Printed::Out, b"o\nthr\xffee");
        let lines: Vec<_> = log.finish().into_iter().map(|line| (line.level, line.message)).collect();
        let expected = [("info", "one"), ("warn", "wrong"), ("info", "two"), ("info", "thr\u{fffd}ee")];
        assert_eq!(lines, expected.map(|(level, text)| (level, text.to_owned())));

        let log = JobLog::new(8);
        log.print(Printed::Out, &[b'x'; 3 * PRINTED_LINE_BYTES]);
        let lines = log.finish();
        assert_eq!((lines.len(), lines[0].message.len()), (2, PRINTED_LINE_BYTES), "one whole, and one that tells");
        assert_eq!(lines[1].message, "2 lines more were dropped: log_kib = 8");
    }
}
