//! Whether slices are missing between those that are there.
//!
//! Says less than reading a study does: images that form no volume for other reasons (tilt, uneven spacing, projections)
//! are not incomplete, and what is missing before the first or after the last slice cannot be seen.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::header::Object;
use super::{ReadError, ReadOptions, files, header};

/// Slices are missing where two lie this many times as far apart as those beside them do, and one that is this many times as
/// thick as another is of another stack.
const HOLE: f64 = 1.5;
/// What is usual at a place, as many gaps before and after it say: a stack of other spacing may follow.
const BESIDE: usize = 3;
/// Images closer than this lie at one position, mm.
const SAME_POSITION_MM: f64 = 1e-3;

/// The first place where slices are missing, for people and without patient data; nothing when none is.
///
/// # Errors
/// Files that are damaged or over a limit. Not that they are no images, or form no volume.
pub fn gap(paths: &[PathBuf], options: &ReadOptions) -> Result<Option<String>, ReadError> {
    let candidates = files::list(paths, options)?.candidates;
    let (objects, _) = header::read_all(&candidates, options)?;
    let mut stacks: BTreeMap<(String, [i64; 3]), Vec<Place>> = BTreeMap::new();
    for object in &objects {
        for (stack, place) in places(object) {
            stacks.entry((object.series.clone(), stack)).or_default().push(place);
        }
    }
    Ok(stacks.into_iter().find_map(|((series, _), mut places)| {
        places.sort_by(|(a, _), (b, _)| a.total_cmp(b));
        hole(&places).map(|what| format!("series {series}: {what}"))
    }))
}

/// How high an image lies along its stack, and how thick it says that it is, mm.
type Place = (f64, Option<f64>);

/// Of each image in an object: direction of the normal, rounded to what tells the planes of a localizer or a reformation
/// apart, and its place along it.
fn places(object: &Object) -> impl Iterator<Item = ([i64; 3], Place)> {
    let slices = object.slices.as_ref().and_then(|slices| slices.as_ref().ok()).filter(|_| !object.localizer);
    slices.into_iter().flatten().filter(|slice| !slice.unplaced).map(|slice| {
        let (normal, height) = slice.along_normal();
        (normal.map(|c| (c * 50.0).round() as i64), (height, slice.thickness))
    })
}

/// In places that are sorted by height.
fn hole(places: &[Place]) -> Option<String> {
    let mut levels: Vec<(Place, usize)> = Vec::new();
    for place in places {
        match levels.last_mut() {
            Some((level, images)) if place.0 - level.0 < SAME_POSITION_MM => *images += 1,
            _ => levels.push((*place, 1)),
        }
    }
    let gaps: Vec<Gap> = levels.windows(2).map(|pair| Gap::between(pair[0].0, pair[1].0)).collect();
    for (i, gap) in gaps.iter().enumerate().filter(|_| gaps.len() > 1) {
        // Where a stack ends and a thicker one begins, slices lie as far apart as those of the thicker one at most.
        let beside = [usual(gaps[..i].iter().rev()), usual(gaps[i + 1..].iter())];
        let known = beside.into_iter().flatten().chain(gap.thicker).reduce(f64::max);
        // Of a stack that has no more than these two slices.
        let Some(usual) = known.or(gap.thick) else { continue };
        if gap.mm >= HOLE * usual {
            let (from, to) = (levels[i].0.0, levels[i + 1].0.0);
            return Some(format!(
                "slices are missing between z={from:.2} and z={to:.2} mm along the stack, at a usual spacing of {usual:.3} mm"
            ));
        }
    }
    // Phases and echoes: each position has as many images as the others.
    let images = levels.iter().map(|(_, images)| *images);
    let (few, many) = (images.clone().min()?, images.max()?);
    (few != many).then(|| format!("some positions have {many} images and some {few}"))
}

/// From one slice to the next.
struct Gap {
    mm: f64,
    /// How thick they are, where both say so: the thicker one.
    thick: Option<f64>,
    /// Where one says that it is thicker than the other: how thick.
    thicker: Option<f64>,
}

impl Gap {
    fn between((from, one): Place, (to, other): Place) -> Self {
        let both = one.zip(other).map(|(a, b)| (a.min(b), a.max(b)));
        let thick = both.map(|(_, thick)| thick);
        Self { mm: to - from, thick, thicker: both.filter(|(thin, thick)| *thick >= HOLE * thin).and(thick) }
    }
}

/// The median of the nearest gaps, up to where thickness changes.
fn usual<'g>(nearest: impl Iterator<Item = &'g Gap>) -> Option<f64> {
    let within = nearest.take(BESIDE).take_while(|gap| gap.thicker.is_none());
    let mut mm: Vec<f64> = within.map(|gap| gap.mm).collect();
    mm.sort_by(f64::total_cmp);
    mm.get(mm.len().checked_sub(1)? / 2).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn says(heights: &[f64]) -> String {
        hole(&heights.iter().map(|height| (*height, None)).collect::<Vec<_>>()).unwrap_or_default()
    }

    /// Stacks of so many slices of a thickness, in mm, that follow one another without a gap, but for one slice.
    fn stacks(stacks: &[(usize, f64)], without: Option<usize>) -> String {
        let mut end = 0.0;
        let slices = stacks.iter().flat_map(|(slices, mm)| std::iter::repeat_n(*mm, *slices));
        let all = slices.map(|mm| {
            end += mm;
            (end - mm / 2.0, Some(mm))
        });
        let there: Vec<Place> = all.enumerate().filter(|(i, _)| Some(*i) != without).map(|(_, place)| place).collect();
        hole(&there).unwrap_or_default()
    }

    #[test]
    fn a_missing_slice_is_seen_between_others_only() {
        assert_eq!(says(&[0.0, 2.0, 4.0, 6.0]), "");
        assert!(says(&[0.0, 2.0, 6.0, 8.0]).contains("between z=2.00 and z=6.00"), "{}", says(&[0.0, 2.0, 6.0, 8.0]));
        assert!(says(&[0.0, 2.0, 6.0]).contains("between z=2.00 and z=6.00"), "at the end");
        assert!(says(&[0.0, 2.0, 4.0, 8.0, 12.0, 14.0, 16.0]).contains("between z=4.00"), "each other one of two");
        assert_eq!(says(&[0.0]), "", "one slice has no gap");
        assert_eq!(says(&[0.0, 2.0]), "", "two slices may lie at any distance");
        assert_eq!(says(&[]), "");
    }

    #[test]
    fn thick_slices_after_thin_ones_are_whole() {
        let heads: [&[(usize, f64)]; 5] = [
            &[(8, 1.25), (6, 5.0)],
            &[(6, 5.0), (8, 1.25)],
            &[(3, 1.0), (2, 5.0)],
            &[(4, 1.0), (1, 10.0), (4, 1.0)],
            &[(5, 1.0), (2, 2.0), (2, 5.0), (9, 1.0)],
        ];
        for head in heads {
            assert_eq!(stacks(head, None), "", "{head:?}");
        }
        assert_eq!(says(&[0.0, 2.0, 4.0, 6.0, 11.0, 16.0, 21.0, 26.0]), "", "spacing alone tells them apart, too");
    }

    #[test]
    fn what_is_missing_within_either_stack_or_between_them_is_seen() {
        let head = [(8, 2.5), (6, 5.0)];
        for without in [1, 4, 6] {
            let from = 2.5 * without as f64 - 1.25;
            assert!(stacks(&head, Some(without)).contains(&format!("between z={from:.2}")), "{without}");
        }
        assert!(stacks(&head, Some(8)).contains("between z=18.75 and z=27.50"), "{}", stacks(&head, Some(8)));
        assert!(stacks(&head, Some(11)).contains("between z=32.50 and z=42.50"), "{}", stacks(&head, Some(11)));
        // Only two are left of the thick ones, and nothing of their own says how far apart they lie.
        for head in [[(3, 1.0), (3, 5.0)], [(8, 1.0), (3, 5.0)]] {
            let without = head[0].0 + 1;
            let from = f64::from(u8::try_from(head[0].0).expect("few")) + 2.5;
            let said = stacks(&head, Some(without));
            assert!(said.contains(&format!("between z={from:.2} and z={:.2}", from + 10.0)), "{said}");
        }
    }

    #[test]
    fn slices_that_lie_unevenly_are_not_missing() {
        assert_eq!(says(&[0.0, 2.0, 4.1, 6.0, 8.6]), "");
    }

    #[test]
    fn each_position_has_as_many_images_as_the_others() {
        assert_eq!(says(&[0.0, 0.0, 2.0, 2.0]), "");
        assert_eq!(says(&[0.0, 0.0, 2.0]), "some positions have 2 images and some 1");
    }
}
