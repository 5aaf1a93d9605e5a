//! `cargo xtask audit`: cargo-deny over the dependencies of what people install, by the rules of `deny.toml`: of the workspace, and of
//! `catalog-sql/` with a lock file of its own. `fuzz/` and guests are not looked at.

use crate::process::{Interrupted, Step, seconds, timed};
use crate::repository::Repository;
use crate::sql;
use anyhow::{Context, Result};
use std::path::PathBuf;

/// Arguments of `cargo xtask audit`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
The first run compiles cargo-deny into .cache/tools, which takes a few minutes.

Examples:
  cargo xtask audit   licences, bans and sources; advisories where their database can be fetched")]
pub(crate) struct Options {}

/// cargo-deny's exact version: another one may judge differently.
const VERSION: &str = "0.20.2";

const WORKSPACE: &str = "Cargo.toml";

/// Runs `cargo xtask audit`.
pub(crate) fn run(repository: &Repository, _: &Options) -> Result<()> {
    let program = install(repository)?;
    let deny = |manifest: &str| {
        let step = Step::new(&program).shown_as("cargo-deny").in_folder(&repository.root);
        // Rules are sought from there upwards.
        step.arg("--manifest-path").arg(repository.root.join(manifest)).args(["--workspace", "--locked"])
    };
    let checks = ["licenses", "bans", "sources"];
    deny(WORKSPACE).arg("check").args(checks).run()?;
    // It needs fewer licences than the workspace, and which versions DataFusion brings together is not our choice.
    let its_own = ["--allow", "license-not-encountered", "--allow", "duplicate"];
    deny(sql::MANIFEST).arg("check").args(its_own).args(checks).run()?;
    if let Err(error) = deny(WORKSPACE).args(["fetch", "db"]).capture() {
        if error.is::<Interrupted>() {
            return Err(error);
        }
        println!("advisories: skipped, the database could not be fetched");
        return Ok(());
    }
    for manifest in [WORKSPACE, sql::MANIFEST] {
        deny(manifest).args(["check", "--disable-fetch", "advisories"]).run()?;
    }
    Ok(())
}

/// The tool of that version in the cache, compiled if it is not there.
fn install(repository: &Repository) -> Result<PathBuf> {
    let tools = repository.root.join(".cache/tools");
    let program = tools.join("bin/cargo-deny");
    let installed = program.is_file()
        && Step::new(&program)
            .arg("--version")
            .capture()
            .is_ok_and(|line| line.trim().ends_with(&format!(" {VERSION}")));
    if !installed {
        println!("cargo-deny {VERSION}: compiling into {}, once ...", repository.short(&tools));
        let (outcome, elapsed) = timed(|| {
            repository
                .cargo()
                .args(["install", "cargo-deny", "--locked", "--quiet", "--force", "--version"])
                .arg(format!("={VERSION}"))
                .arg("--root")
                .arg(&tools)
                .arg("--target-dir")
                .arg(repository.target.join("tools"))
                .run()
        });
        outcome.context("cannot install cargo-deny")?;
        println!("cargo-deny {VERSION}: installed ({})", seconds(elapsed));
    }
    Ok(program)
}
