//! `gantry escrow`: who is who, where the hospital keeps the identity that opens it.

use std::path::PathBuf;

use anyhow::anyhow;
use gantry_cloud_sync::escrow;

use super::job::pretty;

pub(crate) const EXAMPLES: &str = "\
Examples:
  gantry escrow find 2.25.1234 --folder escrow/ --identity records-office.key
  age -d -i records-office.key escrow/2031-01-01/018f….jsonl.age
";

#[derive(clap::Subcommand)]
pub(crate) enum EscrowCommand {
    /// Print what was released as what: for a new UID or pseudonym, or for a UID, Patient ID or Accession Number of the source. It
    /// names patients. Run it where the identity is, which is not the node.
    #[command(after_help = "Example:\n  gantry escrow find 2.25.1234 --folder escrow/ --identity records-office.key\n")]
    Find {
        /// A whole value.
        value: String,
        /// The folder of the escrow, or a copy of it.
        #[arg(long, value_name = "DIR")]
        folder: PathBuf,
        /// As `age-keygen` made it.
        #[arg(long, value_name = "FILE")]
        identity: PathBuf,
    },
}

pub(crate) fn run(command: EscrowCommand) -> Result<(), (u8, anyhow::Error)> {
    let EscrowCommand::Find { value, folder, identity } = command;
    let found = escrow::find(&folder, &identity, &value).map_err(|e| (3, e.into()))?;
    match found.is_empty() {
        true => Err((3, anyhow!("the escrow has nothing of this value"))),
        false => crate::print(pretty(&found).map_err(|e| (1, e))?.as_bytes()),
    }
}
