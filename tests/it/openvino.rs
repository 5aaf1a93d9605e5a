//! OpenVINO on processors, in workers: its walls are looser than others', and what it computes is what ONNX Runtime's own code does.

use std::path::PathBuf;

use gantry::config::Limits;
use gantry::findings::Urgency;
use gantry::inference::{
    Batch, Call, CpuConfig, Device, EngineConfig, EnginePreference, Engines, GpuConfig, InferenceError, Isolation,
    LoadedModel, Precision, Provider, Request, Turn,
};
use gantry::memory::Budget;
use gantry::tensor::{ElementType, Tensor};
use gantry_tests::nets::{self, noise};
use gantry_tests::repository;

/// ONNX Runtime's library with OpenVINO.
fn library() -> Option<PathBuf> {
    gantry_tests::needed_peer("openvino/libonnxruntime.so")
}

fn config(library: PathBuf) -> EngineConfig {
    EngineConfig {
        engine: EnginePreference::OnnxRuntime,
        onnxruntime_library: Some(library),
        cpu: CpuConfig { provider: Provider::OpenVino },
        gpu: GpuConfig { provider: Provider::OpenVino, ..GpuConfig::default() },
        isolation: gantry_tests::command::workers(),
        ..EngineConfig::default()
    }
}

fn load(engines: &Engines, bytes: &[u8], target: Device) -> Result<LoadedModel, InferenceError> {
    let (budget, turn) = (Budget::unlimited(), Turn::new(Urgency::Routine));
    let call = Call { budget: &budget, deadline: None, turn: &turn, batch: Batch::Whole };
    engines.load(Request { vendor: "v", name: "m", bytes, target, warm_up: None }, &call)
}

/// The numbers of the first output.
fn run(model: &LoadedModel, input: &str, shape: &[usize]) -> Vec<f32> {
    let (budget, turn) = (Budget::unlimited(), Turn::new(Urgency::Routine));
    let call = Call { budget: &budget, deadline: None, turn: &turn, batch: Batch::Whole };
    let bytes = noise(shape.iter().product(), 9).into_iter().flat_map(f32::to_le_bytes).collect();
    let tensor = Tensor::new(shape.to_vec(), ElementType::F32, bytes, &budget).expect("fits its shape");
    let outputs = model.run(vec![(input.to_owned(), tensor)], &call).unwrap_or_else(|e| panic!("{e}"));
    outputs[0].1.data().chunks(4).map(|b| f32::from_le_bytes(b.try_into().expect("four bytes"))).collect()
}

#[test]
fn openvino_computes_what_onnx_runtime_does() {
    let (Some(openvino), Some(plain)) = (library(), gantry_tests::asset("onnxruntime/libonnxruntime.so")) else {
        return;
    };
    let ours = Engines::discover(&config(openvino)).expect("there");
    let built_in = EngineConfig { cpu: CpuConfig::default(), ..config(plain) };
    let theirs = Engines::discover(&built_in).expect("there");
    let file = |path: &str| std::fs::read(repository().join(path)).expect("a model of ours");
    let mut models: Vec<_> = nets::all()
        .into_iter()
        .map(|net| (net.name, net.bytes, "x", vec![[&[1], net.shape].concat(), [&[2], net.shape].concat()]))
        .collect();
    let sizes = vec![vec![1, 1, 176, 176], vec![3, 1, 160, 176]];
    models.push(("organs", file("modules/ct-organs/models/organs.onnx"), "ct", sizes));
    let slabs = vec![vec![1, 1, 16, 128, 128], vec![2, 1, 16, 128, 128]];
    models.push(("triage", file("modules/head-ct-triage/models/triage.onnx"), "ct", slabs));
    for (name, bytes, input, shapes) in models {
        let model = load(&ours, &bytes, Device::Cpu).unwrap_or_else(|e| panic!("{name}: {e}"));
        let version = model.engine_version();
        assert!(version.starts_with("onnxruntime 1.") && version.ends_with(" with OpenVINO in f32"), "{version}");
        assert_eq!((model.device(), model.execution().provider), (Device::Cpu, Provider::OpenVino));
        let other = load(&theirs, &bytes, Device::Cpu).unwrap_or_else(|e| panic!("{name}: {e}"));
        for shape in shapes {
            let (a, b) = (run(&model, input, &shape), run(&other, input, &shape));
            assert_eq!(a.len(), b.len());
            let most = b.iter().fold(1.0f32, |most, v| most.max(v.abs()));
            let worst = a.iter().zip(&b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
            assert!(worst <= 1e-3 * most, "{name} {shape:?}: off by {worst}, of {most}");
        }
    }
}

#[test]
fn a_worker_with_openvino_reaches_nothing_of_others() {
    let Some(library) = library() else { return };
    let Isolation::Program(program) = gantry_tests::command::workers() else { unreachable!("a program") };
    let others = tempfile::tempdir().expect("a folder");
    let weights = others.path().join("liver.onnx");
    std::fs::write(&weights, b"weights").expect("written");
    let others = [others.path().to_owned(), weights];
    let config = config(library.clone());
    let all = gantry::worker::self_check(&config, &Limits::default(), &program, Some(library), &others);
    let all = all.expect("workers start");
    let models = all.iter().find(|tried| tried.role == "models").expect("tried");
    let possible: Vec<_> = models.probes.iter().filter(|probe| probe.refused.is_none() && !probe.needed).collect();
    assert!(possible.is_empty() && models.probes.len() >= 15, "{possible:?}");
    let needed: Vec<_> = models.probes.iter().filter(|probe| probe.needed).map(|probe| probe.what.as_str()).collect();
    assert_eq!(needed, ["executable memory", "libraries"]);
}

#[test]
fn a_gpu_that_openvino_does_not_find_is_told_and_never_replaced_in_silence() {
    let Some(library) = library() else { return };
    let net = nets::all().remove(0);
    let mut config = config(library);
    config.gpu.precision = Precision::F16;
    match load(&Engines::discover(&config).expect("there"), &net.bytes, Device::Gpu) {
        // On a machine that has one.
        Ok(model) => assert_eq!((model.device(), model.fallback()), (Device::Gpu, None)),
        Err(error) => {
            assert!(matches!(error, InferenceError::DeviceUnavailable { device: Device::Gpu, .. }), "{error}");
            config.gpu_fallback_to_cpu = true;
            let model = load(&Engines::discover(&config).expect("there"), &net.bytes, Device::Gpu).expect("falls back");
            assert_eq!((model.device(), model.execution().precision), (Device::Cpu, Precision::F32));
            assert_eq!(model.fallback(), Some(error.without_remedy().as_str()));
        }
    }
}
