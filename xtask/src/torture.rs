//! `cargo xtask torture`: kills a node under load, again and again, and checks that nothing acknowledged is lost, and that
//! no result is there twice.

use crate::guests;
use crate::process::Step;
use crate::repository::{Profile, Repository};
use anyhow::{Context, Result};
use std::time::{SystemTime, UNIX_EPOCH};

/// Arguments of `cargo xtask torture`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Four associations send without pause, one of them whole CTs on which a test guest runs, while the node is killed with
SIGKILL, now and then within a job. A kill leaves what the kernel holds: what a power cut leaves is checked by the unit
tests of the write path. Fails also where nothing was acknowledged, no job was done, or none was interrupted.

Examples:
  cargo xtask torture               30 kills, at other moments each time
  cargo xtask torture --kills 1000  for a night
  cargo xtask torture --seed 7      with the pauses and the bytes of an earlier run
  cargo xtask torture --json        the summary for scripts")]
pub(crate) struct Options {
    /// How often the node is killed
    #[arg(long, value_name = "N", default_value_t = KILLS, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub(crate) kills: u32,
    /// Decides the pauses between kills and the bytes; printed with the summary [default: from the clock]
    #[arg(long, value_name = "N")]
    pub(crate) seed: Option<u32>,
    /// Print the summary as JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// What CI runs.
pub(crate) const KILLS: u32 = 30;

/// Sends, kills and checks; Python alone, no packages.
const DRIVER: &str = "tests/peers/torture.py";
/// The crate of guests that has the one to run, and its name.
const GUESTS: &str = "rogue";
const GUEST: &str = "well-behaved";

/// Runs `cargo xtask torture`.
pub(crate) fn run(repository: &Repository, options: &Options) -> Result<()> {
    repository.build(&["gantry"], Profile::Development)?;
    let guests = guests::test_guests(repository)?.into_iter().find(|guest| guest.name() == GUESTS);
    guests.context("tests/guests/rogue is missing")?.build(repository, Profile::Development)?;
    let guest = repository.root.join("target/guests").join(GUESTS).join(GUEST).with_extension("wasm");
    let gantry = repository.target.join("debug/gantry");
    let clock = || SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.subsec_nanos());
    let seed = options.seed.unwrap_or_else(clock);
    let step = Step::new("python3").arg(repository.root.join(DRIVER)).arg(gantry).arg(guest);
    let step = step.arg(options.kills.to_string()).arg(seed.to_string());
    if options.json { step.arg("--json").run() } else { step.run() }
}
