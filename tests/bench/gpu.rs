//! What everything around an engine costs on a device, beside the bare engine in a loop: for each model and batch, the engine alone,
//! the engine behind our interface in this process, and as a node has it, in a worker behind the queue of its device.
//!
//! Runs where there is nothing but this program, an engine library and models: it is its own worker.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use gantry::findings::Urgency;
use gantry::inference::{
    Batch, Call, CpuConfig, Device, Dim, EngineConfig, EnginePreference, Engines, GpuConfig, Isolation, LoadedModel,
    OnnxModel, Precision, Provider, Request, Turn, processors, session,
};
use gantry::memory::Budget;
use gantry::tensor::{ElementType, Tensor};
use gantry::worker::{Program, Tools};
use gantry_tests::nets::{self, noise};
use gantry_tests::repository;
use ort::session::{Session, SessionInputValue};
use ort::value::TensorRef;

use crate::inside::ratio;
use crate::report::{Report, median, percentile};

/// How much to measure, and on what.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// ONNX Runtime's shared library; as `gantry` finds it unless said otherwise.
    #[arg(long)]
    library: Option<PathBuf>,
    /// A folder of `.onnx` files, measured after the two networks that this program makes; those of the checkout's modules unless
    /// said otherwise.
    #[arg(long)]
    models: Option<PathBuf>,
    /// Where models run.
    #[arg(long, value_enum, default_value_t = Where::Gpu)]
    device: Where,
    /// As engines.gpu.provider, or engines.cpu.provider with `--device cpu`.
    #[arg(long, value_enum)]
    provider: Option<Provider>,
    /// As engines.gpu.precision.
    #[arg(long, value_enum, default_value_t = Precision::F32)]
    precision: Precision,
    /// As engines.gpu.index.
    #[arg(long, default_value_t = 0)]
    index: u32,
    /// Sizes of batches.
    #[arg(long, value_delimiter = ',', default_values_t = [1, 4, 16])]
    batches: Vec<usize>,
    /// For how long each comparison goes on, s; no longer than 1000 runs, and 5 at least.
    #[arg(long, default_value_t = 4.0)]
    seconds: f64,
    /// Urgent runs, alone and beside routine work that never pauses; the 99th percentile counts.
    #[arg(long, default_value_t = 200)]
    urgent: usize,
    /// For scripts.
    #[arg(long)]
    pub(crate) json: bool,
    /// Also writes what `--json` prints into this file.
    #[arg(long, value_name = "FILE")]
    pub(crate) out: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Where {
    Cpu,
    Gpu,
}

/// This program as a worker, which `Isolation::Program` starts.
pub(crate) fn worker() -> Result<()> {
    let ended = gantry::worker::run(
        |start| gantry::inference::bring_in(start.library()),
        |start| {
            let (device, execution) = (start.device(), start.execution());
            gantry::inference::local(start.library(), device, execution, start.threads(), start.contexts())
        },
        Tools::default(),
    );
    match ended {
        Ok(never) => match never {},
        Err(e) => Err(e.into()),
    }
}

/// Measures.
pub(crate) fn measure(options: &Options) -> Result<Report> {
    let library = gantry::inference::find_library(options.library.as_deref())
        .or_else(|| Some(repository().join(".cache/assets/onnxruntime/libonnxruntime.so")))
        .filter(|path| path.is_file())
        .context("no ONNX Runtime: name its library with --library")?;
    let bench = Bench { library: std::path::absolute(library)?, options };
    // Nothing starts but for a device that is there.
    let engines = bench.engines(&Isolation::SameProcess)?;
    let net = nets::all().into_iter().next().context("a network")?;
    let probe = Model { name: net.name.into(), bytes: net.bytes, shape: net.shape.to_vec() };
    let version = bench.load(&engines, &probe, &Job::new(Urgency::Routine, Batch::Whole))?.engine_version().to_owned();
    let on = match options.device {
        Where::Cpu => "cpu".to_owned(),
        Where::Gpu => format!("gpu {}", options.index),
    };
    let mut report = Report::begin(format!("{version} on {on}, {} build", build()), processors());
    for model in bench.models()? {
        for &items in &options.batches {
            if let Err(e) = bench.path(&engines, &model, items, &mut report) {
                report.skip(format!("{}, batch {items}: {e:#}", model.name));
            }
        }
    }
    // What was measured before stays, whatever a worker cannot do on this machine.
    if let Err(e) = bench.urgent(&probe, &mut report) {
        report.skip(format!("urgent runs: {e:#}"));
    }
    if let Err(e) = bench.restart(&probe, &mut report) {
        report.skip(format!("a worker that is killed: {e:#}"));
    }
    Ok(report)
}

fn build() -> &'static str {
    if cfg!(debug_assertions) { "development" } else { "release" }
}

struct Bench<'o> {
    library: PathBuf,
    options: &'o Options,
}

/// A model, and the shape of one item of its only input.
struct Model {
    name: String,
    bytes: Vec<u8>,
    shape: Vec<usize>,
}

impl Bench<'_> {
    fn device(&self) -> Device {
        match self.options.device {
            Where::Cpu => Device::Cpu,
            Where::Gpu => Device::Gpu,
        }
    }

    fn config(&self, isolation: &Isolation) -> EngineConfig {
        let Options { provider, precision, index, .. } = *self.options;
        let (mut cpu, mut gpu) = (CpuConfig::default(), GpuConfig { precision, index, ..GpuConfig::default() });
        match self.options.device {
            Where::Cpu => cpu.provider = provider.unwrap_or(cpu.provider),
            Where::Gpu => gpu.provider = provider.unwrap_or(gpu.provider),
        }
        EngineConfig {
            engine: EnginePreference::OnnxRuntime,
            onnxruntime_library: Some(self.library.clone()),
            isolation: isolation.clone(),
            cpu,
            gpu,
            ..EngineConfig::default()
        }
    }

    fn engines(&self, isolation: &Isolation) -> Result<Engines> {
        Ok(Engines::discover(&self.config(isolation))?)
    }

    fn load(&self, engines: &Engines, model: &Model, job: &Job) -> Result<LoadedModel> {
        let Model { name, bytes, .. } = model;
        let request = Request { vendor: "bench", name, bytes, target: self.device(), warm_up: None };
        Ok(engines.load(request, &job.call())?)
    }

    /// What is measured: our two networks, and what lies in the folder.
    fn models(&self) -> Result<Vec<Model>> {
        let nets = nets::all().into_iter();
        let mut models: Vec<_> =
            nets.map(|net| Model { name: net.name.into(), bytes: net.bytes, shape: net.shape.to_vec() }).collect();
        for path in self.files()? {
            let bytes = std::fs::read(&path).with_context(|| path.display().to_string())?;
            let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
            let read = OnnxModel::read(&name, &bytes, 4096)?;
            match read.inputs() {
                [input] if input.element == ElementType::F32 && input.dims.len() > 2 => {
                    // Where the model leaves a size open, as large as images of so many axes are.
                    let open = if input.dims.len() > 4 { 64 } else { 256 };
                    let size = |dim: &Dim| if let Dim::Fixed(size) = dim { *size } else { open };
                    let shape = input.dims.iter().skip(1).map(size).collect();
                    models.push(Model { name, bytes: bytes.clone(), shape });
                }
                _ => eprintln!("skipped: {}: only models of one f32 image are measured", path.display()),
            }
        }
        Ok(models)
    }

    fn files(&self) -> Result<Vec<PathBuf>> {
        let in_folder = |folder: &Path| -> Vec<PathBuf> {
            let files = std::fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
            files.filter(|path| path.extension().is_some_and(|extension| extension == "onnx")).collect()
        };
        let mut files = match &self.options.models {
            Some(folder) => {
                ensure!(folder.is_dir(), "{} is no folder", folder.display());
                in_folder(folder)
            }
            None => {
                let modules = std::fs::read_dir(repository().join("modules")).into_iter().flatten().flatten();
                modules.flat_map(|module| in_folder(&module.path().join("models"))).collect()
            }
        };
        files.sort();
        Ok(files)
    }

    /// The same run by the bare engine, through our interface, and through a worker, in turn.
    fn path(&self, here: &Engines, model: &Model, items: usize, report: &mut Report) -> Result<()> {
        let shape = [&[items][..], &model.shape].concat();
        let numbers = noise(shape.iter().product(), 7);
        let bytes: Vec<u8> = numbers.iter().flat_map(|v| v.to_le_bytes()).collect();
        let job = Job::new(Urgency::Routine, Batch::Whole);
        let mut bare = self.bare(model)?;
        let there = self.engines(&own()?)?;
        let (inside, outside) = (self.load(here, model, &job)?, self.load(&there, model, &job)?);

        let input = inside.inputs().first().context("an input")?.name.clone();
        let mut bare = || -> Result<f64> {
            let view = TensorRef::from_array_view((shape.clone(), numbers.as_slice()))?;
            let inputs: Vec<(&str, SessionInputValue<'_>)> = vec![(&input, view.into())];
            let begun = Instant::now();
            let outputs = bare.run(inputs)?;
            let took = begun.elapsed().as_secs_f64();
            drop(outputs);
            Ok(took)
        };
        let tensor = || job.tensor(&shape, &bytes);
        let ours = |loaded: &LoadedModel| -> Result<f64> {
            let inputs = vec![(input.clone(), tensor()?)];
            let begun = Instant::now();
            loaded.run(inputs, &job.call())?;
            Ok(begun.elapsed().as_secs_f64())
        };
        // Plans, kernels and memory of a shape are made in the first run.
        for _ in 0..3 {
            bare()?;
            ours(&inside)?;
            ours(&outside)?;
        }
        let mut times: [Vec<f64>; 3] = Default::default();
        let begun = Instant::now();
        let enough =
            |round: usize| round >= 5 && (round >= 1000 || begun.elapsed().as_secs_f64() > self.options.seconds);
        let mut round = 0;
        while !enough(round) {
            for turn in 0..3 {
                let who = (round + turn) % 3;
                times[who].push(match who {
                    0 => bare()?,
                    1 => ours(&inside)?,
                    _ => ours(&outside)?,
                });
            }
            round += 1;
        }
        let [alone, inside_times, outside_times] = &times;
        let title = format!("{}, batch {items}", model.name);
        let ms = |times: &[f64]| format!("{:.3} ms, p99 {:.3} ms", median(times) * 1e3, percentile(times) * 1e3);
        report.told(&format!("{title}: bare"), median(alone) * 1e3, "ms", format!("{round} runs; {}", ms(alone)));
        let ratios = (ratio(inside_times, alone), ratio(outside_times, alone));
        report.told(&format!("{title}: in process / bare"), ratios.0, "", ms(inside_times));
        let most = (1.05, None);
        report.wanted(&format!("{title}: worker / bare"), ratios.1, "", most, ms(outside_times));
        let tails = percentile(outside_times) / percentile(alone);
        report.told(&format!("{title}: worker / bare, p99"), tails, "", "");
        let bare_rate = rate(self.options.seconds, items, || bare().map(drop))?;
        let many = self.together(&outside, &input, &shape, &bytes)? * items as f64;
        let note = format!("{many:.1} and {bare_rate:.1} items/s; two jobs at once, and the bare engine in one loop");
        report.told(&format!("{title}: throughput, worker / bare"), many / bare_rate, "", note);
        Ok(())
    }

    /// The engine alone, with the options that workers give it.
    fn bare(&self, model: &Model) -> Result<Session> {
        let config = self.config(&Isolation::SameProcess);
        let execution = config.execution(self.device());
        Ok(session(&self.library, self.device(), execution, processors(), &model.bytes)?)
    }

    /// Runs a second of two jobs at once, each with its own copy of the input: a job's is another every time.
    fn together(&self, model: &LoadedModel, input: &str, shape: &[usize], bytes: &[u8]) -> Result<f64> {
        let until = Instant::now() + Duration::from_secs_f64(self.options.seconds);
        let (begun, runs) = (Instant::now(), AtomicUsize::new(0));
        let one = || -> Result<()> {
            let job = Job::new(Urgency::Routine, Batch::Whole);
            while Instant::now() < until {
                model.run(vec![(input.to_owned(), job.tensor(shape, bytes)?)], &job.call())?;
                runs.fetch_add(1, Ordering::Relaxed);
            }
            Ok(())
        };
        std::thread::scope(|scope| {
            let threads = [scope.spawn(one), scope.spawn(one)];
            threads.into_iter().try_for_each(|thread| thread.join().expect("it does not panic"))
        })?;
        Ok(runs.load(Ordering::Relaxed) as f64 / begun.elapsed().as_secs_f64())
    }

    /// The 99th percentile of urgent runs of one item: alone, and beside two routine jobs with batches that never pause.
    fn urgent(&self, model: &Model, report: &mut Report) -> Result<()> {
        let engines = self.engines(&own()?)?;
        let alone = self.waits(&engines, model, false)?;
        let busy = self.waits(&engines, model, true)?;
        let slice_ms = self.config(&Isolation::SameProcess).device_slice_ms_max;
        report.told("urgent run alone, p99", alone * 1e3, "ms", format!("{} of {}", self.options.urgent, model.name));
        // Two decimals, as targets are shown.
        let most = ((1.25 + slice_ms as f64 / 1e3 / alone) * 100.0).round() / 100.0;
        let note = format!("{:.3} ms; one slice is engines.device_slice_ms_max = {slice_ms} ms", busy * 1e3);
        report.wanted("urgent p99, device saturated / alone", busy / alone, "", (most, None), note);
        Ok(())
    }

    fn waits(&self, engines: &Engines, model: &Model, busy: bool) -> Result<f64> {
        let most = self.options.batches.iter().copied().max().unwrap_or(1);
        let shape = |items: usize| [&[items][..], &model.shape].concat();
        let bytes: Vec<u8> = noise(shape(most).iter().product(), 7).into_iter().flat_map(f32::to_le_bytes).collect();
        let run = |loaded: &LoadedModel, job: &Job, items: usize| -> Result<()> {
            let shape = shape(items);
            let some = bytes.get(..shape.iter().product::<usize>() * 4).context("enough numbers")?;
            loaded.run(vec![("x".into(), job.tensor(&shape, some)?)], &job.call())?;
            Ok(())
        };
        let over = AtomicBool::new(!busy);
        let batches = AtomicUsize::new(0);
        let saturate = || -> Result<()> {
            let job = Job::new(Urgency::Routine, Batch::Items);
            let loaded = self.load(engines, model, &job)?;
            while !over.load(Ordering::Relaxed) {
                run(&loaded, &job, most)?;
                batches.fetch_add(1, Ordering::Relaxed);
            }
            Ok(())
        };
        std::thread::scope(|scope| {
            let routine = [scope.spawn(saturate), scope.spawn(saturate)];
            let job = Job::new(Urgency::Urgent, Batch::Whole);
            let loaded = self.load(engines, model, &job)?;
            let mut times = Vec::new();
            // From the first batch on the device is busy.
            while busy && batches.load(Ordering::Relaxed) < 2 && routine.iter().all(|thread| !thread.is_finished()) {
                run(&loaded, &job, 1)?;
            }
            let result = (0..self.options.urgent.max(5)).try_for_each(|_| {
                let begun = Instant::now();
                run(&loaded, &job, 1)?;
                times.push(begun.elapsed().as_secs_f64());
                Ok(())
            });
            over.store(true, Ordering::Relaxed);
            routine.into_iter().try_for_each(|thread| thread.join().expect("it does not panic"))?;
            result.map(|()| percentile(&times))
        })
    }

    /// From the end of a worker by SIGKILL to the next result.
    fn restart(&self, model: &Model, report: &mut Report) -> Result<()> {
        let engines = self.engines(&own()?)?;
        let job = Job::new(Urgency::Routine, Batch::Whole);
        let loaded = self.load(&engines, model, &job)?;
        let shape = [&[1][..], &model.shape].concat();
        let bytes: Vec<u8> = noise(shape.iter().product(), 7).into_iter().flat_map(f32::to_le_bytes).collect();
        let run = || loaded.run(vec![("x".into(), job.tensor(&shape, &bytes)?)], &job.call()).context("a run");
        let mut seconds = Vec::new();
        for _ in 0..5 {
            run()?;
            let process = engines.workers().iter().find_map(|worker| worker.process).context("a worker runs")?;
            let process = rustix::process::Pid::from_raw(process.cast_signed()).context("a process")?;
            rustix::process::kill_process(process, rustix::process::Signal::KILL)?;
            let begun = Instant::now();
            run()?;
            seconds.push(begun.elapsed().as_secs_f64());
        }
        let note = "median of 5: the process, the engine, its device, the model and one run";
        match self.options.device {
            Where::Cpu => report.wanted("worker killed → next result", median(&seconds), "s", (1.0, None), note),
            Where::Gpu => report.told("worker killed → next result", median(&seconds), "s", note),
        }
        Ok(())
    }
}

/// Items a second.
fn rate(seconds: f64, items: usize, mut run: impl FnMut() -> Result<()>) -> Result<f64> {
    let (begun, mut runs) = (Instant::now(), 0usize);
    while begun.elapsed().as_secs_f64() < seconds {
        run()?;
        runs += 1;
    }
    Ok((runs * items) as f64 / begun.elapsed().as_secs_f64())
}

/// This program as a worker.
fn own() -> Result<Isolation> {
    Ok(Isolation::Program(Program::own()?))
}

struct Job {
    budget: Budget,
    turn: Turn,
    batch: Batch,
}

impl Job {
    fn new(urgency: Urgency, batch: Batch) -> Self {
        Self { budget: Budget::unlimited(), turn: Turn::new(urgency), batch }
    }

    fn call(&self) -> Call<'_> {
        Call { budget: &self.budget, deadline: None, turn: &self.turn, batch: self.batch }
    }

    fn tensor(&self, shape: &[usize], bytes: &[u8]) -> Result<Tensor> {
        Ok(Tensor::new(shape.to_vec(), ElementType::F32, bytes.to_vec(), &self.budget)?)
    }
}
