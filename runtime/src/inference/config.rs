//! `[engines]`: what the operator chooses about inference.

use std::path::PathBuf;

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

/// The operator's choices about inference.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct EngineConfig {
    /// Which engine to use.
    pub engine: EnginePreference,
    /// ONNX Runtime's shared library. Looked for when not given: see [`find_library`](super::find_library).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub onnxruntime_library: Option<PathBuf>,
    /// Threads that one run uses; 0 for one each processor.
    pub intra_threads: usize,
    /// Whether a model that asks for a GPU may run on the CPU where it cannot have one. The result says so.
    pub gpu_fallback_to_cpu: bool,
    /// Models larger than this are refused, MiB: `limits.model_max_mib`.
    #[serde(skip, default = "model_max_mib")]
    pub model_max_mib: u64,
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
            model_max_mib: model_max_mib(),
        }
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
    }
}
