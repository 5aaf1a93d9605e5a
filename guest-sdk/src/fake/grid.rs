//! A volume: a grid and one `f32` for each of its voxels.

use std::rc::Rc;

use crate::types::{Extent, Failure, Geometry, Interpolation, Region, Statistics, Vec3};

/// x fastest, then y, then z.
#[derive(Debug, Clone)]
pub(crate) struct Volume {
    pub(super) geometry: Geometry,
    pub(super) voxels: Rc<Vec<f32>>,
}

/// A refusal that names the argument.
pub(super) fn invalid<T>(text: impl Into<String>) -> Result<T, Failure> {
    Err(Failure::Invalid(text.into()))
}

impl Volume {
    pub(crate) fn new(geometry: Geometry, voxels: Vec<f32>) -> Result<Self, Failure> {
        if voxels.is_empty() || voxels.len() as u64 != geometry.size.voxels() {
            return invalid(format!("{} voxels do not fill a grid of {:?}", voxels.len(), geometry.size));
        }
        Ok(Self { geometry, voxels: Rc::new(voxels) })
    }

    /// A volume whose voxel at `index` is `value(index)`.
    pub(super) fn from_fn(geometry: Geometry, mut value: impl FnMut([u32; 3]) -> f32) -> Result<Self, Failure> {
        let Extent { x, y, z } = geometry.size;
        let mut voxels = Vec::new();
        for k in 0..z {
            for j in 0..y {
                for i in 0..x {
                    voxels.push(value([i, j, k]));
                }
            }
        }
        Self::new(geometry, voxels)
    }

    pub(super) fn at(&self, [i, j, k]: [u32; 3]) -> f32 {
        let Extent { x, y, .. } = self.geometry.size;
        self.voxels[i as usize + x as usize * (j as usize + y as usize * k as usize)]
    }

    pub(super) fn map(&self, value: impl Fn(f32) -> f32) -> Result<Self, Failure> {
        Self::new(self.geometry, self.voxels.iter().map(|&v| value(v)).collect())
    }

    pub(crate) fn geometry(&self) -> Geometry {
        self.geometry
    }

    pub(crate) fn crop(&self, to: Region) -> Result<Self, Failure> {
        let size = self.geometry.size;
        let inside = |a| to.size[a] > 0 && u64::from(to.start[a]) + u64::from(to.size[a]) <= u64::from(size[a]);
        if !(0..3).all(inside) {
            return invalid(format!("region {to:?} is empty or leaves a volume of {size:?}"));
        }
        let start = to.start;
        let origin = self.geometry.to_patient(Vec3::new(start.x.into(), start.y.into(), start.z.into()));
        let geometry = Geometry { size: to.size, origin, ..self.geometry };
        Self::from_fn(geometry, |[i, j, k]| self.at([i + start.x, j + start.y, k + start.z]))
    }

    pub(crate) fn pad(&self, size: Extent, fill: f32) -> Result<Self, Failure> {
        let old = self.geometry.size;
        if (0..3).any(|a| size[a] < old[a]) {
            return invalid(format!("size {size:?} is smaller than the volume, {old:?}"));
        }
        let before = [0, 1, 2].map(|a| (size[a] - old[a]) / 2);
        let [x, y, z] = before.map(|b| -f64::from(b));
        let geometry = Geometry { size, origin: self.geometry.to_patient(Vec3::new(x, y, z)), ..self.geometry };
        Self::from_fn(geometry, |index| {
            let source = [0, 1, 2].map(|a| index[a].checked_sub(before[a]).filter(|&i| i < old[a]));
            match source {
                [Some(i), Some(j), Some(k)] => self.at([i, j, k]),
                _ => fill,
            }
        })
    }

    pub(crate) fn resample(&self, spacing: Vec3, how: Interpolation) -> Result<Self, Failure> {
        if (0..3).any(|a| !(spacing[a] > 0.0 && spacing[a].is_finite())) {
            return invalid(format!("spacing {spacing:?} is not positive and finite"));
        }
        let old = self.geometry;
        let count = |a: usize| (f64::from(old.size[a]) * old.spacing[a] / spacing[a]).round().max(1.0) as u32;
        let size = Extent::new(count(0), count(1), count(2));
        let first = |a: usize| 0.5 * spacing[a] / old.spacing[a] - 0.5;
        let origin = old.to_patient(Vec3::new(first(0), first(1), first(2)));
        let grid = Geometry { size, spacing, origin, ..old };
        Self::from_fn(grid, |index| self.at_edge(old.to_index(grid.to_patient(centre(index))), how))
    }

    pub(crate) fn resample_like(&self, like: &Self, how: Interpolation, fill: f32) -> Result<Self, Failure> {
        let grid = like.geometry;
        Self::from_fn(grid, |index| self.sample(grid.to_patient(centre(index)), how).unwrap_or(fill))
    }

    /// The value at a point in patient coordinates; half a voxel beyond the outermost centres takes that of the edge.
    pub(super) fn sample(&self, point: Vec3, how: Interpolation) -> Option<f32> {
        let index = self.geometry.to_index(point);
        let size = self.geometry.size;
        if (0..3).any(|a| index[a] < -0.5 - 1e-6 || index[a] > f64::from(size[a]) - 0.5 + 1e-6) {
            return None;
        }
        Some(self.at_edge(index, how))
    }

    /// The value at a fractional index; beyond the outermost centres that of the edge.
    fn at_edge(&self, index: Vec3, how: Interpolation) -> f32 {
        let size = self.geometry.size;
        let inner = [0, 1, 2].map(|a| index[a].clamp(0.0, f64::from(size[a] - 1)));
        if how == Interpolation::Nearest {
            return self.at(inner.map(|i| i.round() as u32));
        }
        let low = inner.map(|i| i.floor() as u32);
        let mut value = 0.0;
        for corner in 0..8u32 {
            let mut weight = 1.0;
            let mut voxel = low;
            for a in 0..3 {
                let fraction = inner[a] - f64::from(low[a]);
                if corner >> a & 1 == 1 {
                    weight *= fraction;
                    voxel[a] = (low[a] + 1).min(size[a] - 1);
                } else {
                    weight *= 1.0 - fraction;
                }
            }
            if weight > 0.0 {
                value += weight * f64::from(self.at(voxel));
            }
        }
        value as f32
    }

    pub(crate) fn orient(&self, code: &str) -> Result<Self, Failure> {
        let old = self.geometry;
        let towards = directions(code)?;
        let axes = [old.axes.0, old.axes.1, old.axes.2];
        // The old axis that runs most along x, then y, then z of the patient; the strongest match first.
        let mut taken = [None; 3];
        for _ in 0..3 {
            let pairs = (0..3).flat_map(|old| (0..3).map(move |patient| (old, patient)));
            let free = pairs.filter(|&(o, p)| taken[p].is_none() && !taken.contains(&Some(o)));
            let best = free.max_by(|a, b| axes[a.0][a.1].abs().total_cmp(&axes[b.0][b.1].abs()));
            let (o, p) = best.expect("as many old axes as patient axes are free");
            taken[p] = Some(o);
        }
        let source = towards.map(|(patient, _)| taken[patient].expect("every patient axis was given one"));
        let flip = [0, 1, 2].map(|a| {
            let (patient, positive) = towards[a];
            (axes[source[a]][patient] > 0.0) != positive
        });
        let mut start = [0.0; 3];
        for a in 0..3 {
            start[source[a]] = if flip[a] { f64::from(old.size[source[a]] - 1) } else { 0.0 };
        }
        let turned = |a: usize| {
            let (v, sign) = (axes[source[a]], if flip[a] { -1.0 } else { 1.0 });
            Vec3::new(v.x * sign, v.y * sign, v.z * sign)
        };
        let grid = Geometry {
            size: Extent::new(old.size[source[0]], old.size[source[1]], old.size[source[2]]),
            spacing: Vec3::new(old.spacing[source[0]], old.spacing[source[1]], old.spacing[source[2]]),
            origin: old.to_patient(Vec3::new(start[0], start[1], start[2])),
            axes: (turned(0), turned(1), turned(2)),
        };
        Self::from_fn(grid, |index| {
            let mut voxel = [0; 3];
            for a in 0..3 {
                let size = old.size[source[a]];
                voxel[source[a]] = if flip[a] { size - 1 - index[a] } else { index[a] };
            }
            self.at(voxel)
        })
    }

    pub(crate) fn clip(&self, low: f32, high: f32) -> Result<Self, Failure> {
        if low.is_nan() || high.is_nan() || low > high {
            return invalid(format!("clip to {low}..={high}"));
        }
        self.map(|v| v.clamp(low, high))
    }

    pub(crate) fn affine(&self, scale: f32, shift: f32) -> Result<Self, Failure> {
        if !scale.is_finite() || !shift.is_finite() {
            return invalid(format!("affine by scale {scale}, shift {shift}"));
        }
        self.map(|v| scale * v + shift)
    }

    pub(crate) fn window(&self, centre: f32, width: f32) -> Result<Self, Failure> {
        if !(width > 0.0 && width.is_finite() && centre.is_finite()) {
            return invalid(format!("window of centre {centre}, width {width}"));
        }
        self.map(|v| ((v - (centre - width / 2.0)) / width).clamp(0.0, 1.0))
    }

    pub(crate) fn z_score(&self) -> Result<Self, Failure> {
        let Statistics { mean, deviation, .. } = self.statistics(None)?;
        self.map(|v| if deviation > 0.0 { (v - mean) / deviation } else { 0.0 })
    }

    pub(crate) fn statistics(&self, within: Option<Region>) -> Result<Statistics, Failure> {
        let part = within.map_or_else(|| Ok(self.clone()), |region| self.crop(region))?;
        let finite: Vec<f64> = part.voxels.iter().filter(|v| v.is_finite()).map(|&v| v.into()).collect();
        if finite.is_empty() {
            return invalid("no voxel is finite");
        }
        let count = finite.len() as f64;
        let mean = finite.iter().sum::<f64>() / count;
        let variance = finite.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / count;
        Ok(Statistics {
            minimum: finite.iter().copied().fold(f64::INFINITY, f64::min) as f32,
            maximum: finite.iter().copied().fold(f64::NEG_INFINITY, f64::max) as f32,
            mean: mean as f32,
            deviation: variance.sqrt() as f32,
            count: finite.len() as u64,
        })
    }

    pub(crate) fn threshold(&self, low: f32, high: f32) -> Result<Self, Failure> {
        if low.is_nan() || high.is_nan() || low > high {
            return invalid(format!("threshold of {low}..={high}"));
        }
        self.map(|v| f32::from(low <= v && v <= high))
    }

    pub(crate) fn label(&self, value: u32) -> Result<Self, Failure> {
        self.map(|v| f32::from(f64::from(v) == f64::from(value)))
    }

    pub(crate) fn read(&self, what: Region) -> Result<Vec<f32>, Failure> {
        Ok(self.crop(what)?.voxels.to_vec())
    }
}

/// The index of a voxel as a point on the grid.
pub(super) fn centre([i, j, k]: [u32; 3]) -> Vec3 {
    Vec3::new(i.into(), j.into(), k.into())
}

/// For x, y and z: the patient axis (0 to 2) and whether it increases.
fn directions(code: &str) -> Result<[(usize, bool); 3], Failure> {
    let axes: Option<Vec<(usize, bool)>> = code
        .chars()
        .map(|letter| match letter {
            'L' => Some((0, true)),
            'R' => Some((0, false)),
            'P' => Some((1, true)),
            'A' => Some((1, false)),
            'S' => Some((2, true)),
            'I' => Some((2, false)),
            _ => None,
        })
        .collect();
    match axes.as_deref() {
        Some(&[x, y, z]) if x.0 != y.0 && y.0 != z.0 && z.0 != x.0 => Ok([x, y, z]),
        _ => invalid(format!("orientation {code:?} is not one each of L/R, P/A and S/I")),
    }
}
