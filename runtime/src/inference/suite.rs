//! One suite for both engines: the same models, the same inputs, the same answers.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::testmodels::*;
use super::*;

/// Engines to test. ONNX Runtime's half is left out, with a word, where the library is not there; CI must have it.
fn engines() -> Vec<Engines> {
    let tract = EngineConfig { engine: EnginePreference::Tract, ..here() };
    let mut engines = vec![Engines::discover(&tract).expect("always there")];
    match library() {
        Some(path) => engines.push(onnxruntime(path)),
        None if std::env::var_os("CI").is_some() => panic!("no ONNX Runtime: run `cargo xtask assets`"),
        None => eprintln!("skipped: ONNX Runtime's half; run `cargo xtask assets`"),
    }
    engines
}

pub(super) fn library() -> Option<PathBuf> {
    let in_checkout = Path::new(env!("CARGO_MANIFEST_DIR")).join("../.cache/assets/onnxruntime/libonnxruntime.so");
    find_library(None).or_else(|| in_checkout.is_file().then_some(in_checkout))
}

fn onnxruntime(path: PathBuf) -> Engines {
    let config = EngineConfig { engine: EnginePreference::OnnxRuntime, onnxruntime_library: Some(path), ..here() };
    Engines::discover(&config).expect("the library is there")
}

/// What is tested are the engines, not the processes around them.
fn here() -> EngineConfig {
    EngineConfig { intra_threads: 2, isolation: Isolation::SameProcess, ..EngineConfig::default() }
}

fn load(engines: &Engines, bytes: &[u8]) -> LoadedModel {
    load_on(engines, bytes, Device::Cpu).unwrap_or_else(|e| panic!("{e}"))
}

fn load_on(engines: &Engines, bytes: &[u8], target: Device) -> Result<LoadedModel, InferenceError> {
    let (budget, turn) = (Budget::unlimited(), Turn::default());
    let call = Call { budget: &budget, deadline: None, turn: &turn, batch: Batch::Whole };
    engines.load(Request { vendor: "v", name: "m", bytes, target, warm_up: None }, &call)
}

fn run_until(
    model: &LoadedModel,
    inputs: Vec<(String, Tensor)>,
    budget: &Budget,
    deadline: Option<Instant>,
) -> Result<Vec<(String, Tensor)>, InferenceError> {
    model.run(inputs, &Call { budget, deadline, turn: &Turn::default(), batch: Batch::Whole })
}

fn tensor(element: ElementType, shape: &[usize], data: Vec<u8>) -> Tensor {
    Tensor::new(shape.to_vec(), element, data, &Budget::unlimited()).expect("fits its shape")
}

/// Repeatable numbers in -1..1.
fn noise(count: usize, seed: u32) -> Vec<f32> {
    let mut state = seed.wrapping_mul(747_796_405) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        state as f32 / u32::MAX as f32 * 2.0 - 1.0
    };
    (0..count).map(|_| next()).collect()
}

fn f32s(shape: &[usize], values: &[f32]) -> Tensor {
    tensor(ElementType::F32, shape, values.iter().flat_map(|v| v.to_le_bytes()).collect())
}

fn noisy(shape: &[usize], seed: u32) -> Tensor {
    f32s(shape, &noise(shape.iter().product(), seed))
}

fn run(model: &LoadedModel, inputs: Vec<(&str, Tensor)>) -> Vec<(String, Tensor)> {
    let inputs = inputs.into_iter().map(|(n, t)| (n.to_string(), t)).collect();
    run_until(model, inputs, &Budget::unlimited(), None).unwrap_or_else(|e| panic!("{e}"))
}

fn only(mut outputs: Vec<(String, Tensor)>) -> Tensor {
    assert_eq!(outputs.len(), 1);
    outputs.remove(0).1
}

fn floats(tensor: &Tensor) -> &[f32] {
    tensor.as_f32().expect("f32, aligned")
}

fn furthest(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}

/// All pairs of engines give outputs of the same shape that differ by at most `tolerance`.
fn agree(outputs: &[Tensor], tolerance: f32) {
    for pair in outputs.windows(2) {
        assert_eq!(pair[0].shape(), pair[1].shape());
        let worst = furthest(floats(&pair[0]), floats(&pair[1]));
        assert!(worst <= tolerance, "engines differ by {worst}, more than {tolerance}");
    }
}

#[test]
fn elements_of_every_type_pass_through_bit_by_bit() {
    for engines in engines() {
        for element in ELEMENTS {
            let dims = ([D::S("n"), D::N(3)], [D::Any, D::N(3)]);
            let concat = Graph {
                nodes: vec![node("Concat", &["x", "x"], &["y"], &[int("axis", 0)])],
                inputs: vec![value("x", number_of(element), &dims.0)],
                outputs: vec![value("y", number_of(element), &dims.1)],
                ..Graph::default()
            };
            let identity = unary("Identity", number_of(element), &dims.0, &dims.0, &[]);
            for (bytes, copies) in [(concat.model(), 2), (identity, 1)] {
                let loaded = load_on(&engines, &bytes, Device::Cpu);
                if element == ElementType::Bf16 && engines.kind() == EngineKind::Tract {
                    let refusal = loaded.expect_err("tract has no bf16").to_string();
                    assert!(refusal.ends_with("'x' is bf16, which tract lacks; use ONNX Runtime"), "{refusal}");
                    continue;
                }
                let model = loaded.unwrap_or_else(|e| panic!("{element}: {e}"));
                // Every byte value, so NaNs with payloads, infinities and subnormal numbers among them.
                let data: Vec<u8> = (0..=255u8).cycle().take(element.bytes() * 3 * 128).collect();
                let output = only(run(&model, vec![("x", tensor(element, &[128, 3], data.clone()))]));
                assert_eq!((output.element(), output.shape()), (element, &[128 * copies, 3][..]));
                assert!(output.data() == data.repeat(copies), "{element} changed in {}", engines.kind());
            }
        }
    }
}

#[test]
fn arithmetic_is_right_in_every_type_that_has_it() {
    for engines in engines() {
        for element in [ElementType::F32, ElementType::F64, ElementType::I32, ElementType::I64] {
            let model = load(&engines, &unary("Neg", number_of(element), &[D::N(2)], &[D::N(2)], &[]));
            let encode = |v: i8| match element {
                ElementType::F32 => f32::from(v).to_le_bytes().to_vec(),
                ElementType::F64 => f64::from(v).to_le_bytes().to_vec(),
                ElementType::I32 => i32::from(v).to_le_bytes().to_vec(),
                _ => i64::from(v).to_le_bytes().to_vec(),
            };
            let output = only(run(&model, vec![("x", tensor(element, &[2], [encode(5), encode(-7)].concat()))]));
            assert_eq!(output.data(), [encode(-5), encode(7)].concat(), "{element} in {}", engines.kind());
        }
    }
}

#[test]
fn named_and_open_dimensions_take_any_size_again_and_again() {
    let kernel = noise(2 * 9, 1);
    let bytes = convolution(1, &kernel, &[0.5, -0.5]);
    let models: Vec<_> = engines().iter().map(|e| load(e, &bytes)).collect();
    // More shapes than tract keeps plans for, the first one again at the end.
    for (n, h, w) in [(1, 8, 8), (2, 8, 8), (1, 5, 9), (3, 4, 4), (1, 16, 1), (7, 2, 3), (1, 8, 8)] {
        let pixels = noise(n * h * w, 2);
        let outputs: Vec<_> = models.iter().map(|m| only(run(m, vec![("ct", f32s(&[n, 1, h, w], &pixels))]))).collect();
        for output in &outputs {
            assert_eq!(output.shape(), [n, 2, h, w]);
            let expected = convolved(&pixels, [n, h, w], &kernel, &[0.5, -0.5]);
            let worst = furthest(floats(output), &expected);
            assert!(worst < 1e-5, "off by {worst}");
        }
    }
}

/// What `convolution` of one channel computes, by its definition.
fn convolved(pixels: &[f32], [n, h, w]: [usize; 3], kernel: &[f32], bias: &[f32]) -> Vec<f32> {
    let at = |i: usize, y: usize, x: usize| {
        let inside = (1..=h).contains(&y) && (1..=w).contains(&x);
        if inside { pixels[(i * h + y - 1) * w + x - 1] } else { 0.0 }
    };
    let mut out = Vec::new();
    for (i, (k, b)) in (0..n).flat_map(|i| kernel.chunks(9).zip(bias).map(move |kb| (i, kb))) {
        for (y, x) in (0..h).flat_map(|y| (0..w).map(move |x| (y, x))) {
            out.push(b + (0..9).map(|t| k[t] * at(i, y + t / 3, x + t % 3)).sum::<f32>());
        }
    }
    out
}

#[test]
fn several_inputs_and_outputs_keep_names_and_order() {
    let graph = Graph {
        nodes: vec![
            node("Sub", &["b", "a"], &["difference"], &[]),
            node("Shape", &["a"], &["shape"], &[]),
            node("Mul", &["a", "two"], &["twice"], &[]),
        ],
        initializers: vec![weights("two", &[1], &[2.0])],
        // An initializer that is listed as an input has a value already: it is not asked for.
        inputs: vec![
            value("two", F32, &[D::N(1)]),
            value("b", F32, &[D::S("n"), D::Any]),
            value("a", F32, &[D::S("n"), D::Any]),
        ],
        outputs: vec![
            value("twice", F32, &[D::S("n"), D::Any]),
            value("shape", I64, &[D::N(2)]),
            value("difference", F32, &[D::S("n"), D::Any]),
        ],
    };
    for engines in engines() {
        let model = load(&engines, &graph.model());
        let inputs: Vec<_> = model.inputs().iter().map(|s| s.name.as_str()).collect();
        assert_eq!(inputs, ["b", "a"]);
        assert_eq!(model.inputs()[0].dims, [Dim::Named("n".into()), Dim::Any]);
        let outputs = run(&model, vec![("a", f32s(&[1, 2], &[1.0, 2.0])), ("b", f32s(&[1, 2], &[10.0, 20.0]))]);
        let names: Vec<_> = outputs.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["twice", "shape", "difference"]);
        assert_eq!(floats(&outputs[0].1), [2.0, 4.0]);
        assert_eq!(outputs[1].1.data(), [1i64.to_le_bytes(), 2i64.to_le_bytes()].concat());
        assert_eq!(floats(&outputs[2].1), [9.0, 18.0]);
    }
}

#[test]
fn inputs_that_do_not_fit_never_reach_an_engine() {
    for engines in engines() {
        let model = load(&engines, &convolution(1, &noise(18, 1), &[0.0; 2]));
        let bad: Vec<Vec<(String, Tensor)>> = vec![
            vec![],
            vec![("ct".into(), tensor(ElementType::U8, &[1, 2], vec![0; 2]))],
            vec![("ct".into(), noisy(&[1, 2, 4, 4], 1))],
            vec![("ct".into(), noisy(&[1, 1, 0, 4], 1))],
            vec![("c\0t".into(), noisy(&[1, 1, 4, 4], 1))],
            vec![("ct".into(), noisy(&[1, 1, 4, 4], 1)), ("x".repeat(1 << 20), noisy(&[1], 1))],
        ];
        for inputs in bad {
            let error = run_until(&model, inputs, &Budget::unlimited(), None).expect_err("refused");
            assert!(matches!(error, InferenceError::Input(_)), "{error}");
        }
        assert_eq!(model.usage(), Usage { calls: 0, compute: Duration::ZERO });
        run(&model, vec![("ct", noisy(&[1, 1, 4, 4], 1))]);
        assert_eq!(model.usage().calls, 1);
        assert!(model.usage().compute > Duration::ZERO);
    }
}

#[test]
fn the_record_says_what_ran_where() {
    use sha2::Digest as _;
    let bytes = unary("Neg", F32, &[D::Any], &[D::Any], &[]);
    for engines in engines() {
        let model = load_on(&engines, &bytes, Device::Cpu).expect("loads");
        let prefix = if engines.kind() == EngineKind::Tract { "tract 0." } else { "onnxruntime 1." };
        assert!(model.engine_version().starts_with(prefix), "{}", model.engine_version());
        assert_eq!((model.name(), model.engine()), ("m", engines.kind()));
        assert_eq!((model.requested_device(), model.device(), model.fallback()), (Device::Cpu, Device::Cpu, None));
        assert_eq!(model.sha256()[..], sha2::Sha256::digest(&bytes)[..]);
        assert!(model.load_time() > Duration::ZERO);
    }
}

#[test]
fn outputs_are_charged_to_the_job_and_inputs_given_back() {
    for engines in engines() {
        let model = load(&engines, &unary("Concat", F32, &[D::Any], &[D::Any], &[int("axis", 0)]));
        let budget = Budget::bytes(1000);
        let input = |count: usize| {
            let tensor = Tensor::zeroed(vec![count], ElementType::F32, &budget).expect("room");
            vec![("x".to_string(), tensor)]
        };
        let outputs = run_until(&model, input(100), &budget, None).expect("400 bytes at a time");
        assert_eq!(budget.used(), 400, "only the output is left");
        let error =
            run_until(&model, input(100), &Budget::bytes(399), None).expect_err("too small a budget for the output");
        assert!(matches!(error, InferenceError::Tensor(TensorError::OverBudget(_))), "{error}");
        drop(outputs);
        assert_eq!(budget.used(), 0);
    }
}

#[test]
fn a_gpu_is_never_replaced_in_silence() {
    let bytes = unary("Neg", F32, &[D::Any], &[D::Any], &[]);
    for refusing in engines() {
        let kind = refusing.kind();
        match load_on(&refusing, &bytes, Device::Gpu) {
            // On a machine that has one.
            Ok(model) => assert_eq!((model.device(), model.fallback()), (Device::Gpu, None)),
            Err(error) => {
                assert!(matches!(error, InferenceError::DeviceUnavailable { device: Device::Gpu, .. }), "{error}");
                let config = EngineConfig {
                    gpu_fallback_to_cpu: true,
                    engine: match kind {
                        EngineKind::Tract => EnginePreference::Tract,
                        EngineKind::OnnxRuntime => EnginePreference::OnnxRuntime,
                    },
                    onnxruntime_library: refusing.library().map(Path::to_path_buf),
                    ..here()
                };
                let allowing = Engines::discover(&config).expect("as before");
                let model = load_on(&allowing, &bytes, Device::Gpu).expect("falls back");
                assert_eq!((model.requested_device(), model.device()), (Device::Gpu, Device::Cpu));
                assert_eq!(model.fallback(), Some(error.without_remedy().as_str()));
                assert!(error.to_string().contains("engines.gpu_fallback_to_cpu"), "{error}");
                assert!(!error.without_remedy().contains("engines."), "{error}");
                assert_eq!(floats(&only(run(&model, vec![("x", f32s(&[1], &[3.0]))]))), [-3.0]);
            }
        }
    }
}

#[test]
fn a_run_ends_at_its_deadline() {
    // 60 products of 384² matrices, each waiting for the last: some hundreds of ms.
    let nodes: Vec<Message> =
        (0..60).map(|i| node("MatMul", &[&format!("v{i}"), "w"], &[&format!("v{}", i + 1)], &[])).collect();
    let slow = Graph {
        nodes,
        initializers: vec![weights("w", &[384, 384], &noise(384 * 384, 3))],
        inputs: vec![value("v0", F32, &[D::N(384), D::N(384)])],
        outputs: vec![value("v60", F32, &[D::N(384), D::N(384)])],
    };
    for engines in engines() {
        let model = load(&engines, &slow.model());
        let input = || vec![("v0".to_string(), noisy(&[384, 384], 4))];
        let error = run_until(&model, input(), &Budget::unlimited(), Some(Instant::now())).expect_err("too late");
        assert_eq!(error.to_string(), "model 'm' was stopped at the job's deadline (job_deadline_ms)");
        let later = Instant::now() + Duration::from_secs(600);
        assert!(run_until(&model, input(), &Budget::unlimited(), Some(later)).is_ok(), "and can be run again");
    }
}

#[test]
fn one_model_may_be_run_from_several_threads() {
    for engines in engines() {
        let model = load(&engines, &unary("Neg", F32, &[D::Any], &[D::Any], &[]));
        std::thread::scope(|scope| {
            for size in 1..5 {
                let model = &model;
                scope.spawn(move || {
                    for value in 0..20u8 {
                        let values = vec![f32::from(value); size];
                        let output = only(run(model, vec![("x", f32s(&[size], &values))]));
                        assert!(floats(&output).iter().all(|v| *v == -f32::from(value)));
                    }
                });
            }
        });
        assert_eq!(model.usage().calls, 80);
    }
}

#[test]
fn a_model_that_an_engine_cannot_load_is_an_error_that_names_both() {
    let unknown = unary("NoSuchOperator", F32, &[D::Any], &[D::Any], &[]);
    let dangling = Graph {
        nodes: vec![node("Neg", &["nowhere"], &["y"], &[])],
        inputs: vec![value("x", F32, &[D::Any])],
        outputs: vec![value("y", F32, &[D::Any])],
        ..Graph::default()
    };
    // tract panics on this one.
    let missing = Graph { outputs: vec![value("nowhere", F32, &[D::Any])], ..dangling.clone() };
    for engines in engines() {
        for bytes in [&unknown, &dangling.model(), &missing.model()] {
            let error = load_on(&engines, bytes, Device::Cpu).expect_err("refused");
            assert!(matches!(error, InferenceError::Load { .. }), "{error}");
            assert!(error.to_string().starts_with(&format!("{} cannot load model 'm': ", engines.kind())), "{error}");
        }
    }
}

/// Cut and changed bytes, in the process: what comes back is an error or a model, never a panic.
#[test]
fn damaged_models_do_not_panic() {
    let whole = convolution(1, &noise(18, 1), &[0.0; 2]);
    for engines in engines() {
        for length in 0..whole.len() {
            assert!(load_on(&engines, &whole[..length], Device::Cpu).is_err(), "{length} bytes of a model are none");
        }
        for at in 0..whole.len() {
            let mut damaged = whole.clone();
            damaged[at] ^= 1 << (at % 8);
            if let Ok(model) = load_on(&engines, &damaged, Device::Cpu) {
                // Small, whatever the damage made of the shapes.
                let _ = run_until(&model, vec![("ct".into(), noisy(&[1, 1, 4, 4], 1))], &Budget::mib(64), None);
            }
        }
    }
}

#[test]
fn a_library_that_is_missing_or_wrong_is_an_error() {
    let config = |library: &Path| EngineConfig { onnxruntime_library: Some(library.to_path_buf()), ..here() };
    let missing = Engines::discover(&config(Path::new("/nonexistent/libonnxruntime.so"))).err().expect("refused");
    assert!(matches!(missing, InferenceError::EngineUnavailable { .. }), "{missing}");
    let folder = tempfile::tempdir().expect("a folder");
    let wrong = folder.path().join("libonnxruntime.so");
    std::fs::write(&wrong, b"not a library").expect("written");
    let engines = Engines::discover(&config(&wrong)).expect("something is there");
    let bytes = unary("Neg", F32, &[D::Any], &[D::Any], &[]);
    let error = load_on(&engines, &bytes, Device::Cpu).expect_err("refused");
    assert!(matches!(error, InferenceError::EngineUnavailable { engine: EngineKind::OnnxRuntime, .. }), "{error}");
    assert!(error.to_string().contains("onnxruntime_library"), "{error}");
    let recorded = error.without_remedy();
    assert!(
        recorded.starts_with("ONNX Runtime cannot be used: ") && !recorded.contains("onnxruntime_library"),
        "{recorded}"
    );
}

/// Grey and white matter, 3-D, dilated convolutions, labels as output: a real net, where a copy of it is at hand.
#[test]
fn a_real_net_for_volumes_gives_the_same_labels() {
    let shared = std::env::var_os("GANTRY_SHARED")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared"), PathBuf::from);
    let Ok(bytes) = std::fs::read(shared.join("assets/meshnet5.onnx")) else {
        eprintln!("skipped: no assets/meshnet5.onnx in the shared folder (GANTRY_SHARED)");
        return;
    };
    let voxels: Vec<f32> = noise(32 * 32 * 32, 7).iter().map(|v| v * 0.5 + 0.5).collect();
    let labels: Vec<Tensor> = engines()
        .iter()
        .map(|e| only(run(&load(e, &bytes), vec![("x", f32s(&[1, 1, 32, 32, 32], &voxels))])))
        .collect();
    for pair in labels.windows(2) {
        assert_eq!((pair[0].element(), pair[0].shape()), (ElementType::I64, pair[1].shape()));
        let differing = pair[0].data().chunks(8).zip(pair[1].data().chunks(8)).filter(|(a, b)| a != b).count();
        // Where two scores tie to the last bit, either label is right.
        assert!(differing <= 3, "{differing} of 32768 labels differ");
    }
}

/// The net of the package that this repository ships.
#[test]
fn the_organ_net_gives_the_same_scores() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../modules/ct-organs/models/organs.onnx");
    let Ok(bytes) = std::fs::read(&path) else {
        eprintln!("skipped: {} is not there", path.display());
        return;
    };
    let models: Vec<_> = engines().iter().map(|e| load(e, &bytes)).collect();
    for (n, h, w) in [(1, 176, 176), (3, 160, 176)] {
        let outputs: Vec<_> = models.iter().map(|m| only(run(m, vec![("ct", noisy(&[n, 1, h, w], 9))]))).collect();
        agree(&outputs, 1e-3);
    }
}

/// The net for volumes of the package that this repository ships. Its batch may be split: slabs know nothing of each other.
#[test]
fn the_triage_net_gives_the_same_scores_whole_and_split() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../modules/head-ct-triage/models/triage.onnx");
    let Ok(bytes) = std::fs::read(&path) else {
        eprintln!("skipped: {} is not there", path.display());
        return;
    };
    let slabs = noise(2 * 16 * 128 * 128, 11);
    let half = slabs.len() / 2;
    let mut outputs = Vec::new();
    for engine in engines() {
        let model = load(&engine, &bytes);
        let whole = only(run(&model, vec![("ct", f32s(&[2, 1, 16, 128, 128], &slabs))]));
        let second = only(run(&model, vec![("ct", f32s(&[1, 1, 16, 128, 128], &slabs[half..]))]));
        let worst = furthest(&floats(&whole)[half..], floats(&second));
        assert!(worst <= 1e-4, "a slab alone differs by {worst} in {}", engine.kind());
        outputs.push(whole);
    }
    agree(&outputs, 1e-3);
}
