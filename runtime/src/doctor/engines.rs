//! Engines, and the workers that they run in.

use std::path::{Path, PathBuf};

use super::{Check, machine};
use crate::config::Config;
use crate::inference::{CpuConfig, Device, EngineConfig, Engines, Provider, processors};
use crate::routing::Plan;
use crate::worker::{self, Found, Program};

pub(super) fn engine(config: &Config) -> Check {
    const NAME: &str = "inference engine";
    match Engines::discover(&config.engines) {
        Ok(engines) => match engines.library() {
            Some(library) => Check::ok(NAME, format!("{} ({})", engines.kind(), library.display())),
            None => Check::ok(NAME, engines.kind().to_string()),
        },
        Err(e) => Check::fail(NAME, e.to_string(), "install the library, or set engines.engine"),
    }
}

/// Whether workers can do what they are not to do, tried by one of each kind.
pub(super) fn workers(config: &Config) -> Check {
    const NAME: &str = "workers";
    let engines = config.engines();
    let library = Engines::discover(&engines).ok().and_then(|found| found.library().map(Path::to_path_buf));
    let own = Program::own().map_err(|e| e.to_string());
    let others: Vec<_> = of_others(config).into_iter().map(|(_, path)| path).collect();
    let tried = match own.and_then(|own| worker::self_check(&engines, &config.limits, &own, library, &others)) {
        Ok(tried) => tried,
        Err(e) => return Check::fail(NAME, e, "modules cannot run here; see engines in gantry.toml"),
    };
    // The same walls are around all of them.
    let kept = tried.first().map(|tried| tried.kept.as_slice()).unwrap_or_default();
    let missing: Vec<_> = kept.iter().filter_map(|kept| Some((kept.wall, kept.missing.as_ref()?))).collect();
    let told = missing.iter().map(|(wall, why)| format!("no {} ({why})", wall.name())).collect::<Vec<_>>().join(", ");
    let probes = || tried.iter().flat_map(|tried| tried.probes.iter().map(|probe| (tried.role, probe)));
    let given_up = || probes().filter(|(_, probe)| !probe.needed);
    let possible = given_up().filter(|(_, probe)| probe.refused.is_none());
    let possible: Vec<_> = possible.map(|(role, probe)| format!("{} ({role})", probe.what)).collect();
    let (tries, refused) = (given_up().count(), given_up().count() - possible.len());
    let roles = tried.iter().map(|tried| tried.role).collect::<Vec<_>>().join(", ");
    let unaccepted = missing.iter().any(|(wall, _)| wall.is_required() && !engines.accept_missing.contains(wall));
    if unaccepted {
        return Check::fail(
            NAME,
            told,
            "use a kernel that has it (Landlock: 5.13, and `lsm=landlock,…`), or accept it by name in engines.accept_missing",
        );
    }
    let needed: Vec<_> = probes().filter(|(_, probe)| probe.needed).collect();
    let needed = needed.iter().map(|(role, probe)| format!("{} ({role})", probe.what)).collect::<Vec<_>>().join(", ");
    let partly = kept.iter().filter_map(|kept| Some(format!("; {}: {}", kept.wall.name(), kept.partly.as_ref()?)));
    let partly = partly.collect::<String>();
    let found = format!(
        "{refused} of {tries} things that workers ({roles}) gave up were tried by them and refused; left open, for engines need \
         it: {needed}{partly}"
    );
    match (possible.is_empty(), missing.is_empty()) {
        (true, true) => Check::ok(NAME, found),
        (true, false) => {
            Check::warn(NAME, format!("{found}; {told}"), "what is missing is held by the other walls too")
        }
        (false, _) => Check::fail(
            NAME,
            format!("{found}; possible were: {}; {told}", possible.join(", ")),
            "what breaks an engine, a compiler or a decoder could do this; use a kernel that refuses it",
        ),
    }
}

/// What is none of a worker's business, and what it is.
fn of_others(config: &Config) -> Vec<(&'static str, PathBuf)> {
    let packages = config
        .modules
        .iter()
        .flat_map(|module| [("a module", module.package.clone()), ("a module", module.package.join("module.toml"))]);
    let data = config.node.data_folder.iter().map(|path| ("node.data_folder", path.clone()));
    let cache = config.cache.folder.iter().map(|path| ("cache.folder", path.clone()));
    packages.chain(data).chain(cache).collect()
}

/// Whether something of others lies in a folder that is left open to engines: beside their library.
pub(super) fn left_open(config: &Config) -> Option<Check> {
    const NAME: &str = "engine library";
    let engines = config.engines();
    let found = Engines::discover(&engines).ok()?;
    let open = [Device::Cpu, Device::Gpu].map(|device| worker::left_open(&engines, found.library(), device)).concat();
    let within = |path: &PathBuf| {
        let path = path.canonicalize().ok()?;
        open.iter().find(|open| path.starts_with(open))
    };
    let (what, path, folder) =
        of_others(config).into_iter().find_map(|(what, path)| within(&path).map(|folder| (what, path, folder)))?;
    Some(Check::fail(
        NAME,
        format!(
            "{what} ({}) lies in {}, where workers on a GPU or with OpenVINO can read",
            path.display(),
            folder.display()
        ),
        "put the library into a folder of its own",
    ))
}

/// Which engines there are and what each can run models on, as workers with them say: a library is never loaded here.
pub(super) fn engines_and_devices(config: &Config) -> Vec<Check> {
    const NAME: &str = "engines";
    let engines = config.engines();
    let mut checks = vec![machine::devices()];
    let Ok(own) = Program::own() else { return checks };
    let built_in = EngineConfig { cpu: CpuConfig::default(), ..engines.clone() };
    let tract = worker::find(&built_in, &own, None, Device::Cpu);
    checks.push(match tract {
        Ok(found) => Check::ok(NAME, can_use(&found)),
        Err(e) => Check::fail(NAME, format!("tract: {e}"), "see the check of workers"),
    });
    let library = Engines::discover(&engines).ok().and_then(|found| found.library().map(Path::to_path_buf));
    if let Some(library) = library {
        checks.push(match worker::find(&built_in, &own, Some(library.clone()), Device::Cpu) {
            Ok(found) => Check::ok(NAME, can_use(&found)),
            Err(e) => Check::fail(NAME, format!("{}: {e}", library.display()), "install another, or take tract"),
        });
        if engines.cpu != CpuConfig::default() {
            checks.push(match worker::find(&engines, &own, Some(library.clone()), Device::Cpu) {
                Ok(found) => Check::ok("models on the processor", found.version),
                Err(e) => Check::fail("models on the processor", e, "change engines.cpu"),
            });
        }
        checks.push(on_gpu(config, worker::find(&engines, &own, Some(library), Device::Gpu)));
    }
    checks
}

/// `onnxruntime 1.32.0: cpu; CUDA, TensorRT, OpenVINO are not in this library`.
fn can_use(found: &Found) -> String {
    let list = |there: bool| {
        let some = Provider::ALL
            .iter()
            .filter(|provider| **provider != Provider::BuiltIn && found.providers.contains(provider) == there);
        some.map(ToString::to_string).collect::<Vec<_>>().join(", ")
    };
    let more = |text: String, before: &str, after: &str| match text.as_str() {
        "" => text,
        text => format!("{before}{text}{after}"),
    };
    // tract has no library that could have been built with them.
    let lacking = if found.version.starts_with("tract") { String::new() } else { list(false) };
    format!("{}: cpu{}{}", found.version, more(list(true), ", ", ""), more(lacking, "; not in this library: ", ""))
}

/// Whether models that ask for a GPU have one: a fault only where a module asks.
fn on_gpu(config: &Config, found: Result<Found, String>) -> Check {
    const NAME: &str = "models on a GPU";
    let index = config.engines.gpu.index;
    match found {
        Ok(found) => Check::ok(NAME, format!("{}, GPU {index}", found.version)),
        Err(e) if !asks_for_gpu(config) => Check::ok(NAME, format!("cannot run, and no module asks for one: {e}")),
        Err(e) if config.engines.gpu_fallback_to_cpu => Check::warn(
            NAME,
            format!("cannot run, and fall back to the processor: {e}"),
            "install the driver and the library, or change engines.gpu",
        ),
        Err(e) => Check::fail(
            NAME,
            format!("cannot run: {e}"),
            "install the driver and the library, change engines.gpu, or set engines.gpu_fallback_to_cpu",
        ),
    }
}

fn asks_for_gpu(config: &Config) -> bool {
    let Ok(plan) = Plan::load(config) else { return false };
    let mut models = plan.modules.iter().flat_map(|planned| &planned.package.manifest().models);
    models.any(|model| model.target == Device::Gpu)
}

/// Limits of which one is never reached because of another: each alone is in its range.
pub(super) fn contradictions(config: &Config) -> Vec<Check> {
    let (engines, limits) = (&config.engines, &config.limits);
    let key = |name: &'static str, value: u64| (name, value);
    let age = key("engines.queue_age_max_ms", engines.queue_age_max_ms);
    let wait = key("engines.routine_wait_max_ms", engines.routine_wait_max_ms);
    let (models, worker) = (
        key("engines.models_memory_mib", engines.models_memory_mib),
        key("engines.worker_memory_mib", engines.worker_memory_mib),
    );
    let pairs = [
        // 0: no run is refused for its age.
        (age.1 > 0 && age.1 <= wait.1, age, "not above", wait, "a routine run is refused before its turn comes"),
        (
            wait.1 >= limits.job_deadline_ms,
            wait,
            "not below",
            key("limits.job_deadline_ms", limits.job_deadline_ms),
            "a routine job is over before its turn comes",
        ),
        (models.1 >= worker.1, models, "not below", worker, "a worker has no memory left before models make room"),
        (
            limits.model_max_mib >= worker.1,
            key("limits.model_max_mib", limits.model_max_mib),
            "not below",
            worker,
            "the largest models that are taken have no room in a worker",
        ),
        (
            engines.device_slice_ms_max >= engines.compute_deadline_ms,
            key("engines.device_slice_ms_max", engines.device_slice_ms_max),
            "not below",
            key("engines.compute_deadline_ms", engines.compute_deadline_ms),
            "a slice of a batch is ended before it is over",
        ),
    ];
    let wrong = pairs.into_iter().filter(|(wrong, ..)| *wrong);
    let told = wrong.map(|(_, (one, value), is, (other, than), so)| {
        Check::warn("limits", format!("{one} = {value} is {is} {other} = {than}: {so}"), "change either")
    });
    told.collect()
}

/// More threads than processors make each run slower.
pub(super) fn threads(config: &Config) -> Option<Check> {
    const NAME: &str = "engines.intra_threads";
    let (each, at_once) = (config.engines.intra_threads, config.engines.runs_at_once_max);
    let (all, there) = (each.max(1).saturating_mul(at_once), processors());
    (all > there).then(|| {
        Check::warn(
            NAME,
            format!(
                "{} threads of each of runs_at_once_max = {at_once} runs are {all}, and there are {there} processors",
                each.max(1)
            ),
            "set engines.intra_threads = 0, or fewer runs at once",
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::State;

    #[test]
    fn limits_that_contradict_each_other_are_told() {
        assert!(contradictions(&Config::default()).is_empty());
        type Change = fn(&mut Config);
        let changes: [(&str, Change); 5] = [
            ("engines.queue_age_max_ms = 30000 is not above engines.routine_wait_max_ms = 30000: ", |config| {
                config.engines.queue_age_max_ms = 30_000;
            }),
            ("engines.routine_wait_max_ms = 700000 is not below limits.job_deadline_ms = ", |config| {
                config.engines.routine_wait_max_ms = 700_000;
                config.limits.job_deadline_ms = 600_000;
            }),
            ("engines.models_memory_mib = 4096 is not below engines.worker_memory_mib = 4096: ", |config| {
                config.engines.worker_memory_mib = 4096;
            }),
            ("limits.model_max_mib = 3000 is not below engines.worker_memory_mib = 2048: ", |config| {
                config.limits.model_max_mib = 3000;
                (config.engines.models_memory_mib, config.engines.worker_memory_mib) = (1024, 2048);
            }),
            ("engines.device_slice_ms_max = 500 is not below engines.compute_deadline_ms = 400: ", |config| {
                config.engines.compute_deadline_ms = 400;
            }),
        ];
        for (says, change) in changes {
            let mut config = Config::default();
            change(&mut config);
            let found = crate::doctor::check_configuration(&config);
            let found: Vec<_> = found.iter().filter(|check| check.name == "limits").collect();
            let [check] = found.as_slice() else { panic!("{found:?}") };
            assert!(check.state == State::Warn && check.found.starts_with(says), "{check}");
        }
    }

    #[test]
    fn more_threads_than_processors_are_told() {
        let mut config = Config::default();
        assert!(threads(&config).is_none(), "0 shares what there is");
        config.engines.intra_threads = processors();
        assert!(threads(&config).is_none());
        config.engines.runs_at_once_max = 2;
        let check = threads(&config).expect("twice as many");
        assert!(check.state == State::Warn && check.found.contains("runs_at_once_max = 2"), "{check}");
        config.engines.intra_threads = 0;
        config.engines.runs_at_once_max = processors() + 1;
        assert!(threads(&config).is_some(), "each has one at least");
    }

    #[test]
    fn engines_tell_what_they_can_use() {
        let found =
            |version: &str, providers: &[Provider]| Found { version: version.into(), providers: providers.into() };
        assert_eq!(can_use(&found("tract 0.23.9", &[Provider::BuiltIn])), "tract 0.23.9: cpu");
        assert_eq!(
            can_use(&found("onnxruntime 1.32.0", &[Provider::BuiltIn])),
            "onnxruntime 1.32.0: cpu; not in this library: CUDA, TensorRT, OpenVINO"
        );
        assert_eq!(
            can_use(&found("onnxruntime 1.32.0", &[Provider::BuiltIn, Provider::Cuda, Provider::TensorRt])),
            "onnxruntime 1.32.0: cpu, CUDA, TensorRT; not in this library: OpenVINO"
        );
    }

    #[test]
    fn no_gpu_is_a_fault_only_where_a_module_asks_for_one() {
        let mut config = Config::default();
        let none = || Err("no gpu".to_owned());
        assert_eq!(on_gpu(&config, none()).state, State::Ok);
        let folder = tempfile::tempdir().expect("a folder");
        let manifest = "schema = 1\nname = \"lungs\"\nversion = \"0.1.0\"\nvendor = \"Tests\"\n[label]\ntitle = \"T\"\n\
             intended_use = \"T\"\ndemonstration = true\n[accepts]\nmodality = [\"CT\"]\n[component]\nsha256 = \"SHA\"\n\
             [[models]]\nname = \"m\"\nfile = \"models/m.onnx\"\nsha256 = \"SHA\"\ntarget = \"gpu\"\n";
        let manifest = manifest.replace("SHA", &"0".repeat(64));
        std::fs::write(folder.path().join("module.toml"), manifest).expect("written");
        let text = format!("[[modules]]\npackage = {:?}\n", folder.path());
        config.modules = toml::from_str::<Config>(&text).expect("a configuration").modules;
        assert_eq!(on_gpu(&config, none()).state, State::Fail);
        config.engines.gpu_fallback_to_cpu = true;
        assert_eq!(on_gpu(&config, none()).state, State::Warn);
    }

    #[test]
    fn what_lies_beside_an_engines_library_is_told() {
        let folder = tempfile::tempdir().expect("a folder");
        let library = folder.path().join("libonnxruntime.so");
        std::fs::write(&library, "").expect("written");
        let mut config = Config::default();
        config.engines.onnxruntime_library = Some(library);
        config.node.data_folder = Some(folder.path().join("data"));
        std::fs::create_dir(folder.path().join("data")).expect("made");
        let check = left_open(&config).expect("it lies there");
        assert!(check.state == State::Fail && check.found.contains("node.data_folder"), "{check}");
        config.node.data_folder = None;
        assert!(left_open(&config).is_none());
    }
}
