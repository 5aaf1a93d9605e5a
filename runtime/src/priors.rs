//! Earlier studies of the patient, as a module is shown them.
//!
//! ```text
//! a node's journal (schedule/priors.rs) ──────────┐
//! `gantry run --prior` ─ named: read, and judged ─┴─▶ Prior: with a series that the module accepts; the latest so many
//! ```
//!
//! [`PriorKey::days_before`] says which study is an earlier one of which, whoever asks.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use dicom_core::Tag;
use dicom_dictionary_std::tags;

use crate::module::manifest::Interface;
use crate::module::package::Package;
use crate::pipeline;
use crate::sandbox::Prior;
use crate::sandbox::grants::Grants;
use crate::shown;
use crate::store::PriorKey;
use crate::study::{self, ReadError, ReadOptions, Study};

/// Why a study is no earlier one of the same patient.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotPrior {
    /// The same study.
    #[error("it is the study itself")]
    Itself,
    /// Another patient's, or not known to be the same one's.
    #[error("nothing shows that it is of the same patient: {0} is empty or another one")]
    Patient(&'static str),
    /// Of other modalities.
    #[error("it has no modality of the study's")]
    Modality,
    /// Not before.
    #[error("it was not before the study, by Study Date (0008,0020) and Study Time (0008,0030)")]
    Date,
}

/// Why the earlier studies that an operator names are not shown to a module. Says no patient data.
#[derive(Debug, thiserror::Error)]
pub enum PriorError {
    /// The operator: the module does not look at any.
    #[error("--prior: the module does not ask for {}; run it without", Interface::Priors.name())]
    NotAsked,
    /// The operator: they were not granted.
    #[error("--prior: the module asks for {0}, which was not granted (--grant {0})", Interface::Priors.name())]
    NotGranted,
    /// The input: no study can be told to be earlier.
    #[error("--prior: no study can be an earlier one of this: {0}")]
    Unusable(&'static str),
    /// The earlier study cannot be read.
    #[error("--prior {}: {source}", shown(path))]
    Read {
        /// What was named.
        path: PathBuf,
        /// Why not.
        source: Box<ReadError>,
    },
    /// It is none.
    #[error("--prior {}: this is no earlier study of the patient: {reason}", shown(path))]
    Not {
        /// What was named.
        path: PathBuf,
        /// Why not.
        reason: NotPrior,
    },
    /// The operator: a study in two parts, or the same one again.
    #[error("--prior {}: this study was named before; name each once, by one folder that holds all of it", shown(.0))]
    Twice(PathBuf),
}

impl PriorKey {
    /// Of a study that was read.
    pub(crate) fn of(study: &Study) -> Self {
        let stated = |tag: Tag| {
            let texts = study.series.iter().filter_map(|series| series.header.get(tag)?.to_str().ok());
            let mut texts = texts.map(|text| text.trim_matches(['\0', ' ']).to_owned());
            texts.find(|text| !text.is_empty()).unwrap_or_default()
        };
        let modalities = study.series.iter().map(|series| &series.modality).filter(|code| !code.is_empty());
        Self {
            study_instance_uid: study.uid.clone(),
            patient: study.patient.clone(),
            study_date: stated(tags::STUDY_DATE),
            study_time: stated(tags::STUDY_TIME),
            modalities: modalities.cloned().collect(),
        }
    }

    /// How many days before this study another one was, where that is an earlier one of the same patient, with a modality of
    /// this one's.
    ///
    /// # Errors
    /// Why it is none.
    pub fn days_before(&self, other: &Self) -> Result<u32, NotPrior> {
        if other.study_instance_uid == self.study_instance_uid {
            return Err(NotPrior::Itself);
        }
        if let Some(by) = other.patient.differs(&self.patient) {
            return Err(NotPrior::Patient(by));
        }
        if !other.modalities.iter().any(|modality| self.modalities.contains(modality)) {
            return Err(NotPrior::Modality);
        }
        self.days_since(&other.study_date, &other.study_time).ok_or(NotPrior::Date)
    }
}

/// How many a module is shown: as many as it asks for, and as the site allows.
pub(crate) fn most(package: &Package, priors_max: usize) -> usize {
    package.manifest().needs.priors_max().min(priors_max)
}

/// An earlier study as a module is shown it; nothing when the module accepts no series of it.
pub(crate) fn prior(package: &Package, study: Arc<Study>, days_before: u32) -> Option<Prior> {
    let (accepted, _) = pipeline::accepted_series(package, &study);
    (!accepted.is_empty()).then_some(Prior { study, accepted, days_before })
}

/// The earlier studies that an operator names, each by a folder or file that holds all of it: the latest first, and what people
/// must know of those that are not shown.
///
/// # Errors
/// See [`PriorError`].
pub(crate) fn named(
    paths: &[PathBuf],
    study: &Study,
    (package, grants): (&Package, &Grants),
    priors_max: usize,
    options: &ReadOptions,
) -> Result<(Vec<Prior>, Vec<String>), PriorError> {
    if paths.is_empty() {
        return Ok((Vec::new(), Vec::new()));
    }
    if !package.manifest().needs.interfaces.contains(&Interface::Priors) {
        return Err(PriorError::NotAsked);
    }
    if !grants.interfaces.contains(&Interface::Priors) {
        return Err(PriorError::NotGranted);
    }
    let key = PriorKey::of(study);
    if let Some(reason) = key.unusable() {
        return Err(PriorError::Unusable(reason));
    }
    let mut earlier: Vec<Earlier> = Vec::new();
    for path in paths {
        let named = read(path, &key, options)?;
        if earlier.iter().any(|known| known.study.uid == named.study.uid) {
            return Err(PriorError::Twice(path.clone()));
        }
        earlier.push(named);
    }
    // As a node orders them.
    earlier.sort_by(|a, b| b.when.cmp(&a.when).then_with(|| a.study.uid.cmp(&b.study.uid)));
    let mut priors: Vec<Prior> =
        earlier.into_iter().filter_map(|named| prior(package, named.study, named.days_before)).collect();
    let most = most(package, priors_max);
    let mut warnings = Vec::new();
    if priors.len() < paths.len() {
        let others = paths.len() - priors.len();
        warnings.push(format!("--prior: of {others} earlier studies the module accepts no series, and sees nothing"));
    }
    if priors.len() > most {
        warnings.push(format!(
            "--prior: the module sees the latest {most} of {} earlier studies: needs.priors_max = {}, limits.priors_max = \
             {priors_max}",
            priors.len(),
            package.manifest().needs.priors_max()
        ));
        priors.truncate(most);
    }
    Ok((priors, warnings))
}

/// An earlier study that was named.
struct Earlier {
    /// Study Date (0008,0020) and Study Time (0008,0030).
    when: (String, String),
    study: Arc<Study>,
    days_before: u32,
}

/// What `path` holds, if it is earlier than the study of `key` and of its patient.
fn read(path: &Path, key: &PriorKey, options: &ReadOptions) -> Result<Earlier, PriorError> {
    let unreadable = |e| PriorError::Read { path: path.to_owned(), source: Box::new(e) };
    let study = study::read(&[path.to_owned()], options).map_err(unreadable)?;
    let own = PriorKey::of(&study);
    let days_before = key.days_before(&own).map_err(|reason| PriorError::Not { path: path.to_owned(), reason })?;
    Ok(Earlier { when: (own.study_date, own.study_time), study: Arc::new(study), days_before })
}
