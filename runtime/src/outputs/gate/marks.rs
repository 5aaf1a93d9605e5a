//! Heatmaps and boxes, judged.

use rayon::prelude::*;

use super::{Refusal, at, check, code, on_grid_of, plain, probability};
use crate::findings::{Findings, Heatmap, Mark};
use crate::geometry::Geometry;
use crate::outputs::AcceptedHeatmap;
use crate::volumes::StudyVolume;

/// What is wrong with them in themselves.
pub(super) fn statements(findings: &Findings) -> Result<(), Refusal> {
    if let Some(heatmap) = &findings.heatmap {
        let titled = plain(&heatmap.title, 64) && !heatmap.title.trim().is_empty();
        let title = || "its title is not 1 to 64 characters without backslash and control characters".into();
        check(titled, title).map_err(at("the heatmap".into()))?;
    }
    for (i, mark) in findings.marks.iter().enumerate() {
        let checks = code(&mark.label).and_then(|()| probability("probability", mark.probability));
        checks.map_err(at(format!("mark {i}")))?;
    }
    Ok(())
}

/// Whether every box lies in the volume at `first`.
pub(super) fn boxes(marks: &[Mark], first: StudyVolume, volumes: &[(StudyVolume, &Geometry)]) -> Result<(), Refusal> {
    let size = volumes.iter().find(|(place, _)| *place == first).map_or([0; 3], |(_, grid)| grid.size());
    for (i, mark) in marks.iter().enumerate() {
        let problem =
            || format!("its box {:?} is empty or leaves the first source volume of {size:?} voxels", mark.region);
        check(mark.region.fits(size), problem).map_err(at(format!("mark {i}")))?;
    }
    Ok(())
}

/// Of a slice.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Extent {
    least: f32,
    most: f32,
    sum: f64,
}

/// From this part of the range on a slice counts as hot: of those, the one with most heat shows most. Where scores reach
/// their bound in many slices, the one that does so first may hold little.
const HOT: f64 = 0.95;

/// Looks at every voxel.
pub(super) fn heatmap(heatmap: Heatmap, volumes: &[(StudyVolume, &Geometry)]) -> Result<AcceptedHeatmap, Refusal> {
    let grid = heatmap.values.geometry();
    let elsewhere = || Refusal::HeatmapGrid { size: grid.size(), spacing: grid.spacing(), origin: grid.origin() };
    let source = on_grid_of(&heatmap.values, volumes).ok_or_else(elsewhere)?;
    let [columns, rows, slices] = grid.size();
    // Which slice fails must not depend on which thread is first.
    let slices: Vec<Result<Extent, Refusal>> = (0..slices)
        .into_par_iter()
        .map_init(
            || vec![0f32; columns * rows],
            |values, slice| {
                let heat = |problem| Refusal::Heat { slice, problem };
                heatmap.values.slice(slice, values).map_err(|e| heat(e.to_string()))?;
                extent(values).ok_or_else(|| heat("a voxel is NaN or infinite; state finite values".into()))
            },
        )
        .collect();
    let slices = slices.into_iter().collect::<Result<Vec<Extent>, _>>()?;
    let minimum = slices.iter().map(|slice| slice.least).fold(f32::INFINITY, f32::min);
    let maximum = slices.iter().map(|slice| slice.most).fold(f32::NEG_INFINITY, f32::max);
    let hot = f64::from(minimum) + HOT * (f64::from(maximum) - f64::from(minimum));
    let hot = slices.iter().enumerate().filter(|(_, slice)| f64::from(slice.most) >= hot);
    // Of several the first: `max_by` would take the last.
    let hottest = hot.rev().max_by(|(_, a), (_, b)| a.sum.total_cmp(&b.sum)).map_or(0, |(z, _)| z);
    let Heatmap { values, title } = heatmap;
    Ok(AcceptedHeatmap { values, title, source, minimum, maximum, hottest })
}

/// `None` when a value is not finite.
fn extent(values: &[f32]) -> Option<Extent> {
    let none = Extent { least: f32::INFINITY, most: f32::NEG_INFINITY, sum: 0.0 };
    values.iter().try_fold(none, |Extent { least, most, sum }, &value| {
        let with = Extent { least: least.min(value), most: most.max(value), sum: sum + f64::from(value) };
        value.is_finite().then_some(with)
    })
}

#[cfg(test)]
mod tests {
    use super::super::gate;
    use super::super::tests::{grid, says_of};
    use super::*;
    use crate::findings::{Code, Unfit};
    use crate::geometry::Region;
    use crate::memory::Budget;
    use crate::outputs::tests::study;
    use crate::volumes::Volume;

    fn heat(grid: &Geometry, voxels: Vec<f32>) -> Heatmap {
        let values = Volume::from_f32(grid.clone(), voxels, &Budget::unlimited()).expect("as many as the grid has");
        Heatmap { values, title: "Heat".into() }
    }

    fn mark() -> Mark {
        let label = Code::new("27925004", "SCT", "Nodule");
        Mark { region: Region { start: [1, 0, 0], size: [2, 2, 2] }, label, probability: 0.5 }
    }

    fn good() -> Findings {
        let voxels = vec![0.0, -1.5, 0.0, 0.0, 0.0, 0.0, 0.0, 2.5, 0.0, 0.0, 0.0, 0.0];
        Findings { heatmap: Some(heat(&grid(), voxels)), marks: vec![mark()], ..Findings::default() }
    }

    #[track_caller]
    fn says(expected: &str, change: impl FnOnce(&mut Findings)) {
        says_of(good(), expected, change);
    }

    #[test]
    fn what_fits_passes_with_its_range() {
        let accepted = gate(good(), &study(&grid()), &[0], &[]).expect("accepted");
        let heatmap = accepted.heatmap.expect("one");
        assert_eq!((heatmap.minimum, heatmap.maximum, heatmap.hottest, heatmap.source), (-1.5, 2.5, 1, (0, 0)));
        assert_eq!((accepted.marks.len(), accepted.marks_source), (1, (0, 0)));
    }

    #[test]
    fn of_hot_slices_the_one_with_most_heat_is_the_hottest() {
        let axes = grid().axes();
        let grid = Geometry::new([2, 1, 4], [1.0; 3], [0.0; 3], axes).expect("a grid");
        let hottest = |voxels: [f32; 8]| {
            let findings = Findings { heatmap: Some(heat(&grid, voxels.to_vec())), ..Findings::default() };
            gate(findings, &study(&grid), &[0], &[]).expect("accepted").heatmap.expect("one").hottest
        };
        assert_eq!(hottest([0.0, 1.0, 0.99, 0.9, 0.9, 0.9, 0.0, 0.0]), 1, "warm slices do not count");
        assert_eq!(hottest([-2.0, -9.0, -2.0, -9.0, -9.0, -9.0, -9.0, -9.0]), 0, "of two the first");
        assert_eq!(hottest([0.0; 8]), 0);
    }

    #[test]
    fn values_that_are_no_numbers_are_refused() {
        for wrong in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let mut voxels = vec![0.0; 12];
            voxels[7] = wrong;
            says("the heatmap, slice 1: a voxel is NaN or infinite", |f| f.heatmap = Some(heat(&grid(), voxels)));
        }
    }

    #[test]
    fn a_heatmap_elsewhere_or_without_a_title_is_refused() {
        let moved = Geometry::new([3, 2, 2], [1.0, 1.0, 2.0], [10.01, 20.0, 30.0], grid().axes()).expect("a grid");
        says("which is the grid of no volume", |f| f.heatmap = Some(heat(&moved, vec![0.0; 12])));
        for title in [String::new(), "  ".into(), "x".repeat(65), "a\\b".into(), "a\nb".into()] {
            says("its title is not 1 to 64 characters", |f| f.heatmap.as_mut().expect("one").title = title);
        }
    }

    #[test]
    fn a_box_that_leaves_the_volume_is_refused() {
        for (start, size) in [([2, 0, 0], [2, 1, 1]), ([0; 3], [0, 1, 1]), ([0, 0, usize::MAX], [1, 1, 2])] {
            says("mark 0: its box", |f| f.marks[0].region = Region { start, size });
        }
        says("mark 1: its probability", |f| f.marks.push(Mark { probability: f32::NAN, ..mark() }));
        says("mark 1: its code value", |f| f.marks.push(Mark { label: Code::new("", "SCT", "x"), ..mark() }));
    }

    #[test]
    fn an_unfit_input_has_neither() {
        let unfit = Unfit { reason: Code::new("x", "99EXAMPLE", "No"), detail: String::new() };
        says("unfit: 2 other findings", |f| f.unfit = Some(unfit));
    }
}
