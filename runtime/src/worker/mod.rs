//! What reads others' bytes with code that was not made for an enemy's runs in processes of their own, started from the same
//! program: engines, one process for each vendor and device; the compiler of components, one for each; and, where the site
//! chose that, decoders of compressed pixel data, for one study.
//!
//! ```text
//! host: Engines ─▶ RemoteEngine ─ socket, sealed files in memory ─▶ gantry worker: cage ─▶ Engine (tract, ONNX Runtime)
//!       Sandbox ─▶ Compiler     ─                 "               ─▶                    ─▶ wasmtime's compiler
//!       study   ─▶ Decoders     ─                 "               ─▶                    ─▶ RLE, JPEG, JPEG 2000, JPEG XL
//! ```
//!
//! A vendor's weights are parsed by native libraries that were not made for an enemy's files. What such a library does
//! wrong ends a process that has no file, no network, no other program, no memory without end, and one vendor's models.
//!
//! Read on in this order: `protocol`, `shared` (files in memory), `cage`, `child` (the worker), `host` (its process),
//! `remote` (an engine, as the host sees it), `model` (a model of it), `join` (runs of several jobs); `compile` and `decode` (both
//! sides of these). `trusted_code` has what is unsafe.

mod cage;
mod child;
mod choice;
mod compile;
mod decode;
mod host;
mod join;
pub mod list;
mod model;
mod protocol;
mod remote;
mod shared;
mod trusted_code;

use std::path::{Path, PathBuf};

pub use cage::{Kept, Probe};
pub use child::{StartOf, Tools, run};
pub use choice::{Program, Wall};
pub use compile::Compile;
pub(crate) use compile::{Compiler, NoCode};
pub(crate) use decode::NoFrame;
pub use decode::{Decode, Decoders};
pub(crate) use remote::{Common, RemoteEngine};
pub use remote::{OutOfService, WorkerReport};
pub(crate) use shared::{Mapped, of as in_memory};

use crate::config::{Config, Limits};
use crate::inference::{Device, EngineConfig, InferenceError, Provider};

/// What the engine of a worker is to be, by the operator's choices.
pub(crate) fn start(
    config: &EngineConfig,
    library: Option<PathBuf>,
    device: Device,
    threads: usize,
) -> protocol::EngineRole {
    let (contexts, execution) = (config.runs_at_once_max, config.execution(device));
    protocol::EngineRole { library, device, execution, threads, contexts, model_max_mib: config.model_max_mib }
}

/// Starts a worker, unless a wall that must stand does not.
fn begin(
    program: &Program,
    start: &protocol::Start,
    accept_missing: &[Wall],
    unwanted: &dyn Fn() -> bool,
) -> Result<host::Worker, host::NoStart> {
    let worker = host::Worker::start(program, start, unwanted)?;
    if let Some((wall, why)) = unaccepted(worker.kept(), accept_missing) {
        return Err(host::NoStart::Process(format!(
            "{} does not hold a worker on this machine ({why}); `gantry doctor` tells more. To go on all the same, accept it by name: engines.accept_missing = [\"{}\"]",
            wall.name(),
            wall.name()
        )));
    }
    Ok(worker)
}

/// The first wall that must stand, does not, and was not accepted by name; and why it does not.
fn unaccepted<'k>(kept: &'k [Kept], accept_missing: &[Wall]) -> Option<(Wall, &'k str)> {
    let missing = kept.iter().filter_map(|kept| Some((kept.wall, kept.missing.as_deref()?)));
    missing.into_iter().find(|(wall, _)| wall.is_required() && !accept_missing.contains(wall))
}

/// Starts a worker of each kind that a node of this configuration may need later and not at once, and ends it: one for components
/// that are not compiled yet, and one for frames where the site chose that. That for models starts when a node vets them.
///
/// # Errors
/// Why there is none, for people: a wall does not stand, and was not accepted.
pub fn stand(config: &Config) -> Result<(), String> {
    let told = |e: std::io::Error| format!("the system does not say which program this is: {e}");
    let Some(program) = config.engines.isolation.program().map_err(told)? else { return Ok(()) };
    let roles = [
        (!config.modules.is_empty(), config.limits.compile_memory_mib, protocol::Role::Compile),
        (config.engines.decode_in_worker, config.limits.decode_memory_mib, protocol::Role::Decode),
    ];
    for (_, memory_mib, role) in roles.into_iter().filter(|(is_used, ..)| *is_used) {
        let start = protocol::Start::new(memory_mib, role);
        begin(&program, &start, &config.engines.accept_missing, &|| false).map_err(told_no)?;
    }
    Ok(())
}

/// Why there is no worker, for people.
fn told_no(no: host::NoStart) -> String {
    match no {
        host::NoStart::Engine(_, text) => crate::printable(&text),
        host::NoStart::Process(text) => text,
        host::NoStart::Unwanted => "nobody waits for it".into(),
    }
}

/// The host broke the protocol: a fault of ours.
fn misused(what: &str) -> InferenceError {
    InferenceError::Input(format!("the worker was asked for what cannot be: {what}"))
}

/// What a worker tried of itself.
#[derive(Debug)]
pub struct Tried {
    /// What it is for.
    pub role: &'static str,
    /// Its walls.
    pub kept: Vec<Kept>,
    /// What it gave up.
    pub probes: Vec<Probe>,
}

/// Starts a worker of each kind for nobody, has it try everything that it gave up and to open what `others` have, and ends it. The
/// walls around models on a GPU are tried whether or not there is one.
///
/// # Errors
/// Why there is no worker, for people.
pub fn self_check(
    config: &EngineConfig,
    limits: &Limits,
    program: &Program,
    library: Option<PathBuf>,
    others: &[PathBuf],
) -> Result<Vec<Tried>, String> {
    let engine = |device| start(config, library.clone(), device, 1);
    let roles = [
        ("models", config.worker_memory_mib, protocol::Role::Engine(engine(Device::Cpu))),
        ("models on a GPU", config.worker_memory_mib, protocol::Role::Walls(engine(Device::Gpu))),
        ("compiling", limits.compile_memory_mib, protocol::Role::Compile),
        ("decoding", limits.decode_memory_mib, protocol::Role::Decode),
    ];
    let tried = roles.into_iter().map(|(name, memory_mib, role)| {
        let worker = for_nobody(program, memory_mib, role)?;
        let probes =
            worker.probe(others).map_err(|no| format!("the worker for {name} that was tried is lost: {no:?}"))?;
        Ok(Tried { role: name, kept: worker.kept().to_vec(), probes })
    });
    tried.collect()
}

fn for_nobody(program: &Program, memory_mib: u64, role: protocol::Role) -> Result<host::Worker, String> {
    host::Worker::start(program, &protocol::Start::new(memory_mib, role), &|| false).map_err(told_no)
}

/// An engine that came up in a worker.
#[derive(Debug)]
pub struct Found {
    /// Its name and version, and what runs models.
    pub version: String,
    /// What its library was built for.
    pub providers: Vec<Provider>,
}

/// Starts a worker with an engine on a device, as the configuration has it, and ends it.
///
/// # Errors
/// Why there is none, for people.
pub fn find(
    config: &EngineConfig,
    program: &Program,
    library: Option<PathBuf>,
    device: Device,
) -> Result<Found, String> {
    let role = protocol::Role::Engine(start(config, library, device, 1));
    let worker = for_nobody(program, config.worker_memory_mib, role)?;
    Ok(Found { version: worker.engine_version().to_owned(), providers: worker.providers().to_vec() })
}

/// Files and folders that workers of a device can read.
#[must_use]
pub fn left_open(config: &EngineConfig, library: Option<&Path>, device: Device) -> Vec<PathBuf> {
    cage::readable(&cage::Reach::of(device, config.execution(device).provider, library))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wall_that_is_missing_must_be_accepted_by_its_name() {
        let kept = |wall, missing: Option<&str>| Kept { wall, missing: missing.map(str::to_owned), partly: None };
        let whole = [Wall::Namespaces, Wall::Limits, Wall::Landlock, Wall::Seccomp].map(|wall| kept(wall, None));
        assert_eq!(unaccepted(&whole, &[]), None);
        assert_eq!(unaccepted(&[kept(Wall::Namespaces, Some("forbidden"))], &[]), None, "the others hold as much");
        let two = [kept(Wall::Landlock, Some("no Landlock")), kept(Wall::Seccomp, Some("no seccomp"))];
        assert_eq!(unaccepted(&two, &[]), Some((Wall::Landlock, "no Landlock")));
        assert_eq!(unaccepted(&two, &[Wall::Landlock, Wall::Limits]), Some((Wall::Seccomp, "no seccomp")));
        assert_eq!(unaccepted(&two, &[Wall::Seccomp, Wall::Landlock]), None);
    }
}
