//! `gantry deid`: a folder of instances and results without identities, or why some of it stays.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::anyhow;
use gantry_cloud_sync::deid::{Deidentifier, Excuses, Instance, Profile, Report, Secret};
use gantry_cloud_sync::known::{Known, Prover, Stays, release_alone};
use gantry_cloud_sync::verify::Limits;
use rayon::prelude::*;

pub(crate) const EXAMPLES: &str = "\
Examples:
  head -c 32 /dev/urandom > site.key && chmod 600 site.key
  gantry deid study/ clean/ --profile retraining --key site.key --report report.json
  gantry deid study/ clean/ --profile our-profile.toml --key site.key
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

impl From<Stays> for Done {
    fn from(stays: Stays) -> Self {
        Self::Held(stays.to_string())
    }
}

/// Runs the command; exit code and error otherwise.
pub(crate) fn run(args: &DeidArgs) -> Result<(), (u8, anyhow::Error)> {
    let by = Deidentifier::new(profile(&args.profile)?, secret(args.key.as_deref())?);
    let (results, instances) = files(&args.input)?;
    let done: Vec<(PathBuf, Done)> =
        instances.into_par_iter().map(|path| one(&by, &args.out, path)).collect::<Result<_, _>>()?;
    let mut outcome = Outcome::default();
    if !results.is_empty() {
        let prover = prover(&by, done.iter().map(|(path, _)| path.as_path()));
        for path in results {
            let done = result(&by, &args.out, &path, prover.as_ref())?;
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

fn one(by: &Deidentifier, out: &Path, path: PathBuf) -> Result<(PathBuf, Done), (u8, anyhow::Error)> {
    // By what it says itself: the files need not be of one patient. Read once: the proof is about the very bytes that were cleaned.
    let instance = match by.read(&path).map_err(Stays::from).and_then(|source| release_alone(by, source)) {
        Ok(instance) => instance,
        Err(stays) => return Ok((path, stays.into())),
    };
    let folder = folder(out, &instance);
    let file = folder.join(format!("{}.dcm", component(instance.sop_instance_uid())));
    let written = std::fs::create_dir_all(&folder).and_then(|()| instance.write_to(&file));
    written.map_err(|e| failed(1, &file, e))?;
    Ok((path, Done::Released(instance.report().clone())))
}

fn folder(out: &Path, instance: &Instance) -> PathBuf {
    out.join(component(instance.study_instance_uid())).join(component(instance.series_instance_uid()))
}

/// A name of digits and points; a UID that was retained could be anything.
fn component(uid: &str) -> &str {
    let plain = uid.bytes().all(|b| b.is_ascii_digit() || b == b'.') && uid.starts_with(|c: char| c.is_ascii_digit());
    if plain && uid.len() <= 64 { uid } else { "unnamed" }
}

/// What cleans and proves documents about the patient of these instances, by what identifies in any of them; why they stay otherwise.
fn prover<'d, 'p>(by: &'d Deidentifier, paths: impl Iterator<Item = &'p Path>) -> Result<Prover<'d>, Stays> {
    let mut known = Known::new(by, Limits::default());
    for path in paths {
        // What cannot be understood was held, and said so.
        let _ = by.read(path).map_err(Stays::from).and_then(|source| known.add(by, &source));
    }
    known.prover(by)
}

fn result(
    by: &Deidentifier,
    out: &Path,
    path: &Path,
    prover: Result<&Prover<'_>, &Stays>,
) -> Result<Done, (u8, anyhow::Error)> {
    let bytes = std::fs::read(path).map_err(|e| failed(3, path, e))?;
    let json = match prover.map_err(Clone::clone).and_then(|prover| prover.json(&bytes, &Excuses::default())) {
        Ok(json) => json,
        Err(stays) => return Ok(stays.into()),
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
