//! Where the body is, and the breast: what a module leaves out of its statistics, or a network out of its sight.

use rayon::prelude::*;

use super::super::storage::Voxels;
use super::super::{Volume, VolumeError, invalid};
use super::Morphology;

/// Thinner than twice this goes: the table, its covers, clothes.
const BODY_OPENING_MM: f64 = 3.0;
/// The same for marks and the scale of a mammogram that touch the breast.
const BREAST_OPENING_MM: f64 = 1.0;

/// Of a slice in which background is looked for from its border inwards.
const IN_MASK: u8 = 1;
const ENCLOSED: u8 = 0;
const OUTSIDE: u8 = 2;

impl Volume {
    /// The body, 1, and what is around it, 0. See `filters.body-mask`.
    pub fn body_mask(&self, above: f32) -> Result<Self, VolumeError> {
        if above.is_nan() {
            return Err(invalid("the value above which there is body is NaN"));
        }
        self.threshold(above, f32::INFINITY)?.morphology(Morphology::Open, BODY_OPENING_MM)?.keep_largest(1)?.filled()
    }

    /// The breast of a mammogram, 1, and what is around it, 0. See `filters.breast-mask`.
    pub fn breast_mask(&self) -> Result<Self, VolumeError> {
        let above = self.otsu()?;
        // Between the two kinds that Otsu's threshold parts, skin and fat lie with the background: what is at least half as
        // bright is breast.
        let low = self.percentiles(&[1.0])?;
        let low = low.first().copied().unwrap_or(above);
        let mask = self.threshold(low + (above - low) / 2.0, f32::INFINITY)?;
        mask.morphology(Morphology::Open, BREAST_OPENING_MM)?.keep_largest(1)?.filled()
    }

    /// A mask, with what it encloses in each slice: background from which no way along x and y leads to the border.
    fn filled(&self) -> Result<Self, VolumeError> {
        let [nx, ny, _] = self.geometry.size();
        let charge = self.budget.charge(self.geometry.voxels() as u64)?;
        let mut voxels = vec![0u8; self.geometry.voxels()];
        voxels.par_chunks_mut(nx * ny).enumerate().try_for_each(|(z, slice)| {
            let _charge = self.budget.charge((nx * ny * size_of::<u16>()) as u64)?;
            let mut labels = vec![0u16; nx * ny];
            self.label_slice(z, &mut labels)?;
            for (v, label) in slice.iter_mut().zip(&labels) {
                *v = if *label == 0 { ENCLOSED } else { IN_MASK };
            }
            drop(labels);
            self.find_outside(slice, nx)?;
            slice.iter_mut().for_each(|v| *v = u8::from(*v != OUTSIDE));
            Ok::<(), VolumeError>(())
        })?;
        Ok(self.made(self.geometry.clone(), Voxels::U8(voxels), charge))
    }

    /// Marks background that reaches the border: down and to the right, up and to the left, until nothing changes. Few rounds
    /// do for what is found in bodies, and nothing but the slice is held.
    fn find_outside(&self, slice: &mut [u8], nx: usize) -> Result<(), VolumeError> {
        let count = slice.len();
        let at_border = |i: usize| i < nx || i + nx >= count || i.is_multiple_of(nx) || (i + 1).is_multiple_of(nx);
        for (_, v) in slice.iter_mut().enumerate().filter(|(i, v)| **v == ENCLOSED && at_border(*i)) {
            *v = OUTSIDE;
        }
        loop {
            self.budget.check_time()?;
            let mut changed = false;
            let mut look = |slice: &mut [u8], i: usize, neighbours: [Option<usize>; 2]| {
                let reached = |n: usize| slice.get(n) == Some(&OUTSIDE);
                if slice[i] == ENCLOSED && neighbours.into_iter().flatten().any(reached) {
                    slice[i] = OUTSIDE;
                    changed = true;
                }
            };
            (0..count).for_each(|i| look(slice, i, [i.checked_sub(1), i.checked_sub(nx)]));
            (0..count).rev().for_each(|i| look(slice, i, [Some(i + 1), Some(i + nx)]));
            if !changed {
                return Ok(());
            }
        }
    }
}
