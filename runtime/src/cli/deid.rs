//! `gantry deid`: a folder of instances and results without identities, or why some of it stays.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use anyhow::anyhow;
use gantry::config::Config;
use gantry::redact;
use gantry_cloud_sync::deid::{Deidentifier, Excuses, Instance, Profile, Report, Secret};
use gantry_cloud_sync::known::{Each, Known, Prover, Stays};
use gantry_cloud_sync::verify::Limits;
use rayon::prelude::*;

pub(crate) const EXAMPLES: &str = "\
Examples:
  head -c 32 /dev/urandom > site.key && chmod 600 site.key
  gantry deid study/ clean/ --profile retraining --key site.key --report report.json
  gantry deid study/ clean/ --profile our-profile.toml --key site.key
  gantry deid study/ clean/ --profile retraining --key site.key --text-detector ch_PP-OCRv4_det_infer.onnx
";

#[derive(clap::Args)]
pub(crate) struct DeidArgs {
    /// Files and folders: DICOM instances, and results of Gantry in JSON about the same patient.
    #[arg(required = true, value_name = "IN")]
    input: PathBuf,
    /// Folder for what is released; made when missing. Names in it are new UIDs. No file in it is replaced.
    #[arg(value_name = "OUT")]
    out: PathBuf,
    /// `basic`, `qa-minimal`, `retraining`, `metadata-only`, or a TOML file.
    #[arg(long, value_name = "PROFILE", default_value = "basic")]
    profile: String,
    /// File with the site's key, 16 to 1024 random bytes. Without one, UIDs, pseudonyms and days are those of this run alone.
    #[arg(long, value_name = "FILE")]
    key: Option<PathBuf>,
    /// The model that finds text in images, an ONNX file; overrides sync.text_detector of the configuration. `cargo xtask assets`
    /// fetches one.
    #[arg(long, value_name = "FILE")]
    text_detector: Option<PathBuf>,
    /// SHA-256 of that file, where it is not the one that is known; overrides sync.text_detector_sha256.
    #[arg(long, value_name = "HEX")]
    text_detector_sha256: Option<String>,
    /// Limits and engines, for images that may show text; see examples/gantry.toml. Defaults hold without it.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Where to write what was done, as JSON: counts by attribute and action, and reasons. It holds no value and no file name.
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
    /// Bytes of files that are in memory at once; a file that is larger is there alone. 1 to 1048576.
    #[arg(long, value_name = "MIB", default_value_t = 512, value_parser = clap::value_parser!(u64).range(1..=1 << 20))]
    in_memory_max_mib: u64,
}

/// Runs the command; exit code and error otherwise.
pub(crate) fn run(args: &DeidArgs) -> Result<(), (u8, anyhow::Error)> {
    let by = Deidentifier::new(profile(&args.profile)?, secret(args.key.as_deref())?);
    let [by] = redact::equipped([by], &config(args)?).map_err(|e| (2, e.into()))?;
    let (results, instances) = files(&args.input)?;
    let each = Each::new(&by, Limits::default());
    let run = Run { by: &by, out: &args.out, each, memory: Memory::new(args.in_memory_max_mib << 20) };
    let parts = instances.par_iter().try_fold(Outcome::default, |outcome, path| run.instance(path, outcome));
    let mut outcome = parts.try_reduce(Outcome::default, |a, b| Ok(a.and(b)))?;
    if !results.is_empty() {
        let prover = run.prover(&instances);
        for path in results {
            outcome = run.result(&path, prover.as_ref(), outcome)?;
        }
    }
    if let Some(path) = &args.report {
        let text = serde_json::to_string_pretty(&outcome.report(&by)).map_err(|e| (1, e.into()))? + "\n";
        std::fs::write(path, text).map_err(|e| failed(1, path, e))?;
    }
    let held: u64 = outcome.held.values().sum();
    crate::print(format!("{} released to {}, {held} held\n", outcome.released, args.out.display()).as_bytes())?;
    match held {
        0 => Ok(()),
        _ => Err((4, anyhow!("{held} of {} stay; the reasons are above", outcome.released + held))),
    }
}

fn failed(code: u8, path: &Path, error: std::io::Error) -> (u8, anyhow::Error) {
    (code, anyhow!("{}: {error}", path.display()))
}

/// As configured, with the options of the command line.
fn config(args: &DeidArgs) -> Result<Config, (u8, anyhow::Error)> {
    let mut config = crate::cli::config(args.config.as_deref())?;
    config.sync.text_detector = args.text_detector.clone().or(config.sync.text_detector);
    if let Some(sha256) = &args.text_detector_sha256 {
        config.sync.text_detector_sha256.clone_from(sha256);
    }
    Ok(config)
}

fn profile(name: &str) -> Result<Profile, (u8, anyhow::Error)> {
    let usage = |e: gantry_cloud_sync::deid::ProfileError| (2, anyhow!("{name}: {e}"));
    if !name.ends_with(".toml") {
        return Profile::preset(name).map_err(usage);
    }
    let text = std::fs::read_to_string(name).map_err(|e| failed(2, Path::new(name), e))?;
    Profile::from_toml(&text).map_err(usage)
}

fn secret(key: Option<&Path>) -> Result<Secret, (u8, anyhow::Error)> {
    match key {
        Some(path) => Secret::read(path).map_err(|e| (2, anyhow!("{}: {e}", path.display()))),
        None => Secret::random().map_err(|e| (2, e.into())),
    }
}

/// Results in JSON, and all other files.
fn files(input: &Path) -> Result<(Vec<PathBuf>, Vec<PathBuf>), (u8, anyhow::Error)> {
    let entries: Result<Vec<_>, _> = walkdir::WalkDir::new(input).sort_by_file_name().into_iter().collect();
    let entries = entries.map_err(|e| (3, e.into()))?;
    let files = entries.into_iter().filter(|e| e.file_type().is_file()).map(walkdir::DirEntry::into_path);
    let (results, instances): (Vec<_>, Vec<_>) = files.partition(|path| path.extension().is_some_and(|e| e == "json"));
    match results.is_empty() && instances.is_empty() {
        true => Err((3, anyhow!("{}: there is no file", input.display()))),
        false => Ok((results, instances)),
    }
}

/// What all files of a run have in common.
struct Run<'r> {
    by: &'r Deidentifier,
    out: &'r Path,
    each: Each<'r>,
    memory: Memory,
}

impl Run<'_> {
    fn instance(&self, path: &Path, outcome: Outcome) -> Result<Outcome, (u8, anyhow::Error)> {
        let _taken = self.memory.take(std::fs::metadata(path).map_or(0, |file| file.len()));
        let released = self.by.read(path).map_err(Stays::from).and_then(|source| self.each.instance(source));
        let instance = match released {
            Ok(instance) => instance,
            Err(stays) => return Ok(outcome.held(path, &stays)),
        };
        let folder = folder(self.out, &instance);
        let file = folder.join(format!("{}.dcm", component(instance.sop_instance_uid())));
        written(&folder, &file, || instance.write_to(&file))?;
        Ok(outcome.released(instance.report()))
    }

    /// What results are cleaned and proven by: what all instances say of their patient. Those that are no DICOM say nothing.
    fn prover(&self, instances: &[PathBuf]) -> Result<Prover<'_>, Stays> {
        let mut known = Known::new(self.by, Limits::default());
        for path in instances {
            match self.by.read(path).map_err(Stays::from).and_then(|source| known.add(self.by, &source)) {
                Ok(()) | Err(Stays::Held(_)) => {}
                Err(stays) => return Err(stays),
            }
        }
        known.prover(self.by)
    }

    fn result(
        &self,
        path: &Path,
        prover: Result<&Prover<'_>, &Stays>,
        outcome: Outcome,
    ) -> Result<Outcome, (u8, anyhow::Error)> {
        let bytes = std::fs::read(path).map_err(|e| failed(3, path, e))?;
        let json = match prover.map_err(Stays::clone).and_then(|prover| prover.json(&bytes, &Excuses::default())) {
            Ok(json) => json,
            Err(stays) => return Ok(outcome.held(path, &stays)),
        };
        let file = self.out.join(format!("{}.json", self.by.result_name(json.as_bytes())));
        written(self.out, &file, || json.write_to(&file))?;
        Ok(outcome.released(json.report()))
    }
}

fn unpoisoned<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Writes a file, once more where its folder was missing.
fn written(folder: &Path, file: &Path, write: impl Fn() -> std::io::Result<()>) -> Result<(), (u8, anyhow::Error)> {
    let written = match write() {
        Err(e) if e.kind() == ErrorKind::NotFound => std::fs::create_dir_all(folder).and_then(|()| write()),
        written => written,
    };
    written.map_err(|e| failed(1, file, e))
}

/// How much of files is in memory at once.
struct Memory {
    most_bytes: u64,
    taken: Mutex<u64>,
    freed: Condvar,
}

impl Memory {
    fn new(most_bytes: u64) -> Self {
        Self { most_bytes, taken: Mutex::new(0), freed: Condvar::new() }
    }

    /// Waits until there is room. What is more than all of it gets all of it.
    fn take(&self, bytes: u64) -> Taken<'_> {
        let bytes = bytes.min(self.most_bytes);
        let taken = unpoisoned(&self.taken);
        let full = |taken: &mut u64| *taken + bytes > self.most_bytes;
        let mut taken = self.freed.wait_while(taken, full).unwrap_or_else(PoisonError::into_inner);
        *taken += bytes;
        Taken { memory: self, bytes }
    }
}

struct Taken<'m> {
    memory: &'m Memory,
    bytes: u64,
}

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        *unpoisoned(&self.memory.taken) -= self.bytes;
        self.memory.freed.notify_all();
    }
}

fn folder(out: &Path, instance: &Instance) -> PathBuf {
    out.join(component(instance.study_instance_uid())).join(component(instance.series_instance_uid()))
}

/// A name of digits and points; a UID that was retained could be anything.
fn component(uid: &str) -> &str {
    let plain = uid.bytes().all(|b| b.is_ascii_digit() || b == b'.') && uid.starts_with(|c: char| c.is_ascii_digit());
    if plain && uid.len() <= 64 { uid } else { "unnamed" }
}

#[derive(Default)]
struct Outcome {
    released: u64,
    actions: Report,
    held: BTreeMap<String, u64>,
}

impl Outcome {
    fn released(mut self, done: &Report) -> Self {
        self.released += 1;
        self.actions.add(done);
        self
    }

    /// Tells whoever runs this, who has the file; not the report, which may be sent on.
    fn held(mut self, path: &Path, stays: &Stays) -> Self {
        eprintln!("held: {}: {stays}", gantry::printable(&path.display().to_string()));
        *self.held.entry(stays.to_string()).or_default() += 1;
        self
    }

    fn and(mut self, other: Self) -> Self {
        self.released += other.released;
        self.actions.add(&other.actions);
        for (held, count) in other.held {
            *self.held.entry(held).or_default() += count;
        }
        self
    }

    fn report(&self, by: &Deidentifier) -> serde_json::Value {
        serde_json::json!({
            "schema": "gantry.deid/1",
            "profile": by.profile(),
            "released": self.released,
            "held": self.held,
            "actions": self.actions,
        })
    }
}
