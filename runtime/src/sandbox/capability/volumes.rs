//! `gantry:imaging/volumes`: voxels that stay on the host.

use wasmtime::component::Resource;

use crate::geometry::{Geometry, Region, Vec3};
use crate::sandbox::bindings::gantry::imaging::{types, volumes};
use crate::sandbox::bindings::wasi::nn::tensor::TensorType;
use crate::sandbox::state::{Failure, JobState};
use crate::tensor::{ElementType, Tensor};
use crate::volumes::{self as ops, Interpolation, Volume, VolumeError};

type Handle = Resource<Volume>;

impl JobState {
    /// Does `operation` on a volume and hands out the result.
    pub(super) fn derive(
        &mut self,
        this: &Handle,
        operation: impl FnOnce(&Volume) -> Result<Volume, VolumeError>,
    ) -> Result<Handle, Failure> {
        let result = operation(self.table.get(this)?)?;
        self.push(result)
    }

    /// Refuses to copy more than `guest_read_mib` into the guest.
    pub(super) fn check_read(&self, bytes: u64) -> Result<(), Failure> {
        let limit = self.limits.guest_read_mib;
        if bytes <= limit << 20 {
            return Ok(());
        }
        Err(Failure::Limit(
            "guest_read_mib",
            format!("the guest asked to read {bytes} bytes in one call; guest_read_mib = {limit}"),
        ))
    }
}

impl volumes::Host for JobState {
    fn from_tensor(&mut self, t: Resource<Tensor>, channel: u32, like: Handle) -> Result<Handle, Failure> {
        let result = ops::from_tensor(self.table.get(&t)?, channel, self.table.get(&like)?)?;
        self.push(result)
    }

    fn argmax(&mut self, t: Resource<Tensor>, like: Handle, onto: Handle) -> Result<Handle, Failure> {
        let result = ops::argmax(self.table.get(&t)?, self.table.get(&like)?, self.table.get(&onto)?)?;
        self.push(result)
    }

    fn softmax(&mut self, t: Resource<Tensor>, axis: u32) -> Result<Resource<Tensor>, Failure> {
        let result = ops::softmax(self.table.get(&t)?, axis as usize)?;
        self.push(result)
    }

    fn stack(&mut self, slabs: Vec<Handle>) -> Result<Handle, Failure> {
        let slabs = slabs.iter().map(|slab| self.table.get(slab)).collect::<Result<Vec<_>, _>>()?;
        let result = ops::stack(&slabs)?;
        self.push(result)
    }

    fn from_list(&mut self, voxels: Vec<f32>, on: types::Geometry) -> Result<Handle, Failure> {
        let geometry = Geometry::try_from(on)?;
        let result = Volume::from_f32(geometry, voxels, &self.budget)?;
        // What the guest computed itself it made of what it copied out: where that is of one volume, it is known of which.
        let result = match self.copied.iter().next() {
            Some(source) if self.copied.len() == 1 => result.with_source(*source),
            _ => result,
        };
        self.push(result)
    }
}

impl volumes::HostVolume for JobState {
    fn geometry(&mut self, this: Handle) -> wasmtime::Result<types::Geometry> {
        Ok(self.table.get(&this)?.geometry().into())
    }

    fn crop(&mut self, this: Handle, to: types::Region) -> Result<Handle, Failure> {
        self.derive(&this, |v| v.crop(to.into()))
    }

    fn pad(&mut self, this: Handle, size: types::Extent, fill: f32) -> Result<Handle, Failure> {
        self.derive(&this, |v| v.pad(extent(size), fill))
    }

    fn resample(&mut self, this: Handle, spacing: types::Vec3, how: volumes::Interpolation) -> Result<Handle, Failure> {
        self.derive(&this, |v| v.resample(vec3(spacing), how.into()))
    }

    fn resample_like(
        &mut self,
        this: Handle,
        like: Handle,
        how: volumes::Interpolation,
        fill: f32,
    ) -> Result<Handle, Failure> {
        let like = self.table.get(&like)?.geometry().clone();
        self.derive(&this, |v| v.resample_like(&like, how.into(), fill))
    }

    fn orient(&mut self, this: Handle, code: String) -> Result<Handle, Failure> {
        self.derive(&this, |v| v.orient(&code))
    }

    fn clip(&mut self, this: Handle, low: f32, high: f32) -> Result<Handle, Failure> {
        self.derive(&this, |v| v.clip(low, high))
    }

    fn affine(&mut self, this: Handle, scale: f32, shift: f32) -> Result<Handle, Failure> {
        self.derive(&this, |v| v.affine(scale, shift))
    }

    fn window(&mut self, this: Handle, centre: f32, width: f32) -> Result<Handle, Failure> {
        self.derive(&this, |v| v.window(centre, width))
    }

    fn z_score(&mut self, this: Handle) -> Result<Handle, Failure> {
        self.derive(&this, Volume::z_score)
    }

    fn statistics(&mut self, this: Handle, within: Option<types::Region>) -> Result<volumes::Statistics, Failure> {
        let s = self.table.get(&this)?.statistics(within.map(Into::into))?;
        self.meter.answered();
        Ok(volumes::Statistics {
            minimum: s.minimum,
            maximum: s.maximum,
            mean: s.mean,
            deviation: s.deviation,
            count: s.count,
        })
    }

    fn threshold(&mut self, this: Handle, low: f32, high: f32) -> Result<Handle, Failure> {
        self.derive(&this, |v| v.threshold(low, high))
    }

    fn label(&mut self, this: Handle, value: u32) -> Result<Handle, Failure> {
        self.derive(&this, |v| v.label(value))
    }

    fn components(&mut self, this: Handle, minimum_voxels: u64) -> Result<Vec<volumes::Component>, Failure> {
        let found = self.table.get(&this)?.components(minimum_voxels)?;
        self.meter.answered();
        self.check_read((found.len() * size_of::<volumes::Component>()) as u64)?;
        Ok(found
            .into_iter()
            .map(|c| volumes::Component {
                label: c.label,
                voxels: c.voxels,
                millilitres: c.millilitres,
                bounds: c.bounds.into(),
                centroid: to_vec3(c.centroid),
            })
            .collect())
    }

    fn keep_largest(&mut self, this: Handle, count: u32) -> Result<Handle, Failure> {
        self.derive(&this, |v| v.keep_largest(count))
    }

    fn to_tensor(&mut self, this: Handle, ty: TensorType, slices_as_batch: bool) -> Result<Resource<Tensor>, Failure> {
        let volume = self.table.get(&this)?;
        let (result, source) = (volume.to_tensor(ElementType::from(ty), slices_as_batch)?, volume.source());
        self.copied.extend(source);
        self.push(result)
    }

    fn read(&mut self, this: Handle, what: types::Region) -> Result<Vec<f32>, Failure> {
        let region = Region::from(what);
        let volume = self.table.get(&this)?;
        if !region.fits(volume.geometry().size()) {
            return Err(Failure::Invalid(format!("the region {region:?} is empty or leaves the volume")));
        }
        self.check_read(region.voxels() as u64 * 4)?;
        let (voxels, source) = (volume.read(region)?, volume.source());
        self.copied.extend(source);
        self.meter.answered();
        Ok(voxels)
    }

    fn drop(&mut self, this: Handle) -> wasmtime::Result<()> {
        self.table.delete(this)?;
        Ok(())
    }
}

pub(super) fn extent(e: types::Extent) -> [usize; 3] {
    [e.x as usize, e.y as usize, e.z as usize]
}

fn to_extent(size: [usize; 3]) -> types::Extent {
    let narrow = |n| u32::try_from(n).unwrap_or(u32::MAX);
    types::Extent { x: narrow(size[0]), y: narrow(size[1]), z: narrow(size[2]) }
}

pub(super) fn vec3(v: types::Vec3) -> Vec3 {
    [v.x, v.y, v.z]
}

fn to_vec3(v: Vec3) -> types::Vec3 {
    types::Vec3 { x: v[0], y: v[1], z: v[2] }
}

impl From<types::Region> for Region {
    fn from(r: types::Region) -> Self {
        Self { start: extent(r.start), size: extent(r.size) }
    }
}

impl From<Region> for types::Region {
    fn from(r: Region) -> Self {
        Self { start: to_extent(r.start), size: to_extent(r.size) }
    }
}

impl From<&Geometry> for types::Geometry {
    fn from(g: &Geometry) -> Self {
        let [x, y, z] = g.axes().map(to_vec3);
        Self { size: to_extent(g.size()), spacing: to_vec3(g.spacing()), origin: to_vec3(g.origin()), axes: (x, y, z) }
    }
}

impl TryFrom<types::Geometry> for Geometry {
    type Error = Failure;

    fn try_from(g: types::Geometry) -> Result<Self, Failure> {
        let axes = [vec3(g.axes.0), vec3(g.axes.1), vec3(g.axes.2)];
        Self::new(extent(g.size), vec3(g.spacing), vec3(g.origin), axes).map_err(|e| Failure::Invalid(e.to_string()))
    }
}

impl From<volumes::Interpolation> for Interpolation {
    fn from(how: volumes::Interpolation) -> Self {
        match how {
            volumes::Interpolation::Nearest => Self::Nearest,
            volumes::Interpolation::Linear => Self::Linear,
        }
    }
}

impl From<TensorType> for ElementType {
    fn from(ty: TensorType) -> Self {
        match ty {
            TensorType::Fp16 => Self::F16,
            TensorType::Fp32 => Self::F32,
            TensorType::Fp64 => Self::F64,
            TensorType::Bf16 => Self::Bf16,
            TensorType::U8 => Self::U8,
            TensorType::I32 => Self::I32,
            TensorType::I64 => Self::I64,
        }
    }
}

impl From<ElementType> for TensorType {
    fn from(element: ElementType) -> Self {
        match element {
            ElementType::F16 => Self::Fp16,
            ElementType::F32 => Self::Fp32,
            ElementType::F64 => Self::Fp64,
            ElementType::Bf16 => Self::Bf16,
            ElementType::U8 => Self::U8,
            ElementType::I32 => Self::I32,
            ElementType::I64 => Self::I64,
        }
    }
}
