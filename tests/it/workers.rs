//! What a model does to its engine ends a process, and nothing else: with an engine that does it on command, and with the real
//! ones in `gantry worker`.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use gantry::config::{Config, Limits};
use gantry::findings::Urgency;
use gantry::inference::{
    Batch, Call, Device, EngineConfig, EnginePreference, Engines, InferenceError, Isolation, Join, LoadedModel,
    Request, Turn,
};
use gantry::memory::Budget;
use gantry::metrics::Metrics;
use gantry::serve::{Node, StartError};
use gantry::tensor::{ElementType, Tensor};
use gantry::worker::{Program, Tried, Wall};

fn field(number: u8, bytes: &[u8]) -> Vec<u8> {
    let length = u8::try_from(bytes.len()).expect("a short message");
    assert!(length < 128, "one byte of a length");
    [&[number << 3 | 2, length], bytes].concat()
}

/// `y = -x`, of `[n, 4]` numbers. Models of two names are two models.
fn model(name: &str) -> Vec<u8> {
    let dims = [field(1, &field(2, b"n")), field(1, &[8, 4])].concat();
    let kind = field(2, &field(1, &[vec![8, 1], field(2, &dims)].concat()));
    let value = |name: &[u8]| [field(1, name), kind.clone()].concat();
    let node = [field(1, b"x"), field(2, b"y"), field(4, b"Neg")].concat();
    let graph = [field(1, &node), field(2, name.as_bytes()), field(11, &value(b"x")), field(12, &value(b"y"))].concat();
    [vec![8, 8], field(7, &graph), field(8, &[16, 17])].concat()
}

/// Engines in workers that misbehave.
fn faulty(change: impl FnOnce(&mut EngineConfig)) -> Engines {
    let program = Program { file: env!("CARGO_BIN_EXE_faulty-worker").into(), arguments: Vec::new() };
    engines(Isolation::Program(program), change)
}

/// Engines in workers as they are.
fn real(change: impl FnOnce(&mut EngineConfig)) -> Engines {
    engines(gantry_tests::command::workers(), change)
}

fn engines(isolation: Isolation, change: impl FnOnce(&mut EngineConfig)) -> Engines {
    let engine = EnginePreference::Tract;
    let mut config =
        EngineConfig { engine, intra_threads: 1, worker_memory_mib: 512, isolation, ..EngineConfig::default() };
    change(&mut config);
    Engines::discover(&config).expect("engines")
}

struct Job {
    budget: Budget,
    turn: Turn,
    deadline: Option<Duration>,
    batch: Batch,
}

impl Job {
    fn new() -> Self {
        Self {
            budget: Budget::mib(256),
            turn: Turn::default(),
            deadline: Some(Duration::from_secs(20)),
            batch: Batch::Whole,
        }
    }

    fn call(&self) -> Call<'_> {
        let deadline = self.deadline.map(|deadline| Instant::now() + deadline);
        Call { budget: &self.budget, deadline, turn: &self.turn, batch: self.batch }
    }

    fn load(&self, engines: &Engines, vendor: &str, name: &str) -> Result<LoadedModel, InferenceError> {
        let bytes = model(name);
        engines.load(Request { vendor, name, bytes: &bytes, target: Device::Cpu, warm_up: None }, &self.call())
    }

    fn run(&self, model: &LoadedModel, numbers: &[f32]) -> Result<Vec<f32>, InferenceError> {
        let bytes = numbers.iter().flat_map(|n| n.to_le_bytes()).collect();
        let x = Tensor::new(vec![numbers.len() / 4, 4], ElementType::F32, bytes, &self.budget)?;
        let outputs = model.run(vec![("x".into(), x)], &self.call())?;
        Ok(outputs[0].1.data().chunks(4).map(|b| f32::from_le_bytes(b.try_into().expect("four bytes"))).collect())
    }
}

const NUMBERS: [f32; 4] = [1.0, -2.0, 3.5, 0.0];

#[test]
fn a_model_runs_in_a_worker_of_its_vendor() {
    let engines = real(|_| {});
    let job = Job::new();
    for vendor in ["one", "another"] {
        let model = job.load(&engines, vendor, "neg").expect("loads");
        assert_eq!(job.run(&model, &NUMBERS).expect("runs"), [-1.0, 2.0, -3.5, 0.0]);
        assert!(model.engine_version().starts_with("tract 0."), "{}", model.engine_version());
    }
    let workers = engines.workers();
    assert_eq!(workers.iter().map(|w| w.vendor.as_str()).collect::<Vec<_>>(), ["another", "one"]);
    assert!(workers.iter().all(|w| w.process.is_some() && w.restarts == 0 && w.models.len() == 1), "{workers:?}");
    assert_ne!(workers[0].process, workers[1].process);
    assert_eq!(job.budget.used(), 0, "all is given back");
}

#[test]
fn everything_that_a_worker_gave_up_is_refused() {
    let Isolation::Program(program) = gantry_tests::command::workers() else { unreachable!("a program") };
    let libraries = [None, gantry_tests::asset("onnxruntime").and_then(|_| gantry::inference::find_library(None))];
    // As a module's weights and the journal would.
    let others = tempfile::tempdir().expect("a folder");
    let weights = others.path().join("liver.onnx");
    std::fs::write(&weights, b"weights").expect("written");
    let others = [others.path().to_owned(), weights];
    for library in libraries {
        let (engines, limits) = (EngineConfig::default(), Limits::default());
        let all = gantry::worker::self_check(&engines, &limits, &program, library, &others).expect("workers start");
        let roles: Vec<_> = all.iter().map(|tried| tried.role).collect();
        assert_eq!(roles, ["models", "models on a GPU", "compiling", "decoding"]);
        for Tried { role, kept, probes } in all {
            assert!(kept.iter().all(|kept| kept.missing.is_none() || !kept.wall.is_required()), "{role}: {kept:?}");
            assert_eq!(kept.len(), 4);
            let possible: Vec<_> = probes.iter().filter(|probe| probe.refused.is_none() && !probe.needed).collect();
            assert!(possible.is_empty() && probes.len() >= 15, "{role}: {possible:?}");
            let needed: Vec<_> = probes.iter().filter(|probe| probe.needed).map(|probe| probe.what.as_str()).collect();
            let open: &[&str] = if role == "models on a GPU" { &["executable memory", "libraries"] } else { &[] };
            assert_eq!(needed, open, "{role}: what it needs is told by name");
        }
    }
}

/// Of what a site lets run on a processor in place of a GPU.
fn falls_back(engines: &Engines, name: &str) -> Result<LoadedModel, InferenceError> {
    let job = Job::new();
    let (bytes, target) = (model(name), Device::Gpu);
    engines.load(Request { vendor: "v", name, bytes: &bytes, target, warm_up: None }, &job.call())
}

#[test]
fn a_model_falls_back_where_there_is_no_gpu_and_that_is_counted() {
    let engines = real(|config| config.gpu_fallback_to_cpu = true);
    let metrics = gantry::metrics::Metrics::new();
    engines.count(metrics.clone());
    let model = falls_back(&engines, "neg").expect("falls back");
    assert_eq!((model.requested_device(), model.device()), (Device::Gpu, Device::Cpu));
    // Without what its operator could do, and did.
    assert_eq!(model.fallback(), Some("no gpu to run models on: tract runs on processors only"));
    let told = metrics.render();
    assert!(told.contains("gantry_gpu_fallbacks_total{model=\"neg\",vendor=\"v\"} 1\n"), "{told}");
}

#[test]
fn a_model_that_ends_a_gpus_worker_or_is_late_there_does_not_fall_back() {
    let engines = faulty(|config| {
        config.gpu_fallback_to_cpu = true;
        config.load_deadline_ms = 500;
    });
    // It has a GPU, and nobody falls back.
    assert_eq!(falls_back(&engines, "good").expect("loads").fallback(), None);
    let crashed = falls_back(&engines, "load-abort").expect_err("it ends its worker");
    assert!(matches!(crashed, InferenceError::Crashed { .. }), "{crashed}");
    let late = falls_back(&engines, "load-hang").expect_err("it takes too long");
    assert!(matches!(late, InferenceError::TooLong { limit: "engines.load_deadline_ms", .. }), "{late}");
    // Of both, what was ended counts until the model is out of service; there it does not fall back either.
    for _ in 0..3 {
        let _ = falls_back(&engines, "load-abort");
    }
    let out = falls_back(&engines, "load-abort").expect_err("it ended too many");
    assert!(matches!(out, InferenceError::OutOfService { .. }), "{out}");
    assert!(engines.workers().iter().all(|worker| worker.device == Device::Gpu), "none was started for the processor");
}

/// What became of a model that misbehaves, and that another model of the same vendor runs all the same.
fn ends(name: &str, expected: &str) {
    let engines = faulty(|_| {});
    let mut job = Job::new();
    job.deadline = Some(Duration::from_secs(5));
    let good = job.load(&engines, "v", "good").expect("loads");
    assert_eq!(job.run(&good, &NUMBERS).expect("runs"), NUMBERS);
    let error = job.load(&engines, "v", name).and_then(|model| job.run(&model, &NUMBERS)).expect_err(name);
    assert!(error.to_string().contains(expected), "{name}: {error}");
    assert_eq!(job.run(&good, &NUMBERS).expect("a neighbour runs"), NUMBERS, "{name}");
    assert_eq!(job.budget.used(), 0, "{name}");
}

#[test]
fn a_crash_is_an_error_of_the_job() {
    ends("abort", "the process was ended by SIGABRT");
    ends("load-abort", "the process was ended by SIGABRT");
    ends("exit", "the process ended with exit status 7");
    ends("recurse", "the process was ended by SIG");
    ends("panic", "the process ended with exit status 101");
}

#[test]
fn memory_has_an_end_that_is_named_and_not_tried_again() {
    let expected = "needs more memory than engines.worker_memory_mib = 512 allows: memory allocation of 16777216 bytes";
    ends("allocate", expected);
    ends("load-allocate", expected);
    let engines = faulty(|_| {});
    let job = Job::new();
    let model = job.load(&engines, "v", "allocate").expect("loads");
    let error = job.run(&model, &NUMBERS).expect_err("it takes all");
    assert!(matches!(error, InferenceError::OutOfMemory { .. }), "{error}");
    assert_eq!(error.limit(), Some("engines.worker_memory_mib"));
    let good = job.load(&engines, "v", "good").expect("loads");
    assert_eq!(job.run(&good, &NUMBERS).expect("runs"), NUMBERS);
    assert_eq!(engines.workers()[0].restarts, 1, "once is enough");
}

#[test]
fn a_model_is_not_blamed_for_the_memory_that_others_hold() {
    // Six of 40 MiB do not fit beside each other, and none is told to make room.
    let engines = faulty(|config| (config.worker_memory_mib, config.model_failures_max) = (256, 1));
    let job = Job::new();
    let large = |n: usize| job.load(&engines, "v", &format!("large-{n}")).expect("loads");
    let models: Vec<_> = (0..6).map(large).collect();
    let restarts = engines.workers()[0].restarts;
    assert!(restarts >= 1, "the limit was met");
    for model in &models {
        assert_eq!(job.run(model, &NUMBERS).expect("runs"), NUMBERS);
    }
    // An engine that goes on when it was refused memory.
    let shy = job.load(&engines, "v", "shy").expect("in a process of its own");
    assert_eq!(job.run(&shy, &NUMBERS).expect("runs"), NUMBERS);
    assert_eq!(engines.workers()[0].models.len(), 1, "{:?}", engines.workers());
    // Who has all of it, and lacks it all the same, is blamed.
    let error = job.load(&engines, "v", "load-allocate").map(drop).expect_err("it takes all");
    assert!(matches!(error, InferenceError::OutOfMemory { .. }), "{error}");
    let error = job.load(&engines, "v", "load-allocate").map(drop).expect_err("once is enough");
    assert!(matches!(error, InferenceError::OutOfService { failures: 1, .. }), "{error}");
    assert!(engines.workers()[0].out_of_service.iter().all(|out| out.model == "load-allocate"));
}

#[test]
fn what_a_worker_says_on_its_standard_error_stops_nobody_and_has_an_end() {
    let engines = faulty(|_| {});
    let job = Job::new();
    let chatty = job.load(&engines, "v", "chatty").expect("loads");
    // More than a pipe holds.
    assert_eq!(job.run(&chatty, &NUMBERS).expect("runs"), NUMBERS);
    ends("never-silent", "the process flooded its standard error, and was ended");
}

/// A worker that says that a wall of it does not stand.
fn without(wall: &str) -> Isolation {
    let arguments = vec!["without".into(), wall.into()];
    Isolation::Program(Program { file: env!("CARGO_BIN_EXE_faulty-worker").into(), arguments })
}

#[test]
fn no_worker_starts_without_a_wall_that_was_not_accepted_by_name() {
    let load = |missing: &str, accepted: &[Wall]| {
        let engines = engines(without(missing), |config| config.accept_missing = accepted.to_vec());
        Job::new().load(&engines, "v", "good").map(drop).expect_err("it does nothing").to_string()
    };
    for accepted in [&[][..], &[Wall::Seccomp, Wall::Limits]] {
        let error = load("landlock", accepted);
        assert!(error.contains("landlock does not hold a worker on this machine (as it was told)"), "{error}");
        assert!(error.contains("engines.accept_missing = [\"landlock\"]"), "{error}");
    }
    for (missing, accepted) in [("landlock", &[Wall::Landlock][..]), ("namespaces", &[])] {
        let error = load(missing, accepted);
        assert!(error.contains("ended the worker that ran it"), "it was started: {error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_does_not_start_without_a_wall_that_was_not_accepted_by_name() {
    let folder = tempfile::tempdir().expect("a folder");
    for accepted in [vec![], vec![Wall::Landlock]] {
        let mut config = Config::default();
        config.node.data_folder = Some(folder.path().join("data"));
        config.engines.isolation = without("landlock");
        config.engines.accept_missing.clone_from(&accepted);
        // Needed by nobody before the first compressed image comes.
        config.engines.decode_in_worker = true;
        match Node::start(config, folder.path()).await {
            Ok(node) => {
                assert!(!accepted.is_empty());
                node.stop().await;
            }
            Err(error) => {
                assert!(accepted.is_empty() && matches!(error, StartError::Worker(_)), "{error}");
                assert!(error.to_string().contains("landlock does not hold a worker"), "{error}");
            }
        }
    }
}

#[test]
fn an_engine_reaches_no_file_and_no_network() {
    // EPERM.
    ends("read", "the process ended with exit status 1");
    ends("connect", "the process ended with exit status 1");
}

#[test]
fn answers_that_are_none_end_the_worker() {
    ends("garbage", "the process broke the protocol");
    ends("twice", "the process answered what was not asked");
    ends("flood", "the process broke the protocol");
    ends("too-many", "the process answered what was not asked");
}

#[test]
fn a_deadline_reaches_native_code() {
    for name in ["hang", "spin", "load-hang"] {
        let engines = faulty(|_| {});
        let mut job = Job::new();
        job.deadline = Some(Duration::from_millis(400));
        let since = Instant::now();
        let error = job.load(&engines, "v", name).and_then(|model| job.run(&model, &NUMBERS)).expect_err(name);
        assert!(matches!(error, InferenceError::Deadline { .. }), "{name}: {error}");
        assert!(since.elapsed() < Duration::from_secs(3), "{name} took {:?}", since.elapsed());
        let good = Job::new().load(&engines, "v", "good").expect("loads");
        assert_eq!(Job::new().run(&good, &NUMBERS).expect("runs"), NUMBERS);
    }
}

#[test]
fn a_run_and_a_load_have_limits_of_their_own() {
    let engines = faulty(|config| (config.compute_deadline_ms, config.load_deadline_ms) = (300, 300));
    for (name, limit) in
        [("hang", "engines.compute_deadline_ms = 300"), ("load-hang", "engines.load_deadline_ms = 300")]
    {
        let job = Job::new();
        let error = job.load(&engines, "v", name).and_then(|model| job.run(&model, &NUMBERS)).expect_err(name);
        assert!(error.to_string().contains(limit), "{error}");
    }
}

#[test]
fn cancelling_reaches_native_code() {
    let engines = faulty(|_| {});
    let job = Job::new();
    let model = job.load(&engines, "v", "hang").expect("loads");
    let since = Instant::now();
    let error = std::thread::scope(|scope| {
        scope.spawn(|| {
            std::thread::sleep(Duration::from_millis(200));
            job.turn.cancel();
        });
        job.run(&model, &NUMBERS).expect_err("cancelled")
    });
    assert!(matches!(error, InferenceError::Cancelled { .. }), "{error}");
    assert!(since.elapsed() < Duration::from_secs(3));
}

#[test]
fn a_worker_that_is_killed_while_it_runs_is_started_again_and_the_run_succeeds() {
    let engines = faulty(|_| {});
    let job = Job::new();
    let model = job.load(&engines, "v", "slow-600").expect("loads");
    let process = engines.workers()[0].process.expect("it runs");
    let answer = std::thread::scope(|scope| {
        scope.spawn(|| {
            std::thread::sleep(Duration::from_millis(200));
            let process = rustix::process::Pid::from_raw(process.cast_signed()).expect("a process");
            rustix::process::kill_process(process, rustix::process::Signal::KILL).expect("killed");
        });
        job.run(&model, &NUMBERS)
    });
    assert_eq!(answer.expect("the second run"), NUMBERS);
    assert_eq!(engines.workers()[0].restarts, 1);
}

#[test]
fn a_model_that_keeps_failing_is_taken_out_of_service_and_others_go_on() {
    let engines = faulty(|config| config.model_failures_max = 3);
    let metrics = Metrics::new();
    engines.count(metrics.clone());
    let job = Job::new();
    // Each job loads it, which goes well.
    for _ in 0..2 {
        let bad = job.load(&engines, "v", "abort").expect("loads");
        job.run(&bad, &NUMBERS).expect_err("it ends a worker");
    }
    let processes = engines.workers()[0].restarts;
    let error = job.load(&engines, "v", "abort").expect_err("out of service");
    assert!(matches!(error, InferenceError::OutOfService { failures: 3, .. }), "{error}");
    let out = engines.workers()[0].out_of_service.clone();
    assert!(out.len() == 1 && out[0].model == "abort" && out[0].failures == 3, "{out:?}");
    assert!(out[0].last.contains("SIGABRT"), "{out:?}");
    // A vendor cannot do that to another one.
    job.load(&engines, "other", "abort").expect("loads");
    assert_eq!(engines.workers().iter().find(|w| w.vendor == "v").expect("one").restarts, processes);
    let good = job.load(&engines, "v", "good").expect("loads");
    assert_eq!(job.run(&good, &NUMBERS).expect("runs"), NUMBERS);
    let seen = metrics.render();
    for line in [
        "gantry_models_out_of_service{vendor=\"v\",device=\"cpu\"} 1",
        "gantry_model_runs_refused_total{vendor=\"v\",model=\"abort\",device=\"cpu\",reason=\"out-of-service\"} 1",
        "gantry_workers_lost_total{vendor=\"v\",device=\"cpu\"} 3",
        "gantry_worker_restarts_total{vendor=\"v\",device=\"cpu\"} 3",
        "gantry_worker_restarts_total{vendor=\"other\",device=\"cpu\"} 0",
        "gantry_model_wait_seconds_count{vendor=\"v\",model=\"good\",device=\"cpu\"} 1",
        "gantry_model_run_seconds_count{vendor=\"v\",model=\"good\",device=\"cpu\"} 1",
        "gantry_model_batch_items_sum{vendor=\"v\",model=\"good\",device=\"cpu\"} 1.0",
    ] {
        assert!(seen.lines().any(|l| l == line), "{line} in\n{seen}");
    }
}

#[test]
fn metrics_tell_what_a_worker_holds_until_it_is_gone_and_what_waits() {
    let engines = faulty(|_| {});
    let metrics = Metrics::new();
    engines.count(metrics.clone());
    let value = |name: &str| -> f64 {
        let seen = metrics.render();
        let line = seen.lines().find_map(|line| line.strip_prefix(name)?.split(' ').next_back());
        line.and_then(|number| number.parse().ok()).unwrap_or_else(|| panic!("{name} in\n{seen}"))
    };
    let mib = f64::from(1 << 20);
    let job = Job::new();
    job.load(&engines, "v", "large").expect("loads");
    assert!(value("gantry_worker_models_bytes{") >= 40.0 * mib && value("gantry_worker_memory_bytes{") >= 40.0 * mib);
    assert!(engines.workers()[0].memory_bytes.is_some_and(|bytes| bytes >= 40 << 20));
    let slow = job.load(&engines, "v", "slow-600").expect("loads");
    std::thread::scope(|scope| {
        let runs = [(); 2].map(|()| scope.spawn(|| job.run(&slow, &NUMBERS).expect("runs")));
        // Nobody measures but those who ask.
        while engines.workers()[0].runs == 0 && value("gantry_device_queue_length{") < 1.0 {
            std::thread::yield_now();
        }
        assert!(value("gantry_device_queue_age_seconds{") < 1.0);
        for run in runs {
            assert_eq!(run.join().expect("it does not panic"), NUMBERS);
        }
    });
    assert_eq!(engines.workers().len(), 1);
    assert!(value("gantry_device_queue_length{") == 0.0);
    let abort = job.load(&engines, "v", "exit").expect("loads");
    job.run(&abort, &NUMBERS).expect_err("it ends");
    assert!(engines.workers()[0].process.is_none());
    assert!(value("gantry_worker_models_bytes{") == 0.0 && value("gantry_worker_memory_bytes{") == 0.0);
}

#[test]
fn who_loads_a_model_holds_no_device_and_no_process() {
    let engines = faulty(|_| {});
    let urgent = Job { turn: Turn::new(Urgency::Urgent), ..Job::new() };
    let good = ["v", "other"].map(|vendor| urgent.load(&engines, vendor, "good").expect("loads"));
    let (hangs, waits) = (Job::new(), Job::new());
    std::thread::scope(|scope| {
        let hanging = scope.spawn(|| hangs.load(&engines, "v", "load-hang").map(drop));
        let since = Instant::now();
        // For longer than the other takes to come to hang.
        while since.elapsed() < Duration::from_secs(1) {
            for model in &good {
                let begun = Instant::now();
                assert_eq!(urgent.run(model, &NUMBERS).expect("runs"), NUMBERS);
                assert!(begun.elapsed() < Duration::from_secs(3), "waited {:?}", begun.elapsed());
            }
        }
        assert!(!hanging.is_finished());
        // One loads into a process at a time; who waits for that looks whether it is still wanted.
        let short = Job { deadline: Some(Duration::from_millis(200)), ..Job::new() };
        let error = short.load(&engines, "v", "second").map(drop).expect_err("its deadline came");
        assert!(matches!(error, InferenceError::Deadline { .. }), "{error}");
        waits.turn.cancel();
        let error = waits.load(&engines, "v", "second").map(drop).expect_err("cancelled");
        assert!(matches!(error, InferenceError::Cancelled { .. }), "{error}");
        assert!(!hanging.is_finished() && engines.workers().iter().all(|worker| worker.restarts == 0));
        hangs.turn.cancel();
        let error = hanging.join().expect("it does not panic").expect_err("cancelled");
        assert!(matches!(error, InferenceError::Cancelled { .. }), "{error}");
    });
    assert_eq!(urgent.run(&good[0], &NUMBERS).expect("in a new process"), NUMBERS);
}

#[test]
fn a_run_that_cannot_end_before_its_deadline_is_refused_at_once() {
    let engines = faulty(|_| {});
    let metrics = Metrics::new();
    engines.count(metrics.clone());
    let mut job = Job::new();
    let slow = job.load(&engines, "v", "slow-1000").expect("loads");
    for _ in 0..2 {
        job.run(&slow, &NUMBERS).expect("runs");
    }
    job.deadline = Some(Duration::from_millis(700));
    let error = job.run(&slow, &NUMBERS).expect_err("1000 ms in 700");
    assert!(matches!(error, InferenceError::TooLate { .. }) && error.limit() == Some("job_deadline_ms"), "{error}");
    assert!(error.to_string().contains("what has the device before takes 0 ms or more, and itself 1"), "{error}");
    assert!(metrics.render().contains("model=\"slow-1000\",device=\"cpu\",reason=\"late\"} 1\n"));
    // Of a batch, all pieces are counted.
    job.batch = Batch::Items;
    job.deadline = Some(Duration::from_secs(3));
    let error = job.run(&slow, &[0.0; 16]).expect_err("4 of 1000 ms");
    assert!(matches!(error, InferenceError::TooLate { .. }), "{error}");
    assert_eq!(engines.workers()[0].restarts, 0, "nothing had to be ended");
}

#[test]
fn a_run_that_waited_too_long_is_refused_where_the_site_says_so() {
    let engines = faulty(|config| config.queue_age_max_ms = 100);
    let job = Job::new();
    let slow = job.load(&engines, "v", "slow-800").expect("loads");
    std::thread::scope(|scope| {
        let runs = [(); 2].map(|()| scope.spawn(|| job.run(&slow, &NUMBERS)));
        let mut ends = runs.map(|run| run.join().expect("it does not panic"));
        ends.sort_by_key(Result::is_err);
        let [Ok(_), Err(InferenceError::Busy { reason, .. })] = ends else { panic!("{ends:?}") };
        assert!(reason.ends_with("engines.queue_age_max_ms = 100"), "{reason}");
    });
}

#[test]
fn a_batch_that_waited_long_comes_to_its_end_beside_urgent_work_that_never_ends() {
    let engines = faulty(|config| (config.device_slice_ms_max, config.routine_wait_max_ms) = (100, 400));
    let mut routine = Job::new();
    routine.batch = Batch::Items;
    let slow = routine.load(&engines, "v", "slow-20").expect("loads");
    // Now it is known how long an item takes.
    routine.run(&slow, &NUMBERS).expect("runs");
    let numbers: Vec<f32> = (0..4 * 60).map(|n| n as f32).collect();
    let over = AtomicBool::new(false);
    let longest = std::thread::scope(|scope| {
        let urgent = || {
            let urgent = Job { turn: Turn::new(Urgency::Urgent), deadline: None, ..Job::new() };
            let model = urgent.load(&engines, "other", "slow-30").expect("loads");
            let mut longest = Duration::ZERO;
            while !over.load(Ordering::Relaxed) {
                let since = Instant::now();
                urgent.run(&model, &NUMBERS).expect("runs");
                longest = longest.max(since.elapsed());
            }
            longest
        };
        let busy = [scope.spawn(urgent), scope.spawn(urgent)];
        let since = Instant::now();
        let answer = routine.run(&slow, &numbers);
        let took = since.elapsed();
        over.store(true, Ordering::Relaxed);
        let longest = busy.map(|thread| thread.join().expect("it does not panic"));
        assert_eq!(answer.expect("before its deadline"), numbers);
        // 15 pieces of 80 ms: were each to wait 400 ms anew, it would be 7 s.
        assert!(took < Duration::from_secs(5), "took {took:?}");
        longest
    });
    // One of the other urgent, and one piece.
    assert!(longest.iter().all(|longest| *longest < Duration::from_millis(600)), "{longest:?}");
}

#[test]
fn models_that_were_not_used_for_the_longest_time_make_room() {
    let engines = faulty(|config| config.models_memory_mib = 100);
    let job = Job::new();
    let models: Vec<_> = (0..4).map(|n| job.load(&engines, "v", &format!("large-{n}")).expect("loads")).collect();
    for model in models.iter().chain(models.iter().rev()) {
        assert_eq!(job.run(model, &NUMBERS).expect("runs"), NUMBERS);
        let workers = engines.workers();
        let held: u64 = workers[0].models.iter().map(|(_, bytes)| bytes).sum();
        assert!(workers[0].models.len() <= 2 && held <= 100 << 20, "{workers:?}");
        // Pages of the process: what was let go of is given back.
        let status = std::fs::read_to_string(format!("/proc/{}/statm", workers[0].process.expect("it runs")));
        let pages: u64 = status.expect("readable").split(' ').nth(1).and_then(|n| n.parse().ok()).expect("a number");
        assert!(pages * 4096 < 200 << 20, "{pages} pages");
    }
}

/// `y = x · w`, of `[n, 4]` numbers and a matrix of so many columns of this number.
fn matrix(columns: usize, number: f32) -> Vec<u8> {
    fn varint(mut n: usize) -> Vec<u8> {
        let mut bytes = Vec::new();
        while n >= 128 {
            bytes.push((n & 127) as u8 | 128);
            n >>= 7;
        }
        bytes.push(n as u8);
        bytes
    }
    let part = |number: u8, bytes: &[u8]| [&[number << 3 | 2], &varint(bytes.len())[..], bytes].concat();
    let size = |n: usize| [vec![8], varint(n)].concat();
    let value = |name: &[u8], size: &[u8]| {
        let dims = [part(1, &field(2, b"n")), part(1, size)].concat();
        [part(1, name), part(2, &part(1, &[vec![8, 1], part(2, &dims)].concat()))].concat()
    };
    let raw: Vec<u8> = std::iter::repeat_n(number.to_le_bytes(), 4 * columns).flatten().collect();
    let weights = [size(4), size(columns), vec![16, 1], part(8, b"w"), part(9, &raw)].concat();
    let node = [part(1, b"x"), part(1, b"w"), part(2, b"y"), part(4, b"MatMul")].concat();
    let (x, y) = (value(b"x", &size(4)), value(b"y", &size(columns)));
    let graph = [part(1, &node), part(2, b"g"), part(5, &weights), part(11, &x), part(12, &y)].concat();
    [vec![8, 8], part(7, &graph), part(8, &[16, 17])].concat()
}

#[test]
fn what_real_engines_are_told_to_let_go_of_is_given_back() {
    const COLUMNS: usize = 1_000_000;
    let library = gantry_tests::asset("onnxruntime").and_then(|_| gantry::inference::find_library(None));
    for engine in [Some(EnginePreference::Tract), library.map(|_| EnginePreference::OnnxRuntime)].into_iter().flatten()
    {
        let engines = real(|config| {
            (config.engine, config.models_memory_mib, config.worker_memory_mib) = (engine, 50, 2048);
        });
        let job = Job { deadline: None, ..Job::new() };
        for n in 0..6u8 {
            let bytes = matrix(COLUMNS, f32::from(n));
            let request = Request { vendor: "v", name: "m", bytes: &bytes, target: Device::Cpu, warm_up: None };
            let model = engines.load(request, &job.call()).expect("loads");
            let x = Tensor::new(vec![1, 4], ElementType::F32, [1f32; 4].map(f32::to_le_bytes).concat(), &job.budget);
            let y = model.run(vec![("x".into(), x.expect("a tensor"))], &job.call()).expect("runs");
            assert_eq!(y[0].1.as_f32().map(|y| (y.len(), y[COLUMNS / 2])), Some((COLUMNS, 4.0 * f32::from(n))));
            // An engine alone takes up to 50 MiB, and makes 20 to 50 of such a model, of 15.
            let memory = engines.workers()[0].memory_bytes.expect("it runs");
            assert!(memory < 150 << 20, "{engine:?}, model {n}: {} MiB", memory >> 20);
        }
    }
}

#[test]
fn an_urgent_job_keeps_what_it_just_loaded_whatever_that_takes() {
    let engines = faulty(|config| config.models_memory_mib = 10);
    let mut job = Job::new();
    job.turn = Turn::new(Urgency::Urgent);
    let large = job.load(&engines, "v", "large-0").expect("loads");
    assert_eq!(job.run(&large, &NUMBERS).expect("runs"), NUMBERS);
}

#[test]
fn who_wants_a_model_all_the_time_does_not_keep_others_from_loading() {
    let engines = faulty(|config| config.models_memory_mib = 50);
    let (busy, other) = (Job::new(), Job::new());
    let large = busy.load(&engines, "v", "large-0").expect("loads");
    let over = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        // Two, so that one waits for its turn while the other runs.
        for _ in 0..2 {
            scope.spawn(|| {
                while !over.load(std::sync::atomic::Ordering::Relaxed) {
                    assert_eq!(busy.run(&large, &NUMBERS).expect("runs"), NUMBERS);
                }
            });
        }
        let second = other.load(&engines, "v", "large-1");
        let answer = second.and_then(|second| other.run(&second, &NUMBERS));
        over.store(true, std::sync::atomic::Ordering::Relaxed);
        assert_eq!(answer.expect("long before its deadline"), NUMBERS);
    });
}

#[test]
fn urgent_work_waits_for_a_slice_of_a_batch_and_not_for_all_of_it() {
    let engines = faulty(|config| config.device_slice_ms_max = 100);
    let mut routine = Job::new();
    routine.batch = Batch::Items;
    let slow = routine.load(&engines, "v", "slow-20").expect("loads");
    let mut urgent = Job::new();
    urgent.turn = Turn::new(Urgency::Urgent);
    let good = urgent.load(&engines, "other", "good").expect("loads");
    let numbers: Vec<f32> = (0..4 * 100).map(|n| n as f32).collect();
    std::thread::scope(|scope| {
        let running = scope.spawn(|| routine.run(&slow, &numbers).expect("runs"));
        for _ in 0..5 {
            std::thread::sleep(Duration::from_millis(150));
            let since = Instant::now();
            assert_eq!(urgent.run(&good, &NUMBERS).expect("runs"), NUMBERS);
            assert!(since.elapsed() < Duration::from_millis(600), "waited {:?}", since.elapsed());
            assert!(!running.is_finished(), "2 s of routine work");
        }
        assert_eq!(running.join().expect("it does not panic"), numbers, "the pieces are one again, in order");
    });
}

/// Jobs that each run the model on their number at the same time, as one where that may be; what each got.
fn together(engines: &Engines, name: &str, count: usize) -> Vec<Result<Vec<f32>, InferenceError>> {
    let join = Batch::Joined(Join { items_max: count, window: Duration::from_secs(2) });
    let jobs: Vec<_> = (0..count).map(|_| Job { batch: join, ..Job::new() }).collect();
    let models: Vec<_> = jobs.iter().map(|job| job.load(engines, "v", name).expect("loads")).collect();
    // Now it is known how long an item takes.
    Job { batch: Batch::Items, ..Job::new() }.run(&models[0], &NUMBERS).expect("runs");
    let answers = std::thread::scope(|scope| {
        let mut running = Vec::new();
        for (n, (job, model)) in jobs.iter().zip(&models).enumerate() {
            running.push(scope.spawn(move || job.run(model, &[10.0 + n as f32; 4])));
        }
        running.into_iter().map(|thread| thread.join().expect("it does not panic")).collect()
    });
    assert!(jobs.iter().all(|job| job.budget.used() == 0), "all is given back");
    answers
}

#[test]
fn runs_of_several_jobs_are_one_and_each_gets_its_own() {
    let engines = faulty(|_| {});
    for (n, answer) in together(&engines, "slow-10", 8).into_iter().enumerate() {
        assert_eq!(answer.expect("runs"), [10.0 + n as f32; 4]);
    }
    let runs = engines.workers()[0].runs;
    assert!(runs <= 3, "one to learn, one for all, and one for who came too late: {runs}");
}

#[test]
fn one_that_is_alone_waits_for_nobody() {
    let engines = faulty(|_| {});
    let join = Batch::Joined(Join { items_max: 8, window: Duration::from_secs(60) });
    let job = Job { batch: join, ..Job::new() };
    let model = job.load(&engines, "v", "good").expect("loads");
    for _ in 0..3 {
        assert_eq!(job.run(&model, &NUMBERS).expect("well before its deadline"), NUMBERS);
    }
}

#[test]
fn what_one_job_does_to_all_is_its_own_in_the_end() {
    let engines = faulty(|config| config.model_failures_max = 3);
    for (n, answer) in together(&engines, "poison", 6).into_iter().enumerate() {
        match n {
            3 => assert!(matches!(answer, Err(InferenceError::Crashed { .. })), "{answer:?}"),
            n => assert_eq!(answer.expect("runs by itself"), [10.0 + n as f32; 4]),
        }
    }
}

#[test]
fn several_runs_at_once_are_in_one_process_and_none_pays_for_another() {
    let engines = faulty(|config| (config.runs_at_once_max, config.compute_deadline_ms) = (3, 400));
    let job = Job::new();
    let load = |name: &str| job.load(&engines, "v", name).expect("loads");
    let (slow, abort, hang) = (load("slow-250"), load("abort"), load("hang"));
    let since = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| job.run(&slow, &NUMBERS).expect("runs"));
        }
    });
    assert!(
        since.elapsed() < Duration::from_millis(650),
        "one after another it would be 750 ms: {:?}",
        since.elapsed()
    );
    assert!(engines.workers().len() == 1 && engines.workers()[0].restarts == 0);
    for bad in [&abort, &hang] {
        std::thread::scope(|scope| {
            let failing = scope.spawn(|| job.run(bad, &NUMBERS));
            for _ in 0..2 {
                scope.spawn(|| assert_eq!(job.run(&slow, &NUMBERS).expect("runs all the same"), NUMBERS));
            }
            failing.join().expect("it does not panic").expect_err("it misbehaves");
        });
    }
    assert!(engines.workers()[0].restarts >= 2);
}

#[test]
fn a_model_is_run_once_when_it_is_loaded_where_its_manifest_says_so() {
    let engines = faulty(|_| {});
    let load = |name: &str, shape: &[usize]| {
        let (job, bytes, shapes) = (Job::new(), model(name), [("x".to_owned(), shape.to_vec())].into());
        let request = Request { vendor: "v", name, bytes: &bytes, target: Device::Cpu, warm_up: Some(&shapes) };
        engines.load(request, &job.call()).map(drop)
    };
    load("good", &[2, 4]).expect("it runs on zeros");
    let error = load("abort", &[2, 4]).expect_err("it ran");
    assert!(matches!(error, InferenceError::Crashed { .. }), "{error}");
    let error = load("another", &[2, 5]).expect_err("of another shape").to_string();
    assert!(error.contains("is refused: its warm_up: model 'another' input 'x': expected"), "{error}");
}

#[test]
fn a_full_queue_refuses_at_once() {
    let engines = faulty(|config| config.queue_length_max = 1);
    let job = Job::new();
    let slow = job.load(&engines, "v", "slow-800").expect("loads");
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| job.run(&slow, &NUMBERS).expect("runs"));
        }
        std::thread::sleep(Duration::from_millis(300));
        let error = job.run(&slow, &NUMBERS).expect_err("full");
        assert!(error.to_string().contains("engines.queue_length_max"), "{error}");
    });
}

#[test]
fn the_command_that_is_a_worker_is_for_the_host_alone() {
    let said: gantry_tests::command::Said =
        gantry_tests::command::gantry().arg("worker").output().expect("gantry runs").into();
    assert!(said.code == Some(2) && said.err.contains("is started by gantry itself"), "{said:?}");
}
