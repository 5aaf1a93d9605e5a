//! Why a try did not end well, and what the job is told.

use super::{ModelFile, RemoteEngine};
use crate::inference::{Device, EngineConfig, InferenceError, NoTurn};
use crate::worker::host::{NoAnswer, NoStart};
use crate::worker::protocol::Failure;

/// Why a try did not end well.
pub(in crate::worker) enum Trouble {
    Died(String),
    /// The process was refused memory and ended: its words.
    OutOfMemory(String),
    /// It had not the memory, and other models were in its process, or had been: the words of whoever refused it.
    Crowded(String),
    /// The process was ended because of somebody else's run.
    Stopped,
    /// Its deadline, or one of the configuration: its name and value.
    Late(Option<(&'static str, u64)>),
    Unwanted,
    Failed(Failure, String),
    Start(NoStart),
    NoTurn(NoTurn),
    Other(InferenceError),
}

impl Trouble {
    /// Whether the process is of no use any more.
    pub(super) fn ends_process(&self) -> bool {
        matches!(self, Self::Died(_) | Self::OutOfMemory(_) | Self::Crowded(_) | Self::Late(_) | Self::Unwanted)
    }

    /// The same, of a model that was not the only one in its process on this device.
    pub(super) fn among_others(self, device: Device) -> Self {
        match self {
            Self::OutOfMemory(words) => Self::Crowded(words),
            Self::Failed(how, words) if how != Failure::Input && device == Device::Cpu && tells_of_memory(&words) => {
                Self::Crowded(crate::printable(&words))
            }
            other => other,
        }
    }
}

impl From<NoAnswer> for Trouble {
    fn from(no: NoAnswer) -> Self {
        match no {
            NoAnswer::Died(how) => Self::Died(how),
            NoAnswer::OutOfMemory(words) => Self::OutOfMemory(words),
            NoAnswer::Stopped => Self::Stopped,
            NoAnswer::Late => Self::Late(None),
            NoAnswer::Unwanted => Self::Unwanted,
        }
    }
}

impl RemoteEngine {
    /// What is not tried again.
    pub(super) fn final_error(&self, file: &ModelFile, trouble: Trouble) -> InferenceError {
        let model = file.name.clone();
        let refused = |reason| self.count_of(&file.name, |metrics, model| metrics.run_refused(model, reason));
        match trouble {
            Trouble::Died(how) => InferenceError::Crashed { model, how },
            Trouble::OutOfMemory(words) => {
                refused("memory");
                self.failed(file, "took more memory than engines.worker_memory_mib allows");
                InferenceError::OutOfMemory { model, mib: self.common.config.worker_memory_mib, reason: words }
            }
            Trouble::Crowded(words) => {
                refused("memory");
                let EngineConfig { worker_memory_mib: worker, models_memory_mib: models, .. } = self.common.config;
                let reason = format!(
                    "other models of its vendor hold what its worker may have (engines.worker_memory_mib = {worker}, \
                     engines.models_memory_mib = {models}): {words}"
                );
                InferenceError::Busy { device: self.start.device, reason }
            }
            Trouble::Stopped => {
                let how = "was ended again and again because of other runs of its vendor".into();
                InferenceError::Crashed { model, how }
            }
            Trouble::Late(limit) => {
                refused("deadline");
                match limit {
                    Some((limit, ms)) => {
                        self.failed(file, "did not end in time, and was ended");
                        InferenceError::TooLong { model, limit, ms }
                    }
                    // A job that came late says nothing of the model.
                    None => InferenceError::Deadline { model },
                }
            }
            Trouble::Unwanted | Trouble::Start(NoStart::Unwanted) => InferenceError::Cancelled { model },
            Trouble::Failed(how, text) | Trouble::Start(NoStart::Engine(how, text)) => {
                self.error(&file.name, how, &text)
            }
            Trouble::Start(NoStart::Process(reason)) => {
                InferenceError::EngineUnavailable { engine: self.kind(), reason }
            }
            Trouble::NoTurn(no) => {
                refused(match no {
                    NoTurn::Full(_) => "queue-full",
                    NoTurn::TooOld(_) => "queue-age",
                    NoTurn::Late(_) => "late",
                    NoTurn::Cancelled => "cancelled",
                });
                self.no_turn(model, &no)
            }
            Trouble::Other(error) => {
                if matches!(error, InferenceError::Deadline { .. } | InferenceError::TooLong { .. }) {
                    refused("deadline");
                }
                error
            }
        }
    }

    fn no_turn(&self, model: String, no: &NoTurn) -> InferenceError {
        let device = self.start.device;
        match no {
            NoTurn::Full(waiting) => {
                InferenceError::Busy { device, reason: format!("{waiting} runs wait for it, engines.queue_length_max") }
            }
            NoTurn::TooOld(age) => {
                let (ms, most) = (age.as_millis(), self.common.config.queue_age_max_ms);
                let reason = format!("the run waited {ms} ms for it, engines.queue_age_max_ms = {most}");
                InferenceError::Busy { device, reason }
            }
            NoTurn::Late(why) => InferenceError::TooLate { model, limit: "job_deadline_ms", why: *why },
            NoTurn::Cancelled => InferenceError::Cancelled { model },
        }
    }

    pub(in crate::worker) fn error(&self, model: &str, how: Failure, text: &str) -> InferenceError {
        let (engine, model) = (self.kind(), model.to_owned());
        let reason = crate::printable(text);
        match how {
            // A GPU's memory is no limit of the worker, and another time there is more of it.
            Failure::Load | Failure::Run | Failure::Memory
                if self.start.device == Device::Cpu && tells_of_memory(&reason) =>
            {
                InferenceError::OutOfMemory { model, mib: self.common.config.worker_memory_mib, reason }
            }
            Failure::Input => InferenceError::Input(reason),
            Failure::Refused => InferenceError::Refused { model, reason },
            Failure::Load => InferenceError::Load { engine, model, reason },
            Failure::Unsupported => InferenceError::Unsupported { device: self.start.device, model, reason },
            Failure::Deadline => InferenceError::Deadline { model },
            Failure::Engine => InferenceError::EngineUnavailable { engine, reason },
            Failure::Device => InferenceError::DeviceUnavailable { device: self.start.device, reason },
            Failure::Run | Failure::Memory => InferenceError::Run { engine, model, reason },
        }
    }
}

/// Whether an engine's own words say that it was refused memory: those of C++ and of ONNX Runtime's arena.
fn tells_of_memory(text: &str) -> bool {
    ["bad_alloc", "bad allocation", "Failed to allocate memory for requested buffer"].iter().any(|w| text.contains(w))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_engine_that_was_refused_memory_is_known_by_its_words() {
        for words in [
            "std::bad_alloc",
            "Exception during initialization: bad allocation",
            "Failed to allocate memory for requested buffer of size 107374182400",
        ] {
            assert!(tells_of_memory(words), "{words}");
        }
        assert!(!tells_of_memory("Non-zero status code returned while running MatMul node"));
    }
}
