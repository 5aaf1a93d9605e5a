//! `gantry module test`: runs a package's cases, and tells where results are not what they should be.
//!
//! [`case`](Case) is the file of a case, [`expect`](Expect) what it says of findings. docs/vendor.md.

mod case;
mod expect;

use std::fmt;
use std::path::Path;

use serde::Serialize;

pub use case::{CASE_FILE, CASES_FOLDER, Case, CaseError, Ready, digest};
pub use expect::{Difference, Ends, Expect};

use super::trial::{self, Job, Used};
use crate::app::App;
use crate::inference::Turn;
use crate::pipeline::RunError;
use crate::sandbox::JobError;
use crate::sandbox::grants::Policy;

/// What came of all cases.
#[derive(Debug, Serialize)]
pub struct Report {
    /// SHA-256 over the manifest.
    pub identity_sha256: String,
    /// In order.
    pub cases: Vec<Tried>,
}

/// What came of one case.
#[derive(Debug, Serialize)]
pub struct Tried {
    /// Its name.
    pub name: String,
    /// How it ended.
    pub outcome: Outcome,
    /// Where it is not what it should be.
    pub differences: Vec<Difference>,
    /// Why it did not run, or what the run failed with where that was not expected.
    pub error: Option<String>,
    /// What the module logged in a run that failed.
    pub log: Vec<String>,
    /// How long it took, ms.
    pub milliseconds: f64,
    /// What it used.
    pub used: Option<Used>,
}

/// How a case ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// All is as it should be.
    Passed,
    /// Something differs, or it could not run.
    Failed,
    /// Its study is not there, and that was allowed.
    Skipped,
}

/// How cases are run.
#[derive(Debug)]
pub struct Options<'a> {
    /// Only those of these names; all where there are none.
    pub only: &'a [String],
    /// The folder of studies that lie outside of the package.
    pub assets: Option<&'a Path>,
    /// Cases whose studies are not there are skipped.
    pub skip_missing: bool,
    /// What the command grants.
    pub grant: &'a [String],
}

/// Why nothing was told.
#[derive(Debug, thiserror::Error)]
pub enum TestError {
    /// The cases.
    #[error(transparent)]
    Case(#[from] CaseError),
    /// Somebody pressed Ctrl-C.
    #[error("interrupted")]
    Interrupted,
    /// No room.
    #[error("a temporary folder cannot be made: {0}")]
    Temporary(#[from] std::io::Error),
}

/// Runs the cases of `folder` on `package`; `on` is told of each before it runs.
///
/// # Errors
/// [`TestError`]; that a case fails is none.
pub fn test(
    app: &App,
    package: &Path,
    folder: &Path,
    options: &Options<'_>,
    turn: &Turn,
    on: &mut dyn FnMut(&str),
) -> Result<Report, TestError> {
    let identity = super::package::Package::open(package).map_err(CaseError::from)?.identity();
    let mut cases = Case::all(folder)?;
    for asked in options.only {
        if !cases.iter().any(|case| case.name == *asked) {
            let there = cases.iter().map(|case| case.name.as_str()).collect::<Vec<_>>().join(", ");
            return Err(CaseError::NoSuch { asked: asked.clone(), there }.into());
        }
    }
    cases.retain(|case| options.only.is_empty() || options.only.contains(&case.name));
    let mut tried = Vec::with_capacity(cases.len());
    for case in &cases {
        on(&case.name);
        tried.push(one(app, package, case, options, turn)?);
    }
    Ok(Report { identity_sha256: crate::hex(&identity), cases: tried })
}

fn one(app: &App, package: &Path, case: &Case, options: &Options<'_>, turn: &Turn) -> Result<Tried, TestError> {
    let not_run = |outcome, error: String| {
        let (name, differences, log) = (case.name.clone(), Vec::new(), Vec::new());
        let error = Some(crate::printable(&error));
        Ok(Tried { name, outcome, differences, error, log, milliseconds: 0.0, used: None })
    };
    let ready = match case.ready(options.assets) {
        Ok(ready) => ready,
        Err(e @ CaseError::NoStudy { .. }) if options.skip_missing => return not_run(Outcome::Skipped, e.to_string()),
        Err(e) => return not_run(Outcome::Failed, e.to_string()),
    };
    if let Some(missing) = case.ungranted(&app.config.grants, options.grant) {
        return not_run(Outcome::Failed, missing);
    }
    let policy = match Policy::new(&app.config.grants, options.grant) {
        Ok(policy) => policy,
        Err(e) => return not_run(Outcome::Failed, e.to_string()),
    };
    let Ready { study, priors, upstream, .. } = &ready;
    let job = Job { module: package, study, upstream, priors, policy: &policy, strict: case.strict(), prepared: None };
    let trial = trial::run(app, &job, turn)?;
    if let Err(RunError::Job(JobError::Cancelled)) = trial.result {
        return Err(TestError::Interrupted);
    }
    let differences = case.expect().differences(&trial.result, trial.segmentation.as_ref(), case.phantom());
    let error = trial.result.as_ref().err().map(|e| crate::printable(&e.to_string()));
    Ok(Tried {
        name: case.name.clone(),
        outcome: if differences.is_empty() { Outcome::Passed } else { Outcome::Failed },
        error: error.filter(|_| !differences.is_empty()),
        log: if differences.is_empty() { Vec::new() } else { trial.log },
        differences,
        milliseconds: trial.took.as_secs_f64() * 1e3,
        used: trial.used,
    })
}

impl Report {
    /// How many ended so.
    #[must_use]
    pub fn count(&self, outcome: Outcome) -> usize {
        self.cases.iter().filter(|case| case.outcome == outcome).count()
    }

    /// Whether none failed, and one passed.
    #[must_use]
    pub fn is_good(&self) -> bool {
        self.count(Outcome::Failed) == 0 && self.count(Outcome::Passed) > 0
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for case in &self.cases {
            let outcome = match case.outcome {
                Outcome::Passed => "passed",
                Outcome::Failed => "FAILED",
                Outcome::Skipped => "skipped",
            };
            writeln!(f, "{outcome:<8}{:>9.0} ms  {}", case.milliseconds, case.name)?;
            for Difference { what, expected, found } in &case.differences {
                writeln!(f, "    {what}: expected {expected}, found {found}")?;
            }
            if case.differences.is_empty() {
                case.error.iter().try_for_each(|error| writeln!(f, "    {error}"))?;
            }
            case.log.iter().try_for_each(|line| writeln!(f, "    module {line}"))?;
        }
        let count = |outcome| self.count(outcome);
        writeln!(
            f,
            "{} passed, {} failed, {} skipped",
            count(Outcome::Passed),
            count(Outcome::Failed),
            count(Outcome::Skipped)
        )
    }
}
