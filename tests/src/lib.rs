//! What scenarios are made of: a small CT, a package around any component, and one call that runs both.

pub mod certificates;
pub mod cine;
pub mod command;
pub mod complete;
pub mod dimse;
pub mod fhir;
pub mod gate;
pub mod guests;
pub mod nets;
pub mod nifti;
pub mod node;
pub mod onnx;
pub mod orthanc;
pub mod peers;
pub mod s3;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result};
use dicom_core::{DataElement, PrimitiveValue, VR};
use dicom_dictionary_std::{tags, uids};
use dicom_object::{FileMetaTableBuilder, InMemDicomObject};
use gantry::app::App;
use gantry::config::Config;
use gantry::inference::Turn;
use gantry::module::package::Package;
use gantry::outputs::Stamp;
use gantry::outputs::result::JobResult;
use gantry::pipeline::{self, Event, Request, RunError};
use gantry::sandbox::grants::Policy;
use gantry::sandbox::{JobInput, Outcome};
use sha2::{Digest, Sha256};
use tempfile::TempDir;

/// The repository.
#[must_use]
pub fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the package lies in the repository")
}

/// A file that a set-up step makes. Absent on a person's machine, the test is skipped; in CI it fails.
#[must_use]
pub fn needed(path: &str, made_by: &str) -> Option<PathBuf> {
    present(repository().join(path), made_by)
}

/// Real test material that `cargo xtask assets` fetches; skips and fails as [`needed`] does.
#[must_use]
pub fn asset(path: &str) -> Option<PathBuf> {
    present(assets().join(path), "cargo xtask assets")
}

/// The same of `cargo xtask assets --peers`.
#[must_use]
pub fn needed_peer(path: &str) -> Option<PathBuf> {
    present(assets().join(path), "cargo xtask assets --peers")
}

/// Material that no set-up step can fetch: of the folder in `GANTRY_SHARED`, or `shared` beside the repository. Without such a folder the
/// test is skipped, also in CI; a file that is missing in one skips and fails as [`needed`] does.
#[must_use]
pub fn shared(path: &str) -> Option<PathBuf> {
    let beside = Some(repository().join("../shared")).filter(|folder| folder.is_dir());
    let Some(folder) = std::env::var_os("GANTRY_SHARED").map(PathBuf::from).or(beside) else {
        eprintln!("skipped: there is no folder of shared material (GANTRY_SHARED)");
        return None;
    };
    let file = folder.join(path);
    if !file.exists() {
        skipped(&format!("{} is missing", file.display()));
        return None;
    }
    Some(file)
}

/// The folder of the real test material.
#[must_use]
pub fn assets() -> PathBuf {
    std::env::var_os("GANTRY_ASSETS").map_or_else(|| repository().join(".cache/assets"), PathBuf::from)
}

/// The same, wherever it lies.
#[must_use]
pub fn present(path: PathBuf, made_by: &str) -> Option<PathBuf> {
    if path.exists() {
        return Some(path);
    }
    skipped(&format!("{} is missing: run `{made_by}`", path.display()));
    None
}

/// Says why a test is skipped; in CI, where nothing may be missing, fails it.
pub fn skipped(why: &str) {
    let ci = std::env::var("CI").is_ok_and(|value| !["", "0", "false"].contains(&value.as_str()));
    assert!(!ci, "{why}");
    eprintln!("skipped: {why}");
}

/// Writes a CT of ten slices of 16 × 16 voxels, 2 mm apart: air, with a block of 400 HU in the middle.
pub fn write_ct(folder: &Path) -> Result<()> {
    for z in 0..10u16 {
        let inside = |n: u16| (5..11).contains(&n);
        let voxels =
            (0..256u16).map(|i| if inside(i % 16) && inside(i / 16) && (2..8).contains(&z) { 1424 } else { 24 });
        write_slice(folder, ct_slice(z, 16, 1, 2), z, voxels.collect())?;
    }
    Ok(())
}

/// Writes a CT of a head made of ellipsoids, 32 slices of 112 × 112 voxels of 2 × 2 × 5 mm: skull, brain with grain, and in
/// one half, where it is wanted, a ball of 70 HU and 20 mL.
pub fn write_head_ct(folder: &Path, lesion: bool) -> Result<()> {
    for z in 0..32u16 {
        let voxel = |i: u16| {
            // Tenths of mm from the middle of the head.
            let [x, y, z] = [(i % 112, 20, 1115), (i / 112, 20, 1115), (z, 50, 700)]
                .map(|(at, step, middle)| i64::from(at) * step - middle);
            // Thousandths: 1000 on an ellipsoid of these radii.
            let within =
                |a: i64, b: i64, c: i64| 1000 * x * x / (a * a) + 1000 * y * y / (b * b) + 1000 * z * z / (c * c);
            let ball = (x - 350).pow(2) + (y - 100).pow(2) + (z - 200).pow(2);
            let grain = (i64::from(i) * 7919 + z * 104_729).rem_euclid(9) - 4;
            if within(750, 920, 880) > 1000 {
                -1000
            } else if within(680, 850, 810) > 1000 {
                1000
            } else if within(660, 830, 790) > 1000 {
                8
            } else if lesion && ball < 168 * 168 {
                70 + grain
            } else {
                32 + grain
            }
        };
        let voxels = (0..112 * 112).map(|i| u16::try_from(voxel(i) + 1024).expect("from -1000 HU on")).collect();
        let mut slice = ct_slice(z, 112, 2, 5);
        slice.put_str(tags::BODY_PART_EXAMINED, VR::CS, "HEAD");
        write_slice(folder, slice, z, voxels)?;
    }
    Ok(())
}

/// The slice at `z` of the small study, without its voxels: `size` × `size` of `pixel_mm`, slices `step_mm` apart.
fn ct_slice(z: u16, size: u16, pixel_mm: u16, step_mm: u16) -> InMemDicomObject {
    let mut slice = InMemDicomObject::new_empty();
    let corner = -i32::from(size * pixel_mm) / 2;
    for (tag, vr, value) in [
        (tags::SOP_CLASS_UID, VR::UI, uids::CT_IMAGE_STORAGE.to_owned()),
        (tags::SOP_INSTANCE_UID, VR::UI, format!("2.25.1{z}")),
        (tags::STUDY_INSTANCE_UID, VR::UI, "2.25.2".into()),
        (tags::SERIES_INSTANCE_UID, VR::UI, "2.25.3".into()),
        (tags::FRAME_OF_REFERENCE_UID, VR::UI, "2.25.4".into()),
        (tags::PATIENT_NAME, VR::PN, "Secret^Person".into()),
        (tags::PATIENT_ID, VR::LO, "SECRET-ID".into()),
        (tags::STUDY_DATE, VR::DA, "20240102".into()),
        (tags::STUDY_TIME, VR::TM, "030405".into()),
        (tags::MODALITY, VR::CS, "CT".into()),
        (tags::IMAGE_POSITION_PATIENT, VR::DS, format!("{corner}\\{corner}\\{}", f64::from(z * step_mm))),
        (tags::IMAGE_ORIENTATION_PATIENT, VR::DS, "1\\0\\0\\0\\1\\0".into()),
        (tags::PIXEL_SPACING, VR::DS, format!("{pixel_mm}\\{pixel_mm}")),
        (tags::SLICE_THICKNESS, VR::DS, step_mm.to_string()),
        (tags::PHOTOMETRIC_INTERPRETATION, VR::CS, "MONOCHROME2".into()),
        (tags::RESCALE_INTERCEPT, VR::DS, "-1024".into()),
        (tags::RESCALE_SLOPE, VR::DS, "1".into()),
    ] {
        slice.put_str(tag, vr, value);
    }
    for (tag, value) in [
        (tags::ROWS, size),
        (tags::COLUMNS, size),
        (tags::SAMPLES_PER_PIXEL, 1),
        (tags::BITS_ALLOCATED, 16),
        (tags::BITS_STORED, 16),
        (tags::HIGH_BIT, 15),
        (tags::PIXEL_REPRESENTATION, 0),
    ] {
        slice.put(DataElement::new(tag, VR::US, PrimitiveValue::from(value)));
    }
    slice
}

/// Writes a slice with its voxels as stored.
fn write_slice(folder: &Path, mut slice: InMemDicomObject, z: u16, voxels: Vec<u16>) -> Result<()> {
    slice.put(DataElement::new(tags::PIXEL_DATA, VR::OW, PrimitiveValue::U16(voxels.into())));
    let meta = FileMetaTableBuilder::new().transfer_syntax(uids::EXPLICIT_VR_LITTLE_ENDIAN);
    slice.with_meta(meta)?.write_to_file(folder.join(format!("{z}.dcm")))?;
    Ok(())
}

/// Changes each file of a folder of DICOM files; they come in order of their names, and are counted from 0.
pub fn change_files(folder: &Path, mut change: impl FnMut(usize, &mut InMemDicomObject)) -> Result<()> {
    let entries = std::fs::read_dir(folder)?.map(|entry| Ok(entry?.path()));
    let mut files = entries.collect::<Result<Vec<_>>>()?;
    files.sort();
    for (index, path) in files.iter().enumerate() {
        let mut object = dicom_object::open_file(path)?;
        change(index, &mut object);
        object.write_to_file(path)?;
    }
    Ok(())
}

/// A scenario: a study, a package and an output folder.
pub struct Scenario {
    folder: TempDir,
    package: PathBuf,
    study: PathBuf,
    /// What the operator configured.
    pub config: Config,
    /// `--grant`.
    pub grants: Vec<String>,
    /// `--upstream`.
    pub upstream: Vec<PathBuf>,
    /// `--prior`.
    pub priors: Vec<PathBuf>,
    /// `--strict`.
    pub strict: bool,
}

impl Scenario {
    /// The small CT, and a package around a component with a manifest that asks for what modules usually ask for.
    /// Both are temporary and may be changed.
    pub fn new(component: &[u8], manifest: &str) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let [study, package] = ["study", "package"].map(|name| folder.path().join(name));
        std::fs::create_dir_all(&study)?;
        std::fs::create_dir_all(&package)?;
        write_ct(&study)?;
        let scenario = Self::of(folder, package, study);
        scenario.write_package("component.wasm", component)?;
        let digest = gantry::hex(&Sha256::digest(component));
        scenario.write_package("module.toml", manifest.replace("COMPONENT", &digest).as_bytes())?;
        Ok(scenario)
    }

    /// A package and a study that are there already, and are left as they are.
    pub fn existing(package: &Path, study: &Path) -> Result<Self> {
        Ok(Self::of(tempfile::tempdir()?, package.to_owned(), study.to_owned()))
    }

    /// The same package on another one's study, with the result of that one handed over and everything granted that is
    /// needed to look at it.
    #[must_use]
    pub fn after(mut self, earlier: &Self) -> Self {
        self.upstream.push(earlier.out());
        self.grants.push("gantry:imaging/upstream".into());
        self.on(earlier.study())
    }

    /// The same package on another study.
    #[must_use]
    pub fn on(self, study: &Path) -> Self {
        Self { study: study.to_owned(), ..self }
    }

    /// The small CT and a guest of `tests/guests/rogue`; nothing where the guests are not built.
    #[must_use]
    pub fn rogue(guest: &str) -> Option<Self> {
        // One comes after others, and asks for what they found; one shows what it found.
        let manifest = match guest {
            "follow" => MANIFEST.replace("\"wasi:nn\"", "\"gantry:imaging/upstream\""),
            "shown" | "boxes" => MANIFEST.replace("\"wasi:nn\"", "\"gantry:imaging/marks\""),
            _ => MANIFEST.to_owned(),
        };
        Self::rogue_with(guest, &manifest)
    }

    /// As [`Scenario::rogue`], with another manifest.
    #[must_use]
    pub fn rogue_with(guest: &str, manifest: &str) -> Option<Self> {
        let component = component(guest)?;
        Some(Self::new(&component, manifest).expect("a scenario"))
    }

    /// The small CT and a guest of `tests/guests/rogue` with the model `net` (`x` → `y`, f32 [1, 1, 4, 4, 4]) for
    /// `target`.
    #[must_use]
    pub fn with_net(guest: &str, manifest: &str, target: &str) -> Option<Self> {
        let component = component(guest)?;
        let net = std::fs::read(repository().join("tests/guests/models/net.onnx")).expect("readable");
        let digest = gantry::hex(&Sha256::digest(&net));
        let models =
            format!("[[models]]\nname = \"net\"\nfile = \"net.onnx\"\ntarget = \"{target}\"\nsha256 = \"{digest}\"\n");
        let scenario = Self::new(&component, &format!("{manifest}{models}")).expect("a scenario");
        scenario.write_package("net.onnx", &net).expect("written");
        Some(scenario)
    }

    fn of(folder: TempDir, package: PathBuf, study: PathBuf) -> Self {
        let mut config = Config::default();
        config.cache.folder = Some(repository().join("target/test-code-cache"));
        config.limits.job_deadline_ms = 20_000;
        config.engines.isolation = command::workers();
        Self {
            folder,
            package,
            study,
            config,
            grants: Vec::new(),
            upstream: Vec::new(),
            priors: Vec::new(),
            strict: false,
        }
    }

    /// Adds or replaces a file of the package.
    pub fn write_package(&self, name: &str, bytes: &[u8]) -> Result<()> {
        std::fs::write(self.package.join(name), bytes).context("a file of the package")
    }

    /// Where the study lies.
    #[must_use]
    pub fn study(&self) -> &Path {
        &self.study
    }

    /// Where the package lies.
    #[must_use]
    pub fn package_folder(&self) -> &Path {
        &self.package
    }

    /// Where results go.
    #[must_use]
    pub fn out(&self) -> PathBuf {
        self.folder.path().join("out")
    }

    /// Opens the package alone.
    pub fn package(&self) -> Result<Package, gantry::module::package::PackageError> {
        Package::open(&self.package)
    }

    /// Runs it all.
    pub fn run(&self) -> Result<JobResult, RunError> {
        self.run_watched(&|_| {})
    }

    /// Runs it all, watched.
    pub fn run_watched(&self, observe: &dyn Fn(Event<'_>)) -> Result<JobResult, RunError> {
        self.run_in(&self.app(), observe)
    }

    /// A process's worth of what is configured.
    #[must_use]
    pub fn app(&self) -> App {
        App::start(self.config.clone()).expect("a sandbox starts")
    }

    /// Runs it all where others run too, as that was configured.
    pub fn run_in(&self, app: &App, observe: &dyn Fn(Event<'_>)) -> Result<JobResult, RunError> {
        self.run_as(app, &Turn::default(), observe)
    }

    /// As [`Scenario::run_in`], as urgent as that, until it is cancelled.
    pub fn run_as(&self, app: &App, turn: &Turn, observe: &dyn Fn(Event<'_>)) -> Result<JobResult, RunError> {
        let policy = Policy::new(&self.config.grants, &self.grants).expect("grants that exist");
        let request = Request {
            module: &self.package,
            study: std::slice::from_ref(&self.study),
            upstream: &self.upstream,
            priors: &self.priors,
            out: &self.out(),
            policy: &policy,
            strict: self.strict,
            overlay: false,
            stamp: Stamp { date: "20240102".into(), time: "030405".into() },
        };
        pipeline::run(app, &request, turn, observe)
    }

    /// What the module states of all series, before anything that writes DICOM has seen it.
    pub fn stated(&self) -> Result<Outcome, RunError> {
        let app = self.app();
        let policy = Policy::new(&self.config.grants, &self.grants).expect("grants that exist");
        let package = Arc::new(self.package()?);
        let (grants, _) = policy.grant(&package.manifest().needs);
        let read = app.read_options(self.strict);
        let study = Arc::new(gantry::study::read(std::slice::from_ref(&self.study), &read)?);
        let accepted = (0..study.series.len()).collect();
        let input = JobInput {
            study,
            accepted,
            upstream: Vec::new(),
            priors: Vec::new(),
            read,
            engines: app.engines.clone(),
            pseudonym_key: app.pseudonym_key,
            turn: Turn::default(),
        };
        Ok(app.sandbox.prepare(package, grants)?.run(input).map_err(|failure| failure.error)?)
    }

    /// Runs it, expects it to fail and to leave nothing behind; the error.
    #[must_use]
    pub fn refused(&self) -> RunError {
        let error = self.run().map(|_| ()).expect_err("it must fail");
        assert!(!self.out().exists(), "nothing partial is written: {error}");
        let text = error.to_string();
        assert!(!text.contains("Secret") && !text.contains("SECRET"), "no patient data in messages: {text}");
        error
    }
}

/// A guest of `tests/guests`; nothing where it is not built.
fn component(guest: &str) -> Option<Vec<u8>> {
    // One needs linker arguments of its own, one a feature of the SDK, and so each a crate of its own.
    let folder = match guest {
        "tables" => "tables",
        "frames" => "streams",
        _ => "rogue",
    };
    let component = needed(&format!("target/guests/{folder}/{guest}.wasm"), "cargo xtask guests")?;
    Some(std::fs::read(component).expect("readable"))
}

/// A manifest that asks for what modules usually ask for; `COMPONENT` stands for the component's digest.
pub const MANIFEST: &str = r#"
schema = 1
name = "rogue"
version = "0.1.0"
vendor = "Tests"
[label]
title = "A test"
intended_use = "Tests."
demonstration = true
[accepts]
modality = ["CT"]
[needs]
interfaces = ["gantry:imaging/study", "gantry:imaging/volumes", "gantry:imaging/findings", "gantry:imaging/log", "wasi:nn"]
[component]
file = "component.wasm"
sha256 = "COMPONENT"
"#;
