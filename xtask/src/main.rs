//! Developer commands: `cargo xtask COMMAND`.
//!
//! Read [`suite`] first: `cargo xtask test` is what CI runs, and it calls the rest. Everything here shells out
//! (cargo, python3, apt-get); nothing here knows DICOM or wasm, so that it compiles in seconds.

mod assets;
mod audit;
mod bench;
mod demo;
mod fuzz;
mod guests;
mod peers;
mod process;
mod repository;
mod sql;
mod suite;
mod torture;

use clap::{Parser, Subcommand};
use repository::Repository;
use std::process::ExitCode;

#[derive(Debug, Parser)]
#[command(bin_name = "cargo xtask", about = "Developer commands of Gantry", after_help = EXAMPLES)]
struct Arguments {
    #[command(subcommand)]
    command: Task,
}

const EXAMPLES: &str = "\
Examples:
  cargo xtask demo                 fetch, build, and run a real CT through a module
  cargo xtask test                 everything that CI checks
  cargo xtask test --stage clippy  one stage of it
  cargo xtask assets --peers       also what other people's software needs to judge ours";

#[derive(Debug, Subcommand)]
enum Task {
    /// Fetch the real test material, pinned by version and SHA-256, into the git-ignored cache
    Assets(assets::Options),
    /// Build `gantry`, then every module and every test guest with it
    Guests(guests::Options),
    /// Run what CI runs: format, lints, assets, guests, doc tests, SQL, tests, torture, fuzzing
    Test(suite::Options),
    /// Run a real CT through the ct-organs module and show what came out
    Demo(demo::Options),
    /// Measure speed and memory, as ratios within one run
    Bench(bench::Options),
    /// Kill a node under load and check that nothing acknowledged is lost
    Torture(torture::Options),
    /// Fuzz what reads the network, DICOM files and the configuration, and what guests ask
    Fuzz(fuzz::Options),
    /// Build the engine of `gantry catalog sql`, a program of its own
    Sql(sql::Options),
    /// Check licences, banned crates, sources and security advisories of all that is installed
    Audit(audit::Options),
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match run(&arguments.command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if error.is::<process::Interrupted>() => {
            eprintln!("\ninterrupted");
            ExitCode::from(process::EXIT_INTERRUPTED)
        }
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(task: &Task) -> anyhow::Result<()> {
    process::stop_children_on_interrupt()?;
    let repository = Repository::locate()?;
    match task {
        Task::Assets(options) => assets::run(&repository, options),
        Task::Guests(options) => guests::run(&repository, options),
        Task::Test(options) => suite::run(&repository, options),
        Task::Demo(options) => demo::run(&repository, options),
        Task::Bench(options) => bench::run(&repository, options),
        Task::Torture(options) => torture::run(&repository, options),
        Task::Fuzz(options) => fuzz::run(&repository, options),
        Task::Sql(options) => sql::run(&repository, options),
        Task::Audit(options) => audit::run(&repository, options),
    }
}

#[cfg(test)]
mod tests {
    use super::Arguments;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn every_command_shows_examples() {
        for command in Arguments::command().get_subcommands() {
            let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            assert!(help.contains("cargo xtask"), "{} has no example in its --help", command.get_name());
        }
    }
}
