//! Operations on a volume beside scipy and SimpleITK on as many threads, one after the other.
//!
//! The volume is as a CT of a body is: 16 bits, air around, noise, bones. scipy and SimpleITK have it as f32 in memory, as they
//! work on it; Gantry has it as it comes from the decoder, and what it gives is f32, bytes for masks, or numbers.

use std::ffi::{OsStr, OsString};
use std::path::Path;
use std::time::Instant;

use anyhow::{Context, Result};
use gantry::geometry::Geometry;
use gantry::memory::Budget;
use gantry::threads::Threads;
use gantry::volumes::{Axis, Interpolation, Morphology, Projection, Sampling, Volume, VolumeError};

use crate::Built;
use crate::peers::Dialogue;
use crate::report::{Report, median};

/// How much to measure.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Slices of 512 × 512 voxels.
    #[arg(long, default_value_t = 100)]
    slices: usize,
    /// How often each operation is repeated; medians count. What takes others longer than twenty seconds they do once.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// This operation alone, or those whose names begin so.
    #[arg(long)]
    only: Option<String>,
    /// Leave the others out.
    #[arg(long)]
    no_peers: bool,
    #[command(flatten)]
    pub(crate) built: Built,
}

impl Options {
    pub(crate) fn slices(&self) -> usize {
        self.slices
    }
}

/// Rows and columns.
const EDGE: usize = 512;
/// As in `tests/peers/bench_volumes.py`.
const SPACING: [f64; 3] = [0.8, 0.8, 1.5];
/// What we aim at: so many times as fast.
const SCIPY: f64 = 5.0;
const SIMPLEITK: f64 = 1.0;
/// What takes longer is not repeated.
const LONG_S: f64 = 20.0;

type Work = fn(&Volume) -> Result<Volume, VolumeError>;

/// What `tests/peers/bench_volumes.py` calls so, and how it is said in the table.
const OPERATIONS: [(&str, &str, Work); 19] = [
    ("gaussian", "Gaussian, 1.5 mm", |v| v.gaussian([1.5; 3])),
    ("gradient", "gradient magnitude", Volume::gradient_magnitude),
    ("median 3", "median of 3 × 3 × 3", |v| v.median([1; 3])),
    ("median 5", "median of 5 × 5 × 5", |v| v.median([2; 3])),
    ("dilate", "dilation, 5 mm", |v| bone(v)?.morphology(Morphology::Dilate, 5.0)),
    ("close", "closing, 5 mm", |v| bone(v)?.morphology(Morphology::Close, 5.0)),
    ("project", "maximum along z", |v| v.project(Axis::Z, Projection::Maximum)),
    ("slab", "maximum of 10 slices", |v| v.slab(Projection::Maximum, 10)),
    ("slab mean", "mean of 10 slices", |v| v.slab(Projection::Mean, 10)),
    ("percentiles", "three percentiles", |v| v.percentiles(&[0.5, 50.0, 99.5]).map(|_| v.clone())),
    ("normalise", "between percentiles", |v| v.normalise(0.5, 99.5)?.materialize()),
    ("equalise", "equalised, 256 bins", |v| v.equalise(256)),
    ("linear", "linear, to 1.5 mm", |v| v.resample([1.5; 3], Interpolation::Linear)?.materialize()),
    ("cubic", "cubic, to 1.5 mm", |v| v.resample_cubic([1.5; 3])),
    ("turned linear", "linear, turned grid", |v| v.onto(&turned(v)?, Sampling::Linear, 0.0)?.materialize()),
    ("turned cubic", "cubic, turned grid", |v| v.onto(&turned(v)?, Sampling::Cubic, 0.0)),
    ("z-score", "z-score", |v| v.z_score()?.materialize()),
    ("components", "components", |v| bone(v)?.components(1).map(|_| v.clone())),
    ("body", "body mask", |v| v.body_mask(-400.0)),
];

fn bone(ct: &Volume) -> Result<Volume, VolumeError> {
    ct.threshold(200.0, f32::INFINITY)
}

/// The same grid, turned around the middle of its slices.
fn turned(ct: &Volume) -> Result<Geometry, VolumeError> {
    let (s, c) = 0.2f64.sin_cos();
    let grid = ct.geometry();
    let middle = grid.size().map(|n| (n - 1) as f64 / 2.0);
    let axes = [[c, s, 0.0], [-s, c, 0.0], [0.0, 0.0, 1.0]];
    let at_origin = Geometry::new(grid.size(), grid.spacing(), [0.0; 3], axes)?;
    let (from, to) = (at_origin.to_patient(middle), grid.to_patient(middle));
    Ok(Geometry::new(grid.size(), grid.spacing(), [0, 1, 2].map(|a| to[a] - from[a]), axes)?)
}

/// Measures.
pub(crate) fn measure(below: &Path, options: &Options, processors: usize, report: &mut Report) -> Result<()> {
    let voxels = body(options.slices);
    let here = tempfile::tempdir_in(below)?;
    let raw = here.path().join("volume.raw");
    std::fs::write(&raw, voxels.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<u8>>())?;
    let axes = [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]];
    let grid = Geometry::new([EDGE, EDGE, options.slices], SPACING, [0.0; 3], axes)?;
    let ct = Volume::from_i16(grid, voxels, 1.0, 0.0, &Budget::unlimited())?;
    let mut peer = match options.no_peers {
        true => None,
        false => match Peer::start(&raw, options.slices, processors)? {
            Ok(peer) => Some(peer),
            Err(why) => {
                report.skip(format!("scipy and SimpleITK: {why}"));
                None
            }
        },
    };
    let threads = Threads::start("bench", None)?;
    let wanted = |name: &str| options.only.as_ref().is_none_or(|only| name.starts_with(only.as_str()));
    for (name, said, work) in OPERATIONS.into_iter().filter(|(name, ..)| wanted(name)) {
        let (mut ours, mut scipy, mut itk) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..options.rounds.max(1) {
            let begun = Instant::now();
            let made = threads.run(|| work(&ct)).with_context(|| name.to_owned())?;
            ours.push(begun.elapsed().as_secs_f64());
            drop(made);
            let long = |times: &[f64]| times.first().is_some_and(|t| *t > LONG_S);
            if let Some(peer) = peer.as_mut().filter(|_| !long(&scipy) && !long(&itk)) {
                let [a, b] = peer.work(name)?;
                scipy.extend(a);
                itk.extend(b);
            }
        }
        let ms = median(&ours) * 1e3;
        report.told(said, ms, "ms", format!("{:.0} Mvoxel/s", ct.geometry().voxels() as f64 / ms / 1e3));
        for (who, times, aim) in [("scipy", scipy, SCIPY), ("SimpleITK", itk, SIMPLEITK)] {
            if !times.is_empty() {
                let theirs = median(&times) * 1e3;
                let note = format!("{theirs:.0} ms, {} rounds in turn", times.len());
                report.at_least(&format!("{who} ÷ ours, {said}"), theirs / ms, "", aim, note);
            }
        }
    }
    Ok(())
}

/// Hounsfield units of an ellipse with bones and holes, with noise.
fn body(slices: usize) -> Vec<i16> {
    let mut state = 0x9E37_79B9_7F4A_7C15_u64;
    let mut noise = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        // The sum of four bytes is nearly a Gaussian.
        state.to_le_bytes().iter().take(4).map(|b| i16::from(*b)).sum::<i16>() / 12 - 42
    };
    let mut voxels = Vec::with_capacity(EDGE * EDGE * slices);
    let within = |x: f64, y: f64, [cx, cy]: [f64; 2], [rx, ry]: [f64; 2]| {
        ((x - cx) / rx).powi(2) + ((y - cy) / ry).powi(2) < 1.0
    };
    for z in 0..slices {
        let sway = (z as f64 / 20.0).sin() * 12.0;
        for y in 0..EDGE {
            for x in 0..EDGE {
                let (x, y) = (x as f64, y as f64);
                let hounsfield = if within(x, y, [256.0 + sway, 360.0], [22.0, 26.0]) {
                    700
                } else if within(x, y, [170.0, 230.0 + sway], [60.0, 80.0])
                    || within(x, y, [340.0, 230.0], [60.0, 80.0])
                {
                    -850
                } else if within(x, y, [256.0, 250.0], [200.0 + sway, 150.0]) {
                    50
                } else if (430.0..436.0).contains(&y) {
                    -100
                } else {
                    -1000
                };
                voxels.push(hounsfield + noise());
            }
        }
    }
    voxels
}

/// Python with scipy and SimpleITK, and the volume in memory.
struct Peer(Dialogue);

impl Peer {
    /// Starts it, or why it cannot run here.
    fn start(raw: &Path, slices: usize, threads: usize) -> Result<Result<Self, String>> {
        let numbers = [slices, EDGE, EDGE, threads].map(|n| OsString::from(n.to_string()));
        let arguments: Vec<&OsStr> =
            [raw.as_os_str()].into_iter().chain(numbers.iter().map(OsString::as_os_str)).collect();
        Ok(Dialogue::start("bench_volumes.py", &arguments)?.map(Self))
    }

    /// Seconds that scipy took, and SimpleITK.
    fn work(&mut self, name: &str) -> Result<[Option<f64>; 2]> {
        let told = self.0.ask(name)?;
        Ok(["scipy", "SimpleITK"].map(|who| told[who].as_f64()))
    }
}
