//! What is known of a vendor's models: how fast they run, and how often they ended their worker.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::module::manifest::Sha256Hex;

/// Sizes of inputs of a model of which it is known how long they take.
const SIZES_MAX: usize = 32;
/// The first run of a size is no measure: engines plan for what they have not seen.
const RUNS_TO_KNOW: u32 = 2;
/// How long a model takes is believed so long after it ran.
const KNOWN_FOR: Duration = Duration::from_secs(600);

/// What is known of a vendor's models on a device: by digest, so that it holds whatever they are called.
#[derive(Debug, Default)]
pub(in crate::worker) struct Health(Mutex<HashMap<[u8; 32], Record>>);

#[derive(Debug, Clone, Default)]
pub(in crate::worker) struct Record {
    pub(super) name: String,
    /// Processes that ended with it, since a run that ended well.
    pub(in crate::worker) failures: u32,
    /// How the last one did.
    pub(super) last: String,
    /// Of one item of a batch, where it has batches.
    pub(in crate::worker) per_item: Option<Duration>,
    /// By bytes of inputs: how many runs, what the fastest took, and when the last was.
    fastest: BTreeMap<u64, (u32, Duration, Instant)>,
}

impl Record {
    /// A run of so many bytes of inputs ended well.
    pub(super) fn ran(&mut self, bytes: u64, took: Duration) {
        // Loading alone shows nothing: a model can end every run.
        self.failures = 0;
        if self.fastest.len() < SIZES_MAX || self.fastest.contains_key(&bytes) {
            let (runs, least, last) = self.fastest.entry(bytes).or_insert((0, took, Instant::now()));
            *runs = runs.saturating_add(1);
            *least = took.min(*least);
            *last = Instant::now();
        }
    }

    /// What a run of so many bytes takes at least: what the fastest of no more bytes took. Zero where that is not known, or was
    /// long ago: what is refused by it does not run, and would be refused for ever if the machine was slow for a while.
    pub(in crate::worker) fn takes(&self, bytes: u64) -> Duration {
        let is_known = |(runs, _, last): &(u32, Duration, Instant)| *runs >= RUNS_TO_KNOW && last.elapsed() < KNOWN_FOR;
        let known = self.fastest.range(..=bytes).rev().find(|(_, known)| is_known(known));
        known.map_or(Duration::ZERO, |(_, (_, least, _))| *least)
    }
}

impl Health {
    pub(in crate::worker) fn with<T>(&self, sha256: &[u8; 32], f: impl FnOnce(&mut Record) -> T) -> T {
        f(self.lock().entry(*sha256).or_default())
    }

    /// Models that failed so often, by name.
    pub(super) fn out_of_service(&self, failures_max: u32) -> Vec<OutOfService> {
        let records = self.lock();
        let out = records.iter().filter(|(_, record)| record.failures >= failures_max);
        let mut out: Vec<_> = out
            .map(|(sha256, Record { name, failures, last, .. })| OutOfService {
                model: name.clone(),
                sha256: Sha256Hex(*sha256),
                failures: *failures,
                last: last.clone(),
            })
            .collect();
        out.sort_by(|a, b| (&a.model, a.sha256.0).cmp(&(&b.model, b.sha256.0)));
        out
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<[u8; 32], Record>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A model that ended too many workers, `engines.model_failures_max`, and is not run until the node starts again.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct OutOfService {
    /// Its name in the package.
    pub model: String,
    /// SHA-256 of its file.
    pub sha256: Sha256Hex,
    /// Workers that ended with it, one after another.
    pub failures: u32,
    /// How the last one did.
    pub last: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_takes_at_least_what_the_fastest_of_no_more_bytes_took() {
        let ms = Duration::from_millis;
        let mut record = Record::default();
        record.ran(100, ms(9000));
        assert_eq!(record.takes(100), ms(0), "the first may have planned");
        record.ran(100, ms(50));
        record.ran(100, ms(70));
        record.ran(10, ms(5));
        assert_eq!([99, 100, 1 << 40].map(|bytes| record.takes(bytes)), [ms(0), ms(50), ms(50)]);
        record.ran(200, ms(80));
        record.ran(200, ms(90));
        assert_eq!([199, 200].map(|bytes| record.takes(bytes)), [ms(50), ms(80)]);
        (1000..2000).for_each(|bytes| record.ran(bytes, ms(1)));
        assert_eq!(record.fastest.len(), SIZES_MAX);
    }
}
