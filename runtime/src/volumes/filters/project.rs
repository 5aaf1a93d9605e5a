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

    /// Joins the slices of a piece, where what they come to can be told of whole numbers as they are stored, many at once:
    /// the line that makes values of them keeps their order, or reverses it. Whether it did.
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

    /// Slices are in runs as long as a slab is thick, from the first slice of the volume on. A window of as many is the end
    /// of one run and the beginning of the next (van Herk 1992): each voxel is looked at three times, however many slices a
    /// slab has, and no sum takes away what it once added.
    fn in_slabs<J: Join>(&self, slices: u32) -> Result<Self, VolumeError> {
        let depth = self.geometry.size()[2];
        let slices = usize::try_from(slices).unwrap_or(usize::MAX);
        if slices == 0 {
            return Err(invalid("a slab of 0 slices"));
        }
        // More reach no farther than to both ends.
        let slices = slices.min(2 * depth);
        let (before, behind) = ((slices - 1) / 2, slices / 2);
        // Rows that lie side by side are read together; two runs of slices stay in the second-level cache.
        let (nx, width) = (self.geometry.size()[0], (PIECE / (4 * slices)).clamp(1, 2048));
        let edge = [nx.min(width), (width / nx).max(1), slices.max(64)];
        let window = |z: usize| (z.saturating_sub(before), (z + behind).min(depth - 1));
        self.computed(&self.geometry, edge, |block, out, scratch| {
            let (begin, stop) = (block.start[2], block.start[2] + block.size[2]);
            let (first, end) = (begin.saturating_sub(before), (stop + behind).min(depth));
            let width = block.size[0] * block.size[1];
            let held = slices.min(end - first) * width;
            // A run is as long as the volume where a slab is: too long, perhaps, for what need not be charged.
            let _charge = self.budget.charge((held * (4 + size_of::<J::Sum>())) as u64)?;
            let mut voxels = scratch.take(held);
            let (mut from_begin, mut to_end) = (vec![J::NOTHING; width], vec![J::NOTHING; held]);
            let (mut z, mut earlier, mut run) = (begin, first, first);
            while run < end {
                let next = (run / slices + 1).saturating_mul(slices).min(end);
                let start = [block.start[0], block.start[1], run];
                let piece = Region { start, size: [block.size[0], block.size[1], next - run] };
                let voxels = &mut voxels[..piece.voxels()];
                self.block(piece, voxels, scratch);
                from_begin.fill(J::NOTHING);
                for (to, row) in (run..).zip(voxels.chunks_exact(width)) {
                    join::<J>(&mut from_begin, row);
                    while z < stop && window(z).1 == to && window(z).0 <= run {
                        let (from, out) = (window(z).0, &mut out[(z - begin) * width..][..width]);
                        if from == run {
                            write::<J>(&from_begin, to + 1 - from, out);
                        } else {
                            let ends = &to_end[(from - earlier) * width..][..width];
                            for ((o, a), b) in out.iter_mut().zip(ends).zip(&from_begin) {
                                *o = J::value(J::both(*a, *b), to + 1 - from);
                            }
                        }
                        z += 1;
                    }
                }
                for (i, row) in voxels.chunks_exact(width).enumerate().rev() {
                    let (head, later) = to_end.split_at_mut((i + 1) * width);
                    let joined = head[i * width..].iter_mut().zip(row);
                    if run + i + 1 < next {
                        joined.zip(&later[..width]).for_each(|((o, v), l)| *o = J::both(*l, J::of(*v)));
                    } else {
                        joined.for_each(|(o, v)| *o = J::of(*v));
                    }
                }
                // Those that the end of the volume cuts off.
                while z < stop && window(z).1 < next {
                    let (from, to) = window(z);
                    let ends = &to_end[(from - run) * width..][..width];
                    write::<J>(ends, to + 1 - from, &mut out[(z - begin) * width..][..width]);
                    z += 1;
                }
                (earlier, run) = (run, next);
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

fn write<J: Join>(sums: &[J::Sum], count: usize, out: &mut [f32]) {
    out.iter_mut().zip(sums).for_each(|(o, sum)| *o = J::value(*sum, count));
}
