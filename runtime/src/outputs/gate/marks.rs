//! Heatmaps and boxes, judged.

use rayon::prelude::*;

use super::{At, Refusal, at, check, code, on_grid_of, plain, probability};
use crate::findings::{Findings, Heatmap, Mark};
use crate::geometry::Geometry;
use crate::outputs::AcceptedHeatmap;

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
pub(super) fn boxes(marks: &[Mark], first: At, volumes: &[(At, &Geometry)]) -> Result<(), Refusal> {
    let size = volumes.iter().find(|(place, _)| *place == first).map_or([0; 3], |(_, grid)| grid.size());
    for (i, mark) in marks.iter().enumerate() {
        let problem =
            || format!("its box {:?} is empty or leaves the first source volume of {size:?} voxels", mark.region);
        check(mark.region.fits(size), problem).map_err(at(format!("mark {i}")))?;
    }
    Ok(())
}

/// The least and the most of a slice.
type Range = (f32, f32);

/// Looks at every voxel.
pub(super) fn heatmap(heatmap: Heatmap, volumes: &[(At, &Geometry)]) -> Result<AcceptedHeatmap, Refusal> {
    let grid = heatmap.values.geometry();
    let elsewhere = || Refusal::HeatmapGrid { size: grid.size(), spacing: grid.spacing(), origin: grid.origin() };
    let source = on_grid_of(&heatmap.values, volumes).ok_or_else(elsewhere)?;
    let [columns, rows, slices] = grid.size();
    // Which slice fails must not depend on which thread is first.
    let ranges: Vec<Result<Range, Refusal>> = (0..slices)
        .into_par_iter()
        .map_init(
            || vec![0f32; columns * rows],
            |values, slice| {
                let heat = |problem| Refusal::Heat { slice, problem };
                heatmap.values.slice(slice, values).map_err(|e| heat(e.to_string()))?;
                range(values).ok_or_else(|| heat("a voxel is NaN or infinite; state finite values".into()))
            },
        )
        .collect();
    let ranges = ranges.into_iter().collect::<Result<Vec<Range>, _>>()?;
    let minimum = ranges.iter().map(|(low, _)| *low).fold(f32::INFINITY, f32::min);
    let maximum = ranges.iter().map(|(_, high)| *high).fold(f32::NEG_INFINITY, f32::max);
    let hottest = ranges.iter().position(|(_, high)| *high >= maximum).unwrap_or(0);
    let Heatmap { values, title } = heatmap;
    Ok(AcceptedHeatmap { values, title, source, minimum, maximum, hottest })
}

/// `None` when a value is not finite.
fn range(values: &[f32]) -> Option<Range> {
    values.iter().try_fold((f32::INFINITY, f32::NEG_INFINITY), |(low, high), &value| {
        value.is_finite().then(|| (low.min(value), high.max(value)))
    })
}

#[cfg(test)]
mod tests {
    use super::super::gate;
    use super::*;
    use crate::findings::{Code, Unfit};
    use crate::geometry::Region;
    use crate::memory::Budget;
    use crate::outputs::tests::study;
    use crate::volumes::Volume;

    fn grid() -> Geometry {
        let axes = [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]];
        Geometry::new([3, 2, 2], [1.0, 1.0, 2.0], [10.0, 20.0, 30.0], axes).expect("a grid")
    }

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
        let mut findings = good();
        change(&mut findings);
        let text = gate(findings, &study(&grid()), &[0]).expect_err("refused").to_string();
        assert!(text.contains(expected), "{text}");
    }

    #[test]
    fn what_fits_passes_with_its_range() {
        let accepted = gate(good(), &study(&grid()), &[0]).expect("accepted");
        let heatmap = accepted.heatmap.expect("one");
        assert_eq!((heatmap.minimum, heatmap.maximum, heatmap.hottest, heatmap.source), (-1.5, 2.5, 1, (0, 0)));
        assert_eq!((accepted.marks.len(), accepted.marks_source), (1, (0, 0)));
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
