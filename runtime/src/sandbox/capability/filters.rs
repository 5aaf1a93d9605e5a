//! `gantry:imaging/filters`: more that can be done to voxels that stay on the host.

use wasmtime::component::Resource;

use super::volumes::{extent, vec3};
use crate::geometry::Geometry;
use crate::sandbox::bindings::gantry::imaging::{filters, types};
use crate::sandbox::state::{Failure, JobState};
use crate::volumes::{Axis, Morphology, Projection, Sampling, Volume};

type Handle = Resource<Volume>;

impl filters::Host for JobState {
    fn resample_cubic(&mut self, of: Handle, spacing: types::Vec3) -> Result<Handle, Failure> {
        self.derive(&of, |v| v.resample_cubic(vec3(spacing)))
    }

    fn onto(
        &mut self,
        of: Handle,
        grid: types::Geometry,
        how: filters::Sampling,
        fill: f32,
    ) -> Result<Handle, Failure> {
        let grid = Geometry::try_from(grid)?;
        self.derive(&of, |v| v.onto(&grid, how.into(), fill))
    }

    fn gaussian(&mut self, of: Handle, sigma: types::Vec3) -> Result<Handle, Failure> {
        self.derive(&of, |v| v.gaussian(vec3(sigma)))
    }

    fn median(&mut self, of: Handle, radius: types::Extent) -> Result<Handle, Failure> {
        self.derive(&of, |v| v.median(extent(radius)))
    }

    fn gradient_magnitude(&mut self, of: Handle) -> Result<Handle, Failure> {
        self.derive(&of, Volume::gradient_magnitude)
    }

    fn morphology(
        &mut self,
        of: Handle,
        operation: filters::MorphologyOperation,
        radius: f64,
    ) -> Result<Handle, Failure> {
        self.derive(&of, |v| v.morphology(operation.into(), radius))
    }

    fn project(&mut self, of: Handle, along: filters::Axis, how: filters::Projection) -> Result<Handle, Failure> {
        self.derive(&of, |v| v.project(along.into(), how.into()))
    }

    fn slab(&mut self, of: Handle, how: filters::Projection, slices: u32) -> Result<Handle, Failure> {
        self.derive(&of, |v| v.slab(how.into(), slices))
    }

    fn percentiles(&mut self, of: Handle, at: Vec<f32>) -> Result<Vec<f32>, Failure> {
        let found = self.table.get(&of)?.percentiles(&at)?;
        self.meter.answered();
        Ok(found)
    }

    fn normalise(&mut self, of: Handle, low: f32, high: f32) -> Result<Handle, Failure> {
        self.derive(&of, |v| v.normalise(low, high))
    }

    fn equalise(&mut self, of: Handle, bins: u32) -> Result<Handle, Failure> {
        self.derive(&of, |v| v.equalise(bins))
    }

    fn body_mask(&mut self, of: Handle, above: f32) -> Result<Handle, Failure> {
        self.derive(&of, |v| v.body_mask(above))
    }

    fn breast_mask(&mut self, of: Handle) -> Result<Handle, Failure> {
        self.derive(&of, Volume::breast_mask)
    }
}

impl From<filters::Sampling> for Sampling {
    fn from(how: filters::Sampling) -> Self {
        match how {
            filters::Sampling::Nearest => Self::Nearest,
            filters::Sampling::Linear => Self::Linear,
            filters::Sampling::Cubic => Self::Cubic,
        }
    }
}

impl From<filters::MorphologyOperation> for Morphology {
    fn from(operation: filters::MorphologyOperation) -> Self {
        match operation {
            filters::MorphologyOperation::Dilate => Self::Dilate,
            filters::MorphologyOperation::Erode => Self::Erode,
            filters::MorphologyOperation::Open => Self::Open,
            filters::MorphologyOperation::Close => Self::Close,
        }
    }
}

impl From<filters::Projection> for Projection {
    fn from(how: filters::Projection) -> Self {
        match how {
            filters::Projection::Maximum => Self::Maximum,
            filters::Projection::Minimum => Self::Minimum,
            filters::Projection::Mean => Self::Mean,
        }
    }
}

impl From<filters::Axis> for Axis {
    fn from(axis: filters::Axis) -> Self {
        match axis {
            filters::Axis::X => Self::X,
            filters::Axis::Y => Self::Y,
            filters::Axis::Z => Self::Z,
        }
    }
}
