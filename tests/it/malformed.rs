//! Models that are wrong in every way there is, loaded and run by the real engines in real workers: each ends for its own reason,
//! a model of another vendor runs beside it, and one of its own vendor after it, as if nothing had happened.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use gantry::inference::{
    Batch, Call, Device, Dim, EngineConfig, EngineKind, EnginePreference, Engines, InferenceError, LoadedModel,
    Request, Turn, find_library,
};
use gantry::memory::Budget;
use gantry::tensor::{ElementType, Tensor};
use gantry_tests::onnx::{Wrong, nested, right_model, wrong_models};

struct Site {
    engines: Engines,
    budget: Budget,
}

impl Site {
    fn all() -> Vec<Self> {
        let library = gantry_tests::asset("onnxruntime").and_then(|_| find_library(None));
        let with = |engine| {
            let config = EngineConfig {
                engine,
                intra_threads: 1,
                // So that a neighbour need not wait for what is wrong.
                runs_at_once_max: 2,
                worker_memory_mib: 700,
                load_deadline_ms: 4000,
                compute_deadline_ms: 2000,
                model_failures_max: 1000,
                isolation: gantry_tests::command::workers(),
                ..EngineConfig::default()
            };
            Self { engines: Engines::discover(&config).expect("an engine"), budget: Budget::mib(64) }
        };
        let mut sites = vec![with(EnginePreference::Tract)];
        match library {
            Some(_) => sites.push(with(EnginePreference::OnnxRuntime)),
            None => gantry_tests::skipped("wrong models with ONNX Runtime: its library is missing"),
        }
        sites
    }

    fn call<T>(&self, run: impl FnOnce(&Call<'_>) -> T) -> T {
        let turn = Turn::default();
        run(&Call { budget: &self.budget, deadline: None, turn: &turn, batch: Batch::Whole })
    }

    fn load(&self, name: &str, bytes: &[u8]) -> Result<LoadedModel, InferenceError> {
        self.load_of("v", name, bytes)
    }

    fn load_of(&self, vendor: &str, name: &str, bytes: &[u8]) -> Result<LoadedModel, InferenceError> {
        self.call(|call| self.engines.load(Request { vendor, name, bytes, target: Device::Cpu, warm_up: None }, call))
    }

    /// On zeros, of the sizes that the model states.
    fn run(&self, model: &LoadedModel) -> Result<Vec<(String, Tensor)>, InferenceError> {
        let mut inputs = Vec::new();
        for spec in model.inputs() {
            let size = |dim: &Dim| if let Dim::Fixed(size) = dim { *size } else { 4 };
            let shape = spec.dims.iter().map(size).collect();
            inputs.push((spec.name.clone(), Tensor::zeroed(shape, spec.element, &self.budget)?));
        }
        self.call(|call| model.run(inputs, call))
    }

    /// Loads and runs one that is wrong while a model of another vendor runs again and again: what was not as it must be.
    fn wrong_with(&self, Wrong { name, bytes, says }: &Wrong, neighbour: &LoadedModel) -> Option<String> {
        let over = AtomicBool::new(false);
        let since = Instant::now();
        let (loaded, ended, beside) = std::thread::scope(|scope| {
            let neighbour = scope.spawn(|| {
                let mut runs = 0;
                loop {
                    self.run(neighbour)?;
                    runs += 1;
                    if over.load(Ordering::Relaxed) {
                        return Ok::<u32, InferenceError>(runs);
                    }
                }
            });
            let loaded = self.load(name, bytes);
            let is_loaded = loaded.is_ok();
            let ended = loaded.and_then(|model| self.run(&model)).map(|_| ());
            over.store(true, Ordering::Relaxed);
            (is_loaded, ended, neighbour.join().expect("it does not panic"))
        });
        let took = since.elapsed();
        let says = says[usize::from(self.engines.kind() == EngineKind::OnnxRuntime)];
        let wrong = match (&ended, &beside) {
            (Ok(()), _) => "gave a result".to_owned(),
            (_, Err(error)) => format!("its neighbour: {error}"),
            (Err(error), _) if !error.to_string().contains(says) => format!("{error} instead of: {says}"),
            _ if took > Duration::from_secs(15) => format!("took {took:?}"),
            _ => return None,
        };
        Some(format!("{}, {name} (loaded: {loaded}, {took:.1?}): {wrong}", self.engines.kind()))
    }
}

#[test]
fn models_that_are_wrong_end_in_an_error_and_harm_nobody() {
    let models = wrong_models();
    assert!(models.len() >= 30);
    let mut wrong = Vec::new();
    for site in Site::all() {
        let good = site.load("good", &right_model()).expect("loads");
        let neighbour = site.load_of("w", "good", &right_model()).expect("loads");
        for model in &models {
            wrong.extend(site.wrong_with(model, &neighbour));
            let (engine, name) = (site.engines.kind(), model.name);
            let outputs = site.run(&good).unwrap_or_else(|e| panic!("{engine}, after: {name}: {e}"));
            assert_eq!((outputs[0].1.element(), outputs[0].1.shape()), (ElementType::F32, &[4][..]));
            assert_eq!(site.budget.used(), outputs[0].1.data().len() as u64, "{engine}, after: {name}");
        }
        let workers = site.engines.workers();
        assert!(workers.iter().all(|worker| worker.vendor == "v" || worker.restarts == 0), "{workers:?}");
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Eight deep, which is unusual and right.
#[test]
fn conditions_in_conditions_are_run() {
    for site in Site::all() {
        let model = site.load("nested", &nested(8)).expect("loads");
        let outputs = site.run(&model).expect("runs");
        assert_eq!(outputs[0].1.data(), (-0.0f32).to_le_bytes().repeat(4), "{}", site.engines.kind());
    }
}

/// Each bit of a model turned over, one at a time: a result or an error.
#[test]
fn a_bit_that_is_turned_over_is_a_result_or_an_error() {
    let whole = right_model();
    for site in Site::all() {
        for bit in 0..whole.len() * 8 {
            let mut bytes = whole.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            if let Ok(model) = site.load("turned", &bytes) {
                // What it gives need not be right.
                let _ = site.run(&model);
            }
        }
        let lost: u64 = site.engines.workers().iter().map(|worker| worker.restarts).sum();
        assert!(lost < 10, "most are errors of the model, {lost} ended a worker");
    }
}
