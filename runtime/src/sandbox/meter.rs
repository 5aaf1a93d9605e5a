//! How often a guest called which interface, and how long that took: what `gantry module check` and `bench` tell a vendor.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::module::needs::Interface;

/// Calls of one interface.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct HostCalls {
    /// How many.
    pub calls: u64,
    /// How long those took that make or look through voxels and tensors; others take next to nothing. Of `wasi:nn`, runs are not in it:
    /// the models count them.
    pub time: Duration,
}

/// Of one job. wasmtime tells when a call begins; who answers one that may take long tells when it ends.
#[derive(Debug, Default)]
pub(super) struct Meter {
    calls: BTreeMap<Interface, HostCalls>,
    open: Option<(Interface, Instant)>,
}

impl Meter {
    pub(super) fn called(&mut self, interface: Interface) {
        self.calls.entry(interface).or_default().calls += 1;
        self.open = Some((interface, Instant::now()));
    }

    pub(super) fn answered(&mut self) {
        if let Some((interface, since)) = self.open.take() {
            self.calls.entry(interface).or_default().time += since.elapsed();
        }
    }

    pub(super) fn record(self) -> BTreeMap<Interface, HostCalls> {
        self.calls
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_call_counts_and_time_is_that_of_the_call_that_was_answered() {
        let mut meter = Meter::default();
        meter.answered();
        meter.called(Interface::Study);
        meter.called(Interface::Volumes);
        std::hint::black_box((0..10_000u64).sum::<u64>());
        meter.answered();
        meter.answered();
        let record = meter.record();
        assert_eq!((record[&Interface::Study].calls, record[&Interface::Study].time), (1, Duration::ZERO));
        assert!(record[&Interface::Volumes].calls == 1 && record[&Interface::Volumes].time > Duration::ZERO);
    }
}
