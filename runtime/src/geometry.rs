//! Where a grid of voxels lies in the patient (PS3.3 C.7.6.2).

/// A point or direction in the patient coordinate system: +x to the left, +y to posterior, +z to the head; mm.
pub type Vec3 = [f64; 3];

/// A regular grid of voxels. The centre of voxel `(i, j, k)` is
/// `origin + i·spacing[0]·axes[0] + j·spacing[1]·axes[1] + k·spacing[2]·axes[2]`.
#[derive(Debug, Clone, PartialEq)]
pub struct Geometry {
    size: [usize; 3],
    spacing: Vec3,
    origin: Vec3,
    axes: [Vec3; 3],
}

/// A box of voxels: `start` inclusive, `size` in voxels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Region {
    /// First voxel along x, y, z.
    pub start: [usize; 3],
    /// Number of voxels along x, y, z.
    pub size: [usize; 3],
}

/// A grid that cannot be.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum GeometryError {
    /// No voxels, or more than can be addressed.
    #[error("a grid of {0:?} voxels is empty or larger than {MAX_VOXELS} voxels")]
    Size([usize; 3]),
    /// Zero, negative or not finite.
    #[error("a spacing of {0:?} mm is not positive and finite")]
    Spacing(Vec3),
    /// Not finite.
    #[error("an origin of {0:?} mm is not finite")]
    Origin(Vec3),
    /// Not orthonormal.
    #[error("the axes {0:?} are not orthogonal unit vectors (tolerance {AXES_TOLERANCE})")]
    Axes([Vec3; 3]),
}

/// Voxels in the largest grid: 8 Gi.
pub const MAX_VOXELS: usize = 1 << 33;
/// How far axes may be from orthonormal.
pub const AXES_TOLERANCE: f64 = 1e-3;

impl Geometry {
    /// Checks and builds a grid.
    pub fn new(size: [usize; 3], spacing: Vec3, origin: Vec3, axes: [Vec3; 3]) -> Result<Self, GeometryError> {
        let voxels = size.iter().try_fold(1usize, |n, &s| n.checked_mul(s));
        if !voxels.is_some_and(|n| (1..=MAX_VOXELS).contains(&n)) {
            return Err(GeometryError::Size(size));
        }
        if !spacing.iter().all(|s| s.is_finite() && *s > 0.0) {
            return Err(GeometryError::Spacing(spacing));
        }
        if !origin.iter().all(|o| o.is_finite()) {
            return Err(GeometryError::Origin(origin));
        }
        let orthonormal = (0..3).all(|a| {
            (0..3).all(|b| {
                let expected = if a == b { 1.0 } else { 0.0 };
                (dot(axes[a], axes[b]) - expected).abs() <= AXES_TOLERANCE
            })
        });
        if !orthonormal {
            return Err(GeometryError::Axes(axes));
        }
        Ok(Self { size, spacing, origin, axes })
    }

    /// Number of voxels along x (columns), y (rows), z (slices).
    #[must_use]
    pub fn size(&self) -> [usize; 3] {
        self.size
    }

    /// Number of voxels in all.
    #[must_use]
    pub fn voxels(&self) -> usize {
        self.size.iter().product()
    }

    /// Distance between voxel centres, mm.
    #[must_use]
    pub fn spacing(&self) -> Vec3 {
        self.spacing
    }

    /// Centre of voxel (0, 0, 0), mm.
    #[must_use]
    pub fn origin(&self) -> Vec3 {
        self.origin
    }

    /// Unit vectors of increasing x, y and z index.
    #[must_use]
    pub fn axes(&self) -> [Vec3; 3] {
        self.axes
    }

    /// Volume of one voxel, mL.
    #[must_use]
    pub fn voxel_millilitres(&self) -> f64 {
        self.spacing.iter().product::<f64>() / 1000.0
    }

    /// Patient coordinates, mm, of a (fractional) voxel index.
    #[must_use]
    pub fn to_patient(&self, index: Vec3) -> Vec3 {
        let mut point = self.origin;
        for ((axis, spacing), i) in self.axes.iter().zip(self.spacing).zip(index) {
            for (p, a) in point.iter_mut().zip(axis) {
                *p += a * spacing * i;
            }
        }
        point
    }

    /// Fractional voxel index of a point in patient coordinates, mm.
    #[must_use]
    pub fn to_index(&self, point: Vec3) -> Vec3 {
        let from_origin = [point[0] - self.origin[0], point[1] - self.origin[1], point[2] - self.origin[2]];
        [
            dot(from_origin, self.axes[0]) / self.spacing[0],
            dot(from_origin, self.axes[1]) / self.spacing[1],
            dot(from_origin, self.axes[2]) / self.spacing[2],
        ]
    }

    /// Whether both grids have the same size and every corner lies within `tolerance_mm` of the other's.
    #[must_use]
    pub fn same_grid(&self, other: &Self, tolerance_mm: f64) -> bool {
        self.size == other.size
            && (0..8usize).all(|corner| {
                let index = [0, 1, 2].map(|a| if corner >> a & 1 == 1 { (self.size[a] - 1) as f64 } else { 0.0 });
                let (a, b) = (self.to_patient(index), other.to_patient(index));
                a.iter().zip(b).all(|(a, b)| (a - b).abs() <= tolerance_mm)
            })
    }

    /// All of it.
    #[must_use]
    pub fn region(&self) -> Region {
        Region { start: [0; 3], size: self.size }
    }
}

impl Region {
    /// Whether it is not empty and lies within a grid of `size`.
    #[must_use]
    pub fn fits(&self, size: [usize; 3]) -> bool {
        (0..3).all(|a| self.size[a] > 0 && self.start[a].checked_add(self.size[a]).is_some_and(|end| end <= size[a]))
    }

    /// Number of voxels.
    #[must_use]
    pub fn voxels(&self) -> usize {
        self.size.iter().product()
    }
}

/// Scalar product.
#[must_use]
pub fn dot(a: Vec3, b: Vec3) -> f64 {
    a[0] * b[0] + a[1] * b[1] + a[2] * b[2]
}

/// Vector product.
#[must_use]
pub fn cross(a: Vec3, b: Vec3) -> Vec3 {
    [a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]]
}

#[cfg(test)]
mod tests {
    use super::*;

    const IDENTITY: [Vec3; 3] = [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]];

    #[test]
    fn index_and_patient_coordinates_are_inverse_on_an_oblique_grid() {
        let (s, c) = 0.3f64.sin_cos();
        let axes = [[c, s, 0.0], [-s, c, 0.0], [0.0, 0.0, 1.0]];
        let grid = Geometry::new([4, 5, 6], [0.7, 0.8, 2.5], [-10.0, 20.0, 30.0], axes).expect("a grid");
        let index = [1.5, 2.25, 3.0];
        let back = grid.to_index(grid.to_patient(index));
        assert!(index.iter().zip(back).all(|(a, b)| (a - b).abs() < 1e-9), "{back:?}");
        assert!(grid.same_grid(&grid.clone(), 0.0));
    }

    #[test]
    fn a_grid_that_cannot_be_is_refused() {
        let new = |size, spacing, origin, axes| Geometry::new(size, spacing, origin, axes).expect_err("refused");
        assert!(matches!(new([0, 1, 1], [1.0; 3], [0.0; 3], IDENTITY), GeometryError::Size(_)));
        assert!(matches!(new([usize::MAX, 2, 1], [1.0; 3], [0.0; 3], IDENTITY), GeometryError::Size(_)));
        assert!(matches!(new([1; 3], [1.0, 0.0, 1.0], [0.0; 3], IDENTITY), GeometryError::Spacing(_)));
        assert!(matches!(new([1; 3], [f64::NAN, 1.0, 1.0], [0.0; 3], IDENTITY), GeometryError::Spacing(_)));
        assert!(matches!(new([1; 3], [1.0; 3], [f64::INFINITY, 0.0, 0.0], IDENTITY), GeometryError::Origin(_)));
        assert!(matches!(new([1; 3], [1.0; 3], [0.0; 3], [[1.0, 0.0, 0.0]; 3]), GeometryError::Axes(_)));
        assert!(matches!(new([1; 3], [1.0; 3], [0.0; 3], [[f64::NAN; 3]; 3]), GeometryError::Axes(_)));
    }

    #[test]
    fn a_region_must_lie_inside() {
        assert!(Region { start: [1, 0, 0], size: [1, 2, 3] }.fits([2, 2, 3]));
        assert!(!Region { start: [1, 0, 0], size: [2, 2, 3] }.fits([2, 2, 3]));
        assert!(!Region { start: [0; 3], size: [0, 1, 1] }.fits([2, 2, 3]));
        assert!(!Region { start: [usize::MAX, 0, 0], size: [2, 1, 1] }.fits([2, 2, 3]));
    }
}
