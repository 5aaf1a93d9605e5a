//! `cargo xtask audit`: cargo-deny over the dependencies of the workspace, by the rules of `deny.toml`. `catalog-sql/`, `fuzz/` and guests are
//! no members of it, and are not looked at.

use crate::process::{Interrupted, Step, seconds, timed};
use crate::repository::Repository;
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

/// Runs `cargo xtask audit`.
pub(crate) fn run(repository: &Repository, _: &Options) -> Result<()> {
    let program = install(repository)?;
    let deny =
        || Step::new(&program).shown_as("cargo-deny").in_folder(&repository.root).args(["--workspace", "--locked"]);
    deny().args(["check", "licenses", "bans", "sources"]).run()?;
    if let Err(error) = deny().args(["fetch", "db"]).capture() {
        if error.is::<Interrupted>() {
            return Err(error);
        }
        println!("advisories: skipped, the database could not be fetched");
        return Ok(());
    }
    deny().args(["check", "--disable-fetch", "advisories"]).run()
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
