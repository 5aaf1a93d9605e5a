//! Measured from outside: `gantry run` as a process.

use std::fs::File;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::inotify::{self, CreateFlags, ReadFlags, WatchFlags};
use serde_json::Value;

use crate::report::{Report, median};
use crate::{Options, Places};

/// How often start-up is measured.
const STARTS: usize = 21;
/// Bytes of the voxels of one slice as f32.
const SLICE_F32: f64 = 512.0 * 512.0 * 4.0;
const MIB: f64 = 1048576.0;

/// One run of the command.
struct Run {
    seconds: f64,
    peak_bytes: u64,
    result: Value,
}

/// Measures and reports.
pub(crate) fn measure(places: &Places, options: &Options, report: &mut Report) -> Result<()> {
    // Compiles the component and brings the study into the page cache.
    run(places)?;
    let runs = (0..options.rounds.max(1)).map(|_| run(places)).collect::<Result<Vec<_>>>()?;
    let each = |f: &dyn Fn(&Run) -> f64| median(&runs.iter().map(f).collect::<Vec<_>>());

    let (wall, network) = (each(&|r| r.seconds), each(&|r| r.network()));
    let engine = runs[0].result["models"][0]["engine"].as_str().unwrap_or("no engine").to_owned();
    report.told("gantry run, wall", wall, "s", format!("median of {} runs, warm caches", runs.len()));
    report.told("gantry run, network", network, "s", engine);
    let beside = each(&|r| r.seconds - r.network());
    report.wanted("gantry run, outside of the network", beside, "s", (1.2, None), "wall less the model's own time");
    let phases = runs[0].phases();
    for name in &phases {
        report.told(&format!("  phase {name}"), each(&|r| r.phase(name)), "ms", phase_note(name));
    }
    let outside = each(&|r| r.seconds * 1e3 - phases.iter().map(|name| r.phase(name)).sum::<f64>());
    report.told("  outside of all phases", outside, "ms", "process start, result.json, renaming, exit");

    let volume = options.slices as f64 * SLICE_F32;
    let peak = each(&|r| r.peak_bytes as f64);
    let note = format!("{:.0} MiB of a volume of {:.0} MiB (VmHWM)", peak / MIB, volume / MIB);
    report.wanted("gantry run, peak memory / volume as f32", peak / volume, "", (1.5, Some(1.3)), note);

    let starts = (0..STARTS).map(|_| first_read(places)).collect::<Result<Vec<_>>>()?;
    let note = format!("spawn to the first read of a file of the study (inotify), median of {STARTS}");
    let first_byte = median(&starts);
    report.wanted("gantry run, start to first byte", first_byte, "ms", (50.0, None), note);
    let to_guest = first_byte + each(&|r| r.phase("headers") + r.phase("prepare"));
    report.told("gantry run, start to the module", to_guest, "ms", "the same, with the phases headers and prepare");
    Ok(())
}

fn phase_note(name: &str) -> &'static str {
    match name {
        "headers" => "package opened, headers read",
        "prepare" => "compiled component loaded and linked",
        "analysis" => "pixels, operations, engine and network",
        "gate" => "every voxel of the labels judged",
        "encode" => "SEG and SR encoded and synced",
        _ => "",
    }
}

impl Run {
    fn network(&self) -> f64 {
        let models = self.result["models"].as_array().into_iter().flatten();
        models.filter_map(|m| m["compute_milliseconds"].as_f64()).sum::<f64>() / 1e3
    }

    fn phases(&self) -> Vec<String> {
        let phases = self.result["phases"].as_array().into_iter().flatten();
        phases.filter_map(|p| Some(p["name"].as_str()?.to_owned())).collect()
    }

    fn phase(&self, name: &str) -> f64 {
        let mut phases = self.result["phases"].as_array().into_iter().flatten();
        phases.find(|p| p["name"] == name).and_then(|p| p["milliseconds"].as_f64()).unwrap_or(f64::NAN)
    }
}

fn command(places: &Places, out: &Path) -> Command {
    let mut command = Command::new(&places.gantry);
    command.arg("run").arg("--module").arg(&places.package).arg(&places.study).arg("--out").arg(out);
    command.env("XDG_CACHE_HOME", &places.folder).stdout(Stdio::null());
    command
}

fn run(places: &Places) -> Result<Run> {
    let out: PathBuf = places.folder.join("out");
    if out.exists() {
        std::fs::remove_dir_all(&out)?;
    }
    let begun = Instant::now();
    let mut child = command(places, &out).spawn().with_context(|| format!("{}", places.gantry.display()))?;
    let (status, peak_bytes) = watched(&mut child)?;
    let seconds = begun.elapsed().as_secs_f64();
    ensure!(status.success(), "gantry run failed: {status}");
    let result = serde_json::from_reader(File::open(out.join("result.json"))?)?;
    Ok(Run { seconds, peak_bytes, result })
}

/// Waits for a process; its exit and the most memory that it had.
///
/// The kernel keeps the high-water mark as long as the process lives, so that looking now and then misses only what
/// is added in the last few milliseconds before the end, when memory is given back.
pub(crate) fn watched(child: &mut Child) -> Result<(ExitStatus, u64)> {
    let process = rustix::process::Pid::from_child(child);
    let exited = rustix::process::pidfd_open(process, rustix::process::PidfdFlags::empty())?;
    let status = format!("/proc/{}/status", child.id());
    let mut peak = 0;
    loop {
        if readable(&exited, Duration::from_millis(5))? {
            return Ok((child.wait()?, peak));
        }
        peak = peak.max(status_bytes(&std::fs::read_to_string(&status).unwrap_or_default(), "VmHWM:"));
    }
}

/// A line of `/proc/<pid>/status` that tells kB, in bytes.
pub(crate) fn status_bytes(status: &str, name: &str) -> u64 {
    let line = status.lines().find_map(|line| line.strip_prefix(name));
    let kib = line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<u64>().ok());
    kib.unwrap_or(0) * 1024
}

/// Whether something can be read before the time is over.
fn readable(fd: &OwnedFd, within: Duration) -> Result<bool> {
    let within = Timespec::try_from(within)?;
    Ok(poll(&mut [PollFd::from_borrowed_fd(fd.as_fd(), PollFlags::IN)], Some(&within))? > 0)
}

/// Starts the command and ends it when it has read from a file of the study: how long that took, ms.
fn first_read(places: &Places) -> Result<f64> {
    let watch = inotify::init(CreateFlags::CLOEXEC)?;
    inotify::add_watch(&watch, &places.study, WatchFlags::ACCESS)?;
    let out = places.folder.join("out");
    let begun = Instant::now();
    let mut child = command(places, &out).stderr(Stdio::null()).spawn()?;
    let mut buffer = [MaybeUninit::uninit(); 4096];
    let mut events = inotify::Reader::new(&watch, &mut buffer);
    let mut took = None;
    while took.is_none() && (!events.is_buffer_empty() || readable(&watch, Duration::from_secs(10))?) {
        let event = events.next()?;
        // The listing of the folder comes first.
        if !event.events().contains(ReadFlags::ISDIR) {
            took = Some(begun.elapsed());
        }
    }
    child.kill()?;
    child.wait()?;
    Ok(took.context("gantry run read nothing within 10 s")?.as_secs_f64() * 1e3)
}
