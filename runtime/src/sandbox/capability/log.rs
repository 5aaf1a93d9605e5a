//! `gantry:imaging/log`: lines for the vendor's support, up to `log_kib` a job.

use crate::findings::LogLine;
use crate::sandbox::bindings::gantry::imaging::log;
use crate::sandbox::state::JobState;

/// The lines of a job, bounded.
#[derive(Debug, Default)]
pub(crate) struct JobLog {
    lines: Vec<LogLine>,
    room: usize,
    kib: usize,
    dropped: u64,
}

/// What a line costs beside its text, so that empty lines are bounded too.
const LINE_OVERHEAD: usize = 16;

impl JobLog {
    pub(crate) fn new(kib: usize) -> Self {
        Self { lines: Vec::new(), room: kib << 10, kib, dropped: 0 }
    }

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

    /// The lines, and a last one that says how many were dropped.
    pub(crate) fn finish(mut self) -> Vec<LogLine> {
        if self.dropped > 0 {
            let message = format!("{} lines more were dropped: log_kib = {}", self.dropped, self.kib);
            self.lines.push(LogLine { level: "warn", message });
        }
        self.lines
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
        let mut log = JobLog::new(1);
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
        let mut log = JobLog::new(1);
        log.write("info", "a\nb\u{1b}[31m");
        assert_eq!(log.finish()[0].message, "a b [31m");
    }
}
