//! Masks of one bit a voxel, and balls of voxels: 64 voxels are joined at once.

use rayon::prelude::*;

use super::super::evaluate::{Scratch, blocks};
use super::super::storage::Voxels;
use super::super::{Volume, VolumeError, invalid};
use crate::geometry::{Geometry, Region, Vec3};
use crate::memory::{Budget, Charge};

/// Voxels that a ball reaches at most along each axis.
const REACH_MAX: usize = 500;
/// Words that are joined before the job's time is looked at again.
const WORDS_MAX: usize = 1 << 20;

/// x is in the bits of a row, lowest first; bits behind the last voxel are 0.
pub(super) struct Mask {
    size: [usize; 3],
    /// Words of a row.
    words: usize,
    rows: Vec<u64>,
    _charge: Charge,
}

/// The voxels whose centres lie within a radius of one.
pub(super) struct Ball {
    /// How far it reaches along each axis.
    pub(super) reach: [usize; 3],
    /// For each half width of a row of it, from 0: where such rows lie, y and z.
    rows: Vec<Vec<[isize; 2]>>,
}

impl Ball {
    /// Of `radius` mm among voxels of `spacing` mm, as far as it matters in a volume of `size`. What lies at the radius but
    /// for a millionth of it counts: rounding must not decide.
    pub(super) fn new(radius: f64, spacing: Vec3, size: [usize; 3]) -> Result<Self, VolumeError> {
        if !(radius > 0.0 && radius.is_finite()) {
            return Err(invalid(format!("a radius of {radius} mm is not positive and finite")));
        }
        let radius = radius * (1.0 + 1e-6);
        // Casts saturate.
        let reach = [0, 1, 2].map(|a| ((radius / spacing[a]) as usize).min(size[a] - 1));
        if reach.iter().any(|&r| r > REACH_MAX) {
            return Err(invalid(format!("a radius of {radius:.3} mm reaches over more than {REACH_MAX} voxels")));
        }
        let mut rows = vec![Vec::new(); reach[0] + 1];
        let all = |reach: usize| -(reach as isize)..=reach as isize;
        for z in all(reach[2]) {
            for y in all(reach[1]) {
                let left = radius.powi(2) - (y as f64 * spacing[1]).powi(2) - (z as f64 * spacing[2]).powi(2);
                if left >= 0.0 {
                    rows[((left.sqrt() / spacing[0]) as usize).min(reach[0])].push([y, z]);
                }
            }
        }
        Ok(Self { reach, rows })
    }
}

impl Mask {
    fn empty(size: [usize; 3], budget: &Budget) -> Result<Self, VolumeError> {
        let words = size[0].div_ceil(64);
        let count = words * size[1] * size[2];
        let charge = budget.charge(count as u64 * 8)?;
        Ok(Self { size, words, rows: vec![0; count], _charge: charge })
    }

    /// A volume of zeros and ones, with `margin` voxels more on each side, which are those of the edge.
    pub(super) fn new(volume: &Volume, margin: [usize; 3]) -> Result<Self, VolumeError> {
        let size = volume.geometry.size();
        let grown = [0, 1, 2].map(|a| size[a] + 2 * margin[a]);
        // As for every grid.
        Geometry::new(grown, [1.0; 3], [0.0; 3], [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]])?;
        let mut mask = Self::empty(grown, &volume.budget)?;
        let (words, rows_in_slice) = (mask.words, grown[1]);
        let read = |(z, slice): (usize, &mut [u64])| {
            let (mut scratch, mut labels) = (Scratch::default(), Vec::new());
            for block in blocks(Region { start: [0, 0, z], size: [size[0], size[1], 1] }) {
                volume.budget.check_time()?;
                labels.resize(block.voxels(), 0);
                let is_mask = volume.label_block(block, &mut labels, &mut scratch).is_ok();
                if !is_mask || labels.iter().any(|l| *l > 1) {
                    return Err(invalid("the volume is no mask: it must hold 0 and 1 alone"));
                }
                for (i, labels) in labels.chunks_exact(block.size[0]).enumerate() {
                    let row = &mut slice[(block.start[1] + i + margin[1]) * words..][..words];
                    for (x, _) in labels.iter().enumerate().filter(|(_, l)| **l == 1) {
                        let x = x + block.start[0] + margin[0];
                        row[x / 64] |= 1 << (x % 64);
                    }
                }
            }
            Ok::<(), VolumeError>(())
        };
        let inner = mask.rows.chunks_exact_mut(words * rows_in_slice).skip(margin[2]).take(size[2]);
        inner.enumerate().collect::<Vec<_>>().into_par_iter().try_for_each(read)?;
        mask.grow_edges(margin);
        Ok(mask)
    }

    /// Gives the margins the voxels of the edge.
    fn grow_edges(&mut self, margin: [usize; 3]) {
        let [nx, ny, nz] = self.size;
        let (words, slice) = (self.words, self.words * ny);
        if margin[0] > 0 {
            self.rows.par_chunks_mut(words).for_each(|row| {
                for (edge, outside) in [(margin[0], 0..margin[0]), (nx - margin[0] - 1, nx - margin[0]..nx)] {
                    if row[edge / 64] >> (edge % 64) & 1 == 1 {
                        outside.for_each(|x| row[x / 64] |= 1 << (x % 64));
                    }
                }
            });
        }
        if margin[1] > 0 {
            self.rows.par_chunks_mut(slice).for_each(|rows| {
                for (edge, outside) in [(margin[1], 0..margin[1]), (ny - margin[1] - 1, ny - margin[1]..ny)] {
                    outside.for_each(|y| rows.copy_within(edge * words..(edge + 1) * words, y * words));
                }
            });
        }
        for (edge, outside) in [(margin[2], 0..margin[2]), (nz - margin[2] - 1, nz - margin[2]..nz)] {
            outside.for_each(|z| self.rows.copy_within(edge * slice..(edge + 1) * slice, z * slice));
        }
    }

    /// Where a mask of margins lies on the grid of `volume`, as bytes.
    pub(super) fn volume(&self, volume: &Volume, margin: [usize; 3]) -> Result<Volume, VolumeError> {
        let grid = volume.geometry.clone();
        let [nx, ny, _] = grid.size();
        let charge = volume.budget.charge(grid.voxels() as u64)?;
        let mut voxels = vec![0u8; grid.voxels()];
        voxels.par_chunks_mut(nx).enumerate().for_each(|(i, out)| {
            let row = self.row(i % ny + margin[1], i / ny + margin[2]);
            for (x, o) in out.iter_mut().enumerate() {
                let x = x + margin[0];
                *o = (row[x / 64] >> (x % 64) & 1) as u8;
            }
        });
        Ok(volume.made(grid, Voxels::U8(voxels), charge))
    }

    fn row(&self, y: usize, z: usize) -> &[u64] {
        &self.rows[(z * self.size[1] + y) * self.words..][..self.words]
    }

    /// The voxels that are not in it.
    pub(super) fn complement(mut self) -> Self {
        let (words, last) = (self.words, self.size[0] % 64);
        let behind = if last == 0 { u64::MAX } else { (1 << last) - 1 };
        self.rows.par_chunks_mut(words).for_each(|row| {
            row.iter_mut().for_each(|word| *word = !*word);
            row[words - 1] &= behind;
        });
        self
    }

    /// All voxels that a ball around one of it reaches, inside the volume.
    pub(super) fn dilated(&self, ball: &Ball, budget: &Budget) -> Result<Self, VolumeError> {
        let mut grown = Self::empty(self.size, budget)?;
        let [_, ny, nz] = self.size;
        let region = Region { start: [0; 3], size: [1, ny, nz] };
        let part = super::parts(region.size, nz);
        // What a row costs: each of its widths is made once, and joined at each place.
        let joins = ball.rows.iter().map(|places| places.len() + 1).sum::<usize>();
        let cost = joins.saturating_mul(self.words);
        super::parts_of(region, part, self.words, &mut grown.rows).into_par_iter().try_for_each(|(part, out)| {
            let mut wide = vec![0; self.words];
            let mut wider = vec![0; self.words];
            let mut joined = 0usize;
            let reached = |a: usize, n: usize| {
                part.start[a].saturating_sub(ball.reach[a])..(part.start[a] + part.size[a] + ball.reach[a]).min(n)
            };
            for z in reached(2, nz) {
                budget.check_time()?;
                for y in reached(1, ny).filter(|y| self.row(*y, z).iter().any(|word| *word != 0)) {
                    wide.copy_from_slice(self.row(y, z));
                    for (width, places) in ball.rows.iter().enumerate() {
                        if width > 0 {
                            widened(&wide, self.size[0], &mut wider);
                            std::mem::swap(&mut wide, &mut wider);
                        }
                        join(&wide, places, [y, z], part, out);
                    }
                    joined = joined.saturating_add(cost);
                    if joined > WORDS_MAX {
                        budget.check_time()?;
                        joined = 0;
                    }
                }
            }
            Ok::<(), VolumeError>(())
        })?;
        Ok(grown)
    }
}

/// Adds a row to those rows of `part` that lie `places` from `at`.
fn join(row: &[u64], places: &[[isize; 2]], at: [usize; 2], part: Region, out: &mut [u64]) {
    for place in places {
        // A row before the first is as far away as one behind the last.
        let [y, z] = [0, 1].map(|a| at[a].wrapping_add_signed(place[a]).wrapping_sub(part.start[a + 1]));
        if y < part.size[1] && z < part.size[2] {
            let to = &mut out[(z * part.size[1] + y) * row.len()..][..row.len()];
            for (to, from) in to.iter_mut().zip(row) {
                *to |= from;
            }
        }
    }
}

/// A row with one more voxel on each side of each.
fn widened(row: &[u64], voxels: usize, out: &mut [u64]) {
    for (i, o) in out.iter_mut().enumerate() {
        let before = i.checked_sub(1).map_or(0, |i| row[i] >> 63);
        let behind = row.get(i + 1).map_or(0, |next| next << 63);
        *o = row[i] | row[i] << 1 | before | row[i] >> 1 | behind;
    }
    if !voxels.is_multiple_of(64)
        && let Some(last) = out.last_mut()
    {
        *last &= (1 << (voxels % 64)) - 1;
    }
}
