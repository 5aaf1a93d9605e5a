//! `[engines]`: what the operator chooses about inference.

use std::path::PathBuf;

use super::execution::{self, CpuConfig, Device, Execution, GpuConfig, Provider};
use crate::worker::{Program, Wall};

/// Which engine to use.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum EnginePreference {
    /// ONNX Runtime where its library is found, tract where not.
    #[default]
    Auto,
    /// Always tract.
    Tract,
    /// Always ONNX Runtime; an error where its library is not found.
    OnnxRuntime,
}

/// Where engines run, components are compiled, and frames are decoded where that is not to be in this process.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Isolation {
    /// In processes of this program.
    #[default]
    OwnProgram,
    /// In processes of another one, which calls [`crate::worker::run`].
    Program(Program),
    /// Here: what a model does to an engine, or a component to its compiler, it does to this process.
    SameProcess,
}

impl Isolation {
    /// The program of workers; `None` in the same process.
    ///
    /// # Errors
    /// The system does not say what this program is.
    pub fn program(&self) -> std::io::Result<Option<Program>> {
        match self {
            Self::OwnProgram => Program::own().map(Some),
            Self::Program(program) => Ok(Some(program.clone())),
            Self::SameProcess => Ok(None),
        }
    }
}

/// The operator's choices about inference.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct EngineConfig {
    /// Which engine to use.
    pub engine: EnginePreference,
    /// ONNX Runtime's shared library. Looked for when not given: see [`find_library`](super::find_library).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub onnxruntime_library: Option<PathBuf>,
    /// Threads that one run uses; 0 for the processors, divided among `runs_at_once_max`.
    pub intra_threads: usize,
    /// Whether a model that asks for a GPU may run on the CPU where it cannot have one. The result says so.
    pub gpu_fallback_to_cpu: bool,
    /// Private memory of one worker, MiB; also the most that one output may have.
    pub worker_memory_mib: u64,
    /// A model that is not loaded by then is refused, and its worker ended, ms.
    pub load_deadline_ms: u64,
    /// A run that takes longer is ended with its worker, ms. A job's own deadline ends it earlier.
    pub compute_deadline_ms: u64,
    /// Loaded models of one worker, MiB: those that were not used for the longest time go.
    pub models_memory_mib: u64,
    /// A model that ended so many workers, with no run that ended well in between, is not run any more.
    pub model_failures_max: u32,
    /// Runs that use one device at once; a worker keeps as many contexts of each model.
    pub runs_at_once_max: usize,
    /// Runs that wait for one device.
    pub queue_length_max: usize,
    /// A run that waited so long is refused, ms; 0: none is.
    pub queue_age_max_ms: u64,
    /// A run that waited so long goes next but for what is critical, and then in turn with what is urgent, ms.
    pub routine_wait_max_ms: u64,
    /// How long a routine run with a batch may hold a device, as far as that can be foreseen, ms.
    pub device_slice_ms_max: u64,
    /// Whether compressed pixel data are decoded in workers too, rather than in the process that reads them.
    pub decode_in_worker: bool,
    /// Walls around workers that this machine need not have; not `namespaces`, without which they start anyway.
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "walls")]
    pub accept_missing: Vec<Wall>,
    /// What runs models on processors.
    pub cpu: CpuConfig,
    /// What runs models on a GPU, and on which.
    pub gpu: GpuConfig,
    /// Where engines run: no choice of a file.
    #[serde(skip)]
    pub isolation: Isolation,
    /// Models larger than this are refused, MiB: `limits.model_max_mib`.
    #[serde(skip, default = "model_max_mib")]
    pub model_max_mib: u64,
}

/// By their names; of those that are none, what could be meant is told, and not what need not be accepted.
fn walls<'de, D: serde::Deserializer<'de>>(names: D) -> Result<Vec<Wall>, D::Error> {
    let known = |name: String| {
        Wall::ALL.into_iter().find(|wall| wall.name() == name).ok_or_else(|| {
            let required = Wall::ALL.into_iter().filter(|wall| wall.is_required()).map(Wall::name);
            let all = required.collect::<Vec<_>>().join(", ");
            serde::de::Error::custom(format!("there is no wall `{name}`; what can be accepted as missing: {all}"))
        })
    };
    <Vec<String> as serde::Deserialize>::deserialize(names)?.into_iter().map(known).collect()
}

fn model_max_mib() -> u64 {
    1024
}

impl Default for EngineConfig {
    fn default() -> Self {
        Self {
            engine: EnginePreference::Auto,
            onnxruntime_library: None,
            intra_threads: 0,
            gpu_fallback_to_cpu: false,
            worker_memory_mib: 8192,
            load_deadline_ms: 120_000,
            compute_deadline_ms: 600_000,
            models_memory_mib: 4096,
            model_failures_max: 3,
            runs_at_once_max: 1,
            queue_length_max: 1000,
            queue_age_max_ms: 0,
            routine_wait_max_ms: 30_000,
            device_slice_ms_max: 500,
            decode_in_worker: false,
            accept_missing: Vec::new(),
            cpu: CpuConfig::default(),
            gpu: GpuConfig::default(),
            isolation: Isolation::OwnProgram,
            model_max_mib: model_max_mib(),
        }
    }
}

impl EngineConfig {
    /// Name, value, least and most of each number.
    pub(crate) fn ranges(&self) -> Vec<(&'static str, u64, u64, u64)> {
        let day_ms = 24 * 3_600_000;
        vec![
            ("intra_threads", self.intra_threads as u64, 0, 1024),
            ("worker_memory_mib", self.worker_memory_mib, 64, 1 << 22),
            ("load_deadline_ms", self.load_deadline_ms, 100, day_ms),
            ("compute_deadline_ms", self.compute_deadline_ms, 100, day_ms),
            ("models_memory_mib", self.models_memory_mib, 1, 1 << 22),
            ("model_failures_max", self.model_failures_max.into(), 1, 1000),
            ("runs_at_once_max", self.runs_at_once_max as u64, 1, 256),
            ("queue_length_max", self.queue_length_max as u64, 1, 1_000_000),
            ("queue_age_max_ms", self.queue_age_max_ms, 0, day_ms),
            ("routine_wait_max_ms", self.routine_wait_max_ms, 0, day_ms),
            ("device_slice_ms_max", self.device_slice_ms_max, 1, day_ms),
            ("gpu.index", self.gpu.index.into(), 0, 63),
            ("gpu.memory_max_mib", self.gpu.memory_max_mib, 0, 1 << 22),
        ]
    }

    /// Whatever is no range: what cannot be together, and what need not be said.
    pub(crate) fn check(&self) -> Result<(), String> {
        self.cpu.check()?;
        self.gpu.check()?;
        if self.engine == EnginePreference::Tract && self.cpu.provider == Provider::OpenVino {
            return Err(
                "engines.cpu.provider = \"openvino\" is a part of ONNX Runtime, and engines.engine = \"tract\": change either".into(),
            );
        }
        match self.accept_missing.iter().find(|wall| !wall.is_required()) {
            Some(wall) => Err(format!(
                "engines.accept_missing has \"{}\", which need not be accepted: workers start without it",
                wall.name()
            )),
            None => Ok(()),
        }
    }

    /// How models run on a device.
    #[must_use]
    pub fn execution(&self, device: Device) -> Execution {
        execution::chosen(device, &self.cpu, &self.gpu)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_configuration_is_read_strictly_with_defaults() {
        let config: EngineConfig = toml::from_str("engine = \"onnx-runtime\"\nintra_threads = 3").expect("valid");
        assert_eq!((config.engine, config.intra_threads), (EnginePreference::OnnxRuntime, 3));
        assert!(!config.gpu_fallback_to_cpu, "refused unless allowed");
        assert!(toml::from_str::<EngineConfig>("intra_thread = 3").is_err());
        let missing = |wall: &str| toml::from_str::<EngineConfig>(&format!("accept_missing = [\"{wall}\"]"));
        assert!(missing("landlock").expect("a wall").check().is_ok());
        let unknown = missing("roof").expect_err("no wall").to_string();
        assert!(
            unknown.contains("no wall `roof`; what can be accepted as missing: seccomp, landlock, limits"),
            "{unknown}"
        );
        assert!(!unknown.contains("namespaces"), "{unknown}");
        let refused = missing("namespaces").expect("a wall").check().expect_err("it means nothing");
        assert!(refused.contains("need not be accepted"), "{refused}");
    }
}
