//! What becomes of findings: the SEG beside highdicom, the way to Orthanc, and that way beside a destination that is gone.

use std::path::Path;

use anyhow::Result;

use crate::Built;
use crate::report::Report;
use crate::{outbox, seg};

/// How much to measure.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// How often a SEG is written, in turn with highdicom; medians count.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Results whose way is measured, to Orthanc and to a folder.
    #[arg(long, default_value_t = 60)]
    results: usize,
    /// Results that wait for the destination that is gone.
    #[arg(long, default_value_t = 10_000)]
    waiting: usize,
    /// This alone.
    #[arg(long, value_enum)]
    only: Option<Part>,
    #[command(flatten)]
    pub(crate) built: Built,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Part {
    /// Writing a SEG.
    Seg,
    /// The way to Orthanc.
    Orthanc,
    /// The way beside a destination that is gone.
    Gone,
}

/// Measures.
pub(crate) fn measure(below: &Path, options: &Options, report: &mut Report) -> Result<()> {
    let wanted = |part| options.only.is_none_or(|only| only == part);
    if wanted(Part::Seg) {
        seg::measure(below, options.rounds, report)?;
    }
    if wanted(Part::Orthanc) {
        outbox::to_orthanc(below, options.results, report)?;
    }
    if wanted(Part::Gone) {
        outbox::beside(below, options.results, options.waiting, report)?;
    }
    Ok(())
}
