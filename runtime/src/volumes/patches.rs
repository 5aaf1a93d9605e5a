//! Windows over a volume that is larger than what a network takes, and one result out of those of all windows.
//!
//! ```text
//! volumes ─▶ Sliding::new ─▶ for each batch of windows, for each turn of them: patches ─▶ network ─▶ add ─▶ finish
//! ```
//!
//! Windows lie as in MONAI's `sliding_window_inference`: `int(size · (1 - overlap))` apart, the last flush with the border; a
//! volume smaller than a window is padded, centred. Results are weighted, added up and divided by the sum of the weights.

use std::ops::Range;

use rayon::prelude::*;

use super::evaluate::{Scratch, blocks_of};
use super::tensors::{encode, with_elements};
use super::view::{self, Order};
use super::{Volume, VolumeError, invalid};
use crate::geometry::Region;
use crate::memory::Charge;
use crate::tensor::{ElementType, Tensor};

/// The part of a window that is a standard deviation of its Gaussian weight, as in MONAI and nnU-Net.
const SIGMA: f64 = 0.125;
/// No voxel weighs less.
const WEIGHT_MIN: f32 = 1e-3;
/// How far the grids of volumes that go in together may lie apart, mm.
const GRID_TOLERANCE_MM: f64 = 1e-3;

/// How results of windows that overlap become one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Blend {
    /// All voxels of a window weigh the same.
    Constant,
    /// Those in its middle weigh more.
    Gaussian,
}

/// Turns of a window under which a network looks at it again.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Mirrored {
    /// Along x, y, z: alone and together.
    pub axes: [bool; 3],
    /// By one, two and three quarters around z.
    pub quarter_turns: bool,
}

/// How windows lie, and what becomes of their results. See `patches.windows` in the contract.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Windows {
    /// Voxels of a window.
    pub size: [usize; 3],
    /// The part that neighbours share, 0 to below 1.
    pub overlap: f64,
    /// How results become one.
    pub blend: Blend,
    /// The value around a volume that is smaller than a window.
    pub fill: f32,
    /// Under which turns the network looks at each.
    pub mirrored: Mirrored,
}

/// Windows over volumes on one grid, and what came of them so far.
#[derive(Debug)]
pub struct Sliding {
    /// Padded, computed.
    channels: Vec<Volume>,
    windows: Windows,
    turns: Vec<Order>,
    /// Windows along each axis, and how far they lie apart.
    counts: [usize; 3],
    steps: [usize; 3],
    /// What lies before the volume where it was padded, and the volume without that.
    before: [usize; 3],
    size: [usize; 3],
    /// For each axis, the weights along it.
    weights: [Vec<f32>; 3],
    result: Option<Blended>,
}

/// [1, c, z, y, x] weighted sums, and [z, y, x] sums of weights.
#[derive(Debug)]
struct Blended {
    channels: usize,
    sums: Tensor,
    weights: Vec<f32>,
    _charge: Charge,
}

impl Sliding {
    /// Over `of`, each a channel of the network's input.
    pub fn new(of: &[&Volume], windows: Windows) -> Result<Self, VolumeError> {
        let Some(first) = of.first() else { return Err(invalid("there is no volume to look at")) };
        if let Some(i) = of.iter().position(|v| !v.geometry.same_grid(&first.geometry, GRID_TOLERANCE_MM)) {
            return Err(invalid(format!("volume {i} does not lie on the grid of the first")));
        }
        if windows.size.contains(&0) {
            return Err(invalid(format!("a window of {:?} voxels is empty", windows.size)));
        }
        if !(0.0..1.0).contains(&windows.overlap) {
            return Err(invalid(format!("an overlap of {} is not from 0 to below 1", windows.overlap)));
        }
        let turns = turns(windows.mirrored, windows.size)?;
        let size = first.geometry.size();
        let padded = [0, 1, 2].map(|a| size[a].max(windows.size[a]));
        let before = [0, 1, 2].map(|a| (padded[a] - size[a]) / 2);
        let steps = [0, 1, 2].map(|a| {
            let step = (windows.size[a] as f64 * (1.0 - windows.overlap)) as usize;
            if windows.size[a] == padded[a] { padded[a] } else { step.max(1) }
        });
        let counts = [0, 1, 2].map(|a| (padded[a] - windows.size[a]).div_ceil(steps[a]) + 1);
        let channels = of.iter().map(|v| v.pad(padded, windows.fill)?.materialize()).collect::<Result<_, _>>()?;
        let weights = windows.size.map(|n| weights(n, windows.blend));
        Ok(Self { channels, windows, turns, counts, steps, before, size, weights, result: None })
    }

    /// How many windows there are.
    #[must_use]
    pub fn count(&self) -> usize {
        // Each is at most the voxels along its axis.
        self.counts.iter().product()
    }

    /// Under how many turns the network looks at each of them.
    #[must_use]
    pub fn turns(&self) -> usize {
        self.turns.len()
    }

    fn window(&self, number: usize) -> Region {
        // z is outermost.
        let [cx, cy, _] = self.counts;
        let place = [number % cx, number / cx % cy, number / cx / cy];
        let padded = |a: usize| self.size[a].max(self.windows.size[a]);
        let start = [0, 1, 2].map(|a| (place[a] * self.steps[a]).min(padded(a) - self.windows.size[a]));
        Region { start, size: self.windows.size }
    }

    /// What the network is to see of some windows under a turn: [n, channels, z, y, x], or without z where `flat`. The last
    /// window comes again where there are less than `items`.
    pub fn patches(
        &self,
        windows: Range<usize>,
        items: usize,
        turn: usize,
        flat: bool,
        element: ElementType,
    ) -> Result<Tensor, VolumeError> {
        let (Some(last), Some(order)) = (windows.end.checked_sub(1), self.turns.get(turn)) else {
            return Err(invalid("no such windows"));
        };
        let [x, y, z] = order.map(|(axis, _)| self.windows.size[axis]);
        let first = self.channels.first().map(Volume::budget).ok_or_else(|| invalid("no volume"))?;
        let shape =
            if flat { vec![items, self.channels.len(), y, x] } else { vec![items, self.channels.len(), z, y, x] };
        let mut tensor = Tensor::zeroed(shape, element, first)?;
        let bytes = x * y * z * element.bytes();
        let fill = |(i, out): (usize, &mut [u8])| {
            let (item, channel) = (i / self.channels.len(), i % self.channels.len());
            let window = self.window((windows.start + item).min(last));
            let seen = self.channels[channel].crop(window)?.reordered(*order)?;
            // In blocks: a window may be as large as the volume, and only what the network is given is charged.
            blocks_of(seen.geometry.region(), element.bytes(), out).into_par_iter().try_for_each_init(
                Scratch::default,
                |scratch, (block, out)| {
                    seen.budget.check_time()?;
                    let mut values = scratch.take(block.voxels());
                    seen.block(block, &mut values, scratch);
                    encode(&values, element, out);
                    scratch.give(values);
                    Ok::<(), VolumeError>(())
                },
            )
        };
        tensor.data_mut().par_chunks_mut(bytes).enumerate().try_for_each(fill)?;
        Ok(tensor)
    }

    /// Takes what the network made of those windows under that turn: [n, c, z, y, x], of any floating-point type.
    pub fn add(
        &mut self,
        windows: Range<usize>,
        items: usize,
        turn: usize,
        output: &Tensor,
    ) -> Result<(), VolumeError> {
        let Some(&order) = self.turns.get(turn) else { return Err(invalid("no such turn")) };
        let [x, y, z] = order.map(|(axis, _)| self.windows.size[axis]);
        let channels = match *output.shape() {
            [n, c, d, h, w] if (n, d, h, w) == (items, z, y, x) => c,
            [n, c, h, w] if z == 1 && (n, h, w) == (items, y, x) => c,
            _ => 0,
        };
        let whole = matches!(output.element(), ElementType::U8 | ElementType::I32 | ElementType::I64);
        if channels == 0 || whole {
            return Err(invalid(format!(
                "the network made {} {:?} of windows for which it is to give [{items}, c, {z}, {y}, {x}] in a floating-point \
                 type, c above 0",
                output.element(),
                output.shape()
            )));
        }
        let mut result = match self.result.take() {
            Some(result) => result,
            None => self.nothing(channels)?,
        };
        if result.channels != channels {
            let before = result.channels;
            return Err(invalid(format!("the network gave {channels} channels after {before} of another window")));
        }
        with_elements!(output, |values, number| {
            for (item, window) in windows.enumerate() {
                let of_item = &values[item * channels * x * y * z..][..channels * x * y * z];
                self.blend(&mut result, self.window(window), order, of_item, &number);
                if turn == 0 {
                    self.weigh(&mut result.weights, self.window(window));
                }
            }
        });
        self.result = Some(result);
        Ok(())
    }

    fn nothing(&self, channels: usize) -> Result<Blended, VolumeError> {
        let [x, y, z] = self.size;
        let budget = self.channels.first().map(Volume::budget).ok_or_else(|| invalid("no volume"))?;
        let sums = Tensor::zeroed(vec![1, channels, z, y, x], ElementType::F32, budget)?;
        let charge = budget.charge((x * y * z * 4) as u64)?;
        Ok(Blended { channels, sums, weights: vec![0.0; x * y * z], _charge: charge })
    }

    /// The part of a window that lies in the volume: where in the window it begins, and where it lies in the volume.
    fn inside(&self, window: Region) -> ([usize; 3], Region) {
        let first = [0, 1, 2].map(|a| self.before[a].saturating_sub(window.start[a]));
        let start = [0, 1, 2].map(|a| window.start[a].saturating_sub(self.before[a]));
        let end = [0, 1, 2].map(|a| (window.start[a] + window.size[a] - self.before[a]).min(self.size[a]));
        (first, Region { start, size: [0, 1, 2].map(|a| end[a] - start[a]) })
    }

    fn blend<const N: usize>(
        &self,
        result: &mut Blended,
        window: Region,
        order: Order,
        values: &[[u8; N]],
        number: &(impl Fn([u8; N]) -> f64 + Sync),
    ) {
        let [nx, ny, nz] = self.size;
        let (first, part) = self.inside(window);
        let share = 1.0 / self.turns.len() as f32;
        let size = self.windows.size;
        // How far apart the values of neighbours of the window lie in what the network gave, and where its first voxel's does.
        let turned = order.map(|(axis, _)| size[axis]);
        let apart = [1, turned[0], turned[0] * turned[1]];
        let (mut step, mut base) = ([0isize; 3], 0isize);
        for (along, (axis, backwards)) in order.into_iter().enumerate() {
            step[axis] = if backwards { -(apart[along] as isize) } else { apart[along] as isize };
            base += if backwards { ((size[axis] - 1) * apart[along]) as isize } else { 0 };
        }
        let slices = result.sums.data_mut().par_chunks_mut(nx * ny * 4).enumerate();
        slices.for_each(|(i, slice)| {
            let (channel, z) = (i / nz, i % nz);
            let Some(k) = z.checked_sub(part.start[2]).filter(|k| *k < part.size[2]) else { return };
            let values = &values[channel * size.iter().product::<usize>()..][..size.iter().product()];
            for j in 0..part.size[1] {
                let at = (part.start[1] + j) * nx + part.start[0];
                let row = &mut slice.as_chunks_mut::<4>().0[at..at + part.size[0]];
                let plane = self.weights[2][first[2] + k] * self.weights[1][first[1] + j];
                let from = base + (first[2] + k) as isize * step[2] + (first[1] + j) as isize * step[1];
                for (i, sum) in row.iter_mut().enumerate() {
                    let x = first[0] + i;
                    let value = number(values[usize::try_from(from + x as isize * step[0]).expect("inside a window")]);
                    let weight = (plane * self.weights[0][x]).max(WEIGHT_MIN) * share;
                    *sum = (f32::from_le_bytes(*sum) + weight * value as f32).to_le_bytes();
                }
            }
        });
    }

    fn weigh(&self, weights: &mut [f32], window: Region) {
        let [nx, ny, _] = self.size;
        let (first, part) = self.inside(window);
        for k in 0..part.size[2] {
            for j in 0..part.size[1] {
                let plane = self.weights[2][first[2] + k] * self.weights[1][first[1] + j];
                let at = ((part.start[2] + k) * ny + part.start[1] + j) * nx + part.start[0];
                for (w, x) in weights[at..at + part.size[0]].iter_mut().zip(&self.weights[0][first[0]..]) {
                    *w += (plane * x).max(WEIGHT_MIN);
                }
            }
        }
    }

    /// What all windows came to: [1, c, z, y, x] in f32 on the grid of the volumes.
    pub fn finish(self) -> Result<Tensor, VolumeError> {
        let Some(Blended { mut sums, weights, .. }) = self.result else {
            return Err(invalid("no window was looked at"));
        };
        sums.data_mut().par_chunks_mut(weights.len() * 4).for_each(|channel| {
            for (sum, weight) in channel.as_chunks_mut::<4>().0.iter_mut().zip(&weights) {
                *sum = (f32::from_le_bytes(*sum) / weight).to_le_bytes();
            }
        });
        Ok(sums)
    }
}

/// Weights along an axis of `n` voxels.
fn weights(n: usize, blend: Blend) -> Vec<f32> {
    let (middle, sigma) = ((n - 1) as f64 / 2.0, n as f64 * SIGMA);
    let weight = |i: usize| match blend {
        Blend::Constant => 1.0,
        Blend::Gaussian => (-0.5 * ((i as f64 - middle) / sigma).powi(2)).exp() as f32,
    };
    (0..n).map(weight).collect()
}

/// Every turn once, the one that changes nothing first.
fn turns(mirrored: Mirrored, size: [usize; 3]) -> Result<Vec<Order>, VolumeError> {
    if mirrored.quarter_turns && size[0] != size[1] {
        return Err(invalid(format!("a window of {size:?} voxels can't be turned by a quarter: x and y differ")));
    }
    let mut turns = Vec::new();
    for quarters in 0..if mirrored.quarter_turns { 4 } else { 1 } {
        let mut quarter = view::AS_IS;
        for _ in 0..quarters {
            quarter = [(quarter[1].0, quarter[1].1), (quarter[0].0, !quarter[0].1), quarter[2]];
        }
        for flips in 0..8usize {
            let flipped = |axis: usize| flips >> axis & 1 == 1;
            if (0..3).all(|axis| mirrored.axes[axis] || !flipped(axis)) {
                let turn = quarter.map(|(axis, backwards)| (axis, backwards != flipped(axis)));
                if !turns.contains(&turn) {
                    turns.push(turn);
                }
            }
        }
    }
    Ok(turns)
}

#[cfg(test)]
mod tests {
    use super::super::test_grid;
    use super::*;
    use crate::memory::Budget;

    fn windows(size: [usize; 3], overlap: f64) -> Windows {
        Windows { size, overlap, blend: Blend::Gaussian, fill: -1.0, mirrored: Mirrored::default() }
    }

    fn ramp(size: [usize; 3]) -> Volume {
        let voxels = (0..size.iter().product::<usize>()).map(|v| v as f32).collect();
        Volume::from_f32(test_grid(size), voxels, &Budget::unlimited()).expect("as many voxels")
    }

    /// Runs the network that gives back what it sees.
    fn echo(volume: &Volume, windows: Windows, items: usize) -> Vec<f32> {
        let mut sliding = Sliding::new(&[volume], windows).expect("windows");
        let flat = windows.size[2] == 1;
        for first in (0..sliding.count()).step_by(items) {
            let some = first..(first + items).min(sliding.count());
            for turn in 0..sliding.turns() {
                let seen = sliding.patches(some.clone(), items, turn, flat, ElementType::F32).expect("patches");
                sliding.add(some.clone(), items, turn, &seen).expect("of their shape");
            }
        }
        sliding.finish().expect("all windows").as_f32().expect("aligned").to_vec()
    }

    #[test]
    fn what_a_network_leaves_as_it_is_comes_back_under_all_turns() {
        let volume = ramp([7, 9, 5]);
        let all = Mirrored { axes: [true; 3], quarter_turns: true };
        let whole = volume.read(volume.geometry().region()).expect("all of it");
        for (size, overlap, mirrored, items) in [
            ([4, 4, 4], 0.5, all, 3),
            ([4, 3, 2], 0.25, Mirrored { axes: [true, false, true], quarter_turns: false }, 1),
            ([8, 8, 8], 0.25, all, 2),
            ([16, 5, 1], 0.9, Mirrored::default(), 4),
        ] {
            let windows = Windows { mirrored, ..windows(size, overlap) };
            for (got, wanted) in echo(&volume, windows, items).iter().zip(&whole) {
                assert!((got - wanted).abs() < 1e-3, "{size:?}: {got}, {wanted}");
            }
        }
    }

    #[test]
    fn each_turn_is_taken_once() {
        let count = |axes, quarter_turns| turns(Mirrored { axes, quarter_turns }, [4, 4, 2]).expect("square").len();
        assert_eq!(count([false; 3], false), 1);
        assert_eq!(count([true; 3], false), 8);
        assert_eq!(count([false; 3], true), 4);
        assert_eq!(count([true, false, false], true), 8);
        assert_eq!(count([true; 3], true), 16);
        assert!(turns(Mirrored { axes: [false; 3], quarter_turns: true }, [4, 5, 2]).is_err());
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        let (volume, other) = (ramp([4, 4, 4]), ramp([4, 4, 5]));
        let refused = |of: &[&Volume], w| assert!(matches!(Sliding::new(of, w), Err(VolumeError::Invalid(_))), "{w:?}");
        refused(&[], windows([2; 3], 0.5));
        refused(&[&volume, &other], windows([2; 3], 0.5));
        refused(&[&volume], windows([2, 0, 2], 0.5));
        for overlap in [-0.1, 1.0, f64::NAN, f64::INFINITY] {
            refused(&[&volume], windows([2; 3], overlap));
        }
        assert!(Sliding::new(&[&volume], windows([usize::MAX; 3], 0.5)).is_err());
        let mut sliding = Sliding::new(&[&volume], windows([2; 3], 0.5)).expect("windows");
        let budget = Budget::unlimited();
        for (shape, element) in [
            (vec![1, 2, 2, 2, 3], ElementType::F32),
            (vec![2, 1, 2, 2, 2], ElementType::F32),
            (vec![1, 0, 2, 2, 2], ElementType::F32),
            (vec![1, 1, 2, 2], ElementType::F32),
            (vec![1, 1, 2, 2, 2], ElementType::I64),
        ] {
            let output = Tensor::zeroed(shape.clone(), element, &budget).expect("room");
            assert!(sliding.add(0..1, 1, 0, &output).is_err(), "{shape:?}");
        }
        let output = |c| Tensor::zeroed(vec![1, c, 2, 2, 2], ElementType::F16, &budget).expect("room");
        sliding.add(0..1, 1, 0, &output(2)).expect("the first says how many channels");
        assert!(sliding.add(1..2, 1, 0, &output(3)).is_err());
    }
}
