//! Plain values: codes, grids, boxes.

use std::ops::Index;

pub use crate::bindings::gantry::imaging::filters::{Axis, MorphologyOperation as Morphology, Projection, Sampling};
pub use crate::bindings::gantry::imaging::findings::{Segment, Urgency};
pub use crate::bindings::gantry::imaging::patches::{Axes, Blend, Windows};
pub use crate::bindings::gantry::imaging::types::{Code, Extent, Failure, Geometry, Region, Vec3};
pub use crate::bindings::gantry::imaging::volumes::{Component, Interpolation, Statistics};
pub use crate::bindings::wasi::nn::errors::ErrorCode;
pub use crate::bindings::wasi::nn::tensor::TensorType;

impl Code {
    /// A coded concept: code value, coding scheme designator, code meaning (PS3.3 section 8.8).
    #[must_use]
    pub fn new(value: &str, scheme: &str, meaning: &str) -> Self {
        Self { value: value.into(), scheme: scheme.into(), meaning: meaning.into() }
    }

    /// From SNOMED CT: `Code::sct("10200004", "Liver")`.
    #[must_use]
    pub fn sct(value: &str, meaning: &str) -> Self {
        Self::new(value, "SCT", meaning)
    }

    /// From the DICOM terminology (PS3.16 annex D): `Code::dcm("113004", "Background")`.
    #[must_use]
    pub fn dcm(value: &str, meaning: &str) -> Self {
        Self::new(value, "DCM", meaning)
    }
}

impl Segment {
    /// A segment of a body structure, of category `123037004 SCT Anatomical Structure`, without a confidence.
    ///
    /// ```
    /// use gantry_guest::prelude::*;
    /// let liver = Segment { confidence: Some(0.93), ..Segment::anatomy(1, "Liver", Code::sct("10200004", "Liver")) };
    /// assert_eq!(liver.category.meaning, "Anatomical Structure");
    /// ```
    #[must_use]
    pub fn anatomy(value: u32, name: &str, kind: Code) -> Self {
        let category = Code::sct("123037004", "Anatomical Structure");
        Self { value, name: name.into(), category, kind, confidence: None }
    }
}

impl Extent {
    /// Voxels along x, y and z.
    #[must_use]
    pub fn new(x: u32, y: u32, z: u32) -> Self {
        Self { x, y, z }
    }

    /// Number of voxels in all.
    #[must_use]
    pub fn voxels(self) -> u64 {
        u64::from(self.x).saturating_mul(self.y.into()).saturating_mul(self.z.into())
    }
}

impl Vec3 {
    /// From its three parts.
    #[must_use]
    pub fn new(x: f64, y: f64, z: f64) -> Self {
        Self { x, y, z }
    }
}

impl Index<usize> for Vec3 {
    type Output = f64;

    /// 0 is x, 1 is y, 2 is z.
    fn index(&self, axis: usize) -> &f64 {
        [&self.x, &self.y, &self.z][axis]
    }
}

impl Index<usize> for Extent {
    type Output = u32;

    /// 0 is x, 1 is y, 2 is z.
    fn index(&self, axis: usize) -> &u32 {
        [&self.x, &self.y, &self.z][axis]
    }
}

impl Geometry {
    /// An upright grid: x to the patient's left, y to posterior, z to the head, first voxel at the origin.
    #[must_use]
    pub fn upright(size: Extent, spacing: Vec3) -> Self {
        let axes = (Vec3::new(1.0, 0.0, 0.0), Vec3::new(0.0, 1.0, 0.0), Vec3::new(0.0, 0.0, 1.0));
        Self { size, spacing, origin: Vec3::new(0.0, 0.0, 0.0), axes }
    }

    /// Patient coordinates, mm, of a (fractional) voxel index.
    #[must_use]
    pub fn to_patient(&self, index: Vec3) -> Vec3 {
        let along = |pick: fn(&Vec3) -> f64| {
            pick(&self.origin)
                + pick(&self.axes.0) * self.spacing.x * index.x
                + pick(&self.axes.1) * self.spacing.y * index.y
                + pick(&self.axes.2) * self.spacing.z * index.z
        };
        Vec3::new(along(|v| v.x), along(|v| v.y), along(|v| v.z))
    }

    /// Fractional voxel index of a point in patient coordinates, mm.
    #[must_use]
    pub fn to_index(&self, point: Vec3) -> Vec3 {
        let from = Vec3::new(point.x - self.origin.x, point.y - self.origin.y, point.z - self.origin.z);
        let dot = |axis: Vec3| axis.x * from.x + axis.y * from.y + axis.z * from.z;
        Vec3::new(
            dot(self.axes.0) / self.spacing.x,
            dot(self.axes.1) / self.spacing.y,
            dot(self.axes.2) / self.spacing.z,
        )
    }

    /// Volume of one voxel, mL.
    #[must_use]
    pub fn voxel_millilitres(&self) -> f64 {
        self.spacing.x * self.spacing.y * self.spacing.z / 1000.0
    }

    /// The `count` slices from `first`, whole.
    #[must_use]
    pub fn slices(&self, first: u32, count: u32) -> Region {
        Region { start: Extent::new(0, 0, first), size: Extent::new(self.size.x, self.size.y, count) }
    }
}
