//! Voxels out of those around them: one voxel at a time, each from all that it depends on.

use super::grid::{Volume, invalid};
use crate::types::{Axis, Extent, Failure, Geometry, Morphology, Projection, Vec3};

type Index = [u32; 3];

impl Volume {
    /// The voxel at an index, or the one of the edge closest to it.
    fn clamped(&self, index: [i64; 3]) -> f32 {
        let size = self.geometry.size;
        self.at([0, 1, 2].map(|a| index[a].clamp(0, i64::from(size[a]) - 1) as u32))
    }

    /// The voxels of a box of `radius` around one.
    fn around(&self, index: Index, radius: [i64; 3]) -> Vec<f32> {
        let mut found = Vec::new();
        for z in -radius[2]..=radius[2] {
            for y in -radius[1]..=radius[1] {
                for x in -radius[0]..=radius[0] {
                    found.push(self.clamped([0, 1, 2].map(|a| i64::from(index[a]) + [x, y, z][a])));
                }
            }
        }
        found
    }

    fn finite(&self) -> Result<Vec<f64>, Failure> {
        let mut finite: Vec<f64> = self.voxels.iter().filter(|v| v.is_finite()).map(|v| f64::from(*v)).collect();
        finite.sort_by(f64::total_cmp);
        if finite.is_empty() { invalid("no voxel is finite") } else { Ok(finite) }
    }

    /// Counts in `bins` bins from the smallest to the largest, the lower end of the first, and their width.
    fn histogram(&self, bins: usize) -> Result<(Vec<u64>, f64, f64), Failure> {
        let finite = self.finite()?;
        let (low, high) = (finite[0], finite[finite.len() - 1]);
        let (low, width) = if high > low { (low, (high - low) / bins as f64) } else { (low - 0.5, 1.0 / bins as f64) };
        let mut counts = vec![0; bins];
        finite.iter().for_each(|v| counts[(((v - low) / width) as usize).min(bins - 1)] += 1);
        Ok((counts, low, width))
    }
}

pub(crate) fn gaussian(of: &Volume, sigma: Vec3) -> Result<Volume, Failure> {
    let mut smooth = of.clone();
    for axis in 0..3 {
        let sigma = sigma[axis] / of.geometry.spacing[axis];
        if !(0.0..=100.0).contains(&sigma) {
            return invalid(format!("sigma of {sigma} voxels"));
        }
        let radius = (4.0 * sigma + 0.5) as i64;
        let weight = |k: i64| if k == 0 { 1.0 } else { (-0.5 * (k as f64 / sigma).powi(2)).exp() };
        let sum: f64 = (-radius..=radius).map(weight).sum();
        smooth = Volume::from_fn(of.geometry, |index| {
            let value = |k: i64| {
                let mut at = index.map(i64::from);
                at[axis] += k;
                f64::from(smooth.clamped(at)) * weight(k)
            };
            ((-radius..=radius).map(value).sum::<f64>() / sum) as f32
        })?;
    }
    Ok(smooth)
}

pub(crate) fn median(of: &Volume, radius: Extent) -> Result<Volume, Failure> {
    let side = |a: usize| 2 * u64::from(radius[a]) + 1;
    if (0..3).fold(1u64, |n, a| n.saturating_mul(side(a))) > 4096 {
        return invalid(format!("a box of radius {radius:?} has more than 4096 voxels"));
    }
    Volume::from_fn(of.geometry, |index| {
        let mut values = of.around(index, [0, 1, 2].map(|a| radius[a].into()));
        values.sort_by(|a, b| a.partial_cmp(b).unwrap_or_else(|| a.is_nan().cmp(&b.is_nan())));
        values[values.len() / 2]
    })
}

pub(crate) fn gradient_magnitude(of: &Volume) -> Result<Volume, Failure> {
    Volume::from_fn(of.geometry, |index| {
        let slope = |axis: usize| {
            let (mut before, mut behind) = (index.map(i64::from), index.map(i64::from));
            before[axis] -= 1;
            behind[axis] += 1;
            f64::from(of.clamped(behind) - of.clamped(before)) / (2.0 * of.geometry.spacing[axis])
        };
        (0..3).map(|axis| slope(axis).powi(2)).sum::<f64>().sqrt() as f32
    })
}

pub(crate) fn morphology(of: &Volume, operation: Morphology, radius: f64) -> Result<Volume, Failure> {
    if !(radius > 0.0 && radius.is_finite()) {
        return invalid(format!("a ball of {radius} mm"));
    }
    if of.voxels.iter().any(|v| *v != 0.0 && *v != 1.0) {
        return invalid("the volume is no mask of 0 and 1");
    }
    let (size, spacing) = (of.geometry.size, of.geometry.spacing);
    let limit = |a: usize| if size[a] == 1 { 0.0 } else { (radius * (1.0 + 1e-6) / spacing[a]).floor() };
    if (0..3).any(|a| limit(a) > 500.0) {
        return invalid(format!("a ball of {radius} mm reaches over more than 500 voxels"));
    }
    let reach = [0, 1, 2].map(|a| limit(a) as i64);
    let within = |[x, y, z]: [i64; 3]| {
        let squares = [x, y, z].into_iter().enumerate().map(|(a, i)| (i as f64 * spacing[a]).powi(2));
        squares.sum::<f64>() <= (radius * (1.0 + 1e-6)).powi(2)
    };
    // Whether any voxel of the ball around a place is one that `is` says.
    let any = |at: [i64; 3], is: &dyn Fn([i64; 3]) -> bool| {
        let all = |a: usize| -reach[a]..=reach[a];
        all(2).any(|z| all(1).any(|y| all(0).any(|x| within([x, y, z]) && is([at[0] + x, at[1] + y, at[2] + z]))))
    };
    let inside = |at: [i64; 3]| (0..3).all(|a| (0..i64::from(size[a])).contains(&at[a]));
    let set = |at: [i64; 3]| of.clamped(at) == 1.0;
    let result = |is: &dyn Fn([i64; 3]) -> bool| {
        Volume::from_fn(of.geometry, |index| f32::from(u8::from(is(index.map(i64::from)))))
    };
    let stays = |at: [i64; 3]| !any(at, &|at| inside(at) && !set(at));
    match operation {
        Morphology::Dilate => result(&|at| any(at, &|at| inside(at) && set(at))),
        Morphology::Erode => result(&stays),
        Morphology::Open => result(&|at| any(at, &|at| inside(at) && stays(at))),
        Morphology::Close => result(&|at| !any(at, &|at| !any(at, &set))),
    }
}

fn reduced(how: Projection, values: impl Iterator<Item = f32>) -> f32 {
    let values: Vec<f32> = values.collect();
    match how {
        Projection::Maximum => values.into_iter().fold(f32::NAN, f32::max),
        Projection::Minimum => values.into_iter().fold(f32::NAN, f32::min),
        Projection::Mean => (values.iter().map(|v| f64::from(*v)).sum::<f64>() / values.len() as f64) as f32,
    }
}

pub(crate) fn project(of: &Volume, along: Axis, how: Projection) -> Result<Volume, Failure> {
    let Geometry { mut size, mut spacing, .. } = of.geometry;
    let mut middle = Vec3::new(0.0, 0.0, 0.0);
    let (depth, n, s, m) = match along {
        Axis::X => (size.x, &mut size.x, &mut spacing.x, &mut middle.x),
        Axis::Y => (size.y, &mut size.y, &mut spacing.y, &mut middle.y),
        Axis::Z => (size.z, &mut size.z, &mut spacing.z, &mut middle.z),
    };
    (*n, *s, *m) = (1, *s * f64::from(depth), f64::from(depth - 1) / 2.0);
    let grid = Geometry { size, spacing, origin: of.geometry.to_patient(middle), ..of.geometry };
    Volume::from_fn(grid, |index| {
        let at = |i: u32| match along {
            Axis::X => [i, index[1], index[2]],
            Axis::Y => [index[0], i, index[2]],
            Axis::Z => [index[0], index[1], i],
        };
        reduced(how, (0..depth).map(|i| of.at(at(i))))
    })
}

pub(crate) fn slab(of: &Volume, how: Projection, slices: u32) -> Result<Volume, Failure> {
    if slices == 0 {
        return invalid("a slab of 0 slices");
    }
    Volume::from_fn(of.geometry, |[x, y, z]| {
        let last = z.saturating_add(slices / 2).min(of.geometry.size.z - 1);
        reduced(how, (z.saturating_sub((slices - 1) / 2)..=last).map(|z| of.at([x, y, z])))
    })
}

pub(crate) fn percentiles(of: &Volume, at: &[f32]) -> Result<Vec<f32>, Failure> {
    if at.is_empty() || at.len() > 100 || !at.iter().all(|p| (0.0..=100.0).contains(p)) {
        return invalid("percentiles are 1 to 100 numbers from 0 to 100");
    }
    let sorted = of.finite()?;
    let value = |p: &f32| {
        let place = f64::from(*p) / 100.0 * (sorted.len() - 1) as f64;
        let (low, high) = (sorted[place.floor() as usize], sorted[place.ceil() as usize]);
        (low + (high - low) * place.fract()) as f32
    };
    Ok(at.iter().map(value).collect())
}

pub(crate) fn normalise(of: &Volume, low: f32, high: f32) -> Result<Volume, Failure> {
    if low.is_nan() || high.is_nan() || low >= high {
        return invalid(format!("percentile {low} is not below {high}"));
    }
    let found = percentiles(of, &[low, high])?;
    let (a, b) = (found[0], found[1]);
    of.map(|v| if b > a { ((v - a) / (b - a)).clamp(0.0, 1.0) } else { 0.0 })
}

pub(crate) fn equalise(of: &Volume, bins: u32) -> Result<Volume, Failure> {
    if !(1..=65536).contains(&bins) {
        return invalid(format!("{bins} bins"));
    }
    let (counts, first, width) = of.histogram(bins as usize)?;
    let total = counts.iter().sum::<u64>() as f64;
    let below = |bin: usize| counts[..=bin].iter().sum::<u64>() as f64 / total;
    of.map(|v| {
        if v.is_nan() {
            return v;
        }
        let at = ((f64::from(v) - first) / width - 0.5).clamp(0.0, f64::from(bins - 1));
        let (low, high) = (below(at.floor() as usize), below(at.ceil() as usize));
        (low + (high - low) * at.fract()) as f32
    })
}

pub(crate) fn body_mask(of: &Volume, above: f32) -> Result<Volume, Failure> {
    let found = of.threshold(above, f32::INFINITY)?;
    filled(&morphology(&found, Morphology::Open, 3.0)?.keep_largest(1)?)
}

pub(crate) fn breast_mask(of: &Volume) -> Result<Volume, Failure> {
    let low = percentiles(of, &[1.0])?[0];
    let above = otsu(of)?;
    let found = of.threshold(low + (above - low) / 2.0, f32::INFINITY)?;
    filled(&morphology(&found, Morphology::Open, 1.0)?.keep_largest(1)?)
}

/// The middle of the bin, of 256, up to which the variance between what lies below and above is largest.
fn otsu(of: &Volume) -> Result<f32, Failure> {
    let (counts, first, width) = of.histogram(256)?;
    let middle = |bin: usize| first + (bin as f64 + 0.5) * width;
    let weight = |bins: &[usize]| bins.iter().map(|b| counts[*b] as f64).sum::<f64>();
    let mean = |bins: &[usize]| bins.iter().map(|b| counts[*b] as f64 * middle(*b)).sum::<f64>() / weight(bins);
    let mut best = (f64::NEG_INFINITY, 0);
    let all: Vec<usize> = (0..256).collect();
    for bin in 0..255 {
        let (below, above) = all.split_at(bin + 1);
        let between = weight(below) * weight(above) * (mean(below) - mean(above)).powi(2);
        if between > best.0 {
            best = (between, bin);
        }
    }
    Ok(middle(best.1) as f32)
}

/// With what the mask encloses in each slice.
fn filled(mask: &Volume) -> Result<Volume, Failure> {
    let Extent { x, y, z } = mask.geometry.size;
    let mut outside = vec![false; mask.voxels.len()];
    let place = |[i, j, k]: Index| i as usize + x as usize * (j as usize + y as usize * k as usize);
    let mut open: Vec<Index> = Vec::new();
    for k in 0..z {
        open.extend((0..x).flat_map(|i| [[i, 0, k], [i, y - 1, k]]));
        open.extend((0..y).flat_map(|j| [[0, j, k], [x - 1, j, k]]));
    }
    while let Some(at) = open.pop() {
        if mask.at(at) == 0.0 && !std::mem::replace(&mut outside[place(at)], true) {
            let [i, j, k] = at;
            open.extend([[i.saturating_sub(1), j, k], [(i + 1).min(x - 1), j, k]]);
            open.extend([[i, j.saturating_sub(1), k], [i, (j + 1).min(y - 1), k]]);
        }
    }
    Volume::from_fn(mask.geometry, |at| if outside[place(at)] { 0.0 } else { 1.0 })
}
