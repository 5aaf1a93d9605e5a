//! From how likely each pixel is text to boxes in pixels of the frame.

use gantry_cloud_sync::deid::Rectangle;

use super::scale::{BORDER, Scale};
use super::view::Picture;

/// Pixels from here on belong to text, of 255. Measured: see docs/deidentification.md.
const PIXEL_MIN: u8 = 51;
/// A region counts where one of its pixels is so likely.
const REGION_MIN: u8 = 77;
/// The model marks the middle of letters. It was trained to leave out this much of the area by the perimeter (DB, unclip ratio), and
/// what it leaves out is put back.
const UNCLIP: f64 = 1.6;
/// Beyond that: of the height of the line at its ends, where letters are missed, and above and below; and pixels of the frame.
const MARGIN_ENDS: f64 = 0.4;
const MARGIN_SIDES: f64 = 0.1;
const MARGIN: f64 = 2.0;
/// Regions that are higher, in pixels of the scaled picture, are no lines of text: letters of that size are found in a smaller one.
const HEIGHT_MAX: usize = 32;
/// Regions of less are specks.
const SIDE_MIN: usize = 2;

/// Connected pixels of a map.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Region {
    left: usize,
    top: usize,
    right: usize,
    bottom: usize,
    /// Pixels of it.
    area: usize,
    most: u8,
}

/// Boxes of text in pixels of the frame, from a map of it in another size.
pub(super) fn boxes(map: &[u8], width: usize, scale: Scale, of: &Picture) -> Vec<Rectangle> {
    let height = |r: &Region| (r.right - r.left).min(r.bottom - r.top);
    let is_line = |r: &Region| r.most >= REGION_MIN && (SIDE_MIN..=HEIGHT_MAX).contains(&height(r));
    regions(map, width).iter().filter(|r| is_line(r)).filter_map(|region| placed(region, scale, of)).collect()
}

/// A region in pixels of the frame, with what the model leaves out and a margin; nothing where it lies beside the frame.
fn placed(region: &Region, scale: Scale, of: &Picture) -> Option<Rectangle> {
    let (width, height) = ((region.right - region.left) as f64, (region.bottom - region.top) as f64);
    let left_out = region.area as f64 * UNCLIP / (2.0 * (width + height));
    let whole = width.min(height) + 2.0 * left_out;
    let [ends, sides] = [MARGIN_ENDS, MARGIN_SIDES].map(|margin| left_out + margin * whole);
    let (across, down) = if width >= height { (ends, sides) } else { (sides, ends) };
    let per = scale.up as f64 / scale.down as f64;
    let place = |at: f64, most: usize| (at / per - BORDER as f64).clamp(0.0, most as f64);
    let from = |at: usize, more: f64, most| (place(at as f64 - more, most) - MARGIN).max(0.0).floor() as u32;
    let to =
        |at: usize, more: f64, most: usize| (place(at as f64 + more, most) + MARGIN).min(most as f64).ceil() as u32;
    let (x, y) = (from(region.left, across, of.width), from(region.top, down, of.height));
    let (right, bottom) = (to(region.right, across, of.width), to(region.bottom, down, of.height));
    (right > x && bottom > y).then(|| Rectangle { x, y, width: right - x, height: bottom - y })
}

/// Pixels of at least [`PIXEL_MIN`] that touch one another, also at corners.
fn regions(map: &[u8], width: usize) -> Vec<Region> {
    let (mut found, mut waiting) = (Vec::new(), Vec::new());
    let mut seen = vec![false; map.len()];
    let height = map.len().checked_div(width).unwrap_or(0);
    for start in 0..map.len() {
        if map[start] < PIXEL_MIN || seen[start] {
            continue;
        }
        let (x, y) = (start % width, start / width);
        let mut region = Region { left: x, top: y, right: x + 1, bottom: y + 1, area: 0, most: 0 };
        seen[start] = true;
        waiting.push(start);
        while let Some(at) = waiting.pop() {
            let (x, y) = (at % width, at / width);
            region.area += 1;
            region.left = region.left.min(x);
            region.right = region.right.max(x + 1);
            region.bottom = region.bottom.max(y + 1);
            region.most = region.most.max(map[at]);
            for row in y.saturating_sub(1)..(y + 2).min(height) {
                for column in x.saturating_sub(1)..(x + 2).min(width) {
                    let beside = row * width + column;
                    if map[beside] >= PIXEL_MIN && !seen[beside] {
                        seen[beside] = true;
                        waiting.push(beside);
                    }
                }
            }
        }
        found.push(region);
    }
    found
}

/// Boxes of which none lies in another.
pub(super) fn without_inner(mut boxes: Vec<Rectangle>) -> Vec<Rectangle> {
    let area = |b: &Rectangle| u64::from(b.width) * u64::from(b.height);
    boxes.sort_by_key(|b| std::cmp::Reverse(area(b)));
    let mut kept: Vec<Rectangle> = Vec::new();
    for inner in boxes {
        let holds = |outer: &Rectangle| {
            outer.x <= inner.x
                && outer.y <= inner.y
                && outer.x + outer.width >= inner.x + inner.width
                && outer.y + outer.height >= inner.y + inner.height
        };
        if !kept.iter().any(holds) {
            kept.push(inner);
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAME: Scale = Scale { up: 1, down: 1 };

    fn picture(width: usize, height: usize) -> Picture {
        Picture { width, height, rgb: Vec::new() }
    }

    /// A map of 96 × 64 with these rectangles of likely pixels.
    fn map(marked: &[(std::ops::Range<usize>, std::ops::Range<usize>, u8)]) -> Vec<u8> {
        let mut map = vec![0; 96 * 64];
        for (columns, rows, likely) in marked {
            rows.clone().for_each(|y| map[y * 96 + columns.start..y * 96 + columns.end].fill(*likely));
        }
        map
    }

    #[test]
    fn what_touches_is_one_region() {
        let found =
            regions(&map(&[(2..5, 1..3, 200), (5..9, 3..4, 60), (20..22, 1..2, 50), (95..96, 63..64, 255)]), 96);
        let region = |left, top, right, bottom, area, most| Region { left, top, right, bottom, area, most };
        assert_eq!(found, [region(2, 1, 9, 4, 10, 200), region(95, 63, 96, 64, 1, 255)]);
    }

    #[test]
    fn boxes_hold_what_the_model_leaves_out_and_stay_in_the_frame() {
        // 30 × 10 pixels: by a ratio of 1.6, 6 are left out at each side, so the line is 22 high; 8.8 more are the margin at its ends,
        // 2.2 above and below.
        let one = map(&[(36..66, 26..36, 255)]);
        assert_eq!(boxes(&one, 96, SAME, &picture(64, 32)), [Rectangle { x: 3, y: 0, width: 61, height: 31 }]);
        let half = boxes(&one, 96, Scale { up: 2, down: 1 }, &picture(32, 16));
        assert_eq!(half, [Rectangle { x: 0, y: 0, width: 27, height: 9 }]);
        let none = |rows: std::ops::Range<usize>, likely| {
            boxes(&map(&[(36..66, rows, likely)]), 96, SAME, &picture(64, 32)).is_empty()
        };
        assert!(none(26..36, 60), "not likely enough");
        assert!(none(26..27, 255), "a speck");
        let block = map(&[(20..66, 10..43, 255)]);
        assert!(boxes(&block, 96, SAME, &picture(64, 32)).is_empty(), "no line");
    }

    #[test]
    fn a_box_within_another_adds_nothing() {
        let at = |x, y, width, height| Rectangle { x, y, width, height };
        let kept = without_inner(vec![at(1, 1, 2, 2), at(0, 0, 5, 5), at(0, 0, 5, 5), at(4, 4, 3, 3)]);
        assert_eq!(kept, [at(0, 0, 5, 5), at(4, 4, 3, 3)]);
    }
}
