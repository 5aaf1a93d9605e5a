//! The steps of `modules/ct-organs/src/lib.rs` against the host's own functions: what the sandbox is compared with.
//!
//! Keep both alike, line by line.

use anyhow::{Context, Result};
use gantry::geometry::Region;
use gantry::inference::{Batch, Call, Device, Engines, LoadedModel, Request, Turn};
use gantry::memory::Budget;
use gantry::module::package::Package;
use gantry::study::{ReadOptions, Study};
use gantry::tensor::ElementType;
use gantry::volumes::{self, Interpolation, Volume};

const SPACING_MM: f64 = 3.0;
const MULTIPLE: usize = 16;
const AIR_HU: f32 = -1024.0;
const WINDOW_HU: (f32, f32) = (-300.0, 1400.0);
const SLAB: usize = 8;
const PARTS: u32 = 2;
const LABELS: u32 = 3;

/// What the guest is given by the host.
pub(crate) struct Job<'a> {
    pub(crate) study: &'a Study,
    pub(crate) series: usize,
    pub(crate) read: &'a ReadOptions,
    pub(crate) package: &'a Package,
    pub(crate) engines: &'a Engines,
    pub(crate) host_memory_mib: u64,
}

/// What it states.
pub(crate) struct Stated {
    pub(crate) labels: Volume,
    /// mL of each label from 1 that was found.
    pub(crate) millilitres: Vec<f64>,
    pub(crate) model: LoadedModel,
}

/// Analyses the study.
pub(crate) fn analyze(job: &Job<'_>) -> Result<Stated> {
    let budget = Budget::mib(job.host_memory_mib);
    let source = job.study.series[job.series].decode(0, &budget, job.read)?.volume;
    let (labels, model) = segment(&source, job, &budget)?;
    let labels = labels.keep_largest(PARTS)?;
    let components = labels.components(1)?;
    let millilitres = (1..=LABELS)
        .map(|value| components.iter().filter(|c| c.label == value).map(|c| c.millilitres).sum())
        .filter(|millilitres| *millilitres != 0.0)
        .collect();
    Ok(Stated { labels, millilitres, model })
}

fn segment(source: &Volume, job: &Job<'_>, budget: &Budget) -> Result<(Volume, LoadedModel)> {
    let upright = source.orient("LPS")?;
    let spacing = upright.geometry().spacing();
    let input = upright.resample([SPACING_MM, SPACING_MM, spacing[2]], Interpolation::Linear)?;
    let size = input.geometry().size();
    let up = |n: usize| n.next_multiple_of(MULTIPLE);
    let input = input.pad([up(size[0]), up(size[1]), size[2]], AIR_HU)?.window(WINDOW_HU.0, WINDOW_HU.1)?;

    let bytes = job.package.model("organs", job.engines.model_max_mib())?;
    let turn = Turn::default();
    let call = Call { budget, deadline: None, turn: &turn, batch: Batch::Whole };
    let request = Request { vendor: "bench", name: "organs", bytes: &bytes, target: Device::Cpu, warm_up: None };
    let model = job.engines.load(request, &call)?;
    let mut slabs = Vec::new();
    for first in (0..size[2]).step_by(SLAB) {
        let count = SLAB.min(size[2] - first);
        let slab = input.crop(slices(&input, first, count))?;
        let outputs = model.run(vec![("ct".into(), slab.to_tensor(ElementType::F32, true)?)], &call)?;
        let onto = upright.crop(slices(&upright, first, count))?;
        let logits = outputs.iter().find(|(name, _)| name == "logits").map(|(_, tensor)| tensor);
        slabs.push(volumes::argmax(logits.context("the model gives logits")?, &slab, &onto)?);
    }
    let labels = volumes::stack(&slabs.iter().collect::<Vec<_>>())?;
    Ok((labels.resample_like(source.geometry(), Interpolation::Nearest, 0.0)?, model))
}

fn slices(of: &Volume, first: usize, count: usize) -> Region {
    let [x, y, _] = of.geometry().size();
    Region { start: [0, 0, first], size: [x, y, count] }
}
