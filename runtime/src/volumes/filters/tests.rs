//! What filters refuse, what they cost, and that they end when the job does. That they compute the right thing is in
//! `volumes::reference`.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::super::{Volume, VolumeError, test_grid};
use super::*;
use crate::geometry::Geometry;
use crate::memory::{Budget, JobOver};

type Filter = fn(&Volume) -> Result<Volume, VolumeError>;

/// Every filter, with arguments that make sense for zeros and ones.
const FILTERS: [(&str, Filter); 14] = [
    ("gaussian", |v| v.gaussian([1.5, 1.0, 2.0])),
    ("gradient", Volume::gradient_magnitude),
    ("median", |v| v.median([1; 3])),
    ("median of many", |v| v.median([2; 3])),
    ("dilate", |v| v.morphology(Morphology::Dilate, 2.0)),
    ("close", |v| v.morphology(Morphology::Close, 2.0)),
    ("project", |v| v.project(Axis::Y, Projection::Mean)),
    ("slab", |v| v.slab(Projection::Maximum, 3)),
    ("percentiles", |v| v.percentiles(&[1.0, 50.0]).map(|_| v.clone())),
    ("equalise", |v| v.equalise(16)),
    ("cubic", |v| v.resample_cubic([0.7, 1.3, 1.0])),
    ("cubic, turned", |v| v.onto(&turned(), Sampling::Cubic, 0.0)),
    ("body", |v| v.body_mask(0.5)),
    ("breast", Volume::breast_mask),
];

fn turned() -> Geometry {
    let (s, c) = 0.3f64.sin_cos();
    Geometry::new([9, 8, 7], [0.9; 3], [1.0; 3], [[c, s, 0.0], [-s, c, 0.0], [0.0, 0.0, 1.0]]).expect("a grid")
}

fn mask(size: [usize; 3], budget: &Budget) -> Volume {
    let voxels = (0..size.iter().product::<usize>()).map(|i| u8::from(i * i % 11 < 5)).collect();
    Volume::from_u8(test_grid(size), voxels, budget).expect("as many voxels")
}

#[test]
fn every_filter_ends_with_the_job_and_gives_back_what_it_held() {
    for (name, filter) in FILTERS {
        // Once alone, to see how often it looks.
        let looks = Arc::new(AtomicUsize::new(0));
        let of_job = |last: usize| {
            let looks = Arc::clone(&looks);
            Budget::of_job(1 << 26, move || looks.fetch_add(1, Ordering::Relaxed) >= last)
        };
        let budget = of_job(usize::MAX);
        let volume = mask([20, 17, 9], &budget);
        filter(&volume).unwrap_or_else(|e| panic!("{name}: {e}"));
        let all = looks.swap(0, Ordering::Relaxed);
        assert!(all > 5, "{name} looks at the time {all} times");
        for last in [0, 1, all / 2, all - 1] {
            looks.store(0, Ordering::Relaxed);
            let budget = of_job(last);
            let volume = mask([20, 17, 9], &budget);
            let held = budget.used();
            assert!(matches!(filter(&volume), Err(VolumeError::JobOver(JobOver))), "{name}, {last} of {all}");
            assert_eq!(budget.used(), held, "{name}");
        }
    }
}

#[test]
fn every_filter_is_refused_what_does_not_fit_the_budget() {
    for (name, filter) in FILTERS {
        let budget = Budget::bytes(20 * 17 * 9 + 200);
        let volume = mask([20, 17, 9], &budget);
        assert!(matches!(filter(&volume), Err(VolumeError::OverBudget(_))), "{name}");
        assert_eq!(budget.used(), 20 * 17 * 9, "{name}");
    }
}

#[test]
fn every_filter_takes_every_shape() {
    for size in [[1, 1, 1], [300, 1, 1], [1, 300, 1], [1, 1, 300], [2, 2, 2], [1, 40, 40], [40, 40, 1], [65, 3, 2]] {
        for (name, filter) in FILTERS {
            let volume = mask(size, &Budget::unlimited());
            let made = filter(&volume).unwrap_or_else(|e| panic!("{name} of {size:?}: {e}"));
            let voxels = made.read(made.geometry().region()).expect("all of it");
            assert!(voxels.iter().all(|v| v.is_finite()), "{name} of {size:?}");
        }
    }
}

#[test]
fn what_is_not_finite_stays_where_it_is_or_is_refused() {
    let grid = test_grid([21, 17, 15]);
    for wild in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, f32::MAX, f32::MIN_POSITIVE, -0.0] {
        let mut voxels = vec![0.0; grid.voxels()];
        // Farther from the first voxel than anything reaches.
        voxels[21 * 17 * 12 + 21 * 13 + 16] = wild;
        let volume = Volume::from_f32(grid.clone(), voxels, &Budget::unlimited()).expect("as many voxels");
        for (name, filter) in FILTERS {
            match filter(&volume) {
                Ok(made) => {
                    let far = made.read(Region { start: [0; 3], size: [1; 3] }).expect("a voxel");
                    assert!(!far[0].is_nan(), "{name} of {wild}");
                }
                Err(e) => assert!(matches!(e, VolumeError::Invalid(_)), "{name} of {wild}: {e}"),
            }
        }
        let all = Volume::from_f32(test_grid([2, 3, 2]), vec![wild; 12], &Budget::unlimited()).expect("12 voxels");
        for (name, filter) in FILTERS {
            assert!(matches!(filter(&all), Ok(_) | Err(VolumeError::Invalid(_))), "{name} of nothing but {wild}");
        }
    }
}

#[test]
fn arguments_that_make_no_sense_are_named() {
    let volume = mask([8, 6, 5], &Budget::unlimited());
    let no_mask = volume.affine(1.0, 1.0).expect("finite");
    let halves = volume.affine(0.5, 0.0).expect("finite");
    let far = Volume::from_f32(test_grid([2, 1, 1]), vec![-3e38, 3e38], &Budget::unlimited()).expect("2 voxels");
    let (nan, inf) = (f64::NAN, f64::INFINITY);
    let mut refused = vec![
        far.normalise(0.0, 100.0),
        volume.median([usize::MAX; 3]),
        volume.median([8; 3]),
        volume.slab(Projection::Mean, 0),
        volume.equalise(0),
        volume.equalise(u32::MAX),
        volume.body_mask(f32::NAN),
        volume.normalise(50.0, 50.0),
        volume.normalise(f32::NAN, 50.0),
        volume.normalise(0.0, 100.1),
        no_mask.morphology(Morphology::Open, 1.0),
        halves.morphology(Morphology::Open, 1.0),
    ];
    for bad in [-1.0, nan, inf, -inf, 1e6, f64::MAX] {
        refused.push(volume.gaussian([1.0, bad, 1.0]));
    }
    for bad in [0.0, -1.0, nan, inf] {
        refused.push(volume.morphology(Morphology::Dilate, bad));
    }
    refused.push(volume.morphology(Morphology::Close, f64::MAX));
    for at in [vec![], vec![-0.1], vec![100.1], vec![f32::NAN], vec![1.0; 101]] {
        refused.push(volume.percentiles(&at).map(|_| volume.clone()));
    }
    for (i, result) in refused.into_iter().enumerate() {
        assert!(matches!(&result, Err(VolumeError::Invalid(text)) if !text.is_empty()), "{i}: {result:?}");
    }
    for spacing in [0.0, -1.0, nan, inf] {
        let result = volume.resample_cubic([1.0, spacing, 1.0]);
        assert!(matches!(result, Err(VolumeError::Geometry(_))), "{result:?}");
    }
    // What reaches farther than the volume is what reaches all of it.
    let all = volume.morphology(Morphology::Dilate, f64::MAX).expect("a radius");
    assert_eq!(all.statistics(None).expect("finite").minimum, 1.0);
    assert!(volume.slab(Projection::Mean, u32::MAX).is_ok());
}

#[test]
fn filters_read_through_layers() {
    let volume = mask([20, 17, 9], &Budget::unlimited());
    let layered = volume
        .orient("SAR")
        .and_then(|v| v.pad([14, 19, 25], 1.0))
        .and_then(|v| v.resample([0.8; 3], super::super::Interpolation::Nearest))
        .expect("layers");
    let stored = layered.materialize().expect("room");
    let read = |v: Volume| v.read(v.geometry().region()).expect("all of it");
    for (name, filter) in FILTERS {
        assert_eq!(read(filter(&layered).expect(name)), read(filter(&stored).expect(name)), "{name}");
    }
}

#[test]
fn a_gaussian_that_is_cut_along_x_is_the_sum_that_it_says() {
    // Two rows are blurred over 65: a block of them is narrow.
    let (columns, sigma, radius) = (40i64, 8.0, 32i64);
    let voxels: Vec<f32> = (0..2 * columns).map(|i| ((i * 37 + 11) % 23) as f32).collect();
    let grid = test_grid([40, 2, 1]);
    let volume = Volume::from_f32(grid.clone(), voxels.clone(), &Budget::unlimited()).expect("as many voxels");
    let made = volume.gaussian([sigma, sigma, 0.0]).and_then(|v| v.read(grid.region())).expect("all of it");
    let weight = |k: i64| (-0.5 * (k as f64 / sigma).powi(2)).exp();
    let all: f64 = (-radius..=radius).map(weight).sum();
    for (y, row) in (0i64..).zip(made.chunks_exact(40)) {
        for (x, got) in (0i64..).zip(row) {
            let value = |u: i64, v: i64| {
                let at = (y + v).clamp(0, 1) * columns + (x + u).clamp(0, columns - 1);
                f64::from(voxels[at as usize]) * weight(u) * weight(v)
            };
            let lines = (-radius..=radius).map(|v| (-radius..=radius).map(|u| value(u, v)).sum::<f64>());
            let wanted = lines.sum::<f64>() / (all * all);
            assert!((f64::from(*got) - wanted).abs() < 1e-3, "{x}, {y}: {got} is not {wanted}");
        }
    }
}

#[test]
fn a_constant_stays_what_it_is() {
    let volume = Volume::from_f32(test_grid([9, 8, 7]), vec![7.5; 504], &Budget::unlimited()).expect("as many voxels");
    let read = |v: Result<Volume, VolumeError>| {
        let v = v.expect("made");
        v.read(v.geometry().region()).expect("all of it")
    };
    assert!(read(volume.gaussian([3.0; 3])).iter().all(|v| (v - 7.5).abs() < 1e-4));
    assert!(read(volume.gradient_magnitude()).iter().all(|v| *v == 0.0));
    assert!(read(volume.median([2; 3])).iter().all(|v| *v == 7.5));
    assert!(read(volume.normalise(1.0, 99.0)).iter().all(|v| *v == 0.0));
    assert!(read(volume.resample_cubic([0.7; 3])).iter().all(|v| (v - 7.5).abs() < 1e-4));
    assert_eq!(volume.percentiles(&[0.0, 33.0, 100.0]).expect("finite"), [7.5; 3]);
    assert!(volume.equalise(8).is_ok() && volume.otsu().is_ok());
}
