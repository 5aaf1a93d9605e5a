//! What a guest asks of volumes, in any order and with any arguments, of small volumes of any kind.
//!
//! What holds for all bytes: nothing panics or overflows; nothing is held beyond the budget, and all of it is given back; a
//! volume has as many voxels as its grid says and no more than its budget allows; masks are 0 and 1; percentiles are in order
//! and lie among the voxels; windows of a network that changes nothing give back what went in. Input: the volume, then an
//! operation after another, each with its arguments.

#![no_main]

use std::sync::Once;
use std::sync::atomic::{AtomicUsize, Ordering};

use gantry_fuzz::geometry::{Geometry, Region};
use gantry_fuzz::memory::Budget;
use gantry_fuzz::tensor::{ElementType, Tensor};
use gantry_fuzz::volumes::{
    Axis, Blend, Interpolation, Mirrored, Morphology, Projection, Sampling, Sliding, Volume, VolumeError, Windows,
    argmax, from_tensor, softmax, stack,
};
use libfuzzer_sys::fuzz_target;

/// Of voxels and tensors.
const BUDGET_BYTES: u64 = 1 << 16;
/// How often an input may look at the time: then its job is over.
const LOOKS_MAX: usize = 3000;
/// Operations of an input.
const OPERATIONS_MAX: usize = 8;

fuzz_target!(|input: &[u8]| {
    static ONE_THREAD: Once = Once::new();
    // Coverage is to follow from the input alone.
    ONE_THREAD.call_once(|| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(1).use_current_thread();
        pool.build_global().expect("the first pool");
    });
    let looks = AtomicUsize::new(0);
    let over = move || looks.fetch_add(1, Ordering::Relaxed) > LOOKS_MAX;
    let budget = Budget::of_job(BUDGET_BYTES, over);
    let mut bytes = Bytes(input);
    if let Ok(first) = bytes.volume(&budget) {
        let mut volumes = vec![first];
        for _ in 0..OPERATIONS_MAX {
            if bytes.0.is_empty() {
                break;
            }
            let of = volumes.swap_remove(usize::from(bytes.byte()) % volumes.len());
            let other = volumes.last().cloned().unwrap_or_else(|| of.clone());
            if let Ok(made) = operation(&mut bytes, &of, &other) {
                check(&made);
                volumes.push(made);
            }
            volumes.push(of);
            volumes.truncate(4);
        }
    }
    assert_eq!(budget.used(), 0, "all of it is given back");
    assert!(budget.peak() <= BUDGET_BYTES);
});

fn check(volume: &Volume) {
    let grid = volume.geometry();
    assert!(grid.voxels() as u64 <= BUDGET_BYTES, "{grid:?}");
    let voxels = volume.read(grid.region()).expect("all of it");
    assert_eq!(voxels.len(), grid.voxels());
}

fn is_mask(volume: &Volume) -> bool {
    let voxels = volume.read(volume.geometry().region()).expect("all of it");
    voxels.iter().all(|v| *v == 0.0 || *v == 1.0)
}

fn mask(made: Result<Volume, VolumeError>) -> Result<Volume, VolumeError> {
    let made = made?;
    assert!(is_mask(&made));
    Ok(made)
}

fn operation(bytes: &mut Bytes<'_>, v: &Volume, other: &Volume) -> Result<Volume, VolumeError> {
    match bytes.byte() % 30 {
        0 => v.crop(bytes.region()),
        1 => v.pad(bytes.size(), bytes.f32()),
        2 => v.resample(bytes.three(), bytes.interpolation()),
        3 => v.resample_like(other.geometry(), bytes.interpolation(), bytes.f32()),
        4 => v.orient(["LPS", "RAS", "SAR", "PIL", "LRS", ""][usize::from(bytes.byte()) % 6]),
        5 => v.clip(bytes.f32(), bytes.f32()),
        6 => v.affine(bytes.f32(), bytes.f32()),
        7 => v.window(bytes.f32(), bytes.f32()),
        8 => v.z_score(),
        9 => v.statistics(Some(bytes.region())).map(|_| v.clone()),
        10 => mask(v.threshold(bytes.f32(), bytes.f32())),
        11 => mask(v.label(bytes.u32())),
        12 => v.components(bytes.u32().into()).map(|_| v.clone()),
        13 => v.keep_largest(bytes.u32()),
        14 => stack(&[v, other]),
        15 => tensors(bytes, v, other),
        16 => v.gaussian(bytes.three()),
        17 => v.median(bytes.size()),
        18 => v.gradient_magnitude(),
        19 => {
            let all = [Morphology::Dilate, Morphology::Erode, Morphology::Open, Morphology::Close];
            mask(v.morphology(all[usize::from(bytes.byte()) % 4], bytes.f64()))
        }
        20 => v.project([Axis::X, Axis::Y, Axis::Z][usize::from(bytes.byte()) % 3], bytes.projection()),
        21 => v.slab(bytes.projection(), bytes.u32()),
        22 => percentiles(bytes, v),
        23 => v.normalise(bytes.f32(), bytes.f32()),
        24 => v.equalise(bytes.u32()),
        25 => v.resample_cubic(bytes.three()),
        26 => {
            let grid = bytes.grid()?;
            v.onto(
                &grid,
                [Sampling::Nearest, Sampling::Linear, Sampling::Cubic][usize::from(bytes.byte()) % 3],
                bytes.f32(),
            )
        }
        27 => mask(v.body_mask(bytes.f32())),
        28 => mask(v.breast_mask()),
        _ => windows(bytes, v),
    }
}

fn percentiles(bytes: &mut Bytes<'_>, v: &Volume) -> Result<Volume, VolumeError> {
    let mut at: Vec<f32> = (0..bytes.byte() % 4).map(|_| bytes.f32()).collect();
    at.sort_by(f32::total_cmp);
    let found = v.percentiles(&at)?;
    let all = v.statistics(None)?;
    assert!(found.is_sorted(), "{at:?}: {found:?}");
    assert!(found.iter().all(|p| (all.minimum..=all.maximum).contains(p)), "{found:?} of {all:?}");
    Ok(v.clone())
}

fn tensors(bytes: &mut Bytes<'_>, v: &Volume, other: &Volume) -> Result<Volume, VolumeError> {
    let types =
        [ElementType::F32, ElementType::F64, ElementType::F16, ElementType::Bf16, ElementType::U8, ElementType::I64];
    let t = v.to_tensor(types[usize::from(bytes.byte()) % 6], bytes.byte().is_multiple_of(2))?;
    let _ = softmax(&t, usize::from(bytes.byte()));
    let _ = argmax(&t, v, other)?;
    from_tensor(&t, bytes.u32() % 3, v)
}

fn windows(bytes: &mut Bytes<'_>, v: &Volume) -> Result<Volume, VolumeError> {
    let flags = bytes.byte();
    let flag = |i: u8| flags >> i & 1 == 1;
    let windows = Windows {
        size: bytes.size(),
        overlap: bytes.f64(),
        blend: if flag(0) { Blend::Gaussian } else { Blend::Constant },
        fill: bytes.f32(),
        mirrored: Mirrored { axes: [flag(1), flag(2), flag(3)], quarter_turns: flag(4) },
    };
    let mut sliding = Sliding::new(&[v], windows)?;
    let (items, flat) = (usize::from(bytes.byte() % 4) + 1, flag(5) && windows.size[2] == 1);
    let mut first = 0;
    while first < sliding.count() {
        let some = first..(first + items).min(sliding.count());
        for turn in 0..sliding.turns() {
            v.budget().check_time()?;
            let seen = sliding.patches(some.clone(), items, turn, flat, ElementType::F32)?;
            sliding.add(some.clone(), items, turn, &seen)?;
        }
        first = some.end;
    }
    let result: Tensor = sliding.finish()?;
    let values = from_tensor(&result, 0, v)?;
    let (before, after) = (v.read(v.geometry().region())?, values.read(v.geometry().region())?);
    // Where numbers are so small or large that a weight takes them out of f32, nothing can be said.
    for (a, b) in before.iter().zip(&after).filter(|(a, _)| a.is_normal() && (1e-20..1e20).contains(&a.abs())) {
        assert!((a - b).abs() <= a.abs() * 1e-3, "{a} came back as {b}");
    }
    Ok(values)
}

/// Arguments out of bytes; zeros where there are none left.
struct Bytes<'b>(&'b [u8]);

impl Bytes<'_> {
    fn byte(&mut self) -> u8 {
        let (first, rest) = self.0.split_first().unwrap_or((&0, &[]));
        self.0 = rest;
        *first
    }

    fn u32(&mut self) -> u32 {
        match self.byte() {
            255 => u32::from_le_bytes([0; 4].map(|_: u8| self.byte())),
            254 => u32::MAX,
            small => small.into(),
        }
    }

    /// Mostly what makes sense, sometimes anything.
    fn f64(&mut self) -> f64 {
        match self.byte() {
            0 => f64::from_bits(u64::from_le_bytes([0; 8].map(|_: u8| self.byte()))),
            1 => [f64::NAN, f64::INFINITY, -f64::INFINITY, 0.0, -0.0, f64::MAX, f64::MIN_POSITIVE, 1e-300]
                [usize::from(self.byte()) % 8],
            2 => -f64::from(self.byte()) / 16.0,
            some => f64::from(some) / 64.0,
        }
    }

    fn f32(&mut self) -> f32 {
        match self.byte() % 4 {
            0 => self.f64() as f32,
            1 => f32::from_bits(u32::from_le_bytes([0; 4].map(|_: u8| self.byte()))),
            _ => f32::from(self.byte().cast_signed()),
        }
    }

    fn three(&mut self) -> [f64; 3] {
        [0; 3].map(|_: u8| self.f64())
    }

    fn size(&mut self) -> [usize; 3] {
        [0; 3].map(|_: u8| match self.byte() {
            255 => usize::MAX,
            254 => self.u32() as usize,
            small => usize::from(small % 16),
        })
    }

    fn region(&mut self) -> Region {
        Region { start: self.size(), size: self.size() }
    }

    fn interpolation(&mut self) -> Interpolation {
        if self.byte().is_multiple_of(2) { Interpolation::Nearest } else { Interpolation::Linear }
    }

    fn projection(&mut self) -> Projection {
        [Projection::Maximum, Projection::Minimum, Projection::Mean][usize::from(self.byte()) % 3]
    }

    fn grid(&mut self) -> Result<Geometry, VolumeError> {
        let (s, c) = if self.byte().is_multiple_of(2) { (0.0, 1.0) } else { self.f64().sin_cos() };
        let axes = [[c, s, 0.0], [-s, c, 0.0], [0.0, 0.0, if self.byte().is_multiple_of(2) { 1.0 } else { -1.0 }]];
        Ok(Geometry::new(self.size(), self.three(), self.three(), axes)?)
    }

    fn volume(&mut self, budget: &Budget) -> Result<Volume, VolumeError> {
        let kind = self.byte();
        let grid = self.grid()?;
        if grid.voxels() as u64 * 4 > BUDGET_BYTES {
            return Err(VolumeError::Invalid("too large".into()));
        }
        // Few of the bytes are voxels, again and again.
        let seed: Vec<u8> = (0..8).map(|_| self.byte()).collect();
        let byte = |i: usize| seed[(i * 7 + i / 5) % 8].wrapping_mul((i % 3) as u8 + 1);
        let all = 0..grid.voxels();
        match kind % 4 {
            0 => Volume::from_u8(grid, all.map(|i| byte(i) % 2).collect(), budget),
            1 => Volume::from_u16(grid, all.map(|i| u16::from(byte(i)) * 257).collect(), 1.0, 0.0, budget),
            2 => {
                let (slope, intercept) = (self.f32(), self.f32());
                let voxels = all.map(|i| i16::from(byte(i).cast_signed()) * 200).collect();
                Volume::from_i16(grid, voxels, slope, intercept, budget)
            }
            _ => {
                let some: Vec<f32> = (0..5).map(|_| self.f32()).collect();
                Volume::from_f32(grid, all.map(|i| some[usize::from(byte(i)) % 5]).collect(), budget)
            }
        }
    }
}
