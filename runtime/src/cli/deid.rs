//! `gantry deid`: a folder of instances and results without identities, or why some of it stays.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use anyhow::anyhow;
use gantry::config::Config;
use gantry::redact;
use gantry_cloud_sync::deid::{Deidentifier, Held, Instance, Profile, Report, Secret, Subject};
use gantry_cloud_sync::verify::{self, Lexicons, Limits, Retain, Scanner, Unverifiable, Verifier};
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

/// What happened to one file.
enum Done {
    Released(Report),
    /// Why.
    Held(String),
}

impl From<Held> for Done {
    fn from(held: Held) -> Self {
        Self::Held(held.to_string())
    }
}

/// Runs the command; exit code and error otherwise.
pub(crate) fn run(args: &DeidArgs) -> Result<(), (u8, anyhow::Error)> {
    let by = Deidentifier::new(profile(&args.profile)?, secret(args.key.as_deref())?);
    let [by] = redact::equipped([by], &config(args)?).map_err(|e| (2, e.into()))?;
    let (results, instances) = files(&args.input)?;
    let patient = Mutex::new(Patient::default());
    let run = Run {
        by: &by,
        out: &args.out,
        lexicons: Lexicons::default(),
        memory: Memory::new(args.in_memory_max_mib << 20),
        patient: (!results.is_empty()).then_some(&patient),
    };
    let add = |outcome: Outcome, path: PathBuf| -> Result<Outcome, (u8, anyhow::Error)> {
        Ok(outcome.with(&path, run.instance(&path)?))
    };
    let parts = instances.into_par_iter().try_fold(Outcome::default, add);
    let mut outcome = parts.try_reduce(Outcome::default, |a, b| Ok(a.and(b)))?;
    let known = unpoisoned(&patient).known();
    for path in results {
        let done = run.result(&path, known.as_ref())?;
        outcome = outcome.with(&path, done);
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
    let config = args.config.as_deref().map_or_else(|| Ok(Config::default()), Config::read);
    let mut config = config.map_err(|e| (2, e.into()))?;
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
    lexicons: Lexicons,
    memory: Memory,
    /// Whose the instances are, where there are results about them.
    patient: Option<&'r Mutex<Patient>>,
}

impl Run<'_> {
    fn instance(&self, path: &Path) -> Result<Done, (u8, anyhow::Error)> {
        let _taken = self.memory.take(std::fs::metadata(path).map_or(0, |file| file.len()));
        // Read once: the proof is about the very bytes that were cleaned.
        let source = match self.by.read(path) {
            Ok(source) => source,
            Err(held) => return Ok(held.into()),
        };
        let mut verifier = self.verifier();
        let followed = verifier.add_source(&source);
        if let (Some(patient), Ok(subject)) = (self.patient, self.by.subject(&source)) {
            unpoisoned(patient).add(subject, &verifier, followed.clone(), || self.verifier());
        }
        // The output lies where the source lay.
        let instance = match self.by.deidentify_bytes(source) {
            Ok(instance) => instance,
            Err(held) => return Ok(held.into()),
        };
        let released = followed
            .and_then(|()| verifier.scanner())
            .map_err(unproven)
            .and_then(|scanner| scanner.release_instance(instance, self.by.profile()).map_err(unproven));
        let instance = match released {
            Ok(instance) => instance,
            Err(held) => return Ok(held),
        };
        let folder = folder(self.out, &instance);
        let file = folder.join(format!("{}.dcm", component(instance.sop_instance_uid())));
        written(&folder, &file, || instance.write_to(&file))?;
        Ok(Done::Released(instance.report().clone()))
    }

    fn verifier(&self) -> Verifier {
        Verifier::new(Retain::from(self.by.profile()), Limits::default()).sharing(&self.lexicons)
    }

    /// A result about this patient.
    fn result(&self, path: &Path, patient: Option<&Known>) -> Result<Done, (u8, anyhow::Error)> {
        // Without its patient nobody knows what identifies there.
        let Some(Known { subject, scanner }) = patient else { return Ok(Held::Patient.into()) };
        let bytes = std::fs::read(path).map_err(|e| failed(3, path, e))?;
        let json = match self.by.deidentify_json(&bytes, subject) {
            Ok(json) => json,
            Err(held) => return Ok(held.into()),
        };
        let scanner = match scanner {
            Ok(scanner) => scanner,
            Err(why) => return Ok(unproven(why)),
        };
        let proof = match scanner.prove_text(json.as_bytes()) {
            Ok(proof) => proof,
            Err(why) => return Ok(unproven(why)),
        };
        let json = match verify::release(json, &proof, self.by.profile()) {
            Ok(json) => json,
            Err(why) => return Ok(unproven(why)),
        };
        let name = self.by.result_name(json.as_bytes());
        let file = self.out.join(format!("{name}.json"));
        written(self.out, &file, || json.write_to(&file))?;
        Ok(Done::Released(json.report().clone()))
    }
}

fn unproven(why: impl std::fmt::Display) -> Done {
    Done::Held(format!("not proven to be clean: {why}"))
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

/// Whose the instances are, and what identifies in any of them.
#[derive(Default)]
enum Patient {
    #[default]
    Nobody,
    One(Box<(Subject, Verifier, Result<(), Unverifiable>)>),
    /// Nobody knows which of them a result is about.
    Several,
}

/// What results about a patient are cleaned and proven by.
struct Known {
    subject: Subject,
    scanner: Result<Scanner, Unverifiable>,
}

impl Patient {
    /// Adds an instance, and whether it could be followed to its last byte.
    fn add(
        &mut self,
        subject: Subject,
        source: &Verifier,
        followed: Result<(), Unverifiable>,
        empty: impl Fn() -> Verifier,
    ) {
        match self {
            Self::Nobody => {
                let mut all = empty();
                let added = followed.and_then(|()| all.add_sources_of(source));
                *self = Self::One(Box::new((subject, all, added)));
            }
            Self::One(one) if one.0.is_same_patient(&subject) => {
                let (all, verifier, added) = &mut **one;
                all.add(&subject);
                if added.is_ok() {
                    *added = followed.and_then(|()| verifier.add_sources_of(source));
                }
            }
            Self::One(_) => *self = Self::Several,
            Self::Several => {}
        }
    }

    fn known(&mut self) -> Option<Known> {
        let Self::One(one) = std::mem::take(self) else { return None };
        let (subject, verifier, added) = *one;
        Some(Known { subject, scanner: added.and_then(|()| verifier.scanner()) })
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
    fn with(mut self, path: &Path, done: Done) -> Self {
        match done {
            Done::Released(report) => {
                self.released += 1;
                self.actions.add(&report);
            }
            Done::Held(held) => {
                // To whoever runs this, who has the file; not into the report, which may be sent on.
                eprintln!("held: {}: {held}", gantry::printable(&path.display().to_string()));
                *self.held.entry(held).or_default() += 1;
            }
        }
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
