//! What is in the process of a worker, and who uses it.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use super::trouble::Trouble;
use super::{ModelFile, RemoteEngine};
use crate::inference::{Call, InferenceError, TensorSpec};
use crate::worker::host::Worker;

/// What is in the process, and who is. Locked for moments only.
#[derive(Default)]
pub(super) struct Inside {
    pub(super) slot: Slot,
    /// Somebody starts the process, or loads into it.
    pub(super) loading: bool,
    /// Who loads or runs in it, and how many did so far.
    pub(super) using: usize,
    pub(super) begun: u64,
    /// One of them has it alone, or waits for the others to end.
    pub(super) alone: bool,
}

/// The process, when there is one, and its models.
#[derive(Default)]
pub(super) struct Slot {
    pub(super) worker: Option<Arc<Worker>>,
    /// The one that was used last is last.
    pub(super) loaded: Vec<Loaded>,
    /// Models that were loaded: into any process, and into this one.
    pub(super) models: u64,
    pub(super) had: u64,
    pub(super) started: u64,
}

/// A model in a process. Whoever has a clone of it runs it, or waits for its turn to.
#[derive(Clone)]
pub(in crate::worker) struct Loaded {
    /// What the process calls it.
    pub(in crate::worker) number: u64,
    pub(super) file: Arc<ModelFile>,
    pub(super) signature: Arc<(Vec<TensorSpec>, Vec<TensorSpec>)>,
    pub(super) resident_bytes: u64,
    /// Runs of it.
    pub(super) running: Arc<AtomicUsize>,
}

/// The process, for one who may run in it.
pub(super) type Entered<'e> = (Use<'e>, Arc<Worker>);

/// Whom a try has the process with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Room {
    /// With others.
    Shared,
    /// Nobody else uses it meanwhile; their models are still there.
    Alone,
    /// Nor was another model ever in it.
    Fresh,
}

/// Somebody uses the process, until it is dropped.
pub(super) struct Use<'e> {
    engine: &'e RemoteEngine,
    /// How many had begun, itself included, and whether nobody else was there.
    begun: u64,
    first: bool,
    loads: bool,
    alone: bool,
    runs: Option<Arc<AtomicUsize>>,
}

impl Use<'_> {
    /// Whether nobody else used the process meanwhile.
    fn was_alone(&self) -> bool {
        self.first && self.engine.lock().begun == self.begun
    }
}

impl Drop for Use<'_> {
    fn drop(&mut self) {
        let mut inside = self.engine.lock();
        inside.using -= 1;
        inside.loading &= !self.loads;
        inside.alone &= !self.alone;
        if let Some(runs) = &self.runs {
            runs.fetch_sub(1, Ordering::Relaxed);
        }
        self.engine.changed.notify_all();
    }
}

impl RemoteEngine {
    /// The model in a process that runs; started and loaded, where it is not, without a device.
    pub(super) fn loaded(&self, file: &Arc<ModelFile>, call: &Call<'_>, room: Room) -> Result<Loaded, (Trouble, bool)> {
        let alone = room != Room::Shared;
        let mut inside = self.lock();
        let using = loop {
            // One that is to have the process alone waits for who loads into it as well.
            if !(inside.alone || alone && inside.loading) {
                let found = inside.slot.find(file);
                if let Some(loaded) = found.filter(|_| room != Room::Fresh || inside.slot.had == 1) {
                    return Ok(loaded);
                }
                if !inside.loading {
                    break self.begin(&mut inside, alone, true, None);
                }
            }
            still_wanted(file, call).map_err(|no| (no, true))?;
            inside = self.wait(inside);
        };
        // From here on nobody begins; those who run come to their end.
        while alone && inside.using > 1 {
            if let Err(no) = still_wanted(file, call) {
                drop(inside);
                return Err((no, true));
            }
            inside = self.wait(inside);
        }
        let crowded = inside.slot.worker.clone().filter(|_| room == Room::Fresh && inside.slot.had > 0);
        if let Some(worker) = crowded {
            inside.slot.clear();
            self.note(&inside);
            drop(inside);
            worker.stop();
        } else {
            drop(inside);
        }
        let mut worker = None;
        let done = self.load(file, call, &mut worker);
        self.leave(&using, worker.as_ref(), done)
    }

    /// Uses the process for a run. Nothing where the model is not there any more, or somebody has the process alone: whoever has the
    /// device does not wait for that.
    pub(super) fn enter(
        &self,
        loaded: &Loaded,
        call: &Call<'_>,
        alone: bool,
    ) -> Result<Option<Entered<'_>>, (Trouble, bool)> {
        let mut inside = self.lock();
        if inside.alone || alone && inside.loading || !inside.slot.has(loaded.number) {
            return Ok(None);
        }
        inside.slot.used(loaded.number);
        let using = self.begin(&mut inside, alone, false, Some(loaded.running.clone()));
        // Those who run have a device too.
        while alone && inside.using > 1 {
            if let Err(no) = still_wanted(&loaded.file, call) {
                drop(inside);
                return Err((no, true));
            }
            inside = self.wait(inside);
        }
        let worker = inside.slot.worker.clone().filter(|_| inside.slot.has(loaded.number));
        drop(inside);
        Ok(worker.map(|worker| (using, worker)))
    }

    fn begin(&self, inside: &mut Inside, alone: bool, loads: bool, runs: Option<Arc<AtomicUsize>>) -> Use<'_> {
        let first = inside.using == 0;
        inside.using += 1;
        inside.begun += 1;
        inside.loading |= loads;
        inside.alone |= alone;
        if let Some(runs) = &runs {
            runs.fetch_add(1, Ordering::Relaxed);
        }
        Use { engine: self, begun: inside.begun, first: first || alone, loads, alone, runs }
    }

    /// What came of using a process, which ends where it is of no use any more; also whether it was used alone.
    pub(super) fn leave<T>(
        &self,
        using: &Use<'_>,
        worker: Option<&Arc<Worker>>,
        done: Result<T, Trouble>,
    ) -> Result<T, (Trouble, bool)> {
        done.map_err(|trouble| {
            let was_alone = using.was_alone();
            let Some(worker) = worker else { return (trouble, was_alone) };
            let mut inside = self.lock();
            let is_in = inside.slot.is_in(worker);
            // One that is being loaded is not in it yet.
            let among_others = is_in && inside.slot.had > u64::from(!using.loads);
            let trouble = if among_others { trouble.among_others(self.start.device) } else { trouble };
            if trouble.ends_process() {
                if is_in {
                    inside.slot.clear();
                    self.note(&inside);
                }
                drop(inside);
                worker.stop();
            }
            (trouble, was_alone)
        })
    }
}

/// Whether whoever waits for a process still does.
pub(super) fn still_wanted(file: &ModelFile, call: &Call<'_>) -> Result<(), Trouble> {
    let model = || file.name.clone();
    if call.turn.is_cancelled() {
        return Err(Trouble::Other(InferenceError::Cancelled { model: model() }));
    }
    match call.deadline.is_some_and(|deadline| Instant::now() >= deadline) {
        true => Err(Trouble::Other(InferenceError::Deadline { model: model() })),
        false => Ok(()),
    }
}

impl Loaded {
    /// Whether somebody runs it, or waits for its turn to: the slot's own is one.
    pub(super) fn is_wanted(&self) -> bool {
        Arc::strong_count(&self.running) > 1
    }

    pub(super) fn is_running(&self) -> bool {
        self.running.load(Ordering::Relaxed) > 0
    }
}

impl Slot {
    pub(super) fn is_running(&self) -> bool {
        self.worker.as_ref().is_some_and(|worker| worker.is_running())
    }

    pub(super) fn is_in(&self, worker: &Arc<Worker>) -> bool {
        self.worker.as_ref().is_some_and(|own| Arc::ptr_eq(own, worker))
    }

    /// The model in a process that runs.
    fn find(&self, file: &ModelFile) -> Option<Loaded> {
        let loaded = self.loaded.iter().find(|loaded| loaded.file.sha256 == file.sha256)?;
        self.is_running().then(|| loaded.clone())
    }

    /// Whether it still has this one. No number is given twice, whatever process it is.
    pub(super) fn has(&self, number: u64) -> bool {
        self.loaded.iter().any(|loaded| loaded.number == number) && self.is_running()
    }

    fn used(&mut self, number: u64) {
        if let Some(place) = self.loaded.iter().position(|loaded| loaded.number == number) {
            let loaded = self.loaded.remove(place);
            self.loaded.push(loaded);
        }
    }

    /// Which can go, the longest unused first: one that nobody wants, else, in a hurry, one that nobody runs.
    pub(super) fn dispensable(&self, keep: Option<u64>, hurry: bool) -> Option<usize> {
        let first = |is: &dyn Fn(&Loaded) -> bool| self.loaded.iter().position(|l| Some(l.number) != keep && is(l));
        first(&|loaded| !loaded.is_wanted()).or_else(|| hurry.then(|| first(&|loaded| !loaded.is_running()))?)
    }

    /// Without a process; what was in it is gone. One that others still use ends with them.
    pub(super) fn clear(&mut self) {
        self.worker = None;
        self.loaded.clear();
        self.had = 0;
    }

    pub(super) fn resident(&self) -> u64 {
        self.loaded.iter().map(|loaded| loaded.resident_bytes).sum()
    }
}
