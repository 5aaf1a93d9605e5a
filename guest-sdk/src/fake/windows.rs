//! A network over windows of a volume.

use super::grid::{Volume, invalid};
use super::job::{GraphExecutionContext, Tensor};
use crate::types::{Blend, Extent, Failure, Region, TensorType, Windows};

/// Which voxel of a window is seen where: from an index of what is seen to one of the window.
type Turn = Box<dyn Fn([u32; 3]) -> [u32; 3]>;

pub(crate) fn sliding_window(context: &GraphExecutionContext, of: &[&Volume], how: Windows) -> Result<Tensor, Failure> {
    let Some(first) = of.first() else { return invalid("no volume") };
    let (size, grid) = (how.size, first.geometry.size);
    if of.iter().any(|v| v.geometry.size != grid) || (0..3).any(|a| size[a] == 0) {
        return invalid(format!("windows of {size:?} over volumes of different grids"));
    }
    if !(0.0..1.0).contains(&how.overlap) || !(1..=1024).contains(&how.batch) {
        return invalid(format!("an overlap of {} in batches of {}", how.overlap, how.batch));
    }
    if how.quarter_turns && size.x != size.y {
        return invalid(format!("quarter turns of windows of {size:?}"));
    }
    let padded = Extent::new(grid.x.max(size.x), grid.y.max(size.y), grid.z.max(size.z));
    let before = [0, 1, 2].map(|a| (padded[a] - grid[a]) / 2);
    let channels = of.iter().map(|v| v.pad(padded, how.fill)).collect::<Result<Vec<_>, _>>()?;
    let turns = turns(&how);
    let (mut sums, mut weights): (Vec<Vec<f64>>, Vec<f64>) = (Vec::new(), vec![0.0; grid.voxels() as usize]);
    for start in starts(padded, size, how.overlap) {
        let window = Region { start, size };
        for turn in &turns {
            let seen = channels.iter().map(|v| look(v, window, turn)).collect::<Result<Vec<_>, _>>()?.concat();
            let given = run(context, seen, channels.len(), size, how.batch)?;
            let count = given.len() / size.voxels() as usize;
            sums.resize(count, vec![0.0; weights.len()]);
            for (n, at) in indices(size).enumerate() {
                let voxel = turn(at);
                let Some(place) = place(voxel, start, before, grid) else { continue };
                let weight = weight(voxel, size, how.blend) / turns.len() as f64;
                weights[place] += weight;
                for (channel, sums) in sums.iter_mut().enumerate() {
                    sums[place] += weight * f64::from(given[channel * size.voxels() as usize + n]);
                }
            }
        }
    }
    let values = sums.iter().flat_map(|sums| sums.iter().zip(&weights).map(|(s, w)| ((s / w) as f32).to_le_bytes()));
    let dimensions = [1, sums.len() as u32, grid.z, grid.y, grid.x];
    Ok(Tensor::new(&dimensions, TensorType::Fp32, &values.flatten().collect::<Vec<u8>>()))
}

/// x fastest, then y, then z.
fn indices(size: Extent) -> impl Iterator<Item = [u32; 3]> {
    (0..size.z).flat_map(move |z| (0..size.y).flat_map(move |y| (0..size.x).map(move |x| [x, y, z])))
}

fn starts(padded: Extent, size: Extent, overlap: f64) -> Vec<Extent> {
    let along = |a: usize| {
        let (last, step) = (padded[a] - size[a], ((f64::from(size[a]) * (1.0 - overlap)) as u32).max(1));
        (0..last.div_ceil(step)).map(|i| i * step).chain([last]).collect::<Vec<_>>()
    };
    let (xs, ys) = (along(0), along(1));
    let rows = |z: u32| ys.iter().flat_map(|y| xs.iter().map(|x| Extent::new(*x, *y, z))).collect::<Vec<_>>();
    along(2).into_iter().flat_map(rows).collect()
}

/// All ways to look at a window; where quarter turns and mirroring come to the same, it counts twice.
fn turns(how: &Windows) -> Vec<Turn> {
    let size = how.size;
    let mut turns: Vec<Turn> = Vec::new();
    for quarters in 0..if how.quarter_turns { 4 } else { 1 } {
        for flips in 0..8 {
            let flip = [0, 1, 2].map(|a| flips >> a & 1 == 1);
            if [how.mirror.x, how.mirror.y, how.mirror.z].iter().zip(flip).any(|(may, does)| does && !may) {
                continue;
            }
            turns.push(Box::new(move |at| {
                let mut at = [0, 1, 2].map(|a| if flip[a] { size[a] - 1 - at[a] } else { at[a] });
                for _ in 0..quarters {
                    at = [at[1], size.y - 1 - at[0], at[2]];
                }
                at
            }));
        }
    }
    turns
}

fn look(volume: &Volume, window: Region, turn: &Turn) -> Result<Vec<f32>, Failure> {
    let part = volume.crop(window)?;
    Ok(indices(window.size).map(|at| part.at(turn(at))).collect())
}

/// Runs the model on as many windows as a batch has, all the same, and gives what it made of the first.
fn run(
    context: &GraphExecutionContext,
    seen: Vec<f32>,
    channels: usize,
    size: Extent,
    batch: u32,
) -> Result<Vec<f32>, Failure> {
    let data: Vec<u8> = (0..batch).flat_map(|_| seen.iter().flat_map(|v| v.to_le_bytes())).collect();
    let dimensions = [batch, channels as u32, size.z, size.y, size.x];
    let input = Tensor::new(&dimensions, TensorType::Fp32, &data);
    // A closure that plays a model does not say how it calls its input.
    let outputs = context.compute(vec![("input".into(), input)]).map_err(|e| Failure::Invalid(e.data()))?;
    let [(_, output)] = outputs.as_slice() else { return invalid(format!("{} outputs, not one", outputs.len())) };
    match *output.dimensions.as_slice() {
        [n, c, z, y, x] if (n, z, y, x) == (batch, size.z, size.y, size.x) && c > 0 => {
            let mut values = output.to_f32()?;
            values.truncate(c as usize * size.voxels() as usize);
            Ok(values)
        }
        _ => invalid(format!("an output of {:?} for windows of {size:?}", output.dimensions)),
    }
}

/// Where a voxel of a window lies in the volume, if it does.
fn place(voxel: [u32; 3], start: Extent, before: [u32; 3], grid: Extent) -> Option<usize> {
    let mut at = [0; 3];
    for a in 0..3 {
        at[a] = (start[a] + voxel[a]).checked_sub(before[a]).filter(|i| *i < grid[a])?;
    }
    Some(at[0] as usize + grid.x as usize * (at[1] as usize + grid.y as usize * at[2] as usize))
}

fn weight(voxel: [u32; 3], size: Extent, blend: Blend) -> f64 {
    if blend == Blend::Constant {
        return 1.0;
    }
    let along = |a: usize| {
        let n = f64::from(size[a]);
        (-0.5 * ((f64::from(voxel[a]) - (n - 1.0) / 2.0) / (n / 8.0)).powi(2)).exp()
    };
    (along(0) * along(1) * along(2)).max(1e-3)
}
