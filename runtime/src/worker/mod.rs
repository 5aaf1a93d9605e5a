//! Engines run in processes of their own, one for each vendor and device, started from the same program.
//!
//! ```text
//! host: Engines ─▶ RemoteEngine ─ socket, sealed files in memory ─▶ gantry worker: cage ─▶ Engine (tract, ONNX Runtime)
//! ```
//!
//! A vendor's weights are parsed by native libraries that were not made for an enemy's files. What such a library does
//! wrong ends a process that has no file, no network, no other program, no memory without end, and one vendor's models.
//!
//! Read on in this order: `protocol`, `shared` (files in memory), `cage`, `child` (the worker), `host` (its process),
//! `remote` (an engine, as the host sees it), `model` (a model of it), `join` (runs of several jobs). `trusted_code` has what
//! is unsafe.

mod cage;
mod child;
mod choice;
mod host;
mod join;
pub mod list;
mod model;
mod protocol;
mod remote;
mod shared;
mod trusted_code;

use std::path::PathBuf;

pub use cage::{Kept, Probe};
pub use child::{StartOf, run};
pub use choice::{Program, Wall};
pub use remote::WorkerReport;
pub(crate) use remote::{Common, RemoteEngine};
pub(crate) use shared::Mapped;

use crate::inference::{Device, EngineConfig};

/// What the engine of a worker is to be, by the operator's choices.
pub(crate) fn start(
    config: &EngineConfig,
    library: Option<PathBuf>,
    device: Device,
    threads: usize,
) -> protocol::EngineRole {
    let contexts = config.runs_at_once_max;
    protocol::EngineRole { library, device, threads, contexts, model_max_mib: config.model_max_mib }
}

/// Starts a worker for nobody, has it try everything that it gave up, and ends it.
///
/// # Errors
/// Why there is no worker, for people.
pub fn self_check(
    config: &EngineConfig,
    program: &Program,
    library: Option<PathBuf>,
) -> Result<(Vec<Kept>, Vec<Probe>), String> {
    let role = protocol::Role::Engine(start(config, library, Device::Cpu, 1));
    let start = protocol::Start::new(config.worker_memory_mib, role);
    let worker = host::Worker::start(program, &start, &|| false).map_err(|no| match no {
        host::NoStart::Engine(_, text) => crate::printable(&text),
        host::NoStart::Process(text) => text,
        host::NoStart::Unwanted => "nobody waits for it".into(),
    })?;
    let probes = worker.probe().map_err(|no| format!("the worker that was to be tried is lost: {no:?}"))?;
    Ok((worker.kept().to_vec(), probes))
}
