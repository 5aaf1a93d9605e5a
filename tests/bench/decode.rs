//! A CT in JPEG 2000 becomes a volume: headers, pixels, Hounsfield units; beside pydicom with OpenJPEG.

use std::path::Path;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use gantry::memory::Budget;
use gantry::study::{self, ReadOptions};

use crate::Built;
use crate::deid::{Kind, study as made};
use crate::peers::python;
use crate::report::{Report, median};

/// How much to measure.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Slices of the study.
    #[arg(long, default_value_t = 300)]
    slices: usize,
    /// How often each is measured; medians count.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    #[command(flatten)]
    pub(crate) built: Built,
}

/// Measures.
pub(crate) fn measure(folder: &Path, options: &Options, processors: usize, report: &mut Report) -> Result<()> {
    let study = made(folder, Kind::Compressed, options.slices)?;
    let (mut seconds, mut sum) = (Vec::new(), 0.0);
    // The first round brings the files into the page cache.
    for round in 0..=options.rounds.max(1) {
        let begun = Instant::now();
        let volume = volume(&study)?;
        if round > 0 {
            seconds.push(begun.elapsed().as_secs_f64());
        } else {
            sum = total(&volume)?;
        }
    }
    let ours = median(&seconds);
    let slices = options.slices as f64;
    report.told(
        "ours",
        slices / ours,
        "slices/s",
        "headers, pixels, digests and the volume; JPEG 2000 without loss, 512 x 512",
    );
    let (threads, rounds) = (processors.to_string(), options.rounds.to_string());
    let told = match python("bench_decode.py", [study.as_os_str(), threads.as_ref(), rounds.as_ref()])? {
        Ok(told) => told,
        Err(why) => {
            report.skip(format!("Python: {why}"));
            return Ok(());
        }
    };
    let seconds: Vec<f64> =
        told["seconds"].as_array().context("rounds")?.iter().filter_map(serde_json::Value::as_f64).collect();
    let (theirs, their_sum) = (median(&seconds), told["sum"].as_f64().context("a sum")?);
    ensure!((sum - their_sum).abs() <= 1e-6 * sum.abs(), "values differ: their sums are {sum} and {their_sum}");
    report.told(
        "pylibjpeg-openjpeg",
        slices / theirs,
        "slices/s",
        format!("{threads} processes that are there before; {}", told["packages"].as_str().unwrap_or_default()),
    );
    report.at_least("ours / pylibjpeg-openjpeg", theirs / ours, "", 1.0, "medians; the same values");
    Ok(())
}

fn volume(folder: &Path) -> Result<gantry::volumes::Volume> {
    let options = ReadOptions::default();
    let study = study::read(&[folder.to_path_buf()], &options)?;
    let series = study.series.first().context("the study has no series")?;
    Ok(series.decode(0, &Budget::unlimited(), &options)?.volume)
}

fn total(volume: &gantry::volumes::Volume) -> Result<f64> {
    let [columns, rows, slices] = volume.geometry().size();
    let (mut values, mut sum) = (vec![0.0; columns * rows], 0.0);
    for slice in 0..slices {
        volume.slice(slice, &mut values)?;
        sum += values.iter().map(|v| f64::from(*v)).sum::<f64>();
    }
    Ok(sum)
}
