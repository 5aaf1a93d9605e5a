//! What scenarios are made of: a small CT, a package around any component, and one call that runs both.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use dicom_core::{DataElement, PrimitiveValue, VR};
use dicom_dictionary_std::{tags, uids};
use dicom_object::{FileMetaTableBuilder, InMemDicomObject};
use gantry::app::App;
use gantry::config::Config;
use gantry::module::package::Package;
use gantry::outputs::Stamp;
use gantry::outputs::result::JobResult;
use gantry::pipeline::{self, Request, RunError};
use gantry::sandbox::CancelToken;
use gantry::sandbox::grants::Policy;
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
    let path = repository().join(path);
    if path.exists() {
        return Some(path);
    }
    assert!(std::env::var_os("CI").is_none(), "{} is missing: run `{made_by}`", path.display());
    eprintln!("skipped: {} is missing: run `{made_by}`", path.display());
    None
}

/// Writes a CT of ten slices of 16 × 16 voxels, 2 mm apart: air, with a block of 400 HU in the middle.
pub fn write_ct(folder: &Path) -> Result<()> {
    for z in 0..10u16 {
        let mut slice = InMemDicomObject::new_empty();
        let sop = format!("2.25.1{z}");
        for (tag, vr, value) in [
            (tags::SOP_CLASS_UID, VR::UI, uids::CT_IMAGE_STORAGE.to_owned()),
            (tags::SOP_INSTANCE_UID, VR::UI, sop.clone()),
            (tags::STUDY_INSTANCE_UID, VR::UI, "2.25.2".into()),
            (tags::SERIES_INSTANCE_UID, VR::UI, "2.25.3".into()),
            (tags::FRAME_OF_REFERENCE_UID, VR::UI, "2.25.4".into()),
            (tags::PATIENT_NAME, VR::PN, "Secret^Person".into()),
            (tags::PATIENT_ID, VR::LO, "SECRET-ID".into()),
            (tags::STUDY_DATE, VR::DA, "20240102".into()),
            (tags::STUDY_TIME, VR::TM, "030405".into()),
            (tags::MODALITY, VR::CS, "CT".into()),
            (tags::IMAGE_POSITION_PATIENT, VR::DS, format!("-8\\-8\\{}", f64::from(z) * 2.0)),
            (tags::IMAGE_ORIENTATION_PATIENT, VR::DS, "1\\0\\0\\0\\1\\0".into()),
            (tags::PIXEL_SPACING, VR::DS, "1\\1".into()),
            (tags::SLICE_THICKNESS, VR::DS, "2".into()),
            (tags::PHOTOMETRIC_INTERPRETATION, VR::CS, "MONOCHROME2".into()),
            (tags::RESCALE_INTERCEPT, VR::DS, "-1024".into()),
            (tags::RESCALE_SLOPE, VR::DS, "1".into()),
        ] {
            slice.put_str(tag, vr, value);
        }
        for (tag, value) in [
            (tags::ROWS, 16u16),
            (tags::COLUMNS, 16),
            (tags::SAMPLES_PER_PIXEL, 1),
            (tags::BITS_ALLOCATED, 16),
            (tags::BITS_STORED, 16),
            (tags::HIGH_BIT, 15),
            (tags::PIXEL_REPRESENTATION, 0),
        ] {
            slice.put(DataElement::new(tag, VR::US, PrimitiveValue::from(value)));
        }
        let inside = |n: u16| (5..11).contains(&n);
        let voxels =
            (0..256u16).map(|i| if inside(i % 16) && inside(i / 16) && (2..8).contains(&z) { 1424 } else { 24 });
        slice.put(DataElement::new(tags::PIXEL_DATA, VR::OW, PrimitiveValue::U16(voxels.collect())));
        let meta = FileMetaTableBuilder::new().transfer_syntax(uids::EXPLICIT_VR_LITTLE_ENDIAN);
        slice.with_meta(meta)?.write_to_file(folder.join(format!("{z}.dcm")))?;
    }
    Ok(())
}

/// A scenario: a study, a package and an output folder, all temporary.
pub struct Scenario {
    folder: TempDir,
    /// What the operator configured.
    pub config: Config,
    /// `--grant`.
    pub grants: Vec<String>,
}

impl Scenario {
    /// The small CT, and a package around a component with a manifest that asks for what modules usually ask for.
    pub fn new(component: &[u8], manifest: &str) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        std::fs::create_dir_all(folder.path().join("study"))?;
        std::fs::create_dir_all(folder.path().join("package"))?;
        write_ct(&folder.path().join("study"))?;
        let mut config = Config::default();
        config.cache.folder = Some(repository().join("target/test-code-cache"));
        config.limits.job_deadline_ms = 20_000;
        let scenario = Self { folder, config, grants: Vec::new() };
        scenario.write_package("component.wasm", component)?;
        let digest = gantry::hex(&Sha256::digest(component));
        scenario.write_package("module.toml", manifest.replace("COMPONENT", &digest).as_bytes())?;
        Ok(scenario)
    }

    /// Adds or replaces a file of the package.
    pub fn write_package(&self, name: &str, bytes: &[u8]) -> Result<()> {
        std::fs::write(self.folder.path().join("package").join(name), bytes).context("a file of the package")
    }

    /// Where the study lies.
    #[must_use]
    pub fn study(&self) -> PathBuf {
        self.folder.path().join("study")
    }

    /// Where results go.
    #[must_use]
    pub fn out(&self) -> PathBuf {
        self.folder.path().join("out")
    }

    /// Opens the package alone.
    pub fn package(&self) -> Result<Package, gantry::module::package::PackageError> {
        Package::open(&self.folder.path().join("package"))
    }

    /// Runs it all.
    pub fn run(&self) -> Result<JobResult, RunError> {
        let app = App::start(self.config.clone()).expect("a sandbox starts");
        let policy = Policy::new(&self.config.grants, &self.grants).expect("grants that exist");
        let request = Request {
            module: &self.folder.path().join("package"),
            study: &[self.study()],
            out: &self.out(),
            policy: &policy,
            strict: false,
            overlay: false,
            stamp: Stamp { date: "20240102".into(), time: "030405".into() },
        };
        pipeline::run(&app, &request, &CancelToken::default(), &|_| {})
    }

    /// Runs it, expects it to fail and to leave nothing behind; the error.
    #[must_use]
    pub fn refused(&self) -> RunError {
        let error = self.run().map(|_| ()).expect_err("it must fail");
        let left = std::fs::read_dir(self.out()).map_or(0, Iterator::count);
        assert_eq!(left, 0, "nothing partial is written: {error}");
        let text = error.to_string();
        assert!(!text.contains("Secret") && !text.contains("SECRET"), "no patient data in messages: {text}");
        error
    }
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
