//! A model comes into a process, which is started where there is none, and others make room for it.

use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::inside::{Loaded, still_wanted};
use super::trouble::Trouble;
use super::{ModelFile, RemoteEngine, earlier};
use crate::findings::Urgency;
use crate::inference::{Batch, Call};
use crate::worker::host::{NoAnswer, NoStart, Worker};
use crate::worker::protocol::{Answer, Ask, Role, Start};

/// Freeing a model's memory.
const UNLOAD_MAX: Duration = Duration::from_secs(5);
/// Who loads a model waits so long for the place of one that others want and do not run.
const PATIENCE: Duration = Duration::from_secs(1);

impl RemoteEngine {
    /// Loads the model, into a new process where none runs. Who does so is the only one.
    pub(super) fn load(
        &self,
        file: &Arc<ModelFile>,
        call: &Call<'_>,
        used: &mut Option<Arc<Worker>>,
    ) -> Result<Loaded, Trouble> {
        let size = file.sealed.metadata().map_or(0, |found| found.len());
        *used = Some(self.process(call)?);
        self.make_room(file, size, None, call)?;
        // In the place of one that held too much.
        let worker = self.process(call)?;
        *used = Some(worker.clone());
        let number = {
            let mut inside = self.lock();
            inside.slot.models += 1;
            inside.slot.models
        };
        let load = self.common.config.load_deadline_ms;
        let (until, limit) = earlier(call.deadline, Duration::from_millis(load), ("engines.load_deadline_ms", load));
        let items = call.batch != Batch::Whole;
        let ask = Ask::Load { model: number, name: file.name.clone(), warm_up: file.warm_up.clone(), items };
        let loaded = match worker.ask(ask, &[file.sealed.as_fd()], until, &|| call.turn.is_cancelled()) {
            Ok(Answer::Loaded { inputs, outputs, resident_bytes }) => {
                let (file, running) = (file.clone(), Arc::default());
                Loaded { number, file, signature: Arc::new((inputs, outputs)), resident_bytes, running }
            }
            Ok(Answer::Failed { how, text }) => return Err(Trouble::Failed(how, text)),
            Ok(_) => return Err(Trouble::Died("answered what was not asked".into())),
            Err(NoAnswer::Late) => return Err(Trouble::Late(limit)),
            Err(no) => return Err(no.into()),
        };
        {
            let mut inside = self.lock();
            if !inside.slot.is_in(&worker) {
                return Err(Trouble::Stopped);
            }
            inside.slot.loaded.push(loaded.clone());
            inside.slot.had += 1;
            self.note(&inside);
        }
        // How much it takes is known only now.
        self.make_room(file, 0, Some(number), call)?;
        Ok(loaded)
    }

    /// The process, started where none runs. For the one who loads.
    fn process(&self, call: &Call<'_>) -> Result<Arc<Worker>, Trouble> {
        {
            let mut inside = self.lock();
            if let Some(worker) = inside.slot.worker.clone().filter(|worker| worker.is_running()) {
                return Ok(worker);
            }
            inside.slot.clear();
        }
        let start = Start::new(self.common.config.worker_memory_mib, Role::Engine(self.start.clone()));
        let accepted = &self.common.config.accept_missing;
        let unwanted = || call.turn.is_cancelled() || call.deadline.is_some_and(|deadline| Instant::now() >= deadline);
        let worker = crate::worker::begin(&self.program, &start, accepted, &unwanted).map_err(|no| match no {
            NoStart::Unwanted if !call.turn.is_cancelled() => Trouble::Late(None),
            no => Trouble::Start(no),
        })?;
        let _ = self.version.set(worker.engine_version().to_owned());
        let worker = Arc::new(worker);
        let mut inside = self.lock();
        inside.slot.started += 1;
        inside.slot.worker = Some(worker.clone());
        self.count(|metrics| metrics.worker_started(&self.vendor, &self.device_name(), inside.slot.started > 1));
        self.note(&inside);
        Ok(worker)
    }

    /// Lets go of what was not used for the longest time, until so many bytes more fit. Before a model is loaded, it waits for those
    /// that run, and a moment for those that wait for their turn unless itself is urgent: others may wait for it to have loaded. A
    /// process that holds more than its models took is ended when nobody uses it: that gives all of it back. What was just loaded
    /// is kept.
    fn make_room(&self, file: &ModelFile, size: u64, loaded: Option<u64>, call: &Call<'_>) -> Result<(), Trouble> {
        let (most, before, since) = (self.common.config.models_memory_mib << 20, loaded.is_none(), Instant::now());
        loop {
            let (worker, oldest) = {
                let mut inside = self.lock();
                loop {
                    let Some(worker) = inside.slot.worker.clone() else { return Err(Trouble::Stopped) };
                    let fits = inside.slot.resident().saturating_add(size) <= most;
                    let hurry = call.turn.is_at_least(Urgency::Urgent) || since.elapsed() >= PATIENCE;
                    if let Some(place) = inside.slot.dispensable(loaded, hurry).filter(|_| !fits) {
                        break (worker, Some(inside.slot.loaded.remove(place)));
                    }
                    if fits || !before || inside.slot.loaded.is_empty() {
                        break (worker, None);
                    }
                    still_wanted(file, call)?;
                    inside = self.wait(inside);
                }
            };
            let Some(oldest) = oldest else { break };
            let until = Instant::now() + UNLOAD_MAX;
            match worker.ask(Ask::Unload { model: oldest.number }, &[], until, &|| call.turn.is_cancelled()) {
                Ok(_) => self.note(&self.lock()),
                // The job's deadline has nothing to do with it.
                Err(NoAnswer::Late) => return Err(Trouble::Died("did not let go of a model".into())),
                Err(no) => return Err(no.into()),
            }
        }
        if before {
            self.replace_if_it_holds(most.saturating_sub(size));
        }
        Ok(())
    }

    /// Ends a process that holds more than so much, unless somebody else uses it: what was let go of is not always given back.
    fn replace_if_it_holds(&self, more_than: u64) {
        let mut inside = self.lock();
        let Some(worker) = inside.slot.worker.clone() else { return };
        let held = worker.bytes_of_models().unwrap_or(0);
        let is_wanted = inside.using > 1 || inside.slot.loaded.iter().any(Loaded::is_wanted);
        if held > more_than && !is_wanted && inside.slot.had > 0 {
            tracing::info!(vendor = self.vendor, held, "a worker holds more than its models may take, and is replaced");
            inside.slot.clear();
            self.note(&inside);
            drop(inside);
            worker.stop();
        }
    }
}
