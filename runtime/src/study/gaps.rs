//! Whether slices are missing between those that are there.
//!
//! Says less than reading a study does: images that form no volume for other reasons (tilt, uneven spacing, projections)
//! are not incomplete, and what is missing before the first or after the last slice cannot be seen.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::header::Object;
use super::{ReadError, ReadOptions, files, header};

/// Slices are missing where two lie this many times as far apart as slices of the series usually do.
const HOLE: f64 = 1.5;
/// Images closer than this lie at one position, mm.
const SAME_POSITION_MM: f64 = 1e-3;

/// The first place where slices are missing, for people and without patient data; nothing when none is.
///
/// # Errors
/// Files that are damaged or over a limit. Not that they are no images, or form no volume.
pub fn gap(paths: &[PathBuf], options: &ReadOptions) -> Result<Option<String>, ReadError> {
    let candidates = files::list(paths, options)?.candidates;
    let (objects, _) = header::read_all(&candidates, options)?;
    let mut stacks: BTreeMap<(String, [i64; 3]), Vec<f64>> = BTreeMap::new();
    for object in &objects {
        for (stack, height) in places(object) {
            stacks.entry((object.series.clone(), stack)).or_default().push(height);
        }
    }
    Ok(stacks.into_iter().find_map(|((series, _), mut heights)| {
        heights.sort_by(f64::total_cmp);
        hole(&heights).map(|what| format!("series {series}: {what}"))
    }))
}

/// Of each image in an object: direction of the normal, rounded to what tells the planes of a localizer or a reformation
/// apart, and the height along it.
fn places(object: &Object) -> impl Iterator<Item = ([i64; 3], f64)> {
    let slices = object.slices.as_ref().and_then(|slices| slices.as_ref().ok()).filter(|_| !object.localizer);
    slices.into_iter().flatten().filter(|slice| !slice.unplaced).map(|slice| {
        let (normal, height) = slice.along_normal();
        (normal.map(|c| (c * 50.0).round() as i64), height)
    })
}

/// In sorted heights, mm.
fn hole(heights: &[f64]) -> Option<String> {
    let mut levels: Vec<(f64, usize)> = Vec::new();
    for height in heights {
        match levels.last_mut() {
            Some((level, images)) if height - *level < SAME_POSITION_MM => *images += 1,
            _ => levels.push((*height, 1)),
        }
    }
    let mut gaps: Vec<f64> = levels.windows(2).map(|pair| pair[1].0 - pair[0].0).collect();
    gaps.sort_by(f64::total_cmp);
    let usual = *gaps.get(gaps.len().checked_sub(1)? / 2)?;
    if let Some(pair) = levels.windows(2).find(|pair| pair[1].0 - pair[0].0 >= HOLE * usual) {
        let (from, to) = (pair[0].0, pair[1].0);
        return Some(format!(
            "slices are missing between z={from:.2} and z={to:.2} mm along the stack, at a usual spacing of {usual:.3} mm"
        ));
    }
    // Phases and echoes: each position has as many images as the others.
    let images = levels.iter().map(|(_, images)| *images);
    let (few, many) = (images.clone().min()?, images.max()?);
    (few != many).then(|| format!("some positions have {many} images and some {few}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn says(heights: &[f64]) -> String {
        hole(heights).unwrap_or_default()
    }

    #[test]
    fn a_missing_slice_is_seen_between_others_only() {
        assert_eq!(says(&[0.0, 2.0, 4.0, 6.0]), "");
        assert!(says(&[0.0, 2.0, 6.0, 8.0]).contains("between z=2.00 and z=6.00"), "{}", says(&[0.0, 2.0, 6.0, 8.0]));
        assert_eq!(says(&[0.0]), "", "one slice has no gap");
        assert_eq!(says(&[0.0, 2.0]), "", "two slices may lie at any distance");
        assert_eq!(says(&[]), "");
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
