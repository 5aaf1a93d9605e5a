//! `gantry deid`: a folder of instances and results without identities, or why some of it stays.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::anyhow;
use gantry::config::Config;
use gantry::redact;
use gantry_cloud_sync::deid::{Deidentified, Deidentifier, Held, Instance, Profile, Report, Secret, Subject};
use gantry_cloud_sync::verify::{self, Bytes, Released, Retain, Scanner, Unproven, Verifier};
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
    let by = redact::equipped(by, &config(args)?).map_err(|e| (2, e.into()))?;
    let (results, instances) = files(&args.input)?;
    let done: Vec<(PathBuf, Done)> =
        instances.into_par_iter().map(|path| one(&by, &args.out, path)).collect::<Result<_, _>>()?;
    let mut outcome = Outcome::default();
    if !results.is_empty() {
        let subject = subject(&by, done.iter().map(|(path, _)| path.as_path()));
        for path in results {
            let done = result(&by, &args.out, &path, subject.as_ref())?;
            outcome.add(&path, done);
        }
    }
    done.into_iter().for_each(|(path, done)| outcome.add(&path, done));
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
    let (path, most) = match key {
        Some(path) => (path, 1025),
        None => (Path::new("/dev/urandom"), 32),
    };
    let mut bytes = Vec::new();
    let read = std::fs::File::open(path).and_then(|file| file.take(most).read_to_end(&mut bytes));
    read.map_err(|e| failed(2, path, e))?;
    Secret::new(&bytes).map_err(|e| (2, anyhow!("{}: {e}", path.display())))
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

fn one(by: &Deidentifier, out: &Path, path: PathBuf) -> Result<(PathBuf, Done), (u8, anyhow::Error)> {
    // Read once: the proof is about the very bytes that were cleaned.
    let source = match by.read(&path) {
        Ok(source) => source,
        Err(held) => return Ok((path, held.into())),
    };
    let instance = match by.deidentify_bytes(source.clone()) {
        Ok(instance) => instance,
        Err(held) => return Ok((path, held.into())),
    };
    let instance = match proven(by, instance, &[&source], Scanner::prove_instance) {
        Ok(instance) => instance,
        Err(why) => return Ok((path, Done::Held(why))),
    };
    let folder = folder(out, &instance);
    let file = folder.join(format!("{}.dcm", component(instance.sop_instance_uid())));
    let written = std::fs::create_dir_all(&folder).and_then(|()| instance.write_to(&file));
    written.map_err(|e| failed(1, &file, e))?;
    Ok((path, Done::Released(instance.report().clone())))
}

/// What was made without identities, once other code found none of the sources' in it.
fn proven<T>(
    by: &Deidentifier,
    made: Deidentified<T>,
    sources: &[&[u8]],
    prove: impl Fn(&Scanner, &[u8]) -> Result<verify::Proof, Unproven>,
) -> Result<Released<T>, String>
where
    Deidentified<T>: Bytes,
{
    let unproven = |why: &dyn std::fmt::Display| format!("not proven to be clean: {why}");
    let mut verifier = Verifier::new(Retain::from(by.profile()), verify::Limits::default());
    sources.iter().try_for_each(|source| verifier.add_source(source)).map_err(|e| unproven(&e))?;
    let scanner = verifier.scanner().map_err(|e| unproven(&e))?;
    let proof = prove(&scanner, made.bytes()).map_err(|e| unproven(&e))?;
    verify::release(made, &proof, by.profile()).map_err(|e| unproven(&e))
}

fn folder(out: &Path, instance: &Instance) -> PathBuf {
    out.join(component(instance.study_instance_uid())).join(component(instance.series_instance_uid()))
}

/// A name of digits and points; a UID that was retained could be anything.
fn component(uid: &str) -> &str {
    let plain = uid.bytes().all(|b| b.is_ascii_digit() || b == b'.') && uid.starts_with(|c: char| c.is_ascii_digit());
    if plain && uid.len() <= 64 { uid } else { "unnamed" }
}

/// Whose the instances are; nothing where they are not of one patient. And the bytes of one of them.
fn subject<'p>(by: &Deidentifier, paths: impl Iterator<Item = &'p Path>) -> Option<(Subject, Vec<u8>)> {
    let mut all: Option<Subject> = None;
    let mut one = Vec::new();
    for path in paths {
        let Ok(bytes) = std::fs::read(path) else { continue };
        let Ok(subject) = by.subject(&bytes) else { continue };
        one = bytes;
        match &mut all {
            None => all = Some(subject),
            Some(all) if all.is_same_patient(&subject) => all.add(&subject),
            Some(_) => return None,
        }
    }
    all.map(|all| (all, one))
}

fn result(
    by: &Deidentifier,
    out: &Path,
    path: &Path,
    subject: Option<&(Subject, Vec<u8>)>,
) -> Result<Done, (u8, anyhow::Error)> {
    // Without its patient nobody knows what identifies there.
    let Some((subject, instance)) = subject else { return Ok(Held::Patient.into()) };
    let bytes = std::fs::read(path).map_err(|e| failed(3, path, e))?;
    let json = match by.deidentify_json(&bytes, subject) {
        Ok(json) => json,
        Err(held) => return Ok(held.into()),
    };
    let json = match proven(by, json, &[instance], Scanner::prove_text) {
        Ok(json) => json,
        Err(why) => return Ok(Done::Held(why)),
    };
    let name = by.result_name(json.as_bytes());
    let file = out.join(format!("{name}.json"));
    let written = std::fs::create_dir_all(out).and_then(|()| json.write_to(&file));
    written.map_err(|e| failed(1, &file, e))?;
    Ok(Done::Released(json.report().clone()))
}

#[derive(Default)]
struct Outcome {
    released: u64,
    actions: Report,
    held: BTreeMap<String, u64>,
}

impl Outcome {
    fn add(&mut self, path: &Path, done: Done) {
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
