//! What must hold for any volume, any operation and any argument.

use proptest::prelude::*;

use super::operations::MAX_LAYERS;
use super::storage::{Run, Runs};
use super::*;
use crate::geometry::Vec3;
use crate::tensor::{ElementType, Tensor};

/// An operation with arguments that make sense for most volumes.
#[derive(Debug, Clone)]
enum Op {
    Crop([usize; 3], [usize; 3]),
    Pad([usize; 3], f32),
    Orient(&'static str),
    Resample(Vec3, Interpolation),
    Like(Geometry, Interpolation, f32),
    Clip(f32, f32),
    Affine(f32, f32),
    Window(f32, f32),
    Threshold(f32, f32),
    Label(u32),
}

const CODES: [&str; 8] = ["LPS", "RAS", "SAL", "PIR", "ILP", "ASR", "LIA", "RSP"];

fn fresh(volume: &Volume) -> Volume {
    let region = volume.geometry().region();
    let voxels = volume.read(region).expect("all of it");
    Volume::from_f32(volume.geometry().clone(), voxels, &Budget::unlimited()).expect("as many voxels")
}

impl Op {
    fn apply(&self, volume: &Volume) -> Result<Volume, VolumeError> {
        let size = volume.geometry().size();
        match self {
            // Arguments drawn without knowledge of the size are brought into it.
            Self::Crop(start, wanted) => {
                let start = [0, 1, 2].map(|a| start[a] % size[a]);
                volume.crop(Region { start, size: [0, 1, 2].map(|a| 1 + wanted[a] % (size[a] - start[a])) })
            }
            Self::Pad(more, fill) => volume.pad([0, 1, 2].map(|a| size[a].saturating_add(more[a])), *fill),
            Self::Orient(code) => volume.orient(code),
            Self::Resample(factor, how) => {
                let old = volume.geometry().spacing();
                // Neither growing without end nor shrinking to nothing.
                let factor = [0, 1, 2].map(|a| if size[a] > 12 { factor[a].max(1.0) } else { factor[a] });
                volume.resample([0, 1, 2].map(|a| old[a] * factor[a]), *how)
            }
            Self::Like(grid, how, fill) => volume.resample_like(grid, *how, *fill),
            Self::Clip(low, high) => volume.clip(*low, *high),
            Self::Affine(scale, shift) => volume.affine(*scale, *shift),
            Self::Window(centre, width) => volume.window(*centre, *width),
            Self::Threshold(low, high) => volume.threshold(*low, *high),
            Self::Label(value) => volume.label(*value),
        }
    }
}

fn any_how() -> impl Strategy<Value = Interpolation> {
    prop_oneof![Just(Interpolation::Nearest), Just(Interpolation::Linear)]
}

/// Mostly grids turned by a multiple of 90 degrees, some oblique.
fn any_axes() -> impl Strategy<Value = [Vec3; 3]> {
    (0usize..6, any::<[bool; 3]>(), prop_oneof![3 => Just(0.0), 1 => -1.0..1.0f64]).prop_map(|(p, flip, angle)| {
        let (s, c) = angle.sin_cos();
        let turned = [[c, s, 0.0], [-s, c, 0.0], [0.0, 0.0, 1.0]];
        [0, 1, 2].map(|a| turned[orient::PERMUTATIONS[p][a]].map(|v| if flip[a] { -v } else { v }))
    })
}

fn any_grid() -> impl Strategy<Value = Geometry> {
    let spacing = prop::array::uniform3(prop_oneof![Just(1.0), Just(0.5), 0.4..2.5f64]);
    let origin = prop::array::uniform3(prop_oneof![Just(0.0), Just(2.0), -4.0..4.0f64]);
    (prop::array::uniform3(1usize..8), spacing, origin, any_axes())
        .prop_map(|(size, spacing, origin, axes)| Geometry::new(size, spacing, origin, axes).expect("a grid"))
}

fn any_op() -> impl Strategy<Value = Op> {
    let low_high = || (-300.0..300.0f32, 0.0..200.0f32).prop_map(|(low, more)| (low, low + more));
    let sizes = || prop::array::uniform3(0usize..5);
    prop_oneof![
        (sizes(), sizes()).prop_map(|(start, size)| Op::Crop(start, size)),
        (sizes(), prop_oneof![Just(0.0), Just(-1.0), Just(f32::NAN)]).prop_map(|(more, fill)| Op::Pad(more, fill)),
        prop::sample::select(&CODES[..]).prop_map(Op::Orient),
        (prop::array::uniform3(prop_oneof![Just(1.0), Just(2.0), 0.5..3.0f64]), any_how())
            .prop_map(|(factor, how)| Op::Resample(factor, how)),
        (any_grid(), any_how(), prop_oneof![Just(0.0), Just(-3.5f32)])
            .prop_map(|(g, how, fill)| Op::Like(g, how, fill)),
        low_high().prop_map(|(low, high)| Op::Clip(low, high)),
        (-2.0..2.0f32, -50.0..50.0f32).prop_map(|(scale, shift)| Op::Affine(scale, shift)),
        (-100.0..100.0f32, 1.0..300.0f32).prop_map(|(centre, width)| Op::Window(centre, width)),
        low_high().prop_map(|(low, high)| Op::Threshold(low, high)),
        (0u32..4).prop_map(Op::Label),
    ]
}

/// Of every type of storage; values that labels can have, and in i16 and f32 others too.
fn any_volume() -> impl Strategy<Value = Volume> {
    (any_grid(), any::<u64>(), 0..6).prop_map(|(grid, seed, kind)| {
        let budget = Budget::unlimited();
        let n = grid.voxels();
        let mut state = seed;
        let mut next = move || {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (state >> 40) as u16
        };
        let mut labels = || (0..n).map(|_| (next() % 5).saturating_sub(1)).collect::<Vec<u16>>();
        match kind {
            0 => Volume::from_u8(grid, labels().into_iter().map(|v| v as u8).collect(), &budget),
            1 => Volume::from_u16(grid, labels(), 1.0, 0.0, &budget),
            2 => Volume::from_u16(grid, labels(), 2.5, -1.0, &budget),
            3 => {
                let voxels = Voxels::Runs(runs(&labels(), grid.size()[0]));
                Ok(Volume::stored(grid, voxels, budget.charge(0).expect("nothing"), &budget))
            }
            4 => Volume::from_i16(grid, (0..n).map(|_| next() as i16 % 500).collect(), 1.0, -100.0, &budget),
            _ => Volume::from_f32(grid, (0..n).map(|_| f32::from(next()) / 100.0 - 300.0).collect(), &budget),
        }
        .expect("as many voxels")
    })
}

fn runs(labels: &[u16], width: usize) -> Runs {
    let mut stored = Runs { rows: vec![0], runs: Vec::new() };
    for row in labels.chunks(width) {
        for (x, label) in (0u32..).zip(row).filter(|(_, label)| **label > 0) {
            stored.runs.push(Run { begin: x, end: x + 1, label: *label });
        }
        stored.rows.push(stored.runs.len() as u32);
    }
    stored
}

/// The bits of all voxels; every NaN is the same.
fn bits(volume: &Volume) -> Vec<u32> {
    let voxels = volume.read(volume.geometry().region()).expect("all of it");
    voxels.into_iter().map(|v| if v.is_nan() { f32::NAN.to_bits() } else { (v + 0.0).to_bits() }).collect()
}

proptest! {
    #[test]
    fn lazy_is_what_computing_each_step_gives(volume in any_volume(), ops in prop::collection::vec(any_op(), 0..20)) {
        let (mut lazy, mut eager) = (volume.clone(), fresh(&volume));
        for op in &ops {
            let next = op.apply(&lazy).expect("arguments that make sense");
            eager = fresh(&op.apply(&eager).expect("arguments that make sense"));
            prop_assert!(next.layers.len() <= MAX_LAYERS);
            prop_assert_eq!(next.geometry(), eager.geometry());
            lazy = next;
        }
        prop_assert_eq!(bits(&lazy), bits(&eager));
        prop_assert_eq!(bits(&lazy.materialize().expect("room")), bits(&eager));

        // Part by part, and as a tensor, it is the same.
        let (size, whole) = (lazy.geometry().size(), bits(&eager));
        let slabs: Vec<_> = (0..size[2])
            .map(|z| lazy.crop(Region { start: [0, 0, z], size: [size[0], size[1], 1] }).expect("a slice"))
            .collect();
        let stacked = stack(&slabs.iter().collect::<Vec<_>>()).expect("slices in order");
        prop_assert!(stacked.geometry().same_grid(lazy.geometry(), 1e-9));
        prop_assert_eq!(bits(&stacked), &whole[..]);
        let tensor = lazy.to_tensor(ElementType::F32, true).expect("room");
        let of_tensor = from_tensor(&tensor, 0, &lazy).expect("its own grid");
        prop_assert_eq!(bits(&of_tensor), &whole[..]);

        // Labels read as such are those read as f32, or are refused.
        let mut labels = vec![0; size[0] * size[1]];
        for (z, slice) in whole.chunks(labels.len()).enumerate() {
            let slice: Vec<f32> = slice.iter().map(|b| f32::from_bits(*b)).collect();
            let are_labels = slice.iter().all(|v| f32::from(*v as u16) == *v);
            prop_assert_eq!(stacked.label_slice(z, &mut labels).is_ok(), are_labels);
            prop_assert_eq!(lazy.label_slice(z, &mut labels).is_ok(), are_labels);
            if are_labels {
                prop_assert_eq!(labels.iter().map(|v| f32::from(*v)).collect::<Vec<_>>(), slice);
            }
        }
    }

    #[test]
    fn orienting_there_and_back_changes_nothing(volume in any_volume(), code in prop::sample::select(&CODES[..])) {
        let there = volume.orient("LPS").expect("a code");
        let back = there.orient(code).expect("a code").orient("LPS").expect("a code");
        prop_assert!(back.geometry().same_grid(there.geometry(), 1e-9));
        prop_assert_eq!(bits(&back), bits(&there));
        let like = volume.orient(code).expect("a code");
        let like = like.resample_like(volume.geometry(), Interpolation::Linear, 0.0).expect("a grid");
        prop_assert!(!like.layers.iter().any(|l| matches!(l, Layer::Resample(_) | Layer::Oblique(_))), "a view");
        prop_assert_eq!(bits(&like), bits(&volume));
    }

    #[test]
    fn what_is_told_of_numbers_as_they_are_stored_is_told_of_their_values(volume in any_volume(), cut in 0usize..8) {
        let [nx, ny, nz] = volume.geometry().size();
        let slices = |first, count| volume.crop(Region { start: [0, 0, first], size: [nx, ny, count] }).expect("inside");
        let cut = cut % nz;
        let parts = if cut > 0 { vec![slices(0, cut), slices(cut, nz - cut)] } else { vec![volume.clone()] };
        let stacked = stack(&parts.iter().collect::<Vec<_>>()).expect("slices in order");
        let values = fresh(&volume);
        for how in [Projection::Maximum, Projection::Minimum, Projection::Mean] {
            let project = |v: &Volume| bits(&v.project(Axis::Z, how).expect("room"));
            prop_assert_eq!(project(&volume), project(&values), "{:?}", how);
            prop_assert_eq!(project(&stacked), project(&values), "{:?} of two parts", how);
        }
        let percentiles = |v: &Volume| v.percentiles(&[0.0, 12.5, 50.0, 99.0, 100.0]).expect("finite");
        prop_assert_eq!(percentiles(&volume), percentiles(&values));
        let [a, b] = [&volume, &values].map(|v| v.statistics(None).expect("finite"));
        prop_assert_eq!((a.minimum, a.maximum, a.mean, a.count), (b.minimum, b.maximum, b.mean, b.count));
        prop_assert!((a.deviation - b.deviation).abs() <= 1e-6 * b.deviation, "{:?} {:?}", a, b);
    }

    #[test]
    fn components_are_those_of_a_flood(volume in any_volume(), minimum in 0u64..5, count in 0u32..3) {
        let labels = if volume.kind() == storage::Kind::F32 {
            volume.threshold(-50.0, 50.0).expect("a range")
        } else {
            volume
        };
        let flooded = flood(&labels);
        let found = labels.components(minimum).expect("labels");
        let mut wanted: Vec<_> = flooded.iter().filter(|c| c.1.len() as u64 >= minimum).collect();
        wanted.sort_by_key(|c| std::cmp::Reverse(c.1.len()));
        prop_assert_eq!(found.len(), wanted.len());
        for (f, (label, voxels)) in found.iter().zip(wanted) {
            prop_assert_eq!((f.label, f.voxels), (u32::from(*label), voxels.len() as u64));
        }
        let mut kept = vec![0.0f32; labels.geometry().voxels()];
        for label in 1..10u16 {
            let mut of_label: Vec<_> = flooded.iter().filter(|c| c.0 == label).collect();
            of_label.sort_by_key(|c| std::cmp::Reverse(c.1.len()));
            of_label.iter().take(count as usize).flat_map(|c| &c.1).for_each(|&i| kept[i] = f32::from(label));
        }
        let got = labels.keep_largest(count).expect("labels");
        prop_assert_eq!(got.read(got.geometry().region()).expect("all of it"), kept);
    }

    #[test]
    fn argmax_is_that_of_every_score_interpolated(
        like in any_volume(), onto in any_volume(), channels in 1usize..5, seed in any::<u64>(), batch in any::<bool>(),
        finite in any::<bool>(),
    ) {
        let [nx, ny, nz] = like.geometry().size();
        let mut state = seed;
        // Few voxels whose neighbours disagree, as in a real result; NaN and infinities among them.
        let scores: Vec<f32> = (0..channels * nx * ny * nz).map(|i| {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            let noise = (state >> 33) as f32 / 3e8;
            match if finite { 63 } else { state >> 58 } {
                0 => f32::NAN,
                1 => f32::NEG_INFINITY,
                2 => f32::INFINITY,
                _ => noise + (i / (nx * ny * nz)) as f32 * 3.0,
            }
        }).collect();
        let shape = if batch { vec![nz, channels, ny, nx] } else { vec![1, channels, nz, ny, nx] };
        let layout = |c: usize, x: usize, y: usize, z: usize| {
            let plane = if batch { z * channels + c } else { c * nz + z };
            scores[(plane * ny + y) * nx + x]
        };
        let data = scores.iter().flat_map(|v| v.to_le_bytes()).collect();
        let t = Tensor::new(shape, ElementType::F32, data, &Budget::unlimited()).expect("as many scores");
        let got = bits(&argmax(&t, &like, &onto).expect("scores on the grid of like"));

        let size = onto.geometry().size();
        for (i, got) in got.into_iter().enumerate() {
            let index = [i % size[0], i / size[0] % size[1], i / size[0] / size[1]];
            let at = like.geometry().to_index(onto.geometry().to_patient(index.map(|v| v as f64)));
            let sampled = (0..channels).map(|c| interpolated(at, like.geometry().size(), |x, y, z| layout(c, x, y, z)));
            let sampled: Vec<Option<f64>> = sampled.collect();
            let mut best = (0, f64::NAN);
            for (c, score) in sampled.iter().map(|s| s.unwrap_or(f64::NAN)).enumerate() {
                if score > best.1 || (best.1.is_nan() && !score.is_nan()) {
                    best = (c, score);
                }
            }
            // Where two scores or the border are as close as rounding, either is right.
            let close = |a: f64| a == best.1 || (a - best.1).abs() < 1e-6;
            let undecided = sampled.iter().flatten().filter(|s| close(**s)).count() > 1
                || (0..3).any(|a| (at[a] + 0.5).abs() < 1e-5 || (at[a] + 0.5 - like.geometry().size()[a] as f64).abs() < 1e-5)
                // An infinite neighbour counts or not with a weight as small as rounding.
                || scores.iter().any(|s| !s.is_finite()) && (0..3).any(|a| (at[a] - at[a].round()).abs() < 1e-5);
            if !undecided {
                prop_assert_eq!(got, (best.0 as f32).to_bits(), "at {:?}: {:?}", at, sampled);
            }
        }
    }
}

fn wild_f64() -> impl Strategy<Value = f64> {
    prop_oneof![
        any::<f64>(),
        prop::sample::select(vec![0.0, -0.0, -1.0, 1.0, 1e-9, 1e9, 1e300, f64::NAN, f64::INFINITY, f64::MIN_POSITIVE]),
    ]
}

fn wild_f32() -> impl Strategy<Value = f32> {
    wild_f64().prop_map(|v| v as f32)
}

fn wild_index() -> impl Strategy<Value = usize> {
    prop_oneof![0usize..9, any::<usize>(), prop::sample::select(vec![1 << 20, 1 << 32, usize::MAX])]
}

fn wild_grid() -> impl Strategy<Value = Geometry> {
    let three = || prop::array::uniform3(wild_f64());
    let size = prop::array::uniform3(prop_oneof![4 => 1usize..70, 1 => wild_index()]);
    (size, three(), three(), any_axes()).prop_map(|(size, spacing, origin, axes)| {
        // Arguments that make no grid give way to some that do, one after the other.
        Geometry::new(size, spacing, origin, axes)
            .or_else(|_| Geometry::new(size, [1e-3; 3], origin, axes))
            .or_else(|_| Geometry::new(size, spacing, [1e9; 3], axes))
            .or_else(|_| Geometry::new([3, 1, 64], [1e3, 1.0, 0.1], [-5.0; 3], axes))
            .expect("a grid")
    })
}

/// Arguments as a guest might send them that means harm.
fn wild_op() -> impl Strategy<Value = Op> {
    let index = || prop::array::uniform3(wild_index());
    prop_oneof![
        (index(), wild_f32()).prop_map(|(more, fill)| Op::Pad(more, fill)),
        (prop::array::uniform3(wild_f64()), any_how()).prop_map(|(factor, how)| Op::Resample(factor, how)),
        (wild_grid(), any_how(), wild_f32()).prop_map(|(g, how, fill)| Op::Like(g, how, fill)),
        (wild_f32(), wild_f32()).prop_map(|(low, high)| Op::Clip(low, high)),
        (wild_f32(), wild_f32()).prop_map(|(scale, shift)| Op::Affine(scale, shift)),
        (wild_f32(), wild_f32()).prop_map(|(centre, width)| Op::Window(centre, width)),
        (wild_f32(), wild_f32()).prop_map(|(low, high)| Op::Threshold(low, high)),
        any::<u32>().prop_map(Op::Label),
    ]
}

proptest! {
    #[test]
    fn no_argument_panics_or_passes_the_budget(
        grid in wild_grid(),
        region in (prop::array::uniform3(wild_index()), prop::array::uniform3(wild_index())),
        ops in prop::collection::vec(prop_oneof![wild_op(), any_op()], 0..12),
        count in any::<u32>(),
    ) {
        let budget = Budget::bytes(1 << 16);
        let mut volume = Volume::from_u8(grid.clone(), vec![1; grid.voxels().min(1 << 16)], &budget)
            .or_else(|_| Volume::from_i16(test_grid([3, 4, 5]), (0..60).collect(), 1.0, 0.0, &budget))
            .expect("one of them fits");
        let region = Region { start: region.0, size: region.1 };
        let _ = volume.crop(region);
        for op in ops {
            // What cannot be done leaves the volume as it was.
            let next = match &op {
                Op::Resample(spacing, how) => volume.resample(*spacing, *how),
                Op::Pad(size, fill) => volume.pad(*size, *fill).or_else(|_| op.apply(&volume)),
                op => op.apply(&volume),
            };
            volume = next.unwrap_or(volume);
            prop_assert!(volume.geometry().voxels() <= 1 << 16, "{:?}", volume.geometry());
        }
        let _ = volume.read(region);
        let _ = volume.statistics(None);
        let _ = volume.z_score();
        let _ = volume.components(1);
        let _ = volume.keep_largest(count);
        let _ = volume.label_slice(region.start[2], &mut [0; 9]);
        let _ = stack(&[&volume, &volume]);
        for element in [ElementType::F32, ElementType::I64] {
            if let Ok(t) = volume.to_tensor(element, true) {
                let _ = softmax(&t, region.start[0]);
                let _ = argmax(&t, &volume, &volume);
                let other = Volume::from_u8(test_grid([2, 2, 2]), vec![0; 8], &Budget::unlimited()).expect("8 voxels");
                let _ = argmax(&t, &volume, &other);
                let _ = from_tensor(&t, count, &volume);
            }
        }
        drop(volume);
        prop_assert_eq!(budget.used(), 0);
    }
}

/// Regions by flooding, in the order of their first voxels.
fn flood(volume: &Volume) -> Vec<(u16, Vec<usize>)> {
    let size = volume.geometry().size();
    let voxels = volume.read(volume.geometry().region()).expect("all of it");
    let mut seen = vec![false; voxels.len()];
    let mut found = Vec::new();
    for first in 0..voxels.len() {
        if seen[first] || voxels[first] == 0.0 {
            continue;
        }
        seen[first] = true;
        let (mut region, mut next) = (Vec::new(), vec![first]);
        while let Some(i) = next.pop() {
            region.push(i);
            let at = [i % size[0], i / size[0] % size[1], i / size[0] / size[1]];
            for (axis, step) in [(0, 1), (1, size[0]), (2, size[0] * size[1])] {
                let back = (at[axis] > 0).then(|| i - step);
                let on = (at[axis] + 1 < size[axis]).then(|| i + step);
                for n in back.into_iter().chain(on) {
                    if !seen[n] && voxels[n] == voxels[first] {
                        seen[n] = true;
                        next.push(n);
                    }
                }
            }
        }
        found.push((voxels[first] as u16, region));
    }
    found
}

/// Trilinear, the edge to half a voxel beyond it, nothing farther outside.
fn interpolated(at: Vec3, size: [usize; 3], score: impl Fn(usize, usize, usize) -> f32) -> Option<f64> {
    let inside = (0..3).all(|a| at[a] >= -0.5 - 1e-6 && at[a] <= size[a] as f64 - 0.5 + 1e-6);
    let at = [0, 1, 2].map(|a| at[a].clamp(0.0, (size[a] - 1) as f64));
    let low = at.map(|v| v.floor());
    let mut sum = 0.0;
    for corner in 0..8usize {
        let high = [0, 1, 2].map(|a| (corner >> a & 1) as f64);
        let weight: f64 = (0..3).map(|a| if high[a] > 0.0 { at[a] - low[a] } else { 1.0 - (at[a] - low[a]) }).product();
        let [x, y, z] = [0, 1, 2].map(|a| ((low[a] + high[a]) as usize).min(size[a] - 1));
        if weight > 0.0 {
            sum += weight * f64::from(score(x, y, z));
        }
    }
    inside.then_some(sum)
}
