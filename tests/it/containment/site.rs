//! Where they are tried: one process with a neighbour in it.

use std::sync::atomic::{AtomicBool, Ordering};

use gantry::app::App;
use gantry::pipeline::RunError;
use gantry::sandbox::JobError;
use gantry_tests::Scenario;
use gantry_tests::guests::{End, Guest};

/// A host, and a component in it that does its work.
pub(super) struct Site {
    app: App,
    neighbour: Scenario,
}

impl Site {
    /// Tries guests, one after the other, in one process.
    pub(super) fn try_each(guests: Vec<Guest>) {
        let Some(site) = Self::open() else { return };
        let wrong: Vec<_> = guests.iter().filter_map(|guest| site.wrong_with(guest)).collect();
        assert!(wrong.is_empty(), "{} of {} went wrong:\n{}", wrong.len(), guests.len(), wrong.join("\n"));
    }

    fn open() -> Option<Self> {
        let mut neighbour = Scenario::rogue("well-behaved")?;
        // As much as one of them asks for.
        neighbour.config.limits.guest_memory_mib = 4096;
        let app = neighbour.app();
        neighbour.run_in(&app, &|_| {}).expect("alone, it is done");
        Some(Self { app, neighbour })
    }

    /// Runs one beside the neighbour; what was not as it must be.
    fn wrong_with(&self, guest: &Guest) -> Option<String> {
        let Some(scenario) = guest.scenario() else { return Some(format!("{}: it is not built", guest.name)) };
        let over = AtomicBool::new(false);
        let (ended, beside) = std::thread::scope(|scope| {
            let neighbour = scope.spawn(|| {
                let mut jobs = 0;
                loop {
                    self.neighbour.run_in(&self.app, &|_| {})?;
                    jobs += 1;
                    if over.load(Ordering::Relaxed) {
                        return Ok::<u32, RunError>(jobs);
                    }
                }
            });
            let ended = scenario.run_in(&self.app, &|_| {}).map(|_| ());
            over.store(true, Ordering::Relaxed);
            (ended, neighbour.join().expect("it does not panic"))
        });
        let says = |what: String| Some(format!("{} {}: {what}", guest.name, guest.misdeed));
        match beside {
            Ok(jobs) if jobs > 0 => {}
            other => return says(format!("its neighbour: {other:?}")),
        }
        if let Err(error) = self.neighbour.run_in(&self.app, &|_| {}) {
            return says(format!("who came after it: {error}"));
        }
        let text = ended.as_ref().err().map(ToString::to_string).unwrap_or_default();
        if text.contains("Secret") || text.contains("SECRET") || text.len() > 5000 {
            return says(format!("patient data, or too much text: {text}"));
        }
        if ended.is_err() && scenario.out().exists() {
            return says("something is written".into());
        }
        let right = match (guest.end, &ended) {
            (End::Limit(limit), Err(RunError::Job(JobError::Limit(hit)))) => hit.limit == limit && text.contains(limit),
            (End::Trap(said), Err(RunError::Job(JobError::Trap(_))))
            | (End::Module(said), Err(RunError::Job(JobError::Module(_))))
            | (End::Gate(said), Err(RunError::Refused(_)))
            | (End::Unprepared(said), Err(RunError::Prepare(_))) => text.contains(said),
            (End::Done, Ok(())) => true,
            _ => false,
        };
        if right { None } else { says(format!("{ended:?} instead of {:?}", guest.end)) }
    }
}
