//! 400 slices of CT without identities: `gantry deid`, which proves that they are, beside the de-identifiers that people use, which do not;
//! and what memory that takes.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use dicom_core::{DataElement, PrimitiveValue, VR};
use dicom_dictionary_std::{tags, uids};
use dicom_object::{FileMetaTableBuilder, OpenFileOptions};
use gantry::memory::Budget;
use gantry::study::ReadOptions;
use gantry_cloud_sync::deid::{Deidentifier, Profile, Secret};
use gantry_tests::{certificates, repository};

use crate::Built;
use crate::command::watched;
use crate::report::{Report, median};

/// Slices of which memory is measured.
const MEMORY_OF: [usize; 3] = [100, 400, 1600];
/// What peers do, and so ours.
const PROFILE: &str = "basic";
const PATIENT_ID: &str = "BENCH-4471199";
const MIB: f64 = 1048576.0;

/// How much to measure.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Slices of the study.
    #[arg(long, default_value_t = 400)]
    slices: usize,
    /// How often each is measured, in turn; medians count. What was written stays until the end: 1.1 GB of 400 slices each.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Slices of this kind alone.
    #[arg(long, value_enum)]
    only: Option<Kind>,
    /// Leave out the others' programs.
    #[arg(long)]
    no_peers: bool,
    /// Leave out memory, which wants 2 GB of disk.
    #[arg(long)]
    no_memory: bool,
    #[command(flatten)]
    pub(crate) built: Built,
}

/// How pixel data lie in the slices.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Kind {
    /// JPEG 2000 without loss, as the scanner's archive gave them: 157 kB each.
    Compressed,
    /// 512 × 512 × 16 bits.
    Plain,
}

/// Who de-identifies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum By {
    /// `gantry deid`: both processors, each output proven by other code.
    Gantry,
    /// Our library without the proof, on as many threads, in this process: what the proof and the command cost.
    Unproven,
    /// PyPI's dicom-anonymizer: one process on one processor, as it is made.
    DicomAnonymizer,
    /// GDCM's gdcmanon, with a certificate, as its Basic Application Level Confidentiality Profile wants: the same.
    Gdcmanon,
}

impl By {
    const ALL: [Self; 4] = [Self::Gantry, Self::DicomAnonymizer, Self::Gdcmanon, Self::Unproven];

    fn name(self) -> &'static str {
        match self {
            Self::Gantry => "gantry deid",
            Self::Unproven => "library without proof",
            Self::DicomAnonymizer => "dicom-anonymizer",
            Self::Gdcmanon => "gdcmanon",
        }
    }

    fn how(self) -> &'static str {
        match self {
            Self::Gantry => "the whole command, both processors, proof included",
            Self::Unproven => "in this process, as many threads: nothing that may leave",
            Self::DicomAnonymizer => "the whole command, one process",
            Self::Gdcmanon => "the whole command, one process; -e, RSA 2048",
        }
    }
}

/// What all of them have.
struct Bench<'b> {
    below: &'b Path,
    gantry: &'b Path,
    processors: usize,
    key: PathBuf,
    certificate: PathBuf,
}

/// Measures.
pub(crate) fn measure(
    below: &Path,
    gantry: &Path,
    options: &Options,
    processors: usize,
    report: &mut Report,
) -> Result<()> {
    let here = tempfile::tempdir_in(below)?;
    let key = here.path().join("key");
    std::fs::write(&key, [7; 32])?;
    let [certificate, _] = certificates::Root::new(here.path(), "bench").sign_rsa("bench");
    let bench = Bench { below: here.path(), gantry, processors, key, certificate };
    for kind in [Kind::Compressed, Kind::Plain].into_iter().filter(|kind| options.only.is_none_or(|only| only == *kind))
    {
        bench.speed(kind, &study(below, kind, options.slices)?, options, report)?;
    }
    if !options.no_memory {
        bench.memory(below, report)?;
    }
    Ok(())
}

impl Bench<'_> {
    fn speed(&self, kind: Kind, study: &Path, options: &Options, report: &mut Report) -> Result<()> {
        let mut rates: BTreeMap<By, Vec<f64>> = BTreeMap::new();
        let all: Vec<By> = By::ALL
            .into_iter()
            .filter(|by| !options.no_peers || matches!(by, By::Gantry | By::Unproven))
            .filter(|by| self.is_there(*by, report))
            .collect();
        for round in 0..options.rounds.max(1) {
            for turn in 0..all.len() {
                // Each is first as often as the others.
                let by = all[(round + turn) % all.len()];
                let rate = self.files_per_second(by, study, options.slices);
                rates.entry(by).or_default().push(rate.with_context(|| by.name())?);
            }
        }
        let rate = |by| rates.get(&by).map(|all| median(all));
        for (by, all) in &rates {
            let rounds = all.iter().map(|r| format!("{r:.0}")).collect::<Vec<_>>().join(" ");
            report.told(
                &format!("{kind}, {}", by.name()),
                median(all),
                "/s",
                format!("{}; rounds: {rounds}", by.how()),
            );
        }
        let ours = rate(By::Gantry).context("ours is always measured")?;
        for (by, least) in [(By::DicomAnonymizer, 50.0), (By::Gdcmanon, 3.0)] {
            if let Some(theirs) = rate(by) {
                let note = "medians of rounds in turn; ours proves what it writes";
                report.at_least(&format!("{kind}, ours / {}", by.name()), ours / theirs, "", least, note);
            }
        }
        Ok(())
    }

    fn is_there(&self, by: By, report: &mut Report) -> bool {
        let (program, remedy) = match by {
            By::Gantry | By::Unproven => return true,
            By::DicomAnonymizer => (anonymizer(), "run `cargo xtask assets --peers`"),
            By::Gdcmanon => (PathBuf::from("gdcmanon"), "apt-get install libgdcm-tools"),
        };
        let there = Command::new(&program).arg("--help").stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok();
        if !there {
            report.skip(format!("{}: {remedy}", by.name()));
        }
        there
    }

    /// From a folder that is in the page cache into one that is empty, on the same disk. It stays until all is measured: see what is
    /// said of receivers.
    fn files_per_second(&self, by: By, study: &Path, slices: usize) -> Result<f64> {
        let out = tempfile::tempdir_in(self.below)?.keep();
        for file in files(study)? {
            std::fs::read(file)?;
        }
        // What others left to be written must not be written now.
        rustix::fs::sync();
        let begun = Instant::now();
        match by {
            By::Unproven => self.unproven(study, &out)?,
            _ => {
                let mut command = self.command(by, study, &out);
                let output = command.stdin(Stdio::null()).output()?;
                ensure!(output.status.success(), "{}: {}", output.status, String::from_utf8_lossy(&output.stderr));
            }
        }
        let seconds = begun.elapsed().as_secs_f64();
        self.judge(study, &out, slices)?;
        Ok(slices as f64 / seconds)
    }

    fn command(&self, by: By, study: &Path, out: &Path) -> Command {
        match by {
            By::Gantry | By::Unproven => {
                let mut command = Command::new(self.gantry);
                command.arg("deid").arg(study).arg(out).args(["--profile", PROFILE, "--key"]).arg(&self.key);
                command
            }
            By::DicomAnonymizer => {
                let mut command = Command::new(anonymizer());
                command.arg(study).arg(out);
                command
            }
            By::Gdcmanon => {
                let mut command = Command::new("gdcmanon");
                command.arg("-e").arg("-c").arg(&self.certificate).arg("-i").arg(study).arg("-o").arg(out);
                command
            }
        }
    }

    fn unproven(&self, study: &Path, out: &Path) -> Result<()> {
        let by = Deidentifier::new(Profile::preset(PROFILE)?, Secret::new(&std::fs::read(&self.key)?)?);
        let (files, next) = (files(study)?, AtomicUsize::new(0));
        let work = || -> Result<()> {
            while let Some(file) = files.get(next.fetch_add(1, Ordering::Relaxed)) {
                let instance = by.deidentify_file(file)?;
                instance.write_to(&out.join(format!("{}.dcm", instance.sop_instance_uid())))?;
            }
            Ok(())
        };
        std::thread::scope(|scope| {
            let threads: Vec<_> = (0..self.processors).map(|_| scope.spawn(work)).collect();
            threads.into_iter().try_for_each(|thread| thread.join().expect("it does not panic"))
        })
    }

    /// Whether every slice came out, whole, and without whose it is.
    fn judge(&self, study: &Path, out: &Path, slices: usize) -> Result<()> {
        let (sources, outputs) = (files(study)?, files(out)?);
        ensure!(outputs.len() == slices && sources.len() == slices, "{} of {slices} came out", outputs.len());
        let size = |files: &[PathBuf]| files.iter().map(|file| Ok(file.metadata()?.len())).sum::<Result<u64>>();
        let (before, after) = (size(&sources)?, size(&outputs)?);
        ensure!(after * 10 > before * 9, "{after} bytes of {before} came out");
        let last = std::fs::read(outputs.last().context("there are some")?)?;
        ensure!(last.get(128..132) == Some(b"DICM"), "what came out is no DICOM");
        let id = PATIENT_ID.as_bytes();
        ensure!(!last.windows(id.len()).any(|bytes| bytes == id), "what came out says whose it is");
        Ok(())
    }

    /// The most that the command had, of more and more slices.
    fn memory(&self, below: &Path, report: &mut Report) -> Result<()> {
        let mut peaks = Vec::new();
        for slices in MEMORY_OF {
            let study = study(below, Kind::Plain, slices)?;
            let out = tempfile::tempdir_in(self.below)?.keep();
            let mut command = self.command(By::Gantry, &study, &out);
            let (status, peak) = watched(&mut command.stdout(Stdio::null()).spawn()?)?;
            ensure!(status.success(), "gantry deid of {slices} slices: {status}");
            self.judge(&study, &out, slices)?;
            report.told(&format!("peak memory, {slices} slices"), peak as f64 / MIB, "MiB", "VmHWM; plain slices");
            peaks.push(peak as f64);
        }
        if let (Some(first), Some(last)) = (peaks.first(), peaks.last()) {
            let note = "16 times as many slices: memory is flat";
            report.wanted("peak memory, 1600 slices / 100", last / first, "", (1.25, None), note);
        }
        Ok(())
    }
}

impl std::fmt::Display for Kind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Compressed => "JPEG 2000",
            Self::Plain => "plain",
        })
    }
}

fn anonymizer() -> PathBuf {
    repository().join(".cache/venv/bin/dicom-anonymizer")
}

/// All files below a folder.
fn files(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        match path.is_dir() {
            true => found.extend(files(&path)?),
            false => found.push(path),
        }
    }
    found.sort();
    Ok(found)
}

/// The study of so many slices below `folder`, made where it is missing: the real slices again and again, as one patient's.
pub(crate) fn study(folder: &Path, kind: Kind, slices: usize) -> Result<PathBuf> {
    let study = folder.join(format!("deid-{kind:?}-{slices}").to_lowercase());
    if study.is_dir() {
        return Ok(study);
    }
    let assets = std::env::var_os("GANTRY_ASSETS").map_or_else(|| repository().join(".cache/assets"), PathBuf::from);
    let real = assets.join("totalsegmentator/example_ct_dicom");
    ensure!(real.is_dir(), "{} is missing: run `cargo xtask assets`", real.display());
    eprintln!("making a CT of {slices} slices in {}", study.display());
    // It is there whole or not at all.
    let partial = tempfile::Builder::new().prefix(".deid-").tempdir_in(folder)?;
    write(&real, partial.path(), kind, slices)?;
    std::fs::rename(partial.path(), &study)?;
    let _ = partial.keep();
    Ok(study)
}

/// UIDs of the scanner's own kind, and a number below them.
const ROOT: &str = "1.3.12.2.1107.5.1.4.60064.30000022120808113428";

fn write(real: &Path, folder: &Path, kind: Kind, slices: usize) -> Result<()> {
    let options = ReadOptions::default();
    let study = gantry::study::read(&[real.to_path_buf()], &options)?;
    let series = study.series.iter().find(|s| s.modality == "CT").context("the sample has no CT series")?;
    let volume = series.decode(0, &Budget::unlimited(), &options)?.volume;
    let grid = volume.geometry().clone();
    let [columns, rows, depth] = grid.size();
    let layout = series.volumes.first().context("the sample is no volume")?;
    let mut values = vec![0.0; columns * rows];
    for i in 0..slices {
        let path = &series.instances[layout.slices[i % depth]].path;
        let mut object = OpenFileOptions::new().open_file(path)?.into_inner();
        let sop = format!("{ROOT}{:09}", 100_000 + i);
        let time = format!("1403{:02}.{:03}000", 10 + i / 40 % 50, i % 40 * 25);
        let position = grid.to_patient([0.0, 0.0, i as f64]).map(|p| format!("{p}"));
        for (tag, vr, value) in [
            (tags::SOP_CLASS_UID, VR::UI, uids::CT_IMAGE_STORAGE),
            (tags::SOP_INSTANCE_UID, VR::UI, &sop),
            (tags::STUDY_INSTANCE_UID, VR::UI, &format!("{ROOT}000000001")),
            (tags::SERIES_INSTANCE_UID, VR::UI, &format!("{ROOT}000000002")),
            (tags::ACQUISITION_TIME, VR::TM, &time),
            (tags::CONTENT_TIME, VR::TM, &time),
            (tags::ACQUISITION_DATE_TIME, VR::DT, &format!("20221208{time}")),
            (tags::ACCESSION_NUMBER, VR::SH, "A30543134"),
            (tags::INSTITUTION_NAME, VR::LO, "Kreisspital Hinterwald"),
            (tags::REFERRING_PHYSICIAN_NAME, VR::PN, "Zuweiser^Pia^^Dr."),
            (tags::PATIENT_NAME, VR::PN, "Beispiel^Anna Maria"),
            (tags::PATIENT_ID, VR::LO, PATIENT_ID),
            (tags::PATIENT_BIRTH_DATE, VR::DA, "19580312"),
            (tags::PATIENT_SEX, VR::CS, "F"),
            (tags::STUDY_ID, VR::SH, "30543134"),
            (tags::INSTANCE_NUMBER, VR::IS, &format!("{}", i + 1)),
            (tags::IMAGE_POSITION_PATIENT, VR::DS, &position.join("\\")),
            (tags::SLICE_LOCATION, VR::DS, &position[2]),
        ] {
            object.put_str(tag, vr, value);
        }
        let mut syntax = uids::JPEG2000_LOSSLESS;
        if kind == Kind::Plain {
            syntax = uids::EXPLICIT_VR_LITTLE_ENDIAN;
            volume.slice(i % depth, &mut values)?;
            let stored: Vec<u16> = values.iter().map(|hu| (hu + 1024.0).clamp(0.0, 4095.0) as u16).collect();
            object.put(DataElement::new(tags::PIXEL_DATA, VR::OW, PrimitiveValue::U16(stored.into())));
        }
        let meta = FileMetaTableBuilder::new().transfer_syntax(syntax);
        object.with_meta(meta)?.write_to_file(folder.join(format!("{i:04}.dcm")))?;
    }
    Ok(())
}
