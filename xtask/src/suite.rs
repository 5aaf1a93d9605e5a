//! `cargo xtask test`: what CI runs, in stages.
//!
//! A failed stage does not hide what the others would say: only the stages that need it are left out.

use crate::process::{Interrupted, seconds, timed};
use crate::repository::{Repository, find_program, in_ci};
use crate::{assets, fuzz, guests, sql, torture};
use anyhow::{Result, bail};
use std::time::Duration;

/// Arguments of `cargo xtask test`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Tests that need other people's software say `skipped` where it is missing; with CI=true they fail, and this command
installs it first.

Examples:
  cargo xtask test                 everything
  cargo xtask test --peers         everything, judged by other people's software too
  cargo xtask test --stage tests   one stage; its name stands in its heading")]
pub(crate) struct Options {
    /// Install other people's software first; always in CI
    #[arg(long)]
    peers: bool,
    /// Run this stage alone; may be given several times
    #[arg(long = "stage", value_name = "NAME", value_enum)]
    stages: Vec<Stage>,
}

/// One stage, in the order in which they run: the cheap first, the tests after what they need.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Stage {
    Format,
    Clippy,
    Assets,
    Guests,
    Doc,
    Sql,
    Tests,
    Torture,
    Fuzz,
}

/// How a stage ended.
#[derive(Debug)]
enum Outcome {
    Passed,
    /// With the message that names the failing command line.
    Failed(String),
    /// A stage that it needs failed.
    LeftOut,
}

/// Runs `cargo xtask test`.
pub(crate) fn run(repository: &Repository, options: &Options) -> Result<()> {
    let mut report = Vec::new();
    for stage in selected(&options.stages) {
        let (outcome, elapsed) = timed(|| run_one(repository, options, stage, &report));
        report.push((stage, outcome?, elapsed));
    }
    println!("\n{}", table(&report));
    match failures(&report) {
        None => Ok(()),
        Some(message) => bail!(message),
    }
}

/// The stages asked for, in running order; all where none is named.
fn selected(named: &[Stage]) -> Vec<Stage> {
    use clap::ValueEnum;
    Stage::value_variants().iter().copied().filter(|stage| named.is_empty() || named.contains(stage)).collect()
}

fn run_one(
    repository: &Repository,
    options: &Options,
    stage: Stage,
    before: &[(Stage, Outcome, Duration)],
) -> Result<Outcome> {
    if before.iter().any(|(other, outcome, _)| stage.needs(*other) && !matches!(outcome, Outcome::Passed)) {
        return Ok(Outcome::LeftOut);
    }
    println!("\n== {}: {} ==", stage.name(), stage.purpose());
    match stage.run(repository, options) {
        Ok(()) => Ok(Outcome::Passed),
        Err(error) if error.is::<Interrupted>() => Err(error),
        Err(error) => {
            eprintln!("error: {error:#}");
            Ok(Outcome::Failed(format!("{error:#}")))
        }
    }
}

impl Stage {
    fn name(self) -> &'static str {
        match self {
            Self::Format => "format",
            Self::Clippy => "clippy",
            Self::Assets => "assets",
            Self::Guests => "guests",
            Self::Doc => "doc",
            Self::Sql => "sql",
            Self::Tests => "tests",
            Self::Torture => "torture",
            Self::Fuzz => "fuzz",
        }
    }

    fn purpose(self) -> &'static str {
        match self {
            Self::Format => "is every crate formatted?",
            Self::Clippy => "lints, warnings denied",
            Self::Assets => "real test material",
            Self::Guests => "modules and test guests",
            Self::Doc => "code in the documentation and the README",
            Self::Sql => "SQL over catalogues, whose engine is no part of the rest",
            Self::Tests => "unit and integration tests",
            Self::Torture => "a node that is killed loses nothing and does nothing twice",
            Self::Fuzz => "bytes of strangers, each target for a minute",
        }
    }

    /// True where this stage makes no sense once `other` has failed.
    fn needs(self, other: Self) -> bool {
        match self {
            Self::Doc => matches!(other, Self::Assets | Self::Guests),
            // `gantry catalog sql` is tested there.
            Self::Tests => matches!(other, Self::Assets | Self::Guests | Self::Sql),
            Self::Torture => other == Self::Guests,
            Self::Format | Self::Clippy | Self::Assets | Self::Guests | Self::Sql | Self::Fuzz => false,
        }
    }

    fn run(self, repository: &Repository, options: &Options) -> Result<()> {
        match self {
            Self::Format => check_format(repository),
            Self::Clippy => check_lints(repository),
            Self::Assets => assets::run(repository, &assets::Options { peers: options.peers || in_ci() }),
            Self::Guests => guests::run(repository, &guests::Options { release: false }),
            Self::Doc => repository.cargo().args(["test", "--workspace", "--doc"]).run(),
            Self::Sql => sql::test(repository),
            Self::Tests => run_tests(repository),
            Self::Torture => {
                torture::run(repository, &torture::Options { kills: torture::KILLS, seed: None, json: false })
            }
            Self::Fuzz => fuzz::run(repository, &fuzz::Options { target: None, seconds: fuzz::SECONDS, input: None }),
        }
    }
}

fn check_format(repository: &Repository) -> Result<()> {
    repository.cargo().args(["fmt", "--all", "--check"]).run()?;
    let others = [fuzz::MANIFEST, sql::MANIFEST].map(|manifest| repository.root.join(manifest));
    for manifest in guests::crates(repository)?.into_iter().chain(others) {
        repository.cargo().args(["fmt", "--check", "--manifest-path"]).arg(repository.short(&manifest)).run()?;
    }
    Ok(())
}

fn check_lints(repository: &Repository) -> Result<()> {
    let clippy = || repository.cargo().arg("clippy");
    clippy().args(["--all-targets", "--workspace", "--", "--deny", "warnings"]).run()?;
    // Natively, where the SDK's fake answers: this needs no compiler for guests.
    for manifest in guests::crates(repository)? {
        let step = clippy().args(["--all-targets", "--manifest-path"]).arg(repository.short(&manifest));
        step.args(["--", "--deny", "warnings"]).run()?;
    }
    // The tests within the files that it includes are the runtime's.
    clippy().args(["--lib", "--bins", "--manifest-path", fuzz::MANIFEST, "--", "--deny", "warnings"]).run()
}

fn run_tests(repository: &Repository) -> Result<()> {
    // Modules are no members of the workspace; their tests run natively, on the SDK's fake study.
    for manifest in guests::crates(repository)?.iter().filter(|path| path.starts_with(repository.root.join("modules")))
    {
        repository.cargo().args(["test", "--quiet", "--manifest-path"]).arg(repository.short(manifest)).run()?;
    }
    if find_program("cargo-nextest").is_none() {
        println!("cargo-nextest is not installed; using cargo test");
        return repository.cargo().args(["test", "--workspace", "--lib", "--bins", "--tests"]).run();
    }
    let nextest = repository.cargo().args(["nextest", "run", "--workspace"]);
    if in_ci() { nextest.args(["--profile", "ci"]).run() } else { nextest.run() }
}

fn table(report: &[(Stage, Outcome, Duration)]) -> String {
    let row = |(stage, outcome, elapsed): &(Stage, Outcome, Duration)| {
        let outcome = match outcome {
            Outcome::Passed => "passed",
            Outcome::Failed(_) => "FAILED",
            Outcome::LeftOut => "left out: it needs a stage that failed",
        };
        format!("{:<8}{:>10}  {outcome}\n", stage.name(), seconds(*elapsed))
    };
    let total = report.iter().map(|(_, _, elapsed)| *elapsed).sum();
    let rows: String = report.iter().map(row).collect();
    format!("{rows}{:<8}{:>10}", "total", seconds(total))
}

/// What failed and how to run it again, in one line each; nothing where all passed.
fn failures(report: &[(Stage, Outcome, Duration)]) -> Option<String> {
    let lines: Vec<String> = report
        .iter()
        .filter_map(|(stage, outcome, _)| match outcome {
            Outcome::Failed(message) => {
                let first = message.lines().next().unwrap_or_default();
                Some(format!("{}: {first}; to run it again: cargo xtask test --stage {}", stage.name(), stage.name()))
            }
            Outcome::Passed | Outcome::LeftOut => None,
        })
        .collect();
    (!lines.is_empty()).then(|| lines.join("\n"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::ValueEnum;

    #[test]
    fn no_name_means_every_stage_in_order() {
        assert_eq!(selected(&[]), Stage::value_variants());
    }

    #[test]
    fn named_stages_run_in_their_own_order() {
        assert_eq!(selected(&[Stage::Tests, Stage::Clippy, Stage::Tests]), [Stage::Clippy, Stage::Tests]);
    }

    #[test]
    fn a_stage_is_selected_by_the_name_in_its_heading() {
        for stage in Stage::value_variants() {
            assert_eq!(Stage::from_str(stage.name(), false), Ok(*stage));
        }
    }

    #[test]
    fn a_stage_needs_only_earlier_ones() {
        for (position, stage) in Stage::value_variants().iter().enumerate() {
            for later in Stage::value_variants().iter().skip(position) {
                assert!(!stage.needs(*later), "{} would never run after {}", stage.name(), later.name());
            }
        }
    }

    #[test]
    fn what_runs_guests_is_left_out_without_them() {
        for stage in [Stage::Doc, Stage::Tests, Stage::Torture] {
            assert!(stage.needs(Stage::Guests), "{}", stage.name());
        }
    }

    fn report() -> Vec<(Stage, Outcome, Duration)> {
        vec![
            (Stage::Format, Outcome::Passed, Duration::from_millis(1_250)),
            (Stage::Guests, Outcome::Failed("`gantry module build x` failed\nmore".into()), Duration::from_secs(2)),
            (Stage::Tests, Outcome::LeftOut, Duration::ZERO),
        ]
    }

    #[test]
    fn the_last_line_says_what_failed_and_how_to_repeat_it() {
        let message = failures(&report()).expect("one failed");
        assert_eq!(message, "guests: `gantry module build x` failed; to run it again: cargo xtask test --stage guests");
        assert_eq!(failures(&[(Stage::Format, Outcome::Passed, Duration::ZERO)]), None);
    }

    #[test]
    fn the_table_has_a_row_for_each_stage_and_the_total() {
        let rows: Vec<String> = table(&report()).lines().map(str::to_owned).collect();
        assert_eq!(rows.len(), 4);
        assert!(rows[1].contains("FAILED") && rows[2].contains("left out"), "{rows:?}");
        assert!(rows[3].starts_with("total") && rows[3].ends_with("3.2 s"), "{rows:?}");
    }
}
