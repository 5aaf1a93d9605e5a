//! `gantry opt-out`: a list of patients of whom nothing is sent, which names none of them.

use std::io::Read;
use std::path::PathBuf;

use anyhow::anyhow;
use gantry_cloud_sync::deid::Secret;
use gantry_cloud_sync::policy::OptOut;

pub(crate) const EXAMPLES: &str = "\
Example:
  gantry opt-out --key site.key patient-ids.txt > opt-out.txt
";
/// Of a key, and of what names patients.
const KEY_BYTES_MAX: u64 = 1024;
const INPUT_BYTES_MAX: u64 = 64 << 20;

#[derive(clap::Args)]
pub(crate) struct OptOutArgs {
    /// Patient IDs (0010,0020), one a line; `-` for standard input. At most 64 MiB.
    #[arg(value_name = "FILE")]
    patient_ids: PathBuf,
    /// The policy's `identity_key_file`.
    #[arg(long, value_name = "FILE")]
    key: PathBuf,
}

/// Runs the command; exit code and error otherwise.
pub(crate) fn run(args: &OptOutArgs) -> Result<(), (u8, anyhow::Error)> {
    let secret =
        Secret::new(&read(&args.key, KEY_BYTES_MAX, 2)?).map_err(|e| (2, anyhow!("{}: {e}", args.key.display())))?;
    let ids = String::from_utf8(read(&args.patient_ids, INPUT_BYTES_MAX, 3)?)
        .map_err(|_| (3, anyhow!("{} is not UTF-8: write it as that", args.patient_ids.display())))?;
    let ids = ids.lines().map(str::trim).filter(|id| !id.is_empty());
    crate::print(OptOut::write(ids, &secret).as_bytes())
}

/// All of a file of at most so many bytes; the exit code where it is not.
fn read(path: &std::path::Path, bytes_max: u64, code: u8) -> Result<Vec<u8>, (u8, anyhow::Error)> {
    let failed = |e: std::io::Error| (code, anyhow!("{}: {e}", path.display()));
    let mut bytes = Vec::new();
    if path.as_os_str() == "-" {
        std::io::stdin().take(bytes_max + 1).read_to_end(&mut bytes).map_err(failed)?;
    } else {
        std::fs::File::open(path).map_err(failed)?.take(bytes_max + 1).read_to_end(&mut bytes).map_err(failed)?;
    }
    match bytes.len() as u64 > bytes_max {
        true => Err((code, anyhow!("{} has more than {bytes_max} bytes: give a part of it", path.display()))),
        false => Ok(bytes),
    }
}
