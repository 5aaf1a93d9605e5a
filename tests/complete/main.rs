//! Makes of test material, which came with its UIDs taken out, a study that a node takes. `cargo xtask demo` runs this.

use std::path::PathBuf;

use anyhow::Result;
use clap::Parser;

/// Writes copies of a study with UIDs, and with the counts on which a node closes it.
#[derive(Debug, Parser)]
struct Cli {
    /// Files and folders of one study.
    #[arg(required = true, value_name = "STUDY")]
    study: Vec<PathBuf>,
    /// Folder for the copies; made when missing.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
}

fn main() -> Result<()> {
    let Cli { study, out } = Cli::parse();
    let done = gantry_tests::complete::complete(&study, &out)?;
    println!(
        "{} copies in {} of study {}: empty UIDs derived, and the numbers of series ({}) and of instances ({}) stated",
        done.files.len(),
        out.display(),
        done.study_instance_uid,
        done.series,
        done.files.len(),
    );
    Ok(())
}
