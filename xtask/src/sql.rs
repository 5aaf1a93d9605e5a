//! `cargo xtask sql`: the engine of `gantry catalog sql`, beside `gantry`.

use crate::process::Step;
use crate::repository::Repository;
use anyhow::Result;

/// Arguments of `cargo xtask sql`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  cargo xtask sql              target/debug/gantry-sql
  cargo xtask sql --release    target/release/gantry-sql: install it beside gantry")]
pub(crate) struct Options {
    /// Build it optimised, which takes several times as long
    #[arg(long)]
    release: bool,
}

/// No member of the workspace.
pub(crate) const MANIFEST: &str = "catalog-sql/Cargo.toml";

/// Runs `cargo xtask sql`.
pub(crate) fn run(repository: &Repository, options: &Options) -> Result<()> {
    let step = of_engine(repository, "build");
    if options.release { step.arg("--release").run() } else { step.run() }
}

/// What CI runs: its tests, and the program for the tests of the command.
pub(crate) fn test(repository: &Repository) -> Result<()> {
    of_engine(repository, "test").run()?;
    run(repository, &Options { release: false })
}

fn of_engine(repository: &Repository, command: &str) -> Step {
    repository.cargo().args([command, "--locked", "--manifest-path", MANIFEST])
}
