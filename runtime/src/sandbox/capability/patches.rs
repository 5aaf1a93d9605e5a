//! `gantry:imaging/patches`: a model over windows of a volume, one host call.
//!
//! Each batch of windows is a run of its own in the device's queue: what is more urgent comes between two of them, and between
//! two of them the job's deadline and whether it was cancelled are looked at.

use wasmtime::component::Resource;

use super::nn::{Context, NnError};
use super::volumes::extent;
use crate::inference::{Dim, TensorSpec};
use crate::sandbox::bindings::gantry::imaging::patches;
use crate::sandbox::state::{Failure, JobState};
use crate::tensor::{ElementType, Tensor};
use crate::volumes::{Blend, Mirrored, Sliding, Volume, Windows};

/// Windows that a network may be given at once.
const BATCH_MAX: u32 = 1024;

impl patches::Host for JobState {
    fn sliding_window(
        &mut self,
        context: Resource<Context>,
        of: Vec<Resource<Volume>>,
        how: patches::Windows,
    ) -> Result<Resource<Tensor>, Failure> {
        let mut context = self.table.get(&context)?.again()?;
        let network = Network::of(&context, of.len(), &how)?;
        let volumes = of.iter().map(|v| self.table.get(v)).collect::<Result<Vec<_>, _>>()?;
        let mut sliding = Sliding::new(&volumes, how.into())?;
        let mut first = 0;
        while first < sliding.count() {
            let windows = first..(first + network.items).min(sliding.count());
            for turn in 0..sliding.turns() {
                self.check_time().map_err(Failure::Trap)?;
                let seen = sliding.patches(windows.clone(), network.items, turn, network.flat, network.element)?;
                let output = match context.run(vec![(network.input.clone(), seen)]) {
                    Ok(outputs) => outputs.into_iter().next().map(|(_, tensor)| tensor),
                    Err(error) => return Err(self.failed(error)),
                };
                let output = output.ok_or_else(|| Failure::Invalid("the network gave nothing".into()))?;
                sliding.add(windows.clone(), network.items, turn, &output)?;
            }
            first = windows.end;
        }
        let result = sliding.finish()?;
        self.push(result)
    }
}

impl JobState {
    /// What a guest hears of an engine that did not run; a job whose time is over ends here.
    fn failed(&mut self, error: NnError) -> Failure {
        if let Err(over) = self.check_time() {
            return Failure::Trap(over);
        }
        self.note(&error);
        error.into()
    }
}

/// What the windows must be for a network.
struct Network {
    input: String,
    element: ElementType,
    /// Windows of a run.
    items: usize,
    /// Without z.
    flat: bool,
}

impl Network {
    fn of(context: &Context, channels: usize, how: &patches::Windows) -> Result<Self, Failure> {
        let refused = |text: String| Failure::Invalid(format!("the network cannot look at windows: {text}"));
        let ([input], [_]) = (context.inputs(), context.outputs()) else {
            let (inputs, outputs) = (context.inputs().len(), context.outputs().len());
            return Err(refused(format!("it has {inputs} inputs and {outputs} outputs, not one of each")));
        };
        let TensorSpec { name, element, dims } = input;
        let flat = match dims.len() {
            5 => false,
            4 if how.size.z == 1 => true,
            4 => return Err(refused("it takes single slices, but size.z is not 1".into())),
            n => return Err(refused(format!("its input has {n} axes, not [n, k, z, y, x]"))),
        };
        if !(1..=BATCH_MAX).contains(&how.batch) {
            return Err(refused(format!("a batch of {} is not 1 to {BATCH_MAX}", how.batch)));
        }
        let items = match dims.first() {
            Some(Dim::Fixed(items)) => *items,
            _ => how.batch as usize,
        };
        if items == 0 || items > BATCH_MAX as usize {
            return Err(refused(format!("it takes {items} items at once, not 1 to {BATCH_MAX}")));
        }
        if matches!(dims.get(1), Some(Dim::Fixed(k)) if *k != channels) {
            return Err(refused(format!("it takes another number of channels than the {channels} volumes given")));
        }
        Ok(Self { input: name.clone(), element: *element, items, flat })
    }
}

impl From<patches::Windows> for Windows {
    fn from(how: patches::Windows) -> Self {
        let patches::Axes { x, y, z } = how.mirror;
        Self {
            size: extent(how.size),
            overlap: how.overlap,
            blend: match how.blend {
                patches::Blend::Constant => Blend::Constant,
                patches::Blend::Gaussian => Blend::Gaussian,
            },
            fill: how.fill,
            mirrored: Mirrored { axes: [x, y, z], quarter_turns: how.quarter_turns },
        }
    }
}
