//! The largest, smallest or mean value along an axis, or of the slices around each.

use super::super::storage::Voxels;
use super::super::{Volume, VolumeError, invalid};
use crate::geometry::{Geometry, Region};

/// What becomes of the voxels that lie behind one another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Projection {
    /// The largest that is a number.
    Maximum,
    /// The smallest that is a number.
    Minimum,
    /// The mean, summed in f64; NaN where one is.
    Mean,
}

/// An axis of a grid.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Axis {
    /// Columns.
    X,
    /// Rows.
    Y,
    /// Slices.
    Z,
}

/// Voxels of the source that are looked at together.
const PIECE: usize = if cfg!(test) { 8 } else { 1 << 16 };

/// How voxels become one.
trait Join: Sync {
    /// Whether the largest of all values is what they come to, or the smallest; none where all of them count.
    const LARGEST: Option<bool>;
    /// What is kept of those that were seen.
    type Sum: Copy + Send;
    /// Of none.
    const NOTHING: Self::Sum;
    /// Of one.
    fn of(v: f32) -> Self::Sum;
    /// Of both.
    fn both(a: Self::Sum, b: Self::Sum) -> Self::Sum;
    /// The value that so many came to.
    fn value(sum: Self::Sum, count: usize) -> f32;
}

struct Largest;
struct Smallest;
struct Mean;

impl Join for Largest {
    const LARGEST: Option<bool> = Some(true);
    type Sum = f32;
    const NOTHING: f32 = f32::NAN;
    fn of(v: f32) -> f32 {
        v
    }
    #[inline(always)]
    fn both(a: f32, b: f32) -> f32 {
        // As `f32::max`, in fewer instructions.
        if b > a || a.is_nan() { b } else { a }
    }
    fn value(sum: f32, _: usize) -> f32 {
        sum
    }
}

impl Join for Smallest {
    const LARGEST: Option<bool> = Some(false);
    type Sum = f32;
    const NOTHING: f32 = f32::NAN;
    fn of(v: f32) -> f32 {
        v
    }
    #[inline(always)]
    fn both(a: f32, b: f32) -> f32 {
        if b < a || a.is_nan() { b } else { a }
    }
    fn value(sum: f32, _: usize) -> f32 {
        sum
    }
}

impl Join for Mean {
    const LARGEST: Option<bool> = None;
    type Sum = f64;
    const NOTHING: f64 = 0.0;
    fn of(v: f32) -> f64 {
        v.into()
    }
    #[inline(always)]
    fn both(a: f64, b: f64) -> f64 {
        a + b
    }
    fn value(sum: f64, count: usize) -> f32 {
        (sum / count as f64) as f32
    }
}

impl Volume {
    /// All voxels along `axis` reduced to one, which is as thick as all of them. See `filters.project`.
    pub fn project(&self, axis: Axis, how: Projection) -> Result<Self, VolumeError> {
        match how {
            Projection::Maximum => self.projected::<Largest>(axis),
            Projection::Minimum => self.projected::<Smallest>(axis),
            Projection::Mean => self.projected::<Mean>(axis),
        }
    }

    fn projected<J: Join>(&self, axis: Axis) -> Result<Self, VolumeError> {
        let along = axis as usize;
        let (mut size, mut spacing) = (self.geometry.size(), self.geometry.spacing());
        let depth = size[along];
        let mut middle = [0.0; 3];
        middle[along] = (depth - 1) as f64 / 2.0;
        size[along] = 1;
        spacing[along] *= depth as f64;
        let grid = Geometry::new(size, spacing, self.geometry.to_patient(middle), self.geometry.axes())?;
        self.computed(&grid, [512, 16, 16], |block, out, scratch| {
            let mut sums = vec![J::NOTHING; out.len()];
            let step = (PIECE / out.len()).max(1);
            for first in (0..depth).step_by(step) {
                let mut piece = block;
                piece.start[along] = first;
                piece.size[along] = step.min(depth - first);
                self.budget.check_time()?;
                if along == 2 && self.join_stored::<J>(piece, &mut sums) {
                    continue;
                }
                let mut voxels = scratch.take(piece.voxels());
                self.block(piece, &mut voxels, scratch);
                // Voxels that become one lie `stride` apart, so many of them in a row.
                let stride: usize = piece.size[..along].iter().product();
                let deep = piece.size[along];
                for (sums, voxels) in sums.chunks_exact_mut(stride).zip(voxels.chunks_exact(stride * deep)) {
                    voxels.chunks_exact(stride).for_each(|row| join::<J>(sums, row));
                }
                scratch.give(voxels);
            }
            out.iter_mut().zip(&sums).for_each(|(o, sum)| *o = J::value(*sum, depth));
            Ok(())
        })
    }

    /// Joins the slices of a piece, where what they come to can be told of whole numbers as they are stored: many in one instruction.
    /// The line that makes values of them keeps their order, or reverses it. Whether it did.
    fn join_stored<J: Join>(&self, piece: Region, sums: &mut [J::Sum]) -> bool {
        let largest = J::LARGEST.filter(|_| self.layers.is_empty());
        let part = self.storage.part(piece.start[2]..piece.start[2] + piece.size[2]);
        let Some((largest, (first, voxels))) = largest.zip(part) else { return false };
        let columns = Columns { size: self.geometry.size(), piece, first };
        match voxels {
            Voxels::U8(stored) => columns.join::<J, u8>(stored, largest, f32::from, sums),
            Voxels::U16 { stored, slope, intercept } => {
                columns.join::<J, u16>(stored, largest == (*slope >= 0.0), |v| f32::from(v) * slope + intercept, sums);
            }
            Voxels::I16 { stored, slope, intercept } => {
                columns.join::<J, i16>(stored, largest == (*slope >= 0.0), |v| f32::from(v) * slope + intercept, sums);
            }
            Voxels::F32(_) | Voxels::Runs(_) => return false,
        }
        true
    }

    /// Each slice becomes what `slices` of them around it come to; the grid stays. See `filters.slab`.
    ///
    /// Of an even number one more lies behind. At the ends, it is those that are there.
    pub fn slab(&self, how: Projection, slices: u32) -> Result<Self, VolumeError> {
        match how {
            Projection::Maximum => self.in_slabs::<Largest>(slices),
            Projection::Minimum => self.in_slabs::<Smallest>(slices),
            Projection::Mean => self.in_slabs::<Mean>(slices),
        }
    }

    fn in_slabs<J: Join>(&self, slices: u32) -> Result<Self, VolumeError> {
        let depth = self.geometry.size()[2];
        let slices = usize::try_from(slices).unwrap_or(usize::MAX);
        if slices == 0 {
            return Err(invalid("a slab of 0 slices"));
        }
        // More reach no farther than to both ends.
        let slices = slices.min(2 * depth);
        let (before, behind) = ((slices - 1) / 2, slices / 2);
        // Columns with at least as many slices as the slab.
        let edge = [(PIECE / (4 * slices)).clamp(1, 128), 1, slices.max(64)];
        self.computed(&self.geometry, edge, |block, out, scratch| {
            let first = block.start[2].saturating_sub(before);
            let end = (block.start[2] + block.size[2] + behind).min(depth);
            let columns = Region {
                start: [block.start[0], block.start[1], first],
                size: [block.size[0], block.size[1], end - first],
            };
            // Columns are as long as the volume where a slab is: too long, perhaps, for what need not be charged.
            let _charge = self.budget.charge(columns.voxels() as u64 * (4 + 2 * 8))?;
            let mut voxels = scratch.take(columns.voxels());
            self.block(columns, &mut voxels, scratch);
            let width = block.size[0];
            let runs = Runs::<J>::new(&voxels, width, slices);
            for (i, out) in out.chunks_exact_mut(width).enumerate() {
                let z = block.start[2] + i;
                let from = z.saturating_sub(before) - first;
                let to = (z + behind).min(depth - 1) - first;
                runs.window(from, to, out);
            }
            scratch.give(voxels);
            Ok(())
        })
    }
}

/// A piece of voxels that are stored together.
struct Columns {
    /// Of the volume.
    size: [usize; 3],
    piece: Region,
    /// The first slice that is stored there.
    first: usize,
}

impl Columns {
    /// Joins the values of the largest numbers, or of the smallest.
    fn join<J: Join, T: Copy + Ord>(&self, stored: &[T], largest: bool, value: impl Fn(T) -> f32, sums: &mut [J::Sum]) {
        let ([nx, ny, _], [x, y, z], [width, height, depth]) = (self.size, self.piece.start, self.piece.size);
        let row = |j: usize, k: usize| &stored[((z - self.first + k) * ny + y + j) * nx + x..][..width];
        let mut kept = Vec::with_capacity(width * height);
        (0..height).for_each(|j| kept.extend_from_slice(row(j, 0)));
        for k in 1..depth {
            for (j, kept) in kept.chunks_exact_mut(width).enumerate() {
                let pairs = kept.iter_mut().zip(row(j, k));
                if largest {
                    pairs.for_each(|(kept, v)| *kept = (*kept).max(*v));
                } else {
                    pairs.for_each(|(kept, v)| *kept = (*kept).min(*v));
                }
            }
        }
        sums.iter_mut().zip(kept).for_each(|(sum, v)| *sum = J::both(*sum, J::of(value(v))));
    }
}

fn join<J: Join>(sums: &mut [J::Sum], row: &[f32]) {
    for (s, v) in sums.iter_mut().zip(row) {
        *s = J::both(*s, J::of(*v));
    }
}

/// For each row, what those from the beginning of its run come to, and those to the end of it: a window as long as a run is the
/// end of one and the beginning of the next (van Herk 1992). So each voxel is looked at three times, however many slices a slab
/// has, and no sum takes away what it once added.
struct Runs<'v, J: Join> {
    voxels: &'v [f32],
    width: usize,
    length: usize,
    from_begin: Vec<J::Sum>,
    to_end: Vec<J::Sum>,
}

impl<'v, J: Join> Runs<'v, J> {
    fn new(voxels: &'v [f32], width: usize, length: usize) -> Self {
        let rows = voxels.len() / width;
        let (mut from_begin, mut to_end) = (vec![J::NOTHING; voxels.len()], vec![J::NOTHING; voxels.len()]);
        let row = |z: usize| z * width..(z + 1) * width;
        for z in 0..rows {
            let (earlier, rest) = from_begin.split_at_mut(z * width);
            let joined = &mut rest[..width];
            if z % length > 0 {
                joined.copy_from_slice(&earlier[row(z - 1)]);
            }
            join::<J>(joined, &voxels[row(z)]);
        }
        for z in (0..rows).rev() {
            let (head, later) = to_end.split_at_mut((z + 1) * width);
            let joined = &mut head[z * width..];
            if (z + 1) % length > 0 && z + 1 < rows {
                joined.copy_from_slice(&later[..width]);
            }
            join::<J>(joined, &voxels[row(z)]);
        }
        Self { voxels, width, length, from_begin, to_end }
    }

    /// What rows `from..=to` come to, no more of them than a run has.
    fn window(&self, from: usize, to: usize, out: &mut [f32]) {
        let count = to + 1 - from;
        let row = |z: usize| z * self.width..(z + 1) * self.width;
        let write = |out: &mut [f32], sums: &[J::Sum]| {
            out.iter_mut().zip(sums).for_each(|(o, sum)| *o = J::value(*sum, count));
        };
        if from / self.length != to / self.length {
            for ((o, a), b) in out.iter_mut().zip(&self.to_end[row(from)]).zip(&self.from_begin[row(to)]) {
                *o = J::value(J::both(*a, *b), count);
            }
        } else if from.is_multiple_of(self.length) {
            write(out, &self.from_begin[row(to)]);
        } else if (to + 1).is_multiple_of(self.length) || (to + 1) * self.width == self.voxels.len() {
            write(out, &self.to_end[row(from)]);
        } else {
            let mut sums = vec![J::NOTHING; self.width];
            (from..=to).for_each(|z| join::<J>(&mut sums, &self.voxels[row(z)]));
            write(out, &sums);
        }
    }
}
