//! `cases/NAME/expect.toml`: one study and what the module must make of it.

use std::path::{Component, Path, PathBuf};

use serde::Deserialize;
use sha2::{Digest, Sha256};

use super::expect::Expect;
use crate::config::GrantConfig;
use crate::module::files::Files;
use crate::module::installed;
use crate::module::manifest::Sha256Hex;
use crate::module::package::PackageError;
use crate::module::phantom::Phantom;

/// The folder of cases, in a package and in its source.
pub const CASES_FOLDER: &str = "cases";
/// A case's file.
pub const CASE_FILE: &str = "expect.toml";
/// The folder of a study in a case that names none.
const STUDY_FOLDER: &str = "study";
const CASE_MAX_KIB: u64 = 256;
/// More cases than anybody writes.
const CASES_MAX: usize = 1000;

/// A case, as read.
#[derive(Debug)]
pub struct Case {
    /// The name of its folder.
    pub name: String,
    folder: PathBuf,
    file: CaseFile,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct CaseFile {
    #[serde(default)]
    study: StudyEntry,
    #[serde(default)]
    expect: Expect,
}

/// What a case runs on. One of `path`, `asset` and `phantom`; the folder `study` beside the file when none is set.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct StudyEntry {
    path: Option<PathBuf>,
    asset: Option<PathBuf>,
    sha256: Option<Sha256Hex>,
    phantom: Option<Phantom>,
    priors: Vec<PathBuf>,
    upstream: Vec<PathBuf>,
    grant: Vec<String>,
    strict: bool,
}

/// Why there are no cases, or a case is none. The vendor's to mend.
#[derive(Debug, thiserror::Error)]
pub enum CaseError {
    /// There are none.
    #[error(
        "{folder} has no cases: write {CASES_FOLDER}/NAME/{CASE_FILE} beside its module.toml (docs/vendor.md), \
         for instance as `gantry module new` does",
        folder = folder.display()
    )]
    None {
        /// The package or its source.
        folder: PathBuf,
    },
    /// No case has the name that was asked for.
    #[error("there is no case {asked:?}; there are: {there}")]
    NoSuch {
        /// What was asked for.
        asked: String,
        /// What there is.
        there: String,
    },
    /// A file does not fit.
    #[error("{path}: {reason}", path = path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Key and remedy.
        reason: String,
    },
    /// The study is not there: the host's to mend.
    #[error("the study of case {name} is not there: {reason}")]
    NoStudy {
        /// Which case.
        name: String,
        /// What is missing, and how it is given.
        reason: String,
    },
    /// The study is another.
    #[error("the study of case {name} has SHA-256 {found}, and {CASE_FILE} says {expected}")]
    Digest {
        /// Which case.
        name: String,
        /// What it has.
        found: String,
        /// What was written.
        expected: String,
    },
    /// There is no room for a phantom.
    #[error("the study of case {name} cannot be made: {reason}")]
    Phantom {
        /// Which case.
        name: String,
        /// Why.
        reason: String,
    },
    /// The package.
    #[error(transparent)]
    Package(#[from] PackageError),
}

/// A study that is there, for as long as this is kept.
#[derive(Debug, Default)]
pub struct Ready {
    /// Files and folders.
    pub study: Vec<PathBuf>,
    /// Earlier studies.
    pub priors: Vec<PathBuf>,
    /// Results of earlier modules.
    pub upstream: Vec<PathBuf>,
    _made: Option<tempfile::TempDir>,
}

impl Case {
    /// All cases of a folder with a folder `cases`, by name.
    ///
    /// # Errors
    /// [`CaseError`]: a case that cannot be read is no case that passed.
    pub fn all(folder: &Path) -> Result<Vec<Self>, CaseError> {
        let cases = folder.join(CASES_FOLDER);
        let failed = |path: &Path, e: std::io::Error| CaseError::File { path: path.to_owned(), reason: e.to_string() };
        let none = || CaseError::None { folder: folder.to_owned() };
        let entries = match std::fs::read_dir(&cases) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Err(none()),
            entries => entries.map_err(|e| failed(&cases, e))?,
        };
        let mut folders = Vec::new();
        for entry in entries {
            let path = entry.map_err(|e| failed(&cases, e))?.path();
            if path.join(CASE_FILE).exists() {
                folders.push(path);
            }
        }
        if folders.len() > CASES_MAX {
            return Err(CaseError::File { path: cases, reason: format!("more than {CASES_MAX} cases") });
        }
        folders.sort();
        match folders.is_empty() {
            true => Err(none()),
            false => folders.iter().map(|folder| Self::read(folder)).collect(),
        }
    }

    fn read(folder: &Path) -> Result<Self, CaseError> {
        let wrong = |reason| CaseError::File { path: folder.join(CASE_FILE), reason };
        let files = Files::Folder(folder.to_owned());
        let bytes = files.read(CASE_FILE, CASE_MAX_KIB << 10, "the 256 KiB of a case", 0)?;
        let text = String::from_utf8(bytes).map_err(|_| wrong("not UTF-8 text".into()))?;
        let file: CaseFile = toml::from_str(&text).map_err(|e| wrong(crate::module::manifest::said(&text, &e)))?;
        file.check().map_err(wrong)?;
        let name = folder.file_name().map(|name| crate::printable(&name.to_string_lossy())).unwrap_or_default();
        Ok(Self { name, folder: folder.to_owned(), file })
    }

    /// What it must come to.
    #[must_use]
    pub fn expect(&self) -> &Expect {
        &self.file.expect
    }

    /// The phantom that it runs on, if it is one.
    #[must_use]
    pub fn phantom(&self) -> Option<&Phantom> {
        self.file.study.phantom.as_ref()
    }

    /// What it needs and whoever runs it did not grant; in words. No module grants itself anything, be it a package or a source.
    #[must_use]
    pub fn ungranted(&self, site: &GrantConfig, extra: &[String]) -> Option<String> {
        let is_granted = |grant: &&String| {
            let attribute = grant.strip_prefix("attribute:");
            extra.contains(grant)
                || site.interfaces.contains(grant)
                || attribute.is_some_and(|keyword| site.attributes.iter().any(|granted| granted == keyword))
        };
        let missing = self.file.study.grant.iter().filter(|grant| !is_granted(grant));
        let asked: Vec<_> = missing.map(|grant| format!("--grant {}", crate::printable(grant))).collect();
        (!asked.is_empty()).then(|| {
            format!("it needs more than is granted, and no module grants it to itself: say {}", asked.join(" "))
        })
    }

    /// Whether nothing is to be repaired.
    #[must_use]
    pub fn strict(&self) -> bool {
        self.file.study.strict
    }

    /// Makes, or finds, what it runs on; `assets` is the folder of studies that lie outside of the package.
    ///
    /// # Errors
    /// [`CaseError`]
    pub fn ready(&self, assets: Option<&Path>) -> Result<Ready, CaseError> {
        let entry = &self.file.study;
        let below = |paths: &[PathBuf]| paths.iter().map(|path| self.folder.join(path)).collect();
        let (priors, upstream) = (below(&entry.priors), below(&entry.upstream));
        if let Some(phantom) = &entry.phantom {
            let failed = |reason| CaseError::Phantom { name: self.name.clone(), reason };
            let made = tempfile::tempdir().map_err(|e| failed(e.to_string()))?;
            phantom.write(made.path()).map_err(failed)?;
            return Ok(Ready { study: vec![made.path().to_owned()], priors, upstream, _made: Some(made) });
        }
        let missing = |reason: String| CaseError::NoStudy { name: self.name.clone(), reason };
        let path = match (&entry.asset, assets) {
            (Some(asset), Some(assets)) => assets.join(asset),
            (Some(asset), None) => {
                let asset = asset.display();
                return Err(missing(format!(
                    "it is the asset {asset}: name the folder that holds it by --assets, or GANTRY_ASSETS"
                )));
            }
            (None, _) => self.folder.join(entry.path.as_deref().unwrap_or(Path::new(STUDY_FOLDER))),
        };
        if !path.exists() {
            return Err(missing(format!("there is nothing at {}", path.display())));
        }
        if let Some(expected) = entry.sha256 {
            let found = digest(&path)?;
            if found != expected {
                let (name, found, expected) = (self.name.clone(), found.into(), expected.into());
                return Err(CaseError::Digest { name, found, expected });
            }
        }
        Ok(Ready { study: vec![path], priors, upstream, _made: None })
    }
}

impl CaseFile {
    fn check(&self) -> Result<(), String> {
        let StudyEntry { path, asset, sha256, phantom, priors, upstream, .. } = &self.study;
        let inside = |path: &PathBuf| path.components().all(|part| matches!(part, Component::Normal(_)));
        let named = [path, asset].into_iter().flatten().chain(priors).chain(upstream);
        if let Some(outside) = named.into_iter().find(|path| !inside(path)) {
            let outside: String = outside.to_string_lossy().chars().take(64).flat_map(char::escape_debug).collect();
            return Err(format!("study: {outside}: a path from this folder on, or of an asset, without `..`"));
        }
        if [path.is_some(), asset.is_some(), phantom.is_some()].iter().filter(|set| **set).count() > 1 {
            return Err("study: one of path, asset and phantom".into());
        }
        if let Some(phantom) = phantom {
            if sha256.is_some() {
                return Err("study.sha256: a phantom is what it is described as; leave it out".into());
            }
            phantom.check().map_err(|e| format!("study.{e}"))?;
        }
        let shapes: Vec<&str> = phantom.iter().flat_map(|p| &p.shapes).map(|shape| shape.name.as_str()).collect();
        self.expect.check(&shapes).map_err(|e| format!("expect.{e}"))
    }
}

/// SHA-256 over the lines that `sha256sum` prints of a study's files, by path: what `study.sha256` is.
///
/// # Errors
/// A file cannot be read, or is none.
pub fn digest(study: &Path) -> Result<Sha256Hex, PackageError> {
    let mut sums = Sha256::new();
    let mut line = |digest: Sha256Hex, path: &str| sums.update(format!("{}  {path}\n", String::from(digest)));
    if study.is_file() {
        let name = study.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        line(installed::digest(study)?.0, &name);
    } else {
        let mut files = installed::files(study)?;
        files.sort();
        for path in files {
            line(installed::digest(&study.join(&path))?.0, &path);
        }
    }
    Ok(Sha256Hex(sums.finalize().into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PHANTOM: &str = r#"
        [study.phantom]
        modality = "CT"
        size = [8, 8, 4]
        spacing_mm = [4.0, 4.0, 5.0]
        background = -1000
        shapes = [{ name = "ball", kind = "ellipsoid", centre_mm = [0, 0, 0], radii_mm = [8, 8, 8], value = 400 }]
    "#;

    /// A folder with one case.
    fn folder(text: &str) -> tempfile::TempDir {
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::create_dir_all(folder.path().join("cases/one")).expect("made");
        std::fs::write(folder.path().join("cases/one/expect.toml"), text).expect("written");
        folder
    }

    fn refused(text: &str) -> String {
        Case::all(folder(text).path()).expect_err(text).to_string()
    }

    #[test]
    fn a_phantom_is_made_and_goes_again() {
        let folder = folder(PHANTOM);
        let cases = Case::all(folder.path()).expect("a case");
        let ready = cases[0].ready(None).expect("made");
        let study = ready.study[0].clone();
        assert_eq!(std::fs::read_dir(&study).expect("there").count(), 4);
        drop(ready);
        assert!(!study.exists());
    }

    #[test]
    fn a_study_elsewhere_is_the_one_that_was_meant() {
        let assets = tempfile::tempdir().expect("a folder");
        std::fs::create_dir(assets.path().join("ct")).expect("made");
        for (name, text) in [("b", "two"), ("a", "one")] {
            std::fs::write(assets.path().join("ct").join(name), text).expect("written");
        }
        let sum = |text: &str| crate::hex(&Sha256::digest(text));
        let expected = sum(&format!("{}  a\n{}  b\n", sum("one"), sum("two")));
        let folder = folder(&format!("study = {{ asset = \"ct\", sha256 = \"{expected}\" }}"));
        let case = &Case::all(folder.path()).expect("a case")[0];
        assert_eq!(case.ready(Some(assets.path())).expect("there").study, [assets.path().join("ct")]);
        assert!(case.ready(None).expect_err("where?").to_string().contains("--assets, or GANTRY_ASSETS"));
        assert!(matches!(case.ready(Some(folder.path())), Err(CaseError::NoStudy { .. })));
        std::fs::write(assets.path().join("ct/a"), "another").expect("written");
        let error = case.ready(Some(assets.path())).expect_err("changed").to_string();
        assert!(error.contains(&expected) && error.contains("has SHA-256"), "{error}");
    }

    #[test]
    fn what_is_no_case_is_refused_by_its_key() {
        assert!(matches!(Case::all(tempfile::tempdir().expect("a folder").path()), Err(CaseError::None { .. })));
        assert!(refused("colour = 1").contains("colour"));
        assert!(refused("[study]\npath = \"../../data\"").contains("without `..`"));
        assert!(refused("[study]\nasset = \"/etc\"").contains("without `..`"));
        assert!(refused("[study]\npath = \"a\"\nasset = \"b\"").contains("one of path, asset and phantom"));
        assert!(refused(&PHANTOM.replace("[8, 8, 4]", "[8, 8, 0]")).contains("study.phantom.size"));
        let shape = "[[expect.segments]]\nname = \"Ball\"\nshape = \"bull\"\ndice_min = 0.9";
        assert!(refused(&format!("{PHANTOM}{shape}")).contains("expect.segments: no shape"));
        assert!(refused("expect = { status = \"perhaps\" }").contains("line 1"));
    }
}
