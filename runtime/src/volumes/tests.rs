//! What one operation does, and what it costs.

use super::operations::MAX_LAYERS;
use super::*;
use crate::tensor::{ElementType, Tensor};

fn ramp(size: [usize; 3], budget: &Budget) -> Volume {
    let voxels = (0..size.iter().product::<usize>()).map(|v| v as i16).collect();
    Volume::from_i16(test_grid(size), voxels, 1.0, -1000.0, budget).expect("as many voxels")
}

#[test]
fn a_volume_is_charged_as_it_is_stored_and_layers_cost_nothing() {
    let budget = Budget::unlimited();
    let ct = ramp([8, 8, 4], &budget);
    let seen = ct.orient("RAS").and_then(|v| v.pad([16, 16, 16], 0.0)).and_then(|v| v.window(40.0, 400.0));
    let seen = seen.and_then(|v| v.resample([2.0; 3], Interpolation::Linear)).expect("lazy");
    assert_eq!((budget.used(), seen.resident_bytes()), (512, 512));
    let stored = seen.materialize().expect("room");
    assert_eq!((budget.used(), stored.resident_bytes()), (512 + 8 * 8 * 8 * 4, 8 * 8 * 8 * 4));
    let mask = ct.threshold(-900.0, -800.0).and_then(|v| v.materialize()).expect("room");
    assert_eq!(mask.resident_bytes(), 256, "a mask is stored in bytes");
    drop((ct, seen, stored, mask));
    assert_eq!(budget.used(), 0);
}

#[test]
fn what_would_be_too_large_is_refused_before_it_is_computed() {
    let budget = Budget::bytes(1 << 20);
    let ct = ramp([8, 8, 4], &budget);
    let over = |result: Result<Volume, VolumeError>| {
        assert!(matches!(result, Err(VolumeError::OverBudget(_))), "{result:?}");
    };
    over(ct.pad([1 << 10, 1 << 10, 4], 0.0));
    over(ct.resample([0.01, 0.01, 1.0], Interpolation::Linear));
    over(ct.resample_like(&test_grid([1 << 19, 1, 1]), Interpolation::Nearest, 0.0));
    let too_large = |result: Result<Volume, VolumeError>| {
        assert!(matches!(result, Err(VolumeError::Geometry(GeometryError::Size(_)))), "{result:?}");
    };
    too_large(ct.pad([usize::MAX; 3], 0.0));
    too_large(ct.resample([1e-9; 3], Interpolation::Nearest));
    for spacing in [0.0, -1.0, f64::NAN, f64::INFINITY] {
        let result = ct.resample([1.0, spacing, 1.0], Interpolation::Linear);
        assert!(matches!(result, Err(VolumeError::Geometry(GeometryError::Spacing(_)))), "{result:?}");
    }
    let coarse = ct.resample([1e6; 3], Interpolation::Linear).expect("one voxel is left");
    assert_eq!(coarse.read(coarse.geometry().region()).expect("all of it"), [-745.0], "that at the edge");
}

#[test]
fn arguments_that_make_no_sense_are_named() {
    let ct = ramp([4, 4, 4], &Budget::unlimited());
    let region = |start, size| Region { start: [start; 3], size: [size; 3] };
    let refused = [
        ct.crop(region(0, 0)),
        ct.crop(region(usize::MAX, 2)),
        ct.crop(region(2, 3)),
        ct.pad([3, 4, 4], 0.0),
        ct.orient("LRS"),
        ct.clip(1.0, 0.0),
        ct.clip(f32::NAN, 0.0),
        ct.affine(f32::INFINITY, 0.0),
        ct.affine(1.0, f32::NAN),
        ct.window(0.0, 0.0),
        ct.window(f32::NAN, 1.0),
        ct.window(0.0, f32::INFINITY),
        ct.threshold(2.0, 1.0),
        ct.keep_largest(1),
        stack(&[]),
        stack(&[&ct, &ct]),
        Volume::from_u8(test_grid([2, 2, 2]), vec![0; 7], &Budget::unlimited()),
        ct.affine(0.0, 0.5).and_then(|v| v.components(0).map(|_| v)),
        ct.pad([5, 4, 4], f32::NAN).and_then(|v| v.affine(0.0, 1.0)).and_then(|v| v.keep_largest(1)),
        ct.pad([5, 4, 4], 0.0).and_then(|v| v.statistics(Some(region(4, 1))).map(|_| v)),
        ct.affine(f32::MAX, f32::MAX).and_then(|v| v.affine(f32::MAX, 0.0)).and_then(|v| v.z_score()),
    ];
    for (i, result) in refused.into_iter().enumerate() {
        assert!(matches!(&result, Err(VolumeError::Invalid(text)) if !text.is_empty()), "{i}: {result:?}");
    }
    assert!(ct.label_slice(4, &mut [0; 16]).is_err() && ct.label_slice(0, &mut [0; 15]).is_err());
}

#[test]
fn layers_stay_few_however_many_operations() {
    let budget = Budget::unlimited();
    let mut volume = ramp([4, 4, 4], &budget);
    for i in 0..300 {
        volume = volume.clip(-2000.0 - i as f32, 2000.0).expect("a range");
        volume = volume.pad([5, 5, 5], i as f32).expect("larger");
        volume = volume.crop(Region { start: [i % 2, 0, 0], size: [4, 4, 4] }).expect("inside");
        volume = volume.resample([1.0 + f64::from(u8::from(i % 2 == 0)); 3], Interpolation::Linear).expect("a grid");
        volume = volume.resample_like(&test_grid([4, 4, 4]), Interpolation::Nearest, 1.0).expect("a grid");
        assert!(volume.layers.len() <= MAX_LAYERS);
    }
    for _ in 0..1000 {
        volume = volume.affine(1.0, 1.0).expect("finite");
    }
    assert!(volume.layers.len() <= MAX_LAYERS);
    assert!(budget.used() <= 256, "only one result is kept: {}", budget.used());
}

#[test]
fn slabs_are_put_together_without_copying() {
    let budget = Budget::unlimited();
    let slab = |z: usize, depth| {
        let whole = test_grid([3, 2, 9]);
        let origin = whole.to_patient([0.0, 0.0, z as f64]);
        let grid = Geometry::new([3, 2, depth], whole.spacing(), origin, whole.axes()).expect("a grid");
        Volume::from_u8(grid, vec![z as u8 + 1; 6 * depth], &budget).expect("as many voxels")
    };
    let slabs = [slab(0, 2), slab(2, 3), slab(5, 4)];
    let before = budget.used();
    let stacked = stack(&slabs.each_ref()).expect("in order");
    assert_eq!((budget.used(), stacked.geometry()), (before, &test_grid([3, 2, 9])));
    let again = stack(&[&stacked, &slab(9, 1)]).expect("in order");
    let mut labels = [0; 6];
    for (z, label) in [(0, 1), (1, 1), (2, 3), (4, 3), (5, 6), (8, 6), (9, 10)] {
        again.label_slice(z, &mut labels).expect("labels");
        assert_eq!(labels, [label; 6], "slice {z}");
    }
    let turned = again.orient("SAR").expect("a code");
    assert_eq!(
        turned.read(Region { start: [0; 3], size: [10, 1, 1] }).expect("a row"),
        [1.0, 1.0, 3.0, 3.0, 3.0, 6.0, 6.0, 6.0, 6.0, 10.0]
    );
    assert!(matches!(stack(&[&slabs[0], &slabs[2]]), Err(VolumeError::Invalid(_))), "a gap");
    assert!(matches!(stack(&[&slabs[1], &slabs[0]]), Err(VolumeError::Invalid(_))), "the wrong order");
}

#[test]
fn ties_go_to_the_lower_channel_and_nan_never_wins() {
    let budget = Budget::unlimited();
    let grid = ramp([4, 1, 1], &budget);
    let of = |scores: &[f32], channels: usize| {
        let data = scores.iter().flat_map(|v| v.to_le_bytes()).collect();
        let t = Tensor::new(vec![1, channels, 1, 1, 4], ElementType::F32, data, &budget).expect("as many scores");
        let fine = grid.resample([0.5, 1.0, 1.0], Interpolation::Linear).expect("a grid");
        let read = |v: Volume| v.read(v.geometry().region()).expect("all of it");
        let [plain, fine] = [&grid, &fine].map(|onto| read(argmax(&t, &grid, onto).expect("scores")));
        (plain, fine)
    };
    let (nan, inf) = (f32::NAN, f32::INFINITY);
    let (plain, fine) = of(&[1.0, nan, nan, -inf, 1.0, 0.0, nan, nan, 1.0, 0.0, nan, -inf], 3);
    assert_eq!(plain, [0.0, 1.0, 0.0, 0.0]);
    assert_eq!(fine, [0.0, 1.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0]);
    // In the middle between 0 against 4 and 4 against 0, and a quarter from it.
    let (_, fine) = of(&[0.0, 4.0, 4.0, 0.0, 4.0, 0.0, 0.0, 4.0], 2);
    assert_eq!(fine, [1.0, 1.0, 0.0, 0.0, 0.0, 0.0, 1.0, 1.0]);
    let too_many = Tensor::zeroed(vec![1, 257, 1, 1, 4], ElementType::U8, &budget).expect("room");
    assert!(matches!(argmax(&too_many, &grid, &grid), Err(VolumeError::Invalid(_))));
    let most = Tensor::zeroed(vec![1, 256, 1, 1, 4], ElementType::U8, &budget).expect("room");
    assert!(argmax(&most, &grid, &grid).is_ok());
}

#[test]
fn whatever_is_done_to_a_volume_it_is_known_what_it_was_made_of() {
    let budget = Budget::unlimited();
    let other = ramp([4, 4, 4], &budget).with_source((0, 0));
    let echo = ramp([4, 4, 4], &budget).with_source((0, 1));
    let (mask, coarse) = (echo.threshold(-990.0, -980.0).expect("a range"), test_grid([3, 3, 3]));
    let (s, c) = 0.4f64.sin_cos();
    let turned = Geometry::new([3; 3], [1.0; 3], [0.0; 3], [[c, s, 0.0], [-s, c, 0.0], [0.0, 0.0, 1.0]]);
    let turned = turned.expect("a grid");
    let scores = Tensor::zeroed(vec![1, 2, 4, 4, 4], ElementType::F32, &budget).expect("room");
    let behind = Geometry::new([4; 3], [1.0; 3], [0.0, 0.0, 4.0], other.geometry().axes()).expect("a grid");
    let behind = other.resample_like(&behind, Interpolation::Linear, 0.0).expect("a view");
    let region = Region { start: [1; 3], size: [2; 3] };
    let made = [
        echo.crop(region),
        echo.pad([6; 3], 0.0),
        echo.orient("RAS"),
        echo.resample([0.5; 3], Interpolation::Linear),
        echo.resample_like(&coarse, Interpolation::Nearest, 0.0),
        echo.resample_like(&turned, Interpolation::Linear, 0.0),
        echo.resample_like(&behind.geometry().clone(), Interpolation::Linear, 0.0),
        echo.clip(0.0, 1.0),
        echo.z_score(),
        echo.label(3),
        echo.affine(2.0, 0.0).and_then(|v| v.materialize()),
        echo.gaussian([1.0; 3]),
        echo.median([1; 3]),
        echo.gradient_magnitude(),
        echo.slab(Projection::Mean, 2),
        echo.project(Axis::Z, Projection::Maximum),
        echo.normalise(1.0, 99.0),
        echo.equalise(4),
        echo.resample_cubic([0.5; 3]),
        echo.onto(&turned, Sampling::Cubic, 0.0),
        echo.body_mask(-990.0),
        echo.breast_mask(),
        mask.materialize(),
        mask.morphology(Morphology::Dilate, 1.0),
        mask.keep_largest(1),
        stack(&[&echo, &behind]),
        from_tensor(&scores, 1, &echo),
        argmax(&scores, &echo, &other),
    ];
    for (i, made) in made.into_iter().enumerate() {
        assert_eq!(made.expect("made").source(), Some((0, 1)), "{i}");
    }
    assert_eq!(ramp([2; 3], &budget).clip(0.0, 1.0).expect("a range").source(), None);
}

#[test]
fn where_values_fall_as_numbers_rise_the_largest_is_that_of_the_smallest() {
    let budget = Budget::unlimited();
    let volume = Volume::from_i16(test_grid([2, 1, 3]), vec![3, -7, 5, 2, 9, -8], -0.5, 1.0, &budget);
    let volume = volume.expect("as many voxels");
    let project = |how| {
        let made = volume.project(Axis::Z, how).expect("room");
        made.read(made.geometry().region()).expect("all of it")
    };
    assert_eq!(project(Projection::Maximum), [-0.5, 5.0]);
    assert_eq!(project(Projection::Minimum), [-3.5, 0.0]);
}

#[test]
fn numbers_to_both_ends_of_their_bits_are_told_of_as_their_values_are_whichever_way_these_run() {
    let budget = Budget::unlimited();
    let grid = test_grid([4, 3, 1]);
    let signed = [i16::MIN, -1, 0, 1, i16::MAX, i16::MIN, 7, -300, 300, 2, 2, i16::MAX];
    for (slope, intercept) in [(1.0, 0.0), (1.0, -1024.0), (1.0, 0.5), (2.5, -1e6), (-1.0, 5.0), (-0.5, 0.25)] {
        let unsigned = signed.map(i16::cast_unsigned);
        let of_signed = Volume::from_i16(grid.clone(), signed.to_vec(), slope, intercept, &budget);
        let of_unsigned = Volume::from_u16(grid.clone(), unsigned.to_vec(), slope, intercept, &budget);
        for volume in [of_signed, of_unsigned] {
            let volume = volume.expect("as many voxels");
            let values = volume.read(grid.region()).expect("all of it");
            let plain = Volume::from_f32(grid.clone(), values.clone(), &budget).expect("as many voxels");
            let percentiles = |v: &Volume| v.percentiles(&[0.0, 10.0, 33.0, 50.0, 75.0, 100.0]).expect("finite");
            assert_eq!(percentiles(&volume), percentiles(&plain), "{slope} {intercept}");
            let [a, b] = [&volume, &plain].map(|v| v.statistics(None).expect("finite"));
            assert_eq!((a.minimum, a.maximum, a.count), (b.minimum, b.maximum, b.count), "{slope} {intercept}");
            let near = |a: f32, b: f32| (a - b).abs() <= 1e-6 * b.abs().max(1.0);
            assert!(near(a.mean, b.mean) && near(a.deviation, b.deviation), "{a:?} {b:?}");
            for low in values.iter().flat_map(|v| [*v, v.next_up(), f32::NEG_INFINITY]) {
                for high in values.iter().flat_map(|v| [*v, v.next_down(), f32::INFINITY]).filter(|high| low <= *high) {
                    let mask = |v: &Volume| {
                        let stored = v.threshold(low, high).and_then(|v| v.materialize()).expect("room");
                        stored.read(grid.region()).expect("all of it")
                    };
                    assert_eq!(mask(&volume), mask(&plain), "{slope} {intercept}: {low} to {high}");
                }
            }
        }
    }
}

#[test]
fn debug_shows_no_voxels() {
    let text = format!("{:?}", ramp([2, 2, 2], &Budget::unlimited()));
    assert!(text.contains("resident_bytes: 16") && !text.contains("-999"), "{text}");
}

#[test]
fn the_largest_regions_are_kept_as_runs_or_as_voxels_whichever_is_smaller() {
    let budget = Budget::unlimited();
    let grid = test_grid([64, 6, 5]);
    let sparse: Vec<u16> = (0..grid.voxels()).map(|i| if i % 64 < 40 { 60_000 } else { 0 }).collect();
    let noisy: Vec<u16> = (0..grid.voxels()).map(|i| [0, 7, 300, 0, 7][i * i % 31 % 5]).collect();
    for (name, voxels, bytes) in [("sparse", sparse, 30 * 12 + 31 * 4), ("noisy", noisy, 64 * 6 * 5 * 2)] {
        let labels = Volume::from_u16(grid.clone(), voxels, 1.0, 0.0, &budget).expect("as many voxels");
        let kept = labels.keep_largest(u32::MAX).expect("labels");
        assert_eq!(kept.resident_bytes(), bytes, "{name}");
        // Seen in any way, they are what was there.
        let cut = Region { start: [3, 1, 1], size: [50, 4, 3] };
        for code in ["LPS", "RAS", "PSL", "IPR"] {
            let seen = |v: &Volume| v.crop(cut)?.orient(code)?.read(Region { start: [0; 3], size: [3, 3, 3] });
            assert_eq!(seen(&kept).expect("inside"), seen(&labels).expect("inside"), "{name} {code}");
        }
        let found = kept.components(0).expect("labels");
        assert_eq!(found, labels.components(0).expect("labels"), "{name}");
        let one = labels.keep_largest(1).and_then(|v| v.components(0)).expect("labels");
        assert_eq!(one[0], found[0], "{name}");
        assert!(labels.keep_largest(0).and_then(|v| v.components(0)).expect("labels").is_empty());
    }
}

#[test]
fn of_equal_regions_the_first_is_kept() {
    let grid = test_grid([5, 2, 2]);
    let mut voxels = vec![0; 20];
    // One voxel at the end of the first row, one at the beginning of the last, and a third between them.
    for i in [4, 12, 15] {
        voxels[i] = 1;
    }
    let labels = Volume::from_u8(grid, voxels, &Budget::unlimited()).expect("as many voxels");
    let kept = labels.keep_largest(2).expect("labels");
    let kept = kept.read(kept.geometry().region()).expect("all of it");
    assert_eq!((0..20).filter(|i| kept[*i] == 1.0).collect::<Vec<_>>(), [4, 12]);
}

#[test]
fn an_infinite_winner_at_every_corner_need_not_win_between_them() {
    let budget = Budget::unlimited();
    let inf = f32::INFINITY;
    let data = [-inf, inf, -inf, 5.0].iter().flat_map(|v| v.to_le_bytes()).collect();
    let t = Tensor::new(vec![1, 2, 1, 1, 2], ElementType::F32, data, &budget).expect("4 scores");
    let like = ramp([2, 1, 1], &budget);
    let fine = like.resample([0.5, 1.0, 1.0], Interpolation::Linear).expect("a grid");
    let labels = argmax(&t, &like, &fine).expect("scores");
    assert_eq!(labels.read(labels.geometry().region()).expect("all of it"), [0.0, 1.0, 1.0, 0.0]);
}

#[test]
fn a_row_on_a_voxel_and_the_next_between_two_do_not_share_a_winner() {
    let budget = Budget::unlimited();
    let data = [1.0f32, 0.0, 3.0, 0.0, 4.0, 0.0].iter().flat_map(|v| v.to_le_bytes()).collect();
    let t = Tensor::new(vec![1, 2, 1, 3, 1], ElementType::F32, data, &budget).expect("6 scores");
    let like = ramp([1, 3, 1], &budget);
    let axes = like.geometry().axes();
    let half_steps = Geometry::new([1, 5, 1], [1.0, 0.5, 1.0], [0.0; 3], axes).expect("a grid");
    let onto = Volume::from_u8(half_steps, vec![0; 5], &budget).expect("5 voxels");
    let labels = argmax(&t, &like, &onto).expect("scores");
    assert_eq!(labels.read(labels.geometry().region()).expect("all of it"), [0.0, 1.0, 1.0, 1.0, 0.0]);
}
