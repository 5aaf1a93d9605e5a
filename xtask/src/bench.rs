//! `cargo xtask bench`: speed and memory. Ratios within one run, since machines differ.

use crate::repository::{Profile, Repository};
use crate::{assets, guests};
use anyhow::Result;

/// Arguments of `cargo xtask bench`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Everything is built optimised, which takes long the first time; close what else keeps the machine busy. Numbers stand
beside their targets; one that is over is no failure. The comparison with Python needs `cargo xtask assets --peers`.

Examples:
  cargo xtask bench sandbox            what the sandbox costs over native Rust, and the command over its network
  cargo xtask bench sandbox -- --json  the same for scripts
  cargo xtask bench sandbox -- --help  what that benchmark can vary")]
pub(crate) struct Options {
    /// What to measure
    #[arg(value_enum)]
    subject: Subject,
    /// Passed to the benchmark
    #[arg(last = true, value_name = "ARGUMENTS")]
    arguments: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Subject {
    /// A 300-slice CT through ct-organs against the same steps in native Rust; the whole command; starting a component
    Sandbox,
}

/// Runs `cargo xtask bench`.
pub(crate) fn run(repository: &Repository, options: &Options) -> Result<()> {
    assets::run(repository, &assets::Options { peers: false })?;
    repository.build_gantry(Profile::Release)?;
    for module in guests::modules(repository)? {
        module.build(repository, Profile::Release)?;
    }
    let subject = match options.subject {
        Subject::Sandbox => "sandbox",
    };
    repository
        .cargo()
        .args(["run", "--release", "-p", "gantry-tests", "--bin", "bench", "--", subject])
        .args(&options.arguments)
        .run()
}
