//! Probabilities of segments, judged.

use std::collections::BTreeSet;

use rayon::prelude::*;

use super::{GRID_TOLERANCE_MM, Refusal, at, check};
use crate::findings::{Findings, Probabilities};
use crate::geometry::Geometry;
use crate::outputs::AcceptedProbabilities;
use crate::outputs::seg::step;

/// Everything but voxels.
pub(super) fn statements(findings: &Findings) -> Result<(), Refusal> {
    let segments = findings.segmentation.as_ref().map_or(&[][..], |s| &s.segments);
    let mut seen = BTreeSet::new();
    for Probabilities { segment, .. } in &findings.probabilities {
        let declared = segments.iter().any(|s| s.value == *segment);
        let checks = check(declared, || "that segment was not declared; state the segmentation with it".into());
        let once = || "they were stated before; state those of a segment once".into();
        checks.and_then(|()| check(seen.insert(segment), once)).map_err(at(name(*segment)))?;
    }
    Ok(())
}

fn name(segment: u32) -> String {
    format!("the probabilities of segment {segment}")
}

/// Every voxel is looked at. `grid` is that of the volume that the labels lie on.
pub(super) fn voxels(stated: Probabilities, grid: &Geometry) -> Result<AcceptedProbabilities, Refusal> {
    let Probabilities { segment, values } = stated;
    let same = values.geometry().same_grid(grid, GRID_TOLERANCE_MM);
    let elsewhere = || "they are not on the grid of the labels; bring them there with resample-like(source)".into();
    check(same, elsewhere).map_err(at(name(segment)))?;
    let [columns, rows, slices] = grid.size();
    // Which slice fails must not depend on which thread is first.
    let slices: Vec<Result<f32, Refusal>> = (0..slices)
        .into_par_iter()
        .map_init(
            || vec![0f32; columns * rows],
            |voxels, slice| {
                let refused = |problem: String| at(name(segment))(format!("slice {slice}: {problem}"));
                values.slice(slice, voxels).map_err(|e| refused(e.to_string()))?;
                let wrong = voxels.iter().find(|p| !(0.0..=1.0).contains(*p));
                match wrong {
                    Some(p) => Err(refused(format!("a voxel is {p}, which is not in 0..=1; state probabilities"))),
                    None => Ok(voxels.iter().copied().fold(0.0, f32::max)),
                }
            },
        )
        .collect();
    let most = slices.into_iter().collect::<Result<Vec<f32>, _>>()?;
    let slices = (0..).zip(&most).filter(|(_, most)| step(**most) > 0).map(|(z, _)| z).collect();
    let maximum = most.into_iter().fold(0.0, f32::max);
    Ok(AcceptedProbabilities { segment, values, maximum, slices })
}

#[cfg(test)]
mod tests {
    use super::super::gate;
    use super::super::tests::{grid, says_of};
    use super::*;
    use crate::findings::Segmentation;
    use crate::memory::Budget;
    use crate::outputs::tests::{labels, segment, study};
    use crate::volumes::Volume;

    fn of(segment: u32, grid: &Geometry, voxels: Vec<f32>) -> Probabilities {
        let values = Volume::from_f32(grid.clone(), voxels, &Budget::unlimited()).expect("as many as the grid has");
        Probabilities { segment, values }
    }

    /// Probable in the second slice alone.
    fn good() -> Findings {
        let voxels = (0..12u8).map(|i| if i < 6 { 0.0019 } else { f32::from(i) / 11.0 }).collect();
        let labels = labels(&grid(), vec![0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1]);
        Findings {
            segmentation: Some(Segmentation { labels, segments: vec![segment(2, "lung"), segment(1, "liver")] }),
            probabilities: vec![of(1, &grid(), voxels), of(2, &grid(), vec![0.0; 12])],
            ..Findings::default()
        }
    }

    #[track_caller]
    fn says(expected: &str, change: impl FnOnce(&mut Findings)) {
        says_of(good(), expected, change);
    }

    #[test]
    fn what_fits_passes_and_what_is_nowhere_probable_has_no_number() {
        let accepted = gate(good(), &study(&grid()), &[0], &[]).expect("accepted");
        let [liver, lung] = &accepted.probabilities[..] else { panic!("{accepted:?}") };
        assert_eq!((liver.maximum, liver.slices.iter().collect::<Vec<_>>()), (1.0, vec![&1]));
        assert_eq!((lung.maximum, lung.slices.len()), (0.0, 0));
        let numbered: Vec<_> = accepted.fractional().map(|(number, s, _)| (number, s.value)).collect();
        assert_eq!(numbered, [(1, 1)]);
    }

    #[test]
    fn what_is_no_probability_is_refused() {
        for wrong in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, -0.001, 1.001] {
            let mut voxels = vec![0.5; 12];
            voxels[7] = wrong;
            let text = format!("the probabilities of segment 1: slice 1: a voxel is {wrong}, which is not in 0..=1");
            says(&text, |f| f.probabilities[0] = of(1, &grid(), voxels));
        }
    }

    #[test]
    fn those_of_no_segment_of_one_twice_or_elsewhere_are_refused() {
        says("was not declared", |f| f.probabilities[0].segment = 3);
        says("was not declared", |f| f.segmentation = None);
        says("the probabilities of segment 1: they were stated before", |f| f.probabilities[1].segment = 1);
        let moved = Geometry::new([3, 2, 2], [1.0, 1.0, 2.0], [10.01, 20.0, 30.0], grid().axes()).expect("a grid");
        says("not on the grid of the labels", |f| f.probabilities[0] = of(1, &moved, vec![0.5; 12]));
        let fewer = Geometry::new([3, 2, 1], [1.0, 1.0, 2.0], [10.0, 20.0, 30.0], grid().axes()).expect("a grid");
        says("not on the grid of the labels", |f| f.probabilities[0] = of(1, &fewer, vec![0.5; 6]));
    }
}
