//! What SimpleITK, scipy, numpy and MONAI make of the same input: `reference/*.json`, which name their makers' versions
//! and are written by `tests/reference/*.py`.
//!
//! Views, labels, masks, medians and points without rounding must agree exactly; what is interpolated, to 1e-4 for values below
//! 256; what a Gaussian or a gradient sums up to 1e-3, cubic splines to 2e-3; z-scores, percentiles and equalisation to 1e-5,
//! windows, softmax and statistics to 1e-6; coordinates to 1e-6 mm.

use serde_json::Value;

use super::*;
use crate::tensor::{ElementType, Tensor};

/// Coordinates, mm, and voxel sizes.
const CLOSE_MM: f64 = 1e-6;

fn vectors() -> Value {
    serde_json::from_str(include_str!("reference/vectors.json")).expect("the vectors are JSON")
}

fn vectors_of_filters() -> Value {
    serde_json::from_str(include_str!("reference/filters.json")).expect("the vectors are JSON")
}

fn number(v: &Value) -> f64 {
    match v {
        Value::Number(n) => n.as_f64().expect("a number fits"),
        Value::String(s) => s.parse().expect("nan, inf or -inf"),
        _ => panic!("{v} is no number"),
    }
}

fn numbers(v: &Value) -> Vec<f32> {
    v.as_array().expect("a list").iter().map(|v| number(v) as f32).collect()
}

/// Voxels, or those of a mask as four bits a digit.
fn voxels_of(v: &Value, count: usize) -> Vec<f32> {
    let Value::String(digits) = v else { return numbers(v) };
    let four = digits.chars().map(|digit| digit.to_digit(16).expect("a digit"));
    four.flat_map(|four| [8, 4, 2, 1].map(|bit| f32::from(u8::from(four & bit > 0)))).take(count).collect()
}

fn three<T>(v: &Value, of: impl Fn(&Value) -> T) -> [T; 3] {
    let all: Vec<T> = v.as_array().expect("a list").iter().map(of).collect();
    all.try_into().unwrap_or_else(|_| panic!("{v} has three parts"))
}

fn indices(v: &Value) -> [usize; 3] {
    three(v, |v| number(v) as usize)
}

fn region(v: &Value) -> Region {
    Region { start: indices(&v[0]), size: indices(&v[1]) }
}

fn grid(v: &Value) -> Geometry {
    let axes = three(&v["axes"], |axis| three(axis, number));
    Geometry::new(indices(&v["size"]), three(&v["spacing"], number), three(&v["origin"], number), axes)
        .expect("SimpleITK's grids are grids")
}

fn source(vectors: &Value, name: &str) -> Volume {
    let source = &vectors["sources"][name];
    let (geometry, budget) = (grid(&source["grid"]), Budget::unlimited());
    let voxels = voxels_of(&source["voxels"], geometry.voxels());
    if name == "labels" || source["voxels"].is_string() {
        let labels = voxels.iter().map(|v| *v as u8).collect();
        return Volume::from_u8(geometry, labels, &budget).expect("as many voxels");
    }
    Volume::from_f32(geometry, voxels, &budget).expect("as many voxels")
}

fn apply(vectors: &Value, volume: &Volume, op: &Value) -> Volume {
    let f = |i: usize| number(&op[i]) as f32;
    let how = |i: usize| match op[i].as_str() {
        Some("linear") => Interpolation::Linear,
        Some("nearest") => Interpolation::Nearest,
        other => panic!("interpolation {other:?}"),
    };
    match op[0].as_str().expect("an operation") {
        "resample" => volume.resample(three(&op[1], number), how(2)),
        "resample_like" => {
            let like = source(vectors, op[1].as_str().expect("a name"));
            volume.resample_like(like.geometry(), how(2), f(3))
        }
        "orient" => volume.orient(op[1].as_str().expect("a code")),
        "crop" => volume.crop(Region { start: indices(&op[1]), size: indices(&op[2]) }),
        "pad" => volume.pad(indices(&op[1]), f(2)),
        "clip" => volume.clip(f(1), f(2)),
        "affine" => volume.affine(f(1), f(2)),
        "window" => volume.window(f(1), f(2)),
        "z_score" => volume.z_score(),
        "threshold" => volume.threshold(f(1), f(2)),
        "label" => volume.label(number(&op[1]) as u32),
        _ => return filtered(vectors, volume, op),
    }
    .unwrap_or_else(|e| panic!("{op}: {e}"))
}

fn filtered(vectors: &Value, volume: &Volume, op: &Value) -> Volume {
    let projection = |i: usize| match op[i].as_str() {
        Some("maximum") => Projection::Maximum,
        Some("minimum") => Projection::Minimum,
        Some("mean") => Projection::Mean,
        other => panic!("projection {other:?}"),
    };
    match op[0].as_str().expect("an operation") {
        "gaussian" => volume.gaussian(three(&op[1], number)),
        "gradient_magnitude" => volume.gradient_magnitude(),
        "median" => volume.median(indices(&op[1])),
        "morphology" => {
            let operation = match op[1].as_str() {
                Some("dilate") => Morphology::Dilate,
                Some("erode") => Morphology::Erode,
                Some("open") => Morphology::Open,
                Some("close") => Morphology::Close,
                other => panic!("morphology {other:?}"),
            };
            volume.morphology(operation, number(&op[2]))
        }
        "project" => volume.project([Axis::X, Axis::Y, Axis::Z][number(&op[1]) as usize], projection(2)),
        "slab" => volume.slab(projection(1), number(&op[2]) as u32),
        "normalise" => volume.normalise(number(&op[1]) as f32, number(&op[2]) as f32),
        "equalise" => volume.equalise(number(&op[1]) as u32),
        "resample_cubic" => volume.resample_cubic(three(&op[1], number)),
        "onto" => {
            let how = if op[2] == "cubic" { Sampling::Cubic } else { Sampling::Linear };
            let grid = source(vectors, op[1].as_str().expect("a name"));
            volume.onto(grid.geometry(), how, number(&op[3]) as f32)
        }
        "body_mask" => volume.body_mask(number(&op[1]) as f32),
        "breast_mask" => volume.breast_mask(),
        other => panic!("operation {other}"),
    }
    .unwrap_or_else(|e| panic!("{op}: {e}"))
}

fn voxels(volume: &Volume) -> Vec<f32> {
    volume.read(volume.geometry().region()).expect("all of it")
}

fn assert_close(name: &str, got: &[f32], expected: &[f32], tolerance: f64) {
    assert_eq!(got.len(), expected.len(), "{name}");
    for (i, (g, e)) in got.iter().zip(expected).enumerate() {
        let apart = (f64::from(*g) - f64::from(*e)).abs();
        assert!(apart <= tolerance, "{name}, voxel {i}: {g} is not {e} to {tolerance}");
    }
}

#[test]
fn lazy_operations_agree_with_simpleitk_and_numpy() {
    assert_cases_agree(&vectors(), 30);
}

#[test]
fn filters_agree_with_simpleitk_scipy_and_numpy() {
    let vectors = vectors_of_filters();
    assert_cases_agree(&vectors, 70);
    for expected in vectors["percentiles"].as_array().expect("cases") {
        let volume = source(&vectors, expected["source"].as_str().expect("a name"));
        let got = volume.percentiles(&numbers(&expected["at"])).expect("finite voxels");
        assert_close("percentiles", &got, &numbers(&expected["values"]), 1e-4);
    }
}

fn assert_cases_agree(vectors: &Value, more_than: usize) {
    let cases = vectors["cases"].as_array().expect("cases");
    assert!(cases.len() > more_than, "{} cases", cases.len());
    for case in cases {
        let name = case["name"].as_str().expect("a name");
        let mut volume = source(vectors, case["source"].as_str().expect("a name"));
        for op in case["ops"].as_array().expect("operations") {
            volume = apply(vectors, &volume, op);
        }
        let expected = grid(&case["expected"]["grid"]);
        assert!(
            volume.geometry().same_grid(&expected, CLOSE_MM),
            "{name}: {:?} is not {expected:?}",
            volume.geometry()
        );
        let tolerance = number(&case["tolerance"]);
        let wanted = voxels_of(&case["expected"]["voxels"], expected.voxels());
        assert_close(name, &voxels(&volume), &wanted, tolerance);
    }
}

#[test]
fn statistics_agree_with_numpy() {
    let vectors = vectors();
    for expected in vectors["statistics"].as_array().expect("cases") {
        let volume = source(&vectors, expected["source"].as_str().expect("a name"));
        let within = (!expected["within"].is_null()).then(|| region(&expected["within"]));
        let got = volume.statistics(within).expect("finite voxels");
        assert_eq!(got.count, number(&expected["count"]) as u64);
        for (name, got) in
            [("minimum", got.minimum), ("maximum", got.maximum), ("mean", got.mean), ("deviation", got.deviation)]
        {
            let expected = number(&expected[name]);
            assert!((f64::from(got) - expected).abs() <= 1e-6 * expected.abs().max(1.0), "{name}: {got}, {expected}");
        }
    }
}

#[test]
fn components_agree_with_scipy() {
    let vectors = vectors();
    let expected = &vectors["components"];
    let labels = source(&vectors, "labels");
    let found = labels.components(1).expect("labels");
    let wanted = expected["components"].as_array().expect("components");
    assert_eq!(found.len(), wanted.len());
    for (got, wanted) in found.iter().zip(wanted) {
        assert_eq!(u64::from(got.label), number(&wanted["label"]) as u64);
        assert_eq!(got.voxels, number(&wanted["voxels"]) as u64);
        assert!((got.millilitres - number(&wanted["millilitres"])).abs() < 1e-9);
        assert_eq!(got.bounds, Region { start: indices(&wanted["start"]), size: indices(&wanted["size"]) });
        let centroid = three(&wanted["centroid"], number);
        assert!(got.centroid.iter().zip(centroid).all(|(a, b)| (a - b).abs() < CLOSE_MM), "{got:?}, {centroid:?}");
    }
    let large = labels.components(20).expect("labels");
    assert_eq!(large, found.into_iter().filter(|c| c.voxels >= 20).collect::<Vec<_>>());
    for (count, wanted) in expected["keep_largest"].as_object().expect("counts") {
        let kept = labels.keep_largest(count.parse().expect("a count")).expect("labels");
        assert_eq!(voxels(&kept), numbers(wanted), "the {count} largest");
    }
}

#[test]
fn argmax_agrees_with_scipy() {
    let vectors = vectors();
    let expected = &vectors["argmax"];
    let like = source(&vectors, expected["like"].as_str().expect("a name"));
    let shape: Vec<usize> = numbers(&expected["shape"]).iter().map(|n| *n as usize).collect();
    let data = numbers(&expected["scores"]).iter().flat_map(|v| v.to_le_bytes()).collect();
    let scores = Tensor::new(shape, ElementType::F32, data, &Budget::unlimited()).expect("as many scores");
    for case in expected["cases"].as_array().expect("cases") {
        let name = case["onto"].as_str().expect("a name");
        let onto = source(&vectors, name);
        let labels = argmax(&scores, &like, &onto).expect("scores on the grid of like");
        assert_eq!(labels.geometry(), onto.geometry());
        assert_eq!(voxels(&labels), numbers(&case["labels"]), "onto {name}");
    }
}

#[test]
fn softmax_agrees_with_scipy() {
    let vectors = vectors();
    let expected = &vectors["softmax"];
    let shape: Vec<usize> = numbers(&expected["shape"]).iter().map(|n| *n as usize).collect();
    let data = numbers(&expected["values"]).iter().flat_map(|v| v.to_le_bytes()).collect();
    let t = Tensor::new(shape, ElementType::F32, data, &Budget::unlimited()).expect("as many values");
    for (axis, wanted) in expected["by_axis"].as_array().expect("axes").iter().enumerate() {
        let got = softmax(&t, axis).expect("an axis");
        assert_close(&format!("axis {axis}"), got.as_f32().expect("aligned"), &numbers(wanted), 1e-6);
    }
}

/// What `tests/reference/windows.py` calls a network.
fn network(seen: &Tensor) -> Tensor {
    let [n, k, d, h, w] = *seen.shape() else { panic!("a shape of five") };
    let (voxels, values) = (d * h * w, seen.as_f32().expect("aligned"));
    let mut made = Vec::new();
    for item in values.chunks_exact(k * voxels) {
        let total = |i: usize| (0..k).map(|c| item[c * voxels + i]).sum::<f32>();
        made.extend((0..voxels).map(|i| total(i) + i as f32 / 8.0));
        made.extend((0..voxels).map(|i| total(i) * (i / w % h) as f32));
    }
    let data = made.iter().flat_map(|v| v.to_le_bytes()).collect();
    Tensor::new(vec![n, 2, d, h, w], ElementType::F32, data, &Budget::unlimited()).expect("as many values")
}

#[test]
fn windows_blend_as_those_of_monai() {
    assert_windows_agree(include_str!("reference/windows.json"), |_| Mirrored::default());
}

#[test]
fn windows_are_looked_at_mirrored_and_turned_as_by_numpy() {
    let flag = |v: &Value| v.as_bool().expect("true or false");
    assert_windows_agree(include_str!("reference/mirrored.json"), |case| Mirrored {
        axes: three(&case["axes"], flag),
        quarter_turns: flag(&case["quarter_turns"]),
    });
}

fn assert_windows_agree(vectors: &str, mirrored: impl Fn(&Value) -> Mirrored) {
    let vectors: Value = serde_json::from_str(vectors).expect("the vectors are JSON");
    let cases = vectors["cases"].as_array().expect("cases");
    assert_eq!(cases.len(), 5);
    for case in cases {
        let geometry = test_grid(indices(&case["size"]));
        let volumes: Vec<Volume> = case["volumes"]
            .as_array()
            .expect("volumes")
            .iter()
            .map(|v| Volume::from_f32(geometry.clone(), numbers(v), &Budget::unlimited()).expect("as many voxels"))
            .collect();
        let windows = Windows {
            size: indices(&case["window"]),
            overlap: number(&case["overlap"]),
            blend: if case["blend"] == "gaussian" { Blend::Gaussian } else { Blend::Constant },
            fill: number(&case["fill"]) as f32,
            mirrored: mirrored(case),
        };
        let mut sliding = Sliding::new(&volumes.iter().collect::<Vec<_>>(), windows).expect("windows");
        let items = number(&case["items"]) as usize;
        for first in (0..sliding.count()).step_by(items) {
            let some = first..(first + items).min(sliding.count());
            for turn in 0..sliding.turns() {
                let seen = sliding.patches(some.clone(), items, turn, false, ElementType::F32).expect("patches");
                sliding.add(some.clone(), items, turn, &network(&seen)).expect("of their shape");
            }
        }
        let got = sliding.finish().expect("all windows");
        // Six decimals were kept, of values up to some hundred.
        assert_close("windows", got.as_f32().expect("aligned"), &numbers(&case["result"]), 2e-3);
    }
}
