//! `gantry doctor`: whether a machine and its configuration hold what a node needs, and what to do where they do not.

use std::fmt;
use std::io::{ErrorKind, Write};
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use dicom_transfer_syntax_registry::TransferSyntaxRegistry;
use rustix::fs::Access;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde::Serialize;

use crate::certificate;
use crate::completion::Archive;
use crate::config::{Config, PeerTlsConfig, TlsConfig};
use crate::inference::{CpuConfig, Device, EngineConfig, Engines, Provider, processors};
use crate::ingest::disk::{Disk, RealDisk};
use crate::ingest::folder as watched_folder;
use crate::routing::{Plan, Planned};
use crate::store::Store;
use crate::tls::{self, TlsError};
use crate::web;
use crate::worker::{self, Found, Program};

/// Certificates that end within so many days are warned of.
const EXPIRY_WARN_DAYS: i64 = 30;

/// Commits a second below which a disk holds a node back.
const FSYNC_WARN_PER_S: f64 = 50.0;

/// How a check ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// As it should be.
    Ok,
    /// A node runs, and somebody should look.
    Warn,
    /// A node does not run, or loses what it should keep.
    Fail,
}

/// One thing that was looked at.
#[derive(Debug, Clone, Serialize)]
pub struct Check {
    /// What.
    pub name: &'static str,
    /// How it ended.
    pub state: State,
    /// What was found.
    pub found: String,
    /// What to do; empty when there is nothing to do.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub remedy: String,
}

impl Check {
    fn ok(name: &'static str, found: impl Into<String>) -> Self {
        Self { name, state: State::Ok, found: found.into(), remedy: String::new() }
    }

    fn warn(name: &'static str, found: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { name, state: State::Warn, found: found.into(), remedy: remedy.into() }
    }

    fn fail(name: &'static str, found: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { name, state: State::Fail, found: found.into(), remedy: remedy.into() }
    }
}

impl fmt::Display for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = match self.state {
            State::Ok => "ok  ",
            State::Warn => "WARN",
            State::Fail => "FAIL",
        };
        write!(f, "{state} {}: {}", self.name, self.found)?;
        if self.remedy.is_empty() { Ok(()) } else { write!(f, "\n     → {}", self.remedy) }
    }
}

/// What the configuration names: files, folders, modules, engines, asked in the ways of `gantry serve`. Changes nothing, compiles
/// nothing and is done at once.
#[must_use]
pub fn check_configuration(config: &Config) -> Vec<Check> {
    let mut checks = vec![folder(config.node.data_folder.as_deref()), engine(config), modules(config)];
    checks.extend(config.folder.path.as_deref().map(watched));
    for (name, tls) in [("dimse.tls", &config.dimse.tls), ("web.tls", &config.web.tls)] {
        checks.extend(tls.iter().flat_map(|tls| certificates(name, tls)));
    }
    checks
        .extend(config.dimse.callers.iter().filter_map(|c| c.tls.as_ref()).flat_map(|c| peer("dimse.callers.tls", c)));
    checks.extend(config.pacs.iter().filter_map(|p| p.tls.as_ref()).flat_map(|p| peer("pacs.tls", p)));
    if !config.pacs.is_empty() {
        checks.push(archives(config));
    }
    checks
}

/// All of it. Writes a small file into the data folder, or the nearest one above it while there is none, and takes about a
/// second.
#[must_use]
pub fn check_all(config: &Config) -> Vec<Check> {
    let mut checks = check_configuration(config);
    if let Some(data) = &config.node.data_folder {
        let there = nearest(data);
        checks.push(space(&there, config.node.disk_free_min_mib));
        // Where nothing can be written, the folder's own check says so.
        if rustix::fs::access(&there, Access::WRITE_OK).is_ok() {
            checks.push(fsync(&there));
        }
    }
    checks.extend(config.dimse.listen.map(|listen| port("dimse.listen", listen)));
    if let Some(listen) = config.web.listen {
        checks.push(port("web.listen", listen));
        checks.extend(web::needs_token(listen, &config.web).then(|| token(config, listen)));
    }
    checks.push(workers(config));
    checks.extend(left_open(config));
    checks.extend(engines_and_devices(config));
    checks.extend(threads(config));
    checks.extend([clock(), codecs(), files(config.dimse.associations_max)]);
    checks
}

/// What a node looks at when it starts: whether others can reach into its data folder, and whether it has space.
pub(crate) fn check_data_folder(data: &Path, free_min_mib: u64) -> [Check; 2] {
    [folder(Some(data)), space(data, free_min_mib)]
}

fn folder(data: Option<&Path>) -> Check {
    const NAME: &str = "node.data_folder";
    let Some(data) = data else {
        return Check::fail(NAME, "it is not set", "set it to a folder that only the user of `gantry serve` can write");
    };
    let path = data.display();
    let mode = match std::fs::metadata(data) {
        Ok(found) if found.is_dir() => found.permissions().mode(),
        Ok(_) => return Check::fail(NAME, format!("{path} is no folder"), "name a folder"),
        Err(e) if e.kind() == ErrorKind::NotFound => {
            return match rustix::fs::access(nearest(data), Access::WRITE_OK) {
                Ok(()) => Check::ok(NAME, format!("{path} will be made at the first start")),
                Err(e) => {
                    Check::fail(NAME, format!("{path} is not there and cannot be made: {e}"), "make it (mode 0700)")
                }
            };
        }
        Err(e) => return Check::fail(NAME, format!("{path}: {e}"), "let the user of `gantry serve` read it"),
    };
    if let Err(e) = rustix::fs::access(data, Access::WRITE_OK | Access::EXEC_OK) {
        return Check::fail(NAME, format!("{path} cannot be written to: {e}"), "give it to the user of `gantry serve`");
    }
    let found = format!("{path} has mode {:04o}", mode & 0o7777);
    let readable = readable_by_others(data);
    match mode & 0o077 {
        0 => Check::ok(NAME, found),
        open if open & 0o022 != 0 => Check::fail(NAME, format!("{found}: others can write there"), "chmod 0700"),
        open if open & 0o011 != 0 && !readable.is_empty() => Check::warn(
            NAME,
            format!("{found}: others can read {}, with patients' names and findings", readable.join(" and ")),
            "chmod 0700",
        ),
        open if open & 0o011 != 0 => Check::warn(
            NAME,
            format!("{found}: others can reach what is in it, as far as the modes of its files let them"),
            "chmod 0700",
        ),
        _ => Check::warn(NAME, format!("{found}: others can list what is in it, and read none of it"), "chmod 0700"),
    }
}

/// What tells of patients and is open to others, where they can enter the folder. Instances never are: their files are made with
/// mode 0600.
fn readable_by_others(data: &Path) -> Vec<&'static str> {
    let open = |name: &&str| std::fs::metadata(data.join(name)).is_ok_and(|m| m.permissions().mode() & 0o044 != 0);
    ["journal.sqlite", "results"].into_iter().filter(open).collect()
}

/// The folder, or the nearest above it that is there.
fn nearest(folder: &Path) -> PathBuf {
    let absolute = std::path::absolute(folder).unwrap_or_else(|_| folder.to_owned());
    absolute.ancestors().find(|folder| folder.is_dir()).unwrap_or(Path::new("/")).to_owned()
}

fn watched(path: &Path) -> Check {
    const NAME: &str = "folder.path";
    let shown = path.display();
    match watched_folder::check(path) {
        Ok(()) => Check::ok(NAME, format!("{shown} can be read and written")),
        Err(e) => Check::fail(NAME, format!("{shown}: {e}"), watched_folder::REMEDY),
    }
}

/// Packages, grants, and who waits for whom. A component is read and not compiled, and models are left alone: they may be large.
fn modules(config: &Config) -> Check {
    const NAME: &str = "modules and rules";
    if config.modules.is_empty() {
        return Check::ok(NAME, "no module: studies are kept, and nothing runs on them");
    }
    match names_and_denied(config) {
        Ok((names, denied)) if denied.is_empty() => Check::ok(NAME, names.join(", ")),
        Ok((_, denied)) => Check::warn(
            NAME,
            denied.join("; "),
            "allow it by `grants` in [[modules]]: with a component that imports what was not granted, a node does not start",
        ),
        Err(reason) => {
            Check::fail(NAME, reason, "mend [[modules]] or [[rules]]; `gantry module inspect` shows a package")
        }
    }
}

fn names_and_denied(config: &Config) -> Result<(Vec<String>, Vec<String>), String> {
    let plan = Plan::load(config).map_err(|e| e.to_string())?;
    let (mut names, mut denied) = (Vec::new(), Vec::new());
    for Planned { name, package, policy, .. } in plan.modules {
        package.component(config.limits.component_max_mib).map_err(|e| format!("modules ({name}): {e}"))?;
        let (_, asks) = policy.grant(&package.manifest().needs);
        denied.extend(asks.iter().map(|ask| format!("{name} asks for {ask}, which was not granted")));
        names.push(name);
    }
    Ok((names, denied))
}

/// As far as can be told without asking them.
fn archives(config: &Config) -> Check {
    const NAME: &str = "pacs";
    match Archive::all(config) {
        Ok(_) => Check::ok(NAME, config.pacs.iter().map(|pacs| pacs.name.as_str()).collect::<Vec<_>>().join(", ")),
        Err(e) => Check::fail(NAME, e.to_string(), "let the user of `gantry serve` read the files that [[pacs]] names"),
    }
}

/// Whether anybody could ever come in, for an address that is not loopback: a node that is open to all does not start.
fn token(config: &Config, listen: SocketAddr) -> Check {
    const NAME: &str = "web access";
    match config.node.data_folder.as_deref().map_or(Ok(false), has_tokens) {
        Ok(true) => Check::ok(NAME, "a token is needed"),
        Ok(false) => Check::fail(
            NAME,
            format!("web.listen = {listen} is not loopback, and no token was ever made"),
            "make one as the user of the node (`gantry token new`), set web.tls.client_roots, or listen on 127.0.0.1",
        ),
        Err(e) => Check::fail(NAME, e, "run this as the user of the node"),
    }
}

fn has_tokens(data: &Path) -> Result<bool, String> {
    if !Store::is_in(data) {
        return Ok(false);
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|e| e.to_string())?;
    runtime.block_on(async {
        let store = Store::open_to_read(data).await.map_err(|e| e.to_string())?;
        let found = store.has_tokens().await.map_err(|e| e.to_string());
        store.close().await;
        found
    })
}

fn space(data: &Path, free_min_mib: u64) -> Check {
    const NAME: &str = "disk space";
    match RealDisk.free_bytes(data).map(|bytes| bytes >> 20) {
        Ok(free) if free < free_min_mib => Check::fail(
            NAME,
            format!("{free} MiB free, less than node.disk_free_min_mib = {free_min_mib}: instances are refused"),
            "free space, or let [retention] delete",
        ),
        Ok(free) if free < free_min_mib.saturating_mul(4) => {
            Check::warn(NAME, format!("{free} MiB free, near node.disk_free_min_mib = {free_min_mib}"), "free space")
        }
        Ok(free) => Check::ok(NAME, format!("{free} MiB free")),
        Err(e) => Check::fail(NAME, e.to_string(), "check the disk"),
    }
}

/// As the intake does it: bytes, fsync.
fn fsync(data: &Path) -> Check {
    const NAME: &str = "fsync";
    let measure = || {
        let mut file = tempfile::tempfile_in(data)?;
        let start = Instant::now();
        let mut count = 0_u32;
        while count < 500 && start.elapsed() < Duration::from_secs(1) {
            file.write_all(&[0; 4096])?;
            file.sync_all()?;
            count += 1;
        }
        Ok::<_, std::io::Error>(f64::from(count) / start.elapsed().as_secs_f64())
    };
    match measure() {
        Ok(rate) if rate < FSYNC_WARN_PER_S => Check::warn(
            NAME,
            format!("{rate:.0} a second: slow to acknowledge"),
            "put the data folder on a local SSD; one with power-loss protection is fastest",
        ),
        Ok(rate) => Check::ok(NAME, format!("{rate:.0} a second")),
        Err(e) => Check::fail(NAME, e.to_string(), "check the disk and who may write to node.data_folder"),
    }
}

fn port(name: &'static str, address: SocketAddr) -> Check {
    match TcpListener::bind(address) {
        Ok(_) => Check::ok(name, format!("{address} can be listened on")),
        Err(e) if e.kind() == ErrorKind::AddrInUse => Check::warn(
            name,
            format!("{address} is in use"),
            "fine when it is this node that runs; else take another port",
        ),
        Err(e) => Check::fail(
            name,
            format!("{address}: {e}"),
            "take an address of this machine and a port from 1024 on, or give the service CAP_NET_BIND_SERVICE",
        ),
    }
}

/// Wall against monotonic clock for a moment, and whether somebody keeps the former right.
fn clock() -> Check {
    const NAME: &str = "clock";
    let (wall, steady) = (SystemTime::now(), Instant::now());
    std::thread::sleep(Duration::from_millis(100));
    let elapsed = wall.elapsed().map(|e| e.as_secs_f64()).unwrap_or(-1.0);
    let apart_ms = (elapsed - steady.elapsed().as_secs_f64()).abs() * 1000.0;
    if apart_ms > 20.0 {
        let found = format!("the wall clock jumped by {apart_ms:.0} ms within 100 ms");
        return Check::warn(NAME, found, "let one service alone set the clock, and let it slew");
    }
    if Path::new("/run/systemd/timesync/synchronized").exists() {
        return Check::ok(NAME, "set by systemd-timesyncd");
    }
    let services = ["/run/chrony/chronyd.pid", "/run/chrony/chronyd.sock", "/run/ntpd.pid", "/var/run/ntpd.pid"];
    match services.iter().find(|file| Path::new(file).exists()) {
        Some(file) => Check::ok(NAME, format!("a time service runs ({file})")),
        None => Check::warn(
            NAME,
            "no time service was found",
            "run chrony or systemd-timesyncd: audit and results have times",
        ),
    }
}

fn engine(config: &Config) -> Check {
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
fn workers(config: &Config) -> Check {
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
fn left_open(config: &Config) -> Option<Check> {
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
fn engines_and_devices(config: &Config) -> Vec<Check> {
    const NAME: &str = "engines";
    let engines = config.engines();
    let mut checks = vec![devices()];
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

/// What the kernel and the driver say is there.
fn devices() -> Check {
    let nvidia = nvidia_smi().unwrap_or_else(nvidia_proc);
    let others = others_on_pci();
    let all: Vec<_> =
        std::iter::once(format!("cpu ({} processors)", processors())).chain(nvidia).chain(others).collect();
    Check::ok("devices", if all.len() == 1 { format!("{}; no GPU", all[0]) } else { all.join("; ") })
}

/// Names and memory from the driver's own tool, where there is a driver.
fn nvidia_smi() -> Option<Vec<String>> {
    let there = Path::new("/proc/driver/nvidia/version").exists();
    let asked = there.then(|| {
        std::process::Command::new("nvidia-smi")
            .args(["--query-gpu=index,name,memory.total", "--format=csv,noheader"])
            .output()
    })?;
    let text = asked.ok().filter(|done| done.status.success())?.stdout;
    let lines = String::from_utf8_lossy(&text).lines().map(crate::printable).collect::<Vec<_>>();
    (!lines.is_empty()).then(|| lines.iter().map(|line| format!("gpu {line}")).collect())
}

/// Names as the driver tells them to everybody.
fn nvidia_proc() -> Vec<String> {
    let folders = std::fs::read_dir("/proc/driver/nvidia/gpus").into_iter().flatten().flatten();
    let mut gpus: Vec<_> = folders
        .filter_map(|gpu| nvidia_information(&std::fs::read_to_string(gpu.path().join("information")).ok()?))
        .collect();
    gpus.sort();
    gpus
}

fn nvidia_information(text: &str) -> Option<String> {
    let field =
        |name: &str| text.lines().find_map(|line| line.strip_prefix(name)?.trim().strip_prefix(':').map(str::trim));
    let minor = field("Device Minor").unwrap_or("of unknown number");
    Some(format!("gpu {}, {}", crate::printable(minor), crate::printable(field("Model")?)))
}

/// Display controllers of AMD and Intel, by their numbers.
fn others_on_pci() -> Vec<String> {
    let devices = std::fs::read_dir("/sys/bus/pci/devices").into_iter().flatten().flatten().map(|device| device.path());
    let read = |device: &Path, file: &str| {
        std::fs::read_to_string(device.join(file)).map(|text| text.trim().trim_start_matches("0x").to_owned())
    };
    let mut gpus: Vec<_> = devices
        .filter_map(|device| {
            let (class, vendor) = (read(&device, "class").ok()?, read(&device, "vendor").ok()?);
            let maker = match vendor.as_str() {
                "8086" => "Intel",
                "1002" => "AMD",
                _ => return None,
            };
            let number = read(&device, "device").ok()?;
            class.starts_with("03").then(|| format!("gpu of {maker}, {vendor}:{number}"))
        })
        .collect();
    gpus.sort();
    gpus
}

/// More threads than processors make each run slower.
fn threads(config: &Config) -> Option<Check> {
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

fn codecs() -> Check {
    let (decoded, kept): (Vec<_>, Vec<_>) =
        TransferSyntaxRegistry.iter().map(|ts| ts.uid()).partition(|uid| crate::study::decodes(uid));
    let found = format!("decoded: {}; kept as received, not decoded: {}", sorted(decoded), sorted(kept));
    Check::ok("transfer syntaxes", found)
}

fn sorted(mut uids: Vec<&str>) -> String {
    uids.sort_unstable();
    uids.join(" ")
}

/// An association has a socket, and a file when it sends.
fn files(associations_max: usize) -> Check {
    const NAME: &str = "file descriptors";
    let need = 2 * associations_max as u64 + 256;
    match rustix::process::getrlimit(rustix::process::Resource::Nofile).current {
        Some(limit) if limit < need => Check::warn(
            NAME,
            format!("at most {limit}, and dimse.associations_max = {associations_max} may need {need}"),
            "raise LimitNOFILE of the service, or ulimit -n",
        ),
        Some(limit) => Check::ok(NAME, format!("at most {limit}")),
        None => Check::ok(NAME, "no limit"),
    }
}

fn certificates(name: &'static str, tls: &TlsConfig) -> Vec<Check> {
    let files = std::iter::once(&tls.certificate).chain(&tls.client_roots).map(|path| certificates_in(name, path));
    together(name, files.chain([key(name, &tls.key)]).collect(), tls::server_config(tls))
}

fn peer(name: &'static str, tls: &PeerTlsConfig) -> Vec<Check> {
    let files = std::iter::once(&tls.roots).chain(&tls.certificate).map(|path| certificates_in(name, path));
    let files = files.chain(tls.key.iter().map(|path| key(name, path))).collect();
    together(name, files, tls::Client::new(tls))
}

/// Files that are sound one by one need not be so together.
fn together<T>(name: &'static str, mut checks: Vec<Check>, made: Result<T, TlsError>) -> Vec<Check> {
    let sound = checks.iter().all(|check| check.state != State::Fail);
    if let Err(e) = made
        && sound
    {
        checks.push(Check::fail(
            name,
            e.to_string(),
            "name a certificate (X.509 version 3) and the key that it is for",
        ));
    }
    checks
}

fn key(name: &'static str, path: &Path) -> Check {
    let (shown, key) = (path.display(), PrivateKeyDer::from_pem_file(path));
    let open = std::fs::metadata(path).is_ok_and(|m| m.permissions().mode() & 0o077 != 0);
    match key {
        Err(e) => Check::fail(name, format!("{shown}: no private key in PEM: {e}"), "name the key of the certificate"),
        Ok(_) if open => Check::warn(name, format!("others can read the key {shown}"), "chmod 0600"),
        Ok(_) => Check::ok(name, format!("{shown} is a private key")),
    }
}

/// All certificates of a file: the one that ends first counts.
fn certificates_in(name: &'static str, path: &Path) -> Check {
    let shown = path.display();
    let read = CertificateDer::pem_file_iter(path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let read = match read {
        Ok(read) if read.is_empty() => {
            return Check::fail(name, format!("{shown}: no certificate in it"), "name a file in PEM");
        }
        Ok(read) => read,
        Err(e) => return Check::fail(name, format!("{shown}: {e}"), "name a file in PEM that can be read"),
    };
    let ends: Option<Vec<_>> = read.iter().map(|der| certificate::not_after(der)).collect();
    let Some(end) = ends.and_then(|ends| ends.into_iter().min()) else {
        return Check::fail(name, format!("{shown}: a certificate in it is not sound"), "have it issued again");
    };
    let days = end.signed_duration_since(chrono::Utc::now().naive_utc()).num_days();
    let found = format!("{shown} is valid until {} ({days} days)", end.format("%Y-%m-%d"));
    match days {
        ..0 => Check::fail(name, format!("{shown} ended on {}", end.format("%Y-%m-%d")), "renew it"),
        0..EXPIRY_WARN_DAYS => Check::warn(name, found, "renew it"),
        _ => Check::ok(name, found),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn issue(folder: &Path, year: i32) -> TlsConfig {
        let key = rcgen::KeyPair::generate().expect("a key");
        let mut params = rcgen::CertificateParams::new(vec!["gantry.test".into()]).expect("a name");
        params.not_after = rcgen::date_time_ymd(year, 5, 17);
        let issued = params.self_signed(&key).expect("a certificate");
        let tls = TlsConfig { certificate: folder.join("c.pem"), key: folder.join("k.pem"), client_roots: None };
        std::fs::write(&tls.certificate, issued.pem()).expect("written");
        std::fs::write(&tls.key, key.serialize_pem()).expect("written");
        std::fs::set_permissions(&tls.key, PermissionsExt::from_mode(0o600)).expect("private");
        tls
    }

    #[test]
    fn the_end_of_a_certificate_is_read() {
        let folder = tempfile::tempdir().expect("a folder");
        // UTCTime up to 2049, GeneralizedTime after.
        for (year, state, says) in [
            (2020, State::Fail, "ended on 2020-05-17"),
            (2049, State::Ok, "2049-05-17"),
            (2090, State::Ok, "2090-05-17"),
        ] {
            let checks = certificates("dimse.tls", &issue(folder.path(), year));
            assert_eq!(checks[0].state, state, "{checks:?}");
            assert!(checks[0].found.contains(says), "{checks:?}");
            assert_eq!(checks[1].state, State::Ok, "{checks:?}");
        }
    }

    #[test]
    fn files_that_are_absent_or_none_are_told() {
        let folder = tempfile::tempdir().expect("a folder");
        let tls = issue(folder.path(), 2049);
        let peer = |tls: &TlsConfig| {
            let (roots, key) = (tls.certificate.clone(), Some(tls.key.clone()));
            let peer = PeerTlsConfig { roots, certificate: Some(tls.certificate.clone()), key, server_name: None };
            super::peer("pacs.tls", &peer).iter().map(|check| check.state).collect::<Vec<_>>()
        };
        assert_eq!(peer(&tls), [State::Ok; 3]);
        std::fs::remove_file(&tls.key).expect("removed");
        assert_eq!(certificates("dimse.tls", &tls)[1].state, State::Fail);
        assert_eq!(peer(&tls), [State::Ok, State::Ok, State::Fail]);
    }

    #[test]
    fn a_folder_that_others_write_to_fails_and_says_what_to_do() {
        let folder = tempfile::tempdir().expect("a folder");
        let journal = folder.path().join("journal.sqlite");
        std::fs::write(&journal, "").expect("written");
        for (mode, of_journal, state, says) in [
            (0o700, 0o644, State::Ok, "mode 0700"),
            (0o750, 0o640, State::Warn, "others can read journal.sqlite, with patients' names"),
            (0o755, 0o600, State::Warn, "as far as the modes of its files let them"),
            (0o744, 0o644, State::Warn, "others can list what is in it, and read none of it"),
            (0o777, 0o600, State::Fail, "others can write there"),
        ] {
            std::fs::set_permissions(folder.path(), PermissionsExt::from_mode(mode)).expect("set");
            std::fs::set_permissions(&journal, PermissionsExt::from_mode(of_journal)).expect("set");
            let check = super::folder(Some(folder.path()));
            assert_eq!((check.state, check.remedy.is_empty()), (state, state == State::Ok), "{check}");
            assert!(check.found.contains(says), "{check}");
        }
    }

    #[test]
    fn what_a_node_does_not_start_with_is_told() {
        let folder = tempfile::tempdir().expect("a folder");
        let at = |name: &str| folder.path().join(name);
        std::fs::create_dir(at("empty")).expect("made");
        std::fs::write(at("file"), "").expect("written");
        for (text, name, says) in [
            (format!("[[modules]]\npackage = {:?}\n", at("none")), "modules and rules", "holds no module.toml"),
            (format!("[[modules]]\npackage = {:?}\n", at("empty")), "modules and rules", "holds no module.toml"),
            (format!("[[pacs]]\nurl = \"http://a\"\ntoken_file = {:?}\n", at("none")), "pacs", "token_file"),
            (format!("[folder]\npath = {:?}\n", at("none")), "folder.path", "No such file"),
            (format!("[folder]\npath = {:?}\n", at("file")), "folder.path", "not a directory"),
        ] {
            let config: Config = toml::from_str(&text).expect("a configuration");
            let checks = check_configuration(&config);
            let check = checks.iter().find(|check| check.name == name).expect(name);
            assert!(check.state == State::Fail && check.found.contains(says), "{check}");
            assert!(!check.remedy.is_empty(), "{check}");
        }
    }

    #[test]
    fn modules_are_looked_at_as_a_node_does() {
        use sha2::Digest;
        let folder = tempfile::tempdir().expect("a folder");
        let package = folder.path().join("lungs");
        std::fs::create_dir(&package).expect("made");
        let manifest = format!(
            "schema = 1\nname = \"lungs\"\nversion = \"0.1.0\"\nvendor = \"Tests\"\n[label]\ntitle = \"T\"\n\
             intended_use = \"T\"\ndemonstration = true\n[accepts]\nmodality = [\"CT\"]\n[component]\nsha256 = \"{}\"\n",
            crate::hex(&sha2::Sha256::digest(b""))
        );
        std::fs::write(package.join("module.toml"), &manifest).expect("written");
        let check = |more: &str| {
            let text = format!("[[modules]]\npackage = {package:?}\n{more}");
            modules(&toml::from_str(&text).expect("a configuration"))
        };
        let missing = check("");
        assert!(missing.state == State::Fail && missing.found.contains("component.wasm"), "{missing}");
        std::fs::write(package.join("component.wasm"), "").expect("written");
        let sound = check("");
        assert!(sound.state == State::Ok && sound.found == "lungs", "{sound}");
        let rule = "[[rules]]\nname = \"night\"\neffect = \"skip\"\nmodules = [\"x\"]\n";
        for (more, says) in [("after = [\"x\"]\n", "there is no module `x`"), (rule, "rules (night)")] {
            let check = check(more);
            assert!(check.state == State::Fail && check.found.contains(says), "{check}");
        }
        let needs = "[needs]\ninterfaces = [\"gantry:imaging/priors\"]\n[component]";
        std::fs::write(package.join("module.toml"), manifest.replace("[component]", needs)).expect("written");
        let denied = check("");
        let says = "lungs asks for gantry:imaging/priors, which was not granted";
        assert!(denied.state == State::Warn && denied.found == says, "{denied}");
        let granted = check("grants = [\"gantry:imaging/priors\"]\n");
        assert!(granted.state == State::Ok, "{granted}");
    }

    #[test]
    fn a_key_of_another_certificate_is_told() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut tls = issue(folder.path(), 2049);
        tls.key = folder.path().join("other.pem");
        std::fs::write(&tls.key, rcgen::KeyPair::generate().expect("a key").serialize_pem()).expect("written");
        std::fs::set_permissions(&tls.key, PermissionsExt::from_mode(0o600)).expect("private");
        let checks = certificates("web.tls", &tls);
        let states: Vec<State> = checks.iter().map(|check| check.state).collect();
        assert_eq!(states, [State::Ok, State::Ok, State::Fail], "{checks:?}");
        assert!(checks[2].found.contains("with key = "), "{checks:?}");
    }

    #[test]
    fn the_disk_is_measured_before_there_is_a_data_folder() {
        let folder = tempfile::tempdir().expect("a folder");
        let data = folder.path().join("not/yet/there");
        let mut config = Config::default();
        config.node.data_folder = Some(data.clone());
        config.node.disk_free_min_mib = 1 << 30;
        let checks = check_all(&config);
        let state = |name: &str| checks.iter().find(|check| check.name == name).map(|check| check.state);
        assert_eq!(
            (state("node.data_folder"), state("disk space")),
            (Some(State::Ok), Some(State::Fail)),
            "{checks:?}"
        );
        assert!(matches!(state("fsync"), Some(State::Ok | State::Warn)), "{checks:?}");
        assert_eq!(std::fs::read_dir(folder.path()).expect("a folder").count(), 0, "nothing is left behind");
        assert!(nearest(Path::new("not/yet/there")).is_dir(), "also of a path that is not absolute");
    }

    #[test]
    fn a_node_that_would_be_open_to_all_is_told_so() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut config = Config::default();
        config.node.data_folder = Some(folder.path().to_owned());
        let listen = "192.0.2.1:8042".parse().expect("an address");
        assert!(web::needs_token(listen, &config.web));
        assert_eq!(token(&config, listen).state, State::Fail);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let make = |token: bool| {
            runtime.block_on(async {
                let store = Store::open(folder.path()).await.expect("a journal");
                if token {
                    web::new_token(&store, "viewer", &[crate::config::Scope::Read], None).await.expect("a token");
                }
                store.close().await;
            });
        };
        make(false);
        assert_eq!(token(&config, listen).state, State::Fail, "a journal without one");
        make(true);
        assert_eq!(token(&config, listen).state, State::Ok);
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
    fn engines_tell_what_they_can_use_and_a_driver_what_there_is() {
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
        let text = "Model: \t\t NVIDIA H100 PCIe\nIRQ:   \t\t 38\nDevice Minor: \t 1\n";
        assert_eq!(nvidia_information(text).as_deref(), Some("gpu 1, NVIDIA H100 PCIe"));
        assert_eq!(nvidia_information("IRQ: 1\n"), None);
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

    #[test]
    fn a_port_in_use_is_told() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        assert_eq!(port("dimse.listen", listener.local_addr().expect("an address")).state, State::Warn);
    }
}
