//! `gantry module check`: what a hospital will ask of a package, asked before it is shipped.
//!
//! ```text
//! imports and grants ─▶ models, each loaded ─▶ runs on sample studies, each twice ─▶ what somebody would question
//! ```

mod report;
mod sample;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use serde::Serialize;

pub use sample::{Sample, Source};

use super::cases::{CASES_FOLDER, Case, CaseError};
use super::check::{self, CheckError, Checked};
use super::inspect::{self, InspectError, Inspection};
use super::manifest::Manifest;
use super::package::{Package, PackageError};
use super::sbom::SBOM_FILE;
use super::world::World;
use crate::app::App;
use crate::config::GrantConfig;
use crate::inference::{Device, Turn};
use crate::sandbox::grants::Policy;

/// What a hospital reads first.
pub const CARD_FILE: &str = "MODEL_CARD.md";
/// Least text of a model card that says anything.
const CARD_CHARS: usize = 400;
/// Least text of an intended use that says for what and for whom.
const INTENDED_USE_CHARS: usize = 40;
/// What templates say, until somebody says something else.
const TEMPLATE_WORDS: [&str; 3] = ["Say here what", "Your company", "what it is for, for whom"];
/// More than this at once, and a hospital asks what for, MiB.
const HOST_MEMORY_MIB: u64 = 4096;
/// As much of the guest's own, MiB: voxels are to stay on the host.
const GUEST_MEMORY_MIB: u64 = 256;

/// What to look at.
#[derive(Debug)]
pub struct Options<'a> {
    /// A package.
    pub module: &'a Path,
    /// The folder with its cases: the package, or its source.
    pub cases: &'a Path,
    /// Studies to run it on, each by itself. Without any: those of its cases, and where it has none, a phantom.
    pub studies: &'a [PathBuf],
    /// The folder of studies that lie outside of the package.
    pub assets: Option<&'a Path>,
    /// `--grant`.
    pub grant: &'a [String],
}

/// What was found.
#[derive(Debug, Serialize)]
pub struct Examined {
    /// Name, version and the rest of the manifest.
    pub manifest: Manifest,
    /// Its models, and the identity of the package.
    #[serde(flatten)]
    pub checked: Checked,
    /// Interfaces that the component imports, with versions.
    pub imports: Vec<String>,
    /// What it asks for and is given, by default and by `--grant`.
    pub granted: Vec<String>,
    /// What it asks for and is not given.
    pub denied: Vec<String>,
    /// Runs.
    pub samples: Vec<Sample>,
    /// What a hospital would question.
    pub warnings: Vec<Warning>,
}

/// Something that a hospital would question.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Warning {
    /// Which, for scripts.
    pub code: &'static str,
    /// What, and what to do.
    pub text: String,
}

fn warning(code: &'static str, text: impl Into<String>) -> Warning {
    Warning { code, text: text.into() }
}

/// Why a package was not looked at to the end.
#[derive(Debug, thiserror::Error)]
pub enum ExamineError {
    /// The package.
    #[error(transparent)]
    Package(#[from] PackageError),
    /// A model, or the engine.
    #[error(transparent)]
    Check(#[from] CheckError),
    /// The component.
    #[error(transparent)]
    Inspect(#[from] InspectError),
    /// A case that is none.
    #[error(transparent)]
    Case(#[from] CaseError),
    /// `--grant`.
    #[error(transparent)]
    Grant(#[from] crate::sandbox::grants::GrantError),
    /// Somebody pressed Ctrl-C.
    #[error("interrupted")]
    Interrupted,
    /// No room.
    #[error("a temporary folder cannot be made: {0}")]
    Temporary(#[from] std::io::Error),
}

/// Looks at all of a package, and runs it.
///
/// # Errors
/// [`ExamineError`]. That a run fails is none: see [`Examined::ran`].
pub fn examine(
    app: &App,
    options: &Options<'_>,
    turn: &Turn,
    on: &mut dyn FnMut(&str),
) -> Result<Examined, ExamineError> {
    let package = Package::open(options.module)?;
    on("loading models");
    let checked = check::check(&package, &app.engines)?;
    let limits = &app.config.limits;
    let inspection = inspect::inspect(&package, limits.component_max_mib, limits.model_max_mib)?;
    let cases = match Case::all(options.cases) {
        Ok(cases) => cases,
        Err(CaseError::None { .. }) => Vec::new(),
        Err(e) => return Err(e.into()),
    };
    let world = World::of_exports(inspection.exports.iter().map(String::as_str));
    let sees_frames = world == Some(World::FrameAnalyzer);
    let sources = if sees_frames { Vec::new() } else { sample::sources(&package, options, &cases) };
    let mut samples = Vec::new();
    for source in &sources {
        on(&format!("running it on {}", source.name()));
        samples.push(sample::run(app, options, source, turn)?);
    }
    let policy = Policy::new(&app.config.grants, options.grant)?;
    let (grants, denied) = policy.grant(&package.manifest().needs);
    let granted = grants.interfaces.iter().map(|i| i.name().to_owned());
    let granted = granted.chain(grants.attributes.iter().map(|a| format!("attribute:{a}"))).collect();
    let mut warnings = of_package(&package, &inspection, &checked)?;
    if sees_frames {
        let text = format!("was not run: it sees frames, and no study; try it by `{}`", World::FrameAnalyzer.command());
        warnings.push(warning("no-sample", text));
    } else if cases.is_empty() {
        let text = format!(
            "has no cases: write {CASES_FOLDER}/NAME/expect.toml, so that a hospital can try it (docs/vendor.md)"
        );
        warnings.push(warning("no-cases", text));
    }
    if !sees_frames {
        warnings.extend(of_samples(&package, &samples));
    }
    let Inspection { manifest, imports, .. } = inspection;
    Ok(Examined { manifest, checked, imports, granted, denied, samples, warnings })
}

/// What is seen without running it.
fn of_package(package: &Package, inspection: &Inspection, checked: &Checked) -> Result<Vec<Warning>, PackageError> {
    let (manifest, files) = (package.manifest(), package.files());
    let mut warnings = Vec::new();
    let intended = &manifest.label.intended_use;
    let template = |text: &str| TEMPLATE_WORDS.iter().any(|words| text.contains(words));
    if intended.chars().count() < INTENDED_USE_CHARS || template(intended) {
        let text = "label.intended_use does not say what the module is for, for whom, and what it must not be used for";
        warnings.push(warning("intended-use", text));
    }
    if template(&manifest.vendor) {
        warnings.push(warning("vendor", "vendor is that of the template: say who answers for the module"));
    }
    let card = match files.holds(CARD_FILE) {
        true => String::from_utf8_lossy(&files.read(CARD_FILE, 1 << 20, "the 1 MiB of a model card", 0)?).into_owned(),
        false => String::new(),
    };
    if card.chars().count() < CARD_CHARS || template(&card) {
        let text = format!(
            "{CARD_FILE} is missing, short or the template: say what the model was trained on, how well it does and where it fails"
        );
        warnings.push(warning("model-card", text));
    }
    if manifest.license.is_none() {
        warnings.push(warning("license", "license is not set: say under which licence the code comes"));
    }
    for model in manifest.models.iter().filter(|model| model.license.is_none()) {
        warnings.push(warning("model-license", format!("models.license of {} is not set", model.name)));
    }
    for model in manifest.models.iter().filter(|model| model.target == Device::Gpu) {
        let text = format!("model {} is for a GPU, and was loaded on the processor here", model.name);
        warnings.push(warning("gpu", text));
    }
    for model in &checked.models {
        // Below it, engines drop operators with time.
        if model.anatomy.opset < 13 {
            let text = format!(
                "model {} is of operator set {}: export it anew with 13 or later",
                model.name, model.anatomy.opset
            );
            warnings.push(warning("old-opset", text));
        }
    }
    if !files.holds(SBOM_FILE) {
        warnings.push(warning("no-sbom", format!("has no {SBOM_FILE}: build it with this version of gantry")));
    } else if inspection.libraries.is_none() {
        let text = format!("{SBOM_FILE} does not know what the component is made of: say it on the model card");
        warnings.push(warning("no-sbom", text));
    }
    // Those of the imports are told by `inspect`, too.
    for text in &inspection.warnings {
        let code = match text {
            text if text.starts_with("asks for ") => "asks-in-vain",
            text if text.starts_with("imports ") => "imports-more",
            _ => "demonstration",
        };
        warnings.push(warning(code, text.as_str()));
    }
    let (_, unusual) = Policy::new(&GrantConfig::default(), &[]).map(|p| p.grant(&manifest.needs)).unwrap_or_default();
    for ask in unusual {
        warnings.push(warning(
            "unusual-grant",
            format!("asks for {ask}, which no site grants by itself: say why on the model card"),
        ));
    }
    Ok(warnings)
}

/// What is seen when it runs.
fn of_samples(package: &Package, samples: &[Sample]) -> Vec<Warning> {
    let mut warnings = Vec::new();
    if samples.is_empty() {
        warnings.push(warning("no-sample", "was not run: give it a study by --study"));
    }
    let used: Vec<_> = samples.iter().filter_map(|sample| sample.used.as_ref()).collect();
    for sample in samples {
        if sample.deterministic == Some(false) {
            let text =
                format!("gave other results when it ran again on {}: a hospital cannot reproduce them", sample.study);
            warnings.push(warning("not-deterministic", text));
        }
        warnings.extend(sample.notes.iter().map(|note| warning("run", format!("on {}: {note}", sample.study))));
    }
    let most = |of: fn(&super::trial::Used) -> u64| used.iter().map(|u| of(u) >> 20).max().unwrap_or_default();
    let (host, guest) = (most(|u| u.host_memory_peak_bytes), most(|u| u.guest_memory_peak_bytes));
    if host >= HOST_MEMORY_MIB {
        warnings.push(warning(
            "memory",
            format!("held {host} MiB of voxels and tensors at once: crop, resample or work in slabs"),
        ));
    }
    if guest >= GUEST_MEMORY_MIB {
        warnings.push(warning("guest-memory", format!("held {guest} MiB in its own memory: leave voxels on the host")));
    }
    // What no run reached may be reached by another study: told only where one ended well.
    if samples.iter().any(|sample| sample.outcome == "done") {
        let read: BTreeSet<&String> = used.iter().flat_map(|u| &u.attributes_read).collect();
        for keyword in package.manifest().needs.attributes.iter().filter(|keyword| !read.contains(keyword)) {
            warnings.push(warning("attribute-unread", format!("asks for attribute:{keyword}, and read it in no run")));
        }
        let ran: BTreeSet<&String> =
            used.iter().flat_map(|u| u.model_calls.iter()).filter(|m| *m.1 > 0).map(|m| m.0).collect();
        for model in package.manifest().models.iter().filter(|model| !ran.contains(&model.name)) {
            warnings.push(warning("model-unused", format!("ran model {} in no run", model.name)));
        }
    }
    warnings
}

impl Examined {
    /// Whether every run ended with a result.
    #[must_use]
    pub fn ran(&self) -> bool {
        self.samples.iter().all(|sample| sample.error.is_none())
    }
}
