//! Which causes can pass, and when a job is tried again.

use crate::config::ScheduleConfig;
use crate::module::package::PackageError;
use crate::pipeline::RunError;
use crate::sandbox::{JobError, PrepareError};
use crate::store::{Ending, JobState};
use crate::study::ReadError;
use crate::upstream::UpstreamError;

/// The class of a run whose objects do not conform.
const CONFORMANCE: &str = "conformance";

/// Why a run left no result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Cause {
    /// Who is at fault: `input`, `limit`, `module`, `findings`, `engine`, `disk`, `host`, or
    /// [`CONFORMANCE`]: our own writers.
    pub(super) class: &'static str,
    /// The same run could end well at another time.
    pub(super) passes: bool,
    /// For people; no patient data.
    pub(super) text: String,
}

impl From<&RunError> for Cause {
    fn from(error: &RunError) -> Self {
        let (class, passes) = match error {
            RunError::Read(e) => read(e),
            RunError::Job(JobError::Read(e)) => read(e),
            RunError::Job(JobError::Upstream(e)) => upstream(e),
            RunError::Package(e) | RunError::Prepare(PrepareError::Package(e)) => package(e),
            RunError::Job(JobError::Package(e)) => package(e),
            RunError::NothingAccepted { .. } | RunError::Prior(_) => ("input", false),
            // Deadlines too: what was too slow for them would hold the machine for as long again.
            RunError::Job(JobError::Limit(_))
            | RunError::Prepare(PrepareError::TooLarge { .. } | PrepareError::CompileTooLong { .. }) => {
                ("limit", false)
            }
            RunError::Prepare(PrepareError::NoCompiler(_)) => ("host", true),
            // A guest that is given the same does the same: a clock or randomness it has only where a site grants it.
            RunError::Prepare(_) | RunError::Job(JobError::Trap(_) | JobError::Module(_)) => ("module", false),
            RunError::Job(JobError::Engine(_)) => ("engine", true),
            RunError::Job(JobError::Host(_)) => ("host", true),
            RunError::Job(JobError::Cancelled) => ("cancelled", true),
            RunError::Refused(_) => ("findings", false),
            RunError::Nonconforming(_) => (CONFORMANCE, false),
            RunError::Write(_) => ("disk", true),
        };
        Self { class, passes, text: error.to_string() }
    }
}

/// What is wrong with a file stays wrong, unless it is that it cannot be read.
fn read(error: &ReadError) -> (&'static str, bool) {
    match error {
        ReadError::Io { .. } => ("disk", true),
        ReadError::Decoder { .. } => ("host", true),
        e if e.is_limit() => ("limit", false),
        _ => ("input", false),
    }
}

/// What an earlier job left stays as it is, unless it is that it cannot be read.
fn upstream(error: &UpstreamError) -> (&'static str, bool) {
    match error {
        UpstreamError::Io { .. } => ("disk", true),
        UpstreamError::Segmentation(e) => read(e),
        e if e.is_limit() => ("limit", false),
        _ => ("input", false),
    }
}

fn package(error: &PackageError) -> (&'static str, bool) {
    match error {
        PackageError::Read { .. } => ("disk", true),
        PackageError::TooLarge { .. } => ("limit", false),
        _ => ("module", false),
    }
}

/// What follows from a cause after the `attempt`th run, counted from 1.
pub(super) fn after(cause: Cause, attempt: u32, config: &ScheduleConfig, now_ms: i64) -> Ending {
    let Cause { class, passes, text: error } = cause;
    match (passes, attempt < config.attempts_max) {
        (true, true) => Ending::Again { not_before_ms: now_ms.saturating_add(pause_ms(attempt, config)), class, error },
        (true, false) => Ending::Over { state: JobState::Dead, class, error },
        (false, _) => Ending::Over { state: JobState::Failed, class, error },
    }
}

/// Twice as long after each run, up to a limit.
pub(super) fn pause_ms(attempt: u32, config: &ScheduleConfig) -> i64 {
    let doubled = config.retry_first_ms.saturating_mul(1u64.checked_shl(attempt.saturating_sub(1)).unwrap_or(u64::MAX));
    doubled.min(config.retry_max_ms).cast_signed()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sandbox::LimitHit;

    fn config() -> ScheduleConfig {
        ScheduleConfig { attempts_max: 3, retry_first_ms: 100, retry_max_ms: 350, ..ScheduleConfig::default() }
    }

    #[test]
    fn runs_are_spaced_ever_wider_up_to_a_limit() {
        assert_eq!([1, 2, 3, 4, 70].map(|attempt| pause_ms(attempt, &config())), [100, 200, 350, 350, 350]);
    }

    #[test]
    fn what_can_pass_is_tried_again_and_then_dead() {
        let errors = [
            (RunError::Write("no space".into()), "disk"),
            (RunError::Job(JobError::Engine("no memory on the device".into())), "engine"),
            (RunError::Job(JobError::Host("no thread".into())), "host"),
        ];
        for (error, expected) in errors {
            for (attempt, due) in [(1, 1100), (2, 1200)] {
                match after(Cause::from(&error), attempt, &config(), 1000) {
                    Ending::Again { not_before_ms, class, .. } => assert_eq!((not_before_ms, class), (due, expected)),
                    other => panic!("{other:?}"),
                }
            }
            let last = after(Cause::from(&error), 3, &config(), 0);
            assert!(matches!(last, Ending::Over { state: JobState::Dead, .. }), "{last:?}");
        }
    }

    #[test]
    fn what_stays_is_failed_at_once() {
        let hit = |limit, detail: &str| RunError::Job(JobError::Limit(LimitHit { limit, detail: detail.into() }));
        let (file, place, rule) = ("a.dcm".into(), "Rows (0028,0010)".into(), "type 1, and missing".into());
        let refused = crate::outputs::Nonconforming { file, object: "Segmentation", place, rule };
        let slow = |limit| ReadError::Limit { path: None, what: "the time".into(), limit, maximum: 1 };
        let errors = [
            (hit("guest_memory_mib", "guest_memory_mib = 1"), "limit"),
            (hit("job_deadline_ms", "job_deadline_ms = 1"), "limit"),
            (hit("engines.worker_memory_mib", "engines.worker_memory_mib = 64"), "limit"),
            (RunError::Prepare(PrepareError::CompileTooLong { path: "f".into(), ms: 1 }), "limit"),
            (RunError::Read(slow("decode_deadline_ms")), "limit"),
            (RunError::Nonconforming(refused), "conformance"),
            (RunError::Job(JobError::Trap("unreachable".into())), "module"),
            (RunError::Job(JobError::Module("no".into())), "module"),
            (RunError::Read(ReadError::NoDicom { files: 1 }), "input"),
            (RunError::Job(JobError::Package(Box::new(PackageError::NoModel("x".into())))), "module"),
        ];
        for (error, expected) in errors {
            match after(Cause::from(&error), 1, &config(), 0) {
                Ending::Over { state: JobState::Failed, class, .. } => assert_eq!(class, expected),
                other => panic!("{other:?}"),
            }
        }
    }
}
