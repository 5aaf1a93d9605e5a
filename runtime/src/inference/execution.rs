//! `[engines.cpu]` and `[engines.gpu]`: what runs models on a device, on which one, and how exactly.

use serde::{Deserialize, Serialize};

/// Where a model runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Device {
    /// The host's processors.
    Cpu,
    /// A GPU.
    Gpu,
}

impl std::fmt::Display for Device {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Cpu => "cpu",
            Self::Gpu => "gpu",
        })
    }
}

/// What runs models on a device: ONNX Runtime's word for it is execution provider.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Provider {
    /// The engine's own code for processors.
    #[default]
    BuiltIn,
    /// NVIDIA's CUDA and cuDNN.
    Cuda,
    /// NVIDIA's TensorRT, and CUDA for what it lacks.
    #[serde(rename = "tensorrt")]
    #[value(name = "tensorrt")]
    TensorRt,
    /// Intel's OpenVINO, for processors and GPUs.
    #[serde(rename = "openvino")]
    #[value(name = "openvino")]
    OpenVino,
}

impl Provider {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::BuiltIn, Self::Cuda, Self::TensorRt, Self::OpenVino];

    /// As in configurations.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::BuiltIn => "built-in",
            Self::Cuda => "cuda",
            Self::TensorRt => "tensorrt",
            Self::OpenVino => "openvino",
        }
    }
}

impl std::fmt::Display for Provider {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::BuiltIn => "built in",
            Self::Cuda => "CUDA",
            Self::TensorRt => "TensorRT",
            Self::OpenVino => "OpenVINO",
        })
    }
}

/// What `f32` is computed as. What is stored and handed over stays `f32`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Precision {
    /// As what it is.
    #[default]
    F32,
    /// Factors of products rounded to 10 bits of fraction: NVIDIA's TensorFloat-32.
    Tf32,
    /// Half precision: 10 bits of fraction, and nothing beyond 65504.
    F16,
}

impl Precision {
    /// As in configurations.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::Tf32 => "tf32",
            Self::F16 => "f16",
        }
    }
}

impl std::fmt::Display for Precision {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

/// How models run on a device.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Execution {
    /// What runs them.
    pub provider: Provider,
    /// Which device, as the provider counts.
    pub index: u32,
    /// Memory of the device that one context of one model may take, MiB; 0 for all.
    pub memory_max_mib: u64,
    /// What `f32` is computed as.
    pub precision: Precision,
}

impl Execution {
    /// What stands behind an engine's version where more than the version decides what comes out; nothing for an engine that
    /// runs models by itself. UIDs of outputs derive from it.
    #[must_use]
    pub fn suffix(&self) -> String {
        match self.provider {
            Provider::BuiltIn => String::new(),
            provider => format!(" with {provider} in {}", self.precision),
        }
    }
}

/// `[engines.cpu]`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CpuConfig {
    /// What runs models on processors.
    pub provider: Provider,
}

impl CpuConfig {
    pub(super) fn check(&self) -> Result<(), String> {
        match self.provider {
            Provider::BuiltIn | Provider::OpenVino => Ok(()),
            provider => Err(format!(
                "engines.cpu.provider = {:?} runs models on GPUs only: here it is \"built-in\" or \"openvino\"",
                provider.name()
            )),
        }
    }

    pub(super) fn execution(&self) -> Execution {
        Execution { provider: self.provider, ..Execution::default() }
    }
}

/// `[engines.gpu]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct GpuConfig {
    /// What runs models on the GPU.
    pub provider: Provider,
    /// Which GPU, as the provider counts.
    pub index: u32,
    /// Memory of the GPU that one context of one model may take, MiB; 0 for all.
    pub memory_max_mib: u64,
    /// What `f32` is computed as.
    pub precision: Precision,
}

impl Default for GpuConfig {
    fn default() -> Self {
        Self { provider: Provider::Cuda, index: 0, memory_max_mib: 0, precision: Precision::F32 }
    }
}

impl GpuConfig {
    pub(super) fn check(&self) -> Result<(), String> {
        let Self { provider, memory_max_mib, precision, .. } = *self;
        let wrong = |what: &str| {
            let (provider, precision) = (provider.name(), precision.name());
            Err(format!(
                "engines.gpu.precision = {precision:?} cannot be with engines.gpu.provider = {provider:?}: {what}"
            ))
        };
        match (provider, precision) {
            (Provider::BuiltIn, _) => {
                Err("engines.gpu.provider = \"built-in\" runs models on processors only: here it is \
                 \"cuda\", \"tensorrt\" or \"openvino\""
                    .into())
            }
            (Provider::Cuda, Precision::F16) => {
                wrong("CUDA computes as the model says; have the model in f16, or take \"f32\" or \"tf32\"")
            }
            (Provider::TensorRt, Precision::F32) => {
                wrong("nothing keeps TensorRT from TF32 where the GPU has it; take \"tf32\" or \"f16\"")
            }
            (Provider::OpenVino, Precision::Tf32) => wrong("TF32 is NVIDIA's; take \"f32\" or \"f16\""),
            (Provider::OpenVino, _) if memory_max_mib > 0 => Err(format!(
                "engines.gpu.memory_max_mib = {memory_max_mib} cannot be with engines.gpu.provider = \"openvino\", which has \
                 no such limit: leave it at 0"
            )),
            _ => Ok(()),
        }
    }

    pub(super) fn execution(&self) -> Execution {
        let Self { provider, index, memory_max_mib, precision } = *self;
        Execution { provider, index, memory_max_mib, precision }
    }
}

/// What was chosen for a device.
pub(super) fn chosen(device: Device, cpu: &CpuConfig, gpu: &GpuConfig) -> Execution {
    match device {
        Device::Cpu => cpu.execution(),
        Device::Gpu => gpu.execution(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inference::EngineConfig;

    fn check(text: &str) -> Result<(), String> {
        toml::from_str::<EngineConfig>(text).map_err(|e| e.to_string())?.check()
    }

    #[test]
    fn what_cannot_be_together_is_refused_by_name() {
        for sound in [
            "",
            "[cpu]\nprovider = \"openvino\"",
            "[gpu]\nprovider = \"cuda\"\nindex = 1\nmemory_max_mib = 4096\nprecision = \"tf32\"",
            "[gpu]\nprovider = \"tensorrt\"\nprecision = \"f16\"",
            "[gpu]\nprovider = \"openvino\"\nprecision = \"f16\"",
        ] {
            check(sound).expect(sound);
        }
        for (text, says) in [
            ("[cpu]\nprovider = \"cuda\"", "engines.cpu.provider = \"cuda\" runs models on GPUs only"),
            ("[gpu]\nprovider = \"built-in\"", "engines.gpu.provider = \"built-in\" runs models on processors only"),
            ("[gpu]\nprecision = \"f16\"", "have the model in f16"),
            ("[gpu]\nprovider = \"tensorrt\"", "nothing keeps TensorRT from TF32"),
            ("[gpu]\nprovider = \"openvino\"\nprecision = \"tf32\"", "TF32 is NVIDIA's"),
            ("[gpu]\nprovider = \"openvino\"\nmemory_max_mib = 1", "engines.gpu.memory_max_mib = 1"),
            ("engine = \"tract\"\n[cpu]\nprovider = \"openvino\"", "engines.engine = \"tract\""),
            ("[gpu]\nprovider = \"rocm\"", "unknown variant"),
            ("[gpu]\ndevice = 1", "unknown field"),
            ("[cpu]\nindex = 1", "unknown field"),
        ] {
            let error = check(text).expect_err(text);
            assert!(error.contains(says), "{text}: {error}");
        }
    }

    #[test]
    fn another_provider_or_precision_is_another_engine_in_records() {
        let suffixes: Vec<_> = [
            (Provider::Cuda, Precision::F32),
            (Provider::Cuda, Precision::Tf32),
            (Provider::TensorRt, Precision::Tf32),
            (Provider::OpenVino, Precision::F32),
        ]
        .map(|(provider, precision)| Execution { provider, precision, ..Execution::default() }.suffix())
        .into();
        assert_eq!(
            suffixes,
            [" with CUDA in f32", " with CUDA in tf32", " with TensorRT in tf32", " with OpenVINO in f32"]
        );
        assert_eq!(Execution::default().suffix(), "", "UIDs of what was found before stay");
    }
}
