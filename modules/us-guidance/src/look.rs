//! Numbers of one frame.

/// Darker than this is nothing: 0 to 255.
const BLACK: u8 = 8;
/// As bright as this is cut off.
const WHITE: u8 = 250;
/// A column is dark when its mean below the upper third is under this.
const DARK_COLUMN: u32 = 12;
/// Every so many pixels along both axes are looked at.
const STEP: usize = 2;
/// Rows and columns of the small image.
const SIDE: usize = 32;

/// What a frame looks like.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Look {
    /// The part of pixels that are not black.
    pub(crate) used: f32,
    /// Mean brightness of these, 0 to 255.
    pub(crate) mean: f32,
    /// The part of all pixels that are as bright as can be.
    pub(crate) clipped: f32,
    /// The part of columns that are dark below their upper third: no contact, or a shadow.
    pub(crate) shadow: f32,
    /// Mean step between neighbours along a row, in parts of the mean brightness.
    pub(crate) sharpness: f32,
}

impl Look {
    /// At pixels row after row.
    pub(crate) fn at(pixels: &[u8], columns: usize) -> Self {
        let rows = pixels.len() / columns.max(1);
        let (mut seen, mut used, mut sum, mut white, mut steps) = (0u32, 0u32, 0u64, 0u32, 0u64);
        let mut below = vec![0u32; columns.div_ceil(STEP)];
        let mut rows_below = 0u32;
        for (row, line) in pixels.chunks_exact(columns.max(1)).enumerate().step_by(STEP) {
            let low = row * 3 >= rows;
            rows_below += u32::from(low);
            let mut last = line[0];
            for (sum_below, &pixel) in below.iter_mut().zip(line.iter().step_by(STEP)) {
                seen += 1;
                if pixel >= BLACK {
                    used += 1;
                    sum += u64::from(pixel);
                }
                white += u32::from(pixel >= WHITE);
                steps += u64::from(pixel.abs_diff(last));
                last = pixel;
                *sum_below += if low { u32::from(pixel) } else { 0 };
            }
        }
        if used == 0 {
            return Self::default();
        }
        let part = |count: u32| count as f32 / seen as f32;
        let dark = below.iter().filter(|sum| **sum < DARK_COLUMN * rows_below).count();
        let mean = sum as f32 / used as f32;
        Self {
            used: part(used),
            mean,
            clipped: part(white),
            shadow: dark as f32 / below.len() as f32,
            sharpness: steps as f32 / used as f32 / mean,
        }
    }
}

/// A frame made small: means of blocks, for comparing it with another.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Small([u8; SIDE * SIDE]);

impl Small {
    /// Of pixels row after row.
    pub(crate) fn of(pixels: &[u8], columns: usize) -> Self {
        let columns = columns.max(1);
        let rows = pixels.len() / columns;
        let (mut sums, mut counts) = ([0u32; SIDE * SIDE], [0u32; SIDE * SIDE]);
        for (row, line) in pixels.chunks_exact(columns).enumerate().step_by(STEP) {
            let at = row * SIDE / rows.max(1) * SIDE;
            for (column, &pixel) in line.iter().enumerate().step_by(STEP) {
                let block = at + column * SIDE / columns;
                sums[block] += u32::from(pixel);
                counts[block] += 1;
            }
        }
        let mut means = [0; SIDE * SIDE];
        for (mean, (sum, count)) in means.iter_mut().zip(sums.into_iter().zip(counts)) {
            *mean = (sum / count.max(1)) as u8;
        }
        Self(means)
    }

    /// Mean difference to another, 0 to 1.
    pub(crate) fn change(&self, other: &Self) -> f32 {
        let differences = self.0.iter().zip(&other.0).map(|(a, b)| u32::from(a.abs_diff(*b)));
        differences.sum::<u32>() as f32 / (SIDE * SIDE * 255) as f32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_a_frame_worked_out_by_hand() {
        // 8 × 6: the left half 100, the right half 255; the lowest rows of the last two columns black.
        let pixels: Vec<u8> = (0..48)
            .map(|i| match (i % 8, i / 8) {
                (6.., 2..) => 0,
                (0..4, _) => 100,
                _ => 255,
            })
            .collect();
        let look = Look::at(&pixels, 8);
        // Columns 0, 2, 4, 6 of rows 0, 2, 4: six of 100, four of 255, two black.
        assert_eq!((look.used, look.clipped), (10.0 / 12.0, 4.0 / 12.0));
        assert_eq!(look.mean, (600.0 + 1020.0) / 10.0);
        assert_eq!(look.shadow, 0.25);
        assert_eq!(look.sharpness, (155.0 * 3.0 + 255.0 * 2.0) / 10.0 / look.mean);
        assert_eq!(Look::at(&[0; 48], 8), Look::default());
    }

    #[test]
    fn change_is_0_for_the_same_and_1_for_the_opposite() {
        let (black, white) = (Small::of(&[0; 64 * 64], 64), Small::of(&[255; 64 * 64], 64));
        assert_eq!((black.change(&black), black.change(&white)), (0.0, 1.0));
    }
}
