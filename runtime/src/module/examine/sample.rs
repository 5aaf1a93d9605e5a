//! Runs of a package on studies that somebody named, its cases run on, or are made up for it.

use std::path::PathBuf;

use serde::Serialize;

use super::{ExamineError, Options};
use crate::app::App;
use crate::inference::Turn;
use crate::module::cases::{Case, CaseError, Ready};
use crate::module::package::Package;
use crate::module::phantom::Phantom;
use crate::module::trial::{self, Job, Trial, Used};
use crate::outputs::result::{JobResult, Phase, Status};
use crate::pipeline::RunError;
use crate::sandbox::JobError;
use crate::sandbox::grants::Policy;

/// What a run is on.
#[derive(Debug)]
pub enum Source<'a> {
    /// Files or a folder.
    Study(PathBuf),
    /// The study of a case.
    Case(&'a Case),
    /// Made up, since there is nothing else.
    Phantom(Box<Phantom>),
}

impl Source<'_> {
    /// For people.
    #[must_use]
    pub fn name(&self) -> String {
        match self {
            Self::Study(path) => crate::printable(&path.display().to_string()),
            Self::Case(case) => format!("case {}", case.name),
            Self::Phantom(phantom) => format!("a phantom of {} slices", phantom.size[2]),
        }
    }
}

/// How a run went.
#[derive(Debug, Serialize)]
pub struct Sample {
    /// On what.
    pub study: String,
    /// `done`, `unfit` or `failed`; `skipped` where the study of a case is not there.
    pub outcome: &'static str,
    /// Why it has no result.
    pub error: Option<String>,
    /// What it found, in words.
    pub findings: Vec<String>,
    /// Whether it was the same when it ran again; none where it did not.
    pub deterministic: Option<bool>,
    /// All of it, ms; the compiler included where it had to run.
    pub milliseconds: f64,
    /// Of the pipeline.
    pub phases: Vec<Phase>,
    /// What it used, in the second run: then everything is loaded.
    pub used: Option<Used>,
    /// Warnings of the run.
    pub notes: Vec<String>,
}

/// What a package is run on.
pub(super) fn sources<'a>(package: &Package, options: &Options<'_>, cases: &'a [Case]) -> Vec<Source<'a>> {
    if !options.studies.is_empty() {
        return options.studies.iter().cloned().map(Source::Study).collect();
    }
    if !cases.is_empty() {
        return cases.iter().map(Source::Case).collect();
    }
    Phantom::fitting(&package.manifest().accepts)
        .map(|phantom| Source::Phantom(Box::new(phantom)))
        .into_iter()
        .collect()
}

pub(super) fn run(app: &App, options: &Options<'_>, source: &Source<'_>, turn: &Turn) -> Result<Sample, ExamineError> {
    let made = tempfile::tempdir()?;
    let mut ready = Ready::default();
    match source {
        Source::Study(path) => ready.study.push(path.clone()),
        Source::Phantom(phantom) => {
            phantom.write(made.path()).map_err(std::io::Error::other)?;
            ready.study.push(made.path().to_owned());
        }
        Source::Case(case) => {
            let missing = case.ungranted(&app.config.grants, options.grant);
            if missing.is_some() {
                return Ok(without_result(source, "failed", missing, None));
            }
            ready = match case.ready(options.assets) {
                Ok(ready) => ready,
                Err(CaseError::NoStudy { reason, .. }) => return Ok(skipped(source, reason)),
                Err(e) => return Err(e.into()),
            };
        }
    }
    let policy = Policy::new(&app.config.grants, options.grant)?;
    let Ready { study, priors, upstream, .. } = &ready;
    let strict = matches!(source, Source::Case(case) if case.strict());
    let job = Job { module: options.module, study, upstream, priors, policy: &policy, strict, prepared: None };
    let first = trial::run(app, &job, turn)?;
    let result = match &first.result {
        Ok(result) => result,
        Err(RunError::Job(JobError::Cancelled)) => return Err(ExamineError::Interrupted),
        Err(error) => return Ok(failed(source, &first, error)),
    };
    let second = trial::run(app, &job, turn)?;
    if let Err(RunError::Job(JobError::Cancelled)) = second.result {
        return Err(ExamineError::Interrupted);
    }
    let again = second.result.as_ref().ok();
    Ok(Sample {
        study: source.name(),
        outcome: if result.status == Status::Unfit { "unfit" } else { "done" },
        error: None,
        findings: found(result),
        deterministic: Some(again.is_some_and(|again| says(again) == says(result))),
        milliseconds: first.took.as_secs_f64() * 1e3,
        phases: again.unwrap_or(result).phases.clone(),
        notes: result.warnings.clone(),
        used: second.used.or(first.used),
    })
}

/// What a result says of the study: findings, and the digests of its objects.
fn says(result: &JobResult) -> (serde_json::Value, Vec<(&str, &str)>) {
    let outputs = result.outputs.iter().map(|written| (written.file.as_str(), written.sha256.as_str()));
    (serde_json::to_value(&result.findings).unwrap_or_default(), outputs.collect())
}

fn found(result: &JobResult) -> Vec<String> {
    let stated = &result.findings;
    let segments = stated.segments.iter().map(|s| format!("{} {:.1} mL", s.name, s.millilitres));
    let classes = stated.classifications.iter().map(|c| format!("{} {:.2}", c.finding.meaning, c.probability));
    let triage = stated.triage.iter().map(|t| format!("{} {} {:.2}", t.level.name(), t.finding.meaning, t.probability));
    let unfit = stated.unfit.iter().map(|u| format!("unfit: {}", u.reason.meaning));
    let all = unfit.chain(triage).chain(classes).chain(segments);
    all.map(|text| crate::printable(&text)).collect()
}

fn without_result(source: &Source<'_>, outcome: &'static str, error: Option<String>, note: Option<String>) -> Sample {
    Sample {
        study: source.name(),
        outcome,
        error,
        findings: Vec::new(),
        deterministic: None,
        milliseconds: 0.0,
        phases: Vec::new(),
        used: None,
        notes: note.into_iter().collect(),
    }
}

fn skipped(source: &Source<'_>, reason: String) -> Sample {
    without_result(source, "skipped", None, Some(reason))
}

fn failed(source: &Source<'_>, trial: &Trial, error: &RunError) -> Sample {
    let log: String = trial.log.iter().map(|line| format!("\n      module {line}")).collect();
    let error = format!("{}{log}", crate::printable(&error.to_string()));
    Sample { milliseconds: trial.took.as_secs_f64() * 1e3, ..without_result(source, "failed", Some(error), None) }
}
